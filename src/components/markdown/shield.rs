//! What the parser of Markdown must not take apart, and what it takes for something else: formulas, bare addresses, and emphasis
//! beside letters that stand without spaces.
//!
//! The parser gets a text in which each formula and each address stands as one word, a number between two marks, and in which a
//! pair of marks (a seam) stands where emphasis is to be judged as beside a letter. The mark is a character that the text does not
//! hold. Wherever a word or a seam comes out of the parser, in code too, what stood there before is put back, so nothing depends on
//! whether this module and the parser agree about what is code. Each step is linear in the text.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// The longest formula on a line, in bytes; what is longer is a text with a lonely sign.
const MAX_INLINE_BYTES: usize = 2_000;

/// A text as the parser gets it.
pub struct Shielded<'a> {
    source: &'a str,
    /// What is to be parsed.
    pub text: Cow<'a, str>,
    mark: Option<char>,
    kept: Vec<Kept<'a>>,
    /// Behind each change: where it ends in `text` and where in the source.
    ends: Vec<(usize, usize)>,
}

/// What stands as one word in the parsed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// As it was written.
    pub source: &'a str,
    /// What it is.
    pub kind: KeptKind,
}

/// What a kept word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptKind {
    /// A formula; in a quotation, the lines of one that is longer begin with its signs.
    Formula {
        /// Whether it stands in a quotation.
        is_quoted: bool,
    },
    /// An address of the web.
    Address,
    /// An address of mail.
    Mail,
}

impl Kept<'_> {
    /// What is shown of it.
    pub fn shown(&self) -> Cow<'_, str> {
        match self.kind {
            KeptKind::Formula { is_quoted: true } if self.source.contains('\n') => {
                let lines = self.source.split('\n').enumerate();
                let lines = lines.map(|(number, line)| if number == 0 { line } else { without_quote(line) });
                Cow::Owned(lines.collect::<Vec<_>>().join("\n"))
            }
            KeptKind::Address if self.source.contains(['\\', '&']) => Cow::Owned(unescaped(self.source)),
            _ => Cow::Borrowed(self.source),
        }
    }

    /// Where it leads; `None` for a formula.
    pub fn target(&self) -> Option<String> {
        let shown = self.shown();
        match self.kind {
            KeptKind::Formula { .. } => None,
            KeptKind::Address if starts_with_ignoring_case(&shown, "www.") => Some(format!("http://{shown}")),
            KeptKind::Address => Some(shown.into_owned()),
            KeptKind::Mail if starts_with_ignoring_case(&shown, "mailto:") => Some(shown.into_owned()),
            KeptKind::Mail => Some(format!("mailto:{shown}")),
        }
    }
}

/// A piece of a text that came out of the parser.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'s, 'a> {
    /// As it is.
    Text(&'s str),
    /// What stood there before.
    Kept(&'s Kept<'a>),
}

impl<'a> Shielded<'a> {
    /// Prepares a text.
    pub fn new(source: &'a str) -> Self {
        let edits = edits(source);
        let Some(mark) = (!edits.is_empty()).then(|| free_mark(source)).flatten() else {
            return Self { source, text: Cow::Borrowed(source), mark: None, kept: Vec::new(), ends: Vec::new() };
        };
        let mut text = String::with_capacity(source.len() + 8 * edits.len());
        let mut kept: Vec<Kept<'a>> = Vec::new();
        // The same words get the same number, so that a reference still names its definition.
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        let mut ends = Vec::with_capacity(edits.len());
        let mut from = 0;
        for Edit { at, kind } in edits {
            text.push_str(&source[from..at.start]);
            text.push(mark);
            if let Some(kind) = kind {
                let words = &source[at.clone()];
                let number = *numbers.entry(words).or_insert_with(|| {
                    kept.push(Kept { source: words, kind });
                    kept.len() - 1
                });
                text.push_str(&number.to_string());
            }
            text.push(mark);
            from = at.end;
            ends.push((text.len(), from));
        }
        text.push_str(&source[from..]);
        Self { source, text: Cow::Owned(text), mark: Some(mark), kept, ends }
    }

    /// The place in the source of a place in the parsed text, which is not inside a word.
    pub fn source_place(&self, place: usize) -> usize {
        let changes = self.ends.partition_point(|&(end, _)| end <= place);
        let (end, source_end) = changes.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or((0, 0));
        (source_end + (place - end)).min(self.source.len())
    }

