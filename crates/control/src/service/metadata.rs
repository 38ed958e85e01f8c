//! Which Kubernetes versions there are.

use sampan_store::model::{Fault, Outcome};

use super::{
    RequestContext, Service, fields,
    version::{self, Version},
};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct VersionsWanted {
    /// `Region`; required.
    pub region: Option<String>,
    /// `ClusterType`; required.
    pub cluster_type: Option<String>,
    /// `KubernetesVersion`.
    pub kubernetes_version: Option<String>,
    /// `Profile`.
    pub profile: Option<String>,
    /// `runtime`.
    pub runtime: Option<String>,
}

/// A version that clusters can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionOffer {
    /// It.
    pub version: Version,
    /// Versions it can be upgraded to, lowest first.
    pub upgrades: Vec<Version>,
}

impl Service {
    /// The versions of this installation, newest first. Cluster types that it does not offer have none.
    ///
    /// # Errors
    /// MissingParameter and InvalidParameter of the query's fields.
    pub fn kubernetes_versions(&self, _ctx: &RequestContext, wanted: &VersionsWanted) -> Outcome<Vec<VersionOffer>> {
        fields::required("Region", wanted.region.as_deref())?;
        let cluster_type = fields::required("ClusterType", wanted.cluster_type.as_deref())?;
        fields::one_of("ClusterType", cluster_type, &["Kubernetes", "ManagedKubernetes", "Ask", "ExternalKubernetes"])?;
        let profile = fields::given(&wanted.profile).unwrap_or("Default");
        fields::one_of("Profile", profile, &["Default", "Serverless", "Edge"])?;
        let runtime = fields::given(&wanted.runtime).unwrap_or("containerd");
        fields::one_of("runtime", runtime, &["docker", "containerd", "Sandboxed-Container.runv"])?;
        // Either name of the container runtime gets what creating a cluster with it gets: containerd.
        let is_sandboxed = runtime == "Sandboxed-Container.runv";
        if cluster_type != "ManagedKubernetes" || profile != "Default" || is_sandboxed {
            return Ok(Vec::new());
        }
        let only = fields::given(&wanted.kubernetes_version)
            .map(|text| version::parse("KubernetesVersion", text))
            .transpose()?;
        let mut known = self.settings.kubernetes_versions.clone();
        known.sort_unstable();
        known.dedup();
        if known.is_empty() {
            return Err(Fault::unavailable(
                "this installation has no Kubernetes version to run; build one and restart the server",
            ));
        }
        let matches = |v: &Version| {
            only.is_none_or(|w| {
                (w.major, w.minor) == (v.major, v.minor) && w.patch.is_none_or(|patch| patch == v.patch)
            })
        };
        let upgrades = |from: &Version| {
            known
                .iter()
                .filter(|to| *to > from && to.major == from.major && to.minor <= from.minor + 1)
                .copied()
                .collect()
        };
        Ok(known
            .iter()
            .rev()
            .filter(|v| matches(v))
            .map(|v| VersionOffer { version: *v, upgrades: upgrades(v) })
            .collect())
    }
}
