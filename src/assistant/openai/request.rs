//! A request for a reply, put so that the server at hand takes it.

use crate::assistant::{Request, ToolCall, Turn};
use serde_json::{Map, Value, json};

/// What a server does not take for a model, as its refusals taught.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dialect {
    /// Old servers do not know the field `stream_options`.
    pub(super) no_stream_options: bool,
    /// Servers that check all fields do not know `return_progress`.
    pub(super) no_return_progress: bool,
    /// The chat templates of some models (Gemma, old Mistral) have no place for instructions.
    pub(super) no_system: bool,
    /// Some models are not streamed, or not to everybody.
    pub(super) no_stream: bool,
    /// Some models make calls and have no place for what was called and what came of it.
    pub(super) no_tools: bool,
}

/// What is said of a field that is not taken, in lower case.
const UNKNOWN_FIELD: [&str; 8] = [
    "extra fields not permitted",
    "extra inputs are not permitted",
    "extra_forbidden",
    "unrecognized",
    "unknown field",
    "unknown parameter",
    "unexpected keyword",
    "additional properties",
];

/// What is said of instructions, or of roles, that are not taken, in lower case: by chat templates, by checks of the body.
const OTHER_ROLES: [&str; 9] = [
    "role",
    "alternat",
    "jinja",
    "chat template",
    "chat_template",
    "rendering prompt",
    "system message",
    "system prompt",
    "system instruction",
];

/// What is said of calls that are not taken, in lower case.
const CALLS: [&str; 3] = ["tool", "function", "content or tool_calls"];

/// The same where it may not be anything else, in a failure of the server.
const CALLS_SURELY: [&str; 6] = ["tool role", "role 'tool'", "tool_call", "jinja", "chat template", "chat_template"];

/// The same in words that, in a failure of the server, may mean anything.
const OTHER_ROLES_LOOSELY: [&str; 3] = ["system", "developer", "instruction"];

impl Dialect {
    /// Learns from a refusal. Whether there is something to put in another way now.
    ///
    /// Asking once more costs little and is done only after a refusal, so that what a refusal may mean is read widely.
    pub(super) fn adapt(&mut self, asked_progress: bool, has_calls: bool, status: u16, text: &str) -> bool {
        // Templates that refuse are failures of the server (500) with some, and in the stream (200, read as 400) with others.
        if !matches!(status, 400 | 404 | 415 | 422 | 500 | 501) {
            return false;
        }
        // An "upstream error" of a gateway says nothing about streams.
        let text = text.to_lowercase().replace("upstream", "").replace("downstream", "");
        let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
        let before = *self;
        let names_options = says(&["stream_options", "include_usage"]);
        let names_progress = says(&["return_progress"]);
        self.no_stream_options |= names_options;
        self.no_return_progress |= names_progress;
        if names_options || names_progress {
            return *self != before;
        }
        if says(&UNKNOWN_FIELD) {
            self.no_stream_options = true;
            self.no_return_progress |= asked_progress;
            if *self != before {
                return true;
            }
        }
        if says(&["stream"]) && says(&["support", "not allowed", "must be false", "verified"]) && !self.no_stream {
            self.no_stream = true;
            return true;
        }
        let names_roles = says(&OTHER_ROLES);
        if has_calls
            && !self.no_tools
            && (says(if status < 500 { &CALLS[..] } else { &CALLS_SURELY[..] }) || (names_roles && self.no_system))
        {
            self.no_tools = true;
            return true;
        }
        if (names_roles || (status < 500 && says(&OTHER_ROLES_LOOSELY))) && !self.no_system {
            self.no_system = true;
            return true;
        }
        false
    }

    /// The body of a request.
    pub(super) fn body(self, request: &Request, model: &str, asks_progress: bool) -> Value {
        let mut body = Map::new();
        body.insert("model".to_owned(), json!(model));
        body.insert("messages".to_owned(), Value::Array(wire_messages(&request.messages, self)));
        body.insert("stream".to_owned(), json!(!self.no_stream));
        if asks_progress && !self.no_return_progress {
            body.insert("return_progress".to_owned(), json!(true));
        }
        if !self.no_stream_options && !self.no_stream {
            body.insert("stream_options".to_owned(), json!({"include_usage": true}));
        }
        Value::Object(body)
    }
}

/// Whether calls of tools are among the turns.
pub(super) fn has_calls(turns: &[Turn]) -> bool {
    turns.iter().any(|turn| matches!(turn, Turn::ToolResult { .. }))
}

/// A turn as the protocol has it, while neighbours are joined.
enum Wire {
    System(String),
    User(String),
    Assistant(String, Vec<Value>),
    Tool(Value),
}

