//! Replies over a store in memory, with the scripted assistant and with one that the test leads by the hand.

mod odd;

use super::*;
use crate::assistant::scripted::Scripted;
use crate::assistant::{AssistantErrorCode, Event, Ready, Request, ToolCall, Turn};
use crate::model::parts::Part;
use crate::model::query::Query;
use crate::model::reply::Phase;
use crate::model::session::Kind;
use crate::store::{Health, IndexState, ListRequest, Listing, NewSession};
use async_trait::async_trait;
use chrono::DateTime;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{mpsc, watch};

/// A store in memory. It tells each change, so that tests can wait for one.
#[derive(Default)]
struct MemoryStore {
    sessions: Mutex<BTreeMap<SessionId, Session>>,
    journals: Mutex<BTreeMap<String, (ReplyHead, Vec<ReplyEvent>)>>,
    trashed: Mutex<HashSet<SessionId>>,
    unwritable: AtomicBool,
    refused: watch::Sender<u32>,
    changes: watch::Sender<u32>,
}

impl MemoryStore {
    fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn writable(&self) -> Result<(), StoreError> {
        if self.unwritable.load(Ordering::SeqCst) {
            self.refused.send_modify(|refused| *refused += 1);
            return Err(StoreError::Unwritable("no space".into()));
        }
        Ok(())
    }

    fn with<T>(&self, id: &SessionId, act: impl FnOnce(&mut Session) -> T) -> Result<T, StoreError> {
        if self.trashed.lock().unwrap().contains(id) {
            return Err(StoreError::Deleted);
        }
        let done = self.sessions.lock().unwrap().get_mut(id).map(act).ok_or(StoreError::NotFound)?;
        self.changed();
        Ok(done)
    }

    async fn wait_for(&self, condition: impl Fn(&Self) -> bool) {
        let wait = async { self.changes.subscribe().wait_for(|_| condition(self)).await.map(|_| ()) };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the condition never came true").unwrap();
    }
}

fn saved(session: &mut Session) -> Saved {
    session.revision += 1;
    Saved { revision: session.revision, saved_at: time::format(Utc::now()), merged: false }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn create(&self, new: NewSession) -> Result<u64, StoreError> {
        let session = Session {
            session_id: new.session_id.clone(),
            user_name: new.user_name,
            started_at: time::format(new.started_at),
            last_updated: time::format(new.started_at),
            metadata_updated: None,
            metadata: new.metadata,
            messages: Vec::new(),
            revision: 0,
            extra: Object::new(),
        };
        self.sessions.lock().unwrap().insert(new.session_id, session);
        Ok(0)
    }

    async fn load(&self, id: &SessionId) -> Result<Arc<Session>, StoreError> {
        // A real store takes its time, in which others come in between.
        tokio::task::yield_now().await;
        self.with(id, |session| Arc::new(session.clone()))
    }

    async fn save(&self, id: &SessionId, save: Save) -> Result<Saved, StoreError> {
        self.writable()?;
        self.with(id, |session| {
            for input in save.messages {
                let leaf = session.active_path().last().map(|&position| session.messages[position].id.clone());
                session.messages.push(Message {
                    id: input.id.unwrap(),
                    parent_id: input.parent_id.unwrap_or(leaf),
                    role: input.role,
                    content: input.content,
                    timestamp: input.timestamp.unwrap(),
                    metadata: input.metadata,
                    parts: input.parts,
                    rev: 0,
                    extra: input.extra,
                });
            }
            crate::model::merge_patch(&mut session.metadata, &save.metadata);
            saved(session)
        })
    }

    async fn append_reply(&self, id: &SessionId, message: Message, _: DateTime<Utc>) -> Result<Saved, StoreError> {
        self.writable()?;
        self.with(id, |session| {
            if !session.messages.iter().any(|known| known.id == message.id) {
                session.messages.push(message);
            }
            saved(session)
        })
    }

    async fn list(&self, _: &ListRequest) -> Result<Listing, StoreError> {
        unimplemented!("no reply lists sessions")
    }

    async fn find(&self, _: &Query, _: Option<Kind>, _: i32) -> Result<Vec<SessionId>, StoreError> {
        unimplemented!("no reply searches")
    }

    async fn delete(&self, id: &SessionId) -> Result<(), StoreError> {
        self.trashed.lock().unwrap().insert(id.clone());
        Ok(())
    }

    async fn restore(&self, id: &SessionId) -> Result<(), StoreError> {
        self.trashed.lock().unwrap().remove(id);
        Ok(())
    }

    async fn health(&self) -> Health {
        Health { sessions: 0, unreadable: 0, writable: true, index: IndexState::Ready }
    }

    async fn empty_trash(&self, _: Option<&[SessionId]>) -> Result<u64, StoreError> {
        unimplemented!("no reply empties the trash")
    }

    async fn close(&self) {}

    async fn begin_reply(&self, head: &ReplyHead) -> Result<(), StoreError> {
        self.writable()?;
        self.journals.lock().unwrap().insert(head.reply_id.clone(), (head.clone(), Vec::new()));
        self.changed();
        Ok(())
    }

    async fn extend_reply(&self, reply_id: &str, events: &[ReplyEvent]) -> Result<(), StoreError> {
        self.writable()?;
        self.journals.lock().unwrap().get_mut(reply_id).ok_or(StoreError::NotFound)?.1.extend_from_slice(events);
        self.changed();
        Ok(())
    }

    async fn end_reply(&self, reply_id: &str) -> Result<(), StoreError> {
        self.journals.lock().unwrap().remove(reply_id);
        self.changed();
        Ok(())
    }

    async fn unfinished_replies(&self) -> Result<Vec<(ReplyHead, Vec<ReplyEvent>)>, StoreError> {
        Ok(self.journals.lock().unwrap().values().cloned().collect())
    }
}

