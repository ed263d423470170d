//! The assistant inside Verbatim: an engine process of our own that is started when it is needed, watched, started anew when it
//! dies, and stopped when nobody uses it. Beyond that it is an OpenAI-compatible endpoint like any other.

mod arrival;
pub mod catalogue;
mod lines;
mod process;
#[cfg(test)]
mod tests;
mod weights;

use super::openai::listing::shown_name;
use super::{Assistant, AssistantError, AssistantErrorCode, Event, Ready, Request, Turn};
use crate::model::message::Modes;
use crate::model::reply::Phase;
use arrival::Arrival;
use async_trait::async_trait;
use catalogue::CatalogueModel;
use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use process::{Engine, Lease, Stage};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use weights::{Look, Stamp, Weights};

/// How many tokens of a conversation the engine reads where nobody says it.
const CONTEXT_TOKENS: usize = 8192;

/// After so many failed starts in a row it is not tried at each request any more.
const MOST_FAILURES: u32 = 3;

/// Failures of which the engine says that trying again will not help, by its codes.
const LASTING_FAILURES: [&str; 3] = ["model_missing", "model_damaged", "processor"];

/// How long after the end of a connection the end of the process is waited for, to tell a death from a refusal.
const DEATH_TIME: Duration = Duration::from_secs(1);

/// How often is looked whether what a reply waits for has arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How often is said that something is still waited for, though nothing has changed: whoever listens need not think us dead.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// How long closing may take.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Which weights are used.
#[derive(Clone, Debug)]
pub enum EmbeddedModel {
    /// A model of the catalogue, from this directory.
    Catalogue(PathBuf, CatalogueModel),
    /// A GGUF file that the person named.
    File(PathBuf),
}

/// What the embedded assistant needs to know.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// The engine's program.
    pub engine: PathBuf,
    /// Which weights it uses.
    pub model: EmbeddedModel,
    /// How many tokens of a conversation it reads at most.
    pub context_tokens: usize,
    /// How long it stays when nobody uses it; `None` for ever.
    pub idle: Option<Duration>,
    /// How long it is not tried again after [`MOST_FAILURES`] failed starts in a row.
    pub rest: Duration,
}

impl EmbeddedOptions {
    /// The usual options.
    pub fn new(engine: PathBuf, model: EmbeddedModel) -> Self {
        let (idle, rest) = (Some(Duration::from_secs(15 * 60)), Duration::from_secs(60));
        Self { engine, model, context_tokens: CONTEXT_TOKENS, idle, rest }
    }
}

/// The assistant inside Verbatim. When it is dropped, its process is killed.
pub struct Embedded(Arc<Shared>);

/// What the assistant and the tasks that look after its process share.
struct Shared {
    options: EmbeddedOptions,
    weights: Arc<Weights>,
    slot: Mutex<Slot>,
    /// Whether it is over, for the process and for new starts.
    closed: watch::Sender<bool>,
    /// How many tokens the engine said that it reads; 0 before it said so.
    reads: AtomicUsize,
}

/// The process there is, and the failures to have one.
#[derive(Default)]
struct Slot {
    engine: Option<Arc<Engine>>,
    failed: Option<Failed>,
}

/// What can be told without starting anything.
enum Outlook {
    /// It can answer, as far as is known.
    Can(Look),
    /// It will, when this is here.
    Waits(Arrival),
}

/// Starts that failed, one after the other.
struct Failed {
    count: u32,
    at: Instant,
    error: AssistantError,
    /// What the weights were then.
    weights: Option<Stamp>,
}

impl Embedded {
    /// Sets it up. Nothing is started and nothing is loaded before somebody needs it.
    pub fn new(options: EmbeddedOptions) -> Self {
        let weights = Arc::new(match &options.model {
            EmbeddedModel::Catalogue(models_dir, model) => Weights::of_catalogue(models_dir, model.clone()),
            EmbeddedModel::File(path) => Weights::of_file(path.clone()),
        });
        let (slot, closed, reads) = (Mutex::default(), watch::Sender::new(false), AtomicUsize::new(0));
        Self(Arc::new(Shared { options, weights, slot, closed, reads }))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.0.closed.send_replace(true);
    }
}

