//! The line that makes a host a node: a token for one host and one pool, and how the host gets at the installer.

use std::net::Ipv4Addr;

use sampan_store::model::{
    Cluster, Fault, FaultKind, JOIN_TOKEN_PREFIX, JoinToken, Level, Outcome, ProxyMode, Setting, TaskType, Timestamp,
    Vpc, new_token,
};

use super::pool_of;
use crate::{
    hosts::token_hash,
    service::{
        RequestContext, Service,
        change::{About, Change, Notice},
        fields,
    },
};

/// A line is good for so long.
const TOKEN_HOURS: i64 = 24;
/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 24;
/// Lines of a cluster that are good at the same time.
const TOKENS_MAX: usize = 200;

/// Where hosts join.
#[derive(Clone, Debug)]
pub struct HostDoor {
    /// `host:port` that lines name; `None`: the gateway of the cluster's VPC, with `port`.
    pub address: Option<String>,
    /// The port that the server listens on.
    pub port: u16,
    /// SHA-256 of the authority that hosts shall believe, hexadecimal.
    pub fingerprint: String,
    /// Why nothing can be given out to hosts; `None`: it can.
    pub trouble: Option<String>,
    /// The architecture of what is given out, as the API calls it: `amd64`, `arm64`.
    pub arch: String,
}

/// What a line shall do (catalogue 11.7).
#[derive(Clone, Debug, Default)]
pub struct AttachScript {
    /// `nodepool_id`; the default pool when absent.
    pub node_pool_id: Option<String>,
    /// `format_disk`.
    pub format_disk: Option<bool>,
    /// `keep_instance_name`; true when absent.
    pub keep_instance_name: Option<bool>,
    /// `rds_instances`.
    pub rds_instances: Vec<String>,
    /// `arch`: `amd64` when absent.
    pub arch: Option<String>,
    /// `options`: of edge clusters.
    pub options: Option<String>,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

impl Service {
    /// Makes a line that brings one host into a pool, once, within a day.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState; NotFound for the pool; Unsupported when hosts cannot join here; InvalidParameter of
    /// `arch`.
    pub async fn attach_script(&self, ctx: &RequestContext, cluster_id: &str, input: &AttachScript) -> Outcome<String> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        let door = self.host_door()?;
        let arch = fields::given(&input.arch).unwrap_or(&door.arch);
        fields::one_of("arch", arch, &["amd64", "arm", "arm64"])?;
        if arch != door.arch {
            let text = format!("arch: this installation was built for {}, and has nothing for {arch}", door.arch);
            return Err(Fault::invalid("arch", text));
        }
        let token = new_token(TOKEN_BYTES);
        self.change(ctx, |change| {
            let cluster = self.changeable_cluster(change.ctx, cluster_id)?;
            let pool = pool_of(change, &cluster, fields::given(&input.node_pool_id))?;
            forget_expired(change, &cluster.id)?;
            let expires = jiff::SignedDuration::from_hours(TOKEN_HOURS);
            let leave = JoinToken {
                account_id: change.ctx.account_id.clone(),
                cluster_id: cluster.id.clone(),
                node_pool_id: pool.id.clone(),
                expires: change.now.checked_add(expires).unwrap_or(Timestamp::MAX),
                used_by: None,
                format_disk: input.format_disk.unwrap_or(false),
                keep_instance_name: input.keep_instance_name.unwrap_or(true),
            };
            let value = serde_json::to_value(&leave)
                .map_err(|error| Fault::internal(format!("a join token cannot be written as JSON: {error}")))?;
            change.create(&Setting { id: format!("{JOIN_TOKEN_PREFIX}{}", token_hash(&token)), value });
            let about = About::NodePool { cluster_id: &cluster.id, id: &pool.id };
            let text = format!(
                "A line was made that brings one host into node pool {}; it is good once, until {}",
                pool.name, leave.expires
            );
            change.event(about, TaskType::ClusterAttach, Level::Info, "AttachScriptMade", text);
            change.notices(about, TaskType::ClusterAttach, &notices(input));
            let gateway = change.store.get::<Vpc>(&cluster.network.vpc_id).and_then(|vpc| vpc.cidr.hosts().next());
            line(door, gateway, &cluster, &token, leave.format_disk)
        })
        .await
    }

    pub(super) fn host_door(&self) -> Outcome<&HostDoor> {
        let off = "hosts cannot join this installation: start the server with --listen-agents ADDRESS:PORT, where hosts \
                   reach it";
        let door = self.door.get().ok_or_else(|| Fault::new(FaultKind::Unsupported, off))?;
        match &door.trouble {
            Some(trouble) => Err(Fault::new(FaultKind::Unsupported, trouble.clone())),
            None => Ok(door),
        }
    }
}

fn notices(input: &AttachScript) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut unused = Vec::new();
    for (name, given) in
        [("rds_instances", !input.rds_instances.is_empty()), ("options", fields::given(&input.options).is_some())]
    {
        unused.extend(given.then_some(name));
    }
    if !unused.is_empty() {
        let text = format!("recorded without effect: {} (of edge clusters and RDS)", unused.join(", "));
        notices.push(Notice::new("NotApplied", text));
    }
    notices.extend(Notice::unknown_fields(&input.unknown_fields));
    notices
}

