//! The client against a server of our own that plays exact bytes.

use super::*;
use crate::assistant::ToolCall;
use crate::model::message::Modes;
use crate::model::reply::Phase;
use axum::Router;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::Bytes;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
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
    ask(&client_with(server.port(), |options| options.max_event_bytes = 10_000)).await
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

fn code(events: &Events) -> Option<AssistantErrorCode> {
    events.last()?.as_ref().err().map(|error| error.code)
}

#[test]
fn addresses_are_read_with_and_without_version() {
    for (given, models, props) in [
        ("http://127.0.0.1:11434", "http://127.0.0.1:11434/v1/models", "http://127.0.0.1:11434/props"),
        ("http://localhost:8080/v1/", "http://localhost:8080/v1/models", "http://localhost:8080/props"),
        ("https://a.example/openai/v1", "https://a.example/openai/v1/models", "https://a.example/openai/props"),
        (
            "https://a.example/v1beta/openai/",
            "https://a.example/v1beta/openai/models",
            "https://a.example/v1beta/props",
        ),
        ("https://a.example/v1?k=1", "https://a.example/v1/models?k=1", "https://a.example/props?k=1"),
    ] {
        let endpoint: Endpoint = given.parse().unwrap();
        assert_eq!(endpoint.url(&["models"]).as_str(), models, "{given}");
        assert_eq!(endpoint.beside(&["props"]).as_str(), props, "{given}");
    }
    for bad in ["", "localhost:8080", "ftp://a.example", "http://", "file:///v1"] {
        assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
    }
    for (address, local) in [
        ("http://[::1]:1", true),
        ("http://127.9.9.9", true),
        ("http://10.0.0.1", false),
        ("http://localhost.example", false),
    ] {
        assert_eq!(address.parse::<Endpoint>().unwrap().is_local(), local, "{address}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let mut options = OpenAiOptions::new("https://me:pass@a.example/v1?key=abc".parse().unwrap());
    options.key = Secret::new(" sk-123\n");
    let shown = format!("{options:?}");
    assert!(!shown.contains("123") && !shown.contains("pass") && !shown.contains("abc"), "{shown}");
    assert_eq!(Secret::new(" \n"), None);
}

#[tokio::test]
async fn chunks_may_be_cut_anywhere() {
    let bytes = [
        ": a comment\r\n\r\n".to_owned(),
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"content": "grün 🛠️"})).replace('\n', "\r\n"),
        delta(json!({"content": " 日本"})),
        finish("stop"),
        "data: {\"choices\":[],\"usage\":{\"total_tokens\":9}}\n\ndata: [DONE]\n\n".to_owned(),
    ]
    .concat()
    .into_bytes();
    for size in [1, 2, 3, 7, bytes.len()] {
        let chunks = bytes.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let events = played("text/event-stream; charset=utf-8", chunks).await;
        let Value::Object(usage) = json!({"total_tokens": 9}) else { unreachable!() };
        assert_eq!(events, [text("grün 🛠️"), text(" 日本"), Ok(Event::Usage(usage))], "size {size}");
    }
}

#[tokio::test]
async fn reasoning_comes_under_several_names_and_in_tags() {
    for field in ["reasoning_content", "reasoning", "thinking"] {
        let events =
            streamed(&[delta(json!({field: "hm"})), delta(json!({"content": "yes"})), finish("stop")].concat()).await;
        assert_eq!(events, [Ok(Event::Reasoning("hm".into())), text("yes")], "{field}");
    }
    let both = streamed(&[delta(json!({"reasoning": "hm", "reasoning_content": "hm"})), finish("stop")].concat()).await;
    assert_eq!(both, [Ok(Event::Reasoning("hm".into()))]);
    let tagged = ["<th", "ink>\nhm</thi", "nk>\n\nyes"].map(|piece| delta(json!({"content": piece}))).concat();
    assert_eq!(streamed(&(tagged + &finish("stop"))).await, [Ok(Event::Reasoning("hm".into())), text("yes")]);
}

