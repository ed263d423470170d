//! The index on the disk: one SQLite file that can be deleted at any time.

use crate::model::session::{SessionId, Summary};
use crate::store::branches::Outline;
use crate::store::disk::Stamp;
use crate::store::document::Document;
use crate::store::layout::{Area, Day};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, params};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Names a file of a session, in the index only. Numbers grow and are not given twice.
pub type Number = u32;

/// Names a text in the index: a message, or the head of a session. Numbers grow and are not given twice.
pub type Doc = u32;

/// Counts up whenever the tables or what stands in them change their meaning; an index of another version is built anew.
const VERSION: i64 = 6;

const DAMAGE_SUFFIX: &str = "-damaged";

/// How many connections that read are kept open.
const READERS: usize = 4;

/// Memory for pages of the file, per connection, in KiB: the one that writes, and each that reads.
const WRITER_CACHE_KIB: i64 = 8 * 1024;
const READER_CACHE_KIB: i64 = 2 * 1024;

/// How long a connection waits for another one. Only the switch of the journal's file takes any time.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// One part in so many of the file may be free pages, which are used again.
const FREE_SHARE: i64 = 20;

/// How many pages are given back in one go.
const GIVEN_BACK_AT_ONCE: u32 = 1_000;

const TABLES: &str = "
    CREATE TABLE file(
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, area INTEGER NOT NULL, day TEXT NOT NULL,
        inode INTEGER NOT NULL, size INTEGER NOT NULL, modified INTEGER NOT NULL, revision INTEGER NOT NULL,
        shown INTEGER NOT NULL, flags INTEGER NOT NULL, updated INTEGER NOT NULL, started INTEGER NOT NULL,
        messages INTEGER NOT NULL, pinned INTEGER NOT NULL, archived INTEGER NOT NULL, kind INTEGER NOT NULL,
        summary TEXT, UNIQUE(id, area, day));
    CREATE INDEX newest ON file(pinned DESC, updated DESC, id) WHERE shown AND area = 0 AND archived = 0;
    CREATE INDEX newest_of_kind ON file(kind, pinned DESC, updated DESC, id) WHERE shown AND area = 0 AND archived = 0;
    CREATE INDEX oldest ON file(started, id) WHERE shown AND area = 0 AND archived = 0;
    CREATE INDEX oldest_of_kind ON file(kind, started, id) WHERE shown AND area = 0 AND archived = 0;
    CREATE INDEX of_day ON file(area, day);
    CREATE TABLE facet(name INTEGER, value TEXT, number INTEGER, PRIMARY KEY(name, value, number)) WITHOUT ROWID;
    CREATE INDEX facet_of ON facet(number);
    CREATE TABLE text(number INTEGER PRIMARY KEY, inode INTEGER, size INTEGER, modified INTEGER, docs BLOB NOT NULL,
        outline BLOB NOT NULL);
    CREATE TABLE owner(chunk INTEGER PRIMARY KEY, numbers BLOB NOT NULL);
    CREATE TABLE segment(id INTEGER PRIMARY KEY AUTOINCREMENT, first INTEGER NOT NULL, docs INTEGER NOT NULL, done INTEGER NOT NULL);
    CREATE TABLE value(name TEXT PRIMARY KEY, value BLOB);
";

/// What is known of a file.
#[derive(Clone, Debug)]
pub struct FileRow {
    /// The session that its name stands for.
    pub id: SessionId,
    /// Kept or in the trash.
    pub area: Area,
    /// Its folder.
    pub day: Day,
    /// Its state when it was last read or written.
    pub stamp: Stamp,
    /// The session's revision.
    pub revision: u64,
    /// The session's row in lists; `None` for a file that holds no session, which is not tried again until it changes.
    pub summary: Option<Summary>,
}

impl FileRow {
    /// The row of a document as it was read or written.
    pub fn of(area: Area, day: Day, document: &Document) -> Self {
        Self {
            id: document.id().clone(),
            area,
            day,
            stamp: document.stamp(),
            revision: document.revision(),
            summary: Some(document.summary().clone()),
        }
    }
}

/// Where a text of the index stands: in the file's bytes, if it is a message on a line of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The text.
    pub doc: Doc,
    /// The first byte of the line.
    pub offset: u64,
    /// Its length in bytes; 0 where the message has no line of its own, and for the head.
    pub length: u32,
    /// What is kept of the message beside it. A search does not read it.
    pub outline: Outline,
}

/// The texts of a file as they are indexed: first its head, then its messages in order.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// The file's state that was indexed.
    pub stamp: Option<Stamp>,
    /// Where they stand.
    pub places: Vec<Place>,
}

