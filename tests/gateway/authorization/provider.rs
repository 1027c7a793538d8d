//! Login at an OpenID provider that can lie.

use serde_json::json;

use super::{PASSWORD, member, redeem, request, setup};
use crate::support::browser::{Browser, encode, parameters};
use crate::support::http::Response;
use crate::support::provider::{CLIENT_ID, CLIENT_SECRET, Lie, Provider};
use crate::support::{Gateway, Setup, wait_for};

const ALICE: &str = "00u/alice";

fn with_provider(provider: &Provider) -> Setup {
    let mut setup = setup(&format!(
        ", login: {{ provider: {{ name: Corp <login>, issuer: '{}', client_id: '{CLIENT_ID}', \
            client_secret: file:provider }} }}",
        provider.url
    ));
    setup.files = vec![("provider".into(), format!("{CLIENT_SECRET}\n"))];
    let identity = |subject: &str| {
        format!("external: [{{ issuer: '{}', subject: '{subject}' }}], ", provider.url)
    };
    setup.users = setup
        .users
        .replace("alice: { ", &format!("alice: {{ {}", identity(ALICE)))
        .replace("locked: { ", &format!("locked: {{ {}", identity("locked-there")));
    setup
}

fn bench() -> (Gateway, Provider) {
    let provider = Provider::start();
    (Gateway::start(&with_provider(&provider)), provider)
}

/// The link of a page to the provider.
pub fn link(page: &Response) -> String {
    let (_, rest) = page
        .body
        .split_once("class=\"button\" href=\"")
        .unwrap_or_else(|| panic!("no link: {page:?}"));
    rest.split('"')
        .next()
        .unwrap()
        .replace("&#61;", "=")
        .replace("&amp;", "&")
        .replace("&#38;", "&")
}

/// A browser that has been sent to the provider, and where to.
pub fn sent_away(gateway: &Gateway) -> (Browser, String) {
    let mut browser = Browser::new(gateway.address);
    let page = browser.get(&request("web", &[]));
    let answer = browser.get(&link(&page));
    assert_eq!(answer.status, 303, "{answer:?}");
    let url = answer.header("location").unwrap().to_owned();
    (browser, url)
}

pub fn callback<'a>(fields: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let fields: Vec<(&str, &str)> =
        fields.into_iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    format!("/oauth2/login/callback?{}", encode(&fields))
}