    /// Takes a text that came out of the parser apart.
    pub fn pieces<'s>(&'s self, text: &'s str) -> Vec<Piece<'s, 'a>> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let Some(mark) = self.mark else { return vec![Piece::Text(text)] };
        while let Some((before, word, after)) = split_word(rest, mark) {
            if !before.is_empty() {
                pieces.push(Piece::Text(before));
            }
            if !word.is_empty() {
                match word.parse::<usize>().ok().and_then(|number| self.kept.get(number)) {
                    Some(kept) => pieces.push(Piece::Kept(kept)),
                    // The mark is not in the source, so that this is not reached.
                    None => pieces.push(Piece::Text(word)),
                }
            }
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest));
        }
        pieces
    }

    /// A text that came out of the parser as it was written. `is_indented`: in code that is marked by its indentation, which is no
    /// part of the code.
    pub fn restored<'s>(&'s self, text: &'s str, is_indented: bool) -> Cow<'s, str> {
        if self.mark.is_none_or(|mark| !text.contains(mark)) {
            return Cow::Borrowed(text);
        }
        let mut restored = String::with_capacity(text.len());
        for piece in self.pieces(text) {
            match piece {
                Piece::Text(text) => restored.push_str(text),
                Piece::Kept(kept) if is_indented => {
                    for (number, line) in kept.source.split('\n').enumerate() {
                        if number > 0 {
                            restored.push('\n');
                        }
                        restored.push_str(if number > 0 { without_indentation(line) } else { line });
                    }
                }
                Piece::Kept(kept) => restored.push_str(kept.source),
            }
        }
        Cow::Owned(restored)
    }
}

/// What stands before the first word or seam, the word's number, and what follows.
fn split_word(text: &str, mark: char) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once(mark)?;
    let (word, after) = rest.split_once(mark)?;
    Some((before, word, after))
}

fn without_indentation(line: &str) -> &str {
    let spaces = line.bytes().take(4).take_while(|byte| *byte == b' ').count();
    match line.as_bytes().get(spaces) {
        Some(b'\t') if spaces < 4 => &line[spaces + 1..],
        _ => &line[spaces..],
    }
}

fn without_quote(line: &str) -> &str {
    line.trim_start_matches([' ', '\t', '>'])
}

fn starts_with_ignoring_case(text: &str, start: &str) -> bool {
    text.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
}

/// An address without the escapes of Markdown.
fn unescaped(address: &str) -> String {
    let mut plain = String::with_capacity(address.len());
    let mut characters = address.chars().peekable();
    while let Some(character) = characters.next() {
        match characters.peek() {
            Some(next) if character == '\\' && next.is_ascii_punctuation() => {}
            _ => plain.push(character),
        }
    }
    plain.replace("&amp;", "&")
}

/// A character for private use that stands nowhere in the text, not even as an entity.
fn free_mark(source: &str) -> Option<char> {
    let is_candidate = |c: char| matches!(c, '\u{E000}'..='\u{F8FF}');
    let mut used: HashSet<char> = source.chars().filter(|c| is_candidate(*c)).collect();
    used.extend(source.match_indices("&#").filter_map(|(at, _)| {
        let rest = &source[at + 2..];
        let (digits, radix) = match rest.strip_prefix(['x', 'X']) {
            Some(digits) => (digits, 16),
            None => (rest, 10),
        };
        let length = digits.bytes().take(8).take_while(u8::is_ascii_hexdigit).count();
        let length = if radix == 10 { digits.bytes().take(8).take_while(u8::is_ascii_digit).count() } else { length };
        u32::from_str_radix(&digits[..length], radix).ok().and_then(char::from_u32)
    }));
    ('\u{E000}'..='\u{F8FF}').find(|mark| !used.contains(mark))
}

/// A change: a word in place of what stands at `at`, or a seam there.
#[derive(Debug, PartialEq, Eq)]
struct Edit {
    at: Range<usize>,
    kind: Option<KeptKind>,
}

/// A line with what its beginning says.
struct Line {
    start: usize,
    /// Behind its last character, the line end not included.
    end: usize,
    is_blank: bool,
    is_quoted: bool,
    /// Whether it begins an item, a heading or a row of a table, so that nothing inline reaches into it.
    begins_something: bool,
    /// Whether nothing inline reaches beyond it: a heading, or the line below one.
    ends_something: bool,
    /// Where its text begins, behind the signs of quotations, and behind those of items.
    text_start: usize,
    item_start: usize,
    fence: Option<Fence>,
}

#[derive(Clone, Copy)]
struct Fence {
    sign: u8,
    length: usize,
    /// Whether nothing follows the signs, so that it may end a block.
    is_bare: bool,
}

