//! Answers lists and searches.
//!
//! A search is worked out in two steps. Tokens give, for each word, the texts that may hold it, and with filters the sessions that
//! may be hits; this touches no file. Then the sessions are gone through in the order of the list, and where tokens alone are not
//! proof enough, the lines of the candidates are read from the session files, until the page is full and the count is known.

mod reading;

use super::database::{self, Number};
use super::memory::{self, Entry, Fresh, Memory, flags};
use super::{Shared, postings, worker};
use crate::model::query::{Condition, Feature, Filter, Mode, Name, Query, State, Term};
use crate::model::session::{Kind, SessionId, Summary, is_id};
use crate::store::text::{self, Lookup, Needle};
use crate::store::{ListRequest, Listing, Sort, StoreError};
use chrono::{NaiveDate, NaiveTime, TimeDelta};
use reading::Reader;
use roaring::RoaringBitmap;
use rusqlite::{Connection, params};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

/// Up to this number hits are counted by reading texts.
const COUNTED: usize = 1_000;

/// How many of the newest hits are ranked when the best are wanted first.
const RANKED: usize = 2_000;

/// How many candidates are read in one go: for a page, at most and at least, and to count.
const READ_AT_ONCE: usize = 128;
const FEWEST_AT_ONCE: usize = 16;
const READ_AT_ONCE_TO_COUNT: usize = 32;

/// How many texts are read at most to count hits beyond the page, where tokens are not proof enough.
const READ_TO_COUNT: usize = 100;

/// How many texts are read for a page at most. Only phrases of frequent words that seldom meet come near it; their page may then be
/// short, and says where the next one goes on.
const MOST_READ: usize = 10_000;

/// The shortest beginning of an id that finds a session: shorter ones are words (`dad`, `bee`).
const SHORTEST_ID_PREFIX: usize = 4;

/// Why a search has no answer.
pub enum Failure {
    /// The index cannot be read.
    Index(rusqlite::Error),
    /// The request contradicts itself, or asks for nothing that could be found.
    Invalid(String),
}

impl Failure {
    pub fn into_store_error(self) -> StoreError {
        match self {
            Failure::Index(error) => StoreError::IndexUnreadable(error.to_string()),
            Failure::Invalid(text) => StoreError::Invalid(text),
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Index(error)
    }
}

fn bad_cursor() -> Failure {
    Failure::Invalid("cursor is none that a list in this order gave".to_owned())
}

/// Refuses a query of which something is nothing once it is folded, an accent alone for example: it would hold for every session.
fn check_query(query: &Query) -> Result<(), Failure> {
    let names = query.filters.iter().filter_map(|filter| match &filter.condition {
        Condition::Tool(name) | Condition::Tag(name) | Condition::User(name) => Some(&name.text),
        _ => None,
    });
    let mut texts = query.terms.iter().chain(&query.without).map(|term| &term.text).chain(names);
    match texts.find(|text| text::fold(text).is_empty()) {
        Some(text) => {
            Err(Failure::Invalid(format!("There is no letter or sign in “{text}” that could be looked for.")))
        }
        None => Ok(()),
    }
}

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
    check_query(&request.query)?;
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
        (Some(cursor), Sort::Oldest) => Some(RowPlace::parse(cursor, 'o').ok_or_else(bad_cursor)?),
        (Some(cursor), Sort::Newest | Sort::Best) => Some(RowPlace::parse(cursor, 'n').ok_or_else(bad_cursor)?),
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

/// Where a page of the best hits ended: after how many, and after which session.
struct BestPlace {
    position: usize,
    last: Number,
}

impl BestPlace {
    fn cursor(&self) -> String {
        format!("b{}.{}", self.position, self.last)
    }

    fn parse(cursor: &str) -> Option<Self> {
        let (position, last) = cursor.strip_prefix('b')?.split_once('.')?;
        Some(Self { position: position.parse().ok()?, last: last.parse().ok()? })
    }
}

/// A set of files by number.
#[derive(Clone, Debug)]
struct Files(Vec<u64>);

impl Files {
    /// None of the files that are known. One that is not known cannot be inserted, and is no candidate.
    fn none_of(memory: &Memory) -> Self {
        Self(vec![0; memory.numbers().div_ceil(64)])
    }

