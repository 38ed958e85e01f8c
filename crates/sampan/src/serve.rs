//! `sampan serve`: puts the rooms together and runs until SIGTERM.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use sampan_agents::tunnel::AgentHub;
use sampan_control::{
    autoscale::{Autoscaler, AutoscalerParts},
    backup::Shelf,
    generations::ByGeneration,
    kubernetes::{HostFacts, Images, access::TunnelAccess, vault::Vault},
    ports,
    reconcile::{self, Blueprints, Controllers, Handle, machine_token},
    service::{self, Service, SystemClock, credentials::Credentials},
    swarm::{access::SwarmAccess, applications::MasterApplications, vault::SwarmVault},
};
use sampan_gateway::edge::{Gateway, GatewayParts, Gauge, Limits, keys::Keys, listen, tls};
use sampan_provider::{HostService, HostServiceSpec, MachineProvider, docker::DockerProvider};
use sampan_store::{
    Batch, MasterKey, Store, StoreOptions,
    model::{AccessKey, Cluster, Machine, Setting, Task, TaskState, Timestamp, new_token},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::AbortHandle,
};

use crate::{
    Global,
    bundle::Bundle,
    commands,
    config::Config,
    data_dir::{Access, DataDir},
    glue::{
        BundleBlueprints, DockerBalancing, DockerRanges, HubAgents, SwarmBlueprints, SwarmCredentials,
        VaultCredentials,
        images::ImageStore,
        registry::{self, Registry},
    },
    hosts, housekeeping,
};

/// Account of an installation until accounts can be made.
const ROOT_ACCOUNT: &str = "1000000000000001";
const INSTALLATION: &str = "installation";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Address for HTTP
    #[arg(long, value_name = "ADDRESS:PORT", required_unless_present = "listen_tls")]
    listen: Option<SocketAddr>,
    /// Address for HTTPS with the local CA in DIR/tls/ca.pem
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen_tls: Option<SocketAddr>,
    /// Address for the agents of hosts that people bring, reached by them (TLS with an authority of its own); off without it
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen_agents: Option<SocketAddr>,
    /// What attach lines name instead of that address: the name or address, and port, by which hosts reach it
    #[arg(long, value_name = "HOST:PORT", requires = "listen_agents")]
    advertise_agents: Option<String>,
    /// Configuration; DIR/config.toml without it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Master key; DIR/master.key without it
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// What `cargo xtask build` made; beside this executable without it
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
}

