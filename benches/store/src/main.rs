//! Measures what README's table says of the store and the server, each figure beside a bare baseline in the same run.
//!
//! `verbatim-bench SERVER [CORPUS…]`: the server's program, and data directories that `make corpus` made, smallest first. The corpora
//! are left as they are: each is measured through a copy of its folders in which the files are hard links.

mod long;
mod process;
mod replies;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (server, corpora) = (arguments.next(), arguments.collect::<Vec<_>>());
    let Some(server) = server else {
        eprintln!("usage: verbatim-bench SERVER [CORPUS…]");
        return ExitCode::FAILURE;
    };
    match run(&server, &corpora) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("verbatim-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Anything that ends the run.
type Failure = Box<dyn std::error::Error>;

fn run(server: &std::path::Path, corpora: &[PathBuf]) -> Result<(), Failure> {
    println!("{:<58} {:>12} {:>12} {:>8}", "what", "figure", "bare", "ratio");
    store::saves()?;
    store::concurrent_saves()?;
    store::loads()?;
    long::measure(server)?;
    replies::measure(server)?;
    for corpus in corpora {
        let name = corpus.file_name().unwrap_or_default().to_string_lossy().into_owned();
        println!("── {name}");
        process::measure(server, corpus)?;
    }
    Ok(())
}

/// Prints a figure beside its baseline.
fn print(what: &str, figure: f64, bare: Option<f64>, unit: &str) {
    let value = |value: f64| match unit {
        "" => format!("{value:.2}"),
        _ => format!("{value:.2} {unit}"),
    };
    let (bare, ratio) = match bare {
        Some(bare) => (value(bare), format!("{:.2}", figure / bare)),
        None => (String::new(), String::new()),
    };
    println!("{what:<58} {:>12} {bare:>12} {ratio:>8}", value(figure));
}

/// Times, of which percentiles are asked.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time below which this share of all lies, in milliseconds.
    fn at(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let place = (self.0.len().saturating_sub(1)) as f64 * share;
        self.0.get(place.round() as usize).copied().unwrap_or_default().as_secs_f64() * 1e3
    }

    fn median(&mut self) -> f64 {
        self.at(0.5)
    }
}
