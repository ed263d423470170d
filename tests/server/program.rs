//! The program as a process: how it starts, refuses to start, stops and survives being killed.
//!
//! With the embedded assistant its engine is a fake one, `fake_engine.py`.

use crate::support::find;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The longest that anything here is waited for, also on a slow machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Program {
    child: Child,
    address: String,
}

impl Program {
    /// Starts a server on a free port and waits until it says that it is ready.
    fn start(site: &Path, data: &Path) -> Self {
        Self::run(command(site, data))
    }

    pub fn run(command: Command) -> Self {
        Self::run_with_log(command, Stdio::null())
    }

    /// As [`Program::run`]; `log` takes what the program writes into its log.
    pub fn run_with_log(mut command: Command, log: impl Into<Stdio>) -> Self {
        command.args(["--addr", "127.0.0.1:0"]).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit("http://").next().unwrap().to_owned();
        assert!(address.starts_with("127.0.0.1:"), "{line}");
        Self { child, address }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        reqwest::Client::new().post(self.url(path)).json(&body).send().await.unwrap().json().await.unwrap()
    }

    /// Sends a signal by process id and waits for the end.
    pub fn signal(mut self, name: &str) -> ExitStatus {
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

pub fn command(site: &Path, data: &Path) -> Command {
    let mut command = bare_command(site, data);
    command.args(["--assistant", "scripted"]);
    command
}

pub fn bare_command(site: &Path, data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_verbatim"));
    command.env_clear().arg("--site-dir").arg(site).arg("--data-dir").arg(data);
    command
}

/// A command for a server whose embedded assistant runs the fake engine with this file as its model.
fn embedded_command(site: &Path, data: &Path, model_file: &Path) -> Command {
    let mut command = bare_command(site, data);
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/fake_engine.py");
    // The fake engine needs the path of its interpreter.
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.args(["--assistant", "embedded", "--engine"]).arg(engine).arg("--model-file").arg(model_file);
    command
}

/// Runs a program that must refuse to start, and returns what it says.
pub fn refusal(mut command: Command) -> String {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!child.wait().unwrap().success());
    let sentences: Vec<&str> = said.lines().filter(|line| line.starts_with("verbatim: ")).collect();
    assert_eq!(sentences.len(), 1, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    sentences[0].to_owned()
}

pub fn site() -> TempDir {
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
    reply_of_words(program, "slow 1000 20", words).await
}

async fn reply_of_words(program: &Program, said: &str, words: usize) -> (String, reqwest::Response, usize) {
    let started = program.post("/api/sessions/start", json!({})).await;
    let id = started["session_id"].as_str().unwrap().to_owned();
    let body = json!({"session_id":id,"message":{"id":"q","content":said}});
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
    // The reply would go on for much longer.
    assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    let file = find(&data.path().join("sessions"), &format!("{id}.json")).unwrap();
    let document: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(document["messages"].as_array().unwrap().len(), 2);
    assert!(document["messages"][1]["content"].as_str().unwrap().split_whitespace().count() >= streamed);
}

/// The processes whose command line holds this text.
fn processes_with(text: &str) -> Vec<String> {
    let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| is_number(pid))
        .filter(|pid| {
            // Empty for a process that has ended and was not waited for.
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("fake_engine.py") && line.contains(text) && line.contains("--model-name")
        })
        .collect()
}

#[tokio::test]
async fn the_engine_goes_with_the_server_however_that_ends() {
    for signal in ["KILL", "TERM"] {
        let (site, data) = (site(), TempDir::new().unwrap());
        let model = data.path().join("played.gguf");
        std::fs::write(&model, "{}").unwrap();
        let name = data.path().to_string_lossy().into_owned();
        let program = Program::run(embedded_command(site.path(), &data.path().join("memory"), &model));

        reqwest::get(program.url("/health")).await.unwrap().error_for_status().unwrap();
        assert_eq!(processes_with(&name).len(), 0, "asking for health loads nothing");
        let status = program.post("/api/assistant/status", json!({})).await;
        assert_eq!((&status["model"], &status["place"]), (&json!("played"), &json!("inside Verbatim")));
        let (_, _stream, _) = reply_of_words(&program, "endless", 5).await;
        assert_eq!(processes_with(&name).len(), 1);

        let begin = Instant::now();
        let status = program.signal(signal);
        if signal == "TERM" {
            assert!(status.success(), "{status}");
            assert_eq!(processes_with(&name).len(), 0, "it is gone before the server is");
        }
        while !processes_with(&name).is_empty() {
            assert!(begin.elapsed() < PATIENCE, "SIG{signal} of the server left its engine behind");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_page_that_asks_lets_the_model_load_ahead() {
    let (site, data) = (site(), TempDir::new().unwrap());
    let model = data.path().join("played.gguf");
    std::fs::write(&model, "{}").unwrap();
    let name = data.path().to_string_lossy().into_owned();
    let program = Program::run(embedded_command(site.path(), &data.path().join("memory"), &model));
    program.post("/api/assistant/status", json!({})).await;
    let begin = Instant::now();
    while processes_with(&name).is_empty() {
        assert!(begin.elapsed() < PATIENCE, "nothing was started");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn without_weights_the_server_runs_and_says_what_to_do() {
    let (site, data) = (site(), TempDir::new().unwrap());
    for (assistant, says) in [("embedded", "make weights"), ("auto", "Or start Ollama")] {
        let mut command = bare_command(site.path(), &data.path().join(assistant));
        command.args(["--assistant", assistant, "--discover-ports", "1", "--models-dir"]).arg(data.path());
        command.arg("--engine").arg(env!("CARGO_BIN_EXE_verbatim"));
        let program = Program::run(command);
        let status = program.post("/api/assistant/status", json!({})).await;
        let advice = status["advice"].as_str().unwrap();
        assert!(advice.contains("not on this machine yet") && advice.contains(says), "{advice}");
        let started = program.post("/api/sessions/start", json!({})).await;
        let body = json!({"session_id": started["session_id"], "message": {"id": "q", "content": "x"}});
        let refused = program.post("/api/replies/start", body).await;
        assert_eq!(refused["error"]["message"], status["advice"]);
    }
}

#[test]
fn wrong_names_of_models_are_said_at_the_start() {
    let (site, data) = (site(), TempDir::new().unwrap());
    let missing = data.path().join("missing.gguf");
    for (arguments, says) in [
        (vec!["--model-file", missing.to_str().unwrap()], "missing.gguf"),
        (vec!["--assistant", "embedded", "--model", "gpt-4"], "default (Qwen2.5-Coder-0.5B-Instruct), small ("),
        (vec!["--openai-url", "http://127.0.0.1:1", "--model-file", "a.gguf"], "Leave one of them out"),
    ] {
        let mut command = bare_command(site.path(), &data.path().join("memory"));
        command.args(["--addr", "127.0.0.1:0"]).args(arguments);
        let said = refusal(command);
        assert!(said.contains(says), "{said}");
    }
}
