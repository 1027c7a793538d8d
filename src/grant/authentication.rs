//! Client authentication: Basic header or body (RFC 6749 §2.3.1), never both with different
//! contents, never the URL.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::assertion::{self, Assertion, CLIENT_ASSERTION};
use super::form::Form;
use super::{ErrorCode, GrantError};
use crate::client::secret::{ClientSecret, Comparison, SecretDigest};
use crate::client::{Client, Registry};
use crate::names::Timestamp;
use crate::request::head::WRAPPED_BASIC;

/// Longest Basic value, in characters.
const MAX_BASIC: usize = 4096;
/// What a request without credentials is told.
const NO_CREDENTIALS: &str = "the request has no client credentials: send client_id and \
    client_secret in the body, or Authorization: Basic with base64 of CLIENT_ID:CLIENT_SECRET";
/// What a client is told that sends its id alone and is not a public one, or not there at all.
const NO_SECRET: &str = "client authentication failed: a client_id without a client_secret";
/// What a client is told whose secret ends with a line break, as `echo` without `-n` writes it.
const LINE_BREAK: &str = "client authentication failed: the secret was sent with a line break at \
    its end; use printf %s or echo -n";
/// What is noted of a right secret that is too short for the way it is kept.
const TOO_SHORT: &str = "the secret is right, and shorter than the 43 characters that `sha256` \
    needs; write it as `argon2id`: `scopegate client digest-secret` prints the line";

/// Credentials of a client: an id, and a secret unless it is public. Basic credentials are tried
/// form-decoded and, when that differs, raw: the RFC requires the former, a third of the clients in
/// the field send the latter.
pub struct Credentials {
    candidates: Vec<(String, Option<Zeroizing<String>>)>,
    assertion: Option<Zeroizing<String>>,
}