/// Forgets tokens that are good no more; refuses when too many are.
fn forget_expired(change: &mut Change<'_>, cluster_id: &str) -> Outcome<()> {
    let mut live = 0;
    for setting in change.store.list::<Setting>().iter().filter(|setting| setting.id.starts_with(JOIN_TOKEN_PREFIX)) {
        match read(setting) {
            Some(token) if token.expires > change.now => {
                live += usize::from(token.cluster_id == cluster_id && token.used_by.is_none());
            }
            _ => change.delete(setting),
        }
    }
    if live >= TOKENS_MAX {
        let text = format!("{live} attach lines of this cluster are good and unused; use these, or wait a day");
        return Err(Fault::new(FaultKind::Throttled, text));
    }
    Ok(())
}

/// The token in a setting.
pub(super) fn read(setting: &Setting) -> Option<JoinToken> {
    serde_json::from_value(setting.value.clone()).ok()
}

fn line(
    door: &HostDoor,
    gateway: Option<Ipv4Addr>,
    cluster: &Cluster,
    token: &str,
    format_disk: bool,
) -> Outcome<String> {
    let address = match (&door.address, gateway) {
        (Some(address), _) => address.clone(),
        (None, Some(gateway)) => format!("{gateway}:{}", door.port),
        (None, None) => {
            return Err(Fault::unavailable("the cluster's VPC is not recorded; name --advertise-agents HOST:PORT"));
        }
    };
    // Only this mode of kube-proxy uses the tool.
    let packages = if cluster.network.proxy_mode == ProxyMode::Iptables { "iptables" } else { "" };
    Ok(command_line(&address, &door.fingerprint, token, packages, format_disk))
}

/// One line for a root shell. It fetches the authority, compares it with the hash, and believes nothing that was not served
/// under it. It runs in a shell of its own, so that a failure does not close the one it is pasted into.
pub(crate) fn command_line(address: &str, fingerprint: &str, token: &str, packages: &str, format_disk: bool) -> String {
    // A disk that the host's environment names is none of this line's business, unless it asks for one.
    let disk = if format_disk { "" } else { "SAMPAN_DATA_DISK= " };
    let get = |options: (&str, &str), file: &str| {
        format!(
            "if command -v curl >/dev/null; then curl -fsS {} -o \"$D/{file}\" \"https://$A/{file}\"; \
             else wget -q {} -O \"$D/{file}\" \"https://$A/{file}\"; fi",
            options.0, options.1
        )
    };
    let authority = get(("-k", "--no-check-certificate"), "ca.pem");
    let script = get(("--cacert \"$D/ca.pem\"", "--ca-certificate=\"$D/ca.pem\""), "attach.sh");
    [
        "( set -eu".to_owned(),
        format!("A={address}"),
        "D=$(mktemp -d)".to_owned(),
        "trap 'rm -rf \"$D\"' EXIT".to_owned(),
        "dpkg-query -W -f '${Package}\\n' >\"$D/packages\" || true".to_owned(),
        "command -v curl >/dev/null || command -v wget >/dev/null || { apt-get -q update && apt-get -qy \
         --no-install-recommends install curl; }"
            .to_owned(),
        authority,
        format!(
            "echo \"{fingerprint}  $D/ca.pem\" | sha256sum -c --status || {{ echo \"sampan: $A is not the server of this \
             line: its authority has another hash\" >&2; exit 1; }}"
        ),
        script,
        format!("{disk}SAMPAN_TOKEN={token} SAMPAN_PACKAGES='{packages}' sh \"$D/attach.sh\" \"$A\" \"$D\" )"),
    ]
    .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_one_line_that_a_shell_reads() {
        let line = command_line("10.200.0.1:7443", &"ab".repeat(32), "0123456789abcdef", "", true);
        assert!(!line.contains('\n'));
        let read = std::process::Command::new("sh").args(["-n", "-c", &line]).status().unwrap();
        assert!(read.success(), "{line}");
        let (believed, fetched) = (line.find("sha256sum").unwrap(), line.find("attach.sh").unwrap());
        assert!(believed < fetched, "nothing is fetched to be run before the authority is compared");
    }

    /// The text is what people paste; a change of it is to be seen.
    #[test]
    fn the_line_as_people_see_it() {
        let line = command_line("cs.example.com:7443", "HASH", "TOKEN", "iptables", false);
        assert_eq!(
            line,
            "( set -eu; A=cs.example.com:7443; D=$(mktemp -d); trap 'rm -rf \"$D\"' EXIT; dpkg-query -W -f '${Package}\\n' \
             >\"$D/packages\" || true; command -v curl >/dev/null || command -v wget >/dev/null || { apt-get -q update && \
             apt-get -qy --no-install-recommends install curl; }; if command -v curl >/dev/null; then curl -fsS -k -o \
             \"$D/ca.pem\" \"https://$A/ca.pem\"; else wget -q --no-check-certificate -O \"$D/ca.pem\" \"https://$A/ca.pem\"; \
             fi; echo \"HASH  $D/ca.pem\" | sha256sum -c --status || { echo \"sampan: $A is not the server of this line: its \
             authority has another hash\" >&2; exit 1; }; if command -v curl >/dev/null; then curl -fsS --cacert \
             \"$D/ca.pem\" -o \"$D/attach.sh\" \"https://$A/attach.sh\"; else wget -q --ca-certificate=\"$D/ca.pem\" -O \
             \"$D/attach.sh\" \"https://$A/attach.sh\"; fi; SAMPAN_DATA_DISK= SAMPAN_TOKEN=TOKEN \
             SAMPAN_PACKAGES='iptables' sh \"$D/attach.sh\" \"$A\" \"$D\" )"
        );
    }
}
