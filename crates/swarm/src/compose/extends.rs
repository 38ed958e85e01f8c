//! `extends`: a service that takes over another one of the same template.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    error::{Result, TemplateError},
    expressions::is_expression,
    field::{Field, join},
    limits::MAX_ITEMS,
    yaml::Budget,
};

/// Resolves what extends.
pub(super) struct Extends<'a> {
    services: &'a Map<String, Value>,
    /// Place of the services.
    path: &'a str,
    done: BTreeMap<String, Value>,
    budget: Budget,
}

/// Every service with what it extends merged in.
pub(super) fn resolve(services: &Map<String, Value>, path: &str) -> Result<BTreeMap<String, Value>> {
    let mut extends = Extends { services, path, done: BTreeMap::new(), budget: Budget::new() };
    for name in services.keys() {
        extends.service(name, &mut Vec::new())?;
    }
    Ok(extends.done)
}

impl Extends<'_> {
    fn service(&mut self, name: &str, above: &mut Vec<String>) -> Result<()> {
        if self.done.contains_key(name) {
            return Ok(());
        }
        let Some(own) = self.services.get(name) else { return Ok(()) };
        let field = Field::new(join(self.path, name), own);
        let resolved = match field.get("extends") {
            None => own.clone(),
            Some(extends) => {
                let base = base_name(&extends)?;
                if !self.services.contains_key(base) {
                    return Err(extends.wrong(format!("there is no service `{base}` in the template")));
                }
                above.push(name.to_owned());
                if let Some(at) = above.iter().position(|other| other == base) {
                    let cycle = format!("{} → {base}", above[at..].join(" → "));
                    return Err(extends.wrong(format!("services extend each other: {cycle}")));
                }
                self.service(base, above)?;
                above.pop();
                match (self.done.get(base), own) {
                    (Some(Value::Object(base)), Value::Object(own)) => Value::Object(merge_service(base, own)),
                    _ => own.clone(),
                }
            }
        };
        self.budget
            .take_value(&resolved)
            .map_err(|why| TemplateError::new("", format!("{why} and `extends` resolved")))?;
        self.done.insert(name.to_owned(), resolved);
        Ok(())
    }
}

fn base_name<'a>(extends: &Field<'a>) -> Result<&'a str> {
    if extends.value.is_string() {
        return extends.filled();
    }
    extends.keys(&["file", "service"])?;
    if let Some(file) = extends.get("file") {
        return Err(file.wrong("there are no files beside the template; put the service into it"));
    }
    let service = extends.get("service").ok_or_else(|| extends.wrong("`service` is missing"))?;
    service.filled()
}

/// How two values of a key become one.
#[derive(Clone, Copy)]
enum Merge {
    /// Maps, or lists of `key=value`; of the same key the own value holds.
    Pairs,
    /// Lists of names, or maps; a map inside is merged too.
    NamedMaps,
    /// Lists; what stands in both stands once.
    Union,
    /// Lists; of those for the same path in the container the own holds.
    Paths,
    /// A string or a list, both become one list.
    Concatenate,
    /// Maps, down to the values.
    Deep,
}

fn how(key: &str) -> Option<Merge> {
    Some(match key {
        "environment" | "labels" | "sysctls" | "annotations" => Merge::Pairs,
        "depends_on" | "networks" => Merge::NamedMaps,
        "cap_add"
        | "cap_drop"
        | "device_cgroup_rules"
        | "expose"
        | "external_links"
        | "links"
        | "ports"
        | "profiles"
        | "security_opt"
        | "volumes_from" => Merge::Union,
        "volumes" | "devices" => Merge::Paths,
        "dns" | "dns_search" | "tmpfs" => Merge::Concatenate,
        "blkio_config" | "deploy" | "extra_hosts" | "healthcheck" | "logging" | "storage_opt" | "ulimits" => {
            Merge::Deep
        }
        _ => return None,
    })
}

fn merge_service(base: &Map<String, Value>, own: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = base.clone();
    for (key, value) in own {
        let both = match (merged.get(key), how(key)) {
            (Some(base), Some(how)) if !value.is_null() => merge(how, key, base, value),
            _ => None,
        };
        merged.insert(key.clone(), both.unwrap_or_else(|| value.clone()));
    }
    merged
}

