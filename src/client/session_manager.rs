//! The session in hand: its turns as signals, the reply that streams in, and the saving of what is not on the server's disk.
//!
//! It lives as long as the page is open, above the routes, so that going from Chat to Sessions and back loses nothing. A change
//! of one message notifies that message only; what the list of turns notifies is a change of its shape.
//!
//! - `saving`: what is not saved yet, and its saving; `reply`: the reply that streams in; `left_behind`: turns that an earlier page
//!   could not save.

mod left_behind;
mod reply;
mod saving;

use super::drafts::Drafts;
use super::journal;
use super::queue::{Hold, Queue, Queued};
use super::reply_stream::{self, ReplyRequest};
use super::save_state::SaveState;
use super::turns::{self, Beginning, PART_TURNS, Row, Turn};
use crate::api;
use crate::api::assistant::AssistantStatus;
use crate::api::sessions::Loaded;
use crate::browser;
use crate::error::{AppError, ErrorCode};
use crate::model::message::{Message, MessageInput, Modes, Role};
use crate::model::reply::{Phase, ReplyEvent};
use crate::model::session::{Kind, SessionId, first_characters};
use crate::model::{Object, merge_patch, time};
use chrono::Utc;
use left_behind::move_to;
use leptos::prelude::*;
use leptos::task::spawn_local;
use saving::Changes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};

pub use left_behind::left_to_start;

/// Seconds between two automatic saves where the page does not say otherwise.
const AUTOSAVE_SECONDS: u32 = 5;

/// Seconds between two questions for an assistant while none can be reached.
const ASSISTANT_SECONDS: u32 = 10;

/// Seconds between two looks whether the server is there, and how long one waits for it, in milliseconds: together less than the
/// time in which a person is to learn that it is not.
const LOOK_SECONDS: u32 = 3;
const LOOK_PATIENCE_MS: u32 = 6_000;

/// How many characters of the first message stand for a missing title.
const TITLE_CHARACTERS: usize = 80;

/// A reply that has been asked for and is not complete.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveReply {
    /// Its name; `None` until the server began it.
    pub reply_id: Option<String>,
    /// The message that it becomes.
    pub message_id: Option<String>,
    /// What it waits for, and how much of that is done.
    pub phase: Option<(Phase, Option<f64>)>,
    /// Whether the connection broke and is being made again.
    pub reconnecting: bool,
    /// Whether it is to be stopped as soon as it began.
    pub stopping: bool,
}

/// Something to say below the conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// What happened and what to do.
    pub text: String,
    /// What a click can do about it.
    pub remedy: Option<Remedy>,
}

/// What a click on a notice does.
#[derive(Clone, Debug, PartialEq)]
pub enum Remedy {
    /// Asks again for a reply to this message.
    TryAgain(String),
    /// Takes the session out of the trash.
    Restore,
}

/// Whether earlier turns are being loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Earlier {
    /// Not now.
    #[default]
    Idle,
    /// They are on their way.
    Loading,
    /// They could not be loaded, for this reason; they are asked for again when the person wants it.
    Failed(String),
}

/// Where the shown conversation ended before a turn of it was hidden, and where it ends since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedLeaf {
    before: String,
    after: String,
}

/// What the tabs tell each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tidings {
    session_id: SessionId,
}

/// For whom a reply is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Errand {
    visit: u64,
    ended_waits: u64,
}

/// What nobody needs to be notified of.
#[derive(Default)]
struct Inner {
    /// Counts the conversations that were opened, so that work for an earlier one knows that it is late.
    visit: u64,
    /// Counts the waits for the server that the person ended.
    ended_waits: u64,
    /// Sessions for which trying again to save what an earlier page left does not help.
    refused: Vec<SessionId>,
    /// Changes that could not be saved while their session was in hand.
    left: HashMap<SessionId, Changes>,
    /// The session's revision, if all that was written up to it is known here: what was loaded, and writes of ours since.
    revision: Option<u64>,
    /// Ids of turns that are not known to be on the server's disk.
    dirty: Vec<String>,
    /// Ids of turns that the server refuses as too large, and of those that follow them.
    too_large: HashSet<String>,
    /// Ids of turns that began here and that nothing that was loaded has held yet.
    own: Vec<String>,
    /// How many turns come before the first one on the page.
    first_needed: usize,
    /// Changes of metadata that are not saved.
    changes: Changes,
    saving: bool,
    stop_wanted: bool,
    /// Events that wait for the next animation frame.
    events: VecDeque<ReplyEvent>,
    frame_asked: bool,
    /// When what comes next may be shown, in milliseconds since 1970.
    free_at: f64,
}

