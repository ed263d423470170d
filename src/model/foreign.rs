//! Text from outside (a model server's, a file's, a caller's) as it may stand in one line of a log or a page: nothing in it can
//! begin a line of its own, move the cursor or turn the direction of what stands beside it, and it is not endless.

use std::fmt::{self, Write};

/// Passes text on in one line: characters that act on the line are written as escapes, and after `most` characters follows `…`
/// and nothing more.
#[derive(Debug)]
pub struct OneLine<W> {
    inner: W,
    left: usize,
    is_cut: bool,
}

impl<W: Write> OneLine<W> {
    /// Writes into `inner`, at most this many characters of the text (an escape counts as one) and the sign that it was cut.
    pub fn new(inner: W, most: usize) -> Self {
        Self { inner, left: most, is_cut: false }
    }
}

impl<W: Write> Write for OneLine<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.left == 0 {
                if !std::mem::replace(&mut self.is_cut, true) {
                    self.inner.write_char('…')?;
                }
                return Ok(());
            }
            self.left -= 1;
            match character {
                '\n' => self.inner.write_str("\\n")?,
                '\r' => self.inner.write_str("\\r")?,
                '\t' => self.inner.write_str("\\t")?,
                _ if acts_on_the_line(character) => write!(self.inner, "{}", character.escape_unicode())?,
                _ => self.inner.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// The text in one line, at most `most` characters of it.
pub fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    // Writing into a string cannot fail.
    let _ = OneLine::new(&mut line, most).write_str(text);
    line
}

/// Whether a character does something to the text around it instead of being seen: controls of both sets, line and paragraph
/// separators, marks of direction, and signs without any width that hide where a word ends.
fn acts_on_the_line(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{061c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether a character is nothing that a person sees.
pub fn is_unseen(character: char) -> bool {
    acts_on_the_line(character)
        || character.is_whitespace()
        || matches!(
            character,
            '\u{ad}' | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{200c}' | '\u{200d}' | '\u{3164}' | '\u{fe00}'
                ..='\u{fe0f}' | '\u{ffa0}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_line_is_escaped_and_what_is_long_is_cut() {
        for (text, line) in [
            ("plain \\n 日本 🛠️ é", "plain \\n 日本 🛠️ é"),
            ("a\nb\r\n\tc", "a\\nb\\r\\n\\tc"),
            ("\u{1b}[2J\u{9b}31m\u{7f}\0", "\\u{1b}[2J\\u{9b}31m\\u{7f}\\u{0}"),
            ("a\u{2028}b\u{85}c", "a\\u{2028}b\\u{85}c"),
            ("\u{202e}evil\u{2066}\u{200f}\u{feff}", "\\u{202e}evil\\u{2066}\\u{200f}\\u{feff}"),
            ("", ""),
        ] {
            assert_eq!(one_line(text, 100), line);
        }
        assert_eq!(one_line("éééé", 3), "ééé…");
        assert_eq!(one_line("ééé", 3), "ééé");
        let mut line = String::new();
        let mut cut = OneLine::new(&mut line, 2);
        ["a", "b", "c", "d"].iter().for_each(|piece| cut.write_str(piece).unwrap());
        assert_eq!(line, "ab…");
    }
}
