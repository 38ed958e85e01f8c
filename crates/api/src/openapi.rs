//! The description of the API in OpenAPI 3.1, made from the table of operations.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::operation::Operation;
use crate::operations::OPERATIONS;
use crate::refusal::{Code, RefusalBody};
use crate::{API_VERSION, encode::Format};

/// The whole description. `server_version` is the version of the program that serves it.
pub fn document(server_version: &str) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut generator = settings.into_generator();
    let refusal = generator.subschema_for::<RefusalBody>();

    let mut paths = Map::new();
    for operation in OPERATIONS {
        for (index, path) in operation.paths().enumerate() {
            let item = paths.entry(path).or_insert_with(|| json!({}));
            let description = describe(operation, index, &mut generator, refusal.as_value());
            if let Value::Object(methods) = item {
                methods.insert(operation.method.as_str().to_ascii_lowercase(), description);
            }
        }
    }
    let codes: Map<String, Value> =
        Code::ALL.iter().map(|code| (code.as_str().to_owned(), Value::from(code.status()))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Container Service",
            "version": API_VERSION,
            "summary": "Clusters, node pools and nodes",
            "description": "Requests are signed with HMAC-SHA1 or ACS3-HMAC-SHA256. Scalars may be sent as text. \
                            Every refusal has the same body; x-codes lists the codes with their HTTP statuses.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "x-server-version": server_version,
        "x-codes": codes,
        "security": [{"signature": []}],
        "tags": tags(),
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "acs <access key id>:<signature>, or ACS3-HMAC-SHA256 Credential=…",
                },
            },
        },
    })
}

/// Groups of operations, each once, in the order of the table.
fn tags() -> Vec<Value> {
    let mut groups: Vec<&str> = Vec::new();
    for operation in OPERATIONS {
        if !groups.contains(&operation.group) {
            groups.push(operation.group);
        }
    }
    groups.into_iter().map(|group| json!({"name": group})).collect()
}

/// One operation at one of its paths.
fn describe(operation: &Operation, path_index: usize, generator: &mut SchemaGenerator, refusal: &Value) -> Value {
    let mut operation_id = operation.name.to_owned();
    if path_index > 0 {
        // Ids are unique, and further paths mean the same operation.
        operation_id.push_str(&format!("At{}", path_index + 1));
    }
    let mut answer = json!({"description": "Done"});
    if operation.status == 202 {
        answer["description"] = json!("Accepted; the task tells how it goes on");
    }
    if let Some(response) = operation.response {
        answer["content"] = content(response(generator).as_value());
    }
    let mut description = json!({
        "operationId": operation_id,
        "summary": operation.summary,
        "tags": [operation.group],
        "parameters": parameters(operation),
        "responses": {
            (operation.status.to_string()): answer,
            "default": {"description": "Refused", "content": content(refusal)},
        },
        "x-aliases": operation.aliases,
        "x-ram-actions": operation.ram_actions,
        "x-sections": operation.sections,
    });
    if let Some(request) = operation.request {
        let schema = request(generator);
        description["requestBody"] = json!({"required": true, "content": content(schema.as_value())});
    }
    description
}

fn content(schema: &Value) -> Value {
    let media_type = Format::Json.content_type().split(';').next().unwrap_or_default();
    json!({ (media_type): {"schema": schema} })
}

/// Parameters of the path and of the query.
fn parameters(operation: &Operation) -> Vec<Value> {
    let in_path = operation
        .path_parameters()
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}));
    let mut parameters: Vec<Value> = in_path.collect();
    let Some(query) = operation.query else {
        return parameters;
    };
    let mut generator =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator();
    let schema = query(&mut generator).to_value();
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return parameters;
    };
    for (name, property) in properties {
        let mut property = property.clone();
        let description = property.as_object_mut().and_then(|fields| fields.remove("description"));
        parameters.push(json!({
            "name": name,
            "in": "query",
            "required": false,
            "description": description,
            "schema": property,
        }));
    }
    parameters
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Collects every reference in a document.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    match field {
                        Value::String(reference) if name == "$ref" => found.push(reference),
                        _ => references(field, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        let document = document("1.0.0");
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in &found {
            let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference}"));
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        let used: HashSet<&str> = found.iter().filter_map(|reference| reference.rsplit('/').next()).collect();
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(used.contains(name.as_str()), "{name} is not used");
        }
    }

    #[test]
    fn every_operation_is_described_once_under_its_name() {
        let document = document("1.0.0");
        let mut ids = HashSet::new();
        for methods in document["paths"].as_object().unwrap().values() {
            for operation in methods.as_object().unwrap().values() {
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()));
            }
        }
        for operation in OPERATIONS {
            assert!(ids.contains(operation.name));
        }
        let create = &document["paths"]["/clusters"]["post"];
        assert_eq!(
            create["requestBody"]["content"]["application/json"]["schema"]["$ref"],
            "#/components/schemas/CreateClusterRequest"
        );
        let query = &document["paths"]["/k8s/{ClusterId}/user_config"]["get"]["parameters"];
        assert!(query.as_array().unwrap().iter().any(|parameter| parameter["name"] == "TemporaryDurationMinutes"));
    }
}
