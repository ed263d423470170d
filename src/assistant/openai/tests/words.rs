//! What of an answer is text, thought or call.

use super::*;
use crate::assistant::openai::body::Record;
use crate::assistant::openai::gather::{End, Gatherer};
use std::collections::VecDeque;

#[tokio::test]
async fn reasoning_comes_under_several_names_and_in_tags() {
    for field in ["reasoning_content", "reasoning", "thinking"] {
        let events =
            streamed(&[delta(json!({field: "hm"})), delta(json!({"content": "yes"})), finish("stop")].concat()).await;
        assert_eq!(events, [Ok(Event::Reasoning("hm".into())), text("yes")], "{field}");
    }
    let both = streamed(&[delta(json!({"reasoning": "hm", "reasoning_content": "hm"})), finish("stop")].concat()).await;
    assert_eq!(both, [Ok(Event::Reasoning("hm".into()))]);
    let tagged = ["<th", "ink>\nhm</thi", "nk>\n\nyes"].map(|piece| delta(json!({"content": piece}))).concat();
    assert_eq!(streamed(&(tagged + &finish("stop"))).await, [Ok(Event::Reasoning("hm".into())), text("yes")]);
}

#[tokio::test]
async fn tool_calls_are_gathered() {
    let call = |value: Value| delta(json!({"tool_calls": [value]}));
    let events = streamed(
        &[
            call(
                json!({"index": 0, "id": "c1", "type": "function", "function": {"name": "datetime", "arguments": ""}}),
            ),
            call(json!({"index": 0, "function": {"arguments": "{\"zone\":"}})),
            call(json!({"index": 1, "id": "c2", "function": {"name": "broken", "arguments": "{"}})),
            call(json!({"index": 0, "function": {"arguments": "\"UTC\"}"}})),
            // Another call under an index that is taken, as some servers send it.
            call(json!({"index": 0, "id": "c3", "function": {"name": "empty"}})),
            finish("tool_calls"),
            "data: [DONE]\n\n".to_owned(),
        ]
        .concat(),
    )
    .await;
    let expected =
        [("c1", "datetime", json!({"zone": "UTC"})), ("c2", "broken", json!("{")), ("c3", "empty", json!({}))];
    let expected = expected.map(|(call_id, name, arguments)| {
        Ok(Event::ToolCall(ToolCall { call_id: call_id.into(), name: name.into(), arguments }))
    });
    assert_eq!(events, expected);
}

#[tokio::test]
async fn the_reading_is_told_where_it_is_long_and_before_the_answer() {
    let progress = |processed: u64, cache: u64, total: u64| {
        let told = json!({"processed": processed, "cache": cache, "total": total, "time_ms": 1});
        format!("data: {}\n\n", json!({"choices": [], "prompt_progress": told}))
    };
    let queued =
        "data: {\"choices\":[],\"prompt_progress\":{\"total\":9,\"cache\":0,\"processed\":0,\"queued\":2}}\n\n";
    let one = delta(json!({"content": "one"}));
    let lines = [
        queued.to_owned(),
        queued.to_owned(),
        progress(1000, 1000, 2000),
        progress(1250, 1000, 2000),
        progress(1251, 1000, 2000),
        progress(2500, 1000, 2000),
        one.clone(),
        progress(1500, 1000, 2000),
        finish("stop"),
    ];
    let reading = |fraction| Ok(Event::Progress(Phase::ReadingContext, Some(fraction)));
    let waiting = Ok(Event::Progress(Phase::Waiting, None));
    assert_eq!(streamed(&lines.concat()).await, [waiting, reading(0.0), reading(0.25), reading(1.0), text("one")]);
    for short in [progress(10, 1900, 2000), progress(0, 0, 0), progress(100, 200, 100)] {
        assert_eq!(streamed(&(short + &one + &finish("stop"))).await, [text("one")]);
    }
}

fn thought(text: &str) -> Result<Event, AssistantError> {
    Ok(Event::Reasoning(text.to_owned()))
}

