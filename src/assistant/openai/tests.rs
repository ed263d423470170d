//! The client against a server of our own that plays exact bytes.

mod requests;
mod status;
mod wire;
mod words;

use super::*;
use crate::assistant::{ToolCall, Turn};
use crate::model::message::Modes;
use crate::model::reply::Phase;
use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;
use std::io::{self, Read, Write};
use tokio::sync::oneshot;

/// A server that runs until it is dropped or stopped.
pub(crate) struct TestServer {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl TestServer {
    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Ends it and all its connections, and returns when its port is free.
    pub(crate) async fn stop(mut self) -> u16 {
        drop(self.stop.take());
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
        self.port
    }
}

/// Serves on a free port.
pub(crate) async fn serve(router: Router) -> TestServer {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
            let _ = stopped.await;
        });
        serving.await.unwrap();
    });
    TestServer { port, stop: Some(stop), task: Some(task) }
}

/// A port at which nothing listens.
pub(crate) async fn silent_port() -> u16 {
    tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port()
}

fn client_with(port: u16, change: impl FnOnce(&mut OpenAiOptions)) -> OpenAi {
    let mut options = OpenAiOptions::new(format!("http://127.0.0.1:{port}").parse().unwrap());
    options.model = Some("m".to_owned());
    change(&mut options);
    OpenAi::new(options).unwrap()
}

fn question() -> Request {
    Request { model: None, messages: vec![Turn::User("hi".into())], modes: Modes::default() }
}

type Events = Vec<Result<Event, AssistantError>>;

async fn ask(client: &OpenAi) -> Events {
    match client.reply(question()).await {
        Ok(events) => events.collect().await,
        Err(error) => vec![Err(error)],
    }
}

/// What comes of these bytes, sent in these chunks with this content type.
async fn played(kind: &'static str, chunks: Vec<Result<Bytes, io::Error>>) -> Events {
    let chunks = Arc::new(Mutex::new(Some(chunks)));
    let play = move || {
        let chunks = chunks.lock().unwrap().take().unwrap();
        async move { ([(CONTENT_TYPE, kind)], Body::from_stream(streams::iter(chunks))) }
    };
    let server = serve(Router::new().route("/v1/chat/completions", post(play))).await;
    ask(&client_with(server.port(), |options| options.max_reply_bytes = 10_000)).await
}

async fn streamed(text: &str) -> Events {
    played("text/event-stream", vec![Ok(Bytes::from(text.to_owned()))]).await
}

/// What comes of a stream whose connection is lost after `text`.
async fn lost_after(text: &str) -> Events {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 100000\r\n\r\n";
    let answer = format!("{head}{text}");
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        // Read whole first: closing with bytes unread would take back what was sent.
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            let mut piece = [0; 4096];
            let length = connection.read(&mut piece).unwrap();
            request.extend_from_slice(&piece[..length]);
        }
        connection.write_all(answer.as_bytes()).unwrap();
    });
    let events = ask(&client_with(port, |_| {})).await;
    server.join().unwrap();
    events
}

/// A data line with this delta.
fn delta(value: Value) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": value, "finish_reason": null}]}))
}

fn finish(reason: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
}

fn text(text: &str) -> Result<Event, AssistantError> {
    Ok(Event::Text(text.to_owned()))
}

/// Reasoning and content as they stand in the end.
fn gathered(events: &Events) -> (String, String) {
    let (mut reasoning, mut content) = (String::new(), String::new());
    for event in events {
        match event {
            Ok(Event::Text(text)) => content.push_str(text),
            Ok(Event::Reasoning(text)) => reasoning.push_str(text),
            Ok(Event::TextWasReasoning) => reasoning.push_str(std::mem::take(&mut content).trim()),
            other => panic!("{other:?}"),
        }
    }
    (reasoning, content)
}

fn code(events: &Events) -> Option<AssistantErrorCode> {
    events.last()?.as_ref().err().map(|error| error.code)
}

#[test]
fn secrets_are_not_shown() {
    let mut options = OpenAiOptions::new("https://me:pass@a.example/v1?key=abc".parse().unwrap());
    options.key = Secret::new(" sk-123\n");
    let shown = format!("{options:?}");
    assert!(!shown.contains("123") && !shown.contains("pass") && !shown.contains("abc"), "{shown}");
    assert_eq!(Secret::new(" \n"), None);
}
