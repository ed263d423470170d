//! Requests that no browser sends: whatever comes, the server answers, goes on, and nothing in it panics.

use crate::program::{Program, command, site};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use verbatim_corpus::Random;

/// A server with a few sessions whose log is read at its end.
struct Watched {
    program: Program,
    log: PathBuf,
    session: String,
    _folders: [TempDir; 2],
}

impl Watched {
    async fn start() -> Self {
        let (site, data) = (site(), TempDir::new().unwrap());
        let log = site.path().join("log");
        let program = Program::run_with_log(command(site.path(), data.path()), std::fs::File::create(&log).unwrap());
        let started = program.post("/api/sessions/start", json!({})).await;
        let session = started["session_id"].as_str().unwrap().to_owned();
        let long: Vec<Value> = (0..300)
            .map(|n| json!({"role":"user","id":format!("m{n}"),"content":format!("**turn** {n} ") .repeat(40)}))
            .collect();
        let save = json!({"session_id":session,"messages":long,"metadata":{"title":"Long"}});
        assert_eq!(program.post("/api/sessions/save", save).await["success"], true);
        Self { program, log, session, _folders: [site, data] }
    }

    /// Stops the server: it must still have been there, and have panicked nowhere.
    async fn end(self) {
        let health = reqwest::get(self.program.url("/health")).await.unwrap();
        assert!(health.status().is_success());
        assert!(self.program.signal("TERM").success());
        assert_eq!(panics_in(&self.log), [""; 0]);
    }
}

fn panics_in(log: &Path) -> Vec<String> {
    let log = String::from_utf8_lossy(&std::fs::read(log).unwrap()).into_owned();
    let lines: Vec<&str> = log.lines().collect();
    let panicked = (0..lines.len()).filter(|place| lines[*place].contains("panicked"));
    panicked.map(|place| lines[place..lines.len().min(place + 3)].join("\n")).collect()
}