#[tokio::test]
async fn tool_calls_are_gathered() {
    let call = |value: Value| delta(json!({"tool_calls": [value]}));
    let events = streamed(
        &[
            call(
                json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "datetime", "arguments": ""}}),
            ),
            call(json!({"index": 0, "function": {"arguments": "{\"zone\":"}})),
            call(json!({"index": 1, "id": "c2", "function": {"name": "broken", "arguments": "{"}})),
            call(json!({"index": 0, "function": {"arguments": "\"UTC\"}"}})),
            // Another call under an index that is taken, as some servers send it.
            call(json!({"index": 0, "id": "c3", "function": {"name": "empty"}})),
            finish("tool_calls"),
            "data: [DONE]\n\n".to_owned(),
        ]
        .concat(),
    )
    .await;
    let expected =
        [("c1", "datetime", json!({"zone": "UTC"})), ("c2", "broken", json!("{")), ("c3", "empty", json!({}))];
    let expected = expected.map(|(call_id, name, arguments)| {
        Ok(Event::ToolCall(ToolCall { call_id: call_id.into(), name: name.into(), arguments }))
    });
    assert_eq!(events, expected);
}

#[tokio::test]
async fn ends_are_told_apart() {
    let one = delta(json!({"content": "one"}));
    let done = "data: [DONE]\n\n";
    assert_eq!(streamed(&(one.clone() + &finish("stop") + done)).await, [text("one")]);
    let unsaid = Ok(Event::CutOff("no_finish_reason".into()));
    assert_eq!(streamed(&(one.clone() + done)).await, [text("one"), unsaid]);
    assert_eq!(streamed(&(one.clone() + &finish("stop"))).await, [text("one")]);
    assert_eq!(streamed(&(one.clone() + &finish("length"))).await, [text("one"), Ok(Event::CutOff("length".into()))]);

    let broken = streamed(&one).await;
    assert_eq!(broken[0], text("one"));
    let error = broken[1].as_ref().unwrap_err();
    assert!(error.code == AssistantErrorCode::Failed && error.message.contains("broke off"), "{error}");

    let lost = lost_after(&one).await;
    assert_eq!((lost.len(), code(&lost)), (2, Some(AssistantErrorCode::Failed)));

    assert_eq!(lost_after(&(one + &finish("stop"))).await, [text("one")]);
}

