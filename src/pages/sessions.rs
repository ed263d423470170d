//! Sessions: every conversation that is kept, to find, read, take away, delete and continue.

use super::deletion::{self, Deletion};
use super::not_found::NotFound;
use crate::api;
use crate::api::sessions::{Listed, Loaded};
use crate::browser::{self, TimeStyle};
use crate::client::session_manager::{Row, SessionManager, Turn};
use crate::components::confirm::ConfirmDelete;
use crate::components::icon::{Glyph, Icon};
use crate::components::local_time::LocalTime;
use crate::components::session_browser::{counted, display_title, kind_sign};
use crate::components::shortcuts::Jump;
use crate::components::toast::Toaster;
use crate::components::transcript::TurnView;
use crate::error::{AppError, ErrorCode};
use crate::model::session::{Kind, Match, SessionId, Summary, first_characters};
use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;
use leptos_meta::Title;
use leptos_router::NavigateOptions;
use leptos_router::hooks::{use_location, use_navigate, use_query_map};
use std::collections::HashSet;

/// Rows that are asked for at once.
const PAGE_ROWS: u64 = 100;

/// Rows that the server answers with at most.
const MOST_ROWS: u64 = 1_000;

/// Turns of a session that are shown at once.
const PAGE_TURNS: usize = 100;

/// How long typing must rest before a search, in milliseconds.
const SEARCH_REST_MS: u32 = 150;

/// How many characters of an id a row shows.
const SHORT_ID_CHARACTERS: usize = 8;

/// How many places where a search was found a row shows.
const SHOWN_MATCHES: usize = 2;

/// What the list shows, as it stands in the address.
#[derive(Clone, Debug, Default, PartialEq)]
struct Filter {
    query: String,
    kind: Option<Kind>,
}

impl Filter {
    fn of(query: Option<String>, kind: Option<String>) -> Self {
        let kind = match kind.as_deref() {
            Some("chat") => Some(Kind::Chat),
            Some("voice") => Some(Kind::Voice),
            _ => None,
        };
        Self { query: query.unwrap_or_default(), kind }
    }

    /// The end of an address: nothing, or `?q=…&type=…`.
    fn search(&self) -> String {
        let mut pairs = Vec::new();
        if !self.query.is_empty() {
            pairs.push(format!("q={}", leptos_router::location::Url::escape(&self.query)));
        }
        if let Some(kind) = self.kind {
            pairs.push(format!("type={}", kind.as_str()));
        }
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }

    fn is_empty(&self) -> bool {
        self.query.trim().is_empty() && self.kind.is_none()
    }
}

/// The id in the address; `Some(Err)` where what stands there is no id.
fn selected_in(path: &str) -> Option<Result<SessionId, AppError>> {
    let id = path.trim_end_matches('/').strip_prefix("/sessions/")?;
    Some(id.parse().map_err(|_| AppError::no_such_session()))
}

/// What the parts of the page share.
#[derive(Clone, Copy)]
struct Shared {
    filter: Memo<Filter>,
    selected: Memo<Option<Result<SessionId, AppError>>>,
    asked: RwSignal<Option<(SessionId, String)>>,
}

/// What a list was asked for with.
#[derive(Clone, Debug, Default, PartialEq)]
struct Asked {
    filter: Filter,
    utc_offset: i32,
    refreshes: u64,
    changes: u64,
}

impl Asked {
    async fn list(&self, limit: u64, cursor: Option<String>) -> Result<Listed, AppError> {
        let Filter { query, kind } = self.filter.clone();
        api::sessions::list(Some(limit), None, Some(query), kind, None, cursor, Some(self.utc_offset)).await
    }
}

/// What the list shows.
#[derive(Clone, Copy)]
struct Listing {
    rows: RwSignal<Vec<Summary>>,
    cursor: RwSignal<Option<String>>,
    facts: RwSignal<Vec<(&'static str, String)>>,
    is_filtered: RwSignal<bool>,
    trouble: RwSignal<Option<String>>,
}

impl Listing {
    fn new() -> Self {
        Self {
            rows: RwSignal::new(Vec::new()),
            cursor: RwSignal::new(None),
            facts: RwSignal::new(Vec::new()),
            is_filtered: RwSignal::new(false),
            trouble: RwSignal::new(None),
        }
    }

