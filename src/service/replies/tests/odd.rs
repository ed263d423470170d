//! What is kept, told and given up of replies that are odd, endless or empty.

use super::*;
use crate::model::parts::ToolStatus;

fn call(name: &str, arguments: Value) -> Result<Event, AssistantError> {
    Ok(Event::ToolCall(ToolCall { call_id: "c".into(), name: name.into(), arguments }))
}

/// A fixture in which a led assistant says these events and then nothing for ever.
async fn said(
    events: &[Result<Event, AssistantError>],
    change: impl FnOnce(&mut RepliesOptions),
) -> (Fixture, Vec<Lead>) {
    let (led, leads) = Led::new(1);
    let fixture = Fixture::with(led, change).await;
    events.iter().for_each(|event| leads[0].send(event.clone()).unwrap());
    (fixture, leads)
}

fn kept(session: &Session) -> &Message {
    session.messages.last().unwrap()
}

#[tokio::test]
async fn an_empty_answer_is_said_to_be_one() {
    let thought = || Ok(Event::Reasoning("hm".into()));
    for (events, is_empty) in [
        (vec![], true),
        (vec![text("")], true),
        (vec![text(" \n")], true),
        (vec![thought()], true),
        (vec![Ok(Event::CutOff("length".into()))], true),
        (vec![text("yes")], false),
        (vec![thought(), text("yes")], false),
    ] {
        let (fixture, leads) = said(&events, |_| {}).await;
        drop(leads);
        let message = fixture.answer("u1", "hello").await;
        assert_eq!(message.metadata.get("empty"), is_empty.then_some(&json!(true)), "{events:?}");
        assert!(!message.metadata.contains_key("error"));
    }
    // What failed or was stopped says so itself.
    let (fixture, leads) = said(&[Err(failure(AssistantErrorCode::Failed))], |_| {}).await;
    all(fixture.say("u1", "hello").await).await;
    drop(leads);
    assert!(!kept(&*fixture.session().await).metadata.contains_key("empty"));
}

#[tokio::test]
async fn text_that_was_reasoning_is_kept_as_such() {
    let events = [text("Okay, "), text("the user\n"), Ok(Event::TextWasReasoning), text("Hello!")];
    let (fixture, leads) = said(&events, |_| {}).await;
    drop(leads);
    let told = all(fixture.say("u1", "hi").await).await;
    assert!(told.iter().any(|event| matches!(event, ReplyEvent::TextWasReasoning { .. })), "{told:?}");
    let message = done(&told);
    assert_eq!(message.content, "Hello!");
    let parts = message.parts.unwrap();
    assert!(
        matches!(&parts[..], [Part::Reasoning { text, duration_ms: Some(_), .. }, Part::Text { text: answer, .. }]
            if text == "Okay, the user" && answer == "Hello!"),
        "{parts:?}"
    );
}

#[tokio::test]
async fn text_before_a_call_that_was_reasoning_is_not_sent_back() {
    let (led, leads) = Led::new(2);
    let fixture = Fixture::with(led.clone(), |_| {}).await;
    for event in [text("hm"), Ok(Event::TextWasReasoning), text("Let me see."), call("f", json!({}))] {
        leads[0].send(event).unwrap();
    }
    leads[1].send(text("Done.")).unwrap();
    drop(leads);
    let message = fixture.answer("u1", "hi").await;
    assert_eq!(message.content, "Let me see.Done.");
    let asked = led.asked.lock().unwrap();
    assert!(
        asked[1]
            .messages
            .iter()
            .any(|turn| matches!(turn, Turn::Assistant { content, .. } if content == "Let me see.")),
        "{:?}",
        asked[1].messages
    );
}

