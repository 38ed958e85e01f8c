//! What is refused, and in which words.

use super::{refusal, template, web_refusal};

/// Lines of the service `web`, and how the refusal begins.
const SERVICES: &[(&str, &str)] = &[
    ("build: .", "services.web.build: there are no files to build from here; build the image"),
    ("env_file: .env", "services.web.env_file: there are no files beside the template; write the variables"),
    ("label_file: a", "services.web.label_file: there are no files"),
    ("secrets: [a]", "services.web.secrets: there are no files"),
    ("configs: [a]", "services.web.configs: there are no files"),
    ("extends: {file: a.yml, service: b}", "services.web.extends.file: there are no files"),
    ("credential_spec: {file: a}", "services.web.credential_spec: is not supported here"),
    ("post_start: [{command: a}]", "services.web.post_start: is not supported here"),
    ("net: host", "services.web.net: is a key of the first format only; write `network_mode`"),
    ("log_driver: syslog", "services.web.log_driver: is a key of the first format only; write `logging: {driver: …}`"),
    ("imagee: a", "services.web.imagee: is not a key of a service"),
    ("Volumes: [/a]", "services.web.Volumes: is not a key of a service; is `volumes` meant?"),
    ("mem-limit: 1g", "services.web.mem-limit: is not a key of a service; is `mem_limit` meant?"),
    ("image: ''", "the template cannot be read as YAML: line 5: the key `image` stands twice"),
    ("command: {a: b}", "services.web.command: a list was expected, not a map"),
    ("command: [sleep, 10]", "services.web.command[1]: a string was expected, not a number; quote it"),
    ("command: echo 'a", "services.web.command: `echo 'a` cannot be split into words: a single quote is not closed"),
    ("command: echo \"a", "services.web.command: `echo \"a` cannot be split into words: a double quote is not closed"),
    ("command: echo \\", "services.web.command: `echo \\` cannot be split into words: nothing follows"),
    ("user: 1000", "services.web.user: a string was expected, not a number; quote it"),
    ("environment: [1]", "services.web.environment[0]: a string was expected, not a number"),
    ("environment: ['=a']", "services.web.environment[0]: `=a` has no name before `=`"),
    ("environment: {A: [1]}", "services.web.environment.A: a string, number or null was expected, not a list"),
    (
        "environment: ['constraint:node=a']",
        "services.web.environment[0]: `constraint:node=a` has neither `==` nor `!=`",
    ),
    ("environment: ['constraint:==a']", "services.web.environment[0]: `` in `constraint:==a` is not a name"),
    ("environment: ['affinity:service!=']", "services.web.environment[0]: `` in `affinity:service!=` is not a value"),
    ("environment: ['reschedule:always']", "services.web.environment[0]: `reschedule:always` is not a policy"),
    ("restart: sometimes", "services.web.restart: `sometimes` is none of no, always"),
    ("restart: always:3", "services.web.restart: `always:3` is none of"),
    ("restart: on-failure:x", "services.web.restart: `on-failure:x` is none of"),
    ("restart: false", "services.web.restart: a string was expected, not a boolean; quote it"),
    ("ports: ['0']", "services.web.ports[0]: `0` is not a port mapping"),
    ("ports: [80, '80:90000']", "services.web.ports[1]: `80:90000` is not a port mapping"),
    ("ports: [80000]", "services.web.ports[0]: 80000 is not from 1 to 65535"),
    ("ports: ['a:80']", "services.web.ports[0]: `a:80` is not a port mapping"),
    ("ports: ['10.0.0:80:80']", "services.web.ports[0]: `10.0.0` is not an IP address of a node"),
    ("ports: ['80/icmp']", "services.web.ports[0]: `icmp` is none of the protocols tcp, udp, sctp"),
    ("ports: ['80-82:90-91']", "services.web.ports[0]: 3 ports of the host cannot be mapped to 2 of the container"),
    ("ports: ['9-8:9-8']", "services.web.ports[0]: `9-8:9-8` is not a port mapping"),
    ("ports: ['1-65535']", "services.web.ports[0]: the service has more than 1024 ports"),
    ("ports: [{published: 80}]", "services.web.ports[0]: `target`, the container's port, is missing"),
    ("ports: [{target: 80, foo: 1}]", "services.web.ports[0].foo: is not known here; known are"),
    ("ports: [{target: 80, mode: x}]", "services.web.ports[0].mode: `x` is neither host nor ingress"),
    ("ports: 80", "services.web.ports: a list was expected, not a number"),
    ("ports: [[80]]", "services.web.ports[0]: a port was expected"),
    ("expose: ['80:80']", "services.web.expose[0]: `80:80` is not a port"),
    ("links: [nothing]", "services.web.links[0]: there is no service `nothing` in the template"),
    ("links: ['db:']", "services.web.links[0]: `db:` is not NAME or NAME:ALIAS"),
    ("depends_on: [nothing]", "services.web.depends_on[0]: there is no service `nothing`"),
    ("depends_on: {db: {condition: soon}}", "services.web.depends_on.db.condition: `soon` is none of"),
    ("depends_on: {nothing: {condition: service_started}}", "services.web.depends_on.nothing: there is no service"),
    ("volumes_from: [nothing]", "services.web.volumes_from[0]: there is no service `nothing`"),
    ("volumes_from: ['db:rx']", "services.web.volumes_from[0]: `db:rx` is not SERVICE[:ro|rw]"),
    ("volumes_from: [db, 'db:ro']", "services.web.volumes_from[1]: `db` stands here twice"),
    ("network_mode: service:nothing", "services.web.network_mode: there is no service `nothing`"),
    ("network_mode: service:web", "services.web.network_mode: a service cannot share what it has itself"),
    ("network_mode: mine", "services.web.network_mode: `mine` is none of bridge, host, none"),
    ("network_mode: host\nnetworks: [back]", "services.web: `network_mode` and `networks` exclude each other"),
    ("network_mode: service:db\nports: [80]", "services.web.ports: cannot be used with the network mode service:db"),
    (
        "network_mode: container:x\nhostname: a",
        "services.web.hostname: cannot be used with the network mode container:x",
    ),
    ("network_mode: host\nlinks: [db]", "services.web.links: cannot be used with the network mode host"),
    ("hostname: a\nuts: host", "services.web.hostname: cannot be used with `uts: host`"),
    ("hostname: 'a b'", "services.web.hostname: `a b` is not a host name"),
    ("networks: [front]", "services.web.networks: the network `front` is not declared"),
    ("networks: {back: {ipv4_address: 10.0.0}}", "services.web.networks.back.ipv4_address: `10.0.0` is not an IPv4"),
    (
        "networks: {back: {ipv4_address: 10.0.0.9}}\nscale: 2",
        "services.web.networks.back.ipv4_address: an address fits one",
    ),
    ("pid: service:nothing", "services.web.pid: there is no service"),
    ("pid: mine", "services.web.pid: `mine` is none of host"),
    ("ipc: mine", "services.web.ipc: `mine` is none of none"),
    ("volumes: [./a:/b]", "services.web.volumes[0]: `./a` is relative to a directory that is not here"),
    ("volumes: ['~/a:/b']", "services.web.volumes[0]: `~/a` is relative to a directory that is not here"),
    ("volumes: [other:/b]", "services.web.volumes: the volume `other` is not declared"),
    ("volumes: [data:b]", "services.web.volumes[0]: `b` is not an absolute path in the container"),
    ("volumes: ['data:/']", "services.web.volumes[0]: nothing can be mounted at the root"),
    ("volumes: [data:/b:rx]", "services.web.volumes[0]: `rx` is not a mode of a mount"),
    ("volumes: [data:/b:ro:z]", "services.web.volumes[0]: `data:/b:ro:z` has too many colons"),
    ("volumes: [/a:/b, data:/b/]", "services.web.volumes[1]: something is already mounted at /b"),
    ("volumes: [/a:/b]\ntmpfs: [/b]", "services.web.volumes[0]: something is already mounted at /b"),
    ("volumes: [{type: bind, target: /a}]", "services.web.volumes[0]: `source`, an absolute path"),
    ("volumes: [{type: bind, source: data, target: /a}]", "services.web.volumes[0]: `data` is not an absolute path"),
    ("volumes: [{type: npipe, source: a, target: /a}]", "services.web.volumes[0].type: `npipe` is none of"),
    ("volumes: [{type: volume, target: /a, tmpfs: {size: 1}}]", "services.web.volumes[0].tmpfs: these options belong"),
    ("volumes: [{source: data, target: /a}]", "services.web.volumes[0]: `type` is missing"),
    ("mem_limit: much", "services.web.mem_limit: `much` is not a number of bytes"),
    ("mem_limit: 1kb", "services.web.mem_limit: 1024 bytes are too few"),
    ("mem_limit: -1", "services.web.mem_limit: -1 is too small; at least 0"),
    ("memswap_limit: 1g", "services.web.memswap_limit: needs `mem_limit` beside it"),
    ("mem_limit: 1g\nmemswap_limit: 512m", "services.web.memswap_limit: is memory and swap together"),
    ("mem_limit: 1g\nmem_reservation: 2g", "services.web.mem_reservation: cannot be more"),
    (
        "mem_limit: 1g\ndeploy: {resources: {limits: {memory: 2g}}}",
        "services.web.deploy.resources.limits.memory: contradicts",
    ),
    ("restart: always\ndeploy: {restart_policy: {condition: none}}", "services.web.deploy.restart_policy: contradicts"),
    ("cpus: 1\ncpu_quota: 1000", "services.web.cpus: cannot be used with `cpu_quota`"),
    ("cpus: -1", "services.web.cpus: -1 is not a number from 0"),
    ("mem_swappiness: 101", "services.web.mem_swappiness: 101 is not from -1 to 100"),
    ("oom_score_adj: 5000", "services.web.oom_score_adj: 5000 is not from -1000 to 1000"),
    ("privileged: maybe", "services.web.privileged: `maybe` is neither true nor false"),
    ("tty: 1", "services.web.tty: true or false was expected, not a number"),
    ("stop_grace_period: 10", "services.web.stop_grace_period: `10` is not a duration"),
    ("stop_grace_period: 2d", "services.web.stop_grace_period: a container gets at most 24h"),
    ("ulimits: {nofile: {soft: 2, hard: 1}}", "services.web.ulimits.nofile: the soft limit 2 is above"),
    ("ulimits: {nofile: {soft: 2}}", "services.web.ulimits.nofile: `hard` is missing"),
    ("ulimits: {No: 1}", "services.web.ulimits.No: `No` is not a limit"),
    ("devices: [fuse]", "services.web.devices[0]: `fuse` is not a device's path"),
    ("devices: ['/dev/a:/dev/b:x']", "services.web.devices[0]: `x` are no permissions"),
    ("dns: nowhere", "services.web.dns: `nowhere` is not an IP address"),
    ("dns_search: [a, a]", "services.web.dns_search[1]: `a` stands here twice"),
    ("extra_hosts: ['a:b']", "services.web.extra_hosts[0]: `a:b` is not NAME:IP"),
    ("security_opt: ['seccomp:./profile.json']", "services.web.security_opt: `seccomp:./profile.json` names a file"),
    ("sysctls: [a]", "services.web.sysctls: `a` has no value"),
    ("healthcheck: {test: [curl]}", "services.web.healthcheck.test: a list begins with NONE, CMD"),
    ("healthcheck: {test: a, disable: true}", "services.web.healthcheck.disable: `disable: true` and `test`"),
    ("healthcheck: {interval: 1us}", "services.web.healthcheck.interval: less than 1ms"),
    ("healthcheck: {intervall: 1s}", "services.web.healthcheck.intervall: is not known here"),
    ("isolation: hyperv", "services.web.isolation: `hyperv` is not known here"),
    ("blkio_config: {weight: 5}", "services.web.blkio_config.weight: 5 is not from 10 to 1000"),
    ("blkio_config: {device_read_bps: [{rate: 1}]}", "services.web.blkio_config.device_read_bps[0]: `path` is missing"),
    ("container_name: a b", "services.web.container_name: `a b` is not a name for a container"),
    ("container_name: a\nscale: 2", "services.web.container_name: a name fits one container"),
    ("container_name: a\nlabels: {aliyun.global: 'true'}", "services.web.container_name: a name fits one container"),
    ("scale: 1001", "services.web.scale: 1001 is not from 0 to 1000"),
    ("scale: 2\ndeploy: {replicas: 3}", "services.web.scale: 2 contradicts services.web.deploy.replicas, which is 3"),
    ("deploy: {mode: replicated-job}", "services.web.deploy.mode: `replicated-job` is neither replicated nor global"),
    (
        "deploy: {placement: {constraints: ['node.role == manager']}}",
        "services.web.deploy.placement.constraints[0]: the manager",
    ),
    (
        "deploy: {placement: {constraints: ['node.color == red']}}",
        "services.web.deploy.placement.constraints[0]: `node.color`",
    ),
    ("deploy: {placement: {constraints: [node]}}", "services.web.deploy.placement.constraints[0]: `node` has neither"),
    ("pull_policy: build", "services.web.pull_policy: there are no files to build from"),
    ("pull_policy: mabye", "services.web.pull_policy: `mabye` is none of"),
    ("gpus: [{count: 1, device_ids: ['0']}]", "services.web.gpus[0].count: `count` and `device_ids` exclude"),
];

