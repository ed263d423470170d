//! Follows Markdown that arrives in pieces just far enough to know what of it is code.

/// Where a text stands, after the bytes that were taken.
#[derive(Clone, Debug)]
pub(super) struct Code {
    /// A run of backticks or tildes that may go on.
    run: usize,
    run_sign: u8,
    /// Whether the run is the first of its line.
    run_begins_line: bool,
    /// How many backticks opened the code span that goes on; 0 for none.
    span: usize,
    /// The sign and the length of the fence that goes on.
    fence: Option<(u8, usize)>,
    /// Whether the line is the one that opened the fence.
    is_opening_line: bool,
    /// Whether the line closes the fence, if nothing but space follows.
    is_closing_line: bool,
    /// Whether the line has only space so far, and how wide it is.
    is_blank: bool,
    indent: usize,
    /// Whether the line has only space and the signs of quotes and lists so far.
    is_prefix: bool,
    /// Whether the line before had only space.
    follows_blank: bool,
    is_escaped: bool,
}

impl Default for Code {
    fn default() -> Self {
        Self {
            run: 0,
            run_sign: b'`',
            run_begins_line: false,
            span: 0,
            fence: None,
            is_opening_line: false,
            is_closing_line: false,
            is_blank: true,
            indent: 0,
            is_prefix: true,
            follows_blank: true,
            is_escaped: false,
        }
    }
}

impl Code {
    /// Takes the next byte.
    pub(super) fn step(&mut self, byte: u8) {
        self.settle(byte);
        match byte {
            b'\n' => {
                if self.fence.is_some() {
                    if std::mem::take(&mut self.is_closing_line) {
                        self.fence = None;
                    }
                    self.is_opening_line = false;
                } else if self.is_blank {
                    // A span ends with its paragraph at the latest: it was none.
                    self.span = 0;
                }
                (self.follows_blank, self.is_blank, self.is_prefix, self.indent) = (self.is_blank, true, true, 0);
            }
            b'`' | b'~' if !(self.is_escaped && self.fence.is_none() && self.span == 0) => {
                if self.run == 0 {
                    (self.run_sign, self.run_begins_line) = (byte, self.is_prefix);
                }
                self.run += 1;
                self.is_blank = false;
            }
            b' ' | b'\t' | b'\r' => {
                if self.is_blank {
                    self.indent += if byte == b'\t' { 4 } else { 1 };
                }
            }
            _ => {
                self.is_blank = false;
                self.is_closing_line = false;
                self.is_prefix &= matches!(byte, b'>' | b'-' | b'*' | b'+' | b'.' | b')' | b'0'..=b'9');
            }
        }
        self.is_escaped = byte == b'\\' && !self.is_escaped;
    }

    /// Ends a run of backticks or tildes that `next` does not continue.
    pub(super) fn settle(&mut self, next: u8) {
        if self.run == 0 || next == self.run_sign {
            return;
        }
        let length = std::mem::take(&mut self.run);
        self.is_prefix = false;
        match self.fence {
            // A backtick after the opening of a fence: it was a span.
            Some((b'`', opened)) if self.is_opening_line && self.run_sign == b'`' => {
                self.fence = None;
                self.is_opening_line = false;
                self.span = if length == opened { 0 } else { opened };
            }
            Some((sign, opened)) => {
                self.is_closing_line = self.run_begins_line && self.run_sign == sign && length >= opened;
            }
            None if self.run_begins_line && length >= 3 && self.span == 0 => {
                self.fence = Some((self.run_sign, length));
                self.is_opening_line = true;
            }
            None if self.run_sign == b'`' => {
                self.span = match self.span {
                    0 => length,
                    opened if opened == length => 0,
                    opened => opened,
                };
            }
            None => {}
        }
    }

    /// Nothing follows.
    pub(super) fn finish(&mut self) {
        self.settle(b'\n');
        if self.is_closing_line {
            self.fence = None;
        }
    }

    /// Whether a fence is open.
    pub(super) fn is_fenced(&self) -> bool {
        self.fence.is_some()
    }

    /// Whether a span is open, as far as can be told: it is one only if it is closed in the same paragraph.
    pub(super) fn is_span(&self) -> bool {
        self.span > 0
    }

    /// Whether the line has nothing yet but the space that a paragraph may begin with.
    pub(super) fn is_line_start(&self) -> bool {
        self.is_blank && self.indent < 4 && self.run == 0
    }

    /// Whether the line is code by its indent, as far as it is here.
    pub(super) fn is_indented(&self) -> bool {
        self.follows_blank && self.indent >= 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> (bool, bool, bool) {
        let mut code = Code::default();
        text.bytes().for_each(|byte| code.step(byte));
        code.settle(0);
        (code.is_fenced(), code.is_span(), code.is_indented())
    }

    #[test]
    fn code_is_known_where_it_begins_and_ends() {
        for text in [
            "",
            "a",
            "`a` b",
            "``a ` b`` c",
            "```\na\n```\nb",
            "~~~\n```\n~~~\nb",
            "\\` b",
            "a\n    b",
            "```x``` b",
            "a ` b\n\nc",
            "````\n```\n````\nc",
            "- ```sh\n  x\n  ```\n- b",
        ] {
            assert_eq!(after(text), (false, false, false), "{text}");
        }
        for text in ["```\n", "~~~ py\nx", "- ```\n", "```\na\n``\n", "```\n``` no end\n", "> ```\n> x"] {
            assert_eq!(after(text), (true, false, false), "{text}");
        }
        for text in ["a `b", "``a ` b", "a `b\nc"] {
            assert_eq!(after(text), (false, true, false), "{text}");
        }
        assert_eq!(after("a\n\n    b"), (false, false, true));
    }
}
