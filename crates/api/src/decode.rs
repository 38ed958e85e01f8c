//! Lenient decoding of requests, led by the schema of the type that is wanted.
//!
//! Clients of many ages send numbers and booleans as text, and some send forms instead of JSON. Before serde sees
//! a value it is brought into the shape of its type: text that spells a number or a boolean becomes one, nulls
//! go away, unknown fields are collected, missing ones are named. Everything else is refused with the path of the
//! field, never with its value, which may be a secret.

use std::any::{TypeId, type_name};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::refusal::{Code, Refusal};
use crate::signature::decode_pairs;
use shape::{Field, Shape, Shapes};

mod shape;

/// Unknown fields beyond this number are not listed.
const UNKNOWN_FIELDS_MAX: usize = 32;
/// Longer paths of fields are cut, in characters.
const PATH_LENGTH_MAX: usize = 200;
/// What stands for a secret in a redacted value.
const REDACTED: &str = "******";
/// Parameters of the protocol itself, which are no operation's own.
const COMMON_QUERY: &[&str] = &["RegionId", "region_id"];

/// A decoded request.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded<T> {
    /// The request.
    pub value: T,
    /// Paths of fields that the operation does not know. They are ignored, and noted in the task's events.
    pub unknown_fields: Vec<String>,
}

/// Decodes the body of a request. An empty body is an empty object.
///
/// Refuses with `UnsupportedMediaType`, `InvalidParameter` or `MissingParameter`.
pub fn decode_body<T>(content_type: Option<&str>, body: &[u8]) -> Result<Decoded<T>, Refusal>
where
    T: DeserializeOwned + JsonSchema + 'static,
{
    if body.iter().all(u8::is_ascii_whitespace) {
        return decode_value(Value::Object(Map::new()));
    }
    match body_kind(content_type)? {
        BodyKind::Json => decode_value(parse_json(body)?),
        BodyKind::Form => {
            let text = std::str::from_utf8(body)
                .map_err(|_| Refusal::new(Code::InvalidParameter, "The form in the body is not UTF-8."))?;
            let pairs: Vec<_> = decode_pairs(text).into_iter().map(|pair| (pair.key, pair.value)).collect();
            decode_pairs_as(&pairs)
        }
    }
}

/// Decodes the query of a request, given as decoded names and values.
///
/// Refuses with `InvalidParameter` or `MissingParameter`. The region, which any request may name, is not reported
/// as unknown.
pub fn decode_query<T>(pairs: &[(String, String)]) -> Result<Decoded<T>, Refusal>
where
    T: DeserializeOwned + JsonSchema + 'static,
{
    let mut decoded: Decoded<T> = decode_pairs_as(pairs)?;
    decoded.unknown_fields.retain(|name| !COMMON_QUERY.contains(&name.as_str()));
    Ok(decoded)
}

/// Decodes a JSON value that is already parsed.
pub fn decode_value<T>(mut value: Value) -> Result<Decoded<T>, Refusal>
where
    T: DeserializeOwned + JsonSchema + 'static,
{
    let shapes = shapes_of::<T>();
    let mut fitting = Fitting { shapes: &shapes, path: String::new(), unknown_fields: Vec::new() };
    if value.is_null() {
        value = Value::Object(Map::new());
    }
    fitting.fit(shapes.root, &mut value)?;
    let unknown_fields = fitting.unknown_fields;
    // After fitting only what no schema says can go wrong here.
    let value = serde_json::from_value(value)
        .map_err(|error| Refusal::new(Code::InvalidParameter, format!("The request cannot be read: {error}.")))?;
    Ok(Decoded { value, unknown_fields })
}

/// The value as JSON with every secret in it replaced, for storing and logging.
pub fn redacted<T>(value: &T) -> Value
where
    T: Serialize + JsonSchema + 'static,
{
    let shapes = shapes_of::<T>();
    let mut json = serde_json::to_value(value).unwrap_or_default();
    redact(&shapes, shapes.root, &mut json);
    json
}

enum BodyKind {
    Json,
    Form,
}

