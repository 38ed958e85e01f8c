//! Names in the engine. Each follows from an id that is stored before the thing is made, so a re-run finds it.

use sha2::{Digest as _, Sha256};

/// The longest name of a network interface that Linux takes.
const BRIDGE_LENGTH_MAX: usize = 15;

/// Names of one installation's things.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: String,
    installation_id: String,
}

impl Names {
    /// Names of that installation.
    pub fn new(installation_id: &str) -> Self {
        Self { prefix: format!("sampan-{installation_id}-"), installation_id: installation_id.to_owned() }
    }

    /// Container of a machine.
    pub fn machine(&self, machine_id: &str) -> String {
        format!("{}{machine_id}", self.prefix)
    }

    /// Container of the balancer.
    pub fn balancer(&self) -> String {
        format!("{}balancer", self.prefix)
    }

    /// Container of the image registry.
    pub fn registry(&self) -> String {
        format!("{}registry", self.prefix)
    }

    /// Network of a VPC.
    pub fn network(&self, vpc_id: &str) -> String {
        format!("{}{vpc_id}", self.prefix)
    }

    /// Bridge of a VPC on the host: `sp` and a short hash.
    pub fn bridge(&self, vpc_id: &str) -> String {
        let digest = Sha256::digest(format!("{}/{vpc_id}", self.installation_id));
        let hex = digest.iter().fold("sp".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        hex.chars().take(BRIDGE_LENGTH_MAX).collect()
    }

    /// Volume that a cluster's machines share.
    pub fn shared_volume(&self, cluster_id: &str) -> String {
        format!("{}{cluster_id}-shared", self.prefix)
    }

    /// The cluster id in the name of such a volume.
    pub fn cluster_id_of_volume<'a>(&self, volume: &'a str) -> Option<&'a str> {
        self.id_of(volume)?.strip_suffix("-shared").filter(|id| id.starts_with('c') && !id.contains('-'))
    }

    /// The id in the name of one of our containers or networks.
    pub fn id_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(&self.prefix).filter(|id| !id.is_empty())
    }

    /// The machine id in the name of one of our volumes, `<container>-<suffix>`.
    pub fn machine_id_of_volume<'a>(&self, volume: &'a str) -> Option<&'a str> {
        let rest = self.id_of(volume)?;
        let digits = rest.strip_prefix("i-")?;
        let length = digits.find('-')?;
        (length > 0).then(|| &rest[.."i-".len() + length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_ids() {
        let names = Names::new("k3x9");
        assert_eq!(names.machine("i-12"), "sampan-k3x9-i-12");
        assert_eq!(names.network("vpc-7"), "sampan-k3x9-vpc-7");
        assert_eq!(names.id_of("sampan-k3x9-i-12"), Some("i-12"));
        assert_eq!(names.id_of("sampan-other-i-12"), None);
        assert_eq!(names.machine_id_of_volume("sampan-k3x9-i-12-etcd"), Some("i-12"));
        assert_eq!(names.machine_id_of_volume("sampan-k3x9-i-12"), None);
        assert_eq!(names.machine_id_of_volume("sampan-k3x9-balancer-x"), None);
        assert_eq!(names.cluster_id_of_volume(&names.shared_volume("c12")), Some("c12"));
        assert_eq!(names.machine_id_of_volume(&names.shared_volume("c12")), None);
        assert_eq!(names.cluster_id_of_volume("sampan-k3x9-i-12-shared"), None);
    }

    #[test]
    fn bridges_are_short_and_differ() {
        let one = Names::new("a").bridge("vpc-1");
        assert_eq!(one.len(), BRIDGE_LENGTH_MAX);
        assert_ne!(one, Names::new("b").bridge("vpc-1"));
        assert_ne!(one, Names::new("a").bridge("vpc-2"));
    }
}
