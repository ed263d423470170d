//! Chat: one conversation, and whoever answers.

mod reading;
mod transcript;

use self::reading::Reading;
use self::transcript::Transcript;
use super::deletion::{self, Deletion};
use super::not_found::NotFound;
use crate::api;
use crate::api::sessions::Loaded;
use crate::browser;
use crate::client::again::Away;
use crate::client::journal;
use crate::client::session_manager::{SessionManager, left_to_start};
use crate::client::turns::PART_TURNS;
use crate::components::composer::Composer;
use crate::components::confirm::{Confirm, Doomed, Question};
use crate::components::icon::{Glyph, Icon};
use crate::components::queue::QueueView;
use crate::components::session_browser::{Found, SessionBrowser};
use crate::components::shortcuts::Jump;
use crate::components::toast::{Toaster, Toasts};
use crate::error::{AppError, ErrorCode};
use crate::model::session::{Kind, SessionId};
use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;
use leptos_meta::Title;
use leptos_router::NavigateOptions;
use leptos_router::hooks::{use_location, use_navigate};

/// Sessions in the dialog.
const RECENT_SESSIONS: u64 = 50;

/// How long typing must rest before a search, in milliseconds.
const SEARCH_REST_MS: u32 = 150;

/// Which conversation an address means.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// The one that was last used.
    Last,
    /// A new, empty one.
    New,
    /// This one.
    Session(SessionId),
    /// None: the id in the address is no id.
    Nonsense,
    /// None: the address is another page's, and this one is about to go.
    Elsewhere,
}

impl Target {
    fn of(path: &str, search: &str) -> Self {
        let path = path.trim_end_matches('/');
        match path.strip_prefix("/chat/") {
            None if !matches!(path, "" | "/chat") => Target::Elsewhere,
            Some(id) => id.parse().map_or(Target::Nonsense, Target::Session),
            None if search.trim_start_matches('?').split('&').any(|pair| pair == "new" || pair == "new=") => {
                Target::New
            }
            None => Target::Last,
        }
    }

    /// Whether the session in hand is what is meant.
    fn is_held(&self, manager: SessionManager) -> bool {
        let held = manager.session_id.get_untracked();
        match self {
            Target::Last => held.is_some() || untrack(|| !manager.is_empty()),
            Target::New => held.is_none() && manager.visits.get_untracked() > 0,
            Target::Session(id) => held.as_ref() == Some(id),
            Target::Nonsense | Target::Elsewhere => false,
        }
    }
}

async fn load(target: Target) -> Result<Option<Loaded>, AppError> {
    let id = match target {
        Target::New | Target::Elsewhere => return Ok(None),
        Target::Nonsense => return Err(AppError::no_such_session()),
        Target::Session(id) => id,
        Target::Last => {
            // The plain list begins with pinned sessions, a search with the newest.
            let query = Some("-is:archived".to_owned());
            let listed = api::sessions::list(Some(1), None, query, Some(Kind::Chat), None, None, None).await?;
            match listed.sessions.into_iter().next() {
                Some(newest) => newest.session_id,
                None => return Ok(None),
            }
        }
    };
    api::sessions::load(id, Some(PART_TURNS), None).await.map(Some)
}

/// Takes in hand what was loaded; what could not be loaded is shown instead.
fn take_in_hand(
    manager: SessionManager,
    failure: RwSignal<Option<AppError>>,
    target: &Target,
    loaded: Result<Option<Loaded>, AppError>,
) {
    match loaded {
        Ok(Some(loaded)) => manager.open(loaded),
        Ok(None) if target.is_held(manager) => {}
        Ok(None) => manager.open_new(),
        Err(error) => {
            browser::respond_with_status(error.code.status());
            if error.code == ErrorCode::ServerUnreachable {
                manager.note_server(false);
            }
            failure.set(Some(error));
            return;
        }
    }
    failure.set(None);
}

