//! The list of all sessions, in memory. It is a cache: built from the files at the start, and compared with the folders at
//! most every second, so that files which somebody puts there by hand appear.

use super::disk::{RealDisk, Stamp};
use super::document::Document;
use super::layout::{self, Area, Day, Layout};
use super::{ListRequest, Listing, Sort, StoreError};
use crate::model::session::{Kind, SessionId, Summary};
use crate::model::time;
use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, Offset, TimeDelta, Utc};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the folders are trusted to be as they were.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How many files are read by one thread before a second one helps.
const ALONE: usize = 16;

/// A session in the list.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub id: SessionId,
    /// The folder that holds its file.
    pub day: Day,
    /// Its row.
    pub summary: Arc<Summary>,
    /// Its place in the order by `last_updated`, in microseconds since 1970.
    updated: i64,
    /// When it began, if that can be read.
    started: Option<DateTime<Utc>>,
}

/// All sessions that are kept.
#[derive(Debug)]
pub struct Index {
    layout: Layout,
    disk: RealDisk,
    state: Mutex<State>,
    /// When the folders were last compared.
    checked: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct State {
    /// Nearly always one file for an id.
    files: HashMap<SessionId, Vec<FileRow>>,
    /// Counts what the store told the index.
    clock: u64,
    /// The clock at which the store removed an id, until the folders are next compared.
    removed: HashMap<SessionId, u64>,
}

/// A file as it was last read.
#[derive(Debug)]
struct FileRow {
    stamp: Stamp,
    revision: u64,
    /// `None` for a file that cannot be read; it is not tried again until it changes.
    entry: Option<Entry>,
    day: Day,
    /// The clock at which the store told of it; 0 if it was found.
    told: u64,
}

/// A file that a comparison met.
struct Found {
    id: SessionId,
    day: Day,
    path: PathBuf,
    stamp: Stamp,
}

impl Index {
    /// Reads all files.
    pub fn build(layout: &Layout, disk: &RealDisk) -> Result<Self, StoreError> {
        let index =
            Self { layout: layout.clone(), disk: disk.clone(), state: Mutex::default(), checked: Mutex::default() };
        index.refresh()?;
        Ok(index)
    }

    /// How many sessions are kept.
    pub fn len(&self) -> usize {
        self.state().files.values().filter(|rows| winner(rows).is_some()).count()
    }

    /// In which folder a session's file was last seen.
    pub fn day(&self, id: &SessionId) -> Option<Day> {
        self.state().files.get(id).and_then(|rows| winner(rows)).map(|entry| entry.day)
    }

    /// Notes what the store wrote or read, unless it is known.
    pub fn put(&self, id: &SessionId, day: Day, document: &Document) {
        let mut state = self.state();
        let known = state.files.get(id).is_some_and(|rows| {
            rows.iter().any(|row| row.day == day && row.stamp == document.stamp() && row.entry.is_some())
        });
        if known {
            return;
        }
        state.clock += 1;
        let told = state.clock;
        state.removed.remove(id);
        let rows = state.files.entry(id.clone()).or_default();
        rows.retain(|row| row.day != day);
        rows.push(row_of(id, day, document, told));
    }

    /// Forgets a session that the store put into the trash.
    pub fn remove(&self, id: &SessionId) {
        let mut state = self.state();
        state.clock += 1;
        let clock = state.clock;
        state.files.remove(id);
        state.removed.insert(id.clone(), clock);
    }

    /// Compares the folders with what is known, at most once in [`CHECK_INTERVAL`], and reads what differs.
    pub fn refresh(&self) -> Result<(), StoreError> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.is_some_and(|checked| checked.elapsed() < CHECK_INTERVAL) {
            return Ok(());
        }
        let clock = self.state().clock;
        let found = self.scan()?;
        let stale: Vec<&Found> = {
            let state = self.state();
            let is_known = |file: &Found| {
                let rows = state.files.get(&file.id).map(Vec::as_slice).unwrap_or_default();
                rows.iter().any(|row| row.day == file.day && row.stamp == file.stamp)
            };
            found.iter().filter(|file| !is_known(file)).collect()
        };
        let read = self.read_all(&stale);
        let present: HashSet<(&SessionId, Day)> = found.iter().map(|file| (&file.id, file.day)).collect();

        let mut state = self.state();
        let State { files, removed, .. } = &mut *state;
        files.retain(|id, rows| {
            rows.retain(|row| row.told > clock || present.contains(&(id, row.day)));
            !rows.is_empty()
        });
        for (file, row) in read {
            // What the store did meanwhile is newer than what was found.
            let rows = files.get(&file.id).map(Vec::as_slice).unwrap_or_default();
            if removed.get(&file.id).is_some_and(|at| *at > clock) || rows.iter().any(|row| row.told > clock) {
                continue;
            }
            let rows = files.entry(file.id.clone()).or_default();
            rows.retain(|row| row.day != file.day);
            rows.push(row);
            if rows.len() > 1 {
                tracing::warn!(session_id = %file.id, "a session is there twice; the higher revision is shown");
            }
        }
        removed.retain(|_, at| *at > clock);
        *checked = Some(Instant::now());
        Ok(())
    }

    /// All sessions of a kind in an order.
    pub fn entries(&self, kind: Option<Kind>, sort: Sort) -> Vec<Entry> {
        let mut entries: Vec<Entry> = self
            .state()
            .files
            .values()
            .filter_map(|rows| winner(rows))
            .filter(|entry| kind.is_none_or(|kind| entry.summary.kind == kind))
            .cloned()
            .collect();
        entries.sort_by(|a, b| Place::of(a, sort).cmp(&Place::of(b, sort)));
        entries
    }

