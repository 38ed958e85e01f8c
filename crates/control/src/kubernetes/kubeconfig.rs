//! Kubeconfig text.
//!
//! People cut it apart with `grep` and `awk`, as the API's guide shows them: exactly one line contains
//! `client-certificate-data`, one `client-key-data`, one `server`; the value is the second word of its line, unquoted and
//! unwrapped. Therefore it is written as text and not by a YAML library.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::certificate::CertifiedKey;

/// What goes into a kubeconfig.
#[derive(Clone, Copy, Debug)]
pub struct Kubeconfig<'a> {
    /// Base URL without trailing slash, e.g. `https://127.0.0.1:6443`.
    pub url: &'a str,
    /// Authority (PEM) of the API server's certificate.
    pub authority: &'a str,
    /// The client's certificate and key.
    pub client: &'a CertifiedKey,
    /// Name of the user entry.
    pub user: &'a str,
    /// Name of the context.
    pub context: &'a str,
}

impl Kubeconfig<'_> {
    /// The text.
    pub fn text(&self) -> String {
        let (user, context) = (safe_name(self.user), safe_name(self.context));
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters:\n\
             - cluster:\n\
             \x20   certificate-authority-data: {authority}\n\
             \x20   server: {url}\n\
             \x20 name: kubernetes\n\
             contexts:\n\
             - context:\n\
             \x20   cluster: kubernetes\n\
             \x20   user: {user}\n\
             \x20 name: {context}\n\
             current-context: {context}\n\
             preferences: {{}}\n\
             users:\n\
             - name: {user}\n\
             \x20 user:\n\
             \x20   client-certificate-data: {certificate}\n\
             \x20   client-key-data: {key}\n",
            url = self.url.trim_end_matches('/'),
            authority = STANDARD.encode(self.authority),
            certificate = STANDARD.encode(&self.client.certificate),
            key = STANDARD.encode(&self.client.key),
        )
    }
}

/// A name that needs no quotes, reads as text and does not contain the word that people search for.
fn safe_name(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == ':' { c } else { '-' })
        .collect();
    let plain = plain.trim_matches(['-', '.', ':']).replace("server", "srv");
    let reads_as_text = plain.starts_with(|c: char| c.is_ascii_alphabetic())
        && !matches!(
            plain.to_ascii_lowercase().as_str(),
            "null" | "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    if reads_as_text { plain } else { format!("user-{plain}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(user: &str, context: &str) -> String {
        let client = CertifiedKey {
            certificate: "-----BEGIN CERTIFICATE-----\n".repeat(40),
            key: "-----BEGIN PRIVATE KEY-----\n".into(),
            expires: "2027-01-01T00:00:00Z".parse().unwrap(),
        };
        Kubeconfig { url: "https://127.0.0.1:6443/", authority: "ca", client: &client, user, context }.text()
    }

    fn word<'a>(text: &'a str, wanted: &str) -> &'a str {
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(wanted)).collect();
        assert_eq!(lines.len(), 1, "{wanted}: {lines:?}");
        lines[0].split_whitespace().nth(1).unwrap()
    }

    #[test]
    fn it_can_be_cut_apart_with_grep_and_awk() {
        let text = sample("kubernetes-admin", "kubernetes-admin-c1");
        assert_eq!(word(&text, "server"), "https://127.0.0.1:6443");
        assert!(STANDARD.decode(word(&text, "client-certificate-data")).unwrap().starts_with(b"-----BEGIN CERT"));
        assert!(STANDARD.decode(word(&text, "client-key-data")).unwrap().starts_with(b"-----BEGIN PRIV"));
    }

    #[test]
    fn the_word_searched_for_is_kept_out_of_names() {
        let text = sample("my-server", "server");
        assert_eq!(word(&text, "server"), "https://127.0.0.1:6443");
    }

    proptest! {
        #[test]
        fn any_name_gives_valid_yaml(user in ".*", context in ".*") {
            let text = sample(&user, &context);
            word(&text, "server");
            let value: serde_json::Value = serde_yaml_ng::from_str(&text).unwrap();
            prop_assert_eq!(&value["users"][0]["name"], &value["contexts"][0]["context"]["user"]);
            prop_assert_eq!(&value["contexts"][0]["name"], &value["current-context"]);
            prop_assert!(value["current-context"].is_string());
        }
    }
}
