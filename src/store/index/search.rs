//! Answers lists and searches.
//!
//! A search is worked out in two steps. Tokens give, for each word, the texts that may hold it, and with filters the sessions that
//! may be hits; this touches no file. Then the sessions are gone through in the order of the list, and where tokens alone are not
//! proof enough, the lines of the candidates are read from the session files, until the page is full and the count is known.

use super::database::{self, Location, Number, Place};
use super::memory::{self, Entry, Memory, flags};
use super::{Shared, postings};
use crate::model::query::{Condition, Feature, Filter, Mode, Name, Query, State, Term};
use crate::model::session::{Kind, Match, SessionId, Summary, is_id};
use crate::store::document::Document;
use crate::store::text::{self, Lookup, Needle};
use crate::store::{ListRequest, Listing, Sort, StoreError};
use chrono::{NaiveDate, NaiveTime, TimeDelta};
use roaring::RoaringBitmap;
use rusqlite::{Connection, params};
use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Up to this number hits are counted exactly.
const COUNTED: usize = 1_000;

/// How many of the newest hits are ranked when the best are wanted first.
const RANKED: usize = 2_000;

/// How many messages of a hit are shown.
const SHOWN_MATCHES: usize = 2;

/// How many texts are read at most to count hits beyond the page, where tokens are not proof enough.
const READ_TO_COUNT: usize = 400;

/// How many texts are read for a page at most. Only phrases of frequent words that seldom meet come near it; their page may then be
/// short, and says where the next one goes on.
const MOST_READ: usize = 10_000;

/// How many candidate messages of a session are read for ranking, and to find those that are shown.
const READ_FOR_MATCHES: usize = 40;
const READ_FOR_RANK: usize = 3;

/// The shortest beginning of an id that finds a session: shorter ones are words (`dad`, `bee`).
const SHORTEST_ID_PREFIX: usize = 4;

/// The most bytes of a line that are taken for a message; a longer one is read with its whole file.
const MOST_LINE_BYTES: u32 = 64 * 1024 * 1024;

