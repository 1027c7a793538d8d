//! A token among the subprotocols of a WebSocket handshake. Browsers cannot send Authorization with
//! one, so a page offers `bearer` and the token: `Sec-WebSocket-Protocol: bearer, <token>`.

use super::credential::BearerToken;
use crate::reason::{Reason, Refusal};

/// The name that says that the next one is a token.
pub const BEARER: &str = "bearer";

/// Subprotocols of which one is a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The token.
    pub token: Result<BearerToken, Refusal>,
    /// The names besides the two, in their order: these alone are forwarded.
    pub others: Vec<String>,
}

/// Takes the token out of the subprotocols that a client offers (RFC 6455 §4.1). `None` where
/// `bearer` is not among them.
///
/// The token is refused as one of an Authorization header would be: `token.several` where `bearer`
/// is offered twice, `token.malformed` where no token follows it, or one of more than `most` bytes.
#[must_use]
pub fn take_token<'a>(lines: impl Iterator<Item = &'a [u8]>, most: usize) -> Option<Offered> {
    let lines: Vec<&[u8]> = lines.collect();
    let names: Vec<String> = lines
        .iter()
        .flat_map(|line| line.split(|byte| *byte == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).into_owned())
        .filter(|name| !name.is_empty())
        .collect();
    let at = names.iter().position(|name| name == BEARER)?;
    let malformed = |why: &'static str| Err(Refusal::because(Reason::TokenMalformed, why));
    let others = |skipped: usize| {
        let kept = |(number, name): (usize, &String)| {
            (!(at..at + skipped).contains(&number) && name != BEARER).then(|| name.clone())
        };
        names.iter().enumerate().filter_map(kept).collect()
    };
    let token = match names.get(at + 1) {
        _ if names.iter().filter(|name| *name == BEARER).count() > 1 => {
            Err(Refusal::new(Reason::TokenSeveral))
        }
        None => malformed("`bearer` is the last subprotocol, and no token follows it"),
        Some(token) if token.len() > most => {
            malformed("the token among the subprotocols is over edge.max_token_size")
        }
        Some(token) => BearerToken::parse(token),
    };
    Some(Offered { token, others: others(2) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(lines: &[&str], most: usize) -> Option<(Result<String, Reason>, String)> {
        let offered = take_token(lines.iter().map(|line| line.as_bytes()), most)?;
        let token = offered.token.map(|token| token.expose().to_owned());
        Some((token.map_err(|refusal| refusal.reason), offered.others.join(", ")))
    }

    #[test]
    fn the_name_behind_bearer_is_the_token_and_both_are_taken_out() {
        let ok = |token: &str, others: &str| Some((Ok(token.to_owned()), others.to_owned()));
        let refused = |reason, others: &str| Some((Err(reason), others.to_owned()));
        for (lines, expected) in [
            (&["bearer, a.b.c"][..], ok("a.b.c", "")),
            (&["chat, bearer,a.b.c , v2"], ok("a.b.c", "chat, v2")),
            (&["chat", "bearer", "a.b.c", "v2"], ok("a.b.c", "chat, v2")),
            (&["chat, v2"], None),
            (&["Bearer, a.b.c"], None),
            (&["a.b.c"], None),
            (&[""], None),
            (&["chat, bearer"], refused(Reason::TokenMalformed, "chat")),
            (&["bearer, a b"], refused(Reason::TokenMalformed, "")),
            (&["bearer, a, bearer, b"], refused(Reason::TokenSeveral, "b")),
            (&["bearer, 0123456789abcdef0"], refused(Reason::TokenMalformed, "")),
        ] {
            assert_eq!(taken(lines, 16), expected, "{lines:?}");
        }
        let broken = take_token([&b"bearer, \xff\xfe"[..]].into_iter(), 16).unwrap();
        assert_eq!(broken.token.unwrap_err().reason, Reason::TokenMalformed);
    }
}
