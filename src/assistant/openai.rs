//! Client for any endpoint that speaks the OpenAI chat protocol: Ollama, llama.cpp, LM Studio, vLLM, hosted ones.
//!
//! Written over reqwest and eventsource-stream: the stream type of async-openai has no fields for reasoning, so that
//! its types would have to be written anew.

mod failure;
pub(crate) mod listing;
mod stream;
#[cfg(test)]
pub(crate) mod tests;
mod think;

use super::{Assistant, AssistantError, AssistantErrorCode, Event, Ready, Request, Turn};
use async_trait::async_trait;
use failure::Peer;
use futures::stream::{self as streams, BoxStream, StreamExt};
use listing::{Listing, Program};
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{RequestBuilder, Response, Url};
use serde_json::{Value, json};
use std::error::Error as _;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stream::Limits;

/// How long the answer to "which models are there" is believed of a server on this machine, where asking costs nothing.
const LOCAL_STATUS_FRESH: Duration = Duration::from_secs(5);

/// The same of any other server, where asking would hold up every reply.
const REMOTE_STATUS_FRESH: Duration = Duration::from_secs(60);

/// How long a failure to ask is believed: long enough that many pages ask once, short enough that nobody waits for it.
const FAILURE_FRESH: Duration = Duration::from_secs(1);

/// The largest listing of models that is read, in bytes.
const MAX_LISTING_BYTES: usize = 8 << 20;

/// The largest refusal that is read, in bytes.
const MAX_REFUSAL_BYTES: usize = 64 << 10;

/// The address of an endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// The address of a service, `segments` being its path below the versioned base.
    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        // An HTTP address can always be a base, so that there always are segments.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The address of a service beside the protocol, `segments` being its path below what stands before the version.
    fn beside(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().pop().extend(segments);
        }
        url
    }

    /// Whether it is on this machine.
    fn is_local(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || host.ends_with(".localhost") || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// `HOST:PORT`.
    fn address(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

/// Text that is no address of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidEndpoint;

impl fmt::Display for InvalidEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the address of a model server looks like http://127.0.0.1:11434 or https://api.example.org/v1")
    }
}

impl std::error::Error for InvalidEndpoint {}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    /// Reads an address with or without its version (`/v1`) and with or without a slash at the end.
    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let mut url = Url::parse(text.trim()).map_err(|_| InvalidEndpoint)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(InvalidEndpoint);
        }
        url.set_fragment(None);
        let has_version = url.path_segments().is_some_and(|mut segments| segments.any(is_version));
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            if !has_version {
                path.push("v1");
            }
        }
        Ok(Self(url))
    }
}

/// Whether a part of a path names a version: `v1`, `v1beta`.
fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the whole address: it may hold a password.
        f.write_str(&self.address())
    }
}

/// A text that is never shown and never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a key; `None` where it is empty.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

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
    /// The longest silence before the first piece of a reply: a model reads the conversation first, on a slow machine for
    /// minutes.
    pub first_timeout: Duration,
    /// The longest silence between two pieces of a reply.
    pub idle_timeout: Duration,
    /// The largest event of a stream, in bytes.
    pub max_event_bytes: usize,
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
            max_event_bytes: 8 << 20,
        }
    }
}

/// An assistant behind an OpenAI-compatible endpoint.
pub struct OpenAi {
    options: OpenAiOptions,
    http: reqwest::Client,
    /// Whether the server refuses `stream_options`, as old ones do.
    refuses_stream_options: AtomicBool,
    /// Every running reply holds a copy, so that their number is known.
    in_use: Arc<()>,
    known: tokio::sync::Mutex<Option<Known>>,
}

/// What the server answered last when asked for its models.
struct Known {
    at: Instant,
    status: Result<Ready, AssistantError>,
    models: Vec<String>,
    program: Option<Program>,
}

impl Known {
    fn failed(error: AssistantError) -> Self {
        Self { at: Instant::now(), status: Err(error), models: Vec::new(), program: None }
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
        Ok(Self {
            options,
            http,
            refuses_stream_options: AtomicBool::new(false),
            in_use: Arc::default(),
            known: tokio::sync::Mutex::new(None),
        })
    }

