//! One session file in hand (contracts 2): read, append in place, replace, recover.
//!
//! Reading never writes. Nothing that was acknowledged is ever only in memory, and nothing is cut away without a copy.

mod format;
#[cfg(test)]
mod tests;

use super::disk::{Disk, DiskFile, Stamp};
use super::merge::{self, Indexed, Plan};
use super::{StoreError, layout};
use crate::model::message::Message;
use crate::model::session::{Session, SessionId, Summary};
use crate::model::time;
use chrono::{DateTime, Utc};
use format::State;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often a change is tried again because another program wrote to the file meanwhile.
const ATTEMPTS: usize = 8;

/// A session file, what it holds, and what is known of its state.
#[derive(Debug)]
pub struct Document {
    path: PathBuf,
    session: Arc<Session>,
    positions: HashMap<String, usize>,
    summary: Summary,
    stamp: Stamp,
    form: Form,
    /// Whether all of the file is known to survive a power loss. A server that was killed may have left it written but not synced.
    settled: bool,
    /// Whether `session` holds something acknowledged that another program dropped from the file.
    ahead: bool,
}

/// How the file may be written to.
#[derive(Clone, Debug)]
enum Form {
    /// In our layout; the tail stands at this offset.
    Own { tail_start: u64, tail: Vec<u8> },
    /// In our layout, but a failed write stands where this tail belongs.
    Torn { tail_start: u64, tail: Vec<u8> },
    /// Written anew at the next change; copied first if it is damaged.
    Foreign { damage: Option<String> },
    /// Only read.
    Newer(String),
}

/// Why a plan was not carried out.
enum NotWritten {
    /// Another program wrote to the file meanwhile.
    Changed,
    /// It cannot be.
    Failed(StoreError),
}

impl From<StoreError> for NotWritten {
    fn from(error: StoreError) -> Self {
        NotWritten::Failed(error)
    }
}

