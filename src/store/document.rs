//! One session file in hand: read, append in place, replace, recover.
//!
//! Reading never writes. Nothing that was acknowledged is ever only in memory, and nothing is cut away without a copy.

mod format;
#[cfg(test)]
mod tests;
mod trails;

use super::branches::{Branches, Choice, Outline};
use super::disk::{Disk, DiskFile, Stamp};
use super::merge::{self, Indexed, Plan};
use super::{PartRequest, Saved, SessionPart, StoreError, layout};
use crate::export::document::{DocumentPart, ExportedMessage, SessionDocument};
use crate::model::message::Message;
use crate::model::session::{Session, SessionId, Summary};
use crate::model::time;
use chrono::{DateTime, Utc};
use format::State;
pub use format::{message_of_line, session_of_head};
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use trails::Trails;

/// How often a change is tried again because another program wrote to the file meanwhile.
const ATTEMPTS: usize = 8;

/// A session file, what it holds, and what is known of its state.
#[derive(Debug)]
pub struct Document {
    path: PathBuf,
    /// The session, or what it was while somebody still holds that: a save never copies the messages that are there.
    base: Arc<Session>,
    /// The messages that follow those of `base`. Without any, `base` is the session as it is.
    added: Vec<Message>,
    /// `base` and `added` in one, once somebody asked for it. Empty while a round of saves is carried out.
    joined: OnceLock<Arc<Session>>,
    revision: u64,
    last_updated: String,
    positions: HashMap<String, usize>,
    branches: Branches,
    trails: Trails,
    summary: Summary,
    stamp: Stamp,
    form: Form,
    /// Whether all of the file is known to survive a power loss. A server that was killed may have left it written but not synced.
    settled: bool,
    /// Whether memory holds something acknowledged that another program dropped from the file.
    ahead: bool,
    /// What was written since that was last asked.
    written: Written,
}

/// Why a session file could not be opened.
#[derive(Debug)]
pub struct OpenFailure {
    /// What is the matter.
    pub error: StoreError,
    /// The state in which the file was read that holds no session. `None` if it could not be read, which may pass though the file
    /// does not change.
    pub read: Option<Stamp>,
}

/// What was written to a file, for the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Written {
    /// Nothing.
    #[default]
    Nothing,
    /// Messages, fields around them, or both. What the messages that were there say is as it was.
    Messages {
        /// The file's state before; `None` for a new file.
        before: Option<Stamp>,
        /// How many messages there were.
        from: usize,
        /// Whether all lines were written anew, so that each may stand somewhere else.
        is_whole: bool,
    },
    /// Another program wrote, too.
    Unknown,
}

/// Where the line of a message stands in a file, as offset and length in bytes, and what is kept of the message beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The first byte.
    pub offset: u64,
    /// Without the line end and the comma before it.
    pub length: u32,
    /// See [`Outline`].
    pub outline: Outline,
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

/// A save that waits to be carried out.
pub struct Change {
    /// The time.
    pub now: DateTime<Utc>,
    /// See [`super::Save::base_revision`].
    pub base_revision: Option<u64>,
    /// Says what is to be done. It is asked again where the plan could not be carried out on the session that it was made for.
    pub make_plan: MakePlan,
}

