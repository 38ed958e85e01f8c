//! The master key of an installation, what is derived from it, and sealed secrets.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::ops::Deref;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use crate::StoreError;
use crate::backend::SealedSecret;

const KEY_BYTES: usize = 32;

/// Separates keys derived here from those of any other program that might be given the same key file.
const SALT: &[u8] = b"sampan master key v1";

/// The installation's master key: 32 random bytes. It lies beside the database, never in it.
#[derive(Clone)]
pub struct MasterKey {
    bytes: Arc<Zeroizing<[u8; KEY_BYTES]>>,
}

impl MasterKey {
    /// Reads the key in the file `path`, or makes one there with mode 0600 when the file does not exist.
    ///
    /// # Errors
    /// [`StoreError::Key`] when others than the owner may read or write the file, when it does not hold exactly 32
    /// bytes, or when it cannot be read or made.
    pub fn load_or_create(path: &Path) -> Result<Self, StoreError> {
        match File::open(path) {
            Ok(file) => Self::load(path, file),
            Err(error) if error.kind() == ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(key_error(path, "cannot be opened", &error)),
        }
    }

    /// A new random key that is written nowhere, for tests and for the default options.
    pub fn generate() -> Result<Self, StoreError> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| {
            StoreError::Key("the operating system's random generator does not work; no key can be made".to_owned())
        })?;
        Ok(Self { bytes: Arc::new(bytes) })
    }

    fn load(path: &Path, file: File) -> Result<Self, StoreError> {
        let metadata = file.metadata().map_err(|error| key_error(path, "cannot be examined", &error))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Key(format!(
                "the master key {0} has mode {mode:04o}, so that others than its owner may use it; run: chmod 600 {0}",
                path.display()
            )));
        }
        // One byte more than wanted, so that a longer file is noticed without reading all of it.
        let mut content = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
        file.take(KEY_BYTES as u64 + 1)
            .read_to_end(&mut content)
            .map_err(|error| key_error(path, "cannot be read", &error))?;
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        if content.len() != KEY_BYTES {
            return Err(StoreError::Key(format!(
                "the master key {} does not hold exactly {KEY_BYTES} bytes; restore it from your backup (or, when the \
                 data directory is new and empty, delete the file)",
                path.display()
            )));
        }
        bytes.copy_from_slice(&content);
        Ok(Self { bytes: Arc::new(bytes) })
    }

    /// The file appears under its name only when it is complete and on disk: a key that is half written or lost in a
    /// power cut would make every secret unreadable.
    fn create(path: &Path) -> Result<Self, StoreError> {
        let key = Self::generate()?;
        let fail = |error: std::io::Error| key_error(path, "cannot be made", &error);
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(fail)?;
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{}", crate::model::new_token(8)));
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).and_then(|mut file| {
            file.write_all(key.bytes.as_slice())?;
            file.sync_all()?;
            // Unlike a rename, a link does not replace a key that another process made meanwhile.
            fs::hard_link(&draft, path)
        });
        // The draft is of no use in either case; that it is gone already would be fine too.
        let _ = fs::remove_file(&draft);
        match written {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let file = File::open(path).map_err(|error| key_error(path, "cannot be opened", &error))?;
                return Self::load(path, file);
            }
            other => other.map_err(fail)?,
        }
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(fail)?;
        Ok(key)
    }

    /// A key for one purpose (HKDF-SHA256). The same purpose always gives the same key; none tells anything about
    /// another or about the master key.
    pub fn derive(&self, purpose: &str) -> [u8; KEY_BYTES] {
        let mut out = [0; KEY_BYTES];
        // Both lengths are constants far below the limits of HKDF (255 hash lengths), the only cause of failure.
        #[allow(clippy::expect_used)]
        hkdf::Salt::new(hkdf::HKDF_SHA256, SALT)
            .extract(self.bytes.as_slice())
            .expand(&[purpose.as_bytes()], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut out))
            .expect("32 bytes can be derived");
        out
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("MasterKey(redacted)")
    }
}

fn key_error(path: &Path, what: &str, error: &std::io::Error) -> StoreError {
    StoreError::Key(format!("the master key {} {what}: {error}; check the path and its permissions", path.display()))
}

/// A secret in the clear. Wiped when dropped; never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret as text; `None` when it is not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl Deref for SecretBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SecretBytes(redacted)")
    }
}

/// Seals and opens secrets with a key derived from the master key.
pub(crate) struct Sealer {
    key: RandomizedNonceKey,
}

impl Sealer {
    pub(crate) fn new(master: &MasterKey) -> Result<Self, StoreError> {
        let key = Zeroizing::new(master.derive("secrets"));
        let key = RandomizedNonceKey::new(&AES_256_GCM, key.as_slice())
            .map_err(|_| StoreError::Key("the key for secrets cannot be prepared".to_owned()))?;
        Ok(Self { key })
    }

    /// The name is authenticated with the value: a row copied to another name does not open.
    pub(crate) fn seal(&self, name: &str, value: &[u8]) -> Result<SealedSecret, StoreError> {
        let mut ciphertext = value.to_vec();
        match self.key.seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut ciphertext) {
            Ok(nonce) => Ok(SealedSecret { nonce: nonce.as_ref().to_vec(), ciphertext }),
            Err(_) => {
                drop(Zeroizing::new(ciphertext));
                Err(StoreError::Key(format!("the secret {name} cannot be encrypted")))
            }
        }
    }

    pub(crate) fn open(&self, name: &str, sealed: SealedSecret) -> Result<SecretBytes, StoreError> {
        let damaged = |_| {
            StoreError::Key(format!(
                "the stored secret {name} does not open with this master key: it was changed, or the key is another \
                 one than at the time of writing; restore the data directory and its key from one backup"
            ))
        };
        let nonce = Nonce::try_assume_unique_for_key(&sealed.nonce).map_err(damaged)?;
        let mut text = Zeroizing::new(sealed.ciphertext);
        let length = self.key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut text).map_err(damaged)?.len();
        text.truncate(length);
        Ok(SecretBytes(text))
    }
}
