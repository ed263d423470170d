//! Client for any endpoint that speaks the OpenAI chat protocol: Ollama, llama.cpp, LM Studio, vLLM, hosted ones.
//!
//! Written over reqwest: the stream type of async-openai has no fields for reasoning, so that its types would have to be written
//! anew, and servers differ in more than its types allow.

mod body;
mod calls;
mod code;
mod endpoint;
mod failure;
mod gather;
mod harmony;
pub(crate) mod listing;
mod repair;
mod request;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod think;

pub use endpoint::{Endpoint, InvalidEndpoint, Secret};

use super::{Assistant, AssistantError, AssistantErrorCode, Event, Ready, Request};
use async_trait::async_trait;
use failure::Peer;
use futures::stream::{self as streams, BoxStream, StreamExt};
use listing::{Listing, Program};
use request::{Dialect, has_calls};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use std::collections::HashMap;
use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use stream::{Limits, Reading};

/// How long the answer to "which models are there" is believed of a server on this machine, where asking costs nothing.
const LOCAL_STATUS_FRESH: Duration = Duration::from_secs(5);

/// The same of any other server, where asking would hold up every reply.
const REMOTE_STATUS_FRESH: Duration = Duration::from_secs(60);

/// How long a failure to ask is believed: long enough that many pages ask once, short enough that nobody waits for it.
const FAILURE_FRESH: Duration = Duration::from_secs(1);

/// How much of a listing of models is read, in bytes; what comes after that is not looked at.
const MAX_LISTING_BYTES: usize = 8 << 20;

/// The largest refusal that is read, in bytes.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// How often a request is put in another way after a refusal.
const MOST_WAYS: usize = 5;

/// Of how many models it is remembered what the server does not take for them.
const MOST_DIALECTS: usize = 256;

/// What the client needs to know.
#[derive(Clone, Debug)]
pub struct OpenAiOptions {
    /// Where the endpoint is.
    pub endpoint: Endpoint,
    /// The key that it wants.
    pub key: Option<Secret>,
    /// The model to ask; without it the first one that is listed and chats.
    pub model: Option<String>,
    /// How many tokens the model reads, where somebody knows better than the server tells.
    pub context_tokens: Option<usize>,
    /// Whether it is known to tell how far it has read a conversation. What is found out to be llama.cpp is asked too.
    pub return_progress: bool,
    /// The longest time to connect.
    pub connect_timeout: Duration,
    /// The longest time in which the models must be listed.
    pub status_timeout: Duration,
    /// How long their listing is believed.
    pub status_fresh: Duration,
    /// The longest time from the request to the first words of a reply: a model reads the conversation first, on a slow machine
    /// for minutes.
    pub first_timeout: Duration,
    /// The longest time without words after that, whatever else comes.
    pub idle_timeout: Duration,
    /// The largest reply, in bytes.
    pub max_reply_bytes: usize,
    /// The most chunks of a reply, whatever they hold.
    pub max_reply_chunks: usize,
}

impl OpenAiOptions {
    /// The usual options.
    pub fn new(endpoint: Endpoint) -> Self {
        let status_fresh = if endpoint.is_local() { LOCAL_STATUS_FRESH } else { REMOTE_STATUS_FRESH };
        Self {
            endpoint,
            key: None,
            model: None,
            context_tokens: None,
            return_progress: false,
            connect_timeout: Duration::from_secs(5),
            status_timeout: Duration::from_secs(5),
            status_fresh,
            first_timeout: Duration::from_secs(600),
            idle_timeout: Duration::from_secs(120),
            max_reply_bytes: 8 << 20,
            max_reply_chunks: 200_000,
        }
    }
}

impl OpenAiOptions {
    fn limits(&self) -> Limits {
        Limits {
            first_timeout: self.first_timeout,
            idle_timeout: self.idle_timeout,
            max_bytes: self.max_reply_bytes,
            max_chunks: self.max_reply_chunks,
        }
    }
}

/// An assistant behind an OpenAI-compatible endpoint.
pub struct OpenAi {
    client: Arc<Client>,
    /// Every running reply holds a copy, so that their number is known.
    in_use: Arc<()>,
    known: tokio::sync::Mutex<Option<Known>>,
}

