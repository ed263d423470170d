//! What a server tells of itself.

use super::*;

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
        waits_for: None,
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
async fn with_a_named_model_a_failed_listing_blocks_nothing() {
    use axum::http::StatusCode;
    for (status, body) in [
        (StatusCode::BAD_REQUEST, ""),
        (StatusCode::UNAUTHORIZED, "who are you?"),
        (StatusCode::FORBIDDEN, "no"),
        (StatusCode::NOT_FOUND, ""),
        (StatusCode::INTERNAL_SERVER_ERROR, "oops"),
        (StatusCode::SERVICE_UNAVAILABLE, "Loading model"),
        (StatusCode::FOUND, ""),
        (StatusCode::OK, "<html>a page</html>"),
        (StatusCode::OK, ""),
        (StatusCode::OK, "{}"),
        (StatusCode::OK, r#"{"models":[{"name":"other"}]}"#),
        (StatusCode::OK, "\u{feff}{\"data\":[]}"),
    ] {
        let list = move || async move { (status, body) };
        let answer = || async { delta(json!({"content": "ok"})) + &finish("stop") };
        let router = Router::new().route("/v1/models", get(list)).route("/v1/chat/completions", post(answer));
        let server = serve(router).await;
        let client = client_with(server.port(), |_| {});
        assert_eq!(client.status().await.unwrap().model, "m", "{status} {body}");
        assert_eq!(ask(&client).await, [text("ok")], "{status} {body}");
    }
    // Also where the listing never comes.
    let list = || async { std::future::pending::<()>().await };
    let server = serve(Router::new().route("/v1/models", get(list))).await;
    let client = client_with(server.port(), |options| options.status_timeout = Duration::from_millis(50));
    assert_eq!(client.status().await.unwrap().model, "m");
}

#[tokio::test]
async fn a_long_name_is_shown_cut_and_asked_for_whole() {
    let name = format!("evil\n\u{1b}[2J{}", "x".repeat(1_000_000));
    let listing = json!({"data": [{"id": name}]});
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let take = {
        let seen = seen.clone();
        move |body: String| async move {
            let body: Value = serde_json::from_str(&body).unwrap();
            seen.lock().unwrap().push(body["model"].as_str().unwrap().to_owned());
            delta(json!({"content": "ok"})) + &finish("stop")
        }
    };
    let router = Router::new()
        .route("/v1/models", get(move || async move { axum::Json(listing) }))
        .route("/v1/chat/completions", post(take));
    let server = serve(router).await;
    let client = client_with(server.port(), |options| options.model = None);
    let shown = client.status().await.unwrap().model;
    assert!(shown.starts_with("evil\\n\\u{1b}[2Jxxx") && shown.len() < 300, "{shown}");
    let request = Request { model: Some(shown), ..question() };
    for request in [question(), request] {
        let events: Events = client.reply(request).await.unwrap().collect().await;
        assert_eq!(events, [text("ok")]);
    }
    assert_eq!(*seen.lock().unwrap(), [name.clone(), name]);
}

#[tokio::test]
async fn the_protocol_is_found_wherever_the_address_may_mean() {
    let answer =
        || async { ([(CONTENT_TYPE, "text/event-stream")], delta(json!({"content": "one"})) + &finish("stop")) };
    let listing = || async { axum::Json(json!({"data": [{"id": "m"}]})) };
    for (given, base) in [("", "/v1"), ("", ""), ("/api", "/api/v1"), ("/api", "/api"), ("/api", "/v1")] {
        for is_listed in [true, false] {
            let mut router = Router::new().route(&format!("{base}/chat/completions"), post(answer));
            if is_listed {
                router = router.route(&format!("{base}/models"), get(listing));
            }
            let server = serve(router).await;
            let client = client_with(server.port(), |options| {
                options.endpoint = format!("http://127.0.0.1:{}{given}", server.port()).parse().unwrap();
            });
            client.status().await.unwrap();
            assert_eq!(ask(&client).await, [text("one")], "{given} {base} {is_listed}");
        }
    }
    // Another website beside it is none, whatever it says.
    let nothing = || async {
        (axum::http::StatusCode::NOT_FOUND, "{\"error\":{\"message\":\"No endpoints found for x/y:free.\"}}")
    };
    for page in [
        (axum::http::StatusCode::NOT_FOUND, "<html>Models</html>"),
        (axum::http::StatusCode::FORBIDDEN, "no"),
        (axum::http::StatusCode::OK, "<html>Welcome</html>"),
    ] {
        let site = move || async move { ([(CONTENT_TYPE, "text/html")], page).into_response() };
        let free = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let is_free = free.clone();
        let asked = move || async move {
            if is_free.load(std::sync::atomic::Ordering::Relaxed) {
                answer().await.into_response()
            } else {
                nothing().await.into_response()
            }
        };
        let router = Router::new().route("/api/v1/chat/completions", post(asked)).fallback(site);
        let server = serve(router).await;
        let client = client_with(server.port(), |options| {
            options.endpoint = format!("http://127.0.0.1:{}/api", server.port()).parse().unwrap();
        });
        assert_eq!(code(&ask(&client).await), Some(AssistantErrorCode::Failed));
        free.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(ask(&client).await, [text("one")]);
    }
    // Nor is there one where the version was given.
    let server = serve(Router::new().route("/chat/completions", post(answer))).await;
    let client = client_with(server.port(), |options| {
        options.endpoint = format!("http://127.0.0.1:{}/v1", server.port()).parse().unwrap();
    });
    assert_eq!(code(&ask(&client).await), Some(AssistantErrorCode::Failed));
    // A server that is there and lacks the model is no other place.
    let lacks = || async { (axum::http::StatusCode::NOT_FOUND, "model 'm' not found") };
    let server =
        serve(Router::new().route("/v1/chat/completions", post(lacks)).route("/chat/completions", post(answer))).await;
    assert_eq!(code(&ask(&client_with(server.port(), |_| {})).await), Some(AssistantErrorCode::UnknownModel));
}
