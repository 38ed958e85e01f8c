//! Whole create bodies, and every key by itself.

use serde_json::{Value, json};

use super::{template, web};

#[test]
fn a_rich_service_of_the_first_format() {
    let read = template(
        r#"
web:
  image: nginx:1.27
  command: nginx -g 'daemon off;'
  links: ["db", "cache:redis"]
  external_links: [other_db_1:olddb]
  ports: [80, "8443:443"]
  expose: ["9000"]
  environment:
    A: 1
    B: two words
    C:
    constraint:aliyun.node_index: =1
  volumes: ["/srv:/data:ro", "shared:/shared", "/tmp/cache"]
  volumes_from: [db, "somebody:ro"]
  volume_driver: nas
  log_driver: syslog
  log_opt: {syslog-address: "tcp://10.0.0.1:514"}
  restart: on-failure:3
  mem_limit: 512m
  memswap_limit: 1gb
  cpu_shares: 73
  cpuset: 0,1
  privileged: true
  dns: 8.8.8.8
  labels:
    aliyun.scale: "3"
    tier: front
db:
  image: mysql
cache:
  image: redis
  net: "container:db"
  pid: host
"#,
    );
    let web = &read.services["web"];
    assert_eq!(
        web.container,
        json!({
            "Image": "nginx:1.27",
            "Cmd": ["nginx", "-g", "daemon off;"],
            "Env": ["A=1", "B=two words", "C", "constraint:aliyun.node_index==1"],
            "ExposedPorts": {"80/tcp": {}, "443/tcp": {}, "9000/tcp": {}},
            "Volumes": {"/tmp/cache": {}},
            "Labels": {"aliyun.scale": "3", "tier": "front"},
            "HostConfig": {
                "Binds": ["/srv:/data:ro"],
                "CpuShares": 73,
                "CpusetCpus": "0,1",
                "Dns": ["8.8.8.8"],
                "LogConfig": {"Type": "syslog", "Config": {"syslog-address": "tcp://10.0.0.1:514"}},
                "Memory": 536_870_912,
                "MemorySwap": 1_073_741_824,
                "PortBindings": {
                    "80/tcp": [{"HostIp": "", "HostPort": ""}],
                    "443/tcp": [{"HostIp": "", "HostPort": "8443"}],
                },
                "Privileged": true,
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
                "VolumeDriver": "nas",
            },
        })
    );
    assert_eq!(web.volumes, [("shared".to_owned(), "/shared".to_owned(), "rw".to_owned())]);
    assert_eq!(web.links, [("db".to_owned(), "db".to_owned()), ("cache".to_owned(), "redis".to_owned())]);
    assert_eq!(web.external_links, [("other_db_1".to_owned(), "olddb".to_owned())]);
    assert_eq!(
        json!(web.volumes_from),
        json!([
            {"source": "db", "is_container": false, "mode": "rw"},
            {"source": "somebody", "is_container": true, "mode": "ro"},
        ])
    );
    assert_eq!(web.extensions.scale, Some(3));
    assert_eq!(
        json!(read.volumes["shared"]),
        json!({"external": null, "name": "shared", "driver": "nas", "options": {}, "labels": {}, "keep": true})
    );
    let cache = &read.services["cache"];
    assert_eq!(cache.network_of.as_deref(), Some("db"));
    assert_eq!(cache.container, json!({"Image": "redis", "HostConfig": {"PidMode": "host"}}));
    assert_eq!(read.start_order(), [vec!["db"], vec!["cache"], vec!["web"]]);
}