    fn insert(&mut self, number: Number) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word |= 1 << (number % 64);
        }
    }

    fn contains(&self, number: Number) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Leaves those that are in both.
    fn keep(&mut self, others: &Files) {
        self.0.iter_mut().zip(&others.0).for_each(|(word, other)| *word &= other);
    }

    fn remove(&mut self, others: &Files) {
        self.0.iter_mut().zip(&others.0).for_each(|(word, other)| *word &= !other);
    }

    fn iter(&self) -> impl Iterator<Item = Number> + '_ {
        (0..).step_by(64).zip(&self.0).flat_map(|(first, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(first + bit)
            })
        })
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
    /// What the file of the index does not tell of their texts yet, when they were found.
    fresh: Arc<Fresh>,
    /// Each by its place in the order: the greatest first.
    heap: BinaryHeap<InOrder>,
}

/// A candidate's place in the order of the list, and its number.
type InOrder = (i64, Reverse<Number>);

/// Which candidates are looked at in one go.
struct Step {
    /// How many.
    most: usize,
    /// How many of which something has to be read.
    most_read: usize,
    /// Whether the hits among them are shown.
    is_for_page: bool,
}

/// A candidate of which is known whether it is a hit.
struct Decided {
    place: InOrder,
    is_hit: bool,
    /// Its row in the list, where that is wanted.
    row: Option<Summary>,
}

impl Candidates {
    /// Whether a candidate is known to be a hit without reading any text.
    fn is_sure(&self, number: Number) -> bool {
        self.terms.iter().all(|wanted| wanted.is_exact || wanted.sure.contains(number))
            && self.without.iter().all(|wanted| wanted.is_exact || !wanted.files.contains(number))
    }

    /// Leaves out what stood on earlier pages.
    fn skip_to(&mut self, after: &HitPlace) {
        let last = (after.key, Reverse(after.number));
        self.heap.retain(|place| *place < last);
    }

    /// Takes out those that are known to be hits, and counts them.
    fn take_sure(&mut self) -> usize {
        let mut heap = std::mem::take(&mut self.heap);
        let before = heap.len();
        heap.retain(|place| !self.is_sure(place.1.0));
        self.heap = heap;
        before - self.heap.len()
    }

    /// Takes the next ones.
    fn take(&mut self, most: usize) -> Vec<InOrder> {
        std::iter::from_fn(|| self.heap.pop()).take(most).collect()
    }

