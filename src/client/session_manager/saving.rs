//! What of the session in hand is not on the server's disk, and its saving.

use super::{Notice, SessionManager};
use crate::api;
use crate::browser;
use crate::client::batches;
use crate::client::journal;
use crate::client::save_state::{SaveState, Trouble};
use crate::error::{AppError, ErrorCode};
use crate::model::message::{Message, MessageInput};
use crate::model::session::SessionId;
use crate::model::{Object, merge_patch};
use leptos::prelude::*;
use leptos::task::spawn_local;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Changes of the metadata of a session and of its turns.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Changes {
    /// Changes of the session's metadata that are not saved yet.
    pub(super) patch: Object,
    /// Changes of the metadata of turns that are not saved yet, by their ids: what is sent, with the changes as its metadata.
    pub(super) touched: HashMap<String, MessageInput>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.patch.is_empty() && self.touched.is_empty()
    }

    /// Leaves what changed again since `sent` was sent, which is still to be saved.
    fn remove(&mut self, sent: &Self) {
        self.patch.retain(|key, value| sent.patch.get(key) != Some(value));
        self.touched.retain(|id, input| {
            let sent = sent.touched.get(id).map(|sent| &sent.metadata);
            input.metadata.retain(|key, value| sent.and_then(|sent| sent.get(key)) != Some(value));
            !input.metadata.is_empty()
        });
    }

    /// A message with what is changed of its metadata.
    pub(super) fn made_to(&self, mut message: Message) -> Message {
        if let Some(changes) = self.touched.get(&message.id) {
            merge_patch(&mut message.metadata, &changes.metadata);
        }
        message
    }
}

impl SessionManager {
    /// Saves what is not on the server's disk.
    pub async fn save(self) {
        let session_id = match self.session_id.get_untracked() {
            Some(session_id) => session_id,
            // A reply that is asked for starts the session itself.
            None if self.is_live() || self.inner.with_value(|inner| inner.dirty.is_empty() || inner.saving) => return,
            None => {
                let visit = self.visit();
                self.inner.update_value(|inner| inner.saving = true);
                let answer = self.start().await;
                if self.visit() != visit {
                    return;
                }
                self.inner.update_value(|inner| inner.saving = false);
                match answer {
                    Ok(session_id) => session_id,
                    Err(error) => return self.not_saved(&error),
                }
            }
        };
        let visit = self.visit();
        let mut dirty = Vec::new();
        let mut changes = Changes::default();
        let mut base = None;
        self.inner.update_value(|inner| {
            if !inner.saving {
                dirty = inner.dirty.iter().filter(|id| !inner.too_large.contains(*id)).cloned().collect();
                changes = inner.changes.clone();
                base = inner.revision;
                inner.saving = !(dirty.is_empty() && changes.is_empty());
            }
        });
        if dirty.is_empty() && changes.is_empty() {
            return;
        }
        if !self.save_state.read_untracked().is_trouble() {
            self.save_state.set(SaveState::Saving);
        }
        let messages = self.inputs(&dirty, &changes.touched);
        let metadata = (!changes.patch.is_empty()).then(|| changes.patch.clone());
        let outcome = batches::save(messages, metadata, base, |messages, metadata, base| {
            api::sessions::save(session_id.clone(), Some(messages), None, metadata, base)
        })
        .await;
        if self.visit() != visit {
            return;
        }
        self.inner.update_value(|inner| inner.saving = false);
        dirty.retain(|id| outcome.saved.contains(id));
        changes.touched.retain(|id, _| outcome.saved.contains(id));
        if outcome.error.is_some() {
            changes.patch.clear();
        }
        let is_new = self.note_too_large(&outcome.too_large);
        if let Some(answer) = outcome.answer {
            // Whether others saved in between is told only to who says what was known.
            let is_all_known = base.is_some() && !answer.merged;
            self.inner.update_value(|inner| {
                inner.revision = is_all_known.then_some(answer.revision);
                inner.changes.remove(&changes);
            });
            self.mark_saved(&dirty);
            self.tell_others();
            if self.has_changes() && outcome.error.is_none() {
                self.save_soon();
            }
            if !is_all_known {
                self.catch_up();
            }
        }
        if let Some(error) = outcome.error {
            self.not_saved(&error);
        } else if self.inner.with_value(|inner| !inner.too_large.is_empty()) {
            self.save_state.set(SaveState::Failed);
            if is_new {
                let text = "Something here is larger than the server takes at once. It is not saved, nor is what follows it; all \
                            else is. Keep a copy of it, send it in parts, or start the server with a larger --max-body-mib and \
                            load this page again.";
                self.notice.set(Some(Notice { text: text.to_owned(), remedy: None }));
            }
        }
    }

