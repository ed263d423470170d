//! From the bytes of tokens to text: characters are never torn, and stop texts never come through.

/// Joins bytes to text. A character whose end never comes is left out.
#[derive(Debug, Default)]
pub struct Utf8 {
    pending: Vec<u8>,
}

impl Utf8 {
    /// Takes bytes and adds the characters that are complete to `text`. What is no UTF-8 becomes U+FFFD.
    pub fn push(&mut self, bytes: &[u8], text: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut rest = self.pending.as_slice();
        let torn = loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    break &[][..];
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    match error.error_len() {
                        Some(length) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            rest = &after[length..];
                        }
                        None => break after,
                    }
                }
            }
        };
        self.pending = torn.to_vec();
    }
}

/// Holds text back while it may become a stop text.
#[derive(Debug)]
pub struct Stops {
    stops: Vec<String>,
    held: String,
}

impl Stops {
    /// Looks for these texts, none of them empty.
    pub fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes text. Returns what is safe to hand on, and whether a stop text was reached, after which nothing counts any more.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back: nothing follows.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// How many bytes at the end of `text` are the beginning of `pattern`, but not all of it.
pub fn overlap(text: &str, pattern: &str) -> usize {
    (1..pattern.len().min(text.len() + 1))
        .rev()
        .find(|&length| pattern.is_char_boundary(length) && text.ends_with(&pattern[..length]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn broken_bytes_do_not_stop_the_text() {
        let mut utf8 = Utf8::default();
        let mut text = String::new();
        utf8.push(b"a\xff\xe6\x97", &mut text);
        assert_eq!(text, "a\u{fffd}");
        utf8.push(b"\xa5b\xf0\x9f", &mut text);
        assert_eq!(text, "a\u{fffd}日b");
    }

    #[test]
    fn a_stop_text_ends_the_answer_before_itself() {
        let mut stops = Stops::new(vec!["END".into(), "\n\n".into()]);
        assert_eq!(stops.push("one E"), ("one ".into(), false));
        assert_eq!(stops.push("N"), (String::new(), false));
        assert_eq!(stops.push("Q"), ("ENQ".into(), false));
        assert_eq!(stops.push("\n"), (String::new(), false));
        assert_eq!(stops.push("two EN"), ("\ntwo ".into(), false));
        assert_eq!(stops.push("D three"), (String::new(), true));
    }

    proptest! {
        #[test]
        fn characters_come_whole_however_bytes_are_cut(text in "\\PC{0,40}", cut in 1usize..5) {
            let (mut utf8, mut joined) = (Utf8::default(), String::new());
            for chunk in text.as_bytes().chunks(cut) {
                utf8.push(chunk, &mut joined);
            }
            prop_assert_eq!(&joined, &text);
        }

        #[test]
        fn stopping_is_the_same_however_text_is_cut(text in "[ab日]{0,30}", stop in "[ab日]{1,4}", cut in 1usize..5) {
            let mut stops = Stops::new(vec![stop.clone()]);
            let (mut seen, mut stopped) = (String::new(), false);
            let characters: Vec<char> = text.chars().collect();
            for chunk in characters.chunks(cut) {
                let (more, stop) = stops.push(&chunk.iter().collect::<String>());
                seen.push_str(&more);
                if stop {
                    stopped = true;
                    break;
                }
            }
            if !stopped {
                seen.push_str(&stops.finish());
            }
            prop_assert_eq!(stopped, text.contains(&stop));
            prop_assert_eq!(seen, text.split(&stop).next().unwrap_or_default());
        }
    }
}
