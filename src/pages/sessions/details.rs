//! One session, to read, name, order and continue.

use super::edits::Edits;
use super::list::row_id;
use super::trash::Trashed;
use super::{DETAILS_ID, Shared, export};
use crate::api;
use crate::api::sessions::Loaded;
use crate::browser::{self, TimeStyle};
use crate::client::session_manager::{SessionManager, title_of};
use crate::client::turns::{Row, Turn, part_from};
use crate::components::confirm::{Doomed, Question};
use crate::components::icon::{Glyph, Icon, IconButton, Look};
use crate::components::local_time::LocalTime;
use crate::components::session_browser::{NO_WORDS, grouped, kind_sign};
use crate::components::toast::Toaster;
use crate::components::transcript::TurnView;
use crate::error::{AppError, ErrorCode};
use crate::export::document::ExportedMessage;
use crate::model::Object;
use crate::model::message::Role;
use crate::model::session::{Kind, SessionId, Stats, first_characters};
use crate::pages::hidden::{HiddenTurns, bring_back};
use crate::pages::not_found::NotFound;
use leptos::html;
use leptos::prelude::*;
use leptos::task::spawn_local;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Turns of a session that are loaded and shown at once: the newest at first, earlier ones when they are asked for.
pub const PAGE_TURNS: usize = 100;

/// The id of what was said.
pub const TEXT_ID: &str = "session-text";

/// The longest title that is taken, in UTF-16 units, which is how browsers count.
const TITLE_LENGTH: &str = "200";

/// The longest tag that is taken, in characters.
const TAG_CHARACTERS: usize = 50;

/// A session as it is shown. What can change while it is shown are signals, so that what is being typed beside it stays.
#[derive(Clone)]
pub struct Shown {
    session_id: SessionId,
    user_name: String,
    started_at: String,
    kind: Kind,
    content: ArcRwSignal<Content>,
    edits: Edits,
    last_updated: ArcRwSignal<String>,
}

/// The turns of a session and what is told of them.
#[derive(Clone, PartialEq)]
struct Content {
    /// The shown path, as far as it is held.
    rows: Vec<Row>,
    /// How many turns are shown before them.
    earlier: usize,
    /// What was taken out of this part of it.
    hidden: Vec<Row>,
    stats: Stats,
    /// What stands for a missing title.
    first: Option<String>,
}

impl Content {
    /// What was loaded. A turn that was shown before stays the same turn, and where the shown ones began, those begin that are
    /// loaded anew.
    fn of(loaded: &Loaded, before: Option<&Self>) -> Self {
        let session = &loaded.session;
        let known: HashMap<&str, &Turn> = before
            .into_iter()
            .flat_map(|before| before.rows.iter().chain(&before.hidden))
            .map(|row| (row.turn.id.as_str(), &row.turn))
            .collect();
        let row = |exported: &ExportedMessage| {
            let turn = match known.get(exported.message.id.as_str()) {
                Some(&turn) => {
                    if *turn.message.read_untracked() != exported.message {
                        turn.message.set(exported.message.clone());
                    }
                    turn.clone()
                }
                None => Turn::new(exported.message.clone()),
            };
            Row { versions: vec![turn.id.clone()], turn, version: 0 }
        };
        let mut rows: Vec<Row> = session.messages.iter().map(row).collect();
        let mut earlier = loaded.earlier.unwrap_or(0);
        let first_shown = before.and_then(|before| before.rows.first());
        let surplus = first_shown.and_then(|first| rows.iter().position(|row| row.turn.id == first.turn.id));
        if let Some(surplus) = surplus {
            rows.drain(..surplus);
            earlier += surplus;
        }
        Self {
            rows,
            earlier,
            hidden: session.branches.iter().filter(|other| other.message.is_hidden()).map(row).collect(),
            stats: session.stats,
            first: first_words(loaded),
        }
    }

    /// Puts an earlier part before what is held; none is held twice.
    fn prepend(&mut self, part: Self) {
        let held: HashSet<String> = self.rows.iter().chain(&self.hidden).map(|row| row.turn.id.clone()).collect();
        let is_new = |row: &Row| !held.contains(&row.turn.id);
        self.rows.splice(0..0, part.rows.into_iter().filter(is_new));
        self.hidden.splice(0..0, part.hidden.into_iter().filter(is_new));
        self.earlier = part.earlier;
        self.first = part.first;
    }
}

