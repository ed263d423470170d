//! The requests about replies, and their answers as events: bytes → lines → [`ReplyEvent`].

use crate::browser::{self, ByteStream};
use crate::error::AppError;
use crate::model::message::Modes;
use crate::model::reply::{LineReader, ReplyEvent};
use crate::model::session::SessionId;
use serde_json::json;
use std::collections::VecDeque;

/// The first wait before a broken connection is tried again, in milliseconds; each further one is twice as long.
const FIRST_WAIT_MS: u32 = 500;

/// The longest wait, in milliseconds.
const LONGEST_WAIT_MS: u32 = 10_000;

/// How long to wait before try number `attempt` (from 0), in milliseconds.
pub fn wait_ms(attempt: u32) -> u32 {
    FIRST_WAIT_MS.saturating_mul(1 << attempt.min(10)).min(LONGEST_WAIT_MS)
}

/// What to ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplyRequest {
    /// The reply to a message, which is saved first; the same message can be sent again.
    Answer {
        /// The session.
        session_id: SessionId,
        /// The message's id.
        id: String,
        /// Its words.
        content: String,
        /// What it follows.
        parent_id: Option<String>,
        /// What the person allows.
        modes: Modes,
    },
    /// Another reply to a message that is kept.
    Again {
        /// The session.
        session_id: SessionId,
        /// The id that the new reply is to have, so that asking twice gives one reply.
        id: String,
        /// The message to answer.
        parent_id: String,
        /// What the person allows.
        modes: Modes,
    },
    /// The rest of a reply that runs.
    Rest {
        /// The reply.
        reply_id: String,
        /// The last event that is known here.
        after_seq: u64,
    },
}

impl ReplyRequest {
    fn path(&self) -> &'static str {
        match self {
            ReplyRequest::Answer { .. } | ReplyRequest::Again { .. } => "/api/replies/start",
            ReplyRequest::Rest { .. } => "/api/replies/resume",
        }
    }

    fn body(&self) -> String {
        let value = match self {
            ReplyRequest::Answer { session_id, id, content, parent_id, modes } => json!({
                "session_id": session_id,
                "message": {"id": id, "content": content, "parent_id": parent_id},
                "modes": modes,
            }),
            ReplyRequest::Again { session_id, id, parent_id, modes } => json!({
                "session_id": session_id,
                "message": {"id": id, "parent_id": parent_id},
                "modes": modes,
            }),
            ReplyRequest::Rest { reply_id, after_seq } => json!({"reply_id": reply_id, "after_seq": after_seq}),
        };
        value.to_string()
    }
}

/// The events of a reply as they arrive; dropping it lets go of the connection, not of the reply.
pub struct ReplyStream {
    bytes: ByteStream,
    lines: LineReader,
    ready: VecDeque<ReplyEvent>,
}

impl ReplyStream {
    /// Asks.
    ///
    /// # Errors
    /// What the server refuses with, or that it cannot be reached.
    pub async fn open(request: &ReplyRequest) -> Result<Self, AppError> {
        let bytes = browser::open_stream(request.path(), request.body()).await?;
        Ok(Self { bytes, lines: LineReader::default(), ready: VecDeque::new() })
    }

    /// The next event; `None` when the connection ended, which without a last event means that it broke.
    pub async fn next(&mut self) -> Option<ReplyEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let chunk = self.bytes.next().await?;
            self.ready.extend(self.lines.push(&chunk));
        }
    }
}

/// Stops a reply; what was generated is kept.
///
/// # Errors
/// What the server refuses with, or that it cannot be reached.
pub async fn stop(reply_id: &str) -> Result<(), AppError> {
    browser::post("/api/replies/stop", json!({"reply_id": reply_id}).to_string()).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn waits_longer_each_time_up_to_a_limit() {
        assert_eq!([0, 1, 2, 3, 4, 5, 40].map(wait_ms), [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    }

    #[test]
    fn asks_in_the_documented_form() {
        let request = ReplyRequest::Answer {
            session_id: "s".parse().unwrap(),
            id: "m".into(),
            content: "hi".into(),
            parent_id: None,
            modes: Modes { commander: true, web_search: false },
        };
        let body: Value = serde_json::from_str(&request.body()).unwrap();
        assert_eq!(
            body,
            json!({"session_id":"s","message":{"id":"m","content":"hi","parent_id":null},
                "modes":{"commander":true,"webSearch":false}})
        );
        assert_eq!(request.path(), "/api/replies/start");
    }
}
