//! Which host and path prefix a request belongs to. Pure.
//!
//! Hosts are compared without case, port and trailing dot. Prefixes are compared by whole segments of the path as it was
//! sent: `/api` (and `/api/`, which is the same prefix) covers `/api`, `/api/` and `/api/x`, not `/apix`. Nothing is
//! decoded or resolved (`%2F`, `..`): what is forwarded is what was matched.

use std::borrow::Cow;

/// Longest host that is looked up; DNS has none longer.
const HOST_MAX: usize = 255;

/// A host as routes know it; `None` if the text is no authority of a request.
pub(super) fn host_of(authority: &str) -> Option<Cow<'_, str>> {
    let (host, port) = split_port(authority)?;
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > HOST_MAX || !host.bytes().all(is_host_byte) {
        return None;
    }
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(Cow::Owned(host.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(host))
}

/// The port that an authority names.
pub(super) fn port_of(authority: &str) -> Option<&str> {
    split_port(authority).map(|(_, port)| port).filter(|port| !port.is_empty())
}

fn split_port(authority: &str) -> Option<(&str, &str)> {
    if authority.starts_with('[') {
        let end = authority.find(']')? + 1;
        let (host, rest) = authority.split_at(end);
        return match rest {
            "" => Some((host, "")),
            _ => rest.strip_prefix(':').map(|port| (host, port)),
        };
    }
    Some(authority.split_once(':').unwrap_or((authority, "")))
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']' | b'*')
}

/// A path prefix without its trailing slashes; everything is covered by the empty one.
pub(super) fn prefix_of(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// Whether a prefix (of [`prefix_of`]) covers a path.
pub(super) fn covers(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || prefix.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_lose_case_port_and_dot() {
        for (authority, host) in [
            ("Example.COM:8080", "example.com"),
            ("example.com.", "example.com"),
            ("example.com", "example.com"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("[FE80::1]", "[fe80::1]"),
            ("a_b.c", "a_b.c"),
        ] {
            assert_eq!(host_of(authority).as_deref(), Some(host), "{authority}");
        }
        for bad in ["", ".", ":80", "a:b", "user@host", "a b", "a/b", "[::1", "[::1]x", "ex\u{e4}mple"] {
            assert_eq!(host_of(bad), None, "{bad}");
        }
        assert_eq!((port_of("a:81"), port_of("a"), port_of("[::1]:9")), (Some("81"), None, Some("9")));
    }

    #[test]
    fn prefixes_are_whole_segments() {
        let api = prefix_of("/api/");
        assert_eq!(api, "/api");
        for path in ["/api", "/api/", "/api/x"] {
            assert!(covers(api, path), "{path}");
        }
        for path in ["/apix", "/ap", "/", "/x/api", "/API"] {
            assert!(!covers(api, path), "{path}");
        }
        assert!(covers(prefix_of("/"), "/anything") && covers(prefix_of("/"), "*"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in ".{0,40}") {
            if let Some(host) = host_of(&text) {
                prop_assert_eq!(host_of(&host).unwrap(), host.clone());
                prop_assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase()));
            }
            let _ = port_of(&text);
        }

        #[test]
        fn a_prefix_covers_itself_and_what_is_below(prefix in "(/[a-z%.]{1,4}){0,3}/?", below in "(/[a-z]{0,4}){0,3}") {
            let prefix = prefix_of(&prefix);
            let below = format!("{prefix}{below}");
            prop_assert!(covers(prefix, prefix));
            prop_assert!(covers(prefix, &below));
            let sibling = format!("{prefix}x");
            prop_assert_eq!(covers(prefix, &sibling), prefix.is_empty());
        }
    }
}