#[tokio::test]
async fn errors_inside_a_stream_are_told() {
    let one = delta(json!({"content": "one"}));
    for (line, expected) in [
        (
            r#"data: {"error":{"message":"the request exceeds the available context size","code":400}}"#,
            AssistantErrorCode::ContextTooLong,
        ),
        (r#"data: {"error":{"message":"slow down","code":429}}"#, AssistantErrorCode::RateLimited),
        (r#"data: {"object":"error","message":"oops","code":500}"#, AssistantErrorCode::Failed),
        ("event: error\ndata: {\"message\":\"oops\"}", AssistantErrorCode::Failed),
        ("data: {torn", AssistantErrorCode::Failed),
        ("data: \u{0}", AssistantErrorCode::Failed),
    ] {
        let events = streamed(&format!("{one}{line}\n\n{one}")).await;
        assert_eq!((events.len(), code(&events)), (2, Some(expected)), "{line}: {events:?}");
    }
    let not_utf8 = vec![Ok(Bytes::from(one)), Ok(Bytes::from_static(b"data: \xff\xff\n\n"))];
    assert_eq!(code(&played("text/event-stream", not_utf8).await), Some(AssistantErrorCode::Failed));
}

#[tokio::test]
async fn an_event_without_end_is_not_gathered_for_ever() {
    let endless = std::iter::once(Ok(Bytes::from_static(b"data: ")))
        .chain(std::iter::repeat_with(|| Ok(Bytes::from("x".repeat(1000)))).take(50))
        .collect();
    let events = played("text/event-stream", endless).await;
    let error = events[0].as_ref().unwrap_err();
    assert!(error.cause.contains("larger than the limit"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_streamed_is_taken_too() {
    let body = json!({"choices": [{"message": {"role": "assistant", "content": "<think>hm</think>yes",
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}]}, "finish_reason": "length"}],
        "usage": {"total_tokens": 3}});
    let events = played("application/json", vec![Ok(Bytes::from(body.to_string()))]).await;
    let Value::Object(usage) = body["usage"].clone() else { unreachable!() };
    let call = ToolCall { call_id: "c".into(), name: "f".into(), arguments: json!({"a": 1}) };
    assert_eq!(
        events,
        [
            Ok(Event::Reasoning("hm".into())),
            text("yes"),
            Ok(Event::ToolCall(call)),
            Ok(Event::Usage(usage)),
            Ok(Event::CutOff("length".into()))
        ]
    );
    for (kind, body) in [("text/html", "<html>"), ("application/json", "{}"), ("application/json", "{")] {
        let events = played(kind, vec![Ok(Bytes::from(body))]).await;
        assert_eq!(code(&events), Some(AssistantErrorCode::Failed), "{kind} {body}");
    }
}

#[tokio::test]
async fn the_request_is_what_the_protocol_says() {
    let seen: Arc<Mutex<Vec<(HeaderMap, Value)>>> = Arc::default();
    let take = {
        let seen = seen.clone();
        move |headers: HeaderMap, axum::Json(body): axum::Json<Value>| async move {
            seen.lock().unwrap().push((headers, body.clone()));
            if body.get("stream_options").is_some() {
                return (axum::http::StatusCode::BAD_REQUEST, "unknown field stream_options").into_response();
            }
            ([(CONTENT_TYPE, "text/event-stream")], finish("stop")).into_response()
        }
    };
    let server = serve(Router::new().route("/v1/chat/completions", post(take))).await;
    let client = client_with(server.port(), |options| options.key = Secret::new("sk-1"));
    let call = ToolCall { call_id: "c".into(), name: "f".into(), arguments: json!({"a": 1}) };
    let request = Request {
        model: Some("other".into()),
        messages: vec![
            Turn::System("be".into()),
            Turn::User("one".into()),
            Turn::User("two".into()),
            Turn::Assistant { content: "".into(), tool_calls: vec![call] },
            Turn::ToolResult { call_id: "c".into(), content: "r".into() },
            Turn::Assistant { content: "done".into(), tool_calls: vec![] },
        ],
        modes: Modes::default(),
    };
    client.reply(request.clone()).await.unwrap().collect::<Vec<_>>().await;
    client.reply(request).await.unwrap().collect::<Vec<_>>().await;

    let seen = seen.lock().unwrap();
    // The first is refused and repeated without the field; the server's taste is then known.
    assert_eq!(
        seen.iter().map(|(_, body)| body.get("stream_options").is_some()).collect::<Vec<_>>(),
        [true, false, false]
    );
    let (headers, body) = &seen[1];
    assert_eq!(headers["authorization"], "Bearer sk-1");
    assert_eq!(
        body,
        &json!({"model": "other", "stream": true, "messages": [
            {"role": "system", "content": "be"},
            {"role": "user", "content": "one\n\ntwo"},
            {"role": "assistant", "content": "", "tool_calls": [{"id": "c", "type": "function",
                "function": {"name": "f", "arguments": "{\"a\":1}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "r"},
            {"role": "assistant", "content": "done"},
        ]})
    );
}

#[tokio::test]
async fn dropping_the_reply_closes_the_connection() {
    let (gone, noticed) = oneshot::channel::<()>();
    let gone = Arc::new(Mutex::new(Some(gone)));
    let play = move || {
        // Dropped with the body, when the server notices that nobody listens.
        let guard = gone.lock().unwrap().take();
        let endless = streams::once(async { Ok::<_, io::Error>(Bytes::from(delta(json!({"content": "one"})))) })
            .chain(streams::pending())
            .map(move |chunk| {
                let _ = &guard;
                chunk
            });
        async move { ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(endless)) }
    };
    let server = serve(Router::new().route("/v1/chat/completions", post(play))).await;
    let client = client_with(server.port(), |_| {});
    let mut events = client.reply(question()).await.unwrap();
    assert_eq!(events.next().await, Some(text("one")));
    drop(events);
    let noticed = tokio::time::timeout(Duration::from_secs(20), noticed).await;
    assert!(noticed.expect("the server still streams").is_err(), "the guard is dropped, never sent");
}

#[tokio::test]
async fn silence_is_not_waited_for_for_ever() {
    let play = || async {
        let one = streams::once(async { Ok::<_, io::Error>(Bytes::from(delta(json!({"content": "one"})))) });
        ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(one.chain(streams::pending())))
    };
    let server = serve(Router::new().route("/v1/chat/completions", post(play))).await;
    let events = ask(&client_with(server.port(), |options| options.idle_timeout = Duration::from_millis(50))).await;
    assert_eq!(events[0], text("one"));
    assert!(events[1].as_ref().unwrap_err().message.contains("has sent nothing"), "{events:?}");
}

#[tokio::test]
async fn refusals_become_sentences() {
    let port = silent_port().await;
    let client = client_with(port, |_| {});
    for error in [ask(&client).await.remove(0).unwrap_err(), client.status().await.unwrap_err()] {
        assert_eq!(error.code, AssistantErrorCode::Unreachable);
        assert!(error.message.contains(&format!("at 127.0.0.1:{port}. Is it running there?")), "{error}");
    }

    let redirect = || async { (axum::http::StatusCode::FOUND, [("location", "http://192.0.2.1/v1")], "") };
    let server = serve(
        Router::new()
            .route("/v1/chat/completions", post(|| async { (axum::http::StatusCode::UNAUTHORIZED, "who are you?") }))
            .route("/v1/models", get(redirect)),
    )
    .await;
    let client = client_with(server.port(), |_| {});
    let refused = ask(&client).await.remove(0).unwrap_err();
    assert_eq!(refused.code, AssistantErrorCode::Unauthorized);
    assert!(refused.message.contains("VERBATIM_OPENAI_KEY") && !refused.message.contains("who"), "{refused}");
    let elsewhere = client.status().await.unwrap_err();
    assert!(elsewhere.message.contains("another address") && !elsewhere.message.contains("192.0.2.1"), "{elsewhere}");
}

#[tokio::test]
async fn the_status_tells_model_place_and_context() {
    async fn status(models: Value, model: Option<&str>) -> Result<Ready, AssistantError> {
        let router = Router::new()
            .route("/v1/models", get(move || async move { axum::Json(models) }))
            .route("/props", get(|| async { axum::Json(json!({"default_generation_settings": {"n_ctx": 4096}})) }))
            .route(
                "/api/ps",
                get(|| async { axum::Json(json!({"models": [{"name": "q:4b", "context_length": 2048}]})) }),
            );
        let server = serve(router).await;
        client_with(server.port(), |options| options.model = model.map(str::to_owned)).status().await
    }
    let llama = json!({"data": [{"id": "qwen", "owned_by": "llamacpp", "meta": {"n_ctx_train": 32768}}]});
    let expected = Ready {
        model: "qwen".into(),
        place: "llama.cpp on this machine".into(),
        context_tokens: Some(4096),
        note: None,
    };
    assert_eq!(status(llama, None).await, Ok(expected));

    let ollama = json!({"data": [{"id": "all-minilm"}, {"id": "q:4b", "owned_by": "library"}]});
    let ready = status(ollama.clone(), None).await.unwrap();
    assert_eq!((ready.model.as_str(), ready.context_tokens), ("q:4b", None), "the first entry tells the program");
    let ollama = json!({"data": [{"id": "q:4b", "owned_by": "library"}]});
    assert_eq!(status(ollama.clone(), None).await.unwrap().context_tokens, Some(2048));
    assert_eq!(status(ollama, Some("mine")).await.unwrap().model, "mine");

    let none = status(json!({"data": []}), None).await.unwrap_err();
    assert_eq!(none.code, AssistantErrorCode::UnknownModel);
    assert_eq!(status(json!({"hello": 1}), None).await.unwrap_err().code, AssistantErrorCode::Failed);
}

#[tokio::test]
async fn the_status_is_asked_once_and_names_the_models_of_a_wrong_one() {
    let asked: Arc<Mutex<u32>> = Arc::default();
    let count = {
        let asked = asked.clone();
        move || async move {
            *asked.lock().unwrap() += 1;
            r#"{"data":[{"id":"a"},{"id":"b"}]}"#
        }
    };
    let unknown = || async { (axum::http::StatusCode::NOT_FOUND, r#"{"error":{"message":"model 'm' not found"}}"#) };
    let server =
        serve(Router::new().route("/v1/models", get(count)).route("/v1/chat/completions", post(unknown))).await;
    let client = client_with(server.port(), |_| {});
    let all = futures::future::join_all((0..5).map(|_| client.status())).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(*asked.lock().unwrap(), 1);
    let error = ask(&client).await.remove(0).unwrap_err();
    assert!(error.message.contains("It has: a, b."), "{error}");
}

#[tokio::test]
async fn a_server_that_answers_is_asked_nothing_else() {
    let asked: Arc<Mutex<u32>> = Arc::default();
    let count = {
        let asked = asked.clone();
        move || async move {
            *asked.lock().unwrap() += 1;
            r#"{"data":[{"id":"a"}]}"#
        }
    };
    let play = || async {
        let one = streams::once(async { Ok::<_, io::Error>(Bytes::from(delta(json!({"content": "one"})))) });
        ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(one.chain(streams::pending())))
    };
    let server = serve(Router::new().route("/v1/models", get(count)).route("/v1/chat/completions", post(play))).await;
    let client = client_with(server.port(), |options| options.status_fresh = Duration::ZERO);
    client.status().await.unwrap();
    let mut events = client.reply(question()).await.unwrap();
    assert_eq!(events.next().await, Some(text("one")));
    client.status().await.unwrap();
    assert_eq!(*asked.lock().unwrap(), 1);
    drop(events);
    client.status().await.unwrap();
    assert_eq!(*asked.lock().unwrap(), 2);
}

#[tokio::test]
async fn the_reading_is_told_where_it_is_long_and_before_the_answer() {
    let progress = |processed: u64, cache: u64, total: u64| {
        let told = json!({"processed": processed, "cache": cache, "total": total, "time_ms": 1});
        format!("data: {}\n\n", json!({"choices": [], "prompt_progress": told}))
    };
    let queued =
        "data: {\"choices\":[],\"prompt_progress\":{\"total\":9,\"cache\":0,\"processed\":0,\"queued\":2}}\n\n";
    let one = delta(json!({"content": "one"}));
    let lines = [
        queued.to_owned(),
        queued.to_owned(),
        progress(1000, 1000, 2000),
        progress(1250, 1000, 2000),
        progress(1251, 1000, 2000),
        progress(2500, 1000, 2000),
        one.clone(),
        progress(1500, 1000, 2000),
        finish("stop"),
    ];
    let reading = |fraction| Ok(Event::Progress(Phase::ReadingContext, Some(fraction)));
    let waiting = Ok(Event::Progress(Phase::Waiting, None));
    assert_eq!(streamed(&lines.concat()).await, [waiting, reading(0.0), reading(0.25), reading(1.0), text("one")]);
    for short in [progress(10, 1900, 2000), progress(0, 0, 0), progress(100, 200, 100)] {
        assert_eq!(streamed(&(short + &one + &finish("stop"))).await, [text("one")]);
    }
}

#[tokio::test]
async fn only_servers_that_know_it_are_asked_how_far_they_have_read() {
    for (owner, option, expected) in [("llamacpp", false, true), ("library", false, false), ("library", true, true)] {
        let seen: Arc<Mutex<Option<Value>>> = Arc::default();
        let take = {
            let seen = seen.clone();
            move |axum::Json(body): axum::Json<Value>| async move {
                *seen.lock().unwrap() = Some(body);
                ([(CONTENT_TYPE, "text/event-stream")], finish("stop"))
            }
        };
        let models = move || async move { axum::Json(json!({"data": [{"id": "m", "owned_by": owner}]})) };
        let router = Router::new().route("/v1/chat/completions", post(take)).route("/v1/models", get(models));
        let server = serve(router).await;
        let client = client_with(server.port(), |options| options.return_progress = option);
        client.status().await.unwrap();
        ask(&client).await;
        let asked = seen.lock().unwrap().take().unwrap();
        assert_eq!(asked.get("return_progress").is_some(), expected, "{owner} {option}");
    }
}
