//! Generates one reply, from the first question to the assistant until its message is saved.

use super::journal::Journal;
use super::limits::Meter;
use super::reply::{Cancel, Reply, with_events};
use super::{Replies, context};
use crate::assistant::{AssistantError, AssistantErrorCode, Event, Request, ToolCall, Turn};
use crate::model::foreign::{is_unseen, one_line};
use crate::model::message::{Message, Modes};
use crate::model::parts::{Part, ToolStatus};
use crate::model::reply::ReplyEvent;
use crate::model::{Object, json as json_text};
use crate::store::{ReplyHead, Saved, StoreError};
use chrono::Utc;
use futures::FutureExt;
use futures::stream::{BoxStream, StreamExt};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the assistant may call tools and go on, in one reply.
const MOST_ROUNDS: usize = 8;

/// How often the conversation is cut further where a model finds it too long.
const MOST_HALVINGS: usize = 2;

/// Pieces that arrive together are told together, up to about this many bytes.
const PIECE_BYTES: usize = 2048;

/// How many characters of a tool's name stand in a sentence.
const NAME_CHARACTERS: usize = 100;

/// The first pause before saving is tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause before saving is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// All that is needed to generate one reply.
pub(super) struct Generation {
    pub(super) replies: Arc<Replies>,
    pub(super) reply: Arc<Reply>,
    /// The message as it will be appended, still without parts and content.
    pub(super) head: ReplyHead,
    pub(super) system_prompt: String,
    /// The conversation from its root to the message that is answered.
    pub(super) path: Vec<Message>,
    /// How many tokens the model reads.
    pub(super) window_tokens: usize,
    pub(super) modes: Modes,
    /// The model that was asked for; `None` takes the assistant's own.
    pub(super) model: Option<String>,
}

/// What a generation finds out beside the events that it tells.
#[derive(Default)]
struct Findings {
    usage: Option<Object>,
    cut_off: Option<String>,
    left_out: usize,
    first_token_ms: Option<u64>,
    /// When the reasoning that goes on now began.
    reasoning_since: Option<Instant>,
    /// How long each piece of reasoning took, in order.
    reasoning_ms: Vec<u64>,
}

impl Findings {
    fn end_reasoning(&mut self) {
        self.reasoning_ms.extend(self.reasoning_since.take().map(milliseconds_since));
    }

    /// Counts what another round cost.
    fn add_usage(&mut self, more: Object) {
        let Some(usage) = &mut self.usage else {
            self.usage = Some(more);
            return;
        };
        for (field, value) in more {
            let sum = match (usage.get(&field).and_then(Value::as_u64), value.as_u64()) {
                (Some(before), Some(now)) => json!(before.saturating_add(now)),
                _ => value,
            };
            usage.insert(field, sum);
        }
    }
}

/// How a generation ended.
enum End {
    Complete,
    Stopped,
    Failed { code: &'static str, message: String },
}

/// What the assistant said in one round.
#[derive(Default)]
struct Round {
    text: String,
    /// When its text began.
    text_since: Option<Instant>,
    calls: Vec<ToolCall>,
}

/// What a call is answered that is not run, because the reply ended with it.
const NOT_RUN: &str = "This was not run: the reply ended before it was complete.";

/// Tells the listeners that it is over, should the task be lost.
struct LastWord(Arc<Reply>, Arc<Replies>);

impl Drop for LastWord {
    fn drop(&mut self) {
        self.0.push(|seq| ReplyEvent::Failed {
            seq,
            code: "internal".to_owned(),
            message:
                "Something went wrong in the server. The text so far comes back at its next start; its log says more."
                    .to_owned(),
        });
        self.1.finished(&self.0);
    }
}

impl Generation {
    /// Generates the reply, saves it and tells its end.
    pub(super) async fn run(self) {
        let last_word = LastWord(self.reply.clone(), self.replies.clone());
        let journal = Journal::new(self.replies.store.clone(), self.reply.clone(), self.head.clone());
        let keeping = journal.keep(self.replies.options.journal_interval);
        let mut findings = Findings::default();
        let end = tokio::select! {
            biased;
            reason = self.reply.cancelled() => match reason {
                Cancel::Stopped => End::Stopped,
                Cancel::Interrupted => {
                    End::Failed { code: Cancel::INTERRUPTED, message: Cancel::INTERRUPTED_MESSAGE.to_owned() }
                }
            },
            // Dropped where the other branch wins, which closes the connection to the assistant.
            result = self.generate(&mut findings) => match result {
                Ok(()) => End::Complete,
                Err(error) => {
                    tracing::warn!(reply_id = self.head.reply_id, %error, "a reply failed");
                    End::Failed { code: error.code.as_str(), message: error.message }
                }
            },
        };
        let message = self.message(&mut findings, &end);
        let journal = match keeping.stop().await {
            Some(journal) => journal,
            None => Journal::new(self.replies.store.clone(), self.reply.clone(), self.head.clone()),
        };
        self.finish(message, findings.usage, end, journal, last_word).await;
    }

