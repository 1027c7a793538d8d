//! What must not be lost, whatever happens: crashes, power cuts, full and failing disks, corrupted
//! files, many tokens.
//!
//! Each fault is played for a few rounds here; `make faults` plays as many as a release has to
//! stand: `ROUNDS` and `TOKENS` say how many.

mod corruption;
mod crash;
mod disk;
mod size;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::authorization::{basic, member, refresh, setup, token, tokens};
use crate::support::browser::encode;
use crate::support::http::{form, send_if_possible};
use crate::support::{Gateway, Setup, wait_for};

/// A configuration with a fixed public URL, so that a second process can go on with the tokens of
/// the first.
fn fixed(store: Option<&std::path::Path>) -> Setup {
    let mut setup = setup(", refresh_grace: 60s");
    setup.gateway.push_str("public_url: http://127.0.0.1:1\n");
    if let Some(store) = store {
        setup
            .gateway
            .push_str(&format!("store: {{ embedded: {{ path: \"{}\" }} }}\n", store.display()));
    }
    setup
}

/// What the gateway has acknowledged.
#[derive(Default)]
struct Acknowledged {
    issued: Mutex<Vec<String>>,
    revoked: Mutex<Vec<String>>,
}

/// A family of refresh tokens: those that were given, in their order.
type Family = Arc<Mutex<Vec<String>>>;

/// Clients that write without a pause: opaque tokens are issued, some revoked, families of refresh
/// tokens go on.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Acknowledged>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// A member of an answer that has come whole; what is cut off was not acknowledged.
fn whole(answer: &crate::support::Response, name: &str) -> Option<String> {
    let body: serde_json::Value =
        serde_json::from_str(&answer.body).ok().filter(|_| answer.status == 200)?;
    Some(body[name].as_str()?.to_owned())
}

fn lengths(families: &[Family]) -> Vec<usize> {
    families.iter().map(|family| family.lock().unwrap().len()).collect()
}

/// Families of refresh tokens to go on with.
fn families(gateway: &Gateway, count: usize) -> Vec<Family> {
    (0..count).map(|_| Arc::new(Mutex::new(vec![tokens(gateway, "web").1]))).collect()
}

impl Load {
    fn start(gateway: &Gateway, families: &[Family]) -> Self {
        let (stop, acknowledged) =
            (Arc::new(AtomicBool::new(false)), Arc::new(Acknowledged::default()));
        let address = gateway.address;
        let ask = move |target: &str, client: &str, fields: &[(&str, &str)]| {
            send_if_possible(
                address,
                form(target, &[("Authorization", &basic(client))], &encode(fields)),
            )
        };
        let mut threads = Vec::new();
        for _ in 0..2 {
            let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
            threads.push(std::thread::spawn(move || {
                for n in 0_usize.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let answer =
                        ask("/oauth2/token", "opaque", &[("grant_type", "client_credentials")]);
                    let Some(access) = answer.and_then(|answer| whole(&answer, "access_token"))
                    else {
                        continue;
                    };
                    if n % 4 > 0 {
                        acknowledged.issued.lock().unwrap().push(access);
                        continue;
                    }
                    let revoked = ask("/oauth2/revoke", "opaque", &[("token", &access)]);
                    if revoked.is_some_and(|answer| answer.status == 200) {
                        acknowledged.revoked.lock().unwrap().push(access);
                    }
                }
            }));
        }
        for family in families {
            let (stop, family) = (stop.clone(), family.clone());
            threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let last = family.lock().unwrap().last().unwrap().clone();
                    let fields =
                        [("grant_type", "refresh_token"), ("refresh_token", last.as_str())];
                    let Some(answer) = ask("/oauth2/token", "web", &fields) else { continue };
                    assert!(
                        matches!(answer.status, 200 | 503),
                        "a family must not end: {answer:?}"
                    );
                    family.lock().unwrap().extend(whole(&answer, "refresh_token"));
                }
            }));
        }
        Self { stop, acknowledged, threads }
    }

    /// Waits until something was issued and each family has grown by a few.
    fn has_written(&self, families: &[Family], before: &[usize]) {
        wait_for("writes", || {
            let grown =
                lengths(families).iter().zip(before).all(|(now, before)| *now >= before + 5);
            (grown && !self.acknowledged.issued.lock().unwrap().is_empty()).then_some(())
        });
    }

    /// Ends it: what was acknowledged.
    fn end(self) -> Arc<Acknowledged> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.acknowledged
    }
}

/// All that was acknowledged is there: issued tokens are good, revoked ones are not, families go
/// on.
fn holds(gateway: &Gateway, acknowledged: &Acknowledged, families: &[Family]) {
    let verdict = |token: &String| gateway.get("/orders/1", Some(token)).verdict();
    for token in acknowledged.issued.lock().unwrap().iter().rev().take(60) {
        assert_eq!(verdict(token), "permit", "an acknowledged token is lost");
    }
    for token in acknowledged.revoked.lock().unwrap().iter().rev().take(60) {
        assert_eq!(verdict(token), "token.invalid", "an acknowledged revocation is lost");
    }
    for family in families {
        let last = family.lock().unwrap().last().unwrap().clone();
        let answer = refresh(gateway, "web", &last);
        assert_eq!(answer.status, 200, "an acknowledged rotation is lost: {answer:?}");
        family.lock().unwrap().push(member(&answer, "refresh_token"));
    }
}

/// Tokens that were used stay used; this ends the families.
fn used_stay_used(gateway: &Gateway, families: &[Family]) {
    for family in families {
        let family = family.lock().unwrap();
        assert!(family.len() > 5, "{}", family.len());
        assert_eq!(
            refresh(gateway, "web", &family[family.len() - 4]).status,
            400,
            "a used token is good again"
        );
        assert_eq!(
            refresh(gateway, "web", family.last().unwrap()).status,
            400,
            "and its second use ended the family"
        );
    }
}

/// Whether an opaque token is given now.
fn issues(gateway: &Gateway) -> bool {
    token(gateway, "opaque", &[("grant_type", "client_credentials")]).status == 200
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
