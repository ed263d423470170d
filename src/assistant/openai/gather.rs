//! From the JSON of an answer to what it says, wherever a server puts it.

use super::body::Record;
use super::calls::Calls;
use super::failure::Peer;
use super::harmony::{self, Harmony};
use super::repair::repaired;
use super::think::{Piece, ThinkSplitter};
use crate::assistant::{AssistantError, Event};
use crate::model::Object;
use crate::model::foreign::one_line;
use crate::model::reply::Phase;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// How many tokens a model must still read before it is told how far it is: shorter texts are read before a person wonders.
const LONG_READING_TOKENS: u64 = 256;

/// How many characters of what is skipped go to the log, and how often in one answer.
const SKIPPED_CHARACTERS: usize = 200;
const MOST_SKIPPED_LOGGED: usize = 3;

/// How many characters of a reason that is not known are kept.
const REASON_CHARACTERS: usize = 100;

/// The largest account of what a model counted, in bytes. Usual ones have some hundred.
const MOST_USAGE_BYTES: usize = 16 << 10;

/// Fields in which servers say why a model ended, the usual one first.
const REASON_FIELDS: [&str; 5] =
    ["finish_reason", "finishReason", "done_reason", "stop_reason", "native_finish_reason"];

/// How deep the parts of a content stand in each other at most.
const MOST_DEPTH: usize = 8;

/// Fields in which servers put what a model thought.
const REASONING_FIELDS: [&str; 5] = ["reasoning_content", "reasoning", "thinking", "reasoning_text", "thought"];

/// Fields in which the parts of a content have their words, thoughts first.
const WORD_FIELDS: [&str; 10] =
    ["thinking", "reasoning", "text", "content", "refusal", "output_text", "value", "transcript", "parts", "summary"];

/// Types of parts that hold no words.
const MEDIA_PARTS: [&str; 10] = [
    "image",
    "image_url",
    "input_image",
    "output_image",
    "audio",
    "input_audio",
    "output_audio",
    "file",
    "video",
    "video_url",
];

/// Gathers what arrives in pieces.
#[derive(Default)]
pub(super) struct Gatherer {
    harmony: Harmony,
    think: ThinkSplitter,
    calls: Calls,
    /// How many lists of calls came.
    lists: usize,
    usage: Option<Object>,
    finish_reason: Option<String>,
    /// Whether words came after it.
    ends_early: bool,
    /// Whether what came last had words.
    ends_in_words: bool,
    /// Whether a piece of an answer came, be it empty.
    begun: bool,
    /// Whether the server said that nothing follows.
    is_over: bool,
    /// Whether an answer came as a whole.
    is_whole: bool,
    /// How many bytes of text, reasoning and calls came.
    words: usize,
    /// The text as it came, to know a message that repeats it.
    said: String,
    /// Whether some of it came as a delta.
    has_delta: bool,
    has_reasoning: bool,
    /// The place of the choice that is taken.
    choice: Option<u64>,
    /// What the server refused the request with, in the midst of its answer.
    refusal: Option<(u16, String)>,
    /// Whether pictures, sounds or files came.
    has_media: bool,
    skipped: usize,
    /// The phase that was told last, and how much of it in percent.
    told: Option<(Phase, u8)>,
}

/// What stands behind the reason to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing: it came after all words.
    AfterWords,
    /// It came with words, as the end of a short answer or of the last piece; or a server writes it to each piece.
    WithWords,
    /// Words: this server's reasons end nothing.
    Unsure,
}

/// What kind of words they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
}

impl Gatherer {
    /// How many bytes of text, reasoning and calls came so far.
    pub(super) fn words(&self) -> usize {
        self.words
    }

    /// Whether a piece of an answer came, be it empty.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether nothing follows.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether the model said that it is done, or, in an answer that is no stream, the answer came as a whole.
    pub(super) fn is_complete(&self, is_stream: bool) -> bool {
        self.finish_reason.is_some() || (self.is_whole && !is_stream)
    }