impl Document {
    /// Writes a new session. Its folder must be there and synced. [`StoreError::Exists`] if the file is there already.
    pub fn create(disk: &dyn Disk, path: &Path, session: Session) -> Result<Self, StoreError> {
        match disk.stamp(path) {
            Ok(_) => return Err(StoreError::Exists),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(path, &error)),
        }
        let (bytes, tail_start) = whole(&session).map_err(|error| unwritable(path, &error))?;
        let stamp = put_aside(disk, path, &bytes)?;
        let named = disk.rename(&layout::temporary(path), path).and_then(|()| sync_parent(disk, path));
        if let Err(error) = named {
            // Not acknowledged, so that it must not stay: a second try with the same id would find it taken.
            let _ = disk.remove(path);
            let _ = disk.remove(&layout::temporary(path));
            return Err(unwritable(path, &error));
        }
        let form = Form::Own { tail_start: tail_start as u64, tail: bytes[tail_start..].to_vec() };
        Ok(Self::new(path, session, stamp, form, true))
    }

    /// Reads a session file.
    pub fn open(disk: &dyn Disk, path: &Path, id: &SessionId) -> Result<Self, StoreError> {
        Ok(Self::read(disk, path, id)?.0)
    }

    /// Reads a session file and says whether its messages had ids.
    fn read(disk: &dyn Disk, path: &Path, id: &SessionId) -> Result<(Self, bool), StoreError> {
        let (bytes, stamp) = disk.read(path).map_err(|error| unreadable(path, &error))?;
        let reading = format::read(&bytes, id, stamp.modified_at())
            .map_err(|why| StoreError::Unreadable(format!("{}: {why}", path.display())))?;
        if let Some(inner) = &reading.other_id {
            tracing::warn!(path = %path.display(), %inner, "a session file holds another id than its name; the name counts");
        }
        let form = match reading.state {
            State::Own { tail_start } => {
                Form::Own { tail_start: tail_start as u64, tail: bytes[tail_start..].to_vec() }
            }
            State::Foreign { damage } => Form::Foreign { damage },
            State::Newer(why) => Form::Newer(why),
        };
        Ok((Self::new(path, reading.session, stamp, form, false), reading.has_ids))
    }

    fn new(path: &Path, session: Session, stamp: Stamp, form: Form, settled: bool) -> Self {
        Self {
            path: path.to_owned(),
            positions: merge::positions(&session),
            summary: session.summary(),
            session: Arc::new(session),
            stamp,
            form,
            settled,
            ahead: false,
        }
    }

    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Its row in the list.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The file's state as last seen.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// What about the file is out of order, for the log.
    pub fn complaint(&self) -> Option<&str> {
        match &self.form {
            Form::Foreign { damage } => damage.as_deref(),
            Form::Newer(why) => Some(why),
            Form::Torn { .. } => Some("a failed write could not be undone"),
            Form::Own { .. } => None,
        }
    }

    /// Whether it can be forgotten and read again without loss.
    pub fn can_be_forgotten(&self) -> bool {
        !self.ahead && !matches!(self.form, Form::Torn { .. })
    }

    /// Looks whether another program wrote to the file, and if so reads it anew and joins it with what was known.
    /// [`StoreError::NotFound`] if it is gone.
    pub fn refresh(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        let stamp = disk.stamp(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        // A write of ours that failed changes the stamp too; what was acknowledged is in memory.
        let ours = stamp == self.stamp || (matches!(self.form, Form::Torn { .. }) && stamp.inode == self.stamp.inode);
        if ours {
            return Ok(());
        }
        let (mut read, has_ids) = Self::read(disk, &self.path, &self.session.session_id)?;
        if !matches!(read.form, Form::Newer(_)) {
            let theirs = Arc::unwrap_or_clone(read.session);
            let unchanged = theirs.clone();
            let (united, more) = merge::unite(&self.session, theirs, has_ids);
            if united != unchanged && !matches!(read.form, Form::Foreign { .. }) {
                read.form = Form::Foreign { damage: None };
            }
            let Document { stamp, form, .. } = read;
            read = Self::new(&self.path, united, stamp, form, false);
            read.ahead = more || self.ahead;
        }
        *self = read;
        Ok(())
    }

    /// Changes the session by a plan and returns when all of it is safe on the disk. The plan is made anew when another program
    /// wrote meanwhile.
    pub fn change(
        &mut self,
        disk: &dyn Disk,
        now: DateTime<Utc>,
        mut make_plan: impl FnMut(Indexed<'_>) -> Result<Plan, StoreError>,
    ) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            self.refresh(disk)?;
            let plan = make_plan(Indexed { session: &self.session, positions: &self.positions })?;
            match self.carry_out(disk, plan, now) {
                Ok(()) => return Ok(()),
                Err(NotWritten::Changed) => {}
                Err(NotWritten::Failed(error)) => return Err(error),
            }
        }
        Err(StoreError::Unwritable(format!("{}: another program keeps writing to it", self.path.display())))
    }

    fn carry_out(&mut self, disk: &dyn Disk, mut plan: Plan, now: DateTime<Utc>) -> Result<(), NotWritten> {
        if let Form::Newer(why) = &self.form {
            return Err(StoreError::ReadOnly(format!("{}: {why}", self.path.display())).into());
        }
        self.undo_failed_write(disk)?;
        if plan.is_empty() && !self.ahead {
            return self.settle(disk);
        }
        let revision = self.session.revision.saturating_add(1);
        let last_updated = time::after(&self.session.last_updated, now);
        plan.append.iter_mut().for_each(|message| message.rev = revision);
        if let (Form::Own { .. }, true, false) = (&self.form, plan.only_appends(), self.ahead) {
            return self.append(disk, plan.append, revision, last_updated);
        }
        let mut session = Session::clone(&self.session);
        for position in plan.message_metadata.keys() {
            if let Some(message) = session.messages.get_mut(*position) {
                message.rev = revision;
            }
        }
        plan.apply(&mut session);
        session.revision = revision;
        session.last_updated = last_updated;
        self.replace(disk, session)
    }

    /// Makes sure that what is acknowledged without a write is safe: whoever wrote it may have been killed before syncing.
    fn settle(&mut self, disk: &dyn Disk) -> Result<(), NotWritten> {
        if self.settled {
            return Ok(());
        }
        let synced = disk.open(&self.path).and_then(|mut file| file.sync());
        synced.and_then(|()| sync_names(disk, &self.path)).map_err(|error| unwritable(&self.path, &error))?;
        self.settled = true;
        Ok(())
    }

    /// Overwrites the tail by new messages and a new tail. What stands before is not touched.
    fn append(
        &mut self,
        disk: &dyn Disk,
        messages: Vec<Message>,
        revision: u64,
        last_updated: String,
    ) -> Result<(), NotWritten> {
        let Form::Own { tail_start, tail } = &self.form else { return Err(NotWritten::Changed) };
        let (tail_start, old_tail) = (*tail_start, tail.clone());
        let mut summary = self.summary.clone();
        let extends_shown = self.extends_shown_path(&messages);
        if extends_shown {
            extend_summary(&mut summary, &messages);
        } else {
            // A branch: what is shown changes as a whole.
            let mut session = Session::clone(&self.session);
            session.messages.extend(messages.iter().cloned());
            summary = session.summary();
        }
        summary.last_updated.clone_from(&last_updated);
        let written = format::lines(&messages, self.session.messages.is_empty());
        let (lines, tail) = written
            .and_then(|lines| Ok((lines, format::tail(&last_updated, revision, &summary.stats)?)))
            .map_err(|error| unwritable(&self.path, &error.into()))?;

        let mut file = disk.open(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        if file.stamp().map_err(|error| unreadable(&self.path, &error))? != self.stamp {
            return Err(NotWritten::Changed);
        }
        if !self.settled {
            // The name must be safe too, or a power loss brings back an older file, without what is appended now.
            sync_names(disk, &self.path).map_err(|error| unwritable(&self.path, &error))?;
        }
        let new_tail_start = tail_start + lines.len() as u64;
        let bytes = [lines.as_bytes(), tail.as_bytes()].concat();
        let end = tail_start + bytes.len() as u64;
        let old_size = self.stamp.size;
        let written = file
            .write_at(tail_start, &bytes)
            .and_then(|()| if end < old_size { file.set_len(end) } else { Ok(()) })
            .and_then(|()| file.sync())
            .and_then(|()| file.stamp());
        match written {
            Ok(stamp) => {
                self.stamp = stamp;
                self.settled = true;
                self.form = Form::Own { tail_start: new_tail_start, tail: tail.into_bytes() };
                self.summary = summary;
                let session = Arc::make_mut(&mut self.session);
                for message in messages {
                    self.positions.insert(message.id.clone(), session.messages.len());
                    session.messages.push(message);
                }
                session.revision = revision;
                session.last_updated = last_updated;
                Ok(())
            }
            Err(error) => {
                self.form = Form::Torn { tail_start, tail: old_tail };
                let why = unwritable(&self.path, &error);
                if let Err(worse) = self.put_tail_back(&mut *file) {
                    tracing::error!(path = %self.path.display(), %worse, "a failed write could not be undone");
                }
                Err(why.into())
            }
        }
    }

    /// Whether messages only lengthen the conversation that is shown.
    fn extends_shown_path(&self, messages: &[Message]) -> bool {
        if self.session.active_leaf().is_some() {
            return false;
        }
        let mut leaf = self.session.messages.last().map(|message| message.id.as_str());
        messages.iter().all(|message| leaf.replace(&message.id) == message.parent_id.as_deref())
    }

    /// Repairs what a failed write left, now that the disk may be writable again.
    fn undo_failed_write(&mut self, disk: &dyn Disk) -> Result<(), NotWritten> {
        if !matches!(self.form, Form::Torn { .. }) {
            return Ok(());
        }
        let mut file = disk.open(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        self.put_tail_back(&mut *file).map_err(|error| {
            let path = self.path.display();
            StoreError::Unwritable(format!("{path}: a failed write cannot be undone yet: {error}")).into()
        })
    }

    fn put_tail_back(&mut self, file: &mut dyn DiskFile) -> io::Result<()> {
        let Form::Torn { tail_start, tail } = &self.form else { return Ok(()) };
        // First the bytes, which stand where bytes stood before, so that a full disk cannot refuse them.
        file.write_at(*tail_start, tail)?;
        file.set_len(tail_start + tail.len() as u64)?;
        file.sync()?;
        self.stamp = file.stamp()?;
        self.form = Form::Own { tail_start: *tail_start, tail: tail.clone() };
        Ok(())
    }

    /// Writes the whole session beside the file and renames it over it.
    fn replace(&mut self, disk: &dyn Disk, session: Session) -> Result<(), NotWritten> {
        let path = self.path.clone();
        let (bytes, tail_start) = whole(&session).map_err(|error| unwritable(&path, &error))?;
        if let Form::Foreign { damage: Some(damage) } = &self.form {
            tracing::warn!(path = %path.display(), %damage, "a damaged session file is copied before it is written anew");
            copy_damaged(disk, &path, self.stamp)?;
            self.form = Form::Foreign { damage: None };
        }
        let stamp = put_aside(disk, &path, &bytes)?;
        let temporary = layout::temporary(&path);
        if disk.stamp(&path).map_err(|error| unreadable(&path, &error))? != self.stamp {
            let _ = disk.remove(&temporary);
            return Err(NotWritten::Changed);
        }
        if let Err(error) = disk.rename(&temporary, &path) {
            let _ = disk.remove(&temporary);
            return Err(unwritable(&path, &error).into());
        }
        // From here on the new file is what everybody sees, but it is safe only when its name is.
        let form = Form::Own { tail_start: tail_start as u64, tail: bytes[tail_start..].to_vec() };
        *self = Self::new(&path, session, stamp, form, false);
        sync_names(disk, &path).map_err(|error| unwritable(&path, &error))?;
        self.settled = true;
        Ok(())
    }
}

/// The bytes of a session, and where its tail begins.
fn whole(session: &Session) -> io::Result<(Vec<u8>, usize)> {
    let mut text = format::head(session)?;
    text.push_str(&format::lines(&session.messages, true)?);
    let tail_start = text.len();
    text.push_str(&format::tail(&session.last_updated, session.revision, &session.stats())?);
    Ok((text.into_bytes(), tail_start))
}

/// Writes the temporary file of `path` and syncs it. It is removed when that fails.
fn put_aside(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<Stamp, StoreError> {
    let temporary = layout::temporary(path);
    // One may be left from a server that was killed.
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(path, &error)),
        _ => {}
    }
    write_new(disk, &temporary, bytes).map_err(|error| unwritable(path, &error))
}

