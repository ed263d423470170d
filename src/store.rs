//! Where sessions are kept: a trait over plain data, and the file store that implements it.
//!
//! Nothing above this module may assume files: a second store, on PostgreSQL, is coming.

mod branches;
mod disk;
pub mod doctor;
mod document;
mod file_store;
mod index;
mod layout;
mod lock;
mod merge;
mod text;

pub use file_store::{FileStore, StoreOptions};

use crate::error::{AppError, ErrorCode};
use crate::export::document::{DocumentPart, SessionDocument};
use crate::model::Object;
use crate::model::message::{Message, MessageInput};
use crate::model::query::Query;
use crate::model::reply::ReplyEvent;
use crate::model::session::{Kind, Session, SessionId, Summary};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// A place that keeps sessions. What a method acknowledges is on the disk; nothing is acknowledged earlier.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// Keeps a new session with what is said in it already, all or nothing, and returns its revision. What its messages may be is as
    /// for [`SessionStore::save`].
    async fn create(&self, new: NewSession) -> Result<u64, StoreError>;

    /// The session, whole. A session in the trash is [`StoreError::Deleted`].
    async fn load(&self, id: &SessionId) -> Result<Arc<Session>, StoreError>;

    /// A part of the session, without more work than that takes where the store can; `None` if there is no message before which it
    /// is to be. It is what [`SessionDocument::part`] makes of the whole.
    async fn load_part(&self, id: &SessionId, part: &PartRequest) -> Result<Option<SessionPart>, StoreError> {
        Ok(SessionPart::of_whole(&*self.load(id).await?, part))
    }

    /// Merges what a caller knows of a session into it. Can be repeated without effect.
    async fn save(&self, id: &SessionId, save: Save) -> Result<Saved, StoreError>;

    /// Appends a finished reply as it is, under its id; a second call with the same id changes nothing.
    async fn append_reply(&self, id: &SessionId, message: Message, now: DateTime<Utc>) -> Result<Saved, StoreError>;

    /// One page of summaries, newest `last_updated` first, with the counts.
    async fn list(&self, request: &ListRequest) -> Result<Listing, StoreError>;

    /// The ids that a search finds, newest first; an empty query finds all that are kept, archived ones too. The zone is the
    /// caller's, in minutes east of UTC, for days in the query.
    async fn find(
        &self,
        query: &Query,
        kind: Option<Kind>,
        utc_offset_minutes: i32,
    ) -> Result<Vec<SessionId>, StoreError>;

    /// Puts a session into the trash.
    async fn delete(&self, id: &SessionId) -> Result<(), StoreError>;

    /// Takes a session out of the trash.
    async fn restore(&self, id: &SessionId) -> Result<(), StoreError>;

    /// Removes deleted sessions for good: those that are named, or all of them. Returns how many there were.
    async fn empty_trash(&self, ids: Option<&[SessionId]>) -> Result<u64, StoreError>;

    /// Writes what is still to be written of the index; nothing is asked of the store afterwards.
    async fn close(&self);

    /// How many sessions are kept and what the index is doing.
    async fn health(&self) -> Health;

    /// Begins the journal of a running reply.
    async fn begin_reply(&self, head: &ReplyHead) -> Result<(), StoreError>;

    /// Adds events to the journal of a running reply and waits until they are on the disk.
    async fn extend_reply(&self, reply_id: &str, events: &[ReplyEvent]) -> Result<(), StoreError>;

    /// Removes the journal of a reply that stands in its session now.
    async fn end_reply(&self, reply_id: &str) -> Result<(), StoreError>;

    /// The journals that a server left behind which died in mid-reply.
    async fn unfinished_replies(&self) -> Result<Vec<(ReplyHead, Vec<ReplyEvent>)>, StoreError>;
}

/// What a new session begins with.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Its id, not yet used.
    pub session_id: SessionId,
    /// Who talks.
    pub user_name: String,
    /// When it begins.
    pub started_at: DateTime<Utc>,
    /// Its metadata.
    pub metadata: Object,
    /// What is said in it already.
    pub messages: Vec<MessageInput>,
}

