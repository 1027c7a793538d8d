//! `scopegate integrate`.

use std::path::Path;
use std::process::ExitCode;

use clap::ValueEnum;

use super::{Format, report, say, wrong};
use crate::system::files;
use crate::tooling::integrate::{Host, integrate};

/// Host proxies, as arguments.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum HostArgument {
    /// nginx, with `auth_request`
    Nginx,
    /// Caddy, with `forward_auth`
    Caddy,
    /// Traefik, with `ForwardAuth`
    Traefik,
    /// Envoy, with `ext_authz` over gRPC
    Envoy,
    /// HTTPRoutes of the Gateway API, with external auth
    GatewayApi,
}

pub(super) fn run(gateway: &Path, host: HostArgument) -> ExitCode {
    let config = match files::load_untested(gateway) {
        Ok(config) => config,
        Err(fault) => return report(&fault, Format::Text),
    };
    let host = match host {
        HostArgument::Nginx => Host::Nginx,
        HostArgument::Caddy => Host::Caddy,
        HostArgument::Traefik => Host::Traefik,
        HostArgument::Envoy => Host::Envoy,
        HostArgument::GatewayApi => Host::GatewayApi,
    };
    match integrate(&config, host) {
        Ok(text) => {
            say(text.trim_end());
            ExitCode::SUCCESS
        }
        Err(message) => wrong(&message),
    }
}
