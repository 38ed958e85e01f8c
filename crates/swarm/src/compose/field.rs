//! A value with its place in the template, read as what it should be.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde_json::{Map, Value};

use super::{
    error::{Result, TemplateError},
    limits::MAX_ITEMS,
    values,
};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    /// Place, `services.web.ports[1]`.
    pub(super) path: String,
    /// What stands there.
    pub(super) value: &'a Value,
}

impl<'a> Field<'a> {
    /// A value at this place.
    pub(super) fn new(path: impl Into<String>, value: &'a Value) -> Self {
        Self { path: path.into(), value }
    }

    /// A refusal of this value.
    pub(super) fn wrong(&self, message: impl Into<String>) -> TemplateError {
        TemplateError::new(&self.path, message)
    }

    fn not(&self, wanted: &str) -> TemplateError {
        self.wrong(format!("{} was expected, not {}", wanted, kind(self.value)))
    }

    fn bounded(&self, items: usize) -> Result<()> {
        if items <= MAX_ITEMS {
            return Ok(());
        }
        Err(self.wrong(format!("{items} entries are too many; at most {MAX_ITEMS}")))
    }

    /// What stands under this key; nothing if it is null.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let value = self.value.get(key).filter(|value| !value.is_null())?;
        Some(Self::new(join(&self.path, key), value))
    }

    /// The entries of a map, by key: what is made of them depends on no other order.
    pub(super) fn entries(&self) -> Result<Vec<(&'a str, Self)>> {
        let Value::Object(map) = self.value else { return Err(self.not("a map")) };
        self.bounded(map.len())?;
        let entry = |(key, value): (&'a String, &'a Value)| (key.as_str(), Self::new(join(&self.path, key), value));
        let mut entries: Vec<_> = map.iter().map(entry).collect();
        entries.sort_by_key(|(key, _)| *key);
        Ok(entries)
    }

    /// Makes sure that this is a map with no other keys than these and `x-…`.
    pub(super) fn keys(&self, known: &[&str]) -> Result<()> {
        for (key, entry) in self.entries()? {
            if !known.contains(&key) && !key.starts_with("x-") {
                return Err(entry.wrong(format!("is not known here; known are {}", known.join(", "))));
            }
        }
        Ok(())
    }

    /// The items of a list.
    pub(super) fn items(&self) -> Result<Vec<Self>> {
        let Value::Array(items) = self.value else { return Err(self.not("a list")) };
        self.bounded(items.len())?;
        Ok(items.iter().enumerate().map(|(at, item)| Self::new(format!("{}[{at}]", self.path), item)).collect())
    }

    /// A string.
    pub(super) fn text(&self) -> Result<&'a str> {
        match self.value {
            Value::String(text) if text.contains('\0') => Err(self.wrong("a NUL character cannot be used")),
            Value::String(text) => Ok(text),
            Value::Number(_) | Value::Bool(_) => {
                Err(self.wrong(format!("a string was expected, not {}; quote it", kind(self.value))))
            }
            _ => Err(self.not("a string")),
        }
    }

    /// A string that is not empty.
    pub(super) fn filled(&self) -> Result<&'a str> {
        let text = self.text()?;
        if text.trim().is_empty() { Err(self.wrong("must not be empty")) } else { Ok(text) }
    }

    /// A string, number or boolean as text; `None` for null.
    pub(super) fn scalar(&self) -> Result<Option<String>> {
        match self.value {
            Value::String(_) => self.text().map(|text| Some(text.to_owned())),
            Value::Number(number) => Ok(Some(number.to_string())),
            Value::Bool(value) => Ok(Some(value.to_string())),
            Value::Null => Ok(None),
            _ => Err(self.not("a string, number or null")),
        }
    }

    /// A whole number of this range, or a string that spells one.
    pub(super) fn integer(&self, range: RangeInclusive<i64>) -> Result<i64> {
        let number = match self.value {
            Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            Value::String(text) => text.trim().parse().ok(),
            _ => return Err(self.not("a whole number")),
        };
        let number = number.ok_or_else(|| self.wrong(format!("{} is not a whole number", self.value)))?;
        if range.contains(&number) {
            return Ok(number);
        }
        Err(self.wrong(match (*range.start(), *range.end()) {
            (start, i64::MAX) => format!("{number} is too small; at least {start}"),
            (start, end) => format!("{number} is not from {start} to {end}"),
        }))
    }

    /// A count.
    pub(super) fn count(&self, most: u32) -> Result<u32> {
        let number = self.integer(0..=i64::from(most))?;
        u32::try_from(number).map_err(|_| self.wrong(format!("{number} is too large")))
    }

    /// A number that is not negative, or a string that spells one.
    pub(super) fn number(&self) -> Result<f64> {
        let number = match self.value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => return Err(self.not("a number")),
        };
        number
            .filter(|number: &f64| number.is_finite() && *number >= 0.0)
            .ok_or_else(|| self.wrong(format!("{} is not a number from 0", self.value)))
    }

    /// A boolean, or a string that spells one.
    pub(super) fn boolean(&self) -> Result<bool> {
        match self.value {
            Value::Bool(value) => Ok(*value),
            Value::String(text) => {
                values::boolean(text).ok_or_else(|| self.wrong(format!("`{text}` is neither true nor false")))
            }
            _ => Err(self.not("true or false")),
        }
    }

    /// Bytes: a number, or a string with a unit.
    pub(super) fn size(&self) -> Result<i64> {
        match self.value {
            Value::Number(_) => self.integer(0..=i64::MAX),
            Value::String(text) => values::size(text).ok_or_else(|| {
                self.wrong(format!("`{text}` is not a number of bytes; write for example 512m or 1.5gb"))
            }),
            _ => Err(self.not("a number of bytes")),
        }
    }

    /// Nanoseconds: a string with units.
    pub(super) fn duration(&self) -> Result<i64> {
        let text = self.scalar()?.unwrap_or_default();
        values::duration(&text)
            .ok_or_else(|| self.wrong(format!("`{text}` is not a duration; write for example 90s, 1m30s or 500ms")))
    }

    /// A list of strings without repetition.
    pub(super) fn texts(&self) -> Result<Vec<String>> {
        let mut texts: Vec<String> = Vec::new();
        for item in self.items()? {
            let text = item.filled()?;
            if texts.iter().any(|seen| seen == text) {
                return Err(item.wrong(format!("`{text}` stands here twice")));
            }
            texts.push(text.to_owned());
        }
        Ok(texts)
    }

    /// A list of strings in their order, repetitions and empty ones allowed.
    pub(super) fn words(&self) -> Result<Vec<String>> {
        self.items()?.iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    /// A string or a list of strings.
    pub(super) fn text_or_texts(&self) -> Result<Vec<String>> {
        if self.value.is_string() { Ok(vec![self.filled()?.to_owned()]) } else { self.texts() }
    }

    /// A map of scalars, or a list of `key=value`. A key without value is `None`.
    pub(super) fn pairs(&self) -> Result<BTreeMap<String, Option<String>>> {
        let mut pairs = BTreeMap::new();
        if self.value.is_array() {
            for item in self.items()? {
                let text = item.filled()?;
                let (key, value) = match text.split_once('=') {
                    Some((key, value)) => (key, Some(value.to_owned())),
                    None => (text, None),
                };
                if key.is_empty() {
                    return Err(item.wrong(format!("`{text}` has no key before `=`")));
                }
                pairs.insert(key.to_owned(), value);
            }
            return Ok(pairs);
        }
        let Value::Object(_) = self.value else { return Err(self.not("a map or a list")) };
        for (key, entry) in self.entries()? {
            if key.is_empty() {
                return Err(self.wrong("a key is empty"));
            }
            pairs.insert(key.to_owned(), entry.scalar()?);
        }
        Ok(pairs)
    }

    /// A map of scalars, or a list of `key=value`; no value is the empty text.
    pub(super) fn filled_pairs(&self) -> Result<BTreeMap<String, String>> {
        Ok(self.pairs()?.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
    }

    /// A map of scalars only.
    pub(super) fn options(&self) -> Result<BTreeMap<String, String>> {
        let entries = self.entries()?;
        entries.into_iter().map(|(key, entry)| Ok((key.to_owned(), entry.scalar()?.unwrap_or_default()))).collect()
    }
}

/// A place inside another.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The map as a JSON object of strings.
pub(super) fn object(map: BTreeMap<String, String>) -> Value {
    Value::Object(map.into_iter().map(|(key, value)| (key, Value::String(value))).collect::<Map<_, _>>())
}

fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[allow(clippy::cast_possible_truncation)]
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
