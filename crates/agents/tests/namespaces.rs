//! What needs namespaces of its own: the agent as PID 1, and routes. Each test runs itself again within `unshare`, which
//! takes root; without root it says so and does nothing.

#![allow(clippy::unwrap_used, clippy::panic)] // a test that cannot go on fails

mod common;

use std::process::Command;

use common::{Machine, Server, eventually, soon, spec};
use sampan_agents::{
    balancer::{self, CONTROL_SOCKET, Client, Config, Listener, VirtualIp},
    spec::{NodeSpec, Process, Route},
};
use tokio_util::sync::CancellationToken;

const INSIDE: &str = "SAMPAN_TEST_INSIDE_NAMESPACES";

/// Whether this already is the inner run; the outer one starts it and checks how it went.
fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("{test}: skipped, it needs root to make namespaces");
        return false;
    }
    let status = Command::new("unshare")
        .args(["--net", "--pid", "--fork", "--mount-proc"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed inside its namespaces");
    false
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Every process of this namespace, zombies included.
fn processes() -> usize {
    let is_process = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_process))
        .count()
}

#[tokio::test]
async fn pid_1_reaps_orphans_and_loses_no_exit_status() {
    if !is_inside("pid_1_reaps_orphans_and_loses_no_exit_status") {
        return;
    }
    assert_eq!(std::process::id(), 1);
    let server = Server::new();
    let mut machine = Machine::with(&server, "i-1", |options| options.pid1 = true);
    let agent = server.connected("i-1").await;
    // Orphans in sessions of their own that end at about the time when their parents' parent does.
    let orphans = "for i in 1 2 3 4 5 6 7 8; do setsid sh -c 'sleep 0.05; echo done >> $D/orphans' & done; exit 7";
    let names = ["a", "b", "c", "d"];
    agent.put_spec(&spec(names.map(|name| machine.shell(name, orphans)).into())).await.unwrap();
    let status = server
        .status("i-1", "every process has ended twice", |status| status.processes.iter().all(|line| line.restarts >= 2))
        .await;
    for process in &status.processes {
        assert_eq!(process.last_exit.as_deref(), Some("exit code 7"), "{}", process.name);
    }
    agent.put_spec(&spec(vec![])).await.unwrap();
    eventually("only PID 1 is left", || processes() == 1).await;
    // Those that had not left the group yet when its leader ended were killed with it.
    assert!(!machine.lines("orphans").is_empty());
    machine.stop().await;
}

#[tokio::test]
async fn routes_follow_the_spec() {
    if !is_inside("routes_follow_the_spec") {
        return;
    }
    ip("link set lo up");
    ip("link add sampan0 type veth peer name sampan1");
    ip("addr add 10.0.0.1/24 dev sampan0");
    ip("link set sampan0 up");
    ip("link set sampan1 up");
    ip("route add 10.99.0.0/24 via 10.0.0.9");
    let server = Server::new();
    let _machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let route = |third: u8, via: u8| Route {
        destination: format!("10.1.{third}.0/24").parse().unwrap(),
        via: format!("10.0.0.{via}").parse().unwrap(),
    };
    let routes = |routes: Vec<Route>| NodeSpec { routes, ..NodeSpec::default() };
    let shown = || {
        let mut lines: Vec<String> = ip("-4 route show").lines().map(|line| line.trim().to_owned()).collect();
        lines.retain(|line| line.starts_with("10.1.") || line.starts_with("10.99."));
        lines.iter().map(|line| line.split(" dev").next().unwrap().to_owned()).collect::<Vec<_>>().join(", ")
    };
    agent.put_spec(&routes(vec![route(1, 2), route(2, 3)])).await.unwrap();
    assert_eq!(shown(), "10.1.1.0/24 via 10.0.0.2, 10.1.2.0/24 via 10.0.0.3, 10.99.0.0/24 via 10.0.0.9");
    agent.put_spec(&routes(vec![route(2, 4), route(3, 5)])).await.unwrap();
    assert_eq!(shown(), "10.1.2.0/24 via 10.0.0.4, 10.1.3.0/24 via 10.0.0.5, 10.99.0.0/24 via 10.0.0.9");

    // One that cannot be set is told, keeps the spec from being in force, and does not keep the others back.
    let unreachable = Route { destination: "10.1.9.0/24".parse().unwrap(), via: "172.31.0.1".parse().unwrap() };
    let wanted = routes(vec![unreachable, route(4, 6)]);
    let status = agent.put_spec(&wanted).await.unwrap();
    assert_ne!(status.spec_hash, wanted.hash());
    assert!(status.problems[0].contains("routes"), "{:?}", status.problems);
    assert_eq!(shown(), "10.1.4.0/24 via 10.0.0.6, 10.99.0.0/24 via 10.0.0.9");
    ip("addr add 172.31.0.2/24 dev sampan0");
    server.status("i-1", "the retry succeeds", |status| status.spec_hash == wanted.hash()).await;
}

