#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod basic;
mod bodies;
mod bombs;
mod extends;
mod labels;
mod networks;
mod order;
mod properties;
mod refusals;
mod substitution;
mod volumes;
mod yaml;

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Context, Template, TemplateError, read, template::Service};

/// Reads a template with these variables.
fn with(text: &str, variables: &[(&str, &str)]) -> Result<Template, TemplateError> {
    let variables: BTreeMap<_, _> =
        variables.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    read(text, &variables, &Context { project: "test".to_owned() })
}

/// Reads a template without variables.
fn template(text: &str) -> Template {
    with(text, &[]).unwrap_or_else(|error| panic!("{error}\nin\n{text}"))
}

/// Why a template is refused.
fn refusal(text: &str) -> String {
    match with(text, &[]) {
        Ok(template) => panic!("was read: {template:#?}"),
        Err(error) => error.to_string(),
    }
}

/// A service of a template of the second format that has these lines beside its image.
fn web(lines: &str) -> Service {
    template(&later(lines)).services.remove("web").unwrap()
}

/// Why a service with these lines is refused.
fn web_refusal(lines: &str) -> String {
    refusal(&later(lines))
}

/// Two services, `web` with these lines; a volume and a network.
fn later(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "version: '2.4'\nservices:\n  web:\n    image: nginx\n{lines}  db:\n    image: mysql\n\
         volumes: {{data: }}\nnetworks: {{back: {{internal: true}}}}\n"
    )
}

/// What `HostConfig` has under this key.
fn host(service: &Service, key: &str) -> Value {
    service.container["HostConfig"][key].clone()
}
