//! Compares the index with the files: all of them at the start, afterwards those that a watcher names, and from time to time all
//! again, for file systems that tell nothing.

use super::database::{self, FileRow};
use super::{Found, Shared, Wanted};
use crate::model::session::SessionId;
use crate::store::disk::{Disk, Stamp};
use crate::store::document::{Document, OpenFailure};
use crate::store::layout::{self, Area, Day, Layout};
use crate::store::{StoreError, text};
use notify::event::ModifyKind;
use notify::{EventKind, EventKindMask, RecursiveMode, Watcher};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long events are gathered: a file that is written is named many times.
const GATHER_TIME: Duration = Duration::from_millis(250);

/// How long after one comparison of everything the next one begins, at least: with a watcher, and without one.
const WATCHED_INTERVAL: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// A comparison takes at most one part in so many of the time.
const SHARE: u32 = 50;

/// Files that are read in one go by each thread.
const CHUNK: usize = 32;

/// Compares until the index is closed.
pub struct Comparer {
    shared: Arc<Shared>,
    watcher: Option<notify::RecommendedWatcher>,
    /// Files that were not as the index said, but may just be being written.
    suspects: HashSet<(Area, Day, SessionId)>,
    /// Files that could not be read when that was tried last. They are tried again with each comparison of everything.
    unread: Mutex<HashSet<(Area, Day, SessionId)>>,
}

