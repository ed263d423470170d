//! The supervision over an engine of our own that plays what it is told (`tests/server/fake_engine.py`).

use super::*;
use crate::assistant::Turn;
use crate::assistant::auto::Auto;
use crate::assistant::discover::{Discover, DiscoverOptions};
use crate::assistant::openai::tests::{serve, silent_port};
use crate::model::message::Modes;
use axum::Router;
use axum::routing::get;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// The longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// An embedded assistant over the fake engine; its model's file says what that plays.
struct Fixture {
    folder: TempDir,
    embedded: Embedded,
}

fn fake_engine() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/fake_engine.py")
}

impl Fixture {
    fn new(play: Value) -> Self {
        Self::with(play, |_| {})
    }

    fn with(play: Value, change: impl FnOnce(&mut EmbeddedOptions)) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("played.gguf");
        fs::write(&file, play.to_string()).unwrap();
        let mut options = EmbeddedOptions::new(fake_engine(), EmbeddedModel::File(file));
        change(&mut options);
        Self { folder, embedded: Embedded::new(options) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Lets an engine that was told to hold become ready.
    fn go(&self) {
        fs::write(self.file("played.gguf.go"), "").unwrap();
    }

    /// The process ids of all engines that were started so far.
    fn started(&self) -> Vec<String> {
        let starts = fs::read_to_string(self.file("played.gguf.starts")).unwrap_or_default();
        starts.lines().map(str::to_owned).collect()
    }

    /// The first messages of all conversations that engines were asked to continue, a line each.
    fn asked(&self) -> String {
        fs::read_to_string(self.file("played.gguf.asked")).unwrap_or_default()
    }

    async fn say(&self, text: &str) -> BoxStream<'static, Result<Event, AssistantError>> {
        self.embedded.reply(question(text)).await.unwrap()
    }

    /// All events of a reply but the news of loading.
    async fn answer(&self, text: &str) -> Vec<Result<Event, AssistantError>> {
        let all = async { self.say(text).await.collect::<Vec<_>>().await };
        let all = tokio::time::timeout(PATIENCE, all).await.expect("the reply never ended");
        all.into_iter().filter(|event| !matches!(event, Ok(Event::Progress(..)))).collect()
    }
}

fn question(text: &str) -> Request {
    Request { model: None, messages: vec![Turn::User(text.to_owned())], modes: Modes::default() }
}

fn text(text: &str) -> Result<Event, AssistantError> {
    Ok(Event::Text(text.to_owned()))
}

fn loading(fraction: Option<f64>) -> Option<Result<Event, AssistantError>> {
    Some(Ok(Event::Progress(Phase::LoadingModel, fraction)))
}

/// Waits until a process is gone; one that was killed and not yet waited for is.
async fn gone(pid: &str) {
    let is_gone = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with(['Z', 'X']) || rest.is_empty())
    };
    until(is_gone, "the process is still there").await;
}

async fn until(condition: impl Fn() -> bool, otherwise: &str) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "{otherwise}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn kill(pid: &str) {
    let sent = std::process::Command::new("kill").args(["-KILL", pid]).status().unwrap();
    assert!(sent.success());
}

#[tokio::test]
async fn it_starts_at_the_first_need_and_tells_how_far_it_is() {
    let fixture = Fixture::new(json!({"loading": [0.25, 0.5], "hold": true, "context_tokens": 2048}));
    let ready = fixture.embedded.status().await.unwrap();
    assert_eq!((ready.model.as_str(), ready.place.as_str()), ("played", "inside Verbatim"));
    assert_eq!((ready.context_tokens, ready.note), (Some(8192), None));
    assert!(fixture.started().is_empty(), "a status loads nothing");

    let mut events = fixture.say("echo hello").await;
    let mut last = None;
    // Several steps may have been said before anybody looked; the last one is never missed.
    while last != loading(Some(0.5)) {
        last = events.next().await;
        assert!(matches!(last, Some(Ok(Event::Progress(Phase::LoadingModel, _)))), "{last:?}");
    }
    fixture.go();
    assert_eq!(events.next().await, Some(Ok(Event::Progress(Phase::Waiting, None))));
    assert_eq!(events.collect::<Vec<_>>().await, [text("hello")]);
    assert_eq!(fixture.embedded.status().await.unwrap().context_tokens, Some(2048), "what the engine said");

    assert_eq!(fixture.answer("echo again").await, [text("again")]);
    assert_eq!(fixture.started().len(), 1);
}