fn line_at(source: &str, start: usize, end: usize) -> Line {
    let bytes = &source.as_bytes()[..end];
    let skip = |mut at: usize, signs: &[u8]| {
        while bytes.get(at).is_some_and(|byte| signs.contains(byte)) {
            at += 1;
        }
        at
    };
    let text_start = skip(start, b" \t>");
    let mut item_start = text_start;
    while let Some(behind) = behind_marker(bytes, item_start) {
        item_start = skip(behind, b" \t>");
    }
    let first = bytes.get(item_start).copied();
    let is_rule = first.is_some_and(|sign| {
        b"-=*_".contains(&sign) && bytes[item_start..].iter().all(|byte| *byte == sign || byte.is_ascii_whitespace())
    });
    let begins_something = item_start > text_start || is_rule || matches!(first, Some(b'#' | b'|'));
    let ends_something = is_rule || first == Some(b'#');
    let fence = first.filter(|sign| matches!(sign, b'`' | b'~')).and_then(|sign| {
        let behind = skip(item_start, &[sign]);
        let rest = &bytes[behind..];
        let is_fence = behind - item_start >= 3 && !(sign == b'`' && rest.contains(&b'`'));
        let is_bare = rest.iter().all(u8::is_ascii_whitespace);
        is_fence.then_some(Fence { sign, length: behind - item_start, is_bare })
    });
    Line {
        start,
        end,
        is_blank: bytes[text_start..].iter().all(u8::is_ascii_whitespace),
        is_quoted: bytes[start..text_start].contains(&b'>'),
        begins_something,
        ends_something,
        text_start,
        item_start,
        fence,
    }
}

/// The line in which a place is.
fn line_of(lines: &[Line], at: usize) -> Option<&Line> {
    lines.get(lines.partition_point(|line| line.start <= at).checked_sub(1)?)
}

/// Where the text of an item begins whose marker stands at `at`.
fn behind_marker(bytes: &[u8], at: usize) -> Option<usize> {
    let first = *bytes.get(at)?;
    let behind = match first {
        b'-' | b'*' | b'+' => at + 1,
        b'0'..=b'9' => {
            let digits = bytes[at..].iter().take(9).take_while(|byte| byte.is_ascii_digit()).count();
            matches!(bytes.get(at + digits), Some(b'.' | b')')).then_some(at + digits + 1)?
        }
        _ => return None,
    };
    matches!(bytes.get(behind), None | Some(b' ' | b'\t' | b'\r')).then_some(behind)
}

fn edits(source: &str) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut paragraph: Vec<Line> = Vec::new();
    let mut open: Option<(Fence, Line)> = None;
    let mut start = 0;
    while start < source.len() {
        let end = source[start..].find('\n').map_or(source.len(), |length| start + length);
        let line = line_at(source, start, end);
        start = end + 1;
        if let Some((fence, first)) = &open {
            let is_end = line.fence.is_some_and(|end| {
                end.is_bare
                    && end.sign == fence.sign
                    && end.length >= fence.length
                    && line.item_start == line.text_start
            });
            // A block ends with the quotation or the item in which it stands.
            let indentation = line.text_start - line.start;
            let has_left_item = first.item_start > first.text_start && !line.is_blank && indentation < 2;
            let has_left = first.is_quoted && !line.is_quoted || has_left_item;
            if is_end || has_left {
                open = None;
            }
            if !has_left {
                continue;
            }
        }
        if let Some(fence) = line.fence {
            paragraph_edits(source, &paragraph, &mut edits);
            paragraph.clear();
            open = Some((fence, line));
        } else if line.is_blank {
            paragraph_edits(source, &paragraph, &mut edits);
            paragraph.clear();
        } else {
            paragraph.push(line);
        }
    }
    paragraph_edits(source, &paragraph, &mut edits);
    edits
}

/// What ends something in a paragraph, in order.
#[derive(Default)]
struct Signs {
    /// Runs of backticks: where, how long, and which run of the same length comes next.
    ticks: Vec<(usize, usize, Option<usize>)>,
    /// Each `\]`.
    brackets: Vec<usize>,
    /// Each `\)`.
    parentheses: Vec<usize>,
    /// Runs of `$`: where and how long.
    dollars: Vec<(usize, usize)>,
    /// For each `\begin{…}` that ends: behind its `\end{…}`.
    environments: HashMap<usize, usize>,
}

