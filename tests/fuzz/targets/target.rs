//! The canonical target (F5): a fixed point, free of what readers differ on, and the same path to
//! two other implementations.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use percent_encoding::percent_decode_str;
use scopegate::request::target::{Allowances, MAX_BYTES, Target};

fuzz_target!(|raw: &[u8]| -> Corpus {
    let Ok(target) = Target::parse(raw, MAX_BYTES) else {
        assert!(!is_plain(raw), "refused although nothing in it is to be read two ways");
        return Corpus::Keep;
    };
    let text = target.as_str();

    // A fixed point.
    let again = Target::parse(text.as_bytes(), MAX_BYTES).expect("what is canonical is taken");
    assert_eq!(again, target);
    assert!(text.len() <= raw.len(), "decoding makes nothing longer");
    assert_eq!(Target::parse(raw, raw.len()).as_ref(), Ok(&target));
    assert!(Target::parse(raw, raw.len() - 1).is_err(), "one byte over the limit");

    // Nothing in it that readers differ on.
    let path = target.path();
    check_path(path, target.used());

    // The query is what came, byte for byte.
    let query_at = raw.iter().position(|byte| *byte == b'?');
    assert_eq!(target.query().map(str::as_bytes), query_at.map(|at| &raw[at + 1..]));
    let expected =
        path.to_owned() + &target.query().map(|query| format!("?{query}")).unwrap_or_default();
    assert_eq!(text, expected);

    // A second decoder gives the same segments for what came and for what goes on.
    let came =
        std::str::from_utf8(&raw[..query_at.unwrap_or(raw.len())]).expect("only ASCII is taken");
    assert_eq!(segments(came), segments(path));

    // Two other readers of URLs, one of which normalises, see this path and change nothing in it.
    let url = url::Url::parse(&format!("http://host.example{text}")).expect("a URL to others");
    assert_eq!(url.path(), path);
    let uri: http::Uri = target.carried().parse().expect("a target to others");
    assert_eq!(uri.path(), path);

    // A token in the query is found as the form decoder alone finds it.
    let has_name = |fields: &str| {
        url::form_urlencoded::parse(fields.as_bytes())
            .any(|(name, _)| name.to_ascii_lowercase() == "access_token")
    };
    let query = target.query().unwrap_or_default();
    let has_token = has_name(query) || query.split(';').any(has_name);
    assert_eq!(target.has_token_in_query(), has_token);
    Corpus::Keep
});

/// Letters and digits between single slashes: nobody could take offence.
fn is_plain(raw: &[u8]) -> bool {
    raw.len() <= MAX_BYTES
        && raw.first() == Some(&b'/')
        && raw.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'/')
        && !raw.windows(2).any(|two| two == b"//")
}

fn segments(path: &str) -> Vec<Vec<u8>> {
    path.split('/').map(|segment| percent_decode_str(segment).collect()).collect()
}

fn check_path(path: &str, used: Allowances) {
    assert!(path.starts_with('/') && path.is_ascii());
    assert!(
        !path.contains("//") && !path.contains('\\') && !path.contains('#') && !path.contains('?')
    );
    for segment in path.split('/') {
        let name = segment.split(';').next().unwrap_or_default();
        assert!(name != "." && name != "..", "a dot segment");
        let decoded = percent_decode_str(segment).decode_utf8_lossy();
        assert!(
            !matches!(
                decoded.trim_matches([' ', '\u{a0}', '\u{200b}', '\u{3000}', '\u{fffd}']),
                "." | ".."
            ),
            "a dot segment"
        );
    }
    let bytes = path.as_bytes();
    let (mut semicolon, mut slash, mut percent) = (false, false, false);
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                let digits = path.get(at + 1..at + 3).expect("two digits behind a percent sign");
                assert!(
                    digits
                        .bytes()
                        .all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte)),
                    "upper-case hex"
                );
                let escaped = u8::from_str_radix(digits, 16).expect("hex digits");
                assert!(
                    !escaped.is_ascii_control() && !escaped.is_ascii_alphanumeric(),
                    "{digits}"
                );
                assert!(!b".-_~\\".contains(&escaped), "{digits}");
                semicolon |= escaped == b';';
                slash |= escaped == b'/';
                percent |= escaped == b'%';
                at += 3;
            }
            byte => {
                assert!(byte.is_ascii_graphic() && !b"\"<>[]^`{|}".contains(&byte), "{byte:#x}");
                semicolon |= byte == b';';
                at += 1;
            }
        }
    }
    let non_utf8 = segments(path).iter().any(|segment| std::str::from_utf8(segment).is_err());
    assert_eq!(
        used,
        Allowances { semicolon, encoded_slash: slash, encoded_percent: percent, non_utf8 }
    );
}
