//! Finds tool calls in what a model writes, while it writes.
//!
//! Models write a call as JSON after a mark of their own (`<tool_call>`, `<|python_tag|>`, `[TOOL_CALLS]`), in a fenced block, or
//! bare at the beginning of a line. Whatever may become a call is held back until it is one or is none.

use crate::text::overlap;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// More text than any call has, in bytes; what is longer is text.
const MOST_CALL_BYTES: usize = 64 << 10;

/// What stands before a call, and what may stand behind it.
const MARKS: [(&str, &str); 4] =
    [("<tool_call>", "</tool_call>"), ("<|python_tag|>", ""), ("[TOOL_CALLS]", ""), ("```", "```")];

/// A call that a model made.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The tool's name.
    pub name: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Text for the person.
    Text(String),
    /// A call.
    Call(Call),
}

/// Takes an answer apart.
#[derive(Debug)]
pub struct CallParser {
    /// The names of the tools that there are.
    names: HashSet<String>,
    held: String,
    /// Whether what comes next stands at the beginning of a line.
    line_start: bool,
}

/// What stands at a place.
enum Found {
    /// These calls, and this many bytes of text belong to them.
    Calls(Vec<Call>, usize),
    /// This many bytes that are no call.
    Text(usize),
    /// It is not known yet.
    Open,
}

impl CallParser {
    /// Looks for calls of tools with these names.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().collect(), held: String::new(), line_start: true }
    }

    /// Takes more of the answer and returns what it completed.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        self.take(false)
    }

    /// Takes apart what was held back: nothing follows.
    pub fn finish(&mut self) -> Vec<Piece> {
        self.take(true)
    }

    fn take(&mut self, ended: bool) -> Vec<Piece> {
        let mut pieces = Vec::new();
        loop {
            let Some((begin, mark)) = self.next_place() else {
                let keep = if ended { 0 } else { self.unsure() };
                self.give_text(self.held.len() - keep, &mut pieces);
                return pieces;
            };
            // White space before a call belongs to it.
            let said = self.held[..begin].trim_end().len();
            match self.at_place(&self.held[begin..], mark, ended) {
                Found::Calls(calls, length) => {
                    self.give_text(said, &mut pieces);
                    self.held.drain(..begin - said + length);
                    pieces.extend(calls.into_iter().map(Piece::Call));
                }
                Found::Text(length) => self.give_text(begin + length, &mut pieces),
                Found::Open if self.held.len() > MOST_CALL_BYTES => self.give_text(self.held.len(), &mut pieces),
                Found::Open => {
                    self.give_text(said, &mut pieces);
                    return pieces;
                }
            }
        }
    }

    /// Where a call may begin first, and its mark; the empty mark is bare JSON.
    fn next_place(&self) -> Option<(usize, (&'static str, &'static str))> {
        let marks = MARKS.into_iter().filter_map(|mark| Some((self.held.find(mark.0)?, mark)));
        let bare = self.bare_json().map(|at| (at, ("", "")));
        marks.chain(bare).min_by_key(|(at, _)| *at)
    }

    /// Where a line begins with a bracket.
    fn bare_json(&self) -> Option<usize> {
        let mut fresh = self.line_start;
        for (at, character) in self.held.char_indices() {
            match character {
                '{' | '[' if fresh => return Some(at),
                '\n' => fresh = true,
                character if character.is_whitespace() => {}
                _ => fresh = false,
            }
        }
        None
    }

    /// How many bytes at the end may be the beginning of a mark, with the white space before it.
    fn unsure(&self) -> usize {
        let mark = MARKS.iter().map(|(mark, _)| overlap(&self.held, mark)).max().unwrap_or(0);
        self.held.len() - self.held[..self.held.len() - mark].trim_end().len()
    }

    /// What `text`, which begins with this mark, is.
    fn at_place(&self, text: &str, (open, close): (&str, &str), ended: bool) -> Found {
        let after = &text[open.len()..];
        let is_fence = open == "```";
        let body =
            if is_fence { after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_') } else { after };
        let json = body.trim_start();
        let begin = text.len() - json.len();
        let may_be_mark = open.is_empty() && MARKS.iter().any(|(mark, _)| mark.starts_with(text));
        if json.is_empty() || may_be_mark {
            return if ended { Found::Text(text.len()) } else { Found::Open };
        }
        // Whatever is no JSON is shown as it is; the search goes on behind its mark or first bracket, so that what follows counts.
        let not_json = Found::Text(open.len().max(1));
        if !json.starts_with(['{', '[']) {
            return not_json;
        }
        let mut values = serde_json::Deserializer::from_str(json).into_iter::<Value>();
        let value = match values.next() {
            Some(Ok(value)) => value,
            Some(Err(error)) if error.is_eof() && !ended => return Found::Open,
            _ => return not_json,
        };
        let end = begin + values.byte_offset();
        let Some(calls) = self.calls(value, open.is_empty() || is_fence) else { return Found::Text(end) };
        // What closes the mark belongs to it, if it comes.
        let closed = text[end..].trim_start();
        match closed.strip_prefix(close) {
            Some(behind) => Found::Calls(calls, text.len() - behind.len()),
            None if !ended && close.starts_with(closed) => Found::Open,
            None => Found::Calls(calls, end),
        }
    }

    /// The calls that a value is: an object with a name and arguments, or a list of such. Without a mark only known names count.
    fn calls(&self, value: Value, known_only: bool) -> Option<Vec<Call>> {
        let values = match value {
            Value::Array(values) if !values.is_empty() => values,
            Value::Object(_) => vec![value],
            _ => return None,
        };
        let calls = values.into_iter().map(call).collect::<Option<Vec<Call>>>()?;
        (!known_only || calls.iter().all(|call| self.names.contains(&call.name))).then_some(calls)
    }

    /// Hands the first `length` bytes on as text.
    fn give_text(&mut self, length: usize, pieces: &mut Vec<Piece>) {
        if length == 0 {
            return;
        }
        let text: String = self.held.drain(..length).collect();
        let line = text.rsplit('\n').next().unwrap_or_default();
        self.line_start = line.trim().is_empty() && (self.line_start || text.contains('\n'));
        match pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(&text),
            _ => pieces.push(Piece::Text(text)),
        }
    }
}