fn write_new(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<Stamp> {
    let mut file = disk.create(path)?;
    let written = file.write_at(0, bytes).and_then(|()| file.sync()).and_then(|()| file.stamp());
    if written.is_err() {
        let _ = disk.remove(path);
    }
    written
}

/// Copies a damaged file under the next free name and returns when the copy is safe.
fn copy_damaged(disk: &dyn Disk, path: &Path, seen: Stamp) -> Result<(), NotWritten> {
    let (bytes, stamp) = disk.read(path).map_err(|error| unreadable(path, &error))?;
    if stamp != seen {
        return Err(NotWritten::Changed);
    }
    for n in 1..=u32::MAX {
        match write_new(disk, &layout::damaged_copy(path, n), &bytes) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unwritable(path, &error).into()),
        }
    }
    sync_parent(disk, path).map_err(|error| unwritable(path, &error).into())
}

/// Adds to a summary what messages bring that follow its last one.
fn extend_summary(summary: &mut Summary, messages: &[Message]) {
    let added = Session {
        session_id: summary.session_id.clone(),
        user_name: String::new(),
        started_at: String::new(),
        last_updated: String::new(),
        metadata: crate::model::Object::new(),
        messages: messages.to_vec(),
        revision: 0,
        extra: crate::model::Object::new(),
    }
    .summary();
    let stats = &mut summary.stats;
    stats.total_messages += added.stats.total_messages;
    stats.user_messages += added.stats.user_messages;
    stats.assistant_messages += added.stats.assistant_messages;
    stats.errors += added.stats.errors;
    if stats.user_messages == added.stats.user_messages {
        summary.preview = added.preview;
    }
    for tool in added.tools {
        if !summary.tools.contains(&tool) {
            summary.tools.push(tool);
        }
    }
}

fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| disk.sync_folder(folder))
}

/// Syncs the name of a file in its folder, and the name of that.
fn sync_names(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    path.ancestors().skip(1).take(2).try_for_each(|folder| disk.sync_folder(folder))
}

fn unreadable(path: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::NotFound => StoreError::NotFound,
        _ => StoreError::Unreadable(format!("{}: {error}", path.display())),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unwritable(format!("{}: {error}", path.display()))
}
