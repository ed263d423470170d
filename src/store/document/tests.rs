//! Tests of the session file, on a disk that loses power and runs full.

use super::*;
use crate::model::{Object, parts};
use crate::store::Save;
use crate::store::disk::simulated::SimulatedDisk;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

const ROOT: &str = "data/sessions";

fn path() -> PathBuf {
    Path::new(ROOT).join("2026-02-09/abc123def456.json")
}

fn id() -> SessionId {
    "abc123def456".parse().unwrap()
}

fn now() -> DateTime<Utc> {
    time::parse("2026-02-09T22:00:00Z").unwrap()
}

/// A disk with the folder of a day.
fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new(Path::new(ROOT));
    disk.create_folder(path().parent().unwrap()).unwrap();
    disk.sync_folder(Path::new(ROOT)).unwrap();
    disk
}

fn empty() -> Session {
    Session {
        session_id: id(),
        user_name: "User".into(),
        started_at: "2026-02-09T21:30:00.000Z".into(),
        last_updated: "2026-02-09T21:30:00.000Z".into(),
        metadata_updated: None,
        metadata: Object::from_iter([("type".to_owned(), json!("chat"))]),
        messages: Vec::new(),
        revision: 0,
        extra: Object::from_iter([("mood".to_owned(), json!([1]))]),
    }
}

fn put(bytes: impl AsRef<[u8]>) -> SimulatedDisk {
    let disk = disk();
    disk.put(&path(), bytes.as_ref());
    disk
}

fn open(disk: &SimulatedDisk) -> Document {
    Document::open(disk, &path(), &id()).unwrap()
}

fn text(disk: &SimulatedDisk) -> String {
    String::from_utf8(disk.read(&path()).unwrap().0).unwrap()
}

fn copies(disk: &SimulatedDisk) -> usize {
    disk.files().iter().filter(|path| path.to_string_lossy().contains(".corrupt-")).count()
}

fn save_of(messages: Value, metadata: Value) -> Save {
    Save {
        messages: serde_json::from_value(messages).unwrap(),
        user_name: None,
        metadata: serde_json::from_value(metadata).unwrap(),
        base_revision: None,
        running: HashSet::new(),
        now: now(),
    }
}

fn save(document: &mut Document, disk: &SimulatedDisk, messages: Value, metadata: Value) -> Result<(), StoreError> {
    commit(document, disk, vec![change(messages, metadata)]).remove(0).map(|_| ())
}

fn change(messages: Value, metadata: Value) -> Change {
    let save = save_of(messages, metadata);
    let now = save.now;
    let make_plan: MakePlan =
        Box::new(move |known| merge::plan(known, &save, &mut || uuid::Uuid::new_v4().simple().to_string()));
    Change { now, base_revision: None, make_plan }
}

fn commit(document: &mut Document, disk: &SimulatedDisk, mut changes: Vec<Change>) -> Vec<Result<Saved, StoreError>> {
    match document.refresh(disk) {
        Ok(()) => document.commit(disk, &mut changes),
        Err(error) => changes.iter().map(|_| Err(error.again())).collect(),
    }
}

fn say(document: &mut Document, disk: &SimulatedDisk, id: &str) -> Result<(), StoreError> {
    save(document, disk, json!([{"id":id,"role":"user","content":format!("words of {id}")}]), json!({}))
}

fn ids(document: &Document) -> Vec<&str> {
    document.session().messages.iter().map(|message| message.id.as_str()).collect()
}

#[test]
fn has_exactly_the_documented_layout() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    let head = r#"{"format":1,"session_id":"abc123def456","user_name":"User","started_at":"2026-02-09T21:30:00.000Z","metadata":{"type":"chat"},"mood":[1],"messages":["#;
    assert_eq!(
        text(&disk),
        format!(
            "{head}\n{}",
            r#"],"last_updated":"2026-02-09T21:30:00.000Z","revision":0,"stats":{"total_messages":0,"user_messages":0,"assistant_messages":0,"errors":0}}"#
        )
    );
    say(&mut document, &disk, "a").unwrap();
    say(&mut document, &disk, "b").unwrap();
    let a = r#"{"id":"a","parent_id":null,"role":"user","content":"words of a","timestamp":"2026-02-09T22:00:00.000Z","metadata":{},"rev":1}"#;
    let b = r#"{"id":"b","parent_id":"a","role":"user","content":"words of b","timestamp":"2026-02-09T22:00:00.000Z","metadata":{},"rev":2}"#;
    let tail = r#"],"last_updated":"2026-02-09T22:00:00.001Z","revision":2,"stats":{"total_messages":2,"user_messages":2,"assistant_messages":0,"errors":0}}"#;
    assert_eq!(text(&disk), format!("{head}\n{a},\n{b}\n{tail}"));
    assert!(matches!(open(&disk).form, Form::Own { .. }));
    assert_eq!(open(&disk).session(), document.session());
    assert_eq!(open(&disk).summary(), document.summary());
}

/// A save at so many minutes past the hour.
fn save_at(document: &mut Document, disk: &SimulatedDisk, minute: u32, save: Save) -> Saved {
    let now = now() + chrono::TimeDelta::minutes(i64::from(minute));
    let save = Save { now, ..save };
    let make_plan: MakePlan =
        Box::new(move |known| merge::plan(known, &save, &mut || uuid::Uuid::new_v4().simple().to_string()));
    commit(document, disk, vec![Change { now, base_revision: None, make_plan }]).remove(0).unwrap()
}

/// `last_updated` and `metadata_updated`, as the minutes past the hour.
fn times(document: &Document) -> (String, Option<String>) {
    let minutes = |at: &str| at.strip_prefix("2026-02-09T22:").unwrap_or(at).trim_end_matches(":00.000Z").to_owned();
    let session = document.session();
    assert_eq!(
        (&document.summary().last_updated, &document.summary().metadata_updated),
        (&session.last_updated, &session.metadata_updated)
    );
    (minutes(&session.last_updated), session.metadata_updated.as_deref().map(minutes))
}

/// A session in which each message follows any other one, or none; mostly one before it.
fn any_tree() -> impl Strategy<Value = Session> {
    let message = (0..16_usize, any::<bool>(), prop::bool::weighted(0.3));
    let messages = prop::collection::vec(message, 0..14);
    (messages, prop::bool::weighted(0.8), prop::option::weighted(0.4, 0..16_usize)).prop_map(
        |(list, in_order, leaf)| {
            let messages = list.into_iter().enumerate().map(|(position, (parent, is_user, is_hidden))| {
                let parent = if in_order { parent.min(position) } else { parent };
                let parent = parent.checked_sub(1).map(|parent| format!("m{parent}"));
                let role = if is_user { "user" } else { "assistant" };
                let message = json!({"id":format!("m{position}"),"parent_id":parent,"role":role,"timestamp":"",
                "content":format!(" words {position} "),"metadata":{"hidden":is_hidden}});
                serde_json::from_value(message).unwrap()
            });
            let mut session = Session { messages: messages.collect(), ..empty() };
            if let Some(leaf) = leaf {
                session.metadata.insert("active_leaf".into(), json!(format!("m{leaf}")));
            }
            session
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: fuzz_cases(1_000), ..ProptestConfig::default() })]

    #[test]
    fn a_part_in_memory_is_that_of_the_whole(tree in any_tree(), last in 0..16_usize, is_held in any::<bool>()) {
        let disk = disk();
        let mut document = Document::create(&disk, &path(), tree).unwrap();
        let held = is_held.then(|| Arc::clone(document.session()));
        for step in 0..3 {
            match step {
                0 => {}
                1 => say(&mut document, &disk, "later").unwrap(),
                _ => save(&mut document, &disk, json!([]), json!({"active_leaf":"m3"})).unwrap(),
            }
            let session = document.copy();
            let ids = session.messages.iter().map(|message| message.id.clone());
            for before in std::iter::once(None).chain(ids.chain(["gone".to_owned()]).map(Some)) {
                let wanted = PartRequest { last, before: before.clone(), holds: before };
                prop_assert_eq!(document.part(&wanted), SessionPart::of_whole(&session, &wanted));
            }
        }
        drop(held);
    }
}