/// Everything that runs.
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) service: Arc<Service>,
    gateway: Arc<Gateway>,
    controllers: Handle,
    autoscaler: Autoscaler,
    pub(crate) hub: Arc<AgentHub>,
    /// What goes on beside until the server stops.
    housekeeping: Vec<AbortHandle>,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    crate::logging::start();
    let dir = DataDir::create(&commands::data_dir(global)?)?;
    let config = Config::load(dir.root(), arguments.config.as_ref())?;
    let bundle = Bundle::load(arguments.bundle.as_deref())?;
    // Listen before anything is started: an address that is taken must not cost a half-started server.
    let http = bind(arguments.listen).await?;
    let https = bind(arguments.listen_tls).await?;
    let agents = bind(arguments.listen_agents).await?;
    let store = open_store(&dir, &config, arguments.key_file.as_deref()).await?;
    let installation = installation_id(&store, &dir).await?;
    let key = root_key(&store).await?;
    let access = access(&http, &https, &config, &key)?;
    let endpoint_url = format!("{}://{}", access.protocol, access.endpoint);
    dir.write_access(&access)?;
    let server = start(&dir, &config, &bundle, store, &installation, &endpoint_url).await?;
    let (stop, stopped) = watch::channel(false);
    let mut listeners = Vec::new();
    if let Some(listener) = agents {
        let door = hosts::Door { listener, advertised: arguments.advertise_agents.clone() };
        listeners.push(hosts::open(door, &server, &dir, &bundle, stopped.clone()).await?);
    }
    if let Some(listener) = http {
        listeners.push(tokio::spawn(listen::serve(listener, None, Arc::clone(&server.gateway), stopped.clone())));
    }
    if let Some(listener) = https {
        let address = listener.local_addr()?;
        let tls =
            tls::server_config(&dir.tls(), &[address.ip(), Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
                .context("HTTPS cannot be set up")?;
        listeners.push(tokio::spawn(listen::serve(listener, Some(tls), Arc::clone(&server.gateway), stopped.clone())));
    }
    server.gateway.set_ready(true);
    tracing::info!(installation, milliseconds = started.elapsed().as_millis() as u64, "ready");
    wait_for_signal().await?;
    tracing::info!("stopping; clusters go on");
    server.gateway.set_ready(false);
    let _ = stop.send(true);
    for listener in listeners {
        let _ = listener.await;
    }
    server.housekeeping.iter().for_each(AbortHandle::abort);
    server.autoscaler.stop().await;
    server.controllers.stop().await;
    server.hub.shutdown().await;
    server.store.close().await;
    Ok(())
}

async fn bind(address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    match address {
        None => Ok(None),
        Some(address) => {
            TcpListener::bind(address).await.map(Some).with_context(|| format!("cannot listen on {address}"))
        }
    }
}

async fn open_store(dir: &DataDir, config: &Config, key_file: Option<&std::path::Path>) -> anyhow::Result<Store> {
    let key_path = key_file.map_or_else(|| dir.master_key(), PathBuf::from);
    let master_key = MasterKey::load_or_create(&key_path)?;
    let retention = Duration::from_secs(u64::from(config.limits.retention_days) * 86_400);
    let options = StoreOptions {
        task_retention: retention,
        deleted_cluster_retention: retention,
        ..StoreOptions::new(dir.database(), master_key)
    };
    Ok(Store::open(options).await?)
}

/// Reads or makes the installation's id: it is part of every name in Docker. A copy beside the database lets commands that
/// must not open it know what is whose.
async fn installation_id(store: &Store, dir: &DataDir) -> anyhow::Result<String> {
    let id = match store.get::<Setting>(INSTALLATION) {
        Some(setting) => setting.value.value.as_str().context("the stored installation id is not text")?.to_owned(),
        None => {
            let id = new_token(4);
            let mut batch = Batch::new();
            batch.create(&Setting { id: INSTALLATION.into(), value: id.clone().into() });
            store.commit(batch).await?;
            id
        }
    };
    let path = dir.root().join(INSTALLATION);
    let unfinished = path.with_extension("new");
    std::fs::write(&unfinished, &id)
        .and_then(|()| std::fs::rename(&unfinished, &path))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(id)
}

/// The id in the copy beside the database.
pub(crate) fn read_installation(dir: &DataDir) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(dir.root().join(INSTALLATION)) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|id| !id.is_empty())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("the installation's id cannot be read"),
    }
}

/// Whether a server holds the data directory.
pub(crate) fn is_running(dir: &DataDir) -> bool {
    let Ok(file) = std::fs::File::open(dir.root().join("lock")) else { return false };
    matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock))
}

/// The root account's access key, made at the first start.
async fn root_key(store: &Store) -> anyhow::Result<(String, String)> {
    if let Some(key) = store.list::<AccessKey>().into_iter().find(|key| key.is_root) {
        let name = sampan_gateway::edge::keys::secret_name(&key.id);
        let secret = store.secret(&name).await?.context("the root access key has lost its secret")?;
        return Ok((key.id.clone(), String::from_utf8(secret.to_vec())?));
    }
    let id = format!("LTAI{}", new_token(10));
    let secret = new_token(15);
    let mut batch = Batch::new();
    batch.create(&AccessKey {
        id: id.clone(),
        account_id: ROOT_ACCOUNT.into(),
        principal: "root".into(),
        is_root: true,
        created: Timestamp::now(),
    });
    batch.secret(&sampan_gateway::edge::keys::secret_name(&id), secret.as_bytes());
    store.commit(batch).await?;
    Ok((id, secret))
}

