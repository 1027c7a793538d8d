//! Who may enter: sessions, tokens, and pages of others that ask in a browser's name.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::{
    CALLER, Console, OLD, PASSWORD, ROLES, SHARED, SHORT, SUBJECT, argon2id, cookie_of, token_of,
};
use crate::commands::run;
use crate::support::http::Response;
use crate::support::{send, wait_for};

const PAGES: [&str; 10] = [
    "/",
    "/integrations",
    "/integrations/crm",
    "/integrations/new",
    "/access",
    "/access?api=orders",
    "/findings",
    "/decisions",
    "/operations",
    "/usage",
];

#[test]
fn a_role_reads_acts_and_writes_as_far_as_it_may() {
    let console = Console::start();
    let token = console.gateway.token("crm");
    assert_eq!(console.call("GET", "/orders/1", Some(&token)).status, 200);
    for (name, role) in ROLES {
        let (acts, writes) = (matches!(role, "operator" | "editor"), role == "editor");
        let may = |may: bool, status: u16| if may { status } else { 403 };
        let session = console.sign_in(name);
        for page in PAGES {
            let answer = session.get(page);
            assert_eq!(answer.status, 200, "{name} {page}");
            assert_eq!(answer.body.contains("action=\"/acts\""), acts && has_acts(page), "{page}");
        }
        assert_eq!(session.get("/audit").status, may(role != "viewer", 200), "{name}");
        assert_eq!(console.api(name, "audit").status, may(role != "viewer", 200), "{name}");
        let new = session.get("/integrations/new").body;
        assert_eq!(new.contains("value=\"write\""), writes, "{name}");

        let block = json!({ "act": "block", "kind": "client", "value": "off" });
        assert_eq!(console.act(name, &block).status, may(acts, 200), "{name}");
        let unblock = json!({ "act": "unblock", "kind": "client", "value": "off" });
        assert_eq!(console.act(name, &unblock).status, may(acts, 200), "{name}");
        let fields = [("act", "reload"), ("back", "/operations")];
        let answer = session.post("/acts", &fields);
        let location = answer.header("location").unwrap();
        assert_eq!(answer.status, 303);
        assert_eq!(location.starts_with("/operations?done="), acts, "{location}");
        assert_eq!(location.contains("failed=your+role+reads"), !acts, "{location}");
        let bearer = format!("Bearer {}", token_of(name));
        let body = Some(("application/json", "{\"client\":\"off\"}"));
        let answer = console.ask("POST", "/revoke", &[("Authorization", &bearer)], body);
        assert_eq!(answer.status, may(acts, 200), "{name}");

        let answer = console.post_api(name, "integrations", &super::draft(&format!("by-{name}")));
        assert_eq!(answer.status, may(writes, 201), "{name}: {answer:?}");
        let file = console.gateway.folder.path().join(format!("clients/by-{name}.yaml"));
        assert_eq!(file.exists(), writes, "{name}");
        let whoami = console.api(name, "whoami").json();
        assert_eq!(whoami, json!({ "name": name, "role": role, "via": "token pipeline" }));
    }
    // The shared token is an operator of its own name.
    let lines = [("Authorization", &*format!("Bearer {SHARED}"))];
    let whoami = console.ask("GET", "/api/v1/whoami", &lines, None).json();
    assert_eq!(whoami, json!({ "name": "token", "role": "operator", "via": "shared token" }));
}

fn has_acts(page: &str) -> bool {
    matches!(page, "/" | "/integrations/crm" | "/operations")
}