/// Why a search has no answer.
pub enum Failure {
    /// The index cannot be read.
    Index(rusqlite::Error),
    /// The request contradicts itself.
    Invalid(&'static str),
}

impl Failure {
    pub fn into_store_error(self) -> StoreError {
        match self {
            Failure::Index(error) => StoreError::Unreadable(format!("the index: {error}")),
            Failure::Invalid(text) => StoreError::Invalid(text.to_owned()),
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Index(error)
    }
}

const BAD_CURSOR: Failure = Failure::Invalid("cursor is none that a list in this order gave");

/// One page of a list with the counts.
pub fn list(shared: &Shared, request: &ListRequest) -> Result<Listing, Failure> {
    let mut listing = Listing { index: shared.progress.state(), ..Listing::default() };
    {
        let memory = shared.memory();
        let counts = &memory.counts;
        (listing.total_sessions, listing.total_messages) = (counts.sessions, counts.messages);
        if let Some((monday, today, tomorrow)) = memory::day_and_week(request.now, request.utc_offset_minutes) {
            listing.sessions_today = counts.started_between(today, tomorrow);
            listing.sessions_this_week = counts.started_between(monday, tomorrow);
        }
        listing.filtered_sessions = match request.kind {
            None => counts.listed.iter().sum(),
            Some(Kind::Chat) => counts.listed[0],
            Some(Kind::Voice) => counts.listed[1],
        };
    }
    if request.query.is_empty() {
        browse(shared, request, &mut listing)?;
    } else {
        search(shared, request, &mut listing)?;
    }
    Ok(listing)
}

/// Fills a page with all sessions that are not archived: pinned ones first, then in the wanted order.
fn browse(shared: &Shared, request: &ListRequest, listing: &mut Listing) -> Result<(), Failure> {
    // One more says whether there is another page.
    let wanted = request.limit.saturating_add(1);
    // Named, because SQLite would rather take all files of an area and sort them.
    let by = if request.sort == Sort::Oldest { "oldest" } else { "newest" };
    let (index, kind_column, kind) = match request.kind {
        None => (by.to_owned(), "", 0),
        Some(kind) => (format!("{by}_of_kind"), "kind = ?4 AND", i64::from(kind == Kind::Voice)),
    };
    let after = match (&request.cursor, request.sort) {
        (None, _) => None,
        (Some(cursor), Sort::Oldest) => Some(RowPlace::parse(cursor, 'o').ok_or(BAD_CURSOR)?),
        (Some(cursor), Sort::Newest | Sort::Best) => Some(RowPlace::parse(cursor, 'n').ok_or(BAD_CURSOR)?),
    };
    let rows = shared.database.read(|connection| {
        let mut rows = Vec::new();
        let mut skip = request.offset;
        let mut take = |condition: &str, order: &str, key: i64, id: &str| -> rusqlite::Result<()> {
            let limit = i64::try_from(wanted - rows.len()).unwrap_or(i64::MAX);
            // All parameters are named in each form of the statement. As a number an id may be infinite (9e999).
            let sql = format!(
                "SELECT summary, pinned, updated, started FROM file INDEXED BY {index} WHERE {kind_column} {condition}
                 shown AND area = 0 AND archived = 0 ORDER BY {order} LIMIT ?1 OFFSET ?5 + 0 * ((?2 IS NULL) + length(?3) + ?4)"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let offset = i64::try_from(skip).unwrap_or(i64::MAX);
            let found = statement.query_map(params![limit, key, id, kind, offset], |row| {
                Ok((database::read_summary(row, 0)?, row.get::<_, bool>(1)?, row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
            })?;
            for row in found {
                rows.push(row?);
            }
            skip = 0;
            Ok(())
        };
        match (&after, request.sort) {
            (None, Sort::Oldest) => take("", "started, id", 0, "")?,
            (None, _) => take("", "pinned DESC, updated DESC, id", 0, "")?,
            (Some(place), Sort::Oldest) => {
                take("started >= ?2 AND NOT (started = ?2 AND id <= ?3) AND", "started, id", place.key, &place.id)?;
            }
            (Some(place), _) => {
                let rest = format!(
                    "pinned = {} AND updated <= ?2 AND NOT (updated = ?2 AND id <= ?3) AND",
                    u8::from(place.is_pinned)
                );
                take(&rest, "updated DESC, id", place.key, &place.id)?;
                if place.is_pinned {
                    take("pinned = 0 AND", "updated DESC, id", 0, "")?;
                }
            }
        }
        Ok(rows)
    })?;
    let has_more = rows.len() > request.limit;
    for (summary, is_pinned, updated, started) in rows.into_iter().take(request.limit) {
        let Some(summary) = summary else { continue };
        if has_more {
            let id = summary.session_id.to_string();
            listing.next_cursor = Some(match request.sort {
                Sort::Oldest => RowPlace { is_pinned: false, key: started, id }.cursor('o'),
                Sort::Newest | Sort::Best => RowPlace { is_pinned, key: updated, id }.cursor('n'),
            });
        }
        listing.sessions.push(summary);
    }
    Ok(())
}

/// Where a page of all sessions ended.
struct RowPlace {
    is_pinned: bool,
    key: i64,
    id: String,
}

impl RowPlace {
    fn cursor(&self, order: char) -> String {
        format!("{order}{}.{}.{}", u8::from(self.is_pinned), self.key, self.id)
    }

    fn parse(cursor: &str, order: char) -> Option<Self> {
        let mut parts = cursor.strip_prefix(order)?.split('.');
        let (pinned, key, id) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.to_owned());
        let is_pinned = match pinned {
            "0" => false,
            "1" => true,
            _ => return None,
        };
        (parts.next().is_none() && is_id(&id)).then_some(Self { is_pinned, key, id })
    }
}

/// Where a page of a search ended, and the count that the first page gave.
struct HitPlace {
    key: i64,
    number: Number,
    filtered: u64,
    is_bound: bool,
}

impl HitPlace {
    fn cursor(&self, order: char) -> String {
        format!("{order}{}.{}.{}.{}", self.key, self.number, self.filtered, u8::from(self.is_bound))
    }

    fn parse(cursor: &str, order: char) -> Option<Self> {
        let mut parts = cursor.strip_prefix(order)?.split('.');
        let mut next = || parts.next();
        let place = Self {
            key: next()?.parse().ok()?,
            number: next()?.parse().ok()?,
            filtered: next()?.parse().ok()?,
            is_bound: next()? == "1",
        };
        next().is_none().then_some(place)
    }
}

/// A set of files by number.
#[derive(Clone, Debug, Default)]
struct Files(Vec<u64>);

impl Files {
    fn insert(&mut self, number: Number) {
        let word = number as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    fn contains(&self, number: Number) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}

/// What is looked for, and where it may be.
struct Wanted {
    needle: Needle,
    /// Texts that may hold it.
    docs: RoaringBitmap,
    /// Files that have such a text, or are found by their id.
    files: Files,
    /// Files that are sure hits: they have it as a word of its own, or their id is meant.
    sure: Files,
    /// Whether the texts are sure to hold it.
    is_exact: bool,
}

/// The first step of a search.
struct Candidates {
    terms: Vec<Wanted>,
    without: Vec<Wanted>,
    /// Each with its place in the order: the greatest first.
    heap: BinaryHeap<(i64, Reverse<Number>)>,
}

impl Candidates {
    /// Whether no text has to be read to know the hits.
    fn is_exact(&self) -> bool {
        self.terms.iter().chain(&self.without).all(|wanted| wanted.is_exact)
    }

    /// Whether a candidate is known to be a hit without reading any text.
    fn is_sure(&self, number: Number) -> bool {
        self.terms.iter().all(|wanted| wanted.is_exact || wanted.sure.contains(number))
            && self.without.iter().all(|wanted| wanted.is_exact || !wanted.files.contains(number))
    }
}

/// Decides whether something holds for a file.
type Test = Box<dyn Fn(Number, &Entry) -> bool>;

fn find_candidates(connection: &Connection, memory: &Memory, asked: &Asked<'_>) -> rusqlite::Result<Candidates> {
    let wanted = |terms: &[Term]| -> rusqlite::Result<Vec<Wanted>> {
        let needles = terms.iter().filter_map(|term| Some((term, Needle::new(term)?)));
        needles.map(|(term, needle)| find_texts(connection, memory, term, needle)).collect()
    };
    let (terms, without) = (wanted(&asked.query.terms)?, wanted(&asked.query.without)?);
    let mut conditions: Vec<(bool, Test)> = Vec::new();
    for Filter { is_negated, condition } in &asked.query.filters {
        conditions.push((*is_negated, holds(connection, condition, asked.utc_offset_minutes)?));
    }
    let trashed = if asked.query.is_for_trash() { flags::TRASHED } else { 0 };
    let kind = asked.kind.map(|kind| if kind == Kind::Voice { flags::VOICE } else { 0 });
    let certain: Vec<&Wanted> = without.iter().filter(|wanted| wanted.is_exact).collect();
    let mut found = Vec::new();
    for (number, entry) in memory.entries() {
        let is_candidate = entry.has(flags::SHOWN)
            && entry.flags & flags::TRASHED == trashed
            && kind.is_none_or(|kind| entry.flags & flags::VOICE == kind)
            && terms.iter().all(|wanted| wanted.files.contains(number))
            && !certain.iter().any(|wanted| wanted.files.contains(number))
            && conditions.iter().all(|(is_negated, holds)| holds(number, entry) != *is_negated);
        if is_candidate {
            let key = match asked.sort {
                Sort::Newest | Sort::Best => entry.updated,
                Sort::Oldest => entry.started.saturating_neg(),
            };
            found.push((key, Reverse(number)));
        }
    }
    Ok(Candidates { terms, without, heap: BinaryHeap::from(found) })
}

fn find_texts(connection: &Connection, memory: &Memory, term: &Term, needle: Needle) -> rusqlite::Result<Wanted> {
    let find = |lookup: &Lookup| -> rusqlite::Result<RoaringBitmap> {
        let mut docs = memory.pending.find(lookup);
        if let Some(frozen) = &memory.frozen {
            docs |= frozen.find(lookup);
        }
        for segment in postings::segments(connection)? {
            docs |= postings::find(connection, segment, lookup)?;
        }
        Ok(docs - &memory.dead)
    };
    let files_of = |docs: &RoaringBitmap| {
        let mut files = Files::default();
        for owner in docs.iter().map(|doc| memory.owner(doc)).filter(|owner| *owner != Number::MAX) {
            files.insert(owner);
        }
        files
    };
    let is_exact = needle.is_exact();
    let docs = find(&needle.lookup())?;
    let mut files = files_of(&docs);
    let mut sure = match needle.word() {
        Some(word) if !is_exact => files_of(&find(&Lookup::All(vec![word]))?),
        _ => Files::default(),
    };
    if !term.is_phrase && is_id(&term.text) {
        let is_prefix = term.text.len() >= SHORTEST_ID_PREFIX;
        let sql = if is_prefix {
            "SELECT number FROM file WHERE id >= ?1 AND id < ?1 || '~'"
        } else {
            "SELECT number FROM file WHERE id = ?1"
        };
        let mut statement = connection.prepare_cached(sql)?;
        for number in statement.query_map([&term.text], |row| row.get(0))? {
            let number = number?;
            sure.insert(number);
            files.insert(number);
        }
    }
    Ok(Wanted { needle, docs, files, sure, is_exact })
}

/// What decides whether a condition holds for a file.
fn holds(connection: &Connection, condition: &Condition, utc_offset_minutes: i32) -> rusqlite::Result<Test> {
    let flag = |flag: u16| -> Test { Box::new(move |_, entry| entry.has(flag)) };
    Ok(match condition {
        Condition::Kind(Kind::Voice) => flag(flags::VOICE),
        Condition::Kind(Kind::Chat) => Box::new(|_, entry| !entry.has(flags::VOICE)),
        Condition::Mode(Mode::Commander) => flag(flags::COMMANDER),
        Condition::Mode(Mode::WebSearch) => flag(flags::WEB),
        Condition::Is(State::Pinned) => flag(flags::PINNED),
        Condition::Is(State::Archived) => flag(flags::ARCHIVED),
        Condition::Is(State::Trashed) => flag(flags::TRASHED),
        Condition::Has(Feature::Error) => flag(flags::ERROR),
        Condition::Has(Feature::Tool) => flag(flags::TOOL),
        Condition::Tool(name) => facet(connection, memory::FACET_TOOL, name)?,
        Condition::Tag(name) => facet(connection, memory::FACET_TAG, name)?,
        Condition::User(name) => facet(connection, memory::FACET_USER, name)?,
        Condition::Before(day) => {
            let begin = begin_of(*day, utc_offset_minutes);
            Box::new(move |_, entry| entry.started < begin)
        }
        Condition::After(day) => {
            let begin = begin_of(*day, utc_offset_minutes);
            Box::new(move |_, entry| entry.updated >= begin)
        }
    })
}

/// When a day begins in a zone, in microseconds since 1970.
fn begin_of(day: NaiveDate, utc_offset_minutes: i32) -> i64 {
    let midnight = day.and_time(NaiveTime::MIN).and_utc();
    let offset = TimeDelta::minutes(i64::from(utc_offset_minutes));
    midnight.checked_sub_signed(offset).unwrap_or(midnight).timestamp_micros()
}

fn facet(connection: &Connection, facet: i64, name: &Name) -> rusqlite::Result<Test> {
    let value = text::fold(&name.text);
    let end = if name.is_whole { value.clone() } else { format!("{value}\u{10FFFF}") };
    let mut statement =
        connection.prepare_cached("SELECT number FROM facet WHERE name = ?1 AND value >= ?2 AND value <= ?3")?;
    let mut files = Files::default();
    for number in statement.query_map(params![facet, value, end], |row| row.get(0))? {
        files.insert(number?);
    }
    Ok(Box::new(move |number, _| files.contains(number)))
}

/// What a search asks for.
struct Asked<'a> {
    query: &'a Query,
    kind: Option<Kind>,
    sort: Sort,
    utc_offset_minutes: i32,
}

fn search(shared: &Shared, request: &ListRequest, listing: &mut Listing) -> Result<(), Failure> {
    let asked = Asked {
        query: &request.query,
        kind: request.kind,
        sort: request.sort,
        utc_offset_minutes: request.utc_offset_minutes,
    };
    if request.sort == Sort::Best {
        return search_best(shared, request, &asked, listing);
    }
    let order = if request.sort == Sort::Oldest { 't' } else { 's' };
    let after = match &request.cursor {
        None => None,
        Some(cursor) => Some(HitPlace::parse(cursor, order).ok_or(BAD_CURSOR)?),
    };
    shared.database.read_snapshot(|connection| {
        let mut candidates = find_candidates(connection, &shared.memory(), &asked)?;
        let total = candidates.heap.len();
        let is_exact = candidates.is_exact();
        let reader = Reader::new(shared, connection);
        let (mut passed, mut count) = (0, 0);
        // The last session that is shown, and the last one that was looked at where that had to end early.
        let (mut shown, mut looked_at) = (None, None);
        let mut has_more = false;
        let mut read_for_page = 0;
        while let Some((key, Reverse(number))) = candidates.heap.pop() {
            if after.as_ref().is_some_and(|after| (key, Reverse(number)) >= (after.key, Reverse(after.number))) {
                continue;
            }
            let is_page_full = listing.sessions.len() == request.limit;
            if is_page_full && has_more && (is_exact || after.is_some() || count >= COUNTED) {
                candidates.heap.push((key, Reverse(number)));
                break;
            }
            let mut session = None;
            if !candidates.is_sure(number) {
                let most_read = if is_page_full && has_more { read_for_page + READ_TO_COUNT } else { MOST_READ };
                if reader.read.get() >= most_read {
                    candidates.heap.push((key, Reverse(number)));
                    has_more = true;
                    break;
                }
                let Some(mut found) = reader.session(number)? else { continue };
                looked_at = Some((key, number));
                if !found.is_hit(&candidates) {
                    continue;
                }
                session = Some(found);
            }
            count += 1;
            if passed < request.offset {
                passed += 1;
            } else if is_page_full {
                has_more = true;
            } else {
                let found = match session {
                    Some(session) => Some(session),
                    None => reader.session(number)?,
                };
                let Some(mut session) = found else { continue };
                let matches = session.matches(&candidates.terms);
                let Some(mut summary) = session.summary()? else { continue };
                summary.matches = matches;
                listing.sessions.push(summary);
                shown = Some((key, number));
                read_for_page = reader.read.get();
            }
        }
        (listing.filtered_sessions, listing.filtered_is_lower_bound) = match &after {
            Some(after) => (after.filtered, after.is_bound),
            None if is_exact => (total as u64, false),
            None => (count as u64, !candidates.heap.is_empty()),
        };
        // A page that is not full goes on where the looking ended.
        let last = if listing.sessions.len() == request.limit { shown } else { looked_at.or(shown) };
        if let (Some((key, number)), true) = (last, has_more) {
            let (filtered, is_bound) = (listing.filtered_sessions, listing.filtered_is_lower_bound);
            listing.next_cursor = Some(HitPlace { key, number, filtered, is_bound }.cursor(order));
        }
        Ok(())
    })?;
    Ok(())
}

/// Fills a page with the best of the newest hits.
fn search_best(
    shared: &Shared,
    request: &ListRequest,
    asked: &Asked<'_>,
    listing: &mut Listing,
) -> Result<(), Failure> {
    let start = match &request.cursor {
        None => 0,
        Some(cursor) => cursor.strip_prefix('b').and_then(|start| start.parse().ok()).ok_or(BAD_CURSOR)?,
    };
    let start: usize = request.offset.saturating_add(start);
    shared.database.read_snapshot(|connection| {
        let (mut candidates, present) = {
            let memory = shared.memory();
            (find_candidates(connection, &memory, asked)?, memory.counts.sessions as f64)
        };
        let total = candidates.heap.len();
        let is_exact = candidates.is_exact();
        let rarity: Vec<f64> =
            candidates.terms.iter().map(|wanted| (1.0 + present / (1.0 + wanted.files.len() as f64)).ln()).collect();
        let reader = Reader::new(shared, connection);
        let mut ranked: Vec<(f64, i64, Number)> = Vec::new();
        while ranked.len() < RANKED
            && reader.read.get() < MOST_READ
            && let Some((key, Reverse(number))) = candidates.heap.pop()
        {
            let Some(mut session) = reader.session(number)? else { continue };
            if candidates.is_sure(number) || session.is_hit(&candidates) {
                ranked.push((session.score(&candidates.terms, &rarity), key, number));
            }
        }
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2)));
        for (_, _, number) in ranked.iter().skip(start).take(request.limit) {
            let Some(mut session) = reader.session(*number)? else { continue };
            let matches = session.matches(&candidates.terms);
            let Some(mut summary) = session.summary()? else { continue };
            summary.matches = matches;
            listing.sessions.push(summary);
        }
        let end = start.saturating_add(request.limit);
        if end < ranked.len() {
            listing.next_cursor = Some(format!("b{end}"));
        }
        listing.filtered_sessions = if is_exact { total } else { ranked.len() } as u64;
        listing.filtered_is_lower_bound = !is_exact && !candidates.heap.is_empty();
        Ok(())
    })?;
    Ok(())
}

/// The ids of all hits, newest first.
pub fn find(
    shared: &Shared,
    query: &Query,
    kind: Option<Kind>,
    utc_offset_minutes: i32,
) -> Result<Vec<SessionId>, Failure> {
    let asked = Asked { query, kind, sort: Sort::Newest, utc_offset_minutes };
    Ok(shared.database.read_snapshot(|connection| {
        let mut candidates = find_candidates(connection, &shared.memory(), &asked)?;
        let reader = Reader::new(shared, connection);
        let mut numbers = Vec::with_capacity(candidates.heap.len());
        while let Some((_, Reverse(number))) = candidates.heap.pop() {
            let is_hit = candidates.is_sure(number)
                || match reader.session(number)? {
                    Some(mut session) => session.is_hit(&candidates),
                    None => false,
                };
            if is_hit {
                numbers.push(number);
            }
        }
        database::ids(connection, &numbers)
    })?)
}

/// Reads texts of sessions.
struct Reader<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    /// How many texts were read.
    read: Cell<usize>,
}

