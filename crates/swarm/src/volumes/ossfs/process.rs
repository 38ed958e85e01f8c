//! The process behind a bucket's mount.

use std::{
    fs,
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::Rng as _;
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe,
    process::{Child, Command},
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};

use super::{
    OssOptions,
    diagnosis::{self, Diagnosis},
};
use crate::volumes::{files, mounter::Problem, table::Table};

const PROGRAM: &str = "s3fs";
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Type of its mounts.
pub(in crate::volumes) const FILE_SYSTEM: &str = "fuse.s3fs";
/// How often a starting process' mount is looked for.
const LOOK: Duration = Duration::from_millis(10);
/// Before a mount that refused an answer is asked again.
const REFUSED_PAUSE: Duration = Duration::from_millis(500);
/// Longer lines (an answer of a server) are cut.
const LINE_MAX: usize = 4096;
/// A running process may say so many things into the log, then one each [`LOG_PAUSE`].
const LOG_PAUSE: Duration = Duration::from_secs(10);
/// How long an unmount waits for what is still on its way to the server; the engine waits for a minute.
const FLUSH_TIME: Duration = Duration::from_secs(40);
const COMMAND_LINE_MAX: u64 = 64 * 1024;

/// Where it keeps what, and who wants to know.
#[derive(Clone, Debug)]
pub(in crate::volumes) struct Places {
    /// Files with credentials.
    pub(in crate::volumes) credentials: PathBuf,
    /// What is on its way to the server.
    pub(in crate::volumes) temporary: PathBuf,
    /// Told when a process ended.
    pub(in crate::volumes) ended: Arc<Notify>,
}

/// A mount to be made.
pub(in crate::volumes) struct Wanted<'a> {
    /// Of what.
    pub(in crate::volumes) options: &'a OssOptions,
    /// Where.
    pub(in crate::volumes) at: &'a Path,
    /// Name of the file for the credentials.
    pub(in crate::volumes) credentials: &'a str,
    /// Whether it is only to see if it can be mounted: somebody waits for the answer.
    pub(in crate::volumes) is_trial: bool,
}

/// Starts `s3fs` and waits until its mount answers.
pub(in crate::volumes) async fn mount(wanted: &Wanted<'_>, places: &Places, limit: Duration) -> Result<(), Problem> {
    let passwd = places.credentials.join(wanted.credentials);
    let command = command(wanted, places, &passwd).map_err(Problem::Lasting)?;
    files::replace(&passwd, wanted.options.credentials().as_bytes()).map_err(local)?;
    let outcome = start(wanted, command, limit, &places.ended).await;
    // It reads them when it starts and never again.
    files::remove(&passwd).map_err(local).and(outcome)
}

fn local(error: io::Error) -> Problem {
    Problem::Lasting(format!("s3fs: {error}"))
}

async fn start(wanted: &Wanted<'_>, mut command: Command, limit: Duration, ended: &Arc<Notify>) -> Result<(), Problem> {
    let deadline = Instant::now() + limit;
    let (output, writer) = io::pipe().map_err(local)?;
    command.stdout(writer.try_clone().map_err(local)?).stderr(writer);
    let mut child = command.spawn().map_err(local)?;
    // The command still owns the child's ends of the pipe.
    drop(command);
    let output = pipe::Receiver::from_owned_fd(OwnedFd::from(output)).map_err(local)?;
    let said =
        Said { options: wanted.options.clone(), diagnosis: Mutex::default(), is_started: AtomicBool::new(false) };
    let said = Arc::new(said);
    let listener = tokio::spawn(listen(output, Arc::clone(&said), wanted.at.to_owned()));
    let status = tokio::select! {
        status = child.wait() => status,
        ready = timeout_at(deadline, ready(wanted.at)) => match ready {
            Ok(()) => {
                said.is_started.store(true, Ordering::Relaxed);
                tokio::spawn(reap(child, wanted.at.to_owned(), Arc::clone(ended)));
                return Ok(());
            }
            Err(_) => child.kill().await.and(Err(io::ErrorKind::TimedOut.into())),
        },
    };
    // The rest of what it said; nobody else holds the pipe.
    let _ = timeout_at(Instant::now() + Duration::from_secs(1), listener).await;
    Err(problem(&said, status, limit))
}

/// Somebody has to take its exit status.
async fn reap(mut child: Child, at: PathBuf, ended: Arc<Notify>) {
    let status = child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
    tracing::debug!(at = %at.display(), status, "s3fs ended");
    ended.notify_one();
}

fn problem(said: &Said, ended: io::Result<ExitStatus>, limit: Duration) -> Problem {
    let diagnosis = said.lock();
    let timed_out = ended.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
    let why = diagnosis.words().unwrap_or_else(|| match &ended {
        _ if timed_out => format!("no answer of the server within {} s", limit.as_secs()),
        Ok(status) => format!("s3fs ended without a word ({status})"),
        Err(error) => format!("s3fs: {error}"),
    });
    let OssOptions { bucket, url, .. } = &said.options;
    let words = said.options.redact(&format!("the bucket '{bucket}' at {url} cannot be mounted: {why}"));
    if timed_out || diagnosis.is_passing() { Problem::Passing(words) } else { Problem::Lasting(words) }
}

