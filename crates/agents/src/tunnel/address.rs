//! What the server may ask an agent to connect to.

use std::{fmt, net::Ipv6Addr, path::PathBuf, str::FromStr};

const ADDRESS_BYTES_MAX: usize = 300;

/// A target as the machine sees it: `127.0.0.1:6443`, `[::1]:80`, `name:443` or `unix:/run/docker.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialAddress {
    /// TCP.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port, not 0.
        port: u16,
    },
    /// A Unix socket, by absolute path.
    Unix(PathBuf),
}

/// The text is not an address that can be dialled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not host:port or unix:/path")]
pub struct BadAddress(String);

impl FromStr for DialAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.chars().take(ADDRESS_BYTES_MAX).collect());
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(bad());
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return if is_socket_path(path) { Ok(Self::Unix(PathBuf::from(path))) } else { Err(bad()) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().map_err(|_| bad())?.to_string(),
            None if is_host_name(host) => host.to_owned(),
            None => return Err(bad()),
        };
        Ok(Self::Tcp { host, port })
    }
}

impl fmt::Display for DialAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn is_host_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// Only characters that need no escaping in a query.
fn is_socket_path(path: &str) -> bool {
    path.starts_with('/')
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'-' | b'_'))
        && !path.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, expected: Option<&str>) {
        let shown = text.parse::<DialAddress>().ok().map(|address| address.to_string());
        assert_eq!(shown.as_deref(), expected, "{text}");
    }

    #[test]
    fn addresses() {
        check("127.0.0.1:6443", Some("127.0.0.1:6443"));
        check("node-1.local:80", Some("node-1.local:80"));
        check("[::1]:80", Some("[::1]:80"));
        check("unix:/run/docker.sock", Some("unix:/run/docker.sock"));
        for bad in
            ["", ":80", "a", "a:", "a:0", "a:65536", "a:+1", "a b:1", "::1:80", "[::1:80", "unix:run", "unix:/a/../b"]
        {
            check(bad, None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,400}") {
            let _ = text.parse::<DialAddress>();
        }

        #[test]
        fn what_is_shown_parses_to_the_same(host in "[a-z0-9.-]{1,40}", port in 1u16..) {
            let address: DialAddress = format!("{host}:{port}").parse().unwrap();
            prop_assert_eq!(address.to_string().parse::<DialAddress>().unwrap(), address);
        }

        #[test]
        fn ip_v6_round_trips(ip in any::<u128>(), port in 1u16..) {
            let text = format!("[{}]:{port}", std::net::Ipv6Addr::from(ip));
            let address: DialAddress = text.parse().unwrap();
            prop_assert_eq!(address.to_string(), text);
        }
    }
}
