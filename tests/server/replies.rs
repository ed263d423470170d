//! The reply stream over HTTP.

use crate::support::TestApp;
use axum::http::StatusCode;
use serde_json::{Value, json};

fn kinds(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_reply_is_streamed_and_kept() {
    let app = TestApp::new();
    let id = app.start().await;
    let start = json!({"session_id":id,"message":{"id":"q1","content":"echo Hello *you*","parent_id":null},
        "modes":{"commander":true,"webSearch":false}});
    let lines = app.lines("/api/replies/start", start.clone()).await;
    assert_eq!(lines[0]["type"], "started");
    assert_eq!(lines[0]["model"], "scripted");
    let text: String =
        lines.iter().filter(|line| line["type"] == "delta").map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(text, "Hello *you*");
    let done = lines.last().unwrap();
    assert_eq!(done["type"], "done");
    assert_eq!(done["message"]["id"], lines[0]["message_id"]);
    assert_eq!(done["message"]["parent_id"], "q1");
    let seqs: Vec<u64> = lines[1..].iter().map(|line| line["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "{seqs:?}");

    let loaded = app.ok("/api/sessions/load", json!({"session_id":id})).await;
    assert_eq!(loaded["messages"][1]["content"], "Hello *you*");
    assert_eq!(loaded["messages"][1]["modes"]["commander"], true);
    assert_eq!(loaded["revision"], done["revision"]);
    assert_eq!(loaded["running"], Value::Null);

    // The same start again adds nothing and tells the same.
    let again = app.lines("/api/replies/start", start).await;
    assert_eq!(again.last().unwrap()["message"], done["message"]);
    assert_eq!(app.ok("/api/sessions/load", json!({"session_id":id})).await["stats"]["total_messages"], 2);

    // A regeneration is a sibling.
    let lines = app.lines("/api/replies/start", json!({"session_id":id,"message":{"parent_id":"q1"}})).await;
    assert_eq!(kinds(&lines).last(), Some(&"done"));
    let loaded = app.ok("/api/sessions/load", json!({"session_id":id})).await;
    assert_eq!(loaded["branches"][0]["id"], done["message"]["id"]);
}

#[tokio::test]
async fn a_failed_reply_keeps_its_text_and_says_so() {
    let app = TestApp::new();
    let id = app.start().await;
    let lines = app.lines("/api/replies/start", json!({"session_id":id,"message":{"id":"q","content":"fail"}})).await;
    let failed = lines.last().unwrap();
    assert_eq!(failed["type"], "failed");
    assert!(failed["message"].is_string());
    let loaded = app.ok("/api/sessions/load", json!({"session_id":id})).await;
    assert_eq!(loaded["stats"]["errors"], 1);
    assert!(!loaded["messages"][1]["content"].as_str().unwrap().is_empty());
    assert_eq!(loaded["messages"][1]["metadata"]["error"], failed["code"]);
}

#[tokio::test]
async fn bad_requests_are_explained() {
    let app = TestApp::new();
    let id = app.start().await;
    for (path, body, status) in [
        ("start", json!({"session_id":"gone","message":{"id":"q","content":"x"}}), StatusCode::NOT_FOUND),
        ("start", json!({"session_id":"../x","message":{"id":"q","content":"x"}}), StatusCode::BAD_REQUEST),
        ("start", json!({"session_id":id,"message":{"content":"x"}}), StatusCode::BAD_REQUEST),
        ("start", json!({"session_id":id,"message":{"parent_id":"gone"}}), StatusCode::BAD_REQUEST),
        ("start", json!({"session_id":id}), StatusCode::BAD_REQUEST),
        ("resume", json!({"reply_id":"gone"}), StatusCode::NOT_FOUND),
        ("resume", json!({}), StatusCode::BAD_REQUEST),
        ("stop", json!({"reply_id":"gone"}), StatusCode::NOT_FOUND),
    ] {
        let (got, answer) = app.post(&format!("/api/replies/{path}"), body.clone()).await;
        assert_eq!(got, status, "{path} {body}: {answer}");
        assert!(answer["error"]["message"].is_string());
    }
}
