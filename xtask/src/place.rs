//! A server of this build in a data directory of its own, with one cluster.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::{paths, process};

const SERVER_START: Duration = Duration::from_secs(30);
const SERVER_STOP: Duration = Duration::from_secs(30);
/// Ports that are tried from the wanted one on.
const PORTS_TRIED: u16 = 100;

/// Files of the installation, and how to call its programs.
pub(crate) struct Place {
    pub(crate) data_dir: PathBuf,
    /// Name of the cluster.
    pub(crate) cluster: &'static str,
    /// The server listens here, or on the next free port.
    pub(crate) port: u16,
    /// Images and versions for the server.
    pub(crate) bundle: PathBuf,
}

impl Place {
    fn pid_file(&self) -> PathBuf {
        self.data_dir.join("server.pid")
    }

    /// What the server says.
    pub(crate) fn log(&self) -> PathBuf {
        self.data_dir.join("server.log")
    }

    /// How to reach the cluster.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.data_dir.join(format!("{}.kubeconfig", self.cluster))
    }

    /// The command line tool, for this server.
    pub(crate) fn sampan(&self) -> Command {
        let mut command = Command::new(paths::release_binary());
        command.env("SAMPAN_DATA_DIR", &self.data_dir);
        command
    }

    /// kubectl, for the cluster.
    pub(crate) fn kubectl(&self) -> Command {
        let mut command = Command::new(paths::kubectl());
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command
    }

    /// The process id of the server, if it runs.
    fn server(&self) -> Option<u32> {
        let pid: u32 = fs::read_to_string(self.pid_file()).ok()?.lines().next()?.trim().parse().ok()?;
        let executable = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        // A rebuilt binary shows as "… (deleted)"; another program behind a reused id does not have our name.
        executable.file_name()?.to_str()?.starts_with("sampan").then_some(pid)
    }

    /// Whether the server was started from this build.
    fn server_is_of(&self, build: &str) -> bool {
        fs::read_to_string(self.pid_file()).is_ok_and(|text| text.lines().nth(1) == Some(build))
    }

    fn stop_server(&self, pid: u32) -> Result<()> {
        process::output(Command::new("kill").arg(pid.to_string()))?;
        process::wait(SERVER_STOP, "the server stops", || Ok(self.server().is_none()))
    }

    /// What a server is started from: its program, and what it hands to machines.
    fn build_id(&self) -> Result<String> {
        let mut hash = Sha256::new();
        for path in [paths::release_binary(), self.bundle.join("bundle.json")] {
            hash.update(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Starts the server unless it runs; one of another build is replaced.
    ///
    /// # Errors
    /// When it does not come up; the error carries the end of its log.
    pub(crate) fn start_server(&self) -> Result<()> {
        fs::create_dir_all(&self.data_dir).with_context(|| format!("cannot make {}", self.data_dir.display()))?;
        let build = self.build_id()?;
        if let Some(pid) = self.server() {
            if self.server_is_of(&build) {
                eprintln!("the server runs already (process {pid})");
                return Ok(());
            }
            eprintln!("the server (process {pid}) is of another build: restarting it; workloads run on");
            self.stop_server(pid)?;
        }
        let last = self.port + PORTS_TRIED - 1;
        let port = (self.port..=last)
            .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
            .with_context(|| format!("no free port from {} to {last}", self.port))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let log = File::create(self.log()).with_context(|| format!("cannot write {}", self.log().display()))?;
        let child = Command::new(paths::release_binary())
            .arg("serve")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .arg("--bundle")
            .arg(&self.bundle)
            .arg("--listen")
            .arg(address.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the log")?)
            .stderr(log)
            // A group of its own: Ctrl-C at this command is not meant for the server.
            .process_group(0)
            .spawn()
            .context("cannot start the server")?;
        fs::write(self.pid_file(), format!("{}\n{build}\n", child.id()))
            .context("cannot write the server's process id")?;
        process::wait(SERVER_START, "the server answers", || {
            Ok(http_get(address, "/readyz")?.starts_with("HTTP/1.1 200"))
        })
        .with_context(|| format!("the end of {}:\n{}", self.log().display(), process::tail(&self.log())))
    }

    /// Writes the kubeconfig of the cluster.
    ///
    /// # Errors
    /// When there is no such cluster.
    pub(crate) fn write_kubeconfig(&self) -> Result<()> {
        let mut command = self.sampan();
        command.args(["cluster", "kubeconfig", self.cluster, "--file"]).arg(self.kubeconfig());
        process::output(&mut command).map(drop)
    }

    /// Stops the server and removes everything that it made; says whether there was anything.
    ///
    /// # Errors
    /// When the server does not stop or Docker refuses to remove something.
    pub(crate) fn remove(&self) -> Result<bool> {
        if !self.data_dir.join("installation").exists() && self.server().is_none() {
            return Ok(false);
        }
        if let Some(pid) = self.server() {
            self.stop_server(pid)?;
        }
        process::output(self.sampan().args(["purge", "--yes"]))?;
        fs::remove_dir_all(&self.data_dir).with_context(|| format!("cannot remove {}", self.data_dir.display()))?;
        Ok(true)
    }
}

/// A plain GET; returns the whole answer as text.
///
/// # Errors
/// When nobody answers in time.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> Result<String> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
