//! Owns the replies that are being generated: each runs in a task of its own, is kept by the server itself and told to any
//! number of listeners. No connection's end ends a reply.

mod generation;
mod journal;
mod limits;
mod reply;
#[cfg(test)]
mod tests;

use crate::assistant::{Assistant, AssistantError, Ready};
use crate::error::{AppError, ErrorCode};
use crate::model::Object;
use crate::model::foreign::one_line;
use crate::model::message::{Message, MessageInput, Modes, Role, null_is_default, said};
use crate::model::reply::ReplyEvent;
use crate::model::session::{Session, SessionId, is_id};
use crate::model::{time, tree};
use crate::service::context::{self, DEFAULT_WINDOW_TOKENS};
use crate::store::{ReplyHead, Save, Saved, SessionStore, StoreError};
use chrono::Utc;
use futures::future;
use futures::stream::{self, BoxStream, StreamExt};
use generation::Generation;
use reply::{Cancel, Reply};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How many characters of a model's name are kept with a reply.
const MODEL_CHARACTERS: usize = 200;

/// The events of a reply, from `started` or where a listener left, to the last one.
pub type ReplyStream = BoxStream<'static, ReplyEvent>;

/// A request to answer something, as a caller writes it.
#[derive(Clone, Debug, Deserialize)]
pub struct StartReply {
    /// The session that it happens in.
    pub session_id: SessionId,
    /// What is said, or with only a `parent_id`, what is to be answered once more.
    #[serde(default, deserialize_with = "null_is_default")]
    pub message: StartMessage,
    /// What the assistant is allowed to do.
    #[serde(default, deserialize_with = "null_is_default")]
    pub modes: Modes,
    /// Another model than the session's.
    #[serde(default)]
    pub model: Option<String>,
}

/// The message of a [`StartReply`].
#[derive(Clone, Debug, Default, Deserialize)]
pub struct StartMessage {
    /// The id of what is said, by which a repeated request is known; without `content`, the id of the reply.
    #[serde(default)]
    pub id: Option<String>,
    /// What is said.
    #[serde(default)]
    pub content: Option<String>,
    /// What it follows: missing, the active leaf; `null`, nothing. Without `content`, what is to be answered.
    #[serde(default, deserialize_with = "said")]
    pub parent_id: Option<Option<String>>,
}

/// A reply that is being generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningReply {
    /// Its name, for resume and stop.
    pub reply_id: String,
    /// The id that its message will have.
    pub message_id: String,
    /// The message that it answers.
    pub parent_id: String,
}

/// The limits and times of replies.
#[derive(Clone, Debug)]
pub struct RepliesOptions {
    /// How many tokens a model is taken to read where it does not say it.
    pub default_window_tokens: usize,
    /// How often what was generated goes to the journal.
    pub journal_interval: Duration,
    /// How long a finished reply can be resumed.
    pub keep_finished: Duration,
    /// The most finished replies that can be resumed.
    pub max_finished: usize,
    /// The most memory that finished replies take, in bytes.
    pub max_finished_bytes: usize,
    /// The most replies at once.
    pub max_running: usize,
    /// The longest reply, in bytes of all that is said, thought and called; a longer one is cut off.
    pub max_reply_bytes: usize,
    /// The most events of a reply, whatever they hold.
    pub max_reply_events: usize,
    /// The longest time to the first words after the assistant was asked.
    pub first_words_patience: Duration,
    /// The longest time without words after that. It does not run while a tool runs or a person is waited for.
    pub words_patience: Duration,
    /// How long a finished reply that cannot be saved is tried again before its listeners are told.
    pub persist_patience: Duration,
    /// How often it is tried again after that.
    pub persist_retry: Duration,
    /// How long a shutdown waits for running replies to be saved.
    pub shutdown_patience: Duration,
}

