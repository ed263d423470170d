//! What the person said while a reply was still coming: it waits, visibly, and is sent in order when the reply is complete.
//!
//! As unsaved turns do, each waits under a key of its own in the browser's storage and belongs to one tab at a time, so that it
//! survives a reload, is sent once, and goes to another tab when its own is gone. It is sent under the id that it got here, so that
//! what was sent already is recognised.

use crate::browser;
use crate::model::message::{Message, Modes, Role};
use crate::model::session::SessionId;
use leptos::prelude::*;
use leptos::task::spawn_local;
use serde::{Deserialize, Serialize};

const QUEUED: &str = "verbatim.queued.";

/// The name under which a conversation that could not be started yet stands.
const NEW: &str = "new";

/// How often, and how long between, another tab is asked to let go of what it holds, in milliseconds: a page that is just being
/// left holds it for a moment more.
const CLAIM_TRIES: u32 = 6;
const CLAIM_WAIT_MS: u32 = 500;

/// A message that waits to be sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queued {
    /// The id that its message will have.
    pub id: String,
    /// Its words.
    pub content: String,
    /// What the person allowed.
    pub modes: Modes,
    /// When it was said.
    pub queued_at: String,
    /// The visit in which it was said; it goes out by itself in this one only.
    pub visit: String,
}

/// Why what waits is not sent by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The person stopped the reply.
    Stopped,
    /// The reply failed, or something else is in the way.
    Trouble,
    /// It was said in an earlier visit.
    Earlier,
}

impl Hold {
    /// Why a conversation that ends with `last` is not gone on with by itself.
    pub fn after(last: Option<&Message>) -> Option<Self> {
        // A conversation without a message: what waits was said in one that could not be begun.
        let Some(last) = last else { return Some(Hold::Earlier) };
        let is_set = |key: &str| last.metadata.get(key).is_some_and(|value| !value.is_null() && *value != false);
        match last.role {
            Role::User => Some(Hold::Trouble),
            _ if is_set("error") => Some(Hold::Trouble),
            _ if is_set("stopped") => Some(Hold::Stopped),
            _ => None,
        }
    }
}

fn key(session: Option<&SessionId>, id: &str) -> String {
    format!("{QUEUED}{}.{id}", session.map_or(NEW, SessionId::as_str))
}

/// What waits in the conversation in hand. A handle: copies are the same.
#[derive(Clone, Copy)]
pub struct Queue {
    waiting: RwSignal<Vec<Queued>>,
    session: StoredValue<Option<SessionId>>,
}

impl Default for Queue {
    fn default() -> Self {
        Self { waiting: RwSignal::new(Vec::new()), session: StoredValue::new(None) }
    }
}

impl Queue {
    /// What waits, oldest first.
    pub fn waiting(&self) -> Vec<Queued> {
        self.waiting.get()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.read().is_empty()
    }

    /// The oldest that waits.
    pub fn first(&self) -> Option<Queued> {
        self.waiting.read().first().cloned()
    }

    /// Adds a message.
    pub fn push(&self, queued: Queued) {
        let key = self.session.with_value(|session| key(session.as_ref(), &queued.id));
        store(&key, &queued);
        let claimed = browser::claim(&key);
        spawn_local(async move {
            claimed.await;
        });
        self.waiting.update(|waiting| waiting.push(queued));
    }

    /// Takes a message out: it is sent, or taken back.
    pub fn take(&self, id: &str) -> Option<Queued> {
        let place = self.waiting.with_untracked(|waiting| waiting.iter().position(|queued| queued.id == id))?;
        let taken = self.waiting.try_update(|waiting| waiting.remove(place));
        let key = self.session.with_value(|session| key(session.as_ref(), id));
        browser::store(&key, None);
        browser::release_claim(&key);
        taken
    }

    /// Shows nothing any more, because another conversation is taken in hand. What waits stays stored for its own, and stays this
    /// tab's, which may come back to it.
    pub fn leave(&self) {
        if !self.waiting.with_untracked(Vec::is_empty) {
            self.waiting.set(Vec::new());
        }
    }

    /// Shows what waits in another conversation. `is_sent` says of an id whether its message was sent before the page was left.
    pub fn open(self, session: Option<SessionId>, is_sent: impl Fn(&str) -> bool + 'static) {
        self.leave();
        self.session.set_value(session.clone());
        spawn_local(async move {
            for attempt in 0..CLAIM_TRIES {
                if attempt > 0 {
                    browser::sleep(CLAIM_WAIT_MS).await;
                }
                if !self.take_up(session.as_ref(), &is_sent).await {
                    return;
                }
            }
        });
    }

