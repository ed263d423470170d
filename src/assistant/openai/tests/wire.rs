//! Bytes of an answer, as servers and networks send them.

use super::*;

#[tokio::test]
async fn chunks_may_be_cut_anywhere() {
    let bytes = [
        ": a comment\r\n\r\n".to_owned(),
        delta(json!({"role": "assistant", "content": ""})),
        delta(json!({"content": "grün 🛠️"})).replace('\n', "\r\n"),
        delta(json!({"content": " 日本"})),
        finish("stop"),
        "data: {\"choices\":[],\"usage\":{\"total_tokens\":9}}\n\ndata: [DONE]\n\n".to_owned(),
    ]
    .concat()
    .into_bytes();
    for size in [1, 2, 3, 7, bytes.len()] {
        let chunks = bytes.chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let events = played("text/event-stream; charset=utf-8", chunks).await;
        let Value::Object(usage) = json!({"total_tokens": 9}) else { unreachable!() };
        assert_eq!(events, [text("grün 🛠️"), text(" 日本"), Ok(Event::Usage(usage))], "size {size}");
    }
}

#[tokio::test]
async fn ends_are_told_apart() {
    let one = delta(json!({"content": "one"}));
    let done = "data: [DONE]\n\n";
    assert_eq!(streamed(&(one.clone() + &finish("stop") + done)).await, [text("one")]);
    let unsaid = Ok(Event::CutOff("no_finish_reason".into()));
    assert_eq!(streamed(&(one.clone() + done)).await, [text("one"), unsaid]);
    assert_eq!(streamed(&(one.clone() + &finish("stop"))).await, [text("one")]);
    assert_eq!(streamed(&(one.clone() + &finish("length"))).await, [text("one"), Ok(Event::CutOff("length".into()))]);

    let broken = streamed(&one).await;
    assert_eq!(broken[0], text("one"));
    let error = broken[1].as_ref().unwrap_err();
    assert!(error.code == AssistantErrorCode::Failed && error.message.contains("broke off"), "{error}");

    let lost = lost_after(&one).await;
    assert_eq!((lost.len(), code(&lost)), (2, Some(AssistantErrorCode::Failed)));

    assert_eq!(lost_after(&(one + &finish("stop"))).await, [text("one")]);
}

