//! What both engines must do alike: single stories, and random histories held against a model.

mod made_users;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use proptest::prelude::*;
use tokio::task::block_in_place;
use zeroize::Zeroizing;

use super::attempts::{Attempt, Cleared};
use super::audit::{AuditRecord, NumberedRecord};
use super::blocks::{Blocked, CommandedBlock};
use super::events::Position;
use super::grants::{Gift, NewRefresh, Redemption};
use super::keys::{NewKey, Schedule};
use super::refresh::{Rotation, Use};
use super::revocations::{Revocation, Subject};
use super::sessions::Login;
use super::*;
use crate::config::{Secret, SharedStore, Topology};
use crate::grant::authorization::{Authorization, IssuedCode};
use crate::grant::opaque::{Kind, RANDOM};
use crate::names::IssuerName;
use crate::scope::ScopeSet;
use crate::store::access::StoredAccess;
use crate::tooling::usage::{Counts, Day, Row, Subject as UseSubject};

/// Times begin here: the server lets keys live by its own clock.
static START: LazyLock<i64> = LazyLock::new(|| {
    #[expect(clippy::disallowed_methods, reason = "the server's clock is the system's")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed()
});

fn at(seconds: i64) -> Timestamp {
    Timestamp(*START + seconds)
}

/// One Redis for all tests of the process; each store has a database of its own.
struct Server {
    child: Child,
    port: u16,
    databases: std::sync::atomic::AtomicU16,
    _folder: tempfile::TempDir,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let child = Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--databases",
            "10000",
        ])
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server, which `make system` installs");
    let server = Server { child, port, databases: 0.into(), _folder: folder };
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    // Statics are not dropped: the server ends with its parent.
    std::thread::spawn({
        let (pid, parent) = (server.child.id(), std::process::id());
        move || {
            let watch =
                format!("while kill -0 {parent} 2>/dev/null; do sleep 0.2; done; kill {pid}");
            let _ = Command::new("setsid")
                .args(["sh", "-c", &watch])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
        }
    });
    server
});

/// A store that can be opened again.
enum Place {
    Folder(tempfile::TempDir),
    Server(SharedStore),
}

impl Place {
    fn folder() -> Self {
        Self::Folder(tempfile::tempdir().unwrap())
    }

    fn server() -> Self {
        let database = SERVER.databases.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self::Server(SharedStore {
            url: Secret::new(&format!("redis://127.0.0.1:{}/{database}", SERVER.port)),
            encryption_key: Secret::new("an-encryption-key-of-at-least-32-characters"),
            topology: Topology::Single,
            ca: None,
            wait_replicas: 0,
        })
    }

    fn both() -> [Self; 2] {
        [Self::folder(), Self::server()]
    }

    fn open(&self) -> Store {
        match self {
            Self::Folder(folder) => Store::open(folder.path()).unwrap(),
            Self::Server(server) => Store::of(&StoreConfig::Shared(server.clone())).unwrap(),
        }
    }
}

fn scopes(text: &str) -> ScopeSet {
    ScopeSet::parse_unbounded(text).unwrap()
}

fn authorization(id: &str, client: &str, subject: &str) -> Authorization {
    Authorization {
        id: id.into(),
        client: client.into(),
        subject: subject.into(),
        scopes: scopes("a b"),
        resource: Some("https://api.example/x".into()).filter(|_| client == "crm"),
    }
}

fn access(byte: u8, authorization: Option<&str>, client: &str, subject: &str) -> StoredAccess {
    StoredAccess {
        digest: [byte; 32],
        id: format!("t{byte}"),
        authorization: authorization.map(str::to_owned),
        client: client.into(),
        subject: subject.into(),
        scopes: scopes("a"),
        audience: "https://api.example".into(),
        issued: at(1),
        expires: at(1_800),
    }
}