/// What asks the endpoint.
struct Client {
    options: OpenAiOptions,
    http: reqwest::Client,
    /// What the server does not take, by model: gateways serve many, each behind another server.
    dialects: Mutex<HashMap<String, Dialect>>,
    /// Which of the places that the address may mean is asked.
    place: AtomicUsize,
}

/// What the server answered last when asked for its models.
struct Known {
    at: Instant,
    status: Result<Ready, AssistantError>,
    /// The listed models that chat.
    models: Vec<listing::ListedModel>,
    /// The model that is asked where none is named, as the server writes it.
    model: Option<String>,
    program: Option<Program>,
}

impl Known {
    fn failed(error: AssistantError) -> Self {
        Self { at: Instant::now(), status: Err(error), models: Vec::new(), model: None, program: None }
    }
}

impl OpenAi {
    /// A client. It does not connect yet; it fails only where TLS cannot be set up.
    pub fn new(options: OpenAiOptions) -> Result<Self, AssistantError> {
        let mut http = reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("verbatim/", env!("CARGO_PKG_VERSION")));
        if options.endpoint.is_local() {
            // A proxy for the outer world does not know this machine's own services.
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| AssistantError {
            code: AssistantErrorCode::Failed,
            message: "The client for model servers cannot be set up. Verbatim's log says why.".to_owned(),
            cause: cause_of(error),
        })?;
        let client = Client { options, http, dialects: Mutex::default(), place: AtomicUsize::default() };
        Ok(Self { client: Arc::new(client), in_use: Arc::default(), known: tokio::sync::Mutex::new(None) })
    }
}

impl Client {
    /// Asks the server for its models. Where one is named, it need not have a listing that can be read: only a server that is not
    /// there is a failure then.
    async fn ask_status(&self) -> Known {
        let named = self.options.model.clone();
        let peer = self.peer(named.clone().unwrap_or_default(), Vec::new());
        let listed = match tokio::time::timeout(self.options.status_timeout, self.ask_listing(&peer)).await {
            Ok(listed) => listed,
            Err(_) if named.is_some() => Err(peer.not_understood("the listing of models took too long")),
            Err(_) => Err(peer.unreachable("the listing of models took too long")),
        };
        let listing = match listed {
            Ok(listing) => listing,
            Err(error) if named.is_some() && error.code != AssistantErrorCode::Unreachable => {
                tracing::debug!(%error, "a model server lists no models; the one that was named is asked");
                Listing::default()
            }
            Err(error) => return Known::failed(error),
        };
        let program = listing.program();
        let model = named.or_else(|| listing.first().map(|model| model.id.clone()));
        let status = match &model {
            Some(model) => {
                let context_tokens = self.context_tokens(&listing, model).await;
                let (place, model) = (self.place(program), listing::shown_name(model));
                Ok(Ready { place, model, context_tokens, note: None, waits_for: None })
            }
            None => Err(peer.no_model()),
        };
        let models = listing.models.into_iter().filter(|model| model.chats).collect();
        Known { at: Instant::now(), status, models, model, program }
    }

    /// Where the protocol is spoken, as far as known.
    fn endpoint(&self) -> Endpoint {
        self.options.endpoint.at(self.place.load(Ordering::Relaxed))
    }

    /// The listing, looked for wherever the address may mean.
    async fn ask_listing(&self, peer: &Peer) -> Result<Listing, AssistantError> {
        let mut is_missing = false;
        let first = self.list_at(&self.endpoint(), peer, &mut is_missing).await;
        if !is_missing {
            return first;
        }
        for place in self.other_places() {
            if let Ok(listing) = self.list_at(&self.options.endpoint.at(place), peer, &mut is_missing).await {
                self.place.store(place, Ordering::Relaxed);
                return Ok(listing);
            }
        }
        first
    }

    /// The places that the address may mean, without the one that is asked.
    fn other_places(&self) -> impl Iterator<Item = usize> + use<> {
        let asked = self.place.load(Ordering::Relaxed);
        (0..self.options.endpoint.places()).filter(move |place| *place != asked)
    }

