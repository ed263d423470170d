//! The program as a process: how it starts, refuses to start, stops and survives being killed.

use crate::support::find;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct Program {
    child: Child,
    address: String,
}

impl Program {
    /// Starts a server on a free port and waits until it says that it is ready.
    fn start(site: &Path, data: &Path) -> Self {
        let mut command = command(site, data);
        command.args(["--addr", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit("http://").next().unwrap().to_owned();
        assert!(address.starts_with("127.0.0.1:"), "{line}");
        Self { child, address }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        reqwest::Client::new().post(self.url(path)).json(&body).send().await.unwrap().json().await.unwrap()
    }

    /// Sends a signal by process id and waits for the end.
    fn signal(mut self, name: &str) -> ExitStatus {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(site: &Path, data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_verbatim"));
    command.env_clear().args(["--assistant", "scripted", "--site-dir"]).arg(site).arg("--data-dir").arg(data);
    command
}

/// Runs a program that must refuse to start, and returns what it says.
fn refusal(mut command: Command) -> String {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!child.wait().unwrap().success());
    let sentences: Vec<&str> = said.lines().filter(|line| line.starts_with("verbatim: ")).collect();
    assert_eq!(sentences.len(), 1, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    sentences[0].to_owned()
}

fn site() -> TempDir {
    let site = TempDir::new().unwrap();
    std::fs::create_dir(site.path().join("pkg")).unwrap();
    site
}

#[test]
fn what_prevents_a_start_is_said_in_one_sentence() {
    let (site, data) = (site(), TempDir::new().unwrap());
    let first = Program::start(site.path(), data.path());
    let said = refusal(command(site.path(), data.path()));
    assert!(said.contains("data directory"), "{said}");

    let other = TempDir::new().unwrap();
    let mut taken = command(site.path(), other.path());
    taken.args(["--addr", &first.address]);
    let said = refusal(taken);
    assert!(said.contains("is taken") && said.contains("--addr"), "{said}");

    let file = other.path().join("file");
    std::fs::write(&file, "").unwrap();
    let said = refusal(command(site.path(), &file.join("data")));
    assert!(said.contains("data directory"), "{said}");

    let said = refusal(command(&other.path().join("nowhere"), data.path()));
    assert!(said.contains("--site-dir"), "{said}");
}

/// Starts a session and in it a reply of a word each 20 ms, and returns when so many words have come: the session's id, the stream,
/// which goes on, and how many words it has brought.
async fn slow_reply(program: &Program, words: usize) -> (String, reqwest::Response, usize) {
    let started = program.post("/api/sessions/start", json!({})).await;
    let id = started["session_id"].as_str().unwrap().to_owned();
    let body = json!({"session_id":id,"message":{"id":"q","content":"slow 1000 20"}});
    let mut stream = reqwest::Client::new().post(program.url("/api/replies/start")).json(&body).send().await.unwrap();
    let mut come = String::new();
    while come.matches("word").count() < words {
        come.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
    }
    let count = come.matches("word").count();
    (id, stream, count)
}

#[tokio::test]
async fn a_kill_in_mid_reply_loses_a_second_of_it_at_most() {
    let (site, data) = (site(), TempDir::new().unwrap());
    let program = Program::start(site.path(), data.path());
    let (id, _stream, streamed) = slow_reply(&program, 120).await;
    program.signal("KILL");

    let program = Program::start(site.path(), data.path());
    let loaded = program.post("/api/sessions/load", json!({"session_id":id})).await;
    assert_eq!(loaded["messages"][0]["content"], "slow 1000 20");
    let reply = &loaded["messages"][1];
    assert_eq!(reply["metadata"]["error"], "interrupted");
    let kept = reply["content"].as_str().unwrap().split_whitespace().count();
    assert!(kept + 50 >= streamed, "{kept} of {streamed} words were kept");
    assert!(std::fs::read_dir(data.path().join("replies")).unwrap().next().is_none());
}

#[tokio::test]
async fn a_polite_stop_keeps_the_running_reply_and_ends_well() {
    let (site, data) = (site(), TempDir::new().unwrap());
    let program = Program::start(site.path(), data.path());
    let (id, _stream, streamed) = slow_reply(&program, 5).await;
    let begin = Instant::now();
    let status = program.signal("TERM");
    assert!(status.success(), "{status}");
    assert!(begin.elapsed() < Duration::from_secs(5));
    let file = find(&data.path().join("sessions"), &format!("{id}.json")).unwrap();
    let document: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(document["messages"].as_array().unwrap().len(), 2);
    assert!(document["messages"][1]["content"].as_str().unwrap().split_whitespace().count() >= streamed);
}
