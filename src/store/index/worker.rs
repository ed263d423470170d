//! The one thread that writes the index: what the store did, what a comparison with the files found, and new segments.

use super::database::{self, Doc, FileRow, Number, Place, Texts};
use super::memory::{self, Entry, Memory};
use super::postings::{Pending, Writing};
use super::{Found, Note, Shared, TextNote, Wanted};
use crate::model::session::SessionId;
use crate::store::disk::Stamp;
use crate::store::document::Line;
use crate::store::layout::{Area, Day};
use crate::store::text;
use roaring::RoaringBitmap;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long new texts may stay unwritten when nothing happens. They are found all the time; after a crash they are read again.
const QUIET_TIME: Duration = Duration::from_secs(20);

/// How long to wait after a failure, for example because the disk is full.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);

/// How many texts' sessions one row holds.
const OWNER_CHUNK: usize = 65_536;

/// How many files that were read are taken up in one transaction.
const FOUND_AT_ONCE: usize = 64;

/// What is to be done in memory once the file of the index has it.
enum Change {
    Entry(Number, Entry),
    Texts(Number, TextChange),
    Bury(Number, Texts),
    /// The texts are not known: the file is to be read.
    Read(Area, Day, SessionId),
}

struct TextChange {
    known: Texts,
    stamp: Stamp,
    head: Option<String>,
    /// From which message on lines are given.
    lines_from: usize,
    lines: Vec<Line>,
    new: Vec<String>,
}

/// The writer's state.
pub struct Worker {
    shared: Arc<Shared>,
    connection: Connection,
    writing: Option<(Writing, Option<Arc<Pending>>)>,
    last_change: Instant,
    /// Whether there may be segments to be joined or pages to be given back, which is done when nothing else is.
    is_untidy: bool,
}

impl Worker {
    /// A writer over an index whose memory is loaded.
    pub fn new(shared: Arc<Shared>, connection: Connection) -> Self {
        Self { shared, connection, writing: None, last_change: Instant::now(), is_untidy: true }
    }

    /// Works until the index is closed.
    pub fn run(mut self) {
        loop {
            let (notes, found, last, stop) = self.next_work();
            if let Err(error) = self.take_notes(notes) {
                self.shared.compare_all_later();
                self.fail(&error);
            }
            if let Some(last) = last {
                self.shared.set_applied(last);
            }
            let has_found = !found.is_empty();
            if let Err(error) = self.take_found(found) {
                self.shared.compare_all_later();
                self.fail(&error);
            }
            if has_found {
                self.shared.inbox().found_in_work = 0;
                self.shared.to_others.notify_all();
            }
            if stop {
                if let Err(error) = self.finish() {
                    tracing::warn!(%error, "the end of the index could not be written; what is missing is read again at the next start");
                }
                return;
            }
            // New texts are taken up at the pace at which segments are written, so that memory stays bounded.
            if let Err(error) = self.write_some(has_found) {
                self.fail(&error);
            }
        }
    }

    /// Tells of a failure, and waits: it may pass, for example because space is made on the disk.
    fn fail(&self, error: &rusqlite::Error) {
        tracing::error!(%error, "the index cannot be written; lists may be out of date until the files are compared again");
        self.shared.database.note_damage(error);
        self.shared.progress.fail(error.to_string());
        let inbox = self.shared.inbox();
        if !inbox.stop {
            drop(self.shared.to_worker.wait_timeout(inbox, FAILURE_PAUSE));
        }
    }

