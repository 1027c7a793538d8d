//! Revocation (RFC 7009) and introspection (RFC 7662).

use super::{basic, error, gateway, member, refresh, token, tokens};
use crate::support::Gateway;
use crate::support::browser::encode;
use crate::support::http::{Response, form};

fn ask(gateway: &Gateway, path: &str, client: &str, fields: &[(&str, &str)]) -> Response {
    gateway.send(form(path, &[("Authorization", &basic(client))], &encode(fields)))
}

fn revoke(gateway: &Gateway, client: &str, token: &str) -> Response {
    ask(gateway, "/oauth2/revoke", client, &[("token", token)])
}

fn introspect(gateway: &Gateway, client: &str, token: &str) -> serde_json::Value {
    let response = ask(gateway, "/oauth2/introspect", client, &[("token", token)]);
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    response.json()
}

#[test]
fn a_revoked_access_token_is_refused_on_the_next_request_and_its_refresh_token_is_not() {
    let gateway = gateway();
    for client in ["web", "opaque"] {
        let (access, refresh_token) = tokens(&gateway, client);
        assert_eq!(gateway.get("/orders/1", Some(&access)).status, 200);
        let answer = revoke(&gateway, client, &access);
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
        assert_eq!(gateway.get("/orders/1", Some(&access)).verdict(), "token.invalid");
        assert_eq!(introspect(&gateway, client, &access), serde_json::json!({ "active": false }));
        let next = member(&refresh(&gateway, client, &refresh_token), "access_token");
        assert_eq!(gateway.get("/orders/1", Some(&next)).status, 200);
        assert_eq!(revoke(&gateway, client, &access).status, 200, "twice is as once");
    }
}

#[test]
fn a_revoked_refresh_token_takes_its_access_tokens_along() {
    let gateway = gateway();
    for client in ["web", "opaque"] {
        let (access, first) = tokens(&gateway, client);
        let second = member(&refresh(&gateway, client, &first), "refresh_token");
        let answer = ask(
            &gateway,
            "/oauth_revoke_token.do",
            client,
            &[("token", &second), ("token_type_hint", "nonsense")],
        );
        assert_eq!(answer.status, 200);
        assert_eq!(gateway.get("/orders/1", Some(&access)).verdict(), "token.invalid");
        assert_eq!(error(&refresh(&gateway, client, &second)), (400, "invalid_grant".into()));
    }
}

#[test]
fn the_token_of_another_client_is_left_alone_and_nothing_is_said_of_it() {
    let gateway = gateway();
    for client in ["web", "opaque"] {
        let (access, refresh_token) = tokens(&gateway, client);
        for value in [&access, &refresh_token] {
            assert_eq!(revoke(&gateway, "machine", value).body, "{}");
            assert_eq!(
                introspect(&gateway, "machine", value),
                serde_json::json!({ "active": false })
            );
        }
        assert_eq!(gateway.get("/orders/1", Some(&access)).status, 200);
        member(&refresh(&gateway, client, &refresh_token), "access_token");
    }
    for unknown in [
        "x",
        "sgr_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "sga_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "a.b.c",
    ] {
        assert_eq!(revoke(&gateway, "web", unknown).body, "{}");
        assert_eq!(introspect(&gateway, "web", unknown), serde_json::json!({ "active": false }));
    }
}

#[test]
fn introspection_tells_a_client_of_its_own_tokens() {
    let gateway = gateway();
    let issuer = format!("http://127.0.0.1:{}", gateway.address.port());
    for client in ["web", "opaque"] {
        let (access, refresh_token) = tokens(&gateway, client);
        let known = introspect(&gateway, client, &access);
        assert_eq!(
            (
                known["active"].as_bool(),
                known["client_id"].as_str(),
                known["sub"].as_str(),
                known["iss"].as_str()
            ),
            (Some(true), Some(client), Some("alice"), Some(issuer.as_str()))
        );
        assert_eq!(known["scope"], "orders_read orders_write stock_read");
        assert_eq!(known["exp"].as_i64().unwrap() - known["iat"].as_i64().unwrap(), 1_800);
        let known = introspect(&gateway, client, &refresh_token);
        assert_eq!((known["active"].as_bool(), known["sub"].as_str()), (Some(true), Some("alice")));
    }
}

#[test]
fn both_endpoints_want_a_client_a_form_and_a_token() {
    let gateway = gateway();
    let (access, _) = tokens(&gateway, "web");
    for path in ["/oauth2/revoke", "/oauth_revoke_token.do", "/oauth2/introspect"] {
        let body = encode(&[("token", &access)]);
        assert_eq!(
            error(&gateway.send(form(path, &[], &body))),
            (401, "invalid_client".into()),
            "{path}"
        );
        let wrong = gateway.send(form(path, &[("Authorization", "Basic d2ViOng=")], &body));
        assert_eq!(error(&wrong), (401, "invalid_client".into()));
        assert_eq!(error(&ask(&gateway, path, "web", &[])), (400, "invalid_request".into()));
        assert_eq!(
            error(&ask(&gateway, path, "web", &[("token", "a"), ("token", "b")])),
            (400, "invalid_request".into())
        );
        let in_url = ask(&gateway, &format!("{path}?token={access}"), "web", &[]);
        assert_eq!(error(&in_url), (400, "invalid_request".into()));
        let get = gateway.send(format!(
            "GET {path}?token={access} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(
            (get.status, get.header("allow")),
            (405, Some("POST")),
            "the form without authentication stays out"
        );
    }
    assert_eq!(gateway.get("/orders/1", Some(&access)).status, 200, "none of that revoked it");
    let public = gateway.send(form(
        "/oauth2/introspect",
        &[],
        &encode(&[("client_id", "native"), ("token", &access)]),
    ));
    assert_eq!(error(&public), (400, "unauthorized_client".into()));
}

#[test]
fn tokens_of_client_credentials_are_revoked_too() {
    let gateway = gateway();
    for client in ["web", "opaque"] {
        let access = member(
            &token(&gateway, client, &[("grant_type", "client_credentials")]),
            "access_token",
        );
        assert_eq!(gateway.get("/orders/1", Some(&access)).status, 200);
        revoke(&gateway, client, &access);
        assert_eq!(gateway.get("/orders/1", Some(&access)).verdict(), "token.invalid");
    }
}
