//! Checks every file of a data directory and its index, repairs what can be repaired, and says what is left.
//!
//! Nothing is cut away without a copy: what a repair writes anew was copied beside the file before.

use super::disk::{Disk, RealDisk};
use super::document::Document;
use super::index::{self, Index};
use super::layout::{self, Area, Day, Layout};
use super::lock::DirectoryLock;
use super::{IndexState, ReplyHead, StoreError, StoreOptions};
use crate::model::session::SessionId;
use std::collections::HashMap;
use std::fs::FileType;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often is looked whether the index agrees with the files.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, below the data directory.
    pub file: PathBuf,
    /// What is the matter, for people.
    pub what: String,
    /// What became of it.
    pub state: FindingState,
}

/// What became of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingState {
    /// It is in order, and mentioned because somebody may want to know.
    Noted,
    /// It was repaired; without the permission to write it could be.
    Repaired,
    /// A person has to see to it.
    Remains,
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Session files, kept and in the trash.
    pub sessions: u64,
    /// Messages in those that can be read.
    pub messages: u64,
}

/// A data directory that nobody else uses meanwhile.
pub struct Doctor<'a> {
    layout: Layout,
    disk: RealDisk,
    may_write: bool,
    report: &'a mut dyn FnMut(Finding),
    _lock: DirectoryLock,
}

impl<'a> Doctor<'a> {
    /// Takes a data directory, which must exist. With `may_write` what can be repaired is repaired. [`StoreError::Unwritable`], with
    /// a sentence for the person, if a server is using it.
    pub fn new(
        data_dir: &Path,
        options: StoreOptions,
        may_write: bool,
        report: &'a mut dyn FnMut(Finding),
    ) -> Result<Self, StoreError> {
        let layout = Layout::new(data_dir);
        if !layout.area(Area::Sessions).is_dir() {
            return Err(StoreError::Unreadable(format!(
                "{} is no data directory: it has no folder `sessions`.",
                data_dir.display()
            )));
        }
        let lock = DirectoryLock::take(&layout)?;
        Ok(Self {
            layout,
            disk: RealDisk::with_largest_file(data_dir, options.largest_file),
            may_write,
            report,
            _lock: lock,
        })
    }

    /// Checks all files and then the index.
    pub fn run(mut self) -> Result<Checked, StoreError> {
        let mut checked = Checked::default();
        let mut places: HashMap<SessionId, Vec<(Area, Day, u64)>> = HashMap::new();
        if let Some(complaint) = self.layout.complaint_of_permissions() {
            // Nothing is wrong with what is kept, so that this is a warning and changes no verdict.
            tracing::warn!("{complaint}");
        }
        for area in [Area::Sessions, Area::Trash] {
            self.check_names(&self.layout.area(area), "is none of a day, so that nothing in it is read", |path| {
                name_of(path).and_then(Day::parse).is_some() && is_kind(path, |kind| kind.is_dir())
            });
            for day in index::days(&self.layout, area)
                .or_else(|error| if area == Area::Trash { Ok(Vec::new()) } else { Err(error) })?
            {
                self.check_day(area, day, &mut checked, &mut places);
            }
        }
        self.check_places(&places);
        self.check_replies();
        self.check_index()?;
        Ok(checked)
    }

    fn find(&mut self, path: &Path, what: impl Into<String>, state: FindingState) {
        let file = path.strip_prefix(self.layout.root()).unwrap_or(path).to_owned();
        (self.report)(Finding { file, what: what.into(), state });
    }