#[test]
fn whom_a_user_lists_as_himself_is_signed_in_and_goes_on_to_consent() {
    let (gateway, provider) = bench();
    let (mut browser, url) = sent_away(&gateway);
    let before = browser.cookie.clone();
    let answer = provider.sign_in(&url, ALICE);
    let back = browser.get(&callback(&answer));
    assert_eq!(
        (back.status, back.header("location")),
        (303, Some(request("web", &[]).as_str())),
        "{back:?}"
    );
    assert_ne!(browser.cookie, before, "no fixation");
    let page = browser.get(&request("web", &[]));
    assert!(
        page.body.contains("Alice Doe") && page.body.contains("value=\"allow\""),
        "{}",
        page.body
    );
    let code = parameters(&browser.submit(&page, "allow", &[])).remove("code").unwrap();
    member(&redeem(&gateway, "web", &code), "access_token");
    assert_eq!(browser.get(&callback(&answer)).status, 400, "good once");
    assert_eq!(provider.forms().len(), 1, "and not even asked about again");
    // The password still works besides it.
    let mut other = Browser::new(gateway.address);
    let page = other.get(&request("web", &[]));
    assert!(page.body.contains("Corp &#60;login&#62;"), "{}", page.body);
    other.sign_in(&page, "alice", PASSWORD);
    let metrics = gateway.metrics_text();
    assert!(
        metrics.contains("scopegate_provider_logins_total{outcome=\"signed_in\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("scopegate_jwks_age_seconds{issuer=\"login provider\"}"), "{metrics}");
}

/// A session by the provider ends when this file says something else.
fn session_ends(file: &str, change: impl Fn(&str, &Provider) -> String) {
    let provider = Provider::start();
    let setup = with_provider(&provider);
    let gateway = Gateway::start(&setup);
    let (mut browser, url) = sent_away(&gateway);
    browser.get(&callback(&provider.sign_in(&url, ALICE)));
    assert!(browser.get("/oauth2/connections").body.contains("Alice Doe"));
    let file = gateway.folder.path().join(file);
    let text = std::fs::read_to_string(&file).unwrap();
    let changed = change(&text, &provider);
    assert_ne!(changed, text);
    std::fs::write(&file, changed).unwrap();
    gateway.signal("HUP");
    wait_for("the session to end", || {
        browser.get("/oauth2/connections").body.contains("name=\"password\"").then_some(())
    });
}

#[test]
fn a_session_ends_with_the_identity_that_began_it() {
    session_ends("users.yaml", |text, _| text.replace(ALICE, "another"));
}

#[test]
fn a_session_ends_with_the_provider_that_began_it() {
    session_ends("gateway.yaml", |text, provider| {
        text.replace(&provider.url, "http://127.0.0.1:1")
    });
}

#[test]
fn strangers_and_locked_users_are_told_so_and_nobody_is_made() {
    let (gateway, provider) = bench();
    for (subject, wanted) in [
        ("nobody", "no account here"),
        ("alice", "no account here"),
        ("locked-there", "locked or inactive"),
    ] {
        let (mut browser, url) = sent_away(&gateway);
        let page = browser.get(&callback(&provider.sign_in(&url, subject)));
        assert_eq!(page.status, 403, "{page:?}");
        assert!(page.body.contains(wanted), "{}", page.body);
        assert!(
            browser.get("/oauth2/connections").body.contains("name=\"password\""),
            "{subject} is not signed in"
        );
    }
}

#[test]
fn an_answer_is_of_use_only_in_the_browser_that_asked() {
    let (gateway, provider) = bench();
    let (mut browser, url) = sent_away(&gateway);
    let answer = provider.sign_in(&url, ALICE);
    let (mut victim, others) = sent_away(&gateway);
    let mut bare = Browser::new(gateway.address);
    for stranger in [&mut victim, &mut bare] {
        assert_eq!(stranger.get(&callback(&answer)).status, 400);
    }
    // The thief's code with the victim's state: the code belongs to another PKCE verifier.
    let mut mixed = answer.clone();
    mixed.insert("state".into(), parameters_of(&others)["state"].clone());
    let page = victim.get(&callback(&mixed));
    assert_eq!(page.status, 502, "{page:?}");
    // What the thief holds does not help in the victim's browser either.
    let mut fixed = Browser::new(gateway.address);
    fixed.get(&request("web", &[]));
    fixed.held.clone_from(&browser.held);
    assert_eq!(fixed.get(&callback(&answer)).status, 400);
    let own = member(
        &super::token(&gateway, "web", &[("grant_type", "client_credentials")]),
        "access_token",
    );
    for state in ["", "x", own.as_str(), &answer["state"][1..]] {
        let mut forged = answer.clone();
        forged.insert("state".into(), state.into());
        assert_eq!(browser.get(&callback(&forged)).status, 400, "{state}");
    }
    let challenge = browser.held[0].split_once('=').unwrap().1.to_owned();
    assert_eq!(
        gateway.get("/orders/1", Some(&challenge)).verdict(),
        "token.invalid",
        "a challenge is no access token"
    );
    let forged = format!("{}x.{}", &challenge[..challenge.rfind('.').unwrap()], "AAAA");
    browser.held[0] = browser.held[0].replace(&challenge, &forged);
    assert_eq!(browser.get(&callback(&answer)).status, 400, "not ours");
}

#[test]
fn the_link_leads_only_where_the_page_said_and_tabs_do_not_disturb_each_other() {
    let (gateway, provider) = bench();
    let mut browser = Browser::new(gateway.address);
    let page = browser.get(&request("web", &[]));
    let good = link(&page);
    for wrong in [
        good.replace("back=%2Foauth_auth.do", "back=https%3A%2F%2Fevil.example"),
        good.replace("back=%2F", "back=%2F%2Fevil.example%2F"),
        good.split("&form_token").next().unwrap().to_owned(),
        "/oauth2/login/provider".to_owned(),
    ] {
        assert_ne!(wrong, good);
        assert_eq!(browser.get(&wrong).status, 400, "{wrong}");
    }
    assert_eq!(Browser::new(gateway.address).get(&good).status, 400, "another browser");
    let mut away = |target: &str| {
        let page = browser.get(target);
        browser.get(&link(&page)).header("location").unwrap().to_owned()
    };
    let (first, second) =
        (away(&request("web", &[])), away(&request("web", &[("state", "other")])));
    let long = away(&request("web", &[("state", &"s".repeat(1_500))]));
    assert!(parameters_of(&long)["state"].len() < 50, "whatever the application asked for");
    assert!(
        !second.contains("other") && !second.contains("app.example"),
        "nor is the provider told: {second}"
    );
    for (url, state) in [(&second, "other"), (&first, "s-1")] {
        // The first of them changes the browser's cookie, to which the second is tied.
        let back = browser.get(&callback(&provider.sign_in(url, ALICE)));
        if state == "other" {
            assert_eq!(
                (back.status, back.header("location")),
                (303, Some(request("web", &[("state", state)]).as_str()))
            );
        } else {
            assert_eq!(back.status, 400);
        }
    }
    let mut browser = Browser::new(gateway.address);
    let page = browser
        .get(&request("web", &[("state", &"s".repeat(2_000)), ("nonce", &"n".repeat(2_000))]));
    let refused = browser.get(&link(&page));
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("too long"), "{}", refused.body);
}

