//! The command line: every option has an environment variable, and keys come only from the environment or a file.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Every conversation with an assistant, kept word for word.
#[derive(Debug, Parser)]
#[command(name = "verbatim", version, about, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub struct CommandLine {
    /// What to do; without it, `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of `serve`.
    #[command(flatten)]
    pub serve: ServeOptions,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of them in a process")]
pub enum Command {
    /// Serve the pages and the API (what happens without a command, too)
    Serve(ServeOptions),
    /// Check every session file and the index, and repair what can be repaired. Exit status: 0 all is well, 1 something was
    /// repaired, 2 something remains, 3 it could not be checked
    Doctor(DoctorOptions),
    /// Build the index anew from the session files
    Reindex(DataOptions),
}

/// The options of `doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorOptions {
    /// Which data directory.
    #[command(flatten)]
    pub data: DataOptions,

    /// Only look, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// The options of commands that work on a data directory which no server is using.
#[derive(Clone, Debug, Args)]
pub struct DataOptions {
    /// Where sessions are kept; no server may be using it
    #[arg(long, env = "VERBATIM_DATA_DIR", default_value = "memory", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// The largest session file that is read or written, in MiB
    #[arg(long, env = "VERBATIM_MAX_SESSION_FILE_MIB", default_value = "4096", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub max_session_file_mib: u32,
}

/// MiB in bytes.
pub fn bytes_of_mib(mib: u32) -> u64 {
    u64::from(mib) * 1024 * 1024
}

/// The options of the server.
#[derive(Clone, Debug, Args)]
pub struct ServeOptions {
    /// Where to listen. Loopback addresses only: there are no accounts yet. Port 0 takes a free one
    #[arg(long, env = "VERBATIM_ADDR", default_value = "127.0.0.1:3000", value_name = "IP:PORT", value_parser = parse_addr)]
    pub addr: SocketAddr,

    /// Where sessions are kept
    #[arg(long, env = "VERBATIM_DATA_DIR", default_value = "memory", value_name = "DIR")]
    pub data_dir: PathBuf,

    /// Who answers. `auto`: the configured endpoint, else a model server that answers on this machine's usual ports, else the
    /// model inside Verbatim; `embedded`: the model inside Verbatim; `openai`: the endpoint of --openai-url; `scripted`: exact
    /// answers, for tests
    #[arg(long, env = "VERBATIM_ASSISTANT", value_enum, default_value = "auto")]
    pub assistant: AssistantChoice,

    /// An OpenAI-compatible endpoint, for example http://127.0.0.1:11434/v1. Its key comes from VERBATIM_OPENAI_KEY or
    /// from the file that VERBATIM_OPENAI_KEY_FILE names
    #[arg(long, env = "VERBATIM_OPENAI_URL", value_name = "URL")]
    pub openai_url: Option<String>,

    /// Which model answers: one of the endpoint's [default: its first], or `default` or `small` for those inside Verbatim
    #[arg(long, env = "VERBATIM_MODEL", value_name = "NAME")]
    pub model: Option<String>,

    /// A GGUF file whose model answers inside Verbatim
    #[arg(long, env = "VERBATIM_MODEL_FILE", value_name = "F.gguf", conflicts_with = "model")]
    pub model_file: Option<PathBuf>,

    /// Where fetched models are kept [default: `verbatim/models` in your cache directory]
    #[arg(long, env = "VERBATIM_MODELS_DIR", value_name = "DIR")]
    pub models_dir: Option<PathBuf>,

    /// After how many minutes without use the model inside Verbatim gives its memory back; 0: never
    #[arg(long, env = "VERBATIM_ENGINE_IDLE_MINUTES", default_value = "15", value_name = "N", value_parser = clap::value_parser!(u32).range(..=525_600))]
    pub engine_idle_minutes: u32,

    /// The program that runs the model inside Verbatim [default: `verbatim-engine` beside this program]
    #[arg(long, env = "VERBATIM_ENGINE", value_name = "PROGRAM", hide = true)]
    pub engine: Option<PathBuf>,

