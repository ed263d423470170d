//! [`SessionStore`] over plain files below one data directory.

mod cache;
mod commit;
mod part;
mod replies;

use self::cache::{Cache, Opened};
use self::replies::Replies;
use super::disk::{Disk, LARGEST_FILE, RealDisk, has_no_room};
use super::document::{Change, Document, MakePlan};
use super::index::{self, Index};
use super::layout::{self, Area, Day, Layout};
use super::lock::DirectoryLock;
use super::merge;
use super::{
    Health, IndexState, ListRequest, Listing, NewSession, PartRequest, ReplyHead, Save, Saved, SessionPart,
    SessionStore, StoreError,
};
use crate::model::message::Message;
use crate::model::query::Query;
use crate::model::reply::ReplyEvent;
use crate::model::session::{Kind, Session, SessionId};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::collections::HashSet;
use std::fs::{DirBuilder, DirEntry};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// How many bytes of session files are kept in memory, about; parsed they take several times as much.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// How long the index may take to end with the store; a server that is told to stop has five seconds for all that it does.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// How many bytes must fit beside what is kept, so that saves and the index can go on.
const ROOM_BYTES: usize = 256 * 1024;

/// What a store is opened with.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// How many bytes a session file may have. A larger one is not read, and a save that would make one is refused.
    pub largest_file: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { largest_file: LARGEST_FILE }
    }
}

/// Sessions in plain JSON files. Cheap to clone; the data directory is held until the last clone is gone.
#[derive(Clone, Debug)]
pub struct FileStore {
    inner: Arc<Inner>,
}

impl FileStore {
    /// Opens a data directory, making it where it is missing, and reads what is kept in it; this blocks. The text of an error is a
    /// sentence for the person who started the server.
    ///
    /// Where the disk is full or can only be read, what is kept is served all the same, and saves fail until there is room.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(data_dir, StoreOptions::default())
    }

    /// The same with options.
    pub fn open_with(data_dir: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let layout = Layout::new(data_dir);
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(|error| unusable(data_dir, &error))?;
        let lock = DirectoryLock::take(&layout)?;
        let disk = RealDisk::with_largest_file(data_dir, options.largest_file);
        let mut is_writable = true;
        for folder in [layout.area(Area::Sessions), layout.area(Area::Trash), layout.replies()] {
            disk.create_folder(&folder).map_err(|error| unusable(&folder, &error))?;
            is_writable &= has_room(&disk, &folder, 1)?;
        }
        is_writable &= has_room(&disk, data_dir, ROOM_BYTES)?;
        disk.sync_folder(data_dir).map_err(|error| unusable(data_dir, &error))?;
        if let Some(complaint) = layout.complaint_of_permissions() {
            tracing::warn!("{complaint}");
        }
        let index = if is_writable {
            Index::open(&layout, &disk)?
        } else {
            tracing::error!(
                "nothing can be written to the data directory: what is kept can be read, and saves fail until there is room"
            );
            Index::open_elsewhere(&layout, &disk)?
        };
        let replies = Replies::new(&layout, &disk);
        let cache = Cache::new(CACHE_BYTES);
        let is_writable = AtomicBool::new(is_writable);
        Ok(Self { inner: Arc::new(Inner { layout, disk, index, cache, replies, is_writable, _lock: lock }) })
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
    async fn create(&self, new: NewSession) -> Result<u64, StoreError> {
        self.blocking(move |inner| inner.create(new)).await
    }

    async fn load(&self, id: &SessionId) -> Result<Arc<Session>, StoreError> {
        let id = id.clone();
        self.blocking(move |inner| inner.load(&id)).await
    }

    async fn load_part(&self, id: &SessionId, part: &PartRequest) -> Result<Option<SessionPart>, StoreError> {
        let (id, part) = (id.clone(), part.clone());
        self.blocking(move |inner| inner.load_part(&id, &part)).await
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
            inner.index.close_within(CLOSE_PATIENCE);
            Ok(())
        });
        // It only ends early when the runtime does.
        let _ = closed.await;
    }

    async fn health(&self) -> Health {
        let health = self.blocking(|inner| {
            Ok(Health {
                sessions: inner.index.len(),
                unreadable: inner.index.unreadable(),
                writable: inner.can_write(),
                index: inner.index.state(),
            })
        });
        let unknown = Health { sessions: 0, unreadable: 0, writable: false, index: IndexState::Ready };
        health.await.unwrap_or(unknown)
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
    /// Whether nothing failed to be written since that was tried last.
    is_writable: AtomicBool,
    _lock: DirectoryLock,
}

