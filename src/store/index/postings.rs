//! Which texts have which tokens: new ones in memory, the others in segments, each a table of the index that is never changed.

use super::database::Doc;
use crate::store::text::{Lookup, Token};
use roaring::{MultiOps, RoaringBitmap};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// How many texts are gathered before they are written as a segment.
pub const SEGMENT_DOCS: u32 = 8_192;

/// How many postings are gathered before that, whatever the number of texts: 4 bytes each.
const MOST_POSTINGS: usize = 3_000_000;

/// How many segments of about one size are joined into one.
const FAN_IN: usize = 8;

/// How many tokens are written in one transaction, so that other changes of the index get their turn in between.
const SLICE: usize = 4_096;

/// A multiplication mixes the characters of a token well enough, and the default hasher is several times slower.
#[derive(Default)]
pub struct TokenHasher(u64);

impl Hasher for TokenHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, token: u64) {
        let mixed = (self.0 ^ token).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ mixed >> 32;
    }
}

type TokenMap<T> = HashMap<Token, T, BuildHasherDefault<TokenHasher>>;

/// The texts that are not written yet.
#[derive(Debug, Default)]
pub struct Pending {
    first: Doc,
    docs: u32,
    postings: usize,
    /// For each token the texts that have it, counted from the first, ascending.
    tokens: TokenMap<Vec<u32>>,
}

impl Pending {
    /// Begins after the texts that are written.
    pub fn new(first: Doc) -> Self {
        Self { first, ..Self::default() }
    }

    /// The first text that is not written.
    pub fn first(&self) -> Doc {
        self.first
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.docs
    }

    /// Whether no more should be added before they are written.
    pub fn is_full(&self) -> bool {
        self.docs >= SEGMENT_DOCS || self.postings >= MOST_POSTINGS
    }

    /// Adds a text by its tokens, which may be repeated.
    pub fn add(&mut self, tokens: impl FnOnce(&mut dyn FnMut(Token))) -> Doc {
        let position = self.docs;
        let mut added = 0;
        tokens(&mut |token| {
            let docs = self.tokens.entry(token).or_default();
            if docs.last() != Some(&position) {
                docs.push(position);
                added += 1;
            }
        });
        self.postings += added;
        self.docs += 1;
        self.first + position
    }

    /// The texts that a lookup finds.
    pub fn find(&self, lookup: &Lookup) -> RoaringBitmap {
        match lookup {
            Lookup::All(tokens) => self.with_all(tokens),
            Lookup::Range(first, last) => {
                let lists = self.tokens.iter().filter(|(token, _)| (first..=last).contains(token));
                lists.flat_map(|(_, docs)| docs).map(|doc| self.first + doc).collect()
            }
        }
    }

    fn with_all(&self, tokens: &[Token]) -> RoaringBitmap {
        let mut lists: Vec<&Vec<u32>> = Vec::with_capacity(tokens.len());
        for token in tokens {
            match self.tokens.get(token) {
                Some(list) => lists.push(list),
                None => return RoaringBitmap::new(),
            }
        }
        lists.sort_unstable_by_key(|list| list.len());
        let Some((shortest, others)) = lists.split_first() else { return RoaringBitmap::new() };
        let in_all = shortest.iter().filter(|doc| others.iter().all(|list| list.binary_search(doc).is_ok()));
        in_all.map(|doc| self.first + doc).collect()
    }
}

/// A segment of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Names its table.
    pub id: i64,
    /// Its first text.
    pub first: Doc,
    /// How many texts it has, with those that are gone.
    pub docs: u32,
}

impl Segment {
    fn table(id: i64) -> String {
        format!("postings_{id}")
    }

    /// Segments of about one size have the same level.
    fn level(self) -> u32 {
        (self.docs / SEGMENT_DOCS).checked_ilog2().map_or(0, |log| 1 + log / 3)
    }
}

/// The segments that are in use, in the order of their texts.
pub fn segments(connection: &Connection) -> rusqlite::Result<Vec<Segment>> {
    let mut statement = connection.prepare_cached("SELECT id, first, docs FROM segment WHERE done ORDER BY first")?;
    let segments =
        statement.query_map([], |row| Ok(Segment { id: row.get(0)?, first: row.get(1)?, docs: row.get(2)? }))?;
    segments.collect()
}

