//! One service: every key of its definition, to the body of Docker's create call and to what the master does itself.

mod deploy;
mod finish;
mod limits;
mod logging;
mod machine;
mod network;
mod ports;
mod process;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    error::{Notes, Result},
    field::Field,
    labels,
    template::{DependsCondition, Service, Volume},
    yaml::Budget,
};

/// Version of the file format, as far as it changes meanings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Services at the top level, nothing else.
    One,
    /// 2.x, 3.x and what came after: services, networks and volumes apart.
    Later,
}

/// What a service is read among.
pub(super) struct Surroundings<'a> {
    /// Format of the template.
    pub(super) format: Format,
    /// All services of the template.
    pub(super) services: &'a BTreeSet<String>,
    /// Services that are left out by their profiles.
    pub(super) inactive: &'a BTreeSet<String>,
    /// Values for environment entries without one.
    pub(super) environment: &'a BTreeMap<String, String>,
    /// What those values may still take.
    pub(super) budget: &'a Budget,
}

/// A service while it is read.
pub(super) struct Draft<'a> {
    pub(super) around: &'a Surroundings<'a>,
    pub(super) name: &'a str,
    /// Place of the service.
    pub(super) path: String,
    /// The create call's body without `HostConfig`.
    pub(super) config: Map<String, Value>,
    /// `HostConfig`.
    pub(super) host: Map<String, Value>,
    pub(super) service: Service,
    /// Labels of the container.
    pub(super) labels: BTreeMap<String, String>,
    /// Environment of the container: whole entries by what makes them one.
    pub(super) env: BTreeMap<String, String>,
    /// The part of it that stands under `environment`.
    pub(super) env_written: Vec<String>,
    /// The definition.
    pub(super) value: &'a Value,
    /// Labels of `deploy`; those of the service go before them.
    pub(super) deploy_labels: BTreeMap<String, String>,
    /// What `deploy` wants in `HostConfig`: place, key, value.
    pub(super) deployed: Vec<(String, &'static str, Value)>,
    /// `scale` and `deploy.replicas`, with their places.
    pub(super) scales: Vec<(String, u32)>,
    /// Paths at which something is mounted.
    pub(super) targets: BTreeSet<String>,
    /// Volumes that the service names and the format does not want declared.
    pub(super) named: BTreeMap<String, Volume>,
    pub(super) notes: &'a mut Notes,
}

impl Draft<'_> {
    /// Sets a key of the body.
    pub(super) fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.config.insert(key.to_owned(), value.into());
    }

    /// Sets a key of `HostConfig`.
    pub(super) fn set_host(&mut self, key: &str, value: impl Into<Value>) {
        self.host.insert(key.to_owned(), value.into());
    }

    /// Says that this has no effect.
    pub(super) fn note(&mut self, field: &Field<'_>, message: &str) {
        self.notes.add(&field.path, message);
    }

    /// Says that these keys of a map have no effect.
    pub(super) fn note_keys(&mut self, field: &Field<'_>, keys: &[&str]) {
        for key in keys {
            if let Some(entry) = field.get(key) {
                self.notes.add(&entry.path, "has no effect here");
            }
        }
    }

    /// Whether a service of the template has this name.
    pub(super) fn is_service(&self, name: &str) -> bool {
        self.around.services.contains(name)
    }

    /// A text of the definition that another key needs.
    pub(super) fn service_value(&self, key: &str) -> Option<String> {
        self.value.get(key).and_then(Value::as_str).map(str::to_owned)
    }

    /// Remembers that another service must have reached this first. The stricter of two conditions holds.
    pub(super) fn depend(&mut self, service: &str, condition: DependsCondition) {
        let entry = self.service.depends.entry(service.to_owned()).or_insert(condition);
        if *entry == DependsCondition::Started {
            *entry = condition;
        }
    }

    /// Makes sure that a service of the template has this name.
    pub(super) fn known_service(&self, field: &Field<'_>, name: &str) -> Result<()> {
        if self.is_service(name) {
            return Ok(());
        }
        if self.around.inactive.contains(name) {
            return Err(
                field.wrong(format!("the service `{name}` is left out, because none of its profiles is wanted"))
            );
        }
        Err(field.wrong(format!("there is no service `{name}` in the template")))
    }
}

/// Where a key may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    /// Only in the first format.
    One,
    /// Only in the later ones.
    Later,
    /// Everywhere.
    All,
}

type Read = for<'d, 'n, 'f> fn(&'d mut Draft<'n>, &'f Field<'f>) -> Result<()>;