impl Default for RepliesOptions {
    fn default() -> Self {
        Self {
            default_window_tokens: DEFAULT_WINDOW_TOKENS,
            journal_interval: Duration::from_millis(500),
            keep_finished: Duration::from_secs(300),
            max_finished: 256,
            max_finished_bytes: 32 << 20,
            max_running: 256,
            max_reply_bytes: 8 << 20,
            max_reply_events: 200_000,
            // A moment more than the clients of model servers wait themselves, because these can name the server.
            first_words_patience: Duration::from_secs(602),
            words_patience: Duration::from_secs(122),
            persist_patience: Duration::from_secs(60),
            persist_retry: Duration::from_secs(10),
            shutdown_patience: Duration::from_secs(4),
        }
    }
}

/// All running and just finished replies.
pub struct Replies {
    store: Arc<dyn SessionStore>,
    assistant: Arc<dyn Assistant>,
    options: RepliesOptions,
    registry: Mutex<Registry>,
    /// Starts in one session happen one after the other, so that the same start, sent twice, makes one reply.
    starting: Mutex<HashMap<SessionId, Arc<tokio::sync::Mutex<()>>>>,
}

/// The replies by their ids.
#[derive(Default)]
struct Registry {
    replies: HashMap<String, Arc<Reply>>,
    /// The finished ones, oldest first, with the time of their end and their size.
    finished: VecDeque<(String, Instant, usize)>,
    finished_bytes: usize,
    /// Whether the server is stopping.
    closing: bool,
}

impl Registry {
    fn running(&self) -> impl Iterator<Item = &Arc<Reply>> {
        self.replies.values().filter(|reply| !reply.has_ended())
    }

    fn running_in(&self, session_id: &SessionId) -> impl Iterator<Item = &Arc<Reply>> {
        self.running().filter(move |reply| reply.session_id == *session_id)
    }

    /// Drops what is finished and too old, too much or too large.
    fn prune(&mut self, options: &RepliesOptions) {
        while let Some((_, ended_at, _)) = self.finished.front() {
            let too_much =
                self.finished.len() > options.max_finished || self.finished_bytes > options.max_finished_bytes;
            if !too_much && ended_at.elapsed() < options.keep_finished {
                return;
            }
            if let Some((reply_id, _, bytes)) = self.finished.pop_front() {
                self.replies.remove(&reply_id);
                self.finished_bytes -= bytes;
            }
        }
    }
}

/// What a [`StartReply`] asks for, once it is understood.
enum Asked {
    /// Something is said and is to be answered.
    Say { id: String, content: String, parent_id: Option<Option<String>> },
    /// Something said before is to be answered once more, under this id.
    Again { parent_id: String, message_id: Option<String> },
}

impl Asked {
    fn parse(message: StartMessage) -> Result<Self, AppError> {
        if message.id.as_deref().is_some_and(|id| !is_id(id)) {
            return Err(AppError::invalid("message.id: an id is 1 to 64 letters, digits, hyphens or underscores."));
        }
        match (message.content, message.id, message.parent_id) {
            (Some(content), _, _) if content.trim().is_empty() => {
                Err(AppError::invalid("message.content: there is nothing to answer in an empty message."))
            }
            (Some(_), None, _) => Err(AppError::invalid(
                "message.id: a message needs an id, so that sending it again does not double it.",
            )),
            (Some(content), Some(id), parent_id) => Ok(Asked::Say { id, content, parent_id }),
            (None, message_id, Some(Some(parent_id))) => Ok(Asked::Again { parent_id, message_id }),
            (None, _, _) => Err(AppError::invalid(
                "message: give its content, or in parent_id the message of yours that is to be answered once more.",
            )),
        }
    }
}

/// What a reply is generated from.
struct Order {
    session: Arc<Session>,
    /// The message that is answered.
    parent_id: String,
    /// The message with which the reply was asked for; `None` where an old one is answered once more.
    asked_by: Option<String>,
    /// The id that the reply's message will have.
    message_id: String,
    modes: Modes,
    model: Option<String>,
}

