//! Makes the answers: one thread that owns the model's context and serves all conversations at the same time.
//!
//! Each step reads a batch: of every answer that is being made its newest token, and of every prompt that is being read its next
//! piece, in equal shares. So a short question is not held up by a long one, and nobody waits for ever. What was read stays in
//! the cache, so that the next turn of a conversation reads only what is new.

use crate::calls::{Call, CallParser, Piece};
use crate::protocol::{ApiError, Sampling};
use crate::sampling::Chooser;
use crate::slots::{self, Slot};
use crate::text::{Stops, Utf8};
use llama_cpp_2::DecodeError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// How many conversations are answered at the same time; more wait for their turn.
pub const MOST_ANSWERS: usize = 16;

/// The most tokens that are read in a step while nobody is being answered. A step of so many takes one or two seconds on
/// two slow cores, and only between steps can a request be cancelled or another one begin.
pub const READING_TOKENS: usize = 256;

/// The most tokens that are read in a step while others are being answered, so that their answers go on flowing.
const READING_BESIDE_TOKENS: usize = 16;

/// So much room is kept free for the answer of each conversation that is taken in.
const ANSWER_TOKENS: usize = 256;

/// An answer that is wanted.
pub struct Job {
    /// The conversation.
    pub prompt: Vec<LlamaToken>,
    /// The most tokens of the answer.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What holds the answer to its form.
    pub grammar: Option<String>,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// The names of the tools that may be called; `None` where none may.
    pub tools: Option<Vec<String>>,
    /// Who is told. When nobody listens any more, the answer is given up.
    pub updates: UnboundedSender<Update>,
}

/// What an asker is told.
#[derive(Clone, Debug)]
pub enum Update {
    /// It waits for its turn, with so many before it and itself.
    Queued(usize),
    /// How far the prompt is read.
    Reading(Reading),
    /// A piece of text.
    Text(String),
    /// A tool call.
    Call(Call),
    /// The answer is complete. Nothing follows.
    Done(Summary),
    /// It cannot be completed. Nothing follows.
    Failed(ApiError),
}

/// How far a prompt is read.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// The prompt's tokens.
    pub total: usize,
    /// Those that were in the cache.
    pub cached: usize,
    /// Those that are read, with those in the cache.
    pub processed: usize,
    /// For how long it has been read.
    pub time: Duration,
}

/// What an answer took.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Why it ended: `stop`, `length` or `tool_calls`.
    pub finish_reason: &'static str,
    /// The prompt's tokens.
    pub prompt_tokens: usize,
    /// Those of them that were in the cache.
    pub cached_tokens: usize,
    /// The answer's tokens.
    pub completion_tokens: usize,
    /// From the first token read to the first token of the answer.
    pub prompt_time: Duration,
    /// From the first token of the answer to its last one.
    pub completion_time: Duration,
}

/// What is going on, for `/health`.
#[derive(Debug, Default)]
pub struct Load {
    /// Conversations that are being answered.
    pub active: AtomicUsize,
    /// Conversations that wait for their turn.
    pub waiting: AtomicUsize,
}

/// The limits of the cache.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most tokens of one conversation with its answer.
    pub context_tokens: usize,
    /// The tokens of all conversations together.
    pub cache_tokens: usize,
}

/// An answer that is being made, or that waits for it.
struct Answer {
    job: Job,
    /// The prompt and what was answered so far.
    tokens: Vec<LlamaToken>,
    /// Where it is in the cache, once it has a place.
    slot: Option<usize>,
    cached_tokens: usize,
    chooser: Chooser,
    utf8: Utf8,
    stops: Stops,
    calls: Option<CallParser>,
    has_calls: bool,
    begun_at: Option<Instant>,
    first_token_at: Option<Instant>,
    /// What it was told last of its place in the queue.
    told_queued: usize,
}

impl Answer {
    fn generated(&self) -> usize {
        self.tokens.len() - self.job.prompt.len()
    }

    /// How many tokens of the cache it needs soon.
    fn need(&self) -> usize {
        self.tokens.len() + (self.job.max_tokens - self.generated()).min(ANSWER_TOKENS)
    }

    fn tell(&self, update: Update) {
        // Where nobody listens any more, the next step gives it up.
        _ = self.job.updates.send(update);
    }

    fn tell_pieces(&mut self, pieces: Vec<Piece>) {
        for piece in pieces {
            match piece {
                Piece::Text(text) if !text.is_empty() => self.tell(Update::Text(text)),
                Piece::Text(_) => {}
                Piece::Call(call) => {
                    self.has_calls = true;
                    self.tell(Update::Call(call));
                }
            }
        }
    }

