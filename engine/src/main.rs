//! Runs a language model for Verbatim, in a process of its own: an OpenAI-compatible server on a loopback port.
//!
//! Whoever starts it writes a one-time token as the first line of its standard input and keeps that open; when it ends, however
//! the parent ended, so does the engine. On its standard output it says in lines of JSON where it listens, how far the model is
//! loaded, and that it is ready or why not.
//!
//! From the request to the text: `protocol` reads it, `template` makes the prompt, `scheduler` has the model read and write
//! (`slots` says what the cache holds, `sampling` chooses tokens, `text` and `calls` make text and tool calls of them), and `http`
//! sends what comes.

mod calls;
mod http;
mod protocol;
mod sampling;
mod scheduler;
mod slots;
mod template;
mod text;

use clap::Parser;
use http::{Engine, Ready};
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token_type::LlamaTokenAttr;
use scheduler::{Limits, Load, MOST_ANSWERS, READING_TOKENS, Scheduler};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write, stdin, stdout};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use template::Template;
use tokio::net::TcpListener;

/// Runs a language model for Verbatim. The first line of standard input is the token that requests must show; the engine ends
/// when standard input does.
#[derive(Debug, Parser)]
#[command(name = "verbatim-engine", version, about, max_term_width = 100)]
struct Options {
    /// The model's weights, a GGUF file
    #[arg(long, value_name = "FILE")]
    model_file: PathBuf,

    /// What the model is called [default: the file's name]
    #[arg(long, value_name = "NAME")]
    model_name: Option<String>,

    /// The port of 127.0.0.1 to listen on; 0 takes a free one
    #[arg(long, default_value = "0")]
    port: u16,

    /// The most tokens of one conversation with its answer; never more than the model was trained for
    #[arg(long, default_value = "8192", value_name = "N", value_parser = clap::value_parser!(u32).range(256..=1 << 20))]
    context_tokens: u32,

    /// The tokens of all conversations together that are remembered or being answered
    #[arg(long, default_value = "16384", value_name = "N", value_parser = clap::value_parser!(u32).range(256..=1 << 20))]
    cache_tokens: u32,

    /// How many threads write one answer [default: one for each processor, up to 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: Option<u16>,

    /// How many threads read, and write several answers at once [default: as many]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    batch_threads: Option<u16>,
}

/// Why the model could not be loaded.
struct Failure {
    code: &'static str,
    message: String,
}

