//! The program: reads the command line, and serves or looks after a data directory.

mod maintenance;

use clap::Parser;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use verbatim::server;
use verbatim::server::config::{Command, CommandLine, ServeOptions};

/// How long work on files that nobody waits for any more may go on after the server has ended.
const LAST_WORK_TIME: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    start_log();
    match command_line.command {
        Some(Command::Serve(options)) => serve(options),
        Some(Command::Doctor(options)) => maintenance::doctor(&options.data, !options.dry_run),
        Some(Command::Reindex(options)) => maintenance::reindex(&options),
        None => serve(command_line.serve),
    }
}

fn start_log() {
    let filter = EnvFilter::try_from_env("VERBATIM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn serve(options: ServeOptions) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("verbatim: The server's threads cannot be started: {error}.");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(server::serve(options));
    // A search or an open connection does not hold up the end: what had to be kept is on the disk.
    runtime.shutdown_timeout(LAST_WORK_TIME);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("verbatim: {sentence}");
            ExitCode::FAILURE
        }
    }
}
