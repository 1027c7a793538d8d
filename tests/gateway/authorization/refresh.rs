//! Refresh tokens: each is used once, and a copy ends the family.

use super::{alice, code, error, gateway, member, redeem, refresh, request, setup, token, tokens};
use crate::support::Gateway;

#[test]
fn each_use_gives_a_successor_and_the_predecessor_gives_the_same_one_for_a_moment() {
    let gateway = gateway();
    for client in ["web", "opaque"] {
        let (_, first) = tokens(&gateway, client);
        let second = member(&refresh(&gateway, client, &first), "refresh_token");
        assert_ne!(second, first);
        let again = refresh(&gateway, client, &first);
        assert_eq!(
            member(&again, "refresh_token"),
            second,
            "an answer that got lost is given again"
        );
        assert_eq!(gateway.get("/orders/1", Some(&member(&again, "access_token"))).status, 200);
        let third = refresh(&gateway, client, &second);
        let (access, third) = (member(&third, "access_token"), member(&third, "refresh_token"));
        // The first is no longer the immediate predecessor of a token that was not used: somebody
        // has a copy.
        assert_eq!(error(&refresh(&gateway, client, &first)), (400, "invalid_grant".into()));
        assert_eq!(
            error(&refresh(&gateway, client, &third)),
            (400, "invalid_grant".into()),
            "the family is dead"
        );
        assert_eq!(gateway.get("/orders/1", Some(&access)).verdict(), "token.invalid");
    }
}

#[test]
fn without_grace_the_second_use_ends_the_family() {
    let gateway = Gateway::start(&setup(", refresh_grace: 0s"));
    let (_, first) = tokens(&gateway, "web");
    let next = refresh(&gateway, "web", &first);
    let (access, second) = (member(&next, "access_token"), member(&next, "refresh_token"));
    assert_eq!(error(&refresh(&gateway, "web", &first)), (400, "invalid_grant".into()));
    assert_eq!(error(&refresh(&gateway, "web", &second)), (400, "invalid_grant".into()));
    assert_eq!(gateway.get("/orders/1", Some(&access)).verdict(), "token.invalid");
}

#[test]
fn the_grace_ends() {
    let gateway = Gateway::start(&setup(", refresh_grace: 1s"));
    let (_, first) = tokens(&gateway, "web");
    let second = member(&refresh(&gateway, "web", &first), "refresh_token");
    std::thread::park_timeout(std::time::Duration::from_millis(2_100));
    assert_eq!(error(&refresh(&gateway, "web", &first)), (400, "invalid_grant".into()));
    assert_eq!(error(&refresh(&gateway, "web", &second)), (400, "invalid_grant".into()));
}

#[test]
fn a_refresh_narrows_and_never_widens() {
    let gateway = gateway();
    let mut browser = alice(&gateway);
    let code = code(&mut browser, &request("web", &[("scope", "orders_read orders_write")]));
    let mut current = member(&redeem(&gateway, "web", &code), "refresh_token");
    let mut ask = |scope: &str| {
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", current.as_str()),
            ("scope", scope),
        ];
        let response = token(&gateway, "web", &fields);
        if response.status == 200 {
            current = member(&response, "refresh_token");
        }
        response
    };
    assert_eq!(member(&ask("orders_read"), "scope"), "orders_read");
    assert_eq!(
        member(&ask(""), "scope"),
        "orders_read orders_write",
        "the grant itself was not narrowed"
    );
    assert_eq!(
        error(&ask("stock_read")),
        (400, "invalid_scope".into()),
        "held by the client, not by the grant"
    );
    assert_eq!(error(&ask("nothing")), (400, "invalid_scope".into()));
    member(&ask("orders_write"), "access_token");
}

#[test]
fn what_client_and_user_have_lost_they_do_not_get_again() {
    let setup = setup("");
    let gateway = Gateway::start(&setup);
    let (access, first) = tokens(&gateway, "web");
    let narrower = setup.clients.replacen(
        "auth_scopes: [orders_read, orders_write, stock_read]",
        "auth_scopes: [orders_read]",
        1,
    );
    gateway.rewrite("clients.yaml", &narrower);
    assert!(gateway.reload());
    let next = refresh(&gateway, "web", &first);
    assert_eq!(member(&next, "scope"), "orders_read");
    assert_eq!(
        gateway.call("POST", "/orders/1", Some(&access)).verdict(),
        "scope.missing",
        "an edit bites at once"
    );
    gateway.rewrite(
        "users.yaml",
        &setup.users.replace("name: Alice Doe,", "name: Alice Doe, active: false,"),
    );
    assert!(gateway.reload());
    assert_eq!(
        error(&refresh(&gateway, "web", &member(&next, "refresh_token"))),
        (400, "invalid_grant".into())
    );
    assert_eq!(
        gateway.get("/orders/1", Some(&member(&next, "access_token"))).verdict(),
        "user.inactive"
    );
}

#[test]
fn a_refresh_token_is_its_clients_alone() {
    let gateway = gateway();
    let (_, mine) = tokens(&gateway, "web");
    assert_eq!(error(&refresh(&gateway, "opaque", &mine)), (400, "invalid_grant".into()));
    assert_eq!(error(&refresh(&gateway, "machine", &mine)), (400, "invalid_grant".into()));
    for wrong in [
        "",
        "sgr_",
        "sgr_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        &format!("{mine}A"),
        &mine[..mine.len() - 1],
    ] {
        let expect = if wrong.is_empty() { "invalid_request" } else { "invalid_grant" };
        assert_eq!(error(&refresh(&gateway, "web", wrong)), (400, expect.into()), "{wrong}");
    }
    member(&refresh(&gateway, "web", &mine), "refresh_token");
}

#[test]
fn tokens_survive_a_restart() {
    let setup = setup("");
    let mut gateway = Gateway::start(&setup);
    let (jwt, first) = tokens(&gateway, "web");
    let (opaque, spent) = tokens(&gateway, "opaque");
    let (dead, _) = tokens(&gateway, "web");
    let fields = [("token", dead.as_str())];
    let revoke = crate::support::http::form(
        "/oauth2/revoke",
        &[("Authorization", &super::basic("web"))],
        &crate::support::browser::encode(&fields),
    );
    assert_eq!(gateway.send(revoke).status, 200);
    let next = member(&refresh(&gateway, "opaque", &spent), "refresh_token");
    gateway.restart();
    assert_eq!(gateway.get("/orders/1", Some(&jwt)).status, 200);
    assert_eq!(gateway.get("/orders/1", Some(&opaque)).status, 200);
    assert_eq!(gateway.get("/orders/1", Some(&dead)).verdict(), "token.invalid");
    member(&refresh(&gateway, "web", &first), "refresh_token");
    member(&refresh(&gateway, "opaque", &next), "refresh_token");
}
