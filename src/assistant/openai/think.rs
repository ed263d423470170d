//! Tells reasoning from the answer where a model writes both into one text: `<think>…</think>` at the beginning, and after that also
//! at the beginning of a line; or, where the opening tag stood in the prompt, only `…</think>`.

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

const TAGS: [Tags; 10] = [
    Tags { open: "<think>", close: "</think>", closes_alone: true },
    Tags { open: "<thinking>", close: "</thinking>", closes_alone: false },
    Tags { open: "<thought>", close: "</thought>", closes_alone: false },
    Tags { open: "<seed:think>", close: "</seed:think>", closes_alone: true },
    Tags { open: "[THINK]", close: "[/THINK]", closes_alone: true },
    Tags { open: "◁think▷", close: "◁/think▷", closes_alone: true },
    Tags { open: "<reasoning>", close: "</reasoning>", closes_alone: false },
    Tags { open: "<|START_THINKING|>", close: "<|END_THINKING|>", closes_alone: true },
    Tags { open: "<|begin_of_thought|>", close: "<|end_of_thought|>", closes_alone: true },
    Tags { open: "<|channel>thought", close: "<channel|>", closes_alone: true },
];

/// Between these stand the thoughts of a model whose signs its server took away, all but their names.
const BARE_OPEN: &str = "analysis";
const BARE_CLOSE: &str = "assistantfinal";

/// More bytes of space than this are not held back, because all of it is looked at again with each piece that comes.
const MOST_SPACE: usize = 1024;

/// No model thinks more often in one answer. All that is left is moved each time.
const MOST_TIMES: usize = 64;

/// With what tags begin.
const FIRST_BYTES: [u8; 3] = [b'<', b'[', "◁".as_bytes()[0]];

