//! Searches of the file store give what a plain scan of everything gives: for words, parts of words, phrases, several scripts, code
//! and filters, while sessions change, after a restart, and with an index that is built anew.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use unicode_normalization::UnicodeNormalization;
use verbatim::model::parts::Part;
use verbatim::model::query::{Condition, Feature, Mode, Name, Query, State, Term};
use verbatim::model::session::{Session, SessionId};
use verbatim::model::{Object, time};
use verbatim::store::{FileStore, ListRequest, Listing, NewSession, Save, SessionStore, Sort, StoreError};
use verbatim_corpus::{Corpus, Random};

const SESSIONS: u64 = 250;
const QUERIES: u64 = 1_000;

/// Everything that is kept, as plainly as can be.
struct Scan {
    sessions: Vec<Scanned>,
}

struct Scanned {
    session: Session,
    trashed: bool,
    /// All that is searched, folded, as characters.
    texts: Vec<Vec<char>>,
}

/// The same rules as the search's, written a second time: folds a whole text at once.
fn fold(text: &str) -> String {
    let visible = |c: &char| !matches!(*c, '\u{AD}' | '\u{34F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}');
    let accent = |c: &char| matches!(*c, '\u{300}'..='\u{36F}' | '\u{591}'..='\u{5C7}' | '\u{640}' | '\u{64B}'..='\u{65F}' | '\u{670}');
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let plain: String = words.join(" ").chars().filter(visible).flat_map(char::to_lowercase).collect();
    let plain: String = plain.nfkd().filter(|c| !accent(c)).nfc().flat_map(char::to_lowercase).collect();
    plain
        .replace('ß', "ss")
        .replace('æ', "ae")
        .replace('œ', "oe")
        .replace('ø', "o")
        .replace('ł', "l")
        .replace(['đ', 'ð'], "d")
        .replace('ı', "i")
        .replace('ς', "σ")
        .replace(['\u{2018}', '\u{2019}', '\u{201A}', '\u{201B}', '\u{2BB}', '\u{2BC}'], "'")
        .replace(['\u{201C}', '\u{201D}', '\u{201E}', '\u{201F}'], "\"")
        .replace(['\u{2010}', '\u{2011}', '\u{2012}', '\u{2013}', '\u{2212}'], "-")
        .replace('\u{2044}', "/")
}

/// Whether a character is part of a word that spaces or marks end. The corpus holds no other scripts than these.
fn is_letter(c: char) -> bool {
    let is_sign = matches!(c, '\u{1100}'..='\u{11FF}' | '\u{2E80}'..='\u{2FDF}' | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{31FF}' | '\u{3400}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7FF}' | '\u{F900}'..='\u{FAFF}');
    !is_sign
        && (c.is_alphanumeric()
            || matches!(c, '\u{900}'..='\u{DFF}')
            || unicode_normalization::char::canonical_combining_class(c) != 0)
}

fn has_term(text: &[char], term: &Term) -> bool {
    let wanted: Vec<char> = fold(&term.text).chars().collect();
    let is_short = wanted.len() <= 2 && wanted.iter().all(|c| is_letter(*c));
    let letter_at = |index: Option<usize>| index.and_then(|index| text.get(index)).is_some_and(|c| is_letter(*c));
    (0..text.len()).any(|start| {
        let end = start + wanted.len();
        let begins = (term.is_phrase || is_short) && is_letter(wanted[0]);
        let ends = term.is_phrase && is_letter(wanted[wanted.len() - 1]);
        text[start..].starts_with(&wanted)
            && !(begins && letter_at(start.checked_sub(1)))
            && !(ends && letter_at(Some(end)))
    })
}

