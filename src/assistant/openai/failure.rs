//! What a server's refusals mean, and the sentences that say what to do.

use crate::assistant::{AssistantError, AssistantErrorCode};
use crate::model::foreign::one_line;
use serde_json::Value;

/// How much of a server's text goes to the log.
const CAUSE_CHARACTERS: usize = 500;

/// How many model names a sentence lists.
pub(super) const LISTED_NAMES: usize = 8;

/// What the sentences need to know of the other side.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// `HOST:PORT`.
    pub(super) address: String,
    /// The key, so that no text of the server's that repeats it comes into the log.
    pub(super) key: Option<String>,
    /// The models that it has, as far as known.
    pub(super) models: Vec<String>,
    /// The model that was asked.
    pub(super) model: String,
}

impl Peer {
    /// An error with this sentence and the cause made fit for the log.
    pub(super) fn error(&self, code: AssistantErrorCode, message: impl Into<String>, cause: &str) -> AssistantError {
        let cause = match self.key.as_deref() {
            Some(key) if !key.is_empty() => cause.replace(key, "[key]"),
            _ => cause.to_owned(),
        };
        AssistantError { code, message: message.into(), cause: one_line(&cause, CAUSE_CHARACTERS) }
    }

    /// Nothing answers there.
    pub(super) fn unreachable(&self, cause: &str) -> AssistantError {
        let message = format!(
            "No model server answers at {}. Is it running there? Start it, or name another one with --openai-url.",
            self.address
        );
        self.error(AssistantErrorCode::Unreachable, message, cause)
    }

    /// It took the request and then said no word for this long.
    pub(super) fn silent(&self, seconds: u64) -> AssistantError {
        let message = format!(
            "The model server at {} has sent nothing that can be read for {seconds} seconds, so it was given up. Ask again, or look \
             at what it is doing.",
            self.address
        );
        self.error(AssistantErrorCode::Failed, message, "no words in time")
    }

    /// It sent more than an answer may hold, and no word of an answer.
    pub(super) fn endless(&self) -> AssistantError {
        let message = format!(
            "The model server at {} sent without an end what is no answer, so it was given up. Ask again, or look at what it is \
             doing.",
            self.address
        );
        self.error(AssistantErrorCode::Failed, message, "the answer is larger than the limit")
    }

    /// The connection ended before the reply did.
    pub(super) fn broke_off(&self, cause: &str) -> AssistantError {
        let message = format!(
            "The reply broke off: the model server at {} ended it before it was complete. Ask again; its own log says why.",
            self.address
        );
        self.error(AssistantErrorCode::Failed, message, cause)
    }

    /// It answered something else than the protocol says.
    pub(super) fn not_understood(&self, cause: &str) -> AssistantError {
        let message = format!(
            "What answers at {} does not speak the OpenAI chat protocol. Check the address given with --openai-url.",
            self.address
        );
        self.error(AssistantErrorCode::Failed, message, cause)
    }

    /// It has no model that could be asked.
    pub(super) fn no_model(&self) -> AssistantError {
        let message = format!(
            "The model server at {} lists no model that can chat. Load one there, or name one with --model.",
            self.address
        );
        self.error(AssistantErrorCode::UnknownModel, message, "no model listed")
    }

