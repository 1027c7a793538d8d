use super::*;

fn path(raw: &str) -> Result<String, Reason> {
    Target::parse(raw.as_bytes(), MAX_BYTES)
        .map(|target| target.as_str().to_owned())
        .map_err(|refusal| refusal.reason)
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
        "/...",
        "/a/..../b",
    ] {
        assert_eq!(path(raw), Err(Reason::PathAmbiguous), "{raw}");
    }
}

#[test]
fn a_segment_that_some_server_trims_or_normalises_into_a_dot_segment_is_refused() {
    for segment in [
        "..%20",
        "%20..",
        ".%20.",
        ".%20",
        "%20.",
        "..%20%20",
        ".%20..",
        "...%20",
        // Fullwidth, small and one-dot-leader dots, and what becomes two or three of them.
        "%ef%bc%8e%ef%bc%8e",
        "%ef%bc%8e",
        "%ef%b9%92%ef%b9%92",
        "%e2%80%a4%e2%80%a4",
        "%e2%80%a5",
        "%e2%80%a6",
        "%ef%b8%b0",
        "%ef%b8%99",
        ".%e2%80%a4",
        "..%e2%80%8b",
        "%ef%bb%bf..",
        ".%c2%ad.",
        "..%e3%80%80",
        "..%c2%a0",
        "%e2%80%ae..",
        "..%e2%81%a0",
        "..%cd%8f",
        "..%ef%b8%8f",
        "..%e1%85%9f",
        "..%e2%80%a8",
    ] {
        for raw in [format!("/a/{segment}/b"), format!("/{segment}"), format!("/a/x%2F{segment}")] {
            assert_eq!(path(&raw), Err(Reason::PathAmbiguous), "{raw}");
        }
    }
    for raw in [
        "/%20",
        "/a/%c2%a0",
        "/%20a..",
        "/..a%20",
        "/v1..v2",
        "/a%20.",
        "/x%e2%80%a6y",
        "/%e2%80%a6x",
    ] {
        assert!(path(raw).is_ok(), "{raw}");
    }
}

#[test]
fn a_separator_that_appears_by_normalisation_is_refused() {
    for escape in [
        "%ef%bc%8f",
        "%ef%bc%bc",
        "%ef%b9%a8",
        "%ef%bc%9b",
        "%ef%b9%94",
        "%cd%be",
        "%ef%bc%85",
        "%ef%b9%aa",
        "%ef%bc%9f",
        "%e2%81%87",
        "%ef%bc%83",
        "%ef%b9%9f",
        "%e2%84%80",
        "%e2%84%81",
        "%e2%84%85",
        "%e2%84%86",
        "%c2%80",
        "%c2%9f",
    ] {
        for raw in [
            format!("/x{escape}y"),
            format!("/{escape}"),
            format!("/a/{escape}%ef%bc%8e%ef%bc%8e{escape}y"),
        ] {
            assert_eq!(path(&raw), Err(Reason::PathAmbiguous), "{raw}");
        }
    }
    // These are no separators, in no form; and the ones that stand as escapes of their own are what they are.
    for raw in [
        "/a%3Fb",
        "/a%23b",
        "/1%e2%81%842",
        "/%e2%88%95",
        "/%c2%bd",
        "/%e4%b8%ad",
        "/%c3%a4%3F",
        "/e%cc%81",
    ] {
        assert!(path(raw).is_ok(), "{raw}");
    }
}

#[test]
fn escapes_that_are_no_utf8_need_an_allowance_and_overlong_forms_have_none() {
    let used = |raw: &str| Target::parse(raw.as_bytes(), MAX_BYTES).map(|target| target.used());
    let non_utf8 = Allowances { non_utf8: true, ..Allowances::default() };
    for raw in [
        "/%ff",
        "/caf%e9",
        "/%e9t%e9",
        "/%80",
        "/%bf",
        "/a/%fe%ff/b",
        "/%f5%80%80%80",
        "/%e2%82",
        "/%f4%90%80%80",
    ] {
        assert_eq!(used(raw).unwrap(), non_utf8, "{raw}");
        assert!(
            !Allowances::default().covers(used(raw).unwrap())
                && non_utf8.covers(used(raw).unwrap())
        );
    }
    for raw in [
        "/%c0%ae%c0%ae",
        "/%c0%af",
        "/%c1%9c",
        "/%c0",
        "/x%c1y",
        "/%e0%80%ae",
        "/%e0%80%af",
        "/%e0%9f%bf",
        "/%f0%80%80%ae",
        "/%f0%8f%bf%bf",
        "/%f8%80%80%80%ae",
        "/%fc%80%80%80%80%ae",
        "/%ed%a0%80",
        "/%ed%bf%bf",
        "/%ed%a0%bd%ed%b8%80",
        "/..%ff",
        "/%ff.%fe.",
        "/%80..",
    ] {
        assert_eq!(path(raw), Err(Reason::PathAmbiguous), "{raw}");
    }
}