#[test]
fn what_is_not_said_moves_only_the_time_of_the_metadata() {
    let nothing = || save_of(json!([]), json!({}));
    let patch = |metadata: Value| save_of(json!([]), metadata);
    let turn = |metadata: Value| {
        save_of(json!([{"id":"u","role":"user","content":"words of u","metadata":metadata}]), json!({}))
    };
    let cases = [
        ("a title", patch(json!({"title":"T"}))),
        ("tags", patch(json!({"tags":["a"]}))),
        ("a pin", patch(json!({"pinned":true}))),
        ("archiving", patch(json!({"archived":true}))),
        ("a model", patch(json!({"model":"m"}))),
        ("another version shown", patch(json!({"active_leaf":"u"}))),
        ("what another program keeps there", patch(json!({"mood":{"a":1}}))),
        ("a rating", turn(json!({"rating":1}))),
        ("hiding", turn(json!({"hidden":true}))),
        ("a name", Save { user_name: Some("Ada".into()), ..nothing() }),
    ];
    for (what, change) in cases {
        let disk = disk();
        let mut document = Document::create(&disk, &path(), empty()).unwrap();
        save_at(&mut document, &disk, 1, turn(json!({})));
        say(&mut document, &disk, "v").unwrap();
        let said = document.session().last_updated.clone();
        let saved = save_at(&mut document, &disk, 5, change.clone());
        assert_eq!(times(&document).1.as_deref(), Some("05"), "{what}");
        assert_eq!(document.session().last_updated, said, "{what}");
        assert_eq!((saved.revision, saved.saved_at.as_str()), (3, "2026-02-09T22:05:00.000Z"), "{what}");
        assert_eq!(memory(&open(&disk)), memory(&document), "{what}");
        // Once more: nothing has changed.
        assert_eq!(save_at(&mut document, &disk, 6, change), saved, "{what}");
        // What is said then is said later, also after the clock was set back.
        save_at(&mut document, &disk, 0, save_of(json!([{"role":"user","content":"w"}]), json!({})));
        let later = time::parse(&document.session().last_updated);
        assert!(later > time::parse(&said), "{what}");
        assert!(times(&document).1.is_some(), "{what}");
        save_at(&mut document, &disk, 7, save_of(json!([{"role":"user","content":"x"}]), json!({})));
        assert_eq!(times(&document).0, "07", "{what}");
        assert_eq!(memory(&open(&disk)), memory(&document), "{what}");
    }
}

#[test]
fn a_save_of_both_moves_both_times_and_the_first_line_holds_the_second() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    let message = json!([{"id":"a","role":"user","content":"hello"}]);
    assert_eq!(times(&document), ("2026-02-09T21:30".into(), None));
    save_at(&mut document, &disk, 3, save_of(message.clone(), json!({"title":"T"})));
    assert_eq!(times(&document), ("03".into(), Some("03".into())));
    assert_eq!(save_at(&mut document, &disk, 4, save_of(message, json!({"title":"T"}))).revision, 1);
    // The clock was set back.
    save_at(&mut document, &disk, 1, save_of(json!([]), json!({"title":"U"})));
    assert_eq!(times(&document), ("03".into(), Some("03:00.001Z".into())));
    let head = r#""metadata":{"type":"chat","title":"U"},"metadata_updated":"2026-02-09T22:03:00.001Z","mood":[1],"messages":["#;
    assert!(text(&disk).contains(head), "{}", text(&disk));
    let tail: Value =
        serde_json::from_str(&format!("{{\"messages\":[{}", text(&disk).lines().last().unwrap())).unwrap();
    assert_eq!(tail.as_object().unwrap().keys().collect::<Vec<_>>(), ["messages", "last_updated", "revision", "stats"]);
}

#[test]
fn an_old_file_has_no_time_of_the_metadata_until_these_change() {
    let old = r#"{"format":1,"session_id":"abc123def456","user_name":"User","started_at":"2026-01-01T00:00:00.000Z","metadata":{"title":"Old"},"messages":[
{"id":"a","parent_id":null,"role":"user","content":"hi","timestamp":"2026-01-01T00:00:00.000Z","metadata":{},"rev":1}
],"last_updated":"2026-01-01T00:00:01.000Z","revision":1,"stats":{"total_messages":1,"user_messages":1,"assistant_messages":0,"errors":0}}"#;
    let disk = put(old);
    let mut document = open(&disk);
    assert_eq!(times(&document), ("2026-01-01T00:00:01.000Z".into(), None));
    save_at(&mut document, &disk, 2, save_of(json!([]), json!({"title":"New"})));
    assert_eq!(times(&document), ("2026-01-01T00:00:01.000Z".into(), Some("02".into())));
    assert_eq!(times(&open(&disk)), times(&document));
    // What is no time of ours is told of, as in any other field, and copied before it is lost.
    for (odd, copied) in [("null", 0), ("7", 1)] {
        let disk = put(old.replace("\"messages\":[", &format!("\"metadata_updated\":{odd},\"messages\":[")));
        let mut document = open(&disk);
        assert_eq!(times(&document).1, None, "{odd}");
        assert!(!document.session().extra.contains_key("metadata_updated"));
        say(&mut document, &disk, "b").unwrap();
        assert_eq!(copies(&disk), copied, "{odd}");
        assert_eq!(ids(&open(&disk)), ["a", "b"]);
    }
    // Of a file that another program wrote back the later times count.
    let mut ours = document.session().as_ref().clone();
    let theirs = Session { metadata_updated: None, last_updated: "2026-01-01T00:00:00.500Z".into(), ..ours.clone() };
    let (united, _) = merge::unite(&ours, theirs, true);
    assert_eq!(united, ours);
    ours.metadata_updated = None;
    let theirs = Session { metadata_updated: Some("2026-01-02T00:00:00Z".into()), ..ours.clone() };
    assert_eq!(merge::unite(&ours, theirs.clone(), true).0, theirs);
}

#[test]
fn an_append_writes_little_and_a_save_of_nothing_new_writes_nothing() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    let many: Vec<Value> =
        (0..500).map(|n| json!({"id":format!("m{n}"),"role":"user","content":"x".repeat(100)})).collect();
    save(&mut document, &disk, json!(many), json!({})).unwrap();
    let (before, inode) = (disk.written(), document.stamp().inode);
    let message = json!([{"id":"last","role":"assistant","content":"y".repeat(2000)}]);
    save(&mut document, &disk, message.clone(), json!({})).unwrap();
    assert!(disk.written() - before <= 2000 + 1024, "{} bytes", disk.written() - before);
    assert_eq!(document.stamp().inode, inode, "in place");
    let (before, revision) = (disk.written(), document.session().revision);
    save(&mut document, &disk, message, json!({"type":"chat"})).unwrap();
    assert_eq!((disk.written(), document.session().revision), (before, revision));
    assert_eq!(open(&disk).summary(), document.summary());
}

#[test]
fn summaries_kept_up_by_appends_equal_those_worked_out_anew() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    let steps = [
        json!([{"id":"s","role":"system","content":"be kind"}]),
        json!([{"id":"u","role":"user","content":" hello "},{"id":"a","role":"assistant","content":"🛠️ now() x"}]),
        json!([{"id":"h","role":"user","content":"gone","metadata":{"hidden":true}}]),
        json!([{"id":"e","role":"assistant","content":"🛠️ now() 🛠️ later()","metadata":{"error":"x"}}]),
        json!([{"id":"b","parent_id":"u","role":"assistant","content":"branch"}]),
    ];
    for step in steps {
        save(&mut document, &disk, step, json!({})).unwrap();
        assert_eq!(*document.summary(), document.session().summary());
        assert_eq!(open(&disk).session(), document.session());
    }
}

#[test]
fn summaries_are_right_on_another_branch_and_below_a_reply_that_is_still_to_come() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    for id in ["a", "b", "c"] {
        say(&mut document, &disk, id).unwrap();
    }
    let reply = |id: &str, parent: &str| {
        let message: Message = serde_json::from_value(
            json!({"id":id,"parent_id":parent,"role":"assistant","content":id,"timestamp":"2026-02-09T22:00:00Z"}),
        )
        .unwrap();
        let make_plan: MakePlan = Box::new(move |known| Ok(merge::plan_reply(known, &message)));
        Change { now: now(), base_revision: None, make_plan }
    };
    let mut early = save_of(json!([{"id":"e","parent_id":"r","role":"user","content":"early"}]), json!({}));
    early.running.insert("r".to_owned());
    let early: MakePlan = Box::new(move |known| merge::plan(known, &early, &mut String::new));
    let steps = [
        (change(json!([]), json!({"active_leaf":"b"})), 2),
        (reply("other", "c"), 2),
        (change(json!([]), json!({"active_leaf":null})), 4),
        (Change { now: now(), base_revision: None, make_plan: early }, 5),
        (reply("r", "b"), 3),
        (saying("d"), 4),
    ];
    for (number, (step, shown)) in steps.into_iter().enumerate() {
        commit(&mut document, &disk, vec![step]).remove(0).unwrap();
        assert_eq!(document.summary().stats.total_messages, shown, "step {number}");
        assert_eq!(*document.summary(), document.session().summary(), "step {number}");
        assert_eq!(memory(&open(&disk)), memory(&document), "step {number}");
    }
}