/// Sends bytes and returns what is answered until the other side closes or falls silent.
fn exchange(address: &str, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // It may answer and close before all is sent.
    let _ = stream.write_all(sent);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn status(answer: &[u8]) -> u16 {
    let head = String::from_utf8_lossy(&answer[..answer.len().min(40)]).into_owned();
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_target_that_is_no_path_is_refused_in_words() {
    let watched = Watched::start().await;
    let address = watched.program.address().to_owned();
    let long = format!("/{}", "a".repeat(60_000));
    let deep = "/..".repeat(2_000);
    tokio::task::spawn_blocking(move || {
        for (request, expected) in [
            ("GET HOST", vec![400]),
            ("GET localhost", vec![400]),
            ("CONNECT HOST", vec![400]),
            ("OPTIONS *", vec![400]),
            ("GET *", vec![400]),
            ("GET http://HOST/health", vec![200]),
            ("GET http://HOST", vec![200]),
            ("GET http://HOST?q=1", vec![200]),
            ("GET http://localhost/health", vec![200]),
            ("GET http://evil.example/health", vec![403]),
            ("GET http://a@HOST/health", vec![403]),
            ("GET gopher://HOST/health", vec![400]),
            ("POST http://HOST/api/sessions/list", vec![200]),
            ("GET //evil.example/", vec![404]),
            ("GET ///", vec![404]),
            ("GET //[::1", vec![400, 404]),
            ("GET /%", vec![404]),
            ("GET /%00", vec![404]),
            ("GET /chat/%00", vec![200, 404]),
            ("GET /chat/%FF%FE", vec![200, 404]),
            ("GET /sessions/%C3%28", vec![200, 404]),
            ("GET /chat/%zz", vec![200, 404]),
            ("GET /pkg/%2e%2e/%2e%2e/%2e%2e/etc/passwd", vec![404]),
            ("GET /pkg/..%2f..%2fetc", vec![404]),
            ("GET /?q=%FF&q=%00&q[]=%", vec![200]),
            ("GET /sessions?query=%FF%00%E2%80", vec![200]),
            ("GET /\\..\\x", vec![400, 404]),
            ("GET /a#b", vec![400, 404]),
            ("HEAD /", vec![200]),
            ("HEAD /sessions", vec![200]),
            ("PUT /", vec![403, 404, 405]),
            ("BREW /", vec![403, 404, 405]),
            ("OPTIONS /api/sessions/list", vec![405]),
            ("GET /api/sessions/list", vec![405]),
            (&format!("GET {long}"), vec![404, 414]),
            (&format!("GET /api{long}"), vec![404, 405, 414]),
            (&format!("GET /sessions/{long}"), vec![404, 414]),
            (&format!("GET {deep}"), vec![404]),
            (&format!("GET /?{}", "a=b&".repeat(10_000)), vec![200]),
        ] {
            let request = request.replace("HOST", &address);
            let answer = exchange(
                &address,
                format!("{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").as_bytes(),
            );
            let status = status(&answer);
            assert!(expected.contains(&status), "{request:.100}: {status}");
            assert!(!String::from_utf8_lossy(&answer).contains("root:"), "{request:.100}");
        }
    })
    .await
    .unwrap();
    watched.end().await;
}

#[tokio::test]
async fn readers_that_go_away_leave_no_panic_behind() {
    let watched = Watched::start().await;
    let (address, session) = (watched.program.address().to_owned(), watched.session.clone());
    tokio::task::spawn_blocking(move || {
        let mut random = Random::new(5);
        for round in 0..120 {
            let paths = [
                "/".into(),
                "/sessions".into(),
                format!("/chat/{session}"),
                format!("/sessions/{session}"),
                "/no".into(),
            ];
            let method = *random.pick(&["GET", "GET", "GET", "HEAD"]);
            let path = random.pick(&paths);
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n\r\n").as_bytes()).unwrap();
            match round % 4 {
                // Half of it is closed: the answer still comes whole.
                0 => {
                    stream.shutdown(Shutdown::Write).unwrap();
                    let mut answer = Vec::new();
                    let _ = stream.read_to_end(&mut answer);
                    assert!(matches!(status(&answer), 200 | 404), "{method} {path}");
                    let is_whole = method == "HEAD" || answer.ends_with(b"0\r\n\r\n") || answer.ends_with(b"</html>");
                    assert!(is_whole, "{method} {path} broke off");
                }
                1 => {}
                // All of it, after a while and perhaps some of the answer.
                _ => {
                    std::thread::sleep(Duration::from_micros(random.below(4_000)));
                    let mut some = vec![0; random.below(20_000) as usize];
                    if random.chance(500) {
                        let _ = stream.read(&mut some);
                    }
                }
            }
        }
    })
    .await
    .unwrap();
    watched.end().await;
}

/// Numbers and texts at the edges of what fields take.
fn odd_value(random: &mut Random, session: &str, depth: u32) -> String {
    const ODD: [&str; 46] = [
        "0",
        "-0",
        "1",
        "-1",
        "1000",
        "1001",
        "2147483647",
        "-2147483648",
        "4294967295",
        "4294967296",
        "9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "1e308",
        "1e999",
        "-1e999",
        "0.5",
        "1e-400",
        "null",
        "true",
        "\"\"",
        "\" \"",
        "\"\\u0000\"",
        "\"\\ud83d\"",
        "\"\\udc00\\ud83d\"",
        "\"n1.9223372036854775807.x\"",
        "\"n0.-9223372036854775808.x\"",
        "\"o0.9223372036854775807.x\"",
        "\"s-9223372036854775808.4294967295.18446744073709551615.1\"",
        "\"t9223372036854775807.0.0.0\"",
        "\"b18446744073709551615.4294967295\"",
        "\"b0.0\"",
        "\"before:0001-01-01 after:9999-12-31\"",
        "\"before:9999\"",
        "\"\\\"\"",
        "\"-\\\"\"",
        "\"tag:\"",
        "\"kind:voice -mode:cmd\"",
        "\"«»\"",
        "\"9999-12-31T23:59:59.999Z\"",
        "\"-262143-01-01T00:00:00Z\"",
        "\"oldest\"",
        "\"best\"",
        "\"newest\"",
    ];
    match random.below(12) {
        0 => format!("\"{session}\""),
        1 => format!("\"{}\"", "ﾊﾞa\u{301}".repeat(random.below(400) as usize)),
        2 if depth > 0 => format!("[{}]", odd_value(random, session, depth - 1)),
        3 if depth > 0 => odd_object(random, session, depth - 1),
        _ => (*random.pick(&ODD)).to_owned(),
    }
}

fn odd_object(random: &mut Random, session: &str, depth: u32) -> String {
    const FIELDS: [&str; 34] = [
        "session_id",
        "session_ids",
        "messages",
        "message",
        "metadata",
        "user_name",
        "base_revision",
        "limit",
        "offset",
        "query",
        "kind",
        "sort",
        "cursor",
        "utc_offset_minutes",
        "last",
        "before",
        "format",
        "reply_id",
        "after_seq",
        "modes",
        "model",
        "id",
        "parent_id",
        "role",
        "content",
        "timestamp",
        "parts",
        "rev",
        "type",
        "title",
        "tags",
        "active_leaf",
        "rating",
        "text",
    ];
    let mut fields = Vec::new();
    for _ in 0..random.below(6) {
        fields.push(format!("\"{}\":{}", random.pick(&FIELDS), odd_value(random, session, depth)));
    }
    format!("{{{}}}", fields.join(","))
}

/// A body that its route nearly or fully understands.
fn odd_body(random: &mut Random, session: &str, path: &str) -> String {
    let mut value = || odd_value(random, session, 1);
    match path {
        "/api/sessions/list" | "/api/sessions/export" => format!(
            r#"{{"limit":{},"offset":{},"query":{},"sort":{},"cursor":{},"utc_offset_minutes":{}}}"#,
            value(),
            value(),
            value(),
            value(),
            value(),
            value()
        ),
        "/api/sessions/load" => {
            format!(r#"{{"session_id":"{session}","last":{},"before":{}}}"#, value(), value())
        }
        "/api/sessions/save" => format!(
            r#"{{"session_id":"{session}","base_revision":{},"metadata":{{"title":{},"x":{}}},"messages":[{{"id":{},"role":"user","content":{},"timestamp":{},"rev":{},"metadata":{{"y":{}}}}}]}}"#,
            value(),
            value(),
            value(),
            value(),
            value(),
            value(),
            value(),
            value()
        ),
        "/api/replies/resume" => format!(r#"{{"reply_id":{},"after_seq":{}}}"#, value(), value()),
        _ => format!(
            r#"{{"session_id":"{session}","message":{{"id":{},"content":{},"parent_id":{}}},"modes":{}}}"#,
            value(),
            value(),
            value(),
            value()
        ),
    }
}

const PATHS: [&str; 12] = [
    "/api/sessions/start",
    "/api/sessions/load",
    "/api/sessions/list",
    "/api/sessions/save",
    "/api/sessions/delete",
    "/api/sessions/restore",
    "/api/sessions/export",
    "/api/sessions/empty_trash",
    "/api/assistant/status",
    "/api/replies/start",
    "/api/replies/resume",
    "/api/replies/stop",
];

#[tokio::test]
async fn odd_bodies_are_answered_and_nothing_panics() {
    let watched = Watched::start().await;
    let (address, session) = (watched.program.address().to_owned(), watched.session.clone());
    tokio::task::spawn_blocking(move || {
        let mut random = Random::new(7);
        for _ in 0..800 {
            let path = *random.pick(&PATHS);
            let body = match random.below(4) {
                0 => odd_object(&mut random, &session, 3),
                1 => odd_value(&mut random, &session, 3),
                _ => odd_body(&mut random, &session, path),
            };
            let mut bytes = body.clone().into_bytes();
            if random.chance(100) && !bytes.is_empty() {
                let place = random.below(bytes.len() as u64) as usize;
                bytes[place] = random.below(256) as u8;
            }
            let kind = if random.chance(100) { "application/x-www-form-urlencoded" } else { "application/json" };
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
                bytes.len()
            );
            let answer = exchange(&address, &[head.as_bytes(), &bytes].concat());
            let status = status(&answer);
            assert!(matches!(status, 200 | 400 | 403 | 404 | 409 | 413), "{path} {body}: {status}");
        }
    })
    .await
    .unwrap();
    watched.end().await;
}

#[tokio::test]
async fn odd_bytes_are_answered_or_dropped_and_nothing_panics() {
    let watched = Watched::start().await;
    let (address, session) = (watched.program.address().to_owned(), watched.session.clone());
    tokio::task::spawn_blocking(move || {
        const PIECES: [&str; 44] = [
            "GET ",
            "POST ",
            "HEAD ",
            "OPTIONS ",
            "PRI ",
            "\0",
            "/",
            "*",
            "//",
            "/api/",
            "/chat/SESSION",
            "/sessions?q=",
            "%00",
            "%FF",
            "%",
            "http://",
            "HOST",
            " HTTP/1.1\r\n",
            " HTTP/1.0\r\n",
            " HTTP/9.9\r\n",
            "\r\n",
            "\n",
            "\r",
            "host: HOST\r\n",
            "host: \r\n",
            "Host: [::1\r\n",
            "content-length: 5\r\n",
            "content-length: -1\r\n",
            "content-length: 99999999999999999999\r\n",
            "transfer-encoding: chunked\r\n",
            "ffffffffffffffff\r\n",
            "5\r\nhello\r\n",
            "0\r\n\r\n",
            "expect: 100-continue\r\n",
            "connection: upgrade\r\nupgrade: websocket\r\n",
            "range: bytes=18446744073709551615-0\r\n",
            "accept-encoding: gzip;q=9e9, *\r\n",
            "if-modified-since: Thu, 99 Foo 99999\r\n",
            "cookie: \u{FF}\r\n",
            "origin: http://HOST\r\n",
            "{}",
            "é",
            ": ",
            "x-y: z\r\n",
        ];
        let mut random = Random::new(11);
        for _ in 0..600 {
            let mut request = String::new();
            if random.chance(500) {
                request.push_str(&format!(
                    "GET /{} HTTP/1.1\r\nhost: HOST\r\n",
                    random.pick(&["", "sessions", "chat/SESSION", "health", "pkg/x.js"])
                ));
            }
            for _ in 0..random.below(12) {
                request.push_str(random.pick::<&str>(&PIECES));
            }
            if random.chance(700) {
                request.push_str("\r\n\r\n");
            }
            let request = request.replace("HOST", &address).replace("SESSION", &session);
            let answer = exchange(&address, request.as_bytes());
            let status = status(&answer);
            assert!(status < 500, "{request:?}: {status}");
        }
    })
    .await
    .unwrap();
    watched.end().await;
}