fn body_kind(content_type: Option<&str>) -> Result<BodyKind, Refusal> {
    let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let xml = media_type.ends_with("/xml") || media_type.ends_with("+xml");
    match media_type.as_str() {
        _ if xml => {}
        "" | "application/json" | "application/octet-stream" => return Ok(BodyKind::Json),
        "application/x-www-form-urlencoded" => return Ok(BodyKind::Form),
        other if other.starts_with("text/") || other.ends_with("+json") => {
            return Ok(BodyKind::Json);
        }
        _ => {}
    }
    Err(Refusal::new(
        Code::UnsupportedMediaType,
        "The request body must be application/json (or a form); other kinds are not read.",
    ))
}

fn parse_json(body: &[u8]) -> Result<Value, Refusal> {
    // Editors of some systems begin a file with a byte order mark.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    // serde_json limits the depth to 128.
    serde_json::from_slice(body)
        .map_err(|error| Refusal::new(Code::InvalidParameter, format!("The request body is not valid JSON: {error}.")))
}

fn decode_pairs_as<T>(pairs: &[(String, String)]) -> Result<Decoded<T>, Refusal>
where
    T: DeserializeOwned + JsonSchema + 'static,
{
    let shapes = shapes_of::<T>();
    let mut object = Map::new();
    for (name, text) in pairs {
        let shape = shapes.field(shapes.root, name).map_or(&Shape::Text, |field| shapes.get(field.shape));
        let Some(value) = value_of_text(&shapes, shape, name, text)? else {
            continue;
        };
        match (object.get_mut(name), value) {
            (Some(Value::Array(before)), Value::Array(mut more)) => before.append(&mut more),
            (Some(before), value) if *before == value => {}
            (Some(_), _) => {
                return Err(Refusal::invalid(&cut(name), "is given twice with different values"));
            }
            (None, value) => {
                object.insert(name.clone(), value);
            }
        }
    }
    decode_value(Value::Object(object))
}

/// The value of a parameter in a form or query, or nothing if it is there but empty and cannot be text.
fn value_of_text(shapes: &Shapes, shape: &Shape, name: &str, text: &str) -> Result<Option<Value>, Refusal> {
    let value = match shape {
        Shape::Text | Shape::Secret => Value::from(text),
        _ if text.trim().is_empty() => return Ok(None),
        Shape::Integer | Shape::Number | Shape::Boolean => Value::from(text.trim()),
        Shape::List(item) if !text.trim_start().starts_with('[') => {
            if !matches!(shapes.get(*item), Shape::Text) {
                return Err(Refusal::invalid(&cut(name), "must be a JSON array"));
            }
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Value::from).collect()
        }
        Shape::Any => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        Shape::List(_) | Shape::Table(_) | Shape::Object(_) => serde_json::from_str(text)
            .map_err(|error| Refusal::invalid(&cut(name), format_args!("is not valid JSON: {error}")))?,
    };
    Ok(Some(value))
}

/// Brings a value into the shape of its type.
struct Fitting<'a> {
    shapes: &'a Shapes,
    /// The field that is looked at, for messages.
    path: String,
    unknown_fields: Vec<String>,
}

impl Fitting<'_> {
    fn fit(&mut self, shape: usize, value: &mut Value) -> Result<(), Refusal> {
        let shapes = self.shapes;
        match (shapes.get(shape), &mut *value) {
            (Shape::Any, _) => Ok(()),
            (Shape::Text | Shape::Secret, Value::String(_)) => Ok(()),
            (Shape::Boolean, Value::Bool(_)) => Ok(()),
            (Shape::Integer, Value::Number(number)) if number.is_i64() => Ok(()),
            (Shape::Number, Value::Number(_)) => Ok(()),
            (Shape::Object(fields), Value::Object(object)) => self.fit_object(fields, object),
            (Shape::List(item), Value::Array(items)) => self.fit_list(*item, items),
            (Shape::Table(item), Value::Object(entries)) => self.fit_table(*item, entries),
            (wanted, given) => match converted(wanted, given) {
                Some(fitting) => {
                    *value = fitting;
                    Ok(())
                }
                None => Err(self.mismatch(wanted, value)),
            },
        }
    }

    fn fit_object(&mut self, fields: &HashMap<String, Field>, object: &mut Map<String, Value>) -> Result<(), Refusal> {
        object.retain(|_, value| !value.is_null());
        for (name, value) in object.iter_mut() {
            let outer = self.enter(name);
            match fields.get(name) {
                Some(field) => self.fit(field.shape, value)?,
                None if self.unknown_fields.len() < UNKNOWN_FIELDS_MAX => self.unknown_fields.push(cut(&self.path)),
                None => {}
            }
            self.path.truncate(outer);
        }
        let missing = fields.iter().filter(|(name, field)| field.mandatory && !object.contains_key(*name));
        // The first in the alphabet, so that the same request is always answered the same way.
        match missing.map(|(name, _)| name).min() {
            None => Ok(()),
            Some(name) => {
                self.enter(name);
                Err(Refusal::missing(&cut(&self.path)))
            }
        }
    }

    fn fit_list(&mut self, item: usize, items: &mut [Value]) -> Result<(), Refusal> {
        for (index, value) in items.iter_mut().enumerate() {
            let outer = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            self.fit(item, value)?;
            self.path.truncate(outer);
        }
        Ok(())
    }

    fn fit_table(&mut self, item: usize, entries: &mut Map<String, Value>) -> Result<(), Refusal> {
        entries.retain(|_, value| !value.is_null());
        for (name, value) in entries.iter_mut() {
            let outer = self.enter(name);
            self.fit(item, value)?;
            self.path.truncate(outer);
        }
        Ok(())
    }

    /// Appends a name to the path and returns the length it had before.
    fn enter(&mut self, name: &str) -> usize {
        let outer = self.path.len();
        if outer > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        outer
    }

    fn mismatch(&self, wanted: &Shape, given: &Value) -> Refusal {
        let reason = format!("must be {}, not {}", wanted.in_words(), kind_in_words(given));
        match self.path.as_str() {
            "" => Refusal::new(Code::InvalidParameter, format!("The request body {reason}.")),
            path => Refusal::invalid(&cut(path), reason),
        }
    }
}

