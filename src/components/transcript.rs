//! The conversation as one reads it.

use super::icon::{Glyph, Icon, IconButton, Look};
use super::local_time::{LocalTime, local_text};
use super::markdown;
use crate::browser::{self, TimeStyle};
use crate::client::turns::Row;
use crate::model::ending::looks_cut;
use crate::model::message::{Message, Modes, Role, short_model_name};
use crate::model::parts::{Part, ToolStatus, ToolUse};
use crate::model::reply::Phase;
use leptos::prelude::*;
use leptos::task::spawn_local;
use serde_json::Value;

/// How many cards of tools a turn shows at first, and how many more at a click.
const TOOLS_AT_FIRST: usize = 50;
const TOOLS_MORE: usize = 200;

/// How many pieces of a reply, texts and thoughts, stand alone; the rest is one piece of each kind.
const MAX_SEGMENTS: usize = 200;

/// What can be done with a turn; without it a transcript is only read.
#[derive(Clone, Copy)]
pub struct TurnActions {
    /// The id of the message that streams in now.
    pub live_id: Signal<Option<String>>,
    /// What the reply waits for.
    pub phase: Signal<Option<(Phase, Option<f64>)>>,
    /// Whether any reply is asked for.
    pub is_busy: Signal<bool>,
    /// Whether another place on the page offers to try again.
    pub is_offered: Signal<bool>,
    /// The id of the last shown turn.
    pub last_id: Signal<Option<String>>,
    /// Asks for another reply to the message with this id.
    pub on_try_again: Callback<String>,
    /// Shows the version with this id.
    pub on_switch: Callback<String>,
    /// Rates the reply with this id: 1 is good, -1 is bad, `None` takes it back.
    pub on_rate: Callback<(String, Option<i64>)>,
    /// Takes the turn with this id out of the conversation.
    pub on_hide: Callback<String>,
}

/// What stands in a reply at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Segment {
    Text,
    Reasoning,
    /// All texts from here on, where there are very many.
    RestOfText,
    /// All thoughts from here on.
    RestOfReasoning,
}

/// One turn.
#[component]
pub fn TurnView(
    /// The turn.
    row: Row,
    /// What can be done with it.
    #[prop(optional_no_strip)]
    actions: Option<TurnActions>,
) -> impl IntoView {
    let message = row.turn.message.clone();
    let first = message.get_untracked();
    let is_user = first.role == Role::User;
    let time = local_text(first.timestamp.clone(), TimeStyle::DayAndTime);
    let model = {
        let message = message.clone();
        Memo::new(move |_| {
            let message = message.read();
            short_model_name(message.metadata.get("model").and_then(Value::as_str).unwrap_or_default()).to_owned()
        })
    };
    let speaker = speaker(&first.role);
    let name = move || {
        let model = model.read();
        match (is_user, model.is_empty()) {
            (false, false) => format!("{speaker}, {model}, {}", time.get()),
            _ => format!("{speaker}, {}", time.get()),
        }
    };
    let is_live = {
        let id = row.turn.id.clone();
        Memo::new(move |_| actions.is_some_and(|actions| actions.live_id.read().as_ref() == Some(&id)))
    };
    let class = if is_user { "turn turn--user" } else { "turn turn--assistant" };
    let badges = {
        let message = message.clone();
        Memo::new(move |_| message.read().modes().unwrap_or_default())
    };
    // Where something can be done with a turn, its buttons say how it is rated.
    let rating = actions.is_none().then(|| {
        let message = message.clone();
        Memo::new(move |_| rating_of(&message.read()))
    });
    let body = if is_user {
        view! { <div class="turn__words" dir="auto">{first.content.clone()}</div> }.into_any()
    } else {
        view! { <ReplyBody message=message.clone() is_live/> }.into_any()
    };
    view! {
        <article
            class=class
            aria-label=name
            aria-busy=move || is_live.get().then_some("true")
            data-message-id=row.turn.id.clone()
        >
            <header class="turn__head">
                <span class="turn__speaker">{speaker}</span>
                <span class="turn__model">{model}</span>
                {move || view! { <Badges modes=badges.get()/> }}
                {rating.map(|rating| move || rating_badge(rating.get()))}
                <span class="turn__time">
                    <LocalTime at=first.timestamp.clone() style=TimeStyle::Short/>
                </span>
            </header>
            {body}
            {(!is_user).then(|| view! { <Tools message=message.clone()/> })}
            {actions
                .map(|actions| {
                    view! {
                        <Waiting message=message.clone() is_live actions/>
                        <Note message=message.clone() id=row.turn.id.clone() actions/>
                        <Foot row=row.clone() is_live actions/>
                    }
                        .into_any()
                })}
            {actions.is_none().then(|| view! { <PlainNote message=message.clone()/> })}
        </article>
    }
    .into_any()
}

