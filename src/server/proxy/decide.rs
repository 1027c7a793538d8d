//! The decision for a host proxy: it asks what it may forward, and is told who calls. Nothing is
//! forwarded here; everything up to that is the same as for every other request.

mod check;
mod messages;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use pingora::{Error, ErrorType, Result};

use super::admit::Admitted;
use super::client::direct::Direct;
use super::client::{Answer, Requester};
use super::driver::Gateway;
use super::exchange::{Exchange, Permitted, Stage};
use super::lines::{Lines, OwnLines};
use super::under_way::UnderWay;
use super::{answer, identity_headers, refusal};
use crate::config::UpstreamAuthorization;
use crate::reason::{Reason, Refusal, quoted};
use crate::request::cookie::{Kept, without_ours};
use crate::request::fields::Fields;
use crate::request::head::Head;
use crate::request::headers::{ONE_HOP, removed_by_hosts};
use crate::request::original::{Dialect, ENVOY, OF_HOSTS, Own, Question, UPSTREAM, original};
use crate::server::edge::conn::Conn;
use crate::server::upstream::Servers;
use crate::system::clock;
use crate::telemetry::decision_id;

/// Tells Envoy which headers of a request it is to remove.
const ENVOY_REMOVES: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// A host proxy with its question.
pub(super) trait Asker: Requester {
    /// What it says by itself of the request that it asks about; `check` is the head of what it
    /// asks with.
    fn question<'a>(&'a self, check: &'a Head) -> Question<'a>;

    /// The upstream that it would forward to, where it says so.
    fn upstream(&self) -> Option<&[u8]>;

    /// Says that the request may be forwarded, and with what.
    ///
    /// # Errors
    /// The host went away.
    fn permit(&mut self, told: Told<'_>) -> impl Future<Output = Result<()>> + Send;
}

/// What a host is told of a permitted request.
pub(super) struct Told<'a> {
    /// Headers for the upstream, in the place of those that the client sent.
    upstream: OwnLines,
    /// Headers for the client.
    client: OwnLines,
    /// Headers of the upstream that only the gateway says besides those that it always does.
    own: Vec<HeaderName>,
    exchange: &'a Exchange,
    permitted: &'a Permitted,
}

/// A fact of a permit, for a host that keeps such.
pub(super) enum Fact {
    /// One text.
    Text(String),
    /// Several.
    Texts(Vec<String>),
}

impl Told<'_> {
    fn says(&self, name: &str) -> bool {
        self.upstream.0.iter().any(|(said, _)| said.as_str() == name)
    }

    /// Headers for the upstream that only the gateway says, and does not say of this request.
    fn missing(&self) -> impl Iterator<Item = HeaderName> {
        let all = identity_headers::ALL.into_iter().chain([AUTHORIZATION, COOKIE]);
        all.chain(self.own.iter().cloned()).filter(|name| !self.says(name.as_str()))
    }

    /// All that a host has to remove of what its client says, of these lines too.
    fn unsaid(&self, fields: &impl Fields) -> BTreeSet<String> {
        let managed = removed_by_hosts().filter(|name| !self.says(name)).map(str::to_owned);
        let envoy = fields.lines().filter(|(name, _)| name.starts_with(ENVOY));
        let missing = self.missing().map(|name| name.as_str().to_owned());
        let of_others = OF_HOSTS.into_iter().filter(|name| {
            !matches!(*name, "x-forwarded-for" | "x-forwarded-proto") && !self.says(name)
        });
        let hops = ONE_HOP.into_iter().chain(of_others).map(str::to_owned);
        let envoy = envoy.map(|(name, _)| name.to_owned());
        missing.chain(managed).chain(hops).chain(envoy).collect()
    }

    /// Who calls, and what it matched.
    fn facts(&self) -> Vec<(&'static str, Fact)> {
        let rules = self.exchange.snapshot.rules();
        let api = rules.api_of(self.permitted.permit.operation());
        let text = |text: &str| Fact::Text(text.to_owned());
        let mut facts = vec![("decision_id", Fact::Text(self.exchange.id.to_text()))];
        if let Some(api) = api {
            facts.push(("api", text(api.name.as_str())));
        }
        if let Some(principal) = &self.permitted.principal {
            facts.push(("issuer", text(principal.facts().issuer.as_str())));
            facts.push(("client", text(principal.client().id.as_str())));
            facts.push(("subject", text(&principal.facts().subject)));
            let scopes = principal.scopes();
            let scopes = scopes.as_slice().iter().map(|scope| scope.as_str().to_owned());
            facts.push(("scopes", Fact::Texts(scopes.collect())));
            let roles = principal.roles(rules);
            let roles = roles.iter().map(|role| role.as_str().to_owned());
            facts.push(("roles", Fact::Texts(roles.collect())));
        }
        facts
    }
}

