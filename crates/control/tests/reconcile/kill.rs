//! The server dies at any instant of any operation, again and again, and is started again: the end must be the same as
//! if it had lived.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sampan_store::model::{ClusterState, MachineWanted, Retain, TaskState};

use crate::{
    bench::Bench,
    gate::Chance,
    orders::{self, Order},
};

/// Which clusters the story is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    Kubernetes,
    Swarm,
}

/// What is asked of the server, in order; each only after the one before has ended.
const STORY: [&str; 9] =
    ["create", "scale out", "remove", "backup", "stop", "start", "restore", "create another", "delete"];
/// The backup of the story.
const BACKUP: &str = "manual-1";
/// The same for Swarm clusters.
const SWARM_STORY: [&str; 6] = ["create", "scale out", "reset", "remove", "create another", "delete"];

/// Plays the story; `trouble` is called before each part and while the server comes back.
async fn play(bench: &mut Bench, generation: Generation, mut trouble: impl FnMut(&mut Bench)) {
    let (one, two, story): (_, _, &[&str]) = match generation {
        Generation::Kubernetes => (Order::new(1, 2), Order::new(2, 1), &STORY),
        Generation::Swarm => (Order::swarm(1, 2), Order::swarm(2, 1), &SWARM_STORY),
    };
    for part in story.iter().copied() {
        trouble(bench);
        let now = bench.now();
        let tasks = match part {
            "create" => {
                orders::create(&bench.store, &one, now).await;
                vec![one.creation_task()]
            }
            "scale out" => vec![orders::scale_out(&bench.store, &one, 3..5, now).await],
            "reset" => vec![orders::reset(&bench.store, &one, 2, now).await],
            "remove" => vec![
                orders::remove(&bench.store, &one, &[1], MachineWanted::Release, true, now).await,
                orders::remove(&bench.store, &one, &[2], MachineWanted::Leave, false, now).await,
            ],
            "stop" => vec![orders::power(&bench.store, &one, true, now).await],
            "start" => vec![orders::power(&bench.store, &one, false, now).await],
            "backup" => vec![orders::backup(&bench.store, &one, BACKUP, now).await],
            "restore" => vec![orders::restore(&bench.store, &one, BACKUP, now).await],
            "create another" => {
                orders::create(&bench.store, &two, now).await;
                vec![two.creation_task()]
            }
            _ => vec![orders::delete(&bench.store, &two, Retain::default(), now).await],
        };
        let ended = |bench: &Bench| tasks.iter().all(|id| bench.task(id).state != TaskState::Running);
        while !ended(bench) {
            bench.until_any_end(part, &ended, &mut trouble).await;
        }
    }
    bench.world.gate.never_kill();
    bench.world.gate.set_faults(0);
    bench.settle().await;
    assert_eq!(bench.cluster(&one).state, ClusterState::Running);
    assert_eq!(bench.cluster(&two).state, ClusterState::Deleted);
    if generation == Generation::Kubernetes {
        let cluster = bench.cluster(&one);
        assert_eq!((cluster.power, cluster.restore, cluster.restores), (None, None, 1));
        assert_eq!(bench.world.state().lifecycle.replaced[&one.cluster_id()], (1, 0));
        assert_eq!(bench.world.shelf.list(&one.cluster_id()).len(), 1);
    }
}

impl Bench {
    /// Until `ended`, or until the server has died and was started again.
    async fn until_any_end(&mut self, what: &str, ended: &impl Fn(&Self) -> bool, trouble: &mut impl FnMut(&mut Self)) {
        let begun = self.now();
        while !ended(self) {
            if !self.quiet().await {
                self.kill().await;
                self.start();
                trouble(self);
                continue;
            }
            let elapsed = self.now().duration_since(begun).as_secs();
            assert!(elapsed < 3000, "{what} does not end\n{}", self.describe().await);
            tokio::time::advance(Duration::from_millis(150)).await;
        }
    }

    /// Lets everything come to rest, a fresh server's look for leftovers included.
    async fn settle(&mut self) {
        self.kill().await;
        self.start();
        self.pass(Duration::from_secs(90)).await;
        self.check_world().await;
    }
}

fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(future)
}

/// Runs `check` for each seed, on all cores; prints the seed that fails.
fn each_seed(seeds: std::ops::Range<u64>, check: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(seed)));
                    if let Err(panic) = outcome {
                        eprintln!("failed with seed {seed}");
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
}

/// How many lives are tried: as many as CI has time for, or as `SAMPAN_KILL_ROUNDS` says.
fn rounds(short: u64) -> u64 {
    match std::env::var("SAMPAN_KILL_ROUNDS") {
        Ok(text) => text.parse().expect("SAMPAN_KILL_ROUNDS is a number"),
        Err(_) => short,
    }
}

/// Calls until the next death: often within the first look at everything, sometimes after real progress.
fn instant(chance: &mut Chance) -> u64 {
    match chance.below(3) {
        0 => 1 + chance.below(20),
        1 => 1 + chance.below(80),
        _ => 1 + chance.below(250),
    }
}

fn undisturbed(generation: Generation) -> String {
    run(async {
        let mut bench = Bench::new(0).await;
        bench.start();
        play(&mut bench, generation, |_| ()).await;
        bench.outcome()
    })
}

/// Plays the story for each seed with that trouble and compares the ends; answers how often the server died.
fn compare(
    seeds: std::ops::Range<u64>,
    generation: Generation,
    trouble: impl Fn(&mut Bench, &mut Chance) + Sync,
) -> u64 {
    let (expected, total) = (undisturbed(generation), AtomicU64::new(0));
    each_seed(seeds, |seed| {
        let (outcome, deaths) = run(async {
            let (mut bench, mut chance) = (Bench::new(seed).await, Chance::new(seed));
            bench.start();
            play(&mut bench, generation, |bench| trouble(bench, &mut chance)).await;
            (bench.outcome(), bench.deaths)
        });
        total.fetch_add(deaths, Ordering::Relaxed);
        assert_eq!(outcome, expected, "seed {seed}");
    });
    total.into_inner()
}

fn at_external_calls(generation: Generation, rounds: u64) {
    let deaths = compare(0..rounds, generation, |bench, chance| bench.world.gate.kill_after(instant(chance)));
    assert!(deaths > 3 * rounds, "too few deaths to prove anything");
}

fn anywhere(generation: Generation, rounds: u64) {
    let deaths =
        compare(1000..1000 + rounds, generation, |bench, chance| bench.kill_after_looks(1 + chance.below(250)));
    assert!(deaths > 33 * rounds, "too few deaths to prove anything");
}

fn while_calls_fail(generation: Generation, rounds: u64) {
    let deaths = compare(2000..2000 + rounds, generation, |bench, chance| {
        bench.world.gate.set_faults(100);
        bench.world.gate.kill_after(instant(chance));
    });
    assert!(deaths > 3 * rounds, "too few deaths to prove anything");
}

#[test]
fn killed_at_external_calls() {
    at_external_calls(Generation::Kubernetes, rounds(100));
}

#[test]
fn killed_anywhere() {
    anywhere(Generation::Kubernetes, rounds(30));
}

#[test]
fn killed_while_calls_fail() {
    while_calls_fail(Generation::Kubernetes, rounds(40));
}

#[test]
fn swarm_killed_at_external_calls() {
    at_external_calls(Generation::Swarm, rounds(100));
}

#[test]
fn swarm_killed_anywhere() {
    anywhere(Generation::Swarm, rounds(30));
}

#[test]
fn swarm_killed_while_calls_fail() {
    while_calls_fail(Generation::Swarm, rounds(40));
}