/// The page at `/`, `/chat` and `/chat/{session_id}`.
#[component]
pub fn ChatPage() -> impl IntoView {
    let manager = expect_context::<SessionManager>();
    let location = use_location();
    let target = Memo::new(move |_| Target::of(&location.pathname.read(), &location.search.read()));
    let failure = RwSignal::new(None::<AppError>);
    let first_target = target.get_untracked();
    let first = {
        let target = first_target.clone();
        Resource::new_blocking(
            || (),
            move |()| {
                let target = target.clone();
                async move { if target.is_held(manager) { Ok(None) } else { load(target).await } }
            },
        )
    };

    // Later addresses are opened without building the page anew, so that the composer keeps its focus.
    let opened = StoredValue::new(first_target.clone());
    Effect::new(move |_| {
        let target = target.get();
        // The address changes before the page goes: one that leads elsewhere must not be answered with ours.
        if target == Target::Elsewhere || opened.with_value(|opened| *opened == target) {
            return;
        }
        opened.set_value(target.clone());
        if target.is_held(manager) {
            failure.set(None);
            show_address(manager, &target);
            return;
        }
        if target == Target::New {
            failure.set(None);
            manager.open_new();
            return;
        }
        spawn_local(async move {
            let loaded = load(target.clone()).await;
            if opened.try_with_value(|opened| *opened == target) == Some(true) {
                take_in_hand(manager, failure, &target, loaded);
            }
        });
    });

    let ask_again = move || {
        let target = target.get_untracked();
        spawn_local(async move {
            let loaded = load(target.clone()).await;
            if opened.try_with_value(|opened| *opened == target) == Some(true) {
                take_in_hand(manager, failure, &target, loaded);
            }
        });
    };
    let on_again = Callback::new(move |()| ask_again());
    let away = Away::new(ask_again);
    // A failure is set anew by each answer, also by one like that before.
    Effect::new(move |_| away.note(failure.read().as_ref()));

    // A session that was just started, or opened as the last one, gets its own address.
    let navigate = use_navigate();
    Effect::new(move |_| {
        let Some(id) = manager.session_id.get() else { return };
        let target = target.get_untracked();
        if matches!(target, Target::Last | Target::New) {
            let address = format!("/chat/{id}");
            opened.set_value(Target::Session(id));
            navigate(&address, NavigateOptions { replace: true, scroll: false, ..NavigateOptions::default() });
        }
    });

    view! {
        <Suspense fallback=|| {
            view! {
                <main class="page page--center" id="main">
                    <p class="state state--small">"Opening the conversation…"</p>
                </main>
            }
        }>
            {move || {
                let target = first_target.clone();
                Suspend::new(async move {
                    let loaded = first.await;
                    take_in_hand(manager, failure, &target, loaded);
                    view! { <Conversation manager failure on_again/> }
                })
            }}
        </Suspense>
    }
    .into_any()
}

/// A kept draft with what was typed before it could be shown.
fn joined_draft(kept: String, typed: String) -> String {
    match (kept.trim().is_empty(), typed.trim().is_empty()) {
        (_, true) => kept,
        (true, false) => typed,
        // The browser itself may have filled in what it remembers.
        (false, false) if typed.starts_with(&kept) => typed,
        (false, false) => format!("{kept}\n{typed}"),
    }
}

/// Puts the held session's id into the address where the address only says "the last one".
fn show_address(manager: SessionManager, target: &Target) {
    if let (Target::Last, Some(id)) = (target, manager.session_id.get_untracked()) {
        let options = NavigateOptions { replace: true, scroll: false, ..NavigateOptions::default() };
        use_navigate()(&format!("/chat/{id}"), options);
    }
}

