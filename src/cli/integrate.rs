//! `scopegate integrate`.

use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;

use super::{Format, report, say, wrong};
use crate::request::original::Dialect;
use crate::system::files;
use crate::tooling::integrate::integrate;

/// Host proxies, as arguments.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum HostArgument {
    /// nginx, with `auth_request`
    Nginx,
    /// Caddy, with `forward_auth`
    Caddy,
}

pub(super) fn run(gateway: &Path, host: HostArgument) -> ExitCode {
    let config = match files::load_untested(gateway) {
        Ok(config) => config,
        Err(fault) => return report(&fault, Format::Text),
    };
    let dialect = match host {
        HostArgument::Nginx => Dialect::Nginx,
        HostArgument::Caddy => Dialect::Caddy,
    };
    match integrate(&config, dialect) {
        Ok(text) => {
            say(text.trim_end());
            ExitCode::SUCCESS
        }
        Err(message) => wrong(&message),
    }
}
