//! A process that is killed in the middle of commits leaves each batch whole or absent, and none that it acknowledged
//! absent.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::task::JoinSet;

use super::samples::*;
use crate::model::*;
use crate::{MasterKey, Store, StoreOptions};

const DIRECTORY: &str = "SAMPAN_STORE_KILL_TEST_DIRECTORY";
const FIRST: &str = "SAMPAN_STORE_KILL_TEST_FIRST";

/// Batches that are under way at the same time, so that groups are killed too.
const WRITERS: u64 = 4;

async fn open(directory: &Path) -> Store {
    let key = MasterKey::load_or_create(&directory.join("master.key")).unwrap();
    Store::open(StoreOptions::new(directory.join("sampan.db"), key)).await.unwrap()
}

/// Not a test by itself: the process that is killed. Says a number when its batch is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let (Ok(directory), Ok(first)) = (std::env::var(DIRECTORY), std::env::var(FIRST)) else {
        return;
    };
    let first: u64 = first.parse().unwrap();
    let store = open(Path::new(&directory)).await;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for number in (first + writer..).step_by(WRITERS as usize) {
                write(&store, number).await;
                let mut out = std::io::stdout().lock();
                writeln!(out, "\nacknowledged {number}").unwrap();
                out.flush().unwrap();
            }
        });
    }
    writers.join_all().await;
}

async fn write(store: &Store, number: u64) {
    commit(store, |batch| {
        batch
            .create(&setting(&format!("{number:06}-a"), number))
            .secret(&format!("{number:06}"), b"secret")
            .event(event(&format!("{number:06}"), "c1", "x"))
            .log(log_line("c1", &format!("{number:06}")))
            .nonce("key", &number.to_string(), noon())
            .create(&setting(&format!("{number:06}-b"), number))
            .put(&setting("last", number))
    })
    .await
    .unwrap();
}

/// Lets the victim run until `count` batches are acknowledged, kills it, returns everything it had said.
fn kill_after(directory: &Path, first: u64, count: usize) -> Vec<u64> {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::kill::victim", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let number = |line: &str| line.strip_prefix("acknowledged ").map(|number| number.parse::<u64>().unwrap());
    let mut out = BufReader::new(victim.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    let mut line = String::new();
    while acknowledged.len() < count {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "the victim ended by itself");
        acknowledged.extend(number(line.trim_end()));
    }
    victim.kill().unwrap();
    victim.wait().unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    // The last line may be cut; only whole ones count.
    let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
    acknowledged.extend(whole.lines().filter_map(number));
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_and_halves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut first, mut acknowledged) = (0, BTreeSet::new());
    for count in [1, 2, 5, 13, 34, 89] {
        acknowledged.extend(kill_after(directory.path(), first, count));
        let store = open(directory.path()).await;
        let written = check(&store, first).await;
        assert!(acknowledged.is_subset(&written), "lost: {:?}", acknowledged.difference(&written));
        first = written.last().unwrap() + 1;
        store.close().await;
    }
}

/// Every batch is whole; returns the numbers of those that are there.
async fn check(store: &Store, first: u64) -> BTreeSet<u64> {
    let settings: Vec<_> = store.list::<Setting>().iter().map(|setting| setting.id.clone()).collect();
    let numbered = |end: &str| -> BTreeSet<u64> {
        settings.iter().filter_map(|id| id.strip_suffix(end)).map(|number| number.parse().unwrap()).collect()
    };
    let parsed = |texts: Vec<String>| -> BTreeSet<u64> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    let written = numbered("-a");
    assert_eq!(numbered("-b"), written);
    assert_eq!(parsed(event_ids(store).await), written);
    assert_eq!(parsed(log_texts(store, "c1").await), written);
    for number in first..written.last().unwrap() + WRITERS {
        let secret = secret_text(store, &format!("{number:06}")).await;
        assert_eq!(secret.is_some(), written.contains(&number), "the secret of {number}");
    }
    written
}
