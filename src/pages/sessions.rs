//! Sessions: every conversation that is kept, to find, read, take away, delete and continue.

mod details;
mod edits;
mod filter;
mod list;
mod trash;

use super::deletion::{self, Deletion};
use crate::api;
use crate::api::sessions::Loaded;
use crate::browser;
use crate::client::again::Away;
use crate::client::session_manager::SessionManager;
use crate::components::confirm::{Confirm, Question};
use crate::components::icon::{Glyph, Icon};
use crate::components::shortcuts::Jump;
use crate::components::toast::Toaster;
use crate::error::{AppError, ErrorCode};
use crate::model::session::SessionId;
use details::{DetailsView, PAGE_TURNS, Shown, TEXT_ID, take_in_place};
use filter::{Filter, SEARCH_ID, Tools};
use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;
use leptos::web_sys::Element;
use leptos_meta::Title;
use leptos_router::NavigateOptions;
use leptos_router::hooks::{use_location, use_navigate, use_query_map};
use list::{Asked, List, Listing, MOST_ROWS, PAGE_ROWS, row_id};
use trash::TrashLink;

/// How long typing must rest before it is said that a search cannot be understood, in milliseconds.
const ADVICE_REST_MS: u32 = 700;

/// How soon the list is asked for again while the index is not complete, in milliseconds.
const INDEXING_REST_MS: u32 = 2_000;

/// The id of the region that shows a session, and scrolls.
const DETAILS_ID: &str = "details";

/// What the parts of the page share.
#[derive(Clone, Copy)]
struct Shared {
    /// What the list is to show.
    filter: Memo<Filter>,
    /// The session in the address.
    selected: Memo<Option<Result<SessionId, AppError>>>,
    /// Whether the list shows what was deleted.
    is_trash: RwSignal<bool>,
    /// What is to be deleted, while it is asked.
    asked: RwSignal<Option<Question>>,
    /// Takes a session out of the trash.
    on_restore: Callback<SessionId>,
    /// Whether the focus is to go to the text of the session that is being opened.
    is_to_text: StoredValue<bool>,
}

/// The id in the address; `Some(Err)` where what stands there is no id.
fn selected_in(path: &str) -> Option<Result<SessionId, AppError>> {
    let id = path.trim_end_matches('/').strip_prefix("/sessions/")?;
    Some(id.parse().map_err(|_| AppError::no_such_session()))
}

/// Loads the newest turns of a session, at least so many.
async fn load(selected: Option<Result<SessionId, AppError>>, turns: usize) -> Option<Result<Loaded, AppError>> {
    match selected? {
        Ok(id) => Some(api::sessions::load(id, Some(turns), None).await),
        Err(error) => Some(Err(error)),
    }
}

