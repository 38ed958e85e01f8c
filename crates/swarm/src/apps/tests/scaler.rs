use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::world::World;
use crate::{
    apps::scaler::{Load, Track},
    compose::template::AutoScaling,
    model::Usage,
};

fn rules() -> AutoScaling {
    AutoScaling {
        max_cpu: Some(70.0),
        min_cpu: Some(30.0),
        max_memory: None,
        min_memory: None,
        step: 2,
        max_instances: Some(4),
        min_instances: 1,
    }
}

fn load(cpu: f64) -> Option<Load> {
    Some(Load { cpu, memory: 50.0 })
}

#[test]
fn it_takes_three_measurements_and_a_rest() {
    let start = Instant::now();
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    let mut track = Track::default();
    assert_eq!(track.decide(&rules(), 1, load(95.0), at(0)), None);
    assert_eq!(track.decide(&rules(), 1, load(95.0), at(5)), None);
    assert_eq!(track.decide(&rules(), 1, load(95.0), at(10)), None, "it has just begun");
    assert_eq!(track.decide(&rules(), 1, load(95.0), at(35)), Some(3));
    assert_eq!(track.decide(&rules(), 3, load(95.0), at(40)), None);
    assert_eq!(track.decide(&rules(), 3, None, at(45)), None, "not settled");
    for second in [50, 55] {
        assert_eq!(track.decide(&rules(), 3, load(95.0), at(second)), None);
    }
    assert_eq!(track.decide(&rules(), 3, load(95.0), at(75)), Some(4), "not beyond the most");
    for second in [80, 85, 90, 130] {
        assert_eq!(track.decide(&rules(), 4, load(50.0), at(second)), None, "between the limits");
    }
    assert_eq!(track.decide(&rules(), 4, load(10.0), at(135)), None, "on average it is not below");
    assert_eq!(track.decide(&rules(), 4, load(10.0), at(140)), Some(2));
    for second in [145, 150, 155, 160, 180] {
        assert_eq!(track.decide(&rules(), 2, load(10.0), at(second)), None);
    }
    assert_eq!(track.decide(&rules(), 2, load(10.0), at(205)), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_service_follows_its_load() {
    let world = World::new(3);
    let template = "web:\n  image: web\n  labels:\n    aliyun.auto_scaling.max_cpu: '70'\n    aliyun.auto_scaling.min_cpu: '30'\n    aliyun.auto_scaling.max_instances: '3'\n";
    world.create("app", template).await;
    world.state("app", "running").await;
    let use_cpu = |percent: f64| {
        world.engines.change(|state| {
            let usage = Usage { cpu_percent: percent, memory_limit: 1, ..Usage::default() };
            state.usage = state.containers.iter().map(|container| (container.id.clone(), usage.clone())).collect();
        });
    };
    let mut most = 0;
    for _ in 0..300 {
        use_cpu(90.0);
        sleep(Duration::from_secs(1)).await;
        most = most.max(world.engines.running().len());
    }
    assert_eq!(most, 3);
    for _ in 0..400 {
        use_cpu(5.0);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(world.engines.running(), ["app_web_1"]);
}