/// Makes a plan for a session as it is.
pub type MakePlan = Box<dyn FnMut(Indexed<'_>) -> Result<Plan, StoreError> + Send>;

/// Saves that one write makes safe, and what the document goes back to if that fails.
struct Batch {
    /// The places of the saves in their round, and the answers that they get once all is written.
    waiting: Vec<(usize, Saved)>,
    len: usize,
    revision: u64,
    last_updated: String,
}

/// Why a plan was not carried out.
enum NotWritten {
    /// Another program wrote to the file meanwhile.
    Changed,
    /// What several saves bring is too much together; one by one, some of them may do.
    TooLargeTogether,
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
    pub fn create(disk: &dyn Disk, path: &Path, mut session: Session) -> Result<Self, StoreError> {
        session.limit_depth();
        session.messages.iter_mut().for_each(|message| _ = message.limit_depth());
        match disk.stamp(path) {
            Ok(_) => return Err(StoreError::Exists),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(path, &error)),
        }
        let (bytes, tail_start) = whole(&session).map_err(|error| unwritable(path, &error))?;
        check_size(disk, path, bytes.len() as u64)?;
        let stamp = put_aside(disk, path, &bytes)?;
        let named = disk.rename(&layout::temporary(path), path).and_then(|()| sync_parent(disk, path));
        if let Err(error) = named {
            // Not acknowledged, so that it must not stay: a second try with the same id would find it taken.
            let _ = disk.remove(path);
            let _ = disk.remove(&layout::temporary(path));
            return Err(unwritable(path, &error));
        }
        let form = Form::Own { tail_start: tail_start as u64, tail: bytes[tail_start..].to_vec() };
        let mut document = Self::new(path, session, stamp, form, true);
        document.written = Written::Messages { before: None, from: 0, is_whole: true };
        Ok(document)
    }

    /// Reads a session file.
    pub fn open(disk: &dyn Disk, path: &Path, id: &SessionId) -> Result<Self, StoreError> {
        Ok(Self::open_with_bytes(disk, path, id).map_err(|failure| failure.error)?.0)
    }

    /// Reads a session file and says where the line of each message stands; no lines where the file has another layout.
    pub fn open_with_lines(disk: &dyn Disk, path: &Path, id: &SessionId) -> Result<(Self, Vec<Line>), OpenFailure> {
        let (document, bytes) = Self::open_with_bytes(disk, path, id)?;
        let places = match &document.form {
            Form::Own { tail_start, .. } => format::message_lines(&bytes, *tail_start),
            _ => Vec::new(),
        };
        let lines = places
            .into_iter()
            .zip(document.base.messages.iter().enumerate())
            .map(|((offset, length), (position, message))| Line {
                offset,
                length,
                outline: document.branches.outline(position, &message.id),
            })
            .collect();
        Ok((document, lines))
    }

    fn open_with_bytes(disk: &dyn Disk, path: &Path, id: &SessionId) -> Result<(Self, Vec<u8>), OpenFailure> {
        let unread = |error: io::Error| OpenFailure {
            error: unreadable(path, &error),
            // What does not even begin like a session was read enough of.
            read: (error.kind() == io::ErrorKind::InvalidData).then(|| disk.stamp(path).ok()).flatten(),
        };
        let (bytes, stamp) = disk.read(path).map_err(unread)?;
        match Self::parse(path, id, &bytes, stamp) {
            Ok((document, _)) => Ok((document, bytes)),
            Err(why) => {
                let error = StoreError::Unreadable(format!("{}: {why}", path.display()));
                Err(OpenFailure { error, read: Some(stamp) })
            }
        }
    }

    /// Parses a session file and says whether its messages had ids; the error says why it holds no session.
    fn parse(path: &Path, id: &SessionId, bytes: &[u8], stamp: Stamp) -> Result<(Self, bool), String> {
        let reading = format::read(bytes, id, stamp.modified_at())?;
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

    fn new(path: &Path, mut session: Session, stamp: Stamp, form: Form, settled: bool) -> Self {
        let positions = merge::positions(&session);
        let (mut branches, mut trails) = (Branches::default(), Trails::default());
        for message in &session.messages {
            trails.push(message, branches.push(message, &positions));
        }
        let messages = std::mem::take(&mut session.messages);
        let mut summary = session.summary();
        session.messages = messages;
        let known = Indexed { session: &session, added: &[], positions: &positions, grown: &branches };
        if !trails.describe(known, &mut summary) {
            summary = session.summary();
        }
        Self {
            path: path.to_owned(),
            revision: session.revision,
            last_updated: session.last_updated.clone(),
            base: Arc::new(session),
            added: Vec::new(),
            joined: OnceLock::new(),
            positions,
            branches,
            trails,
            summary,
            stamp,
            form,
            settled,
            ahead: false,
            written: Written::Nothing,
        }
    }

    /// The session. This copies it, once, where somebody holds it as it was before the last save.
    pub fn session(&self) -> &Arc<Session> {
        if self.added.is_empty() { &self.base } else { self.joined.get_or_init(|| Arc::new(self.copy())) }
    }

    /// The session's id.
    pub fn id(&self) -> &SessionId {
        &self.base.session_id
    }

    /// The session's revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    fn known(&self) -> Indexed<'_> {
        Indexed { session: &self.base, added: &self.added, positions: &self.positions, grown: &self.branches }
    }

    fn copy(&self) -> Session {
        let mut session = Session::clone(&self.base);
        session.messages.extend_from_slice(&self.added);
        session.revision = self.revision;
        session.last_updated.clone_from(&self.last_updated);
        session
    }

    /// Puts what was added into the session, unless somebody holds that.
    fn fold(&mut self) {
        if let Some(joined) = self.joined.take() {
            self.base = joined;
            self.added.clear();
        } else if let Some(session) = Arc::get_mut(&mut self.base) {
            session.messages.append(&mut self.added);
            session.revision = self.revision;
            session.last_updated.clone_from(&self.last_updated);
        }
    }

    /// Its row in the list.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The file's state as last seen.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// What was written since this was last asked.
    pub fn take_written(&mut self) -> Written {
        std::mem::take(&mut self.written)
    }

    fn note_written(&mut self, before: Stamp, from: usize, is_whole: bool) {
        self.written = match self.written {
            Written::Nothing => Written::Messages { before: Some(before), from, is_whole },
            Written::Messages { before, from, is_whole: was_whole } => {
                Written::Messages { before, from, is_whole: is_whole || was_whole }
            }
            Written::Unknown => Written::Unknown,
        };
    }

    /// The messages from a position on.
    pub fn messages_from(&self, from: usize) -> impl DoubleEndedIterator<Item = &Message> + ExactSizeIterator {
        let known = self.known();
        (from..known.len()).map(move |position| known.message(position))
    }

    /// Where the lines of the messages from a position on stand, if this program wrote them.
    pub fn lines_from(&self, from: usize) -> Vec<Line> {
        let Form::Own { tail_start, .. } = &self.form else { return Vec::new() };
        let mut end = *tail_start;
        let mut lines = Vec::new();
        for (position, message) in (from..self.known().len()).zip(self.messages_from(from)).rev() {
            let length = format::line_length(message);
            let start = end.saturating_sub(u64::from(length));
            lines.push(Line { offset: start, length, outline: self.branches.outline(position, &message.id) });
            // A comma and a line end stand between two messages.
            end = start.saturating_sub(2);
        }
        lines.reverse();
        lines
    }

    /// A part of the session, which copies nothing else of it; `None` if there is no message before which it is to be.
    pub fn part(&self, wanted: &PartRequest) -> Option<SessionPart> {
        if !self.branches.is_in_order() {
            return SessionPart::of_whole(self.session(), wanted);
        }
        let known = self.known();
        let end = match &wanted.before {
            Some(id) => self.branches.parent(*self.positions.get(id)?),
            None => known.leaf(known.session.active_leaf()),
        };
        let shown = self.trails.shown_to(end);
        let Choice { messages, branches, earlier } =
            self.branches.part(end, shown, wanted.last, wanted.before.is_none());
        let export = |positions: Vec<usize>| -> Vec<ExportedMessage> {
            positions.into_iter().map(|position| ExportedMessage::new(known.message(position))).collect()
        };
        let stats = self.summary.stats;
        let mut document = SessionDocument::of_messages(known.session, stats, export(messages), export(branches));
        document.last_updated.clone_from(&self.last_updated);
        Some(SessionPart {
            part: DocumentPart {
                document,
                total: usize::try_from(stats.total_messages).unwrap_or(usize::MAX),
                earlier,
                preview: self.trails.preview(known, end),
            },
            revision: self.revision,
            holds: wanted.holds.as_ref().is_some_and(|id| self.positions.contains_key(id)),
        })
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

    /// Whether a later version wrote it, so that it is only read.
    pub fn is_of_later_version(&self) -> bool {
        matches!(self.form, Form::Newer(_))
    }

    /// Writes the file anew with what is known of the session, which is not changed; a damaged file is copied before.
    pub fn rewrite_as_it_is(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        self.refresh(disk)?;
        match self.replace(disk, self.copy()) {
            Ok(()) => Ok(()),
            Err(NotWritten::Failed(error)) => Err(error),
            Err(NotWritten::Changed | NotWritten::TooLargeTogether) => {
                Err(StoreError::Unwritable(format!("{}: another program writes to it", self.path.display())))
            }
        }
    }

    /// Whether it can be forgotten and read again without loss.
    pub fn can_be_forgotten(&self) -> bool {
        !self.ahead && !matches!(self.form, Form::Torn { .. })
    }

    fn is_as_seen(&self, stamp: Stamp) -> bool {
        // A write of ours that failed changes the stamp too; what was acknowledged is in memory.
        stamp == self.stamp || (matches!(self.form, Form::Torn { .. }) && stamp.inode == self.stamp.inode)
    }

    /// Opens the file, unless another program wrote to it.
    fn open_as_seen(&self, disk: &dyn Disk) -> Result<Box<dyn DiskFile>, NotWritten> {
        let file = disk.open(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        let stamp = file.stamp().map_err(|error| unreadable(&self.path, &error))?;
        if self.is_as_seen(stamp) { Ok(file) } else { Err(NotWritten::Changed) }
    }

    /// Looks whether another program wrote to the file, and if so reads it anew and joins it with what was known.
    /// [`StoreError::NotFound`] if it is gone.
    pub fn refresh(&mut self, disk: &dyn Disk) -> Result<(), StoreError> {
        self.fold();
        let stamp = disk.stamp(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        if self.is_as_seen(stamp) {
            return Ok(());
        }
        let (bytes, stamp) = disk.read(&self.path).map_err(|error| unreadable(&self.path, &error))?;
        let (mut read, has_ids) = match Self::parse(&self.path, &self.base.session_id, &bytes, stamp) {
            Ok(parsed) => parsed,
            Err(why) if matches!(self.form, Form::Newer(_)) => {
                return Err(StoreError::Unreadable(format!("{}: {why}", self.path.display())));
            }
            Err(why) => {
                // Nothing can be joined with it, but memory holds all that was acknowledged.
                self.form = Form::Foreign { damage: Some(why) };
                (self.stamp, self.settled, self.ahead) = (stamp, false, true);
                self.written = Written::Unknown;
                return Ok(());
            }
        };
        if !matches!(read.form, Form::Newer(_)) {
            let theirs = Arc::unwrap_or_clone(read.base);
            let unchanged = theirs.clone();
            let (united, more) = merge::unite(self.session(), theirs, has_ids);
            if united != unchanged && !matches!(read.form, Form::Foreign { .. }) {
                read.form = Form::Foreign { damage: None };
            }
            let Document { stamp, form, .. } = read;
            read = Self::new(&self.path, united, stamp, form, false);
            read.ahead = more || self.ahead;
        }
        read.written = Written::Unknown;
        *self = read;
        Ok(())
    }

    /// Carries out saves on a document that was opened or refreshed just now, each on the session that the ones before it leave, and
    /// returns when what they acknowledge is safe on the disk: for each what became of it. Saves that only append share a write; they
    /// fail together, and then leave no trace. The plans are made anew when another program wrote meanwhile.
    pub fn commit(&mut self, disk: &dyn Disk, changes: &mut [Change]) -> Vec<Result<Saved, StoreError>> {
        let mut answers: Vec<Option<Result<Saved, StoreError>>> = changes.iter().map(|_| None).collect();
        let mut failure =
            StoreError::Unwritable(format!("{}: another program keeps writing to it", self.path.display()));
        self.fold();
        let mut one_by_one = false;
        for _ in 0..ATTEMPTS {
            match self.carry_out(disk, changes, one_by_one, &mut answers) {
                Ok(()) => break,
                Err(NotWritten::TooLargeTogether) => one_by_one = true,
                Err(_) => {
                    if let Err(error) = self.refresh(disk) {
                        failure = error;
                        break;
                    }
                }
            }
        }
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(failure.again()))).collect()
    }

    /// Carries out the saves that have no answer yet. Some are left without one if another program wrote meanwhile, or if they are too
    /// much for one write, which are the only errors.
    fn carry_out(
        &mut self,
        disk: &dyn Disk,
        changes: &mut [Change],
        one_by_one: bool,
        answers: &mut [Option<Result<Saved, StoreError>>],
    ) -> Result<(), NotWritten> {
        let mut batch = self.begin_batch();
        // Whatever else has a name for the file is not to change with it. Once it is written anew it is a file of its own.
        let mut is_shared = disk.links(&self.path).is_ok_and(|links| links > 1);
        let mut place = 0;
        while let Some(change) = changes.get_mut(place) {
            if answers[place].is_some() {
                place += 1;
                continue;
            }
            let merged = change.base_revision.is_some_and(|base| base < self.revision);
            let plan = match self.plan(disk, change) {
                Ok(plan) => plan,
                Err(NotWritten::Failed(error)) => {
                    answers[place] = Some(Err(error));
                    continue;
                }
                Err(other) => return Err(other),
            };
            let is_own = matches!(self.form, Form::Own { .. }) && !is_shared;
            let can_wait = is_own && plan.only_appends() && !self.ahead;
            if plan.is_empty() && !self.ahead {
                batch.waiting.push((place, self.saved(merged)));
            } else if can_wait {
                self.gather(plan.append, change.now);
                batch.waiting.push((place, self.saved(merged)));
            } else if batch.waiting.is_empty() {
                answers[place] = match self.rewrite(disk, plan, change.now) {
                    Ok(()) => {
                        is_shared = false;
                        Some(Ok(self.saved(merged)))
                    }
                    Err(NotWritten::Failed(error)) => Some(Err(error)),
                    Err(other) => return Err(other),
                };
                batch = self.begin_batch();
            } else {
                // What it builds on must be written first; should that fail, it is to be planned without.
                self.flush(disk, batch, answers)?;
                batch = self.begin_batch();
                continue;
            }
            place += 1;
            if one_by_one {
                self.flush(disk, batch, answers)?;
                batch = self.begin_batch();
            }
        }
        self.flush(disk, batch, answers)
    }

    fn plan(&mut self, disk: &dyn Disk, change: &mut Change) -> Result<Plan, NotWritten> {
        // A plan is made from shared references, so that a panic leaves nothing half done.
        let mut plan = catch_unwind(AssertUnwindSafe(|| (change.make_plan)(self.known()))).unwrap_or_else(|_| {
            Err(StoreError::Unreadable(format!("{}: planning a save panicked", self.path.display())))
        })?;
        if let Form::Newer(why) = &self.form {
            return Err(StoreError::ReadOnly(format!("{}: {why}", self.path.display())).into());
        }
        self.undo_failed_write(disk)?;
        plan.limit_depth();
        Ok(plan)
    }

    fn saved(&self, merged: bool) -> Saved {
        Saved { revision: self.revision(), saved_at: self.changed_at().to_owned(), merged }
    }

    /// When it was last changed in any way (RFC 3339).
    fn changed_at(&self) -> &str {
        // Whatever changes the second of them replaces the session.
        time::later_of(&self.last_updated, self.base.metadata_updated.as_deref())
    }

    fn begin_batch(&self) -> Batch {
        Batch {
            waiting: Vec::new(),
            len: self.known().len(),
            revision: self.revision,
            last_updated: self.last_updated.clone(),
        }
    }

    /// Takes in the messages of one save, which are still to be written.
    fn gather(&mut self, messages: Vec<Message>, now: DateTime<Utc>) {
        self.revision = self.revision.saturating_add(1);
        self.last_updated = time::after(&self.last_updated, now);
        for mut message in messages {
            message.rev = self.revision;
            self.trails.push(&message, self.branches.push(&message, &self.positions));
            self.positions.insert(message.id.clone(), self.known().len());
            self.added.push(message);
        }
    }

    /// Writes what was gathered and answers its saves. If another program wrote meanwhile, or if it is too much for the file and they
    /// are several, they stay without an answer.
    fn flush(
        &mut self,
        disk: &dyn Disk,
        batch: Batch,
        answers: &mut [Option<Result<Saved, StoreError>>],
    ) -> Result<(), NotWritten> {
        let written = if batch.waiting.is_empty() {
            Ok(())
        } else if batch.len == self.known().len() {
            self.settle(disk)
        } else {
            self.append(disk, batch.len, batch.waiting.len() > 1)
        };
        if written.is_err() {
            self.take_back(&batch);
        }
        let failure = match written {
            Ok(()) => None,
            Err(NotWritten::Failed(error)) => Some(error),
            Err(other) => return Err(other),
        };
        for (place, saved) in batch.waiting {
            answers[place] = Some(match &failure {
                None => Ok(saved),
                Some(error) => Err(error.again()),
            });
        }
        Ok(())
    }

    fn take_back(&mut self, batch: &Batch) {
        for message in self.added.drain(batch.len - self.base.messages.len()..) {
            self.positions.remove(&message.id);
        }
        self.branches.truncate(batch.len);
        self.trails.truncate(batch.len);
        self.revision = batch.revision;
        self.last_updated.clone_from(&batch.last_updated);
    }

    /// Carries out a plan by writing the whole session anew.
    fn rewrite(&mut self, disk: &dyn Disk, mut plan: Plan, now: DateTime<Utc>) -> Result<(), NotWritten> {
        let mut session = self.copy();
        session.revision = self.revision.saturating_add(1);
        if !plan.append.is_empty() {
            session.last_updated = time::after(&self.last_updated, now);
        }
        if !plan.only_appends() {
            // Not only after the last one of its kind, so that the time of each write is another one.
            session.metadata_updated = Some(time::after(self.changed_at(), now));
        }
        plan.append.iter_mut().for_each(|message| message.rev = session.revision);
        for position in plan.message_metadata.keys() {
            if let Some(message) = session.messages.get_mut(*position) {
                message.rev = session.revision;
            }
        }
        plan.apply(&mut session);
        self.replace(disk, session)
    }

    /// Makes sure that what is acknowledged without a write is safe: whoever wrote it may have been killed before syncing.
    fn settle(&mut self, disk: &dyn Disk) -> Result<(), NotWritten> {
        if self.settled {
            return Ok(());
        }
        let mut file = self.open_as_seen(disk)?;
        let synced = file.sync().and_then(|()| sync_names(disk, &self.path));
        synced.map_err(|error| unwritable(&self.path, &error))?;
        self.settled = true;
        Ok(())
    }

    /// Overwrites the tail by the messages from position `start` on and a new tail. What stands before is not touched. `is_joint` says
    /// that they are of several saves, of which none is refused for the size of all.
    fn append(&mut self, disk: &dyn Disk, start: usize, is_joint: bool) -> Result<(), NotWritten> {
        let Form::Own { tail_start, tail } = &self.form else { return Err(NotWritten::Changed) };
        let (tail_start, old_tail) = (*tail_start, tail.clone());
        let mut summary = self.summary.clone();
        summary.last_updated.clone_from(&self.last_updated);
        if !self.trails.describe(self.known(), &mut summary) {
            summary = self.copy().summary();
        }
        let written = format::lines(&self.added[start - self.base.messages.len()..], start == 0);
        let (lines, tail) = written
            .and_then(|lines| Ok((lines, format::tail(&self.last_updated, self.revision, &summary.stats)?)))
            .map_err(|error| unwritable(&self.path, &error.into()))?;

        let mut file = self.open_as_seen(disk)?;
        if !self.settled {
            // The name must be safe too, or a power loss brings back an older file, without what is appended now.
            sync_names(disk, &self.path).map_err(|error| unwritable(&self.path, &error))?;
        }
        let new_tail_start = tail_start + lines.len() as u64;
        let bytes = [lines.as_bytes(), tail.as_bytes()].concat();
        let end = tail_start + bytes.len() as u64;
        if is_joint && end > disk.largest_file() {
            return Err(NotWritten::TooLargeTogether);
        }
        check_size(disk, &self.path, end)?;
        let old_size = self.stamp.size;
        let written = file
            .write_at(tail_start, &bytes)
            .and_then(|()| if end < old_size { file.set_len(end) } else { Ok(()) })
            .and_then(|()| file.sync())
            .and_then(|()| file.stamp());
        match written {
            Ok(stamp) => {
                let named = disk.stamp(&self.path).map_err(|error| unreadable(&self.path, &error))?;
                if named.inode != stamp.inode {
                    // Another program put its file in the place of the one that was written just now, which nobody sees any more.
                    return Err(NotWritten::Changed);
                }
                self.note_written(self.stamp, start, false);
                self.stamp = stamp;
                self.settled = true;
                self.form = Form::Own { tail_start: new_tail_start, tail: tail.into_bytes() };
                self.summary = summary;
                self.fold();
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

    /// Repairs what a failed write left, now that the disk may be writable again.
    fn undo_failed_write(&mut self, disk: &dyn Disk) -> Result<(), NotWritten> {
        if !matches!(self.form, Form::Torn { .. }) {
            return Ok(());
        }
        let mut file = self.open_as_seen(disk)?;
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
        check_size(disk, &path, bytes.len() as u64)?;
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
        self.note_written(self.stamp, self.known().len(), true);
        *self = Self { written: self.written, ..Self::new(&path, session, stamp, form, false) };
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

/// Refuses to make a file so large that it would not be read any more.
fn check_size(disk: &dyn Disk, path: &Path, size: u64) -> Result<(), StoreError> {
    let most = disk.largest_file();
    if size <= most {
        return Ok(());
    }
    tracing::warn!(path = %path.display(), size, most, "a save is refused: the session's file would become too large");
    Err(StoreError::TooLarge(most))
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

impl StoreError {
    /// The error for one more of those whom it concerns.
    pub(super) fn again(&self) -> Self {
        match self {
            StoreError::NotFound => StoreError::NotFound,
            StoreError::Deleted => StoreError::Deleted,
            StoreError::Exists => StoreError::Exists,
            StoreError::Invalid(text) => StoreError::Invalid(text.clone()),
            StoreError::ReadOnly(text) => StoreError::ReadOnly(text.clone()),
            StoreError::Unreadable(text) => StoreError::Unreadable(text.clone()),
            StoreError::IndexUnreadable(text) => StoreError::IndexUnreadable(text.clone()),
            StoreError::Unwritable(text) => StoreError::Unwritable(text.clone()),
            StoreError::TooLarge(most) => StoreError::TooLarge(*most),
        }
    }
}