#[tokio::test]
async fn words_are_found_wherever_servers_put_them() {
    let part = |kind: &str, field: &str, value: Value| json!([{"type": kind, field: value}]);
    for (what, members, reasoning, content) in [
        ("a text part", json!({"content": part("text", "text", json!("b"))}), "", "b"),
        ("an output part", json!({"content": part("output_text", "text", json!("b"))}), "", "b"),
        ("a part of plain text", json!({"content": ["a", "b"]}), "", "ab"),
        ("a part alone", json!({"content": {"type": "text", "text": "b"}}), "", "b"),
        ("a text with a value", json!({"content": part("text", "text", json!({"value": "b"}))}), "", "b"),
        ("a thought", json!({"content": part("thinking", "thinking", json!("hm"))}), "hm", ""),
        (
            "a thought of parts",
            json!({"content": part("thinking", "thinking", part("text", "text", json!("hm")))}),
            "hm",
            "",
        ),
        (
            "thought and text",
            json!({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "b"}]}),
            "hm",
            "b",
        ),
        (
            "an unknown part",
            json!({"content": [{"type": "reference", "ids": [1]}, {"type": "text", "text": "b"}]}),
            "",
            "b",
        ),
        ("a refusal", json!({"content": null, "refusal": "I will not."}), "", "I will not."),
        ("a refusing part", json!({"content": part("refusal", "refusal", json!("No."))}), "", "No."),
        ("thoughts of parts", json!({"thinking": part("text", "text", json!("hm")), "content": "b"}), "hm", "b"),
        ("an object of thoughts", json!({"reasoning": {"content": "hm"}}), "hm", ""),
        (
            "details",
            json!({"reasoning_details": [{"type": "reasoning.text", "text": "h"}, {"type": "reasoning.summary", "summary": "m"}, {"type": "reasoning.encrypted", "data": "x"}]}),
            "hm",
            "",
        ),
        (
            "details of the same",
            json!({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}),
            "hm",
            "",
        ),
        ("thought and text in one part", json!({"content": [{"thinking": "hm", "text": "b"}]}), "hm", "b"),
        ("text and refusal in one part", json!({"content": [{"type": "text", "text": "a", "refusal": "b"}]}), "", "ab"),
        ("the same twice in one part", json!({"content": [{"type": "text", "text": "b", "content": "b"}]}), "", "b"),
        ("two thoughts", json!({"reasoning": "a", "reasoning_content": "b"}), "ba", ""),
        ("a text field", json!({"text": "b"}), "", "b"),
        ("sound with its words", json!({"content": null, "audio": {"id": "x", "transcript": "b"}}), "", "b"),
    ] {
        let expected = (reasoning.to_owned(), content.to_owned());
        assert_eq!(
            gathered(&streamed(&(delta(members.clone()) + &finish("stop"))).await),
            expected,
            "{what}, streamed"
        );
        let message = json!({"choices": [{"index": 0, "message": members, "finish_reason": "stop"}]});
        assert_eq!(gathered(&streamed(&message.to_string()).await), expected, "{what}, whole");
        assert_eq!(gathered(&streamed(&format!("data: {message}\n\n")).await), expected, "{what}, whole in a stream");
    }
    for (what, choice, content) in [
        ("a legacy completion", json!({"text": "b", "index": 0}), "b"),
        ("a delta that is a text", json!({"delta": "b"}), "b"),
        ("an empty delta beside a message", json!({"delta": {}, "message": {"content": "b"}}), "b"),
        ("an empty delta beside a text", json!({"delta": {}, "text": "b"}), "b"),
        ("no delta", json!({"delta": null, "message": {"content": "b"}}), "b"),
    ] {
        let mut choice = choice;
        choice["finish_reason"] = json!("stop");
        let events = streamed(&format!("data: {}\n\n", json!({"choices": [choice]}))).await;
        assert_eq!(gathered(&events), (String::new(), content.to_owned()), "{what}");
    }
}

#[tokio::test]
async fn parts_and_plain_texts_are_joined() {
    let thinking = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]);
    let good = json!([{"type": "text", "text": "Good "}]);
    let stream =
        [delta(json!({"content": thinking})), delta(json!({"content": good})), delta(json!({"content": "morning!"}))]
            .concat();
    assert_eq!(gathered(&streamed(&(stream + &finish("stop"))).await), ("hm".into(), "Good morning!".into()));
    let content = json!([thinking[0], good[0], "morning!"]);
    let whole = json!({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]}).to_string();
    assert_eq!(gathered(&streamed(&whole).await), ("hm".into(), "Good morning!".into()));
}

