//! Writing tar streams whose bytes depend only on what is put in.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use tar::{Builder, EntryType, Header};

/// Writes a tar stream: owner root, time zero, no host state. Every path is in it once, as it was added first: Docker refuses
/// layers with a path twice.
pub(crate) struct Tree<W: Write> {
    stream: Builder<W>,
    paths: HashSet<String>,
}

impl<W: Write> Tree<W> {
    /// Starts a stream.
    pub(crate) fn new(to: W) -> Self {
        Self { stream: Builder::new(to), paths: HashSet::new() }
    }

    /// Whether the path is new; it is not from then on.
    fn is_new(&mut self, path: &str) -> bool {
        self.paths.insert(path.trim_matches('/').to_owned())
    }

    /// Adds a directory.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub(crate) fn dir(&mut self, path: &str, mode: u32) -> Result<()> {
        if !self.is_new(path) {
            return Ok(());
        }
        let mut header = header(EntryType::Directory, mode, 0);
        self.stream.append_data(&mut header, format!("{path}/"), io::empty()).with_context(|| writing(path))
    }

    /// Adds a file with this content.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub(crate) fn file(&mut self, path: &str, mode: u32, content: impl AsRef<[u8]>) -> Result<()> {
        let content = content.as_ref();
        self.data(path, mode, content.len() as u64, content)
    }

    /// Adds an executable from the disk.
    ///
    /// # Errors
    /// When it cannot be read or the stream not be written.
    pub(crate) fn executable(&mut self, path: &str, from: &Path) -> Result<()> {
        let file = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
        let size = file.metadata().with_context(|| format!("cannot inspect {}", from.display()))?.len();
        self.data(path, 0o755, size, file)
    }

    /// Adds a file whose content is read from elsewhere.
    ///
    /// # Errors
    /// When the content cannot be read or the stream not be written.
    pub(crate) fn data(&mut self, path: &str, mode: u32, size: u64, content: impl Read) -> Result<()> {
        if !self.is_new(path) {
            return Ok(());
        }
        let mut header = header(EntryType::Regular, mode, size);
        self.stream.append_data(&mut header, path, content).with_context(|| writing(path))
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        if !self.is_new(path) {
            return Ok(());
        }
        let mut header = header(EntryType::Symlink, 0o777, 0);
        self.stream.append_link(&mut header, path, target).with_context(|| writing(path))
    }

    /// Adds another name of a file that is already in the stream.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub(crate) fn hard_link(&mut self, path: &str, target: &str) -> Result<()> {
        if !self.is_new(path) {
            return Ok(());
        }
        let mut header = header(EntryType::Link, 0o755, 0);
        self.stream.append_link(&mut header, path, target).with_context(|| writing(path))
    }

    /// Ends the stream and returns what it was written to.
    ///
    /// # Errors
    /// When the stream cannot be written.
    pub(crate) fn finish(self) -> Result<W> {
        let mut to = self.stream.into_inner().context("cannot end the tar stream")?;
        to.flush().context("cannot write the tar stream")?;
        Ok(to)
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn writing(path: &str) -> String {
    format!("cannot add {path} to the tar stream")
}
