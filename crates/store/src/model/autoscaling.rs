//! How a cluster's node pools scale by themselves (catalogue 9.17).

use serde::{Deserialize, Serialize};

/// `expander`: which of several pools that would help gets the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expander {
    /// The one that leaves the least unused.
    #[default]
    LeastWaste,
    /// Any.
    Random,
    /// The one that most pods fit on.
    MostPods,
    /// The one that stands highest in the cluster's own list.
    Priority,
}

impl Expander {
    /// The API's words.
    pub const WORDS: [&str; 4] = ["least-waste", "random", "most-pods", "priority"];

    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeastWaste => "least-waste",
            Self::Random => "random",
            Self::MostPods => "most-pods",
            Self::Priority => "priority",
        }
    }

    /// By the API's word.
    pub fn named(word: &str) -> Option<Self> {
        match word {
            "least-waste" => Some(Self::LeastWaste),
            "random" => Some(Self::Random),
            "most-pods" => Some(Self::MostPods),
            "priority" => Some(Self::Priority),
            _ => None,
        }
    }
}

/// The autoscaling configuration of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AutoscalingConfig {
    /// `cool_down_duration`: a node is considered for removal when it is so old.
    pub cool_down_seconds: u32,
    /// `unneeded_duration`: a node is removed when it was not needed for so long.
    pub unneeded_seconds: u32,
    /// `utilization_threshold`: below this share of requests a node may be unneeded.
    pub utilization_threshold: f64,
    /// `gpu_utilization_threshold`: the same of GPUs, for nodes that have some.
    pub gpu_utilization_threshold: f64,
    /// `scan_interval`: the cluster is looked at so often at most.
    pub scan_interval_seconds: u32,
    /// `scale_down_enabled`: nodes are removed at all.
    pub scale_down_enabled: bool,
    /// `expander`.
    pub expander: Expander,
}

impl Default for AutoscalingConfig {
    fn default() -> Self {
        Self {
            cool_down_seconds: 600,
            unneeded_seconds: 600,
            utilization_threshold: 0.5,
            gpu_utilization_threshold: 0.5,
            scan_interval_seconds: 30,
            scale_down_enabled: true,
            expander: Expander::default(),
        }
    }
}
