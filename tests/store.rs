//! The file store as a whole, on a real temporary data directory.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use verbatim::model::message::Message;
use verbatim::model::query::Query;
use verbatim::model::reply::ReplyEvent;
use verbatim::model::session::{Kind, SessionId};
use verbatim::model::{Object, time};
use verbatim::store::{FileStore, ListRequest, Listing, NewSession, ReplyHead, Save, SessionStore, Sort, StoreError};

fn at(text: &str) -> DateTime<Utc> {
    time::parse(text).unwrap()
}

/// Wednesday.
fn now() -> DateTime<Utc> {
    at("2026-02-11T12:00:00Z")
}

fn id(text: &str) -> SessionId {
    text.parse().unwrap()
}

fn new(name: &str, started_at: DateTime<Utc>) -> NewSession {
    NewSession {
        session_id: id(name),
        user_name: "User".into(),
        started_at,
        metadata: Object::new(),
        messages: Vec::new(),
    }
}

fn save(messages: Value) -> Save {
    Save {
        messages: serde_json::from_value(messages).unwrap(),
        user_name: None,
        metadata: Object::new(),
        base_revision: None,
        running: HashSet::new(),
        now: now(),
    }
}

fn request() -> ListRequest {
    ListRequest { limit: 100, now: now(), ..ListRequest::default() }
}

fn names(listing: &Listing) -> Vec<&str> {
    listing.sessions.iter().map(|summary| summary.session_id.as_str()).collect()
}

fn file(root: &Path, area: &str, day: &str, name: &str) -> PathBuf {
    root.join(area).join(day).join(format!("{name}.json"))
}

