//! Group commit: the saves that wait for a session are carried out together, so that they share a write and its sync.

use super::cache::{Opened, Slot};
use super::{FileStore, Inner};
use crate::model::session::SessionId;
use crate::store::document::Change;
use crate::store::{Saved, StoreError};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Whom a save's answer goes to.
type Sender = oneshot::Sender<Result<Saved, StoreError>>;

/// A save and who waits for its answer.
struct Job {
    change: Change,
    answer: Sender,
}

/// The saves that wait for one session.
#[derive(Default)]
pub struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    jobs: Vec<Job>,
    /// Whether somebody carries out what waits.
    led: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing below panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// The duty to carry out what waits for a session. One at a time has it, until nothing waits.
struct Lead {
    slot: Slot,
    done: bool,
}

/// What became of the saves of one round, and who waits to hear it.
#[derive(Default)]
struct Answers(Vec<(Sender, Result<Saved, StoreError>)>);

impl Answers {
    fn send(self) {
        for (answer, result) in self.0 {
            // Whoever is gone does not need it.
            let _ = answer.send(result);
        }
    }
}

impl Lead {
    /// Puts a save at the end of the queue. Whoever gets the lead must follow it.
    fn queue(slot: &Slot, change: Change) -> (oneshot::Receiver<Result<Saved, StoreError>>, Option<Lead>) {
        let (answer, answered) = oneshot::channel();
        let mut waiting = slot.queue().waiting();
        waiting.jobs.push(Job { change, answer });
        let leads = !std::mem::replace(&mut waiting.led, true);
        (answered, leads.then(|| Lead { slot: slot.clone(), done: false }))
    }

    /// Carries out what waits once the session is free; `commit` has its lock. What is queued meanwhile is left for another round,
    /// for which the lead is given back.
    fn round(
        mut self,
        commit: impl FnOnce(&mut Option<Opened>, &mut [Change]) -> Vec<Result<Saved, StoreError>>,
    ) -> (Answers, Option<Lead>) {
        let round = catch_unwind(AssertUnwindSafe(|| {
            let mut opened = self.slot.lock();
            let jobs = std::mem::take(&mut self.slot.queue().waiting().jobs);
            let (mut changes, senders): (Vec<_>, Vec<_>) = jobs.into_iter().map(|job| (job.change, job.answer)).unzip();
            let results = commit(&mut opened, &mut changes);
            Answers(senders.into_iter().zip(results).collect())
        }));
        // After a panic the saves of this round learn of it from their senders, which are gone; the lock forgets the document.
        let answers = round.unwrap_or_default();
        let mut waiting = self.slot.queue().waiting();
        waiting.led = !waiting.jobs.is_empty();
        self.done = !waiting.led;
        drop(waiting);
        let next = if self.done { None } else { Some(self) };
        (answers, next)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.done {
            // Not followed, because the runtime shuts down: nobody may wait for it, and who queues next is to lead.
            let abandoned = std::mem::take(&mut *self.slot.queue().waiting());
            drop(abandoned);
        }
    }
}

impl FileStore {
    /// Changes a session and says what became of it.
    pub(super) async fn change(&self, id: &SessionId, change: Change) -> Result<Saved, StoreError> {
        let slot = self.inner.cache.slot(id);
        let (answered, lead) = Lead::queue(&slot, change);
        match lead {
            None => self.inner.cache.release(id, slot),
            Some(mut lead) => {
                let (inner, id) = (Arc::clone(&self.inner), id.clone());
                tokio::task::spawn_blocking(move || {
                    loop {
                        let (answers, next) = lead.round(|opened, changes| inner.commit(&id, opened, changes));
                        let Some(next) = next else {
                            inner.cache.release(&id, slot);
                            // Before the answers: who has the last one may close the store and open it again.
                            drop(inner);
                            return answers.send();
                        };
                        answers.send();
                        lead = next;
                    }
                });
            }
        }
        answered
            .await
            .unwrap_or_else(|_| Err(StoreError::Unreadable(format!("the work on the session {id} ended early"))))
    }

    /// Forgets what is in memory of sessions to which nobody saved for so long. To be called now and then.
    pub fn forget_idle(&self, older_than: Duration) {
        self.inner.cache.forget_idle(older_than);
    }
}