    /// Whether anything was answered yet.
    fn is_answered(&self) -> bool {
        !self.facts.read_untracked().is_empty()
    }

    /// Shows an answer; when there is none, what was shown stays.
    fn take(&self, listed: Result<Listed, AppError>, asked: &Asked) {
        match listed {
            Ok(listed) => {
                let bound = if listed.filtered_is_lower_bound { "+" } else { "" };
                self.facts.set(vec![
                    ("Total", listed.total_sessions.to_string()),
                    ("Filtered", format!("{}{bound}", listed.filtered_sessions)),
                    ("Today", listed.sessions_today.to_string()),
                    ("This week", listed.sessions_this_week.to_string()),
                    ("Messages", listed.total_messages.to_string()),
                ]);
                self.is_filtered.set(!asked.filter.is_empty());
                self.cursor.set(listed.next_cursor);
                self.trouble.set(None);
                self.rows.set(listed.sessions);
            }
            Err(error) => self.trouble.set(Some(error.message)),
        }
    }

    /// Takes a row away; the focus goes to the one that comes into its place, else to the last one, else to the search.
    fn remove(&self, id: &SessionId) {
        let place = self.rows.with_untracked(|rows| rows.iter().position(|row| row.session_id == *id));
        let Some(place) = place else { return };
        self.rows.update(|rows| drop(rows.remove(place)));
        let next = self.rows.with_untracked(|rows| rows.get(place).or(rows.last()).map(|row| row_id(&row.session_id)));
        request_animation_frame(move || {
            browser::focus_id(next.as_deref().unwrap_or("session-search"));
        });
    }
}

/// The id of a row's link in the page.
fn row_id(id: &SessionId) -> String {
    format!("row-{id}")
}

async fn load(selected: Option<Result<SessionId, AppError>>) -> Option<Result<Loaded, AppError>> {
    match selected? {
        Ok(id) => Some(api::sessions::load(id, None, None).await),
        Err(error) => Some(Err(error)),
    }
}

/// Whether what is shown need not be shown anew.
fn is_same(shown: Option<&Result<Loaded, AppError>>, loaded: Option<&Result<Loaded, AppError>>) -> bool {
    match (shown, loaded) {
        (Some(Ok(shown)), Some(Ok(loaded))) => {
            (&shown.session.session_id, shown.revision) == (&loaded.session.session_id, loaded.revision)
        }
        (shown, loaded) => shown == loaded,
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
    let filter = Memo::new(move |_| queries.with(|queries| Filter::of(queries.get("q"), queries.get("type"))));
    let selected = Memo::new(move |_| selected_in(&location.pathname.read()));
    let asked = RwSignal::new(None);
    let shared = Shared { filter, selected, asked };

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
    let listing = Listing::new();
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
    let list_asked = StoredValue::new(Asked { changes: changes.get_untracked(), ..first_asked.clone() });
    Effect::new(move |_| {
        let asked = Asked {
            filter: filter.get(),
            utc_offset: utc_offset.get(),
            refreshes: refreshes.get(),
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
            if list_asked.try_with_value(|current| *current == asked) == Some(true) {
                listing.take(listed, &asked);
            }
        });
    });

    let details = RwSignal::new(None::<Result<Loaded, AppError>>);
    let first_selected = selected.get_untracked();
    let first_details = {
        let selected = first_selected.clone();
        Resource::new_blocking(|| (), move |()| load(selected.clone()))
    };
    // A change of another session leaves the shown one alone.
    let shown_changes = Memo::new(move |_| match &*selected.read() {
        Some(Ok(id)) => manager.changes.read().get(id).copied().unwrap_or(0),
        _ => 0,
    });
    let details_asked = StoredValue::new((first_selected, 0, shown_changes.get_untracked()));
    Effect::new(move |_| {
        let asked = (selected.get(), refreshes.get(), shown_changes.get());
        if details_asked.with_value(|before| *before == asked) {
            return;
        }
        details_asked.set_value(asked.clone());
        spawn_local(async move {
            let loaded = load(asked.0.clone()).await;
            if details_asked.try_with_value(|current| *current == asked) == Some(true)
                && !details.with_untracked(|shown| is_same(shown.as_ref(), loaded.as_ref()))
            {
                details.set(loaded);
            }
        });
    });
    let jumps = jump.0.get_untracked();
    Effect::new(move |_| {
        if jump.0.get() != jumps {
            browser::focus_id("session-search");
        }
    });
    let navigate = use_navigate();
    let after_deletion = Callback::new(move |what| {
        let search = filter.get_untracked().search();
        match what {
            Deletion::Deleted(id) => {
                if manager.session_id.get_untracked().as_ref() == Some(&id) {
                    manager.open_new();
                }
                if selected.get_untracked().as_ref() == Some(&Ok(id.clone())) {
                    navigate(&format!("/sessions{search}"), NavigateOptions::default());
                }
                listing.remove(&id);
            }
            Deletion::Restored(_) => {}
        }
    });
    let on_delete = Callback::new(move |id: SessionId| {
        let name = asked.get_untracked().map(|(_, name)| name).unwrap_or_default();
        deletion::delete(manager, toaster, id, name, after_deletion);
    });
    let pane = NodeRef::<html::Div>::new();
    let arrows = move |event: leptos::ev::KeyboardEvent| {
        let delta = match event.key().as_str() {
            "ArrowDown" => 1,
            "ArrowUp" => -1,
            _ => return,
        };
        if let Some(pane) = pane.get_untracked() {
            event.prevent_default();
            browser::move_focus(&pane, ".row__link", delta);
        }
    };
    view! {
        <Title text="Sessions"/>
        <main class="sessions" id="main" class:sessions--open=move || selected.read().is_some()>
            <div class="sessions__side" on:keydown=arrows>
                <h1 class="sessions__title">"Sessions"</h1>
                <Tools filter on_refresh=Callback::new(move |()| refreshes.update(|count| *count += 1))/>
                <div class="sessions__list" node_ref=pane>
                    <Suspense fallback=|| view! { <p class="state state--small">"Loading the sessions…"</p> }>
                        {move || {
                            let asked = first_asked.clone();
                            Suspend::new(async move {
                                let listed = first_list.await;
                                if !listing.is_answered() {
                                    listing.take(listed, &asked);
                                }
                                view! {
                                    <List
                                        listing
                                        shared
                                        utc_offset
                                        on_again=Callback::new(move |()| refreshes.update(|count| *count += 1))
                                    />
                                }
                            })
                        }}
                    </Suspense>
                </div>
            </div>
            <section class="details" role="region" aria-label="Session details">
                <Suspense fallback=|| view! { <p class="state state--small">"Loading the session…"</p> }>
                    {move || Suspend::new(async move {
                        let loaded = first_details.await;
                        if let Some(Err(error)) = &loaded {
                            browser::respond_with_status(error.code.status());
                        }
                        // The answer about a session that was chosen meanwhile may have been quicker.
                        if details.with_untracked(Option::is_none) {
                            details.set(loaded);
                        }
                        move || match details.get() {
                            None => view! { <NothingChosen/> }.into_any(),
                            Some(Ok(loaded)) => view! { <Details loaded shared/> }.into_any(),
                            Some(Err(error)) => view! { <DetailsFailure error/> }.into_any(),
                        }
                    })}
                </Suspense>
            </section>
        </main>
        <ConfirmDelete asked on_agree=on_delete/>
    }
    .into_any()
}

#[component]
fn Tools(filter: Memo<Filter>, on_refresh: Callback<()>) -> impl IntoView {
    // What was typed before the page listened is not to be lost.
    let typed_early = browser::value_of("session-search");
    let has_typed_early = !typed_early.trim().is_empty();
    let words = RwSignal::new(if has_typed_early { typed_early } else { filter.get_untracked().query });
    let pathname = use_location().pathname;
    let navigate = use_navigate();
    let go = Callback::new(move |filter: Filter| {
        let address = format!("{}{}", pathname.get_untracked(), filter.search());
        navigate(&address, NavigateOptions { replace: true, scroll: false, ..NavigateOptions::default() });
    });
    let typed = StoredValue::new(0_u64);
    let on_type = move |event| {
        words.set(event_target_value(&event));
        let number = typed.try_update_value(|count| {
            *count += 1;
            *count
        });
        spawn_local(async move {
            browser::sleep(SEARCH_REST_MS).await;
            if typed.try_get_value() == number
                && let Some(query) = words.try_get_untracked()
            {
                go.run(Filter { query, ..filter.get_untracked() });
            }
        });
    };
    // The address may change without the field: Back, or a link.
    Effect::new(move |earlier: Option<()>| {
        let shown = filter.get();
        let query = shown.query.clone();
        if earlier.is_none() && has_typed_early {
            go.run(Filter { query: words.get_untracked(), ..shown });
        } else if words.get_untracked().trim() != query.trim() {
            words.set(query);
        }
    });
    let kind_name = move || filter.read().kind.map_or("", Kind::as_str);
    view! {
        <div class="tools-row">
            <label class="search">
                <Icon glyph=Glyph::Search/>
                <input
                    type="search"
                    class="search__field"
                    id="session-search"
                    aria-label="Search sessions"
                    placeholder="Search words, names, ids"
                    autocomplete="off"
                    prop:value=move || words.get()
                    on:input=on_type
                />
            </label>
            <select
                class="select"
                aria-label="Type"
                on:change=move |event| {
                    let kind = Filter::of(None, Some(event_target_value(&event))).kind;
                    go.run(Filter { query: words.get_untracked(), kind });
                }
            >
                <option value="" prop:selected=move || kind_name().is_empty()>"All"</option>
                <option value="chat" prop:selected=move || kind_name() == "chat">"Chat"</option>
                <option value="voice" prop:selected=move || kind_name() == "voice">"Voice"</option>
            </select>
            <button type="button" class="button" on:click=move |_| on_refresh.run(())>
                <Icon glyph=Glyph::Again/>
                "Refresh"
            </button>
            <form class="inline" method="post" action="/api/sessions/export">
                <input type="hidden" name="limit" value="all"/>
                <input type="hidden" name="query" value=move || filter.get().query/>
                <input type="hidden" name="kind" value=kind_name/>
                <button type="submit" class="button" title="Download all sessions that the list finds, as JSON">
                    <Icon glyph=Glyph::Download/>
                    "Export all"
                </button>
            </form>
        </div>
    }
    .into_any()
}

#[component]
fn List(listing: Listing, shared: Shared, utc_offset: RwSignal<i32>, on_again: Callback<()>) -> impl IntoView {
    let Listing { rows, cursor, facts, is_filtered, trouble } = listing;
    let is_empty = Memo::new(move |_| rows.read().is_empty() && trouble.read().is_none());
    let is_loading = RwSignal::new(false);
    let load_more = move |_| {
        is_loading.set(true);
        let from = cursor.get_untracked();
        let asked =
            Asked { filter: shared.filter.get_untracked(), utc_offset: utc_offset.get_untracked(), ..Asked::default() };
        spawn_local(async move {
            let listed = asked.list(PAGE_ROWS, from.clone()).await;
            // The page may have been left in the meantime; then these signals are gone.
            let _ = is_loading.try_set(false);
            if cursor.try_with_untracked(|cursor| *cursor == from) != Some(true) {
                // The list became another one.
                return;
            }
            match listed {
                Ok(listed) => {
                    trouble.set(None);
                    cursor.set(listed.next_cursor);
                    rows.update(|rows| {
                        let known: HashSet<SessionId> = rows.iter().map(|row| row.session_id.clone()).collect();
                        rows.extend(listed.sessions.into_iter().filter(|row| !known.contains(&row.session_id)));
                    });
                }
                Err(error) => trouble.set(Some(error.message)),
            }
        });
    };
    view! {
        {move || {
            trouble
                .get()
                .map(|text| {
                    view! {
                        <section class="state state--small" role="alert">
                            <p class="state__text">{text}</p>
                            <button type="button" class="button" on:click=move |_| on_again.run(())>
                                "Try again"
                            </button>
                        </section>
                    }
                })
        }}
        <dl class="facts" aria-label="Counts">
            {move || {
                facts
                    .get()
                    .into_iter()
                    .map(|(name, value)| {
                        view! {
                            <div class="facts__item">
                                <dt>{name}</dt>
                                <dd>{value}</dd>
                            </div>
                        }
                    })
                    .collect_view()
            }}
        </dl>
        {move || {
            (is_empty.get() && !is_filtered.get())
                .then(|| {
                    view! {
                        <section class="state state--small">
                            <h2 class="state__title">"No sessions yet"</h2>
                            <p class="state__text">"A session begins with the first message of a conversation."</p>
                            <a class="button button--accent" href="/chat?new">"Begin one"</a>
                        </section>
                    }
                })
        }}
        {move || {
            (is_empty.get() && is_filtered.get())
                .then(|| {
                    view! {
                        <section class="state state--small">
                            <h2 class="state__title">"Nothing found"</h2>
                            <p class="state__text">
                                "No session holds all of these words. Fewer words or another type may help."
                            </p>
                            <a class="button" href="/sessions">"Show all"</a>
                        </section>
                    }
                })
        }}
        <ul class="rows">
            <For each=move || rows.get() key=row_key children=move |row| view! { <SessionRow row shared/> }/>
        </ul>
        {move || {
            cursor
                .read()
                .is_some()
                .then(|| {
                    view! {
                        <button
                            type="button"
                            class="button rows__more"
                            disabled=move || is_loading.get()
                            on:click=load_more
                        >
                            {move || if is_loading.get() { "Loading…" } else { "Load more" }}
                        </button>
                    }
                })
        }}
    }
    .into_any()
}

/// What must be equal for a row to stay as it is on the page.
fn row_key(row: &Summary) -> (SessionId, String, String) {
    let found: Vec<&Match> = row.matches.iter().take(SHOWN_MATCHES).collect();
    (row.session_id.clone(), row.last_updated.clone(), format!("{:?} {found:?}", row.title))
}

#[component]
fn SessionRow(row: Summary, shared: Shared) -> impl IntoView {
    let title = display_title(&row);
    let id = row.session_id.clone();
    let (sign, kind) = kind_sign(row.kind);
    let href = {
        let id = id.clone();
        move || format!("/sessions/{id}{}", shared.filter.read().search())
    };
    let is_selected = {
        let id = id.clone();
        Memo::new(move |_| shared.selected.read().as_ref().is_some_and(|selected| selected.as_ref() == Ok(&id)))
    };
    let counts = format!(
        "{} · {} you · {} assistant",
        counted(row.stats.total_messages, "message"),
        row.stats.user_messages,
        row.stats.assistant_messages
    );
    let asked = (id.clone(), title.clone());
    view! {
        <li class="row" class:row--selected=is_selected>
            <a class="row__link" id=row_id(&id) href=href aria-current=move || is_selected.get().then_some("true")>
                <span class="row__title">
                    <span class="kind" role="img" aria-label=kind>{sign}</span>
                    <span class="row__name">{title}</span>
                </span>
                {row
                    .matches
                    .into_iter()
                    .take(SHOWN_MATCHES)
                    .map(|found| view! { <span class="row__match">{marked(&found)}</span> })
                    .collect_view()}
                <span class="row__facts">
                    <span class="row__id">{first_characters(id.as_str(), SHORT_ID_CHARACTERS).to_owned()}</span>
                    <LocalTime at=row.last_updated style=TimeStyle::DayAndTime/>
                    <span>{counts}</span>
                    {(!row.tools.is_empty()).then(|| view! { <span class="row__tools">{format!("🛠️ {}", row.tools.join(", "))}</span> })}
                </span>
            </a>
            <div class="row__buttons">
                <ExportButton id=id.clone() is_icon=true/>
                <button
                    type="button"
                    class="button button--quiet button--icon"
                    aria-label="Delete"
                    title="Delete"
                    on:click=move |_| shared.asked.set(Some(asked.clone()))
                >
                    <Icon glyph=Glyph::Bin/>
                </button>
            </div>
        </li>
    }
    .into_any()
}

/// Downloads one session as JSON; the browser streams it to disk.
#[component]
fn ExportButton(id: SessionId, is_icon: bool) -> impl IntoView {
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
}

#[component]
fn NothingChosen() -> impl IntoView {
    view! {
        <div class="state details__nothing">
            <p class="state__text">"Choose a session to read it here."</p>
        </div>
    }
}

#[component]
fn DetailsFailure(error: AppError) -> impl IntoView {
    match error.code {
        ErrorCode::NotFound | ErrorCode::InvalidRequest => {
            view! { <NotFound title="There is no session with this id" text="It may have been deleted, or the link is mistyped."/> }
                .into_any()
        }
        _ => view! {
            <section class="state" role="alert">
                <h2 class="state__title">"This session cannot be shown"</h2>
                <p class="state__text">{error.message}</p>
                <p class="state__actions"><a class="button" href="/sessions">"To the sessions"</a></p>
            </section>
        }
        .into_any(),
    }
}

#[component]
fn Details(loaded: Loaded, shared: Shared) -> impl IntoView {
    let session = loaded.session;
    let id = session.session_id.clone();
    let title = session
        .metadata
        .get("title")
        .and_then(serde_json::Value::as_str)
        .map(str::to_owned)
        .or_else(|| {
            let first =
                session.messages.iter().find(|shown| shown.message.role == crate::model::message::Role::User)?;
            Some(crate::client::session_manager::title_of(&first.message.content))
        })
        .unwrap_or_else(|| "No messages yet".to_owned());
    let (sign, kind) = kind_sign(Kind::of(&session.metadata));
    let stats = session.stats;
    let rows: Vec<Row> = session
        .messages
        .into_iter()
        .map(|shown| {
            let id = shown.message.id.clone();
            let turn = Turn { id: id.clone(), message: ArcRwSignal::new(shown.message) };
            Row { turn, versions: vec![id], version: 0 }
        })
        .collect();
    let count = rows.len();
    let rows = StoredValue::new(rows);
    let most = RwSignal::new(PAGE_TURNS);
    let asked = (id.clone(), title.clone());
    view! {
        <div class="details__head">
            <a class="button button--quiet details__back" href=move || format!("/sessions{}", shared.filter.read().search())>
                <Icon glyph=Glyph::Left/>
                "Back"
            </a>
            <h2 class="details__title">
                <span class="kind" role="img" aria-label=kind>{sign}</span>
                {title}
            </h2>
            <dl class="facts facts--details">
                <div class="facts__item"><dt>"Session"</dt><dd class="facts__id">{id.to_string()}</dd></div>
                <div class="facts__item">
                    <dt>"Started"</dt>
                    <dd><LocalTime at=session.started_at style=TimeStyle::DayAndTime/></dd>
                </div>
                <div class="facts__item">
                    <dt>"Updated"</dt>
                    <dd><LocalTime at=session.last_updated style=TimeStyle::DayAndTime/></dd>
                </div>
                <div class="facts__item">
                    <dt>"Messages"</dt>
                    <dd>
                        {format!(
                            "{} ({} you, {} assistant)",
                            stats.total_messages,
                            stats.user_messages,
                            stats.assistant_messages,
                        )}
                    </dd>
                </div>
                <div class="facts__item"><dt>"Type"</dt><dd>{kind}</dd></div>
                <div class="facts__item"><dt>"Name"</dt><dd>{session.user_name}</dd></div>
            </dl>
            <div class="details__buttons">
                <a class="button button--accent" href=format!("/chat/{id}")>
                    <Icon glyph=Glyph::Chat/>
                    "Continue"
                </a>
                <ExportButton id=id.clone() is_icon=false/>
                <button type="button" class="button" on:click=move |_| shared.asked.set(Some(asked.clone()))>
                    <Icon glyph=Glyph::Bin/>
                    "Delete"
                </button>
            </div>
        </div>
        <div
            class="transcript transcript--details"
            on:click=move |event| {
                browser::copy_clicked_code(&event);
            }
        >
            <For
                each=move || rows.with_value(|rows| rows[..most.get().min(rows.len())].to_vec())
                key=|row| row.key()
                children=move |row| view! { <TurnView row actions=None/> }
            />
            {move || {
                (most.get() < count)
                    .then(|| {
                        view! {
                            <button
                                type="button"
                                class="button transcript__earlier"
                                on:click=move |_| most.update(|most| *most += PAGE_TURNS)
                            >
                                {format!("Show more messages ({})", count - most.get().min(count))}
                            </button>
                        }
                    })
            }}
        </div>
    }
    .into_any()
}

/// A place where a search was found, what matched in `<mark>`.
fn marked(found: &Match) -> Vec<AnyView> {
    pieces(&found.snippet, &found.ranges)
        .into_iter()
        .map(|(is_hit, text)| if is_hit { view! { <mark>{text}</mark> }.into_any() } else { text.into_any() })
        .collect()
}

/// Cuts a text at `ranges`, pairs of start and end in characters; ranges that lie outside or overlap are cut to fit.
fn pieces(text: &str, ranges: &[(usize, usize)]) -> Vec<(bool, String)> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut at = 0;
    let mut ranges = ranges.to_vec();
    ranges.sort_unstable();
    for (start, end) in ranges {
        let start = start.max(at);
        if end <= start {
            continue;
        }
        let before = first_characters(rest, start - at);
        let after = &rest[before.len()..];
        let hit = first_characters(after, end - start);
        if hit.is_empty() {
            break;
        }
        if !before.is_empty() {
            pieces.push((false, before.to_owned()));
        }
        pieces.push((true, hit.to_owned()));
        rest = &after[hit.len()..];
        at = end;
    }
    if !rest.is_empty() {
        pieces.push((false, rest.to_owned()));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_cut_out_by_characters() {
        let cut = |ranges: &[(usize, usize)]| {
            pieces("über Eier", ranges)
                .into_iter()
                .map(|(hit, text)| if hit { format!("[{text}]") } else { text })
                .collect::<String>()
        };
        assert_eq!(cut(&[]), "über Eier");
        assert_eq!(cut(&[(0, 4), (5, 9)]), "[über] [Eier]");
        assert_eq!(cut(&[(5, 9), (0, 1)]), "[ü]ber [Eier]");
        assert_eq!(cut(&[(0, 4), (2, 6), (8, 99)]), "[über][ E]ie[r]");
        assert_eq!(cut(&[(3, 2), (50, 60)]), "über Eier");
    }

    #[test]
    fn the_filter_stands_in_the_address() {
        assert_eq!(Filter::default().search(), "");
        let filter = Filter { query: "a b&c".into(), kind: Some(Kind::Voice) };
        let search = filter.search();
        assert!(search.starts_with("?q=a") && search.ends_with("&type=voice"), "{search}");
        assert!(!search.contains(' ') && search.matches('&').count() == 1, "{search}");
        assert_eq!(Filter::of(Some("x".into()), Some("nonsense".into())).kind, None);
    }

    #[test]
    fn the_address_names_the_session() {
        assert_eq!(selected_in("/sessions"), None);
        assert_eq!(selected_in("/sessions/"), None);
        assert!(matches!(selected_in("/sessions/abc"), Some(Ok(id)) if id.as_str() == "abc"));
        assert!(matches!(selected_in("/sessions/a.b"), Some(Err(_))));
    }
}
