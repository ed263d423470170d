//! The commands that look after a data directory which no server is using.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use verbatim::model::foreign::one_line;
use verbatim::server::config::{DataOptions, bytes_of_mib};
use verbatim::store::doctor::{self, Doctor, FindingState};
use verbatim::store::{StoreError, StoreOptions};

/// The exit status of a check: everything is well, all that was found is repaired, something remains, nothing could be checked.
const WELL: u8 = 0;
const REPAIRED: u8 = 1;
const REMAINS: u8 = 2;
const FAILED: u8 = 3;

/// How many characters of a file's name, and of what is said of it, are written.
const LINE_CHARACTERS: usize = 4_000;

/// Checks a data directory, and repairs it unless it is only to be looked at.
pub fn doctor(options: &DataOptions, may_write: bool) -> ExitCode {
    let mut status = WELL;
    let mut report = |finding: doctor::Finding| {
        let (word, worse) = match (finding.state, may_write) {
            (FindingState::Noted, _) => ("note", WELL),
            (FindingState::Repaired, true) => ("repaired", REPAIRED),
            (FindingState::Repaired, false) => ("can be repaired", REMAINS),
            (FindingState::Remains, _) => ("remains", REMAINS),
        };
        status = status.max(worse);
        // A file's name may hold anything, also what acts on a terminal.
        let file = one_line(&finding.file.display().to_string(), LINE_CHARACTERS);
        println!("{word}: {file}: {}", one_line(&finding.what, LINE_CHARACTERS));
    };
    let checked = Doctor::new(&options.data_dir, store_options(options), may_write, &mut report).and_then(Doctor::run);
    match checked {
        Ok(checked) => {
            let verdict = match status {
                WELL => "all is well",
                REPAIRED => "all that was found is repaired",
                _ => "something remains to be seen to",
            };
            println!("{} sessions, {} messages: {verdict}", checked.sessions, checked.messages);
            ExitCode::from(status)
        }
        Err(error) => failed(&error),
    }
}

/// Builds the index of a data directory anew.
pub fn reindex(options: &DataOptions) -> ExitCode {
    let is_seen = std::io::stderr().is_terminal();
    let mut progress = |done: u64, total: u64| {
        if is_seen {
            eprint!("\r{done} of {total} files");
            // What cannot be shown is of no consequence.
            let _ = std::io::stderr().flush();
        }
    };
    let indexed = doctor::reindex(&options.data_dir, store_options(options), &mut progress);
    if is_seen {
        eprintln!();
    }
    match indexed {
        Ok(sessions) => {
            println!("{sessions} sessions are in the index.");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn store_options(options: &DataOptions) -> StoreOptions {
    StoreOptions { largest_file: bytes_of_mib(options.max_session_file_mib) }
}

fn failed(error: &StoreError) -> ExitCode {
    match error {
        StoreError::Unwritable(sentence) | StoreError::Unreadable(sentence) => eprintln!("verbatim: {sentence}"),
        other => eprintln!("verbatim: {other}"),
    }
    ExitCode::from(FAILED)
}