fn call(value: Value) -> Option<Call> {
    let Value::Object(mut fields) = value else { return None };
    // Some models wrap the call as the request did.
    if let Some(Value::Object(function)) = fields.remove("function") {
        fields = function;
    }
    let name = fields.get("name")?.as_str()?.to_owned();
    let arguments = fields.remove("arguments").or_else(|| fields.remove("parameters"))?;
    let arguments = match arguments {
        Value::Object(arguments) => arguments,
        Value::String(text) => serde_json::from_str(&text).ok()?,
        Value::Null => Map::new(),
        _ => return None,
    };
    Some(Call { name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(text: &str, cut: usize) -> (String, Vec<Call>) {
        let mut parser = CallParser::new(["weather".to_owned(), "time".to_owned()]);
        let characters: Vec<char> = text.chars().collect();
        let mut pieces = Vec::new();
        for chunk in characters.chunks(cut) {
            pieces.extend(parser.push(&chunk.iter().collect::<String>()));
        }
        pieces.extend(parser.finish());
        let (mut said, mut calls) = (String::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Text(text) => said.push_str(&text),
                Piece::Call(call) => calls.push(call),
            }
        }
        (said, calls)
    }

    fn weather(city: &str) -> Call {
        let Value::Object(arguments) = json!({"city": city}) else { unreachable!() };
        Call { name: "weather".into(), arguments }
    }

    #[test]
    fn calls_are_found_in_every_form() {
        let oslo = r#"{"name": "weather", "arguments": {"city": "Oslo"}}"#;
        for (text, said) in [
            (format!("<tool_call>\n{oslo}\n</tool_call>"), ""),
            (format!("I look.\n<tool_call>\n{oslo}\n</tool_call>"), "I look."),
            (format!("<tool_call>{oslo}"), ""),
            (oslo.to_owned(), ""),
            (format!("Sure:\n\n{oslo}"), "Sure:"),
            (format!("```json\n{oslo}\n```\nDone"), "\nDone"),
            (format!("```\n{oslo}\n```"), ""),
            (format!("[TOOL_CALLS] [{oslo}]"), ""),
            (r#"<|python_tag|>{"name":"weather","parameters":{"city":"Oslo"}}"#.to_owned(), ""),
            (r#"{"type":"function","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}"#.to_owned(), ""),
        ] {
            for cut in [1, 2, 3, 7, 1000] {
                assert_eq!(parse(&text, cut), (said.to_owned(), vec![weather("Oslo")]), "{text}");
            }
        }
        let two = r#"<tool_call>{"name":"weather","arguments":{"city":"a"}}</tool_call>
<tool_call>{"name":"weather","arguments":{"city":"b"}}</tool_call>"#;
        assert_eq!(parse(two, 3).1, [weather("a"), weather("b")]);
    }

    #[test]
    fn what_is_no_call_stays_text() {
        for text in [
            "```rust\nfn main() {\n    {\n    }\n}\n```",
            r#"{"name": "other", "arguments": {}}"#,
            r#"{"name": "weather"}"#,
            "{not json}",
            "[1, 2, 3] are numbers",
            "see {\"name\": \"weather\", \"arguments\": {}} inside a line",
            "<tool_call>oops</tool_call>",
            "<tool_call>{\"name\": \"weather\", \"arg",
            "a < b and `c` ``` d",
            "ends with <tool_",
            "{\"open\": ",
        ] {
            for cut in [1, 2, 5, 1000] {
                assert_eq!(parse(text, cut), (text.to_owned(), Vec::new()), "{text}");
            }
        }
    }

    #[test]
    fn text_comes_as_soon_as_it_is_sure() {
        let mut parser = CallParser::new(["weather".to_owned()]);
        assert_eq!(parser.push("Hello there"), [Piece::Text("Hello there".into())]);
        assert_eq!(parser.push(" <tool"), []);
        assert_eq!(parser.push("box>"), [Piece::Text(" <toolbox>".into())]);
    }

    proptest! {
        #[test]
        fn no_text_is_lost(text in "[a{}\\[\\]\"`<>:,\n ]{0,60}", cut in 1usize..7) {
            prop_assert_eq!(parse(&text, cut), (text, Vec::new()));
        }
    }
}
