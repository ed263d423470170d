//! One session: its tree of messages and the bytes of its file.

use crate::literal::{DAY, new_id, push_day, push_hex, push_number, push_time};
use crate::prose::Prose;
use crate::random::{Random, even, stream_seed};
use crate::{GeneratedMessage, GeneratedSession, tools};
use std::fmt::Write;

/// The first day after all sessions: 2026-11-20, in days since 1970.
const END_DAY: u64 = 20_777;
/// The hours in which sessions begin, each as often as it stands here.
const HOURS: [u64; 64] = [
    0, 0, 1, 2, 6, 7, 7, 8, 8, 8, 9, 9, 9, 9, 10, 10, 10, 10, 11, 11, 11, 11, 12, 12, 13, 13, 13, 14, 14, 14, 14, 15,
    15, 15, 15, 16, 16, 16, 16, 17, 17, 17, 18, 18, 18, 19, 19, 19, 20, 20, 20, 20, 20, 21, 21, 21, 21, 21, 22, 22, 22,
    22, 23, 23,
];
/// How long conversations are: of ten thousand, how many have from how many to how many pairs of question and answer.
const PAIRS: [(u64, u64, u64); 9] = [
    (2512, 1, 1),
    (2300, 2, 2),
    (1600, 3, 3),
    (1120, 4, 4),
    (1550, 5, 8),
    (680, 9, 20),
    (213, 21, 60),
    (22, 61, 200),
    (3, 201, 400),
];
/// How long it takes people to answer, in milliseconds.
const PAUSES: &[u64] = &[4000, 15_000, 30_000, 50_000, 80_000, 130_000, 240_000, 480_000, 1_200_000];
const NAMES: [&str; 12] =
    ["Anna", "Jürgen", "Marie-Claire", "José", "Ольга", "小明", "さくら", "ليلى", "Priya", "민준", "Νίκος", "Zoë"];
const MODELS: [&str; 9] = [
    "Qwen2.5-Coder 0.5B",
    "SmolLM2 135M",
    "llama3.2:3b",
    "qwen3:8b",
    "gemma3:12b",
    "mistral-small:24b",
    "gpt-oss:20b",
    "deepseek-r1:14b",
    "phi-4-mini-instruct.Q4_K_M.gguf",
];
const TAGS: [&str; 30] = [
    "work",
    "home",
    "code",
    "rust",
    "python",
    "sql",
    "cooking",
    "travel",
    "health",
    "music",
    "chess",
    "school",
    "garden",
    "finance",
    "family",
    "writing",
    "language",
    "ideas",
    "todo",
    "research",
    "science",
    "history",
    "books",
    "sport",
    "shopping",
    "repair",
    "français",
    "größer",
    "учёба",
    "学习",
];
const FAILURES: [(&str, &str); 4] = [
    ("assistant_failed", "The assistant broke off."),
    ("assistant_unreachable", "No assistant answers."),
    ("interrupted", "The server was stopped while the reply was written."),
    ("rate_limited", "Too many requests; try again in a minute."),
];

/// What is known of a message that has been written, to follow its branch and count it.
struct Turn {
    parent: Option<usize>,
    is_user: bool,
    hidden: bool,
    failed: bool,
}

/// A session while it is made.
struct Draft {
    prose: Prose,
    spoken: bool,
    model: &'static str,
    /// The time in milliseconds since 1970.
    now: u64,
    rev: u64,
    /// How many bytes were said, from which the use of tokens follows.
    said: u64,
    turns: Vec<Turn>,
    messages: Vec<GeneratedMessage>,
    lines: String,
}

/// Adds a text as JSON.
pub(crate) fn push_json(out: &mut String, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        // Text always can be written as JSON, so that there is nothing to fall back to.
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}

/// Makes the session of a number.
pub(crate) fn session(seed: u64, number: u64) -> GeneratedSession {
    let first = stream_seed(seed, 1, number);
    let mut random = Random::new(first);
    let mut id = String::with_capacity(32);
    // No two numbers have the same first half.
    push_hex(&mut id, first, 16);
    push_hex(&mut id, random.next(), 16);

    let spoken = random.chance(80);
    let started = start(&mut random);
    let model = *random.pick(&MODELS);
    let user_name = if random.chance(150) { *random.pick(&NAMES) } else { "User" };
    let pairs = pairs(&mut random, even(seed, number));
    let mut draft = Draft {
        prose: Prose::new(random, spoken),
        spoken,
        model,
        now: started,
        rev: 0,
        said: 0,
        turns: Vec::new(),
        messages: Vec::new(),
        lines: String::new(),
    };
    let leaf = draft.talk(pairs);

    let mut text = String::with_capacity(draft.lines.len() + 800);
    text.push_str("{\"format\":1,\"session_id\":\"");
    text.push_str(&id);
    text.push_str("\",\"user_name\":");
    push_json(&mut text, user_name);
    text.push_str(",\"started_at\":\"");
    push_time(&mut text, started);
    text.push_str("\",\"metadata\":");
    draft.push_metadata(&mut text, leaf);
    text.push_str(",\"messages\":[");
    text.push_str(&draft.lines);
    draft.push_tail(&mut text, leaf);

    let mut day = String::with_capacity(10);
    push_day(&mut day, started);
    GeneratedSession { id, day, text, messages: draft.messages }
}