impl Signs {
    fn of(source: &str, range: Range<usize>) -> Self {
        let bytes = &source.as_bytes()[..range.end];
        let mut signs = Self::default();
        let mut begun: Vec<(&str, usize)> = Vec::new();
        let mut at = range.start;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'\\' => {
                    match bytes.get(at + 1) {
                        Some(b']') => signs.brackets.push(at),
                        Some(b')') => signs.parentheses.push(at),
                        _ => {}
                    }
                    if let Some((word, name, behind)) = environment(&source[..range.end], at) {
                        match (word, begun.last()) {
                            ("begin", _) => begun.push((name, at)),
                            (_, Some((last, begin))) if *last == name => {
                                signs.environments.insert(*begin, behind);
                                begun.pop();
                            }
                            _ => {}
                        }
                    }
                    at += if bytes.get(at + 1).is_some_and(u8::is_ascii_punctuation) { 2 } else { 1 };
                }
                b'`' | b'$' => {
                    let length = bytes[at..].iter().take_while(|other| *other == byte).count();
                    if *byte == b'`' {
                        signs.ticks.push((at, length, None));
                    } else {
                        signs.dollars.push((at, length));
                    }
                    at += length;
                }
                _ => at += 1,
            }
        }
        let mut next: HashMap<usize, usize> = HashMap::new();
        for (number, (_, length, following)) in signs.ticks.iter_mut().enumerate().rev() {
            *following = next.insert(*length, number);
        }
        signs
    }

    /// Whether a backtick stands in a range: there, code comes before formulas.
    fn has_tick(&self, range: &Range<usize>) -> bool {
        let next = self.ticks.partition_point(|&(at, ..)| at < range.start);
        self.ticks.get(next).is_some_and(|&(at, ..)| at < range.end)
    }

    fn next_of(places: &[usize], from: usize) -> Option<usize> {
        places.get(places.partition_point(|&at| at < from)).copied()
    }
}

/// `\begin{name}` or `\end{name}`: which, the name, and where it ends.
fn environment(source: &str, at: usize) -> Option<(&'static str, &str, usize)> {
    let rest = source.get(at + 1..)?;
    let word = ["begin", "end"].into_iter().find(|word| rest.starts_with(word))?;
    let name = rest.get(word.len()..)?.strip_prefix('{')?;
    let length = name.bytes().take(40).take_while(|byte| byte.is_ascii_alphabetic() || *byte == b'*').count();
    let is_closed = length > 0 && name.as_bytes().get(length) == Some(&b'}');
    is_closed.then(|| (word, &name[..length], at + 1 + word.len() + 1 + length + 1))
}

fn paragraph_edits(source: &str, lines: &[Line], edits: &mut Vec<Edit>) {
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return };
    let signs = Signs::of(source, first.start..last.end);
    let mut walk = Walk { source, signs, end: last.end, edits, floor: first.start };
    // What is inline reaches to the next line that begins something of its own.
    let mut from = 0;
    while from < lines.len() {
        let count =
            lines[from..].windows(2).take_while(|pair| !(pair[0].ends_something || pair[1].begins_something)).count();
        let behind = from + count + 1;
        walk.segment(&lines[from..behind], lines.get(behind).map_or(last.end, |next| next.start));
        from = behind;
    }
}

/// The way through a paragraph.
struct Walk<'a, 'e> {
    source: &'a str,
    signs: Signs,
    /// Where the paragraph ends.
    end: usize,
    edits: &'e mut Vec<Edit>,
    /// Behind the last change.
    floor: usize,
}

impl Walk<'_, '_> {
    /// Walks through what one run of inline text may be.
    fn segment(&mut self, lines: &[Line], end: usize) {
        let Some(first) = lines.first() else { return };
        let bytes = self.source.as_bytes();
        let mut at = first.item_start.max(self.floor);
        while at < end {
            at = match bytes[at] {
                b'`' => self.behind_code(at, end),
                b'\\' => self.formula(at, lines, end).unwrap_or_else(|| {
                    at + if bytes.get(at + 1).is_some_and(u8::is_ascii_punctuation) { 2 } else { 1 }
                }),
                b'$' => self.dollar_formula(at, lines, end),
                b'<' => self.behind_angles(at, end),
                b'h' | b'H' | b'w' | b'W' => self.address(at, end).unwrap_or(at + 1),
                b'@' => self.mail(at, end).unwrap_or(at + 1),
                b'*' | b'~' => self.emphasis(at, end),
                _ => at + 1,
            };
        }
    }

