//! Rules for single values. Each refusal names the field and says what would be right.

use std::{collections::HashSet, net::IpAddr, ops::RangeInclusive};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sampan_store::model::{Fault, MaintenanceWindow, Outcome, Tag, Taint};

/// Longest first-boot script, in bytes as sent (the vendor's limit is 16 KiB before encoding).
const USER_DATA_BYTES_MAX: usize = 24 * 1024;

/// A value that must be there and not be empty.
pub(super) fn required<'a>(field: &str, value: Option<&'a str>) -> Outcome<&'a str> {
    value.map(str::trim).filter(|v| !v.is_empty()).ok_or_else(|| Fault::missing(field))
}

/// A value that counts as absent when it is empty.
pub(super) fn given(value: &Option<String>) -> Option<&str> {
    value.as_deref().map(str::trim).filter(|v| !v.is_empty())
}

/// A number within bounds.
pub(super) fn number(field: &str, value: i64, range: RangeInclusive<i64>) -> Outcome<u32> {
    u32::try_from(value).ok().filter(|_| range.contains(&value)).ok_or_else(|| {
        Fault::invalid(field, format!("{field} {value} is outside {} to {}", range.start(), range.end()))
    })
}

/// One of several words.
pub(super) fn one_of(field: &str, value: &str, words: &[&str]) -> Outcome<()> {
    if words.contains(&value) {
        return Ok(());
    }
    Err(Fault::invalid(field, format!("{field} {value:?} is not one of {}", words.join(", "))))
}

/// Name of a cluster or node pool: 1 to 63 digits, Chinese characters, English letters, hyphens and underscores.
pub(super) fn name(field: &str, value: &str) -> Outcome<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || ('\u{4e00}'..='\u{9fff}').contains(&c);
    let length = value.chars().count();
    if (1..=63).contains(&length) && value.chars().all(allowed) && !value.starts_with(['-', '_']) {
        return Ok(());
    }
    Err(Fault::invalid(
        field,
        format!(
            "{field} {value:?} must have 1 to 63 digits, Chinese characters, English letters, hyphens and underscores, and \
             must not begin with a hyphen or underscore"
        ),
    ))
}

/// Id of a resource, as given or made by us. Asterisks are allowed: published examples mask their ids with them.
pub(super) fn resource_id(field: &str, value: &str) -> Outcome<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '*');
    if (1..=64).contains(&value.len())
        && value.chars().all(allowed)
        && value.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    Err(Fault::invalid(field, format!("{field} {value:?} is not an id of 1 to 64 letters, digits and hyphens")))
}

/// Region or zone.
pub(super) fn region(field: &str, value: &str) -> Outcome<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (2..=32).contains(&value.len())
        && value.chars().all(allowed)
        && value.starts_with(|c: char| c.is_ascii_lowercase())
        && !value.ends_with('-')
    {
        return Ok(());
    }
    Err(Fault::invalid(
        field,
        format!("{field} {value:?} is not a region or zone; one looks like cn-hangzhou or cn-hangzhou-a"),
    ))
}

/// Tags: at most 20, keys unique and at most `key_max` characters, values at most 128.
pub(super) fn tags(field: &str, tags: &[Tag], key_max: usize) -> Outcome<()> {
    let refuse = |why: String| Err(Fault::invalid(field, format!("{field}: {why}")));
    if tags.len() > 20 {
        return refuse(format!("{} tags are given; at most 20 are allowed", tags.len()));
    }
    let mut seen = HashSet::new();
    for tag in tags {
        if tag.key.is_empty() || tag.key.chars().count() > key_max {
            return refuse(format!("the key {:?} must have 1 to {key_max} characters", tag.key));
        }
        if tag.value.chars().count() > 128 {
            return refuse(format!("the value of {:?} has more than 128 characters", tag.key));
        }
        for text in [&tag.key, &tag.value] {
            let reserved = ["aliyun", "acs:"].iter().any(|p| text.starts_with(p));
            if reserved || text.contains("http://") || text.contains("https://") {
                return refuse(format!(
                    "{text:?} must neither begin with aliyun or acs: nor contain http:// or https://"
                ));
            }
        }
        if !seen.insert(tag.key.as_str()) {
            return refuse(format!("the key {:?} is given twice", tag.key));
        }
    }
    Ok(())
}

/// A Kubernetes label key: an optional DNS prefix and a name of at most 63 characters.
fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(p, n)| (Some(p), n));
    prefix.is_none_or(|p| p.len() <= 253 && is_domain(p)) && !name.is_empty() && is_label_value(name)
}

/// A Kubernetes label value: at most 63 characters, alphanumeric at both ends, or empty.
fn is_label_value(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let ends = |c: char| c.is_ascii_alphanumeric();
    value.len() <= 63
        && value.chars().all(inner)
        && (value.is_empty() || (value.starts_with(ends) && value.ends_with(ends)))
}