    /// Lets the assistant answer, round after round while it calls tools.
    async fn generate(&self, findings: &mut Findings) -> Result<(), AssistantError> {
        let path: Vec<&Message> = self.path.iter().collect();
        let mut window_tokens = self.window_tokens;
        let mut halvings = 0;
        let mut tool_turns = Vec::new();
        let mut rounds = 0;
        let mut meter = Meter::new(&self.replies.options);
        loop {
            let context = context::build(&self.system_prompt, &path, window_tokens);
            findings.left_out = context.left_out;
            // The system prompt and the message that is answered are never left out.
            let can_be_cut = context.turns.len() > 2;
            let messages = context.turns.into_iter().chain(tool_turns.iter().cloned()).collect();
            let bytes = meter.bytes();
            let mut round = Round::default();
            let ended = self.round(messages, &mut round, findings, &mut meter).await;
            meter.pause();
            match ended {
                Err(error)
                    if error.code == AssistantErrorCode::ContextTooLong
                        && can_be_cut
                        && halvings < MOST_HALVINGS
                        && meter.bytes() == bytes =>
                {
                    halvings += 1;
                    window_tokens = window_tokens.min(context.tokens) / 2;
                    continue;
                }
                Err(error) => {
                    round.calls.iter().for_each(|call| _ = self.tell_call(call, NOT_RUN));
                    return Err(error);
                }
                Ok(()) => {}
            }
            if round.calls.is_empty() {
                return Ok(());
            }
            rounds += 1;
            if rounds > MOST_ROUNDS {
                findings.cut_off.get_or_insert_with(|| "tool_rounds".to_owned());
            }
            if findings.cut_off.is_some() {
                // What the model wanted is kept, though nobody does it.
                round.calls.iter().for_each(|call| _ = self.tell_call(call, NOT_RUN));
                return Ok(());
            }
            let results: Vec<Turn> = round.calls.iter().map(|call| self.answer_call(call)).collect();
            meter.add(
                results
                    .iter()
                    .map(|turn| if let Turn::ToolResult { content, .. } = turn { content.len() } else { 0 })
                    .sum(),
            );
            tool_turns.push(Turn::Assistant { content: round.text, tool_calls: round.calls });
            tool_turns.extend(results);
        }
    }