#[tokio::test]
async fn what_is_repeated_at_the_end_is_not_doubled() {
    let message = |content: &str, reason: Value| {
        format!(
            "data: {}\n\n",
            json!({"choices": [{"index": 0, "message": {"content": content, "reasoning": "hm"}, "finish_reason": reason}]})
        )
    };
    let deltas =
        [delta(json!({"reasoning": "hm"})), delta(json!({"content": "one"})), delta(json!({"content": " two"}))]
            .concat();
    let expected = ("hm".to_owned(), "one two".to_owned());
    assert_eq!(gathered(&streamed(&(deltas.clone() + &message("one two", json!("stop")))).await), expected);
    let rest = deltas.clone() + &message("one two three", json!("stop"));
    assert_eq!(gathered(&streamed(&rest).await), ("hm".into(), "one two three".into()));
    // Messages that grow.
    let grow = |content: &str, reason: Value| {
        format!("data: {}\n\n", json!({"choices": [{"message": {"content": content}, "finish_reason": reason}]}))
    };
    let growing = grow("one", json!(null)) + &grow("one two", json!(null)) + &grow("one two", json!("stop"));
    assert_eq!(gathered(&streamed(&growing).await), (String::new(), "one two".into()));
    // Ollama's own lines.
    let line = |content: &str, done: bool| {
        json!({"model": "m", "message": {"role": "assistant", "content": content}, "done": done}).to_string() + "\n"
    };
    assert_eq!(
        gathered(&streamed(&(line("one ", false) + &line("two", false) + &line("", true))).await),
        (String::new(), "one two".into())
    );
    // Which go on, also where they say the same once more.
    let laughing = line("ha", false) + &line("ha", false) + &line("haha!", false) + &line("", true);
    assert_eq!(gathered(&streamed(&laughing).await), (String::new(), "hahahaha!".into()));
    // One that repeats what deltas brought is no line of theirs.
    for last in [
        json!({"message": {"content": "one two"}, "done": true}),
        json!({"choices": [{"delta": {}, "message": {"content": "one two"}, "done": true, "finish_reason": "stop"}]}),
    ] {
        let last = format!("data: {last}\n\n");
        assert_eq!(gathered(&streamed(&(deltas.clone() + &last)).await), expected);
    }
    // A call of theirs is whole, also one without arguments that comes again.
    let call = json!({"message": {"content": "", "tool_calls": [{"function": {"name": "f"}}]}, "done": false});
    let called = format!("{call}\n{call}\n{}", line("", true));
    assert_eq!(streamed(&called).await.len(), 2);
}