    fn tell_text(&mut self, text: &str) {
        let pieces = match &mut self.calls {
            Some(calls) => calls.push(text),
            None => vec![Piece::Text(text.to_owned())],
        };
        self.tell_pieces(pieces);
    }

    /// Takes the bytes of a token; says whether a stop text was reached.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let mut text = String::new();
        self.utf8.push(bytes, &mut text);
        let (text, stopped) = self.stops.push(&text);
        self.tell_text(&text);
        stopped
    }

    /// Tells what was held back, and the end.
    fn finish(mut self, reason: &'static str, stopped_at_text: bool) {
        if !stopped_at_text {
            let text = self.stops.finish();
            self.tell_text(&text);
        }
        let rest = self.calls.as_mut().map(CallParser::finish).unwrap_or_default();
        self.tell_pieces(rest);
        let now = Instant::now();
        let begun_at = self.begun_at.unwrap_or(now);
        let first_token_at = self.first_token_at.unwrap_or(now);
        self.tell(Update::Done(Summary {
            finish_reason: if self.has_calls && reason == "stop" { "tool_calls" } else { reason },
            prompt_tokens: self.job.prompt.len(),
            cached_tokens: self.cached_tokens,
            completion_tokens: self.generated(),
            prompt_time: first_token_at - begun_at,
            completion_time: now - first_token_at,
        }));
    }
}

/// What a step reads of an answer's tokens.
struct Piecework {
    /// Which answer.
    answer: usize,
    /// How many of its tokens.
    tokens: usize,
    /// Where in the batch its last token stands, if what follows that is wanted.
    output: Option<i32>,
}

/// Serves conversations, see the module.
pub struct Scheduler {
    model: &'static LlamaModel,
    context: LlamaContext<'static>,
    batch: LlamaBatch<'static>,
    limits: Limits,
    /// Whether the model can forget the end of what it read; recurrent ones cannot.
    can_cut: bool,
    slots: Vec<Slot<LlamaToken>>,
    active: Vec<Answer>,
    waiting: VecDeque<Answer>,
    uses: u64,
    load: Arc<Load>,
}

impl Scheduler {
    /// A scheduler over a context with [`MOST_ANSWERS`] sequences.
    pub fn new(model: &'static LlamaModel, context: LlamaContext<'static>, limits: Limits, load: Arc<Load>) -> Self {
        Self {
            model,
            context,
            // One sequence for each token.
            batch: LlamaBatch::new(READING_TOKENS + MOST_ANSWERS, 1),
            limits,
            can_cut: !model.is_recurrent() && !model.is_hybrid(),
            slots: (0..MOST_ANSWERS).map(|_| Slot { tokens: Vec::new(), is_busy: false, last_used: 0 }).collect(),
            active: Vec::new(),
            waiting: VecDeque::new(),
            uses: 0,
            load,
        }
    }

    /// Serves until nobody can ask any more.
    pub fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            if self.active.is_empty() && self.waiting.is_empty() {
                match jobs.recv() {
                    Ok(job) => self.accept(job),
                    Err(_) => return,
                }
            }
            loop {
                match jobs.try_recv() {
                    Ok(job) => self.accept(job),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            self.drop_abandoned();
            self.admit();
            self.tell_load();
            self.step();
        }
    }

    fn accept(&mut self, job: Job) {
        let Some(chooser) = Chooser::new(self.model, &job.sampling, job.grammar.as_deref()) else {
            let message = "The form that the answer must have cannot be followed with this model.";
            // Whoever asked may be gone.
            _ = job.updates.send(Update::Failed(ApiError::new(400, "unsupported_format", message)));
            return;
        };
        self.waiting.push_back(Answer {
            tokens: job.prompt.clone(),
            slot: None,
            cached_tokens: 0,
            chooser,
            utf8: Utf8::default(),
            stops: Stops::new(job.stop.clone()),
            calls: job.tools.clone().map(CallParser::new),
            has_calls: false,
            begun_at: None,
            first_token_at: None,
            told_queued: 0,
            job,
        });
    }

    /// Gives up what nobody waits for.
    fn drop_abandoned(&mut self) {
        self.waiting.retain(|answer| !answer.job.updates.is_closed());
        for index in (0..self.active.len()).rev() {
            if self.active[index].job.updates.is_closed() {
                self.release(index);
            }
        }
    }

