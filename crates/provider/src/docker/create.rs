//! What a machine and the services of the host are as containers: the one place that says what they may do.

use std::{collections::HashMap, net::Ipv4Addr};

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigCgroupnsModeEnum,
    HostConfigLogConfig, Mount as DockerMount, MountType, MountVolumeOptions, NetworkingConfig, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};

use super::{
    engine::{Engine, STOP_SECONDS},
    facts::HostFacts,
};
use crate::{CPU_WEIGHT, HostService, HostServiceSpec, MachineSpec, Mount};

/// Label of volumes: the machine they belong to.
pub(super) const MACHINE_LABEL: &str = "io.sampan.machine";
/// Labels of machines: their pinned addresses, for when the engine has lost what it knew of their place in the network.
pub(super) const IP_LABEL: &str = "io.sampan.ip";
pub(super) const MAC_LABEL: &str = "io.sampan.mac";
/// Label of services of the host: what their configuration was when they were made.
pub(super) const CONFIG_LABEL: &str = "io.sampan.config";

/// A machine as a container. It runs container engines of its own, so it gets every capability that this host can give
/// and no filters, but it is not "privileged": it sees neither the host's devices nor its namespaces.
pub(super) fn machine(engine: &Engine, spec: &MachineSpec) -> ContainerCreateBody {
    let facts = &engine.facts;
    let host_config = HostConfig {
        cap_add: Some(vec!["ALL".to_owned()]),
        cap_drop: Some(owned(&facts.missing_capabilities)),
        security_opt: Some(security_options(facts)),
        // Not masked: nested engines mount their own /proc, which the kernel refuses while parts of ours are covered.
        masked_paths: Some(Vec::new()),
        readonly_paths: Some(Vec::new()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        userns_mode: facts.has_security("userns").then(|| "host".to_owned()),
        device_cgroup_rules: Some(device_rules(facts)),
        devices: Some(facts.devices.iter().map(|path| device(path)).collect()),
        mounts: Some(mounts(engine, spec)),
        tmpfs: Some(tmpfs(&["/run", "/tmp"])),
        network_mode: Some(spec.network.clone()),
        nano_cpus: cpu_limit(facts, spec.cpu_millis),
        cpu_shares: Some(i64::from(spec.cpu_weight)),
        memory: spec.memory_bytes.map(signed),
        // The same as `memory`: no swap, as the kubelet wants it. Where swap cannot be limited the engine would refuse.
        memory_swap: spec.memory_bytes.filter(|_| facts.swap_limits).map(signed),
        restart_policy: Some(restart(RestartPolicyNameEnum::UNLESS_STOPPED)),
        ulimits: open_files(facts),
        log_config: Some(logs()),
        init: Some(false),
        ..HostConfig::default()
    };
    let mut labels = engine.labels("machine", &spec.labels);
    labels.insert(IP_LABEL.to_owned(), spec.ip.to_string());
    labels.insert(MAC_LABEL.to_owned(), spec.mac.clone());
    ContainerCreateBody {
        hostname: Some(spec.hostname.clone()),
        image: Some(spec.image.clone()),
        env: Some(spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        labels: Some(labels),
        stop_timeout: Some(signed(STOP_SECONDS)),
        host_config: Some(host_config),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some([(spec.network.clone(), endpoint(spec.ip, Some(&spec.mac)))].into()),
        }),
        ..ContainerCreateBody::default()
    }
}

/// A machine's place in its network: pinned, so that it has it again after a restart.
pub(super) fn endpoint(ip: Ipv4Addr, mac: Option<&str>) -> EndpointSettings {
    EndpointSettings {
        ipam_config: Some(EndpointIpamConfig { ipv4_address: Some(ip.to_string()), ..EndpointIpamConfig::default() }),
        mac_address: mac.map(str::to_owned),
        ..EndpointSettings::default()
    }
}

