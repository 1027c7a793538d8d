//! Traces and refused decisions at a collector of OpenTelemetry.

mod away;
mod collector;

use opentelemetry_proto::tonic::trace::v1::Span;
use scopegate::request::trace::{Share, TraceParent};

use crate::support::http::request;
use crate::support::tls::Ca;
use crate::support::{Gateway, SECRET, Setup, wait_for};
use collector::{Collector, stable, text};

const POLICIES: &str = "
apis:
  items:
    base_path: /items
    versions: [v1]
    default_version: v1
    upstream: api
    resources: { '/{id}': [GET, DELETE] }
  open: { base_path: /open, upstream: api, public: true, resources: { /x: [GET] } }
auth_scopes:
  read: { grants: [{ api: items, methods: [GET] }] }
";
const CLIENTS: &str = "clients: { app: { grants: [client_credentials], secrets: [{ sha256: \
    @SHA256@ }], auth_scopes: [read] } }\n";
/// A path parameter and a query that nobody may read elsewhere.
const PRIVATE: &str = "/items/v1/private-number-4711?q=private-query";

fn setup(telemetry: &str) -> Setup {
    let mut setup = Setup::new(POLICIES, CLIENTS);
    setup.gateway = telemetry.to_owned();
    setup
}

fn gateway(collector: &Collector, more: &str) -> Gateway {
    Gateway::start(&setup(&collector.yaml(more)))
}

/// The `traceparent` that the upstream has got last.
fn told(gateway: &Gateway) -> TraceParent {
    let head = gateway.upstream.last_head();
    let mut lines = head.iter().filter_map(|line| line.strip_prefix("traceparent: "));
    let told = TraceParent::parse(lines.next().expect("a traceparent").as_bytes()).unwrap();
    assert_eq!(lines.next(), None, "{head:?}");
    told
}

fn span<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no span `{name}`: {spans:#?}"));
    assert!(found.next().is_none(), "two spans `{name}`");
    span
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Ends the gateway, which exports what is left.
fn end(gateway: &mut Gateway) {
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0), "{}", gateway.log());
}

#[test]
fn a_permitted_request_is_a_span_with_its_decision_its_token_and_its_upstream() {
    for collector in [Collector::grpc(), Collector::http()] {
        let gateway = gateway(&collector, "sample: 1");
        let token = gateway.token("app");
        let response = gateway.get(PRIVATE, Some(&token));
        let id = response.header("x-decision-id").unwrap();
        let spans = collector.spans_of(id);
        assert_eq!(spans.len(), 4, "{spans:#?}");
        let server = span(&spans, "GET /items/v1/{id}");
        let decide = span(&spans, "decide");
        let identify = span(&spans, "identify");
        let upstream = span(&spans, "GET");
        assert_eq!(
            stable(&server.attributes),
            pairs(&[
                ("http.request.method", "GET"),
                ("http.route", "/items/v1/{id}"),
                ("http.response.status_code", "200"),
                ("client.address", "127.0.0.1"),
                ("scopegate.verdict", "permit"),
                ("scopegate.api", "items"),
                ("scopegate.issuer", "self"),
                ("scopegate.client", "app"),
                ("url.scheme", "http"),
                ("server.address", "127.0.0.1"),
                ("network.protocol.version", "1.1"),
            ])
        );
        assert_eq!(
            stable(&upstream.attributes),
            pairs(&[
                ("http.request.method", "GET"),
                ("server.address", "127.0.0.1"),
                ("scopegate.upstream", "api"),
                ("http.response.status_code", "200"),
            ])
        );
        let port = gateway.upstream.address.port().to_string();
        assert_eq!(text(&upstream.attributes, "server.port"), port);
        assert_eq!((server.kind, upstream.kind, decide.kind), (2, 3, 1));
        assert!(server.parent_span_id.is_empty(), "nobody asked for it");
        assert_eq!(decide.parent_span_id, server.span_id);
        assert_eq!(identify.parent_span_id, decide.span_id);
        assert_eq!(upstream.parent_span_id, server.span_id);
        let within = |inner: &Span, outer: &Span| {
            outer.start_time_unix_nano <= inner.start_time_unix_nano
                && inner.start_time_unix_nano <= inner.end_time_unix_nano
                && inner.end_time_unix_nano <= outer.end_time_unix_nano
        };
        assert!(within(decide, server) && within(upstream, server) && within(identify, decide));
        assert!(decide.end_time_unix_nano <= upstream.start_time_unix_nano);
        assert!(spans.iter().all(|span| span.status.is_none() && span.flags == 0x101));
        // What the upstream was told is the span that it is asked in.
        let told = told(&gateway);
        assert!(told.is_sampled());
        assert_eq!(upstream.trace_id, told.trace.to_be_bytes());
        assert_eq!(upstream.span_id, told.span.to_be_bytes());
        // And the record says so too.
        assert_eq!(gateway.record(id)["trace_id"], format!("{:032x}", told.trace));
        let resource = collector.resource();
        assert_eq!(resource[0], ("service.name".to_owned(), "scopegate".to_owned()));
        assert_eq!(resource[2].0, "service.instance.id");
    }
}

