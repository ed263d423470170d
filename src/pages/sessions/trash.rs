//! What was deleted: the way back, and the way out for good.

use super::Shared;
use super::filter::{Filter, TRASH};
use crate::api;
use crate::components::confirm::{Doomed, Question};
use crate::components::icon::{Glyph, IconButton, Look};
use crate::components::session_browser::counted;
use crate::components::toast::Toaster;
use crate::model::session::SessionId;
use leptos::prelude::*;
use leptos::task::spawn_local;

/// Asks whether all that was deleted is to be removed, and says how much that is.
pub fn ask_to_empty(asked: RwSignal<Option<Question>>, toaster: Toaster) {
    spawn_local(async move {
        let listed = api::sessions::list(Some(1), None, Some(TRASH.to_owned()), None, None, None, None).await;
        match listed.map(|listed| listed.filtered_sessions) {
            Ok(0) => toaster.say("The trash is empty.", None),
            Ok(count) => {
                let question = Question { what: Doomed::Trash, name: counted(count, "session") };
                // The page may have been left meanwhile.
                let _ = asked.try_set(Some(question));
            }
            Err(error) => toaster.say_not_done(error),
        }
    });
}

/// The link that leads to the trash, or out of it.
#[component]
pub fn TrashLink(is_trash: RwSignal<bool>) -> impl IntoView {
    let address = Filter::of(Some(TRASH.to_owned()), None, None).search();
    view! {
        <a
            class="sessions__trash"
            href=move || if is_trash.get() { "/sessions".to_owned() } else { format!("/sessions{address}") }
        >
            {move || if is_trash.get() { "Leave the trash" } else { "Trash" }}
        </a>
    }
}

/// What can be done with a deleted session.
#[component]
pub fn TrashButtons(id: SessionId, name: String, shared: Shared, look: Look) -> impl IntoView {
    let question = Question { what: Doomed::Forever(id.clone()), name };
    view! {
        <IconButton
            glyph=Glyph::Undo
            name="Restore"
            title="Take it out of the trash"
            look
            on_click=Callback::new(move |()| shared.on_restore.run(id.clone()))
        />
        <IconButton
            glyph=Glyph::Bin
            name="Delete forever"
            title="Delete forever"
            look
            on_click=Callback::new(move |()| shared.asked.set(Some(question.clone())))
        />
    }
    .into_any()
}

/// Says of a session that it was deleted.
#[component]
pub fn Trashed(id: SessionId, shared: Shared) -> impl IntoView {
    let name = format!("Session {id}");
    view! {
        <section class="state">
            <h2 class="state__title">"This session is in the trash"</h2>
            <p class="state__text">"It can be read and continued again once it is restored."</p>
            <p class="state__actions">
                <TrashButtons id name shared look=Look::Named/>
            </p>
        </section>
    }
    .into_any()
}
