//! [`SessionStore`] over plain files below one data directory (contracts 2).

mod cache;
mod commit;
mod replies;

use self::cache::{Cache, Opened};
use self::replies::Replies;
use super::disk::{Disk, RealDisk};
use super::document::{Change, Document, MakePlan};
use super::index::{self, Index};
use super::layout::{self, Area, Day, Layout};
use super::lock::DirectoryLock;
use super::merge;
use super::{Health, IndexState, ListRequest, Listing, NewSession, ReplyHead, Save, Saved, SessionStore, StoreError};
use crate::model::message::Message;
use crate::model::query::Query;
use crate::model::reply::ReplyEvent;
use crate::model::session::{Kind, Session, SessionId};
use crate::model::{Object, time};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::collections::HashSet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How many bytes of session files are kept in memory, about; parsed they take several times as much.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// Sessions in plain JSON files. Cheap to clone; the data directory is held until the last clone is gone.
#[derive(Clone, Debug)]
pub struct FileStore {
    inner: Arc<Inner>,
}

impl FileStore {
    /// Opens a data directory, making it where it is missing, and reads what is kept in it; this blocks. The text of an error is a
    /// sentence for the person who started the server.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let layout = Layout::new(data_dir);
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(|error| unusable(data_dir, &error))?;
        let lock = DirectoryLock::take(&layout)?;
        let disk = RealDisk::new(data_dir);
        for folder in [layout.area(Area::Sessions), layout.area(Area::Trash), layout.replies()] {
            disk.create_folder(&folder).map_err(|error| unusable(&folder, &error))?;
            check_writable(&disk, &folder).map_err(|error| unusable(&folder, &error))?;
        }
        disk.sync_folder(data_dir).map_err(|error| unusable(data_dir, &error))?;
        let index = Index::open(&layout, &disk)?;
        let replies = Replies::new(&layout, &disk);
        let cache = Cache::new(CACHE_BYTES);
        Ok(Self { inner: Arc::new(Inner { layout, disk, index, cache, replies, _lock: lock }) })
    }

    /// Waits until the index agrees with the files as they are when this is called, for `time` at most; says whether it does. This
    /// blocks.
    pub fn agree(&self, time: Duration) -> bool {
        self.inner.index.agree(time)
    }

    /// What of the index does not agree with itself, one sentence each. This blocks.
    pub fn check_index(&self) -> Result<Vec<String>, StoreError> {
        self.inner.index.check()
    }

    /// Does blocking work on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::Unreadable(format!("the work on the files ended early: {error}"))),
        }
    }
}

#[async_trait]
impl SessionStore for FileStore {
    async fn create(&self, new: NewSession) -> Result<(), StoreError> {
        self.blocking(move |inner| inner.create(new)).await
    }

    async fn load(&self, id: &SessionId) -> Result<Arc<Session>, StoreError> {
        let id = id.clone();
        self.blocking(move |inner| inner.load(&id)).await
    }

    async fn save(&self, id: &SessionId, save: Save) -> Result<Saved, StoreError> {
        let (now, base_revision) = (save.now, save.base_revision);
        let make_plan: MakePlan =
            Box::new(move |known| merge::plan(known, &save, &mut || Uuid::new_v4().simple().to_string()));
        self.change(id, Change { now, base_revision, make_plan }).await
    }