/// The texts of a segment that a lookup finds.
pub fn find(connection: &Connection, segment: Segment, lookup: &Lookup) -> rusqlite::Result<RoaringBitmap> {
    match lookup {
        Lookup::All(tokens) => with_all(connection, segment, tokens),
        Lookup::Range(first, last) => {
            let sql = format!("SELECT bitmap FROM {} WHERE token BETWEEN ?1 AND ?2", Segment::table(segment.id));
            let mut statement = connection.prepare_cached(&sql)?;
            let bitmaps = statement.query_map([first.cast_signed(), last.cast_signed()], |row| {
                RoaringBitmap::deserialize_unchecked_from(row.get_ref(0)?.as_blob()?).map_err(damaged)
            })?;
            bitmaps.union()
        }
    }
}

fn with_all(connection: &Connection, segment: Segment, tokens: &[Token]) -> rusqlite::Result<RoaringBitmap> {
    let sql = format!("SELECT bitmap FROM {} WHERE token = ?1", Segment::table(segment.id));
    let mut statement = connection.prepare_cached(&sql)?;
    let mut all: Option<RoaringBitmap> = None;
    for token in tokens {
        let bitmap = statement
            .query_row([token.cast_signed()], |row| {
                let bytes = row.get_ref(0)?.as_blob()?;
                RoaringBitmap::deserialize_unchecked_from(bytes).map_err(damaged)
            })
            .optional()?;
        let Some(bitmap) = bitmap else { return Ok(RoaringBitmap::new()) };
        let rest = match all.take() {
            Some(all) => all & bitmap,
            None => bitmap,
        };
        if rest.is_empty() {
            return Ok(rest);
        }
        all = Some(rest);
    }
    Ok(all.unwrap_or_default())
}

fn damaged(error: std::io::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(error))
}

/// Looks whether the segments that are in use can be read and follow each other without a gap; adds a sentence for each that does
/// not. Returns the text behind the last.
pub fn check(connection: &Connection, complaints: &mut Vec<String>) -> rusqlite::Result<Doc> {
    let mut end = 0;
    for segment in segments(connection)? {
        let Segment { id, first, docs } = segment;
        if first != end {
            complaints.push(format!("the words of the texts from {end} on are missing"));
        }
        end = first + docs;
        let mut statement = connection.prepare(&format!("SELECT bitmap FROM {}", Segment::table(id)))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let bitmap = RoaringBitmap::deserialize_from(row.get_ref(0)?.as_blob()?).map_err(damaged)?;
            if bitmap.min().is_none_or(|least| least < first) || bitmap.max().is_none_or(|most| most >= end) {
                complaints.push(format!("the words of the texts from {first} to {end} are damaged"));
                break;
            }
        }
    }
    Ok(end)
}

/// Throws away the tables of segments that were not finished or are not used any more.
pub fn remove_leftovers(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT name FROM sqlite_schema WHERE name GLOB 'postings_*'")?;
    let names: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let used: Vec<String> = segments(connection)?.iter().map(|segment| Segment::table(segment.id)).collect();
    for name in names.iter().filter(|name| !used.contains(name)) {
        connection.execute_batch(&format!("DROP TABLE {name}"))?;
    }
    connection.execute("DELETE FROM segment WHERE NOT done", [])?;
    Ok(())
}

/// A segment that is being written, a slice at a time.
#[derive(Debug)]
pub struct Writing {
    id: i64,
    first: Doc,
    source: Source,
    /// The segments that it takes the place of.
    replaces: Vec<Segment>,
    /// Texts that were gone when it was begun, and are left out.
    dead: RoaringBitmap,
}

#[derive(Debug)]
enum Source {
    /// Tokens of the pending texts that are still to be written, descending.
    Pending(Vec<Token>),
    /// The next token to be read from the segments that are joined; `None` at the end.
    Segments(Option<Token>),
}

impl Writing {
    fn begin(
        connection: &Connection,
        (first, docs): (Doc, u32),
        source: Source,
        replaces: Vec<Segment>,
        dead: &RoaringBitmap,
    ) -> rusqlite::Result<Self> {
        connection
            .prepare_cached("INSERT INTO segment(first, docs, done) VALUES(?1, ?2, 0)")?
            .execute(params![first, docs])?;
        let id = connection.last_insert_rowid();
        let table = Segment::table(id);
        connection.execute_batch(&format!("CREATE TABLE {table}(token INTEGER PRIMARY KEY, bitmap BLOB NOT NULL)"))?;
        let mut all: RoaringBitmap = (first..first.saturating_add(docs)).collect();
        all &= dead;
        Ok(Self { id, first, source, replaces, dead: all })
    }

