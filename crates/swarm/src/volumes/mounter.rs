//! The port through which the keeper mounts. The real one is [`super::system`]; tests use a fake.

use std::path::Path;

use async_trait::async_trait;

use super::options::Definition;

/// How a mount point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MountState {
    /// Nothing is mounted there.
    Absent,
    /// Mounted, and it answers (or takes its time).
    Alive,
    /// Mounted, but what was behind it is gone.
    Dead,
}

/// Why something could not be mounted, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// Another try may succeed: the other side did not answer.
    Passing(String),
    /// It will not become better by itself.
    Lasting(String),
}

impl Problem {
    /// The words.
    pub(super) fn words(&self) -> &str {
        match self {
            Self::Passing(words) | Self::Lasting(words) => words,
        }
    }
}

/// Gets file systems into the machine. All calls for one mount point come one after another.
#[async_trait]
pub(super) trait Mounter: Send + Sync + 'static {
    /// Finds out whether it can be mounted, without leaving anything behind but directories of the cluster's own.
    async fn check(&self, definition: &Definition) -> Result<(), Problem>;
    /// Mounts it on a mount point where nothing is mounted, which is made when missing.
    async fn mount(&self, definition: &Definition, at: &Path) -> Result<(), Problem>;
    /// Unmounts, waiting until what was written has arrived; fine when nothing is mounted. Dead mounts are taken off, too.
    async fn unmount(&self, at: &Path) -> Result<(), Problem>;
    /// Looks at a mount point.
    async fn state(&self, at: &Path) -> MountState;
    /// Puts a dead mount's successor into its place everywhere: mounts anew, and also in running containers.
    async fn revive(&self, definition: &Definition, at: &Path) -> Result<(), Problem>;
    /// Whether a container has it, as far as the kernel knows.
    async fn is_used(&self, at: &Path) -> bool;
    /// Returns when something that serves a mount has ended. It may also be found out later, by looking.
    async fn disturbed(&self);
}
