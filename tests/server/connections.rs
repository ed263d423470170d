//! Connections that keep a place without need do not keep others out, and whoever is served stays served.

use crate::program::{Program, command, site};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How many files the servers of these tests may have open.
const FILES: usize = 160;

/// A server that may have only so many files open, also where it asks for more.
fn program_with_few_files() -> (Program, [TempDir; 2]) {
    let (site, data) = (site(), TempDir::new().unwrap());
    let inner = command(site.path(), data.path());
    let mut limited = Command::new("/bin/sh");
    limited.env_clear().args(["-c", &format!("ulimit -n {FILES}; exec \"$0\" \"$@\"")]).arg(inner.get_program());
    limited.args(inner.get_args());
    (Program::run(limited), [site, data])
}

fn open(address: &str, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // The server may have closed it meanwhile.
    let _ = stream.write_all(sent.as_bytes());
    stream
}

/// Asks for the health on a connection of its own, and says how long that took.
fn ask(address: &str) -> Duration {
    let begin = Instant::now();
    let mut stream = open(address, &format!("GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"));
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    begin.elapsed()
}

#[tokio::test]
async fn unfinished_requests_do_not_keep_others_out() {
    let (program, _folders) = program_with_few_files();
    let address = program.address().to_owned();
    let answered = tokio::task::spawn_blocking(move || {
        let head = format!("POST /api/sessions/save HTTP/1.1\r\nhost: {address}\r\n");
        let mut held = Vec::new();
        // Twice as many of each kind as files may be open: nothing sent, half a head, half a body, an answer and no next request.
        for sent in [
            String::new(),
            head.clone(),
            format!("{head}content-length: 1000\r\n\r\n{{"),
            format!("GET /health HTTP/1.1\r\nhost: {address}\r\n\r\n"),
        ] {
            for _ in 0..2 * FILES {
                held.push(open(&address, &sent));
            }
            let slowest = (0..20).map(|_| ask(&address)).max().unwrap();
            assert!(slowest < Duration::from_secs(5), "{slowest:?} after {sent:?}");
        }
        held.len()
    });
    assert_eq!(answered.await.unwrap(), 8 * FILES);
    assert!(program.signal("TERM").success());
}

#[tokio::test]
async fn who_is_being_answered_stays_connected_whatever_comes() {
    let (program, _folders) = program_with_few_files();
    let started = program.post("/api/sessions/start", json!({})).await;
    let body = json!({"session_id":started["session_id"],"message":{"id":"q","content":"slow 60 50"}});
    let client = reqwest::Client::new();
    let mut stream = client.post(program.url("/api/replies/start")).json(&body).send().await.unwrap();
    let address = program.address().to_owned();
    let flood = tokio::task::spawn_blocking(move || {
        let held: Vec<_> = (0..3 * FILES).map(|_| open(&address, "POST / HTTP/1.1\r\n")).collect();
        // A body that comes slowly and does not stand still is taken whole.
        let mut slow =
            open(&address, &format!("POST /api/sessions/list HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n"));
        slow.write_all(b"content-length: 12\r\n\r\n").unwrap();
        for byte in br#"{"limit":10}"# {
            std::thread::sleep(Duration::from_millis(100));
            slow.write_all(&[*byte]).unwrap();
        }
        let mut answer = String::new();
        slow.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        held
    });
    let mut come = String::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        come.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    let last: serde_json::Value = serde_json::from_str(come.lines().last().unwrap()).unwrap();
    assert_eq!(last["type"], "done", "{come}");
    assert_eq!(last["message"]["content"].as_str().unwrap().split_whitespace().count(), 60);
    drop(flood.await.unwrap());
}

#[tokio::test]
async fn a_head_that_never_ends_is_not_waited_for() {
    let (site, data) = (site(), TempDir::new().unwrap());
    let program = Program::run(command(site.path(), data.path()));
    let address = program.address().to_owned();
    tokio::task::spawn_blocking(move || {
        let mut unfinished = open(&address, "GET / HTTP/1.1\r\nhost: ");
        let mut kept_alive = open(&address, &format!("GET /health HTTP/1.1\r\nhost: {address}\r\n\r\n"));
        let begin = Instant::now();
        let mut rest = Vec::new();
        match unfinished.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        let waited = begin.elapsed();
        assert!((15..40).contains(&waited.as_secs()), "{waited:?}");
        // One that asked for something and may ask again stays.
        kept_alive
            .write_all(format!("GET /health HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answers = String::new();
        kept_alive.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    })
    .await
    .unwrap();
}
