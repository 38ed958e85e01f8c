use std::{fs, os::unix::fs::PermissionsExt as _};

use proptest::prelude::*;

use super::*;
use crate::volumes::options::{Kind, check_name};

const BUCKET: &str = "/mnt/acs_mnt/ossfs/aliyun-docker";

fn lasting(words: &str) -> Problem {
    Problem::Lasting(words.to_owned())
}

#[tokio::test]
async fn the_first_user_mounts_and_the_last_unmounts() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let keeper = keeper(state.path(), "1", &fake).await;
    keeper.create(Kind::Ossfs, "ossvolume", bucket("aliyun-docker")).await.unwrap();
    // Its twin shares the mount.
    keeper.create(Kind::Ossfs, "twin", bucket("aliyun-docker")).await.unwrap();
    fake.take_calls();
    assert_eq!(keeper.mount(Kind::Ossfs, "ossvolume", "a").await.unwrap(), Path::new(BUCKET));
    keeper.mount(Kind::Ossfs, "ossvolume", "a").await.unwrap();
    keeper.mount(Kind::Ossfs, "ossvolume", "b").await.unwrap();
    keeper.mount(Kind::Ossfs, "twin", "c").await.unwrap();
    assert_eq!(fake.take_calls(), [format!("mount {BUCKET}")]);
    for (volume, user) in [("ossvolume", "a"), ("ossvolume", "b"), ("ossvolume", "b"), ("ossvolume", "unknown")] {
        keeper.unmount(Kind::Ossfs, volume, user).await.unwrap();
    }
    assert!(fake.take_calls().is_empty());
    keeper.unmount(Kind::Ossfs, "twin", "c").await.unwrap();
    assert_eq!(fake.take_calls(), [format!("unmount {BUCKET}")]);
}

#[tokio::test]
async fn what_cannot_be_mounted_is_not_created() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let keeper = keeper(state.path(), "1", &fake).await;
    fake.fail_next(lasting("the server refuses: SignatureDoesNotMatch"));
    let refused = keeper.create(Kind::Ossfs, "v", bucket("aliyun-docker")).await.unwrap_err();
    assert_eq!(refused, "the server refuses: SignatureDoesNotMatch");
    assert!(keeper.list(Kind::Ossfs).is_empty());
    assert!(keeper.mount(Kind::Ossfs, "v", "a").await.unwrap_err().contains("no volume 'v'"));
    // A mount that fails leaves no user.
    keeper.create(Kind::Ossfs, "v", bucket("aliyun-docker")).await.unwrap();
    fake.fail_next(lasting("no"));
    assert_eq!(keeper.mount(Kind::Ossfs, "v", "a").await.unwrap_err(), "no");
    keeper.remove(Kind::Ossfs, "v").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_late_is_waited_for_but_not_for_ever() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let keeper = keeper(state.path(), "1", &fake).await;
    keeper.create(Kind::Ossfs, "v", bucket("aliyun-docker")).await.unwrap();
    for _ in 0..3 {
        fake.fail_next(Problem::Passing("away".to_owned()));
    }
    keeper.mount(Kind::Ossfs, "v", "a").await.unwrap();
    keeper.unmount(Kind::Ossfs, "v", "a").await.unwrap();
    for _ in 0..100 {
        fake.fail_next(Problem::Passing("away".to_owned()));
    }
    assert_eq!(keeper.mount(Kind::Ossfs, "v", "a").await.unwrap_err(), "away");
}