#[async_trait]
impl Assistant for Embedded {
    async fn status(&self) -> Result<Ready, AssistantError> {
        let waits_for = match self.0.look()? {
            Outlook::Can(Look::Good(_)) => None,
            Outlook::Can(Look::Unchecked(_)) => {
                self.0.weights.check_in_background();
                None
            }
            Outlook::Waits(arrival) => Some(arrival.sentence),
        };
        let reads = self.0.reads.load(Ordering::Relaxed);
        Ok(Ready {
            model: self.0.weights.name().to_owned(),
            place: "inside Verbatim".to_owned(),
            context_tokens: Some(if reads > 0 { reads } else { self.0.options.context_tokens }),
            note: self.0.weights.are_rough().then(|| "This is a very small model: its answers are rough.".to_owned()),
            waits_for,
        })
    }

    async fn reply(
        &self,
        request: Request,
    ) -> Result<BoxStream<'static, Result<Event, AssistantError>>, AssistantError> {
        if let Some(model) = request.model.as_deref().filter(|model| !self.0.weights.is_named(model)) {
            let model = shown_name(model);
            let message = format!(
                "The model inside Verbatim is {}, and {model} was asked for. Choose that one, or start Verbatim with \
                 --openai-url URL for a server that has {model}.",
                self.0.weights.name()
            );
            return Err(AssistantError {
                code: AssistantErrorCode::UnknownModel,
                message,
                cause: "another model than the embedded one".to_owned(),
            });
        }
        let request = Request { model: None, ..request };
        match self.0.look()? {
            Outlook::Can(_) => Ok(self.0.ask(request)?.boxed()),
            Outlook::Waits(_) => {
                let shared = self.0.clone();
                let answer = stream::once(async move {
                    // Says why, should what was waited for not have come.
                    shared.look()?;
                    shared.ask(request)
                });
                Ok(self.0.wait().chain(answer.try_flatten()).boxed())
            }
        }
    }

    async fn prepare(&self, instructions: &str) {
        let Ok(Outlook::Can(_)) = self.0.look() else { return };
        match self.0.lease() {
            Ok(lease) if !instructions.is_empty() && lease.engine().begins_to_read_ahead() => {
                tokio::spawn(read_ahead(lease, instructions.to_owned()));
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "the model is not loaded ahead"),
        }
    }

    async fn close(&self) {
        self.0.closed.send_replace(true);
        let engine = self.0.slot().engine.take();
        if let Some(engine) = engine
            && tokio::time::timeout(CLOSE_TIME, engine.gone()).await.is_err()
        {
            tracing::warn!("the model's process does not go");
        }
    }
}

impl Shared {
    /// Whether it can answer, as far as can be told without starting it.
    fn look(&self) -> Result<Outlook, AssistantError> {
        let engine = arrival::of_engine(&self.options.engine)?;
        let look = match self.weights.look() {
            Ok(look) => look,
            Err(error) => {
                let weights = self.weights.arrival().ok_or(error)?;
                // Of both that arrive the engine takes longer.
                return Ok(Outlook::Waits(engine.unwrap_or(weights)));
            }
        };
        if let Some(engine) = engine {
            return Ok(Outlook::Waits(engine));
        }
        let (Look::Good(stamp) | Look::Unchecked(stamp)) = look;
        self.slot().refuse_for_a_while(self.options.rest, Some(stamp))?;
        Ok(Outlook::Can(look))
    }

    /// Tells how far what must arrive is, and ends when nothing is waited for any more.
    fn wait(self: &Arc<Self>) -> impl Stream<Item = Result<Event, AssistantError>> + use<> {
        let closed = self.closed.subscribe();
        stream::unfold((self.clone(), closed, None), |(shared, mut closed, told)| async move {
            loop {
                if *closed.borrow_and_update() {
                    return None;
                }
                let Ok(Outlook::Waits(arrival)) = shared.look() else { return None };
                let now = (arrival.phase, arrival.fraction.map(|fraction| (fraction * 100.0) as u8));
                if told.is_none_or(|(before, at): (_, Instant)| before != now || at.elapsed() >= TELL_AGAIN) {
                    let event = Event::Progress(arrival.phase, arrival.fraction);
                    return Some((Ok(event), (shared, closed, Some((now, Instant::now())))));
                }
                // Whichever of both it is, it is looked at again.
                let _ = tokio::time::timeout(LOOK_AGAIN, closed.changed()).await;
            }
        })
    }