#[tokio::test]
async fn a_closing_tag_alone_ends_the_thoughts() {
    let said = "Okay, the user\n</think>\n\nHello!";
    let expected = ("Okay, the user".to_owned(), "Hello!".to_owned());
    for size in [1, 3, 7, 100] {
        let pieces: Vec<char> = said.chars().collect();
        let stream: String =
            pieces.chunks(size).map(|piece| delta(json!({"content": piece.iter().collect::<String>()}))).collect();
        assert_eq!(gathered(&streamed(&(stream + &finish("stop"))).await), expected, "{size}");
    }
    let at_once = streamed(&(delta(json!({"content": said})) + &finish("stop"))).await;
    assert_eq!(at_once, [thought("Okay, the user"), text("Hello!")]);
    let whole = json!({"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}).to_string();
    assert_eq!(gathered(&streamed(&whole).await), expected);
    let code = "Write `</think>`, or\n```\n</think>\n```\n";
    assert_eq!(
        gathered(&streamed(&(delta(json!({"content": code})) + &finish("stop"))).await),
        (String::new(), code.into())
    );
    // A server that tells them apart and lets a tag through.
    let leaked = delta(json!({"reasoning_content": "hm"})) + &delta(json!({"content": "\n</think>\n\nHello!"}));
    assert_eq!(gathered(&streamed(&(leaked + &finish("stop"))).await), ("hm".into(), "Hello!".into()));
}

#[tokio::test]
async fn calls_with_the_same_marks_are_told_apart() {
    let calls = |events: Events| -> Vec<(String, Value)> {
        events
            .into_iter()
            .map(|event| match event {
                Ok(Event::ToolCall(call)) => (call.name, call.arguments),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let (rome, oslo) = (json!({"city": "Rome"}), json!({"city": "Oslo"}));
    let expected = vec![("weather".to_owned(), rome.clone()), ("weather".to_owned(), oslo.clone())];
    for mark in [json!({"index": 0, "id": ""}), json!({})] {
        let call = |city: &Value| {
            let mut call = mark.clone();
            call["function"] = json!({"name": "weather", "arguments": city.to_string()});
            delta(json!({"tool_calls": [call]}))
        };
        assert_eq!(calls(streamed(&(call(&rome) + &call(&oslo) + &finish("tool_calls"))).await), expected, "{mark}");
    }
    // The older form, and calls spread over choices.
    let older = delta(json!({"function_call": {"name": "weather", "arguments": rome.to_string()}}));
    assert_eq!(calls(streamed(&(older + &finish("function_call"))).await), expected[..1]);
    let spread = json!({"choices": [
        {"index": 0, "message": {"content": "Let me see."}, "finish_reason": "tool_calls"},
        {"index": 1, "message": {"content": null, "tool_calls": [{"id": "c", "function": {"name": "weather", "arguments": rome.to_string()}}]}},
    ]});
    let events = streamed(&spread.to_string()).await;
    assert_eq!(events[0], text("Let me see."));
    assert_eq!(calls(events[1..].to_vec()), expected[..1]);
}

#[tokio::test]
async fn reasons_to_end_are_understood_or_kept() {
    let one = delta(json!({"content": "one"}));
    for reason in ["eos_token", "stop_sequence", "STOP", "end_turn", "stop"] {
        assert_eq!(streamed(&(one.clone() + &finish(reason))).await, [text("one")], "{reason}");
    }
    for (reason, cut_off) in
        [("max_tokens", "length"), ("MAX_TOKENS", "length"), ("length", "length"), ("oddly", "oddly")]
    {
        let events = streamed(&(one.clone() + &finish(reason))).await;
        assert_eq!(events, [text("one"), Ok(Event::CutOff(cut_off.into()))], "{reason}");
    }
}

#[tokio::test]
async fn choices_that_are_counted_are_one_answer() {
    let piece = |index: u64, content: &str| {
        let choice = json!({"index": index, "delta": {"content": content}, "finish_reason": null});
        format!("data: {}\n\n", json!({"choices": [choice]}))
    };
    let end = |index: u64| {
        format!("data: {}\n\n", json!({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]}))
    };
    for pieces in [
        [piece(1, "I"), piece(2, "'"), piece(3, "m"), end(4)],
        [piece(0, ""), piece(1, "I'"), piece(1, "m"), end(0)],
        [piece(0, "I"), piece(1, "'"), piece(2, "m"), end(0)],
    ] {
        let events = streamed(&pieces.concat()).await;
        assert_eq!(gathered(&events), (String::new(), "I'm".into()));
        assert!(events.iter().all(|event| matches!(event, Ok(Event::Text(_)))), "{events:?}");
    }
    // Others beside it, and after its end, are others.
    let beside = json!({"choices": [{"index": 0, "delta": {"content": "a"}}, {"index": 1, "delta": {"content": "b"}}]});
    let others = format!("data: {beside}\n\n") + &end(0) + &piece(1, "c") + &end(1);
    assert_eq!(gathered(&streamed(&others).await), (String::new(), "a".into()));
}

#[tokio::test]
async fn a_reason_is_looked_for_in_every_field() {
    let end = |choice: Value| delta(json!({"content": "one"})) + &format!("data: {}\n\n", json!({"choices": [choice]}));
    for (choice, cut_off) in [
        (json!({"index": 0, "delta": {}, "finish_reason": null, "finishReason": "stop"}), None),
        (json!({"delta": {}, "finish_reason": "", "native_finish_reason": "MAX_TOKENS"}), Some("length")),
        (json!({"delta": {}, "finish_reason": "FinishReason.MAX_TOKENS"}), Some("length")),
        (json!({"delta": {}, "finish_reason": "maxTokens"}), Some("length")),
        (json!({"delta": {}, "finish_reason": 1}), None),
        (json!({"delta": {}, "stop_reason": "endTurn"}), None),
    ] {
        let events = streamed(&end(choice.clone())).await;
        let expected: Events =
            [text("one")].into_iter().chain(cut_off.map(|reason: &str| Ok(Event::CutOff(reason.into())))).collect();
        assert_eq!(events, expected, "{choice}");
    }
    // One that says that there is none.
    let none = |content: &str| {
        format!("data: {}\n\n", json!({"choices": [{"delta": {"content": content}, "finish_reason": "null"}]}))
    };
    let events = streamed(&(none("one") + &none(" two"))).await;
    assert!(matches!(events.last(), Some(Err(_))), "{events:?}");
}

#[test]
fn a_reason_in_every_chunk_ends_nothing() {
    let peer = Peer { address: "a".into(), key: None, models: Vec::new(), model: "m".into() };
    let mut gatherer = Gatherer::default();
    let mut take = |delta: Value, reason: Option<&str>| {
        let data = json!({"choices": [{"delta": delta, "finish_reason": reason}]}).to_string();
        gatherer.take(&Record { kind: String::new(), data }, &peer, &mut VecDeque::new()).unwrap();
        (gatherer.is_complete(true), gatherer.end())
    };
    assert_eq!(take(json!({"content": "one"}), None), (false, End::WithWords));
    assert_eq!(take(json!({}), Some("stop")), (true, End::AfterWords));
    assert_eq!(take(json!({"content": "two"}), Some("stop")), (true, End::Unsure));
    assert_eq!(take(json!({}), Some("stop")), (true, End::Unsure));
    let mut gatherer = Gatherer::default();
    let data = json!({"choices": [{"delta": {"content": "one"}, "finish_reason": "stop"}]}).to_string();
    gatherer.take(&Record { kind: String::new(), data }, &peer, &mut VecDeque::new()).unwrap();
    assert_eq!((gatherer.is_complete(true), gatherer.end()), (true, End::WithWords));
}

#[tokio::test]
async fn what_is_no_word_is_told() {
    let media = [Ok(Event::CutOff("media".into()))];
    for said in [
        json!({"images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}),
        json!({"content": [{"type": "image_url", "image_url": {"url": "https://a/b.png"}}]}),
    ] {
        assert_eq!(streamed(&(delta(said) + &finish("stop"))).await, media);
    }
    for (said, words) in [
        (json!({"content": 42}), "42"),
        (json!({"content": {"parts": [{"text": "a"}, {"text": "b"}], "role": "model"}}), "ab"),
    ] {
        assert_eq!(gathered(&streamed(&(delta(said) + &finish("stop"))).await), (String::new(), words.into()));
    }
    let used = json!({"content": [{"type": "text", "text": "So."}, {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}}]});
    let call = ToolCall { call_id: "c".into(), name: "f".into(), arguments: json!({"a": 1}) };
    let expected = [text("So."), Ok(Event::ToolCall(call))];
    assert_eq!(streamed(&(delta(used.clone()) + &finish("tool_use"))).await, expected);
    // In a field of its own, too.
    let mut twice = used;
    twice["tool_calls"] = json!([{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{\"a\":1}"}}]);
    assert_eq!(streamed(&(delta(twice) + &finish("tool_use"))).await, expected);
}

#[tokio::test]
async fn the_same_words_in_two_shapes_are_told_once() {
    let gathered_of =
        async |part: Value| gathered(&streamed(&(delta(json!({"content": [part]})) + &finish("stop"))).await);
    let both = json!({"type": "text", "text": "ab", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
    assert_eq!(gathered_of(both).await, (String::new(), "ab".into()));
    assert_eq!(gathered_of(json!({"thinking": "hm", "text": "hm"})).await, ("hm".into(), String::new()));
    let summed = json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "Short."}],
        "content": [{"type": "reasoning_text", "text": "Long."}]});
    assert_eq!(gathered_of(summed).await, ("Long.".into(), String::new()));
}

#[tokio::test]
async fn channels_are_thoughts_answer_and_calls() {
    let said = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello!";
    for size in [1, 5, 200] {
        let pieces: Vec<char> = said.chars().collect();
        let stream: String =
            pieces.chunks(size).map(|piece| delta(json!({"content": piece.iter().collect::<String>()}))).collect();
        assert_eq!(gathered(&streamed(&(stream + &finish("stop"))).await), ("hm".into(), "Hello!".into()), "{size}");
    }
}
