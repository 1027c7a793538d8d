//! Many at once: of fifty that use one code or one refresh token, one is first. Two hundred rounds
//! each.

use std::collections::HashSet;
use std::sync::{Arc, Barrier, Mutex};

use super::{CALLBACK, VERIFIER, alice, basic, code, member, redeem, refresh, request, setup};
use crate::support::Gateway;
use crate::support::browser::encode;
use crate::support::http::{Connection, Response, form};

const ROUNDS: usize = 200;
const AT_ONCE: usize = 50;

/// Sends one body from fifty connections at once, again and again; `bodies` makes the next one,
/// `judge` looks at the answers.
fn race(gateway: &Gateway, mut bodies: impl FnMut() -> String, mut judge: impl FnMut(&[Response])) {
    let barrier = Arc::new(Barrier::new(AT_ONCE + 1));
    let body: Arc<Mutex<Option<String>>> = Arc::default();
    let answers: Arc<Mutex<Vec<Response>>> = Arc::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let (barrier, body, answers) = (barrier.clone(), body.clone(), answers.clone());
            scope.spawn(move || {
                let mut connection = Connection::open(gateway.address);
                loop {
                    barrier.wait();
                    let Some(bytes) = body.lock().unwrap().clone() else { return };
                    connection.write(bytes.as_bytes());
                    let answer = connection.read(false).unwrap();
                    answers.lock().unwrap().push(answer);
                    barrier.wait();
                }
            });
        }
        for _ in 0..ROUNDS {
            let fields = bodies();
            let bytes = form("/oauth2/token", &[("Authorization", &basic("web"))], &fields);
            *body.lock().unwrap() = Some(bytes.replace("Connection: close\r\n", ""));
            barrier.wait();
            barrier.wait();
            let round: Vec<Response> = std::mem::take(&mut *answers.lock().unwrap());
            assert_eq!(round.len(), AT_ONCE);
            judge(&round);
        }
        *body.lock().unwrap() = None;
        barrier.wait();
    });
}

fn successes(round: &[Response]) -> usize {
    round.iter().filter(|answer| answer.status == 200).count()
}

#[test]
fn of_fifty_redemptions_of_one_code_one_succeeds() {
    let gateway = Gateway::start(&setup(""));
    let mut browser = alice(&gateway);
    let target = request("web", &[]);
    let next = || {
        let code = code(&mut browser, &target);
        encode(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ])
    };
    race(&gateway, next, |round| {
        assert_eq!(successes(round), 1);
        assert!(
            round
                .iter()
                .filter(|answer| answer.status != 200)
                .all(|answer| answer.body.contains("invalid_grant"))
        );
    });
}

#[test]
fn of_fifty_refreshes_with_one_token_all_get_one_successor() {
    let gateway = Gateway::start(&setup(", refresh_grace: 60s"));
    let mut browser = alice(&gateway);
    let first = member(
        &redeem(&gateway, "web", &code(&mut browser, &request("web", &[]))),
        "refresh_token",
    );
    let current = Mutex::new(first);
    let next =
        || encode(&[("grant_type", "refresh_token"), ("refresh_token", &current.lock().unwrap())]);
    race(&gateway, next, |round| {
        assert_eq!(successes(round), AT_ONCE);
        let successors: HashSet<String> =
            round.iter().map(|answer| member(answer, "refresh_token")).collect();
        assert_eq!(successors.len(), 1);
        *current.lock().unwrap() = successors.into_iter().next().unwrap();
    });
}

#[test]
fn of_fifty_refreshes_without_grace_one_succeeds_and_the_family_ends() {
    let gateway = Gateway::start(&setup(", refresh_grace: 0s"));
    let mut browser = alice(&gateway);
    let target = request("web", &[]);
    let next = || {
        let token = member(&redeem(&gateway, "web", &code(&mut browser, &target)), "refresh_token");
        encode(&[("grant_type", "refresh_token"), ("refresh_token", &token)])
    };
    race(&gateway, next, |round| {
        assert_eq!(successes(round), 1);
        let winner = round.iter().find(|answer| answer.status == 200).unwrap();
        assert_eq!(refresh(&gateway, "web", &member(winner, "refresh_token")).status, 400);
    });
}
