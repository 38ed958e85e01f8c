//! The images that nodes pull: an OCI image layout in the data directory, changed under a lock, read without one.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// Marks what came with a bundle: the next bundle replaces it, and only it.
const BUNDLED: &str = "io.sampan.bundled";
const CONTAINERD_NAME: &str = "io.containerd.image.name";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image in the store.
pub(crate) struct Image {
    pub(crate) reference: String,
    pub(crate) digest: String,
}

/// An OCI image layout.
pub(crate) struct ImageStore {
    root: PathBuf,
}

/// A file of an archive, written to the store's temporary folder.
struct Staged {
    path: PathBuf,
    digest: String,
    size: u64,
    gzip: bool,
}

/// Files of an archive by their path in it, and links between them.
#[derive(Default)]
struct Archive {
    files: HashMap<String, Staged>,
    links: HashMap<String, String>,
}

impl ImageStore {
    /// Opens the layout in `root`, making an empty one.
    pub(crate) fn open(root: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(root.join("blobs/sha256")).with_context(|| format!("cannot make {}", root.display()))?;
        let store = Self { root: root.to_path_buf() };
        if !root.join("index.json").exists() {
            let _lock = store.lock()?;
            store.replace("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
            store.replace("index.json", &json!({ "schemaVersion": 2, "manifests": [] }))?;
        }
        Ok(store)
    }

    /// The images, by name.
    pub(crate) fn list(&self) -> anyhow::Result<Vec<Image>> {
        let mut images: Vec<Image> = self
            .manifests()?
            .iter()
            .filter_map(|entry| {
                let reference = entry["annotations"][REFERENCE].as_str()?.to_owned();
                Some(Image { reference, digest: entry["digest"].as_str()?.to_owned() })
            })
            .collect();
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// Removes the name; blobs that no other image needs go too.
    pub(crate) fn remove(&self, reference: &str) -> anyhow::Result<()> {
        let _lock = self.lock()?;
        let reference = canonical(reference);
        let mut manifests = self.manifests()?;
        let before = manifests.len();
        manifests.retain(|entry| entry["annotations"][REFERENCE] != reference.as_str());
        if manifests.len() == before {
            bail!("there is no image {reference}; `sampan image list` shows those that exist");
        }
        self.write_manifests(manifests)?;
        self.collect_garbage()
    }

    /// Takes over every image of another layout (the bundle's), by hard links where possible.
    pub(crate) fn take_over(&self, other: &Path) -> anyhow::Result<()> {
        let _lock = self.lock()?;
        let source = Self { root: other.to_path_buf() };
        let blobs = other.join("blobs/sha256");
        for entry in fs::read_dir(&blobs).with_context(|| format!("cannot read {}", blobs.display()))? {
            let entry = entry?;
            let target = self.root.join("blobs/sha256").join(entry.file_name());
            if target.exists() {
                continue;
            }
            if fs::hard_link(entry.path(), &target).is_err() {
                let temporary = self.root.join("blobs").join(entry.file_name());
                fs::copy(entry.path(), &temporary)
                    .and_then(|_| fs::rename(&temporary, &target))
                    .with_context(|| format!("cannot copy {} to {}", entry.path().display(), target.display()))?;
            }
        }
        let present = self.manifests()?;
        let mut wanted = source.manifests()?;
        // A name that a user loaded an image under stays the user's.
        wanted.retain(|entry| {
            let same = |other: &&Value| other["annotations"][REFERENCE] == entry["annotations"][REFERENCE];
            present.iter().find(same).is_none_or(|other| other["annotations"][BUNDLED] == "true")
        });
        for entry in &mut wanted {
            entry["annotations"][BUNDLED] = "true".into();
        }
        self.add(wanted)
    }

    /// Loads an archive made by `docker save` or holding an OCI layout; returns the names of its images.
    pub(crate) fn load(&self, archive: impl Read) -> anyhow::Result<Vec<String>> {
        let _lock = self.lock()?;
        let staging = self.root.join(".loading");
        let _ = fs::remove_dir_all(&staging);
        fs::create_dir_all(&staging).with_context(|| format!("cannot make {}", staging.display()))?;
        let loaded = unpack(archive, &staging).and_then(|archive| self.install(&archive));
        let _ = fs::remove_dir_all(&staging);
        loaded
    }

    fn install(&self, archive: &Archive) -> anyhow::Result<Vec<String>> {
        let entries = if archive.files.contains_key("index.json") {
            self.install_oci(archive)?
        } else if archive.files.contains_key("manifest.json") {
            self.install_docker(archive)?
        } else {
            bail!("the archive has neither index.json nor manifest.json: make it with `docker save`");
        };
        let names: Vec<String> =
            entries.iter().filter_map(|entry| entry["annotations"][REFERENCE].as_str().map(str::to_owned)).collect();
        if names.is_empty() {
            bail!("no image in the archive has a name: tag it before `docker save`");
        }
        self.add(entries)?;
        Ok(names)
    }

    fn install_oci(&self, archive: &Archive) -> anyhow::Result<Vec<Value>> {
        let index = archive.json("index.json")?;
        for path in archive.files.keys().filter(|path| path.starts_with("blobs/sha256/")) {
            let staged = archive.get(path)?;
            if !path.ends_with(&staged.digest) {
                bail!("{path} does not have the digest in its name: the archive is damaged");
            }
            self.keep(staged)?;
        }
        let mut entries = Vec::new();
        for mut entry in index["manifests"].as_array().cloned().unwrap_or_default() {
            let annotation = |name: &str| entry["annotations"][name].as_str().map(str::to_owned);
            let Some(name) = annotation(CONTAINERD_NAME).or_else(|| annotation(REFERENCE)) else { continue };
            entry["annotations"] = json!({ REFERENCE: canonical(&name) });
            entries.push(entry);
        }
        Ok(entries)
    }

    fn install_docker(&self, archive: &Archive) -> anyhow::Result<Vec<Value>> {
        let images = archive.json("manifest.json")?;
        let mut entries = Vec::new();
        for image in images.as_array().context("manifest.json is not a list")? {
            let config = archive.get(image["Config"].as_str().context("manifest.json names no Config")?)?;
            let mut layers = Vec::new();
            for path in image["Layers"].as_array().context("manifest.json names no Layers")? {
                let layer = archive.get(path.as_str().context("a layer's path is not text")?)?;
                let media_type = if layer.gzip { LAYER_GZIP_TYPE } else { LAYER_TYPE };
                layers.push(descriptor(media_type, layer));
                self.keep(layer)?;
            }
            self.keep(config)?;
            let manifest = json!({
                "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": descriptor(CONFIG_TYPE, config), "layers": layers,
            });
            let bytes = serde_json::to_vec(&manifest)?;
            let digest = hex(&Sha256::digest(&bytes));
            write_atomically(&self.root.join("blobs/sha256").join(&digest), &bytes)?;
            for tag in image["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                entries.push(json!({
                    "mediaType": MANIFEST_TYPE, "digest": format!("sha256:{digest}"), "size": bytes.len(),
                    "annotations": { REFERENCE: canonical(tag) },
                }));
            }
        }
        Ok(entries)
    }

    fn keep(&self, staged: &Staged) -> anyhow::Result<()> {
        let target = self.root.join("blobs/sha256").join(&staged.digest);
        if !target.exists() {
            fs::hard_link(&staged.path, &target).with_context(|| format!("cannot write {}", target.display()))?;
        }
        Ok(())
    }

    /// Adds entries to the index; an entry of the same name is replaced.
    fn add(&self, entries: Vec<Value>) -> anyhow::Result<()> {
        let mut manifests = self.manifests()?;
        let before = manifests.clone();
        for entry in entries {
            let name = entry["annotations"][REFERENCE].clone();
            manifests.retain(|other| other["annotations"][REFERENCE] != name);
            manifests.push(entry);
        }
        if manifests == before { Ok(()) } else { self.write_manifests(manifests) }
    }

    fn collect_garbage(&self) -> anyhow::Result<()> {
        let mut wanted = std::collections::HashSet::new();
        let mut stack: Vec<String> =
            self.manifests()?.iter().filter_map(|entry| entry["digest"].as_str().map(str::to_owned)).collect();
        while let Some(digest) = stack.pop() {
            let name = digest.trim_start_matches("sha256:").to_owned();
            let path = self.root.join("blobs/sha256").join(&name);
            if !wanted.insert(name) {
                continue;
            }
            // Only small blobs can be manifests or indexes.
            if fs::metadata(&path).is_ok_and(|metadata| metadata.len() < 4 << 20)
                && let Ok(document) = serde_json::from_slice::<Value>(&fs::read(&path)?)
            {
                let lists = ["manifests", "layers"].iter().flat_map(|list| document[*list].as_array()).flatten();
                let parts = lists.chain([&document["config"]]);
                stack.extend(parts.filter_map(|part| part["digest"].as_str().map(str::to_owned)));
            }
        }
        for entry in fs::read_dir(self.root.join("blobs/sha256"))? {
            let entry = entry?;
            if !wanted.contains(&entry.file_name().to_string_lossy().into_owned()) {
                fs::remove_file(entry.path()).with_context(|| format!("cannot remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }

    fn manifests(&self) -> anyhow::Result<Vec<Value>> {
        let path = self.root.join("index.json");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let index: Value = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(index["manifests"].as_array().cloned().unwrap_or_default())
    }

    fn write_manifests(&self, manifests: Vec<Value>) -> anyhow::Result<()> {
        self.replace("index.json", &json!({ "schemaVersion": 2, "manifests": manifests }))
    }

    fn replace(&self, name: &str, value: &Value) -> anyhow::Result<()> {
        write_atomically(&self.root.join(name), &serde_json::to_vec(value)?)
    }

    fn lock(&self) -> anyhow::Result<File> {
        let path = self.root.join(".lock");
        let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }
}

impl Archive {
    fn get(&self, path: &str) -> anyhow::Result<&Staged> {
        let mut path = path;
        // Chains of links are short; a loop is damage.
        for _ in 0..8 {
            if let Some(staged) = self.files.get(path) {
                return Ok(staged);
            }
            match self.links.get(path) {
                Some(target) => path = target,
                None => break,
            }
        }
        bail!("the archive lacks {path}")
    }

    fn json(&self, path: &str) -> anyhow::Result<Value> {
        let staged = self.get(path)?;
        serde_json::from_slice(&fs::read(&staged.path)?).with_context(|| format!("{path} in the archive is not JSON"))
    }
}

fn unpack(archive: impl Read, staging: &Path) -> anyhow::Result<Archive> {
    let mut unpacked = Archive::default();
    let mut tar = tar::Archive::new(archive);
    for (number, entry) in tar.entries().context("the archive cannot be read")?.enumerate() {
        let mut entry = entry.context("the archive is damaged")?;
        let path = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        let kind = entry.header().entry_type();
        if kind.is_symlink() || kind.is_hard_link() {
            let target = entry.link_name()?.context("a link without a target")?;
            unpacked.links.insert(path.clone(), resolve_link(&path, &target.to_string_lossy(), kind.is_symlink()));
        } else if kind.is_file() {
            let staged =
                stage(&mut entry, staging.join(number.to_string())).with_context(|| format!("cannot unpack {path}"))?;
            unpacked.files.insert(path, staged);
        }
    }
    Ok(unpacked)
}

/// The path a link points at; symbolic links are relative to their own folder.
fn resolve_link(path: &str, target: &str, symbolic: bool) -> String {
    let folder = if symbolic { path.rsplit_once('/').map_or("", |(folder, _)| folder) } else { "" };
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn stage(reader: &mut impl Read, path: PathBuf) -> anyhow::Result<Staged> {
    let mut file = File::create(&path)?;
    let mut hasher = Sha256::new();
    let (mut size, mut magic) = (0u64, [0u8; 2]);
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        if size == 0 && count >= 2 {
            magic = [buffer[0], buffer[1]];
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count])?;
        size += count as u64;
    }
    file.sync_all()?;
    Ok(Staged { path, digest: hex(&hasher.finalize()), size, gzip: magic == [0x1f, 0x8b] })
}

fn descriptor(media_type: &str, staged: &Staged) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", staged.digest), "size": staged.size })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_atomically(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary).with_context(|| format!("cannot write {}", temporary.display()))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path).with_context(|| format!("cannot write {}", path.display()))
}

/// The full name of an image: `nginx` is `docker.io/library/nginx:latest`.
pub(crate) fn canonical(name: &str) -> String {
    let (registry, rest) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
        Some(_) => ("docker.io", name.to_owned()),
        None => ("docker.io", format!("library/{name}")),
    };
    let last = rest.rsplit('/').next().unwrap_or_default();
    if last.contains(':') || last.contains('@') {
        format!("{registry}/{rest}")
    } else {
        format!("{registry}/{rest}:latest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_canonical() {
        for (given, wanted) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:alpine", "docker.io/library/nginx:alpine"),
            ("team/app", "docker.io/team/app:latest"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
            ("localhost/a", "localhost/a:latest"),
        ] {
            assert_eq!(canonical(given), wanted);
        }
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, path, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn a_bundle_replaces_its_own_images_and_no_others() {
        let root = std::env::temp_dir().join(format!("sampan-bundle-images-{}", std::process::id()));
        let (mine, bundle) =
            (ImageStore::open(&root.join("mine")).unwrap(), ImageStore::open(&root.join("b")).unwrap());
        let manifest = br#"[{"Config":"c.json","RepoTags":["app:1"],"Layers":["l"]}]"#;
        let image = |layer: &[u8]| archive(&[("c.json", b"{}"), ("l", layer), ("manifest.json", manifest)]);
        let digest = |store: &ImageStore| store.list().unwrap()[0].digest.clone();
        bundle.load(image(b"first").as_slice()).unwrap();
        mine.take_over(&root.join("b")).unwrap();
        assert_eq!(digest(&mine), digest(&bundle));
        bundle.load(image(b"second").as_slice()).unwrap();
        mine.take_over(&root.join("b")).unwrap();
        assert_eq!(digest(&mine), digest(&bundle), "a newer bundle replaces what an older one brought");
        mine.load(image(b"user").as_slice()).unwrap();
        let users = digest(&mine);
        mine.take_over(&root.join("b")).unwrap();
        assert_eq!(digest(&mine), users, "a user's image stays");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_docker_archive_is_loaded_listed_and_removed() {
        let root = std::env::temp_dir().join(format!("sampan-images-{}", std::process::id()));
        let store = ImageStore::open(&root).unwrap();
        let manifest = br#"[{"Config":"c.json","RepoTags":["app:1"],"Layers":["l/layer.tar"]}]"#;
        let bytes = archive(&[("c.json", b"{}"), ("l/layer.tar", b"layer"), ("manifest.json", manifest)]);
        assert_eq!(store.load(bytes.as_slice()).unwrap(), ["docker.io/library/app:1"]);
        assert_eq!(store.list().unwrap().len(), 1);
        assert!(!root.join(".loading").exists());
        store.remove("app:1").unwrap();
        assert_eq!(fs::read_dir(root.join("blobs/sha256")).unwrap().count(), 0);
        assert!(store.load(&b"not a tar"[..]).is_err());
        fs::remove_dir_all(root).unwrap();
    }
}
