//! What a search sees of a text. Pure.
//!
//! Texts are folded: letter case, accents, the width of signs, the kind of quotation marks and hyphens, and signs that are not seen do
//! not count, runs of white space are one space. A folded text is
//! cut into tokens of at most four characters, which the index keeps for each message. They narrow a search down to candidates;
//! whether a candidate is a hit is decided on its text, by [`Needle::find`], so that tokens can never make a search wrong, only slow.

use crate::model::message::Message;
use crate::model::parts::Part;
use crate::model::query::Term;
use crate::model::session::{Match, Summary};
use serde::Deserialize;
use serde_json::Value;
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::LazyLock;
use unicode_normalization::char::{canonical_combining_class, decompose_compatible};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// How many characters a snippet has, about.
const SNIPPET_CHARACTERS: usize = 160;

/// How many characters of a snippet stand before the first hit: few, because a narrow page shows only thirty or so.
const SNIPPET_LEAD: usize = 16;

/// The user name that everybody has who gives none. It is not searched for: every session would be a hit for "user".
const NOBODY: &str = "User";

/// Stands between words in older Ethiopic texts, for which a space is typed.
const ETHIOPIC_SPACE: char = '\u{1361}';

/// What is searched of a message: its content, and of structured tool calls the name, the parameters and the result.
pub fn of_message(message: &Message) -> Cow<'_, str> {
    let tools = message.parts.iter().flatten().filter_map(|part| match part {
        Part::Tool(tool) => Some(tool),
        _ => None,
    });
    let mut text = Cow::Borrowed(message.content.as_str());
    for tool in tools {
        let (arguments, result) = (tool.arguments.as_ref(), tool.result.as_ref());
        push_tool(text.to_mut(), &tool.name, &tool.params, arguments, result);
    }
    text
}

/// The id of a message as it is written to a file, and the same as [`of_message`] of it; `None` for a line that holds none.
pub fn of_line(line: &[u8]) -> Option<(String, String)> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let mut text = line.content.into_owned();
    for part in line.parts.unwrap_or_default().into_iter().filter(|part| part.kind.as_deref() == Some("tool")) {
        let Some(name) = part.name else { continue };
        push_tool(&mut text, &name, &part.params, part.arguments.as_ref(), part.result.as_ref());
    }
    Some((line.id.into_owned(), text))
}

/// What is searched of a line; everything else in it is passed over without being taken apart.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(borrow, default)]
    parts: Option<Vec<LinePart<'a>>>,
}

#[derive(Deserialize)]
struct LinePart<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Cow<'a, str>,
    arguments: Option<Value>,
    result: Option<Value>,
}

fn push_tool(text: &mut String, name: &str, params: &str, arguments: Option<&Value>, result: Option<&Value>) {
    text.push_str("\n🛠️ ");
    text.push_str(name);
    text.push('(');
    match arguments {
        Some(arguments) if params.is_empty() => push_json(text, arguments),
        _ => text.push_str(params),
    }
    text.push(')');
    if let Some(result) = result {
        text.push_str(" → ");
        push_json(text, result);
    }
}

fn push_json(text: &mut String, value: &Value) {
    match value {
        Value::String(value) => text.push_str(value),
        other => text.push_str(&other.to_string()),
    }
}

/// What is searched of a session besides its messages: title, tags, and the person's name unless it is everybody's.
pub fn of_head(summary: &Summary) -> String {
    let name = Some(&summary.user_name).filter(|name| *name != NOBODY);
    let lines: Vec<&str> = summary.title.iter().chain(&summary.tags).chain(name).map(String::as_str).collect();
    lines.join("\n")
}

/// Folds a text.
pub fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut each = |piece: Piece<'_>, _| match piece {
        Piece::Ascii(run) => folded.push_str(run),
        Piece::Character(c) => folded.push(c),
    };
    fold_each(text, &mut each, &mut || true);
    folded.make_ascii_lowercase();
    folded
}

/// What a folded text is put together from.
enum Piece<'a> {
    /// Characters as they stand in the text, but for the letter case.
    Ascii(&'a str),
    /// A folded character.
    Character(char),
}

