//! Ids in the shapes that clients of the API know: `c…` clusters, `np…` pools, `i-…` machines, `T-…` tasks.
//!
//! All are random, from the operating system's generator: ids are never given twice, not even after a database was
//! restored from a backup, and none can be guessed from another.

use std::fmt::Write as _;

fn random_hex(bytes: usize) -> String {
    let mut raw = vec![0u8; bytes];
    // The operating system's generator does not fail after boot; if it does, nothing here can be trusted.
    #[allow(clippy::expect_used)]
    aws_lc_rs::rand::fill(&mut raw).expect("the operating system's random generator works");
    raw.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `c` and 32 hexadecimal digits.
pub fn new_cluster_id() -> String {
    format!("c{}", random_hex(16))
}

/// `np` and 32 hexadecimal digits.
pub fn new_node_pool_id() -> String {
    format!("np{}", random_hex(16))
}

/// `i-` and 20 hexadecimal digits.
pub fn new_machine_id() -> String {
    format!("i-{}", random_hex(10))
}

/// `T-` and 24 hexadecimal digits.
pub fn new_task_id() -> String {
    format!("T-{}", random_hex(12))
}

/// The id of a report of pre-checks: 32 hexadecimal digits.
pub fn new_report_id() -> String {
    random_hex(16)
}

/// `<prefix>-` and 20 hexadecimal digits, for `vpc`, `vsw`, `sg`, `lb`, `rg`.
pub fn new_resource_id(prefix: &str) -> String {
    format!("{prefix}-{}", random_hex(10))
}

/// A random UUID (version 4) in upper case, the form of request and event ids.
pub fn new_uuid() -> String {
    let hex = random_hex(16).to_uppercase();
    format!("{}-{}-4{}-A{}-{}", &hex[0..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// 13 digits and small letters, as the ids of triggers are.
pub fn new_trigger_id() -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    random_hex(13)
        .as_bytes()
        .chunks(2)
        .map(|pair| {
            let value = pair.iter().fold(0u8, |value, digit| value.wrapping_mul(16).wrapping_add(hex_value(*digit)));
            char::from(DIGITS[usize::from(value % 32)])
        })
        .collect()
}

fn hex_value(digit: u8) -> u8 {
    char::from(digit).to_digit(16).map_or(0, |value| value as u8)
}

/// `bytes` random bytes as lower-case hexadecimal digits.
pub fn new_token(bytes: usize) -> String {
    random_hex(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_hex(text: &str, length: usize) -> bool {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    #[test]
    fn ids_have_their_shapes() {
        assert!(new_cluster_id().strip_prefix('c').is_some_and(|rest| is_hex(rest, 32)));
        assert!(new_node_pool_id().strip_prefix("np").is_some_and(|rest| is_hex(rest, 32)));
        assert!(new_machine_id().strip_prefix("i-").is_some_and(|rest| is_hex(rest, 20)));
        assert!(new_task_id().strip_prefix("T-").is_some_and(|rest| is_hex(rest, 24)));
        for prefix in ["vpc", "vsw", "sg", "lb", "rg"] {
            let id = new_resource_id(prefix);
            assert!(id.strip_prefix(&format!("{prefix}-")).is_some_and(|rest| is_hex(rest, 20)), "{id}");
        }
        assert!(is_hex(&new_token(16), 32));
        assert_eq!(new_token(0), "");
    }

    #[test]
    fn uuids_are_version_four_in_upper_case() {
        for _ in 0..100 {
            let uuid = new_uuid();
            let parts: Vec<_> = uuid.split('-').collect();
            assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12], "{uuid}");
            assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'A', 'B']), "{uuid}");
            assert!(is_hex(&parts.concat().to_lowercase(), 32) && uuid == uuid.to_uppercase(), "{uuid}");
        }
    }

    #[test]
    fn no_id_comes_twice() {
        let ids: std::collections::HashSet<_> = (0..10_000).map(|_| new_machine_id()).collect();
        assert_eq!(ids.len(), 10_000);
    }
}
