#![allow(clippy::unwrap_used, clippy::panic)]
//! The keeper and the protocol, with a mounter that only remembers.

mod keeper;
mod protocol;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;

use super::{
    keeper::Keeper,
    mounter::{MountState, Mounter, Problem},
    options::Definition,
    store::Store,
};

/// A mounter without a kernel.
#[derive(Default)]
struct Fake {
    mounts: Mutex<BTreeMap<PathBuf, MountState>>,
    /// What was asked of it, in order.
    calls: Mutex<Vec<String>>,
    /// Answers of the next checks, mounts and revivals, the last one first.
    problems: Mutex<Vec<Problem>>,
    /// Mount points that containers have.
    used: Mutex<BTreeSet<PathBuf>>,
}

impl Fake {
    fn call(&self, what: &str, at: &Path) {
        self.calls.lock().unwrap().push(format!("{what} {}", at.display()));
    }

    fn set(&self, at: &str, state: MountState) {
        self.mounts.lock().unwrap().insert(at.into(), state);
    }

    fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn mounted(&self) -> Vec<String> {
        let mounts = self.mounts.lock().unwrap();
        let there = mounts.iter().filter(|(_, state)| **state != MountState::Absent);
        there.map(|(at, _)| at.display().to_string()).collect()
    }

    fn fail_next(&self, problem: Problem) {
        self.problems.lock().unwrap().insert(0, problem);
    }

    fn outcome(&self) -> Result<(), Problem> {
        self.problems.lock().unwrap().pop().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Mounter for Fake {
    async fn check(&self, definition: &Definition) -> Result<(), Problem> {
        self.call("check", Path::new(definition.kind().name()));
        self.outcome()
    }

    async fn mount(&self, _: &Definition, at: &Path) -> Result<(), Problem> {
        self.call("mount", at);
        self.outcome()?;
        self.mounts.lock().unwrap().insert(at.to_owned(), MountState::Alive);
        Ok(())
    }

    async fn unmount(&self, at: &Path) -> Result<(), Problem> {
        self.call("unmount", at);
        self.mounts.lock().unwrap().remove(at);
        Ok(())
    }

    async fn state(&self, at: &Path) -> MountState {
        self.mounts.lock().unwrap().get(at).copied().unwrap_or(MountState::Absent)
    }

    async fn revive(&self, _: &Definition, at: &Path) -> Result<(), Problem> {
        self.call("revive", at);
        self.mounts.lock().unwrap().remove(at);
        self.outcome()?;
        self.mounts.lock().unwrap().insert(at.to_owned(), MountState::Alive);
        Ok(())
    }

    async fn is_used(&self, at: &Path) -> bool {
        self.used.lock().unwrap().contains(at)
    }

    async fn disturbed(&self) {
        std::future::pending().await
    }
}

/// A keeper of the state directory, in this run of the machine.
async fn keeper(state: &Path, boot: &str, fake: &Arc<Fake>) -> Arc<Keeper> {
    let mounter: Arc<dyn Mounter> = Arc::clone(fake) as Arc<dyn Mounter>;
    Keeper::open(Store::new(state.to_owned(), boot.to_owned()), mounter, "/mnt/acs_mnt".into()).await.unwrap()
}

fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The documented example.
fn bucket(name: &str) -> BTreeMap<String, String> {
    options(&[
        ("bucket", name),
        ("ak_id", "LTAI-of-a-user"),
        ("ak_secret", "never-to-be-seen"),
        ("url", "oss-cn-hangzhou.aliyuncs.com"),
        ("no_stat_cache", "true"),
        ("other_opts", "-o allow_other -o default_permission=666"),
    ])
}

/// The documented example.
fn directory(path: &str) -> BTreeMap<String, String> {
    options(&[
        ("diskid", "1234556"),
        ("host", "1234556-gpp53.cn-hangzhou.nas.aliyuncs.com"),
        ("path", path),
        ("mode", "755"),
    ])
}