    /// Asks the server for its models.
    async fn ask_status(&self) -> Known {
        let peer = self.peer(self.options.model.clone().unwrap_or_default(), Vec::new());
        let listing = match tokio::time::timeout(self.options.status_timeout, self.ask_listing(&peer)).await {
            Ok(Ok(listing)) => listing,
            Ok(Err(error)) => return Known::failed(error),
            Err(_) => return Known::failed(peer.unreachable("the listing of models took too long")),
        };
        let models = listing.models.iter().filter(|model| model.chats).map(|model| model.id.clone()).collect();
        let status = match self.options.model.clone().or_else(|| listing.first().map(|model| model.id.clone())) {
            Some(model) => {
                let context_tokens = self.context_tokens(&listing, &model).await;
                Ok(Ready { place: self.place(&listing), model, context_tokens, note: None })
            }
            None => Err(peer.no_model()),
        };
        Known { at: Instant::now(), status, models, program: listing.program() }
    }

    /// The listing; an empty one from a server that has none, where the model is given.
    async fn ask_listing(&self, peer: &Peer) -> Result<Listing, AssistantError> {
        let request = self.authorized(self.http.get(self.options.endpoint.url(&["models"])));
        let response = request.send().await.map_err(|error| peer.unreachable(&cause_of(error)))?;
        let status = response.status().as_u16();
        match status {
            200..=299 => {
                let body = read_at_most(response, MAX_LISTING_BYTES).await.map_err(|cause| peer.broke_off(&cause))?;
                Listing::parse(&body).ok_or_else(|| peer.not_understood("the listing of models is no listing"))
            }
            404 | 405 | 501 if self.options.model.is_some() => Ok(Listing::default()),
            _ => {
                let text = read_at_most(response, MAX_REFUSAL_BYTES).await.unwrap_or_default();
                Err(peer.refusal(status, &String::from_utf8_lossy(&text)))
            }
        }
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
        let request = self.authorized(self.http.get(self.options.endpoint.beside(segments)));
        let answer = async {
            let response = request.send().await.ok()?.error_for_status().ok()?;
            serde_json::from_slice(&read_at_most(response, MAX_LISTING_BYTES).await.ok()?).ok()
        };
        tokio::time::timeout(self.options.status_timeout, answer).await.ok()?
    }

    /// Where it runs, for people.
    fn place(&self, listing: &Listing) -> String {
        let program = listing.program().map(Program::as_str);
        match (self.options.endpoint.is_local(), program) {
            (true, Some(program)) => format!("{program} on this machine"),
            (true, None) => {
                format!("port {} of this machine", self.options.endpoint.0.port_or_known_default().unwrap_or(80))
            }
            (false, _) => match self.options.endpoint.0.port() {
                Some(_) => self.options.endpoint.address(),
                None => self.options.endpoint.0.host_str().unwrap_or_default().to_owned(),
            },
        }
    }

    /// Asks for a reply and returns the answer to it; a status other than success is an error.
    async fn ask_reply(
        &self,
        request: &Request,
        model: &str,
        peer: &Peer,
        return_progress: bool,
    ) -> Result<Response, AssistantError> {
        let mut body = json!({"model": model, "messages": wire_messages(&request.messages), "stream": true});
        if return_progress {
            body["return_progress"] = json!(true);
        }
        let wants_usage = !self.refuses_stream_options.load(Ordering::Relaxed);
        if wants_usage {
            body["stream_options"] = json!({"include_usage": true});
        }
        let (status, text) = match self.post(&body, peer).await? {
            Answer::Accepted(response) => return Ok(response),
            Answer::Refused(status, text) => (status, text),
        };
        if !(wants_usage && matches!(status, 400 | 422) && text.contains("stream_options")) {
            return Err(peer.refusal(status, &text));
        }
        self.refuses_stream_options.store(true, Ordering::Relaxed);
        if let Some(fields) = body.as_object_mut() {
            fields.shift_remove("stream_options");
        }
        match self.post(&body, peer).await? {
            Answer::Accepted(response) => Ok(response),
            Answer::Refused(status, text) => Err(peer.refusal(status, &text)),
        }
    }

