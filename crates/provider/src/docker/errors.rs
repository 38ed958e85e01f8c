//! What the engine says, as what an operator can act on.

use bollard::errors::Error as BollardError;

use crate::ProviderError;

/// Why one call to the engine failed.
#[derive(Debug)]
pub(super) struct CallError {
    /// What was being done, as in "cannot …".
    doing: String,
    /// The engine's HTTP status; `None` when it did not answer.
    status: Option<u16>,
    /// The engine's words.
    message: String,
    /// No answer at all.
    silent: bool,
}

impl CallError {
    /// From what the client library reports.
    pub(super) fn new(doing: String, socket: &str, error: BollardError) -> Self {
        let (status, message, silent) = match error {
            BollardError::DockerResponseServerError { status_code, message } => {
                // An engine that was exchanged for one of another version refuses our version: connect again.
                let version = message.contains("client version") && message.contains("API version");
                (Some(status_code), message, version)
            }
            BollardError::RequestTimeoutError => (None, "no answer in time".to_owned(), true),
            BollardError::SocketNotFoundError(path) => (None, absent(&path), true),
            BollardError::HyperLegacyError { err } => (None, unreachable_text(socket, &err), true),
            BollardError::HyperResponseError { err } => (None, chain(&err), true),
            BollardError::IOError { err } => (None, chain(&err), true),
            other => (None, chain(&other), false),
        };
        let message = message.trim().to_owned();
        Self { doing, status, message, silent }
    }

    /// The call took longer than we wait.
    pub(super) fn timed_out(doing: String, seconds: u64) -> Self {
        Self {
            doing,
            status: None,
            message: format!("no answer within {seconds} s; it may be overloaded"),
            silent: true,
        }
    }

    /// The engine knows no such thing.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == Some(404)
    }

    /// The thing is busy, or its name is taken.
    pub(super) fn is_conflict(&self) -> bool {
        self.status == Some(409)
    }

    /// The engine's words contain this.
    pub(super) fn says(&self, words: &str) -> bool {
        self.message.to_lowercase().contains(words)
    }
}

impl From<CallError> for ProviderError {
    fn from(error: CallError) -> Self {
        let text = format!("cannot {}: {}", error.doing, error.message);
        if error.silent {
            return Self::Unavailable(text);
        }
        for (words, advice) in EXHAUSTED {
            if error.says(words) {
                return Self::Exhausted(format!("{text}; {advice}"));
            }
        }
        if error.says("no such image") {
            return Self::Failed(format!("{text}; run `cargo xtask build`"));
        }
        if CONFLICT.iter().any(|words| error.says(words)) {
            return Self::Conflict(text);
        }
        Self::Failed(text)
    }
}

/// What the engine says when something is used up, and what to do.
const EXHAUSTED: [(&str, &str); 9] = [
    ("no space left on device", "free some disk space (`docker system df` shows who uses it)"),
    ("disk quota exceeded", "free some disk space or raise the quota"),
    ("cannot allocate memory", "free some memory or delete a cluster"),
    ("too many open files", "raise fs.inotify.max_user_instances, fs.file-max and the engine's file limit"),
    ("resource temporarily unavailable", "raise kernel.pid_max and the engine's task limit"),
    ("no available ipv4 addresses", "use a larger VPC"),
    ("could not find an available", "widen the pool of addresses"),
    ("numerical result out of range", "free some kernel resources (network interfaces, queues)"),
    ("exchange full", "a Linux bridge takes 1023 machines: use a second VPC"),
];

/// What the engine says when somebody else has it.
const CONFLICT: [&str; 5] = [
    "address already in use",
    "pool overlaps with other one",
    "already in use by container",
    "already exists",
    "conflicts with network",
];

fn absent(socket: &str) -> String {
    format!("there is no socket {socket}; start it (`systemctl start docker`), or set DOCKER_HOST=unix://PATH")
}

fn unreachable_text(socket: &str, error: &dyn std::error::Error) -> String {
    let text = chain(error);
    if text.contains("ermission denied") {
        return format!("{socket} may not be opened by this user; add it to the group docker, or run as root");
    }
    if text.contains("No such file") {
        return absent(socket);
    }
    if text.contains("onnection refused") {
        return format!("nobody listens on {socket} ({text}); start it (`systemctl start docker`)");
    }
    text
}

/// An error with its causes, because the outer one alone says "client error (Connect)".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(status_code: u16, message: &str) -> ProviderError {
        let error = BollardError::DockerResponseServerError { status_code, message: message.to_owned() };
        CallError::new("start container m1".to_owned(), "/var/run/docker.sock", error).into()
    }

    fn connecting(kind: std::io::ErrorKind, words: &str) -> ProviderError {
        let error = BollardError::IOError { err: std::io::Error::new(kind, words.to_owned()) };
        CallError::new("connect".to_owned(), "/var/run/docker.sock", error).into()
    }

    #[test]
    fn what_is_used_up_is_told_apart() {
        for (message, advice) in [
            ("write /var/lib/docker/x: no space left on device", "disk space"),
            ("fork/exec /proc/self/exe: cannot allocate memory", "memory"),
            ("failed to create watcher: Too many open files", "inotify"),
            ("fork/exec: resource temporarily unavailable", "pid_max"),
            ("adding interface veth1 to bridge br failed: exchange full", "1023"),
        ] {
            let error = explained(500, message);
            assert!(matches!(error, ProviderError::Exhausted(_)), "{error:?}");
            assert!(error.to_string().contains(advice) && error.to_string().contains("m1"), "{error}");
        }
    }

    #[test]
    fn what_others_have_is_a_conflict() {
        for (status, message) in [
            (403, "Address already in use"),
            (403, "Pool overlaps with other one on this address space"),
            (409, "Conflict. The container name \"/m1\" is already in use by container \"abc\"."),
            (409, "network with name n already exists"),
        ] {
            assert!(matches!(explained(status, message), ProviderError::Conflict(_)), "{message}");
        }
    }

    #[test]
    fn a_missing_image_says_how_it_is_made() {
        let error = explained(404, "No such image: sampan-node:1");
        assert!(matches!(&error, ProviderError::Failed(text) if text.contains("cargo xtask build")), "{error:?}");
    }

    #[test]
    fn an_engine_that_does_not_answer_is_unavailable() {
        let refused = connecting(std::io::ErrorKind::ConnectionRefused, "Connection refused (os error 111)");
        let exchanged = explained(400, "client version 1.41 is too old. Minimum supported API version is 1.44");
        let late = CallError::timed_out("start container m1".to_owned(), 90).into();
        for error in [refused, exchanged, late] {
            assert!(matches!(error, ProviderError::Unavailable(_)), "{error:?}");
        }
        for (words, advice) in [
            ("Permission denied (os error 13)", "group docker"),
            ("No such file or directory (os error 2)", "DOCKER_HOST"),
            ("Connection refused (os error 111)", "systemctl start docker"),
        ] {
            let text = unreachable_text("/var/run/docker.sock", &std::io::Error::other(words));
            assert!(text.contains(advice), "{text}");
        }
    }
}