/// How the session begins, as far as it is known.
fn first_words(loaded: &Loaded) -> Option<String> {
    let preview = loaded.preview.as_deref().filter(|preview| loaded.earlier > Some(0) && !preview.is_empty());
    preview.map(title_of).or_else(|| {
        let first = loaded.session.messages.iter().find(|exported| exported.message.role == Role::User);
        first.map(|exported| title_of(&exported.message.content))
    })
}

impl Shown {
    /// A session that was loaded.
    pub fn new(loaded: Loaded, manager: SessionManager, toaster: Toaster) -> Self {
        let content = ArcRwSignal::new(Content::of(&loaded, None));
        let session = loaded.session;
        Self {
            content,
            kind: Kind::of(&session.metadata),
            edits: Edits::new(session.session_id.clone(), session.metadata, manager, toaster),
            last_updated: ArcRwSignal::new(session.last_updated),
            session_id: session.session_id,
            user_name: session.user_name,
            started_at: session.started_at,
        }
    }

    /// Which session it is.
    pub fn session_id(&self) -> &SessionId {
        &self.session_id
    }

    /// What it is called, now and as it changes.
    pub fn title(&self) -> String {
        let given =
            self.edits.metadata.with(|metadata| metadata.get("title").and_then(Value::as_str).map(str::to_owned));
        given
            .filter(|title| !title.trim().is_empty())
            .or_else(|| self.content.with(|content| content.first.clone()))
            .unwrap_or_else(|| NO_WORDS.to_owned())
    }

    /// How many of the newest turns must be loaded so that those that are shown are among them.
    pub fn held_turns(&self) -> usize {
        self.content.with_untracked(|content| part_from(content.earlier, content.earlier + content.rows.len()))
    }

    /// Takes over what was loaded later; false where that needs another view.
    fn take(&self, loaded: &Loaded) -> bool {
        let session = &loaded.session;
        let is_like = self.session_id == session.session_id && self.user_name == session.user_name;
        if is_like {
            self.edits.take(session.metadata.clone());
            self.last_updated.set(session.last_updated.clone());
            let content = self.content.with_untracked(|before| Content::of(loaded, Some(before)));
            if *self.content.read_untracked() != content {
                self.content.set(content);
            }
        }
        is_like
    }
}

/// Changes in place what is shown; false where it has to be shown anew.
pub fn take_in_place(shown: Option<&Result<Shown, AppError>>, loaded: Option<&Result<Loaded, AppError>>) -> bool {
    match (shown, loaded) {
        (Some(Ok(shown)), Some(Ok(loaded))) => shown.take(loaded),
        (Some(Err(shown)), Some(Err(loaded))) => shown == loaded,
        (None, None) => true,
        _ => false,
    }
}

/// What the region shows.
#[component]
pub fn DetailsView(details: RwSignal<Option<Result<Shown, AppError>>>, shared: Shared) -> impl IntoView {
    move || match details.get() {
        None => view! {
            <div class="state details__nothing">
                <p class="state__text">"Choose a session to read it here."</p>
            </div>
        }
        .into_any(),
        Some(Ok(shown)) => view! { <Details shown shared/> }.into_any(),
        Some(Err(error)) => view! { <Failure error shared/> }.into_any(),
    }
}