#[test]
fn a_rich_service_of_the_second_format() {
    let read = template(
        r#"
version: "2.4"
services:
  web:
    image: registry.example.com:5000/team/web@sha256:0123456789012345678901234567890123456789012345678901234567890123
    container_name: the-web
    hostname: web1
    domainname: example.com
    entrypoint: ["/bin/sh", "-c"]
    command: ["exec web --port $$PORT"]
    user: "1000:1000"
    working_dir: /srv
    stdin_open: true
    tty: true
    init: true
    read_only: true
    stop_signal: SIGINT
    stop_grace_period: 1m30s
    depends_on: {db: {condition: service_healthy}, job: {condition: service_completed_successfully}}
    healthcheck: {test: curl -f http://localhost, interval: 10s, timeout: 1500ms, retries: 5, start_period: 1m}
    networks:
      back: {aliases: [www], ipv4_address: 10.9.0.7}
    volumes:
      - data:/data:ro,nocopy
      - {type: bind, source: /etc/hosts, target: /etc/hosts2, read_only: true, bind: {propagation: rslave}}
      - {type: tmpfs, target: /run, tmpfs: {size: 64m, mode: 0755}}
      - {type: volume, target: /anonymous}
    tmpfs: /tmp:size=1m
    cap_add: [NET_ADMIN]
    cap_drop: [ALL]
    devices: ["/dev/fuse", "/dev/sda:/dev/xvda:r"]
    dns: [1.1.1.1, "2606:4700:4700::1111"]
    dns_opt: [use-vc]
    dns_search: example.com
    extra_hosts: ["one:10.0.0.1", "six:::1"]
    group_add: [mail, 1001]
    ulimits: {nproc: 100, nofile: {soft: 20000, hard: 40000}}
    sysctls: {net.core.somaxconn: 1024}
    security_opt: [no-new-privileges:true]
    logging: {driver: json-file, options: {max-size: 10m, max-file: 3}}
    cpus: 1.5
    mem_limit: 1.5gb
    mem_reservation: 256m
    mem_swappiness: 10
    pids_limit: 100
    shm_size: 64M
    oom_score_adj: -500
    oom_kill_disable: false
    blkio_config: {weight: 300, device_read_bps: [{path: /dev/sda, rate: 1mb}]}
    storage_opt: {size: 1G}
    restart: unless-stopped
  db: {image: mysql}
  job: {image: job}
networks: {back: {driver: overlay, ipam: {config: [{subnet: 10.9.0.0/24}]}}}
volumes: {data: {driver: ossfs, driver_opts: {bucket: b}}}
"#,
    );
    let expected = r#"{
        "Image": "registry.example.com:5000/team/web@sha256:0123456789012345678901234567890123456789012345678901234567890123",
        "Hostname": "web1", "Domainname": "example.com",
        "Entrypoint": ["/bin/sh", "-c"], "Cmd": ["exec web --port $PORT"],
        "User": "1000:1000", "WorkingDir": "/srv", "OpenStdin": true, "Tty": true,
        "StopSignal": "SIGINT", "StopTimeout": 90,
        "Healthcheck": {"Test": ["CMD-SHELL", "curl -f http://localhost"], "Interval": 10000000000,
            "Timeout": 1500000000, "Retries": 5, "StartPeriod": 60000000000},
        "Volumes": {"/anonymous": {}},
        "HostConfig": {
            "Binds": ["/etc/hosts:/etc/hosts2:ro,rslave"],
            "Tmpfs": {"/run": "size=67108864,mode=755", "/tmp": "size=1m"},
            "Init": true, "ReadonlyRootfs": true, "CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"],
            "Devices": [
                {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"},
                {"PathOnHost": "/dev/sda", "PathInContainer": "/dev/xvda", "CgroupPermissions": "r"}],
            "Dns": ["1.1.1.1", "2606:4700:4700::1111"], "DnsOptions": ["use-vc"], "DnsSearch": ["example.com"],
            "ExtraHosts": ["one:10.0.0.1", "six:::1"], "GroupAdd": ["mail", "1001"],
            "Ulimits": [{"Name": "nofile", "Soft": 20000, "Hard": 40000}, {"Name": "nproc", "Soft": 100, "Hard": 100}],
            "Sysctls": {"net.core.somaxconn": "1024"}, "SecurityOpt": ["no-new-privileges:true"],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
            "NanoCpus": 1500000000, "Memory": 1610612736, "MemoryReservation": 268435456, "MemorySwappiness": 10,
            "PidsLimit": 100, "ShmSize": 67108864, "OomScoreAdj": -500, "OomKillDisable": false,
            "BlkioWeight": 300, "BlkioDeviceReadBps": [{"Path": "/dev/sda", "Rate": 1048576}],
            "StorageOpt": {"size": "1G"},
            "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0}
        }
    }"#;
    let web = &read.services["web"];
    assert_eq!(web.container, serde_json::from_str::<Value>(expected).unwrap());
    assert_eq!(web.container_name.as_deref(), Some("the-web"));
    assert_eq!(web.stop_seconds, Some(90));
    assert_eq!(web.volumes, [("data".to_owned(), "/data".to_owned(), "ro,nocopy".to_owned())]);
    assert_eq!(json!(web.depends), json!({"db": "healthy", "job": "completed"}));
    assert_eq!(json!(web.networks), json!({"back": {"aliases": ["www"], "ipv4_address": "10.9.0.7"}}));
    assert_eq!(read.networks["back"].ipam, Some(json!({"Driver": "default", "Config": [{"Subnet": "10.9.0.0/24"}]})));
    assert_eq!(read.volumes["data"].driver.as_deref(), Some("ossfs"));
    assert!(read.notes.is_empty(), "{:?}", read.notes);
}