fn put(root: &Path, day: &str, name: &str, bytes: &[u8]) {
    let path = file(root, "sessions", day, name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

async fn say(store: &FileStore, session: &str, message: &str, content: &str) {
    let messages = json!([{"id":message,"role":"user","content":content}]);
    store.save(&id(session), save(messages)).await.unwrap();
}

/// Asks for the list until it is as wanted; the folders are compared only every second.
async fn list_until(store: &FileStore, wanted: impl Fn(&Listing) -> bool) -> Listing {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let listing = store.list(&request()).await.unwrap();
        if wanted(&listing) || Instant::now() > deadline {
            return listing;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_conversation_is_kept_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("memory");
    let store = FileStore::open(&data).unwrap();
    store.create(new("abc", now())).await.unwrap();
    assert!(matches!(store.create(new("abc", now())).await, Err(StoreError::Exists)));
    let saved = store.save(&id("abc"), save(json!([{"id":"u","role":"user","content":"hello"}]))).await.unwrap();
    assert_eq!((saved.revision, saved.merged), (1, false));
    assert_eq!(saved.saved_at, "2026-02-11T12:00:00.001Z", "later than the start");
    let again = store.save(&id("abc"), save(json!([{"id":"u","role":"user","content":"hello"}]))).await.unwrap();
    assert_eq!(again, saved);
    let mut other = save(json!([{"id":"v","role":"user","content":"more"}]));
    other.base_revision = Some(0);
    assert!(store.save(&id("abc"), other).await.unwrap().merged);
    let before = store.load(&id("abc")).await.unwrap();
    drop(store);

    let store = FileStore::open(&data).unwrap();
    assert_eq!(store.load(&id("abc")).await.unwrap(), before);
    assert_eq!(store.health().await.sessions, 1);
    assert!(matches!(store.load(&id("nobody")).await, Err(StoreError::NotFound)));
    assert!(matches!(store.save(&id("nobody"), save(json!([]))).await, Err(StoreError::NotFound)));
    for made in ["", "sessions", "sessions/2026-02-11", "trash", "replies"] {
        let mode = std::fs::metadata(data.join(made)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{made:?}");
    }
}

#[tokio::test]
async fn a_deleted_session_is_in_the_trash_until_restored() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    store.create(new("abc", now())).await.unwrap();
    say(&store, "abc", "u", "hello").await;
    store.delete(&id("abc")).await.unwrap();
    assert!(file(folder.path(), "trash", "2026-02-11", "abc").exists());
    assert!(matches!(store.load(&id("abc")).await, Err(StoreError::Deleted)));
    assert!(matches!(store.save(&id("abc"), save(json!([]))).await, Err(StoreError::Deleted)));
    assert!(matches!(store.create(new("abc", now())).await, Err(StoreError::Exists)));
    assert!(matches!(store.delete(&id("abc")).await, Err(StoreError::Deleted)));
    assert!(matches!(store.delete(&id("nobody")).await, Err(StoreError::NotFound)));
    assert_eq!(store.list(&request()).await.unwrap().total_sessions, 0);

    store.restore(&id("abc")).await.unwrap();
    assert_eq!(store.load(&id("abc")).await.unwrap().messages.len(), 1);
    assert_eq!(names(&store.list(&request()).await.unwrap()), ["abc"]);
    assert!(matches!(store.restore(&id("abc")).await, Err(StoreError::Exists)));
    assert!(matches!(store.restore(&id("nobody")).await, Err(StoreError::NotFound)));
}

#[tokio::test]
async fn of_what_is_emptied_from_the_trash_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    let message: Message = serde_json::from_value(
        json!({"id":"a","parent_id":null,"role":"assistant","content":"","timestamp":"2026-02-11T12:00:01.000Z"}),
    )
    .unwrap();
    let copy = |name: &str| file(folder.path(), "sessions", "2026-02-11", name).with_extension("json.corrupt-1");
    for name in ["gone", "stays"] {
        store.create(new(name, now())).await.unwrap();
        std::fs::write(copy(name), "damaged").unwrap();
        let head = ReplyHead { reply_id: format!("of-{name}"), session_id: id(name), message: message.clone() };
        store.begin_reply(&head).await.unwrap();
    }
    store.delete(&id("gone")).await.unwrap();
    assert!(copy("gone").exists(), "until then it can be restored with all that belongs to it");
    assert_eq!(store.empty_trash(None).await.unwrap(), 1);
    assert!(!copy("gone").exists() && copy("stays").exists());
    let unfinished = store.unfinished_replies().await.unwrap();
    assert_eq!(unfinished.iter().map(|(head, _)| head.reply_id.as_str()).collect::<Vec<_>>(), ["of-stays"]);
}

#[tokio::test]
async fn an_index_that_is_found_damaged_is_built_anew_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    store.create(new("abc", now())).await.unwrap();
    say(&store, "abc", "u", "a needle in a haystack").await;
    store.close().await;
    drop(store);
    let index = rusqlite::Connection::open(folder.path().join("index.sqlite")).unwrap();
    index.execute_batch("DROP TABLE postings_1").unwrap();
    drop(index);

    let search = ListRequest { query: Query::parse("needle").unwrap(), ..request() };
    let store = FileStore::open(folder.path()).unwrap();
    assert!(store.agree(Duration::from_secs(60)));
    assert!(matches!(store.list(&search).await, Err(StoreError::IndexUnreadable(_))));
    drop(store);
    let store = FileStore::open(folder.path()).unwrap();
    assert!(store.agree(Duration::from_secs(60)));
    assert_eq!(names(&store.list(&search).await.unwrap()), ["abc"]);
    assert_eq!(store.check_index().unwrap(), [""; 0]);
}

#[tokio::test]
async fn files_put_there_by_hand_appear_open_and_continue() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    assert_eq!(store.list(&request()).await.unwrap().total_sessions, 0);
    put(folder.path(), "2026-02-09", "abc123def456", include_bytes!("fixtures/stored-chat.json"));
    put(folder.path(), "2026-02-09", "def67890", include_bytes!("fixtures/stored-voice.json"));
    put(folder.path(), "2026-02-09", "broken", b"no JSON");
    // Opened at once, also before the list is compared.
    assert_eq!(store.load(&id("abc123def456")).await.unwrap().messages.len(), 2);
    assert!(matches!(store.load(&id("broken")).await, Err(StoreError::Unreadable(_))));
    assert!(matches!(store.save(&id("broken"), save(json!([]))).await, Err(StoreError::Unreadable(_))));
    let listing = list_until(&store, |listing| listing.total_sessions == 2).await;
    assert_eq!(names(&listing), ["abc123def456", "def67890"]);
    assert_eq!((listing.total_messages, listing.sessions[0].preview.as_str()), (4, "What's the time?"));
    assert_eq!(listing.sessions[1].tools, ["web_search"]);
    let voice = store.list(&ListRequest { kind: Some(Kind::Voice), ..request() }).await.unwrap();
    assert_eq!((names(&voice), voice.filtered_sessions, voice.total_sessions), (vec!["def67890"], 1, 2));

    say(&store, "abc123def456", "u", "and now?").await;
    let read: Value =
        serde_json::from_slice(&std::fs::read(file(folder.path(), "sessions", "2026-02-09", "abc123def456")).unwrap())
            .unwrap();
    assert_eq!((read["messages"].as_array().unwrap().len(), &read["stats"]["total_messages"]), (3, &json!(3)));

    // Removed by hand again, while it is in memory.
    std::fs::remove_file(file(folder.path(), "sessions", "2026-02-09", "abc123def456")).unwrap();
    assert!(matches!(store.load(&id("abc123def456")).await, Err(StoreError::NotFound)));
    let listing = list_until(&store, |listing| listing.total_sessions == 1).await;
    assert_eq!(names(&listing), ["def67890"]);
    assert_eq!(std::fs::read(file(folder.path(), "sessions", "2026-02-09", "broken")).unwrap(), b"no JSON");
}