fn access(
    http: &Option<TcpListener>,
    https: &Option<TcpListener>,
    config: &Config,
    key: &(String, String),
) -> anyhow::Result<Access> {
    let (listener, protocol) = match (http, https) {
        (Some(listener), _) => (listener, "http"),
        (None, Some(listener)) => (listener, "https"),
        (None, None) => bail!("name --listen or --listen-tls"),
    };
    let mut address = listener.local_addr()?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Ok(Access {
        endpoint: address.to_string(),
        protocol: protocol.into(),
        access_key_id: key.0.clone(),
        access_key_secret: key.1.clone(),
        region_id: config.server.region.clone(),
    })
}

async fn start(
    dir: &DataDir,
    config: &Config,
    bundle: &Bundle,
    store: Store,
    installation: &str,
    endpoint_url: &str,
) -> anyhow::Result<Server> {
    let registry_port = match config.registry.enabled {
        true => Some(registry::port(&store, config.registry.ports).await?),
        false => None,
    };
    ImageStore::open(&dir.images())?.take_over(&bundle.images_path())?;
    let provider = DockerProvider::connect(installation)?.with_memory_reserve(config.docker.memory_reserve_mib);
    let facts = Arc::new(survey(&provider).await);
    let provider: Arc<dyn MachineProvider> = Arc::new(provider);
    let hub = start_hub(dir, &store)?;
    let agents = Arc::new(HubAgents::new(Arc::clone(&hub)));
    let lifetime = jiff::SignedDuration::from_mins(i64::from(config.kubernetes.certificate_lifetime));
    let vault = Vault::new(store.clone()).with_lifetime(lifetime);
    let shelf = Shelf::new(dir.backups(), store.master_key().clone());
    let swarm_vault = SwarmVault::new(store.clone(), config.network.public_address);
    let dialer: Arc<dyn ports::Dialer> = Arc::clone(&agents) as Arc<_>;
    let kubernetes =
        TunnelAccess::new(Arc::new(vault.clone()), Arc::clone(&dialer), images(bundle), facts.name_servers.clone());
    let applications = MasterApplications::new(Arc::new(swarm_vault.clone()), Arc::clone(&dialer));
    let swarm = SwarmAccess::new(Arc::new(swarm_vault.clone()), dialer, kubernetes.announcer());
    let access: Arc<dyn ports::ClusterAccess> =
        Arc::new(ByGeneration::<dyn ports::ClusterAccess> { kubernetes: Arc::clone(&kubernetes) as Arc<_>, swarm });
    let blueprints: ByGeneration<dyn Blueprints> = ByGeneration {
        kubernetes: Arc::new(BundleBlueprints {
            vault: vault.clone(),
            images: images(bundle),
            facts: Arc::clone(&facts),
            bundle: bundle.clone(),
        }),
        swarm: Arc::new(SwarmBlueprints {
            vault: swarm_vault.clone(),
            routing_suffix: config.network.routing_suffix.clone(),
            registry_port,
            strategy: config.swarm.strategy,
            facts: Arc::clone(&facts),
        }),
    };
    let credentials: ByGeneration<dyn Credentials> = ByGeneration {
        kubernetes: Arc::new(VaultCredentials { vault }),
        swarm: Arc::new(SwarmCredentials { vault: swarm_vault }),
    };
    let balancing = Arc::new(DockerBalancing::new(
        Arc::clone(&provider),
        HostServiceSpec {
            service: HostService::Balancer,
            config_hash: String::new(),
            name: sampan_control::reconcile::Names::new(installation).balancer(),
            image: bundle.node_image.clone(),
            state_dir: dir.balancer(),
        },
    ));
    // Ahead of the first cluster; a failure is reported again when it is needed.
    let early = Arc::clone(&balancing);
    tokio::spawn(async move {
        if let Err(fault) = early.ensure().await {
            tracing::warn!(reason = %fault, "the balancer is not up yet");
        }
    });
    let clock: Arc<dyn ports::Clock> = Arc::new(SystemClock);
    let controllers = Controllers {
        store: store.clone(),
        provider: Arc::clone(&provider),
        agents: agents as Arc<_>,
        access: Arc::clone(&access),
        balancing,
        blueprints: Arc::new(blueprints),
        clock: Arc::clone(&clock),
        settings: reconcile::Settings {
            registry_port,
            backups: Some(backups(config, shelf.clone())),
            ..control_settings(dir, config, bundle, installation, &facts)
        },
    }
    .start();
    let settings =
        service::Settings { registry_port, endpoint_url: endpoint_url.to_owned(), ..service_settings(config, bundle)? };
    let settings = service::Settings {
        container_prefix: sampan_control::reconcile::Names::new(installation).machine(""),
        bare_hosts: bundle.bare_image.is_some(),
        ..settings
    };
    let service = Service::new(store.clone(), settings, clock, Arc::new(credentials));
    service.set_range_source(Arc::new(DockerRanges { provider: Arc::clone(&provider) }));
    service.set_host(Arc::clone(&facts));
    service.set_applications(Arc::new(applications));
    service.set_shelf(shelf);
    service.set_access(access);
    let service = Arc::new(service);
    let autoscaler = Autoscaler::start(AutoscalerParts {
        store: store.clone(),
        service: Arc::clone(&service),
        access: kubernetes,
        clock: Arc::new(SystemClock),
        host: facts,
    });
    let registry = registry_port.map(|port| {
        let registry = Registry {
            store: store.clone(),
            provider: Arc::clone(&provider),
            name: sampan_control::reconcile::Names::new(installation).registry(),
            image: bundle.node_image.clone(),
            dir: dir.registry(),
            endpoint_url: endpoint_url.to_owned(),
            ca: endpoint_url.starts_with("https").then(|| dir.tls().join("ca.pem")),
        };
        registry.keep(port)
    });
    if registry_port.is_none() {
        registry::remove(Arc::clone(&provider), sampan_control::reconcile::Names::new(installation).registry());
    }
    let gateway = gateway(config, store.clone(), Arc::clone(&service)).await?;
    let housekeeping = housekeeping::start(store.clone());
    Ok(Server {
        store,
        service,
        gateway,
        controllers,
        autoscaler,
        hub,
        housekeeping: vec![housekeeping].into_iter().chain(registry).collect(),
    })
}