    /// Asks once and tells what comes. What came is in `round`, also where it failed.
    async fn round(
        &self,
        messages: Vec<Turn>,
        round: &mut Round,
        findings: &mut Findings,
        meter: &mut Meter,
    ) -> Result<(), AssistantError> {
        let request = Request { model: self.model.clone(), messages, modes: self.modes };
        meter.ask();
        let Ok(asked) = tokio::time::timeout(meter.patience(), self.replies.assistant.reply(request)).await else {
            return Err(silent(meter));
        };
        let mut events = asked?;
        let mut ahead = None;
        loop {
            let next = match ahead.take() {
                Some(next) => next,
                None => match tokio::time::timeout(meter.patience(), events.next()).await {
                    Ok(next) => next,
                    Err(_) => return Err(silent(meter)),
                },
            };
            let Some(event) = next else { break };
            let mut event = event?;
            ahead = gather(&mut events, &mut event);
            let bytes_before = meter.bytes();
            if meter.count(&event) > 0 {
                findings.first_token_ms.get_or_insert_with(|| milliseconds_since(self.reply.started_at));
            }
            match event {
                Event::Progress(phase, fraction) => {
                    self.reply.push(|seq| ReplyEvent::Progress { seq, phase, fraction });
                }
                Event::Text(text) => {
                    findings.end_reasoning();
                    round.text_since.get_or_insert_with(Instant::now);
                    round.text.push_str(&text);
                    self.reply.push(|seq| ReplyEvent::Delta { seq, text });
                }
                Event::Reasoning(text) => {
                    findings.reasoning_since.get_or_insert_with(Instant::now);
                    self.reply.push(|seq| ReplyEvent::Reasoning { seq, text });
                }
                Event::TextWasReasoning => {
                    if !std::mem::take(&mut round.text).is_empty() {
                        findings.reasoning_ms.extend(round.text_since.take().map(milliseconds_since));
                        self.reply.push(|seq| ReplyEvent::TextWasReasoning { seq });
                    }
                }
                // A call that would pass the limit is not kept; the reply says that it was cut off.
                Event::ToolCall(_) if meter.is_over() && bytes_before > 0 => {}
                // What could not be read back from its file is not let in.
                Event::ToolCall(call) => {
                    round.calls.push(ToolCall { arguments: json_text::bounded(call.arguments), ..call });
                }
                Event::Usage(usage) => findings.add_usage(json_text::bounded_object(usage)),
                Event::CutOff(reason) => findings.cut_off = Some(reason),
            }
            if meter.is_over() {
                if meter.bytes() == 0 {
                    return Err(endless());
                }
                findings.cut_off = Some("length".to_owned());
                break;
            }
            // An assistant that always has more at once would otherwise never let a stop through.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Answers a tool call; there are no tools in this version, so that the assistant is told so.
    fn answer_call(&self, call: &ToolCall) -> Turn {
        self.tell_call(call, &format!("There is no tool named {}.", one_line(&call.name, NAME_CHARACTERS)))
    }

    /// Tells a call and that it failed with this result.
    fn tell_call(&self, call: &ToolCall, result: &str) -> Turn {
        let ToolCall { call_id, name, arguments } = call.clone();
        self.reply.push(|seq| ReplyEvent::ToolStarted {
            seq,
            call_id: call_id.clone(),
            name,
            arguments,
            needs_approval: false,
        });
        self.reply.push(|seq| ReplyEvent::ToolFinished {
            seq,
            call_id: call_id.clone(),
            status: ToolStatus::Error,
            result: json!(result),
            duration_ms: 0,
        });
        Turn::ToolResult { call_id, content: result.to_owned() }
    }

    /// The message as it will be saved.
    fn message(&self, findings: &mut Findings, end: &End) -> Message {
        findings.end_reasoning();
        let mut message = with_events(self.head.message.clone(), &self.reply.events_from(0));
        let mut durations = findings.reasoning_ms.iter();
        for part in message.parts.iter_mut().flatten() {
            if let Part::Reasoning { duration_ms, .. } = part {
                *duration_ms = durations.next().copied();
            }
        }
        let has_tools = !message.tools_used().is_empty();
        // Signs that nobody sees are no words.
        let is_empty = message.content.chars().all(is_unseen);
        let metadata = &mut message.metadata;
        if findings.left_out > 0 {
            metadata.insert("left_out".to_owned(), json!(findings.left_out));
        }
        if let Some(usage) = &findings.usage {
            metadata.insert("usage".to_owned(), json!(usage));
        }
        if let Some(reason) = &findings.cut_off {
            metadata.insert("cut_off".to_owned(), json!(reason));
        }
        match end {
            // Nothing went wrong, and there is no word for the person, be it after tools were called.
            End::Complete if is_empty => {
                metadata.insert("empty".to_owned(), json!(true));
            }
            End::Complete => {}
            End::Stopped => {
                metadata.insert("stopped".to_owned(), json!(true));
            }
            End::Failed { code, message } => {
                metadata.insert("error".to_owned(), json!(code));
                metadata.insert("error_message".to_owned(), json!(message));
            }
        }
        if has_tools {
            metadata.insert("hasTools".to_owned(), json!(true));
        }
        metadata.insert("duration_ms".to_owned(), json!(milliseconds_since(self.reply.started_at)));
        if let Some(first_token_ms) = findings.first_token_ms {
            metadata.insert("first_token_ms".to_owned(), json!(first_token_ms));
        }
        message
    }

    /// Saves the message and tells the end.
    async fn finish(
        &self,
        message: Message,
        usage: Option<Object>,
        end: End,
        mut journal: Journal,
        last_word: LastWord,
    ) {
        match self.persist(&message, &mut journal).await {
            Ok(saved) => {
                let moved = self.replies.follow(&self.head.session_id, message.parent_id.as_deref(), &message.id).await;
                journal.end().await;
                let message = Message { rev: saved.revision, ..message };
                let revision = moved.map_or(saved.revision, |moved| moved.revision);
                self.reply.push(|seq| match end {
                    End::Complete | End::Stopped => {
                        ReplyEvent::Done { seq, message: Box::new(message), revision, usage: usage.map(Value::Object) }
                    }
                    End::Failed { code, message } => ReplyEvent::Failed { seq, code: code.to_owned(), message },
                });
                drop(last_word);
            }
            Err(error) => {
                let (code, text) = match error {
                    StoreError::NotFound | StoreError::Deleted => {
                        ("session_deleted", "The session of this reply was deleted meanwhile, so that it has no place.")
                    }
                    StoreError::TooLarge(_) => (
                        "session_too_large",
                        "This reply cannot be kept in this session, which would become too large. Go on in a new session, or start \
                         the server with a larger --max-session-file-mib.",
                    ),
                    _ if !is_passing(&error) => (
                        "storage_unwritable",
                        "This reply cannot be saved: its session can only be read now. The server's log says more.",
                    ),
                    _ => (
                        "storage_unwritable",
                        "This reply cannot be saved now. Check the free space and the permissions of the data directory; it is \
                         tried further while the server runs.",
                    ),
                };
                self.reply.push(|seq| ReplyEvent::Failed { seq, code: code.to_owned(), message: text.to_owned() });
                drop(last_word);
                if is_passing(&error) {
                    self.persist_later(&message, &mut journal).await;
                }
            }
        }
    }

    /// Saves the message, trying again for a while where the store cannot write now.
    async fn persist(&self, message: &Message, journal: &mut Journal) -> Result<Saved, StoreError> {
        let patient_until = Instant::now() + self.replies.options.persist_patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.append(message).await {
                Ok(saved) => return Ok(saved),
                Err(error) => error,
            };
            if pause == FIRST_PAUSE {
                tracing::error!(reply_id = self.head.reply_id, %error, "a reply cannot be saved");
            }
            // Perhaps the rest of it can be written down at least.
            journal.write().await;
            if !is_passing(&error) || Instant::now() + pause > patient_until || self.replies.registry().closing {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Goes on trying after the listeners were told.
    async fn persist_later(&self, message: &Message, journal: &mut Journal) {
        loop {
            tokio::time::sleep(self.replies.options.persist_retry).await;
            match self.append(message).await {
                Ok(_) => {
                    tracing::info!(reply_id = self.head.reply_id, "a reply could be saved at last");
                    self.replies.follow(&self.head.session_id, message.parent_id.as_deref(), &message.id).await;
                    return journal.end().await;
                }
                Err(error) if is_passing(&error) => journal.write().await,
                Err(error) => {
                    tracing::error!(reply_id = self.head.reply_id, %error, "a reply is left in its journal");
                    return;
                }
            }
        }
    }

    async fn append(&self, message: &Message) -> Result<Saved, StoreError> {
        self.replies.store.append_reply(&self.head.session_id, message.clone(), Utc::now()).await
    }
}

/// Whether trying again may help.
fn is_passing(error: &StoreError) -> bool {
    matches!(error, StoreError::Unwritable(_) | StoreError::Unreadable(_))
}

/// Adds to a piece of text or reasoning what is there already and of the same kind. Returns what comes after it, if that was seen.
fn gather(
    events: &mut BoxStream<'static, Result<Event, AssistantError>>,
    event: &mut Event,
) -> Option<Option<Result<Event, AssistantError>>> {
    loop {
        match event {
            Event::Text(text) | Event::Reasoning(text) if text.len() < PIECE_BYTES => {}
            _ => return None,
        }
        match (events.next().now_or_never()?, &mut *event) {
            (Some(Ok(Event::Text(more))), Event::Text(text))
            | (Some(Ok(Event::Reasoning(more))), Event::Reasoning(text)) => {
                text.push_str(&more);
            }
            (end, _) => return Some(end),
        }
    }
}

/// Nobody said a word for as long as is waited.
fn silent(meter: &Meter) -> AssistantError {
    let seconds = meter.longest().as_secs();
    AssistantError {
        code: AssistantErrorCode::Failed,
        message: format!(
            "The assistant has said nothing for {seconds} seconds, so it was given up. What had arrived is kept; ask again."
        ),
        cause: "no words in time".to_owned(),
    }
}

/// More came than a reply may hold, and no word.
fn endless() -> AssistantError {
    AssistantError {
        code: AssistantErrorCode::Failed,
        message: "The assistant went on without an end and without saying anything, so it was given up. Ask again."
            .to_owned(),
        cause: "more events than a reply may have".to_owned(),
    }
}

fn milliseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
