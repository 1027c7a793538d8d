//! The servers of upstreams: which of them gets a request, and the connection to it. Names are
//! resolved, health is checked and tokens are fetched in the background, never on the path of a
//! request. What a server gets and may answer is in `proxy/forward.rs` and `proxy/answer.rs`.

pub mod budget;
pub mod connection;
pub mod credentials;
pub mod health;
pub mod pool;
pub mod resolve;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use http::HeaderValue;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};

use crate::config::{Balancing, Server, Upstream};
use crate::request::headers::is_alias;
use budget::Budget;
use credentials::Credentials;
use health::Health;

/// An upstream with its servers as they are now.
#[derive(Debug)]
pub struct Servers {
    /// What was declared.
    pub declared: Upstream,
    /// TLS to them, in the form of the proxy library.
    pub tls: PeerTls,
    /// The token that we present, where we do.
    pub credentials: Credentials,
    /// What retries it can take.
    pub budget: Budget,
    members: ArcSwap<Vec<Arc<Member>>>,
    next: AtomicUsize,
    in_flight: AtomicUsize,
    /// Held while the least loaded is looked for: two requests must not see the same one.
    choosing: Mutex<()>,
}

/// CAs and certificate for connections to an upstream.
pub struct PeerTls {
    /// Whom its certificates are verified with; the system's CAs without.
    pub ca: Option<Arc<[WrappedX509]>>,
    /// What we show.
    pub shown: Option<Arc<CertKey>>,
    /// Keeps connections apart that were made with other settings: the library's pool looks at
    /// neither CAs nor protocols.
    pub group: u64,
}

impl std::fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerTls").field("group", &self.group).finish_non_exhaustive()
    }
}

impl PeerTls {
    fn new(declared: &Upstream) -> Self {
        let mut hash = DefaultHasher::new();
        (&declared.tls.ca, declared.http2, &declared.tls.server_name).hash(&mut hash);
        let shown = declared.tls.shown.as_ref();
        shown.map(|shown| (&shown.chain, &*shown.key)).hash(&mut hash);
        // The configuration has read them all before: nothing here can fail.
        let ca = declared.tls.ca.as_ref();
        Self {
            ca: ca.map(|ca| {
                ca.iter()
                    .map(|der| WrappedX509::new(der.clone(), parse_x509))
                    .collect::<Vec<_>>()
                    .into()
            }),
            shown: shown
                .map(|shown| Arc::new(CertKey::new(shown.chain.clone(), shown.key.to_vec()))),
            group: hash.finish(),
        }
    }
}

/// One address of a server.
#[derive(Debug)]
pub struct Member {
    /// Where it is and what it is called.
    pub address: Address,
    /// How it has been doing.
    pub health: Health,
    weight: usize,
    in_flight: AtomicUsize,
    /// A digest of where it is and of the name in its certificate.
    key: u64,
}

/// Where to connect, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where to connect.
    pub socket: SocketAddr,
    /// `host[:port]` as declared: what `Host` says.
    pub authority: HeaderValue,
    /// The name that its certificate must have; `None` is plain HTTP.
    pub tls: Option<String>,
    /// What is put before every path.
    pub base: String,
}

impl Address {
    fn new(upstream: &Upstream, server: &Server, socket: SocketAddr) -> Self {
        let name = upstream.tls.server_name.as_ref().unwrap_or(&server.host);
        Self {
            socket,
            authority: authority(server),
            tls: server.tls.then(|| name.clone()),
            base: server.base.clone(),
        }
    }
}

/// A request under way at a server; counts itself out when dropped.
#[derive(Debug)]
pub struct Slot {
    servers: Arc<Servers>,
    /// The server.
    pub member: Arc<Member>,
}

impl Slot {
    /// The servers that it is one of.
    #[must_use]
    pub const fn servers(&self) -> &Arc<Servers> {
        &self.servers
    }

