//! One reply: what happened so far, who listens, and whether somebody wants it to end.

use super::ReplyStream;
use crate::model::message::Message;
use crate::model::parts::{Part, joined_text};
use crate::model::reply::{self, ReplyEvent};
use crate::model::session::SessionId;
use futures::stream::{self, StreamExt};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Instant;
use tokio::sync::watch;

/// Why a reply ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    /// The person stopped it.
    Stopped,
    /// The server is stopping.
    Interrupted,
}

impl Cancel {
    /// `metadata.error` of a reply that the server's end ended.
    pub(super) const INTERRUPTED: &str = "interrupted";

    /// What a person is told of such a reply.
    pub(super) const INTERRUPTED_MESSAGE: &str =
        "The server was stopped in the middle of this reply. The text so far is kept; ask again for a whole one.";
}

/// A running or finished reply.
pub(super) struct Reply {
    /// Its name.
    pub(super) reply_id: String,
    /// Its session.
    pub(super) session_id: SessionId,
    /// The id that its message will have.
    pub(super) message_id: String,
    /// The message that it answers.
    pub(super) parent_id: String,
    /// The message with which it was asked for.
    pub(super) asked_by: Option<String>,
    /// When it began.
    pub(super) started_at: Instant,
    /// The event with the sequence number n is at the position n.
    log: Mutex<Vec<ReplyEvent>>,
    /// How many events the log has.
    length: watch::Sender<usize>,
    cancel: watch::Sender<Option<Cancel>>,
}

impl Reply {
    /// A reply of which nothing was told yet.
    pub(super) fn new(
        reply_id: String,
        session_id: SessionId,
        message_id: String,
        parent_id: String,
        asked_by: Option<String>,
    ) -> Self {
        Self {
            reply_id,
            session_id,
            message_id,
            parent_id,
            asked_by,
            started_at: Instant::now(),
            log: Mutex::default(),
            length: watch::Sender::new(0),
            cancel: watch::Sender::new(None),
        }
    }

    /// Tells an event, made for its sequence number. After the last event nothing more is told.
    pub(super) fn push(&self, event: impl FnOnce(u64) -> ReplyEvent) {
        let mut log = self.log();
        if !log.last().is_some_and(ReplyEvent::is_last) {
            let event = event(log.len() as u64);
            log.push(event);
            self.length.send_replace(log.len());
        }
    }

    /// How many events were told.
    pub(super) fn length(&self) -> usize {
        self.log().len()
    }

    /// The events from a position on.
    pub(super) fn events_from(&self, position: usize) -> Vec<ReplyEvent> {
        self.log().get(position..).map(<[ReplyEvent]>::to_vec).unwrap_or_default()
    }

    /// The events from a position on, those to come included, to the last one.
    pub(super) fn listen(self: &Arc<Self>, from: usize) -> ReplyStream {
        let from = from.min(self.length());
        let listening = (self.clone(), self.length.subscribe(), from);
        stream::unfold(listening, |(reply, mut length, position)| async move {
            loop {
                // Marked as seen before looking, so that no change between looking and waiting is missed.
                length.borrow_and_update();
                match reply.entry(position) {
                    Poll::Ready(event) => return event.map(|event| (event, (reply, length, position + 1))),
                    Poll::Pending => length.changed().await.ok()?,
                }
            }
        })
        .boxed()
    }

    /// Waits until the log has more events than this.
    pub(super) async fn longer_than(&self, length: usize) {
        // An error would mean that the sender is gone, which lives in `self`.
        let _ = self.length.subscribe().wait_for(|&now| now > length).await;
    }

    /// Whether nothing more will be told.
    pub(super) fn has_ended(&self) -> bool {
        self.log().last().is_some_and(ReplyEvent::is_last)
    }

    /// Waits until nothing more will be told.
    pub(super) async fn ended(&self) {
        let mut length = self.length.subscribe();
        loop {
            // Not by `wait_for`, which holds the length while it looks at the log: `push` takes them the other way round.
            length.borrow_and_update();
            if self.has_ended() || length.changed().await.is_err() {
                return;
            }
        }
    }

    /// Asks it to end; the first reason counts.
    pub(super) fn cancel(&self, reason: Cancel) {
        self.cancel.send_if_modified(|cancel| cancel.is_none() && cancel.replace(reason).is_none());
    }

    /// Waits until somebody asks it to end.
    pub(super) async fn cancelled(&self) -> Cancel {
        match self.cancel.subscribe().wait_for(Option::is_some).await.ok().and_then(|reason| *reason) {
            Some(reason) => reason,
            // The sender lives in `self`, so that waiting cannot fail and always ends with a reason.
            None => std::future::pending().await,
        }
    }

    /// About how much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let text = |event: &ReplyEvent| match event {
            ReplyEvent::Delta { text, .. } | ReplyEvent::Reasoning { text, .. } => text.len(),
            // The finished message holds them once more, as JSON and as text.
            ReplyEvent::ToolStarted { arguments, .. } => 3 * arguments.to_string().len(),
            ReplyEvent::ToolFinished { result, .. } => 2 * result.to_string().len(),
            // Its parts hold once more what its content holds.
            ReplyEvent::Done { message, .. } => 2 * message.content.len(),
            ReplyEvent::Started { .. }
            | ReplyEvent::Progress { .. }
            | ReplyEvent::TextWasReasoning { .. }
            | ReplyEvent::Failed { .. } => 0,
        };
        self.log().iter().map(|event| size_of::<ReplyEvent>() + text(event)).sum()
    }

    /// What stands at a position of the log: an event, nothing any more, or nothing yet.
    fn entry(&self, position: usize) -> Poll<Option<ReplyEvent>> {
        let log = self.log();
        match log.get(position) {
            Some(event) => Poll::Ready(Some(event.clone())),
            None if log.last().is_some_and(ReplyEvent::is_last) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn log(&self) -> MutexGuard<'_, Vec<ReplyEvent>> {
        // A list is whole after each push, also where a thread panicked in between.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The message of a reply with what its events brought.
pub(super) fn with_events(mut message: Message, events: &[ReplyEvent]) -> Message {
    let mut parts: Vec<Part> = Vec::new();
    events.iter().for_each(|event| reply::apply(&mut parts, event));
    message.content = joined_text(&parts);
    message.parts = Some(parts);
    message
}