/// ⚡ CMD and 🌐 WEB.
#[component]
pub fn Badges(
    /// The modes that are shown where they are on.
    modes: Modes,
) -> impl IntoView {
    view! {
        {modes.commander.then(|| view! { <span class="badge" title="Commander was on">"⚡ CMD"</span> })}
        {modes.web_search.then(|| view! { <span class="badge" title="Web search was on">"🌐 WEB"</span> })}
    }
}

/// How a reply is rated: 1 is good, -1 is bad.
fn rating_of(message: &Message) -> Option<i64> {
    message.metadata.get("rating").and_then(Value::as_i64)
}

fn rating_badge(rating: Option<i64>) -> Option<impl IntoView> {
    let (glyph, name) = match rating? {
        1 => (Glyph::Good, "Good"),
        -1 => (Glyph::Bad, "Bad"),
        _ => return None,
    };
    Some(view! { <span class="badge badge--rating" title="How you rated it"><Icon glyph/>{name}</span> })
}

#[component]
fn ReplyBody(message: ArcRwSignal<Message>, is_live: Memo<bool>) -> impl IntoView {
    let segments = {
        let message = message.clone();
        Memo::new(move |_| segments(&message.read()))
    };
    view! {
        <For
            each=move || segments.get()
            key=|segment| *segment
            children=move |(index, segment)| {
                let text = {
                    let message = message.clone();
                    Memo::new(move |_| segment_text(&message.read(), index, segment))
                };
                match segment {
                    Segment::Text | Segment::RestOfText => view! { <Markdown text is_growing=is_live/> }.into_any(),
                    Segment::Reasoning | Segment::RestOfReasoning => {
                        let message = message.clone();
                        let summary = move || {
                            let message = message.read();
                            let is_thinking = is_live.get() && segments.read().last() == Some(&(index, segment));
                            reasoning_summary(&message, index, is_thinking)
                        };
                        view! {
                            <details class="reasoning">
                                <summary class="reasoning__summary">{summary}</summary>
                                <div class="reasoning__text" dir="auto">{text}</div>
                            </details>
                        }
                            .into_any()
                    }
                }
            }
        />
    }
    .into_any()
}

/// A text as Markdown. Only blocks whose HTML changes touch the page, so that a selection lives through streaming.
#[component]
pub fn Markdown(
    /// The text.
    #[prop(into)]
    text: Signal<String>,
    /// Whether more of it may come.
    #[prop(into)]
    is_growing: Signal<bool>,
) -> impl IntoView {
    let growing = StoredValue::new(markdown::Growing::default());
    let blocks = Memo::new(move |_| {
        let (text, is_complete) = (text.read(), !is_growing.get());
        growing.try_update_value(|growing| growing.blocks(&text, is_complete)).unwrap_or_default()
    });
    view! {
        <div class="md">
            <For
                each=move || 0..blocks.read().len()
                key=|index| *index
                children=move |index| {
                    let html = Memo::new(move |_| blocks.read().get(index).cloned());
                    let html = move || html.read().as_deref().unwrap_or_default().to_owned();
                    view! { <div class="md__block" inner_html=html></div> }
                }
            />
        </div>
    }
}

#[component]
fn Tools(message: ArcRwSignal<Message>) -> impl IntoView {
    let tools = Memo::new(move |_| message.read().tools_used());
    let count = Memo::new(move |_| tools.read().len());
    let most = RwSignal::new(TOOLS_AT_FIRST);
    let shown = Memo::new(move |_| tools.read().iter().take(most.get()).cloned().collect::<Vec<_>>());
    let list = move || {
        let shown = shown.get();
        (!shown.is_empty()).then(|| {
            view! {
                <ul class="tools" aria-label="Tools used">
                    {shown.into_iter().map(|tool| view! { <li class="tools__item"><Tool tool/></li> }).collect_view()}
                </ul>
            }
        })
    };
    let more = Memo::new(move |_| count.get().saturating_sub(most.get()));
    view! {
        {list}
        {move || {
            (more.get() > 0)
                .then(|| {
                    view! {
                        <button
                            type="button"
                            class="button button--small tools__more"
                            on:click=move |_| most.update(|most| *most += TOOLS_MORE)
                        >
                            {move || format!("Show more tools ({} left)", more.get())}
                        </button>
                    }
                })
        }}
    }
}

