//! Users made at login.

use super::*;
use crate::client::ExternalIdentity;
use crate::client::made::{MadeUser, name_of};
use crate::store::events::ChangedUsers;
use crate::store::made_users::{MadeLogin, UserAct, UserChange};

fn user(subject: &str, groups: &[&str], now: Timestamp) -> MadeUser {
    let identity = ExternalIdentity { issuer: "https://a.example".into(), subject: subject.into() };
    MadeUser {
        name: name_of(&identity),
        identity,
        display_name: Some("Zoë \"Z\" Doe".into()),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        locked: false,
        made: now,
        signed_in: now,
        removed: false,
    }
}

fn record(act: &str) -> AuditRecord {
    AuditRecord {
        at: at(0).0,
        who: "anna".into(),
        via: "command".into(),
        from: None,
        act: act.into(),
        on: "user".into(),
        before: None,
        after: None,
        outcome: "done".into(),
    }
}

async fn sign_in(store: &Store, user: &MadeUser, most: u32) -> MadeLogin {
    store.sign_in_made(user.clone(), most, record("make-user")).await.unwrap()
}

fn change(store: &Store, act: UserAct, user: &MadeUser, now: i64) -> UserChange {
    let record = record(act.label());
    block_in_place(|| store.change_made(act, user.name.as_str(), at(now), record)).unwrap()
}

fn of_store(store: &Store, user: &MadeUser) -> Option<MadeUser> {
    block_in_place(|| store.made_user(user.name.as_str())).unwrap()
}

