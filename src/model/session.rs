//! One conversation, its id, its counts, and the row that stands for it in a list.

use super::Object;
use super::foreign::one_line;
use super::json::{self, MAX_DEPTH};
use super::message::{Message, Modes, Role};
use super::tree;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How many characters of the first user message a preview shows.
pub const PREVIEW_CHARACTERS: usize = 140;

/// The longest title that is newly taken, in characters. A list shows no more of one that a file of another program holds.
pub const MAX_TITLE_CHARACTERS: usize = 1_000;

/// The longest tag that is newly taken, in characters. A list shows no more of one.
pub const MAX_TAG_CHARACTERS: usize = 200;

/// The most tags that are newly taken. A list shows no more of them.
pub const MAX_TAGS: usize = 200;

/// The longest user name that is newly taken, in characters. A list shows no more of one.
pub const MAX_USER_NAME_CHARACTERS: usize = 200;

/// How many characters a list shows of a tool's name, and of a time that is none.
const LISTED_CHARACTERS: usize = 100;

/// How many tools a list shows of a session.
const LISTED_TOOLS: usize = 100;

/// The longest id that is read, in characters.
pub const MAX_ID_CHARACTERS: usize = 64;

/// Says whether `text` may be an id: `[A-Za-z0-9_-]{1,64}`.
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID_CHARACTERS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The name of a session. It exists only parsed, so that no path and no query is ever built from a caller's raw text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId(String);

impl SessionId {
    /// Makes a new id from a random UUID: 32 lower-case hex digits.
    pub fn from_uuid(uuid: uuid::Uuid) -> Self {
        Self(uuid.simple().to_string())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 1 to 64 letters, digits, hyphens or underscores")
    }
}

impl std::error::Error for InvalidId {}

impl FromStr for SessionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if is_id(text) { Ok(Self(text.to_owned())) } else { Err(InvalidId) }
    }
}

impl TryFrom<String> for SessionId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        if is_id(&text) { Ok(Self(text)) } else { Err(InvalidId) }
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> String {
        id.0
    }
}

/// `metadata.type`: how the person talked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// By typing. Also what a session without a type is taken for.
    #[default]
    Chat,
    /// By speaking.
    Voice,
}

impl Kind {
    /// The value of `metadata.type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Chat => "chat",
            Kind::Voice => "voice",
        }
    }

    /// Reads `metadata.type`; anything unknown counts as a chat.
    pub fn of(metadata: &Object) -> Self {
        match metadata.get("type").and_then(|v| v.as_str()) {
            Some("voice") => Kind::Voice,
            _ => Kind::Chat,
        }
    }
}

/// The counts of a session over its shown path, hidden messages left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Messages of every role.
    pub total_messages: u64,
    /// Messages of the person.
    pub user_messages: u64,
    /// Messages of the assistant.
    pub assistant_messages: u64,
    /// Messages marked `metadata.error`.
    pub errors: u64,
}

impl Stats {
    /// Counts one message more.
    pub fn add(&mut self, message: &Message) {
        self.total_messages += 1;
        match message.role {
            Role::User => self.user_messages += 1,
            Role::Assistant => self.assistant_messages += 1,
            _ => {}
        }
        if message.metadata.contains_key("error") {
            self.errors += 1;
        }
    }
}

/// One conversation, whole: every message of every branch in the order in which they were written.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Its name.
    pub session_id: SessionId,
    /// Who talked.
    pub user_name: String,
    /// When it began, as it stands in the file (RFC 3339).
    pub started_at: String,
    /// When something was last said in it (RFC 3339). Lists are in its order.
    pub last_updated: String,
    /// When something else about it was last changed: its title, tags or flags, its name, a rating, a hidden turn, the version that is
    /// shown (RFC 3339). `None` if that is not known to have happened.
    pub metadata_updated: Option<String>,
    /// `type`, `title`, `tags`, `pinned`, `archived`, `model`, `system_prompt`, `active_leaf` and what others put there.
    pub metadata: Object,
    /// All messages; every one has an id and its `parent_id` resolved.
    pub messages: Vec<Message>,
    /// The highest `rev` of the messages and of the metadata's changes.
    pub revision: u64,
    /// Fields that we do not know, kept and written back.
    pub extra: Object,
}

impl Session {
    /// `metadata.active_leaf`, where it names one.
    pub fn active_leaf(&self) -> Option<&str> {
        self.metadata.get("active_leaf").and_then(|v| v.as_str())
    }

    /// Puts the text of what is nested too deep to be read back in its place, outside of the messages; says whether there was any.
    pub fn limit_depth(&mut self) -> bool {
        json::limit_object(&mut self.extra, MAX_DEPTH - 1) | json::limit_object(&mut self.metadata, MAX_DEPTH - 2)
    }

    /// The positions of the messages from the root to the active leaf, hidden ones included.
    pub fn active_path(&self) -> Vec<usize> {
        tree::active_path(&self.messages, self.active_leaf())
    }

    /// The shown conversation: the active path without hidden messages.
    pub fn shown(&self) -> Vec<&Message> {
        self.active_path()
            .into_iter()
            .map(|index| &self.messages[index])
            .filter(|message| !message.is_hidden())
            .collect()
    }