    /// Begins to write what is pending, without the texts that are `dead`.
    pub fn pending(connection: &Connection, pending: &Pending, dead: &RoaringBitmap) -> rusqlite::Result<Self> {
        let mut tokens: Vec<Token> = pending.tokens.keys().copied().collect();
        // The order of the table, whose keys have a sign.
        tokens.sort_unstable_by_key(|token| std::cmp::Reverse(token.cast_signed()));
        Self::begin(connection, (pending.first, pending.docs), Source::Pending(tokens), Vec::new(), dead)
    }

    /// Begins to join segments where there are many of about one size next to each other, without the texts that are `dead`.
    pub fn joined(connection: &Connection, dead: &RoaringBitmap) -> rusqlite::Result<Option<Self>> {
        let segments = segments(connection)?;
        let run = segments.chunk_by(|a, b| a.level() == b.level()).find(|run| run.len() >= FAN_IN);
        let Some(run) = run.map(|run| run[..FAN_IN].to_vec()) else { return Ok(None) };
        let first = run.first().map_or(0, |segment| segment.first);
        let docs = run.last().map_or(0, |last| last.first + last.docs) - first;
        Self::begin(connection, (first, docs), Source::Segments(Some(i64::MIN.cast_unsigned())), run, dead).map(Some)
    }

    /// The texts that it left out: no segment has any of their tokens once it is in use.
    pub fn left_out(&self) -> &RoaringBitmap {
        &self.dead
    }

    /// Writes the next slice and says whether all is written. `pending` is what it was begun with.
    pub fn slice(&mut self, connection: &Connection, pending: &Pending) -> rusqlite::Result<bool> {
        let dead = &self.dead;
        let sql = format!("INSERT INTO {}(token, bitmap) VALUES(?1, ?2)", Segment::table(self.id));
        let mut insert = connection.prepare(&sql)?;
        let mut bytes = Vec::new();
        let mut put = |token: Token, mut bitmap: RoaringBitmap| -> rusqlite::Result<()> {
            bitmap -= dead;
            if bitmap.is_empty() {
                return Ok(());
            }
            bytes.clear();
            bitmap.serialize_into(&mut bytes).map_err(damaged)?;
            insert.execute(params![token.cast_signed(), bytes]).map(drop)
        };
        match &mut self.source {
            Source::Pending(tokens) => {
                for token in tokens.split_off(tokens.len().saturating_sub(SLICE)).into_iter().rev() {
                    let docs = pending.tokens.get(&token).map(Vec::as_slice).unwrap_or_default();
                    put(token, docs.iter().map(|doc| self.first + doc).collect())?;
                }
                Ok(tokens.is_empty())
            }
            Source::Segments(next) => {
                let Some(from) = *next else { return Ok(true) };
                // By token, so that each is written once; SQLite merges the tables, which are in this order.
                let selects: Vec<String> = self
                    .replaces
                    .iter()
                    .map(|segment| {
                        format!("SELECT token, bitmap FROM {} WHERE token >= ?1", Segment::table(segment.id))
                    })
                    .collect();
                let mut statement = connection.prepare(&format!("{} ORDER BY token", selects.join(" UNION ALL ")))?;
                let mut rows = statement.query([from.cast_signed()])?;
                let mut current: Option<(Token, RoaringBitmap)> = None;
                let mut written = 0;
                *next = None;
                while let Some(row) = rows.next()? {
                    let token = row.get::<_, i64>(0)?.cast_unsigned();
                    let blob = row.get_ref(1)?.as_blob()?;
                    let bitmap = RoaringBitmap::deserialize_unchecked_from(blob).map_err(damaged)?;
                    match &mut current {
                        Some((before, all)) if *before == token => *all |= bitmap,
                        _ => {
                            if let Some((before, all)) = current.take() {
                                put(before, all)?;
                                written += 1;
                                if written == SLICE {
                                    *next = Some(token);
                                    break;
                                }
                            }
                            current = Some((token, bitmap));
                        }
                    }
                }
                if let Some((token, all)) = current {
                    put(token, all)?;
                }
                Ok(next.is_none())
            }
        }
    }