#[test]
fn nothing_in_a_summary_is_endless_and_the_file_keeps_all_of_it() {
    let disk = disk();
    let long = |name: &str| format!("{name}{}", "\u{e9}".repeat(100_000));
    let mut session = empty();
    (session.user_name, session.started_at) = (long("user"), long("started"));
    session.last_updated = long("updated");
    session.metadata.insert("title".to_owned(), json!(long("title")));
    let tags: Vec<String> = (0..10_000).map(|number| format!("tag {number}")).collect();
    session.metadata.insert("tags".to_owned(), json!([vec![long("tag")], tags].concat()));
    let mut document = Document::create(&disk, &path(), session).unwrap();
    let marks: String = (0..10_000).map(|number| format!("🛠️ tool_{number}() ")).collect();
    for (id, tool) in [("a", long("tool")), ("b", long("tool")), ("c", "short\nname".to_owned())] {
        let parts = json!([{"type":"tool","name":tool,"params":""},{"type":"text","text":marks}]);
        let message = json!([{"id":id,"role":"assistant","content":marks,"parts":parts}]);
        save(&mut document, &disk, message, json!({})).unwrap();
        for document in [&document, &open(&disk)] {
            let summary = document.summary();
            assert!(serde_json::to_string(summary).unwrap().len() < 20_000);
            assert_eq!(*summary, document.session().summary());
            assert!(summary.title.as_ref().unwrap().starts_with("title\u{e9}") && summary.tags[1] == "tag 0");
            assert!(summary.tools[0].ends_with("\u{e9}…") && summary.tools[1] == "tool_0", "{:?}", summary.tools);
        }
    }
    assert_eq!(document.session().metadata["title"], json!(long("title")));
    assert!(text(&disk).contains(&long("tool")) && text(&disk).contains("tag 9999"));
}

#[test]
fn metadata_changes_replace_the_file_and_raise_the_revision() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    say(&mut document, &disk, "a").unwrap();
    let inode = document.stamp().inode;
    save(
        &mut document,
        &disk,
        json!([{"id":"a","role":"user","content":"words of a","metadata":{"hidden":true}}]),
        json!({"title":"T"}),
    )
    .unwrap();
    assert_ne!(document.stamp().inode, inode);
    let read = open(&disk);
    assert_eq!((read.session().revision, read.session().messages[0].rev), (2, 2));
    assert_eq!(read.session().metadata["title"], "T");
    assert_eq!(disk.files(), [path()], "no temporary file is left");
}

#[test]
fn files_of_the_older_system_are_read_as_they_are_and_rewritten_at_the_first_change() {
    let disk = put(include_bytes!("../../../tests/fixtures/stored-chat.json"));
    let original = text(&disk);
    let document = open(&disk);
    let session = document.session();
    assert_eq!(session.messages[1].content, "🛠️ datetime() Let me check...");
    assert_eq!(session.messages[1].parent_id.as_deref(), Some(session.messages[0].id.as_str()));
    assert_eq!((session.revision, document.summary().stats.total_messages), (0, 2));
    assert_eq!(open(&disk).session(), document.session(), "ids are the same at each reading");
    assert_eq!(text(&disk), original, "reading writes nothing");
    let mut document = document;
    say(&mut document, &disk, "a").unwrap();
    assert!(text(&disk).starts_with("{\"format\":1,"));
    assert_eq!(copies(&disk), 0, "nothing was lost, so nothing is copied");
    assert_eq!(open(&disk).session(), document.session());
    assert_eq!(ids(&document).len(), 3);
}

#[test]
fn an_exported_file_is_read_without_its_derived_fields() {
    let disk = put(include_bytes!("../../../tests/fixtures/exported-chat.json"));
    let document = open(&disk);
    assert!(document.session().messages[1].extra.is_empty());
    assert_eq!(document.session().messages[1].modes().map(|modes| modes.commander), Some(true));
    assert_eq!(document.complaint(), None);
    let disk = put(text(&disk).replace("\"name\": \"datetime\"", "\"name\": \"another\""));
    assert!(open(&disk).complaint().is_some(), "tool uses that cannot be worked out again are copied first");
}

#[test]
fn oddities_of_other_programs_are_read() {
    let disk = put(include_bytes!("../../../tests/fixtures/oddities.json"));
    let mut document = open(&disk);
    let session = document.session();
    let contents: Vec<&str> = session.messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(
        contents,
        [
            "half \u{FFFD} of it, whole 🛠, no escape \\ud800",
            "",
            "[{\"text\":\"x\",\"type\":\"text\"}]",
            "twice",
            "twice"
        ]
    );
    assert_eq!(session.messages[3].id, "same");
    assert_ne!(session.messages[4].id, "same");
    assert_eq!(session.messages[0].timestamp, session.started_at);
    assert_eq!(session.messages[1].timestamp, "2026-01-01T00:00:01Z");
    assert_eq!(session.messages[2].timestamp, "2026-01-01T00:00:01Z");
    assert_eq!(session.last_updated, "2026-01-01T00:00:01Z");
    assert_eq!(session.extra["colour"], "blue");
    assert_eq!(session.session_id, id(), "the file's name rules");
    say(&mut document, &disk, "a").unwrap();
    assert_eq!(copies(&disk), 1, "the halves of characters cannot be kept");
    say(&mut document, &disk, "b").unwrap();
    assert_eq!(copies(&disk), 1);
    assert_eq!(open(&disk).session(), document.session());
}

/// A file of ours with two messages of which the second has this in its metadata.
fn with_metadata(value: &str) -> String {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    say(&mut document, &disk, "a").unwrap();
    save(&mut document, &disk, json!([{"id":"b","role":"user","content":"x","metadata":{"x":"here"}}]), json!({}))
        .unwrap();
    text(&disk).replace("\"here\"", value)
}