/// A service of the host as a container.
pub(super) fn host_service(engine: &Engine, spec: &HostServiceSpec, owner: (u32, u32)) -> ContainerCreateBody {
    let (uid, gid) = owner;
    let mut body = match spec.service {
        HostService::Balancer => balancer(uid == 0),
        HostService::Registry => registry(uid, gid),
    };
    let target = spec.service.state_target().to_owned();
    let state_dir = Mount { source: spec.state_dir.clone(), target, read_only: false };
    let config = [(CONFIG_LABEL.to_owned(), spec.config_hash.clone())];
    body.image = Some(spec.image.clone());
    body.labels = Some(engine.labels(spec.service.as_str(), config.iter().map(|(key, value)| (key, value))));
    body.stop_timeout = Some(signed(STOP_SECONDS));
    if let Some(host) = &mut body.host_config {
        host.cap_drop = Some(vec!["ALL".to_owned()]);
        host.security_opt = Some(vec!["no-new-privileges".to_owned()]);
        host.userns_mode = engine.facts.has_security("userns").then(|| "host".to_owned());
        host.readonly_rootfs = Some(true);
        host.tmpfs = Some(tmpfs(&["/tmp"]));
        host.mounts = Some(vec![bind(&state_dir)]);
        host.network_mode = Some("host".to_owned());
        host.restart_policy = Some(restart(RestartPolicyNameEnum::ALWAYS));
        host.ulimits = open_files(&engine.facts);
        host.log_config = Some(logs());
        host.init = Some(false);
    }
    body
}

/// The balancer: in the host's network namespace, and able to do nothing else there than to add addresses and open ports.
fn balancer(root_owns_state: bool) -> ContainerCreateBody {
    // NET_ADMIN adds virtual addresses to bridges. Ports below 1024 (80 and 443 of load balancers) need
    // NET_BIND_SERVICE: in the host's namespace the sysctl that frees them may not be set for one container.
    let mut capabilities = vec!["NET_ADMIN", "NET_BIND_SERVICE"];
    if !root_owns_state {
        // The server runs as somebody else: without this, root in the container could not open that user's files.
        capabilities.push("DAC_OVERRIDE");
    }
    let host_config = HostConfig {
        cap_add: Some(owned(&capabilities)),
        // All traffic of users passes through it.
        cpu_shares: Some(4 * i64::from(CPU_WEIGHT)),
        ..HostConfig::default()
    };
    ContainerCreateBody {
        entrypoint: Some(vec!["/usr/local/bin/sampan".to_owned()]),
        cmd: Some(["balancer", "--state-dir", HostService::Balancer.state_target()].map(str::to_owned).to_vec()),
        // As root whatever the image says: capabilities are given to root only.
        user: Some("0:0".to_owned()),
        host_config: Some(host_config),
        ..ContainerCreateBody::default()
    }
}

/// The registry: Debian's, with a configuration that is in its directory.
fn registry(uid: u32, gid: u32) -> ContainerCreateBody {
    let config = format!("{}/config.yml", HostService::Registry.state_target());
    ContainerCreateBody {
        // It tells the server of pushes; one that only speaks HTTPS has an authority of its own.
        env: Some(vec![format!("SSL_CERT_FILE={}/ca.pem", HostService::Registry.state_target())]),
        entrypoint: Some(vec!["/usr/bin/docker-registry".to_owned()]),
        cmd: Some(vec!["serve".to_owned(), config]),
        user: Some(format!("{uid}:{gid}")),
        host_config: Some(HostConfig::default()),
        ..ContainerCreateBody::default()
    }
}

/// The filters of the engine that machines go without, among those that this engine has.
fn security_options(facts: &HostFacts) -> Vec<String> {
    let options =
        [("seccomp", "seccomp=unconfined"), ("apparmor", "apparmor=unconfined"), ("selinux", "label=disable")];
    let used = options.iter().filter(|(module, _)| facts.has_security(module));
    used.map(|(_, option)| (*option).to_owned()).collect()
}

/// Which devices a machine may use, beside making device nodes of all kinds, which unpacking images needs.
///
/// With cgroup v1 a group can only be allowed what its parent is allowed, and the engine inside allows privileged pods
/// (the network's and the storage's own) everything: writing that fails unless the machine has it all. With v2 the
/// filters of parent and child are simply both asked, so the least will do.
fn device_rules(facts: &HostFacts) -> Vec<String> {
    let rule = if facts.cgroup_v2 { "a *:* m" } else { "a *:* rwm" };
    vec![rule.to_owned()]
}

fn device(path: &str) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(path.to_owned()),
        path_in_container: Some(path.to_owned()),
        cgroup_permissions: Some("rwm".to_owned()),
    }
}