    /// Names what lies in a folder where only files and folders of ours belong. The probe of a start that was killed is one.
    fn check_names(&mut self, folder: &Path, what: &str, is_ours: impl Fn(&Path) -> bool) {
        let mut paths: Vec<PathBuf> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let is_probe = name_of(&path) == Some("writable.new") && is_kind(&path, |kind| kind.is_file());
            if !is_ours(&path) && !is_probe {
                self.find(&path, format!("its name {what}"), FindingState::Remains);
            }
        }
    }

    fn check_day(
        &mut self,
        area: Area,
        day: Day,
        checked: &mut Checked,
        places: &mut HashMap<SessionId, Vec<(Area, Day, u64)>>,
    ) {
        let folder = self.layout.day(area, day);
        let names = match std::fs::read_dir(&folder) {
            Ok(names) => names,
            Err(error) => {
                return self.find(&folder, format!("the folder cannot be read: {error}"), FindingState::Remains);
            }
        };
        let mut names: Vec<PathBuf> = names.flatten().map(|entry| entry.path()).collect();
        names.sort();
        for path in names {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
            if !is_file {
                self.find(&path, "it is no plain file, and links are not followed", FindingState::Remains);
            } else if let Some(id) = layout::session_of_file(name) {
                checked.sessions += 1;
                if let Some((revision, messages)) = self.check_session(&path, &id) {
                    checked.messages += messages;
                    places.entry(id).or_default().push((area, day, revision));
                }
            } else if name.ends_with(".new") && layout::session_of_any_file(name).is_some() {
                let removed = !self.may_write || self.disk.remove(&path).is_ok();
                let state = if removed { FindingState::Repaired } else { FindingState::Remains };
                self.find(
                    &path,
                    "an unfinished write of a server that was killed; the file that it was to replace is whole",
                    state,
                );
            } else if layout::session_of_any_file(name).is_some() {
                self.find(&path, "a copy that was kept of a damaged or replaced file", FindingState::Noted);
            } else {
                self.find(
                    &path,
                    "its name is none of a session, so that it is not read; what another program left there may hold words that \
                     are nowhere else",
                    FindingState::Remains,
                );
            }
        }
    }

    /// Checks one session file; returns its revision and how many messages it has.
    fn check_session(&mut self, path: &Path, id: &SessionId) -> Option<(u64, u64)> {
        let mut document = match Document::open(&self.disk, path, id) {
            Ok(document) => document,
            Err(error) => {
                let why = match error {
                    StoreError::Unreadable(why) => why,
                    other => other.to_string(),
                };
                self.find(path, format!("it cannot be read ({why}); it is left as it is"), FindingState::Remains);
                return None;
            }
        };
        let facts = (document.revision(), document.messages_from(0).count() as u64);
        if document.is_of_later_version() {
            self.find(path, "a newer Verbatim wrote it; it can only be read", FindingState::Remains);
            return Some(facts);
        }
        let is_torn = !self.is_json(path);
        let what = match (document.complaint(), is_torn) {
            (Some(complaint), _) => {
                format!("{complaint}; what can be read of it is written anew, beside a copy of the file")
            }
            (None, true) => {
                "its end is torn by a crash; what was acknowledged is there, and it is written anew".to_owned()
            }
            (None, false) => return Some(facts),
        };
        let state = match self.may_write.then(|| document.rewrite_as_it_is(&self.disk)) {
            None | Some(Ok(())) => FindingState::Repaired,
            Some(Err(error)) => {
                self.find(path, format!("it cannot be written: {error}"), FindingState::Remains);
                FindingState::Remains
            }
        };
        self.find(path, what, state);
        Some(facts)
    }

    fn is_json(&self, path: &Path) -> bool {
        let read = self.disk.read(path);
        read.is_ok_and(|(bytes, _)| serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok())
    }

    fn check_places(&mut self, places: &HashMap<SessionId, Vec<(Area, Day, u64)>>) {
        let mut twice: Vec<_> = places.iter().filter(|(_, places)| places.len() > 1).collect();
        twice.sort_by_key(|(id, _)| *id);
        for (id, places) in twice {
            let winner = places.iter().max_by_key(|(area, day, revision)| (*area == Area::Sessions, *revision, *day));
            for place in places.iter().filter(|place| Some(*place) != winner) {
                let path = self.layout.session(place.0, place.1, id);
                let shown = winner.map(|(area, day, _)| self.layout.session(*area, *day, id));
                let shown = shown.map(|path| path.display().to_string()).unwrap_or_default();
                self.find(
                    &path,
                    format!("the same session lies at {shown}, which is the one that is used"),
                    FindingState::Remains,
                );
            }
        }
    }

    fn check_replies(&mut self) {
        let folder = self.layout.replies();
        self.check_names(&folder, "is none of a reply, so that it is not read", |path| {
            name_of(path).and_then(layout::reply_of_file).is_some() && is_kind(path, |kind| kind.is_file())
        });
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_file = is_kind(&entry.path(), |kind| kind.is_file());
            if is_file && name.to_str().and_then(layout::reply_of_file).is_some() {
                if !self.has_head(&entry.path()) {
                    let what = "the journal of a reply without a readable first line, so that it is not known where it belongs";
                    self.find(&entry.path(), what, FindingState::Remains);
                    continue;
                }
                self.find(
                    &entry.path(),
                    "a reply that was being generated; the next start folds it into its session, unless that is in the trash",
                    FindingState::Noted,
                );
            }
        }
    }

    fn has_head(&self, path: &Path) -> bool {
        let Ok((bytes, _)) = self.disk.without_option().read(path) else { return false };
        let head = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        serde_json::from_slice::<ReplyHead>(head).is_ok()
    }

    fn check_index(&mut self) -> Result<(), StoreError> {
        let path = self.layout.index();
        if !self.may_write && !path.exists() {
            self.find(&path, "there is no index; the next start builds it", FindingState::Noted);
            return Ok(());
        }
        let mut complaints = Index::damage(&self.layout);
        if self.may_write && complaints.is_empty() {
            // Opening it compares it with the files, which writes.
            let index = Index::open(&self.layout, &self.disk)?;
            wait(&index, &mut |_, _| ())?;
            complaints = index.check()?;
        }
        if complaints.is_empty() {
            return Ok(());
        }
        for complaint in &complaints {
            self.find(&path, format!("{complaint}; the index is built anew"), FindingState::Repaired);
        }
        if !self.may_write {
            return Ok(());
        }
        let index = rebuild(&self.layout, &self.disk, &mut |_, _| ())?;
        for complaint in index.check()? {
            self.find(&path, complaint, FindingState::Remains);
        }
        Ok(())
    }
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}

