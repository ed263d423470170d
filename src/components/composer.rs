//! Where one types.

use super::icon::{Glyph, Icon};
use crate::browser;
use crate::model::message::Modes;
use leptos::ev::KeyboardEvent;
use leptos::html;
use leptos::prelude::*;

/// The most lines that the field grows to.
const MOST_LINES: usize = 12;

/// The field for a message with its switches and the button.
#[component]
pub fn Composer(
    /// What is typed.
    draft: RwSignal<String>,
    /// What the assistant may do in the next turn.
    modes: Signal<Modes>,
    /// Whether a reply is being generated.
    #[prop(into)]
    is_busy: Signal<bool>,
    /// The field, for whoever gives it the focus.
    field: NodeRef<html::Textarea>,
    /// Called with what is typed at each change.
    on_input: Callback<String>,
    /// Called with the message; while a reply is being generated it waits.
    on_send: Callback<String>,
    /// Called to stop the reply.
    on_stop: Callback<()>,
    /// Called with the new modes.
    on_modes: Callback<Modes>,
) -> impl IntoView {
    let is_blank = Memo::new(move |_| draft.read().trim().is_empty());
    let can_queue = Memo::new(move |_| is_busy.get() && !is_blank.get());
    let send = move || {
        if is_blank.get_untracked() {
            return;
        }
        let text = draft.get_untracked();
        draft.set(String::new());
        on_send.run(text);
    };
    let key = move |event: KeyboardEvent| {
        if event.key() == "Enter" && !event.shift_key() && !browser::is_composing(&event) {
            event.prevent_default();
            send();
        }
    };
    view! {
        <form
            class="composer"
            on:submit=move |event| {
                event.prevent_default();
                send();
            }
        >
            <textarea
                class="composer__field"
                node_ref=field
                id="message"
                aria-label="Message"
                dir="auto"
                placeholder="Write a message"
                rows=move || draft.read().lines().count().clamp(1, MOST_LINES).to_string()
                autocomplete="off"
                enterkeyhint="send"
                prop:value=move || draft.get()
                on:input=move |event| {
                    let text = event_target_value(&event);
                    draft.set(text.clone());
                    on_input.run(text);
                }
                on:keydown=key
            ></textarea>
            <div class="composer__row">
                <Switch
                    name="Commander"
                    badge="⚡ CMD"
                    title="Commander: the assistant may run tools that act on this machine. The mode is kept with each \
                    message; the tools themselves come with a later version."
                    is_on=Signal::derive(move || modes.read().commander)
                    on_change=Callback::new(move |on| on_modes.run(Modes { commander: on, ..modes.get_untracked() }))
                />
                <Switch
                    name="Web search"
                    badge="🌐 WEB"
                    title="Web search: the assistant may use the web. The mode is kept with each message; the tools \
                    themselves come with a later version."
                    is_on=Signal::derive(move || modes.read().web_search)
                    on_change=Callback::new(move |on| on_modes.run(Modes { web_search: on, ..modes.get_untracked() }))
                />
                <span class="composer__hint" aria-hidden="true">
                    {move || {
                        if is_busy.get() {
                            "Enter sends after this reply · Esc stops it"
                        } else {
                            "Enter sends · Shift Enter breaks the line"
                        }
                    }}
                </span>
                {move || {
                    can_queue
                        .get()
                        .then(|| {
                            view! {
                                <button
                                    type="button"
                                    class="button button--small composer__queue"
                                    title="Send after this reply (Enter)"
                                    on:click=move |_| send()
                                >
                                    "Queue"
                                </button>
                            }
                        })
                }}
                <button
                    type="button"
                    class="composer__send"
                    class:composer__send--stop=is_busy
                    aria-label=move || if is_busy.get() { "Stop" } else { "Send" }
                    title=move || if is_busy.get() { "Stop the reply (Esc)" } else { "Send (Enter)" }
                    // Not `disabled`, which would take the focus from it when Stop becomes Send.
                    aria-disabled=move || (!is_busy.get() && is_blank.get()).then_some("true")
                    on:click=move |_| if is_busy.get_untracked() { on_stop.run(()) } else { send() }
                >
                    {move || {
                        let glyph = if is_busy.get() { Glyph::Stop } else { Glyph::Send };
                        view! { <Icon glyph/> }
                    }}
                </button>
            </div>
        </form>
    }
    .into_any()
}

#[component]
fn Switch(
    name: &'static str,
    badge: &'static str,
    title: &'static str,
    is_on: Signal<bool>,
    on_change: Callback<bool>,
) -> impl IntoView {
    view! {
        <button
            type="button"
            class="switch"
            role="switch"
            aria-label=name
            aria-checked=move || if is_on.get() { "true" } else { "false" }
            title=title
            on:click=move |_| on_change.run(!is_on.get_untracked())
        >
            {badge}
        </button>
    }
}