#[tokio::test]
async fn silence_ends_a_reply_whatever_else_comes() {
    let patience = Duration::from_millis(200);
    let short = move |options: &mut RepliesOptions| {
        (options.first_words_patience, options.words_patience) = (patience, patience)
    };
    // Nothing at all, and nothing after a word.
    for (events, content) in [(vec![], ""), (vec![text("half")], "half")] {
        let (fixture, _leads) = said(&events, short).await;
        let told = all(fixture.say("u1", "hello").await).await;
        assert_eq!(failed(&told), "assistant_failed");
        let session = fixture.session().await;
        assert_eq!(kept(&session).content, content);
        assert!(kept(&session).metadata["error_message"].as_str().unwrap().contains("said nothing for"));
    }
    // Progress is no word.
    let (fixture, leads) = said(&[], short).await;
    let lead = leads[0].clone();
    let beat = tokio::spawn(async move {
        for n in 0u32.. {
            if lead.send(Ok(Event::Progress(Phase::ReadingContext, Some(f64::from(n % 100) / 100.0)))).is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(failed(&all(fixture.say("u1", "hello").await).await), "assistant_failed");
    beat.await.unwrap();
    // Words, thoughts and calls are; and an assistant that does not even take the question is given up, too.
    struct Deaf;
    #[async_trait]
    impl Assistant for Deaf {
        async fn status(&self) -> Result<Ready, AssistantError> {
            Scripted.status().await
        }
        async fn reply(&self, _: Request) -> Result<BoxStream<'static, Result<Event, AssistantError>>, AssistantError> {
            std::future::pending().await
        }
    }
    let fixture = Fixture::with(Arc::new(Deaf), short).await;
    assert_eq!(failed(&all(fixture.say("u1", "hello").await).await), "assistant_failed");
}

#[tokio::test]
async fn progress_without_an_end_is_given_up() {
    struct Busy;
    #[async_trait]
    impl Assistant for Busy {
        async fn status(&self) -> Result<Ready, AssistantError> {
            Scripted.status().await
        }
        async fn reply(&self, _: Request) -> Result<BoxStream<'static, Result<Event, AssistantError>>, AssistantError> {
            Ok(stream::repeat(Ok(Event::Progress(Phase::Waiting, None))).boxed())
        }
    }
    let fixture = Fixture::with(Arc::new(Busy), |options| options.max_reply_events = 1_000).await;
    let told = all(fixture.say("u1", "hello").await).await;
    assert_eq!(failed(&told), "assistant_failed");
    assert!(told.len() <= 1_003, "{}", told.len());
}

#[tokio::test]
async fn calls_count_over_all_rounds() {
    let (led, leads) = Led::new(9);
    let fixture = Fixture::with(led.clone(), |options| options.max_reply_bytes = 10_000).await;
    for lead in leads {
        lead.send(call("f", json!({"a": "x".repeat(3_000)}))).unwrap();
    }
    let message = fixture.answer("u1", "hello").await;
    assert_eq!(message.metadata["cut_off"], json!("length"));
    assert_eq!((message.tools_used().len(), led.asked.lock().unwrap().len()), (3, 4));
}

#[tokio::test]
async fn calls_that_nobody_runs_any_more_are_kept() {
    for end in [Ok(Event::CutOff("length".into())), Err(failure(AssistantErrorCode::Failed))] {
        let (fixture, leads) = said(&[text("Let me see."), call("f", json!({"a": 1})), end], |_| {}).await;
        drop(leads);
        all(fixture.say("u1", "hello").await).await;
        let session = fixture.session().await;
        let tools = kept(&session).tools_used();
        assert_eq!((tools.len(), &tools[0].status), (1, &Some(ToolStatus::Error)));
        assert_eq!(tools[0].arguments, Some(json!({"a": 1})));
        assert!(tools[0].result.as_ref().unwrap().as_str().unwrap().contains("not run"));
        assert_eq!(kept(&session).content, "Let me see.");
    }
}

#[tokio::test]
async fn a_reply_of_the_greatest_length_is_handled_in_linear_time() {
    let (led, leads) = Led::new(1);
    let fixture = Fixture::with(led, |_| {}).await;
    for _ in 0..7 {
        leads[0].send(text(&"x".repeat(1 << 20))).unwrap();
    }
    (0..100_000).for_each(|_| leads[0].send(text("y ")).unwrap());
    drop(leads);
    let begin = Instant::now();
    let message = fixture.answer("u1", "hello").await;
    assert_eq!(message.content.len(), (7 << 20) + 200_000);
    assert!(begin.elapsed() < Duration::from_secs(15), "{:?}", begin.elapsed());
}
