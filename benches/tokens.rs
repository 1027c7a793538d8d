//! What a token costs next to the bare check of its signature: one that was never seen, one whose
//! signature fails, one that is known; and what it costs to sign one.

#![expect(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair,
    UnparsedPublicKey,
};
use criterion::{Criterion, criterion_group, criterion_main};
use scopegate::names::{IssuerName, Timestamp};
use scopegate::server::tokens::cache::{CAPACITY, TokenCache, digest};
use scopegate::token::claims::{Audience, ClaimNames};
use scopegate::token::jws::{Algorithm, Decoded};
use scopegate::token::mint::{AccessClaims, SigningKey};
use scopegate::token::{IssuerRules, KeySet};

fn rules() -> IssuerRules {
    IssuerRules {
        name: IssuerName::new("corp"),
        issuer: "https://issuer.example/realms/main".into(),
        tenants: None,
        audience: Audience::OneOf(["https://api.example".into()].into()),
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
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
        kept: Vec::new(),
    }
}

fn key(algorithm: Algorithm) -> SigningKey {
    let der = if algorithm == Algorithm::Rs256 {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        // PKCS#1 is what the signing key reads: the inner part of PKCS#8 (RFC 5958 §2).
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
        der.as_ref()[26..].to_vec()
    } else {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        pair.as_ref().to_vec()
    };
    SigningKey::from_der(algorithm, &der).unwrap()
}

fn claims(id: &str) -> AccessClaims<'_> {
    AccessClaims {
        iss: "https://issuer.example/realms/main",
        sub: "0e6f5a9c-client",
        aud: "https://api.example",
        exp: 2_000,
        iat: 1_000,
        jti: id,
        client_id: "0e6f5a9c-client",
        authorization_id: None,
        scope: "orders:read orders:write",
    }
}

fn benchmark(criterion: &mut Criterion) {
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let name = algorithm.as_str();
        let key = key(algorithm);
        let token = key.sign(&claims("id")).unwrap();
        let keys = KeySet::new(vec![key.public().clone()]);
        let rules = rules();
        let verify = |token: &str| {
            let decoded = Decoded::of(black_box(token))?;
            let token = decoded.read()?;
            rules.verify(&token, &keys)
        };
        assert!(verify(&token).is_ok());
        // Another first letter of the signature: the form stays good.
        let dot = token.rfind('.').unwrap();
        let other = if &token[dot + 1..dot + 2] == "A" { "B" } else { "A" };
        let bad = format!("{}{other}{}", &token[..=dot], &token[dot + 2..]);
        assert!(verify(&bad).is_err());
        let decoded = Decoded::of(&token).unwrap();
        let read = decoded.read().unwrap();
        criterion.bench_function(&format!("{name}: the signature alone, key parsed"), |bencher| {
            bencher.iter(|| keys.verify(black_box(&read)));
        });
        criterion.bench_function(&format!("{name}: a token never seen"), |bencher| {
            bencher.iter(|| verify(&token));
        });
        criterion.bench_function(&format!("{name}: a signature that fails"), |bencher| {
            bencher.iter(|| verify(&bad));
        });
        criterion.bench_function(&format!("{name}: read, not verified"), |bencher| {
            bencher
                .iter(|| Decoded::of(black_box(&token)).unwrap().read().unwrap().claims.has("x"));
        });
        criterion.bench_function(&format!("{name}: sign"), |bencher| {
            bencher.iter(|| key.sign(black_box(&claims("id"))).unwrap());
        });
        let facts = Arc::new(verify(&token).unwrap());
        let cache = TokenCache::new(CAPACITY);
        cache.put(digest(&token), 1, facts.clone(), None);
        criterion.bench_function(&format!("{name}: a token that is known"), |bencher| {
            bencher.iter(|| cache.find(&digest(black_box(&token)), 1, Timestamp(10)).unwrap());
        });
        let mut number = 0_u64;
        criterion.bench_function(&format!("{name}: put into a full cache"), |bencher| {
            bencher.iter(|| {
                number += 1;
                cache.put(digest(&number.to_string()), 1, facts.clone(), None);
            });
        });
    }
    // What the library needs with a key that it parses anew for every check.
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let mut signature = vec![0; pair.public_modulus_len()];
    let random = SystemRandom::new();
    pair.sign(&aws_lc_rs::signature::RSA_PKCS1_SHA256, &random, b"message", &mut signature)
        .unwrap();
    let der = pair.public_key().as_ref().to_vec();
    criterion.bench_function("RS256: the signature alone, key parsed each time", |bencher| {
        bencher.iter(|| {
            let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, black_box(&der));
            key.verify(b"message", &signature).unwrap();
        });
    });
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