#[tokio::test]
async fn lists_are_in_order_counted_and_paged() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    // Sunday evening in UTC is Monday in Berlin.
    for (name, started) in [
        ("old", "2026-02-01T10:00:00Z"),
        ("sunday", "2026-02-08T23:30:00Z"),
        ("tuesday", "2026-02-10T23:30:00Z"),
        ("today", "2026-02-11T08:00:00Z"),
        ("same-b", "2026-02-11T09:00:00Z"),
        ("same-a", "2026-02-11T09:00:00Z"),
    ] {
        store.create(new(name, at(started))).await.unwrap();
    }
    let utc = store.list(&request()).await.unwrap();
    assert_eq!(names(&utc), ["same-a", "same-b", "today", "tuesday", "sunday", "old"]);
    assert_eq!((utc.total_sessions, utc.sessions_today, utc.sessions_this_week), (6, 3, 4));
    let berlin = store.list(&ListRequest { utc_offset_minutes: 60, ..request() }).await.unwrap();
    assert_eq!((berlin.sessions_today, berlin.sessions_this_week), (4, 5));
    let oldest = store.list(&ListRequest { sort: Sort::Oldest, limit: 2, ..request() }).await.unwrap();
    assert_eq!(names(&oldest), ["old", "sunday"]);
    let offset = store.list(&ListRequest { offset: 4, ..request() }).await.unwrap();
    assert_eq!((names(&offset), &offset.next_cursor), (vec!["sunday", "old"], &None));

    // A cursor is stable while sessions are added.
    let first = store.list(&ListRequest { limit: 2, ..request() }).await.unwrap();
    store.create(new("newest", now())).await.unwrap();
    let next = ListRequest { limit: 2, cursor: first.next_cursor.clone(), ..request() };
    let second = store.list(&next).await.unwrap();
    assert_eq!(names(&second), ["today", "tuesday"]);
    let last = store.list(&ListRequest { limit: 9, cursor: second.next_cursor, ..request() }).await.unwrap();
    assert_eq!((names(&last), &last.next_cursor), (vec!["sunday", "old"], &None));
    for bad in ["", "x", "n1", "o5.abc", "n1.a/b"] {
        let answer = store.list(&ListRequest { cursor: Some(bad.into()), ..request() }).await;
        assert!(matches!(answer, Err(StoreError::Invalid(_))), "{bad:?}");
    }
}

