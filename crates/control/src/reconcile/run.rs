//! Puts the controllers together: what wakes them, and which key is whose work.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt as _, stream::BoxStream};
use sampan_provider::{MachineProvider, ProviderEvent};
use sampan_store::{
    Change, Kind, Store,
    model::{Cluster, Machine, MachineRole, Outcome, new_token},
};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    task::JoinSet,
};

use super::{
    backup, balancing,
    blueprints::Blueprints,
    cluster,
    context::{Context, Key},
    driver::{Driver, Reconcile, Status, Waker},
    garbage,
    lease::Identity,
    machines,
    memory::Memory,
    names::Names,
    scope::{Life, life, role},
    settings::Settings,
};
use crate::ports::{Agents, Balancing, Clock, ClusterAccess};

/// What the controllers work with.
pub struct Controllers {
    /// What is wanted, and what users see.
    pub store: Store,
    /// Where machines come from.
    pub provider: Arc<dyn MachineProvider>,
    /// The machines' agents.
    pub agents: Arc<dyn Agents>,
    /// The clusters' APIs.
    pub access: Arc<dyn ClusterAccess>,
    /// The balancer.
    pub balancing: Arc<dyn Balancing>,
    /// What machines have to be.
    pub blueprints: Arc<dyn Blueprints>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The installation.
    pub settings: Settings,
}

/// Running controllers. Dropping it kills them at once, which is safe.
pub struct Handle {
    driver: Driver,
    waker: Waker<Key>,
    /// Aborted when dropped.
    _sources: JoinSet<()>,
}

impl Handle {
    /// Begins nothing new, waits a little for the work in progress, and returns.
    pub async fn stop(self) {
        self.driver.stop().await;
    }

    /// Whether nothing is being worked on and nothing is due: all that is left waits for time or for news.
    pub fn is_idle(&self) -> bool {
        self.waker.is_idle()
    }

    /// Looks at something soon, without a change in the store.
    pub fn wake(&self, key: Key) {
        self.waker.wake(key);
    }
}

impl Controllers {
    /// Starts them. Everything recorded is looked at once, so what a former run left undone goes on.
    pub fn start(self) -> Handle {
        let waker = Waker::new(&self.settings.pace);
        let context = Arc::new(Context {
            names: Names::new(&self.settings.installation_id),
            identity: Identity::new(&self.settings.instance_id, &new_token(8)),
            memory: Memory::default(),
            waker: waker.clone(),
            started: tokio::time::Instant::now(),
            store: self.store,
            provider: self.provider,
            agents: self.agents,
            access: self.access,
            balancing: self.balancing,
            blueprints: self.blueprints,
            clock: self.clock,
            settings: self.settings,
        });
        let pace = context.settings.pace;
        // The sources listen before the driver looks at everything, so no change falls between.
        let sources = sources(&context);
        let driver = Driver::start(Arc::new(Work { context }), waker.clone(), pace);
        Handle { driver, waker, _sources: sources }
    }
}

struct Work {
    context: Arc<Context>,
}

#[async_trait]
impl Reconcile for Work {
    type Key = Key;

    async fn reconcile(&self, key: &Key) -> Outcome<Status> {
        let ctx = &*self.context;
        match key {
            Key::Cluster(id) => cluster::reconcile(ctx, id).await,
            Key::Machine(id) => machines::reconcile(ctx, id).await,
            Key::Backup(id) => backup::reconcile(ctx, id).await,
            Key::Balancer => balancing::reconcile(ctx).await,
            Key::Garbage => garbage::collect(ctx).await,
        }
    }

    fn all(&self) -> Vec<Key> {
        everything(&self.context.store)
    }
}

fn everything(store: &Store) -> Vec<Key> {
    let clusters = store.list::<Cluster>();
    let live = clusters
        .iter()
        .filter(|cluster| life(cluster) != Life::Gone)
        .flat_map(|cluster| [Key::Cluster(cluster.id.clone()), Key::Backup(cluster.id.clone())]);
    let machines = store.list::<Machine>();
    let members = machines
        .iter()
        .filter(|machine| machine.membership.is_some() || machine.host.is_some())
        .map(|machine| Key::Machine(machine.id.clone()));
    live.chain(members).chain([Key::Balancer, Key::Garbage]).collect()
}

/// Everything that wakes keys.
fn sources(ctx: &Arc<Context>) -> JoinSet<()> {
    let mut sources = JoinSet::new();
    sources.spawn(listen(Arc::clone(ctx), ctx.store.watch(), on_change));
    sources.spawn(listen(Arc::clone(ctx), ctx.agents.changes(), |ctx, machine_id: String| on_agent(ctx, &machine_id)));
    sources
        .spawn(listen(Arc::clone(ctx), ctx.access.changes(), |ctx, cluster_id: String| ctx.wake_cluster(&cluster_id)));
    sources.spawn(listen_to_engine(Arc::clone(ctx), ctx.provider.events()));
    sources
}

/// Hands each message to `react`; looks at everything when messages were lost.
async fn listen<M: Clone + Send + 'static>(ctx: Arc<Context>, mut messages: Receiver<M>, react: fn(&Context, M)) {
    loop {
        match messages.recv().await {
            Ok(message) => react(&ctx, message),
            Err(RecvError::Lagged(_)) => wake_everything(&ctx),
            Err(RecvError::Closed) => return,
        }
    }
}

async fn listen_to_engine(ctx: Arc<Context>, mut events: BoxStream<'static, ProviderEvent>) {
    while let Some(event) = events.next().await {
        if event.name.is_empty() || event.name == ctx.names.balancer() {
            // A balancer that starts again opens what is on its disk, and somebody may have taken a port meanwhile.
            ctx.memory.doubt_balancer();
            ctx.waker.wake(Key::Balancer);
        }
        match ctx.names.id_of(&event.name) {
            Some(id) => ctx.wake_machine(id),
            None if event.name.is_empty() => wake_everything(&ctx),
            None => {}
        }
    }
}

fn wake_everything(ctx: &Context) {
    for key in everything(&ctx.store) {
        ctx.waker.wake(key);
    }
}

fn on_change(ctx: &Context, change: Change) {
    match (change.kind, &change.parent) {
        (Kind::Cluster, _) => {
            ctx.wake_cluster(&change.id);
            ctx.waker.wake(Key::Balancer);
            ctx.waker.wake(Key::Backup(change.id.to_string()));
        }
        (Kind::Machine, cluster_id) => {
            ctx.wake_machine(&change.id);
            if let Some(cluster_id) = cluster_id {
                ctx.wake_cluster(cluster_id);
                // Connections go to the nodes that are in service.
                if ctx.store.get::<Cluster>(cluster_id).is_some_and(|cluster| cluster.is_swarm()) {
                    ctx.waker.wake(Key::Balancer);
                }
            }
        }
        (Kind::NodePool, Some(cluster_id)) => ctx.wake_cluster(cluster_id),
        (Kind::Task, Some(cluster_id)) => {
            ctx.wake_cluster(cluster_id);
            ctx.waker.wake(Key::Backup(cluster_id.to_string()));
        }
        _ => {}
    }
}

/// The control plane's agent says most about the API, so its cluster looks too.
fn on_agent(ctx: &Context, machine_id: &str) {
    ctx.wake_machine(machine_id);
    let machine = ctx.store.get::<Machine>(machine_id);
    let control_plane = machine.filter(|machine| role(machine).is_some_and(MachineRole::is_control_plane));
    if let Some(cluster_id) = control_plane.as_ref().and_then(|machine| machine.cluster_id()) {
        ctx.wake_cluster(cluster_id);
    }
}
