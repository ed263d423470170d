//! One engine process from its start to its end.
//!
//! It says what it does as JSON lines on its standard output, takes a token as the first line of its standard input, and ends
//! when that input does: so it goes when this process goes, also after SIGKILL.

use super::Shared;
use super::lines::Lines;
use crate::assistant::openai::{OpenAi, OpenAiOptions, Secret};
use crate::assistant::{AssistantError, AssistantErrorCode};
use crate::model::foreign::one_line;
use serde::Deserialize;
use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use uuid::Uuid;

/// How long an engine that is starting may say nothing before it is given up: its file may come from a slow disk.
const SILENCE: Duration = Duration::from_secs(120);

/// How long a killed engine is waited for.
const END_TIME: Duration = Duration::from_secs(2);

/// How many of its last log lines are kept for the cause of a failed start.
const LAST_LINES: usize = 5;

/// How many characters of what it says for people are shown.
const SENTENCE_CHARACTERS: usize = 500;

/// Variables that it gets from our environment: what finds programs and libraries.
const PASSED_ON: [&str; 2] = ["PATH", "LD_LIBRARY_PATH"];

/// How far an engine is.
#[derive(Clone)]
pub(super) enum Stage {
    /// It starts, and has loaded this much of the model (0 to 1) where known.
    Starting(Option<f64>),
    /// It answers.
    Ready(Arc<OpenAi>),
    /// It never answered.
    Failed(AssistantError),
    /// It has answered, and is gone.
    Ended,
}

/// An engine process, as all who use it see it.
pub(super) struct Engine {
    stage: watch::Sender<Stage>,
    usage: watch::Sender<Usage>,
    /// Whether it was told how conversations begin.
    reads_ahead: AtomicBool,
}

/// Who uses an engine, and since when nobody does.
#[derive(Clone, Copy)]
struct Usage {
    users: usize,
    last: Instant,
}

/// The use of an engine, as long as it is held.
pub(super) struct Lease(Arc<Engine>);

impl Lease {
    pub(super) fn engine(&self) -> &Engine {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.usage.send_modify(|usage| *usage = Usage { users: usage.users - 1, last: Instant::now() });
    }
}

impl Engine {
    /// An engine that is about to be started.
    pub(super) fn new() -> Arc<Self> {
        let usage = Usage { users: 0, last: Instant::now() };
        Arc::new(Self {
            stage: watch::Sender::new(Stage::Starting(None)),
            usage: watch::Sender::new(usage),
            reads_ahead: AtomicBool::new(false),
        })
    }

    /// Begins to use it. Call this only while the slot is held, so that it is not stopped meanwhile.
    pub(super) fn lease(self: &Arc<Self>) -> Lease {
        self.usage.send_modify(|usage| usage.users += 1);
        Lease(self.clone())
    }

    /// Whether the caller is the first who may tell it how conversations begin.
    pub(super) fn begins_to_read_ahead(&self) -> bool {
        !self.reads_ahead.swap(true, Ordering::Relaxed)
    }

    /// How far it is, now and later.
    pub(super) fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Whether it answers or will.
    pub(super) fn is_usable(&self) -> bool {
        matches!(&*self.stage.borrow(), Stage::Starting(_) | Stage::Ready(_))
    }

    /// Waits until it is gone.
    pub(super) async fn gone(&self) {
        let gone = |stage: &Stage| matches!(stage, Stage::Failed(_) | Stage::Ended);
        // An error would mean that the sender is gone, which lives in `self`.
        let _ = self.stage.subscribe().wait_for(gone).await;
    }
}

/// A line of the engine's standard output. Lines of other kinds are skipped.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// It listens, and begins to load the model.
    Listening { port: u16 },
    /// So much of the model is loaded, 0 to 1.
    Loading(f64),
    /// It answers.
    Ready {
        #[serde(default)]
        context_tokens: Option<usize>,
    },
    /// It cannot, and ends.
    Failed { code: String, message: String },
}

