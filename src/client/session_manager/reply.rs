//! The reply that streams in: it is asked for, followed over broken connections, and written into its turn.

use super::{Errand, LiveReply, Notice, Remedy, SessionManager, object};
use crate::browser;
use crate::client::reply_stream::{ReplyRequest, ReplyStream, wait_ms};
use crate::client::save_state::{SaveState, Trouble};
use crate::client::turns::Turn;
use crate::error::{AppError, ErrorCode};
use crate::model::message::{Message, Role};
use crate::model::parts::joined_text;
use crate::model::reply::{self, ReplyEvent};
use crate::model::session::SessionId;
use crate::model::{Object, time};
use chrono::Utc;
use leptos::prelude::*;
use leptos::task::spawn_local;
use serde_json::json;

/// What three frames may take before the browser counts as slow, in milliseconds.
const FRAMES_MS: f64 = 100.0;

/// How many times as long as showing what came the browser then has for itself, and the longest, in milliseconds.
const REST: f64 = 2.0;
const LONGEST_REST_MS: f64 = 5_000.0;

impl SessionManager {
    /// Asks for the reply to a turn that is not known to be saved.
    pub(super) fn answer(self, id: String) {
        let errand = self.errand();
        self.live.set(Some(LiveReply::default()));
        self.notice.set(None);
        self.inner.update_value(|inner| inner.stop_wanted = false);
        if !self.save_state.read_untracked().is_trouble() {
            self.save_state.set(SaveState::Saving);
        }
        spawn_local(async move {
            let Some(session_id) = self.started(errand).await else { return };
            let Some(message) = self.turn(&id).map(|turn| turn.message.get_untracked()) else { return };
            self.follow(ReplyRequest::Answer {
                session_id,
                id: message.id.clone(),
                parent_id: message.parent_id.clone(),
                modes: message.modes().unwrap_or_default(),
                content: message.content,
            });
        });
    }

    /// The session's id; starts it first where it is not. `None` when nobody waits for the reply any longer, or when the
    /// server refuses.
    async fn started(self, errand: Errand) -> Option<SessionId> {
        for attempt in 0.. {
            if let Some(session_id) = self.session_id.get_untracked() {
                return Some(session_id);
            }
            let answer = self.start().await;
            if self.errand() != errand {
                return None;
            }
            match answer {
                Ok(session_id) => return Some(session_id),
                Err(error) => {
                    self.not_saved(&error);
                    if Trouble::passing(&error).is_none() {
                        self.forget_stop();
                        self.live.set(None);
                        return None;
                    }
                    self.reconnecting();
                }
            }
            browser::sleep_or_online(wait_ms(attempt)).await;
            if self.errand() != errand {
                return None;
            }
        }
        None
    }

    pub(super) fn follow(self, request: ReplyRequest) {
        let errand = self.errand();
        if !self.is_live() {
            self.live.set(Some(LiveReply::default()));
        }
        spawn_local(async move { self.follow_to_the_end(errand, request).await });
    }

    async fn follow_to_the_end(self, errand: Errand, mut request: ReplyRequest) {
        let mut attempt = 0;
        // The server refuses a message whose parent it does not have.
        if self.follows_unsaved(&request) {
            self.save().await;
            if self.errand() != errand {
                return;
            }
        }
        loop {
            let follows_unsaved = self.follows_unsaved(&request);
            match ReplyStream::open(&request).await {
                Ok(mut stream) => {
                    while let Some(event) = stream.next().await {
                        if self.errand() != errand {
                            return;
                        }
                        attempt = 0;
                        match (&event, &mut request) {
                            (ReplyEvent::Started { reply_id, .. }, _) => {
                                request = ReplyRequest::Rest { reply_id: reply_id.clone(), after_seq: 0 };
                            }
                            (_, ReplyRequest::Rest { after_seq, .. }) if event.seq() <= *after_seq => continue,
                            (_, ReplyRequest::Rest { after_seq, .. }) => *after_seq = event.seq(),
                            _ => {}
                        }
                        let is_last = event.is_last();
                        self.take(event);
                        if is_last {
                            return;
                        }
                    }
                    if self.errand() != errand {
                        return;
                    }
                    self.reconnecting();
                }
                Err(error) => {
                    if self.errand() != errand {
                        return;
                    }
                    match self.refused(&request, follows_unsaved, error) {
                        AfterRefusal::Ask(other) => {
                            request = other;
                            continue;
                        }
                        AfterRefusal::Wait => {}
                        AfterRefusal::GiveUp => return,
                    }
                }
            }
            browser::sleep_or_online(wait_ms(attempt)).await;
            attempt = attempt.saturating_add(1);
            if self.errand() != errand {
                return;
            }
            self.save().await;
            if self.errand() != errand {
                return;
            }
        }
    }

