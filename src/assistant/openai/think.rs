//! Tells reasoning from the answer where a model writes both into one text: `<think>…</think>` at the beginning, or, where the
//! opening tag stood in the prompt, only `…</think>`.

use super::code::Code;

/// A piece of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// For the person.
    Text(String),
    /// What the model thought.
    Reasoning(String),
    /// All texts so far were thoughts.
    TextWasReasoning,
}

/// The signs between which models think.
struct Tags {
    open: &'static str,
    close: &'static str,
    /// Whether the closing one alone says that what stands before it was thought. Others may be markup that is talked about.
    closes_alone: bool,
}

const TAGS: [Tags; 6] = [
    Tags { open: "<think>", close: "</think>", closes_alone: true },
    Tags { open: "<thinking>", close: "</thinking>", closes_alone: false },
    Tags { open: "<thought>", close: "</thought>", closes_alone: false },
    Tags { open: "<seed:think>", close: "</seed:think>", closes_alone: true },
    Tags { open: "[THINK]", close: "[/THINK]", closes_alone: true },
    Tags { open: "◁think▷", close: "◁/think▷", closes_alone: true },
];

/// More bytes of space than this are not held back, because all of it is looked at again with each piece that comes.
const MOST_SPACE: usize = 1024;

/// With what tags begin.
const FIRST_BYTES: [u8; 3] = [b'<', b'[', "◁".as_bytes()[0]];

/// Splits a text that arrives in chunks; a tag may be cut anywhere. A closing tag in code is text.
#[derive(Debug, Default)]
pub(super) struct ThinkSplitter {
    state: State,
    /// What may still turn out to be a tag, the space around one, or behind one.
    held: String,
    /// How far `held` was searched for a closing tag.
    searched: usize,
    code: Code,
    /// A closing tag that was found in what may be code.
    doubtful: Option<Found>,
    /// Whether text was handed out.
    has_text: bool,
    /// Whether thoughts come in a field of their own, so that a closing tag alone says nothing.
    is_told_apart: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing but space and a possible beginning of a tag was seen.
    #[default]
    Beginning,
    /// After the opening tag, before the first thought; with the place of the tags.
    BeforeThought(usize),
    /// In the reasoning.
    Thought(usize),
    /// After the closing tag, before the first word of the answer.
    BeforeText,
    /// In what is the answer unless a closing tag comes.
    Open,
    /// In the answer, where tags mean nothing any more.
    Text,
}

/// What stands at a place where a tag may stand.
enum At {
    Nothing,
    /// What may become one.
    Beginning,
    Opening,
    /// With its length.
    Closing(usize),
}

/// A closing tag in `held`.
#[derive(Clone, Copy, Debug)]
struct Found {
    at: usize,
    length: usize,
    is_fenced: bool,
}

impl ThinkSplitter {
    /// Takes a chunk and hands what is certain now to `out`.
    pub(super) fn push(&mut self, chunk: &str, mut out: impl FnMut(Piece)) {
        if self.state == State::Text {
            if !chunk.is_empty() {
                out(Piece::Text(chunk.to_owned()));
            }
            return;
        }
        self.held.push_str(chunk);
        self.advance(false, &mut out);
    }

    /// Notes that thoughts come in a field of their own.
    pub(super) fn told_apart(&mut self, mut out: impl FnMut(Piece)) {
        self.is_told_apart = true;
        if self.state == State::Open {
            self.state = State::Text;
            self.advance(false, &mut out);
        }
    }