#[test]
fn a_refused_request_is_a_span_and_a_log_record_of_the_same_trace() {
    for collector in [Collector::grpc(), Collector::http()] {
        let gateway = gateway(&collector, "sample: 0, refusals: 100/d");
        let token = gateway.token("app");
        let response = gateway.call("DELETE", PRIVATE, Some(&token));
        assert_eq!(response.verdict(), "scope.unscoped");
        let id = response.header("x-decision-id").unwrap();
        let spans = collector.spans_of(id);
        assert_eq!(spans.len(), 3, "{spans:#?}");
        let server = span(&spans, "DELETE /items/v1/{id}");
        let common = [
            ("http.request.method", "DELETE"),
            ("http.route", "/items/v1/{id}"),
            ("http.response.status_code", "403"),
            ("client.address", "127.0.0.1"),
            ("scopegate.verdict", "refuse"),
            ("scopegate.reason", "scope.unscoped"),
            ("scopegate.api", "items"),
            ("scopegate.issuer", "self"),
            ("scopegate.client", "app"),
        ];
        assert_eq!(stable(&server.attributes)[..9], pairs(&common));
        assert!(server.status.is_none(), "the caller's mistake is none of ours");
        let records = wait_for("the log record", || {
            Some(collector.log_records()).filter(|records| !records.is_empty())
        });
        let [record] = &records[..] else { panic!("{records:?}") };
        assert_eq!(record.trace_id, server.trace_id);
        assert_eq!(record.span_id, server.span_id);
        assert_eq!(record.event_name, "scopegate.refused");
        assert_eq!((record.severity_number, record.severity_text.as_str()), (13, "WARN"));
        assert_eq!(stable(&record.attributes)[..9], pairs(&common));
        assert_eq!(text(&record.attributes, "scopegate.decision.id"), id);
        let trace = scopegate::names::hex(&server.trace_id);
        assert_eq!(gateway.record(id)["trace_id"], trace);
        // The permitted one that got the token was not recorded.
        assert_eq!(collector.servers().len(), 1);
        for (signal, count) in [("spans", 3.0), ("log_records", 1.0)] {
            let series = format!("scopegate_otlp_sent_total{{signal=\"{signal}\"}}");
            wait_for("the count", || gateway.metric(&series).filter(|sent| *sent > 0.0));
            assert_eq!(gateway.metric(&series), Some(count));
        }
    }
}

#[test]
fn failures_are_errors_of_the_side_that_failed() {
    let collector = Collector::grpc();
    let gateway = gateway(&collector, "sample: 0, refusals: 100/d");
    // An answer of the upstream's own is handed on, and permitted; one that is none is ours.
    gateway.upstream.answer("garbage\r\n\r\n");
    let response = gateway.get("/open/x", None);
    assert_eq!(response.verdict(), "upstream.protocol");
    let spans = collector.spans_of(response.header("x-decision-id").unwrap());
    let (server, upstream) = (span(&spans, "GET /open/x"), span(&spans, "GET"));
    for span in [server, upstream] {
        assert_eq!(span.status.as_ref().map(|status| status.code), Some(2));
        assert_eq!(text(&span.attributes, "error.type"), "upstream.protocol");
    }
    assert!(!told(&gateway).is_sampled(), "it was not known yet");
    let records = wait_for("the log record", || {
        Some(collector.log_records()).filter(|records| !records.is_empty())
    });
    assert_eq!(records[0].severity_text, "ERROR");
    assert_eq!(spans.len(), 3, "no token was read");
}