/// The connections to one index.
#[derive(Debug)]
pub struct Database {
    path: PathBuf,
    readers: Mutex<Vec<Connection>>,
    /// Whether damage may be noted on the disk.
    may_mark: bool,
}

impl Database {
    /// Opens the index of a data directory or makes an empty one; the second value is the connection that writes. An index of another
    /// version, or one that is damaged, is thrown away.
    pub fn open(path: &Path) -> rusqlite::Result<(Self, Connection)> {
        if is_marked_damaged(path) {
            tracing::warn!("the index was found to be damaged and is built anew");
            remove(path);
        }
        let writer = match open_writer(path) {
            Ok(writer) => writer,
            Err(error) => {
                tracing::warn!(%error, "the index cannot be used and is built anew");
                remove(path);
                open_writer(path)?
            }
        };
        Ok((Self { path: path.to_owned(), readers: Mutex::default(), may_mark: true }, writer))
    }

    /// Opens an index only to look at it; `None` if it is of another version, and built anew at the next start.
    pub fn open_to_read(path: &Path) -> rusqlite::Result<Option<Self>> {
        check_files(path)?;
        let database = Self { path: path.to_owned(), readers: Mutex::default(), may_mark: false };
        let version: i64 =
            database.read(|connection| connection.pragma_query_value(None, "user_version", |row| row.get(0)))?;
        Ok((version == VERSION).then_some(database))
    }

    /// Sees to it that the index is built anew at the next start if this error says that it is damaged: damage in a part that is
    /// not read at the start would stay for good.
    pub fn note_damage(&self, error: &rusqlite::Error) {
        use rusqlite::{Error, ErrorCode};
        let is_damage = match error {
            // An unknown error is one of the statement, which is right for the tables as they were made.
            Error::SqliteFailure(failure, _) => {
                matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
            }
            Error::FromSqlConversionFailure(..)
            | Error::InvalidColumnType(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::SqlInputError { .. } => true,
            _ => false,
        };
        let mark = damage_mark(&self.path);
        if self.may_mark
            && is_damage
            && let Err(error) = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&mark)
        {
            tracing::warn!(%error, "the index is damaged, which cannot be noted; delete it");
        }
    }

    /// Lends a connection for reading.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        let free = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match free {
            Some(connection) => connection,
            None => {
                let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
                let connection = Connection::open_with_flags(&self.path, flags)?;
                connection.busy_timeout(BUSY_TIMEOUT)?;
                connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
                keep_plans(&connection)?;
                connection
            }
        };
        let result = work(&connection);
        if let Err(error) = &result {
            self.note_damage(error);
        }
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < READERS && result.is_ok() {
            readers.push(connection);
        }
        result
    }

    /// Lends a connection that sees one state of the index until it is given back.
    pub fn read_snapshot<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.read(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let result = work(&transaction);
            transaction.finish()?;
            result
        })
    }
}

/// Deletes an index.
pub fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal", DAMAGE_SUFFIX] {
        match std::fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "a file of the index cannot be removed");
            }
            _ => {}
        }
    }
}

/// Whether somebody who read it found that it is damaged.
pub fn is_marked_damaged(path: &Path) -> bool {
    damage_mark(path).exists()
}

