//! Who may be connected: caps in total and by address, counted from accept to close.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::telemetry::cause::ConnectionRefused;

/// Descriptors that are not for connections of clients: the store, the log, listeners, fetches,
/// what the libraries open, and the connections of those who run the gateway ([`SIDE`]).
const RESERVE: u64 = 320;
/// Those of the reserve that are for connections to servers which wait for a request.
const KEPT: u64 = 128;
/// How many of those there may be at all, and what part of all descriptors: one in so many.
const MOST_KEPT: u64 = 4096;
const KEPT_PART: u64 = 8;
/// Descriptors that one connection may need: its own, and one to an upstream.
const EACH: u64 = 2;

/// With fewer places than these the gateway does not start.
const FEWEST: u64 = 16;
/// Where fewer fit than the configuration allows, one address takes at most this part of them.
const SHARES: usize = 4;

/// Connections that a listener for those who run the gateway takes, and of one address among them:
/// their descriptors are not those of clients, so that neither can use up the other's.
pub const SIDE: (usize, usize) = (64, 32);

/// How many files the process may have open; `None` where there is no limit. The limit is raised as
/// far as it goes.
#[must_use]
pub fn descriptors() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    limit.current
}

/// How many connections to servers may wait for a request, in a process that may have so many files
/// open.
#[must_use]
pub fn kept_connections(files: Option<u64>) -> u64 {
    files.map_or(MOST_KEPT, |files| MOST_KEPT.min(files / KEPT_PART))
}

/// How many connections the process may have open, and of one address, of those that the
/// configuration allows: the limit of open files is raised as far as it goes, and what still does
/// not fit is not taken. Without descriptors nothing works any more, the metrics listener included.
///
/// # Errors
/// So few files may be open that nothing can be served.
pub fn affordable(wanted: usize, wanted_per_address: usize) -> Result<(usize, usize), String> {
    let Some(files) = descriptors() else { return Ok((wanted, wanted_per_address)) };
    // A small pool of connections to servers is in the reserve.
    let kept = kept_connections(Some(files)).saturating_sub(KEPT);
    let places = files.saturating_sub(RESERVE + kept) / EACH;
    if places < FEWEST {
        let needed = RESERVE + FEWEST * EACH;
        return Err(format!(
            "{files} files may be open, {needed} have to be at least (raise LimitNOFILE or `ulimit \
                -n`)"
        ));
    }
    let places = usize::try_from(places).unwrap_or(usize::MAX);
    if places >= wanted {
        return Ok((wanted, wanted_per_address));
    }
    // However few fit, it takes several addresses to use them up.
    let per_address = wanted_per_address.min(places / SHARES);
    tracing::warn!(
        "edge.max_connections: {wanted} do not fit into {files} open files; {places} will be \
            taken, {per_address} of one address \
         (raise LimitNOFILE)"
    );
    Ok((places, per_address))
}

/// Open connections of some listeners, and their requests over HTTP/2, in total and by address.
#[derive(Debug)]
pub struct Connections {
    open: Mutex<Open>,
    most: usize,
    /// And at most so many of one address; as many requests over HTTP/2.
    most_per_address: usize,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// Requests under way over HTTP/2. Each may need a descriptor to an upstream, as a connection
    /// of HTTP/1 does.
    streams: usize,
    by_address: HashMap<IpAddr, Count>,
}

/// What one address has open.
#[derive(Debug, Default)]
struct Count {
    connections: usize,
    /// Requests under way over HTTP/2.
    streams: usize,
}

/// As many requests are under way as may be, of an address or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Connections {
    /// None yet.
    #[must_use]
    pub fn new(most: usize, most_per_address: usize) -> Self {
        Self { open: Mutex::default(), most, most_per_address }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.lock().total
    }
}

/// One open connection; counts itself out when dropped.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    address: Option<IpAddr>,
}

impl Place {
    /// Takes a place among all, unless the cap is reached.
    ///
    /// # Errors
    /// The cap.
    pub fn take(connections: &Arc<Connections>) -> Result<Self, ConnectionRefused> {
        let mut open = connections.lock();
        if open.total + open.streams >= connections.most {
            return Err(ConnectionRefused::Total);
        }
        open.total += 1;
        Ok(Self { connections: connections.clone(), address: None })
    }

    /// Takes one among those of an address too. Not for trusted proxies, which stand for many
    /// clients: only the total counts for them.
    ///
    /// # Errors
    /// The cap.
    pub fn of(&mut self, address: IpAddr) -> Result<(), ConnectionRefused> {
        let site = crate::request::address::site(address);
        let mut open = self.connections.lock();
        let count = open.by_address.entry(site).or_default();
        if count.connections >= self.connections.most_per_address {
            return Err(ConnectionRefused::Address);
        }
        count.connections += 1;
        self.address = Some(site);
        Ok(())
    }

    /// Counts a request in that has come over HTTP/2. Over HTTP/1 connections are the bound;
    /// without this one, HTTP/2 would have a hundred times that.
    ///
    /// # Errors
    /// The address has too many, or all together.
    pub fn open_stream(&self) -> Result<(), Full> {
        let mut open = self.connections.lock();
        // A quarter of the places is for connections alone: those who have many requests do not
        // shut out who has none.
        if open.total + open.streams >= self.connections.most - self.connections.most / 4 {
            return Err(Full);
        }
        if let Some(address) = self.address {
            let count = open.by_address.entry(address).or_default();
            if count.streams >= self.connections.most_per_address {
                return Err(Full);
            }
            count.streams += 1;
        }
        open.streams += 1;
        Ok(())
    }

    /// Counts it out.
    pub fn close_stream(&self) {
        let mut open = self.connections.lock();
        open.streams = open.streams.saturating_sub(1);
        if let Some(count) = self.address.and_then(|address| open.by_address.get_mut(&address)) {
            count.streams = count.streams.saturating_sub(1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        open.total = open.total.saturating_sub(1);
        if let Some(address) = self.address
            && let Some(count) = open.by_address.get_mut(&address)
        {
            count.connections = count.connections.saturating_sub(1);
            if count.connections == 0 && count.streams == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_over_http2_take_of_the_same_descriptors_as_connections() {
        let connections = Arc::new(Connections::new(10, 4));
        let mut first = Place::take(&connections).unwrap();
        first.of(IpAddr::from([10, 0, 0, 1])).unwrap();
        for _ in 0..4 {
            assert_eq!(first.open_stream(), Ok(()));
        }
        assert_eq!(first.open_stream(), Err(Full), "of the address");
        // A trusted proxy has no cap of its own. Of ten places a quarter is left.
        let proxy = Place::take(&connections).unwrap();
        assert_eq!(
            (proxy.open_stream(), proxy.open_stream(), proxy.open_stream()),
            (Ok(()), Ok(()), Err(Full))
        );
        let others = (Place::take(&connections).unwrap(), Place::take(&connections).unwrap());
        assert_eq!(Place::take(&connections).map(drop), Err(ConnectionRefused::Total));
        proxy.close_stream();
        assert_eq!(Place::take(&connections).map(drop), Ok(()));
        for _ in 0..4 {
            first.close_stream();
        }
        proxy.close_stream();
        drop((first, proxy, others));
        let open = connections.lock();
        assert_eq!((open.total, open.streams, open.by_address.len()), (0, 0, 0));
    }
}