/// Folds a text and calls back with each piece and the first byte of what it stands for, as long as that is wanted.
fn fold_each(text: &str, each: &mut impl FnMut(Piece<'_>, usize), goes_on: &mut impl FnMut() -> bool) {
    let bytes = text.as_bytes();
    let mut at = 0;
    // Where white space stands that is written before the next character.
    let mut space = None;
    let mut is_begun = false;
    let mut cluster = String::new();
    while at < bytes.len() && goes_on() {
        let run = plain_run(&bytes[at..]);
        if run > 0 {
            if let Some(space) = space.take() {
                each(Piece::Character(' '), space);
            }
            is_begun = true;
            each(Piece::Ascii(&text[at..at + run]), at);
            at += run;
            continue;
        }
        let mut characters = text[at..].chars();
        let Some(c) = characters.next() else { break };
        let begin = at;
        at += c.len_utf8();
        let next = characters.clone().next();
        if c.is_whitespace() || c.is_control() || c == ETHIOPIC_SPACE {
            space = space.or(is_begun.then_some(begin));
            continue;
        }
        let mut emit = |folded| {
            if let Some(space) = space.take() {
                each(Piece::Character(' '), space);
            }
            is_begun = true;
            each(Piece::Character(folded), begin);
        };
        if next.is_none_or(|next| !is_joined(next))
            && let Some(folded) = folded_alone(c)
        {
            emit(folded);
            continue;
        }
        cluster.clear();
        cluster.push(c);
        for mark in characters.take_while(|next| is_joined(*next)) {
            cluster.push(mark);
            at += mark.len_utf8();
        }
        fold_cluster(&cluster, &mut emit);
    }
}

/// How many bytes are ASCII that stays as it is but for the letter case: words with single spaces between them. Nearly all of most
/// texts is. A last character that a mark may follow is left out.
fn plain_run(bytes: &[u8]) -> usize {
    let mut run = 0;
    loop {
        match bytes[run..] {
            [byte, ..] if byte.is_ascii_graphic() => run += 1,
            [b' ', next, ..] if run > 0 && next.is_ascii_graphic() => run += 2,
            [byte, ..] if !byte.is_ascii() => return run.saturating_sub(1),
            _ => return run,
        }
    }
}

/// What a common character is folded to where no mark follows.
fn folded_alone(c: char) -> Option<char> {
    match c {
        // Chinese and Korean signs stay as they are.
        '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7A3}' => Some(c),
        _ => FOLDED_ALONE.get(c as usize).copied().flatten(),
    }
}

/// Most letters of alphabets, marks and Japanese syllables, which are looked up much faster than they are taken apart.
static FOLDED_ALONE: LazyLock<Vec<Option<char>>> = LazyLock::new(|| {
    let alone = |c: char| {
        let mut folded = Vec::new();
        fold_cluster(c.encode_utf8(&mut [0; 4]), &mut |c| folded.push(c));
        match folded[..] {
            [one] => Some(one),
            _ => None,
        }
    };
    ('\0'..'\u{3100}').map(alone).collect()
});

/// Whether a character belongs to the one before it: a mark, a part of a sign that may also be written as one, or nothing that is
/// seen.
fn is_joined(c: char) -> bool {
    if is_surely_alone(c) {
        return false;
    }
    // Korean syllables may be written in parts, half-width Japanese ones with a voicing mark of their own; three Tibetan vowels are
    // two marks in one.
    let is_part = matches!(c, '\u{1160}'..='\u{11FF}' | '\u{FF9E}' | '\u{FF9F}' | '\u{F73}' | '\u{F75}' | '\u{F81}');
    is_part
        || canonical_combining_class(c) != 0
        || is_ignored(c)
        // Vowels of Indian scripts that make one sign with the vowel before them.
        || is_nfc_quick(std::iter::once(c)) == IsNormalized::Maybe
}

/// Common characters that never belong to the one before them, of which this need not be looked up.
fn is_surely_alone(c: char) -> bool {
    matches!(c, '\0'..='\u{AC}' | '\u{AE}'..='\u{2FF}' | '\u{370}'..='\u{482}' | '\u{2010}'..='\u{2029}')
        || matches!(c, '\u{3041}'..='\u{3098}' | '\u{30A0}'..='\u{3163}' | '\u{3165}'..='\u{A66E}' | '\u{AC00}'..='\u{D7A3}')
}

/// Characters that are not seen: what Unicode calls ignorable by default. Soft hyphens, joiners, variation selectors, marks of
/// direction, fillers.
fn is_ignored(c: char) -> bool {
    matches!(
        c,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
    ) || matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}')
        || matches!(c, '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFF8}')
        || matches!(c, '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
}

/// Accents and points that do not count: Latin, Greek and Cyrillic ones, Armenian marks of stress, exclamation and question, which
/// stand within words, Hebrew points, Arabic vowels and lengthening, and those that enclose. Between the Hebrew points Unicode has
/// signs that stand by themselves.
fn is_accent(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36F}' | '\u{55B}' | '\u{55C}' | '\u{55E}' | '\u{640}' | '\u{64B}'..='\u{65F}' | '\u{670}')
        || matches!(c, '\u{591}'..='\u{5BD}' | '\u{5BF}' | '\u{5C1}' | '\u{5C2}' | '\u{5C4}' | '\u{5C5}' | '\u{5C7}')
        || matches!(c, '\u{1AB0}'..='\u{1AFF}' | '\u{1DC0}'..='\u{1DFF}' | '\u{20D0}'..='\u{20FF}' | '\u{FE20}'..='\u{FE2F}')
}

/// A Korean letter that stands by itself, of full width. Taken apart, it would become part of a syllable.
fn korean_letter(c: char) -> Option<char> {
    let first = match c {
        '\u{3131}'..='\u{318E}' => return Some(c),
        '\u{FFA1}'..='\u{FFBE}' => 0x3131 - 0xFFA1,
        '\u{FFC2}'..='\u{FFC7}' => 0x314F - 0xFFC2,
        '\u{FFCA}'..='\u{FFCF}' => 0x3155 - 0xFFCA,
        '\u{FFD2}'..='\u{FFD7}' => 0x315B - 0xFFD2,
        '\u{FFDA}'..='\u{FFDC}' => 0x3161 - 0xFFDA,
        _ => return None,
    };
    u32::from(c).checked_add_signed(first).and_then(char::from_u32)
}

/// What is typed for signs that would be taken apart into something else: acute accents and a Greek breathing that stand for an
/// apostrophe, and the sign for inches.
fn typed_for(c: char) -> Option<char> {
    match c {
        '\u{B4}' | '\u{1FFD}' | '\u{1FBD}' => Some('\''),
        '\u{2033}' => Some('"'),
        _ => None,
    }
}

