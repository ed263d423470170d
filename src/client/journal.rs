//! What is not saved yet, in the browser's own storage: unsaved turns and drafts per session, and the last modes. It survives
//! reload, crash and a server that is away.

use crate::browser;
use crate::model::message::{Message, Modes};
use crate::model::session::SessionId;

const UNSAVED: &str = "verbatim.unsaved.";
const DRAFT: &str = "verbatim.draft.";
const MODES: &str = "verbatim.modes";

/// The name under which a conversation that could not be started yet stands.
const NEW: &str = "new";

fn key(prefix: &str, session: Option<&SessionId>) -> String {
    format!("{prefix}{}", session.map_or(NEW, SessionId::as_str))
}

/// The turns of a session that are not known to be on the server's disk; `None` means the one that is not started yet.
pub fn unsaved(session: Option<&SessionId>) -> Vec<Message> {
    browser::stored(&key(UNSAVED, session)).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Keeps the unsaved turns of a session; false when the browser does not keep them.
pub fn set_unsaved(session: Option<&SessionId>, messages: &[Message]) -> bool {
    let key = key(UNSAVED, session);
    if messages.is_empty() {
        return browser::store(&key, None);
    }
    serde_json::to_string(messages).is_ok_and(|text| browser::store(&key, Some(&text)))
}

/// What was typed into a session's composer and not sent.
pub fn draft(session: Option<&SessionId>) -> String {
    browser::stored(&key(DRAFT, session)).unwrap_or_default()
}

/// Keeps what is typed.
pub fn set_draft(session: Option<&SessionId>, text: &str) {
    browser::store(&key(DRAFT, session), (!text.is_empty()).then_some(text));
}

/// The modes that were last chosen.
pub fn modes() -> Modes {
    browser::stored(MODES).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// Keeps the chosen modes.
pub fn set_modes(modes: Modes) {
    if let Ok(text) = serde_json::to_string(&modes) {
        browser::store(MODES, Some(&text));
    }
}