fn texts(session: &Session) -> Vec<String> {
    let summary = session.summary();
    let mut head = summary.title.unwrap_or_default();
    for tag in summary.tags {
        head = format!("{head}\n{tag}");
    }
    if session.user_name != "User" {
        head = format!("{head}\n{}", session.user_name);
    }
    let mut texts = vec![head];
    for message in &session.messages {
        let mut text = message.content.clone();
        for part in message.parts.iter().flatten() {
            if let Part::Tool(tool) = part {
                let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let params = match &tool.arguments {
                    Some(arguments) if tool.params.is_empty() => plain(arguments),
                    _ => tool.params.clone(),
                };
                text.push_str(&format!("\n🛠️ {}({params})", tool.name));
                if let Some(result) = &tool.result {
                    text.push_str(&format!(" → {}", plain(result)));
                }
            }
        }
        texts.push(text);
    }
    texts
}

impl Scan {
    fn read(data: &Path) -> Self {
        let mut sessions = Vec::new();
        for (area, trashed) in [("sessions", false), ("trash", true)] {
            for day in std::fs::read_dir(data.join(area)).unwrap() {
                for file in std::fs::read_dir(day.unwrap().path()).unwrap() {
                    let value: Value = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
                    let text = |key: &str| value[key].as_str().unwrap().to_owned();
                    let session = Session {
                        session_id: text("session_id").parse().unwrap(),
                        user_name: text("user_name"),
                        started_at: text("started_at"),
                        last_updated: text("last_updated"),
                        metadata_updated: value["metadata_updated"].as_str().map(str::to_owned),
                        metadata: value["metadata"].as_object().unwrap().clone(),
                        messages: serde_json::from_value(value["messages"].clone()).unwrap(),
                        revision: 0,
                        extra: Object::new(),
                    };
                    let texts = texts(&session).iter().map(|text| fold(text).chars().collect()).collect();
                    sessions.push(Scanned { session, trashed, texts });
                }
            }
        }
        sessions.sort_by_key(|scanned| std::cmp::Reverse(time::parse(&scanned.session.last_updated).unwrap()));
        Self { sessions }
    }

    fn find(&self, query: &Query) -> Vec<SessionId> {
        let hits = self.sessions.iter().filter(|scanned| is_hit(scanned, query));
        hits.map(|scanned| scanned.session.session_id.clone()).collect()
    }
}

fn is_hit(scanned: &Scanned, query: &Query) -> bool {
    let Scanned { session, trashed, texts } = scanned;
    let id = session.session_id.as_str();
    let has = |term: &Term| {
        let by_id = !term.is_phrase && (id == term.text || term.text.len() >= 4 && id.starts_with(&term.text));
        by_id || texts.iter().any(|text| has_term(text, term))
    };
    let summary = session.summary();
    let named = |name: &Name, values: &[String]| {
        let wanted = fold(&name.text);
        values.iter().any(|value| if name.is_whole { fold(value) == wanted } else { fold(value).starts_with(&wanted) })
    };
    let holds = |condition: &Condition| match condition {
        Condition::Kind(kind) => summary.kind == *kind,
        Condition::Tool(name) => named(name, &summary.tools),
        Condition::Mode(Mode::Commander) => summary.modes.commander,
        Condition::Mode(Mode::WebSearch) => summary.modes.web_search,
        Condition::Tag(name) => named(name, &summary.tags),
        Condition::User(name) => named(name, std::slice::from_ref(&session.user_name)),
        Condition::Before(day) => time::parse(&session.started_at).unwrap().date_naive() < *day,
        Condition::After(day) => time::parse(&session.last_updated).unwrap().date_naive() >= *day,
        Condition::Is(State::Pinned) => summary.pinned,
        Condition::Is(State::Archived) => summary.archived,
        Condition::Is(State::Trashed) => *trashed,
        Condition::Has(Feature::Error) => summary.stats.errors > 0,
        Condition::Has(Feature::Tool) => !summary.tools.is_empty(),
    };
    *trashed == query.is_for_trash()
        && query.terms.iter().all(has)
        && !query.without.iter().any(has)
        && query.filters.iter().all(|filter| holds(&filter.condition) != filter.is_negated)
}

