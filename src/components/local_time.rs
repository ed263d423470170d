//! Moments as a person reads them.

use crate::browser::{self, TimeStyle};
use crate::model::time;
use leptos::prelude::*;

/// A moment as text: in UTC at first, so that the server and the browser say the same; in the person's zone and language once
/// the page listens.
pub fn local_text(at: String, style: TimeStyle) -> RwSignal<String> {
    let text = RwSignal::new(utc_text(&at, style));
    Effect::new(move |_| {
        if let Some(local) = browser::local_time(&at, style) {
            text.set(local);
        }
    });
    text
}

/// A `<time>` element.
#[component]
pub fn LocalTime(
    /// The moment (RFC 3339).
    at: String,
    /// How it is written.
    style: TimeStyle,
) -> impl IntoView {
    let text = local_text(at.clone(), style);
    view! { <time datetime=at.clone() title=at>{text}</time> }
}

fn utc_text(at: &str, style: TimeStyle) -> String {
    match (time::parse(at), style) {
        (Some(moment), TimeStyle::DayAndTime) => moment.format("%-d %b %Y, %H:%M UTC").to_string(),
        (Some(moment), TimeStyle::Short) => moment.format("%-d %b %Y").to_string(),
        (None, _) => at.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_is_told_in_words_and_nonsense_as_it_is() {
        assert_eq!(utc_text("2026-02-09T21:30:00Z", TimeStyle::DayAndTime), "9 Feb 2026, 21:30 UTC");
        assert_eq!(utc_text("2026-02-09T21:30:00Z", TimeStyle::Short), "9 Feb 2026");
        assert_eq!(utc_text("once", TimeStyle::Short), "once");
    }
}