/// The conversation as the protocol has it.
///
/// Person and assistant take turns, and the person begins: the chat templates of many models refuse anything else. What one of them
/// said twice in a row (what stood between failed, or is hidden) is one message here, and words of the assistant before any of the
/// person's stand in the instructions. Where the server has no place for these, they stand before the person's first words.
///
/// Where it has none for calls either, they and what came of them are told in words.
fn wire_messages(turns: &[Turn], dialect: Dialect) -> Vec<Value> {
    let Dialect { no_system, no_tools, .. } = dialect;
    let mut system = String::new();
    let mut wire: Vec<Wire> = Vec::with_capacity(turns.len());
    for (place, turn) in turns.iter().enumerate() {
        let is_last = place + 1 == turns.len();
        match turn {
            Turn::System(content) if wire.is_empty() => push_paragraph(&mut system, content),
            Turn::System(content) => wire.push(Wire::System(content.clone())),
            // Nothing is said by it, and some servers refuse it.
            Turn::User(content) if content.trim().is_empty() && !is_last => {}
            Turn::User(content) => match wire.last_mut() {
                Some(Wire::User(before)) => push_paragraph(before, content),
                _ => wire.push(Wire::User(content.clone())),
            },
            Turn::Assistant { content, tool_calls } if content.trim().is_empty() && tool_calls.is_empty() => {}
            Turn::Assistant { content, tool_calls } => {
                let mut content = content.clone();
                // The protocol has the arguments as a text that holds JSON.
                let arguments = |call: &ToolCall| match &call.arguments {
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                };
                for call in tool_calls.iter().filter(|_| no_tools) {
                    push_paragraph(&mut content, &format!("(Called {} with {})", call.name, arguments(call)));
                }
                let calls: Vec<Value> = tool_calls
                    .iter()
                    .filter(|_| !no_tools)
                    .map(|call| {
                        let arguments = arguments(call);
                        json!({"id": call.call_id, "type": "function",
                            "function": {"name": call.name, "arguments": arguments}})
                    })
                    .collect();
                match wire.last_mut() {
                    Some(Wire::Assistant(before, calls_before)) if calls_before.is_empty() => {
                        push_paragraph(before, &content);
                        *calls_before = calls;
                    }
                    None if calls.is_empty() => {
                        push_paragraph(
                            &mut system,
                            &format!("You began this conversation with these words:\n\n{content}"),
                        );
                    }
                    _ => wire.push(Wire::Assistant(content, calls)),
                }
            }
            Turn::ToolResult { content, .. } if no_tools => {
                let result = format!("(What came of it: {content})");
                match wire.last_mut() {
                    Some(Wire::User(before)) => push_paragraph(before, &result),
                    _ => wire.push(Wire::User(result)),
                }
            }
            Turn::ToolResult { call_id, content } => {
                wire.push(Wire::Tool(json!({"role": "tool", "tool_call_id": call_id, "content": content})));
            }
        }
    }
    if !system.is_empty() {
        match wire.iter_mut().find_map(|wire| if let Wire::User(content) = wire { Some(content) } else { None }) {
            Some(content) if no_system => *content = format!("{system}\n\n{content}"),
            None if no_system => wire.insert(0, Wire::User(system)),
            _ => wire.insert(0, Wire::System(system)),
        }
    }
    wire.into_iter()
        .map(|wire| match wire {
            // Instructions in the midst of a conversation are the program's words to the model.
            Wire::System(content) if no_system => json!({"role": "user", "content": content}),
            Wire::System(content) => json!({"role": "system", "content": content}),
            Wire::User(content) => json!({"role": "user", "content": content}),
            Wire::Assistant(content, calls) if calls.is_empty() => json!({"role": "assistant", "content": content}),
            Wire::Assistant(content, calls) => json!({"role": "assistant", "content": content, "tool_calls": calls}),
            Wire::Tool(message) => message,
        })
        .collect()
}

