//! Turns that were taken out of a conversation: they are kept, and can be brought back.

use crate::api;
use crate::client::session_manager::SessionManager;
use crate::client::turns::Row;
use crate::components::toast::Toaster;
use crate::components::transcript::TurnView;
use crate::model::Object;
use crate::model::message::{Message, MessageInput};
use crate::model::session::SessionId;
use leptos::prelude::*;
use leptos::task::spawn_local;
use serde_json::Value;

/// Brings a hidden turn back into its session, also if that is not in hand or not as far as this turn.
pub fn bring_back(manager: SessionManager, toaster: Toaster, session_id: SessionId, message: Message) {
    let metadata = Object::from_iter([("hidden".to_owned(), Value::Null)]);
    let message = MessageInput { metadata, parts: None, ..MessageInput::from(message) };
    spawn_local(async move {
        match api::sessions::save(session_id.clone(), Some(vec![message]), None, None, None).await {
            Ok(_) => manager.changed_beside_chat(&session_id),
            Err(error) => toaster.say_not_done(error),
        }
    });
}

/// The hidden turns of a session that is read, behind a line that says how many there are.
#[component]
pub fn HiddenTurns(
    /// The turns.
    rows: Vec<Row>,
    /// Brings one back.
    on_back: Callback<Message>,
) -> impl IntoView {
    let count = match rows.len() {
        0 => return ().into_any(),
        1 => "1 hidden message".to_owned(),
        count => format!("{count} hidden messages"),
    };
    let hidden = rows.into_iter().map(|row| {
        let message = row.turn.message.clone();
        view! {
            <TurnView row actions=None/>
            <button
                type="button"
                class="button button--small hidden-turns__back"
                on:click=move |_| on_back.run(message.get_untracked())
            >
                "Show again"
            </button>
        }
    });
    view! {
        <details class="hidden-turns">
            <summary class="hidden-turns__summary">{count}</summary>
            {hidden.collect_view()}
        </details>
    }
    .into_any()
}