/// Which part of a session is wanted.
#[derive(Clone, Debug)]
pub struct PartRequest {
    /// How many messages at most.
    pub last: usize,
    /// The message before which they are; without it they are the last ones.
    pub before: Option<String>,
    /// A message of which is asked whether the session holds it.
    pub holds: Option<String>,
}

/// A part of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionPart {
    /// The part.
    pub part: DocumentPart,
    /// The session's revision.
    pub revision: u64,
    /// Whether the session holds the message of which was asked.
    pub holds: bool,
}

impl SessionPart {
    /// The part of a session that is there whole.
    fn of_whole(session: &Session, wanted: &PartRequest) -> Option<Self> {
        Some(Self {
            part: SessionDocument::part(session, wanted.last, wanted.before.as_deref())?,
            revision: session.revision,
            holds: wanted.holds.as_ref().is_some_and(|id| session.messages.iter().any(|message| message.id == *id)),
        })
    }
}

/// What a caller wants to be kept of a session.
#[derive(Clone, Debug)]
pub struct Save {
    /// Messages, all or only the new ones.
    pub messages: Vec<MessageInput>,
    /// A new user name.
    pub user_name: Option<String>,
    /// A merge patch for the session's metadata.
    pub metadata: Object,
    /// The revision that the caller knew; without it nothing is said about others.
    pub base_revision: Option<u64>,
    /// Ids of messages that running replies will have: a caller's copy of them is passed over.
    pub running: HashSet<String>,
    /// The time.
    pub now: DateTime<Utc>,
}

/// What a save did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The session's revision now.
    pub revision: u64,
    /// When that was written (RFC 3339): the later one of the session's times.
    pub saved_at: String,
    /// Whether others had saved since `base_revision`.
    pub merged: bool,
}

/// What part of the list is wanted.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// What to search for.
    pub query: Query,
    /// Only sessions of this kind.
    pub kind: Option<Kind>,
    /// Most rows in the answer.
    pub limit: usize,
    /// Rows to pass over.
    pub offset: usize,
    /// Continue after the row that this names; from [`Listing::next_cursor`].
    pub cursor: Option<String>,
    /// The order.
    pub sort: Sort,
    /// The present.
    pub now: DateTime<Utc>,
    /// The caller's zone, minutes east of UTC, for "today" and "this week".
    pub utc_offset_minutes: i32,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Newest `last_updated` first.
    #[default]
    Newest,
    /// Oldest `started_at` first.
    Oldest,
    /// For a search: what fits best, among the newest few thousand that it finds.
    Best,
}

/// What the index of a store is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexState {
    /// It agrees with what is kept.
    #[default]
    Ready,
    /// It is being compared with what is kept.
    Checking {
        /// Sessions compared so far.
        done: u64,
        /// Sessions to be compared.
        total: u64,
    },
    /// It is being built; what is not in it yet is not in lists either.
    Rebuilding {
        /// Sessions taken up so far.
        done: u64,
        /// Sessions to be taken up.
        total: u64,
    },
}

impl IndexState {
    /// `ready`, `checking` or `rebuilding`.
    pub fn as_str(self) -> &'static str {
        match self {
            IndexState::Ready => "ready",
            IndexState::Checking { .. } => "checking",
            IndexState::Rebuilding { .. } => "rebuilding",
        }
    }
}

/// One page of the list and the counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The rows.
    pub sessions: Vec<Summary>,
    /// All sessions kept.
    pub total_sessions: u64,
    /// Those that the request finds.
    pub filtered_sessions: u64,
    /// Whether `filtered_sessions` is only what was reached.
    pub filtered_is_lower_bound: bool,
    /// Sessions begun today in the caller's zone.
    pub sessions_today: u64,
    /// Sessions begun this week, from Monday, in the caller's zone.
    pub sessions_this_week: u64,
    /// Messages on the shown paths of all sessions.
    pub total_messages: u64,
    /// Where the next page begins, if there is one.
    pub next_cursor: Option<String>,
    /// What the index was doing: unless it is ready, something may be missing.
    pub index: IndexState,
}

