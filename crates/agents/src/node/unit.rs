//! One supervised process: waits for what it needs, runs, is watched, is started again.

use std::{
    io,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    board::Board,
    log::{Logs, ProcessLog},
    probe,
};
use crate::{
    children::{Child, Children, Exit},
    spec::{Process, ProcessState, ProcessStatus},
};

const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A process that ran for so long starts with the shortest back-off again.
const BACKOFF_RESET: Duration = Duration::from_secs(30);
/// How long the last output of an ended process is waited for; processes that it left behind may hold the pipe open.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_millis(100);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every unit uses.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) children: Arc<Children>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) board: Arc<Board>,
}

/// One run of the supervision of one process.
#[derive(Debug)]
pub(crate) struct Unit {
    context: Context,
    process: Process,
    /// Number under which it writes to the board.
    run: u64,
    /// `start_arguments` of the newest spec; `process` has none.
    start_arguments: watch::Receiver<Vec<String>>,
    /// `Some`: stop, and kill after so long.
    stop: watch::Receiver<Option<Duration>>,
}

/// How a process ended.
enum Ended {
    /// It was told to.
    Stopped,
    /// By itself (or it could not be started); the words are for the status.
    ByItself { succeeded: bool, how: String },
}

impl Unit {
    pub(crate) fn new(
        context: Context,
        process: Process,
        run: u64,
        start_arguments: watch::Receiver<Vec<String>>,
        stop: watch::Receiver<Option<Duration>>,
    ) -> Self {
        Self { context, process, run, start_arguments, stop }
    }

    /// Supervises until told to stop; then the process and its whole group are gone. `predecessor` is the supervision of
    /// the same name that this one replaces.
    pub(crate) async fn supervise(mut self, predecessor: Option<JoinHandle<()>>) {
        if let Some(predecessor) = predecessor {
            let _ = predecessor.await;
        }
        let mut backoff = BACKOFF_MIN;
        loop {
            self.update(|line| line.state = ProcessState::Waiting);
            let mut stop = self.stop.clone();
            tokio::select! {
                () = self.may_start() => {}
                _ = stopped(&mut stop) => return,
            }
            let started = Instant::now();
            let (succeeded, how) = match self.run_once().await {
                Ended::Stopped => return,
                Ended::ByItself { succeeded, how } => (succeeded, how),
            };
            if self.process.oneshot && succeeded {
                self.update(|line| (line.state, line.pid) = (ProcessState::Ready, None));
                stopped(&mut stop).await;
                return;
            }
            let name = &self.process.name;
            tracing::warn!(process = name, "{name} ended: {}", how.lines().next().unwrap_or_default());
            self.update(|line| {
                line.state = ProcessState::BackOff;
                line.pid = None;
                line.last_exit = Some(how);
            });
            if started.elapsed() > BACKOFF_RESET {
                backoff = BACKOFF_MIN;
            }
            tokio::select! {
                () = sleep(backoff) => {}
                _ = stopped(&mut stop) => return,
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
            self.update(|line| line.restarts += 1);
        }
    }

    async fn may_start(&self) {
        let mut revision = self.context.board.revision();
        loop {
            revision.mark_unchanged();
            let status = self.context.board.status();
            if self.process.after.iter().all(|name| status.is_ready(name)) {
                break;
            }
            // The board lives as long as the agent.
            let _ = revision.changed().await;
        }
        if let Some(probe) = &self.process.wait_for {
            probe::wait(probe).await;
        }
    }

    async fn run_once(&mut self) -> Ended {
        let log = self.context.logs.of(&self.process.name);
        log.start_run();
        let (mut child, mut output) = match self.start(&log) {
            Ok(started) => started,
            Err(error) => {
                let how = format!("could not be started: {}: {error}", self.process.command.join(" "));
                return Ended::ByItself { succeeded: false, how };
            }
        };
        let pid = child.id();
        // A oneshot becomes ready by ending.
        let mut is_ready = self.process.oneshot;
        let ready_at_once = !is_ready && self.process.ready.is_none();
        self.update(|line| {
            line.pid = Some(pid);
            line.state = if ready_at_once { ProcessState::Ready } else { ProcessState::Starting };
        });
        is_ready |= ready_at_once;
        let probe = self.process.ready.clone();
        let readiness = async {
            match &probe {
                Some(probe) => probe::wait(probe).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(readiness);
        let mut stop = self.stop.clone();
        let exit = loop {
            tokio::select! {
                exit = child.wait() => break exit,
                () = &mut readiness, if !is_ready => {
                    is_ready = true;
                    self.update(|line| line.state = ProcessState::Ready);
                }
                grace = stopped(&mut stop) => {
                    self.terminate(&mut child, grace).await;
                    return Ended::Stopped;
                }
            }
        };
        let _ = timeout(LAST_OUTPUT_TIMEOUT, &mut output).await;
        let tail = log.tail();
        let how = if tail.is_empty() { exit.to_string() } else { format!("{exit}\n{tail}") };
        Ended::ByItself { succeeded: exit == Exit::Code(0), how }
    }

    fn start(&self, log: &Arc<ProcessLog>) -> io::Result<(Child, JoinHandle<()>)> {
        let (program, arguments) =
            self.process.command.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
        let (output, writer) = io::pipe()?;
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))?;
        let mut command = Command::new(program);
        command.args(arguments).args(self.start_arguments.borrow().iter());
        command.env_clear().env("PATH", PATH).env("HOME", "/root").envs(&self.process.env);
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = self.context.children.spawn(&mut command)?;
        Ok((child, tokio::spawn(record(output, Arc::clone(log)))))
    }

    async fn terminate(&self, child: &mut Child, grace: Duration) {
        self.context.children.signal(child, Signal::SIGTERM);
        if timeout(grace, child.wait()).await.is_err() {
            let name = &self.process.name;
            tracing::warn!(process = name, "{name} did not stop within {grace:?}; killing it");
            self.context.children.signal(child, Signal::SIGKILL);
            child.wait().await;
        }
    }

    fn update(&self, update: impl FnOnce(&mut ProcessStatus)) {
        self.context.board.update_process(&self.process.name, self.run, update);
    }
}

/// Waits for the order to stop and returns its grace period.
async fn stopped(stop: &mut watch::Receiver<Option<Duration>>) -> Duration {
    // A supervisor that is gone cannot want the process to live.
    stop.wait_for(Option::is_some).await.ok().and_then(|grace| *grace).unwrap_or_default()
}

async fn record(mut output: pipe::Receiver, log: Arc<ProcessLog>) {
    let mut buffer = vec![0; 4096];
    while let Ok(length) = output.read(&mut buffer).await
        && length > 0
    {
        log.write(&buffer[..length]);
    }
}
