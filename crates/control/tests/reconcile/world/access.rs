//! The clusters' APIs as one run of the server sees them.

use super::*;

#[async_trait]
impl ClusterAccess for Session {
    async fn readiness(&self, cluster: &Cluster) -> Outcome<ApiReadiness> {
        let readiness = || {
            self.world.api(cluster)?;
            // It serves us one poll before it serves everybody.
            let is_first = self.world.state().polls.get(&cluster.id) == Some(&POLLS_UNTIL_READY);
            Ok(if is_first { ApiReadiness::Starting("roles".to_owned()) } else { ApiReadiness::Ready })
        };
        self.world.call(readiness).await
    }

    async fn readiness_on(&self, cluster: &Cluster, machine_id: &str) -> Outcome<ApiReadiness> {
        let world = &self.world;
        if !world.connected(machine_id) || !world.state().specs.contains_key(machine_id) {
            return world.call(|| Err(Fault::unavailable("no tunnel to the machine"))).await;
        }
        if world.store.get::<Machine>(machine_id).is_some_and(|m| m.etcd().is_some()) && !world.etcd_serves(machine_id)
        {
            return world.call(|| Err(Fault::unavailable("its member of etcd does not serve"))).await;
        }
        self.readiness(cluster).await
    }

    async fn etcd_members(&self, cluster: &Cluster) -> Outcome<Vec<EtcdMemberView>> {
        self.world.call(|| self.world.members(&cluster.id)).await
    }

    async fn change_etcd(&self, cluster: &Cluster, change: EtcdChange) -> Outcome<()> {
        self.world.call(|| self.world.change_members(&cluster.id, change)).await
    }

    async fn apply_base(&self, cluster: &Cluster, part: BasePart) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster).map(|()| {
                    let _ = world.state().base.insert((cluster.id.clone(), part));
                })
            })
            .await
    }

    async fn dns_ready(&self, cluster: &Cluster) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                let has_node =
                    cluster.is_swarm() || world.views(cluster).iter().any(|node| node.ready == NodeReadiness::Ready);
                match world.state().base.contains(&(cluster.id.clone(), BasePart::Essentials)) && has_node {
                    true => Ok(()),
                    false => Err(Fault::unavailable("the DNS service has no ready endpoint")),
                }
            })
            .await
    }

    async fn default_account_ready(&self, cluster: &Cluster) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                match world.state().without_account.contains(&cluster.id) {
                    true => Err(Fault::unavailable("the default service account is not there yet")),
                    false => Ok(()),
                }
            })
            .await
    }

    async fn nodes(&self, cluster: &Cluster) -> Outcome<Vec<NodeView>> {
        let world = &self.world;
        world.call(|| world.api(cluster).map(|()| world.views(cluster))).await
    }

    async fn settle_node(&self, cluster: &Cluster, node: &str, wanted: &NodeWanted) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                if cluster.is_swarm() {
                    return Ok(());
                }
                let mut state = world.state();
                let found = state.nodes.get_mut(&cluster.id).and_then(|nodes| nodes.get_mut(node));
                let found = found.ok_or_else(|| Fault::unavailable("no such node"))?;
                if found.wanted.pod_cidr.is_some() && found.wanted.pod_cidr != wanted.pod_cidr {
                    let text = format!("the pod network of {node} cannot be changed");
                    state.violations.push(text);
                    return Ok(());
                }
                found.wanted = wanted.clone();
                found.cordoned |= wanted.unschedulable;
                let gone = wanted.retired_labels.iter().chain(wanted.retired_taints.iter().map(|(key, _)| key));
                let gone: Vec<(String, String)> = gone.map(|key| (node.to_owned(), key.clone())).collect();
                state.retired.extend(gone);
                Ok(())
            })
            .await
    }

    async fn drain(&self, cluster: &Cluster, node: &str) -> Outcome<DrainOutcome> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                if cluster.is_swarm() {
                    return Ok(world.depart(&cluster.id, node));
                }
                let mut state = world.state();
                if state.undrainable.contains(node) {
                    return Ok(DrainOutcome::Waiting(
                        "default/web-1 must stay for now: PodDisruptionBudget default/web forbids its eviction".into(),
                    ));
                }
                let Some(found) = state.nodes.get_mut(&cluster.id).and_then(|nodes| nodes.get_mut(node)) else {
                    return Ok(DrainOutcome::Done);
                };
                found.cordoned = true;
                found.drain_rounds += 1;
                if found.drain_rounds < DRAIN_ROUNDS {
                    return Ok(DrainOutcome::Waiting("pod default/web is ending".into()));
                }
                state.drained.push(node.to_owned());
                Ok(DrainOutcome::Done)
            })
            .await
    }

    async fn delete_node(&self, cluster: &Cluster, node: &str) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                if cluster.is_swarm() {
                    return match world.depart(&cluster.id, node) {
                        DrainOutcome::Done => Ok(()),
                        DrainOutcome::Waiting(why) => Err(Fault::unavailable(why)),
                    };
                }
                let mut state = world.state();
                let removed = state.nodes.get_mut(&cluster.id).and_then(|nodes| nodes.remove(node));
                drop(state);
                let machine = removed.map(|node| node.machine_id);
                let wanted = machine.and_then(|id| world.store.get::<Machine>(&id));
                if wanted.is_some_and(|m| m.wanted == MachineWanted::Run) {
                    world.state().violations.push(format!("the node {node} of a wanted machine was deleted"));
                }
                Ok(())
            })
            .await
    }

    async fn uncordon(&self, cluster: &Cluster, node: &str) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                let mut state = world.state();
                if let Some(found) = state.nodes.get_mut(&cluster.id).and_then(|nodes| nodes.get_mut(node)) {
                    (found.cordoned, found.drain_rounds) = (false, 0);
                }
                state.admitted.push(node.to_owned());
                Ok(())
            })
            .await
    }

    async fn survey(&self, cluster: &Cluster) -> Outcome<Survey> {
        let world = &self.world;
        world.call(|| world.api(cluster).map(|()| world.state().survey.clone())).await
    }

    async fn server_version(&self, cluster: &Cluster, machine_id: &str) -> Outcome<String> {
        let world = &self.world;
        world.call(|| world.api(cluster).map(|()| world.version(machine_id))).await
    }

    async fn listeners(&self, cluster: &Cluster) -> Outcome<Vec<(String, u16)>> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                Ok(world.state().listeners.get(&cluster.id).cloned().unwrap_or_default())
            })
            .await
    }

    async fn snapshot(&self, cluster: &Cluster, to: &Path) -> Outcome<u64> {
        let world = &self.world;
        world
            .call(|| {
                world.api(cluster)?;
                world.state().snapshots.insert(to.to_owned());
                world.take_snapshot(cluster, to)
            })
            .await
    }

    async fn send_snapshot(&self, _cluster: &Cluster, machine_id: &str, _from: &Path) -> Outcome<()> {
        let world = &self.world;
        world
            .call(|| {
                world.state().lifecycle.received.insert(machine_id.to_owned());
                let _ = world.agents.send(machine_id.to_owned());
                Ok(())
            })
            .await
    }

    fn changes(&self) -> broadcast::Receiver<String> {
        self.world.clusters.subscribe()
    }

    fn watch(&self, _cluster: &Cluster) {}

    fn forget(&self, _cluster_id: &str) {}
}
