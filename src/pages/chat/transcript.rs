//! The turns of the conversation that are on the page, and what is said around them.

use super::reading::Reading;
use crate::browser;
use crate::client::session_manager::{Earlier, Remedy, SessionManager};
use crate::client::turns::Row;
use crate::components::icon::{Glyph, Icon};
use crate::components::toast::Toaster;
use crate::components::transcript::{TurnActions, TurnView, note_of, phase_announcement, phase_text};
use crate::model::message::{Message, Role, short_model_name};
use crate::pages::hidden::bring_back;
use leptos::prelude::*;
use serde_json::Value;
use std::sync::Arc;

/// Takes a turn out of the conversation in hand, and offers to undo it.
fn hide(manager: SessionManager, toaster: Toaster, message: Message) {
    let Some(session_id) = manager.session_id.get_untracked() else { return };
    let moved = manager.hide_turn(&message.id);
    let undo = Arc::new(move || {
        let is_in_hand = manager.session_id.get_untracked().as_ref() == Some(&session_id);
        if is_in_hand && manager.holds(&message.id) {
            return manager.show_turn(&message.id, moved.as_ref());
        }
        // Another session is in hand by now, or another part of this one.
        bring_back(manager, toaster, session_id.clone(), message.clone());
    });
    toaster.say("Hidden from the conversation.", Some(undo));
    focus_message();
}

/// Brings hidden turns back, and offers to undo it.
fn show(manager: SessionManager, toaster: Toaster, ids: Vec<String>) {
    manager.show_turns(&ids);
    let session_id = manager.session_id.get_untracked();
    let undo = Arc::new(move || {
        if manager.session_id.get_untracked() == session_id {
            ids.iter().rev().for_each(|id| drop(manager.hide_turn(id)));
        }
    });
    toaster.say("Back in the conversation.", Some(undo));
    focus_message();
}

/// Where the focus goes when the button that had it goes.
fn focus_message() {
    if browser::has_fine_pointer() {
        browser::focus_id("message");
    }
}

/// A complete reply as a screen reader says it, with what is to be said of one that did not end as it should.
fn spoken(reply: &Message) -> String {
    let note = note_of(reply).map(|note| format!(" {note}")).unwrap_or_default();
    format!("Assistant: {}{note}", reply.content)
}

