//! The link of a trigger: reading what callers make of it.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use sampan_store::model::Trigger;

/// Longest `triggerUrl` that is read.
const TOKEN_BYTES_MAX: usize = 1024;

/// What a link names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Cluster.
    pub cluster_id: String,
    /// Application.
    pub project: String,
    /// `redeploy` or `scaling`.
    pub action: String,
    /// Trigger.
    pub id: String,
}

impl Link {
    /// Whether it is the link of this trigger.
    pub(super) fn names(&self, trigger: &Trigger) -> bool {
        (self.cluster_id.as_str(), self.project.as_str(), self.action.as_str(), self.id.as_str())
            == (trigger.cluster_id.as_str(), trigger.project.as_str(), trigger.action.as_str(), trigger.id.as_str())
    }

    /// The value of `triggerUrl` for a trigger.
    pub fn token(trigger: &Trigger) -> String {
        base64::engine::general_purpose::STANDARD.encode(trigger.token_text())
    }
}

/// Reads a `triggerUrl`. Published examples have a surplus `=`; a `+` may have become a blank on its way, and some tools
/// write the alphabet for URLs.
pub fn parse(token: &str) -> Option<Link> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let standard: String = token
        .trim_end_matches('=')
        .chars()
        .map(|character| match character {
            ' ' | '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true);
    let bytes = GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(standard).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let mut parts = text.strip_suffix('|').unwrap_or(&text).split('|').map(str::to_owned);
    let link = Link { cluster_id: parts.next()?, project: parts.next()?, action: parts.next()?, id: parts.next()? };
    parts.next().is_none().then_some(link)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The guide's own examples (4.9.2 and 4.9.3).
    #[test]
    fn published_links_are_read() {
        let redeploy = "Y2E1Y2UwY2NhOWRhMzQ2ZDY4ZmYyZmYyNGZiYTAyNzdjfHRlc3QtZm9yLXRyaWdnZXItZGVmYXVsdHxzY2FsaW5nfDE5dXAyajhoOXR1NHN8";
        let link = parse(redeploy).unwrap();
        assert_eq!(
            (link.project.as_str(), link.action.as_str(), link.id.as_str()),
            ("test-for-trigger-default", "scaling", "19up2j8h9tu4s")
        );
        let surplus = "Y2E1Y2UwY2NhOWRhMzQ2ZDY4ZmYyZmYyNGZiYTAyNzdjfHdvcmRwcmVzc3xzY2FsaW5nfDE5dXM1cHZjdjQ4cnN8=";
        let link = parse(surplus).unwrap();
        assert_eq!(
            (link.cluster_id.as_str(), link.project.as_str()),
            ("ca5ce0cca9da346d68ff2ff24fba0277c", "wordpress")
        );
    }

    #[test]
    fn other_text_is_no_link() {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        for text in ["a|b|c", "a|b|c|d|e|", "", "|"] {
            assert_eq!(parse(&encode(text)), None, "{text}");
        }
        assert_eq!(parse("%%%"), None);
        assert_eq!(parse(&"A".repeat(2000)), None);
    }

    proptest::proptest! {
        #[test]
        fn every_token_comes_back(project in "[a-z0-9-]{1,64}", id in "[a-v0-9]{13}", tail in "={0,3}") {
            let text = format!("c0123|{project}|redeploy|{id}|");
            let token = base64::engine::general_purpose::STANDARD.encode(&text) + &tail;
            let link = parse(&token.replace('+', " ")).unwrap();
            proptest::prop_assert_eq!(link.project, project);
            proptest::prop_assert_eq!(link.id, id);
        }

        #[test]
        fn nothing_panics(token in ".{0,200}") {
            let _ = parse(&token);
        }
    }
}