/// A session whose texts are read one by one.
struct Reading<'a> {
    reader: &'a Reader<'a>,
    number: Number,
    location: Location,
    places: Vec<Place>,
    file: Option<File>,
    whole: Option<Document>,
    /// What was read, by position, as it is and folded.
    texts: HashMap<usize, (String, String)>,
}

impl<'a> Reader<'a> {
    fn new(shared: &'a Shared, connection: &'a Connection) -> Self {
        Self { shared, connection, read: Cell::new(0) }
    }

    /// A session; `None` if nothing is known of it any more.
    fn session(&'a self, number: Number) -> rusqlite::Result<Option<Reading<'a>>> {
        let Some(location) = database::location(self.connection, number)? else { return Ok(None) };
        let fresh = self.shared.memory().fresh.get(&number).map(|texts| texts.places.clone());
        let places = match fresh {
            Some(places) => places,
            None => database::texts(self.connection, number)?.unwrap_or_default().places,
        };
        let texts = HashMap::new();
        Ok(Some(Reading { reader: self, number, location, places, file: None, whole: None, texts }))
    }
}

impl Reading<'_> {
    /// Its row in the list.
    fn summary(&self) -> rusqlite::Result<Option<Summary>> {
        database::summary(self.reader.connection, self.number)
    }