/// Folds a character with the marks that follow it.
fn fold_cluster(cluster: &str, emit: &mut impl FnMut(char)) {
    let mut parts = String::new();
    let seen = || cluster.chars().filter(|c| !is_ignored(*c));
    let is_on_sign = seen().next().is_some_and(|first| canonical_combining_class(first) == 0);
    for (position, c) in seen().enumerate() {
        // What stands on a sign that is folded to nothing goes with it, else it would belong to another sign when folded again.
        if position > 0 && is_on_sign && parts.is_empty() {
            return;
        }
        if let Some(whole) = korean_letter(c).or_else(|| typed_for(c)) {
            parts.push(whole);
            continue;
        }
        for lower in c.to_lowercase() {
            // A mark that stands by itself is written as a space with the mark (¨, ゛).
            let mut follows_space = false;
            decompose_compatible(lower, |part| {
                follows_space = part.is_whitespace() || follows_space && canonical_combining_class(part) != 0;
                if !is_accent(part) && !follows_space {
                    parts.push(part);
                }
            });
        }
    }
    // A compatibility form may hold capitals (℡).
    for c in parts.nfc().flat_map(char::to_lowercase) {
        match c {
            'ß' => "ss".chars().for_each(&mut *emit),
            'æ' => "ae".chars().for_each(&mut *emit),
            'œ' => "oe".chars().for_each(&mut *emit),
            'ø' => emit('o'),
            'ł' => emit('l'),
            'đ' | 'ð' => emit('d'),
            'ı' => emit('i'),
            'ς' => emit('σ'),
            // What is typed on keyboards that do not have these: typographic signs, letters and primes that stand for apostrophes,
            // and those of Armenian, Hebrew, Mongolian and Japanese.
            '\u{2018}'..='\u{201B}' | '\u{2032}' | '\u{2B9}' | '\u{2BB}'..='\u{2BF}' => emit('\''),
            '\u{55A}' | '\u{5F3}' | '\u{A78C}' => emit('\''),
            '\u{201C}'..='\u{201F}' | '\u{2BA}' | '\u{5F4}' | '\u{301D}'..='\u{301F}' => emit('"'),
            '\u{2010}'..='\u{2013}' | '\u{2212}' | '\u{58A}' | '\u{5BE}' | '\u{1806}' => emit('-'),
            '\u{2044}' => emit('/'),
            c => emit(c),
        }
    }
}

/// What a character is to the tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    /// Written in words that spaces or marks end.
    Letter,
    /// Written without spaces, so that each sign may begin a word.
    Sign,
    /// Anything else that is seen.
    Mark,
}

fn class(c: char) -> Class {
    match c {
        ' ' => Class::Space,
        'a'..='z' | '0'..='9' => Class::Letter,
        '\0'..='\x7f' => Class::Mark,
        '\u{E00}'..='\u{EFF}' | '\u{1000}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' => Class::Sign,
        '\u{1100}'..='\u{11FF}' | '\u{2E80}'..='\u{2FDF}' | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{318F}' => {
            Class::Sign
        }
        '\u{31A0}'..='\u{31FF}' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{A960}'..='\u{A97F}' => {
            Class::Sign
        }
        '\u{AC00}'..='\u{D7FF}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}' => Class::Sign,
        c if c.is_alphanumeric() => Class::Letter,
        // Indian scripts have marks among their letters: those that end sentences or shorten words.
        '\u{964}' | '\u{965}' | '\u{970}' | '\u{DF4}' => Class::Mark,
        // Vowel signs of Indian scripts are part of the word.
        c if canonical_combining_class(c) != 0 || matches!(c, '\u{900}'..='\u{DFF}') => Class::Letter,
        _ => Class::Mark,
    }
}

/// A token: up to four characters in 64 bits, or the hash of a word.
pub type Token = u64;

/// Stand before the first characters of a word, and behind its last ones; no folded text holds them.
const WORD_BEGIN: u16 = 1;
const WORD_END: u16 = 2;

/// Stands before the hash of a word.
const WORD: u16 = 0xFFFF;

/// From this length on, in characters, a word has a token of its own.
const LONG_WORD: usize = 5;

fn token(units: [u16; 4]) -> Token {
    units.into_iter().fold(0, |token, unit| token << 16 | u64::from(unit))
}

/// A character in 16 bits. Those that need more share the private ones, so that such a token may stand for several texts.
fn unit(c: char) -> u16 {
    let code = u32::from(c);
    match u16::try_from(code) {
        Ok(unit) if unit < WORD => unit,
        _ => 0xE000 + (code % 0x1800) as u16,
    }
}

/// Whether a character's unit stands for no other one.
fn has_own_unit(c: char) -> bool {
    !matches!(u32::from(c), 0xE000..=0xF8FF | 0xFFFF..)
}

/// The token of a whole word.
fn word_token(word: &[char]) -> Token {
    // FNV-1a, which never changes; the index is written with it.
    let hash = word
        .iter()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, c| (hash ^ u64::from(u32::from(*c))).wrapping_mul(0x0100_0000_01B3));
    u64::from(WORD) << 48 | (hash ^ hash >> 48) & 0xFFFF_FFFF_FFFF
}

/// Calls back with the tokens of a folded text, in order, repeated ones repeatedly: the first one and two letters of each word, every
/// four letters in a row and the last three of a word, each long word, every sign and mark, and every two characters in a row of
/// which one is no letter.
pub fn tokens(folded: &str, mut each: impl FnMut(Token)) {
    cut(folded, true, true, &mut each);
}

