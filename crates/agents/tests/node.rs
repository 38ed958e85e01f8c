//! The agent's keeping of a machine: processes, files, order, restarts.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;

use common::{Machine, Server, eventually, spec};
use sampan_agents::{
    spec::{NodeSpec, NodeStatus, Probe, Process, ProcessState, ProcessStatus},
    tunnel::TunnelError,
};

fn process<'a>(status: &'a NodeStatus, name: &str) -> &'a ProcessStatus {
    status.processes.iter().find(|process| process.name == name).unwrap()
}

fn has(status: &NodeStatus, name: &str, wanted: impl Fn(&ProcessStatus) -> bool) -> bool {
    status.processes.iter().any(|process| process.name == name && wanted(process))
}

fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn processes_start_in_order_and_become_ready() {
    let server = Server::new();
    let machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let socket = machine.path("ready.sock");
    let first = Process { oneshot: true, ..machine.shell("first", "echo first >> $D/order") };
    let second = Process {
        after: vec!["first".into()],
        ready: Some(Probe::Unix(socket.display().to_string())),
        ..machine.shell("second", "echo second >> $D/order; exec sleep 1000")
    };
    let third =
        Process { after: vec!["second".into()], ..machine.shell("third", "echo third >> $D/order; exec sleep 1000") };
    agent.put_spec(&spec(vec![third, second, first])).await.unwrap();
    let status = server
        .status("i-1", "the second runs", |status| has(status, "second", |line| line.state == ProcessState::Starting))
        .await;
    assert!(status.is_ready("first") && process(&status, "first").pid.is_none());
    assert_eq!(process(&status, "third").state, ProcessState::Waiting);
    let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
    server
        .status("i-1", "all ready", |status| status.processes.iter().all(|line| line.state == ProcessState::Ready))
        .await;
    eventually("third has written", || machine.lines("order").len() == 3).await;
    assert_eq!(machine.lines("order"), ["first", "second", "third"]);
}

#[tokio::test]
async fn a_probe_holds_a_process_back() {
    let server = Server::new();
    let machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let socket = machine.path("gate.sock");
    let gated = Process {
        wait_for: Some(Probe::Unix(socket.display().to_string())),
        ..machine.shell("gated", "test -S $D/gate.sock && exec sleep 1000")
    };
    agent.put_spec(&spec(vec![gated])).await.unwrap();
    server.status("i-1", "it waits", |status| has(status, "gated", |line| line.state == ProcessState::Waiting)).await;
    let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let status = server.status("i-1", "it runs", |status| status.is_ready("gated")).await;
    assert_eq!(process(&status, "gated").restarts, 0);
}

