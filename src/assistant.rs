//! Whoever answers: a trait over plain data with several implementations. It knows no store.

pub mod auto;
pub mod discover;
pub mod embedded;
pub mod openai;
pub mod scripted;

use crate::model::Object;
use crate::model::message::Modes;
use crate::model::reply::Phase;
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::Value;
use std::fmt;

/// Something that continues a conversation.
#[async_trait]
pub trait Assistant: Send + Sync {
    /// Whether it can answer now, and as what.
    async fn status(&self) -> Result<Ready, AssistantError>;

    /// Begins a reply. Dropping the stream cancels it, at the other side too.
    async fn reply(
        &self,
        request: Request,
    ) -> Result<BoxStream<'static, Result<Event, AssistantError>>, AssistantError>;

    /// Gets ready for a reply that will probably be asked for soon, in a conversation that begins with these instructions.
    /// Returns at once.
    async fn prepare(&self, _instructions: &str) {}

    /// Ends what it started, because the server is stopping.
    async fn close(&self) {}
}

/// An assistant that can answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The model's name.
    pub model: String,
    /// Where it runs, for people: `Ollama on this machine`, `api.example.org`.
    pub place: String,
    /// How many tokens the model reads at most, where that is known.
    pub context_tokens: Option<usize>,
    /// What a person should know of it before the first question, in a sentence.
    pub note: Option<String>,
    /// Why it cannot answer yet though it will by itself, in a sentence. What it is asked meanwhile waits.
    pub waits_for: Option<String>,
}

/// What an assistant is asked to continue.
#[derive(Clone, Debug)]
pub struct Request {
    /// Another model than the one that it would take.
    pub model: Option<String>,
    /// The conversation, oldest first, a system message before all.
    pub messages: Vec<Turn>,
    /// What the person allows in this turn.
    pub modes: Modes,
}

/// A message as an assistant sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// Instructions.
    System(String),
    /// What the person said.
    User(String),
    /// What the assistant said, and the tools that it called then.
    Assistant {
        /// The text.
        content: String,
        /// The calls, in order; each is answered by a [`Turn::ToolResult`].
        tool_calls: Vec<ToolCall>,
    },
    /// What a tool answered.
    ToolResult {
        /// The id of the call that is answered.
        call_id: String,
        /// The answer.
        content: String,
    },
}

/// A call of a tool, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCall {
    /// The call's id.
    pub call_id: String,
    /// The tool's name.
    pub name: String,
    /// Its arguments: an object, or the text as it came where that is no JSON.
    pub arguments: Value,
}

/// What an assistant sends while it answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What is being waited for, and how much of it is done (0 to 1) where known.
    Progress(Phase, Option<f64>),
    /// A piece of text.
    Text(String),
    /// A piece of reasoning.
    Reasoning(String),
    /// All text so far (since the request) was reasoning: the model said only now where its thoughts end.
    TextWasReasoning,
    /// A complete tool call. The caller runs the tool and asks again, with the call and its result as further turns.
    ToolCall(ToolCall),
    /// What the model counted; `usage` of the OpenAI protocol.
    Usage(Object),
    /// Why the model stopped, where that was not because it was done: `length`, `content_filter`, …
    CutOff(String),
}

/// Why no reply, or no more of it, came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssistantError {
    /// For programs.
    pub code: AssistantErrorCode,
    /// What went wrong and what to do, for people: no key, no path, no inner text.
    pub message: String,
    /// The cause, for the log.
    pub cause: String,
}

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssistantErrorCode {
    /// None is configured or none answers.
    Unreachable,
    /// It wants a key or refuses the one it was given.
    Unauthorized,
    /// It does not know the model.
    UnknownModel,
    /// The conversation is longer than the model reads.
    ContextTooLong,
    /// Too many requests, or the quota is used up.
    RateLimited,
    /// It broke off, or answered what cannot be understood.
    Failed,
}

impl AssistantErrorCode {
    /// The code as `failed` events and `metadata.error` hold it.
    pub fn as_str(self) -> &'static str {
        match self {
            AssistantErrorCode::Unreachable => "assistant_unreachable",
            AssistantErrorCode::Unauthorized => "assistant_unauthorized",
            AssistantErrorCode::UnknownModel => "unknown_model",
            AssistantErrorCode::ContextTooLong => "context_too_long",
            AssistantErrorCode::RateLimited => "rate_limited",
            AssistantErrorCode::Failed => "assistant_failed",
        }
    }
}

impl fmt::Display for AssistantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.cause)
    }
}

impl std::error::Error for AssistantError {}