#[test]
fn words_that_are_no_json_cost_no_message_and_are_replaced_after_a_copy() {
    for (written, expected) in [("NaN", json!(null)), ("[-Infinity,1]", json!([null, 1])), ("007", json!("007"))] {
        let bytes = with_metadata(written);
        // As a file of ours, as one that another program arranged in its own way, and with a line beside it that cannot be read.
        let arranged = bytes.replace(",\"", " , \"");
        let torn = bytes.replace("\"content\":\"words of a\"", "\"content\":\"wor");
        for (bytes, known) in [(&bytes, 2), (&arranged, 2), (&torn, 1)] {
            let disk = put(bytes);
            let mut document = open(&disk);
            assert_eq!(document.session().messages.len(), known, "{bytes}");
            assert_eq!(document.session().messages.last().unwrap().metadata["x"], expected);
            assert_eq!(disk.read(&path()).unwrap().0, bytes.as_bytes(), "reading never writes");
            say(&mut document, &disk, "new").unwrap();
            assert_eq!(copies(&disk), 1, "{bytes}");
            assert_eq!(open(&disk).session(), document.session());
            serde_json::from_str::<Value>(&text(&disk)).unwrap();
        }
        let head =
            put(bytes.replace("\"here\"", "1").replace(r#""type":"chat""#, &format!(r#""type":"chat","x":{written}"#)));
        assert_eq!(open(&head).session().metadata["x"], expected, "in the head");
    }
}

#[test]
fn a_file_in_which_a_field_stands_twice_is_copied_before_it_is_written_anew() {
    for (once, twice, kept) in [
        (r#""content":"words of a""#, r#""content":"first","content":"second""#, "second"),
        (r#"{"x":"here"}"#, r#"{"x":"first","x":"second"}"#, "second"),
        (r#"{"x":"here"}"#, r#"{"y":[{"\u0061":"first","b":{},"a":"second"}]}"#, "second"),
        (r#"{"type":"chat"}"#, r#"{"type":"voice","x":{"x":1},"type":"chat"}"#, "chat"),
        (r#""user_name":"#, r#""user_name":"first","user_name":"#, "User"),
    ] {
        let bytes = with_metadata("\"here\"").replace(once, twice);
        assert!(bytes.contains(twice), "{bytes}");
        // As a file of ours, as one that another program arranged in its own way, and torn by a crash.
        let (arranged, torn) = (bytes.replace("\":", "\" : "), bytes[..bytes.len() - 20].to_owned());
        for bytes in [bytes, arranged, torn] {
            let disk = put(&bytes);
            let mut document = open(&disk);
            let complaint = document.complaint().unwrap_or_default().to_owned();
            assert!(complaint.contains("a field stands there twice"), "{complaint}: {bytes}");
            say(&mut document, &disk, "new").unwrap();
            assert_eq!(copies(&disk), 1, "{bytes}");
            let written = open(&disk);
            assert_eq!((written.session(), written.complaint()), (document.session(), None));
            assert!(text(&disk).contains(kept) && !text(&disk).contains("first"));
        }
    }
    let words = r#"{\"a\":1,\"a\":2}"#;
    let bytes = with_metadata(&format!("[{{\"a\":\"{words}\"}},{{\"a\":{{\"a\":1}}}}]"));
    assert_eq!(open(&put(bytes)).complaint(), None, "in words, side by side and inside each other it is no harm");
}

#[test]
fn numbers_of_any_size_stay_as_they_are_without_a_copy() {
    for number in ["1e+999", "99999999999999999999", "-0.0", "0.1000", "1e-5", "[1.0,1.00]"] {
        let bytes = with_metadata(number);
        let disk = put(&bytes);
        let mut document = open(&disk);
        assert!(matches!(document.form, Form::Own { .. }), "{number}");
        say(&mut document, &disk, "new").unwrap();
        save(&mut document, &disk, json!([]), json!({"title":"written anew"})).unwrap();
        assert_eq!((text(&disk).matches(number).count(), copies(&disk)), (1, 0), "{number}");
        // The same in a file of another program.
        let disk = put(bytes.replace(",\"", " , \""));
        say(&mut open(&disk), &disk, "new").unwrap();
        assert_eq!((text(&disk).matches(number).count(), copies(&disk)), (1, 0), "{number}");
    }
}

#[test]
fn what_is_nested_too_deep_is_kept_as_text_after_a_copy() {
    for levels in [97, 98, 99, 100, 122, 124, 125, 126, 127, 128, 1_000] {
        let value = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        let bytes = with_metadata(&value);
        for bytes in [bytes.clone(), bytes.replace(",\"", " , \"")] {
            let disk = put(&bytes);
            let mut document = open(&disk);
            assert_eq!(ids(&document), ["a", "b"], "{levels}");
            let found = document.session().messages[1].metadata["x"].to_string().replace('"', "");
            assert_eq!(found, value, "{levels}: nothing of it is lost");
            say(&mut document, &disk, "new").unwrap();
            assert_eq!(copies(&disk), usize::from(levels > 98), "{levels}");
            let read = open(&disk);
            assert_eq!(read.session(), document.session());
            assert!(matches!(read.form, Form::Own { .. }));
        }
        let head = put(with_metadata("1").replace(r#""type":"chat""#, &format!(r#""x":{value}"#)));
        let mut document = open(&head);
        assert_eq!(document.session().metadata["x"].to_string().replace('"', ""), value);
        say(&mut document, &head, "new").unwrap();
        assert!(matches!(open(&head).form, Form::Own { .. }), "{levels}");
    }
}

#[test]
fn whatever_is_to_be_kept_is_written_so_that_it_is_read_back() {
    let deep: Value = (0..126).fold(json!(1), |value, _| json!([value]));
    let mark = json!({"$serde_json::private::Number":"x","y":1});
    let disk = disk();
    let mut session = empty();
    session.metadata.insert("x".to_owned(), deep.clone());
    let mut document = Document::create(&disk, &path(), session).unwrap();
    assert_eq!(open(&disk).session(), document.session());
    let message = json!([{"id":"a","role":"assistant","content":"x","metadata":mark,"$serde_json::private::Number":"x",
        "parts":[{"type":"tool","name":"t","x":1},{"type":"later"},{"type":"text","text":"x"}]}]);
    let mut message: Vec<crate::model::message::MessageInput> = serde_json::from_value(message).unwrap();
    for part in message[0].parts.iter_mut().flatten() {
        match part {
            parts::Part::Tool(call) => (call.arguments, call.result) = (Some(deep.clone()), Some(deep.clone())),
            parts::Part::Text { extra, .. } | parts::Part::Reasoning { extra, .. } => {
                drop(extra.insert("x".to_owned(), deep.clone()))
            }
            parts::Part::Other(value) => value["x"] = deep.clone(),
        }
    }
    message[0].extra.insert("deep".to_owned(), deep.clone());
    message[0].metadata.insert("deep".to_owned(), deep.clone());
    let mut save = save_of(json!([]), mark);
    save.metadata.insert("deep".to_owned(), deep.clone());
    save.messages = message;
    let make_plan: MakePlan = Box::new(move |known| merge::plan(known, &save, &mut String::new));
    let change = Change { now: now(), base_revision: None, make_plan };
    commit(&mut document, &disk, vec![change]).remove(0).unwrap();
    let read = open(&disk);
    assert!(matches!(read.form, Form::Own { .. }), "{}", text(&disk));
    assert_eq!(read.session(), document.session());
}

#[test]
fn a_file_with_another_name_is_replaced_and_not_written_into() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    say(&mut document, &disk, "a").unwrap();
    let inode = document.stamp().inode;
    disk.link(&path());
    let answers = commit(&mut document, &disk, vec![saying("b"), saying("c")]);
    assert!(answers.iter().all(Result::is_ok));
    let own = document.stamp().inode;
    assert_ne!(own, inode, "another file");
    say(&mut document, &disk, "d").unwrap();
    assert_eq!(document.stamp().inode, own, "which is written into, as it has one name");
    disk.link(&path());
    let mut document = open(&disk);
    say(&mut document, &disk, "e").unwrap();
    assert_ne!(document.stamp().inode, own, "also where it was just opened");
    assert_eq!(ids(&open(&disk)), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_save_that_would_make_the_file_too_large_is_refused_and_leaves_no_trace() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    say(&mut document, &disk, "a").unwrap();
    let before = text(&disk);
    disk.limit_files(before.len() as u64 + 200);
    let large = json!([{"id":"b","role":"user","content":"x".repeat(300)}]);
    assert!(matches!(save(&mut document, &disk, large, json!({})), Err(StoreError::TooLarge(_))));
    let title = json!({"title":"x".repeat(300)});
    assert!(matches!(save(&mut document, &disk, json!([]), title), Err(StoreError::TooLarge(_))));
    assert_eq!((text(&disk), ids(&document)), (before, vec!["a"]));
    save(&mut document, &disk, json!([{"id":"c","role":"user","content":"short"}]), json!({})).unwrap();
    assert_eq!(open(&disk).session(), document.session());
    // It takes nothing with it of what is saved at the same time.
    let message = |id: &str, size: usize| json!([{"id":id,"role":"user","content":"x".repeat(size)}]);
    disk.limit_files(text(&disk).len() as u64 + 1_000);
    let changes = vec![
        change(message("d", 10), json!({})),
        change(message("e", 2_000), json!({})),
        change(message("f", 10), json!({})),
    ];
    let results = commit(&mut document, &disk, changes);
    assert!(
        results[0].is_ok() && matches!(results[1], Err(StoreError::TooLarge(_))) && results[2].is_ok(),
        "{results:?}"
    );
    assert_eq!(ids(&open(&disk)), ["a", "c", "d", "f"]);
    assert_eq!(open(&disk).session(), document.session());
    let elsewhere = Path::new(ROOT).join("2026-02-09/other.json");
    let mut large = empty();
    large.metadata.insert("x".to_owned(), json!("x".repeat(2_000)));
    assert!(matches!(Document::create(&disk, &elsewhere, large), Err(StoreError::TooLarge(_))));
}

/// What the log says while this is done.
fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let writer = sink.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(log, work);
    let written = sink.0.lock().unwrap().clone();
    String::from_utf8(written).unwrap()
}

#[test]
fn the_log_tells_of_no_refusal_that_is_none() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    let message = |id: &str, size: usize| json!([{"id":id,"role":"user","content":"x".repeat(size)}]);
    disk.limit_files(text(&disk).len() as u64 + 2_000);
    let log = logged(|| {
        let changes = vec![
            change(message("a", 500), json!({})),
            change(message("b", 5_000), json!({})),
            change(message("c", 500), json!({})),
        ];
        let results = commit(&mut document, &disk, changes);
        assert!(results[0].is_ok() && results[1].is_err() && results[2].is_ok(), "{results:?}");
    });
    assert_eq!(log.matches("a save is refused").count(), 1, "{log}");
    let log = logged(|| {
        let title = json!({"title":"x".repeat(5_000)});
        assert!(save(&mut document, &disk, json!([]), title).is_err());
    });
    assert_eq!(log.matches("a save is refused").count(), 1, "{log}");
}

#[test]
fn what_is_no_session_is_left_alone() {
    for bytes in [&b""[..], b"\0\0\0", b"[]", b"{}", b"{\"messages\":3}", b"<html>", b"{\n\"messages\": [\n{\"role\":"]
    {
        let disk = put(bytes);
        assert!(matches!(Document::open(&disk, &path(), &id()), Err(StoreError::Unreadable(_))), "{bytes:?}");
        assert_eq!(disk.read(&path()).unwrap().0, bytes);
    }
    let nested = format!("{{\"messages\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(Document::open(&put(nested), &path(), &id()), Err(StoreError::Unreadable(_))));
}

#[test]
fn a_newer_format_is_only_read() {
    let disk = put(include_bytes!("../../../tests/fixtures/newer-format.json"));
    let before = text(&disk);
    let mut document = open(&disk);
    assert_eq!(document.session().messages[0].content, "from the future");
    assert!(matches!(say(&mut document, &disk, "a"), Err(StoreError::ReadOnly(_))));
    assert_eq!(text(&disk), before);
}

/// A file of ours with four messages.
fn four() -> String {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    for id in ["a", "b", "c", "d"] {
        say(&mut document, &disk, id).unwrap();
    }
    text(&disk)
}

#[test]
fn a_torn_tail_is_replaced_without_a_copy_wherever_it_tears() {
    let whole = four();
    let third = whole.find(",\n{\"id\":\"d\"").unwrap();
    for end in third..whole.len() {
        let disk = put(&whole[..end]);
        let mut document = open(&disk);
        assert!(ids(&document).starts_with(&["a", "b", "c"]), "cut at {end}");
        say(&mut document, &disk, "e").unwrap();
        assert_eq!(copies(&disk), 0, "cut at {end}");
        assert_eq!(ids(&open(&disk)), ids(&document));
        assert!(matches!(open(&disk).form, Form::Own { .. }));
    }
}

#[test]
fn a_bad_line_elsewhere_is_copied_first_and_every_readable_line_is_kept() {
    let whole = four();
    for (bad, kept) in [
        (whole.replace("\"words of b\"", "\"words of b"), vec!["a", "c", "d"]),
        (whole.replace("\"words of d\"", "\"words \0 of d\""), vec!["a", "b", "c"]),
        (whole.replace("\"user_name\":", "\"user_name\""), vec!["a", "b", "c", "d"]),
    ] {
        let disk = put(&bad);
        let mut document = open(&disk);
        assert_eq!(ids(&document), kept);
        assert_eq!(copies(&disk), 0, "reading writes nothing");
        say(&mut document, &disk, "e").unwrap();
        let copy = layout::damaged_copy(&path(), 1);
        assert_eq!(disk.read(&copy).unwrap().0, bad.as_bytes());
        assert_eq!(ids(&open(&disk)).len(), kept.len() + 1);
    }
}

#[test]
fn a_second_damage_gets_a_second_copy() {
    let disk = put(four().replace("\"words of b\"", "\"words of b"));
    disk.put(&layout::damaged_copy(&path(), 1), b"an older copy");
    say(&mut open(&disk), &disk, "e").unwrap();
    assert_eq!(disk.read(&layout::damaged_copy(&path(), 1)).unwrap().0, b"an older copy");
    assert_eq!(copies(&disk), 2);
}

#[test]
fn fixtures_of_damage_are_read() {
    let torn = open(&put(include_bytes!("../../../tests/fixtures/torn-tail.json")));
    assert_eq!((ids(&torn), torn.complaint()), (vec!["m1", "m2"], None));
    let bad = open(&put(include_bytes!("../../../tests/fixtures/bad-line.json")));
    assert_eq!(ids(&bad), ["m1", "m3"]);
    assert!(bad.complaint().is_some());
}

#[test]
fn a_message_line_without_parent_put_there_by_hand_follows_the_one_before() {
    let by_hand = four().replace("\n],", ",\n{\"role\":\"user\",\"content\":\"by hand\"}\n],");
    let document = open(&put(by_hand));
    assert_eq!(document.session().messages[4].parent_id.as_deref(), Some("d"));
}

#[test]
fn a_full_disk_loses_nothing_and_saving_resumes() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    let mut expected: Vec<String> = Vec::new();
    for free in 0..400 {
        let before = text(&disk);
        disk.run_full(Some(free));
        let name = format!("m{free}");
        let refused = say(&mut document, &disk, &name);
        if refused.is_err() {
            assert!(matches!(refused, Err(StoreError::Unwritable(_))), "{refused:?}");
            assert_eq!(text(&disk), before, "the old tail is put back");
            assert_eq!(ids(&document), expected);
            assert!(save(&mut document, &disk, json!([]), json!({"title":name})).is_err());
            disk.run_full(None);
            say(&mut document, &disk, &name).unwrap();
        }
        disk.run_full(None);
        expected.push(name);
        assert_eq!(ids(&open(&disk)), expected);
    }
}

#[test]
fn a_write_that_cannot_be_undone_makes_the_session_read_only_until_it_can() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    say(&mut document, &disk, "a").unwrap();
    disk.fail_operations(0, u64::MAX, 40);
    assert!(matches!(say(&mut document, &disk, "b"), Err(StoreError::Unwritable(_))));
    assert!(matches!(document.form, super::Form::Torn { .. }));
    assert!(matches!(say(&mut document, &disk, "b"), Err(StoreError::Unwritable(_))));
    assert_eq!(ids(&document), ["a"], "it is still read");
    assert_eq!(ids(&open(&disk)), ["a"], "also by who reads the file");
    assert!(!document.can_be_forgotten());
    disk.fail_operations(0, 0, 0);
    say(&mut document, &disk, "b").unwrap();
    assert_eq!(ids(&open(&disk)), ["a", "b"]);
}

#[test]
fn what_a_killed_server_left_unsynced_is_synced_before_it_is_acknowledged() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    say(&mut document, &disk, "a").unwrap();
    // The write succeeds, then the server is killed before it syncs.
    disk.fail_operations(1, u64::MAX, 0);
    say(&mut document, &disk, "b").unwrap_err();
    disk.fail_operations(0, 0, 0);
    let mut document = open(&disk);
    assert_eq!(ids(&document), ["a", "b"]);
    let written = disk.written();
    say(&mut document, &disk, "b").unwrap();
    assert_eq!(disk.written(), written, "it stands there already");
    disk.lose_power(|_| 0);
    assert_eq!(ids(&open(&disk)), ["a", "b"]);
}

#[test]
fn what_another_program_wrote_between_two_saves_is_kept_and_ours_too() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    say(&mut document, &disk, "a").unwrap();
    let old = text(&disk);
    say(&mut document, &disk, "b").unwrap();
    // Another program had read the file before our last save, and writes its own version over it.
    let theirs =
        old.replace("\n],", ",\n{\"id\":\"x\",\"parent_id\":\"a\",\"role\":\"user\",\"content\":\"theirs\"}\n],");
    disk.put(&path(), theirs.as_bytes());
    document.refresh(&disk).unwrap();
    assert_eq!(ids(&document), ["a", "x", "b"]);
    assert!(!document.can_be_forgotten(), "only memory holds b");
    assert_eq!(text(&disk), theirs);
    // A save that is repeated is acknowledged only when its message is on the disk again.
    say(&mut document, &disk, "b").unwrap();
    assert_eq!(ids(&open(&disk)), ["a", "x", "b"]);
    assert!(document.can_be_forgotten());
    // And one that appends in our layout is simply read.
    let appended = text(&disk).replace(
        "\n],",
        ",\n{\"id\":\"y\",\"parent_id\":\"b\",\"role\":\"user\",\"content\":\"y\",\"timestamp\":\"t\"}\n],",
    );
    disk.put(&path(), appended.as_bytes());
    say(&mut document, &disk, "c").unwrap();
    assert_eq!(ids(&open(&disk)), ["a", "x", "b", "y", "c"]);
}

/// A disk on which another program puts its own file in the place of one while that is being synced.
#[derive(Clone)]
struct Swapping {
    disk: SimulatedDisk,
    theirs: Arc<Mutex<Option<String>>>,
}

struct SwappingFile {
    swapping: Swapping,
    file: Box<dyn DiskFile>,
}

impl DiskFile for SwappingFile {
    fn stamp(&self) -> io::Result<Stamp> {
        self.file.stamp()
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn set_len(&mut self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(theirs) = self.swapping.theirs.lock().unwrap().take() {
            self.swapping.disk.put(&path(), theirs.as_bytes());
        }
        self.file.sync()
    }
}

impl Disk for Swapping {
    fn read(&self, path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
        self.disk.read(path)
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        self.disk.stamp(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SwappingFile { swapping: self.clone(), file: self.disk.open(path)? }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(path)
    }

    fn create_folder(&self, path: &Path) -> io::Result<bool> {
        self.disk.create_folder(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_folder(path)
    }

    fn links(&self, path: &Path) -> io::Result<u64> {
        self.disk.links(path)
    }

    fn largest_file(&self) -> u64 {
        self.disk.largest_file()
    }
}

#[test]
fn what_is_written_while_another_program_replaces_the_file_is_written_again() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    say(&mut document, &disk, "first").unwrap();
    let before = text(&disk);
    say(&mut open(&disk), &disk, "theirs").unwrap();
    let swapping = Swapping { disk: disk.clone(), theirs: Arc::new(Mutex::new(Some(text(&disk)))) };
    disk.put(&path(), before.as_bytes());

    document.refresh(&swapping).unwrap();
    let message = json!([{"id": "ours", "role": "user", "content": "ours"}]);
    let answers = document.commit(&swapping, &mut [change(message, json!({}))]);
    assert!(answers[0].is_ok() && swapping.theirs.lock().unwrap().is_none());
    let kept = open(&disk);
    for wanted in ["first", "theirs", "ours"] {
        assert!(ids(&kept).contains(&wanted), "{wanted}: {:?}", ids(&kept));
    }
}

#[test]
fn what_another_program_made_unreadable_is_copied_and_written_anew_from_memory() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    say(&mut document, &disk, "a").unwrap();
    disk.put(&path(), b"gone");
    document.refresh(&disk).unwrap();
    assert_eq!((ids(&document), document.can_be_forgotten()), (vec!["a"], false));
    assert!(document.complaint().is_some());
    assert_eq!(text(&disk), "gone", "reading writes nothing");
    say(&mut document, &disk, "a").unwrap();
    assert_eq!(disk.read(&layout::damaged_copy(&path(), 1)).unwrap().0, b"gone");
    assert_eq!(memory(&open(&disk)), memory(&document));
    assert!(document.can_be_forgotten());
}

#[test]
fn a_file_that_is_gone_is_not_made_anew() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    disk.remove(&path()).unwrap();
    assert!(matches!(say(&mut document, &disk, "a"), Err(StoreError::NotFound)));
    assert!(disk.files().is_empty());
}

#[test]
fn create_refuses_a_file_that_is_there_and_leaves_none_that_is_not_safe() {
    let disk = put("mine");
    assert!(matches!(Document::create(&disk, &path(), empty()), Err(StoreError::Exists)));
    for failing in 0..6 {
        let disk = self::disk();
        disk.fail_operations(failing, 1, 3);
        if Document::create(&disk, &path(), empty()).is_err() {
            assert!(disk.files().is_empty(), "operation {failing}");
        }
    }
}

/// A save of one message.
fn saying(id: &str) -> Change {
    change(json!([{"id":id,"role":"user","content":format!("words of {id}")}]), json!({}))
}

/// A save that names a parent that is not there.
fn contradicting() -> Change {
    change(json!([{"id":"x","parent_id":"nobody","role":"user","content":"x"}]), json!({}))
}

/// All that a document knows, to be compared.
fn memory(document: &Document) -> String {
    let positions: BTreeMap<&String, &usize> = document.positions.iter().collect();
    let Document { revision, last_updated, branches, trails, summary, .. } = document;
    format!("{:?}", (document.session(), positions, revision, last_updated, branches, trails, summary))
}

fn revisions(answers: &[Result<Saved, StoreError>]) -> Vec<u64> {
    answers.iter().map(|answer| answer.as_ref().unwrap().revision).collect()
}

#[test]
fn a_round_of_saves_is_one_write_and_each_has_its_own_revision() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    say(&mut document, &disk, "a").unwrap();
    let (syncs, written) = (disk.syncs(), disk.written());
    let mut changes: Vec<Change> = ["b", "c", "b", "d"].into_iter().map(saying).collect();
    changes[0].base_revision = Some(1);
    changes[1].base_revision = Some(1);
    let answers = commit(&mut document, &disk, changes);
    assert_eq!(disk.syncs() - syncs, 1);
    assert!(disk.written() - written < 1024);
    assert_eq!(revisions(&answers), [2, 3, 3, 4], "the second b has nothing to do");
    let merged: Vec<bool> = answers.iter().map(|answer| answer.as_ref().unwrap().merged).collect();
    assert_eq!(merged, [false, true, false, false]);
    let saved_at = |place: usize| answers[place].as_ref().unwrap().saved_at.as_str();
    assert_eq!((saved_at(0), saved_at(3)), ("2026-02-09T22:00:00.001Z", "2026-02-09T22:00:00.003Z"));
    let session = document.session();
    let revs: Vec<u64> = session.messages.iter().map(|message| message.rev).collect();
    assert_eq!((revs, session.revision, session.last_updated.as_str()), (vec![1, 2, 3, 4], 4, saved_at(3)));
    assert_eq!(session.shown().len(), 4, "each follows the one before it");
    assert_eq!(memory(&open(&disk)), memory(&document));
}

#[test]
fn who_cannot_be_helped_does_not_disturb_the_others_of_a_round() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    let panicking: MakePlan = Box::new(|_| panic!("in a plan, which this test wants"));
    let changes = vec![
        saying("a"),
        contradicting(),
        Change { now: now(), base_revision: None, make_plan: panicking },
        saying("b"),
        change(json!([]), json!({"title":"T"})),
        saying("c"),
        saying("b"),
    ];
    let (syncs, answers) = (disk.syncs(), commit(&mut document, &disk, changes));
    assert_eq!(disk.syncs() - syncs, 3, "what is appended before the title, the title, what is appended after it");
    assert!(matches!(answers[1], Err(StoreError::Invalid(_))));
    assert!(matches!(answers[2], Err(StoreError::Unreadable(_))));
    let of_the_others: Vec<u64> = answers.into_iter().filter_map(Result::ok).map(|saved| saved.revision).collect();
    assert_eq!(of_the_others, [1, 2, 3, 4, 4]);
    assert_eq!(ids(&document), ["a", "b", "c"]);
    assert_eq!(memory(&open(&disk)), memory(&document));
}

/// Rounds that write in each way that there is, and how many messages and which title they leave.
fn rounds() -> [(Vec<Change>, usize, Option<&'static str>); 4] {
    [
        (vec![saying("b"), saying("c")], 3, None),
        (vec![saying("b"), contradicting(), saying("b"), change(json!([]), json!({"title":"T"}))], 2, Some("T")),
        (vec![change(json!([]), json!({"title":"T"})), saying("b"), saying("c")], 3, Some("T")),
        (
            vec![
                saying("b"),
                change(json!([{"id":"a","role":"user","content":"words of a","metadata":{"n":1}}]), json!({})),
            ],
            2,
            None,
        ),
    ]
}

/// Tries rounds on a disk that `spoil`s them in some way, which `heal` ends: those that were refused left no trace, those that were
/// acknowledged are there, and all can be sent again.
fn try_rounds(spoil: impl Fn(&SimulatedDisk), heal: impl Fn(&SimulatedDisk)) -> usize {
    let mut refused = 0;
    for which in 0..rounds().len() {
        let disk = disk();
        let mut document = Document::create(&disk, &path(), empty()).unwrap();
        say(&mut document, &disk, "a").unwrap();
        let held = Arc::clone(document.session());
        let before = (text(&disk), memory(&document));
        spoil(&disk);
        let answers = commit(&mut document, &disk, rounds().into_iter().nth(which).unwrap().0);
        heal(&disk);
        let acknowledged = answers.iter().filter_map(|answer| answer.as_ref().ok()).map(|saved| saved.revision).max();
        let failed = answers.iter().any(|answer| matches!(answer, Err(StoreError::Unwritable(_))));
        refused += usize::from(failed);
        if let Some(revision) = acknowledged {
            let read = open(&disk);
            assert!(read.session().revision >= revision && document.session().revision >= revision);
            assert!(read.session().messages.len() >= document.session().messages.len());
        } else if !matches!(document.form, Form::Own { .. }) {
            assert_eq!(memory(&document), before.1, "round {which}");
        } else if document.settled {
            assert_eq!((text(&disk), memory(&document)), before, "round {which}");
        }
        assert_eq!(held.messages.len(), 1, "what was handed out stays as it was");
        let (again, messages, title) = rounds().into_iter().nth(which).unwrap();
        let contradict = again.len() - usize::from(which == 1);
        let answers = commit(&mut document, &disk, again);
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), contradict, "{answers:?}");
        let read = open(&disk);
        assert_eq!(memory(&read), memory(&document));
        assert_eq!((read.session().messages.len(), read.summary().title.as_deref()), (messages, title));
        assert_eq!(disk.files(), [path()], "round {which}");
    }
    refused
}

#[test]
fn a_round_during_which_any_operation_fails_can_be_sent_again() {
    let mut refused = 0;
    for first in 0..24 {
        for count in [1, 2, u64::MAX] {
            for partial in [0, 1, 100, usize::MAX] {
                refused += try_rounds(
                    |disk| disk.fail_operations(first, count, partial),
                    |disk| disk.fail_operations(0, 0, 0),
                );
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn a_round_on_a_disk_with_room_for_any_number_of_bytes_can_be_sent_again() {
    let refused: Vec<usize> =
        (0..900).map(|free| try_rounds(|disk| disk.run_full(Some(free)), |disk| disk.run_full(None))).collect();
    assert_eq!((refused.first(), refused.last()), (Some(&4), Some(&0)), "from none of the rounds to all of them");
}

#[test]
fn who_has_nothing_to_do_is_refused_with_those_on_whom_it_relies() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    // The write succeeds, but not its sync.
    disk.fail_operations(1, 1, 0);
    let answers = commit(&mut document, &disk, vec![saying("a"), saying("a")]);
    assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Unwritable(_)))), "{answers:?}");
    assert!(ids(&document).is_empty());
}