/// When a session begins: in one of the 400 days before [`END_DAY`], more often a short while before it.
fn start(random: &mut Random) -> u64 {
    let days = match random.below(100) {
        0..=34 => 28,
        35..=64 => 112,
        _ => 400,
    };
    let day = END_DAY - 1 - random.below(days);
    day * DAY + *random.pick(&HOURS) * 3_600_000 + random.below(3_600_000)
}

/// How many pairs of messages a session has. `place` says which class of lengths it is of: the places of successive numbers are
/// spread evenly, so that the mean comes out for few sessions too.
fn pairs(random: &mut Random, place: u64) -> u64 {
    let mut place = ((u128::from(place) * 10_000) >> 64) as u64;
    for (share, least, most) in PAIRS {
        if place < share {
            return random.between(least, most);
        }
        place -= share;
    }
    1
}

impl Draft {
    /// Writes all messages. The result is the leaf that the metadata names, if it has to name one.
    fn talk(&mut self, pairs: u64) -> Option<usize> {
        let mut path: Vec<usize> = Vec::new();
        let mut count = 2 * pairs;
        if self.prose.random.chance(30) {
            // The last question was never answered.
            count -= 1;
        }
        self.go_on(&mut path, count);
        if !self.prose.random.chance(60) {
            return None;
        }
        let first_leaf = path.last().copied();
        for _ in 0..self.prose.random.between(1, 3) {
            // People change what they see: mostly one of the last messages.
            let back = self.prose.random.rank(4).min(path.len() as u64);
            path.truncate(path.len() - back as usize);
            let count = self.prose.random.between(1, 4);
            self.go_on(&mut path, count);
        }
        first_leaf.filter(|_| self.prose.random.chance(300))
    }

    /// Adds messages below the end of a path. On a path the messages at even places are the person's.
    fn go_on(&mut self, path: &mut Vec<usize>, count: u64) {
        for _ in 0..count {
            let turn = self.say(path.last().copied(), path.len().is_multiple_of(2));
            path.push(turn);
        }
    }

    fn say(&mut self, parent: Option<usize>, is_user: bool) -> usize {
        self.wait(is_user);
        let random = &mut self.prose.random;
        self.rev += if random.chance(50) { 2 } else { 1 };
        let hidden = random.chance(10);
        let failed = !is_user && random.chance(5);
        let id = new_id(random);
        let (content, parts) = if is_user {
            (self.prose.user_message(), None)
        } else if failed {
            let bytes = self.prose.random.between(20, 200);
            (self.prose.short(bytes), None)
        } else if self.spoken {
            (self.prose.reply(), None)
        } else {
            tools::reply(&mut self.prose)
        };

        self.lines.push_str(if self.turns.is_empty() { "\n{\"id\":\"" } else { ",\n{\"id\":\"" });
        self.lines.push_str(&id);
        self.lines.push_str("\",\"parent_id\":");
        match parent.and_then(|parent| self.messages.get(parent)) {
            Some(parent) => {
                self.lines.push('"');
                self.lines.push_str(&parent.id);
                self.lines.push('"');
            }
            None => self.lines.push_str("null"),
        }
        self.lines.push_str(if is_user { ",\"role\":\"user\"" } else { ",\"role\":\"assistant\"" });
        self.lines.push_str(",\"content\":");
        push_json(&mut self.lines, &content);
        self.lines.push_str(",\"timestamp\":\"");
        push_time(&mut self.lines, self.now);
        self.lines.push_str("\",\"metadata\":{");
        let has_tools = parts.is_some() || content.contains(tools::MARK);
        self.push_message_metadata(is_user, hidden, failed, has_tools, content.len() as u64);
        self.lines.push('}');
        if let Some(parts) = parts {
            self.lines.push_str(",\"parts\":");
            self.lines.push_str(&parts);
        }
        self.lines.push_str(",\"rev\":");
        push_number(&mut self.lines, self.rev);
        self.lines.push('}');

        self.said += content.len() as u64;
        self.turns.push(Turn { parent, is_user, hidden, failed });
        self.messages.push(GeneratedMessage { id, text: content });
        self.turns.len() - 1
    }

    /// Lets time pass: a model begins within seconds, a person takes minutes and sometimes comes back on another day.
    fn wait(&mut self, is_user: bool) {
        let random = &mut self.prose.random;
        let mut passed =
            if self.turns.is_empty() || !is_user { random.between(300, 9000) } else { random.quantile(PAUSES) };
        if is_user && !self.turns.is_empty() && random.chance(15) {
            let long = random.between(1, 60) * 3_600_000;
            // Nothing is said after the end of the time that the corpus covers but what a late session still has to say.
            if self.now + long < END_DAY * DAY {
                passed += long;
            }
        }
        self.now += passed;
    }

