//! YAML to plain values: anchors and merge keys expanded, every key a string, all of it bounded.
//!
//! The parser bounds nesting (128) and jumps through anchors relative to the size of the text; that still lets a megabyte
//! become gigabytes. So nodes and bytes are counted while values are made, and reading ends with the first too many.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::{Map, Number, Value};

use super::{
    error::{Result, TemplateError},
    limits::{MAX_DEPTH, MAX_NODES, MAX_TEMPLATE_BYTES, MAX_TEXT_BYTES},
};

/// What may still be made of a template.
#[derive(Debug)]
pub(super) struct Budget {
    nodes: Cell<usize>,
    bytes: Cell<usize>,
}

impl Budget {
    /// The budget of one template.
    pub(super) fn new() -> Self {
        Self { nodes: Cell::new(MAX_NODES), bytes: Cell::new(MAX_TEXT_BYTES) }
    }

    /// Takes one node with a text of this length.
    pub(super) fn take(&self, bytes: usize) -> std::result::Result<(), String> {
        let nodes = self.nodes.get().checked_sub(1);
        let nodes = nodes.ok_or_else(|| format!("the template has more than {MAX_NODES} values, anchors expanded"))?;
        let left = self.bytes.get().checked_sub(bytes);
        let left = left.ok_or_else(|| {
            format!("the values of the template have more than {MAX_TEXT_BYTES} bytes, anchors expanded")
        })?;
        self.nodes.set(nodes);
        self.bytes.set(left);
        Ok(())
    }

    /// Takes all nodes of a value that is copied.
    pub(super) fn take_value(&self, value: &Value) -> std::result::Result<(), String> {
        match value {
            Value::String(text) => self.take(text.len()),
            Value::Array(items) => {
                self.take(0)?;
                items.iter().try_for_each(|item| self.take_value(item))
            }
            Value::Object(map) => {
                self.take(0)?;
                map.iter().try_for_each(|(key, value)| {
                    self.take(key.len())?;
                    self.take_value(value)
                })
            }
            _ => self.take(0),
        }
    }
}

/// Reads a document.
pub(super) fn parse(text: &str) -> Result<Value> {
    if text.len() > MAX_TEMPLATE_BYTES {
        let message = format!("the template has {} bytes; at most {MAX_TEMPLATE_BYTES} are read", text.len());
        return Err(TemplateError::new("", message));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    refuse_deep_nesting(text)?;
    let budget = Budget::new();
    let node = Node { budget: &budget, depth: 0 };
    node.deserialize(serde_yaml_ng::Deserializer::from_str(text))
        .map_err(|error| TemplateError::new("", format!("the template cannot be read as YAML: {error}")))
}

/// Refuses text that can only be nested too deep. The parser's scanner needs time in proportion to the square of the number
/// of open brackets, long before anything here sees the first of them.
fn refuse_deep_nesting(text: &str) -> Result<()> {
    const RUN: usize = 8 * MAX_DEPTH;
    let mut run = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' | b'-' | b'?' | b':' => run += 1,
            b' ' | b'\t' | b'\n' | b'\r' | b',' => {}
            _ => run = 0,
        }
        if run > RUN && !matches!(byte, b'-') {
            let message = format!("the template nests lists and maps deeper than {MAX_DEPTH}");
            return Err(TemplateError::new("", message));
        }
    }
    Ok(())
}

/// One value, still to be read.
#[derive(Clone, Copy)]
struct Node<'b> {
    budget: &'b Budget,
    depth: usize,
}

impl Node<'_> {
    fn take<E: serde::de::Error>(self, bytes: usize) -> std::result::Result<(), E> {
        self.budget.take(bytes).map_err(E::custom)
    }

    fn inner<E: serde::de::Error>(self) -> std::result::Result<Self, E> {
        self.take(0)?;
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format!("lists and maps are nested deeper than {MAX_DEPTH}")));
        }
        Ok(Self { budget: self.budget, depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value without a tag of its own")
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> std::result::Result<Value, E> {
        self.take(0)?;
        Ok(Value::Bool(value))
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> std::result::Result<Value, E> {
        self.take(0)?;
        Ok(Value::from(value))
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> std::result::Result<Value, E> {
        self.take(0)?;
        Ok(Value::from(value))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> std::result::Result<Value, E> {
        self.take(0)?;
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::invalid_value(Unexpected::Float(value), &"a finite number"))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> std::result::Result<Value, E> {
        self.take(value.len())?;
        Ok(Value::String(value.to_owned()))
    }
    fn visit_unit<E: serde::de::Error>(self) -> std::result::Result<Value, E> {
        self.take(0)?;
        Ok(Value::Null)
    }
    fn visit_none<E: serde::de::Error>(self) -> std::result::Result<Value, E> {
        self.visit_unit()
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> std::result::Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut map = Map::new();
        let mut merged = None;
        while let Some(key) = access.next_key_seed(inner)? {
            let Value::String(key) = key else {
                return Err(A::Error::custom(format!("the key {key} is not a string; quote it")));
            };
            let value = access.next_value_seed(inner)?;
            if key == "<<" {
                if merged.replace(value).is_some() {
                    return Err(A::Error::custom("`<<` stands twice in one map; write `<<: [*a, *b]`"));
                }
            } else if map.insert(key.clone(), value).is_some() {
                return Err(A::Error::custom(format!("the key `{key}` stands twice in one map")));
            }
        }
        match merged {
            Some(from) => merge(map, from).map(Value::Object).map_err(A::Error::custom),
            None => Ok(Value::Object(map)),
        }
    }
}

/// Takes over what a merge key brings and the map itself lacks; of several, the first that has a key wins.
fn merge(mut map: Map<String, Value>, from: Value) -> std::result::Result<Map<String, Value>, &'static str> {
    const WANTED: &str = "`<<` takes a map or a list of maps";
    let sources = match from {
        Value::Object(source) => vec![source],
        Value::Array(items) => {
            let sources = items.into_iter().map(|item| match item {
                Value::Object(source) => Ok(source),
                _ => Err(WANTED),
            });
            sources.collect::<std::result::Result<_, _>>()?
        }
        _ => return Err(WANTED),
    };
    for (key, value) in sources.into_iter().flatten() {
        map.entry(key).or_insert(value);
    }
    Ok(map)
}
