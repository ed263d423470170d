//! From the bytes of a chat completion to events.

use super::body::{BodyReader, Record, Unreadable};
use super::failure::Peer;
use super::gather::{End, Gatherer};
use crate::assistant::{AssistantError, Event};
use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How long more is waited for after the model said why it ended: what it counted may follow.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// The same where the reason came with words: it may be that of the last words, or stand in each chunk.
const MORE_PATIENCE: Duration = Duration::from_secs(30);

/// What a chunk may hold beside its words, in bytes, before it counts against the limit of an answer.
const ENVELOPE_BYTES: usize = 4 << 10;

/// How long and how much is waited for and taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The longest time to the first words; a model reads the conversation first.
    pub(super) first_timeout: Duration,
    /// The longest time without words after that. Whatever else comes meanwhile, it counts as silence.
    pub(super) idle_timeout: Duration,
    /// The largest answer, in bytes: words in full, and what is sent beside them beyond a usual envelope for each chunk with words.
    pub(super) max_bytes: usize,
    /// The most chunks of an answer, whatever they hold.
    pub(super) max_chunks: usize,
}

/// The bytes of an answer; the error is for the log.
pub(super) type Body = BoxStream<'static, Result<Bytes, String>>;

/// An answer while it is read. Dropping it drops the body and so closes the connection.
pub(super) struct Reading {
    body: Body,
    reader: BodyReader,
    /// What is read and not yet understood.
    records: VecDeque<Record>,
    gatherer: Gatherer,
    /// What is ready and not yet handed on.
    queue: VecDeque<Event>,
    /// Why no more bytes come: they ended, or the connection was lost, with a text for the log.
    bytes_ended: Option<Result<(), String>>,
    ended: bool,
    /// Told after what stands in the queue.
    failure: Option<AssistantError>,
    peer: Peer,
    limits: Limits,
    /// When it is given up, if no words come.
    deadline: Instant,
    /// How long the silence that ends then is.
    patience: Duration,
    bytes: usize,
    chunks: usize,
    chunks_with_words: usize,
}

impl Reading {
    /// Reads an answer whose first words must come before the deadline.
    pub(super) fn new<B>(body: B, peer: Peer, limits: Limits, deadline: Instant) -> Self
    where
        B: Stream<Item = Result<Bytes, String>> + Send + 'static,
    {
        Self {
            body: body.boxed(),
            reader: BodyReader::new(limits.max_bytes),
            records: VecDeque::new(),
            gatherer: Gatherer::default(),
            queue: VecDeque::new(),
            bytes_ended: None,
            ended: false,
            failure: None,
            peer,
            limits,
            deadline,
            patience: limits.first_timeout,
            bytes: 0,
            chunks: 0,
            chunks_with_words: 0,
        }
    }

    /// What the server refused the request with, where that was all of its answer.
    pub(super) fn refusal(&self) -> Option<&(u16, String)> {
        self.gatherer.refusal().filter(|_| self.gatherer.words() == 0)
    }

    /// The next event.
    pub(super) async fn next(&mut self) -> Option<Result<Event, AssistantError>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return self.failure.take().map(Err);
            }
            if let Err(error) = self.read().await {
                // What was held back is kept.
                self.end(None);
                self.failure = Some(error);
            }
        }
    }

    /// Reads one piece into the queue.
    async fn read(&mut self) -> Result<(), AssistantError> {
        if let Some(record) = self.records.pop_front() {
            return self.take(&record);
        }
        match self.bytes_ended.take() {
            Some(ended) => return self.end_of_bytes(ended),
            None if self.is_flooded() => return self.flooded(),
            None => {}
        }
        let Ok(chunk) = tokio::time::timeout_at(self.deadline, self.body.next()).await else {
            if self.gatherer.is_complete(true) {
                self.end(None);
                return Ok(());
            }
            return Err(self.peer.silent(self.patience.as_secs()));
        };
        match chunk {
            Some(Ok(chunk)) => {
                self.bytes = self.bytes.saturating_add(chunk.len());
                match self.reader.push(&chunk, &mut self.records) {
                    Ok(()) => Ok(()),
                    Err(Unreadable::Page) => Err(self.peer.not_understood("a web page")),
                    Err(Unreadable::TooLarge) => self.flooded(),
                }
            }
            Some(Err(cause)) => {
                self.reader.finish(&mut self.records);
                self.bytes_ended = Some(Err(cause));
                Ok(())
            }
            None => {
                self.reader.finish(&mut self.records);
                self.bytes_ended = Some(Ok(()));
                Ok(())
            }
        }
    }

    fn take(&mut self, record: &Record) -> Result<(), AssistantError> {
        let words = self.gatherer.words();
        self.chunks += 1;
        self.gatherer.take(record, &self.peer, &mut self.queue)?;
        if self.gatherer.words() > words {
            self.chunks_with_words += 1;
            self.patience = self.limits.idle_timeout;
            self.deadline = Instant::now() + self.patience;
        }
        if self.gatherer.is_over() {
            self.end(None);
        } else if self.gatherer.is_complete(!self.reader.is_json()) {
            let patience = match self.gatherer.end() {
                End::AfterWords => LAST_PATIENCE,
                End::WithWords => MORE_PATIENCE,
                End::Unsure => self.limits.idle_timeout,
            };
            self.deadline = self.deadline.min(Instant::now() + patience);
        } else if self.is_flooded() {
            return self.flooded();
        }
        Ok(())
    }

    fn is_flooded(&self) -> bool {
        let allowed = self.chunks_with_words.saturating_mul(ENVELOPE_BYTES).saturating_add(self.limits.max_bytes);
        self.bytes > allowed || self.gatherer.words() > self.limits.max_bytes || self.chunks > self.limits.max_chunks
    }

    /// More came than an answer may hold. Where words came, they are an answer that was cut off.
    fn flooded(&mut self) -> Result<(), AssistantError> {
        if self.gatherer.words() == 0 {
            return Err(self.peer.endless());
        }
        self.end(Some("length"));
        Ok(())
    }

    fn end_of_bytes(&mut self, ended: Result<(), String>) -> Result<(), AssistantError> {
        // A connection that is lost after the last word was said is as good as an end.
        if self.gatherer.is_complete(!self.reader.is_json()) {
            self.end(None);
            return Ok(());
        }
        Err(match ended {
            Err(cause) => self.peer.broke_off(&cause),
            Ok(()) if self.reader.is_page() && !self.gatherer.has_begun() => self.peer.not_understood("a web page"),
            Ok(()) if self.gatherer.has_begun() || self.bytes == 0 => {
                self.peer.broke_off("the stream ended without a finish_reason")
            }
            Ok(()) => self.peer.not_understood("nothing in it is part of an answer"),
        })
    }

    /// Nothing follows.
    fn end(&mut self, cut_off: Option<&str>) {
        if !std::mem::replace(&mut self.ended, true) {
            self.gatherer.finish(cut_off, &mut self.queue);
            self.records.clear();
        }
    }
}
