//! The store in this process: saves and loads.

use crate::{Failure, Times, print};
use chrono::Utc;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Instant;
use verbatim::model::session::SessionId;
use verbatim::store::{FileStore, NewSession, Save, SessionStore};
use verbatim_corpus::Corpus;

const CORPUS: Corpus = Corpus { seed: 9 };

/// How many saves each figure is the median of.
const SAVES: usize = 300;

fn save(messages: Value) -> Result<Save, Failure> {
    Ok(Save {
        messages: serde_json::from_value(messages)?,
        user_name: None,
        metadata: serde_json::Map::new(),
        base_revision: None,
        running: HashSet::new(),
        now: Utc::now(),
    })
}

/// A turn: what a person says and what is answered.
fn turn(number: usize) -> Value {
    let number = number as u64 * 2;
    json!([{"id": format!("u{number}"), "role": "user", "content": CORPUS.message(number)},
           {"id": format!("a{number}"), "role": "assistant", "content": CORPUS.message(number + 1)}])
}

fn file_of(data: &Path, id: &SessionId) -> Result<PathBuf, Failure> {
    for day in std::fs::read_dir(data.join("sessions"))? {
        let path = day?.path().join(format!("{id}.json"));
        if path.is_file() {
            return Ok(path);
        }
    }
    Err("the session has no file".into())
}

async fn new_session(store: &FileStore, name: &str, messages: usize) -> Result<SessionId, Failure> {
    let id: SessionId = name.parse()?;
    let new = NewSession {
        session_id: id.clone(),
        user_name: "User".into(),
        started_at: Utc::now(),
        metadata: serde_json::Map::new(),
        messages: Vec::new(),
    };
    store.create(new).await?;
    let mut given = 0;
    while given < messages {
        let count = (messages - given).min(2_000);
        let turns: Vec<Value> = (0..count / 2)
            .flat_map(|n| turn(1_000_000 + given / 2 + n).as_array().cloned().unwrap_or_default())
            .collect();
        store.save(&id, save(Value::Array(turns))?).await?;
        given += count;
    }
    Ok(id)
}

/// Saves of two messages to sessions of different lengths, beside a write of as many bytes and a `fdatasync`.
pub fn saves() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        for messages in [10, 1_000, 100_000] {
            let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
            let store = FileStore::open(folder.path())?;
            let id = new_session(&store, "measured", messages).await?;
            let file = file_of(folder.path(), &id)?;
            let bare_path = folder.path().join("bare");
            let bare_file = OpenOptions::new().write(true).create_new(true).open(&bare_path)?;
            bare_file.write_all_at(&vec![b'x'; 4096], 0)?;
            let (mut ours, mut bare) = (Times::default(), Times::default());
            let mut bare_end = 4096;
            let mut excess = 0;
            for number in 0..SAVES {
                let turn = turn(number);
                let content: usize = turn.as_array().into_iter().flatten().map(|m| m.to_string().len()).sum();
                let request = save(turn)?;
                let before = std::fs::metadata(&file)?.len();
                let begin = Instant::now();
                store.save(&id, request).await?;
                ours.push(begin.elapsed());
                // The tail is overwritten: its bytes are written again.
                let written = (std::fs::metadata(&file)?.len() - before) as usize + 200;
                excess = excess.max(written.saturating_sub(content));
                // In turns, so that both see the same disk; through a thread as the store does it.
                let bytes = vec![b'y'; written];
                let handle = bare_file.try_clone()?;
                let begin = Instant::now();
                tokio::task::spawn_blocking(move || bare_write(&handle, &bytes, bare_end)).await??;
                bare.push(begin.elapsed());
                bare_end += written as u64;
            }
            let what = format!("save 2 messages, session of {messages}: median");
            print(&what, ours.median(), Some(bare.median()), "ms");
            print("   p95", ours.at(0.95), Some(bare.at(0.95)), "ms");
            print("   bytes beyond the messages, at most", excess as f64, None, "B");
        }
        Ok(())
    })
}

fn bare_write(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    file.write_all_at(bytes, offset)?;
    file.sync_data()
}

/// 64 sessions that save at once, beside 64 threads that write and sync.
pub fn concurrent_saves() -> Result<(), Failure> {
    const SESSIONS: usize = 64;
    const ROUNDS: usize = 40;
    let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let store = FileStore::open(folder.path())?;
    let ids = runtime.block_on(async {
        let mut ids = Vec::new();
        for number in 0..SESSIONS {
            ids.push(new_session(&store, &format!("s{number}"), 10).await?);
        }
        Ok::<_, Failure>(ids)
    })?;
    for round in 0..3 {
        let mut planned = Vec::new();
        for id in &ids {
            let saves: Result<Vec<Save>, Failure> = (0..ROUNDS)
                .map(|number| {
                    let turn = turn(number).to_string().replace("\"id\":\"", &format!("\"id\":\"{round}-"));
                    save(serde_json::from_str(&turn)?)
                })
                .collect();
            planned.push((store.clone(), id.clone(), saves?));
        }
        let begin = Instant::now();
        runtime.block_on(async {
            let tasks: Vec<_> = planned
                .into_iter()
                .map(|(store, id, saves)| {
                    tokio::spawn(async move {
                        for save in saves {
                            store.save(&id, save).await.map_err(|error| error.to_string())?;
                        }
                        Ok::<_, String>(())
                    })
                })
                .collect();
            for task in tasks {
                task.await??;
            }
            Ok::<_, Failure>(())
        })?;
        ours.push(begin.elapsed().as_secs_f64());
        let barrier = Barrier::new(SESSIONS);
        let sizes: Vec<usize> = (0..ROUNDS).map(|number| turn(number).to_string().len() + 300).collect();
        let begin = Instant::now();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..SESSIONS)
                .map(|number| {
                    let (barrier, sizes) = (&barrier, &sizes);
                    let path = folder.path().join(format!("bare{round}-{number}"));
                    scope.spawn(move || {
                        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
                        barrier.wait();
                        let mut end = 0;
                        for size in sizes {
                            bare_write(&file, &vec![b'y'; *size], end)?;
                            end += *size as u64;
                        }
                        Ok::<_, std::io::Error>(())
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
        })?;
        bare.push(begin.elapsed().as_secs_f64());
    }
    let rate = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        (SESSIONS * ROUNDS) as f64 / times[1]
    };
    print("64 sessions saving at once: saves a second", rate(&mut ours), Some(rate(&mut bare)), "/s");
    Ok(())
}

/// A whole load of a long session, beside reading and parsing its file.
pub fn loads() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        for messages in [100, 10_000] {
            let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
            let store = FileStore::open(folder.path())?;
            let id = new_session(&store, "measured", messages).await?;
            let file = file_of(folder.path(), &id)?;
            drop(store);
            let store = FileStore::open(folder.path())?;
            let (mut ours, mut bare) = (Times::default(), Times::default());
            for _ in 0..11 {
                let begin = Instant::now();
                let session = store.load(&id).await?;
                ours.push(begin.elapsed());
                drop(session);
                let begin = Instant::now();
                let parsed: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
                bare.push(begin.elapsed());
                drop(parsed);
            }
            print(&format!("load a session of {messages}, whole: median"), ours.median(), Some(bare.median()), "ms");
        }
        Ok(())
    })
}