#[test]
fn a_round_is_planned_anew_when_another_program_writes_in_between() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    say(&mut document, &disk, "a").unwrap();
    let theirs = text(&disk).replace(
        "\n],",
        ",\n{\"id\":\"t\",\"parent_id\":\"a\",\"role\":\"user\",\"content\":\"theirs\",\"timestamp\":\"\"}\n],",
    );
    let mut last = saying("c");
    let (other, mut plan, mut asked) = (disk.clone(), last.make_plan, 0);
    last.make_plan = Box::new(move |known| {
        asked += 1;
        if asked == 1 {
            other.put(&path(), theirs.as_bytes());
        }
        plan(known)
    });
    let answers = commit(&mut document, &disk, vec![saying("b"), last]);
    assert_eq!(revisions(&answers), [2, 3]);
    assert_eq!(ids(&document), ["a", "t", "b", "c"]);
    assert_eq!(document.session().shown().len(), 4, "b follows what the other program wrote");
    assert_eq!(memory(&open(&disk)), memory(&document));
}

#[test]
fn a_save_copies_nothing_while_somebody_holds_the_session() {
    let disk = disk();
    let mut document = Document::create(&disk, &path(), empty()).unwrap();
    say(&mut document, &disk, "a").unwrap();
    let held = Arc::clone(document.session());
    for id in ["b", "c"] {
        say(&mut document, &disk, id).unwrap();
    }
    assert!(Arc::ptr_eq(&held, &document.base) && document.joined.get().is_none(), "no copy");
    assert_eq!((held.messages.len(), document.revision()), (1, 3));
    assert_eq!(ids(&document), ["a", "b", "c"]);
    assert_eq!(memory(&open(&disk)), memory(&document));
    say(&mut document, &disk, "d").unwrap();
    assert_eq!(document.added.len(), 0, "the copy that was asked for is the session now");
    drop(held);
    let base = Arc::as_ptr(&document.base);
    say(&mut document, &disk, "e").unwrap();
    assert_eq!((Arc::as_ptr(&document.base), ids(&document)), (base, vec!["a", "b", "c", "d", "e"]));
}

