//! `start`, `load`, `list`, `save`, `delete` and `restore`.

use super::codec::JsonBody;
use crate::error::AppError;
use crate::export::document::SessionDocument;
use crate::model::Object;
use crate::model::message::MessageInput;
use crate::model::session::{Kind, SessionId, Summary};
use leptos::prelude::*;
use serde::{Deserialize, Serialize};
use server_fn::codec::Json;

/// The answer of [`start`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The new session.
    pub session_id: SessionId,
    /// When it began (RFC 3339).
    pub started_at: String,
    /// Its revision, for `base_revision`.
    #[serde(default)]
    pub revision: u64,
}

/// The answer of [`load`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// The session, as in an export.
    #[serde(flatten)]
    pub session: SessionDocument,
    /// Its revision, for `base_revision`.
    pub revision: u64,
    /// The reply that is being generated, if one is.
    pub running: Option<Running>,
    /// When a part was asked for: how many messages the whole shown path has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<usize>,
    /// When a part was asked for: how many messages are shown before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<usize>,
    /// When a part was asked for: the beginning of the session's first user message, as in a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
}

/// A reply that is being generated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// For resume and stop.
    pub reply_id: String,
    /// The id that the finished message will have.
    pub message_id: String,
}

/// The answer of [`list`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// The rows of this page.
    pub sessions: Vec<Summary>,
    /// All sessions kept.
    pub total_sessions: u64,
    /// Those that the request finds.
    pub filtered_sessions: u64,
    /// Present and true when `filtered_sessions` is only the number that was reached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filtered_is_lower_bound: bool,
    /// Begun today in the caller's zone.
    pub sessions_today: u64,
    /// Begun this week, from Monday, in the caller's zone.
    pub sessions_this_week: u64,
    /// Messages of all sessions.
    pub total_messages: u64,
    /// As asked.
    pub limit: u64,
    /// As asked.
    pub offset: u64,
    /// For the next page, if there is one.
    pub next_cursor: Option<String>,
    /// Present while the index is being compared with the files or built: until then something may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indexing: Option<Indexing>,
}

/// How far the index is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Indexing {
    /// `checking` or `rebuilding`.
    pub state: String,
    /// Sessions done.
    pub done: u64,
    /// Sessions to be done.
    pub total: u64,
}

/// The answer of [`save`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveAnswer {
    /// Always true: a failure is an error.
    pub success: bool,
    /// The session's revision now.
    pub revision: u64,
    /// When it was written (RFC 3339).
    pub saved_at: String,
    /// Present and true when others had saved since `base_revision`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub merged: bool,
}

/// The answer of [`delete`] and [`restore`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// Always true: a failure is an error.
    pub success: bool,
    /// What was done, for people.
    pub message: String,
}

/// Begins a session. Messages that are given with it are kept as [`save`] keeps them, and in the same write: all of it or nothing.
#[server(prefix = "/api", endpoint = "sessions/start", input = JsonBody, output = Json)]
pub async fn start(
    #[server(default)] user_name: Option<String>,
    #[server(default)] metadata: Option<Object>,
    #[server(default)] messages: Option<Vec<MessageInput>>,
) -> Result<Started, AppError> {
    use crate::server::state::AppState;
    expect_context::<AppState>().sessions.start(user_name, metadata, messages.unwrap_or_default()).await
}

/// Returns a session, whole or the part that is asked for: the `last` messages of the shown path, or of those that lead to the
/// message `before`. `branches` then holds only what belongs to the part.
#[server(prefix = "/api", endpoint = "sessions/load", input = JsonBody, output = Json)]
pub async fn load(
    session_id: SessionId,
    #[server(default)] last: Option<usize>,
    #[server(default)] before: Option<String>,
) -> Result<Loaded, AppError> {
    use crate::server::state::AppState;
    expect_context::<AppState>().sessions.load(&session_id, last, before.as_deref()).await
}

/// Lists sessions, newest first.
#[server(prefix = "/api", endpoint = "sessions/list", input = JsonBody, output = Json)]
pub async fn list(
    #[server(default)] limit: Option<u64>,
    #[server(default)] offset: Option<u64>,
    #[server(default)] query: Option<String>,
    #[server(default)] kind: Option<Kind>,
    #[server(default)] sort: Option<String>,
    #[server(default)] cursor: Option<String>,
    #[server(default)] utc_offset_minutes: Option<i32>,
) -> Result<Listed, AppError> {
    use crate::server::state::AppState;
    use crate::service::sessions::ListInput;
    let input = ListInput { limit, offset, query, kind, sort, cursor, utc_offset_minutes };
    expect_context::<AppState>().sessions.list(input).await
}

/// Keeps what the caller knows of a session; nothing that it does not mention is touched.
#[server(prefix = "/api", endpoint = "sessions/save", input = JsonBody, output = Json)]
pub async fn save(
    session_id: SessionId,
    #[server(default)] messages: Option<Vec<MessageInput>>,
    #[server(default)] user_name: Option<String>,
    #[server(default)] metadata: Option<Object>,
    #[server(default)] base_revision: Option<u64>,
) -> Result<SaveAnswer, AppError> {
    use crate::server::state::AppState;
    let messages = messages.unwrap_or_default();
    expect_context::<AppState>().sessions.save(&session_id, messages, user_name, metadata, base_revision).await
}

/// Puts a session into the trash; a running reply is stopped.
#[server(prefix = "/api", endpoint = "sessions/delete", input = JsonBody, output = Json)]
pub async fn delete(session_id: SessionId) -> Result<Success, AppError> {
    use crate::server::state::AppState;
    expect_context::<AppState>().sessions.delete(&session_id).await
}

/// Takes a session out of the trash.
#[server(prefix = "/api", endpoint = "sessions/restore", input = JsonBody, output = Json)]
pub async fn restore(session_id: SessionId) -> Result<Success, AppError> {
    use crate::server::state::AppState;
    expect_context::<AppState>().sessions.restore(&session_id).await
}

/// Removes sessions from the trash for good: those that are named, or all.
#[server(prefix = "/api", endpoint = "sessions/empty_trash", input = JsonBody, output = Json)]
pub async fn empty_trash(#[server(default)] session_ids: Option<Vec<SessionId>>) -> Result<Success, AppError> {
    use crate::server::state::AppState;
    expect_context::<AppState>().sessions.empty_trash(session_ids).await
}
