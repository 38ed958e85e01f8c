//! Memory that stays free on the host: another machine is not made when too little is available, because the kernel
//! would end processes of machines that serve already, picked by itself.

use crate::ProviderError;

const MEBIBYTE: u64 = 1 << 20;

/// Refuses when less than `reserve_mib` MiB of memory is available on this host, which is the engine's: only local
/// engines are used. Where the kernel does not say, nothing is refused.
pub(super) fn check(machine: &str, reserve_mib: u64) -> Result<(), ProviderError> {
    match available_memory() {
        Some(bytes) => judge(machine, bytes / MEBIBYTE, reserve_mib),
        None => Ok(()),
    }
}

fn judge(machine: &str, available_mib: u64, reserve_mib: u64) -> Result<(), ProviderError> {
    if available_mib >= reserve_mib {
        return Ok(());
    }
    Err(ProviderError::Exhausted(format!(
        "cannot create machine {machine}: the host has only {available_mib} MiB of memory available, and another machine \
         is made from {reserve_mib} MiB on; free some memory, delete a cluster, or lower docker.memory_reserve_mib in the \
         server's configuration"
    )))
}

/// Memory of this host, in bytes, that the kernel gives away without swapping; `None` where it does not say.
pub fn available_memory() -> Option<u64> {
    available_bytes(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let text = "MemTotal:       24683520 kB\nMemFree:  1 kB\nMemAvailable:   22845440 kB\n";
        assert_eq!(available_bytes(text), Some(22_845_440 * 1024));
        for unknown in ["", "MemTotal: 5 kB\n", "MemAvailable: much\n", "MemAvailable:\n"] {
            assert_eq!(available_bytes(unknown), None, "{unknown:?}");
        }
    }

    #[test]
    fn too_little_memory_is_said_with_figures() {
        assert!(judge("m1", 512, 512).is_ok());
        assert!(judge("m1", 0, 0).is_ok());
        let error = judge("m1", 100, 512).unwrap_err();
        assert!(
            matches!(&error, ProviderError::Exhausted(text) if text.contains("100 MiB") && text.contains("512 MiB"))
        );
    }

    #[test]
    fn a_host_never_has_all_the_memory_there_could_be() {
        assert!(check("m1", 0).is_ok());
        assert!(matches!(check("m1", u64::MAX), Err(ProviderError::Exhausted(_))));
    }
}