#[component]
fn Failure(error: AppError, shared: Shared) -> impl IntoView {
    match (error.code, shared.selected.get_untracked()) {
        (ErrorCode::NotFound | ErrorCode::InvalidRequest, _) => {
            view! { <NotFound title="There is no session with this id" text="It may have been deleted, or the link is mistyped."/> }
                .into_any()
        }
        (ErrorCode::SessionDeleted, Some(Ok(id))) => view! {
            <div class="details__head">
                <Back shared/>
            </div>
            <Trashed id shared/>
        }
        .into_any(),
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

/// Where there is room for one column only, the way from the details to the list.
#[component]
fn Back(shared: Shared) -> impl IntoView {
    view! {
        <a class="button button--quiet details__back" href=move || format!("/sessions{}", shared.filter.read().search())>
            <Icon glyph=Glyph::Left/>
            "Back"
        </a>
    }
}

#[component]
fn Details(shown: Shown, shared: Shared) -> impl IntoView {
    let toaster = expect_context::<Toaster>();
    let Shown { session_id: id, user_name, started_at, kind, content, edits, last_updated } = shown;
    let first = {
        let content = content.clone();
        Memo::new(move |_| content.with(|content| content.first.clone()))
    };
    let metadata = edits.metadata.clone();
    let edits = StoredValue::new(edits);
    let title = {
        let metadata = metadata.clone();
        Memo::new(move |_| {
            let given = metadata.with(|metadata| metadata.get("title").and_then(Value::as_str).map(str::to_owned));
            given.filter(|title| !title.trim().is_empty()).or_else(|| first.get())
        })
    };
    let flag = |key: &'static str| {
        let metadata = metadata.clone();
        Memo::new(move |_| metadata.with(|metadata| metadata.get(key) == Some(&Value::Bool(true))))
    };
    let (is_pinned, is_archived) = (flag("pinned"), flag("archived"));
    let set = move |key: &str, value: Value| {
        edits.with_value(|edits| edits.change(Object::from_iter([(key.to_owned(), value)])));
    };
    let turn_flag = move |key: &str, is_on: bool| set(key, if is_on { Value::Null } else { Value::Bool(true) });
    let archive = move |()| {
        let was_archived = is_archived.get_untracked();
        turn_flag("archived", was_archived);
        let said = if was_archived {
            "Back in the list."
        } else {
            "Archived: no longer in the list, still found by searches and by is:archived."
        };
        // The edits outlive this view, as the toast does.
        let edits = edits.get_value();
        let undo =
            Object::from_iter([("archived".to_owned(), if was_archived { Value::Bool(true) } else { Value::Null })]);
        toaster.say(said, Some(Arc::new(move || edits.change(undo.clone()))));
    };
    let name = move || title.get().unwrap_or_else(|| NO_WORDS.to_owned());
    let (sign, kind) = kind_sign(kind);
    let rows = {
        let content = content.clone();
        Memo::new(move |_| content.with(|content| content.rows.clone()))
    };
    let on_earlier = {
        let content = content.clone();
        Callback::new(move |part: Loaded| {
            let part = Content::of(&part, None);
            // It may have been loaded anew meanwhile, from another turn on.
            let follows = content.with_untracked(|held| held.earlier == part.earlier + part.rows.len());
            if follows {
                content.update(|held| held.prepend(part));
            }
        })
    };
    let earlier = {
        let content = content.clone();
        Memo::new(move |_| {
            content.with(|content| {
                let first = content.rows.first().map(|row| row.turn.id.clone());
                (content.earlier, first)
            })
        })
    };
    let hidden = {
        let content = content.clone();
        Memo::new(move |_| content.with(|content| content.hidden.clone()))
    };
    let counts = Memo::new(move |_| {
        let Stats { total_messages, user_messages, assistant_messages, .. } = content.with(|content| content.stats);
        format!("{total_messages} ({user_messages} you, {assistant_messages} assistant)")
    });
    let on_back = {
        let (manager, id) = (expect_context::<SessionManager>(), id.clone());
        Callback::new(move |message| bring_back(manager, toaster, id.clone(), message))
    };
    let ask = {
        let id = id.clone();
        move |()| shared.asked.set(Some(Question { what: Doomed::ToTrash(id.clone()), name: untrack(name) }))
    };
    let text = NodeRef::<html::Div>::new();
    Effect::new(move |_| {
        if text.get().is_some() && shared.is_to_text.try_update_value(std::mem::take) == Some(true) {
            request_animation_frame(|| {
                browser::focus_id(TEXT_ID);
            });
        }
    });
    let (earlier_id, row) = (id.clone(), row_id(&id));
    view! {
        <div class="details__head">
            <Back shared/>
            <button type="button" class="jump" on:click=move |_| {
                let _ = browser::focus_id(&row);
            }>"Back to the list"</button>
            <Heading sign kind title on_title=Callback::new(move |title| set("title", title))/>
            <dl class="facts facts--details">
                <div class="facts__item"><dt>"Session"</dt><dd class="facts__id">{id.to_string()}</dd></div>
                <div class="facts__item">
                    <dt>"Started"</dt>
                    <dd><LocalTime at=started_at style=TimeStyle::DayAndTime/></dd>
                </div>
                <div class="facts__item">
                    <dt>"Updated"</dt>
                    <dd>{move || view! { <LocalTime at=last_updated.get() style=TimeStyle::DayAndTime/> }}</dd>
                </div>
                <div class="facts__item">
                    <dt>"Messages"</dt>
                    <dd>{counts}</dd>
                </div>
                <div class="facts__item"><dt>"Type"</dt><dd>{kind}</dd></div>
                <div class="facts__item"><dt>"Name"</dt><dd dir="auto">{user_name}</dd></div>
            </dl>
            <Tags
                tags=Memo::new(move |_| metadata.with(tags_of))
                on_tags=Callback::new(move |tags: Vec<String>| {
                    set("tags", if tags.is_empty() { Value::Null } else { tags.into() });
                })
            />
            <div class="details__buttons">
                <a class="button button--accent" href=format!("/chat/{id}")>
                    <Icon glyph=Glyph::Chat/>
                    "Continue"
                </a>
                <IconButton
                    glyph=Glyph::Pin
                    name=Signal::derive(move || if is_pinned.get() { "Unpin" } else { "Pin" })
                    title="Keep it at the top of the list"
                    look=Look::Named
                    on_click=Callback::new(move |()| turn_flag("pinned", is_pinned.get_untracked()))
                />
                <IconButton
                    glyph=Glyph::Box
                    name=Signal::derive(move || if is_archived.get() { "Unarchive" } else { "Archive" })
                    title="Leave it out of the list"
                    look=Look::Named
                    on_click=Callback::new(archive)
                />
                {export(id, false)}
                <IconButton glyph=Glyph::Bin name="Delete" title="Delete" look=Look::Named on_click=Callback::new(ask)/>
            </div>
        </div>
        <div
            class="transcript transcript--details"
            id=TEXT_ID
            tabindex="-1"
            node_ref=text
            on:click=move |event| {
                browser::copy_clicked_code(&event);
            }
        >
            <EarlierTurns session_id=earlier_id earlier on_earlier/>
            <For
                each=move || rows.get()
                key=|row| row.key()
                children=move |row| view! { <TurnView row actions=None/> }
            />
            {move || view! { <HiddenTurns rows=hidden.get() on_back/> }}
        </div>
    }
    .into_any()
}

/// What stands above the first turn that is held while there are earlier ones. `earlier` is how many, and the id of the first that
/// is held.
#[component]
fn EarlierTurns(
    session_id: SessionId,
    earlier: Memo<(usize, Option<String>)>,
    on_earlier: Callback<Loaded>,
) -> impl IntoView {
    let is_loading = RwSignal::new(false);
    let failure = RwSignal::new(None::<String>);
    let load = move |_| {
        let (_, Some(first)) = earlier.get_untracked() else { return };
        if is_loading.get_untracked() {
            return;
        }
        is_loading.set(true);
        let session_id = session_id.clone();
        spawn_local(async move {
            let part = api::sessions::load(session_id, Some(PAGE_TURNS), Some(first)).await;
            // The page may have been left in the meantime; then these signals are gone.
            if is_loading.try_set(false).is_some() {
                return;
            }
            let reason = match part {
                Ok(part) => {
                    let restore = browser::hold_view_of(DETAILS_ID);
                    on_earlier.try_run(part);
                    // The page is changed by effects that this has just called for, all of them before the next frame.
                    spawn_local(async move { restore() });
                    None
                }
                Err(error) if error.code == ErrorCode::ServerUnreachable => {
                    Some("The server cannot be reached.".to_owned())
                }
                Err(error) => Some(error.message),
            };
            failure.set(reason);
        });
    };
    let label = move || match (is_loading.get(), failure.read().is_some()) {
        (true, _) => "Loading earlier messages…".to_owned(),
        (false, true) => "Try again".to_owned(),
        (false, false) => format!("Show earlier messages ({})", grouped(earlier.read().0 as u64)),
    };
    view! {
        <div class="transcript__edge" hidden=move || earlier.read().0 == 0>
            <p class="transcript__failure" role="status">
                {move || failure.get().map(|reason| format!("Earlier messages could not be loaded. {reason}"))}
            </p>
            <button
                type="button"
                class="button"
                aria-disabled=move || is_loading.get().then_some("true")
                on:click=load
            >
                {label}
            </button>
        </div>
    }
    .into_any()
}

/// The title, which can be changed where it stands. `on_title` is given a text, or `null` for none.
#[component]
fn Heading(
    sign: &'static str,
    kind: &'static str,
    title: Memo<Option<String>>,
    on_title: Callback<Value>,
) -> impl IntoView {
    let is_editing = RwSignal::new(false);
    let field = NodeRef::<html::Input>::new();
    Effect::new(move |_| {
        if let Some(field) = field.get() {
            field.set_value(&title.get_untracked().unwrap_or_default());
            // Fails only for an element that is not in the page.
            let _ = field.focus();
            field.select();
        }
    });
    // Ends the editing; it may have ended already when the field loses the focus, and with it all of this.
    let end = move |is_kept: bool| {
        let (Some(Some(field)), Some(true)) = (field.try_get_untracked(), is_editing.try_get_untracked()) else {
            return;
        };
        is_editing.set(false);
        let text = field.value().trim().to_owned();
        if is_kept && text != title.get_untracked().unwrap_or_default() {
            on_title.run(if text.is_empty() { Value::Null } else { text.into() });
        }
    };
    let key = move |event: leptos::ev::KeyboardEvent| {
        let key = event.key();
        if browser::is_composing(&event) || !matches!(key.as_str(), "Enter" | "Escape") {
            return;
        }
        event.prevent_default();
        end(key == "Enter");
        request_animation_frame(|| {
            browser::focus_id("rename");
        });
    };
    view! {
        <div class="details__name">
            <h2 class="details__title">
                <span class="kind" role="img" aria-label=kind>{sign}</span>
                {move || {
                    if is_editing.get() {
                        view! {
                            <input
                                class="details__field"
                                node_ref=field
                                aria-label="Title"
                                dir="auto"
                                maxlength=TITLE_LENGTH
                                autocomplete="off"
                                placeholder=NO_WORDS
                                on:keydown=key
                                on:blur=move |_| end(true)
                            />
                        }
                            .into_any()
                    } else {
                        view! { <span dir="auto">{move || title.get().unwrap_or_else(|| NO_WORDS.to_owned())}</span> }.into_any()
                    }
                }}
            </h2>
            <button
                type="button"
                class="button button--quiet button--icon button--small"
                id="rename"
                aria-label="Rename"
                title="Rename"
                hidden=is_editing
                on:click=move |_| is_editing.set(true)
            >
                <Icon glyph=Glyph::Pencil/>
            </button>
        </div>
    }
    .into_any()
}

/// The tags, which can be added and removed. `on_tags` is given all of them.
#[component]
fn Tags(tags: Memo<Vec<String>>, on_tags: Callback<Vec<String>>) -> impl IntoView {
    let words = RwSignal::new(String::new());
    let add = move || {
        let tags = tags.get_untracked();
        let more = with_tags(&tags, &words.get_untracked());
        words.set(String::new());
        if more != tags {
            on_tags.run(more);
        }
    };
    let chip = move |tag: String| {
        let label = format!("Remove tag {tag}");
        let removed = tag.clone();
        view! {
            <li class="tag">
                <span class="tag__name" dir="auto">{tag}</span>
                <button
                    type="button"
                    class="tag__remove"
                    aria-label=label
                    title="Remove"
                    on:click=move |_| {
                        on_tags.run(tags.get_untracked().into_iter().filter(|tag| *tag != removed).collect());
                        if browser::has_fine_pointer() {
                            browser::focus_id("add-tag");
                        }
                    }
                >
                    <Icon glyph=Glyph::Close/>
                </button>
            </li>
        }
    };
    view! {
        <div class="tags">
            <ul class="tags__list" aria-label="Tags">{move || tags.get().into_iter().map(chip).collect_view()}</ul>
            <input
                class="tags__field"
                id="add-tag"
                aria-label="Add a tag"
                dir="auto"
                placeholder="Add a tag"
                autocomplete="off"
                enterkeyhint="done"
                maxlength=TAG_CHARACTERS.to_string()
                prop:value=move || words.get()
                on:input=move |event| {
                    words.set(event_target_value(&event));
                    if words.with_untracked(|words| words.contains(',')) {
                        add();
                    }
                }
                on:keydown=move |event| {
                    if event.key() == "Enter" && !browser::is_composing(&event) {
                        event.prevent_default();
                        add();
                    }
                }
            />
        </div>
    }
    .into_any()
}

fn tags_of(metadata: &Object) -> Vec<String> {
    let tags = metadata.get("tags").and_then(Value::as_array);
    tags.map(|tags| tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect()).unwrap_or_default()
}

/// The tags and those that were typed, separated by commas; one that differs in letter case only is there already.
fn with_tags(tags: &[String], typed: &str) -> Vec<String> {
    let mut tags = tags.to_vec();
    for tag in typed.split(',') {
        let tag = first_characters(tag.trim(), TAG_CHARACTERS).trim_end();
        if !tag.is_empty() && !tags.iter().any(|known| known.to_lowercase() == tag.to_lowercase()) {
            tags.push(tag.to_owned());
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_added_once_and_cut() {
        let with = |tags: &[&str], typed: &str| {
            with_tags(&tags.iter().map(|&tag| tag.to_owned()).collect::<Vec<_>>(), typed).join("|")
        };
        assert_eq!(with(&["work"], " home "), "work|home");
        assert_eq!(with(&["Übung"], "übung, ÜBUNG,"), "Übung");
        assert_eq!(with(&[], "a, b ,,a"), "a|b");
        assert_eq!(with(&[], &"é".repeat(60)), "é".repeat(50));
        assert_eq!(with(&["a", "A"], ""), "a|A");
    }
}