fn push_paragraph(text: &mut String, more: &str) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(content: &str) -> Turn {
        Turn::User(content.to_owned())
    }

    fn assistant(content: &str) -> Turn {
        Turn::Assistant { content: content.to_owned(), tool_calls: Vec::new() }
    }

    /// Roles and contents of what is sent, a letter and a text each.
    fn sent(turns: &[Turn], no_system: bool) -> Vec<(char, String)> {
        let roles = wire_messages(turns, Dialect { no_system, ..Dialect::default() });
        roles
            .iter()
            .map(|message| {
                let role = message["role"].as_str().unwrap().chars().next().unwrap();
                (role, message["content"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    fn expect(turns: &[Turn], no_system: bool, messages: &[(char, &str)]) {
        let messages: Vec<(char, String)> = messages.iter().map(|(role, text)| (*role, (*text).to_owned())).collect();
        assert_eq!(sent(turns, no_system), messages);
    }

    #[test]
    fn person_and_assistant_take_turns() {
        let be = Turn::System("be".into());
        expect(
            &[be.clone(), user("a"), user("b"), assistant("c"), assistant("d"), user("e")],
            false,
            &[('s', "be"), ('u', "a\n\nb"), ('a', "c\n\nd"), ('u', "e")],
        );
        let began = "You began this conversation with these words:\n\nHello!";
        expect(&[be.clone(), assistant("Hello!"), user("a")], false, &[('s', &format!("be\n\n{began}")), ('u', "a")]);
        expect(&[assistant("Hello!"), user("a")], false, &[('s', began), ('u', "a")]);
        expect(&[be.clone(), assistant("Hello!"), user("a")], true, &[('u', &format!("be\n\n{began}\n\na"))]);
        expect(&[be.clone(), user("a"), user(" \n"), assistant(""), user("b")], false, &[('s', "be"), ('u', "a\n\nb")]);
        expect(&[be.clone(), user("")], false, &[('s', "be"), ('u', "")]);
        expect(&[be.clone(), user("a")], true, &[('u', "be\n\na")]);
        expect(&[be], true, &[('u', "be")]);
    }

    #[test]
    fn calls_and_their_results_stay_where_they_were() {
        let call = ToolCall { call_id: "c".into(), name: "f".into(), arguments: json!({"a": 1}) };
        let calls = Turn::Assistant { content: "b".into(), tool_calls: vec![call] };
        let result = Turn::ToolResult { call_id: "c".into(), content: "r".into() };
        let turns = [user("a"), assistant("so"), calls.clone(), result.clone(), calls, result, assistant("d")];
        expect(&turns, false, &[('u', "a"), ('a', "so\n\nb"), ('t', "r"), ('a', "b"), ('t', "r"), ('a', "d")]);
        // In words, for who knows no calls; two results are one message.
        let told = wire_messages(&turns, Dialect { no_tools: true, ..Dialect::default() });
        let called = "(Called f with {\"a\":1})";
        assert_eq!(
            told,
            [
                json!({"role": "user", "content": "a"}),
                json!({"role": "assistant", "content": format!("so\n\nb\n\n{called}")}),
                json!({"role": "user", "content": "(What came of it: r)"}),
                json!({"role": "assistant", "content": format!("b\n\n{called}")}),
                json!({"role": "user", "content": "(What came of it: r)"}),
                json!({"role": "assistant", "content": "d"}),
            ]
        );
    }

    #[test]
    fn refusals_teach_what_is_not_taken() {
        let none = Dialect::default();
        let no_system = Dialect { no_system: true, ..none };
        for (status, text, learned) in [
            (400, r#"{"error":"System role not supported"}"#, no_system),
            (500, r#"{"error":{"code":500,"message":"Jinja Exception: System role not supported"}}"#, no_system),
            (400, "Only user and assistant roles are supported!", no_system),
            (400, "Conversation roles must alternate user/assistant/user/assistant/...", no_system),
            (400, "Unsupported value: 'messages[0].role' does not support 'system' with this model.", no_system),
            (400, "Developer instruction is not enabled for models/gemma-3-27b-it", no_system),
            (
                422,
                r#"{"detail":[{"loc":["body","messages",0,"role"],"msg":"permitted: 'user', 'assistant'"}]}"#,
                no_system,
            ),
            (400, "Error rendering prompt with jinja template", no_system),
            (400, "unknown field stream_options", Dialect { no_stream_options: true, ..none }),
            (422, "extra fields not permitted", Dialect { no_stream_options: true, no_return_progress: true, ..none }),
            (
                400,
                "Unsupported value: 'stream' does not support true with this model",
                Dialect { no_stream: true, ..none },
            ),
            (400, "Your organization must be verified to stream this model.", Dialect { no_stream: true, ..none }),
        ] {
            let mut dialect = none;
            assert!(dialect.adapt(true, false, status, text), "{text}");
            assert_eq!(dialect, learned, "{text}");
            // What was learned already is no reason to ask once more.
            assert!(!dialect.adapt(true, false, status, text), "{text}");
        }
        for text in ["Unexpected role 'tool'", "\"auto\" tool choice requires --enable-auto-tool-choice"] {
            let mut dialect = none;
            assert!(dialect.adapt(true, true, 400, text));
            assert_eq!(dialect, Dialect { no_tools: true, ..none }, "{text}");
        }
        let in_passing = r#"{"error":"CUDA error: out of memory in function ggml_cuda_op"}"#;
        assert!(!Dialect::default().adapt(true, true, 500, in_passing));
        // What may be meant otherwise is tried otherwise, after that.
        let mut dialect = none;
        let text = "Only user and assistant roles are supported!";
        assert!(dialect.adapt(true, true, 400, text) && dialect.adapt(true, true, 400, text));
        assert_eq!(dialect, Dialect { no_tools: true, no_system: true, ..none });
        for (status, text) in [
            (401, "no system for you"),
            (429, "role"),
            (400, "too hot"),
            (503, "system is loading"),
            (500, "system failure"),
        ] {
            assert!(!Dialect::default().adapt(true, false, status, text), "{text}");
        }
    }
}
