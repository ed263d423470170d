//! Who may ask, and what answers forbid.

use crate::support::{TestApp, post_request, text};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use serde_json::json;
use std::sync::Arc;

async fn with(app: &TestApp, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::builder().method("POST").uri("/api/sessions/list");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    app.send(request.body(Body::from("{}")).unwrap()).await
}

#[tokio::test]
async fn other_hosts_are_refused() {
    let app = TestApp::new();
    for host in ["evil.example", "evil.example:3000", "127.0.0.1.evil.example:3000", "192.168.0.1:3000", ""] {
        assert_eq!(with(&app, &[("host", host)]).await.status(), StatusCode::FORBIDDEN, "{host}");
        let page = Request::builder().uri("/").header(header::HOST, host).body(Body::empty()).unwrap();
        assert_eq!(app.send(page).await.status(), StatusCode::FORBIDDEN, "{host}");
    }
    assert_eq!(with(&app, &[]).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(with(&app, &[("host", "localhost:1"), ("host", "evil.example")]).await.status(), StatusCode::FORBIDDEN);
    for host in ["127.0.0.1:3000", "localhost:3000", "[::1]:3000"] {
        assert_eq!(with(&app, &[("host", host)]).await.status(), StatusCode::OK, "{host}");
    }
}

#[tokio::test]
async fn posts_of_other_sites_are_refused() {
    let app = TestApp::new();
    let host = ("host", "127.0.0.1:3000");
    for bad in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:8080"),
        ("origin", "https://127.0.0.1:3000"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        let response = with(&app, &[host, bad]).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{bad:?}");
        assert!(text(response).await.contains("\"forbidden\""));
    }
    for good in [("origin", "http://127.0.0.1:3000"), ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none")] {
        assert_eq!(with(&app, &[host, good]).await.status(), StatusCode::OK, "{good:?}");
    }
}

#[tokio::test]
async fn every_answer_forbids_what_is_not_needed() {
    let app = TestApp::new();
    let refused = app.send(post_request("/api/nothing", "{}")).await;
    let foreign = Request::builder().uri("/").header(header::HOST, "evil.example").body(Body::empty()).unwrap();
    for response in
        [app.get("/").await, app.get("/no/such/page").await, app.get("/health").await, refused, app.send(foreign).await]
    {
        let headers = response.headers();
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["x-frame-options"], "DENY");
        assert_eq!(headers["referrer-policy"], "same-origin");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe-inline"), "{policy}");
    }
}

#[tokio::test]
async fn a_page_allows_its_own_scripts_by_a_fresh_nonce() {
    let app = TestApp::new();
    let mut nonces = Vec::new();
    for _ in 0..2 {
        let response = app.get("/").await;
        assert_eq!(response.status(), StatusCode::OK);
        let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
        let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
        let html = text(response).await;
        let scripts = html.matches("<script").count();
        assert!(scripts > 0);
        for script in html.split("<script").skip(1) {
            let tag = script.split('>').next().unwrap();
            assert!(tag.contains(&format!("nonce=\"{nonce}\"")) || tag.contains("src=\"/"), "{tag}");
        }
        assert!(!html.contains(" style=\""), "inline styles are not allowed by the policy");
        nonces.push(nonce);
    }
    assert_ne!(nonces[0], nonces[1]);
}

#[tokio::test]
async fn what_stands_in_a_session_or_an_address_is_never_markup() {
    let app = TestApp::new();
    let id = app.start().await;
    let evil = "</title></script><script>alert(1)</script><img src=x onerror=alert(1)>";
    let message = json!({"id":"m","role":"user","content":evil});
    let reply = json!({"id":"n","role":"assistant","content":format!("{evil} [x](javascript:alert(1)) 🛠️ t(<b>)"),
        "metadata":{"model":evil,"modes":{"commander":true}}});
    let save =
        json!({"session_id":id,"user_name":evil,"metadata":{"title":evil,"tags":[evil]},"messages":[message, reply]});
    app.ok("/api/sessions/save", save).await;
    for path in [
        format!("/chat/{id}"),
        "/sessions".into(),
        format!("/sessions/{id}"),
        "/".into(),
        "/%3Cscript%3Ealert(1)%3C/script%3E".into(),
        "/chat/%3Cimg%20src=x%20onerror=alert(1)%3E".into(),
    ] {
        let html = text(app.get(&path).await).await;
        for markup in ["<script>alert", "<img src=x"] {
            let found = html
                .find(markup)
                .map(|at| html[..at].chars().rev().take(200).collect::<String>().chars().rev().collect::<String>());
            assert_eq!(found, None, "{path} holds {markup}");
        }
        assert!(!html.contains("href=\"javascript:"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pages_made_at_the_same_time_have_each_its_own_title() {
    let app = Arc::new(TestApp::new());
    let mut ids = Vec::new();
    for number in 0..8 {
        let id = app.start().await;
        app.ok("/api/sessions/save", json!({"session_id":id,"metadata":{"title":format!("Talk {number}")}})).await;
        ids.push(id);
    }
    let readers: Vec<_> = (0..ids.len())
        .map(|number| {
            let (app, path) = (app.clone(), format!("/chat/{}", ids[number]));
            tokio::spawn(async move {
                for _ in 0..100 {
                    let page = text(app.get(&path).await).await;
                    assert!(page.contains(&format!("<title>Talk {number} · Verbatim</title>")), "{page}");
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await.unwrap();
    }
}