/// Cuts a text into tokens. Where the text is a piece of another, its first word may be the end of one, its last the beginning.
fn cut(folded: &str, begins_word: bool, ends_word: bool, each: &mut impl FnMut(Token)) {
    let mut word: Vec<char> = Vec::with_capacity(24);
    let mut characters = folded.chars().peekable();
    let mut is_first = true;
    while let Some(c) = characters.next() {
        let kind = class(c);
        if kind == Class::Letter {
            word.clear();
            word.push(c);
            while let Some(next) = characters.next_if(|next| class(*next) == Class::Letter) {
                word.push(next);
            }
            let begins = begins_word || !is_first;
            let ends = ends_word || characters.peek().is_some();
            cut_word(&word, begins, ends, each);
            is_first = false;
            if let (Some(last), Some(next)) = (word.last(), characters.peek().filter(|next| **next != ' ')) {
                each(token([0, 0, unit(*last), unit(*next)]));
            }
            continue;
        }
        is_first = false;
        if kind != Class::Space {
            each(token([0, 0, 0, unit(c)]));
            if let Some(next) = characters.peek().filter(|next| **next != ' ') {
                each(token([0, 0, unit(c), unit(*next)]));
            }
        }
    }
}

/// Cuts a word, or a piece of one.
fn cut_word(word: &[char], begins: bool, ends: bool, each: &mut impl FnMut(Token)) {
    if let (true, [first, rest @ ..]) = (begins, word) {
        each(token([WORD_BEGIN, 0, 0, unit(*first)]));
        if let Some(second) = rest.first() {
            each(token([WORD_BEGIN, 0, unit(*first), unit(*second)]));
        }
    }
    for four in word.windows(4) {
        each(token([unit(four[0]), unit(four[1]), unit(four[2]), unit(four[3])]));
    }
    if let (true, [.., a, b, c]) = (ends, word) {
        each(token([unit(*a), unit(*b), unit(*c), WORD_END]));
    }
    if begins && ends && word.len() >= LONG_WORD {
        each(word_token(word));
    }
}

/// What is looked for, folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needle {
    folded: String,
    /// Whether it must stand at the beginning of a word.
    at_begin: bool,
    /// Whether it must stand at the end of a word.
    at_end: bool,
}

/// How candidates for a needle are found among tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Texts that have all of these; never empty.
    All(Vec<Token>),
    /// Texts that have any from the first to the last of these.
    Range(Token, Token),
}

impl Needle {
    /// The needle of a term; `None` if nothing of it is left when it is folded.
    ///
    /// A phrase is found as whole words, one or two letters at the beginning of a word, anything else anywhere.
    pub fn new(term: &Term) -> Option<Self> {
        let folded = fold(&term.text);
        let (first, last) = (class(folded.chars().next()?), class(folded.chars().next_back()?));
        let is_short = folded.chars().count() <= 2 && folded.chars().all(|c| class(c) == Class::Letter);
        Some(Self {
            at_begin: (term.is_phrase || is_short) && first == Class::Letter,
            at_end: term.is_phrase && last == Class::Letter,
            folded,
        })
    }

    fn is_letters(&self) -> bool {
        self.folded.chars().all(|c| class(c) == Class::Letter)
    }

    /// What every text has that holds the needle.
    pub fn lookup(&self) -> Lookup {
        let mut tokens = Vec::new();
        cut(&self.folded, self.at_begin, self.at_end, &mut |token| tokens.push(token));
        if tokens.is_empty() {
            // Three letters of any word: four of it begin with them, or it ends with them.
            let first = self.folded.chars().fold(0, |token, c| token << 16 | u64::from(unit(c))) << 16;
            return Lookup::Range(first, first | 0xFFFF);
        }
        tokens.sort_unstable();
        tokens.dedup();
        // A whole word implies its letters, and the first two letters the first one: what is implied need not be looked up.
        if self.is_letters() && tokens.len() > 1 {
            let is_word = |token: &Token| token >> 48 == u64::from(WORD);
            if tokens.iter().any(is_word) {
                tokens.retain(is_word);
            } else {
                tokens.retain(|token| token >> 48 != u64::from(WORD_BEGIN) || token >> 16 & 0xFFFF != 0);
            }
        }
        Lookup::All(tokens)
    }

    /// The token of the needle as a whole word, where texts that have it are sure to hold the needle.
    pub fn word(&self) -> Option<Token> {
        let word: Vec<char> = self.folded.chars().collect();
        (word.len() >= LONG_WORD && self.is_letters()).then(|| word_token(&word))
    }

    /// Whether a text that the tokens give is sure to hold the needle.
    pub fn is_exact(&self) -> bool {
        let count = self.folded.chars().count();
        let has_own_units = self.folded.chars().all(has_own_unit);
        let is_one_token = match (self.is_letters(), self.at_begin, self.at_end) {
            (true, true, true) => count >= LONG_WORD,
            (true, true, false) => count <= 2,
            (true, false, false) => matches!(count, 3 | 4),
            (false, false, false) => count <= 2,
            _ => false,
        };
        is_one_token && has_own_units
    }

    /// Where it stands first in a folded text, in bytes.
    pub fn find(&self, folded: &str) -> Option<usize> {
        self.places(folded).next()
    }

    /// Where it stands in a folded text, in bytes.
    pub fn places<'a>(&'a self, folded: &'a str) -> impl Iterator<Item = usize> + 'a {
        let is_letter = |c: Option<char>| c.is_some_and(|c| class(c) == Class::Letter);
        occurrences(folded, &self.folded).filter(move |start| {
            let end = start + self.folded.len();
            !(self.at_begin && is_letter(folded[..*start].chars().next_back())
                || self.at_end && is_letter(folded[end..].chars().next()))
        })
    }

    /// How many times it stands in a folded text, and how many of them as whole words.
    pub fn count(&self, folded: &str) -> (usize, usize) {
        let is_letter = |c: Option<char>| c.is_some_and(|c| class(c) == Class::Letter);
        self.places(folded).fold((0, 0), |(all, whole), start| {
            let is_whole = !is_letter(folded[..start].chars().next_back())
                && !is_letter(folded[start + self.folded.len()..].chars().next());
            (all + 1, whole + usize::from(is_whole))
        })
    }
}