/// Where from, and on whose behalf, is for the auditor alone: wherever a record is shown.
#[test]
fn only_an_auditor_sees_addresses_and_subjects() {
    let console = Console::start();
    let (token, _) = crate::authorization::tokens(&console.gateway, "portal");
    assert_eq!(console.call("GET", "/orders/1", Some(&token)).status, 200);
    let refused = console.call("GET", "/stock/1", Some(&token));
    assert_eq!(refused.verdict(), "scope.missing", "{refused:?}");
    let id =
        console.decision("ada", "client=portal&api=orders&verdict=permit")["record"]["id"].clone();
    let permitted = id.as_str().unwrap().to_owned();
    let id =
        console.decision("ada", "client=portal&api=stock&verdict=refuse")["record"]["id"].clone();
    let refused = id.as_str().unwrap();
    for (name, role) in ROLES {
        let sees = role == "auditor";
        let session = console.sign_in(name);
        for id in [&*permitted, refused] {
            let record = console.decision(name, &format!("id={id}"))["record"].clone();
            let shown = ["address", "subject"].map(|member| record[member].as_str());
            assert_eq!(shown, if sees { [Some(CALLER), Some(SUBJECT)] } else { [None; 2] });
            let answers = [
                console.api(name, &format!("decisions/{id}")),
                session.get(&format!("/decisions/{id}")),
                console.api(name, &format!("decisions?id={id}")),
            ];
            for answer in answers {
                assert_eq!(answer.status, 200, "{answer:?}");
                let body = &answer.body;
                assert_eq!(body.contains(CALLER), sees, "{name}: {body}");
                assert!(sees || !body.contains(SUBJECT), "{name}: {body}");
            }
        }
        let followed = first_of_tail(&console, name, &token);
        assert!(followed.contains("\"client\":\"portal\""), "{followed}");
        assert_eq!(followed.contains(CALLER), sees, "{name}: {followed}");
        assert!(sees || !followed.contains(SUBJECT), "{name}: {followed}");
        let detail = console.api(name, "integrations/portal");
        let refusals = &detail.json()["refusals"];
        assert_eq!(refusals.as_array().unwrap().len(), 1, "{detail:?}");
        assert_eq!(refusals[0]["record"]["address"].as_str(), sees.then_some(CALLER));
        if role != "viewer" {
            let audit = console.api(name, "audit").json();
            let from = audit["items"][0]["from"].as_str();
            assert_eq!(from, sees.then_some("127.0.0.1"), "{audit}");
        }
    }
}

