use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::store::attempts::{Attempt, MAX_PER_NAME, MAX_PER_PLACE};

fn from(last: u8) -> Origin {
    Origin::Address(Some(IpAddr::from([10, 0, 0, last])))
}

struct Place {
    _folder: tempfile::TempDir,
    store: Store,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    Place { store: Store::open(folder.path()).unwrap(), _folder: folder }
}

const NOW: Timestamp = Timestamp(1_000);

async fn wrong(
    guessing: &Guessing,
    store: &Store,
    account: Account,
    name: &str,
    origin: &Origin,
) -> Result<(), u32> {
    guessing.note_wrong(account, name, origin, (store, NOW)).await
}

#[tokio::test]
async fn five_wrong_attempts_close_the_door_for_one_name_at_one_address_alone() {
    let (guessing, place) = (Guessing::default(), place());
    for _ in 0..MAX_PER_NAME {
        wrong(&guessing, &place.store, Account::Client, "crm", &from(1)).await.unwrap();
    }
    let wait = wrong(&guessing, &place.store, Account::Client, "crm", &from(1)).await.unwrap_err();
    assert!((890..=901).contains(&wait), "{wait}");
    for (account, name, origin) in [
        (Account::Client, "crm", from(2)),
        (Account::Client, "other", from(1)),
        (Account::User, "crm", from(1)),
        (Account::Client, "crm", Origin::Browser("b".to_owned(), None)),
        (Account::Client, "crm", Origin::Address(None)),
    ] {
        wrong(&guessing, &place.store, account, name, &origin).await.unwrap();
    }
}

#[tokio::test]
async fn one_address_cannot_go_through_all_names() {
    let (guessing, place) = (Guessing::default(), place());
    let mut counted = 0;
    for n in 0..100 {
        counted += usize::from(
            wrong(&guessing, &place.store, Account::User, &format!("u{n}"), &from(1)).await.is_ok(),
        );
    }
    assert_eq!(counted, MAX_PER_PLACE);
}

fn v6(network: u16, host: u16) -> Origin {
    Origin::Address(Some(IpAddr::from([0x2001, 0xdb8, network, host, 0, 0, 0, 1])))
}

#[tokio::test]
async fn a_flood_from_many_addresses_makes_its_own_kind_coarse_and_opens_no_door() {
    let (guessing, place) = (Guessing::default(), place());
    let end = Instant::now() + WINDOW;
    for n in 0..counts::MAX {
        let address = std::net::Ipv6Addr::from_bits(u128::try_from(n).unwrap() << 80);
        guessing.lock().counts.entry(&format!("client {address}")).ends.push_back(end);
    }
    let mut counted = 0;
    for n in 0..100 {
        counted += usize::from(
            wrong(&guessing, &place.store, Account::Client, "crm", &v6(n, 0)).await.is_ok(),
        );
    }
    assert_eq!(counted, MAX_PER_NAME, "the /32 is one");
    // Others are not near it: users, and addresses of IPv4.
    for n in 0..100 {
        wrong(&guessing, &place.store, Account::User, "alice", &v6(n, 0)).await.unwrap();
        wrong(&guessing, &place.store, Account::Client, "crm", &from(u8::try_from(n).unwrap()))
            .await
            .unwrap();
    }
    // What was counted is forgotten in time, and with it that networks are one.
    guessing.lock().counts.forget(end);
    wrong(&guessing, &place.store, Account::Client, "crm", &v6(101, 0)).await.unwrap();
}

#[tokio::test]
async fn a_flood_from_one_ipv6_network_is_counted_as_one_and_leaves_neighbours_and_owners_in_it() {
    let (guessing, place) = (Guessing::default(), place());
    let owner = v6(1, 7);
    let subjects = guessing.subjects(Account::User, "alice", &owner);
    guessing.note_owner(&subjects, &owner, (&place.store, NOW)).await;
    // Each is counted for its address and for its name there.
    for host in 0..u16::try_from(counts::MAX_OF_PARTY / 2).unwrap() {
        let _ =
            wrong(&guessing, &place.store, Account::User, &format!("u{host}"), &v6(1, host)).await;
    }
    let mut counted = 0;
    for host in 3_000..3_100 {
        let wrong =
            wrong(&guessing, &place.store, Account::User, &format!("v{host}"), &v6(1, host)).await;
        counted += usize::from(wrong.is_ok());
    }
    assert_eq!(counted, MAX_PER_PLACE, "the /48 is one");
    wrong(&guessing, &place.store, Account::User, "alice", &v6(2, 1)).await.unwrap();
    wrong(&guessing, &place.store, Account::User, "alice", &owner).await.unwrap();
    assert!(wrong(&guessing, &place.store, Account::User, "bob", &owner).await.is_err());
}