/// A piece of some text of the corpus that can be typed as one word.
fn piece(random: &mut Random, corpus: &Corpus) -> String {
    loop {
        let session = corpus.session(random.below(SESSIONS));
        let message = &session.messages[usize::try_from(random.below(session.messages.len() as u64)).unwrap()];
        let words: Vec<&str> = message.text.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        let at = usize::try_from(random.below(words.len() as u64)).unwrap();
        let word: Vec<char> = words[at].chars().collect();
        let (from, length) = match random.below(6) {
            // A word with the marks around it, its beginning, one or two letters, a part, a phrase.
            0 => (0, word.len()),
            1 => (0, 1 + random.below(6) as usize),
            2 => (0, 1 + random.below(2) as usize),
            3 | 4 => (random.below(word.len() as u64) as usize, 2 + random.below(6) as usize),
            _ => {
                let phrase = words[at..(at + 2 + random.below(3) as usize).min(words.len())].join(" ");
                if phrase.contains(['"', '“', '”', '„', '«', '»']) {
                    continue;
                }
                return format!("\"{phrase}\"");
            }
        };
        let text: String = word.iter().skip(from).take(length).collect();
        if !text.is_empty()
            && !text.starts_with(['"', '-', '“', '„', '«'])
            && Query::parse(&text).is_ok_and(|query| query.terms.len() == 1)
        {
            return text;
        }
    }
}

fn random_query(random: &mut Random, corpus: &Corpus) -> String {
    let mut parts = vec![piece(random, corpus)];
    if random.chance(300) {
        parts.push(piece(random, corpus));
    }
    if random.chance(100) {
        parts.push(format!(
            "-{}",
            loop {
                let text = piece(random, corpus);
                if text.starts_with(|c: char| c.is_alphanumeric() || c == '"') {
                    break text;
                }
            }
        ));
    }
    if random.chance(200) {
        let filters = [
            "kind:voice",
            "kind:chat",
            "tool:web",
            "-tool:calculator",
            "mode:commander",
            "-mode:web",
            "tag:w",
            "user:a",
            "-user:user",
            "before:2026-06-01",
            "after:2026-08",
            "is:pinned",
            "is:archived",
            "-is:archived",
            "has:error",
            "has:tool",
            "is:trashed",
        ];
        parts.push((*random.pick(&filters)).to_owned());
    }
    if random.chance(50) {
        parts.remove(0);
    }
    parts.join(" ")
}

fn request(text: &str) -> ListRequest {
    ListRequest { query: Query::parse(text).unwrap(), limit: 1_000, now: now(), ..ListRequest::default() }
}

fn now() -> DateTime<Utc> {
    time::parse("2026-11-20T12:00:00Z").unwrap()
}

fn ids(listing: &Listing) -> Vec<SessionId> {
    listing.sessions.iter().map(|summary| summary.session_id.clone()).collect()
}

