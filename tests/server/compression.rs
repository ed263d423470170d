//! What is sent compressed, to whom, and what never is.

use crate::support::{TestApp, post_request, text};
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use axum::response::Response;
use futures::StreamExt;
use serde_json::json;

async fn get(app: &TestApp, method: &str, path: &str, accepts: &str) -> Response {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:3000");
    app.send(request.header(header::ACCEPT_ENCODING, accepts).body(Body::empty()).unwrap()).await
}

async fn post(app: &TestApp, path: &str, body: serde_json::Value) -> Response {
    let mut request = post_request(path, body.to_string());
    request.headers_mut().insert(header::ACCEPT_ENCODING, header::HeaderValue::from_static("gzip, deflate, br"));
    app.send(request).await
}

fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip")
}

async fn length(response: Response) -> usize {
    let mut body = response.into_body().into_data_stream();
    let mut length = 0;
    while let Some(piece) = body.next().await {
        length += piece.unwrap().len();
    }
    length
}

/// A server with a session of so many long messages.
async fn app_with(messages: usize) -> (TestApp, String) {
    let app = TestApp::new();
    let id = app.start().await;
    let said = |n: usize| json!({"id":format!("m{n}"),"role":"user","content":format!("This is what was said as number {n}. ").repeat(20)});
    for first in (0..messages).step_by(100) {
        let part: Vec<_> = (first..messages.min(first + 100)).map(said).collect();
        app.ok("/api/sessions/save", json!({"session_id":id,"messages":part})).await;
    }
    (app, id)
}

#[tokio::test]
async fn pages_and_answers_are_compressed_for_whoever_asks() {
    let (app, id) = app_with(60).await;
    for path in ["/".to_owned(), "/sessions".into(), format!("/chat/{id}"), "/no/such/page".into()] {
        let plain = get(&app, "GET", &path, "identity").await;
        assert!(!is_compressed(plain.headers()), "{path}");
        assert!(plain.headers()[header::VARY].to_str().unwrap().contains("accept-encoding"), "{path}");
        let small = get(&app, "GET", &path, "gzip, deflate, br, zstd").await;
        assert!(is_compressed(small.headers()), "{path}");
        assert!(small.headers()[header::VARY].to_str().unwrap().contains("accept-encoding"), "{path}");
        assert_eq!(small.headers().get(header::CONTENT_LENGTH), None);
        assert_eq!(small.headers()["x-content-type-options"], "nosniff");
        let (plain, small) = (text(plain).await.len(), length(small).await);
        assert!(small * 2 < plain, "{path}: {small} of {plain}");
        let head = get(&app, "HEAD", &path, "gzip").await;
        assert!(head.status().as_u16() < 500, "{path}");
        assert_eq!(length(head).await, 0);
    }
    for (path, body) in
        [("/api/sessions/load", json!({"session_id":id})), ("/api/sessions/export", json!({"session_id":id}))]
    {
        let response = post(&app, path, body).await;
        assert!(is_compressed(response.headers()), "{path}");
    }
}

#[tokio::test]
async fn small_answers_replies_long_exports_and_errors_are_sent_as_they_are() {
    let (app, id) = app_with(60).await;
    let start = json!({"session_id":id,"message":{"id":"q","content":"stream 500"}});
    for (path, body) in [
        ("/api/sessions/start", json!({})),
        ("/api/sessions/load", json!({"session_id":"none"})),
        ("/api/replies/start", start),
        ("/api/sessions/export", json!({"session_ids":[id]})),
    ] {
        let response = post(&app, path, body).await;
        assert!(!is_compressed(response.headers()), "{path}");
        assert!(
            serde_json::from_str::<serde_json::Value>(text(response).await.lines().next().unwrap()).is_ok()
                || path.ends_with("export")
        );
    }
    let health = get(&app, "GET", "/health", "gzip").await;
    assert!(!is_compressed(health.headers()));
}
