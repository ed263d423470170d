//! The server as a process over a corpus: start, lists, searches, exports, memory, the size and the building of its index.

use crate::{Failure, Times, print};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use verbatim_corpus::Random;

/// How many answers each figure is of.
const ASKED: usize = 60;

/// A server that is stopped when it goes out of scope.
pub struct Server {
    child: Child,
    pub url: String,
    pub client: reqwest::Client,
    started: Instant,
}

impl Server {
    fn start(program: &Path, data: &Path) -> Result<Self, Failure> {
        Self::start_with(program, data, &["--assistant", "scripted"])
    }

    /// Starts it with further options.
    pub fn start_with(program: &Path, data: &Path, options: &[&str]) -> Result<Self, Failure> {
        let started = Instant::now();
        let mut child = Command::new(program)
            .args(["--addr", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let url = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        Ok(Self { child, url, client: reqwest::Client::new(), started })
    }

    /// What it answers, as JSON.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value, Failure> {
        let answer = self.client.post(format!("{}{path}", self.url)).json(&body).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }

    async fn wait_until_ready(&self) -> Result<(), Failure> {
        loop {
            let health: Value = self.client.get(format!("{}/health", self.url)).send().await?.json().await?;
            if health["index"] == "ready" {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it has nothing more to do, such as joining what was indexed in pieces.
    async fn wait_until_quiet(&self) {
        let used = || std::fs::read_to_string(format!("/proc/{}/schedstat", self.child.id())).unwrap_or_default();
        let threads = || -> Vec<String> {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
            let tasks = tasks.into_iter().flatten().flatten();
            tasks.filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok()).collect()
        };
        let mut before = (used(), threads());
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            let now = (used(), threads());
            if now == before {
                return;
            }
            before = now;
        }
    }

    /// A line of the process's status, in MiB.
    fn memory(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    }

    /// The processor time that it used so far, in clock ticks of which there are a hundred in a second.
    pub fn ticks(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
        ticks(11) + ticks(12)
    }

    /// Ends it and waits for that.
    pub fn stop(mut self) -> Result<(), Failure> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies a corpus's folders, with hard links for the files.
fn link(from: &Path, to: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            bytes += link(&entry.path(), &target)?;
        } else {
            std::fs::hard_link(entry.path(), &target)?;
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// Measures a server over a corpus.
pub fn measure(program: &Path, corpus: &Path) -> Result<(), Failure> {
    let parent = corpus.parent().ok_or("a corpus lies in a folder")?;
    let folder = tempfile::tempdir_in(parent)?;
    let file_bytes = link(&corpus.join("sessions"), &folder.path().join("sessions"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure_server(program, folder.path(), file_bytes))
}

async fn measure_server(program: &Path, data: &Path, file_bytes: u64) -> Result<(), Failure> {
    // Warm, as on a machine on which the files were just written.
    let begin = Instant::now();
    let texts = read_texts(data)?;
    let text_bytes = texts.iter().map(String::len).sum::<usize>() as f64;
    let read_time = begin.elapsed().as_secs_f64();

    let server = Server::start(program, data)?;
    server.post("/api/sessions/list", json!({"limit": 100})).await?;
    print("first page without an index, from exec", server.started.elapsed().as_secs_f64() * 1e3, None, "ms");
    server.wait_until_ready().await?;
    let rebuilt = server.started.elapsed().as_secs_f64();
    let mega = file_bytes as f64 / 1e6;
    print("index built, MB of files a second (bare: read, parse)", mega / rebuilt, Some(mega / read_time), "");
    print("   peak memory while it is built", server.memory("VmHWM"), None, "MiB");
    server.wait_until_quiet().await;
    print("   until nothing is left to be tidied up, s", server.started.elapsed().as_secs_f64(), None, "");
    server.stop()?;
    let index = std::fs::metadata(data.join("index.sqlite"))?.len() as f64;
    print("size of the index, of the text", index / text_bytes, None, "");

    let mut first = Times::default();
    for _ in 0..3 {
        let server = Server::start(program, data)?;
        server.post("/api/sessions/list", json!({"limit": 100})).await?;
        first.push(server.started.elapsed());
        server.stop()?;
    }
    print("first page with an index, from exec", first.median(), None, "ms");

    let server = Server::start(program, data)?;
    let first = server.post("/api/sessions/list", json!({"limit": 100})).await?;
    server.wait_until_ready().await?;
    server.wait_until_quiet().await;
    let sessions = first["total_sessions"].as_f64().unwrap_or_default();
    print("memory when idle, resident", server.memory("VmRSS"), None, "MiB");
    print("   of it its own (not files)", server.memory("RssAnon"), None, "MiB");

    let mut health = Times::default();
    let mut list = Times::default();
    for _ in 0..ASKED {
        let begin = Instant::now();
        server
            .client
            .post(format!("{}/api/sessions/list", server.url))
            .json(&json!({"limit": 0}))
            .send()
            .await?
            .bytes()
            .await?;
        health.push(begin.elapsed());
        let begin = Instant::now();
        server
            .client
            .post(format!("{}/api/sessions/list", server.url))
            .json(&json!({"limit": 100}))
            .send()
            .await?
            .bytes()
            .await?;
        list.push(begin.elapsed());
    }
    print("first page of 100, over HTTP (bare: a refused request)", list.median(), Some(health.median()), "ms");

    let scan = scan_time(&texts);
    let mut random = Random::new(3);
    for (what, queries) in queries(&mut random, &texts) {
        let mut times = Times::default();
        for query in &queries {
            let begin = Instant::now();
            let body = json!({"limit": 100, "query": query});
            let answer = server.client.post(format!("{}/api/sessions/list", server.url)).json(&body).send().await?;
            answer.error_for_status()?.bytes().await?;
            times.push(begin.elapsed());
        }
        print(&format!("search, {what}: p95 (bare: one scan of all text)"), times.at(0.95), Some(scan), "ms");
        print("   median", times.median(), None, "ms");
    }
    let mut best = Times::default();
    for query in ["weather", "model", "ation"] {
        let begin = Instant::now();
        server.post("/api/sessions/list", json!({"limit": 100, "query": query, "sort": "best"})).await?;
        best.push(begin.elapsed());
    }
    print("search, best first: the slowest of three", best.at(1.0), None, "ms");
    print("memory after lists and searches, resident", server.memory("VmRSS"), None, "MiB");

    let before = server.memory("VmRSS");
    let begin = Instant::now();
    let mut answer =
        server.client.post(format!("{}/api/sessions/export", server.url)).json(&json!({"limit": null})).send().await?;
    let (mut bytes, mut most) = (0, 0.0_f64);
    while let Some(chunk) = answer.chunk().await? {
        bytes += chunk.len();
        most = most.max(server.memory("VmRSS"));
    }
    let took = begin.elapsed().as_secs_f64();
    print("export of everything, MB a second", bytes as f64 / 1e6 / took, None, "");
    print("   memory above idle, at most", most - before, None, "MiB");
    print("   sessions", sessions, None, "");
    server.stop()
}

/// The contents of all messages.
fn read_texts(data: &Path) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    for day in std::fs::read_dir(data.join("sessions"))? {
        for file in std::fs::read_dir(day?.path())? {
            let mut value: Value = serde_json::from_slice(&std::fs::read(file?.path())?)?;
            for message in value["messages"].as_array_mut().into_iter().flatten() {
                if let Value::String(text) = message["content"].take() {
                    texts.push(text);
                }
            }
        }
    }
    Ok(texts)
}

/// How long one look through all texts in memory takes, in milliseconds.
fn scan_time(texts: &[String]) -> f64 {
    let mut times = Times::default();
    for word in ["weather", "zebra", "model"] {
        let begin = Instant::now();
        let hits = texts.iter().filter(|text| text.contains(word)).count();
        times.push(begin.elapsed());
        std::hint::black_box(hits);
    }
    times.median()
}

/// What is searched for: pieces of random texts.
fn queries(random: &mut Random, texts: &[String]) -> Vec<(&'static str, Vec<String>)> {
    let mut pieces = |take: &dyn Fn(&mut Random, &str) -> Option<String>| {
        let mut found = Vec::new();
        while found.len() < ASKED {
            let text = &texts[random.below(texts.len() as u64) as usize];
            let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
            if words.is_empty() {
                continue;
            }
            let word = words[random.below(words.len() as u64) as usize];
            found.extend(take(random, word));
        }
        found
    };
    let is_plain = |word: &str| word.is_ascii() && word.len() >= 4;
    let part = |random: &mut Random, word: &str, from: bool, most: u64| {
        let length = (3 + random.below(most) as usize).min(word.len());
        let start = if from { random.below((word.len() - length) as u64 + 1) as usize } else { 0 };
        word[start..start + length].to_owned()
    };
    vec![
        ("a word", pieces(&|_, word| is_plain(word).then(|| word.to_owned()))),
        ("a beginning", pieces(&|random, word| is_plain(word).then(|| part(random, word, false, 3)))),
        (
            "a part of three letters or more",
            pieces(&|random, word| is_plain(word).then(|| part(random, word, true, 4))),
        ),
        (
            "two Chinese signs",
            pieces(&|_, word| {
                let signs: Vec<char> = word.chars().filter(|c| ('\u{4E00}'..='\u{9FFF}').contains(c)).take(2).collect();
                (signs.len() == 2 && word.contains(&signs.iter().collect::<String>())).then(|| signs.iter().collect())
            }),
        ),
        ("one letter", pieces(&|_, word| word.chars().next().filter(char::is_ascii_alphabetic).map(String::from))),
        (
            "two words",
            pieces(&|_, word| is_plain(word).then(|| word.to_owned())).chunks(2).map(|two| two.join(" ")).collect(),
        ),
    ]
}