/// Labels of nodes. Those that Sampan sets itself are refused.
pub(super) fn labels(field: &str, labels: &[Tag]) -> Outcome<()> {
    let refuse = |why: String| Err(Fault::invalid(field, format!("{field}: {why}")));
    if labels.len() > 20 {
        return refuse(format!("{} labels are given; at most 20 are allowed", labels.len()));
    }
    let mut seen = HashSet::new();
    for label in labels {
        if !is_label_key(&label.key) {
            return refuse(format!("{:?} is not a Kubernetes label key", label.key));
        }
        if !is_label_value(&label.value) {
            return refuse(format!("{:?} is not a Kubernetes label value", label.value));
        }
        if ["kubernetes.io/", "topology.kubernetes.io/", "node.kubernetes.io/instance-type"]
            .iter()
            .any(|p| label.key.starts_with(p))
        {
            return refuse(format!("{:?} is set by the cluster itself", label.key));
        }
        if !seen.insert(label.key.as_str()) {
            return refuse(format!("the key {:?} is given twice", label.key));
        }
    }
    Ok(())
}

/// Taints of nodes; an empty effect becomes `NoSchedule`.
pub(super) fn taints(field: &str, taints: &[Taint]) -> Outcome<Vec<Taint>> {
    let refuse = |why: String| Err(Fault::invalid(field, format!("{field}: {why}")));
    let mut seen = HashSet::new();
    let mut settled = Vec::with_capacity(taints.len());
    for taint in taints {
        if !is_label_key(&taint.key) {
            return refuse(format!("{:?} is not a Kubernetes taint key", taint.key));
        }
        if !is_label_value(&taint.value) {
            return refuse(format!("{:?} is not a Kubernetes taint value", taint.value));
        }
        let effect = if taint.effect.is_empty() { "NoSchedule" } else { taint.effect.as_str() };
        one_of(field, effect, &["NoSchedule", "NoExecute", "PreferNoSchedule"])?;
        if !seen.insert((taint.key.clone(), effect.to_owned())) {
            return refuse(format!("{} with effect {effect} is given twice", taint.key));
        }
        settled.push(Taint { effect: effect.to_owned(), ..taint.clone() });
    }
    Ok(settled)
}

/// SSH password: 8 to 30 characters, three of upper-case letters, lower-case letters, digits, special symbols.
pub(super) fn password(field: &str, value: &str) -> Outcome<()> {
    let kinds: [fn(char) -> bool; 4] =
        [|c| c.is_ascii_uppercase(), |c| c.is_ascii_lowercase(), |c| c.is_ascii_digit(), |c| c.is_ascii_punctuation()];
    let count = kinds.iter().filter(|kind| value.chars().any(**kind)).count();
    if (8..=30).contains(&value.chars().count()) && value.chars().all(|c| c.is_ascii_graphic()) && count >= 3 {
        return Ok(());
    }
    // The value itself must not be repeated.
    Err(Fault::invalid(
        field,
        format!(
            "{field} must have 8 to 30 characters of at least three kinds: upper-case letters, lower-case letters, digits, special symbols"
        ),
    ))
}

/// Whether a text is one or more DNS labels with dots between them.
fn is_domain(value: &str) -> bool {
    let part = |p: &str| {
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        (1..=63).contains(&p.len())
            && p.chars().all(|c| ends(c) || c == '-')
            && p.starts_with(ends)
            && p.ends_with(ends)
    };
    value.len() <= 253 && value.split('.').all(part)
}

/// `cluster_domain`.
pub(super) fn cluster_domain(value: &str) -> Outcome<()> {
    if is_domain(value) && value.len() <= 180 {
        return Ok(());
    }
    Err(Fault::invalid(
        "cluster_domain",
        format!(
            "cluster_domain {value:?} must be parts with dots between them, each of at most 63 lower-case letters, digits and \
             hyphens, beginning and ending with a letter or digit"
        ),
    ))
}

/// Subject alternative names: IP addresses and domain names, also with a leading `*.`.
pub(super) fn subject_names<'a>(field: &str, names: impl IntoIterator<Item = &'a str>) -> Outcome<Vec<String>> {
    let mut settled: Vec<String> = Vec::new();
    for name in names.into_iter().map(str::trim).filter(|n| !n.is_empty()) {
        let lower = name.to_ascii_lowercase();
        if name.parse::<IpAddr>().is_err() && !is_domain(lower.strip_prefix("*.").unwrap_or(&lower)) {
            return Err(Fault::invalid(field, format!("{field}: {name:?} is neither an IP address nor a domain name")));
        }
        if !settled.contains(&lower) {
            settled.push(lower);
        }
    }
    if settled.len() > 50 {
        return Err(Fault::invalid(
            field,
            format!("{field}: {} names are given; at most 50 are allowed", settled.len()),
        ));
    }
    Ok(settled)
}

