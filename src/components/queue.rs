//! What waits to be sent, above the field in which one types.

use crate::client::queue::{Hold, Queued};
use leptos::prelude::*;

/// What waits to be sent, with the way to take it back.
#[component]
pub fn QueueView(
    /// What waits, oldest first.
    waiting: Memo<Vec<Queued>>,
    /// Why it does not go by itself once no reply is coming.
    hold: Memo<Option<Hold>>,
    /// Whether a reply is being generated or asked for.
    is_busy: Signal<bool>,
    /// Takes the message with this id back.
    on_take_back: Callback<String>,
    /// Sends the first at once.
    on_send: Callback<()>,
) -> impl IntoView {
    let is_held = Memo::new(move |_| !is_busy.get() && hold.get().is_some());
    let words = move || {
        let count = waiting.read().len();
        match (count, is_busy.get(), hold.get()) {
            (0, ..) => String::new(),
            (1, true, _) => "1 message waits until the reply is complete.".to_owned(),
            (_, true, _) => format!("{count} messages wait until the reply is complete, and go in this order."),
            (_, false, None) => "Sending…".to_owned(),
            (_, false, Some(hold)) => {
                let what = if count == 1 { "this message waits" } else { "these messages wait" };
                let why = match hold {
                    Hold::Stopped => "You stopped the reply",
                    Hold::Trouble => "The last message was not answered as it should",
                    Hold::Earlier => "From an earlier visit",
                };
                format!("{why}: {what} for you.")
            }
        }
    };
    view! {
        <section class="queue" aria-label="Waiting to be sent" hidden=move || waiting.read().is_empty()>
            <div class="queue__head">
                <p class="queue__state" role="status">{words}</p>
                {move || {
                    is_held
                        .get()
                        .then(|| {
                            view! {
                                <button type="button" class="button button--small" on:click=move |_| on_send.run(())>
                                    "Send now"
                                </button>
                            }
                        })
                }}
            </div>
            <ol class="queue__list">
                <For
                    each=move || waiting.get()
                    key=|queued| queued.id.clone()
                    children=move |queued| {
                        let id = queued.id;
                        view! {
                            <li class="queue__item">
                                <span class="queue__words" dir="auto">{queued.content}</span>
                                <button
                                    type="button"
                                    class="button button--small"
                                    title="Back into the field, to change it or leave it"
                                    on:click=move |_| on_take_back.run(id.clone())
                                >
                                    "Take back"
                                </button>
                            </li>
                        }
                    }
                />
            </ol>
        </section>
    }
    .into_any()
}
