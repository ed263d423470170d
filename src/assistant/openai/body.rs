//! The body of an answer, taken apart into records: the events of an event stream, or the JSON values of anything else. Which of
//! both it is, is seen by its first characters; servers label it wrongly.

use std::collections::VecDeque;

/// A piece of an answer that is to be read as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// The event's type, where the stream names one.
    pub(super) kind: String,
    /// Its data. What is no UTF-8 is U+FFFD.
    pub(super) data: String,
}

/// Why a body is read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// One record is larger than the limit.
    TooLarge,
    /// It is a web page.
    Page,
}

/// Reads a body that arrives in chunks, which may end anywhere.
#[derive(Debug)]
pub(super) struct BodyReader {
    form: Form,
    limit: usize,
    /// Whether it begins as a web page does.
    is_page: bool,
}

#[derive(Debug)]
enum Form {
    /// Nothing but space and so many bytes of a byte order mark were seen.
    Unknown {
        mark: usize,
    },
    /// It begins with an angle bracket: a page, or what somebody put before the answer.
    Marked(Vec<u8>),
    Events(Events),
    Values(Values),
}

/// How web pages begin, in lower case.
const PAGES: [&[u8]; 2] = [b"<!doctype", b"<html"];

/// The byte order mark in UTF-8.
const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// The bytes without a byte order mark at their beginning.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(&MARK).unwrap_or(bytes)
}

impl BodyReader {
    /// A reader of records of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { form: Form::Unknown { mark: 0 }, limit, is_page: false }
    }

    /// Whether the body is JSON and no event stream, as far as that was seen.
    pub(super) fn is_json(&self) -> bool {
        matches!(self.form, Form::Values(_))
    }

    /// Whether it begins as a web page does, though it may go on as an answer.
    pub(super) fn is_page(&self) -> bool {
        self.is_page
    }

    /// Takes a chunk and hands out the records that it completed.
    pub(super) fn push(&mut self, mut chunk: &[u8], out: &mut VecDeque<Record>) -> Result<(), Unreadable> {
        while let Form::Unknown { mark } = &mut self.form {
            let Some((&first, rest)) = chunk.split_first() else { return Ok(()) };
            if MARK.get(*mark) == Some(&first) {
                *mark += 1;
                chunk = rest;
                continue;
            }
            match first {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    // A mark after space is none.
                    *mark = MARK.len();
                    chunk = rest;
                }
                b'{' | b'[' => self.form = Form::Values(Values::default()),
                b'<' => self.form = Form::Marked(Vec::new()),
                _ => self.form = Form::Events(Events::default()),
            }
        }
        if let Form::Marked(begin) = &mut self.form {
            self.is_page = true;
            begin.extend_from_slice(chunk);
            let begun = begin.to_ascii_lowercase();
            if PAGES.iter().any(|page| begun.starts_with(page)) {
                return Err(Unreadable::Page);
            }
            if PAGES.iter().any(|page| page.starts_with(&begun)) {
                return Ok(());
            }
            let mut events = Events::default();
            events.push(&std::mem::take(begin), self.limit, out)?;
            self.form = Form::Events(events);
            return Ok(());
        }
        match &mut self.form {
            Form::Events(events) => events.push(chunk, self.limit, out),
            Form::Values(values) => values.push(chunk, self.limit, out),
            Form::Unknown { .. } | Form::Marked(_) => Ok(()),
        }
    }

    /// Hands out what is there of the last record: nothing follows.
    pub(super) fn finish(&mut self, out: &mut VecDeque<Record>) {
        match &mut self.form {
            Form::Events(events) => events.finish(out),
            Form::Values(values) => values.finish(out),
            Form::Unknown { .. } | Form::Marked(_) => {}
        }
    }
}

