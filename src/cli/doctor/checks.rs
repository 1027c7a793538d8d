//! What is looked at, one thing after the other. Nothing here changes anything.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Found, State};
use crate::cli::key::{Fetched, fetch_all};
use crate::cli::store_access;
use crate::config::{Config, ListenAddress, Server, StoreConfig};
use crate::names::Timestamp;
use crate::server::edge::admission;
use crate::store::keys::current;
use crate::system::clock;
use crate::tooling::lint::lint;
use crate::tooling::testing;
use crate::tooling::usage::Day;

/// How long a server may take to accept, and to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Days before its end from which a certificate is worth a warning.
const SOON: i64 = 21;
/// Seconds by which two clocks may differ: tokens are checked with less leeway than a minute.
const APART: i64 = 20;
/// Longest answer that is read, in bytes.
const LONGEST: u64 = 64 * 1024;

pub(super) fn all(config: &Config) -> Vec<Found> {
    let mut found = configuration(config);
    found.push(descriptors(config));
    found.extend(store(config));
    found.extend(certificates(config));
    found.extend(issuers(config));
    found.extend(upstreams(config));
    found.extend(listeners(config));
    found
}

fn configuration(config: &Config) -> Vec<Found> {
    let now = clock::now();
    let mut found = vec![Found::good("configuration", format!("loads, set {}", config.version))];
    let runs = testing::run(config, now);
    let failed = runs.iter().filter(|run| run.failure.is_some()).count();
    found.push(match (runs.len(), failed) {
        (0, _) => Found::new(
            "tests",
            State::Warning,
            "there are none",
            "write down who may call what under `tests:` of the policies",
        ),
        (all, 0) => Found::good("tests", format!("all {all} pass")),
        (all, failed) => Found::new(
            "tests",
            State::Fault,
            format!("{failed} of {all} fail"),
            "scopegate test says which, and why",
        ),
    });
    let open = lint(config, now).into_iter().filter(|finding| finding.waived.is_none()).count();
    found.push(match open {
        0 => Found::good("findings", "none without a waiver"),
        open => Found::new(
            "findings",
            State::Warning,
            format!("{open} without a waiver"),
            "scopegate check lists them, each with its remedy",
        ),
    });
    found
}

fn descriptors(config: &Config) -> Found {
    let edge = &config.fixed.edge;
    let wanted = edge.max_connections;
    let remedy = "raise LimitNOFILE of the service, or `ulimit -n`; this is the limit of this \
                  shell, and the service has its own";
    match admission::affordable(wanted, edge.max_connections_per_address) {
        Ok((places, _)) if places >= wanted => {
            Found::good("open files", format!("enough for edge.max_connections: {wanted}"))
        }
        Ok((places, _)) => Found::new(
            "open files",
            State::Warning,
            format!("enough for {places} connections of edge.max_connections: {wanted}"),
            remedy,
        ),
        Err(fault) => Found::new("open files", State::Fault, fault, remedy),
    }
}

fn store(config: &Config) -> Vec<Found> {
    let (remedy, of) = match &config.fixed.store {
        StoreConfig::Embedded(folder) => (
            "its folder has to be writable and its disk not full; a copy is put back by scopegate \
             store restore",
            format!("store {folder}"),
        ),
        StoreConfig::Shared(_) => (
            "is the address right, Redis up, and its password? Tokens that are cached go on for \
             max_revocation_staleness",
            "store in Redis".to_owned(),
        ),
    };
    let store = match store_access::existing(config) {
        Ok(Some(store)) => store,
        Ok(None) => {
            let seen = "is not there yet";
            let text = "scopegate serve makes it; its path is relative to the working directory";
            return vec![Found::new(of, State::Unknown, seen, text)];
        }
        Err(fault) => return vec![Found::new(of, State::Fault, fault, remedy)],
    };
    let looked = store.ping().and_then(|()| store.examine());
    if let Err(fault) = looked {
        return vec![Found::new(of, State::Fault, fault.to_string(), remedy)];
    }
    let mut found = vec![Found::good(of, "answers, and is whole")];
    let now = clock::now();
    found.push(match store.keys() {
        Ok(keys) => match current(&keys, now) {
            Some(key) => Found::good(
                "signing key",
                format!("{} since {}", key.kid(), store_access::time(key.signs_from)),
            ),
            None if keys.is_empty() => {
                Found::new("signing key", State::Unknown, "none yet", "scopegate serve makes one")
            }
            None => Found::new(
                "signing key",
                State::Fault,
                "no key signs now",
                "is the clock right? Else scopegate key rotate --now",
            ),
        },
        Err(fault) => Found::new("signing key", State::Fault, fault.to_string(), remedy),
    });
    found
}