    /// Asks the engine, which is started where none runs.
    fn ask(
        self: &Arc<Self>,
        request: Request,
    ) -> Result<impl Stream<Item = Result<Event, AssistantError>> + use<>, AssistantError> {
        let lease = self.lease()?;
        let stage = lease.engine().stage();
        let reply = Reply {
            shared: self.clone(),
            lease,
            stage,
            request,
            events: None,
            told: None,
            is_second_try: false,
            ended: false,
        };
        Ok(stream::unfold(reply, |mut reply| async move { reply.next().await.map(|event| (event, reply)) }))
    }

    /// The engine that there is, or one that begins to start now, for as long as the lease is held.
    fn lease(self: &Arc<Self>) -> Result<Lease, AssistantError> {
        let mut slot = self.slot();
        if *self.closed.borrow() {
            return Err(closing());
        }
        if let Some(engine) = slot.engine.as_ref().filter(|engine| engine.is_usable()) {
            return Ok(engine.lease());
        }
        let engine = Engine::new();
        slot.engine = Some(engine.clone());
        // In a task of its own: who asked may go away, others are waiting.
        tokio::spawn(process::keep(self.clone(), engine.clone()));
        Ok(engine.lease())
    }

    /// Takes an engine out of use, if that is right now that nobody can begin to use it.
    fn retire(&self, engine: &Arc<Engine>, is_right: impl FnOnce() -> bool) -> bool {
        let mut slot = self.slot();
        if !is_right() {
            return false;
        }
        slot.engine.take_if(|held| Arc::ptr_eq(held, engine));
        true
    }

    /// Notes that a start failed.
    fn start_failed(&self, error: &AssistantError) {
        let weights = match self.weights.look() {
            Ok(Look::Good(stamp) | Look::Unchecked(stamp)) => Some(stamp),
            Err(_) => None,
        };
        let mut slot = self.slot();
        let earlier = slot.failed.as_ref().map_or(0, |failed| failed.count);
        let lasts = LASTING_FAILURES.contains(&error.cause.as_str());
        let count = if lasts { MOST_FAILURES } else { earlier.saturating_add(1) };
        slot.failed = Some(Failed { count, at: Instant::now(), error: error.clone(), weights });
    }

    /// Notes that a start succeeded.
    fn started(&self) {
        self.slot().failed = None;
    }