/// Something that happens to a session.
#[derive(Clone, Debug)]
enum Step {
    /// New messages, the sizes of their contents.
    Say(Vec<usize>),
    /// The whole list, as a client without ids knows it, and one more.
    Post(usize),
    Title(u8),
    Hide(usize),
    /// Saves that are carried out together, and at which operation the power goes meanwhile, if it does.
    Round(Vec<Part>, Option<(u64, usize, u64)>),
    /// The server is killed and starts again.
    Kill,
    /// The disk fails for some operations.
    Fail {
        first: u64,
        count: u64,
        partial: usize,
    },
    /// The power goes in the middle of a save of so many bytes, at its `after`th operation.
    LosePower {
        after: u64,
        partial: usize,
        size: usize,
        seed: u64,
    },
}

/// A save of a round.
#[derive(Clone, Debug)]
enum Part {
    Say(usize),
    /// The one before it once more.
    Again,
    /// It contradicts itself.
    Contradict,
    Title(u8),
}

fn any_part() -> impl Strategy<Value = Part> {
    prop_oneof![
        6 => (0usize..1500).prop_map(Part::Say),
        1 => Just(Part::Again),
        1 => Just(Part::Contradict),
        1 => any::<u8>().prop_map(Part::Title),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let power_loss = prop::option::of((0u64..12, 0usize..3000, any::<u64>()));
    prop_oneof![
        4 => (prop::collection::vec(any_part(), 2..6), power_loss).prop_map(|(parts, loss)| Step::Round(parts, loss)),
        4 => prop::collection::vec(0usize..1500, 1..4).prop_map(Step::Say),
        1 => (0usize..800).prop_map(Step::Post),
        1 => any::<u8>().prop_map(Step::Title),
        1 => any::<usize>().prop_map(Step::Hide),
        1 => Just(Step::Kill),
        2 => (0u64..6, 1u64..6, 0usize..2000).prop_map(|(first, count, partial)| Step::Fail { first, count, partial }),
        3 => (0u64..8, 0usize..3000, 0usize..3000, any::<u64>())
            .prop_map(|(after, partial, size, seed)| Step::LosePower { after, partial, size, seed }),
    ]
}

/// A choice between `n` things, from a seed (xorshift).
fn chooser(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed | 1;
    move |n| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % n
    }
}

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged {
    contents: BTreeMap<String, String>,
    title: Option<Value>,
    revision: u64,
}

