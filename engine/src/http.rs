//! The server: who may ask, and answers in the protocol's form, whole or in pieces.

use crate::calls::Call;
use crate::protocol::{self, ApiError, Completion, tool_name};
use crate::sampling;
use crate::scheduler::{Job, Limits, Load, Reading, Summary, Update, too_long};
use crate::template::Template;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::stream::{self, Stream, StreamExt};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::UnboundedReceiver;

/// The largest request, in bytes.
const MOST_BODY_BYTES: usize = 32 << 20;

/// How often something is sent while nothing is to be said, so that a client that is gone is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What every request can reach.
#[derive(Clone)]
pub struct Engine {
    /// The model's name.
    pub name: Arc<str>,
    /// What a request must show.
    pub token: Arc<str>,
    /// The model, once it is loaded.
    pub ready: Arc<OnceLock<Ready>>,
    /// What is going on.
    pub load: Arc<Load>,
    /// When the process began, in seconds since 1970.
    pub created: u64,
}

/// A loaded model.
pub struct Ready {
    /// The model.
    pub model: &'static LlamaModel,
    /// Its chat template.
    pub template: Template,
    /// The text of the token with which it begins, where the template may have written that already.
    pub bos: String,
    /// The limits of its cache.
    pub limits: Limits,
    /// Where answers are made.
    pub jobs: mpsc::Sender<Job>,
}

/// The table of routes.
pub fn router(engine: Engine) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(completions))
        .fallback(async || ApiError::new(404, "not_found", "There is nothing at this address."))
        .method_not_allowed_fallback(async || ApiError::new(405, "method_not_allowed", "Not with this method."))
        .layer(DefaultBodyLimit::max(MOST_BODY_BYTES))
        .layer(from_fn_with_state(engine.clone(), guard))
        .with_state(engine)
}

/// Lets nobody in but whoever started the engine. A page that points a name of its own at this address is refused, too.
async fn guard(State(engine): State<Engine>, request: Request, next: Next) -> Response {
    match refusal(&engine, request.headers()) {
        Some(error) => error.into_response(),
        None => next.run(request).await,
    }
}

fn refusal(engine: &Engine, headers: &HeaderMap) -> Option<ApiError> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let host = header(HOST);
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    if !matches!(name.map_or(host, |(name, _)| name), "127.0.0.1" | "localhost" | "[::1]") {
        return Some(ApiError::new(403, "wrong_host", "This engine answers to loopback addresses only."));
    }
    let shown = header(AUTHORIZATION).strip_prefix("Bearer ").unwrap_or_default();
    (!same(shown, &engine.token))
        .then(|| ApiError::new(401, "invalid_api_key", "This engine belongs to the program that started it."))
}