#[test]
fn escapes_of_characters_that_templates_have_plain_are_seen() {
    let seen = |raw: &str| Target::parse(raw.as_bytes(), MAX_BYTES).unwrap().has_escaped_reserved();
    for character in ":@!$&'()*+,=".chars() {
        let escape = format!("%{:02x}", u32::from(character));
        assert!(seen(&format!("/a/7{escape}b")), "{escape}");
        assert_eq!(
            decode_reserved(&format!("7{}b", escape.to_uppercase())),
            format!("7{character}b")
        );
    }
    for raw in ["/a:b", "/a%20b", "/a%3Fb", "/a%2Fb", "/a?x=%3a", "/%c3%a4"] {
        assert!(!seen(raw), "{raw}");
    }
    assert_eq!(decode_reserved("%20%3A%253A%2F%C3%A4"), "%20:%253A%2F%C3%A4");
}

#[test]
fn a_target_that_is_no_path_is_malformed() {
    for raw in ["", "a", "*", "?a", "http://a/b"] {
        assert_eq!(path(raw), Err(Reason::RequestMalformed), "{raw}");
    }
    assert_eq!(path("/a?b c"), Err(Reason::RequestMalformed));
}

#[test]
fn a_raw_byte_in_a_query_is_named_with_the_key_that_lets_it() {
    let none = QueryAllowances::default();
    let quotes = QueryAllowances { quotes: true, ..none };
    let utf8 = QueryAllowances { utf8: true, ..none };
    let told = |raw: &[u8], allow| {
        let refused = match Target::parse(raw, MAX_BYTES) {
            Ok(target) => target.check_query(allow).err(),
            Err(refusal) => Some(refusal),
        };
        refused.map(|refusal| refusal.fault.text().to_owned()).unwrap_or_default()
    };
    for (raw, allow, words) in [
        (
            &b"/?a\"b"[..],
            none,
            "0x22 in the query: it is sent as %22, or an API lets it with `query: \
            { allow: [quotes] }`",
        ),
        (b"/?a<b", utf8, "0x3C in the query"),
        (b"/?a>b", utf8, "allow: [quotes]"),
        (
            b"/?\xc3\xbc\"",
            quotes,
            "0xC3 in the query: it is sent as %C3, or an API lets it with \
            `query: { allow: [utf8] }`",
        ),
        (
            b"/?a b",
            quotes,
            "0x20 in the query: no API lets a space or control byte, it is sent as %20",
        ),
        (b"/?a\x7f", utf8, "0x7F in the query"),
        (b"/?\xfc", utf8, "0xFC in the query: no API lets what is no UTF-8"),
        (b"/?a\xc0\xae", utf8, "0xC0 in the query"),
        (b"/?a\xed\xa0\x80", utf8, "0xED in the query"),
    ] {
        assert!(told(raw, allow).contains(words), "{}", told(raw, allow));
    }
    let all = QueryAllowances { quotes: true, utf8: true };
    for raw in [&b"/?{\"a\":[\"<b>\"]}"[..], "/?ü=€&😀".as_bytes(), b"/?", b"/?a\\b|c`{^}[]%zz"]
    {
        assert_eq!(told(raw, all), "");
        let target = Target::parse(raw, MAX_BYTES).unwrap();
        assert_eq!(target.as_str().as_bytes(), raw);
    }
    let long = format!("/?{}", "\"".repeat(22_000));
    let refused = Target::parse(long.as_bytes(), usize::MAX).unwrap_err();
    assert_eq!(refused.reason, Reason::RequestTarget);
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
    for raw in [
        "/?access_token=a",
        "/?x=1&access_token",
        "/?access%5Ftoken=a",
        "/?%61ccess_token=a",
        "/?ACCESS_TOKEN=a",
        "/?a=1;access_token=b",
        "/?a=1;b=2;access%5ftoken=b&c=3",
        "/?access_token;x",
        "/?x;access_token",
        "/?a;b=1&c;access_token=1",
    ] {
        assert!(seen(raw), "{raw}");
    }
    for raw in [
        "/",
        "/?",
        "/?token=a",
        "/?x=access_token",
        "/?access_token_type=a",
        "/?x=1;y=access_token",
        "/?a=1;x_access_token=2",
    ] {
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
                let carried: http::uri::PathAndQuery = target.carried().parse().unwrap();
                assert_eq!(carried.as_str(), target.carried());
                assert_eq!(target.has_quotes(), target.carried() != target.as_str());
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
            assert_eq!(
                canonicalise(path.as_bytes(), &mut text).unwrap(),
                Allowances::default(),
                "{path}"
            );
            assert_eq!(check_segments(&text).unwrap(), Encoding::Utf8, "{text}");
            assert_eq!(text, path);
        }
    }
    assert!(plains > 1_000, "{plains}");
}