/// The session in hand. A handle: copies are the same session.
#[derive(Clone, Copy)]
pub struct SessionManager {
    /// Its id; `None` until it is started at its first message.
    pub session_id: RwSignal<Option<SessionId>>,
    /// Its metadata.
    pub metadata: RwSignal<Object>,
    /// The reply that is being generated.
    pub live: RwSignal<Option<LiveReply>>,
    /// What the header says.
    pub save_state: RwSignal<SaveState>,
    /// What is said below the conversation.
    pub notice: RwSignal<Option<Notice>>,
    /// What the assistant may do in the next turn.
    pub modes: RwSignal<Modes>,
    /// Which assistant answers; `None` until it has been asked.
    pub assistant: RwSignal<Option<AssistantStatus>>,
    /// Counts, for each session, the changes that were heard of.
    pub changes: RwSignal<HashMap<SessionId, u64>>,
    /// Counts the conversations that were opened.
    pub visits: RwSignal<u64>,
    /// Whether turns before those that are held are being loaded.
    pub earlier: RwSignal<Earlier>,
    /// What is typed and not sent.
    pub drafts: Drafts,
    /// What waits to be sent.
    pub queue: Queue,
    /// Whether the server does not answer, as far as this page has looked.
    pub is_away: RwSignal<bool>,
    is_looking: StoredValue<bool>,
    turns: RwSignal<Vec<Turn>>,
    beginning: RwSignal<Beginning>,
    leaf: RwSignal<Option<String>>,
    inner: StoredValue<Inner>,
}

impl Default for SessionManager {
    fn default() -> Self {
        Self::new()
    }
}

impl SessionManager {
    /// An empty conversation that is not started.
    pub fn new() -> Self {
        Self {
            session_id: RwSignal::new(None),
            metadata: RwSignal::new(Object::new()),
            live: RwSignal::new(None),
            save_state: RwSignal::new(SaveState::Nothing),
            notice: RwSignal::new(None),
            modes: RwSignal::new(Modes::default()),
            assistant: RwSignal::new(None),
            changes: RwSignal::new(HashMap::new()),
            visits: RwSignal::new(0),
            earlier: RwSignal::new(Earlier::Idle),
            drafts: Drafts::default(),
            queue: Queue::default(),
            is_away: RwSignal::new(false),
            is_looking: StoredValue::new(false),
            turns: RwSignal::new(Vec::new()),
            beginning: RwSignal::new(Beginning::default()),
            leaf: RwSignal::new(None),
            inner: StoredValue::new(Inner::default()),
        }
    }

    /// Begins the automatic save and listens to the browser; to be called once, in the browser.
    pub fn run(self) {
        self.modes.set(journal::modes());
        let seconds = browser::meta("verbatim-autosave-seconds").and_then(|text| text.parse().ok());
        let seconds: u32 = seconds.filter(|&seconds| seconds > 0).unwrap_or(AUTOSAVE_SECONDS);
        browser::every(seconds.saturating_mul(1_000), move || {
            // What trying again does not help waits for the person.
            if *self.save_state.read_untracked() != SaveState::Failed {
                spawn_local(async move { self.save().await });
            }
            spawn_local(async move { self.save_all_left_behind().await });
        });
        browser::on_window("online", move || {
            self.go_on();
            self.look_for_server();
        });
        browser::on_window("offline", move || self.look_for_server());
        browser::every(LOOK_SECONDS * 1_000, move || self.look_for_server());
        spawn_local(async move { self.save_all_left_behind().await });
        browser::on_window("pagehide", move || self.flush_on_exit());
        browser::on_document("visibilitychange", move || {
            if browser::is_hidden() {
                self.flush_on_exit();
            } else {
                self.apply_waiting();
                self.catch_up();
                self.ask_assistant_if_away();
                self.look_for_server();
            }
        });
        browser::on_window("focus", move || self.ask_assistant_if_away());
        browser::every(ASSISTANT_SECONDS * 1_000, move || self.ask_assistant_if_away());
        self.ask_assistant_if_away();
        browser::listen_to_tabs(move |text| {
            let Ok(tidings) = serde_json::from_str::<Tidings>(&text) else { return };
            if self.session_id.get_untracked().as_ref() == Some(&tidings.session_id) {
                self.catch_up();
            }
            self.count_change(tidings.session_id);
        });
        Effect::new(move |_| {
            if self.visits.get() > 0 {
                self.take_up_work();
                self.queue.open(self.session_id.get_untracked(), move |id| self.holds(id));
            }
        });
        Effect::new(move |_| {
            self.live.track();
            self.notice.track();
            self.turns.track();
            if !self.queue.is_empty() && self.live.read_untracked().is_none() && untrack(|| self.hold()).is_none() {
                self.send_queued();
            }
        });
    }

    /// Takes up what could not be done while the server was away.
    fn go_on(self) {
        if matches!(*self.earlier.read_untracked(), Earlier::Failed(_)) {
            self.load_earlier();
        }
        spawn_local(async move {
            self.save().await;
            self.save_all_left_behind().await;
        });
    }