/// Compares without telling by its time where the first difference is.
fn same(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

fn loaded(engine: &Engine) -> Result<&Ready, ApiError> {
    let loading = || ApiError::new(503, "loading_model", "Loading model");
    engine.ready.get().ok_or_else(loading)
}

async fn health(State(engine): State<Engine>) -> Result<Json<Value>, ApiError> {
    loaded(&engine)?;
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    Ok(Json(json!({"status": "ok", "active": count(&engine.load.active), "waiting": count(&engine.load.waiting)})))
}

async fn models(State(engine): State<Engine>) -> Result<Json<Value>, ApiError> {
    let Ready { model, limits, .. } = loaded(&engine)?;
    Ok(Json(json!({"object": "list", "data": [{
        "id": &*engine.name, "object": "model", "created": engine.created, "owned_by": "verbatim",
        "context_length": limits.context_tokens,
        "meta": {"n_ctx_train": model.n_ctx_train(), "n_params": model.n_params(), "size": model.size()},
    }]})))
}

async fn completions(State(engine): State<Engine>, body: Result<Bytes, BytesRejection>) -> Result<Response, ApiError> {
    loaded(&engine)?;
    let body = body.map_err(|rejection| {
        let status = rejection.status().as_u16();
        ApiError::new(status, "invalid_body", format!("The request cannot be read: {}.", rejection.body_text()))
    })?;
    let (updates, answer) = tokio::sync::mpsc::unbounded_channel();
    // Long conversations take a moment to be made into tokens.
    let prepared = tokio::task::spawn_blocking({
        let engine = engine.clone();
        move || prepare(loaded(&engine)?, &engine.name, &body, updates)
    });
    let failed = |_| ApiError::new(500, "internal", "The request could not be prepared.");
    let (completion, job) = prepared.await.map_err(failed)??;
    let gone = |_| ApiError::new(503, "stopped", "The engine is being stopped.");
    loaded(&engine)?.jobs.send(job).map_err(gone)?;
    let head = Head::new(&engine.name);
    if completion.stream {
        return Ok(streamed(head, answer, &completion).into_response());
    }
    Ok(Json(whole(&head, answer).await?).into_response())
}

/// Reads a request and makes what the scheduler takes.
fn prepare(
    ready: &Ready,
    name: &str,
    body: &[u8],
    updates: tokio::sync::mpsc::UnboundedSender<Update>,
) -> Result<(Completion, Job), ApiError> {
    let completion = protocol::parse(body, name)?;
    let text = ready.template.render(&completion.messages, &completion.tools)?;
    let vocabulary = ready.model.vocab();
    let has_bos = !ready.bos.is_empty() && text.starts_with(&ready.bos);
    let adds_bos = vocabulary.should_add_bos() && !has_bos;
    let prompt: Vec<LlamaToken> = vocabulary.tokenize(text.as_bytes(), adds_bos, true);
    let limit = ready.limits.context_tokens;
    // There must be room for one token of the answer at least.
    if prompt.len() >= limit {
        return Err(too_long(prompt.len(), limit));
    }
    let room = limit - prompt.len();
    let tools = completion.tools.iter().filter_map(tool_name).map(str::to_owned).collect();
    let job = Job {
        max_tokens: completion.max_tokens.unwrap_or(room).min(room),
        prompt,
        sampling: completion.sampling.clone(),
        grammar: sampling::grammar(&completion.form),
        stop: completion.stop.clone(),
        tools: (!completion.tools.is_empty()).then_some(tools),
        updates,
    };
    Ok((completion, job))
}

/// What stands in every piece of an answer.
struct Head {
    id: String,
    created: u64,
    model: String,
}

impl Head {
    fn new(model: &str) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        let created = now();
        let id = format!("chatcmpl-{created:x}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Self { id, created, model: model.to_owned() }
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": choices})
    }

    fn delta(&self, delta: Value, finish_reason: Option<&str>) -> Value {
        self.chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}]))
    }

    fn call_id(&self, index: usize) -> String {
        format!("call_{}_{index}", self.id.trim_start_matches("chatcmpl-"))
    }

    fn call(&self, index: usize, call: Call) -> Value {
        let arguments = Value::Object(call.arguments).to_string();
        json!({"id": self.call_id(index), "type": "function", "function": {"name": call.name, "arguments": arguments}})
    }
}

/// The answer as one object.
async fn whole(head: &Head, mut answer: UnboundedReceiver<Update>) -> Result<Value, ApiError> {
    let (mut content, mut calls) = (String::new(), Vec::new());
    let summary = loop {
        match answer.recv().await {
            Some(Update::Text(text)) => content.push_str(&text),
            Some(Update::Call(call)) => calls.push(head.call(calls.len(), call)),
            Some(Update::Done(summary)) => break summary,
            Some(Update::Failed(error)) => return Err(error),
            Some(Update::Queued(_) | Update::Reading(_)) => {}
            None => return Err(stopped()),
        }
    };
    let mut message = json!({"role": "assistant", "content": content});
    if !calls.is_empty() {
        if content.trim().is_empty() {
            message["content"] = Value::Null;
        }
        message["tool_calls"] = Value::Array(calls);
    }
    let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": summary.finish_reason});
    Ok(json!({"id": head.id, "object": "chat.completion", "created": head.created, "model": head.model,
        "choices": [choice], "usage": usage(&summary), "timings": timings(&summary)}))
}

