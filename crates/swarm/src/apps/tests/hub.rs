use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use crate::{
    apps::{ROUTER_SILENT_AFTER, RouteHub},
    router::table::{Route, RouteTable},
};

const WAIT: Duration = Duration::from_secs(30);

fn table(host: &str) -> RouteTable {
    let route = Route { host: host.into(), path: "/".into(), groups: vec![], sticky: false };
    RouteTable { revision: 0, routes: vec![route], tcp: vec![] }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_told_before_there_is_a_table_and_then_every_change() {
    let hub = Arc::new(RouteHub::default());
    assert!(hub.poll("a", 0, WAIT).await.is_none());
    let first = hub.publish(table("one"));
    assert_eq!(hub.poll("a", 0, WAIT).await.unwrap().revision, first);
    assert_eq!(hub.publish(table("one")), first, "the same table has the same revision");
    let waiting = tokio::spawn({
        let hub = hub.clone();
        async move { hub.poll("a", first, WAIT).await }
    });
    sleep(Duration::from_secs(1)).await;
    let second = hub.publish(table("two"));
    assert!(second > first);
    assert_eq!(waiting.await.unwrap().unwrap().routes[0].host, "two");
}

#[tokio::test(start_paused = true)]
async fn a_table_of_a_former_master_is_outrun() {
    let hub = RouteHub::default();
    let first = hub.publish(table("one"));
    let answered = hub.poll("a", first + 1000, WAIT).await.unwrap();
    assert_eq!((answered.revision, answered.routes[0].host.as_str()), (first + 1001, "one"));
}

#[tokio::test(start_paused = true)]
async fn living_routers_are_waited_for_and_silent_ones_are_not() {
    let hub = Arc::new(RouteHub::default());
    let first = hub.publish(table("one"));
    sleep(ROUTER_SILENT_AFTER).await;
    assert!(hub.in_force(first).await, "there is no router");
    hub.poll("silent", 0, WAIT).await.unwrap();
    let slow = tokio::spawn({
        let hub = hub.clone();
        async move {
            let mut after = 0;
            loop {
                after = hub.poll("slow", after, WAIT).await.map_or(after, |table| table.revision);
                sleep(Duration::from_secs(3)).await;
            }
        }
    });
    sleep(Duration::from_secs(5)).await;
    let second = hub.publish(table("two"));
    let begun = Instant::now();
    assert!(hub.in_force(second).await);
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(3) && took <= ROUTER_SILENT_AFTER, "{took:?}");
    slow.abort();
    let _ = slow.await;
    // One that says what it has, and waits by itself.
    hub.acknowledged("other", second);
    sleep(2 * ROUTER_SILENT_AFTER).await;
    let third = hub.publish(table("three"));
    assert!(timeout(Duration::from_secs(5), hub.in_force(third)).await.is_err());
    hub.acknowledged("other", third);
    assert!(hub.in_force(third).await);
}

#[tokio::test(start_paused = true)]
async fn a_new_master_gives_routers_time_to_find_it() {
    let hub = Arc::new(RouteHub::default());
    let first = hub.publish(table("one"));
    let found = tokio::spawn({
        let hub = hub.clone();
        async move {
            sleep(Duration::from_secs(4)).await;
            hub.poll("late", 0, WAIT).await.unwrap();
            sleep(Duration::from_secs(8)).await;
            hub.poll("late", first, WAIT).await
        }
    });
    let begun = Instant::now();
    assert!(hub.in_force(first).await);
    assert!(begun.elapsed() >= Duration::from_secs(12));
    found.abort();
}