    /// Takes an answer out of the active ones; what was read stays in its slot.
    fn release(&mut self, index: usize) -> Answer {
        let mut answer = self.active.remove(index);
        if let Some(slot) = answer.slot.take() {
            self.uses += 1;
            self.slots[slot].is_busy = false;
            self.slots[slot].last_used = self.uses;
        }
        // Now, so that whoever is told its end does not see it as running any more.
        self.tell_load();
        answer
    }

    fn tell_load(&self) {
        self.load.active.store(self.active.len(), Ordering::Relaxed);
        self.load.waiting.store(self.waiting.len(), Ordering::Relaxed);
    }

    /// Begins answers, in the order in which they were asked for, while there is room.
    fn admit(&mut self) {
        while let Some(next) = self.waiting.front() {
            let needed: usize = self.active.iter().map(Answer::need).sum();
            let fits = needed + next.need() <= self.limits.cache_tokens || self.active.is_empty();
            if !fits {
                break;
            }
            let Some(place) = slots::place(&self.slots, &next.tokens, self.can_cut) else { break };
            let Some(mut answer) = self.waiting.pop_front() else { break };
            let kept = self.occupy(place);
            answer.slot = Some(place.slot);
            if answer.begun_at.is_none() {
                answer.begun_at = Some(Instant::now());
                answer.cached_tokens = kept;
            }
            self.active.push(answer);
        }
        for (position, answer) in self.waiting.iter_mut().enumerate() {
            if answer.told_queued != position + 1 {
                answer.told_queued = position + 1;
                answer.tell(Update::Queued(position + 1));
            }
        }
    }

    /// Prepares the cache for a conversation; returns how many of its tokens are in it.
    fn occupy(&mut self, place: slots::Place) -> usize {
        let mut kept = place.kept;
        let tokens = match place.copied_from {
            None => {
                if !self.cut(place.slot, kept) {
                    kept = 0;
                }
                self.slots[place.slot].tokens[..kept].to_vec()
            }
            Some(source) => {
                self.cut(place.slot, 0);
                let end = u32::try_from(kept).ok();
                // It fails only where a position does not fit into 31 bits, and the context has fewer.
                if self.context.kv_cache_seq_cp(sequence(source), sequence(place.slot), Some(0), end).is_err() {
                    kept = 0;
                }
                self.slots[source].tokens[..kept].to_vec()
            }
        };
        self.uses += 1;
        self.slots[place.slot] = Slot { tokens, is_busy: true, last_used: self.uses };
        kept
    }

    /// Forgets what a slot holds behind its first `kept` tokens. Where the model cannot, all is forgotten, and it is false.
    fn cut(&mut self, slot: usize, kept: usize) -> bool {
        let from = u32::try_from(kept).ok();
        if kept > 0
            && (kept == self.slots[slot].tokens.len()
                || self.context.kv_cache_seq_rm(sequence(slot), from, None).is_ok())
        {
            self.slots[slot].tokens.truncate(kept);
            return true;
        }
        // A whole sequence can always be removed.
        _ = self.context.kv_cache_seq_rm(sequence(slot), None, None);
        self.slots[slot].tokens.clear();
        kept == 0
    }

    /// Reads one batch and goes on from what it gives.
    fn step(&mut self) {
        let work = self.fill_batch();
        if work.is_empty() {
            return;
        }
        match self.context.decode(&mut self.batch) {
            Ok(()) => self.advance(&work),
            Err(DecodeError::NoKvCacheSlot) => self.make_room(),
            Err(error) => self.fail_all(&error),
        }
    }

    /// Puts together what is read next.
    fn fill_batch(&mut self) -> Vec<Piecework> {
        self.batch.clear();
        let mut work = Vec::new();
        let unread = |answer: &Answer, slots: &[Slot<LlamaToken>]| {
            answer.slot.map_or(0, |slot| answer.tokens.len() - slots[slot].tokens.len())
        };
        let (answering, reading): (Vec<usize>, Vec<usize>) =
            (0..self.active.len()).partition(|&index| unread(&self.active[index], &self.slots) == 1);
        let mut room = if answering.is_empty() { READING_TOKENS } else { READING_BESIDE_TOKENS };
        for index in answering {
            self.add_to_batch(index, 1, &mut work);
        }
        // Who needs least comes first, so that what it leaves of its share goes to the others.
        let mut reading: Vec<(usize, usize)> =
            reading.into_iter().map(|index| (unread(&self.active[index], &self.slots), index)).collect();
        reading.sort_unstable();
        let count = reading.len();
        for (position, (unread, index)) in reading.into_iter().enumerate() {
            let share = room.div_ceil(count - position).min(unread).min(room);
            room -= share;
            self.add_to_batch(index, share, &mut work);
        }
        work
    }

