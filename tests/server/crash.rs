//! The server is killed at random moments while clients save: whatever was acknowledged is there after each start, every file can be
//! read, and the index says what the files say. `VERBATIM_CRASHES=200` does it so many times.

use crate::program::{Program, command, site};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use verbatim_corpus::{Corpus, Random};

/// Clients that save at once, and how many sessions each writes to in turn.
const CLIENTS: u64 = 6;
const SESSIONS: u64 = 3;

/// What clients were told is saved: by session its messages by id, and its title.
#[derive(Clone, Default)]
struct Acknowledged {
    sessions: BTreeMap<String, BTreeMap<String, String>>,
    titles: BTreeMap<String, String>,
    /// The sessions that were written to since the last start.
    fresh: HashSet<String>,
}

fn crashes() -> u64 {
    std::env::var("VERBATIM_CRASHES").ok().and_then(|number| number.parse().ok()).unwrap_or(20)
}

/// A client that goes on until the server is gone.
async fn client(url: String, number: u64, round: u64, acknowledged: Arc<Mutex<Acknowledged>>) {
    let corpus = Corpus { seed: round * CLIENTS + number };
    let mut random = Random::new(corpus.seed);
    let http = reqwest::Client::new();
    let post = async |path: &str, body: Value| -> Option<Value> {
        let answer = http.post(format!("{url}/api/{path}")).json(&body).send().await.ok()?;
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.ok()
    };
    let mut ids = Vec::new();
    for turn in 0.. {
        if ids.len() < SESSIONS as usize {
            let Some(started) = post("sessions/start", json!({"user_name": "Crash"})).await else { return };
            let id = started["session_id"].as_str().unwrap().to_owned();
            let mut acknowledged = acknowledged.lock().unwrap();
            acknowledged.sessions.insert(id.clone(), BTreeMap::new());
            acknowledged.fresh.insert(id.clone());
            drop(acknowledged);
            ids.push(id);
        }
        let id = random.pick(&ids).clone();
        if random.chance(100) {
            let title = format!("Title {round} {turn}");
            let body = json!({"session_id": id, "messages": [], "metadata": {"title": title}});
            if post("sessions/save", body).await.is_none() {
                // Whether it was taken is not known.
                acknowledged.lock().unwrap().titles.remove(&id);
                return;
            }
            acknowledged.lock().unwrap().titles.insert(id, title);
            continue;
        }
        let messages: Vec<Value> = (0..1 + random.below(3))
            .map(|part| json!({"id": format!("m{round}-{number}-{turn}-{part}"), "role": "user", "content": corpus.message(turn * 4 + part)}))
            .collect();
        let body = json!({"session_id": id, "messages": messages});
        if post("sessions/save", body).await.is_none() {
            return;
        }
        let mut acknowledged = acknowledged.lock().unwrap();
        let kept = acknowledged.sessions.get_mut(&id).unwrap();
        for message in &messages {
            let text = |key: &str| message[key].as_str().unwrap().to_owned();
            kept.insert(text("id"), text("content"));
        }
    }
}

/// The session files, read as any program would.
fn files(data: &Path) -> BTreeMap<String, Value> {
    let mut files = BTreeMap::new();
    for day in std::fs::read_dir(data.join("sessions")).unwrap() {
        for file in std::fs::read_dir(day.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let Some(id) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".json") else { continue };
            let bytes = std::fs::read(&path).unwrap();
            files.insert(id.to_owned(), serde_json::from_slice(&bytes).unwrap_or(Value::Null));
        }
    }
    files
}

