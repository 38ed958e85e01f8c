//! How results are printed: data on standard output, everything else on standard error.

use comfy_table::{ContentArrangement, Table, presets::NOTHING};
use serde_json::Value;

/// `-o`
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// As the API answered.
    Json,
    /// The same as YAML.
    Yaml,
}

/// A column of a table: its heading and where its text comes from.
pub(crate) type Column = (&'static str, fn(&Value) -> String);

/// Prints a list: a table with these columns, or the value itself.
pub(crate) fn print_list(format: Format, whole: &Value, items: &[Value], columns: &[Column]) -> anyhow::Result<()> {
    match format {
        Format::Table => {
            let mut table = Table::new();
            table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
            table.set_header(columns.iter().map(|(heading, _)| *heading));
            for item in items {
                table.add_row(columns.iter().map(|(_, cell)| cell(item)));
            }
            for column in table.column_iter_mut() {
                column.set_padding((0, 2));
            }
            for line in table.lines() {
                println!("{}", line.trim_end());
            }
            Ok(())
        }
        other => print_value(other, whole),
    }
}

/// Prints one object: `name: value` lines, or the value itself.
pub(crate) fn print_object(format: Format, value: &Value, fields: &[(&str, String)]) -> anyhow::Result<()> {
    match format {
        Format::Table => {
            let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
            for (name, text) in fields.iter().filter(|(_, text)| !text.is_empty()) {
                println!("{name:width$}  {text}");
            }
            Ok(())
        }
        other => print_value(other, value),
    }
}

/// Prints a value as JSON or YAML.
pub(crate) fn print_value(format: Format, value: &Value) -> anyhow::Result<()> {
    match format {
        Format::Yaml => print!("{}", serde_yaml_ng::to_string(value)?),
        Format::Json | Format::Table => println!("{}", serde_json::to_string_pretty(value)?),
    }
    Ok(())
}

/// The text of a scalar, empty for null.
pub(crate) fn scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The entries of an array, empty for anything else.
pub(crate) fn entries(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}
