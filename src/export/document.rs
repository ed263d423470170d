//! The JSON documents of contracts 4.1 (one session) and 4.2 (many).

use crate::model::message::{DERIVED_FIELDS, Message, Modes, Role};
use crate::model::parts::ToolUse;
use crate::model::session::{Kind, Session, SessionId, Stats};
use crate::model::{Object, tree};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One session as it is exported and loaded: the shown path in `messages`, everything else in `branches`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionDocument {
    /// Its name.
    pub session_id: SessionId,
    /// Who talked.
    pub user_name: String,
    /// When it began (RFC 3339).
    pub started_at: String,
    /// When it was last written to (RFC 3339).
    pub last_updated: String,
    /// See [`Session::metadata`].
    pub metadata: Object,
    /// Counts over `messages`.
    pub stats: Stats,
    /// The shown conversation.
    pub messages: Vec<ExportedMessage>,
    /// Messages of other branches, and hidden ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub branches: Vec<ExportedMessage>,
    /// Fields that we do not know, kept.
    #[serde(flatten)]
    pub extra: Object,
}

/// Fields of answers that a file may hold which somebody put there; they are worked out anew, and standing twice they could not
/// be read.
const ANSWER_FIELDS: [&str; 4] = ["branches", "revision", "running", "total"];

/// A message with what is worked out of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportedMessage {
    /// The message; an assistant's `metadata` holds `modes` and `hasTools`.
    #[serde(flatten)]
    pub message: Message,
    /// The tools that it used.
    pub tools_used: Vec<ToolUse>,
    /// `{"commander","webSearch"}`; empty for a user message.
    pub modes: Object,
    /// Whether `tools_used` holds any.
    pub has_tools: bool,
}

impl ExportedMessage {
    fn new(message: &Message) -> Self {
        let mut message = message.clone();
        message.rev = 0;
        for field in DERIVED_FIELDS {
            message.extra.shift_remove(field);
        }
        let tools_used = message.tools_used();
        let has_tools = !tools_used.is_empty();
        let mut modes = Object::new();
        if message.role == Role::Assistant {
            modes = modes_object(message.modes().unwrap_or_default());
            message.metadata.insert("modes".into(), Value::Object(modes.clone()));
            message.metadata.insert("hasTools".into(), Value::Bool(has_tools));
        }
        Self { message, tools_used, modes, has_tools }
    }
}

fn modes_object(modes: Modes) -> Object {
    let mut object = Object::new();
    object.insert("commander".into(), Value::Bool(modes.commander));
    object.insert("webSearch".into(), Value::Bool(modes.web_search));
    object
}

impl SessionDocument {
    /// Makes the document of a session.
    pub fn new(session: &Session) -> Self {
        let path = session.active_path();
        let mut on_path = vec![false; session.messages.len()];
        for &position in &path {
            on_path[position] = !session.messages[position].is_hidden();
        }
        let mut stats = Stats::default();
        let mut messages = Vec::with_capacity(path.len());
        for &position in path.iter().filter(|&&position| on_path[position]) {
            stats.add(&session.messages[position]);
            messages.push(ExportedMessage::new(&session.messages[position]));
        }
        let branches = session
            .messages
            .iter()
            .zip(&on_path)
            .filter(|&(_, &shown)| !shown)
            .map(|(message, _)| ExportedMessage::new(message))
            .collect();
        let mut metadata = session.metadata.clone();
        if !metadata.contains_key("type") {
            metadata.insert("type".into(), json!(Kind::of(&session.metadata).as_str()));
        }
        let mut extra = session.extra.clone();
        extra.retain(|field, _| !ANSWER_FIELDS.contains(&field.as_str()));
        Self {
            session_id: session.session_id.clone(),
            user_name: session.user_name.clone(),
            started_at: session.started_at.clone(),
            last_updated: session.last_updated.clone(),
            metadata,
            stats,
            messages,
            branches,
            extra,
        }
    }

    /// Leaves only the end of the shown path: at most `last` messages, those before the message `before` where it is given.
    ///
    /// Returns how many messages the whole shown path has, or `None` if `before` is not on it.
    pub fn keep_part(&mut self, last: usize, before: Option<&str>) -> Option<usize> {
        let total = self.messages.len();
        if let Some(id) = before {
            self.messages.truncate(self.messages.iter().position(|shown| shown.message.id == id)?);
        }
        let start = self.messages.len().saturating_sub(last);
        self.messages.drain(..start);
        Some(total)
    }

    /// All messages, shown and others, with the hidden and derived fields as they are kept.
    pub fn into_messages(self) -> Vec<Message> {
        self.messages.into_iter().chain(self.branches).map(|exported| exported.message).collect()
    }

    /// The id of the last shown message: where a conversation is continued.
    pub fn leaf(&self) -> Option<&str> {
        self.messages.last().map(|shown| shown.message.id.as_str())
    }
}

