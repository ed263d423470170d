//! Values that are nested as deep as somebody likes: whatever is taken is read back by everybody who reads it.

use crate::support::{TestApp, post_request, text};
use axum::http::StatusCode;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use verbatim::api::sessions::Loaded;
use verbatim::error::AppError;
use verbatim::model::reply::{ReplyEvent, parse_line};

/// So many lists in each other, or objects.
fn nested(levels: usize, objects: bool) -> String {
    let (open, close) = if objects { ("{\"a\":", "}") } else { ("[", "]") };
    format!("{}1{}", open.repeat(levels), close.repeat(levels))
}

/// Loads a session as a page does whose server put it into the HTML.
async fn read_by_a_page(app: &TestApp, id: &str) -> Loaded {
    let response = app.send(post_request("/api/sessions/load", json!({"session_id":id}).to_string())).await;
    let loaded: Loaded = serde_json::from_str(&text(response).await).unwrap();
    let in_page = serde_json::to_string(&Ok::<Option<Loaded>, AppError>(Some(loaded))).unwrap();
    serde_json::from_str::<Result<Option<Loaded>, AppError>>(&in_page).unwrap().unwrap().unwrap()
}

/// Whether a session stands in an export of itself and in one of all.
async fn is_exported(app: &TestApp, id: &str) -> bool {
    let one = app.ok("/api/sessions/export", json!({"session_id":id})).await;
    let many = app.ok("/api/sessions/export", json!({})).await;
    many["sessions"].as_array().unwrap().contains(&one)
}

#[tokio::test]
async fn a_reply_with_arguments_of_any_depth_is_there_after_a_restart() {
    let mut app = TestApp::new();
    let mut kept = Vec::new();
    for levels in [1, 89, 90, 91, 97, 98, 99, 100, 101, 118, 121, 122, 123, 124, 125, 126, 127, 128, 300] {
        for objects in [false, true] {
            let id = app.start().await;
            let arguments = nested(levels, objects);
            let said = json!({"id":"q","content":format!("tool x {arguments}")});
            let request = json!({"session_id":id,"message":said}).to_string();
            let answer = text(app.send(post_request("/api/replies/start", request)).await).await;
            let events: Vec<ReplyEvent> = answer.lines().map(|line| parse_line(line).expect(line)).collect();
            assert!(matches!(events.last(), Some(ReplyEvent::Done { .. })), "{levels}: {answer}");
            kept.push((id, arguments, levels));
        }
    }
    app = app.restarted();
    for (id, arguments, levels) in kept {
        let loaded = read_by_a_page(&app, &id).await;
        let Some(reply) = loaded.session.messages.get(1) else { panic!("{levels} deep: the reply is gone") };
        let call = &reply.tools_used[0];
        let as_text = json!(arguments).to_string();
        let found = call.arguments.as_ref().unwrap().to_string();
        assert_eq!(found, if levels <= 90 { arguments } else { as_text }, "{levels} deep");
        assert!(is_exported(&app, &id).await, "{levels}");
    }
}

/// A value of any form, at most so many levels deep.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "[\\PC\"\\\\]{0,6}".prop_map(Value::from),
        prop_oneof![Just("1e999"), Just("-0.0"), Just("99999999999999999999"), Just("0.1000")]
            .prop_map(|number| serde_json::from_str(number).unwrap()),
    ];
    let branches = leaf.prop_recursive(6, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[\\PC\"]{0,4}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    });
    // Wrapped so that most stand around the limit.
    (branches, prop_oneof![0usize..4, 80usize..115], any::<bool>()).prop_map(|(value, levels, objects)| {
        (0..levels).fold(value, |value, _| if objects { json!({"a":value}) } else { json!([value]) })
    })
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Saves each value in each place where one can stand, in a session or with its beginning; what is not refused is read back as it was.
#[test]
fn what_is_saved_is_read_back_by_all_readers_whatever_its_depth() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(any_value(), 0usize..6, any::<bool>()), |(value, place, starts)| {
        runtime.block_on(async {
            let app = TestApp::new();
            let mut message = json!({"id":"m","role":"assistant","content":"words"});
            let (path, mut save) = match starts {
                true => ("/api/sessions/start", json!({})),
                false => ("/api/sessions/save", json!({"session_id":app.start().await})),
            };
            match place {
                0 => save["metadata"] = json!({"x":value}),
                1 => message["metadata"] = json!({"x":value}),
                2 => message["x"] = value.clone(),
                3 => message["parts"] = json!([{"type":"tool","name":"t","arguments":value}]),
                4 => message["parts"] = json!([{"type":"text","text":"words","x":value}]),
                _ => message["parts"] = json!([{"type":"later","x":value}]),
            }
            save["messages"] = json!([message]);
            let is_deep = depth(&save) > 100;
            let begun = save["session_id"].clone();
            let (status, answer) = app.post(path, save).await;
            if is_deep {
                prop_assert_eq!(status, StatusCode::BAD_REQUEST);
                prop_assert!(answer["error"]["message"].as_str().unwrap().contains("nested"), "{}", answer);
                return Ok(());
            }
            prop_assert_eq!(status, StatusCode::OK, "{}", answer);
            let id = if starts { answer["session_id"].clone() } else { begun };
            let id = id.as_str().unwrap();
            let app = app.restarted();
            let loaded = read_by_a_page(&app, id).await;
            prop_assert_eq!(loaded.session.messages.len(), 1);
            let read = serde_json::to_value(&loaded).unwrap();
            let message = &read["messages"][0];
            let found = match place {
                // A patch of metadata takes null for "remove".
                0 | 1 if value.to_string().contains("null") => return Ok(()),
                0 => &read["metadata"]["x"],
                1 => &message["metadata"]["x"],
                2 => &message["x"],
                3 if value.is_null() => return Ok(()),
                3 => &message["parts"][0]["arguments"],
                _ => &message["parts"][0]["x"],
            };
            prop_assert_eq!(found, &value);
            prop_assert!(is_exported(&app, id).await);
            Ok(())
        })
    });
    outcome.unwrap();
}
