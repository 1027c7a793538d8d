//! The commands. Exit codes: 0 success, 1 findings, 2 wrong usage, or something could not be read
//! or reached.

mod access;
mod attempts;
mod block;
mod check;
mod client;
mod demo;
mod doctor;
mod diff;
mod explain;
mod findings;
mod import;
mod init;
mod integrate;
mod key;
mod observed;
mod progress;
mod token_facts;
mod schema;
mod standard_input;
mod store_access;
mod store;
mod test;
mod token;
mod upgrade;
mod user;

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::server::Options as ServeOptions;
use crate::server::state::shadow::Candidate;
use crate::system::files::{self, LoadFault};
use crate::telemetry::lines::LineWriter;
use crate::telemetry::metrics::process::log_lines_dropped;
pub(crate) use observed::observed;

/// The variable that says where gateway.yaml is, where `--config` does not.
const CONFIG: &str = "SCOPEGATE_CONFIG";

/// The gateway that gives any REST API OAuth.
#[derive(Debug, Parser)]
#[command(name = "scopegate", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway
    Serve {
        /// gateway.yaml
        #[arg(long, env = CONFIG, default_value = "config/gateway.yaml")]
        config: PathBuf,
        /// Take over from the gateway that serves with this run folder: its sockets, without a lost
        /// connection. It ends once it is idle
        #[arg(long)]
        upgrade: bool,
        /// Judge this set of policies alongside the one in force: a gateway.yaml, or a folder that
        /// has one. What it would change is counted and logged, and never decides
        #[arg(long, value_name = "PATH")]
        shadow: Option<PathBuf>,
        /// Have every request read by the proxy library, those of HTTP/1 too: for the tests, which
        /// run over both loops
        #[arg(long, hide = true)]
        library_loop: bool,
    },
    /// Have the gateway that serves with this configuration start its successor, which takes over
    /// without a lost connection
    Upgrade {
        /// gateway.yaml
        #[arg(long, env = CONFIG, default_value = "config/gateway.yaml")]
        config: PathBuf,
    },
    /// Run the gateway with a built-in upstream, a client and policies, and print curl lines to
    /// paste
    Demo {
        /// Port to listen on; metrics are on the next one. A free one if this is taken
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Make a folder to begin with: a configuration that loads, passes its tests and serves, and a
    /// first client
    Init {
        #[command(flatten)]
        arguments: init::InitArguments,
    },
    /// Look at configuration, store, issuers, servers, clock, open files and certificates from this
    /// machine, and say what to do
    Doctor {
        /// gateway.yaml
        #[arg(long, env = CONFIG, default_value = "config/gateway.yaml")]
        config: PathBuf,
        /// Form of the output
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Load the configuration as `serve` would, without a network; print every fault, then what
    /// deserves a second look
    Check {
        /// gateway.yaml
        #[arg(long, env = CONFIG, default_value = "config/gateway.yaml")]
        config: PathBuf,
        /// Form of the output
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// End with 1 when there are findings of this level or above that no waiver covers
        #[arg(long, value_enum)]
        deny: Option<check::Deny>,
    },
    /// List findings about the configuration and its use, such as unused rights: each with its
    /// evidence, why it matters, and a patch with its effect where an edit is the remedy
    Findings {
        /// gateway.yaml
        #[arg(long, env = CONFIG, default_value = "config/gateway.yaml")]
        config: PathBuf,
        #[command(flatten)]
        arguments: findings::FindingsArguments,
    },
    /// Run the `tests:` of the policies by the decision that serves, and tell what they do not
    /// reach
    Test {
        /// gateway.yaml
        #[arg(long, env = CONFIG, default_value = "config/gateway.yaml")]
        config: PathBuf,
        #[command(flatten)]
        arguments: test::TestArguments,
    },
    /// Tell why a request is permitted or refused, step by step, and what would permit it
    Explain {
        /// gateway.yaml
        #[arg(long, env = CONFIG, default_value = "config/gateway.yaml")]
        config: PathBuf,
        #[command(flatten)]
        arguments: Box<explain::ExplainArguments>,
    },
    /// Tell whose calls a change of the policies newly permits or refuses, and what it would have
    /// done to recorded traffic
    Diff {
        #[command(flatten)]
        arguments: diff::DiffArguments,
    },
    /// Tell who can reach what, and what of it is not made use of
    Access {
        /// gateway.yaml
        #[arg(long, env = CONFIG, default_value = "config/gateway.yaml")]
        config: PathBuf,
        #[command(flatten)]
        arguments: access::AccessArguments,
    },
    /// Print the configuration of a host proxy that asks this gateway what it may forward
    Integrate {
        /// The host
        #[arg(value_enum)]
        host: integrate::HostArgument,
        /// gateway.yaml
        #[arg(long, env = CONFIG, default_value = "config/gateway.yaml")]
        config: PathBuf,
    },
    /// Make policies out of an OpenAPI document, or clients and policies out of records of
    /// ServiceNow
    Import {
        #[command(subcommand)]
        command: Box<import::ImportCommand>,
    },
    /// Add, list, rotate the secrets of and disable clients
    Client {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        command: client::ClientCommand,
    },
    /// Add, list and lock users of the login page
    User {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        command: user::UserCommand,
    },
    /// List, rotate and revoke our own signing keys
    Key {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        command: key::KeyCommand,
    },
    /// Inspect and revoke tokens
    Token {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        command: token::TokenCommand,
    },
    /// Keep a client, user, token or network out now, on every gateway of the store; or list who is
    Block {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        arguments: block::BlockArguments,
    },
    /// End a block that a command has set
    Unblock {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        whom: block::Whom,
    },
    /// Wrong attempts to authenticate, and an end to the limits they have reached
    Attempts {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        command: attempts::AttemptsCommand,
    },
    /// Copy the embedded store, and put a copy back
    Store {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        command: store::StoreCommand,
    },
    /// Print what completes these commands in a shell: put it where the shell looks for such files
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the JSON Schema of the YAML, or of decision records
    Schema {
        /// Kind of file; all those of YAML when left out
        kind: Option<schema::KindArgument>,
    },
}

/// What the commands over the registry and the state have in common.
#[derive(clap::Args, Debug)]
struct Options {
    /// gateway.yaml
    #[arg(long, global = true, env = CONFIG, default_value = "config/gateway.yaml")]
    config: PathBuf,
    /// Form of the output
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For machines
    Json,
}

/// Exit code for findings.
const FINDINGS: u8 = 1;
/// Exit code for something that could not be read or reached.
const UNREADABLE: u8 = 2;

/// Runs the command line.
#[must_use]
pub fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Serve { config, upgrade, shadow, library_loop } => {
            serve(&config, upgrade, shadow.as_deref(), library_loop)
        }
        Command::Upgrade { config } => upgrade::run(&config),
        Command::Demo { port } => demo::run(port),
        Command::Init { arguments } => init::run(&arguments),
        Command::Doctor { config, format } => doctor::run(&config, format),
        Command::Check { config, format, deny } => check::run(&config, deny, format),
        Command::Findings { config, arguments } => findings::run(&config, &arguments),
        Command::Test { config, arguments } => test::run(&config, &arguments),
        Command::Explain { config, arguments } => explain::run(&config, &arguments),
        Command::Access { config, arguments } => access::run(&config, &arguments),
        Command::Integrate { host, config } => integrate::run(&config, host),
        Command::Diff { arguments } => diff::run(&arguments),
        Command::Import { command } => import::run(*command),
        Command::Client { options, command } => {
            client::run(&options.config, command, options.format)
        }
        Command::User { options, command } => user::run(&options.config, command, options.format),
        Command::Key { options, command } => key::run(&options.config, command, options.format),
        Command::Token { options, command } => token::run(&options.config, command, options.format),
        Command::Block { options, arguments } => {
            block::block(&options.config, arguments, options.format)
        }
        Command::Unblock { options, whom } => block::unblock(&options.config, whom, options.format),
        Command::Attempts { options, command } => {
            attempts::run(&options.config, command, options.format)
        }
        Command::Store { options, command } => store::run(&options.config, command, options.format),
        Command::Completion { shell } => completion(shell),
        Command::Schema { kind } => schema::run(kind),
    }
}

