//! The addresses behind the names of an upstream's servers.

use std::net::IpAddr;
use std::time::Duration;

use super::{Servers, authority};

/// Longest look-up of one name.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(3);

impl Servers {
    /// Looks all names up. One that fails keeps the addresses it had.
    pub async fn resolve(&self) {
        if self.declared.servers.iter().all(|server| server.host.parse::<IpAddr>().is_ok()) {
            return;
        }
        let before = self.members();
        let mut addresses = Vec::new();
        for server in &self.declared.servers {
            let lookup = tokio::net::lookup_host((server.host.as_str(), server.port));
            let found = tokio::time::timeout(LOOKUP_TIMEOUT, lookup)
                .await
                .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
            match found {
                Ok(sockets) => addresses.extend(sockets.map(|socket| (server.clone(), socket))),
                Err(error) => {
                    tracing::warn!(upstream = %self.declared.name, host = %server.host, %error,
                        "name not resolved");
                    let name = authority(server);
                    let same = before.iter().filter(|member| member.address.authority == name);
                    addresses.extend(same.map(|member| (server.clone(), member.address.socket)));
                }
            }
        }
        self.put(addresses, &before);
    }
}