/// Whether a text begins with another one, in capitals or not.
fn begins(text: &str, with: &str) -> bool {
    text.as_bytes().get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with.as_bytes()))
}

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
    /// Whether it begins as thoughts without signs do.
    is_bare: bool,
    /// The place of the tags between which it thought, and whether it does so again in the midst of the answer.
    tagged: Option<usize>,
    is_again: bool,
    /// How often it thought.
    times: usize,
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
    /// In the answer of a model that thought between tags, and may do so again.
    Answer,
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
            State::BeforeThought(_) if !held.is_empty() => out(Piece::Reasoning(held)),
            State::Beginning | State::BeforeText | State::Open | State::Answer | State::Text if !held.is_empty() => {
                out(Piece::Text(held));
            }
            _ => {}
        }
        self.state = State::Text;
    }

    fn advance(&mut self, is_end: bool, out: &mut impl FnMut(Piece)) {
        loop {
            match self.state {
                State::Beginning => {
                    let begun = self.held.trim_start();
                    let opened = TAGS.iter().position(|tags| begins(begun, tags.open));
                    let closed = TAGS.iter().filter(|tags| tags.closes_alone).find(|tags| begins(begun, tags.close));
                    if let Some(place) = opened {
                        self.held = begun[TAGS[place].open.len()..].to_owned();
                        self.state = State::BeforeThought(place);
                    } else if let Some(tags) = closed {
                        // Nothing was thought.
                        self.held = begun[tags.close.len()..].to_owned();
                        self.state = State::BeforeText;
                    } else if self.held.len() - begun.len() <= MOST_SPACE
                        && (begins(BARE_OPEN, begun) && begun != BARE_OPEN
                            || TAGS.iter().any(|tags| begins(tags.open, begun) || begins(tags.close, begun)))
                    {
                        return;
                    } else {
                        self.is_bare = begun.starts_with(BARE_OPEN);
                        self.state = if self.is_told_apart { State::Text } else { State::Open };
                    }
                }
                State::BeforeThought(place) => {
                    // Once more, where the one in the prompt is repeated.
                    if !self.drop_space_and(|tags| tags.open, &TAGS[place..=place], is_end) {
                        return;
                    }
                    (self.searched, self.code, self.doubtful) = (0, Code::default(), None);
                    self.tagged = Some(place);
                    self.state = State::Thought(place);
                }
                State::BeforeText => {
                    if !self.drop_space_and(|tags| tags.close, &TAGS, is_end) {
                        return;
                    }
                    self.go_on_answering();
                }
                State::Answer => {
                    if !self.find_opening(is_end, out) {
                        return;
                    }
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
                        if std::mem::take(&mut self.is_again) {
                            // The space around it parts what was said before from what is said after.
                            self.go_on_answering();
                        }
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

    /// Drops space, and tags that are repeated, from the beginning of `held`. Whether something else begins there.
    fn drop_space_and(&mut self, tag: fn(&Tags) -> &'static str, tags: &[Tags], is_end: bool) -> bool {
        let mut begun = self.held.trim_start();
        while let Some(repeated) = tags.iter().map(tag).find(|tag| begins(begun, tag)) {
            begun = begun[repeated.len()..].trim_start();
        }
        // What is dropped is looked at once, however much of it comes.
        self.held = begun.to_owned();
        let may_become_one = !is_end && tags.iter().map(tag).any(|tag| begins(tag, &self.held));
        !self.held.is_empty() && !may_become_one
    }

    fn go_on_answering(&mut self) {
        (self.searched, self.code) = (0, Code::default());
        self.times += 1;
        self.state = if self.tagged.is_some() && self.times <= MOST_TIMES { State::Answer } else { State::Text };
    }

    /// Hands out the answer up to where the model thinks again: at an opening tag at the beginning of a line. Whether it does.
    fn find_opening(&mut self, is_end: bool, out: &mut impl FnMut(Piece)) -> bool {
        let open = self.tagged.map_or("", |place| TAGS[place].open);
        let first = open.as_bytes().first();
        let mut is_opening = false;
        while let Some(byte) = self.held.as_bytes().get(self.searched) {
            self.code.settle(*byte);
            let may_be_tag = Some(byte) == first
                && self.code.is_line_start()
                && !self.code.is_fenced()
                && self.held.is_char_boundary(self.searched);
            if may_be_tag {
                let rest = &self.held[self.searched..];
                // Alone on its line: others talk about tags.
                let after = rest.get(open.len()..).filter(|_| begins(rest, open));
                is_opening = after.is_some_and(|after| after.starts_with(['\n', '\r']));
                if is_opening || (!is_end && (begins(open, rest) || after.is_some_and(str::is_empty))) {
                    break;
                }
            }
            self.code.step(*byte);
            self.searched += 1;
        }
        let rest = self.held.split_off(std::mem::take(&mut self.searched));
        let text = std::mem::replace(&mut self.held, rest);
        if !text.is_empty() {
            out(Piece::Text(text));
        }
        if let (true, Some(place)) = (is_opening, self.tagged) {
            self.held.drain(..open.len());
            self.is_again = true;
            self.state = State::BeforeThought(place);
        }
        is_opening
    }

    /// The closing tag in `held`, if it is certain that there is one and that it is no code.
    fn search(&mut self, is_end: bool) -> Option<Found> {
        while let Some(&byte) = self.held.as_bytes().get(self.searched) {
            self.code.settle(byte);
            if self.doubtful.is_some_and(|found| !found.is_fenced && !self.code.is_span()) {
                // Closed, so that it was code.
                self.doubtful = None;
            }
            let may_be_tag = FIRST_BYTES.contains(&byte) || (self.is_bare && byte == BARE_CLOSE.as_bytes()[0]);
            if self.doubtful.is_none() && may_be_tag && self.held.is_char_boundary(self.searched) {
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
            return match (begins(rest, close), begins(close, rest)) {
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
            if begins(rest, tags.close) {
                return At::Closing(tags.close.len());
            }
            if begins(rest, tags.open) && !is_code {
                return At::Opening;
            }
            if begins(tags.close, rest) || begins(tags.open, rest) {
                return At::Beginning;
            }
        }
        match self.is_bare {
            true if rest.starts_with(BARE_CLOSE) => At::Closing(BARE_CLOSE.len()),
            true if BARE_CLOSE.starts_with(rest) => At::Beginning,
            _ => At::Nothing,
        }
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

    #[test]
    fn thoughts_without_an_end_are_not_moved_again_and_again() {
        let mut splitter = ThinkSplitter::default();
        let (mut bytes, begin) = (0, std::time::Instant::now());
        let said = "<think>a</think>b\n".to_owned() + &"<think>\na</think>b\n".repeat(400_000);
        splitter.push(&said, |piece| {
            bytes += if let Piece::Text(text) | Piece::Reasoning(text) = piece { text.len() } else { 0 };
        });
        splitter.finish(|_| {});
        assert!(bytes > 7_000_000 && begin.elapsed().as_secs() < 20, "{bytes} bytes, {:?}", begin.elapsed());
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

    #[test]
    fn thoughts_may_come_again() {
        let twice = "<think>a</think>One.\n<think>\nb</think>\nTwo.";
        for (said, thought, answer) in [
            (twice, "ab", "One.\n\nTwo."),
            ("<think>a</think>\n</think>\n\nHello", "a", "Hello"),
            ("<think>\n<think>a</think>Hello", "a", "Hello"),
            ("<Think>a</THINK>Hello", "a", "Hello"),
            ("<reasoning>a</reasoning>Hello", "a", "Hello"),
            ("<|START_THINKING|>a<|END_THINKING|>Hello", "a", "Hello"),
            ("<|channel>thought\na<channel|>Hello", "a", "Hello"),
            ("analysis: I think so", "", "analysis: I think so"),
            ("analysisa b assistant c.assistantfinalHello", "analysisa b assistant c.", "Hello"),
            // In the midst of a line, and in code, it is a word like others.
            ("<think>a</think>One <think> two", "a", "One <think> two"),
            ("<think>a</think>One:\n\n<think> opens it.\n", "a", "One:\n\n<think> opens it.\n"),
            ("<think>a</think>One\n<think>", "a", "One\n<think>"),
            ("<reason>too cold</reason>", "", "<reason>too cold</reason>"),
            ("<think>a</think>```\n<think>\n```\nTwo", "a", "```\n<think>\n```\nTwo"),
            ("<think>a</think>One\n    <think>\n", "a", "One\n    <think>\n"),
            ("<think>a</think>One\n<thin", "a", "One\n<thin"),
            ("<think>a</think></thin", "a", "</thin"),
            ("<think><thin", "<thin", ""),
            ("anal", "", "anal"),
        ] {
            let letters: Vec<String> = said.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            for chunks in [vec![said], letters] {
                assert_eq!(split(&chunks), (thought.to_owned(), answer.to_owned()), "{said}");
            }
        }
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