impl Comparer {
    /// A comparer that has not begun.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, watcher: None, suspects: HashSet::new(), unread: Mutex::default() }
    }

    /// Compares everything, and then what changes.
    pub fn run(mut self) {
        // Watched first, so that nothing changes unseen between the comparison and the watching.
        self.watch();
        let mut last_all = Instant::now();
        let mut all_took = self.compare_all(HashSet::new());
        loop {
            let interval = if self.watcher.is_some() { WATCHED_INTERVAL } else { POLL_INTERVAL };
            let interval = interval.max(all_took * SHARE);
            let Some(wanted) = self.wait(last_all + interval) else { return };
            if wanted.contains(&Wanted::All) {
                all_took = self.compare_all(wanted);
                last_all = Instant::now();
            } else {
                self.compare(wanted);
            }
            self.shared.to_others.notify_all();
        }
    }

    fn watch(&mut self) {
        let shared = Arc::downgrade(&self.shared);
        let layout = self.shared.layout.clone();
        let take_up = move |event: notify::Result<notify::Event>| {
            let Some(shared) = shared.upgrade() else { return };
            match event {
                Ok(event) if event.need_rescan() => shared.want(Wanted::All),
                Ok(event) => {
                    for path in &event.paths {
                        if let Some(wanted) = wanted_by(&layout, path, &event.kind) {
                            shared.want(wanted);
                        }
                    }
                }
                Err(_) => shared.want(Wanted::All),
            }
        };
        // The system is not to tell of each file that is opened: a search opens hundreds.
        let kinds =
            EventKindMask::CREATE | EventKindMask::REMOVE | EventKindMask::MODIFY_DATA | EventKindMask::MODIFY_NAME;
        let config = notify::Config::default().with_event_kinds(kinds).with_follow_symlinks(false);
        let watcher = notify::RecommendedWatcher::new(take_up, config);
        let watched = watcher.and_then(|mut watcher| {
            let folders = [Area::Sessions, Area::Trash].map(|area| self.shared.layout.area(area));
            // A server has made both; whoever only checks may find no trash.
            for folder in folders.iter().filter(|folder| folder.is_dir()) {
                watcher.watch(folder, RecursiveMode::Recursive)?;
            }
            Ok(watcher)
        });
        match watched {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => tracing::warn!(
                %error,
                "the session files cannot be watched; they are compared every few seconds instead"
            ),
        }
    }

    /// Waits until something is wanted; `None` when the index is closed.
    fn wait(&self, next_all: Instant) -> Option<HashSet<Wanted>> {
        let mut inbox = self.shared.inbox();
        let mut gather_until = if self.suspects.is_empty() { None } else { Some(Instant::now() + GATHER_TIME) };
        loop {
            if inbox.stop_comparing {
                return None;
            }
            let now = Instant::now();
            if inbox.wanted.contains(&Wanted::All) || now >= next_all {
                // What is to be read though its file is as it was known is not found by comparing.
                let mut wanted = std::mem::take(&mut inbox.wanted);
                wanted.retain(|wanted| matches!(wanted, Wanted::File(..)));
                wanted.insert(Wanted::All);
                // While the inbox is held, so that nobody sees neither the wish nor the work.
                self.shared.progress.is_comparing.store(true, Ordering::Relaxed);
                return Some(wanted);
            }
            if gather_until.is_none() && !inbox.wanted.is_empty() {
                let is_event = inbox.wanted.iter().any(|wanted| !matches!(wanted, Wanted::File(..)));
                gather_until = Some(if is_event { now + GATHER_TIME } else { now });
            }
            if gather_until.is_some_and(|until| now >= until) {
                return Some(std::mem::take(&mut inbox.wanted));
            }
            let until = gather_until.unwrap_or(next_all).min(next_all);
            let time = until.saturating_duration_since(now).max(Duration::from_millis(1));
            inbox = match self.shared.to_others.wait_timeout(inbox, time) {
                Ok((inbox, _)) => inbox,
                Err(poisoned) => PoisonError::into_inner(poisoned).0,
            };
        }
    }

    /// Compares all files, and reads those that are wanted in any case; says how long it took.
    fn compare_all(&mut self, wanted: HashSet<Wanted>) -> Duration {
        let begin = Instant::now();
        let progress = &self.shared.progress;
        progress.is_comparing.store(true, Ordering::Relaxed);
        progress.done.store(0, Ordering::Relaxed);
        progress.total.store(count_files(&self.shared.layout), Ordering::Relaxed);
        self.suspects.clear();
        self.shared.settle();
        for area in [Area::Sessions, Area::Trash] {
            let on_disk = match days(&self.shared.layout, area) {
                Ok(days) => days,
                Err(error) => {
                    // An unmounted disk is no reason to forget everything.
                    tracing::warn!(%error, "the session files cannot be compared now");
                    continue;
                }
            };
            let known = self.shared.database.read(|connection| database::days(connection, area)).unwrap_or_default();
            let days: BTreeSet<Day> = on_disk.into_iter().chain(known).collect();
            for day in days.into_iter().rev() {
                if !self.compare_day(area, day) {
                    return begin.elapsed();
                }
            }
        }
        let without_texts = self.shared.without_texts().unwrap_or_else(|error| {
            tracing::warn!(%error, "the index cannot be read");
            Vec::new()
        });
        let wanted = wanted.into_iter().filter_map(|wanted| match wanted {
            Wanted::File(area, day, id) => Some((area, day, id)),
            _ => None,
        });
        let files: HashSet<_> = without_texts.into_iter().chain(wanted).collect();
        self.read_and_give(files.into_iter().map(|(area, day, id)| (area, day, id, None)).collect(), true);
        // What was found is in the index before it is said to agree.
        let mut inbox = self.shared.inbox();
        while inbox.has_found() && !inbox.stop_comparing {
            inbox = self.shared.to_others.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
        drop(inbox);
        self.shared.progress.is_comparing.store(false, Ordering::Relaxed);
        if self.shared.progress.is_rebuilding.swap(false, Ordering::Relaxed) {
            tracing::info!(sessions = self.shared.memory().counts.sessions, took = ?begin.elapsed(), "the index is built");
        }
        begin.elapsed()
    }

    /// Compares the files of a day; says whether to go on.
    fn compare_day(&self, area: Area, day: Day) -> bool {
        let known = self.shared.database.read(|connection| database::files_of_day(connection, area, day));
        let known = match known {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(%error, "the index cannot be read");
                return true;
            }
        };
        let folder = self.shared.layout.day(area, day);
        let on_disk = match files(&folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "a folder of sessions cannot be read");
                return true;
            }
        };
        let gone = known.iter().filter(|(id, _)| !on_disk.contains_key(*id));
        // What may be no longer read as the limit is now is looked at again, and then told of.
        let largest = self.shared.disk.largest_file();
        let differing = on_disk.iter().filter(|(id, stamp)| known.get(*id) != Some(*stamp) || stamp.size > largest);
        self.shared.unreadable().retain(|(a, d, id)| (*a, *d) != (area, day) || on_disk.contains_key(id));
        let wanted: Vec<_> = gone
            .map(|(id, stamp)| (area, day, id.clone(), Some(*stamp)))
            .chain(differing.map(|(id, _)| (area, day, id.clone(), known.get(id).copied())))
            .collect();
        self.shared.progress.add((on_disk.len().saturating_sub(wanted.len())) as u64);
        self.read_and_give(wanted, false)
    }

    /// Compares what is wanted.
    fn compare(&mut self, wanted: HashSet<Wanted>) {
        self.shared.settle();
        let mut files = HashSet::new();
        let suspects = std::mem::take(&mut self.suspects);
        for wanted in wanted {
            match wanted {
                Wanted::Day(area, day) => drop(self.compare_day(area, day)),
                Wanted::File(area, day, id) => drop(files.insert((area, day, id))),
                Wanted::Touched(area, day, id) => {
                    let file = (area, day, id);
                    if suspects.contains(&file) || !self.is_known(&file) {
                        files.insert(file);
                    } else if self.differs(&file) {
                        self.suspects.insert(file);
                    }
                }
                Wanted::All => {}
            }
        }
        for file in suspects {
            if self.differs(&file) {
                files.insert(file);
            }
        }
        let mut differing = Vec::new();
        for (area, day, id) in files {
            let known = self.shared.database.read(|connection| database::file(connection, area, day, &id));
            let known = known.ok().flatten().map(|(_, stamp)| stamp);
            differing.push((area, day, id, known));
        }
        self.read_and_give(differing, true);
    }

    fn is_known(&self, (area, day, id): &(Area, Day, SessionId)) -> bool {
        self.shared
            .database
            .read(|connection| database::file(connection, *area, *day, id))
            .is_ok_and(|file| file.is_some())
    }

    fn differs(&self, (area, day, id): &(Area, Day, SessionId)) -> bool {
        let known = self.shared.database.read(|connection| database::file(connection, *area, *day, id));
        let now = stamp(&self.shared.layout.session(*area, *day, id));
        known.ok().flatten().map(|(_, stamp)| stamp) != now
    }

    /// Reads files, on two threads where there are many, and gives what they hold to the worker. With `look_up` the state in which
    /// the index knows them is read first. Says whether to go on.
    fn read_and_give(&self, files: Vec<(Area, Day, SessionId, Option<Stamp>)>, look_up: bool) -> bool {
        let shared = &self.shared;
        let read = |(area, day, id, known): &(Area, Day, SessionId, Option<Stamp>)| {
            let known = match look_up {
                true => {
                    let known = shared.database.read(|connection| database::file(connection, *area, *day, id));
                    known.ok().flatten().map(|(_, stamp)| stamp)
                }
                false => *known,
            };
            match self.read_file(*area, *day, id, known) {
                Some(found) => shared.give_found(found),
                None => !shared.inbox().stop_comparing,
            }
        };
        let chunks: Vec<_> = files.chunks(CHUNK).collect();
        if chunks.len() < 2 {
            return files.iter().all(read);
        }
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                if !chunk.iter().all(read) {
                    return false;
                }
            }
            true
        };
        std::thread::scope(|scope| {
            let helper = scope.spawn(work);
            let goes_on = work();
            helper.join().unwrap_or(true) && goes_on
        })
    }

    /// Reads a file for the index; `None` if nothing can be said of it now.
    fn read_file(&self, area: Area, day: Day, id: &SessionId, known: Option<Stamp>) -> Option<Found> {
        let path = self.shared.layout.session(area, day, id);
        let gone = Found { area, day, id: id.clone(), known, row: None, lines: Vec::new(), texts: Vec::new() };
        let opened = Document::open_with_lines(&self.shared.disk, &path, id);
        let mut unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner);
        let was_unread = unread.remove(&(area, day, id.clone()));
        if self.shared.inbox().stop_comparing {
            // What was not read because of that says nothing of the file.
            return None;
        }
        let is_unreadable = matches!(&opened, Err(OpenFailure { error, .. }) if !matches!(error, StoreError::NotFound));
        if is_unreadable {
            self.shared.unreadable().insert((area, day, id.clone()));
        } else {
            self.shared.unreadable().remove(&(area, day, id.clone()));
        }
        match opened {
            Ok((document, lines)) => {
                drop(unread);
                let row = FileRow::of(area, day, &document);
                let messages = &document.session().messages;
                let texts = messages.iter().map(|message| text::of_message(message).into_owned()).collect();
                Some(Found { row: Some(row), lines, texts, ..gone })
            }
            Err(OpenFailure { error: StoreError::NotFound, .. }) => known.is_some().then_some(gone),
            Err(OpenFailure { error, read: Some(stamp) }) => {
                tracing::warn!(%error, "a session file cannot be understood and is left out of the list");
                let row = FileRow { id: id.clone(), area, day, stamp, revision: 0, summary: None };
                Some(Found { row: Some(row), ..gone })
            }
            Err(OpenFailure { error, read: None }) => {
                unread.insert((area, day, id.clone()));
                // Once is enough: it is tried again every minute.
                if !was_unread {
                    tracing::warn!(%error, "a session file cannot be read; lists show it as it was known");
                }
                None
            }
        }
    }
}

