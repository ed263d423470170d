//! What is not saved yet, in the browser's own storage: unsaved turns and drafts per session, and the last modes. It survives
//! reload, crash and a server that is away.
//!
//! Each unsaved turn has a key of its own, so that tabs, which share the storage, do not overwrite each other's.

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

fn turn_key(session: Option<&SessionId>, id: &str) -> String {
    format!("{}.{id}", key(UNSAVED, session))
}

/// The turns of a session that are not known to be on the server's disk, oldest first; `None` means the conversations that are
/// not started yet, of all tabs.
pub fn unsaved(session: Option<&SessionId>) -> Vec<Message> {
    let mut messages: Vec<Message> = browser::stored_keys(&format!("{}.", key(UNSAVED, session)))
        .iter()
        .filter_map(|key| serde_json::from_str(&browser::stored(key)?).ok())
        .collect();
    messages.sort_by(|a, b| a.timestamp.cmp(&b.timestamp));
    messages
}

/// The started sessions that have unsaved turns.
pub fn sessions() -> Vec<SessionId> {
    let mut sessions: Vec<SessionId> = browser::stored_keys(UNSAVED)
        .iter()
        .filter_map(|key| session_in(key))
        .filter(|name| *name != NEW)
        .filter_map(|name| name.parse().ok())
        .collect();
    sessions.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    sessions.dedup();
    sessions
}

/// The session in the key of an unsaved turn. An id of a session holds no dot.
fn session_in(key: &str) -> Option<&str> {
    key.strip_prefix(UNSAVED)?.split_once('.').map(|(session, _)| session)
}

/// Keeps an unsaved turn; false when the browser does not keep it.
pub fn keep(session: Option<&SessionId>, message: &Message) -> bool {
    serde_json::to_string(message).is_ok_and(|text| browser::store(&turn_key(session, &message.id), Some(&text)))
}

/// Whether an unsaved turn is still kept.
pub fn keeps(session: Option<&SessionId>, id: &str) -> bool {
    browser::stored(&turn_key(session, id)).is_some()
}

/// Forgets a turn that is saved.
pub fn forget(session: Option<&SessionId>, id: &str) {
    browser::store(&turn_key(session, id), None);
}

/// Takes a turn of a conversation that is not started for this tab alone, and holds it as long as the tab is open or until
/// [`release`]; false while another tab holds it.
pub fn claim(id: &str) -> impl Future<Output = bool> + use<> {
    browser::claim(&turn_key(None, id))
}

/// Leaves what this tab claimed to other tabs.
pub fn release() {
    browser::release_claims();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_turn_names_its_session() {
        let session: SessionId = "abc".parse().unwrap();
        assert_eq!(session_in(&turn_key(Some(&session), "m.1")), Some("abc"));
        assert_eq!(session_in(&turn_key(None, "m")), Some(NEW));
        assert_eq!(session_in("verbatim.unsaved.abc"), None);
    }
}