#[tokio::test]
async fn a_change_of_the_metadata_moves_no_session_in_lists() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    let days = |days| now() - TimeDelta::days(days);
    for (name, age) in [("old", 30), ("middle", 20), ("new", 10)] {
        store.create(new(name, days(age))).await.unwrap();
        let message = json!([{"id":"u","role":"user","content":"hello"}]);
        store.save(&id(name), Save { now: days(age), ..save(message) }).await.unwrap();
    }
    let find = async |query: &str| {
        let listing = store.list(&ListRequest { query: Query::parse(query).unwrap(), ..request() }).await.unwrap();
        names(&listing).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = ["new", "middle", "old"];
    assert_eq!(find("").await, all);
    let tag = save(json!([{"id":"u","role":"user","content":"hello","metadata":{"rating":-1}}]));
    let metadata = json!({"tags":["t"],"title":"hello there"}).as_object().unwrap().clone();
    let saved = store.save(&id("old"), Save { metadata, ..tag }).await.unwrap();
    assert_eq!((saved.revision, saved.saved_at.as_str()), (2, "2026-02-11T12:00:00.000Z"));
    assert_eq!(find("").await, all);
    assert_eq!(find("hello").await, all);
    assert_eq!(find("after:2026-02-01").await, ["new"]);
    let first = store.list(&ListRequest { limit: 2, ..request() }).await.unwrap();
    let rest = store.list(&ListRequest { limit: 2, cursor: first.next_cursor.clone(), ..request() }).await.unwrap();
    assert_eq!((names(&first), names(&rest)), (vec!["new", "middle"], vec!["old"]));
    let row = &rest.sessions[0];
    assert_eq!(row.metadata_updated.as_deref(), Some("2026-02-11T12:00:00.000Z"));
    assert_eq!(row.last_updated, "2026-01-12T12:00:00.001Z");
    assert_eq!(first.sessions[0].metadata_updated, None);
    // Neither does the trash, nor a start without an index.
    store.delete(&id("old")).await.unwrap();
    store.restore(&id("old")).await.unwrap();
    assert_eq!(find("").await, all);
    drop(store);
    std::fs::remove_file(folder.path().join("index.sqlite")).unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    let listing = list_until(&store, |listing| listing.total_sessions == 3).await;
    assert_eq!(names(&listing), all);
    assert_eq!(&listing.sessions[2], row);
    store.save(&id("old"), save(json!([{"id":"v","role":"user","content":"more"}]))).await.unwrap();
    assert_eq!(names(&store.list(&request()).await.unwrap()), ["old", "new", "middle"]);
}

#[tokio::test]
async fn searches_look_into_every_branch() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    for (name, minutes) in [("first", 0), ("second", 1), ("third", 2)] {
        store.create(new(name, now() - TimeDelta::minutes(10 - minutes))).await.unwrap();
    }
    say(&store, "first", "u", "The Weather in Rome").await;
    let branch = json!([{"id":"u2","parent_id":null,"role":"user","content":"another beginning"}]);
    store.save(&id("first"), save(branch)).await.unwrap();
    say(&store, "second", "u", "weather in Oslo").await;
    let find = async |text: &str| {
        let found = store.find(&Query::parse(text).unwrap(), None, 0).await.unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(find("WEATHER").await, ["first", "second"]);
    assert_eq!(find("weather rome").await, ["first"]);
    assert_eq!(find("weather paris").await, [""; 0]);
    assert_eq!(find("third").await, ["third"]);
    assert_eq!(find("").await, ["first", "second", "third"]);
    let listing = store.list(&ListRequest { query: Query::parse("oslo").unwrap(), ..request() }).await.unwrap();
    assert_eq!((listing.filtered_sessions, listing.total_sessions), (1, 3));
    let hit = &listing.sessions[0].matches[0];
    assert_eq!((hit.message_id.as_str(), hit.snippet.as_str()), ("u", "weather in Oslo"));
    assert_eq!(hit.ranges, [(11, 15)]);
    // The same from the files alone.
    drop(store);
    let store = FileStore::open(folder.path()).unwrap();
    assert_eq!(store.find(&Query::parse("rome").unwrap(), Some(Kind::Chat), 0).await.unwrap(), [id("first")]);
    assert_eq!(store.find(&Query::parse("rome").unwrap(), Some(Kind::Voice), 0).await.unwrap(), []);
}

