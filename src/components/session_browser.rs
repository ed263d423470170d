//! The recent conversations, in a dialog over the chat.

use super::confirm::follow_open;
use super::icon::{Glyph, Icon};
use super::local_time::LocalTime;
use super::toast::{Toaster, Toasts};
use crate::browser::{self, TimeStyle};
use crate::client::session_manager::title_of;
use crate::error::AppError;
use crate::model::session::{Kind, Match, SessionId, Summary, first_characters};
use leptos::html;
use leptos::prelude::*;
use leptos_router::NavigateOptions;
use leptos_router::hooks::use_navigate;

/// What a session is called where it has no words yet.
pub const NO_WORDS: &str = "No messages yet";

/// What a session is called in a list: its title, else how it began.
pub fn display_title(summary: &Summary) -> String {
    match &summary.title {
        Some(title) => title.clone(),
        None if summary.preview.is_empty() => NO_WORDS.to_owned(),
        None => title_of(&summary.preview),
    }
}

/// The emoji of a kind, and its name.
pub fn kind_sign(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Chat => ("💬", "Chat"),
        Kind::Voice => ("🎤", "Voice"),
    }
}

/// `1 message`, `12 messages`.
pub fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(count))
}

/// `12,000`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many characters before a hit and after it are shown of what lies between hits: a narrow page shows about thirty in a line.
const SHOWN_BESIDE: usize = 16;

/// A place where a search was found, what matched in `<mark>` and near its beginning, so that it is seen however narrow the page is.
pub fn marked(found: &Match) -> Vec<AnyView> {
    centred(pieces(&found.snippet, &found.ranges))
        .into_iter()
        .map(|(is_hit, text)| if is_hit { view! { <mark>{text}</mark> }.into_any() } else { text.into_any() })
        .collect()
}

/// Leaves out most of what stands before the first hit and between hits. What follows the last one is cut by the page.
fn centred(mut pieces: Vec<(bool, String)>) -> Vec<(bool, String)> {
    if !pieces.iter().any(|(is_hit, _)| *is_hit) {
        return pieces;
    }
    let last = pieces.len().saturating_sub(1);
    for (place, (is_hit, text)) in pieces.iter_mut().enumerate() {
        if *is_hit || place == last {
            continue;
        }
        let tail = last_characters(text, SHOWN_BESIDE);
        let head = if place == 0 { "" } else { first_characters(text, SHOWN_BESIDE) };
        if head.len() + tail.len() < text.len() {
            *text = format!("{head}…{tail}");
        }
    }
    pieces
}

