//! `scopegate upgrade`.

use std::path::Path;
use std::process::ExitCode;

use super::{Format, report, say, wrong};
use crate::server::process::successor;
use crate::system::files;

pub(super) fn run(gateway: &Path) -> ExitCode {
    let config = match files::load(gateway) {
        Ok(config) => config,
        Err(fault) => return report(&fault, Format::Text),
    };
    let Some(folder) = config.fixed.upgrade_folder() else {
        return wrong(
            "with a shared store, `run_folder` says where the socket for it is, and there is none",
        );
    };
    match successor::ask_for_one(folder) {
        Ok(process) => {
            say(&format!("process {process} serves; the one before it ends once it is idle"));
            ExitCode::SUCCESS
        }
        Err(fault) => wrong(&fault),
    }
}
