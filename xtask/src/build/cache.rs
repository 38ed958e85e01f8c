//! Finished artifacts, kept by a hash of everything that they are made from.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::paths;
use crate::progress::Did;

/// Artifacts that no build used for this long are deleted.
const KEPT: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Hex digits of a key: enough to make two inputs of one name never meet.
const KEY_DIGITS: usize = 16;

/// Collects the inputs of an artifact.
#[derive(Clone)]
pub(crate) struct Key(Sha256);

impl Key {
    /// Starts a key. `recipe` names how the artifact is made and changes when that does.
    pub(crate) fn new(recipe: &str) -> Self {
        Self(Sha256::new()).with(recipe)
    }

    /// Adds one input; the length keeps neighbours apart.
    pub(crate) fn with(mut self, input: impl AsRef<[u8]>) -> Self {
        let input = input.as_ref();
        self.0.update((input.len() as u64).to_le_bytes());
        self.0.update(input);
        self
    }

    /// Adds a list of inputs.
    pub(crate) fn with_all<T: AsRef<[u8]>>(self, inputs: impl IntoIterator<Item = T>) -> Self {
        inputs.into_iter().fold(self, Key::with).with(b"end of list")
    }

    /// Adds a file's content.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn with_file(self, path: &Path) -> Result<Self> {
        Ok(self.with(sha256_of_file(path)?))
    }

    /// The key as hexadecimal digits.
    pub(crate) fn finish(self) -> String {
        let mut digits = hex(&self.0.finalize());
        digits.truncate(KEY_DIGITS);
        digits
    }
}

/// A file in the cache and the key of what it was made from.
#[derive(Clone)]
pub(crate) struct Artifact {
    pub(crate) path: PathBuf,
    pub(crate) key: String,
}

/// Returns the artifact `name` for `key`, calling `make` with the path to write when it is not there.
///
/// # Errors
/// Those of `make`, and when the cache cannot be written.
pub(crate) fn artifact(name: &str, key: Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<Did<Artifact>> {
    let dir = directory()?;
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let key = key.finish();
    let path = dir.join(format!("{name}-{key}"));
    if let Ok(file) = File::open(&path) {
        // Only `prune` reads the time, so a failure does no harm.
        let _ = file.set_modified(SystemTime::now());
        return Ok(Did::Cached(Artifact { path, key }));
    }
    let unfinished = dir.join(format!(".{name}-{key}.{}", process::id()));
    let made = make(&unfinished).and_then(|()| {
        fs::rename(&unfinished, &path).with_context(|| format!("cannot rename {}", unfinished.display()))
    });
    if made.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    made.map(|()| Did::Built(Artifact { path, key }))
}

/// Deletes artifacts that were not used for a long time.
///
/// # Errors
/// When the cache cannot be listed.
pub(crate) fn prune() -> Result<()> {
    let dir = directory()?;
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|meta| meta.modified()).map(|time| time.elapsed());
        if let Ok(Ok(age)) = age
            && age > KEPT
        {
            // A concurrent build may have deleted it already.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn directory() -> Result<PathBuf> {
    Ok(paths::cache()?.join("artifacts"))
}

/// SHA-256 of a file as hexadecimal digits.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
    }
}

/// SHA-256 of bytes as hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::Key;

    #[test]
    fn neighbouring_inputs_do_not_run_together() {
        let key = |parts: &[&str]| Key::new("test").with_all(parts).finish();
        assert_eq!(key(&["a", "b"]), key(&["a", "b"]));
        assert_ne!(key(&["a", "b"]), key(&["ab"]));
        assert_ne!(key(&["a", "b"]), key(&["b", "a"]));
        assert_eq!(key(&[]).len(), 16);
    }
}