async fn compare(store: &FileStore, data: &Path, queries: &[String]) {
    let scan = Scan::read(data);
    for text in queries {
        let query = Query::parse(text).unwrap();
        if query.is_empty() {
            continue;
        }
        let wanted = scan.find(&query);
        let found = store.find(&query, None, 0).await.unwrap();
        assert_eq!(found, wanted, "{text}");
        let listing = store.list(&request(text)).await.unwrap();
        assert_eq!(ids(&listing), wanted, "{text}");
        assert_eq!(
            (listing.filtered_sessions, listing.filtered_is_lower_bound),
            (wanted.len() as u64, false),
            "{text}"
        );
        for summary in &listing.sessions {
            for found in &summary.matches {
                let characters: Vec<char> = found.snippet.chars().collect();
                assert!(
                    !found.ranges.is_empty()
                        && found.ranges.iter().all(|(from, to)| from < to && *to <= characters.len()),
                    "{text}"
                );
                let marked = characters[found.ranges[0].0..found.ranges[0].1].iter().collect::<String>();
                // A hit that is longer than the snippet is cut.
                let is_wanted = |term: &Term| {
                    let plain = Term { is_phrase: false, ..term.clone() };
                    has_term(&format!(" {} ", fold(&marked)).chars().collect::<Vec<_>>(), &plain)
                        || fold(&term.text).starts_with(&fold(&marked))
                };
                assert!(query.terms.iter().any(is_wanted), "{text}: {marked}");
            }
        }
        // Behind a short page hits are only counted, as far as that is cheap.
        let short = store.list(&ListRequest { limit: 2, ..request(text) }).await.unwrap();
        assert_eq!(ids(&short), wanted[..wanted.len().min(2)], "{text}");
        assert_eq!(short.next_cursor.is_some(), wanted.len() > 2, "{text}");
        let (count, all) = (short.filtered_sessions, wanted.len() as u64);
        assert!(if short.filtered_is_lower_bound { count <= all } else { count == all }, "{text}: {count} of {all}");
        let best = store.list(&ListRequest { sort: Sort::Best, ..request(text) }).await.unwrap();
        assert_eq!(ids(&best).into_iter().collect::<HashSet<_>>(), wanted.into_iter().collect(), "{text}");
    }
}

fn save(messages: Value, metadata: Value) -> Save {
    Save {
        messages: serde_json::from_value(messages).unwrap(),
        user_name: None,
        metadata: metadata.as_object().unwrap().clone(),
        base_revision: None,
        running: HashSet::new(),
        now: later(),
    }
}

/// A time that is later than all before: sessions that were saved in one millisecond have no order.
fn later() -> DateTime<Utc> {
    static SECONDS: AtomicI64 = AtomicI64::new(0);
    now() + TimeDelta::days(30) + TimeDelta::seconds(SECONDS.fetch_add(1, Ordering::Relaxed))
}

#[tokio::test]
async fn a_search_gives_what_a_scan_gives() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let corpus = Corpus { seed: 4 };
    verbatim_corpus::write(&corpus, SESSIONS, &data.join("sessions")).unwrap();
    let mut random = Random::new(7);
    let queries: Vec<String> = (0..QUERIES).map(|_| random_query(&mut random, &corpus)).collect();
    let (most, some) = queries.split_at(QUERIES as usize * 6 / 10);

    let store = FileStore::open(data).unwrap();
    assert!(store.agree(Duration::from_secs(60)));
    compare(&store, data, most).await;

    // Everything that can happen to a session happens to some.
    let mut made = vec![
        "unheard-of".to_owned(),
        "Brandnew".to_owned(),
        "\"renamed title\"".to_owned(),
        "is:trashed".to_owned(),
        "tag:fresh".to_owned(),
    ];
    for number in 0..40 {
        let id: SessionId = corpus.session(number).id.parse().unwrap();
        match number % 4 {
            0 => {
                let said =
                    json!([{"id": format!("new{number}"), "role": "user", "content": "an unheard-of thing, 天气 too"}]);
                store.save(&id, save(said, json!({}))).await.unwrap();
            }
            1 => drop(
                store.save(&id, save(json!([]), json!({"title": "A renamed title", "tags": ["fresh"]}))).await.unwrap(),
            ),
            2 => store.delete(&id).await.unwrap(),
            _ => {
                store.delete(&id).await.unwrap();
                store.restore(&id).await.unwrap();
                store.save(&id, save(json!([]), json!({"title": null, "archived": true}))).await.unwrap();
            }
        }
    }
    let new = NewSession {
        session_id: "fresh1".parse().unwrap(),
        user_name: "Brandnew Person".into(),
        started_at: later(),
        metadata: Object::new(),
        messages: Vec::new(),
    };
    store.create(new).await.unwrap();
    made.extend_from_slice(&some[..some.len() / 4]);
    compare(&store, data, &made).await;

    // An index that goes on where it was.
    drop(store);
    let store = FileStore::open(data).unwrap();
    made.extend_from_slice(&some[some.len() / 4..some.len() / 2]);
    compare(&store, data, &made).await;
    assert!(store.agree(Duration::from_secs(60)));
    compare(&store, data, &some[some.len() / 2..some.len() * 3 / 4]).await;
    assert_eq!(store.check_index().unwrap(), [""; 0]);

    // One that was lost.
    drop(store);
    for name in ["index.sqlite", "index.sqlite-wal", "index.sqlite-shm"] {
        let _ = std::fs::remove_file(data.join(name));
    }
    let store = FileStore::open(data).unwrap();
    assert!(store.agree(Duration::from_secs(60)));
    made.extend_from_slice(&some[some.len() * 3 / 4..]);
    compare(&store, data, &made).await;
    assert_eq!(store.check_index().unwrap(), [""; 0]);
}