    /// Waits for something to do: notes, with the number of the last one, what was found, and whether to stop.
    fn next_work(&self) -> (Vec<Note>, Vec<Found>, Option<u64>, bool) {
        let mut inbox = self.shared.inbox();
        loop {
            let gathers_for = inbox.gathers_for();
            let is_idle = (inbox.notes.is_empty() || gathers_for.is_some()) && inbox.found.is_empty();
            let has_own = self.writing.is_some() || self.is_untidy || self.memory(|memory| memory.pending.is_full());
            if !is_idle || inbox.stop || has_own {
                break;
            }
            let has_pending = self.memory(|memory| memory.pending.len() > 0 || !memory.fresh.is_empty());
            let waited = self.last_change.elapsed();
            if has_pending && waited >= QUIET_TIME {
                break;
            }
            let time = if has_pending { QUIET_TIME - waited } else { Duration::from_secs(3600) };
            let time = gathers_for.map_or(time, |gathers_for| gathers_for.min(time));
            inbox = self
                .shared
                .to_worker
                .wait_timeout(inbox, time)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(inbox, _)| inbox);
        }
        let mut notes = Vec::new();
        // What the store did is taken up before what a comparison found, which may be the same.
        let takes_notes = inbox.gathers_for().is_none() || !inbox.found.is_empty();
        if takes_notes {
            notes = std::mem::take(&mut inbox.notes).into();
            (inbox.note_bytes, inbox.noted_since, inbox.is_awaited) = (0, None, false);
        }
        let count = if self.memory(|memory| memory.pending.is_full()) { 0 } else { FOUND_AT_ONCE };
        let count = count.min(inbox.found.len());
        let found: Vec<Found> = inbox.found.drain(..count).collect();
        inbox.found_bytes -= found.iter().map(Found::bytes).sum::<usize>();
        inbox.found_in_work = found.len();
        self.shared.to_others.notify_all();
        (notes, found, takes_notes.then_some(inbox.given), inbox.stop)
    }

    fn memory<T>(&self, look: impl FnOnce(&Memory) -> T) -> T {
        look(&self.shared.memory())
    }

    /// Takes up what the store did.
    pub fn take_notes(&mut self, notes: Vec<Note>) -> rusqlite::Result<()> {
        if notes.is_empty() {
            return Ok(());
        }
        self.last_change = Instant::now();
        // One transaction for each session's next note: a later one builds on what the earlier one did in memory.
        let mut rest = joined(notes);
        while !rest.is_empty() {
            let mut seen = HashSet::new();
            let (now, later) = rest.into_iter().partition::<Vec<_>, _>(|note| seen.insert(note.id().clone()));
            rest = later;
            let mut changes = Vec::new();
            let transaction = self.connection.transaction()?;
            for note in now {
                match note {
                    Note::File(row, text) => put_file(&transaction, &self.shared, &row, text, &mut changes)?,
                    Note::Moved { id, day, from, to } => {
                        move_file(&transaction, &self.shared, &id, day, (from, to), &mut changes)?
                    }
                    Note::Removed { id, day, area } => {
                        remove_file(&transaction, &self.shared, area, day, &id, &mut changes)?;
                    }
                }
            }
            transaction.commit()?;
            self.apply(changes);
        }
        Ok(())
    }

    /// Takes up what a comparison found.
    fn take_found(&mut self, found: Vec<Found>) -> rusqlite::Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let count = found.len() as u64;
        let mut changes = Vec::new();
        let mut again = Vec::new();
        let transaction = self.connection.transaction()?;
        for found in found {
            let known = database::file(&transaction, found.area, found.day, &found.id)?;
            if known.map(|(_, stamp)| stamp) != found.known {
                // The store wrote meanwhile, or the file was met twice; what is known now is newer.
                if known.map(|(_, stamp)| stamp) != found.row.as_ref().map(|row| row.stamp) {
                    again.push((found.area, found.day, found.id));
                    continue;
                }
            }
            match found.row {
                Some(row) => {
                    let text = TextNote::Whole { lines: found.lines, texts: found.texts };
                    put_file(&transaction, &self.shared, &row, text, &mut changes)?;
                }
                None => remove_file(&transaction, &self.shared, found.area, found.day, &found.id, &mut changes)?,
            }
        }
        transaction.commit()?;
        self.last_change = Instant::now();
        self.apply(changes);
        for (area, day, id) in again {
            self.shared.want(Wanted::File(area, day, id));
        }
        self.shared.progress.add(count);
        Ok(())
    }

    /// Does in memory what stands in the file of the index now.
    fn apply(&self, changes: Vec<Change>) {
        for change in changes {
            let mut memory = self.shared.memory_mut();
            match change {
                Change::Entry(number, entry) => memory.set_entry(number, entry),
                Change::Texts(number, change) => apply_texts(&mut memory, number, change),
                Change::Bury(number, known) => {
                    let texts = Arc::make_mut(&mut memory.fresh).remove(&number).unwrap_or_else(|| Arc::new(known));
                    memory.bury(&texts.places);
                }
                Change::Read(area, day, id) => {
                    drop(memory);
                    self.shared.want(Wanted::File(area, day, id));
                }
            }
        }
    }

    /// Writes a slice of a segment, or begins one where it is time.
    fn write_some(&mut self, is_busy: bool) -> rusqlite::Result<()> {
        if self.writing.is_none() {
            let is_quiet = self.last_change.elapsed() >= QUIET_TIME;
            let (is_full, is_due) = self.memory(|memory| {
                let has_any = memory.pending.len() > 0 || !memory.fresh.is_empty();
                (memory.pending.is_full(), has_any && is_quiet)
            });
            if is_full || is_due {
                self.begin_pending()?;
            } else if !is_busy {
                let dead = self.memory(|memory| memory.dead.clone());
                let transaction = self.connection.transaction()?;
                let joined = Writing::joined(&transaction, &dead)?;
                transaction.commit()?;
                self.writing = joined.map(|writing| (writing, None));
                if self.writing.is_none() && self.is_untidy {
                    self.is_untidy = database::give_back_some(&self.connection)?;
                }
            }
        }
        if let Some((mut writing, frozen)) = self.writing.take() {
            let empty = Pending::default();
            let written = write_slice(&mut self.connection, &mut writing, frozen.as_deref().unwrap_or(&empty));
            let ended = written.and_then(|is_done| {
                if is_done { self.end(&writing, frozen.as_deref()).map(|()| true) } else { Ok(false) }
            });
            match ended {
                Ok(true) => {}
                Ok(false) => self.writing = Some((writing, frozen)),
                Err(error) => {
                    // Begun anew later, from what is still in memory or in the segments.
                    let _ = writing.abandon(&self.connection);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn begin_pending(&mut self) -> rusqlite::Result<()> {
        let (frozen, dead) = {
            let mut memory = self.shared.memory_mut();
            // After a failure the texts of before are still there.
            let frozen = match memory.frozen.clone() {
                Some(frozen) => frozen,
                None => memory.freeze(),
            };
            (frozen, memory.dead.clone())
        };
        let transaction = self.connection.transaction()?;
        let writing = Writing::pending(&transaction, &frozen, &dead)?;
        transaction.commit()?;
        self.writing = Some((writing, Some(frozen)));
        Ok(())
    }

    /// Takes a written segment into use.
    fn end(&mut self, writing: &Writing, frozen: Option<&Pending>) -> rusqlite::Result<()> {
        let shared = Arc::clone(&self.shared);
        let transaction = self.connection.transaction()?;
        writing.finish(&transaction)?;
        let end = frozen.map(|frozen| frozen.first() + frozen.len());
        let mut written = Vec::new();
        if let (Some(frozen), Some(end)) = (frozen, end) {
            let memory = shared.memory();
            put_owners(&transaction, memory.owners(), frozen.first(), end)?;
            for (number, texts) in memory.fresh.iter() {
                // A row names only texts that are written: numbers of others are given anew after a crash.
                if texts.places.iter().all(|place| place.doc < end) {
                    database::put_texts(&transaction, *number, texts)?;
                    written.push(*number);
                }
            }
        }
        {
            let memory = shared.memory();
            let mut dead = &memory.dead - writing.left_out();
            dead.remove_range(end.unwrap_or_else(|| written_docs(&memory))..);
            let mut bytes = Vec::new();
            if dead.serialize_into(&mut bytes).is_ok() {
                database::put_value(&transaction, "dead", &bytes)?;
            }
        }
        self.is_untidy = true;
        // Whoever reads takes the memory first and then the file's state, so that a text is in exactly one of them.
        let mut memory = shared.memory_mut();
        transaction.commit()?;
        memory.dead -= writing.left_out();
        if frozen.is_some() {
            memory.frozen = None;
        }
        let fresh = Arc::make_mut(&mut memory.fresh);
        for number in written {
            fresh.remove(&number);
        }
        Ok(())
    }

    /// Writes all that is pending.
    pub fn finish(&mut self) -> rusqlite::Result<()> {
        if self.writing.as_ref().is_some_and(|(_, frozen)| frozen.is_none()) {
            // Joining goes on after the next start.
            self.writing = None;
        }
        while self.writing.is_some() || self.memory(|memory| memory.pending.len() > 0 || !memory.fresh.is_empty()) {
            if self.writing.is_none() {
                self.begin_pending()?;
            }
            self.write_some(true)?;
        }
        self.connection.pragma_update(None, "wal_checkpoint", "TRUNCATE").or_else(|error| match error {
            rusqlite::Error::ExecuteReturnedResults => Ok(()),
            other => Err(other),
        })
    }
}

/// Makes one note of those that tell of a session's messages one after the other.
fn joined(notes: Vec<Note>) -> Vec<Note> {
    let mut joined: Vec<Note> = Vec::with_capacity(notes.len());
    let mut last: HashMap<SessionId, usize> = HashMap::new();
    for note in notes {
        let before = last.get(note.id()).and_then(|place| joined.get_mut(*place));
        let rest = match before {
            Some(before) => join(before, note),
            None => Some(note),
        };
        if let Some(note) = rest {
            last.insert(note.id().clone(), joined.len());
            joined.push(note);
        }
    }
    joined
}

/// Adds a note to the one before it, or gives it back.
fn join(before: &mut Note, note: Note) -> Option<Note> {
    match (before, note) {
        (
            Note::File(old, text),
            Note::File(row, TextNote::Grown { before, from, lines_from, lines: more_lines, texts: more }),
        ) if before == old.stamp && lines_from == from => {
            let (lines, texts) = match text {
                TextNote::Grown { from: first, lines, texts, .. } if from == *first + texts.len() => (lines, texts),
                TextNote::Whole { lines, texts } if from == texts.len() => (lines, texts),
                _ => {
                    return Some(Note::File(
                        row,
                        TextNote::Grown { before, from, lines_from, lines: more_lines, texts: more },
                    ));
                }
            };
            *old = row;
            lines.extend(more_lines);
            texts.extend(more);
            None
        }
        (_, note) => Some(note),
    }
}

fn write_slice(connection: &mut Connection, writing: &mut Writing, pending: &Pending) -> rusqlite::Result<bool> {
    let transaction = connection.transaction()?;
    let is_done = writing.slice(&transaction, pending)?;
    transaction.commit()?;
    Ok(is_done)
}

/// How many texts stand in segments.
pub fn written_docs(memory: &Memory) -> Doc {
    memory.frozen.as_ref().map_or(memory.pending.first(), |frozen| frozen.first())
}

/// Reads what is held in memory.
pub fn load(connection: &Connection) -> rusqlite::Result<Memory> {
    let mut memory = Memory::default();
    let mut statement =
        connection.prepare("SELECT number, updated, started, messages, flags FROM file ORDER BY number")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let entry = Entry { updated: row.get(1)?, started: row.get(2)?, messages: row.get(3)?, flags: row.get(4)? };
        memory.set_entry(row.get(0)?, entry);
    }
    drop(rows);
    let mut owners = Vec::new();
    let mut statement = connection.prepare("SELECT numbers FROM owner ORDER BY chunk")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (numbers, _) = row.get_ref(0)?.as_blob()?.as_chunks::<4>();
        owners.extend(numbers.iter().map(|number| Number::from_le_bytes(*number)));
    }
    drop(rows);
    if let Some(dead) = database::value(connection, "dead")? {
        memory.dead = RoaringBitmap::deserialize_from(dead.as_slice()).unwrap_or_default();
    }
    memory.set_owners(owners);
    Ok(memory)
}

/// Gives up the texts of sessions whose texts are to be read anew, but for those that their rows name: others were written for a
/// change that a crash undid.
pub fn bury_orphans(connection: &Connection, memory: &mut Memory, sessions: &HashSet<Number>) -> rusqlite::Result<()> {
    if sessions.is_empty() {
        return Ok(());
    }
    let mut orphans: RoaringBitmap =
        (0..).zip(memory.owners()).filter(|(_, owner)| sessions.contains(owner)).map(|(doc, _)| doc).collect();
    for number in sessions {
        for place in database::texts(connection, *number)?.unwrap_or_default().places {
            orphans.remove(place.doc);
        }
    }
    memory.dead |= orphans;
    Ok(())
}

fn put_owners(connection: &Connection, owners: &[Number], first: Doc, end: Doc) -> rusqlite::Result<()> {
    let (first, end) = (first as usize, end as usize);
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO owner(chunk, numbers) VALUES(?1, ?2)")?;
    for chunk in first / OWNER_CHUNK..end.div_ceil(OWNER_CHUNK) {
        let numbers = &owners[chunk * OWNER_CHUNK..((chunk + 1) * OWNER_CHUNK).min(end)];
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        statement.execute(params![chunk as i64, bytes])?;
    }
    Ok(())
}

/// What is known of a file's texts, in memory or in the file of the index.
fn known_texts(connection: &Connection, shared: &Shared, number: Number) -> rusqlite::Result<Texts> {
    if let Some(texts) = shared.memory().fresh.get(&number) {
        return Ok(Texts::clone(texts));
    }
    Ok(database::texts(connection, number)?.unwrap_or_default())
}

/// Puts a file's row into the index.
fn put_file(
    connection: &Connection,
    shared: &Shared,
    row: &FileRow,
    text: TextNote,
    changes: &mut Vec<Change>,
) -> rusqlite::Result<()> {
    let known = connection
        .prepare_cached("SELECT number, summary FROM file WHERE id = ?1 AND area = ?2 AND day = ?3")?
        .query_row(params![row.id.as_str(), database::area_column(row.area), row.day.to_string()], |row| {
            Ok((row.get::<_, Number>(0)?, row.get::<_, Option<String>>(1)?))
        })
        .optional()?;
    let before = known.as_ref().and_then(|(_, summary)| serde_json::from_str(summary.as_deref()?).ok());
    let entry = Entry::of(row, true);
    let summary = row.summary.as_ref().and_then(|summary| serde_json::to_string(summary).ok());
    let (inode, size, modified) = database::stamp_columns(&row.stamp);
    let number = known.as_ref().map(|(number, _)| *number);
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO file(number, id, area, day, inode, size, modified, revision, shown, flags, updated, started,
             messages, pinned, archived, kind, summary) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17)",
        )?
        .execute(params![
            number,
            row.id.as_str(),
            database::area_column(row.area),
            row.day.to_string(),
            inode,
            size,
            modified,
            row.revision.cast_signed(),
            entry.has(memory::flags::SHOWN),
            entry.flags,
            entry.updated,
            entry.started,
            entry.messages,
            entry.has(memory::flags::PINNED),
            entry.has(memory::flags::ARCHIVED),
            entry.has(memory::flags::VOICE),
            summary
        ])?;
    let number = match number {
        Some(number) => number,
        None => Number::try_from(connection.last_insert_rowid()).unwrap_or(Number::MAX),
    };
    put_facets(connection, number, before.as_ref(), row)?;
    changes.push(Change::Entry(number, entry));
    show_winner(connection, row.area, &row.id, changes, Some((number, entry)))?;
    let head = row.summary.as_ref().map(text::of_head);
    let is_head_new = head != before.as_ref().map(text::of_head);
    put_text(connection, shared, number, row, head.filter(|_| is_head_new), text, changes)
}