/// An assistant that says what the test sends it, one conversation after the other.
struct Led {
    replies: Mutex<VecDeque<mpsc::UnboundedReceiver<Result<Event, AssistantError>>>>,
    asked: Mutex<Vec<Request>>,
    status: Mutex<Result<Ready, AssistantError>>,
}

type Lead = mpsc::UnboundedSender<Result<Event, AssistantError>>;

impl Led {
    fn new(replies: usize) -> (Arc<Self>, Vec<Lead>) {
        let (leads, replies) = (0..replies).map(|_| mpsc::unbounded_channel()).unzip();
        let ready =
            Ready { model: "led".into(), place: "test".into(), context_tokens: None, note: None, waits_for: None };
        let led = Self { replies: Mutex::new(replies), asked: Mutex::default(), status: Mutex::new(Ok(ready)) };
        (Arc::new(led), leads)
    }
}

#[async_trait]
impl Assistant for Led {
    async fn status(&self) -> Result<Ready, AssistantError> {
        self.status.lock().unwrap().clone()
    }

    async fn reply(
        &self,
        request: Request,
    ) -> Result<BoxStream<'static, Result<Event, AssistantError>>, AssistantError> {
        self.asked.lock().unwrap().push(request);
        let replies = self.replies.lock().unwrap().pop_front().expect("asked more often than expected");
        Ok(stream::unfold(replies, |mut replies| async move { replies.recv().await.map(|event| (event, replies)) })
            .boxed())
    }
}

fn failure(code: AssistantErrorCode) -> AssistantError {
    AssistantError { code, message: "Do this.".into(), cause: "inner".into() }
}

fn text(text: &str) -> Result<Event, AssistantError> {
    Ok(Event::Text(text.to_owned()))
}

struct Fixture {
    store: Arc<MemoryStore>,
    replies: Arc<Replies>,
    id: SessionId,
}

impl Fixture {
    async fn with(assistant: Arc<dyn Assistant>, change: impl FnOnce(&mut RepliesOptions)) -> Self {
        let store = Arc::new(MemoryStore::default());
        let id: SessionId = "session".parse().unwrap();
        let new = NewSession {
            session_id: id.clone(),
            user_name: "User".into(),
            started_at: Utc::now(),
            metadata: Object::new(),
            messages: Vec::new(),
        };
        store.create(new).await.unwrap();
        let mut options = RepliesOptions { journal_interval: Duration::from_millis(1), ..RepliesOptions::default() };
        change(&mut options);
        let replies = Replies::new(store.clone(), assistant, options);
        Self { store, replies, id }
    }

    async fn scripted() -> Self {
        Self::with(Arc::new(Scripted), |_| {}).await
    }

    async fn led(replies: usize) -> (Self, Arc<Led>, Vec<Lead>) {
        let (led, leads) = Led::new(replies);
        (Self::with(led.clone(), |_| {}).await, led, leads)
    }

    fn request(&self, message: Value) -> StartReply {
        let request = json!({"session_id": self.id, "message": message, "modes": {"webSearch": true}});
        serde_json::from_value(request).unwrap()
    }