    async fn post(&self, body: &Value, peer: &Peer) -> Result<Answer, AssistantError> {
        let request = self.authorized(self.http.post(self.options.endpoint.url(&["chat", "completions"])));
        let sent = request.header(ACCEPT, "text/event-stream, application/json").json(body).send();
        let patience = self.options.first_timeout;
        let Ok(sent) = tokio::time::timeout(patience, sent).await else { return Err(peer.silent(patience.as_secs())) };
        let response = sent.map_err(|error| {
            let nobody_there = error.is_connect() || error.is_timeout();
            let cause = cause_of(error);
            if nobody_there { peer.unreachable(&cause) } else { peer.broke_off(&cause) }
        })?;
        if response.status().is_success() {
            return Ok(Answer::Accepted(response));
        }
        let status = response.status().as_u16();
        let text = tokio::time::timeout(self.options.status_timeout, read_at_most(response, MAX_REFUSAL_BYTES)).await;
        let text = text.ok().and_then(Result::ok).unwrap_or_default();
        Ok(Answer::Refused(status, String::from_utf8_lossy(&text).into_owned()))
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
            let fresh = if known.status.is_ok() { self.options.status_fresh } else { FAILURE_FRESH };
            // While it answers it is there. And some servers (llama-cpp-python) break a reply off when they are asked
            // anything else meanwhile.
            let is_answering = known.status.is_ok() && Arc::strong_count(&self.in_use) > 1;
            if is_answering || known.at.elapsed() < fresh {
                return known.status.clone();
            }
        }
        let now_known = self.ask_status().await;
        let status = now_known.status.clone();
        *known = Some(now_known);
        status
    }

    async fn reply(
        &self,
        request: Request,
    ) -> Result<BoxStream<'static, Result<Event, AssistantError>>, AssistantError> {
        let in_use = self.in_use.clone();
        let model = match request.model.clone().or_else(|| self.options.model.clone()) {
            Some(model) => model,
            None => self.status().await?.model,
        };
        let (models, program) = match &*self.known.lock().await {
            Some(known) => (known.models.clone(), known.program),
            None => (Vec::new(), None),
        };
        let return_progress = self.options.return_progress || program == Some(Program::LlamaCpp);
        let peer = self.peer(model.clone(), models);
        let response = match self.ask_reply(&request, &model, &peer, return_progress).await {
            Ok(response) => response,
            Err(error) => {
                // What was believed of the server may be wrong.
                *self.known.lock().await = None;
                return Err(error);
            }
        };
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let limits = Limits {
            first_timeout: self.options.first_timeout,
            idle_timeout: self.options.idle_timeout,
            max_event_bytes: self.options.max_event_bytes,
        };
        if kind.starts_with("text/html") {
            return Err(peer.not_understood("a web page"));
        }
        if kind.starts_with("application/json") {
            let read = tokio::time::timeout(limits.first_timeout, read_at_most(response, limits.max_event_bytes)).await;
            let body = match read {
                Ok(read) => read.map_err(|cause| peer.broke_off(&cause))?,
                Err(_) => return Err(peer.silent(limits.first_timeout.as_secs())),
            };
            return Ok(streams::iter(stream::whole(&body, &peer)).boxed());
        }
        let events = stream::streamed(response.bytes_stream(), peer, limits);
        Ok(events.inspect(move |_| _ = &in_use).boxed())
    }
}

/// The conversation as the protocol has it.
///
/// What the person said twice in a row (the reply between failed) is one message here, because the chat templates of many models
/// refuse two.
fn wire_messages(turns: &[Turn]) -> Vec<Value> {
    let mut messages = Vec::with_capacity(turns.len());
    let mut turns = turns.iter().peekable();
    while let Some(turn) = turns.next() {
        messages.push(match turn {
            Turn::System(content) => json!({"role": "system", "content": content}),
            Turn::User(content) => {
                let mut content = content.clone();
                while let Some(Turn::User(more)) = turns.next_if(|next| matches!(next, Turn::User(_))) {
                    content.push_str("\n\n");
                    content.push_str(more);
                }
                json!({"role": "user", "content": content})
            }
            Turn::Assistant { content, tool_calls } if tool_calls.is_empty() => {
                json!({"role": "assistant", "content": content})
            }
            Turn::Assistant { content, tool_calls } => {
                let calls: Vec<Value> = tool_calls
                    .iter()
                    .map(|call| {
                        // The protocol has the arguments as a text that holds JSON.
                        let arguments = match &call.arguments {
                            Value::String(text) => text.clone(),
                            other => other.to_string(),
                        };
                        json!({"id": call.call_id, "type": "function",
                            "function": {"name": call.name, "arguments": arguments}})
                    })
                    .collect();
                json!({"role": "assistant", "content": content, "tool_calls": calls})
            }
            Turn::ToolResult { call_id, content } => {
                json!({"role": "tool", "tool_call_id": call_id, "content": content})
            }
        });
    }
    messages
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
