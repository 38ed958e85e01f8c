//! File systems that machines share: the cluster's own, or NFS.

mod beneath;
mod nfs;
#[cfg(test)]
mod tests;

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use nix::{mount::MsFlags, sys::stat::Mode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    mounter::Problem,
    options::{Given, Quoted},
};

/// Hosts below it are mount points of the service's NAS, which is the cluster's own file system here.
const OWN_DOMAIN: &str = ".nas.aliyuncs.com";
const PATH_MAX: usize = 1024;
const DEPTH_MAX: usize = 32;
const MODE_DEFAULT: u32 = 0o755;

/// The documented options of such a volume, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NasOptions {
    diskid: String,
    /// Empty: the cluster's own file system.
    host: String,
    path: String,
    mode: u32,
}

impl NasOptions {
    /// Reads and checks them.
    pub(super) fn read(given: &mut Given) -> Result<Self, String> {
        let host = given.optional("host").unwrap_or_default().to_ascii_lowercase();
        let is_own = is_own(&host);
        let diskid = if is_own { given.required("diskid")? } else { given.optional("diskid").unwrap_or_default() };
        let options = Self {
            diskid,
            host,
            path: given.optional("path").unwrap_or_else(|| "/".to_owned()),
            mode: mode(given.optional("mode").as_deref())?,
        };
        if is_own || !options.diskid.is_empty() {
            check_disk(&options.diskid)?;
        }
        if !is_own {
            nfs::check_host(&options.host)?;
        }
        options.components()?;
        Ok(options)
    }

    /// Whether Sampan itself keeps it.
    pub(super) fn is_own(&self) -> bool {
        is_own(&self.host)
    }

    /// Opens its directory in the cluster's own file system, making it when it is missing. Blocks.
    pub(super) fn open(&self, nas_dir: &Path) -> io::Result<OwnedFd> {
        let path = self.components().map_err(io::Error::other)?;
        let mut components = vec![self.diskid.as_str()];
        components.extend(path);
        beneath::open(nas_dir, &components, Mode::from_bits_truncate(self.mode))
    }

    /// Finds out whether it can be mounted; `trial` is a mount point for that.
    pub(super) async fn check(&self, nas_dir: &Path, trial: &Path) -> Result<(), Problem> {
        if self.is_own() {
            return self.opened(nas_dir).await.map(|_| ());
        }
        self.mount_nfs(trial).await
    }

    /// Mounts it.
    pub(super) async fn mount(&self, nas_dir: &Path, at: &Path) -> Result<(), Problem> {
        if !self.is_own() {
            return self.mount_nfs(at).await;
        }
        let directory = self.opened(nas_dir).await?;
        // By descriptor: by name it might be another directory by now.
        let source = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let none = None::<&str>;
        nix::mount::mount(Some(source.as_str()), at, none, MsFlags::MS_BIND, none)
            .map_err(|error| self.failed(error.into()))
    }

    async fn opened(&self, nas_dir: &Path) -> Result<OwnedFd, Problem> {
        let (options, nas_dir) = (self.clone(), nas_dir.to_owned());
        let opened = tokio::task::spawn_blocking(move || options.open(&nas_dir)).await;
        opened.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(|error| self.failed(error))
    }

    async fn mount_nfs(&self, at: &Path) -> Result<(), Problem> {
        let path = self.components().map_err(Problem::Lasting)?.join("/");
        nfs::mount(&self.host, &format!("/{path}"), at).await
    }

    fn failed(&self, error: io::Error) -> Problem {
        let path = Quoted(&self.path);
        Problem::Lasting(format!("the directory {path} of the NAS {} cannot be used: {error}", self.diskid))
    }

    fn components(&self) -> Result<Vec<&str>, String> {
        let wrong = |why: &str| format!("the option path: {} {why}", Quoted(&self.path));
        if self.path.len() > PATH_MAX {
            return Err(wrong(&format!("is longer than {PATH_MAX} bytes")));
        }
        let components: Vec<&str> = self.path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if components.len() > DEPTH_MAX {
            return Err(wrong(&format!("is deeper than {DEPTH_MAX} directories")));
        }
        for part in &components {
            if *part == ".." {
                return Err(wrong("must not contain '..'"));
            }
            if part.len() > 255 || part.chars().any(char::is_control) {
                return Err(wrong("has a part that is no name of a directory"));
            }
        }
        Ok(components)
    }

    /// What may be shown.
    pub(super) fn status(&self) -> Map<String, Value> {
        let shown =
            json!({ "diskid": self.diskid, "host": self.host, "path": self.path, "mode": format!("{:o}", self.mode) });
        match shown {
            Value::Object(shown) => shown,
            _ => Map::new(),
        }
    }
}

fn is_own(host: &str) -> bool {
    host.is_empty() || host.strip_suffix(OWN_DOMAIN).is_some_and(|name| !name.is_empty())
}

fn mode(text: Option<&str>) -> Result<u32, String> {
    let Some(text) = text else { return Ok(MODE_DEFAULT) };
    let is_octal = (1..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    is_octal
        .then(|| u32::from_str_radix(text, 8).ok())
        .flatten()
        .ok_or_else(|| format!("the option mode: {} are no octal permissions, as 755", Quoted(text)))
}

fn check_disk(diskid: &str) -> Result<(), String> {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=64).contains(&diskid.len()) && diskid.bytes().all(harmless) {
        return Ok(());
    }
    Err(format!("the option diskid: {} is not 1 to 64 letters, digits, '-' and '_'", Quoted(diskid)))
}