impl Acknowledged {
    fn note(&mut self, document: &Document) {
        let session = document.session();
        self.contents = session.messages.iter().map(|message| (message.id.clone(), message.content.clone())).collect();
        self.title = session.metadata.get("title").cloned();
        self.revision = session.revision;
    }

    fn check(&self, document: &Document, tried_titles: &[Value]) -> Result<(), TestCaseError> {
        let found: BTreeMap<&String, &String> =
            document.session().messages.iter().map(|message| (&message.id, &message.content)).collect();
        for (id, content) in &self.contents {
            prop_assert_eq!(found.get(id), Some(&content), "the acknowledged message {} is not there", id);
        }
        let title = document.session().metadata.get("title");
        prop_assert!(
            title == self.title.as_ref() || title.is_some_and(|title| tried_titles.contains(title)),
            "the title is {title:?}"
        );
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: fuzz_cases(2_000), ..ProptestConfig::default() })]

    #[test]
    fn every_acknowledged_message_is_read_back(steps in prop::collection::vec(any_step(), 1..24)) {
        let disk = disk();
        let mut document = Document::create(&disk, &path(), empty()).unwrap();
        let mut acknowledged = Acknowledged::default();
        // Not acknowledged, but they may have reached the disk.
        let mut tried_titles = Vec::new();
        let mut count = 0;
        for step in steps {
            let mut name = || { count += 1; format!("m{count}") };
            let result = match step {
                Step::Say(sizes) => {
                    let messages: Vec<Value> = sizes.iter()
                        .map(|size| json!({"id":name(),"role":"user","content":"w".repeat(*size)})).collect();
                    save(&mut document, &disk, json!(messages), json!({}))
                }
                Step::Post(size) => {
                    let mut list: Vec<Value> = document.session().shown().into_iter()
                        .map(|message| json!({"role":"user","content":message.content})).collect();
                    list.push(json!({"role":"user","content":format!("{}{}", name(), "p".repeat(size))}));
                    let (length, known) = (list.len(), document.session().messages.len());
                    let result = save(&mut document, &disk, json!(list), json!({}));
                    if result.is_ok() && length == known + 1 {
                        prop_assert_eq!(document.session().messages.len(), known + 1);
                    }
                    result
                }
                Step::Title(title) => {
                    tried_titles.push(json!(title));
                    save(&mut document, &disk, json!([]), json!({"title":title}))
                }
                Step::Hide(which) => {
                    let messages = &document.session().messages;
                    if messages.is_empty() { continue; }
                    let message = &messages[which % messages.len()];
                    let patch = json!([{"id":message.id,"role":"user","content":message.content,"metadata":{"hidden":true}}]);
                    save(&mut document, &disk, patch, json!({}))
                }
                Step::Round(parts, power_loss) => {
                    let mut saves: Vec<(Value, Option<Value>)> = Vec::new();
                    for part in parts {
                        let save = match part {
                            Part::Say(size) => {
                                (json!([{"id":name(),"role":"user","content":"r".repeat(size)}]), None)
                            }
                            Part::Again => saves.last().cloned().unwrap_or((json!([]), None)),
                            Part::Contradict => {
                                (json!([{"id":"x","parent_id":"nobody","role":"user","content":"x"}]), None)
                            }
                            Part::Title(title) => (json!([]), Some(json!(title))),
                        };
                        tried_titles.extend(save.1.clone());
                        saves.push(save);
                    }
                    let changes = saves.iter().map(|(messages, title)| {
                        let metadata = title.as_ref().map_or(json!({}), |title| json!({"title":title}));
                        change(messages.clone(), metadata)
                    });
                    if let Some((after, partial, _)) = power_loss {
                        disk.fail_operations(after, u64::MAX, partial);
                    }
                    let answers = commit(&mut document, &disk, changes.collect());
                    let mut last = 0;
                    for ((messages, title), answer) in saves.iter().zip(answers) {
                        let Ok(saved) = answer else { continue };
                        prop_assert!(last <= saved.revision && saved.revision <= document.session().revision);
                        last = saved.revision;
                        for message in messages.as_array().unwrap() {
                            let text = |field: &str| message[field].as_str().unwrap().to_owned();
                            acknowledged.contents.insert(text("id"), text("content"));
                        }
                        if title.is_some() {
                            acknowledged.title.clone_from(title);
                        }
                    }
                    if let Some((_, _, seed)) = power_loss {
                        disk.lose_power(chooser(seed));
                        document = open(&disk);
                    }
                    acknowledged.check(&document, &tried_titles)?;
                    prop_assert_eq!(document.summary(), &document.session().summary());
                    continue;
                }
                Step::Kill => {
                    document = open(&disk);
                    acknowledged.check(&document, &tried_titles)?;
                    continue;
                }
                Step::Fail { first, count, partial } => {
                    disk.fail_operations(first, count, partial);
                    continue;
                }
                Step::LosePower { after, partial, size, seed } => {
                    disk.fail_operations(after, u64::MAX, partial);
                    let message = json!([{"id":name(),"role":"user","content":"z".repeat(size)}]);
                    if save(&mut document, &disk, message, json!({})).is_ok() {
                        acknowledged.note(&document);
                    }
                    disk.lose_power(chooser(seed));
                    document = open(&disk);
                    acknowledged.check(&document, &tried_titles)?;
                    continue;
                }
            };
            if result.is_ok() {
                acknowledged.note(&document);
                tried_titles.clear();
                // Also without a kill: the file holds what memory holds.
                let read = open(&disk);
                prop_assert_eq!(read.session(), document.session());
                prop_assert_eq!(read.summary(), document.summary());
            } else {
                acknowledged.check(&document, &tried_titles)?;
            }
        }
        disk.lose_power(chooser(7));
        acknowledged.check(&open(&disk), &tried_titles)?;
    }

    #[test]
    fn any_bytes_are_read_or_refused_but_never_changed(cut in any::<prop::sample::Index>(), byte in any::<u8>(), at in any::<prop::sample::Index>()) {
        let mut bytes = four().into_bytes();
        bytes.truncate(cut.index(bytes.len()) + 1);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let disk = put(&bytes);
        if let Ok(mut document) = Document::open(&disk, &path(), &id()) {
            prop_assert_eq!(&disk.read(&path()).unwrap().0, &bytes);
            let known = document.session().messages.len();
            if say(&mut document, &disk, "new").is_ok() {
                let read = open(&disk);
                prop_assert_eq!(read.session().messages.len(), known + 1);
            }
        }
    }
}