fn put_facets(
    connection: &Connection,
    number: Number,
    before: Option<&crate::model::session::Summary>,
    row: &FileRow,
) -> rusqlite::Result<()> {
    let facets = |summary| -> Vec<(i64, String)> { memory::facets(summary).collect() };
    let old = before.map(facets).unwrap_or_default();
    let new = row.summary.as_ref().map(facets).unwrap_or_default();
    if old == new {
        return Ok(());
    }
    connection.prepare_cached("DELETE FROM facet WHERE number = ?1")?.execute([number])?;
    let mut insert =
        connection.prepare_cached("INSERT OR IGNORE INTO facet(name, value, number) VALUES(?1, ?2, ?3)")?;
    for (name, value) in new {
        insert.execute(params![name, value, number])?;
    }
    Ok(())
}

/// Of several files of one id the one with the highest revision is shown, of equal ones that of the latest day.
fn show_winner(
    connection: &Connection,
    area: Area,
    id: &SessionId,
    changes: &mut Vec<Change>,
    put: Option<(Number, Entry)>,
) -> rusqlite::Result<()> {
    let files = database::files_of_id(connection, area, id)?;
    if files.len() < 2 && put.is_some() {
        return Ok(());
    }
    let winner = files.iter().filter(|file| file.3).max_by_key(|file| (file.2, file.1)).map(|file| file.0);
    for (number, ..) in &files {
        let is_shown = Some(*number) == winner;
        let mut entry = match put {
            Some((put, entry)) if put == *number => entry,
            _ => connection
                .prepare_cached("SELECT updated, started, messages, flags FROM file WHERE number = ?1")?
                .query_row([number], |row| {
                    Ok(Entry { updated: row.get(0)?, started: row.get(1)?, messages: row.get(2)?, flags: row.get(3)? })
                })?,
        };
        entry.flags = entry.flags & !memory::flags::SHOWN | if is_shown { memory::flags::SHOWN } else { 0 };
        connection.prepare_cached("UPDATE file SET shown = ?2, flags = ?3 WHERE number = ?1")?.execute(params![
            number,
            is_shown,
            entry.flags
        ])?;
        changes.push(Change::Entry(*number, entry));
    }
    Ok(())
}