    /// The listing at this place, and whether somebody answers there and has none.
    async fn list_at(
        &self,
        endpoint: &Endpoint,
        peer: &Peer,
        is_missing: &mut bool,
    ) -> Result<Listing, AssistantError> {
        let request = self.authorized(self.http.get(endpoint.url(&["models"])));
        let response = request.send().await.map_err(|error| match error.is_connect() {
            true => peer.unreachable(&cause_of(error)),
            false if self.options.model.is_some() => peer.broke_off(&cause_of(error)),
            false => peer.unreachable(&cause_of(error)),
        })?;
        let status = response.status().as_u16();
        if response.status().is_success() {
            let body = read_up_to(response, MAX_LISTING_BYTES).await.map_err(|cause| peer.broke_off(&cause))?;
            let listing = Listing::parse(&body);
            *is_missing = listing.is_none();
            return listing.ok_or_else(|| peer.not_understood("the listing of models is no listing"));
        }
        *is_missing = matches!(status, 404 | 405);
        let text = read_up_to(response, MAX_REFUSAL_BYTES).await.unwrap_or_default();
        let refusal = peer.refusal(status, &String::from_utf8_lossy(&text));
        // Whoever answers is there, also if it says that it is not ready for this.
        let code = match refusal.code {
            AssistantErrorCode::Unreachable if self.options.model.is_some() => AssistantErrorCode::Failed,
            code => code,
        };
        Err(AssistantError { code, ..refusal })
    }

    async fn context_tokens(&self, listing: &Listing, model: &str) -> Option<usize> {
        if self.options.context_tokens.is_some() {
            return self.options.context_tokens;
        }
        let listed = listing.find(model)?;
        if listed.context_tokens.is_some() {
            return listed.context_tokens;
        }
        let running = match listing.program() {
            Some(Program::LlamaCpp) => {
                let props = self.ask_beside(&["props"]).await;
                props.and_then(|props| props.pointer("/default_generation_settings/n_ctx").and_then(Value::as_u64))
            }
            // Ollama tells it only of models that are loaded.
            Some(Program::Ollama) => self.ask_beside(&["api", "ps"]).await.and_then(|answer| {
                let running = answer.get("models")?.as_array()?.iter();
                let mut running =
                    running.filter(|running| running.get("name").and_then(Value::as_str) == Some(&listed.id));
                running.next()?.get("context_length")?.as_u64()
            }),
            _ => None,
        };
        running.and_then(|tokens| usize::try_from(tokens).ok()).filter(|&tokens| tokens > 0).or(listed.trained_tokens)
    }

    /// What a service beside the protocol answers, if it does.
    async fn ask_beside(&self, segments: &[&str]) -> Option<Value> {
        let request = self.authorized(self.http.get(self.endpoint().beside(segments)));
        let answer = async {
            let response = request.send().await.ok()?.error_for_status().ok()?;
            serde_json::from_slice(body::without_mark(&read_at_most(response, MAX_LISTING_BYTES).await.ok()?)).ok()
        };
        tokio::time::timeout(self.options.status_timeout, answer).await.ok()?
    }

    /// Where it runs, for people.
    fn place(&self, program: Option<Program>) -> String {
        match program {
            Some(program) if self.options.endpoint.is_local() => format!("{} on this machine", program.as_str()),
            _ => self.options.endpoint.place(),
        }
    }

    /// Asks for a completion. Where nothing is there at the place that is asked, the others that the address may mean are asked.
    async fn post(&self, body: &Value, peer: &Peer, deadline: tokio::time::Instant) -> Result<Answer, AssistantError> {
        let first = self.post_at(&self.endpoint(), body, peer, deadline).await?;
        // A server that is there may say so of the model.
        let is_missing = matches!(&first, Answer::Refused(404 | 405, text) if !text.to_lowercase().contains("model"));
        if !is_missing {
            return Ok(first);
        }
        for place in self.other_places() {
            // Another website may answer there; what it says is less than the first answer.
            let other = self.post_at(&self.options.endpoint.at(place), body, peer, deadline).await;
            let speaks = match &other {
                Ok(Answer::Accepted(response)) => {
                    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
                    !kind.is_some_and(|kind| kind.contains("html"))
                }
                Ok(Answer::Refused(400 | 422 | 429, text)) => text.trim_start().starts_with('{'),
                _ => false,
            };
            if speaks {
                self.place.store(place, Ordering::Relaxed);
                return other;
            }
        }
        Ok(first)
    }