#[test]
fn a_rich_service_of_the_third_format() {
    let read = template(
        r#"
version: "3.8"
x-common: &common
  image: nginx
  logging: {driver: none}
services:
  web:
    <<: *common
    ports:
      - {target: 80, published: 8080, protocol: tcp, mode: host}
      - {target: 53, published: 5353, protocol: udp, mode: ingress}
    environment: ["A=1", "constraint:region==cn"]
    deploy:
      mode: replicated
      replicas: 4
      endpoint_mode: vip
      labels: {aliyun.routing.port_80: web, team: a}
      resources:
        limits: {cpus: "0.50", memory: 50M, pids: 10}
        reservations: {cpus: "0.25", memory: 20M}
      restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 120s}
      placement:
        constraints: ["node.labels.zone == a", "node.hostname != n3", "node.role == worker"]
        max_replicas_per_node: 1
      update_config: {parallelism: 2, delay: 10s, order: start-first}
  every: {image: agent, deploy: {mode: global}}
"#,
    );
    let web = &read.services["web"];
    assert_eq!(
        web.container,
        json!({
            "Image": "nginx",
            "Env": ["A=1", "affinity:service!=web", "constraint:node!=n3", "constraint:region==cn", "constraint:zone==a"],
            "Labels": {"aliyun.routing.port_80": "web", "team": "a"},
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "HostConfig": {
                "LogConfig": {"Type": "none", "Config": {}},
                "PortBindings": {
                    "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
                    "53/udp": [{"HostIp": "", "HostPort": "5353"}],
                },
                "NanoCpus": 500_000_000, "Memory": 52_428_800, "MemoryReservation": 20_971_520, "PidsLimit": 10,
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
            },
        })
    );
    assert_eq!(json!(web.definition["environment"]), json!(["A=1", "constraint:region==cn"]));
    assert_eq!(
        json!(web.extensions.shown()),
        json!({"scale": 4, "rolling_updates": {"parallelism": 2}, "routing": [{"port": 80, "domain": "web", "path": ""}]})
    );
    assert_eq!(json!(read.services["every"].extensions.shown()), json!({"global": true}));
    let notes = read.notes.join("\n");
    for part in
        ["endpoint_mode: a service's name", "reservations.cpus: has no", "restart_policy.delay", "order: has no effect"]
    {
        assert!(notes.contains(part), "{part} in {notes}");
    }
}

