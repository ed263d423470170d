//! The JSON documents of one session and of many.

use crate::model::message::{DERIVED_FIELDS, Message, Modes, Role};
use crate::model::parts::ToolUse;
use crate::model::session::{Kind, Session, SessionId, Stats, preview_of};
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
    /// When something was last said in it (RFC 3339).
    pub last_updated: String,
    /// See [`Session::metadata_updated`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_updated: Option<String>,
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
const ANSWER_FIELDS: [&str; 6] = ["branches", "revision", "running", "total", "earlier", "preview"];

/// A part of a session's document.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentPart {
    /// The document with the messages of the part, and with what of the other branches belongs to them.
    pub document: SessionDocument,
    /// How many messages the whole shown path has.
    pub total: usize,
    /// How many messages are shown before the part.
    pub earlier: usize,
    /// The beginning of the first user message of the whole path, as in a list.
    pub preview: String,
}

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
    /// Works out what is told of a message.
    pub fn new(message: &Message) -> Self {
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
        Self::of_path(session, &path, counts(session, &path), |_| true)
    }

    /// Makes the document of a part of a session: at most the `last` messages of the shown path or, where `before` is given, of the
    /// path that leads to that message. `None` if there is no such message.
    ///
    /// What comes before a message is the same whichever branch is shown, so that a reader can go back from any message that it
    /// holds. `branches` holds what belongs to the part: other versions of its messages with all that follows them, and its hidden
    /// messages. Parts that follow each other hold nothing twice and leave nothing out.
    pub fn part(session: &Session, last: usize, before: Option<&str>) -> Option<DocumentPart> {
        let messages = &session.messages;
        let parents = tree::parents(messages);
        let shown_path = session.active_path();
        let path = match before {
            Some(id) => {
                let position = messages.iter().rposition(|message| message.id == id)?;
                let mut path = tree::path_to(&parents, position);
                path.pop();
                path
            }
            None => shown_path.clone(),
        };
        let shown: Vec<usize> = (0..path.len()).filter(|&step| !messages[path[step]].is_hidden()).collect();
        let earlier = shown.len().saturating_sub(last);
        let begin = if earlier == 0 { 0 } else { shown.get(earlier).copied().unwrap_or(path.len()) };
        // What follows the last message of a path to `before` belongs to the part that holds `before`.
        let end = if before.is_some() { path.len() } else { usize::MAX };
        let steps = tree::steps_beside(&parents, &path);
        let stats = counts(session, &shown_path);
        let preview = path.iter().map(|&position| &messages[position]);
        let preview = preview.filter(|message| !message.is_hidden()).find(|message| message.role == Role::User);
        let preview = preview.map(|message| preview_of(&message.content).to_owned());
        Some(DocumentPart {
            document: Self::of_path(session, &path, stats, |position| (begin..end).contains(&steps[position])),
            total: shown_path.iter().filter(|&&position| !messages[position].is_hidden()).count(),
            earlier,
            preview: preview.unwrap_or_default(),
        })
    }

    /// The document whose `messages` are those of `path`, as far as they are kept and not hidden.
    fn of_path(session: &Session, path: &[usize], stats: Stats, is_kept: impl Fn(usize) -> bool) -> Self {
        let mut on_path = vec![false; session.messages.len()];
        for &position in path {
            on_path[position] = !session.messages[position].is_hidden();
        }
        let export = |position: usize| ExportedMessage::new(&session.messages[position]);
        let messages =
            path.iter().copied().filter(|&position| on_path[position] && is_kept(position)).map(export).collect();
        let branches =
            (0..on_path.len()).filter(|&position| !on_path[position] && is_kept(position)).map(export).collect();
        Self::of_messages(session, stats, messages, branches)
    }

    /// The document of a session of whose messages only these are to be in it; those that `session` holds are not looked at.
    pub fn of_messages(
        session: &Session,
        stats: Stats,
        messages: Vec<ExportedMessage>,
        branches: Vec<ExportedMessage>,
    ) -> Self {
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
            metadata_updated: session.metadata_updated.clone(),
            metadata,
            stats,
            messages,
            branches,
            extra,
        }
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

