//! Generates one reply, from the first question to the assistant until its message is saved.

use super::journal::Journal;
use super::reply::{Cancel, Reply, with_events};
use super::{Replies, context};
use crate::assistant::{AssistantError, AssistantErrorCode, Event, Request, ToolCall, Turn};
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
    /// Bytes of text and reasoning.
    bytes: usize,
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
    calls: Vec<ToolCall>,
}

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
        loop {
            let context = context::build(&self.system_prompt, &path, window_tokens);
            findings.left_out = context.left_out;
            // The system prompt and the message that is answered are never left out.
            let can_be_cut = context.turns.len() > 2;
            let messages = context.turns.into_iter().chain(tool_turns.iter().cloned()).collect();
            let bytes = findings.bytes;
            let round = match self.round(messages, findings).await {
                Err(error)
                    if error.code == AssistantErrorCode::ContextTooLong
                        && can_be_cut
                        && halvings < MOST_HALVINGS
                        && findings.bytes == bytes =>
                {
                    halvings += 1;
                    window_tokens = window_tokens.min(context.tokens) / 2;
                    continue;
                }
                round => round?,
            };
            if round.calls.is_empty() || findings.cut_off.is_some() {
                return Ok(());
            }
            rounds += 1;
            if rounds > MOST_ROUNDS {
                findings.cut_off = Some("tool_rounds".to_owned());
                return Ok(());
            }
            let results: Vec<Turn> = round.calls.iter().map(|call| self.answer_call(call)).collect();
            tool_turns.push(Turn::Assistant { content: round.text, tool_calls: round.calls });
            tool_turns.extend(results);
        }
    }

    /// Asks once and tells what comes.
    async fn round(&self, messages: Vec<Turn>, findings: &mut Findings) -> Result<Round, AssistantError> {
        let request = Request { model: self.model.clone(), messages, modes: self.modes };
        let mut events = self.replies.assistant.reply(request).await?;
        let mut round = Round::default();
        let mut ahead = None;
        loop {
            let next = match ahead.take() {
                Some(next) => next,
                None => events.next().await,
            };
            let Some(event) = next else { break };
            match event? {
                Event::Progress(phase, fraction) => {
                    self.reply.push(|seq| ReplyEvent::Progress { seq, phase, fraction });
                }
                Event::Text(mut text) => {
                    ahead = gather(&mut events, &mut text, |event| match event {
                        Event::Text(text) => Ok(text),
                        other => Err(other),
                    });
                    findings.end_reasoning();
                    self.note_bytes(findings, text.len());
                    round.text.push_str(&text);
                    self.reply.push(|seq| ReplyEvent::Delta { seq, text });
                }
                Event::Reasoning(mut text) => {
                    ahead = gather(&mut events, &mut text, |event| match event {
                        Event::Reasoning(text) => Ok(text),
                        other => Err(other),
                    });
                    findings.reasoning_since.get_or_insert_with(Instant::now);
                    self.note_bytes(findings, text.len());
                    self.reply.push(|seq| ReplyEvent::Reasoning { seq, text });
                }
                // What could not be read back from its file is not let in.
                Event::ToolCall(call) => {
                    round.calls.push(ToolCall { arguments: json_text::bounded(call.arguments), ..call });
                }
                Event::Usage(usage) => findings.add_usage(json_text::bounded_object(usage)),
                Event::CutOff(reason) => findings.cut_off = Some(reason),
            }
            if findings.bytes > self.replies.options.max_reply_bytes {
                findings.cut_off = Some("length".to_owned());
                break;
            }
            // An assistant that always has more at once would otherwise never let a stop through.
            tokio::task::yield_now().await;
        }
        Ok(round)
    }

    fn note_bytes(&self, findings: &mut Findings, bytes: usize) {
        findings.first_token_ms.get_or_insert_with(|| milliseconds_since(self.reply.started_at));
        findings.bytes += bytes;
    }

    /// Answers a tool call; there are no tools in this version, so that the assistant is told so.
    fn answer_call(&self, call: &ToolCall) -> Turn {
        let ToolCall { call_id, name, arguments } = call.clone();
        let result = format!("There is no tool named {name}.");
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
        Turn::ToolResult { call_id, content: result }
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

/// Adds to `text` what is there already and of the same kind. Returns what comes after it, if that was seen.
fn gather(
    events: &mut BoxStream<'static, Result<Event, AssistantError>>,
    text: &mut String,
    same: impl Fn(Event) -> Result<String, Event>,
) -> Option<Option<Result<Event, AssistantError>>> {
    while text.len() < PIECE_BYTES {
        match events.next().now_or_never()? {
            Some(Ok(event)) => match same(event) {
                Ok(more) => text.push_str(&more),
                Err(other) => return Some(Some(Ok(other))),
            },
            end => return Some(end),
        }
    }
    None
}

fn milliseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