/// What a change at a path is a reason to look at.
fn wanted_by(layout: &Layout, path: &Path, kind: &EventKind) -> Option<Wanted> {
    if matches!(kind, EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_))) {
        return None;
    }
    let (area, rest) = [Area::Sessions, Area::Trash]
        .into_iter()
        .find_map(|area| Some((area, path.strip_prefix(layout.area(area)).ok()?)))?;
    let mut names = rest.components().filter_map(|name| name.as_os_str().to_str());
    let Some(day) = names.next() else { return Some(Wanted::All) };
    let day = Day::parse(day)?;
    match names.next() {
        // Files may have come into a new folder before it was watched.
        None => Some(Wanted::Day(area, day)),
        Some(name) => layout::session_of_file(name).map(|id| Wanted::Touched(area, day, id)),
    }
}

/// The state of a file; `None` if it is none.
fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = path.symlink_metadata().ok()?;
    metadata.is_file().then(|| Stamp::of(&metadata))
}

/// The session files of a folder and their states, without reading them.
fn files(folder: &Path) -> io::Result<HashMap<SessionId, Stamp>> {
    // A link in the place of the folder is not followed.
    if !folder.symlink_metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    let mut files = HashMap::new();
    for file in std::fs::read_dir(folder)?.flatten() {
        let Some(id) = file.file_name().to_str().and_then(layout::session_of_file) else { continue };
        // This does not follow links.
        let Ok(metadata) = file.metadata() else { continue };
        if metadata.is_file() {
            files.insert(id, Stamp::of(&metadata));
        }
    }
    Ok(files)
}

