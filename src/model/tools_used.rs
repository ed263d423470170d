//! Reads tool uses out of a message: structured parts as they are, and markers `🛠️ name(params)` in text.
//!
//! The work is linear in the text. A marker's closing parenthesis is found by walking from its opening one and jumping over
//! nested pairs and quoted strings; what a nested pair closes with is worked out once, from right to left, so that a text full
//! of markers that never close costs no more than one that is well formed.

use super::parts::{Part, ToolUse};
use super::session::first_characters;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag};
use std::collections::HashMap;
use std::ops::Range;

/// A call whose closing parenthesis is farther away than this many bytes is no call.
pub const MAX_PARAMS_BYTES: usize = 8 * 1024;

/// A call whose name has more bytes is no call.
pub const MAX_NAME_BYTES: usize = 100;

/// How many characters of the content stand in a tool use as its context.
pub const CONTEXT_CHARACTERS: usize = 200;

/// The hammer and wrench, U+1F6E0, that begins a marker; U+FE0F may follow it.
const EMOJI: &str = "\u{1F6E0}";
const VARIATION_SELECTOR: &str = "\u{FE0F}";

/// The tool uses of an assistant's message in the order in which they happened.
pub fn of_message(content: &str, parts: Option<&[Part]>) -> Vec<ToolUse> {
    let Some(parts) = parts else { return of_text(content, content) };
    let mut uses = Vec::new();
    for part in parts {
        match part {
            Part::Tool(call) => {
                let mut call = ToolUse::clone(call);
                if call.context.is_empty() {
                    call.context = first_characters(content, CONTEXT_CHARACTERS).to_owned();
                }
                uses.push(call);
            }
            Part::Text { text, .. } => uses.extend(of_text(text, content)),
            Part::Reasoning { .. } | Part::Other(_) => {}
        }
    }
    uses
}

/// The markers in `text`; `content` is the whole message, for the context.
fn of_text(text: &str, content: &str) -> Vec<ToolUse> {
    markers(text)
        .into_iter()
        .map(|marker| ToolUse {
            name: text[marker.name].to_owned(),
            params: text[marker.params].to_owned(),
            context: first_characters(content, CONTEXT_CHARACTERS).to_owned(),
            ..ToolUse::default()
        })
        .collect()
}

/// Where a marker stands in a text, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// From the emoji to the closing parenthesis, both included.
    pub whole: Range<usize>,
    /// The tool's name.
    pub name: Range<usize>,
    /// What stands between the parentheses.
    pub params: Range<usize>,
}

/// Finds the markers of a text, left to right, none inside another.
pub fn markers(text: &str) -> Vec<Marker> {
    if !text.contains(EMOJI) {
        return Vec::new();
    }
    let code = code_ranges(text);
    let mut code = code.iter().peekable();
    let scan = Scan::new(text);
    let mut found: Vec<Marker> = Vec::new();
    for (start, _) in text.match_indices(EMOJI) {
        if found.last().is_some_and(|last| start < last.whole.end) {
            continue;
        }
        while code.peek().is_some_and(|range| range.end <= start) {
            code.next();
        }
        if code.peek().is_some_and(|range| range.contains(&start)) {
            continue;
        }
        let Some(name) = name_after(text, start + EMOJI.len()) else { continue };
        let open = name.end;
        if let Some(close) = scan.closing(open) {
            found.push(Marker { whole: start..close + 1, name, params: open + 1..close });
        }
    }
    found
}

/// The name between the emoji and an opening parenthesis that follows it at once.
fn name_after(text: &str, mut at: usize) -> Option<Range<usize>> {
    if text[at..].starts_with(VARIATION_SELECTOR) {
        at += VARIATION_SELECTOR.len();
    }
    let bytes = text.as_bytes();
    while matches!(bytes.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    let start = at;
    if !matches!(bytes.get(at), Some(b) if b.is_ascii_alphabetic() || *b == b'_') {
        return None;
    }
    while at - start <= MAX_NAME_BYTES
        && matches!(bytes.get(at), Some(b) if b.is_ascii_alphanumeric() || b"_.:-".contains(b))
    {
        at += 1;
    }
    (at - start <= MAX_NAME_BYTES && bytes.get(at) == Some(&b'(')).then_some(start..at)
}

/// The byte ranges of fenced and inline code, in order, none inside another.
fn code_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for (event, range) in Parser::new_ext(text, Options::empty()).into_offset_iter() {
        match event {
            Event::Code(_) | Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(_))) => ranges.push(range),
            _ => {}
        }
    }
    ranges
}