#[component]
fn Conversation(manager: SessionManager, failure: RwSignal<Option<AppError>>, on_again: Callback<()>) -> impl IntoView {
    let toaster = expect_context::<Toaster>();
    let jump = expect_context::<Jump>();
    let draft = RwSignal::new(String::new());
    // What was typed before the page listened is not to be lost. The first view is the server's; the effect below shows it.
    let typed_early = browser::value_of("message");
    let field = NodeRef::<html::Textarea>::new();
    let is_browsing = RwSignal::new(false);
    let asked = RwSignal::new(None::<Question>);
    let rows = Memo::new(move |_| manager.rows());
    let reading = Reading::new(manager, rows);
    let is_busy = Signal::derive(move || manager.live.read().is_some());

    // A conversation that comes in hand brings its draft, and is read from its end.
    Effect::new(move |earlier: Option<()>| {
        manager.visits.track();
        let id = manager.session_id.get_untracked();
        let kept = manager.drafts.of(id.as_ref());
        let typed = if earlier.is_none() { typed_early.clone() } else { String::new() };
        let words = joined_draft(kept, typed);
        manager.drafts.keep(id.as_ref(), &words);
        draft.set(words);
        reading.go_to_newest();
        if browser::has_fine_pointer() {
            browser::focus_id("message");
        }
    });
    reading.run();
    stop_with_escape(manager);
    // A page that says that it is tried again by itself does so.
    Effect::new(move |was_away: Option<bool>| {
        let is_away = manager.is_away.get();
        let is_unreachable = |error: &AppError| error.code == ErrorCode::ServerUnreachable;
        if was_away == Some(true)
            && !is_away
            && failure.with_untracked(|failure| failure.as_ref().is_some_and(is_unreachable))
        {
            on_again.run(());
        }
        is_away
    });
    // Words that could not even begin a session come before the session that was last used.
    let navigate = use_navigate();
    let location = use_location();
    Effect::new(move |_| {
        let target = Target::of(&location.pathname.read_untracked(), &location.search.read_untracked());
        let has_session = manager.session_id.get_untracked().is_some();
        if target != Target::Last || !has_session || manager.is_at_work() || journal::unsaved(None).is_empty() {
            return;
        }
        let navigate = navigate.clone();
        let visit = manager.visits.get_untracked();
        spawn_local(async move {
            let is_left = left_to_start().await.is_some();
            if is_left && manager.visits.get_untracked() == visit && !manager.is_at_work() {
                manager.open_new();
                navigate("/chat?new", NavigateOptions { replace: true, ..NavigateOptions::default() });
            }
        });
    });
    let jumps = jump.0.get_untracked();
    Effect::new(move |_| {
        if jump.0.get() != jumps {
            // The same keys close it.
            is_browsing.update(|is_browsing| *is_browsing = !*is_browsing);
        }
    });

    let on_send = Callback::new(move |text: String| {
        manager.drafts.forget(manager.session_id.get_untracked().as_ref());
        reading.go_to_newest();
        manager.send(text);
    });
    let waiting = Memo::new(move |_| manager.queue.waiting());
    // Nothing is said of it while a reply comes, which changes it at each word.
    let hold = Memo::new(move |_| if is_busy.get() { None } else { manager.hold() });
    let on_take_back = Callback::new(move |id: String| {
        let Some(taken) = manager.queue.take(&id) else { return };
        let words = draft.with_untracked(|typed| match typed.trim().is_empty() {
            true => taken.content.clone(),
            false => format!("{}\n{typed}", taken.content),
        });
        manager.drafts.keep(manager.session_id.get_untracked().as_ref(), &words);
        draft.set(words);
        browser::focus_id("message");
    });
    let start_anew = {
        let navigate = use_navigate();
        move |_| {
            failure.set(None);
            manager.open_new();
            navigate("/chat?new", NavigateOptions::default());
            browser::focus_id("message");
        }
    };
    let after_deletion = {
        let navigate = use_navigate();
        Callback::new(move |what| match what {
            Deletion::Deleted(id) if manager.session_id.get_untracked().as_ref() == Some(&id) => {
                manager.open_new();
                navigate("/chat?new", NavigateOptions::default());
            }
            Deletion::Restored(id) if manager.session_id.get_untracked().is_none() => {
                navigate(&format!("/chat/{id}"), NavigateOptions::default());
            }
            _ => {}
        })
    };
    let on_agree = Callback::new(move |question: Question| {
        deletion::carry_out(manager, toaster, question, after_deletion);
    });
    let (query, recent) = recent_sessions(manager, is_browsing);
    let failed = Memo::new(move |_| failure.get());
    // It may be asked for once more when the page has been left and `failed` is gone.
    let title = browser::title(move || match failed.try_get().flatten() {
        Some(error) if is_missing(&error) => "Not found".to_owned(),
        Some(_) => "Cannot be opened".to_owned(),
        None => manager.title(),
    });

    view! {
        <Title text=title/>
        <main class="chat" id="main">
            <div class="chat__head">
                <div class="chat__names">
                    <h1 class="chat__title" dir="auto" hidden=move || failed.read().is_some()>{move || manager.title()}</h1>
                    <div class="chat__facts" hidden=move || failed.read().is_some()>
                        {move || manager.session_id.get().map(|id| view! { <SessionIdButton id toaster/> })}
                        <SaveStatus manager/>
                    </div>
                </div>
                <div class="chat__buttons">
                    <button type="button" class="button" title="New session" aria-label="New session" on:click=start_anew>
                        <Icon glyph=Glyph::Plus/>
                        <span class="button__text" aria-hidden="true">"New session"</span>
                    </button>
                    <button
                        type="button"
                        class="button"
                        title="Sessions (Ctrl K)"
                        aria-label="Sessions"
                        aria-haspopup="dialog"
                        on:click=move |_| is_browsing.set(true)
                    >
                        <Icon glyph=Glyph::List/>
                        <span class="button__text" aria-hidden="true">"Sessions"</span>
                    </button>
                </div>
            </div>
            {move || match failed.get() {
                Some(error) => view! { <Failure error on_again/> }.into_any(),
                None => {
                    view! {
                        <div class="chat__body">
                            <div
                                class="chat__scroll"
                                node_ref=reading.scroller
                                role="region"
                                aria-label="Conversation"
                                tabindex="0"
                                on:scroll=move |_| reading.on_scroll()
                                on:click=move |event| {
                                    browser::copy_clicked_code(&event);
                                }
                            >
                                <Transcript manager toaster rows reading/>
                            </div>
                            <button
                                type="button"
                                class="button chat__jump"
                                hidden=move || reading.is_at_newest()
                                on:click=move |_| reading.go_to_newest()
                            >
                                <Icon glyph=Glyph::Down/>
                                "Jump to latest"
                            </button>
                        </div>
                        // Between the conversation and the field, so that it covers neither.
                        <Toasts toaster/>
                        <div class="chat__foot">
                            <Absence manager/>
                            <QueueView
                                waiting
                                hold
                                is_busy
                                on_take_back
                                on_send=Callback::new(move |()| {
                                    reading.go_to_newest();
                                    manager.send_queued();
                                })
                            />
                            <Composer
                                draft
                                modes=manager.modes.into()
                                is_busy
                                field
                                on_input=Callback::new(move |text: String| {
                                    manager.drafts.keep(manager.session_id.get_untracked().as_ref(), &text);
                                })
                                on_send
                                on_stop=Callback::new(move |()| manager.stop())
                                on_modes=Callback::new(move |modes| manager.set_modes(modes))
                            />
                        </div>
                    }
                        .into_any()
                }
            }}
        </main>
        <SessionBrowser
            is_open=is_browsing
            query
            rows=recent.into()
            current=manager.session_id.into()
            on_delete=Callback::new(move |(id, name)| asked.set(Some(Question { what: Doomed::ToTrash(id), name })))
        />
        <Confirm asked on_agree/>
    }
    .into_any()
}

