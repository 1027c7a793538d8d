//! What clients find out about us by themselves.

use serde_json::json;

use super::{gateway, setup};
use crate::support::Gateway;

#[test]
fn the_server_describes_itself_as_configured() {
    let gateway = gateway();
    let base = format!("http://127.0.0.1:{}", gateway.address.port());
    let methods = json!(["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]);
    let signed =
        json!(["ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"]);
    {
        let response = gateway.get("/.well-known/oauth-authorization-server", None);
        assert_eq!(
            (response.status, response.header("content-type")),
            (200, Some("application/json"))
        );
        assert_eq!(
            response.json(),
            json!({
                "issuer": base,
                "authorization_endpoint": format!("{base}/oauth2/authorize"),
                "token_endpoint": format!("{base}/oauth2/token"),
                "jwks_uri": format!("{base}/.well-known/jwks.json"),
                "revocation_endpoint": format!("{base}/oauth2/revoke"),
                "introspection_endpoint": format!("{base}/oauth2/introspect"),
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "grant_types_supported": ["client_credentials", "authorization_code",
                    "refresh_token"],
                "scopes_supported": ["orders_read", "orders_write", "stock_read"],
                "token_endpoint_auth_methods_supported": methods,
                "token_endpoint_auth_signing_alg_values_supported": signed,
                "revocation_endpoint_auth_methods_supported": methods,
                "revocation_endpoint_auth_signing_alg_values_supported": signed,
                "introspection_endpoint_auth_methods_supported":
                    ["client_secret_basic", "client_secret_post", "private_key_jwt"],
                "introspection_endpoint_auth_signing_alg_values_supported": signed,
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": true,
            })
        );
    }
    let mut plain = setup("");
    plain.gateway = String::new();
    plain.clients = "clients: {}\n".into();
    let gateway = Gateway::start(&plain);
    let document = gateway.get("/.well-known/oauth-authorization-server", None).json();
    assert_eq!(
        (document.get("authorization_endpoint"), &document["response_types_supported"]),
        (None, &json!([]))
    );
}

#[test]
fn each_api_is_described_and_the_challenge_says_where() {
    let gateway = gateway();
    let base = format!("http://127.0.0.1:{}", gateway.address.port());
    let orders = gateway.get("/.well-known/oauth-protected-resource/orders", None);
    assert_eq!(
        orders.json(),
        json!({
            "resource": format!("{base}/orders"),
            "resource_name": "orders",
            "authorization_servers": [base],
            "scopes_supported": ["orders_read", "orders_write"],
            "bearer_methods_supported": ["header"],
        })
    );
    let all = gateway.get("/.well-known/oauth-protected-resource", None).json();
    assert_eq!(
        (&all["resource"], &all["scopes_supported"]),
        (&json!(base), &json!(["orders_read", "orders_write", "stock_read"]))
    );
    for path in ["/nothing", "/orders/1", "/Orders", "//orders"] {
        let status =
            gateway.get(&format!("/.well-known/oauth-protected-resource{path}"), None).status;
        assert!(status == 404 || status == 400, "{path}: {status}");
    }
    let challenge = |target: &str, token: Option<&str>| {
        gateway.get(target, token).header("www-authenticate").unwrap_or_default().to_owned()
    };
    let named = format!("resource_metadata=\"{base}/.well-known/oauth-protected-resource/orders\"");
    assert!(challenge("/orders/1", None).ends_with(&named), "{}", challenge("/orders/1", None));
    assert!(challenge("/orders/1", Some("x")).ends_with(&named));
}