fn certificates(config: &Config) -> Vec<Found> {
    let now = clock::now();
    let listeners = config.fixed.listeners.iter().zip(&config.tls);
    let listeners = listeners.filter_map(|(listener, tls)| {
        Some((format!("certificate of {}", listener.address), tls.as_ref()?))
    });
    let admin = config.admin_tls.iter().map(|tls| ("certificate of admin".to_owned(), tls));
    let each =
        listeners.chain(admin).map(|(what, tls)| expiry(what, tls.certificates.not_after, now));
    each.collect()
}

fn expiry(what: String, ends: Timestamp, now: Timestamp) -> Found {
    let left = Day::of(ends).0 - Day::of(now).0;
    let seen = format!("ends on {}", Day::of(ends).text());
    let remedy = "put the next one into its file: it is read without a restart";
    if ends <= now {
        Found::new(what, State::Fault, seen, remedy)
    } else if left < SOON {
        Found::new(what, State::Warning, format!("{seen}, in {left} days"), remedy)
    } else {
        Found::good(what, seen)
    }
}

fn issuers(config: &Config) -> Vec<Found> {
    let remedy = "is it reachable from here, by its proxy and CA? Keys that are cached go on for a \
                  day; scopegate key issuers says more";
    let fetched = match fetch_all(config) {
        Ok(fetched) => fetched,
        Err(fault) => return vec![Found::new("issuers", State::Fault, fault, remedy)],
    };
    let each = fetched.into_iter().map(|Fetched { issuer, from, keys, outcome }| {
        let what = format!("keys of {issuer}");
        match outcome {
            Ok(_) if keys.is_empty() => Found::new(
                what,
                State::Fault,
                format!("none that can be used at {from}"),
                "scopegate key issuers says what was left out, and why",
            ),
            Ok(left_out) if left_out.is_empty() => {
                Found::good(what, format!("{} from {from}", keys.len()))
            }
            Ok(left_out) => Found::good(
                what,
                format!("{} from {from}, {} of no use", keys.len(), left_out.len()),
            ),
            Err(fault) => Found::new(what, State::Fault, fault, remedy),
        }
    });
    each.collect()
}

/// Whether every server accepts connections, and the time that servers without TLS report.
fn upstreams(config: &Config) -> Vec<Found> {
    let mut found = Vec::new();
    let mut clocks = Vec::new();
    for upstream in &config.upstreams {
        for server in &upstream.servers {
            let what = format!("server {} of {}", at(server), upstream.name);
            match connect(server) {
                Ok(stream) => {
                    found.push(Found::good(what, "accepts connections"));
                    if !server.tls && !upstream.http2 {
                        clocks.extend(date(stream, server));
                    }
                }
                Err(fault) => found.push(Found::new(
                    what,
                    State::Fault,
                    fault,
                    "is it up, and does its name resolve on this machine? Requests for it are 503",
                )),
            }
        }
    }
    found.push(clock_beside(&clocks));
    found
}

/// Our clock beside those that servers told.
fn clock_beside(clocks: &[(String, i64)]) -> Found {
    let Some((whose, apart)) = clocks.iter().min_by_key(|(_, apart)| apart.abs()) else {
        let text = "compare it by hand: timedatectl";
        return Found::new("clock", State::Unknown, "no server says the time without TLS", text);
    };
    if apart.abs() <= APART {
        return Found::good("clock", format!("within {APART} s of that of {whose}"));
    }
    let text = "who is right? timedatectl; with a wrong clock good tokens are expired, or not yet \
                valid";
    Found::new("clock", State::Warning, format!("{apart} s beside that of {whose}"), text)
}

fn at(server: &Server) -> String {
    if server.host.contains(':') {
        format!("[{}]:{}", server.host, server.port)
    } else {
        format!("{}:{}", server.host, server.port)
    }
}

fn connect(server: &Server) -> Result<TcpStream, String> {
    let addresses = (server.host.as_str(), server.port).to_socket_addrs();
    let addresses: Vec<SocketAddr> = addresses.map_err(|fault| fault.to_string())?.collect();
    let mut last = "its name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(fault) => last = format!("{address}: {fault}"),
        }
    }
    Err(last)
}