    /// What an HTTP status and the text that came with it mean.
    pub(super) fn refusal(&self, status: u16, text: &str) -> AssistantError {
        let refusal = Refusal::parse(text);
        let cause = format!("status {status}: {text}");
        let address = &self.address;
        match refusal.kind(status) {
            Kind::Unauthorized => self.error(
                AssistantErrorCode::Unauthorized,
                format!(
                    "The model server at {address} {}. Set VERBATIM_OPENAI_KEY, or VERBATIM_OPENAI_KEY_FILE to a file that \
                     holds the key, and start Verbatim again.",
                    if self.key.is_some() { "refuses the key that it was given" } else { "wants a key" }
                ),
                &cause,
            ),
            Kind::ContextTooLong => self.error(
                AssistantErrorCode::ContextTooLong,
                "This conversation is longer than the model can read. Start a new session, shorten the message, or choose \
                 a model with a longer context.",
                &cause,
            ),
            Kind::UnknownModel => self.error(AssistantErrorCode::UnknownModel, self.unknown_model(), &cause),
            Kind::OutOfQuota => self.error(
                AssistantErrorCode::RateLimited,
                format!("The account at {address} has used up its quota. Look at its plan and billing there."),
                &cause,
            ),
            Kind::RateLimited => self.error(
                AssistantErrorCode::RateLimited,
                format!("The model server at {address} has too much to do now. Wait a moment and ask again."),
                &cause,
            ),
            Kind::Loading => self.error(
                AssistantErrorCode::Unreachable,
                format!("The model server at {address} is still loading its model. Wait a moment and ask again."),
                &cause,
            ),
            Kind::Elsewhere => self.error(
                AssistantErrorCode::Failed,
                format!("The model server at {address} points to another address. Give that one with --openai-url."),
                &cause,
            ),
            Kind::NoSuchAddress => self.not_understood(&cause),
            Kind::Broken => self.error(
                AssistantErrorCode::Failed,
                format!("The model server at {address} had a failure of its own. Ask again; its log says more."),
                &cause,
            ),
            Kind::Refused => self.error(
                AssistantErrorCode::Failed,
                format!("The model server at {address} refused the request. Verbatim's log says why."),
                &cause,
            ),
        }
    }

    fn unknown_model(&self) -> String {
        let Peer { address, model, models, .. } = self;
        if models.is_empty() {
            return format!("The model server at {address} has no model named {model}. Name another one with --model.");
        }
        let mut names = models.iter().take(LISTED_NAMES).cloned().collect::<Vec<_>>().join(", ");
        if models.len() > LISTED_NAMES {
            names.push_str(", …");
        }
        format!("The model server at {address} has no model named {model}. It has: {names}. Choose one with --model.")
    }
}

/// What a refusal comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unauthorized,
    ContextTooLong,
    UnknownModel,
    OutOfQuota,
    RateLimited,
    Loading,
    Elsewhere,
    NoSuchAddress,
    Broken,
    Refused,
}

/// What servers say when the conversation is too long, in lower case: OpenAI, llama.cpp, vLLM, Ollama and LM Studio, others.
const TOO_LONG: [&str; 15] = [
    "context_length_exceeded",
    "exceed_context_size",
    "context size",
    "context length",
    "context window",
    "maximum context",
    "exceeds the context",
    "prompt is too long",
    "input is too long",
    "prompt too long",
    "input too long",
    "prompt length",
    "exceeds max length",
    "exceeds the max length",
    "too many tokens",
];

/// The same, as several words that stand in it.
const TOO_LONG_TOGETHER: [&[&str]; 4] = [
    &["token", "exceed", "maximum"],
    &["token", "exceed", "limit"],
    &["inputs", "tokens", "must be <="],
    &["input", "token", "less than"],
];

/// What servers say when too much is asked of them at a time, in lower case.
const TOO_MUCH: [&str; 8] =
    ["rate limit", "rate_limit", "ratelimit", "per minute", "per day", "throttl", "too many requests", "please wait"];

/// What servers say of a model that they do not have, in lower case. Each of them together with the word "model".
const UNKNOWN: [&str; 6] =
    ["not found", "not_found", "does not exist", "unknown model", "not a valid model", "no such model"];

/// A server's text, taken apart as far as it is JSON.
struct Refusal {
    /// `code`, `type` and the message, in lower case.
    text: String,
}

impl Refusal {
    fn parse(text: &str) -> Self {
        let value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
        let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(&value);
        let mut parts = Vec::new();
        for field in ["code", "type", "message", "detail", "error_type", "error_message", "error_msg", "msg"] {
            if let Some(part) = error.get(field).and_then(Value::as_str) {
                parts.push(part);
            }
        }
        parts.extend(error.as_str());
        Self { text: if parts.is_empty() { text.to_lowercase() } else { parts.join(" ").to_lowercase() } }
    }

