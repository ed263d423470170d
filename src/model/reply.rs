//! What happens while a reply is generated, and how it is written as lines.

use super::message::Message;
use super::parts::{Part, ToolStatus, ToolUse};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One event of a reply. A line of a kind that is not known is skipped by [`parse_line`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ReplyEvent {
    /// The person's message is on the disk and generation begins. Always the first line.
    Started {
        /// The reply's name, for resume and stop.
        reply_id: String,
        /// The id that the finished message will have.
        message_id: String,
        /// The message that it answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        parent_id: Option<String>,
        /// Which model answers.
        model: String,
        /// How many of the oldest messages of the shown path the model was not given, because they would not fit.
        #[serde(default, skip_serializing_if = "is_zero")]
        left_out: usize,
    },
    /// What is being waited for.
    Progress {
        /// Position in the stream.
        seq: u64,
        /// What is going on.
        phase: Phase,
        /// How much of it is done, from 0 to 1, where known.
        #[serde(default, deserialize_with = "fraction", skip_serializing_if = "Option::is_none")]
        fraction: Option<f64>,
    },
    /// A piece of text.
    Delta {
        /// Position in the stream.
        seq: u64,
        /// The text.
        text: String,
    },
    /// A piece of reasoning.
    Reasoning {
        /// Position in the stream.
        seq: u64,
        /// The text.
        text: String,
    },
    /// The texts so far, since the last tool, were reasoning: the model said only now where its thoughts end.
    TextWasReasoning {
        /// Position in the stream.
        seq: u64,
    },
    /// A tool begins.
    ToolStarted {
        /// Position in the stream.
        seq: u64,
        /// The call's id.
        call_id: String,
        /// The tool's name.
        name: String,
        /// Its arguments.
        arguments: Value,
        /// Whether a person must allow it first.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        needs_approval: bool,
    },
    /// A tool ended.
    ToolFinished {
        /// Position in the stream.
        seq: u64,
        /// The call's id.
        call_id: String,
        /// How it ended.
        status: ToolStatus,
        /// What it answered.
        result: Value,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    },
    /// The reply is complete and on the disk. A last line.
    Done {
        /// Position in the stream.
        seq: u64,
        /// The message as persisted.
        message: Box<Message>,
        /// The session's revision.
        revision: u64,
        /// What the model counted.
        usage: Option<Value>,
    },
    /// The reply could not be completed; what was generated so far is kept. A last line.
    Failed {
        /// Position in the stream.
        seq: u64,
        /// What went wrong, for programs.
        code: String,
        /// What went wrong and what to do, for people.
        message: String,
    },
}

/// What a reply waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// For its turn, or for the model server to answer.
    Waiting,
    /// For the program that runs the model to be built on this machine.
    BuildingModel,
    /// For the model's file to be fetched.
    FetchingModel,
    /// For the model to be read into memory.
    LoadingModel,
    /// For the model to read the conversation.
    ReadingContext,
}

/// Reads a fraction. In an enum that tells its kinds by a field numbers come as they were written, and not as `f64`.
fn fraction<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    Ok(Option::<serde_json::Number>::deserialize(deserializer)?.and_then(|number| number.as_f64()))
}

fn is_zero(value: &usize) -> bool {
    *value == 0
}

impl ReplyEvent {
    /// The position in the stream; `started` is 0.
    pub fn seq(&self) -> u64 {
        match self {
            ReplyEvent::Started { .. } => 0,
            ReplyEvent::Progress { seq, .. }
            | ReplyEvent::Delta { seq, .. }
            | ReplyEvent::Reasoning { seq, .. }
            | ReplyEvent::TextWasReasoning { seq }
            | ReplyEvent::ToolStarted { seq, .. }
            | ReplyEvent::ToolFinished { seq, .. }
            | ReplyEvent::Done { seq, .. }
            | ReplyEvent::Failed { seq, .. } => *seq,
        }
    }

    /// Whether nothing follows.
    pub fn is_last(&self) -> bool {
        matches!(self, ReplyEvent::Done { .. } | ReplyEvent::Failed { .. })
    }

