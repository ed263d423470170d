//! Tells reasoning from the answer where a model writes both into one text: `<think>…</think>` at the beginning.

/// A piece of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// For the person.
    Text(String),
    /// What the model thought.
    Reasoning(String),
}

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Splits a text that arrives in chunks; a tag may be cut anywhere.
#[derive(Debug, Default)]
pub(super) struct ThinkSplitter {
    state: State,
    /// What may still turn out to be a tag or the space around one.
    held: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing but space and a possible beginning of the opening tag was seen.
    #[default]
    Beginning,
    /// After the opening tag, before the first thought.
    BeforeThought,
    /// In the reasoning.
    Thought,
    /// After the closing tag, before the first word of the answer.
    BeforeText,
    /// In the answer, where tags mean nothing any more.
    Text,
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
        loop {
            match self.state {
                State::Beginning => {
                    let begun = self.held.trim_start();
                    if let Some(rest) = begun.strip_prefix(OPEN) {
                        self.held = rest.to_owned();
                        self.state = State::BeforeThought;
                    } else if OPEN.starts_with(begun) {
                        return;
                    } else {
                        self.state = State::Text;
                    }
                }
                State::BeforeThought | State::BeforeText => {
                    let begun = self.held.trim_start();
                    if begun.is_empty() {
                        return;
                    }
                    self.held = begun.to_owned();
                    self.state = if self.state == State::BeforeThought { State::Thought } else { State::Text };
                }
                State::Thought => match self.held.find(CLOSE) {
                    Some(at) => {
                        let thought = self.held[..at].trim_end();
                        if !thought.is_empty() {
                            out(Piece::Reasoning(thought.to_owned()));
                        }
                        self.held = self.held[at + CLOSE.len()..].to_owned();
                        self.state = State::BeforeText;
                    }
                    None => {
                        let certain = certain_length(&self.held);
                        if certain > 0 {
                            let rest = self.held.split_off(certain);
                            out(Piece::Reasoning(std::mem::replace(&mut self.held, rest)));
                        }
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

    /// Hands out what was held back: nothing follows.
    pub(super) fn finish(&mut self, mut out: impl FnMut(Piece)) {
        let held = std::mem::take(&mut self.held);
        match self.state {
            State::Thought if !held.trim().is_empty() => out(Piece::Reasoning(held)),
            State::Beginning | State::Text if !held.trim().is_empty() => out(Piece::Text(held)),
            _ => {}
        }
        self.state = State::Text;
    }
}

/// How much of a thought can be handed out: all but space at the end and what may be a beginning of the closing tag.
fn certain_length(thought: &str) -> usize {
    let tag = (1..CLOSE.len()).rev().find(|&length| thought.ends_with(&CLOSE[..length])).unwrap_or(0);
    thought[..thought.len() - tag].trim_end().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(chunks: &[&str]) -> (String, String) {
        let (mut reasoning, mut text) = (String::new(), String::new());
        let mut splitter = ThinkSplitter::default();
        let mut take = |piece| match piece {
            Piece::Text(piece) => text.push_str(&piece),
            Piece::Reasoning(piece) => reasoning.push_str(&piece),
        };
        for chunk in chunks {
            splitter.push(chunk, &mut take);
        }
        splitter.finish(&mut take);
        (reasoning, text)
    }

    fn expect(chunks: &[&str], reasoning: &str, text: &str) {
        assert_eq!(split(chunks), (reasoning.to_owned(), text.to_owned()), "{chunks:?}");
    }

    #[test]
    fn splits_where_the_tags_stand() {
        expect(&["<think>\nhm</think>\n\nYes"], "hm", "Yes");
        expect(&["\n<thi", "nk>h", "m </th", "ink", ">\n", "\nYes <think>"], "hm", "Yes <think>");
        expect(&["<think>\n\n</think>\n\nYes"], "", "Yes");
        expect(&["<th", "e tag"], "", "<the tag");
        expect(&["  indented"], "", "  indented");
        expect(&["a <think>b</think>"], "", "a <think>b</think>");
        expect(&["<think>a < b </thin", "g> c</think>d"], "a < b </thing> c", "d");
        expect(&["<think>never ends </th"], "never ends </th", "");
        expect(&["<thin"], "", "<thin");
        expect(&[""], "", "");
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(text in "(<think>)?[a <\n]{0,6}(</think>)?[é <\n/]{0,6}(</think>)?", cut in 1usize..6) {
            let characters: Vec<char> = text.chars().collect();
            let chunks: Vec<String> = characters.chunks(cut).map(|chunk| chunk.iter().collect()).collect();
            let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
            prop_assert_eq!(split(&chunks), split(&[&text]));
        }
    }
}