#[tokio::test]
async fn replies_are_appended_once_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    store.create(new("abc", now())).await.unwrap();
    let mut begun = save(json!([{"id":"u","role":"user","content":"q"},{"id":"u2","role":"user","content":"r"}]));
    begun.metadata.insert("active_leaf".into(), json!("u"));
    store.save(&id("abc"), begun).await.unwrap();
    let message: Message = serde_json::from_value(json!({"id":"a","parent_id":"u","role":"assistant","content":"x",
        "timestamp":"2026-02-11T12:00:01.000Z","metadata":{"reply_id":"r1"},"parts":[{"type":"text","text":"x"}]}))
    .unwrap();
    let saved = store.append_reply(&id("abc"), message.clone(), now()).await.unwrap();
    assert_eq!(store.append_reply(&id("abc"), message.clone(), now()).await.unwrap(), saved);
    let session = store.load(&id("abc")).await.unwrap();
    assert_eq!(
        (session.messages.len(), session.messages[2].rev, session.revision),
        (3, saved.revision, saved.revision)
    );
    assert_eq!(session.active_leaf(), None);
    let lost = Message { id: "b".into(), parent_id: Some("gone".into()), ..message };
    store.append_reply(&id("abc"), lost, now()).await.unwrap();
    assert_eq!(store.load(&id("abc")).await.unwrap().messages.len(), 4);
}

#[tokio::test]
async fn journals_of_replies_survive_a_torn_end() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    let message: Message = serde_json::from_value(
        json!({"id":"a","parent_id":null,"role":"assistant","content":"","timestamp":"2026-02-11T12:00:01.000Z"}),
    )
    .unwrap();
    let head = ReplyHead { reply_id: "r1".into(), session_id: id("abc"), message };
    store.begin_reply(&head).await.unwrap();
    assert!(matches!(store.begin_reply(&head).await, Err(StoreError::Exists)));
    let delta = |seq, text: &str| ReplyEvent::Delta { seq, text: text.into() };
    store.extend_reply("r1", &[delta(1, "é"), delta(2, "b")]).await.unwrap();
    store.extend_reply("r1", &[delta(3, "c")]).await.unwrap();
    assert!(matches!(store.extend_reply("r2", &[delta(1, "a")]).await, Err(StoreError::NotFound)));
    assert!(matches!(store.extend_reply("../lock", &[delta(1, "a")]).await, Err(StoreError::Invalid(_))));
    drop(store);
    let path = folder.path().join("replies/r1.ndjson");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice("{\"type\":\"delta\",\"seq\":4,\"text\":\"é".as_bytes());
    bytes.pop();
    std::fs::write(&path, bytes).unwrap();
    std::fs::write(folder.path().join("replies/torn.ndjson"), "{\"reply_id\":").unwrap();

    let store = FileStore::open(folder.path()).unwrap();
    let unfinished = store.unfinished_replies().await.unwrap();
    assert_eq!(unfinished, [(head, vec![delta(1, "é"), delta(2, "b"), delta(3, "c")])]);
    store.end_reply("r1").await.unwrap();
    store.end_reply("r1").await.unwrap();
    assert_eq!(store.unfinished_replies().await.unwrap(), []);
}