    fn add_to_batch(&mut self, index: usize, count: usize, work: &mut Vec<Piecework>) {
        let answer = &self.active[index];
        let Some(slot) = answer.slot.filter(|_| count > 0) else { return };
        let begin = self.slots[slot].tokens.len();
        let is_last = begin + count == answer.tokens.len();
        for position in begin..begin + count {
            let wanted = is_last && position + 1 == begin + count;
            let Ok(at) = i32::try_from(position) else { return };
            if self.batch.add(answer.tokens[position], at, &[sequence(slot)], wanted).is_err() {
                // The batch has room for every answer's token beside what is read in a step.
                return;
            }
        }
        let output = is_last.then(|| self.batch.n_tokens() - 1);
        work.push(Piecework { answer: index, tokens: count, output });
    }

    /// After a batch: notes what was read, and takes the next token of those whose end was reached.
    fn advance(&mut self, work: &[Piecework]) {
        let mut ended = Vec::new();
        for piece in work {
            let answer = &mut self.active[piece.answer];
            let Some(slot) = answer.slot else { continue };
            let begin = self.slots[slot].tokens.len();
            self.slots[slot].tokens.extend_from_slice(&answer.tokens[begin..begin + piece.tokens]);
            if answer.first_token_at.is_none() {
                answer.tell(Update::Reading(Reading {
                    total: answer.job.prompt.len(),
                    cached: answer.cached_tokens,
                    processed: begin + piece.tokens,
                    time: answer.begun_at.map(|at| at.elapsed()).unwrap_or_default(),
                }));
            }
            let Some(output) = piece.output else { continue };
            let token = answer.chooser.choose(&self.context, output);
            answer.first_token_at.get_or_insert_with(Instant::now);
            let vocabulary = self.model.vocab();
            let Some(token) = token.filter(|&token| !vocabulary.is_eog(token)) else {
                ended.push((piece.answer, "stop", false));
                continue;
            };
            answer.tokens.push(token);
            // The marks of some models' calls are control tokens, which are not shown otherwise.
            let bytes = vocabulary.token_to_piece(token, answer.calls.is_some(), None);
            if answer.take(&bytes) {
                ended.push((piece.answer, "stop", true));
            } else if answer.generated() >= answer.job.max_tokens || answer.tokens.len() >= self.limits.context_tokens {
                ended.push((piece.answer, "length", false));
            }
        }
        ended.sort_unstable_by_key(|(index, ..)| *index);
        for (index, reason, at_text) in ended.into_iter().rev() {
            self.release(index).finish(reason, at_text);
        }
    }

    /// The cache is full: forgets the conversation that was not used for longest, else lets the newest answer wait.
    fn make_room(&mut self) {
        if let Some(slot) = slots::oldest_idle(&self.slots) {
            self.cut(slot, 0);
            return;
        }
        let newest = self.active.len() - 1;
        let slot = self.active[newest].slot;
        let answer = self.release(newest);
        if let Some(slot) = slot {
            self.cut(slot, 0);
        }
        if self.active.is_empty() {
            // Alone in an empty cache and still too long: it can never be completed.
            answer.tell(Update::Failed(too_long(answer.tokens.len(), self.limits.context_tokens)));
        } else {
            self.waiting.push_front(answer);
        }
    }

    /// The model failed at a batch, and nobody knows what of it is in the cache.
    fn fail_all(&mut self, error: &DecodeError) {
        eprintln!("a batch failed: {error}");
        for answer in std::mem::take(&mut self.active) {
            let message = "The model failed in the middle of this answer. Ask again.";
            answer.tell(Update::Failed(ApiError::new(500, "model_failed", message)));
        }
        self.context.clear_kv_cache();
        for slot in &mut self.slots {
            *slot = Slot { tokens: Vec::new(), is_busy: false, last_used: 0 };
        }
    }
}

/// 400 for a conversation that does not fit.
pub fn too_long(tokens: usize, context_tokens: usize) -> ApiError {
    let message = format!(
        "This conversation has {tokens} tokens; the model reads at most {context_tokens} with its answer. Shorten the messages."
    );
    ApiError { status: 400, code: "context_length_exceeded", message, param: Some("messages".to_owned()) }
}

fn sequence(slot: usize) -> i32 {
    // There are few slots.
    i32::try_from(slot).unwrap_or_default()
}
