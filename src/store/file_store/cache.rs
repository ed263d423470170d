//! Open documents in memory, so that a save reads nothing anew, and the locks by which only one thread works on a session.

use crate::model::session::{Session, SessionId};
use crate::store::document::Document;
use crate::store::layout::Day;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// A document and the day folder that holds it.
#[derive(Debug)]
pub struct Opened {
    /// The folder.
    pub day: Day,
    /// The document.
    pub document: Document,
}

/// The place of one session: whoever holds its lock is alone with the session, also on the disk.
#[derive(Clone, Debug, Default)]
pub struct Slot(Arc<Mutex<Option<Opened>>>);

impl Slot {
    /// Waits until nobody else works on the session.
    pub fn lock(&self) -> MutexGuard<'_, Option<Opened>> {
        self.0.lock().unwrap_or_else(|poisoned| {
            // Somebody panicked in the middle of a change: what is true stands on the disk.
            let mut opened = PoisonError::into_inner(poisoned);
            *opened = None;
            self.0.clear_poison();
            opened
        })
    }
}

/// The slots of the sessions that were used last.
#[derive(Debug)]
pub struct Cache {
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    slots: HashMap<SessionId, Held>,
    /// Ids by the time of their last use.
    order: BTreeMap<u64, SessionId>,
    clock: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Held {
    slot: Slot,
    bytes: u64,
    used: u64,
}

impl Cache {
    /// A cache for documents of about `limit` bytes in all.
    pub fn new(limit: u64) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// The slot of a session. It is to be given back with [`Cache::release`].
    pub fn slot(&self, id: &SessionId) -> Slot {
        self.state().slots.entry(id.clone()).or_default().slot.clone()
    }

    /// Takes note of a slot's use, and forgets what is too much.
    pub fn release(&self, id: &SessionId, slot: Slot) {
        let mut state = self.state();
        let state = &mut *state;
        drop(slot);
        state.clock += 1;
        let clock = state.clock;
        let Some(held) = state.slots.get_mut(id) else { return };
        let bytes = match held.slot.0.try_lock() {
            Ok(opened) => opened.as_ref().map(|opened| opened.document.stamp().size),
            // Somebody holds it now, and will come here after.
            Err(_) => return,
        };
        state.order.remove(&held.used);
        state.bytes = state.bytes - held.bytes + bytes.unwrap_or(0);
        (held.bytes, held.used) = (bytes.unwrap_or(0), clock);
        // While the state is locked nobody can take another hold of the slot, so a count of one stays one.
        if bytes.is_none() && Arc::strong_count(&held.slot.0) == 1 {
            state.slots.remove(id);
        } else {
            state.order.insert(clock, id.clone());
        }
        if state.bytes > self.limit {
            state.forget(self.limit);
        }
    }

    /// A session that is in memory, unless somebody works on it just now.
    pub fn peek(&self, id: &SessionId) -> Option<Arc<Session>> {
        let slot = self.state().slots.get(id)?.slot.clone();
        let opened = match slot.0.try_lock() {
            Ok(opened) => opened,
            Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => return None,
        };
        opened.as_ref().map(|opened| Arc::clone(opened.document.session()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing below panics while the state is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets the documents that were used longest ago, as far as nobody uses them.
    fn forget(&mut self, limit: u64) {
        let oldest: Vec<(u64, SessionId)> = self.order.iter().map(|(used, id)| (*used, id.clone())).collect();
        for (used, id) in oldest {
            if self.bytes <= limit {
                break;
            }
            let Some(held) = self.slots.get(&id) else { continue };
            let free = Arc::strong_count(&held.slot.0) == 1
                && held
                    .slot
                    .0
                    .try_lock()
                    .is_ok_and(|opened| opened.as_ref().is_none_or(|opened| opened.document.can_be_forgotten()));
            if free {
                self.bytes -= held.bytes;
                self.slots.remove(&id);
                self.order.remove(&used);
            }
        }
    }
}
