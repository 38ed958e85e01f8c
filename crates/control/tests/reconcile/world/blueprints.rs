//! What machines are told, as far as the world looks at it.

use super::*;

#[async_trait]
impl Blueprints for Session {
    async fn ensure_pki(&self, cluster: &Cluster, _control_planes: &[Machine]) -> Outcome<()> {
        let world = &self.world;
        let name = format!("cluster/{}/pki", cluster.id);
        if world.store.secret(&name).await?.is_none() {
            world.call(|| Ok(())).await?;
            let mut batch = Batch::new();
            batch.secret(&name, b"keys");
            world.store.commit(batch).await?;
        }
        let valid = now(world) + LIFETIME;
        world.state().lifecycle.certificates.entry(cluster.id.clone()).or_insert((valid, 1));
        world.call(|| Ok(())).await
    }

    async fn renew(&self, cluster: &Cluster, _control_planes: &[Machine], now: Timestamp) -> Outcome<Renewal> {
        self.world.call(|| Ok(self.world.state().lifecycle.renew(&cluster.id, now))).await
    }

    async fn control_plane(&self, cluster: &Cluster, machine: &Machine, workers: &[Machine]) -> Outcome<NodeSpec> {
        let is_node = machine.is_node_of(&cluster.id);
        let node = machine.membership.as_ref().map_or("", |member| &member.node_name);
        let mut spec = self.spec(cluster, if is_node { node } else { "control-plane" }, workers).await?;
        spec.files.push(version_file(cluster, machine));
        let parameters = cluster.control_plane.parameters_of(&machine.id);
        if !parameters.is_empty() {
            let content = serde_json::to_string(parameters).expect("plain data");
            spec.files.push(File { path: PARAMETERS.into(), mode: 0o600, content });
        }
        if let Some(member) = machine.etcd() {
            let content = serde_json::to_string(member).expect("plain data");
            spec.files.push(File { path: ETCD.into(), mode: 0o600, content });
        }
        if let Some(restore) = &cluster.restore {
            let content = format!("{:?}/{}", restore.phase, cluster.id);
            spec.files.push(File { path: RESTORE.into(), mode: 0o600, content });
        }
        if cluster.is_swarm() {
            let tell = |machine: &Machine| {
                let member = machine.membership.as_ref().expect("a member");
                (machine.id.clone(), member.node_name.clone(), machine.wanted != MachineWanted::Run)
            };
            let told: Vec<(String, String, bool)> = workers.iter().map(tell).collect();
            let content = serde_json::to_string(&told).expect("plain data");
            spec.files.push(File { path: MASTER.into(), mode: 0o600, content });
        }
        Ok(spec)
    }

    async fn worker(
        &self,
        cluster: &Cluster,
        _pool: &NodePool,
        machine: &Machine,
        peers: &[Machine],
    ) -> Outcome<NodeSpec> {
        let node = &machine.membership.as_ref().expect("a member").node_name;
        let mut spec = self.spec(cluster, node, peers).await?;
        spec.files.push(version_file(cluster, machine));
        Ok(spec)
    }
}

/// Which version a machine was told to run.
fn version_file(cluster: &Cluster, machine: &Machine) -> File {
    File { path: VERSION.into(), mode: 0o600, content: machine.version(cluster).to_owned() }
}

impl Session {
    async fn spec(&self, cluster: &Cluster, mark: &str, peers: &[Machine]) -> Outcome<NodeSpec> {
        if let Some(message) = &self.world.state().refusal {
            return Err(Fault::invalid("kubernetes_version", message));
        }
        let name = format!("cluster/{}/pki", cluster.id);
        if self.world.store.secret(&name).await?.is_none() {
            self.world.state().violations.push(format!("a spec was asked for before {} had certificates", cluster.id));
        }
        let route = |peer: &Machine| Some(Route { destination: peer.membership.as_ref()?.pod_cidr?, via: peer.ip });
        let content = format!("{}/{mark}", cluster.id);
        let file = File { path: "/mark".into(), mode: 0o600, content };
        let issued = self.world.state().lifecycle.certificates.get(&cluster.id).map_or(0, |(_, issued)| *issued);
        let certificates = File { path: CERTIFICATES.into(), mode: 0o600, content: issued.to_string() };
        Ok(NodeSpec {
            files: vec![file, certificates],
            routes: peers.iter().filter_map(route).collect(),
            ..NodeSpec::default()
        })
    }
}