#[tokio::test]
async fn it_reads_ahead_how_conversations_begin_once() {
    let fixture = Fixture::new(json!({"hold": true}));
    for _ in 0..3 {
        fixture.embedded.prepare("Be kind.").await;
    }
    fixture.go();
    until(|| !fixture.asked().is_empty(), "it was not told how conversations begin").await;
    fixture.embedded.prepare("Be kind.").await;
    assert_eq!(fixture.answer("echo hello").await, [text("hello")]);
    assert_eq!(fixture.asked(), "Be kind.\necho hello\n");
}

#[tokio::test]
async fn many_who_wait_share_one_start_and_may_go_away() {
    let fixture = Fixture::new(json!({"hold": true}));
    fixture.embedded.prepare("").await;
    let mut impatient = fixture.say("echo never").await;
    assert_eq!(impatient.next().await, loading(None));
    drop(impatient);
    let replies: Vec<_> = futures::future::join_all((0..5).map(|_| fixture.say("echo shared"))).await;
    until(|| fixture.started().len() == 1, "it was not started").await;
    fixture.go();
    for reply in replies {
        let last = reply.collect::<Vec<_>>().await.pop();
        assert_eq!(last, Some(text("shared")));
    }
    assert_eq!(fixture.started().len(), 1);
}

#[tokio::test]
async fn a_death_in_mid_reply_is_told_and_the_next_message_works() {
    let fixture = Fixture::new(json!({}));
    let events = fixture.answer("die").await;
    assert_eq!(events[0], text("Before"));
    let error = events[1].as_ref().unwrap_err();
    assert_eq!(error.code, AssistantErrorCode::Failed);
    assert!(error.message.starts_with("The model inside Verbatim stopped in the middle of this reply."), "{error}");
    assert!(!error.message.contains("127.0.0.1") && !error.message.contains("--openai-url"), "{error}");
    assert_eq!(fixture.answer("echo back").await, [text("back")]);

    // The same when it is killed from outside, in mid-reply and while nobody uses it.
    let mut events = fixture.say("endless").await;
    while !matches!(events.next().await, Some(Ok(Event::Text(_)))) {}
    kill(&fixture.started()[1]);
    let error = loop {
        match events.next().await.expect("an error ends it") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.message.contains("started anew"), "{error}");
    assert_eq!(events.next().await, None);
    assert_eq!(fixture.answer("echo back").await, [text("back")]);
    kill(&fixture.started()[2]);
    assert_eq!(fixture.answer("echo still").await, [text("still")]);
    assert_eq!(fixture.started().len(), 4);
}

#[tokio::test]
async fn a_failed_start_says_why_and_is_not_repeated_for_ever() {
    let fixture = Fixture::with(json!({"exit": 3}), |options| options.rest = Duration::from_secs(3600));
    for _ in 0..MOST_FAILURES {
        let error = fixture.answer("echo x").await.pop().unwrap().unwrap_err();
        assert!(error.message.contains("could not be started. Verbatim's log says why."), "{error}");
        assert!(error.cause.contains("exit status: 3") && error.cause.contains("something went wrong"), "{error}");
    }
    let error = fixture.embedded.status().await.unwrap_err();
    assert!(error.message.ends_with("It is tried again in a minute at the earliest."), "{error}");
    assert_eq!(fixture.embedded.reply(question("echo x")).await.err(), Some(error));
    fixture.embedded.prepare("").await;
    assert_eq!(fixture.started().len(), MOST_FAILURES as usize);

    // Other weights are tried at once.
    fs::write(fixture.file("played.gguf"), "{}").unwrap();
    assert_eq!(fixture.answer("echo better").await, [text("better")]);
}

