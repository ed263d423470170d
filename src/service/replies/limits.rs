//! What of a reply counts: its bytes, its events, and the time without words, whatever they hold and whoever answers.

use super::RepliesOptions;
use crate::assistant::Event;
use crate::model::reply::Phase;
use std::time::{Duration, Instant};

/// Counts one reply.
pub(super) struct Meter {
    first_words: Duration,
    next_words: Duration,
    most_bytes: usize,
    most_events: usize,
    /// Bytes of text, reasoning and calls.
    bytes: usize,
    events: usize,
    /// Whether words came since the assistant was asked.
    has_words: bool,
    /// How long it has been silent before `silent_since`.
    silent: Duration,
    /// Since when it is silent; `None` while the clock stands still.
    silent_since: Option<Instant>,
}

impl Meter {
    /// A meter that has counted nothing, and whose clock stands still.
    pub(super) fn new(options: &RepliesOptions) -> Self {
        Self {
            first_words: options.first_words_patience,
            next_words: options.words_patience,
            most_bytes: options.max_reply_bytes,
            most_events: options.max_reply_events,
            bytes: 0,
            events: 0,
            has_words: false,
            silent: Duration::ZERO,
            silent_since: None,
        }
    }

    /// The assistant is asked: it reads before it speaks, so that its first words are waited for longer.
    pub(super) fn ask(&mut self) {
        (self.has_words, self.silent, self.silent_since) = (false, Duration::ZERO, Some(Instant::now()));
    }

    /// The clock stands still: not the assistant is waited for now, but a tool or a person.
    pub(super) fn pause(&mut self) {
        self.silent += self.silent_since.take().map(|since| since.elapsed()).unwrap_or_default();
    }

    /// How long the silence may go on.
    pub(super) fn patience(&self) -> Duration {
        let silent = self.silent + self.silent_since.map(|since| since.elapsed()).unwrap_or_default();
        self.longest().saturating_sub(silent)
    }

    /// How long a silence may be now.
    pub(super) fn longest(&self) -> Duration {
        if self.has_words { self.next_words } else { self.first_words }
    }

    /// Counts an event and returns how many bytes of words it brought.
    pub(super) fn count(&mut self, event: &Event) -> usize {
        if matches!(event, Event::Progress(Phase::BuildingModel | Phase::FetchingModel, _)) {
            // A model that is still on its way cannot speak, and the assistant says again and again that it is waited for.
            (self.silent, self.silent_since) = (Duration::ZERO, None);
        } else if self.silent_since.is_none() {
            self.silent_since = Some(Instant::now());
        }
        let words = match event {
            Event::Text(text) | Event::Reasoning(text) => text.len(),
            Event::ToolCall(call) => call.name.len() + call.call_id.len() + call.arguments.to_string().len(),
            Event::Progress(..) | Event::TextWasReasoning | Event::Usage(_) | Event::CutOff(_) => 0,
        };
        self.add(words);
        if words > 0 {
            self.has_words = true;
            self.silent = Duration::ZERO;
            self.silent_since = self.silent_since.map(|_| Instant::now());
        }
        words
    }

    /// Counts an event of our own, which brought so many bytes.
    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.events += 1;
    }

    /// How many bytes of words came so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it is more than a reply may be.
    pub(super) fn is_over(&self) -> bool {
        self.bytes > self.most_bytes || self.events > self.most_events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assistant::ToolCall;
    use serde_json::json;

    fn meter(change: impl FnOnce(&mut RepliesOptions)) -> Meter {
        let mut options = RepliesOptions::default();
        change(&mut options);
        Meter::new(&options)
    }

    #[test]
    fn the_usual_limits_are_the_documented_ones() {
        let options = RepliesOptions::default();
        assert_eq!((options.max_reply_bytes, options.max_reply_events), (8 << 20, 200_000));
        // A moment more than a client of a model server waits itself, because that can name the server.
        let (first, next) = (options.first_words_patience.as_secs(), options.words_patience.as_secs());
        assert!((600..=605).contains(&first) && (120..=125).contains(&next));
    }

    #[test]
    fn a_model_that_is_on_its_way_is_waited_for() {
        let mut meter = meter(|options| options.first_words_patience = Duration::from_secs(100));
        meter.ask();
        meter.silent = Duration::from_secs(99);
        meter.count(&Event::Progress(Phase::BuildingModel, Some(0.5)));
        assert_eq!(meter.patience(), Duration::from_secs(100), "the clock stands still");
        meter.count(&Event::Progress(Phase::LoadingModel, None));
        assert!(meter.silent_since.is_some(), "and goes on with what comes next");
    }

    #[test]
    fn everything_counts() {
        let mut meter = meter(|options| (options.max_reply_bytes, options.max_reply_events) = (100, 5));
        let call = ToolCall { call_id: "c".into(), name: "f".into(), arguments: json!({"a": "x".repeat(80)}) };
        assert_eq!(meter.count(&Event::ToolCall(call)), 2 + 88);
        assert!(!meter.is_over());
        assert_eq!(meter.count(&Event::Reasoning("12345678901".into())), 11);
        assert!(meter.is_over());

        let mut meter = self::meter(|options| options.max_reply_events = 5);
        (0..5).for_each(|_| _ = meter.count(&Event::Progress(Phase::Waiting, None)));
        assert!(!meter.is_over());
        meter.count(&Event::TextWasReasoning);
        assert!(meter.is_over());
    }

    #[test]
    fn only_words_break_the_silence_and_the_clock_can_stand_still() {
        let (long, short) = (Duration::from_secs(600), Duration::from_secs(120));
        let mut meter = meter(|options| (options.first_words_patience, options.words_patience) = (long, short));
        assert_eq!((meter.patience(), meter.patience()), (long, long), "nobody was asked yet");
        meter.ask();
        meter.silent_since = Instant::now().checked_sub(Duration::from_secs(100));
        meter.count(&Event::Progress(Phase::ReadingContext, Some(0.5)));
        assert!(meter.patience() <= Duration::from_secs(500));
        meter.pause();
        let left = meter.patience();
        assert_eq!(meter.patience(), left);
        assert!(left > Duration::from_secs(490));
        meter.ask();
        meter.count(&Event::Text("a".into()));
        assert!(meter.patience() <= short && meter.patience() > Duration::from_secs(110));
    }
}
