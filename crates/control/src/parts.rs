//! What machines' specifications are built of, whatever the machines are for.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sampan_agents::spec::{File, Process};
use sampan_store::model::Machine;
use sha2::{Digest as _, Sha256};

use crate::certificate::CertifiedKey;

/// A file that everybody may read.
pub(crate) fn public_file(path: impl Into<String>, content: impl AsRef<[u8]>) -> File {
    File { path: path.into(), mode: 0o644, content: STANDARD.encode(content) }
}

/// A file that only root may read.
pub(crate) fn secret_file(path: impl Into<String>, content: impl AsRef<[u8]>) -> File {
    File { path: path.into(), mode: 0o600, content: STANDARD.encode(content) }
}

/// `<stem>.crt` and `<stem>.key`.
pub(crate) fn pair_files(stem: &str, pair: &CertifiedKey) -> [File; 2] {
    [public_file(format!("{stem}.crt"), &pair.certificate), secret_file(format!("{stem}.key"), &pair.key)]
}

/// A process without conditions.
pub(crate) fn process(name: &str, command: Vec<String>) -> Process {
    Process {
        name: name.to_owned(),
        command,
        start_arguments: Vec::new(),
        env: BTreeMap::new(),
        after: Vec::new(),
        wait_for: None,
        ready: None,
        restart_on: Vec::new(),
        oneshot: false,
    }
}

/// What identifies the machine's operating system (`/etc/machine-id`): 32 hexadecimal digits.
pub(crate) fn machine_id_file(machine: &Machine) -> String {
    let digest = Sha256::digest(machine.id.as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect()
}
