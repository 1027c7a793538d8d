//! The way to keys of others: redirects, packed answers, proxies, CAs of one's own. None of them
//! leads anywhere but to the server that the configuration names.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::{POLICIES, at_url, clients, issuer, permit};
use crate::support::issuer::{Key, Mode, now};
use crate::support::tls::{Ca, serve_with};
use crate::support::{Gateway, Issuer, Setup, wait_for};

fn redirect(location: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n");
    format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

fn coded(coding: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\n");
    let length = format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    [head.as_bytes(), length.as_bytes(), body].concat()
}

fn packed(body: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    // Stored blocks (RFC 1951 §3.2.4) in the frame of gzip (RFC 1952 §2.3): no library of ours.
    packed.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    let chunks: Vec<&[u8]> = body.chunks(0xffff).collect();
    for (at, chunk) in chunks.iter().enumerate() {
        let length = u16::try_from(chunk.len()).unwrap();
        packed.push(u8::from(at + 1 == chunks.len()));
        packed.extend_from_slice(&length.to_le_bytes());
        packed.extend_from_slice(&(!length).to_le_bytes());
        packed.extend_from_slice(chunk);
    }
    let crc = !body.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    });
    packed.extend_from_slice(&crc.to_le_bytes());
    packed.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    packed
}

/// What is tried, how the issuer answers, and whether its keys are taken.
type Way = (&'static str, Vec<(&'static str, Vec<u8>)>, bool);

#[test]
fn keys_come_by_redirects_on_their_server_and_packed_and_from_nowhere_else() {
    let key = Key::p256("k1");
    let set = json!({ "keys": [key.jwk()] }).to_string();
    let elsewhere = Issuer::start(std::slice::from_ref(&key));
    let port = elsewhere.url.rsplit(':').next().unwrap().to_owned();
    let by_name = format!("http://localhost:{port}/jwks");
    let to_other = format!("{}/jwks", elsewhere.url);
    let big = [set.as_bytes(), &vec![b' '; 150_000]].concat();
    let ways: Vec<Way> = vec![
        ("a path", vec![("/jwks?", vec![]), ("/jwks", coded("", set.as_bytes()))], true),
        ("gzip", vec![("/jwks", coded("gzip", &packed(set.as_bytes())))], true),
        ("x-gzip in capitals", vec![("/jwks", coded("X-GZIP", &packed(set.as_bytes())))], true),
        (
            "a redirect, twice",
            vec![
                ("/jwks", redirect("a/keys")),
                ("/a/keys", redirect("/b")),
                ("/b", coded("gzip", &packed(set.as_bytes()))),
            ],
            true,
        ),
        (
            "four redirects",
            vec![
                ("/jwks", redirect("/a")),
                ("/a", redirect("/b")),
                ("/b", redirect("/c")),
                ("/c", redirect("/d")),
                ("/d", coded("identity", set.as_bytes())),
            ],
            false,
        ),
        ("a redirect to another port", vec![("/jwks", redirect(&to_other))], false),
        ("a redirect to another name", vec![("/jwks", redirect(&by_name))], false),
        ("a redirect to a file", vec![("/jwks", redirect("file:///etc/hostname"))], false),
        ("gzip that is none", vec![("/jwks", coded("gzip", set.as_bytes()))], false),
        ("another coding", vec![("/jwks", coded("br", set.as_bytes()))], false),
        ("gzip in gzip", vec![("/jwks", coded("gzip, gzip", set.as_bytes()))], false),
        ("gzip of too much", vec![("/jwks", coded("gzip", &packed(&big)))], false),
    ];
    let mut setup = Setup::new(POLICIES, "");
    let (mut servers, mut names, mut issuers) = (Vec::new(), Vec::new(), String::new());
    for (at, (_, script, _)) in ways.iter().enumerate() {
        let server = Issuer::start(std::slice::from_ref(&key));
        server.set_mode(Mode::Script(script.clone()));
        names.push(format!("i{at}"));
        issuers.push_str(&at_url(&names[at], &server));
        servers.push(server);
    }
    setup.gateway = format!("issuers:\n{issuers}");
    setup.clients = clients(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let gateway = Gateway::start(&setup);
    for ((what, _, is_good), server) in ways.iter().zip(&servers) {
        let token = key.token(&server.claims(now()));
        if *is_good {
            permit(&gateway, what, &token).unwrap();
        } else {
            let response = gateway.get("/api/items", Some(&token));
            assert_eq!(response.verdict(), "issuer.unavailable", "{what}: {response:?}");
        }
    }
    assert_eq!(elsewhere.fetches(), 0, "nobody is sent elsewhere");
}

/// A proxy that leads every connection to one server, and remembers what it was asked for.
fn proxy(to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n > 0) {
                head.push(byte[0]);
            }
            let line = String::from_utf8_lossy(&head).lines().next().unwrap_or("").to_owned();
            seen.lock().unwrap().push(line);
            let mut server = TcpStream::connect(to).unwrap();
            let _ = client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
            let (mut back, mut forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back, &mut forth));
            std::thread::spawn(move || std::io::copy(&mut client, &mut server));
        }
    });
    (address, asked)
}

