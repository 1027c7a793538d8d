//! What clients send raw in a query: refused with a text, or handed on byte for byte.

use std::process::Command;

use crate::support::http::request;
use crate::support::{Gateway, Setup, Upstream};
use crate::tooling::Files;

const POLICIES: &str = "apis:
  strict: { base_path: /strict, upstream: api, public: true, resources: { \"/{*rest}\": [GET] } }
  open: { base_path: /open, strip_prefix: /open, upstream: api, public: true, query: { allow: \
                        [quotes, utf8] }, resources: { \"\": [GET], \"/{*rest}\": [GET] } }
  inner: { base_path: /inner, strip_prefix: /inner, upstream: inner, public: true, query: { allow: \
                        [utf8] }, resources: { \"/{*rest}\": [GET] } }
";

fn setup(upstreams: &str) -> Setup {
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway = format!(
        "listeners: [{{ address: \"@LISTEN@\", h2c: true }}]\nupstreams: {{ {upstreams} }}\n"
    );
    setup
}

/// A gateway before another one, which it speaks HTTP/2 to, and the upstream of both.
fn chain() -> (Gateway, Gateway, Upstream) {
    let upstream = Upstream::start();
    let api = format!("api: {{ servers: ['http://{}'] }}", upstream.address);
    let inner = Gateway::start(&setup(&format!(
        "{api}, inner: {{ servers: ['http://{}'] }}",
        upstream.address
    )));
    let outer = Gateway::start(&setup(&format!(
        "{api}, inner: {{ servers: ['http://{}'], http2: true }}",
        inner.address
    )));
    (outer, inner, upstream)
}

#[test]
fn a_raw_character_is_refused_with_a_text_that_names_it_and_the_key() {
    let (gateway, _inner, upstream) = chain();
    for (target, words) in [
        (
            "/strict/x?a={\"b\":1}",
            "0x22 in the query: it is sent as %22, or an API lets it with \
            `query: { allow: [quotes] }`",
        ),
        ("/strict/x?a=<b>", "0x3C"),
        ("/strict/x?a=ü", "allow: [utf8]"),
        ("/nowhere?a=>", "0x3E"),
        ("/oauth2/authorize?a=\"", "0x22"),
        ("/open/x?a=\u{7f}", "0x7F in the query: no API lets"),
        ("/inner/x?a=\"", "allow: [quotes]"),
    ] {
        let response = gateway.send(request("GET", target, None, &[]));
        assert_eq!(response.verdict(), "request.malformed", "{target}");
        let record = gateway.record(response.header("x-decision-id").unwrap());
        assert!(record["fault"].as_str().unwrap().contains(words), "{record}");
    }
    let latin = [b"GET /open/x?a=\xfc HTTP/1.1\r\nHost: a\r\n\r\n".as_slice()].concat();
    assert_eq!(gateway.send(latin).verdict(), "request.malformed");
    assert!(upstream.requests().is_empty());
}

#[test]
fn raw_quotes_for_an_upstream_that_speaks_http2_are_a_fault() {
    let files = Files::of(&setup(
        "api: { servers: ['http://127.0.0.1:1'], http2: true }, inner: { servers: \
            ['http://127.0.0.1:1'], http2: true }",
    ));
    let (code, _, said) = files.run(&["check"], "");
    assert!(code == 1 && said.contains("raw quotes need HTTP/1.1"), "{said}");
    // Of the two APIs, only the one that lets them.
    assert!(said.contains("1 fault"), "{said}");
}

#[test]
fn with_the_keys_a_query_arrives_byte_for_byte_over_every_driver() {
    let (gateway, inner, upstream) = chain();
    let raw = "f={\"and\":[\"<ü>\"]}&q=a|b^`c`\\%zz%22?x=\"";
    for (target, arrived) in [
        (format!("/open/x/y?{raw}"), format!("/x/y?{raw}")),
        (format!("/open?{raw}"), format!("/?{raw}")),
    ] {
        assert_eq!(gateway.send(request("GET", &target, None, &[])).status, 200, "{target}");
        assert_eq!(upstream.last_head()[0], format!("GET {arrived} HTTP/1.1"));
    }
    // A body and a connection that is kept behind it.
    let two = format!("{0}{0}", request("GET", &format!("/open/x?{raw}"), None, &[]));
    assert_eq!(gateway.send(two).status, 200);
    let curl = |version: &str, path: &str| {
        let target = format!("http://{}{path}?f=ü&g=€😀", gateway.address);
        let output = Command::new("curl")
            .args(["-sS", "-g", version, "-w", "%{http_version} %{http_code}", "-o", "/dev/null"])
            .arg(&target)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // To the inner gateway it goes by HTTP/2, and from there by HTTP/1.
    for (path, arrived) in [("/open/x", "/x"), ("/inner/open/x", "/x")] {
        for (version, spoken) in [("--http1.1", "1.1 200"), ("--http2-prior-knowledge", "2 200")] {
            assert_eq!(curl(version, path), spoken, "{path}");
            assert_eq!(upstream.last_head()[0], format!("GET {arrived}?f=ü&g=€😀 HTTP/1.1"));
        }
    }
    drop(inner);
}