    /// Looks whether the server is there, while the page is seen.
    fn look_for_server(self) {
        if browser::is_hidden() || self.is_looking.try_update_value(|is| std::mem::replace(is, true)) != Some(false) {
            return;
        }
        spawn_local(async move {
            let is_there = browser::is_server_there(LOOK_PATIENCE_MS).await;
            let _ = self.is_looking.try_set_value(false);
            self.note_server(is_there);
        });
    }

    /// Notes whether the server answers.
    pub fn note_server(self, is_there: bool) {
        if self.is_away.try_get_untracked() != Some(is_there) {
            return;
        }
        self.is_away.set(!is_there);
        if is_there {
            self.go_on();
            self.catch_up();
            self.ask_assistant_if_away();
        }
    }

    /// Takes a session in hand.
    pub fn open(&self, loaded: Loaded) {
        self.clear();
        journal::release();
        let left = self.inner.try_update_value(|inner| inner.left.remove(&loaded.session.session_id)).flatten();
        let left = left.unwrap_or_default();
        let is_loaded = |id: &&str| {
            let mut of_loaded = loaded.session.messages.iter().chain(&loaded.session.branches);
            of_loaded.any(|exported| exported.message.id == *id)
        };
        let switched_to = left.patch.get("active_leaf").and_then(Value::as_str).filter(is_loaded);
        let leaf = switched_to.or(loaded.session.leaf()).map(str::to_owned);
        let saved_at = time::later_of(&loaded.session.last_updated, loaded.session.metadata_updated.as_deref());
        let saved_at = time::parse(saved_at).map_or(0.0, |at| at.timestamp_millis() as f64);
        self.inner.update_value(|inner| inner.revision = Some(loaded.revision));
        let mut metadata = loaded.session.metadata.clone();
        merge_patch(&mut metadata, &left.patch);
        self.metadata.set(metadata);
        self.save_state.set(SaveState::Saved(saved_at));
        self.live.set(loaded.running.as_ref().map(|running| LiveReply {
            reply_id: Some(running.reply_id.clone()),
            message_id: Some(running.message_id.clone()),
            ..LiveReply::default()
        }));
        self.session_id.set(Some(loaded.session.session_id.clone()));
        self.leaf.set(leaf);
        let beginning = Beginning::of(&loaded);
        self.inner.update_value(|inner| inner.first_needed = beginning.earlier);
        self.beginning.set(beginning);
        let messages = loaded.session.into_messages().into_iter().map(|message| left.made_to(message));
        self.turns.set(messages.map(Turn::new).collect());
        if !left.is_empty() {
            self.inner.update_value(|inner| inner.changes = left);
            self.save_soon();
        }
        self.visits.update(|count| *count += 1);
    }

    /// Takes an empty conversation in hand; it is started at its first message.
    pub fn open_new(&self) {
        self.clear();
        self.session_id.set(None);
        self.metadata.set(Object::new());
        self.live.set(None);
        self.save_state.set(SaveState::Nothing);
        self.leaf.set(None);
        self.beginning.set(Beginning::default());
        self.turns.set(Vec::new());
        self.visits.update(|count| *count += 1);
    }

    /// Whether nothing was said yet.
    pub fn is_empty(&self) -> bool {
        self.turns.read().is_empty()
    }

    /// The shown conversation, as far as it is held: [`Self::earlier_turns`] come before.
    pub fn rows(&self) -> Vec<Row> {
        let (turns, leaf, beginning) = (self.turns.read(), self.leaf.read(), self.beginning.read());
        turns::rows(&turns, leaf.as_deref(), beginning.above.as_deref())
    }

    /// The hidden turns of the shown conversation, each with the shown turn that it stands before; see [`turns::hidden`].
    pub fn hidden_turns(&self) -> HashMap<Option<String>, Vec<String>> {
        let (turns, leaf, beginning) = (self.turns.read(), self.leaf.read(), self.beginning.read());
        turns::hidden(&turns, leaf.as_deref(), beginning.above.as_deref())
    }

    /// How many turns are shown before those that are held.
    pub fn earlier_turns(&self) -> usize {
        self.beginning.read().earlier
    }

    /// Whether a turn is held.
    pub fn holds(&self, id: &str) -> bool {
        self.turn(id).is_some()
    }

    /// Notes how many turns come before the first one on the page: from there on the turns stay held.
    pub fn need_from(&self, place: usize) {
        self.inner.update_value(|inner| inner.first_needed = place);
    }