#[component]
fn Tool(tool: ToolUse) -> impl IntoView {
    let call = format!("{}({})", tool.name, tool.params);
    let status = match &tool.status {
        Some(ToolStatus::Error) => Some("failed"),
        Some(ToolStatus::Denied) => Some("not allowed"),
        _ => None,
    };
    let head = view! {
        <span aria-hidden="true">"🛠️ "</span>
        <code class="tool__call">{call}</code>
        {status.map(|status| view! { <span class="tool__status">{status}</span> })}
        {tool.duration_ms.map(|ms| view! { <span class="tool__time">{duration(ms)}</span> })}
    };
    match tool.result {
        Some(result) => {
            let text = match result {
                Value::String(text) => text,
                other => serde_json::to_string_pretty(&other).unwrap_or_default(),
            };
            view! {
                <details class="tool">
                    <summary class="tool__head">{head}</summary>
                    <pre class="tool__result" tabindex="0">{text}</pre>
                </details>
            }
            .into_any()
        }
        None => view! { <div class="tool tool__head">{head}</div> }.into_any(),
    }
}

#[component]
fn Waiting(message: ArcRwSignal<Message>, is_live: Memo<bool>, actions: TurnActions) -> impl IntoView {
    let is_waiting = Memo::new(move |_| is_live.get() && message.read().parts.as_ref().is_none_or(Vec::is_empty));
    move || is_waiting.get().then(|| view! { <p class="waiting">{move || phase_text(actions.phase.get())}</p> })
}

#[component]
fn Note(message: ArcRwSignal<Message>, id: String, actions: TurnActions) -> impl IntoView {
    let is_last = Memo::new(move |_| actions.last_id.read().as_ref() == Some(&id));
    let note = Memo::new(move |_| {
        let message = message.read();
        let is_idle = !actions.is_busy.get() && !actions.is_offered.get();
        let missing = message.role == Role::User && is_last.get() && is_idle;
        let text = if missing { Some("This message has no reply yet.".to_owned()) } else { note_of(&message) };
        let to_answer = match message.role {
            Role::User => Some(message.id.clone()),
            _ => message.parent_id.clone(),
        };
        let is_stopped = is_only_stopped(&message);
        text.map(|text| (text, is_stopped, to_answer.filter(|_| is_last.get() && is_idle)))
    });
    move || {
        note.get().map(|(text, is_stopped, to_answer)| {
            view! {
                <div class="note" class:note--quiet=is_stopped>
                    <span>{text}</span>
                    {to_answer
                        .map(|id| {
                            view! {
                                <button
                                    type="button"
                                    class="button button--small"
                                    on:click=move |_| actions.on_try_again.run(id.clone())
                                >
                                    <Icon glyph=Glyph::Again/>
                                    "Try again"
                                </button>
                            }
                        })}
                </div>
            }
        })
    }
}

#[component]
fn PlainNote(message: ArcRwSignal<Message>) -> impl IntoView {
    move || {
        let message = message.read();
        let is_stopped = is_only_stopped(&message);
        note_of(&message).map(|text| view! { <div class="note" class:note--quiet=is_stopped>{text}</div> })
    }
}