    fn keep(&mut self, at: Range<usize>, kind: KeptKind) -> usize {
        let end = at.end;
        self.edits.push(Edit { at, kind: Some(kind) });
        self.floor = end;
        end
    }

    fn behind_code(&self, at: usize, end: usize) -> usize {
        let ticks = &self.signs.ticks;
        // Behind an escaped backtick a run may begin inside one that was counted.
        let Some((start, length, next)) = ticks.get(ticks.partition_point(|&(start, ..)| start < at)).copied() else {
            return at + 1;
        };
        if start != at {
            return at + 1;
        }
        match next.and_then(|next| ticks.get(next)) {
            Some((close, ..)) if *close < end => close + length,
            _ => at + length,
        }
    }

    /// `\[…\]`, `\(…\)` and `\begin{…}…\end{…}`.
    fn formula(&mut self, at: usize, lines: &[Line], end: usize) -> Option<usize> {
        let bytes = self.source.as_bytes();
        let kind = KeptKind::Formula { is_quoted: lines.first().is_some_and(|line| line.is_quoted) };
        // A displayed formula may have lines that look like items; one in an item, a heading or a row ends with it.
        let is_marked = lines.first().is_some_and(|line| line.begins_something);
        let far = if is_marked { end } else { self.end };
        match bytes.get(at + 1)? {
            b'[' => {
                let close = Signs::next_of(&self.signs.brackets, at + 2).filter(|close| close + 2 <= far);
                if let Some(close) = close {
                    let inside = at + 2..close;
                    if !self.signs.has_tick(&inside) && self.is_displayed(&inside, lines) {
                        return Some(self.keep(at..close + 2, kind));
                    }
                }
                self.lonely(at, lines, kind)
            }
            b']' => self.lonely(at, lines, kind),
            b'(' => {
                let close = Signs::next_of(&self.signs.parentheses, at + 2).filter(|close| close + 2 <= end)?;
                let inside = at + 2..close;
                let is_formula = inside.len() <= MAX_INLINE_BYTES
                    && !self.source[inside.clone()].trim().is_empty()
                    && !self.signs.has_tick(&inside);
                is_formula.then(|| self.keep(at..close + 2, kind))
            }
            b'b' => {
                let close = *self.signs.environments.get(&at).filter(|close| **close <= far)?;
                (!self.signs.has_tick(&(at..close))).then(|| self.keep(at..close, kind))
            }
            _ => None,
        }
    }

    /// Whether what stands between `\[` and `\]` is a formula, and not a text between escaped brackets.
    fn is_displayed(&self, inside: &Range<usize>, lines: &[Line]) -> bool {
        let words = &self.source[inside.clone()];
        let behind = self.source[inside.end + 2..].chars().next();
        if words.trim().is_empty() || matches!(behind, Some('(' | '[')) {
            return false;
        }
        // An item may begin with a box that is ticked.
        let is_box =
            lines.first().is_some_and(|line| line.item_start > line.text_start && line.item_start + 2 == inside.start)
                && words.trim().eq_ignore_ascii_case("x");
        let stands_alone = || {
            let before =
                line_of(lines, inside.start).and_then(|line| self.source.get(line.item_start..inside.start - 2));
            let is_first = before.is_some_and(|before| before.trim().is_empty());
            is_first && matches!(behind, None | Some('\n' | '\r')) && !is_box && words.trim().len() > 1
        };
        let is_set_off = words.starts_with(char::is_whitespace) && words.ends_with(char::is_whitespace);
        is_set_off && !is_box || looks_like_formula(words) || stands_alone()
    }

    /// A line that is only `\[` or `\]`: what belongs to it has not arrived yet, or stands beyond an empty line.
    fn lonely(&mut self, at: usize, lines: &[Line], kind: KeptKind) -> Option<usize> {
        let line = line_of(lines, at)?;
        let is_alone = self.source[line.item_start.min(at)..line.end].trim() == &self.source[at..at + 2];
        is_alone.then(|| self.keep(at..at + 2, kind))
    }