    /// Whether it holds what is wanted and nothing that is not.
    fn is_hit(&mut self, candidates: &Candidates) -> bool {
        candidates.terms.iter().all(|wanted| self.holds(wanted))
            && !candidates.without.iter().any(|wanted| self.holds(wanted))
    }

    fn holds(&mut self, wanted: &Wanted) -> bool {
        if !wanted.files.contains(self.number) {
            return false;
        }
        if wanted.is_exact || wanted.sure.contains(self.number) {
            return true;
        }
        // The shortest first: one that holds it is enough.
        let mut positions: Vec<(u32, usize)> = (0..)
            .zip(&self.places)
            .filter(|(_, place)| wanted.docs.contains(place.doc))
            .map(|(position, place)| (place.length, position))
            .collect();
        positions.sort_unstable();
        positions
            .into_iter()
            .any(|(_, position)| self.text(position).is_some_and(|(_, folded)| wanted.needle.find(folded).is_some()))
    }

    /// The messages in which something is found.
    fn matches(&mut self, terms: &[Wanted]) -> Vec<Match> {
        let needles: Vec<Needle> = terms.iter().map(|wanted| wanted.needle.clone()).collect();
        let mut matches: Vec<Match> = Vec::new();
        for position in self.candidates(terms).into_iter().filter(|position| *position > 0).take(READ_FOR_MATCHES) {
            let Some(id) = self.message_id(position) else { continue };
            let Some((text, folded)) = self.text(position) else { continue };
            matches.extend(text::excerpt(&id, text, folded, &needles));
            if matches.len() == SHOWN_MATCHES {
                break;
            }
        }
        matches
    }

