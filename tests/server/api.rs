//! The JSON API as a caller with `curl` sees it.

use crate::support::{BODY_LIMIT, TestApp, assert_contains, fixture_path, post_request, put_fixtures, text};
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::{Value, json};
use tempfile::TempDir;

fn user(content: &str) -> Value {
    json!({"role":"user","content":content,"timestamp":"2026-02-09T21:30:10Z","metadata":{}})
}

#[tokio::test]
async fn the_five_documented_requests_get_the_documented_answers() {
    let app = TestApp::new();
    let started = app.ok("/api/sessions/start", json!({"user_name":"User","metadata":{"type":"chat"}})).await;
    let id = started["session_id"].as_str().unwrap();
    assert_eq!(id.len(), 32);
    assert!(started["started_at"].as_str().unwrap().ends_with('Z'));

    let mut session = app.ok("/api/sessions/load", json!({"session_id":id})).await;
    assert_eq!(session["messages"], json!([]));
    assert_eq!(session["metadata"], json!({"type":"chat"}));

    // An older client posts the whole session with the new messages added, without ids, again and again.
    session["messages"] =
        json!([user("Hello!"), {"role":"assistant","content":"Hi!","metadata":{"modes":{},"hasTools":false}}]);
    for _ in 0..3 {
        let saved = app.ok("/api/sessions/save", session.clone()).await;
        assert_eq!(saved["success"], true);
    }
    let loaded = app.ok("/api/sessions/load", json!({"session_id":id})).await;
    assert_eq!(loaded["messages"].as_array().unwrap().len(), 2);
    assert_eq!(loaded["stats"], json!({"total_messages":2,"user_messages":1,"assistant_messages":1,"errors":0}));

    let listed = app.ok("/api/sessions/list", json!({"limit":100,"offset":0})).await;
    assert_contains(
        &listed,
        &json!({"total_sessions":1,"sessions_today":1,"sessions_this_week":1,"total_messages":2,"limit":100,"offset":0,
            "sessions":[{"session_id":id,"preview":"Hello!","kind":"chat"}]}),
        "list",
    );

    let deleted = app.ok("/api/sessions/delete", json!({"session_id":id})).await;
    assert_eq!(deleted["success"], true);
    assert!(deleted["message"].is_string());
    let listed = app.ok("/api/sessions/list", json!({"limit":100,"offset":0})).await;
    assert_eq!(listed["total_sessions"], 0);
}