#[tokio::test]
async fn kernel_parameters_are_set() {
    if !is_inside("kernel_parameters_are_set") {
        return;
    }
    let server = Server::new();
    let machine = Machine::new(&server, "i-1");
    let agent = server.connected("i-1").await;
    let app = Process { oneshot: true, ..machine.shell("app", "cat /proc/sys/net/ipv4/ip_forward > $D/seen") };
    let wanted = NodeSpec { sysctls: [("net.ipv4.ip_forward".into(), "1".into())].into(), ..spec(vec![app]) };
    agent.put_spec(&wanted).await.unwrap();
    let status = server.status("i-1", "the process has looked", |status| status.is_ready("app")).await;
    assert!(status.problems.is_empty(), "{:?}", status.problems);
    assert_eq!(machine.lines("seen"), ["1"]);
}

#[tokio::test]
async fn virtual_ips_follow_the_configuration_and_the_bridges() {
    if !is_inside("virtual_ips_follow_the_configuration_and_the_bridges") {
        return;
    }
    ip("link set lo up");
    let make_bridge = || {
        ip("link add br-vpc type bridge");
        ip("addr add 10.200.0.1/20 dev br-vpc");
        ip("link set br-vpc up");
    };
    make_bridge();
    ip("addr add 10.200.0.77/32 dev br-vpc");
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let (stop, path) = (CancellationToken::new(), directory.path().to_owned());
        let inner = stop.clone();
        (stop, tokio::spawn(async move { balancer::run_until(&path, inner).await.unwrap() }))
    };
    let client = Client::new(&directory.path().join(CONTROL_SOCKET));
    let answers = || async {
        while client.status().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let (stop, task) = start();
    soon("the balancer answers", answers()).await;

    let backend = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let vip = |last: u8, bridge: &str| VirtualIp { ip: [10, 200, 0, last].into(), bridge: bridge.into() };
    let listen = "10.200.0.5:6443".parse().unwrap();
    let listener = Listener { name: "api".into(), listen, backends: vec![backend.local_addr().unwrap()], check: None };
    let config = Config { virtual_ips: vec![vip(5, "br-vpc"), vip(6, "br-vpc")], listeners: vec![listener] };
    let report = client.apply(&config).await.unwrap();
    assert!(report.failures.is_empty(), "{report:?}");
    let has = |last: u8| ip("-4 addr show").contains(&format!("inet 10.200.0.{last}/32"));
    assert!(has(5) && has(6));
    let through = || async {
        tokio::net::TcpStream::connect(listen).await.unwrap();
        soon("the connection comes through", backend.accept()).await.unwrap();
    };
    through().await;

    // Docker makes the bridge anew.
    ip("link del br-vpc");
    soon("the loss is noticed", async {
        while client.status().await.unwrap().failures.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    make_bridge();
    eventually("the addresses are back", || has(5) && has(6)).await;
    through().await;

    // They outlive the balancer; what is no longer wanted goes, and nothing that was there before.
    stop.cancel();
    task.await.unwrap();
    assert!(has(5));
    ip("addr add 10.200.0.77/32 dev br-vpc");
    let (stop, task) = start();
    soon("the balancer answers", answers()).await;
    let report =
        client.apply(&Config { virtual_ips: vec![vip(6, "br-vpc"), vip(9, "br-none")], listeners: vec![] }).await;
    let failures = report.unwrap().failures;
    assert_eq!((failures.len(), failures[0].name.as_str()), (1, "10.200.0.9"));
    assert!(failures[0].message.contains("br-none"));
    assert!(!has(5) && has(6));
    assert!(client.apply(&Config::default()).await.unwrap().failures.is_empty());
    assert!(!has(6) && has(77));
    stop.cancel();
    task.await.unwrap();
}
