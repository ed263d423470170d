//! Reads the form in which gpt-oss models write, where a server hands it on as it is:
//! `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`.

/// A piece of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// For the person; or, where the reply has another form, as it came.
    Text(String),
    /// What the model thought, and what it said to itself.
    Reasoning(String),
    /// A call of a tool.
    Call {
        /// The tool's name.
        name: String,
        /// Its arguments, as the model wrote them.
        arguments: String,
    },
}

/// Takes such a text apart, which arrives in chunks that may end anywhere.
#[derive(Debug, Default)]
pub(super) struct Harmony {
    state: State,
    /// What may still become a sign.
    held: String,
    /// Whether a message began.
    has_message: bool,
    /// How many calls there are.
    calls: usize,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing but space, and what may become the first sign, was seen.
    #[default]
    Beginning,
    /// It is written in another form.
    Other,
    /// Between the messages.
    Between,
    /// In the head of a message.
    Head(String),
    Thought,
    Text,
    /// In the arguments of a call of this tool.
    Call(String, String),
}

const SIGNS: [&str; 7] =
    ["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|return|>", "<|call|>"];

/// More than a head ever has, in bytes.
const MOST_HEAD: usize = 1024;

/// More space than this is not held back, because all of it is looked at again with each piece that comes.
const MOST_SPACE: usize = 1024;

/// As many calls as are taken in any other form.
const MOST_CALLS: usize = 128;

impl Harmony {
    /// Takes a chunk and hands out what is certain.
    pub(super) fn push(&mut self, chunk: &str, out: &mut dyn FnMut(Piece)) {
        if let State::Other = self.state {
            out(Piece::Text(chunk.to_owned()));
            return;
        }
        self.held.push_str(chunk);
        self.advance(false, out);
    }

    /// Hands out what was held back: nothing follows.
    pub(super) fn finish(&mut self, out: &mut dyn FnMut(Piece)) {
        self.advance(true, out);
        match std::mem::take(&mut self.state) {
            // It was no head.
            State::Head(head) if !self.has_message => out(Piece::Text(head)),
            state => {
                self.state = state;
                self.end_message(out);
            }
        }
        self.state = State::Other;
    }

    fn advance(&mut self, is_end: bool, out: &mut dyn FnMut(Piece)) {
        if let State::Beginning = self.state {
            let begun = self.held.trim_start();
            if SIGNS[..2].iter().any(|sign| begun.starts_with(sign)) {
                self.held = begun.to_owned();
                self.state = State::Between;
            } else if !is_end
                && self.held.len() - begun.len() <= MOST_SPACE
                && SIGNS[..2].iter().any(|sign| sign.starts_with(begun))
            {
                return;
            } else {
                self.state = State::Other;
            }
        }
        if let State::Other = self.state {
            let text = std::mem::take(&mut self.held);
            if !text.is_empty() {
                out(Piece::Text(text));
            }
            return;
        }
        let held = std::mem::take(&mut self.held);
        let (mut said, mut at) = (0, 0);
        while let Some(found) = held[at..].find('<') {
            let place = at + found;
            let from = &held[place..];
            if let Some(sign) = SIGNS.iter().find(|sign| from.starts_with(**sign)) {
                self.say(&held[said..place], out);
                self.take_sign(sign, out);
                at = place + sign.len();
                said = at;
            } else if !is_end && SIGNS.iter().any(|sign| sign.starts_with(from)) {
                self.say(&held[said..place], out);
                self.held = from.to_owned();
                return;
            } else {
                at = place + 1;
            }
        }
        self.say(&held[said..], out);
    }

    fn take_sign(&mut self, sign: &str, out: &mut dyn FnMut(Piece)) {
        match (sign, &mut self.state) {
            ("<|channel|>" | "<|constrain|>", State::Head(head)) => head.push(' '),
            ("<|start|>" | "<|channel|>", _) => {
                self.end_message(out);
                self.state = State::Head(String::new());
            }
            ("<|message|>", State::Head(head)) => {
                self.has_message = true;
                let tool = head.split_whitespace().find_map(|word| word.strip_prefix("to="));
                self.state = match tool {
                    Some(tool) if self.calls < MOST_CALLS => {
                        self.calls += 1;
                        State::Call(tool.strip_prefix("functions.").unwrap_or(tool).to_owned(), String::new())
                    }
                    None if !head.contains("analysis") && !head.contains("commentary") => State::Text,
                    _ => State::Thought,
                };
            }
            ("<|message|>" | "<|constrain|>", _) => {}
            _ => {
                self.end_message(out);
                self.state = State::Between;
            }
        }
    }