#[component]
fn Foot(row: Row, is_live: Memo<bool>, actions: TurnActions) -> impl IntoView {
    let id = StoredValue::new(row.turn.id.clone());
    let message = row.turn.message.clone();
    let is_last = Memo::new(move |_| id.with_value(|id| actions.last_id.read().as_ref() == Some(id)));
    let is_reply = message.read_untracked().role == Role::Assistant;
    let rating = {
        let message = message.clone();
        Memo::new(move |_| rating_of(&message.read()))
    };
    let rate = move |value: i64, name: &'static str, glyph: Glyph| {
        view! {
            <button
                type="button"
                class="button button--quiet button--icon button--small turn__rating"
                aria-label=name
                title=name
                aria-pressed=move || (rating.get() == Some(value)).to_string()
                on:click=move |_| {
                    let rated = (rating.get_untracked() != Some(value)).then_some(value);
                    actions.on_rate.run((id.get_value(), rated));
                }
            >
                <Icon glyph/>
            </button>
        }
    };
    let copied = RwSignal::new(false);
    let copy = {
        let message = message.clone();
        move |_| {
            let text = message.read_untracked().content.clone();
            spawn_local(async move {
                if browser::copy(text).await {
                    copied.set(true);
                    browser::sleep(1_500).await;
                    let _ = copied.try_set(false);
                }
            });
        }
    };
    let can_retry = {
        let message = message.clone();
        Memo::new(move |_| {
            let message = message.read();
            let answers = (message.role == Role::Assistant).then(|| message.parent_id.clone()).flatten();
            answers.filter(|_| is_last.get() && !actions.is_busy.get() && note_of(&message).is_none())
        })
    };
    let versions = StoredValue::new(row.versions.clone());
    let count = row.versions.len();
    let place = row.version;
    let go = move |to: Option<usize>, button: &'static str| {
        let id = to.and_then(|to| versions.with_value(|versions| versions.get(to).cloned()));
        if let Some(id) = id.filter(|_| !actions.is_busy.get_untracked()) {
            actions.on_switch.run(id.clone());
            // The button that had the focus goes with its version.
            request_animation_frame(move || browser::focus_button_of_turn(&id, button));
        }
    };
    view! {
        <footer class="turn__foot" class:turn__foot--live=is_live>
            {(count > 1)
                .then(|| {
                    view! {
                        <span class="versions" role="group" aria-label="Versions">
                            <button
                                type="button"
                                class="button button--quiet button--icon button--small"
                                aria-label="Previous version"
                                // Not `disabled`, which would take the focus from it at the last step.
                                aria-disabled=move || (place == 0 || actions.is_busy.get()).then_some("true")
                                on:click=move |_| go(place.checked_sub(1), "Previous version")
                            >
                                <Icon glyph=Glyph::Left/>
                            </button>
                            <span class="versions__count">{format!("{}/{count}", place + 1)}</span>
                            <button
                                type="button"
                                class="button button--quiet button--icon button--small"
                                aria-label="Next version"
                                aria-disabled=move || (place + 1 == count || actions.is_busy.get()).then_some("true")
                                on:click=move |_| go(Some(place + 1), "Next version")
                            >
                                <Icon glyph=Glyph::Right/>
                            </button>
                        </span>
                    }
                })}
            <button
                type="button"
                class="button button--quiet button--icon button--small"
                aria-label=move || if copied.get() { "Copied" } else { "Copy message" }
                title="Copy"
                on:click=copy
            >
                {move || {
                    let glyph = if copied.get() { Glyph::Check } else { Glyph::Copy };
                    view! { <Icon glyph/> }
                }}
            </button>
            {move || {
                can_retry
                    .get()
                    .map(|id| {
                        view! {
                            <IconButton
                                glyph=Glyph::Again
                                name="Reply anew"
                                title="Reply anew; this version is kept"
                                look=Look::Small
                                on_click=Callback::new(move |()| actions.on_try_again.run(id.clone()))
                            />
                        }
                    })
            }}
            {is_reply.then(|| (rate(1, "Good reply", Glyph::Good), rate(-1, "Bad reply", Glyph::Bad)))}
            <IconButton
                glyph=Glyph::Hide
                name="Hide"
                title="Hide from the conversation"
                look=Look::Small
                on_click=Callback::new(move |()| actions.on_hide.run(id.get_value()))
            />
        </footer>
    }
    .into_any()
}

/// How the assistant's wait is told.
pub fn phase_text(phase: Option<(Phase, Option<f64>)>) -> String {
    let (words, fraction) = match phase {
        None | Some((Phase::Waiting, _)) => ("Waiting for the assistant", None),
        Some((Phase::BuildingModel, fraction)) => ("The model is being built", fraction),
        Some((Phase::FetchingModel, fraction)) => ("The model is being fetched", fraction),
        Some((Phase::LoadingModel, fraction)) => ("Loading the model", fraction),
        Some((Phase::ReadingContext, fraction)) => ("Reading the conversation", fraction),
    };
    match fraction {
        Some(fraction) => format!("{words}, {:.0} %", fraction.clamp(0.0, 1.0) * 100.0),
        None => format!("{words}…"),
    }
}

