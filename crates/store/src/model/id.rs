//! Ids in the shapes that clients of the API know: `c…` clusters, `np…` pools, `i-…` machines, `T-…` tasks.

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

/// `<prefix>-` and 20 hexadecimal digits, for `vpc`, `vsw`, `sg`, `lb`, `rg`.
pub fn new_resource_id(prefix: &str) -> String {
    format!("{prefix}-{}", random_hex(10))
}

/// A random UUID (version 4) in upper case, the form of request and event ids.
pub fn new_uuid() -> String {
    let hex = random_hex(16).to_uppercase();
    format!("{}-{}-4{}-A{}-{}", &hex[0..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

/// `bytes` random bytes as lower-case hexadecimal digits.
pub fn new_token(bytes: usize) -> String {
    random_hex(bytes)
}
