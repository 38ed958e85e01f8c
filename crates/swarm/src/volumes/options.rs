//! What a volume is, out of the options that it is created with.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{nas::NasOptions, ossfs::OssOptions};

/// Longest name of a volume: the API takes 64 characters, and a template's application and an underscore may stand before.
const NAME_MAX: usize = 160;

/// A driver of volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Buckets.
    Ossfs,
    /// File systems.
    Nas,
}

impl Kind {
    /// Every one.
    pub(super) const ALL: [Self; 2] = [Self::Ossfs, Self::Nas];

    /// Its name in Docker and in paths.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ossfs => "ossfs",
            Self::Nas => "nas",
        }
    }
}

/// What is mounted for a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Definition {
    /// A bucket.
    Ossfs(OssOptions),
    /// A directory of a file system.
    Nas(NasOptions),
}

impl Definition {
    /// Reads the options of the creation; the error is for its user.
    pub(super) fn read(kind: Kind, options: BTreeMap<String, String>) -> Result<Self, String> {
        let mut options = Given(options);
        let definition = match kind {
            Kind::Ossfs => Self::Ossfs(OssOptions::read(&mut options)?),
            Kind::Nas => Self::Nas(NasOptions::read(&mut options)?),
        };
        options.none_left(kind)?;
        Ok(definition)
    }

    /// Its driver.
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Ossfs(_) => Kind::Ossfs,
            Self::Nas(_) => Kind::Nas,
        }
    }

    /// Where it is mounted.
    pub(super) fn mountpoint(&self, mount_root: &Path, volume: &str) -> PathBuf {
        let directory = mount_root.join(self.kind().name());
        match self {
            Self::Ossfs(options) => directory.join(&options.bucket),
            Self::Nas(_) => directory.join(volume),
        }
    }

    /// What may be shown of it.
    pub(super) fn status(&self) -> serde_json::Map<String, serde_json::Value> {
        match self {
            Self::Ossfs(options) => options.status(),
            Self::Nas(options) => options.status(),
        }
    }
}

/// A volume, as it is kept on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Volume {
    /// Its name, unique for its driver.
    pub(super) name: String,
    /// Since when.
    pub(super) created: Timestamp,
    /// What it is.
    pub(super) definition: Definition,
}

/// Options of a creation that were not read yet.
pub(super) struct Given(pub(super) BTreeMap<String, String>);

impl Given {
    /// An option that may be missing or empty.
    pub(super) fn optional(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// An option that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<String, String> {
        self.optional(name).ok_or_else(|| format!("the option {name} is missing"))
    }

    /// What nobody asked for is nothing that this driver knows.
    fn none_left(&self, kind: Kind) -> Result<(), String> {
        match self.0.keys().next() {
            Some(name) => Err(format!("the driver {} has no option {}", kind.name(), Quoted(name))),
            None => Ok(()),
        }
    }
}

/// A user's word in a message: short, and without what could disturb a terminal.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 80;
        let shown: String =
            self.0.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        write!(f, "'{shown}{}'", if self.0.chars().nth(SHOWN_MAX).is_some() { "…" } else { "" })
    }
}

/// Whether Docker would take this as the name of a volume, and it is not too long for a file.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric());
    if starts && name.len() <= NAME_MAX && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return Ok(());
    }
    Err(format!(
        "{} is no name of a volume: 1 to {NAME_MAX} letters, digits, '_', '.' and '-', the first a letter or digit",
        Quoted(name)
    ))
}
