//! What decoding needs to know of a type, taken from its JSON schema.

use std::collections::HashMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// The shape of a value. Numbers are places in [`Shapes`].
#[derive(Debug)]
pub(super) enum Shape {
    /// Anything; taken as it is.
    Any,
    Text,
    /// Text that must not be logged.
    Secret,
    Integer,
    Number,
    Boolean,
    List(usize),
    /// An object whose keys are data.
    Table(usize),
    Object(HashMap<String, Field>),
}

/// A field of an object.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) shape: usize,
    pub(super) mandatory: bool,
}

impl Shape {
    pub(super) fn in_words(&self) -> &'static str {
        match self {
            Self::Any => "any value",
            Self::Text | Self::Secret => "text",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::List(_) => "an array",
            Self::Table(_) | Self::Object(_) => "an object",
        }
    }
}

/// All shapes of one type.
#[derive(Debug)]
pub(super) struct Shapes {
    pub(super) root: usize,
    all: Vec<Shape>,
    /// Whether the schema had a form that is not known here, which then counts as any value.
    unclear: bool,
}

impl Shapes {
    pub(super) fn compile<T: JsonSchema>() -> Self {
        let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value();
        let no_definitions = Map::new();
        let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&no_definitions);
        let mut compiler = Compiler {
            definitions,
            // A type that contains itself refers to the whole schema, which gets the first place.
            known: HashMap::from([("#", 0)]),
            all: Vec::new(),
            unclear: false,
        };
        let root = compiler.compile(&schema);
        Self { root, all: compiler.all, unclear: compiler.unclear }
    }

    pub(super) fn get(&self, place: usize) -> &Shape {
        self.all.get(place).unwrap_or(&Shape::Any)
    }

    pub(super) fn field(&self, place: usize, name: &str) -> Option<&Field> {
        match self.get(place) {
            Shape::Object(fields) => fields.get(name),
            _ => None,
        }
    }

    pub(super) fn is_unclear(&self) -> bool {
        self.unclear
    }
}

struct Compiler<'a> {
    definitions: &'a Map<String, Value>,
    /// Definitions that have a place already, perhaps one that is still being filled.
    known: HashMap<&'a str, usize>,
    all: Vec<Shape>,
    unclear: bool,
}

impl<'a> Compiler<'a> {
    /// Compiles a schema and returns the place of its shape.
    fn compile(&mut self, schema: &'a Value) -> usize {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.compile_reference(reference);
        }
        if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
            let mut other = choices.iter().filter(|choice| choice.get("type") != Some(&Value::from("null")));
            return match (other.next(), other.next()) {
                (Some(only), None) => self.compile(only),
                _ => self.unclear(),
            };
        }
        let place = self.all.len();
        self.all.push(Shape::Any);
        let shape = self.shape(schema);
        self.all[place] = shape;
        place
    }

    fn compile_reference(&mut self, reference: &'a str) -> usize {
        let name = reference.rsplit('/').next().unwrap_or_default();
        if let Some(place) = self.known.get(name) {
            return *place;
        }
        let Some(schema) = self.definitions.get(name) else {
            return self.unclear();
        };
        // Definitions are objects of ours, never bare references, so that the place is the next one.
        self.known.insert(name, self.all.len());
        self.compile(schema)
    }

    fn unclear(&mut self) -> usize {
        self.unclear = true;
        self.all.push(Shape::Any);
        self.all.len() - 1
    }

    fn shape(&mut self, schema: &'a Value) -> Shape {
        match type_of(schema) {
            Some("string") if schema.get("format") == Some(&Value::from("password")) => Shape::Secret,
            Some("string") => Shape::Text,
            Some("integer") => Shape::Integer,
            Some("number") => Shape::Number,
            Some("boolean") => Shape::Boolean,
            Some("array") => match schema.get("items") {
                Some(items) => Shape::List(self.compile(items)),
                None => Shape::List(self.unclear()),
            },
            Some("object") => self.object(schema),
            None if schema == &Value::Bool(true) || schema.as_object().is_some_and(|map| !map.contains_key("type")) => {
                Shape::Any
            }
            _ => {
                self.unclear = true;
                Shape::Any
            }
        }
    }

    fn object(&mut self, schema: &'a Value) -> Shape {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            let required = schema.get("required").and_then(Value::as_array);
            let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|other| other == name));
            let fields = properties.iter().map(|(name, schema)| {
                let field = Field { shape: self.compile(schema), mandatory: is_required(name) };
                (name.clone(), field)
            });
            return Shape::Object(fields.collect());
        }
        match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) => Shape::Table(self.compile(values)),
            Some(Value::Bool(true)) => Shape::Table(self.any()),
            _ => Shape::Object(HashMap::new()),
        }
    }

    fn any(&mut self) -> usize {
        self.all.push(Shape::Any);
        self.all.len() - 1
    }
}

/// The type a schema names, apart from null.
fn type_of(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        _ => None,
    }
}