/// Every key of a service, where it may stand, and what reads it.
#[rustfmt::skip]
const KEYS: &[(&str, In, Read)] = &[
    ("annotations", In::Later, |draft, field| { draft.note(field, "annotations need a newer engine; they have no effect"); Ok(()) }),
    ("attach", In::Later, no_effect),
    ("blkio_config", In::Later, limits::blkio_config),
    ("build", In::All, |_, field| Err(field.wrong("there are no files to build from here; build the image, push it, and name it as `image`"))),
    ("cap_add", In::All, |draft, field| { draft.set_host("CapAdd", field.texts()?); Ok(()) }),
    ("cap_drop", In::All, |draft, field| { draft.set_host("CapDrop", field.texts()?); Ok(()) }),
    ("cgroup", In::Later, machine::cgroup),
    ("cgroup_parent", In::All, |draft, field| { draft.set_host("CgroupParent", field.filled()?); Ok(()) }),
    ("command", In::All, process::command),
    ("configs", In::Later, process::files),
    ("container_name", In::All, process::container_name),
    ("cpu_count", In::Later, no_effect),
    ("cpu_percent", In::Later, no_effect),
    ("cpu_period", In::All, |draft, field| { draft.set_host("CpuPeriod", field.integer(0..=i64::MAX)?); Ok(()) }),
    ("cpu_quota", In::All, |draft, field| { draft.set_host("CpuQuota", field.integer(0..=i64::MAX)?); Ok(()) }),
    ("cpu_rt_period", In::Later, |draft, field| { draft.set_host("CpuRealtimePeriod", limits::microseconds(field)?); Ok(()) }),
    ("cpu_rt_runtime", In::Later, |draft, field| { draft.set_host("CpuRealtimeRuntime", limits::microseconds(field)?); Ok(()) }),
    ("cpu_shares", In::All, |draft, field| { draft.set_host("CpuShares", field.integer(0..=262_144)?); Ok(()) }),
    ("cpus", In::Later, limits::cpus),
    ("cpuset", In::All, |draft, field| { draft.set_host("CpusetCpus", field.filled()?); Ok(()) }),
    ("credential_spec", In::Later, unsupported),
    ("depends_on", In::Later, network::depends_on),
    ("deploy", In::Later, deploy::deploy),
    ("develop", In::Later, no_effect),
    ("device_cgroup_rules", In::Later, |draft, field| { draft.set_host("DeviceCgroupRules", field.texts()?); Ok(()) }),
    ("devices", In::All, machine::devices),
    ("dns", In::All, machine::dns),
    ("dns_opt", In::Later, |draft, field| { draft.set_host("DnsOptions", field.texts()?); Ok(()) }),
    ("dns_search", In::All, |draft, field| { draft.set_host("DnsSearch", field.text_or_texts()?); Ok(()) }),
    ("dockerfile", In::One, |_, field| Err(field.wrong("there are no files to build from here; build the image, push it, and name it as `image`"))),
    ("domainname", In::All, |draft, field| { draft.set("Domainname", field.filled()?); Ok(()) }),
    ("entrypoint", In::All, process::entrypoint),
    ("env_file", In::All, process::files),
    ("environment", In::All, process::environment),
    ("expose", In::All, ports::expose),
    ("extends", In::All, |_, _| Ok(())),
    ("external_links", In::All, network::external_links),
    ("extra_hosts", In::All, machine::extra_hosts),
    ("gpus", In::Later, deploy::gpus),
    ("group_add", In::Later, machine::group_add),
    ("healthcheck", In::Later, process::healthcheck),
    ("hostname", In::All, process::hostname),
    ("image", In::All, process::image),
    ("init", In::Later, |draft, field| { draft.set_host("Init", field.boolean()?); Ok(()) }),
    ("ipc", In::All, machine::ipc),
    ("isolation", In::Later, machine::isolation),
    ("label_file", In::Later, process::files),
    ("labels", In::All, process::labels),
    ("links", In::All, network::links),
    ("log_driver", In::One, logging::log_driver),
    ("log_opt", In::One, logging::log_opt),
    ("logging", In::Later, logging::logging),
    ("logs", In::All, logging::logs),
    ("mac_address", In::All, |draft, field| { draft.set("MacAddress", field.filled()?); Ok(()) }),
    ("mem_limit", In::All, |draft, field| limits::memory(draft, field, "Memory")),
    ("mem_reservation", In::Later, |draft, field| limits::memory(draft, field, "MemoryReservation")),
    ("mem_swappiness", In::All, |draft, field| { draft.set_host("MemorySwappiness", field.integer(-1..=100)?); Ok(()) }),
    ("memswap_limit", In::All, limits::memory_swap),
    ("models", In::Later, unsupported),
    ("net", In::One, network::net),
    ("network_mode", In::Later, network::network_mode),
    ("networks", In::Later, network::networks),
    ("oom_kill_disable", In::Later, |draft, field| { draft.set_host("OomKillDisable", field.boolean()?); Ok(()) }),
    ("oom_score_adj", In::Later, |draft, field| { draft.set_host("OomScoreAdj", field.integer(-1000..=1000)?); Ok(()) }),
    ("pid", In::All, machine::pid),
    ("pids_limit", In::Later, |draft, field| { draft.set_host("PidsLimit", field.integer(-1..=i64::MAX)?); Ok(()) }),
    ("platform", In::Later, no_effect),
    ("ports", In::All, ports::ports),
    ("post_start", In::Later, unsupported),
    ("pre_stop", In::Later, unsupported),
    ("privileged", In::All, |draft, field| { draft.set_host("Privileged", field.boolean()?); Ok(()) }),
    ("profiles", In::Later, |_, _| Ok(())),
    ("provider", In::Later, unsupported),
    ("pull_policy", In::Later, deploy::pull_policy),
    ("read_only", In::All, |draft, field| { draft.set_host("ReadonlyRootfs", field.boolean()?); Ok(()) }),
    ("restart", In::All, process::restart),
    ("runtime", In::Later, |draft, field| { draft.set_host("Runtime", field.filled()?); Ok(()) }),
    ("scale", In::All, deploy::scale),
    ("secrets", In::Later, process::files),
    ("security_opt", In::All, machine::security_opt),
    ("shm_size", In::All, |draft, field| { draft.set_host("ShmSize", field.size()?); Ok(()) }),
    ("stdin_open", In::All, |draft, field| { draft.set("OpenStdin", field.boolean()?); Ok(()) }),
    ("stop_grace_period", In::Later, process::stop_grace_period),
    ("stop_signal", In::All, |draft, field| { draft.set("StopSignal", field.filled()?); Ok(()) }),
    ("storage_opt", In::Later, |draft, field| { draft.set_host("StorageOpt", json!(field.options()?)); Ok(()) }),
    ("sysctls", In::Later, machine::sysctls),
    ("tmpfs", In::Later, volumes::tmpfs),
    ("tty", In::All, |draft, field| { draft.set("Tty", field.boolean()?); Ok(()) }),
    ("ulimits", In::All, limits::ulimits),
    ("use_api_socket", In::Later, unsupported),
    ("user", In::All, |draft, field| { draft.set("User", field.filled()?); Ok(()) }),
    ("userns_mode", In::Later, machine::userns_mode),
    ("uts", In::Later, machine::uts),
    ("volume_driver", In::All, volumes::volume_driver),
    ("volumes", In::All, volumes::volumes),
    ("volumes_from", In::All, volumes::volumes_from),
    ("working_dir", In::All, |draft, field| { draft.set("WorkingDir", field.filled()?); Ok(()) }),
];

