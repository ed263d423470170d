//! What is shown where there is nothing.

use crate::browser;
use crate::components::shortcuts::Jump;
use leptos::prelude::*;
use leptos_meta::Title;
use leptos_router::NavigateOptions;
use leptos_router::hooks::use_navigate;

/// The page for an address that leads nowhere.
#[component]
pub fn NotFoundPage() -> impl IntoView {
    browser::respond_with_status(404);
    // There is nothing to search here; the sessions are on their page.
    let jump = expect_context::<Jump>();
    let jumps = jump.0.get_untracked();
    let navigate = use_navigate();
    Effect::new(move |_| {
        if jump.0.get() != jumps {
            navigate("/sessions", NavigateOptions::default());
        }
    });
    view! {
        <Title text="Not found"/>
        <main class="page page--center" id="main">
            <NotFound
                title="There is nothing at this address"
                text="The link may be old or mistyped. Your conversations are all on the Sessions page."
            />
        </main>
    }
}

/// Says that something is not there, and where to go.
#[component]
pub fn NotFound(
    /// What is not there.
    #[prop(into)]
    title: String,
    /// Why that may be and what to do.
    #[prop(into)]
    text: String,
) -> impl IntoView {
    view! {
        <section class="state" aria-labelledby="state-title">
            <p class="state__code" aria-hidden="true">"404"</p>
            <h1 class="state__title" id="state-title">{title}</h1>
            <p class="state__text">{text}</p>
            <p class="state__actions">
                <a class="button button--accent" href="/sessions">"To the sessions"</a>
                <a class="button" href="/chat?new">"New conversation"</a>
            </p>
        </section>
    }
}
