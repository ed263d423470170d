//! What happened in a reply, in order: text, reasoning and tool uses.

use super::{Object, json};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A piece of an assistant's reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part {
    /// Text for the person.
    Text {
        /// The text, Markdown.
        text: String,
        /// Unknown fields, kept.
        #[serde(flatten)]
        extra: Object,
    },
    /// What the model thought before it answered.
    Reasoning {
        /// The text.
        text: String,
        /// How long it took, in milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration_ms: Option<u64>,
        /// Unknown fields, kept.
        #[serde(flatten)]
        extra: Object,
    },
    /// A structured tool call and its result.
    Tool(Box<ToolUse>),
    /// A kind of part that this version does not know, kept as it is.
    #[serde(untagged)]
    Other(Value),
}

impl Part {
    /// A text part.
    pub fn text(text: impl Into<String>) -> Self {
        Part::Text { text: text.into(), extra: Object::new() }
    }

    /// Puts the text of what makes it more than `most` levels deep in its place; says whether there was any.
    pub fn limit_depth(&mut self, most: usize) -> bool {
        let inner = most.saturating_sub(1);
        match self {
            Part::Text { extra, .. } | Part::Reasoning { extra, .. } => json::limit_object(extra, inner),
            Part::Tool(call) => {
                let values = [&mut call.arguments, &mut call.result];
                let any = values.into_iter().flatten().fold(false, |any, value| json::limit(value, inner) | any);
                json::limit_object(&mut call.extra, inner) | any
            }
            Part::Other(value) => json::limit(value, most),
        }
    }

    /// A reasoning part.
    pub fn reasoning(text: impl Into<String>, duration_ms: Option<u64>) -> Self {
        Part::Reasoning { text: text.into(), duration_ms, extra: Object::new() }
    }
}

/// One use of a tool, from a structured call or read out of text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolUse {
    /// The tool's name.
    pub name: String,
    /// Its parameters as text.
    #[serde(default)]
    pub params: String,
    /// The content around the call, at most 200 characters.
    #[serde(default)]
    pub context: String,
    /// The call's id, for a structured call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The arguments as JSON, for a structured call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// What the tool answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ToolStatus>,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Unknown fields, kept.
    #[serde(flatten)]
    pub extra: Object,
}

/// How a tool call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// It answered.
    Ok,
    /// It failed.
    Error,
    /// The person did not allow it.
    Denied,
    /// A status of a later version or of another program, kept.
    #[serde(untagged)]
    Other(String),
}

/// The texts of `parts` joined: what `content` is.
pub fn joined_text(parts: &[Part]) -> String {
    let mut content = String::new();
    for part in parts {
        if let Part::Text { text, .. } = part {
            content.push_str(text);
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn parts_read_back_as_written_with_what_is_unknown() {
        let value = json!([
            {"type":"reasoning","text":"hm","duration_ms":12},
            {"type":"text","text":"a","later":[1]},
            {"type":"tool","name":"datetime","params":"","context":"","call_id":"c","arguments":{"z":1},"result":"noon",
             "status":"ok","duration_ms":3,"more":true},
            {"type":"picture","url":"x"},
            {"type":"text","text":"b"}
        ]);
        let parts: Vec<Part> = serde_json::from_value(value.clone()).unwrap();
        assert!(matches!(parts[2], Part::Tool(_)) && matches!(parts[3], Part::Other(_)));
        assert_eq!(joined_text(&parts), "ab");
        assert_eq!(serde_json::to_value(&parts).unwrap(), value);
    }
}
