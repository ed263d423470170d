//! What the list shows: the search, its help, the type and the order, as they stand in the address.

use super::Shared;
use super::trash::ask_to_empty;
use crate::browser;
use crate::components::icon::{Glyph, Icon, IconButton, Look};
use crate::components::toast::Toaster;
use crate::model::query::{HELP, Query, QueryError};
use crate::model::session::Kind;
use leptos::prelude::*;
use leptos::task::spawn_local;
use leptos_router::NavigateOptions;
use leptos_router::hooks::{use_location, use_navigate};

/// The search that finds what was deleted.
pub const TRASH: &str = "is:trashed";

/// The id of the search field.
pub const SEARCH_ID: &str = "session-search";

/// The id of the form that asks for the list where no script does.
const FORM_ID: &str = "find-sessions";

/// How long typing must rest before a search, in milliseconds.
const SEARCH_REST_MS: u32 = 150;

/// The order of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// What was written to last comes first.
    #[default]
    Newest,
    /// What began first comes first.
    Oldest,
    /// What fits a search best comes first.
    Best,
}

impl Order {
    /// As it stands in the address and as the API takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Order::Newest => "newest",
            Order::Oldest => "oldest",
            Order::Best => "best",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "oldest" => Order::Oldest,
            "best" => Order::Best,
            _ => Order::Newest,
        }
    }
}

/// What the list shows, as it stands in the address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// What is searched for.
    pub query: String,
    /// Only this kind.
    pub kind: Option<Kind>,
    order: Order,
}

impl Filter {
    /// Reads the fields of an address.
    pub fn of(query: Option<String>, kind: Option<String>, order: Option<String>) -> Self {
        let kind = match kind.as_deref() {
            Some("chat") => Some(Kind::Chat),
            Some("voice") => Some(Kind::Voice),
            _ => None,
        };
        Self { query: query.unwrap_or_default(), kind, order: order.as_deref().map(Order::parse).unwrap_or_default() }
    }

    /// The end of an address: nothing, or `?q=…&type=…&sort=…`.
    pub fn search(&self) -> String {
        let mut pairs = Vec::new();
        if !self.query.is_empty() {
            pairs.push(format!("q={}", leptos_router::location::Url::escape(&self.query)));
        }
        if let Some(kind) = self.kind {
            pairs.push(format!("type={}", kind.as_str()));
        }
        if self.order() != Order::Newest {
            pairs.push(format!("sort={}", self.order().as_str()));
        }
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }

    /// The order; where nothing is searched for, nothing fits best.
    pub fn order(&self) -> Order {
        if self.order == Order::Best && !self.is_search() { Order::Newest } else { self.order }
    }

    /// Whether something is searched for.
    pub fn is_search(&self) -> bool {
        !self.query.trim().is_empty()
    }

    /// Whether it leaves nothing out.
    pub fn is_empty(&self) -> bool {
        !self.is_search() && self.kind.is_none()
    }

    /// Whether it shows what was deleted.
    ///
    /// # Errors
    /// A sentence about a search that cannot be understood.
    pub fn is_for_trash(&self) -> Result<bool, QueryError> {
        Ok(Query::parse(&self.query)?.is_for_trash())
    }
}