    /// Hands out what was held back: nothing follows.
    pub(super) fn finish(&mut self, mut out: impl FnMut(Piece)) {
        self.advance(true, &mut out);
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Thought(_) if !held.trim().is_empty() => out(Piece::Reasoning(held)),
            State::Beginning | State::Open | State::Text if !held.is_empty() => out(Piece::Text(held)),
            _ => {}
        }
        self.state = State::Text;
    }

    fn advance(&mut self, is_end: bool, out: &mut impl FnMut(Piece)) {
        loop {
            match self.state {
                State::Beginning => {
                    let begun = self.held.trim_start();
                    let opened = TAGS.iter().position(|tags| begun.starts_with(tags.open));
                    let closed =
                        TAGS.iter().filter(|tags| tags.closes_alone).find(|tags| begun.starts_with(tags.close));
                    let may_become_one = |tag: &str| tag.starts_with(begun);
                    if let Some(place) = opened {
                        self.held = begun[TAGS[place].open.len()..].to_owned();
                        self.state = State::BeforeThought(place);
                    } else if let Some(tags) = closed {
                        // Nothing was thought.
                        self.held = begun[tags.close.len()..].to_owned();
                        self.state = State::BeforeText;
                    } else if self.held.len() - begun.len() <= MOST_SPACE
                        && TAGS.iter().any(|tags| may_become_one(tags.open) || may_become_one(tags.close))
                    {
                        return;
                    } else {
                        self.state = if self.is_told_apart { State::Text } else { State::Open };
                    }
                }
                State::BeforeThought(_) | State::BeforeText => {
                    let begun = self.held.trim_start();
                    if begun.is_empty() {
                        // Looked at once, however much of it comes.
                        self.held.clear();
                        return;
                    }
                    self.held = begun.to_owned();
                    self.state = match self.state {
                        State::BeforeThought(place) => State::Thought(place),
                        _ => State::Text,
                    };
                }
                State::Thought(_) | State::Open => match self.search(is_end) {
                    Some(tag) => {
                        let before = self.held[..tag.at].trim_end().to_owned();
                        self.held = self.held[tag.at + tag.length..].to_owned();
                        if self.state == State::Open && self.has_text {
                            if !before.is_empty() {
                                out(Piece::Text(before));
                            }
                            out(Piece::TextWasReasoning);
                        } else if !before.trim().is_empty() {
                            out(Piece::Reasoning(before));
                        }
                        self.state = State::BeforeText;
                    }
                    None if self.state == State::Text => {}
                    None => {
                        self.hand_out_certain(out);
                        return;
                    }
                },
                State::Text => {
                    let text = std::mem::take(&mut self.held);
                    if !text.is_empty() {
                        out(Piece::Text(text));
                    }
                    return;
                }
            }
        }
    }

    /// The closing tag in `held`, if it is certain that there is one and that it is no code.
    fn search(&mut self, is_end: bool) -> Option<Found> {
        while let Some(&byte) = self.held.as_bytes().get(self.searched) {
            self.code.settle(byte);
            if self.doubtful.is_some_and(|found| !found.is_fenced && !self.code.is_span()) {
                // Closed, so that it was code.
                self.doubtful = None;
            }
            if self.doubtful.is_none() && FIRST_BYTES.contains(&byte) && self.held.is_char_boundary(self.searched) {
                match self.tag_at(self.searched) {
                    At::Nothing => {}
                    At::Beginning if is_end => {}
                    At::Beginning => return None,
                    At::Opening => {
                        // Whoever opens in the midst of a text talks about tags.
                        self.state = State::Text;
                        return None;
                    }
                    At::Closing(length) => {
                        let found = Found { at: self.searched, length, is_fenced: self.code.is_fenced() };
                        if self.code.is_fenced() || self.code.is_span() {
                            self.doubtful = Some(found);
                        } else {
                            return Some(found);
                        }
                    }
                }
            }
            self.code.step(byte);
            self.searched += 1;
            match self.doubtful {
                Some(found) if found.is_fenced && !self.code.is_fenced() => self.doubtful = None,
                // The paragraph ended before the span did.
                Some(found) if !found.is_fenced && !self.code.is_span() => return Some(found),
                _ => {}
            }
        }
        if is_end {
            // A span that is not closed is none. A fence is one to the end of the text; but a thought does not end in one.
            self.code.finish();
            return self.doubtful.take().filter(|found| match (self.state, found.is_fenced) {
                (State::Thought(_), true) => self.code.is_fenced(),
                (_, true) => false,
                (_, false) => self.code.is_span(),
            });
        }
        None
    }

    /// Which tag stands at a place of `held`.
    fn tag_at(&self, at: usize) -> At {
        let rest = &self.held[at..];
        if let State::Thought(place) = self.state {
            let close = TAGS[place].close;
            return match (rest.starts_with(close), close.starts_with(rest)) {
                (true, _) => At::Closing(close.len()),
                (_, true) => At::Beginning,
                _ => At::Nothing,
            };
        }
        let is_code = self.code.is_fenced() || self.code.is_span();
        if self.code.is_indented() && !is_code {
            return At::Nothing;
        }
        for tags in TAGS.iter().filter(|tags| tags.closes_alone) {
            if rest.starts_with(tags.close) {
                return At::Closing(tags.close.len());
            }
            if rest.starts_with(tags.open) && !is_code {
                return At::Opening;
            }
            if tags.close.starts_with(rest) || tags.open.starts_with(rest) {
                return At::Beginning;
            }
        }
        At::Nothing
    }

    /// Hands out all but what may belong to a tag and the space before it.
    fn hand_out_certain(&mut self, out: &mut impl FnMut(Piece)) {
        let all = self.doubtful.map_or(self.searched, |found| found.at);
        let words = self.held[..all].trim_end().len();
        let certain = if all - words > MOST_SPACE { all } else { words };
        if certain == 0 {
            return;
        }
        let rest = self.held.split_off(certain);
        let piece = std::mem::replace(&mut self.held, rest);
        self.searched -= certain;
        if let Some(found) = &mut self.doubtful {
            found.at -= certain;
        }
        if self.state == State::Open {
            self.has_text = true;
            out(Piece::Text(piece));
        } else {
            out(Piece::Reasoning(piece));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn space_without_an_end_is_not_looked_at_again_and_again() {
        for begin in ["", "a", "<think>", "<think>a", "<think>a</think>"] {
            let mut splitter = ThinkSplitter::default();
            let mut bytes = 0;
            let mut take = |piece: Piece| match piece {
                Piece::Text(text) | Piece::Reasoning(text) => bytes += text.len(),
                Piece::TextWasReasoning => {}
            };
            splitter.push(begin, &mut take);
            for _ in 0..200_000 {
                splitter.push("\n", &mut take);
                assert!(splitter.held.len() <= MOST_SPACE + 64, "{begin}");
            }
        }
    }

    fn split(chunks: &[&str]) -> (String, String) {
        let (mut reasoning, mut text) = (String::new(), String::new());
        let mut splitter = ThinkSplitter::default();
        let mut take = |piece| match piece {
            Piece::Text(piece) => text.push_str(&piece),
            Piece::Reasoning(piece) => reasoning.push_str(&piece),
            Piece::TextWasReasoning => reasoning.push_str(std::mem::take(&mut text).trim()),
        };
        for chunk in chunks {
            splitter.push(chunk, &mut take);
        }
        splitter.finish(&mut take);
        (reasoning, text)
    }

    fn expect(chunks: &[&str], reasoning: &str, text: &str) {
        let (got_reasoning, got_text) = split(chunks);
        assert_eq!((got_reasoning.trim(), got_text.as_str()), (reasoning, text), "{chunks:?}");
    }

    /// The same at once and cut everywhere.
    fn expect_cut(text: &str, reasoning: &str, answer: &str) {
        for cut in [1, 2, 5, 1000] {
            let characters: Vec<char> = text.chars().collect();
            let chunks: Vec<String> = characters.chunks(cut).map(|chunk| chunk.iter().collect()).collect();
            expect(&chunks.iter().map(String::as_str).collect::<Vec<_>>(), reasoning, answer);
        }
    }

    #[test]
    fn splits_where_the_tags_stand() {
        expect(&["<think>\nhm</think>\n\nYes"], "hm", "Yes");
        expect(&["\n<thi", "nk>h", "m </th", "ink", ">\n", "\nYes <think>"], "hm", "Yes <think>");
        expect(&["<think>\n\n</think>\n\nYes"], "", "Yes");
        expect(&["<th", "e tag"], "", "<the tag");
        expect(&["  indented"], "", "  indented");
        expect(&["a <think>b</think>"], "", "a <think>b</think>");
        expect_cut("a <think>b</think>c", "", "a <think>b</think>c");
        expect(&["<think>a < b </thin", "g> c</think>d"], "a < b </thing> c", "d");
        expect(&["<think>never ends </th"], "never ends </th", "");
        expect(&["<thin"], "", "<thin");
        expect(&[""], "", "");
        expect_cut("[THINK]hm[/THINK]Yes", "hm", "Yes");
        expect_cut("◁think▷hm◁/think▷Yes", "hm", "Yes");
        expect_cut("<thinking>hm</think></thinking>Yes", "hm</think>", "Yes");
        expect_cut("a  \n\n b  \n", "", "a  \n\n b  \n");
    }

    #[test]
    fn a_closing_tag_alone_ends_thoughts() {
        expect_cut("Okay, the user\n</think>\n\nHello!", "Okay, the user", "Hello!");
        expect_cut("\nOkay\n\nhm</think>Hello </think>!", "Okay\n\nhm", "Hello </think>!");
        expect_cut("</think>\n\nHello!", "", "Hello!");
        expect_cut("  \n</think>Hello!", "", "Hello!");
        expect_cut("Okay</think>", "Okay", "");
        expect_cut("hm[/THINK]Hello!", "hm", "Hello!");
        expect_cut("XML has </thinking> tags", "", "XML has </thinking> tags");
        // Odd backticks in a thought are no code.
        expect_cut("they say `x and don't\n\nso</think>\n\nHello!", "they say `x and don't\n\nso", "Hello!");
        expect_cut("an odd ` here\n</think>\n\nHello `you`!", "an odd ` here", "Hello `you`!");
        expect_cut("an odd ` here</think>", "an odd ` here", "");
        expect_cut("```\ncode\n```\nhm\n</think>Hello!", "```\ncode\n```\nhm", "Hello!");
    }

    #[test]
    fn a_closing_tag_in_code_is_text() {
        for text in [
            "Use `</think>` to end it.",
            "Use ``</think> ` `` to end it",
            "So:\n```xml\n<think>\n</think>\n```\nDone.",
            "So:\n~~~\n</think>\n\n</think>\n~~~\n",
            "- a\n\n      ```\n      </think>\n      ```\n",
            "So:\n\n    </think>\n\nDone.",
            "```\n</think>",
            "`a\n</think>` b",
        ] {
            expect_cut(text, "", text);
        }
        expect_cut("<think>I write `</think>` here</think>Yes", "I write `</think>` here", "Yes");
        expect_cut("<think>```\n</think>\n```\nhm</think>Yes", "```\n</think>\n```\nhm", "Yes");
        // A fence that nobody closed does not keep the answer in the thoughts.
        expect_cut("<think>```\nx\n</think>\n\nYes", "```\nx", "Yes");
        expect_cut("Use `</think>`. Or\n</think>\nHello", "Use `</think>`. Or", "Hello");
    }

    #[test]
    fn what_is_told_apart_is_not_split_again() {
        let mut splitter = ThinkSplitter::default();
        let mut pieces = Vec::new();
        splitter.told_apart(|piece| pieces.push(piece));
        splitter.push("\n</think>\n\nHello", |piece| pieces.push(piece));
        splitter.push(" </think>", |piece| pieces.push(piece));
        splitter.finish(|piece| pieces.push(piece));
        assert_eq!(pieces, [Piece::Text("Hello".into()), Piece::Text(" </think>".into())]);
    }

    #[test]
    fn much_text_in_small_pieces_is_split_in_linear_time() {
        let begin = std::time::Instant::now();
        let mut splitter = ThinkSplitter::default();
        let mut bytes = 0;
        let mut take = |piece| {
            if let Piece::Text(piece) = piece {
                bytes += piece.len();
            }
        };
        // In an open span, so that all of it is held back.
        splitter.push("a `</think> ", &mut take);
        for _ in 0..200_000 {
            splitter.push("word ", &mut take);
        }
        splitter.push("`", &mut take);
        splitter.finish(&mut take);
        assert_eq!(bytes, 12 + 1_000_000 + 1);
        // It takes some 30 ms; were it quadratic, minutes.
        assert!(begin.elapsed() < std::time::Duration::from_secs(10), "{:?}", begin.elapsed());
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            text in "(<think>|\\[THINK\\])?[a <`\n]{0,6}(</think>)?[é <\n/`]{0,6}(</think>)?[`~\n ]{0,8}(</think>)?[`~\n a]{0,8}",
            cut in 1usize..6,
        ) {
            let characters: Vec<char> = text.chars().collect();
            let chunks: Vec<String> = characters.chunks(cut).map(|chunk| chunk.iter().collect()).collect();
            let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
            let (cut_reasoning, cut_text) = split(&chunks);
            let (reasoning, text) = split(&[&text]);
            prop_assert_eq!((cut_reasoning.trim(), cut_text), (reasoning.trim(), text));
        }
    }
}
