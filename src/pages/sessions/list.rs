//! The list: its rows, the counts above them, and what is said where there are none.

use super::details::TEXT_ID;
use super::filter::{Filter, SEARCH_ID};
use super::trash::TrashButtons;
use super::{Shared, export};
use crate::api;
use crate::api::sessions::{Indexing, Listed};
use crate::browser::{self, TimeStyle};
use crate::client::again::Away;
use crate::components::confirm::{Doomed, Question};
use crate::components::icon::{Glyph, Icon, IconButton, Look};
use crate::components::local_time::LocalTime;
use crate::components::session_browser::{counted, display_title, grouped, kind_sign, marked};
use crate::error::{AppError, ErrorCode};
use crate::model::session::{Match, SessionId, Summary, first_characters};
use leptos::prelude::*;
use leptos::task::spawn_local;
use std::collections::{HashMap, HashSet};

/// Rows that are asked for at once.
pub const PAGE_ROWS: u64 = 100;

/// Rows that the server answers with at most.
pub const MOST_ROWS: u64 = 1_000;

/// How many characters of an id a row shows.
const SHORT_ID_CHARACTERS: usize = 8;

/// How many places where a search was found a row shows.
const SHOWN_MATCHES: usize = 2;

/// How many tags a row shows.
const SHOWN_TAGS: usize = 4;

/// A comparison of the index with the files that is over sooner is not spoken of, in milliseconds.
const WORTH_TELLING_MS: f64 = 2_000.0;

/// The id of the button for more rows.
const MORE_ID: &str = "more-rows";

/// What a list was asked for with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// What is to be shown.
    pub filter: Filter,
    /// The person's zone.
    pub utc_offset: i32,
    /// Counts the reasons to ask again.
    pub again: u64,
    /// Counts the changes of sessions.
    pub changes: u64,
}

impl Asked {
    /// Asks for rows. A search that cannot be understood is refused here already, in the words of the server.
    pub async fn list(&self, limit: u64, cursor: Option<String>) -> Result<Listed, AppError> {
        self.filter.is_for_trash().map_err(|error| AppError::invalid(error.0))?;
        let Filter { query, kind, .. } = self.filter.clone();
        let order = Some(self.filter.order().as_str().to_owned());
        api::sessions::list(Some(limit), None, Some(query), kind, order, cursor, Some(self.utc_offset)).await
    }
}

/// What is said instead of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nothing {
    Kept,
    Found,
    Trashed,
    /// All that is kept is archived.
    Unarchived,
}

impl Nothing {
    /// A title, a sentence, and where a link leads.
    fn words(self) -> [&'static str; 4] {
        match self {
            Nothing::Kept => [
                "No sessions yet",
                "A session begins with the first message of a conversation.",
                "/chat?new",
                "Begin one",
            ],
            Nothing::Found => [
                "Nothing found",
                "No session holds all of this. Fewer words or another type may help.",
                "/sessions",
                "Show all",
            ],
            Nothing::Trashed => ["The trash is empty", "What you delete comes here first.", "/sessions", "Show all"],
            Nothing::Unarchived => [
                "All sessions are archived",
                "Searches find them all the same.",
                "/sessions?q=is:archived",
                "Show them",
            ],
        }
    }
}

/// What the list shows.
#[derive(Clone, Copy)]
pub struct Listing {
    /// The rows.
    pub rows: RwSignal<Vec<Summary>>,
    /// What is wrong with the search, while the rows of the one before are still shown.
    pub advice: RwSignal<Option<String>>,
    /// How far the index is, while it is not complete.
    pub indexing: RwSignal<Option<Indexing>>,
    cursor: RwSignal<Option<String>>,
    facts: RwSignal<Vec<(&'static str, String)>>,
    nothing: RwSignal<Option<Nothing>>,
    progress: RwSignal<Option<String>>,
    trouble: RwSignal<Option<String>>,
    /// When the first answer of an incomplete index came, and how much was done by then.
    begun: StoredValue<Option<(f64, u64)>>,
    is_trash: RwSignal<bool>,
    /// What the list that is shown was asked for with.
    shown: StoredValue<Asked>,
}

impl Listing {
    /// A list that was not answered yet.
    pub fn new(is_trash: RwSignal<bool>) -> Self {
        Self {
            rows: RwSignal::new(Vec::new()),
            advice: RwSignal::new(None),
            indexing: RwSignal::new(None),
            cursor: RwSignal::new(None),
            facts: RwSignal::new(Vec::new()),
            nothing: RwSignal::new(None),
            progress: RwSignal::new(None),
            trouble: RwSignal::new(None),
            begun: StoredValue::new(None),
            is_trash,
            shown: StoredValue::new(Asked::default()),
        }
    }

