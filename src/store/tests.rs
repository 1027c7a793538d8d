use super::keys::{KEEP_RETIRED, NewKey, StoredKey};
use super::*;

fn key(byte: u8) -> NewKey {
    NewKey { public_jwk: format!("public {byte}"), private_key: vec![byte].into() }
}

fn keys(keys: &[StoredKey]) -> Vec<(&str, Option<u8>)> {
    keys.iter().map(|key| (key.public_jwk.as_str(), key.private_key.as_ref().map(|key| key[0]))).collect()
}

#[test]
fn the_first_process_makes_the_key_and_the_second_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let first = Store::open(&path).unwrap();
    let second = Store::open(&path).unwrap();
    assert_eq!(keys(&first.signing_keys("ES256", Timestamp(1), || key(1)).unwrap()), [("public 1", Some(1))]);
    assert_eq!(keys(&second.signing_keys("ES256", Timestamp(2), || key(2)).unwrap()), [("public 1", Some(1))]);
}

#[test]
fn a_retired_key_keeps_its_public_half_for_105_days_and_its_private_half_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let secret = || NewKey { public_jwk: "public 1".into(), private_key: b"planted-private-key".to_vec().into() };
    store.signing_keys("ES256", Timestamp(1), secret).unwrap();
    let after = store.signing_keys("EdDSA", Timestamp(2), || key(2)).unwrap();
    assert_eq!(keys(&after), [("public 2", Some(2)), ("public 1", None)]);
    let last = store.signing_keys("EdDSA", Timestamp(2 + KEEP_RETIRED), || key(3)).unwrap();
    assert_eq!(last.len(), 2);
    let gone = store.signing_keys("EdDSA", Timestamp(3 + KEEP_RETIRED), || key(3)).unwrap();
    assert_eq!(keys(&gone), [("public 2", Some(2))]);
    drop(store);
    let file = std::fs::read(folder.path().join("scopegate.db")).unwrap();
    assert!(!file.windows(19).any(|window| window == b"planted-private-key"));
}

#[test]
fn its_files_are_private_also_where_the_folder_was_open() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(folder.path()).unwrap());
    std::fs::set_permissions(folder.path().join("scopegate.db"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.signing_keys("ES256", Timestamp(1), || key(1)).unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
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
    connect(&folder.path().join("scopegate.db")).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(folder.path()), Err(StoreFault::Newer { found: 99, .. })));
}