    /// Loads turns before those that are held, unless that is being done.
    pub fn load_earlier(self) {
        let first = self.beginning.with_untracked(|beginning| beginning.first.clone());
        let (Some(session_id), Some(first)) = (self.session_id.get_untracked(), first) else { return };
        if *self.earlier.read_untracked() == Earlier::Loading {
            return;
        }
        self.earlier.set(Earlier::Loading);
        let visit = self.visit();
        spawn_local(async move {
            let part = api::sessions::load(session_id, Some(PART_TURNS), Some(first.clone())).await;
            if self.visit() != visit {
                return;
            }
            self.earlier.set(match part {
                // Meanwhile the session may have been loaded anew, from another turn on.
                Ok(part) if self.beginning.with_untracked(|beginning| beginning.first.as_ref() == Some(&first)) => {
                    let beginning = Beginning::of(&part);
                    self.turns.update(|turns| turns::prepend(turns, part.session.into_messages()));
                    self.beginning.set(beginning);
                    Earlier::Idle
                }
                Ok(_) => Earlier::Idle,
                // Another program wrote the file anew, without the turn that is asked about.
                Err(error) if error.code == ErrorCode::InvalidRequest => {
                    self.inner.update_value(|inner| inner.revision = None);
                    self.catch_up();
                    Earlier::Idle
                }
                Err(error) => {
                    if error.code == ErrorCode::SessionDeleted {
                        self.say_deleted();
                    }
                    // Unlike what is to be saved, this is not tried again all the time.
                    let is_away = error.code == ErrorCode::ServerUnreachable;
                    Earlier::Failed(if is_away { "The server cannot be reached.".to_owned() } else { error.message })
                }
            });
        });
    }

    /// What stands above the conversation: its title, else the beginning of its first message.
    pub fn title(&self) -> String {
        let title = self.metadata.with(|metadata| {
            metadata.get("title").and_then(Value::as_str).filter(|title| !title.trim().is_empty()).map(str::to_owned)
        });
        // What was said first may not be held.
        let preview = self.beginning.with(|beginning| {
            Some(title_of(&beginning.preview)).filter(|preview| beginning.earlier > 0 && !preview.is_empty())
        });
        title.or(preview).unwrap_or_else(|| {
            self.turns.with(|turns| {
                turns
                    .iter()
                    .map(|turn| turn.message.read_untracked())
                    .find(|message| message.role == Role::User && !message.is_hidden())
                    .map(|message| title_of(&message.content))
                    .unwrap_or_else(|| "New conversation".to_owned())
            })
        })
    }

    /// Says something: shows it at once, keeps it in the browser, sends it, and follows the reply. While a reply is coming it waits.
    pub fn send(self, content: String) {
        let queued = Queued {
            id: uuid::Uuid::new_v4().simple().to_string(),
            content,
            modes: self.modes.get_untracked(),
            queued_at: time::format(Utc::now()),
            visit: browser::visit_name(),
        };
        let goes_soon = untrack(|| !self.queue.is_empty() && self.hold().is_none());
        if self.is_live() || goes_soon {
            self.queue.push(queued);
        } else {
            self.say(queued);
        }
    }

    /// Sends the first of what waits, also where it would not go by itself.
    pub fn send_queued(self) {
        if self.is_live() {
            return;
        }
        let Some(first) = untrack(|| self.queue.first()) else { return };
        self.notice.set(None);
        self.say(first.clone());
        // It is kept as an unsaved turn by now; a page that is left in between finds it there by its id.
        self.queue.take(&first.id);
    }

    /// Why what waits is not sent by itself once no reply is coming.
    pub fn hold(&self) -> Option<Hold> {
        let first = self.queue.first()?;
        if first.visit != browser::visit_name() {
            return Some(Hold::Earlier);
        }
        let is_unsaved = self.inner.with_value(|inner| !inner.dirty.is_empty());
        // After a reply that broke off it is not known how the conversation ends until it is loaded anew.
        let is_unknown = self.session_id.read().is_some() && self.inner.with_value(|inner| inner.revision.is_none());
        if self.notice.read().is_some()
            || is_unsaved
            || is_unknown
            || !journal::unsaved(self.session_id.read().as_ref()).is_empty()
        {
            return Some(Hold::Trouble);
        }
        Hold::after(self.rows().last().map(|row| row.turn.message.read()).as_deref())
    }

    fn say(self, queued: Queued) {
        let Queued { id, content, modes, .. } = queued;
        let message = Message {
            id,
            parent_id: self.last_shown_id(),
            role: Role::User,
            content,
            timestamp: time::format(Utc::now()),
            metadata: object(json!({"modes": modes})),
            parts: None,
            rev: 0,
            extra: Object::new(),
        };
        let id = message.id.clone();
        self.add_unsaved(message);
        self.answer(id);
    }

    /// Asks for another reply to the message `parent_id`, or sends it again when it is not saved yet.
    pub fn try_again(self, parent_id: String) {
        if self.live.read_untracked().is_some() {
            return;
        }
        self.notice.set(None);
        if self.inner.with_value(|inner| inner.dirty.contains(&parent_id)) {
            return self.answer(parent_id);
        }
        self.inner.update_value(|inner| inner.stop_wanted = false);
        let Some(session_id) = self.session_id.get_untracked() else { return };
        self.follow(ReplyRequest::Again {
            session_id,
            id: uuid::Uuid::new_v4().simple().to_string(),
            parent_id,
            modes: self.modes.get_untracked(),
        });
    }

