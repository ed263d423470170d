//! The list of keys.

use super::confirm::follow_open;
use leptos::html;
use leptos::prelude::*;

const KEYS: [(&str, &str); 11] = [
    ("Enter", "Send the message"),
    ("Shift Enter", "A new line in the message"),
    ("Esc", "Stop the reply"),
    ("Ctrl K  or  ⌘ K", "Find a session; again to close"),
    ("/", "Search, on the Sessions page"),
    ("↑  ↓", "Move through a list of sessions"),
    ("Enter", "Open the chosen session"),
    ("→", "From a session in the list to its text"),
    ("Esc", "From a session's text back to the list"),
    ("Esc", "Close a dialog"),
    ("?", "Show these keys"),
];

/// The dialog that lists the keys.
#[component]
pub fn Shortcuts(
    /// Whether it is shown.
    is_open: RwSignal<bool>,
) -> impl IntoView {
    let dialog = NodeRef::<html::Dialog>::new();
    follow_open(dialog, is_open.into());
    view! {
        <dialog
            class="dialog dialog--small"
            node_ref=dialog
            aria-labelledby="keys-title"
            on:close=move |_| is_open.set(false)
        >
            <h2 class="dialog__title" id="keys-title">"Keyboard shortcuts"</h2>
            <dl class="keys">
                {KEYS
                    .into_iter()
                    .map(|(keys, what)| {
                        view! {
                            <div class="keys__row">
                                <dt class="keys__keys"><kbd>{keys}</kbd></dt>
                                <dd class="keys__what">{what}</dd>
                            </div>
                        }
                    })
                    .collect_view()}
            </dl>
            <div class="dialog__actions">
                <button type="button" class="button" on:click=move |_| is_open.set(false)>"Close"</button>
            </div>
        </dialog>
    }
    .into_any()
}

/// Counts how often the person asked to find a session; the page that is shown knows what to do.
#[derive(Clone, Copy)]
pub struct Jump(pub RwSignal<u64>);