#[test]
fn services_that_are_refused() {
    for (lines, beginning) in SERVICES {
        let refusal = web_refusal(lines);
        assert!(refusal.starts_with(*beginning), "{lines}\nrefused with {refusal}\ninstead of   {beginning}");
    }
}

/// Templates, and how the refusal begins.
const TEMPLATES: &[(&str, &str)] = &[
    ("", "the template is not a map with services"),
    ("- a", "the template is not a map with services"),
    ("{}", "there is no service"),
    ("web:", "web: a map with the service's keys was expected; without `services:`"),
    ("web: {command: a}", "web: `image` is missing"),
    ("web: {image: 'a b'}", "web.image: `a b` is not the name of an image"),
    ("web: {image: }", "web: `image` is missing"),
    ("web: {image: [a]}", "web.image: a string was expected, not a list"),
    ("web: {image: a, depends_on: [b]}", "web.depends_on: is not a key of the first format"),
    ("web: {image: a, net: 'container:web'}", "web.net: a service cannot share"),
    (
        "web: {image: a, volumes: [{type: bind, source: /a, target: /b}]}",
        "web.volumes[0]: the first format has no maps here",
    ),
    ("'a b': {image: a}", "`a b` is not a name for a service"),
    ("-a: {image: a}", "`-a` is not a name for a service"),
    ("version: 2\nservices: {web: {image: a}}", "version: the version is a string; write for example version: '2'"),
    ("version: '4'\nservices: {web: {image: a}}", "version: `4` is not known"),
    ("version: '2.9'\nservices: {web: {image: a}}", "version: `2.9` is not known"),
    ("version: '1'\nservices: {web: {image: a}}", "version: `1` is not known; 2 to 2.4 and 3 to 3.9 are; in the first"),
    ("version: '2'\nservices: [a]", "services: a map from names to services was expected"),
    ("version: '2'", "services: there is no service"),
    ("version: '2'\nweb: {image: a}", "web: is not known at the top level"),
    ("services: {web: {image: a}}\nfoo: 1", "foo: is not known at the top level"),
    ("services: {web: {image: a}}\ninclude: [a]", "include: there are no files beside the template"),
    ("services: {web: {image: a}}\nvolumes: [a]", "volumes: a map was expected, not a list"),
    ("services: {web: {image: a}}\nvolumes: {a: {foo: 1}}", "volumes.a.foo: is not known here"),
    ("services: {web: {image: a}}\nvolumes: {'a/b': }", "volumes.a/b: `a/b` is not a name"),
    (
        "services: {web: {image: a}}\nvolumes: {a: {external: true, driver: x}}",
        "volumes.a.driver: has no meaning for what is external",
    ),
    (
        "services: {web: {image: a}}\nnetworks: {a: {external: {name: x}, name: y}}",
        "networks.a.external: its name stands in two places",
    ),
    (
        "services: {web: {image: a}}\nnetworks: {a: {ipam: {config: [{subnet: 10.0.0}]}}}",
        "networks.a.ipam.config[0].subnet: `10.0.0` is not a range",
    ),
    ("services: {web: {image: a, profiles: [x]}}", "services: every service has a profile"),
    (
        "services: {a: {image: a, profiles: [x]}, b: {image: b, links: [a]}}",
        "services.b.links[0]: the service `a` is left out",
    ),
];

#[test]
fn templates_that_are_refused() {
    for (text, beginning) in TEMPLATES {
        let refusal = refusal(text);
        assert!(refusal.starts_with(*beginning), "{text}\nrefused with {refusal}\ninstead of   {beginning}");
    }
}

#[test]
fn a_service_may_be_called_version() {
    assert!(template("version: {image: a}\nweb: {image: b}").services.contains_key("version"));
}

#[test]
fn what_has_no_effect_is_said_once() {
    let notes = template(
        "name: x\nservices: {a: {image: a, platform: linux/amd64, environment: {A: $X, B: $X}}}\nconfigs: {c: {file: f}}\nnetworks: {n: }",
    )
    .notes;
    assert_eq!(
        notes,
        [
            "configs: has no effect: there are no files beside the template",
            "name: has no effect: the application has the name that its request gives it",
            "the variable X is not set; it counts as empty",
            "services.a.platform: has no effect here",
            "networks.n: no service uses it; it is not made",
        ]
    );
}
