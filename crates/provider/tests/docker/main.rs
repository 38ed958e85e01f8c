//! The Docker provider on a real engine. It needs one, and fails when there is none: a suite that is skipped in silence
//! proves nothing. Everything made carries this run's own labels and is removed, whether the test passes or not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests are tests")]

mod cut;
mod room;

use std::{collections::BTreeMap, time::Instant};

use bollard::models::{NetworkDisconnectRequest, RestartPolicyNameEnum, VolumeCreateRequest};
use futures::{StreamExt, future::join_all};
use room::{Room, eventually, free_ranges};
use sampan_provider::{
    DockerProvider, HostService, HostServiceSpec, MachinePower, MachineProvider, ProviderError,
    conformance::{Bench, Witness, machine, network, suite},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_keeps_the_contract() {
    Room::new("c")
        .await
        .run(async |room| {
            let (provider, neighbour) = (room.provider(0), room.provider(1));
            let state_dir = room.scratch.path().join("balancer");
            std::fs::create_dir(&state_dir).unwrap();
            let bench = Bench {
                provider: &provider,
                neighbour: &neighbour,
                ids: [&room.ids[0], &room.ids[1]],
                witness: room,
                image: &room.images[0],
                other_image: &room.images[1],
                ranges: free_ranges(&provider, 0).await,
                state_dir,
            };
            suite(&bench).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_may_do_what_nodes_do_first() {
    Room::new("f")
        .await
        .run(async |room| {
            let provider = room.provider(0);
            let [range, _] = free_ranges(&provider, 1).await;
            provider.ensure_network(&network(&room.ids[0], range)).await.unwrap();
            let mut spec = machine(&room.ids[0], "m1", &room.images[0], range, 10);
            spec.env.insert("PROBE".to_owned(), "1".to_owned());
            spec.cpu_millis = Some(1_000_000);
            provider.ensure_machine(&spec).await.unwrap();
            let console = eventually("the probe is through", async || {
                let console = provider.console(&spec.name, 100).await.unwrap();
                console.contains("boot 1").then_some(console)
            })
            .await;
            let said: BTreeMap<&str, &str> = console.lines().filter_map(|line| line.split_once(": ")).collect();
            for what in ["shared root", "sysctl", "nested proc", "cgroup writable", "cgroup nested", "tmpfs"] {
                assert_eq!(said.get(what), Some(&"true"), "{what} in {console}");
            }
            assert!(console.contains(&format!("hostname {}\n", spec.hostname)), "{console}");
            let files: u64 = said["open files"].parse().unwrap();
            assert!(files >= 4096, "{files} open files");

            let found = room.inspect(&spec.name).await.unwrap();
            let host = found.host_config.unwrap();
            assert_eq!(host.memory, Some(256 << 20));
            assert_eq!(host.privileged, Some(false));
            assert_eq!(host.restart_policy.unwrap().name, Some(RestartPolicyNameEnum::UNLESS_STOPPED));
            assert!(host.port_bindings.unwrap_or_default().is_empty(), "host ports belong to the balancer");
            let volume = room.docker.inspect_volume(&format!("{}-data", spec.name)).await.unwrap();
            assert_eq!(volume.labels["io.sampan.machine"], spec.name);
            assert_eq!(volume.labels["io.sampan.kind"], "volume");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_balancer_opens_low_ports_and_writes_only_its_directory() {
    Room::new("b")
        .await
        .run(async |room| {
            let provider = room.provider(0);
            let spec = HostServiceSpec {
                service: HostService::Balancer,
                config_hash: String::new(),
                name: format!("sampan-{}-balancer", room.ids[0]),
                image: room.images[0].clone(),
                state_dir: room.scratch.path().to_owned(),
            };
            provider.ensure_host_service(&spec).await.unwrap();
            let report = eventually("the balancer reports", async || {
                std::fs::read_to_string(room.scratch.path().join("report")).ok()
            })
            .await;
            assert_eq!(report, "low port: true\nread-only root: true\n");
            let found = room.inspect(&spec.name).await.unwrap();
            let restart = found.host_config.unwrap().restart_policy.unwrap();
            assert_eq!(restart.name, Some(RestartPolicyNameEnum::ALWAYS));
            room.kill(&spec.name).await;
            provider.ensure_host_service(&spec).await.unwrap();
            assert!(room.balancer(&spec.name).await.is_some(), "one that ended is started");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_under_our_names_are_left_alone() {
    Room::new("s")
        .await
        .run(async |room| {
            let provider = room.provider(0);
            let [range, _] = free_ranges(&provider, 2).await;
            let net = network(&room.ids[0], range);
            provider.ensure_network(&net).await.unwrap();
            let spec = machine(&room.ids[0], "m1", &room.images[0], range, 10);
            let stranger = room.stranger(&spec.name, &net.name).await;
            for refused in [
                provider.ensure_machine(&spec).await.map(drop),
                provider.delete_machine(&spec.name).await,
                provider.delete_network(&net.name).await,
            ] {
                let error = refused.unwrap_err();
                assert!(matches!(error, ProviderError::Conflict(_)), "{error:?}");
                assert!(error.to_string().contains(&spec.name), "it names the stranger: {error}");
            }
            let found = room.inspect(&stranger).await.expect("the stranger is there");
            assert_eq!(found.state.unwrap().running, Some(true));
            room.remove_container(&stranger).await;
            provider.ensure_machine(&spec).await.unwrap();
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_follow_their_network_when_it_was_made_anew() {
    Room::new("n")
        .await
        .run(async |room| {
            let provider = room.provider(0);
            let [range, _] = free_ranges(&provider, 3).await;
            let net = network(&room.ids[0], range);
            provider.ensure_network(&net).await.unwrap();
            let spec = machine(&room.ids[0], "m1", &room.images[0], range, 10);
            provider.ensure_machine(&spec).await.unwrap();
            room.kill(&spec.name).await;
            room.docker.remove_network(&net.name).await.unwrap();
            let error = provider.ensure_machine(&spec).await.unwrap_err();
            assert!(error.to_string().contains(&net.name), "{error}");
            provider.ensure_network(&net).await.unwrap();
            let status = provider.ensure_machine(&spec).await.unwrap();
            assert_eq!((status.power, status.ip), (MachinePower::Running, Some(spec.ip)));
            assert_eq!(room.mac(&spec.name).await, spec.mac);

            // A restart, which is not told what the machine shall be, finds its place too.
            room.kill(&spec.name).await;
            room.docker.remove_network(&net.name).await.unwrap();
            let error = provider.restart_machine(&spec.name).await.unwrap_err();
            assert!(error.to_string().contains(&net.name), "{error}");
            provider.ensure_network(&net).await.unwrap();
            provider.restart_machine(&spec.name).await.unwrap();
            room.must_be_at_its_place(&provider, &spec).await;

            // Even when a former try was cut short.
            room.kill(&spec.name).await;
            let request = NetworkDisconnectRequest { container: spec.name.clone(), force: Some(true) };
            room.docker.disconnect_network(&net.name, request).await.unwrap();
            provider.restart_machine(&spec.name).await.unwrap();
            room.must_be_at_its_place(&provider, &spec).await;
        })
        .await;
}

/// What a killed server may have left: volumes without a machine, and a machine that was made otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_started_is_replaced_and_lone_volumes_go() {
    Room::new("l")
        .await
        .run(async |room| {
            let provider = room.provider(0);
            let [range, _] = free_ranges(&provider, 4).await;
            let mut spec = machine(&room.ids[0], "m1", &room.images[0], range, 10);
            provider.ensure_machine(&spec).await.expect_err("it has no network yet");
            spec.ip = machine(&room.ids[0], "m1", &room.images[0], range, 11).ip;
            provider.ensure_network(&network(&room.ids[0], range)).await.unwrap();
            let status = provider.ensure_machine(&spec).await.unwrap();
            assert_eq!((status.power, status.ip), (MachinePower::Running, Some(spec.ip)));

            let volume = format!("{}-other", spec.name);
            let labels = [
                ("io.sampan.owner", room.ids[0].as_str()),
                ("io.sampan.kind", "volume"),
                ("io.sampan.machine", &spec.name),
            ];
            let request = VolumeCreateRequest {
                name: Some(volume.clone()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..VolumeCreateRequest::default()
            };
            room.docker.create_volume(request).await.unwrap();
            assert!(provider.inventory().await.unwrap().volumes.contains(&volume));
            provider.delete_machine(&spec.name).await.unwrap();
            assert!(provider.inventory().await.unwrap().volumes.is_empty());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_events_survive_an_engine_that_goes_away() {
    Room::new("e")
        .await
        .run(async |room| {
            let socket = room.scratch.path().join("engine.sock");
            let mut line = cut::Line::open(&socket);
            let provider = DockerProvider::at(&room.ids[0], socket.to_str().unwrap()).unwrap();
            let [range, _] = free_ranges(&provider, 5).await;
            let mut events = provider.events();
            provider.ensure_network(&network(&room.ids[0], range)).await.unwrap();
            let spec = machine(&room.ids[0], "m1", &room.images[0], range, 10);
            provider.ensure_machine(&spec).await.unwrap();
            assert_eq!(events.next().await.unwrap().name, spec.name);

            line.cut().await;
            let error = provider.machine(&spec.name).await.unwrap_err();
            assert!(matches!(error, ProviderError::Unavailable(_)), "{error:?}");
            room.kill(&spec.name).await;

            let _line = cut::Line::open(&socket);
            while !events.next().await.unwrap().name.is_empty() {}
            let status = provider.machine(&spec.name).await.unwrap().unwrap();
            assert_eq!(status.power, MachinePower::Exited);
            provider.delete_machine(&spec.name).await.unwrap();
            assert_eq!(events.next().await.unwrap().name, spec.name);
        })
        .await;
}

/// Not an assertion about time: it prints what a change of the flags costs.
#[tokio::test(flavor = "multi_thread")]
async fn three_machines_at_once() {
    Room::new("t")
        .await
        .run(async |room| {
            let provider = room.provider(0);
            let [range, _] = free_ranges(&provider, 6).await;
            provider.ensure_network(&network(&room.ids[0], range)).await.unwrap();
            for round in 0..3 {
                let places = [10, 11, 12];
                let mut specs = places.map(|n| machine(&room.ids[0], &format!("m{n}"), &room.images[0], range, n));
                for spec in &mut specs {
                    for (target, suffix) in [("/var/lib/containerd", "containerd"), ("/var/lib/kubelet", "kubelet")] {
                        spec.volumes.insert(target.to_owned(), suffix.to_owned());
                    }
                }
                let started = Instant::now();
                for made in join_all(specs.iter().map(|spec| provider.ensure_machine(spec))).await {
                    assert_eq!(made.unwrap().power, MachinePower::Running);
                }
                let made = started.elapsed();
                for deleted in join_all(specs.iter().map(|spec| provider.delete_machine(&spec.name))).await {
                    deleted.unwrap();
                }
                eprintln!("round {round}: made in {made:?}, deleted in {:?}", started.elapsed() - made);
            }
        })
        .await;
}
