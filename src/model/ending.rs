//! Whether a text looks as if it ended in the middle.

/// How many words a line without an end has at least that is taken for a torn sentence and not for a title, a name or a number.
const WORDS_OF_SENTENCE: usize = 8;

/// The same in letters, for scripts that write no spaces between words.
const LETTERS_OF_SENTENCE: usize = 20;

/// Whether a text (Markdown) shows that it broke off: a fence of code that is open, an end that calls for more, or a sentence
/// without its end. A short line without a full stop may well be all there is to say.
pub fn looks_cut(text: &str) -> bool {
    let text = text.trim_end();
    let Some(last) = text.chars().next_back() else { return false };
    if is_in_fence(text) || ",;-–—([{（「『、，".contains(last) {
        return true;
    }
    if !last.is_alphanumeric() {
        return false;
    }
    let line = text.lines().next_back().unwrap_or_default().trim_start();
    let is_sentence = !line.starts_with(['#', '|', '>']);
    let words = line.split_whitespace().count();
    let letters = line.chars().rev().take_while(|&letter| is_unspaced(letter)).count();
    is_sentence && (words >= WORDS_OF_SENTENCE || letters >= LETTERS_OF_SENTENCE)
}

/// Whether a fence of code is open at the end of a text.
fn is_in_fence(text: &str) -> bool {
    let mut open: Option<(char, usize)> = None;
    for line in text.lines() {
        let line = line.trim_start_matches([' ', '\t', '>', '-', '*']);
        let Some(sign) = line.chars().next().filter(|sign| matches!(sign, '`' | '~')) else { continue };
        let length = line.chars().take_while(|&other| other == sign).count();
        let rest = &line[length..];
        open = match open {
            None if length >= 3 && !(sign == '`' && rest.contains('`')) => Some((sign, length)),
            Some((opened, most)) if opened == sign && length >= most && rest.trim().is_empty() => None,
            same => same,
        };
    }
    open.is_some()
}

/// Letters of scripts without spaces between words: Chinese, Japanese, Thai.
fn is_unspaced(letter: char) -> bool {
    matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{0e00}'..='\u{0e7f}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_text_is_told_from_a_short_one() {
        for whole in [
            "",
            "Paris",
            "42",
            "Hello there",
            "It is done.",
            "Is it?",
            "\"Yes.\"",
            "これで終わりです。",
            "東京",
            "- apples\n- pears",
            "# A title that has quite a lot of words in it",
            "| a | b |\n| the last cell of a table has many words in it now",
            "```sh\nls\n```",
            "So:\n```\na, b,\n```\n",
            "Good luck 🎉",
            "See [the page](https://example.org/)",
        ] {
            assert!(!looks_cut(whole), "{whole}");
        }
        for torn in [
            "The first thing that you should do is to look at the",
            "First,",
            "The list (",
            "So:\n```sh\nls",
            "~~~\nx\n```",
            "1. Well.\n2. The second step is to open the file and then",
            "これはとても長い文で途中で切れていてまだ続きが",
        ] {
            assert!(looks_cut(torn), "{torn}");
        }
    }
}