#[tokio::test]
async fn it_is_tried_again_after_a_rest() {
    let fixture = Fixture::with(json!({"exit": 3}), |options| options.rest = Duration::ZERO);
    for _ in 0..MOST_FAILURES + 2 {
        assert!(fixture.answer("echo x").await[0].is_err());
    }
    assert_eq!(fixture.started().len(), MOST_FAILURES as usize + 2);
}

#[tokio::test]
async fn what_the_engine_says_of_its_failure_is_passed_on() {
    let said = json!({"code": "processor", "message": "This processor is too old for the model."});
    let fixture = Fixture::new(json!({"failed": said}));
    let error = fixture.answer("echo x").await.pop().unwrap().unwrap_err();
    assert_eq!(
        (error.message.as_str(), error.cause.as_str()),
        ("This processor is too old for the model.", "processor")
    );
    // Trying again would not help.
    assert!(fixture.embedded.status().await.unwrap_err().message.starts_with("This processor is too old"));
    assert_eq!(fixture.started().len(), 1);
}

#[tokio::test]
async fn it_goes_when_nobody_uses_it_and_comes_back() {
    let fixture = Fixture::with(json!({}), |options| options.idle = Some(Duration::from_millis(100)));
    let mut running = fixture.say("endless").await;
    while !matches!(running.next().await, Some(Ok(Event::Text(_)))) {}
    let begin = Instant::now();
    // A running reply holds it, however long it takes.
    while begin.elapsed() < Duration::from_millis(400) {
        assert!(matches!(running.next().await, Some(Ok(Event::Text(_)))));
    }
    drop(running);
    gone(&fixture.started()[0]).await;
    assert!(fixture.embedded.status().await.is_ok(), "it could be started again");
    assert_eq!(fixture.answer("echo back").await, [text("back")]);
    assert_eq!(fixture.started().len(), 2);
}

#[tokio::test]
async fn it_goes_with_the_assistant() {
    let fixture = Fixture::new(json!({}));
    assert_eq!(fixture.answer("echo x").await, [text("x")]);
    fixture.embedded.close().await;
    let pids = fixture.started();
    assert!(!Path::new(&format!("/proc/{}", pids[0])).exists(), "it is gone when closing returns");
    let error = fixture.embedded.reply(question("echo x")).await.err().unwrap();
    assert!(error.message.contains("being stopped"), "{error}");

    let other = Fixture::new(json!({}));
    assert_eq!(other.answer("echo x").await, [text("x")]);
    let pid = other.started()[0].clone();
    drop(other);
    gone(&pid).await;

    let starting = Fixture::new(json!({"hold": true}));
    starting.embedded.prepare("").await;
    until(|| starting.started().len() == 1, "it was not started").await;
    starting.embedded.close().await;
    gone(&starting.started()[0]).await;
}

#[tokio::test]
async fn errors_have_sentences_that_fit() {
    let fixture = Fixture::new(json!({}));
    let error = fixture.answer("refuse").await.pop().unwrap().unwrap_err();
    assert_eq!(error.code, AssistantErrorCode::ContextTooLong);
    let error = fixture.answer("break").await.pop().unwrap().unwrap_err();
    assert!(error.message.starts_with("The model inside Verbatim could not answer this."), "{error}");
    assert!(error.cause.contains("oops"), "{error}");
    let asked = Request { model: Some("gpt-4".into()), ..question("echo x") };
    let error = fixture.embedded.reply(asked).await.err().unwrap();
    assert_eq!(error.code, AssistantErrorCode::UnknownModel);
    assert!(error.message.contains("is played, and gpt-4 was asked for"), "{error}");
    let asked = Request { model: Some("played".into()), ..question("echo x") };
    assert!(fixture.embedded.reply(asked).await.is_ok());
    assert_eq!(fixture.started().len(), 1, "none of them is a reason to start it anew");
}

