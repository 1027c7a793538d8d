//! `upstreams:` of gateway.yaml.

use std::time::Duration;

use super::super::raw::RawUpstream;
use super::super::raw::upstream::RawAuthorization;
use super::super::{Server, Upstream};
use super::{Builder, Entry, Place};
use crate::names::UpstreamName;

impl Builder<'_> {
    pub(super) fn upstreams(&mut self) -> Vec<Upstream> {
        let mut upstreams = Vec::new();
        for Entry { name, place, value } in self.entries(std::slice::from_ref(self.gateway), "upstreams") {
            let Some(raw) = self.read::<RawUpstream>(&place, value) else { continue };
            let servers = self.servers(&raw, &place.key("servers"));
            let time = |duration: &Option<crate::config::format::Duration>, default| {
                duration.as_ref().map_or(Duration::from_secs(default), |duration| duration.value)
            };
            upstreams.push(Upstream {
                name: UpstreamName::new(&name),
                servers,
                connect: time(&raw.timeouts.connect, 1),
                response: time(&raw.timeouts.response, 30),
                idle: time(&raw.timeouts.idle, 15),
                keep_authorization: matches!(raw.authorization, RawAuthorization::Keep),
            });
        }
        upstreams
    }

    fn servers(&mut self, raw: &RawUpstream, place: &Place<'_>) -> Vec<Server> {
        let mut servers = Vec::new();
        for (at, server) in raw.servers.iter().enumerate() {
            let (url, place) = (&server.value, place.at(at));
            if url.scheme() == "https" {
                let help = "leave https servers out for now; see docs/configuration.md";
                self.fault(&place, "TLS to upstreams is documented and not built yet", help);
            }
            if url.path() != "/" {
                self.fault(&place, "a server has scheme, host and port alone", "paths belong to the API's `base_path`");
            }
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            servers.push(Server { host, port: url.port_or_known_default().unwrap_or(80) });
        }
        servers
    }
}
