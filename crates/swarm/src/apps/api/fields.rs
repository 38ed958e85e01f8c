//! Queries and bodies. Text that spells a number or a truth value is taken for one.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::model::Refusal;

/// Longest query.
const QUERY_BYTES_MAX: usize = 8 * 1024;

/// Decodes `%XX`.
pub(super) fn decode(text: &str) -> Result<String, Refusal> {
    let wrong = || {
        Refusal::bad(
            "the URL is not encoded as it should be: after % stand two hexadecimal digits, and the result is UTF-8",
        )
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next()).ok_or_else(wrong)?, digit(rest.next()).ok_or_else(wrong)?);
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// The parameters of a URL; empty ones (`&&`) are passed over.
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(Refusal::bad(format!("the query has {} bytes, {QUERY_BYTES_MAX} are allowed", text.len())));
        }
        let mut all = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            all.insert(decode(&key.replace('+', " "))?, decode(&value.replace('+', " "))?);
        }
        Ok(Self(all))
    }

    /// The first of these parameters that is there and not empty.
    pub(super) fn text(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().find_map(|key| self.0.get(*key)).map(String::as_str).filter(|text| !text.is_empty())
    }

    pub(super) fn flag(&self, keys: &[&str], default: bool) -> Result<bool, Refusal> {
        match self.text(keys) {
            None => Ok(default),
            Some(text) => truth(text).ok_or_else(|| wrong(keys.first().unwrap_or(&""), "true or false")),
        }
    }

    pub(super) fn number(&self, keys: &[&str], max: u32) -> Result<Option<u32>, Refusal> {
        let expected = || wrong(keys.first().unwrap_or(&""), &format!("a number from 0 to {max}"));
        let number = self.text(keys).map(|text| text.parse::<u32>().map_err(|_| expected())).transpose()?;
        if number.is_some_and(|number| number > max) { Err(expected()) } else { Ok(number) }
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn wrong(field: &str, expected: &str) -> Refusal {
    Refusal::bad(format!("{field}: {expected} was expected"))
}

/// A body that is a JSON object.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) => Err(Refusal::bad("the body is not a JSON object")),
            Err(error) => Err(Refusal::bad(format!("the body is not JSON: {error}"))),
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<String>, Refusal> {
        self.get(key).map(|value| plain(value).ok_or_else(|| wrong(key, "text"))).transpose()
    }

    pub(super) fn needed_text(&self, key: &str) -> Result<String, Refusal> {
        self.text(key)?.ok_or_else(|| Refusal::bad(format!("{key}: is missing")))
    }

    pub(super) fn flag(&self, key: &str) -> Result<bool, Refusal> {
        match self.text(key)? {
            None => Ok(false),
            Some(text) if text.is_empty() => Ok(false),
            Some(text) => truth(&text).ok_or_else(|| wrong(key, "true or false")),
        }
    }

    /// A whole number up to `max` that has to be there.
    pub(super) fn number(&self, key: &str, max: u32) -> Result<u32, Refusal> {
        let number = self.needed_text(key)?.parse::<u32>().ok().filter(|number| *number <= max);
        number.ok_or_else(|| wrong(key, &format!("a number from 0 to {max}")))
    }

    /// An object of texts.
    pub(super) fn texts(&self, key: &str) -> Result<Option<BTreeMap<String, String>>, Refusal> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => {
                let pair = |(name, value): (&String, &Value)| {
                    let text = if value.is_null() { Some(String::new()) } else { plain(value) };
                    text.map(|text| (name.clone(), text)).ok_or_else(|| wrong(&format!("{key}.{name}"), "text"))
                };
                map.iter().map(pair).collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(wrong(key, "an object of names and texts")),
        }
    }
}

/// Text, or a number or truth value as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}