    /// Stops the reply; what was generated is kept.
    pub fn stop(self) {
        let Some(live) = self.live.get_untracked() else { return };
        let Some(reply_id) = live.reply_id else {
            if live.reconnecting {
                // What was said stays unsaved and is saved as soon as that is possible; nobody waits for a reply.
                self.inner.update_value(|inner| {
                    inner.ended_waits += 1;
                    inner.stop_wanted = false;
                });
                browser::abort_stream();
                self.live.set(None);
            } else {
                self.inner.update_value(|inner| inner.stop_wanted = true);
                self.live.set(Some(LiveReply { stopping: true, ..live }));
            }
            return;
        };
        spawn_local(async move {
            if let Err(error) = reply_stream::stop(&reply_id).await
                && error.code != ErrorCode::NotFound
            {
                self.notice.set(Some(Notice { text: error.message, remedy: None }));
            }
        });
    }

    /// Shows another version of a turn, and what followed it.
    pub fn switch_to(self, id: &str) {
        let leaf = {
            let (turns, beginning) = (self.turns.read_untracked(), self.beginning.read_untracked());
            turns::newest_leaf(&turns, beginning.above.as_deref(), id)
        };
        let Some(leaf) = leaf else { return };
        self.move_leaf(leaf);
        self.save_soon();
    }

    /// Changes the metadata of a turn; `null` removes the field.
    pub fn change_turn(self, id: &str, key: &str, value: Value) {
        let Some(turn) = self.turn(id) else { return };
        let change = Object::from_iter([(key.to_owned(), value)]);
        turn.message.update(|message| {
            merge_patch(&mut message.metadata, &change);
        });
        // Which turns are shown depends on what is hidden.
        self.turns.notify();
        let message = turn.message.get_untracked();
        self.inner.update_value(|inner| {
            let input = || MessageInput { metadata: Object::new(), parts: None, ..MessageInput::from(message) };
            inner.changes.touched.entry(id.to_owned()).or_insert_with(input).metadata.extend(change);
        });
        self.save_soon();
    }

    /// Takes a turn out of the conversation. Where it was the last one and has another version, that is shown in its place:
    /// from a hidden turn there is no way to its versions.
    pub fn hide_turn(self, id: &str) -> Option<MovedLeaf> {
        let leaf = self.leaf.get_untracked();
        let other = {
            let (turns, beginning) = (self.turns.read_untracked(), self.beginning.read_untracked());
            turns::leaf_without(&turns, leaf.as_deref(), beginning.above.as_deref(), id)
        };
        let moved = other.filter(|_| !self.is_live()).map(|after| {
            self.move_leaf(after.clone());
            MovedLeaf { before: leaf.unwrap_or_else(|| id.to_owned()), after }
        });
        self.change_turn(id, "hidden", true.into());
        moved
    }

    /// Undoes [`Self::hide_turn`], which answered `moved`.
    pub fn show_turn(self, id: &str, moved: Option<&MovedLeaf>) {
        let leaf = self.leaf.get_untracked();
        // Where the conversation went on meanwhile, it stays there.
        if let Some(moved) = moved.filter(|moved| leaf.as_ref() == Some(&moved.after)) {
            self.move_leaf(moved.before.clone());
        }
        self.change_turn(id, "hidden", Value::Null);
    }

    /// Brings hidden turns back into the conversation, and shows the way to them.
    pub fn show_turns(self, ids: &[String]) {
        for id in ids {
            self.change_turn(id, "hidden", Value::Null);
        }
        let shown: HashSet<String> = untrack(|| self.rows()).into_iter().map(|row| row.turn.id).collect();
        if let Some(other) = ids.iter().rev().find(|id| !shown.contains(*id)).filter(|_| !self.is_live()) {
            self.switch_to(other);
        }
    }

    /// Chooses what the assistant may do in the next turn.
    pub fn set_modes(&self, modes: Modes) {
        self.modes.set(modes);
        journal::set_modes(modes);
    }

    /// Does what a notice offers.
    pub fn remedy(self, remedy: Remedy) {
        self.notice.set(None);
        match remedy {
            Remedy::TryAgain(parent_id) => self.try_again(parent_id),
            Remedy::Restore => spawn_local(async move {
                let Some(session_id) = self.session_id.get_untracked() else { return };
                match api::sessions::restore(session_id).await {
                    Ok(_) => {
                        self.tell_of_change();
                        self.save().await;
                        self.catch_up();
                        self.take_up_work();
                    }
                    Err(error) => self.notice.set(Some(Notice { text: error.message, remedy: Some(Remedy::Restore) })),
                }
            }),
        }
    }

