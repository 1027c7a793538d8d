//! What each kind of request costs next to one with a known token: CPU time of the gateway's
//! process per request, in turns in one run. Medians, and ratios round by round.
//!
//! `cargo bench --profile dist --bench requests`

mod harness;

use std::time::Instant;

use harness::{
    Load, call, free_address, measure, median, serve, start_upstream, token_request, tokens,
    wait_for, write_configuration,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
/// Requests of one round, a multiple of the connections.
const REQUESTS: usize = 8_000;
/// Requests of one round that are each sent once: as many tokens are issued before.
const ONCE: usize = 4_000;

struct Kind {
    name: &'static str,
    requests: Vec<Vec<u8>>,
    count: usize,
    expect: &'static str,
    /// Which gateway: one without a decision log, or one with it.
    logged: bool,
}

fn main() {
    let upstream = start_upstream();
    let (folder, logged_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (gateway, logged) = (free_address(), free_address());
    write_configuration(folder.path(), gateway, upstream, "decision_log: off");
    let log = logged_folder.path().join("decisions.log");
    let more = format!("decision_log: {{ file: '{}' }}", log.display());
    write_configuration(logged_folder.path(), logged, upstream, &more);
    let processes = [serve(folder.path(), &[]), serve(logged_folder.path(), &[])];
    wait_for(gateway);
    wait_for(logged);
    let calls = |tokens: &[String]| tokens.iter().map(|token| call(token)).collect::<Vec<_>>();
    let known = calls(&tokens(gateway, "bench", 1));
    let fresh = tokens(gateway, "bench", (ROUNDS + 1) * ONCE);
    // The last letter but one of the signature: the form stays good.
    let changed: Vec<String> = fresh
        .iter()
        .map(|token| {
            let at = token.len() - 2;
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            format!("{}{other}{}", &token[..at], &token[at + 1..])
        })
        .collect();
    let opaque = tokens(gateway, "opaque", (ROUNDS + 1) * ONCE);
    let none = b"GET /v1/orders/4711 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n".to_vec();
    let kind =
        |name, requests, count, expect| Kind { name, requests, count, expect, logged: false };
    let kinds = [
        kind("known JWT", known, REQUESTS, "HTTP/1.1 200"),
        Kind {
            name: "known JWT, decision log on",
            requests: calls(&tokens(logged, "bench", 1)),
            count: REQUESTS,
            expect: "HTTP/1.1 200",
            logged: true,
        },
        kind("never-seen JWT (ES256)", calls(&fresh), ONCE, "HTTP/1.1 200"),
        kind("signature that fails, never seen", calls(&changed), ONCE, "HTTP/1.1 401"),
        kind("signature that failed before", calls(&changed[..100]), REQUESTS, "HTTP/1.1 401"),
        kind("no token", vec![none], REQUESTS, "HTTP/1.1 401"),
        kind("opaque token, known", calls(&opaque[..1]), REQUESTS, "HTTP/1.1 200"),
        kind("opaque token, never seen", calls(&opaque), ONCE, "HTTP/1.1 200"),
        kind("issue of a JWT (ES256)", vec![token_request("bench")], ONCE, "HTTP/1.1 200"),
        kind("issue of an opaque token", vec![token_request("opaque")], ONCE, "HTTP/1.1 200"),
    ];
    let mut found = vec![Vec::new(); kinds.len()];
    let mut speeds = vec![Vec::new(); kinds.len()];
    // The first round warms up, and is not counted.
    for round in 0..=ROUNDS {
        for (at, kind) in kinds.iter().enumerate() {
            let (process, address) =
                if kind.logged { (&processes[1], logged) } else { (&processes[0], gateway) };
            let load = Load {
                requests: &kind.requests,
                first: round * kind.count,
                count: kind.count,
                expect: kind.expect,
            };
            let began = Instant::now();
            let cost = measure(process, address, &load);
            if round > 0 {
                found[at].push(cost);
                #[expect(clippy::cast_precision_loss, reason = "some thousands")]
                speeds[at].push(kind.count as f64 / began.elapsed().as_secs_f64());
            }
        }
    }
    println!("CPU of the gateway, {ROUNDS} rounds in turns, {} connections:", harness::CONNECTIONS);
    for (at, kind) in kinds.iter().enumerate() {
        let mut ratios: Vec<f64> =
            found[at].iter().zip(&found[0]).map(|(one, base)| one / base).collect();
        println!(
            "{:34} {:7.1} µs  {:5.2} x a known JWT  {:8.0} a second",
            kind.name,
            median(&mut found[at].clone()),
            median(&mut ratios),
            median(&mut speeds[at])
        );
    }
}
