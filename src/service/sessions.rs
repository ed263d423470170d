//! start, load, list, save, delete, restore and what an export needs.

use super::replies::Replies;
use crate::api::sessions::{Indexing, Listed, Loaded, Running, SaveAnswer, Started, Success};
use crate::error::{AppError, ErrorCode};
use crate::export::document::SessionDocument;
use crate::model::message::MessageInput;
use crate::model::query::Query;
use crate::model::session::{
    Kind, MAX_TAG_CHARACTERS, MAX_TAGS, MAX_TITLE_CHARACTERS, MAX_USER_NAME_CHARACTERS, SessionId, first_characters,
};
use crate::model::{Object, time};
use crate::store::{Health, IndexState, ListRequest, NewSession, PartRequest, Save, SessionPart, SessionStore, Sort};
use chrono::Utc;
use serde_json::Value;
use std::sync::Arc;

/// The most rows in one page of a list.
pub const MAX_LIST_LIMIT: u64 = 1_000;

/// Rows in a page when the caller names no number.
pub const DEFAULT_LIST_LIMIT: u64 = 100;

/// The name of a person who gives none.
pub const DEFAULT_USER_NAME: &str = "User";

/// The most of a search text that is taken, in characters.
const MAX_QUERY_CHARACTERS: usize = 1_000;

/// Minutes between UTC and the zone farthest from it.
const MAX_UTC_OFFSET_MINUTES: i32 = 14 * 60;

/// What a caller of `list` says, still unchecked.
#[derive(Clone, Debug, Default)]
pub struct ListInput {
    /// Rows in a page.
    pub limit: Option<u64>,
    /// Rows to pass over.
    pub offset: Option<u64>,
    /// What to search for.
    pub query: Option<String>,
    /// Only this kind.
    pub kind: Option<Kind>,
    /// The order.
    pub sort: Option<String>,
    /// Where the page before ended.
    pub cursor: Option<String>,
    /// The caller's zone, minutes east of UTC.
    pub utc_offset_minutes: Option<i32>,
}

/// The rules of sessions.
#[derive(Clone)]
pub struct Sessions {
    store: Arc<dyn SessionStore>,
    replies: Arc<Replies>,
}

impl Sessions {
    /// Sessions over a store, with the replies that run in them.
    pub fn new(store: Arc<dyn SessionStore>, replies: Arc<Replies>) -> Self {
        Self { store, replies }
    }

    /// Begins a session, with what is said in it already; one without a type is a chat.
    pub async fn start(
        &self,
        user_name: Option<String>,
        metadata: Option<Object>,
        messages: Vec<MessageInput>,
    ) -> Result<Started, AppError> {
        let user_name = checked_user_name(user_name)?.unwrap_or_else(|| DEFAULT_USER_NAME.to_owned());
        let mut metadata = metadata.unwrap_or_default();
        check_metadata(&metadata)?;
        metadata.retain(|_, value| !value.is_null());
        metadata.entry("type").or_insert_with(|| Kind::Chat.as_str().into());
        let session_id = SessionId::from_uuid(uuid::Uuid::new_v4());
        let now = Utc::now();
        let new = NewSession { session_id: session_id.clone(), user_name, started_at: now, metadata, messages };
        let revision = self.store.create(new).await?;
        Ok(Started { session_id, started_at: time::format(now), revision })
    }

    /// The session as exported, whole or a part of it, with its revision and the reply that runs.
    pub async fn load(&self, id: &SessionId, last: Option<usize>, before: Option<&str>) -> Result<Loaded, AppError> {
        // What runs is asked first: a reply that ends in between is then in the session as well, never in neither.
        let running = self.replies.running(id);
        let answer = |is_kept: bool| {
            let running = running.clone().filter(|_| !is_kept);
            running.map(|running| Running { reply_id: running.reply_id, message_id: running.message_id })
        };
        if last.is_none() && before.is_none() {
            let session = self.store.load(id).await?;
            let revision = session.revision;
            let holds = |id: &str| session.messages.iter().any(|message| message.id == id);
            let running = answer(running.as_ref().is_some_and(|running| holds(&running.message_id)));
            let document = off_runtime(move || SessionDocument::new(&session)).await?;
            return Ok(Loaded { session: document, revision, running, total: None, earlier: None, preview: None });
        }
        let wanted = PartRequest {
            last: last.unwrap_or(usize::MAX),
            before: before.map(str::to_owned),
            holds: running.as_ref().map(|running| running.message_id.clone()),
        };
        let SessionPart { part, revision, holds } = (self.store.load_part(id, &wanted).await?)
            .ok_or_else(|| AppError::invalid("The field `before` names no message of the session."))?;
        Ok(Loaded {
            session: part.document,
            revision,
            running: answer(holds),
            total: Some(part.total),
            earlier: Some(part.earlier),
            preview: Some(part.preview),
        })
    }