#[tokio::test]
async fn many_savers_of_one_session_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FileStore::open(folder.path()).unwrap());
    store.create(new("abc", now())).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..10 {
                    say(&store, "abc", &format!("m{task}-{n}"), "x").await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    drop(store.load(&id("abc")).await.unwrap());
    let session = store.load(&id("abc")).await.unwrap();
    assert_eq!((session.messages.len(), session.revision), (80, 80));
    assert_eq!(session.shown().len(), 80, "each follows the one before it");
    assert_eq!(store.list(&request()).await.unwrap().sessions[0].stats.total_messages, 80);
}

#[tokio::test]
async fn of_the_same_id_in_two_places_the_higher_revision_wins() {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    store.create(new("abc", now())).await.unwrap();
    let path = file(folder.path(), "sessions", "2026-02-11", "abc");
    let older = std::fs::read(&path).unwrap();
    say(&store, "abc", "u", "hello").await;
    drop(store);
    put(folder.path(), "2026-02-12", "abc", &older);
    let store = FileStore::open(folder.path()).unwrap();
    assert_eq!(store.list(&request()).await.unwrap().total_messages, 1);
    assert_eq!(store.load(&id("abc")).await.unwrap().messages.len(), 1);
    store.delete(&id("abc")).await.unwrap();
    assert!(matches!(store.load(&id("abc")).await, Err(StoreError::Deleted)), "the other one does not appear instead");
}

#[tokio::test]
async fn links_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret.json"), include_bytes!("fixtures/stored-chat.json")).unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    std::fs::create_dir(folder.path().join("sessions/2026-02-09")).unwrap();
    symlink(outside.path().join("secret.json"), file(folder.path(), "sessions", "2026-02-09", "secret")).unwrap();
    symlink(outside.path(), folder.path().join("sessions/2026-02-10")).unwrap();
    assert!(matches!(store.load(&id("secret")).await, Err(StoreError::NotFound)));
    drop(store);
    let store = FileStore::open(folder.path()).unwrap();
    assert_eq!(store.list(&request()).await.unwrap().total_sessions, 0);
    drop(store);
    std::fs::remove_dir_all(folder.path().join("trash")).unwrap();
    symlink(outside.path(), folder.path().join("trash")).unwrap();
    assert!(matches!(FileStore::open(folder.path()), Err(StoreError::Unwritable(_))));
}