/// The file that says that the index beside it is damaged.
fn damage_mark(path: &Path) -> PathBuf {
    beside(path, DAMAGE_SUFFIX)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Refuses what is no plain file, or has another name. Links below the data directory are not followed, a pipe is not waited for,
/// and what another name shows is not written to; who opens it for writing removes it and tries again.
fn check_files(path: &Path) -> rusqlite::Result<()> {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        match beside(path, suffix).symlink_metadata() {
            Ok(metadata) if !metadata.is_file() || metadata.nlink() > 1 => {
                return Err(rusqlite::Error::InvalidPath(path.to_owned()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    check_files(path)?;
    // What a person said is in it, too. SQLite gives the files beside it the permissions that it has.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            tracing::warn!(%error, "the file of the index cannot be made");
            return Err(rusqlite::Error::InvalidPath(path.to_owned()));
        }
        _ => {}
    }
    let mut writer = Connection::open(path)?;
    writer.busy_timeout(BUSY_TIMEOUT)?;
    keep_plans(&writer)?;
    writer.pragma_update(None, "page_size", 8192)?;
    writer.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    writer.pragma_update(None, "journal_mode", "WAL")?;
    // A power loss may take the last changes, never the whole: what is missing is found by comparing with the files.
    writer.pragma_update(None, "synchronous", "NORMAL")?;
    writer.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    writer.pragma_update(None, "journal_size_limit", 4 * 1024 * 1024)?;
    let version: i64 = writer.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != VERSION {
        let tables: i64 = writer.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 {
            return Err(rusqlite::Error::InvalidQuery);
        }
        let transaction = writer.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    Ok(writer)
}

/// Keeps statements as they were prepared. Without the second setting SQLite prepares a statement anew whenever another value is
/// bound that might be good for a partial index, which took a seventh of a search.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// The number that stands for an area in the tables.
pub fn area_column(area: Area) -> i64 {
    match area {
        Area::Sessions => 0,
        Area::Trash => 1,
    }
}

fn area_of(number: i64) -> Area {
    if number == 0 { Area::Sessions } else { Area::Trash }
}

/// A stamp as three columns. The time is kept to the nanosecond, which fits until the year 2262.
pub fn stamp_columns(stamp: &Stamp) -> (i64, i64, i64) {
    let modified = i64::try_from(stamp.modified).unwrap_or(i64::MAX);
    (stamp.inode.cast_signed(), stamp.size.cast_signed(), modified)
}

fn stamp_of(row: &Row<'_>, first: usize) -> rusqlite::Result<Stamp> {
    let (inode, size, modified): (i64, i64, i64) = (row.get(first)?, row.get(first + 1)?, row.get(first + 2)?);
    Ok(Stamp { inode: inode.cast_unsigned(), size: size.cast_unsigned(), modified: i128::from(modified) })
}

/// The files that are known of a day's folder, and their states as last read.
pub fn files_of_day(connection: &Connection, area: Area, day: Day) -> rusqlite::Result<HashMap<SessionId, Stamp>> {
    let mut statement =
        connection.prepare_cached("SELECT id, inode, size, modified FROM file WHERE area = ?1 AND day = ?2")?;
    let rows = statement.query_map(params![area_column(area), day.to_string()], |row| {
        Ok((row.get::<_, String>(0)?, stamp_of(row, 1)?))
    })?;
    let mut known = HashMap::new();
    for row in rows {
        let (id, stamp) = row?;
        // Only ids are ever written.
        if let Ok(id) = id.parse() {
            known.insert(id, stamp);
        }
    }
    Ok(known)
}

/// The days of an area of which files are known.
pub fn days(connection: &Connection, area: Area) -> rusqlite::Result<Vec<Day>> {
    let mut statement = connection.prepare_cached("SELECT DISTINCT day FROM file WHERE area = ?1")?;
    let days = statement.query_map([area_column(area)], |row| row.get::<_, String>(0))?;
    let days: Vec<String> = days.collect::<rusqlite::Result<_>>()?;
    Ok(days.iter().filter_map(|day| Day::parse(day)).collect())
}

/// The files that are known to hold no session.
pub fn unreadable_files(connection: &Connection) -> rusqlite::Result<Vec<(Area, Day, SessionId)>> {
    let mut statement = connection.prepare("SELECT area, day, id FROM file WHERE summary IS NULL")?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?;
    let mut files = Vec::new();
    for row in rows {
        let (area, day, id) = row?;
        if let (Some(day), Ok(id)) = (Day::parse(&day), id.parse()) {
            files.push((area_of(area), day, id));
        }
    }
    Ok(files)
}

/// The number and state of one file.
pub fn file(
    connection: &Connection,
    area: Area,
    day: Day,
    id: &SessionId,
) -> rusqlite::Result<Option<(Number, Stamp)>> {
    connection
        .prepare_cached("SELECT number, inode, size, modified FROM file WHERE id = ?1 AND area = ?2 AND day = ?3")?
        .query_row(params![id.as_str(), area_column(area), day.to_string()], |row| Ok((row.get(0)?, stamp_of(row, 1)?)))
        .optional()
}

/// What is known of one file.
pub fn row(connection: &Connection, number: Number) -> rusqlite::Result<Option<FileRow>> {
    let row = connection
        .prepare_cached("SELECT id, area, day, inode, size, modified, revision, summary FROM file WHERE number = ?1")?
        .query_row([number], |row| {
            let (id, day) = (row.get_ref(0)?.as_str()?.parse().ok(), Day::parse(row.get_ref(2)?.as_str()?));
            let summary = row.get_ref(7)?.as_str_or_null()?.and_then(|summary| serde_json::from_str(summary).ok());
            let (area, stamp, revision) =
                (area_of(row.get(1)?), stamp_of(row, 3)?, row.get::<_, i64>(6)?.cast_unsigned());
            Ok(id.zip(day).map(|(id, day)| FileRow { id, area, day, stamp, revision, summary }))
        })
        .optional()?;
    Ok(row.flatten())
}

/// The numbers, days and revisions of all files of an id in an area.
pub fn files_of_id(
    connection: &Connection,
    area: Area,
    id: &SessionId,
) -> rusqlite::Result<Vec<(Number, Day, u64, bool)>> {
    let mut statement = connection
        .prepare_cached("SELECT number, day, revision, summary IS NOT NULL FROM file WHERE id = ?1 AND area = ?2")?;
    let rows = statement.query_map(params![id.as_str(), area_column(area)], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?, row.get(3)?))
    })?;
    let mut files = Vec::new();
    for row in rows {
        let (number, day, revision, is_readable) = row?;
        if let Some(day) = Day::parse(&day) {
            files.push((number, day, revision.cast_unsigned(), is_readable));
        }
    }
    Ok(files)
}

/// Where a file lies.
#[derive(Debug)]
pub struct Location {
    /// Kept or in the trash.
    pub area: Area,
    /// Its folder.
    pub day: Day,
    /// The session.
    pub id: SessionId,
}

/// What a search needs of a file, by number: where it lies, its row in a list as it is kept, and where its texts stand. `None` if
/// it cannot be read.
pub fn session(connection: &Connection, number: Number) -> rusqlite::Result<Option<(Location, String, Vec<Place>)>> {
    let found = connection
        .prepare_cached(
            "SELECT area, day, id, summary, docs FROM file LEFT JOIN text USING(number)
             WHERE file.number = ?1 AND summary IS NOT NULL",
        )?
        .query_row([number], |row| {
            let (day, id) = (Day::parse(row.get_ref(1)?.as_str()?), row.get_ref(2)?.as_str()?.parse().ok());
            let places = row.get_ref(4)?.as_blob_or_null()?.map(decode_places).unwrap_or_default();
            Ok((area_of(row.get(0)?), day, id, row.get(3)?, places))
        })
        .optional()?;
    Ok(found
        .and_then(|(area, day, id, summary, places)| Some((Location { area, day: day?, id: id? }, summary, places))))
}

/// Reads a column that holds a summary.
pub fn read_summary(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Summary>> {
    // What stands here is written from summaries only.
    Ok(serde_json::from_str(row.get_ref(column)?.as_str()?).ok())
}

/// The ids of files, in the same order; numbers of which nothing is known are passed over.
pub fn ids(connection: &Connection, numbers: &[Number]) -> rusqlite::Result<Vec<SessionId>> {
    let mut statement = connection.prepare_cached("SELECT id FROM file WHERE number = ?1")?;
    let mut ids = Vec::with_capacity(numbers.len());
    for number in numbers {
        let id: Option<String> = statement.query_row([number], |row| row.get(0)).optional()?;
        ids.extend(id.and_then(|id| id.parse().ok()));
    }
    Ok(ids)
}

/// What is known of a file's texts.
pub fn texts(connection: &Connection, number: Number) -> rusqlite::Result<Option<Texts>> {
    connection
        .prepare_cached("SELECT inode, size, modified, docs, outline FROM text WHERE number = ?1")?
        .query_row([number], |row| {
            let mut places = decode_places(row.get_ref(3)?.as_blob()?);
            decode_outlines(row.get_ref(4)?.as_blob()?, &mut places);
            Ok(Texts { stamp: Some(stamp_of(row, 0)?), places })
        })
        .optional()
}

/// Keeps what is known of a file's texts.
pub fn put_texts(connection: &Connection, number: Number, texts: &Texts) -> rusqlite::Result<()> {
    let (inode, size, modified) = texts.stamp.as_ref().map(stamp_columns).unwrap_or_default();
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO text(number, inode, size, modified, docs, outline) VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            number,
            inode,
            size,
            modified,
            encode_places(&texts.places),
            encode_outlines(&texts.places)
        ])?;
    Ok(())
}