/// An authenticated client.
#[derive(Debug)]
pub struct Proven {
    /// The client.
    pub client: Arc<Client>,
    /// The label of the secret that it used.
    pub secret: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the credentials of a request.
    ///
    /// # Errors
    /// `invalid_request` for two Authorization lines or two ways that differ; `invalid_client` when
    /// there are none or they cannot be read, with a description that says so (RFC 6749 §5.2).
    pub fn parse<'a>(
        mut authorization: impl Iterator<Item = &'a [u8]>,
        form: &Form,
    ) -> Result<Self, GrantError> {
        let header = authorization.next();
        if authorization.next().is_some() {
            return Err(GrantError::new(
                ErrorCode::InvalidRequest,
                "the request has two Authorization lines",
            ));
        }
        let body_id = form.value("client_id");
        let body_secret = form.value("client_secret");
        if let Some(assertion) = assertion(form)? {
            if header.is_some() || body_secret.is_some() {
                let text = "the request authenticates the client in two ways";
                return Err(GrantError::new(ErrorCode::InvalidRequest, text));
            }
            let id = assertion::claimed(&assertion)
                .ok_or(GrantError::unauthenticated("an assertion without iss"))?;
            if body_id.is_some_and(|other| other != id) {
                let text = "client_id is not the iss of the assertion";
                return Err(GrantError::new(ErrorCode::InvalidRequest, text));
            }
            return Ok(Self { candidates: vec![(id, None)], assertion: Some(assertion) });
        }
        let Some(header) = header else {
            let id = body_id.ok_or_else(|| {
                GrantError::unauthenticated("no credentials").described(NO_CREDENTIALS)
            })?;
            // Without a secret it can only be a public client (RFC 6749 §2.1, §3.2.1).
            let secret = body_secret.map(|secret| secret.to_owned().into());
            return Ok(Self { candidates: vec![(id.to_owned(), secret)], assertion: None });
        };
        let mut candidates = parse_basic(header)
            .map_err(|fault| GrantError::unauthenticated(fault).described(fault))?;
        // Credentials in the body too must be the same (RFC 6749 §2.3: one method per request).
        let agrees = |(id, secret): &(String, Zeroizing<String>)| {
            body_id.is_none_or(|other| other == id)
                && body_secret.is_none_or(|other| other == secret.as_str())
        };
        candidates.retain(agrees);
        if candidates.is_empty() {
            let text = "the Authorization header and the body name different credentials";
            return Err(GrantError::new(ErrorCode::InvalidRequest, text));
        }
        // Some libraries send Basic with an empty password for a client without a secret.
        let some = |secret: Zeroizing<String>| Some(secret).filter(|secret| !secret.is_empty());
        let candidates = candidates.into_iter().map(|(id, secret)| (id, some(secret))).collect();
        Ok(Self { candidates, assertion: None })
    }

    /// The client that they name, for limits on guessing. Not yet authenticated.
    #[must_use]
    pub fn claimed(&self) -> &str {
        self.candidates.first().map_or("", |(id, _)| id)
    }

    /// The client that its own signature authenticates (RFC 7523 §2.2); `None` where there is no
    /// assertion. The caller ensures that it was not used before.
    ///
    /// # Errors
    /// `invalid_client`.
    pub fn signed(
        &self,
        registry: &Registry,
        audiences: &[&str],
        now: Timestamp,
    ) -> Option<Result<(Arc<Client>, Assertion), GrantError>> {
        let text = self.assertion.as_ref()?;
        let verified = registry.client(self.claimed()).ok_or("unknown client").and_then(|client| {
            let assertion =
                assertion::verify(text, assertion::CLIENT_KIND, client, audiences, now)?;
            // RFC 7523 §3: `sub` of a client's authentication is the client.
            let own = assertion.subject == client.id.as_str();
            if own {
                Ok((client.clone(), assertion))
            } else {
                Err("the assertion's sub is not the client_id")
            }
        });
        Some(verified.map_err(GrantError::unauthenticated))
    }

    /// Whether they have a secret that a slow check (Argon2id) could match.
    #[must_use]
    pub fn has_secret(&self) -> bool {
        self.candidates.iter().any(|(_, secret)| secret.is_some())
    }

    /// Authenticates a client by a secret of ours, which is cheap to check and cannot be guessed,
    /// or without a secret if it is public. An inactive client authenticates: it is refused
    /// afterwards.
    ///
    /// # Errors
    /// `invalid_client`, with a text that depends on what was sent alone. A slow check may still
    /// succeed.
    pub fn prove_fast(&self, registry: &Registry, now: Timestamp) -> Result<Proven, GrantError> {
        let mut cause = "unknown client";
        for (id, secret) in &self.candidates {
            let Some(client) = registry.client(id) else {
                // The same work as for an existing client.
                let secret = secret.as_ref().map_or("", |secret| secret.as_str());
                let _ = ClientSecret { digest: SecretDigest::Sha256([0; 32]), expires: None }
                    .matches(secret);
                continue;
            };
            let Some(secret) = secret else {
                if client.public {
                    return Ok(Proven { client: client.clone(), secret: None });
                }
                cause = "no secret";
                continue;
            };
            cause = if client.public { "public client with a secret" } else { "wrong secret" };
            let fast = client.secrets.iter().filter(|own| !own.is_slow());
            match matching(fast, secret, now) {
                Found::Good(secret) => {
                    return Ok(Proven { client: client.clone(), secret: Some(secret) });
                }
                Found::Expired => cause = "expired secret",
                Found::TooShort => cause = TOO_SHORT,
                Found::Nothing => {}
            }
        }
        let error = GrantError::unauthenticated(cause);
        let mut secrets = self.candidates.iter().filter_map(|(_, secret)| secret.as_ref());
        Err(if !self.has_secret() {
            error.described(NO_SECRET)
        } else if secrets.any(|secret| secret.ends_with('\n')) {
            error.described(LINE_BREAK)
        } else {
            error
        })
    }

    /// Authenticates a client by a secret that a person chose. The work does not reveal whether the
    /// client or such a secret exists: without a match, it costs as much as the slowest secret of
    /// all.
    #[must_use]
    pub fn prove_slowly(&self, registry: &Registry, now: Timestamp) -> Option<Proven> {
        for (id, secret) in
            self.candidates.iter().filter_map(|(id, secret)| Some((id, secret.as_ref()?)))
        {
            let client = registry.client(id);
            let slow = || {
                client.into_iter().flat_map(|client| &client.secrets).filter(|own| own.is_slow())
            };
            if let (Some(client), Found::Good(label)) = (client, matching(slow(), secret, now)) {
                return Some(Proven { client: client.clone(), secret: Some(label) });
            }
            if let Some(slowest) = registry.slowest_secret()
                && !slow().any(|own| own.cost() >= slowest.cost())
            {
                let _ = slowest.matches(secret);
            }
        }
        None
    }
}