/// The conversation as far as it is on the page.
#[component]
pub fn Transcript(
    /// The session in hand.
    manager: SessionManager,
    /// Where notices go.
    toaster: Toaster,
    /// The shown conversation, as far as it is held.
    rows: Memo<Vec<Row>>,
    /// What of it is on the page.
    reading: Reading,
) -> impl IntoView {
    let last_id = Memo::new(move |_| rows.read().last().map(|row| row.turn.id.clone()));
    let live_id = Memo::new(move |_| manager.live.read().as_ref().and_then(|live| live.message_id.clone()));
    // Where the assistant's sight of the conversation begins: the id of the first message that it still sees, and how many it
    // does not.
    let horizon = Memo::new(move |_| {
        let earlier = manager.earlier_turns();
        rows.with(|rows| {
            let newest =
                rows.iter().rev().map(|row| row.turn.message.read()).find(|message| message.role == Role::Assistant)?;
            let left_out = newest.metadata.get("left_out").and_then(Value::as_u64)?;
            let left_out = usize::try_from(left_out).ok().filter(|&count| count > 0)?;
            rows.get(left_out.checked_sub(earlier)?).map(|row| (row.turn.id.clone(), left_out))
        })
    });
    let actions = TurnActions {
        live_id: live_id.into(),
        phase: Signal::derive(move || manager.live.read().as_ref().and_then(|live| live.phase)),
        is_busy: Signal::derive(move || manager.live.read().is_some()),
        is_offered: Signal::derive(move || {
            manager.notice.read().as_ref().is_some_and(|notice| matches!(notice.remedy, Some(Remedy::TryAgain(_))))
        }),
        last_id: last_id.into(),
        on_try_again: Callback::new(move |id| {
            manager.try_again(id);
            focus_message();
        }),
        on_switch: Callback::new(move |id: String| {
            reading.pin();
            manager.switch_to(&id);
        }),
        on_rate: Callback::new(move |(id, rating): (String, Option<i64>)| {
            manager.change_turn(&id, "rating", rating.map_or(Value::Null, Value::from));
        }),
        on_hide: Callback::new(move |id: String| {
            let hidden = rows.with_untracked(|rows| rows.iter().find(|row| row.turn.id == id).cloned());
            if let Some(row) = hidden {
                hide(manager, toaster, row.turn.message.get_untracked());
            }
        }),
    };
    let is_empty = Memo::new(move |_| rows.read().is_empty());
    let hidden = Memo::new(move |_| manager.hidden_turns());
    let hidden_before = move |id: Option<String>| {
        let ids = Memo::new(move |_| hidden.read().get(&id).cloned().unwrap_or_default());
        view! { <HiddenHere manager toaster ids/> }
    };
    // Before its message is begun, a reply that was asked for has only this line.
    let pending = Memo::new(move |_| {
        let live = manager.live.read();
        let live = live.as_ref()?;
        if live.stopping {
            return Some("Stopping…".to_owned());
        }
        match (live.reconnecting, &live.message_id) {
            (true, _) => Some("The server cannot be reached. It is tried again…".to_owned()),
            (false, None) => Some(phase_text(live.phase)),
            (false, Some(id)) => (last_id.read().as_ref() != Some(id)).then(|| phase_text(live.phase)),
        }
    });
    // A screen reader hears a reply once, when it is complete.
    let announcement = RwSignal::new(String::new());
    Effect::new(move |before: Option<(u64, Option<String>)>| {
        let visit = manager.visits.get();
        let live = manager.live.get();
        let id = live.as_ref().and_then(|live| live.message_id.clone());
        match (&live, before) {
            (Some(live), _) => {
                let said = phase_announcement(live.phase.map(|(phase, _)| phase));
                // Said once for each phase, not at each percent.
                if announcement.with_untracked(|before| before != said) {
                    announcement.set(said.to_owned());
                }
            }
            (None, Some((earlier, Some(id)))) if earlier == visit => {
                let reply = rows.with_untracked(|rows| rows.iter().rev().find(|row| row.turn.id == id).cloned());
                let reply = reply.map(|row| row.turn.message.get_untracked());
                announcement.set(reply.map(|reply| spoken(&reply)).unwrap_or_default());
            }
            (None, _) => announcement.set(String::new()),
        }
        (visit, id)
    });
    view! {
        <div class="transcript">
            {move || is_empty.get().then(|| view! { <Invitation manager/> })}
            <EarlierTurns manager reading/>
            <For
                each=move || reading.blocks()
                key=|block| *block
                children=move |block| {
                    let shown = Memo::new(move |_| reading.rows_of(block));
                    view! {
                        <For
                            each=move || shown.get()
                            key=|row| row.key()
                            children=move |row| {
                                let id = row.turn.id.clone();
                                let line = move || {
                                    horizon
                                        .get()
                                        .filter(|(first, _)| *first == id)
                                        .map(|(_, count)| {
                                            let noun = if count == 1 { "message" } else { "messages" };
                                            view! {
                                                <p class="transcript__horizon">
                                                    {format!("The assistant no longer sees the {count} {noun} above")}
                                                </p>
                                            }
                                        })
                                };
                                let hidden = hidden_before(Some(row.turn.id.clone()));
                                view! {
                                    {hidden}
                                    {line}
                                    <TurnView row actions=Some(actions)/>
                                }
                            }
                        />
                    }
                }
            />
            {hidden_before(None)}
            {move || pending.get().map(|text| view! { <p class="waiting waiting--alone">{text}</p> })}
            {move || {
                manager
                    .notice
                    .get()
                    .map(|notice| {
                        let label = match &notice.remedy {
                            Some(Remedy::Restore) => "Undo",
                            _ => "Try again",
                        };
                        view! {
                            <div class="note note--wide" role="alert">
                                <span>{notice.text}</span>
                                {notice
                                    .remedy
                                    .map(|remedy| {
                                        view! {
                                            <button
                                                type="button"
                                                class="button button--small"
                                                on:click=move |_| {
                                                    manager.remedy(remedy.clone());
                                                    focus_message();
                                                }
                                            >
                                                <Icon glyph=Glyph::Again/>
                                                {label}
                                            </button>
                                        }
                                    })}
                            </div>
                        }
                    })
            }}
        </div>
        <p class="unseen" aria-live="polite">{announcement}</p>
    }
    .into_any()
}

