//! The request head: what is taken is read the same by another parser, and passes a strict check
//! written from RFC 9112 alone.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use scopegate::request::body::Body;
use scopegate::request::head::{Head, Limits, end, host_name};
use scopegate::request::target::Target;

fuzz_target!(|bytes: &[u8]| -> Corpus {
    // As the guard does it: find the end, then read up to there. And as it must hold for any bytes
    // whatever.
    let end_at = end(bytes);
    assert_eq!(end_at, naive_end(bytes));
    check(bytes);
    if let Some(at) = end_at {
        check(&bytes[..at]);
        // Wherever reads were cut, the end is found no earlier and at the same place.
        assert_eq!(end(&bytes[..at]), Some(at));
        assert_eq!(end(&bytes[..at - 1]), None);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        check_host(text);
    }
    Corpus::Keep
});

/// The end of the first line that is empty, the request line apart.
fn naive_end(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        at += line.len();
        if number > 0 && (line == b"\n" || line == b"\r\n") {
            return Some(at);
        }
    }
    None
}

fn check(bytes: &[u8]) {
    let limits = Limits::default();
    let Ok(head) = Head::parse(bytes, &limits) else { return };
    assert_eq!(end(bytes), Some(bytes.len()), "a head ends with its first empty line");

    // Lines, by RFC 9112 §2.2: CRLF ends each, and neither of the two stands anywhere else.
    let text = bytes.strip_suffix(b"\r\n\r\n").expect("an empty line at the end");
    let lines = split_lines(text);
    let (request_line, fields) = lines.split_first().expect("a request line");
    assert!(fields.len() <= limits.fields);
    for line in &lines {
        assert!(!line.contains(&b'\r') && !line.contains(&b'\n') && !line.contains(&0));
    }

    // §3: method SP target SP version, and no other space.
    let parts: Vec<&[u8]> = request_line.split(|byte| *byte == b' ').collect();
    let [method, raw_target, version] = parts[..] else { panic!("three parts") };
    assert!(!method.is_empty() && method.iter().all(|byte| is_tchar(*byte)));
    assert_eq!(head.method.as_bytes(), method);
    assert!(version == b"HTTP/1.1" || version == b"HTTP/1.0");
    assert!(method != b"CONNECT" && method != b"TRACE");

    // §5: names are tokens with the colon right behind; values hold no control character but the
    // tab.
    let mut seen: Vec<(String, &[u8])> = Vec::new();
    for line in fields {
        let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        assert!(!name.is_empty() && name.iter().all(|byte| is_tchar(*byte)));
        assert!(value.iter().all(|byte| *byte == b'\t' || *byte >= 0x20 && *byte != 0x7f));
        seen.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value));
    }
    let values = |name: &str| -> Vec<&[u8]> {
        seen.iter().filter(|(own, _)| own == name).map(|(_, value)| *value).collect()
    };

    // §3.2: one Host, of the form host[:port].
    let [host] = values("host")[..] else { panic!("one Host") };
    let host = std::str::from_utf8(host).expect("ASCII");
    let name = host_name(host).expect("host[:port]");
    assert_eq!(head.host, name);
    assert!(
        name == name.to_ascii_lowercase() && !name.contains(['/', '@', '?', '#', ' ', '%', ','])
    );
    let url = url::Url::parse(&format!("http://{host}/"));
    if let Ok(url) = url {
        let other = url.host_str().expect("a host").trim_end_matches('.').to_owned();
        // A reader of URLs writes addresses of either kind in a form of its own; names stay.
        let is_address = name.starts_with('[') || matches!(url.host(), Some(url::Host::Ipv4(_)));
        assert!(
            is_address || other == name || other.starts_with("xn--") || other.contains(".xn--"),
            "{name} {other}"
        );
    }

    // §6: one framing. A length is digits; a coding is `chunked` alone; never both, and no coding
    // in 1.0.
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1);
    let length = lengths.first().and_then(|length| std::str::from_utf8(length).ok()?.parse().ok());
    let framing =
        if codings.is_empty() { Body::of_length(length.unwrap_or(0)) } else { Body::chunked() };
    assert_eq!(head.body, framing);
    for length in lengths {
        let length: u64 = std::str::from_utf8(length).expect("ASCII").parse().expect("a number");
        assert!(length <= limits.body_bytes);
    }
    for coding in codings {
        assert!(coding.eq_ignore_ascii_case(b"chunked") && version == b"HTTP/1.1");
    }
    assert!(values("expect").iter().all(|value| value.eq_ignore_ascii_case(b"100-continue")));

    // Another parser: same method, same target, same number of fields, same names and values.
    let mut space = [httparse::EMPTY_HEADER; 128];
    let mut other = httparse::Request::new(&mut space);
    let parsed = other.parse(bytes).expect("another parser takes it too");
    assert_eq!(parsed, httparse::Status::Complete(bytes.len()));
    assert_eq!(other.method, Some(head.method.as_str()));
    assert_eq!(other.path.map(str::as_bytes), Some(raw_target));
    assert_eq!(other.version, Some(u8::from(version == b"HTTP/1.1")));
    assert_eq!(other.headers.len(), fields.len());
    for (field, (name, value)) in other.headers.iter().zip(&seen) {
        assert_eq!(&field.name.to_ascii_lowercase(), name);
        assert_eq!(trim(field.value), *value);
    }

    // The target is the canonical form of what came: of all of it, or of what stands behind the
    // authority, which is the Host.
    let origin = match raw_target.iter().position(|byte| *byte == b'/') {
        Some(0) => raw_target,
        _ => {
            let text = std::str::from_utf8(raw_target).expect("ASCII");
            let lower = text.to_ascii_lowercase();
            let scheme = ["http://", "https://"]
                .into_iter()
                .find(|scheme| lower.starts_with(scheme))
                .expect("a scheme");
            let rest = &text[scheme.len()..];
            let path_at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            assert!(rest[..path_at].eq_ignore_ascii_case(host), "the authority is the Host");
            if path_at == rest.len() { b"/" } else { &raw_target[scheme.len() + path_at..] }
        }
    };
    assert_eq!(Target::parse(origin, limits.target_bytes).as_ref(), Ok(&head.target));
}

fn split_lines(text: &[u8]) -> Vec<&[u8]> {
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    lines
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn check_host(text: &str) {
    if let Some(name) = host_name(text) {
        assert_eq!(host_name(&name).as_deref(), Some(name.as_str()), "a name is its own name");
        assert!(!name.is_empty() && name.len() <= 253.max(text.len()));
    }
}