#[tokio::test]
async fn a_long_conversation_is_seen_to_be_read() {
    let fixture = Fixture::new(json!({}));
    let events: Vec<_> = fixture.say("long way").await.filter_map(|event| async { event.ok() }).collect().await;
    let reading = |fraction| Event::Progress(Phase::ReadingContext, Some(fraction));
    let waiting = Event::Progress(Phase::Waiting, None);
    let expected = [waiting, reading(0.0), reading(0.5), reading(1.0), Event::Text("way".into())];
    assert_eq!(events[events.len() - expected.len()..], expected, "{events:?}");
}

#[tokio::test]
async fn what_is_missing_is_said() {
    let folder = TempDir::new().unwrap();
    let model = weights::tests::model_of(b"{}");
    let model = || EmbeddedModel::Catalogue(folder.path().to_owned(), model.clone());
    let without_engine = Embedded::new(EmbeddedOptions::new(folder.path().join("nothing"), model()));
    let error = without_engine.status().await.unwrap_err();
    assert!(error.message.contains("verbatim-engine") && error.message.contains("make build"), "{error}");

    let embedded = Embedded::new(EmbeddedOptions::new(fake_engine(), model()));
    for asked in [embedded.status().await.err(), embedded.reply(question("echo x")).await.err()] {
        let error = asked.unwrap();
        assert_eq!(error.code, AssistantErrorCode::Unreachable);
        assert!(error.message.contains("Tiny-1B") && error.message.contains("not on this machine yet"), "{error}");
    }

    // The content is wrong and the size right: it counts as there until it was read, and is never started.
    fs::write(folder.path().join("tiny.gguf"), "[]").unwrap();
    let status = embedded.status().await;
    assert!(status.is_ok_and(|ready| ready.note.is_some_and(|note| note.contains("answers are rough"))));
    let told: Vec<_> = embedded.reply(question("echo x")).await.unwrap().collect().await;
    let error = told.last().unwrap().as_ref().unwrap_err();
    assert!(error.message.contains("are damaged"), "{error}");
    assert_eq!(embedded.status().await.err().as_ref(), Some(error));
    assert!(!folder.path().join("tiny.gguf.starts").exists());

    fs::write(folder.path().join("tiny.gguf"), "{}").unwrap();
    let file = fs::File::options().write(true).open(folder.path().join("tiny.gguf")).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).unwrap();
    let told: Vec<_> = embedded.reply(question("echo whole")).await.unwrap().collect().await;
    assert_eq!(told.last(), Some(&text("whole")));
    assert!(folder.path().join("tiny.gguf.verified").exists());
}

/// An assistant whose engine and weights may still be missing.
struct Arriving {
    folder: TempDir,
    embedded: Arc<Embedded>,
}

impl Arriving {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let model = EmbeddedModel::Catalogue(folder.path().to_owned(), weights::tests::model_of(b"{}"));
        let embedded = Arc::new(Embedded::new(EmbeddedOptions::new(folder.path().join("engine"), model)));
        Self { folder, embedded }
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.folder.path().join(name)).unwrap();
    }

    /// Says that a build goes on, which began so many seconds ago.
    fn is_built_since(&self, seconds: u64) {
        let began_at = chrono::Utc::now().timestamp() as u64 - seconds;
        let note = json!({"state": "building", "began_at": began_at, "expected_seconds": 300});
        self.write("engine.build", &note.to_string());
    }

    /// Puts the finished engine where it belongs.
    fn install(&self) {
        fs::copy(fake_engine(), self.folder.path().join("engine")).unwrap();
        self.remove("engine.build");
    }

    async fn waits_for(&self) -> Option<String> {
        self.embedded.status().await.unwrap().waits_for
    }
}

