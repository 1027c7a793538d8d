//! Who may be connected: caps in total and by address, counted from accept to close.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::server::Shared;

/// Descriptors that are not for connections: the store, the log, listeners, fetches, and what the libraries open.
const RESERVE: u64 = 256;
/// Descriptors that one connection may need: its own, and one to an upstream.
const EACH: u64 = 2;

/// How many connections the process may have open, of those that the configuration allows: the limit of open files is raised as
/// far as it goes, and what still does not fit is not taken. Without descriptors nothing works any more, the metrics listener included.
#[must_use]
pub fn affordable(wanted: usize) -> usize {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if setrlimit(Resource::Nofile, limit).is_err() {
            limit = getrlimit(Resource::Nofile);
        }
    }
    let Some(files) = limit.current else { return wanted };
    let most = usize::try_from(files.saturating_sub(RESERVE) / EACH).unwrap_or(usize::MAX).max(1);
    if most < wanted {
        tracing::warn!(
            "edge.max_connections: {wanted} do not fit into {files} open files; {most} will be taken (raise LimitNOFILE)"
        );
    }
    wanted.min(most)
}

/// Open connections, in total and by address.
#[derive(Debug)]
pub struct Connections {
    open: Mutex<(usize, HashMap<IpAddr, Count>)>,
    most: usize,
}

/// What one address has open.
#[derive(Debug, Default)]
struct Count {
    connections: usize,
    /// Requests under way over HTTP/2.
    streams: usize,
}

/// An address has as many requests under way as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Connections {
    /// None yet, and at most so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { open: Mutex::default(), most }
    }

    fn lock(&self) -> MutexGuard<'_, (usize, HashMap<IpAddr, Count>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.lock().0
    }
}

/// One open connection; counts itself out when dropped.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    address: Option<IpAddr>,
}

impl Place {
    /// Takes a place among all, unless the cap is reached.
    ///
    /// # Errors
    /// The name of the cap.
    pub fn take(shared: &Arc<Shared>) -> Result<Self, &'static str> {
        let mut open = shared.connections.lock();
        if open.0 >= shared.connections.most {
            return Err("total");
        }
        open.0 += 1;
        Ok(Self { shared: shared.clone(), address: None })
    }

    /// Takes one among those of an address too. Trusted proxies stand for many clients: only the total counts for them.
    ///
    /// # Errors
    /// The name of the cap.
    pub fn of(&mut self, address: IpAddr) -> Result<(), &'static str> {
        if self.shared.snapshot.load().config.trusted_proxies.contains(address) {
            return Ok(());
        }
        let site = crate::request::address::site(address);
        let mut open = self.shared.connections.lock();
        let count = open.1.entry(site).or_default();
        if count.connections >= self.shared.fixed.edge.max_connections_per_address {
            return Err("address");
        }
        count.connections += 1;
        self.address = Some(site);
        Ok(())
    }

    /// Counts a request in that has come over HTTP/2. Over HTTP/1 connections are the bound; without this one, HTTP/2 would have a
    /// hundred times that.
    ///
    /// # Errors
    /// The address has too many.
    pub fn open_stream(&self) -> Result<(), Full> {
        let Some(address) = self.address else { return Ok(()) };
        let mut open = self.shared.connections.lock();
        let count = open.1.entry(address).or_default();
        if count.streams >= self.shared.fixed.edge.max_connections_per_address {
            return Err(Full);
        }
        count.streams += 1;
        Ok(())
    }

    /// Counts it out.
    pub fn close_stream(&self) {
        let Some(address) = self.address else { return };
        if let Some(count) = self.shared.connections.lock().1.get_mut(&address) {
            count.streams = count.streams.saturating_sub(1);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.shared.connections.lock();
        open.0 = open.0.saturating_sub(1);
        if let Some(address) = self.address
            && let Some(count) = open.1.get_mut(&address)
        {
            count.connections = count.connections.saturating_sub(1);
            if count.connections == 0 && count.streams == 0 {
                open.1.remove(&address);
            }
        }
    }
}
