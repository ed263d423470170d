//! How the log writes what it is given: an event is one line, whatever foreign text stands in it.

use crate::model::foreign::OneLine;
use std::fmt::Write;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// How many characters of a field are written.
const MOST_CHARACTERS: usize = 4_000;

/// Writes the fields of events and spans: `name=value`, the message without its name. Control characters are escaped and what is
/// long is cut, here for all that is logged: errors hold the texts of model servers, files and callers, and libraries log too.
pub fn fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug| {
        if field.name() != "message" {
            write!(writer, "{}=", field.name())?;
        }
        write!(OneLine::new(writer, MOST_CHARACTERS), "{value:?}")
    })
    .delimited(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        let sink = Sink::default();
        let writer = sink.clone();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .fmt_fields(fields())
            .with_writer(move || writer.clone())
            .finish();
        let evil = "x\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[2J\u{9b}31m\u{2028}\u{202e}y";
        tracing::subscriber::with_default(log, || {
            let span = tracing::info_span!("request", path = %evil);
            let _entered = span.enter();
            tracing::warn!(error = %evil, text = evil, id = 7, "a reply failed: {evil}");
            tracing::warn!("{}", "z".repeat(1_000_000));
        });
        let written = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.lines().count(), 2, "{written}");
        assert!(
            !written.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}' || c == '\u{2028}'),
            "{written:?}"
        );
        assert!(
            written.contains("a reply failed: x\\n2026")
                && written.contains("error=x\\n2026")
                && written.contains("id=7")
        );
        assert!(written.contains("request{path=x\\n"), "{written}");
        assert!(written.len() < 10_000);
    }
}
