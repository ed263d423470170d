//! Journals of running replies: `replies/{reply_id}.ndjson`, a head line and then the events, only ever appended to.

use crate::model::reply::{ReplyEvent, parse_line};
use crate::store::disk::{Disk, RealDisk};
use crate::store::layout::{self, Layout};
use crate::store::{ReplyHead, StoreError};
use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The journals of one data directory.
#[derive(Debug)]
pub struct Replies {
    layout: Layout,
    disk: RealDisk,
    /// The journals that end in a torn line, because a failed write could not be undone.
    torn: Mutex<HashSet<String>>,
}

impl Replies {
    /// The journals below a data directory.
    pub fn new(layout: &Layout, disk: &RealDisk) -> Self {
        // A journal may be longer than the session may become: its words are not lost for that.
        Self { layout: layout.clone(), disk: disk.without_option(), torn: Mutex::default() }
    }

    /// Begins a journal. [`StoreError::Exists`] if there is one with this id.
    pub fn begin(&self, head: &ReplyHead) -> Result<(), StoreError> {
        let path = self.layout.reply(&head.reply_id)?;
        let mut line = serde_json::to_vec(head).map_err(|error| unwritable(&path, &error.into()))?;
        line.push(b'\n');
        let mut file = match self.disk.create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(StoreError::Exists),
            other => other.map_err(|error| unwritable(&path, &error))?,
        };
        let written = file
            .write_at(0, &line)
            .and_then(|()| file.sync())
            .and_then(|()| self.disk.sync_folder(&self.layout.replies()));
        if written.is_err() {
            // Not acknowledged; a second try must not find it.
            let _ = self.disk.remove(&path);
        }
        written.map_err(|error| unwritable(&path, &error))
    }

    /// Appends lines. After a failure the journal is as before, as far as the disk allows; a torn line is skipped by the reader.
    /// [`StoreError::NotFound`] if it was not begun.
    pub fn extend(&self, reply_id: &str, lines: &str) -> Result<(), StoreError> {
        let path = self.layout.reply(reply_id)?;
        if self.disk.links(&path).is_ok_and(|links| links > 1) {
            self.make_own(&path).map_err(|error| unwritable(&path, &error))?;
        }
        let mut file = self.disk.open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound,
            _ => unwritable(&path, &error),
        })?;
        let size = file.stamp().map_err(|error| unwritable(&path, &error))?.size;
        let mut torn = self.torn.lock().unwrap_or_else(PoisonError::into_inner).contains(reply_id);
        let bytes = if torn { format!("\n{lines}") } else { lines.to_owned() };
        let written = file.write_at(size, bytes.as_bytes()).and_then(|()| file.sync());
        torn = written.is_err() && file.set_len(size).and_then(|()| file.sync()).is_err();
        let mut all_torn = self.torn.lock().unwrap_or_else(PoisonError::into_inner);
        if torn {
            all_torn.insert(reply_id.to_owned());
        } else if written.is_ok() {
            all_torn.remove(reply_id);
        }
        written.map_err(|error| unwritable(&path, &error))
    }

    /// Puts a copy in the place of a journal that has another name, too, which must not change with it.
    fn make_own(&self, path: &Path) -> io::Result<()> {
        let (bytes, _) = self.disk.read(path)?;
        let temporary = layout::temporary(path);
        match self.disk.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = self.disk.create(&temporary)?;
        file.write_at(0, &bytes)?;
        file.sync()?;
        self.disk.rename(&temporary, path)
    }

    /// Removes a journal; it need not be there. The removal is not synced: a journal that a power loss brings back is folded in
    /// once more, which changes nothing.
    pub fn end(&self, reply_id: &str) -> Result<(), StoreError> {
        let path = self.layout.reply(reply_id)?;
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(&path, &error)),
            _ => Ok(()),
        }
    }

    /// All journals, oldest first. One without a readable head says nothing of where it belongs; it is left and logged.
    pub fn unfinished(&self) -> Result<Vec<(ReplyHead, Vec<ReplyEvent>)>, StoreError> {
        let folder = self.layout.replies();
        let unreadable = |error: io::Error| StoreError::Unreadable(format!("{}: {error}", folder.display()));
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(unreadable)?.flatten() {
            let name = entry.file_name();
            let Some(reply_id) = name.to_str().and_then(layout::reply_of_file) else { continue };
            let path = self.layout.reply(reply_id)?;
            let (bytes, stamp) = match self.disk.read(&path) {
                Ok(read) => read,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "the journal of a reply cannot be read");
                    continue;
                }
            };
            // A torn line may end in the middle of a character.
            let text = String::from_utf8_lossy(&bytes);
            let mut lines = text.split('\n');
            let head = lines.next().and_then(|line| serde_json::from_str::<ReplyHead>(line).ok());
            match head.filter(|head| head.reply_id == reply_id) {
                Some(head) => found.push((stamp.modified, head, lines.filter_map(parse_line).collect())),
                None => tracing::warn!(path = %path.display(), "the journal of a reply has no readable first line"),
            }
        }
        found.sort_by_key(|(modified, ..)| *modified);
        Ok(found.into_iter().map(|(_, head, events)| (head, events)).collect())
    }
}

fn unwritable(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unwritable(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::message::{Message, Role};
    use crate::store::disk::LARGEST_FILE;
    use serde_json::json;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_journal_is_read_back_whatever_the_limit_of_sessions_is() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        std::fs::create_dir(layout.replies()).unwrap();
        let message = json!({"id":"m","parent_id":null,"role":"assistant","content":"","timestamp":""});
        let message: Message = serde_json::from_value(message).unwrap();
        assert_eq!(message.role, Role::Assistant);
        let head = ReplyHead { reply_id: "r".to_owned(), session_id: "s".parse().unwrap(), message };
        let replies = Replies::new(&layout, &RealDisk::with_largest_file(folder.path(), MIB));
        replies.begin(&head).unwrap();
        let text = "x".repeat(2 * MIB as usize);
        let event = ReplyEvent::Delta { seq: 1, text };
        replies.extend("r", &format!("{}\n", serde_json::to_string(&event).unwrap())).unwrap();
        assert_eq!(replies.unfinished().unwrap(), [(head, vec![event])]);
        // Who lets sessions be larger than usual has longer journals, too.
        let replies = Replies::new(&layout, &RealDisk::with_largest_file(folder.path(), 2 * LARGEST_FILE));
        assert_eq!(replies.disk.largest_file(), 2 * LARGEST_FILE);
    }

    #[test]
    fn of_a_journal_that_is_too_large_no_option_is_named_which_does_not_limit_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        std::fs::create_dir(layout.replies()).unwrap();
        let disk = RealDisk::with_largest_file(folder.path(), MIB);
        let path = layout.reply("r").unwrap();
        std::fs::File::create(&path).unwrap().set_len(LARGEST_FILE + 1).unwrap();
        assert!(
            disk.read(&path).unwrap_err().to_string().contains("1 MiB, which is as much as is read (--max-session")
        );
        let error = Replies::new(&layout, &disk).disk.read(&path).unwrap_err().to_string();
        assert!(error.contains("4096 MiB") && !error.contains("--"), "{error}");
    }
}
