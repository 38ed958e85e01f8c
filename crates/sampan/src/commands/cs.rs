//! `sampan cs METHOD PATH`: one raw signed request, with the flags of `aliyun cs`.

use std::io::Write as _;

use anyhow::Context as _;

use crate::Global;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// GET, POST, PUT or DELETE
    method: String,
    /// Path, with a query if there is one
    path: String,
    /// A header, NAME=VALUE
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// The body
    #[arg(long, conflicts_with = "body_file")]
    body: Option<String>,
    /// A file with the body
    #[arg(long, value_name = "FILE")]
    body_file: Option<std::path::PathBuf>,
    /// A query parameter, NAME=VALUE
    #[arg(long = "query", value_name = "NAME=VALUE")]
    query: Vec<String>,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> anyhow::Result<()> {
    let method = arguments.method.to_ascii_uppercase();
    let (path, in_path) = arguments.path.split_once('?').unwrap_or((&arguments.path, ""));
    let pairs = sampan_api::signature::decode_pairs(in_path);
    let mut query: Vec<_> = pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_str())).collect();
    for text in &arguments.query {
        query.push(text.split_once('=').with_context(|| format!("--query {text} is not NAME=VALUE"))?);
    }
    let mut headers = Vec::new();
    for text in &arguments.headers {
        headers.push(text.split_once('=').with_context(|| format!("--header {text} is not NAME=VALUE"))?);
    }
    let body = match (&arguments.body, &arguments.body_file) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (None, Some(file)) => Some(std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?),
        (None, None) => None,
    };
    let client = super::client(global)?;
    let answer = client.send(&method, path, &query, &headers, body.as_deref()).await?;
    let mut out = std::io::stdout().lock();
    match serde_json::from_slice::<serde_json::Value>(&answer.body) {
        Ok(value) => writeln!(out, "{}", serde_json::to_string_pretty(&value)?)?,
        Err(_) if answer.body.is_empty() => {}
        Err(_) => {
            out.write_all(&answer.body)?;
            writeln!(out)?;
        }
    }
    Ok(())
}
