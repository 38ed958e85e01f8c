//! How a service gets from the containers it has to those it shall have, without a moment in which nobody serves.
//!
//! Where it can be, new containers are made before old ones go. Where two cannot be side by side (a port of the node, a fixed
//! name, a volume that nobody else may write to), the old one goes first.

use super::{
    body, names,
    plan::create_key,
    record::{Desired, ServiceRecord},
    scene::{Crew, Member, Scene},
};

/// Tries to make a container beside the old ones before the room is made by letting one of several go.
const CROWDED_TRIES: u32 = 3;

/// What is to be done now.
#[derive(Default)]
pub(crate) struct Step<'a> {
    pub(crate) create: usize,
    pub(crate) retire: Vec<Member<'a>>,
    /// The one that is created takes the place of the container with this number.
    pub(crate) instead_of: Option<u32>,
}

/// The next step of a service.
pub(crate) fn step<'a>(scene: &Scene<'_>, crew: &Crew<'a>) -> Step<'a> {
    let service = crew.service;
    let creating = scene.notes.creating.get(&service.id).map_or(0, |numbers| numbers.len());
    if service.service.extensions.global {
        return everywhere(scene, crew, creating);
    }
    let count = Count {
        wanted: crew.wanted,
        current: crew.current.len() + creating,
        unready: crew.current.len() - crew.ready() + creating,
        old: crew.old.len(),
    };
    if crew.old.is_empty() {
        let create = count.wanted.saturating_sub(count.current);
        let failed = scene.notes.failures.contains_key(&create_key(&service.id));
        return match misnumbered(scene, crew) {
            Some(number) if creating == 0 && !failed => Step { create: 1, instead_of: Some(number), ..Step::default() },
            _ => Step { create, retire: surplus(crew), ..Step::default() },
        };
    }
    // Only the scheduler's "no room" is answered by making room: what else fails would fail there too.
    let tries = scene.notes.failures.get(&crowded_key(&service.id)).copied().unwrap_or(0);
    let serving = crew.old.iter().filter(|member| !member.useless() && !member.busy).count() + crew.ready();
    let crowded = tries >= CROWDED_TRIES && serving >= 2;
    if side_by_side(service) && !crowded { new_first(crew, &count) } else { old_first(crew, &count, crowded) }
}

/// Counts the scheduler's refusals of a service's containers.
pub(crate) fn crowded_key(service: &str) -> String {
    format!("crowded:{service}")
}

/// New containers that were made beside old ones have numbers beyond the wanted count. One by one they are replaced by
/// containers with the numbers that became free; engines cannot rename a container that runs without cutting it off from
/// its network. Answers the number of the next one to be replaced.
pub(crate) fn misnumbered(scene: &Scene<'_>, crew: &Crew<'_>) -> Option<u32> {
    let service = crew.service;
    if service.service.extensions.global
        || !side_by_side(service)
        || !crew.settled()
        || service.desired != Desired::Running
    {
        return None;
    }
    let beyond = crew.current.iter().rev().find(|member| member.number as usize > crew.wanted && !member.completed)?;
    let taken = |number: u32| {
        let name = names::container(service, number);
        crew.all().any(|member| member.number == number)
            || scene.view.containers.iter().any(|container| container.name == name)
    };
    (1..beyond.number).take(crew.wanted).any(|number| !taken(number)).then_some(beyond.number)
}

struct Count {
    wanted: usize,
    /// Up to date, those being made included.
    current: usize,
    /// Of these, not ready.
    unready: usize,
    old: usize,
}

/// Whether an old and a new container of the service may run at once.
fn side_by_side(service: &ServiceRecord) -> bool {
    let alone = service.service.container_name.is_some()
        || body::on_host_network(service)
        || !body::host_ports(service).is_empty();
    let has_data = !service.service.volumes.is_empty()
        || !service.service.volumes_from.is_empty()
        || body::has_host_paths(service);
    !alone && (service.is_routed() || !has_data)
}

/// Containers that are replaced at once.
fn batch(service: &ServiceRecord, wanted: usize) -> usize {
    if service.service.extensions.rolling_updates {
        (service.service.extensions.parallelism as usize).max(1)
    } else if side_by_side(service) || service.is_routed() {
        (wanted / 2).max(1)
    } else {
        wanted.max(1)
    }
}

