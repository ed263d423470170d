//! Reads the texts of sessions from their files: of many sessions at once, on several threads.

use super::super::Shared;
use super::super::database::{self, Location, Number, Place};
use super::super::memory::Fresh;
use super::{Candidates, Wanted};
use crate::model::session::{Match, Summary};
use crate::store::document::Document;
use crate::store::text::{self, Needle};
use rusqlite::Connection;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// How many messages of a hit are shown.
const SHOWN_MATCHES: usize = 2;

/// How many candidate messages of a session are read to find those that are shown, and for ranking.
const READ_FOR_MATCHES: usize = 40;
const READ_FOR_RANK: usize = 3;

/// The most bytes of a line that are taken for a message; a longer one is read with its whole file.
const MOST_LINE_BYTES: u32 = 64 * 1024 * 1024;

/// How many threads read for one search at most. Asking the system takes as long as reading a few texts.
static THREADS: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from).min(4));

/// Each thread has at least so many sessions: fewer are read before it has begun.
const SESSIONS_PER_THREAD: usize = 4;

/// Reads texts for one search.
pub struct Reader<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    fresh: Arc<Fresh>,
    /// How many texts were read.
    read: AtomicUsize,
}

/// A session whose texts are read one by one.
pub struct Reading<'a> {
    shared: &'a Shared,
    read: &'a AtomicUsize,
    number: Number,
    location: Location,
    /// Its row in the list, as the index keeps it.
    summary: String,
    places: Vec<Place>,
    file: Option<File>,
    whole: Option<Document>,
    /// What was read, by position.
    texts: HashMap<usize, Text>,
}

/// A text, as it is and folded, and the id of its message; the head has none.
struct Text {
    id: String,
    text: String,
    folded: String,
}

impl<'a> Reader<'a> {
    /// Reads texts of candidates, on the connection on which they were found.
    pub fn new(shared: &'a Shared, connection: &'a Connection, candidates: &Candidates) -> Self {
        Self { shared, connection, fresh: Arc::clone(&candidates.fresh), read: AtomicUsize::new(0) }
    }

    /// How many texts were read so far.
    pub fn read(&self) -> usize {
        self.read.load(Ordering::Relaxed)
    }

    /// A session; `None` if nothing is known of it any more.
    pub fn session(&self, number: Number) -> rusqlite::Result<Option<Reading<'_>>> {
        let Some((location, summary, indexed)) = database::session(self.connection, number)? else { return Ok(None) };
        let fresh = self.fresh.get(&number).map(|texts| texts.places.clone());
        Ok(Some(Reading {
            shared: self.shared,
            read: &self.read,
            number,
            location,
            summary,
            places: fresh.unwrap_or(indexed),
            file: None,
            whole: None,
            texts: HashMap::new(),
        }))
    }
}

/// Does work for each item, on several threads where there are many.
pub fn for_each<T: Send>(items: &mut [T], work: impl Fn(&mut T) + Sync) {
    let threads = THREADS.min(items.len() / SESSIONS_PER_THREAD);
    let next = Mutex::new(items.iter_mut());
    let work_on = || {
        loop {
            let item = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            match item {
                Some(item) => work(item),
                None => return,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without a helper the work is done here.
            let _ = std::thread::Builder::new().name("search".to_owned()).spawn_scoped(scope, work_on);
        }
        work_on();
    });
}

impl Reading<'_> {
    /// Its row in the list, with the messages in which something is found.
    pub fn row(&mut self, terms: &[Wanted]) -> Option<Summary> {
        let mut summary = self.summary()?;
        summary.matches = self.matches(terms);
        Some(summary)
    }

    fn summary(&self) -> Option<Summary> {
        // What stands in the index is written from summaries only.
        serde_json::from_str(&self.summary).ok()
    }

    /// Whether it holds what is wanted and nothing that is not.
    pub fn is_hit(&mut self, candidates: &Candidates) -> bool {
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
            .any(|(_, position)| self.text(position).is_some_and(|text| wanted.needle.find(&text.folded).is_some()))
    }

    fn matches(&mut self, terms: &[Wanted]) -> Vec<Match> {
        let needles: Vec<&Needle> = terms.iter().map(|wanted| &wanted.needle).collect();
        let mut matches: Vec<Match> = Vec::new();
        for position in self.candidates(terms).into_iter().filter(|position| *position > 0).take(READ_FOR_MATCHES) {
            let Some(Text { id, text, folded }) = self.text(position) else { continue };
            matches.extend(text::excerpt(id, text, folded, &needles));
            if matches.len() == SHOWN_MATCHES {
                break;
            }
        }
        matches
    }

    /// How well it fits: often found and rare words count most, whole words more than parts, a hit in the title more than any.
    pub fn score(&mut self, terms: &[Wanted], rarity: &[f64]) -> f64 {
        let mut weights = vec![0.0; terms.len()];
        let mut together: f64 = 1.0;
        for position in self.candidates(terms).into_iter().take(READ_FOR_RANK) {
            let Some(Text { folded, .. }) = self.text(position) else { continue };
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

    /// The text at a position. `None` if it cannot be read now.
    fn text(&mut self, position: usize) -> Option<&Text> {
        if !self.texts.contains_key(&position) {
            self.read.fetch_add(1, Ordering::Relaxed);
            let (id, text) = match position {
                0 => (String::new(), text::of_head(&self.summary()?)),
                _ => match self.line(position).and_then(|line| text::of_line(&line)) {
                    Some(text) => text,
                    None => {
                        let message = self.whole()?.session().messages.get(position - 1)?;
                        (message.id.clone(), text::of_message(message).into_owned())
                    }
                },
            };
            let folded = text::fold(&text);
            self.texts.insert(position, Text { id, text, folded });
        }
        self.texts.get(&position)
    }

    /// The line of a message, where it has one.
    fn line(&mut self, position: usize) -> Option<Vec<u8>> {
        let place = *self.places.get(position)?;
        if !(1..=MOST_LINE_BYTES).contains(&place.length) || self.whole.is_some() {
            return None;
        }
        if self.file.is_none() {
            self.file = self.shared.disk.open_to_read(&self.path()).ok();
        }
        let file = self.file.as_ref()?;
        // What the index says of the file may be out of date or damaged: memory is taken for what is there.
        if place.offset.checked_add(place.length.into())? > file.metadata().ok()?.len() {
            return None;
        }
        let mut bytes = vec![0; place.length as usize];
        file.read_exact_at(&mut bytes, place.offset).ok()?;
        Some(bytes)
    }

    fn path(&self) -> std::path::PathBuf {
        let Location { area, day, id } = &self.location;
        self.shared.layout.session(*area, *day, id)
    }

    fn whole(&mut self) -> Option<&Document> {
        if self.whole.is_none() {
            let document = Document::open(&self.shared.disk, &self.path(), &self.location.id);
            self.whole = document.map_err(|error| tracing::warn!(%error, "a session file cannot be searched")).ok();
        }
        self.whole.as_ref()
    }

    /// Closes the file and forgets what was read: many sessions are in hand at once.
    pub fn let_go(&mut self) {
        (self.file, self.whole) = (None, None);
        self.texts.clear();
    }
}
