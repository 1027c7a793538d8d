//! Cookies of ours. They are between browsers and us: no upstream is sent one, and none can set or
//! clear one.
//!
//! Ours are all whose name begins with `scopegate` in any case, behind a prefix of RFC 6265bis
//! §4.1.3 or not. Of a nameless cookie the value counts: to some readers it is a name.

/// How the names of our cookies begin.
pub const OURS: &str = "scopegate";
const PREFIXES: [&[u8]; 2] = [b"__host-", b"__secure-"];

/// What is left of a header line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All of it: nothing was taken out.
    All,
    /// A part, byte for byte as it was.
    Part(Vec<u8>),
    /// Nothing: the line goes.
    Nothing,
}

/// Whether a `name=value` pair, or a nameless value, is a cookie of ours.
#[must_use]
pub fn is_ours(pair: &[u8]) -> bool {
    // A name that is empty leaves the value to be taken for it: `=scopegate=x` is sent back as
    // `scopegate=x`.
    let start =
        pair.iter().position(|byte| !is_blank(*byte) && *byte != b'=').unwrap_or(pair.len());
    let mut name = pair.get(start..).unwrap_or_default();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| strip(name, prefix)) {
        name = rest;
    }
    strip(name, OURS.as_bytes()).is_some()
}

/// What is left of a `Cookie` line without our cookies; the others stay byte for byte.
#[must_use]
pub fn without_ours(line: &[u8]) -> Kept {
    without(line, b';', is_ours)
}

/// What is left of a `Set-Cookie` line: all or nothing (RFC 6265 §4.1).
#[must_use]
pub fn not_setting_ours(line: &[u8]) -> Kept {
    if is_ours(line) { Kept::Nothing } else { Kept::All }
}

/// What is left of a `Clear-Site-Data` line that may not clear cookies (W3C Clear Site Data §3.1).
#[must_use]
pub fn without_clearing(line: &[u8]) -> Kept {
    without(line, b',', |directive| {
        let trimmed = |byte: &u8| is_blank(*byte) || *byte == b'"';
        let start = directive.iter().position(|byte| !trimmed(byte)).unwrap_or(directive.len());
        let end = directive.iter().rposition(|byte| !trimmed(byte)).map_or(start, |at| at + 1);
        let name = directive.get(start..end).unwrap_or_default();
        name == b"*" || name.eq_ignore_ascii_case(b"cookies")
    })
}

fn without(line: &[u8], between: u8, taken: impl Fn(&[u8]) -> bool) -> Kept {
    if !line.split(|byte| *byte == between).any(&taken) {
        return Kept::All;
    }
    let mut kept: Vec<u8> = Vec::with_capacity(line.len());
    let mut any = false;
    for part in line.split(|byte| *byte == between).filter(|part| !taken(part)) {
        if any {
            kept.push(between);
        }
        // What now stands first needs no blank before it.
        let blanks = if any { 0 } else { part.iter().take_while(|byte| is_blank(**byte)).count() };
        kept.extend_from_slice(part.get(blanks..).unwrap_or_default());
        any = true;
    }
    if kept.iter().all(|byte| is_blank(*byte) || *byte == between) {
        Kept::Nothing
    } else {
        Kept::Part(kept)
    }
}

const fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte.is_ascii_control()
}

fn strip<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_ours_by_its_name_in_every_spelling() {
        for ours in [
            "scopegate=x",
            "__Host-scopegate=x",
            "__Secure-scopegate=x",
            "__host-ScopeGate-login-abc=x",
            "scopegate-device=x",
            "SCOPEGATE=x",
            " scopegate =x",
            "\tscopegate=x",
            "scopegate",
            "=scopegate=x",
            " = __Host-scopegate=x",
            "=__Secure-scopegate",
            "scopegateX=1",
            "__Secure-__Host-scopegate=x",
        ] {
            assert!(is_ours(ours.as_bytes()), "{ours:?}");
        }
        for other in [
            "",
            "=",
            "a=scopegate",
            "xscopegate=1",
            "scopegat=e",
            "__Host-a=scopegate",
            "a=b=scopegate",
            "\"scopegate\"=x",
        ] {
            assert!(!is_ours(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn other_cookies_stay_byte_for_byte() {
        let part = |text: &str| Kept::Part(text.as_bytes().to_vec());
        for (line, kept) in [
            ("a=1; b=2", Kept::All),
            ("a=1;b=\"x y\" ;; c", Kept::All),
            ("", Kept::All),
            ("scopegate=x", Kept::Nothing),
            ("scopegate=x; ", Kept::Nothing),
            ("scopegate=x;;__Host-scopegate=y", Kept::Nothing),
            ("scopegate=x; a=1", part("a=1")),
            ("a=1; scopegate=x", part("a=1")),
            ("a=1; __Host-scopegate=x; b=2", part("a=1; b=2")),
            ("a=1;scopegate=x;b=\u{e4}=2 ;c", part("a=1;b=\u{e4}=2 ;c")),
            ("a=1; scopegate=x; scopegate-login-1=y;  b=scopegate", part("a=1;  b=scopegate")),
        ] {
            assert_eq!(without_ours(line.as_bytes()), kept, "{line:?}");
        }
    }

    #[test]
    fn an_upstream_may_clear_everything_but_cookies() {
        let part = |text: &str| Kept::Part(text.as_bytes().to_vec());
        for (line, kept) in [
            ("\"cache\"", Kept::All),
            ("\"cache\", \"storage\"", Kept::All),
            ("\"cookies\"", Kept::Nothing),
            ("\"*\"", Kept::Nothing),
            ("*", Kept::Nothing),
            ("\"Cookies\" , \"cache\"", part("\"cache\"")),
            ("\"cache\",\"cookies\",\"storage\"", part("\"cache\",\"storage\"")),
            ("\"cache\", \" * \"", part("\"cache\"")),
        ] {
            assert_eq!(without_clearing(line.as_bytes()), kept, "{line:?}");
        }
    }
}