    /// Loads what others have added since, if anything.
    pub fn catch_up(self) {
        let Some(session_id) = self.session_id.get_untracked() else { return };
        let visit = self.visit();
        spawn_local(async move {
            // One message tells the revision; more is asked for only when it is another one.
            let known = self.inner.with_value(|inner| inner.revision);
            let loaded = match api::sessions::load(session_id.clone(), Some(1), None).await {
                Ok(part) if Some(part.revision) == known && (part.running.is_none() || self.is_live()) => return,
                Ok(part) => self.load_needed(session_id, part.total.unwrap_or(0)).await,
                Err(error) => Err(error),
            };
            if self.visit() != visit {
                return;
            }
            match loaded {
                Ok(loaded) => self.merge(loaded),
                Err(error) if error.code == ErrorCode::SessionDeleted => self.say_deleted(),
                // A server that is away is spoken of when there is something to save.
                Err(_) => {}
            }
        });
    }

    /// Loads the session from the first turn on that is on the page, out of `total` turns, so that nothing vanishes there.
    async fn load_needed(self, session_id: SessionId, total: usize) -> Result<Loaded, AppError> {
        let first_needed = move || self.inner.try_with_value(|inner| inner.first_needed).unwrap_or(0);
        let mut last = turns::part_from(first_needed(), total);
        loop {
            let loaded = api::sessions::load(session_id.clone(), Some(last), None).await?;
            let own = self.inner.try_with_value(|inner| inner.own.clone()).unwrap_or_default();
            if turns::hangs_outside(&self.messages_of(&own), &loaded) {
                // The others went on in another branch, above what is held.
                return api::sessions::load(session_id, None, None).await;
            }
            // Meanwhile others may have added turns, and the person may have gone on reading.
            match loaded.earlier.unwrap_or(0).saturating_sub(first_needed()) {
                0 => return Ok(loaded),
                missing => last += turns::part_from(0, missing),
            }
        }
    }

    fn visit(&self) -> u64 {
        self.inner.with_value(|inner| inner.visit)
    }

    /// What must stay the same for the work on a reply to go on.
    fn errand(&self) -> Errand {
        self.inner.with_value(|inner| Errand { visit: inner.visit, ended_waits: inner.ended_waits })
    }

    /// Whether a reply runs or something is not saved.
    pub fn is_at_work(&self) -> bool {
        self.is_live() || self.inner.with_value(|inner| !inner.dirty.is_empty())
    }

    fn is_live(&self) -> bool {
        self.live.read_untracked().is_some()
    }

    fn clear(self) {
        // Before anything changes that would let it go out, into the conversation that comes.
        self.queue.leave();
        let changes = self.changes_in_hand();
        let session_id = self.session_id.get_untracked().filter(|_| !changes.is_empty());
        let has_left = session_id.is_some();
        self.inner.update_value(|inner| {
            let (mut refused, mut left) = (std::mem::take(&mut inner.refused), std::mem::take(&mut inner.left));
            if let Some(session_id) = session_id {
                refused.retain(|refused| *refused != session_id);
                left.insert(session_id, changes);
            }
            *inner = Inner { visit: inner.visit + 1, refused, left, ..Inner::default() };
        });
        if has_left {
            spawn_local(async move { self.save_all_left_behind().await });
        }
        // The connection of a reply that is no longer shown is one of the few that a browser has.
        browser::abort_stream();
        self.notice.set(None);
        self.earlier.set(Earlier::Idle);
    }

    fn last_shown_id(&self) -> Option<String> {
        untrack(|| self.rows().pop().map(|row| row.turn.id))
    }

    fn turn(&self, id: &str) -> Option<Turn> {
        self.turns.with_untracked(|turns| turns.iter().rev().find(|turn| turn.id == id).cloned())
    }

    /// Lets the shown conversation end at another message; to be saved.
    fn move_leaf(&self, leaf: String) {
        self.leaf.set(Some(leaf.clone()));
        self.change_metadata("active_leaf", Value::String(leaf));
    }

    /// Adds a turn that begins here.
    fn begin_own(&self, message: Message) {
        self.inner.update_value(|inner| inner.own.push(message.id.clone()));
        self.turns.update(|turns| turns.push(Turn::new(message)));
    }

    fn say_deleted(&self) {
        let text =
            "This session was deleted elsewhere. It is in the trash; undo brings it back with what is shown here.";
        self.notice.set(Some(Notice { text: text.to_owned(), remedy: Some(Remedy::Restore) }));
    }

    fn tell_others(&self) {
        let Some(session_id) = self.session_id.get_untracked() else { return };
        tell_tabs_of(&session_id);
    }

    /// Says here and to the other tabs that the session in hand changed.
    fn tell_of_change(&self) {
        let Some(session_id) = self.session_id.get_untracked() else { return };
        self.changed(&session_id);
    }

    /// Says here and to the other tabs that a session changed, was deleted or came back.
    pub fn changed(&self, session_id: &SessionId) {
        self.count_change(session_id.clone());
        tell_tabs_of(session_id);
    }

