//! What a Kubernetes cluster is made of: certificates, command lines, configuration files, manifests, kubeconfigs, and
//! how its API is reached.
//!
//! All but [`access`] and [`vault`] is pure: it takes records and returns values. [`control_plane_spec`] and
//! [`worker_spec`] say what a machine must be, the agents make it so. [`access`] speaks to a cluster's API through the
//! tunnel of its control plane's machine; [`vault`] is where secrets meet the store. Decisions about *when* anything
//! happens belong to the controllers, not here.

pub mod access;
mod addons;
mod apply;
mod approval;
mod budgets;
mod connect;
mod containerd;
mod control_plane;
mod drain;
pub mod etcd;
mod etcd_flags;
mod facts;
mod gateway;
mod health;
mod kubeconfig;
mod kubelet;
mod labels;
mod master;
mod members;
mod network;
mod nodes;
pub mod parameters;
mod parts;
mod pki;
mod quantity;
mod reissue;
mod renewal;
mod restore;
mod snapshot;
mod survey;
pub mod user_ca;
pub mod vault;
mod watch;
mod worker;

pub use crate::certificate::CertifiedKey;
pub use addons::{Images, base_manifests};
pub use control_plane::{ControlPlaneInputs, control_plane_spec};
pub use facts::{HostFacts, ProxyBackend, proxy_backend};
pub use kubeconfig::Kubeconfig;
pub use kubelet::max_pods;
pub use labels::{NodeLabels, node_labels};
pub use master::master_spec;
pub(crate) use master::role_taint;
pub use pki::{
    ADMINISTRATORS, LEAF_VALID, NodeCertificates, Pki, TokenKey, generate, node_certificates, reissue, user_certificate,
};
pub(crate) use restore::restore_process;
pub use worker::{WorkerInputs, worker_spec};

/// Suffix of the volume that has etcd's data.
pub const ETCD_VOLUME: &str = "etcd";
/// Volumes of a control plane's machine beside those that every machine has: where it has them, and their suffixes.
pub const CONTROL_PLANE_VOLUMES: [(&str, &str); 3] =
    [("/var/lib/containerd", "containerd"), ("/var/lib/kubelet", "kubelet"), ("/var/lib/etcd", ETCD_VOLUME)];
/// The same of a worker's.
pub const WORKER_VOLUMES: [(&str, &str); 2] = [("/var/lib/containerd", "containerd"), ("/var/lib/kubelet", "kubelet")];

/// Port of every API server on its machine and on the virtual IP.
pub const API_PORT: u16 = 6443;

#[cfg(test)]
mod access_tests;
#[cfg(test)]
pub(crate) mod tests;
