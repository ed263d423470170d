//! Connections: how many there may be at once, which of them give way to others, and how they end.
//!
//! Who behaves is always let in: when all places are taken, a connection that keeps one without need gives way, one that is being
//! answered never does.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::service::Service as _;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// How long after the end of an answer the next request may begin.
const IDLE_TIME: Duration = Duration::from_secs(75);

/// How long the head of a request may take, from its first byte on.
const HEAD_TIME: Duration = Duration::from_secs(20);

/// How long a request may stand still before its connection gives way to others.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long nothing of an answer may be taken before its connection gives way to others.
const READER_PATIENCE: Duration = Duration::from_secs(10);

/// How long nothing of an answer may be taken at all.
const STUCK_TIME: Duration = Duration::from_secs(300);

/// How often it is looked for what takes too long, and for room while there is none.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// There are never more connections than this.
const MOST_CONNECTIONS: u64 = 4_096;

/// Raises the limit of open files as far as the system lets this process, and says how many connections fit in it. The rest is for
/// the files of sessions and of the index.
pub fn limit() -> usize {
    let files = rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "the limit of open files cannot be read");
        1_024
    });
    connections_of(files)
}

fn connections_of(files: u64) -> usize {
    let kept_free = (files / 2).clamp(32, 1_024);
    let fitting = files.saturating_sub(kept_free).clamp(8, MOST_CONNECTIONS);
    usize::try_from(fitting).unwrap_or(usize::MAX)
}