/// The same for screen readers, which hear it once for each phase.
pub fn phase_announcement(phase: Option<Phase>) -> &'static str {
    match phase {
        Some(Phase::BuildingModel) => "The model is being built. It answers when that is done.",
        Some(Phase::FetchingModel) => "The model is being fetched. It answers when that is done.",
        Some(Phase::LoadingModel) => "Loading the model.",
        Some(Phase::ReadingContext) => "The assistant is reading the conversation.",
        None | Some(Phase::Waiting) => "The assistant is answering.",
    }
}

fn speaker(role: &Role) -> &'static str {
    match role {
        Role::User => "You",
        Role::Assistant => "Assistant",
        Role::System => "Instructions",
        Role::Other(_) => "Other",
    }
}

fn segments(message: &Message) -> Vec<(usize, Segment)> {
    let Some(parts) = &message.parts else { return vec![(0, Segment::Text)] };
    let mut all = parts.iter().enumerate().filter_map(|(index, part)| match part {
        Part::Text { .. } => Some((index, Segment::Text)),
        Part::Reasoning { .. } => Some((index, Segment::Reasoning)),
        Part::Tool(_) | Part::Other(_) => None,
    });
    let mut segments: Vec<_> = all.by_ref().take(MAX_SEGMENTS).collect();
    let rest: Vec<_> = all.collect();
    for (kind, of_rest) in [(Segment::Reasoning, Segment::RestOfReasoning), (Segment::Text, Segment::RestOfText)] {
        segments.extend(rest.iter().find(|(_, of)| *of == kind).map(|(index, _)| (*index, of_rest)));
    }
    segments
}

fn segment_text(message: &Message, index: usize, segment: Segment) -> String {
    let Some(parts) = &message.parts else { return message.content.clone() };
    let rest = parts.get(index..).unwrap_or_default().iter();
    match segment {
        Segment::Text | Segment::Reasoning => match parts.get(index) {
            Some(Part::Text { text, .. } | Part::Reasoning { text, .. }) => text.clone(),
            _ => String::new(),
        },
        Segment::RestOfText => rest
            .filter_map(|part| if let Part::Text { text, .. } = part { Some(text.as_str()) } else { None })
            .collect(),
        Segment::RestOfReasoning => rest
            .filter_map(|part| if let Part::Reasoning { text, .. } = part { Some(text.as_str()) } else { None })
            .collect(),
    }
}

fn reasoning_summary(message: &Message, index: usize, is_thinking: bool) -> String {
    let took = message.parts.as_ref().and_then(|parts| match parts.get(index) {
        Some(Part::Reasoning { duration_ms, .. }) => *duration_ms,
        _ => None,
    });
    match (is_thinking, took) {
        (true, _) => "Thinking…".to_owned(),
        (false, Some(ms)) => format!("Thought for {}", duration(ms)),
        (false, None) => "Thoughts".to_owned(),
    }
}

fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{} s", (ms + 500) / 1_000),
        _ => format!("{} min", (ms + 30_000) / 60_000),
    }
}

/// What is to be said below a reply that did not end as it should.
pub fn note_of(message: &Message) -> Option<String> {
    let text = |key: &str| message.metadata.get(key).and_then(Value::as_str);
    if message.role != Role::Assistant {
        return None;
    }
    if is_only_stopped(message) {
        return Some("You stopped this reply.".to_owned());
    }
    if text("error") == Some("interrupted") {
        return Some("The server stopped in the middle of this reply. What had arrived by then is kept.".to_owned());
    }
    if has_error(message) {
        let said = text("error_message").unwrap_or("The assistant broke off. What had arrived by then is kept.");
        return Some(said.to_owned());
    }
    let is_empty = message.metadata.get("empty") == Some(&Value::Bool(true));
    match text("cut_off") {
        Some("length") if is_empty => {
            Some("The model reached the longest that it writes at once before it answered.".to_owned())
        }
        Some("length") => Some("The reply reached the longest that the model writes at once.".to_owned()),
        Some("content_filter") => Some("The model's provider held the rest of this reply back.".to_owned()),
        Some("media") => {
            Some("The model sent a picture, a sound or a file, which Verbatim does not keep yet.".to_owned())
        }
        Some("tool_rounds") => Some("The model called tools again and again, so that it was ended.".to_owned()),
        _ if is_empty => Some("The model answered nothing.".to_owned()),
        // A reason that is not known says nothing; the text may.
        Some(_) if looks_cut(&message.content) => Some("The model ended this reply early.".to_owned()),
        _ => None,
    }
}

