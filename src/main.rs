//! The program: reads the command line and serves.

use clap::Parser;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;
use verbatim::server;
use verbatim::server::config::{Command, CommandLine};

#[tokio::main]
async fn main() -> ExitCode {
    let command_line = CommandLine::parse();
    let options = match command_line.command {
        Some(Command::Serve(options)) => options,
        None => command_line.serve,
    };
    let filter = EnvFilter::try_from_env("VERBATIM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    match server::serve(options).await {
        // The process ends here even if a connection is still open: what had to be kept is on the disk.
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("verbatim: {sentence}");
            ExitCode::FAILURE
        }
    }
}