#[test]
fn every_key_of_a_service() {
    // (lines, pointer into the create body, what is there)
    let cases = [
        ("annotations: {a: b}", "/HostConfig", Value::Null),
        ("cap_add: [SYS_ADMIN]", "/HostConfig/CapAdd", json!(["SYS_ADMIN"])),
        ("cgroup: private", "/HostConfig/CgroupnsMode", json!("private")),
        ("cgroup_parent: m-executor", "/HostConfig/CgroupParent", json!("m-executor")),
        ("command: ''", "/Cmd", json!([])),
        ("command: []", "/Cmd", json!([])),
        ("command: ", "/Cmd", Value::Null),
        ("command: sh -c \"echo \\\"a b\\\" 'c d'\" e\\ f", "/Cmd", json!(["sh", "-c", "echo \"a b\" 'c d'", "e f"])),
        ("cpu_period: 50000\ncpu_quota: 25000", "/HostConfig/CpuPeriod", json!(50_000)),
        ("cpu_quota: '25000'", "/HostConfig/CpuQuota", json!(25_000)),
        ("cpu_rt_period: 1400us", "/HostConfig/CpuRealtimePeriod", json!(1400)),
        ("cpu_rt_runtime: 950000", "/HostConfig/CpuRealtimeRuntime", json!(950_000)),
        ("cpus: '.5'", "/HostConfig/NanoCpus", json!(500_000_000)),
        ("device_cgroup_rules: ['c 1:3 mr']", "/HostConfig/DeviceCgroupRules", json!(["c 1:3 mr"])),
        (
            "devices: [{source: /dev/a, target: /dev/b, permissions: rw}, '/dev/c:r']",
            "/HostConfig/Devices/0",
            json!({"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "rw"}),
        ),
        ("entrypoint: ''", "/Entrypoint", json!([""])),
        ("entrypoint: /run.sh --fast", "/Entrypoint", json!(["/run.sh", "--fast"])),
        ("environment: [A, 'B=', C=a=b]", "/Env", json!(["A", "B=", "C=a=b"])),
        (
            "environment: {A: , B: '', C: a=b, D: true, E: 1.10, F: 0644}",
            "/Env",
            json!(["A", "B=", "C=a=b", "D=true", "E=1.10", "F=0644"]),
        ),
        ("environment:", "/Env", Value::Null),
        (
            "expose: [80, '90/udp', 100-102]",
            "/ExposedPorts",
            json!({"80/tcp": {}, "90/udp": {}, "100/tcp": {}, "101/tcp": {}, "102/tcp": {}}),
        ),
        (
            "extra_hosts: {a: 10.0.0.1, b: [10.0.0.2, '::1'], c: host-gateway}",
            "/HostConfig/ExtraHosts",
            json!(["a:10.0.0.1", "b:10.0.0.2", "b:::1", "c:host-gateway"]),
        ),
        ("extra_hosts: ['a=10.0.0.1', 'b=[::1]']", "/HostConfig/ExtraHosts", json!(["a:10.0.0.1", "b:::1"])),
        ("gpus: all", "/HostConfig/DeviceRequests", json!([{"Count": -1, "Capabilities": [["gpu"]]}])),
        (
            "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], device_ids: ['0'], driver: nvidia}]}}}",
            "/HostConfig/DeviceRequests",
            json!([{"DeviceIDs": ["0"], "Capabilities": [["gpu"]], "Driver": "nvidia"}]),
        ),
        ("healthcheck: {disable: true}", "/Healthcheck", json!({"Test": ["NONE"]})),
        ("healthcheck: {test: [CMD, a, b]}", "/Healthcheck", json!({"Test": ["CMD", "a", "b"]})),
        ("ipc: shareable", "/HostConfig/IpcMode", json!("shareable")),
        ("ipc: container:x", "/HostConfig/IpcMode", json!("container:x")),
        ("isolation: default", "/HostConfig/Isolation", json!("default")),
        ("labels: [a=b=c, d]", "/Labels", json!({"a": "b=c", "d": ""})),
        ("labels: {a: 1, b: true, c: }", "/Labels", json!({"a": "1", "b": "true", "c": ""})),
        (
            "logging: {options: {max-size: 1m}}",
            "/HostConfig/LogConfig",
            json!({"Type": "", "Config": {"max-size": "1m"}}),
        ),
        ("mac_address: 02:42:ac:11:65:43", "/MacAddress", json!("02:42:ac:11:65:43")),
        ("mem_limit: 536870912\nmemswap_limit: -1", "/HostConfig/MemorySwap", json!(-1)),
        ("network_mode: host", "/HostConfig/NetworkMode", json!("host")),
        ("network_mode: none", "/HostConfig/NetworkMode", json!("none")),
        ("network_mode: bridge", "/HostConfig", Value::Null),
        ("network_mode: container:other_web_1", "/HostConfig/NetworkMode", json!("container:other_web_1")),
        ("oom_kill_disable: yes", "/HostConfig/OomKillDisable", json!(true)),
        ("pid: container:x", "/HostConfig/PidMode", json!("container:x")),
        ("pids_limit: -1", "/HostConfig/PidsLimit", json!(-1)),
        ("privileged: 'true'", "/HostConfig/Privileged", json!(true)),
        ("restart: no", "/HostConfig/RestartPolicy", json!({"Name": "no", "MaximumRetryCount": 0})),
        ("restart: always", "/HostConfig/RestartPolicy/Name", json!("always")),
        ("deploy: {restart_policy: {}}", "/HostConfig/RestartPolicy/Name", json!("always")),
        ("deploy: {restart_policy: {condition: none}}", "/HostConfig/RestartPolicy/Name", json!("no")),
        ("runtime: runc", "/HostConfig/Runtime", json!("runc")),
        (
            "security_opt: ['seccomp:unconfined', 'seccomp={}']",
            "/HostConfig/SecurityOpt",
            json!(["seccomp:unconfined", "seccomp={}"]),
        ),
        ("sysctls: [net.core.somaxconn=1]", "/HostConfig/Sysctls", json!({"net.core.somaxconn": "1"})),
        ("tmpfs: [/a, '/b:rw,size=1k']", "/HostConfig/Tmpfs", json!({"/a": "", "/b": "rw,size=1k"})),
        ("ulimits: {memlock: -1}", "/HostConfig/Ulimits", json!([{"Name": "memlock", "Soft": -1, "Hard": -1}])),
        ("userns_mode: host", "/HostConfig/UsernsMode", json!("host")),
        ("uts: host", "/HostConfig/UTSMode", json!("host")),
        ("x-anything: {goes: 1}", "/HostConfig", Value::Null),
    ];
    for (lines, pointer, expected) in cases {
        let service = web(lines);
        let found = service.container.pointer(pointer).cloned().unwrap_or(Value::Null);
        assert_eq!(found, expected, "{lines}");
    }
}

#[test]
fn ports_in_every_form() {
    let binding = |ip: &str, port: &str| json!({"HostIp": ip, "HostPort": port});
    let cases = [
        ("80", json!({"80/tcp": [binding("", "")]})),
        ("'80'", json!({"80/tcp": [binding("", "")]})),
        ("80:8080", json!({"8080/tcp": [binding("", "80")]})),
        ("'6060:6060/udp'", json!({"6060/udp": [binding("", "6060")]})),
        ("'127.0.0.1:8001:8002'", json!({"8002/tcp": [binding("127.0.0.1", "8001")]})),
        ("'127.0.0.1::80'", json!({"80/tcp": [binding("127.0.0.1", "")]})),
        ("'[::1]:80:81'", json!({"81/tcp": [binding("::1", "80")]})),
        ("':80'", json!({"80/tcp": [binding("", "")]})),
        ("3000-3001", json!({"3000/tcp": [binding("", "")], "3001/tcp": [binding("", "")]})),
        ("9090-9091:8080-8081", json!({"8080/tcp": [binding("", "9090")], "8081/tcp": [binding("", "9091")]})),
        ("'3000-3005:80'", json!({"80/tcp": [binding("", "3000-3005")]})),
        ("{target: 80}", json!({"80/tcp": [binding("", "")]})),
        (
            "{target: '80', published: '8000-8001', host_ip: 10.0.0.1}",
            json!({"80/tcp": [binding("10.0.0.1", "8000-8001")]}),
        ),
        ("{target: 80, published: 0, protocol: sctp}", json!({"80/sctp": [binding("", "")]})),
        ("'80:80', '81:80', '80:80'", json!({"80/tcp": [binding("", "80"), binding("", "81")]})),
    ];
    for (port, expected) in cases {
        let service = web(&format!("ports: [{port}]"));
        assert_eq!(service.container["HostConfig"]["PortBindings"], expected, "{port}");
    }
}