/// An event stream, read as the HTML standard says, with liberties: a line that is no field becomes a record of its own, so that
/// what somebody put between the events is seen, unless the JSON before it is in the midst of a text, which some servers break into
/// lines; an error may be a field; and the last event needs no empty line.
#[derive(Debug, Default)]
struct Events {
    /// The line that is arriving.
    line: Vec<u8>,
    /// Whether the line before ended in CR, of which a LF may be the second half.
    after_cr: bool,
    kind: String,
    data: Vec<u8>,
    /// Whether the event has data, perhaps empty.
    has_data: bool,
    /// How far the JSON in it is followed.
    json: JsonEnd,
    /// How many empty lines came in the midst of a text of it.
    blanks: usize,
}

impl Events {
    fn push(&mut self, mut chunk: &[u8], limit: usize, out: &mut VecDeque<Record>) -> Result<(), Unreadable> {
        if !chunk.is_empty() && std::mem::take(&mut self.after_cr) {
            chunk = chunk.strip_prefix(b"\n").unwrap_or(chunk);
        }
        while let Some(end) = chunk.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (piece, rest) = chunk.split_at(end);
            self.gather(piece, limit)?;
            self.end_line(limit, out)?;
            chunk = match rest {
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => rest,
                [] => &[],
            };
        }
        self.gather(chunk, limit)
    }

    fn gather(&mut self, piece: &[u8], limit: usize) -> Result<(), Unreadable> {
        if self.line.len() + self.data.len() + piece.len() > limit {
            return Err(Unreadable::TooLarge);
        }
        self.line.extend_from_slice(piece);
        Ok(())
    }

    fn end_line(&mut self, limit: usize, out: &mut VecDeque<Record>) -> Result<(), Unreadable> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            if self.json.is_in_text() && self.data.len() + self.blanks < limit {
                self.blanks += 1;
            } else {
                self.end_event(out);
            }
            return Ok(());
        }
        let (name, value) = match line.iter().position(|&byte| byte == b':') {
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (&line[..], &[][..]),
        };
        let is_field = matches!(name, b"data" | b"event" | b"" | b"id" | b"retry")
            || (name == b"error" && value.starts_with(b"{"));
        if is_field && self.blanks > 0 {
            // The text was not broken into lines, but torn off.
            self.end_event(out);
        }
        match name {
            b"data" => self.push_data(value, limit)?,
            b"error" if value.starts_with(b"{") => {
                self.end_event(out);
                self.kind = "error".to_owned();
                self.push_data(value, limit)?;
            }
            b"event" => self.kind = String::from_utf8_lossy(value).into_owned(),
            b"" | b"id" | b"retry" => {}
            _ if self.json.is_in_text() => {
                for _ in 0..std::mem::take(&mut self.blanks) {
                    self.push_data(&[], limit)?;
                }
                self.push_data(&line, limit)?;
            }
            _ => out.push_back(Record { kind: String::new(), data: text(line) }),
        }
        Ok(())
    }

    /// Takes another line of data.
    fn push_data(&mut self, value: &[u8], limit: usize) -> Result<(), Unreadable> {
        if self.data.len() + value.len() >= limit {
            return Err(Unreadable::TooLarge);
        }
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        for &byte in value {
            self.json.step(byte);
        }
        Ok(())
    }

    fn end_event(&mut self, out: &mut VecDeque<Record>) {
        self.json = JsonEnd::default();
        self.blanks = 0;
        let (kind, data) = (std::mem::take(&mut self.kind), std::mem::take(&mut self.data));
        if std::mem::take(&mut self.has_data) {
            out.push_back(Record { kind, data: text(data) });
        }
    }

    fn finish(&mut self, out: &mut VecDeque<Record>) {
        if !self.line.is_empty() {
            // Within the limit already, so that this does not fail.
            let _ = self.end_line(usize::MAX, out);
        }
        self.end_event(out);
    }
}

/// JSON values one after the other: one, one a line, or an array of them. What stands between them and is none becomes a record
/// line by line.
#[derive(Debug, Default)]
struct Values {
    value: Vec<u8>,
    end: JsonEnd,
    /// Whether `value` is a line of something else.
    is_other: bool,
}

