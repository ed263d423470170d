//! The search language: what a person types into the search box.
//!
//! Words that must all occur somewhere in a session, `"exact words"`, `-without`, and filters such as `kind:voice`. A text that
//! cannot be understood is explained in a sentence for the person.

use super::session::Kind;
use chrono::NaiveDate;
use std::fmt;

/// The most words, phrases and filters that one search may have.
pub const MAX_PARTS: usize = 32;

/// A parsed search: a session is found when every term stands somewhere in it, none of the unwanted ones does, and all filters hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// What must occur, each in any message or in the title, the tags or the name of the person.
    pub terms: Vec<Term>,
    /// What must occur nowhere.
    pub without: Vec<Term>,
    /// What must hold.
    pub filters: Vec<Filter>,
}

/// Words that are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// As they were typed; letter case and accents do not count.
    pub text: String,
    /// Whether they were quoted: they are found as whole words, one after the other.
    pub is_phrase: bool,
}

/// A condition, or its opposite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Whether it must not hold.
    pub is_negated: bool,
    /// What is asked.
    pub condition: Condition,
}

/// What a filter asks of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `kind:voice`
    Kind(Kind),
    /// `tool:web_search`: a tool of this name was used on the shown path.
    Tool(Name),
    /// `mode:commander`: the assistant was allowed that in some message of the shown path.
    Mode(Mode),
    /// `tag:work`
    Tag(Name),
    /// `user:Zoë`
    User(Name),
    /// `before:2026-03-01`: it began before that day, in the caller's zone.
    Before(NaiveDate),
    /// `after:2026-03-01`: it was written to on that day or later, in the caller's zone.
    After(NaiveDate),
    /// `is:pinned`
    Is(State),
    /// `has:error`
    Has(Feature),
}

/// A name in a filter: the beginning of one, or, quoted, all of it. Letter case and accents do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As it was typed.
    pub text: String,
    /// Whether it was quoted.
    pub is_whole: bool,
}

/// What the assistant may be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// ⚡ CMD
    Commander,
    /// 🌐 WEB
    WebSearch,
}

/// A state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Kept at the top of the list.
    Pinned,
    /// Kept out of the list, not out of searches.
    Archived,
    /// In the trash.
    Trashed,
}

/// What a session may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// A message marked with an error.
    Error,
    /// A use of a tool.
    Tool,
}

/// Why a search cannot be understood: a sentence for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError(pub String);

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for QueryError {}

/// What can be typed, with an example and what it finds: the text of the help.
pub const HELP: [(&str, &str); 13] = [
    ("chess opening", "both words, anywhere in a session; also as parts of words"),
    ("\"the exact words\"", "these words, whole and in this order"),
    ("-word", "only sessions without it"),
    ("kind:voice", "spoken conversations; kind:chat typed ones"),
    ("tool:web_search", "a tool was used"),
    ("mode:commander", "⚡ CMD was on; mode:web for 🌐 WEB"),
    ("tag:work", "sessions with that tag"),
    ("user:Zoë", "the person's name"),
    ("before:2026-03-01", "begun before that day; a month or a year will do"),
    ("after:2026-03", "written to on or after that day"),
    ("is:pinned", "or is:archived, is:trashed"),
    ("has:error", "a reply failed or was cut off; has:tool for any tool"),
    ("-tag:work", "any filter with a minus: its opposite"),
];