/// What was worked out once about the parentheses and quotes of a text.
struct Scan<'a> {
    bytes: &'a [u8],
    /// For every opening parenthesis that closes in time: where.
    closings: HashMap<usize, usize>,
    /// Positions of `'` and of `"` that no backslash escapes.
    single: Vec<usize>,
    double: Vec<usize>,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let mut opens = Vec::new();
        let (mut single, mut double) = (Vec::new(), Vec::new());
        let mut escaped = false;
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'(' => opens.push(at),
                b'\'' if !escaped => single.push(at),
                b'"' if !escaped => double.push(at),
                _ => {}
            }
            escaped = *byte == b'\\' && !escaped;
        }
        let mut scan = Self { bytes, closings: HashMap::new(), single, double };
        for &open in opens.iter().rev() {
            if let Some(close) = scan.walk(open) {
                scan.closings.insert(open, close);
            }
        }
        scan
    }

    fn closing(&self, open: usize) -> Option<usize> {
        self.closings.get(&open).copied()
    }

    /// Walks from `open` to its closing parenthesis; every pair to the right of it is known already.
    fn walk(&self, open: usize) -> Option<usize> {
        let limit = self.bytes.len().min(open + 2 + MAX_PARAMS_BYTES);
        let mut at = open + 1;
        while at < limit {
            match self.bytes[at] {
                b')' => return Some(at),
                b'(' => at = self.closing(at)? + 1,
                quote @ (b'\'' | b'"') if opens_string(self.bytes[at - 1]) => {
                    at = self.end_of_string(at, quote)? + 1;
                }
                _ => at += 1,
            }
        }
        None
    }

    fn end_of_string(&self, start: usize, quote: u8) -> Option<usize> {
        let ends = if quote == b'\'' { &self.single } else { &self.double };
        ends.get(ends.partition_point(|&end| end <= start)).copied()
    }
}