/// How many session files there are, about.
fn count_files(layout: &Layout) -> u64 {
    let mut count = 0;
    for area in [Area::Sessions, Area::Trash] {
        for day in days(layout, area).unwrap_or_default() {
            let Ok(files) = std::fs::read_dir(layout.day(area, day)) else { continue };
            count +=
                files.flatten().filter(|file| file.file_name().to_string_lossy().ends_with(".json")).count() as u64;
        }
    }
    count
}

/// The day folders of an area, newest first. Links and other names are passed over.
pub fn days(layout: &Layout, area: Area) -> Result<Vec<Day>, StoreError> {
    let folder = layout.area(area);
    let names =
        std::fs::read_dir(&folder).map_err(|error| StoreError::Unreadable(format!("{}: {error}", folder.display())))?;
    let mut days: Vec<Day> = names
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().to_str().and_then(Day::parse))
        .collect();
    days.sort_unstable_by(|a, b| b.cmp(a));
    Ok(days)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::RealDisk;
    use crate::store::index::{Database, worker};

    fn comparer(folder: &Path) -> Comparer {
        let layout = Layout::new(folder);
        let (database, connection) = Database::open(&layout.index()).unwrap();
        let memory = worker::load(&connection).unwrap();
        Comparer::new(Arc::new(Shared::new(&layout, &RealDisk::new(folder), database, memory)))
    }

    #[test]
    fn a_file_that_cannot_be_read_is_tried_again_and_one_that_is_no_session_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let comparer = comparer(folder.path());
        let (area, day, id) = (Area::Sessions, Day::parse("2026-02-09").unwrap(), "abc".parse().unwrap());
        let path = comparer.shared.layout.session(area, day, &id);
        std::fs::create_dir_all(&path).unwrap();
        let read = || comparer.read_file(area, day, &id, None);
        assert!(read().is_none() && comparer.unread.lock().unwrap().len() == 1);

        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "no session").unwrap();
        let row = read().unwrap().row.unwrap();
        assert!(row.summary.is_none() && Some(row.stamp) == stamp(&path));
        assert!(comparer.unread.lock().unwrap().is_empty());

        std::fs::write(&path, r#"{"session_id":"abc","messages":[]}"#).unwrap();
        assert!(read().unwrap().row.unwrap().summary.is_some());
    }

    #[test]
    fn a_wish_for_a_file_is_not_lost_in_one_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let comparer = comparer(folder.path());
        let file = Wanted::File(Area::Sessions, Day::parse("2026-02-09").unwrap(), "abc".parse().unwrap());
        comparer.shared.want(file.clone());
        comparer.shared.want(Wanted::All);
        let wanted = comparer.wait(Instant::now() + Duration::from_secs(60)).unwrap();
        assert_eq!(wanted, HashSet::from([file, Wanted::All]));
    }
}
