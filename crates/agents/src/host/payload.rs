//! What a host fetches from the server: the executables of its cluster's version.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use tokio::task::spawn_blocking;

use super::remote::Server;
use crate::{disk::temporary_path, spec::Payload};

const MODE: u32 = 0o755;

/// Fetches what is not there yet.
pub(crate) async fn ensure(server: &Server, wanted: &[Payload]) -> Result<(), String> {
    for payload in wanted {
        if !is_there(payload).await {
            fetch(server, payload).await?;
        }
        link(payload).map_err(|error| format!("links to {}: {error}", payload.path))?;
    }
    Ok(())
}

/// A file of that size was checked when it was fetched; its digest is not computed at every look.
async fn is_there(payload: &Payload) -> bool {
    let marked = mark(payload);
    let path = payload.path.clone();
    let size = payload.size;
    let there = spawn_blocking(move || {
        let file = fs::metadata(&path).ok()?;
        let digest = fs::read_to_string(marked).ok()?;
        (file.is_file() && file.len() == size).then_some(digest)
    });
    there.await.ok().flatten().is_some_and(|digest| digest == payload.sha256)
}

/// Where the digest of a fetched file is remembered.
fn mark(payload: &Payload) -> std::path::PathBuf {
    Path::new("/var/lib/sampan/payload").join(payload.path.trim_start_matches('/').replace('/', "_"))
}

async fn fetch(server: &Server, payload: &Payload) -> Result<(), String> {
    let path = Path::new(&payload.path);
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", payload.path);
    let parent = path.parent().ok_or_else(|| failed(&"has no parent directory"))?;
    fs::create_dir_all(parent).map_err(|error| failed(&error))?;
    let unfinished = temporary_path(path);
    let (digest, size) =
        server.fetch(&format!("/v1/payload/{}", payload.name), &unfinished).await.map_err(|error| failed(&error))?;
    let install = || -> io::Result<()> {
        if digest != payload.sha256 || size != payload.size {
            let text =
                format!("SHA-256 {digest} ({size} bytes) came, {} ({}) is expected", payload.sha256, payload.size);
            return Err(io::Error::other(text));
        }
        fs::set_permissions(&unfinished, Permissions::from_mode(MODE))?;
        fs::rename(&unfinished, path)?;
        let mark = mark(payload);
        fs::create_dir_all(mark.parent().unwrap_or(Path::new("/")))?;
        fs::write(mark, &payload.sha256)
    };
    install().map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        failed(&error)
    })
}

fn link(payload: &Payload) -> io::Result<()> {
    let path = Path::new(&payload.path);
    let Some(target) = path.file_name() else { return Ok(()) };
    for name in &payload.links {
        let link = path.with_file_name(name);
        if fs::read_link(&link).is_ok_and(|present| present.as_os_str() == target) {
            continue;
        }
        let _ = fs::remove_file(&link);
        symlink(target, &link)?;
    }
    Ok(())
}