    /// `$$…$$` and `$…$`, else behind the signs.
    fn dollar_formula(&mut self, at: usize, lines: &[Line], end: usize) -> usize {
        let dollars = &self.signs.dollars;
        let number = dollars.partition_point(|&(start, _)| start < at);
        let Some((_, length)) = dollars.get(number).copied().filter(|&(start, _)| start == at) else { return at + 1 };
        let is_quoted = lines.first().is_some_and(|line| line.is_quoted);
        let kind = KeptKind::Formula { is_quoted };
        let is_marked = lines.first().is_some_and(|line| line.begins_something);
        let is_row = self.source.as_bytes().get(lines.first().map_or(at, |line| line.item_start)) == Some(&b'|');
        let (limit, most) = match length {
            1 => (end, MAX_INLINE_BYTES),
            2 => (if is_marked { end } else { self.end }, usize::MAX),
            _ => return at + length,
        };
        let inside_start = at + length;
        let before = self.source[..at].chars().next_back();
        let is_open = |c: Option<char>| c.is_some_and(|c| !c.is_whitespace());
        if length == 1
            && (!is_open(self.source[inside_start..].chars().next())
                || before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '\\'))
        {
            return inside_start;
        }
        // For `$`, the next sign decides, so that a price looks no farther than to the next price.
        let close = match length {
            1 => dollars.get(number + 1).copied().filter(|&(_, length)| length == 1),
            _ => dollars.get(number + 1).copied().filter(|&(_, length)| length == 2),
        };
        let Some((close, _)) = close.filter(|(close, _)| *close < limit && close - inside_start <= most) else {
            return inside_start;
        };
        let inside = inside_start..close;
        let words = &self.source[inside.clone()];
        let is_formula = !words.trim().is_empty()
            && !self.signs.has_tick(&inside)
            && (length == 2 || is_inline_formula(words, self.source[close + 1..].chars().next()))
            && !(is_row && has_bare_pipe(words));
        if is_formula { self.keep(at..close + length, kind) } else { inside_start }
    }

    /// Behind an address that already stands in angles, which is a link as it is.
    fn behind_angles(&self, at: usize, end: usize) -> usize {
        let rest = &self.source[at + 1..end];
        let length = rest.find(|c: char| c.is_whitespace() || c == '<' || c == '>').unwrap_or(rest.len());
        let is_link = rest.as_bytes().get(length) == Some(&b'>') && rest[..length].contains([':', '@']);
        if is_link { at + 1 + length + 1 } else { at + 1 }
    }

    fn address(&mut self, at: usize, end: usize) -> Option<usize> {
        let rest = &self.source[at..end];
        let scheme =
            ["https://", "http://", "www."].into_iter().find(|start| starts_with_ignoring_case(rest, start))?;
        let before = self.source[self.floor.min(at)..at].chars().next_back();
        let is_word = |c: char| c.is_ascii_alphanumeric() || scheme == "www." && "/.-@:".contains(c);
        if before.is_some_and(is_word) {
            return None;
        }
        let length = address_length(rest, scheme, before)?;
        Some(self.keep(at..at + length, KeptKind::Address))
    }

    fn mail(&mut self, at: usize, end: usize) -> Option<usize> {
        let bytes = self.source.as_bytes();
        let is_local = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_+".contains(byte);
        let back = bytes[self.floor..at].iter().rev().take_while(|byte| is_local(byte)).count();
        let start = at - back;
        let start = start + bytes[start..at].iter().take_while(|byte| !byte.is_ascii_alphanumeric()).count();
        if start == at || bytes[self.floor..start].last().is_some_and(|byte| *byte == b'/') {
            return None;
        }
        let domain = &bytes[at + 1..end];
        let is_domain = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
        let mut length = domain.iter().take_while(|byte| is_domain(byte)).count();
        // The dot is the sentence's; an underscore may belong to one before the address.
        let is_leaning = bytes[self.floor..start].last() == Some(&b'_');
        while domain[..length].last().is_some_and(|last| *last == b'.' || is_leaning && *last == b'_') {
            length -= 1;
        }
        let domain = &domain[..length];
        let is_last_fit = domain.last().is_some_and(u8::is_ascii_alphanumeric);
        let has_parts = domain.contains(&b'.') && domain.split(|byte| *byte == b'.').all(|part| !part.is_empty());
        if !is_last_fit || !has_parts {
            return None;
        }
        let protocol = "mailto:";
        let with_protocol = start.checked_sub(protocol.len()).filter(|begin| *begin >= self.floor);
        let start = with_protocol
            .filter(|begin| self.source.get(*begin..start).is_some_and(|word| word.eq_ignore_ascii_case(protocol)))
            .unwrap_or(start);
        Some(self.keep(start..at + 1 + length, KeptKind::Mail))
    }

    /// Sews a run of `*` or `~` to a neighbour that is punctuation, where on one side a script without spaces stands, so that it is
    /// judged as beside letters.
    fn emphasis(&mut self, at: usize, end: usize) -> usize {
        let bytes = self.source.as_bytes();
        let behind = at + bytes[at..end].iter().take_while(|byte| **byte == bytes[at]).count();
        let before = self.source[..at].chars().next_back().filter(|c| *c != '\n');
        let after = self.source[behind..end].chars().next();
        let (Some(before), Some(after)) = (before, after) else { return behind };
        let is_word = |c: char| !c.is_whitespace() && !is_punctuation(c) && !is_ambiguous(c);
        if is_punctuation(after) && is_word(before) && (is_unspaced(after) || is_unspaced(before)) {
            self.edits.push(Edit { at: behind..behind, kind: None });
            self.floor = behind;
        } else if is_punctuation(before)
            && is_word(after)
            && (is_unspaced(before) || is_unspaced(after))
            && at >= self.floor
        {
            self.edits.push(Edit { at: at..at, kind: None });
            self.floor = at;
        }
        behind
    }
}