    /// Notes how many tokens the engine says that it reads.
    fn reads(&self, tokens: Option<usize>) {
        self.reads.store(tokens.unwrap_or_default(), Ordering::Relaxed);
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        // What it holds is right after each statement, also where a thread panicked in between.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The reason of the last failed starts, where there were many and the last one is not long ago. Other weights are another
    /// matter.
    fn refuse_for_a_while(&self, rest: Duration, weights: Option<Stamp>) -> Result<(), AssistantError> {
        match &self.failed {
            Some(failed)
                if failed.count >= MOST_FAILURES && failed.at.elapsed() < rest && failed.weights == weights =>
            {
                let message = format!("{} It is tried again in a minute at the earliest.", failed.error.message);
                Err(AssistantError { message, ..failed.error.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// A reply of the embedded assistant, from the start of its process on.
struct Reply {
    shared: Arc<Shared>,
    lease: Lease,
    stage: watch::Receiver<Stage>,
    request: Request,
    /// The engine's answer, once it was asked.
    events: Option<BoxStream<'static, Result<Event, AssistantError>>>,
    /// How much of the model was loaded when that was last told, in percent; the outer `None` where it was not told.
    told: Option<Option<u8>>,
    /// Whether the first engine died before it answered.
    is_second_try: bool,
    ended: bool,
}

impl Reply {
    async fn next(&mut self) -> Option<Result<Event, AssistantError>> {
        if self.ended {
            return None;
        }
        let next = self.advance().await;
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }

    async fn advance(&mut self) -> Option<Result<Event, AssistantError>> {
        loop {
            if let Some(events) = &mut self.events {
                return match events.next().await {
                    Some(Err(error)) => Some(Err(self.explained(error).await)),
                    next => next,
                };
            }
            let stage = self.stage.borrow_and_update().clone();
            match stage {
                Stage::Starting(fraction) => {
                    // Whole percents, so that a quick start does not tell a thousand steps.
                    let percent = fraction.map(|fraction| (fraction * 100.0) as u8);
                    if self.told != Some(percent) {
                        self.told = Some(percent);
                        return Some(Ok(Event::Progress(Phase::LoadingModel, fraction)));
                    }
                    if self.stage.changed().await.is_err() {
                        return Some(Err(closing()));
                    }
                }
                Stage::Ready(_) if self.told.take().is_some() => {
                    return Some(Ok(Event::Progress(Phase::Waiting, None)));
                }
                Stage::Ready(client) => match client.reply(self.request.clone()).await {
                    Ok(events) => self.events = Some(events),
                    Err(error) => {
                        if let Some(error) = self.try_again_after(error).await {
                            return Some(Err(error));
                        }
                    }
                },
                Stage::Failed(error) => return Some(Err(error)),
                Stage::Ended => {
                    let gone = dead("the engine ended before it was asked");
                    if let Some(error) = self.try_again_after(gone).await {
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    /// Turns to a new engine where the last one was gone before it answered, once; else returns what to tell.
    async fn try_again_after(&mut self, error: AssistantError) -> Option<AssistantError> {
        use AssistantErrorCode::{Failed, Unreachable};
        // A connection that an ending engine still took is lost only later, which counts as a failure.
        let was_answered = !matches!(error.code, Unreachable | Failed);
        if was_answered || self.is_second_try || !self.has_died().await {
            return Some(self.explained(error).await);
        }
        self.is_second_try = true;
        match self.shared.lease() {
            Ok(lease) => {
                self.stage = lease.engine().stage();
                self.lease = lease;
                None
            }
            Err(error) => Some(error),
        }
    }

    async fn has_died(&mut self) -> bool {
        tokio::time::timeout(DEATH_TIME, self.lease.engine().gone()).await.is_ok()
    }

    /// The engine's error in words that fit: for the person there is no server and no port.
    async fn explained(&mut self, error: AssistantError) -> AssistantError {
        use AssistantErrorCode::{ContextTooLong, Failed, RateLimited};
        let (code, message) = match error.code {
            ContextTooLong => return error,
            RateLimited => {
                (RateLimited, "The model inside Verbatim has too much to do now. Wait a moment and ask again.")
            }
            _ if *self.shared.closed.borrow() => return closing(),
            _ if self.has_died().await => return dead(&error.cause),
            _ => (Failed, "The model inside Verbatim could not answer this. Ask again; Verbatim's log says why."),
        };
        AssistantError { code, message: message.to_owned(), cause: error.cause }
    }
}

/// Lets the engine read how conversations begin, so that the first reply need not wait for that: it stays in its memory.
async fn read_ahead(lease: Lease, instructions: String) {
    let mut stage = lease.engine().stage();
    let client = loop {
        let now = stage.borrow_and_update().clone();
        match now {
            Stage::Ready(client) => break client,
            Stage::Starting(_) if stage.changed().await.is_ok() => {}
            _ => return,
        }
    };
    let messages = vec![Turn::System(instructions), Turn::User(String::new())];
    let request = Request { model: None, messages, modes: Modes::default() };
    if let Ok(mut events) = client.reply(request).await {
        // The first word of an answer says that all is read; dropping the rest ends it.
        while let Some(Ok(Event::Progress(..))) = events.next().await {}
    }
}

fn dead(cause: &str) -> AssistantError {
    AssistantError {
        code: AssistantErrorCode::Failed,
        message: "The model inside Verbatim stopped in the middle of this reply. What had arrived by then is kept; ask again: \
                  it is started anew."
            .to_owned(),
        cause: cause.to_owned(),
    }
}

fn closing() -> AssistantError {
    AssistantError {
        code: AssistantErrorCode::Unreachable,
        message: "Verbatim is being stopped. Ask again when it is back.".to_owned(),
        cause: "the embedded assistant is closed".to_owned(),
    }
}
