use super::*;
use crate::token::tenant::Allowed;

fn rules(name: &str) -> IssuerRules {
    IssuerRules {
        name: IssuerName::new(name),
        issuer: "https://issuer.example".into(),
        tenants: None,
        audience: Audience::OneOf(["https://api.example".into()].into()),
        algorithms: vec![Algorithm::Es256],
        types: vec!["at+jwt".into(), "jwt".into()],
        id_tokens: false,
        claims: ClaimNames {
            client: vec!["azp".into()],
            subject: vec!["sub".into()],
            scopes: vec!["scp".into()],
            roles: vec!["realm.roles".into()],
            separator: ' ',
        },
        leeway: 30,
        kept: vec!["dept".into(), "sub".into(), "realm.roles".into()],
    }
}

fn facts_by(rules: &IssuerRules, claims: &str) -> Result<Facts, TokenError> {
    rules.facts(&Object::parse(claims.as_bytes()).unwrap(), None)
}

fn facts(name: &str, claims: &str) -> Result<Facts, TokenFault> {
    facts_by(&rules(name), claims).map_err(|error| error.fault)
}

fn checked(facts: &Facts, rules: &IssuerRules, now: Timestamp) -> Result<(), TokenFault> {
    check_claims(facts, rules, now).map_err(|error| error.fault)
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
        (
            r#""iss":"https://issuer.example","sub":["s"],"azp":"c","exp":1"#.to_owned(),
            TokenFault::Claims,
        ),
        (r#""iss":"https://issuer.example/","sub":"s","exp":1"#.to_owned(), TokenFault::Issuer),
        (r#""iss":["https://issuer.example"],"sub":"s","exp":1"#.to_owned(), TokenFault::Claims),
        (r#""sub":"s","exp":1"#.to_owned(), TokenFault::Issuer),
        (format!(r#"{base},"nbf":"1""#), TokenFault::Claims),
        (format!(r#"{base},"iat":[1]"#), TokenFault::Claims),
        (format!(r#"{base},"aud":{{}}"#), TokenFault::Claims),
        (format!(r#"{base},"aud":["a",1]"#), TokenFault::Claims),
        (format!(r#"{base},"azp":["c"]"#), TokenFault::Claims),
        (format!(r#"{base},"jti":1"#), TokenFault::Claims),
    ] {
        assert_eq!(facts("corp", &format!("{{{claims}}}")).map(|_| ()), Err(fault), "{claims}");
    }
}

#[test]
fn what_only_feeds_scopes_and_roles_gives_nothing_where_it_cannot_be_read_and_is_named() {
    let base = r#""iss":"https://issuer.example","sub":"s","exp":1000"#;
    for (claims, scopes, roles, unread) in [
        (r#""scp":"b a","realm":{"roles":["r","q"]}"#, "a b", "r q", ""),
        (r#""scp":["b a","c"],"realm.roles":"r s""#, "a b c", "r s", ""),
        (r#""scp":null,"realm":{"roles":null}"#, "", "", ""),
        (r#""realm":null"#, "", "", ""),
        (r#""scp":7,"realm":{"roles":[1]}"#, "", "", "scp realm.roles"),
        (r#""scp":["a",null],"realm":{"roles":true}"#, "", "", "scp realm.roles"),
        (
            r#""scp":"a\"b","realm":{"roles":{"admin":{"1":"x"},"user":[]}}"#,
            "",
            "admin user",
            "scp",
        ),
        (r#""scp":{"a":1,"b":null},"realm":{"roles":{}}"#, "a b", "", ""),
        (r#""scp":["a",["b"]],"realm":{"roles":["r",{}]}"#, "", "", "scp realm.roles"),
    ] {
        let found = facts("corp", &format!("{{{base},{claims}}}")).unwrap();
        assert_eq!(found.scopes.unwrap().to_value(), scopes, "{claims}");
        assert_eq!(found.roles.join(" "), roles, "{claims}");
        assert_eq!(found.unread.join(" "), unread, "{claims}");
    }
    let comma = IssuerRules {
        claims: ClaimNames { separator: ',', ..rules("corp").claims },
        ..rules("corp")
    };
    for (value, scopes) in [("a,b", "a b"), ("a, b ,,", "a b"), ("a", "a"), ("a b", "")] {
        let found = facts_by(&comma, &format!(r#"{{{base},"scp":"{value}"}}"#)).unwrap();
        assert_eq!(found.scopes.unwrap().to_value(), scopes, "{value}");
    }
}

#[test]
fn a_member_that_is_null_is_absent() {
    let claims = r#"{"iss":"https://issuer.example","sub":null,"azp":"c","aud":null,"exp":1000,"nbf":null,
        "iat":null,"jti":null,"cnf":null,"dept":null}"#;
    let found = facts("corp", claims).unwrap();
    assert_eq!((found.subject.as_str(), found.bound), ("c", false), "the client stands for itself");
    assert!(found.not_before.is_none() && found.issued.is_none() && found.id.is_none());
    assert!(found.audience.is_empty() && !found.claims.contains_key("dept"));
}

#[test]
fn names_of_claims_are_whole_or_have_dots_or_point() {
    let claims = r#"{"a":{"b.c":{"d":1},"b":{"c":{"d":2}}},"a.b":{"c.d":3},"x.y.z":4,"list":[{"k":5}],
        "sl/ash":{"til~de":6},"n":{"m":null},"https://e.example/roles":7,"e":{"":8}}"#;
    let claims = Object::parse(claims.as_bytes()).unwrap();
    for (name, value) in [
        // The longest name that is there is meant.
        ("a.b.c.d", Some(3)),
        ("/a/b.c/d", Some(1)),
        ("/a/b/c/d", Some(2)),
        ("x.y.z", Some(4)),
        ("/x.y.z", Some(4)),
        ("/list/0/k", Some(5)),
        ("/sl~1ash/til~0de", Some(6)),
        ("sl/ash.til~de", Some(6)),
        ("https://e.example/roles", Some(7)),
        ("/e/", Some(8)),
        ("e.", Some(8)),
        ("list.0.k", None),
        ("/list/1/k", None),
        ("/list/00/k", None),
        ("/list/-/k", None),
        ("n.m", None),
        ("/n/m", None),
        ("x.y", None),
        ("nothing", None),
        ("e./x", None),
        ("/", None),
        ("", None),
    ] {
        assert_eq!(find(&claims, name).and_then(Json::as_i64), value, "{name}");
    }
}

#[test]
fn of_several_names_the_first_that_is_there_counts_and_clients_must_agree() {
    let several = IssuerRules {
        claims: ClaimNames {
            client: vec!["azp".into(), "appid".into()],
            subject: vec!["oid".into(), "sub".into()],
            scopes: vec!["scp".into(), "roles".into()],
            ..rules("corp").claims
        },
        ..rules("corp")
    };
    let base = r#""iss":"https://issuer.example","sub":"s","exp":1000"#;
    let read = |more: &str| facts_by(&several, &format!("{{{base},{more}}}"));
    let found = read(r#""appid":"c","oid":"o","scp":null,"roles":["b"]"#).unwrap();
    assert_eq!((found.client.as_deref(), found.subject.as_str()), (Some("c"), "o"));
    assert_eq!(found.scopes.unwrap().to_value(), "b", "never a union");
    let found = read(r#""azp":"c","appid":"c","scp":"a","roles":["b"]"#).unwrap();
    assert_eq!((found.client.as_deref(), found.subject.as_str()), (Some("c"), "s"));
    assert_eq!(found.scopes.unwrap().to_value(), "a");
    let error = read(r#""azp":"c","appid":"d""#).unwrap_err();
    assert_eq!(error.text(), "claims: appid says `d`, another client claim `c`");
    assert!(read(r#""azp":"c","appid":7"#).is_err());
    // The first that is there, though it cannot be read.
    let found = read(r#""azp":"c","scp":7,"roles":["b"]"#).unwrap();
    assert_eq!((found.scopes.unwrap().len(), found.unread.join(" ")), (0, "scp".to_owned()));
}

#[test]
fn a_fault_names_the_claim_with_what_was_seen_and_what_was_wanted() {
    let text = |claims: &str| facts_by(&rules("corp"), claims).unwrap_err().text().to_owned();
    let iss = r#""iss":"https://issuer.example""#;
    for (claims, said) in [
        (format!(r#"{{{iss},"exp":1}}"#), "claims: sub is missing"),
        (format!(r#"{{{iss},"sub":7,"exp":1}}"#), "claims: sub is a number, wants a text"),
        (format!(r#"{{{iss},"sub":"s"}}"#), "claims: exp is missing"),
        (
            format!(r#"{{{iss},"sub":"s","exp":"1"}}"#),
            "claims: exp is a text, wants a number of seconds",
        ),
        (
            format!(r#"{{{iss},"sub":"s","exp":1,"aud":{{}}}}"#),
            "claims: aud is an object, wants a text or a list of texts",
        ),
        (
            r#"{"iss":"https://other.example/\u0007","sub":"s","exp":1}"#.to_owned(),
            "issuer: saw https://other.example/?, wants https://issuer.example",
        ),
    ] {
        assert_eq!(text(&claims), said);
    }
    let long = format!(r#"{{"iss":"{}"}}"#, "x".repeat(5_000));
    assert!(text(&long).len() < 200, "what is quoted is short");
    let mut other = facts("corp", GOOD).unwrap();
    other.audience = vec!["https://api.example/".into()];
    let error = check_claims(&other, &rules("corp"), Timestamp(0)).unwrap_err();
    assert_eq!(
        error.text(),
        "audience: saw https://api.example/, wants one of https://api.example"
    );
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
    let at = |now: i64| checked(&facts("corp", GOOD).unwrap(), &rules("corp"), Timestamp(now));
    assert_eq!(at(0), Ok(()));
    assert_eq!(at(1029), Ok(()));
    assert_eq!(at(1030), Err(TokenFault::Expired));
    assert_eq!(at(i64::MAX), Err(TokenFault::Expired));

    let with = |extra: &str| {
        let claims = GOOD.replace(r#""dept":"it""#, extra);
        checked(&facts("corp", &claims).unwrap(), &rules("corp"), Timestamp(100))
    };
    assert_eq!(with(r#""nbf":130"#), Ok(()));
    assert_eq!(with(r#""nbf":131"#), Err(TokenFault::NotYetValid));
    assert_eq!(with(r#""iat":131.9"#), Err(TokenFault::NotYetValid));
    assert_eq!(with(r#""cnf":{"jkt":"x"}"#), Err(TokenFault::Binding));

    let mut other = facts("corp", GOOD).unwrap();
    other.audience = vec!["https://api.example/".into()];
    assert_eq!(checked(&other, &rules("corp"), Timestamp(0)), Err(TokenFault::Audience));
    other.audience.clear();
    assert_eq!(checked(&other, &rules("corp"), Timestamp(0)), Err(TokenFault::Audience));
    let any = IssuerRules { audience: Audience::Any, ..rules("corp") };
    assert_eq!(checked(&other, &any, Timestamp(0)), Ok(()));
}

#[test]
fn an_expiry_at_the_end_of_time_does_not_overflow() {
    let claims = GOOD.replace("1000", "9223372036854775807");
    assert_eq!(
        checked(&facts("corp", &claims).unwrap(), &rules("corp"), Timestamp(i64::MAX - 1)),
        Ok(())
    );
}

#[test]
fn an_id_token_is_taken_where_that_is_written_out_and_for_several_with_azp_alone() {
    let base = r#""iss":"https://issuer.example","sub":"s","exp":1000"#;
    let strict = rules("corp");
    let taking = IssuerRules { id_tokens: true, ..rules("corp") };
    for mark in [r#""at_hash":"x""#, r#""c_hash":"x""#, r#""token_use":"id""#, r#""typ":"ID""#] {
        let claims = format!("{{{base},{mark}}}");
        let claims = Object::parse(claims.as_bytes()).unwrap();
        assert!(mark_of_id_token(&claims).is_some(), "{mark}");
    }
    for none in
        [r#""nonce":"n""#, r#""token_use":"access""#, r#""typ":"Bearer""#, r#""at_hash":null"#]
    {
        let claims = format!("{{{base},{none}}}");
        let claims = Object::parse(claims.as_bytes()).unwrap();
        assert_eq!(mark_of_id_token(&claims), None, "{none}");
    }
    let several = format!(r#"{{{base},"aud":["a","b"]}}"#);
    assert!(facts_by(&strict, &several).is_ok());
    assert_eq!(facts_by(&taking, &several).unwrap_err().fault, TokenFault::Claims);
    let with_azp = format!(r#"{{{base},"aud":["a","b"],"azp":"a"}}"#);
    assert!(facts_by(&taking, &with_azp).is_ok());
}

#[test]
fn a_tenant_is_named_by_its_claim_and_by_iss_and_by_both_alike() {
    let of = |allowed: Allowed| IssuerRules {
        issuer: "https://login.example/{tenant}/v2.0".into(),
        tenants: Some(Tenants { claim: "tid".into(), allowed }),
        ..rules("entra")
    };
    let listed = of(Allowed::OneOf(["9f".into()].into()));
    let any = of(Allowed::Any);
    let rest = r#""sub":"s","exp":1000"#;
    for (iss, tid, in_list, of_any) in [
        ("9f", r#""9f""#, Ok("entra/9f"), Ok("entra/9f")),
        ("71", r#""71""#, Err(TokenFault::Issuer), Ok("entra/71")),
        ("9f", r#""71""#, Err(TokenFault::Issuer), Err(TokenFault::Issuer)),
        ("71", r#""9f""#, Err(TokenFault::Issuer), Err(TokenFault::Issuer)),
        ("9F", r#""9f""#, Err(TokenFault::Issuer), Err(TokenFault::Issuer)),
        ("{tenant}", r#""{tenant}""#, Err(TokenFault::Issuer), Err(TokenFault::Issuer)),
        ("a/b", r#""a/b""#, Err(TokenFault::Issuer), Err(TokenFault::Issuer)),
        ("", r#""""#, Err(TokenFault::Issuer), Err(TokenFault::Issuer)),
        ("9f", "null", Err(TokenFault::Claims), Err(TokenFault::Claims)),
        ("9f", r#"["9f"]"#, Err(TokenFault::Claims), Err(TokenFault::Claims)),
    ] {
        let text = format!(r#"{{"iss":"https://login.example/{iss}/v2.0","tid":{tid},{rest}}}"#);
        for (rules, wanted) in [(&listed, in_list), (&any, of_any)] {
            let found = facts_by(rules, &text).map(|facts| facts.issuer);
            let found = found.as_ref().map(IssuerName::as_str).map_err(|error| error.fault);
            assert_eq!(found, wanted, "{text}");
        }
    }
    let names =
        facts_by(&any, r#"{"iss":"https://login.example/9f/v2.0","tid":"9f","sub":"s","exp":1}"#);
    let issuer = names.unwrap().issuer;
    assert_eq!((issuer.declared(), issuer.tenant()), ("entra", Some("9f")));
    assert_eq!(listed.issuers(), ["https://login.example/9f/v2.0"]);
    assert_eq!((any.issuers().len(), rules("corp").issuers().len()), (0, 1));
}
