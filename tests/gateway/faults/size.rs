//! Very many tokens.

use std::path::Path;
use std::time::{Duration, Instant};

use scopegate::names::Timestamp;
use scopegate::scope::ScopeSet;
use scopegate::store::Store;
use scopegate::store::access::StoredAccess;
use scopegate::system::clock;

use super::fixed;
use crate::authorization::own_token;
use crate::support::{GUARD, Gateway, judge, many, wait_for};

/// Puts so many opaque tokens of the client `opaque` into a store, as fast as it takes them.
pub fn fill(store: &Path, count: usize) {
    put(store, count, clock::now().plus(86_400));
}

fn put(store: &Path, count: usize, expires: Timestamp) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let store = Store::open(store).unwrap();
    runtime.block_on(async {
        for from in (0..count).step_by(2_000) {
            let tasks: Vec<_> = (from..(from + 2_000).min(count))
                .map(|n| {
                    let (store, access) = (store.clone(), stored(n, expires));
                    tokio::spawn(async move { store.put_access(access).await.unwrap() })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
        }
    });
}

/// The value of a token by its number, and the token as stored.
fn value(n: usize) -> String {
    use base64::Engine as _;
    let mut random = [9_u8; 32];
    random[..8].copy_from_slice(&n.to_be_bytes());
    format!("sga_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random))
}

fn stored(n: usize, expires: Timestamp) -> StoredAccess {
    use sha2::{Digest, Sha256};
    StoredAccess {
        digest: Sha256::digest(value(n)).into(),
        id: format!("filled-{n}"),
        authorization: None,
        client: "opaque".into(),
        subject: "opaque".into(),
        scopes: ScopeSet::parse_unbounded("orders_read").unwrap(),
        audience: "http://127.0.0.1:1".into(),
        issued: clock::now(),
        expires,
    }
}

/// The bytes of all pages of a store, as a file would have them that nothing is still to be written
/// to.
fn pages(store: &Path) -> u64 {
    let database = rusqlite::Connection::open(store.join("scopegate.db")).unwrap();
    let number = |pragma: &str| {
        database.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0)).unwrap()
    };
    u64::from(number("page_count")) * u64::from(number("page_size"))
}

fn percentile(times: &mut [Duration], of_hundred: usize) -> Duration {
    times.sort();
    times[(times.len() * of_hundred / 100).min(times.len() - 1)]
}

#[test]
fn tokens_never_seen_are_found_among_very_many() {
    let count = many("TOKENS", 20_000);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("data");
    fill(&store, count);
    let began = Instant::now();
    let gateway = Gateway::start(&fixed(Some(&store)));
    println!("{count} tokens: served {:?} after the start", began.elapsed());
    let mut connection = crate::support::http::Connection::open(gateway.address);
    let mut times: Vec<Duration> = (0..2_000)
        .map(|n| {
            let token = value(n * 7_919 % count);
            let request = crate::support::http::request("GET", "/orders/1", Some(&token), &[]);
            let began = Instant::now();
            connection.write(request.as_bytes());
            let answer = connection.read(false).unwrap();
            let took = began.elapsed();
            assert_eq!(answer.status, 200, "{answer:?}");
            took
        })
        .collect();
    let (median, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
    println!(
        "{count} tokens: a first request takes {median:?} in the median, {p99:?} in the 99th \
            percentile"
    );
    let memory = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    println!("{}", memory.lines().find(|line| line.starts_with("VmRSS")).unwrap());
    judge("a first request", p99, Duration::from_millis(20));
}

#[test]
fn what_has_expired_is_swept_beside_requests() {
    let count = many("TOKENS", 20_000);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("data");
    put(&store, count, clock::now().plus(-10));
    let full = std::fs::metadata(store.join("scopegate.db")).unwrap().len();
    let mut gateway = Gateway::start(&fixed(Some(&store)));
    let fresh: Vec<String> = (0..50).map(|_| own_token(&gateway, "opaque")).collect();
    // What is measured is the sweep, not the first look at a token.
    for token in &fresh {
        assert_eq!(gateway.get("/orders/1", Some(token)).verdict(), "permit");
    }
    let measure = |gateway: &Gateway| {
        let mut times: Vec<Duration> = fresh
            .iter()
            .cycle()
            .take(2_000)
            .map(|token| {
                let began = Instant::now();
                assert_eq!(gateway.get("/orders/1", Some(token)).verdict(), "permit");
                began.elapsed()
            })
            .collect();
        percentile(&mut times, 99)
    };
    let left = || Store::open(&store).unwrap();
    // The sweep begins with the process: measured during it, and once more when it is over.
    let during = measure(&gateway);
    // A guard against hanging, longer for very many.
    let (began, guard) = (Instant::now(), GUARD + super::millis(count as u64 / 4));
    while left().find_access(stored(count - 1, Timestamp(0)).digest).unwrap().is_some() {
        assert!(began.elapsed() < guard, "the sweep does not end");
        std::thread::park_timeout(super::millis(50));
    }
    let after = measure(&gateway);
    println!("{count} expired tokens: p99 {during:?} during the sweep, {after:?} after it");
    judge("a request during the sweep", during, after * 2 + super::millis(10));
    // What is swept gives its space back, slice after slice.
    let most = full / 4 + (4 << 20);
    wait_for("the space to be given back", || (pages(&store) <= most).then_some(()));
    gateway.signal("TERM");
    gateway.wait();
    let left = std::fs::metadata(store.join("scopegate.db")).unwrap().len();
    println!("the file had {full} bytes and has {left}");
    assert!(left <= most, "{left} of {full}");
}
