//! The program in front of a model server that means no good.

use crate::program::{Program, bare_command, site};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use tempfile::TempDir;

/// What stands in names and error bodies: it begins a line of its own, clears the screen and turns the direction of writing.
const EVIL: &str = "x\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[2J\u{9b}31m\u{2028}\u{202e}";

/// Reads a request and returns its first line.
fn request(connection: &mut TcpStream) -> Option<String> {
    let mut reader = BufReader::new(connection);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line).ok()? > 2 {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    reader.read_exact(&mut vec![0; length]).ok()?;
    Some(first)
}

/// A model server with one model of this name, which refuses every request with an evil body. It runs until the tests end.
fn hostile(model: String) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/v1/chat/completions", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let Some(first) = request(&mut connection) else { continue };
            let (status, body) = match first.starts_with("GET /v1/models ") {
                true => ("200 OK", json!({"data": [{"id": model}]}).to_string()),
                false => ("400 Bad Request", EVIL.repeat(1_000)),
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = connection.write_all((head + &body).as_bytes());
        }
    });
    url
}

#[tokio::test]
async fn foreign_text_forges_no_line_of_the_log_and_fills_no_page() {
    let (site, data) = (site(), TempDir::new().unwrap());
    let url = hostile(format!("{EVIL}{}", "y".repeat(1_000_000)));
    let log = data.path().join("log");
    let mut command = bare_command(site.path(), &data.path().join("memory"));
    command.args(["--assistant", "openai", "--openai-url", &url]).env("VERBATIM_LOG", "debug");
    let program = Program::run_with_log(command, std::fs::File::create(&log).unwrap());

    let started = program.post("/api/sessions/start", json!({})).await;
    let id = started["session_id"].as_str().unwrap().to_owned();
    let body = json!({"session_id": id, "message": {"id": "q", "content": "hi"}});
    let answer = reqwest::Client::new().post(program.url("/api/replies/start")).json(&body).send().await.unwrap();
    let lines = answer.text().await.unwrap();
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!(last["type"], "failed", "{lines}");
    assert!(lines.len() < 5_000, "{}", lines.len());
    assert!(!lines.contains('\u{202e}') && !lines.contains("\\u001b"), "{lines}");
    for path in ["/", &format!("/chat/{id}")] {
        let page = reqwest::get(program.url(path)).await.unwrap().text().await.unwrap();
        assert!(page.len() < 200_000, "{path}: {}", page.len());
        assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}'));
    }
    assert!(program.signal("TERM").success());

    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("\\n2026-01-01T00:00:00Z ERROR forged"), "the cause is in the log: {log}");
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01T00:00:00Z")), "{log}");
    assert!(!log.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}' || c == '\u{2028}'), "{log:?}");
    assert!(log.lines().all(|line| line.len() < 40_000));
}
