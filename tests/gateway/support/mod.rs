//! What every test needs, written once: the gateway as a process, an upstream that records every
//! byte, an issuer that can fail, and a raw HTTP client.

pub mod browser;
pub mod gateway;
pub mod http;
pub mod issuer;
pub mod provider;
pub mod records;
pub mod redis;
pub mod tls;
pub mod upstream;

use std::time::{Duration, Instant};

pub use browser::Browser;
pub use gateway::{Gateway, Setup};
pub use http::{Response, send};
pub use issuer::Issuer;
pub use redis::Redis;
pub use upstream::Upstream;

/// How long anything may take before a test takes it for hanging.
pub const GUARD: Duration = Duration::from_secs(120);

/// Waits for a condition. The limit is a guard against hanging, generous enough for a machine that
/// is busy with other things.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + GUARD;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {GUARD:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Replaces a file as a whole: a watcher never finds half of it.
pub fn replace(file: &std::path::Path, text: &str) {
    let hidden = file.with_file_name(format!(".{}", file.file_name().unwrap().to_str().unwrap()));
    std::fs::write(&hidden, text).unwrap();
    std::fs::rename(&hidden, file).unwrap();
}

/// An address that nobody listens on now.
pub fn free_address() -> std::net::SocketAddr {
    free_addresses::<1>()[0]
}

/// Several addresses that nobody listens on now, no two the same.
pub fn free_addresses<const N: usize>() -> [std::net::SocketAddr; N] {
    let listeners = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

/// Whether the tests run over the proxy library's loop alone: `SCOPEGATE_TEST_LOOP=library`.
#[expect(clippy::disallowed_methods, reason = "it is about the tests, not about the gateway")]
pub fn over_library() -> bool {
    std::env::var("SCOPEGATE_TEST_LOOP").is_ok_and(|read| read == "library")
}

/// Whether the tests run over the shared store: `SCOPEGATE_TEST_STORE=redis`.
#[expect(clippy::disallowed_methods, reason = "it is about the tests, not about the gateway")]
pub fn on_redis() -> bool {
    std::env::var("SCOPEGATE_TEST_STORE").is_ok_and(|store| store == "redis")
}

/// A number out of the environment.
#[expect(clippy::disallowed_methods, reason = "it is about the tests, not about the gateway")]
pub fn many(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Prints how long something took. The recipes that set `STRICT` judge it; no other run does.
pub fn judge(what: &str, took: Duration, most: Duration) {
    println!("{what}: {took:?}, at most {most:?} where it is judged");
    assert!(many("STRICT", 0) == 0 || took <= most, "{what}: {took:?}");
}

/// The secret of every client in the tests, and its digest.
pub const SECRET: &str = "test-secret-of-fifty-characters-aaaaaaaaaaaaaaaaaa";

pub fn secret_digest() -> String {
    use sha2::{Digest, Sha256};
    scopegate::names::hex(&Sha256::digest(SECRET))
}
