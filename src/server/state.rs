//! What every request can reach.

use crate::service::replies::Replies;
use crate::service::sessions::Sessions;
use axum::extract::FromRef;
use leptos::prelude::LeptosOptions;
use std::sync::Arc;

/// What every request can reach.
#[derive(Clone, FromRef)]
pub struct AppState {
    /// Where the pages' files are, as Leptos wants to know it.
    pub leptos_options: LeptosOptions,
    /// The rules of sessions.
    pub sessions: Sessions,
    /// The replies that run.
    pub replies: Arc<Replies>,
}