fn is_kind(path: &Path, is_kind: impl Fn(FileType) -> bool) -> bool {
    path.symlink_metadata().is_ok_and(|found| is_kind(found.file_type()))
}

/// Builds the index of a data directory anew; `progress` is told how many files are done of how many. Returns how many sessions are
/// in it.
pub fn reindex(data_dir: &Path, options: StoreOptions, progress: &mut dyn FnMut(u64, u64)) -> Result<u64, StoreError> {
    let layout = Layout::new(data_dir);
    if !layout.area(Area::Sessions).is_dir() {
        return Err(StoreError::Unreadable(format!(
            "{} is no data directory: it has no folder `sessions`.",
            data_dir.display()
        )));
    }
    let _lock = DirectoryLock::take(&layout)?;
    let index = rebuild(&layout, &RealDisk::with_largest_file(data_dir, options.largest_file), progress)?;
    Ok(index.len())
}

fn rebuild(layout: &Layout, disk: &RealDisk, progress: &mut dyn FnMut(u64, u64)) -> Result<Index, StoreError> {
    index::remove(layout);
    let index = Index::open(layout, disk)?;
    wait(&index, progress)?;
    Ok(index)
}

/// Waits until the comparison of everything that opening begins is done.
fn wait(index: &Index, progress: &mut dyn FnMut(u64, u64)) -> Result<(), StoreError> {
    while !index.wait_until_agreed(LOOK_INTERVAL) {
        if let Some(why) = index.failure() {
            return Err(StoreError::Unwritable(format!(
                "The index cannot be written ({why}). Look at free space and permissions, and try again."
            )));
        }
        if let IndexState::Checking { done, total } | IndexState::Rebuilding { done, total } = index.state() {
            progress(done, total);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_is_larger_than_a_session_may_be_has_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        std::fs::create_dir(layout.area(Area::Sessions)).unwrap();
        std::fs::create_dir(layout.replies()).unwrap();
        let message = r#"{"id":"m","parent_id":null,"role":"assistant","content":"","timestamp":""}"#;
        let head = format!(r#"{{"reply_id":"r","session_id":"s","message":{message}}}"#);
        std::fs::write(layout.reply("r").unwrap(), format!("{head}\n{}", "x".repeat(2 * 1024 * 1024))).unwrap();
        let mut found = Vec::new();
        let mut report = |finding: Finding| found.push((finding.file, finding.state));
        let options = StoreOptions { largest_file: 1024 * 1024 };
        Doctor::new(folder.path(), options, false, &mut report).unwrap().run().unwrap();
        assert_eq!(found[0], (PathBuf::from("replies/r.ndjson"), FindingState::Noted), "{found:?}");
    }
}
