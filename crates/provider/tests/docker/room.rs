//! What one test of this suite works in.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bollard::{
    Docker, body_full,
    models::{ContainerCreateBody, ContainerInspectResponse, HostConfig, Mount, MountType},
    query_parameters::{
        CreateContainerOptions, CreateImageOptions, InspectContainerOptions, KillContainerOptions,
        ListContainersOptions, ListNetworksOptions, ListVolumesOptions, RemoveContainerOptions, RemoveImageOptions,
        RemoveVolumeOptions, StartContainerOptions,
    },
};
use futures::{FutureExt, TryStreamExt};
use ipnet::Ipv4Net;
use sampan_provider::{DockerProvider, MachinePower, MachineProvider, MachineSpec, OWNER_LABEL, conformance::Witness};

/// One run: unique names, an image, and the way to remove it all.
pub(crate) struct Room {
    pub(crate) docker: Docker,
    pub(crate) ids: [String; 2],
    pub(crate) images: [String; 2],
    pub(crate) scratch: tempfile::TempDir,
}

impl Room {
    pub(crate) async fn new(test: &str) -> Self {
        let docker = Docker::connect_with_unix_defaults()
            .expect("these tests need a Docker engine: start one (`systemctl start docker`)")
            .negotiate_version()
            .await
            .expect("these tests need a Docker engine that answers: start one (`systemctl start docker`)");
        let id = format!("{test}{:x}", std::process::id());
        let room = Self {
            docker,
            ids: [format!("{id}a"), format!("{id}b")],
            images: ["one", "two"].map(|tag| format!("sampan-provider-test-{id}:{tag}")),
            scratch: tempfile::tempdir().unwrap(),
        };
        let init = compile_init(room.scratch.path());
        for image in &room.images {
            room.import(image, &init).await;
        }
        room
    }

    /// As `docker import`: an image of one file.
    async fn import(&self, image: &str, init: &Path) {
        let binary = std::fs::read(init).unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        // The tag makes the two images differ.
        for (path, content) in [("usr/local/bin/sampan", binary.as_slice()), ("tag", image.as_bytes())] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len().try_into().unwrap());
            header.set_mode(0o755);
            archive.append_data(&mut header, path, content).unwrap();
        }
        let (repo, tag) = image.split_once(':').unwrap();
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(repo.to_owned()),
            tag: Some(tag.to_owned()),
            changes: vec![r#"ENTRYPOINT ["/usr/local/bin/sampan"]"#.to_owned()],
            ..CreateImageOptions::default()
        };
        let body = body_full(archive.into_inner().unwrap().into());
        let steps: Vec<_> = self.docker.create_image(Some(options), Some(body), None).try_collect().await.unwrap();
        assert!(!steps.is_empty(), "the engine imported nothing");
    }

    pub(crate) fn provider(&self, which: usize) -> DockerProvider {
        DockerProvider::connect(&self.ids[which]).unwrap()
    }

    pub(crate) async fn inspect(&self, name: &str) -> Option<ContainerInspectResponse> {
        self.docker.inspect_container(name, None::<InspectContainerOptions>).await.ok()
    }

    /// Removes what carries our labels, by the engine's own means, not by those under test.
    async fn clean(&self) {
        for id in &self.ids {
            let filters: HashMap<String, Vec<String>> =
                [("label".to_owned(), vec![format!("{OWNER_LABEL}={id}")])].into();
            let options =
                ListContainersOptions { all: true, filters: Some(filters.clone()), ..ListContainersOptions::default() };
            for container in self.docker.list_containers(Some(options)).await.unwrap() {
                self.remove_container(&container.id.unwrap()).await;
            }
            let options = ListNetworksOptions { filters: Some(filters.clone()) };
            for network in self.docker.list_networks(Some(options)).await.unwrap() {
                let _ = self.docker.remove_network(&network.id.unwrap()).await;
            }
            let options = ListVolumesOptions { filters: Some(filters) };
            for volume in self.docker.list_volumes(Some(options)).await.unwrap().volumes.unwrap_or_default() {
                let _ = self.docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await;
            }
        }
        for image in &self.images {
            let _ = self.docker.remove_image(image, None::<RemoveImageOptions>, None).await;
        }
    }

    /// Somebody else's container, under a name of ours and in a network of ours.
    pub(crate) async fn stranger(&self, name: &str, network: &str) -> String {
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() };
        let body = ContainerCreateBody {
            image: Some(self.images[0].clone()),
            host_config: Some(HostConfig {
                network_mode: Some(network.to_owned()),
                mounts: Some(vec![Mount {
                    typ: Some(MountType::TMPFS),
                    target: Some("/data".to_owned()),
                    ..Mount::default()
                }]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let id = self.docker.create_container(Some(options), body).await.unwrap().id;
        let start = self.docker.start_container(&id, None::<StartContainerOptions>);
        start.await.unwrap();
        id
    }

    pub(crate) async fn must_be_at_its_place(&self, provider: &DockerProvider, spec: &MachineSpec) {
        let status = provider.machine(&spec.name).await.unwrap().expect("it exists");
        assert_eq!((status.power, status.ip), (MachinePower::Running, Some(spec.ip)));
        assert_eq!(self.mac(&spec.name).await, spec.mac);
    }

    pub(crate) async fn remove_container(&self, id: &str) {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        let _ = self.docker.remove_container(id, Some(options)).await;
    }

    /// Runs the test, and cleans up after it in any case.
    pub(crate) async fn run(self, test: impl AsyncFnOnce(&Room)) {
        let result = AssertUnwindSafe(test(&self)).catch_unwind().await;
        self.clean().await;
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
    }
}

#[async_trait]
impl Witness for Room {
    async fn mac(&self, machine: &str) -> String {
        let found = self.inspect(machine).await.unwrap();
        let networks = found.network_settings.unwrap().networks.unwrap();
        networks.into_values().find_map(|endpoint| endpoint.mac_address).unwrap()
    }

    async fn kill(&self, machine: &str) {
        self.docker.kill_container(machine, None::<KillContainerOptions>).await.unwrap();
    }

    async fn balancer(&self, name: &str) -> Option<String> {
        let found = self.inspect(name).await?;
        found.state?.running?.then_some(found.id?)
    }
}

/// A static program, made with the compiler that made this test.
fn compile_init(into: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docker/init.rs");
    let binary = into.join("init");
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler)
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols", "-o"])
        .args([&binary, &source])
        .output()
        .expect("these tests compile a small program: rustc must be in PATH");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    binary
}

/// Ranges that nobody uses here, by the provider's own account, and different ones for each test of this file.
pub(crate) async fn free_ranges(provider: &DockerProvider, test: u8) -> [Ipv4Net; 2] {
    let foreign = provider.foreign_ranges().await.unwrap();
    let first = (std::process::id() % 64) as u8;
    let mut free = (0..64).map(|n| Ipv4Net::new([10, 192 + test, (first + n) % 64 * 4, 0].into(), 24).unwrap());
    let mut next = || {
        free.find(|range| !foreign.iter().any(|other| other.contains(range) || range.contains(other)))
            .expect("a free range")
    };
    [next(), next()]
}

/// Looks until there is an answer; the deadline only turns a hang into a failure.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
