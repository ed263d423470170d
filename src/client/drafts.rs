//! What is typed and not sent, per session. The browser's storage, which all tabs share, holds it through a reload; what this tab
//! itself has typed comes first, so that another tab's words do not take its place.

use super::journal;
use crate::model::session::SessionId;
use leptos::prelude::*;
use std::collections::HashMap;

/// The drafts of this tab. A handle: copies are the same. `None` in place of a session means a conversation that is not started.
#[derive(Clone, Copy)]
pub struct Drafts {
    typed: StoredValue<HashMap<Option<SessionId>, String>>,
}

impl Default for Drafts {
    fn default() -> Self {
        Self { typed: StoredValue::new(HashMap::new()) }
    }
}

impl Drafts {
    /// What was typed into a session's composer and not sent.
    pub fn of(&self, session: Option<&SessionId>) -> String {
        let typed = self.typed.with_value(|typed| typed.get(&session.cloned()).cloned());
        typed.unwrap_or_else(|| journal::draft(session))
    }

    /// Keeps what is typed.
    pub fn keep(&self, session: Option<&SessionId>, text: &str) {
        if text.is_empty() {
            return self.forget(session);
        }
        self.typed.update_value(|typed| drop(typed.insert(session.cloned(), text.to_owned())));
        journal::set_draft(session, text);
    }

    /// Forgets what was sent or taken back. Words that another tab has stored meanwhile stay stored.
    pub fn forget(&self, session: Option<&SessionId>) {
        let typed = self.typed.try_update_value(|typed| typed.remove(&session.cloned())).flatten();
        if typed.is_some_and(|typed| typed == journal::draft(session)) {
            journal::set_draft(session, "");
        }
    }

    /// Notes that what was typed before a session was started belongs to it.
    pub fn move_to(&self, session: &SessionId) {
        let typed = self.typed.with_value(|typed| typed.get(&None).cloned());
        if let Some(typed) = typed {
            self.keep(Some(session), &typed);
            self.forget(None);
        }
    }
}