    async fn append_reply(&self, id: &SessionId, message: Message, now: DateTime<Utc>) -> Result<Saved, StoreError> {
        let make_plan: MakePlan = Box::new(move |known| Ok(merge::plan_reply(known, &message)));
        self.change(id, Change { now, base_revision: None, make_plan }).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Listing, StoreError> {
        let request = request.clone();
        self.blocking(move |inner| inner.index.list(&request)).await
    }

    async fn find(
        &self,
        query: &Query,
        kind: Option<Kind>,
        utc_offset_minutes: i32,
    ) -> Result<Vec<SessionId>, StoreError> {
        let query = query.clone();
        self.blocking(move |inner| inner.index.find(&query, kind, utc_offset_minutes)).await
    }

    async fn delete(&self, id: &SessionId) -> Result<(), StoreError> {
        let id = id.clone();
        self.blocking(move |inner| inner.delete(&id)).await
    }

    async fn restore(&self, id: &SessionId) -> Result<(), StoreError> {
        let id = id.clone();
        self.blocking(move |inner| inner.restore(&id)).await
    }

    async fn empty_trash(&self, ids: Option<&[SessionId]>) -> Result<u64, StoreError> {
        let ids = ids.map(<[SessionId]>::to_vec);
        self.blocking(move |inner| inner.empty_trash(ids)).await
    }

    async fn close(&self) {
        let closed = self.blocking(|inner| {
            inner.index.close();
            Ok(())
        });
        // It only ends early when the runtime does.
        let _ = closed.await;
    }

    async fn health(&self) -> Health {
        let health = self.blocking(|inner| Ok(Health { sessions: inner.index.len(), index: inner.index.state() }));
        health.await.unwrap_or(Health { sessions: 0, index: IndexState::Ready })
    }

    async fn begin_reply(&self, head: &ReplyHead) -> Result<(), StoreError> {
        let head = head.clone();
        self.blocking(move |inner| inner.replies.begin(&head)).await
    }

    async fn extend_reply(&self, reply_id: &str, events: &[ReplyEvent]) -> Result<(), StoreError> {
        let reply_id = reply_id.to_owned();
        let lines: String = events.iter().map(ReplyEvent::to_line).collect();
        self.blocking(move |inner| inner.replies.extend(&reply_id, &lines)).await
    }

    async fn end_reply(&self, reply_id: &str) -> Result<(), StoreError> {
        let reply_id = reply_id.to_owned();
        self.blocking(move |inner| inner.replies.end(&reply_id)).await
    }

    async fn unfinished_replies(&self) -> Result<Vec<(ReplyHead, Vec<ReplyEvent>)>, StoreError> {
        self.blocking(|inner| inner.replies.unfinished()).await
    }
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    disk: RealDisk,
    index: Index,
    cache: Cache,
    replies: Replies,
    _lock: DirectoryLock,
}

impl Inner {
    fn create(&self, new: NewSession) -> Result<(), StoreError> {
        let id = new.session_id;
        let slot = self.cache.slot(&id);
        let mut opened = slot.lock();
        if !self.places(Area::Sessions, &id)?.is_empty() || !self.places(Area::Trash, &id)?.is_empty() {
            drop(opened);
            self.cache.release(&id, slot);
            return Err(StoreError::Exists);
        }
        let started_at = time::format(new.started_at);
        let day = Day::of(new.started_at);
        let session = Session {
            session_id: id.clone(),
            user_name: new.user_name,
            last_updated: started_at.clone(),
            started_at,
            metadata: new.metadata,
            messages: Vec::new(),
            revision: 0,
            extra: Object::new(),
        };
        let created = self
            .make_day(Area::Sessions, day)
            .and_then(|()| Document::create(&self.disk, &self.layout.session(Area::Sessions, day, &id), session));
        let result = created.map(|mut document| {
            let written = document.take_written();
            self.index.put(day, &document, written);
            *opened = Some(Opened { day, document });
        });
        drop(opened);
        self.cache.release(&id, slot);
        result
    }

    /// The session as it is on the disk now. What is only read is not kept in memory: an export reads everything once.
    fn load(&self, id: &SessionId) -> Result<Arc<Session>, StoreError> {
        let slot = self.cache.slot(id);
        let mut opened = slot.lock();
        let was_open = opened.is_some();
        let result = self.open_into(id, &mut opened).map(|opened| {
            let written = opened.document.take_written();
            self.index.put(opened.day, &opened.document, written);
            Arc::clone(opened.document.session())
        });
        if !was_open {
            *opened = None;
        }
        drop(opened);
        self.cache.release(id, slot);
        result
    }