/// The engine makes a named volume that is missing with the labels that its mount carries, which spares a call each.
fn mounts(engine: &Engine, spec: &MachineSpec) -> Vec<DockerMount> {
    let modules = Mount { source: "/lib/modules".into(), target: "/lib/modules".to_owned(), read_only: true };
    let wants_modules = engine.facts.modules && spec.mounts.iter().all(|mount| mount.target != modules.target);
    let binds = spec.mounts.iter().chain(wants_modules.then_some(&modules)).map(bind);
    let owner = [(MACHINE_LABEL.to_owned(), spec.name.clone())];
    let own = engine.labels("volume", owner.iter().map(|(key, value)| (key, value)));
    let shared = engine.labels("volume", []);
    let volume = |target: &str, name: String, labels: &HashMap<String, String>| DockerMount {
        typ: Some(MountType::VOLUME),
        source: Some(name),
        target: Some(target.to_owned()),
        volume_options: Some(MountVolumeOptions { labels: Some(labels.clone()), ..MountVolumeOptions::default() }),
        ..DockerMount::default()
    };
    let volumes = spec.volumes.iter().map(|(target, suffix)| volume(target, volume_name(&spec.name, suffix), &own));
    let shared = spec.shared_volumes.iter().map(|(target, name)| volume(target, name.clone(), &shared));
    binds.chain(volumes).chain(shared).collect()
}

/// The full name of a machine's volume.
pub(super) fn volume_name(machine: &str, suffix: &str) -> String {
    format!("{machine}-{suffix}")
}

fn bind(mount: &Mount) -> DockerMount {
    DockerMount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.to_string_lossy().into_owned()),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..DockerMount::default()
    }
}

fn tmpfs(paths: &[&str]) -> HashMap<String, String> {
    let options = |path: &str| match path {
        "/run" => "rw,exec,nosuid,nodev,mode=755",
        _ => "rw,exec,nosuid,nodev,mode=1777",
    };
    paths.iter().map(|path| ((*path).to_owned(), options(path).to_owned())).collect()
}

/// The engine refuses more cores than the host has; instance types may be larger than the host.
fn cpu_limit(facts: &HostFacts, wanted_millis: Option<u64>) -> Option<i64> {
    wanted_millis
        .filter(|_| facts.cpu_limits)
        .map(|millis| signed(millis.min(facts.cpu_millis).saturating_mul(1_000_000)))
}

fn open_files(facts: &HostFacts) -> Option<Vec<ResourcesUlimits>> {
    let limit = signed(facts.open_files?);
    Some(vec![ResourcesUlimits { name: Some("nofile".to_owned()), soft: Some(limit), hard: Some(limit) }])
}

fn logs() -> HostConfigLogConfig {
    let config = [("max-size", "10m"), ("max-file", "2")];
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(config.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
    }
}

fn restart(name: RestartPolicyNameEnum) -> RestartPolicy {
    RestartPolicy { name: Some(name), maximum_retry_count: None }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_filters_that_the_engine_has_are_lifted() {
        let mut facts = HostFacts { security: vec!["seccomp".to_owned()], ..HostFacts::default() };
        assert_eq!(security_options(&facts), ["seccomp=unconfined"]);
        facts.security = owned(&["apparmor", "seccomp", "selinux"]);
        assert_eq!(security_options(&facts), ["seccomp=unconfined", "apparmor=unconfined", "label=disable"]);
    }

    #[test]
    fn devices_follow_the_cgroup_version() {
        let mut facts = HostFacts::default();
        assert_eq!(device_rules(&facts), ["a *:* rwm"]);
        facts.cgroup_v2 = true;
        assert_eq!(device_rules(&facts), ["a *:* m"]);
    }

    #[test]
    fn a_limit_is_never_more_than_the_host_has() {
        let facts = HostFacts { cpu_limits: true, cpu_millis: 2000, ..HostFacts::default() };
        assert_eq!(cpu_limit(&facts, Some(500)), Some(500_000_000));
        assert_eq!(cpu_limit(&facts, Some(64_000)), Some(2_000_000_000));
        assert_eq!(cpu_limit(&facts, None), None);
        assert_eq!(cpu_limit(&HostFacts::default(), Some(500)), None);
    }
}