fn has_error(message: &Message) -> bool {
    message.metadata.get("error").is_some_and(|error| !error.is_null() && *error != Value::Bool(false))
}

/// Whether the person stopped the reply, which is no trouble.
fn is_only_stopped(message: &Message) -> bool {
    let is_stopped = message.metadata.get("stopped").and_then(Value::as_bool) == Some(true);
    message.role == Role::Assistant && is_stopped && !has_error(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reply(metadata: Value, parts: Value) -> Message {
        serde_json::from_value(json!({"id":"a","parent_id":null,"role":"assistant","content":"x","timestamp":"t",
            "metadata":metadata,"parts":parts}))
        .unwrap()
    }

    #[test]
    fn says_how_a_reply_ended() {
        let note = |metadata| note_of(&reply(metadata, json!(null)));
        assert_eq!(note(json!({})), None);
        assert_eq!(note(json!({"stopped":true})).as_deref(), Some("You stopped this reply."));
        assert!(note(json!({"error":"interrupted"})).unwrap().starts_with("The server stopped"));
        assert_eq!(note(json!({"error":"x","error_message":"No key."})).as_deref(), Some("No key."));
        assert!(note(json!({"cut_off":"length"})).is_some());
        assert_eq!(note(json!({"empty":true})).as_deref(), Some("The model answered nothing."));
        assert_eq!(
            note(json!({"empty":true,"cut_off":"no_finish_reason"})).as_deref(),
            Some("The model answered nothing.")
        );
        assert!(note(json!({"empty":true,"cut_off":"length"})).unwrap().ends_with("before it answered."));
        assert!(note(json!({"cut_off":"tool_rounds"})).unwrap().contains("called tools"));
        assert!(note(json!({"cut_off":"media","empty":true})).unwrap().contains("a picture"));
        // A reason that nobody knows is an early end only where the text shows it.
        assert_eq!(note(json!({"cut_off":"eos_token"})), None);
        let torn = Message { content: "So:\n```\nls".into(), ..reply(json!({"cut_off":"odd"}), json!(null)) };
        assert_eq!(note_of(&torn).as_deref(), Some("The model ended this reply early."));
    }

    #[test]
    fn a_reply_is_text_and_thoughts_in_order() {
        let message = reply(
            json!({}),
            json!([{"type":"reasoning","text":"hm","duration_ms":2600},{"type":"tool","name":"t"},{"type":"text","text":"b"}]),
        );
        assert_eq!(segments(&message), [(0, Segment::Reasoning), (2, Segment::Text)]);
        assert_eq!(segment_text(&message, 2, Segment::Text), "b");
        assert_eq!(reasoning_summary(&message, 0, false), "Thought for 3 s");
        assert_eq!(reasoning_summary(&message, 0, true), "Thinking…");
        assert_eq!(segment_text(&reply(json!({}), json!(null)), 0, Segment::Text), "x");
    }

    #[test]
    fn of_very_many_pieces_the_rest_is_one_and_no_word_is_lost() {
        let parts: Vec<Value> = (0..5_000)
            .flat_map(|n| {
                [json!({"type":"text","text":format!("t{n} ")}), json!({"type":"reasoning","text":format!("r{n} ")})]
            })
            .collect();
        let message = reply(json!({}), json!(parts));
        let found = segments(&message);
        assert_eq!(found.len(), MAX_SEGMENTS + 2);
        let shown: String = found.iter().map(|&(index, segment)| segment_text(&message, index, segment)).collect();
        for n in [0, 1, 99, 100, 101, 4_999] {
            assert_eq!(
                (shown.matches(&format!("t{n} ")).count(), shown.matches(&format!("r{n} ")).count()),
                (1, 1),
                "{n}"
            );
        }
    }

    #[test]
    fn tells_what_is_waited_for() {
        assert_eq!(phase_text(None), "Waiting for the assistant…");
        assert_eq!(phase_text(Some((Phase::LoadingModel, Some(0.254)))), "Loading the model, 25 %");
    }
}
