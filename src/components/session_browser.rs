//! The recent conversations, in a dialog over the chat.

use super::confirm::follow_open;
use super::icon::{Glyph, Icon};
use super::local_time::LocalTime;
use super::toast::{Toaster, Toasts};
use crate::browser::{self, TimeStyle};
use crate::client::session_manager::title_of;
use crate::error::AppError;
use crate::model::session::{Kind, SessionId, Summary};
use leptos::html;
use leptos::prelude::*;

/// What a session is called where it has no words yet.
pub const NO_WORDS: &str = "No messages yet";

/// What a session is called in a list: its title, else how it began.
pub fn display_title(summary: &Summary) -> String {
    match &summary.title {
        Some(title) => title.clone(),
        None if summary.preview.is_empty() => NO_WORDS.to_owned(),
        None => title_of(&summary.preview),
    }
}

/// The emoji of a kind, and its name.
pub fn kind_sign(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Chat => ("💬", "Chat"),
        Kind::Voice => ("🎤", "Voice"),
    }
}

/// `1 message`, `12 messages`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count))
}

/// `12,000`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The dialog.
#[component]
pub fn SessionBrowser(
    /// Whether it is shown.
    is_open: RwSignal<bool>,
    /// What is searched for.
    query: RwSignal<String>,
    /// The rows; `None` while they are on their way.
    rows: Signal<Option<Result<Vec<Summary>, AppError>>>,
    /// The session in hand.
    current: Signal<Option<SessionId>>,
    /// Called when a row is to be deleted, with its name.
    on_delete: Callback<(SessionId, String)>,
) -> impl IntoView {
    let dialog = NodeRef::<html::Dialog>::new();
    let list = NodeRef::<html::Div>::new();
    let toaster = expect_context::<Toaster>();
    follow_open(dialog, is_open.into());
    let arrows = move |event: leptos::ev::KeyboardEvent| {
        let delta = match event.key().as_str() {
            "ArrowDown" => 1,
            "ArrowUp" => -1,
            _ => return,
        };
        if let Some(list) = list.get_untracked() {
            event.prevent_default();
            browser::move_focus(&list, ".browser__link", delta);
        }
    };
    view! {
        <dialog
            class="dialog browser"
            node_ref=dialog
            aria-labelledby="browser-title"
            on:close=move |_| is_open.set(false)
            on:keydown=arrows
        >
            <div class="browser__head">
                <h2 class="dialog__title" id="browser-title">"Sessions"</h2>
                <a class="link browser__all" href="/sessions" on:click=move |_| is_open.set(false)>"All sessions"</a>
                <button
                    type="button"
                    class="button button--quiet button--icon"
                    aria-label="Close"
                    on:click=move |_| is_open.set(false)
                >
                    <Icon glyph=Glyph::Close/>
                </button>
            </div>
            <label class="search">
                <Icon glyph=Glyph::Search/>
                <input
                    type="search"
                    class="search__field"
                    aria-label="Search recent sessions"
                    dir="auto"
                    placeholder="Search"
                    prop:value=move || query.get()
                    on:input=move |event| query.set(event_target_value(&event))
                    autofocus
                />
            </label>
            <div class="browser__list" node_ref=list>
                {move || match rows.get() {
                    None => view! { <p class="state state--small">"Loading…"</p> }.into_any(),
                    Some(Err(error)) => {
                        view! { <p class="state state--small" role="alert">{error.message}</p> }.into_any()
                    }
                    Some(Ok(rows)) if rows.is_empty() => {
                        let text = if query.read().trim().is_empty() {
                            "There are no sessions yet. One begins with the first message."
                        } else {
                            "Nothing was found. Other words may help."
                        };
                        view! { <p class="state state--small">{text}</p> }.into_any()
                    }
                    Some(Ok(rows)) => {
                        view! {
                            <ul class="browser__rows">
                                {rows
                                    .into_iter()
                                    .map(|row| view! { <BrowserRow row current is_open on_delete/> })
                                    .collect_view()}
                            </ul>
                        }
                            .into_any()
                    }
                }}
            </div>
            // While the dialog is open, what is outside of it cannot be clicked.
            <Toasts toaster/>
        </dialog>
    }
    .into_any()
}

#[component]
fn BrowserRow(
    row: Summary,
    current: Signal<Option<SessionId>>,
    is_open: RwSignal<bool>,
    on_delete: Callback<(SessionId, String)>,
) -> impl IntoView {
    let title = display_title(&row);
    let id = row.session_id.clone();
    let is_current = {
        let id = id.clone();
        move || (current.read().as_ref() == Some(&id)).then_some("true")
    };
    let delete_label = format!("Delete {title}");
    let asked = (id.clone(), title.clone());
    let (sign, kind) = kind_sign(row.kind);
    let href = match row.kind {
        Kind::Chat => format!("/chat/{id}"),
        Kind::Voice => format!("/sessions/{id}"),
    };
    view! {
        <li class="browser__row">
            <a class="browser__link" href=href aria-current=is_current on:click=move |_| is_open.set(false)>
                <span class="browser__title">
                    <span class="kind" role="img" aria-label=kind>{sign}</span>
                    <bdi>{title}</bdi>
                </span>
                <span class="browser__facts">
                    <LocalTime at=row.last_updated style=TimeStyle::Short/>
                    <span>{counted(row.stats.total_messages, "message")}</span>
                </span>
            </a>
            <button
                type="button"
                class="button button--quiet button--icon"
                aria-label=delete_label
                title="Delete"
                on:click=move |_| on_delete.run(asked.clone())
            >
                <Icon glyph=Glyph::Bin/>
            </button>
        </li>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_has_a_name_in_any_case() {
        let mut summary: Summary = serde_json::from_value(json!({"session_id":"s","title":null,"user_name":"User","kind":"chat",
            "started_at":"t","last_updated":"t","stats":{"total_messages":0,"user_messages":0,"assistant_messages":0,"errors":0},
            "preview":"","tools":[],"tags":[],"pinned":false,"archived":false}))
        .unwrap();
        assert_eq!(display_title(&summary), NO_WORDS);
        summary.preview = "How do I\nboil an egg?".into();
        assert_eq!(display_title(&summary), "How do I");
        summary.title = Some("Eggs".into());
        assert_eq!(display_title(&summary), "Eggs");
    }

    #[test]
    fn counts_have_their_number() {
        assert_eq!(
            [0, 1, 2].map(|count| counted(count, "message")),
            ["0 messages", "1 message", "2 messages"].map(str::to_owned)
        );
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"].map(str::to_owned));
    }
}
