//! One turn of a conversation.

use super::Object;
use super::json::{self, MAX_DEPTH};
use super::parts::{Part, ToolUse};
use super::tools_used;
use serde::{Deserialize, Deserializer, Serialize};

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions.
    System,
    /// The person.
    User,
    /// The assistant.
    Assistant,
    /// A role that a file of another program holds; kept, never accepted from a caller.
    #[serde(untagged)]
    Other(String),
}

impl Role {
    /// The role as it is written.
    pub fn as_str(&self) -> &str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Other(name) => name,
        }
    }
}

/// What the assistant was allowed to do in a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Modes {
    /// ⚡ CMD: run tools that change or read the machine.
    #[serde(deserialize_with = "null_is_default")]
    pub commander: bool,
    /// 🌐 WEB: use the web.
    #[serde(rename = "webSearch", deserialize_with = "null_is_default")]
    pub web_search: bool,
}

impl Modes {
    /// What either allows.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { commander: self.commander || other.commander, web_search: self.web_search || other.web_search }
    }

    /// Whether it allows nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// One turn. Its content never changes once it is complete; its metadata may.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its name, unique in the session.
    pub id: String,
    /// The message that it follows; `None` for a first one.
    pub parent_id: Option<String>,
    /// Who speaks.
    pub role: Role,
    /// What is said; for a reply the texts of `parts` joined.
    pub content: String,
    /// When (RFC 3339).
    pub timestamp: String,
    /// `modes`, `model`, `usage`, `rating`, `stopped`, `error`, `hidden` and what others put there.
    #[serde(default)]
    pub metadata: Object,
    /// What happened in a reply, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<Part>>,
    /// The session's revision at which this line was written; 0 where that is not told (exports).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rev: u64,
    /// Fields that we do not know, kept and written back.
    #[serde(flatten)]
    pub extra: Object,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Message {
    /// Whether the turn was deleted (which can be undone).
    pub fn is_hidden(&self) -> bool {
        self.metadata.get("hidden").and_then(|v| v.as_bool()).unwrap_or(false)
    }

    /// `metadata.modes`, where the message has them.
    pub fn modes(&self) -> Option<Modes> {
        self.metadata.get("modes").and_then(|modes| serde_json::from_value(modes.clone()).ok())
    }

    /// The tools that this message used: an assistant's structured calls and the markers in its text, in order.
    pub fn tools_used(&self) -> Vec<ToolUse> {
        match self.role {
            Role::Assistant => tools_used::of_message(&self.content, self.parts.as_deref()),
            _ => Vec::new(),
        }
    }

    /// Puts the text of what is nested too deep to be read back in its place; says whether there was any.
    pub fn limit_depth(&mut self) -> bool {
        let mut any = json::limit_object(&mut self.extra, MAX_DEPTH - 1);
        any |= json::limit_object(&mut self.metadata, MAX_DEPTH - 2);
        for part in self.parts.iter_mut().flatten() {
            any |= part.limit_depth(MAX_DEPTH - 2);
        }
        any
    }

    /// Whether the server made it as a reply; such a message is never changed by what a client says of it.
    pub fn is_server_reply(&self) -> bool {
        self.metadata.contains_key("reply_id")
    }
}

/// A model's name for people: some servers name a model by the path of its file.
pub fn short_model_name(model: &str) -> &str {
    match model.strip_suffix(".gguf") {
        Some(path) => path.rsplit(['/', '\\']).next().unwrap_or(path),
        None => model,
    }
}

/// A message as a caller or a file of another program gives it: nearly everything may be missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageInput {
    /// Its name; an older client gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `None`: not said. `Some(None)`: said to be a first message.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<Option<String>>,
    /// Who speaks.
    pub role: Role,
    /// What is said.
    #[serde(default, deserialize_with = "null_is_default")]
    pub content: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// See [`Message::metadata`].
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Object::is_empty")]
    pub metadata: Object,
    /// See [`Message::parts`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<Part>>,
    /// See [`Message::rev`].
    #[serde(default, deserialize_with = "null_is_default", skip_serializing)]
    pub rev: u64,
    /// Other fields.
    #[serde(flatten)]
    pub extra: Object,
}

impl From<Message> for MessageInput {
    fn from(message: Message) -> Self {
        Self {
            id: Some(message.id),
            parent_id: Some(message.parent_id),
            role: message.role,
            content: message.content,
            timestamp: Some(message.timestamp),
            metadata: message.metadata,
            parts: message.parts,
            rev: 0,
            extra: message.extra,
        }
    }
}

/// The fields of an exported message that are worked out of the others and therefore never stored.
pub const DERIVED_FIELDS: [&str; 3] = ["tools_used", "modes", "has_tools"];

/// Tells a field that is `null` from one that is missing.
pub fn said<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Takes `null` for the empty value.
pub fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_and_roles_are_kept() {
        let value = json!({"id":"a","parent_id":null,"role":"critic","content":"x","timestamp":"t","metadata":{"k":[1]},
            "rev":3,"later":{"a":null}});
        let message: Message = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(message.role, Role::Other("critic".into()));
        assert_eq!(serde_json::to_value(&message).unwrap(), value);
    }

    #[test]
    fn files_of_models_are_named_without_their_paths() {
        assert_eq!(short_model_name("/home/x/qwen2.5.q4.gguf"), "qwen2.5.q4");
        assert_eq!(short_model_name("meta-llama/Llama-3.2"), "meta-llama/Llama-3.2");
    }

    #[test]
    fn null_counts_as_a_field_that_is_not_there() {
        let bare: MessageInput = serde_json::from_value(json!({"role":"user"})).unwrap();
        for field in ["id", "content", "timestamp", "metadata", "parts", "rev"] {
            let input: MessageInput = serde_json::from_value(json!({"role":"user",field:null})).unwrap();
            assert_eq!(input, bare, "{field}");
        }
        let modes: Modes = serde_json::from_value(json!({"commander":null,"webSearch":true})).unwrap();
        assert_eq!(modes, Modes { commander: false, web_search: true });
    }

    #[test]
    fn an_input_tells_a_missing_parent_from_a_root() {
        let missing: MessageInput = serde_json::from_value(json!({"role":"user","content":null})).unwrap();
        let root: MessageInput = serde_json::from_value(json!({"role":"user","parent_id":null})).unwrap();
        let child: MessageInput = serde_json::from_value(json!({"role":"user","parent_id":"p"})).unwrap();
        assert_eq!(missing.parent_id, None);
        assert_eq!(root.parent_id, Some(None));
        assert_eq!(child.parent_id, Some(Some("p".into())));
    }
}
