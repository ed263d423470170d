//! The index of all sessions: rows for lists, counts, and full text. It is a cache: what is true stands in the session files, the
//! index follows after a save was acknowledged, and can be deleted at any time.
//!
//! - `database`: its file; `memory`: what of it is held in memory; `postings`: which texts have which tokens.
//! - `worker`: the one thread that writes it; `compare`: the thread that compares it with the files.
//! - `search`: answers lists and searches.

mod compare;
mod database;
mod memory;
mod postings;
mod search;
mod worker;

use super::disk::{RealDisk, Stamp};
use super::document::{Document, Line, Written};
use super::layout::{Area, Day, Layout};
use super::{IndexState, ListRequest, Listing, StoreError};
use crate::model::query::Query;
use crate::model::session::{Kind, SessionId, Summary};
use crate::store::text;
use compare::Comparer;
use database::{Database, FileRow, Place, Texts};
use memory::Memory;
use std::collections::{HashSet, VecDeque};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use uuid::Uuid;
use worker::Worker;

pub use compare::days;

/// How many bytes of new texts wait for the index at most; texts beyond that are read from their files later.
const MOST_NOTED_BYTES: usize = 16 * 1024 * 1024;

/// How many bytes of texts that a comparison read wait for the index at most.
const MOST_FOUND_BYTES: usize = 8 * 1024 * 1024;

/// How long notes are gathered, and how many bytes of texts at most, unless somebody waits for them: to take up many at once costs
/// less, and processors are left to saves.
const GATHER_TIME: Duration = Duration::from_millis(40);
const GATHERED_BYTES: usize = 1024 * 1024;

/// How often is looked whether a thread has ended.
const END_INTERVAL: Duration = Duration::from_millis(2);

/// How long a list waits at most for what was saved before it to stand in the index.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// The index of one data directory. It is closed, and written to the end, when it is dropped.
#[derive(Debug)]
pub struct Index {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Where it lies if there is no room for it in the data directory; removed with it.
    _elsewhere: Option<Elsewhere>,
}

/// A folder of this process only, outside of the data directory.
#[derive(Debug)]
struct Elsewhere(PathBuf);

impl Elsewhere {
    /// Makes one where there is room: in memory, else where programs put what is passing.
    fn new() -> io::Result<Self> {
        let mut made = Err(io::Error::from(io::ErrorKind::NotFound));
        for folder in [PathBuf::from("/dev/shm"), std::env::temp_dir()] {
            let folder = folder.join(format!("verbatim-index-{}", Uuid::new_v4().simple()));
            made = DirBuilder::new().mode(0o700).create(&folder).map(|()| Self(folder));
            if made.is_ok() {
                break;
            }
        }
        made
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "the folder of a passing index is left");
        }
    }
}

/// What is known of a session's file.
#[derive(Debug)]
pub struct KnownFile {
    /// Its folder.
    pub day: Day,
    /// The state in which all this is known of it.
    pub stamp: Stamp,
    /// The session's revision.
    pub revision: u64,
    /// The session's row in lists.
    pub summary: Summary,
    texts: Arc<Texts>,
}

impl KnownFile {
    /// Where the lines of its messages stand; some may have none, which then have no length.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = Line> {
        // The first text is that of the head.
        let places = self.texts.places.iter().skip(1);
        places.map(|&Place { offset, length, outline, .. }| Line { offset, length, outline })
    }
}

/// What the threads of an index share.
#[derive(Debug)]
struct Shared {
    layout: Layout,
    disk: RealDisk,
    database: Database,
    memory: RwLock<Memory>,
    inbox: Mutex<Inbox>,
    /// Something came into the inbox.
    to_worker: Condvar,
    /// Something was taken out of it, or is wanted from the comparer.
    to_others: Condvar,
    progress: Progress,
    /// The files that hold no session, or could not be read when that was tried last.
    unreadable: Mutex<HashSet<(Area, Day, SessionId)>>,
}

/// What waits to be taken up.
#[derive(Debug, Default)]
struct Inbox {
    notes: VecDeque<Note>,
    note_bytes: usize,
    /// When the first of the notes came, and whether somebody waits until they stand in the index.
    noted_since: Option<Instant>,
    is_awaited: bool,
    /// How many notes were given, and how many of them stand in the index.
    given: u64,
    applied: u64,
    found: VecDeque<Found>,
    found_bytes: usize,
    /// How many of what was found the worker has in hand.
    found_in_work: usize,
    wanted: HashSet<Wanted>,
    /// Ends the worker, which then writes all that is pending; the comparer ends before it.
    stop: bool,
    stop_comparing: bool,
}