impl Replies {
    /// Replies kept by `store` and given by `assistant`. Call [`Replies::recover`] before the first start.
    pub fn new(store: Arc<dyn SessionStore>, assistant: Arc<dyn Assistant>, options: RepliesOptions) -> Arc<Self> {
        Arc::new(Self { store, assistant, options, registry: Mutex::default(), starting: Mutex::default() })
    }

    /// Folds the replies into their sessions that a server left behind which died, and returns how many there were.
    ///
    /// A journal that cannot be folded now (its session is in the trash or unreadable) is left for the next start.
    pub async fn recover(&self) -> Result<usize, AppError> {
        let unfinished = self.store.unfinished_replies().await?;
        let mut recovered = 0;
        for (head, events) in unfinished {
            let reply_id = head.reply_id.clone();
            match self.fold(head, events).await {
                Ok(()) => recovered += 1,
                Err(error) => tracing::warn!(reply_id, %error, "an interrupted reply was left in its journal"),
            }
        }
        Ok(recovered)
    }

    async fn fold(&self, head: ReplyHead, events: Vec<ReplyEvent>) -> Result<(), StoreError> {
        let session = self.store.load(&head.session_id).await?;
        if !session.messages.iter().any(|message| message.id == head.message.id) {
            let mut message = reply::with_events(head.message, &events);
            message.metadata.insert("error".to_owned(), json!(Cancel::INTERRUPTED));
            message.metadata.insert("error_message".to_owned(), json!(Cancel::INTERRUPTED_MESSAGE));
            if !message.tools_used().is_empty() {
                message.metadata.insert("hasTools".to_owned(), json!(true));
            }
            let (parent_id, message_id) = (message.parent_id.clone(), message.id.clone());
            self.store.append_reply(&head.session_id, message, Utc::now()).await?;
            self.follow(&head.session_id, parent_id.as_deref(), &message_id).await;
        }
        self.store.end_reply(&head.reply_id).await
    }

    /// Which assistant would answer now.
    pub async fn assistant_status(&self) -> Result<Ready, AssistantError> {
        self.assistant.status().await
    }

    /// Lets the assistant, which is this model, get ready for a reply that will probably be asked for soon.
    pub async fn prepare_assistant(&self, model: &str) {
        self.assistant.prepare(&usual_instructions(model)).await;
    }

    /// Starts a reply, or joins the one that the same request started before.
    ///
    /// What is said is on the disk when this returns, also where it returns that no assistant can be reached.
    pub async fn start(self: &Arc<Self>, request: StartReply) -> Result<ReplyStream, AppError> {
        // In a task of its own, so that a caller who goes away in the middle leaves nothing half done.
        let replies = self.clone();
        tokio::spawn(async move { replies.start_now(request).await }).await.unwrap_or_else(|error| {
            tracing::error!(%error, "starting a reply failed");
            Err(AppError::internal())
        })
    }

    /// The rest of a running or just finished reply after the event `after_seq`; from `started` where that is 0.
    pub fn resume(&self, reply_id: &str, after_seq: u64) -> Result<ReplyStream, AppError> {
        let reply = self.known(reply_id)?;
        let from = if after_seq == 0 { 0 } else { after_seq.saturating_add(1) };
        Ok(reply.listen(usize::try_from(from).unwrap_or(usize::MAX)))
    }

    /// Stops a reply and keeps the text so far; returns when that is saved. Stopping a finished one does nothing.
    pub async fn stop(&self, reply_id: &str) -> Result<(), AppError> {
        let reply = self.known(reply_id)?;
        reply.cancel(Cancel::Stopped);
        self.ended(&[reply]).await;
        Ok(())
    }

    /// Stops all replies of a session and keeps their texts so far; returns when they are saved. While what is returned is held,
    /// no other reply begins in the session.
    pub async fn silence(&self, session_id: &SessionId) -> impl Send + use<> {
        let turn = self.turn_to_start(session_id).await;
        self.stop_session(session_id).await;
        turn
    }

    async fn stop_session(&self, session_id: &SessionId) {
        let running: Vec<Arc<Reply>> = self.registry().running_in(session_id).cloned().collect();
        running.iter().for_each(|reply| reply.cancel(Cancel::Stopped));
        self.ended(&running).await;
    }

