use super::*;

fn rules(name: &str) -> IssuerRules {
    IssuerRules {
        name: IssuerName::new(name),
        issuer: "https://issuer.example".into(),
        audience: Audience::OneOf(["https://api.example".into()].into()),
        algorithms: vec![Algorithm::Es256],
        claims: ClaimNames {
            client: "azp".into(),
            scopes: Some("scp".into()),
            roles: Some("realm.roles".into()),
        },
        leeway: 30,
        kept: vec!["dept".into(), "sub".into(), "realm.roles".into()],
    }
}

fn facts(name: &str, claims: &str) -> Result<Facts, TokenFault> {
    rules(name).facts(&Object::parse(claims.as_bytes()).unwrap(), None)
}

const GOOD: &str = r#"{"iss":"https://issuer.example","sub":"s","aud":"https://api.example","exp":1000,"azp":"c","scp":["b","a"],"realm":{"roles":["r"]},"dept":"it"}"#;

#[test]
fn claims_are_read_by_the_names_of_the_issuer() {
    let facts = facts("corp", GOOD).unwrap();
    assert_eq!(facts.subject, "s");
    assert_eq!(facts.client.as_deref(), Some("c"));
    assert_eq!(facts.scopes.unwrap().to_value(), "a b");
    assert_eq!(facts.roles, ["r"]);
    assert_eq!(facts.claims.get("dept").unwrap(), "it");
    assert_eq!(facts.claims.get("realm.roles").unwrap()[0], "r");
    assert_eq!(facts.claims.len(), 3, "what no profile looks at is not kept");
}

#[test]
fn a_claim_of_the_wrong_type_is_a_fault_never_absent() {
    let base = r#""iss":"https://issuer.example","sub":"s","exp":1000"#;
    for (claims, fault) in [
        (r#""iss":"https://issuer.example","sub":"s""#.to_owned(), TokenFault::Claims),
        (r#""iss":"https://issuer.example","sub":"s","exp":"1000""#.to_owned(), TokenFault::Claims),
        (r#""iss":"https://issuer.example","sub":"s","exp":1e300"#.to_owned(), TokenFault::Claims),
        (r#""iss":"https://issuer.example","sub":"s","exp":null"#.to_owned(), TokenFault::Claims),
        (r#""iss":"https://issuer.example","sub":7,"exp":1"#.to_owned(), TokenFault::Claims),
        (r#""iss":"https://issuer.example","exp":1"#.to_owned(), TokenFault::Claims),
        (r#""iss":"https://issuer.example/","sub":"s","exp":1"#.to_owned(), TokenFault::Issuer),
        (r#""iss":["https://issuer.example"],"sub":"s","exp":1"#.to_owned(), TokenFault::Claims),
        (r#""sub":"s","exp":1"#.to_owned(), TokenFault::Issuer),
        (format!(r#"{base},"nbf":"1""#), TokenFault::Claims),
        (format!(r#"{base},"iat":[1]"#), TokenFault::Claims),
        (format!(r#"{base},"aud":{{}}"#), TokenFault::Claims),
        (format!(r#"{base},"aud":["a",1]"#), TokenFault::Claims),
        (format!(r#"{base},"azp":["c"]"#), TokenFault::Claims),
        (format!(r#"{base},"scp":7"#), TokenFault::Claims),
        (format!(r#"{base},"scp":"a\"b""#), TokenFault::Claims),
        (format!(r#"{base},"realm":{{"roles":[1]}}"#), TokenFault::Claims),
        (format!(r#"{base},"jti":1"#), TokenFault::Claims),
    ] {
        assert_eq!(facts("corp", &format!("{{{claims}}}")).map(|_| ()), Err(fault), "{claims}");
    }
}

#[test]
fn a_declared_scopes_claim_that_is_absent_gives_no_scope() {
    let claims = r#"{"iss":"https://issuer.example","sub":"s","exp":1000}"#;
    assert_eq!(facts("corp", claims).unwrap().scopes, Some(ScopeSet::default()));
}

#[test]
fn our_own_tokens_need_the_claims_of_rfc_9068() {
    assert_eq!(facts("self", GOOD).map(|_| ()), Err(TokenFault::Claims));
}

#[test]
fn facts_are_judged_by_the_clock_and_the_audience() {
    let at = |now: i64| judge(&facts("corp", GOOD).unwrap(), &rules("corp"), Timestamp(now));
    assert_eq!(at(0), Ok(()));
    assert_eq!(at(1029), Ok(()));
    assert_eq!(at(1030), Err(TokenFault::Expired));
    assert_eq!(at(i64::MAX), Err(TokenFault::Expired));

    let with = |extra: &str| {
        let claims = GOOD.replace(r#""dept":"it""#, extra);
        judge(&facts("corp", &claims).unwrap(), &rules("corp"), Timestamp(100))
    };
    assert_eq!(with(r#""nbf":130"#), Ok(()));
    assert_eq!(with(r#""nbf":131"#), Err(TokenFault::NotYetValid));
    assert_eq!(with(r#""iat":131.9"#), Err(TokenFault::NotYetValid));
    assert_eq!(with(r#""cnf":{"jkt":"x"}"#), Err(TokenFault::Binding));

    let mut other = facts("corp", GOOD).unwrap();
    other.audience = vec!["https://api.example/".into()];
    assert_eq!(judge(&other, &rules("corp"), Timestamp(0)), Err(TokenFault::Audience));
    other.audience.clear();
    assert_eq!(judge(&other, &rules("corp"), Timestamp(0)), Err(TokenFault::Audience));
    let any = IssuerRules { audience: Audience::Any, ..rules("corp") };
    assert_eq!(judge(&other, &any, Timestamp(0)), Ok(()));
}

#[test]
fn an_expiry_at_the_end_of_time_does_not_overflow() {
    let claims = GOOD.replace("1000", "9223372036854775807");
    assert_eq!(
        judge(&facts("corp", &claims).unwrap(), &rules("corp"), Timestamp(i64::MAX - 1)),
        Ok(())
    );
}
