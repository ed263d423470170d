//! Tests of what a save does.

mod before;

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn session(messages: Value) -> Session {
    Session {
        session_id: "s".parse().unwrap(),
        user_name: "User".into(),
        started_at: "2026-02-09T21:30:00.000Z".into(),
        last_updated: "2026-02-09T21:30:00.000Z".into(),
        metadata_updated: None,
        metadata: Object::new(),
        messages: serde_json::from_value(messages).unwrap(),
        revision: 0,
        extra: Object::new(),
    }
}

fn message(id: &str, parent: Option<&str>, role: &str, content: &str) -> Value {
    json!({"id":id,"parent_id":parent,"role":role,"content":content,"timestamp":"2026-02-09T21:30:00.000Z"})
}

/// Two turns; the second has two answers, of which the later one is shown.
fn branched() -> Session {
    session(json!([
        message("u1", None, "user", "hello"),
        message("a1", Some("u1"), "assistant", "hi"),
        message("a2", Some("u1"), "assistant", "good day"),
    ]))
}

fn save(messages: Value) -> Save {
    Save {
        messages: serde_json::from_value(messages).unwrap(),
        user_name: None,
        metadata: Object::new(),
        base_revision: None,
        running: HashSet::new(),
        now: time::parse("2026-03-01T00:00:00Z").unwrap(),
    }
}

