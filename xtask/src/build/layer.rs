//! Layers of pod images: tar files in the cache, named by their content.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tar::{Archive, EntryType};

use super::cache::{self, Artifact, Key};
use super::tree::Tree;
use crate::progress::{Did, step};

/// One layer. It is not compressed: nodes get it from this machine, where
/// reading more bytes is cheaper than inflating fewer.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) path: PathBuf,
    /// SHA-256 as hexadecimal digits.
    pub(crate) digest: String,
    /// Bytes.
    pub(crate) size: u64,
}

/// The stream that a layer is written to.
pub(crate) type LayerTree = Tree<BufWriter<File>>;

/// Returns the layer `name` for `key`, filling it by `fill` when the cache has none.
///
/// # Errors
/// Those of `fill`, and when the cache cannot be written.
pub(crate) fn layer(name: &str, key: Key, fill: impl FnOnce(&mut LayerTree) -> Result<()>) -> Result<Layer> {
    step(&format!("layer: {name}"), || {
        let made = cache::artifact(&format!("layer-{name}"), key.clone(), |output| {
            let file = File::create(output).with_context(|| format!("cannot create {}", output.display()))?;
            let mut tree = Tree::new(BufWriter::with_capacity(1 << 20, file));
            fill(&mut tree)?;
            tree.finish().map(drop)
        })?;
        match made {
            Did::Cached(artifact) => Ok(Did::Cached(describe(name, key, artifact)?)),
            Did::Built(artifact) => Ok(Did::Built(describe(name, key, artifact)?)),
        }
    })
}

/// The digest is kept beside the layer, so that a second build reads no layer.
fn describe(name: &str, key: Key, artifact: Artifact) -> Result<Layer> {
    let (Did::Cached(sum) | Did::Built(sum)) = cache::artifact(&format!("digest-{name}"), key, |output| {
        let digest = cache::sha256_of_file(&artifact.path)?;
        fs::write(output, digest).with_context(|| format!("cannot write {}", output.display()))
    })?;
    let digest = fs::read_to_string(&sum.path).with_context(|| format!("cannot read {}", sum.path.display()))?;
    let size =
        fs::metadata(&artifact.path).with_context(|| format!("cannot inspect {}", artifact.path.display()))?.len();
    Ok(Layer { path: artifact.path, digest, size })
}

/// Path, and size if it is a file, of what a layer below already has.
pub(crate) type Below = HashMap<PathBuf, u64>;

/// Copies an unpacked root file system into a layer, except what no container
/// uses and what the layer below has. Returns what it copied.
///
/// # Errors
/// When the root file system cannot be read or the layer not be written.
pub(crate) fn copy_packages(tree: &mut LayerTree, rootfs: &Path, below: &Below) -> Result<()> {
    walk(rootfs, |path, entry| {
        let name = path.to_string_lossy().into_owned();
        let size = entry.header().size().unwrap_or(0);
        if below.get(path) == Some(&size) {
            return Ok(());
        }
        let mode = entry.header().mode().with_context(|| format!("{name} has no mode"))?;
        let target = entry.link_name().with_context(|| format!("{name} has a bad link"))?;
        match (entry.header().entry_type(), target) {
            (EntryType::Directory, _) => tree.dir(&name, mode),
            (EntryType::Regular, _) => tree.data(&name, mode, size, entry),
            (EntryType::Symlink, Some(target)) => tree.symlink(&name, &target.to_string_lossy()),
            (EntryType::Link, Some(target)) => tree.hard_link(&name, &relative(&target).to_string_lossy()),
            _ => Ok(()),
        }
    })
}

/// What [`copy_packages`] would copy with nothing below.
///
/// # Errors
/// When the root file system cannot be read.
pub(crate) fn listing(rootfs: &Path) -> Result<Below> {
    let mut paths = Below::new();
    walk(rootfs, |path, entry| {
        paths.insert(path.to_owned(), entry.header().size().unwrap_or(0));
        Ok(())
    })?;
    Ok(paths)
}

/// Copies one file out of a root file system.
///
/// # Errors
/// When it is not there or cannot be copied.
pub(crate) fn extract(rootfs: &Path, wanted: &Path, to: &Path) -> Result<()> {
    let mut found = false;
    walk(rootfs, |path, entry| {
        if path == wanted {
            let mut file = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
            io::copy(entry, &mut file).with_context(|| format!("cannot write {}", to.display()))?;
            found = true;
        }
        Ok(())
    })?;
    if !found {
        bail!("{} has no {}", rootfs.display(), wanted.display());
    }
    Ok(())
}

type RootfsEntry<'a> = tar::Entry<'a, BufReader<File>>;

fn walk(rootfs: &Path, mut visit: impl FnMut(&Path, &mut RootfsEntry<'_>) -> Result<()>) -> Result<()> {
    let file = File::open(rootfs).with_context(|| format!("cannot open {}", rootfs.display()))?;
    let mut archive = Archive::new(BufReader::with_capacity(1 << 20, file));
    let broken = || format!("cannot read {}", rootfs.display());
    for entry in archive.entries().with_context(broken)? {
        let mut entry = entry.with_context(broken)?;
        let path = relative(&entry.path().with_context(broken)?);
        if is_wanted(&path) {
            visit(&path, &mut entry)?;
        }
    }
    Ok(())
}

/// Container engines provide devices; package managers have no business here.
fn is_wanted(path: &Path) -> bool {
    const UNWANTED: [&str; 16] = [
        "dev",
        "etc/apt",
        "etc/fstab",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/init.d",
        "etc/systemd",
        "lib/systemd",
        "usr/lib/systemd",
        "usr/share/bash-completion",
        "usr/share/initramfs-tools",
        "usr/share/perl5",
        "usr/share/debconf",
        "var/cache",
        "var/lib/apt",
        "var/lib/dpkg",
    ];
    !path.as_os_str().is_empty() && !UNWANTED.iter().any(|unwanted| path.starts_with(unwanted))
}

fn relative(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{is_wanted, relative};

    #[test]
    fn drops_what_no_container_uses() {
        assert!(is_wanted(&relative(Path::new("./bin/dash"))));
        assert!(is_wanted(&relative(Path::new("./etc/nginx/nginx.conf"))));
        assert!(!is_wanted(&relative(Path::new("./"))));
        assert!(!is_wanted(&relative(Path::new("./dev/null"))));
        assert!(!is_wanted(&relative(Path::new("./var/lib/dpkg/status"))));
    }
}