impl Query {
    /// Reads a search text.
    ///
    /// # Errors
    /// A sentence that says what cannot be understood and what would be.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let mut query = Self::default();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (part, after) = Part::read(rest);
            query.add(part)?;
            rest = after.trim_start();
        }
        if query.terms.len() + query.without.len() + query.filters.len() > MAX_PARTS {
            return Err(QueryError(format!("A search can have at most {MAX_PARTS} words and filters.")));
        }
        Ok(query)
    }

    /// Whether it asks for nothing, and so finds everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty() && self.without.is_empty() && self.filters.is_empty()
    }

    /// Whether it asks for sessions in a state, or for those that are not in it.
    pub fn speaks_of(&self, state: State) -> bool {
        self.filters.iter().any(|filter| filter.condition == Condition::Is(state))
    }

    /// Whether it looks into the trash instead of the sessions that are kept.
    pub fn is_for_trash(&self) -> bool {
        let trashed = Filter { is_negated: false, condition: Condition::Is(State::Trashed) };
        self.filters.contains(&trashed)
    }

    fn add(&mut self, part: Part<'_>) -> Result<(), QueryError> {
        if let Some(key) = part.key {
            let filter = Filter { is_negated: part.is_negated, condition: condition(key, part.text, part.is_quoted)? };
            if !self.filters.contains(&filter) {
                self.filters.push(filter);
            }
            return Ok(());
        }
        if part.text.trim().is_empty() {
            return Ok(());
        }
        let term = Term { text: part.text.trim().to_owned(), is_phrase: part.is_quoted };
        let terms = if part.is_negated { &mut self.without } else { &mut self.terms };
        if !terms.contains(&term) {
            terms.push(term);
        }
        Ok(())
    }
}

/// Writes it so that it reads back as the same.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.terms.iter().map(Term::to_string).collect();
        parts.extend(self.without.iter().map(|term| format!("-{term}")));
        parts.extend(self.filters.iter().map(Filter::to_string));
        f.write_str(&parts.join(" "))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_phrase { f.write_str(&quoted(&self.text)) } else { f.write_str(&self.text) }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_negated {
            f.write_str("-")?;
        }
        match &self.condition {
            Condition::Kind(kind) => write!(f, "kind:{}", kind.as_str()),
            Condition::Tool(name) => write!(f, "tool:{name}"),
            Condition::Mode(Mode::Commander) => f.write_str("mode:commander"),
            Condition::Mode(Mode::WebSearch) => f.write_str("mode:web"),
            Condition::Tag(name) => write!(f, "tag:{name}"),
            Condition::User(name) => write!(f, "user:{name}"),
            Condition::Before(day) => write!(f, "before:{}", day.format("%Y-%m-%d")),
            Condition::After(day) => write!(f, "after:{}", day.format("%Y-%m-%d")),
            Condition::Is(State::Pinned) => f.write_str("is:pinned"),
            Condition::Is(State::Archived) => f.write_str("is:archived"),
            Condition::Is(State::Trashed) => f.write_str("is:trashed"),
            Condition::Has(Feature::Error) => f.write_str("has:error"),
            Condition::Has(Feature::Tool) => f.write_str("has:tool"),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_whole { f.write_str(&quoted(&self.text)) } else { f.write_str(&self.text) }
    }
}

/// A text in quotes that do not occur in it. It was typed in one of these kinds, so that there always is one.
fn quoted(text: &str) -> String {
    if !text.contains('"') {
        format!("\"{text}\"")
    } else if !text.contains('»') {
        format!("«{text}»")
    } else {
        format!("“{text}”")
    }
}

/// The words before a colon that make a filter; any other word with a colon is looked for as it stands.
const KEYS: [&str; 10] = ["kind", "type", "tool", "mode", "tag", "user", "before", "after", "is", "has"];

/// A piece of a search text.
struct Part<'a> {
    is_negated: bool,
    key: Option<&'static str>,
    text: &'a str,
    is_quoted: bool,
}

impl<'a> Part<'a> {
    /// Reads the piece with which `text`, which does not begin with a space, begins; returns what follows it, too.
    fn read(text: &'a str) -> (Self, &'a str) {
        let after_minus = text.strip_prefix('-');
        // `->` and `--release` are words of code; `-word`, `-"two words"` and `-tag:x` say what is not wanted.
        let is_negated = after_minus
            .and_then(|rest| rest.chars().next())
            .is_some_and(|next| next.is_alphanumeric() || closing_quote(next).is_some());
        let text = if is_negated { after_minus.unwrap_or(text) } else { text };
        let key = KEYS.into_iter().find(|key| {
            text.get(..key.len()).is_some_and(|start| start.eq_ignore_ascii_case(key))
                && text[key.len()..].starts_with(':')
        });
        let value = key.map_or(text, |key| &text[key.len() + 1..]);
        let opening = value.chars().next();
        if let (Some(opening), Some(closing)) = (opening, opening.and_then(closing_quote)) {
            let inside = &value[opening.len_utf8()..];
            // Without a closing one, as while it is being typed, all of the rest is meant.
            let end = inside.find(|c| closing.contains(&c)).unwrap_or(inside.len());
            let after = inside[end..].chars().next().map_or(end, |c| end + c.len_utf8());
            return (Self { is_negated, key, text: &inside[..end], is_quoted: true }, &inside[after..]);
        }
        let end = value.find(char::is_whitespace).unwrap_or(value.len());
        (Self { is_negated, key, text: &value[..end], is_quoted: false }, &value[end..])
    }
}

