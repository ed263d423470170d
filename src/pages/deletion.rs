//! Deleting a session, and the way back.

use crate::api;
use crate::client::session_manager::SessionManager;
use crate::components::confirm::{Doomed, Question};
use crate::components::toast::Toaster;
use crate::model::session::{SessionId, first_characters};
use leptos::prelude::*;
use leptos::task::spawn_local;
use std::sync::Arc;

/// How much of a session's name the word about its deletion holds, in characters.
const NAME_CHARACTERS: usize = 40;

/// Deletes what was asked about. `then` is called when it is done, and when it is undone, as long as its page is there.
pub fn carry_out(manager: SessionManager, toaster: Toaster, question: Question, then: Callback<Deletion>) {
    match question.what {
        Doomed::ToTrash(id) => delete(manager, toaster, id, question.name, then),
        Doomed::Forever(id) => remove(manager, toaster, Some(id), then),
        Doomed::Trash => remove(manager, toaster, None, then),
    }
}

/// Puts a session into the trash, says so, and offers to undo it.
fn delete(manager: SessionManager, toaster: Toaster, id: SessionId, name: String, then: Callback<Deletion>) {
    spawn_local(async move {
        match api::sessions::delete(id.clone()).await {
            Ok(_) => {
                manager.changed(&id);
                let undo = {
                    let id = id.clone();
                    Arc::new(move || restore(manager, toaster, id.clone(), then))
                };
                let short = first_characters(&name, NAME_CHARACTERS);
                let dots = if short.len() < name.len() { "…" } else { "" };
                toaster.say(format!("Deleted “{short}{dots}”"), Some(undo));
                then.try_run(Deletion::Deleted(id));
            }
            Err(error) => toaster.say_not_done(error),
        }
    });
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is in the trash.
    Deleted(SessionId),
    /// It is back.
    Restored(SessionId),
    /// It is gone for good; `None`: all that was in the trash.
    Removed(Option<SessionId>),
}

/// Removes a session from the trash for good, or all that is in it, and says so.
fn remove(manager: SessionManager, toaster: Toaster, id: Option<SessionId>, then: Callback<Deletion>) {
    spawn_local(async move {
        match api::sessions::empty_trash(id.clone().map(|id| vec![id])).await {
            Ok(done) => {
                if let Some(id) = &id {
                    manager.changed(id);
                }
                toaster.say(done.message, None);
                then.try_run(Deletion::Removed(id));
            }
            Err(error) => toaster.say_not_done(error),
        }
    });
}

/// Takes a session out of the trash and says so.
pub fn restore(manager: SessionManager, toaster: Toaster, id: SessionId, then: Callback<Deletion>) {
    spawn_local(async move {
        match api::sessions::restore(id.clone()).await {
            Ok(_) => {
                manager.changed_beside_chat(&id);
                toaster.say("The session is back.", None);
                then.try_run(Deletion::Restored(id));
            }
            Err(error) => toaster.say_not_done(error),
        }
    });
}
