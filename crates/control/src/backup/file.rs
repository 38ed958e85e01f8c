//! One backup's file: a block that says what it is, then the snapshot in encrypted pieces.
//!
//! ```text
//! "SAMPANB1", length, JSON, zeros … tag      4096 bytes, authenticated
//! length, piece (AES-256-GCM, tag at its end)   as often as needed; the last one is marked as such
//! ```
//! Each file has a key of its own, which follows from the master key and a random salt, so counters can be nonces.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sampan_store::{
    MasterKey,
    model::{Fault, Outcome, new_token},
};
use sha2::{Digest as _, Sha256};

use super::Backup;

const MAGIC: &[u8; 8] = b"SAMPANB1";
const HEADER_BYTES: usize = 4096;
const TAG_BYTES: usize = 16;
/// Plain bytes of a piece.
const PIECE_BYTES: usize = 1 << 20;
/// The number of the block that says what the file is; pieces count from 0.
const HEADER_NUMBER: u64 = u64::MAX;
const MORE: &[u8] = b"more";
const LAST: &[u8] = b"last";

/// Writes a backup. One that is not finished leaves nothing.
pub struct Writer {
    path: PathBuf,
    draft: PathBuf,
    file: Option<File>,
    key: LessSafeKey,
    backup: Backup,
    hash: Sha256,
    pending: Vec<u8>,
    pieces: u64,
}

impl Writer {
    /// Begins a file at `path`; of `backup`, what is only known at its end is filled in then.
    ///
    /// # Errors
    /// Unavailable, when the disk refuses.
    pub fn create(path: &Path, master: &MasterKey, mut backup: Backup) -> Outcome<Self> {
        backup.salt = new_token(16);
        let mut draft = path.as_os_str().to_owned();
        draft.push(".part");
        let draft = PathBuf::from(draft);
        let open = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&[0; HEADER_BYTES])?;
            Ok(file)
        };
        let file = open().map_err(|error| disk(&draft, &error))?;
        let key = key(master, &backup.salt)?;
        let path = path.to_owned();
        let (hash, pending) = (Sha256::new(), Vec::with_capacity(PIECE_BYTES));
        Ok(Self { path, draft, file: Some(file), key, backup, hash, pending, pieces: 0 })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// Unavailable, when the disk refuses.
    pub fn write(&mut self, mut bytes: &[u8]) -> Outcome<()> {
        self.hash.update(bytes);
        self.backup.size += bytes.len() as u64;
        while !bytes.is_empty() {
            // A full piece is only written when more follows: the last one is marked.
            if self.pending.len() == PIECE_BYTES {
                self.seal(MORE)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_BYTES - self.pending.len()));
            self.pending.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Ends the file, which then is there under its name.
    ///
    /// # Errors
    /// Unavailable, when the disk refuses.
    pub fn finish(mut self, revision: i64) -> Outcome<Backup> {
        self.seal(LAST)?;
        self.backup.revision = revision;
        self.backup.sha256 = hexadecimal(&self.hash.finalize_reset());
        let header = self.header()?;
        let Some(mut file) = self.file.take() else { return Err(Fault::internal("the backup has been ended")) };
        let mut publish = || {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&header)?;
            file.sync_all()?;
            fs::rename(&self.draft, &self.path)?;
            match self.path.parent() {
                Some(parent) => File::open(parent)?.sync_all(),
                None => Ok(()),
            }
        };
        publish().map_err(|error| disk(&self.path, &error))?;
        Ok(self.backup.clone())
    }

    fn header(&self) -> Outcome<Vec<u8>> {
        let json = serde_json::to_vec(&self.backup)
            .map_err(|error| Fault::internal(format!("a backup cannot be described: {error}")))?;
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes();
        let mut header = [MAGIC.as_slice(), &length, &json].concat();
        if header.len() > HEADER_BYTES - TAG_BYTES {
            return Err(Fault::internal("the description of a backup is too long"));
        }
        header.resize(HEADER_BYTES - TAG_BYTES, 0);
        let tag = self.key.seal_in_place_separate_tag(nonce(HEADER_NUMBER), Aad::from(&header), &mut []);
        let tag = tag.map_err(|_| Fault::internal("a backup cannot be encrypted"))?;
        header.extend_from_slice(tag.as_ref());
        Ok(header)
    }

    fn seal(&mut self, mark: &[u8]) -> Outcome<()> {
        let sealed = self.key.seal_in_place_append_tag(nonce(self.pieces), Aad::from(mark), &mut self.pending);
        sealed.map_err(|_| Fault::internal("a backup cannot be encrypted"))?;
        self.pieces += 1;
        let length = u32::try_from(self.pending.len()).unwrap_or(u32::MAX).to_be_bytes();
        let Some(file) = &mut self.file else { return Err(Fault::internal("the backup has been ended")) };
        let written = file.write_all(&length).and_then(|()| file.write_all(&self.pending));
        written.map_err(|error| disk(&self.draft, &error))?;
        self.pending.clear();
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Best effort: the next try begins it anew.
            let _ = fs::remove_file(&self.draft);
        }
    }
}

