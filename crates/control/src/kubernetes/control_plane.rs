//! What a control plane's machine must be: etcd, kube-apiserver, kube-controller-manager and kube-scheduler.
//!
//! Where the control plane has one machine, etcd has one member and speaks to nobody. Where it has several, each has a
//! member, an API server that asks that member, and controllers of which one leads; see [`super::etcd_flags`].

use std::net::Ipv4Addr;

use jiff::SignedDuration;
use sampan_agents::spec::{File, NodeSpec, Probe, Process};
use sampan_store::model::{Cluster, Machine, Outcome};
use serde_json::json;

use super::{
    API_PORT,
    etcd_flags::{self, client_url},
    kubeconfig::Kubeconfig,
    parameters,
    parts::{PKI_DIR, command_line, component, environment, pair_files, pod_routes, process, public_file, secret_file},
    pki::{FRONT_PROXY_CLIENT, Pki, first_service_ip},
    restore,
};
use crate::certificate::CertifiedKey;

/// Time that a node may be silent before it counts as not ready. Kubelets report every 10 s; busy hosts are late at times.
const NODE_GRACE: &str = "40s";

/// Measured with an API server until the cluster's DNS answered, and idle (processor time; memory of all processes):
/// 40 → 3.4 s and 295 MB; 80 → 2.9 s and 319 MB; 150 → 2.6 s and 337 MB, because a heap that was large stays scattered.
/// A control plane has to stay under 300 MB.
const HEAP_GROWTH: u32 = 40;

/// Where the API server reaches etcd. It opens a connection for each kind of object; a socket that only root can open is as
/// safe within the machine as mutual TLS, and saves 0.4 s of processor time at each start and 6 MB. Everybody else uses TLS.
const ETCD_SOCKET: &str = "/run/etcd.sock";

/// What decides a control plane's machine.
#[derive(Clone, Copy, Debug)]
pub struct ControlPlaneInputs<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Its certificates and keys.
    pub pki: &'a Pki,
    /// The machine.
    pub machine: &'a Machine,
    /// Validity of the certificates that the cluster signs for kubelets.
    pub certificate_lifetime: SignedDuration,
    /// All nodes of the cluster: webhooks and aggregated APIs are pods on them.
    pub workers: &'a [Machine],
}

/// Says what the machine must be.
///
/// # Errors
/// Internal, when the cluster's record makes no sense (an empty service network).
pub fn control_plane_spec(inputs: &ControlPlaneInputs<'_>) -> Outcome<NodeSpec> {
    Ok(NodeSpec {
        timezone: inputs.cluster.control_plane.timezone.clone(),
        files: files(inputs),
        routes: pod_routes(inputs.machine, inputs.workers),
        sysctls: [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into(),
        registry_mirror: false,
        forwards: Vec::new(),
        uplinks: Vec::new(),
        payload: Vec::new(),
        processes: processes(inputs)?,
    })
}

/// A machine that is not a member of etcd yet, though others are, has nothing to run, unless etcd begins anew with it.
pub(super) fn processes(inputs: &ControlPlaneInputs<'_>) -> Outcome<Vec<Process>> {
    let usual = if inputs.machine.may_run_etcd() {
        vec![etcd(inputs), api_server(inputs)?, controllers(inputs)]
    } else {
        Vec::new()
    };
    Ok(restore::processes(inputs.cluster, inputs.machine, usual))
}

pub(super) fn files(inputs: &ControlPlaneInputs<'_>) -> Vec<File> {
    let pki = inputs.pki;
    let mut files = vec![
        public_file(format!("{PKI_DIR}/client-ca.crt"), pki.client_authorities()),
        public_file(format!("{PKI_DIR}/front-proxy-ca.crt"), &pki.front_proxy_ca.certificate),
        public_file(format!("{PKI_DIR}/etcd-ca.crt"), &pki.etcd_ca.certificate),
        secret_file(format!("{PKI_DIR}/sa.key"), &pki.service_account.private),
        public_file(format!("{PKI_DIR}/sa.pub"), &pki.service_account.public),
        // kube-controller-manager takes exactly one certificate here, without the chain that a user's authority may have.
        public_file(format!("{PKI_DIR}/signing-ca.crt"), pki.cluster_ca.first_certificate()),
        secret_file("/etc/kubernetes/encryption.json", encryption(pki)),
        public_file("/etc/kubernetes/authentication.json", authentication()),
        secret_file("/etc/kubernetes/controller-manager.conf", local_kubeconfig(pki, &pki.controller_manager)),
        secret_file("/etc/kubernetes/scheduler.conf", local_kubeconfig(pki, &pki.scheduler)),
    ];
    for (name, pair) in [
        ("ca", &pki.cluster_ca),
        ("etcd-server", &pki.etcd_server),
        ("etcd-peer", &pki.etcd_peer),
        ("etcd-client", &pki.etcd_client),
        ("apiserver", &pki.api_server),
        ("kubelet-client", &pki.kubelet_client),
        ("front-proxy-client", &pki.front_proxy_client),
        ("local-server", &pki.local_server),
    ] {
        files.extend(pair_files(&format!("{PKI_DIR}/{name}"), pair));
    }
    files
}

/// Secrets are encrypted with XSalsa20 and Poly1305 before they reach etcd; `identity` reads what was written before a key.
fn encryption(pki: &Pki) -> String {
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{
            "resources": ["secrets"],
            "providers": [
                {"secretbox": {"keys": [{"name": "key1", "secret": pki.encryption_key}]}},
                {"identity": {}},
            ],
        }],
    })
    .to_string()
}