#[tokio::test]
async fn volumes_of_one_bucket_agree() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let keeper = keeper(state.path(), "1", &fake).await;
    keeper.create(Kind::Ossfs, "v", bucket("aliyun-docker")).await.unwrap();
    keeper.create(Kind::Ossfs, "v", bucket("aliyun-docker")).await.unwrap();
    let mut other = bucket("aliyun-docker");
    other.insert("ak_secret".to_owned(), "another".to_owned());
    let refused = keeper.create(Kind::Ossfs, "w", other.clone()).await.unwrap_err();
    assert!(refused.contains("'v'") && refused.contains("same bucket") && !refused.contains("another"), "{refused}");
    let refused = keeper.create(Kind::Ossfs, "v", other).await.unwrap_err();
    assert!(refused.contains("other options"), "{refused}");
    // One driver's names are not the other's.
    keeper.create(Kind::Nas, "v", directory("/abc")).await.unwrap();
    assert_eq!((keeper.list(Kind::Nas).len(), keeper.list(Kind::Ossfs).len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_volume_in_use_is_not_removed() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let keeper = keeper(state.path(), "1", &fake).await;
    keeper.create(Kind::Nas, "nasvolume", directory("/abc")).await.unwrap();
    let at = keeper.mount(Kind::Nas, "nasvolume", "a").await.unwrap();
    assert!(keeper.remove(Kind::Nas, "nasvolume").await.unwrap_err().contains("in use"));
    fake.used.lock().unwrap().insert(at);
    tokio::time::advance(std::time::Duration::from_secs(600)).await;
    assert!(keeper.remove(Kind::Nas, "nasvolume").await.unwrap_err().contains("in use"));
    // An engine that lost its memory asks to remove what, as it knows, nobody has; and so says the kernel.
    fake.used.lock().unwrap().clear();
    keeper.remove(Kind::Nas, "nasvolume").await.unwrap();
    assert!(fake.mounted().is_empty() && keeper.list(Kind::Nas).is_empty());
}

#[tokio::test]
async fn another_process_goes_on_and_another_run_of_the_machine_begins_anew() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let first = keeper(state.path(), "1", &fake).await;
    first.create(Kind::Ossfs, "v", bucket("aliyun-docker")).await.unwrap();
    first.mount(Kind::Ossfs, "v", "a").await.unwrap();
    drop(first);
    let second = keeper(state.path(), "1", &fake).await;
    second.tend_once().await;
    assert_eq!(fake.mounted(), [BUCKET]);
    assert_eq!(second.get(Kind::Ossfs, "v").unwrap().status["users"], 1);
    // The machine was stopped: its mounts went, and so did its containers.
    fake.mounts.lock().unwrap().clear();
    let third = keeper(state.path(), "2", &fake).await;
    fake.take_calls();
    third.tend_once().await;
    assert!(fake.take_calls().is_empty());
    assert_eq!(third.get(Kind::Ossfs, "v").unwrap().status["users"], 0);
}

#[tokio::test(start_paused = true)]
async fn mounts_are_looked_after() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let keeper = keeper(state.path(), "1", &fake).await;
    keeper.create(Kind::Ossfs, "v", bucket("aliyun-docker")).await.unwrap();
    keeper.mount(Kind::Ossfs, "v", "a").await.unwrap();
    fake.take_calls();
    fake.set(BUCKET, MountState::Dead);
    fake.fail_next(Problem::Passing("away".to_owned()));
    keeper.tend_once().await;
    assert_eq!(fake.take_calls(), [format!("revive {BUCKET}")]);
    assert_eq!(keeper.get(Kind::Ossfs, "v").unwrap().status["error"], "away");
    // Not again at once.
    keeper.tend_once().await;
    assert!(fake.take_calls().is_empty());
    tokio::time::advance(std::time::Duration::from_secs(2)).await;
    keeper.tend_once().await;
    assert_eq!(fake.take_calls(), [format!("revive {BUCKET}")]);
    assert!(!keeper.get(Kind::Ossfs, "v").unwrap().status.contains_key("error"));
    // One that dies as soon as it is mounted is not mounted all the time.
    fake.set(BUCKET, MountState::Dead);
    keeper.tend_once().await;
    assert!(fake.take_calls().is_empty());
    // What nobody uses any more goes.
    keeper.unmount(Kind::Ossfs, "v", "a").await.unwrap();
    fake.set(BUCKET, MountState::Alive);
    keeper.tend_once().await;
    assert!(fake.mounted().is_empty());
    // A container that comes while it is dead gets a living one.
    fake.set(BUCKET, MountState::Dead);
    keeper.mount(Kind::Ossfs, "v", "b").await.unwrap();
    assert_eq!(fake.take_calls().last().unwrap(), &format!("revive {BUCKET}"));
}

