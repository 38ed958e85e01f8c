//! Running other programs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::progress::seconds;

/// Lines of a failed program's log that its error repeats.
const LOG_TAIL: usize = 60;

/// Runs a program to its end and returns what it printed on stdout.
///
/// # Errors
/// When it cannot be started or fails; the error carries its stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let result = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {line}"))?;
    if !result.status.success() {
        bail!("{line}: {}\n{}", result.status, String::from_utf8_lossy(&result.stderr).trim_end());
    }
    String::from_utf8(result.stdout).with_context(|| format!("{line} printed something that is not UTF-8"))
}

/// Whether a program can be started and succeeds; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs a long program with its output in the log file `name` of the cache.
///
/// # Errors
/// When it fails; the error names the log and repeats its end.
pub(crate) fn logged(name: &str, command: &mut Command) -> Result<()> {
    let path = log_file(name)?;
    let log = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
    let line = describe(command);
    let status = command
        .stdout(log.try_clone().context("cannot share the log file")?)
        .stderr(log)
        .status()
        .with_context(|| format!("cannot start {line}"))?;
    if !status.success() {
        bail!("{line}: {status}; the end of {}:\n{}", path.display(), tail(&path));
    }
    Ok(())
}

/// The path of the log file `name`; its folder exists.
///
/// # Errors
/// When the cache directory cannot be made.
pub(crate) fn log_file(name: &str) -> Result<PathBuf> {
    let dir = crate::paths::cache()?.join("log");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir.join(format!("{name}.log")))
}

/// The last lines of a log file, or why it cannot be read.
pub(crate) fn tail(path: &Path) -> String {
    match fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
        }
        Err(error) => format!("(cannot read {}: {error})", path.display()),
    }
}

/// Waits until the condition is true; what it says last goes into the error.
pub(crate) fn wait(limit: Duration, what: &str, condition: impl Fn() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + limit;
    loop {
        let last = condition();
        match last {
            Ok(true) => return Ok(()),
            _ if Instant::now() < end => thread::sleep(Duration::from_millis(50)),
            Ok(false) => bail!("not within {}: {what}", seconds(limit)),
            Err(error) => return Err(error.context(format!("not within {}: {what}", seconds(limit)))),
        }
    }
}

/// Whether `program` is in the PATH.
pub(crate) fn in_path(program: &str) -> bool {
    let Some(path) = std::env::var_os("PATH") else {
        return false;
    };
    // Debian keeps daemons and network tools out of the PATH of ordinary users.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|dir| dir.join(program).is_file())
}

fn describe(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args().take(6) {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    if command.get_args().len() > 6 {
        line.push_str(" …");
    }
    line
}
