//! Open documents in memory, so that a save reads nothing anew, and the locks by which only one thread works on a session.

use super::commit::Queue;
use crate::model::session::SessionId;
use crate::store::document::Document;
use crate::store::layout::Day;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
pub struct Slot(Arc<Place>);

#[derive(Debug, Default)]
struct Place {
    opened: Mutex<Option<Opened>>,
    queue: Queue,
}

impl Slot {
    /// Waits until nobody else works on the session.
    pub fn lock(&self) -> MutexGuard<'_, Option<Opened>> {
        self.0.opened.lock().unwrap_or_else(|poisoned| {
            // Somebody panicked in the middle of a change: what is true stands on the disk.
            let mut opened = PoisonError::into_inner(poisoned);
            *opened = None;
            self.0.opened.clear_poison();
            opened
        })
    }

    /// The saves that wait for the session.
    pub fn queue(&self) -> &Queue {
        &self.0.queue
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
    /// When a document was last used.
    newest: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Held {
    slot: Slot,
    bytes: u64,
    used: u64,
    used_at: Instant,
}

impl Cache {
    /// A cache for documents of about `limit` bytes in all; the one that was used last may be larger.
    pub fn new(limit: u64) -> Self {
        Self { limit, state: Mutex::default() }
    }

    /// The slot of a session. It is to be given back with [`Cache::release`].
    pub fn slot(&self, id: &SessionId) -> Slot {
        let unused = || Held { slot: Slot::default(), bytes: 0, used: 0, used_at: Instant::now() };
        self.state().slots.entry(id.clone()).or_insert_with(unused).slot.clone()
    }

    /// Takes note of a slot's use, and forgets what is too much.
    pub fn release(&self, id: &SessionId, slot: Slot) {
        let mut guard = self.state();
        let state = &mut *guard;
        drop(slot);
        state.clock += 1;
        let clock = state.clock;
        let Some(held) = state.slots.get_mut(id) else { return };
        let bytes = match held.slot.0.opened.try_lock() {
            Ok(opened) => opened.as_ref().map(|opened| opened.document.stamp().size),
            // Somebody holds it now, and will come here after.
            Err(_) => return,
        };
        state.order.remove(&held.used);
        state.bytes = state.bytes - held.bytes + bytes.unwrap_or(0);
        (held.bytes, held.used, held.used_at) = (bytes.unwrap_or(0), clock, Instant::now());
        if bytes.is_some() {
            state.newest = clock;
        }
        // While the state is locked nobody can take another hold of the slot, so a count of one stays one.
        if bytes.is_none() && Arc::strong_count(&held.slot.0) == 1 {
            state.slots.remove(id);
        } else {
            state.order.insert(clock, id.clone());
        }
        let forgotten = state.forget(|state, held| state.bytes > self.limit && held.used != state.newest);
        // Outside the lock: to free a large session takes a while.
        drop(guard);
        drop(forgotten);
    }

    /// Forgets the documents that nobody used for so long.
    pub fn forget_idle(&self, older_than: Duration) {
        let forgotten = self.state().forget(|_, held| held.used_at.elapsed() >= older_than);
        drop(forgotten);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing below panics while the state is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes out the documents that were used longest ago, as long as `too_much` says so of the next one, as far as nobody uses
    /// them.
    fn forget(&mut self, too_much: impl Fn(&State, &Held) -> bool) -> Vec<Slot> {
        let mut forgotten = Vec::new();
        let mut after = 0;
        while let Some((&used, id)) = self.order.range(after..).next() {
            let id = id.clone();
            let Some(held) = self.slots.get(&id) else { break };
            if !too_much(self, held) {
                break;
            }
            after = used + 1;
            let place = &held.slot.0;
            let free = Arc::strong_count(place) == 1
                && place
                    .opened
                    .try_lock()
                    .is_ok_and(|opened| opened.as_ref().is_none_or(|opened| opened.document.can_be_forgotten()));
            if free && let Some(held) = self.slots.remove(&id) {
                self.bytes -= held.bytes;
                self.order.remove(&used);
                forgotten.push(held.slot);
            }
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::session::Session;
    use crate::store::disk::Disk;
    use crate::store::disk::simulated::SimulatedDisk;
    use std::path::Path;

    /// Uses a session whose file has about `bytes` bytes.
    fn use_session(cache: &Cache, disk: &SimulatedDisk, name: &str, bytes: usize) {
        let id: SessionId = name.parse().unwrap();
        let slot = cache.slot(&id);
        let path = Path::new("data").join(format!("{name}.json"));
        let session = Session { user_name: "x".repeat(bytes), ..Session::empty(name) };
        let mut opened = slot.lock();
        if opened.is_none() {
            let _ = disk.remove(&path);
            let document = Document::create(disk, &path, session).unwrap();
            *opened = Some(Opened { day: Day::parse("2026-02-09").unwrap(), document });
        }
        drop(opened);
        cache.release(&id, slot);
    }

    fn kept(cache: &Cache) -> Vec<&'static str> {
        let names = ["a", "b", "c", "large"];
        let is_kept = |name: &&'static str| {
            let id: SessionId = name.parse().unwrap();
            cache.state().slots.get(&id).is_some_and(|held| held.slot.lock().is_some())
        };
        names.into_iter().filter(is_kept).collect()
    }

    #[test]
    fn what_was_used_last_is_kept_however_large_and_the_rest_is_bounded() {
        let disk = SimulatedDisk::new(Path::new("data"));
        let cache = Cache::new(3000);
        for name in ["a", "b", "a", "c"] {
            use_session(&cache, &disk, name, 1000);
        }
        assert_eq!(kept(&cache), ["a", "c"], "b was used longest ago");
        use_session(&cache, &disk, "large", 100_000);
        assert_eq!(kept(&cache), ["large"]);
        use_session(&cache, &disk, "large", 100_000);
        assert_eq!(kept(&cache), ["large"]);
        use_session(&cache, &disk, "a", 1000);
        assert_eq!(kept(&cache), ["a"]);
        let state = cache.state();
        assert_eq!((state.slots.len(), state.order.len()), (1, 1));
    }

    #[test]
    fn what_was_not_used_for_long_is_forgotten_unless_somebody_uses_it_now() {
        let disk = SimulatedDisk::new(Path::new("data"));
        let cache = Cache::new(10_000);
        for name in ["a", "b", "c"] {
            use_session(&cache, &disk, name, 1000);
        }
        cache.forget_idle(Duration::from_secs(600));
        assert_eq!(kept(&cache), ["a", "b", "c"]);
        let slot = cache.slot(&"a".parse().unwrap());
        cache.forget_idle(Duration::ZERO);
        assert_eq!(kept(&cache), ["a"]);
        cache.release(&"a".parse().unwrap(), slot);
        cache.forget_idle(Duration::ZERO);
        assert_eq!((kept(&cache).len(), cache.state().bytes), (0, 0));
    }
}
