//! What of the index is held in memory: a few bytes for each session, and for each text the session that it belongs to.

use super::database::{Doc, FileRow, Number, Place, Texts};
use super::postings::Pending;
use crate::model::message::Modes;
use crate::model::session::{Kind, Summary};
use crate::model::time;
use crate::store::layout::Area;
use chrono::{DateTime, TimeDelta, Utc};
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// All zones differ from UTC by a multiple of this.
const QUARTER: i64 = 15 * 60 * 1_000_000;

/// What is held of a file; a number that stands for none has no `flags::PRESENT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// `last_updated` in microseconds since 1970.
    pub updated: i64,
    /// `started_at` in microseconds since 1970; `i64::MAX` if it cannot be read.
    pub started: i64,
    /// Messages on the shown path.
    pub messages: u32,
    /// See [`flags`].
    pub flags: u16,
}

/// What an [`Entry`] says of a session.
pub mod flags {
    /// It is a file that can be read.
    pub const PRESENT: u16 = 1;
    /// Of the files of its id it is the one that is shown.
    pub const SHOWN: u16 = 1 << 1;
    /// It lies in the trash.
    pub const TRASHED: u16 = 1 << 2;
    /// `metadata.pinned`
    pub const PINNED: u16 = 1 << 3;
    /// `metadata.archived`
    pub const ARCHIVED: u16 = 1 << 4;
    /// A voice session.
    pub const VOICE: u16 = 1 << 5;
    /// A message of the shown path is marked with an error.
    pub const ERROR: u16 = 1 << 6;
    /// A tool was used on the shown path.
    pub const TOOL: u16 = 1 << 7;
    /// ⚡ CMD was on in some message of the shown path.
    pub const COMMANDER: u16 = 1 << 8;
    /// 🌐 WEB was on in some message of the shown path.
    pub const WEB: u16 = 1 << 9;
}

impl Entry {
    /// The entry of a file; `is_shown` says whether it stands for its id.
    pub fn of(row: &FileRow, is_shown: bool) -> Self {
        let Some(summary) = &row.summary else { return Self::default() };
        let micros = |text: &str| time::parse(text).map(|time| time.timestamp_micros());
        let Modes { commander, web_search } = summary.modes;
        let flag = |holds, flag| if holds { flag } else { 0 };
        Self {
            updated: micros(&summary.last_updated).unwrap_or(i64::MIN),
            started: micros(&summary.started_at).unwrap_or(i64::MAX),
            messages: u32::try_from(summary.stats.total_messages).unwrap_or(u32::MAX),
            flags: flags::PRESENT
                | flag(is_shown, flags::SHOWN)
                | flag(row.area == Area::Trash, flags::TRASHED)
                | flag(summary.pinned, flags::PINNED)
                | flag(summary.archived, flags::ARCHIVED)
                | flag(summary.kind == Kind::Voice, flags::VOICE)
                | flag(summary.stats.errors > 0, flags::ERROR)
                | flag(!summary.tools.is_empty(), flags::TOOL)
                | flag(commander, flags::COMMANDER)
                | flag(web_search, flags::WEB),
        }
    }

    /// Whether all of these flags are set.
    pub fn has(&self, wanted: u16) -> bool {
        self.flags & wanted == wanted
    }

    /// Whether it is a session that is kept, and stands for its id.
    pub fn is_kept(&self) -> bool {
        self.has(flags::SHOWN) && !self.has(flags::TRASHED)
    }
}

/// The facets of a session, each with a number of its own, and the values that it has.
pub fn facets(summary: &Summary) -> impl Iterator<Item = (i64, String)> + '_ {
    let tools = summary.tools.iter().map(|tool| (FACET_TOOL, tool));
    let tags = summary.tags.iter().map(|tag| (FACET_TAG, tag));
    let user = std::iter::once((FACET_USER, &summary.user_name));
    tools.chain(tags).chain(user).map(|(facet, value)| (facet, crate::store::text::fold(value)))
}

/// The facet of `tool:`
pub const FACET_TOOL: i64 = 0;
/// The facet of `tag:`
pub const FACET_TAG: i64 = 1;
/// The facet of `user:`
pub const FACET_USER: i64 = 2;

/// Counts over the sessions that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub sessions: u64,
    /// Their messages.
    pub messages: u64,
    /// Those that are not archived, chats and voice.
    pub listed: [u64; 2],
    /// How many began in each quarter of an hour.
    started: BTreeMap<i64, u32>,
}

