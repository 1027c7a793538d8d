//! What those who run the gateway see: metrics, readiness, reload, signals, records, the demo.

mod doctor;
mod first_day;
mod logs;
mod reload;
mod rotation;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::http::{Connection, request, send};
use crate::support::{Gateway, SECRET, Setup, Upstream, wait_for};

const POLICIES: &str = "
apis: { items: { base_path: /api, upstream: api, resources: { \"/{id}\": [GET] } } }
auth_scopes: { read: { grants: [{ api: items }] } }
";
const CLIENTS: &str = "clients: { app: { grants: [client_credentials], secrets: [{ sha256: \
    @SHA256@ }], auth_scopes: [read] } }\n";

fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let response =
        send(address, format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"));
    (response.status, response.body)
}

#[test]
fn the_metrics_listener_has_three_paths_and_the_gateway_has_none_of_them() {
    let gateway = Gateway::start(&Setup::new(POLICIES, CLIENTS));
    assert_eq!(get(gateway.metrics, "/healthz"), (200, "ok\n".to_owned()));
    let (status, ready) = get(gateway.metrics, "/readyz");
    let set = ready.strip_prefix("ready\nset ").unwrap_or_else(|| panic!("{ready}")).trim();
    assert_eq!(status, 200);
    let in_force = format!("scopegate_config_info{{version=\"{set}\"}}");
    assert_eq!(gateway.metric(&in_force), Some(1.0), "{in_force}");
    gateway.rewrite("policies.yaml", &POLICIES.replace("[GET]", "[GET, POST]"));
    assert!(gateway.reload());
    assert_ne!(get(gateway.metrics, "/readyz").1, ready);
    assert_eq!(get(gateway.metrics, "/metrics").0, 200);
    assert_eq!(get(gateway.metrics, "/api/1").0, 404);
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(gateway.get(path, None).status, 404, "{path}");
    }
}

#[test]
fn metrics_count_by_configured_names_alone() {
    let gateway = Gateway::start(&Setup::new(POLICIES, CLIENTS));
    let token = gateway.token("app");
    for n in 0..20 {
        gateway.get(&format!("/api/{n}"), Some(&token));
        gateway.get(&format!("/attacker/{n}"), None);
        gateway.call(&format!("METHOD{n}"), &format!("/api/{n}"), Some("forged"));
        gateway.send(
            request("GET", "/api/1", None, &[])
                .replace("Host: 127.0.0.1", &format!("Host: h{n}.example")),
        );
    }
    let series = |name: &str| gateway.metric(name);
    let permitted = "scopegate_requests_total{api=\"items\",operation=\"GET \
        /{id}\",reason=\"\",verdict=\"permit\"}";
    wait_for("all requests to be counted", || series(permitted).filter(|count| *count > 19.5));
    assert_eq!(series("scopegate_tokens_issued_total{grant=\"client_credentials\"}"), Some(1.0));
    assert_eq!(series("scopegate_token_cache_lookups_total{result=\"miss\"}"), Some(1.0));
    assert_eq!(series("scopegate_token_cache_lookups_total{result=\"hit\"}"), Some(19.0));
    assert_eq!(series("scopegate_config_last_reload_successful"), Some(1.0));
    let text = gateway.metrics_text();
    for word in ["attacker", "METHOD", "forged", ".example", token.as_str()] {
        assert!(!text.contains(word), "{word}");
    }
    assert!(text.lines().count() < 200, "{}", text.lines().count());
}

#[test]
fn a_bad_configuration_is_refused_whole_and_the_old_one_serves_on() {
    let gateway = Gateway::start(&Setup::new(POLICIES, CLIENTS));
    let token = gateway.token("app");
    let mut connection = Connection::open(gateway.address);
    let mut alive = || {
        connection.write(request("GET", "/api/1", Some(&token), &[]).as_bytes());
        connection.read(false).unwrap().verdict()
    };
    for (file, text, words) in [
        ("policies.yaml", "apis: {", "not valid YAML"),
        ("policies.yaml", "", "there is no auth scope"),
        ("policies.yaml", "apis: { items: { base_pth: /api } }", "base_pth"),
        ("clients.yaml", "clients: { app: { auth_scopes: [nope] } }", "nope"),
        ("clients.yaml", "clients: { app: &a {}, b: *a }", "anchors"),
    ] {
        gateway.rewrite(file, text);
        assert!(!gateway.reload(), "{text}");
        gateway.wait_for_log(&[words]);
        assert_eq!(gateway.metric("scopegate_config_last_reload_successful"), Some(0.0));
        assert_eq!(alive(), "permit");
        gateway.rewrite("policies.yaml", POLICIES);
        gateway.rewrite("clients.yaml", CLIENTS);
    }
    assert!(gateway.reload());
    assert_eq!(gateway.metric("scopegate_config_last_reload_successful"), Some(1.0));
    // A tightening bites on the open connection.
    gateway.rewrite("policies.yaml", &POLICIES.replace("grants: [{ api: items }]", ""));
    assert!(gateway.reload());
    assert_eq!(alive(), "scope.unscoped");
}

#[test]
fn what_a_reload_cannot_change_is_refused_by_name() {
    let gateway = Gateway::start(&Setup::new(POLICIES, CLIENTS));
    let file = gateway.folder.path().join("gateway.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    for (from, to, name) in [
        ("listeners: [", "listeners: [{ address: \"127.0.0.1:1\" }, ", "listeners"),
        ("/data", "/elsewhere", "store"),
        ("public_url: http://127.0.0.1", "public_url: http://localhost", "public_url"),
    ] {
        std::fs::write(&file, text.replace(from, to)).unwrap();
        assert!(!gateway.reload(), "{name}");
        gateway.wait_for_log(&[&format!("{name} cannot change")]);
    }
    std::fs::write(&file, text).unwrap();
    assert!(gateway.reload());
}

#[test]
fn sigterm_finishes_what_is_under_way_and_sigquit_does_nothing() {
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.gateway =
        "upstreams: { api: { servers: ['@UPSTREAM@'], timeouts: { response: 60s } } }\n".to_owned();
    let mut gateway = Gateway::start_with(&setup, Upstream::start());
    let token = gateway.token("app");
    for stray in ["QUIT", "USR1", "USR2"] {
        gateway.signal(stray);
    }
    assert_eq!(gateway.get("/api/1", Some(&token)).status, 200);
    // An answer that is not complete before the signal: the gateway waits for it.
    let release = gateway.upstream.hold();
    let mut connection = Connection::open(gateway.address);
    connection.write(request("GET", "/api/2", Some(&token), &[]).as_bytes());
    wait_for("the upstream to have the request", || {
        (gateway.upstream.requests().len() == 2).then_some(())
    });
    gateway.signal("TERM");
    wait_for("not ready", || (get(gateway.metrics, "/readyz").0 == 503).then_some(()));
    drop(release);
    let last = connection.read(false).unwrap();
    assert_eq!(last.status, 200);
    assert_eq!(gateway.wait(), Some(0));
}

#[test]
fn nothing_secret_is_written_anywhere() {
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.gateway = "log_level: debug\n".to_owned();
    let gateway = Gateway::start(&setup);
    let token = gateway.token("app");
    gateway.get("/api/1?password=planted-query", Some(&token));
    gateway.get("/api/1", Some("planted-token"));
    gateway.send(format!(
        "GET /a b HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nCookie: \
            planted-cookie\r\n\r\n"
    ));
    gateway.upstream.answer("");
    let failed = gateway.get("/api/1?planted-query", Some(&token));
    gateway.record(failed.header("x-decision-id").unwrap());
    let records = std::fs::read_to_string(gateway.folder.path().join("decisions.jsonl")).unwrap();
    for (place, text) in
        [("log", gateway.log()), ("records", records), ("metrics", gateway.metrics_text())]
    {
        for planted in ["planted", SECRET, token.as_str(), token.split('.').nth(2).unwrap()] {
            assert!(!text.contains(planted), "{planted} in {place}");
        }
    }
}

#[test]
fn the_demo_prints_lines_that_do_what_they_say() {
    let port = crate::support::free_address().port().to_string();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_scopegate"))
        .args(["demo", "--port", &port])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut script = String::new();
    let mut folder = String::new();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    for line in &mut lines {
        let line = line.unwrap();
        if let Some((_, place)) = line.split_once("configuration in ") {
            folder = place.to_owned();
        }
        if line.starts_with("# decision records") {
            break;
        }
        if line.starts_with("curl ") {
            script.push_str("echo '=== '\n");
        }
        if line.starts_with("curl ") || line.starts_with("TOKEN=") {
            script.push_str(&line);
            script.push_str("\necho\n");
        }
    }
    let address = format!("127.0.0.1:{port}");
    wait_for("the demo to listen", || std::net::TcpStream::connect(&address).ok());
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    // Ctrl-C ends it at once and leaves nothing behind.
    assert!(
        Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap().success()
    );
    let status = wait_for("the demo to end", || demo.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    assert!(!std::path::Path::new(&folder).exists(), "{folder}");
    let output = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<&str> = output.split("=== ").skip(1).collect();
    let expected = [
        ("200", "\"scope\":\"orders_read\""),
        ("200", "\"target\":\"/shop/orders/7\""),
        ("403", "scope=\"orders_write\""),
        ("403", "policy.profile"),
        ("401", "token.invalid"),
        ("401", "token.invalid"),
        ("401", "token.missing"),
    ];
    assert_eq!(answers.len(), expected.len() + 1, "{output}");
    for (answer, (status, words)) in answers.iter().zip(expected) {
        assert!(
            answer.contains(&format!("HTTP/1.1 {status}")) && answer.contains(words),
            "{words}: {answer}"
        );
    }
    assert!(answers[7].contains("scopegate_requests_total{api=\"orders\""), "{}", answers[7]);
}