impl Inner {
    /// Carries out changes of a session whose lock is held.
    fn commit(
        &self,
        id: &SessionId,
        opened: &mut Option<Opened>,
        changes: &mut [Change],
    ) -> Vec<Result<Saved, StoreError>> {
        match self.open_into(id, opened) {
            Ok(opened) => {
                let results = opened.document.commit(&self.disk, changes);
                let written = opened.document.take_written();
                self.index.put(opened.day, &opened.document, written);
                results.iter().for_each(|result| self.note_outcome(result));
                results
            }
            Err(error) => changes.iter().map(|_| Err(error.again())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Object;
    use crate::model::session::Session;
    use crate::store::Save;
    use crate::store::disk::simulated::SimulatedDisk;
    use crate::store::document::Document;
    use crate::store::layout::Day;
    use crate::store::merge;
    use chrono::DateTime;
    use std::collections::HashSet;
    use std::path::Path;

    fn saying(id: &str) -> Change {
        let messages = serde_json::json!([{"id":id,"role":"user","content":"words"}]);
        let save = Save {
            messages: serde_json::from_value(messages).unwrap(),
            user_name: None,
            metadata: Object::new(),
            base_revision: None,
            running: HashSet::new(),
            now: DateTime::UNIX_EPOCH,
        };
        let make_plan = Box::new(move |known: merge::Indexed<'_>| merge::plan(known, &save, &mut String::new));
        Change { now: DateTime::UNIX_EPOCH, base_revision: None, make_plan }
    }

    /// A slot with a new session.
    fn slot(disk: &SimulatedDisk) -> Slot {
        let slot = Slot::default();
        let document = Document::create(disk, Path::new("data/s.json"), Session::empty("s")).unwrap();
        *slot.lock() = Some(Opened { day: Day::parse("2026-02-09").unwrap(), document });
        slot
    }

    fn follow(
        mut lead: Lead,
        mut commit: impl FnMut(&mut Option<Opened>, &mut [Change]) -> Vec<Result<Saved, StoreError>>,
    ) {
        loop {
            let (answers, next) = lead.round(&mut commit);
            answers.send();
            match next {
                Some(next) => lead = next,
                None => return,
            }
        }
    }

    #[test]
    fn saves_that_wait_for_a_session_share_one_sync() {
        let disk = SimulatedDisk::new(Path::new("data"));
        let slot = slot(&disk);
        let syncs = disk.syncs();
        let held = slot.lock();
        let (mut first, lead) = Lead::queue(&slot, saying("m0"));
        let lead = lead.unwrap();
        let leader = {
            let disk = disk.clone();
            std::thread::spawn(move || {
                follow(lead, |opened, changes| opened.as_mut().unwrap().document.commit(&disk, changes));
            })
        };
        // Enough for the leader to wait for the session, so that it takes what is queued while it waits.
        std::thread::sleep(Duration::from_millis(50));
        let others: Vec<_> = (1..64).map(|n| Lead::queue(&slot, saying(&format!("m{n}")))).collect();
        assert!(others.iter().all(|(_, lead)| lead.is_none()), "one leads");
        assert!(first.try_recv().is_err(), "nothing is acknowledged yet");
        drop(held);
        let revisions: Vec<u64> = std::iter::once(first)
            .chain(others.into_iter().map(|(answered, _)| answered))
            .map(|answered| answered.blocking_recv().unwrap().unwrap().revision)
            .collect();
        leader.join().unwrap();
        assert_eq!(disk.syncs() - syncs, 1);
        assert_eq!(revisions, (1..=64).collect::<Vec<_>>());
        let opened = slot.lock();
        let session = opened.as_ref().unwrap().document.session();
        assert_eq!((session.messages.len(), session.revision), (64, 64));
        assert!(Lead::queue(&slot, saying("later")).1.is_some(), "nobody leads any longer");
    }

    #[test]
    fn what_is_queued_during_a_round_goes_into_the_next_and_a_panic_ends_only_its_round() {
        let disk = SimulatedDisk::new(Path::new("data"));
        let slot = slot(&disk);
        let (first, lead) = Lead::queue(&slot, saying("a"));
        let mut late = Vec::new();
        follow(lead.unwrap(), |opened, changes| {
            assert_eq!(changes.len(), 1);
            match late.len() {
                0 => late.push(Lead::queue(&slot, saying("b")).0),
                1 => {
                    late.push(Lead::queue(&slot, saying("c")).0);
                    panic!("in the second round, which this test wants");
                }
                _ => {
                    assert!(opened.is_none(), "what was in the middle of a change is read anew");
                    return vec![Err(StoreError::NotFound)];
                }
            }
            opened.as_mut().unwrap().document.commit(&disk, changes)
        });
        assert_eq!(first.blocking_recv().unwrap().unwrap().revision, 1);
        let mut late = late.into_iter().map(oneshot::Receiver::blocking_recv);
        assert!(late.next().unwrap().is_err(), "it was in the round that panicked");
        assert!(matches!(late.next().unwrap().unwrap(), Err(StoreError::NotFound)));
    }

    #[test]
    fn a_lead_that_is_not_followed_keeps_nobody_waiting() {
        let slot = Slot::default();
        let (answered, lead) = Lead::queue(&slot, saying("a"));
        drop(lead);
        assert!(answered.blocking_recv().is_err());
        assert!(Lead::queue(&slot, saying("b")).1.is_some());
    }
}