/// The answer in pieces. Dropping the stream drops the receiver, which the scheduler takes for a cancellation.
fn streamed(
    head: Head,
    answer: UnboundedReceiver<Update>,
    completion: &Completion,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let writer = Writer {
        head,
        include_usage: completion.include_usage,
        return_progress: completion.return_progress,
        calls: 0,
        has_role: false,
        reading: None,
    };
    let pieces = stream::unfold(Some((writer, answer)), |state| async {
        let (mut writer, mut answer) = state?;
        let update = answer.recv().await.unwrap_or_else(|| Update::Failed(stopped()));
        let is_last = matches!(update, Update::Done(_) | Update::Failed(_));
        let events = writer.write(update);
        Some((events, (!is_last).then_some((writer, answer))))
    });
    let events = pieces.flat_map(|events| stream::iter(events.into_iter().map(Ok)));
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

/// Writes the pieces of a streamed answer.
struct Writer {
    head: Head,
    include_usage: bool,
    return_progress: bool,
    calls: usize,
    has_role: bool,
    /// What was told last of the reading.
    reading: Option<Reading>,
}

impl Writer {
    fn write(&mut self, update: Update) -> Vec<Event> {
        let mut events = Vec::new();
        let mut write = |value: Value| events.push(Event::default().data(value.to_string()));
        if !self.has_role && matches!(update, Update::Text(_) | Update::Call(_) | Update::Done(_)) {
            self.has_role = true;
            write(self.head.delta(json!({"role": "assistant", "content": ""}), None));
        }
        match update {
            Update::Text(text) => write(self.head.delta(json!({"content": text}), None)),
            Update::Call(call) => {
                let mut call = self.head.call(self.calls, call);
                call["index"] = json!(self.calls);
                self.calls += 1;
                write(self.head.delta(json!({"tool_calls": [call]}), None));
            }
            Update::Done(summary) => {
                let mut last = self.head.delta(json!({}), Some(summary.finish_reason));
                last["timings"] = timings(&summary);
                write(last);
                if self.include_usage {
                    let mut last = self.head.chunk(json!([]));
                    last["usage"] = usage(&summary);
                    write(last);
                }
                events.push(Event::default().data("[DONE]"));
            }
            Update::Failed(error) => write(error.to_json()),
            Update::Queued(position) if self.return_progress => write(self.progress(self.reading, position)),
            Update::Reading(reading) if self.return_progress => {
                self.reading = Some(reading);
                write(self.progress(self.reading, 0));
            }
            Update::Queued(_) | Update::Reading(_) => {}
        }
        events
    }

    fn progress(&self, reading: Option<Reading>, queued: usize) -> Value {
        let mut chunk = self.head.chunk(json!([]));
        chunk["prompt_progress"] = match reading {
            Some(Reading { total, cached, processed, time }) => {
                json!({"total": total, "cache": cached, "processed": processed, "time_ms": milliseconds(time)})
            }
            None => json!({"total": 0, "cache": 0, "processed": 0, "time_ms": 0}),
        };
        if queued > 0 {
            chunk["prompt_progress"]["queued"] = json!(queued);
        }
        chunk
    }
}

fn stopped() -> ApiError {
    ApiError::new(503, "stopped", "The engine stopped in the middle of this answer.")
}

fn usage(summary: &Summary) -> Value {
    json!({
        "prompt_tokens": summary.prompt_tokens,
        "completion_tokens": summary.completion_tokens,
        "total_tokens": summary.prompt_tokens + summary.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": summary.cached_tokens},
    })
}

fn timings(summary: &Summary) -> Value {
    json!({
        "cache_n": summary.cached_tokens,
        "prompt_n": summary.prompt_tokens - summary.cached_tokens,
        "prompt_ms": milliseconds(summary.prompt_time),
        "predicted_n": summary.completion_tokens,
        "predicted_ms": milliseconds(summary.completion_time),
    })
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