/// The files whose texts are not indexed in the state in which the file is known.
pub fn files_without_texts(connection: &Connection) -> rusqlite::Result<Vec<(Number, Area, Day, SessionId)>> {
    let mut statement = connection.prepare(
        "SELECT file.number, file.area, file.day, file.id FROM file LEFT JOIN text USING(number) WHERE file.summary IS NOT NULL AND
         (text.inode IS NOT file.inode OR text.size IS NOT file.size OR text.modified IS NOT file.modified)",
    )?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get::<_, String>(3)?)))?;
    let mut files = Vec::new();
    for row in rows {
        let (number, area, day, id) = row?;
        if let (Some(day), Ok(id)) = (Day::parse(&day), id.parse()) {
            files.push((number, area_of(area), day, id));
        }
    }
    Ok(files)
}

/// Differences between neighbours in variable-length numbers: nearly always five bytes a message.
fn encode_places(places: &[Place]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(places.len() * 5 + 8);
    let (mut doc, mut end) = (0_i64, 0_i64);
    for place in places {
        push_number(&mut bytes, zigzag(i64::from(place.doc) - doc));
        push_number(&mut bytes, zigzag(place.offset.cast_signed() - end));
        push_number(&mut bytes, u64::from(place.length));
        doc = i64::from(place.doc) + 1;
        end = place.offset.cast_signed() + i64::from(place.length);
    }
    bytes
}

