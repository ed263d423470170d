//! How much a request may hold, on each route, and how that is said.

use crate::program::{Program, command, site};
use crate::support::{BODY_LIMIT, TestApp, post_request, text};
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use futures::stream;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpStream;
use tempfile::TempDir;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Each route that takes a body, with one that it answers; what is padded is ignored.
const ROUTES: [(&str, &str, &str); 14] = [
    ("/api/sessions/start", JSON, r#"{}"#),
    ("/api/sessions/load", JSON, r#"{"session_id":"ID"}"#),
    ("/api/sessions/list", JSON, r#"{}"#),
    ("/api/sessions/save", JSON, r#"{"session_id":"ID","messages":[]}"#),
    ("/api/sessions/export", JSON, r#"{"session_id":"ID"}"#),
    ("/api/sessions/export", FORM, "session_id=ID&query="),
    ("/api/sessions/empty_trash", JSON, r#"{"session_ids":[]}"#),
    ("/api/assistant/status", JSON, r#"{}"#),
    ("/api/replies/start", JSON, r#"{"session_id":"ID","message":{"content":"echo hi"}}"#),
    ("/api/replies/resume", JSON, r#"{"reply_id":"none"}"#),
    ("/api/replies/stop", JSON, r#"{"reply_id":"none"}"#),
    ("/api/sessions/delete", JSON, r#"{"session_id":"ID"}"#),
    ("/api/sessions/restore", JSON, r#"{"session_id":"ID"}"#),
    ("/api/nothing/here", JSON, r#"{}"#),
];

/// A body of this length that says the same.
fn padded(kind: &str, body: &str, length: usize) -> Vec<u8> {
    let padding = if kind == FORM { b'x' } else { b' ' };
    let mut bytes = body.as_bytes().to_vec();
    bytes.resize(length, padding);
    bytes
}

/// As most clients send it, with its length, and in pieces without it.
fn in_pieces(bytes: &[u8]) -> Body {
    let pieces: Vec<_> = bytes.chunks(10_000).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
    Body::from_stream(stream::iter(pieces))
}

#[tokio::test]
async fn every_route_takes_what_is_documented_and_no_byte_more() {
    let app = TestApp::new();
    for (path, kind, body) in ROUTES {
        for (length, fits) in [(BODY_LIMIT - 1, true), (BODY_LIMIT, true), (BODY_LIMIT + 1, false)] {
            for is_whole in [true, false] {
                // The same as a small one, each on a session of its own.
                let small = body.replace("ID", &app.start().await);
                let small = app.send(request(path, kind, Body::from(small))).await.status();
                let bytes = padded(kind, &body.replace("ID", &app.start().await), length);
                let mut request =
                    request(path, kind, if is_whole { Body::from(bytes.clone()) } else { in_pieces(&bytes) });
                if is_whole {
                    request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
                }
                let response = app.send(request).await;
                let status = response.status();
                let said = text(response).await;
                if fits {
                    assert_eq!(status, small, "{path} {length}: {said:.300}");
                    assert_ne!(status, StatusCode::PAYLOAD_TOO_LARGE, "{path} {length}");
                } else {
                    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{path} {length}: {said:.300}");
                    let said: Value = serde_json::from_str(&said).unwrap();
                    assert_eq!(said["error"]["code"], "body_too_large");
                    assert!(said["error"]["message"].as_str().unwrap().contains("--max-body-mib"));
                }
            }
        }
    }
}

fn request(path: &str, kind: &'static str, body: Body) -> axum::http::Request<Body> {
    let mut request = post_request(path, body);
    request.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    request
}

/// Writes a request by hand and reads its answer to the end: the status and the body.
fn by_hand(address: &str, head: &str, pieces: &[&[u8]], ends: bool) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let host = format!("host: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n");
    stream.write_all(format!("POST {head}\r\n{host}\r\n").as_bytes()).unwrap();
    for piece in pieces {
        stream.write_all(piece).unwrap();
    }
    if ends {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"));
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn the_program_keeps_to_the_limit_that_it_is_told() {
    let (site, data) = (site(), TempDir::new().unwrap());
    let mut command = command(site.path(), data.path());
    command.args(["--max-body-mib", "3"]);
    let program = Program::run(command);
    let address = program.address().to_owned();
    let limit = 3 << 20;
    let started = program.post("/api/sessions/start", json!({})).await;
    let id = started["session_id"].as_str().unwrap().to_owned();
    let save = move |length: usize| {
        let around = format!(r#"{{"session_id":"{id}","messages":[{{"id":"m{length}","role":"user","content":""}}]}}"#);
        around.replace(r#""content":"""#, &format!(r#""content":"{}""#, "x".repeat(length - around.len())))
    };
    tokio::task::spawn_blocking(move || {
        for (length, status) in [(limit - 1, 200), (limit, 200), (limit + 1, 413), (2 * limit, 413)] {
            let body = save(length);
            assert_eq!(body.len(), length);
            let head = format!("/api/sessions/save HTTP/1.1\r\ncontent-length: {length}");
            let (answered, said) = by_hand(&address, &head, &[body.as_bytes()], false);
            assert_eq!(answered, status, "{length}: {said:.300}");
            assert_eq!(said.contains("larger than 3 MiB"), status == 413, "{said:.300}");

            let pieces: Vec<Vec<u8>> = body
                .as_bytes()
                .chunks(100_000)
                .map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
                .chain([b"0\r\n\r\n".to_vec()])
                .collect();
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let head = "/api/sessions/save HTTP/1.1\r\ntransfer-encoding: chunked";
            assert_eq!(by_hand(&address, head, &pieces, false).0, status, "{length} in pieces");
        }
        // Who asks first is told before anything is sent; who breaks off, that it broke off.
        let head = "/api/sessions/save HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 9000000";
        assert_eq!(by_hand(&address, head, &[], false).0, 413);
        let head = "/api/sessions/save HTTP/1.1\r\ncontent-length: 1000";
        let (status, said) = by_hand(&address, head, &[b"{\"session_id\""], true);
        assert!(status == 400 && said.contains("broke off"), "{status} {said}");
        // A length that no body has takes no memory and ends nothing.
        let head = "/api/sessions/save HTTP/1.1\r\ncontent-length: 18446744073709551615";
        assert!(matches!(by_hand(&address, head, &[], true).0, 400 | 413 | 431));
    })
    .await
    .unwrap();
    let loaded = program.post("/api/sessions/load", json!({"session_id":started["session_id"]})).await;
    assert_eq!(loaded["messages"].as_array().map(Vec::len), Some(2), "both that fit are kept, each once");
}

#[tokio::test]
async fn the_search_form_takes_no_number_too_far() {
    let app = TestApp::new();
    for minutes in [i64::from(i32::MIN), i64::from(i32::MAX), 841, -841, i64::MIN, i64::MAX] {
        for path in ["/api/sessions/list", "/api/sessions/export"] {
            let (status, said) = app.post(path, json!({"utc_offset_minutes": minutes})).await;
            assert_eq!(
                (status, &said["error"]["code"]),
                (StatusCode::BAD_REQUEST, &json!("invalid_request")),
                "{minutes}"
            );
        }
        let form = request("/api/sessions/export", FORM, Body::from(format!("utc_offset_minutes={minutes}")));
        assert_eq!(app.send(form).await.status(), StatusCode::BAD_REQUEST);
    }
}

/// How much memory a process holds, in MiB.
fn memory_of(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test]
async fn memory_of_large_requests_is_given_back() {
    let (site, data) = (site(), TempDir::new().unwrap());
    let program = Program::run(command(site.path(), data.path()));
    let address = program.address().to_owned();
    let client = reqwest::Client::new();
    client.get(program.url("/")).send().await.unwrap();
    let before = memory_of(program.id());
    let held = tokio::task::spawn_blocking(move || {
        let body = vec![b'x'; 24 << 20];
        let begin = |_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            let head =
                format!("POST /api/sessions/save HTTP/1.1\r\nhost: {address}\r\ncontent-length: 30000000\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            // More than the server holds of all together is refused.
            let _ = stream.write_all(&body);
            stream
        };
        (0..20).map(begin).collect::<Vec<_>>()
    });
    let held = held.await.unwrap();
    let most = memory_of(program.id());
    assert!((before + 100..before + 600).contains(&most), "{before} MiB, then {most} MiB");
    drop(held);
    // Some sessions that are saved, loaded and exported leave as little behind.
    for _ in 0..3 {
        let started = program.post("/api/sessions/start", json!({})).await;
        let said: Vec<_> =
            (0..2_000).map(|n| json!({"id":format!("m{n}"),"role":"user","content":"said ".repeat(400)})).collect();
        program.post("/api/sessions/save", json!({"session_id":started["session_id"],"messages":said})).await;
        program.post("/api/sessions/load", json!({"session_id":started["session_id"]})).await;
        program.post("/api/sessions/export", json!({"limit":null})).await;
    }
    let begin = std::time::Instant::now();
    loop {
        let now = memory_of(program.id());
        if now <= before + 40 {
            break;
        }
        assert!(begin.elapsed().as_secs() < 75, "{before} MiB, then {most} MiB, and still {now} MiB");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
