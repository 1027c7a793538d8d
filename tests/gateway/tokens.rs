//! Tokens through the running gateway: forged, malformed, of the wrong kind, of another issuer, of
//! another client, cached and outdated. Issuers and signatures are those of `support::issuer`; our
//! own tokens are signed here with the gateway's own key, so that its own tokens can be wrong too.

mod claims;
mod clients;
mod forged;
mod fetching;
mod form;
mod introspection;
mod keys;
mod library;
mod outage;
mod second_reader;
mod tenants;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::pkcs8::DecodePrivateKey as _;
use serde_json::{Value, json};

use crate::support::issuer::{Key, now};
use crate::support::{Gateway, Issuer, Response, Setup};

/// The challenge of every fault of a token (RFC 6750 §3.1).
const INVALID_TOKEN: &str = "Bearer realm=\"scopegate\", error=\"invalid_token\", \
    error_description=\"the token is expired, \
                             revoked, malformed or not for this gateway; get a new one\"";
/// The challenge of what is no token at all.
const MALFORMED_TOKEN: &str = "Bearer realm=\"scopegate\", error=\"invalid_token\", \
    error_description=\"the Authorization header is not of the form Bearer token, or the token is \
    longer than edge.max_token_size\"";

const POLICIES: &str = "
apis:
  items: { base_path: /api, upstream: api, resources: { /items: [GET, POST] } }
  admin: { base_path: /admin, upstream: api, resources: { /x: [GET] } }
auth_scopes:
  items_read: { grants: [{ api: items, methods: [GET] }, { api: admin }] }
  items_write: { grants: [{ api: items, methods: [POST] }] }
acls: [{ api: admin, roles: { all: [itil] } }]
";

/// One client of our own, and one that `app` of each of these issuers is.
fn clients(issuers: &[&str]) -> String {
    let external: Vec<String> = issuers.iter().map(|issuer| format!("{issuer}: [app]")).collect();
    format!(
        "clients:\n  own: {{ grants: [client_credentials], secrets: [{{ sha256: @SHA256@ }}], \
            auth_scopes: [items_read, items_write] }}\n  \
         app-here: {{ auth_scopes: [items_read], external: {{ {} }} }}\n",
        external.join(", ")
    )
}

/// Header and payload as texts, so that they can be wrong in every way; signed over what they then
/// are.
fn sign(key: &Key, header: &str, payload: impl AsRef<[u8]>) -> String {
    let input =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload.as_ref()));
    let signature = key.signature(input.as_bytes());
    with_signature(&input, &signature)
}

fn with_signature(input: &str, signature: &[u8]) -> String {
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// An object with these members set; `null` is a value, not a removal.
fn with(object: &Value, members: &Value) -> Value {
    let mut object = object.clone();
    for (name, value) in members.as_object().unwrap() {
        object[name] = value.clone();
    }
    object
}

fn without(object: &Value, member: &str) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().remove(member).unwrap();
    object
}

/// A gateway with two issuers that both call their key `k1`.
struct Bench {
    gateway: Gateway,
    /// ES256 `k1` and EdDSA `e1`; found through its metadata.
    corp: Issuer,
    key: Key,
    ed: Key,
    /// ES256 `k1`, another one; at a URL.
    other: Issuer,
    other_key: Key,
}

impl Bench {
    fn start() -> Self {
        let (key, ed, other_key) = (Key::p256("k1"), Key::ed25519("e1"), Key::p256("k1"));
        let corp = Issuer::start(&[key.clone(), ed.clone()]);
        let other = Issuer::start(std::slice::from_ref(&other_key));
        let mut setup = Setup::new(POLICIES, &clients(&["corp", "other"]));
        setup.gateway =
            format!("issuers:\n{}{}", issuer("corp", &corp, "discover"), at_url("other", &other));
        let gateway = Gateway::start(&setup);
        let bench = Self { gateway, corp, key, ed, other, other_key };
        // Every refusal below is one of a token that would otherwise be taken.
        for (key, issuer) in
            [(&bench.key, &bench.corp), (&bench.ed, &bench.corp), (&bench.other_key, &bench.other)]
        {
            permit(&bench.gateway, "the plain token", &key.token(&issuer.claims(now()))).unwrap();
        }
        bench
    }

    /// Claims of the issuer found through its metadata.
    fn claims(&self) -> Value {
        self.corp.claims(now())
    }

    fn token(&self, claims: &Value) -> String {
        self.key.token(claims)
    }

    /// Whether the token is refused with this fault, and with all that goes with it.
    fn refuse(&self, what: &str, token: &str, fault: &str) -> Result<(), String> {
        refuse(&self.gateway, what, token, fault)
    }

    fn permit(&self, what: &str, token: &str) -> Result<(), String> {
        permit(&self.gateway, what, token)
    }
}

/// An entry of `issuers:` with the settings that most tests share.
fn issuer(name: &str, issuer: &Issuer, keys: &str) -> String {
    format!(
        "  {name}: {{ issuer: \"{}\", audience: [\"https://api.example\"], algorithms: [ES256, \
            EdDSA], keys: {keys}, \
         claims: {{ client: azp, scopes: scp, roles: groups }}, roles: {{ grp-itil: itil }} }}\n",
        issuer.url
    )
}