/// `service_account_issuer`: any text without spaces, and a URL if it contains a colon (the API server insists).
pub(super) fn issuer(value: &str) -> Outcome<()> {
    let plain = value.len() <= 512 && value.chars().all(|c| c.is_ascii_graphic() && c != ',');
    let url = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    if plain && (!value.contains(':') || url.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))) {
        return Ok(());
    }
    Err(Fault::invalid(
        "service_account_issuer",
        format!("service_account_issuer {value:?} must be a name without spaces, or a URL like https://example.com"),
    ))
}

/// `api_audiences`: a comma list.
pub(super) fn audiences(value: &str) -> Outcome<Vec<String>> {
    value
        .split(',')
        .map(str::trim)
        .filter(|a| !a.is_empty())
        .map(|audience| {
            if audience.len() <= 512 && audience.chars().all(|c| c.is_ascii_graphic()) {
                Ok(audience.to_owned())
            } else {
                Err(Fault::invalid("api_audiences", format!("api_audiences: {audience:?} must not contain spaces")))
            }
        })
        .collect()
}

/// `timezone`: an IANA name.
pub(super) fn timezone(value: &str) -> Outcome<()> {
    let named = value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+'));
    if named && value.len() <= 64 && jiff::tz::TimeZone::get(value).is_ok() {
        return Ok(());
    }
    Err(Fault::invalid(
        "timezone",
        format!("timezone {value:?} is not a known time zone; one looks like Asia/Shanghai"),
    ))
}

/// A first-boot script in Base64; answers the script.
pub(super) fn user_data(field: &str, value: &str) -> Outcome<String> {
    if value.len() > USER_DATA_BYTES_MAX {
        return Err(Fault::invalid(
            field,
            format!("{field} has {} bytes; at most {USER_DATA_BYTES_MAX} are allowed", value.len()),
        ));
    }
    let compact: String = value.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD
        .decode(compact)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Fault::invalid(field, format!("{field} must be text in Base64; encode the script first")))
}

/// A maintenance window; what is left out gets the documented default.
pub(super) fn maintenance_window(window: &MaintenanceWindow) -> Outcome<MaintenanceWindow> {
    let invalid = |part: &str, why: String| {
        let field = format!("maintenance_window.{part}");
        Err(Fault::invalid(&field, format!("{field} {why}")))
    };
    let mut settled = window.clone();
    if window.maintenance_time.is_empty() {
        if window.enable {
            return Err(Fault::missing("maintenance_window.maintenance_time"));
        }
    } else if !is_maintenance_time(&window.maintenance_time) {
        return invalid("maintenance_time", format!("{:?} is not a time like 03:00:00Z", window.maintenance_time));
    }
    if window.duration.is_empty() {
        settled.duration = "3h".into();
    }
    let hours = settled.duration.strip_suffix('h').and_then(|h| h.parse::<u32>().ok());
    if !hours.is_some_and(|h| (1..=24).contains(&h)) {
        return invalid("duration", format!("{:?} is not 1h to 24h", settled.duration));
    }
    if window.weekly_period.is_empty() {
        settled.weekly_period = "Thursday".into();
    }
    let days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    if let Some(wrong) = settled.weekly_period.split(',').map(str::trim).find(|day| !days.contains(day)) {
        return invalid("weekly_period", format!("{wrong:?} is not a day of the week in English, like Thursday"));
    }
    Ok(settled)
}