async fn check(program: &Program, data: &Path, acknowledged: &Acknowledged) {
    for _ in 0..2_000 {
        let health: Value = reqwest::get(program.url("/health")).await.unwrap().json().await.unwrap();
        if health["index"] == "ready" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (number, (id, messages)) in acknowledged.sessions.iter().enumerate() {
        // Of those that were checked after earlier starts the files are compared below; some are asked for all the same.
        if number % 10 != 0 && !acknowledged.fresh.contains(id) {
            continue;
        }
        let loaded = program.post("/api/sessions/load", json!({"session_id": id})).await;
        let list = |key: &str| loaded[key].as_array().cloned().unwrap_or_default();
        check_messages(id, &[list("messages"), list("branches")].concat(), messages);
        if let Some(title) = acknowledged.titles.get(id) {
            assert_eq!(loaded["metadata"]["title"], *title, "session {id}");
        }
    }
    // The index is as the files are.
    let mut listed = BTreeMap::new();
    let mut cursor = Value::Null;
    loop {
        let page = program.post("/api/sessions/list", json!({"limit": 1000, "cursor": cursor})).await;
        for summary in page["sessions"].as_array().unwrap_or_else(|| panic!("{page}")) {
            listed.insert(summary["session_id"].as_str().unwrap().to_owned(), summary.clone());
        }
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    let files = files(data);
    assert_eq!(listed.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>());
    for (id, file) in &files {
        // A file whose last write was torn is read line by line; it is mended at the next change.
        if file.is_null() {
            continue;
        }
        if let (Some(messages), Some(kept)) = (acknowledged.sessions.get(id), file["messages"].as_array()) {
            check_messages(id, kept, messages);
        }
        let summary = &listed[id];
        assert_eq!(
            (&summary["last_updated"], &summary["stats"]),
            (&file["last_updated"], &file["stats"]),
            "session {id}"
        );
    }
    // What was said last is found: by whole words of five letters or more, which the index knows without reading all texts.
    let said = acknowledged.sessions.iter().filter_map(|(id, messages)| Some((id, messages.values().next_back()?)));
    for (id, content) in said.filter(|(id, _)| acknowledged.fresh.contains(*id)) {
        let is_long_word = |word: &&str| word.chars().all(char::is_alphabetic) && word.chars().count() >= 5;
        let words: Vec<String> =
            content.split_whitespace().filter(is_long_word).take(6).map(|word| format!("\"{word}\"")).collect();
        if words.is_empty() {
            continue;
        }
        let query = words.join(" ");
        let mut cursor = Value::Null;
        loop {
            let body = json!({"limit": 1000, "query": query, "cursor": cursor});
            let page = program.post("/api/sessions/list", body).await;
            let rows = page["sessions"].as_array().unwrap_or_else(|| panic!("{page}"));
            if rows.iter().any(|row| row["session_id"] == **id) {
                break;
            }
            cursor = page["next_cursor"].clone();
            assert!(!cursor.is_null(), "{query} does not find session {id}");
        }
    }
}

/// Whatever was acknowledged of a session stands among its messages.
fn check_messages(id: &str, kept: &[Value], acknowledged: &BTreeMap<String, String>) {
    let kept: HashMap<&str, &str> =
        kept.iter().filter_map(|message| Some((message["id"].as_str()?, message["content"].as_str()?))).collect();
    for (message, content) in acknowledged {
        assert_eq!(kept.get(message.as_str()), Some(&content.as_str()), "message {message} of session {id}");
    }
}

/// Runs `verbatim doctor` and returns its exit status and what it says.
fn doctor(data: &Path) -> (i32, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_verbatim")).arg("doctor").arg("--data-dir").arg(data).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_acknowledged_survives_a_kill() {
    let (site, data) = (site(), TempDir::new().unwrap());
    let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
    let mut random = Random::new(std::process::id().into());
    for round in 0..crashes() {
        let program = Program::run(command(site.path(), data.path()));
        let so_far = acknowledged.lock().unwrap().clone();
        check(&program, data.path(), &so_far).await;
        acknowledged.lock().unwrap().fresh.clear();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| tokio::spawn(client(program.url(""), number, round, Arc::clone(&acknowledged))))
            .collect();
        tokio::time::sleep(Duration::from_millis(30 + random.below(400))).await;
        program.signal("KILL");
        for client in clients {
            client.await.unwrap();
        }
    }
    let saved: usize = acknowledged.lock().unwrap().sessions.values().map(BTreeMap::len).sum();
    assert!(saved > 100 * crashes() as usize, "only {saved} messages were acknowledged");
    let (status, said) = doctor(data.path());
    assert!(status <= 1, "{status}: {said}");
    let (status, said) = doctor(data.path());
    assert_eq!(status, 0, "{said}");
    let program = Program::run(command(site.path(), data.path()));
    let mut all = acknowledged.lock().unwrap().clone();
    all.fresh = all.sessions.keys().cloned().collect();
    check(&program, data.path(), &all).await;
}

#[test]
fn the_doctor_mends_what_can_be_mended_and_says_what_remains() {
    let data = TempDir::new().unwrap();
    let day = data.path().join("sessions/2026-02-09");
    std::fs::create_dir_all(&day).unwrap();
    assert_eq!(doctor(data.path()), (0, "0 sessions, 0 messages: all is well\n".to_owned()));
    verbatim_corpus::write(&Corpus { seed: 1 }, 5, &data.path().join("sessions")).unwrap();
    let (status, said) = doctor(data.path());
    assert!(status == 0 && said.starts_with("5 sessions, "), "{said}");

    let session = Corpus { seed: 1 }.session(0);
    let file = data.path().join("sessions").join(&session.day).join(format!("{}.json", session.id));
    // A torn end, a damaged line, a leftover, one file twice, one that cannot be read.
    std::fs::write(&file, &session.text[..session.text.len() - 20]).unwrap();
    let damaged = Corpus { seed: 1 }.session(1);
    let damaged_file = data.path().join("sessions").join(&damaged.day).join(format!("{}.json", damaged.id));
    std::fs::write(&damaged_file, damaged.text.replacen("\"role\":\"user\"", "\"role\":\"us", 1)).unwrap();
    std::fs::write(day.join("left.json.new"), "{").unwrap();
    let twice = Corpus { seed: 1 }.session(2);
    std::fs::write(day.join(format!("{}.json", twice.id)), &twice.text).unwrap();
    std::fs::write(day.join("unreadable.json"), "no JSON").unwrap();
    let before = std::fs::read(&file).unwrap();

    let output = Command::new(env!("CARGO_BIN_EXE_verbatim"))
        .args(["doctor", "--dry-run", "--data-dir"])
        .arg(data.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(std::fs::read(&file).unwrap(), before, "nothing is written");
    let (status, said) = doctor(data.path());
    assert_eq!(status, 2, "{said}");
    for part in [
        "repaired: ",
        "torn by a crash",
        "beside a copy",
        "left.json.new: an unfinished write",
        "the same session lies at",
        "unreadable.json: it cannot be read",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).is_ok());
    assert!(serde_json::from_slice::<Value>(&std::fs::read(&damaged_file).unwrap()).is_ok());
    let (status, said) = doctor(data.path());
    assert!(status == 2 && !said.contains("repaired: "), "{said}");
    std::fs::remove_file(day.join("unreadable.json")).unwrap();
    std::fs::remove_file(day.join(format!("{}.json", twice.id))).unwrap();
    let (status, said) = doctor(data.path());
    assert!(status == 0 && said.contains("note: "), "{said}");

    let index = data.path().join("index.sqlite");
    let bytes = std::fs::read(&index).unwrap();
    let garbage = [b"no database".as_slice(), &bytes[11..]].concat();
    std::fs::write(&index, &garbage).unwrap();
    let looked = Command::new(env!("CARGO_BIN_EXE_verbatim"))
        .args(["doctor", "--dry-run", "--data-dir"])
        .arg(data.path())
        .output()
        .unwrap();
    let said = String::from_utf8(looked.stdout).unwrap();
    assert!(looked.status.code() == Some(2) && said.contains("can be repaired: index.sqlite: "), "{said}");
    assert_eq!(std::fs::read(&index).unwrap(), garbage, "nothing is written");
    let (status, said) = doctor(data.path());
    assert!(status == 1 && said.contains("repaired: index.sqlite: "), "{said}");
    assert_eq!(doctor(data.path()).0, 0);

    let reindex =
        Command::new(env!("CARGO_BIN_EXE_verbatim")).args(["reindex", "--data-dir"]).arg(data.path()).output().unwrap();
    assert!(reindex.status.success());
    assert_eq!(String::from_utf8(reindex.stdout).unwrap(), "5 sessions are in the index.\n");
    let nowhere =
        Command::new(env!("CARGO_BIN_EXE_verbatim")).args(["doctor", "--data-dir", "/nowhere"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(3));
}