/// How many seconds our clock is ahead of a server's.
fn date(stream: TcpStream, server: &Server) -> Option<(String, i64)> {
    let head = answer(stream, &format!("HEAD / HTTP/1.1\r\nHost: {}\r\n", at(server))).ok()?;
    let date = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim().to_owned())
    })?;
    let theirs = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(&date).ok()?;
    Some((at(server), clock::now().0 - theirs.as_second()))
}

/// What is answered to a request, as far as it comes.
fn answer(mut stream: TcpStream, request: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{request}Connection: close\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    match stream.take(LONGEST).read_to_end(&mut bytes) {
        // It keeps the connection, whatever it was asked.
        Err(fault) if bytes.is_empty() => Err(fault),
        Ok(_) | Err(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// Whether a gateway serves here, and what it says of itself.
fn listeners(config: &Config) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for listener in &config.fixed.listeners {
        let serves = match &listener.address {
            ListenAddress::Tcp(address) => {
                TcpStream::connect_timeout(&reachable(*address), PATIENCE).is_ok()
            }
            ListenAddress::Unix(path) => UnixStream::connect(path).is_ok(),
        };
        let what = format!("listener {}", listener.address);
        found.push(if serves {
            Found::good(what, "accepts connections")
        } else {
            let text = "scopegate serve, or systemctl start scopegate";
            Found::new(what, State::Unknown, "nobody serves here now", text)
        });
    }
    if let Some(metrics) = config.fixed.metrics
        && let Ok(stream) = TcpStream::connect_timeout(&reachable(metrics), PATIENCE)
    {
        let said = answer(stream, &format!("GET /readyz HTTP/1.1\r\nHost: {metrics}\r\n"));
        found.push(ready(said, &config.version));
    }
    found
}

fn ready(said: std::io::Result<String>, set: &str) -> Found {
    let remedy = "the body of /readyz says what is missing; scopegate's own log says since when";
    match said {
        Ok(text) if text.starts_with("HTTP/1.1 200 ") => {
            let served = text.lines().find_map(|line| line.strip_prefix("set "));
            if served == Some(set) {
                return Found::good("/readyz", format!("ready, with set {set}"));
            }
            let seen =
                format!("ready, with set {}, and the files are {set}", served.unwrap_or("?"));
            let text = "SIGHUP, or systemctl reload scopegate; its log says what it did not take";
            Found::new("/readyz", State::Warning, seen, text)
        }
        Ok(text) => {
            let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let first = body.lines().next().unwrap_or("not ready").to_owned();
            Found::new("/readyz", State::Fault, first, remedy)
        }
        Err(fault) => Found::new("/readyz", State::Fault, fault.to_string(), remedy),
    }
}

/// An address at which a listener on every address is reached.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_of_before_it_ends() {
        let now = Timestamp(1_000 * 86_400);
        for (days, state) in [(-1, State::Fault), (1, State::Warning), (SOON, State::Good)] {
            let found = expiry("it".into(), now.plus(days * 86_400), now);
            assert_eq!(found.state, state, "{days}: {found:?}");
            assert_eq!(found.remedy.is_empty(), state == State::Good);
        }
    }

    #[test]
    fn a_gateway_with_another_set_than_the_files_is_told_of() {
        let said = |text: &str| ready(Ok(format!("HTTP/1.1 {text}")), "abc").state;
        assert_eq!(said("200 OK\r\n\r\nready\nset abc\n"), State::Good);
        assert_eq!(said("200 OK\r\n\r\nready\nset abd\n"), State::Warning);
        assert_eq!(said("200 OK\r\n\r\nready\n"), State::Warning);
        assert_eq!(said("503 Service Unavailable\r\n\r\nstarting\n"), State::Fault);
    }

    #[test]
    fn the_nearest_clock_counts_and_none_is_no_fault() {
        let told = |apart: &[i64]| {
            let clocks: Vec<_> = apart.iter().map(|apart| ("it".to_owned(), *apart)).collect();
            clock_beside(&clocks).state
        };
        assert_eq!(told(&[]), State::Unknown);
        assert_eq!(told(&[APART + 1, -3600]), State::Warning);
        assert_eq!(told(&[-APART, 3600]), State::Good);
    }
}