    /// The reply that runs in a session; the newest one, should there be several in different branches.
    pub fn running(&self, session_id: &SessionId) -> Option<RunningReply> {
        let registry = self.registry();
        let newest = registry.running_in(session_id).max_by_key(|reply| reply.started_at)?;
        Some(RunningReply {
            reply_id: newest.reply_id.clone(),
            message_id: newest.message_id.clone(),
            parent_id: newest.parent_id.clone(),
        })
    }

    /// The ids that the messages of a session's running replies will have, for [`Save::running`].
    pub fn running_messages(&self, session_id: &SessionId) -> HashSet<String> {
        self.registry().running_in(session_id).map(|reply| reply.message_id.clone()).collect()
    }

    /// Ends all replies because the server is stopping, and returns when their texts are saved, at the latest after
    /// [`RepliesOptions::shutdown_patience`]. What could not be saved by then is in its journal.
    pub async fn shutdown(&self) {
        let running: Vec<Arc<Reply>> = {
            let mut registry = self.registry();
            registry.closing = true;
            registry.running().cloned().collect()
        };
        running.iter().for_each(|reply| reply.cancel(Cancel::Interrupted));
        self.ended(&running).await;
    }

    async fn start_now(self: Arc<Self>, request: StartReply) -> Result<ReplyStream, AppError> {
        let asked = Asked::parse(request.message)?;
        let _turn = self.turn_to_start(&request.session_id).await;
        let session = self.store.load(&request.session_id).await?;
        let model = request.model.filter(|model| !model.trim().is_empty());
        match asked {
            Asked::Say { id, content, parent_id } => {
                let session = match find(&session, &id) {
                    Some(known) if known.role != Role::User || known.content != content => {
                        return Err(AppError::new(
                            ErrorCode::Conflict,
                            "message.id: another message of this session has this id already. Send yours under a new one.",
                        ));
                    }
                    Some(known) => match self.answered(&session, known) {
                        Some(events) => return Ok(events),
                        None => session,
                    },
                    None => self.save_said(session, &id, content, parent_id, request.modes).await?,
                };
                let message_id = Uuid::new_v4().simple().to_string();
                let order = Order {
                    session,
                    parent_id: id.clone(),
                    asked_by: Some(id),
                    message_id,
                    modes: request.modes,
                    model,
                };
                self.begin(order).await
            }
            Asked::Again { parent_id, message_id } => {
                if !find(&session, &parent_id).is_some_and(|parent| parent.role == Role::User) {
                    return Err(AppError::invalid(
                        "message.parent_id: this session has no message of yours with this id.",
                    ));
                }
                if let Some(events) = self.answered_again(&session, &parent_id, message_id.as_deref())? {
                    return Ok(events);
                }
                self.refuse_second(&session.session_id, |running| running.parent_id == parent_id)?;
                let message_id = message_id.unwrap_or_else(|| Uuid::new_v4().simple().to_string());
                let order = Order { session, parent_id, asked_by: None, message_id, modes: request.modes, model };
                self.begin(order).await
            }
        }
    }

    /// The reply to a message that was said before, if there is one: the running or remembered one, else the newest kept one.
    fn answered(&self, session: &Session, said: &Message) -> Option<ReplyStream> {
        let registry = self.registry();
        let of_session = || registry.replies.values().filter(|reply| reply.session_id == session.session_id);
        let asked = of_session()
            .filter(|reply| reply.asked_by.as_deref() == Some(said.id.as_str()))
            .max_by_key(|reply| reply.started_at);
        if let Some(reply) = asked {
            return Some(reply.listen(0));
        }
        let kept =
            session.messages.iter().rev().find(|message| {
                message.role == Role::Assistant && message.parent_id.as_deref() == Some(said.id.as_str())
            });
        if let Some(kept) = kept {
            return Some(replay(session, kept));
        }
        registry.running_in(&session.session_id).find(|reply| reply.parent_id == said.id).map(|reply| reply.listen(0))
    }