/// The value as the scalar that is wanted, if it spells one exactly.
fn converted(wanted: &Shape, given: &Value) -> Option<Value> {
    match (wanted, given) {
        (Shape::Boolean, Value::String(text)) if text.eq_ignore_ascii_case("true") => Some(Value::Bool(true)),
        (Shape::Boolean, Value::String(text)) if text.eq_ignore_ascii_case("false") => Some(Value::Bool(false)),
        (Shape::Integer, Value::String(text)) => {
            let number: i64 = text.parse().ok()?;
            // Only the spelling that JSON has too: no plus sign, no leading zeros.
            (number.to_string() == *text).then(|| Value::from(number))
        }
        (Shape::Integer, Value::Number(number)) => {
            // Some languages have no integers in JSON and write 3.0.
            let float = number.as_f64()?;
            let exact = float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0;
            exact.then(|| Value::from(float as i64))
        }
        (Shape::Number, Value::String(text)) => match serde_json::from_str(text) {
            Ok(Value::Number(number)) if !text.contains(char::is_whitespace) => Some(Value::Number(number)),
            _ => None,
        },
        _ => None,
    }
}

fn kind_in_words(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "this number",
        Value::String(_) => "this text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn cut(path: &str) -> String {
    path.chars().take(PATH_LENGTH_MAX).collect()
}

fn redact(shapes: &Shapes, shape: usize, value: &mut Value) {
    match (shapes.get(shape), value) {
        (Shape::Secret, secret @ Value::String(_)) => *secret = Value::from(REDACTED),
        (Shape::List(item), Value::Array(items)) => items.iter_mut().for_each(|value| redact(shapes, *item, value)),
        (Shape::Table(item), Value::Object(entries)) => {
            entries.values_mut().for_each(|value| redact(shapes, *item, value));
        }
        (Shape::Object(fields), Value::Object(object)) => {
            for (name, value) in object.iter_mut() {
                if let Some(field) = fields.get(name) {
                    redact(shapes, field.shape, value);
                }
            }
        }
        _ => {}
    }
}

/// The shapes of a type, compiled once.
fn shapes_of<T: JsonSchema + 'static>() -> Arc<Shapes> {
    static CACHE: OnceLock<RwLock<HashMap<TypeId, Arc<Shapes>>>> = OnceLock::new();
    let cache = CACHE.get_or_init(Default::default);
    if let Some(shapes) = cache.read().unwrap_or_else(PoisonError::into_inner).get(&TypeId::of::<T>()) {
        return Arc::clone(shapes);
    }
    let shapes = Arc::new(Shapes::compile::<T>());
    debug_assert!(!shapes.is_unclear(), "the schema of {} has forms that decoding does not know", type_name::<T>());
    let mut cache = cache.write().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(cache.entry(TypeId::of::<T>()).or_insert(shapes))
}
