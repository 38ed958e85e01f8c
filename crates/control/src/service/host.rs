//! Where the host gives less than was asked for.

use sampan_store::model::ProxyMode;

use super::{Service, change::Notice, instance_type};
use crate::kubernetes::{ProxyBackend, proxy_backend};

impl Service {
    /// Says when the host is smaller than an instance type; each type once.
    pub(super) fn size_notices<'a>(&self, instance_types: impl IntoIterator<Item = &'a String>) -> Vec<Notice> {
        let Some(host) = self.host.get().filter(|host| host.cpus > 0 && host.memory_bytes > 0) else {
            return Vec::new();
        };
        let mut said: Vec<Notice> = Vec::new();
        for name in instance_types {
            // A type that cannot be read was refused before.
            let Ok(shape) = instance_type::shape("instance_type", name) else { continue };
            if !shape.exceeds(host.cpus, host.memory_bytes) {
                continue;
            }
            let text = format!(
                "the host has {} cores and {} MiB of memory, less than {name} ({} cores, {} MiB); the smaller ones hold",
                host.cpus,
                host.memory_bytes / (1024 * 1024),
                shape.vcpus,
                shape.memory_mib
            );
            let notice = Notice::new("InstanceTypeLimited", text);
            if !said.contains(&notice) {
                said.push(notice);
            }
        }
        said
    }

    /// Says when kube-proxy works in another way than asked for.
    pub(super) fn proxy_notice(&self, wanted: ProxyMode) -> Option<Notice> {
        let backend = proxy_backend(wanted, self.host.get()?);
        let as_asked = match wanted {
            ProxyMode::Iptables => backend == ProxyBackend::Iptables,
            ProxyMode::Ipvs => backend == ProxyBackend::Ipvs,
        };
        let text = format!("this kernel has no IPVS; kube-proxy works with {} instead", backend.as_str());
        (!as_asked).then(|| Notice::new("ProxyModeReplaced", text))
    }
}