/// Answers connections until `stop` is true, then waits for the answers that have begun. Never more than `limit` at once.
pub async fn serve(listener: TcpListener, app: Router, limit: usize, mut stop: watch::Receiver<bool>) {
    let table = Table { limit, open: Mutex::default() };
    let mut tasks = JoinSet::new();
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let stopping = stop.clone();
    // An error means that nobody can stop it any more, which is a reason to stop.
    let mut stopped = pin!(async move {
        let _ = stop.wait_for(|stop| *stop).await;
    });
    loop {
        let has_room = table.has_room();
        tokio::select! {
            () = &mut stopped => break,
            accepted = listener.accept(), if has_room => match accepted {
                Ok((stream, _)) => {
                    // Small answers are not held back to be joined with later ones.
                    let _ = stream.set_nodelay(true);
                    let watched = table.add();
                    tasks.spawn(answer(stream, app.clone(), watched, stopping.clone()));
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    // No file is left, for one: whoever keeps a place without need gives it back.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    table.make_room();
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
            },
            Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            // Where nobody is, nothing wakes the machine.
            _ = look.tick(), if !tasks.is_empty() => table.close_overdue(),
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn answer(stream: TcpStream, app: Router, watched: Arc<Watched>, mut stop: watch::Receiver<bool>) {
    let _place = Place(watched.clone());
    let io = TokioIo::new(WatchedStream { stream, watched: watched.clone() });
    let service = hyper::service::service_fn({
        let watched = watched.clone();
        move |request: hyper::Request<Incoming>| {
            let (app, watched) = (app.clone(), watched.clone());
            async move { Ok::<_, Infallible>(answer_request(request, app, watched).await) }
        }
    });
    let mut connection = pin!(
        hyper::server::conn::http1::Builder::new()
            // Whoever has said all and closes one half still waits for the answer.
            .half_close(true)
            // Heads are timed here, by which those that wait for a next request are told from those that never end one.
            .header_read_timeout(None)
            .serve_connection(io, service)
    );
    let mut is_stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
                break;
            }
            () = watched.give_way.notified() => break,
            _ = stop.wait_for(|stop| *stop), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The place of a connection in the table, which is free when this is gone, however that came.
struct Place(Arc<Watched>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.state().phase = Phase::Closed;
    }
}

async fn answer_request(request: hyper::Request<Incoming>, app: Router, watched: Arc<Watched>) -> Response {
    let phase = if request.body().is_end_stream() { Phase::Answer } else { Phase::Body };
    watched.enter(phase);
    let request: Request =
        request.map(|inner| Body::new(WatchedBody { inner, watched: watched.clone(), after: Phase::Answer }));
    let Ok(response) = TowerToHyperService::new(app).call(request).await;
    watched.enter(Phase::Answer);
    response.map(|inner| Body::new(WatchedBody { inner, watched, after: Phase::Idle }))
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No request has begun.
    Idle,
    /// The head of a request comes.
    Head,
    /// The body of a request comes.
    Body,
    /// A request is being answered.
    Answer,
    /// It has ended or is about to.
    Closed,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Since when it does this; for a body, when something of it came last.
    since: Instant,
    /// Since when the other side takes nothing of what is written to it.
    stuck_since: Option<Instant>,
}

/// A connection, as others see it.
#[derive(Debug)]
struct Watched {
    state: Mutex<State>,
    give_way: Notify,
}

impl Watched {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.state();
        if state.phase != Phase::Closed {
            (state.phase, state.since) = (phase, Instant::now());
        }
    }

    fn has_read(&self) {
        let mut state = self.state();
        match state.phase {
            Phase::Idle => (state.phase, state.since) = (Phase::Head, Instant::now()),
            Phase::Body => state.since = Instant::now(),
            Phase::Head | Phase::Answer | Phase::Closed => {}
        }
    }

    fn has_written(&self, is_stuck: bool) {
        let mut state = self.state();
        match is_stuck {
            true => _ = state.stuck_since.get_or_insert_with(Instant::now),
            false => state.stuck_since = None,
        }
    }

    /// Closes it, unless it has begun meanwhile with what is not to be broken off; whether it did.
    fn close_if(&self, may_close: impl FnOnce(&State) -> bool) -> bool {
        let mut state = self.state();
        let closes = may_close(&state);
        if closes {
            state.phase = Phase::Closed;
            // Remembered where nobody listens yet.
            self.give_way.notify_one();
        }
        closes
    }
}

impl State {
    /// How readily it gives way to another, lowest first; `None`: not at all.
    fn rank(&self, now: Instant) -> Option<(u8, Instant)> {
        let since = self.stuck_since.unwrap_or(self.since);
        let stands_still = now.saturating_duration_since(since) >= PATIENCE;
        let rank = match (self.phase, self.stuck_since) {
            (Phase::Closed, _) => return None,
            (_, Some(stuck)) if now.saturating_duration_since(stuck) >= READER_PATIENCE => 3,
            (Phase::Answer, _) | (Phase::Idle, Some(_)) => return None,
            (Phase::Head, _) if stands_still => 0,
            (Phase::Idle, _) if stands_still => 1,
            (Phase::Body, _) if stands_still => 2,
            (Phase::Head | Phase::Idle, _) => 4,
            (Phase::Body, _) => 5,
        };
        Some((rank, since))
    }

    fn is_overdue(&self, now: Instant) -> bool {
        // What waits to be read takes memory. A reply can be rejoined, a file fetched again.
        let is_stuck = self.stuck_since.is_some_and(|since| now.saturating_duration_since(since) >= STUCK_TIME);
        if is_stuck && self.phase != Phase::Closed {
            return true;
        }
        let time = match self.phase {
            Phase::Idle if self.stuck_since.is_none() => IDLE_TIME,
            Phase::Head => HEAD_TIME,
            // Bodies are timed where they are read, and answers take as long as they take.
            Phase::Idle | Phase::Body | Phase::Answer | Phase::Closed => return false,
        };
        now.saturating_duration_since(self.since) >= time
    }
}

/// The open connections.
#[derive(Debug)]
struct Table {
    limit: usize,
    open: Mutex<Vec<Arc<Watched>>>,
}

impl Table {
    fn add(&self) -> Arc<Watched> {
        let state = State { phase: Phase::Idle, since: Instant::now(), stuck_since: None };
        let watched = Arc::new(Watched { state: Mutex::new(state), give_way: Notify::new() });
        self.open().push(watched.clone());
        watched
    }

    fn open(&self) -> MutexGuard<'_, Vec<Arc<Watched>>> {
        // Nothing panics while it is held.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another connection fits, after one gave way if need be.
    fn has_room(&self) -> bool {
        self.open().retain(|watched| watched.state().phase != Phase::Closed);
        // One more is let in, and only then another gives way to it: nobody who has just come goes for one who may never come.
        self.open().len() <= self.limit || self.make_room()
    }

    /// Lets the connection go that can be missed best, other than the newest; false if all are needed.
    fn make_room(&self) -> bool {
        let now = Instant::now();
        let open = self.open();
        let Some((_, older)) = open.split_last() else { return false };
        let ranked = older.iter().filter_map(|watched| Some((watched.state().rank(now)?, watched)));
        let Some((_, watched)) = ranked.min_by_key(|(rank, _)| *rank) else { return false };
        watched.close_if(|state| state.rank(now).is_some())
    }

    fn close_overdue(&self) {
        let now = Instant::now();
        for watched in self.open().iter() {
            watched.close_if(|state| state.is_overdue(now));
        }
    }
}

/// A connection's stream that takes note of what comes and goes.
struct WatchedStream {
    stream: TcpStream,
    watched: Arc<Watched>,
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.watched.has_read();
        }
        polled
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watched.has_written(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.watched.has_written(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A body after whose end the connection does something else.
struct WatchedBody<B> {
    inner: B,
    watched: Arc<Watched>,
    after: Phase,
}

impl<B> Drop for WatchedBody<B> {
    fn drop(&mut self) {
        let mut state = self.watched.state();
        let from = if self.after == Phase::Answer { Phase::Body } else { Phase::Answer };
        if state.phase == from {
            (state.phase, state.since) = (self.after, Instant::now());
        }
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for WatchedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_few_files_are_kept_for_other_uses() {
        for (files, connections) in [(0, 8), (64, 32), (256, 128), (1_024, 512), (4_096, 3_072), (1 << 20, 4_096)] {
            assert_eq!(connections_of(files), connections, "{files}");
        }
    }

    #[test]
    fn who_keeps_a_place_without_need_gives_way_first() {
        let now = Instant::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
        let state =
            |phase, seconds, stuck: Option<u64>| State { phase, since: ago(seconds), stuck_since: stuck.map(ago) };
        let order = [
            state(Phase::Head, 9, None),
            state(Phase::Head, 5, None),
            state(Phase::Idle, 30, None),
            state(Phase::Body, 3, None),
            state(Phase::Answer, 90, Some(20)),
            state(Phase::Idle, 0, None),
            state(Phase::Body, 0, None),
        ];
        let ranks: Vec<_> = order.iter().map(|state| state.rank(now).unwrap()).collect();
        assert!(ranks.is_sorted(), "{ranks:?}");
        for needed in
            [state(Phase::Answer, 900, None), state(Phase::Answer, 90, Some(2)), state(Phase::Closed, 9, None)]
        {
            assert_eq!(needed.rank(now), None, "{needed:?}");
        }
    }

    #[test]
    fn who_came_last_stays_when_all_others_are_needed() {
        let table = Table { limit: 2, open: Mutex::default() };
        for _ in 0..2 {
            assert!(table.has_room());
            table.add().enter(Phase::Answer);
        }
        assert!(table.has_room(), "one more is let in");
        let newest = table.add();
        assert!(!table.has_room());
        assert_eq!(newest.state().phase, Phase::Idle);
        let first = table.open()[0].clone();
        first.enter(Phase::Idle);
        assert!(table.has_room());
        assert_eq!((first.state().phase, newest.state().phase), (Phase::Closed, Phase::Idle));
    }

    #[test]
    fn only_what_waits_or_never_ends_its_head_is_overdue() {
        let now = Instant::now();
        let is_overdue = |phase, seconds| {
            let since = now.checked_sub(Duration::from_secs(seconds)).unwrap();
            State { phase, since, stuck_since: None }.is_overdue(now)
        };
        assert!(is_overdue(Phase::Head, 20) && !is_overdue(Phase::Head, 19));
        assert!(is_overdue(Phase::Idle, 75) && !is_overdue(Phase::Idle, 74));
        assert!(!is_overdue(Phase::Answer, 10_000) && !is_overdue(Phase::Body, 10_000));
    }
}