/// Nobody is anonymous, except probes: the agents' and the balancer's carry no secret.
fn authentication() -> String {
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AuthenticationConfiguration",
        "anonymous": {
            "enabled": true,
            "conditions": [{"path": "/livez"}, {"path": "/readyz"}, {"path": "/healthz"}],
        },
    })
    .to_string()
}

fn local_kubeconfig(pki: &Pki, client: &CertifiedKey) -> String {
    let url = format!("https://127.0.0.1:{API_PORT}");
    Kubeconfig { url: &url, authority: &pki.cluster_ca.certificate, client, user: "component", context: "default" }
        .text()
}

pub(super) fn pki_path(name: &str) -> String {
    format!("{PKI_DIR}/{name}")
}

fn etcd(inputs: &ControlPlaneInputs<'_>) -> Process {
    let mut flags = match inputs.machine.etcd() {
        None => etcd_flags::alone(inputs),
        Some(member) => etcd_flags::among(inputs, member),
    };
    flags.extend([
        ("data-dir", "/var/lib/etcd/member".into()),
        ("initial-cluster-token", inputs.cluster.id.clone()),
        ("listen-client-urls", format!("{},unix://{ETCD_SOCKET}", client_url())),
        ("advertise-client-urls", client_url()),
        ("listen-metrics-urls", "http://127.0.0.1:2381".into()),
        ("cert-file", pki_path("etcd-server.crt")),
        ("key-file", pki_path("etcd-server.key")),
        ("client-cert-auth", "true".into()),
        ("trusted-ca-file", pki_path("etcd-ca.crt")),
        ("peer-cert-file", pki_path("etcd-peer.crt")),
        ("peer-key-file", pki_path("etcd-peer.key")),
        ("peer-client-cert-auth", "true".into()),
        ("peer-trusted-ca-file", pki_path("etcd-ca.crt")),
        ("snapshot-count", "5000".into()),
        ("log-level", "warn".into()),
    ]);
    let mut etcd = process("etcd", command_line(component(inputs.machine.version(inputs.cluster), "etcd"), flags));
    etcd.env = environment(HEAP_GROWTH, None);
    etcd.ready = Some(Probe::Http("http://127.0.0.1:2381/health".into()));
    // It reads its own certificates again for each connection.
    etcd.restart_on = vec![pki_path("etcd-ca.crt")];
    etcd
}

