#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;

use proptest::prelude::*;

use super::*;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("sampan-backup-{}", new_token(8))))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn description(id: &str, created: &str) -> Backup {
    Backup {
        id: id.into(),
        cluster_id: "c1".into(),
        kubernetes_version: "1.36.3".into(),
        created: created.parse().unwrap(),
        revision: 0,
        size: 0,
        sha256: String::new(),
        salt: String::new(),
    }
}

fn shelf(folder: &Folder) -> Shelf {
    let shelf = Shelf::new(folder.0.clone(), MasterKey::generate().unwrap());
    shelf.prepare("c1").unwrap();
    shelf
}

fn write(shelf: &Shelf, id: &str, created: &str, content: &[u8]) -> Backup {
    let path = shelf.path("c1", id).unwrap();
    let mut writer = Writer::create(&path, shelf.key(), description(id, created)).unwrap();
    for part in content.chunks(70_001) {
        writer.write(part).unwrap();
    }
    writer.finish(42).unwrap()
}

fn read(shelf: &Shelf, id: &str) -> Outcome<Vec<u8>> {
    let mut reader = shelf.open("c1", id)?;
    let mut content = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        content.extend(chunk);
    }
    Ok(content)
}

#[test]
fn what_is_written_comes_back() {
    let folder = Folder::new();
    let shelf = shelf(&folder);
    for size in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000] {
        let content: Vec<u8> = (0..size).map(|n: u32| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let id = format!("manual-{size}");
        let written = write(&shelf, &id, "2026-01-01T00:00:00Z", &content);
        assert_eq!(read(&shelf, &id).unwrap(), content, "{size}");
        assert_eq!((written.revision, written.size), (42, u64::from(size)));
        assert_eq!(shelf.verify("c1", &id).unwrap(), written);
        let path = shelf.path("c1", &id).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let raw = fs::read(path).unwrap();
        assert!(size < 100 || !raw.windows(64).any(|part| part == &content[..64]), "it is encrypted");
    }
}

#[test]
fn backups_are_listed_and_removed() {
    let folder = Folder::new();
    let shelf = shelf(&folder);
    assert_eq!(shelf.list("c1"), []);
    write(&shelf, "manual-a", "2026-01-01T00:00:00Z", b"one");
    write(&shelf, "periodic-b", "2026-01-03T00:00:00Z", b"two");
    write(&shelf, "upgrade-c", "2026-01-02T00:00:00Z", b"three");
    fs::write(folder.0.join("c1/junk.backup"), b"junk").unwrap();
    let kinds: Vec<Kind> = shelf.list("c1").iter().map(Backup::kind).collect();
    assert_eq!(kinds, [Kind::Periodic, Kind::Upgrade, Kind::Manual]);
    shelf.remove("c1", "periodic-b").unwrap();
    shelf.remove("c1", "periodic-b").unwrap();
    assert_eq!(shelf.list("c1").len(), 2);
    assert!(shelf.get("c1", "periodic-b").is_err());
    shelf.remove_all("..").unwrap();
    shelf.remove_all("c1").unwrap();
    shelf.remove_all("c1").unwrap();
    assert_eq!(shelf.list("c1"), []);
}

#[test]
fn only_ids_are_names_of_files() {
    let folder = Folder::new();
    let shelf = shelf(&folder);
    for id in ["", "..", "../c2/x", "a/b", "a.b", "a b", &"a".repeat(81)] {
        assert!(shelf.path("c1", id).is_err(), "{id:?}");
        assert!(shelf.path(id, "x").is_err(), "{id:?}");
    }
}

#[test]
fn a_backup_is_bound_to_its_cluster_and_installation() {
    let folder = Folder::new();
    let shelf = shelf(&folder);
    write(&shelf, "manual-a", "2026-01-01T00:00:00Z", b"content");
    shelf.prepare("c2").unwrap();
    fs::copy(shelf.path("c1", "manual-a").unwrap(), shelf.path("c2", "manual-a").unwrap()).unwrap();
    assert!(shelf.get("c2", "manual-a").unwrap_err().message.contains("of cluster c1"));
    let stranger = Shelf::new(folder.0.clone(), MasterKey::generate().unwrap());
    assert!(stranger.get("c1", "manual-a").unwrap_err().message.contains("another installation"));
}

#[test]
fn an_unfinished_backup_leaves_nothing() {
    let folder = Folder::new();
    let shelf = shelf(&folder);
    let path = shelf.path("c1", "manual-a").unwrap();
    let mut writer = Writer::create(&path, shelf.key(), description("manual-a", "2026-01-01T00:00:00Z")).unwrap();
    writer.write(&[1; 2_000_000]).unwrap();
    drop(writer);
    assert_eq!(fs::read_dir(folder.0.join("c1")).unwrap().count(), 0);
}

#[test]
fn ids_say_when_and_why() {
    let id = new_backup_id(Kind::Periodic, "2026-11-21T23:04:28.5Z".parse().unwrap());
    assert!(id.starts_with("periodic-20261121230428-"), "{id}");
    assert_eq!(Kind::of(&id), Kind::Periodic);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_damage_is_found(place in 0usize..1_300_000, by in 1u8..=255) {
        let folder = Folder::new();
        let shelf = shelf(&folder);
        write(&shelf, "manual-a", "2026-01-01T00:00:00Z", &vec![7; 1_200_000]);
        let path = shelf.path("c1", "manual-a").unwrap();
        let mut raw = fs::read(&path).unwrap();
        let place = place % raw.len();
        raw[place] ^= by;
        fs::write(&path, &raw).unwrap();
        prop_assert!(shelf.verify("c1", "manual-a").is_err(), "a changed byte at {}", place);
        raw[place] ^= by;
        fs::write(&path, &raw[..place]).unwrap();
        prop_assert!(shelf.verify("c1", "manual-a").is_err(), "cut at {}", place);
    }
}