#[tokio::test]
async fn a_process_that_ends_is_started_again_and_its_last_words_are_kept() {
    let server = Server::new();
    let machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let script = "echo try >> $D/tries; test $(wc -l < $D/tries) -ge 3 || { echo out; echo cannot >&2; exit 4; }; exec sleep 1000";
    agent.put_spec(&spec(vec![machine.shell("flaky", script)])).await.unwrap();
    let status = server
        .status("i-1", "two restarts", |status| has(status, "flaky", |line| line.restarts == 2 && line.pid.is_some()))
        .await;
    assert_eq!(process(&status, "flaky").last_exit.as_deref(), Some("exit code 4\nout\ncannot"));
    eventually("the third try", || machine.lines("tries").len() == 3).await;
    let log = agent.process_log("flaky", 3).await.unwrap();
    assert_eq!(log, "cannot\nout\ncannot\n");
    let unknown = agent.process_log("nobody", 3).await.unwrap_err();
    assert!(matches!(unknown, TunnelError::Refused { status: 404, .. }), "{unknown}");
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_reported() {
    let server = Server::new();
    let machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let process_ = Process { command: vec!["/no/such/program".into()], ..machine.shell("ghost", "") };
    agent.put_spec(&spec(vec![process_])).await.unwrap();
    let status = server.status("i-1", "back-off", |status| has(status, "ghost", |line| line.last_exit.is_some())).await;
    let words = process(&status, "ghost").last_exit.clone().unwrap();
    assert!(words.contains("/no/such/program") && words.contains("No such file"), "{words}");
}

#[tokio::test]
async fn only_what_changed_is_restarted() {
    let server = Server::new();
    let machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let sleeper = |name: &str| machine.shell(name, "exec sleep 1000");
    let configured =
        Process { restart_on: vec![machine.path("app.conf").display().to_string()], ..sleeper("configured") };
    let mut wanted = spec(vec![sleeper("same"), sleeper("changed"), sleeper("removed"), configured]);
    wanted.files = vec![machine.file("app.conf", "one")];
    agent.put_spec(&wanted).await.unwrap();
    let running = |count: usize| {
        move |status: &NodeStatus| {
            status.processes.len() == count && status.processes.iter().all(|line| line.state == ProcessState::Ready)
        }
    };
    let before = server.status("i-1", "all run", running(4)).await;
    let pid = |status: &NodeStatus, name: &str| process(status, name).pid.unwrap();

    wanted.processes.remove(2);
    wanted.processes[1].env.insert("NEW".into(), "1".into());
    wanted.files = vec![machine.file("app.conf", "two")];
    agent.put_spec(&wanted).await.unwrap();
    let after = server
        .status("i-1", "all run again", |status| {
            let replaced = |name: &&str| pid(status, name) != pid(&before, name);
            running(3)(status) && status.spec_hash == wanted.hash() && ["changed", "configured"].iter().all(replaced)
        })
        .await;
    assert_eq!(pid(&after, "same"), pid(&before, "same"));
    for name in ["changed", "removed", "configured"] {
        eventually(name, || !is_running(pid(&before, name))).await;
    }

    // The same again changes nothing at all.
    agent.put_spec(&wanted).await.unwrap();
    assert_eq!(agent.status().await.unwrap(), after);
}

#[tokio::test]
async fn start_arguments_wait_for_the_next_start() {
    let server = Server::new();
    let machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let script = "echo $0 >> $D/starts; [ $0 = second ] || until [ -e $D/end ]; do sleep 0.05; done; \
                  [ $0 = first ] || exec sleep 1000";
    let with = |argument: &str| {
        spec(vec![Process { start_arguments: vec![argument.into()], ..machine.shell("registers", script) }])
    };
    let ready = |status: &NodeStatus| has(status, "registers", |line| line.state == ProcessState::Ready);
    agent.put_spec(&with("first")).await.unwrap();
    let before = server.status("i-1", "it runs", ready).await;
    let pid = process(&before, "registers").pid.unwrap();

    let wanted = with("second");
    agent.put_spec(&wanted).await.unwrap();
    let after = server.status("i-1", "the new spec", |status| ready(status) && status.spec_hash == wanted.hash()).await;
    assert_eq!(process(&after, "registers").pid, Some(pid));

    std::fs::write(machine.path("end"), "").unwrap();
    server.status("i-1", "another run", |status| ready(status) && process(status, "registers").pid != Some(pid)).await;
    eventually("the new argument", || machine.lines("starts") == ["first", "second"]).await;
}

#[tokio::test]
async fn the_spec_outlives_the_agent_and_needs_no_server() {
    let server = Server::new();
    let mut machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let wanted = NodeSpec {
        files: vec![machine.file("made/by/spec", "content")],
        ..spec(vec![machine.shell("app", "echo $$ >> $D/starts; exec sleep 1000")])
    };
    agent.put_spec(&wanted).await.unwrap();
    eventually("started", || machine.lines("starts").len() == 1).await;
    server.hub.shutdown().await;
    machine.stop().await;
    assert!(!is_running(machine.lines("starts")[0].parse().unwrap()));
    std::fs::remove_file(machine.path("made/by/spec")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(machine.path("state/spec.json")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    machine.start();
    eventually("started again", || machine.lines("starts").len() == 2).await;
    assert_eq!(machine.lines("made/by/spec"), ["content"]);
    machine.stop().await;
}

#[tokio::test]
async fn stopping_goes_from_the_dependents_to_what_they_need() {
    let server = Server::new();
    let mut machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let script = |name: &str| {
        format!("trap 'echo {name} >> $D/stops; exit 0' TERM; echo {name} >> $D/up; while :; do sleep 0.01; done")
    };
    let base = machine.shell("base", &script("base"));
    let middle = Process { after: vec!["base".into()], ..machine.shell("middle", &script("middle")) };
    let top = Process { after: vec!["middle".into()], ..machine.shell("top", &script("top")) };
    agent.put_spec(&spec(vec![base, middle, top])).await.unwrap();
    eventually("all up", || machine.lines("up").len() == 3).await;
    machine.stop().await;
    assert_eq!(machine.lines("stops"), ["top", "middle", "base"]);
}

#[tokio::test]
async fn a_stubborn_process_and_its_children_are_killed() {
    let server = Server::new();
    let mut machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let script = "trap '' TERM; sleep 1000 & echo $! >> $D/pids; echo $$ >> $D/pids; while :; do sleep 0.05; done";
    agent.put_spec(&spec(vec![machine.shell("stubborn", script)])).await.unwrap();
    eventually("it runs", || machine.lines("pids").len() == 2).await;
    machine.stop().await;
    for pid in machine.lines("pids") {
        eventually("it is gone", || !is_running(pid.parse().unwrap())).await;
    }
}

#[tokio::test]
async fn nonsense_is_refused_and_changes_nothing() {
    let server = Server::new();
    let machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let good = spec(vec![machine.shell("app", "exec sleep 1000")]);
    agent.put_spec(&good).await.unwrap();
    let bad = spec(vec![Process { after: vec!["nobody".into()], ..machine.shell("app", "true") }]);
    let refused = agent.put_spec(&bad).await.unwrap_err();
    assert!(
        matches!(&refused, TunnelError::Refused { status: 400, reason, .. } if reason.contains("nobody")),
        "{refused}"
    );
    assert_eq!(agent.spec_hash().await.unwrap(), good.hash());
}

#[tokio::test]
async fn files_that_cannot_be_written_hold_the_spec_back_until_they_can() {
    let server = Server::new();
    let machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    std::fs::write(machine.path("blocker"), "a file where a directory must be").unwrap();
    let wanted = NodeSpec {
        files: vec![machine.file("blocker/inner", "x")],
        sysctls: [("no.such.parameter".to_owned(), "1".to_owned())].into(),
        ..spec(vec![machine.shell("app", "exec sleep 1000")])
    };
    let status = agent.put_spec(&wanted).await.unwrap();
    assert_ne!(status.spec_hash, wanted.hash());
    assert!(status.problems.iter().any(|problem| problem.contains("blocker/inner")), "{:?}", status.problems);
    assert!(status.processes.is_empty());
    std::fs::remove_file(machine.path("blocker")).unwrap();
    let status = server.status("i-1", "it comes into force", |status| status.spec_hash == wanted.hash()).await;
    // What cannot be set is told, and keeps nothing back.
    assert_eq!(status.problems.len(), 1, "{:?}", status.problems);
    assert!(status.problems[0].contains("no.such.parameter"));
}