    async fn post_at(
        &self,
        endpoint: &Endpoint,
        body: &Value,
        peer: &Peer,
        deadline: tokio::time::Instant,
    ) -> Result<Answer, AssistantError> {
        let request = self.authorized(self.http.post(endpoint.url(&["chat", "completions"])));
        let sent = request.header(ACCEPT, "text/event-stream, application/json").json(body).send();
        let Ok(sent) = tokio::time::timeout_at(deadline, sent).await else {
            return Err(peer.silent(self.options.first_timeout.as_secs()));
        };
        let response = sent.map_err(|error| {
            let nobody_there = error.is_connect() || error.is_timeout();
            let cause = cause_of(error);
            if nobody_there { peer.unreachable(&cause) } else { peer.broke_off(&cause) }
        })?;
        if response.status().is_success() {
            return Ok(Answer::Accepted(response));
        }
        let status = response.status().as_u16();
        let text = tokio::time::timeout(self.options.status_timeout, read_up_to(response, MAX_REFUSAL_BYTES)).await;
        let text = text.ok().and_then(Result::ok).unwrap_or_default();
        Ok(Answer::Refused(status, String::from_utf8_lossy(body::without_mark(&text)).into_owned()))
    }

    /// What the server is known not to take for a model.
    fn dialect(&self, model: &str) -> Dialect {
        self.dialects().get(model).copied().unwrap_or_default()
    }

    fn remember(&self, model: &str, dialect: Dialect) {
        let mut dialects = self.dialects();
        if dialects.len() >= MOST_DIALECTS && !dialects.contains_key(model) {
            dialects.clear();
        }
        dialects.insert(model.to_owned(), dialect);
    }

    fn dialects(&self) -> MutexGuard<'_, HashMap<String, Dialect>> {
        // A map is whole after each change, also where a thread panicked in between.
        self.dialects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.options.key {
            Some(Secret(key)) => request.bearer_auth(key),
            None => request,
        }
    }

    fn peer(&self, model: String, models: Vec<String>) -> Peer {
        let key = self.options.key.as_ref().map(|Secret(key)| key.clone());
        Peer { address: self.options.endpoint.address(), key, models, model }
    }
}

/// A request for a reply, which can be put in another way.
struct Asking {
    client: Arc<Client>,
    request: Request,
    /// The model as the server writes it.
    model: String,
    peer: Peer,
    asks_progress: bool,
    dialect: Dialect,
    /// How often it was put in another way.
    ways: usize,
    /// When the first words must have come.
    deadline: tokio::time::Instant,
}

impl Asking {
    /// Asks, in another way where the server refuses one.
    async fn ask(&mut self) -> Result<Reading, AssistantError> {
        loop {
            let body = self.dialect.body(&self.request, &self.model, self.asks_progress);
            match self.client.post(&body, &self.peer, self.deadline).await? {
                Answer::Accepted(response) => {
                    let bytes = response.bytes_stream().map(|chunk| chunk.map_err(cause_of));
                    return Ok(Reading::new(bytes, self.peer.clone(), self.client.options.limits(), self.deadline));
                }
                Answer::Refused(status, text) if self.adapt(status, &text) => {}
                Answer::Refused(status, text) => return Err(self.peer.refusal(status, &text)),
            }
        }
    }

    fn adapt(&mut self, status: u16, text: &str) -> bool {
        let adapts = self.ways < MOST_WAYS
            && self.dialect.adapt(self.asks_progress, has_calls(&self.request.messages), status, text);
        self.ways += usize::from(adapts);
        adapts
    }

