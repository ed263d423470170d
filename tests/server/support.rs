//! A server in this process: the real router over a real store in a folder that goes away with it.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::Response;
use clap::Parser;
use http_body_util::BodyExt;
use leptos::prelude::LeptosOptions;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use tower::ServiceExt;
use verbatim::assistant::Assistant;
use verbatim::assistant::scripted::Scripted;
use verbatim::server;
use verbatim::server::config::CommandLine;
use verbatim::server::security::BodyLimit;
use verbatim::server::state::AppState;
use verbatim::store::FileStore;

/// The largest body that the servers of these tests take.
pub const BODY_LIMIT: usize = 256 * 1024;

pub struct TestApp {
    router: Router,
    _data: TempDir,
}

impl TestApp {
    /// A server with the scripted assistant over an empty data directory.
    pub fn new() -> Self {
        Self::over(TempDir::new().unwrap())
    }

    /// A server with the scripted assistant over what a data directory holds.
    pub fn over(data: TempDir) -> Self {
        Self::with_assistant(data, Arc::new(Scripted))
    }

    pub fn with_assistant(data: TempDir, assistant: Arc<dyn Assistant>) -> Self {
        let store = Arc::new(FileStore::open(data.path()).unwrap());
        assert!(store.agree(std::time::Duration::from_secs(60)), "the index was not built");
        let options = CommandLine::parse_from(["verbatim"]).serve;
        let leptos = LeptosOptions::builder().output_name("verbatim").site_root("no-site").build();
        let state = AppState::new(store, assistant, leptos, &options);
        let router = server::router(state, BodyLimit::of_bytes(BODY_LIMIT));
        Self { router, _data: data }
    }

    /// The same data directory after a restart.
    pub fn restarted(self) -> Self {
        let Self { router, _data: data } = self;
        drop(router);
        // A reply that ended just now may still hold the store.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while FileStore::open(data.path()).is_err() {
            assert!(std::time::Instant::now() < deadline, "the store was not let go");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Self::over(data)
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        self._data.path()
    }

    /// Sends any request.
    pub async fn send(&self, request: Request<Body>) -> Response {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Posts JSON as `curl` would.
    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.post_text(path, body.to_string()).await
    }

    /// Posts JSON and takes the answer, which must be a success.
    pub async fn ok(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    /// Posts a text that may be no JSON.
    pub async fn post_text(&self, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let response = self.send(post_request(path, body)).await;
        let status = response.status();
        let text = text(response).await;
        let value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path} answered no JSON: {text:?}"));
        (status, value)
    }

    /// Posts JSON and reads the lines of the answer.
    pub async fn lines(&self, path: &str, body: Value) -> Vec<Value> {
        let response = self.send(post_request(path, body.to_string())).await;
        assert_eq!(response.status(), StatusCode::OK);
        text(response).await.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub async fn get(&self, path: &str) -> Response {
        let request = Request::builder().uri(path).header(header::HOST, "127.0.0.1:3000");
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// Begins a chat and returns its id.
    pub async fn start(&self) -> String {
        let answer = self.ok("/api/sessions/start", serde_json::json!({"user_name":"User"})).await;
        answer["session_id"].as_str().unwrap().to_owned()
    }
}

pub fn post_request(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, "127.0.0.1:3000")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .unwrap()
}

pub async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Puts the older system's two sessions into a data directory by hand.
pub fn put_fixtures(data: &Path) {
    let day = data.join("sessions/2026-02-09");
    std::fs::create_dir_all(&day).unwrap();
    for (name, id) in [("stored-chat.json", "abc123def456"), ("stored-voice.json", "def67890")] {
        std::fs::copy(fixture_path(name), day.join(format!("{id}.json"))).unwrap();
    }
}

pub fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(folder).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { find(&path, name) } else { (entry.file_name() == name).then_some(path) }
    })
}

/// Fails unless every field of `expected` is in `actual` with the same value, lists in the same order.
pub fn assert_contains(actual: &Value, expected: &Value, place: &str) {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            for (key, value) in expected {
                let found = actual.get(key).unwrap_or_else(|| panic!("{place}.{key} is missing"));
                assert_contains(found, value, &format!("{place}.{key}"));
            }
        }
        (Value::Array(actual), Value::Array(expected)) => {
            assert_eq!(actual.len(), expected.len(), "{place}");
            for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
                assert_contains(actual, expected, &format!("{place}[{index}]"));
            }
        }
        _ => assert_eq!(actual, expected, "{place}"),
    }
}