impl Gateway {
    /// Answers a host that asks about a request.
    pub(super) async fn decide<A: Asker>(
        &self,
        asker: &mut A,
        conn: &Arc<Conn>,
        dialect: Dialect,
        check: std::result::Result<Head, Refusal>,
        exchange: &mut UnderWay,
    ) -> Result<()> {
        exchange.asked_by = Some(dialect);
        let head = check.and_then(|check| self.original(asker, conn, dialect, &check, exchange));
        match self.admit(asker, conn, head, exchange).await? {
            Admitted::Answered => Ok(()),
            Admitted::Endpoint(_) => {
                let text = "an endpoint of the gateway, which the host is to forward to it";
                exchange.refuse(Refusal::because(Reason::OperationUnknown, text));
                Self::refuse_decided(asker, exchange).await
            }
            Admitted::Forward => {
                let elsewhere = forwards_elsewhere(asker.upstream(), exchange);
                if let Some(text) = elsewhere.or_else(|| unheld(exchange)) {
                    exchange.revoke(Refusal::because(Reason::GatewayBroken, text));
                    return Self::refuse_decided(asker, exchange).await;
                }
                exchange.status = 200;
                match self.told(asker.fields(), exchange)? {
                    Some(told) => asker.permit(told).await,
                    None => Error::e_explain(ErrorType::InternalError, "told without a permit"),
                }
            }
        }
    }

    /// The head that the host asks about.
    fn original<A: Asker>(
        &self,
        asker: &A,
        conn: &Conn,
        dialect: Dialect,
        check: &Head,
        exchange: &Exchange,
    ) -> std::result::Result<Head, Refusal> {
        let trusted = &exchange.snapshot.config.trusted_proxies;
        if let Some(peer) = conn.peer.filter(|peer| !trusted.contains(*peer)) {
            let text = format!("{peer} asks, which is none of `trusted_proxies`");
            return Err(Refusal::because(Reason::RequestMalformed, text));
        }
        let own = |name: &str| {
            let mut servers = exchange.snapshot.all_servers().filter(|it| it.is_said_by_us(name));
            match servers.next() {
                None => Own::No,
                Some(first) if first.names_as_written(name) => Own::Written,
                Some(_) if servers.any(|it| it.names_as_written(name)) => Own::Written,
                Some(_) => Own::Alias,
            }
        };
        let limits = &self.shared.fixed.edge.limits;
        original(dialect, asker.question(check), asker.fields(), own, limits)
    }

    async fn refuse_decided<A: Asker>(asker: &mut A, exchange: &mut UnderWay) -> Result<()> {
        let Stage::Refused(refused) = &exchange.stage else { return Ok(()) };
        let refusal = refused.refusal.clone();
        refusal::refuse(asker, exchange, &refusal, false).await
    }

