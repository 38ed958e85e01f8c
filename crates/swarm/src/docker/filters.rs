//! The parameter `filters`, in both spellings: `{"key": ["value"]}` and `{"key": {"value": true}}`.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::query::Query;
use crate::model::Refusal;

/// What a list is narrowed by.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads them; keys that are not `known` are refused.
    pub(crate) fn of(query: &Query, known: &[&str]) -> Result<Self, Refusal> {
        let text = query.text("filters").unwrap_or_default();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let parsed: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| Refusal::bad(format!("the filters cannot be read: {error}")))?;
        let mut filters = BTreeMap::new();
        for (key, values) in parsed {
            if !known.contains(&key.as_str()) {
                return Err(Refusal::bad(format!("Invalid filter '{key}'")));
            }
            let values = match values {
                Value::Array(list) => list.into_iter().filter_map(|value| value.as_str().map(str::to_owned)).collect(),
                Value::Object(map) => map.into_iter().filter(|(_, on)| *on == true).map(|(value, _)| value).collect(),
                _ => return Err(Refusal::bad(format!("the filter '{key}' is neither a list nor a set"))),
            };
            filters.insert(key, values);
        }
        Ok(Self(filters))
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|values| !values.is_empty())
    }

    pub(crate) fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// Takes a key out.
    pub(crate) fn take(&mut self, key: &str) -> Vec<String> {
        self.0.remove(key).unwrap_or_default()
    }

    /// Adds a value.
    pub(crate) fn add(&mut self, key: &str, value: &str) {
        self.0.entry(key.to_owned()).or_default().push(value.to_owned());
    }

    /// True without values, else if one of them satisfies `holds`.
    pub(crate) fn any(&self, key: &str, holds: impl Fn(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| holds(value))
    }

    /// Whether all values satisfy `holds`.
    pub(crate) fn all(&self, key: &str, holds: impl Fn(&str) -> bool) -> bool {
        self.values(key).iter().all(|value| holds(value))
    }

    /// Whether labels have every wanted `key` or `key=value`.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &str| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        self.all("label", has) && self.all("label!", |wanted| !has(wanted))
    }

    /// As an engine takes them.
    pub(crate) fn encoded(&self) -> String {
        let map: Map<String, Value> = self
            .0
            .iter()
            .map(|(key, values)| {
                let set: Map<String, Value> = values.iter().map(|value| (value.clone(), json!(true))).collect();
                (key.clone(), Value::Object(set))
            })
            .collect();
        super::query::encode(&Value::Object(map).to_string())
    }
}

/// Docker's way of matching names: equal, or a regular expression that is found in it.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    pattern == text || Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
}