    /// Whether anything was answered yet.
    pub fn is_answered(&self) -> bool {
        !self.facts.read_untracked().is_empty()
    }

    /// Shows an answer; when there is none, what was shown stays.
    pub fn take(&self, listed: Result<Listed, AppError>, asked: &Asked) {
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) if error.code == ErrorCode::InvalidRequest => return self.advice.set(Some(error.message)),
            Err(error) => return self.trouble.set(Some(error.message)),
        };
        let is_trash = asked.filter.is_for_trash() == Ok(true);
        let is_building = listed.indexing.as_ref().is_some_and(|indexing| indexing.state == "rebuilding");
        let bound = if listed.filtered_is_lower_bound { "+" } else { "" };
        self.facts.set(vec![
            ("Total", grouped(listed.total_sessions)),
            ("Filtered", format!("{}{bound}", grouped(listed.filtered_sessions))),
            ("Today", grouped(listed.sessions_today)),
            ("This week", grouped(listed.sessions_this_week)),
            ("Messages", grouped(listed.total_messages)),
        ]);
        self.nothing.set(match asked.filter.is_empty() {
            _ if is_building || !listed.sessions.is_empty() => None,
            true if listed.total_sessions > 0 => Some(Nothing::Unarchived),
            true => Some(Nothing::Kept),
            false if is_trash => Some(Nothing::Trashed),
            false => Some(Nothing::Found),
        });
        self.progress.set(self.tell_of(listed.indexing.as_ref()));
        self.indexing.set(listed.indexing);
        self.is_trash.set(is_trash);
        self.trouble.set(None);
        self.advice.set(None);
        let is_same = self.shown.with_value(|shown| shown.filter == asked.filter);
        self.shown.set_value(asked.clone());
        // Of a long list only the first rows were asked for again.
        let is_beginning = listed.next_cursor.is_some() && listed.sessions.len() < self.rows.with_untracked(Vec::len);
        if is_same && is_beginning {
            self.rows.update(|rows| *rows = with_beginning(std::mem::take(rows), listed.sessions));
        } else {
            self.cursor.set(listed.next_cursor);
            self.rows.set(listed.sessions);
        }
    }

    /// What is said of an index that is not complete.
    fn tell_of(&self, indexing: Option<&Indexing>) -> Option<String> {
        let Some(Indexing { state, done, total }) = indexing else {
            self.begun.set_value(None);
            return None;
        };
        let count = format!("{} of {}", grouped(*done), grouped(*total));
        if state == "rebuilding" {
            return Some(format!("Reading the session files: {count}. What is not read yet is not in this list."));
        }
        let now = browser::now_ms();
        let begun = self.begun.get_value();
        self.begun.set_value(begun.or(Some((now, *done))));
        let left = time_left(begun?, (now, *done), *total);
        (left > WORTH_TELLING_MS).then(|| format!("Comparing the list with the session files: {count}."))
    }

    /// Takes a row away; the focus goes to the one that comes into its place, else to the last one, else to the search.
    pub fn remove(&self, id: &SessionId) {
        let place = self.rows.with_untracked(|rows| rows.iter().position(|row| row.session_id == *id));
        let Some(place) = place else { return };
        self.rows.update(|rows| drop(rows.remove(place)));
        let next = self.rows.with_untracked(|rows| rows.get(place).or(rows.last()).map(|row| row_id(&row.session_id)));
        request_animation_frame(move || {
            browser::focus_id(next.as_deref().unwrap_or(SEARCH_ID));
        });
    }
}

/// A list whose first rows were asked for again: those, and the rows that come after them.
fn with_beginning(rows: Vec<Summary>, mut beginning: Vec<Summary>) -> Vec<Summary> {
    let known: HashMap<SessionId, usize> =
        rows.iter().enumerate().map(|(place, row)| (row.session_id.clone(), place)).collect();
    let last = beginning.iter().rev().find_map(|row| known.get(&row.session_id).copied());
    let again: HashSet<SessionId> = beginning.iter().map(|row| row.session_id.clone()).collect();
    let rest = rows.into_iter().skip(last.map_or(0, |last| last + 1));
    beginning.extend(rest.filter(|row| !again.contains(&row.session_id)));
    beginning
}