#[tokio::test]
async fn errors_inside_a_stream_are_told() {
    let one = delta(json!({"content": "one"}));
    for (line, expected) in [
        (
            r#"data: {"error":{"message":"the request exceeds the available context size","code":400}}"#,
            AssistantErrorCode::ContextTooLong,
        ),
        (r#"data: {"error":{"message":"slow down","code":429}}"#, AssistantErrorCode::RateLimited),
        (r#"data: {"object":"error","message":"oops","code":500}"#, AssistantErrorCode::Failed),
        ("event: error\ndata: {\"message\":\"oops\"}", AssistantErrorCode::Failed),
        (r#"data: {"error":"quota","code":"429"}"#, AssistantErrorCode::Failed),
        (r#"data: {"error":{"message":"slow down","code":"429"}}"#, AssistantErrorCode::RateLimited),
        (r#"{"error":{"message":"not in an event","code":429}}"#, AssistantErrorCode::RateLimited),
        ("event: error\ndata: overloaded", AssistantErrorCode::RateLimited),
        (
            r#"error: {"code":400,"message":"the request exceeds the available context size, try increasing it","type":"x"}"#,
            AssistantErrorCode::ContextTooLong,
        ),
        (
            r#"data: {"error_type":"x","error_message":"This model's maximum context length is 4096 tokens."}"#,
            AssistantErrorCode::ContextTooLong,
        ),
        (r#"data: {"type":"rate_limit_error","message":"Rate limit reached"}"#, AssistantErrorCode::RateLimited),
        (
            r#"data: {"choices":[{"index":0,"delta":{},"error":{"message":"gone","code":502}}]}"#,
            AssistantErrorCode::Failed,
        ),
    ] {
        let events = streamed(&format!("{one}{line}\n\n{one}")).await;
        assert_eq!((events.len(), code(&events)), (2, Some(expected)), "{line}: {events:?}");
    }
}

#[tokio::test]
async fn an_event_without_end_is_not_gathered_for_ever() {
    let endless = std::iter::once(Ok(Bytes::from_static(b"data: ")))
        .chain(std::iter::repeat_with(|| Ok(Bytes::from("x".repeat(1000)))).take(50))
        .collect();
    let events = played("text/event-stream", endless).await;
    let error = events[0].as_ref().unwrap_err();
    assert!(error.cause.contains("larger than the limit"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_streamed_is_taken_too() {
    let body = json!({"choices": [{"message": {"role": "assistant", "content": "<think>hm</think>yes",
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}]}, "finish_reason": "length"}],
        "usage": {"total_tokens": 3}});
    let events = played("application/json", vec![Ok(Bytes::from(body.to_string()))]).await;
    let Value::Object(usage) = body["usage"].clone() else { unreachable!() };
    let call = ToolCall { call_id: "c".into(), name: "f".into(), arguments: json!({"a": 1}) };
    assert_eq!(
        events,
        [
            Ok(Event::Reasoning("hm".into())),
            text("yes"),
            Ok(Event::ToolCall(call)),
            Ok(Event::Usage(usage)),
            Ok(Event::CutOff("length".into()))
        ]
    );
    for (kind, body) in [("text/html", "<html>"), ("application/json", "{}"), ("application/json", "{")] {
        let events = played(kind, vec![Ok(Bytes::from(body))]).await;
        assert_eq!(code(&events), Some(AssistantErrorCode::Failed), "{kind} {body}");
    }
}

#[tokio::test]
async fn dropping_the_reply_closes_the_connection() {
    let (gone, noticed) = oneshot::channel::<()>();
    let gone = Arc::new(Mutex::new(Some(gone)));
    let play = move || {
        // Dropped with the body, when the server notices that nobody listens.
        let guard = gone.lock().unwrap().take();
        let endless = streams::once(async { Ok::<_, io::Error>(Bytes::from(delta(json!({"content": "one"})))) })
            .chain(streams::pending())
            .map(move |chunk| {
                let _ = &guard;
                chunk
            });
        async move { ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(endless)) }
    };
    let server = serve(Router::new().route("/v1/chat/completions", post(play))).await;
    let client = client_with(server.port(), |_| {});
    let mut events = client.reply(question()).await.unwrap();
    assert_eq!(events.next().await, Some(text("one")));
    drop(events);
    let noticed = tokio::time::timeout(Duration::from_secs(60), noticed).await;
    assert!(noticed.expect("the server still streams").is_err(), "the guard is dropped, never sent");
}

#[tokio::test]
async fn silence_is_not_waited_for_for_ever() {
    let play = || async {
        let one = streams::once(async { Ok::<_, io::Error>(Bytes::from(delta(json!({"content": "one"})))) });
        ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(one.chain(streams::pending())))
    };
    let server = serve(Router::new().route("/v1/chat/completions", post(play))).await;
    let events = ask(&client_with(server.port(), |options| options.idle_timeout = Duration::from_millis(50))).await;
    assert_eq!(events[0], text("one"));
    assert!(events[1].as_ref().unwrap_err().message.contains("has sent nothing"), "{events:?}");
}

#[tokio::test]
async fn a_mark_at_the_beginning_is_dropped() {
    let stream = "\u{feff}".to_owned() + &delta(json!({"content": "one"})) + &finish("stop");
    for size in [1, 2, 3, 4, stream.len()] {
        let chunks = stream.as_bytes().chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        assert_eq!(played("text/event-stream", chunks).await, [text("one")], "size {size}");
    }
    let whole = "\u{feff}".to_owned() + &whole("one");
    assert_eq!(played("application/json", vec![Ok(Bytes::from(whole))]).await, [text("one")]);
}

/// An answer that is not streamed.
fn whole(content: &str) -> String {
    json!({"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]}).to_string()
}

#[tokio::test]
async fn what_is_no_json_is_skipped() {
    let (one, two) = (delta(json!({"content": "one"})), delta(json!({"content": " two"})));
    for junk in [
        "data: 2024-04-27 01:35:43\n\n",
        "data: {torn\n\n",
        "data: \u{0}\n\n",
        "data: 7\n\n",
        "data: null\n\n",
        "data: \"ping\"\n\n",
        "data: {\"type\":\"ping\"}\n\n",
        "data\n\n",
        ": a comment\n\n",
        "event: ping\nid: 3\nretry: 5\n\n",
        "INFO: still working\n\n",
        "data: {\"error\":null,\"choices\":[]}\n\n",
        "data: {\"error\":{},\"choices\":null}\n\n",
    ] {
        let stream = [junk, &one, junk, &two, junk, &finish("stop"), junk, "data: [DONE]\n\n"].concat();
        assert_eq!(streamed(&stream).await, [text("one"), text(" two")], "{junk}");
        // And where nothing else came, the reply fails.
        let failed = streamed(junk).await;
        assert_eq!(code(&failed), Some(AssistantErrorCode::Failed), "{junk}: {failed:?}");
    }
    let not_utf8 =
        vec![Ok(Bytes::from(one)), Ok(Bytes::from_static(b"data: \xff\xff\n\n")), Ok(Bytes::from(finish("stop")))];
    assert_eq!(played("text/event-stream", not_utf8).await, [text("one")]);
    // Words with what is no UTF-8 or no JSON in them are kept.
    let odd = b"data: {\"choices\":[{\"delta\":{\"content\":\"a\xffb\\ud83d\"},\"logprobs\":NaN}]}\n\n";
    let odd = vec![Ok(Bytes::from_static(odd)), Ok(Bytes::from(finish("stop")))];
    assert_eq!(played("text/event-stream", odd).await, [text("a\u{fffd}b\u{fffd}")]);
}

#[tokio::test]
async fn the_body_is_read_by_what_it_is_and_not_by_its_label() {
    let stream = delta(json!({"content": "one"})) + &finish("stop") + "data:  [DONE] \n\n";
    let lines = stream.replace("data: ", "").replace("\n\n", "\n").replace(" [DONE] ", "[DONE]");
    let array = format!("[{}]", lines.replace("[DONE]", "").trim().replace('\n', ","));
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&whole("one")).unwrap()).unwrap();
    for kind in ["text/event-stream", "application/json", "application/x-ndjson", "text/plain", "text/html", ""] {
        for body in [&stream, &whole("one"), &lines, &array, &format!("\r\n  {pretty}\n"), &format!("\n\n{stream}")] {
            for size in [5, body.len()] {
                let chunks = body.as_bytes().chunks(size).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
                assert_eq!(played(kind, chunks).await, [text("one")], "{kind}: {body}");
            }
        }
        for page in ["<!DOCTYPE html><html></html>", " \n<html>"] {
            let events = played(kind, vec![Ok(Bytes::from(page))]).await;
            assert!(events[0].as_ref().unwrap_err().message.contains("does not speak"), "{kind}: {events:?}");
        }
    }
}

#[tokio::test]
async fn events_with_missing_ends_are_read() {
    let events = [delta(json!({"content": "one"})), delta(json!({"content": " two"})), finish("stop")].concat();
    // No empty lines, no last line end, bare CR.
    for stream in [
        events.replace("\n\n", "\n"),
        events.trim_end().to_owned(),
        events.replace('\n', "\r"),
        events.replace("data: ", "data:"),
    ] {
        assert_eq!(streamed(&stream).await, [text("one"), text(" two")], "{stream}");
    }
    // Where the connection was lost, what was complete is kept.
    let lost = lost_after(delta(json!({"content": "one"})).trim_end()).await;
    assert_eq!((&lost[0], code(&lost)), (&text("one"), Some(AssistantErrorCode::Failed)));
    // And so is what was held back, because it might have been the beginning of a tag.
    let held = lost_after(&delta(json!({"content": "a <thi"}))).await;
    assert_eq!((&held[..2], held.len()), (&[text("a"), text(" <thi")][..], 3));
    let answer = lost_after(&whole("one")).await;
    assert_eq!(answer, [text("one")]);
}

#[tokio::test]
async fn one_large_delta_takes_no_more_than_its_share_of_time() {
    let large = delta(json!({"content": "x".repeat(7 << 20)}));
    let stream = large + &finish("stop");
    let cut = |chunk: &[u8]| Ok::<_, io::Error>(Bytes::copy_from_slice(chunk));
    let chunks: Vec<_> = stream.as_bytes().chunks(8 << 10).map(cut).collect();
    let chunks = Arc::new(Mutex::new(Some(chunks)));
    let play = move || {
        let chunks = chunks.lock().unwrap().take().unwrap();
        async move { Body::from_stream(streams::iter(chunks)) }
    };
    let server = serve(Router::new().route("/v1/chat/completions", post(play))).await;
    let begin = Instant::now();
    let events = ask(&client_with(server.port(), |_| {})).await;
    let bytes: usize = events.iter().map(|event| if let Ok(Event::Text(text)) = event { text.len() } else { 0 }).sum();
    assert_eq!(bytes, 7 << 20, "{:?}", events.last());
    // Some tenths of a second without optimisation; what was quadratic took forty times as long.
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}

/// What comes of a server that sends this for ever, one piece after the other with a pause between, and how many it sent.
async fn endless(piece: String, pause: Duration, change: impl FnOnce(&mut OpenAiOptions)) -> (Events, usize) {
    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = sent.clone();
    let play = move || async move {
        let pieces = streams::repeat(piece).then(move |piece| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            async move {
                // Also without a pause others must have their turn; a sleep of no time would be one of a millisecond.
                tokio::task::yield_now().await;
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                Ok::<_, io::Error>(Bytes::from(piece))
            }
        });
        ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(pieces))
    };
    let server = serve(Router::new().route("/v1/chat/completions", post(play))).await;
    let client = client_with(server.port(), change);
    let asked = ask(&client);
    let events = tokio::time::timeout(Duration::from_secs(60), asked).await.expect("it goes on without an end");
    (events, sent.load(std::sync::atomic::Ordering::Relaxed))
}

#[tokio::test]
async fn nothing_is_taken_without_an_end() {
    let progress =
        |n: u64| json!({"choices": [], "prompt_progress": {"processed": n, "cache": 0, "total": 1000, "time_ms": 1}});
    let both = format!("data: {}\n\ndata: {}\n\n", progress(100), progress(900));
    for (what, piece) in [
        ("progress that goes to and fro", both),
        ("empty deltas", delta(json!({"content": ""}))),
        ("comments", ": nothing\n\n".to_owned()),
        ("empty lines", "\n".repeat(100)),
        ("junk", "data: junk\n\n".to_owned()),
        ("calls without a word", delta(json!({"tool_calls": [{"index": 0}]}))),
    ] {
        for (bytes, chunks) in [(50_000, usize::MAX), (usize::MAX, 500)] {
            if chunks == 500 && (what == "comments" || what == "empty lines") {
                // These are no chunks; their bytes count.
                continue;
            }
            let (events, _) = endless(piece.clone(), Duration::ZERO, |options| {
                (options.max_reply_bytes, options.max_reply_chunks) = (bytes, chunks);
            })
            .await;
            assert_eq!(code(&events), Some(AssistantErrorCode::Failed), "{what}");
            assert!(
                events.last().unwrap().as_ref().unwrap_err().message.contains("without an end"),
                "{what}: {:?}",
                events.last()
            );
        }
    }
    // Words are kept, and said to be cut off.
    for (bytes, chunks) in [(50_000, usize::MAX), (usize::MAX, 500)] {
        let (events, _) = endless(delta(json!({"content": "word "})), Duration::ZERO, |options| {
            (options.max_reply_bytes, options.max_reply_chunks) = (bytes, chunks);
        })
        .await;
        assert_eq!(events.last(), Some(&Ok(Event::CutOff("length".into()))), "{bytes} {chunks}");
        assert!(events.len() > 400);
    }
    let arguments =
        delta(json!({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "x".repeat(9_000)}}]}));
    let (events, _) = endless(arguments, Duration::ZERO, |options| options.max_reply_bytes = 50_000).await;
    assert!(events.len() <= 3 && events.last() == Some(&Ok(Event::CutOff("length".into()))), "{}", events.len());
}