    /// The reply with this id that was asked for before, if there is one.
    fn answered_again(
        &self,
        session: &Session,
        parent_id: &str,
        message_id: Option<&str>,
    ) -> Result<Option<ReplyStream>, AppError> {
        let Some(message_id) = message_id else { return Ok(None) };
        let registry = self.registry();
        let remembered = registry
            .replies
            .values()
            .find(|reply| reply.session_id == session.session_id && reply.message_id == message_id);
        if let Some(reply) = remembered.filter(|reply| reply.parent_id == parent_id) {
            return Ok(Some(reply.listen(0)));
        }
        match find(session, message_id) {
            Some(kept) if kept.role == Role::Assistant && kept.parent_id.as_deref() == Some(parent_id) => {
                Ok(Some(replay(session, kept)))
            }
            None if remembered.is_none() => Ok(None),
            _ => Err(AppError::new(
                ErrorCode::Conflict,
                "message.id: another message of this session has this id already. Ask again with a new one.",
            )),
        }
    }

    /// Puts what is said on the disk and returns the session with it.
    async fn save_said(
        &self,
        session: Arc<Session>,
        id: &str,
        content: String,
        parent_id: Option<Option<String>>,
        modes: Modes,
    ) -> Result<Arc<Session>, AppError> {
        let session_id = &session.session_id.clone();
        let leaf = session.active_path().last().map(|&position| session.messages[position].id.as_str());
        let follows = match &parent_id {
            None => leaf,
            Some(parent_id) => parent_id.as_deref(),
        };
        // Whoever does not wait for the reply would stand beside it in the conversation instead of after it.
        self.refuse_second(session_id, |running| {
            Some(running.parent_id.as_str()) == follows || Some(running.message_id.as_str()) == follows
        })?;
        if let Some(Some(parent_id)) = &parent_id
            && find(&session, parent_id).is_none()
        {
            return Err(AppError::invalid("message.parent_id: this session has no message with this id."));
        }
        let (metadata, parent_id) = match session.active_leaf() {
            // Said where it goes, because the leaf moves with the same save.
            Some(_) => (active_leaf(id), Some(follows.map(str::to_owned))),
            None => (Object::new(), parent_id),
        };
        let now = Utc::now();
        let message = MessageInput {
            id: Some(id.to_owned()),
            parent_id,
            role: Role::User,
            content: content.clone(),
            timestamp: Some(time::format(now)),
            metadata: Object::from_iter([("modes".to_owned(), json!(modes))]),
            parts: None,
            rev: 0,
            extra: Object::new(),
        };
        let save = Save {
            messages: vec![message],
            user_name: None,
            metadata,
            base_revision: None,
            running: self.running_messages(session_id),
            now,
        };
        // Held on, it would have to be copied for the one that is loaded.
        drop(session);
        self.store.save(session_id, save).await?;
        // A page may have saved another message under this id in between; then ours stands under another one.
        let session = self.store.load(session_id).await?;
        match find(&session, id) {
            Some(kept) if kept.role == Role::User && kept.content == content => Ok(session),
            _ => Err(AppError::new(
                ErrorCode::Conflict,
                "message.id: another message was saved under this id at the same time. Send yours under a new one.",
            )),
        }
    }