impl Inbox {
    /// How much longer notes are gathered before they are taken up; `None` if it is time.
    fn gathers_for(&self) -> Option<Duration> {
        let since = self.noted_since.filter(|_| !self.is_awaited && !self.stop && self.note_bytes < GATHERED_BYTES)?;
        GATHER_TIME.checked_sub(since.elapsed())
    }

    /// Whether something that was found is not in the index yet.
    fn has_found(&self) -> bool {
        !self.found.is_empty() || self.found_in_work > 0
    }
}

/// What the store did to a file.
#[derive(Debug)]
enum Note {
    /// It was written, or read in a state that was not known.
    File(Box<FileRow>, TextNote),
    /// It was moved into the trash or out of it.
    Moved { id: SessionId, day: Day, from: Area, to: Area },
    /// It was removed.
    Removed { id: SessionId, day: Day, area: Area },
}

impl Note {
    fn id(&self) -> &SessionId {
        match self {
            Note::File(row, _) => &row.id,
            Note::Moved { id, .. } | Note::Removed { id, .. } => id,
        }
    }
}

/// What is known of the texts of a file that was written.
#[derive(Debug)]
enum TextNote {
    /// Messages were added to those that the file had.
    Grown {
        /// The file's state before.
        before: Stamp,
        /// How many messages it had.
        from: usize,
        /// From which message on lines are given: all, where the whole file was written.
        lines_from: usize,
        /// Where the lines stand.
        lines: Vec<Line>,
        /// The texts of the new messages.
        texts: Vec<String>,
    },
    /// All of it was read, or written as a new file.
    Whole {
        /// Where the lines of the messages stand, if each has one.
        lines: Vec<Line>,
        /// The texts of all messages.
        texts: Vec<String>,
    },
    /// Nothing; it has to be read.
    Unknown,
}

/// What a comparison found out about a file.
#[derive(Debug)]
struct Found {
    area: Area,
    day: Day,
    id: SessionId,
    /// The state in which the index knew it when it was looked at.
    known: Option<Stamp>,
    /// Its row; `None` if it is gone.
    row: Option<FileRow>,
    lines: Vec<Line>,
    texts: Vec<String>,
}

impl Found {
    fn bytes(&self) -> usize {
        512 + self.texts.iter().map(String::len).sum::<usize>() + self.lines.len() * size_of::<Line>()
    }
}

/// What the comparer is asked to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Wanted {
    /// One file.
    File(Area, Day, SessionId),
    /// A file that may just be being written by the store: it is looked at twice.
    Touched(Area, Day, SessionId),
    /// All files of a day.
    Day(Area, Day),
    /// Everything.
    All,
}

/// How far a comparison is.
#[derive(Debug, Default)]
struct Progress {
    is_comparing: AtomicBool,
    is_rebuilding: AtomicBool,
    done: AtomicU64,
    total: AtomicU64,
    /// Why the index could not be written when that failed last.
    failure: Mutex<Option<String>>,
}

impl Progress {
    fn fail(&self, why: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    fn state(&self) -> IndexState {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (done, total) = (load(&self.done), load(&self.total));
        match (self.is_comparing.load(Ordering::Relaxed), self.is_rebuilding.load(Ordering::Relaxed)) {
            (false, _) => IndexState::Ready,
            (true, false) => IndexState::Checking { done: done.min(total), total },
            (true, true) => IndexState::Rebuilding { done: done.min(total), total },
        }
    }

    fn add(&self, count: u64) {
        self.done.fetch_add(count, Ordering::Relaxed);
    }
}

/// Deletes the index of a data directory that is not open.
pub fn remove(layout: &Layout) {
    database::remove(&layout.index());
}

impl Index {
    /// Opens the index of a data directory and begins to compare it with the files.
    pub fn open(layout: &Layout, disk: &RealDisk) -> Result<Self, StoreError> {
        Self::open_at(&layout.index(), layout, disk, None)
    }

    /// The same for a data directory to which nothing can be written now: the index is built in memory or in a temporary folder, and
    /// is gone with the process. That of the directory is left as it is.
    pub fn open_elsewhere(layout: &Layout, disk: &RealDisk) -> Result<Self, StoreError> {
        let elsewhere = Elsewhere::new().map_err(|error| {
            StoreError::Unwritable(format!(
                "There is no room for an index of the sessions ({error}). Make room, and start again."
            ))
        })?;
        let path = elsewhere.0.join("index.sqlite");
        Self::open_at(&path, layout, disk, Some(elsewhere))
    }

