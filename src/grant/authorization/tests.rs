use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::client::made::{Creation, MadeUser, MadeUsers, name_of};
use crate::client::{ExternalIdentity, User};
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
        made: None,
        origin: Origin::default(),
    };
    Registry::new(Vec::new(), vec![user], Vec::new())
}

#[test]
fn the_roles_of_a_user_made_at_login_are_no_older_than_a_session_for_new_tokens() {
    let issuer = "https://login.example".to_owned();
    let identity = ExternalIdentity { issuer: issuer.clone(), subject: "00u1".to_owned() };
    let creation = Creation {
        roles_claim: vec!["groups".to_owned()],
        roles: [("g".to_owned(), "clerk".into())].into(),
        require: Vec::new(),
        max_users: 1,
    };
    let made = MadeUser {
        name: name_of(&identity),
        identity,
        display_name: None,
        groups: vec!["g".to_owned()],
        locked: false,
        made: Timestamp(1),
        signed_in: Timestamp(1_000),
        removed: false,
    };
    let given = Authorization {
        id: "1".into(),
        client: "crm".into(),
        subject: made.name.to_string(),
        scopes: ScopeSet::parse("a").unwrap(),
        resource: None,
    };
    let registry = registry().making(Some((issuer, creation)));
    let users = Arc::new(MadeUsers::new(vec![made.clone()]));
    registry.follow(users.clone());
    let at = |now: i64| {
        let now = Timestamp(now);
        let refused = |fault: GrantError| fault.description.to_string();
        let (client, request) = (client(&["a"]), request(None));
        let granted = refresh(&given, &client, &registry, &request, "https://g.example", now);
        granted.map(|granted| granted.subject).map_err(refused)
    };
    assert_eq!(at(1_000 + SESSION - 1), Ok(made.name.to_string()));
    let refused = Err("the user has to sign in again at the login provider".to_owned());
    assert_eq!(at(1_000 + SESSION), refused);
    users.put(MadeUser { signed_in: Timestamp(2_000), ..made.clone() });
    assert_eq!(at(1_000 + SESSION), Ok(made.name.to_string()), "it has signed in since");
    users.put(MadeUser { locked: true, signed_in: Timestamp(2_000), ..made });
    assert_eq!(at(2_000), Err("the user is inactive or locked".to_owned()));
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
            "https://g.example", Timestamp(0));
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
