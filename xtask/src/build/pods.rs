//! The images that pods run from.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::cache::{Artifact, Key};
use super::config::{Config, Debian};
use super::go::{self, Executables};
use super::layer::{self, Layer, LayerTree};
use super::oci::Image;
use super::rootfs;
use crate::process;

/// In the environment of every image.
pub(crate) const SEARCH_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Label of images that are the same but for the release that they stand for.
pub(super) const STANDS_FOR: &str = "io.sampan.stands-for";

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nginx:x:101:101:nginx:/nonexistent:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
";
const GROUP: &str = "\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
tty:x:5:
www-data:x:33:
users:x:100:
nginx:x:101:
nogroup:x:65534:
";

/// Layers that come from Debian, not from Go.
pub(crate) struct DebianLayers {
    pub(super) base: Layer,
    nginx: Layer,
    pub(super) agnhost_tools: Layer,
}

/// Makes the Debian layers.
///
/// # Errors
/// When packages cannot be unpacked or the cache not be written.
pub(crate) fn debian_layers(debian: &Debian) -> Result<DebianLayers> {
    let base = rootfs::unpacked("pod-base", debian, &debian.pod_base_packages)?;
    let nginx = rootfs::unpacked("nginx", debian, &debian.pod_nginx_packages)?;
    let tools = rootfs::unpacked("agnhost", debian, &debian.pod_agnhost_packages)?;
    Ok(DebianLayers {
        base: base_layer(&base)?,
        nginx: nginx_layer(&base, &nginx)?,
        agnhost_tools: agnhost_tools_layer(&base, &tools)?,
    })
}

/// All pod images of the bundle.
///
/// # Errors
/// When the cache cannot be written.
pub(crate) fn images(config: &Config, debian: &DebianLayers, go: &Executables) -> Result<Vec<Image>> {
    let names = &config.images;
    let coredns = single("coredns", &go.coredns)?;
    let mut images = vec![
        Image {
            names: vec![names.pause.clone()],
            layers: vec![single("pause", &go.pause)?],
            config: json!({ "User": "65535:65535", "Env": [SEARCH_PATH], "Entrypoint": ["/pause"], "WorkingDir": "/" }),
        },
        Image {
            names: vec![names.coredns.clone()],
            layers: vec![coredns],
            config: json!({
                "User": "65532:65532", "Env": [SEARCH_PATH], "Entrypoint": ["/coredns"], "WorkingDir": "/",
                "ExposedPorts": { "53/tcp": {}, "53/udp": {} },
            }),
        },
        Image {
            names: vec![names.metrics_server.clone()],
            layers: vec![single("metrics-server", &go.metrics_server)?],
            config: json!({
                "User": "65534", "Env": [SEARCH_PATH], "Entrypoint": ["/metrics-server"], "WorkingDir": "/",
            }),
        },
        agnhost(config, &names.agnhost, debian, go)?,
        Image {
            names: names.busybox.clone(),
            layers: vec![debian.base.clone()],
            config: json!({ "Env": [SEARCH_PATH], "Cmd": ["sh"], "WorkingDir": "/" }),
        },
    ];
    images.extend(names.nginx.iter().map(|name| nginx(name, debian)));
    Ok(images)
}

/// The image of upstream's helper for tests.
///
/// # Errors
/// When the cache cannot be written or Kubernetes' sources not be had.
pub(super) fn agnhost(config: &Config, name: &str, debian: &DebianLayers, go: &Executables) -> Result<Image> {
    Ok(Image {
        names: vec![name.to_owned()],
        // Upstream's image carries CoreDNS too, for tests of DNS.
        layers: vec![
            debian.base.clone(),
            debian.agnhost_tools.clone(),
            single("coredns", &go.coredns)?,
            agnhost_layer(config, go)?,
        ],
        config: json!({
            "Env": [SEARCH_PATH], "Entrypoint": ["/agnhost"], "Cmd": ["pause"], "WorkingDir": "/",
            "ExposedPorts": { "80/tcp": {}, "5000/tcp": {}, "8080/tcp": {}, "8081/tcp": {}, "9376/tcp": {} },
        }),
    })
}

/// The executable, and the certificate that its TLS servers use unless they are told another.
fn agnhost_layer(config: &Config, go: &Executables) -> Result<Layer> {
    let kubernetes = config.default_kubernetes();
    let key = Key::new("agnhost 2").with(&go.agnhost.key).with(&kubernetes.version);
    layer::layer("agnhost", key, |tree| {
        tree.dir("tmp", 0o1777)?;
        tree.executable("agnhost", &go.agnhost.path)?;
        let sources = go::module_dir(kubernetes)?;
        for file in ["localhost.crt", "localhost.key"] {
            let path = Path::new(&sources).join("test/images/agnhost/porter").join(file);
            let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            tree.file(file, 0o644, content)?;
        }
        Ok(())
    })
}

/// nginx under one name.
pub(super) fn nginx(name: &str, debian: &DebianLayers) -> Image {
    Image {
        names: vec![name.to_owned()],
        layers: vec![debian.base.clone(), debian.nginx.clone()],
        config: nginx_config(name),
    }
}

