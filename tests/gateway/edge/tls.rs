//! TLS on listeners, and who a trusted proxy says is at the other end.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::support::tls::{Ca, Pair, connect};
use crate::support::{GUARD, Gateway, Setup, wait_for};

const POLICIES: &str = "apis: { open: { base_path: /, upstream: api, public: true, resources: \
    { \"/{*rest}\": [GET] } } }\n";

fn setup(listener: &str, files: &[(&str, &str)]) -> Setup {
    let mut setup = Setup::new(POLICIES, "clients: {}\n");
    setup.gateway = format!("listeners: [{{ address: \"@LISTEN@\", {listener} }}]\n");
    setup.files =
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    setup
}

const TLS: &str = "tls: { certificate: a.pem, key: a.key";

/// The status of a request over TLS, and the certificate that was shown; `None` where the
/// connection failed.
fn status(gateway: &Gateway, ca: &Ca, name: &str, shown: Option<&Pair>) -> Option<(u16, Vec<u8>)> {
    let stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(GUARD)).unwrap();
    let mut stream = connect(ca.client(&["http/1.1"], shown), name, stream);
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    let certificate = stream.conn.peer_certificates()?[0].to_vec();
    Some((text.split(' ').nth(1)?.parse().unwrap(), certificate))
}

#[test]
fn certificates_are_chosen_by_name_and_both_protocols_are_spoken() {
    let ca = Ca::new();
    let (a, b) = (ca.issue(&["a.example"]), ca.issue(&["b.example", "*.c.example"]));
    let listener = format!("{TLS}, more: [{{ certificate: b.pem, key: b.key }}] }}");
    let files = [
        ("a.pem", &a.certificate),
        ("a.key", &a.key),
        ("b.pem", &b.certificate),
        ("b.key", &b.key),
    ];
    let gateway =
        Gateway::start(&setup(&listener, &files.map(|(name, text)| (name, text.as_str()))));
    let of_a = status(&gateway, &ca, "a.example", None).unwrap();
    let of_b = status(&gateway, &ca, "b.example", None).unwrap();
    assert_eq!((of_a.0, of_b.0), (200, 200));
    assert_ne!(of_a.1, of_b.1);
    assert_eq!(status(&gateway, &ca, "x.c.example", None).unwrap().1, of_b.1);
    // One that no certificate is for gets the first, and does not trust it.
    assert!(status(&gateway, &ca, "d.example", None).is_none());

    std::fs::write(gateway.folder.path().join("ca.pem"), ca.pem()).unwrap();
    for (version, expect) in [
        ("--http2", "2 200"),
        ("--http1.1", "1.1 200"),
        ("--tlsv1.3", "2 200"),
        ("--tls-max", "2 200"),
    ] {
        let mut curl = std::process::Command::new("curl");
        curl.args([
            "-sS",
            "--max-time",
            "120",
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}",
            version,
        ]);
        if version == "--tls-max" {
            curl.arg("1.2");
        }
        let port = gateway.address.port();
        curl.args(["--resolve", &format!("a.example:{port}:127.0.0.1"), "--cacert"])
            .arg(gateway.folder.path().join("ca.pem"));
        let output = curl.arg(format!("https://a.example:{port}/x")).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expect, "{version}: {output:?}");
    }
}

#[test]
fn a_new_certificate_is_taken_by_a_reload_and_a_bad_one_is_not() {
    let ca = Ca::new();
    let (old, new) = (ca.issue(&["a.example"]), ca.issue(&["a.example"]));
    let gateway = Gateway::start(&setup(
        &format!("{TLS} }}"),
        &[("a.pem", &old.certificate), ("a.key", &old.key)],
    ));
    let before = status(&gateway, &ca, "a.example", None).unwrap().1;
    // Half of a change: the key is not the certificate's. What was in force stays so.
    gateway.rewrite("a.pem", &new.certificate);
    assert!(!gateway.reload());
    gateway.wait_for_log(&["the key is not the certificate's"]);
    assert_eq!(status(&gateway, &ca, "a.example", None).unwrap().1, before);
    gateway.rewrite("a.key", &new.key);
    assert!(gateway.reload());
    assert_ne!(status(&gateway, &ca, "a.example", None).unwrap().1, before);
    for (wrong, message) in [
        ("", "it holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n", "it is no certificate"),
    ] {
        gateway.rewrite("a.pem", wrong);
        assert!(!gateway.reload());
        gateway.wait_for_log(&[message]);
    }
    assert_eq!(status(&gateway, &ca, "a.example", None).unwrap().0, 200);
}

