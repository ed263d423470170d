//! From the bytes of a chat completion to events.

use super::failure::Peer;
use super::think::{Piece, ThinkSplitter};
use crate::assistant::{AssistantError, Event, ToolCall};
use crate::model::Object;
use crate::model::reply::Phase;
use bytes::Bytes;
use eventsource_stream::{EventStreamError, Eventsource};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// More calls than any reply makes at once.
const MOST_TOOL_CALLS: usize = 128;

/// How many tokens a model must still read before it is told how far it is: shorter texts are read before a person wonders.
const LONG_READING_TOKENS: u64 = 256;

/// How long and how much is waited for and taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The longest silence before the first piece; a model reads the conversation first.
    pub(super) first_timeout: Duration,
    /// The longest silence between two pieces.
    pub(super) idle_timeout: Duration,
    /// The longest event, and the longest answer that is not streamed, in bytes.
    pub(super) max_event_bytes: usize,
}

/// The events of a streamed answer. Dropping the stream drops `bytes` and so closes the connection.
pub(super) fn streamed<B>(bytes: B, peer: Peer, limits: Limits) -> BoxStream<'static, Result<Event, AssistantError>>
where
    B: Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
{
    let source = bounded(bytes, limits.max_event_bytes).eventsource().boxed();
    let reading = Reading {
        source,
        gatherer: Gatherer::default(),
        queue: VecDeque::new(),
        begun: false,
        ended: false,
        failure: None,
        peer,
        limits,
    };
    stream::unfold(reading, |mut reading| async move { reading.next().await.map(|event| (event, reading)) }).boxed()
}

/// The events of an answer that came as one JSON object although a stream was asked for.
pub(super) fn whole(body: &[u8], peer: &Peer) -> Vec<Result<Event, AssistantError>> {
    let mut gatherer = Gatherer::default();
    let mut queue = VecDeque::new();
    let result = match serde_json::from_slice::<Value>(body) {
        Ok(value) => gatherer.take(&value, peer, &mut queue).and_then(|()| {
            if gatherer.finish_reason.is_some() || gatherer.begun {
                gatherer.finish(&mut queue);
                Ok(())
            } else {
                Err(peer.not_understood("a JSON answer without choices"))
            }
        }),
        Err(error) => Err(peer.not_understood(&error.to_string())),
    };
    queue.into_iter().map(Ok).chain(result.err().map(Err)).collect()
}

/// A streamed answer while it is read.
struct Reading {
    source: BoxStream<'static, Result<eventsource_stream::Event, EventStreamError<BodyError>>>,
    gatherer: Gatherer,
    /// What is ready and not yet handed on.
    queue: VecDeque<Event>,
    /// Whether a piece of the answer came.
    begun: bool,
    ended: bool,
    /// Told after what stands in the queue.
    failure: Option<AssistantError>,
    peer: Peer,
    limits: Limits,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Event, AssistantError>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return self.failure.take().map(Err);
            }
            if let Err(error) = self.read().await {
                self.ended = true;
                self.failure = Some(error);
            }
        }
    }

    /// Reads one piece into the queue.
    async fn read(&mut self) -> Result<(), AssistantError> {
        let patience = if self.begun { self.limits.idle_timeout } else { self.limits.first_timeout };
        let Ok(read) = tokio::time::timeout(patience, self.source.next()).await else {
            return Err(self.peer.silent(patience.as_secs()));
        };
        match read {
            None if self.gatherer.finish_reason.is_some() => self.end(),
            None => return Err(self.peer.broke_off("the stream ended without a finish_reason")),
            Some(Err(EventStreamError::Transport(BodyError::TooLarge))) => {
                return Err(self.peer.not_understood("an event was larger than the limit"));
            }
            // A connection that is lost after the last word was said is as good as an end.
            Some(Err(EventStreamError::Transport(BodyError::Lost(_)))) if self.gatherer.finish_reason.is_some() => {
                self.end()
            }
            Some(Err(EventStreamError::Transport(BodyError::Lost(cause)))) => return Err(self.peer.broke_off(&cause)),
            Some(Err(EventStreamError::Utf8(error))) => return Err(self.peer.not_understood(&error.to_string())),
            Some(Err(EventStreamError::Parser(error))) => return Err(self.peer.not_understood(&error.to_string())),
            Some(Ok(event)) => match event.data.trim() {
                "" => {}
                "[DONE]" => {
                    // Every server says why it ended; one that only says that it did was interrupted.
                    self.gatherer.finish_reason.get_or_insert_with(|| "no_finish_reason".to_owned());
                    self.end();
                }
                data => match serde_json::from_str::<Value>(data) {
                    Ok(value) if event.event == "error" && value.get("error").is_none() => {
                        return Err(self.peer.refusal(embedded_status(&value), data));
                    }
                    Ok(value) => {
                        self.gatherer.take(&value, &self.peer, &mut self.queue)?;
                        self.begun |= self.gatherer.has_answer;
                    }
                    Err(error) => return Err(self.peer.not_understood(&format!("{error}: {data}"))),
                },
            },
        }
        Ok(())
    }

    /// The server said that nothing follows.
    fn end(&mut self) {
        self.gatherer.finish(&mut self.queue);
        self.ended = true;
    }
}

