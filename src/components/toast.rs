//! A short word at the edge of the page about what was done, with the way back.

use super::icon::{Glyph, Icon};
use crate::error::{AppError, ErrorCode};
use leptos::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// How long it stays; it does not go while it has the focus or the pointer.
const STAY: Duration = Duration::from_secs(10);

/// How long it stays where nothing can be undone.
const STAY_WITHOUT_UNDO: Duration = Duration::from_secs(3);

/// What undoes something. Not a `Callback`: those go with the view in which they were made, this one stays as long as its toast.
pub type Undo = Arc<dyn Fn() + Send + Sync>;

/// What is said, and what undoes it.
#[derive(Clone)]
pub struct Toast {
    /// What was done.
    pub text: String,
    /// Undoes it.
    pub undo: Option<Undo>,
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
    pub fn say(&self, text: impl Into<String>, undo: Option<Undo>) {
        self.current.set(Some(Toast { text: text.into(), undo }));
        self.hold();
        self.release();
    }

    /// Says why something was not done that is not tried again by itself.
    pub fn say_not_done(&self, error: AppError) {
        self.say(not_done(error), None);
    }

    /// Lets it stay until [`Self::release`].
    fn hold(&self) {
        self.count.update(|count| *count += 1);
    }

    fn release(self) {
        let count = self.count.get_untracked();
        let can_undo = self.current.with_untracked(|toast| toast.as_ref().is_some_and(|toast| toast.undo.is_some()));
        set_timeout(move || self.close(count), if can_undo { STAY } else { STAY_WITHOUT_UNDO });
    }

    fn close(&self, count: u64) {
        if self.count.get_untracked() == count {
            self.current.set(None);
        }
    }
}

/// What is said of something that was not done and is not tried again by itself.
fn not_done(error: AppError) -> String {
    match error.code {
        ErrorCode::ServerUnreachable => {
            "The server cannot be reached, so nothing was changed. Please try again.".to_owned()
        }
        _ => error.message,
    }
}

/// The place where it is said.
#[component]
pub fn Toasts(
    /// What is said.
    toaster: Toaster,
) -> impl IntoView {
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
                                on:pointerenter=move |_| toaster.hold()
                                on:pointerleave=move |_| toaster.release()
                                on:focusin=move |_| toaster.hold()
                                on:focusout=move |_| toaster.release()
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
                                                    undo();
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
