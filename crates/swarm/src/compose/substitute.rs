//! Variables of a template: `$NAME`, `${NAME}`, with a default, an alternative or a complaint. Only in values, never in keys.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    error::{Notes, Result, TemplateError},
    field::join,
    limits::{MAX_SUBSTITUTION_DEPTH, MAX_TEXT_BYTES, MAX_VALUE_BYTES},
};

/// Replaces variables.
pub(super) struct Substitution<'a> {
    variables: &'a BTreeMap<String, String>,
    unset: BTreeSet<String>,
    left: usize,
}

impl<'a> Substitution<'a> {
    /// With these variables.
    pub(super) fn new(variables: &'a BTreeMap<String, String>) -> Self {
        Self { variables, unset: BTreeSet::new(), left: MAX_TEXT_BYTES }
    }

    /// Replaces in everything below a value.
    pub(super) fn value(&mut self, path: &str, value: &mut Value) -> Result<()> {
        match value {
            Value::String(text) => {
                if text.contains('$') {
                    *text = self.text(text).map_err(|message| TemplateError::new(path, message))?;
                }
                self.left = self.left.checked_sub(text.len()).ok_or_else(|| {
                    TemplateError::new(
                        "",
                        format!("the template has more than {MAX_TEXT_BYTES} bytes, variables replaced"),
                    )
                })?;
            }
            Value::Array(items) => {
                for (at, item) in items.iter_mut().enumerate() {
                    self.value(&format!("{path}[{at}]"), item)?;
                }
            }
            Value::Object(map) => {
                for (key, value) in map.iter_mut() {
                    self.value(&join(path, key), value)?;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        Ok(())
    }

    /// Replaces in a text; an error says what is wrong with it.
    pub(super) fn text(&mut self, text: &str) -> std::result::Result<String, String> {
        let mut out = String::with_capacity(text.len());
        self.expand(text, &mut out, 0)?;
        Ok(out)
    }

    /// Says which variables had no value.
    pub(super) fn note(self, notes: &mut Notes) {
        for name in self.unset {
            notes.add("", &format!("the variable {name} is not set; it counts as empty"));
        }
    }

    fn expand(&mut self, text: &str, out: &mut String, depth: usize) -> std::result::Result<(), String> {
        if depth > MAX_SUBSTITUTION_DEPTH {
            return Err(format!("variables are nested deeper than {MAX_SUBSTITUTION_DEPTH}"));
        }
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            push(out, &rest[..at])?;
            let after = &rest[at + 1..];
            rest = if let Some(after) = after.strip_prefix('$') {
                push(out, "$")?;
                after
            } else if let Some(braced) = after.strip_prefix('{') {
                let end = closing(braced).ok_or_else(|| bad(text))?;
                self.braced(&braced[..end], out, depth)?;
                &braced[end + 1..]
            } else {
                let end = name_length(after);
                if end == 0 {
                    return Err(bad(text));
                }
                push(out, &self.lookup(&after[..end]))?;
                &after[end..]
            };
        }
        push(out, rest)
    }

    /// What stands between `${` and `}`.
    fn braced(&mut self, inside: &str, out: &mut String, depth: usize) -> std::result::Result<(), String> {
        let end = name_length(inside);
        let (name, rest) = inside.split_at(end);
        if name.is_empty() {
            return Err(bad(&format!("${{{inside}}}")));
        }
        let (also_empty, operator) = match rest.strip_prefix(':') {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let value = self.variables.get(name).filter(|value| !also_empty || !value.is_empty()).cloned();
        let mut operator = operator.chars();
        let kind = operator.next();
        let word = operator.as_str();
        match (kind, value) {
            (None, _) if !also_empty => push(out, &self.lookup(name)),
            (Some('-' | '?'), Some(value)) => push(out, &value),
            (Some('-'), None) | (Some('+'), Some(_)) => self.expand(word, out, depth + 1),
            (Some('+'), None) => Ok(()),
            (Some('?'), None) => {
                let mut said = String::new();
                self.expand(word, &mut said, depth + 1)?;
                let said = if said.is_empty() { String::new() } else { format!(": {said}") };
                Err(format!("the variable {name} is required and not set{said}"))
            }
            _ => Err(bad(&format!("${{{inside}}}"))),
        }
    }

    fn lookup(&mut self, name: &str) -> String {
        if let Some(value) = self.variables.get(name) {
            return value.clone();
        }
        self.unset.insert(name.to_owned());
        String::new()
    }
}

fn push(out: &mut String, text: &str) -> std::result::Result<(), String> {
    if out.len() + text.len() > MAX_VALUE_BYTES {
        return Err(format!("the value has more than {MAX_VALUE_BYTES} bytes, variables replaced"));
    }
    out.push_str(text);
    Ok(())
}

fn bad(text: &str) -> String {
    let shown: String = text.chars().take(100).collect();
    format!("`{shown}` is no way to write a variable; a `$` that stands for itself is written `$$`")
}

/// Bytes of the variable name at the beginning.
fn name_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    if !bytes.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_') {
        return 0;
    }
    bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
}

/// Where the brace is that closes the one before this text.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut open) = (0, 1_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'$' if matches!(bytes.get(at + 1), Some(b'$')) => at += 1,
            b'$' if matches!(bytes.get(at + 1), Some(b'{')) => {
                open += 1;
                at += 1;
            }
            b'}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}