#[test]
fn sign_ins_that_were_begun_and_never_finished_do_not_pile_up_in_the_browser() {
    let (gateway, provider) = bench();
    let mut browser = Browser::new(gateway.address);
    let long = "s".repeat(1_500);
    let mut away = || {
        let page = browser.get(&request("web", &[("state", &long)]));
        let location = browser.get(&link(&page)).header("location").unwrap().to_owned();
        (location, browser.held.len())
    };
    let begun: Vec<_> = (0..30).map(|_| away()).collect();
    assert_eq!(begun.iter().map(|(_, held)| *held).collect::<Vec<_>>()[..6], [1, 2, 3, 4, 4, 4]);
    // The last of them can be finished, the fifth from the end no more.
    let back = browser.get(&callback(&provider.sign_in(&begun[25].0, ALICE)));
    assert_eq!(back.status, 400, "{back:?}");
    let back = browser.get(&callback(&provider.sign_in(&begun[29].0, ALICE)));
    assert_eq!(back.status, 303, "{back:?}");
}

#[test]
fn whoever_is_signed_in_there_as_the_wrong_one_can_be_another() {
    let (gateway, provider) = bench();
    let (mut browser, url) = sent_away(&gateway);
    assert!(!parameters_of(&url).contains_key("prompt"));
    let page = browser.get(&callback(&provider.sign_in(&url, "nobody")));
    let url = browser.get(&link(&page)).header("location").unwrap().to_owned();
    assert_eq!(parameters_of(&url)["prompt"], "login");
    let back = browser.get(&callback(&provider.sign_in(&url, ALICE)));
    assert_eq!((back.status, back.header("location")), (303, Some("/oauth2/connections")));
}

#[test]
fn guessed_codes_shut_out_their_browser_and_nobody_else() {
    let (gateway, provider) = bench();
    let start = |browser: &mut Browser| {
        let page = browser.get(&request("web", &[]));
        browser.get(&link(&page)).header("location").unwrap().to_owned()
    };
    let guess = |browser: &mut Browser| {
        let state = parameters_of(&start(browser))["state"].clone();
        browser.get(&format!("/oauth2/login/callback?code=guess&state={state}")).status
    };
    let mut guesser = Browser::new(gateway.address);
    for _ in 0..5 {
        assert_eq!(guess(&mut guesser), 502);
    }
    let asked = provider.forms().len();
    assert_eq!(
        (guess(&mut guesser), provider.forms().len()),
        (429, asked),
        "and the provider is not asked"
    );
    // Another browser at the same address guesses once, and its user signs in.
    let mut other = Browser::new(gateway.address);
    assert_eq!(guess(&mut other), 502);
    let url = start(&mut other);
    assert_eq!(other.get(&callback(&provider.sign_in(&url, ALICE))).status, 303);
}

pub fn parameters_of(url: &str) -> std::collections::BTreeMap<String, String> {
    url::Url::parse(url).unwrap().query_pairs().into_owned().collect()
}

/// What is changed of an ID token: its header, its claims.
type Change = fn(&mut serde_json::Value, &mut serde_json::Value);

