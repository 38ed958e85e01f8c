//! The server of a bucket, out of the option `url`.

use std::net::{IpAddr, Ipv6Addr};

use crate::volumes::options::Quoted;

const URL_MAX: usize = 300;
/// Whose buckets are names below the server's; everybody else takes the bucket at the beginning of the path.
const BUCKET_IN_NAME: [&str; 3] = ["aliyuncs.com", "aliyun-inc.com", "amazonaws.com"];

/// Where requests go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// With scheme, without path.
    pub(super) url: String,
    /// Whether the bucket is the first part of the path instead of the host's name.
    pub(super) path_style: bool,
}

impl Endpoint {
    /// Reads `[http[s]://]host[:port][/]`. Without a scheme it is `http`, as ossfs has it.
    pub(super) fn parse(url: &str, bucket: &str) -> Result<Self, String> {
        let wrong =
            |why: &str| format!("the option url: {} {why}; it must be [http://|https://]host[:port]", Quoted(url));
        if url.len() > URL_MAX {
            return Err(wrong("is too long"));
        }
        let lower = url.to_ascii_lowercase();
        let (scheme, rest) = match lower.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some(_) => return Err(wrong("is neither http nor https")),
            None => ("http", lower.as_str()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err(wrong("has more than a host and a port"));
        }
        let (host, port) = split_port(authority).ok_or_else(|| wrong("has a port that is none"))?;
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        if address.is_none() && !is_name(host) {
            return Err(wrong("has no host"));
        }
        let in_name = address.is_none() && BUCKET_IN_NAME.iter().any(|domain| is_below(host, domain));
        // The console also shows the bucket's own name at that server.
        let own = host.strip_prefix(bucket).and_then(|rest| rest.strip_prefix('.')).filter(|_| in_name);
        let host = own.filter(|server| BUCKET_IN_NAME.iter().any(|domain| is_below(server, domain))).unwrap_or(host);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        // One certificate is for one level of names, so a dot in the bucket's name would break it.
        let path_style = !in_name || (scheme == "https" && bucket.contains('.') && is_below(host, "amazonaws.com"));
        Ok(Self { url: format!("{scheme}://{host}{port}"), path_style })
    }
}

fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    if authority.starts_with('[') {
        let (host, rest) = authority.split_at(authority.find(']')? + 1);
        host.get(1..host.len() - 1)?.parse::<Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(number(port)?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, Some(number(port)?))),
        None => Some((authority, None)),
    }
}

fn number(port: &str) -> Option<u16> {
    port.parse().ok().filter(|number| *number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}