/// A service that was read, and the volumes that it names beside the declared ones.
pub(super) struct Reading {
    pub(super) service: Service,
    pub(super) named: BTreeMap<String, Volume>,
}

/// Reads a service.
pub(super) fn read(
    around: &Surroundings<'_>,
    name: &str,
    path: &str,
    value: &Value,
    notes: &mut Notes,
) -> Result<Reading> {
    let field = Field::new(path, value);
    let mut draft = Draft {
        around,
        name,
        path: path.to_owned(),
        config: Map::new(),
        host: Map::new(),
        service: Service::default(),
        labels: BTreeMap::new(),
        env: BTreeMap::new(),
        env_written: Vec::new(),
        value,
        deploy_labels: BTreeMap::new(),
        deployed: Vec::new(),
        scales: Vec::new(),
        targets: BTreeSet::new(),
        named: BTreeMap::new(),
        notes,
    };
    for (key, entry) in field.entries()? {
        let read = reader(around.format, key, &entry)?;
        if !entry.value.is_null() {
            read(&mut draft, &entry)?;
        }
    }
    labels::read(&mut draft)?;
    finish::finish(draft)
}

fn reader(format: Format, key: &str, entry: &Field<'_>) -> Result<Read> {
    if key.starts_with("x-") {
        return Ok(|_, _| Ok(()));
    }
    let Ok(at) = KEYS.binary_search_by_key(&key, |(key, ..)| key) else {
        let hint = KEYS.iter().find(|(known, ..)| near(known, key));
        let hint = hint.map_or_else(String::new, |(known, ..)| format!("; is `{known}` meant?"));
        return Err(entry.wrong(format!("is not a key of a service{hint}")));
    };
    let (_, place, read) = KEYS[at];
    match (place, format) {
        (In::One, Format::Later) => {
            let instead = match key {
                "net" => "write `network_mode`",
                "log_driver" => "write `logging: {driver: …}`",
                "log_opt" => "write `logging: {options: …}`",
                _ => "write it otherwise",
            };
            Err(entry.wrong(format!("is a key of the first format only; {instead}")))
        }
        (In::Later, Format::One) => Err(entry
            .wrong("is not a key of the first format; write `version: '2'` and put the services under `services:`")),
        _ => Ok(read),
    }
}

fn no_effect(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    draft.note(field, "has no effect here");
    Ok(())
}

fn unsupported(_: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    Err(field.wrong("is not supported here; take it out of the template"))
}

/// Whether two words are the same but for case, `-` and `_`, or a final `s`.
fn near(known: &str, key: &str) -> bool {
    let plain = |word: &str| {
        let word = word.to_ascii_lowercase().replace('-', "_");
        word.strip_suffix('s').map_or(word.clone(), str::to_owned)
    };
    plain(known) == plain(key)
}

/// Whether the table can be searched.
#[cfg(test)]
pub(super) fn keys_are_sorted() -> bool {
    KEYS.is_sorted_by_key(|(key, ..)| *key)
}

/// All keys of a service.
#[cfg(test)]
pub(super) fn known_keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(key, ..)| *key)
}
