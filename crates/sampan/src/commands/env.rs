//! `sampan env`: shell lines that point clients at the server.

use std::fmt::Write as _;

use crate::{Global, data_dir::DataDir};

pub(crate) fn run(global: &Global) -> anyhow::Result<()> {
    let dir = DataDir::open(&super::data_dir(global)?)?;
    let access = dir.read_access()?;
    let mut text = String::new();
    for (name, value) in [
        ("SAMPAN_ENDPOINT", &access.endpoint),
        ("SAMPAN_PROTOCOL", &access.protocol),
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", &access.access_key_id),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", &access.access_key_secret),
        ("ALIBABA_CLOUD_REGION_ID", &access.region_id),
    ] {
        writeln!(text, "export {name}='{value}'")?;
    }
    if access.protocol == "https" {
        writeln!(text, "export SAMPAN_CA='{}'", dir.tls().join("ca.pem").display())?;
    }
    print!("{text}");
    Ok(())
}