    /// As [`Self::changed`], of a change that was made beside the Chat page: the session in hand takes it over.
    pub fn changed_beside_chat(self, session_id: &SessionId) {
        self.changed(session_id);
        if self.session_id.get_untracked().as_ref() == Some(session_id) {
            self.catch_up();
        }
    }

    fn count_change(&self, session_id: SessionId) {
        self.changes.update(|changes| *changes.entry(session_id).or_default() += 1);
    }

    /// Starts the session in hand. One that is no longer in hand when the server answers gets its turns all the same.
    async fn start(self) -> Result<SessionId, AppError> {
        let visit = self.visit();
        let turns = self.messages_of(&self.inner.with_value(|inner| inner.dirty.clone()));
        let metadata = object(json!({"type": Kind::Chat.as_str()}));
        let started = api::sessions::start(None, Some(metadata.clone()), None).await?.session_id;
        if self.visit() != visit {
            let is_in_hand = |turn: &Message| self.inner.with_value(|inner| inner.dirty.contains(&turn.id));
            let left: Vec<Message> =
                turns.into_iter().filter(|turn| journal::keeps(None, &turn.id) && !is_in_hand(turn)).collect();
            move_to(&started, &left);
            self.save_left_behind(&started).await?;
            return Ok(started);
        }
        if let Some(session_id) = self.session_id.get_untracked() {
            return Ok(session_id);
        }
        let dirty = self.inner.with_value(|inner| inner.dirty.clone());
        move_to(&started, &self.messages_of(&dirty));
        self.drafts.move_to(&started);
        self.queue.move_to(&started);
        self.metadata.set(metadata);
        // Nothing has been written to it yet.
        self.inner.update_value(|inner| inner.revision = Some(0));
        self.session_id.set(Some(started.clone()));
        Ok(started)
    }

    fn merge(self, loaded: Loaded) {
        // An answer that was overtaken by a later one tells nothing new.
        if self.inner.with_value(|inner| inner.revision.is_some_and(|known| loaded.revision < known)) {
            return;
        }
        let live = self.live.with_untracked(|live| live.as_ref().and_then(|live| live.message_id.clone()));
        let is_busy = self.is_live();
        let leaf = loaded.session.leaf().map(str::to_owned);
        let running = loaded.running.clone();
        let (saved, unsaved): (Vec<String>, Vec<String>) = self.inner.with_value(|inner| {
            let of_loaded = loaded.session.messages.iter().chain(&loaded.session.branches);
            let loaded_ids: HashSet<&str> = of_loaded.map(|exported| exported.message.id.as_str()).collect();
            inner.dirty.iter().cloned().partition(|id| loaded_ids.contains(id.as_str()))
        });
        self.inner.update_value(|inner| inner.revision = Some(loaded.revision));
        if !saved.is_empty() {
            self.mark_saved(&saved);
        }
        let changes = self.changes_in_hand();
        let beginning = Beginning::of(&loaded);
        let mut metadata = loaded.session.metadata.clone();
        merge_patch(&mut metadata, &changes.patch);
        self.metadata.set(metadata);
        let mut known: HashMap<String, ArcRwSignal<Message>> = self
            .turns
            .with_untracked(|turns| turns.iter().map(|turn| (turn.id.clone(), turn.message.clone())).collect());
        let mut turns: Vec<Turn> = Vec::new();
        for message in loaded.session.into_messages() {
            let message = changes.made_to(message);
            turns.push(match known.remove(&message.id) {
                Some(signal) => {
                    if live.as_ref() != Some(&message.id) && *signal.read_untracked() != message {
                        signal.set(message.clone());
                    }
                    Turn { id: message.id, message: signal }
                }
                None => Turn::new(message),
            });
        }
        // What only this page knows stays: the reply that streams in and what is not saved yet.
        let mut own = self.inner.with_value(|inner| inner.own.clone());
        own.retain(|id| known.contains_key(id));
        let rest = self
            .turns
            .with_untracked(|held| held.iter().filter(|turn| own.contains(&turn.id)).cloned().collect::<Vec<_>>());
        turns.extend(rest);
        self.inner.update_value(|inner| inner.own = own);
        self.beginning.set(beginning);
        self.turns.set(turns);
        if !is_busy && unsaved.is_empty() {
            // What was loaded does not know yet of a switch that is not saved.
            if !changes.patch.contains_key("active_leaf") {
                self.leaf.set(leaf);
            }
            if changes.is_empty() {
                self.save_state.set(SaveState::Saved(browser::now_ms()));
            }
        }
        if let (false, Some(running)) = (is_busy, running) {
            self.follow(ReplyRequest::Rest { reply_id: running.reply_id, after_seq: 0 });
        }
    }