async fn acts(store: &Store) -> Vec<String> {
    let records = store.audit_after(0, 100).await.unwrap();
    records.into_iter().map(|record| record.record.act).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_makes_a_user_once_and_takes_its_groups_anew() {
    for place in Place::both() {
        let store = place.open();
        let first = user("s 1", &["g,1", "g\"2"], at(1));
        assert_eq!(sign_in(&store, &first, 2).await, MadeLogin::New(first.clone()));
        let again = user("s 1", &[], at(9));
        let kept = MadeUser { made: at(1), ..again.clone() };
        assert_eq!(sign_in(&store, &again, 2).await, MadeLogin::Known(kept.clone()));
        let other = user("S 1", &["g"], at(10));
        assert_eq!(sign_in(&store, &other, 2).await, MadeLogin::New(other.clone()));
        assert_eq!(sign_in(&store, &user("s 2", &[], at(11)), 2).await, MadeLogin::Full);
        assert_eq!(
            sign_in(&store, &again, 1).await,
            MadeLogin::Known(kept.clone()),
            "who is there stays"
        );
        assert_eq!(acts(&store).await, ["make-user", "make-user"], "of new ones alone");
        let mut all = vec![kept.clone(), other];
        all.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(block_in_place(|| store.made_users()).unwrap(), all);
        drop(store);
        assert_eq!(of_store(&place.open(), &kept), Some(kept), "after a restart");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn at_once_one_login_makes_the_user() {
    for place in Place::both() {
        let store = place.open();
        let one = user("s", &[], at(1));
        let logins = (0..16).map(|_| {
            let (store, one) = (store.clone(), one.clone());
            tokio::spawn(async move { sign_in(&store, &one, 1).await })
        });
        let mut new = 0;
        for login in logins.collect::<Vec<_>>() {
            match login.await.unwrap() {
                MadeLogin::New(_) => new += 1,
                MadeLogin::Known(_) => {}
                other @ (MadeLogin::Locked | MadeLogin::Full) => panic!("{other:?}"),
            }
        }
        assert_eq!((new, acts(&store).await.len()), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_ends_what_was_given_and_outlives_the_removal() {
    for place in Place::both() {
        let store = place.open();
        let one = user("s", &["g"], at(1));
        let name = one.name.to_string();
        assert_eq!(change(&store, UserAct::Lock, &one, 1), UserChange::Unknown);
        sign_in(&store, &one, 1).await;
        let proof = (name.clone(), "proof".to_owned());
        store.begin_session([1; 32], proof, at(1), at(9_000)).await.unwrap();
        store.put_access(access(1, None, "crm", &name)).await.unwrap();
        let all = scopes("a");
        let consent = store.remember_consent(name.clone(), "crm".into(), String::new(), all, at(1));
        consent.await.unwrap();
        assert_eq!(change(&store, UserAct::Unlock, &one, 2), UserChange::Same);
        assert_eq!(change(&store, UserAct::Lock, &one, 2), UserChange::Done);
        assert_eq!(store.session([1; 32], at(3)).await.unwrap(), None);
        assert_eq!(store.access([1; 32]).await.unwrap(), None);
        assert_eq!(change(&store, UserAct::Lock, &one, 3), UserChange::Same);
        assert_eq!(sign_in(&store, &one, 1).await, MadeLogin::Locked);
        assert_eq!(store.connected(name.clone()).await.unwrap().len(), 1);

        assert_eq!(change(&store, UserAct::Remove, &one, 4), UserChange::Done);
        let left = of_store(&store, &one).unwrap();
        assert!(left.locked && left.removed && left.display_name.is_none(), "{left:?}");
        assert!(left.groups.is_empty(), "{left:?}");
        assert_eq!(store.connected(name).await.unwrap(), []);
        assert_eq!(change(&store, UserAct::Remove, &one, 5), UserChange::Unknown);
        assert_eq!(change(&store, UserAct::Lock, &one, 5), UserChange::Same);
        assert_eq!(sign_in(&store, &one, 1).await, MadeLogin::Locked, "still");
        let other = user("t", &[], at(6));
        assert_eq!(sign_in(&store, &other, 1).await, MadeLogin::New(other.clone()), "room for one");

        assert_eq!(change(&store, UserAct::Unlock, &one, 7), UserChange::Done);
        assert_eq!(of_store(&store, &one), None);
        assert_eq!(change(&store, UserAct::Remove, &other, 8), UserChange::Done);
        assert_eq!(of_store(&store, &other), None, "nothing is left of one that was not locked");
        assert_eq!(sign_in(&store, &one, 1).await, MadeLogin::New(one.clone()));
        assert_eq!(change(&store, UserAct::Lock, &one, 9), UserChange::Done);
        assert_eq!(change(&store, UserAct::Unlock, &one, 9), UserChange::Done);
        assert_eq!(of_store(&store, &one), Some(one.clone()));
        let wanted = [
            "make-user",
            "lock-user",
            "remove-user",
            "make-user",
            "unlock-user",
            "remove-user",
            "make-user",
            "lock-user",
            "unlock-user",
        ];
        assert_eq!(acts(&store).await, wanted, "what was not done is not recorded");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_gateway_hears_who_has_changed_and_nobody_takes_it_for_a_revocation() {
    for place in Place::both() {
        let store = place.open();
        let position = block_in_place(|| store.news_now()).unwrap().position;
        let one = user("s", &[], at(1));
        sign_in(&store, &one, 1).await;
        let news = store.news(position).await.unwrap();
        assert_eq!(news.users, ChangedUsers::Named([one.name.to_string()].into()));
        assert!(!news.blocks && news.revocations.is_empty(), "{news:?}");
        change(&store, UserAct::Lock, &one, 2);
        let news = store.news(news.position).await.unwrap();
        assert_eq!(news.users, ChangedUsers::Named([one.name.to_string()].into()));
        let [revoked] = news.revocations.as_slice() else { panic!("{news:?}") };
        assert_eq!(revoked.subject, Subject::User(one.name.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_move_with_the_store_and_who_was_removed_there_does_not_come_back() {
    let places = [Place::folder(), Place::server()];
    let [from, to] = places.each_ref().map(Place::open);
    let [plain, locked, gone] = ["a", "b", "c"].map(|subject| user(subject, &["g"], at(1)));
    for user in [&plain, &locked, &gone] {
        sign_in(&from, user, 9).await;
    }
    change(&from, UserAct::Lock, &locked, 2);
    change(&from, UserAct::Lock, &gone, 2);
    change(&from, UserAct::Remove, &gone, 3);
    let position = block_in_place(|| to.news_now()).unwrap().position;
    let copy = || block_in_place(|| from.copy_to(&to, at(4), |_, _| {})).unwrap();
    copy();
    let all = |store: &Store| block_in_place(|| store.made_users()).unwrap();
    assert_eq!(all(&to), all(&from));
    assert_eq!(all(&to).len(), 3);
    assert_eq!(all(&to).iter().filter(|user| user.locked).count(), 2);
    let names = [&plain, &locked, &gone].map(|user| user.name.to_string());
    assert_eq!(to.news(position).await.unwrap().users, ChangedUsers::Named(names.into()));
    assert_eq!(sign_in(&to, &gone, 9).await, MadeLogin::Locked);
    // What was done there since stays.
    change(&to, UserAct::Remove, &plain, 5);
    change(&to, UserAct::Unlock, &locked, 5);
    change(&to, UserAct::Unlock, &gone, 5);
    copy();
    assert_eq!(all(&to), [locked]);
}