fn api_server(inputs: &ControlPlaneInputs<'_>) -> Outcome<Process> {
    let cluster = inputs.cluster;
    let mut flags = vec![
        ("advertise-address", inputs.machine.ip.to_string()),
        ("bind-address", Ipv4Addr::UNSPECIFIED.to_string()),
        ("secure-port", API_PORT.to_string()),
        ("service-cluster-ip-range", cluster.network.service_cidr.to_string()),
        ("allow-privileged", "true".into()),
        ("authorization-mode", "Node,RBAC".into()),
        ("enable-admission-plugins", "NodeRestriction".into()),
        ("authentication-config", "/etc/kubernetes/authentication.json".into()),
        ("encryption-provider-config", "/etc/kubernetes/encryption.json".into()),
        ("profiling", "false".into()),
        ("kubelet-preferred-address-types", "InternalIP".into()),
        ("enable-aggregator-routing", "true".into()),
    ];
    flags.extend(api_server_certificates());
    flags.extend(token_flags(cluster));
    // Checked here, so that a broken record fails before a process does.
    first_service_ip(cluster)?;
    let flags = with_parameters(flags, inputs, parameters::API_SERVER);
    let program = component(inputs.machine.version(cluster), "kube-apiserver");
    let mut api = process("kube-apiserver", command_line(program, flags));
    api.env = environment(HEAP_GROWTH, cluster.control_plane.timezone.as_deref());
    // Not `after` etcd: etcd accepts connections before it serves them, and the API server has a second of its own work
    // to do first.
    api.wait_for = Some(match inputs.machine.etcd() {
        None => Probe::Unix(ETCD_SOCKET.into()),
        // A member that has no vote or no leader yet refuses what the API server asks first.
        Some(_) => Probe::Http("http://127.0.0.1:2381/readyz".into()),
    });
    api.ready = Some(Probe::Http(format!("https://127.0.0.1:{API_PORT}/readyz")));
    // It reads the certificates of its own that it shows again when they change, so that it need not be restarted for them.
    api.restart_on = ["client-ca.crt", "front-proxy-ca.crt", "sa.key"]
        .into_iter()
        .map(pki_path)
        .chain(["/etc/kubernetes/encryption.json".to_owned(), "/etc/kubernetes/authentication.json".to_owned()])
        .collect();
    Ok(api)
}