/// The lines of a head.
type Lines<'a> = &'a [(&'a str, &'a str)];

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn trace_context_is_taken_of_trusted_callers_alone_and_only_whole() {
    let unsampled = PARENT.replace("b7-01", "b7-00");
    let collector = Collector::grpc();
    for trusted in [true, false] {
        let mut setup = setup(&collector.yaml("sample: 0"));
        if trusted {
            setup.gateway.push_str("trusted_proxies: [127.0.0.1]\n");
        }
        let gateway = Gateway::start(&setup);
        let both = [("traceparent", PARENT), ("traceparent", PARENT)];
        let table: [(Lines<'_>, bool, bool); 7] = [
            (&[("traceparent", PARENT)], true, true),
            (&[("traceparent", &unsampled)], true, false),
            (&both, false, false),
            (&[("traceparent", "00-1-2-01")], false, false),
            (&[("traceparent", &PARENT[..54])], false, false),
            (&[("traceparent", "")], false, false),
            (&[], false, false),
        ];
        for (lines, taken, sampled) in table {
            let (taken, sampled) = (taken && trusted, sampled && trusted);
            let mut headers = lines.to_vec();
            headers.extend([("tracestate", "a=b"), ("tracestate", "c=d"), ("baggage", "e=f")]);
            let response = gateway.send(request("GET", "/open/x", None, &headers));
            let id = response.header("x-decision-id").unwrap();
            let told = told(&gateway);
            let parent = TraceParent::parse(PARENT.as_bytes()).unwrap();
            assert_eq!(told.trace == parent.trace, taken, "{trusted} {lines:?}");
            assert_eq!(told.is_sampled(), sampled, "{trusted} {lines:?}");
            assert_ne!(told.span, parent.span, "it is a span of ours");
            let head = gateway.upstream.last_head();
            let has = |line: &str| head.iter().any(|found| found == line);
            assert_eq!(has("tracestate: a=b") && has("tracestate: c=d"), taken, "{head:?}");
            assert_eq!(head.iter().any(|line| line.starts_with("tracestate")), taken);
            assert_eq!(has("baggage: e=f"), trusted, "{head:?}");
            assert_eq!(gateway.record(id).get("trace_id").is_some(), sampled);
            if sampled {
                let spans = collector.spans_of(id);
                let server = span(&spans, "GET /open/x");
                assert_eq!(server.trace_id, parent.trace.to_be_bytes());
                assert_eq!(server.parent_span_id, parent.span.to_be_bytes());
                assert_eq!(server.flags, 0x301, "its parent is elsewhere");
                assert_eq!(server.trace_state, "a=b,c=d");
            }
        }
    }
    assert_eq!(collector.servers().len(), 1, "no other was recorded");
}

#[test]
fn as_many_refusals_are_recorded_as_there_is_a_budget_for() {
    let collector = Collector::grpc();
    let mut gateway = gateway(&collector, "sample: 0, refusals: 3/d");
    for _ in 0..10 {
        assert_eq!(gateway.get("/items/1", None).verdict(), "token.missing");
        assert_eq!(gateway.get("/open/x", None).status, 200);
    }
    end(&mut gateway);
    let verdicts: Vec<String> =
        collector.servers().iter().map(|span| text(&span.attributes, "scopegate.reason")).collect();
    assert_eq!(verdicts, ["token.missing"; 3]);
    assert_eq!(collector.log_records().len(), 3);
}

#[test]
fn the_share_of_traces_is_recorded_that_the_upstream_was_told_of() {
    const REQUESTS: usize = 400;
    let collector = Collector::http();
    let mut gateway = gateway(&collector, "sample: 0.25");
    let mut told_of = Vec::new();
    for _ in 0..REQUESTS {
        assert_eq!(gateway.get("/open/x", None).status, 200);
        let told = told(&gateway);
        assert_eq!(told.is_sampled(), Share::of(0.25).has(told.trace));
        if told.is_sampled() {
            told_of.push(told.trace.to_be_bytes().to_vec());
        }
    }
    end(&mut gateway);
    let mut recorded: Vec<_> = collector.servers().into_iter().map(|span| span.trace_id).collect();
    recorded.sort();
    told_of.sort();
    assert_eq!(recorded, told_of);
    // Seven standard deviations from a hundred: never by chance.
    assert!((40..=160).contains(&recorded.len()), "{}", recorded.len());
}

#[test]
fn no_token_no_secret_no_query_and_no_parameter_is_exported() {
    for collector in [Collector::grpc(), Collector::http()] {
        let mut gateway = gateway(&collector, "sample: 1, refusals: 1000/s");
        let token = gateway.token("app");
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let other = if signature.starts_with('A') { 'B' } else { 'A' };
        let forged = format!("{signed}.{other}{}", &signature[1..]);
        let opaque = "private-opaque-token-of-a-stranger";
        let in_query = format!("/items/1?access_token={opaque}");
        for (method, target, token) in [
            ("GET", PRIVATE, Some(token.as_str())),
            ("DELETE", PRIVATE, Some(&token)),
            ("GET", PRIVATE, Some(&forged)),
            ("GET", PRIVATE, Some(opaque)),
            ("GET", &in_query, None),
            ("GET", &format!("/reset/{}/private-query", "s".repeat(43)), None),
            ("private-method", "/open/x", None),
            ("GET", "/open/x?q=private-query#", None),
        ] {
            gateway.call(method, target, token);
        }
        let headers = [("User-Agent", "private-agent"), ("Cookie", "private-cookie=1")];
        gateway.send(request("GET", "/open/x", Some(opaque), &headers));
        gateway.token_response("app", "&scope=private-query");
        let basic = gateway.token_response("private-client", "");
        assert_eq!(basic.status, 401);
        end(&mut gateway);
        let bytes = collector.bytes();
        assert_eq!(collector.servers().len(), 12, "all of them were recorded");
        let has =
            |needle: &str| bytes.windows(needle.len()).any(|found| found == needle.as_bytes());
        // What is looked for would be found.
        assert!(has("signature") && has("/items/v1/{id}") && has("token.in_query"));
        for part in token.split('.') {
            assert!(!has(part), "a part of a token: {part}");
        }
        for private in ["private-", SECRET, &"s".repeat(43)] {
            let at = bytes.windows(private.len()).position(|found| found == private.as_bytes());
            let around =
                at.map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(80)..at + 80]));
            assert_eq!(around, None, "{private}");
        }
    }
}