#[tokio::test]
async fn what_is_asked_while_the_engine_is_built_is_answered_when_it_is_done() {
    let arriving = Arriving::new();
    arriving.write("tiny.gguf", "{}");
    arriving.is_built_since(200);
    let told = arriving.waits_for().await.unwrap();
    assert_eq!(told, "The model inside Verbatim is being built: 3 of about 5 minutes.");
    arriving.embedded.prepare("Be kind.").await;

    let mut events = arriving.embedded.reply(question("echo at last")).await.unwrap();
    let first = events.next().await.unwrap().unwrap();
    let Event::Progress(Phase::BuildingModel, Some(fraction)) = first else { panic!("{first:?}") };
    assert!((0.66..0.8).contains(&fraction), "{fraction}");
    arriving.is_built_since(400);
    let later = events.next().await.unwrap().unwrap();
    assert_eq!(later, Event::Progress(Phase::BuildingModel, None));
    assert!(arriving.waits_for().await.unwrap().contains("longer than was expected"));

    arriving.install();
    let rest: Vec<_> = tokio::time::timeout(PATIENCE, events.collect()).await.unwrap();
    assert_eq!(rest.last(), Some(&text("at last")), "{rest:?}");
    assert!(rest.iter().all(|event| !matches!(event, Ok(Event::Progress(Phase::BuildingModel, _)))), "{rest:?}");
    assert_eq!(arriving.waits_for().await, None);
}

#[tokio::test]
async fn a_build_that_fails_or_is_broken_off_ends_the_waiting() {
    let failed = json!({"state": "failed", "began_at": 0}).to_string();
    for (note, says) in
        [(Some(failed.as_str()), "could not be built. Type make build"), (None, "is missing. Build it with")]
    {
        let arriving = Arriving::new();
        arriving.write("tiny.gguf", "{}");
        arriving.is_built_since(1);
        let mut events = arriving.embedded.reply(question("echo x")).await.unwrap();
        assert!(matches!(events.next().await, Some(Ok(Event::Progress(Phase::BuildingModel, _)))));
        match note {
            Some(note) => arriving.write("engine.build", note),
            None => arriving.remove("engine.build"),
        }
        let rest: Vec<_> = tokio::time::timeout(PATIENCE, events.collect()).await.unwrap();
        let error = rest.last().unwrap().as_ref().unwrap_err();
        assert!(error.message.contains(says), "{error}");
        assert_eq!(arriving.embedded.status().await.err().as_ref(), Some(error));
        // Whoever builds it then needs no restart.
        arriving.is_built_since(1);
        arriving.install();
        let answer: Vec<_> = arriving.embedded.reply(question("echo back")).await.unwrap().collect().await;
        assert_eq!(answer.last(), Some(&text("back")));
    }
}

#[tokio::test]
async fn weights_that_are_being_fetched_are_waited_for() {
    let arriving = Arriving::new();
    arriving.write("engine", "");
    arriving.write("tiny.gguf.lock", "1 1\n");
    assert!(arriving.waits_for().await.unwrap().contains("weights of Tiny-1B"), "they are on their way");
    // The engine takes longer, so it is told first; without anybody who fetches the weights waiting for it is in vain.
    arriving.is_built_since(1);
    assert!(arriving.waits_for().await.unwrap().contains("is being built"));
    let mut events = arriving.embedded.reply(question("echo whole")).await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(Event::Progress(Phase::BuildingModel, _)))));
    arriving.install();
    let next = events.next().await.unwrap().unwrap();
    assert!(matches!(next, Event::Progress(Phase::FetchingModel, Some(_))), "{next:?}");
    arriving.write("tiny.gguf", "{}");
    arriving.remove("tiny.gguf.lock");
    let rest: Vec<_> = tokio::time::timeout(PATIENCE, events.collect()).await.unwrap();
    assert_eq!(rest.last(), Some(&text("whole")), "{rest:?}");

    let in_vain = Arriving::new();
    in_vain.is_built_since(1);
    let error = in_vain.embedded.status().await.unwrap_err();
    assert!(error.message.contains("not on this machine yet: fetch them with make weights"), "{error}");
}