/// The rows of the dialog, asked for while it is open: at its opening, when typing rests, and when something changed.
#[allow(clippy::type_complexity)]
fn recent_sessions(manager: SessionManager, is_open: RwSignal<bool>) -> (RwSignal<String>, RwSignal<Option<Found>>) {
    let query = RwSignal::new(String::new());
    let rows = RwSignal::new(None);
    let asked = StoredValue::new(0_u64);
    let again = RwSignal::new(0_u64);
    let away = Away::new(move || again.update(|count| *count += 1));
    Effect::new(move |_| {
        manager.changes.track();
        again.track();
        let words = query.get();
        if !is_open.get() {
            away.note(None);
            return;
        }
        let number = asked.try_update_value(|count| {
            *count += 1;
            *count
        });
        spawn_local(async move {
            let is_current = move || asked.try_get_value() == number;
            if !words.is_empty() {
                browser::sleep(SEARCH_REST_MS).await;
            }
            if !is_current() {
                return;
            }
            let listed =
                api::sessions::list(Some(RECENT_SESSIONS), None, Some(words.clone()), None, None, None, None).await;
            if is_current() {
                away.note(listed.as_ref().err());
                rows.set(Some((words, listed.map(|listed| listed.sessions))));
            }
        });
    });
    (query, rows)
}

/// Stops the reply with Escape, wherever the focus is, except where Escape has another meaning.
fn stop_with_escape(manager: SessionManager) {
    Effect::new(move |_| {
        let handle = window_event_listener(leptos::ev::keydown, move |event| {
            let is_plain =
                !(event.ctrl_key() || event.meta_key() || event.alt_key() || event.shift_key() || event.repeat());
            if event.key() == "Escape"
                && is_plain
                && !browser::is_composing(&event)
                && !event.default_prevented()
                && manager.live.read_untracked().as_ref().is_some_and(|live| !live.stopping)
                && !browser::is_something_open()
            {
                event.prevent_default();
                manager.stop();
            }
        });
        on_cleanup(move || handle.remove());
    });
}