#[test]
fn id_tokens_that_are_wrong_in_any_way_sign_nobody_in() {
    let (gateway, provider) = bench();
    let changes: [(&str, Change); 23] = [
        ("issuer", |_, claims| claims["iss"] = json!("https://other.example")),
        ("audience", |_, claims| claims["aud"] = json!("other")),
        ("audience", |_, claims| claims["aud"] = json!(["other", CLIENT_ID])),
        ("audience", |_, claims| claims["azp"] = json!("other")),
        ("audience", |_, claims| claims["aud"] = json!([])),
        ("audience", |_, claims| drop(claims.as_object_mut().unwrap().remove("aud"))),
        ("expired", |_, claims| claims["exp"] = json!(claims["exp"].as_i64().unwrap() - 200)),
        ("claims", |_, claims| claims["exp"] = json!("tomorrow")),
        ("claims", |_, claims| drop(claims.as_object_mut().unwrap().remove("exp"))),
        ("claims", |_, claims| drop(claims.as_object_mut().unwrap().remove("iat"))),
        ("not_yet_valid", |_, claims| claims["iat"] = json!(claims["iat"].as_i64().unwrap() + 200)),
        ("not_yet_valid", |_, claims| claims["nbf"] = json!(claims["iat"].as_i64().unwrap() + 200)),
        ("claims", |_, claims| claims["nbf"] = json!("2099-01-01")),
        ("binding", |_, claims| claims["nonce"] = json!("another")),
        ("binding", |_, claims| drop(claims.as_object_mut().unwrap().remove("nonce"))),
        ("claims", |_, claims| claims["sub"] = json!("")),
        ("claims", |_, claims| claims["sub"] = json!(7)),
        ("claims", |_, claims| drop(claims.as_object_mut().unwrap().remove("sub"))),
        ("claims", |_, claims| claims["sub"] = json!("x".repeat(256))),
        ("type", |header, _| header["typ"] = json!("at+jwt")),
        ("algorithm", |header, _| header["alg"] = json!("none")),
        ("algorithm", |header, _| header["alg"] = json!("EdDSA")),
        ("form", |header, _| header["crit"] = json!(["x"])),
    ];
    for (fault, change) in changes {
        provider.lie(Lie { token: Some(change), ..Lie::default() });
        not_signed_in(&gateway, &provider, 502, &format!("the ID token is wrong: {fault}"));
    }
    provider.lie(Lie { other_key: true, ..Lie::default() });
    not_signed_in(&gateway, &provider, 502, "the ID token is wrong: signature");
}

/// Somebody signs in there, and is not signed in here.
fn not_signed_in(gateway: &Gateway, provider: &Provider, status: u16, logged: &str) {
    let (mut browser, url) = sent_away(gateway);
    let page = browser.get(&callback(&provider.sign_in(&url, ALICE)));
    assert_eq!(page.status, status, "{logged}: {page:?}");
    assert!(browser.get("/oauth2/connections").body.contains("name=\"password\""), "{logged}");
    let id = page.header("x-decision-id").unwrap();
    let line = gateway.wait_for_log(&["nobody was signed in", id]);
    assert!(line.contains(logged), "wanted {logged}: {line}");
    assert!(!gateway.log().contains(CLIENT_SECRET));
}