/// Asks the engine about the host; a server also starts without one, and says so.
async fn survey(provider: &DockerProvider) -> HostFacts {
    let (cpus, memory_bytes) = match provider.capacity().await {
        Ok(capacity) => (capacity.cpus, capacity.memory_bytes),
        Err(error) => {
            tracing::warn!(%error, "Docker does not answer; clusters wait until it does");
            local_capacity()
        }
    };
    HostFacts::detect(cpus, memory_bytes)
}

/// The engine is on this host, so this is what it will say once it answers.
fn local_capacity() -> (u64, u64) {
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    (cpus, kib.unwrap_or_default() * 1024)
}

fn start_hub(dir: &DataDir, store: &Store) -> anyhow::Result<Arc<AgentHub>> {
    let store = store.clone();
    let verify = move |machine_id: &str, token: &str| {
        // A machine that left its cluster has no business here, whatever it still knows.
        if store.get::<Machine>(machine_id).is_none_or(|machine| machine.membership.is_none()) {
            return false;
        }
        let expected = machine_token(store.master_key(), machine_id);
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), token.as_bytes()).is_ok()
    };
    let path = dir.agents_socket();
    AgentHub::start(&path, Arc::new(verify)).with_context(|| format!("cannot listen on {}", path.display()))
}

fn images(bundle: &Bundle) -> Images {
    let images = &bundle.images;
    Images {
        pause: images.pause.clone(),
        coredns: images.coredns.clone(),
        metrics_server: images.metrics_server.clone(),
    }
}

async fn gateway(config: &Config, store: Store, service: Arc<Service>) -> anyhow::Result<Arc<Gateway>> {
    let (counted, notified) = (store.clone(), store.clone());
    let parts = GatewayParts {
        service,
        keys: Keys::load(store.clone()).await?,
        store,
        routes: sampan_gateway::handlers::routes(),
        limits: Limits {
            body_bytes_max: config.server.body_bytes_max,
            requests_max: config.server.requests_max,
            timeout: Duration::from_secs(config.server.request_timeout_seconds),
        },
        registry_token: Box::new(move |given| registry::is_token(&notified, given)),
        region_id: config.server.region.clone(),
        gauges: Box::new(move || gauges(&counted)),
    };
    Gateway::new(parts).map_err(anyhow::Error::msg).context("the table of operations")
}