/// How long the rest takes at the pace so far, in milliseconds; `begun` and `now` are a moment and how much was done by then.
fn time_left(begun: (f64, u64), now: (f64, u64), total: u64) -> f64 {
    let done = now.1.saturating_sub(begun.1) as f64;
    (now.0 - begun.0) * total.saturating_sub(now.1) as f64 / done
}

/// The id of a row's link in the page.
pub fn row_id(id: &SessionId) -> String {
    format!("row-{id}")
}

/// The counts, and below them the rows or why there are none.
#[component]
pub fn List(listing: Listing, shared: Shared, on_again: Callback<()>) -> impl IntoView {
    let Listing { rows, cursor, facts, nothing, progress, trouble, shown, .. } = listing;
    let is_loading = RwSignal::new(false);
    let wants_more = RwSignal::new(0_u64);
    let away = Away::new(move || wants_more.update(|count| *count += 1));
    let load_more = move || {
        if is_loading.get_untracked() {
            return;
        }
        is_loading.set(true);
        let from = cursor.get_untracked();
        // The address may name another list already, to which the cursor does not belong.
        let asked = shown.get_value();
        spawn_local(async move {
            let listed = asked.list(PAGE_ROWS, from.clone()).await;
            // The page may have been left in the meantime; then these signals are gone.
            let _ = is_loading.try_set(false);
            if cursor.try_with_untracked(|cursor| *cursor == from) != Some(true) {
                // The list became another one.
                return away.note(None);
            }
            away.note(listed.as_ref().err());
            match listed {
                Ok(listed) => {
                    trouble.set(None);
                    let had_focus = browser::has_focus(MORE_ID);
                    let shown = rows.with_untracked(Vec::len);
                    let is_last = listed.next_cursor.is_none();
                    cursor.set(listed.next_cursor);
                    rows.update(|rows| {
                        let known: HashSet<SessionId> = rows.iter().map(|row| row.session_id.clone()).collect();
                        rows.extend(listed.sessions.into_iter().filter(|row| !known.contains(&row.session_id)));
                    });
                    // After the last rows the button goes.
                    if is_last && had_focus {
                        let next = rows
                            .with_untracked(|rows| rows.get(shown).or(rows.last()).map(|row| row_id(&row.session_id)));
                        request_animation_frame(move || {
                            browser::focus_id(next.as_deref().unwrap_or(SEARCH_ID));
                        });
                    }
                }
                Err(error) => trouble.set(Some(error.message)),
            }
        });
    };
    Effect::new(move |_| {
        if wants_more.get() > 0 {
            load_more();
        }
    });
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
        {move || progress.get().map(|text| view! { <p class="progress">{text}</p> })}
        {move || {
            nothing
                .get()
                .filter(|_| trouble.read().is_none())
                .map(|nothing| {
                    let [title, text, href, link] = nothing.words();
                    view! {
                        <section class="state state--small">
                            <h2 class="state__title">{title}</h2>
                            <p class="state__text">{text}</p>
                            <a class="button" href=href>{link}</a>
                        </section>
                    }
                })
        }}
        <ul class="rows">
            // Another list has other rows: Leptos puts rows into a wrong order when some go while others change places.
            <For each=move || rows.get() key=move |row| (shown.with_value(|shown| shown.filter.search()), row_key(row)) children=move |row| view! { <SessionRow row shared/> }/>
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
                            id=MORE_ID
                            // Not `disabled`, which would take the focus from it.
                            aria-disabled=move || is_loading.get().then_some("true")
                            on:click=move |_| load_more()
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
    let shown =
        format!("{:?} {:?} {} {} {:?} {found:?}", row.title, row.tags, row.pinned, row.archived, row.metadata_updated);
    (row.session_id.clone(), row.last_updated.clone(), shown)
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
    let buttons = {
        let (id, name) = (id.clone(), title.clone());
        move || match shared.is_trash.get() {
            true => view! { <TrashButtons id=id.clone() name=name.clone() shared look=Look::Quiet/> }.into_any(),
            false => view! { <RowButtons id=id.clone() name=name.clone() shared/> }.into_any(),
        }
    };
    let more_tags = row.tags.len().saturating_sub(SHOWN_TAGS);
    view! {
        <li class="row" class:row--selected=is_selected>
            <a class="row__link" id=row_id(&id) href=href aria-current=move || is_selected.get().then_some("true")>
                <span class="row__title">
                    <span class="kind" role="img" aria-label=kind>{sign}</span>
                    <span class="row__name" dir="auto">{title}</span>
                    {row
                        .pinned
                        .then(|| {
                            view! {
                                <span class="row__pin" role="img" aria-label="Pinned" title="Pinned">
                                    <Icon glyph=Glyph::Pin/>
                                </span>
                            }
                        })}
                </span>
                {row
                    .matches
                    .into_iter()
                    .take(SHOWN_MATCHES)
                    .map(|found| view! { <span class="row__match" dir="auto">{marked(&found)}</span> })
                    .collect_view()}
                <span class="row__facts">
                    <span class="row__id">{first_characters(id.as_str(), SHORT_ID_CHARACTERS).to_owned()}</span>
                    <LocalTime at=row.last_updated style=TimeStyle::DayAndTime/>
                    <span>{counts}</span>
                    {(!row.tools.is_empty()).then(|| view! { <span class="row__tools">{format!("🛠️ {}", row.tools.join(", "))}</span> })}
                    {row.archived.then(|| view! { <span class="badge">"archived"</span> })}
                    {(!row.tags.is_empty())
                        .then(|| {
                            let chips = row
                                .tags
                                .into_iter()
                                .take(SHOWN_TAGS)
                                .map(|tag| view! { <span class="tag tag--small" dir="auto">{tag}</span> })
                                .collect_view();
                            let more = (more_tags > 0).then(|| format!("+{more_tags}"));
                            view! { <span class="row__tags">{chips}{more}</span> }
                        })}
                </span>
            </a>
            {move || {
                is_selected
                    .get()
                    .then(|| {
                        view! {
                            <button type="button" class="jump" on:click=move |_| {
                                let _ = browser::focus_id(TEXT_ID);
                            }>
                                "To its text"
                            </button>
                        }
                    })
            }}
            <div class="row__buttons">{buttons}</div>
        </li>
    }
    .into_any()
}