#[tokio::test]
async fn sessions_of_the_older_format_appear_open_continue_and_export() {
    let data = TempDir::new().unwrap();
    put_fixtures(data.path());
    let app = TestApp::over(data);
    let listed = app.ok("/api/sessions/list", json!({})).await;
    assert_eq!(listed["total_sessions"], 2);
    assert_eq!(listed["sessions"][0]["session_id"], "abc123def456");
    assert_eq!(listed["sessions"][0]["tools"], json!(["datetime"]));
    assert_eq!(listed["sessions"][1]["kind"], "voice");

    let expected: Value = serde_json::from_slice(&std::fs::read(fixture_path("exported-chat.json")).unwrap()).unwrap();
    let exported = app.ok("/api/sessions/export", json!({"session_id":"abc123def456"})).await;
    assert_contains(&exported, &expected, "export");

    let before = app.ok("/api/sessions/load", json!({"session_id":"def67890"})).await;
    let again = app.ok("/api/sessions/load", json!({"session_id":"def67890"})).await;
    assert_eq!(before, again, "the ids that messages get must stay the same");
    let reply = app
        .lines("/api/replies/start", json!({"session_id":"def67890","message":{"id":"m1","content":"echo more"}}))
        .await;
    assert_eq!(reply.last().unwrap()["type"], "done");
    let after = app.ok("/api/sessions/load", json!({"session_id":"def67890"})).await;
    let messages = after["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 4);
    assert_eq!(messages[..2], before["messages"].as_array().unwrap()[..]);
    assert_eq!(messages[2]["parent_id"], messages[1]["id"]);
    assert_eq!(messages[3]["content"], "more");
}

#[tokio::test]
async fn what_was_exported_or_loaded_is_a_session_again_when_it_is_put_into_the_store() {
    let app = TestApp::new();
    let id = app.start().await;
    let messages = json!([{"id":"q","role":"user","content":"one"}, {"id":"a","role":"assistant","content":"two"},
        {"id":"b","parent_id":"q","role":"assistant","content":"three"}]);
    app.ok("/api/sessions/save", json!({"session_id":id,"messages":messages,"metadata":{"active_leaf":"a"}})).await;
    app.ok("/api/sessions/save", json!({"session_id":id,"metadata":{"active_leaf":null}})).await;
    let exported = app.ok("/api/sessions/export", json!({"session_id":id})).await;
    assert_eq!((&exported["messages"][1]["id"], &exported["branches"][0]["id"]), (&json!("b"), &json!("a")));
    let loaded = app.ok("/api/sessions/load", json!({"session_id":id,"last":10})).await;

    let data = TempDir::new().unwrap();
    let day = data.path().join("sessions/2026-02-09");
    std::fs::create_dir_all(&day).unwrap();
    for (name, document) in [("exported", &exported), ("loaded", &loaded)] {
        std::fs::write(day.join(format!("{name}.json")), document.to_string()).unwrap();
    }
    let app = TestApp::over(data);
    for name in ["exported", "loaded"] {
        app.lines("/api/replies/start", json!({"session_id":name,"message":{"id":"q2","content":"echo four"}})).await;
        let response = app.send(post_request("/api/sessions/load", json!({"session_id":name}).to_string())).await;
        // Read as the pages read it, which takes no field twice.
        let loaded: verbatim::api::sessions::Loaded = serde_json::from_str(&text(response).await).unwrap();
        let ids = |list: &[verbatim::export::document::ExportedMessage]| {
            list.iter().map(|exported| exported.message.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids(&loaded.session.messages)[..3], ["q", "b", "q2"], "{name}");
        assert_eq!(ids(&loaded.session.branches), ["a"], "{name}");
    }
}

#[tokio::test]
async fn a_session_of_another_program_can_be_posted_back_whole() {
    let data = TempDir::new().unwrap();
    let day = data.path().join("sessions/2026-02-09");
    std::fs::create_dir_all(&day).unwrap();
    let file = json!({"session_id":"odd","started_at":"+262142-12-31T23:59:59","metadata":{"type":"text","tags":"a","pinned":1},
        "messages":[{"role":"user","content":"x"}]});
    std::fs::write(day.join("odd.json"), file.to_string()).unwrap();
    let app = TestApp::over(data);
    app.ok("/api/sessions/list", json!({"utc_offset_minutes":60})).await;
    let mut session = app.ok("/api/sessions/load", json!({"session_id":"odd"})).await;
    session["messages"].as_array_mut().unwrap().push(json!({"role":"assistant","content":"y"}));
    app.ok("/api/sessions/save", session).await;
    assert_eq!(app.ok("/api/sessions/load", json!({"session_id":"odd"})).await["stats"]["total_messages"], 2);
    let (status, _) = app.post("/api/sessions/save", json!({"session_id":"odd","metadata":{"tags":"b"}})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn saves_merge_and_lose_nothing() {
    let app = TestApp::new();
    let id = app.start().await;
    let first = app
        .ok(
            "/api/sessions/save",
            json!({"session_id":id,"messages":[{"id":"a","role":"user","content":"one"}],"base_revision":0}),
        )
        .await;
    assert!(first.get("merged").is_none(), "{first}");
    app.ok("/api/sessions/save", json!({"session_id":id,"messages":[{"id":"b","role":"assistant","content":"two"}]}))
        .await;
    let stale = app
        .ok(
            "/api/sessions/save",
            json!({"session_id":id,"messages":[{"id":"c","parent_id":"a","role":"assistant","content":"other"}],
            "base_revision":first["revision"]}),
        )
        .await;
    assert_eq!(stale["merged"], true);
    let loaded = app.ok("/api/sessions/load", json!({"session_id":id})).await;
    assert_eq!(loaded["messages"][1]["id"], "c");
    assert_eq!(loaded["branches"][0]["id"], "b");
    // A save that mentions no message changes none, and metadata is a merge patch.
    app.ok("/api/sessions/save", json!({"session_id":id,"metadata":{"title":"T","active_leaf":"b"}})).await;
    let loaded = app.ok("/api/sessions/load", json!({"session_id":id})).await;
    assert_eq!(loaded["messages"][1]["id"], "b");
    assert_eq!(loaded["metadata"], json!({"type":"chat","title":"T","active_leaf":"b"}));
}

#[tokio::test]
async fn a_part_of_the_shown_path_can_be_loaded() {
    let app = TestApp::new();
    let id = app.start().await;
    let messages: Vec<Value> =
        (0..10).map(|n| json!({"id":format!("m{n}"),"role":"user","content":n.to_string()})).collect();
    app.ok("/api/sessions/save", json!({"session_id":id,"messages":messages})).await;
    let part = app.ok("/api/sessions/load", json!({"session_id":id,"last":2,"before":"m8"})).await;
    assert_eq!(part["total"], 10);
    let ids: Vec<&str> = part["messages"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["m6", "m7"]);
    assert_eq!((&part["earlier"], &part["preview"]), (&json!(6), &json!("0")));
    let (status, _) = app.post("/api/sessions/load", json!({"session_id":id,"before":"gone"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let whole = app.ok("/api/sessions/load", json!({"session_id":id})).await;
    for field in ["total", "earlier", "preview"] {
        assert_eq!(whole.get(field), None, "{field}");
    }
}

#[tokio::test]
async fn a_part_holds_the_other_versions_of_its_messages_and_no_others() {
    let app = TestApp::new();
    let id = app.start().await;
    let mut messages: Vec<Value> =
        (0..10).map(|n| json!({"id":format!("m{n}"),"role":"user","content":n.to_string()})).collect();
    for (version, parent) in [("x3", "m2"), ("x4", "x3"), ("x8", "m7")] {
        messages.push(json!({"id":version,"parent_id":parent,"role":"user","content":version}));
    }
    let metadata = json!({"active_leaf":"m9"});
    app.ok("/api/sessions/save", json!({"session_id":id,"messages":messages,"metadata":metadata})).await;
    let ids = |part: &Value, list: &str| -> Vec<String> {
        let messages = part.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
        messages.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect()
    };
    let newest = app.ok("/api/sessions/load", json!({"session_id":id,"last":3})).await;
    assert_eq!(
        (ids(&newest, "messages").join(" "), ids(&newest, "branches").join(" ")),
        ("m7 m8 m9".into(), "x8".into())
    );
    let earlier = app.ok("/api/sessions/load", json!({"session_id":id,"last":4,"before":"m7"})).await;
    let expected = ("m3 m4 m5 m6".to_owned(), "x3 x4".to_owned());
    assert_eq!((ids(&earlier, "messages").join(" "), ids(&earlier, "branches").join(" ")), expected);
    assert_eq!((&earlier["earlier"], &earlier["total"]), (&json!(3), &json!(10)));
    // Who holds a message can go back from it also when the session meanwhile goes on in another branch.
    app.ok("/api/sessions/save", json!({"session_id":id,"metadata":{"active_leaf":"x4"}})).await;
    let again = app.ok("/api/sessions/load", json!({"session_id":id,"last":4,"before":"m7"})).await;
    assert_eq!((ids(&again, "messages").join(" "), ids(&again, "branches").join(" ")), expected);
    assert_eq!(again["total"], 5);
}

#[tokio::test]
async fn what_is_not_said_does_not_make_a_session_the_last_one() {
    let app = TestApp::new();
    let say = async |words: &str| {
        let id = app.start().await;
        let messages = json!([{"id":"u","role":"user","content":words}]);
        app.ok("/api/sessions/save", json!({"session_id":id,"messages":messages})).await;
        id
    };
    let (old, new) = (say("zanzibar").await, say("winterfell").await);
    let page = async || text(app.get("/").await).await;
    assert!(page().await.contains("winterfell"));
    let before = app.ok("/api/sessions/load", json!({"session_id":old})).await;
    assert_eq!(before.get("metadata_updated"), None);
    let turn = |metadata: Value| json!([{"id":"u","role":"user","content":"zanzibar","metadata":metadata}]);
    for (what, body) in [
        ("a rename", json!({"metadata":{"title":"Old"}})),
        ("a tag", json!({"metadata":{"tags":["a"]}})),
        ("a pin", json!({"metadata":{"pinned":true}})),
        ("a pin taken back", json!({"metadata":{"pinned":null}})),
        ("archiving", json!({"metadata":{"archived":true}})),
        ("archiving taken back", json!({"metadata":{"archived":false}})),
        ("a rating", json!({"messages":turn(json!({"rating":1}))})),
        ("hiding", json!({"messages":turn(json!({"hidden":true}))})),
        ("showing again", json!({"messages":turn(json!({"hidden":false}))})),
        ("another version", json!({"metadata":{"active_leaf":"u"}})),
    ] {
        let mut body = body;
        body["session_id"] = json!(old);
        let saved = app.ok("/api/sessions/save", body.clone()).await;
        let loaded = app.ok("/api/sessions/load", json!({"session_id":old,"last":1})).await;
        assert_eq!(loaded["last_updated"], before["last_updated"], "{what}");
        assert_eq!(
            (&loaded["metadata_updated"], &loaded["revision"]),
            (&saved["saved_at"], &saved["revision"]),
            "{what}"
        );
        let again = app.ok("/api/sessions/save", body).await;
        assert_eq!((&again["saved_at"], &again["revision"]), (&saved["saved_at"], &saved["revision"]), "{what}");
        let newest = app.ok("/api/sessions/list", json!({"query":"-is:archived","limit":1})).await;
        assert_eq!(newest["sessions"][0]["session_id"], json!(new), "{what}");
    }
    assert!(page().await.contains("winterfell"));
    let listed = app.ok("/api/sessions/list", json!({})).await;
    let ids: Vec<&Value> = listed["sessions"].as_array().unwrap().iter().map(|row| &row["session_id"]).collect();
    assert_eq!(ids, [&json!(new), &json!(old)]);
    let exported = app.ok("/api/sessions/export", json!({"session_id":old})).await;
    assert_eq!(exported["metadata_updated"], listed["sessions"][1]["metadata_updated"]);
    app.ok("/api/sessions/save", json!({"session_id":old,"messages":[{"role":"user","content":"zanzibar again"}]}))
        .await;
    assert!(page().await.contains("zanzibar again"));
}

#[tokio::test]
async fn a_session_is_started_with_its_first_messages() {
    let app = TestApp::new();
    let words = |n: usize| json!({"role":if n.is_multiple_of(2) { "user" } else { "assistant" },"content":format!("words {n}")});
    let messages: Vec<Value> = (0..20).map(words).collect();
    let started = app.ok("/api/sessions/start", json!({"user_name":"Ada","messages":messages})).await;
    assert_eq!(started["revision"], 1);
    let id = &started["session_id"];
    let loaded = app.ok("/api/sessions/load", json!({"session_id":id})).await;
    assert_eq!((&loaded["revision"], loaded["messages"].as_array().unwrap().len()), (&json!(1), 20));
    assert_eq!((&loaded["stats"]["user_messages"], &loaded["metadata"]["type"]), (&json!(10), &json!("chat")));
    assert_eq!(loaded["messages"][1]["parent_id"], loaded["messages"][0]["id"]);
    assert_eq!(loaded["last_updated"], started["started_at"]);
    // As if it had been saved: said again it is there already, said with more it goes on.
    let again = app.ok("/api/sessions/save", json!({"session_id":id,"messages":messages,"base_revision":1})).await;
    assert_eq!((&again["revision"], again.get("merged")), (&json!(1), None));
    let more: Vec<Value> = (0..21).map(words).collect();
    assert_eq!(app.ok("/api/sessions/save", json!({"session_id":id,"messages":more})).await["revision"], 2);
    let listed = app.ok("/api/sessions/list", json!({"query":"\"words 19\""})).await;
    assert_eq!(listed["sessions"][0]["session_id"], *id);
    // With ids, branches and what is said of it.
    let body = json!({"metadata":{"type":"voice","title":"T","active_leaf":"b1"},"messages":[
        {"id":"a","role":"user","content":"a"},{"id":"b1","role":"assistant","content":"b"},
        {"id":"b2","parent_id":"a","role":"assistant","content":"c"}]});
    let started = app.ok("/api/sessions/start", body).await;
    let loaded = app.ok("/api/sessions/load", json!({"session_id":started["session_id"]})).await;
    assert_eq!((&loaded["messages"][1]["id"], &loaded["branches"][0]["id"]), (&json!("b1"), &json!("b2")));
    assert_eq!((&loaded["metadata"]["title"], &loaded["metadata"]["type"]), (&json!("T"), &json!("voice")));
    assert_eq!(app.ok("/api/sessions/start", json!({"messages":[]})).await["revision"], 0);
}

#[tokio::test]
async fn of_a_start_with_a_message_that_cannot_be_kept_nothing_stays() {
    let app = TestApp::new();
    for (message, names) in [
        (json!({"role":"wizard","content":"x"}), "messages[1].role"),
        (json!({"content":"x"}), "messages[1].role"),
        (json!({"role":"user","content":7}), "messages[1].content"),
        (json!({"id":"a/b","role":"user","content":"x"}), "messages[1].id"),
        (json!({"id":"m","parent_id":"gone","role":"user","content":"x"}), "messages[1].parent_id"),
    ] {
        let (status, answer) = app.post("/api/sessions/start", json!({"messages":[user("good"), message]})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(names), "{names}: {answer}");
    }
    assert_eq!(app.ok("/api/sessions/list", json!({})).await["total_sessions"], 0);
}

#[tokio::test]
async fn lists_by_page_search_and_kind() {
    let app = TestApp::new();
    let mut ids = Vec::new();
    for (kind, content) in [("chat", "green apples"), ("voice", "Green pears"), ("chat", "red plums")] {
        let started = app.ok("/api/sessions/start", json!({"metadata":{"type":kind}})).await;
        let id = started["session_id"].as_str().unwrap().to_owned();
        app.ok("/api/sessions/save", json!({"session_id":id,"messages":[user(content)]})).await;
        ids.push(id);
    }
    let names = |listed: &Value| -> Vec<String> {
        listed["sessions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["session_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let found = app.ok("/api/sessions/list", json!({"query":"GREEN"})).await;
    assert_eq!(found["filtered_sessions"], 2);
    assert_eq!(found["total_sessions"], 3);
    assert_eq!(names(&found), [ids[1].clone(), ids[0].clone()]);
    assert!(found["sessions"][0]["matches"][0]["snippet"].as_str().unwrap().contains("Green"));
    let found = app.ok("/api/sessions/list", json!({"query":"green","kind":"chat"})).await;
    assert_eq!(names(&found), [ids[0].clone()]);
    assert_eq!(app.ok("/api/sessions/list", json!({"query":&ids[2][..8]})).await["filtered_sessions"], 1);

    let first = app.ok("/api/sessions/list", json!({"limit":2})).await;
    let second = app.ok("/api/sessions/list", json!({"limit":2,"cursor":first["next_cursor"]})).await;
    assert_eq!(names(&first), [ids[2].clone(), ids[1].clone()]);
    assert_eq!(names(&second), [ids[0].clone()]);
    assert_eq!(second["next_cursor"], Value::Null);
    assert_eq!(names(&app.ok("/api/sessions/list", json!({"limit":1,"offset":1})).await), [ids[1].clone()]);
}

#[tokio::test]
async fn many_are_exported_as_one_document_up_to_the_limit() {
    let app = TestApp::new();
    for n in 0..52 {
        let id = app.start().await;
        app.ok("/api/sessions/save", json!({"session_id":id,"messages":[user(&format!("number-{n}."))]})).await;
    }
    let cut = app.ok("/api/sessions/export", json!({})).await;
    assert_eq!((&cut["total_sessions"], &cut["total_matching"]), (&json!(50), &json!(52)));
    assert_eq!(cut["sessions"].as_array().unwrap().len(), 50);
    assert!(cut["exported_at"].is_string());
    let all = app.ok("/api/sessions/export", json!({"limit":null})).await;
    assert_eq!(all["sessions"].as_array().unwrap().len(), 52);
    assert!(all.get("total_matching").is_none());
    assert_eq!(all["sessions"][0]["messages"][0]["content"], "number-51.");
    let found = app.ok("/api/sessions/export", json!({"query":"number-7.","limit":10})).await;
    assert_eq!(found["total_sessions"], 1);
    let ids: Vec<&Value> = all["sessions"].as_array().unwrap().iter().take(2).map(|s| &s["session_id"]).collect();
    let named = app.ok("/api/sessions/export", json!({"session_ids":[ids[1], ids[0], "gone"]})).await;
    assert_eq!(named["sessions"][0]["session_id"], *ids[1]);
    assert_eq!((&named["total_sessions"], &named["skipped"][0]["session_id"]), (&json!(2), &json!("gone")));
}

#[tokio::test]
async fn a_form_post_is_a_download() {
    let app = TestApp::new();
    let id = app.start().await;
    let form = |body: String| {
        let mut request = post_request("/api/sessions/export", body);
        request.headers_mut().insert(header::CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
        request
    };
    let response = app.send(form(format!("session_id={id}"))).await;
    assert_eq!(response.headers()[header::CONTENT_DISPOSITION], format!("attachment; filename=\"verbatim-{id}.json\""));
    let document: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(document["session_id"], *id);
    let response = app.send(form("limit=all&kind=chat&query=".into())).await;
    assert!(
        response.headers()[header::CONTENT_DISPOSITION]
            .to_str()
            .unwrap()
            .starts_with("attachment; filename=\"verbatim-sessions-")
    );
    let document: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(document["total_sessions"], 1);
    for wrong in ["session_id=..%2f", "limit=x", "kind=fax"] {
        assert_eq!(app.send(form(wrong.into())).await.status(), StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn deleted_sessions_can_be_restored() {
    let app = TestApp::new();
    let id = app.start().await;
    app.ok("/api/sessions/delete", json!({"session_id":id})).await;
    for (path, body) in [
        ("/api/sessions/save", json!({"session_id":id,"messages":[user("late")]})),
        ("/api/sessions/load", json!({"session_id":id})),
        ("/api/replies/start", json!({"session_id":id,"message":{"id":"m","content":"late"}})),
    ] {
        let (status, answer) = app.post(path, body).await;
        assert_eq!((status, &answer["error"]["code"]), (StatusCode::CONFLICT, &json!("session_deleted")), "{path}");
    }
    app.ok("/api/sessions/restore", json!({"session_id":id})).await;
    app.ok("/api/sessions/save", json!({"session_id":id,"messages":[user("late")]})).await;
}

#[tokio::test]
async fn bad_input_gets_a_clear_error() {
    let app = TestApp::new();
    let id = app.start().await;
    let unknown = json!({"session_id":"0123456789abcdef0123456789abcdef"});
    for path in ["load", "save", "delete", "export", "restore"] {
        let (status, answer) = app.post(&format!("/api/sessions/{path}"), unknown.clone()).await;
        assert_eq!((status, &answer["error"]["code"]), (StatusCode::NOT_FOUND, &json!("not_found")), "{path}");
    }
    for bad in ["", ".", "..", "../x", "a/b", "%2e%2e", "a\0b", "ａｂｃ", &"x".repeat(65)] {
        for path in ["load", "save", "delete", "export"] {
            let (status, answer) = app.post(&format!("/api/sessions/{path}"), json!({"session_id":bad})).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {bad:?}");
            assert!(answer["error"]["message"].as_str().unwrap().contains("session_id"), "{answer}");
        }
    }
    for (path, body, names) in [
        ("load", "{", "JSON"),
        ("load", "[]", "object"),
        ("load", "{}", "session_id"),
        ("load", r#"{"session_id":"a","session_id":"b"}"#, "session_id"),
        ("load", r#"{"session_id":"\ud800"}"#, "session_id"),
        ("load", r#"{"session_id":NaN}"#, "session_id"),
        ("load", r#"{"session_id":NaN"#, "line 1, column 15"),
        ("list", r#"{"limit":-1}"#, "limit"),
        ("list", r#"{"limit":0}"#, "limit"),
        ("list", r#"{"limit":1001}"#, "limit"),
        ("list", r#"{"limit":1e999}"#, ""),
        ("list", r#"{"offset":99999999999999999999}"#, "offset"),
        ("list", r#"{"kind":"fax"}"#, "kind"),
        ("list", r#"{"sort":"sideways"}"#, "sort"),
        ("list", r#"{"utc_offset_minutes":100000}"#, "utc_offset_minutes"),
        ("start", r#"{"metadata":{"type":"fax"}}"#, "metadata.type"),
        ("start", r#"{"metadata":[]}"#, "metadata"),
        ("export", r#"{"session_ids":["a/b"]}"#, "session_ids[0]"),
        ("export", r#"{"session_id":"a","format":"fax"}"#, "format"),
    ] {
        let (status, answer) = app.post_text(&format!("/api/sessions/{path}"), body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path} {body}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(names), "{path} {body}: {answer}");
    }
    for (message, names) in [
        (json!({"role":"wizard","content":"x"}), "messages[0].role"),
        (json!({"content":"x"}), "messages[0].role"),
        (json!({"role":"user","content":7}), "messages[0].content"),
        (json!({"id":"a/b","role":"user","content":"x"}), "messages[0].id"),
        (json!({"id":"m","parent_id":"gone","role":"user","content":"x"}), "messages[0].parent_id"),
    ] {
        let (status, answer) = app.post("/api/sessions/save", json!({"session_id":id,"messages":[message]})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(names), "{names}: {answer}");
    }
    for (metadata, names) in [
        (json!({"title":"é".repeat(1_001)}), "metadata.title` must have at most 1000"),
        (json!({"tags":["é".repeat(201)]}), "metadata.tags` must have tags of at most 200"),
        (json!({"tags":vec!["x"; 201]}), "metadata.tags` must have at most 200"),
    ] {
        for (path, body) in
            [("save", json!({"session_id":id,"metadata":metadata})), ("start", json!({"metadata":metadata}))]
        {
            let (status, answer) = app.post(&format!("/api/sessions/{path}"), body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
            assert!(answer["error"]["message"].as_str().unwrap().contains(names), "{names}: {answer}");
        }
    }
    let longest = json!({"title":"é".repeat(1_000),"tags":vec!["é".repeat(200); 200]});
    app.ok("/api/sessions/save", json!({"session_id":id,"metadata":longest})).await;
    let listed = app.ok("/api/sessions/list", json!({})).await;
    assert_eq!(
        (&listed["sessions"][0]["title"], &listed["sessions"][0]["tags"]),
        (&longest["title"], &longest["tags"]),
        "what is taken is listed whole"
    );
    let loaded = app.ok("/api/sessions/load", json!({"session_id":id})).await;
    assert_eq!(loaded["messages"], json!([]));
}

#[tokio::test]
async fn bodies_and_nesting_have_bounds() {
    let app = TestApp::new();
    let large = format!("{{\"session_id\":\"{}\"}}", "x".repeat(BODY_LIMIT));
    let (status, answer) = app.post_text("/api/sessions/load", large.clone()).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("body_too_large")));
    // The same without a length that is told beforehand, and one whose told length is a lie.
    let chunks = futures::stream::iter(
        large.into_bytes().chunks(1000).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>(),
    );
    let (status, _) = app.post_text("/api/sessions/load", Body::from_stream(chunks)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let mut request = post_request("/api/sessions/load", "{}");
    request.headers_mut().insert(header::CONTENT_LENGTH, "1073741824".parse().unwrap());
    assert_eq!(app.send(request).await.status(), StatusCode::PAYLOAD_TOO_LARGE);

    let deep = format!("{{\"session_id\":\"a\",\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    // What is put right in other respects may be as deep and no deeper.
    let mended = deep.replacen("\"x\"", "\"y\":NaN,\"z\":\"\\ud800\",\"x\"", 1);
    for body in [deep, mended] {
        let (status, answer) = app.post_text("/api/sessions/load", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(answer["error"]["message"].as_str().unwrap().contains("nested"), "{answer}");
    }
}

#[tokio::test]
async fn the_api_takes_posts_only_and_says_so_in_json() {
    let app = TestApp::new();
    for (path, status) in [
        ("/api/sessions/list", StatusCode::METHOD_NOT_ALLOWED),
        ("/api/sessions/export", StatusCode::METHOD_NOT_ALLOWED),
        ("/api/replies/start", StatusCode::METHOD_NOT_ALLOWED),
        ("/api/nothing", StatusCode::NOT_FOUND),
    ] {
        let response = app.get(path).await;
        assert_eq!(response.status(), status, "{path}");
        let answer: Value = serde_json::from_str(&text(response).await).unwrap();
        assert!(answer["error"]["message"].is_string(), "{path}: {answer}");
    }
    let request = Request::builder().uri("/api/sessions/list").method("POST").header(header::HOST, "localhost:1");
    // What a plain form post of a page says must not turn an answer into a redirect.
    let request = request.header(header::ACCEPT, "text/html").header(header::REFERER, "http://localhost:1/sessions");
    let response = app.send(request.body(Body::from("{}")).unwrap()).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn health_tells_what_is_there() {
    let app = TestApp::new();
    app.start().await;
    let health: Value = serde_json::from_str(&text(app.get("/health").await).await).unwrap();
    let expected =
        json!({"status":"ok","sessions":1,"unreadable":0,"writable":true,"index":"ready","assistant":"scripted"});
    assert_eq!(health, expected);
}