    /// Throws away what was written of it.
    pub fn abandon(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute("DELETE FROM segment WHERE id = ?1", [self.id])?;
        connection.execute_batch(&format!("DROP TABLE IF EXISTS {}", Segment::table(self.id)))
    }

    /// Takes the segment into use and throws away those that it replaces.
    pub fn finish(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute("UPDATE segment SET done = 1 WHERE id = ?1", [self.id])?;
        for segment in &self.replaces {
            connection.execute("DELETE FROM segment WHERE id = ?1", [segment.id])?;
            connection.execute_batch(&format!("DROP TABLE {}", Segment::table(segment.id)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE segment(id INTEGER PRIMARY KEY AUTOINCREMENT, first INTEGER NOT NULL, docs INTEGER NOT NULL,
                 done INTEGER NOT NULL)",
            )
            .unwrap();
        connection
    }

    fn write(connection: &Connection, mut writing: Writing, pending: &Pending) {
        while !writing.slice(connection, pending).unwrap() {}
        writing.finish(connection).unwrap();
    }

    fn find(connection: &Connection, tokens: &[Token]) -> Vec<Doc> {
        let segments = segments(connection).unwrap();
        let lookup = Lookup::All(tokens.to_vec());
        segments.iter().flat_map(|segment| super::find(connection, *segment, &lookup).unwrap()).collect()
    }

    #[test]
    fn what_is_pending_is_found_before_and_after_it_is_written() {
        let connection = database();
        let mut pending = Pending::new(100);
        for tokens in [[7, 8, 7], [8, 9, 9], [7, u64::MAX, 8]] {
            pending.add(|each| tokens.into_iter().for_each(each));
        }
        assert_eq!(pending.find(&Lookup::All(vec![7, 8])).iter().collect::<Vec<_>>(), [100, 102]);
        assert!(pending.find(&Lookup::All(vec![7, 5])).is_empty());
        let gone = RoaringBitmap::from([102]);
        write(&connection, Writing::pending(&connection, &pending, &gone).unwrap(), &pending);
        assert_eq!(find(&connection, &[8]), [100, 101]);
        assert_eq!(find(&connection, &[7, 8]), [100]);
        assert_eq!(find(&connection, &[5]), [] as [Doc; 0]);
        let range = Lookup::Range(8, 9);
        assert_eq!(pending.find(&range).iter().collect::<Vec<_>>(), [100, 101, 102]);
        let segment = segments(&connection).unwrap()[0];
        assert_eq!(super::find(&connection, segment, &range).unwrap().iter().collect::<Vec<_>>(), [100, 101]);
    }

    #[test]
    fn segments_of_one_size_are_joined_without_what_is_gone() {
        let connection = database();
        let distinct = 2 * SLICE as u64 + 3;
        let none = RoaringBitmap::new();
        for n in 0..FAN_IN as u32 {
            assert!(Writing::joined(&connection, &none).unwrap().is_none());
            let mut pending = Pending::new(n * 10);
            pending.add(|each| (0..distinct).for_each(each));
            pending.add(|each| each(distinct + u64::from(n)));
            write(&connection, Writing::pending(&connection, &pending, &none).unwrap(), &pending);
        }
        let joined = Writing::joined(&connection, &RoaringBitmap::from([20, 21, 500])).unwrap().unwrap();
        assert_eq!(joined.left_out().iter().collect::<Vec<_>>(), [20, 21]);
        write(&connection, joined, &Pending::default());
        remove_leftovers(&connection).unwrap();
        assert_eq!(segments(&connection).unwrap().len(), 1);
        assert_eq!(find(&connection, &[distinct - 1]), [0, 10, 30, 40, 50, 60, 70]);
        assert_eq!(find(&connection, &[distinct + 3]), [31]);
        assert_eq!(find(&connection, &[distinct + 2]), [] as [Doc; 0]);
        let rows: i64 = connection.query_row("SELECT count(*) FROM postings_9", [], |row| row.get(0)).unwrap();
        assert_eq!(rows.cast_unsigned(), distinct + FAN_IN as u64 - 1);
    }
}