    /// How sure it is that nothing but figures follow what is complete.
    pub(super) fn end(&self) -> End {
        match (self.ends_early, self.ends_in_words) {
            (true, _) => End::Unsure,
            (false, true) => End::WithWords,
            (false, false) => End::AfterWords,
        }
    }

    /// What the server refused the request with, where its answer was that.
    pub(super) fn refusal(&self) -> Option<&(u16, String)> {
        self.refusal.as_ref()
    }

    /// Takes a record. What is no part of an answer is skipped and logged.
    pub(super) fn take(
        &mut self,
        record: &Record,
        peer: &Peer,
        out: &mut VecDeque<Event>,
    ) -> Result<(), AssistantError> {
        let is_error = record.kind == "error";
        let data =
            record.data.trim_matches(|character: char| character.is_whitespace() || "\u{feff}\0".contains(character));
        if data.is_empty() {
            return Ok(());
        }
        if is_done(data) {
            return self.close();
        }
        match parse(data) {
            Some(value) if is_error && value.get("error").is_none() => {
                Err(self.refuse(embedded_status(&value), data, peer))
            }
            Some(value) => self.take_value(&value, peer, out),
            None if is_error => Err(self.refuse(400, data, peer)),
            None => {
                // Where empty lines are missing between events, several stand in one.
                for line in data.lines().map(str::trim).filter(|line| !line.is_empty()) {
                    match parse(line) {
                        Some(value) => self.take_value(&value, peer, out)?,
                        None => self.take_torn(line, peer, out)?,
                    }
                    if self.is_over {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    fn close(&mut self) -> Result<(), AssistantError> {
        // Every server says why it ended; of one that only says that it did, the reason is not known.
        if !self.is_whole {
            self.finish_reason.get_or_insert_with(|| "no_finish_reason".to_owned());
        }
        self.is_over = true;
        Ok(())
    }

    /// Takes what can be read of a line that is more, or less, than a JSON value: values one after the other, with the name of the
    /// field before them once more, the rest of one that was torn off.
    fn take_torn(&mut self, line: &str, peer: &Peer, out: &mut VecDeque<Event>) -> Result<(), AssistantError> {
        let mut rest = line;
        loop {
            let begun = rest.trim_start_matches(|c: char| c.is_whitespace() || "\u{feff}\0,".contains(c));
            if let Some(more) = begun.strip_prefix("data:") {
                rest = more;
                continue;
            }
            if begun.is_empty() {
                return Ok(());
            }
            if is_done(begun) {
                return self.close();
            }
            let mut values = serde_json::Deserializer::from_str(begun).into_iter::<Value>();
            if begun.starts_with(['{', '['])
                && let Some(Ok(value)) = values.next()
            {
                rest = &begun[values.byte_offset()..];
                self.take_value(&value, peer, out)?;
                if self.is_over {
                    return Ok(());
                }
                continue;
            }
            let next = begun.find("data:").unwrap_or(begun.len());
            self.skip(&begun[..next]);
            rest = &begun[next..];
        }
    }

    fn skip(&mut self, text: &str) {
        self.skipped += 1;
        if self.skipped <= MOST_SKIPPED_LOGGED {
            let text = one_line(text, SKIPPED_CHARACTERS);
            tracing::warn!(text, "a model server sent what is no part of an answer; it is skipped");
        }
    }

    fn refuse(&mut self, status: u16, text: &str, peer: &Peer) -> AssistantError {
        self.refusal = Some((status, text.to_owned()));
        peer.refusal(status, text)
    }

    fn take_value(&mut self, value: &Value, peer: &Peer, out: &mut VecDeque<Event>) -> Result<(), AssistantError> {
        match value {
            Value::Object(chunk) => self.take_chunk(chunk, peer, out),
            Value::Array(values) => {
                for value in values {
                    match value {
                        Value::Object(chunk) => self.take_chunk(chunk, peer, out)?,
                        other => self.skip(&other.to_string()),
                    }
                }
                Ok(())
            }
            Value::String(text) if is_done(text) => self.close(),
            other => {
                self.skip(&other.to_string());
                Ok(())
            }
        }
    }

    /// Takes one chunk: `choices[0].delta`, `choices[0].message` of an answer that was not streamed, and their relatives.
    fn take_chunk(&mut self, chunk: &Object, peer: &Peer, out: &mut VecDeque<Event>) -> Result<(), AssistantError> {
        if let Some(error) = chunk.get("error").filter(|error| says_something(error)) {
            return Err(self.refuse(embedded_status(error), &Value::Object(chunk.clone()).to_string(), peer));
        }
        let kind = chunk.get("object").and_then(Value::as_str).unwrap_or_default();
        if kind == "error" {
            let whole = Value::Object(chunk.clone());
            return Err(self.refuse(embedded_status(&whole), &whole.to_string(), peer));
        }
        self.take_usage(chunk.get("usage"));
        if let Some(Value::Object(progress)) = chunk.get("prompt_progress") {
            self.take_progress(progress, out);
        }
        match chunk.get("choices") {
            Some(Value::Array(choices)) => {
                self.begun = true;
                // A whole answer without any choice says nothing.
                self.is_whole |= choices.is_empty() && kind == "chat.completion";
                for choice in choices.iter().filter_map(Value::as_object) {
                    self.take_choice(choice, choices.len() == 1, peer, out)?;
                }
            }
            Some(Value::Object(choice)) => self.take_choice(choice, true, peer, out)?,
            // Ollama's own form.
            None if chunk.get("message").is_some_and(Value::is_object) => self.take_choice(chunk, true, peer, out)?,
            None if self.finish_reason.is_none() && is_refusal(chunk) => {
                let whole = Value::Object(chunk.clone());
                return Err(self.refuse(embedded_status(&whole), &whole.to_string(), peer));
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes a choice, which may stand alone in its chunk.
    fn take_choice(
        &mut self,
        choice: &Object,
        is_alone: bool,
        peer: &Peer,
        out: &mut VecDeque<Event>,
    ) -> Result<(), AssistantError> {
        if let Some(error) = choice.get("error").filter(|error| says_something(error)) {
            return Err(self.refuse(embedded_status(error), &Value::Object(choice.clone()).to_string(), peer));
        }
        self.begun = true;
        let index = choice.get("index").and_then(Value::as_u64).unwrap_or_default();
        // One answer is asked for. Of others only the calls are taken: some servers spread one answer over several choices. And some
        // count their chunks there.
        let is_other = match self.choice {
            Some(taken) if is_alone && index > taken => self.finish_reason.is_some(),
            Some(taken) => taken != index,
            None => false,
        };
        let message = choice.get("message").filter(|message| message.is_object());
        let words_before = self.words;
        match choice.get("delta") {
            Some(Value::String(text)) if !is_other => self.take_words(Kind::Text, text, out),
            Some(Value::Object(delta)) => {
                self.take_delta(delta, is_other, false, peer, out)?;
                self.has_delta |= self.words > words_before;
            }
            _ if message.is_none() && !is_other => self.take_delta(choice, false, false, peer, out)?,
            _ => {}
        }
        if let Some(Value::Object(message)) = message.filter(|_| self.words == words_before) {
            // Ollama's own form is a stream of messages, of which each goes on and only the last says `done`.
            let goes_on = choice.contains_key("done");
            if goes_on && !self.has_delta {
                self.said.clear();
            }
            let repeats = !is_other && self.has_delta;
            self.take_delta(message, is_other, true, peer, out)?;
            self.is_whole |= !repeats && !goes_on;
        }
        if self.words == words_before && !is_other && choice.contains_key("delta") {
            // Beside an empty delta some servers have the text of an older form.
            words_of(choice.get("text").unwrap_or(&Value::Null), Kind::Text, 0, &mut |kind, text| {
                self.take_words(kind, text, out);
            });
        }
        let has_words = self.words > words_before;
        if has_words && !is_other {
            self.choice = Some(index);
        }
        if self.usage.is_none() {
            self.take_usage(choice.get("usage"));
        }
        // Words after a reason to end: such reasons end nothing.
        self.ends_early |= has_words && !is_other && self.finish_reason.is_some();
        self.ends_in_words = has_words;
        if let Some(reason) = REASON_FIELDS.iter().find_map(|field| reason_of(choice.get(*field)?)) {
            self.finish_reason = Some(reason);
        } else if choice.get("done") == Some(&Value::Bool(true)) {
            self.finish_reason.get_or_insert_with(|| "stop".to_owned());
        }
        Ok(())
    }

    fn take_usage(&mut self, usage: Option<&Value>) {
        let Some(counted @ Value::Object(usage)) = usage else { return };
        let text = counted.to_string();
        if text.len() > MOST_USAGE_BYTES {
            return self.skip(&text);
        }
        self.usage = Some(usage.clone());
    }

    /// Takes a delta, or a message, which may repeat what deltas or earlier messages brought.
    fn take_delta(
        &mut self,
        delta: &Object,
        only_calls: bool,
        is_message: bool,
        peer: &Peer,
        out: &mut VecDeque<Event>,
    ) -> Result<(), AssistantError> {
        if !only_calls {
            self.take_reasoning(delta, is_message, out);
            self.take_text(delta, is_message, out);
        }
        // Some servers have calls, and what is no words, among the parts of a content.
        let of_type = |kinds: &[&str]| -> Vec<&Value> {
            let parts = delta.get("content").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let is_one =
                |part: &&Value| part.get("type").and_then(Value::as_str).is_some_and(|kind| kinds.contains(&kind));
            parts.iter().filter(is_one).collect()
        };
        self.has_media |= !of_type(&MEDIA_PARTS).is_empty()
            || ["images", "audio"].iter().any(|field| match delta.get(*field) {
                Some(Value::Array(list)) => !list.is_empty(),
                Some(Value::Object(one)) => one.contains_key("data"),
                _ => false,
            });
        let among_parts = json!(of_type(&["tool_use", "tool_call", "function_call"]));
        let has_some = |calls: &&Value| !calls.is_null() && !calls.as_array().is_some_and(Vec::is_empty);
        let mut fields: Vec<&Value> =
            [delta.get("tool_calls"), delta.get("function_call")].into_iter().flatten().filter(has_some).collect();
        if fields.is_empty() {
            // Where they stand in a field of their own, too, they are the same.
            fields.extend(Some(&among_parts).filter(has_some));
        }
        for calls in fields {
            if is_message && self.has_delta && !self.calls.is_empty() {
                continue;
            }
            self.lists += 1;
            match self.calls.take(calls, self.lists, is_message) {
                Ok(bytes) => self.words += bytes,
                Err(_) => return Err(peer.endless()),
            }
        }
        Ok(())
    }

    fn take_reasoning(&mut self, delta: &Object, is_message: bool, out: &mut VecDeque<Event>) {
        if is_message && self.has_delta && self.has_reasoning {
            return;
        }
        // Some servers send the same reasoning under several names.
        let mut pieces: Vec<String> = Vec::new();
        for field in REASONING_FIELDS {
            let piece = delta.get(field).map(joined).unwrap_or_default();
            if !piece.is_empty() && !pieces.contains(&piece) {
                pieces.push(piece);
            }
        }
        if pieces.is_empty() {
            pieces.extend(delta.get("reasoning_details").map(joined));
        }
        for piece in pieces {
            self.take_words(Kind::Reasoning, &piece, out);
        }
    }

    fn take_text(&mut self, delta: &Object, is_message: bool, out: &mut VecDeque<Event>) {
        let mut words = Vec::new();
        let mut gather = |value: Option<&Value>| {
            if let Some(value) = value {
                words_of(value, Kind::Text, MOST_DEPTH, &mut |kind, text| words.push((kind, text.to_owned())));
            }
        };
        match delta.get("content") {
            // The words of a server that makes values of what looks like one.
            Some(content @ (Value::Number(_) | Value::Bool(true))) => gather(Some(&Value::from(content.to_string()))),
            content => gather(content),
        }
        gather(delta.get("refusal"));
        if words.is_empty() {
            let mut gather = |value: Option<&Value>| {
                if let Some(value) = value {
                    words_of(value, Kind::Text, MOST_DEPTH, &mut |kind, text| words.push((kind, text.to_owned())));
                }
            };
            gather(delta.get("text").or_else(|| delta.get("output_text")));
            gather(delta.get("audio").and_then(|audio| audio.get("transcript")));
        }
        if let Some(Value::Array(parts)) = delta.get("content")
            && words.is_empty()
            && !parts.is_empty()
        {
            self.skip(&Value::Array(parts.clone()).to_string());
        }
        if is_message && !self.said.is_empty() {
            let text: String =
                words.iter().filter(|(kind, _)| *kind == Kind::Text).map(|(_, text)| text.as_str()).collect();
            // A message that begins with all that was said repeats it and goes on.
            if text.len() > self.said.len() && text.starts_with(&self.said) {
                let rest = text[self.said.len()..].to_owned();
                return self.take_words(Kind::Text, &rest, out);
            }
            if self.has_delta || text == self.said {
                return;
            }
        }
        for (kind, text) in words {
            self.take_words(kind, &text, out);
        }
    }

    fn take_words(&mut self, kind: Kind, text: &str, out: &mut VecDeque<Event>) {
        if text.is_empty() {
            return;
        }
        self.words += text.len();
        match kind {
            Kind::Text => {
                self.said.push_str(text);
                let mut pieces = Vec::new();
                self.harmony.push(text, &mut |piece| pieces.push(piece));
                self.take_pieces(pieces, out);
            }
            Kind::Reasoning => self.take_reasons(text, out),
        }
    }

    fn take_reasons(&mut self, text: &str, out: &mut VecDeque<Event>) {
        self.has_reasoning = true;
        self.think.told_apart(|piece| out.push_back(event_of(piece)));
        out.push_back(Event::Reasoning(text.to_owned()));
    }

    fn take_pieces(&mut self, pieces: Vec<harmony::Piece>, out: &mut VecDeque<Event>) {
        for piece in pieces {
            match piece {
                harmony::Piece::Text(text) => self.think.push(&text, |piece| out.push_back(event_of(piece))),
                harmony::Piece::Reasoning(text) => self.take_reasons(&text, out),
                harmony::Piece::Call { name, arguments } => {
                    self.lists += 1;
                    // There are no more of them than is taken, and the text that they came in is bounded.
                    let _ = self.calls.take(&json!({"name": name, "arguments": arguments}), self.lists, true);
                }
            }
        }
    }

    /// Takes what llama.cpp's server and the engine tell of the reading: how many tokens there are, how many of them were known
    /// from before, how many are read (those included), and how many requests are served first.
    fn take_progress(&mut self, progress: &Object, out: &mut VecDeque<Event>) {
        if self.words > 0 {
            return;
        }
        let number = |field: &str| progress.get(field).and_then(Value::as_u64).unwrap_or_default();
        let cached = number("cache");
        let to_read = number("total").saturating_sub(cached);
        let (phase, fraction) = if number("queued") > 0 {
            (Phase::Waiting, None)
        } else if to_read >= LONG_READING_TOKENS {
            let read = number("processed").saturating_sub(cached).min(to_read);
            (Phase::ReadingContext, Some(read as f64 / to_read as f64))
        } else {
            return;
        };
        let percent = fraction.map_or(0, |fraction| (fraction * 100.0) as u8);
        if self.told != Some((phase, percent)) {
            self.told = Some((phase, percent));
            out.push_back(Event::Progress(phase, fraction));
        }
    }

    /// Hands out what was held back: nothing follows. `cut_off` says why, where not the model ended it.
    pub(super) fn finish(&mut self, cut_off: Option<&str>, out: &mut VecDeque<Event>) {
        let mut pieces = Vec::new();
        self.harmony.finish(&mut |piece| pieces.push(piece));
        self.take_pieces(pieces, out);
        self.think.finish(|piece| out.push_back(event_of(piece)));
        out.extend(self.calls.finish().map(Event::ToolCall));
        out.extend(self.usage.take().map(Event::Usage));
        let cut_off = cut_off.map(str::to_owned).or_else(|| cut_off_by(self.finish_reason.as_deref()?));
        let cut_off = cut_off.or_else(|| self.has_media.then(|| "media".to_owned()));
        out.extend(cut_off.map(Event::CutOff));
    }
}

fn event_of(piece: Piece) -> Event {
    match piece {
        Piece::Text(text) => Event::Text(text),
        Piece::Reasoning(text) => Event::Reasoning(text),
        Piece::TextWasReasoning => Event::TextWasReasoning,
    }
}

/// The JSON value that a text is, if need be with what is no JSON in it repaired.
fn parse(text: &str) -> Option<Value> {
    serde_json::from_str(text).ok().or_else(|| serde_json::from_str(&repaired(text)?).ok())
}

/// Whether it is the word after which nothing follows.
fn is_done(text: &str) -> bool {
    text.len() <= 16
        && text.chars().filter(|c| !c.is_whitespace() && *c != '"').collect::<String>().eq_ignore_ascii_case("[DONE]")
}

/// Whether an `error` is one: some servers send an empty one with every chunk.
fn says_something(error: &Value) -> bool {
    match error {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.trim().is_empty(),
        // Some send the empty shape of one.
        Value::Array(list) => list.iter().any(says_something),
        Value::Object(fields) => fields.values().any(says_something),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Bool(true) => true,
    }
}

/// Whether a chunk that holds no answer is a refusal without the word `error`.
fn is_refusal(chunk: &Object) -> bool {
    let says = |field: &str| chunk.get(field).is_some_and(says_something);
    let is_text = |field: &str| chunk.get(field).is_some_and(Value::is_string) && says(field);
    let is_bad = |word: &str| {
        let word = word.to_lowercase();
        ["error", "exception", "invalid", "exceed", "fail", "denied"].iter().any(|sign| word.contains(sign))
    };
    let is_code = |field: &str| match chunk.get(field) {
        Some(Value::Number(number)) => number.as_u64().is_some_and(|code| code >= 400),
        Some(Value::String(code)) => code.trim().parse().map_or_else(|_| is_bad(code), |code: u64| code >= 400),
        _ => false,
    };
    let names_error = ["type", "code", "status", "status_code"].into_iter().any(is_code);
    let is_bare = ["object", "type", "status"].iter().all(|field| !chunk.contains_key(*field));
    is_text("error_message")
        || is_text("error_msg")
        || (is_bare
            && says("detail")
            && chunk.get("detail").is_some_and(|detail| detail.is_string() || detail.is_array()))
        || (["message", "msg"].iter().any(|field| is_text(field)) && names_error)
}

/// A reason to end, however it is written; `None` where it says that there is none.
fn reason_of(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Object(fields) => fields.get("type")?.as_str()?.to_owned(),
        _ => return None,
    };
    let known = text.trim().to_lowercase();
    let is_none = ["", "0", "null", "none", "undefined"].contains(&known.as_str()) || known.ends_with("unspecified");
    (!is_none).then_some(text)
}

/// Hands out the words of a content: a text, a list of parts, or a part. What a part is, its type says.
fn words_of(value: &Value, kind: Kind, depth: usize, out: &mut dyn FnMut(Kind, &str)) {
    match value {
        Value::String(text) if !text.is_empty() => out(kind, text),
        Value::Array(parts) if depth > 0 => parts.iter().for_each(|part| words_of(part, kind, depth - 1, out)),
        Value::Object(part) if depth > 0 => {
            let named = part.get("type").and_then(Value::as_str).unwrap_or_default().to_lowercase();
            let is_thought = ["think", "thought", "reason"].iter().any(|word| named.contains(word))
                || part.get("thought") == Some(&Value::Bool(true));
            let kind = if is_thought { Kind::Reasoning } else { kind };
            // Some servers have the same words in several fields, also as thoughts, and a summary of those that are there.
            let mut told: Vec<Vec<(Kind, String)>> = Vec::new();
            let joined = |words: &[(Kind, String)]| words.iter().map(|(_, text)| text.as_str()).collect::<String>();
            for field in WORD_FIELDS {
                let Some(value) = part.get(field) else { continue };
                // A thought may stand in a part that does not say its type.
                let kind = if matches!(field, "thinking" | "reasoning") { Kind::Reasoning } else { kind };
                let mut words = Vec::new();
                words_of(value, kind, depth - 1, &mut |kind, text| words.push((kind, text.to_owned())));
                let is_new = !told.iter().any(|before| joined(before) == joined(&words));
                if is_new && (field != "summary" || !is_thought || told.is_empty()) {
                    told.push(words);
                }
            }
            told.iter().flatten().for_each(|(kind, text)| out(*kind, text));
        }
        _ => {}
    }
}

/// All words of a content.
fn joined(value: &Value) -> String {
    let mut joined = String::new();
    words_of(value, Kind::Reasoning, MOST_DEPTH, &mut |_, text| joined.push_str(text));
    joined
}

/// What `metadata.cut_off` is to say of a reason to end: nothing where the model was done. Servers write the same reasons in many
/// ways; one that is not known is kept as it came.
fn cut_off_by(reason: &str) -> Option<String> {
    let known: String = reason.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    match known.strip_prefix("finishreason").filter(|rest| !rest.is_empty()).unwrap_or(&known) {
        "stop" | "stopped" | "eos" | "eostoken" | "eostokenid" | "eosfound" | "endofsequence" | "endoftext"
        | "endturn" | "endofturn" | "stopsequence" | "stoptoken" | "stopword" | "stopwords" | "stopstring"
        | "stopstringfound" | "stopcriteriamet" | "end" | "complete" | "completed" | "done" | "finished"
        | "success" | "toolcalls" | "toolcall" | "tooluse" | "functioncall" | "functioncalls" | "1" => None,
        "length"
        | "maxtokens"
        | "maxtoken"
        | "maxoutputtokens"
        | "maxnewtokens"
        | "maxcompletiontokens"
        | "maxlength"
        | "modellength"
        | "tokenlimit"
        | "maxtokensreached"
        | "maxpredictedtokensreached"
        | "contextlength"
        | "contextlengthreached"
        | "contextlengthexceeded"
        | "modelcontextwindowexceeded" => Some("length".to_owned()),
        "contentfilter"
        | "contentfiltered"
        | "safety"
        | "recitation"
        | "blocklist"
        | "prohibitedcontent"
        | "spii"
        | "guardrailintervened" => Some("content_filter".to_owned()),
        _ => Some(one_line(reason, REASON_CHARACTERS)),
    }
}

/// The HTTP status that an error inside a stream names; 400, which says nothing, where it names none.
fn embedded_status(error: &Value) -> u16 {
    let number = |field: &str| {
        let value = error.get(field)?;
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
        u16::try_from(number).ok().filter(|code| (400..600).contains(code))
    };
    ["code", "status", "status_code"].into_iter().find_map(number).unwrap_or(400)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_to_end_are_known_however_written() {
        for reason in [
            "stop",
            "STOP",
            "eos_token",
            "stop_sequence",
            "end_turn",
            "tool_calls",
            "EOS",
            "FINISH_REASON_STOP",
            "tool-use",
        ] {
            assert_eq!(cut_off_by(reason), None, "{reason}");
        }
        for reason in ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens"] {
            assert_eq!(cut_off_by(reason).as_deref(), Some("length"), "{reason}");
        }
        assert_eq!(cut_off_by("SAFETY").as_deref(), Some("content_filter"));
        for reason in ["Abort", "no_finish_reason", "ein Grund"] {
            assert_eq!(cut_off_by(reason).as_deref(), Some(reason));
        }
        assert_eq!(cut_off_by(&"x\n".repeat(500)).unwrap().len(), 150 + "…".len());
    }
}