/// The first decision that an administrator is told of who follows them live.
fn first_of_tail(console: &Console, name: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(console.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (host, bearer) = (console.address, token_of(name));
    let head = format!(
        "GET /api/v1/decisions/tail?client=portal HTTP/1.1\r\nHost: {host}\r\nAuthorization: \
         Bearer {bearer}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let (mut all, mut space) = (Vec::new(), [0; 16 * 1024]);
    wait_for("a decision to come in", || {
        // It begins with what comes after it is answered.
        console.call("GET", "/orders/1", Some(token));
        if let Ok(count) = stream.read(&mut space) {
            all.extend_from_slice(&space[..count]);
        }
        let text = String::from_utf8_lossy(&all).into_owned();
        let (_, event) = text.split_once("event: decision\ndata: ")?;
        event.contains("\n\n").then_some(text)
    })
}

#[test]
fn a_session_changes_nothing_without_its_own_form_token() {
    let console = Console::start();
    let (mine, other) = (console.sign_in("otto"), console.sign_in("otto"));
    let lines = [("Cookie", mine.cookie.as_str())];
    let block = [("act", "block"), ("kind", "client"), ("value", "crm")];
    let with = |token: &str| {
        let mut fields = block.to_vec();
        fields.push(("form_token", token));
        console.post("/acts", &lines, &fields)
    };
    assert_eq!(console.post("/acts", &lines, &block).status, 403);
    for token in ["", "x", other.form_token.as_str(), mine.cookie.split_once('=').unwrap().1] {
        assert_eq!(with(token).status, 403, "{token}");
        let lines = [lines[0], ("X-Form-Token", token)];
        let act = "{\"act\":\"block\",\"kind\":\"client\",\"value\":\"crm\"}";
        let json = Some(("application/json", act));
        assert_eq!(console.ask("POST", "/api/v1/acts", &lines, json).status, 403, "{token}");
        // A token that is right in the form does not mend a header that is wrong.
        let fields = [block.as_slice(), &[("form_token", &*mine.form_token)]].concat();
        assert_eq!(console.post("/acts", &lines, &fields).status, 403, "{token}");
    }
    // A simple request of another site's form: the type that needs no preflight.
    let json = "{\"act\":\"block\",\"kind\":\"client\",\"value\":\"crm\"}";
    for of in ["text/plain", "application/json"] {
        assert_eq!(console.ask("POST", "/api/v1/acts", &lines, Some((of, json))).status, 403);
    }
    assert_eq!(console.post("/sign-out", &lines, &[]).status, 403);
    assert_eq!(console.post("/integrations/new", &lines, &[("id", "x")]).status, 403);
    assert_eq!(console.api("otto", "operations").json()["blocks"], json!([]));
    assert_eq!(mine.get("/").status, 200);
    // And with it, in the form or in the header.
    assert_eq!(with(&mine.form_token).status, 303);
    let lines = [lines[0], ("X-Form-Token", mine.form_token.as_str())];
    let json = Some((
        "application/json",
        "{\"act\":\"unblock\",\"kind\":\"client\",\
        \"value\":\"crm\"}",
    ));
    assert_eq!(console.ask("POST", "/api/v1/acts", &lines, json).status, 200);
}

#[test]
fn neither_a_foreign_name_nor_a_page_of_another_origin_is_answered() {
    let console = Console::start();
    let session = console.sign_in("otto");
    let own = console.address.to_string();
    let port = console.address.port();
    let origin = format!("http://{own}");
    for (host, origin, passes) in [
        (own.as_str(), None, true),
        (own.as_str(), Some(origin.as_str()), true),
        (&format!("localhost:{port}"), Some(&*format!("http://localhost:{port}")), true),
        (&format!("evil.example:{port}"), None, false),
        (&format!("evil.example:{port}"), Some(&*format!("http://evil.example:{port}")), false),
        (&format!("127.0.0.1.evil.example:{port}"), None, false),
        (own.as_str(), Some("http://evil.example"), false),
        (own.as_str(), Some("null"), false),
        // Another port of this machine is another origin.
        (own.as_str(), Some("http://127.0.0.1:1"), false),
    ] {
        let mut lines = vec![("Host", host)];
        lines.extend(origin.map(|origin| ("Origin", origin)));
        for target in ["/sign-in", "/console.css", "/console.js"] {
            let answer = console.ask("GET", target, &lines, None);
            assert_eq!(answer.status, if passes { 200 } else { 403 }, "{target} {lines:?}");
        }
        let fields = [("username", "otto"), ("password", PASSWORD)];
        let answer = console.post("/sign-in", &lines, &fields);
        assert_eq!(answer.status, if passes { 303 } else { 403 }, "{lines:?}");
        assert!(passes || answer.header("set-cookie").is_none());
        lines.push(("Cookie", &session.cookie));
        assert_eq!(console.ask("GET", "/", &lines, None).status == 200, passes, "{lines:?}");
        let fields = [("act", "reload"), ("form_token", &session.form_token)];
        let answer = console.post("/acts", &lines, &fields);
        assert_eq!(answer.status, if passes { 303 } else { 403 }, "{lines:?}");
    }
}

#[test]
fn no_answer_can_be_framed_sniffed_or_kept() {
    let console = Console::start();
    let session = console.sign_in("vera");
    let wrong = console.try_sign_in("vera", "wrong", "/");
    let answers = [
        (200, session.get("/")),
        (404, session.get("/nowhere")),
        (404, session.get("/integrations/nobody")),
        (403, session.get("/audit")),
        (200, console.api("vera", "overview")),
        (404, console.api("vera", "nowhere")),
        (401, console.ask("GET", "/api/v1/overview", &[], None)),
        (303, console.ask("GET", "/findings", &[], None)),
        (200, console.ask("GET", "/sign-in", &[], None)),
        (401, wrong),
        (403, console.ask("GET", "/", &[("Host", "evil.example")], None)),
        (200, console.ask("GET", "/console.css", &[], None)),
        (200, console.ask("GET", "/console.js", &[], None)),
    ];
    for (at, (status, answer)) in answers.iter().enumerate() {
        assert_eq!(answer.status, *status, "{at}: {answer:?}");
        let policy = answer.header("content-security-policy").unwrap();
        for part in [
            "default-src 'none'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "script-src 'self';",
        ] {
            assert!(policy.contains(part), "{at}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{at}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{at}");
        assert!(answer.header("access-control-allow-origin").is_none(), "{at}");
        let cache = answer.header("cache-control");
        assert_eq!(cache, Some(if at < 11 { "no-store" } else { "no-cache" }), "{at}");
    }
}

#[test]
fn a_session_is_begun_by_us_alone_and_its_cookie_counts_once() {
    let console = Console::start();
    // A value that somebody else has put into the browser is neither taken nor kept.
    let chosen = "scopegate-console=chosen-by-somebody-else-and-43-characters-x";
    let fields = [("username", "vera"), ("password", PASSWORD)];
    let answer = console.post("/sign-in", &[("Cookie", chosen)], &fields);
    assert_eq!(answer.status, 303);
    let cookie = cookie_of(&answer);
    assert_ne!(cookie, chosen);
    let status = |cookies: &[&str]| {
        let lines: Vec<(&str, &str)> = cookies.iter().map(|line| ("Cookie", *line)).collect();
        console.ask("GET", "/findings", &lines, None).status
    };
    assert_eq!(status(&[chosen]), 303);
    assert_eq!(status(&[&cookie]), 200);
    // Twice it is of somebody else, once at least.
    assert_eq!(status(&[&format!("{cookie}; {chosen}")]), 303);
    assert_eq!(status(&[&format!("{chosen}; {cookie}")]), 303);
    assert_eq!(status(&[chosen, &cookie]), 303);
    assert_eq!(status(&[&format!("a=1; {cookie}; b=2")]), 200);
    // A session does not come back after its end, nor outlive a change of the password.
    let (again, third) = (console.sign_in("vera"), console.sign_in("vera"));
    let out = again.post("/sign-out", &[]);
    assert_eq!((out.status, out.header("location")), (303, Some("/sign-in")));
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"), "{out:?}");
    assert_eq!(again.get("/findings").status, 303);
    assert_eq!(third.get("/findings").status, 200);
    let file = console.gateway.folder.path().join("gateway.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let change = |old: &str, new: &str| {
        assert!(text.contains(old), "{old} in {text}");
        console.gateway.rewrite("gateway.yaml", &text.replacen(old, new, 1));
        assert!(console.gateway.reload());
    };
    change("vera: { role: viewer", "vera: { role: operator");
    assert_eq!(third.get("/audit").status, 200, "the role is the one of now");
    let hash = argon2id(PASSWORD);
    change(
        &format!("vera: {{ role: viewer, password: {{ argon2id: '{hash}' }}"),
        &format!("vera: {{ role: viewer, password: {{ argon2id: '{}' }}", argon2id("another")),
    );
    assert_eq!(third.get("/findings").status, 303);
    assert_eq!(console.try_sign_in("vera", PASSWORD, "/").status, 401);
    assert_eq!(console.try_sign_in("vera", "another", "/").status, 303);
}

#[test]
fn guessing_is_limited_until_it_is_cleared() {
    let console = Console::start();
    let page = |answer: &Response| (answer.status, answer.body.contains("role=\"alert\""));
    for _ in 0..5 {
        assert_eq!(page(&console.try_sign_in("otto", "guessed", "/")), (401, true));
    }
    // The right one is not looked at either; other administrators are not shut out.
    assert_eq!(page(&console.try_sign_in("otto", PASSWORD, "/")), (429, true));
    assert_eq!(console.try_sign_in("eddi", PASSWORD, "/").status, 303);
    let unknown = console.try_sign_in("nobody", "guessed", "/");
    let wrong = console.try_sign_in("ada", "guessed", "/");
    assert_eq!(unknown.body.replace("nobody", "ada"), wrong.body, "a name is not told");
    // His tokens are no passwords, and go on.
    assert_eq!(console.api("otto", "whoami").status, 200);
    let (code, listed, complaints) = run(&console.gateway, &["attempts", "list"], "");
    assert!(code == 0 && listed.contains("otto"), "{listed}{complaints}");
    let (code, _, complaints) =
        run(&console.gateway, &["attempts", "clear", "--from", "127.0.0.1"], "");
    assert_eq!(code, 0, "{complaints}");
    wait_for("the right password to be taken again", || {
        (console.try_sign_in("otto", PASSWORD, "/").status == 303).then_some(())
    });
    let refused = console.audit().iter().filter(|item| item["outcome"] == "refused").count();
    assert_eq!(refused, 6, "those that were looked at: nobody can push older records out");
}

#[test]
fn a_token_enters_while_it_lasts_and_is_long_enough() {
    let console = Console::start();
    let right = token_of("vera");
    let padded = format!(" {right}");
    for (token, status) in [
        (right.as_str(), 200),
        (SHARED, 200),
        (OLD, 401),
        (SHORT, 401),
        ("", 401),
        (&right[..42], 401),
        (&padded, 401),
        (PASSWORD, 401),
    ] {
        for target in ["/api/v1/overview", "/"] {
            let line = format!("Bearer {token}");
            let answer = console.ask("GET", target, &[("Authorization", &line)], None);
            assert_eq!(answer.status, status, "{token} {target}");
            assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{token}");
        }
    }
    for line in [format!("Basic {right}"), right.clone()] {
        let answer = console.ask("GET", "/api/v1/overview", &[("Authorization", &line)], None);
        assert_eq!(answer.status, 401, "{line}");
    }
    // Not in a query, where logs would have it; and a token that is wrong is not mended by a
    // session.
    let target = format!("/api/v1/overview?access_token={right}");
    assert_eq!(console.ask("GET", &target, &[], None).status, 401);
    let session = console.sign_in("vera");
    let lines = [("Cookie", &*session.cookie), ("Authorization", "Bearer wrong")];
    assert_eq!(console.ask("GET", "/api/v1/overview", &lines, None).status, 401);
    // What an external sign-in page asks is for the shared token alone.
    let personal = format!("Bearer {}", token_of("eddi"));
    let target = "/login?login_challenge=x";
    assert_eq!(console.ask("GET", target, &[("Authorization", &personal)], None).status, 403);
    assert_eq!(console.ask("GET", target, &[("Cookie", &session.cookie)], None).status, 403);
    assert_eq!(console.ask("GET", target, &[], None).status, 401);
    let shared = format!("Bearer {SHARED}");
    assert_eq!(console.ask("GET", target, &[("Authorization", &shared)], None).status, 400);
}

#[test]
fn signing_in_leads_to_no_other_site() {
    let console = Console::start();
    let session = console.sign_in("otto");
    for next in [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example/",
        "javascript:alert(1)",
        "/\r\nLocation: https://evil.example/",
        // A browser takes tabs and line ends out of an address before it reads it.
        "/\t/evil.example/",
        "/\n/evil.example/",
        "\t//evil.example/",
        "/sign-out",
        "",
    ] {
        let answer = console.try_sign_in("otto", PASSWORD, next);
        assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{next:?}");
        let query = crate::support::browser::encode(&[("next", next)]);
        let page = console.ask("GET", &format!("/sign-in?{query}"), &[], None);
        assert!(page.body.contains("name=\"next\" value=\"/\""), "{next:?}: {}", page.body);
        let answer = session.post("/acts", &[("act", "reload"), ("back", next)]);
        let location = answer.header("location").unwrap();
        assert!(location.starts_with("/?done="), "{next:?}: {location}");
    }
    let answer = console.ask("GET", "/decisions?client=a%26b", &[], None);
    let to = answer.header("location").unwrap();
    assert_eq!(to, "/sign-in?next=%2Fdecisions%3Fclient%3Da%2526b");
    let page = console.ask("GET", to, &[], None);
    assert!(page.body.contains("value=\"/decisions?client=a%26b\""), "{}", page.body);
    let answer = console.try_sign_in("otto", PASSWORD, "/decisions?client=a%26b");
    assert_eq!(answer.header("location"), Some("/decisions?client=a%26b"));
}

/// A browser sends cookies to every port of a host.
#[test]
fn no_upstream_is_sent_the_cookie_of_the_console() {
    let console = Console::start();
    let session = console.sign_in("eddi");
    let gateway = &console.gateway;
    let bytes = format!(
        "GET /hello/ HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: a=1; {}; b=2\r\nConnection: \
         close\r\n\r\n",
        session.cookie
    );
    assert_eq!(send(gateway.address, bytes).status, 200);
    let head = gateway.upstream.last_head().join("\n");
    assert!(head.contains("a=1; b=2"), "{head}");
    let requests = gateway.upstream.requests().concat();
    let (name, value) = session.cookie.split_once('=').unwrap();
    assert!(!requests.contains(value) && !requests.contains(name), "{requests}");
    // Nor does the public listener know the console.
    for target in ["/sign-in", "/console.js", "/api/v1/overview", "/integrations"] {
        let lines = [("Cookie", session.cookie.as_str())];
        let bytes = crate::support::http::request("GET", target, None, &lines);
        assert_eq!(gateway.send(bytes).status, 404, "{target}");
    }
}