#[test]
fn a_client_certificate_is_verified_and_without_one_there_is_no_connection() {
    let (ca, clients, others) = (Ca::new(), Ca::new(), Ca::new());
    let pair = ca.issue(&["a.example"]);
    let listener = format!("{TLS}, client_ca: clients.pem, min_version: \"1.3\" }}");
    let files = [
        ("a.pem", pair.certificate.as_str()),
        ("a.key", &pair.key),
        ("clients.pem", &clients.pem()),
    ];
    let gateway = Gateway::start(&setup(&listener, &files));
    let right = clients.issue(&["crm.example"]);
    assert_eq!(status(&gateway, &ca, "a.example", Some(&right)).map(|got| got.0), Some(200));
    assert_eq!(status(&gateway, &ca, "a.example", None).map(|got| got.0), None);
    assert_eq!(
        status(&gateway, &ca, "a.example", Some(&others.issue(&["crm.example"]))).map(|got| got.0),
        None
    );
    wait_for("failed handshakes to be counted", || {
        (gateway.metric("scopegate_connections_cut_total{cause=\"tls_handshake\"}") >= Some(1.0))
            .then_some(())
    });
}

#[test]
fn a_handshake_that_stands_still_is_cut_at_the_deadline() {
    let ca = Ca::new();
    let pair = ca.issue(&["a.example"]);
    let mut setup =
        setup(&format!("{TLS} }}"), &[("a.pem", &pair.certificate), ("a.key", &pair.key)]);
    setup.gateway.push_str("edge: { header_timeout: 2s }\n");
    let gateway = Gateway::start(&setup);
    for begin in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        stream.write_all(begin).unwrap();
        assert!(matches!(stream.read(&mut [0; 16]), Ok(0)), "{begin:?}");
    }
    wait_for("both to be counted", || {
        (gateway.metric("scopegate_connections_cut_total{cause=\"header_timeout\"}") == Some(2.0))
            .then_some(())
    });
    // Who speaks plain HTTP to it is told nothing, and nothing breaks.
    let mut stream = TcpStream::connect(gateway.address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    assert!(!text.starts_with(b"HTTP/"), "{text:?}");
    assert_eq!(status(&gateway, &ca, "a.example", None).unwrap().0, 200);
}

#[test]
fn the_proxy_protocol_says_who_calls_where_a_trusted_proxy_speaks() {
    let mut setup = setup("proxy_protocol: true", &[]);
    setup.policies.push_str("blocks: [{ from: [203.0.113.0/24] }, { from: ['2001:db8::/32'] }]\n");
    setup.gateway.push_str("trusted_proxies: [127.0.0.1]\nedge: { header_timeout: 1s }\n");
    let gateway = Gateway::start(&setup);
    let v2 = |command: u8, family: u8, addresses: &[u8]| {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &[command, family, length[0], length[1]][..], addresses].concat()
    };
    let v4 =
        |last: u8| [203, 0, if last == 0 { 112 } else { 113 }, 9, 10, 0, 0, 1, 0x30, 0x39, 0, 80];
    let mut v6 = [0; 36];
    v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    let with_tlv = [&v4(1)[..], &[0x04, 0, 3, 1, 2, 3]].concat();
    for (header, status) in [
        (b"PROXY TCP4 203.0.112.9 10.0.0.1 12345 80\r\n".to_vec(), Some(200)),
        (b"PROXY TCP4 203.0.113.9 10.0.0.1 12345 80\r\n".to_vec(), Some(403)),
        (b"PROXY TCP6 2001:db8::7 ::1 12345 80\r\n".to_vec(), Some(403)),
        (b"PROXY UNKNOWN\r\n".to_vec(), Some(200)),
        (v2(0x21, 0x11, &v4(0)), Some(200)),
        (v2(0x21, 0x11, &v4(1)), Some(403)),
        (v2(0x21, 0x11, &with_tlv), Some(403)),
        (v2(0x21, 0x21, &v6), Some(403)),
        (v2(0x20, 0x00, &[]), Some(200)),
        // None of these is a header, and without one a trusted proxy is not served.
        (b"".to_vec(), None),
        (b"PROXY TCP4 203.0.112.9\r\n".to_vec(), None),
        (b"PROXY TCP4 999.0.112.9 10.0.0.1 12345 80\r\n".to_vec(), None),
        (b"PROXY TCP4 203.0.112.9 10.0.0.1 12345 80\n".to_vec(), None),
        (v2(0x21, 0x11, &v4(0)[..8]), None),
        (v2(0x31, 0x11, &v4(0)), None),
        (v2(0x21, 0x11, &[0; 5000]), None),
    ] {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(GUARD)).unwrap();
        let request = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let _ = stream.write_all(&[&header[..], request].concat());
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        let got = text.split(' ').nth(1).map(|status| status.parse::<u16>().unwrap());
        assert_eq!(got, status, "{:?}", String::from_utf8_lossy(&header));
    }
    wait_for("them to be counted", || {
        (gateway.metric("scopegate_connections_cut_total{cause=\"proxy_protocol\"}") >= Some(5.0))
            .then_some(())
    });
}

#[test]
fn whoever_is_no_trusted_proxy_cannot_say_whom_it_speaks_for() {
    let mut setup = setup("proxy_protocol: true", &[]);
    setup.gateway.push_str("trusted_proxies: [10.0.0.0/8]\n");
    let gateway = Gateway::start(&setup);
    let response =
        gateway.send("PROXY TCP4 1.2.3.4 10.0.0.1 1 2\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((response.status, response.verdict().as_str()), (400, "request.malformed"));
    assert_eq!(gateway.get("/x", None).status, 200);
}