/// Whether a quote after this byte begins a string; elsewhere it is an apostrophe.
fn opens_string(before: u8) -> bool {
    matches!(before, b'(' | b',' | b'=' | b':' | b'[' | b'{' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn calls(text: &str) -> Vec<(String, String)> {
        of_message(text, None).into_iter().map(|call| (call.name, call.params)).collect()
    }

    fn call(name: &str, params: &str) -> Vec<(String, String)> {
        vec![(name.into(), params.into())]
    }

    #[test]
    fn reads_the_calls_of_the_older_system() {
        assert_eq!(calls("🛠️ datetime() Let me check..."), call("datetime", ""));
        assert_eq!(calls("🛠️ web_search(query='weather') ..."), call("web_search", "query='weather'"));
        assert_eq!(calls("\u{1F6E0} a.b:c-d(1)"), call("a.b:c-d", "1"));
        assert_eq!(calls("First 🛠️ a(1), then 🛠️b(2)."), [("a".into(), "1".into()), ("b".into(), "2".into())]);
    }

    #[test]
    fn respects_nesting_and_quotes() {
        assert_eq!(calls(r#"🛠️ f("a)")"#), call("f", r#""a)""#));
        assert_eq!(calls(r#"🛠️ f({"x":(1)})"#), call("f", r#"{"x":(1)}"#));
        assert_eq!(calls("🛠️ note(don't)"), call("note", "don't"));
        assert_eq!(calls(r#"🛠️ f("a\")", 'b)')"#), call("f", r#""a\")", 'b)'"#));
        assert_eq!(calls("🛠️ f(🛠️ g(1))"), call("f", "🛠️ g(1)"));
        assert_eq!(calls("🛠️ f(\n  a,\n  b\n)"), call("f", "\n  a,\n  b\n"));
    }

    #[test]
    fn what_is_no_call_is_none() {
        for text in [
            "🛠️ f",
            "🛠️ f (1)",
            "🛠️ 1f()",
            "🛠️ (1)",
            "f(1)",
            "🛠️ f(1",
            "🔧 f(1)",
            "`🛠️ f(1)`",
            "```\n🛠️ f(1)\n```",
            "~~~\n🛠️ f(1)",
        ] {
            assert_eq!(calls(text), [], "{text}");
        }
        assert_eq!(calls("🛠️ f(1 🛠️ g(2)"), call("g", "2"));
        assert_eq!(calls("`x` 🛠️ f(1) `y`"), call("f", "1"));
    }

    #[test]
    fn no_tool_has_an_endless_name() {
        let name = "x".repeat(MAX_NAME_BYTES);
        assert_eq!(calls(&format!("🛠️ {name}(1)")), call(&name, "1"));
        assert_eq!(calls(&format!("🛠️ {name}x(1) 🛠️ f(2)")), call("f", "2"));
    }

    #[test]
    fn a_call_ends_within_its_bound() {
        let fits = format!("🛠️ f({})", "x".repeat(MAX_PARAMS_BYTES));
        let too_long = format!("🛠️ f({})", "x".repeat(MAX_PARAMS_BYTES + 1));
        assert_eq!(calls(&fits).len(), 1);
        assert_eq!(calls(&too_long), []);
    }

    #[test]
    fn the_context_is_cut_on_a_character_boundary() {
        let text = format!("🛠️ f() {}", "é".repeat(300));
        assert_eq!(of_message(&text, None)[0].context.chars().count(), CONTEXT_CHARACTERS);
    }

    #[test]
    fn structured_calls_and_text_keep_their_order() {
        let parts = [
            Part::text("🛠️ first(1) and "),
            Part::Tool(Box::new(ToolUse { name: "second".into(), params: "{}".into(), ..ToolUse::default() })),
            Part::reasoning("🛠️ never()", None),
            Part::text("🛠️ third()"),
        ];
        let names: Vec<String> = of_message("whole", Some(&parts)).into_iter().map(|call| call.name).collect();
        assert_eq!(names, ["first", "second", "third"]);
    }

    /// Quadratic work on any of these would take minutes.
    #[test]
    fn hostile_texts_take_linear_time() {
        for unit in ["🛠️ f(", "🛠️ f('", "🛠️ f(\"'", "(", "🛠️ f()", "🛠️ f(\\", "`🛠️ f(", "🛠️ f( '\" "]
        {
            let text = unit.repeat(1_000_000 / unit.len());
            markers(&text);
        }
    }

    /// The plain reading of the rule, without the memory that makes the real one linear.
    fn naive_closing(bytes: &[u8], open: usize) -> Option<usize> {
        let mut depth = 0usize;
        let mut quote = None;
        let mut at = open;
        while at < bytes.len() {
            match (quote, bytes[at]) {
                (Some(_), b'\\') => at += 1,
                (Some(q), byte) if q == byte => quote = None,
                (Some(_), _) => {}
                (None, b'(') => depth += 1,
                (None, b')') => {
                    depth -= 1;
                    if depth == 0 {
                        return (at - open - 1 <= MAX_PARAMS_BYTES).then_some(at);
                    }
                }
                (None, byte @ (b'\'' | b'"')) if opens_string(bytes[at - 1]) => quote = Some(byte),
                (None, _) => {}
            }
            at += 1;
        }
        None
    }

    proptest! {
        #[test]
        fn equals_the_plain_reading(text in "[(),='\" a\\[]{0,40}") {
            // A backslash outside a string escapes nothing in the plain reading, so that none stands in these texts.
            let scan = Scan::new(&text);
            for (open, _) in text.match_indices('(') {
                prop_assert_eq!(scan.closing(open), naive_closing(text.as_bytes(), open), "{} at {}", text, open);
            }
        }

        #[test]
        fn any_text_is_read_without_panic(text in "(🛠️|🛠|f|\\(|\\)|'|\"|`|```|\n|\\\\|é|[a-z ]){0,60}") {
            for marker in markers(&text) {
                prop_assert!(text.is_char_boundary(marker.whole.start) && text.is_char_boundary(marker.whole.end));
                prop_assert!(text[marker.whole.clone()].ends_with(')'));
            }
        }
    }
}
