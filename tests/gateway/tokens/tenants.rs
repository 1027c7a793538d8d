//! One issuer with many tenants: each is an issuer of its own, under one set of keys.

use serde_json::json;

use super::{POLICIES, permit, refuse, with};
use crate::support::issuer::{Key, now};
use crate::support::{Gateway, Setup};

const CLIENTS: &str = "
clients:
  nine: { auth_scopes: [items_read], external: { entra/9f: [app] } }
  seven: { auth_scopes: [items_read], external: { entra/71: [app] } }
  others: { auth_scopes: [items_read] }
";

#[test]
fn tenants_of_one_issuer_are_apart_in_clients_headers_keys_and_revocations() {
    let (shared, of_nine) = (Key::p256("k1"), Key::p256("k2"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let own = with(&of_nine.jwk(), &json!({ "issuer": "https://login.example/9f/v2.0" }));
    let all = with(&shared.jwk(), &json!({ "issuer": "https://login.example/{tenantid}/v2.0" }));
    std::fs::write(&file, json!({ "keys": [all, own] }).to_string()).unwrap();
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.gateway = format!(
        "issuers:\n  entra: {{ issuer: 'https://login.example/{{tenant}}/v2.0', audience: \
         [\"https://api.example\"], tenants: {{ claim: tid, allow: [9f, '71', '80'] }}, keys: {{ \
         jwks_file: \"{}\" }}, algorithms: [ES256], claims: {{ client: azp, scopes: scp }}, \
         default_client: others }}\n",
        file.display()
    );
    let gateway = Gateway::start(&setup);
    let token = |key: &Key, iss: &str, tid: &str| {
        key.token(&json!({ "iss": format!("https://login.example/{iss}/v2.0"), "tid": tid,
            "sub": "jane", "aud": "https://api.example", "exp": now() + 300, "iat": now(),
            "azp": "app", "scp": "items_read", "jti": format!("{iss}-{tid}") }))
    };
    for (key, tenant, client) in [
        (&shared, "9f", "nine"),
        (&shared, "71", "seven"),
        (&shared, "80", "others"),
        (&of_nine, "9f", "nine"),
    ] {
        gateway.upstream.clear();
        let response = gateway.get("/api/items", Some(&token(key, tenant, tenant)));
        assert_eq!(response.status, 200, "{tenant}: {response:?}");
        let forwarded = gateway.upstream.requests().remove(0);
        let name = format!("entra/{tenant}");
        for line in [format!("x-auth-issuer: {name}\r"), format!("x-auth-client: {client}\r")] {
            assert!(forwarded.to_ascii_lowercase().contains(&line), "{forwarded}");
        }
        let record = gateway.record(response.header("X-Decision-Id").unwrap());
        assert_eq!(record["issuer"], name);
    }
    refuse(&gateway, "iss and claim differ", &token(&shared, "9f", "71"), "issuer").unwrap();
    refuse(&gateway, "a tenant not listed", &token(&shared, "zz", "zz"), "issuer").unwrap();
    refuse(&gateway, "a key of another tenant", &token(&of_nine, "71", "71"), "issuer").unwrap();

    // Made before they are revoked, however long that takes to be known.
    let (of_nine, of_seven) = (token(&shared, "9f", "9f"), token(&shared, "71", "71"));
    let revoke = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(["token", "revoke", "--config"])
            .arg(gateway.folder.path().join("gateway.yaml"))
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = revoke(&["--issuer", "entra", "--user", "jane"]);
    assert!(code == Some(2) && text.contains("entra/TENANT"), "{code:?} {text}");
    let (code, text) = revoke(&["--issuer", "entra/zz", "--user", "jane"]);
    assert!(code == Some(2) && text.contains("no issuer"), "{code:?} {text}");
    assert_eq!(revoke(&["--issuer", "entra/9f", "--user", "jane"]).0, Some(0));
    crate::support::wait_for("the revocation", || {
        refuse(&gateway, "jane of 9f", &of_nine, "revoked").ok()
    });
    permit(&gateway, "jane of 71", &of_seven).unwrap();
    assert_eq!(revoke(&["--issuer", "entra", "--all"]).0, Some(0));
    crate::support::wait_for("the revocation", || {
        refuse(&gateway, "everybody", &of_seven, "revoked").ok()
    });
    let faults = gateway.metrics_text();
    assert!(faults.contains("scopegate_token_faults_total{fault=\"revoked\",issuer=\"entra\"}"));
    assert!(!faults.contains("entra/"), "a label is a name of the configuration");
}