    /// One page of the list with the counts.
    pub async fn list(&self, input: ListInput) -> Result<Listed, AppError> {
        let limit = input.limit.unwrap_or(DEFAULT_LIST_LIMIT);
        if !(1..=MAX_LIST_LIMIT).contains(&limit) {
            return Err(AppError::invalid(format!("The field `limit` must be from 1 to {MAX_LIST_LIMIT}.")));
        }
        let offset = input.offset.unwrap_or(0);
        let sort = match input.sort.as_deref() {
            None | Some("" | "newest") => Sort::Newest,
            Some("oldest") => Sort::Oldest,
            Some("best") => Sort::Best,
            Some(_) => return Err(AppError::invalid("The field `sort` must be `newest`, `oldest` or `best`.")),
        };
        let utc_offset_minutes = checked_utc_offset(input.utc_offset_minutes)?;
        let request = ListRequest {
            query: checked_query(input.query.as_deref())?,
            kind: input.kind,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            offset: usize::try_from(offset).unwrap_or(usize::MAX),
            cursor: input.cursor.filter(|cursor| !cursor.is_empty()),
            sort,
            now: Utc::now(),
            utc_offset_minutes,
        };
        let page = self.store.list(&request).await?;
        Ok(Listed {
            sessions: page.sessions,
            total_sessions: page.total_sessions,
            filtered_sessions: page.filtered_sessions,
            filtered_is_lower_bound: page.filtered_is_lower_bound,
            sessions_today: page.sessions_today,
            sessions_this_week: page.sessions_this_week,
            total_messages: page.total_messages,
            limit,
            offset,
            next_cursor: page.next_cursor,
            indexing: match page.index {
                IndexState::Ready => None,
                IndexState::Checking { done, total } | IndexState::Rebuilding { done, total } => {
                    Some(Indexing { state: page.index.as_str().to_owned(), done, total })
                }
            },
        })
    }

    /// Merges what the caller knows into the session.
    pub async fn save(
        &self,
        id: &SessionId,
        messages: Vec<MessageInput>,
        user_name: Option<String>,
        metadata: Option<Object>,
        base_revision: Option<u64>,
    ) -> Result<SaveAnswer, AppError> {
        let mut metadata = metadata.unwrap_or_default();
        let mut user_name = user_name;
        if checked_user_name(user_name.clone()).is_err() || check_metadata(&metadata).is_err() {
            // A client that posts a whole session back repeats what a file of another program holds; only changes are checked.
            let kept = self.store.load(id).await?;
            metadata.retain(|field, value| kept.metadata.get(field) != Some(value));
            user_name = user_name.filter(|name| *name != kept.user_name);
        }
        let user_name = checked_user_name(user_name)?;
        check_metadata(&metadata)?;
        let running = self.replies.running_messages(id);
        let save = Save { messages, user_name, metadata, base_revision, running, now: Utc::now() };
        let saved = self.store.save(id, save).await?;
        Ok(SaveAnswer { success: true, revision: saved.revision, saved_at: saved.saved_at, merged: saved.merged })
    }

    /// Stops what runs in the session and puts it into the trash.
    pub async fn delete(&self, id: &SessionId) -> Result<Success, AppError> {
        // Held until the session is in the trash, so that no reply begins in between.
        let _quiet = self.replies.silence(id).await;
        self.store.delete(id).await?;
        Ok(Success { success: true, message: format!("Session {id} is in the trash and can be restored.") })
    }

    /// Takes the session out of the trash.
    pub async fn restore(&self, id: &SessionId) -> Result<Success, AppError> {
        self.store.restore(id).await?;
        Ok(Success { success: true, message: format!("Session {id} is back.") })
    }

    /// The session as it is exported.
    pub async fn document(&self, id: &SessionId) -> Result<SessionDocument, AppError> {
        let session = self.store.load(id).await?;
        off_runtime(move || SessionDocument::new(&session)).await
    }