/// The result of looking for a secret among those of a client.
enum Found {
    Nothing,
    Expired,
    /// The right one, too short for a plain SHA-256.
    TooShort,
    /// The label of the matching secret.
    Good(String),
}

/// Checks all secrets, so that the time does not reveal which one matches.
fn matching<'a>(
    own: impl Iterator<Item = &'a ClientSecret>,
    secret: &str,
    now: Timestamp,
) -> Found {
    own.fold(Found::Nothing, |found, own| match found {
        Found::Good(label) => {
            let _ = own.matches(secret);
            Found::Good(label)
        }
        found @ (Found::Nothing | Found::Expired | Found::TooShort) => match own.compare(secret) {
            Comparison::Same if own.expired(now) => Found::Expired,
            Comparison::Same => Found::Good(own.label()),
            Comparison::TooShort => Found::TooShort,
            Comparison::Other => found,
        },
    })
}

/// `client_assertion` with the one type there is (RFC 7523 §2.2).
fn assertion(form: &Form) -> Result<Option<Zeroizing<String>>, GrantError> {
    match (form.value("client_assertion_type"), form.value("client_assertion")) {
        (None, None) => Ok(None),
        (Some(CLIENT_ASSERTION), Some(assertion)) => Ok(Some(assertion.to_owned().into())),
        _ => {
            let text =
                format!("client_assertion goes with client_assertion_type={CLIENT_ASSERTION}");
            Err(GrantError::new(ErrorCode::InvalidRequest, text))
        }
    }
}

/// Reads the value of an Authorization line (RFC 7617 §2).
///
/// # Errors
/// Says why it cannot be read, for the client.
fn parse_basic(header: &[u8]) -> Result<Vec<(String, Zeroizing<String>)>, &'static str> {
    let basic = std::str::from_utf8(header)
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    let (_, encoded) = basic.ok_or(
        "the Authorization header is not Basic: this endpoint takes Authorization: Basic with \
            base64 of CLIENT_ID:CLIENT_SECRET, or client_id and client_secret in the body",
    )?;
    let encoded = encoded.trim_matches(' ');
    if encoded.len() > MAX_BASIC {
        return Err("the value of Authorization: Basic is longer than 4096 characters");
    }
    if encoded.contains([' ', '\t']) {
        return Err(WRAPPED_BASIC);
    }
    let decoded = STANDARD.decode(encoded).map(Zeroizing::new).map_err(
        |_| "the value of Authorization: Basic is not base64 of CLIENT_ID:CLIENT_SECRET",
    )?;
    let pair = std::str::from_utf8(&decoded)
        .map_err(|_| "the credentials in Authorization: Basic are not UTF-8")?;
    let (id, secret) = pair.split_once(':').filter(|(id, _)| !id.is_empty()).ok_or(
        "the credentials in Authorization: Basic are not of the form CLIENT_ID:CLIENT_SECRET",
    )?;
    let mut candidates = Vec::new();
    if let (Some(id), Some(secret)) = (form_decode(id), form_decode(secret)) {
        candidates.push((id, secret.into()));
    }
    let raw = (id.to_owned(), Zeroizing::new(secret.to_owned()));
    if !candidates.contains(&raw) {
        candidates.push(raw);
    }
    Ok(candidates)
}