    /// The asked part of `entries`, which are all that the request finds in its order, and the counts over all sessions.
    pub fn page(&self, request: &ListRequest, entries: &[Entry]) -> Result<(Listing, Vec<Entry>), StoreError> {
        let mut listing = Listing { filtered_sessions: entries.len() as u64, ..Listing::default() };
        let zone =
            request.utc_offset_minutes.checked_mul(60).and_then(FixedOffset::east_opt).unwrap_or_else(|| Utc.fix());
        let today = request.now.with_timezone(&zone).date_naive();
        let monday = today
            .checked_sub_signed(TimeDelta::days(i64::from(today.weekday().num_days_from_monday())))
            .unwrap_or(NaiveDate::MIN);
        for entry in self.state().files.values().filter_map(|rows| winner(rows)) {
            listing.total_sessions += 1;
            listing.total_messages += entry.summary.stats.total_messages;
            let Some(started) = entry.started else { continue };
            let day = started.with_timezone(&zone).date_naive();
            listing.sessions_today += u64::from(day == today);
            listing.sessions_this_week += u64::from(monday <= day && day <= today);
        }
        let after = match &request.cursor {
            None => 0,
            Some(cursor) => {
                let place = Place::parse(cursor, request.sort)
                    .ok_or_else(|| StoreError::Invalid("cursor is none that a list in this order gave".to_owned()))?;
                entries.partition_point(|entry| Place::of(entry, request.sort) <= place)
            }
        };
        let start = after.saturating_add(request.offset).min(entries.len());
        let end = start.saturating_add(request.limit).min(entries.len());
        let page = entries[start..end].to_vec();
        if end < entries.len() {
            listing.next_cursor = page.last().map(|last| Place::of(last, request.sort).cursor(request.sort));
        }
        Ok((listing, page))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code below panics while it holds the state, and a cache that is wrong mends itself at the next comparison.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All session files and their stamps, without reading them.
    fn scan(&self) -> Result<Vec<Found>, StoreError> {
        let mut found = Vec::new();
        for day in days(&self.layout, Area::Sessions)? {
            let folder = self.layout.day(Area::Sessions, day);
            let files = match std::fs::read_dir(&folder) {
                Ok(files) => files,
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "a folder of sessions cannot be read");
                    continue;
                }
            };
            for file in files.flatten() {
                let Some(id) = file.file_name().to_str().and_then(layout::session_of_file) else { continue };
                // This does not follow links.
                let Ok(metadata) = file.metadata() else { continue };
                if metadata.is_file() {
                    let path = self.layout.session(Area::Sessions, day, &id);
                    found.push(Found { id, day, path, stamp: Stamp::of(&metadata) });
                }
            }
        }
        Ok(found)
    }

    fn read_all<'a>(&self, files: &[&'a Found]) -> Vec<(&'a Found, FileRow)> {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut rows = Vec::new();
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                rows.push((*file, self.read(file)));
            }
            rows
        };
        if files.len() <= ALONE {
            return work();
        }
        std::thread::scope(|scope| {
            let helper = scope.spawn(work);
            let mut rows = work();
            rows.extend(helper.join().unwrap_or_default());
            rows
        })
    }

    fn read(&self, file: &Found) -> FileRow {
        match Document::open(&self.disk, &file.path, &file.id) {
            Ok(document) => row_of(&file.id, file.day, &document, 0),
            Err(error) => {
                tracing::warn!(%error, "a session file cannot be read and is left out of the list");
                FileRow { stamp: file.stamp, revision: 0, entry: None, day: file.day, told: 0 }
            }
        }
    }
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

/// Where a session stands in an order: the smaller, the earlier in the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    key: i64,
    id: SessionId,
}

impl Place {
    fn of(entry: &Entry, sort: Sort) -> Self {
        let key = match sort {
            Sort::Newest => entry.updated.saturating_neg(),
            Sort::Oldest => entry.started.map_or(i64::MAX, |started| started.timestamp_micros()),
        };
        Self { key, id: entry.id.clone() }
    }

    fn cursor(&self, sort: Sort) -> String {
        format!("{}{}.{}", letter(sort), self.key, self.id)
    }

    fn parse(cursor: &str, sort: Sort) -> Option<Self> {
        let (key, id) = cursor.strip_prefix(letter(sort))?.split_once('.')?;
        Some(Self { key: key.parse().ok()?, id: id.parse().ok()? })
    }
}

fn letter(sort: Sort) -> char {
    match sort {
        Sort::Newest => 'n',
        Sort::Oldest => 'o',
    }
}

fn row_of(id: &SessionId, day: Day, document: &Document, told: u64) -> FileRow {
    let summary = document.summary();
    let entry = Entry {
        id: id.clone(),
        day,
        updated: time::parse(&summary.last_updated).map_or(i64::MIN, |time| time.timestamp_micros()),
        started: time::parse(&summary.started_at),
        summary: Arc::new(summary.clone()),
    };
    FileRow { stamp: document.stamp(), revision: document.session().revision, entry: Some(entry), day, told }
}

/// Of the files of one id the one that is shown.
fn winner(rows: &[FileRow]) -> Option<&Entry> {
    rows.iter()
        .filter(|row| row.entry.is_some())
        .max_by_key(|row| (row.revision, row.day))
        .and_then(|row| row.entry.as_ref())
}