fn api_server_certificates() -> [(&'static str, String); 13] {
    [
        ("etcd-servers", format!("unix://{ETCD_SOCKET}")),
        ("tls-cert-file", pki_path("apiserver.crt")),
        ("tls-private-key-file", pki_path("apiserver.key")),
        ("tls-min-version", "VersionTLS12".into()),
        ("client-ca-file", pki_path("client-ca.crt")),
        ("kubelet-certificate-authority", pki_path("ca.crt")),
        ("kubelet-client-certificate", pki_path("kubelet-client.crt")),
        ("kubelet-client-key", pki_path("kubelet-client.key")),
        ("proxy-client-cert-file", pki_path("front-proxy-client.crt")),
        ("proxy-client-key-file", pki_path("front-proxy-client.key")),
        ("requestheader-client-ca-file", pki_path("front-proxy-ca.crt")),
        ("requestheader-allowed-names", FRONT_PROXY_CLIENT.into()),
        ("requestheader-username-headers", "X-Remote-User".into()),
    ]
}

/// Service account tokens: who issues them and for whom.
fn token_flags(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let options = &cluster.control_plane;
    let default_issuer = || format!("https://kubernetes.default.svc.{}", cluster.network.cluster_domain);
    let mut issuers: Vec<String> = options
        .service_account_issuer
        .iter()
        .flat_map(|list| list.split(','))
        .map(|issuer| issuer.trim().to_owned())
        .filter(|issuer| !issuer.is_empty())
        .collect();
    if issuers.is_empty() {
        issuers.push(default_issuer());
    }
    let mut flags = vec![
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        ("requestheader-extra-headers-prefix", "X-Remote-Extra-".to_owned()),
        ("service-account-key-file", pki_path("sa.pub")),
        ("service-account-signing-key-file", pki_path("sa.key")),
    ];
    // The first one signs; tokens of all are accepted.
    flags.extend(issuers.into_iter().map(|issuer| ("service-account-issuer", issuer)));
    let audiences: Vec<&str> =
        options.api_audiences.iter().map(|audience| audience.trim()).filter(|audience| !audience.is_empty()).collect();
    if !audiences.is_empty() {
        flags.push(("api-audiences", audiences.join(",")));
    }
    flags
}

/// The flags with the parameters that users have set for the component; these go before our own.
fn with_parameters<'a>(
    mut flags: Vec<(&'a str, String)>,
    inputs: &ControlPlaneInputs<'a>,
    component: &str,
) -> Vec<(&'a str, String)> {
    let parameters = inputs.cluster.control_plane.parameters_of(&inputs.machine.id);
    for (name, value) in parameters.get(component).into_iter().flatten() {
        match flags.iter_mut().find(|(flag, _)| flag == name) {
            Some((_, own)) => own.clone_from(value),
            None => flags.push((name, value.clone())),
        }
    }
    flags
}

/// kube-controller-manager and kube-scheduler in one process: they share one runtime and one heap, which saves 30 MB and
/// 0.3 s of processor time at the start. When one ends, both are started again.
fn controllers(inputs: &ControlPlaneInputs<'_>) -> Process {
    let cluster = inputs.cluster;
    // Where there are several, one of them leads: the others wait until it has been silent for 15 s.
    let elect = inputs.machine.etcd().is_some();
    let program = component(inputs.machine.version(cluster), "kube-controllers");
    let flags = controller_manager_flags(inputs, elect).collect();
    let mut command = command_line(program, with_parameters(flags, inputs, parameters::CONTROLLER_MANAGER));
    let flags = common_flags("/etc/kubernetes/scheduler.conf", elect).into();
    command.extend(command_line("--".to_owned(), with_parameters(flags, inputs, parameters::SCHEDULER)));
    let mut controllers = process("kube-controllers", command);
    // CronJobs without a zone of their own follow this process's.
    controllers.env = environment(HEAP_GROWTH, cluster.control_plane.timezone.as_deref());
    controllers.after = vec!["kube-apiserver".into()];
    controllers.ready = Some(Probe::Http("https://127.0.0.1:10257/healthz".into()));
    controllers.restart_on = ["ca.crt", "sa.key"].into_iter().map(pki_path).collect();
    let kubeconfigs = ["/etc/kubernetes/controller-manager.conf", "/etc/kubernetes/scheduler.conf"];
    controllers.restart_on.extend(kubeconfigs.map(String::from));
    controllers
}

/// As Go's flags take it.
fn duration(duration: SignedDuration) -> String {
    match duration.as_secs() {
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds => format!("{seconds}s"),
    }
}

fn controller_manager_flags(
    inputs: &ControlPlaneInputs<'_>,
    elect: bool,
) -> impl Iterator<Item = (&'static str, String)> {
    let cluster = inputs.cluster;
    common_flags("/etc/kubernetes/controller-manager.conf", elect).into_iter().chain([
        ("cluster-name", cluster.id.clone()),
        // The server itself gives each node its part of the pod network.
        ("allocate-node-cidrs", "false".into()),
        ("cluster-cidr", cluster.network.pod_cidr.to_string()),
        ("service-cluster-ip-range", cluster.network.service_cidr.to_string()),
        ("root-ca-file", pki_path("ca.crt")),
        ("service-account-private-key-file", pki_path("sa.key")),
        ("cluster-signing-cert-file", pki_path("signing-ca.crt")),
        ("cluster-signing-key-file", pki_path("ca.key")),
        ("cluster-signing-duration", duration(inputs.certificate_lifetime)),
        ("use-service-account-credentials", "true".into()),
        ("node-monitor-grace-period", NODE_GRACE.into()),
        // Each controller has a service account of its own, which is looked up at the start: at the default of 20 requests
        // a second that alone takes five seconds.
        ("kube-api-qps", "300".into()),
        ("kube-api-burst", "400".into()),
    ])
}

/// Flags of kube-controller-manager and kube-scheduler alike.
fn common_flags(kubeconfig: &str, elect: bool) -> [(&'static str, String); 6] {
    [
        ("kubeconfig", kubeconfig.to_owned()),
        ("bind-address", "127.0.0.1".into()),
        ("tls-cert-file", pki_path("local-server.crt")),
        ("tls-private-key-file", pki_path("local-server.key")),
        ("leader-elect", elect.to_string()),
        ("profiling", "false".into()),
    ]
}