#[test]
fn a_directory_that_cannot_be_used_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plain"), "").unwrap();
    let refused = |path: &Path| match FileStore::open(path) {
        Err(StoreError::Unwritable(text)) => text,
        other => panic!("{other:?}"),
    };
    let text = refused(&folder.path().join("plain/memory"));
    assert!(text.starts_with("The data directory cannot be used") && text.contains("--data-dir"), "{text}");
    let data = folder.path().join("memory");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("sessions"), "").unwrap();
    assert!(refused(&data).contains("sessions"));
    std::fs::remove_file(data.join("sessions")).unwrap();
    let _first = FileStore::open(&data).unwrap();
    assert!(refused(&data).starts_with("Another Verbatim is using the data directory"));
    // Who may do everything, as in a container, is not kept out by permissions.
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o500)).unwrap();
    if std::fs::write(closed.join("probe"), "").is_err() {
        assert!(refused(&closed).contains("cannot be written to"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_writers_who_never_look_again_lose_nothing() {
    const WRITERS: usize = 10;
    const TURNS: usize = 12;
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    store.create(new("abc", now())).await.unwrap();
    say(&store, "abc", "root", "hello").await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut view = vec![json!({"id":"root","role":"user","content":"hello"})];
                let mut answers = Vec::new();
                for turn in 0..TURNS {
                    for role in ["user", "assistant"] {
                        let parent = view.last().unwrap()["id"].clone();
                        let mut message =
                            json!({"id":format!("{role}-{writer}-{turn}"),"role":role,"content":format!("{writer} {turn}")});
                        // Some say what they follow, the others let the order say it.
                        if writer % 2 == 0 {
                            message["parent_id"] = parent;
                        }
                        view.push(message);
                    }
                    let mut all = save(json!(view));
                    all.base_revision = Some(1);
                    answers.push(store.save(&id("abc"), all).await.unwrap());
                }
                answers
            })
        })
        .collect();
    let mut revisions = Vec::new();
    let mut alone = 0;
    for writer in writers {
        let answers = writer.await.unwrap();
        assert!(answers.is_sorted_by_key(|saved| saved.revision));
        alone += answers.iter().filter(|saved| !saved.merged).count();
        revisions.extend(answers.into_iter().map(|saved| saved.revision));
    }
    assert_eq!(alone, 1, "only the first of all saves met the revision that it knew");
    revisions.sort_unstable();
    assert!(revisions.iter().copied().eq(2..2 + (WRITERS * TURNS) as u64), "each save has a revision of its own");

    let path = file(folder.path(), "sessions", "2026-02-11", "abc");
    let kept: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let messages = kept["messages"].as_array().unwrap();
    let place = |id: &str| messages.iter().position(|message| message["id"] == *id).unwrap();
    let ids: HashSet<&str> = messages.iter().map(|message| message["id"].as_str().unwrap()).collect();
    assert_eq!((messages.len(), ids.len()), (1 + 2 * WRITERS * TURNS, 1 + 2 * WRITERS * TURNS));
    for writer in 0..WRITERS {
        let mut before = "root".to_owned();
        for turn in 0..TURNS {
            for role in ["user", "assistant"] {
                let message = format!("{role}-{writer}-{turn}");
                assert_eq!(messages[place(&message)]["parent_id"], before);
                assert!(place(&before) < place(&message));
                before = message;
            }
        }
    }
    let revs: Vec<u64> = messages.iter().map(|message| message["rev"].as_u64().unwrap()).collect();
    assert!(revs.is_sorted());
    assert_eq!((revs.last(), kept["revision"].as_u64()), (revisions.last(), revs.last().copied()));
    assert_eq!(store.load(&id("abc")).await.unwrap().messages.len(), messages.len());
}

/// A store with the session `abc` of two messages, its file, and an open handle of that.
async fn two_messages() -> (tempfile::TempDir, FileStore, PathBuf, std::fs::File) {
    let folder = tempfile::tempdir().unwrap();
    let store = FileStore::open(folder.path()).unwrap();
    store.create(new("abc", now())).await.unwrap();
    say(&store, "abc", "a", "words of a").await;
    say(&store, "abc", "b", "words of b").await;
    let path = file(folder.path(), "sessions", "2026-02-11", "abc");
    let handle = std::fs::File::open(&path).unwrap();
    // The clock of the file system is coarse: what follows is to have another time.
    tokio::time::sleep(Duration::from_millis(20)).await;
    (folder, store, path, handle)
}