/// The end of a text: whole words of at most so many characters, or a part of a word that is longer. No mark is torn from its letter.
fn last_characters(text: &str, count: usize) -> &str {
    let Some((start, _)) = text.char_indices().rev().take(count).last() else { return "" };
    if start == 0 {
        return text;
    }
    let end = &text[start..];
    if text[..start].ends_with(char::is_whitespace) {
        return end;
    }
    let word = end.char_indices().find(|(_, c)| c.is_whitespace()).map(|(at, c)| at + c.len_utf8());
    match word {
        Some(at) if at < end.len() => &end[at..],
        _ => end.trim_start_matches(|c: char| matches!(c, '\u{300}'..='\u{36F}' | '\u{200D}' | '\u{FE00}'..='\u{FE0F}' | '\u{1F3FB}'..='\u{1F3FF}')),
    }
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

/// What a search found, or why it found nothing, and the words that were searched for.
pub type Found = (String, Result<Vec<Summary>, AppError>);

/// The id of the search field.
const FIELD_ID: &str = "browser-search";

/// The id of the list, which is there while it has rows.
const LIST_ID: &str = "browser-rows";

/// The id of a row's link in the page.
fn link_id(id: &SessionId) -> String {
    format!("found-{id}")
}

/// Where a row leads.
fn address_of(row: &Summary) -> String {
    match row.kind {
        Kind::Chat => format!("/chat/{}", row.session_id),
        Kind::Voice => format!("/sessions/{}", row.session_id),
    }
}

/// The dialog. The focus stays in its field while the arrow keys choose a row; the first one is chosen already.
#[component]
pub fn SessionBrowser(
    /// Whether it is shown.
    is_open: RwSignal<bool>,
    /// What is searched for.
    query: RwSignal<String>,
    /// The rows; `None` while they are on their way.
    rows: Signal<Option<Found>>,
    /// The session in hand.
    current: Signal<Option<SessionId>>,
    /// Called when a row is to be deleted, with its name.
    on_delete: Callback<(SessionId, String)>,
) -> impl IntoView {
    let dialog = NodeRef::<html::Dialog>::new();
    let field = NodeRef::<html::Input>::new();
    let toaster = expect_context::<Toaster>();
    // The row that the person moved to; none: the first.
    let moved_to = RwSignal::new(None::<SessionId>);
    // Whether Enter was pressed before the answer was there that it is to open.
    let is_awaited = StoredValue::new(false);
    let ids = Memo::new(move |_| {
        rows.with(|rows| match rows {
            Some((_, Ok(rows))) => rows.iter().map(|row| row.session_id.clone()).collect(),
            _ => Vec::new(),
        })
    });
    let chosen = Memo::new(move |_| {
        let moved_to = moved_to.get();
        ids.with(|ids| moved_to.filter(|id| ids.contains(id)).or_else(|| ids.first().cloned()))
    });
    follow_open(dialog, is_open.into());
    Effect::new(move |_| {
        let is_open = is_open.get();
        is_awaited.set_value(false);
        moved_to.set(None);
        if let Some(field) = field.get().filter(|_| is_open) {
            // What is typed now takes the place of the words of the last time.
            field.select();
        }
    });
    let navigate = use_navigate();
    // Opens the chosen row; false while the rows are still those of other words.
    let open = Callback::new(move |()| {
        let address = rows.with_untracked(|rows| {
            let (_, rows) = rows.as_ref().filter(|(words, _)| query.with_untracked(|query| query == words))?;
            let chosen = chosen.get_untracked();
            // While the server is away the answer is still to come.
            let rows = rows.as_ref().ok()?;
            Some(rows.iter().find(|row| Some(&row.session_id) == chosen.as_ref()).map(address_of))
        });
        match address {
            Some(Some(address)) => {
                is_open.set(false);
                navigate(&address, NavigateOptions::default());
                true
            }
            // Nothing was found, so nothing is opened.
            Some(None) => true,
            None => false,
        }
    });
    Effect::new(move |_| {
        rows.track();
        if is_awaited.get_value() && is_open.get_untracked() {
            is_awaited.set_value(!open.run(()));
        }
        // The row that had the focus may be gone.
        request_animation_frame(move || {
            if is_open.try_get_untracked() == Some(true) && browser::focused_id().is_none() {
                browser::focus_id(FIELD_ID);
            }
        });
    });
    let choose = move |delta: isize| {
        let next = ids.with_untracked(|ids| {
            let chosen = chosen.get_untracked();
            let place = ids.iter().position(|id| Some(id) == chosen.as_ref())?;
            ids.get(place.saturating_add_signed(delta).min(ids.len().saturating_sub(1))).cloned()
        });
        if let Some(id) = next {
            browser::bring_into_view(&link_id(&id));
            moved_to.set(Some(id));
        }
    };
    let keys = move |event: leptos::ev::KeyboardEvent| {
        if browser::is_composing(&event) || event.alt_key() || event.ctrl_key() || event.meta_key() {
            return;
        }
        match event.key().as_str() {
            "ArrowDown" => choose(1),
            "ArrowUp" => choose(-1),
            "Enter" => is_awaited.set_value(!open.run(())),
            _ => return,
        }
        event.prevent_default();
    };
    view! {
        <dialog
            class="dialog browser"
            node_ref=dialog
            aria-labelledby="browser-title"
            on:close=move |_| is_open.set(false)
        >
            <div class="browser__head">
                <h2 class="dialog__title" id="browser-title">"Sessions"</h2>
                <a class="link browser__all" href="/sessions" on:click=move |_| is_open.set(false)>"All sessions"</a>
                <button
                    type="button"
                    class="button button--quiet button--icon"
                    aria-label="Close"
                    on:click=move |_| is_open.set(false)
                >
                    <Icon glyph=Glyph::Close/>
                </button>
            </div>
            <label class="search">
                <Icon glyph=Glyph::Search/>
                <input
                    type="search"
                    class="search__field"
                    id=FIELD_ID
                    node_ref=field
                    aria-label="Search recent sessions"
                    dir="auto"
                    aria-controls=move || chosen.read().is_some().then_some(LIST_ID)
                    aria-activedescendant=move || chosen.get().map(|id| link_id(&id))
                    autocomplete="off"
                    placeholder="Search"
                    prop:value=move || query.get()
                    on:input=move |event| {
                        moved_to.set(None);
                        is_awaited.set_value(false);
                        query.set(event_target_value(&event));
                    }
                    on:keydown=keys
                    autofocus
                />
            </label>
            <div class="browser__list">
                {move || match rows.get() {
                    None => view! { <p class="state state--small">"Loading…"</p> }.into_any(),
                    Some((_, Err(error))) => {
                        view! { <p class="state state--small" role="alert">{error.message}</p> }.into_any()
                    }
                    Some((words, Ok(rows))) if rows.is_empty() => {
                        let text = if words.trim().is_empty() {
                            "There are no sessions yet. One begins with the first message."
                        } else {
                            "Nothing was found. Other words may help."
                        };
                        view! { <p class="state state--small">{text}</p> }.into_any()
                    }
                    Some((_, Ok(rows))) => {
                        view! {
                            <ul class="browser__rows" id=LIST_ID>
                                {rows
                                    .into_iter()
                                    .map(|row| view! { <BrowserRow row current chosen is_open on_delete/> })
                                    .collect_view()}
                            </ul>
                        }
                            .into_any()
                    }
                }}
            </div>
            // While the dialog is open, what is outside of it cannot be clicked.
            <Toasts toaster/>
        </dialog>
    }
    .into_any()
}

#[component]
fn BrowserRow(
    row: Summary,
    current: Signal<Option<SessionId>>,
    chosen: Memo<Option<SessionId>>,
    is_open: RwSignal<bool>,
    on_delete: Callback<(SessionId, String)>,
) -> impl IntoView {
    let title = display_title(&row);
    let id = row.session_id.clone();
    let is_current = {
        let id = id.clone();
        move || (current.read().as_ref() == Some(&id)).then_some("true")
    };
    let is_chosen = {
        let id = id.clone();
        move || chosen.read().as_ref() == Some(&id)
    };
    let delete_label = format!("Delete {title}");
    let asked = (id.clone(), title.clone());
    let (sign, kind) = kind_sign(row.kind);
    let (href, link) = (address_of(&row), link_id(&id));
    let found =
        row.matches.first().map(|found| view! { <span class="browser__match" dir="auto">{marked(found)}</span> });
    view! {
        <li class="browser__row" class:browser__row--chosen=is_chosen>
            <a class="browser__link" id=link href=href aria-current=is_current on:click=move |_| is_open.set(false)>
                <span class="browser__title">
                    <span class="kind" role="img" aria-label=kind>{sign}</span>
                    <bdi>{title}</bdi>
                </span>
                {found}
                <span class="browser__facts">
                    <LocalTime at=row.last_updated style=TimeStyle::Short/>
                    <span>{counted(row.stats.total_messages, "message")}</span>
                </span>
            </a>
            <button
                type="button"
                class="button button--quiet button--icon"
                aria-label=delete_label
                title="Delete"
                on:click=move |_| on_delete.run(asked.clone())
            >
                <Icon glyph=Glyph::Bin/>
            </button>
        </li>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
    fn hits_stand_near_the_beginning_of_what_is_shown() {
        let shown = |text: &str, hits: &[&str]| {
            let ranges: Vec<(usize, usize)> = hits
                .iter()
                .map(|hit| {
                    let start = text[..text.find(hit).unwrap()].chars().count();
                    (start, start + hit.chars().count())
                })
                .collect();
            centred(pieces(text, &ranges))
                .into_iter()
                .map(|(hit, text)| if hit { format!("[{text}]") } else { text })
                .collect::<String>()
        };
        assert_eq!(shown("a sunny day", &["sunny"]), "a [sunny] day");
        assert_eq!(
            shown("The boat to the island of spices leaves for zanzibar at noon", &["zanzibar"]),
            "…leaves for [zanzibar] at noon"
        );
        assert_eq!(
            shown("first one and then a great many other words until the second comes", &["first", "second"]),
            "[first] one and then a …words until the [second] comes"
        );
        assert_eq!(
            shown(&format!("{}zanzibar", "x".repeat(60)), &["zanzibar"]),
            format!("…{}[zanzibar]", "x".repeat(16))
        );
        assert_eq!(
            shown("今天天气很好我们一起去公园散步然后去看电影吃饭", &["电影"]),
            "…气很好我们一起去公园散步然后去看[电影]吃饭"
        );
        assert_eq!(
            shown("ذهبنا إلى السوق القديم في المدينة ثم رجعنا إلى زنجبار", &["زنجبار"]),
            "…ثم رجعنا إلى [زنجبار]"
        );
        assert_eq!(last_characters(&format!("{}e\u{301}{}", "a".repeat(20), "b".repeat(15)), 16), "b".repeat(15));
        assert_eq!(
            shown("nothing is marked in a text that is as long as this one", &[]),
            "nothing is marked in a text that is as long as this one"
        );
    }

    #[test]
    fn a_row_has_a_name_in_any_case() {
        let mut summary: Summary = serde_json::from_value(json!({"session_id":"s","title":null,"user_name":"User","kind":"chat",
            "started_at":"t","last_updated":"t","stats":{"total_messages":0,"user_messages":0,"assistant_messages":0,"errors":0},
            "preview":"","tools":[],"tags":[],"pinned":false,"archived":false}))
        .unwrap();
        assert_eq!(display_title(&summary), NO_WORDS);
        summary.preview = "How do I\nboil an egg?".into();
        assert_eq!(display_title(&summary), "How do I");
        summary.title = Some("Eggs".into());
        assert_eq!(display_title(&summary), "Eggs");
    }

    #[test]
    fn counts_have_their_number() {
        assert_eq!(
            [0, 1, 2].map(|count| counted(count, "message")),
            ["0 messages", "1 message", "2 messages"].map(str::to_owned)
        );
        assert_eq!([0, 999, 1_000, 12_345_678].map(grouped), ["0", "999", "1,000", "12,345,678"].map(str::to_owned));
    }
}
