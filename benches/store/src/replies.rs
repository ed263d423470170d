//! What the server adds to a reply's way from an endpoint to the reader: to its first token, and to each.
//!
//! The endpoint is one of this program's own. Each token says when it was sent, and the first one when the request came, so that the
//! endpoint's own time does not count. The baseline is a reader that talks to the endpoint directly.

use crate::process::Server;
use crate::{Failure, Times, print};
use axum::body::Body;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Replies that are asked for in one moment.
const AT_ONCE: usize = 200;

/// Replies that are asked for one after the other while those run, and run on: in the end 250 are generated at once.
const IN_TURN: usize = 50;

/// Tokens of a reply, and the time between two of them.
const TOKENS: usize = 200;
const TOKEN_TIME: Duration = Duration::from_millis(50);

/// How long the endpoint takes for the first token.
const FIRST_TIME: Duration = Duration::from_millis(20);

/// What was seen of replies.
#[derive(Default)]
struct Seen {
    first: Times,
    tokens: Times,
}

impl Seen {
    fn add(&mut self, other: Seen) {
        self.first.0.extend(other.first.0);
        self.tokens.0.extend(other.tokens.0);
    }
}

/// The time since the beginning of the run.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn micros(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// An endpoint on a free port; returns its address.
async fn endpoint(clock: Clock) -> Result<String, Failure> {
    let chat = move || async move {
        let received = clock.micros();
        let tokens = futures_util::stream::unfold(0, move |number| async move {
            tokio::time::sleep(if number == 0 { FIRST_TIME } else { TOKEN_TIME }).await;
            let event = |delta: Value, end: Option<&str>| {
                let choice = json!({"index": 0, "delta": delta, "finish_reason": end});
                format!("data: {}\n\n", json!({"object": "chat.completion.chunk", "choices": [choice]}))
            };
            let now = clock.micros();
            let text = match number {
                0 => event(json!({"role": "assistant", "content": format!("{received}/{now} ")}), None),
                TOKENS => event(json!({}), Some("stop")) + "data: [DONE]\n\n",
                1..TOKENS => event(json!({"content": format!("{now} ")}), None),
                _ => return None,
            };
            Some((Ok::<_, std::convert::Infallible>(text), number + 1))
        });
        ([("content-type", "text/event-stream")], Body::from_stream(tokens))
    };
    let router = Router::new()
        .route("/v1/models", get(|| async { Json(json!({"data": [{"id": "measured"}]})) }))
        .route("/v1/chat/completions", post(chat));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(format!("http://{address}/v1"))
}

/// Reads a stream of lines until it ends or so many tokens have come.
async fn follow(
    mut answer: reqwest::Response,
    asked: u64,
    clock: Clock,
    most: usize,
    text_of: fn(&Value) -> Option<&str>,
) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    let mut rest = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        let now = clock.micros();
        rest.extend_from_slice(&chunk);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = line.strip_prefix(b"data: ").unwrap_or(&line);
            let Ok(value) = serde_json::from_slice::<Value>(line) else { continue };
            for token in text_of(&value).unwrap_or_default().split_whitespace() {
                let (received, sent) = match token.split_once('/') {
                    Some((received, sent)) => (Some(received.parse::<u64>()?), sent.parse::<u64>()?),
                    None => (None, token.parse()?),
                };
                let late = now.saturating_sub(sent);
                if let Some(received) = received {
                    seen.first.push(Duration::from_micros(received.saturating_sub(asked) + late));
                }
                seen.tokens.push(Duration::from_micros(late));
            }
            if seen.tokens.0.len() >= most {
                return Ok(seen);
            }
        }
    }
    Ok(seen)
}

/// The text in a line of ours.
fn text_of_event(event: &Value) -> Option<&str> {
    event["text"].as_str().filter(|_| event["type"] == "delta")
}

/// The text in a line of the endpoint's.
fn text_of_chunk(chunk: &Value) -> Option<&str> {
    chunk["choices"][0]["delta"]["content"].as_str()
}

/// Asks for replies: those of many at once, and of some in turn meanwhile.
async fn ask<F, R>(ask_one: F) -> Result<(Seen, Seen), Failure>
where
    F: Fn(usize, usize) -> R,
    R: Future<Output = Result<Seen, Failure>> + Send + 'static,
{
    let all: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            let one = ask_one(number, usize::MAX);
            tokio::spawn(async move { one.await.map_err(|error| error.to_string()) })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut in_turn = Seen::default();
    for number in AT_ONCE..AT_ONCE + IN_TURN {
        in_turn.add(ask_one(number, 1).await?);
    }
    let mut at_once = Seen::default();
    for one in all {
        at_once.add(one.await??);
    }
    Ok((at_once, in_turn))
}

pub fn measure(program: &Path) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let clock = Clock(Instant::now());
        let endpoint = endpoint(clock).await?;
        let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
        let options = ["--assistant", "openai", "--openai-url", &endpoint, "--model", "measured"];
        let server = Server::start_with(program, folder.path(), &options)?;

        let client = reqwest::Client::new();
        let (mut bare_at_once, mut bare_in_turn) = ask(|_, most| {
            let (client, endpoint) = (client.clone(), endpoint.clone());
            async move {
                let asked = clock.micros();
                let body = json!({"model": "measured", "stream": true, "messages": []});
                let answer = client.post(format!("{endpoint}/chat/completions")).json(&body).send().await?;
                follow(answer, asked, clock, most, text_of_chunk).await
            }
        })
        .await?;

        let mut ids = Vec::new();
        for _ in 0..AT_ONCE + IN_TURN {
            let started = server.post("/api/sessions/start", json!({})).await?;
            ids.push(started["session_id"].as_str().unwrap_or_default().to_owned());
        }
        let begin = server.ticks();
        let (mut at_once, mut in_turn) = ask(|number, most| {
            let (client, url, id) = (client.clone(), server.url.clone(), ids[number].clone());
            async move {
                let asked = clock.micros();
                let message = json!({"id": format!("m{number}"), "content": "How is the weather?"});
                let body = json!({"session_id": id, "message": message});
                let answer = client.post(format!("{url}/api/replies/start")).json(&body).send().await?;
                follow(answer.error_for_status()?, asked, clock, most, text_of_event).await
            }
        })
        .await?;
        let spent = (server.ticks() - begin) * 10.0;
        let what = format!("reply: first token, {AT_ONCE} to {} running: median (bare: direct)", AT_ONCE + IN_TURN);
        print(&what, in_turn.first.median(), Some(bare_in_turn.first.median()), "ms");
        print("   p95", in_turn.first.at(0.95), Some(bare_in_turn.first.at(0.95)), "ms");
        let what = format!("   {AT_ONCE} asked for in one moment: median");
        print(&what, at_once.first.median(), Some(bare_at_once.first.median()), "ms");
        print(
            "reply: each token, on its way: median",
            at_once.tokens.median(),
            Some(bare_at_once.tokens.median()),
            "ms",
        );
        print("   p95", at_once.tokens.at(0.95), Some(bare_at_once.tokens.at(0.95)), "ms");
        // A reply whose reader has gone is generated to its end all the same.
        let tokens = ((AT_ONCE + IN_TURN) * TOKENS) as f64;
        print("   processor time of the server, start and end included", spent / tokens, None, "ms");
        if at_once.tokens.0.len() != AT_ONCE * TOKENS {
            return Err(format!("only {} tokens came", at_once.tokens.0.len()).into());
        }
        server.stop()
    })
}
