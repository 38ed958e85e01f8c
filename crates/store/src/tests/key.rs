//! The master key's file, and what is derived from it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::key::Sealer;
use crate::{MasterKey, SecretBytes, StoreError};

#[test]
fn a_key_is_made_once_and_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep").join("master.key");
    let made = MasterKey::load_or_create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read(&path).unwrap().len(), 32);
    let found = MasterKey::load_or_create(&path).unwrap();
    assert_eq!(made.derive("x"), found.derive("x"));
    let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["master.key"], "no draft is left behind");
}

#[test]
fn all_who_make_a_key_at_once_get_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("master.key");
    let keys: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| MasterKey::load_or_create(&path).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().derive("x")).collect()
    });
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("master.key");
    MasterKey::load_or_create(&path).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o601] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let refused = MasterKey::load_or_create(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("chmod 600 {}", path.display())), "{refused}");
        assert!(refused.contains(&format!("{mode:04o}")), "{refused}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    MasterKey::load_or_create(&path).unwrap();
}

#[test]
fn a_key_of_another_length_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("master.key");
    for length in [0, 31, 33, 4_096] {
        fs::write(&path, vec![7; length]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let refused = MasterKey::load_or_create(&path);
        assert!(matches!(&refused, Err(StoreError::Key(text)) if text.contains("exactly 32 bytes")), "{refused:?}");
    }
    let folder = MasterKey::load_or_create(directory.path());
    assert!(matches!(folder, Err(StoreError::Key(_))), "{folder:?}");
}

#[test]
fn derived_keys_stay_the_same_over_versions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("master.key");
    fs::write(&path, [1; 32]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let key = MasterKey::load_or_create(&path).unwrap();
    let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // Computed with another implementation of HKDF. A change here makes every existing installation unreadable.
    assert_eq!(hex(key.derive("secrets")), "d693135e67cc08d73190585544a8e4d7f6ca93dfa25a61c5ae743fa3dd7ccb82");
    assert_eq!(hex(key.derive("machine tokens")), "7ba87f26d9815049ee36d0225b83e27c7456ef6b447c65434e5b529b8555ce0f");
}

#[test]
fn secrets_are_sealed_under_their_name_with_a_fresh_nonce() {
    let sealer = Sealer::new(&MasterKey::generate().unwrap()).unwrap();
    let (first, second) = (sealer.seal("a", b"text").unwrap(), sealer.seal("a", b"text").unwrap());
    assert_ne!(first, second);
    assert_eq!(first.ciphertext.len(), 4 + 16);
    assert_eq!(&*sealer.open("a", first.clone()).unwrap(), b"text");
    assert!(matches!(sealer.open("b", first.clone()), Err(StoreError::Key(_))));
    let stranger = Sealer::new(&MasterKey::generate().unwrap()).unwrap();
    assert!(matches!(stranger.open("a", first), Err(StoreError::Key(_))));
}

#[test]
fn neither_keys_nor_secrets_are_shown() {
    let shown = format!("{:?} {:?}", MasterKey::generate().unwrap(), SecretBytes::new(b"hush".to_vec()));
    assert_eq!(shown, "MasterKey(redacted) SecretBytes(redacted)");
    let mut batch = crate::Batch::new();
    batch.secret("name", b"hush").delete_secret("other");
    assert_eq!(format!("{batch:?}"), "[Secret name, DeleteSecret { name: \"other\" }]");
    assert_eq!(SecretBytes::new(vec![0xff]).as_str(), None);
}