#[tokio::test]
async fn only_words_break_a_silence() {
    for (what, piece) in [
        ("empty deltas", delta(json!({"content": ""}))),
        ("comments", ": nothing\n\n".to_owned()),
        (
            "progress",
            "data: {\"choices\":[],\"prompt_progress\":{\"processed\":1,\"cache\":0,\"total\":9000}}\n\n".to_owned(),
        ),
        ("usage", "data: {\"choices\":[],\"usage\":{\"total_tokens\":1}}\n\n".to_owned()),
    ] {
        let pause = Duration::from_millis(5);
        let (events, sent) = endless(piece, pause, |options| options.first_timeout = Duration::from_millis(300)).await;
        let error = events.last().unwrap().as_ref().unwrap_err();
        assert!(error.message.contains("has sent nothing that can be read") && sent > 2, "{what}: {error}");
    }
    // Text, thoughts and arguments are words.
    for word in [
        json!({"content": "a "}),
        json!({"reasoning": "a"}),
        json!({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "1"}}]}),
    ] {
        let (events, _) = endless(delta(word.clone()), Duration::from_millis(5), |options| {
            options.idle_timeout = Duration::from_secs(20);
            options.first_timeout = Duration::from_secs(20);
            options.max_reply_chunks = 40;
        })
        .await;
        assert_eq!(events.last(), Some(&Ok(Event::CutOff("length".into()))), "{word}");
    }
}