#[test]
fn what_the_token_endpoint_says_instead_is_told_apart() {
    let (gateway, provider) = bench();
    for (status, body, answered, logged) in [
        (400, r#"{"error":"invalid_grant"}"#, 502, "does not take the code"),
        (400, r#"{"error":"unauthorized_client"}"#, 502, "status 400, error `unauthorized_client`"),
        (
            401,
            r#"{"error":"invalid_client\" <script>"}"#,
            502,
            "status 401, error `invalid_clientscript`",
        ),
        (400, "<html>", 502, "status 400, error ``"),
        (302, "", 502, "status 302"),
        (200, "{}", 502, "no id_token"),
        (200, "[]", 502, "no id_token"),
        (200, r#"{"id_token":"x"}"#, 502, "the ID token is wrong: form"),
        (500, "", 503, "status 500"),
        (429, "", 503, "status 429"),
    ] {
        provider.lie(Lie { answer: Some((status, body.to_owned())), ..Lie::default() });
        not_signed_in(&gateway, &provider, answered, logged);
    }
    let (mut browser, url) = sent_away(&gateway);
    let state = parameters_of(&url)["state"].clone();
    let back = |fields: &[(&str, &str)]| {
        format!(
            "/oauth2/login/callback?{}",
            encode(&[&[("state", state.as_str())], fields].concat())
        )
    };
    let page = browser
        .get(&back(&[("error", "access_denied"), ("error_description", "<b>secret words</b>")]));
    assert_eq!(page.status, 403);
    assert!(
        page.body.contains("access_denied") && !page.body.contains("secret words"),
        "{}",
        page.body
    );
    assert_eq!(browser.get(&back(&[])).status, 502, "neither code nor error");
    assert_eq!(
        browser.get(&back(&[("code", "x"), ("iss", "https://evil.example")])).status,
        502,
        "RFC 9207"
    );
    assert_eq!(
        browser.get(&back(&[("code", "x"), ("code", "y")])).status,
        400,
        "a parameter twice"
    );
}

#[test]
fn the_secret_goes_where_the_metadata_says_and_the_issuer_is_asked_for() {
    let (provider, says) = (Provider::start(), |metadata: &mut serde_json::Value| {
        metadata["token_endpoint_auth_methods_supported"] =
            json!(["private_key_jwt", "client_secret_post"]);
        metadata["authorization_response_iss_parameter_supported"] = json!(true);
    });
    provider.lie(Lie { metadata: Some(says), ..Lie::default() });
    let gateway = Gateway::start(&with_provider(&provider));
    not_signed_in(&gateway, &provider, 502, "another issuer");
    let (mut browser, url) = sent_away(&gateway);
    let mut answer = provider.sign_in(&url, ALICE);
    answer.insert("iss".into(), provider.url.clone());
    assert_eq!(browser.get(&callback(&answer)).status, 303);
    assert!(provider.forms().concat().contains("client_secret="), "in the body");
}

#[test]
fn a_provider_that_is_away_or_of_another_name_is_an_outage_and_nothing_else_stops() {
    let away: [(u16, Lie); 5] = [
        (503, Lie { closed: true, ..Lie::default() }),
        (
            502,
            Lie {
                metadata: Some(|metadata| metadata["issuer"] = json!("https://other.example")),
                ..Lie::default()
            },
        ),
        (
            502,
            Lie {
                metadata: Some(|metadata| metadata["token_endpoint"] = json!("ftp://x")),
                ..Lie::default()
            },
        ),
        (
            502,
            Lie {
                metadata: Some(|metadata| {
                    drop(metadata.as_object_mut().unwrap().remove("authorization_endpoint"));
                }),
                ..Lie::default()
            },
        ),
        (502, Lie { metadata: Some(|metadata| *metadata = json!([])), ..Lie::default() }),
    ];
    for (status, lie) in away {
        let provider = Provider::start();
        provider.lie(lie);
        let gateway = Gateway::start(&with_provider(&provider));
        let mut browser = Browser::new(gateway.address);
        let page = browser.get(&request("web", &[]));
        assert_eq!(page.status, 200, "the page does not wait for the provider");
        let answer = browser.get(&link(&page));
        assert_eq!(
            (answer.status, answer.header("retry-after").is_some()),
            (status, status == 503),
            "{answer:?}"
        );
        browser.sign_in(&page, "alice", PASSWORD);
    }
    // Back after the cool-down, while the last known endpoints would serve an hour.
    let (gateway, provider) = bench();
    provider.lie(Lie { closed: true, ..Lie::default() });
    let mut browser = Browser::new(gateway.address);
    let page = browser.get(&request("web", &[]));
    assert_eq!(browser.get(&link(&page)).status, 503);
    provider.lie(Lie::default());
    wait_for("the provider to be asked again", || {
        (browser.get(&link(&page)).status == 303).then_some(())
    });
}

#[test]
fn what_the_configuration_says_of_it_is_checked() {
    let provider = Provider::start();
    let good = with_provider(&provider);
    let fault = |setup: &Setup| {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = crate::support::free_addresses();
        let file = setup.write(folder.path(), a, b, c);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(["check", "--config"])
            .arg(file)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
        )
    };
    assert_eq!(fault(&good).0, Some(0), "{}", fault(&good).1);
    let change = |what: fn(&mut Setup)| {
        let mut setup = good.clone();
        what(&mut setup);
        let (code, text) = fault(&setup);
        assert_eq!(code, Some(1), "{text}");
        text
    };
    let both = change(|setup| {
        setup.gateway =
            setup.gateway.replace("login: { ", "login: { login_url: 'https://x.example', ");
    });
    assert!(both.contains("both `login_url` and `provider`"), "{both}");
    let missing = change(|setup| setup.files.clear());
    assert!(missing.contains("never skipped"), "{missing}");
    let plain = change(|setup| {
        setup.gateway =
            setup.gateway.replace("issuer: 'http://127.0.0.1", "issuer: 'http://login.example");
    });
    assert!(plain.contains("over plain http could be replaced"), "{plain}");
    let twice = change(|setup| setup.users = setup.users.replace("locked-there", ALICE));
    assert!(twice.contains("is already the user `alice`"), "{twice}");
    let mut moved = good.clone();
    moved.gateway = setup("").gateway;
    let (code, text) = fault(&moved);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("user `alice`")
            && text.contains("is not the login provider's issuer (there is none)"),
        "{text}"
    );
}