    /// Takes up what is stored; whether something is left that another tab holds.
    async fn take_up(self, session: Option<&SessionId>, is_sent: &impl Fn(&str) -> bool) -> bool {
        let mut is_left = false;
        let is_open = || self.session.try_with_value(|open| open.as_ref() == session) == Some(true);
        // The oldest first, and shown all at once: the first that is shown may be sent at once.
        let mut found: Vec<(Queued, String)> = browser::stored_keys(&key(session, ""))
            .into_iter()
            .filter_map(|name| Some((stored(&name)?, name)))
            .collect();
        found.sort_by(|(a, _), (b, _)| a.queued_at.cmp(&b.queued_at));
        let mut taken = Vec::new();
        for (queued, name) in found {
            if !is_open() {
                break;
            }
            if self.waiting.with_untracked(|waiting| waiting.iter().any(|held| held.id == queued.id)) {
                continue;
            }
            if !browser::claim(&name).await {
                is_left = true;
                continue;
            }
            // Meanwhile another tab may have sent it.
            if !is_open() || browser::stored(&name).is_none() {
                browser::release_claim(&name);
                continue;
            }
            if is_sent(&queued.id) {
                browser::store(&name, None);
                browser::release_claim(&name);
                continue;
            }
            taken.push(queued);
        }
        if !is_open() {
            taken.iter().for_each(|queued| browser::release_claim(&key(session, &queued.id)));
            return false;
        }
        if !taken.is_empty() {
            self.waiting.update(|waiting| {
                waiting.extend(taken);
                waiting.sort_by(|a, b| a.queued_at.cmp(&b.queued_at));
            });
        }
        is_left
    }

    /// Notes that what waits belongs to a session that was just started.
    pub fn move_to(&self, session: &SessionId) {
        let before = self.session.get_value();
        self.session.set_value(Some(session.clone()));
        for queued in self.waiting.get_untracked() {
            let name = key(Some(session), &queued.id);
            store(&name, &queued);
            let claimed = browser::claim(&name);
            spawn_local(async move {
                claimed.await;
            });
            let before = key(before.as_ref(), &queued.id);
            browser::store(&before, None);
            browser::release_claim(&before);
        }
    }
}

fn store(key: &str, queued: &Queued) {
    // Where the browser keeps nothing, it waits as long as the page is open.
    if let Ok(text) = serde_json::to_string(queued) {
        browser::store(key, Some(&text));
    }
}

fn stored(key: &str) -> Option<Queued> {
    serde_json::from_str(&browser::stored(key)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn waits_for_the_person_after_a_reply_that_did_not_end_well() {
        let hold = |role: &str, metadata: Value| {
            let message =
                json!({"id":"a","parent_id":null,"role":role,"content":"","timestamp":"t","metadata":metadata});
            Hold::after(Some(&serde_json::from_value(message).unwrap()))
        };
        assert_eq!(hold("assistant", json!({})), None);
        assert_eq!(hold("assistant", json!({"stopped":false,"error":null})), None);
        assert_eq!(hold("assistant", json!({"cut_off":"length"})), None);
        assert_eq!(hold("assistant", json!({"stopped":true})), Some(Hold::Stopped));
        assert_eq!(hold("assistant", json!({"stopped":true,"error":"interrupted"})), Some(Hold::Trouble));
        assert_eq!(hold("user", json!({})), Some(Hold::Trouble));
        assert_eq!(Hold::after(None), Some(Hold::Earlier));
    }

    #[test]
    fn what_waits_goes_in_order_and_once() {
        Owner::new().with(|| {
            let queue = Queue::default();
            let queued = |id: &str| Queued {
                id: id.to_owned(),
                content: id.to_owned(),
                modes: Modes::default(),
                queued_at: String::new(),
                visit: String::new(),
            };
            assert_eq!(key(Some(&"s".parse().unwrap()), "a"), "verbatim.queued.s.a");
            for id in ["a", "b", "c"] {
                queue.waiting.update(|waiting| waiting.push(queued(id)));
            }
            assert_eq!(queue.take("b").map(|taken| taken.id).as_deref(), Some("b"));
            assert_eq!(queue.take("b"), None);
            assert_eq!(queue.first().map(|first| first.id).as_deref(), Some("a"));
            assert_eq!(queue.waiting().len(), 2);
        });
    }
}
