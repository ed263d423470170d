//! The only error on the wire: a code for programs and a sentence for people.

use serde::{Deserialize, Serialize};
use server_fn::codec::JsonEncoding;
use server_fn::error::{FromServerFnError, ServerFnErrorErr};
use std::fmt;

/// What went wrong, for programs. Each code has one HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// 400: the request cannot be understood; the message names the wrong field.
    InvalidRequest,
    /// 403: the request comes from another site or asks for another host.
    Forbidden,
    /// 404: there is no such session, reply or address.
    NotFound,
    /// 405: the address takes another method.
    MethodNotAllowed,
    /// 409: the session is in the trash.
    SessionDeleted,
    /// 409: a reply to this message is being generated already; `reply_id` names it.
    ReplyRunning,
    /// 409: something else stands in the way, for example a message id that belongs to other words.
    Conflict,
    /// 413: the body is larger than the server takes.
    BodyTooLarge,
    /// 429: too much at once.
    TooManyRequests,
    /// 500: the data cannot be written now (disk full, no permission, read-only).
    StorageUnwritable,
    /// 500: a file cannot be read.
    StorageUnreadable,
    /// 500: anything else; the cause is in the server's log.
    Internal,
    /// 503: no assistant can be reached.
    AssistantUnreachable,
    /// Only in the browser: the server itself cannot be reached.
    ServerUnreachable,
}

impl ErrorCode {
    /// The HTTP status that goes with the code.
    pub fn status(self) -> u16 {
        match self {
            ErrorCode::InvalidRequest => 400,
            ErrorCode::Forbidden => 403,
            ErrorCode::NotFound => 404,
            ErrorCode::MethodNotAllowed => 405,
            ErrorCode::SessionDeleted | ErrorCode::ReplyRunning | ErrorCode::Conflict => 409,
            ErrorCode::BodyTooLarge => 413,
            ErrorCode::TooManyRequests => 429,
            ErrorCode::StorageUnwritable | ErrorCode::StorageUnreadable | ErrorCode::Internal => 500,
            ErrorCode::AssistantUnreachable | ErrorCode::ServerUnreachable => 503,
        }
    }
}

/// An error as a caller sees it. On the wire: `{"error":{"code","message"}}`.
///
/// `message` says what to do and holds no path, no stack and no text of an inner error; whoever makes one from an inner error
/// logs the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppError {
    /// What went wrong, for programs.
    pub code: ErrorCode,
    /// What went wrong and what to do, for people.
    pub message: String,
    /// With [`ErrorCode::ReplyRunning`]: the reply that runs.
    pub reply_id: Option<String>,
}

impl AppError {
    /// An error with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), reply_id: None }
    }

    /// A request that cannot be understood.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }

    /// An unknown session.
    pub fn no_such_session() -> Self {
        Self::new(ErrorCode::NotFound, "There is no session with this id. The Sessions page lists those that are kept.")
    }

    /// A failure whose cause is for the log only.
    pub fn internal() -> Self {
        Self::new(ErrorCode::Internal, "Something went wrong in the server. Please try again; its log says more.")
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AppError {}

#[derive(Serialize, Deserialize)]
struct Wire {
    error: WireBody,
}

#[derive(Serialize, Deserialize)]
struct WireBody {
    code: ErrorCode,
    message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_id: Option<String>,
}

impl Serialize for AppError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire { error: WireBody { code: self.code, message: self.message.clone(), reply_id: self.reply_id.clone() } }
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AppError {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireBody { code, message, reply_id } = Wire::deserialize(deserializer)?.error;
        Ok(Self { code, message, reply_id })
    }
}

impl FromServerFnError for AppError {
    type Encoder = JsonEncoding;

    fn from_server_fn_error(value: ServerFnErrorErr) -> Self {
        match value {
            // The text is that of `api::codec`, which names the field and holds nothing else.
            ServerFnErrorErr::Deserialization(text)
            | ServerFnErrorErr::Args(text)
            | ServerFnErrorErr::MissingArg(text) => Self::invalid(text),
            ServerFnErrorErr::Request(_) | ServerFnErrorErr::Response(_) => Self::new(
                ErrorCode::ServerUnreachable,
                "The server cannot be reached. Nothing is lost; it is tried again by itself.",
            ),
            _ => Self::internal(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_documented_form_and_reads_back() {
        let error = AppError::no_such_session();
        let text = serde_json::to_string(&error).unwrap();
        assert!(text.starts_with(r#"{"error":{"code":"not_found","message":"There is"#), "{text}");
        assert_eq!(serde_json::from_str::<AppError>(&text).unwrap(), error);
    }
}