impl Failure {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    with_patient_threads();
    let Some(token) = first_line() else {
        eprintln!("verbatim-engine: write a token as the first line of standard input, and keep that open.");
        return ExitCode::from(2);
    };
    thread::spawn(end_with_input);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::new("failed", format!("The engine cannot be started: {error}."))),
    };
    match runtime.block_on(serve(options, token)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// How long a thread spins while it waits for another before it sleeps, as a count that libgomp knows. Its own setting (300,000)
/// is fast on an idle machine only: with one of two processors taken by another program it writes 3.5 tokens a second. Never
/// spinning gives 25 there, but 29 instead of 45 on an idle machine; this gives 20 and 44.
const SPIN_COUNT: (&str, &str) = ("GOMP_SPINCOUNT", "1000");

/// Begins once more with [`SPIN_COUNT`] in the environment, which libgomp reads when a process begins.
fn with_patient_threads() {
    let (name, value) = SPIN_COUNT;
    if std::env::var_os(name).is_some() {
        return;
    }
    let error = match std::env::current_exe() {
        Ok(program) => Command::new(program).args(std::env::args_os().skip(1)).env(name, value).exec(),
        Err(error) => error,
    };
    // It comes here only where it failed; then it is slower beside other programs, no more.
    eprintln!("verbatim-engine: threads will spin: {error}");
}

/// The token; read byte by byte, so that nothing behind it is taken.
fn first_line() -> Option<String> {
    let line: Vec<u8> =
        stdin().lock().bytes().map_while(Result::ok).take_while(|&byte| byte != b'\n').take(1024).collect();
    let line = String::from_utf8(line).ok()?;
    Some(line.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Ends the process when whoever started it is gone.
fn end_with_input() {
    let mut rest = [0; 256];
    while stdin().read(&mut rest).is_ok_and(|count| count > 0) {}
    // Not an orderly exit, which would take the model from under the threads that compute with it.
    _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}

/// Tells something to whoever started the engine.
fn tell(line: &Value) {
    let mut out = stdout().lock();
    // Where nobody reads, nobody wants to know.
    _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn fail(failure: &Failure) -> ExitCode {
    tell(&json!({"failed": {"code": failure.code, "message": failure.message}}));
    eprintln!("verbatim-engine: {}", failure.message);
    ExitCode::FAILURE
}

async fn serve(options: Options, token: String) -> Result<(), Failure> {
    check_processor()?;
    check_file(&options.model_file)?;
    let cannot_listen = |error| Failure::new("failed", format!("The engine cannot listen on loopback: {error}."));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let listener = TcpListener::bind(address).await.map_err(cannot_listen)?;
    tell(&json!({"listening": {"port": listener.local_addr().map_err(cannot_listen)?.port()}}));

    let stem = options.model_file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = options.model_name.clone().or(stem).unwrap_or_else(|| "model".to_owned());
    let engine = Engine {
        name: name.into(),
        token: token.into(),
        ready: Arc::new(OnceLock::new()),
        load: Arc::new(Load::default()),
        created: http::now(),
    };
    // The thread ends only by failing: the model cannot be loaded, or it panicked.
    let (ended, end) = tokio::sync::oneshot::channel();
    let worker = engine.clone();
    thread::Builder::new()
        .name("model".to_owned())
        .spawn(move || {
            // Whoever waits for it is gone only when the process ends.
            _ = ended.send(run_model(&options, &worker));
        })
        .map_err(|error| Failure::new("failed", format!("The engine's thread cannot be started: {error}.")))?;
    let app = http::router(engine);
    tokio::select! {
        served = async { axum::serve(listener, app).await } => {
            served.map_err(|error| Failure::new("failed", format!("The engine stopped listening: {error}.")))
        }
        ended = end => match ended {
            Ok(Err(failure)) => Err(failure),
            _ => Err(Failure::new("failed", "The model's thread ended.")),
        },
    }
}

/// Loads the model and serves for as long as the process lives.
fn run_model(options: &Options, engine: &Engine) -> Result<(), Failure> {
    let backend = LlamaBackend::init().map_err(|error| Failure::new("failed", format!("llama.cpp: {error}.")))?;
    let mut told = 0;
    let params = LlamaModelParams::default().with_progress_callback(move |progress| {
        let percent = (progress * 100.0) as i32;
        if percent > told {
            told = percent;
            tell(&json!({"loading": f64::from(percent) / 100.0}));
        }
        true
    });
    let damaged = |error: &dyn std::fmt::Display| {
        eprintln!("the model cannot be loaded: {error}");
        let message = "The model's file is damaged, or of a kind that this engine does not know.";
        Failure::new("model_damaged", message)
    };
    let model = LlamaModel::load_from_file(&backend, &options.model_file, &params).map_err(|error| damaged(&error))?;
    // Both live as long as the process.
    let model: &'static LlamaModel = Box::leak(Box::new(model));
    let backend: &'static LlamaBackend = Box::leak(Box::new(backend));

    let context_tokens = options.context_tokens.min(model.n_ctx_train().max(256));
    let cache_tokens = options.cache_tokens.max(context_tokens);
    let threads = Threads::new(options);
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(cache_tokens))
        .with_n_batch((READING_TOKENS + MOST_ANSWERS) as u32)
        .with_n_ubatch((READING_TOKENS + MOST_ANSWERS) as u32)
        .with_n_seq_max(MOST_ANSWERS as u32)
        .with_kv_unified(true)
        .with_n_threads(threads.writing)
        .with_n_threads_batch(threads.reading)
        .with_no_perf(true);
    let context = model.new_context(backend, params).map_err(|error| {
        eprintln!("the context cannot be made: {error}");
        let message = "There is not enough memory for the model. Close other programs, or choose a smaller model.";
        Failure::new("out_of_memory", message)
    })?;
    let limits = Limits { context_tokens: context_tokens as usize, cache_tokens: cache_tokens as usize };
    let (jobs, queue) = mpsc::channel();
    let ready = ready(model, limits, jobs).map_err(|error| damaged(&error))?;
    let scheduler = Scheduler::new(model, context, limits, engine.load.clone());
    // Set here only.
    _ = engine.ready.set(ready);
    tell(&json!({"ready": {"model": &*engine.name, "context_tokens": context_tokens}}));
    scheduler.run(&queue);
    Ok(())
}

fn ready(model: &'static LlamaModel, limits: Limits, jobs: mpsc::Sender<scheduler::Job>) -> Result<Ready, String> {
    let vocabulary = model.vocab();
    let text = |token| String::from_utf8_lossy(&vocabulary.token_to_piece(token, true, None)).into_owned();
    // A model without such a token has a number there that is none.
    let special = |token: LlamaToken| {
        if (0..vocabulary.n_tokens()).contains(&token.0) { text(token) } else { String::new() }
    };
    let (bos, eos) = (special(vocabulary.bos()), special(vocabulary.eos()));
    let controls = vocabulary
        .tokens()
        .filter(|&token| vocabulary.attr(token).contains(LlamaTokenAttr::Control))
        .map(text)
        // Shorter ones are no marks but characters.
        .filter(|text| text.chars().count() > 2)
        .collect();
    let template = model.meta_val_str("tokenizer.chat_template").ok();
    let template = Template::new(template, bos.clone(), eos, controls)?;
    Ok(Ready { model, template, bos, limits, jobs })
}

/// How many threads work.
struct Threads {
    writing: i32,
    reading: i32,
}

impl Threads {
    fn new(options: &Options) -> Self {
        let processors = thread::available_parallelism().map_or(1, |count| count.get().min(8) as u16);
        Self {
            writing: options.threads.unwrap_or(processors).into(),
            reading: options.batch_threads.or(options.threads).unwrap_or(processors).into(),
        }
    }
}

/// The model's code is compiled for processors that have these instructions; on others it would end the process.
fn check_processor() -> Result<(), Failure> {
    #[cfg(target_arch = "x86_64")]
    {
        let has_all = std::is_x86_feature_detected!("avx2")
            && std::is_x86_feature_detected!("fma")
            && std::is_x86_feature_detected!("f16c")
            && std::is_x86_feature_detected!("bmi2");
        if !has_all {
            let message = "This processor has no AVX2 instructions, which the embedded model needs. Name a model server \
                           with --openai-url instead.";
            return Err(Failure::new("processor", message));
        }
    }
    Ok(())
}

fn check_file(file: &Path) -> Result<(), Failure> {
    // Without its folder: what is said here reaches a page.
    let name = file.file_name().unwrap_or_default().display();
    let no_gguf =
        || Failure::new("model_damaged", format!("{name} is no GGUF file. Fetch it anew, or name another one."));
    let mut magic = [0; 4];
    match std::fs::File::open(file).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) if &magic == b"GGUF" => Ok(()),
        Ok(()) => Err(no_gguf()),
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            Err(match error.kind() {
                ErrorKind::UnexpectedEof => no_gguf(),
                ErrorKind::NotFound => {
                    Failure::new("model_missing", format!("There is no file {name}. Fetch it, or name another one."))
                }
                _ => Failure::new("model_missing", format!("{name} cannot be read. Check its permissions.")),
            })
        }
    }
}
