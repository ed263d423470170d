//! What every request can reach.

use super::config::ServeOptions;
use crate::app::PageSettings;
use crate::assistant::Assistant;
use crate::service::replies::{Replies, RepliesOptions};
use crate::service::sessions::Sessions;
use crate::store::SessionStore;
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
    /// What the pages have to know of the options.
    pub page_settings: PageSettings,
    /// How many sessions an export of many holds when the request names no limit.
    pub export_limit: ExportLimit,
}

impl AppState {
    /// Puts the services together over a store and an assistant.
    pub fn new(
        store: Arc<dyn SessionStore>,
        assistant: Arc<dyn Assistant>,
        leptos_options: LeptosOptions,
        options: &ServeOptions,
    ) -> Self {
        let usual = RepliesOptions::default();
        let default_window_tokens =
            options.context_tokens.map_or(usual.default_window_tokens, |tokens| tokens as usize);
        let replies = Replies::new(store.clone(), assistant, RepliesOptions { default_window_tokens, ..usual });
        Self {
            leptos_options,
            sessions: Sessions::new(store, replies.clone()),
            replies,
            page_settings: PageSettings { autosave_seconds: options.autosave_seconds },
            export_limit: ExportLimit(options.export_limit.into()),
        }
    }
}

/// How many sessions an export of many holds when the request names no limit.
#[derive(Clone, Copy, Debug)]
pub struct ExportLimit(pub u64);
