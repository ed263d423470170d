//! Realistic conversations for benchmarks and tests: seeded, several languages, code, tool calls, branches, long-tailed lengths.
//!
//! A session depends on the corpus's seed and its own number alone, so that any part can be made in any order, and none needs
//! another in memory. The files are exactly those that Verbatim writes itself (`src/store/document/format.rs`).

mod code;
mod language;
mod literal;
mod prose;
mod random;
mod session;
mod tools;

pub use random::Random;

use std::collections::HashSet;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// An endless collection of conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corpus {
    /// Another seed gives other conversations.
    pub seed: u64,
}

/// One conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedSession {
    /// Its id, 32 lower-case hex digits.
    pub id: String,
    /// The UTC day on which it began, `YYYY-MM-DD`: the folder of its file.
    pub day: String,
    /// Its whole file.
    pub text: String,
    /// What the file holds, in the file's order: all branches, hidden messages too.
    pub messages: Vec<GeneratedMessage>,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedMessage {
    /// Its id.
    pub id: String,
    /// Its content.
    pub text: String,
}

impl Corpus {
    /// The session with a number.
    pub fn session(&self, number: u64) -> GeneratedSession {
        session::session(self.seed, number)
    }

    /// The content of a message that is in no session: a person's for even numbers, a model's for odd ones.
    pub fn message(&self, number: u64) -> String {
        let random = Random::new(random::stream_seed(self.seed, 2, number));
        let mut prose = prose::Prose::new(random, false);
        if number.is_multiple_of(2) { prose.user_message() } else { prose.reply() }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Session files.
    pub sessions: u64,
    /// Messages in them.
    pub messages: u64,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// Bytes of the messages' content.
    pub content_bytes: u64,
}

/// Writes the first `sessions` sessions of a corpus to `{sessions_dir}/{day}/{id}.json`. A file that is there is written anew.
pub fn write(corpus: &Corpus, sessions: u64, sessions_dir: &Path) -> io::Result<Totals> {
    write_range(corpus, 0..sessions, sessions_dir, |_| ())
}

/// The same for any numbers; `progress` is told the totals after each session.
pub fn write_range(
    corpus: &Corpus,
    numbers: Range<u64>,
    sessions_dir: &Path,
    mut progress: impl FnMut(&Totals),
) -> io::Result<Totals> {
    let mut folders = DirBuilder::new();
    folders.recursive(true).mode(0o700);
    folders.create(sessions_dir)?;
    let mut days = HashSet::new();
    let mut totals = Totals::default();
    for number in numbers {
        let session = corpus.session(number);
        let folder = sessions_dir.join(&session.day);
        if days.insert(session.day) {
            folders.create(&folder)?;
        }
        let path = folder.join(format!("{}.json", session.id));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(session.text.as_bytes())?;
        totals.sessions += 1;
        totals.messages += session.messages.len() as u64;
        totals.file_bytes += session.text.len() as u64;
        totals.content_bytes += session.messages.iter().map(|message| message.text.len() as u64).sum::<u64>();
        progress(&totals);
    }
    Ok(totals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::HashMap;
    use std::os::unix::fs::PermissionsExt;

    const CORPUS: Corpus = Corpus { seed: 1 };

    fn flag(message: &Value, key: &str) -> bool {
        message["metadata"].get(key).is_some()
    }

    #[test]
    fn the_same_seed_and_number_give_the_same_bytes() {
        for number in [0, 7, 5_000_000_000] {
            assert_eq!(CORPUS.session(number), CORPUS.session(number));
            assert_eq!(CORPUS.message(number), CORPUS.message(number));
            assert_ne!(CORPUS.session(number).text, Corpus { seed: 2 }.session(number).text);
            assert_ne!(CORPUS.session(number).id, CORPUS.session(number + 1).id);
            assert_ne!(CORPUS.message(number), CORPUS.message(number + 2));
        }
    }

    /// What this version makes is what every machine and every later version must make, or figures cannot be compared. Who changes
    /// the corpus on purpose changes this number.
    #[test]
    fn bytes_do_not_depend_on_the_machine() {
        let sum = (0..50)
            .flat_map(|number| CORPUS.session(number).text.into_bytes())
            .fold(0, |sum, byte| random::mix(sum ^ u64::from(byte)));
        assert_eq!(sum, 7_848_360_969_117_584_361);
    }

    #[test]
    fn means_are_those_of_the_purpose() {
        let (mut messages, mut bytes, mut small) = (0, 0, 0);
        for number in 0..2000 {
            let session = CORPUS.session(number);
            messages += session.messages.len();
            bytes += session.messages.iter().map(|message| message.text.len()).sum::<usize>();
            small += usize::from(session.messages.len() <= 8);
        }
        let (per_session, per_message) = (messages as f64 / 2000.0, bytes as f64 / messages as f64);
        assert!((9.0..=11.0).contains(&per_session), "{per_session} messages a session");
        assert!((540.0..=660.0).contains(&per_message), "{per_message} bytes a message");
        assert!(small > 1200, "{small} of 2000 have up to 8 messages");
    }

    #[test]
    fn files_are_whole() {
        for number in 0..500 {
            let session = CORPUS.session(number);
            let lines: Vec<&str> = session.text.split('\n').collect();
            assert_eq!(lines.len(), session.messages.len() + 2, "a line for each message");
            let file: Value = serde_json::from_str(&session.text).unwrap();
            assert_eq!(file["session_id"], session.id);
            assert!(file["started_at"].as_str().unwrap().starts_with(&session.day));
            let messages = file["messages"].as_array().unwrap();
            let mut known: HashMap<&str, &Value> = HashMap::new();
            let (mut rev, mut time) = (0, file["started_at"].as_str().unwrap());
            for (message, (generated, line)) in messages.iter().zip(session.messages.iter().zip(&lines[1..])) {
                assert_eq!(serde_json::to_string(message).unwrap(), line.trim_end_matches(','));
                assert_eq!(
                    (&message["id"], &message["content"]),
                    (&generated.id.clone().into(), &generated.text.clone().into())
                );
                assert!(!generated.text.is_empty());
                match message["parent_id"].as_str() {
                    Some(parent) => assert_ne!(known[parent]["role"], message["role"], "roles alternate"),
                    None => assert_eq!(message["role"], "user"),
                }
                assert!(known.insert(message["id"].as_str().unwrap(), message).is_none(), "an id is there twice");
                assert!(message["rev"].as_u64().unwrap() > rev && message["timestamp"].as_str().unwrap() >= time);
                (rev, time) = (message["rev"].as_u64().unwrap(), message["timestamp"].as_str().unwrap());
                if let Some(parts) = message["parts"].as_array() {
                    let texts =
                        parts.iter().filter(|part| part["type"] == "text").filter_map(|part| part["text"].as_str());
                    assert_eq!(texts.collect::<String>(), generated.text);
                    let calls: Vec<&Value> = parts.iter().filter(|part| part["type"] == "tool").collect();
                    assert!(!calls.is_empty());
                    for call in calls {
                        assert_eq!(
                            serde_json::to_string(&call["arguments"]).unwrap(),
                            call["params"].as_str().unwrap()
                        );
                    }
                }
            }
            assert!(file["revision"].as_u64().unwrap() >= rev && file["last_updated"].as_str().unwrap() >= time);

            let last = messages.last().and_then(|message| message["id"].as_str());
            let mut next = file["metadata"]["active_leaf"].as_str().or(last);
            let (mut total, mut user, mut assistant, mut errors) = (0, 0, 0, 0);
            while let Some(message) = next.map(|id| known[id]) {
                if message["metadata"].get("hidden") != Some(&Value::Bool(true)) {
                    total += 1;
                    user += u64::from(message["role"] == "user");
                    assistant += u64::from(message["role"] == "assistant");
                    errors += u64::from(flag(message, "error"));
                }
                next = message["parent_id"].as_str();
            }
            let stats = serde_json::json!({"total_messages": total, "user_messages": user, "assistant_messages": assistant,
                "errors": errors});
            assert_eq!(file["stats"], stats);
        }
    }

    #[test]
    fn everything_is_there_as_often_as_it_should_be() {
        let mut found: HashMap<&str, f64> = HashMap::new();
        let mut count = |what, is_so: bool| *found.entry(what).or_default() += f64::from(u8::from(is_so));
        for number in 0..2000 {
            let session = CORPUS.session(number);
            let file: Value = serde_json::from_str(&session.text).unwrap();
            let metadata = &file["metadata"];
            let messages = file["messages"].as_array().unwrap();
            count("sessions", true);
            count("voice", metadata["type"] == "voice");
            for key in ["title", "tags", "pinned", "archived"] {
                count(key, metadata.get(key).is_some());
            }
            let parents: HashSet<&str> = messages.iter().filter_map(|message| message["parent_id"].as_str()).collect();
            let leaves = messages.iter().filter(|message| !parents.contains(message["id"].as_str().unwrap())).count();
            count("branches", leaves > 1);
            for message in messages {
                count("messages", true);
                count("hidden", flag(message, "hidden"));
                if message["role"] == "assistant" {
                    let content = message["content"].as_str().unwrap();
                    count("replies", true);
                    count("errors", flag(message, "error"));
                    count("parts", message.get("parts").is_some());
                    count("markers", content.contains("\u{1F6E0}\u{FE0F} "));
                    count("code", content.contains("```"));
                }
            }
        }
        for (what, whole, least, most) in [
            ("voice", "sessions", 0.06, 0.10),
            ("title", "sessions", 0.27, 0.33),
            ("tags", "sessions", 0.12, 0.18),
            ("pinned", "sessions", 0.01, 0.03),
            ("archived", "sessions", 0.035, 0.065),
            ("branches", "sessions", 0.045, 0.075),
            ("hidden", "messages", 0.008, 0.012),
            ("errors", "replies", 0.003, 0.007),
            ("parts", "replies", 0.10, 0.14),
            ("markers", "replies", 0.03, 0.05),
            ("code", "replies", 0.12, 0.18),
        ] {
            let share = found[what] / found[whole];
            assert!((least..=most).contains(&share), "{what}: {share}");
        }
    }

    #[test]
    fn files_lie_where_the_store_looks_for_them_and_are_nobody_elses() {
        let root = std::env::temp_dir().join(format!("verbatim-corpus-{}", std::process::id()));
        let sessions = root.join("sessions");
        let totals = write(&CORPUS, 20, &sessions).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let mut bytes = 0;
        for number in 0..20 {
            let session = CORPUS.session(number);
            let folder = sessions.join(&session.day);
            let path = folder.join(format!("{}.json", session.id));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), session.text);
            assert_eq!((mode(&path), mode(&folder), mode(&sessions)), (0o600, 0o700, 0o700));
            bytes += session.text.len() as u64;
        }
        assert_eq!((totals.sessions, totals.file_bytes), (20, bytes));
        std::fs::remove_dir_all(root).unwrap();
    }
}
