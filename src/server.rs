//! The server: one readable table of routes, the security layers around it, static files and shutdown.

mod assistant;
pub mod compression;
pub mod config;
pub mod connections;
pub mod errors;
pub mod json;
pub mod log;
mod memory;
pub mod pages;
pub mod routes;
pub mod security;
pub mod state;

use crate::app::{App, shell};
use crate::store::{FileStore, SessionStore, StoreError, StoreOptions};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use config::ServeOptions;
use leptos::prelude::*;
use leptos_axum::{AxumRouteListing, LeptosRoutes, ResponseOptions, generate_route_list};
use security::BodyLimit;
use serde_json::{Value, json};
use state::AppState;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::net::TcpListener;

/// How long open connections may take to end after the running replies have been kept.
const DRAIN_TIME: Duration = Duration::from_millis(500);

/// How long a session to which nobody saves is kept in memory, where there is room.
const IDLE_TIME: Duration = Duration::from_secs(40);

/// The name of the pages' script and style files.
const OUTPUT_NAME: &str = "verbatim";

/// Opens the store, recovers what a killed server left behind, and serves until a signal comes.
///
/// # Errors
/// One sentence for the person who started it.
pub async fn serve(options: ServeOptions) -> Result<(), String> {
    let site = site_dir(options.site_dir.as_deref())?;
    let data_dir = options.data_dir.clone();
    let store_options = StoreOptions { largest_file: config::bytes_of_mib(options.max_session_file_mib) };
    let store = Arc::new(
        tokio::task::spawn_blocking(move || FileStore::open_with(&data_dir, store_options))
            .await
            .map_err(|error| format!("The data directory could not be opened: {error}."))?
            .map_err(|error| match error {
                StoreError::Unwritable(sentence)
                | StoreError::Unreadable(sentence)
                | StoreError::ReadOnly(sentence) => sentence,
                other => other.to_string(),
            })?,
    );
    let assistant = assistant::named_by(&options)?;
    tokio::spawn({
        let store = FileStore::clone(&store);
        async move {
            loop {
                tokio::time::sleep(IDLE_TIME / 4).await;
                store.forget_idle(IDLE_TIME);
                // A failure is a panic, which it has none of, or the end of the server.
                let _ = tokio::task::spawn_blocking(memory::give_back).await;
            }
        }
    });
    let listener = TcpListener::bind(options.addr).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "Port {} is taken by another program. Stop that one, or choose another port with --addr {}:PORT.",
            options.addr.port(),
            options.addr.ip()
        ),
        _ => format!("Cannot listen on {}: {error}.", options.addr),
    })?;
    let addr = listener.local_addr().map_err(|error| format!("Cannot listen on {}: {error}.", options.addr))?;
    let state = AppState::new(store.clone(), assistant.clone(), leptos_options(&site, addr), &options);
    let replies = state.replies.clone();
    let recovered = replies.recover().await.map_err(|error| error.to_string())?;
    if recovered > 0 {
        tracing::info!(recovered, "kept what replies had when the server ended the last time");
    }
    let app = router(state, BodyLimit::of_mib(options.max_body_mib));
    let limit = connections::limit();
    tracing::debug!(connections = limit, "as many connections as fit");
    println!("Verbatim is ready: http://{addr}");

    let (stopped, stop) = tokio::sync::watch::channel(false);
    let stopping = async {
        shutdown_signal().await;
        tracing::info!("stopping: keeping what running replies have so far");
        replies.shutdown().await;
        assistant.close().await;
        store.close().await;
        stopped.send_replace(true);
        tokio::time::sleep(DRAIN_TIME).await;
    };
    // The server ends before that where all answers have.
    tokio::select! {
        () = connections::serve(listener, app, limit, stop) => {}
        () = stopping => {}
    }
    Ok(())
}

/// The pages' addresses. They are made once in a process: meanwhile no page's resources load, and one that asks then waits for ever.
static PAGES: LazyLock<Vec<AxumRouteListing>> = LazyLock::new(|| generate_route_list(App));

