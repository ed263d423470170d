//! What of a conversation a model is given: all of it while it fits, else without its oldest turns. Pure.

use crate::assistant::Turn;
use crate::model::message::{Message, Role};
use std::collections::VecDeque;

/// How many tokens a model is taken to read where nobody says it.
pub const DEFAULT_WINDOW_TOKENS: usize = 8192;

/// The most tokens that are kept free for the answer; of a small window a quarter is.
const MOST_ANSWER_TOKENS: usize = 2048;

/// What every message costs beside its text.
const MESSAGE_TOKENS: usize = 4;

/// A conversation as a model is given it.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    /// The system prompt, then the turns, oldest first.
    pub turns: Vec<Turn>,
    /// How many messages were left out because they would not fit.
    pub left_out: usize,
    /// What the turns cost, as estimated.
    pub tokens: usize,
}

/// The context for an answer to the last message of `path`, which is a path from a root of the conversation's tree.
///
/// Hidden messages (but the one that is answered), replies without text and roles that no model knows are passed over. System messages of the path join the
/// system prompt, because many models take one only, at the beginning. When the rest would not fit into `window_tokens` with
/// room for the answer, the oldest turns are dropped until it fills no more than half of the window. Where that cut falls
/// depends on the older messages only, so it stays where it is until the window is full again, and a model that remembers the
/// beginning of its input need not read it anew at each turn. The system prompt and the last message always stay.
pub fn build(system_prompt: &str, path: &[&Message], window_tokens: usize) -> Context {
    let mut system = system_prompt.trim().to_owned();
    let mut spoken = Vec::new();
    for (place, message) in path.iter().enumerate() {
        let is_answered = place + 1 == path.len();
        if message.is_hidden() && !is_answered {
            continue;
        }
        match message.role {
            Role::System if !message.content.trim().is_empty() => {
                system.push_str("\n\n");
                system.push_str(message.content.trim());
            }
            Role::User => spoken.push(Turn::User(message.content.clone())),
            Role::Assistant if !message.content.trim().is_empty() => {
                spoken.push(Turn::Assistant { content: message.content.clone(), tool_calls: Vec::new() });
            }
            _ => {}
        }
    }
    let system_tokens = message_tokens(&system);
    let budget = window_tokens - (window_tokens / 4).min(MOST_ANSWER_TOKENS);
    let window =
        Window { full: budget.saturating_sub(system_tokens), half: (window_tokens / 2).saturating_sub(system_tokens) };
    let (kept, kept_tokens) = window.cut(&spoken);
    let left_out = spoken.len() - kept;
    let turns = std::iter::once(Turn::System(system)).chain(spoken.drain(left_out..)).collect();
    Context { turns, left_out, tokens: system_tokens + kept_tokens }
}

/// Estimates the tokens of a text: 3.5 ASCII characters make one, any other character is one.
pub fn estimate_tokens(text: &str) -> usize {
    let ascii = text.bytes().filter(u8::is_ascii).count();
    let others = text.chars().count() - ascii;
    (ascii * 2).div_ceil(7) + others
}

fn message_tokens(text: &str) -> usize {
    estimate_tokens(text) + MESSAGE_TOKENS
}

fn turn_tokens(turn: &Turn) -> usize {
    match turn {
        Turn::System(content)
        | Turn::User(content)
        | Turn::Assistant { content, .. }
        | Turn::ToolResult { content, .. } => message_tokens(content),
    }
}

/// The room for what was said.
struct Window {
    /// When it is overrun, turns are dropped …
    full: usize,
    /// … until no more than this is left.
    half: usize,
}