#[component]
fn SessionIdButton(id: SessionId, toaster: Toaster) -> impl IntoView {
    let text = id.to_string();
    let copy = move |_| {
        let text = id.to_string();
        spawn_local(async move {
            let said = if browser::copy(text).await {
                "The session id is copied."
            } else {
                "The browser does not allow copying."
            };
            toaster.say(said, None);
        });
    };
    view! {
        <button
            type="button"
            class="chat__id"
            data-testid="session-id"
            title="Session id. Click to copy it."
            aria-description="Copies the session id"
            on:click=copy
        >
            {text}
        </button>
    }
}

#[component]
fn SaveStatus(manager: SessionManager) -> impl IntoView {
    let now = RwSignal::new(None::<f64>);
    // The clock begins in an effect, so that the first view is the server's.
    Effect::new(move |_| {
        now.set(Some(browser::now_ms()));
        manager.save_state.track();
    });
    Effect::new(move |_| {
        let tick =
            set_interval_with_handle(move || now.set(Some(browser::now_ms())), std::time::Duration::from_secs(1));
        on_cleanup(move || {
            if let Ok(tick) = tick {
                tick.clear();
            }
        });
    });
    let state = manager.save_state;
    // What is not saved says by itself why.
    let is_away = Memo::new(move |_| manager.is_away.get() && !state.read().is_trouble());
    view! {
        // A screen reader hears of trouble and its end, not of each second that passes.
        <span
            class=move || format!("save save--{}", if is_away.get() { "trouble" } else { state.read().as_str() })
            role="status"
            aria-live=move || if state.read().is_trouble() || is_away.get() { "polite" } else { "off" }
        >
            {move || {
                if is_away.get() {
                    // Without the age, which would be said each second.
                    format!("{} · the server cannot be reached", state.read().text(None))
                } else {
                    state.read().text(now.get())
                }
            }}
        </span>
    }
}

/// Whether there is no such session, so that trying again does not help.
fn is_missing(error: &AppError) -> bool {
    matches!(error.code, ErrorCode::NotFound | ErrorCode::InvalidRequest)
}

#[component]
fn Failure(error: AppError, on_again: Callback<()>) -> impl IntoView {
    if is_missing(&error) {
        return view! {
            <div class="page page--center">
                <NotFound title="There is no session with this id" text="It may have been deleted, or the link is mistyped."/>
            </div>
        }
        .into_any();
    }
    view! {
        <div class="page page--center">
            <section class="state" role="alert">
                <h1 class="state__title">"The conversation cannot be opened"</h1>
                <p class="state__text">{error.message}</p>
                <p class="state__actions">
                    <button type="button" class="button button--accent" on:click=move |_| on_again.run(())>
                        "Try again"
                    </button>
                    <a class="button" href="/sessions">"To the sessions"</a>
                </p>
            </section>
        </div>
    }
    .into_any()
}

/// What to do while no assistant can be reached, or how long one will need that cannot answer yet.
#[component]
fn Absence(manager: SessionManager) -> impl IntoView {
    move || {
        let status = manager.assistant.get()?;
        let (class, told, more) = match status.model {
            None => ("absence", status.advice?, "It is looked for again every 10 seconds. What you write now is kept."),
            Some(_) => {
                ("absence absence--soon", status.waits_for?, "Write now: it answers by itself when that is done.")
            }
        };
        Some(view! {
            <div class=class role="note">
                <p>{told}</p>
                <p class="absence__more">{more}</p>
            </div>
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_keeps_what_was_typed_early() {
        for (kept, typed, expected) in
            [("", "", ""), ("a", "", "a"), ("a", " ", "a"), ("", "b", "b"), ("a", "ab", "ab"), ("a", "b", "a\nb")]
        {
            assert_eq!(joined_draft(kept.into(), typed.into()), expected, "{kept} {typed}");
        }
    }

    #[test]
    fn an_address_means_a_conversation() {
        let id: SessionId = "abc".parse().unwrap();
        for (path, search, expected) in [
            ("/", "", Target::Last),
            ("/chat", "", Target::Last),
            ("/chat/", "", Target::Last),
            ("/chat", "new", Target::New),
            ("/chat", "?new=", Target::New),
            ("/chat", "?newer", Target::Last),
            ("/chat/abc", "?new", Target::Session(id.clone())),
            ("/chat/abc/", "", Target::Session(id)),
            ("/chat/a.b", "", Target::Nonsense),
            ("/chat/..%2f", "", Target::Nonsense),
            ("/sessions", "", Target::Elsewhere),
            ("/sessions/abc", "?new", Target::Elsewhere),
        ] {
            assert_eq!(Target::of(path, search), expected, "{path} {search}");
        }
    }
}