/// The search and what is beside and below it.
#[component]
pub fn Tools(shared: Shared, advice: RwSignal<Option<String>>, on_refresh: Callback<()>) -> impl IntoView {
    let Shared { filter, is_trash, asked, .. } = shared;
    let toaster = expect_context::<Toaster>();
    // What was typed before the page listened is not to be lost.
    let typed_early = browser::value_of(SEARCH_ID);
    // The server puts the words of the address there.
    let is_as_sent = filter.with_untracked(|filter| filter.query == typed_early);
    let has_typed_early = !is_as_sent && !typed_early.trim().is_empty();
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
    let on_example = Callback::new(move |example: &'static str| {
        words.set(example.to_owned());
        go.run(Filter { query: example.to_owned(), ..filter.get_untracked() });
        browser::focus_id(SEARCH_ID);
    });
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
    let first = filter.get_untracked();
    let (first_kind, first_order) = (first.kind, first.order());
    let submit = move |event: leptos::ev::SubmitEvent| {
        event.prevent_default();
        go.run(Filter { query: words.get_untracked(), ..filter.get_untracked() });
    };
    let kind_name = move || filter.read().kind.map_or("", Kind::as_str);
    let is_order = move |order| filter.read().order() == order;
    // Without a script the browser itself asks for the list: the fields belong to this form and have their first values in the HTML.
    view! {
        <form id=FORM_ID method="get" action="/sessions" role="search" aria-label="Sessions" on:submit=submit></form>
        <div class="tools-row">
            <div class="tools-row__search">
                <label class="search">
                    <Icon glyph=Glyph::Search/>
                    <input
                        type="search"
                        class="search__field"
                        id=SEARCH_ID
                        aria-label="Search sessions"
                        dir="auto"
                        aria-describedby="search-advice"
                        placeholder="Search words, names, ids"
                        autocomplete="off"
                        form=FORM_ID
                        name="q"
                        value=first.query
                        prop:value=move || words.get()
                        on:input=on_type
                    />
                </label>
                <button
                    type="button"
                    class="button button--quiet button--icon"
                    aria-label="Search help"
                    title="What can be searched for"
                    popovertarget="search-help"
                >
                    "?"
                </button>
            </div>
            <p class="tools-row__advice" id="search-advice" role="status">{move || advice.get().map(with_code)}</p>
            <select
                class="select"
                aria-label="Type"
                form=FORM_ID
                name="type"
                on:change=move |event| {
                    let kind = Filter::of(None, Some(event_target_value(&event)), None).kind;
                    go.run(Filter { query: words.get_untracked(), kind, ..filter.get_untracked() });
                }
            >
                <option value="" selected=first_kind.is_none() prop:selected=move || kind_name().is_empty()>"All"</option>
                <option value="chat" selected=first_kind == Some(Kind::Chat) prop:selected=move || kind_name() == "chat">"Chat"</option>
                <option value="voice" selected=first_kind == Some(Kind::Voice) prop:selected=move || kind_name() == "voice">"Voice"</option>
            </select>
            <select
                class="select"
                aria-label="Order"
                form=FORM_ID
                name="sort"
                on:change=move |event| {
                    let order = Order::parse(&event_target_value(&event));
                    go.run(Filter { query: words.get_untracked(), order, ..filter.get_untracked() });
                }
            >
                <option value="newest" selected=first_order == Order::Newest prop:selected=move || is_order(Order::Newest)>"Newest first"</option>
                <option value="oldest" selected=first_order == Order::Oldest prop:selected=move || is_order(Order::Oldest)>"Oldest first"</option>
                <option
                    value="best"
                    selected=first_order == Order::Best
                    disabled=move || !filter.read().is_search()
                    prop:selected=move || is_order(Order::Best)
                >
                    "Best match"
                </option>
            </select>
            <span class="tools-row__gap"></span>
            <IconButton glyph=Glyph::Again name="Refresh" title="Look for what is new" look=Look::Named on_click=on_refresh/>
            {move || {
                if is_trash.get() {
                    view! {
                        <IconButton
                            glyph=Glyph::Bin
                            name="Empty trash"
                            title="Remove all of it for good"
                            look=Look::Named
                            on_click=Callback::new(move |()| ask_to_empty(asked, toaster))
                        />
                    }
                        .into_any()
                } else {
                    view! {
                        <form class="inline" method="post" action="/api/sessions/export">
                            <input type="hidden" name="limit" value="all"/>
                            <input type="hidden" name="query" value=move || filter.get().query/>
                            <input type="hidden" name="kind" value=kind_name/>
                            <button
                                type="submit"
                                class="button"
                                title="Download all sessions that the list finds, as JSON"
                            >
                                <Icon glyph=Glyph::Download/>
                                "Export all"
                            </button>
                        </form>
                    }
                        .into_any()
                }
            }}
        </div>
        <SearchHelp on_example/>
    }
    .into_any()
}

/// A sentence in which what stands between backticks is code.
fn with_code(sentence: String) -> Vec<AnyView> {
    sentence
        .split('`')
        .enumerate()
        .map(|(place, text)| {
            let text = text.to_owned();
            if place % 2 == 1 { view! { <code>{text}</code> }.into_any() } else { text.into_any() }
        })
        .collect()
}

/// What can be searched for; the browser opens it, closes it at Escape and at a click beside it, and gives the focus back.
#[component]
fn SearchHelp(on_example: Callback<&'static str>) -> impl IntoView {
    view! {
        <div class="help" id="search-help" popover="auto" role="group" aria-label="What can be searched for">
            <dl class="help__list">
                {HELP
                    .into_iter()
                    .map(|(example, finds)| {
                        view! {
                            <div class="help__row">
                                <dt>
                                    <button
                                        type="button"
                                        class="help__example"
                                        popovertarget="search-help"
                                        popovertargetaction="hide"
                                        on:click=move |_| on_example.run(example)
                                    >
                                        {example}
                                    </button>
                                </dt>
                                <dd class="help__finds">{finds}</dd>
                            </div>
                        }
                    })
                    .collect_view()}
            </dl>
        </div>
    }
    .into_any()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_stands_in_the_address() {
        assert_eq!(Filter::default().search(), "");
        let filter = Filter { query: "a b&c".into(), kind: Some(Kind::Voice), order: Order::Best };
        let search = filter.search();
        assert!(search.starts_with("?q=a") && search.ends_with("&type=voice&sort=best"), "{search}");
        assert!(!search.contains(' ') && search.matches('&').count() == 2, "{search}");
        assert_eq!(Filter::of(Some("x".into()), Some("nonsense".into()), Some("nonsense".into())).search(), "?q=x");
    }

    #[test]
    fn nothing_fits_best_where_nothing_is_searched_for() {
        for (query, order, expected) in [("", "best", ""), (" ", "best", "?q=%20"), ("", "oldest", "?sort=oldest")] {
            assert_eq!(Filter::of(Some(query.into()), None, Some(order.into())).search(), expected);
        }
    }
}
