use proptest::prelude::*;

use super::*;
use crate::client::User;
use crate::names::{Origin, ScopeName, UserName};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn client(scopes: &[&str]) -> Client {
    Client {
        grants: [GrantType::AuthorizationCode, GrantType::RefreshToken].into(),
        scopes: scopes.iter().map(|scope| ScopeName::new(scope)).collect(),
        ..Client::of_tests("crm")
    }
}

fn registry() -> Registry {
    let user = User {
        name: UserName::new("alice"),
        display_name: None,
        password: None,
        active: true,
        locked: false,
        roles: [].into(),
        external: Vec::new(),
        origin: Origin::default(),
    };
    Registry::new(Vec::new(), vec![user], Vec::new())
}

fn request(scope: Option<String>) -> TokenRequest {
    TokenRequest {
        grant_type: Some("refresh_token".into()),
        scope,
        resource: None,
        code: None,
        redirect_uri: None,
        code_verifier: None,
        refresh_token: None,
        username: None,
        password: None,
        assertion: None,
    }
}

fn some() -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(NAMES.to_vec(), 0..=NAMES.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// Whatever is asked for, what is granted lies within what was allowed and what the client
    /// holds now.
    #[test]
    fn nothing_is_granted_that_was_not_allowed_or_is_not_held(
        held in some(),
        allowed in some(),
        asked in proptest::option::of(some()),
    ) {
        let authorization = Authorization {
            id: "1".into(),
            client: "crm".into(),
            subject: "alice".into(),
            scopes: allowed.iter().map(|scope| ScopeName::new(scope)).collect(),
            resource: None,
        };
        let asked_text = asked.as_ref().map(|asked| asked.join(" "));
        let result = refresh(&authorization, &client(&held), &registry(), &request(asked_text),
            "https://g.example");
        let within: Vec<&str> = allowed.iter().copied().filter(|scope|
            held.contains(scope)).collect();
        match (result, &asked) {
            (Ok(granted), asked) => {
                let granted: Vec<&str> =
                    granted.scopes.as_slice().iter().map(ScopeName::as_str).collect();
                prop_assert!(granted.iter().all(|scope| within.contains(scope)), "{:?} of \
                    {:?}", granted, within);
                let asked = asked.as_ref().filter(|asked| !asked.is_empty()).unwrap_or(&within);
                prop_assert_eq!(&granted, asked);
            }
            (Err(error), Some(asked)) => {
                prop_assert_eq!(error.code, ErrorCode::InvalidScope);
                prop_assert!(asked.iter().any(|scope| !within.contains(scope)));
            }
            (Err(error), None) => prop_assert!(false, "{error:?}"),
        }
    }
}