fn decode_places(bytes: &[u8]) -> Vec<Place> {
    let mut places = Vec::with_capacity(bytes.len() / 5 + 1);
    let mut rest = bytes;
    let (mut doc, mut end) = (0_i64, 0_i64);
    while let (Some(doc_step), Some(offset_step), Some(length)) =
        (take_number(&mut rest), take_number(&mut rest), take_number(&mut rest))
    {
        let at = doc.wrapping_add(unzigzag(doc_step));
        let offset = end.wrapping_add(unzigzag(offset_step));
        let (Ok(found), Ok(length)) = (Doc::try_from(at), u32::try_from(length)) else { break };
        places.push(Place { doc: found, offset: offset.cast_unsigned(), length, outline: Outline::default() });
        doc = at + 1;
        end = offset.wrapping_add(i64::from(length));
    }
    places
}

/// Three bytes a message, as long as each follows the one before it. The first place is that of the head.
fn encode_outlines(places: &[Place]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(places.len() * 3);
    for (position, place) in (0..).zip(places.iter().skip(1)) {
        place.outline.write(position, &mut bytes, push_number);
    }
    bytes
}

fn decode_outlines(bytes: &[u8], places: &mut [Place]) {
    let mut rest = bytes;
    for (position, place) in (0..).zip(places.iter_mut().skip(1)) {
        let Some(outline) = Outline::read(position, &mut rest, take_number) else { return };
        place.outline = outline;
    }
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Gives some of the free pages of the file back, where they are many, and says whether that is to go on.
pub fn give_back_some(connection: &Connection) -> rusqlite::Result<bool> {
    let count = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (free, all) = (count("freelist_count")?, count("page_count")?);
    if free * FREE_SHARE < all {
        return Ok(false);
    }
    let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({GIVEN_BACK_AT_ONCE})"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(count("freelist_count")? < free)
}

/// A value that has no table of its own.
pub fn value(connection: &Connection, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    connection.prepare_cached("SELECT value FROM value WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

/// Keeps a value that has no table of its own.
pub fn put_value(connection: &Connection, name: &str, value: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO value(name, value) VALUES(?1, ?2)")?
        .execute(params![name, value])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_read_back(places in prop::collection::vec((any::<u32>(), 0..u64::from(u32::MAX), any::<u32>()), 0..40)) {
            let places: Vec<Place> =
                places.into_iter().map(|(doc, offset, length)| Place { doc, offset, length, ..Place::default() }).collect();
            prop_assert_eq!(decode_places(&encode_places(&places)), places);
        }

        #[test]
        fn damaged_places_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut places = decode_places(&bytes);
            decode_outlines(&bytes, &mut places);
        }
    }

    #[test]
    fn an_index_that_is_none_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.sqlite");
        std::fs::write(&path, "this is no database, but it is long enough to look like one".repeat(40)).unwrap();
        let (database, writer) = Database::open(&path).unwrap();
        put_value(&writer, "a", b"1").unwrap();
        assert_eq!(database.read(|connection| value(connection, "a")).unwrap().as_deref(), Some(&b"1"[..]));
        drop((database, writer));
        let (_, writer) = Database::open(&path).unwrap();
        assert_eq!(value(&writer, "a").unwrap().as_deref(), Some(&b"1"[..]), "it stays");
        writer.pragma_update(None, "user_version", 99).unwrap();
        drop(writer);
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, "").unwrap();
        let link = folder.path().join("link.sqlite");
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        drop(Database::open(&link).unwrap());
        assert!(link.symlink_metadata().unwrap().is_file(), "a link is not followed");
        assert_eq!(std::fs::read(&elsewhere).unwrap(), b"");
        let (_, writer) = Database::open(&path).unwrap();
        assert_eq!(value(&writer, "a").unwrap(), None, "another version");
    }
}