impl Inner {
    /// Whether saves can be expected to succeed. After a failure it is tried again each time that somebody asks.
    fn can_write(&self) -> bool {
        if self.is_writable.load(Ordering::Relaxed) {
            return true;
        }
        let can = has_room(&self.disk, self.layout.root(), ROOM_BYTES).unwrap_or(false);
        if can {
            tracing::info!("there is room in the data directory again");
            self.is_writable.store(true, Ordering::Relaxed);
        }
        can
    }

    /// Takes note of what became of a write.
    fn note_outcome<T>(&self, result: &Result<T, StoreError>) {
        if matches!(result, Err(StoreError::Unwritable(_))) {
            self.is_writable.store(false, Ordering::Relaxed);
        }
    }

    fn create(&self, new: NewSession) -> Result<u64, StoreError> {
        let day = Day::of(new.started_at);
        let session = merge::begin(new, &mut || Uuid::new_v4().simple().to_string())?;
        let id = session.session_id.clone();
        let slot = self.cache.slot(&id);
        let mut opened = slot.lock();
        // In a folder that cannot be read now nobody else has put a file under an id that was just made.
        let is_there = |area| self.places(area, &id).map(|places| !places.days.is_empty());
        let is_free =
            || if is_there(Area::Sessions)? || is_there(Area::Trash)? { Err(StoreError::Exists) } else { Ok(()) };
        if let Err(error) = is_free() {
            drop(opened);
            self.cache.release(&id, slot);
            return Err(error);
        }
        let created = self
            .make_day(Area::Sessions, day)
            .and_then(|()| Document::create(&self.disk, &self.layout.session(Area::Sessions, day, &id), session));
        self.note_outcome(&created);
        let result = created.map(|mut document| {
            let written = document.take_written();
            self.index.put(day, &document, written);
            let revision = document.revision();
            *opened = Some(Opened { day, document });
            revision
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
                let places = self.places(Area::Sessions, id)?;
                for day in places.days {
                    match read(day) {
                        Ok(other) => {
                            let revision = |opened: &Opened| opened.document.revision();
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
                    (None, None) => {
                        let in_trash = self.places(Area::Trash, id)?;
                        return Err(match places.hidden.or(in_trash.hidden) {
                            _ if !in_trash.days.is_empty() => StoreError::Deleted,
                            Some(hidden) => hidden,
                            None => StoreError::NotFound,
                        });
                    }
                }
            }
        };
        if let Some(complaint) = opened.document.complaint() {
            tracing::warn!(session_id = %id, %complaint, "a session file is not as it should be");
        }
        Ok(opened)
    }

    /// The days in whose folders of an area a file of this id lies.
    fn places(&self, area: Area, id: &SessionId) -> Result<Places, StoreError> {
        let days = index::days(&self.layout, area)?;
        let look = |day: &Day| {
            let path = self.layout.session(area, *day, id);
            let found = path.symlink_metadata().map(|found| found.is_file());
            found.map_err(|error| (path, error))
        };
        Ok(Places::of(days, look))
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
            0 => {
                let in_trash = self.places(Area::Trash, id)?;
                match in_trash.hidden {
                    _ if !in_trash.days.is_empty() => Err(StoreError::Deleted),
                    Some(hidden) => Err(hidden),
                    None => Err(StoreError::NotFound),
                }
            }
            _ => Ok(()),
        }
    }

    fn restore(&self, id: &SessionId) -> Result<(), StoreError> {
        let slot = self.cache.slot(id);
        let mut opened = slot.lock();
        let result = match self.places(Area::Sessions, id) {
            Ok(Places { days, .. }) if !days.is_empty() => Err(StoreError::Exists),
            Ok(Places { hidden, .. }) => match (self.move_between(id, Area::Trash, Area::Sessions), hidden) {
                // It may lie in a folder that cannot be read now.
                (Ok(0), Some(hidden)) => Err(hidden),
                (moved, _) => moved,
            },
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
                if ids.as_ref().is_some_and(|ids| !ids.contains(&id)) || is_folder(&file) {
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
            if !gone.contains(&id) || is_kept() || is_folder(&file) {
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
            let places = self.places(Area::Sessions, &head.session_id)?;
            if gone.contains(&head.session_id) && places.days.is_empty() && places.hidden.is_none() {
                self.replies.end(&head.reply_id)?;
            }
        }
        Ok(())
    }

    /// Moves all files of an id from one area to the other and returns how many there were.
    fn move_between(&self, id: &SessionId, from: Area, to: Area) -> Result<usize, StoreError> {
        let Places { days, hidden } = self.places(from, id)?;
        if let (true, Some(hidden)) = (days.is_empty(), hidden) {
            return Err(hidden);
        }
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

/// Where the files of an id lie.
#[derive(Debug, Default)]
struct Places {
    days: Vec<Day>,
    /// Why it is not known of some folder whether one lies there.
    hidden: Option<StoreError>,
}

impl Places {
    /// Looks into the folder of each day.
    fn of(days: Vec<Day>, look: impl Fn(&Day) -> Result<bool, (PathBuf, io::Error)>) -> Self {
        let mut places = Self::default();
        for day in days {
            match look(&day) {
                Ok(true) => places.days.push(day),
                Ok(false) => {}
                Err((_, error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err((path, error)) => {
                    places.hidden = Some(StoreError::Unreadable(format!("{}: {error}", path.display())));
                }
            }
        }
        places
    }
}

/// Whether this is a folder, which nobody of ours makes beside files; it is left as it is.
fn is_folder(entry: &DirEntry) -> bool {
    let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
    if is_folder {
        tracing::warn!(path = %entry.path().display(), "a folder with the name of a session file is passed over");
    }
    is_folder
}

/// Tries whether so many bytes can be written to a new file in a folder. `false` where the disk is full or can only be read;
/// anything else that prevents it is an error.
fn has_room(disk: &RealDisk, folder: &Path, bytes: usize) -> Result<bool, StoreError> {
    match check_writable(disk, folder, bytes) {
        Ok(()) => Ok(true),
        Err(error) if has_no_room(&error) => {
            tracing::warn!(folder = %folder.display(), %error, "nothing can be written");
            Ok(false)
        }
        Err(error) => Err(unusable(folder, &error)),
    }
}

fn check_writable(disk: &RealDisk, folder: &Path, bytes: usize) -> io::Result<()> {
    let probe = folder.join("writable.new");
    // One may be left from a server that was killed. A folder of this name is in nobody's way.
    let probe = match disk.remove(&probe) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => probe,
        Err(error) if !probe.is_dir() => return Err(error),
        Err(_) => folder.join(format!("writable-{}.new", Uuid::new_v4().simple())),
        Ok(()) => probe,
    };
    let mut file = disk.create(&probe)?;
    let written = file.write_at(0, &vec![b'?'; bytes]);
    drop(file);
    let removed = disk.remove(&probe);
    written.and(removed)
}

fn unusable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unwritable(format!(
        "The data directory cannot be used: {} cannot be written to ({error}). Change that, or name another directory with \
         --data-dir.",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_looked_into_is_not_one_without_the_session() {
        let days: Vec<Day> = ["2026-02-11", "2026-02-10", "2026-02-09"].map(|day| Day::parse(day).unwrap()).to_vec();
        let of = |answers: [Result<bool, io::ErrorKind>; 3]| {
            let look = |day: &Day| {
                let at = days.iter().position(|other| other == day).unwrap();
                answers[at].map_err(|kind| (PathBuf::from("folder/abc.json"), io::Error::from(kind)))
            };
            Places::of(days.clone(), look)
        };
        let places = of([Ok(false), Err(io::ErrorKind::NotFound), Ok(true)]);
        assert!(places.days == [days[2]] && places.hidden.is_none());
        let places = of([Ok(false), Err(io::ErrorKind::PermissionDenied), Ok(false)]);
        assert!(places.days.is_empty());
        let hidden = places.hidden.unwrap();
        assert!(matches!(&hidden, StoreError::Unreadable(why) if why.contains("folder/abc.json")), "{hidden}");
    }

    /// What is asked of the index in a data directory to which nothing can be written.
    #[test]
    fn an_index_elsewhere_leaves_that_of_the_directory_alone_and_goes_with_the_store() {
        let data = tempfile::tempdir().unwrap();
        let layout = Layout::new(data.path());
        drop(FileStore::open(data.path()).unwrap());
        let day = layout.day(Area::Sessions, Day::parse("2026-02-09").unwrap());
        std::fs::create_dir(&day).unwrap();
        std::fs::write(day.join("abc.json"), r#"{"session_id":"abc","messages":[{"role":"user","content":"x"}]}"#)
            .unwrap();
        let before = std::fs::read(layout.index()).unwrap();
        let index = Index::open_elsewhere(&layout, &RealDisk::new(data.path())).unwrap();
        assert!(index.wait_until_agreed(Duration::from_secs(30)));
        assert_eq!(index.len(), 1);
        let folder = index.folder_elsewhere().unwrap().to_owned();
        assert!(folder.is_dir());
        drop(index);
        assert!(!folder.exists());
        assert_eq!(std::fs::read(layout.index()).unwrap(), before);
    }
}