/// What ends a quotation that begins with this character.
fn closing_quote(opening: char) -> Option<&'static [char]> {
    match opening {
        '"' => Some(&['"']),
        '“' | '„' => Some(&['”', '“']),
        '«' => Some(&['»']),
        _ => None,
    }
}

fn condition(key: &'static str, value: &str, is_quoted: bool) -> Result<Condition, QueryError> {
    let value = value.trim();
    let name = || Name { text: value.to_owned(), is_whole: is_quoted };
    let lower = value.to_lowercase();
    let found = match (key, lower.as_str()) {
        ("tool" | "tag" | "user", "") => {
            return Err(QueryError(format!(
                "Say which {key} after `{key}:`, or write \"{key}:\" in quotes to look for it."
            )));
        }
        ("tool", _) => Some(Condition::Tool(name())),
        ("tag", _) => Some(Condition::Tag(name())),
        ("user", _) => Some(Condition::User(name())),
        ("kind" | "type", "chat") => Some(Condition::Kind(Kind::Chat)),
        ("kind" | "type", "voice") => Some(Condition::Kind(Kind::Voice)),
        ("mode", "commander" | "cmd") => Some(Condition::Mode(Mode::Commander)),
        ("mode", "web" | "websearch" | "web_search") => Some(Condition::Mode(Mode::WebSearch)),
        ("before", _) => day(&lower).map(Condition::Before),
        ("after", _) => day(&lower).map(Condition::After),
        ("is", "pinned") => Some(Condition::Is(State::Pinned)),
        ("is", "archived") => Some(Condition::Is(State::Archived)),
        ("is", "trashed" | "deleted") => Some(Condition::Is(State::Trashed)),
        ("has", "error" | "errors") => Some(Condition::Has(Feature::Error)),
        ("has", "tool" | "tools") => Some(Condition::Has(Feature::Tool)),
        _ => None,
    };
    found.ok_or_else(|| {
        let takes = match key {
            "kind" | "type" => "chat or voice",
            "mode" => "commander or web",
            "is" => "pinned, archived or trashed",
            "has" => "error or tool",
            _ => "a day, a month or a year, as 2026-03-01, 2026-03 or 2026",
        };
        QueryError(format!("`{key}:` takes {takes}. To look for \"{key}:{value}\" itself, put it in quotes."))
    })
}