/// The counts over a path, hidden messages left out.
fn counts(session: &Session, path: &[usize]) -> Stats {
    let mut stats = Stats::default();
    let messages = path.iter().map(|&position| &session.messages[position]);
    messages.filter(|message| !message.is_hidden()).for_each(|message| stats.add(message));
    stats
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
            metadata_updated: None,
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

    fn ids(list: &[ExportedMessage]) -> Vec<String> {
        list.iter().map(|exported| exported.message.id.clone()).collect()
    }

    #[test]
    fn shows_the_path_and_keeps_the_rest_as_branches() {
        let document = SessionDocument::new(&session());
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
        let part = SessionDocument::part(&session(), 1, Some("c")).unwrap();
        assert_eq!((part.total, part.earlier, part.preview.as_str()), (2, 0, "What's the time?"));
        assert_eq!(ids(&part.document.messages), ["a"]);
        assert_eq!(ids(&part.document.branches), ["b", "h"]);
        assert_eq!(SessionDocument::part(&session(), 1, Some("gone")), None);
        let part = SessionDocument::part(&session(), 1, None).unwrap();
        assert_eq!((ids(&part.document.messages), part.earlier), (vec!["c".to_owned()], 1));
        assert_eq!(part.document.stats.total_messages, 2, "the counts are of the whole");
        assert_eq!(SessionDocument::part(&session(), 0, None).unwrap().earlier, 2);
        let whole = SessionDocument::part(&session(), 9, None).unwrap();
        assert_eq!(whole.document, SessionDocument::new(&session()));
    }

    /// A long session: `m0` to `m9`, of which `m4` is hidden, with a second version of `m2` and what follows it, of `m5`, and a
    /// second beginning.
    fn long_session() -> Session {
        let message = |id: &str, parent: Option<String>| -> Message {
            serde_json::from_value(json!({"id":id,"parent_id":parent,"role":"user","content":id,"timestamp":"t",
                "metadata":{"hidden":id == "m4"}}))
            .unwrap()
        };
        let mut messages: Vec<Message> =
            (0..10_usize).map(|n| message(&format!("m{n}"), n.checked_sub(1).map(|n| format!("m{n}")))).collect();
        for (id, parent) in [("x2", Some("m1")), ("x3", Some("x2")), ("x5", Some("m4")), ("x0", None)] {
            messages.push(message(id, parent.map(str::to_owned)));
        }
        let metadata = Object::from_iter([("active_leaf".to_owned(), json!("m9"))]);
        Session { messages, metadata, ..session() }
    }

    #[test]
    fn a_part_holds_the_other_versions_of_its_messages() {
        let session = long_session();
        let part = |last, before| {
            let part = SessionDocument::part(&session, last, before).unwrap();
            (ids(&part.document.messages).join(" "), ids(&part.document.branches).join(" "), part.earlier)
        };
        let expected = |messages: &str, branches: &str, earlier| (messages.to_owned(), branches.to_owned(), earlier);
        assert_eq!(part(4, None), expected("m6 m7 m8 m9", "", 5));
        assert_eq!(part(5, None), expected("m5 m6 m7 m8 m9", "x5", 4));
        assert_eq!(part(2, Some("m5")), expected("m2 m3", "m4 x2 x3", 2));
        assert_eq!(part(9, Some("m2")), expected("m0 m1", "x0", 0));
        assert_eq!(part(9, Some("x5")), expected("m0 m1 m2 m3", "m4 x2 x3 x0", 0), "as before its other version");
        assert_eq!(
            part(1, Some("x3")),
            expected("x2", "m2 m3 m4 m5 m6 m7 m8 m9 x5", 2),
            "what leads to it is its path"
        );
    }

    #[test]
    fn parts_that_follow_each_other_are_the_whole() {
        let session = long_session();
        for last in 1..=10 {
            let mut parts = vec![SessionDocument::part(&session, last, None).unwrap()];
            while let Some(part) = parts.last().filter(|part| part.earlier > 0) {
                let before = part.document.messages[0].message.id.clone();
                parts.push(SessionDocument::part(&session, last, Some(&before)).unwrap());
            }
            let mut all: Vec<String> =
                parts.into_iter().flat_map(|part| part.document.into_messages()).map(|message| message.id).collect();
            all.sort();
            let mut expected: Vec<String> = session.messages.iter().map(|message| message.id.clone()).collect();
            expected.sort();
            assert_eq!(all, expected, "in parts of {last}");
        }
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