    fn push_message_metadata(&mut self, is_user: bool, hidden: bool, failed: bool, has_tools: bool, bytes: u64) {
        let (lines, random) = (&mut self.lines, &mut self.prose.random);
        let start = lines.len();
        let mut add = |text: std::fmt::Arguments<'_>| {
            if lines.len() > start {
                lines.push(',');
            }
            // Writing to a text cannot fail.
            let _ = lines.write_fmt(text);
        };
        if random.chance(600) {
            let (commander, web) = (random.chance(100), random.chance(200));
            add(format_args!("\"modes\":{{\"commander\":{commander},\"webSearch\":{web}}}"));
        }
        if !is_user {
            let model = if random.chance(30) { *random.pick(&MODELS) } else { self.model };
            let (first, second) = (random.next(), random.next());
            add(format_args!("\"model\":\"{model}\",\"reply_id\":\"{first:016x}{second:016x}\""));
            if random.chance(700) {
                let (prompt, completion) = (110 + self.said / 4, bytes / 4 + 1);
                let total = prompt + completion;
                add(format_args!(
                    "\"usage\":{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{total}}}"
                ));
            }
            if failed {
                let (code, message) = random.pick(&FAILURES);
                add(format_args!("\"error\":\"{code}\",\"error_message\":\"{message}\""));
            } else if random.chance(15) {
                add(format_args!("\"stopped\":true"));
            }
            if has_tools {
                add(format_args!("\"hasTools\":true"));
            }
            let first_token = random.between(80, 2500);
            let duration = first_token + bytes * random.between(3, 20);
            add(format_args!("\"duration_ms\":{duration},\"first_token_ms\":{first_token}"));
        }
        if hidden {
            add(format_args!("\"hidden\":true"));
        }
    }

    /// Adds the session's own metadata.
    fn push_metadata(&mut self, text: &mut String, leaf: Option<usize>) {
        text.push_str(if self.spoken { "{\"type\":\"voice\"" } else { "{\"type\":\"chat\"" });
        if self.prose.random.chance(300) {
            let mut title = String::new();
            self.prose.phrase(&mut title, 2, 7);
            text.push_str(",\"title\":");
            push_json(text, title.trim());
        }
        if self.prose.random.chance(150) {
            text.push_str(",\"tags\":[");
            let first = self.prose.random.below(TAGS.len() as u64);
            for tag in 0..self.prose.random.between(1, 3) {
                if tag > 0 {
                    text.push(',');
                }
                // Steps of seven over thirty tags meet none twice.
                push_json(text, TAGS[((first + 7 * tag) % TAGS.len() as u64) as usize]);
            }
            text.push(']');
        }
        if self.prose.random.chance(20) {
            text.push_str(",\"pinned\":true");
        }
        if self.prose.random.chance(50) {
            text.push_str(",\"archived\":true");
        }
        text.push_str(",\"model\":");
        push_json(text, self.model);
        if let Some(leaf) = leaf.and_then(|leaf| self.messages.get(leaf)) {
            text.push_str(",\"active_leaf\":\"");
            text.push_str(&leaf.id);
            text.push('"');
        }
        text.push('}');
    }

    /// Adds the last line, with the counts over what is shown.
    fn push_tail(&mut self, text: &mut String, leaf: Option<usize>) {
        let (mut total, mut of_user, mut failed) = (0, 0, 0);
        let mut next = leaf.or_else(|| self.turns.len().checked_sub(1));
        while let Some(turn) = next.and_then(|turn| self.turns.get(turn)) {
            if !turn.hidden {
                total += 1;
                of_user += u64::from(turn.is_user);
                failed += u64::from(turn.failed);
            }
            next = turn.parent;
        }
        let of_assistant = total - of_user;
        // Some had their title or another thing changed after the last message.
        let random = &mut self.prose.random;
        let (later, updated) = if random.chance(300) {
            (random.between(1, 3), self.now + random.between(1000, 600_000))
        } else {
            (0, self.now + random.below(20))
        };
        text.push_str("\n],\"last_updated\":\"");
        push_time(text, updated);
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "\",\"revision\":{},\"stats\":{{\"total_messages\":{total},\"user_messages\":{of_user},\
             \"assistant_messages\":{of_assistant},\"errors\":{failed}}}}}",
            self.rev + later
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_as_serde_does_it() {
        for text in ["", "plain", "ümläut 日本", "a\"b\\c\n\t\r\u{1}\u{7f}", "</script>"] {
            let mut out = String::new();
            push_json(&mut out, text);
            assert_eq!(out, serde_json::to_string(text).unwrap());
        }
    }

    #[test]
    fn shares_of_lengths_are_whole() {
        assert_eq!(PAIRS.iter().map(|(share, _, _)| share).sum::<u64>(), 10_000);
    }
}
