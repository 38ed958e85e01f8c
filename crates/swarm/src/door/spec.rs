//! What the placeholder container is.

use std::{fmt::Write as _, io, path::PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::DoorSettings;
use crate::model::labels;

/// Image of the placeholder: nothing but empty directories.
pub(super) const REPOSITORY: &str = "sampan/door";
/// Its tag; another content takes another tag.
pub(super) const TAG: &str = "1";
/// Label with the hash of what the container was made from.
pub(super) const SPEC_LABEL: &str = "io.sampan.door";
const PROGRAM: &str = "/sampan";
const MEMORY_BYTES: u64 = 32 * 1024 * 1024;
const PIDS_MAX: u32 = 64;
/// Nobody.
const USER: &str = "65534:65534";

/// Body of `POST /containers/create` and the hash that its label carries.
pub(super) fn container(settings: &DoorSettings) -> io::Result<(Value, String)> {
    let program = match &settings.program {
        Some(program) => program.clone(),
        None => own_binary()?,
    };
    let mut body = json!({
        "Image": format!("{REPOSITORY}:{TAG}"),
        "Entrypoint": [PROGRAM],
        "Cmd": ["pause"],
        "User": USER,
        "Labels": settings.labels,
        "HostConfig": {
            "Binds": [format!("{}:{PROGRAM}:ro", program.display())],
            "NetworkMode": settings.network,
            "RestartPolicy": { "Name": "always" },
            "Memory": MEMORY_BYTES,
            "PidsLimit": PIDS_MAX,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": true,
            "LogConfig": { "Type": "none" },
        },
    });
    body["Labels"][labels::SYSTEM] = "door".into();
    let hash = Sha256::digest(body.to_string()).iter().take(8).fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    body["Labels"][SPEC_LABEL] = hash.clone().into();
    Ok((body, hash))
}

fn own_binary() -> io::Result<PathBuf> {
    let binary = std::env::current_exe()?;
    // A binary that was replaced while it runs is named so.
    Ok(binary.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map_or(binary.clone(), PathBuf::from))
}

/// The image as an archive: an image must not be empty.
pub(super) fn archive() -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for directory in ["dev/", "etc/", "proc/", "sys/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        archive.append_data(&mut header, directory, io::empty())?;
    }
    archive.into_inner()
}
