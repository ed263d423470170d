//! A question before something is done.

use crate::browser;
use crate::model::session::SessionId;
use leptos::html;
use leptos::prelude::*;

/// Opens and closes a modal dialog with a signal; `Escape`, a click beside it and the dialog's own buttons close it too. The
/// browser then gives the focus back.
pub fn follow_open(dialog: NodeRef<html::Dialog>, is_open: Signal<bool>) {
    Effect::new(move |_| {
        if let Some(dialog) = dialog.get() {
            browser::close_at_click_beside(&dialog);
        }
    });
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

/// What is to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doomed {
    /// A session, which goes to the trash.
    ToTrash(SessionId),
    /// A session in the trash.
    Forever(SessionId),
    /// All that is in the trash.
    Trash,
}

impl Doomed {
    /// What is asked, what would happen, and what the button says that does it.
    fn words(&self) -> [&'static str; 3] {
        match self {
            Doomed::ToTrash(_) => {
                ["Delete this session?", "It goes to the trash. You can undo this right afterwards.", "Delete session"]
            }
            Doomed::Forever(_) => [
                "Delete this session forever?",
                "Its file is removed from the disk. This cannot be undone.",
                "Delete forever",
            ],
            Doomed::Trash => [
                "Empty the trash?",
                "All that is in it is removed from the disk. This cannot be undone.",
                "Empty trash",
            ],
        }
    }
}

/// A question before something is deleted.
#[derive(Clone, Debug)]
pub struct Question {
    /// What is to be deleted.
    pub what: Doomed,
    /// Its name for people.
    pub name: String,
}

/// Asks before something is deleted.
#[component]
pub fn Confirm(
    /// What is asked, while it is.
    asked: RwSignal<Option<Question>>,
    /// Called when the person agrees.
    on_agree: Callback<Question>,
) -> impl IntoView {
    let dialog = NodeRef::<html::Dialog>::new();
    follow_open(dialog, Signal::derive(move || asked.read().is_some()));
    let word = move |place: usize| asked.read().as_ref().map(|question| question.what.words()[place]);
    let agree = move |_| {
        let question = asked.get_untracked();
        asked.set(None);
        if let Some(question) = question {
            on_agree.run(question);
        }
    };
    view! {
        <dialog
            class="dialog dialog--small"
            node_ref=dialog
            aria-labelledby="confirm-title"
            on:close=move |_| asked.set(None)
        >
            <h2 class="dialog__title" id="confirm-title">{move || word(0)}</h2>
            <p class="dialog__name" dir="auto">{move || asked.read().as_ref().map(|question| question.name.clone())}</p>
            <p class="dialog__text">{move || word(1)}</p>
            <div class="dialog__actions">
                <button type="button" class="button" on:click=move |_| asked.set(None) autofocus>
                    "Cancel"
                </button>
                <button type="button" class="button button--danger" on:click=agree>
                    {move || word(2)}
                </button>
            </div>
        </dialog>
    }
    .into_any()
}