    fn open_into<'a>(&self, id: &SessionId, slot: &'a mut Option<Opened>) -> Result<&'a mut Opened, StoreError> {
        if let Some(opened) = slot {
            match opened.document.refresh(&self.disk) {
                Ok(()) => {}
                // Moved or removed by somebody else; it may be in another place.
                Err(StoreError::NotFound) => *slot = None,
                Err(error) => return Err(error),
            }
        }
        let opened = match slot.take() {
            Some(opened) => opened,
            None => self.open_document(id)?,
        };
        Ok(slot.insert(opened))
    }

    fn open_document(&self, id: &SessionId) -> Result<Opened, StoreError> {
        let read = |day: Day| {
            let path = self.layout.session(Area::Sessions, day, id);
            Document::open(&self.disk, &path, id).map(|document| Opened { day, document })
        };
        let known = self.index.day(id).map(read);
        let opened = match known {
            Some(Ok(opened)) => opened,
            _ => {
                let mut best: Option<Opened> = None;
                let mut failure = None;
                for day in self.places(Area::Sessions, id)? {
                    match read(day) {
                        Ok(other) => {
                            let revision = |opened: &Opened| opened.document.session().revision;
                            if best.as_ref().is_none_or(|best| revision(best) < revision(&other)) {
                                best = Some(other);
                            }
                        }
                        Err(error) => failure = Some(error),
                    }
                }
                match (best, failure) {
                    (Some(opened), _) => opened,
                    (None, Some(error)) => return Err(error),
                    (None, None) if self.places(Area::Trash, id)?.is_empty() => return Err(StoreError::NotFound),
                    (None, None) => return Err(StoreError::Deleted),
                }
            }
        };
        if let Some(complaint) = opened.document.complaint() {
            tracing::warn!(session_id = %id, %complaint, "a session file is not as it should be");
        }
        Ok(opened)
    }

    /// The days in whose folders of an area a file of this id lies.
    fn places(&self, area: Area, id: &SessionId) -> Result<Vec<Day>, StoreError> {
        let mut days = index::days(&self.layout, area)?;
        days.retain(|day| self.layout.session(area, *day, id).symlink_metadata().is_ok_and(|found| found.is_file()));
        Ok(days)
    }

    /// Makes a day folder and its name safe.
    fn make_day(&self, area: Area, day: Day) -> Result<(), StoreError> {
        let folder = self.layout.day(area, day);
        // Synced each time: who made it may have been killed before that.
        let made = self.disk.create_folder(&folder).and_then(|_| self.disk.sync_folder(&self.layout.area(area)));
        made.map_err(|error| StoreError::Unwritable(format!("{}: {error}", folder.display())))
    }

    fn delete(&self, id: &SessionId) -> Result<(), StoreError> {
        let slot = self.cache.slot(id);
        let mut opened = slot.lock();
        let result = self.move_between(id, Area::Sessions, Area::Trash);
        // Also after a failure: what is true stands on the disk.
        *opened = None;
        drop(opened);
        self.cache.release(id, slot);
        match result? {
            0 if self.places(Area::Trash, id)?.is_empty() => Err(StoreError::NotFound),
            0 => Err(StoreError::Deleted),
            _ => Ok(()),
        }
    }

    fn restore(&self, id: &SessionId) -> Result<(), StoreError> {
        let slot = self.cache.slot(id);
        let mut opened = slot.lock();
        let result = match self.places(Area::Sessions, id) {
            Ok(places) if places.is_empty() => self.move_between(id, Area::Trash, Area::Sessions),
            Ok(_) => Err(StoreError::Exists),
            Err(error) => Err(error),
        };
        *opened = None;
        drop(opened);
        self.cache.release(id, slot);
        if result? == 0 { Err(StoreError::NotFound) } else { Ok(()) }
    }

    /// Removes files from the trash, and the copies that damaged or replaced ones left there.
    fn empty_trash(&self, ids: Option<Vec<SessionId>>) -> Result<u64, StoreError> {
        let mut removed = HashSet::new();
        for day in index::days(&self.layout, Area::Trash)? {
            let folder = self.layout.day(Area::Trash, day);
            let unwritable = |error: io::Error| StoreError::Unwritable(format!("{}: {error}", folder.display()));
            let mut gone = HashSet::new();
            let mut is_changed = false;
            for file in std::fs::read_dir(&folder).map_err(unwritable)?.flatten() {
                let name = file.file_name();
                let Some(id) = name.to_str().and_then(layout::session_of_any_file) else { continue };
                if ids.as_ref().is_some_and(|ids| !ids.contains(&id)) {
                    continue;
                }
                let slot = self.cache.slot(&id);
                let opened = slot.lock();
                let result = self.disk.remove(&file.path());
                drop(opened);
                self.cache.release(&id, slot);
                match result {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(error)),
                    _ => is_changed = true,
                }
                if file.path() == self.layout.session(Area::Trash, day, &id) {
                    self.index.removed(&id, day, Area::Trash);
                }
                gone.insert(id);
            }
            if is_changed {
                self.disk.sync_folder(&folder).map_err(unwritable)?;
                // An empty day is of no use to anybody.
                let _ = std::fs::remove_dir(&folder);
            }
            self.remove_copies(day, &gone)?;
            removed.extend(gone);
        }
        self.remove_journals(&removed)?;
        Ok(removed.len() as u64)
    }

    /// Removes the copies of damaged files that stayed where a session was before it came into the trash.
    fn remove_copies(&self, day: Day, gone: &HashSet<SessionId>) -> Result<(), StoreError> {
        let folder = self.layout.day(Area::Sessions, day);
        let unwritable = |error: io::Error| StoreError::Unwritable(format!("{}: {error}", folder.display()));
        let mut is_changed = false;
        for file in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = file.file_name();
            let Some(id) = name.to_str().and_then(layout::session_of_any_file) else { continue };
            let is_kept = || self.layout.session(Area::Sessions, day, &id).symlink_metadata().is_ok();
            if !gone.contains(&id) || is_kept() {
                continue;
            }
            match self.disk.remove(&file.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(error)),
                _ => is_changed = true,
            }
        }
        if is_changed { self.disk.sync_folder(&folder).map_err(unwritable) } else { Ok(()) }
    }

    /// Removes the journals of replies that were interrupted in sessions which are gone for good.
    fn remove_journals(&self, gone: &HashSet<SessionId>) -> Result<(), StoreError> {
        if gone.is_empty() {
            return Ok(());
        }
        for (head, _) in self.replies.unfinished()? {
            if gone.contains(&head.session_id) && self.places(Area::Sessions, &head.session_id)?.is_empty() {
                self.replies.end(&head.reply_id)?;
            }
        }
        Ok(())
    }

    /// Moves all files of an id from one area to the other and returns how many there were.
    fn move_between(&self, id: &SessionId, from: Area, to: Area) -> Result<usize, StoreError> {
        let days = self.places(from, id)?;
        for day in &days {
            let (source, target) = (self.layout.session(from, *day, id), self.layout.session(to, *day, id));
            self.make_day(to, *day)?;
            let moved = self.give_way(&target).and_then(|()| {
                self.disk.rename(&source, &target)?;
                // The new name first: a power loss in between leaves the file in both places, never in none.
                self.disk.sync_folder(&self.layout.day(to, *day))?;
                self.disk.sync_folder(&self.layout.day(from, *day))
            });
            moved.map_err(|error| StoreError::Unwritable(format!("{}: {error}", source.display())))?;
            self.index.moved(id, *day, from, to);
        }
        Ok(days.len())
    }

    /// Renames a file that stands where another one is to be moved.
    fn give_way(&self, target: &Path) -> io::Result<()> {
        if target.symlink_metadata().is_err() {
            return Ok(());
        }
        let free = (1..=u32::MAX).map(|n| layout::replaced(target, n)).find(|path| path.symlink_metadata().is_err());
        free.map_or(Ok(()), |free| self.disk.rename(target, &free))
    }
}

/// Tries whether files can be made in a folder.
fn check_writable(disk: &RealDisk, folder: &Path) -> io::Result<()> {
    let probe = folder.join("writable.new");
    match disk.remove(&probe) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    disk.create(&probe)?.write_at(0, b"?")?;
    disk.remove(&probe)
}

fn unusable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unwritable(format!(
        "The data directory cannot be used: {} cannot be written to ({error}). Change that, or name another directory with \
         --data-dir.",
        path.display()
    ))
}