fn command(wanted: &Wanted<'_>, places: &Places, passwd: &Path) -> Result<Command, String> {
    let options = wanted.options;
    // It becomes s3fs, whose words would otherwise wait in a buffer until it ends.
    let mut command = Command::new("stdbuf");
    command.arg("--output=L").arg(PROGRAM).arg(&options.bucket).arg(wanted.at).arg("-f");
    // Levels below errors would tell every request.
    for own in ["dbglevel=err", "no_time_stamp_msg", "nonempty"] {
        command.args(["-o", own]);
    }
    for (name, path) in [("passwd_file", passwd), ("tmpdir", &places.temporary)] {
        command.arg("-o").arg(format!("{name}={}", path.display()));
    }
    for option in options.arguments()? {
        command.arg("-o").arg(option);
    }
    if wanted.is_trial {
        // The last one counts. Otherwise a port that nobody listens on is asked for 20 s.
        command.args(["-o", "retries=1"]);
    }
    // Nothing of ours: it takes credentials, too, from variables.
    command.env_clear().env("PATH", SEARCH_PATH).env("LC_ALL", "C").env("HOME", "/nonexistent");
    command.current_dir("/").stdin(Stdio::null());
    // It outlives us, and whoever ends our group.
    command.process_group(0).kill_on_drop(false);
    Ok(command)
}

/// Returns when the mount is there and answers for the bucket.
async fn ready(at: &Path) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if !Table::read().is_ok_and(|table| table.at(at).is_some_and(|mount| mount.kind == FILE_SYSTEM)) {
            continue;
        }
        let path = at.to_owned();
        if matches!(tokio::task::spawn_blocking(move || answers(&path)).await, Ok(true)) {
            return;
        }
        // Each question may be several requests to the server.
        look.reset_after(REFUSED_PAUSE);
    }
}

/// `s3fs` mounts first and asks for the bucket then. A question is answered after that, but one may slip through to a
/// process that is already giving up. So a second one goes through to the server, and a third one after that.
fn answers(at: &Path) -> bool {
    let name: u64 = rand::rng().random();
    let is_there = |path: &Path| match fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    // The kernel never answers the last one from what it remembers.
    fs::metadata(at).is_ok() && is_there(&at.join(format!(".sampan-{name:016x}"))) && rustix::fs::statvfs(at).is_ok()
}

/// Reads what a process says: first for the diagnosis, later for the log.
async fn listen(mut output: pipe::Receiver, said: Arc<Said>, at: PathBuf) {
    let mut lines = Lines::default();
    let mut chunk = [0; 4096];
    let mut quiet_until = Instant::now();
    while let Ok(length @ 1..) = output.read(&mut chunk).await {
        for line in lines.split(&chunk[..length]) {
            if !said.is_started.load(Ordering::Relaxed) {
                said.lock().read(&line);
            } else if Instant::now() >= quiet_until
                && let Some(words) = diagnosis::complaint(&line)
            {
                quiet_until = Instant::now() + LOG_PAUSE;
                tracing::warn!(at = %at.display(), words = said.options.redact(&words), "s3fs");
            }
        }
    }
    said.lock().read(&lines.rest());
}

/// What a process said.
struct Said {
    options: OssOptions,
    diagnosis: Mutex<Diagnosis>,
    is_started: AtomicBool,
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, Diagnosis> {
        self.diagnosis.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts a stream into lines of bounded length.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn split(&mut self, chunk: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        for part in chunk.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_MAX - self.partial.len().min(LINE_MAX);
            self.partial.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                whole.push(self.rest());
            }
        }
        whole
    }

    fn rest(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.partial)).trim().to_owned()
    }
}

/// Waits until the processes of an unmounted mount point have brought everything to the server and ended. Those that need
/// very long are left to it: killed, they would lose files.
pub(in crate::volumes) async fn wait_for_end(at: &Path) {
    let deadline = Instant::now() + FLUSH_TIME;
    let mut look = interval(LOOK * 5);
    while !processes(at).is_empty() {
        if Instant::now() >= deadline {
            tracing::warn!(at = %at.display(), "s3fs is still busy after its unmount");
            return;
        }
        look.tick().await;
    }
}

/// Kills the processes of a mount point. No gentler signal: that would make them unmount whatever is mounted there by now.
pub(in crate::volumes) fn kill_all(at: &Path) {
    for pid in processes(at) {
        // It may have ended meanwhile.
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// Processes that serve a mount point, whoever started them.
fn processes(at: &Path) -> Vec<Pid> {
    let Ok(listing) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| serves(*pid, at)).map(Pid::from_raw).collect()
}

fn serves(pid: i32, at: &Path) -> bool {
    let mut line = Vec::new();
    let read = fs::File::open(format!("/proc/{pid}/cmdline"))
        .and_then(|file| file.take(COMMAND_LINE_MAX).read_to_end(&mut line));
    let mut arguments = line.split(|byte| *byte == 0);
    let is_s3fs = |argument: &[u8]| argument.rsplit(|byte| *byte == b'/').next() == Some(PROGRAM.as_bytes());
    read.is_ok()
        && arguments.next().is_some_and(is_s3fs)
        // Program, bucket, mount point.
        && arguments.nth(1) == Some(at.as_os_str().as_bytes())
}