fn at_url(name: &str, server: &Issuer) -> String {
    issuer(name, server, &format!("{{ jwks_url: \"{}/jwks\" }}", server.url))
}

/// The gateway's own signing key.
fn own_key(gateway: &Gateway) -> Key {
    let keys = gateway.store().keys().unwrap();
    let current = keys.iter().find_map(|key| key.private_key.as_ref()).unwrap();
    let key = p256::ecdsa::SigningKey::from_pkcs8_der(current).unwrap();
    let jwks = gateway.get("/.well-known/jwks.json", None).json();
    Key::P256(jwks["keys"][0]["kid"].as_str().unwrap().to_owned(), key)
}

fn own_url(gateway: &Gateway) -> String {
    format!("http://{}", gateway.address)
}

/// Claims as the token endpoint gives them.
fn own_claims(gateway: &Gateway) -> Value {
    let (url, now) = (own_url(gateway), now());
    json!({"iss": url, "sub": "own", "aud": url, "exp": now + 300, "iat": now, "jti": "j",
        "client_id": "own", "scope": "items_read"})
}

fn own_header(key: &Key) -> Value {
    with(&key.header(), &json!({"typ": "at+jwt"}))
}

/// The call of all tests that say nothing else.
fn call(gateway: &Gateway, token: &str) -> Response {
    gateway.upstream.clear();
    gateway.get("/api/items", Some(token))
}

fn permit(gateway: &Gateway, what: &str, token: &str) -> Result<(), String> {
    let response = call(gateway, token);
    let forwarded = gateway.upstream.requests().len();
    if response.status == 200 && forwarded == 1 {
        Ok(())
    } else {
        Err(format!("{what}: not permitted, {forwarded} forwarded: {response:?}"))
    }
}

/// Status, reason, challenge, nothing forwarded, nothing said to the caller that only the log may
/// know, and the precise fault in the record of the decision.
fn refuse(gateway: &Gateway, what: &str, token: &str, fault: &str) -> Result<(), String> {
    let response = call(gateway, token);
    refused(gateway, what, &response, (401, "token.invalid", Some(INVALID_TOKEN)), fault)?;
    // One body for every fault, so that a caller learns from none of them.
    let body = json!({
        "type": "urn:scopegate:reason:token.invalid",
        "title": "Invalid token",
        "status": 401,
        "detail": "the token is expired, revoked, malformed or not for this gateway; get a new one",
        "reason": "token.invalid",
        "decision_id": response.header("X-Decision-Id").unwrap(),
    });
    if response.json() == body {
        Ok(())
    } else {
        Err(format!("{what}: another body than that of every fault: {response:?}"))
    }
}

/// Any refusal: status, reason and challenge, and a fault in the record that contains this one.
fn refused(
    gateway: &Gateway,
    what: &str,
    response: &Response,
    (status, reason, challenge): (u16, &str, Option<&str>),
    fault: &str,
) -> Result<(), String> {
    let forwarded = gateway.upstream.requests().len();
    if forwarded > 0 {
        return Err(format!("{what}: {forwarded} requests reached the upstream: {response:?}"));
    }
    // Where to learn more stands behind every challenge (RFC 9728 §5.1).
    let said = response.header("WWW-Authenticate");
    let (said, pointed) = match said.and_then(|said| said.split_once(", resource_metadata=")) {
        Some((said, _)) => (Some(said), true),
        None => (said, false),
    };
    if response.status != status
        || response.verdict() != reason
        || said != challenge
        || pointed != said.is_some()
    {
        return Err(format!("{what}: not {status} {reason} {challenge:?} but {response:?}"));
    }
    if response.header("Cache-Control") != Some("no-store") {
        return Err(format!("{what}: may be cached: {response:?}"));
    }
    let record = gateway.record(response.header("X-Decision-Id").expect("a decision id"));
    let exact = record["fault"].as_str().unwrap_or_default();
    // A fault begins with its label; behind it is what was seen and what was wanted.
    let label = exact.split(':').next();
    let same = if reason == "token.invalid" { label == Some(fault) } else { exact.contains(fault) };
    if !same
        || record["verdict"] != "refuse"
        || record["reason"] != reason
        || record["status"] != status
    {
        return Err(format!("{what}: expected the fault {fault:?}, recorded was {record}"));
    }
    Ok(())
}

/// Tries every token and fails with all that came out otherwise; gives how many there were.
fn all_refused(bench: &Bench, tokens: &[(String, String, &str)]) -> usize {
    let wrong: Vec<String> = tokens
        .iter()
        .filter_map(|(what, token, fault)| {
            let refused = bench.refuse(what, token, fault).err()?;
            // Beyond the budget it is not known whether a name exists: not the caller's fault.
            let busy = (503, "issuer.unavailable", None);
            let spent = *fault == "key_unknown" && {
                let response = call(&bench.gateway, token);
                self::refused(&bench.gateway, what, &response, busy, "too many fetches").is_ok()
            };
            (!spent).then_some(refused)
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), tokens.len(), wrong.join("\n"));
    // And it was not the gateway that had stopped to take any.
    bench.permit("the plain token, afterwards", &bench.token(&bench.claims())).unwrap();
    tokens.len()
}

/// The row of a list of tokens.
fn row(what: impl Into<String>, token: String, fault: &str) -> (String, String, &str) {
    (what.into(), token, fault)
}
