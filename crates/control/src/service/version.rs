//! Kubernetes versions: as people and the vendor write them, and which one really runs.

use std::fmt;

use sampan_store::model::{Fault, FaultKind, Outcome};

use super::settings::{Settings, UnknownVersion};

/// A released Kubernetes version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Major.
    pub major: u16,
    /// Minor.
    pub minor: u16,
    /// Patch.
    pub patch: u16,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A version as asked for: the patch may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionWish {
    /// Major.
    pub major: u16,
    /// Minor.
    pub minor: u16,
    /// Patch, if given.
    pub patch: Option<u16>,
}

/// The version that will run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// It.
    pub version: Version,
    /// Set when another one was asked for: what was asked for.
    pub instead_of: Option<String>,
}

impl std::str::FromStr for Version {
    type Err = Fault;
    fn from_str(text: &str) -> Result<Self, Fault> {
        let wish = parse("kubernetes_version", text)?;
        let patch =
            wish.patch.ok_or_else(|| Fault::invalid("kubernetes_version", format!("{text} has no patch level")))?;
        Ok(Self { major: wish.major, minor: wish.minor, patch })
    }
}

/// Reads `1.36.3`, `v1.36.3`, `1.36`, and the vendor's `1.22.3-aliyun.1`.
pub fn parse(field: &str, text: &str) -> Outcome<VersionWish> {
    let wrong = || {
        Fault::invalid(
            field,
            format!("{field} {text:?} is not a Kubernetes version; give one like 1.36.3, 1.36 or 1.22.3-aliyun.1"),
        )
    };
    let core = text.strip_prefix('v').unwrap_or(text);
    let (core, suffix) = core.split_once(['-', '+']).map_or((core, None), |(core, suffix)| (core, Some(suffix)));
    if suffix.is_some_and(|s| s.is_empty() || !s.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')) {
        return Err(wrong());
    }
    let mut numbers = Vec::with_capacity(3);
    for part in core.split('.') {
        if part.is_empty() || part.len() > 4 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        numbers.push(part.parse::<u16>().map_err(|_| wrong())?);
    }
    match numbers[..] {
        [major, minor] if suffix.is_none() => Ok(VersionWish { major, minor, patch: None }),
        [major, minor, patch] => Ok(VersionWish { major, minor, patch: Some(patch) }),
        _ => Err(wrong()),
    }
}

/// Decides which version runs for `asked` (nothing asked: the newest).
///
/// A patch level that is not there is an unknown version like any other: with [`UnknownVersion::Nearest`] the same minor is
/// preferred, then the nearest newer minor, then the newest older one.
pub fn resolve(settings: &Settings, asked: Option<&str>) -> Outcome<Resolved> {
    let mut known = settings.kubernetes_versions.clone();
    known.sort_unstable();
    let newest = *known.last().ok_or_else(|| {
        Fault::new(
            FaultKind::Unavailable,
            "this installation has no Kubernetes version to run; build one and restart the server",
        )
    })?;
    let Some(text) = asked.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(Resolved { version: newest, instead_of: None });
    };
    let wish = parse("kubernetes_version", text)?;
    let same_minor = known.iter().rev().filter(|v| (v.major, v.minor) == (wish.major, wish.minor));
    let exact = match wish.patch {
        None => same_minor.clone().next(),
        Some(patch) => same_minor.clone().find(|v| v.patch == patch),
    };
    if let Some(version) = exact {
        return Ok(Resolved { version: *version, instead_of: None });
    }
    if settings.unknown_version == UnknownVersion::Refuse {
        let list = known.iter().map(Version::to_string).collect::<Vec<_>>().join(", ");
        return Err(Fault::invalid(
            "kubernetes_version",
            format!("kubernetes_version {text} cannot be run by this installation; it has {list}"),
        ));
    }
    let newer = known.iter().find(|v| (v.major, v.minor) > (wish.major, wish.minor));
    let version = same_minor.clone().next().or(newer).copied().unwrap_or(newest);
    Ok(Resolved { version, instead_of: Some(text.to_owned()) })
}

/// The version that a cluster can be upgraded to: the newest patch of its minor or of the next one; `None` when there is none.
pub fn next_version(settings: &Settings, current: &str) -> Option<Version> {
    let current: Version = current.parse().ok()?;
    settings
        .kubernetes_versions
        .iter()
        .filter(|v| v.major == current.major && (current.minor..=current.minor + 1).contains(&v.minor))
        .filter(|v| **v > current)
        .max()
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(versions: &[&str], unknown_version: UnknownVersion) -> Settings {
        let kubernetes_versions = versions.iter().map(|v| v.parse().expect("a version")).collect();
        Settings { kubernetes_versions, unknown_version, ..Settings::default() }
    }

    #[test]
    fn forms() {
        let ok = |text: &str| parse("v", text).map(|w| (w.major, w.minor, w.patch)).ok();
        assert_eq!(ok("1.36.3"), Some((1, 36, Some(3))));
        assert_eq!(ok("v1.36.3"), Some((1, 36, Some(3))));
        assert_eq!(ok("1.36"), Some((1, 36, None)));
        assert_eq!(ok("1.22.3-aliyun.1"), Some((1, 22, Some(3))));
        for wrong in
            ["", "1", "1.", "1.2.3.4", "latest", "1.36.x", "1.36-aliyun.1", "1.2.3-", "1.2.3-ä", "-1.2.3", "1.99999.0"]
        {
            assert_eq!(ok(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nearest() {
        let s = settings(&["1.34.1", "1.36.3", "1.35.2", "1.35.6"], UnknownVersion::Nearest);
        let check = |asked: Option<&str>, version: &str, instead: Option<&str>| {
            let resolved = resolve(&s, asked).expect("resolves");
            assert_eq!(
                (resolved.version.to_string().as_str(), resolved.instead_of.as_deref()),
                (version, instead),
                "{asked:?}"
            );
        };
        check(None, "1.36.3", None);
        check(Some(""), "1.36.3", None);
        check(Some("1.35"), "1.35.6", None);
        check(Some("1.35.2"), "1.35.2", None);
        check(Some("1.35.3"), "1.35.6", Some("1.35.3"));
        check(Some("1.18.8-aliyun.1"), "1.34.1", Some("1.18.8-aliyun.1"));
        check(Some("1.40.0"), "1.36.3", Some("1.40.0"));
    }

    #[test]
    fn refuse() {
        let s = settings(&["1.36.3"], UnknownVersion::Refuse);
        assert!(resolve(&s, Some("1.36")).is_ok());
        let fault = resolve(&s, Some("1.22.3-aliyun.1")).expect_err("refused");
        assert_eq!(fault.kind, FaultKind::InvalidParameter("kubernetes_version".into()));
        assert!(fault.message.contains("1.36.3"), "{}", fault.message);
    }

    #[test]
    fn next() {
        let s = settings(&["1.34.1", "1.35.2", "1.35.6", "1.36.3"], UnknownVersion::Refuse);
        let check = |now: &str| next_version(&s, now).map(|v| v.to_string());
        assert_eq!(check("1.34.1").as_deref(), Some("1.35.6"));
        assert_eq!(check("1.35.2").as_deref(), Some("1.36.3"));
        assert_eq!(check("1.36.3"), None);
    }
}
