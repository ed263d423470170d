//! A question before something is done.

use leptos::html;
use leptos::prelude::*;

/// Opens and closes a modal dialog with a signal; `Escape` and the dialog's own buttons close it too.
pub fn follow_open(dialog: NodeRef<html::Dialog>, is_open: Signal<bool>) {
    Effect::new(move |_| {
        let (Some(dialog), is_open) = (dialog.get(), is_open.get()) else { return };
        match (is_open, dialog.open()) {
            // Fails only for an element that is not in the page; then there is nothing to show either.
            (true, false) => drop(dialog.show_modal()),
            (false, true) => dialog.close(),
            _ => {}
        }
    });
}

/// Asks whether the session that is named is to be deleted.
#[component]
pub fn ConfirmDelete<T: Clone + Send + Sync + 'static>(
    /// What is to be deleted, while it is asked, and its name for people.
    asked: RwSignal<Option<(T, String)>>,
    /// Called when the person agrees.
    on_agree: Callback<T>,
) -> impl IntoView {
    let dialog = NodeRef::<html::Dialog>::new();
    follow_open(dialog, Signal::derive(move || asked.read().is_some()));
    let name = move || asked.read().as_ref().map(|(_, name)| name.clone()).unwrap_or_default();
    let agree = move |_| {
        if let Some((what, _)) = asked.get_untracked() {
            on_agree.run(what);
        }
        asked.set(None);
    };
    view! {
        <dialog
            class="dialog dialog--small"
            node_ref=dialog
            aria-labelledby="confirm-title"
            on:close=move |_| asked.set(None)
        >
            <h2 class="dialog__title" id="confirm-title">"Delete this session?"</h2>
            <p class="dialog__name">{name}</p>
            <p class="dialog__text">"It goes to the trash. You can undo this right afterwards."</p>
            <div class="dialog__actions">
                <button type="button" class="button" on:click=move |_| asked.set(None) autofocus>
                    "Cancel"
                </button>
                <button type="button" class="button button--danger" on:click=agree>
                    "Delete session"
                </button>
            </div>
        </dialog>
    }
    .into_any()
}