impl Values {
    fn push(&mut self, chunk: &[u8], limit: usize, out: &mut VecDeque<Record>) -> Result<(), Unreadable> {
        for &byte in chunk {
            if self.value.is_empty() {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' | b',' | 0x1e => continue,
                    b'{' | b'[' => self.is_other = false,
                    _ => self.is_other = true,
                }
            }
            if self.value.len() >= limit {
                return Err(Unreadable::TooLarge);
            }
            self.value.push(byte);
            let is_whole = if self.is_other { byte == b'\n' } else { self.end.step(byte) };
            if is_whole {
                self.hand_out(out);
            }
        }
        Ok(())
    }

    fn hand_out(&mut self, out: &mut VecDeque<Record>) {
        self.end = JsonEnd::default();
        let mut data = text(std::mem::take(&mut self.value));
        if self.is_other
            && let Some(rest) = data.strip_prefix("data:")
        {
            data = rest.to_owned();
        }
        out.push_back(Record { kind: String::new(), data });
    }

    fn finish(&mut self, out: &mut VecDeque<Record>) {
        if !self.value.is_empty() {
            self.hand_out(out);
        }
    }
}

/// Follows JSON just far enough to know where an object or an array ends.
#[derive(Clone, Debug, Default)]
pub(super) struct JsonEnd {
    depth: usize,
    is_string: bool,
    is_escaped: bool,
}

impl JsonEnd {
    /// Whether it is in the midst of a text in an object or an array.
    fn is_in_text(&self) -> bool {
        self.depth > 0 && self.is_string
    }

