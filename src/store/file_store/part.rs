//! A part of a session read from its file without the rest, where what the index knows of the file fits it.

use super::Inner;
use crate::export::document::{DocumentPart, ExportedMessage, SessionDocument};
use crate::model::message::Message;
use crate::model::session::{Session, SessionId, preview_of};
use crate::store::branches::{Branches, Choice};
use crate::store::disk::{Disk, Stamp};
use crate::store::document::{Line, message_of_line, session_of_head};
use crate::store::layout::Area;
use crate::store::{PartRequest, SessionPart, StoreError};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Lines that stand so near to each other are read with what is between them.
const READ_THROUGH_BYTES: u64 = 4 * 1024;

/// The most bytes between the first and the last of the lines that are read in one go.
const READ_AT_ONCE_BYTES: u64 = 8 * 1024 * 1024;

impl Inner {
    /// A part of the session as it is on the disk now. What is only read is not kept in memory.
    pub(super) fn load_part(&self, id: &SessionId, wanted: &PartRequest) -> Result<Option<SessionPart>, StoreError> {
        let slot = self.cache.slot(id);
        let mut opened = slot.lock();
        let was_open = opened.is_some();
        let read = if was_open { None } else { self.read_part(id, wanted) };
        let result = match read {
            Some(part) => Ok(part),
            None => self.open_into(id, &mut opened).map(|opened| {
                let written = opened.document.take_written();
                self.index.put(opened.day, &opened.document, written);
                opened.document.part(wanted)
            }),
        };
        if !was_open {
            *opened = None;
        }
        drop(opened);
        self.cache.release(id, slot);
        result
    }

    /// Reads a part from the file; the outer `None` says that the file has to be read whole.
    fn read_part(&self, id: &SessionId, wanted: &PartRequest) -> Option<Option<SessionPart>> {
        let known = self.index.known_file(id)?;
        if known.stamp.size > self.disk.largest_file() {
            return None;
        }
        let lines: Vec<Line> = known.lines().collect();
        let total = known.summary.stats.total_messages;
        if lines.is_empty() || lines.iter().any(|line| line.length == 0) {
            return None;
        }
        let branches = Branches::of_outlines(lines.iter().map(|line| line.outline))?;
        let file = self.disk.open_to_read(&self.layout.session(Area::Sessions, known.day, id)).ok()?;
        let is_as_known = || file.metadata().is_ok_and(|metadata| Stamp::of(&metadata) == known.stamp);
        if !is_as_known() {
            return None;
        }
        let mut reader = PartReader { file: &file, size: known.stamp.size, lines: &lines, read: BTreeMap::new() };
        let mut session = reader.head(id)?;
        session.last_updated.clone_from(&known.summary.last_updated);
        let part = (|| {
            let holds = match &wanted.holds {
                Some(id) => reader.find(id)?.is_some(),
                None => false,
            };
            let end = match &wanted.before {
                Some(id) => match reader.find(id)? {
                    Some(before) => branches.parent(before),
                    None => return Some(None),
                },
                None => match session.active_leaf() {
                    // Where it names no message, the last one counts.
                    Some(leaf) => reader.find(leaf)?.or(lines.len().checked_sub(1)),
                    None => lines.len().checked_sub(1),
                },
            };
            let (shown, first_said) = branches.shown_to(end);
            let Choice { messages, branches, earlier } =
                branches.part(end, shown, wanted.last, wanted.before.is_none());
            reader.read(messages.iter().chain(&branches).chain(&first_said).copied())?;
            let export = |positions: Vec<usize>| -> Option<Vec<ExportedMessage>> {
                positions.into_iter().map(|position| Some(ExportedMessage::new(reader.read.get(&position)?))).collect()
            };
            let (messages, branches) = (export(messages)?, export(branches)?);
            let first_said = match first_said {
                Some(position) => preview_of(&reader.read.get(&position)?.content).to_owned(),
                None => String::new(),
            };
            let document = SessionDocument::of_messages(&session, known.summary.stats, messages, branches);
            let total = usize::try_from(total).ok()?;
            let part = DocumentPart { document, total, earlier, preview: first_said };
            Some(Some(SessionPart { part, revision: known.revision, holds }))
        })()?;
        // What was read while somebody wrote may be half of the one and half of the other.
        is_as_known().then_some(part)
    }
}