/// The label makes each name an image of its own, as different releases are.
fn nginx_config(name: &str) -> Value {
    json!({
        "Env": [SEARCH_PATH],
        "Cmd": ["nginx", "-g", "daemon off;"],
        "WorkingDir": "/",
        "ExposedPorts": { "80/tcp": {} },
        "StopSignal": "SIGQUIT",
        "Labels": { STANDS_FOR: name },
    })
}

/// A layer with one static executable at the root, and a /tmp.
pub(super) fn single(name: &str, executable: &Artifact) -> Result<Layer> {
    layer::layer(name, Key::new("single 1").with(name).with(&executable.key), |tree| {
        tree.dir("tmp", 0o1777)?;
        tree.executable(name, &executable.path)
    })
}

fn base_layer(packages: &Artifact) -> Result<Layer> {
    const WGET: &str = include_str!("pods/wget.sh");
    let key = Key::new("pod base 2").with(&packages.key).with(WGET).with(PASSWD).with(GROUP);
    layer::layer("pod-base", key, |tree| {
        let there = layer::listing(&packages.path)?;
        for applet in busybox_applets(packages)? {
            let path = format!("bin/{applet}");
            // A shell that prefers its own applets would never reach the wget above.
            if !matches!(applet.as_str(), "sh" | "wget") && !there.contains_key(Path::new(&path)) {
                tree.symlink(&path, "busybox")?;
            }
        }
        tree.file("bin/wget", 0o755, WGET)?;
        if !there.contains_key(Path::new("bin/sh")) {
            tree.symlink("bin/sh", "dash")?;
        }
        for (path, mode) in [("home", 0o755), ("root", 0o700), ("run", 0o755), ("tmp", 0o1777), ("var/tmp", 0o1777)] {
            tree.dir(path, mode)?;
        }
        tree.file("etc/passwd", 0o644, PASSWD)?;
        tree.file("etc/group", 0o644, GROUP)?;
        tree.file("etc/nsswitch.conf", 0o644, "hosts: files dns\n")?;
        layer::copy_packages(tree, &packages.path, &layer::Below::new())
    })
}

/// Asks the unpacked executable: it is static and of the host's architecture.
fn busybox_applets(packages: &Artifact) -> Result<Vec<String>> {
    let executable = packages.path.with_extension(format!("busybox.{}", std::process::id()));
    let listed = layer::extract(&packages.path, Path::new("bin/busybox"), &executable)
        .and_then(|()| {
            fs::set_permissions(&executable, PermissionsExt::from_mode(0o755))
                .with_context(|| format!("cannot make {} executable", executable.display()))
        })
        .and_then(|()| process::output(Command::new(&executable).arg0("busybox").arg("--list")));
    let _ = fs::remove_file(&executable);
    Ok(listed?.lines().filter(|applet| *applet != "busybox").map(str::to_owned).collect())
}

fn nginx_layer(base: &Artifact, packages: &Artifact) -> Result<Layer> {
    const MAIN: &str = include_str!("pods/nginx.conf");
    const SITE: &str = include_str!("pods/nginx-default.conf");
    const FAILED: &str = include_str!("pods/nginx-50x.html");
    let key = Key::new("nginx 2").with(&base.key).with(&packages.key).with(MAIN).with(SITE).with(FAILED);
    layer::layer("nginx", key, |tree| {
        tree.file("etc/nginx/nginx.conf", 0o644, MAIN)?;
        tree.dir("etc/nginx/conf.d", 0o755)?;
        tree.file("etc/nginx/conf.d/default.conf", 0o644, SITE)?;
        tree.file("usr/share/nginx/html/50x.html", 0o644, FAILED)?;
        for dir in ["var/lib/nginx", "var/log/nginx", "var/cache/nginx"] {
            tree.dir(dir, 0o755)?;
        }
        tree.symlink("var/log/nginx/access.log", "/dev/stdout")?;
        tree.symlink("var/log/nginx/error.log", "/dev/stderr")?;
        layer::copy_packages(tree, &packages.path, &layer::listing(&base.path)?)
    })
}

fn agnhost_tools_layer(base: &Artifact, packages: &Artifact) -> Result<Layer> {
    // Upstream's tests of supplemental groups look for this user and group.
    let passwd = format!("{PASSWD}user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n");
    let group = format!("{GROUP}user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n");
    let key = Key::new("agnhost tools 2").with(&base.key).with(&packages.key).with(&passwd).with(&group);
    layer::layer("agnhost-tools", key, |tree: &mut LayerTree| {
        tree.dir("uploads", 0o755)?;
        // Debian picks one of several implementations when it configures the package.
        tree.symlink("bin/nc", "nc.openbsd")?;
        tree.symlink("usr/local/bin/iperf", "/usr/bin/iperf")?;
        tree.symlink("agnhost-2", "agnhost")?;
        tree.file("etc/passwd", 0o644, &passwd)?;
        tree.file("etc/group", 0o644, &group)?;
        layer::copy_packages(tree, &packages.path, &layer::listing(&base.path)?)
    })
}
