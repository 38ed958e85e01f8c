//! An OCI image layout on disk: names to digests, digests to files.

use std::{
    collections::HashMap,
    fmt, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Deserialize;

const INDEX_FILE: &str = "index.json";
const INDEX_BYTES_MAX: u64 = 16 * 1024 * 1024;
const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Tried when a client does not say which registry it means.
const REGISTRIES: [&str; 2] = ["docker.io", "registry.k8s.io"];

/// A digest in canonical form; safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest {
    /// SHA-256, 64 lower-case hexadecimal digits.
    hex: String,
}

/// Not `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Debug)]
pub(crate) struct BadDigest;

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let hex = text.strip_prefix("sha256:").ok_or(BadDigest)?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
        if hex.len() == 64 && hex.bytes().all(is_hex) { Ok(Self { hex: hex.to_owned() }) } else { Err(BadDigest) }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex)
    }
}

/// What is known about a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Media type to answer with.
    pub(crate) media_type: String,
}

/// The layout in one directory.
#[derive(Debug)]
pub(crate) struct Layout {
    directory: PathBuf,
    index: Mutex<Arc<Index>>,
}

/// `index.json`, as it was when the file had this identity.
#[derive(Debug, Default)]
struct Index {
    identity: Option<Identity>,
    by_reference: HashMap<String, Digest>,
    media_types: HashMap<Digest, String>,
}

/// Inode, size and modification time: enough to notice a replaced file.
type Identity = (u64, u64, i64, i64);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexFile {
    #[serde(default)]
    manifests: Vec<IndexEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: HashMap<String, String>,
}

impl Layout {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, index: Mutex::default() }
    }

    /// The digest that a tag of a name stands for. `registry` is the registry's host name.
    pub(crate) async fn resolve(
        self: &Arc<Self>,
        registry: Option<&str>,
        name: &str,
        tag: &str,
    ) -> io::Result<Option<Digest>> {
        let index = self.index().await?;
        let find = |reference: String| index.by_reference.get(&reference).cloned();
        if let Some(registry) = registry {
            return Ok(find(format!("{registry}/{name}:{tag}")));
        }
        let plain = find(format!("{name}:{tag}"));
        Ok(plain.or_else(|| REGISTRIES.iter().find_map(|registry| find(format!("{registry}/{name}:{tag}")))))
    }

    /// A manifest by its digest; `None` when there is none of that digest.
    pub(crate) async fn manifest(self: &Arc<Self>, digest: &Digest) -> io::Result<Option<(Descriptor, Vec<u8>)>> {
        let index = self.index().await?;
        let path = self.blob_path(digest);
        let content = tokio::task::spawn_blocking(move || read_bounded(&path, MANIFEST_BYTES_MAX));
        let Some(content) = content.await.map_err(io::Error::other)?? else { return Ok(None) };
        let Some(own_type) = media_type(&content) else { return Ok(None) };
        let media_type = index.media_types.get(digest).cloned().unwrap_or(own_type);
        Ok(Some((Descriptor { media_type }, content)))
    }

    /// Where the blob is, if there is one.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(&digest.hex)
    }

    async fn index(self: &Arc<Self>) -> io::Result<Arc<Index>> {
        let layout = Arc::clone(self);
        tokio::task::spawn_blocking(move || layout.fresh_index()).await.map_err(io::Error::other)?
    }

    fn fresh_index(&self) -> io::Result<Arc<Index>> {
        let path = self.directory.join(INDEX_FILE);
        let identity = match std::fs::metadata(&path) {
            Ok(file) => Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if index.identity != identity {
            let content = read_bounded(&path, INDEX_BYTES_MAX)?.unwrap_or_else(|| b"{}".to_vec());
            let file: IndexFile = serde_json::from_slice(&content)?;
            *index = Arc::new(Index::new(identity, file));
        }
        Ok(Arc::clone(&index))
    }
}

impl Index {
    fn new(identity: Option<Identity>, file: IndexFile) -> Self {
        let mut index = Self { identity, ..Self::default() };
        for mut entry in file.manifests {
            // An entry that cannot be served is left out; the others can.
            let Ok(digest) = entry.digest.parse::<Digest>() else { continue };
            if let Some(reference) = entry.annotations.remove(REFERENCE_NAME) {
                index.by_reference.insert(reference, digest.clone());
            }
            if !entry.media_type.is_empty() {
                index.media_types.insert(digest, entry.media_type);
            }
        }
        index
    }
}

fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() > bytes_max {
        return Err(io::Error::other(format!("{} is larger than {bytes_max} bytes", path.display())));
    }
    let mut content = Vec::new();
    file.take(bytes_max).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// The media type of a manifest by its own content; `None`: this is no manifest.
fn media_type(content: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Manifest {
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let manifest: Manifest = serde_json::from_slice(content).ok()?;
    match manifest {
        Manifest { media_type: Some(media_type), .. } => Some(media_type),
        Manifest { manifests: Some(_), .. } => Some(INDEX_TYPE.to_owned()),
        Manifest { layers: Some(_), .. } => Some(MANIFEST_TYPE.to_owned()),
        Manifest { .. } => None,
    }
}