/// Reads messages of a file of which it is known where their lines stand.
struct PartReader<'a> {
    file: &'a File,
    size: u64,
    lines: &'a [Line],
    /// What was read, by position.
    read: BTreeMap<usize, Message>,
}

impl PartReader<'_> {
    fn bytes(&self, offset: u64, length: u64) -> Option<Vec<u8>> {
        // No memory is taken for what an index that is damaged claims.
        if offset.checked_add(length)? > self.size {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    /// What the first line says.
    fn head(&self, id: &SessionId) -> Option<Session> {
        let length = self.lines.first()?.offset.checked_sub(1)?;
        let bytes = self.bytes(0, length)?;
        session_of_head(std::str::from_utf8(&bytes).ok()?, id)
    }

    /// The position of the message with this id; the outer `None` says that the file is not what it is taken for.
    fn find(&mut self, id: &str) -> Option<Option<usize>> {
        for (position, line) in self.lines.iter().enumerate().rev() {
            if line.outline.may_be(id) {
                self.read([position].into_iter())?;
                if self.read.get(&position)?.id == id {
                    return Some(Some(position));
                }
            }
        }
        Some(None)
    }

    /// Reads messages; `None` if one is not what it is known as.
    fn read(&mut self, positions: impl Iterator<Item = usize>) -> Option<()> {
        let mut positions: Vec<usize> = positions.filter(|position| !self.read.contains_key(position)).collect();
        positions.sort_unstable();
        positions.dedup();
        let end = |line: &Line| line.offset.saturating_add(u64::from(line.length));
        let mut rest = positions.as_slice();
        while let Some(&first) = rest.first() {
            let begin = self.lines.get(first)?.offset;
            let mut until = end(self.lines.get(first)?);
            let mut count = 1;
            while let Some(line) = rest.get(count).and_then(|next| self.lines.get(*next)) {
                let is_near = line.offset.checked_sub(until)? <= READ_THROUGH_BYTES;
                if !is_near || end(line).checked_sub(begin)? > READ_AT_ONCE_BYTES {
                    break;
                }
                until = end(line);
                count += 1;
            }
            let bytes = self.bytes(begin, until.checked_sub(begin)?)?;
            let (now, later) = rest.split_at_checked(count)?;
            for &position in now {
                let line = self.lines.get(position)?;
                let from = usize::try_from(line.offset.checked_sub(begin)?).ok()?;
                let text = bytes.get(from..from.checked_add(usize::try_from(line.length).ok()?)?)?;
                let message = message_of_line(std::str::from_utf8(text).ok()?)?;
                if !line.outline.fits(&message) {
                    return None;
                }
                self.read.insert(position, message);
            }
            rest = later;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::FileStore;
    use super::*;
    use crate::model::time;
    use crate::store::{NewSession, Save, SessionStore};
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::collections::HashSet;
    use std::io::Write;
    use std::path::Path;
    use std::time::Duration;

    const STARTED: &str = "2026-02-09T21:30:00Z";

    fn id(name: &str) -> SessionId {
        name.parse().unwrap()
    }

    fn new(name: &str, messages: Value, metadata: Value) -> NewSession {
        NewSession {
            session_id: id(name),
            user_name: "User".into(),
            started_at: time::parse(STARTED).unwrap(),
            metadata: serde_json::from_value(metadata).unwrap(),
            messages: serde_json::from_value(messages).unwrap(),
        }
    }

    fn save(messages: Value, metadata: Value) -> Save {
        Save {
            messages: serde_json::from_value(messages).unwrap(),
            user_name: None,
            metadata: serde_json::from_value(metadata).unwrap(),
            base_revision: None,
            running: HashSet::new(),
            now: time::parse("2026-02-10T00:00:00Z").unwrap(),
        }
    }

    fn path(data: &Path, name: &str) -> std::path::PathBuf {
        data.join("sessions/2026-02-09").join(format!("{name}.json"))
    }

    /// Opens a store whose index knows all files.
    fn open(data: &Path) -> FileStore {
        let store = FileStore::open(data).unwrap();
        assert!(store.agree(Duration::from_secs(60)), "the index was not built");
        store
    }

    /// All parts that may be asked of a session.
    fn requests(session: &Session) -> Vec<PartRequest> {
        let ids: Vec<String> = session.messages.iter().map(|message| message.id.clone()).collect();
        let before = std::iter::once(None).chain(ids.iter().cloned().chain(["gone".to_owned()]).map(Some));
        let mut requests = Vec::new();
        for (number, before) in before.enumerate() {
            for last in [0, 1, 2, 3, ids.len(), usize::MAX] {
                let holds = ids.get(number).cloned().or_else(|| (number % 2 == 0).then(|| "gone".to_owned()));
                requests.push(PartRequest { last, before: before.clone(), holds });
            }
        }
        requests
    }

    /// Whether each part is that of the whole session; `is_read` says whether the file is read from the end.
    async fn check(store: &FileStore, name: &str, is_read: bool) {
        let session = store.load(&id(name)).await.unwrap();
        for wanted in requests(&session) {
            let expected = SessionPart::of_whole(&session, &wanted);
            let read = store.inner.read_part(&id(name), &wanted);
            assert_eq!(read.is_some(), is_read, "{name} {wanted:?}");
            if let Some(read) = read {
                assert_eq!(read, expected, "{name} {wanted:?}");
            }
            assert_eq!(store.load_part(&id(name), &wanted).await.unwrap(), expected, "{name} {wanted:?}");
        }
    }

    /// The messages and the metadata of any session in which each message follows one before it.
    fn any_session() -> impl Strategy<Value = (Value, Value)> {
        let content = prop::sample::select(vec![
            "short".to_owned(),
            "  \n spaces around ".to_owned(),
            String::new(),
            "日本語 🛠️ datetime(\"now\") \u{2028}".to_owned(),
            "long ".repeat(2_000),
        ]);
        let metadata = prop::sample::select(vec![
            json!({}),
            json!({}),
            json!({"hidden":true}),
            json!({"error":"no"}),
            json!({"modes":{"commander":true},"rating":1}),
        ]);
        let is_linear = prop::bool::weighted(0.4);
        let message = (0..40_usize, prop::sample::select(vec!["user", "assistant", "system"]), content, metadata);
        let leaf = prop::option::weighted(0.5, 0..30_usize);
        (prop::collection::vec(message, 1..24), is_linear, leaf).prop_map(|(messages, is_linear, leaf)| {
            let messages = messages.into_iter().enumerate().map(|(position, (parent, role, content, metadata))| {
                let parent = if is_linear { position } else { parent.min(position) };
                let parent = parent.checked_sub(1).map(|parent| format!("m{parent}"));
                json!({"id":format!("m{position}"),"parent_id":parent,"role":role,"content":content,"metadata":metadata})
            });
            let messages: Vec<Value> = messages.collect();
            let leaf = leaf.map(|leaf| format!("m{leaf}"));
            (json!(messages), json!({"type":"chat","title":"T","active_leaf":leaf}))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

        #[test]
        fn a_part_is_read_as_it_is_in_the_whole(
            sessions in prop::collection::vec((any_session(), any::<prop::sample::Index>(), 0..4_u8), 1..8),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let store = open(folder.path());
                for (number, ((messages, metadata), at, later)) in sessions.iter().enumerate() {
                    let name = format!("s{number}");
                    let kept = messages.as_array().unwrap();
                    store.create(new(&name, messages.clone(), json!({}))).await.unwrap();
                    store.save(&id(&name), save(json!([]), metadata.clone())).await.unwrap();
                    let known = at.get(kept);
                    // What changes later, the whole file or only its end.
                    let message = match later {
                        0 => continue,
                        1 => json!({"id":"late","role":"user","content":"late"}),
                        2 => json!({"id":"late","parent_id":known["id"],"role":"assistant","content":"other"}),
                        _ => json!({"id":known["id"],"role":known["role"],"content":known["content"],"metadata":{"hidden":true}}),
                    };
                    store.save(&id(&name), save(json!([message]), json!({}))).await.unwrap();
                }
                // In memory.
                for number in 0..sessions.len() {
                    check(&store, &format!("s{number}"), store.agree(Duration::from_secs(60))).await;
                }
                // From the disk, after the documents were forgotten, and after a start.
                store.forget_idle(Duration::ZERO);
                for number in 0..sessions.len() {
                    check(&store, &format!("s{number}"), true).await;
                }
                store.close().await;
                drop(store);
                let store = FileStore::open(folder.path()).unwrap();
                for number in 0..sessions.len() {
                    check(&store, &format!("s{number}"), true).await;
                }
                // With an index that was built from the files.
                drop(store);
                std::fs::remove_file(folder.path().join("index.sqlite")).unwrap();
                let store = open(folder.path());
                for number in 0..sessions.len() {
                    check(&store, &format!("s{number}"), true).await;
                }
            });
        }
    }

    #[tokio::test]
    async fn in_doubt_the_whole_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        let turns: Vec<Value> =
            (0..20).map(|n| json!({"id":format!("m{n}"),"role":"user","content":format!("words {n}")})).collect();
        let store = open(data);
        for name in ["plain", "edited", "appended", "touched"] {
            store.create(new(name, json!(turns), json!({}))).await.unwrap();
        }
        // A message follows a reply that comes only after it.
        let mut early = save(json!([{"id":"early","parent_id":"reply","role":"user","content":"wait"}]), json!({}));
        early.running.insert("reply".into());
        store.create(new("waiting", json!(turns), json!({}))).await.unwrap();
        store.save(&id("waiting"), early).await.unwrap();
        let reply = json!({"id":"reply","parent_id":"m19","role":"assistant","content":"here","timestamp":STARTED});
        let reply = serde_json::from_value(reply).unwrap();
        store.append_reply(&id("waiting"), reply, time::parse(STARTED).unwrap()).await.unwrap();
        // A file of another program.
        let foreign =
            json!({"session_id":"foreign","messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]});
        std::fs::write(path(data, "foreign"), foreign.to_string()).unwrap();
        store.create(new("empty", json!([]), json!({}))).await.unwrap();
        store.close().await;
        drop(store);

        let store = open(data);
        check(&store, "plain", true).await;
        for name in ["waiting", "foreign", "empty"] {
            check(&store, name, false).await;
        }
        // What somebody changes is read whole until the index has met it.
        store.close().await;
        let edited = std::fs::read_to_string(path(data, "edited")).unwrap();
        std::fs::write(path(data, "edited"), edited.replace("words 7", "other words")).unwrap();
        let mut appended = std::fs::OpenOptions::new().append(true).open(path(data, "appended")).unwrap();
        appended.write_all(b"\n").unwrap();
        let touched = std::fs::File::options().write(true).open(path(data, "touched")).unwrap();
        touched.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        for name in ["edited", "appended", "touched"] {
            check(&store, name, false).await;
        }
        assert_eq!(store.load(&id("edited")).await.unwrap().messages[7].content, "other words");
        drop(store);
        let store = open(data);
        check(&store, "edited", true).await;
        // A session in the trash is none that can be read.
        store.delete(&id("plain")).await.unwrap();
        let wanted = PartRequest { last: 1, before: None, holds: None };
        assert!(matches!(store.load_part(&id("plain"), &wanted).await, Err(StoreError::Deleted)));
        assert!(matches!(store.load_part(&id("nobody"), &wanted).await, Err(StoreError::NotFound)));
        store.restore(&id("plain")).await.unwrap();
        assert!(store.agree(Duration::from_secs(60)));
        check(&store, "plain", true).await;
    }

    #[tokio::test]
    async fn a_part_of_a_long_session_reads_little_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let turns: Vec<Value> =
            (0..5_000).map(|n| json!({"id":format!("m{n}"),"role":"user","content":"words ".repeat(50)})).collect();
        let store = open(folder.path());
        store.create(new("long", json!(turns), json!({}))).await.unwrap();
        assert!(store.agree(Duration::from_secs(60)));
        let known = store.inner.index.known_file(&id("long")).unwrap();
        let lines: Vec<Line> = known.lines().collect();
        let file = store.inner.disk.open_to_read(&path(folder.path(), "long")).unwrap();
        let size = known.stamp.size;
        let mut reader = PartReader { file: &file, size, lines: &lines, read: BTreeMap::new() };
        assert_eq!(reader.find("m4000"), Some(Some(4_000)));
        assert_eq!(reader.find("gone"), Some(None));
        assert!(
            reader.read.len() < 10,
            "other messages are looked at only where a hash is the same: {}",
            reader.read.len()
        );
        reader.read(4_940..5_000).unwrap();
        assert!(reader.read.len() < 70);
    }
}
