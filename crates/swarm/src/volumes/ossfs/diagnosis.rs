//! Why `s3fs` ended, out of what it wrote.

use std::collections::VecDeque;

/// Lines kept of what is not understood.
const REST_MAX: usize = 4;
const WORDS_MAX: usize = 400;

/// What was understood so far; of bounded size.
#[derive(Debug, Default)]
pub(super) struct Diagnosis {
    server: Option<String>,
    transport: Option<String>,
    verdict: Option<String>,
    rest: VecDeque<String>,
}

impl Diagnosis {
    /// Takes in one line.
    pub(super) fn read(&mut self, line: &str) {
        if self.server.is_none()
            && let Some(code) = between(line, "<Code>", "</Code>")
        {
            // The first one counts: then s3fs tries an older signature, and what the server says about that misleads.
            let message = between(line, "<Message>", "</Message>").unwrap_or_default();
            self.server = Some(clean(&format!("{code}: {message}")));
        }
        if let Some((_, code)) = line.split_once("### CURLE_") {
            self.transport = Some(transport(code.trim()));
        } else if let Some((_, rest)) = line.split_once("[CRT] ") {
            let rest = rest.split_once("): ").map_or(rest, |(_, rest)| rest);
            if !rest.starts_with("change debug level") && !rest.starts_with("Failed to connect by sigv4") {
                self.verdict = Some(clean(rest.split(" - result of checking").next().unwrap_or(rest)));
            }
        } else if !line.contains("[INF]") && !line.contains("[ERR]") && !line.contains('<') && !line.trim().is_empty() {
            if self.rest.len() == REST_MAX {
                self.rest.pop_front();
            }
            self.rest.push_back(clean(line));
        }
    }

    /// Whether the other side was not reached, which may be better later.
    pub(super) fn is_passing(&self) -> bool {
        self.server.is_none() && self.transport.is_some()
    }

    /// The reason, if it left one.
    pub(super) fn words(&self) -> Option<String> {
        let rest: Vec<&str> = self.rest.iter().map(String::as_str).collect();
        match (&self.server, &self.transport, &self.verdict) {
            (Some(server), _, _) => Some(format!("the server refuses: {server}")),
            (None, Some(transport), _) => Some(transport.clone()),
            (None, None, Some(verdict)) => Some(verdict.clone()),
            (None, None, None) if rest.is_empty() => None,
            (None, None, None) => Some(clean(&rest.join("; "))),
        }
    }
}

/// What a running process complains of, if the line is a complaint.
pub(super) fn complaint(line: &str) -> Option<String> {
    let complaint = ["[ERR] ", "[CRT] "].iter().find_map(|level| line.split_once(level)).map(|(_, rest)| clean(rest));
    // The first is none; the second comes with every list of objects that is complete.
    complaint.filter(|words| !words.contains("change debug level") && !words.contains("marker_xp->nodesetval is empty"))
}

fn between<'a>(line: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    line.split_once(begin)?.1.split_once(end).map(|(inner, _)| inner)
}

/// curl's codes that a wrong `url` leads to, in words.
fn transport(code: &str) -> String {
    let words = match code {
        "COULDNT_RESOLVE_HOST" => "the name of the server cannot be resolved",
        "COULDNT_CONNECT" => "the server cannot be reached: nothing answers at that address and port",
        "OPERATION_TIMEDOUT" => "the server does not answer in time",
        "SSL_CONNECT_ERROR" => "no TLS connection: is the server one for http?",
        "SSL_CACERT" | "PEER_FAILED_VERIFICATION" => "the server's certificate is not one that this machine trusts",
        "GOT_NOTHING" | "RECV_ERROR" => "the server breaks off: is it one for https?",
        _ => return format!("the connection to the server fails ({})", clean(&code.to_ascii_lowercase())),
    };
    words.to_owned()
}

fn clean(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect();
    text.trim().trim_end_matches('.').to_owned()
}
