//! Writes a corpus into a data directory.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use verbatim_corpus::{Corpus, write_range};

const USAGE: &str = "\
Writes realistic sessions for benchmarks and tests into a data directory of Verbatim.

Usage: verbatim-corpus --sessions N --out DIR [--seed S] [--progress] [--add]

  --sessions N  how many sessions
  --out DIR     the data directory; the files are DIR/sessions/{day}/{id}.json
  --seed S      which sessions (default 1); the same seed and number give the same bytes
  --progress    tell on stderr how far it is
  --add         write also where sessions are already; what the same seed has made there before is written anew";

/// How many sessions are written between two reports.
const REPORT_EVERY: u64 = 5000;

struct Options {
    sessions: u64,
    seed: u64,
    out: PathBuf,
    progress: bool,
    add: bool,
}

/// Reads the arguments; `Ok(None)` if only the usage is asked for.
fn options(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Result<Option<Options>, String> {
    let (mut sessions, mut seed, mut out, mut progress, mut add) = (None, 1, None, false, false);
    while let Some(argument) = arguments.next() {
        let name = argument.to_string_lossy().into_owned();
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value."));
        match name.as_str() {
            "--sessions" => sessions = Some(number(&name, &value()?)?),
            "--seed" => seed = number(&name, &value()?)?,
            "--out" => out = Some(PathBuf::from(value()?)),
            "--progress" => progress = true,
            "--add" => add = true,
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("There is no option {name}.")),
        }
    }
    let sessions = sessions.ok_or("--sessions is missing.")?;
    let out = out.ok_or("--out is missing.")?;
    Ok(Some(Options { sessions, seed, out, progress, add }))
}

fn number(name: &str, value: &std::ffi::OsStr) -> Result<u64, String> {
    let text = value.to_string_lossy();
    text.parse().map_err(|_| format!("{name} wants a whole number, not {text}."))
}

/// Whether a folder is there and not empty.
fn holds_something(folder: &Path) -> std::io::Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn run(options: &Options) -> Result<(), String> {
    let sessions_dir = options.out.join("sessions");
    let failed = |error: std::io::Error| format!("{}: {error}", sessions_dir.display());
    if !options.add && holds_something(&sessions_dir).map_err(failed)? {
        return Err(format!(
            "{} holds sessions already. Name another folder, or say --add to write beside them.",
            sessions_dir.display()
        ));
    }
    let begin = Instant::now();
    let totals = write_range(&Corpus { seed: options.seed }, 0..options.sessions, &sessions_dir, |totals| {
        if options.progress && totals.sessions % REPORT_EVERY == 0 {
            eprintln!("{} of {} sessions, {} s", totals.sessions, options.sessions, begin.elapsed().as_secs());
        }
    })
    .map_err(failed)?;
    // Whoever closed the pipe does not want to know.
    let _ = writeln!(
        std::io::stdout(),
        "{} sessions, {} messages, {} bytes of content, {} bytes of files, seed {}",
        totals.sessions,
        totals.messages,
        totals.content_bytes,
        totals.file_bytes,
        options.seed
    );
    Ok(())
}

fn main() -> ExitCode {
    match options(std::env::args_os().skip(1)) {
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Ok(Some(options)) => match run(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}