fn put_text(
    connection: &Connection,
    shared: &Shared,
    number: Number,
    row: &FileRow,
    new_head: Option<String>,
    text: TextNote,
    changes: &mut Vec<Change>,
) -> rusqlite::Result<()> {
    let known = known_texts(connection, shared, number)?;
    match text {
        // A comparison may have met the file first, between its being written and this note.
        TextNote::Grown { .. } if known.stamp == Some(row.stamp) => {}
        TextNote::Grown { before, from, lines_from, lines, texts } => {
            if known.stamp != Some(before) || known.places.len() != from + 1 {
                changes.push(Change::Read(row.area, row.day, row.id.clone()));
                return Ok(());
            }
            let change = TextChange { known, stamp: row.stamp, head: new_head, lines_from, lines, new: texts };
            changes.push(Change::Texts(number, change));
        }
        TextNote::Whole { lines, texts } => {
            if known.stamp == Some(row.stamp) && row.summary.is_some() {
                return Ok(());
            }
            // What was indexed is given up; the session's texts are new ones.
            changes.push(Change::Bury(number, known));
            match &row.summary {
                Some(summary) => {
                    let head = Some(text::of_head(summary));
                    let known = Texts::default();
                    let change = TextChange { known, stamp: row.stamp, head, lines_from: 0, lines, new: texts };
                    changes.push(Change::Texts(number, change));
                }
                None => {
                    connection.prepare_cached("DELETE FROM text WHERE number = ?1")?.execute([number])?;
                }
            }
        }
        TextNote::Unknown => changes.push(Change::Read(row.area, row.day, row.id.clone())),
    }
    Ok(())
}