    async fn try_start(&self, message: Value) -> Result<ReplyStream, AppError> {
        self.replies.start(self.request(message)).await
    }

    async fn say(&self, id: &str, content: &str) -> ReplyStream {
        self.try_start(json!({"id": id, "content": content})).await.unwrap()
    }

    async fn answer(&self, id: &str, content: &str) -> Message {
        done(&all(self.say(id, content).await).await)
    }

    async fn session(&self) -> Arc<Session> {
        self.store.load(&self.id).await.unwrap()
    }

    async fn ids(&self) -> Vec<String> {
        self.session().await.messages.iter().map(|message| message.id.clone()).collect()
    }
}

/// All events of a stream, with their sequence numbers checked.
async fn all(stream: ReplyStream) -> Vec<ReplyEvent> {
    let events: Vec<ReplyEvent> =
        tokio::time::timeout(Duration::from_secs(60), stream.collect()).await.expect("the stream never ends");
    let numbers: Vec<u64> = events.iter().map(ReplyEvent::seq).collect();
    let first = numbers[0];
    assert_eq!(numbers, (first..first + numbers.len() as u64).collect::<Vec<_>>());
    assert!(events.last().unwrap().is_last());
    events
}

fn done(events: &[ReplyEvent]) -> Message {
    match events.last() {
        Some(ReplyEvent::Done { message, .. }) => Message::clone(message),
        other => panic!("not done: {other:?}"),
    }
}

fn failed(events: &[ReplyEvent]) -> &str {
    match events.last() {
        Some(ReplyEvent::Failed { code, .. }) => code,
        other => panic!("not failed: {other:?}"),
    }
}

fn reply_id(event: &ReplyEvent) -> String {
    match event {
        ReplyEvent::Started { reply_id, .. } => reply_id.clone(),
        other => panic!("not started: {other:?}"),
    }
}

async fn error_of(result: Result<ReplyStream, AppError>) -> AppError {
    match result {
        Err(error) => error,
        Ok(stream) => panic!("no error but {:?}", all(stream).await),
    }
}

fn delta(seq: u64, text: &str) -> ReplyEvent {
    ReplyEvent::Delta { seq, text: text.to_owned() }
}

#[tokio::test]
async fn a_reply_is_told_and_kept() {
    let fixture = Fixture::scripted().await;
    let mut stream = fixture.say("u1", "think of me").await;
    let started = stream.next().await.unwrap();
    let session = fixture.session().await;
    let said = &session.messages[0];
    assert_eq!((said.id.as_str(), said.content.as_str(), &said.parent_id), ("u1", "think of me", &None));
    assert_eq!(said.metadata["modes"], json!({"commander": false, "webSearch": true}));

    let events: Vec<ReplyEvent> = stream.collect().await;
    assert_eq!(events[0], ReplyEvent::Reasoning { seq: 1, text: "of me".into() });
    assert_eq!(events[1], delta(2, "That is what I thought."));
    let message = done(&events);
    assert_eq!(
        started,
        ReplyEvent::Started {
            reply_id: message.metadata["reply_id"].as_str().unwrap().to_owned(),
            message_id: message.id.clone(),
            parent_id: Some("u1".into()),
            model: "scripted".into(),
            left_out: 0,
        }
    );
    assert_eq!(message.content, "That is what I thought.");
    assert_eq!(message.modes(), Some(Modes { commander: false, web_search: true }));
    assert!(message.metadata["duration_ms"].is_u64() && message.metadata["first_token_ms"].is_u64());
    assert!(!message.metadata.contains_key("error") && !message.metadata.contains_key("stopped"));
    let parts = message.parts.as_ref().unwrap();
    assert!(matches!(&parts[..], [Part::Reasoning { duration_ms: Some(_), .. }, Part::Text { .. }]), "{parts:?}");

    let session = fixture.session().await;
    assert_eq!(session.messages[1], Message { rev: 0, ..message });
    assert!(fixture.store.journals.lock().unwrap().is_empty());
    assert_eq!(fixture.replies.running(&fixture.id), None);

    let next = fixture.answer("u2", "stream 3").await;
    assert_eq!(
        (next.content.as_str(), &next.metadata["usage"]),
        ("word1 word2 word3", &json!({"completion_tokens": 3}))
    );
    assert_eq!(fixture.session().await.messages[2].parent_id, Some(session.messages[1].id.clone()));
}

