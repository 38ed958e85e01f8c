//! Following a cluster whose API server answers from a script.

use std::{collections::BTreeMap, convert::Infallible};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// What is asked, and the answers to it in turn; the last one is given again and again.
type Script = Arc<Mutex<BTreeMap<&'static str, Vec<(u16, String)>>>>;

fn client(script: &Script, asked: &Arc<Mutex<Vec<String>>>) -> Client {
    let (script, asked) = (Arc::clone(script), Arc::clone(asked));
    let service = tower::service_fn(move |request: Request<Body>| {
        let uri = request.uri().to_string();
        asked.lock().unwrap().push(uri.clone());
        let mut script = script.lock().unwrap();
        let found = script.iter_mut().find(|(part, _)| uri.contains(**part));
        let (status, body) = match found {
            Some((_, answers)) if answers.len() > 1 => answers.remove(0),
            Some((_, answers)) => answers[0].clone(),
            None if uri.contains("watch=true") => (200, String::new()),
            None => (200, list(&[], "1", "")),
        };
        let response = Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap();
        std::future::ready(Ok::<_, Infallible>(response))
    });
    Client::new(service, "default")
}

fn list(items: &[Value], version: &str, token: &str) -> String {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version, "continue": token}, "items": items}).to_string()
}

fn pod(name: &str, version: &str) -> Value {
    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "uid": name, "resourceVersion": version},
        "spec": {"containers": []}})
}

fn events(events: &[(&str, Value)]) -> String {
    events.iter().map(|(kind, object)| format!("{}\n", json!({"type": kind, "object": object}))).collect()
}

fn feed() -> (Feed, broadcast::Receiver<String>) {
    let (changes, receiver) = broadcast::channel(64);
    (Feed { cluster_id: "c1".into(), known: Arc::default(), changes }, receiver)
}

fn names(feed: &Feed) -> Vec<String> {
    feed.known().view.pods.keys().cloned().collect()
}

#[tokio::test]
async fn pages_are_read_and_watched_from_there_on() {
    let script: Script = Arc::default();
    let asked = Arc::default();
    script.lock().unwrap().extend([
        (
            "/pods?&fieldSelector",
            vec![(200, list(&[pod("a", "3"), pod("b", "4")], "", "more")), (200, list(&[pod("c", "5")], "7", ""))],
        ),
        (
            "resourceVersion=7",
            vec![(
                200,
                events(&[
                    ("ADDED", pod("d", "8")),
                    ("DELETED", pod("a", "9")),
                    ("BOOKMARK", json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "12"}})),
                ]),
            )],
        ),
    ]);
    let client = client(&script, &asked);
    let (feed, _receiver) = feed();
    let api: Api<Pod> = Api::all(client);
    let mut version = feed.list(&api, NOT_ENDED).await.unwrap();
    assert_eq!((version.as_str(), names(&feed)), ("7", vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]));
    assert!(feed.watch(&api, NOT_ENDED, &mut version).await.unwrap(), "it may go on");
    assert_eq!((version.as_str(), names(&feed)), ("12", vec!["b".to_owned(), "c".to_owned(), "d".to_owned()]));
    let asked: Vec<String> = asked.lock().unwrap().clone();
    assert!(asked[1].contains("continue=more") && asked[2].contains("watch=true"), "{asked:?}");
}

#[tokio::test]
async fn a_version_that_is_too_old_is_listed_anew() {
    let script: Script = Arc::default();
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "message": "too old", "reason": "Expired"});
    script.lock().unwrap().insert("watch=true", vec![(200, events(&[("ERROR", gone)])), (500, String::new())]);
    let client = client(&script, &Arc::default());
    let (feed, _receiver) = feed();
    let api: Api<Pod> = Api::all(client);
    assert!(!feed.watch(&api, NOT_ENDED, &mut "1".to_owned()).await.unwrap());
    assert!(feed.watch(&api, NOT_ENDED, &mut "1".to_owned()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_announced_when_all_of_it_is_known() {
    let script: Script = Arc::default();
    let nothing = || (200, String::new());
    // Watches that end are begun again; one that fails ends the following.
    script.lock().unwrap().insert("/storageclasses?&watch", vec![nothing(), nothing(), (500, String::new())]);
    let (feed, mut receiver) = feed();
    assert!(feed.known().whole().is_none());
    assert!(feed.all(&client(&script, &Arc::default())).await.is_err());
    assert_eq!(receiver.try_recv().unwrap(), "c1");
    assert!(feed.known().whole().is_some());
}
