//! Deleting a session, and the way back.

use crate::api;
use crate::client::session_manager::SessionManager;
use crate::components::toast::Toaster;
use crate::model::session::{SessionId, first_characters};
use leptos::prelude::*;
use leptos::task::spawn_local;

/// How much of a session's name the word about its deletion holds, in characters.
const NAME_CHARACTERS: usize = 40;

/// Puts a session into the trash, says so, and offers to undo it. `then` is called after each of the two.
pub fn delete(manager: SessionManager, toaster: Toaster, id: SessionId, name: String, then: Callback<Deletion>) {
    spawn_local(async move {
        match api::sessions::delete(id.clone()).await {
            Ok(_) => {
                manager.changed(&id);
                let undo = {
                    let id = id.clone();
                    Callback::new(move |()| restore(manager, toaster, id.clone(), then))
                };
                let short = first_characters(&name, NAME_CHARACTERS);
                let dots = if short.len() < name.len() { "…" } else { "" };
                toaster.say(format!("Deleted “{short}{dots}”"), Some(undo));
                then.run(Deletion::Deleted(id));
            }
            Err(error) => toaster.say(error.message, None),
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
}

fn restore(manager: SessionManager, toaster: Toaster, id: SessionId, then: Callback<Deletion>) {
    spawn_local(async move {
        match api::sessions::restore(id.clone()).await {
            Ok(_) => {
                manager.changed(&id);
                toaster.say("The session is back.", None);
                then.run(Deletion::Restored(id));
            }
            Err(error) => toaster.say(error.message, None),
        }
    });
}
