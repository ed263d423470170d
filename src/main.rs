//! The program: reads the command line, and serves or looks after a data directory.

mod maintenance;

use clap::Parser;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::process::{Command as Process, ExitCode};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use verbatim::server;
use verbatim::server::config::{Command, CommandLine, ServeOptions};

/// How long work on files that nobody waits for any more may go on after the server has ended.
const LAST_WORK_TIME: Duration = Duration::from_millis(300);

/// What the allocator of the C library is told, which reads it only when a program begins. Large pieces go back to the system as soon
/// as they are free: without a fixed size from which on a piece is large, it grows with the largest that was ever freed, and what
/// large requests took stays. Few arenas leave few gaps. Other C libraries ignore these.
const ALLOCATOR: [(&str, &str); 3] =
    [("MALLOC_MMAP_THRESHOLD_", "131072"), ("MALLOC_TRIM_THRESHOLD_", "131072"), ("MALLOC_ARENA_MAX", "4")];

/// Tells a process that it has begun itself anew: the number that it had.
const BEGUN: &str = "VERBATIM_BEGUN";

fn main() -> ExitCode {
    settle_allocator();
    let command_line = CommandLine::parse();
    start_log();
    match command_line.command {
        Some(Command::Serve(options)) => serve(options),
        Some(Command::Doctor(options)) => maintenance::doctor(&options.data, !options.dry_run),
        Some(Command::Reindex(options)) => maintenance::reindex(&options),
        None => serve(command_line.serve),
    }
}

/// Begins the program anew, in the same process, with the settings of the allocator. Settings that are there already stay.
fn settle_allocator() {
    // The number of the process stays the same; where the system takes the settings away, it is not begun for ever.
    let process = std::process::id().to_string();
    if std::env::var(BEGUN).is_ok_and(|begun| begun == process)
        || ALLOCATOR.iter().any(|(name, _)| std::env::var_os(name).is_some())
    {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    // It returns only when it fails. Then the program works all the same, with more memory.
    let _ = Process::new(program).arg0(name).args(arguments).envs(ALLOCATOR).env(BEGUN, process).exec();
}

fn start_log() {
    let filter = EnvFilter::try_from_env("VERBATIM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .fmt_fields(server::log::fields())
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
