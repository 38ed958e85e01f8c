//! Sticky sessions: a cookie that names a container by an opaque hash.
//!
//! Every router understands every other's cookie, since nothing but the container's id enters the hash. The cookie says
//! when the session began and when it was last seen; it is good for [`LIFE`] in all and [`IDLE`] without a request. A
//! client that forges one reaches a container that it could have been sent to anyway.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};

/// Name of the cookie.
pub(super) const COOKIE: &str = "sampan_session";
/// A session ends so many seconds after it began.
const LIFE: u64 = 8 * 3600;
/// A session ends after so many seconds without a request.
const IDLE: u64 = 30 * 60;
/// The cookie is set again when the last sight it tells of is so old, not with every answer.
const RENEW: u64 = 60;
/// Clocks of nodes may differ by so much.
const SKEW: u64 = 300;

/// Where a session goes and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// Hash of the container's id.
    pub(super) backend: u64,
    began: u64,
    seen: u64,
}

/// The hash by which a session names a container.
pub(super) fn hash(container: &str) -> u64 {
    let digest = Sha256::digest(container.as_bytes());
    digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// The sessions that a request names and that are not over at `now` (seconds since 1970), as sent.
pub(super) fn of(headers: &HeaderMap, now: u64) -> impl Iterator<Item = Session> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
        .filter_map(parse)
        .filter(move |session| session.lives(now))
}

fn parse(text: &str) -> Option<Session> {
    let mut fields = text.split('-').map(|field| {
        let is_plain = (1..=16).contains(&field.len()) && field.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_plain { u64::from_str_radix(field, 16).ok() } else { None }
    });
    let session = Session { backend: fields.next()??, began: fields.next()??, seen: fields.next()?? };
    fields.next().is_none().then_some(session)
}

impl Session {
    /// One that begins now.
    pub(super) fn new(backend: u64, now: u64) -> Self {
        Self { backend, began: now, seen: now }
    }

    fn lives(&self, now: u64) -> bool {
        self.began <= self.seen
            && self.seen <= now + SKEW
            && now.saturating_sub(self.began) < LIFE
            && now.saturating_sub(self.seen) < IDLE
    }

    /// The same session seen now, if the cookie is due again.
    pub(super) fn renewed(self, now: u64) -> Option<Self> {
        (now.saturating_sub(self.seen) >= RENEW).then_some(Self { seen: now, ..self })
    }

    /// `Set-Cookie` for a route's path.
    pub(super) fn cookie(&self, path: &str) -> Option<HeaderValue> {
        let Self { backend, began, seen } = self;
        let age = IDLE.min(LIFE.saturating_sub(seen.saturating_sub(*began)));
        let mut text = String::with_capacity(96 + path.len());
        // Writing to a string does not fail.
        let _ = write!(text, "{COOKIE}={backend:016x}-{began:x}-{seen:x}; Path=");
        text.push_str(if path.is_empty() || path.contains(';') { "/" } else { path });
        let _ = write!(text, "; Max-Age={age}; HttpOnly; SameSite=Lax");
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn sent(cookie: &HeaderValue) -> HeaderMap {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, format!("a=b; {pair};c=d").parse().unwrap());
        headers
    }

    #[test]
    fn a_session_is_found_again_until_it_is_over() {
        let session = Session::new(hash("0123abcd"), NOW);
        let headers = sent(&session.cookie("/shop").unwrap());
        assert_eq!(of(&headers, NOW + IDLE - 1).collect::<Vec<_>>(), [session]);
        assert_eq!(of(&headers, NOW + IDLE).count(), 0);
        assert_eq!(session.renewed(NOW + RENEW - 1), None);
        let mut session = session;
        let mut now = NOW;
        while now + IDLE / 2 < NOW + LIFE {
            now += IDLE / 2;
            session = session.renewed(now).unwrap();
            let headers = sent(&session.cookie("/shop").unwrap());
            assert_eq!(of(&headers, now).count(), 1);
        }
        assert_eq!(of(&sent(&session.cookie("/").unwrap()), NOW + LIFE).count(), 0);
    }

    #[test]
    fn the_cookie_is_for_its_path_only_and_ends_with_the_session() {
        let text = |session: Session, path| session.cookie(path).unwrap().to_str().unwrap().to_owned();
        let session = Session::new(1, NOW);
        assert!(text(session, "/api").ends_with("; Path=/api; Max-Age=1800; HttpOnly; SameSite=Lax"));
        let old = Session { seen: NOW + LIFE - 60, ..session };
        assert!(text(old, "").ends_with("; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"));
        assert!(!text(session, "/a;Domain=x").contains("Domain"));
    }

    proptest! {
        #[test]
        fn foreign_cookies_are_nothing(text in "[ -~]{0,60}") {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, format!("{COOKIE}={text}").parse().unwrap());
            for session in of(&headers, NOW) {
                prop_assert!(session.lives(NOW));
            }
        }
    }
}