/// Whether a text has a sign that prose between brackets has not.
fn looks_like_formula(words: &str) -> bool {
    words.contains(['\\', '^', '_', '=', '<', '>', '{', '}', '+'])
}

/// Whether what stands between two `$` is a formula, and not a text between two prices. `behind`: what follows the second.
fn is_inline_formula(words: &str, behind: Option<char>) -> bool {
    let is_price = words.starts_with(|c: char| c.is_ascii_digit())
        && words.contains(char::is_whitespace)
        && !words.contains(['\\', '^', '_', '=', '<', '>', '{', '}', '+']);
    !words.ends_with(char::is_whitespace)
        && !behind.is_some_and(|c| c.is_ascii_alphanumeric())
        && !words.contains("**")
        && !is_price
}

fn has_bare_pipe(words: &str) -> bool {
    words.match_indices('|').any(|(at, _)| !words[..at].ends_with('\\'))
}

/// How long the address at the beginning of a text is; `None` where it is none.
fn address_length(text: &str, scheme: &str, before: Option<char>) -> Option<usize> {
    let host_start = if scheme == "www." { 0 } else { scheme.len() };
    let host = host_length(&text[host_start..])?;
    let host_name = &text[host_start..host_start + host];
    let name = host_name.rsplit_once('@').map_or(host_name, |(_, name)| name);
    if scheme == "www." && name.bytes().filter(|byte| *byte == b'.').count() < 2 {
        return None;
    }
    let after_host = host_start + host;
    let (mut parentheses, mut brackets) = (0_i32, 0_i32);
    let mut end = text.len();
    for (at, character) in text.char_indices().filter(|(at, _)| *at >= after_host) {
        let is_end = match character {
            '(' => {
                parentheses += 1;
                false
            }
            ')' => {
                parentheses -= 1;
                // What begins behind a parenthesis ends before the next: it may be the target of a link.
                parentheses < 0 && before == Some('(')
            }
            '[' => {
                brackets += 1;
                false
            }
            ']' => {
                brackets -= 1;
                brackets < 0
            }
            '<' | '>' | '"' | '`' | '|' | '\u{7f}' => true,
            '*' | '~' => before == Some(character),
            c => c.is_whitespace() || c.is_control() || is_unspaced(c) && is_punctuation(c) || is_typographic(c),
        };
        // Only a path, a query or a fragment may follow the host.
        if is_end || at == after_host && !matches!(character, '/' | '?' | '#' | ':') {
            end = at;
            break;
        }
    }
    Some(trimmed_address(&text[..end]).len()).filter(|end| *end >= after_host)
}

/// How many characters a host with its user and port has at most.
const HOST_CHARACTERS: usize = 512;

