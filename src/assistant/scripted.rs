//! An assistant whose answers are known beforehand, exact and at once, for tests and for trying the program without a
//! model.

use super::{Assistant, AssistantError, AssistantErrorCode, Event, Ready, Request, ToolCall, Turn};
use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;

/// The name of its only model.
const MODEL: &str = "scripted";

/// Answers by what the last message of the person commands.
///
/// | command | answer |
/// |---|---|
/// | `echo TEXT` | TEXT |
/// | `stream N` | N numbered words, `word1 word2 …` |
/// | `slow N MS` | the same, each word MS milliseconds after the one before |
/// | `tool NAME JSON` | a call of that tool, then what the tool answered |
/// | `fail` | some text, then an error |
/// | `think TEXT` | TEXT as reasoning, then a short text |
/// | anything else | the message in capital letters |
#[derive(Clone, Copy, Debug, Default)]
pub struct Scripted;

#[async_trait]
impl Assistant for Scripted {
    async fn status(&self) -> Result<Ready, AssistantError> {
        let (model, place) = (MODEL.to_owned(), "scripted answers".to_owned());
        Ok(Ready { model, place, context_tokens: None, note: None, waits_for: None })
    }

    async fn reply(
        &self,
        request: Request,
    ) -> Result<BoxStream<'static, Result<Event, AssistantError>>, AssistantError> {
        if let Some(Turn::ToolResult { content, .. }) = request.messages.last() {
            return Ok(at_once(vec![Event::Text(content.clone())]));
        }
        let said = request.messages.iter().rev().find_map(|turn| match turn {
            Turn::User(content) => Some(content.as_str()),
            _ => None,
        });
        Ok(answer(said.unwrap_or_default(), request.messages.len()))
    }
}

/// The answer to `said`, at position `turns` of the conversation.
fn answer(said: &str, turns: usize) -> BoxStream<'static, Result<Event, AssistantError>> {
    let (command, rest) = said.split_once(' ').unwrap_or((said.trim_end(), ""));
    match command {
        "echo" if !rest.is_empty() => at_once(vec![Event::Text(rest.to_owned())]),
        "think" if !rest.is_empty() => {
            at_once(vec![Event::Reasoning(rest.to_owned()), Event::Text("That is what I thought.".to_owned())])
        }
        "fail" if rest.trim().is_empty() => stream::iter([
            Ok(Event::Text("This reply fails in the mid".to_owned())),
            Err(AssistantError {
                code: AssistantErrorCode::Failed,
                message: "The scripted assistant failed, as it was told to. Send something else.".to_owned(),
                cause: "the command was fail".to_owned(),
            }),
        ])
        .boxed(),
        "stream" => match rest.trim().parse() {
            Ok(count) => words(count, None),
            Err(_) => shout(said),
        },
        "slow" => match slow_arguments(rest) {
            Some((count, pause)) => words(count, Some(pause)),
            None => shout(said),
        },
        "tool" if !rest.trim().is_empty() => {
            let (name, arguments) = rest.trim().split_once(' ').unwrap_or((rest.trim(), "{}"));
            let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| Value::from(arguments));
            // The position keeps the ids of several calls in one conversation apart.
            at_once(vec![Event::ToolCall(ToolCall {
                call_id: format!("call_{turns}"),
                name: name.to_owned(),
                arguments,
            })])
        }
        _ => shout(said),
    }
}

fn slow_arguments(rest: &str) -> Option<(u32, Duration)> {
    let (count, pause) = rest.trim().split_once(' ')?;
    Some((count.parse().ok()?, Duration::from_millis(pause.trim().parse::<u32>().ok()?.into())))
}

fn shout(said: &str) -> BoxStream<'static, Result<Event, AssistantError>> {
    at_once(vec![Event::Text(said.to_uppercase())])
}

fn at_once(events: Vec<Event>) -> BoxStream<'static, Result<Event, AssistantError>> {
    stream::iter(events.into_iter().map(Ok)).boxed()
}

/// Numbered words, each after `pause`, and at the end what a model would count.
fn words(count: u32, pause: Option<Duration>) -> BoxStream<'static, Result<Event, AssistantError>> {
    let words = stream::iter(1..=count).then(move |number| async move {
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
        Ok(Event::Text(if number == 1 { "word1".to_owned() } else { format!(" word{number}") }))
    });
    let usage = match json!({"completion_tokens": count}) {
        Value::Object(usage) => Some(Ok(Event::Usage(usage))),
        _ => None,
    };
    words.chain(stream::iter(usage)).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::Modes;

    async fn events_of(messages: Vec<Turn>) -> Vec<Result<Event, AssistantError>> {
        let request = Request { model: None, messages, modes: Modes::default() };
        Scripted.reply(request).await.unwrap().collect().await
    }

    async fn text_of(said: &str) -> String {
        let mut text = String::new();
        for event in events_of(vec![Turn::User("echo older".into()), Turn::User(said.into())]).await {
            if let Ok(Event::Text(piece)) = event {
                text.push_str(&piece);
            }
        }
        text
    }

    #[tokio::test]
    async fn answers_exactly() {
        assert_eq!(text_of("echo a  b\nc ").await, "a  b\nc ");
        assert_eq!(text_of("stream 3").await, "word1 word2 word3");
        assert_eq!(text_of("slow 2 1").await, "word1 word2");
        assert_eq!(text_of("hello, wörld").await, "HELLO, WÖRLD");
        assert_eq!(text_of("echo").await, "ECHO");
        assert_eq!(text_of("stream of thoughts").await, "STREAM OF THOUGHTS");
        assert_eq!(text_of("fail better").await, "FAIL BETTER");
    }

    #[tokio::test]
    async fn thinks_fails_and_calls_tools() {
        let thought = events_of(vec![Turn::User("think of it".into())]).await;
        assert_eq!(thought[0], Ok(Event::Reasoning("of it".into())));
        assert!(matches!(&thought[1], Ok(Event::Text(text)) if !text.is_empty()));

        let failed = events_of(vec![Turn::User("fail".into())]).await;
        assert!(matches!(&failed[..], [Ok(Event::Text(_)), Err(_)]), "{failed:?}");

        let asked = Turn::User(r#"tool datetime {"zone":"UTC"}"#.into());
        let called = events_of(vec![asked.clone()]).await;
        let [Ok(Event::ToolCall(call))] = &called[..] else { panic!("{called:?}") };
        assert_eq!((call.name.as_str(), &call.arguments), ("datetime", &json!({"zone":"UTC"})));
        let answered = events_of(vec![
            asked,
            Turn::Assistant { content: String::new(), tool_calls: vec![call.clone()] },
            Turn::ToolResult { call_id: call.call_id.clone(), content: "noon".into() },
        ])
        .await;
        assert_eq!(answered, [Ok(Event::Text("noon".into()))]);
    }
}
