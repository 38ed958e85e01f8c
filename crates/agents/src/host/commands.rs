//! Tools of the host.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// Runs a tool; its output, or what it said when it failed. A tool that is not there fails.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    run_with(program, arguments, "")
}

/// As [`run`], with something to read.
pub(crate) fn run_with(program: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{program} {}: {error}", arguments.join(" "));
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that does not read to the end says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(failed(&format!("{} {}", output.status, words.trim())))
}