#[test]
fn an_owners_places_are_not_taken_by_a_neighbour_with_an_account_of_his_own() {
    let guessing = Guessing::default();
    let put = |name: &str, origin: &Origin| {
        let subjects = guessing.subjects(Account::User, name, origin);
        let job = Job {
            subjects,
            since: Instant::now(),
            answer: oneshot::channel().0,
            check: Box::new(|| true),
        };
        guessing.enqueue(job, origin)
    };
    let bob = guessing.subjects(Account::User, "bob", &from(1)).known().to_owned();
    let known = Known { until: Instant::now() + KNOWN, noted: Instant::now() };
    guessing.lock().known.insert(bob, known);
    let waits = (0..100).filter(|_| put("bob", &from(1)).is_ok()).count();
    assert_eq!(waits, MAX_OF_OWNER);
    let browser = Origin::Browser("b".to_owned(), Some(IpAddr::from([10, 0, 0, 1])));
    assert_eq!(put("alice", &browser), Ok(()));
    assert_eq!(put("carol", &from(1)), Ok(()), "nor those of somebody new");
    // Turns go round: the browser does not wait for all of bob's.
    let mut state = guessing.lock();
    let turns: Vec<String> = (0..3)
        .filter_map(|_| state.take(true))
        .map(|job| job.subjects.known().to_owned())
        .collect();
    assert!(turns.iter().take(2).any(|subject| subject.contains("browser:")), "{turns:?}");
}

#[tokio::test]
async fn of_a_thousand_guesses_at_once_five_are_looked_at_and_the_others_answered_without_a_look() {
    let place = place();
    let guessing = Guessing::start(&place.store, NOW).unwrap();
    let looked = Arc::new(AtomicUsize::new(0));
    let (origin, at) = (from(1), (&place.store, NOW));
    let guess = || {
        let looked = looked.clone();
        guessing.check(Account::User, "alice", &origin, at, move || {
            looked.fetch_add(1, Ordering::Relaxed);
            None::<()>
        })
    };
    let outcomes = futures_util::future::join_all((0..1_000).map(|_| guess())).await;
    assert_eq!(looked.load(Ordering::Relaxed), MAX_PER_NAME);
    let wrong = outcomes.iter().filter(|outcome| matches!(outcome, Err(Refused::Wrong(_)))).count();
    assert_eq!(wrong, MAX_PER_NAME);
    assert!(outcomes.iter().all(Result::is_err));
    assert!(matches!(guess().await, Err(Refused::Limited(1..))));
}

#[tokio::test]
async fn what_is_right_does_not_count_however_much_of_it_comes() {
    let place = place();
    let guessing = Guessing::start(&place.store, NOW).unwrap();
    for _ in 0..20 {
        let checks = (0..5).map(|n| {
            let origin = from(1);
            let (guessing, store) = (&guessing, &place.store);
            async move {
                guessing.check(Account::User, "alice", &origin, (store, NOW), move || Some(n)).await
            }
        });
        for (n, outcome) in futures_util::future::join_all(checks).await.into_iter().enumerate() {
            assert_eq!(outcome, Ok(n));
        }
    }
    let known = place.store.attempts(NOW).unwrap();
    assert_eq!(known.len(), 1, "the owner's address is written down once a day: {known:?}");
    assert!(known.iter().all(Attempt::is_known));
}

