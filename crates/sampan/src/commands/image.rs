//! `sampan image`: images that nodes can run without any registry. They are kept as an OCI image layout in the data
//! directory, which every node sees; an image is available everywhere the moment it is loaded.

use std::{fs::File, io, path::PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{
    Global,
    data_dir::DataDir,
    glue::images::ImageStore,
    output::{Column, print_list, scalar},
};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Load images from an archive made by `docker save` or in OCI layout; `-` reads standard input
    Load {
        /// The archive
        archive: PathBuf,
    },
    /// List images
    #[command(visible_alias = "ls")]
    List,
    /// Remove an image
    Rm {
        /// Its full name
        reference: String,
    },
}

pub(crate) fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let store = ImageStore::open(&DataDir::open(&super::data_dir(global)?)?.images())?;
    match command {
        Command::Load { archive } => {
            let reader: Box<dyn io::Read> = if archive.as_os_str() == "-" {
                Box::new(io::stdin().lock())
            } else {
                Box::new(File::open(&archive).with_context(|| format!("cannot read {}", archive.display()))?)
            };
            for reference in store.load(reader)? {
                println!("{reference}");
            }
            Ok(())
        }
        Command::List => {
            let images: Vec<Value> = store
                .list()?
                .into_iter()
                .map(|image| json!({ "reference": image.reference, "digest": image.digest }))
                .collect();
            let columns: [Column; 2] =
                [("IMAGE", |image| scalar(&image["reference"])), ("DIGEST", |image| scalar(&image["digest"]))];
            print_list(global.output, &Value::from(images.clone()), &images, &columns)
        }
        Command::Rm { reference } => store.remove(&reference),
    }
}