    /// Tells connections to this server apart from those to others, and from those that were made
    /// with other settings.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.member.key ^ self.servers.tls.group
    }

    /// Notes how it went; true when the server is left out because of it.
    #[must_use]
    pub fn ended(&self, well: bool) -> bool {
        self.member.health.request(
            well,
            self.servers.declared.eject_after,
            self.servers.declared.eject_for,
        )
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.member.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.servers.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Why no server gets a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoServer {
    /// No name has resolved, all have been tried, or all are down.
    Unusable,
    /// As many requests as it may have are under way.
    Full,
}

impl Servers {
    /// An upstream; servers given by address are there at once, names after the first
    /// [`Servers::resolve`].
    #[must_use]
    pub fn new(declared: Upstream) -> Self {
        let servers = Self {
            tls: PeerTls::new(&declared),
            credentials: Credentials::default(),
            budget: Budget::default(),
            members: ArcSwap::default(),
            next: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            choosing: Mutex::default(),
            declared,
        };
        let known = servers.declared.servers.iter().filter_map(|server| {
            let ip: IpAddr = server.host.parse().ok()?;
            Some((server.clone(), SocketAddr::new(ip, server.port)))
        });
        let known = known.collect();
        servers.put(known, &[]);
        servers
    }

    /// An upstream that was declared otherwise before: what was resolved and found out of the same
    /// servers is taken over.
    #[must_use]
    pub fn after(declared: Upstream, before: &Self) -> Self {
        let mut servers = Self::new(declared);
        let (old, mut known) = (before.members.load_full(), Vec::new());
        for server in &servers.declared.servers {
            if let Ok(ip) = server.host.parse::<IpAddr>() {
                known.push((server.clone(), SocketAddr::new(ip, server.port)));
            } else {
                let name = authority(server);
                let same = old.iter().filter(|member| member.address.authority == name);
                known.extend(same.map(|member| (server.clone(), member.address.socket)));
            }
        }
        if servers.declared.health != before.declared.health {
            old.iter().for_each(|member| member.health.forget_checks());
        }
        servers.put(known, &old);
        if servers.declared.authorization == before.declared.authorization {
            servers.credentials = before.credentials.clone();
        }
        servers
    }

    /// Puts addresses in force; a server that was there before stays as it was found to be.
    fn put(&self, addresses: Vec<(Server, SocketAddr)>, old: &[Arc<Member>]) {
        let members = addresses.into_iter().map(|(server, socket)| {
            let address = Address::new(&self.declared, &server, socket);
            let weight = usize::try_from(server.weight).unwrap_or(1);
            let kept =
                old.iter().find(|member| member.address == address && member.weight == weight);
            kept.cloned().unwrap_or_else(|| {
                let mut key = DefaultHasher::new();
                (address.socket, &address.tls).hash(&mut key);
                Arc::new(Member {
                    key: key.finish(),
                    address,
                    health: Health::default(),
                    weight,
                    in_flight: AtomicUsize::new(0),
                })
            })
        });
        self.members.store(Arc::new(members.collect()));
    }

    /// The servers as they are now.
    #[must_use]
    pub fn members(&self) -> Arc<Vec<Arc<Member>>> {
        self.members.load_full()
    }

    /// Whether a header is one that only the gateway says to these servers, or nobody: every alias
    /// counts.
    #[must_use]
    pub fn is_said_by_us(&self, name: &str) -> bool {
        let said = self.declared.claims.iter().map(|(name, _)| name);
        said.chain(&self.declared.removed).any(|known| is_alias(known.as_str(), name))
    }

    /// Whether a header is one of those, in its usual spelling.
    #[must_use]
    pub fn names_as_written(&self, name: &str) -> bool {
        let said = self.declared.claims.iter().map(|(name, _)| name);
        said.chain(&self.declared.removed).any(|known| known.as_str() == name)
    }

    /// How many requests are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// How many are usable, left out, and down.
    #[must_use]
    pub fn count(&self) -> [usize; 3] {
        let (members, now) = (self.members.load(), health::now());
        let count = |state: fn(&Health, u64) -> bool| {
            members.iter().filter(|member| state(&member.health, now)).count()
        };
        let down = count(|health, _| health.is_down());
        let ejected = count(|health, now| !health.is_down() && health.is_ejected(now));
        [members.len() - down - ejected, ejected, down]
    }

    /// A server for a request of this caller that none of `tried` got.
    ///
    /// # Errors
    /// There is none.
    pub fn choose(self: &Arc<Self>, caller: u64, tried: &[SocketAddr]) -> Result<Slot, NoServer> {
        if self.in_flight.load(Ordering::Acquire) >= self.declared.max_in_flight {
            return Err(NoServer::Full);
        }
        if tried.is_empty() {
            self.budget.request();
        }
        let members = self.members.load();
        let now = health::now();
        // A retry takes no turn: the next request would always meet the server that failed.
        let turn = if tried.is_empty() {
            self.next.fetch_add(1, Ordering::Relaxed)
        } else {
            self.next.load(Ordering::Relaxed)
        };
        let untried = |member: &&Arc<Member>| {
            !tried.contains(&member.address.socket) && !member.health.is_down()
        };
        let usable = |member: &&Arc<Member>| untried(member) && !member.health.is_ejected(now);
        // That all are left out is more likely our fault than theirs: then what they did does not
        // count.
        let member = self
            .pick(&members, turn, caller, usable)
            .or_else(|| self.pick(&members, turn, caller, untried));
        let member = member.ok_or(NoServer::Unusable)?;
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        Ok(Slot { servers: self.clone(), member })
    }

    /// Whether a server is left that none of `tried` is.
    #[must_use]
    pub fn has_another(&self, tried: &[SocketAddr]) -> bool {
        let now = health::now();
        self.members.load().iter().any(|member| {
            !tried.contains(&member.address.socket)
                && !member.health.is_down()
                && !member.health.is_ejected(now)
        })
    }

    /// One of those that fit, counted in.
    fn pick(
        &self,
        members: &[Arc<Member>],
        turn: usize,
        caller: u64,
        fits: impl Fn(&&Arc<Member>) -> bool + Copy,
    ) -> Option<Arc<Member>> {
        let _turn;
        let member = match self.declared.balancing {
            Balancing::RoundRobin => {
                let total: usize = members.iter().filter(fits).map(|member| member.weight).sum();
                let mut turn = turn.checked_rem(total)?;
                members.iter().filter(fits).find(|member| {
                    let mine = turn < member.weight;
                    turn = turn.saturating_sub(member.weight);
                    mine
                })
            }
            Balancing::LeastLoad => {
                _turn = self.choosing.lock().unwrap_or_else(PoisonError::into_inner);
                let start = turn % members.len().max(1);
                // Of those with the same load another one each time.
                let turns = members.iter().cycle().skip(start).take(members.len());
                turns.filter(fits).min_by_key(|member| {
                    (member.in_flight.load(Ordering::Acquire) + 1).saturating_mul(1000)
                        / member.weight
                })
            }
            Balancing::ConsistentHash => {
                let score =
                    |member: &&Arc<Member>| rendezvous(caller, &member.address, member.weight);
                members.iter().filter(fits).max_by(|one, other| score(one).total_cmp(&score(other)))
            }
        }?;
        member.in_flight.fetch_add(1, Ordering::AcqRel);
        Some(member.clone())
    }
}

/// The score of a server for a caller: the highest gets it (weighted rendezvous hashing). Where a
/// server goes, only its own callers move.
fn rendezvous(caller: u64, address: &Address, weight: usize) -> f64 {
    let mut hash = DefaultHasher::new();
    (caller, address.socket, address.authority.as_bytes()).hash(&mut hash);
    #[expect(clippy::cast_precision_loss, reason = "a score between 0 and 1, and a small weight")]
    let (part, weight) = ((hash.finish() >> 11) as f64 / (1_u64 << 53) as f64, weight as f64);
    weight / -part.max(f64::MIN_POSITIVE).ln()
}

fn authority(server: &Server) -> HeaderValue {
    let host =
        if server.host.contains(':') { format!("[{}]", server.host) } else { server.host.clone() };
    let usual = if server.tls { 443 } else { 80 };
    let text = if server.port == usual { host } else { format!("{host}:{}", server.port) };
    // The configuration takes no host that is not a URL's.
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UpstreamAuthorization;
    use crate::config::tls::UpstreamTls;
    use crate::names::UpstreamName;
    use std::collections::HashMap;
    use std::time::Duration;

    fn upstream(balancing: Balancing, servers: &[(&str, u16, u32)]) -> Arc<Servers> {
        let time = Duration::from_secs(60);
        Arc::new(Servers::new(Upstream {
            name: UpstreamName::new("u"),
            servers: servers
                .iter()
                .map(|(host, port, weight)| Server {
                    host: (*host).to_owned(),
                    port: *port,
                    tls: *port == 443,
                    weight: *weight,
                    base: String::new(),
                })
                .collect(),
            tls: UpstreamTls::default(),
            http2: false,
            connect: time,
            response: time,
            idle: time,
            balancing,
            health: None,
            eject_after: 2,
            eject_for: time,
            retries: 0,
            max_in_flight: 1000,
            authorization: UpstreamAuthorization::Strip,
            assertion: false,
            claims: Vec::new(),
            removed: Vec::new(),
            keeps_host: false,
        }))
    }

    fn port(slot: &Slot) -> u16 {
        slot.member.address.socket.port()
    }

    #[test]
    fn servers_take_turns_by_weight_and_are_called_by_their_names() {
        let servers = upstream(
            Balancing::RoundRobin,
            &[("127.0.0.1", 80, 1), ("::1", 8080, 2), ("127.0.0.1", 443, 1)],
        );
        let turns: Vec<HeaderValue> = (0..4)
            .map(|_| servers.choose(0, &[]).unwrap().member.address.authority.clone())
            .collect();
        assert_eq!(turns, ["127.0.0.1", "[::1]:8080", "[::1]:8080", "127.0.0.1"]);
        assert_eq!(servers.choose(0, &[]).unwrap().member.address.tls, None);
        let tls = servers.members()[2].address.tls.clone();
        assert_eq!(tls.as_deref(), Some("127.0.0.1"));
    }

    #[test]
    fn the_least_loaded_is_chosen_and_slots_count_themselves_out() {
        let servers = upstream(Balancing::LeastLoad, &[("127.0.0.1", 1, 1), ("127.0.0.1", 2, 2)]);
        let held: Vec<Slot> = (0..6).map(|_| servers.choose(0, &[]).unwrap()).collect();
        assert_eq!(held.iter().filter(|slot| port(slot) == 2).count(), 4);
        drop(held);
        assert_eq!(servers.in_flight.load(Ordering::Relaxed), 0);
        assert!(
            servers.members().iter().all(|member| member.in_flight.load(Ordering::Relaxed) == 0)
        );
    }

    #[test]
    fn a_caller_keeps_its_server_and_only_those_of_a_lost_one_move() {
        let servers = upstream(
            Balancing::ConsistentHash,
            &[("127.0.0.1", 1, 1), ("127.0.0.1", 2, 1), ("127.0.0.1", 3, 2)],
        );
        let of = |caller, tried: &[SocketAddr]| port(&servers.choose(caller, tried).unwrap());
        let mut counts: HashMap<u16, usize> = HashMap::new();
        let lost: SocketAddr = "127.0.0.1:1".parse().unwrap();
        for caller in 0..4000 {
            let first = of(caller, &[]);
            assert_eq!(of(caller, &[]), first);
            *counts.entry(first).or_default() += 1;
            assert!(first == 1 || of(caller, &[lost]) == first);
        }
        let share = |port| counts[&port];
        assert!((800..1200).contains(&share(1)) && (1800..2200).contains(&share(3)), "{counts:?}");
    }

    #[test]
    fn a_server_that_fails_is_left_out_unless_all_are() {
        let servers = upstream(Balancing::RoundRobin, &[("127.0.0.1", 1, 1), ("127.0.0.1", 2, 1)]);
        let fail = |port_: u16| {
            for _ in 0..2 {
                let slot = loop {
                    let slot = servers.choose(0, &[]).unwrap();
                    if port(&slot) == port_ {
                        break slot;
                    }
                };
                let _ = slot.ended(false);
            }
        };
        fail(1);
        assert!((0..10).all(|_| port(&servers.choose(0, &[]).unwrap()) == 2));
        let other: SocketAddr = "127.0.0.1:2".parse().unwrap();
        assert!(!servers.has_another(&[other]));
        fail(2);
        let ports: std::collections::HashSet<u16> =
            (0..10).map(|_| port(&servers.choose(0, &[]).unwrap())).collect();
        assert_eq!(servers.count(), [0, 2, 0]);
        assert_eq!(ports.len(), 2, "both are left out: then what they did does not count");
        let both = ["127.0.0.1:1", "127.0.0.1:2"].map(|address| address.parse().unwrap());
        assert_eq!(servers.choose(0, &both).unwrap_err(), NoServer::Unusable);
    }

    #[test]
    fn an_upstream_has_only_so_many_requests() {
        let declared = Upstream {
            max_in_flight: 2,
            ..upstream(Balancing::RoundRobin, &[("127.0.0.1", 1, 1)]).declared.clone()
        };
        let servers = Arc::new(Servers::new(declared));
        let held = [servers.choose(0, &[]).unwrap(), servers.choose(0, &[]).unwrap()];
        assert_eq!(servers.choose(0, &[]).unwrap_err(), NoServer::Full);
        drop(held);
        assert!(servers.choose(0, &[]).is_ok());
    }

    #[tokio::test]
    async fn a_name_is_there_once_it_has_resolved() {
        let servers = upstream(Balancing::RoundRobin, &[("localhost", 8080, 1)]);
        assert_eq!(servers.choose(0, &[]).unwrap_err(), NoServer::Unusable);
        servers.resolve().await;
        assert!(servers.choose(0, &[]).unwrap().member.address.socket.ip().is_loopback());
    }
}