/// Reads a backup.
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    key: LessSafeKey,
    backup: Backup,
    hash: Sha256,
    size: u64,
    pieces: u64,
    ended: bool,
}

impl Reader {
    /// Opens a file and checks what it says of itself.
    ///
    /// # Errors
    /// Unavailable, when the disk refuses; InvalidParameter of `backup_id`, when it is none of this installation's backups
    /// or damaged.
    pub fn open(path: &Path, master: &MasterKey) -> Outcome<Self> {
        let mut file = BufReader::new(File::open(path).map_err(|error| disk(path, &error))?);
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header).map_err(|error| read_fault(path, &error))?;
        let (said, tag) = header.split_at(HEADER_BYTES - TAG_BYTES);
        let (backup, key) = Self::described(said, tag, master)
            .ok_or_else(|| damaged(path, "its head is damaged, or it was made by another installation"))?;
        Ok(Self { path: path.to_owned(), file, key, backup, hash: Sha256::new(), size: 0, pieces: 0, ended: false })
    }

    fn described(said: &[u8], tag: &[u8], master: &MasterKey) -> Option<(Backup, LessSafeKey)> {
        let (length, rest) = said.strip_prefix(MAGIC)?.split_first_chunk::<4>()?;
        let json = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let backup: Backup = serde_json::from_slice(json).ok()?;
        let key = key(master, &backup.salt).ok()?;
        let mut tag = tag.to_vec();
        key.open_in_place(nonce(HEADER_NUMBER), Aad::from(said), &mut tag).ok()?;
        Some((backup, key))
    }

    /// What the file says of itself.
    pub fn backup(&self) -> &Backup {
        &self.backup
    }

    /// The next piece of the snapshot; `None` at its end, when all of it has been found whole.
    ///
    /// # Errors
    /// InvalidParameter of `backup_id`, when the file is damaged; Unavailable, when the disk refuses.
    pub fn next_chunk(&mut self) -> Outcome<Option<Vec<u8>>> {
        if self.ended {
            return Ok(None);
        }
        let mut length = [0; 4];
        self.file.read_exact(&mut length).map_err(|error| read_fault(&self.path, &error))?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !(TAG_BYTES..=PIECE_BYTES + TAG_BYTES).contains(&length) {
            return Err(damaged(&self.path, "a piece of it has a wrong length"));
        }
        let mut sealed = vec![0; length];
        self.file.read_exact(&mut sealed).map_err(|error| read_fault(&self.path, &error))?;
        let mut plain = self.unseal(&sealed)?;
        plain.truncate(length - TAG_BYTES);
        self.pieces += 1;
        self.hash.update(&plain);
        self.size += plain.len() as u64;
        if self.ended {
            self.check_whole()?;
        }
        Ok(Some(plain))
    }

    fn unseal(&mut self, sealed: &[u8]) -> Outcome<Vec<u8>> {
        for (mark, is_last) in [(MORE, false), (LAST, true)] {
            // A failed try leaves its buffer undefined.
            let mut piece = sealed.to_vec();
            if self.key.open_in_place(nonce(self.pieces), Aad::from(mark), &mut piece).is_ok() {
                self.ended = is_last;
                return Ok(piece);
            }
        }
        Err(damaged(&self.path, "a piece of it is damaged"))
    }

    fn check_whole(&mut self) -> Outcome<()> {
        let sha256 = hexadecimal(&self.hash.finalize_reset());
        if self.size != self.backup.size || sha256 != self.backup.sha256 {
            return Err(damaged(&self.path, "it does not hold what it says"));
        }
        Ok(())
    }
}

fn key(master: &MasterKey, salt: &str) -> Outcome<LessSafeKey> {
    let bytes = master.derive(&format!("backup {salt}"));
    let unusable = |_| Fault::internal("the key of a backup cannot be used");
    UnboundKey::new(&AES_256_GCM, &bytes).map(LessSafeKey::new).map_err(unusable)
}

fn nonce(number: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    bytes[NONCE_LEN - 8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn disk(path: &Path, error: &io::Error) -> Fault {
    Fault::unavailable(format!("the backup {}: {error}; check the data directory and its disk", path.display()))
}

fn read_fault(path: &Path, error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(path, "its end is missing"),
        _ => disk(path, error),
    }
}

fn damaged(path: &Path, why: &str) -> Fault {
    Fault::invalid("backup_id", format!("the backup {} cannot be used: {why}", path.display()))
}
