//! Parameters of the control plane's components that users may set (catalogue 14.4): which there are, and which values each
//! takes. What is not in the list could break the cluster's own arrangement, or let its users out of it.

use std::{ops::RangeInclusive, time::Duration};

use sampan_store::model::{Fault, Outcome};

/// Name of the API server among the components.
pub const API_SERVER: &str = "kube-apiserver";
/// Name of the controller manager.
pub const CONTROLLER_MANAGER: &str = "kube-controller-manager";
/// Name of the scheduler.
pub const SCHEDULER: &str = "kube-scheduler";

/// The components that have parameters.
pub const COMPONENTS: [&str; 3] = [API_SERVER, CONTROLLER_MANAGER, SCHEDULER];

/// Longest value, in bytes.
const VALUE_LENGTH_MAX: usize = 2048;
/// Most entries of a list.
const ENTRIES_MAX: usize = 100;
/// Ports of services are not below this one: the nodes' own services are there.
const NODE_PORT_MIN: u16 = 20_000;
/// The plug-in without which kubelets could change each other's nodes.
const OWN_ADMISSION: &str = "NodeRestriction";

/// Admission plug-ins that need no configuration file.
const ADMISSION_PLUGINS: [&str; 12] = [
    "AlwaysPullImages",
    "DenyServiceExternalIPs",
    "ExtendedResourceToleration",
    "LimitPodHardAntiAffinityTopology",
    "NamespaceAutoProvision",
    "NamespaceExists",
    OWN_ADMISSION,
    "OwnerReferencesPermissionEnforcement",
    "PodNodeSelector",
    "PodTolerationRestriction",
    "RuntimeClass",
    "TaintNodesByCondition",
];

/// What values a parameter takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A whole number.
    Whole(RangeInclusive<u64>),
    /// A number with a point.
    Decimal(RangeInclusive<f64>),
    /// `30s`, `1m30s`; bounds in seconds.
    Time(RangeInclusive<u64>),
    /// `true` or `false`.
    Flag,
    /// `Name=true,Other=false`. Which names there are only the component knows.
    Gates,
    /// `30000-32767`.
    Ports,
    /// Admission plug-ins, comma separated.
    Admission,
}

/// A parameter that may be set.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Name of the flag.
    pub name: &'static str,
    /// Its values.
    pub kind: Kind,
}

const fn whole(name: &'static str, range: RangeInclusive<u64>) -> Parameter {
    Parameter { name, kind: Kind::Whole(range) }
}

const fn decimal(name: &'static str, range: RangeInclusive<f64>) -> Parameter {
    Parameter { name, kind: Kind::Decimal(range) }
}

const fn time(name: &'static str, seconds: RangeInclusive<u64>) -> Parameter {
    Parameter { name, kind: Kind::Time(seconds) }
}

const fn other(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind }
}

const API_SERVER_PARAMETERS: [Parameter; 15] = [
    whole("max-requests-inflight", 1..=10_000),
    whole("max-mutating-requests-inflight", 1..=10_000),
    time("request-timeout", 10..=600),
    whole("min-request-timeout", 60..=86_400),
    whole("default-watch-cache-size", 0..=100_000),
    time("event-ttl", 60..=604_800),
    decimal("goaway-chance", 0.0..=0.02),
    whole("default-not-ready-toleration-seconds", 0..=86_400),
    whole("default-unreachable-toleration-seconds", 0..=86_400),
    whole("http2-max-streams-per-connection", 0..=10_000),
    other("service-node-port-range", Kind::Ports),
    other("enable-admission-plugins", Kind::Admission),
    other("feature-gates", Kind::Gates),
    other("profiling", Kind::Flag),
    whole("v", 0..=10),
];