    /// No longer stops the reply that was asked for as soon as it begins.
    fn forget_stop(&self) {
        self.inner.update_value(|inner| inner.stop_wanted = false);
        self.live.update(|live| {
            if let Some(live) = live {
                live.stopping = false;
            }
        });
    }

    fn reconnecting(&self) {
        self.live.update(|live| {
            if let Some(live) = live {
                live.reconnecting = true;
            }
        });
    }

    /// Whether a request is about a message that follows one that may not be on the server's disk.
    fn follows_unsaved(&self, request: &ReplyRequest) -> bool {
        let ReplyRequest::Answer { parent_id: Some(parent_id), .. } = request else { return false };
        self.inner.with_value(|inner| inner.dirty.contains(parent_id))
    }

    /// `follows_unsaved`: what [`Self::follows_unsaved`] said when the request was sent.
    fn refused(self, request: &ReplyRequest, follows_unsaved: bool, error: AppError) -> AfterRefusal {
        if let Some(reply_id) = error.reply_id {
            // What was said is not saved by a refused request; it stays to be saved while the other reply is followed. That is not
            // the one that may have been stopped before it began.
            self.forget_stop();
            return AfterRefusal::Ask(ReplyRequest::Rest { reply_id, after_seq: 0 });
        }
        if Trouble::passing(&error).is_some() {
            self.reconnecting();
            if let ReplyRequest::Answer { .. } = request {
                self.not_saved(&error);
            }
            return AfterRefusal::Wait;
        }
        // What it follows is saved before the next try. Where that is refused too, waiting does not help.
        let is_refused_for_good = *self.save_state.read_untracked() == SaveState::Failed;
        if follows_unsaved && error.code == ErrorCode::InvalidRequest && !is_refused_for_good {
            return AfterRefusal::Wait;
        }
        self.forget_stop();
        self.live.set(None);
        let parent = match request {
            ReplyRequest::Answer { id, .. } => Some(id.clone()),
            ReplyRequest::Again { parent_id, .. } => Some(parent_id.clone()),
            ReplyRequest::Rest { .. } => None,
        };
        match (error.code, request) {
            // The reply is complete, or was folded into its session when the server came back.
            (ErrorCode::NotFound, ReplyRequest::Rest { .. }) => {
                self.inner.update_value(|inner| inner.revision = None);
                self.catch_up();
            }
            (ErrorCode::SessionDeleted, _) => {
                self.save_state.set(SaveState::Failed);
                self.say_deleted();
            }
            (code, _) => {
                match (code, request) {
                    // The server keeps the message before it looks for an assistant.
                    (ErrorCode::AssistantUnreachable, ReplyRequest::Answer { id, .. }) => {
                        self.kept_with_request(id.clone());
                        self.tell_of_change();
                    }
                    (code, ReplyRequest::Answer { id, .. }) => {
                        if code == ErrorCode::BodyTooLarge {
                            self.note_too_large(std::slice::from_ref(id));
                        }
                        self.save_state.set(SaveState::Failed);
                    }
                    _ => {}
                }
                self.notice.set(Some(Notice { text: error.message, remedy: parent.map(Remedy::TryAgain) }));
            }
        }
        AfterRefusal::GiveUp
    }

    fn take(self, event: ReplyEvent) {
        match event {
            ReplyEvent::Started { reply_id, message_id, parent_id, model, left_out } => {
                self.begin_turn(&reply_id, &message_id, parent_id, &model, left_out);
            }
            ReplyEvent::Progress { phase, fraction, .. } => self.live.update(|live| {
                if let Some(live) = live {
                    live.phase = Some((phase, fraction));
                    live.reconnecting = false;
                }
            }),
            ReplyEvent::Done { message, revision, .. } => {
                self.apply_waiting();
                self.live.set(None);
                let id = message.id.clone();
                // The reply is one write, and where the session names its active leaf, moving that may be another one.
                let written = message.rev;
                let names_leaf = self.metadata.with_untracked(|metadata| metadata.contains_key("active_leaf"));
                let has_only_ours = |known: u64| written == known + 1 && revision <= written + u64::from(names_leaf);
                match self.turn(&id) {
                    Some(turn) => {
                        turn.message.set(*message);
                        // Versions and what the model no longer sees hang on the finished message.
                        self.turns.notify();
                    }
                    None => self.begin_own(*message),
                }
                self.leaf.set(Some(id));
                let is_all_known = self.inner.try_update_value(|inner| {
                    inner.revision = inner.revision.filter(|&known| has_only_ours(known)).map(|_| revision);
                    if inner.revision.is_some() {
                        // Whatever is merged from now on is of this revision or a later one, and knows them.
                        inner.own.retain(|id| inner.dirty.contains(id));
                    }
                    inner.revision.is_some()
                });
                self.mark_saved(&[]);
                self.tell_of_change();
                if is_all_known == Some(false) {
                    self.catch_up();
                }
            }
            ReplyEvent::Failed { code, message, .. } => {
                self.apply_waiting();
                if let Some(turn) = self.live_turn() {
                    turn.message.update(|reply| {
                        reply.metadata.insert("error".into(), code.into());
                        reply.metadata.insert("error_message".into(), message.into());
                    });
                } else {
                    self.notice.set(Some(Notice { text: message, remedy: None }));
                }
                self.live.set(None);
                self.inner.update_value(|inner| inner.revision = None);
                self.tell_others();
                self.catch_up();
            }
            piece => {
                let ask = self.inner.try_update_value(|inner| {
                    inner.events.push_back(piece);
                    !std::mem::replace(&mut inner.frame_asked, true)
                });
                if browser::is_hidden() {
                    // No frames come while the page is hidden.
                    self.apply_waiting();
                } else if ask == Some(true) {
                    self.apply_soon();
                }
            }
        }
    }

