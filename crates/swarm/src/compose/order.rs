//! Which service waits for which.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    error::{Result, TemplateError},
    template::{Service, Template},
};

impl Template {
    /// Services in levels: each depends only on services of levels before its own. Within a level by name. Services that
    /// depend on each other, which [`super::read`] refuses, would stand together in the last level.
    pub fn start_order(&self) -> Vec<Vec<&str>> {
        let mut left: BTreeMap<&str, &Service> =
            self.services.iter().map(|(name, service)| (name.as_str(), service)).collect();
        let mut levels = Vec::new();
        while !left.is_empty() {
            let waits = |service: &Service| service.depends.keys().any(|other| left.contains_key(other.as_str()));
            let mut level: Vec<&str> =
                left.iter().filter(|(_, service)| !waits(service)).map(|(name, _)| *name).collect();
            if level.is_empty() {
                level = left.keys().copied().collect();
            }
            for name in &level {
                left.remove(name);
            }
            levels.push(level);
        }
        levels
    }
}

/// Refuses services that wait for each other, and names one such circle.
pub(super) fn refuse_cycles(services: &BTreeMap<String, Service>) -> Result<()> {
    let mut done = BTreeSet::new();
    for name in services.keys() {
        if let Some(cycle) = cycle_from(services, name, &mut done) {
            let first = cycle.first().map_or("", String::as_str);
            let message = format!(
                "services wait for each other: {} → {first} (through depends_on, links, volumes_from, network_mode, pid, ipc or \
                 aliyun.depends)",
                cycle.join(" → ")
            );
            return Err(TemplateError::new("", message));
        }
    }
    Ok(())
}

/// Goes along the dependencies, depth first, with a stack of its own.
fn cycle_from<'a>(
    services: &'a BTreeMap<String, Service>,
    start: &'a str,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    let next = |name: &str| services.get(name).into_iter().flat_map(|service| service.depends.keys());
    if done.contains(start) {
        return None;
    }
    let mut way = vec![start];
    let mut open = vec![next(start)];
    while let Some(edges) = open.last_mut() {
        match edges.next() {
            Some(name) => {
                if let Some(at) = way.iter().position(|other| other == name) {
                    return Some(way[at..].iter().map(|name| (*name).to_owned()).collect());
                }
                if !done.contains(name.as_str()) {
                    way.push(name);
                    open.push(next(name));
                }
            }
            None => {
                open.pop();
                done.extend(way.pop());
            }
        }
    }
    None
}
