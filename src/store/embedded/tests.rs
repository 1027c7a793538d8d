use super::*;
use crate::store::Store;
use crate::store::keys::{self, NewKey, Schedule, StoredKey};

fn key(byte: u8) -> NewKey {
    NewKey { public_jwk: format!("public {byte}"), private_key: vec![byte].into() }
}

fn keys(keys: &[StoredKey]) -> Vec<(&str, Option<u8>)> {
    keys.iter()
        .map(|key| (key.public_jwk.as_str(), key.private_key.as_ref().map(|key| key[0])))
        .collect()
}

const KEEP: i64 = 105 * 86_400;

/// What `OwnKeys` does: a key is at hand whether or not it is needed.
fn turn(store: &Store, algorithm: &str, now: i64, fresh: NewKey) -> Vec<StoredKey> {
    let schedule = Schedule { every: 90 * 86_400, lead: 86_400, keep: KEEP };
    store.turn_keys(algorithm, schedule, Timestamp(now), Some(fresh)).unwrap();
    store.keys().unwrap()
}

#[test]
fn the_first_process_makes_the_key_and_the_second_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let first = Store::open(&path).unwrap();
    let second = Store::open(&path).unwrap();
    assert_eq!(keys(&turn(&first, "ES256", 1, key(1))), [("public 1", Some(1))]);
    assert_eq!(keys(&turn(&second, "ES256", 2, key(2))), [("public 1", Some(1))]);
}

#[test]
fn a_retired_key_keeps_its_public_half_for_a_time_and_its_private_half_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let secret = NewKey {
        public_jwk: "public 1".into(),
        private_key: b"planted-private-key".to_vec().into(),
    };
    turn(&store, "ES256", 1, secret);
    assert_eq!(
        keys(&turn(&store, "EdDSA", 2, key(2))),
        [("public 1", None), ("public 2", Some(2))]
    );
    assert_eq!(keys(&turn(&store, "EdDSA", 3, key(3))).len(), 2);
    let schedule = Schedule { every: 1_000 * 86_400, lead: 1, keep: KEEP };
    store.turn_keys("EdDSA", schedule, Timestamp(2 + KEEP), None).unwrap();
    assert_eq!(store.keys().unwrap().len(), 2);
    store.turn_keys("EdDSA", schedule, Timestamp(3 + KEEP), None).unwrap();
    assert_eq!(keys(&store.keys().unwrap()), [("public 2", Some(2))]);
    drop(store);
    let file = std::fs::read(folder.path().join("scopegate.db")).unwrap();
    assert!(!file.windows(19).any(|window| window == b"planted-private-key"));
}

#[test]
fn its_files_are_private_also_where_the_folder_was_open() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).unwrap());
    std::fs::set_permissions(
        folder.path().join("scopegate.db"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let store = Store::open(folder.path()).unwrap();
    turn(&store, "ES256", 1, key(1));
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            entry.path()
        );
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_by_name_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scopegate.db");
    std::fs::write(&path, "not a database, and long enough to be looked at as one").unwrap();
    let fault = Store::open(folder.path()).unwrap_err().to_string();
    assert!(fault.contains("scopegate.db"), "{fault}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("not a database"));
}

#[test]
fn an_emptied_file_or_another_programs_is_never_taken_for_a_new_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scopegate.db");
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE other (x)").unwrap();
    let fault = Store::open(folder.path()).unwrap_err().to_string();
    assert!(fault.contains("another program") && fault.contains("scopegate.db"), "{fault}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("scopegate.db"), b"").unwrap();
    let fault = Store::open(folder.path()).unwrap_err().to_string();
    assert!(fault.contains("is empty") && fault.contains("backup"), "{fault}");
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    drop(store);
    connect(&folder.path().join("scopegate.db"))
        .unwrap()
        .pragma_update(None, "user_version", 99)
        .unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreFault::Newer { found: 99, .. })));
}

/// A code of crm, from 0 to 60.
async fn issue(store: &Store) {
    use crate::grant::authorization::{Authorization, IssuedCode};
    let authorization = Authorization {
        id: "a1".into(),
        client: "crm".into(),
        subject: "alice".into(),
        scopes: crate::scope::ScopeSet::default(),
        resource: None,
    };
    let code = IssuedCode { authorization, redirect_uri: None, challenge: None };
    store.issue_code([1; 32], code, Timestamp(0), Timestamp(60)).await.unwrap();
}

#[tokio::test]
async fn an_authorization_is_known_for_as_long_as_its_jwts_live() {
    use crate::store::grants::{Gift, Redemption};
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    issue(&store).await;
    let redeem = |now| {
        let gift = Gift { value: (), expires: Timestamp(1_800), refresh: None, access: None };
        store.redeem_code([1; 32], "crm".into(), Timestamp(now), move |_| Ok(gift))
    };
    assert!(matches!(redeem(30).await.unwrap(), Redemption::Done(())));
    store.sweep(Timestamp(1_799)).await.unwrap();
    assert!(
        matches!(redeem(1_799).await.unwrap(), Redemption::Reused(_)),
        "a second use still ends what the first gave"
    );
    assert!(matches!(redeem(1_799).await.unwrap(), Redemption::Unknown));
}

#[tokio::test]
async fn a_store_of_the_first_version_is_brought_forward_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scopegate.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(
        "CREATE TABLE signing_key (
             id INTEGER PRIMARY KEY, algorithm TEXT NOT NULL, public_jwk TEXT NOT NULL, \
             private_key BLOB,
             created_at INTEGER NOT NULL, retired_at INTEGER,
             CHECK ((private_key IS NULL) = (retired_at IS NOT NULL))
         ) STRICT;
         CREATE UNIQUE INDEX one_current_key ON signing_key (retired_at IS NULL) WHERE retired_at \
         IS NULL;
         INSERT INTO signing_key VALUES (1, 'ES256', 'public old', NULL, 5, 7), (2, 'ES256', \
         'public now', x'02', 7, NULL);
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(keys(&store.keys().unwrap()), [("public old", None), ("public now", Some(2))]);
    let signs = keys::current(&store.keys().unwrap(), Timestamp(8)).map(|key| key.signs_from);
    assert_eq!(signs, Some(Timestamp(7)));
}

#[tokio::test]
async fn a_file_that_is_moved_away_under_us_acknowledges_nothing_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let (file, away) = (folder.path().join("scopegate.db"), folder.path().join("away"));
    issue(&store).await;
    std::fs::rename(&file, &away).unwrap();
    assert!(matches!(store.look(), Err(StoreFault::Gone { .. })));
    assert!(matches!(store.end_session([1; 32]).await, Err(StoreFault::Gone { .. })));
    assert!(matches!(store.access([1; 32]).await, Err(StoreFault::Gone { .. })));
    assert!(store.ping().is_err());
    std::fs::rename(&away, &file).unwrap();
    store.look().unwrap();
    store.end_session([1; 32]).await.unwrap();
}