    /// What the host is told of a permitted request; nothing where there is no permit.
    fn told<'a>(&self, fields: &impl Fields, exchange: &'a Exchange) -> Result<Option<Told<'a>>> {
        let Stage::Permitted(permitted) = &exchange.stage else { return Ok(None) };
        let Some(servers) = exchange.snapshot.servers(permitted.permit.operation()) else {
            return Ok(None);
        };
        let mut upstream = OwnLines::default();
        let mut writer = identity_headers::Writer::default();
        if let Some(principal) = &permitted.principal {
            let out = &mut upstream;
            if servers.declared.assertion {
                let (name, now) = (&servers.declared.name, clock::now());
                identity_headers::assert(out, principal, exchange, name, &self.shared, now)?;
            } else {
                let rules = exchange.snapshot.rules();
                identity_headers::write(out, &mut writer, principal, rules)?;
                let claims = &servers.declared.claims;
                identity_headers::write_claims(out, &mut writer, principal, claims)?;
            }
        }
        if servers.declared.authorization == UpstreamAuthorization::Keep
            && let Some(value) = fields.first("authorization")
        {
            upstream.put_secret(&AUTHORIZATION, value)?;
        }
        if let Some(cookie) = cookies(fields) {
            upstream.put(&COOKIE, &cookie)?;
        }
        upstream.put(&decision_id::HEADER, &exchange.id.digits())?;
        let mut client = OwnLines::default();
        answer::write_own_lines(exchange, &mut client)?;
        Ok(Some(Told { upstream, client, own: own(servers), exchange, permitted }))
    }
}

/// The cookies of a request without ours, in one line.
fn cookies(fields: &impl Fields) -> Option<Vec<u8>> {
    let mut all: Vec<u8> = Vec::new();
    for line in fields.all("cookie") {
        let kept = match without_ours(line) {
            Kept::All => line.to_vec(),
            Kept::Part(kept) => kept,
            Kept::Nothing => continue,
        };
        if !all.is_empty() {
            all.extend_from_slice(b"; ");
        }
        all.extend_from_slice(&kept);
    }
    (!all.is_empty()).then_some(all)
}

/// The headers by which an upstream is told further claims, and those that no client may send it.
fn own(servers: &Servers) -> Vec<HeaderName> {
    let declared = &servers.declared;
    declared.claims.iter().map(|(name, _)| name).chain(&declared.removed).cloned().collect()
}

/// A host that asks over HTTP/1: what is for the upstream and what is for the client is in one
/// answer, out of which it copies what it was told to.
impl Asker for Direct {
    fn question<'a>(&'a self, check: &'a Head) -> Question<'a> {
        Question { method: check.method.as_bytes(), target: self.target(), host: None }
    }

    fn upstream(&self) -> Option<&[u8]> {
        self.fields().first(UPSTREAM)
    }

    async fn permit(&mut self, mut told: Told<'_>) -> Result<()> {
        let mut unsaid = OwnLines::default();
        match self.conn().decides {
            // An empty value removes the header.
            Some(Dialect::Nginx | Dialect::Caddy) => {
                told.missing().try_for_each(|name| unsaid.put(&name, b""))?;
            }
            Some(Dialect::EnvoyHttp) => {
                let names: Vec<String> = told.unsaid(self.fields()).into_iter().collect();
                unsaid.put(&ENVOY_REMOVES, names.join(",").as_bytes())?;
            }
            // It removes what it was told to copy and the answer does not have.
            Some(Dialect::Traefik) => {}
            // It asks by gRPC, and on a listener without a dialect nobody asks.
            Some(Dialect::EnvoyGrpc) | None => {
                return Error::e_explain(ErrorType::InternalError, "not asked over HTTP/1");
            }
        }
        let mut lines = std::mem::take(&mut told.upstream);
        let for_client = std::mem::take(&mut told.client).0.into_iter();
        lines.0.extend(for_client.filter(|(name, _)| *name != decision_id::HEADER));
        lines.0.append(&mut unsaid.0);
        self.answer(Answer { status: 200, lines, body: Vec::new(), close: false }).await
    }
}

/// A host that would forward to another upstream than the one that was judged: its paths and those
/// of the policies part the requests differently.
fn forwards_elsewhere(said: Option<&[u8]>, exchange: &Exchange) -> Option<String> {
    let (said, judged) = (said?, exchange.upstream());
    (said != judged.as_bytes()).then(|| {
        let said = quoted(&String::from_utf8_lossy(said));
        format!("the host would forward to `{said}`, and the operation is of `{judged}`")
    })
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