    /// Begins to generate.
    async fn begin(self: &Arc<Self>, order: Order) -> Result<ReplyStream, AppError> {
        let ready = self.assistant.status().await.map_err(unreachable)?;
        let session_model =
            order.session.metadata.get("model").and_then(Value::as_str).filter(|model| !model.is_empty());
        let wanted_model = order.model.clone().or_else(|| session_model.map(str::to_owned));
        let model =
            wanted_model.as_deref().map_or_else(|| ready.model.clone(), |name| one_line(name, MODEL_CHARACTERS));
        let window_tokens = ready.context_tokens.unwrap_or(self.options.default_window_tokens);
        let system_prompt = system_prompt(&order.session, &model);
        let path = path_to(&order.session, &order.parent_id);
        let left_out = context::build(&system_prompt, &path.iter().collect::<Vec<_>>(), window_tokens).left_out;

        let reply_id = Uuid::new_v4().simple().to_string();
        let mut metadata = Object::new();
        metadata.insert("modes".to_owned(), json!(order.modes));
        metadata.insert("model".to_owned(), json!(model));
        metadata.insert("reply_id".to_owned(), json!(reply_id));
        if left_out > 0 {
            metadata.insert("left_out".to_owned(), json!(left_out));
        }
        let message = Message {
            id: order.message_id.clone(),
            parent_id: Some(order.parent_id.clone()),
            role: Role::Assistant,
            content: String::new(),
            timestamp: time::format(Utc::now()),
            metadata,
            parts: None,
            rev: 0,
            extra: Object::new(),
        };
        let session_id = order.session.session_id.clone();
        let reply = Arc::new(Reply::new(
            reply_id.clone(),
            session_id.clone(),
            order.message_id,
            order.parent_id,
            order.asked_by,
        ));
        reply.push(|_| ReplyEvent::Started {
            reply_id: reply_id.clone(),
            message_id: reply.message_id.clone(),
            parent_id: Some(reply.parent_id.clone()),
            model,
            left_out,
        });
        {
            let mut registry = self.registry();
            registry.prune(&self.options);
            if registry.closing {
                return Err(AppError::new(
                    ErrorCode::AssistantUnreachable,
                    "The server is being stopped. Your message is saved; ask again when it is back.",
                ));
            }
            if registry.running().count() >= self.options.max_running {
                return Err(AppError::new(
                    ErrorCode::TooManyRequests,
                    "Too many replies are being generated now. Your message is saved; ask again in a moment.",
                ));
            }
            registry.replies.insert(reply_id.clone(), reply.clone());
        }
        // Only now that a reply comes: whoever asks for it once more looks at that branch from here on.
        if reply.asked_by.is_none() && order.session.active_leaf().is_some_and(|leaf| leaf != reply.parent_id) {
            let moved = self.store.save(&session_id, self.leaf_at(&session_id, &reply.parent_id)).await;
            moved
                .map(drop)
                .unwrap_or_else(|error| tracing::warn!(%session_id, %error, "the active leaf could not be moved"));
        }
        let generation = Generation {
            replies: self.clone(),
            reply: reply.clone(),
            head: ReplyHead { reply_id, session_id, message },
            system_prompt,
            path,
            window_tokens,
            modes: order.modes,
            model: wanted_model,
        };
        tokio::spawn(generation.run());
        Ok(reply.listen(0))
    }

    /// Refuses with 409 where a running reply stands in the way.
    fn refuse_second(&self, session_id: &SessionId, in_the_way: impl Fn(&Reply) -> bool) -> Result<(), AppError> {
        let registry = self.registry();
        let Some(running) = registry.running_in(session_id).find(|reply| in_the_way(reply)) else { return Ok(()) };
        let mut error = AppError::new(
            ErrorCode::ReplyRunning,
            "A reply is being generated here already. Wait for its end, or stop it, and send again.",
        );
        error.reply_id = Some(running.reply_id.clone());
        Err(error)
    }

    /// Moves the active leaf, where the session names one, from the answered message on to its reply. Returns what was saved.
    async fn follow(&self, session_id: &SessionId, parent_id: Option<&str>, message_id: &str) -> Option<Saved> {
        let session = self.store.load(session_id).await.ok()?;
        if session.active_leaf().is_none() || session.active_leaf() != parent_id {
            return None;
        }
        let saved = self.store.save(session_id, self.leaf_at(session_id, message_id)).await;
        saved.inspect_err(|error| tracing::warn!(%session_id, %error, "the active leaf could not be moved")).ok()
    }