#[tokio::test]
async fn the_same_start_makes_one_reply() {
    let (fixture, _, mut leads) = Fixture::led(1).await;
    let starts = future::join_all((0..5).map(|_| fixture.say("u1", "hello"))).await;
    let lead = leads.remove(0);
    lead.send(text("hi")).unwrap();
    drop(lead);
    let first = all(fixture.say("u1", "hello").await).await;
    for stream in starts {
        assert_eq!(all(stream).await, first);
    }
    assert_eq!(all(fixture.say("u1", "hello").await).await, first, "a finished one is told again");
    assert_eq!(fixture.ids().await.len(), 2);

    // And when it is remembered no more, for example after a restart, the kept message is told.
    let (led, _) = Led::new(0);
    let later = Replies::new(fixture.store.clone(), led, RepliesOptions::default());
    let told = all(later.start(fixture.request(json!({"id": "u1", "content": "hello"}))).await.unwrap()).await;
    assert_eq!((told.len(), reply_id(&told[0])), (2, reply_id(&first[0])));
    assert_eq!(done(&told).content, "hi");

    let other = error_of(fixture.try_start(json!({"id": "u1", "content": "hello!"})).await).await;
    assert_eq!(other.code, ErrorCode::Conflict);
    let of_reply = error_of(fixture.try_start(json!({"id": done(&first).id, "content": "hi"})).await).await;
    assert_eq!(of_reply.code, ErrorCode::Conflict);
}