/// Gathers what arrives in pieces.
#[derive(Default)]
struct Gatherer {
    think: ThinkSplitter,
    calls: Vec<GatheredCall>,
    call_bytes: usize,
    usage: Option<Object>,
    finish_reason: Option<String>,
    /// Whether a choice came.
    begun: bool,
    /// Whether a piece of the answer came, after which nobody asks how far the model has read.
    has_answer: bool,
    /// The phase that was told last, and how much of it in percent.
    told: Option<(Phase, u8)>,
}

struct GatheredCall {
    index: u64,
    id: String,
    name: String,
    arguments: String,
}

/// More bytes of arguments than any reply needs.
const MOST_CALL_BYTES: usize = 8 << 20;

impl Gatherer {
    /// Takes one chunk: `choices[0].delta`, or `choices[0].message` of an answer that was not streamed.
    fn take(&mut self, chunk: &Value, peer: &Peer, out: &mut VecDeque<Event>) -> Result<(), AssistantError> {
        let error = chunk.get("error").filter(|error| !error.is_null());
        if error.is_some() || chunk.get("object").and_then(Value::as_str) == Some("error") {
            return Err(peer.refusal(embedded_status(error.unwrap_or(chunk)), &chunk.to_string()));
        }
        if let Some(Value::Object(usage)) = chunk.get("usage") {
            self.usage = Some(usage.clone());
        }
        if let Some(Value::Object(progress)) = chunk.get("prompt_progress") {
            self.take_progress(progress, out);
        }
        let Some(choice) = chunk.pointer("/choices/0") else { return Ok(()) };
        self.begun = true;
        if let Some(delta) = choice.get("delta").or_else(|| choice.get("message")) {
            let text = |field: &str| delta.get(field).and_then(Value::as_str).filter(|text| !text.is_empty());
            // Some servers send the same reasoning under two names.
            if let Some(reasoning) = ["reasoning_content", "reasoning", "thinking"].into_iter().find_map(text) {
                self.has_answer = true;
                out.push_back(Event::Reasoning(reasoning.to_owned()));
            }
            if let Some(content) = text("content") {
                self.has_answer = true;
                self.think.push(content, |piece| out.push_back(event_of(piece)));
            }
            for call in delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
                self.has_answer = true;
                self.take_call(call, peer)?;
            }
        }
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str).filter(|reason| !reason.is_empty()) {
            self.finish_reason = Some(reason.to_owned());
        }
        Ok(())
    }

    /// Takes what llama.cpp's server and the engine tell of the reading: how many tokens there are, how many of them were known
    /// from before, how many are read (those included), and how many requests are served first.
    fn take_progress(&mut self, progress: &Object, out: &mut VecDeque<Event>) {
        if self.has_answer {
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

    fn take_call(&mut self, delta: &Value, peer: &Peer) -> Result<(), AssistantError> {
        let text = |pointer: &str| delta.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let index = delta.get("index").and_then(Value::as_u64);
        let (id, name) = (text("/id"), text("/function/name"));
        let arguments = match delta.pointer("/function/arguments") {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
        };
        self.call_bytes += id.len() + name.len() + arguments.len();
        // Some servers give every call the index 0, or none, and tell them apart by their ids only.
        let same = |call: &&mut GatheredCall| {
            index.is_none_or(|index| call.index == index) && (id.is_empty() || call.id.is_empty() || call.id == id)
        };
        match self.calls.iter_mut().rev().find(same) {
            Some(call) => {
                call.arguments.push_str(&arguments);
                if call.id.is_empty() {
                    call.id = id.to_owned();
                }
                if call.name != name {
                    call.name.push_str(name);
                }
            }
            None => self.calls.push(GatheredCall {
                index: index.unwrap_or_default(),
                id: id.to_owned(),
                name: name.to_owned(),
                arguments,
            }),
        }
        if self.calls.len() > MOST_TOOL_CALLS || self.call_bytes > MOST_CALL_BYTES {
            return Err(peer.not_understood("more tool calls than any reply makes"));
        }
        Ok(())
    }

    /// Hands out what was held back: nothing follows.
    fn finish(&mut self, out: &mut VecDeque<Event>) {
        self.think.finish(|piece| out.push_back(event_of(piece)));
        for call in std::mem::take(&mut self.calls) {
            let arguments = match call.arguments.trim() {
                "" => Value::Object(Object::new()),
                text => serde_json::from_str(text).unwrap_or_else(|_| Value::from(call.arguments.as_str())),
            };
            let call_id = if call.id.is_empty() { format!("call_{}", uuid::Uuid::new_v4().simple()) } else { call.id };
            out.push_back(Event::ToolCall(ToolCall { call_id, name: call.name, arguments }));
        }
        out.extend(self.usage.take().map(Event::Usage));
        match self.finish_reason.as_deref() {
            None | Some("stop" | "tool_calls" | "function_call" | "eos" | "end_turn") => {}
            Some(reason) => out.push_back(Event::CutOff(reason.to_owned())),
        }
    }
}

fn event_of(piece: Piece) -> Event {
    match piece {
        Piece::Text(text) => Event::Text(text),
        Piece::Reasoning(text) => Event::Reasoning(text),
    }
}

/// The HTTP status that an error inside a stream names; 400, which says nothing, where it names none.
fn embedded_status(error: &Value) -> u16 {
    let code = error.get("code").or_else(|| error.get("status"));
    code.and_then(Value::as_u64)
        .and_then(|code| u16::try_from(code).ok())
        .filter(|code| (400..600).contains(code))
        .unwrap_or(400)
}

/// Why no more bytes come.
#[derive(Debug)]
enum BodyError {
    /// An event is larger than the limit.
    TooLarge,
    /// The connection was lost; the text is for the log.
    Lost(String),
}

/// Passes bytes on until an event, which ends at an empty line, is longer than `limit`.
fn bounded<B>(bytes: B, limit: usize) -> impl Stream<Item = Result<Bytes, BodyError>> + Send
where
    B: Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
{
    let (mut line, mut event) = (0usize, 0usize);
    bytes.map(move |chunk| {
        let chunk = chunk.map_err(|error| BodyError::Lost(super::cause_of(error)))?;
        for &byte in &chunk {
            event += 1;
            match byte {
                b'\n' => {
                    if line == 0 {
                        event = 0;
                    }
                    line = 0;
                }
                b'\r' => {}
                _ => line += 1,
            }
            if event > limit {
                return Err(BodyError::TooLarge);
            }
        }
        Ok(chunk)
    })
}
