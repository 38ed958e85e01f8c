//! Versions, queries, filters, words.
#![allow(clippy::unwrap_used)]

use jiff::Timestamp;
use serde_json::json;

use super::{filters::Filters, human, query, query::Query, version};

fn query(text: &str) -> Query {
    Query::of(&format!("/x?{text}").parse().unwrap())
}

#[test]
fn versions_in_front_of_paths() {
    let (version, rest) = version::split("/v1.30/containers/json").unwrap();
    assert_eq!((version.unwrap().to_string().as_str(), rest), ("1.30", "/containers/json"));
    assert_eq!(version::split("/containers/json").unwrap(), (None, "/containers/json"));
    assert_eq!(version::split("/volumes/v1.30").unwrap().1, "/volumes/v1.30");
    let old = version::split("/v1.23/info").unwrap_err().message;
    assert!(old.starts_with("client version 1.23 is too old. Minimum supported API version is 1.24"), "{old}");
    let new = version::split("/v1.50/info").unwrap_err().message;
    assert_eq!(new, "client version 1.50 is too new. Maximum supported API version is 1.41");
    assert!(version::split("/v9.1/info").is_err());
}

#[test]
fn queries() {
    let query = query("a=1&b=&c&d=x%20y+z&e=False&t=one&t=two");
    assert!(query.flag("a") && !query.flag("b") && !query.flag("c") && !query.flag("e") && !query.flag("absent"));
    assert_eq!(query.text("d"), Some("x y z"));
    assert_eq!(query.all("t").collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(query.number("a").unwrap(), Some(1));
    assert_eq!(query.number("b").unwrap(), None);
    assert!(query.number("d").is_err());
    assert_eq!(query.without(&["a", "b", "c", "e", "t"]), "d=x%20y%20z");
    assert_eq!(query::decode("100%&%2F%zz%"), "100%&/%zz%");
}

#[test]
fn filters_in_both_spellings() {
    for text in [
        r#"{"label":["a=b","c"],"status":["exited"]}"#,
        r#"{"label":{"a=b":true,"c":true,"d":false},"status":{"exited":true}}"#,
    ] {
        let filters = Filters::of(&query(&format!("filters={}", query::encode(text))), &["label", "status"]).unwrap();
        assert_eq!(filters.values("status"), ["exited"]);
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert!(filters.labels(&labels(&[("a", "b"), ("c", "")])));
        assert!(!filters.labels(&labels(&[("a", "x"), ("c", "")])));
        assert!(!filters.labels(&labels(&[("a", "b")])));
    }
    let of = |text: &str| Filters::of(&query(&format!("filters={}", query::encode(text))), &["label"]);
    assert!(of(r#"{"nonsense":["x"]}"#).unwrap_err().message.contains("Invalid filter 'nonsense'"));
    assert!(of("[1]").is_err());
    assert!(of(r#"{"label":3}"#).is_err());
}

#[test]
fn times_in_words() {
    for (seconds, words) in [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (150, "2 minutes"),
        (3600, "About an hour"),
        (3 * 3600, "3 hours"),
        (49 * 3600, "2 days"),
        (15 * 24 * 3600, "2 weeks"),
        (70 * 24 * 3600, "2 months"),
        (900 * 24 * 3600, "2 years"),
    ] {
        assert_eq!(human::duration(seconds), words);
    }
}

#[test]
fn states_in_words() {
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
    let (start, never) = ("2026-01-01T00:05:00Z", "0001-01-01T00:00:00Z");
    for (state, words) in [
        (json!({"Status": "created", "StartedAt": never, "FinishedAt": never}), "Created"),
        (json!({"Status": "running", "Running": true, "StartedAt": start}), "Up 5 minutes"),
        (json!({"Running": true, "Paused": true, "StartedAt": start}), "Up 5 minutes (Paused)"),
        (
            json!({"Running": true, "StartedAt": start, "Health": {"Status": "starting"}}),
            "Up 5 minutes (health: starting)",
        ),
        (json!({"Running": true, "StartedAt": start, "Health": {"Status": "healthy"}}), "Up 5 minutes (healthy)"),
        (
            json!({"Running": true, "Restarting": true, "ExitCode": 1, "FinishedAt": start}),
            "Restarting (1) 5 minutes ago",
        ),
        (
            json!({"Status": "exited", "ExitCode": 137, "StartedAt": start, "FinishedAt": start}),
            "Exited (137) 5 minutes ago",
        ),
        (json!({"Status": "dead", "StartedAt": start, "FinishedAt": start}), "Dead"),
    ] {
        assert_eq!(human::status(&state, now), words);
    }
}
