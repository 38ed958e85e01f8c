//! Buckets of S3- and OSS-compatible servers, by `s3fs`.

mod diagnosis;
mod endpoint;
mod other;
pub(super) mod process;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use self::endpoint::Endpoint;
use super::options::{Given, Quoted};

const SECRET_MAX: usize = 256;

/// Text that is shown nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The documented options of such a volume, as they were given, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct OssOptions {
    /// Name of the bucket.
    pub(super) bucket: String,
    /// Access key id.
    ak_id: Secret,
    /// Access key secret.
    ak_secret: Secret,
    /// Server of the bucket.
    url: String,
    /// Whether what is known about objects is asked for anew each time.
    no_stat_cache: bool,
    /// Options for `s3fs`.
    other_opts: String,
}

impl OssOptions {
    /// Reads and checks them.
    pub(super) fn read(given: &mut Given) -> Result<Self, String> {
        let options = Self {
            bucket: given.required("bucket")?,
            ak_id: Secret(given.required("ak_id")?),
            ak_secret: Secret(given.required("ak_secret")?),
            url: given.required("url")?,
            no_stat_cache: truth("no_stat_cache", given.optional("no_stat_cache").as_deref())?,
            other_opts: given.optional("other_opts").unwrap_or_default(),
        };
        check_bucket(&options.bucket)?;
        check_secret("ak_id", &options.ak_id, 128)?;
        check_secret("ak_secret", &options.ak_secret, SECRET_MAX)?;
        options.arguments()?;
        Ok(options)
    }

    /// Content of the file that `s3fs` reads the credentials from.
    pub(super) fn credentials(&self) -> String {
        format!("{}:{}\n", self.ak_id.0, self.ak_secret.0)
    }

    /// Takes the credentials out of a text, if they should have come into it.
    pub(super) fn redact(&self, text: &str) -> String {
        // A very short one would take half of the words with it.
        let secrets = [&self.ak_secret.0, &self.ak_id.0].into_iter().filter(|secret| secret.len() > 3);
        secrets.fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }

    /// Options for `s3fs`, each for an `-o` of its own; none has a secret in it.
    pub(super) fn arguments(&self) -> Result<Vec<String>, String> {
        let endpoint = Endpoint::parse(&self.url, &self.bucket)?;
        let other = other::parse(&self.other_opts)?;
        let mut arguments = vec![format!("url={}", endpoint.url)];
        if endpoint.path_style && !other.iter().any(|option| option == "use_path_request_style") {
            arguments.push("use_path_request_style".to_owned());
        }
        if self.no_stat_cache {
            // Neither s3fs nor the kernel may answer from what they knew: other machines write, too.
            let off = ["max_stat_cache_size=0", "attr_timeout=0", "entry_timeout=0", "negative_timeout=0"];
            arguments.extend(off.map(str::to_owned));
        }
        // Later ones win, so what the user says about the cache wins.
        arguments.extend(other);
        Ok(arguments)
    }

    /// What may be shown.
    pub(super) fn status(&self) -> Map<String, Value> {
        let shown = json!({ "bucket": self.bucket, "url": self.url, "no_stat_cache": self.no_stat_cache,
            "other_opts": self.other_opts });
        match shown {
            Value::Object(shown) => shown,
            _ => Map::new(),
        }
    }
}

fn truth(name: &str, value: Option<&str>) -> Result<bool, String> {
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("false" | "0" | "no" | "off") => Ok(false),
        Some("true" | "1" | "yes" | "on") => Ok(true),
        Some(other) => Err(format!("the option {name} must be true or false, not {}", Quoted(other))),
    }
}

/// Names that both protocols allow; they become parts of paths, too.
fn check_bucket(bucket: &str) -> Result<(), String> {
    let is_edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = bucket.as_bytes();
    let edges = bytes.first().zip(bytes.last()).is_some_and(|(first, last)| is_edge(*first) && is_edge(*last));
    let inside = bytes.iter().all(|byte| is_edge(*byte) || b"-._".contains(byte)) && !bucket.contains("..");
    if edges && inside && (3..=63).contains(&bucket.len()) {
        return Ok(());
    }
    Err(format!(
        "the option bucket: {} is no name of a bucket (3 to 63 lower-case letters, digits, '-', '.', the first and the \
         last a letter or digit)",
        Quoted(bucket)
    ))
}

/// The message must not show the value.
fn check_secret(name: &str, secret: &Secret, longest: usize) -> Result<(), String> {
    // A colon separates the two in the file, '#' begins a comment there, '[' a section.
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    let secret = &secret.0;
    if secret.len() <= longest && secret.bytes().all(fits) && !secret.starts_with(['#', '[']) {
        return Ok(());
    }
    Err(format!("the option {name} must be at most {longest} printable characters without spaces and colons"))
}