    /// How many tokens the model reads at most [default: what the endpoint says, else 8192]
    #[arg(long, env = "VERBATIM_CONTEXT_TOKENS", value_name = "N", value_parser = clap::value_parser!(u32).range(512..))]
    pub context_tokens: Option<u32>,

    /// Ports of this machine on which `auto` looks for a model server, in this order
    #[arg(
        long,
        env = "VERBATIM_DISCOVER_PORTS",
        value_name = "PORT,…",
        value_delimiter = ',',
        default_value = "11434,1234,8080,8000"
    )]
    pub discover_ports: Vec<u16>,

    /// How often the page saves by itself, in seconds
    #[arg(long, env = "VERBATIM_AUTOSAVE_SECONDS", default_value = "5", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub autosave_seconds: u32,

    /// How many sessions an export of many holds when the request names no limit
    #[arg(long, env = "VERBATIM_EXPORT_LIMIT", default_value = "50", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub export_limit: u32,

    /// The largest request body, in MiB
    #[arg(long, env = "VERBATIM_MAX_BODY_MIB", default_value = "32", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub max_body_mib: u32,

    /// The largest session file that is read or written, in MiB
    #[arg(long, env = "VERBATIM_MAX_SESSION_FILE_MIB", default_value = "4096", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub max_session_file_mib: u32,

    /// The pages' files [default: `site` beside the program]
    #[arg(long, env = "VERBATIM_SITE_DIR", value_name = "DIR")]
    pub site_dir: Option<PathBuf>,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AssistantChoice {
    /// The configured endpoint, else what answers on the usual ports, else the model inside Verbatim.
    Auto,
    /// The model inside Verbatim.
    Embedded,
    /// The endpoint of `--openai-url`.
    Openai,
    /// Exact answers, for tests.
    Scripted,
}

fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    let addr = match text.strip_prefix("localhost:") {
        Some(port) => SocketAddr::new(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            port.parse().map_err(|_| format!("`{port}` is no port number"))?,
        ),
        None => text.parse().map_err(|_| "give it as IP:PORT, for example 127.0.0.1:3000".to_owned())?,
    };
    let loopback = match addr.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip == Ipv6Addr::LOCALHOST,
    };
    if loopback {
        Ok(addr)
    } else {
        Err("only loopback addresses (127.0.0.1, [::1]) are allowed until there are accounts; to reach it from elsewhere, \
             forward a port over SSH"
            .into())
    }
}

/// Reads the endpoint's key from `VERBATIM_OPENAI_KEY` or the file that `VERBATIM_OPENAI_KEY_FILE` names.
///
/// # Errors
/// A sentence for the person who starts the server, when the file cannot be read.
pub fn openai_key() -> Result<Option<String>, String> {
    let present = |key: String| Some(key.trim().to_owned()).filter(|key| !key.is_empty());
    if let Some(key) = std::env::var("VERBATIM_OPENAI_KEY").ok().and_then(present) {
        return Ok(Some(key));
    }
    match std::env::var_os("VERBATIM_OPENAI_KEY_FILE") {
        None => Ok(None),
        Some(path) => std::fs::read_to_string(&path)
            .map(present)
            .map_err(|error| format!("The key file {} cannot be read: {error}.", PathBuf::from(&path).display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_consistent() {
        use clap::CommandFactory;
        CommandLine::command().debug_assert();
    }

    #[test]
    fn listens_on_loopback_only() {
        for good in ["127.0.0.1:3000", "127.9.9.9:1", "[::1]:80", "localhost:0"] {
            assert!(parse_addr(good).is_ok(), "{good}");
        }
        for bad in [
            "0.0.0.0:3000",
            "192.168.1.1:80",
            "[::]:80",
            "example.org:80",
            "3000",
            "localhost:x",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(parse_addr(bad).is_err(), "{bad}");
        }
    }
}