#[tokio::test]
async fn pages_of_a_search_are_its_hits_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = Corpus { seed: 5 };
    verbatim_corpus::write(&corpus, 120, &folder.path().join("sessions")).unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    assert!(store.agree(Duration::from_secs(60)));
    for (text, sort) in [
        ("the", Sort::Newest),
        ("ation", Sort::Newest),
        ("ation", Sort::Oldest),
        ("the", Sort::Best),
        ("", Sort::Newest),
        ("", Sort::Oldest),
        ("kind:chat", Sort::Newest),
    ] {
        let all = store.list(&ListRequest { sort, ..request(text) }).await.unwrap();
        assert!(all.sessions.len() > 20 && all.next_cursor.is_none(), "{text}: {}", all.sessions.len());
        let mut paged = Vec::new();
        let mut cursor = None;
        loop {
            let page = ListRequest { sort, limit: 7, cursor, ..request(text) };
            let page = store.list(&page).await.unwrap();
            assert_eq!(page.filtered_sessions, all.filtered_sessions, "{text}");
            paged.extend(ids(&page));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(paged, ids(&all), "{text} {sort:?}");
        let offset = store.list(&ListRequest { sort, limit: 5, offset: 9, ..request(text) }).await.unwrap();
        assert_eq!(ids(&offset), ids(&all)[9..14], "{text} {sort:?}");
    }
}

#[tokio::test]
async fn pages_of_the_best_go_on_where_they_ended_whatever_comes_and_goes() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    let add = async |name: &str, times: usize| {
        let id: SessionId = name.parse().unwrap();
        let new = NewSession {
            session_id: id.clone(),
            user_name: "User".into(),
            started_at: later(),
            metadata: Object::new(),
            messages: Vec::new(),
        };
        store.create(new).await.unwrap();
        let messages = json!([{"id": "u", "role": "user", "content": "river ".repeat(times)}]);
        store.save(&id, save(messages, json!({}))).await.unwrap();
    };
    for (name, times) in [("fourth", 1), ("third", 2), ("second", 3), ("first", 4)] {
        add(name, times).await;
    }
    let page = async |cursor| {
        let best = ListRequest { sort: Sort::Best, limit: 2, cursor, ..request("river") };
        let page = store.list(&best).await.unwrap();
        (ids(&page).iter().map(ToString::to_string).collect::<Vec<_>>(), page.next_cursor)
    };
    let (names, cursor) = page(None).await;
    assert_eq!(names, ["first", "second"]);
    add("better", 9).await;
    assert_eq!(page(cursor.clone()).await, (vec!["third".to_owned(), "fourth".to_owned()], None));
    store.delete(&"first".parse().unwrap()).await.unwrap();
    store.delete(&"better".parse().unwrap()).await.unwrap();
    assert_eq!(page(cursor).await.0, ["third", "fourth"]);
}

