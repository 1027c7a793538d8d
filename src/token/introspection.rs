//! What an issuer says of one of its opaque tokens (RFC 7662 §2.2).

use std::borrow::Cow;

use super::Facts;
use super::claims::{IssuerRules, text};
use super::json::{Json, Object};
use crate::names::Timestamp;
use crate::reason::{TokenError, TokenFault};

impl IssuerRules {
    /// Reads an answer. `None` is a token that is not good there: anything but the boolean `true`
    /// denies. Members that an issuer may leave out are what the question says: the issuer is the
    /// one that was asked, and without an expiry the facts are good until `until`.
    ///
    /// # Errors
    /// The precise fault of an active token's members: `issuer` for one of another issuer, `type`
    /// for one that is no bearer token.
    pub fn introspected(
        &self,
        answer: &Object<'_>,
        until: Timestamp,
    ) -> Result<Option<Facts>, TokenError> {
        if answer.get("active") != Some(&Json::Bool(true)) {
            return Ok(None);
        }
        let kind = text(answer, "token_type")?;
        if kind.is_some_and(|kind| {
            !matches!(kind.to_ascii_lowercase().as_str(), "bearer" | "access_token")
        }) {
            let text = "token_type is none of a bearer token";
            return Err(TokenError::because(TokenFault::Type, text));
        }
        let mut claims = answer.clone();
        claims.insert_if_absent("iss", Json::Text(Cow::Borrowed(&self.issuer)));
        claims.insert_if_absent("exp", Json::Number(until.0.into()));
        // Without a user the client acts for itself.
        if let Some(user) = text(answer, "username")? {
            claims.insert_if_absent("sub", Json::Text(Cow::Owned(user)));
        }
        self.facts(&claims, None).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::IssuerName;
    use crate::token::claims::{Audience, ClaimNames};

    fn rules() -> IssuerRules {
        IssuerRules {
            name: IssuerName::new("partner"),
            issuer: "https://partner.example".into(),
            tenants: None,
            audience: Audience::Any,
            algorithms: vec![],
            types: vec!["at+jwt".into(), "jwt".into()],
            id_tokens: false,
            claims: ClaimNames {
                client: vec!["client_id".into()],
                subject: vec!["sub".into()],
                scopes: vec!["scope".into()],
                roles: vec![],
                separator: ' ',
            },
            leeway: 30,
            kept: vec![],
        }
    }

    fn read(answer: &str) -> Result<Option<Facts>, TokenFault> {
        let answer = Object::parse(answer.as_bytes()).unwrap();
        rules().introspected(&answer, Timestamp(60)).map_err(|error| error.fault)
    }

    #[test]
    fn only_the_boolean_true_is_active() {
        for answer in [
            r#"{"client_id": "c"}"#,
            r#"{"active": false, "client_id": "c"}"#,
            r#"{"active": "true", "client_id": "c"}"#,
            r#"{"active": 1, "client_id": "c"}"#,
            r#"{"active": null, "client_id": "c"}"#,
            r#"{"active": [true], "client_id": "c"}"#,
        ] {
            assert_eq!(read(answer), Ok(None), "{answer}");
        }
    }

    #[test]
    fn what_an_issuer_may_leave_out_is_what_the_question_says() {
        let facts = read(r#"{"active": true, "client_id": "c", "scope": "a b"}"#).unwrap().unwrap();
        assert_eq!(
            (facts.subject.as_str(), facts.client.as_deref(), facts.expires),
            ("c", Some("c"), Timestamp(60))
        );
        assert_eq!(facts.scopes.unwrap().to_value(), "a b");
        let facts = read(r#"{"active": true, "username": "u", "exp": 70, "nbf": 5, "jti": "j"}"#)
            .unwrap()
            .unwrap();
        assert_eq!(
            (facts.subject.as_str(), facts.expires, facts.id.as_deref()),
            ("u", Timestamp(70), Some("j"))
        );
        assert_eq!(
            (facts.client, facts.scopes.unwrap().len()),
            (None, 0),
            "declared and absent is no scope at all"
        );
        assert_eq!(read(r#"{"active": true, "sub": "s"}"#).unwrap().unwrap().subject, "s");
    }

    #[test]
    fn members_that_are_wrong_are_faults() {
        for (answer, fault) in [
            (
                r#"{"active": true, "client_id": "c", "iss": "https://other.example"}"#,
                TokenFault::Issuer,
            ),
            (r#"{"active": true, "client_id": "c", "token_type": "DPoP"}"#, TokenFault::Type),
            (r#"{"active": true, "client_id": "c", "token_type": 7}"#, TokenFault::Claims),
            (r#"{"active": true, "client_id": 7}"#, TokenFault::Claims),
            (r#"{"active": true, "client_id": "c", "exp": "soon"}"#, TokenFault::Claims),
            (r#"{"active": true}"#, TokenFault::Claims),
        ] {
            assert_eq!(read(answer), Err(fault), "{answer}");
        }
        assert!(read(r#"{"active": true, "client_id": "c", "cnf": {}}"#).unwrap().unwrap().bound);
        let facts =
            read(r#"{"active": true, "client_id": "c", "exp": null, "sub": null, "scope": 7}"#);
        let facts = facts.unwrap().unwrap();
        assert_eq!((facts.expires, facts.subject.as_str()), (Timestamp(60), "c"), "null is absent");
        assert_eq!((facts.scopes.unwrap().len(), &*facts.unread), (0, &["scope".to_owned()][..]));
    }
}