/// The line that stands where turns are hidden.
#[component]
fn HiddenHere(manager: SessionManager, toaster: Toaster, ids: Memo<Vec<String>>) -> impl IntoView {
    let count = Memo::new(move |_| ids.read().len());
    move || {
        let count = count.get();
        (count > 0).then(|| {
            let noun = if count == 1 { "turn" } else { "turns" };
            view! {
                <p class="transcript__hidden">
                    {format!("{count} {noun} hidden · ")}
                    <button type="button" on:click=move |_| show(manager, toaster, ids.get_untracked())>
                        "Show"
                    </button>
                </p>
            }
        })
    }
}

/// What stands above the first turn on the page while there are earlier ones. They come by themselves when the person scrolls there;
/// the button is for those who do not scroll, and for trying again.
#[component]
fn EarlierTurns(manager: SessionManager, reading: Reading) -> impl IntoView {
    let count = Memo::new(move |_| reading.earlier_turns());
    let failure = Memo::new(move |_| match manager.earlier.get() {
        Earlier::Failed(reason) => Some(reason),
        Earlier::Idle | Earlier::Loading => None,
    });
    let label = move || match (&*manager.earlier.read(), count.get()) {
        (Earlier::Loading, _) => "Loading earlier messages…".to_owned(),
        (Earlier::Failed(_), _) => "Try again".to_owned(),
        (Earlier::Idle, count) => format!("Show earlier messages ({count})"),
    };
    let is_needed = Memo::new(move |_| count.get() > 0);
    view! {
        <div class="transcript__edge" hidden=move || !is_needed.get()>
            <p class="transcript__failure" role="status">
                {move || failure.get().map(|reason| format!("Earlier messages could not be loaded. {reason}"))}
            </p>
            <button
                type="button"
                class="button"
                aria-disabled=move || (*manager.earlier.read() == Earlier::Loading).then_some("true")
                on:click=move |_| reading.show_earlier()
            >
                {label}
            </button>
        </div>
    }
    .into_any()
}

#[component]
fn Invitation(manager: SessionManager) -> impl IntoView {
    view! {
        <section class="invitation" aria-labelledby="invitation-title">
            <h2 class="invitation__title" id="invitation-title">"What is on your mind?"</h2>
            <p class="invitation__text">
                "Every word of this conversation is kept, word for word, in a plain file on this machine."
            </p>
            <p class="invitation__assistant">
                {move || match manager.assistant.get() {
                    None => view! { <span>"Looking for an assistant…"</span> }.into_any(),
                    Some(status) => {
                        match (status.model, status.place) {
                            (Some(model), place) => {
                                view! {
                                    <span class="dot" class=("dot--on", status.waits_for.is_none()) aria-hidden="true"></span>
                                    <span>
                                        "You talk to " <strong>{short_model_name(&model).to_owned()}</strong>
                                        {place.filter(|place| !place.is_empty()).map(|place| format!(", {place}"))}
                                        {status.note.map(|note| format!(". {note}"))}
                                    </span>
                                }
                                    .into_any()
                            }
                            (None, _) => {
                                view! {
                                    <span class="dot" aria-hidden="true"></span>
                                    <span>"No assistant can be reached yet. See below."</span>
                                }
                                    .into_any()
                            }
                        }
                    }
                }}
            </p>
        </section>
    }
    .into_any()
}
