//! Instance types: how many cores and how much memory a name like `ecs.g6.large` stands for.
//!
//! The vendor has hundreds of them; the rule is in the name: the family says how much memory comes with a core, the size
//! how many cores. Old families count sizes differently. A type that is not known to us but well-formed gets the ratio of
//! general-purpose families: it is a limit, not a promise.

use sampan_store::model::{Fault, Outcome};

/// Memory of one core in a general-purpose family, MiB.
const GENERAL_MIB_PER_CORE: u64 = 4096;

/// What a type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceShape {
    /// Virtual cores.
    pub vcpus: u32,
    /// Memory, MiB.
    pub memory_mib: u64,
}

impl InstanceShape {
    /// The smaller of the type and the host, as CPU limit in thousandths of a core and memory limit in bytes.
    pub fn limits(&self, host_cpus: u64, host_memory_bytes: u64) -> (u64, u64) {
        let cpu_millis = u64::from(self.vcpus).min(host_cpus.max(1)) * 1000;
        (cpu_millis, (self.memory_mib * 1024 * 1024).min(host_memory_bytes))
    }

    /// Whether the host is smaller than the type.
    pub fn exceeds(&self, host_cpus: u64, host_memory_bytes: u64) -> bool {
        u64::from(self.vcpus) > host_cpus || self.memory_mib * 1024 * 1024 > host_memory_bytes
    }
}

/// `ecs.g6` of `ecs.g6.large`.
pub fn family(instance_type: &str) -> &str {
    instance_type.rsplit_once('.').map_or(instance_type, |(family, _)| family)
}

/// Reads an instance type; `field` is named in the refusal.
pub fn shape(field: &str, instance_type: &str) -> Outcome<InstanceShape> {
    let wrong = || {
        Fault::invalid(
            field,
            format!("{field}: {instance_type:?} is not an instance type; one looks like ecs.g6.large"),
        )
    };
    let mut parts = instance_type.split('.');
    let (Some("ecs"), Some(family), Some(size), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(wrong());
    };
    let well_formed = !family.is_empty()
        && family.len() <= 32
        && family.starts_with(|c: char| c.is_ascii_lowercase())
        && family.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !well_formed {
        return Err(wrong());
    }
    let vcpus = cores(family, size).ok_or_else(wrong)?;
    Ok(InstanceShape { vcpus, memory_mib: u64::from(vcpus) * mib_per_core(family, size) })
}

/// Families of the first generations, whose sizes start at two cores for `medium`.
fn is_old(family: &str) -> bool {
    matches!(family, "sn1" | "sn2" | "n1" | "n2" | "e3" | "c1" | "c2" | "m1" | "m2" | "s2" | "s3" | "t1" | "s1")
}

fn cores(family: &str, size: &str) -> Option<u32> {
    let old = is_old(family);
    match size {
        "nano" | "micro" | "tiny" | "small" => Some(1),
        "medium" => Some(if old { 2 } else { 1 }),
        "large" => Some(if old { 4 } else { 2 }),
        "xlarge" => Some(if old { 8 } else { 4 }),
        _ => {
            let factor = size.strip_suffix("xlarge")?.parse::<u32>().ok().filter(|n| (1..=256).contains(n))?;
            // In the old families 3xlarge is 16 cores and 7xlarge 32: one core class up each time the size doubles.
            Some(if old { (factor + 1) * 4 } else { factor * 4 })
        }
    }
}

fn mib_per_core(family: &str, size: &str) -> u64 {
    // Families with a suffix say it themselves: c1m2 is 2 GiB a core, lc2m1 one GiB for two cores.
    if let Some(ratio) = family.split('-').skip(1).find_map(ratio_of_suffix) {
        return if size == "nano" { ratio.min(512) } else { ratio };
    }
    let name = family.split('-').next().unwrap_or(family);
    let name = ["ebm", "scc", "hf", "vgn", "sgn"].iter().find_map(|p| name.strip_prefix(p)).unwrap_or(name);
    let gib = match name {
        n if n.starts_with("sn1") || n.starts_with("n1") || n.starts_with("n4") || n.starts_with("cm") => 2,
        n if n.starts_with("sn2") || n.starts_with("mn4") || n.starts_with("n2") => 4,
        n if n.starts_with("se1") || n.starts_with("e3") || n.starts_with("e4") => 8,
        n if n.starts_with("xn4") || n.starts_with("ic") => 1,
        n if n.starts_with("re") => 15,
        n if n.starts_with("gn") => return GENERAL_MIB_PER_CORE,
        n if n.starts_with('c') || n.starts_with('t') => 2,
        n if n.starts_with('r') || n.starts_with('i') => 8,
        _ => return GENERAL_MIB_PER_CORE,
    };
    gib * 1024
}

fn ratio_of_suffix(suffix: &str) -> Option<u64> {
    let rest = suffix.strip_prefix('l').unwrap_or(suffix).strip_prefix('c')?;
    let (cores, memory) = rest.split_once('m')?;
    let (cores, memory) = (cores.parse::<u64>().ok()?, memory.parse::<u64>().ok()?);
    (1..=64).contains(&cores).then_some(())?;
    (1..=64).contains(&memory).then(|| memory * 1024 / cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types() {
        let check = |name: &str, vcpus: u32, gib: u64| {
            assert_eq!(shape("t", name).expect(name), InstanceShape { vcpus, memory_mib: gib * 1024 }, "{name}");
        };
        check("ecs.c5.xlarge", 4, 8);
        check("ecs.c6.large", 2, 4);
        check("ecs.g6.large", 2, 8);
        check("ecs.g7.4xlarge", 16, 64);
        check("ecs.r6.large", 2, 16);
        check("ecs.hfc5.xlarge", 4, 8);
        check("ecs.hfg6.large", 2, 8);
        check("ecs.d1ne.2xlarge", 8, 32);
        check("ecs.n4.large", 2, 4);
        check("ecs.n4.small", 1, 2);
        check("ecs.sn1.medium", 2, 4);
        check("ecs.sn2.3xlarge", 16, 64);
        check("ecs.sn1ne.large", 2, 4);
        check("ecs.t6-c1m2.large", 2, 4);
        check("ecs.t5-lc1m1.small", 1, 1);
        check("ecs.u1-c1m4.xlarge", 4, 16);
        check("ecs.i2.xlarge", 4, 32);
        check("ecs.gn6i-c4g1.xlarge", 4, 16);
        check("ecs.ebmc6.26xlarge", 104, 208);
    }

    #[test]
    fn refusals() {
        for wrong in [
            "",
            "g6.large",
            "ecs.g6",
            "ecs.g6.",
            "ecs..large",
            "ecs.g6.large.x",
            "ecs.g6.huge",
            "ecs.G6.large",
            "ecs.g6.0xlarge",
            "ecs.6g.large",
        ] {
            let fault = shape("worker_instance_types", wrong).expect_err(wrong);
            assert!(fault.message.starts_with("worker_instance_types"), "{}", fault.message);
        }
    }

    #[test]
    fn the_host_limits_the_type() {
        let big = InstanceShape { vcpus: 16, memory_mib: 65536 };
        assert_eq!(big.limits(2, 4 << 30), (2000, 4 << 30));
        assert!(big.exceeds(2, 4 << 30));
        let small = InstanceShape { vcpus: 1, memory_mib: 1024 };
        assert_eq!(small.limits(2, 4 << 30), (1000, 1 << 30));
        assert!(!small.exceeds(2, 4 << 30));
    }

    #[test]
    fn families() {
        assert_eq!(family("ecs.c5.xlarge"), "ecs.c5");
    }
}