/// The bytes of the host with its user and port; `None` where it is none.
fn host_length(text: &str) -> Option<usize> {
    if let Some(rest) = text.strip_prefix('[') {
        let length = rest.bytes().take_while(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)).count();
        return (length > 1 && rest.as_bytes().get(length) == Some(&b']')).then_some(length + 2);
    }
    let first = text.chars().next()?;
    // A host in such a script is one only from its beginning; else the text goes on there, without a space.
    let takes_unspaced =
        is_unspaced(first) || starts_with_ignoring_case(text, "www.") && text[4..].starts_with(is_unspaced);
    let is_part =
        |c: char| c.is_alphanumeric() && (c.is_ascii() || takes_unspaced || !is_unspaced(c)) || "-_.@:%~".contains(c);
    // What is longer is no host. Without a limit each of many beginnings would be followed to the end of the text.
    let limit = text.char_indices().nth(HOST_CHARACTERS).map_or(text.len(), |(at, _)| at);
    let mut length = text[..limit].find(|c: char| !is_part(c)).unwrap_or(limit);
    if length == limit && limit < text.len() {
        return None;
    }
    // A user's name may stand before the host, a port behind it.
    let at = text[..length].rfind('@').map_or(0, |at| at + 1);
    if let Some(colon) = text[at..length].find(':') {
        let digits = text[at + colon + 1..length].bytes().take_while(u8::is_ascii_digit).count();
        length = if digits > 0 { at + colon + 1 + digits } else { at + colon };
    }
    if let Some(bad) = text[at..length].find(['%', '~']) {
        length = at + bad;
    }
    let host = text[at..length].split(':').next().unwrap_or_default().trim_end_matches(['.', '-', '_']);
    let last_parts = host.rsplit('.').take(2);
    let is_host = !host.is_empty()
        && host.split('.').all(|part| !part.is_empty())
        && last_parts.clone().all(|part| !part.contains('_'));
    let has_port = text[at..length].contains(':');
    is_host.then(|| if has_port { length } else { at + host.len() })
}

/// An address without the marks of the sentence in which it stands.
fn trimmed_address(mut address: &str) -> &str {
    let opening = address.matches('(').count();
    let mut closing = address.matches(')').count();
    loop {
        let Some(last) = address.chars().next_back() else { return address };
        let shorter = &address[..address.len() - last.len_utf8()];
        let is_mark = match last {
            '?' | '!' | '.' | ',' | ':' | '*' | '_' | '~' | '\'' | '"' | '\\' => true,
            ')' if closing > opening => {
                closing -= 1;
                true
            }
            ';' => {
                // What looks like an entity is none of the address.
                let name = shorter.trim_end_matches(|c: char| c.is_ascii_alphanumeric() || c == '#');
                if name.len() < shorter.len() && name.ends_with('&') {
                    address = &name[..name.len() - 1];
                    continue;
                }
                true
            }
            _ => false,
        };
        if !is_mark {
            return address;
        }
        address = shorter;
    }
}

/// Punctuation and symbols, as far as it matters here.
fn is_punctuation(c: char) -> bool {
    match c.is_ascii() {
        true => c.is_ascii_punctuation(),
        false => !c.is_alphanumeric() && !c.is_whitespace() && !is_ambiguous(c) && !is_mark(c),
    }
}

/// Signs of vowels and tones of Thai, Lao, Myanmar and Khmer that count as no letters.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{E31}' | '\u{E34}'..='\u{E3A}' | '\u{E47}'..='\u{E4E}' | '\u{EB1}' | '\u{EB4}'..='\u{EBC}'
        | '\u{EC8}'..='\u{ECE}' | '\u{102B}'..='\u{103E}' | '\u{17B4}'..='\u{17D3}' | '\u{17DD}')
}

/// Marks and signs without a width, of which it is not known here whether they are punctuation.
fn is_ambiguous(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
        | '\u{302A}'..='\u{302F}' | '\u{3099}' | '\u{309A}' | '\u{FE00}'..='\u{FE0F}' | '\u{E0100}'..='\u{E01EF}'
        | '\u{E000}'..='\u{F8FF}' | '\u{FEFF}' | '\u{AD}')
        || c.is_control()
}

/// Whether a character belongs to a script whose words stand without spaces, or is its punctuation.
fn is_unspaced(c: char) -> bool {
    matches!(c,
        // Thai, Lao, Tibetan, Myanmar; Hangul letters; Khmer.
        '\u{E00}'..='\u{FFF}' | '\u{1000}'..='\u{109F}' | '\u{1100}'..='\u{11FF}' | '\u{1780}'..='\u{17FF}'
        // Radicals, punctuation, kana, bopomofo, signs, ideographs.
        | '\u{2E80}'..='\u{9FFF}' | '\u{A960}'..='\u{A97F}' | '\u{AC00}'..='\u{D7FF}' | '\u{F900}'..='\u{FAFF}'
        | '\u{FE30}'..='\u{FE4F}' | '\u{FF00}'..='\u{FFEF}' | '\u{16FE0}'..='\u{1B2FF}' | '\u{1F200}'..='\u{1F2FF}'
        | '\u{20000}'..='\u{3FFFF}')
}

/// Quotation marks and the like that end a bare address; no address holds them unescaped.
fn is_typographic(c: char) -> bool {
    matches!(c, '“' | '”' | '„' | '‘' | '’' | '«' | '»' | '…' | '\u{200B}' | '\u{FEFF}')
}