    /// The event as one line, its line end included.
    pub fn to_line(&self) -> String {
        // Serialization to a string fails only for maps with keys that are no strings, and an event has none.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

/// Reads one line; `None` for an empty line, a torn one, and a kind that is not known.
pub fn parse_line(line: &str) -> Option<ReplyEvent> {
    serde_json::from_str(line).ok()
}

/// Gathers bytes into lines: chunks may end anywhere, also inside a character.
#[derive(Debug, Default)]
pub struct LineReader {
    /// The line that is arriving.
    pending: Vec<u8>,
}

impl LineReader {
    /// Takes a chunk and returns the events of the lines that it completed.
    pub fn push(&mut self, chunk: &[u8]) -> Vec<ReplyEvent> {
        // Only the chunk is searched: a long line comes in many.
        let mut events = Vec::new();
        let mut lines = chunk.split(|&byte| byte == b'\n');
        let rest = lines.next_back().unwrap_or_default();
        for line in lines {
            let read = |line: &[u8]| std::str::from_utf8(line).ok().and_then(parse_line);
            if self.pending.is_empty() {
                events.extend(read(line));
            } else {
                self.pending.extend_from_slice(line);
                events.extend(read(&std::mem::take(&mut self.pending)));
            }
        }
        self.pending.extend_from_slice(rest);
        events
    }
}

/// Adds what an event brings to the parts of a reply.
pub fn apply(parts: &mut Vec<Part>, event: &ReplyEvent) {
    match event {
        ReplyEvent::Delta { text, .. } => match parts.last_mut() {
            Some(Part::Text { text: last, .. }) => last.push_str(text),
            _ => parts.push(Part::text(text.clone())),
        },
        ReplyEvent::Reasoning { text, .. } => match parts.last_mut() {
            Some(Part::Reasoning { text: last, .. }) => last.push_str(text),
            _ => parts.push(Part::reasoning(text.clone(), None)),
        },
        ReplyEvent::TextWasReasoning { .. } => text_was_reasoning(parts),
        ReplyEvent::ToolStarted { call_id, name, arguments, .. } => parts.push(Part::Tool(Box::new(ToolUse {
            name: name.clone(),
            params: match arguments {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            },
            call_id: Some(call_id.clone()),
            arguments: Some(arguments.clone()),
            ..ToolUse::default()
        }))),
        ReplyEvent::ToolFinished { call_id, status, result, duration_ms, .. } => {
            let call = parts.iter_mut().rev().find_map(|part| match part {
                Part::Tool(call) if call.call_id.as_ref() == Some(call_id) => Some(call),
                _ => None,
            });
            if let Some(call) = call {
                call.status = Some(status.clone());
                call.result = Some(result.clone());
                call.duration_ms = Some(*duration_ms);
            }
        }
        ReplyEvent::Started { .. }
        | ReplyEvent::Progress { .. }
        | ReplyEvent::Done { .. }
        | ReplyEvent::Failed { .. } => {}
    }
}

/// Makes the texts since the last tool one thought.
fn text_was_reasoning(parts: &mut [Part]) {
    let begin = parts.iter().rposition(|part| matches!(part, Part::Tool(_))).map_or(0, |tool| tool + 1);
    for part in parts.iter_mut().skip(begin) {
        if let Part::Text { text, .. } = part {
            *part = Part::reasoning(text.trim(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn lines_have_the_documented_shape() {
        let delta = ReplyEvent::Delta { seq: 2, text: "hi".into() };
        assert_eq!(delta.to_line(), "{\"type\":\"delta\",\"seq\":2,\"text\":\"hi\"}\n");
        assert_eq!(ReplyEvent::TextWasReasoning { seq: 3 }.to_line(), "{\"type\":\"text_was_reasoning\",\"seq\":3}\n");
        assert_eq!(parse_line(r#"{"type":"later","seq":1}"#), None);
        assert_eq!(
            parse_line(r#"{"type":"progress","seq":1,"phase":"loading_model","fraction":0.5}"#),
            Some(ReplyEvent::Progress { seq: 1, phase: Phase::LoadingModel, fraction: Some(0.5) })
        );
    }

    #[test]
    fn events_build_parts_in_order() {
        let mut parts = Vec::new();
        for event in [
            ReplyEvent::Reasoning { seq: 1, text: "h".into() },
            ReplyEvent::Reasoning { seq: 2, text: "m".into() },
            ReplyEvent::Delta { seq: 3, text: "a".into() },
            ReplyEvent::ToolStarted {
                seq: 4,
                call_id: "c".into(),
                name: "t".into(),
                arguments: json!({"x":1}),
                needs_approval: false,
            },
            ReplyEvent::ToolFinished {
                seq: 5,
                call_id: "c".into(),
                status: ToolStatus::Ok,
                result: json!("r"),
                duration_ms: 1,
            },
            ReplyEvent::Delta { seq: 6, text: "b".into() },
        ] {
            apply(&mut parts, &event);
        }
        assert_eq!(parts.len(), 4);
        assert_eq!(super::super::parts::joined_text(&parts), "ab");
        assert!(
            matches!(&parts[2], Part::Tool(call) if call.params == "{\"x\":1}" && call.status == Some(ToolStatus::Ok))
        );
    }

    #[test]
    fn text_can_turn_out_to_have_been_reasoning() {
        let delta = |text: &str| ReplyEvent::Delta { seq: 1, text: text.into() };
        let tool = ReplyEvent::ToolStarted {
            seq: 1,
            call_id: "c".into(),
            name: "t".into(),
            arguments: json!({}),
            needs_approval: false,
        };
        let mut parts = Vec::new();
        for event in [
            delta("before"),
            tool,
            delta("\nhm "),
            delta("so\n"),
            ReplyEvent::TextWasReasoning { seq: 2 },
            delta("yes"),
        ] {
            apply(&mut parts, &event);
        }
        assert!(matches!(&parts[0], Part::Text { text, .. } if text == "before"));
        assert_eq!(parts[2], Part::reasoning("hm so", None));
        assert_eq!(super::super::parts::joined_text(&parts), "beforeyes");
    }

    #[test]
    fn a_long_line_in_many_chunks_is_read_in_linear_time() {
        let line = ReplyEvent::Delta { seq: 1, text: "x".repeat(8 << 20) }.to_line();
        let begin = std::time::Instant::now();
        let mut reader = LineReader::default();
        let events: usize = line.as_bytes().chunks(512).map(|chunk| reader.push(chunk).len()).sum();
        assert_eq!(events, 1);
        // It takes a fraction of a second; were it quadratic, minutes.
        assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{:?}", begin.elapsed());
    }

    proptest! {
        #[test]
        fn chunks_may_end_anywhere(texts in prop::collection::vec("\\PC{0,8}", 1..8), cut in 1usize..9) {
            let events: Vec<ReplyEvent> = texts.iter().enumerate()
                .map(|(seq, text)| ReplyEvent::Delta { seq: seq as u64, text: text.clone() }).collect();
            let bytes: Vec<u8> = events.iter().flat_map(|event| event.to_line().into_bytes()).collect();
            let mut reader = LineReader::default();
            let read: Vec<ReplyEvent> = bytes.chunks(cut).flat_map(|chunk| reader.push(chunk)).collect();
            prop_assert_eq!(read, events);
        }
    }
}
