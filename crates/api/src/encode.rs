//! Answers on the wire: which format the client wants, where the request id goes, and JSON turned into XML.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::operation::{Answer, Operation};

/// The first line of every XML answer.
pub(crate) const XML_DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// The two formats of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// XML.
    Xml,
}

impl Format {
    /// The format of a successful answer. XML is what the protocol falls back to when nothing is asked for.
    pub fn for_answer(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default().trim().to_ascii_lowercase();
        if names_json(&accept) {
            Self::Json
        } else if accept.is_empty() || accept.contains("xml") {
            Self::Xml
        } else {
            Self::Json
        }
    }

    /// The format of a refusal: XML only for those who ask for it, because clients that name no format read JSON.
    pub fn for_refusal(accept: Option<&str>) -> Self {
        let accept = accept.unwrap_or_default().to_ascii_lowercase();
        if accept.contains("xml") && !names_json(&accept) { Self::Xml } else { Self::Json }
    }

    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Xml => "application/xml; charset=utf-8",
        }
    }
}

/// Whether a lower case `Accept` lets the answer be JSON.
fn names_json(accept: &str) -> bool {
    ["json", "*/*", "application/*", "octet-stream"].iter().any(|name| accept.contains(name))
}

/// The body of a successful answer.
///
/// The request id goes into objects as `RequestId`, and into their documented field `request_id`; arrays, text and
/// maps stay as they are. Fails only on a value that is not JSON, such as a map with keys that are not text.
pub fn encode_answer<T: Serialize>(
    operation: &Operation,
    value: &T,
    format: Format,
    request_id: &str,
) -> Result<Vec<u8>, serde_json::Error> {
    encode_json(operation, serde_json::to_string(value)?, format, request_id)
}

/// As [`encode_answer`], for a body that is compact JSON text already: what goes out as JSON is not read again.
pub fn encode_json(
    operation: &Operation,
    json: String,
    format: Format,
    request_id: &str,
) -> Result<Vec<u8>, serde_json::Error> {
    let is_object = operation.answer == Answer::Object && json.starts_with('{');
    if format == Format::Json && operation.answer != Answer::Text {
        if !is_object {
            return Ok(json.into_bytes());
        }
        if !json.contains("\"request_id\"") && !json.contains("\"RequestId\"") {
            return Ok(with_request_id(&json, request_id));
        }
    }
    let mut value: Value = serde_json::from_str(&json)?;
    if let (true, Value::Object(fields)) = (is_object, &mut value) {
        fill_request_id(fields, request_id);
    }
    match (format, &value) {
        (_, Value::String(text)) if operation.answer == Answer::Text => Ok(text.as_bytes().to_vec()),
        (Format::Json, _) => serde_json::to_vec(&value),
        (Format::Xml, _) => Ok(to_xml(&format!("{}Response", operation.name), &value).into_bytes()),
    }
}

/// Puts the request id before the first field of an object that has none of that name. Request ids are ours: they need no
/// escapes.
fn with_request_id(object: &str, request_id: &str) -> Vec<u8> {
    let fields = &object[1..];
    let comma = if fields == "}" { "" } else { "," };
    ["{\"RequestId\":\"", request_id, "\"", comma, fields].concat().into_bytes()
}

fn fill_request_id(fields: &mut Map<String, Value>, request_id: &str) {
    if let Some(documented) = fields.get_mut("request_id") {
        *documented = Value::from(request_id);
    }
    fields.insert("RequestId".to_owned(), Value::from(request_id));
}

/// A document with this root. Entries of arrays become `<item>`; nulls are left out.
pub fn to_xml(root: &str, value: &Value) -> String {
    let mut xml = String::from(XML_DECLARATION);
    write_element(&mut xml, root, value);
    xml
}

fn write_element(xml: &mut String, name: &str, value: &Value) {
    let name = element_name(name);
    xml.push('<');
    xml.push_str(&name);
    xml.push('>');
    write_content(xml, value);
    xml.push_str("</");
    xml.push_str(&name);
    xml.push('>');
}

fn write_content(xml: &mut String, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(flag) => xml.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => xml.push_str(&number.to_string()),
        Value::String(text) => push_text(xml, text),
        Value::Array(items) => {
            for item in items {
                write_element(xml, "item", item);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields.iter().filter(|(_, field)| !field.is_null()) {
                write_element(xml, name, field);
            }
        }
    }
}

/// Appends an element with text in it. `name` is a literal of ours and is not checked.
pub(crate) fn push_element(xml: &mut String, name: &str, text: &str) {
    xml.push('<');
    xml.push_str(name);
    xml.push('>');
    push_text(xml, text);
    xml.push_str("</");
    xml.push_str(name);
    xml.push('>');
}

