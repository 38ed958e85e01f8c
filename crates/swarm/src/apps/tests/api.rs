use http::StatusCode;
use serde_json::{Value, json};

use super::world::World;

const TWO: &str = "version: '2'\nservices:\n  web:\n    image: nginx\n    depends_on: [db]\n  db:\n    image: mysql\n    environment: [MYSQL_ROOT_PASSWORD=password]\n    restart: always\n    labels: {aliyun.log_store_db: /var/log/mysql}\n";

#[tokio::test(start_paused = true)]
async fn an_application_comes_is_seen_and_goes() {
    let world = World::new(3);
    let created = world.post("/projects/", json!({"name": "test", "description": "This is a test application", "template": TWO, "environment": {"USER": "abc"}}), 201).await;
    assert_eq!(created.location.as_deref(), Some("/projects/test"));
    assert_eq!(created.body, "");
    world.state("test", "running").await;
    assert_eq!(world.engines.running(), ["test_db_1", "test_web_1"]);
    assert_eq!(world.engines.log(), ["create test_db_1", "start test_db_1", "create test_web_1", "start test_web_1"]);

    let listed = world.request("GET", "/v1.24/projects/?q=es", "").await;
    assert_eq!(listed.content_type.as_deref(), Some("application/json;charset=UTF-8"));
    let project = &listed.json()[0];
    assert_eq!(project["name"], "test");
    assert_eq!(project["version"], "1.0");
    assert_eq!(project["template"], TWO);
    assert_eq!(project["environment"], json!({"COMPOSE_PROJECT_NAME": "test", "USER": "abc"}));
    assert_eq!(project["desired_state"], "running");
    assert_eq!(project["services"].as_array().unwrap().len(), 2);
    assert_eq!(world.get("/projects?q=other").await, json!([]));
    assert_eq!(world.get("/projects?services=false").await[0]["services"], json!([]));
    assert_eq!(world.get("/projects?containers=0").await[0]["services"][0].get("containers"), None);

    let mut service = world.get("/services/test_db").await;
    let container = world.engines.container("test_db_1").unwrap();
    let node = container.node.strip_prefix("cn-test.").unwrap();
    let ip = container.overlay_ip().unwrap().to_string();
    for time in ["created", "updated"] {
        service[time].take().as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    }
    assert_eq!(
        service,
        json!({
            "id": "test_db", "name": "db", "project": "test", "version": "1.0",
            "definition": {"image": "mysql", "environment": ["MYSQL_ROOT_PASSWORD=password"], "restart": "always", "labels": {"aliyun.log_store_db": "/var/log/mysql"}},
            "extensions": {"scale": 1, "logs": ["/var/log/mysql"]},
            "created": null, "updated": null, "desired_state": "running", "current_state": "running",
            "containers": { container.id.clone(): {"name": "/test_db_1", "node": node, "ip": ip, "running": true, "status": "running", "health": "success"} },
        })
    );
    assert!(container.env.contains(&"COMPOSE_PROJECT_NAME=test".to_owned()));
    assert_eq!(container.labels["aliyun.project.id"], "test");
    assert_eq!(container.labels["aliyun.service.id"], "test_db");

    let deleted = world.request("DELETE", "/projects/test", "").await;
    assert_eq!((deleted.status, deleted.body.as_str()), (StatusCode::OK, ""));
    assert_eq!(world.request("GET", "/projects/test", "").await.status, StatusCode::NOT_FOUND);
    assert!(world.engines.names().is_empty());
    let stops: Vec<String> = world.engines.log().into_iter().filter(|line| line.starts_with("stop ")).collect();
    assert_eq!(stops, ["stop test_web_1 10", "stop test_db_1 10"]);
}