const fn gift(expires: Timestamp) -> Gift<()> {
    Gift { value: (), expires, refresh: None, access: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_as_it_was_issued_and_good_once() {
    for place in Place::both() {
        let store = place.open();
        let code = IssuedCode {
            authorization: authorization("a1", "crm", "alice"),
            redirect_uri: Some("https://app.example/cb?x=1".into()),
            challenge: Some(crate::grant::pkce::Challenge::of("verifier")),
        };
        store.issue_code([1; 32], code.clone(), at(0), at(60)).await.unwrap();
        let redeem = |client: &str, now| {
            let wanted = code.clone();
            store.redeem_code([1; 32], client.to_owned(), at(now), move |found| {
                assert_eq!(*found, wanted);
                Ok(gift(at(1_800)))
            })
        };
        assert!(
            matches!(redeem("other", 1).await.unwrap(), Redemption::Unknown),
            "another's code ends nothing"
        );
        assert!(matches!(redeem("crm", 60).await.unwrap(), Redemption::Unknown), "too old");
        let refused = store.redeem_code([1; 32], "crm".into(), at(1), |_| {
            Err::<Gift<()>, _>(crate::grant::GrantError::new(
                crate::grant::ErrorCode::InvalidGrant,
                "no",
            ))
        });
        assert!(matches!(refused.await.unwrap(), Redemption::Refused(_)));
        assert!(matches!(redeem("crm", 2).await.unwrap(), Redemption::Done(())));
        assert!(matches!(redeem("other", 2).await.unwrap(), Redemption::Unknown));
        // A second use, long after the code itself would be gone, ends what the first gave.
        let Redemption::Reused(revocation) = redeem("crm", 1_700).await.unwrap() else {
            panic!("reused")
        };
        assert_eq!(revocation.subject, Subject::Authorization("a1".into()));
        assert!(matches!(redeem("crm", 1_701).await.unwrap(), Redemption::Unknown));
        let unknown = store.redeem_code([9; 32], "crm".into(), at(1), |_| Ok(gift(at(1))));
        assert!(matches!(unknown.await.unwrap(), Redemption::Unknown));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_token_dies_with_whatever_it_hangs_on() {
    for place in Place::both() {
        let store = place.open();
        store.put_access(access(1, None, "crm", "crm")).await.unwrap();
        assert_eq!(store.access([1; 32]).await.unwrap(), Some(access(1, None, "crm", "crm")));
        assert_eq!(block_in_place(|| store.find_access([2; 32])).unwrap(), None);
        let all = [
            Subject::Token("t2".into()),
            Subject::Authorization("a3".into()),
            Subject::Client("crm".into()),
            Subject::User("alice".into()),
            Subject::Everything,
        ];
        for (n, subject) in (2_u8..).zip(all) {
            let made = 10 * i64::from(n);
            let give = async |byte: u8, id: &str, client: &str, subject: &str| {
                let access =
                    StoredAccess { issued: at(made), ..access(byte, Some(id), client, subject) };
                let given = Gift { access: Some(access), ..gift(at(1_800)) };
                store
                    .authorize(authorization(id, client, subject), given, at(made), at(made + 9))
                    .await
                    .unwrap();
            };
            let (ours, others, later) = ([n; 32], [n + 100; 32], [n + 50; 32]);
            give(n, &format!("a{n}"), "crm", "alice").await;
            give(n + 100, &format!("o{n}"), "web", "bob").await;
            assert!(store.access(ours).await.unwrap().is_some(), "{subject:?}");
            let revocation =
                Revocation::until(IssuerName::new("self"), subject.clone(), at(made), at(made + 1));
            let elsewhere = Revocation { issuer: IssuerName::new("corp"), ..revocation.clone() };
            store.revoke(elsewhere, None).await.unwrap();
            assert!(
                store.access(ours).await.unwrap().is_some(),
                "tokens of another issuer are none of ours"
            );
            store.revoke(revocation, None).await.unwrap();
            assert!(store.access(ours).await.unwrap().is_none(), "{subject:?}");
            let everything = subject == Subject::Everything;
            assert_eq!(store.access(others).await.unwrap().is_none(), everything, "{subject:?}");
            // What is given later is not meant.
            let fresh =
                StoredAccess { issued: at(made + 2), ..access(n + 50, None, "crm", "alice") };
            store.put_access(fresh).await.unwrap();
            assert!(store.access(later).await.unwrap().is_some(), "{subject:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_logins_and_consents_are_kept_and_end() {
    for place in Place::both() {
        let store = place.open();
        let session = |digest: u8| store.session([digest; 32], at(10));
        for n in 1..=3 {
            store
                .begin_session([n; 32], ("alice".into(), "proof".into()), at(n.into()), at(100))
                .await
                .unwrap();
        }
        assert_eq!(session(1).await.unwrap(), Some(("alice".into(), "proof".into(), at(1))));
        assert_eq!(store.session([1; 32], at(100)).await.unwrap(), None);
        store.end_session([1; 32]).await.unwrap();
        assert_eq!(session(1).await.unwrap(), None);
        let until =
            Revocation::until(IssuerName::new("self"), Subject::User("alice".into()), at(2), at(5));
        store.revoke(until, None).await.unwrap();
        assert_eq!((session(2).await.unwrap(), session(3).await.unwrap().is_some()), (None, true));
        store.revoke(Revocation::now(Subject::Everything, at(5)), None).await.unwrap();
        assert_eq!(session(3).await.unwrap(), None);

        let login = Login {
            user: "alice".into(),
            browser: "b".into(),
            back: "/oauth2/authorize?x=\"1\"".into(),
        };
        store.keep_login([1; 32], login.clone(), at(0), at(60)).await.unwrap();
        store.keep_login([2; 32], login.clone(), at(0), at(60)).await.unwrap();
        assert_eq!(store.take_login([1; 32], at(1)).await.unwrap(), Some(login));
        assert_eq!(store.take_login([1; 32], at(1)).await.unwrap(), None, "once");
        assert_eq!(store.take_login([2; 32], at(60)).await.unwrap(), None, "too late");

        let consent = |client: &str, resource: &str| {
            store.consent("alice".into(), client.into(), resource.into())
        };
        let remember = |client: &str, resource: &str, given: &str, now| {
            store.remember_consent(
                "alice".into(),
                client.into(),
                resource.into(),
                scopes(given),
                at(now),
            )
        };
        assert_eq!(consent("crm", "").await.unwrap(), None);
        remember("crm", "", "a b", 1).await.unwrap();
        remember("crm", "", "b c", 2).await.unwrap();
        remember("crm", "https://api.example/x", "d", 3).await.unwrap();
        remember("crm2", "", "", 4).await.unwrap();
        assert_eq!(consent("crm", "").await.unwrap(), Some(scopes("a b c")));
        assert_eq!(consent("crm2", "").await.unwrap(), Some(scopes("")));
        let connected = store.connected("alice".into()).await.unwrap();
        let shown: Vec<_> = connected
            .iter()
            .map(|one| (one.client.as_str(), one.scopes.to_value(), one.since))
            .collect();
        assert_eq!(shown, [("crm", "a b c d".to_owned(), at(1)), ("crm2", String::new(), at(4))]);
        let code = IssuedCode {
            authorization: authorization("d1", "crm", "alice"),
            redirect_uri: None,
            challenge: None,
        };
        store.issue_code([7; 32], code, at(6), at(60)).await.unwrap();
        store
            .authorize(authorization("d2", "crm2", "alice"), gift(at(60)), at(6), at(60))
            .await
            .unwrap();
        let ended = store.disconnect("alice".into(), "crm".into(), at(7)).await.unwrap();
        assert_eq!(ended, [Revocation::authorization("d1", at(7))]);
        assert_eq!(consent("crm", "https://api.example/x").await.unwrap(), None);
        assert!(
            consent("crm2", "").await.unwrap().is_some(),
            "a name that begins alike is another"
        );
        assert!(store.disconnect("alice".into(), "crm".into(), at(8)).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_counted_and_assertions_used_once() {
    for place in Place::both() {
        let store = place.open();
        assert!(store.use_assertion("j 1".into(), at(0), at(60)).await.unwrap());
        assert!(!store.use_assertion("j 1".into(), at(1), at(60)).await.unwrap());
        for n in 0..3 {
            let subjects = vec![format!("client 10.0.0.{n}"), format!("client x 10.0.0.{n}")];
            store.note_attempts(subjects, at(n), at(n + 10)).await.unwrap();
        }
        store.note_attempts(vec!["known user x 10.0.0.2".into()], at(2), at(60)).await.unwrap();
        let attempt = |subject: &str, n| Attempt { subject: subject.to_owned(), at: at(n) };
        let attempts = block_in_place(|| store.attempts(at(11))).unwrap();
        assert_eq!(attempts.len(), 3, "{attempts:?}");
        assert!(attempts.contains(&attempt("client 10.0.0.2", 2)), "{attempts:?}");
        let before = block_in_place(|| store.news_now()).unwrap().position;
        assert_eq!(
            store.clear_attempts(&Cleared::Place("10.0.0.2".into()), at(11), None).await.unwrap(),
            2
        );
        assert!(store.news(before).await.unwrap().blocks, "whoever shares the store hears of it");
        let attempts = block_in_place(|| store.attempts(at(11))).unwrap();
        assert_eq!(attempts, [attempt("known user x 10.0.0.2", 2)]);
        assert_eq!(
            block_in_place(|| store.clear_attempts_now(&Cleared::All, at(11), None)).unwrap(),
            0
        );
        for day in [2, 1, 3] {
            store.record_secret_use("crm".into(), "s1".into(), at(day)).await.unwrap();
        }
        assert_eq!(
            block_in_place(|| store.secret_uses()).unwrap(),
            [("crm".into(), "s1".into(), at(3))]
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn use_adds_up_by_day_and_old_days_are_forgotten() {
    let row = |client: &str, api: &str, day, permitted, refused| Row {
        subject: UseSubject { client: client.into(), api: api.into(), operation: "GET /x".into() },
        day: Day(day),
        counts: Counts { permitted, refused, for_users: permitted / 2, shadow_refused: 0 },
    };
    for place in Place::both() {
        let store = place.open();
        assert_eq!(block_in_place(|| store.first_usage()).unwrap(), None);
        let first = vec![row("crm", "a", 5, 4, 1), row("crm", "b", 6, 1, 0)];
        store.add_usage(first).await.unwrap();
        store.add_usage(vec![row("crm", "a", 5, 2, 0), row("web", "a", 6, 0, 3)]).await.unwrap();
        let mut all = store.usage(Day(5), None).await.unwrap();
        all.sort_by(|x, y| (&x.subject, x.day).cmp(&(&y.subject, y.day)));
        let mut sum = row("crm", "a", 5, 6, 1);
        sum.counts.for_users = 3;
        assert_eq!(all, [sum.clone(), row("crm", "b", 6, 1, 0), row("web", "a", 6, 0, 3)]);
        assert_eq!(store.usage(Day(6), Some("crm".into())).await.unwrap().len(), 1);
        assert_eq!(store.usage(Day(0), Some("we".into())).await.unwrap(), []);
        let mut rows = Vec::new();
        block_in_place(|| store.each_usage(Day(6), &mut |row| rows.push(row))).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(block_in_place(|| store.first_usage()).unwrap(), Some(Day(5)));
        let secret = |group| store.record_secret_network("crm".into(), "ab".into(), 7, group);
        store.record_secret_use("crm".into(), "ab".into(), at(0)).await.unwrap();
        for group in [3, 4, 3] {
            secret(group).await.unwrap();
        }
        let networks = |period| block_in_place(|| store.secret_networks(period)).unwrap();
        let found = |group| ("crm".to_owned(), "ab".to_owned(), group);
        assert_eq!((networks(7), networks(8)), (vec![found(3), found(4)], vec![]));
        let used = block_in_place(|| store.used_secrets(Day(7 * 30 + 5))).unwrap();
        assert_eq!((used[0].networks, used.len()), (Some(2), 1));
        assert!(!store.forget_usage(Day(6)).await.unwrap());
        assert_eq!(block_in_place(|| store.first_usage()).unwrap(), Some(Day(6)));
        assert_eq!(store.usage(Day(0), None).await.unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_is_stored_with_its_record_or_not_at_all() {
    let record = |act: &str| AuditRecord {
        at: at(0).0,
        who: "anna".into(),
        via: "session".into(),
        from: Some("127.0.0.1".into()),
        act: act.into(),
        on: "client `crm`".into(),
        before: None,
        after: None,
        outcome: "done".into(),
    };
    for place in Place::both() {
        let store = place.open();
        assert_eq!(store.last_audit().await.unwrap(), 0);
        let block = CommandedBlock {
            blocked: Blocked::Client("crm".into()),
            reason: None,
            since: at(0),
            until: None,
        };
        block_in_place(|| store.block(&block, Some(record("block")))).unwrap();
        let revocation = Revocation::now(Subject::Client("crm".into()), at(1));
        store.revoke(revocation, Some(record("revoke"))).await.unwrap();
        let unblock =
            |record| block_in_place(|| store.unblock(&block.blocked, at(2), record)).unwrap();
        assert!(unblock(Some(record("unblock"))));
        assert!(!unblock(Some(record("unblock"))));
        store.clear_attempts(&Cleared::All, at(3), Some(record("clear-attempts"))).await.unwrap();
        store.note_audit(record("sign-in")).await.unwrap();
        let acts = |records: &[NumberedRecord]| -> Vec<String> {
            records.iter().map(|record| record.record.act.clone()).collect()
        };
        let newest = store.audit(i64::MAX, 10).await.unwrap();
        assert_eq!(acts(&newest), ["sign-in", "clear-attempts", "unblock", "revoke", "block"]);
        assert_eq!(newest[0].record, record("sign-in"));
        let (first, last) = (newest[4].number, newest[0].number);
        assert_eq!(last - first, 4);
        assert_eq!(acts(&store.audit(newest[1].number, 2).await.unwrap()), ["unblock", "revoke"]);
        assert_eq!(acts(&store.audit_after(first, 2).await.unwrap()), ["revoke", "unblock"]);
        assert_eq!(store.audit_after(last, 2).await.unwrap(), []);
        assert_eq!(store.last_audit().await.unwrap(), last);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn news_reach_whoever_reads_on_and_whoever_begins_anew() {
    for place in Place::both() {
        let (one, other) = (place.open(), place.open());
        let begin = block_in_place(|| other.news_now()).unwrap().position;
        let first =
            Revocation::until(IssuerName::new("corp"), Subject::Client("azp".into()), at(1), at(2));
        one.revoke(first.clone(), None).await.unwrap();
        let block = CommandedBlock {
            blocked: Blocked::Network("10.0.0.0/8".parse().unwrap()),
            reason: Some("abuse".into()),
            since: at(2),
            until: Some(at(100)),
        };
        block_in_place(|| one.block(&block, None)).unwrap();
        let mut heard = Vec::new();
        let (mut position, mut blocks) = (begin, false);
        while heard.is_empty() || !blocks {
            let news = other.news(position).await.unwrap();
            assert!(news.delays.iter().all(|delay| delay.as_secs() < 5), "{news:?}");
            blocks |= news.blocks;
            heard.extend(news.revocations);
            position = news.position;
        }
        assert_eq!(heard, std::slice::from_ref(&first));
        assert_eq!(block_in_place(|| other.blocks(at(3))).unwrap(), std::slice::from_ref(&block));
        assert!(block_in_place(|| other.blocks(at(100))).unwrap().is_empty());
        let silence = other.news(position).await.unwrap();
        assert!(silence.revocations.is_empty() && !silence.blocks && silence.position == position);
        assert_eq!(
            block_in_place(|| place.open().news_now()).unwrap().revocations,
            std::slice::from_ref(&first)
        );
        // A number from another connection says nothing: the server behind it may have lost its
        // last writes.
        let anew = other.news(Position { number: 1_000_000, generation: u64::MAX }).await.unwrap();
        assert_eq!(anew.revocations.is_empty(), matches!(place, Place::Folder(_)));
        assert!(block_in_place(|| one.unblock(&block.blocked, at(4), None)).unwrap());
        assert!(!block_in_place(|| one.unblock(&block.blocked, at(4), None)).unwrap());
        assert!(block_in_place(|| other.blocks(at(5))).unwrap().is_empty());
        assert!(other.news(position).await.unwrap().blocks);
        // What has expired is swept, and what has not stays.
        while one.sweep(at(2).plus(105 * 86_400 + 1)).await.unwrap() {}
        assert!(block_in_place(|| place.open().news_now()).unwrap().revocations.is_empty());
    }
}

#[test]
fn two_processes_make_one_key_and_a_wrong_secret_reads_none() {
    for place in Place::both() {
        let stores = [place.open(), place.open()];
        let schedule = Schedule { every: 90 * 86_400, lead: 86_400, keep: 105 * 86_400 };
        std::thread::scope(|scope| {
            for (n, store) in (0_u8..).zip(&stores) {
                let fresh = NewKey {
                    public_jwk: format!("public {n}"),
                    private_key: b"planted-private".to_vec().into(),
                };
                scope
                    .spawn(move || store.turn_keys("ES256", schedule, at(1), Some(fresh)).unwrap());
            }
        });
        let keys = stores[0].keys().unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].private_key.as_ref().unwrap().as_slice(), b"planted-private");
        assert_eq!(stores[1].keys().unwrap(), keys);
        let Place::Server(server) = &place else { continue };
        let wrong = SharedStore {
            encryption_key: Secret::new("another-key-of-at-least-thirty-two-chars"),
            ..server.clone()
        };
        let fault = Store::of(&StoreConfig::Shared(wrong)).unwrap().keys().unwrap_err().to_string();
        assert!(fault.contains("encryption_key"), "{fault}");
        let dump = Command::new("redis-cli")
            .args(["-u", server.url.expose(), "GET", "{scopegate}:keys"])
            .output()
            .unwrap();
        let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
        assert!(dump.contains("public ") && !dump.contains("planted"), "{dump}");
    }
}

/// What may happen to one family of tokens.
#[derive(Clone, Debug)]
enum Step {
    Issue,
    Redeem(usize, bool),
    Refresh(usize),
    Revoke(usize, u8),
    Disconnect(bool, bool),
    Wait(i64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Issue),
        4 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(n, own)| Step::Redeem(n, own)),
        8 => any::<usize>().prop_map(Step::Refresh),
        1 => (any::<usize>(), 0_u8..4).prop_map(|(n, kind)| Step::Revoke(n, kind)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(user, client)| Step::Disconnect(user,
            client)),
        3 => (0_i64..40).prop_map(Step::Wait),
        1 => Just(Step::Reopen),
    ]
}

struct Code {
    family: usize,
    expires: i64,
    used: bool,
}

struct Token {
    family: usize,
    random: [u8; RANDOM],
    expires: i64,
    /// When, and which took its place.
    used: Option<(i64, usize)>,
}

/// What a user allowed: alive, by whom for which client.
struct Family {
    alive: bool,
    /// Ended after everything of it had expired.
    forgotten: bool,
    expires: i64,
    client: &'static str,
    user: &'static str,
}

#[derive(Default)]
struct Model {
    now: i64,
    families: Vec<Family>,
    codes: Vec<Code>,
    tokens: Vec<Token>,
}

const LIFE: i64 = 50;
const GRACE: u32 = 10;

fn client(first: bool) -> &'static str {
    if first { "crm" } else { "web" }
}

fn user(first: bool) -> &'static str {
    if first { "alice" } else { "bob" }
}

/// Does the steps in the store and in the model; the first difference fails.
async fn play(place: &Place, steps: &[Step]) {
    let (mut store, mut model) = (place.open(), Model::default());
    for step in steps {
        let now = model.now;
        match step {
            Step::Issue => {
                let n = model.families.len();
                let family = Family {
                    alive: true,
                    forgotten: false,
                    expires: now + 60,
                    client: client(n % 2 == 0),
                    user: user(n % 3 == 0),
                };
                let code = IssuedCode {
                    authorization: authorization(&format!("a{n}"), family.client, family.user),
                    redirect_uri: None,
                    challenge: None,
                };
                store.issue_code(digest(n), code, at(now), at(now + 60)).await.unwrap();
                model.families.push(family);
                model.codes.push(Code { family: n, expires: now + 60, used: false });
            }
            Step::Redeem(n, own) if !model.codes.is_empty() => {
                let n = n % model.codes.len();
                redeem(&store, &mut model, n, *own).await;
            }
            Step::Refresh(n) if !model.tokens.is_empty() => {
                let n = n % model.tokens.len();
                refresh(&store, &mut model, n).await;
            }
            Step::Revoke(n, kind) if !model.families.is_empty() => {
                let n = n % model.families.len();
                let (client, user) = (model.families[n].client, model.families[n].user);
                let subject = match kind {
                    0 => Subject::Authorization(format!("a{n}")),
                    1 => Subject::Client(client.into()),
                    2 => Subject::User(user.into()),
                    _ => Subject::Everything,
                };
                store.revoke(Revocation::now(subject, at(now)), None).await.unwrap();
                for (of, family) in model.families.iter_mut().enumerate() {
                    let meant = match kind {
                        0 => of == n,
                        1 => family.client == client,
                        2 => family.user == user,
                        _ => true,
                    };
                    family.alive &= !meant;
                }
                // Those by time take all of their second.
                model.now += i64::from(*kind > 0);
            }
            Step::Disconnect(first_user, first_client) => {
                let (user, client) = (user(*first_user), client(*first_client));
                let ended = store.disconnect(user.into(), client.into(), at(now)).await.unwrap();
                // Those of which everything has expired may be forgotten already: only the living
                // must be among them.
                for (n, family) in model.families.iter_mut().enumerate() {
                    if family.alive && family.user == user && family.client == client {
                        family.alive = false;
                        if now >= family.expires {
                            family.forgotten = true;
                            continue;
                        }
                        assert!(
                            ended.contains(&Revocation::authorization(&format!("a{n}"), at(now))),
                            "a{n}: {ended:?}"
                        );
                    }
                }
            }
            Step::Wait(seconds) => model.now += seconds,
            Step::Reopen => store = place.open(),
            Step::Redeem(..) | Step::Refresh(_) | Step::Revoke(..) => {}
        }
    }
}

fn digest(n: usize) -> [u8; 32] {
    let mut digest = [7; 32];
    digest[..8].copy_from_slice(&n.to_be_bytes());
    digest
}

fn random(n: usize) -> [u8; RANDOM] {
    let mut random = [3; RANDOM];
    random[..8].copy_from_slice(&n.to_be_bytes());
    random
}

async fn redeem(store: &Store, model: &mut Model, n: usize, own: bool) {
    let now = model.now;
    let code = &mut model.codes[n];
    let family = &mut model.families[code.family];
    let token = random(model.tokens.len());
    let refresh = Kind::Refresh
        .digest(&Kind::Refresh.make(&token))
        .map(|digest| NewRefresh { digest, expires: at(now + LIFE) });
    let client = if own { family.client } else { "other" };
    let got = store
        .redeem_code(digest(n), client.into(), at(now), move |_| {
            Ok(Gift { refresh, ..gift(at(now + 30)) })
        })
        .await
        .unwrap();
    let wanted = if own && family.forgotten && code.used && matches!(got, Redemption::Reused(_)) {
        // Whatever it was: of what had expired before it was ended, nothing more can be ended.
        "reused"
    } else if !own || !family.alive {
        "unknown"
    } else if code.used {
        "reused"
    } else if now >= code.expires {
        "unknown"
    } else {
        "done"
    };
    let got = match got {
        Redemption::Done(()) => "done",
        Redemption::Reused(_) => "reused",
        Redemption::Unknown => "unknown",
        Redemption::Refused(_) => "refused",
    };
    assert_eq!(got, wanted, "code {n} at {now}");
    match wanted {
        "done" => {
            code.used = true;
            family.expires = family.expires.max(now + LIFE);
            let family = code.family;
            model.tokens.push(Token { family, random: token, expires: now + LIFE, used: None });
        }
        "reused" => family.alive = false,
        _ => {}
    }
}

async fn refresh(store: &Store, model: &mut Model, n: usize) {
    let (now, next) = (model.now, model.tokens.len());
    let token = &model.tokens[n];
    let family = &model.families[token.family];
    let text = Kind::Refresh.make(&token.random);
    let used = Use {
        digest: Kind::Refresh.digest(&text).unwrap(),
        token: text,
        client: family.client.into(),
        successor: Zeroizing::new(random(next)),
        expires: at(now + LIFE),
        grace: GRACE,
    };
    let got = store.rotate(used, at(now), move |_| Ok(gift(at(now + 30)))).await.unwrap();
    let wanted = match token.used {
        _ if !family.alive || now >= token.expires => "unknown".to_owned(),
        None => "done".to_owned(),
        Some((when, successor))
            if now < when + i64::from(GRACE) && model.tokens[successor].used.is_none() =>
        {
            format!("again {:?}", model.tokens[successor].random)
        }
        Some(_) => "reused".to_owned(),
    };
    let got = match got {
        Rotation::Done(()) => "done".to_owned(),
        Rotation::Again((), random, _) => format!("again {:?}", *random),
        Rotation::Unknown => "unknown".to_owned(),
        Rotation::Reused(_) => "reused".to_owned(),
        Rotation::Refused(_) => "refused".to_owned(),
    };
    assert_eq!(got, wanted, "token {n} at {now}");
    let of = token.family;
    if wanted == "done" {
        let family = &mut model.families[of];
        family.expires = family.expires.max(now + LIFE);
        model.tokens[n].used = Some((now, next));
        model.tokens.push(Token {
            family: of,
            random: random(next),
            expires: now + LIFE,
            used: None,
        });
    } else if wanted == "reused" {
        model.families[of].alive = false;
    }
}

fn histories(place: impl Fn() -> Place, cases: u32) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(steps in prop::collection::vec(step(), 1..60))| {
        runtime.block_on(play(&place(), &steps));
    });
}

#[test]
fn random_histories_of_the_embedded_store_are_those_of_the_model() {
    histories(Place::folder, 40);
}

#[test]
fn random_histories_of_the_shared_store_are_those_of_the_model() {
    histories(Place::server, 150);
}
