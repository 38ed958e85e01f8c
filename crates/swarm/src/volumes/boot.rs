//! Which run of the machine this is.

use std::fs;

/// Field of `/proc/<pid>/stat` after the name's closing parenthesis: when the process started.
const START_TIME: usize = 19;

/// The same while the machine runs, another after it was started anew: containers of a machine that stopped use nothing.
pub(super) fn identity() -> String {
    // The kernel's own number is not enough: a machine may be a container, which starts anew on a running kernel.
    let kernel = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let first = fs::read_to_string("/proc/1/stat").unwrap_or_default();
    let fields = first.rsplit_once(')').map_or("", |(_, fields)| fields);
    let started = fields.split_whitespace().nth(START_TIME).unwrap_or("0");
    format!("{}/{started}", kernel.trim())
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_the_same_while_the_machine_runs() {
        let identity = super::identity();
        assert_eq!(identity, super::identity());
        assert!(identity.len() > 36 && !identity.ends_with("/0"), "{identity}");
    }
}