const CONTROLLER_MANAGER_PARAMETERS: [Parameter; 25] = [
    time("node-monitor-period", 1..=60),
    time("node-monitor-grace-period", 20..=600),
    time("node-startup-grace-period", 20..=600),
    decimal("node-eviction-rate", 0.0..=100.0),
    decimal("secondary-node-eviction-rate", 0.0..=100.0),
    decimal("unhealthy-zone-threshold", 0.0..=1.0),
    whole("large-cluster-size-threshold", 0..=5_000),
    time("horizontal-pod-autoscaler-sync-period", 1..=300),
    decimal("horizontal-pod-autoscaler-tolerance", 0.0..=1.0),
    time("horizontal-pod-autoscaler-downscale-stabilization", 0..=3_600),
    time("horizontal-pod-autoscaler-cpu-initialization-period", 0..=3_600),
    time("horizontal-pod-autoscaler-initial-readiness-delay", 0..=3_600),
    whole("terminated-pod-gc-threshold", 0..=100_000),
    whole("concurrent-deployment-syncs", 1..=100),
    whole("concurrent-replicaset-syncs", 1..=100),
    whole("concurrent-statefulset-syncs", 1..=100),
    whole("concurrent-job-syncs", 1..=100),
    whole("concurrent-namespace-syncs", 1..=100),
    whole("concurrent-gc-syncs", 1..=100),
    whole("concurrent-service-endpoint-syncs", 1..=100),
    whole("kube-api-qps", 20..=2_000),
    whole("kube-api-burst", 20..=4_000),
    other("feature-gates", Kind::Gates),
    other("profiling", Kind::Flag),
    whole("v", 0..=10),
];

const SCHEDULER_PARAMETERS: [Parameter; 5] = [
    whole("kube-api-qps", 20..=2_000),
    whole("kube-api-burst", 20..=4_000),
    other("feature-gates", Kind::Gates),
    other("profiling", Kind::Flag),
    whole("v", 0..=10),
];

static API_SERVER_LIST: [Parameter; 15] = API_SERVER_PARAMETERS;
static CONTROLLER_MANAGER_LIST: [Parameter; 25] = CONTROLLER_MANAGER_PARAMETERS;
static SCHEDULER_LIST: [Parameter; 5] = SCHEDULER_PARAMETERS;

/// The parameters of a component; `None`: there is no such component.
pub fn of(component: &str) -> Option<&'static [Parameter]> {
    match component {
        API_SERVER => Some(&API_SERVER_LIST),
        CONTROLLER_MANAGER => Some(&CONTROLLER_MANAGER_LIST),
        SCHEDULER => Some(&SCHEDULER_LIST),
        _ => None,
    }
}

/// The parameter of that name. `MaxRequestsInflight`, `max-requests-inflight` and `--max-requests-inflight` are the same.
pub fn find(component: &str, key: &str) -> Option<&'static Parameter> {
    let letters = |text: &str| {
        text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    let wanted = letters(key);
    of(component)?.iter().find(|parameter| letters(parameter.name) == wanted)
}

impl Parameter {
    /// The value as the component gets it.
    ///
    /// # Errors
    /// InvalidParameter of `field`, in words that say what would be right.
    pub fn settle(&self, field: &str, value: &str) -> Outcome<String> {
        let value = value.trim();
        let settled = (value.len() <= VALUE_LENGTH_MAX).then(|| self.kind.settle(value)).flatten();
        settled.ok_or_else(|| {
            Fault::invalid(field, format!("{field}: the value of {} must be {}", self.name, self.kind.describe()))
        })
    }
}

impl Kind {
    /// In words, to complete "the value must be …".
    pub fn describe(&self) -> String {
        match self {
            Self::Whole(range) => format!("a whole number from {} to {}", range.start(), range.end()),
            Self::Decimal(range) => format!("a number from {} to {}", range.start(), range.end()),
            Self::Time(range) => format!("a time from {}s to {}s, like 30s or 1m30s", range.start(), range.end()),
            Self::Flag => "true or false".to_owned(),
            Self::Gates => "a list like OneFeature=true,OtherFeature=false".to_owned(),
            Self::Ports => format!("a range of ports from {NODE_PORT_MIN} on, like 30000-32767"),
            Self::Admission => format!("a comma list of {}", ADMISSION_PLUGINS.join(", ")),
        }
    }

    fn settle(&self, value: &str) -> Option<String> {
        match self {
            Self::Whole(range) => {
                let number: u64 = value.parse().ok()?;
                range.contains(&number).then(|| number.to_string())
            }
            Self::Decimal(range) => {
                let is_plain = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                let number: f64 = value.parse().ok().filter(|_| is_plain)?;
                range.contains(&number).then(|| value.to_owned())
            }
            Self::Time(range) => range.contains(&seconds(value)?.as_secs()).then(|| value.to_owned()),
            Self::Flag => value.parse::<bool>().ok().map(|flag| flag.to_string()),
            Self::Gates => gates(value),
            Self::Ports => ports(value),
            Self::Admission => admission(value),
        }
    }
}