    /// The next event of its answer. An answer that is nothing but a refusal is asked for once more, too.
    async fn next(&mut self, reading: &mut Reading) -> Option<Result<Event, AssistantError>> {
        loop {
            let next = reading.next().await;
            match (&next, reading.refusal()) {
                (Some(Err(_)), Some((status, text))) => {
                    let (status, text) = (*status, text.clone());
                    if !self.adapt(status, &text) {
                        return next;
                    }
                }
                // What was accepted is remembered when words of an answer came, or its end: in their place a refusal may come,
                // also after the server told how far it is.
                (None | Some(Ok(Event::Text(_) | Event::Reasoning(_) | Event::ToolCall(_))), None) if self.ways > 0 => {
                    self.client.remember(&self.model, self.dialect);
                    self.ways = 0;
                    return next;
                }
                _ => return next,
            }
            match self.ask().await {
                Ok(other) => *reading = other,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// How a server took a request.
enum Answer {
    Accepted(Response),
    Refused(u16, String),
}

#[async_trait]
impl Assistant for OpenAi {
    async fn status(&self) -> Result<Ready, AssistantError> {
        // Held while asking, so that many who ask at once make one request.
        let mut known = self.known.lock().await;
        if let Some(known) = &*known {
            let fresh = if known.status.is_ok() { self.client.options.status_fresh } else { FAILURE_FRESH };
            // While it answers it is there. And some servers (llama-cpp-python) break a reply off when they are asked
            // anything else meanwhile.
            let is_answering = known.status.is_ok() && Arc::strong_count(&self.in_use) > 1;
            if is_answering || known.at.elapsed() < fresh {
                return known.status.clone();
            }
        }
        let now_known = self.client.ask_status().await;
        let status = now_known.status.clone();
        *known = Some(now_known);
        status
    }

    async fn reply(
        &self,
        request: Request,
    ) -> Result<BoxStream<'static, Result<Event, AssistantError>>, AssistantError> {
        let in_use = self.in_use.clone();
        let options = &self.client.options;
        let deadline = tokio::time::Instant::now() + options.first_timeout;
        let named = request.model.clone().or_else(|| options.model.clone());
        let name = match &named {
            Some(name) => name.clone(),
            None => self.status().await?.model,
        };
        let (models, model, program) = match &*self.known.lock().await {
            Some(known) => {
                let shown =
                    known.models.iter().take(failure::LISTED_NAMES + 1).map(|model| model.shown.clone()).collect();
                // A long name is known to others by its beginning.
                let written = match &named {
                    Some(name) => known.models.iter().find(|model| model.shown == *name).map(|model| model.id.clone()),
                    None => known.model.clone(),
                };
                (shown, written.unwrap_or(name), known.program)
            }
            None => (Vec::new(), name, None),
        };
        let mut asking = Asking {
            client: self.client.clone(),
            peer: self.client.peer(listing::shown_name(&model), models),
            asks_progress: options.return_progress || program == Some(Program::LlamaCpp),
            dialect: self.client.dialect(&model),
            model,
            request,
            ways: 0,
            deadline,
        };
        let reading = match asking.ask().await {
            Ok(reading) => reading,
            Err(error) => {
                // What was believed of the server may be wrong.
                *self.known.lock().await = None;
                return Err(error);
            }
        };
        let answer = (asking, reading, in_use);
        Ok(streams::unfold(answer, |(mut asking, mut reading, in_use)| async move {
            asking.next(&mut reading).await.map(|event| (event, (asking, reading, in_use)))
        })
        .boxed())
    }
}

/// Reads a body, but not more than `limit` bytes of it; the error is for the log.
pub(crate) async fn read_at_most(response: Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(cause_of)?;
        if body.len() + chunk.len() > limit {
            return Err(format!("the answer is larger than {limit} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads a body as far as `limit` bytes of it; the error is for the log.
pub(crate) async fn read_up_to(response: Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(cause_of)?;
        let room = limit.saturating_sub(body.len());
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() >= limit {
            break;
        }
    }
    Ok(body)
}

/// An error with what caused it, for the log; without the address, which may hold a password.
fn cause_of(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