/// Appends text, escaped. Characters that XML 1.0 cannot contain at all become the replacement character.
fn push_text(xml: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            // A parser would turn a bare carriage return into a line feed.
            '\r' => xml.push_str("&#13;"),
            '\t' | '\n' => xml.push(character),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => xml.push('\u{fffd}'),
            _ => xml.push(character),
        }
    }
}

/// Turns any key into a name that XML permits: what it does not permit becomes `_`.
fn element_name(key: &str) -> String {
    let mut name: String =
        key.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::operations::{CREATE_CLUSTER, DESCRIBE_CLUSTER_DETAIL, DESCRIBE_CLUSTER_LOGS};
    use crate::types::TaskStarted;

    #[test]
    fn accept_decides_the_format() {
        let check = |accept: Option<&str>, answer, refusal| {
            assert_eq!(Format::for_answer(accept), answer, "{accept:?}");
            assert_eq!(Format::for_refusal(accept), refusal, "{accept:?}");
        };
        check(None, Format::Xml, Format::Json);
        check(Some(""), Format::Xml, Format::Json);
        check(Some("application/json"), Format::Json, Format::Json);
        check(Some("application/octet-stream"), Format::Json, Format::Json);
        check(Some("*/*"), Format::Json, Format::Json);
        check(Some("Application/XML"), Format::Xml, Format::Xml);
        check(Some("text/xml"), Format::Xml, Format::Xml);
        check(Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), Format::Json, Format::Json);
        check(Some("text/plain"), Format::Json, Format::Json);
    }

    #[test]
    fn the_request_id_goes_into_objects_and_their_documented_field() {
        let started = TaskStarted { cluster_id: "c1".into(), request_id: String::new(), task_id: "T-1".into() };
        let body = encode_answer(&CREATE_CLUSTER, &started, Format::Json, "R-1").unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            json!({"cluster_id": "c1", "request_id": "R-1", "task_id": "T-1", "RequestId": "R-1"})
        );
        let body = encode_answer(&DESCRIBE_CLUSTER_DETAIL, &json!({"name": "a"}), Format::Json, "R-1").unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), r#"{"RequestId":"R-1","name":"a"}"#);
        let body = encode_answer(&DESCRIBE_CLUSTER_DETAIL, &json!({}), Format::Json, "R-1").unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), r#"{"RequestId":"R-1"}"#);
        let named = json!({"name": "\"request_id\"", "request_id": ""});
        let body = encode_answer(&DESCRIBE_CLUSTER_DETAIL, &named, Format::Json, "R-1").unwrap();
        let expected = json!({"RequestId": "R-1", "name": "\"request_id\"", "request_id": "R-1"});
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected);
        let body = encode_answer(&DESCRIBE_CLUSTER_LOGS, &json!([{"ID": 1}]), Format::Json, "R-1").unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), r#"[{"ID":1}]"#);
    }

    #[test]
    fn text_is_bare_in_both_formats() {
        let operation = Operation { answer: Answer::Text, ..CREATE_CLUSTER };
        for format in [Format::Json, Format::Xml] {
            assert_eq!(encode_answer(&operation, &"curl <x>", format, "R").unwrap(), b"curl <x>");
        }
    }

    #[test]
    fn xml_has_the_operation_as_root_and_items_in_lists() {
        let value = json!({"a b": [1, {"x": null, "y": "<&>\r\u{1}"}], "1st": true});
        let body = encode_answer(&DESCRIBE_CLUSTER_DETAIL, &value, Format::Xml, "R").unwrap();
        assert_eq!(
            String::from_utf8(body).unwrap(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DescribeClusterDetailResponse><_1st>true</_1st>\
             <RequestId>R</RequestId><a_b><item>1</item><item><y>&lt;&amp;&gt;&#13;\u{fffd}</y></item></a_b>\
             </DescribeClusterDetailResponse>"
        );
        let body = encode_answer(&DESCRIBE_CLUSTER_LOGS, &json!(["a"]), Format::Xml, "R").unwrap();
        assert!(
            String::from_utf8(body)
                .unwrap()
                .ends_with("<DescribeClusterLogsResponse><item>a</item></DescribeClusterLogsResponse>")
        );
    }

    proptest! {
        #[test]
        fn xml_of_any_text_is_read_back(key in any::<String>(), text in any::<String>()) {
            let xml = to_xml("Root", &json!({ key: text }));
            let mut reader = quick_xml::Reader::from_str(&xml);
            loop {
                match reader.read_event() {
                    Ok(quick_xml::events::Event::Eof) => break,
                    Ok(_) => {}
                    Err(error) => prop_assert!(false, "{error}: {xml}"),
                }
            }
        }
    }
}