#[test]
fn a_collector_is_verified_and_gets_the_headers_that_are_secrets() {
    let ca = Ca::new();
    let collector = Collector::grpc().behind_tls(&ca.issue(&["127.0.0.1"]));
    for (trusted, other) in [(false, Ca::new()), (true, ca)] {
        let mut setup = setup(&collector.yaml(
            "sample: 1, ca: ca.pem, headers: { X-Api-Key: file:key, Authorization: env:KEY }",
        ));
        setup.files = vec![
            ("ca.pem".to_owned(), other.pem()),
            ("key".to_owned(), "secret-of-the-collector\n".to_owned()),
        ];
        setup.environment = vec![("KEY".to_owned(), "Bearer other-secret".to_owned())];
        let gateway = Gateway::start(&setup);
        let response = gateway.get("/open/x", None);
        let id = response.header("x-decision-id").unwrap();
        if trusted {
            assert_eq!(collector.spans_of(id).len(), 3);
            assert_eq!(collector.fields("x-api-key"), ["secret-of-the-collector"]);
            assert_eq!(collector.fields("authorization"), ["Bearer other-secret"]);
        } else {
            let said = gateway.wait_for_log(&["the collector cannot be given spans now"]);
            assert!(said.contains("certificate"), "{said}");
            assert_eq!(collector.attempts(), 0);
        }
        assert!(!gateway.log().contains("secret"), "{}", gateway.log());
    }
}

#[test]
fn a_reload_turns_the_export_on_and_off_and_elsewhere() {
    let (one, other) = (Collector::grpc(), Collector::http());
    let mut gateway = Gateway::start(&setup(""));
    let file = gateway.folder.path().join("gateway.yaml");
    let without = std::fs::read_to_string(&file).unwrap();
    let ask = |gateway: &Gateway| {
        let headers = [("traceparent", PARENT)];
        let response = gateway.send(request("GET", "/open/x", None, &headers));
        response.header("x-decision-id").unwrap().to_owned()
    };
    ask(&gateway);
    let is_told = |gateway: &Gateway| {
        gateway.upstream.last_head().iter().any(|line| line.starts_with("traceparent"))
    };
    assert!(!is_told(&gateway), "nothing is said without a collector");
    for collector in [&one, &other] {
        gateway.rewrite("gateway.yaml", &format!("{without}{}", collector.yaml("sample: 1")));
        assert!(gateway.reload(), "{}", gateway.log());
        let id = ask(&gateway);
        assert!(is_told(&gateway));
        assert_eq!(collector.spans_of(&id).len(), 3);
    }
    gateway.rewrite("gateway.yaml", &without);
    assert!(gateway.reload(), "{}", gateway.log());
    ask(&gateway);
    assert!(!is_told(&gateway));
    end(&mut gateway);
    assert_eq!((one.servers().len(), other.servers().len()), (1, 1));
}
