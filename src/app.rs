//! The document around the pages, their addresses, and what is listened to on every page.

use crate::browser;
use crate::client::session_manager::SessionManager;
use crate::components::navigation::Navigation;
use crate::components::shortcuts::{Jump, Shortcuts};
use crate::components::toast::{Toaster, Toasts};
use crate::pages::chat::ChatPage;
use crate::pages::not_found::NotFoundPage;
use crate::pages::sessions::SessionsPage;
use leptos::prelude::*;
use leptos_meta::{HashedStylesheet, MetaTags, Title, provide_meta_context};
use leptos_router::SsrMode;
use leptos_router::components::{ParentRoute, Route, Router, Routes};
use leptos_router::path;

/// What the server's options say about the pages; given to [`shell`] as context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSettings {
    /// Seconds between two automatic saves.
    pub autosave_seconds: u32,
}

/// The document that the server sends.
pub fn shell(options: LeptosOptions) -> impl IntoView {
    let autosave = use_context::<PageSettings>().map(|settings| settings.autosave_seconds.to_string());
    view! {
        <!DOCTYPE html>
        <html lang="en">
            <head>
                <meta charset="utf-8"/>
                <meta name="viewport" content="width=device-width, initial-scale=1"/>
                <meta name="color-scheme" content="light dark"/>
                <meta name="theme-color" media="(prefers-color-scheme: light)" content="#fdfcfa"/>
                <meta name="theme-color" media="(prefers-color-scheme: dark)" content="#191817"/>
                <meta name="description" content="Every conversation with an assistant, kept word for word."/>
                {autosave.map(|seconds| view! { <meta name="verbatim-autosave-seconds" content=seconds/> })}
                <link rel="icon" href="/icon.svg" type="image/svg+xml"/>
                <link rel="manifest" href="/manifest.webmanifest"/>
                <script src="/theme.js"></script>
                <HashedStylesheet options=options.clone() id="leptos"/>
                <AutoReload options=options.clone()/>
                <HydrationScripts options/>
                <MetaTags/>
            </head>
            <body>
                <App/>
                // After the pages: the script looks for them at the beginning.
                <noscript>
                    <p class="dead">
                        "JavaScript is switched off, so nothing can be written or changed here. Sessions can be read, searched and downloaded: "
                        <a href="/sessions">"to the sessions"</a>
                    </p>
                </noscript>
            </body>
        </html>
    }
}

/// The pages and what is around them.
#[component]
pub fn App() -> impl IntoView {
    provide_meta_context();
    let manager = SessionManager::new();
    let toaster = Toaster::default();
    let jump = Jump(RwSignal::new(0));
    provide_context(manager);
    provide_context(toaster);
    provide_context(jump);
    let keys_shown = RwSignal::new(false);
    Effect::new(move |_| {
        manager.run();
        listen_to_keys(jump, keys_shown);
        browser::set_root_attribute("data-hydrated", Some(""));
    });
    view! {
        <Title formatter=page_title/>
        <a class="skip" href="#main">"To the content"</a>
        <Router>
            <Navigation on_shortcuts=Callback::new(move |()| keys_shown.set(true))/>
            <Routes fallback=NotFoundPage>
                // One page for all addresses of a conversation, so that it stays when a new session gets its own.
                <ParentRoute path=path!("") view=ChatPage ssr=SsrMode::Async>
                    <Route path=path!("/") view=|| () ssr=SsrMode::Async/>
                    <Route path=path!("/chat/:session_id?") view=|| () ssr=SsrMode::Async/>
                </ParentRoute>
                <Route path=path!("/sessions/:session_id?") view=SessionsPage ssr=SsrMode::Async/>
            </Routes>
        </Router>
        <Toasts toaster/>
        <Shortcuts is_open=keys_shown/>
    }
}

fn listen_to_keys(jump: Jump, keys_shown: RwSignal<bool>) {
    let handle = window_event_listener(leptos::ev::keydown, move |event| {
        let is_jump = (event.ctrl_key() || event.meta_key())
            && !event.shift_key()
            && !event.alt_key()
            && event.key().eq_ignore_ascii_case("k");
        if is_jump {
            event.prevent_default();
            // A key that is held down asks once.
            if !event.repeat() {
                jump.0.update(|count| *count += 1);
            }
            return;
        }
        if browser::is_typing(&event) || event.ctrl_key() || event.meta_key() || event.alt_key() {
            return;
        }
        match event.key().as_str() {
            "?" => keys_shown.set(true),
            "/" if browser::focus_id("session-search") => event.prevent_default(),
            _ => {}
        }
    });
    on_cleanup(move || handle.remove());
}

/// What a window is called that shows a page of this title.
fn page_title(text: String) -> String {
    // `leptos_meta` writes the title into the HTML as it is, so it must be markup there, and text in the browser.
    let text = browser::title_text(text);
    if text.is_empty() { "Verbatim".to_owned() } else { format!("{text} · Verbatim") }
}