    /// A save that moves the active leaf and nothing else.
    fn leaf_at(&self, session_id: &SessionId, message_id: &str) -> Save {
        Save {
            messages: Vec::new(),
            user_name: None,
            metadata: active_leaf(message_id),
            base_revision: None,
            running: self.running_messages(session_id),
            now: Utc::now(),
        }
    }

    /// Remembers for a while that a reply is finished.
    fn finished(&self, reply: &Reply) {
        let mut registry = self.registry();
        let bytes = reply.bytes();
        registry.finished.push_back((reply.reply_id.clone(), Instant::now(), bytes));
        registry.finished_bytes += bytes;
        registry.prune(&self.options);
    }

    fn known(&self, reply_id: &str) -> Result<Arc<Reply>, AppError> {
        let mut registry = self.registry();
        registry.prune(&self.options);
        registry.replies.get(reply_id).cloned().ok_or_else(|| {
            AppError::new(
                ErrorCode::NotFound,
                "There is no such reply any more. If it was completed, it stands in its session: load that.",
            )
        })
    }

    /// Waits until these replies are over, but not for ever.
    async fn ended(&self, replies: &[Arc<Reply>]) {
        let all = future::join_all(replies.iter().map(|reply| reply.ended()));
        if tokio::time::timeout(self.options.shutdown_patience, all).await.is_err() {
            tracing::warn!("a stopped reply could not be saved in time; it is tried further");
        }
    }

    /// Waits for the starts before this one in the same session.
    async fn turn_to_start(&self, session_id: &SessionId) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody holds or waits for are not needed.
            starting.retain(|_, lock| Arc::strong_count(lock) > 1);
            starting.entry(session_id.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // What it holds is right after each statement, also where a thread panicked in between.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn find<'a>(session: &'a Session, id: &str) -> Option<&'a Message> {
    session.messages.iter().find(|message| message.id == id)
}

/// The messages from the root to the one with this id.
fn path_to(session: &Session, id: &str) -> Vec<Message> {
    let path = tree::active_path(&session.messages, Some(id));
    path.into_iter().map(|position| session.messages[position].clone()).collect()
}

fn active_leaf(message_id: &str) -> Object {
    Object::from_iter([("active_leaf".to_owned(), json!(message_id))])
}

/// The events of a reply that stands in its session.
fn replay(session: &Session, message: &Message) -> ReplyStream {
    let text = |field: &str| message.metadata.get(field).and_then(Value::as_str).map(str::to_owned);
    let left_out = message.metadata.get("left_out").and_then(Value::as_u64).unwrap_or_default();
    let started = ReplyEvent::Started {
        reply_id: text("reply_id").unwrap_or_else(|| message.id.clone()),
        message_id: message.id.clone(),
        parent_id: message.parent_id.clone(),
        model: text("model").unwrap_or_default(),
        left_out: usize::try_from(left_out).unwrap_or_default(),
    };
    let done = ReplyEvent::Done {
        seq: 1,
        message: Box::new(message.clone()),
        revision: session.revision,
        usage: message.metadata.get("usage").cloned(),
    };
    stream::iter([started, done]).boxed()
}

fn unreachable(error: AssistantError) -> AppError {
    tracing::warn!(%error, "no assistant can be reached");
    AppError::new(ErrorCode::AssistantUnreachable, error.message)
}

/// What the assistant is told about itself: the session's own words, else ours.
fn system_prompt(session: &Session, model: &str) -> String {
    let own = session.metadata.get("system_prompt").and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    own.map_or_else(|| usual_instructions(model), str::to_owned)
}

/// Short, because a small model reads it at 10 ms a token, and in words that one follows: of 54 answers of Qwen2.5-Coder 0.5B one
/// claimed another maker, as up to a third did with other words.
fn usual_instructions(model: &str) -> String {
    format!(
        "You are a helpful assistant inside Verbatim, a program on the user's computer that keeps every conversation word for \
         word. Your name is {model}, and you are not the assistant of any other product. Talk with the user in their language, \
         honestly and to the point. Say so when you do not know something. You have no tools: you cannot open pages, run \
         programs or look anything up."
    )
}