    /// Takes note of turns that need not be sent again: the server does not take them. Whether one of them was not known.
    pub(super) fn note_too_large(&self, ids: &[String]) -> bool {
        let is_new = self.inner.try_update_value(|inner| {
            let before = inner.too_large.len();
            inner.too_large.extend(ids.iter().cloned());
            inner.too_large.len() > before
        });
        is_new == Some(true)
    }

    pub(super) fn save_soon(self) {
        spawn_local(async move { self.save().await });
    }

    /// Whether metadata was changed that is not saved yet.
    pub(super) fn has_changes(&self) -> bool {
        self.inner.with_value(|inner| !inner.changes.is_empty())
    }

    pub(super) fn changes_in_hand(&self) -> Changes {
        self.inner.with_value(|inner| inner.changes.clone())
    }

    pub(super) fn messages_of(&self, ids: &[String]) -> Vec<Message> {
        ids.iter().filter_map(|id| self.turn(id)).map(|turn| turn.message.get_untracked()).collect()
    }

    /// What is sent of turns: those that are not saved, and of others what is changed of their metadata.
    pub(super) fn inputs(&self, dirty: &[String], touched: &HashMap<String, MessageInput>) -> Vec<MessageInput> {
        self.messages_of(dirty).into_iter().map(MessageInput::from).chain(touched.values().cloned()).collect()
    }

    pub(super) fn change_metadata(&self, key: &str, value: Value) {
        let patch = Object::from_iter([(key.to_owned(), value)]);
        self.metadata.update(|metadata| {
            merge_patch(metadata, &patch);
        });
        // The patch itself keeps its nulls: they are what removes a field on the server.
        self.inner.update_value(|inner| inner.changes.patch.extend(patch));
    }

    pub(super) fn add_unsaved(&self, message: Message) {
        let id = message.id.clone();
        let session_id = self.session_id.get_untracked();
        if session_id.is_none() {
            // Another tab is not to take up what this one sends.
            let claimed = journal::claim(&id);
            spawn_local(async move {
                claimed.await;
            });
        }
        journal::keep(session_id.as_ref(), &message);
        self.leaf.set(Some(id.clone()));
        let parent = message.parent_id.clone();
        self.begin_own(message);
        self.inner.update_value(|inner| {
            // The server takes nothing that follows what it does not have.
            if parent.is_some_and(|parent| inner.too_large.contains(&parent)) {
                inner.too_large.insert(id.clone());
            }
            inner.dirty.push(id);
        });
    }

    pub(super) fn mark_saved(&self, ids: &[String]) {
        let all = self.inner.try_update_value(|inner| {
            inner.dirty.retain(|id| !ids.contains(id));
            if ids.iter().any(|id| inner.too_large.contains(id)) {
                // The server takes more than before.
                inner.too_large.clear();
            }
            inner.dirty.is_empty() && inner.changes.is_empty()
        });
        self.session_id.with_untracked(|session_id| ids.iter().for_each(|id| journal::forget(session_id.as_ref(), id)));
        if all == Some(true) {
            self.save_state.set(SaveState::Saved(browser::now_ms()));
        }
    }

    pub(super) fn not_saved(&self, error: &AppError) {
        match Trouble::passing(error) {
            Some(trouble) => self.save_state.set(SaveState::Retrying(trouble)),
            None => {
                self.save_state.set(SaveState::Failed);
                if error.code == ErrorCode::SessionDeleted {
                    self.say_deleted();
                } else {
                    self.notice.set(Some(Notice { text: error.message.clone(), remedy: None }));
                }
            }
        }
    }

    pub(super) fn flush_on_exit(&self) {
        let post = |session_id: &SessionId, messages: Vec<MessageInput>, changes: &Changes| {
            let body = json!({"session_id": session_id, "messages": messages, "metadata": changes.patch});
            browser::post_on_exit("/api/sessions/save", body.to_string());
        };
        for (session_id, changes) in self.inner.with_value(|inner| inner.left.clone()) {
            post(&session_id, changes.touched.values().cloned().collect(), &changes);
        }
        let Some(session_id) = self.session_id.get_untracked() else { return };
        let dirty = self.inner.with_value(|inner| inner.dirty.clone());
        let changes = self.changes_in_hand();
        if !dirty.is_empty() || !changes.is_empty() {
            post(&session_id, self.inputs(&dirty, &changes.touched), &changes);
        }
    }
}
