//! Which client a token is, which roles and scopes it has: by the mapping of its issuer and by
//! nothing that it says itself.

use serde_json::{Value, json};

use super::{INVALID_TOKEN, POLICIES, issuer, refuse, refused, with, without};
use crate::support::issuer::{Key, now};
use crate::support::{Gateway, Issuer, Setup};

const CLIENTS: &str = "
clients:
  own: { grants: [client_credentials], secrets: [{ sha256: @SHA256@ }], auth_scopes: [items_read, \
    items_write], application_user: alice }
  app-here: { auth_scopes: [items_read], external: { corp: [app, app2] } }
  any-corp: { auth_scopes: [items_read], roles: [itil] }
  special: { auth_scopes: [items_read, items_write], external: { fallback: [special-app], plain: \
    [plain-app], corp: [both] } }
  asleep: { active: false, auth_scopes: [items_read], external: { corp: [asleep-app] } }
  unheld: { external: { corp: [unheld-app] } }
";

const UNKNOWN: &str = "Bearer realm=\"scopegate\", error=\"invalid_token\", \
    error_description=\"the client of this token is not registered here\"";
const INACTIVE: &str = "Bearer realm=\"scopegate\", error=\"invalid_token\", \
    error_description=\"the client of this token is not active\"";
const NEEDS_READ: &str = "Bearer realm=\"scopegate\", error=\"insufficient_scope\", \
    error_description=\"the token lacks a scope \
                          that grants this operation\", scope=\"items_read\"";
const NEEDS_WRITE: &str = "Bearer realm=\"scopegate\", error=\"insufficient_scope\", \
    error_description=\"the token lacks a scope \
                           that grants this operation\", scope=\"items_write\"";

const LIST: (&str, &str) = ("GET", "/api/items");
const ADD: (&str, &str) = ("POST", "/api/items");
const ADMIN: (&str, &str) = ("GET", "/admin/x");

/// Three issuers with one key: one that maps all, one with a default client, one that declares no
/// scopes.
struct World {
    gateway: Gateway,
    key: Key,
    corp: Issuer,
    fallback: Issuer,
    plain: Issuer,
    deep: Issuer,
}

impl World {
    fn start() -> Self {
        let key = Key::p256("k1");
        let start = || Issuer::start(std::slice::from_ref(&key));
        let (corp, fallback, plain, deep) = (start(), start(), start(), start());
        let clients = CLIENTS.replace("corp: [both]", "corp: [both], deep: [deep-app]");
        let mut setup = Setup::new(POLICIES, &clients);
        setup.users = "users: { alice: { roles: [itil] }, bob: { roles: [itil] } }\n".to_owned();
        setup.gateway = format!(
            "issuers:\n{}{}{}{}",
            issuer("corp", &corp, "discover"),
            issuer("fallback", &fallback, "discover")
                .replace("keys:", "default_client: any-corp, keys:"),
            issuer("plain", &plain, "discover").replace("scopes: scp, ", ""),
            issuer("deep", &deep, "discover").replace(
                "scopes: scp, roles: groups",
                "scopes: auth.scope, roles: realm_access.roles"
            ),
        );
        Self { gateway: Gateway::start(&setup), key, corp, fallback, plain, deep }
    }

    /// The client, its scopes that count and its roles as the upstream was told, or the reason.
    fn outcome(&self, claims: &Value, (method, target): (&str, &str)) -> String {
        self.gateway.upstream.clear();
        let response = self.gateway.call(method, target, Some(&self.key.token(claims)));
        if response.status != 200 {
            assert!(self.gateway.upstream.requests().is_empty(), "{claims}");
            return response.verdict();
        }
        let head = self.gateway.upstream.last_head();
        let value = |name: &str| {
            let prefix = format!("{name}: ");
            head.iter()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix(&prefix).map(str::to_owned))
                .unwrap_or_default()
        };
        let record = self.gateway.record(response.header("X-Decision-Id").unwrap());
        assert_eq!(record["client"], value("x-auth-client"), "{record}");
        assert_eq!(record["subject"], claims["sub"], "{record}");
        format!(
            "{} [{}] [{}]",
            value("x-auth-client"),
            value("x-auth-scopes"),
            value("x-auth-roles")
        )
    }
}

