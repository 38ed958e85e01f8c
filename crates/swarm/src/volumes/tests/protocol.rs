use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

use super::*;
use crate::volumes::{listen, options::Kind, protocol};

struct Plugins {
    _tasks: JoinSet<()>,
    directory: tempfile::TempDir,
    fake: Arc<Fake>,
}

async fn plugins() -> Plugins {
    let (directory, fake) = (tempfile::tempdir().unwrap(), Arc::new(Fake::default()));
    let keeper = keeper(&directory.path().join("state"), "1", &fake).await;
    let mut tasks = JoinSet::new();
    for kind in Kind::ALL {
        // Left over by a killed process.
        drop(UnixListener::bind(directory.path().join(format!("{}.sock", kind.name()))).unwrap());
        tasks.spawn(protocol::serve(listen(directory.path(), kind).unwrap(), kind, Arc::clone(&keeper)));
    }
    Plugins { _tasks: tasks, directory, fake }
}

impl Plugins {
    /// As the engine sends it; answers status, head and body.
    async fn send(&self, driver: &str, head: &str, body: &[u8]) -> (u16, String, Value) {
        let mut stream = UnixStream::connect(self.directory.path().join(format!("{driver}.sock"))).await.unwrap();
        let length = body.len();
        let head = format!("{head} HTTP/1.1\r\nHost: \r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        // A refusal may come before all is written.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), serde_json::from_str(body).unwrap())
    }

    async fn call(&self, driver: &str, method: &str, body: Value) -> Value {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let (status, head, answer) = self.send(driver, &format!("POST /{method}"), &body).await;
        assert_eq!(status, 200, "{answer}");
        assert!(head.contains("application/vnd.docker.plugins.v1"), "{head}");
        answer
    }
}

#[tokio::test]
async fn the_engine_uses_a_bucket() {
    let plugins = plugins().await;
    let call = async |method: &str, body: Value| plugins.call("ossfs", method, body).await;
    assert_eq!(call("Plugin.Activate", Value::Null).await, json!({ "Implements": ["VolumeDriver"] }));
    let capabilities = call("VolumeDriver.Capabilities", json!({})).await;
    assert_eq!(capabilities, json!({ "Capabilities": { "Scope": "global" } }));
    let fine = json!({ "Err": "" });
    let create = json!({ "Name": "ossvolume", "Opts": bucket("aliyun-docker") });
    assert_eq!(call("VolumeDriver.Create", create).await, fine);
    let mountpoint = "/mnt/acs_mnt/ossfs/aliyun-docker";
    let mounted = call("VolumeDriver.Mount", json!({ "Name": "ossvolume", "ID": "abc" })).await;
    assert_eq!(mounted, json!({ "Mountpoint": mountpoint, "Err": "" }));
    assert_eq!(plugins.fake.mounted(), [mountpoint]);
    assert_eq!(call("VolumeDriver.Path", json!({ "Name": "ossvolume" })).await["Mountpoint"], mountpoint);
    let got = call("VolumeDriver.Get", json!({ "Name": "ossvolume" })).await;
    assert_eq!((&got["Volume"]["Name"], &got["Volume"]["Mountpoint"]), (&json!("ossvolume"), &json!(mountpoint)));
    assert_eq!(got["Volume"]["Status"]["users"], 1);
    assert!(!got.to_string().contains("never-to-be-seen"), "{got}");
    assert_eq!(call("VolumeDriver.List", json!({})).await["Volumes"][0]["Name"], "ossvolume");
    assert_eq!(plugins.call("nas", "VolumeDriver.List", json!({})).await["Volumes"], json!([]));
    let refused = call("VolumeDriver.Remove", json!({ "Name": "ossvolume" })).await;
    assert!(refused["Err"].as_str().unwrap().contains("in use"), "{refused}");
    assert_eq!(call("VolumeDriver.Unmount", json!({ "Name": "ossvolume", "ID": "abc" })).await, fine);
    assert!(plugins.fake.mounted().is_empty());
    assert_eq!(call("VolumeDriver.Remove", json!({ "Name": "ossvolume" })).await, fine);
    let gone = call("VolumeDriver.Get", json!({ "Name": "ossvolume" })).await;
    assert_eq!(gone["Err"], "there is no volume 'ossvolume' of the driver ossfs");
}

#[tokio::test]
async fn refusals_are_in_words() {
    let plugins = plugins().await;
    let create = async |driver: &str, opts: Value| {
        let answer = plugins.call(driver, "VolumeDriver.Create", json!({ "Name": "v", "Opts": opts })).await;
        answer["Err"].as_str().unwrap().to_owned()
    };
    assert_eq!(create("ossfs", Value::Null).await, "the option bucket is missing");
    assert_eq!(create("nas", json!({ "colour": "red", "diskid": "1" })).await, "the driver nas has no option 'colour'");
    plugins.fake.fail_next(Problem::Lasting("the server refuses: InvalidAccessKeyId".to_owned()));
    assert_eq!(create("ossfs", json!(bucket("aliyun-docker"))).await, "the server refuses: InvalidAccessKeyId");
    let answer = plugins.call("ossfs", "VolumeDriver.Create", json!({ "Name": "../x" })).await;
    assert!(answer["Err"].as_str().unwrap().contains("no name of a volume"), "{answer}");
    let answer = plugins.call("ossfs", "VolumeDriver.Create", json!({ "Opts": { "ak_secret": "s3cret" } })).await;
    assert!(!answer.to_string().contains("s3cret"), "{answer}");
}

#[tokio::test]
async fn foreign_requests_are_turned_away() {
    let plugins = plugins().await;
    assert_eq!(plugins.send("ossfs", "POST /VolumeDriver.Format", b"{}").await.0, 404);
    assert_eq!(plugins.send("ossfs", "GET /VolumeDriver.List", b"").await.0, 405);
    let (status, _, answer) = plugins.send("nas", "POST /VolumeDriver.Create", b"{\"Name\": 7}").await;
    assert!(status == 200 && answer["Err"].as_str().unwrap().contains("not what this call takes"), "{answer}");
    assert_eq!(plugins.send("nas", "POST /VolumeDriver.Create", &vec![b' '; 100_000]).await.0, 413);
}
