//! What is asked, and what is made of a refusal.

use super::*;

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
    let client = client_with(server.port(), |options| options.model = None);
    let refused = ask(&client_with(server.port(), |_| {})).await.remove(0).unwrap_err();
    assert_eq!(refused.code, AssistantErrorCode::Unauthorized);
    assert!(refused.message.contains("VERBATIM_OPENAI_KEY") && !refused.message.contains("who"), "{refused}");
    let elsewhere = client.status().await.unwrap_err();
    assert!(elsewhere.message.contains("another address") && !elsewhere.message.contains("192.0.2.1"), "{elsewhere}");
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

/// A server that refuses what `refuses` names, and else says "ok". What it was asked is noted.
async fn picky(
    refuses: impl Fn(&Value) -> Option<axum::response::Response> + Clone + Send + Sync + 'static,
) -> (TestServer, Arc<Mutex<Vec<Value>>>) {
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let take = {
        let seen = seen.clone();
        move |axum::Json(body): axum::Json<Value>| async move {
            seen.lock().unwrap().push(body.clone());
            refuses(&body).unwrap_or_else(|| (delta(json!({"content": "ok"})) + &finish("stop")).into_response())
        }
    };
    (serve(Router::new().route("/v1/chat/completions", post(take))).await, seen)
}

fn has_system(body: &Value) -> bool {
    body["messages"].as_array().unwrap().iter().any(|message| message["role"] == "system")
}

#[tokio::test]
async fn a_model_without_instructions_gets_them_in_the_first_turn() {
    use axum::http::StatusCode;
    for (status, refusal) in [
        (StatusCode::BAD_REQUEST, r#"{"error":{"message":"System role not supported"}}"#),
        (StatusCode::INTERNAL_SERVER_ERROR, "Jinja Exception: System role not supported"),
        (StatusCode::UNPROCESSABLE_ENTITY, r#"{"detail":[{"loc":["body","messages",0,"role"]}]}"#),
        (
            StatusCode::OK,
            "event: error\ndata: {\"error\":{\"message\":\"Only user and assistant roles are supported!\"}}\n\n",
        ),
        (StatusCode::OK, r#"{"error":"System role not supported"}"#),
    ] {
        let (server, seen) = picky(move |body| has_system(body).then(|| (status, refusal).into_response())).await;
        let client = client_with(server.port(), |_| {});
        let request = |model: Option<&str>| Request {
            model: model.map(str::to_owned),
            messages: vec![Turn::System("be kind".into()), Turn::User("hi".into())],
            modes: Modes::default(),
        };
        for (model, asked) in [(None, 2), (None, 1), (Some("other"), 2), (Some("other"), 1)] {
            seen.lock().unwrap().clear();
            let events: Events = client.reply(request(model)).await.unwrap().collect().await;
            assert_eq!(events, [text("ok")], "{refusal}");
            // What a model does not take is remembered.
            let seen = seen.lock().unwrap();
            assert_eq!(seen.len(), asked, "{refusal} {model:?}");
            let messages = &seen.last().unwrap()["messages"];
            assert_eq!(messages, &json!([{"role": "user", "content": "be kind\n\nhi"}]), "{refusal}");
        }
    }
}

#[tokio::test]
async fn what_is_refused_in_every_way_is_told() {
    use axum::http::StatusCode;
    let (server, seen) = picky(|_| Some((StatusCode::BAD_REQUEST, "this role is not for you").into_response())).await;
    let error = ask(&client_with(server.port(), |_| {})).await.remove(0).unwrap_err();
    assert!(error.message.contains("refused the request") && error.cause.contains("this role"), "{error}");
    assert_eq!(seen.lock().unwrap().len(), 2);
    // Neither where the refusal stands in place of an answer; and nothing is learned from it.
    let refusal = "data: {\"error\":\"System role not supported\"}\n\n";
    let (server, seen) = picky(move |_| Some(refusal.into_response())).await;
    let client = client_with(server.port(), |_| {});
    for _ in 0..2 {
        let request = Request {
            model: None,
            messages: vec![Turn::System("be kind".into()), Turn::User("hi".into())],
            modes: Modes::default(),
        };
        seen.lock().unwrap().clear();
        let events: Events = client.reply(request).await.unwrap().collect().await;
        assert!(events.len() == 1 && events[0].is_err(), "{events:?}");
        assert_eq!(seen.lock().unwrap().iter().map(has_system).collect::<Vec<_>>(), [true, false]);
    }
    // And after words it is not asked again.
    let broken = delta(json!({"content": "one"})) + "data: {\"error\":\"system role\"}\n\n";
    let (server, seen) = picky(move |_| Some(broken.clone().into_response())).await;
    let events = ask(&client_with(server.port(), |_| {})).await;
    assert_eq!((&events[0], events.len(), seen.lock().unwrap().len()), (&text("one"), 2, 1));
}

#[tokio::test]
async fn a_server_that_knows_no_extra_fields_is_asked_without_them() {
    use axum::http::StatusCode;
    let (server, seen) = picky(|body| {
        let is_extra = body.get("stream_options").is_some() || body.get("return_progress").is_some();
        is_extra.then(|| (StatusCode::UNPROCESSABLE_ENTITY, "extra fields not permitted").into_response())
    })
    .await;
    let client = client_with(server.port(), |options| options.return_progress = true);
    assert_eq!((ask(&client).await, ask(&client).await), (vec![text("ok")], vec![text("ok")]));
    assert_eq!(seen.lock().unwrap().len(), 3);

    let (server, seen) = picky(|body| {
        let answer = json!({"choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}).to_string();
        Some(match body["stream"] == json!(true) {
            true => (StatusCode::BAD_REQUEST, "'stream' does not support true with this model").into_response(),
            false => answer.into_response(),
        })
    })
    .await;
    let client = client_with(server.port(), |_| {});
    assert_eq!((ask(&client).await, ask(&client).await), (vec![text("ok")], vec![text("ok")]));
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn causes_are_one_line_and_not_long() {
    use axum::http::StatusCode;
    let evil = "x\n2026-01-01 ERROR forged\u{1b}[2J\u{202e}".to_owned() + &"y".repeat(10_000);
    let (server, _) = picky(move |_| Some((StatusCode::BAD_REQUEST, evil.clone()).into_response())).await;
    let error = ask(&client_with(server.port(), |_| {})).await.remove(0).unwrap_err();
    assert!(!error.cause.contains(|c: char| c.is_control() || c == '\u{202e}'), "{:?}", error.cause);
    assert!(error.cause.contains("x\\n2026-01-01 ERROR forged\\u{1b}[2J") && error.cause.len() < 1_000);
}