#[test]
fn a_token_of_another_issuer_is_the_client_that_lists_it() {
    let world = World::start();
    let corp = world.corp.claims(now());
    let azp = |value: Value| with(&corp, &json!({ "azp": value }));
    let default = world.fallback.claims(now());
    let mut wrong = Vec::new();
    for (what, claims, call, expect) in [
        ("a listed value", corp.clone(), LIST, "app-here [items_read] []"),
        ("the second listed value", azp(json!("app2")), LIST, "app-here [items_read] []"),
        // The values are of corp: our own names and those of other issuers are not among them.
        ("one of our client ids", azp(json!("own")), LIST, "client.unknown"),
        ("the id of the mapped client", azp(json!("app-here")), LIST, "client.unknown"),
        ("the id of the default client", azp(json!("any-corp")), LIST, "client.unknown"),
        ("a user's name", azp(json!("alice")), LIST, "client.unknown"),
        ("a value listed for another issuer", azp(json!("special-app")), LIST, "client.unknown"),
        ("another case", azp(json!("APP")), LIST, "client.unknown"),
        ("a space behind", azp(json!("app ")), LIST, "client.unknown"),
        ("a prefix", azp(json!("ap")), LIST, "client.unknown"),
        ("a value of no length", azp(json!("")), LIST, "client.unknown"),
        ("no value", without(&corp, "azp"), LIST, "client.unknown"),
        (
            "the value under our own claim",
            with(&without(&corp, "azp"), &json!({ "client_id": "app" })),
            LIST,
            "client.unknown",
        ),
        (
            "both claims",
            with(&corp, &json!({ "client_id": "own" })),
            LIST,
            "app-here [items_read] []",
        ),
        ("an inactive client", azp(json!("asleep-app")), LIST, "client.inactive"),
        ("a client that holds nothing", azp(json!("unheld-app")), LIST, "scope.missing"),
        // The default client is for every value that nobody lists, our own ids among them.
        ("the default", without(&default, "azp"), LIST, "any-corp [items_read] []"),
        ("the default for an unlisted value", default.clone(), LIST, "any-corp [items_read] []"),
        (
            "the default for one of our client ids",
            with(&default, &json!({ "azp": "own" })),
            LIST,
            "any-corp [items_read] []",
        ),
        (
            "the default has its own scopes",
            with(&default, &json!({ "azp": "own", "scp": "items_write" })),
            ADD,
            "scope.missing",
        ),
        ("the default gives no roles", default.clone(), ADMIN, "acl.role"),
        (
            "listed besides a default",
            with(&default, &json!({ "azp": "special-app", "scp": "items_write" })),
            ADD,
            "special [items_write] []",
        ),
        // Who is meant is never looked up among our own.
        ("a user's name as subject", with(&corp, &json!({ "sub": "alice" })), ADMIN, "acl.role"),
        ("our client's id as subject", with(&corp, &json!({ "sub": "own" })), ADMIN, "acl.role"),
        (
            "our client's id as subject",
            with(&corp, &json!({ "sub": "own" })),
            LIST,
            "app-here [items_read] []",
        ),
    ] {
        let got = world.outcome(&claims, call);
        if got != expect {
            wrong.push(format!("{what}: {got} instead of {expect}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn scopes_are_those_of_the_token_that_the_client_holds_now() {
    let world = World::start();
    let corp = world.corp.claims(now());
    let (plain, deep) = (world.plain.claims(now()), world.deep.claims(now()));
    let scp = |value: Value| with(&corp, &json!({ "scp": value }));
    let both = |value: Value| with(&corp, &json!({ "azp": "both", "scp": value }));
    let plain = with(&plain, &json!({ "azp": "plain-app" }));
    let deep = with(&deep, &json!({ "azp": "deep-app" }));
    let mut wrong = Vec::new();
    for (what, claims, call, expect) in [
        ("as a list", scp(json!(["items_read"])), LIST, "app-here [items_read] []"),
        ("as a text", scp(json!("x items_read  y")), LIST, "app-here [items_read] []"),
        ("declared and absent", without(&corp, "scp"), LIST, "scope.missing"),
        ("declared and empty", scp(json!([])), LIST, "scope.missing"),
        ("declared and of no length", scp(json!("")), LIST, "scope.missing"),
        (
            "in the claim of others",
            with(&without(&corp, "scp"), &json!({ "scope": "items_read" })),
            LIST,
            "scope.missing",
        ),
        ("another case", scp(json!("ITEMS_READ")), LIST, "scope.missing"),
        ("a prefix", scp(json!("items_")), LIST, "scope.missing"),
        ("with a comma", scp(json!("items_read,items_write")), LIST, "scope.missing"),
        (
            "what the client does not hold",
            scp(json!("items_write items_read")),
            ADD,
            "scope.missing",
        ),
        ("what the client holds", both(json!("items_write")), ADD, "special [items_write] []"),
        ("the master scope, not held", both(json!("useraccount")), ADD, "scope.missing"),
        // No claim declared: all that the client holds, whatever the token says.
        (
            "none declared, none said",
            without(&plain, "scp"),
            ADD,
            "special [items_read items_write] []",
        ),
        ("none declared, some said", plain.clone(), ADD, "special [items_read items_write] []"),
        (
            "none declared, nothing said to be held",
            with(&plain, &json!({ "scp": [] })),
            LIST,
            "special [items_read items_write] []",
        ),
        (
            "none declared, but the client lacks it",
            with(&plain, &json!({ "azp": "app" })),
            LIST,
            "client.unknown",
        ),
        // A claim within a claim.
        (
            "within a claim",
            with(&deep, &json!({ "auth": { "scope": "items_read" } })),
            LIST,
            "special [items_read] []",
        ),
        (
            "within a claim that is none",
            with(&deep, &json!({ "auth": "items_read" })),
            LIST,
            "scope.missing",
        ),
        (
            "a claim with the dot in its name",
            with(&deep, &json!({ "auth.scope": "items_read" })),
            LIST,
            "special [items_read] []",
        ),
    ] {
        let got = world.outcome(&claims, call);
        if got != expect {
            wrong.push(format!("{what}: {got} instead of {expect}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn roles_are_mapped_and_nothing_unmapped_is_one() {
    let world = World::start();
    let corp = world.corp.claims(now());
    let groups = |value: Value| with(&corp, &json!({ "groups": value }));
    let deep = with(
        &world.deep.claims(now()),
        &json!({ "azp": "deep-app", "auth": { "scope": "items_read" } }),
    );
    let mut wrong = Vec::new();
    for (what, claims, expect) in [
        ("mapped", groups(json!(["x", "grp-itil"])), "app-here [items_read] [itil]"),
        ("mapped, as a text", groups(json!("grp-itil")), "app-here [items_read] [itil]"),
        ("mapped twice", groups(json!(["grp-itil", "grp-itil"])), "app-here [items_read] [itil]"),
        ("our role's name, unmapped", groups(json!(["itil"])), "acl.role"),
        ("another case", groups(json!(["GRP-ITIL"])), "acl.role"),
        ("several in one text", groups(json!("grp-itil x")), "acl.role"),
        ("none", corp.clone(), "acl.role"),
        ("in the claim of others", with(&corp, &json!({ "roles": ["grp-itil"] })), "acl.role"),
        ("of the client it is", with(&corp, &json!({ "azp": "own" })), "client.unknown"),
        (
            "within a claim",
            with(&deep, &json!({ "realm_access": { "roles": ["grp-itil"] } })),
            "special [items_read] [itil]",
        ),
        (
            "within a claim that is none",
            with(&deep, &json!({ "realm_access": ["grp-itil"] })),
            "acl.role",
        ),
    ] {
        let got = world.outcome(&claims, ADMIN);
        if got != expect {
            wrong.push(format!("{what}: {got} instead of {expect}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each of these refusals with its status and its challenge.
#[test]
fn refusals_of_clients_say_what_helps() {
    let world = World::start();
    let (gateway, corp) = (&world.gateway, world.corp.claims(now()));
    for (claims, (method, target), expect) in [
        (with(&corp, &json!({ "azp": "own" })), LIST, (401, "client.unknown", Some(UNKNOWN))),
        (
            with(&corp, &json!({ "azp": "asleep-app" })),
            LIST,
            (401, "client.inactive", Some(INACTIVE)),
        ),
        (
            with(&corp, &json!({ "azp": "unheld-app" })),
            LIST,
            (403, "scope.missing", Some(NEEDS_READ)),
        ),
        (corp.clone(), ADD, (403, "scope.missing", Some(NEEDS_WRITE))),
        (corp.clone(), ADMIN, (403, "acl.role", None)),
    ] {
        gateway.upstream.clear();
        let response = gateway.call(method, target, Some(&world.key.token(&claims)));
        refused(gateway, target, &response, expect, "").unwrap();
    }
    // A fault of the token comes before any question about its client.
    let expired = with(&corp, &json!({ "azp": "nobody", "exp": 1 }));
    refuse(gateway, "expired and of nobody", &world.key.token(&expired), "expired").unwrap();
    assert_ne!(INVALID_TOKEN, UNKNOWN);
}
