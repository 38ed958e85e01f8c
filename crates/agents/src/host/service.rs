//! The agent as a service of the host: of systemd where that runs, else of the older init.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::{AGENT_PATH, HostError, commands};

const NAME: &str = "sampan-host";
const UNIT: &str = "/etc/systemd/system/sampan-host.service";
const SCRIPT: &str = "/etc/init.d/sampan-host";

/// Whether systemd is the host's first process.
fn has_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Makes it a service that starts with the host, and starts it.
pub(crate) fn install() -> Result<(), HostError> {
    let failed = |error: String| HostError::of("the agent cannot be made a service", error);
    if has_systemd() {
        write(UNIT, 0o644, &unit())?;
        commands::run("systemctl", &["daemon-reload"]).map_err(failed)?;
        commands::run("systemctl", &["enable", "--now", NAME]).map_err(failed)?;
        return Ok(());
    }
    write(SCRIPT, 0o755, &script())?;
    // Where there is none, somebody else starts what is in that folder; or nobody, as after `docker restart` of a container.
    if let Err(error) = commands::run("update-rc.d", &[NAME, "defaults"]) {
        eprintln!("sampan: the agent will not start with the host by itself: {error}");
    }
    commands::run(SCRIPT, &["start"]).map(drop).map_err(failed)
}

/// Stops it, as somebody else than itself.
pub(crate) fn stop() {
    if has_systemd() {
        let _ = commands::run("systemctl", &["stop", NAME]);
    } else if Path::new(SCRIPT).exists() {
        let _ = commands::run(SCRIPT, &["stop"]);
    }
}

/// Forgets it. The process that runs is its own to end.
pub(crate) fn remove() {
    if Path::new(UNIT).exists() {
        let _ = commands::run("systemctl", &["disable", NAME]);
        let _ = fs::remove_file(UNIT);
        let _ = commands::run("systemctl", &["daemon-reload"]);
    }
    if Path::new(SCRIPT).exists() {
        let _ = fs::remove_file(SCRIPT);
        let _ = commands::run("update-rc.d", &[NAME, "remove"]);
    }
    let _ = fs::remove_file("/run/sampan-host.pid");
}

fn write(path: &str, mode: u32, text: &str) -> Result<(), HostError> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|error| HostError::of(path, error))
}

/// Containers outlive the agent: only its own process is systemd's business. It ends by itself what it started.
fn unit() -> String {
    format!(
        "[Unit]\n\
         Description=Sampan host agent\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         \n\
         [Service]\n\
         ExecStart={AGENT_PATH} host run\n\
         Restart=on-failure\n\
         RestartSec=2\n\
         KillMode=process\n\
         Delegate=yes\n\
         TasksMax=infinity\n\
         LimitNOFILE=1048576\n\
         OOMScoreAdjust=-500\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// The shell in front of the agent starts it again when it fails, and ends with it when it leaves.
fn script() -> String {
    format!(
        r#"#!/bin/sh
### BEGIN INIT INFO
# Provides:          {NAME}
# Required-Start:    $remote_fs $network
# Required-Stop:     $remote_fs $network
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: Sampan host agent
### END INIT INFO
agent={AGENT_PATH}
pid=/run/{NAME}.pid
log=/var/log/sampan/agent.log
alive() {{ [ -s "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; }}
case "$1" in
start)
  alive && exit 0
  mkdir -p /var/log/sampan
  setsid sh -c 'echo $$ >'"$pid"'; trap "kill \$! 2>/dev/null; wait; exit 0" TERM
    while [ -x '"$agent"' ]; do '"$agent"' host run & wait $! && exit 0; sleep 2; done' \
    </dev/null >>"$log" 2>&1 &
  ;;
stop)
  alive || exit 0
  kill "$(cat "$pid")"
  n=0
  while alive && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
  ;;
restart) "$0" stop; "$0" start ;;
status) alive ;;
*) echo "usage: $0 start|stop|restart|status" >&2; exit 2 ;;
esac
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_one_that_a_shell_reads() {
        commands::run("sh", &["-n", "-c", &script()]).unwrap();
        assert!(unit().contains("KillMode=process") && script().contains("/opt/sampan/bin/sampan"));
    }
}