    /// Notes that the server keeps a message because its reply was asked for. If it was not there before, that was a write of ours.
    fn kept_with_request(&self, id: String) {
        self.inner.update_value(|inner| {
            if inner.dirty.contains(&id) {
                inner.revision = inner.revision.map(|known| known + 1);
            }
        });
        self.mark_saved(&[id]);
    }

    fn live_turn(&self) -> Option<Turn> {
        let id = self.live.with_untracked(|live| live.as_ref()?.message_id.clone())?;
        self.turn(&id)
    }

    fn begin_turn(self, reply_id: &str, id: &str, parent_id: Option<String>, model: &str, left_out: usize) {
        let parent_id = parent_id.or_else(|| self.last_shown_id());
        let mut metadata = object(json!({"model": model, "reply_id": reply_id, "modes": self.modes.get_untracked()}));
        if left_out > 0 {
            metadata.insert("left_out".into(), left_out.into());
        }
        let message = Message {
            id: id.to_owned(),
            parent_id: parent_id.clone(),
            role: Role::Assistant,
            content: String::new(),
            timestamp: time::format(Utc::now()),
            metadata,
            parts: Some(Vec::new()),
            rev: 0,
            extra: Object::new(),
        };
        self.inner.update_value(|inner| inner.events.clear());
        match self.turn(id) {
            Some(turn) => turn.message.set(message),
            None => self.begin_own(message),
        }
        self.live.set(Some(LiveReply {
            reply_id: Some(reply_id.to_owned()),
            message_id: Some(id.to_owned()),
            ..LiveReply::default()
        }));
        self.leaf.set(Some(id.to_owned()));
        if let Some(parent_id) = parent_id {
            // The server keeps the message before the reply begins.
            self.kept_with_request(parent_id);
        }
        self.tell_of_change();
        if self.inner.try_update_value(|inner| std::mem::take(&mut inner.stop_wanted)) == Some(true) {
            self.stop();
        }
    }

    /// Applies what waits in the next frame, or later where that takes the browser long: so that it has most of its time for the
    /// person.
    fn apply_soon(self) {
        let now = browser::now_ms();
        let rest = self.inner.with_value(|inner| inner.free_at).clamp(now, now + LONGEST_REST_MS) - now;
        spawn_local(async move {
            if rest >= 1.0 {
                browser::sleep(rest as u32).await;
            }
            request_animation_frame(move || {
                let begun = browser::now_ms();
                self.apply_waiting();
                // By the second frame the page has been laid out and painted.
                request_animation_frame(move || {
                    request_animation_frame(move || {
                        let now = browser::now_ms();
                        let took = now - begun;
                        if took > FRAMES_MS {
                            let _ = self.inner.try_update_value(|inner| inner.free_at = now + REST * took);
                        }
                    });
                });
            });
        });
    }

    pub(super) fn apply_waiting(self) {
        let events = self.inner.try_update_value(|inner| {
            inner.frame_asked = false;
            std::mem::take(&mut inner.events)
        });
        let Some(events) = events.filter(|events| !events.is_empty()) else { return };
        let Some(turn) = self.live_turn() else { return };
        turn.message.update(|message| {
            let parts = message.parts.get_or_insert_default();
            events.iter().for_each(|event| reply::apply(parts, event));
            message.content = joined_text(parts);
        });
        if self.live.with_untracked(|live| live.as_ref().is_some_and(|live| live.phase.is_some() || live.reconnecting))
        {
            self.live.update(|live| {
                if let Some(live) = live {
                    live.phase = None;
                    live.reconnecting = false;
                }
            });
        }
    }
}

/// What to do when a request for a reply was refused.
enum AfterRefusal {
    Ask(ReplyRequest),
    Wait,
    GiveUp,
}