#[test]
fn keys_come_through_a_proxy_from_a_server_of_a_private_ca() {
    let key = Key::p256("k1");
    let set = json!({ "keys": [key.jwk()] }).to_string();
    let ca = Ca::new();
    let server = serve_with(&ca.issue(&["idp.test"]), None, move |_| set.clone());
    let (proxy, asked) = proxy(server);
    let named = Issuer::start(&[]);
    let keys = "{ jwks_url: 'https://idp.test/jwks' }";
    let with_ca = |name: &str, more: &str| {
        issuer(name, &named, keys)
            .replace(&named.url, &format!("urn:{name}"))
            .replace("keys:", &format!("{more} keys:"))
    };
    let token = |name: &str| {
        let claims = super::with(&named.claims(now()), &json!({ "iss": format!("urn:{name}") }));
        key.token(&claims)
    };
    let mut setup = Setup::new(POLICIES, &clients(&["declared", "of_environment", "strange"]));
    setup.files = vec![("ca.pem".to_owned(), ca.pem())];
    setup.gateway = format!(
        "issuers:\n{}{}{}",
        with_ca("declared", &format!("ca: ca.pem, proxy: \"http://{proxy}\",")),
        with_ca("of_environment", "ca: ca.pem,"),
        // The system does not know the CA.
        with_ca("strange", &format!("proxy: \"http://{proxy}\",")),
    );
    setup.environment = vec![("HTTPS_PROXY".to_owned(), format!("http://{proxy}"))];
    let gateway = Gateway::start(&setup);
    for name in ["declared", "of_environment"] {
        permit(&gateway, name, &token(name)).unwrap();
    }
    let response = gateway.get("/api/items", Some(&token("strange")));
    assert_eq!(response.verdict(), "issuer.unavailable", "{response:?}");
    let asked = asked.lock().unwrap().clone();
    assert!(asked.iter().all(|line| line == "CONNECT idp.test:443 HTTP/1.1"), "{asked:?}");
    assert!(asked.len() >= 3);

    // Hosts that are excepted are reached without it; nobody is there.
    setup.environment.push(("NO_PROXY".to_owned(), ".test".to_owned()));
    let gateway = Gateway::start(&setup);
    permit(&gateway, "declared", &token("declared")).unwrap();
    let response = gateway.get("/api/items", Some(&token("of_environment")));
    assert_eq!(response.verdict(), "issuer.unavailable", "{response:?}");
}

#[test]
fn keys_of_no_use_are_named_with_the_reason() {
    let key = Key::p256("k1");
    let server = Issuer::start(&[]);
    let set = json!({ "keys": [key.jwk(), { "kty": "oct", "kid": "shared", "k": "AAAA" },
        super::with(&Key::p256("enc").jwk(), &json!({ "use": "enc" }))] });
    server.set_mode(Mode::Answer(200, set.to_string().into_bytes()));
    let mut setup = Setup::new(POLICIES, &clients(&["corp"]));
    setup.gateway = format!("issuers:\n{}", at_url("corp", &server));
    let gateway = Gateway::start(&setup);
    permit(&gateway, "the key that is of use", &key.token(&server.claims(now()))).unwrap();
    wait_for("the log", || {
        gateway.log().contains("`shared`: a key type that verifies no token here").then_some(())
    });
    for (reason, count) in [("type", 1.0), ("use", 1.0), ("weak", 0.0)] {
        let series = format!("scopegate_jwks_unusable_keys{{issuer=\"corp\",reason=\"{reason}\"}}");
        assert_eq!(gateway.metric(&series), Some(count), "{reason}");
    }
    let listed = |format: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_scopegate"))
            .args(["key", "issuers", "--format", format, "--config"])
            .arg(gateway.folder.path().join("gateway.yaml"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(listed("text").contains("`enc`: not for verifying signatures"));
    let json: serde_json::Value = serde_json::from_str(&listed("json")).unwrap();
    assert_eq!(json["issuers"][0]["of_no_use"], 2);
    assert_eq!(json["issuers"][0]["left_out"].as_array().unwrap().len(), 2);
}
