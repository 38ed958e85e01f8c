//! Whether a spec makes sense. One that does not is refused as a whole, before anything of it is stored or done.

use std::collections::{BTreeMap, BTreeSet};

use super::files::is_plain_path;
use crate::spec::{NodeSpec, Process};

const NAME_BYTES_MAX: usize = 64;

/// Says what is wrong with the spec.
pub(crate) fn check(spec: &NodeSpec) -> Result<(), String> {
    for file in &spec.files {
        if !is_plain_path(&file.path) {
            return Err(format!("file {:?}: the path must be absolute and without ..", file.path));
        }
    }
    if let Some(payload) = spec.payload.iter().find(|payload| !is_plain_path(&payload.path)) {
        return Err(format!("payload {:?}: the path must be absolute and without ..", payload.path));
    }
    let mut processes = BTreeMap::new();
    for process in &spec.processes {
        let name = &process.name;
        if !is_process_name(name) {
            return Err(format!("process {name:?}: a name is made of letters, digits, '.', '_' and '-'"));
        }
        if process.command.is_empty() {
            return Err(format!("process {name}: the command is empty"));
        }
        if processes.insert(name.as_str(), process).is_some() {
            return Err(format!("process {name}: the name is used twice"));
        }
    }
    for process in &spec.processes {
        if let Some(missing) = process.after.iter().find(|name| !processes.contains_key(name.as_str())) {
            return Err(format!("process {}: it comes after {missing:?}, which does not exist", process.name));
        }
    }
    check_circles(&processes)
}

/// Whether this can be a process' name; it is part of file names and paths.
pub(crate) fn is_process_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Takes away, again and again, what comes after nothing that is left; a circle remains.
fn check_circles(processes: &BTreeMap<&str, &Process>) -> Result<(), String> {
    let mut left: BTreeSet<&str> = processes.keys().copied().collect();
    while !left.is_empty() {
        let blocked: BTreeSet<&str> = left
            .iter()
            .copied()
            .filter(|name| {
                processes.get(name).is_some_and(|p| p.after.iter().any(|other| left.contains(other.as_str())))
            })
            .collect();
        if blocked.len() == left.len() {
            let names: Vec<&str> = left.into_iter().collect();
            return Err(format!("processes {}: they wait for each other", names.join(", ")));
        }
        left = blocked;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::File;

    fn process(name: &str, after: &[&str]) -> Process {
        Process {
            name: name.into(),
            command: vec!["true".into()],
            start_arguments: vec![],
            env: BTreeMap::new(),
            after: after.iter().map(|name| (*name).to_owned()).collect(),
            wait_for: None,
            ready: None,
            restart_on: vec![],
            oneshot: false,
        }
    }

    fn verdict(processes: Vec<Process>) -> String {
        check(&NodeSpec { processes, ..NodeSpec::default() }).err().unwrap_or_default()
    }

    #[test]
    fn processes() {
        assert_eq!(verdict(vec![process("a", &["b"]), process("b", &[])]), "");
        assert!(
            verdict(vec![process("a", &["b"]), process("b", &["a"]), process("c", &[])]).contains("a, b: they wait")
        );
        assert!(verdict(vec![process("a", &["x"])]).contains("does not exist"));
        assert!(verdict(vec![process("a", &[]), process("a", &[])]).contains("twice"));
        assert!(verdict(vec![process("../a", &[])]).contains("name"));
        assert!(verdict(vec![Process { command: vec![], ..process("a", &[]) }]).contains("empty"));
    }

    #[test]
    fn file_paths() {
        let files = vec![File { path: "/etc/../x".into(), mode: 0o644, content: String::new() }];
        assert!(check(&NodeSpec { files, ..NodeSpec::default() }).is_err());
    }
}