/// Where `needle` occurs in `text`, overlapping occurrences included.
fn occurrences<'a>(text: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + text.get(from..)?.find(needle)?;
        from = start + needle.chars().next().map_or(1, char::len_utf8);
        Some(start)
    })
}

/// The part of a text in which the first needle stands, and the places of all needles in it; `None` if none stands in the text.
/// `folded` is the whole text, folded.
pub fn excerpt(message_id: &str, text: &str, folded: &str, needles: &[&Needle]) -> Option<Match> {
    let first = needles.iter().filter_map(|needle| needle.find(folded)).min()?;
    let first = origin(text, first);
    let mut start = back(text, first, SNIPPET_LEAD);
    let end = forth(text, start, SNIPPET_CHARACTERS);
    if end == text.len() {
        start = start.min(back(text, end, SNIPPET_CHARACTERS));
    }
    // A word that is cut at the beginning is left out, unless it is the hit itself.
    if start > 0
        && let Some((space, c)) =
            text[start..first].char_indices().take(SNIPPET_LEAD / 2).find(|(_, c)| c.is_whitespace())
    {
        start += space + c.len_utf8();
    }
    // What lies around says whether a word begins or ends, and what a hit goes on with. A mark belongs to what stands before it.
    let margin = needles.iter().map(|needle| needle.folded.len()).max().unwrap_or(0) + 4;
    let mut begin = back(text, start, margin);
    begin += text[begin..].chars().take_while(|c| is_joined(*c)).map(char::len_utf8).sum::<usize>();
    let around = &text[begin..forth(text, end, margin)];
    let in_snippet = |(from, to): &(usize, usize)| *from < end && *to > start;
    let mut ranges: Vec<_> = places_in_original(around, begin, needles).into_iter().filter(in_snippet).collect();
    if ranges.is_empty() {
        // A hit with a long stretch of white space in it.
        ranges = places_in_original(text, 0, needles).into_iter().filter(in_snippet).collect();
    }
    let snippet = &text[start..end];
    let position = |byte: usize| snippet[..byte.clamp(start, end) - start].chars().count();
    let mut joined: Vec<(usize, usize)> = Vec::new();
    for (from, to) in ranges {
        let (from, to) = (position(from), position(to));
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    Some(Match { message_id: message_id.to_owned(), snippet: snippet.to_owned(), ranges: joined })
}

/// The byte that lies so many characters before another.
fn back(text: &str, byte: usize, characters: usize) -> usize {
    text[..byte].char_indices().rev().take(characters).last().map_or(byte, |(at, _)| at)
}

/// The byte that lies so many characters after another.
fn forth(text: &str, byte: usize, characters: usize) -> usize {
    text[byte..].char_indices().nth(characters).map_or(text.len(), |(at, _)| byte + at)
}

/// The first byte of what a byte of the folded text stands for.
fn origin(text: &str, folded_byte: usize) -> usize {
    let (byte, found) = (Cell::new(0), Cell::new(None));
    let mut look = |piece: Piece<'_>, origin| {
        let (length, within) = match piece {
            Piece::Ascii(run) => (run.len(), folded_byte.saturating_sub(byte.get())),
            Piece::Character(c) => (c.len_utf8(), 0),
        };
        if byte.get() + length > folded_byte && found.get().is_none() {
            found.set(Some(origin + within));
        }
        byte.set(byte.get() + length);
    };
    fold_each(text, &mut look, &mut || found.get().is_none());
    found.get().unwrap_or(0)
}

