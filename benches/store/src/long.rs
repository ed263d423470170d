//! Long sessions over HTTP, on one connection: saves of clients that send no ids, parts that are read from the end, and sessions
//! that are started with what is said in them.

use crate::process::Server;
use crate::{Failure, Times, print};
use serde_json::{Value, json};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Instant;
use verbatim_corpus::Corpus;

const CORPUS: Corpus = Corpus { seed: 17 };

/// How many answers each figure is the median of, and how many of those that take longer.
const ASKED: usize = 60;
const ASKED_SLOWLY: usize = 15;

/// How many messages the longest session has.
const LONG: u64 = 10_000;

/// How many messages a page shows at first.
const PART: usize = 60;

fn message(number: u64, content: String) -> Value {
    json!({"role": if number.is_multiple_of(2) { "user" } else { "assistant" }, "content": content})
}

async fn median<F: Future<Output = Result<(), Failure>>>(
    count: usize,
    mut ask: impl FnMut(usize) -> F,
) -> Result<f64, Failure> {
    let mut times = Times::default();
    for number in 0..count {
        let begin = Instant::now();
        ask(number).await?;
        times.push(begin.elapsed());
    }
    Ok(times.median())
}

/// Begins a session of so many messages with ids.
async fn session(server: &Server, messages: u64) -> Result<String, Failure> {
    let started = server.post("/api/sessions/start", json!({})).await?;
    let id = started["session_id"].as_str().ok_or("no id")?.to_owned();
    let all: Vec<u64> = (0..messages).collect();
    for some in all.chunks(500) {
        let with_id = |number: &u64| {
            let mut message = message(*number, CORPUS.message(*number));
            message["id"] = json!(format!("m{number}"));
            message
        };
        let some: Vec<Value> = some.iter().map(with_id).collect();
        server.post("/api/sessions/save", json!({"session_id": id, "messages": some})).await?;
    }
    Ok(id)
}

fn file_of(data: &Path, id: &str) -> Result<PathBuf, Failure> {
    for day in std::fs::read_dir(data.join("sessions"))? {
        let path = day?.path().join(format!("{id}.json"));
        if path.is_file() {
            return Ok(path);
        }
    }
    Err("the session has no file".into())
}

/// Measures a server over sessions that it makes.
pub fn measure(program: &Path) -> Result<(), Failure> {
    let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure_server(program, &folder.path().join("memory")))
}

async fn measure_server(program: &Path, data: &Path) -> Result<(), Failure> {
    let options = ["--assistant", "scripted"];
    let server = Server::start_with(program, data, &options)?;
    saves(&server).await?;
    starts(&server, data).await?;
    let (short, long) = (session(&server, PART as u64).await?, session(&server, LONG).await?);
    let file = file_of(data, &long)?;
    parts(&server, &long, "from memory", &file).await?;
    server.stop()?;

    let server = Server::start_with(program, data, &options)?;
    let begin = Instant::now();
    server.post("/api/sessions/load", json!({"session_id": long, "last": PART})).await?;
    let first = begin.elapsed().as_secs_f64() * 1e3;
    parts(&server, &long, "from the disk", &file).await?;
    print("   the first after a start", first, None, "ms");
    let page = |id: &str| {
        let request = server.client.get(format!("{}/chat/{id}", server.url));
        async move {
            request.send().await?.error_for_status()?.bytes().await?;
            Ok(())
        }
    };
    let ours = median(ASKED_SLOWLY, |_| page(&long)).await?;
    let bare = median(ASKED_SLOWLY, |_| page(&short)).await?;
    print("page of a session of 10000 (bare: of 60)", ours, Some(bare), "ms");
    server.stop()
}

/// Saves of one new message and of a whole session, without ids.
async fn saves(server: &Server) -> Result<(), Failure> {
    for messages in [20, 2_000, LONG] {
        let id = &session(server, messages).await?;
        let save = |message: Value| async move {
            server.post("/api/sessions/save", json!({"session_id": id, "messages": [message]})).await.map(|_| ())
        };
        let bare =
            median(ASKED, |n| save(json!({"id": format!("n{n}"), "role": "user", "content": format!("new {n}")})));
        let bare = bare.await?;
        let ours = median(ASKED, |n| save(message(0, format!("new and without id {n}")))).await?;
        print(&format!("save 1 without id, session of {messages} (bare: with id)"), ours, Some(bare), "ms");
    }
    let all: Vec<Value> = (0..LONG).map(|number| message(number, format!("what is said in turn {number}"))).collect();
    let started = server.post("/api/sessions/start", json!({})).await?;
    let body = json!({"session_id": started["session_id"], "messages": all}).to_string();
    let nowhere = json!({"session_id": "0".repeat(32), "messages": all}).to_string();
    let save = |body: &str| {
        let request = server.client.post(format!("{}/api/sessions/save", server.url));
        let request = request.header("content-type", "application/json").body(body.to_owned());
        async move {
            request.send().await?.bytes().await?;
            Ok(())
        }
    };
    save(&body).await?;
    let ours = median(ASKED_SLOWLY, |_| save(&body)).await?;
    let bare = median(ASKED_SLOWLY, |_| save(&nowhere)).await?;
    print("save all 10000 again without ids (bare: parsed, no session)", ours, Some(bare), "ms");
    Ok(())
}

/// Sessions that are started with 20 messages, beside a file of as many bytes that is written, synced, named, and its folder synced.
async fn starts(server: &Server, data: &Path) -> Result<(), Failure> {
    let messages: Vec<Value> = (0..20).map(|number| message(number, CORPUS.message(number))).collect();
    let messages = &json!(messages);
    let two = median(ASKED, |_| async {
        let started = server.post("/api/sessions/start", json!({})).await?;
        let body = json!({"session_id": started["session_id"], "messages": messages});
        server.post("/api/sessions/save", body).await.map(|_| ())
    });
    let two = two.await?;
    let one = median(ASKED, |_| async {
        server.post("/api/sessions/start", json!({"messages": messages})).await.map(|_| ())
    });
    let one = one.await?;
    let bytes = vec![b'x'; messages.to_string().len()];
    let mut bare = Times::default();
    for number in 0..ASKED {
        let (path, named) = (data.join("bare.new"), data.join(format!("bare{number}")));
        let begin = Instant::now();
        std::fs::write(&path, &bytes)?;
        std::fs::File::open(&path)?.sync_all()?;
        std::fs::rename(&path, &named)?;
        std::fs::File::open(data)?.sync_all()?;
        bare.push(begin.elapsed());
        std::fs::remove_file(named)?;
    }
    print("start with 20 messages (bare: a file written and synced)", one, Some(bare.median()), "ms");
    print("   start, then save of 20 messages", two, None, "ms");
    Ok(())
}

/// Parts of a long session, beside reading and parsing its file.
async fn parts(server: &Server, id: &str, what: &str, file: &Path) -> Result<(), Failure> {
    let load = |body: Value| async move { server.post("/api/sessions/load", body).await.map(|_| ()) };
    let newest = median(ASKED, |_| load(json!({"session_id": id, "last": PART}))).await?;
    let middle = format!("m{}", LONG / 2);
    let before = median(ASKED, |_| load(json!({"session_id": id, "last": PART, "before": middle}))).await?;
    let mut bare = Times::default();
    for _ in 0..ASKED_SLOWLY {
        let begin = Instant::now();
        let parsed: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        bare.push(begin.elapsed());
        drop(parsed);
    }
    print(&format!("newest 60 of 10000, {what} (bare: the file parsed)"), newest, Some(bare.median()), "ms");
    print("   60 before the middle", before, None, "ms");
    Ok(())
}
