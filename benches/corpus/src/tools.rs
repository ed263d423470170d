//! Replies in which tools were used: as parts with a structured call, or with a marker in the text.

use crate::code;
use crate::language::TOPICS;
use crate::literal::{push_hex, push_number, push_path, push_time, snake};
use crate::prose::Prose;
use crate::session::push_json;

/// What begins a marker, U+1F6E0 U+FE0F.
pub(crate) const MARK: &str = "\u{1F6E0}\u{FE0F}";

/// The arguments of a call with one text argument, as JSON, and what the tool answered.
struct Call {
    name: &'static str,
    argument: &'static str,
    value: String,
    result: String,
}

/// A reply that may use tools: its content, and its parts as JSON if it has any.
pub(crate) fn reply(prose: &mut Prose) -> (String, Option<String>) {
    match prose.random.below(100) {
        0..=11 => with_parts(prose),
        12..=15 => (with_marker(prose), None),
        _ => (prose.reply(), None),
    }
}

/// What a model says before it uses a tool, with the blank line after it; often nothing.
fn introduction(prose: &mut Prose) -> String {
    if prose.random.chance(400) {
        return String::new();
    }
    let bytes = prose.random.between(30, 160);
    let mut text = prose.short(bytes);
    text.push_str("\n\n");
    text
}

fn with_marker(prose: &mut Prose) -> String {
    let mut content = introduction(prose);
    let call = call(prose, true);
    content.push_str(MARK);
    content.push(' ');
    content.push_str(call.name);
    content.push('(');
    content.push_str(call.argument);
    content.push('=');
    push_json(&mut content, &call.value);
    content.push_str(")\n\n");
    content.push_str(&prose.reply());
    content
}

fn with_parts(prose: &mut Prose) -> (String, Option<String>) {
    let mut content = String::new();
    let mut parts = String::from("[");
    if prose.random.chance(150) {
        let bytes = prose.random.between(100, 900);
        parts.push_str("{\"type\":\"reasoning\",\"text\":");
        push_json(&mut parts, &prose.short(bytes));
        parts.push_str(",\"duration_ms\":");
        push_number(&mut parts, bytes * 12);
        parts.push_str("},");
    }
    for _ in 0..1 + prose.random.below(100) / 85 {
        let text = introduction(prose);
        if !text.is_empty() {
            push_text(&mut parts, &mut content, &text);
            parts.push(',');
        }
        push_call(&mut parts, prose);
        parts.push(',');
    }
    let text = prose.reply();
    push_text(&mut parts, &mut content, &text);
    parts.push(']');
    (content, Some(parts))
}

fn push_text(parts: &mut String, content: &mut String, text: &str) {
    parts.push_str("{\"type\":\"text\",\"text\":");
    push_json(parts, text);
    parts.push('}');
    content.push_str(text);
}

fn push_call(parts: &mut String, prose: &mut Prose) {
    let call = call(prose, false);
    let mut arguments = String::from("{");
    push_json(&mut arguments, call.argument);
    arguments.push(':');
    push_json(&mut arguments, &call.value);
    if call.name == "web_search" {
        arguments.push_str(",\"limit\":");
        push_number(&mut arguments, prose.random.between(3, 10));
    }
    arguments.push('}');

    parts.push_str("{\"type\":\"tool\",\"name\":");
    push_json(parts, call.name);
    parts.push_str(",\"params\":");
    push_json(parts, &arguments);
    parts.push_str(",\"context\":\"\",\"call_id\":\"call_");
    push_hex(parts, prose.random.next(), 12);
    parts.push_str("\",\"arguments\":");
    parts.push_str(&arguments);
    let failed = prose.random.chance(80);
    parts.push_str(",\"result\":");
    push_json(parts, if failed { prose.random.pick_text(&FAILURES) } else { &call.result });
    parts.push_str(if failed { ",\"status\":\"error\"" } else { ",\"status\":\"ok\"" });
    parts.push_str(",\"duration_ms\":");
    push_number(parts, prose.random.rank(14));
    parts.push('}');
}

/// What a tool answers that failed.
const FAILURES: [&str; 4] = [
    "The server did not answer within 10 seconds.",
    "No such file or directory (os error 2)",
    "HTTP 429: too many requests",
    "exit status 1: command not found",
];

/// A use of a tool; `search` says that it is most likely a search.
fn call(prose: &mut Prose, search: bool) -> Call {
    let (mut value, mut result) = (String::new(), String::new());
    let tool = if search && prose.random.chance(800) { 0 } else { prose.random.below(100) };
    let (name, argument) = match tool {
        0..=39 => {
            prose.phrase(&mut value, 2, 7);
            prose.findings(&mut result);
            ("web_search", "query")
        }
        40..=54 => {
            let (a, b) = (prose.random.rank(14), prose.random.rank(10));
            let (operator, outcome) = *prose.random.pick(&[(" * ", a * b), (" + ", a + b)]);
            push_number(&mut value, a);
            value.push_str(operator);
            push_number(&mut value, b);
            push_number(&mut result, outcome);
            ("calculator", "expression")
        }
        55..=64 => {
            value.push_str(prose.random.pick_text(&[
                "UTC",
                "Europe/Berlin",
                "America/New_York",
                "Asia/Tokyo",
                "Asia/Kolkata",
            ]));
            push_time(&mut result, prose.random.between(1_760_000_000_000, 1_795_000_000_000));
            ("datetime", "timezone")
        }
        65..=84 => {
            value.push_str(prose.random.pick_text(&[
                "grep -rn ",
                "ls -la ",
                "cargo test ",
                "wc -l ",
                "git log -- ",
                "du -sh ",
            ]));
            if prose.random.chance(300) {
                value.push('"');
                value.push_str(TOPICS.draw(prose.random.next()));
                value.push('"');
            } else {
                value.push_str(&snake(&mut prose.random));
            }
            let bytes = prose.random.between(60, 1500);
            prose.log(&mut result, bytes);
            ("run_command", "command")
        }
        _ => {
            push_path(&mut value, &mut prose.random);
            let bytes = prose.random.between(200, 2500);
            code::push_file(&mut result, &mut prose.random, bytes);
            ("read_file", "path")
        }
    };
    Call { name, argument, value: value.trim().to_owned(), result }
}