#[tokio::test(start_paused = true)]
async fn stop_start_and_scale() {
    let world = World::new(3);
    world.create("test", TWO).await;
    world.state("test", "running").await;
    world.post("/projects/test/stop?t=3", Value::Null, 200).await;
    world.state("test", "stopped").await;
    assert!(world.engines.running().is_empty());
    assert_eq!(&world.engines.log()[4..], ["stop test_web_1 3", "stop test_db_1 3"]);
    assert_eq!(world.get("/projects/test").await["desired_state"], "stopped");
    world.post("/projects/test/start/", Value::Null, 200).await;
    world.state("test", "running").await;
    assert_eq!(&world.engines.log()[6..], ["start test_db_1", "start test_web_1"]);
    world.post("/services/test_web/scale", json!({"type": "scale_to", "value": 3}), 200).await;
    world.state("test", "running").await;
    assert_eq!(world.engines.running(), ["test_db_1", "test_web_1", "test_web_2", "test_web_3"]);
    assert_eq!(world.get("/services/test_web").await["extensions"]["scale"], 3);
    world.post("/services/test_web/scale", json!({"type": "scale_to", "value": "1"}), 200).await;
    world.state("test", "running").await;
    assert_eq!(world.engines.running(), ["test_db_1", "test_web_1"]);
    world.post("/service/test_web/stop", Value::Null, 200).await;
    world.until("web is stopped", || world.engines.running() == ["test_db_1"]).await;
    world.post("/service/test_web/start", Value::Null, 200).await;
    world.state("test", "running").await;
    world.post("/projects/test/kill?signal=HUP", Value::Null, 200).await;
    let log = world.engines.log();
    assert_eq!(&log[log.len() - 2..], ["kill test_web_1 HUP", "kill test_db_1 HUP"]);
    assert_eq!(world.engines.running(), ["test_db_1", "test_web_1"]);
    world.post("/projects/test/kill", Value::Null, 200).await;
    assert!(world.engines.running().is_empty());
    world.state("test", "stopped").await;
}

#[tokio::test(start_paused = true)]
async fn refusals() {
    let world = World::new(1);
    world.create("test", "web: {image: nginx}").await;
    let template = "web: {image: nginx}";
    for (path, body, status, message) in [
        ("/projects", json!({"name": "test", "template": template}), 409, "the application test exists already"),
        ("/projects", json!({"name": "-x", "template": template}), 400, "name: "),
        ("/projects", json!({"name": "x"}), 400, "template: is missing"),
        ("/projects", json!({"name": "x", "template": "a: [b"}), 400, ""),
        (
            "/projects",
            json!({"name": "x", "template": template, "latest_image": "perhaps"}),
            400,
            "latest_image: true or false was expected",
        ),
        ("/projects", json!({"name": "x", "template": template, "environment": []}), 400, "environment: "),
        ("/projects/none/start", Value::Null, 404, "no such application: none"),
        ("/projects/test/dance", Value::Null, 404, "no such operation: POST /projects/test/dance"),
        ("/projects/test/stop?t=never", Value::Null, 400, "t: a number from 0 to 3600 was expected"),
        ("/projects/test/kill?signal=a/b", Value::Null, 400, "signal: "),
        (
            "/projects/test/update",
            json!({"template": template, "version": "1.0"}),
            409,
            "the application test has the version 1.0 already",
        ),
        (
            "/projects/test/update",
            json!({"template": template, "update_method": "purple"}),
            400,
            "update_method: `purple` is unknown",
        ),
        ("/projects/test/update", json!({"template": template, "update_method": "blue-green"}), 400, "version: "),
        ("/projects/test/confirm-update?force=true", Value::Null, 409, "no blue-green release of test is open"),
        ("/projects/test/rollback-update?force=true", Value::Null, 409, "no blue-green release of test is open"),
        ("/services/test_web/scale", json!({"type": "scale_up", "value": 1}), 400, "type: `scale_up` is unknown"),
        (
            "/services/test_web/scale",
            json!({"type": "scale_to", "value": -1}),
            400,
            "value: a number from 0 to 1000 was expected",
        ),
        ("/services/test_web/scale", json!({"type": "scale_to"}), 400, "value: is missing"),
        ("/services/test_no/scale", json!({"type": "scale_to", "value": 1}), 404, "no such service: test_no"),
        ("/services/test_web/weight", json!({"weight": 101}), 400, "weight: a number from 0 to 100 was expected"),
    ] {
        let answered = world.post(path, body, status).await;
        let said = answered.json()["message"].as_str().unwrap().to_owned();
        assert!(said.starts_with(message), "{path}: {said}");
    }
    assert_eq!(world.request("PUT", "/projects", "").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(world.request("POST", "/projects", "no json").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(world.request("POST", "/projects", vec![b' '; 3 << 20]).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(std::fs::read_dir(world.directory.path().join("projects")).unwrap().count(), 1);
}