    /// The counts over the shown conversation.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.shown().into_iter().for_each(|message| stats.add(message));
        stats
    }

    /// The row that stands for this session in a list. What would be endless in it is cut: rows are sent by the thousand.
    pub fn summary(&self) -> Summary {
        let shown = self.shown();
        let mut stats = Stats::default();
        let mut tools: Vec<String> = Vec::new();
        let mut modes = Modes::default();
        for message in &shown {
            stats.add(message);
            modes = modes.or(message.modes().unwrap_or_default());
            for tool in message.tools_used() {
                tools.extend(tool_to_list(&tools, &tool.name));
            }
        }
        let preview = shown
            .iter()
            .find(|message| message.role == Role::User)
            .map(|message| preview_of(&message.content).to_owned())
            .unwrap_or_default();
        let flag = |key: &str| self.metadata.get(key).and_then(|v| v.as_bool()).unwrap_or(false);
        Summary {
            session_id: self.session_id.clone(),
            title: self
                .metadata
                .get("title")
                .and_then(|v| v.as_str())
                .filter(|title| !title.trim().is_empty())
                .map(|title| cut(title, MAX_TITLE_CHARACTERS)),
            user_name: cut(&self.user_name, MAX_USER_NAME_CHARACTERS),
            kind: Kind::of(&self.metadata),
            started_at: cut(&self.started_at, LISTED_CHARACTERS),
            last_updated: cut(&self.last_updated, LISTED_CHARACTERS),
            metadata_updated: self.metadata_updated.as_deref().map(|at| cut(at, LISTED_CHARACTERS)),
            stats,
            preview,
            tools,
            modes,
            tags: self
                .metadata
                .get("tags")
                .and_then(|v| v.as_array())
                .map(|tags| {
                    let tags = tags.iter().filter_map(|tag| tag.as_str());
                    tags.take(MAX_TAGS).map(|tag| cut(tag, MAX_TAG_CHARACTERS)).collect()
                })
                .unwrap_or_default(),
            pinned: flag("pinned"),
            archived: flag("archived"),
            matches: Vec::new(),
        }
    }
}

#[cfg(test)]
impl Session {
    /// A session in which nothing was said, with nothing but an id.
    pub fn empty(id: &str) -> Self {
        Self {
            session_id: id.parse().unwrap(),
            user_name: String::new(),
            started_at: String::new(),
            last_updated: String::new(),
            metadata_updated: None,
            metadata: Object::new(),
            messages: Vec::new(),
            revision: 0,
            extra: Object::new(),
        }
    }
}

/// A session as a list shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Its name.
    pub session_id: SessionId,
    /// Its title, where somebody gave it one.
    pub title: Option<String>,
    /// Who talked.
    pub user_name: String,
    /// Chat or voice.
    pub kind: Kind,
    /// When it began (RFC 3339).
    pub started_at: String,
    /// When something was last said in it (RFC 3339).
    pub last_updated: String,
    /// See [`Session::metadata_updated`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_updated: Option<String>,
    /// Counts over the shown path.
    pub stats: Stats,
    /// The beginning of the first user message, at most [`PREVIEW_CHARACTERS`] characters.
    pub preview: String,
    /// Names of the tools used on the shown path, each once, in the order of first use.
    pub tools: Vec<String>,
    /// What the assistant was allowed in some message of the shown path.
    #[serde(default, skip_serializing_if = "Modes::is_none")]
    pub modes: Modes,
    /// `metadata.tags`.
    pub tags: Vec<String>,
    /// `metadata.pinned`.
    pub pinned: bool,
    /// `metadata.archived`.
    pub archived: bool,
    /// For a query: where it was found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Match>,
}

/// A place where a query was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// The message that holds it.
    pub message_id: String,
    /// The text around it.
    pub snippet: String,
    /// What matched, as pairs of start and end in characters of `snippet`.
    pub ranges: Vec<(usize, usize)>,
}

/// The name of a tool as a list shows it after those of `tools`; `None` if it shows no more than these.
pub fn tool_to_list(tools: &[String], name: &str) -> Option<String> {
    if tools.len() >= LISTED_TOOLS {
        return None;
    }
    let name = one_line(name, LISTED_CHARACTERS);
    (!tools.contains(&name)).then_some(name)
}

/// The beginning of `text`, with `…` behind it where it is longer than `limit` characters.
fn cut(text: &str, limit: usize) -> String {
    let beginning = first_characters(text, limit);
    if beginning.len() == text.len() { text.to_owned() } else { format!("{beginning}…") }
}

/// What a list shows of the first thing that the person said.
pub fn preview_of(content: &str) -> &str {
    first_characters(content.trim(), PREVIEW_CHARACTERS)
}

/// The beginning of `text`, at most `limit` characters, cut on a character boundary.
pub fn first_characters(text: &str, limit: usize) -> &str {
    match text.char_indices().nth(limit) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_parsed_before_anything_else() {
        for good in ["a", "abc123", "A_b-9", &"x".repeat(64)] {
            assert!(good.parse::<SessionId>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a\\b", "%2e", "a\0", "é", "ａ", " a", "a\n", &"x".repeat(65)] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn cuts_on_character_boundaries() {
        assert_eq!(first_characters("héllo", 2), "hé");
        assert_eq!(first_characters("日本語", 5), "日本語");
        assert_eq!(first_characters("🛠️x", 1), "🛠");
    }
}