#[tokio::test]
async fn many_tabs_hear_the_same() {
    let (fixture, _, mut leads) = Fixture::led(1).await;
    let lead = leads.remove(0);
    let mut first = fixture.say("u1", "hello").await;
    let id = reply_id(&first.next().await.unwrap());
    lead.send(text("one")).unwrap();
    assert_eq!(first.next().await, Some(delta(1, "one")));

    let running = fixture.replies.running(&fixture.id).unwrap();
    assert_eq!((&running.reply_id, running.parent_id.as_str()), (&id, "u1"));
    assert_eq!(fixture.replies.running_messages(&fixture.id), HashSet::from([running.message_id]));

    let whole = fixture.replies.resume(&id, 0).unwrap();
    let rest = fixture.replies.resume(&id, 1).unwrap();
    let beyond = fixture.replies.resume(&id, u64::MAX).unwrap();
    drop(first);
    lead.send(text("two")).unwrap();
    drop(lead);
    let (whole, rest, beyond) = (all(whole).await, all(rest).await, all(beyond).await);
    assert_eq!(whole[1..3], [delta(1, "one"), delta(2, "two")]);
    assert_eq!(rest, whole[2..]);
    assert_eq!(beyond, rest);
    assert_eq!(all(fixture.replies.resume(&id, 2).unwrap()).await, whole[3..], "finished, but remembered");
    assert_eq!(fixture.replies.resume("unknown", 0).err().unwrap().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn stopping_keeps_the_text_so_far() {
    let (fixture, _, mut leads) = Fixture::led(1).await;
    let lead = leads.remove(0);
    let mut stream = fixture.say("u1", "hello").await;
    let id = reply_id(&stream.next().await.unwrap());
    lead.send(text("half of")).unwrap();
    assert_eq!(stream.next().await, Some(delta(1, "half of")));

    fixture.replies.stop(&id).await.unwrap();
    let message = done(&stream.collect::<Vec<_>>().await);
    assert_eq!((message.content.as_str(), &message.metadata["stopped"]), ("half of", &json!(true)));
    assert_eq!(fixture.session().await.messages[1].content, "half of");
    lead.closed().await;
    fixture.replies.stop(&id).await.unwrap();
    assert_eq!(fixture.replies.stop("unknown").await.unwrap_err().code, ErrorCode::NotFound);
}

#[tokio::test]
async fn an_assistant_that_never_pauses_can_be_stopped_and_is_cut_off() {
    struct Endless;
    #[async_trait]
    impl Assistant for Endless {
        async fn status(&self) -> Result<Ready, AssistantError> {
            Scripted.status().await
        }
        async fn reply(&self, _: Request) -> Result<BoxStream<'static, Result<Event, AssistantError>>, AssistantError> {
            Ok(stream::repeat(text("more ")).boxed())
        }
    }
    let fixture = Fixture::with(Arc::new(Endless), |options| options.max_reply_bytes = usize::MAX).await;
    let stream = fixture.say("u1", "hello").await;
    fixture.replies.stop_session(&fixture.id).await;
    assert_eq!(done(&all(stream).await).metadata["stopped"], json!(true));

    let fixture = Fixture::with(Arc::new(Endless), |options| options.max_reply_bytes = 10_000).await;
    let message = fixture.answer("u1", "hello").await;
    assert_eq!(message.metadata["cut_off"], json!("length"));
    assert!((10_000..20_000).contains(&message.content.len()));
}

#[tokio::test]
async fn a_failure_keeps_what_there_was() {
    let fixture = Fixture::scripted().await;
    let events = all(fixture.say("u1", "fail").await).await;
    assert_eq!(failed(&events), "assistant_failed");
    let session = fixture.session().await;
    let kept = &session.messages[1];
    assert!(kept.content.starts_with("This reply fails"));
    assert_eq!(kept.metadata["error"], json!("assistant_failed"));
    assert!(kept.metadata["error_message"].as_str().unwrap().contains("as it was told to"));
    assert!(fixture.store.journals.lock().unwrap().is_empty());
    // The conversation goes on after it.
    assert_eq!(fixture.answer("u2", "echo on").await.content, "on");
}

#[tokio::test]
async fn answering_once_more_makes_a_sibling() {
    let fixture = Fixture::scripted().await;
    let first = fixture.answer("u1", "echo one").await;
    fixture.answer("u2", "echo two").await;
    let again = all(fixture.try_start(json!({"parent_id": "u1", "id": "again"})).await.unwrap()).await;
    let second = done(&again);
    assert_eq!((second.id.as_str(), second.content.as_str()), ("again", "one"));
    assert_eq!((&second.parent_id, first.id != second.id), (&first.parent_id, true));
    let session = fixture.session().await;
    assert_eq!(session.shown().iter().map(|message| message.id.as_str()).collect::<Vec<_>>(), ["u1", "again"]);

    assert_eq!(all(fixture.try_start(json!({"parent_id": "u1", "id": "again"})).await.unwrap()).await, again);
    for (message, code) in [
        (json!({"parent_id": "u2", "id": "again"}), ErrorCode::Conflict),
        (json!({"parent_id": "u1", "id": "u2"}), ErrorCode::Conflict),
        (json!({"parent_id": "again"}), ErrorCode::InvalidRequest),
        (json!({"parent_id": "nowhere"}), ErrorCode::InvalidRequest),
        (json!({"parent_id": null}), ErrorCode::InvalidRequest),
        (json!({}), ErrorCode::InvalidRequest),
        (json!({"content": "x"}), ErrorCode::InvalidRequest),
        (json!({"id": "x", "content": " \n"}), ErrorCode::InvalidRequest),
        (json!({"id": "../x", "content": "x"}), ErrorCode::InvalidRequest),
        (json!({"id": "x", "content": "x", "parent_id": "nowhere"}), ErrorCode::InvalidRequest),
    ] {
        assert_eq!(error_of(fixture.try_start(message.clone()).await).await.code, code, "{message}");
    }
}

#[tokio::test]
async fn an_edited_message_begins_another_branch_and_the_leaf_follows() {
    let fixture = Fixture::scripted().await;
    let first = fixture.answer("u1", "echo one").await;
    fixture.answer("u2", "echo two").await;
    // Somebody looks at an older branch.
    fixture.store.with(&fixture.id, |session| session.metadata.extend(active_leaf(&first.id))).unwrap();
    let third = fixture.answer("u3", "echo three").await;
    let session = fixture.session().await;
    assert_eq!(find(&session, "u3").unwrap().parent_id, Some(first.id));
    assert_eq!(session.active_leaf(), Some(third.id.as_str()));

    let root =
        done(&all(fixture.try_start(json!({"id": "r", "content": "echo x", "parent_id": null})).await.unwrap()).await);
    let session = fixture.session().await;
    assert_eq!((&find(&session, "r").unwrap().parent_id, session.active_leaf()), (&None, Some(root.id.as_str())));

    let again = done(&all(fixture.try_start(json!({"parent_id": "u2"})).await.unwrap()).await);
    assert_eq!(fixture.session().await.active_leaf(), Some(again.id.as_str()));
}

#[tokio::test]
async fn a_second_reply_in_the_same_place_is_refused() {
    let (fixture, _, mut leads) = Fixture::led(2).await;
    let mut stream = fixture.say("u1", "hello").await;
    let started = stream.next().await.unwrap();
    let ReplyEvent::Started { reply_id, message_id, .. } = &started else { panic!() };
    for message in [
        json!({"parent_id": "u1"}),
        json!({"id": "u2", "content": "and"}),
        json!({"id": "u2", "content": "and", "parent_id": "u1"}),
        json!({"id": "u2", "content": "and", "parent_id": message_id}),
    ] {
        let error = error_of(fixture.try_start(message.clone()).await).await;
        assert_eq!((error.code, error.reply_id.as_ref()), (ErrorCode::ReplyRunning, Some(reply_id)), "{message}");
    }
    assert_eq!(fixture.ids().await, ["u1"], "what is refused is not saved");
    // In another branch there is room.
    let other = fixture.try_start(json!({"id": "r", "content": "hello", "parent_id": null})).await.unwrap();
    leads.clear();
    all(stream.boxed()).await;
    all(other).await;
}

#[tokio::test]
async fn without_an_assistant_the_message_is_kept() {
    let (fixture, led, mut leads) = Fixture::led(1).await;
    let ready = std::mem::replace(&mut *led.status.lock().unwrap(), Err(failure(AssistantErrorCode::Unreachable)));
    let error = error_of(fixture.try_start(json!({"id": "u1", "content": "hello"})).await).await;
    assert_eq!((error.code, error.message.as_str()), (ErrorCode::AssistantUnreachable, "Do this."));
    assert_eq!(fixture.ids().await, ["u1"]);

    *led.status.lock().unwrap() = ready;
    leads.remove(0).send(text("there")).unwrap();
    assert_eq!(fixture.answer("u1", "hello").await.content, "there");
    assert_eq!(fixture.ids().await.len(), 2);
}

#[tokio::test]
async fn unknown_and_deleted_sessions_are_told_apart() {
    let fixture = Fixture::scripted().await;
    let mut request = fixture.request(json!({"id": "u", "content": "x"}));
    request.session_id = "unknown".parse().unwrap();
    assert_eq!(error_of(fixture.replies.start(request).await).await.code, ErrorCode::NotFound);
    fixture.store.delete(&fixture.id).await.unwrap();
    let error = error_of(fixture.try_start(json!({"id": "u", "content": "x"})).await).await;
    assert_eq!(error.code, ErrorCode::SessionDeleted);
}

#[tokio::test]
async fn a_server_that_died_finds_its_replies_again() {
    let (fixture, _, leads) = Fixture::led(1).await;
    let stream = fixture.say("u1", "hello").await;
    leads[0].send(text("as far as ")).unwrap();
    leads[0].send(text("this")).unwrap();
    let journaled = |store: &MemoryStore| {
        let journals = store.journals.lock().unwrap();
        journals
            .values()
            .any(|(head, events)| reply::with_events(head.message.clone(), events).content == "as far as this")
    };
    fixture.store.wait_for(journaled).await;
    let id = fixture.replies.running(&fixture.id).unwrap().reply_id;
    let mut orphan = fixture.store.journals.lock().unwrap()[&id].clone();
    orphan.0.session_id = "gone".parse().unwrap();
    orphan.0.reply_id = "orphan".into();
    fixture.store.journals.lock().unwrap().insert("orphan".into(), orphan);

    let (led, _) = Led::new(0);
    let later = Replies::new(fixture.store.clone(), led, RepliesOptions::default());
    assert_eq!(later.recover().await.unwrap(), 1);
    let session = fixture.session().await;
    let kept = &session.messages[1];
    assert_eq!((kept.content.as_str(), &kept.metadata["error"]), ("as far as this", &json!("interrupted")));
    assert_eq!(kept.parent_id.as_deref(), Some("u1"));
    assert_eq!(fixture.store.journals.lock().unwrap().keys().collect::<Vec<_>>(), ["orphan"]);
    drop(stream);

    // A journal whose reply is in its session already only goes away.
    let head = ReplyHead { reply_id: "r".into(), session_id: fixture.id.clone(), message: kept.clone() };
    fixture.store.begin_reply(&head).await.unwrap();
    assert_eq!(later.recover().await.unwrap(), 1);
    assert_eq!(fixture.ids().await.len(), 2);
}

#[tokio::test]
async fn a_shutdown_keeps_what_runs() {
    let (fixture, _, leads) = Fixture::led(1).await;
    let mut stream = fixture.say("u1", "hello").await;
    leads[0].send(text("half")).unwrap();
    stream.next().await;
    stream.next().await;
    fixture.replies.shutdown().await;
    assert_eq!(failed(&stream.collect::<Vec<_>>().await), "interrupted");
    let session = fixture.session().await;
    assert_eq!(
        (session.messages[1].content.as_str(), &session.messages[1].metadata["error"]),
        ("half", &json!("interrupted"))
    );
    assert!(fixture.store.journals.lock().unwrap().is_empty());
    let error = error_of(fixture.try_start(json!({"id": "u2", "content": "x"})).await).await;
    assert_eq!(error.code, ErrorCode::AssistantUnreachable);
}

#[tokio::test]
async fn a_full_disk_is_waited_for() {
    let (led, mut leads) = Led::new(1);
    let fixture = Fixture::with(led, |_| {}).await;
    let stream = fixture.say("u1", "hello").await;
    fixture.store.unwritable.store(true, Ordering::SeqCst);
    let lead = leads.remove(0);
    lead.send(text("kept")).unwrap();
    drop(lead);
    let mut refused = fixture.store.refused.subscribe();
    refused.wait_for(|&refused| refused >= 3).await.unwrap();
    assert!(fixture.replies.running(&fixture.id).is_some(), "not yet saved, so not yet over");
    fixture.store.unwritable.store(false, Ordering::SeqCst);
    assert_eq!(done(&all(stream).await).content, "kept");
    assert!(fixture.store.journals.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_disk_that_stays_full_is_told_and_tried_further() {
    let (led, mut leads) = Led::new(1);
    let fixture = Fixture::with(led, |options| {
        options.persist_patience = Duration::ZERO;
        options.persist_retry = Duration::from_millis(1);
    })
    .await;
    let stream = fixture.say("u1", "hello").await;
    fixture.store.unwritable.store(true, Ordering::SeqCst);
    let lead = leads.remove(0);
    lead.send(text("kept")).unwrap();
    drop(lead);
    let events = all(stream).await;
    assert_eq!(failed(&events), "storage_unwritable");
    let resumed = all(fixture.replies.resume(&reply_id(&events[0]), 0).unwrap()).await;
    assert_eq!(resumed, events, "the text can still be read");
    fixture.store.unwritable.store(false, Ordering::SeqCst);
    let is_kept = |store: &MemoryStore| {
        store.sessions.lock().unwrap().values().any(|session| session.messages.iter().any(|m| m.content == "kept"))
            && store.journals.lock().unwrap().is_empty()
    };
    fixture.store.wait_for(is_kept).await;
}

#[tokio::test]
async fn a_tool_that_is_not_there_is_answered_so() {
    let fixture = Fixture::scripted().await;
    let events = all(fixture.say("u1", r#"tool datetime {"zone":"UTC"}"#).await).await;
    assert!(matches!(&events[1], ReplyEvent::ToolStarted { name, .. } if name == "datetime"), "{events:?}");
    assert!(matches!(&events[2], ReplyEvent::ToolFinished { status: crate::model::parts::ToolStatus::Error, .. }));
    assert_eq!(events[3], delta(3, "There is no tool named datetime."));
    let message = done(&events);
    assert_eq!(message.metadata["hasTools"], json!(true));
    let tools = message.tools_used();
    assert_eq!((tools.len(), tools[0].arguments.as_ref()), (1, Some(&json!({"zone": "UTC"}))));
}

#[tokio::test]
async fn an_assistant_that_only_calls_tools_comes_to_an_end() {
    let (fixture, led, leads) = Fixture::led(9).await;
    for lead in leads {
        let call = ToolCall { call_id: "c".into(), name: "loop".into(), arguments: json!({}) };
        lead.send(Ok(Event::ToolCall(call))).unwrap();
    }
    let message = fixture.answer("u1", "hello").await;
    assert_eq!(message.metadata["cut_off"], json!("tool_rounds"));
    // The ninth call is kept, too, though nobody answers it any more.
    let tools = message.tools_used();
    assert_eq!(tools.len(), 9);
    assert!(tools[8].result.as_ref().unwrap().as_str().unwrap().contains("not run"));
    let asked = led.asked.lock().unwrap();
    assert_eq!((asked.len(), asked[8].messages.len()), (9, 2 + 8 * 2));
}

#[tokio::test]
async fn a_conversation_that_is_too_long_is_cut_further() {
    let (fixture, led, mut leads) = Fixture::led(6).await;
    let long = "x".repeat(3000);
    for (n, lead) in leads.drain(..3).enumerate() {
        lead.send(text("ok")).unwrap();
        drop(lead);
        fixture.answer(&format!("u{n}"), &long).await;
    }
    // What is told of the waiting is no part of the answer.
    leads[0].send(Ok(Event::Progress(Phase::LoadingModel, Some(0.5)))).unwrap();
    leads[0].send(Err(failure(AssistantErrorCode::ContextTooLong))).unwrap();
    leads[1].send(Err(failure(AssistantErrorCode::ContextTooLong))).unwrap();
    leads[2].send(text("fits")).unwrap();
    leads.clear();
    let message = fixture.answer("last", "short").await;
    assert_eq!(message.content, "fits");
    let asked = led.asked.lock().unwrap();
    let lengths: Vec<usize> = asked[3..].iter().map(|request| request.messages.len()).collect();
    assert!(lengths[0] == 8 && lengths[1] < lengths[0] && lengths[2] < lengths[1], "{lengths:?}");
    assert_eq!(message.metadata["left_out"], json!(8 - lengths[2]));
    assert_eq!(asked[5].messages.last(), Some(&Turn::User("short".into())));
}

#[tokio::test]
async fn a_gone_listener_holds_up_nothing() {
    let fixture = Fixture::scripted().await;
    drop(fixture.say("u1", "echo heard by nobody").await);
    let is_kept =
        |store: &MemoryStore| store.sessions.lock().unwrap().values().any(|session| session.messages.len() == 2);
    fixture.store.wait_for(is_kept).await;
}

#[tokio::test]
async fn finished_replies_are_forgotten_when_they_are_too_many() {
    let fixture = Fixture::with(Arc::new(Scripted), |options| options.max_finished = 2).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(reply_id(&all(fixture.say(&format!("u{n}"), "echo x").await).await[0]));
    }
    let known: Vec<bool> = ids.iter().map(|id| fixture.replies.resume(id, 0).is_ok()).collect();
    assert_eq!(known, [false, false, true, true]);
}

#[tokio::test]
async fn the_routes_speak_lines() {
    use crate::server::routes::replies::{resume, start, stop};
    use axum::body::Body;
    use axum::routing::post;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    let fixture = Fixture::scripted().await;
    let router = axum::Router::new()
        .route("/start", post(start))
        .route("/resume", post(resume))
        .route("/stop", post(stop))
        .with_state(fixture.replies.clone());
    let call = async |path: &str, body: String| {
        let request = axum::http::Request::post(path).body(Body::from(body)).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        (head, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
    };
    let body = json!({"session_id": "session", "message": {"id": "u1", "content": "echo a"}}).to_string();
    let (head, lines) = call("/start", body).await;
    assert_eq!(head.headers["content-type"], "application/x-ndjson");
    assert_eq!(head.headers["cache-control"], "no-store");
    assert_eq!(head.headers["x-accel-buffering"], "no");
    let events: Vec<ReplyEvent> = lines.lines().map(|line| crate::model::reply::parse_line(line).unwrap()).collect();
    assert_eq!(events[1], delta(1, "a"));
    let id = reply_id(&events[0]);
    let (_, rest) = call("/resume", json!({"reply_id": id, "after_seq": 1}).to_string()).await;
    assert_eq!(rest, lines.lines().last().unwrap().to_owned() + "\n");
    assert_eq!(call("/resume", json!({"reply_id": id}).to_string()).await.1, lines);
    assert_eq!(call("/stop", json!({"reply_id": id}).to_string()).await.1, r#"{"success":true}"#);

    for (path, body, status, says) in [
        ("/start", r#"{"session_id":"../x","message":{}}"#, 400, "`session_id`"),
        ("/start", r#"{"session_id":"session","message":{"id":5}}"#, 400, "`message.id`"),
        ("/start", r#"{"session_id":"session","message":null}"#, 400, "message: give its content"),
        ("/start", r#"{"session_id":"other","message":{"id":"a","content":"x"}}"#, 404, "no session with this id"),
        ("/resume", r#"{"reply_id":"x"}"#, 404, "no such reply"),
        ("/resume", r#"{"reply_id":"../x"}"#, 400, "`reply_id`"),
        ("/stop", "{", 400, "not valid JSON"),
    ] {
        let (head, text) = call(path, body.to_owned()).await;
        let error: AppError = serde_json::from_str(&text).unwrap();
        assert_eq!(head.status.as_u16(), status, "{body}");
        assert!(error.message.contains(says), "{}", error.message);
    }
}
