//! Asking again, by itself, for what could not be shown because the server was away.

use crate::browser;
use crate::error::{AppError, ErrorCode};
use leptos::prelude::*;
use leptos::task::spawn_local;

/// The first pause before it is asked again, in milliseconds; each further one is twice as long …
const FIRST_PAUSE_MS: u32 = 1_000;

/// … up to this.
const LONGEST_PAUSE_MS: u32 = 5_000;

/// How soon it is looked whether a hidden page is seen again, in milliseconds.
const HIDDEN_PAUSE_MS: u32 = 1_000;

/// How many answers in a row said that the server cannot be reached. A handle: copies are the same.
#[derive(Clone, Copy)]
pub struct Away(RwSignal<u32>);

impl Away {
    /// Calls `again` after each such answer, with growing pauses, while the page can be seen and until it is left. What is called
    /// must lead to another [`Self::note`].
    pub fn new(again: impl Fn() + Clone + 'static) -> Self {
        let count = RwSignal::new(0);
        Effect::new(move |_| {
            let failures = count.get();
            if failures == 0 {
                return;
            }
            let again = again.clone();
            // Another answer, or the end of the page, makes this one meaningless.
            let is_current = move || count.try_get_untracked() == Some(failures);
            spawn_local(async move {
                browser::sleep_or_online(pause_ms(failures)).await;
                while is_current() && browser::is_hidden() {
                    browser::sleep(HIDDEN_PAUSE_MS).await;
                }
                if is_current() {
                    again();
                }
            });
        });
        Self(count)
    }

    /// Takes note of an answer: of its error, if it is one.
    pub fn note(&self, error: Option<&AppError>) {
        let is_away = error.is_some_and(|error| error.code == ErrorCode::ServerUnreachable);
        // The page may have been left.
        let Some(before) = self.0.try_get_untracked() else { return };
        let now = if is_away { before.saturating_add(1) } else { 0 };
        if now != before {
            self.0.set(now);
        }
    }
}

/// The pause after so many failures in a row, in milliseconds.
fn pause_ms(failures: u32) -> u32 {
    FIRST_PAUSE_MS.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST_PAUSE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_grow_up_to_a_limit() {
        assert_eq!([1, 2, 3, 4, u32::MAX].map(pause_ms), [1_000, 2_000, 4_000, 5_000, 5_000]);
    }
}