impl Window {
    /// How many of the last turns are kept, and what they cost. The conversation is lived through from its beginning, so that
    /// the cut falls where it fell before.
    fn cut(&self, turns: &[Turn]) -> (usize, usize) {
        let mut kept: VecDeque<&Turn> = VecDeque::new();
        let mut tokens = 0;
        let mut has_cut = false;
        for turn in turns {
            kept.push_back(turn);
            tokens += turn_tokens(turn);
            let overrun = tokens > self.full;
            has_cut |= overrun;
            while kept.len() > 1
                && let Some(oldest) = kept.front()
                // After a cut the person begins: models expect that.
                && ((overrun && tokens > self.half) || (has_cut && matches!(oldest, Turn::Assistant { .. })))
            {
                tokens -= turn_tokens(oldest);
                kept.pop_front();
            }
        }
        (kept.len(), tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Object;
    use proptest::prelude::*;
    use serde_json::json;

    fn message(role: Role, content: &str) -> Message {
        Message {
            id: "m".into(),
            parent_id: None,
            role,
            content: content.to_owned(),
            timestamp: String::new(),
            metadata: Object::new(),
            parts: None,
            rev: 0,
            extra: Object::new(),
        }
    }

    fn context(messages: &[Message], window: usize) -> Context {
        build("be", &messages.iter().collect::<Vec<_>>(), window)
    }

    #[test]
    fn tokens_are_estimated_for_every_alphabet() {
        assert_eq!(estimate_tokens(""), 0);
        assert_eq!(estimate_tokens("abcdefg"), 2);
        assert_eq!(estimate_tokens("abcdefgh"), 3);
        assert_eq!(estimate_tokens("日本語"), 3);
        assert_eq!(estimate_tokens("é"), 1);
    }

    #[test]
    fn passes_over_what_no_model_should_read() {
        let mut hidden = message(Role::User, "hidden");
        hidden.metadata.insert("hidden".into(), json!(true));
        let mut failed = message(Role::Assistant, "");
        failed.metadata.insert("error".into(), json!("assistant_failed"));
        let mut stopped = message(Role::Assistant, "half of");
        stopped.metadata.insert("stopped".into(), json!(true));
        let list = [
            message(Role::System, "be kind"),
            message(Role::User, "one"),
            failed,
            hidden,
            message(Role::Other("critic".into()), "hm"),
            message(Role::User, "two"),
            stopped,
            message(Role::User, "three"),
        ];
        let context = context(&list, 8192);
        assert_eq!(context.left_out, 0);
        assert_eq!(
            context.turns,
            [
                Turn::System("be\n\nbe kind".into()),
                Turn::User("one".into()),
                Turn::User("two".into()),
                Turn::Assistant { content: "half of".into(), tool_calls: vec![] },
                Turn::User("three".into()),
            ]
        );
    }

    #[test]
    fn what_is_answered_stays_also_where_it_is_hidden() {
        let mut hidden = message(Role::User, "two");
        hidden.metadata.insert("hidden".into(), json!(true));
        let list = [message(Role::User, "one"), message(Role::Assistant, "so"), hidden];
        assert_eq!(context(&list, 8192).turns.last(), Some(&Turn::User("two".into())));
    }

    #[test]
    fn the_last_message_stays_however_long() {
        let list =
            [message(Role::User, "one"), message(Role::Assistant, "two"), message(Role::User, &"x".repeat(9000))];
        let context = context(&list, 1000);
        assert_eq!((context.left_out, context.turns.len()), (2, 2));
        assert_eq!(context.turns[1], Turn::User("x".repeat(9000)));
        // And a window smaller than the system prompt leaves these two as well.
        assert_eq!(super::build("system", &[&list[0]], 0).turns.len(), 2);
    }

    #[test]
    fn the_cut_stays_where_it_fell() {
        // A turn of 70 characters costs 24 tokens; 100 of them are far more than a window of 1,000.
        let list: Vec<Message> = (0..100)
            .map(|n| message(if n % 2 == 0 { Role::User } else { Role::Assistant }, &format!("{n:070}")))
            .collect();
        let cuts: Vec<usize> =
            (1..=list.len()).step_by(2).map(|length| context(&list[..length], 1000).left_out).collect();
        let moves = cuts.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(cuts[0] == 0 && moves >= 3, "{cuts:?}");
        // 250 tokens, which are 10 messages, are won by each cut: it moves at every fifth turn, not at each.
        assert!(moves <= cuts.len() / 4, "{cuts:?}");
    }

    proptest! {
        #[test]
        fn any_conversation_is_cut_as_promised(
            lengths in prop::collection::vec((0usize..400, 0u8..4), 1..60),
            window in 50usize..2000,
        ) {
            let list: Vec<Message> = lengths.iter().map(|&(length, role)| {
                message(if role == 0 { Role::Assistant } else { Role::User }, &"y".repeat(length))
            }).collect();
            let mut before = 0;
            for end in 1..=list.len() {
                let Some(last) = list[..end].last().filter(|last| last.role == Role::User) else { continue };
                let context = context(&list[..end], window);
                prop_assert!(context.left_out >= before, "the cut goes back");
                before = context.left_out;
                prop_assert!(matches!(&context.turns[0], Turn::System(text) if text == "be"));
                prop_assert_eq!(context.turns.last(), Some(&Turn::User(last.content.clone())));
                prop_assert!(context.turns.len() == 2 || context.tokens <= window - (window / 4).min(2048));
                if context.left_out > 0 {
                    let begins_with_assistant = matches!(context.turns[1], Turn::Assistant { .. });
                    prop_assert!(!begins_with_assistant);
                }
                let all = list[..end].iter().filter(|m| m.role == Role::User || !m.content.is_empty()).count();
                prop_assert_eq!(context.turns.len() - 1 + context.left_out, all, "every message is kept or counted");
            }
        }
    }
}