/// The page at `/sessions` and `/sessions/{session_id}`.
#[component]
pub fn SessionsPage() -> impl IntoView {
    let manager = expect_context::<SessionManager>();
    let toaster = expect_context::<Toaster>();
    let jump = expect_context::<Jump>();
    let location = use_location();
    let queries = use_query_map();
    let filter = Memo::new(move |_| {
        queries.with(|queries| Filter::of(queries.get("q"), queries.get("type"), queries.get("sort")))
    });
    let selected = Memo::new(move |_| selected_in(&location.pathname.read()));
    let is_trash = RwSignal::new(filter.read_untracked().is_for_trash() == Ok(true));
    let asked = RwSignal::new(None);

    // "Today" is the person's day; which that is, is known once the page listens.
    let utc_offset = RwSignal::new(0);
    Effect::new(move |_| {
        if let Some(minutes) = browser::utc_offset_minutes()
            && minutes != utc_offset.get_untracked()
        {
            utc_offset.set(minutes);
        }
    });
    let refreshes = RwSignal::new(0_u64);
    let changes = Memo::new(move |_| manager.changes.read().values().sum::<u64>());
    let listing = Listing::new(is_trash);
    // While the index is not complete, the list is asked for again.
    let waits = StoredValue::new(false);
    let looks = RwSignal::new(0_u64);
    Effect::new(move |_| {
        if listing.indexing.read().is_none()
            || waits.try_update_value(|waits| std::mem::replace(waits, true)) != Some(false)
        {
            return;
        }
        spawn_local(async move {
            browser::sleep(INDEXING_REST_MS).await;
            waits.try_update_value(|waits| *waits = false);
            looks.try_update(|looks| *looks += 1);
        });
    });
    let first_asked = Asked { filter: filter.get_untracked(), ..Asked::default() };
    let first_list = {
        let asked = first_asked.clone();
        Resource::new_blocking(
            || (),
            move |()| {
                let asked = asked.clone();
                async move { asked.list(PAGE_ROWS, None).await }
            },
        )
    };
    // Later answers go into the signals, so that what is on the page and did not change stays as it is.
    let list_again = RwSignal::new(0_u64);
    let list_away = Away::new(move || list_again.update(|count| *count += 1));
    let pane = NodeRef::<html::Div>::new();
    // A session that was taken out of the trash gets the focus when its row is there.
    let comes_back = StoredValue::new(None::<SessionId>);
    let list_asked = StoredValue::new(Asked { changes: changes.get_untracked(), ..first_asked.clone() });
    Effect::new(move |_| {
        let asked = Asked {
            filter: filter.get(),
            utc_offset: utc_offset.get(),
            again: refreshes.get() + looks.get() + list_again.get(),
            changes: changes.get(),
        };
        let before = list_asked.get_value();
        if asked == before {
            return;
        }
        let shown = listing.rows.with_untracked(Vec::len) as u64;
        let limit = if asked.filter == before.filter { shown.clamp(PAGE_ROWS, MOST_ROWS) } else { PAGE_ROWS };
        list_asked.set_value(asked.clone());
        spawn_local(async move {
            let listed = asked.list(limit, None).await;
            if listed.as_ref().is_err_and(|error| error.code == ErrorCode::InvalidRequest) {
                // Nothing is wrong yet with what one is still typing.
                browser::sleep(ADVICE_REST_MS).await;
            }
            if list_asked.try_with_value(|current| *current == asked) == Some(true) {
                list_away.note(listed.as_ref().err());
                let keep = keep_in_place(pane, selected, comes_back);
                listing.take(listed, &asked);
                request_animation_frame(keep);
            }
        });
    });

    let details = RwSignal::new(None::<Result<Shown, AppError>>);
    let shown = move |loaded: Option<Result<Loaded, AppError>>| {
        loaded.map(|loaded| loaded.map(|loaded| Shown::new(loaded, manager, toaster)))
    };
    let first_selected = selected.get_untracked();
    let first_details = {
        let selected = first_selected.clone();
        Resource::new_blocking(|| (), move |()| load(selected.clone(), PAGE_TURNS))
    };
    // A change of another session leaves the shown one alone.
    let shown_changes = Memo::new(move |_| match &*selected.read() {
        Some(Ok(id)) => manager.changes.read().get(id).copied().unwrap_or(0),
        _ => 0,
    });
    let details_again = RwSignal::new(0_u64);
    let details_away = Away::new(move || details_again.update(|count| *count += 1));
    let details_asked = StoredValue::new((first_selected, 0, shown_changes.get_untracked()));
    Effect::new(move |_| {
        let asked = (selected.get(), refreshes.get() + details_again.get(), shown_changes.get());
        if details_asked.with_value(|before| *before == asked) {
            return;
        }
        details_asked.set_value(asked.clone());
        let asked_id = asked.0.clone();
        spawn_local(async move {
            let held = move |shown: &Option<Result<Shown, AppError>>| match (shown, &asked_id) {
                (Some(Ok(shown)), Some(Ok(id))) if shown.session_id() == id => Some(shown.held_turns()),
                _ => None,
            };
            let turns = details.try_with_untracked(&held).flatten();
            let loaded = load(asked.0.clone(), turns.unwrap_or(PAGE_TURNS)).await;
            if details_asked.try_with_value(|current| *current == asked) != Some(true) {
                return;
            }
            let failure = loaded.as_ref().and_then(|loaded| loaded.as_ref().err());
            details_away.note(failure);
            // What is shown of the session stays while the server is away.
            let is_away = failure.is_some_and(|error| error.code == ErrorCode::ServerUnreachable);
            if is_away && details.with_untracked(&held).is_some()
                || details.with_untracked(|shown| take_in_place(shown.as_ref(), loaded.as_ref()))
            {
                return;
            }
            if turns.is_none() {
                browser::scroll_to_beginning(DETAILS_ID);
            }
            details.set(shown(loaded));
        });
    });
    let jumps = jump.0.get_untracked();
    Effect::new(move |_| {
        if jump.0.get() != jumps {
            browser::focus_id(SEARCH_ID);
            browser::select_field(SEARCH_ID);
        }
    });
    let navigate = use_navigate();
    let leave = move || navigate(&format!("/sessions{}", filter.get_untracked().search()), NavigateOptions::default());
    let after_deletion = Callback::new(move |what| match what {
        Deletion::Deleted(id) => {
            if manager.session_id.get_untracked().as_ref() == Some(&id) {
                manager.open_new();
            }
            if selected.get_untracked().as_ref() == Some(&Ok(id.clone())) {
                leave();
            }
            listing.remove(&id);
        }
        Deletion::Restored(id) if is_trash.get_untracked() => listing.remove(&id),
        Deletion::Restored(id) => comes_back.set_value(Some(id)),
        Deletion::Removed(id) => {
            // What the details show may be gone for good.
            let is_deleted = |shown: &Result<Shown, AppError>| {
                shown.as_ref().is_err_and(|error| error.code == ErrorCode::SessionDeleted)
            };
            if details.with_untracked(|shown| shown.as_ref().is_some_and(is_deleted))
                && (id.is_none() || selected.get_untracked() == id.clone().map(Ok))
            {
                leave();
            }
            match id {
                Some(id) => listing.remove(&id),
                None => refreshes.update(|count| *count += 1),
            }
        }
    });
    let on_agree = Callback::new(move |question| deletion::carry_out(manager, toaster, question, after_deletion));
    let on_restore = Callback::new(move |id| deletion::restore(manager, toaster, id, after_deletion));
    let is_to_text = StoredValue::new(false);
    let shared = Shared { filter, selected, is_trash, asked, on_restore, is_to_text };
    let arrows = move |event: leptos::ev::KeyboardEvent| {
        // While a word is composed in the search field, they choose among what the input method offers.
        if browser::is_composing(&event) || event.ctrl_key() || event.meta_key() || event.alt_key() || event.shift_key()
        {
            return;
        }
        let delta = match event.key().as_str() {
            "ArrowDown" => 1,
            "ArrowUp" => -1,
            "ArrowRight" => {
                let Some(id) = browser::focused_id().filter(|id| id.starts_with("row-")) else { return };
                event.prevent_default();
                let is_shown = selected.with_untracked(|selected| {
                    selected
                        .as_ref()
                        .is_some_and(|selected| selected.as_ref().is_ok_and(|selected| row_id(selected) == id))
                });
                if !(is_shown && browser::focus_id(TEXT_ID)) {
                    is_to_text.set_value(true);
                    browser::click_id(&id);
                }
                return;
            }
            _ => return,
        };
        // There the keys choose and scroll.
        let is_elsewhere = event_target::<Element>(&event).matches("select, .help *");
        if let Some(pane) = pane.get_untracked()
            && is_elsewhere == Ok(false)
        {
            event.prevent_default();
            browser::move_focus(&pane, ".row__link", delta);
        }
    };
    // The way back from a session's text to its row; in a field the key takes back what was typed.
    let back_to_row = move |event: leptos::ev::KeyboardEvent| {
        if event.key() == "Escape"
            && !event.default_prevented()
            && !browser::is_typing(&event)
            && let Some(Ok(id)) = selected.get_untracked()
            && browser::focus_id(&row_id(&id))
        {
            event.prevent_default();
        }
    };
    // The title may be asked for once more while the page that comes takes this one's place, when the signals are gone.
    let title = move || {
        let is_trash = is_trash.try_get() == Some(true);
        let title = details.try_with(|details| match details {
            None if is_trash => "Trash".to_owned(),
            None => "Sessions".to_owned(),
            Some(Ok(shown)) => shown.title(),
            Some(Err(error)) => match error.code {
                ErrorCode::NotFound | ErrorCode::InvalidRequest => "Not found".to_owned(),
                ErrorCode::SessionDeleted => "In the trash".to_owned(),
                _ => "Cannot be shown".to_owned(),
            },
        });
        title.unwrap_or_default()
    };
    view! {
        <Title text="Sessions"/>
        <main class="sessions" id="main" class:sessions--open=move || selected.read().is_some()>
            <div class="sessions__side" on:keydown=arrows>
                <div class="sessions__head">
                    <h1 class="sessions__title">"Sessions"</h1>
                    <TrashLink is_trash/>
                </div>
                <Tools shared advice=listing.advice on_refresh=Callback::new(move |()| refreshes.update(|count| *count += 1))/>
                <div class="sessions__list" node_ref=pane>
                    <Suspense fallback=|| view! { <p class="state state--small">"Loading the sessions…"</p> }>
                        {move || {
                            let asked = first_asked.clone();
                            Suspend::new(async move {
                                let listed = first_list.await;
                                if !listing.is_answered() {
                                    list_away.note(listed.as_ref().err());
                                    listing.take(listed, &asked);
                                }
                                view! {
                                    <List
                                        listing
                                        shared
                                        on_again=Callback::new(move |()| refreshes.update(|count| *count += 1))
                                    />
                                }
                            })
                        }}
                    </Suspense>
                </div>
            </div>
            <section class="details" id=DETAILS_ID role="region" aria-label="Session details" on:keydown=back_to_row>
                <Suspense fallback=|| view! { <p class="state state--small">"Loading the session…"</p> }>
                    {move || Suspend::new(async move {
                        let loaded = first_details.await;
                        if let Some(Err(error)) = &loaded {
                            browser::respond_with_status(error.code.status());
                        }
                        // The answer about a session that was chosen meanwhile may have been quicker.
                        if details.with_untracked(Option::is_none) {
                            details_away.note(loaded.as_ref().and_then(|loaded| loaded.as_ref().err()));
                            details.set(shown(loaded));
                        }
                        view! {
                            <Title text=browser::title(title)/>
                            <DetailsView details shared/>
                        }
                    })}
                </Suspense>
            </section>
        </main>
        <Confirm asked on_agree/>
    }
    .into_any()
}