/// Where needles stand in a text that begins at the byte `begin` of another, in bytes of that other, in order.
fn places_in_original(text: &str, begin: usize, needles: &[&Needle]) -> Vec<(usize, usize)> {
    let mut folded = String::with_capacity(text.len());
    // For each byte of the folded text the first byte of what it stands for.
    let mut origins = Vec::with_capacity(text.len() + 1);
    let mut each = |piece: Piece<'_>, origin| match piece {
        Piece::Ascii(run) => {
            folded.push_str(run);
            origins.extend(origin..origin + run.len());
        }
        Piece::Character(c) => {
            folded.push(c);
            origins.resize(folded.len(), origin);
        }
    };
    fold_each(text, &mut each, &mut || true);
    folded.make_ascii_lowercase();
    let mut ranges = Vec::new();
    for needle in needles {
        for place in needle.places(&folded) {
            let last = origins[place + needle.folded.len() - 1];
            // To the end of the character, with its marks.
            let rest = text[last..].char_indices().skip(1).find(|(_, c)| !is_joined(*c));
            ranges.push((begin + origins[place], begin + rest.map_or(text.len(), |(at, _)| last + at)));
        }
    }
    ranges.sort_unstable();
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn needle(text: &str) -> Needle {
        let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        Needle::new(&Term { text: quoted.unwrap_or(text).into(), is_phrase: quoted.is_some() }).unwrap()
    }

    fn cut_out(text: &str, needles: &[Needle]) -> Option<Match> {
        excerpt("m", text, &fold(text), &needles.iter().collect::<Vec<_>>())
    }

    /// Texts in which signs become several, several become one, and some become none.
    const ODD: &str = "[aB'’\\-\u{2011}\u{AD}\u{200B}ﬁﬃßæ½…ﾊｶ\u{FF9E}\u{FF9F}パか\u{3099}\u{309A}\u{301}\u{640}كت\u{651}각\u{1100}\u{1161}\u{11A8}ㅋ\u{9C7}\u{9BE} \n]{0,30}";

    fn finds(text: &str, term: &str) -> bool {
        needle(term).find(&fold(text)).is_some()
    }

    #[test]
    fn case_accents_and_width_do_not_count() {
        for (text, folded) in [
            ("Crème BRÛLÉE", "creme brulee"),
            ("Cre\u{300}me", "creme"),
            ("STRASSE straße", "strasse strasse"),
            ("İstanbul ılık", "istanbul ilik"),
            ("Ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
            ("が か\u{3099}", "が が"),
            ("한글 \u{1112}\u{1161}\u{11ab}", "한글 한"),
            ("a\r\n\t b\u{A0}c ", "a b c"),
            ("ΟΔΟΣ οδός", "οδοσ οδοσ"),
            ("Ёлка", "елка"),
            ("🛠️ tool", "🛠 tool"),
            ("soft\u{AD}hyphen", "softhyphen"),
            ("सिक्का", "सिक्का"),
            ("x\u{301}", "x"),
            ("a´b か゛", "a'b か"),
            ("\u{FDFA}", "صلىاللهعليهوسلم"),
            ("ㅋㅋ ﾡￂￜ", "ㅋㅋ ㄱㅏㅣ"),
        ] {
            assert_eq!(fold(text), folded, "{text:?}");
        }
    }

    #[test]
    fn what_keyboards_do_not_have_is_found_by_what_they_have() {
        for (text, folded) in [
            ("ﾊﾟｽﾜｰﾄﾞ ｶﾞｷﾞ ｳﾞｧ ｱﾞ", "パスワード ガギ ヴァ ア\u{3099}"),
            ("don’t ‘so’ okinaʻs ʼn \u{149}", "don't 'so' okina's 'n 'n"),
            ("co\u{2010}op co\u{2011}op 1\u{2012}2 3–4 \u{2212}5 －6", "co-op co-op 1-2 3-4 -5 -6"),
            ("„so“ “so” ‟so", "\"so\" \"so\" \"so"),
            (
                "soft\u{AD}hyphen zero\u{200B}width no\u{2060}break \u{FEFF}mark ab\u{E0020}c",
                "softhyphen zerowidth nobreak mark abc",
            ),
            ("a\u{200D}b a\u{34F}b a\u{61C}b a\u{180E}b a\u{3164}b a\u{FFA0}b a\u{115F}b", "ab ab ab ab ab ab ab"),
            ("x \u{200B} y\u{AD} z", "x y z"),
            ("ﬁne oﬃce ﬅ ĳs ﬓ", "fine office st ijs \u{574}\u{576}"),
            ("كـــتاب مـَرحبا", "كتاب مرحبا"),
            ("½ ² ① ㎏ ℌ ｢x｣ … ™", "1/2 2 1 kg h 「x」 ... tm"),
            ("1\u{FE0F}\u{20E3} e\u{20DD} o\u{1DC4}", "1 e o"),
            ("ক\u{9C7}\u{9BE} ক\u{9CB} க\u{BC6}\u{BBE}", "ক\u{9CB} ক\u{9CB} க\u{BCA}"),
        ] {
            assert_eq!(fold(text), folded, "{text:?}");
        }
        // What only looks the same is another word.
        for (one, other) in [("раураl", "paypal"), ("ΑΒΓ", "abγ"), ("1O", "10"), ("—", "-"), ("一", "-"), ("ー", "-")]
        {
            assert_ne!(fold(one), fold(other), "{one:?}");
        }
    }

    #[test]
    fn signs_of_other_scripts_are_found_by_what_is_typed_for_them() {
        for (text, folded) in [
            // Hebrew: what stands between words or in their place is no point of a letter.
            ("בֵּית\u{5BE}סֵפֶר", "בית-ספר"),
            ("אמר\u{5C0} דבר\u{5C3}סוף\u{5C6}", "אמר\u{5C0} דבר\u{5C3}סוף\u{5C6}"),
            ("צה\u{5F4}ל ג\u{5F3}ירפה", "צה\"ל ג'ירפה"),
            // Armenian: a hyphen, an apostrophe, and the marks of emphasis, exclamation and question, which stand within words.
            ("Հայ\u{58A}ֆրանս դ\u{55A}Արտ", "հայ-ֆրանս դ'արտ"),
            ("Ինչո\u{55E}ւ պահի\u{55B}ր կեցցե\u{55C}", "ինչու պահիր կեցցե"),
            ("5\u{2032} 6\u{2033} d\u{B4}or d\u{1FFD}or", "5' 6\" d'or d'or"),
            (
                "\u{2BB}okina \u{2BC}n ob\u{2BA}ekt mat\u{2B9} \u{2BF}ayn tlapal\u{A78C} ἀλλ\u{1FBD} α\u{374}",
                "'okina 'n ob\"ekt mat' 'ayn tlapal' αλλ' α'",
            ),
            ("\u{301D}はい\u{301F} ＂ａ＇ｂ－ｃ，ｄ？＂", "\"はい\" \"a'b-c,d?\""),
            ("ሰላም\u{1361}ዓለም ᠮ\u{1806}ᠠ", "ሰላም ዓለም ᠮ-ᠠ"),
        ] {
            assert_eq!(fold(text), folded, "{text:?}");
        }
        for (text, term) in [
            ("בית\u{5BE}ספר", "בית-ספר"),
            ("בית\u{5BE}ספר", "\"ספר\""),
            ("בית\u{5BE}ספר", "\"בית\""),
            ("בית-ספר", "בית\u{5BE}ספר"),
            ("דבר\u{5C3}סוף", "\"סוף\""),
            ("צה\u{5F4}ל", "צה\"ל"),
            ("مرحبا\u{60C}كيف حالك\u{61F}", "\"كيف حالك\""),
            ("أولا\u{61B}ثانيا", "\"ثانيا\""),
            ("ሰላም\u{1361}ዓለም", "\"ሰላም ዓለም\""),
            ("བོད\u{F0B}སྐད", "\"སྐད\""),
            ("नमस्ते\u{964}", "\"नमस्ते\""),
            ("राम\u{965}सीता", "\"सीता\""),
        ] {
            assert!(finds(text, term), "{term} in {text}");
        }
        assert!(!finds("שלום", "של-ום") && !finds("बच्चा", "\"बच\""));
    }

    #[test]
    fn both_ways_of_writing_find_each_other() {
        for (text, term) in [
            ("Das ﾊﾟｽﾜｰﾄﾞ ist neu", "パスワード"),
            ("Das パスワード ist neu", "ﾊﾟｽﾜｰﾄﾞ"),
            ("it’s over", "it's"),
            ("it's over", "\"it’s over\""),
            ("a co\u{2011}operative", "co-operative"),
            ("a co-operative", "\"co\u{2010}operative\""),
            ("Donau\u{AD}dampf\u{AD}schiff", "donaudampfschiff"),
            ("Donaudampfschiff", "\"donau\u{200B}dampfschiff\""),
            ("the oﬃce", "\"office\""),
            ("the office", "oﬃce"),
            ("مرحـــبا بك", "مرحبا"),
            ("say „yes“ now", "\u{201C}yes"),
        ] {
            assert!(finds(text, term), "{term} in {text}");
        }
        // What is not seen ends no word.
        assert!(!finds("Donau\u{AD}dampf", "\"dampf\"") && !finds("Donau\u{200B}dampf", "da"));
    }

    #[test]
    fn hits_of_folded_signs_cover_the_signs_as_written() {
        for (text, term, marked) in [
            ("ein ﾊﾟｽﾜｰﾄﾞ!", "パスワード", "ﾊﾟｽﾜｰﾄﾞ"),
            ("ein ﾊﾟｽﾜｰﾄﾞ!", "パ", "ﾊﾟ"),
            ("Ein Pass\u{AD}wort!", "passwort", "Pass\u{AD}wort"),
            ("Ein Pass\u{AD}wort!", "pass", "Pass\u{AD}"),
            ("\u{FEFF}pass it", "pass", "pass"),
            ("an oﬃce block", "office", "oﬃce"),
            ("an oﬃce block", "fic", "ﬃc"),
            ("it’s … so", "it's ...", "it’s …"),
            ("كـــتاب", "كتاب", "كـــتاب"),
            ("put ½ in", "1/2", "½"),
            ("co\u{2011}op", "co-op", "co\u{2011}op"),
        ] {
            let found = cut_out(text, &[needle(term)]).unwrap();
            let (from, to) = found.ranges[0];
            let range: String = found.snippet.chars().skip(from).take(to - from).collect();
            assert_eq!((range.as_str(), found.ranges.len()), (marked, 1), "{term} in {text}");
        }
    }

    #[test]
    fn what_unicode_calls_the_same_is_folded_to_the_same() {
        for c in ('\0'..=char::MAX).filter(|c| !c.is_whitespace()) {
            let taken_apart: String = c.nfd().collect();
            assert_eq!(fold(&taken_apart), fold(c.encode_utf8(&mut [0; 4])), "{c:?}");
        }
    }

    #[test]
    fn every_character_is_folded_once_and_for_all() {
        for c in '\0'..=char::MAX {
            let folded = fold(c.encode_utf8(&mut [0; 4]));
            assert_eq!(fold(&folded), folded, "{c:?}");
        }
    }

    #[test]
    fn what_is_surely_alone_is_never_joined() {
        let alone = ('\0'..=char::MAX).filter(|c| is_surely_alone(*c));
        for c in alone {
            let is_part = is_nfc_quick(std::iter::once(c)) == IsNormalized::Maybe;
            assert!(canonical_combining_class(c) == 0 && !is_ignored(c) && !is_part, "{c:?}");
        }
    }

    #[test]
    fn terms_are_found_where_people_expect_them() {
        for (text, term) in [
            ("The Weather in Rome", "weather"),
            ("The Weather in Rome", "eath"),
            ("The Weather in Rome", "r"),
            ("The Weather in Rome", "ro"),
            ("今天天气很好", "天气"),
            ("今天天气很好", "气"),
            ("fn main() -> Result", "->"),
            ("fn main() -> Result", "main()"),
            ("see https://example.org/a?b=c#d", "example.org/a?b="),
            ("C++ and C#", "c++"),
            ("a part of the whole", "\"part of\""),
            ("one\n  two", "\"one two\""),
            ("日本語とEnglish", "とeng"),
        ] {
            assert!(finds(text, term), "{term} in {text}");
        }
        for (text, term) in [
            ("The Weather", "ea"),
            ("The Weather", "e"),
            ("a part of", "\"art of\""),
            ("a part of", "\"part o\""),
            ("天 气", "天气"),
        ] {
            assert!(!finds(text, term), "{term} in {text}");
        }
    }

    #[test]
    fn excerpts_mark_the_hits_in_the_original() {
        let long = format!("{} the İstanbul Wéather, and weather again {}", "é".repeat(500), "ü".repeat(500));
        let found = cut_out(&long, &[needle("weather"), needle("stanb")]).unwrap();
        assert!(found.snippet.chars().count() <= SNIPPET_CHARACTERS);
        let marked: Vec<String> = found
            .ranges
            .iter()
            .map(|(start, end)| found.snippet.chars().skip(*start).take(end - start).collect())
            .collect();
        assert_eq!(marked, ["stanb", "Wéather", "weather"]);
        let short = cut_out("sunny", &[needle("sun"), needle("unn")]).unwrap();
        assert_eq!((short.snippet.as_str(), short.ranges), ("sunny", vec![(0, 4)]));
        assert_eq!(cut_out("sunny", &[needle("moon")]), None);
        let ligature = cut_out("Größe ﬁn", &[needle("ss"), needle("sse")]).unwrap();
        assert_eq!(ligature.ranges, [(3, 5)]);
    }

    #[test]
    fn a_line_gives_what_its_message_gives() {
        for message in [
            serde_json::json!({"id":"a","parent_id":null,"role":"user","content":"Zoë \"said\"\n","timestamp":""}),
            serde_json::json!({"id":"b","parent_id":"a","role":"assistant","content":"x","timestamp":"","parts":[
                {"type":"reasoning","text":"hm"}, {"type":"text","text":"x"}, {"type":"picture"},
                {"type":"tool","name":"web","params":"a=1","context":"","result":{"b":[2]}},
                {"type":"tool","name":"clock","params":"","context":"","arguments":{"zone":"UTC"},"result":"noon"},
                {"type":"tool","name":"none"}]}),
        ] {
            let message: Message = serde_json::from_value(message).unwrap();
            let line = serde_json::to_string(&message).unwrap();
            assert_eq!(of_line(line.as_bytes()).unwrap(), (message.id.clone(), of_message(&message).into_owned()));
        }
        assert_eq!(of_line(b"no message"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Whatever stands in a text is among the candidates that its tokens give, and exact needles are right by tokens alone.
        #[test]
        fn tokens_never_lose_a_hit(
            text in "([abAB1é日本กか\u{301}\u{3099}ﬁß_\\-.>(\" \n]|[abc]{3,7}|\\PC){0,40}",
            other in "[abc1日本é>. ]{0,7}",
            (from, length) in (0..40_usize, 1..9_usize),
            is_phrase: bool,
        ) {
            let folded = fold(&text);
            let piece: String = folded.chars().skip(from).take(length).collect();
            let mut all = HashSet::new();
            tokens(&folded, |token| {
                all.insert(token);
            });
            for text in [piece, other] {
                let Some(needle) = Needle::new(&Term { text, is_phrase }) else { continue };
                let is_candidate = match needle.lookup() {
                    Lookup::All(wanted) => {
                        prop_assert!(!wanted.is_empty(), "{needle:?}");
                        wanted.iter().all(|token| all.contains(token))
                    }
                    Lookup::Range(first, last) => all.iter().any(|token| (first..=last).contains(token)),
                };
                let is_hit = needle.find(&folded).is_some();
                prop_assert!(is_candidate || !is_hit, "{needle:?} in {folded:?}");
                if needle.is_exact() {
                    prop_assert_eq!(is_candidate, is_hit, "{:?} in {:?}", needle, folded);
                }
                if needle.word().is_some_and(|word| all.contains(&word)) {
                    prop_assert!(is_hit, "{needle:?} in {folded:?}");
                }
            }
        }

        #[test]
        fn folding_twice_changes_nothing(text in prop_oneof!["\\PC{0,30}", ODD]) {
            let folded = fold(&text);
            prop_assert_eq!(fold(&folded), folded);
        }

        #[test]
        fn the_form_of_a_text_does_not_count(text in prop_oneof!["\\PC{0,30}", ODD]) {
            let folded = fold(&text);
            prop_assert_eq!(fold(&text.nfd().collect::<String>()), folded.clone());
            prop_assert_eq!(fold(&text.nfc().collect::<String>()), folded);
        }

        #[test]
        fn what_is_not_seen_changes_nothing(
            text in prop_oneof!["\\PC{0,30}", ODD],
            unseen in "[\u{AD}\u{34F}\u{200B}\u{200D}\u{2060}\u{FE0F}\u{FEFF}\u{3164}\u{FFA0}\u{115F}]{1,2}",
            at in 0..30_usize,
        ) {
            let byte = text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
            let with = format!("{}{unseen}{}", &text[..byte], &text[byte..]);
            prop_assert_eq!(fold(&with), fold(&text));
        }

        /// What is marked in a snippet holds what was looked for, and no less would do.
        #[test]
        fn marks_hold_what_was_looked_for(text in ODD, (from, length) in (0..30_usize, 1..5_usize)) {
            let piece: String = fold(&text).chars().skip(from).take(length).collect();
            if let Some(needle) = Needle::new(&Term { text: piece, is_phrase: false })
                && let Some(found) = cut_out(&text, std::slice::from_ref(&needle))
            {
                prop_assert!(!found.ranges.is_empty());
                for (from, to) in found.ranges {
                    let marked: String = found.snippet.chars().skip(from).take(to - from).collect();
                    prop_assert!(fold(&marked).contains(&needle.folded), "{:?} in {:?}", needle.folded, marked);
                    // Hits side by side are marked as one.
                    if occurrences(&fold(&marked), &needle.folded).count() == 1 {
                        let less = marked[..back(&marked, marked.len(), 1)].trim_end_matches(is_joined);
                        let is_mark = marked.ends_with(is_joined);
                        prop_assert!(is_mark || !fold(less).contains(&needle.folded), "{needle:?} in {marked:?}");
                    }
                }
            }
        }

        #[test]
        fn excerpts_never_fail(text in "[ab日é\u{301}ﬁß \n]{0,300}", term in "[ab日é ]{1,4}") {
            if let Some(needle) = Needle::new(&Term { text: term, is_phrase: false })
                && let Some(found) = cut_out(&text, &[needle])
            {
                let length = found.snippet.chars().count();
                prop_assert!(!found.ranges.is_empty());
                prop_assert!(found.ranges.iter().all(|(from, to)| from < to && *to <= length));
            }
        }
    }
}