    fn open_at(
        path: &Path,
        layout: &Layout,
        disk: &RealDisk,
        elsewhere: Option<Elsewhere>,
    ) -> Result<Self, StoreError> {
        let unusable = |error: rusqlite::Error| {
            StoreError::Unwritable(format!(
                "The index {} cannot be used ({error}). Delete it; it is built anew at the next start.",
                path.display()
            ))
        };
        let (database, connection, memory) = match Self::load(path) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::warn!(%error, "the index is damaged and is built anew");
                database::remove(path);
                Self::load(path).map_err(unusable)?
            }
        };
        let is_new = memory.entries().next().is_none();
        let unreadable = database.read(database::unreadable_files).map_err(unusable)?;
        let shared = Arc::new(Shared::new(layout, disk, database, memory));
        *shared.unreadable() = unreadable.into_iter().collect();
        shared.progress.is_comparing.store(true, Ordering::Relaxed);
        shared.progress.is_rebuilding.store(is_new, Ordering::Relaxed);
        let worker = Worker::new(Arc::clone(&shared), connection);
        let comparer = Comparer::new(Arc::clone(&shared));
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(work)
                .map_err(|error| StoreError::Unwritable(format!("The index's threads cannot be started: {error}.")))
        };
        let index = Self { shared, threads: Mutex::default(), _elsewhere: elsewhere };
        let worker = spawn("index-writer", Box::new(|| worker.run()))?;
        index.threads().push(worker);
        let comparer = spawn("index-compare", Box::new(|| comparer.run()))?;
        index.threads().push(comparer);
        Ok(index)
    }

    fn load(path: &Path) -> rusqlite::Result<(Database, rusqlite::Connection, Memory)> {
        let (database, connection) = Database::open(path)?;
        postings::remove_leftovers(&connection)?;
        let memory = worker::load(&connection)?;
        Ok((database, connection, memory))
    }

    /// Writes what is pending and ends the threads. Afterwards nothing is taken up any more.
    pub fn close(&self) {
        self.close_until(None);
    }

    /// The same for at most this time: a thread that is at work on something large is left behind, and what it does not finish is
    /// found again by the next comparison.
    pub fn close_within(&self, patience: Duration) {
        self.close_until(Some(Instant::now() + patience));
    }

    fn close_until(&self, deadline: Option<Instant>) {
        self.shared.disk.interrupt();
        self.shared.inbox().stop_comparing = true;
        self.shared.to_others.notify_all();
        self.shared.to_worker.notify_all();
        let mut threads = std::mem::take(&mut *self.threads());
        // The comparer first: the worker takes up what it has found.
        while let Some(thread) = threads.pop() {
            if threads.is_empty() {
                self.shared.inbox().stop = true;
                self.shared.to_worker.notify_all();
            }
            while deadline.is_some_and(|deadline| Instant::now() < deadline) && !thread.is_finished() {
                std::thread::sleep(END_INTERVAL);
            }
            if deadline.is_some() && !thread.is_finished() {
                let name = thread.thread().name().unwrap_or_default();
                tracing::warn!(name, "what is missing in the index is taken up at the next start");
                continue;
            }
            if thread.join().is_err() {
                tracing::error!("a thread of the index ended early");
            }
        }
    }

    /// Where it lies, if that is outside of the data directory.
    #[cfg(test)]
    pub fn folder_elsewhere(&self) -> Option<&Path> {
        self._elsewhere.as_ref().map(|elsewhere| elsewhere.0.as_path())
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a document that the store has in hand. `written` is what it wrote since the last time.
    pub fn put(&self, day: Day, document: &Document, written: Written) {
        let texts_from =
            |from| document.messages_from(from).map(|message| text::of_message(message).into_owned()).collect();
        let text = match written {
            Written::Nothing => return,
            Written::Unknown => TextNote::Unknown,
            Written::Messages { before: None, .. } => {
                TextNote::Whole { lines: document.lines_from(0), texts: texts_from(0) }
            }
            Written::Messages { before: Some(before), from, is_whole } => {
                let lines_from = if is_whole { 0 } else { from };
                TextNote::Grown {
                    before,
                    from,
                    lines_from,
                    lines: document.lines_from(lines_from),
                    texts: texts_from(from),
                }
            }
        };
        let row = FileRow::of(Area::Sessions, day, document);
        self.shared.note(Note::File(Box::new(row), text));
    }

    /// Takes note that the store moved a session's files between the areas.
    pub fn moved(&self, id: &SessionId, day: Day, from: Area, to: Area) {
        self.shared.note(Note::Moved { id: id.clone(), day, from, to });
    }

    /// Takes note that the store removed a session's file.
    pub fn removed(&self, id: &SessionId, day: Day, area: Area) {
        self.shared.note(Note::Removed { id: id.clone(), day, area });
    }

    /// In which folder a session's file was last seen.
    pub fn day(&self, id: &SessionId) -> Option<Day> {
        let files = self.shared.database.read(|connection| database::files_of_id(connection, Area::Sessions, id));
        let files = files.map_err(|error| tracing::warn!(%error, "the index cannot be read")).ok()?;
        files.iter().filter(|file| file.3).max_by_key(|file| (file.2, file.1)).map(|file| file.1)
    }

    /// What is known of a session's file, so that a part of it can be read; `None` where that is not all known.
    pub fn known_file(&self, id: &SessionId) -> Option<KnownFile> {
        // First the memory, then the file's state: what is taken from the one then stands in the other.
        let fresh = Arc::clone(&self.shared.memory().fresh);
        let known = self.shared.database.read_snapshot(|connection| {
            let files = database::files_of_id(connection, Area::Sessions, id)?;
            let Some(&(number, ..)) = files.iter().filter(|file| file.3).max_by_key(|file| (file.2, file.1)) else {
                return Ok(None);
            };
            let Some(row) = database::row(connection, number)? else { return Ok(None) };
            let texts = match fresh.get(&number) {
                Some(texts) => Some(Arc::clone(texts)),
                None => database::texts(connection, number)?.map(Arc::new),
            };
            Ok(Some((row, texts)))
        });
        let (row, texts) = known.map_err(|error| tracing::warn!(%error, "the index cannot be read")).ok()??;
        let texts = texts.filter(|texts| texts.stamp == Some(row.stamp))?;
        let FileRow { day, stamp, revision, summary, .. } = row;
        Some(KnownFile { day, stamp, revision, summary: summary?, texts })
    }

    /// How many sessions are kept.
    pub fn len(&self) -> u64 {
        self.shared.settle();
        self.shared.memory().counts.sessions
    }

    /// How many files of kept sessions cannot be read, as far as they have been looked at.
    pub fn unreadable(&self) -> u64 {
        self.shared.unreadable().iter().filter(|(area, ..)| *area == Area::Sessions).count() as u64
    }

    /// Why it could not be written when that failed last, since it was opened.
    pub fn failure(&self) -> Option<String> {
        self.shared.progress.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it is doing.
    pub fn state(&self) -> IndexState {
        self.shared.progress.state()
    }

    /// Compares everything once more and waits, for `time` at most, until the index agrees with the files; says whether it does.
    pub fn agree(&self, time: Duration) -> bool {
        self.shared.compare_all_later();
        self.wait_until_agreed(time)
    }

    /// Waits, for `time` at most, until the comparisons that are under way or wanted are done; says whether they are.
    pub fn wait_until_agreed(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let mut inbox = self.shared.inbox();
        loop {
            let is_busy = self.shared.progress.is_comparing.load(Ordering::Relaxed)
                || !inbox.wanted.is_empty()
                || inbox.has_found()
                || inbox.applied < inbox.given;
            if !is_busy {
                return true;
            }
            if Instant::now() > deadline || inbox.stop {
                return false;
            }
            inbox = match self.shared.to_others.wait_timeout(inbox, Duration::from_millis(50)) {
                Ok((inbox, _)) => inbox,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// One page of a list, with the counts.
    pub fn list(&self, request: &ListRequest) -> Result<Listing, StoreError> {
        self.shared.settle();
        search::list(&self.shared, request).map_err(search::Failure::into_store_error)
    }

    /// The ids that a search finds, newest first; archived sessions are among them.
    pub fn find(
        &self,
        query: &Query,
        kind: Option<Kind>,
        utc_offset_minutes: i32,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.shared.settle();
        search::find(&self.shared, query, kind, utc_offset_minutes).map_err(search::Failure::into_store_error)
    }

    /// What of the index does not agree with itself, for whoever checks it: one sentence each.
    pub fn check(&self) -> Result<Vec<String>, StoreError> {
        search::check(&self.shared).map_err(|error| StoreError::IndexUnreadable(error.to_string()))
    }

    /// What of the index of a data directory that is not open is damaged, one sentence each. This changes nothing.
    pub fn damage(layout: &Layout) -> Vec<String> {
        if !layout.index().exists() {
            return Vec::new();
        }
        if database::is_marked_damaged(&layout.index()) {
            return vec!["a server found that it is damaged".to_owned()];
        }
        let look = || match Database::open_to_read(&layout.index())? {
            Some(database) => database.read(|connection| search::check_form(connection, &worker::load(connection)?)),
            None => Ok(Vec::new()),
        };
        look().unwrap_or_else(|error| vec![format!("it cannot be read: {error}")])
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn new(layout: &Layout, disk: &RealDisk, database: Database, memory: Memory) -> Self {
        Self {
            layout: layout.clone(),
            disk: disk.interruptible(),
            database,
            memory: RwLock::new(memory),
            inbox: Mutex::default(),
            to_worker: Condvar::new(),
            to_others: Condvar::new(),
            progress: Progress::default(),
            unreadable: Mutex::default(),
        }
    }

    fn unreadable(&self) -> MutexGuard<'_, HashSet<(Area, Day, SessionId)>> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> RwLockReadGuard<'_, Memory> {
        // What a panic may leave half done is a cache, and is compared with the files at the next start.
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory_mut(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a note to the worker. This never waits.
    fn note(&self, mut note: Note) {
        let mut inbox = self.inbox();
        if let Note::File(_, text) = &mut note {
            let bytes = match text {
                TextNote::Grown { texts, lines, .. } | TextNote::Whole { texts, lines } => {
                    texts.iter().map(String::len).sum::<usize>() + lines.len() * size_of::<Line>()
                }
                TextNote::Unknown => 0,
            };
            if inbox.note_bytes + bytes > MOST_NOTED_BYTES {
                *text = TextNote::Unknown;
            } else {
                inbox.note_bytes += bytes;
            }
        }
        inbox.notes.push_back(note);
        inbox.given += 1;
        // The worker needs to hear of the first one only, and when there are enough.
        let is_first = inbox.noted_since.is_none();
        inbox.noted_since.get_or_insert_with(Instant::now);
        let is_time = inbox.gathers_for().is_none();
        drop(inbox);
        if is_first || is_time {
            self.to_worker.notify_one();
        }
    }

    /// Waits until everything that was noted before stands in the index, for [`SETTLE_TIME`] at most.
    fn settle(&self) {
        let deadline = Instant::now() + SETTLE_TIME;
        let mut inbox = self.inbox();
        let given = inbox.given;
        if inbox.applied < given {
            inbox.is_awaited = true;
            self.to_worker.notify_one();
        }
        while inbox.applied < given && !inbox.stop {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            inbox = match self.to_others.wait_timeout(inbox, left) {
                Ok((inbox, _)) => inbox,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    fn set_applied(&self, last: u64) {
        self.inbox().applied = last;
        self.to_others.notify_all();
    }

    /// Gives what was found to the worker, when there is room. Says whether to go on.
    fn give_found(&self, found: Found) -> bool {
        let mut inbox = self.inbox();
        while inbox.found_bytes > MOST_FOUND_BYTES && !inbox.stop_comparing {
            inbox = self.to_others.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        if inbox.stop_comparing {
            return false;
        }
        inbox.found_bytes += found.bytes();
        inbox.found.push_back(found);
        drop(inbox);
        self.to_worker.notify_one();
        true
    }

    fn want(&self, wanted: Wanted) {
        self.inbox().wanted.insert(wanted);
        self.to_others.notify_all();
    }

    fn compare_all_later(&self) {
        self.want(Wanted::All);
    }

    /// The files whose texts have to be read though the files have not changed.
    fn without_texts(&self) -> rusqlite::Result<Vec<(Area, Day, SessionId)>> {
        let found = self.database.read(database::files_without_texts)?;
        let mut memory = self.memory_mut();
        // What is known in memory only is not missing.
        let missing: Vec<_> = found.into_iter().filter(|file| !memory.fresh.contains_key(&file.0)).collect();
        let numbers: HashSet<_> = missing.iter().map(|file| file.0).collect();
        self.database.read(|connection| worker::bury_orphans(connection, &mut memory, &numbers))?;
        Ok(missing.into_iter().map(|(_, area, day, id)| (area, day, id)).collect())
    }
}