    /// How well it fits: often found and rare words count most, whole words more than parts, a hit in the title more than any.
    fn score(&mut self, terms: &[Wanted], rarity: &[f64]) -> f64 {
        let mut weights = vec![0.0; terms.len()];
        let mut together: f64 = 1.0;
        for position in self.candidates(terms).into_iter().take(READ_FOR_RANK) {
            let Some((_, folded)) = self.text(position) else { continue };
            let mut found = 0;
            for (wanted, weight) in terms.iter().zip(&mut weights) {
                let (all, whole) = wanted.needle.count(folded);
                let parts = (all - whole) as f64;
                *weight += (whole as f64 + 0.3 * parts) * if position == 0 { 4.0 } else { 1.0 };
                found += usize::from(all > 0);
            }
            if found > 1 && found == terms.len() {
                together = 1.5;
            }
        }
        let sum: f64 = weights.iter().zip(rarity).map(|(weight, rarity)| rarity * weight / (weight + 1.5)).sum();
        sum * together
    }

    /// The positions of the texts that may hold something that is wanted; those first that may hold most of it.
    fn candidates(&self, terms: &[Wanted]) -> Vec<usize> {
        let mut positions: Vec<(usize, usize)> = Vec::new();
        for (position, place) in self.places.iter().enumerate() {
            let count = terms.iter().filter(|wanted| wanted.docs.contains(place.doc)).count();
            if count > 0 {
                positions.push((terms.len() - count, position));
            }
        }
        positions.sort_unstable();
        positions.into_iter().map(|(_, position)| position).collect()
    }

