//! The examples and field lists of the reference documents against the types.

// The lints spare functions that are tests, not those that tests call.
#![allow(clippy::unwrap_used, clippy::panic)]

use sampan_api::operations;
use sampan_api::types::*;
use sampan_api::{Decoded, Refusal, decode_body, openapi};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Deserialize)]
struct Example {
    section: String,
    operation: String,
    body: Value,
}

#[derive(Deserialize)]
struct Fields {
    section: String,
    operation: String,
    query: Vec<String>,
    request: Vec<String>,
    response: Vec<String>,
}

/// Decodes and serialises again.
fn round_trip<T>(body: &Value) -> Result<Decoded<Value>, Refusal>
where
    T: DeserializeOwned + Serialize + JsonSchema + PartialEq + std::fmt::Debug + 'static,
{
    let text = serde_json::to_vec(body).unwrap();
    let decoded = decode_body::<T>(Some("application/json"), &text)?;
    let value = serde_json::to_value(&decoded.value).unwrap();
    let again = decode_body::<T>(None, &serde_json::to_vec(&value).unwrap())?;
    assert_eq!(again.value, decoded.value);
    Ok(Decoded { value, unknown_fields: decoded.unknown_fields })
}

fn decode_as(operation: &str, body: &Value) -> Result<Decoded<Value>, Refusal> {
    match operation {
        "CreateCluster" => round_trip::<CreateClusterRequest>(body),
        "ModifyCluster" => round_trip::<ModifyClusterRequest>(body),
        "UpgradeCluster" => round_trip::<UpgradeClusterRequest>(body),
        "ModifyClusterConfiguration" => round_trip::<ModifyClusterConfigurationRequest>(body),
        "ScaleOutCluster" => round_trip::<ScaleOutClusterRequest>(body),
        "UpdateClusterSizeById" => round_trip::<UpdateClusterSizeByIdRequest>(body),
        "DeleteClusterNodes" => round_trip::<DeleteClusterNodesRequest>(body),
        "CreateClusterNodePool" => round_trip::<CreateClusterNodePoolRequest>(body),
        "ModifyClusterNodePool" => round_trip::<ModifyClusterNodePoolRequest>(body),
        "RepairClusterNodePool" => round_trip::<RepairClusterNodePoolRequest>(body),
        "ScaleClusterNodePool" => round_trip::<ScaleClusterNodePoolRequest>(body),
        other => panic!("no type for {other}"),
    }
}

#[test]
fn every_example_of_the_documents_decodes_completely() {
    let examples: Vec<Example> = serde_json::from_str(include_str!("data/requests.json")).unwrap();
    assert!(examples.len() >= 20);
    for Example { section, operation, body } in examples {
        let decoded = decode_as(&operation, &body).unwrap_or_else(|refusal| panic!("{section}: {refusal}"));
        assert_eq!(decoded.unknown_fields, Vec::<String>::new(), "{section}");
        let given: Vec<_> = body.as_object().unwrap().keys().collect();
        let kept: Vec<_> = decoded.value.as_object().unwrap().keys().collect();
        assert_eq!(kept, given, "{section}");
    }
}

#[test]
fn every_request_of_the_official_clients_decodes_completely() {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("data/signatures.json")).unwrap();
    let mut decoded_count = 0;
    for request in recorded {
        let header = |wanted: &str| {
            let headers = request["headers"].as_array().unwrap().iter();
            headers
                .filter(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(wanted))
                .find_map(|h| h[1].as_str())
        };
        let body = request["body"].as_str().unwrap();
        let Some(action) = header("x-acs-action").filter(|_| !body.is_empty()) else {
            continue;
        };
        let operation = operations::find(action).unwrap_or_else(|| panic!("{action}"));
        let decoded = decode_as(operation.name, &serde_json::from_str(body).unwrap()).unwrap();
        assert_eq!(decoded.unknown_fields, Vec::<String>::new(), "{action}");
        decoded_count += 1;
    }
    assert!(decoded_count >= 10);
}

/// Whether a path such as `tags[].key` leads to a field of the schema.
fn has_field(document: &Value, schema: &Value, path: &str) -> bool {
    let schema = resolved(document, schema);
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (name, in_list) = first.strip_suffix("[]").map_or((first, false), |name| (name, true));
    let Some(field) = schema.get("properties").and_then(|properties| properties.get(name)) else {
        return false;
    };
    let Some(rest) = rest else { return true };
    let field = resolved(document, field);
    if in_list {
        field.get("items").is_some_and(|items| has_field(document, items, rest))
    } else {
        has_field(document, field, rest)
    }
}

/// Follows references and leaves the null aside.
fn resolved<'a>(document: &'a Value, mut schema: &'a Value) -> &'a Value {
    loop {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            schema = document.pointer(reference.trim_start_matches('#')).unwrap();
        } else if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
            schema = choices.iter().find(|choice| choice["type"] != "null").unwrap();
        } else {
            return schema;
        }
    }
}

#[test]
fn every_documented_field_is_in_the_types() {
    let document = openapi::document("test");
    let sections: Vec<Fields> = serde_json::from_str(include_str!("data/fields.json")).unwrap();
    let mut missing = Vec::new();
    for Fields { section, operation, query, request, response } in &sections {
        let operation = operations::find(operation).unwrap_or_else(|| panic!("{section}: {operation}"));
        let method = operation.method.as_str().to_ascii_lowercase();
        let description = &document["paths"][operation.path][&method];
        let parameters = description["parameters"].as_array().unwrap();
        for name in query {
            if !parameters.iter().any(|parameter| parameter["name"] == **name && parameter["in"] == "query") {
                missing.push(format!("{section}: query {name}"));
            }
        }
        let body = &description["requestBody"]["content"]["application/json"]["schema"];
        missing.extend(
            request.iter().filter(|path| !has_field(&document, body, path)).map(|path| format!("{section}: {path}")),
        );
        let answer = resolved(
            &document,
            &description["responses"][operation.status.to_string()]["content"]["application/json"]["schema"],
        );
        let answer = answer.get("items").unwrap_or(answer);
        missing.extend(
            response
                .iter()
                .filter(|path| !has_field(&document, answer, path))
                .map(|path| format!("{section}: answer {path}")),
        );
    }
    assert_eq!(missing, Vec::<String>::new());
}