/// The positions of the shown conversation in a list made by [`SessionDocument::into_messages`] and since added to.
pub fn shown_positions(messages: &[Message], leaf: Option<&str>) -> Vec<usize> {
    let mut path = tree::active_path(messages, leaf);
    path.retain(|&position| !messages[position].is_hidden());
    path
}

/// A session that an export of many had to leave out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Which.
    pub session_id: SessionId,
    /// Why, for people.
    pub reason: String,
}

/// What stands before the first session of a document of many (4.2). Sessions are joined with commas.
pub fn many_head(exported_at: &str) -> String {
    format!("{{\"exported_at\":{},\"sessions\":[", json!(exported_at))
}

/// What follows the last session: the number of those that were written, which is known only now, how many there would have
/// been where a limit cut the document, and what had to be left out.
pub fn many_tail(total_sessions: usize, total_matching: Option<usize>, skipped: &[Skipped]) -> String {
    let mut tail = format!("],\"total_sessions\":{total_sessions}");
    if let Some(total) = total_matching {
        tail.push_str(&format!(",\"total_matching\":{total}"));
    }
    if !skipped.is_empty() {
        tail.push_str(&format!(",\"skipped\":{}", json!(skipped)));
    }
    tail.push_str("}\n");
    tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        let message = |id: &str, parent: Option<&str>, role: &str, content: &str, metadata: Value| -> Message {
            serde_json::from_value(json!({"id":id,"parent_id":parent,"role":role,"content":content,
                "timestamp":"2026-02-09T21:30:10Z","metadata":metadata,"rev":1}))
            .unwrap()
        };
        Session {
            session_id: "s".parse().unwrap(),
            user_name: "User".into(),
            started_at: "2026-02-09T21:30:00Z".into(),
            last_updated: "2026-02-09T21:45:00Z".into(),
            metadata: Object::new(),
            messages: vec![
                message("a", None, "user", "What's the time?", json!({})),
                message("b", Some("a"), "assistant", "Noon.", json!({})),
                message("h", Some("a"), "assistant", "Hm.", json!({"hidden":true})),
                message(
                    "c",
                    Some("h"),
                    "assistant",
                    "🛠️ datetime() Let me check...",
                    json!({"modes":{"commander":true}}),
                ),
            ],
            revision: 1,
            extra: Object::new(),
        }
    }

    #[test]
    fn shows_the_path_and_keeps_the_rest_as_branches() {
        let document = SessionDocument::new(&session());
        let ids = |list: &[ExportedMessage]| list.iter().map(|m| m.message.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&document.messages), ["a", "c"]);
        assert_eq!(ids(&document.branches), ["b", "h"]);
        assert_eq!(document.stats, Stats { total_messages: 2, user_messages: 1, assistant_messages: 1, errors: 0 });
        assert_eq!(document.metadata["type"], "chat");
    }

    #[test]
    fn every_message_carries_the_derived_fields() {
        let value = serde_json::to_value(SessionDocument::new(&session())).unwrap();
        let user = &value["messages"][0];
        assert_eq!((&user["tools_used"], &user["modes"], &user["has_tools"]), (&json!([]), &json!({}), &json!(false)));
        let assistant = &value["messages"][1];
        assert_eq!(assistant["tools_used"][0]["name"], "datetime");
        assert_eq!(assistant["modes"], json!({"commander":true,"webSearch":false}));
        assert_eq!(assistant["metadata"]["modes"], assistant["modes"]);
        assert_eq!(assistant["metadata"]["hasTools"], true);
        assert_eq!(assistant.get("rev"), None);
    }

    #[test]
    fn reads_back_what_it_writes() {
        let document = SessionDocument::new(&session());
        let text = serde_json::to_string(&document).unwrap();
        let read: SessionDocument = serde_json::from_str(&text).unwrap();
        assert_eq!(read, document);
        let messages = read.into_messages();
        assert_eq!(shown_positions(&messages, Some("c")), [0, 1]);
    }

    #[test]
    fn a_part_is_counted_from_the_end() {
        let mut document = SessionDocument::new(&session());
        assert_eq!(document.clone().keep_part(1, Some("c")), Some(2));
        assert_eq!(document.clone().keep_part(1, Some("b")), None, "it is in another branch");
        document.keep_part(1, None);
        assert_eq!(document.messages[0].message.id, "c");
    }

    #[test]
    fn a_document_of_many_is_whole() {
        let skipped = [Skipped { session_id: "s".parse().unwrap(), reason: "r".into() }];
        let text = format!("{}{}", many_head("t"), many_tail(0, Some(3), &skipped));
        let value: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({"exported_at":"t","sessions":[],"total_sessions":0,"total_matching":3,
            "skipped":[{"session_id":"s","reason":"r"}]});
        assert_eq!(value, expected);
    }
}