    /// A text, as it is and folded. `None` if it cannot be read now.
    fn text(&mut self, position: usize) -> Option<&(String, String)> {
        if !self.texts.contains_key(&position) {
            self.reader.read.set(self.reader.read.get() + 1);
            let text = match position {
                0 => text::of_head(&self.summary().ok()??),
                _ => match self.line(position).and_then(|line| text::of_line(&line)) {
                    Some(text) => text,
                    None => text::of_message(self.whole()?.session().messages.get(position - 1)?).into_owned(),
                },
            };
            let folded = text::fold(&text);
            self.texts.insert(position, (text, folded));
        }
        self.texts.get(&position)
    }

    fn message_id(&mut self, position: usize) -> Option<String> {
        match self.line(position).and_then(|line| text::id_of_line(&line)) {
            Some(id) => Some(id),
            None => Some(self.whole()?.session().messages.get(position - 1)?.id.clone()),
        }
    }

    /// The line of a message, where it has one.
    fn line(&mut self, position: usize) -> Option<String> {
        let place = *self.places.get(position)?;
        if !(1..=MOST_LINE_BYTES).contains(&place.length) || self.whole.is_some() {
            return None;
        }
        if self.file.is_none() {
            self.file = self.reader.shared.disk.open_to_read(&self.path()).ok();
        }
        let mut bytes = vec![0; place.length as usize];
        self.file.as_ref()?.read_exact_at(&mut bytes, place.offset).ok()?;
        String::from_utf8(bytes).ok()
    }

