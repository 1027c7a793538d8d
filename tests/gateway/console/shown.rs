//! What pages and the JSON API show.

use std::collections::{BTreeSet, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::{CLIENTS, Console};
use crate::support::http::{form, request};
use crate::support::wait_for;

const SCRIPT: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>";

/// Names, owners, reasons and claims are what somebody wrote: text, on every page.
#[test]
fn what_others_wrote_is_text_on_every_page() {
    let quoted = SCRIPT.replace('\'', "''");
    let evil = format!(
        "{CLIENTS}  evil:\n    name: '{quoted}'\n    owner: '{quoted}'\n    provider_name: \
         '{quoted}'\n    grants: [client_credentials]\n    secrets: [{{ sha256: @SHA256@ }}]\n    \
         roles: ['{quoted}']\n    auth_scopes: [orders_read]\n"
    );
    let console = Console::start_with(|setup| setup.files[0].1 = evil);
    let block = json!({ "act": "block", "kind": "client", "value": "off", "reason": SCRIPT });
    assert_eq!(console.act("otto", &block).status, 200);
    let block = json!({ "act": "block", "kind": "token", "value": SCRIPT });
    assert_eq!(console.act("otto", &block).status, 200);
    let revoke = json!({ "act": "revoke", "kind": "user", "value": SCRIPT });
    assert_eq!(console.act("otto", &revoke).status, 200);
    // Claims of a token that is not to be believed, a client that nobody has, a path and a name.
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let token = format!(
        "{}.{}.AAAA",
        part(json!({ "alg": "ES256", "typ": "at+jwt", "kid": SCRIPT })),
        part(json!({ "iss": SCRIPT, "sub": SCRIPT, "client_id": SCRIPT, "aud": SCRIPT,
            "exp": 4_000_000_000_u64, "iat": 1, "jti": SCRIPT, "scope": SCRIPT }))
    );
    assert_eq!(console.call("GET", "/orders/1", Some(&token)).status, 401);
    let encoded = crate::support::browser::encode(&[("client_id", SCRIPT)]);
    let body = format!("grant_type=client_credentials&{encoded}&client_secret=x");
    assert_eq!(console.gateway.send(form("/oauth2/token", &[], &body)).status, 401);
    let lines = [("X-Request-Id", SCRIPT), ("User-Agent", SCRIPT)];
    console.gateway.send(request("GET", "/orders/%3Cscript%3Ealert(1)%3C/script%3E", None, &lines));
    wait_for("the decisions in the window", || {
        let listed = console.api("ada", "decisions").json();
        (listed["items"].as_array().unwrap().len() >= 3).then_some(())
    });
    let session = console.sign_in("ada");
    let mut pages: Vec<String> = [
        "/",
        "/integrations",
        "/integrations/evil",
        "/access?client=evil",
        "/findings",
        "/findings?filter=all",
        "/decisions",
        "/operations",
        "/usage",
        "/audit",
    ]
    .map(str::to_owned)
    .to_vec();
    let listed = console.api("ada", "decisions").json();
    for item in listed["items"].as_array().unwrap() {
        pages.push(format!("/decisions/{}", item["record"]["id"].as_str().unwrap()));
    }
    let reflected = crate::support::browser::encode(&[("x", SCRIPT)]);
    let reflected = reflected.strip_prefix("x=").unwrap();
    for target in [
        "/?done=",
        "/?failed=",
        "/integrations?search=",
        "/decisions?client=",
        "/usage?client=",
        "/sign-in?next=/",
        "/access?api=",
        "/access?client=",
    ] {
        pages.push(format!("{target}{reflected}"));
    }
    for path in ["integrations", "decisions", "findings/client.no_owner", "nowhere"] {
        pages.push(format!("/{path}/{}", reflected.replace('+', "%20")));
    }
    let mut escaped = 0;
    for page in &pages {
        let answer = session.get(page);
        assert!(matches!(answer.status, 200 | 404 | 422), "{page}: {answer:?}");
        let (of, body) = (answer.header("content-type").unwrap(), &answer.body);
        assert_eq!(of, "text/html; charset=utf-8", "{page}");
        for payload in ["<script>alert", "<img", "onerror=alert(1)>", "\"'>"] {
            assert!(!body.contains(payload), "{page}: {payload} in {body}");
        }
        assert_eq!(body.matches("<script").count(), usize::from(!page.starts_with("/sign")));
        escaped += usize::from(body.contains("&#60;script&#62;alert(1)"));
    }
    assert!(escaped >= 12, "{escaped} of {} show it", pages.len());
    // In the table for spreadsheets too.
    let csv = session.get("/integrations.csv");
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    assert!(csv.body.contains("\"\"\"'><script>"), "{}", csv.body);
    let disposition = csv.header("content-disposition");
    assert_eq!(disposition, Some("attachment; filename=\"integrations.csv\""));
}

/// The addresses that a page links to.
fn links(body: &str) -> Vec<String> {
    let begins = body.split("href=\"").skip(1);
    let links = begins.filter_map(|rest| rest.split('"').next());
    links
        .filter(|link| link.starts_with('/'))
        .map(|link| link.replace("&#38;", "&").replace("&amp;", "&"))
        .collect()
}

#[test]
fn every_link_of_every_page_leads_to_one() {
    let console = Console::start().with_history();
    let token = console.gateway.token("crm");
    for target in ["/orders/1", "/stock/1", "/nowhere"] {
        console.call("GET", target, Some(&token));
    }
    console.decision("ada", "client=crm&verdict=refuse");
    let session = console.sign_in("ada");
    let (mut known, mut waiting) = (BTreeSet::new(), VecDeque::from(["/".to_owned()]));
    while let Some(page) = waiting.pop_front() {
        let answer = wait_for("the page to be computed", || {
            Some(session.get(&page)).filter(|answer| answer.status != 503)
        });
        assert_eq!(answer.status, 200, "{page}: {}", answer.body);
        for link in links(&answer.body) {
            if known.len() < 400 && known.insert(link.clone()) {
                waiting.push_back(link);
            }
        }
    }
    for page in ["/integrations/crm", "/access?api=orders", "/audit", "/integrations.csv"] {
        assert!(known.contains(page), "{page} is linked: {known:?}");
    }
    assert!(known.iter().any(|link| link.starts_with("/findings/client.unused_scope/")));
    assert!(known.iter().any(|link| link.starts_with("/decisions/")));
}

#[test]
fn an_integration_shows_what_was_found_about_its_scopes_and_secrets() {
    let console = Console::start().with_history();
    for (id, rule) in [
        ("crm", "secret.expired"),
        ("nightly", "client.unused_scope"),
        ("forgotten", "client.idle"),
    ] {
        let detail = console.api("vera", &format!("integrations/{id}")).json();
        let found = detail["findings"].as_array().unwrap();
        assert!(found.iter().any(|one| one["rule"] == rule), "{id}: {found:?}");
        let open = found.iter().filter(|one| one["waived"].is_null()).count();
        assert_eq!(detail["integration"]["findings"], open, "{id}");
    }
}

#[test]
fn answers_of_the_api_have_a_tag_pages_and_problems() {
    let console = Console::start().with_history();
    let first = console.api("vera", "integrations");
    assert_eq!(first.header("content-type"), Some("application/json"));
    let tag = first.header("etag").unwrap();
    let bearer = format!("Bearer {}", super::token_of("vera"));
    let lines = [("Authorization", bearer.as_str()), ("If-None-Match", tag)];
    let again = console.ask("GET", "/api/v1/integrations", &lines, None);
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let page = console.api("vera", "integrations?per_page=2&page=2&sort=calls").json();
    assert_eq!(
        (&page["total"], &page["page"], &page["per_page"]),
        (&5.into(), &2.into(), &2.into())
    );
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    for (target, status) in [
        ("integrations/nobody", 404),
        ("findings/no.rule/crm", 404),
        ("decisions/nothing", 404),
        ("nowhere", 404),
        ("integrations?sort=colour", 422),
        ("integrations?page=minus", 400),
        ("usage?days=0", 422),
        ("usage?days=999999", 422),
        ("audit", 403),
    ] {
        let answer = console.api("vera", target);
        assert_eq!(answer.status, status, "{target}: {answer:?}");
        let of = answer.header("content-type");
        assert_eq!(of, Some("application/problem+json"), "{target}: {answer:?}");
        let problem = answer.json();
        assert_eq!(problem["status"], status, "{target}");
        assert!(problem["detail"].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
    for (of, body, status) in
        [("application/json", "{", 400), ("application/json", "[]", 422), ("text/plain", "{}", 415)]
    {
        for target in ["acts", "integrations/draft"] {
            let lines = [("Authorization", bearer.as_str())];
            let target = format!("/api/v1/{target}");
            let answer = console.ask("POST", &target, &lines, Some((of, body)));
            assert_eq!(answer.status, status, "{target} {body}: {answer:?}");
            let of = answer.header("content-type");
            assert_eq!(of, Some("application/problem+json"), "{target} {body}: {answer:?}");
        }
    }
    let answer = console.ask("DELETE", "/api/v1/acts", &[("Authorization", &bearer)], None);
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{answer:?}");
}
