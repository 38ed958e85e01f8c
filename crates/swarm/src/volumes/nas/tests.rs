#![allow(clippy::unwrap_used)]
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
};

use proptest::prelude::*;

use super::*;

fn read(pairs: &[(&str, &str)]) -> Result<NasOptions, String> {
    let options: BTreeMap<_, _> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    NasOptions::read(&mut Given(options))
}

fn own(path: &str, mode: &str) -> NasOptions {
    let host = "1234556-gpp53.cn-hangzhou.nas.aliyuncs.com";
    read(&[("diskid", "1234556"), ("host", host), ("path", path), ("mode", mode)]).unwrap()
}

/// Where a descriptor leads.
fn path_of(directory: &OwnedFd) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).unwrap()
}

#[test]
fn the_documented_example_is_a_directory_of_the_cluster() {
    let nas = tempfile::tempdir().unwrap();
    let root = nas.path().canonicalize().unwrap();
    let options = own("/abc/def", "1770");
    assert!(options.is_own());
    let directory = options.open(&root).unwrap();
    assert_eq!(path_of(&directory), root.join("1234556/abc/def"));
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("1234556/abc/def"), mode("1234556/abc"), mode("1234556")), (0o1770, 0o755, 0o755));
    // Permissions that its users gave it stay.
    fs::set_permissions(root.join("1234556/abc/def"), fs::Permissions::from_mode(0o700)).unwrap();
    options.open(&root).unwrap();
    assert_eq!(mode("1234556/abc/def"), 0o700);
    assert_eq!(path_of(&own("/", "755").open(&root).unwrap()), root.join("1234556"));
    assert_eq!(path_of(&own("abc//./def/", "755").open(&root).unwrap()), root.join("1234556/abc/def"));
}

#[test]
fn links_lead_nowhere() {
    let (nas, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    own("/a", "755").open(nas.path()).unwrap();
    let inside = nas.path().join("1234556/a");
    symlink(outside.path(), inside.join("absolute")).unwrap();
    symlink("../..", inside.join("relative")).unwrap();
    symlink("/proc/self/root", inside.join("magic")).unwrap();
    fs::write(inside.join("file"), "").unwrap();
    for name in ["absolute", "absolute/new", "relative", "relative/new", "magic/etc", "file", "file/x"] {
        let refused = own(&format!("/a/{name}"), "755").open(nas.path()).unwrap_err();
        assert!(refused.to_string().contains("symbolic link or no directory"), "{name}: {refused}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn wrong_options_are_refused_by_name() {
    let deep = "/x".repeat(40);
    let wrong: [(&str, &str); 12] = [
        ("diskid", ""),
        ("diskid", ".."),
        ("diskid", "a/b"),
        ("path", "/a/../b"),
        ("path", ".."),
        ("path", "/a\nb"),
        ("path", &deep),
        ("mode", "888"),
        ("mode", "u+x"),
        ("mode", "77777"),
        ("host", "-o"),
        ("host", "a b"),
    ];
    for (name, value) in wrong {
        let mut options = BTreeMap::from([("diskid", "1"), ("path", "/abc")]);
        options.insert(name, value);
        let options: Vec<_> = options.into_iter().collect();
        let refused = read(&options).unwrap_err();
        assert!(refused.contains(name), "{name}={value}: {refused}");
    }
}

#[test]
fn other_hosts_are_nfs_servers() {
    for host in ["10.0.0.5", "filer.example.com", "fd00::5", "nas.aliyuncs.com.evil.com", "nas.aliyuncs.com"] {
        assert!(!read(&[("host", host), ("path", "/export")]).unwrap().is_own(), "{host}");
    }
    assert!(read(&[("diskid", "1")]).unwrap().is_own());
}

#[tokio::test]
async fn without_a_client_in_the_kernel_it_says_so() {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    if known.lines().any(|line| line.ends_with("nfs") || line.ends_with("nfs4")) {
        return;
    }
    let (options, at) = (read(&[("host", "10.0.0.5"), ("path", "/export")]).unwrap(), tempfile::tempdir().unwrap());
    let refused = options.check(at.path(), at.path()).await.unwrap_err();
    assert!(refused.words().contains("no NFS client") && refused.words().contains("10.0.0.5"), "{refused:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whatever the path, and whatever stands there: the result is below the disk's directory, or there is none.
    #[test]
    fn nothing_escapes(path in "[a./ ]{0,24}|(/?(\\.\\.|a|b|link|up)){0,8}") {
        let nas = tempfile::tempdir().unwrap();
        let root = nas.path().canonicalize().unwrap();
        own("/a/b", "755").open(&root).unwrap();
        for directory in ["1234556", "1234556/a", "1234556/a/b"] {
            symlink("/", root.join(directory).join("link")).unwrap();
            symlink("..", root.join(directory).join("up")).unwrap();
        }
        let given = [("diskid", "1234556"), ("path", path.as_str())];
        if let Ok(directory) = read(&given).map_err(io::Error::other).and_then(|options| options.open(&root)) {
            prop_assert!(path_of(&directory).starts_with(root.join("1234556")), "{}", path);
        }
    }
}