impl Counts {
    fn add(&mut self, entry: &Entry, sign: i64) {
        if !entry.is_kept() {
            return;
        }
        self.sessions = self.sessions.wrapping_add_signed(sign);
        self.messages = self.messages.wrapping_add_signed(sign * i64::from(entry.messages));
        if !entry.has(flags::ARCHIVED) {
            let kind = usize::from(entry.has(flags::VOICE));
            self.listed[kind] = self.listed[kind].wrapping_add_signed(sign);
        }
        let quarter = self.started.entry(entry.started.div_euclid(QUARTER)).or_default();
        *quarter = quarter.wrapping_add_signed(if sign < 0 { -1 } else { 1 });
    }

    /// How many began from one time until before another.
    pub fn started_between(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> u64 {
        let quarter = |time: DateTime<Utc>| time.timestamp_micros().div_euclid(QUARTER);
        let (from, until) = (quarter(from), quarter(until));
        if from >= until {
            return 0;
        }
        self.started.range(from..until).map(|(_, count)| u64::from(*count)).sum()
    }
}

/// The day that a time falls on in a zone, and the Monday before it: as the times at which they begin.
pub fn day_and_week(
    now: DateTime<Utc>,
    utc_offset_minutes: i32,
) -> Option<(DateTime<Utc>, DateTime<Utc>, DateTime<Utc>)> {
    use chrono::Datelike;
    let offset = TimeDelta::minutes(i64::from(utc_offset_minutes));
    let today = now.checked_add_signed(offset)?.date_naive();
    let monday = today.checked_sub_signed(TimeDelta::days(i64::from(today.weekday().num_days_from_monday())))?;
    let begin = |day: chrono::NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc().checked_sub_signed(offset);
    Some((begin(monday)?, begin(today)?, begin(today.succ_opt()?)?))
}

/// What is known of the texts of some sessions. A search holds it as it was when it began.
pub type Fresh = HashMap<Number, Arc<Texts>>;

/// The part of the index that is in memory.
#[derive(Debug, Default)]
pub struct Memory {
    entries: Vec<Entry>,
    /// The session of each text.
    owners: Vec<Number>,
    /// Texts that no session has any more.
    pub dead: RoaringBitmap,
    /// Counts over the sessions that are kept.
    pub counts: Counts,
    /// Texts that are being written to the file of the index.
    pub frozen: Option<Arc<Pending>>,
    /// Texts that are not in the file of the index yet and come after those.
    pub pending: Pending,
    /// What is known of the texts of sessions that have changed since the index was last written.
    pub fresh: Arc<Fresh>,
}

impl Memory {
    /// What is held of a file.
    pub fn entry(&self, number: Number) -> Entry {
        self.entries.get(number as usize).copied().unwrap_or_default()
    }

    /// Sets what is held of a file, and counts.
    pub fn set_entry(&mut self, number: Number, entry: Entry) {
        let index = number as usize;
        if self.entries.len() <= index {
            self.entries.resize(index + 1, Entry::default());
        }
        let before = std::mem::replace(&mut self.entries[index], entry);
        self.counts.add(&before, -1);
        self.counts.add(&entry, 1);
    }

    /// How many numbers were given to files; those that are gone keep theirs.
    pub fn numbers(&self) -> usize {
        self.entries.len()
    }

    /// All files by number, with those that are gone.
    pub fn entries(&self) -> impl Iterator<Item = (Number, &Entry)> {
        (0..).zip(&self.entries)
    }

    /// The session that a text belongs to.
    pub fn owner(&self, doc: Doc) -> Number {
        self.owners.get(doc as usize).copied().unwrap_or(Number::MAX)
    }

    /// The sessions of all texts, for writing.
    pub fn owners(&self) -> &[Number] {
        &self.owners
    }

    /// Takes over the sessions of all texts, as they were written.
    pub fn set_owners(&mut self, owners: Vec<Number>) {
        self.pending = Pending::new(u32::try_from(owners.len()).unwrap_or(Doc::MAX));
        self.owners = owners;
    }

    /// Adds a text and returns its number.
    pub fn add_doc(&mut self, owner: Number, tokens: impl FnOnce(&mut dyn FnMut(crate::store::text::Token))) -> Doc {
        let doc = self.pending.add(tokens);
        self.owners.push(owner);
        doc
    }

    /// Makes what is pending ready to be written; nothing is added to it any more.
    pub fn freeze(&mut self) -> Arc<Pending> {
        let next = Pending::new(self.pending.first() + self.pending.len());
        let frozen = Arc::new(std::mem::replace(&mut self.pending, next));
        self.frozen = Some(Arc::clone(&frozen));
        frozen
    }

    /// Forgets texts.
    pub fn bury(&mut self, places: &[Place]) {
        self.dead.extend(places.iter().map(|place| place.doc));
    }
}
