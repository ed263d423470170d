//! A short word at the edge of the page about what was done, with the way back.

use super::icon::{Glyph, Icon};
use leptos::prelude::*;
use std::time::Duration;

/// How long it stays, in milliseconds; it does not go while it has the focus or the pointer.
const STAY: Duration = Duration::from_secs(10);

/// What is said, and what undoes it.
#[derive(Clone)]
pub struct Toast {
    /// What was done.
    pub text: String,
    /// Undoes it.
    pub undo: Option<Callback<()>>,
}

/// Where pages put what they want to say.
#[derive(Clone, Copy)]
pub struct Toaster {
    current: RwSignal<Option<Toast>>,
    count: RwSignal<u64>,
}

impl Default for Toaster {
    fn default() -> Self {
        Self { current: RwSignal::new(None), count: RwSignal::new(0) }
    }
}

impl Toaster {
    /// Says something instead of what was said before.
    pub fn say(&self, text: impl Into<String>, undo: Option<Callback<()>>) {
        self.current.set(Some(Toast { text: text.into(), undo }));
        self.count.update(|count| *count += 1);
        let (toaster, count) = (*self, self.count.get_untracked());
        set_timeout(move || toaster.close(count), STAY);
    }

    fn close(&self, count: u64) {
        if self.count.get_untracked() == count {
            self.current.set(None);
        }
    }
}

/// The place where it is said.
#[component]
pub fn Toasts(
    /// What is said.
    toaster: Toaster,
) -> impl IntoView {
    let hold = move |_| toaster.count.update(|count| *count += 1);
    let release = move |_| {
        let count = toaster.count.get_untracked();
        set_timeout(move || toaster.close(count), STAY);
    };
    view! {
        <div class="toasts" aria-live="polite">
            {move || {
                toaster
                    .current
                    .get()
                    .map(|toast| {
                        view! {
                            <div
                                class="toast"
                                on:pointerenter=hold
                                on:pointerleave=release
                                on:focusin=move |_| toaster.count.update(|count| *count += 1)
                                on:focusout=move |_| {
                                    let count = toaster.count.get_untracked();
                                    set_timeout(move || toaster.close(count), STAY);
                                }
                            >
                                <span class="toast__text">{toast.text}</span>
                                {toast
                                    .undo
                                    .map(|undo| {
                                        view! {
                                            <button
                                                type="button"
                                                class="button button--accent"
                                                on:click=move |_| {
                                                    toaster.current.set(None);
                                                    undo.run(());
                                                }
                                            >
                                                "Undo"
                                            </button>
                                        }
                                    })}
                                <button
                                    type="button"
                                    class="button button--quiet button--icon"
                                    aria-label="Close this message"
                                    on:click=move |_| toaster.current.set(None)
                                >
                                    <Icon glyph=Glyph::Close/>
                                </button>
                            </div>
                        }
                    })
            }}
        </div>
    }
    .into_any()
}
