//! A successor that this process starts itself, for whoever asks over its socket: it inherits the
//! environment, the log, and the unit of a service manager, which a process started from a shell
//! would be outside of.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Error, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Process;
use super::handover::{PATIENCE, connect, said};
use super::lifecycle::Stop;

/// What a command says that wants a successor.
pub(super) const WANTED: &str = "scopegate successor 1";
/// How long a successor may take until it serves: it opens the store, and asks for names and for
/// tokens of upstreams.
const START: Duration = Duration::from_secs(120);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How this process was started, and so how its successor is.
#[derive(Debug)]
pub struct Program {
    file: PathBuf,
    gateway: PathBuf,
    candidate: Option<PathBuf>,
    starting: AtomicBool,
}

impl Program {
    /// The program of this process, by the name that it was started by: what stands there now may
    /// be newer.
    #[must_use]
    pub fn of_this_process(gateway: &Path, candidate: Option<&Path>) -> Self {
        let named = std::env::args_os().next().unwrap_or_else(|| OsString::from("scopegate"));
        let file = Path::new(&named);
        let file =
            if file.components().count() > 1 { std::path::absolute(file).ok() } else { None };
        // A bare name was looked up; what was found is what runs.
        let file =
            file.or_else(|| std::env::current_exe().ok()).unwrap_or_else(|| PathBuf::from(named));
        Self {
            file,
            gateway: gateway.to_owned(),
            candidate: candidate.map(Path::to_owned),
            starting: AtomicBool::new(false),
        }
    }

    fn start(&self) -> Result<Child, String> {
        let mut command = Command::new(&self.file);
        command.args(["serve", "--upgrade", "--config"]).arg(&self.gateway).stdin(Stdio::null());
        if let Some(candidate) = &self.candidate {
            command.arg("--shadow").arg(candidate);
        }
        command.spawn().map_err(|fault| format!("{}: {fault}", self.file.display()))
    }
}

/// Starts a successor, and says over the stream what became of it.
pub(super) fn start(process: &Process, stream: &mut UnixStream) {
    let Some(program) = process.program.get() else { return };
    let outcome = if program.starting.swap(true, Ordering::AcqRel) {
        Err("another successor is being started".to_owned())
    } else {
        tracing::info!(program = %program.file.display(), "starting a successor");
        let outcome = program.start().and_then(|child| watch(process, child));
        program.starting.store(false, Ordering::Release);
        outcome
    };
    let line = match &outcome {
        Ok(successor) => format!("serving {successor}"),
        Err(fault) => {
            tracing::warn!(%fault, "no successor; this process goes on serving");
            format!("failed {fault}")
        }
    };
    if let Err(error) = writeln!(stream, "{line}") {
        tracing::debug!(%error, "whoever asked for a successor is gone");
    }
}

/// Waits until the successor serves, or has failed.
fn watch(process: &Process, mut child: Child) -> Result<u32, String> {
    let (stop, began) = (process.life.stop(), Instant::now());
    loop {
        match &*stop.borrow() {
            Stop::Successor(_) => return Ok(child.id()),
            Stop::End => {
                let _ = child.kill().and_then(|()| child.wait());
                return Err("the gateway was told to end meanwhile".to_owned());
            }
            Stop::Not => {}
        }
        match child.try_wait() {
            // One that has the sockets may already serve: the conversation with it ends by itself.
            Ok(None) if began.elapsed() < START || process.life.is_handing_over() => {
                std::thread::sleep(LOOK);
            }
            Ok(None) => {
                let _ = child.kill().and_then(|()| child.wait());
                return Err(format!(
                    "the successor did not serve within {} s; the gateway serves on",
                    START.as_secs()
                ));
            }
            Ok(Some(status)) => {
                return Err(format!(
                    "the successor ended ({status}); the gateway serves on, and its log says why"
                ));
            }
            Err(error) => return Err(format!("the successor cannot be watched: {error}")),
        }
    }
}

/// Asks the gateway of this run folder for a successor, and waits until it serves. Gives its
/// process.
///
/// # Errors
/// No gateway, no successor. In words for the operator.
pub fn ask_for_one(run_folder: &str) -> Result<String, String> {
    let mut stream = connect(run_folder)?;
    let mut answer = || {
        stream.set_read_timeout(Some(START + PATIENCE))?;
        writeln!(stream, "{WANTED}")?;
        let mut line = String::new();
        BufReader::new(&stream).take(4096).read_line(&mut line)?;
        if line.is_empty() { Err(Error::from(std::io::ErrorKind::UnexpectedEof)) } else { Ok(line) }
    };
    let line = answer().map_err(|fault| said(run_folder, &fault))?;
    match line.trim_end().split_once(' ') {
        Some(("serving", process)) => Ok(process.to_owned()),
        Some(("failed", fault)) => Err(fault.to_owned()),
        _ => Err(format!("an answer that this version does not know: {}", line.trim_end())),
    }
}