    /// Asks which assistant answers, unless one is known that can.
    fn ask_assistant_if_away(self) {
        let can_answer = |status: &AssistantStatus| status.model.is_some() && status.waits_for.is_none();
        let is_there = self.assistant.with_untracked(|status| status.as_ref().is_some_and(can_answer));
        if is_there || browser::is_hidden() {
            return;
        }
        spawn_local(async move {
            match api::assistant::status().await {
                Ok(status) => self.assistant.set(Some(status)),
                Err(error) => self.assistant.set(Some(AssistantStatus::absent(error.message))),
            }
        });
    }
}

fn tell_tabs_of(session_id: &SessionId) {
    if let Ok(text) = serde_json::to_string(&Tidings { session_id: session_id.clone() }) {
        browser::tell_tabs(&text);
    }
}

/// The first line of a message, cut to fit a heading.
pub fn title_of(content: &str) -> String {
    let line = content.trim().lines().next().unwrap_or_default();
    let cut = first_characters(line, TITLE_CHARACTERS);
    if cut.len() < line.len() { format!("{}…", cut.trim_end()) } else { cut.to_owned() }
}

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        _ => Object::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::document::SessionDocument;
    use crate::model::session::Session;

    #[test]
    fn a_title_is_one_line_and_cut_on_a_character() {
        assert_eq!(title_of("  Hello\nthere"), "Hello");
        assert_eq!(title_of(&"é".repeat(100)), format!("{}…", "é".repeat(80)));
        assert_eq!(title_of(""), "");
    }

    #[test]
    fn what_is_loaded_leaves_a_switch_alone_that_is_not_saved_yet() {
        let owner = Owner::new();
        owner.with(|| {
            let loaded = |revision: u64, rating: Value| -> Loaded {
                let message = |id: &str, parent: Option<&str>, metadata: Value| -> Message {
                    serde_json::from_value(json!({"id":id,"parent_id":parent,"role":"user","content":id,
                        "timestamp":"2026-02-09T21:30:10Z","metadata":metadata}))
                    .unwrap()
                };
                let session = Session {
                    session_id: "s".parse().unwrap(),
                    user_name: "User".to_owned(),
                    started_at: "2026-02-09T21:30:10Z".to_owned(),
                    last_updated: "2026-02-09T21:30:10Z".to_owned(),
                    metadata_updated: None,
                    metadata: object(json!({"active_leaf":"c"})),
                    messages: vec![
                        message("a", None, json!({})),
                        message("b", Some("a"), json!({})),
                        message("c", Some("a"), rating),
                    ],
                    revision,
                    extra: Object::new(),
                };
                let session = SessionDocument::new(&session);
                Loaded { session, revision, running: None, total: None, earlier: None, preview: None }
            };
            let manager = SessionManager::new();
            manager.open(loaded(3, json!({})));
            let last = || manager.last_shown_id();
            assert_eq!(last().as_deref(), Some("c"));
            manager.move_leaf("b".to_owned());
            manager.merge(loaded(4, json!({"rating":1})));
            assert_eq!(last().as_deref(), Some("b"));
            assert_eq!(
                manager.turn("c").map(|turn| turn.message.get_untracked().metadata),
                Some(object(json!({"rating":1})))
            );
            manager.inner.update_value(|inner| inner.changes.patch.clear());
            manager.merge(loaded(5, json!({})));
            assert_eq!(last().as_deref(), Some("c"));
        });
    }

    #[test]
    fn rows_follow_the_leaf_and_know_their_versions() {
        let owner = Owner::new();
        owner.with(|| {
            let manager = SessionManager::new();
            let message = |id: &str, parent: Option<&str>, metadata: Value| -> Message {
                serde_json::from_value(json!({"id":id,"parent_id":parent,"role":"user","content":id,
                    "timestamp":"2026-02-09T21:30:10Z","metadata":metadata}))
                .unwrap()
            };
            manager.turns.set(
                [
                    message("a", None, json!({})),
                    message("b", Some("a"), json!({})),
                    message("c", Some("a"), json!({})),
                    message("h", Some("a"), json!({"hidden":true})),
                    message("d", Some("c"), json!({})),
                ]
                .map(Turn::new)
                .to_vec(),
            );
            let ids = || manager.rows().into_iter().map(|row| row.turn.id).collect::<Vec<_>>();
            assert_eq!(ids(), ["a", "c", "d"]);
            let rows = manager.rows();
            assert_eq!((rows[1].version, rows[1].versions.clone()), (1, vec!["b".to_owned(), "c".to_owned()]));
            manager.leaf.set(Some("b".into()));
            assert_eq!(ids(), ["a", "b"]);
            assert_eq!(manager.title(), "a");
            let preview = "Begun\nlong ago".to_owned();
            manager.beginning.set(Beginning { earlier: 7, preview, ..Beginning::default() });
            assert_eq!(manager.title(), "Begun", "the first message is not held");
        });
    }
}
