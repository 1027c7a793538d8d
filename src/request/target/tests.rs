use super::*;

fn path(raw: &str) -> Result<String, Reason> {
    Target::parse(raw.as_bytes(), MAX_BYTES).map(|target| target.as_str().to_owned()).map_err(|refusal| refusal.reason)
}

#[test]
fn only_case_of_escapes_and_escaped_unreserved_characters_are_rewritten() {
    for (raw, canonical) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/", "/a/"),
        ("/%61%7e%2D%5f", "/a~-_"),
        ("/%c3%a4", "/%C3%A4"),
        ("/a%20b", "/a%20b"),
        ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
        ("/a?b=%2e%2e/../c", "/a?b=%2e%2e/../c"),
        ("/a?", "/a?"),
        ("/a?b?c", "/a?b?c"),
        ("/a...b/..c/c..", "/a...b/..c/c.."),
    ] {
        assert_eq!(path(raw).as_deref(), Ok(canonical), "{raw}");
    }
}

#[test]
fn what_two_readers_could_understand_differently_is_refused() {
    for raw in [
        "/a/../b",
        "/a/./b",
        "/..",
        "/.",
        "/a/..",
        "/%2e%2e/a",
        "/%2E",
        "/a%2eb",
        "//a",
        "/a//b",
        "/a//",
        "/a\\b",
        "/a%5cb",
        "/a%00",
        "/a%0a",
        "/a%7f",
        "/a%",
        "/a%2",
        "/a%zz",
        "/a b",
        "/a#b",
        "/a?b#c",
        "/ä",
        "/a\tb",
        "/a|b",
        "/a\"b",
        "/..;/a",
        "/a/..;x=1/b",
        "/.;/a",
    ] {
        assert_eq!(path(raw), Err(Reason::PathAmbiguous), "{raw}");
    }
}

#[test]
fn a_target_that_is_no_path_is_malformed() {
    for raw in ["", "a", "*", "?a", "http://a/b"] {
        assert_eq!(path(raw), Err(Reason::RequestMalformed), "{raw}");
    }
    assert_eq!(path("/a?b c"), Err(Reason::RequestMalformed));
}

#[test]
fn characters_that_an_api_must_allow_are_reported_not_refused() {
    let used = |raw: &str| Target::parse(raw.as_bytes(), MAX_BYTES).unwrap().used();
    assert!(used("/a;b").semicolon);
    assert!(used("/a%3bb").semicolon);
    assert!(used("/a%2fb").encoded_slash);
    assert!(used("/a%252e").encoded_percent);
    assert_eq!(used("/a%20b"), Allowances::default());
    assert!(!Allowances::default().covers(used("/a%2fb")));
    assert!(Allowances { encoded_slash: true, ..Allowances::default() }.covers(used("/a%2fb")));
}

#[test]
fn the_length_limit_is_exact() {
    let long = format!("/{}", "a".repeat(MAX_BYTES - 1));
    assert!(path(&long).is_ok());
    assert_eq!(path(&format!("{long}a")), Err(Reason::RequestTarget));
}

#[test]
fn a_token_in_the_query_is_seen_in_every_spelling() {
    let seen = |raw: &str| Target::parse(raw.as_bytes(), MAX_BYTES).unwrap().has_token_in_query();
    for raw in
        ["/?access_token=a", "/?x=1&access_token", "/?access%5Ftoken=a", "/?%61ccess_token=a", "/?ACCESS_TOKEN=a"]
    {
        assert!(seen(raw), "{raw}");
    }
    for raw in ["/", "/?", "/?token=a", "/?x=access_token", "/?access_token_type=a"] {
        assert!(!seen(raw), "{raw}");
    }
}

proptest::proptest! {
    #[test]
    fn canonical_is_a_fixed_point_and_holds_nothing_ambiguous(raw in "/[ -~%/.;a-c2eEfF5]{0,24}") {
        if let Ok(target) = Target::parse(raw.as_bytes(), MAX_BYTES) {
            let again = Target::parse(target.as_str().as_bytes(), MAX_BYTES).unwrap();
            proptest::prop_assert_eq!(&again, &target);
            let path = target.path();
            proptest::prop_assert!(!path.contains("//") && !path.contains('\\') && !path.contains("%2E"));
            proptest::prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
        }
    }
}

#[test]
fn every_target_that_is_taken_is_one_that_the_http_library_carries_unchanged() {
    for byte in 0..=255_u8 {
        for raw in [
            vec![b'/', byte, b'a'],
            vec![b'/', b'?', byte, b'a'],
            vec![b'/', b'%', b'0' + (byte >> 4) % 10, b'4', byte],
        ] {
            if let Ok(target) = Target::parse(&raw, MAX_BYTES) {
                let carried: http::uri::PathAndQuery = target.as_str().parse().unwrap();
                assert_eq!(carried.as_str(), target.as_str());
            }
        }
    }
}

/// The quick reading may say yes only where the careful one changes nothing and refuses nothing.
#[test]
fn a_plain_path_is_read_as_the_careful_reading_reads_it() {
    let alphabet = b"a/.%;2~:-?";
    let mut plains = 0;
    for number in 0..alphabet.len().pow(5) {
        let mut left = number;
        let path: Vec<u8> = std::iter::once(b'/')
            .chain((0..5).map(|_| {
                let byte = alphabet[left % alphabet.len()];
                left /= alphabet.len();
                byte
            }))
            .collect();
        if let Some(path) = plain(&path) {
            plains += 1;
            let mut text = String::new();
            assert_eq!(canonicalise(path.as_bytes(), &mut text).unwrap(), Allowances::default(), "{path}");
            refuse_segments(&text).unwrap();
            assert_eq!(text, path);
        }
    }
    assert!(plains > 1_000, "{plains}");
}