    fn say(&mut self, text: &str, out: &mut dyn FnMut(Piece)) {
        if text.is_empty() {
            return;
        }
        match &mut self.state {
            State::Head(head) if head.len() + text.len() <= MOST_HEAD => head.push_str(text),
            State::Head(head) => {
                // That is no head; what it says is kept.
                let head = std::mem::take(head);
                out(Piece::Text(head + text));
                self.state = State::Text;
            }
            State::Thought => out(Piece::Reasoning(text.to_owned())),
            State::Call(_, arguments) => arguments.push_str(text),
            State::Between if text.trim().is_empty() => {}
            State::Beginning | State::Other | State::Between | State::Text => {
                self.state = State::Text;
                out(Piece::Text(text.to_owned()));
            }
        }
    }

    fn end_message(&mut self, out: &mut dyn FnMut(Piece)) {
        if let State::Call(name, arguments) = std::mem::take(&mut self.state) {
            out(Piece::Call { name, arguments });
        }
        self.state = State::Between;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, cut: usize) -> (String, String, Vec<(String, String)>) {
        let (mut thought, mut said, mut calls) = (String::new(), String::new(), Vec::new());
        let mut take = |piece| match piece {
            Piece::Text(text) => said.push_str(&text),
            Piece::Reasoning(text) => thought.push_str(&text),
            Piece::Call { name, arguments } => calls.push((name, arguments)),
        };
        let mut harmony = Harmony::default();
        let letters: Vec<char> = text.chars().collect();
        for piece in letters.chunks(cut) {
            harmony.push(&piece.iter().collect::<String>(), &mut take);
        }
        harmony.finish(&mut take);
        (thought, said, calls)
    }

    #[test]
    fn channels_are_told_apart() {
        let both = ("hm".to_owned(), "Hello!".to_owned(), Vec::new());
        let call = ("f".to_owned(), "{\"a\":1}".to_owned());
        for cut in 1..12 {
            let message = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello!";
            assert_eq!(read(message, cut), both);
            assert_eq!(read(&format!(" <|start|>assistant{message}<|return|>\n"), cut), both);
            let called = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary \
                          to=functions.f <|constrain|>json<|message|>{\"a\":1}<|call|>";
            assert_eq!(read(called, cut), ("hm".to_owned(), String::new(), vec![call.clone()]));
            assert_eq!(read(&called.replace("<|call|>", ""), cut).2, vec![call.clone()]);
            assert_eq!(read("<|channel|>final<|message|>a < b <|c<|end", cut).1, "a < b <|c<|end");
            assert_eq!(read("<|channel|>hello", cut).1, "hello");
            // In any other form it is text.
            for text in ["The sign <|channel|>analysis<|message|> begins it.", "<|chan", "<|im_start|>x", "<", ""] {
                assert_eq!(read(text, cut), (String::new(), text.to_owned(), Vec::new()));
            }
        }
    }

    #[test]
    fn nothing_is_read_without_an_end() {
        let mut harmony = Harmony::default();
        (0..200_000).for_each(|_| harmony.push("          ", &mut |_| {}));
        assert!(harmony.held.len() <= MOST_SPACE + 16);
        let mut pieces = 0;
        let mut harmony = Harmony::default();
        harmony.push(&("<|channel|>final<|message|>".to_owned() + &"<".repeat(1 << 20)), &mut |_| pieces += 1);
        assert_eq!(pieces, 1);
        assert_eq!(read(&"<|start|>to=f<|message|>".repeat(1_000), 1 << 20).2.len(), MOST_CALLS);
    }

    proptest! {
        #[test]
        fn no_letter_is_lost_however_it_is_cut(text in "(<\\|channel\\|>final<\\|message\\|>)?[a<|> ]{0,20}", cut in 1usize..9) {
            prop_assert_eq!(read(&text, cut), read(&text, 100));
            let said = text.strip_prefix("<|channel|>final<|message|>").unwrap_or(&text);
            prop_assert_eq!(read(&text, cut).1, said);
        }
    }
}