/// Before the list changes: what puts the selected row into view again if it is in view now, as when it is pinned and moves, and the
/// focus to the row that has it now, or to the one that came back, if what has the focus goes.
fn keep_in_place(
    pane: NodeRef<html::Div>,
    selected: Memo<Option<Result<SessionId, AppError>>>,
    comes_back: StoredValue<Option<SessionId>>,
) -> impl FnOnce() + 'static {
    let selected = selected.get_untracked().and_then(Result::ok).map(|id| row_id(&id));
    let pane = pane.get_untracked();
    let seen = selected.filter(|row| pane.as_ref().is_some_and(|pane| browser::is_in_view(row, pane)));
    let focused = browser::focused_id().filter(|id| id.starts_with("row-"));
    move || {
        let back = comes_back.try_update_value(Option::take).flatten();
        if browser::focused_id().is_none() {
            let rows = focused.into_iter().chain(back.map(|id| row_id(&id)));
            let _ = rows.into_iter().any(|row| browser::focus_id(&row));
        }
        if let Some(row) = seen {
            browser::bring_into_view(&row);
        }
    }
}

/// Downloads one session as JSON; the browser streams it to disk.
fn export(id: SessionId, is_icon: bool) -> AnyView {
    let class = if is_icon { "button button--quiet button--icon" } else { "button" };
    view! {
        <form class="inline" method="post" action="/api/sessions/export">
            <input type="hidden" name="session_id" value=id.to_string()/>
            <button type="submit" class=class aria-label="Export" title="Download as JSON">
                <Icon glyph=Glyph::Download/>
                {(!is_icon).then_some("Export")}
            </button>
        </form>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_names_the_session() {
        assert_eq!(selected_in("/sessions"), None);
        assert_eq!(selected_in("/sessions/"), None);
        assert!(matches!(selected_in("/sessions/abc"), Some(Ok(id)) if id.as_str() == "abc"));
        assert!(matches!(selected_in("/sessions/a.b"), Some(Err(_))));
    }
}
