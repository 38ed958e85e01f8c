//! Every child process of the agent is started and reaped here. As PID 1 the agent inherits orphans as well, so one
//! place must tell them apart: a second `wait` elsewhere could take an exit status that is not its own.

use std::{
    collections::HashMap,
    fmt, io,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::pipe,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal(Signal),
    /// Somebody else reaped it; how it ended is not known.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "killed by {signal}"),
            Self::Unknown => write!(f, "ended in an unknown way"),
        }
    }
}

/// A running child, leader of a process group of its own.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    exit: oneshot::Receiver<Exit>,
}

impl Child {
    /// Process id.
    pub(crate) fn id(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Waits for its end. May be cancelled and called again, until it has answered.
    pub(crate) async fn wait(&mut self) -> Exit {
        (&mut self.exit).await.unwrap_or(Exit::Unknown)
    }
}

/// The table of children.
#[derive(Debug)]
pub(crate) struct Children {
    running: Mutex<HashMap<Pid, oneshot::Sender<Exit>>>,
    reap_orphans: bool,
}

impl Children {
    /// Starts the reaper. `reap_orphans` takes every zombie there is and so is for PID 1 only.
    pub(crate) fn start(reap_orphans: bool) -> io::Result<Arc<Self>> {
        let children = Arc::new(Self { running: Mutex::default(), reap_orphans });
        let mut ended = signal(SignalKind::child())?;
        let reaper = Arc::downgrade(&children);
        tokio::spawn(async move {
            while ended.recv().await.is_some() {
                let Some(children) = reaper.upgrade() else { return };
                children.reap();
            }
        });
        Ok(children)
    }

    /// Starts a process in a group of its own.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        use std::os::unix::process::CommandExt as _;
        // The lock is held so that a process that ends at once is in the table before it is reaped.
        let mut running = self.lock();
        let child = command.process_group(0).spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let (sender, exit) = oneshot::channel();
        running.insert(pid, sender);
        Ok(Child { pid, exit })
    }

    /// Sends a signal to the child's whole process group, unless it has been reaped.
    pub(crate) fn signal(&self, child: &Child, signal: Signal) {
        let running = self.lock();
        if running.contains_key(&child.pid)
            && let Err(error) = killpg(child.pid, signal)
            && error != Errno::ESRCH
        {
            tracing::warn!(pid = child.id(), %signal, %error, "a process group could not be signalled");
        }
    }

    /// Runs a tool to its end, within `limit`. `Err` describes what went wrong, with the tool's own words.
    pub(crate) async fn run(&self, command: &mut Command, input: &[u8], limit: Duration) -> Result<String, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let failed = |error: io::Error| format!("{name}: {error}");
        let (output, writer) = io::pipe().map_err(failed)?;
        let (stdin, stdin_writer) = io::pipe().map_err(failed)?;
        command.stdin(stdin).stdout(writer.try_clone().map_err(failed)?).stderr(writer);
        let mut child = self.spawn(command).map_err(failed)?;
        // The command still owns the child's ends of the pipes.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let work = async {
            let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))?;
            let mut stdin = pipe::Sender::from_owned_fd(OwnedFd::from(stdin_writer))?;
            let mut text = Vec::new();
            let feed = async {
                // A tool that does not read its input to the end says why on its output.
                let _ = stdin.write_all(input).await;
                drop(stdin);
                Ok(0)
            };
            tokio::try_join!(feed, output.read_to_end(&mut text))?;
            Ok((child.wait().await, String::from_utf8_lossy(&text).trim().to_owned()))
        };
        let done = timeout(limit, work).await;
        match done {
            Ok(Ok((Exit::Code(0), text))) => Ok(text),
            Ok(Ok((exit, text))) => Err(format!("{name}: {exit}: {text}")),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => {
                self.signal(&child, Signal::SIGKILL);
                Err(format!("{name}: still running after {} s, killed", limit.as_secs()))
            }
        }
    }

    /// Takes the exit status of everything that has ended.
    fn reap(&self) {
        let mut running = self.lock();
        if self.reap_orphans {
            while let Some(pid) = ended(None) {
                take(&mut running, pid);
            }
        } else {
            let pids: Vec<Pid> = running.keys().copied().collect();
            for pid in pids {
                if ended(Some(pid)).is_some() {
                    take(&mut running, pid);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Pid, oneshot::Sender<Exit>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which process has ended (of all, or that one), without reaping it.
fn ended(child: Option<Pid>) -> Option<Pid> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        match waitid(child.map_or(Id::All, Id::Pid), flags) {
            Ok(status) => return status.pid(),
            Err(Errno::EINTR) => {}
            // Gone without us: `take` finds that out too and reports the end as unknown.
            Err(Errno::ECHILD) => return child,
            Err(_) => return None,
        }
    }
}

fn take(running: &mut HashMap<Pid, oneshot::Sender<Exit>>, pid: Pid) {
    let child = running.remove(&pid);
    if child.is_some() {
        // What is left of the group dies with its leader. The zombie still holds the number, so the group is the right one.
        let _ = killpg(pid, Signal::SIGKILL);
    }
    let exit = match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Exit::Code(code),
        Ok(WaitStatus::Signaled(_, signal, _)) => Exit::Signal(signal),
        _ => Exit::Unknown,
    };
    if let Some(sender) = child {
        // Nobody may be waiting any more.
        let _ = sender.send(exit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn exit_codes_and_signals_arrive() {
        let children = Children::start(false).unwrap();
        let mut ended = children.spawn(&mut shell("exit 7")).unwrap();
        assert_eq!(ended.wait().await, Exit::Code(7));
        let mut killed = children.spawn(&mut shell("sleep 1000")).unwrap();
        children.signal(&killed, Signal::SIGTERM);
        assert_eq!(killed.wait().await, Exit::Signal(Signal::SIGTERM));
    }

    #[tokio::test]
    async fn many_short_processes_are_all_reaped() {
        let children = Children::start(false).unwrap();
        let mut all: Vec<Child> =
            (0..40).map(|code| children.spawn(&mut shell(&format!("exit {code}"))).unwrap()).collect();
        for (code, child) in (0..).zip(&mut all) {
            assert_eq!(child.wait().await, Exit::Code(code));
        }
        assert!(children.lock().is_empty());
    }

    #[tokio::test]
    async fn the_rest_of_a_group_dies_with_its_leader() {
        let children = Children::start(false).unwrap();
        let mut leaver = shell("sleep 1000 >/dev/null 2>&1 </dev/null & echo $!");
        let said = children.run(&mut leaver, b"", Duration::from_secs(5)).await.unwrap();
        let pid: i32 = said.parse().unwrap();
        // A killed orphan stays a zombie until its new parent reaps it.
        let alive = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        while alive() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn tools_are_fed_and_heard() {
        let children = Children::start(false).unwrap();
        let limit = Duration::from_secs(5);
        assert_eq!(children.run(&mut shell("tr a-z A-Z"), b"hello", limit).await.unwrap(), "HELLO");
        let failed = children.run(&mut shell("echo broken >&2; exit 2"), b"", limit).await;
        assert_eq!(failed.unwrap_err(), "/bin/sh: exit code 2: broken");
        let hung = children.run(&mut shell("sleep 1000"), b"", Duration::from_millis(20)).await;
        assert!(hung.unwrap_err().contains("killed"));
        assert!(children.run(&mut Command::new("/does/not/exist"), b"", limit).await.is_err());
    }
}