/// `1h2m3s`, each unit at most once and in this order.
fn seconds(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, 0u64);
    for (unit, factor) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            if number.is_empty() || number.len() > 6 || !number.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            total += number.parse::<u64>().ok()? * factor;
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then(|| Duration::from_secs(total))
}

fn gates(value: &str) -> Option<String> {
    let gates: Vec<&str> = value.split(',').map(str::trim).collect();
    let is_gate = |gate: &&str| {
        let Some((name, value)) = gate.split_once('=') else { return false };
        let is_name = !name.is_empty() && name.len() <= 128 && name.chars().all(|c| c.is_ascii_alphanumeric());
        is_name && matches!(value, "true" | "false")
    };
    (gates.len() <= ENTRIES_MAX && gates.iter().all(is_gate)).then(|| gates.join(","))
}

fn ports(value: &str) -> Option<String> {
    let (first, last) = value.split_once('-')?;
    let (first, last) = (first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?);
    (first >= NODE_PORT_MIN && first <= last).then(|| format!("{first}-{last}"))
}

/// Ours is always among them.
fn admission(value: &str) -> Option<String> {
    let mut plugins: Vec<&str> = vec![OWN_ADMISSION];
    for plugin in value.split(',').map(str::trim) {
        if !ADMISSION_PLUGINS.contains(&plugin) {
            return None;
        }
        if !plugins.contains(&plugin) {
            plugins.push(plugin);
        }
    }
    Some(plugins.join(","))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settled(component: &str, key: &str, value: &str) -> Option<String> {
        find(component, key)?.settle("f", value).ok()
    }

    #[test]
    fn names_are_found_in_every_spelling() {
        for key in ["MaxRequestsInflight", "max-requests-inflight", "--max-requests-inflight", "max_requests_inflight"]
        {
            assert_eq!(find(API_SERVER, key).map(|parameter| parameter.name), Some("max-requests-inflight"), "{key}");
        }
        assert_eq!(find(CONTROLLER_MANAGER, "KubeAPIQPS").map(|parameter| parameter.name), Some("kube-api-qps"));
        for (component, key) in
            [(API_SERVER, "anonymous-auth"), (SCHEDULER, "event-ttl"), ("etcd", "v"), (SCHEDULER, "")]
        {
            assert_eq!(find(component, key), None, "{component} {key}");
        }
    }

    #[test]
    fn values_have_types() {
        let good = [
            ("max-requests-inflight", "100", "100"),
            ("goaway-chance", "0.001", "0.001"),
            ("event-ttl", "1h30m", "1h30m"),
            ("profiling", "true", "true"),
            ("feature-gates", "A=true, B=false", "A=true,B=false"),
            ("service-node-port-range", "30000 - 31000", "30000-31000"),
            ("enable-admission-plugins", "AlwaysPullImages", "NodeRestriction,AlwaysPullImages"),
        ];
        for (key, value, expected) in good {
            assert_eq!(settled(API_SERVER, key, value).as_deref(), Some(expected), "{key} {value}");
        }
        let bad = [
            ("max-requests-inflight", "0"),
            ("max-requests-inflight", "ten"),
            ("max-requests-inflight", "-1"),
            ("goaway-chance", "1"),
            ("goaway-chance", "NaN"),
            ("event-ttl", "1"),
            ("event-ttl", "3m2h"),
            ("profiling", "yes"),
            ("feature-gates", "A"),
            ("feature-gates", "A=1"),
            ("service-node-port-range", "80-90"),
            ("service-node-port-range", "32000-31000"),
            ("enable-admission-plugins", "AlwaysAdmit"),
        ];
        for (key, value) in bad {
            assert_eq!(settled(API_SERVER, key, value), None, "{key} {value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_one_word_without_surprises(value in "\\PC{0,40}") {
            for component in COMPONENTS {
                for parameter in of(component).unwrap_or_default() {
                    if let Ok(settled) = parameter.settle("f", &value) {
                        prop_assert!(!settled.contains(char::is_whitespace) && !settled.starts_with('-'), "{settled:?}");
                        // Settling is stable.
                        prop_assert_eq!(parameter.settle("f", &settled).ok(), Some(settled));
                    }
                }
            }
        }
    }
}