/// All that an open file holds, whatever its name is by now.
fn content_of(handle: &std::fs::File) -> String {
    let mut bytes = vec![0; usize::try_from(handle.metadata().unwrap().len()).unwrap()];
    handle.read_exact_at(&mut bytes, 0).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// The names in the folder of a file.
fn beside(path: &Path) -> Vec<String> {
    let names = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<String> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The contents in a session file, which must be plain JSON, and in what the store reads from it when it is opened again.
async fn contents(folder: &Path, store: FileStore, path: &Path) -> Vec<String> {
    drop(store);
    let plain: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let texts: Vec<String> = plain["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message["content"].as_str().unwrap().to_owned())
        .collect();
    let session = FileStore::open(folder).unwrap().load(&id("abc")).await.unwrap();
    assert!(session.messages.iter().map(|message| &message.content).eq(&texts));
    texts
}

const THEIRS: &str =
    ",\n{\"id\":\"t\",\"parent_id\":\"b\",\"role\":\"user\",\"content\":\"theirs\",\"timestamp\":\"\"}\n],";

#[tokio::test]
async fn a_file_replaced_between_two_saves_loses_nothing_and_the_old_one_is_left_alone() {
    let (folder, store, path, old) = two_messages().await;
    let before = content_of(&old);
    // From an older state, so that what was saved last is missing in it.
    let b = before.find(",\n{\"id\":\"b\"").unwrap();
    let tail = before.rfind("\n],").unwrap();
    let theirs = format!("{}{}", &before[..b], before[tail..].replacen("\n],", &THEIRS.replace("\"b\"", "\"a\""), 1));
    std::fs::write(path.with_extension("edited"), theirs).unwrap();
    std::fs::rename(path.with_extension("edited"), &path).unwrap();
    let new = std::fs::File::open(&path).unwrap();
    let replaced = content_of(&new);
    say(&store, "abc", "c", "words of c").await;
    assert_eq!(content_of(&old), before, "nothing is written into a file that lost its name");
    assert_eq!(content_of(&new), replaced, "nor into one from which it would be lost");
    assert_eq!(beside(&path), ["abc.json"]);
    let texts = contents(folder.path(), store, &path).await;
    assert_eq!(texts, ["words of a", "theirs", "words of b", "words of c"]);
}

#[tokio::test]
async fn a_file_edited_in_place_between_two_saves_loses_nothing() {
    let (folder, store, path, handle) = two_messages().await;
    // A message more.
    let edited = content_of(&handle).replace("\n],", THEIRS);
    std::fs::write(&path, edited).unwrap();
    say(&store, "abc", "c", "words of c").await;
    // Other words of the same length.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let at = std::fs::read_to_string(&path).unwrap().find("words of a").unwrap();
    file.write_all_at(b"WORDS OF A", at as u64).unwrap();
    say(&store, "abc", "d", "words of d").await;
    assert_eq!(beside(&path), ["abc.json"]);
    let texts = contents(folder.path(), store, &path).await;
    assert_eq!(texts, ["words of a", "WORDS OF A", "words of b", "theirs", "words of c", "words of d"]);
}

#[tokio::test]
async fn a_file_removed_between_two_saves_is_not_made_anew_nor_written_without_a_name() {
    let (_folder, store, path, handle) = two_messages().await;
    let before = content_of(&handle);
    std::fs::remove_file(&path).unwrap();
    let refused = store.save(&id("abc"), save(json!([{"id":"c","role":"user","content":"c"}]))).await;
    assert!(matches!(refused, Err(StoreError::NotFound)));
    assert_eq!(content_of(&handle), before);
    assert_eq!(beside(&path), [""; 0]);
}

#[tokio::test]
async fn a_file_moved_to_another_day_between_two_saves_is_followed() {
    let (folder, store, path, _) = two_messages().await;
    let moved = file(folder.path(), "sessions", "2026-02-12", "abc");
    std::fs::create_dir(moved.parent().unwrap()).unwrap();
    std::fs::rename(&path, &moved).unwrap();
    say(&store, "abc", "c", "words of c").await;
    assert_eq!((beside(&path), beside(&moved)), (vec![], vec!["abc.json".to_owned()]));
    assert_eq!(contents(folder.path(), store, &moved).await, ["words of a", "words of b", "words of c"]);
}

#[tokio::test]
async fn a_file_truncated_anywhere_between_two_saves_is_mended_from_memory() {
    let whole = content_of(&two_messages().await.3);
    let ends = (0..whole.len()).filter(|end| end % 29 == 0 || whole[*end..].starts_with('\n'));
    for end in ends {
        let (folder, store, path, _) = two_messages().await;
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(end as u64).unwrap();
        say(&store, "abc", "c", "words of c").await;
        let copy = "abc.json.corrupt-1".to_owned();
        let names = beside(&path);
        assert!(names == ["abc.json"] || names == ["abc.json".to_owned(), copy.clone()], "cut at {end}: {names:?}");
        if names.contains(&copy) {
            assert_eq!(std::fs::read_to_string(path.with_file_name(copy)).unwrap(), whole[..end]);
        }
        let texts = contents(folder.path(), store, &path).await;
        assert_eq!(texts, ["words of a", "words of b", "words of c"], "cut at {end}");
    }
}
