//! [`SessionStore`] over plain files below one data directory (contracts 2).

mod cache;
mod replies;

use self::cache::{Cache, Opened};
use self::replies::Replies;
use super::disk::{Disk, RealDisk};
use super::document::Document;
use super::index::{self, Index};
use super::layout::{self, Area, Day, Layout};
use super::lock::DirectoryLock;
use super::merge::{self, Indexed, Plan};
use super::{Health, ListRequest, Listing, NewSession, ReplyHead, Save, Saved, SessionStore, Sort, StoreError, search};
use crate::model::message::Message;
use crate::model::query::Query;
use crate::model::reply::ReplyEvent;
use crate::model::session::{Kind, Session, SessionId, Summary};
use crate::model::{Object, time};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
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
        let index = Index::build(&layout, &disk)?;
        let replies = Replies::new(&layout, &disk);
        let cache = Cache::new(CACHE_BYTES);
        Ok(Self { inner: Arc::new(Inner { layout, disk, index, cache, replies, _lock: lock }) })
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
        let id = id.clone();
        self.blocking(move |inner| {
            let (now, base) = (save.now, save.base_revision);
            inner.change(&id, now, base, |known| merge::plan(known, &save, &mut || Uuid::new_v4().simple().to_string()))
        })
        .await
    }

    async fn append_reply(&self, id: &SessionId, message: Message, now: DateTime<Utc>) -> Result<Saved, StoreError> {
        let id = id.clone();
        self.blocking(move |inner| inner.change(&id, now, None, |known| Ok(merge::plan_reply(known, &message)))).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Listing, StoreError> {
        let request = request.clone();
        self.blocking(move |inner| inner.list(&request)).await
    }

    async fn find(&self, query: &Query, kind: Option<Kind>) -> Result<Vec<SessionId>, StoreError> {
        let query = query.clone();
        self.blocking(move |inner| {
            inner.index.refresh()?;
            let mut entries = inner.index.entries(kind, Sort::Newest);
            if !query.is_empty() {
                entries.retain(|entry| inner.search(entry, &query).is_some());
            }
            Ok(entries.into_iter().map(|entry| entry.id).collect())
        })
        .await
    }

    async fn delete(&self, id: &SessionId) -> Result<(), StoreError> {
        let id = id.clone();
        self.blocking(move |inner| inner.delete(&id)).await
    }

    async fn restore(&self, id: &SessionId) -> Result<(), StoreError> {
        let id = id.clone();
        self.blocking(move |inner| inner.restore(&id)).await
    }

    async fn health(&self) -> Health {
        Health { sessions: self.inner.index.len() as u64, index: "ready" }
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
        let result = created.map(|document| {
            self.index.put(&id, day, &document);
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
            self.index.put(id, opened.day, &opened.document);
            Arc::clone(opened.document.session())
        });
        if !was_open {
            *opened = None;
        }
        drop(opened);
        self.cache.release(id, slot);
        result
    }

    /// Changes a session and says what became of it.
    fn change(
        &self,
        id: &SessionId,
        now: DateTime<Utc>,
        base_revision: Option<u64>,
        mut make_plan: impl FnMut(Indexed<'_>) -> Result<Plan, StoreError>,
    ) -> Result<Saved, StoreError> {
        self.with_document(id, |document| {
            let mut merged = false;
            document.change(&self.disk, now, |known| {
                merged = base_revision.is_some_and(|base| base < known.session.revision);
                make_plan(known)
            })?;
            let session = document.session();
            Ok(Saved { revision: session.revision, saved_at: session.last_updated.clone(), merged })
        })
    }

    /// Does something with a session's document, as it is on the disk now, while nobody else does.
    fn with_document<T>(
        &self,
        id: &SessionId,
        work: impl FnOnce(&mut Document) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let slot = self.cache.slot(id);
        let mut opened = slot.lock();
        let result = self.open_into(id, &mut opened).and_then(|opened| {
            let result = work(&mut opened.document);
            self.index.put(id, opened.day, &opened.document);
            result
        });
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
            _ => {
                self.index.remove(id);
                Ok(())
            }
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
        if result? == 0 {
            return Err(StoreError::NotFound);
        }
        // Into the list; a file that cannot be read is restored all the same.
        let _ = self.with_document(id, |_| Ok(()));
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

    fn list(&self, request: &ListRequest) -> Result<Listing, StoreError> {
        self.index.refresh()?;
        let mut entries = self.index.entries(request.kind, request.sort);
        if !request.query.is_empty() {
            entries = entries
                .into_iter()
                .filter_map(|mut entry| {
                    let matches = self.search(&entry, &request.query)?;
                    entry.summary = Arc::new(Summary { matches, ..Summary::clone(&entry.summary) });
                    Some(entry)
                })
                .collect();
        }
        let (mut listing, page) = self.index.page(request, &entries)?;
        listing.sessions = page.into_iter().map(|entry| Arc::unwrap_or_clone(entry.summary)).collect();
        Ok(listing)
    }

    /// Where a query is found in a session; `None` if it is not, or the file cannot be read now.
    fn search(&self, entry: &index::Entry, query: &Query) -> Option<Vec<crate::model::session::Match>> {
        let session = match self.cache.peek(&entry.id) {
            Some(session) => session,
            None => {
                let path = self.layout.session(Area::Sessions, entry.day, &entry.id);
                match Document::open(&self.disk, &path, &entry.id) {
                    Ok(document) => Arc::clone(document.session()),
                    Err(error) => {
                        tracing::warn!(%error, "a session file cannot be searched");
                        return None;
                    }
                }
            }
        };
        search::find(&session, &entry.summary, query)
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
