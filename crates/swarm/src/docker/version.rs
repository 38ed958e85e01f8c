//! Versions of the Docker Remote API, as clients put them in front of paths.

use std::fmt;

use crate::model::Refusal;

/// A version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
}

/// The oldest that is answered.
pub(crate) const MIN: Version = Version { major: 1, minor: 24 };
/// The newest: that of the nodes' engines.
pub(crate) const MAX: Version = Version { major: 1, minor: 41 };
/// The newest, as text.
pub(crate) const MAX_TEXT: &str = "1.41";

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.major, self.minor)
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.strip_prefix('v')?.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

/// Splits a path into the version in front of it and the rest; versions that are not spoken are refused.
pub(crate) fn split(path: &str) -> Result<(Option<Version>, &str), Refusal> {
    let trimmed = path.strip_prefix('/').unwrap_or(path);
    let (first, _) = trimmed.split_once('/').unwrap_or((trimmed, ""));
    let Some(version) = Version::parse(first) else { return Ok((None, path)) };
    if version < MIN {
        return Err(Refusal::bad(format!(
            "client version {version} is too old. Minimum supported API version is {MIN}, please upgrade your client to a \
             newer version"
        )));
    }
    if version > MAX {
        return Err(Refusal::bad(format!(
            "client version {version} is too new. Maximum supported API version is {MAX}"
        )));
    }
    Ok((Some(version), &trimmed[first.len()..]))
}