/// The plan for a save, which is the same wherever the session ends and what was appended to it begins, and the same as when
/// everything was worked out from all messages.
fn plan_of(session: &Session, save: &Save) -> Result<Plan, StoreError> {
    let positions = positions(session);
    let grown = Branches::of(&session.messages, &positions);
    type MakePlan = fn(Indexed<'_>, &Save, &mut dyn FnMut() -> String) -> Result<Plan, StoreError>;
    let plan_split_at = |split: usize, make_plan: MakePlan| {
        let mut count = session.messages.len();
        let mut new_id = || {
            count += 1;
            format!("new{count}")
        };
        let (kept, added) = session.messages.split_at(split);
        let session = Session { messages: kept.to_vec(), ..session.clone() };
        make_plan(Indexed { session: &session, added, positions: &positions, grown: &grown }, save, &mut new_id)
    };
    let whole = plan_split_at(session.messages.len(), plan);
    for split in [0, session.messages.len() / 2] {
        assert_eq!(format!("{:?}", plan_split_at(split, plan)), format!("{whole:?}"));
    }
    let before = plan_split_at(session.messages.len(), before::plan);
    assert_eq!(format!("{whole:?}"), format!("{before:?}"), "{save:?}\non {session:?}");
    whole
}

/// Applies a save, checks that the same save has then nothing to do, and returns what was appended as (parent, content).
fn saved(session: &mut Session, save: &Save) -> Vec<(Option<String>, String)> {
    let first = plan_of(session, save).unwrap();
    let appended =
        first.append.iter().map(|message| (message.parent_id.clone(), message.content.clone())).collect::<Vec<_>>();
    first.apply(session);
    let again = plan_of(session, save).unwrap();
    assert!(again.is_empty(), "the same save again does {again:?}");
    appended
}

fn pair(parent: &str, content: &str) -> (Option<String>, String) {
    (Some(parent.to_owned()), content.to_owned())
}

fn refusal(session: &Session, messages: Value) -> String {
    match plan_of(session, &save(messages)) {
        Err(StoreError::Invalid(text)) => text,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn new_ids_follow_the_active_leaf_and_each_other() {
    let mut session = branched();
    session.metadata.insert("active_leaf".into(), json!("a1"));
    let save = save(json!([{"id":"u2","role":"user","content":"and?"},{"id":"a3","role":"assistant","content":"so"}]));
    assert_eq!(saved(&mut session, &save), [pair("a1", "and?"), pair("u2", "so")]);
    assert_eq!(session.active_leaf(), None, "what was appended is shown now");
    assert_eq!(session.messages[3].timestamp, "2026-03-01T00:00:00.000Z");
}

#[test]
fn an_active_leaf_in_the_same_save_stays() {
    let mut session = branched();
    let mut save = save(json!([{"id":"u2","role":"user","content":"and?"}]));
    save.metadata.insert("active_leaf".into(), json!("a1"));
    saved(&mut session, &save);
    assert_eq!(session.active_leaf(), Some("a1"));
}

#[test]
fn other_content_under_a_known_id_becomes_a_sibling_and_its_followers_go_below_it() {
    let mut session = branched();
    let save = save(json!([
        {"id":"u1","parent_id":null,"role":"user","content":"hello there"},
        {"id":"a9","parent_id":"u1","role":"assistant","content":"hi there"},
        {"id":"a1","parent_id":"u1","role":"assistant","content":"hi"},
    ]));
    let sibling = derived_id(&session.session_id, &["u1", "hello there"]);
    assert_eq!(saved(&mut session, &save), [(None, "hello there".to_owned()), pair(&sibling, "hi there")]);
    assert_eq!(session.messages[0].content, "hello");
}

#[test]
fn metadata_of_known_messages_is_patched_but_of_replies_only_what_people_decide() {
    let mut session = branched();
    session.messages[1].metadata.insert("reply_id".into(), json!("r"));
    let save = save(json!([
        {"id":"u1","role":"user","content":"hello","metadata":{"hidden":true,"reply_id":"forged"}},
        {"id":"a1","role":"assistant","content":"something else","metadata":{"rating":1,"error":"no","modes":{}}},
    ]));
    assert_eq!(saved(&mut session, &save), []);
    assert_eq!(Value::Object(session.messages[0].metadata.clone()), json!({"hidden":true}));
    assert_eq!(Value::Object(session.messages[1].metadata.clone()), json!({"reply_id":"r","rating":1}));
    assert_eq!(session.messages[1].content, "hi");
}

#[test]
fn running_replies_are_passed_over_but_may_be_parents() {
    let mut session = branched();
    let mut save = save(json!([
        {"id":"r1","parent_id":"u1","role":"assistant","content":"half a repl"},
        {"id":"u2","role":"user","content":"wait"},
    ]));
    save.running.insert("r1".into());
    assert_eq!(saved(&mut session, &save), [pair("r1", "wait")]);
}

#[test]
fn contradictions_name_the_field_and_change_nothing() {
    let session = branched();
    let good = json!({"id":"u2","role":"user","content":"x"});
    for (bad, field) in [
        (json!({"id":"x","parent_id":"nobody","role":"user","content":""}), "messages[1].parent_id "),
        (json!({"id":"x","parent_id":"x","role":"user","content":""}), "messages[1].parent_id "),
        (json!({"id":"a/b","role":"user","content":""}), "messages[1].id "),
        (json!({"id":"","role":"user","content":""}), "messages[1].id "),
        (json!({"id":"x","role":"root","content":""}), "messages[1].role "),
    ] {
        let text = refusal(&session, json!([good, bad]));
        assert!(text.starts_with(field), "{text}");
    }
    assert!(refusal(&session, json!([{"role":"root","content":"x"}])).starts_with("messages[0].role "));
}

#[test]
fn messages_without_id_among_others_are_found_again() {
    let mut session = branched();
    let save1 = save(json!([
        {"id":"u1","role":"user","content":"hello"},
        {"role":"assistant","content":"hi"},
        {"role":"user","content":"new"},
    ]));
    assert_eq!(saved(&mut session, &save1), [pair("a1", "new")]);
    let save2 = save(json!([{"role":"user","content":"lead"},{"id":"x","role":"assistant","content":"y"}]));
    let appended = saved(&mut session, &save2);
    assert_eq!(appended[0], pair("new4", "lead"));
    assert_eq!(appended[1].0, Some(session.messages[4].id.clone()));
    let save3 = save(json!([{"role":"user","content":"hello"},{"id":"a1","role":"assistant","content":"hi"}]));
    assert_eq!(saved(&mut session, &save3), []);
}

#[test]
fn a_list_without_ids_takes_the_longest_branch() {
    let mut session = session(json!([
        message("u1", None, "user", "a"),
        message("b1", Some("u1"), "user", "b"),
        message("b2", Some("u1"), "user", "b"),
        message("c1", Some("b1"), "user", "c"),
        message("d2", Some("b2"), "user", "d"),
    ]));
    let list = |contents: &[&str]| {
        save(Value::Array(contents.iter().map(|content| json!({"role":"user","content":content})).collect()))
    };
    assert_eq!(saved(&mut session, &list(&["a", "b", "c"])), []);
    assert_eq!(saved(&mut session, &list(&["a", "b", "c", "e"])), [pair("c1", "e")]);
    assert_eq!(saved(&mut session, &list(&["a", "x"])), [pair("u1", "x")]);
    // Both match; the shown path (now u1, x) says nothing, so the newer one.
    assert_eq!(saved(&mut session, &list(&["a", "b", "z"])), [pair("b2", "z")]);
}

#[test]
fn a_list_that_matches_no_root_follows_unless_it_stands_at_the_end() {
    let mut session = branched();
    let save1 = save(json!([{"role":"user","content":"only new"}]));
    assert_eq!(saved(&mut session, &save1), [pair("a2", "only new")]);
    let save2 = save(json!([{"role":"user","content":"only new"},{"role":"assistant","content":"yes"}]));
    assert_eq!(saved(&mut session, &save2), [pair("new4", "yes")]);
    // The same words at another time are said again.
    let save3 = save(json!([{"role":"assistant","content":"yes","timestamp":"2026-03-02T00:00:00Z"}]));
    assert_eq!(saved(&mut session, &save3), [pair("new5", "yes")]);
    // Also where another leaf is made active in the same save.
    let mut save4 = save(json!([{"role":"user","content":"aside"}]));
    save4.metadata.insert("active_leaf".into(), json!("a1"));
    assert_eq!(saved(&mut session, &save4).len(), 1);
}

#[test]
fn deleted_turns_are_looked_through() {
    let mut session = session(json!([
        message("u1", None, "user", "a"),
        message("u2", Some("u1"), "user", "b"),
        message("u3", Some("u2"), "user", "c"),
    ]));
    session.messages[1].metadata.insert("hidden".into(), json!(true));
    let save = save(json!([{"role":"user","content":"a"},{"role":"user","content":"c"},{"role":"user","content":"d"}]));
    assert_eq!(saved(&mut session, &save), [pair("u3", "d")]);
}

#[test]
fn derived_fields_are_not_kept_but_modes_are() {
    let mut session = session(json!([]));
    let save = save(json!([
        {"id":"u","role":"user","content":"q","tools_used":[],"modes":{},"has_tools":false},
        {"id":"a","role":"assistant","content":"r","tools_used":[{"name":"x"}],"modes":{"commander":true},
            "has_tools":true,"mood":"good"},
    ]));
    saved(&mut session, &save);
    assert!(session.messages[0].extra.is_empty() && session.messages[0].metadata.is_empty());
    assert_eq!(Value::Object(session.messages[1].extra.clone()), json!({"mood":"good"}));
    assert_eq!(Value::Object(session.messages[1].metadata.clone()), json!({"modes":{"commander":true}}));
}

#[test]
fn parts_alone_say_the_content() {
    let mut session = session(json!([]));
    let save = save(json!([{"id":"a","role":"assistant","parts":[{"type":"text","text":"x"}]}]));
    saved(&mut session, &save);
    assert_eq!(session.messages[0].content, "x");
}

#[test]
fn both_sides_of_a_replaced_file_are_kept() {
    let ours = branched();
    // They lost our last answer, wrote one of their own and changed the words of the first message.
    let theirs = session(json!([
        message("u1", None, "user", "hello!"),
        message("a1", Some("u1"), "assistant", "hi"),
        message("x1", Some("a1"), "user", "theirs"),
    ]));
    let (united, more) = unite(&ours, theirs, true);
    assert!(more);
    let contents: Vec<&str> = united.messages.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(contents, ["hello", "hello!", "hi", "theirs", "good day"]);
    let (same, more) = unite(&ours, ours.clone(), true);
    assert!(!more && same == ours);
}

#[test]
fn a_file_that_lost_its_ids_doubles_nothing() {
    let ours = branched();
    let mut theirs = ours.clone();
    theirs.messages.remove(1);
    for (position, message) in theirs.messages.iter_mut().enumerate() {
        message.id = format!("derived{position}");
        message.parent_id = position.checked_sub(1).map(|parent| format!("derived{parent}"));
    }
    let (united, more) = unite(&ours, theirs, false);
    assert!(more, "our ids stand in no file");
    assert_eq!(united.messages, ours.messages);
}

/// Any message that a client may send, of few different ids, contents and times so that they meet.
fn any_input() -> impl Strategy<Value = Value> {
    let text = prop::sample::select(vec!["a", "b", "c"]);
    let metadata = prop::sample::select(vec![
        json!({}),
        json!({"rating":1}),
        json!({"rating":null,"x":{"y":null}}),
        json!({"hidden":true}),
        json!({"reply_id":"r"}),
        json!({"modes":null}),
    ]);
    let role = prop::sample::select(vec!["user", "assistant"]);
    let id = prop::option::of(0u8..6);
    let parent = prop::option::weighted(0.3, prop::option::of(0u8..6));
    let time = prop::option::weighted(0.3, prop::sample::select(vec!["2026-02-09T21:30:00Z", "2026-02-09T21:31:00Z"]));
    (id, role, text, parent, metadata, time, any::<bool>()).prop_map(
        |(id, role, text, parent, metadata, time, modes)| {
            let mut value = json!({"role":role,"content":text,"metadata":metadata});
            if let Some(id) = id {
                value["id"] = json!(format!("m{id}"));
            }
            if let Some(parent) = parent {
                value["parent_id"] = json!(parent.map(|parent| format!("m{parent}")));
            }
            if let Some(time) = time {
                value["timestamp"] = json!(time);
            }
            if modes {
                value["modes"] = json!({"commander":true,"x":null});
            }
            value
        },
    )
}

fn any_save() -> impl Strategy<Value = Save> {
    let leaf = prop::option::weighted(0.2, prop::option::of(0u8..6));
    (prop::collection::vec(any_input(), 0..6), any::<bool>(), leaf, prop::option::weighted(0.2, 0u8..6)).prop_map(
        |(mut messages, without_ids, leaf, running)| {
            if without_ids {
                for message in &mut messages {
                    message.as_object_mut().unwrap().remove("id");
                }
            }
            let mut save = save(Value::Array(messages));
            if let Some(leaf) = leaf {
                save.metadata.insert("active_leaf".into(), json!(leaf.map(|leaf| format!("m{leaf}"))));
            }
            save.running.extend(running.map(|id| format!("m{id}")));
            save
        },
    )
}

/// Any session that a file may hold: a message may follow any other one, also one that stands behind it, one that is not there, or
/// none, and be hidden.
fn any_session() -> impl Strategy<Value = Session> {
    let turn = (0..12_usize, prop::sample::select(vec!["a", "b", "c"]), prop::bool::weighted(0.3), any::<bool>());
    let order = prop::bool::weighted(0.7);
    (prop::collection::vec(turn, 0..12), order, prop::option::weighted(0.4, 0..12_usize)).prop_map(
        |(messages, in_order, leaf)| {
            let messages = messages.into_iter().enumerate().map(|(position, (parent, content, hidden, is_user))| {
                let parent = if in_order { parent.min(position) } else { parent };
                let parent = parent.checked_sub(1).map(|parent| format!("m{parent}"));
                let role = if is_user { "user" } else { "assistant" };
                let mut value = message(&format!("m{position}"), parent.as_deref(), role, content);
                if hidden {
                    value["metadata"] = json!({"hidden":true});
                }
                value
            });
            let mut session = session(messages.collect());
            if let Some(leaf) = leaf {
                session.metadata.insert("active_leaf".into(), json!(format!("m{leaf}")));
            }
            session
        },
    )
}

/// Whether some message follows itself, in which case it was by chance what a list without ids was taken to be.
fn has_circle(session: &Session) -> bool {
    let parents = crate::model::tree::parents(&session.messages);
    (0..parents.len()).any(|position| {
        let mut at = Some(position);
        for _ in 0..=parents.len() {
            at = at.and_then(|at| parents[at]);
        }
        at.is_some()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn a_save_does_what_it_did_when_all_was_worked_out_anew(
        session in any_session(),
        save in any_save(),
        posted in prop::bool::weighted(0.4),
    ) {
        prop_assume!(!has_circle(&session));
        let mut save = save;
        if posted {
            // An older client posts back what it was shown, and what was said since.
            let shown = session.shown().into_iter().map(|message| {
                MessageInput { id: None, parent_id: None, ..MessageInput::from(message.clone()) }
            });
            save.messages.iter_mut().for_each(|message| (message.id, message.parent_id) = (None, None));
            save.messages.splice(0..0, shown);
        }
        let _ = plan_of(&session, &save);
    }
}

proptest! {
    #[test]
    fn any_save_repeated_changes_nothing_and_none_removes_anything(saves in prop::collection::vec(any_save(), 1..6)) {
        let mut session = session(json!([]));
        for save in saves {
            let before = session.clone();
            let Ok(plan) = plan_of(&session, &save) else { continue };
            plan.apply(&mut session);
            let again = plan_of(&session, &save).unwrap();
            prop_assert!(again.is_empty(), "{:?}\nagain does {:?}\non {:?}", save, again, session);
            prop_assert_eq!(positions(&session).len(), session.messages.len(), "an id is there twice");
            for (old, new) in before.messages.iter().zip(&session.messages) {
                prop_assert_eq!((&old.id, &old.content, &old.parent_id), (&new.id, &new.content, &new.parent_id));
            }
        }
    }

    #[test]
    fn a_growing_list_without_ids_doubles_nothing(contents in prop::collection::vec("[ab]", 1..12), repeats in 1usize..3) {
        let mut session = session(json!([]));
        for length in 1..=contents.len() {
            for _ in 0..repeats {
                let list = contents[..length].iter().map(|content| json!({"role":"user","content":content})).collect();
                plan_of(&session, &save(Value::Array(list))).unwrap().apply(&mut session);
            }
            prop_assert_eq!(session.messages.len(), length);
        }
        let kept: Vec<&String> = session.shown().into_iter().map(|message| &message.content).collect();
        prop_assert_eq!(kept, contents.iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_stale_leaf_of_a_posted_session_does_not_hide_what_it_adds() {
    let mut session = session(json!([
        message("u1", None, "user", "a"),
        message("a1", Some("u1"), "assistant", "b"),
        message("a2", Some("u1"), "assistant", "c"),
    ]));
    session.metadata.insert("active_leaf".into(), json!("a1"));
    let mut save = save(json!([
        {"id":"u1","parent_id":null,"role":"user","content":"a"},
        {"id":"a1","parent_id":"u1","role":"assistant","content":"b"},
        {"id":"u2","parent_id":"a1","role":"user","content":"new"},
    ]));
    save.metadata.insert("active_leaf".into(), json!("a1"));
    for _ in 0..2 {
        saved(&mut session, &save);
        assert_eq!(session.shown().last().map(|message| message.id.as_str()), Some("u2"));
    }
}

#[test]
fn a_reply_does_not_call_back_whoever_looks_at_another_branch() {
    let mut session = branched();
    session.messages.push(serde_json::from_value(message("other", None, "user", "elsewhere")).unwrap());
    session.metadata.insert("active_leaf".into(), json!("other"));
    let reply: Message = serde_json::from_value(message("r", Some("u1"), "assistant", "late")).unwrap();
    let known = positions(&session);
    let grown = Branches::of(&session.messages, &known);
    let plan = plan_reply(Indexed { session: &session, added: &[], positions: &known, grown: &grown }, &reply);
    assert!(plan.only_appends(), "the leaf stays");
    session.metadata.insert("active_leaf".into(), json!("a1"));
    let plan = plan_reply(Indexed { session: &session, added: &[], positions: &known, grown: &grown }, &reply);
    assert_eq!(plan.metadata.map(|metadata| metadata.contains_key("active_leaf")), Some(false));
}

#[test]
fn what_somebody_removed_from_the_middle_goes_back_there() {
    let ours = session(json!([
        message("m1", None, "user", "1"),
        message("m2", Some("m1"), "assistant", "2"),
        message("m3", Some("m2"), "user", "3"),
        message("m4", Some("m3"), "assistant", "4"),
    ]));
    let mut theirs = ours.clone();
    theirs.messages.remove(1);
    let (united, more) = unite(&ours, theirs, true);
    assert!(more);
    assert_eq!(united.shown().len(), 4);
    let mut theirs = ours.clone();
    theirs.messages.truncate(2);
    assert_eq!(unite(&ours, theirs, true).0.messages, ours.messages);
}
