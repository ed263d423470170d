//! The bar above every page: where one is, and the choice of light or dark.

use super::icon::{Glyph, Icon};
use crate::browser;
use leptos::prelude::*;
use leptos_router::hooks::use_location;

/// Where the choice is kept; `public/theme.js` reads it before the first paint.
const THEME_KEY: &str = "verbatim.theme";

/// Light or dark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Theme {
    #[default]
    System,
    Light,
    Dark,
}

impl Theme {
    fn as_str(self) -> &'static str {
        match self {
            Theme::System => "system",
            Theme::Light => "light",
            Theme::Dark => "dark",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "light" => Theme::Light,
            "dark" => Theme::Dark,
            _ => Theme::System,
        }
    }

    fn next(self) -> Self {
        match self {
            Theme::System => Theme::Light,
            Theme::Light => Theme::Dark,
            Theme::Dark => Theme::System,
        }
    }

    fn glyph(self) -> Glyph {
        match self {
            Theme::System => Glyph::Screen,
            Theme::Light => Glyph::Sun,
            Theme::Dark => Glyph::Moon,
        }
    }
}

/// The bar with the links to the pages.
#[component]
pub fn Navigation(
    /// Opens the list of keys.
    on_shortcuts: Callback<()>,
) -> impl IntoView {
    let path = use_location().pathname;
    let is_sessions = Memo::new(move |_| path.read().starts_with("/sessions"));
    let is_chat = Memo::new(move |_| *path.read() == "/" || path.read().starts_with("/chat"));
    let current = move |here: bool| here.then_some("page");
    view! {
        <header class="bar">
            <a class="bar__brand" href="/chat" aria-label="Verbatim, to the conversation">
                <svg class="bar__mark" viewBox="0 0 32 32" aria-hidden="true">
                    <path d="M7 9h18M7 16h18M7 23h10"></path>
                </svg>
                <span class="bar__name">"Verbatim"</span>
            </a>
            <nav class="bar__links" aria-label="Pages">
                <a class="bar__link" href="/chat" aria-current=move || current(is_chat.get())>
                    "Chat"
                </a>
                <a class="bar__link" href="/sessions" aria-current=move || current(is_sessions.get())>
                    "Sessions"
                </a>
            </nav>
            <div class="bar__tools">
                <button
                    type="button"
                    class="button button--quiet button--icon bar__keys"
                    aria-label="Keyboard shortcuts"
                    title="Keyboard shortcuts (?)"
                    on:click=move |_| on_shortcuts.run(())
                >
                    <Icon glyph=Glyph::Keyboard/>
                </button>
                <ThemeSwitch/>
            </div>
        </header>
    }
    .into_any()
}

#[component]
fn ThemeSwitch() -> impl IntoView {
    let theme = RwSignal::new(Theme::System);
    Effect::new(move |_| theme.set(browser::stored(THEME_KEY).map(|text| Theme::parse(&text)).unwrap_or_default()));
    let turn = move |_| {
        let next = theme.get_untracked().next();
        theme.set(next);
        let chosen = (next != Theme::System).then_some(next.as_str());
        browser::store(THEME_KEY, chosen);
        browser::set_root_attribute("data-theme", chosen);
    };
    let label = move || format!("Colours: {}. Change to {}", theme.get().as_str(), theme.get().next().as_str());
    view! {
        <button type="button" class="button button--quiet button--icon" aria-label=label title=label on:click=turn>
            {move || view! { <Icon glyph=theme.get().glyph()/> }}
        </button>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_themes_go_round_and_read_back() {
        for theme in [Theme::System, Theme::Light, Theme::Dark] {
            assert_eq!(theme.next().next().next(), theme);
            assert_eq!(Theme::parse(theme.as_str()), theme);
        }
    }
}
