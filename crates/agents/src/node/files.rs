//! Files, the time zone and kernel parameters of the machine.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{
    disk::{replace, temporary_path},
    spec::File,
};

const MODE_BITS: u32 = 0o7777;

/// Writes the files that differ; returns what went wrong.
pub(crate) fn write_all(files: &[File]) -> Vec<String> {
    let write = |file: &File| {
        let content = BASE64_STANDARD.decode(&file.content).map_err(io::Error::other)?;
        write_if_changed(Path::new(&file.path), file.mode, &content)
    };
    files.iter().filter_map(|file| write(file).err().map(|error| format!("file {}: {error}", file.path))).collect()
}

/// Whether the path is absolute and says what it means.
pub(crate) fn is_plain_path(path: &str) -> bool {
    let path = Path::new(path);
    path.is_absolute()
        && path.file_name().is_some()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

/// Replaces the file at once if its content or mode differ.
fn write_if_changed(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mode = mode & MODE_BITS;
    if let Ok(present) = fs::read(path)
        && present == content
    {
        if fs::metadata(path)?.permissions().mode() & MODE_BITS != mode {
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        return Ok(());
    }
    replace(path, mode, content, false)
}

/// Makes the time zone the machine's; `root` is `/`.
pub(crate) fn set_timezone(root: &Path, zone: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'+');
    if zone.is_empty() || zone.starts_with('/') || !zone.bytes().all(allowed) {
        return Err(format!("time zone {zone:?} is not a name of the IANA data base"));
    }
    let data = Path::new("/usr/share/zoneinfo").join(zone);
    if !root.join(data.strip_prefix("/").unwrap_or(&data)).is_file() {
        return Err(format!("time zone {zone}: this machine has no data for it"));
    }
    let set = || {
        let link = root.join("etc/localtime");
        if fs::read_link(&link).ok().as_deref() != Some(data.as_path()) {
            let temporary = temporary_path(&link);
            let _ = fs::remove_file(&temporary);
            symlink(&data, &temporary)?;
            fs::rename(&temporary, &link)?;
        }
        write_if_changed(&root.join("etc/timezone"), 0o644, format!("{zone}\n").as_bytes())
    };
    set().map_err(|error| format!("time zone {zone}: {error}"))
}

/// Sets kernel parameters; returns those that cannot be set. `root` is `/proc/sys`.
pub(crate) fn set_sysctls(root: &Path, sysctls: &BTreeMap<String, String>) -> Vec<String> {
    let set = |(key, value): (&String, &String)| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/' | b'_' | b'-');
        if !key.bytes().all(allowed) || key.contains("..") || key.starts_with(['/', '.']) {
            return Some(format!("kernel parameter {key:?} is not a name"));
        }
        // As with sysctl(8): a name with slashes may hold dots, e.g. of an interface.
        let path = root.join(if key.contains('/') { key.clone() } else { key.replace('.', "/") });
        if fs::read_to_string(&path).is_ok_and(|present| present.split_whitespace().eq(value.split_whitespace())) {
            return None;
        }
        // Never created: a parameter that the kernel lacks is to be reported.
        let write = || OpenOptions::new().write(true).open(&path)?.write_all(value.as_bytes());
        write().err().map(|error| format!("kernel parameter {key} = {value}: {error}"))
    };
    sysctls.iter().filter_map(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    fn file(path: &Path, mode: u32, content: &str) -> File {
        File { path: path.display().to_string(), mode, content: BASE64_STANDARD.encode(content) }
    }

    #[test]
    fn files_are_written_once_with_their_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/c.conf");
        assert!(write_all(&[file(&path, 0o640, "one")]).is_empty());
        let first = fs::metadata(&path).unwrap();
        assert_eq!(first.permissions().mode() & MODE_BITS, 0o640);
        assert!(write_all(&[file(&path, 0o600, "one")]).is_empty());
        let second = fs::metadata(&path).unwrap();
        assert_eq!((second.ino(), second.permissions().mode() & MODE_BITS), (first.ino(), 0o600));
        assert!(write_all(&[file(&path, 0o600, "two")]).is_empty());
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let bad = File { content: "***".into(), ..file(&directory.path().join("x"), 0o644, "") };
        let blocked = file(&directory.path().join("y"), 0o644, "y");
        fs::create_dir(directory.path().join("y")).unwrap();
        let problems = write_all(&[bad, blocked, file(&directory.path().join("z"), 0o644, "z")]);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("/x: ") && problems[1].contains("/y: "));
        assert!(directory.path().join("z").is_file());
    }

    #[test]
    fn paths() {
        for (path, plain) in [("/a/b", true), ("/", false), ("a", false), ("/a/../b", false), ("", false)] {
            assert_eq!(is_plain_path(path), plain, "{path}");
        }
    }

    #[test]
    fn time_zones() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/share/zoneinfo/Asia")).unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::write(root.path().join("usr/share/zoneinfo/Asia/Shanghai"), "TZif").unwrap();
        set_timezone(root.path(), "Asia/Shanghai").unwrap();
        set_timezone(root.path(), "Asia/Shanghai").unwrap();
        let link = fs::read_link(root.path().join("etc/localtime")).unwrap();
        assert_eq!(link, Path::new("/usr/share/zoneinfo/Asia/Shanghai"));
        assert!(set_timezone(root.path(), "Mars/Base").unwrap_err().contains("no data"));
        assert!(set_timezone(root.path(), "../../etc/passwd").is_err());
    }

    #[test]
    fn kernel_parameters() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("net/ipv4")).unwrap();
        fs::write(root.path().join("net/ipv4/ip_forward"), "0\n").unwrap();
        let wanted = [("net.ipv4.ip_forward", "1"), ("no.such", "1"), ("../x", "1")];
        let wanted = wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let problems = set_sysctls(root.path(), &wanted);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(fs::read_to_string(root.path().join("net/ipv4/ip_forward")).unwrap().starts_with('1'));
    }
}
