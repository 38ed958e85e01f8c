//! The fake passes the suite that the real ones pass.

use async_trait::async_trait;
use sampan_provider::{
    MemoryProvider,
    conformance::{Bench, Witness, suite},
};

struct Eyes(MemoryProvider);

#[async_trait]
impl Witness for Eyes {
    async fn mac(&self, machine: &str) -> String {
        let machines = self.0.machines();
        let found = machines.iter().find(|found| found.spec.name == machine);
        found.map(|found| found.spec.mac.clone()).unwrap_or_default()
    }

    async fn kill(&self, machine: &str) {
        assert!(self.0.kill_machine(machine));
    }

    async fn balancer(&self, name: &str) -> Option<String> {
        let host_services = self.0.host_services();
        let found = host_services.iter().find(|(spec, _)| spec.name == name);
        found.map(|(_, made)| made.to_string())
    }
}

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let provider = MemoryProvider::new("one");
    let neighbour = provider.neighbour("two");
    provider.set_images(["image", "other"]);
    let bench = Bench {
        provider: &provider,
        neighbour: &neighbour,
        ids: ["one", "two"],
        witness: &Eyes(provider.clone()),
        image: "image",
        other_image: "other",
        ranges: ["10.0.0.0/24".parse().unwrap(), "10.0.1.0/24".parse().unwrap()],
        state_dir: "/var/lib/balancer".into(),
    };
    suite(&bench).await;
    assert!(provider.is_empty() && neighbour.is_empty());
}