#[tokio::test]
async fn what_is_nothing_when_folded_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    for text in ["¨", "word ¨", "tag:¨"] {
        match store.list(&request(text)).await {
            Err(StoreError::Invalid(why)) => assert!(why.contains('¨'), "{why}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn ids_that_look_like_numbers_are_paged_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    for name in ["9e999", "1e5", "0x10", "-8e999", "nan", "7"] {
        let new = NewSession {
            session_id: name.parse().unwrap(),
            user_name: "User".into(),
            started_at: later(),
            metadata: Object::new(),
            messages: Vec::new(),
        };
        store.create(new).await.unwrap();
    }
    for sort in [Sort::Newest, Sort::Oldest] {
        let (mut paged, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.list(&ListRequest { sort, limit: 1, cursor, ..request("") }).await.unwrap();
            paged.extend(ids(&page));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(paged, ids(&store.list(&ListRequest { sort, ..request("") }).await.unwrap()));
    }
}

#[tokio::test]
async fn pinned_sessions_come_first_and_archived_ones_only_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    for name in ["one", "two", "three"] {
        let new = NewSession {
            session_id: name.parse().unwrap(),
            user_name: "User".into(),
            started_at: now(),
            metadata: Object::new(),
            messages: Vec::new(),
        };
        store.create(new).await.unwrap();
        let said = json!([{"id": "m", "role": "user", "content": "hello"}]);
        store.save(&name.parse().unwrap(), save(said, json!({}))).await.unwrap();
    }
    store.save(&"one".parse().unwrap(), save(json!([]), json!({"pinned": true}))).await.unwrap();
    store.save(&"two".parse().unwrap(), save(json!([]), json!({"archived": true}))).await.unwrap();
    store
        .save(&"three".parse().unwrap(), save(json!([{"id": "n", "role": "user", "content": "more"}]), json!({})))
        .await
        .unwrap();
    let names = async |text: &str| {
        let listing = store.list(&request(text)).await.unwrap();
        listing.sessions.iter().map(|summary| summary.session_id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("").await, ["one", "three"]);
    assert_eq!(names("hello").await, ["three", "two", "one"], "a search finds all, the newest first");
    assert_eq!(names("is:archived").await, ["two"]);
    assert_eq!(names("is:pinned").await, ["one"]);
    let listing = store.list(&request("")).await.unwrap();
    assert_eq!((listing.total_sessions, listing.filtered_sessions), (3, 2));
    assert_eq!(store.find(&Query::default(), None, 0).await.unwrap().len(), 3, "an export leaves nothing out");

    // The trash is emptied for good.
    for name in ["one", "two"] {
        store.delete(&name.parse().unwrap()).await.unwrap();
    }
    assert_eq!(names("is:trashed").await.len(), 2);
    assert_eq!(store.empty_trash(Some(&["one".parse().unwrap(), "three".parse().unwrap()])).await.unwrap(), 1);
    assert_eq!(store.empty_trash(None).await.unwrap(), 1);
    assert_eq!(store.empty_trash(None).await.unwrap(), 0);
    assert!(store.restore(&"one".parse().unwrap()).await.is_err());
    assert!(store.agree(Duration::from_secs(60)));
    assert_eq!(names("is:trashed").await, [""; 0]);
    assert_eq!(names("").await, ["three"]);
}

#[tokio::test]
async fn what_keyboards_do_not_have_is_found_by_what_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    for (name, said, tag) in [
        ("half", "das ﾊﾟｽﾜｰﾄﾞ hier", "to\u{2011}do"),
        ("whole", "das パスワード dort", "to-do"),
        ("curly", "it’s a co\u{2011}op", "ｶﾞ"),
        ("plain", "it's a co-op", "ガ"),
        ("soft", "Donau\u{AD}dampf\u{200B}schiff", "a\u{AD}b"),
        ("hard", "Donaudampfschiff", "ab"),
    ] {
        let new = NewSession {
            session_id: name.parse().unwrap(),
            user_name: "User".into(),
            started_at: now(),
            metadata: Object::new(),
            messages: Vec::new(),
        };
        store.create(new).await.unwrap();
        let said = json!([{"id": "m", "role": "user", "content": said}]);
        store.save(&name.parse().unwrap(), save(said, json!({"tags": [tag]}))).await.unwrap();
    }
    for (queries, wanted) in [
        (vec!["パスワード", "ﾊﾟｽﾜｰﾄﾞ", "\"ﾊﾟｽﾜｰﾄﾞ\"", "tag:to-do", "tag:\"to\u{2010}do\""], ["half", "whole"]),
        (vec!["it’s", "\"it's a co\u{2010}op\"", "“it’s a”", "co-op", "tag:ガ", "tag:ｶﾞ"], ["curly", "plain"]),
        (vec!["donaudampfschiff", "\"donaudampf\u{AD}schiff\"", "dampfschiff", "tag:\"ab\""], ["hard", "soft"]),
    ] {
        for query in queries {
            let mut found: Vec<String> =
                ids(&store.list(&request(query)).await.unwrap()).iter().map(SessionId::to_string).collect();
            found.sort();
            assert_eq!(found, wanted, "{query}");
        }
    }
}

/// Asks until an answer is as wanted: what other programs do is noticed within seconds.
async fn found_by(store: &FileStore, text: &str, wanted: &[&str]) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let mut found: Vec<String> =
            ids(&store.list(&request(text)).await.unwrap()).iter().map(SessionId::to_string).collect();
        found.sort();
        if found == wanted {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{text}: {found:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_other_programs_do_to_files_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    assert!(store.agree(Duration::from_secs(60)));
    let day = folder.path().join("sessions/2026-02-09");
    std::fs::create_dir_all(&day).unwrap();
    let write = |name: &str, content: &str| {
        let document = json!({"session_id": name, "messages": [{"role": "user", "content": content}]});
        std::fs::write(day.join(format!("{name}.json")), serde_json::to_vec_pretty(&document).unwrap()).unwrap();
    };
    write("handmade", "a marmalade sandwich");
    write("other", "a cucumber sandwich");
    found_by(&store, "sandwich", &["handmade", "other"]).await;
    // Changed in place, and by one that a sync tool renames over it.
    write("handmade", "a marzipan cake");
    found_by(&store, "marmalade", &[]).await;
    found_by(&store, "marzipan", &["handmade"]).await;
    write("other.new", "a plum pudding");
    std::fs::rename(day.join("other.new.json"), day.join("other.json")).unwrap();
    found_by(&store, "pudding", &["other"]).await;
    found_by(&store, "cucumber", &[]).await;
    // Between two saves of ours: both sides' words are found.
    let said = json!([{"id": "ours", "role": "user", "content": "and a teapot"}]);
    store.save(&"other".parse().unwrap(), save(said, json!({}))).await.unwrap();
    found_by(&store, "teapot pudding", &["other"]).await;
    std::fs::remove_file(day.join("handmade.json")).unwrap();
    found_by(&store, "marzipan", &[]).await;
    // A whole folder that is moved in, and out again.
    let aside = folder.path().join("aside");
    std::fs::create_dir(&aside).unwrap();
    let document = json!({"messages": [{"role": "user", "content": "scones"}]});
    std::fs::write(aside.join("moved.json"), document.to_string()).unwrap();
    let moved = folder.path().join("sessions/2026-02-10");
    std::fs::rename(&aside, &moved).unwrap();
    found_by(&store, "scones", &["moved"]).await;
    std::fs::remove_dir_all(&moved).unwrap();
    found_by(&store, "scones", &[]).await;
    found_by(&store, "", &["other"]).await;
    assert_eq!(store.check_index().unwrap(), [""; 0]);
}
