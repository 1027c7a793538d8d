use proptest::prelude::*;

use super::*;
use crate::client::{TokenFormat, User};
use crate::names::{ClientId, Origin, ScopeName, UserName};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

fn client(scopes: &[&str]) -> Client {
    Client {
        id: ClientId::new("crm"),
        name: "crm".into(),
        provider: None,
        logo_url: None,
        login_url: None,
        active: true,
        grants: [GrantType::AuthorizationCode, GrantType::RefreshToken].into(),
        secrets: Vec::new(),
        keys: crate::token::KeySet::default(),
        public: false,
        application_user: None,
        roles: [].into(),
        scopes: scopes.iter().map(|scope| ScopeName::new(scope)).collect(),
        allow_only_selected_scopes: true,
        enforce_token_restriction: false,
        limit_authorization: None,
        access_token_lifespan: 1_800,
        refresh_token_lifespan: 8_640_000,
        token_format: TokenFormat::Jwt,
        redirect_urls: Vec::new(),
        require_pkce: true,
        external: Vec::new(),
        origin: Origin::default(),
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