/// application/x-www-form-urlencoded decoding of one value (RFC 6749 appendix B).
fn form_decode(value: &str) -> Option<String> {
    // The parser splits at these, which an encoded value never contains.
    if value.contains(['&', '=']) {
        return None;
    }
    let (name, _) = url::form_urlencoded::parse(value.as_bytes()).next()?;
    (!name.contains('\u{fffd}')).then(|| name.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{ClientId, Origin};
    use sha2::{Digest, Sha256};

    const SECRET: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn client(id: &str, secret: &str, expires: Option<Timestamp>) -> Client {
        Client {
            id: ClientId::new(id),
            name: id.to_owned(),
            provider: None,
            owner: None,
            logo_url: None,
            login_url: None,
            active: true,
            grants: [].into(),
            secrets: vec![ClientSecret {
                digest: SecretDigest::Sha256(Sha256::digest(secret).into()),
                expires,
            }],
            keys: crate::token::KeySet::default(),
            public: false,
            application_user: None,
            roles: [].into(),
            scopes: [].into(),
            allow_only_selected_scopes: true,
            enforce_token_restriction: false,
            limit_authorization: None,
            access_token_lifespan: 1800,
            refresh_token_lifespan: 8_640_000,
            token_format: crate::client::TokenFormat::Jwt,
            redirect_urls: Vec::new(),
            require_pkce: true,
            external: Vec::new(),
            origin: Origin::default(),
        }
    }

    fn outcome(authorization: &[String], body: &str) -> Result<String, ErrorCode> {
        read(authorization, body).map_err(|error| error.code)
    }

    fn read(authorization: &[String], body: &str) -> Result<String, GrantError> {
        let plus = format!("{SECRET}+%41");
        let registry = Registry::new(
            vec![
                client("crm", SECRET, None),
                client("odd+id", &plus, None),
                client("old", SECRET, Some(Timestamp(5))),
                client("short", "hunter2", None),
            ],
            Vec::new(),
            Vec::new(),
        );
        let form = Form::parse(body.as_bytes()).unwrap();
        Credentials::parse(authorization.iter().map(String::as_bytes), &form)
            .and_then(|credentials| credentials.prove_fast(&registry, Timestamp(5)))
            .map(|proven| proven.client.id.to_string())
    }

    fn basic(id: &str, secret: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
    }

    #[test]
    fn header_and_body_prove_a_client() {
        assert_eq!(outcome(&[basic("crm", SECRET)], "").as_deref(), Ok("crm"));
        assert_eq!(
            outcome(&[basic("crm", SECRET).replace("Basic", "bASIC")], "").as_deref(),
            Ok("crm")
        );
        assert_eq!(
            outcome(&[], &format!("client_id=crm&client_secret={SECRET}")).as_deref(),
            Ok("crm")
        );
        assert_eq!(outcome(&[basic("crm", SECRET)], "client_id=crm").as_deref(), Ok("crm"));
    }

    #[test]
    fn basic_credentials_are_taken_form_encoded_and_raw() {
        let encoded = basic("odd%2Bid", &format!("{SECRET}%2B%2541"));
        assert_eq!(outcome(&[encoded], "").as_deref(), Ok("odd+id"));
        assert_eq!(
            outcome(&[basic("odd+id", &format!("{SECRET}+%41"))], "").as_deref(),
            Ok("odd+id")
        );
    }

    #[test]
    fn whatever_fails_gives_the_same_answer() {
        for (authorization, body) in [
            (vec![], String::new()),
            (vec![], "client_id=crm".to_owned()),
            (vec![], format!("client_id=nobody&client_secret={SECRET}")),
            (vec![basic("crm", "wrong")], String::new()),
            (vec![basic("nobody", SECRET)], String::new()),
            (vec![basic("old", SECRET)], String::new()),
            (vec![basic("crm", "")], String::new()),
            (vec!["Basic !!!".to_owned()], String::new()),
            (vec!["Bearer abc".to_owned()], String::new()),
        ] {
            assert_eq!(
                outcome(&authorization, &body),
                Err(ErrorCode::InvalidClient),
                "{authorization:?} {body}"
            );
        }
    }

    #[test]
    fn what_was_sent_is_explained_and_who_exists_is_not() {
        let said = |authorization: &[String], body: &str| {
            let error = read(authorization, body).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidClient);
            error.description.into_owned()
        };
        for (authorization, body, words) in [
            (vec![], "", "no client credentials"),
            (vec!["Bearer abc".to_owned()], "", "is not Basic"),
            (vec!["Basic".to_owned()], "", "is not Basic"),
            (vec!["Basic !!!".to_owned()], "", "not base64"),
            (vec!["Basic MDEy MDEy".to_owned()], "", "base64 wraps at 76"),
            (vec![format!("Basic {}", STANDARD.encode("crm"))], "", "CLIENT_ID:CLIENT_SECRET"),
            (vec![format!("Basic {}", STANDARD.encode(":x"))], "", "CLIENT_ID:CLIENT_SECRET"),
            (vec![format!("Basic {}", STANDARD.encode([0xff]))], "", "UTF-8"),
            (vec![format!("Basic {}", "A".repeat(5000))], "", "4096"),
        ] {
            let text = said(&authorization, body);
            assert!(text.contains(words), "{authorization:?} {body}: {text}");
            assert!(text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\'));
        }
        for secret in ["wrong", "", "hunter2", &format!("{SECRET}\n")] {
            let texts: Vec<String> =
                ["crm", "old", "short", "nobody"].map(|id| said(&[basic(id, secret)], "")).into();
            assert!(texts.iter().all(|text| Some(text) == texts.first()), "{secret:?}: {texts:?}");
        }
        assert!(said(&[], "client_id=crm").contains("without a client_secret"));
        assert!(said(&[basic("crm", "wrong\n")], "").contains("line break"));
    }

    #[test]
    fn the_record_says_that_a_right_secret_is_too_short() {
        let error = read(&[basic("short", "hunter2")], "").unwrap_err();
        assert_eq!(error.cause, Some(TOO_SHORT));
        assert_eq!(error.description, "client authentication failed");
        assert_eq!(read(&[basic("short", "other")], "").unwrap_err().cause, Some("wrong secret"));
    }

    #[test]
    fn a_chosen_secret_is_proven_slowly_alone_and_one_of_ours_fast_alone() {
        let phc = {
            use argon2::PasswordHasher;
            let params = argon2::Params::new(64, 1, 1, None).unwrap();
            argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params)
                .hash_password_with_salt(b"hunter2", b"saltsaltsalt")
                .unwrap()
                .to_string()
        };
        let slow = |expires| ClientSecret { digest: SecretDigest::Argon2id(phc.clone()), expires };
        let mut both = client("both", SECRET, None);
        both.secrets.push(slow(None));
        let mut old = client("old", SECRET, None);
        old.secrets = vec![slow(Some(Timestamp(5)))];
        let registry =
            Registry::new(vec![both, old, client("fast", SECRET, None)], Vec::new(), Vec::new());
        let form = Form::parse(b"").unwrap();
        for (id, secret, fast, slowly) in [
            ("both", SECRET, true, false),
            ("both", "hunter2", false, true),
            ("both", "hunter3", false, false),
            ("old", "hunter2", false, false),
            ("fast", "hunter2", false, false),
            ("fast", SECRET, true, false),
            ("nobody", "hunter2", false, false),
        ] {
            let header = basic(id, secret);
            let credentials = Credentials::parse([header.as_bytes()].into_iter(), &form).unwrap();
            assert_eq!(
                credentials.prove_fast(&registry, Timestamp(5)).is_ok(),
                fast,
                "{id} {secret}"
            );
            assert_eq!(
                credentials.prove_slowly(&registry, Timestamp(5)).is_some(),
                slowly,
                "{id} {secret}"
            );
        }
    }

    #[test]
    fn two_different_ways_are_an_invalid_request() {
        let one = basic("crm", SECRET);
        assert_eq!(outcome(&[one.clone(), one.clone()], ""), Err(ErrorCode::InvalidRequest));
        assert_eq!(
            outcome(std::slice::from_ref(&one), "client_id=old"),
            Err(ErrorCode::InvalidRequest)
        );
        assert_eq!(outcome(&[one], "client_secret=other"), Err(ErrorCode::InvalidRequest));
    }
}