fn apply_texts(memory: &mut Memory, number: Number, change: TextChange) {
    let TextChange { known, stamp, head, lines_from, lines, new } = change;
    let fresh = Arc::make_mut(&mut memory.fresh);
    let mut texts = fresh.remove(&number).map_or(known, Arc::unwrap_or_clone);
    texts.stamp = Some(stamp);
    if let Some(head) = head {
        let folded = text::fold(&head);
        let doc = memory.add_doc(number, |each| text::tokens(&folded, each));
        let place = Place { doc, ..Place::default() };
        match texts.places.first_mut() {
            Some(first) => {
                let old = std::mem::replace(first, place);
                memory.bury(&[old]);
            }
            None => texts.places.push(place),
        }
    }
    for message in new {
        let folded = text::fold(&message);
        let doc = memory.add_doc(number, |each| text::tokens(&folded, each));
        texts.places.push(Place { doc, ..Place::default() });
    }
    for (place, Line { offset, length, outline }) in texts.places.iter_mut().skip(1 + lines_from).zip(lines) {
        (place.offset, place.length, place.outline) = (offset, length, outline);
    }
    Arc::make_mut(&mut memory.fresh).insert(number, Arc::new(texts));
}

/// Notes that the store moved a file between the areas.
fn move_file(
    connection: &Connection,
    shared: &Shared,
    id: &SessionId,
    day: Day,
    (from, to): (Area, Area),
    changes: &mut Vec<Change>,
) -> rusqlite::Result<()> {
    let known = database::file(connection, from, day, id)?;
    let Some((number, _)) = known else {
        changes.push(Change::Read(to, day, id.clone()));
        return Ok(());
    };
    // What was there has been renamed away.
    remove_file(connection, shared, to, day, id, changes)?;
    let mut entry = shared.memory().entry(number);
    entry.flags = entry.flags & !memory::flags::TRASHED | if to == Area::Trash { memory::flags::TRASHED } else { 0 };
    connection.prepare_cached("UPDATE file SET area = ?2, flags = ?3 WHERE number = ?1")?.execute(params![
        number,
        database::area_column(to),
        entry.flags
    ])?;
    changes.push(Change::Entry(number, entry));
    show_winner(connection, from, id, changes, None)?;
    show_winner(connection, to, id, changes, None)
}

