//! YAML to plain values: anchors and merge keys expanded, every key a string, all of it bounded.
//!
//! The parser is read event by event, so that reading ends with the first bracket too deep and the first value too many,
//! whatever follows. (A parser that first takes in the whole document needs minutes for a megabyte of open brackets.)

use std::{cell::Cell, collections::BTreeMap};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span, StrInput, Tag};
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
        let left = self.bytes.get().checked_sub(bytes);
        self.nodes
            .set(nodes.ok_or_else(|| format!("the template has more than {MAX_NODES} values, anchors expanded"))?);
        self.bytes.set(left.ok_or_else(|| {
            format!("the values of the template have more than {MAX_TEXT_BYTES} bytes, anchors expanded")
        })?);
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
    let limit = MAX_DEPTH + 1;
    let options =
        granit_parser::options! { emit_comments: false, flow_nesting_limit: limit, block_nesting_limit: limit };
    let events = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { events, budget: Budget::new(), anchors: BTreeMap::new() };
    let read = reader.document();
    read.map_err(|message| TemplateError::new("", format!("the template cannot be read as YAML: {message}")))
}

/// What is wrong, and in which line.
type Read<T> = std::result::Result<T, String>;

/// A value and how deep it is: 0 for a scalar.
#[derive(Clone)]
struct Node {
    value: Value,
    height: usize,
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    budget: Budget,
    /// What was anchored, once it is complete.
    anchors: BTreeMap<usize, Node>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Read<(Event<'t>, Span)> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let what = match error.kind() {
                    ErrorKind::RecursionLimitExceeded => too_deep(),
                    _ => error.info(),
                };
                Err(format!("line {}: {what}", error.marker().line()))
            }
            None => Err("it ends too early".to_owned()),
        }
    }

    /// The only document of the text; nothing at all is null.
    fn document(&mut self) -> Read<Value> {
        let mut document = Value::Null;
        let mut found = false;
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentEnd, _) => {}
                (Event::DocumentStart(..), span) if found => return Err(at(&span, "there is a second document")),
                (Event::DocumentStart(..), _) => found = true,
                (Event::StreamEnd, _) => return Ok(document),
                (event, span) => document = self.node(event, &span, 0)?.value,
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: &Span, depth: usize) -> Read<Node> {
        let (node, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.take(span, text.len())?;
                let value = scalar(&text, style, tag.as_deref()).map_err(|why| at(span, &why))?;
                (Node { value, height: 0 }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.enter(span, depth, tag.as_deref(), "seq")?;
                (self.sequence(depth + 1)?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.enter(span, depth, tag.as_deref(), "map")?;
                (self.mapping(depth + 1)?, anchor)
            }
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).ok_or_else(|| at(span, "an anchor contains itself"))?;
                self.budget.take_value(&node.value).map_err(|why| at(span, &why))?;
                let node = node.clone();
                check_depth(span, depth + node.height)?;
                (node, 0)
            }
            _ => return Err(at(span, "a value was expected")),
        };
        if anchor != 0 {
            self.budget.take_value(&node.value).map_err(|why| at(span, &why))?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn take(&self, span: &Span, bytes: usize) -> Read<()> {
        self.budget.take(bytes).map_err(|why| at(span, &why))
    }

    fn enter(&self, span: &Span, depth: usize, tag: Option<&Tag>, kind: &str) -> Read<()> {
        self.take(span, 0)?;
        check_depth(span, depth + 1)?;
        match tag {
            Some(tag) if tag.core_suffix() != Some(kind) => Err(at(span, &unknown_tag(tag))),
            _ => Ok(()),
        }
    }

    fn sequence(&mut self, depth: usize) -> Read<Node> {
        let mut items = Vec::new();
        let mut height = 0;
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Node { value: Value::Array(items), height: height + 1 });
            }
            let item = self.node(event, &span, depth)?;
            height = height.max(item.height);
            items.push(item.value);
        }
    }

    fn mapping(&mut self, depth: usize) -> Read<Node> {
        let mut map = Map::new();
        let mut merged = None;
        let mut height = 0;
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                let map = match merged {
                    Some((source, place)) => merge(map, source).map_err(|why| at(&place, why))?,
                    None => map,
                };
                return Ok(Node { value: Value::Object(map), height: height + 1 });
            }
            let merges = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = match self.node(event, &span, depth)?.value {
                Value::String(key) => key,
                other => return Err(at(&span, &format!("the key {} is not a string; quote it", short(&other)))),
            };
            let (event, place) = self.next()?;
            let value = self.node(event, &place, depth)?;
            height = height.max(value.height);
            if merges {
                if merged.replace((value.value, place)).is_some() {
                    return Err(at(&span, "`<<` stands twice in one map; write `<<: [*a, *b]`"));
                }
            } else if map.contains_key(&key) {
                return Err(at(&span, &format!("the key `{key}` stands twice in one map")));
            } else {
                map.insert(key, value.value);
            }
        }
    }
}

fn at(span: &Span, message: &str) -> String {
    format!("line {}: {message}", span.start.line())
}

fn check_depth(span: &Span, depth: usize) -> Read<()> {
    if depth <= MAX_DEPTH {
        return Ok(());
    }
    Err(at(span, &too_deep()))
}

fn too_deep() -> String {
    format!("lists and maps are nested deeper than {MAX_DEPTH}")
}

/// A value for a message.
fn short(value: &Value) -> String {
    match value {
        Value::Array(_) => "that is a list".to_owned(),
        Value::Object(_) => "that is a map".to_owned(),
        other => format!("`{other}`"),
    }
}

fn unknown_tag(tag: &Tag) -> String {
    format!("the tag {} is not known here", tag.original())
}

/// A scalar as YAML 1.2's core schema reads it. A number whose spelling says more than its value (`1.10`, `007`) stays a
/// string: versions and modes are meant so, and where a number is wanted the string that spells one is taken too.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Read<Value> {
    let string = || Value::String(text.to_owned());
    match tag {
        None if style == ScalarStyle::Plain => Ok(plain(text)),
        None => Ok(string()),
        Some(tag) if tag.core_suffix() == Some("str") || tag.original() == "!" => Ok(string()),
        Some(tag) => {
            let value = plain(text);
            let fits = match tag.core_suffix() {
                Some("null") => value.is_null(),
                Some("bool") => value.is_boolean(),
                Some("int") => value.is_i64() || value.is_u64(),
                Some("float") => value.is_number(),
                _ => return Err(unknown_tag(tag)),
            };
            if fits { Ok(value) } else { Err(format!("`{text}` is not what the tag {} says", tag.original())) }
        }
    }
}

fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let looks_like_number = text.len() <= 40
        && text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        && text.ends_with(|c: char| c.is_ascii_digit());
    if looks_like_number {
        let whole = text.parse::<i64>().ok().map(Number::from);
        let number = whole.or_else(|| Number::from_f64(text.parse().ok()?));
        if let Some(number) = number.filter(|number| number.to_string() == text) {
            return Value::Number(number);
        }
    }
    Value::String(text.to_owned())
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
