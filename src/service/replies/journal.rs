//! Writes down what a reply has so far, so that a server that dies loses at most the last moment.

use super::reply::Reply;
use crate::store::{ReplyHead, SessionStore, StoreError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The journal of a running reply.
pub(super) struct Journal {
    store: Arc<dyn SessionStore>,
    reply: Arc<Reply>,
    head: ReplyHead,
    /// Whether the store has it, perhaps not whole.
    begun: bool,
    /// Up to which position of the log it is written. The first event is not: the head says the same.
    written: usize,
    /// Whether the last attempt failed, which is logged once.
    failing: bool,
}

impl Journal {
    /// A journal of which nothing is written yet.
    pub(super) fn new(store: Arc<dyn SessionStore>, reply: Arc<Reply>, head: ReplyHead) -> Self {
        Self { store, reply, head, begun: false, written: 1, failing: false }
    }

    /// Keeps it up to date in a task of its own, so that a slow disk does not hold up the reply.
    pub(super) fn keep(self, interval: Duration) -> Keeping {
        let (stop, stopped) = oneshot::channel();
        Keeping { stop, task: tokio::spawn(self.write_until(stopped, interval)) }
    }

    /// Writes what is not yet written. A failure is logged and is no loss: the next attempt writes all of it.
    pub(super) async fn write(&mut self) {
        match self.try_write().await {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(reply_id = self.head.reply_id, %error, "the journal of a reply cannot be written");
                }
            }
        }
    }

    /// Removes it: its reply stands in its session.
    pub(super) async fn end(&self) {
        if !self.begun {
            return;
        }
        // It would be folded once more at the next start, which changes nothing.
        if let Err(error) = self.store.end_reply(&self.head.reply_id).await {
            tracing::warn!(reply_id = self.head.reply_id, %error, "the journal of a finished reply is left");
        }
    }

    async fn write_until(mut self, mut stopped: oneshot::Receiver<()>, interval: Duration) -> Self {
        loop {
            self.write().await;
            tokio::select! {
                biased;
                _ = &mut stopped => return self,
                () = async {
                    tokio::time::sleep(interval).await;
                    if self.begun && !self.failing {
                        self.reply.longer_than(self.written).await;
                    }
                } => {}
            }
        }
    }

    async fn try_write(&mut self) -> Result<(), StoreError> {
        if !self.begun {
            self.store.begin_reply(&self.head).await?;
            self.begun = true;
        }
        let events = self.reply.events_from(self.written);
        if !events.is_empty() {
            self.store.extend_reply(&self.head.reply_id, &events).await?;
            self.written += events.len();
        }
        Ok(())
    }
}

/// A journal that is being kept up to date.
pub(super) struct Keeping {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Journal>,
}

impl Keeping {
    /// Ends the keeping, after a write that may be under way, and hands the journal back. `None` where its task panicked.
    pub(super) async fn stop(self) -> Option<Journal> {
        // It fails only where the task is over already.
        let _ = self.stop.send(());
        self.task.await.inspect_err(|error| tracing::error!(%error, "the journal of a reply was lost")).ok()
    }
}
