//! Secrets and passwords, read from standard input: an argument would be in the list of processes
//! and in the shell's history.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;

use zeroize::Zeroizing;

use super::{complain, wrong};

/// Reads one line; `what` is its name for the prompt. On a terminal the characters are visible: the
/// prompt says so.
///
/// # Errors
/// Standard input cannot be read; the fault is told.
pub(super) fn read_line(what: &str) -> Result<Zeroizing<String>, ExitCode> {
    let mut text = Zeroizing::new(String::new());
    let read = if std::io::stdin().is_terminal() {
        complain(&format!(
            "{what} (it is shown while you type; pipe it in to avoid that), then Enter:"
        ));
        std::io::stdin().read_line(&mut text)
    } else {
        std::io::stdin().take(4_096).read_to_string(&mut text)
    };
    read.map_err(|fault| wrong(&format!("standard input: {fault}")))?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}
