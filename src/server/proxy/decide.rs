//! The decision for a host proxy: it asks what it may forward, and is told who calls. Nothing is
//! forwarded here; everything up to that is the same as for every other request.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderName};
use pingora::Result;

use super::admit::Admitted;
use super::client::direct::Direct;
use super::client::{Answer, Client};
use super::driver::Gateway;
use super::exchange::{Exchange, Stage};
use super::lines::{Lines, OwnLines};
use super::under_way::UnderWay;
use super::{answer, identity_headers, refusal};
use crate::config::UpstreamAuthorization;
use crate::reason::{Reason, Refusal};
use crate::request::fields::Fields;
use crate::request::head::Head;
use crate::request::headers::removed_by_hosts;
use crate::request::original::Dialect;
use crate::request::original::original;
use crate::server::edge::conn::Conn;
use crate::server::upstream::Servers;
use crate::system::clock;

/// Tells Envoy which headers of a request it is to remove.
const ENVOY_REMOVES: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

impl Gateway {
    /// Answers a host that asks about a request.
    pub(super) async fn decide(
        &self,
        client: &mut Direct,
        conn: &Arc<Conn>,
        dialect: Dialect,
        check: std::result::Result<Head, Refusal>,
        exchange: &mut UnderWay,
    ) -> Result<()> {
        exchange.asked_by = Some(dialect);
        let head = check.and_then(|check| self.original(client, conn, dialect, &check, exchange));
        match self.admit(client, conn, head, exchange).await? {
            Admitted::Answered => Ok(()),
            Admitted::Endpoint(_) => {
                let text = "an endpoint of the gateway, which the host is to forward to it";
                exchange.refuse(Refusal::because(Reason::OperationUnknown, text));
                self.refuse_decided(client, exchange).await
            }
            Admitted::Forward => {
                if let Some(text) = unheld(exchange) {
                    exchange.revoke(Refusal::because(Reason::GatewayBroken, text));
                    return self.refuse_decided(client, exchange).await;
                }
                let lines = self.told(client, dialect, exchange)?;
                exchange.status = 200;
                client.answer(Answer { status: 200, lines, body: Vec::new(), close: false }).await
            }
        }
    }

    /// The head that the host asks about.
    fn original(
        &self,
        client: &Direct,
        conn: &Conn,
        dialect: Dialect,
        check: &Head,
        exchange: &Exchange,
    ) -> std::result::Result<Head, Refusal> {
        if !exchange.snapshot.config.trusted_proxies.contains(conn.peer) {
            let text = format!("{} asks, which is none of `trusted_proxies`", conn.peer);
            return Err(Refusal::because(Reason::RequestMalformed, text));
        }
        let said = |name: &str| {
            exchange.snapshot.all_servers().any(|servers| servers.names_as_written(name))
        };
        let (fields, limits) = (client.fields(), &self.shared.fixed.edge.limits);
        original(dialect, check, client.target(), fields, said, limits)
    }

    async fn refuse_decided(&self, client: &mut Direct, exchange: &mut UnderWay) -> Result<()> {
        let Stage::Refused(refused) = &exchange.stage else { return Ok(()) };
        let refusal = refused.refusal.clone();
        refusal::refuse(client, exchange, &refusal, false).await
    }

    /// What the host is told of a permitted request: every header that only the gateway says has a
    /// value, or is to be removed in the dialect's way.
    fn told(&self, client: &Direct, dialect: Dialect, exchange: &Exchange) -> Result<OwnLines> {
        let mut lines = OwnLines::default();
        let Stage::Permitted(permitted) = &exchange.stage else { return Ok(lines) };
        let Some(servers) = exchange.snapshot.servers(permitted.permit.operation()) else {
            return Ok(lines);
        };
        let mut writer = identity_headers::Writer::default();
        if let Some(principal) = &permitted.principal {
            if servers.declared.assertion {
                let (name, now) = (&servers.declared.name, clock::now());
                identity_headers::assert(&mut lines, principal, exchange, name, &self.shared, now)?;
            } else {
                let rules = exchange.snapshot.rules();
                identity_headers::write(&mut lines, &mut writer, principal, rules)?;
                identity_headers::write_claims(
                    &mut lines,
                    &mut writer,
                    principal,
                    &servers.declared.claims,
                )?;
            }
        }
        if servers.declared.authorization == UpstreamAuthorization::Keep
            && let Some(value) = client.fields().first("authorization")
        {
            lines.put_secret(&AUTHORIZATION, value)?;
        }
        answer::write_own_lines(exchange, &mut lines)?;
        forget_others(dialect, servers, &mut lines)?;
        Ok(lines)
    }
}

/// Says of every managed header without a value that it is to be removed.
fn forget_others(dialect: Dialect, servers: &Servers, lines: &mut OwnLines) -> Result<()> {
    let declared = &servers.declared;
    let own = declared.claims.iter().map(|(name, _)| name).chain(&declared.removed).cloned();
    let managed = identity_headers::ALL.into_iter().chain([AUTHORIZATION]).chain(own);
    let missing: Vec<HeaderName> =
        managed.filter(|name| !lines.0.iter().any(|(said, _)| said == name)).collect();
    match dialect {
        // An empty value removes the header.
        Dialect::Nginx | Dialect::Caddy => missing.iter().try_for_each(|name| lines.put(name, b"")),
        // It removes what it was told to copy and the answer does not have.
        Dialect::Traefik => Ok(()),
        Dialect::EnvoyHttp => {
            let missing = missing.iter().map(|name| name.as_str().to_owned());
            let managed = removed_by_hosts().map(str::to_owned);
            let managed =
                managed.filter(|name| !lines.0.iter().any(|(said, _)| said.as_str() == name));
            let names: BTreeSet<String> = missing.chain(managed).collect();
            let names: Vec<String> = names.into_iter().collect();
            lines.put(&ENVOY_REMOVES, names.join(",").as_bytes())
        }
    }
}

/// What an API asks of the gateway that only one which forwards can do.
fn unheld(exchange: &Exchange) -> Option<String> {
    let api = exchange.api()?;
    let servers = exchange.snapshot.servers(exchange.operation()?)?;
    let keys = servers.declared.unheld_by_hosts(api);
    let text = || {
        let keys = keys.join(", ");
        format!("`{}` says {keys}, which only a listener that forwards holds", api.name)
    };
    (!keys.is_empty()).then(text)
}