fn serve(gateway: &Path, upgrade: bool, shadow: Option<&Path>, library_loop: bool) -> ExitCode {
    let (loaded, origins) = files::load_noting(gateway);
    let config = match loaded {
        Ok(config) => config,
        Err(fault) => return report(&fault, Format::Text),
    };
    let log = start_log(config.fixed.log_level, config.fixed.log_format);
    let candidate = match shadow.map(Candidate::load).transpose() {
        Ok(candidate) => candidate.unwrap_or_default(),
        Err(fault) => return report(&fault, Format::Text),
    };
    let options = ServeOptions {
        upgrade,
        origins,
        candidate,
        log,
        temporary: None,
        sign_in_once: None,
        library_loop,
    };
    finish(crate::server::run(config, gateway, options))
}

fn completion(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "scopegate", &mut script);
    say(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}

fn finish(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            complain(&format!("error: {fault}"));
            ExitCode::from(UNREADABLE)
        }
    }
}

/// The gateway's own log, on standard error. Libraries stay at `warn` whatever our level: at
/// `debug` they print request heads, tokens included. One logs closed pooled connections as errors,
/// which they are not to us.
///
/// Lines wait in a bounded queue: a pipe without a reader blocks nothing. Without its thread there
/// is no log.
fn start_log(level: &str, format: Option<LogFormat>) -> Option<LineWriter> {
    let filter = EnvFilter::new(format!(
        "warn,scopegate={level},pingora_proxy=error,pingora_core::connectors=off"
    ));
    let dropped = log_lines_dropped().ok()?;
    // A separate descriptor: other writers to standard error do not wait for a lock that a blocked
    // write holds.
    let out = std::io::stderr().as_fd().try_clone_to_owned().map(std::fs::File::from);
    let writer = out.and_then(|out| LineWriter::start("log", || Ok(out), dropped));
    let writer = writer.inspect_err(|error| complain(&format!("error: no log: {error}"))).ok()?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer.clone());
    let is_terminal = std::io::stderr().is_terminal();
    let default = if is_terminal { LogFormat::Text } else { LogFormat::Json };
    match format.unwrap_or(default) {
        LogFormat::Text => drop(log.with_ansi(is_terminal).try_init()),
        LogFormat::Json => drop(log.json().flatten_event(true).try_init()),
    }
    Some(writer)
}

/// Prints the faults of a configuration; returns the exit code.
fn report(fault: &LoadFault, format: Format) -> ExitCode {
    match fault {
        LoadFault::Unreadable(text) => {
            complain(&format!("error: {text}"));
            ExitCode::from(UNREADABLE)
        }
        LoadFault::Faults(sources, faults) => {
            match format {
                Format::Json => say(&serde_json::json!({ "faults": faults }).to_string()),
                Format::Text => {
                    let color = std::io::stderr().is_terminal();
                    for fault in faults {
                        complain(
                            &fault.render(sources.text(&fault.file).unwrap_or_default(), color),
                        );
                        complain("");
                    }
                    let plural = if faults.len() == 1 { "fault" } else { "faults" };
                    complain(&format!("{} {plural}", faults.len()));
                }
            }
            ExitCode::from(FINDINGS)
        }
    }
}

/// Prints why a command fails; returns the exit code.
fn wrong(text: &str) -> ExitCode {
    complain(&format!("error: {text}"));
    ExitCode::from(UNREADABLE)
}

/// A line on standard output. Errors, such as a closed pipe, are ignored.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A line on standard error.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