/// Starts an engine and stays with it until it is gone.
pub(super) async fn keep(shared: Arc<Shared>, engine: Arc<Engine>) {
    let begin = Instant::now();
    let mut closed = shared.closed.subscribe();
    let started = tokio::select! {
        started = start(&shared, &engine) => started,
        _ = closed.wait_for(|closed| *closed) => Err(super::closing()),
    };
    let mut running = match started {
        Ok(running) => running,
        Err(error) => {
            if !*closed.borrow() {
                tracing::error!(%error, "the model inside Verbatim could not be started");
                shared.start_failed(&error);
            }
            engine.stage.send_replace(Stage::Failed(error));
            return;
        }
    };
    shared.started();
    tracing::info!(
        model = shared.weights.name(),
        ms = begin.elapsed().as_millis(),
        "the model inside Verbatim is loaded"
    );
    engine.usage.send_modify(|usage| usage.last = Instant::now());
    engine.stage.send_replace(Stage::Ready(running.client.clone()));

    let mut usage = engine.usage.subscribe();
    let stopped = loop {
        let now = *usage.borrow_and_update();
        let idle_until = shared.options.idle.filter(|_| now.users == 0).map(|idle| now.last + idle);
        let idle = async {
            match idle_until {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = running.child.wait() => {
                let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                tracing::warn!(status, "the model inside Verbatim stopped by itself; the next reply starts it anew");
                break false;
            }
            _ = closed.wait_for(|closed| *closed) => break true,
            () = idle => {
                if shared.retire(&engine, || engine.usage.borrow().users == 0 && engine.usage.borrow().last == now.last) {
                    tracing::info!("nobody used the model inside Verbatim for a while: it gives its memory back");
                    break true;
                }
            }
            // An error would mean that the sender is gone, which lives in `engine`.
            _ = usage.changed() => {}
        }
    };
    if stopped {
        end(&mut running.child).await;
    }
    engine.stage.send_replace(Stage::Ended);
}

/// An engine that answers.
struct Running {
    child: Child,
    client: Arc<OpenAi>,
    /// The engine lives as long as this is open.
    _stdin: ChildStdin,
}

/// Starts the process and waits until it answers. Dropped or failed, it leaves no process behind.
async fn start(shared: &Shared, engine: &Engine) -> Result<Running, AssistantError> {
    shared.weights.check().await?;
    let options = &shared.options;
    tracing::info!(model = shared.weights.name(), "starting the model inside Verbatim");
    let mut command = Command::new(&options.engine);
    command
        .arg("--model-file")
        .arg(shared.weights.path())
        .args(["--model-name", shared.weights.name(), "--port", "0"])
        .args(["--context-tokens", &options.context_tokens.to_string()])
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| not_started(&error.to_string()))?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(not_started("the process has no pipes"));
    };
    let last_lines: Arc<Mutex<VecDeque<String>>> = Arc::default();
    tokio::spawn(log(Lines::new(stderr), last_lines.clone()));

    let token = Uuid::new_v4().simple().to_string();
    let mut lines = Lines::new(stdout);
    // An engine that fails at once may never read its token; what it said of that comes first.
    let handed_over = stdin.write_all(format!("{token}\n").as_bytes()).await;
    let answer = listen(shared, engine, &mut lines, &token).await;
    match (answer, handed_over) {
        (Ok(Some(client)), Ok(())) => {
            // Nobody needs what it says from here on, but a full pipe would stop it.
            tokio::spawn(async move { while lines.next().await.is_some() {} });
            Ok(Running { child, client: Arc::new(client), _stdin: stdin })
        }
        (Err(error), _) => {
            end(&mut child).await;
            Err(error)
        }
        (Ok(_), _) => {
            let status = match tokio::time::timeout(END_TIME, child.wait()).await {
                Ok(Ok(status)) => status.to_string(),
                _ => "it closed its output".to_owned(),
            };
            end(&mut child).await;
            let last = last_lines.lock().unwrap_or_else(PoisonError::into_inner);
            let last = last.iter().map(String::as_str).collect::<Vec<_>>().join(" | ");
            Err(not_started(&format!("{status}; {last}")))
        }
    }
}

/// Follows what a starting engine says; `None` where it ends without a word.
async fn listen(
    shared: &Shared,
    engine: &Engine,
    lines: &mut Lines<ChildStdout>,
    token: &str,
) -> Result<Option<OpenAi>, AssistantError> {
    let mut port = None;
    loop {
        let Ok(line) = tokio::time::timeout(SILENCE, lines.next()).await else {
            return Err(not_started(&format!("it said nothing for {} s", SILENCE.as_secs())));
        };
        let Some(line) = line else { return Ok(None) };
        match serde_json::from_str(&line) {
            Ok(Said::Listening { port: at }) => port = Some(at),
            Ok(Said::Loading(fraction)) if fraction.is_finite() => {
                engine.stage.send_replace(Stage::Starting(Some(fraction.clamp(0.0, 1.0))));
            }
            Ok(Said::Ready { context_tokens }) => {
                let Some(port) = port else { return Err(not_started("it said no port")) };
                shared.reads(context_tokens);
                let endpoint = format!("http://127.0.0.1:{port}/v1").parse();
                let endpoint = endpoint.map_err(|_| not_started("it said a port that is none"))?;
                return OpenAi::new(OpenAiOptions {
                    key: Secret::new(token),
                    model: Some(shared.weights.name().to_owned()),
                    return_progress: true,
                    ..OpenAiOptions::new(endpoint)
                })
                .map(Some);
            }
            Ok(Said::Failed { code, message }) => {
                let message = one_line(&message, SENTENCE_CHARACTERS);
                return Err(AssistantError { code: AssistantErrorCode::Unreachable, message, cause: code });
            }
            Ok(Said::Loading(_)) | Err(_) => tracing::debug!(line, "the engine said something unknown"),
        }
    }
}

/// Passes the engine's own log on to ours: its troubles as such, the rest for those who look closely.
async fn log(mut lines: Lines<tokio::process::ChildStderr>, last: Arc<Mutex<VecDeque<String>>>) {
    while let Some(line) = lines.next().await {
        if ["ERROR", "WARN", "panicked"].iter().any(|word| line.contains(word)) {
            tracing::warn!("engine: {line}");
        } else {
            tracing::debug!("engine: {line}");
        }
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
}

/// Kills the process and waits until it is gone.
async fn end(child: &mut Child) {
    if let Err(error) = child.start_kill() {
        // It was gone already.
        tracing::debug!(%error, "the engine could not be killed");
    }
    if tokio::time::timeout(END_TIME, child.wait()).await.is_err() {
        tracing::warn!("the engine was killed and does not go");
    }
}

fn not_started(cause: &str) -> AssistantError {
    AssistantError {
        code: AssistantErrorCode::Unreachable,
        message: "The model inside Verbatim could not be started. Verbatim's log says why.".to_owned(),
        cause: cause.to_owned(),
    }
}