/// Keeps threads busy with strangers until what it gives is dropped.
fn busy(guessing: &Arc<Guessing>, store: &Store, count: u8) -> Vec<std::sync::mpsc::Sender<()>> {
    let mut held = Vec::new();
    for n in 0..count {
        let (release, wait) = std::sync::mpsc::channel();
        let (began, begun) = std::sync::mpsc::channel();
        let (guessing, store) = (guessing.clone(), store.clone());
        tokio::spawn(async move {
            let check = move || {
                began.send(()).unwrap();
                wait.recv().ok().map(drop)
            };
            guessing
                .check(Account::User, &format!("busy{n}"), &from(200 + n), (&store, NOW), check)
                .await
        });
        held.push((release, begun));
    }
    let held = held.into_iter().map(|(release, begun)| {
        begun.recv().unwrap();
        release
    });
    held.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_wait_for_one_turn_of_each_other_and_owners_for_owners() {
    let place = place();
    let guessing = Guessing::start(&place.store, NOW).unwrap();
    guessing
        .check(Account::User, "owner", &from(9), (&place.store, NOW), || Some(()))
        .await
        .unwrap();
    let busy = busy(&guessing, &place.store, 2);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = Vec::new();
    // Twenty strangers with four attempts each, then one that nobody has seen, then the owner.
    let strangers = (0..80_u8).map(|n| (format!("stranger{n}"), n / 4 + 10));
    for (name, last) in strangers.chain([("new".to_owned(), 8), ("owner".to_owned(), 9)]) {
        let (own, store, order) = (guessing.clone(), place.store.clone(), order.clone());
        let expected = {
            let state = guessing.lock();
            state.waiting() + 1
        };
        waiting.push(tokio::spawn(async move {
            let noted = name.clone();
            let check = move || {
                order.lock().unwrap().push(noted);
                Some(())
            };
            own.check(Account::User, &name, &from(last), (&store, NOW), check).await
        }));
        while guessing.lock().waiting() < expected {
            tokio::task::yield_now().await;
        }
    }
    // What the thread finds that begins with owners, and then the one that begins with everybody
    // else.
    {
        let mut state = guessing.lock();
        for owners_first in std::iter::once(true).chain(std::iter::repeat(false)) {
            let Some(job) = state.take(owners_first) else { break };
            assert!((job.check)());
            job.answer.send(Ok(())).unwrap();
        }
    }
    drop(busy);
    for attempt in waiting {
        attempt.await.unwrap().unwrap();
    }
    let order = order.lock().unwrap();
    let at = |name: &str| order.iter().position(|found| found == name).unwrap();
    assert_eq!(at("owner"), 0, "owners do not wait behind strangers: {order:?}");
    assert!(at("new") <= 21, "one turn of each of twenty: {order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_any_more_is_not_looked_at() {
    let place = place();
    let guessing = Guessing::start(&place.store, NOW).unwrap();
    let busy = busy(&guessing, &place.store, 2);
    let looked = Arc::new(AtomicUsize::new(0));
    let given_up = {
        let (guessing, store, looked) = (guessing.clone(), place.store.clone(), looked.clone());
        tokio::spawn(async move {
            let check = move || Some(looked.fetch_add(1, Ordering::Relaxed));
            guessing.check(Account::User, "gone", &from(1), (&store, NOW), check).await
        })
    };
    while guessing.lock().waiting() < 1 {
        tokio::task::yield_now().await;
    }
    given_up.abort();
    assert!(given_up.await.is_err());
    drop(busy);
    guessing
        .check(Account::User, "next", &from(1), (&place.store, NOW), || Some(()))
        .await
        .unwrap();
    assert_eq!(looked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_check_that_panics_is_wrong_and_the_next_one_has_its_turn() {
    let place = place();
    let guessing = Guessing::start(&place.store, NOW).unwrap();
    for _ in 0..3 {
        // Without the hook, which prints a backtrace: on a busy machine that takes seconds.
        let check = || -> Option<()> { std::panic::resume_unwind(Box::new("a check that fails")) };
        let outcome =
            guessing.check(Account::User, "alice", &from(1), (&place.store, NOW), check).await;
        assert!(matches!(outcome, Err(Refused::Wrong(_))), "{outcome:?}");
    }
    assert_eq!(
        guessing.check(Account::User, "alice", &from(1), (&place.store, NOW), || Some(7)).await,
        Ok(7)
    );
}

#[tokio::test]
async fn attempts_survive_a_restart_and_a_command_ends_them() {
    let place = place();
    let guessing = Guessing::start(&place.store, NOW).unwrap();
    for _ in 0..MAX_PER_NAME {
        wrong(&guessing, &place.store, Account::User, "alice", &from(1)).await.unwrap();
    }
    let again = Guessing::start(&place.store, Timestamp(1_010)).unwrap();
    let wait = wrong(&again, &place.store, Account::User, "alice", &from(1)).await.unwrap_err();
    assert!((880..=891).contains(&wait), "{wait}");
    // What was noted by a clock that was three hours ahead does not begin anew with each start.
    let back = Guessing::start(&place.store, Timestamp(1_000 - 3 * 3_600)).unwrap();
    assert_eq!(back.limited(Account::User, "alice", &from(1)), None);
    let cleared = Cleared::Name(Account::User, "alice".to_owned());
    assert_eq!(place.store.clear_attempts(&cleared, NOW, None).await.unwrap(), MAX_PER_NAME);
    again.read(&place.store, NOW).unwrap();
    wrong(&again, &place.store, Account::User, "alice", &from(1)).await.unwrap();
}

#[tokio::test]
async fn new_secrets_end_the_limits_of_their_name_and_of_no_other() {
    let place = place();
    let guessing = Guessing::start(&place.store, NOW).unwrap();
    for name in ["crm", "other"] {
        for _ in 0..MAX_PER_NAME {
            wrong(&guessing, &place.store, Account::Client, name, &from(1)).await.unwrap();
        }
    }
    guessing.forget_name(Account::Client, "crm", &place.store, NOW).await;
    wrong(&guessing, &place.store, Account::Client, "crm", &from(1)).await.unwrap();
    wrong(&guessing, &place.store, Account::Client, "other", &from(1)).await.unwrap_err();
    let again = Guessing::start(&place.store, NOW).unwrap();
    wrong(&again, &place.store, Account::Client, "crm", &from(1)).await.unwrap();
}

#[tokio::test]
async fn what_no_longer_counts_is_forgotten() {
    let (guessing, place) = (Guessing::default(), place());
    wrong(&guessing, &place.store, Account::Client, "crm", &from(1)).await.unwrap();
    guessing.forget();
    assert_eq!(guessing.lock().counts.iter_mut().count(), 2);
    for (_, count) in guessing.lock().counts.iter_mut() {
        count.ends = [Instant::now()].into();
    }
    guessing.forget();
    assert!(guessing.lock().counts.iter_mut().next().is_none());
}