#[tokio::test]
async fn state_is_for_root_only_and_one_bad_file_spoils_nothing_else() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let first = keeper(state.path(), "1", &fake).await;
    first.create(Kind::Ossfs, "good", bucket("aliyun-docker")).await.unwrap();
    first.create(Kind::Nas, "nasvolume", directory("/abc")).await.unwrap();
    let file = state.path().join("ossfs/good.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(state.path().join("ossfs/bad.json"), "{").unwrap();
    fs::copy(&file, state.path().join("ossfs/copy.json")).unwrap();
    fs::write(state.path().join("users.json"), "nonsense").unwrap();
    let second = keeper(state.path(), "1", &fake).await;
    assert_eq!(second.list(Kind::Ossfs), first.list(Kind::Ossfs));
    assert_eq!(second.list(Kind::Nas), first.list(Kind::Nas));
    assert_eq!(second.get(Kind::Nas, "nasvolume").unwrap().mountpoint, Path::new("/mnt/acs_mnt/nas/nasvolume"));
}

#[tokio::test]
async fn nothing_shows_a_credential() {
    let (state, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let keeper = keeper(state.path(), "1", &fake).await;
    keeper.create(Kind::Ossfs, "v", bucket("aliyun-docker")).await.unwrap();
    let definition = Definition::read(Kind::Ossfs, bucket("aliyun-docker")).unwrap();
    let shown = format!("{:?} {:?} {definition:?}", keeper.get(Kind::Ossfs, "v").unwrap(), keeper.list(Kind::Ossfs));
    assert!(
        shown.contains("aliyun-docker") && !shown.contains("never-to-be-seen") && !shown.contains("LTAI"),
        "{shown}"
    );
}

#[test]
fn names_are_dockers() {
    for good in ["a", "ossvolume", "0-x", "project_data.1", "A"] {
        check_name(good).unwrap();
    }
    for bad in ["", "-a", ".", "..", ".x", "_x", "a/b", "a b", "ä", &"x".repeat(200)] {
        assert!(check_name(bad).is_err(), "{bad}");
    }
}

/// What users and the kernel do, in any order.
#[derive(Clone, Debug)]
enum Event {
    Mount(u8),
    Unmount(u8),
    Die,
    Tend,
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..3u8).prop_map(Event::Mount),
        4 => (0..3u8).prop_map(Event::Unmount),
        1 => Just(Event::Die),
        2 => Just(Event::Tend),
        1 => Just(Event::Restart),
    ];
    prop::collection::vec(event, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// After some time and a look at it, a mount is alive if and only if it has a user.
    #[test]
    fn mounts_follow_users(events in events()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (state, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
            let mut now = keeper(state.path(), "1", &fake).await;
            now.create(Kind::Ossfs, "v", bucket("aliyun-docker")).await.unwrap();
            let mut users = BTreeSet::new();
            for event in events {
                match event {
                    Event::Mount(user) => {
                        now.mount(Kind::Ossfs, "v", &user.to_string()).await.unwrap();
                        users.insert(user);
                    }
                    Event::Unmount(user) => {
                        now.unmount(Kind::Ossfs, "v", &user.to_string()).await.unwrap();
                        users.remove(&user);
                    }
                    Event::Die if !fake.mounted().is_empty() => fake.set(BUCKET, MountState::Dead),
                    Event::Die => {}
                    Event::Tend => now.tend_once().await,
                    Event::Restart => now = keeper(state.path(), "1", &fake).await,
                }
            }
            tokio::time::advance(std::time::Duration::from_secs(60)).await;
            now.tend_once().await;
            assert_eq!(fake.state(Path::new(BUCKET)).await == MountState::Alive, !users.is_empty());
            assert_eq!(fake.mounted().is_empty(), users.is_empty());
        });
    }
}