/// The first day of a day, month or year.
fn day(text: &str) -> Option<NaiveDate> {
    let mut numbers = text.split('-');
    let mut next = |digits: std::ops::RangeInclusive<usize>| -> Option<Option<u32>> {
        let Some(number) = numbers.next() else { return Some(None) };
        let fits = digits.contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        if fits { number.parse().ok().map(Some) } else { None }
    };
    let (year, month, day) = (next(4..=4)??, next(1..=2)?.unwrap_or(1), next(1..=2)?.unwrap_or(1));
    if numbers.next().is_some() || year == 0 {
        return None;
    }
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    fn words(terms: &[Term]) -> Vec<String> {
        terms.iter().map(Term::to_string).collect()
    }

    #[test]
    fn words_phrases_and_their_opposites() {
        let query = parse("  chess  \"the exact words\" -boring -\"not this\" chess ");
        assert_eq!(words(&query.terms), ["chess", "\"the exact words\""]);
        assert_eq!(words(&query.without), ["boring", "\"not this\""]);
        assert!(parse("").is_empty() && parse(" \t ").is_empty() && parse("\"\"").is_empty());
    }

    #[test]
    fn code_is_taken_literally() {
        for text in
            ["->", "--release", "std::vec", "https://example.org/a?b=c", "12:30", "f(x)", "C++", "-", "user::name()"]
        {
            let query = Query::parse(text);
            if text.starts_with("user:") {
                assert!(query.is_ok(), "a filter, as documented");
                continue;
            }
            assert_eq!(words(&query.unwrap().terms), [text]);
        }
        assert_eq!(words(&parse("\"user:root\"").terms), ["\"user:root\""]);
    }

    #[test]
    fn quotes_of_other_keyboards_and_open_ones_count() {
        assert_eq!(
            words(&parse("“good morning” «bon soir» „guten Tag“").terms),
            ["\"good morning\"", "\"bon soir\"", "\"guten Tag\""]
        );
        assert_eq!(words(&parse("a \"not closed yet").terms), ["a", "\"not closed yet\""]);
    }

    #[test]
    fn filters_are_read() {
        let query = parse(
            "KIND:Voice tool:web_search -mode:cmd tag:\"to do\" user:Zoë before:2026-03-01 after:2026 is:pinned has:error",
        );
        let day = |text| NaiveDate::parse_from_str(text, "%Y-%m-%d").unwrap();
        let name = |text: &str, is_whole| Name { text: text.into(), is_whole };
        let expected = [
            (false, Condition::Kind(Kind::Voice)),
            (false, Condition::Tool(name("web_search", false))),
            (true, Condition::Mode(Mode::Commander)),
            (false, Condition::Tag(name("to do", true))),
            (false, Condition::User(name("Zoë", false))),
            (false, Condition::Before(day("2026-03-01"))),
            (false, Condition::After(day("2026-01-01"))),
            (false, Condition::Is(State::Pinned)),
            (false, Condition::Has(Feature::Error)),
        ]
        .map(|(is_negated, condition)| Filter { is_negated, condition });
        assert_eq!(query.filters, expected);
        assert!(query.terms.is_empty());
        assert!(parse("is:trashed").is_for_trash() && !parse("-is:trashed").is_for_trash());
    }

    #[test]
    fn what_cannot_be_understood_is_explained() {
        for (text, says) in [
            ("kind:fax", "chat or voice"),
            ("is:", "pinned, archived or trashed"),
            ("tag:", "Say which tag"),
            ("before:yesterday", "2026-03-01"),
            ("after:2026-13", "2026-03"),
            ("before:2026-02-30", "2026-03-01"),
            ("has:fun", "error or tool"),
            (&"a b c d e f g h i j k ".repeat(4).replace(' ', "1 2 "), ""),
        ] {
            match Query::parse(text) {
                Err(error) => assert!(error.0.contains(says), "{text}: {error}"),
                Ok(_) => assert!(says.is_empty(), "{text}"),
            }
        }
        let many: Vec<String> = (0..=MAX_PARTS).map(|n| format!("w{n}")).collect();
        assert!(Query::parse(&many.join(" ")).unwrap_err().0.contains("at most"));
    }

    #[test]
    fn the_help_can_be_typed() {
        for (text, _) in HELP {
            assert!(!parse(text).is_empty(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Whatever is typed is understood or explained, and what was understood reads back from its own writing.
        #[test]
        fn any_text_is_understood_or_explained(text in prop_oneof![
            "\\PC{0,40}",
            "([-\"“”«» ]|kind:|tag:|before:|is:|has:|user:|2026-0[1-3]|pinned|voice|[a-c日é:\\-]){0,14}",
        ]) {
            match Query::parse(&text) {
                Ok(query) => {
                    let written = query.to_string();
                    let again = Query::parse(&written);
                    prop_assert!(again.is_ok(), "{text:?} -> {written:?}");
                    prop_assert_eq!(again.unwrap(), query, "{:?} -> {:?}", text, written);
                }
                Err(error) => prop_assert!(error.0.ends_with('.') && error.0.len() > 20),
            }
        }
    }
}