/// Takes a file out of the index.
fn remove_file(
    connection: &Connection,
    shared: &Shared,
    area: Area,
    day: Day,
    id: &SessionId,
    changes: &mut Vec<Change>,
) -> rusqlite::Result<()> {
    let Some((number, _)) = database::file(connection, area, day, id)? else { return Ok(()) };
    let known = known_texts(connection, shared, number)?;
    for table in ["file", "facet", "text"] {
        connection.prepare_cached(&format!("DELETE FROM {table} WHERE number = ?1"))?.execute([number])?;
    }
    changes.push(Change::Entry(number, Entry::default()));
    changes.push(Change::Bury(number, known));
    show_winner(connection, area, id, changes, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::query::Term;
    use crate::model::session::Session;
    use crate::store::disk::RealDisk;
    use crate::store::index::database::Database;
    use crate::store::layout::Layout;
    use crate::store::text::Needle;

    #[test]
    fn a_new_file_that_a_comparison_met_before_its_note_is_searched_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let (database, connection) = Database::open(&layout.index()).unwrap();
        let memory = load(&connection).unwrap();
        let shared = Arc::new(Shared::new(&layout, &RealDisk::new(folder.path()), database, memory));
        let mut worker = Worker::new(Arc::clone(&shared), connection);
        let session = Session::empty("s");
        let (area, day, id) = (Area::Sessions, Day::parse("2026-02-09").unwrap(), session.session_id.clone());
        let stamp = |size| Stamp { inode: 1, size, modified: 0 };
        let summary = Some(session.summary());
        let row =
            |size| FileRow { id: id.clone(), area, day, stamp: stamp(size), revision: size, summary: summary.clone() };

        let (lines, texts) = (Vec::new(), Vec::new());
        let found = Found { area, day, id: id.clone(), known: None, row: Some(row(1)), lines, texts };
        worker.take_found(vec![found]).unwrap();
        let created = TextNote::Whole { lines: Vec::new(), texts: Vec::new() };
        let said = |before, from, text: &str| TextNote::Grown {
            before: stamp(before),
            from,
            lines_from: from,
            lines: vec![Line { offset: 9, length: 9, ..Line::default() }],
            texts: vec![text.to_owned()],
        };
        let notes = [(1, created), (2, said(1, 0, "hello")), (3, said(2, 1, "again"))];
        worker.take_notes(notes.map(|(size, text)| Note::File(Box::new(row(size)), text)).into()).unwrap();

        assert!(shared.inbox().wanted.is_empty(), "nothing is to be read");
        let memory = shared.memory();
        for word in ["hello", "again"] {
            let needle = Needle::new(&Term { text: word.into(), is_phrase: false }).unwrap();
            let docs = memory.pending.find(&needle.lookup()) - &memory.dead;
            assert_eq!(docs.len(), 1, "{word}");
        }
    }
}
