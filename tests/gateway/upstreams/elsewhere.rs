//! Upstreams that live somewhere else: below a path of their own, under the host of the API, with
//! headers of their own and of claims.

use serde_json::json;

use crate::support::http::request;
use crate::support::issuer::{Key, now};
use crate::support::{Gateway, Issuer, Setup, Upstream};

const POLICIES: &str = "apis:
  files: { base_path: /api, strip_prefix: /api, upstream: api, public: true,
    resources: { \"\": [GET], \"/\": [GET], \"/{*rest}\": [GET, POST] } }
  whole: { base_path: /whole, upstream: api, public: true, resources: { \"/{*rest}\": [GET] } }
  plain: { base_path: /plain, strip_prefix: /plain, upstream: root, public: true,
    resources: { \"/{*rest}\": [GET] } }
";

fn gateway(upstream: &Upstream) -> Gateway {
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway = format!(
        "upstreams: {{ api: {{ servers: ['http://{0}/back/v4/'] }}, root: {{ servers: \
         ['http://{0}'] }} }}\n",
        upstream.address
    );
    Gateway::start(&setup)
}

#[test]
fn what_was_judged_is_asked_for_below_the_path_of_the_server() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    for (target, asked, prefix) in [
        ("/api/orders?a=b", "/back/v4/orders?a=b", Some("/api")),
        ("/api/", "/back/v4/", Some("/api")),
        ("/api", "/back/v4", Some("/api")),
        ("/api?x", "/back/v4?x", Some("/api")),
        ("/whole/x", "/back/v4/whole/x", None),
        ("/plain/x", "/x", Some("/plain")),
    ] {
        // No client says where it was.
        let lied = [("X-Forwarded-Prefix", "/evil"), ("x_forwarded_prefix", "/evil")];
        assert_eq!(gateway.send(request("GET", target, None, &lied)).status, 200, "{target}");
        let head = upstream.last_head();
        assert!(head[0].starts_with(&format!("GET {asked} HTTP/1.1")), "{target}: {}", head[0]);
        let said: Vec<&str> =
            head.iter().filter_map(|line| line.strip_prefix("x-forwarded-prefix: ")).collect();
        assert_eq!(said, prefix.into_iter().collect::<Vec<_>>(), "{target}");
        assert!(!head.concat().contains("evil"), "{head:?}");
    }
}

#[test]
fn where_an_answer_points_to_is_said_as_the_client_reaches_it() {
    let upstream = Upstream::start();
    let gateway = gateway(&upstream);
    let own = upstream.address;
    let same = |value: &str| (value.to_owned(), value.to_owned());
    let mapped = |value: &str, told: &str| (value.to_owned(), told.to_owned());
    let rows = [
        mapped("/back/v4/orders/7", "/api/orders/7"),
        mapped("/back/v4", "/api"),
        mapped("/back/v4/", "/api/"),
        mapped("/back/v4?a=/../b#c", "/api?a=/../b#c"),
        mapped(&format!("http://{own}/back/v4/x?y=z"), "/api/x?y=z"),
        mapped(&format!("HTTPS://{own}/back/v4/x"), "/api/x"),
        same("/back/v40/x"),
        same("/back"),
        same("/elsewhere"),
        same("/api/orders"),
        same("//back/v4/x"),
        same("/\\back/v4/x"),
        same("/back/v4/../x"),
        same("/back/v4/%2e%2E/x"),
        same("/back/v4/..\\x"),
        same("orders/7"),
        same("?a"),
        same(""),
        same("http://other.example/back/v4/x"),
        same(&format!("http://{own}.example/back/v4/x")),
        same(&format!("http://a@{own}/back/v4/x")),
        same(&format!("ftp://{own}/back/v4/x")),
        same(&format!("http://{own}/elsewhere")),
        same("javascript:/back/v4/x"),
        same("/back/v4/\u{e4}").clone(),
    ];
    for name in ["Location", "content-location"] {
        for (value, told) in &rows {
            // What is above ASCII is mapped too: it is the path's own.
            let told = if value.ends_with('\u{e4}') { "/api/\u{e4}" } else { told };
            upstream.answer(format!(
                "HTTP/1.1 302 Found\r\n{name}: {value}\r\nLink: </back/v4/x>\r\n\
                 Set-Cookie: a=b; Path=/back/v4\r\nContent-Length: 0\r\n\r\n"
            ));
            let answer = gateway.get("/api/orders", None);
            assert_eq!(answer.header(name), Some(told), "{name}: {value}");
            assert_eq!(answer.header("link"), Some("</back/v4/x>"));
            assert_eq!(answer.header("set-cookie"), Some("a=b; Path=/back/v4"));
        }
    }
    // Without a base path everything is below it, and without a prefix only an authority goes.
    for (path, value, told) in [
        ("/plain/x", "/orders".to_owned(), "/plain/orders"),
        ("/plain/x", "/".to_owned(), "/plain/"),
        ("/plain/x", "/plain/x".to_owned(), "/plain/x"),
        ("/plain/x", format!("http://{own}"), "/plain/"),
        (
            "/plain/x",
            format!("http://{own}//evil.example"),
            &*format!("http://{own}//evil.example"),
        ),
        ("/whole/x", "/back/v4//evil.example".to_owned(), "/back/v4//evil.example"),
        ("/whole/x", "/back/v4/whole/y".to_owned(), "/whole/y"),
    ] {
        upstream.answer(format!(
            "HTTP/1.1 201 Created\r\nLocation: {value}\r\nContent-Length: 0\r\n\r\n"
        ));
        assert_eq!(gateway.get(path, None).header("location"), Some(told), "{path}: {value}");
    }
}

#[test]
fn claims_are_said_in_headers_that_no_client_can_say() {
    let key = Key::p256("k");
    let issuer = Issuer::start(std::slice::from_ref(&key));
    let upstream = Upstream::start();
    let policies = "apis:
  api: { base_path: /api, upstream: api, host: a.example,
    resources: { /x: [GET], /open: { methods: [GET], public: true } } }
auth_scopes: { read: { grants: [{ api: api }] } }
";
    let mut setup = Setup::new(policies, "clients: { app: { auth_scopes: [read] } }\n");
    setup.gateway = format!(
        "issuers: {{ corp: {{ issuer: '{}', audience: [https://api.example], keys: \
         {{ jwks_url: '{}/jwks' }}, claims: {{ client: azp }}, default_client: app }} }}\n\
         upstreams: {{ api: {{ servers: ['http://{}'], host: keep, remove_headers: \
         [X-User, X-Authenticated-User], identity: {{ claims: {{ X-Email: email, X-Tenant: \
         /org/id, X-Groups: groups, X-Level: level, X-Gone: gone }} }} }} }}\n",
        issuer.url, issuer.url, upstream.address
    );
    let gateway = Gateway::start(&setup);
    let mut claims = issuer.claims(now());
    claims["email"] = json!("jane ö@corp.example\r\nX-Evil: 1");
    claims["org"] = json!({ "id": 7 });
    claims["groups"] = json!(["a,b", true, 2]);
    claims["level"] = json!({ "no": "text" });
    let token = key.token(&claims);
    let lies = [
        ("X-Email", "evil"),
        ("x_email", "evil"),
        ("X.Tenant", "evil"),
        ("xgroups", "evil"),
        ("X-Level", "evil"),
        ("X-Gone", "evil"),
        ("X-User", "evil"),
        ("x_authenticated.user", "evil"),
        ("X-Users", "kept"),
        ("Host", "a.example"),
    ];
    for (target, token, expect) in [
        (
            "/api/x",
            Some(token.as_str()),
            &[
                "x-email: jane%20%C3%B6@corp.example%0D%0AX-Evil:%201",
                "x-groups: a%2Cb,true,2",
                "x-tenant: 7",
                "x-users: kept",
            ][..],
        ),
        ("/api/open", None, &["x-users: kept"]),
    ] {
        let asked = request("GET", target, token, &lies).replace("Host: 127.0.0.1\r\n", "");
        assert_eq!(gateway.send(asked).status, 200, "{target}");
        let head = upstream.last_head();
        let ours = ["x-email", "x-tenant", "x-groups", "x-level", "x-gone", "x-user"];
        let mut said: Vec<&str> = head
            .iter()
            .map(String::as_str)
            .filter(|line| ours.iter().any(|name| line.starts_with(name)))
            .collect();
        said.sort_unstable();
        assert_eq!(said, expect, "{target}");
        assert!(head.iter().any(|line| line == "host: a.example"), "{head:?}");
        assert!(!head.concat().contains("evil"), "{head:?}");
    }
}