/// The table of routes.
pub fn router(state: AppState, limit: BodyLimit) -> Router {
    let page_context = page_context(state.clone());
    let shell = |options: LeptosOptions| move || shell(options.clone());
    let api = Router::new()
        .route(security::EXPORT, post(routes::export::export))
        .route("/api/replies/start", post(routes::replies::start))
        .route("/api/replies/resume", post(routes::replies::resume))
        .route("/api/replies/stop", post(routes::replies::stop));
    let pages = Router::new()
        .leptos_routes_with_context(&state, PAGES.clone(), page_context.clone(), shell(state.leptos_options.clone()))
        .route("/health", get(health))
        .fallback(leptos_axum::file_and_error_handler_with_context::<AppState, _>(page_context, crate::app::shell))
        .layer(from_fn(pages::to_the_end));
    let app = Router::new()
        .merge(api)
        .route("/api/{*rest}", any(errors::unknown_api_address))
        .merge(pages)
        .layer(from_fn_with_state(HashedFiles(state.leptos_options.hash_files), cache_policy))
        // What extractors take by default is less than our own limit, which is kept where bodies are read.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(limit, security::bounded_body))
        .layer(from_fn(errors::uniform_errors))
        .with_state(state);
    // Around the table, not in it: what asks for no path of ours is refused before a route is looked for.
    Router::new().fallback_service(app).layer(compression::layer()).layer(from_fn(security::guard))
}

/// What server functions and pages find in their context; a page gets its policy with its nonce.
fn page_context(state: AppState) -> impl Fn() + Clone + Send + Sync + 'static {
    move || {
        provide_context(state.clone());
        provide_context(state.page_settings);
        if let (Some(nonce), Some(response)) = (leptos::nonce::use_nonce(), use_context::<ResponseOptions>())
            && let Ok(policy) = HeaderValue::from_str(&security::page_policy(&nonce))
        {
            response.insert_header(CONTENT_SECURITY_POLICY, policy);
            response.insert_header(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
}

/// Says that the server lives and what it is doing.
async fn health(State(state): State<AppState>) -> Json<Value> {
    let health = state.sessions.health().await;
    let assistant = match state.replies.assistant_status().await {
        Ok(ready) => ready.model,
        Err(error) => error.code.as_str().to_owned(),
    };
    let index = health.index.as_str();
    Json(json!({
        "status": "ok",
        "sessions": health.sessions,
        "unreadable": health.unreadable,
        "writable": health.writable,
        "index": index,
        "assistant": assistant,
    }))
}

/// Says how long an answer may be kept. A file whose name holds a hash of its content never changes.
async fn cache_policy(State(HashedFiles(hashed)): State<HashedFiles>, request: Request, next: Next) -> Response {
    let is_package = request.uri().path().starts_with("/pkg/");
    let mut response = next.run(request).await;
    let policy = match (is_package && response.status().is_success(), hashed) {
        (true, true) => "public, max-age=31536000, immutable",
        _ => "no-cache",
    };
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static(policy));
    response
}

/// Whether the names of the package's files hold a hash of their content.
#[derive(Clone, Copy)]
struct HashedFiles(bool);

/// Finds the pages' files: where the option says, where `cargo leptos` puts them, or beside the program.
fn site_dir(option: Option<&Path>) -> Result<PathBuf, String> {
    let from_cargo_leptos = std::env::var_os("LEPTOS_SITE_ROOT").map(PathBuf::from);
    let beside = std::env::current_exe().ok().and_then(|program| program.parent().map(|folder| folder.join("site")));
    let site = option.map(Path::to_path_buf).or(from_cargo_leptos).or(beside).unwrap_or_else(|| "site".into());
    if site.join("pkg").is_dir() {
        Ok(site)
    } else {
        Err(format!(
            "The pages' files are not at {}. Build them with `make build`, or say with --site-dir where they are.",
            site.display()
        ))
    }
}

fn leptos_options(site: &Path, addr: SocketAddr) -> LeptosOptions {
    let hash_file = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join("hash.txt")));
    LeptosOptions::builder()
        .output_name(OUTPUT_NAME)
        .site_root(site.to_string_lossy().into_owned())
        .site_pkg_dir("pkg")
        .site_addr(addr)
        .hash_files(hash_file.is_some_and(|file| file.is_file()))
        .build()
}

/// Waits for SIGTERM or Ctrl-C.
async fn shutdown_signal() {
    let interrupt = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be listened for");
            // Without Ctrl-C either there is nothing to wait for, and the process is ended from outside.
            if interrupt.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
