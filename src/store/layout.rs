//! Where everything lies below the data directory. Paths are made here, from parsed ids and days, and nowhere else.

use super::StoreError;
use crate::model::session::{SessionId, is_id};
use chrono::{DateTime, NaiveDate, Utc};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A folder's name below `sessions` and `trash`: the UTC day on which a session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(NaiveDate);

impl Day {
    /// The UTC day of a time.
    pub fn of(time: DateTime<Utc>) -> Self {
        Self(time.date_naive())
    }

    /// Reads a folder's name; `None` if it is not exactly `YYYY-MM-DD`.
    pub fn parse(name: &str) -> Option<Self> {
        let day = Self(NaiveDate::parse_from_str(name, "%Y-%m-%d").ok()?);
        (day.to_string() == name).then_some(day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%d"))
    }
}

/// One of the two places where session files lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    /// Sessions that are kept.
    Sessions,
    /// Deleted sessions.
    Trash,
}

/// The paths below one data directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The data directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the day folders of an area.
    pub fn area(&self, area: Area) -> PathBuf {
        self.root.join(match area {
            Area::Sessions => "sessions",
            Area::Trash => "trash",
        })
    }

    /// The folder of one day.
    pub fn day(&self, area: Area, day: Day) -> PathBuf {
        self.area(area).join(day.to_string())
    }

    /// A session's file.
    pub fn session(&self, area: Area, day: Day, id: &SessionId) -> PathBuf {
        self.day(area, day).join(format!("{id}.json"))
    }

    /// The folder of the journals of running replies.
    pub fn replies(&self) -> PathBuf {
        self.root.join("replies")
    }

    /// A reply's journal. An id that is none is [`StoreError::Invalid`].
    pub fn reply(&self, reply_id: &str) -> Result<PathBuf, StoreError> {
        if is_id(reply_id) {
            Ok(self.replies().join(format!("{reply_id}.ndjson")))
        } else {
            Err(StoreError::Invalid("reply_id is no id".to_owned()))
        }
    }

    /// The index, a cache.
    pub fn index(&self) -> PathBuf {
        self.root.join("index.sqlite")
    }

    /// What is to be said if other users of the machine can get into the data directory; `None` if they cannot.
    pub fn complaint_of_permissions(&self) -> Option<String> {
        let mode = std::fs::metadata(&self.root).ok()?.permissions().mode() & 0o777;
        (mode & 0o077 != 0).then(|| {
            let root = self.root.display();
            format!(
                "other users of this machine can look into the data directory (its permissions are {mode:o}); to keep them out, type: \
                 chmod -R go-rwx '{root}'"
            )
        })
    }

    /// The file that a server process holds locked.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
}

/// The id that a session file's name stands for; `None` for temporary files, copies and whatever else lies there.
pub fn session_of_file(name: &str) -> Option<SessionId> {
    name.strip_suffix(".json")?.parse().ok()
}

/// The id of the session that a file belongs to, also a temporary one or a copy.
pub fn session_of_any_file(name: &str) -> Option<SessionId> {
    let (id, rest) = name.split_once(".json")?;
    let is_ours = rest.is_empty() || rest == ".new" || rest.starts_with(".corrupt-") || rest.starts_with(".replaced-");
    id.parse().ok().filter(|_| is_ours)
}

/// The id that a journal's name stands for.
pub fn reply_of_file(name: &str) -> Option<&str> {
    name.strip_suffix(".ndjson").filter(|id| is_id(id))
}

/// The file that is written beside `document` and then renamed over it.
pub fn temporary(document: &Path) -> PathBuf {
    with_suffix(document, ".new")
}

/// The `n`th copy of a damaged `document`.
pub fn damaged_copy(document: &Path, n: u32) -> PathBuf {
    with_suffix(document, &format!(".corrupt-{n}"))
}

/// The `n`th name for a file in the trash that gives way to a newer one of the same name.
pub fn replaced(document: &Path, n: u32) -> PathBuf {
    with_suffix(document, &format!(".replaced-{n}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_exactly_dates() {
        assert_eq!(Day::parse("2026-02-09").map(|day| day.to_string()).as_deref(), Some("2026-02-09"));
        for bad in ["2026-2-9", "2026-02-30", "..", "", "2026-02-09 ", "+2026-02-09", "2026-02-09.bak"] {
            assert_eq!(Day::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn names_of_files_are_parsed_not_trusted() {
        assert_eq!(session_of_file("abc.json").map(|id| id.to_string()).as_deref(), Some("abc"));
        for bad in ["abc.json.new", "abc.json.corrupt-1", ".json", "a b.json", "abc", "..json"] {
            assert_eq!(session_of_file(bad), None, "{bad}");
        }
        let layout = Layout::new(Path::new("memory"));
        assert!(matches!(layout.reply("../lock"), Err(StoreError::Invalid(_))));
        let id = "abc".parse().unwrap();
        let path = layout.session(Area::Sessions, Day::parse("2026-02-09").unwrap(), &id);
        assert_eq!(path, Path::new("memory/sessions/2026-02-09/abc.json"));
        assert_eq!(damaged_copy(&path, 2), Path::new("memory/sessions/2026-02-09/abc.json.corrupt-2"));
    }
}