    fn kind(&self, status: u16) -> Kind {
        let says = |parts: &[&str]| parts.iter().any(|part| self.text.contains(part));
        match status {
            300..=399 => Kind::Elsewhere,
            401 | 403 => Kind::Unauthorized,
            402 => Kind::OutOfQuota,
            429 if says(&["insufficient_quota"]) => Kind::OutOfQuota,
            429 => Kind::RateLimited,
            // Also in the midst of a stream, where no status tells it, and in words that speak of tokens.
            _ if says(&TOO_MUCH) => Kind::RateLimited,
            // Before all others: some servers answer 400, 413, 422 or 500 to it.
            _ if says(&TOO_LONG) => Kind::ContextTooLong,
            _ if TOO_LONG_TOGETHER.iter().any(|parts| parts.iter().all(|part| self.text.contains(part))) => {
                Kind::ContextTooLong
            }
            413 => Kind::ContextTooLong,
            400 | 404 | 422 if says(&["model"]) && says(&UNKNOWN) => Kind::UnknownModel,
            404 | 405 => Kind::NoSuchAddress,
            503 if says(&["loading"]) => Kind::Loading,
            503 | 529 => Kind::RateLimited,
            500..=599 => Kind::Broken,
            _ if says(&["invalid_api_key", "invalid api key", "unauthorized"]) => Kind::Unauthorized,
            _ if says(&["rate limit", "rate_limit", "overloaded"]) => Kind::RateLimited,
            _ => Kind::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer {
            address: "127.0.0.1:9".into(),
            key: Some("sk-secret".into()),
            models: vec!["a".into(), "b".into()],
            model: "m".into(),
        }
    }

    #[test]
    fn refusals_of_real_servers_are_understood() {
        use AssistantErrorCode::*;
        for (status, text, code) in [
            (401, r#"{"error":{"message":"Incorrect API key provided: sk-secret"}}"#, Unauthorized),
            (403, "", Unauthorized),
            (
                404,
                r#"{"error":{"message":"model \"m\" not found, try pulling it first","type":"api_error"}}"#,
                UnknownModel,
            ),
            (
                404,
                r#"{"object":"error","message":"The model `m` does not exist.","type":"NotFoundError","code":404}"#,
                UnknownModel,
            ),
            (404, r#"{"error":{"message":"The model 'm' does not exist","code":"model_not_found"}}"#, UnknownModel),
            (404, "<html>Not Found</html>", Failed),
            (429, r#"{"error":{"message":"Rate limit reached"}}"#, RateLimited),
            (
                429,
                r#"{"error":{"code":"insufficient_quota","message":"You exceeded your current quota"}}"#,
                RateLimited,
            ),
            (400, r#"{"error":{"message":"too many","code":"context_length_exceeded"}}"#, ContextTooLong),
            (
                400,
                r#"{"error":{"code":400,"message":"the request exceeds the available context size. try increasing the context size or enable context shift","type":"exceed_context_size_error"}}"#,
                ContextTooLong,
            ),
            (
                400,
                r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens","type":"BadRequestError","code":400}"#,
                ContextTooLong,
            ),
            (500, r#"{"error":"Requested tokens (5000) exceed context window of 4096"}"#, ContextTooLong),
            (
                400,
                r#"[{"error":{"code":400,"message":"The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}]"#,
                ContextTooLong,
            ),
            (
                422,
                "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
                ContextTooLong,
            ),
            (
                400,
                "This model's maximum prompt length is 131072 but the request contains 200000 tokens.",
                ContextTooLong,
            ),
            (400, "Invalid request: Your request exceeded model token limit: 8192", ContextTooLong),
            (400, "Prompt exceeds max length", ContextTooLong),
            (400, "Too many tokens, please wait before trying again.", RateLimited),
            (500, "Rate limit exceeded: tokens per minute", RateLimited),
            (503, r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#, Unreachable),
            (500, "oops", Failed),
            (302, "", Failed),
            (418, "teapot", Failed),
        ] {
            let error = peer().refusal(status, text);
            assert_eq!(error.code, code, "{status} {text}");
            assert!(error.message.ends_with('.') && !error.message.contains("sk-secret"), "{}", error.message);
            assert!(!error.cause.contains("sk-secret"), "{}", error.cause);
        }
    }

    #[test]
    fn an_unknown_model_is_answered_with_those_there_are() {
        let error = peer().refusal(404, r#"{"error":{"message":"model not found"}}"#);
        assert!(error.message.contains("named m") && error.message.contains("It has: a, b."), "{}", error.message);
    }
}
