//! Networks, and the address of the client behind trusted proxies.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

/// What counts as one address: of IPv6 the /64, which one caller has whole (RFC 6177 §2).
#[must_use]
pub fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Values by network. A look-up costs one hash per prefix length in use, however many networks
/// there are.
#[derive(Clone, Debug)]
pub struct NetworkMap<T> {
    lengths: Vec<(bool, u8)>,
    networks: HashMap<IpNet, Vec<T>>,
}

impl<T> Default for NetworkMap<T> {
    fn default() -> Self {
        Self { lengths: Vec::new(), networks: HashMap::new() }
    }
}

impl<T> NetworkMap<T> {
    /// Builds the map. IPv4-mapped IPv6 networks count as IPv4 ones.
    pub fn new(entries: impl IntoIterator<Item = (IpNet, T)>) -> Self {
        let mut networks: HashMap<IpNet, Vec<T>> = HashMap::new();
        for (network, value) in entries {
            networks.entry(network.trunc()).or_default().push(value);
        }
        let mut lengths: Vec<(bool, u8)> = networks
            .keys()
            .map(|network| (network.addr().is_ipv4(), network.prefix_len()))
            .collect();
        lengths.sort_unstable();
        lengths.dedup();
        Self { lengths, networks }
    }

    /// Every value whose network has the address.
    pub fn matching(&self, address: IpAddr) -> impl Iterator<Item = &T> {
        let address = address.to_canonical();
        self.lengths
            .iter()
            .filter(move |(v4, _)| *v4 == address.is_ipv4())
            .filter_map(move |(_, length)| IpNet::new(address, *length).ok())
            .filter_map(|network| self.networks.get(&network.trunc()))
            .flatten()
    }

    /// Whether no network is in the map.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }
}

/// A set of networks.
#[derive(Clone, Debug)]
pub struct Networks(NetworkMap<()>);

impl Networks {
    /// Builds the set.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(NetworkMap::new(networks.into_iter().map(|network| (network, ()))))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The networks, sorted.
    #[must_use]
    pub fn networks(&self) -> Vec<IpNet> {
        let mut networks: Vec<IpNet> = self.0.networks.keys().copied().collect();
        networks.sort_unstable();
        networks
    }

    /// Whether one of the networks has the address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.matching(address).next().is_some()
    }
}

/// Parses a network; a bare address is a network of one. Host bits must be zero, so that a typing
/// error shows.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| {
        format!("`{text}` is not a network; write for instance 10.0.0.0/8 or 2001:db8::/32")
    })?;
    if network.trunc() == network {
        Ok(network)
    } else {
        Err(format!("`{text}` has bits set outside its prefix; write {}", network.trunc()))
    }
}

/// The client's address: the TCP peer, or behind a trusted proxy the rightmost entry of
/// `X-Forwarded-For` that is no trusted proxy. A peer without an address is a host proxy at a Unix
/// socket, which is trusted. `None` when there is no address to be believed; then
/// no network condition holds.
#[must_use]
pub fn client_address<'a>(
    peer: Option<IpAddr>,
    forwarded_for: impl DoubleEndedIterator<Item = &'a [u8]>,
    trusted: &Networks,
) -> Option<IpAddr> {
    if let Some(peer) = peer.map(|peer| peer.to_canonical()).filter(|peer| !trusted.contains(*peer))
    {
        return Some(peer);
    }
    for line in forwarded_for.rev() {
        for entry in std::str::from_utf8(line).ok()?.rsplit(',') {
            let address = parse_forwarded(entry.trim())?;
            if !trusted.contains(address) {
                return Some(address);
            }
        }
    }
    None
}

/// An entry of `X-Forwarded-For`: an address, in brackets or not, with or without a port.
fn parse_forwarded(entry: &str) -> Option<IpAddr> {
    let address = entry
        .parse::<IpAddr>()
        .ok()
        .or_else(|| entry.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(peer: &str, lines: &[&str], trusted: &[&str]) -> Option<String> {
        let trusted = Networks::new(trusted.iter().map(|network| parse_network(network).unwrap()));
        client_address(
            (!peer.is_empty()).then(|| peer.parse().unwrap()),
            lines.iter().map(|line| line.as_bytes()),
            &trusted,
        )
        .map(|address| address.to_string())
    }

    #[test]
    fn forwarded_addresses_count_only_behind_trusted_proxies() {
        let trusted = &["10.0.0.0/8"][..];
        for (peer, lines, trusted, expect) in [
            ("1.2.3.4", &["9.9.9.9"][..], &[][..], Some("1.2.3.4")),
            ("1.2.3.4", &["9.9.9.9"], trusted, Some("1.2.3.4")),
            ("10.0.0.1", &["9.9.9.9"], trusted, Some("9.9.9.9")),
            ("10.0.0.1", &["8.8.8.8, 9.9.9.9"], trusted, Some("9.9.9.9")),
            ("10.0.0.1", &["8.8.8.8, 10.0.0.2"], trusted, Some("8.8.8.8")),
            ("10.0.0.1", &["8.8.8.8", "9.9.9.9"], trusted, Some("9.9.9.9")),
            ("10.0.0.1", &["9.9.9.9:4711"], trusted, Some("9.9.9.9")),
            ("10.0.0.1", &["[2001:db8::1]:4711"], trusted, Some("2001:db8::1")),
            ("::ffff:10.0.0.1", &["9.9.9.9"], trusted, Some("9.9.9.9")),
            ("10.0.0.1", &[], trusted, None),
            ("10.0.0.1", &["10.0.0.3"], trusted, None),
            ("10.0.0.1", &["unknown"], trusted, None),
            ("10.0.0.1", &["8.8.8.8, unknown"], trusted, None),
            ("10.0.0.1", &["8.8.8.8,"], trusted, None),
            ("", &["8.8.8.8, 9.9.9.9"], trusted, Some("9.9.9.9")),
            ("", &[], trusted, None),
        ] {
            assert_eq!(address(peer, lines, trusted).as_deref(), expect, "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_network_map_gives_every_network_that_has_the_address() {
        let map = NetworkMap::new(
            [
                ("10.0.0.0/8", 1),
                ("10.1.0.0/16", 2),
                ("10.1.0.0/16", 3),
                ("2001:db8::/32", 4),
                ("0.0.0.0/0", 5),
            ]
            .map(|(network, value)| (parse_network(network).unwrap(), value)),
        );
        let found = |address: &str| {
            let mut found: Vec<i32> = map.matching(address.parse().unwrap()).copied().collect();
            found.sort_unstable();
            found
        };
        assert_eq!(found("10.1.2.3"), [1, 2, 3, 5]);
        assert_eq!(found("10.2.2.3"), [1, 5]);
        assert_eq!(found("::ffff:10.2.2.3"), [1, 5]);
        assert_eq!(found("2001:db8::7"), [4]);
        assert_eq!(found("2001:db9::7"), [0; 0]);
    }

    #[test]
    fn a_network_with_host_bits_is_refused_with_the_one_that_was_meant() {
        assert_eq!(
            parse_network("10.1.2.3/8").unwrap_err(),
            "`10.1.2.3/8` has bits set outside its prefix; write 10.0.0.0/8"
        );
        assert!(parse_network("10.0.0.0/33").unwrap_err().contains("is not a network"));
        assert_eq!(parse_network("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
    }
}
