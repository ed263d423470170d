//! Turns that an earlier page or visit could not save: they are taken up again, or saved without being shown. So are changes of
//! metadata that an earlier visit could not save.

use super::SessionManager;
use crate::api;
use crate::client::batches;
use crate::client::journal;
use crate::client::reply_stream::ReplyRequest;
use crate::client::save_state::Trouble;
use crate::error::{AppError, ErrorCode};
use crate::model::message::{Message, MessageInput};
use crate::model::session::SessionId;
use leptos::prelude::*;
use leptos::task::spawn_local;

impl SessionManager {
    /// Sends turns that an earlier page could not save, and joins a reply that runs.
    pub(super) fn take_up_work(self) {
        let Some(session_id) = self.session_id.get_untracked() else {
            spawn_local(async move { self.take_up_new().await });
            return;
        };
        let left = journal::unsaved(Some(&session_id));
        let is_part = self.beginning.with_untracked(|beginning| beginning.earlier > 0);
        if is_part && left.iter().any(|message| !self.holds(&message.id)) {
            // It may be saved and be among the turns that are not held, and so may be what it follows.
            let visit = self.visit();
            spawn_local(async move {
                let whole = api::sessions::load(session_id.clone(), None, None).await;
                if self.visit() == visit {
                    whole.into_iter().for_each(|whole| self.merge(whole));
                    self.take_up(&session_id, left, true);
                }
            });
            return;
        }
        self.take_up(&session_id, left, false);
    }

    /// As [`Self::take_up_work`]; `is_late`: after a wait, in which the automatic save may have saved the turns without asking for
    /// a reply.
    fn take_up(self, session_id: &SessionId, left: Vec<Message>, is_late: bool) {
        let mut last = None;
        for message in left {
            if self.turn(&message.id).is_none() {
                last = Some(message.id.clone());
                self.add_unsaved(message);
            } else if self.inner.with_value(|inner| inner.dirty.contains(&message.id)) {
                last = Some(message.id);
            } else {
                journal::forget(Some(session_id), &message.id);
                if is_late && self.last_shown_id().as_ref() == Some(&message.id) {
                    last = Some(message.id);
                }
            }
        }
        let running = self.live.get_untracked().and_then(|live| live.reply_id);
        match (running, last) {
            (Some(reply_id), _) => self.follow(ReplyRequest::Rest { reply_id, after_seq: 0 }),
            (None, Some(id)) if !self.is_live() => self.answer(id),
            (None, _) => {}
        }
    }

    /// Goes on with a conversation that an earlier page could not even start. One that another tab has in hand stays there.
    async fn take_up_new(self) {
        let visit = self.visit();
        let Some(turns) = left_to_start().await else { return };
        if self.visit() != visit || self.session_id.get_untracked().is_some() || !untrack(|| self.is_empty()) {
            return;
        }
        let last = turns.last().map(|turn| turn.id.clone());
        for turn in turns {
            self.add_unsaved(turn);
        }
        if let Some(id) = last {
            self.answer(id);
        }
    }

    /// Saves the turns and changes of sessions that are not in hand, which an earlier page or visit could not save.
    pub(super) async fn save_all_left_behind(self) {
        let mut sessions = journal::sessions();
        self.inner.with_value(|inner| sessions.extend(inner.left.keys().cloned()));
        sessions.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        sessions.dedup();
        for session_id in sessions {
            let is_held = self.session_id.with_untracked(|held| held.as_ref() == Some(&session_id));
            if is_held || self.inner.with_value(|inner| inner.refused.contains(&session_id)) {
                continue;
            }
            if let Err(error) = self.save_left_behind(&session_id).await {
                if Trouble::passing(&error).is_some() {
                    return;
                }
                self.inner.update_value(|inner| {
                    inner.left.remove(&session_id);
                    inner.refused.push(session_id);
                });
            }
        }
    }

    pub(super) async fn save_left_behind(self, session_id: &SessionId) -> Result<(), AppError> {
        let left = journal::unsaved(Some(session_id));
        let changes = self.inner.with_value(|inner| inner.left.get(session_id).cloned()).unwrap_or_default();
        if left.is_empty() && changes.is_empty() {
            return Ok(());
        }
        let messages = left.into_iter().map(MessageInput::from).chain(changes.touched.values().cloned()).collect();
        let metadata = (!changes.patch.is_empty()).then(|| changes.patch.clone());
        let outcome = batches::save(messages, metadata, None, |messages, metadata, base| {
            api::sessions::save(session_id.clone(), Some(messages), None, metadata, base)
        })
        .await;
        outcome.saved.iter().for_each(|id| journal::forget(Some(session_id), id));
        if let Some(error) = outcome.error {
            return Err(error);
        }
        if !outcome.too_large.is_empty() {
            return Err(AppError::new(
                ErrorCode::BodyTooLarge,
                "Something that was left behind is larger than the server takes.",
            ));
        }
        self.inner.update_value(|inner| {
            // Meanwhile the session may have been in hand, and have been left with other changes.
            if inner.left.get(session_id) == Some(&changes) {
                inner.left.remove(session_id);
            }
        });
        self.changed(session_id);
        Ok(())
    }
}

/// The oldest conversation that could not be started and that no other tab has in hand; it is this tab's now.
pub async fn left_to_start() -> Option<Vec<Message>> {
    for first in journal::unsaved(None) {
        // What another tab had in hand may have been sent meanwhile.
        if !journal::claim(&first.id).await || !journal::keeps(None, &first.id) {
            continue;
        }
        let mut turns = vec![first];
        for message in journal::unsaved(None) {
            let follows = message.parent_id.as_ref().is_some_and(|id| turns.iter().any(|turn| turn.id == *id));
            if follows && journal::claim(&message.id).await {
                turns.push(message);
            }
        }
        return Some(turns);
    }
    None
}

/// Notes that unsaved turns belong to a session that was just started.
pub(super) fn move_to(session_id: &SessionId, messages: &[Message]) {
    for message in messages {
        if journal::keep(Some(session_id), message) {
            journal::forget(None, &message.id);
        }
    }
}