    /// Takes a byte; whether it ends the outermost object or array.
    pub(super) fn step(&mut self, byte: u8) -> bool {
        if self.is_string {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => self.is_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.is_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                let was_in = self.depth;
                self.depth = was_in.saturating_sub(1);
                return was_in == 1;
            }
            _ => {}
        }
        false
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8], cut: usize) -> Vec<(String, String)> {
        let mut reader = BodyReader::new(1000);
        let mut records = VecDeque::new();
        for chunk in bytes.chunks(cut) {
            reader.push(chunk, &mut records).unwrap();
        }
        reader.finish(&mut records);
        records.into_iter().map(|record| (record.kind, record.data)).collect()
    }

    fn data(bytes: impl AsRef<[u8]>) -> Vec<String> {
        let bytes = bytes.as_ref();
        let whole = read(bytes, bytes.len().max(1));
        for cut in 1..8 {
            assert_eq!(read(bytes, cut), whole, "cut every {cut} bytes");
        }
        whole.into_iter().map(|(_, data)| data).collect()
    }

    #[test]
    fn event_streams_are_read_as_the_standard_says() {
        // The examples of the HTML standard.
        assert_eq!(data("data: YHOO\ndata: +2\ndata: 10\n\n"), ["YHOO\n+2\n10"]);
        assert_eq!(
            data(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"),
            ["first event", "second event", " third event"]
        );
        assert_eq!(data("data\n\ndata\ndata\n\n"), ["", "\n"]);
        assert_eq!(data("data:test\n\ndata: test\n\n"), ["test", "test"]);
        // All kinds of line ends, also mixed, and several of them in a row.
        for end in ["\n", "\r", "\r\n"] {
            assert_eq!(data(["data: a", "data: b", "", "", "data: c", "", ""].join(end)), ["a\nb", "c"], "{end:?}");
        }
        assert_eq!(data("data: a\r\n\rdata: b\n\r\ndata: c\r\r"), ["a", "b", "c"]);
        // What the standard would throw away at the end is kept.
        assert_eq!(data("data: a\n\ndata: b"), ["a", "b"]);
        assert_eq!(data("data: a\n"), ["a"]);
        assert_eq!(
            read(b"event: error\ndata: x\n\ndata: y\n\n", 3),
            [("error".into(), "x".into()), (String::new(), "y".into())]
        );
        assert_eq!(data("retry: 10\nid: 4\nevent: ping\n\n"), [""; 0]);
        // A line that is no field is seen.
        assert_eq!(
            data("data: a\n\n{\"error\":1}\nInternal Server Error\n\n"),
            ["a", "{\"error\":1}", "Internal Server Error"]
        );
    }

    #[test]
    fn one_mark_at_the_beginning_is_dropped() {
        assert_eq!(data("\u{feff}data: a\n\n"), ["a"]);
        assert_eq!(data("\u{feff}{\"a\":1}"), ["{\"a\":1}"]);
        assert_eq!(data("\u{feff}\u{feff}data: a\n\n"), ["\u{feff}data: a"]);
        assert_eq!(data("data: \u{feff}a\n\n"), ["\u{feff}a"]);
        assert_eq!(data(b"\xEF\xBBdata: a\n\ndata: b\n\n"), ["a", "b"]);
        assert_eq!(data("\u{feff}"), [""; 0]);
        assert_eq!(without_mark("\u{feff}{}".as_bytes()), b"{}");
    }

    #[test]
    fn what_is_no_utf_8_is_replaced() {
        assert_eq!(data(b"data: a\xff\xffb\n\n"), ["a\u{fffd}\u{fffd}b"]);
        assert_eq!(data(b"data: \xF0\x9F\n\ndata: \xF0\x9F\x98\x80\n\n"), ["\u{fffd}", "😀"]);
    }

    #[test]
    fn the_first_characters_tell_what_it_is() {
        assert_eq!(data("\n {\"a\":\"}\\\"\"}\n"), ["{\"a\":\"}\\\"\"}"]);
        assert_eq!(
            data("{\"a\":\n{}}\r\n{\"b\":2}{\"c\":[1]}\n[DONE]\n"),
            ["{\"a\":\n{}}", "{\"b\":2}", "{\"c\":[1]}", "[DONE]"]
        );
        assert_eq!(data("{\"a\":1}\nlog line\ndata: {\"b\":2}\n"), ["{\"a\":1}", "log line\n", " {\"b\":2}\n"]);
        assert_eq!(data("{\"torn\":"), ["{\"torn\":"]);
        assert_eq!(data("\r\n\r\ndata: a\n\n"), ["a"]);
        let mut reader = BodyReader::new(10);
        assert_eq!(reader.push(b" <!doctype html>", &mut VecDeque::new()), Err(Unreadable::Page));
    }

    #[test]
    fn a_record_is_not_gathered_for_ever() {
        for begin in ["data: ", "{", "x"] {
            let mut reader = BodyReader::new(1000);
            let mut records = VecDeque::new();
            let mut taken = 0;
            let ended = (0..100).find_map(|_| {
                taken += 100;
                reader.push(if taken == 100 { begin.as_bytes() } else { &[b'x'; 100] }, &mut records).err()
            });
            assert_eq!((ended, taken < 1500), (Some(Unreadable::TooLarge), true), "{begin}");
        }
        let mut reader = BodyReader::new(1000);
        let lines = "data: 0123456789\n".repeat(200);
        assert_eq!(reader.push(lines.as_bytes(), &mut VecDeque::new()), Err(Unreadable::TooLarge));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_the_same_however_cut(
            bytes in prop::collection::vec(prop_oneof![
                Just(b'\n'), Just(b'\r'), Just(b':'), Just(b' '), Just(b'{'), Just(b'}'), Just(b'"'), Just(b'd'),
                Just(0xEF), Just(0xBB), Just(0xBF), any::<u8>()
            ], 0..60),
            cut in 1usize..9,
        ) {
            let run = |cut: usize| {
                let mut reader = BodyReader::new(1000);
                let mut records = VecDeque::new();
                let ended = bytes.chunks(cut).find_map(|chunk| reader.push(chunk, &mut records).err());
                if ended.is_none() {
                    reader.finish(&mut records);
                }
                (records, ended)
            };
            prop_assert_eq!(run(cut), run(100));
        }

        #[test]
        fn data_comes_out_as_it_went_in(texts in prop::collection::vec("[^\r\n\u{0}]{0,12}", 1..6), end in "(\r\n|\r|\n)") {
            let stream: String = texts.iter().map(|text| format!("data: {text}{end}{end}")).collect();
            prop_assert_eq!(data(stream), texts);
        }
    }
}
