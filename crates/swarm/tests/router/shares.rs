use std::sync::atomic::Ordering;

use http::{Request, Response};
use sampan_swarm::router::table::Route;

use crate::common::{Container, Router, full, group, route, table, text};

fn first_word(answer: &str) -> String {
    answer.split(' ').next().unwrap().to_owned()
}

#[tokio::test]
async fn weights_are_exact_and_move_with_the_table() {
    let (blue, green) = (Container::saying("blue").await, Container::saying("green").await);
    let wanted = |revision, old, new| {
        table(
            revision,
            vec![route("web.test", "/", vec![group("p_blue", old, &[&blue]), group("p_green", new, &[&green])])],
        )
    };
    let router = Router::with(&wanted(1, 100, 0)).await;
    let mut client = router.client().await;
    let mut share = async |count: usize| {
        let before = green.requests.load(Ordering::SeqCst);
        for _ in 0..count {
            assert_eq!(client.get("/").await.0, 200);
        }
        green.requests.load(Ordering::SeqCst) - before
    };
    assert_eq!(share(50).await, 0);
    for (revision, weight, of_hundred) in [(2, 10, 10), (3, 50, 50), (4, 99, 99), (5, 100, 100)] {
        router.install(&wanted(revision, 100 - weight, weight)).await;
        assert_eq!(share(100).await, of_hundred);
    }
    // The share of a group without a healthy container goes to the others.
    router
        .install(&table(
            6,
            vec![route("web.test", "/", vec![group("p_blue", 50, &[&blue]), group("p_green", 50, &[])])],
        ))
        .await;
    assert_eq!(share(20).await, 0);
}

#[tokio::test]
async fn containers_of_a_group_take_turns() {
    let all = [Container::saying("a").await, Container::saying("b").await, Container::saying("c").await];
    let router = Router::to(&[&all[0], &all[1], &all[2]]).await;
    let mut client = router.client().await;
    for _ in 0..30 {
        client.get("/").await;
    }
    assert_eq!(all.each_ref().map(|one| one.requests.load(Ordering::SeqCst)), [10, 10, 10]);
}

#[tokio::test]
async fn a_busy_container_gets_less() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let waiting = std::sync::Arc::clone(&gate);
    let slow = Container::answering("slow", move |_| {
        let waiting = std::sync::Arc::clone(&waiting);
        Box::pin(async move {
            drop(waiting.acquire().await);
            Response::new(full("slow "))
        })
    })
    .await;
    let (fast, quick) = (Container::saying("fast").await, Container::saying("quick").await);
    let router = Router::to(&[&slow, &fast, &quick]).await;
    let mut stuck = Vec::new();
    while slow.requests.load(Ordering::SeqCst) < 2 {
        let mut client = router.client().await;
        stuck.push(tokio::spawn(async move { client.get("/").await }));
        tokio::task::yield_now().await;
    }
    let before = slow.requests.load(Ordering::SeqCst);
    let mut client = router.client().await;
    for _ in 0..12 {
        // The slow one is busy, another never is.
        tokio::select! {
            (status, _) = client.get("/") => assert_eq!(status, 200),
            () = async { while slow.requests.load(Ordering::SeqCst) == before { tokio::task::yield_now().await } } => break,
        }
    }
    gate.add_permits(1000);
    for one in stuck {
        one.await.unwrap();
    }
    assert!(fast.requests.load(Ordering::SeqCst) + quick.requests.load(Ordering::SeqCst) > 4);
}

#[tokio::test]
async fn a_session_stays_where_it_is() {
    let all = [Container::saying("alpha").await, Container::saying("beta").await, Container::saying("gamma").await];
    let sticky = |revision, groups| table(revision, vec![Route { sticky: true, ..route("web.test", "/shop", groups) }]);
    let router = Router::with(&sticky(1, vec![group("p_web", 100, &[&all[0], &all[1], &all[2]])])).await;
    let mut client = router.client().await;
    let mut ask = async |cookie: Option<&str>| {
        let mut request = Request::get("/shop/x");
        if let Some(cookie) = cookie {
            request = request.header("cookie", format!("theirs=1; {cookie}; more=2"));
        }
        let answer = client.send(request.body(full("")).unwrap()).await;
        let set = answer.headers().get("set-cookie").map(|value| value.to_str().unwrap().to_owned());
        let (status, words) = text(answer).await;
        assert_eq!(status, 200);
        (first_word(&words), set)
    };
    let (first, set) = ask(None).await;
    let set = set.unwrap();
    assert!(set.contains("; Path=/shop; Max-Age=1800; HttpOnly"), "{set}");
    assert!(!set.contains(&first), "the cookie names the container: {set}");
    let cookie = set.split(';').next().unwrap().to_owned();
    for _ in 0..10 {
        assert_eq!(ask(Some(&cookie)).await, (first.clone(), None));
    }
    // Without the cookie every request begins a session of its own.
    let others: std::collections::BTreeSet<String> = [ask(None).await.0, ask(None).await.0, ask(None).await.0].into();
    assert_eq!(others.len(), 3);
    // Its container goes: another one, and a new cookie.
    let rest: Vec<&Container> = all.iter().filter(|one| one.id != first).collect();
    router.install(&sticky(2, vec![group("p_web", 100, &rest)])).await;
    let (second, set) = ask(Some(&cookie)).await;
    assert_ne!(second, first);
    let cookie = set.unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(ask(Some(&cookie)).await.0, second);
    // Its service loses its weight: sessions move.
    let new = Container::saying("new").await;
    router.install(&sticky(3, vec![group("p_web", 0, &rest), group("p_new", 100, &[&new])])).await;
    assert_eq!(ask(Some(&cookie)).await.0, "new");
    // Old and forged ones are nothing.
    for foreign in ["sampan_session=x", "sampan_session=0123456789abcdef-1-1", "sampan_session="] {
        assert!(ask(Some(foreign)).await.1.is_some());
    }
}