/// `15:04:05Z`, or a whole point in time as newer clients send.
fn is_maintenance_time(text: &str) -> bool {
    let clock = text.strip_suffix('Z').is_some_and(|t| t.len() == 8 && t.parse::<jiff::civil::Time>().is_ok());
    clock || text.parse::<jiff::Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, value: &str) -> Tag {
        Tag { key: key.into(), value: value.into() }
    }

    #[test]
    fn names() {
        for good in ["a", "cluster-demo", "ACK托管版", "9", "a_b", &"x".repeat(63), &"托".repeat(63)] {
            assert!(name("name", good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "a b", "a.b", "ä", "a/b", &"x".repeat(64), "a\n", "😀"] {
            let fault = name("name", bad).expect_err(bad);
            assert!(fault.message.starts_with("name "), "{}", fault.message);
        }
    }

    #[test]
    fn tag_rules() {
        assert!(tags("tags", &[tag("tag-k", "tag-v"), tag("Tag-k", "")], 64).is_ok());
        let check = |list: &[Tag]| assert!(tags("tags", list, 64).is_err(), "{list:?}");
        check(&[tag("", "v")]);
        check(&[tag("a", "1"), tag("a", "2")]);
        check(&[tag(&"k".repeat(65), "")]);
        check(&[tag("k", &"v".repeat(129))]);
        check(&[tag("aliyun-x", "")]);
        check(&[tag("k", "acs:x")]);
        check(&[tag("http://x", "")]);
        check(&(0..21).map(|n| tag(&n.to_string(), "")).collect::<Vec<_>>());
    }

    #[test]
    fn label_and_taint_rules() {
        assert!(labels("labels", &[tag("env", "prod"), tag("example.com/a.b-c", "")]).is_ok());
        for (key, value) in [
            ("", ""),
            ("a b", ""),
            ("-a", ""),
            ("a/", ""),
            ("a", "b c"),
            ("kubernetes.io/hostname", "x"),
            ("UP.com/a", ""),
        ] {
            assert!(labels("labels", &[tag(key, value)]).is_err(), "{key}={value}");
        }
        let taint = |key: &str, effect: &str| Taint { key: key.into(), value: "v".into(), effect: effect.into() };
        assert_eq!(taints("taints", &[taint("key", "")]).expect("default")[0].effect, "NoSchedule");
        assert!(taints("taints", &[taint("key", "NoSchedule"), taint("key", "NoExecute")]).is_ok());
        for list in
            [vec![taint("", "NoSchedule")], vec![taint("k", "Never")], vec![taint("k", ""), taint("k", "NoSchedule")]]
        {
            assert!(taints("taints", &list).is_err(), "{list:?}");
        }
    }

    #[test]
    fn passwords() {
        for good in ["Hello1234", "test@19****", "aB3!aB3!"] {
            assert!(password("login_password", good).is_ok(), "{good}");
        }
        for bad in
            ["", "short1A", "alllowercase", "lower1234", "ABCD1234", &"aB1".repeat(11), "Hello 1234", "Hällo1234"]
        {
            let fault = password("login_password", bad).expect_err(bad);
            assert!(bad.is_empty() || !fault.message.contains(bad), "the value must not be repeated");
        }
    }

    #[test]
    fn domains_names_and_zones() {
        assert!(cluster_domain("cluster.local").is_ok());
        for bad in ["", ".", "a..b", "Cluster.local", "-a.b", "a_b", &"a".repeat(64)] {
            assert!(cluster_domain(bad).is_err(), "{bad}");
        }
        let names =
            subject_names("custom_san", "cs.aliyun.com, 10.0.0.1,*.x.org,,::1,CS.aliyun.com".split(',')).expect("fine");
        assert_eq!(names, ["cs.aliyun.com", "10.0.0.1", "*.x.org", "::1"]);
        for bad in ["a b", "http://x", "a_b.c", "*"] {
            assert!(subject_names("custom_san", [bad]).is_err(), "{bad}");
        }
        assert!(timezone("Asia/Shanghai").is_ok());
        assert!(timezone("UTC").is_ok());
        for bad in ["", "Mars/Base", "../etc/passwd", "Asia/Shanghai\n"] {
            assert!(timezone(bad).is_err(), "{bad}");
        }
        for good in ["kubernetes.default.svc", "https://issuer.example.com", "https://a/b?c"] {
            assert!(issuer(good).is_ok(), "{good}");
        }
        for bad in ["a b", "ftp://x", "https://", "https:///x", "a,b"] {
            assert!(issuer(bad).is_err(), "{bad}");
        }
        assert_eq!(audiences("a, b,").expect("fine"), ["a", "b"]);
        assert!(audiences("a b").is_err());
    }

    #[test]
    fn windows() {
        let window = |enable, time: &str, duration: &str, days: &str| MaintenanceWindow {
            enable,
            maintenance_time: time.into(),
            duration: duration.into(),
            weekly_period: days.into(),
        };
        let settled = maintenance_window(&window(true, "03:00:00Z", "", "")).expect("defaults");
        assert_eq!((settled.duration.as_str(), settled.weekly_period.as_str()), ("3h", "Thursday"));
        assert!(maintenance_window(&window(false, "", "", "")).is_ok());
        assert!(maintenance_window(&window(true, "2024-10-15T12:31:00.000+08:00", "24h", "Monday,Thursday")).is_ok());
        for bad in [
            window(true, "", "3h", "Monday"),
            window(true, "25:00:00Z", "3h", "Monday"),
            window(true, "03:00:00", "3h", "Monday"),
            window(true, "03:00:00Z", "25h", "Monday"),
            window(true, "03:00:00Z", "3", "Monday"),
            window(true, "03:00:00Z", "3h", "Someday"),
        ] {
            assert!(maintenance_window(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn scripts() {
        assert_eq!(user_data("user_data", "dGhpcyBpcyBhIGV4YW1wbGU=").expect("text"), "this is a example");
        assert_eq!(user_data("user_data", "").expect("empty"), "");
        assert!(user_data("user_data", "#!/bin/sh").is_err());
        assert!(user_data("user_data", "/w==").is_err(), "not UTF-8");
    }
}