fn gauges(store: &Store) -> Vec<Gauge> {
    let running = store.list::<Task>().iter().filter(|task| task.state == TaskState::Running).count();
    vec![
        ("sampan_clusters", "Clusters, whatever their state.", store.list::<Cluster>().len() as f64),
        ("sampan_machines", "Machines, those of the inventory included.", store.list::<Machine>().len() as f64),
        ("sampan_tasks_running", "Tasks that have not ended.", running as f64),
    ]
}

async fn wait_for_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn control_settings(
    dir: &DataDir,
    config: &Config,
    bundle: &Bundle,
    installation: &str,
    facts: &Arc<HostFacts>,
) -> sampan_control::reconcile::Settings {
    use sampan_control::{reconcile, service::instance_type};

    let host = Arc::clone(facts);
    let sizes = move |machine: &Machine| {
        let is_node = machine.membership.as_ref().is_none_or(|membership| membership.role.is_node());
        match instance_type::shape("instance_type", &machine.instance_type) {
            // A host of unknown size limits nothing.
            Ok(shape) if is_node && host.memory_bytes > 0 => {
                let (cpu_millis, memory_bytes) = shape.limits(host.cpus, host.memory_bytes);
                reconcile::MachineSize { cpu_millis: Some(cpu_millis), memory_bytes: Some(memory_bytes) }
            }
            _ => reconcile::MachineSize::default(),
        }
    };
    let (first, last) = config.network.public_ports;
    reconcile::Settings {
        installation_id: installation.to_owned(),
        instance_id: installation.to_owned(),
        node_image: bundle.node_image.clone(),
        bare_image: bundle.bare_image.clone(),
        node_image_versions: bundle.kubernetes.iter().map(|built| built.version.clone()).collect(),
        agents_dir: dir.agents(),
        images_dir: dir.images(),
        public_ip: config.network.public_address,
        registry_port: None,
        public_ports: reconcile::PublicPorts::of(config.network.public_address.into(), first..=last),
        limits: ports::Limits {
            drain: Duration::from_secs(config.limits.drain_seconds),
            not_ready: Duration::from_secs(config.limits.not_ready_seconds),
            repairs_max: config.limits.repairs_max,
        },
        sizes: Arc::new(sizes),
        pace: reconcile::Pace::default(),
        backups: None,
        certificates_fresh: certificates_fresh(config),
    }
}

/// Several looks before the time at which certificates are issued again is missed.
fn certificates_fresh(config: &Config) -> Duration {
    let lifetime = Duration::from_secs(60 * u64::from(config.kubernetes.certificate_lifetime));
    reconcile::CERTIFICATES_FRESH.min(lifetime / 18)
}

fn backups(config: &Config, shelf: Shelf) -> reconcile::Backups {
    let interval = Duration::from_secs(60 * u64::from(config.backup.interval_minutes));
    reconcile::Backups { shelf, interval, keep: config.backup.keep }
}

fn service_settings(config: &Config, bundle: &Bundle) -> anyhow::Result<sampan_control::service::Settings> {
    use sampan_control::service::{Settings, version};

    let versions = bundle.versions();
    let mut kubernetes_versions = Vec::new();
    for text in &versions {
        let asked = version::parse("bundle.json", text)?;
        kubernetes_versions.push(version::Version {
            major: asked.major,
            minor: asked.minor,
            patch: asked.patch.with_context(|| format!("bundle.json: {text} has no patch number"))?,
        });
    }
    let (first, last) = config.network.public_ports;
    Ok(Settings {
        region_id: config.server.region.clone(),
        create_referenced: config.network.create_referenced,
        machine_pool: config.network.machine_pool.parse().context("network.machine_pool is not a range")?,
        unknown_version: config.kubernetes.unknown_version,
        kubernetes_versions,
        containerd_version: bundle.containerd.clone(),
        ports: first..=last,
        public_address: config.network.public_address.into(),
        quotas: config.quota,
        ..Settings::default()
    })
}