    /// Takes the next ones and decides whether they are hits; texts are read only where that has to be.
    fn read_next(&mut self, reader: &Reader<'_>, step: &Step) -> rusqlite::Result<Vec<Decided>> {
        let mut found = Vec::new();
        let mut to_read = Vec::new();
        while found.len() < step.most && to_read.len() < step.most_read {
            let Some(place) = self.heap.pop() else { break };
            let is_hit = self.is_sure(place.1.0);
            if step.is_for_page || !is_hit {
                to_read.extend(reader.session(place.1.0)?.map(|session| (found.len(), session, None)));
            }
            found.push(Decided { place, is_hit, row: None });
        }
        reading::for_each(&mut to_read, |(position, session, read)| {
            let is_hit = found[*position].is_hit || session.is_hit(self);
            *read = Some((is_hit, if is_hit && step.is_for_page { session.row(&self.terms) } else { None }));
            session.let_go();
        });
        for (position, _, read) in to_read {
            if let Some((is_hit, row)) = read {
                (found[position].is_hit, found[position].row) = (is_hit, row);
            }
        }
        Ok(found)
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
        conditions.push((*is_negated, holds(connection, memory, condition, asked.utc_offset_minutes)?));
    }
    let trashed = if asked.query.is_for_trash() { flags::TRASHED } else { 0 };
    let kind = asked.kind.map(|kind| if kind == Kind::Voice { flags::VOICE } else { 0 });
    let mut found = Vec::new();
    let mut consider = |number: Number, entry: &Entry| {
        let is_candidate = entry.has(flags::SHOWN)
            && entry.flags & flags::TRASHED == trashed
            && kind.is_none_or(|kind| entry.flags & flags::VOICE == kind)
            && conditions.iter().all(|(is_negated, holds)| holds(number, entry) != *is_negated);
        if is_candidate {
            let key = match asked.sort {
                Sort::Newest | Sort::Best => entry.updated,
                Sort::Oldest => entry.started.saturating_neg(),
            };
            found.push((key, Reverse(number)));
        }
    };
    let certain = without.iter().filter(|wanted| wanted.is_exact).map(|wanted| &wanted.files);
    match terms.split_first() {
        Some((first, others)) => {
            let mut files = first.files.clone();
            others.iter().for_each(|wanted| files.keep(&wanted.files));
            certain.for_each(|without| files.remove(without));
            files.iter().for_each(|number| consider(number, &memory.entry(number)));
        }
        None => {
            let mut without = Files::none_of(memory);
            certain.for_each(|files| files.iter().for_each(|number| without.insert(number)));
            let entries = memory.entries().filter(|(number, _)| !without.contains(*number));
            entries.for_each(|(number, entry)| consider(number, entry));
        }
    }
    let fresh = Arc::clone(&memory.fresh);
    Ok(Candidates { terms, without, fresh, heap: BinaryHeap::from(found) })
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
    let add_files_of = |docs: &RoaringBitmap, files: &mut Files| {
        docs.iter().for_each(|doc| files.insert(memory.owner(doc)));
    };
    let is_exact = needle.is_exact();
    let docs = find(&needle.lookup())?;
    let mut sure = Files::none_of(memory);
    let mut files = sure.clone();
    match needle.word() {
        Some(word) if !is_exact => {
            // What has the word has all of its letters: of those texts the sessions are known already.
            let with_word = find(&Lookup::All(vec![word]))?;
            add_files_of(&with_word, &mut sure);
            files = sure.clone();
            add_files_of(&(&docs - &with_word), &mut files);
        }
        _ => add_files_of(&docs, &mut files),
    }
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
fn holds(
    connection: &Connection,
    memory: &Memory,
    condition: &Condition,
    utc_offset_minutes: i32,
) -> rusqlite::Result<Test> {
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
        Condition::Tool(name) => facet(connection, memory, memory::FACET_TOOL, name)?,
        Condition::Tag(name) => facet(connection, memory, memory::FACET_TAG, name)?,
        Condition::User(name) => facet(connection, memory, memory::FACET_USER, name)?,
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

fn facet(connection: &Connection, memory: &Memory, facet: i64, name: &Name) -> rusqlite::Result<Test> {
    let value = text::fold(&name.text);
    let end = if name.is_whole { value.clone() } else { format!("{value}\u{10FFFF}") };
    let mut statement =
        connection.prepare_cached("SELECT number FROM facet WHERE name = ?1 AND value >= ?2 AND value <= ?3")?;
    let mut files = Files::none_of(memory);
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
        Some(cursor) => Some(HitPlace::parse(cursor, order).ok_or_else(bad_cursor)?),
    };
    shared.database.read_snapshot(|connection| {
        let mut candidates = find_candidates(connection, &shared.memory(), &asked)?;
        let total = candidates.heap.len();
        if let Some(after) = &after {
            candidates.skip_to(after);
        }
        let reader = Reader::new(shared, connection, &candidates);
        let (mut passed, mut count) = (0, 0);
        // The last session that is shown, and the last one that was looked at for the page.
        let (mut shown, mut looked_at) = (None, None);
        let mut has_more = false;
        while listing.sessions.len() < request.limit {
            if reader.read() >= MOST_READ && candidates.heap.peek().is_some_and(|next| !candidates.is_sure(next.1.0)) {
                has_more = true;
                break;
            }
            let step = match request.offset - passed {
                0 => {
                    let most = (request.limit - listing.sessions.len()).clamp(FEWEST_AT_ONCE, READ_AT_ONCE);
                    Step { most, most_read: most, is_for_page: true }
                }
                to_pass => Step { most: to_pass, most_read: READ_AT_ONCE, is_for_page: false },
            };
            let found = candidates.read_next(&reader, &step)?;
            if found.is_empty() {
                break;
            }
            for Decided { place, is_hit, row } in found {
                let is_page_full = listing.sessions.len() == request.limit;
                if !is_page_full {
                    looked_at = Some(place);
                }
                if !is_hit {
                    continue;
                }
                count += 1;
                if passed < request.offset {
                    passed += 1;
                } else if is_page_full {
                    has_more = true;
                } else if let Some(row) = row {
                    listing.sessions.push(row);
                    shown = Some(place);
                }
            }
        }
        let read_for_page = reader.read();
        let sure = candidates.take_sure();
        count += sure;
        has_more |= sure > 0;
        // Whether there is another page has to be known; the count only as far as it is cheap.
        while !candidates.heap.is_empty()
            && (!has_more || (after.is_none() && count < COUNTED && reader.read() < read_for_page + READ_TO_COUNT))
        {
            if reader.read() >= MOST_READ {
                has_more = true;
                break;
            }
            let step = Step { most: READ_AT_ONCE_TO_COUNT, most_read: READ_AT_ONCE_TO_COUNT, is_for_page: false };
            let hits = candidates.read_next(&reader, &step)?.iter().filter(|found| found.is_hit).count();
            count += hits;
            has_more |= hits > 0;
        }
        tracing::debug!(candidates = total, texts = reader.read(), for_page = read_for_page, "searched");
        (listing.filtered_sessions, listing.filtered_is_lower_bound) = match &after {
            Some(after) => (after.filtered, after.is_bound),
            None => (count as u64, !candidates.heap.is_empty()),
        };
        // A page that is not full goes on where the looking ended.
        let last = if listing.sessions.len() == request.limit { shown } else { looked_at };
        if let (Some((key, Reverse(number))), true) = (last, has_more) {
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
    let after = match &request.cursor {
        None => None,
        Some(cursor) => Some(BestPlace::parse(cursor).ok_or_else(bad_cursor)?),
    };
    shared.database.read_snapshot(|connection| {
        let (mut candidates, present) = {
            let memory = shared.memory();
            (find_candidates(connection, &memory, asked)?, memory.counts.sessions as f64)
        };
        let rarity: Vec<f64> =
            candidates.terms.iter().map(|wanted| (1.0 + present / (1.0 + wanted.files.len() as f64)).ln()).collect();
        let reader = Reader::new(shared, connection, &candidates);
        let mut ranked: Vec<(f64, i64, Number)> = Vec::new();
        while ranked.len() < RANKED && reader.read() < MOST_READ {
            let places = candidates.take((RANKED - ranked.len()).min(READ_AT_ONCE));
            if places.is_empty() {
                break;
            }
            let mut scored = Vec::with_capacity(places.len());
            for place in places {
                scored.extend(reader.session(place.1.0)?.map(|session| (place, session, None)));
            }
            reading::for_each(&mut scored, |((_, Reverse(number)), session, score)| {
                if candidates.is_sure(*number) || session.is_hit(&candidates) {
                    *score = Some(session.score(&candidates.terms, &rarity));
                }
                session.let_go();
            });
            let hits = scored.into_iter().filter_map(|((key, Reverse(number)), _, score)| Some((score?, key, number)));
            ranked.extend(hits);
        }
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2)));
        let start = after.map_or(0, |after| {
            // Sessions may have come before it, or gone.
            let place = ranked.iter().position(|(_, _, number)| *number == after.last);
            place.map_or(after.position, |place| place + 1)
        });
        let start = start.saturating_add(request.offset);
        let mut shown = Vec::new();
        for (_, _, number) in ranked.iter().skip(start).take(request.limit) {
            shown.extend(reader.session(*number)?.map(|session| (session, None)));
        }
        reading::for_each(&mut shown, |(session, row)| {
            *row = session.row(&candidates.terms);
            session.let_go();
        });
        listing.sessions.extend(shown.into_iter().filter_map(|(_, row)| row));
        let end = start.saturating_add(request.limit);
        if let (true, Some((_, _, last))) = (end < ranked.len(), ranked.get(end.wrapping_sub(1))) {
            listing.next_cursor = Some(BestPlace { position: end, last: *last }.cursor());
        }
        listing.filtered_sessions = (ranked.len() + candidates.take_sure()) as u64;
        listing.filtered_is_lower_bound = !candidates.heap.is_empty();
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
    check_query(query)?;
    let asked = Asked { query, kind, sort: Sort::Newest, utc_offset_minutes };
    Ok(shared.database.read_snapshot(|connection| {
        let mut candidates = find_candidates(connection, &shared.memory(), &asked)?;
        let reader = Reader::new(shared, connection, &candidates);
        let mut numbers = Vec::with_capacity(candidates.heap.len());
        let step = Step { most: usize::MAX, most_read: READ_AT_ONCE, is_for_page: false };
        loop {
            let found = candidates.read_next(&reader, &step)?;
            if found.is_empty() {
                return database::ids(connection, &numbers);
            }
            numbers.extend(found.iter().filter(|found| found.is_hit).map(|found| found.place.1.0));
        }
    })?)
}

/// What of the index does not agree with itself.
pub fn check(shared: &Shared) -> rusqlite::Result<Vec<String>> {
    // The memory first, so that a text is either in it or in a segment.
    let memory = shared.memory();
    shared.database.read_snapshot(|connection| {
        let mut complaints = check_form(connection, &memory)?;
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
        Ok(complaints)
    })
}

/// What of the index is damaged, whatever it holds: a server that was killed leaves nothing of that.
pub fn check_form(connection: &Connection, memory: &Memory) -> rusqlite::Result<Vec<String>> {
    let mut complaints = Vec::new();
    let integrity: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if integrity != "ok" {
        complaints.push(format!("the file of the index is damaged: {integrity}"));
    }
    let end = postings::check(connection, &mut complaints)?;
    if end != worker::written_docs(memory) {
        complaints.push(format!("the words of the texts from {end} on are missing"));
    }
    Ok(complaints)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::session::Session;
    use crate::store::disk::RealDisk;
    use crate::store::document::Document;
    use crate::store::index::{Database, FileRow, Note, TextNote, worker::Worker};
    use crate::store::layout::{Area, Day, Layout};
    use serde_json::json;

    #[test]
    fn a_search_sees_one_state_while_new_texts_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, disk) = (Layout::new(folder.path()), RealDisk::new(folder.path()));
        let (database, connection) = Database::open(&layout.index()).unwrap();
        let memory = worker::load(&connection).unwrap();
        let shared = Arc::new(Shared::new(&layout, &disk, database, memory));
        let mut worker = Worker::new(Arc::clone(&shared), connection);
        let day = Day::parse("2026-02-09").unwrap();
        let mut session = Session::empty("abc");
        let content = "the haystack";
        session.messages = serde_json::from_value(
            json!([{"id": "u", "role": "user", "content": content, "timestamp": "2026-02-09T00:00:00Z"}]),
        )
        .unwrap();
        std::fs::create_dir_all(layout.day(Area::Sessions, day)).unwrap();
        let path = layout.session(Area::Sessions, day, &session.session_id);
        let document = Document::create(&disk, &path, session).unwrap();
        let texts = TextNote::Whole { lines: document.lines_from(0), texts: vec![content.to_owned()] };
        worker.take_notes(vec![Note::File(Box::new(FileRow::of(Area::Sessions, day, &document)), texts)]).unwrap();

        // A part of a word, for which the text has to be read.
        let query = Query::parse("aystac").unwrap();
        let asked = Asked { query: &query, kind: None, sort: Sort::Newest, utc_offset_minutes: 0 };
        let found = shared.database.read_snapshot(|connection| {
            let mut candidates = find_candidates(connection, &shared.memory(), &asked)?;
            worker.finish()?;
            assert!(shared.memory().fresh.is_empty(), "the texts are written meanwhile");
            let reader = Reader::new(&shared, connection, &candidates);
            candidates.read_next(&reader, &Step { most: 9, most_read: 9, is_for_page: false })
        });
        assert_eq!(found.unwrap().iter().map(|found| found.is_hit).collect::<Vec<_>>(), [true]);
    }
}