/// Those that go first come first: of no use, then the highest number.
fn by_loss<'a>(members: &[Member<'a>]) -> Vec<Member<'a>> {
    let mut members: Vec<Member<'a>> = members.iter().filter(|member| member.reachable).cloned().collect();
    members.sort_by_key(|member| (!member.useless(), std::cmp::Reverse(member.number)));
    members
}

fn new_first<'a>(crew: &Crew<'a>, count: &Count) -> Step<'a> {
    let missing = count.wanted.saturating_sub(count.current);
    let create = missing.min(batch(crew.service, count.wanted).saturating_sub(count.unready));
    let mut needed = count.wanted.saturating_sub(crew.ready());
    let mut retire = Vec::new();
    // The most useful come first here, so that it is those that stay.
    for member in by_loss(&crew.old).into_iter().rev() {
        if !member.useless() && !member.busy && needed > 0 {
            needed -= 1;
        } else if !member.busy {
            retire.push(member);
        }
    }
    Step { create, retire, instead_of: None }
}

fn old_first<'a>(crew: &Crew<'a>, count: &Count, one_at_a_time: bool) -> Step<'a> {
    let create = count.wanted.saturating_sub(count.current + count.old);
    let batch = if one_at_a_time { 1 } else { batch(crew.service, count.wanted) };
    let going = crew.old.iter().filter(|member| member.busy).count();
    let too_many = (count.current + count.old).saturating_sub(count.wanted);
    let turn = if count.unready == 0 { batch } else { 0 };
    let mut quota = turn.max(too_many).saturating_sub(going);
    let mut retire = Vec::new();
    for member in by_loss(&crew.old).into_iter().filter(|member| !member.busy) {
        if member.useless() && !one_at_a_time {
            retire.push(member);
        } else if quota > 0 {
            quota -= 1;
            retire.push(member);
        }
    }
    Step { create, retire, instead_of: None }
}

/// Containers beyond the wanted number: first those that are of no use, then the highest numbers. One that serves goes only
/// when enough others do.
fn surplus<'a>(crew: &Crew<'a>) -> Vec<Member<'a>> {
    let too_many = crew.current.len().saturating_sub(crew.wanted);
    let going = crew.current.iter().filter(|member| member.busy).count();
    let mut ready = crew.ready();
    let mut retire = Vec::new();
    let number_of = |member: &Member<'_>| member.number as usize;
    let misnumbered = crew.current.iter().any(|member| number_of(member) > crew.wanted);
    for member in by_loss(&crew.current).into_iter().filter(|member| !member.busy) {
        if retire.len() + going >= too_many {
            break;
        }
        // It was made to take the place of one with a number beyond, which stays until this one is ready.
        if misnumbered && !member.ready() && !member.useless() && number_of(&member) <= crew.wanted {
            continue;
        }
        if !member.ready() {
            retire.push(member);
        } else if ready > crew.wanted {
            ready -= 1;
            retire.push(member);
        }
    }
    retire
}

/// One on every node: on each, the old one goes before the new one comes.
fn everywhere<'a>(scene: &Scene<'_>, crew: &Crew<'a>, creating: usize) -> Step<'a> {
    let on_wanted_node =
        |member: &Member<'_>| scene.nodes.get(&member.container.node).is_some_and(|node| node.schedulable);
    let mut seen = std::collections::BTreeSet::new();
    let twice = |member: &&Member<'a>| !seen.insert(member.container.node.clone());
    let mut retire: Vec<Member<'a>> = crew.current.iter().filter(twice).cloned().collect();
    let going = crew.old.iter().filter(|member| member.busy).count();
    let waiting = crew.current.len() - crew.ready() + creating + going;
    let mut quota = batch(crew.service, crew.wanted).saturating_sub(waiting);
    for member in by_loss(&crew.old) {
        if member.useless() || !on_wanted_node(&member) || seen.contains(&member.container.node) {
            retire.push(member);
        } else if quota > 0 {
            quota -= 1;
            retire.push(member);
        }
    }
    retire.retain(|member| !member.busy && member.reachable);
    Step { create: 0, retire, instead_of: None }
}