/// How many cases a fuzzed reader is tried with; `VERBATIM_FUZZ_CASES` says how many more.
fn fuzz_cases(usual: u32) -> u32 {
    std::env::var("VERBATIM_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

/// What may happen to the bytes of a file.
#[derive(Clone, Debug)]
enum Harm {
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
    Put(prop::sample::Index, &'static str),
    Flip(prop::sample::Index, u8),
}

fn any_harm() -> impl Strategy<Value = Harm> {
    let place = any::<prop::sample::Index>;
    let fragments = [
        "\n",
        ",\n",
        "]",
        "}",
        "{",
        "\"",
        "\\ud800",
        "null",
        "[[[[",
        "\u{FEFF}",
        "\"parent_id\":\"x\",",
        "\"format\":7,",
        "\"id\":\"\",",
        "\"messages\":[",
        "]}",
        "1e999",
        "\0",
    ];
    prop_oneof![
        place().prop_map(Harm::Cut),
        (place(), 1..600_usize).prop_map(|(at, length)| Harm::Remove(at, length)),
        (place(), 1..600_usize).prop_map(|(at, length)| Harm::Repeat(at, length)),
        (place(), prop::sample::select(fragments.to_vec())).prop_map(|(at, text)| Harm::Put(at, text)),
        (place(), any::<u8>()).prop_map(|(at, byte)| Harm::Flip(at, byte)),
    ]
}

fn harm(bytes: &mut Vec<u8>, harm: &Harm) {
    let end = |at: usize, length: usize, bytes: &[u8]| (at + length).min(bytes.len());
    match harm {
        Harm::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
        Harm::Put(at, text) => {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, text.bytes());
        }
        _ if bytes.is_empty() => {}
        Harm::Remove(at, length) => {
            let at = at.index(bytes.len());
            bytes.drain(at..end(at, *length, bytes));
        }
        Harm::Repeat(at, length) => {
            let at = at.index(bytes.len());
            let piece = bytes[at..end(at, *length, bytes)].to_vec();
            bytes.splice(at..at, piece);
        }
        Harm::Flip(at, byte) => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: fuzz_cases(2_000), ..ProptestConfig::default() })]

    /// Real files, harmed: they are refused, or read always in the same way, and what was read is whole when it is written anew.
    #[test]
    fn harmed_files_are_refused_or_read_and_written_without_loss(
        number in 0..400_u64,
        harms in prop::collection::vec(any_harm(), 1..5),
    ) {
        let generated = verbatim_corpus::Corpus { seed: 11 }.session(number);
        let id: SessionId = generated.id.parse().unwrap();
        let mut bytes = generated.text.into_bytes();
        bytes.truncate(60_000);
        harms.iter().for_each(|one| harm(&mut bytes, one));
        let Ok(reading) = format::read(&bytes, &id, now()) else { return Ok(()) };
        let again = format::read(&bytes, &id, now()).unwrap();
        prop_assert_eq!(&reading.session, &again.session);
        let ids: std::collections::HashSet<&str> = reading.session.messages.iter().map(|message| message.id.as_str()).collect();
        prop_assert_eq!(ids.len(), reading.session.messages.len());
        let written = whole(&reading.session).unwrap().0;
        let read = format::read(&written, &id, now()).unwrap();
        prop_assert!(matches!(read.state, State::Own { .. }), "{:?}", read.state);
        // As JSON: a part in which a key stood twice was kept as it was found, and is a plain one when it is written.
        let plain = |session: &Session| json!([session.user_name, session.started_at, session.last_updated, session.metadata_updated,
            session.metadata, session.messages, session.revision, session.extra]);
        prop_assert!(plain(&read.session) == plain(&reading.session), "{}", String::from_utf8_lossy(&bytes));
    }
}