/// `None`: one of them has no shape that can be merged, or is too long; the own is taken, and refused when it is read.
fn merge(how: Merge, key: &str, base: &Value, own: &Value) -> Option<Value> {
    let is_short = |value: &Value| value.as_array().is_none_or(|items| items.len() <= MAX_ITEMS);
    if !is_short(base) || !is_short(own) {
        return None;
    }
    match how {
        Merge::Pairs => {
            let mut merged = pairs(base)?;
            merged.extend(pairs(own)?);
            Some(json!(merged.into_values().collect::<Vec<_>>()))
        }
        Merge::NamedMaps => Some(deep(&named(base, key)?, &named(own, key)?)),
        Merge::Union => {
            let (base, own) = (base.as_array()?, own.as_array()?);
            let further = own.iter().filter(|item| !base.contains(item));
            Some(base.iter().chain(further).cloned().collect())
        }
        Merge::Paths => {
            let (base, own) = (base.as_array()?, own.as_array()?);
            let taken: BTreeSet<String> = own.iter().map(target).collect();
            Some(base.iter().filter(|item| !taken.contains(&target(item))).chain(own).cloned().collect())
        }
        Merge::Concatenate => {
            let list = |value: &Value| match value {
                Value::String(_) => Some(vec![value.clone()]),
                Value::Array(items) => Some(items.clone()),
                _ => None,
            };
            let (base, own) = (list(base)?, list(own)?);
            let further: Vec<Value> = own.into_iter().filter(|item| !base.contains(item)).collect();
            Some(base.into_iter().chain(further).collect())
        }
        // Options belong to their driver.
        Merge::Deep if key == "logging" && differ(base, own, "driver") => None,
        Merge::Deep if key == "healthcheck" && own.get("disable").is_some() => None,
        Merge::Deep => (base.is_object() && own.is_object()).then(|| deep(base, own)),
    }
}

fn differ(base: &Value, own: &Value, key: &str) -> bool {
    matches!((base.get(key), own.get(key)), (Some(base), Some(own)) if base != own)
}

/// Entries as `key=value`, by what makes them one.
fn pairs(value: &Value) -> Option<BTreeMap<String, Value>> {
    match value {
        Value::Array(items) => {
            let entries = items.iter().map(|item| {
                let text = item.as_str()?;
                let key = if is_expression(text) { text } else { text.split_once('=').map_or(text, |(key, _)| key) };
                Some((key.to_owned(), item.clone()))
            });
            entries.collect()
        }
        Value::Object(map) => {
            let entries = map.iter().map(|(key, value)| {
                let text = match value {
                    Value::Null => key.clone(),
                    Value::String(text) => format!("{key}={text}"),
                    Value::Number(_) | Value::Bool(_) => format!("{key}={value}"),
                    Value::Array(_) | Value::Object(_) => return None,
                };
                let whole = if is_expression(&text) { text.clone() } else { key.clone() };
                Some((whole, Value::String(text)))
            });
            entries.collect()
        }
        _ => None,
    }
}

/// A list of names as a map from them.
fn named(value: &Value, key: &str) -> Option<Value> {
    let empty = || if key == "depends_on" { json!({"condition": "service_started"}) } else { Value::Null };
    match value {
        Value::Array(items) => {
            let entries = items.iter().map(|item| Some((item.as_str()?.to_owned(), empty())));
            entries.collect::<Option<Map<_, _>>>().map(Value::Object)
        }
        Value::Object(_) => Some(value.clone()),
        _ => None,
    }
}

fn deep(base: &Value, own: &Value) -> Value {
    match (base, own) {
        (Value::Object(base), Value::Object(own)) => {
            let mut merged = base.clone();
            for (key, value) in own {
                let both = match merged.get(key) {
                    Some(base) if !value.is_null() => deep(base, value),
                    Some(base) => base.clone(),
                    None => value.clone(),
                };
                merged.insert(key.clone(), both);
            }
            Value::Object(merged)
        }
        _ => own.clone(),
    }
}

/// Path in the container of a mount or device, in either spelling.
fn target(item: &Value) -> String {
    let path = match item {
        Value::String(text) => {
            let mut parts = text.split(':');
            let first = parts.next().unwrap_or_default();
            parts.next().filter(|part| part.starts_with('/')).unwrap_or(first)
        }
        _ => item.get("target").and_then(Value::as_str).unwrap_or_default(),
    };
    path.trim_end_matches('/').to_owned()
}