#[component]
fn RowButtons(id: SessionId, name: String, shared: Shared) -> impl IntoView {
    let question = Question { what: Doomed::ToTrash(id.clone()), name };
    view! {
        {export(id, true)}
        <IconButton
            glyph=Glyph::Bin
            name="Delete"
            title="Delete"
            look=Look::Quiet
            on_click=Callback::new(move |()| shared.asked.set(Some(question.clone())))
        />
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_rest_takes_as_long_as_its_share() {
        assert_eq!(time_left((0.0, 0), (2_000.0, 500), 1_000), 2_000.0);
        assert_eq!(time_left((1_000.0, 100), (2_000.0, 200), 1_000), 8_000.0);
        assert!(time_left((0.0, 5), (2_000.0, 5), 10).is_infinite());
        // Nothing is left, and nothing was done meanwhile.
        assert!(time_left((0.0, 10), (2_000.0, 10), 10).is_nan());
    }

    #[test]
    fn a_long_list_keeps_its_rest_when_its_beginning_comes_again() {
        let rows = |ids: &str| -> Vec<Summary> {
            let row = |id: char| -> Summary {
                serde_json::from_value(
                    json!({"session_id":id,"title":null,"user_name":"User","kind":"chat","started_at":"",
                    "last_updated":"","preview":"","tools":[],"tags":[],"pinned":false,"archived":false,
                    "stats":{"total_messages":0,"user_messages":0,"assistant_messages":0,"errors":0}}),
                )
                .unwrap()
            };
            ids.chars().map(row).collect()
        };
        let ids = |rows: Vec<Summary>| rows.iter().map(|row| row.session_id.to_string()).collect::<String>();
        for (shown, beginning, expected) in [
            ("abcdef", "abc", "abcdef"),
            ("abcdef", "xab", "xabcdef"),
            ("abcdef", "eab", "eabcdf"),
            ("abcdef", "acd", "acdef"),
            ("abcdef", "bax", "baxcdef"),
            ("abcdef", "xyz", "xyzabcdef"),
        ] {
            assert_eq!(ids(with_beginning(rows(shown), rows(beginning))), expected, "{shown} {beginning}");
        }
    }
}
