//! `sampan host join`: what the attach script runs once the agent is on the host.

use std::{collections::BTreeSet, fs, net::IpAddr, path::PathBuf};

use super::{
    HostError, commands, data_disk, facts,
    identity::Identity,
    leave, mounts, preflight,
    remote::Server,
    service,
    state::HostState,
    wire::{JoinAnswer, JoinRequest},
};

/// What the script hands over.
pub struct JoinOptions {
    /// `host:port` of the server.
    pub server: String,
    /// File with the server's authority, which the script has compared with the hash in the line.
    pub ca: PathBuf,
    /// The token; good for one host, once.
    pub token: String,
    /// File with the names of the packages that were installed before the line ran, one in each line.
    pub packages_before: Option<PathBuf>,
}

/// Makes this host a node: asks the server, remembers how the host was, and starts the agent as a service.
///
/// # Errors
/// When the host cannot be a node, or the server refuses; then nothing of ours stays on it.
pub async fn join(options: JoinOptions) -> Result<JoinAnswer, HostError> {
    let root = PathBuf::from("/");
    if HostState::load(&root)?.is_some() {
        return Err(HostError(format!(
            "this host is a node of a Sampan cluster already, or was not left in good order: `{} host leave` leaves it",
            super::AGENT_PATH
        )));
    }
    // Before the server is asked: what is refused now has used up no token, and the same line is good for another try.
    let checked = preflight::check(&root).and_then(|()| data_disk::check_named());
    let ca = fs::read_to_string(&options.ca).map_err(|error| HostError::of(options.ca.display(), error))?;
    let mut state = HostState {
        server: options.server.clone(),
        ca,
        before: preflight::snapshot(&root),
        packages: installed_since(options.packages_before.as_ref()),
        ..HostState::default()
    };
    let joined = match checked {
        Ok(()) => enter(&root, &options, &mut state).await,
        Err(refusal) => Err(refusal),
    };
    if joined.is_err() {
        // What had to be asked for first is undone; the refusal is what counts.
        for left in leave::clean(&root, &state).into_iter().chain(leave::remove_self(&root, &state.before)) {
            eprintln!("sampan: could not be removed again: {left}");
        }
    }
    joined.map_err(|error| match state.machine_id.as_str() {
        "" => error,
        id => HostError(format!(
            "{error}; the cluster has this host as machine {id}: remove that node, then run a new line"
        )),
    })
}

async fn enter(root: &std::path::Path, options: &JoinOptions, state: &mut HostState) -> Result<JoinAnswer, HostError> {
    let server = Server::new(&options.server, &state.ca)?;
    let reached = server.connect().await.map_err(|error| HostError::of(&options.server, error))?;
    let ip = match reached.get_ref().0.local_addr().map(|address| address.ip()) {
        Ok(IpAddr::V4(ip)) => Some(ip),
        _ => None,
    };
    drop(reached);
    let facts = facts::gather(ip);
    let identity = Identity::generate(&facts.hostname)?;
    let answer: JoinAnswer =
        server.call("/v1/join", Some(&options.token), &JoinRequest { csr: identity.csr, facts }).await?;
    state.machine_id.clone_from(&answer.machine_id);
    state.certificate.clone_from(&answer.certificate);
    state.key = identity.key;
    state.save(root)?;
    if let Some(name) = &answer.hostname {
        leave::set_name(name).map_err(|error| HostError::of("the host name cannot be changed", error))?;
        state.renamed = true;
        state.save(root)?;
    }
    if state.before.private_root {
        share_mounts()?;
    }
    if answer.format_disk {
        state.data_disk = data_disk::choose()?;
        state.save(root)?;
    }
    if let Some(disk) = &state.data_disk {
        data_disk::prepare(disk)?;
    }
    service::install()?;
    Ok(answer)
}

/// Mounts of the host must reach pods that ask for that; systemd has it so.
fn share_mounts() -> Result<(), HostError> {
    let flags = nix::mount::MsFlags::MS_SHARED | nix::mount::MsFlags::MS_REC;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .map_err(|error| HostError::of("mounts cannot be shared with pods", error))?;
    if mounts::root_is_private(&mounts::read()) {
        return Err(HostError("mounts of this host cannot be shared with pods".into()));
    }
    Ok(())
}

/// Packages that are installed now and were not before the line ran.
fn installed_since(list: Option<&PathBuf>) -> Vec<String> {
    let Some(before) = list.and_then(|path| fs::read_to_string(path).ok()).filter(|text| !text.trim().is_empty())
    else {
        return Vec::new();
    };
    let before: BTreeSet<&str> = before.lines().map(str::trim).collect();
    let now = commands::run("dpkg-query", &["-W", "-f", "${Package}\n"]).unwrap_or_default();
    now.lines().map(str::trim).filter(|name| !name.is_empty() && !before.contains(name)).map(str::to_owned).collect()
}