    /// The sessions that a search finds, newest first.
    pub async fn find(
        &self,
        query: Option<&str>,
        kind: Option<Kind>,
        utc_offset_minutes: Option<i32>,
    ) -> Result<Vec<SessionId>, AppError> {
        let utc_offset_minutes = checked_utc_offset(utc_offset_minutes)?;
        Ok(self.store.find(&checked_query(query)?, kind, utc_offset_minutes).await?)
    }

    /// Removes sessions from the trash for good: those that are named, or all.
    pub async fn empty_trash(&self, ids: Option<Vec<SessionId>>) -> Result<Success, AppError> {
        let removed = self.store.empty_trash(ids.as_deref()).await?;
        let plural = if removed == 1 { "" } else { "s" };
        Ok(Success { success: true, message: format!("{removed} session{plural} removed for good.") })
    }

    /// What the store says of itself.
    pub async fn health(&self) -> Health {
        self.store.health().await
    }
}

/// Runs work whose time grows with a session beside the async runtime.
async fn off_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, AppError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a blocking task failed");
        AppError::internal()
    })
}

fn checked_user_name(user_name: Option<String>) -> Result<Option<String>, AppError> {
    let Some(name) = user_name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    if name.chars().count() > MAX_USER_NAME_CHARACTERS {
        return Err(AppError::invalid(format!(
            "The field `user_name` must have at most {MAX_USER_NAME_CHARACTERS} characters."
        )));
    }
    Ok(Some(name))
}

/// Checks the fields of the metadata that have a meaning; all others are the caller's own.
fn check_metadata(metadata: &Object) -> Result<(), AppError> {
    for (field, value) in metadata {
        let (fits, what) = match field.as_str() {
            "type" => (matches!(value.as_str(), Some("chat" | "voice")), "`chat` or `voice`"),
            "title" | "model" | "system_prompt" | "active_leaf" => (value.is_string(), "a text"),
            "pinned" | "archived" => (value.is_boolean(), "true or false"),
            "tags" => (value.as_array().is_some_and(|tags| tags.iter().all(Value::is_string)), "a list of texts"),
            _ => (true, ""),
        };
        let removes = value.is_null() && field != "type";
        if !fits && !removes {
            return Err(AppError::new(
                ErrorCode::InvalidRequest,
                format!("The field `metadata.{field}` must be {what}."),
            ));
        }
        if let Some(limit) = limit_passed_by(field, value) {
            return Err(AppError::invalid(format!("The field `metadata.{field}` must have {limit}.")));
        }
    }
    Ok(())
}

/// What a field of the metadata that stands in lists must keep to and does not.
fn limit_passed_by(field: &str, value: &Value) -> Option<String> {
    let is_longer = |text: &str, most: usize| first_characters(text, most).len() < text.len();
    match (field, value) {
        ("title", Value::String(title)) if is_longer(title, MAX_TITLE_CHARACTERS) => {
            Some(format!("at most {MAX_TITLE_CHARACTERS} characters"))
        }
        ("tags", Value::Array(tags)) if tags.len() > MAX_TAGS => Some(format!("at most {MAX_TAGS} tags")),
        ("tags", Value::Array(tags)) => {
            let mut texts = tags.iter().filter_map(Value::as_str);
            texts
                .any(|tag| is_longer(tag, MAX_TAG_CHARACTERS))
                .then(|| format!("tags of at most {MAX_TAG_CHARACTERS} characters"))
        }
        _ => None,
    }
}

fn checked_utc_offset(minutes: Option<i32>) -> Result<i32, AppError> {
    let minutes = minutes.unwrap_or(0);
    if !(-MAX_UTC_OFFSET_MINUTES..=MAX_UTC_OFFSET_MINUTES).contains(&minutes) {
        return Err(AppError::invalid("The field `utc_offset_minutes` must be from -840 to 840."));
    }
    Ok(minutes)
}

fn checked_query(query: Option<&str>) -> Result<Query, AppError> {
    let text = query.unwrap_or_default();
    if text.chars().count() > MAX_QUERY_CHARACTERS {
        return Err(AppError::invalid(format!(
            "The field `query` must have at most {MAX_QUERY_CHARACTERS} characters."
        )));
    }
    Query::parse(text).map_err(|error| AppError::invalid(error.0))
}