    fn path(&self) -> std::path::PathBuf {
        let Location { area, day, id } = &self.location;
        self.reader.shared.layout.session(*area, *day, id)
    }

    fn whole(&mut self) -> Option<&Document> {
        if self.whole.is_none() {
            let document = Document::open(&self.reader.shared.disk, &self.path(), &self.location.id);
            self.whole = document.map_err(|error| tracing::warn!(%error, "a session file cannot be searched")).ok();
        }
        self.whole.as_ref()
    }
}

/// What of the index does not agree with itself.
pub fn check(shared: &Shared) -> rusqlite::Result<Vec<String>> {
    let mut complaints = Vec::new();
    shared.database.read_snapshot(|connection| {
        let integrity: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if integrity != "ok" {
            complaints.push(format!("the file of the index is damaged: {integrity}"));
        }
        let memory = shared.memory();
        let mut seen = HashSet::new();
        let mut statement = connection.prepare("SELECT number, id FROM file WHERE summary IS NOT NULL")?;
        let files = statement.query_map([], |row| Ok((row.get::<_, Number>(0)?, row.get::<_, String>(1)?)))?;
        for file in files {
            let (number, id) = file?;
            let places = match memory.fresh.get(&number) {
                Some(texts) => texts.places.clone(),
                None => database::texts(connection, number)?.unwrap_or_default().places,
            };
            if places.is_empty() {
                complaints.push(format!("the texts of session {id} are not indexed"));
            }
            for place in places {
                if memory.owner(place.doc) != number || memory.dead.contains(place.doc) || !seen.insert(place.doc) {
                    complaints.push(format!("a text of session {id} is indexed wrongly"));
                    break;
                }
            }
        }
        Ok(())
    })?;
    Ok(complaints)
}
