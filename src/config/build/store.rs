//! `store: { redis: … }` of gateway.yaml.

use super::gateway::relative_to;
use super::{Builder, Place};
use crate::config::raw::gateway::RawRedis;
use crate::config::{SharedStore, Topology};

/// Shortest secret that signing keys are encrypted with.
const MIN_ENCRYPTION_KEY: usize = 32;

impl Builder<'_> {
    pub(super) fn shared_store(
        &mut self,
        raw: &RawRedis,
        place: &Place<'_>,
    ) -> Option<SharedStore> {
        let url = self.secret(&raw.url.value, &place.key("url"));
        if let Some(url) = &url
            && !is_redis(url.expose())
        {
            let help = "write redis://user:password@host:port/database, or rediss:// for TLS";
            self.fault(&place.key("url"), "this is no redis URL", help);
        }
        let encryption_key = self.secret(&raw.encryption_key.value, &place.key("encryption_key"));
        if encryption_key.as_ref().is_some_and(|key| key.expose().len() < MIN_ENCRYPTION_KEY) {
            let help = "make one with `openssl rand -hex 32`, and give it to every gateway";
            self.fault(&place.key("encryption_key"), "it has 32 characters at least", help);
        }
        let ca = raw.ca.as_ref().and_then(|path| {
            let file = relative_to(&self.gateway.file, path);
            let read = self.lookup.file(&file);
            if let Err(error) = &read {
                let help = "paths are relative to the file they stand in";
                self.fault(&place.key("ca"), format!("{}: {error}", file.display()), help);
            }
            read.ok()
        });
        let wait_replicas = raw.wait_replicas.unwrap_or(0);
        let topology = match (&raw.sentinel, &raw.cluster) {
            (Some(_), Some(_)) => {
                self.fault(
                    &place.key("cluster"),
                    "both `sentinel` and `cluster`",
                    "keep the one that it is",
                );
                return None;
            }
            (None, None) => Topology::Single,
            (Some(sentinel), None) => Topology::Sentinel {
                master: sentinel.master.clone(),
                nodes: sentinel.nodes.iter().map(|node| node.value.clone()).collect(),
                password: match &sentinel.password {
                    Some(password) => {
                        Some(self.secret(&password.value, &place.key("sentinel").key("password"))?)
                    }
                    None => None,
                },
            },
            (None, Some(cluster)) => {
                if wait_replicas > 0 {
                    let help = "leave it out, or use Sentinel";
                    self.fault(
                        &place.key("wait_replicas"),
                        "a cluster is not asked for its replicas",
                        help,
                    );
                }
                Topology::Cluster {
                    nodes: cluster.nodes.iter().map(|node| node.value.clone()).collect(),
                }
            }
        };
        Some(SharedStore {
            url: url?,
            encryption_key: encryption_key?,
            topology,
            ca,
            wait_replicas,
        })
    }
}

fn is_redis(text: &str) -> bool {
    let parsed = url::Url::parse(text);
    parsed.is_ok_and(|url| matches!(url.scheme(), "redis" | "rediss") && url.host_str().is_some())
}