#[tokio::test]
async fn closing_ends_the_waiting_for_a_build() {
    let arriving = Arriving::new();
    arriving.write("tiny.gguf", "{}");
    arriving.is_built_since(1);
    let mut events = arriving.embedded.reply(question("echo x")).await.unwrap();
    assert!(events.next().await.unwrap().is_ok());
    let embedded = arriving.embedded.clone();
    let rest = tokio::spawn(events.collect::<Vec<_>>());
    embedded.close().await;
    let rest = tokio::time::timeout(PATIENCE, rest).await.unwrap().unwrap();
    assert!(rest.last().unwrap().is_err(), "{rest:?}");
}

#[tokio::test]
async fn auto_takes_a_model_server_before_the_embedded_model() {
    let port = silent_port().await;
    let discover = || {
        let ports = vec![port];
        Discover::new(DiscoverOptions { ports, retry_after: Duration::ZERO, ..DiscoverOptions::default() }).unwrap()
    };
    let fixture = Fixture::new(json!({}));
    let started = |fixture: &Fixture| fixture.started().len();
    let auto = Auto::new(discover(), Embedded::new(fixture.embedded.0.options.clone()));
    assert_eq!(auto.status().await.unwrap().place, "inside Verbatim");
    let events: Vec<_> = auto.reply(question("echo inside")).await.unwrap().collect().await;
    assert_eq!(events.last(), Some(&text("inside")));
    assert_eq!(started(&fixture), 1);

    // A server that starts later is taken at the next search, and nothing is loaded any more.
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let listing = Router::new().route("/v1/models", get(|| async { r#"{"data":[{"id":"late"}]}"# }));
    tokio::spawn(async move { axum::serve(listener, listing).await });
    assert_eq!(auto.status().await.unwrap().model, "late");
    auto.close().await;
    let auto = Auto::new(discover(), Embedded::new(fixture.embedded.0.options.clone()));
    auto.prepare("").await;
    assert_eq!(auto.status().await.unwrap().model, "late");
    let error = auto.reply(question("echo x")).await.err().unwrap();
    assert!(error.message.contains("does not speak"), "the server was asked, which cannot chat: {error}");
    assert_eq!(started(&fixture), 1);

    // With neither, the advice names both ways.
    let nobody = serve(Router::new()).await;
    let ports = vec![nobody.port()];
    let discover = Discover::new(DiscoverOptions { ports, ..DiscoverOptions::default() }).unwrap();
    let missing =
        EmbeddedOptions { model: EmbeddedModel::File(fixture.file("gone.gguf")), ..fixture.embedded.0.options.clone() };
    let error = Auto::new(discover, Embedded::new(missing)).status().await.unwrap_err();
    assert!(error.message.contains("gone is not there") && error.message.contains("Or start Ollama"), "{error}");
}

#[tokio::test]
async fn auto_loads_ahead_only_where_the_embedded_model_would_answer() {
    let fixture = Fixture::new(json!({}));
    let ports = vec![silent_port().await];
    let discover = Discover::new(DiscoverOptions { ports, ..DiscoverOptions::default() }).unwrap();
    let auto = Auto::new(discover, Embedded::new(fixture.embedded.0.options.clone()));
    auto.prepare("").await;
    until(|| fixture.started().len() == 1, "it is not loaded ahead").await;
    let server = serve(Router::new().route("/v1/models", get(|| async { r#"{"data":[{"id":"m"}]}"# }))).await;
    let ports = vec![server.port()];
    let discover = Discover::new(DiscoverOptions { ports, ..DiscoverOptions::default() }).unwrap();
    let auto = Auto::new(discover, Embedded::new(fixture.embedded.0.options.clone()));
    auto.prepare("").await;
    assert_eq!(auto.status().await.unwrap().model, "m");
    assert_eq!(fixture.started().len(), 1);
}
