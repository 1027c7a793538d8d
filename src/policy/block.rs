//! Blocks: callers and networks refused before all policies, by a policy file or by a command.

use std::collections::HashMap;
use std::net::IpAddr;

use super::principal::Principal;
use crate::names::{ClientId, Origin, Timestamp, UserName};
use crate::reason::{Reason, Refusal};
use crate::request::address::NetworkMap;

/// A block: everything it lists is refused before all policies.
#[derive(Clone, Debug, Default)]
pub struct Block {
    /// Networks.
    pub from: Vec<ipnet::IpNet>,
    /// Clients.
    pub clients: Vec<ClientId>,
    /// Users.
    pub users: Vec<UserName>,
    /// `jti` values.
    pub tokens: Vec<String>,
    /// The end.
    pub until: Option<Timestamp>,
    /// Its position in the config file; none if a command has set it.
    pub origin: Origin,
}

/// The end of a block, if it has one.
#[derive(Clone, Copy, Debug)]
struct Until(Option<Timestamp>);

impl Until {
    fn active(self, now: Timestamp) -> bool {
        self.0.is_none_or(|end| now < end)
    }
}

/// Blocks, indexed by their subject.
#[derive(Debug, Default)]
pub struct Blocks {
    networks: NetworkMap<Until>,
    clients: HashMap<ClientId, Until>,
    users: HashMap<UserName, Until>,
    tokens: HashMap<String, Until>,
}

impl Blocks {
    /// Indexes blocks. Of two with one subject the longer one applies.
    #[must_use]
    pub fn new(blocks: &[Block]) -> Self {
        let networks = blocks
            .iter()
            .flat_map(|block| block.from.iter().map(move |network| (*network, Until(block.until))));
        let mut all = Self { networks: NetworkMap::new(networks), ..Self::default() };
        for block in blocks {
            block.clients.iter().for_each(|id| extend(&mut all.clients, id, block));
            block.users.iter().for_each(|name| extend(&mut all.users, name, block));
            block.tokens.iter().for_each(|id| extend(&mut all.tokens, id, block));
        }
        all
    }

    /// Step 1: the network that a request comes from.
    ///
    /// # Errors
    /// Returns `blocked.network`.
    pub fn check_network(&self, address: IpAddr, now: Timestamp) -> Result<(), Refusal> {
        if self.networks.matching(address).any(|until| until.active(now)) {
            return Err(Refusal::new(Reason::BlockedNetwork));
        }
        Ok(())
    }

    /// Step 6: who calls.
    ///
    /// # Errors
    /// Returns `blocked.client`, `blocked.user` or `blocked.token`.
    pub fn check(&self, principal: &Principal, now: Timestamp) -> Result<(), Refusal> {
        let active = |until: Option<&Until>| until.is_some_and(|until| until.active(now));
        if active(self.clients.get(&principal.client().id)) {
            return Err(Refusal::new(Reason::BlockedClient));
        }
        if principal.user().is_some_and(|user| active(self.users.get(&user.name))) {
            return Err(Refusal::new(Reason::BlockedUser));
        }
        if principal.facts().id.as_ref().is_some_and(|id| active(self.tokens.get(id))) {
            return Err(Refusal::new(Reason::BlockedToken));
        }
        Ok(())
    }
}

/// Of two blocks with one subject, the longer one applies.
fn extend<K: Clone + Eq + std::hash::Hash>(
    blocked: &mut HashMap<K, Until>,
    key: &K,
    block: &Block,
) {
    blocked
        .entry(key.clone())
        .and_modify(|until| {
            until.0 = match (until.0, block.until) {
                (Some(a), Some(b)) => Some(a.max(b)),
                _ => None,
            };
        })
        .or_insert(Until(block.until));
}