/// What `/health` tells of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Sessions kept.
    pub sessions: u64,
    /// Files of sessions that cannot be read, as far as they have been looked at.
    pub unreadable: u64,
    /// Whether something could be written when that was tried last. If not, a look at the health tries it again.
    pub writable: bool,
    /// What the index is doing.
    pub index: IndexState,
}

/// The first line of a running reply's journal: what is needed to fold it into its session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyHead {
    /// The reply's id.
    pub reply_id: String,
    /// The session that it belongs to.
    pub session_id: SessionId,
    /// The message as it will be appended, still without parts and content.
    pub message: Message,
}

/// Why the store could not do what it was asked. The texts are for the log; callers see [`AppError`].
#[derive(Debug)]
pub enum StoreError {
    /// There is no such session.
    NotFound,
    /// The session is in the trash.
    Deleted,
    /// The id is taken already.
    Exists,
    /// The request contradicts itself; the text is for the caller and names the field.
    Invalid(String),
    /// A file was written by a later version.
    ReadOnly(String),
    /// Something cannot be read.
    Unreadable(String),
    /// The index of all sessions cannot be read.
    IndexUnreadable(String),
    /// Something cannot be written: the disk is full, a folder is read-only.
    Unwritable(String),
    /// A session would become larger than this many bytes, and could not be read any more.
    TooLarge(u64),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::NotFound => f.write_str("no such session"),
            StoreError::Deleted => f.write_str("the session is in the trash"),
            StoreError::Exists => f.write_str("the session exists already"),
            StoreError::Invalid(text) => write!(f, "invalid request: {text}"),
            StoreError::ReadOnly(text) => write!(f, "read-only: {text}"),
            StoreError::Unreadable(text) => write!(f, "unreadable: {text}"),
            StoreError::IndexUnreadable(text) => write!(f, "the index cannot be read: {text}"),
            StoreError::Unwritable(text) => write!(f, "unwritable: {text}"),
            StoreError::TooLarge(most) => write!(f, "a session may have {most} bytes"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NotFound => AppError::no_such_session(),
            StoreError::Deleted => AppError::new(
                ErrorCode::SessionDeleted,
                "This session was deleted. It is in the trash and can be restored from there.",
            ),
            StoreError::Exists => {
                AppError::new(ErrorCode::Conflict, "A session with this id exists already. Please try again.")
            }
            StoreError::Invalid(text) => AppError::invalid(text.clone()),
            StoreError::ReadOnly(_) => {
                tracing::error!(%error, "session is read-only");
                AppError::new(
                    ErrorCode::StorageUnwritable,
                    "This session can only be read: its file was written by a newer Verbatim. The server's log says more.",
                )
            }
            StoreError::Unreadable(_) => {
                tracing::error!(%error, "store cannot read");
                AppError::new(
                    ErrorCode::StorageUnreadable,
                    "The session's file cannot be read. It was left as it is; the server's log says more.",
                )
            }
            StoreError::IndexUnreadable(_) => {
                tracing::error!(%error, "store cannot list");
                AppError::new(
                    ErrorCode::StorageUnreadable,
                    "The list of sessions cannot be read now. The sessions themselves are safe. If it stays so, start Verbatim \
                     anew; the server's log says more.",
                )
            }
            StoreError::TooLarge(most) => AppError::new(
                ErrorCode::Conflict,
                format!(
                    "This cannot be kept in this session: it would become larger than {} MiB. Go on in a new session, or start the \
                     server with a larger --max-session-file-mib.",
                    most / (1024 * 1024)
                ),
            ),
            StoreError::Unwritable(_) => {
                tracing::error!(%error, "store cannot write");
                AppError::new(
                    ErrorCode::StorageUnwritable,
                    "The server cannot write to its data directory now. Check free space and permissions; \
                     what is not saved yet stays in this page and is tried again.",
                )
            }
        }
    }
}