#[tokio::test]
async fn after_the_end_a_silent_connection_is_not_waited_for() {
    let play = || async {
        let one = delta(json!({"content": "one"})) + &finish("stop");
        let said = streams::once(async { Ok::<_, io::Error>(Bytes::from(one)) });
        ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(said.chain(streams::pending())))
    };
    let server = serve(Router::new().route("/v1/chat/completions", post(play))).await;
    let client = client_with(server.port(), |options| options.idle_timeout = Duration::from_millis(50));
    assert_eq!(ask(&client).await, [text("one")]);
}

#[tokio::test]
async fn what_is_readable_of_a_line_is_read() {
    let chunk = |content: &str| {
        json!({"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": null}]}).to_string()
    };
    let (a, b) = (chunk("a"), chunk("b"));
    let ab = (String::new(), "ab".to_owned());
    for stream in [
        format!("data: data: {a}\n\ndata: {b}\n\n"),
        format!(": hello\n\n data: {a}\n\n\tdata: {b}\n\n"),
        format!("data: {a}\n\n\u{feff}data: {b}\n\n"),
        format!("data: {a}data: {b}\n\n"),
        format!("data: {a}{b}\n\n"),
        format!("data: {{\"choices\":[{{\"delta\":{{\"role\":\"adata: {a}\n\ndata: {b}\n\n"),
        format!("<br />\n<b>Warning</b>: odd\n\ndata: {a}\n\ndata: {b}\n\n"),
        format!("error: it is tried again\n\ndata: {a}\n\ndata: {b}\n\n"),
        format!(
            "data: {{\"status\":\"processing\",\"message\":\"Request queued, position 3\"}}\n\ndata: {a}\n\ndata: {b}\n\n"
        ),
        format!("data: {{\"type\":\"status\",\"detail\":\"Loading model\"}}\n\ndata: {a}\n\ndata: {b}\n\n"),
        // Shapes of errors in which there is none.
        format!("data: {}\n\ndata: {b}\n\n", a.replacen('{', r#"{"error":{"message":"","type":"","code":null},"#, 1)),
        format!("data: {}\n\ndata: {b}\n\n", a.replacen('{', r#"{"error":0,"message":"ok","code":200,"#, 1)),
    ] {
        let events = streamed(&(stream.clone() + &finish("stop"))).await;
        assert_eq!(gathered(&events), ab, "{stream}: {events:?}");
        let mut events = streamed(&(stream.clone() + "data: [DONE]\n\n")).await;
        assert_eq!(events.pop(), Some(Ok(Event::CutOff("no_finish_reason".into()))));
        assert_eq!(gathered(&events), ab, "{stream}");
    }
    // Texts that are broken into lines, also into paragraphs.
    let lines = chunk("one\ntwo\n\nthree").replace("\\n", "\n");
    let events = streamed(&format!("data: {lines}\n\n{}", finish("stop"))).await;
    assert_eq!(events, [text("one\ntwo\n\nthree")]);
    // One that was torn off takes nothing along.
    let events = streamed(&format!("data: {}\n\ndata: {b}\n\n{}", &a[..a.len() - 40], finish("stop"))).await;
    assert_eq!(gathered(&events), (String::new(), "b".to_owned()));
    let page = played("text/event-stream", vec![Ok(Bytes::from("<p>Not here</p>"))]).await;
    assert!(page[0].as_ref().unwrap_err().cause.contains("web page"), "{page:?}");
}

#[tokio::test]
async fn an_answer_without_choices_is_empty() {
    let body = json!({"object": "chat.completion", "choices": [], "usage": {"total_tokens": 3}}).to_string();
    let events = played("application/json", vec![Ok(Bytes::from(body))]).await;
    assert!(matches!(events.as_slice(), [Ok(Event::Usage(_))]), "{events:?}");
    let events = streamed("data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\ndata: [DONE]\n\n").await;
    assert!(events.iter().all(Result::is_ok), "{events:?}");
}
