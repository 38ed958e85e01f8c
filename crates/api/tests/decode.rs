//! The rules of lenient decoding.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sampan_api::decode::{decode_value, redacted};
use sampan_api::types::*;
use sampan_api::{Code, Refusal, Secret, decode_body, decode_query};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

fn create(body: &str) -> Result<CreateClusterRequest, Refusal> {
    decode_body(Some("application/json"), body.as_bytes()).map(|decoded| decoded.value)
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn text_that_spells_the_scalar_is_the_scalar() {
    let request = create(
        r#"{"num_of_nodes": "3", "snat_entry": "True", "worker_data_disk": "false", "node_cidr_mask": 25,
            "timeout_mins": 60.0, "addons": [{"name": "a", "disabled": "TRUE"}]}"#,
    )
    .unwrap();
    assert_eq!(request.num_of_nodes, Some(3));
    assert_eq!(request.snat_entry, Some(true));
    assert_eq!(request.worker_data_disk, Some(false));
    assert_eq!(request.node_cidr_mask, Some(25));
    assert_eq!(request.timeout_mins, Some(60));
    assert_eq!(request.addons.unwrap()[0].disabled, Some(true));
}

#[test]
fn anything_else_is_refused_with_the_path_of_the_field() {
    let check = |body: &str, code: Code, message: &str| {
        let refusal = create(body).expect_err(body);
        assert_eq!((refusal.code, refusal.message.as_str()), (code, message), "{body}");
    };
    let invalid = Code::InvalidParameter;
    for spelling in [r#""3 ""#, r#""+3""#, r#""03""#, r#""3.0""#, r#""""#, r#""0x3""#, "3.5", "true", "[3]", "1e300"] {
        let refusal = create(&format!(r#"{{"num_of_nodes": {spelling}}}"#)).expect_err(spelling);
        assert!(refusal.message.starts_with("The parameter num_of_nodes must be an integer, not "), "{refusal}");
    }
    for spelling in [r#""yes""#, r#""1""#, "1", r#""true ""#, "{}"] {
        let refusal = create(&format!(r#"{{"snat_entry": {spelling}}}"#)).expect_err(spelling);
        assert!(refusal.message.starts_with("The parameter snat_entry must be true or false, not "), "{refusal}");
    }
    check(r#"{"name": 5}"#, invalid, "The parameter name must be text, not this number.");
    check(
        r#"{"addons": [{"name": "a"}, {"name": "b", "disabled": "maybe"}]}"#,
        invalid,
        "The parameter addons[1].disabled must be true or false, not this text.",
    );
    check(r#"{"vswitch_ids": "vsw-1"}"#, invalid, "The parameter vswitch_ids must be an array, not this text.");
    check(r#"{"vswitch_ids": [null]}"#, invalid, "The parameter vswitch_ids[0] must be text, not null.");
    check(r#"{"runtime": []}"#, invalid, "The parameter runtime must be an object, not an array.");
    check("[]", invalid, "The request body must be an object, not an array.");
    check(
        r#"{"addons": [{"config": "x"}]}"#,
        Code::MissingParameter,
        "The parameter addons[0].name is mandatory for this action.",
    );
    check(
        "{\"name\": \"a\",\n  oops}",
        invalid,
        "The request body is not valid JSON: key must be a string at line 2 column 3.",
    );
    let deep = format!("{{\"name\": {}{}}}", "[".repeat(200), "]".repeat(200));
    assert!(create(&deep).unwrap_err().message.contains("recursion limit"));
}

#[test]
fn refusals_never_repeat_the_value() {
    let refusal = create(r#"{"login_password": ["Hello1234"]}"#).unwrap_err();
    assert!(!refusal.message.contains("Hello1234"));
}

#[test]
fn null_is_absent_and_unknown_fields_are_collected() {
    let body =
        br#"{"name": null, "Name": "x", "addons": [{"name": "a", "colour": 1, "version": null}], "more": {"a": 1}}"#;
    let decoded = decode_body::<CreateClusterRequest>(None, body).unwrap();
    assert_eq!(decoded.value.name, None);
    assert_eq!(decoded.value.addons.unwrap()[0].version, None);
    assert_eq!(decoded.unknown_fields, ["Name", "addons[0].colour", "more"]);

    let many: BTreeMap<String, i32> =
        (0..100).map(|number| (format!("f{number}{}", "x".repeat(500)), number)).collect();
    let decoded = decode_body::<CreateClusterRequest>(None, &serde_json::to_vec(&many).unwrap()).unwrap();
    assert_eq!(decoded.unknown_fields.len(), 32);
    assert!(decoded.unknown_fields.iter().all(|name| name.len() <= 200));

    let refusal = decode_body::<DeleteClusterNodesRequest>(None, br#"{"nodes": null}"#).unwrap_err();
    assert_eq!(refusal, Refusal::missing("nodes"));
}

#[test]
fn the_media_type_decides_how_the_body_is_read() {
    let check = |media_type: Option<&str>, body: &str, expected: Result<Option<&str>, Code>| {
        let decoded = decode_body::<CreateClusterRequest>(media_type, body.as_bytes());
        let name = decoded.map(|decoded| decoded.value.name).map_err(|refusal| refusal.code);
        assert_eq!(name, expected.map(|name| name.map(str::to_owned)), "{media_type:?}");
    };
    let json = r#"{"name": "a b"}"#;
    for media_type in [
        None,
        Some(""),
        Some("application/json"),
        Some("Application/JSON; charset=utf-8"),
        Some("application/octet-stream"),
        Some("text/plain"),
        Some("application/vnd.api+json"),
    ] {
        check(media_type, json, Ok(Some("a b")));
        check(media_type, "", Ok(None));
        check(media_type, " \r\n", Ok(None));
        check(media_type, "null", Ok(None));
        check(media_type, "\u{feff}{}", Ok(None));
    }
    check(Some("application/x-www-form-urlencoded"), "name=a+b", Ok(Some("a b")));
    for media_type in ["application/xml", "text/xml", "multipart/form-data; boundary=x", "application/yaml"] {
        check(Some(media_type), json, Err(Code::UnsupportedMediaType));
        check(Some(media_type), "", Ok(None));
    }
}

#[test]
fn forms_hold_scalars_and_json() {
    let form = "name=%E9%9B%86%E7%BE%A4&num_of_nodes=2&snat_entry=True&vswitch_ids=%5B%22vsw-1%22%5D&rds_instances=a,b&\
                addons=[{\"name\":\"flannel\",\"disabled\":\"false\"}]&timeout_mins=&unknown=1";
    let decoded =
        decode_body::<CreateClusterRequest>(Some("application/x-www-form-urlencoded"), form.as_bytes()).unwrap();
    let request = decoded.value;
    assert_eq!(request.name.as_deref(), Some("集群"));
    assert_eq!((request.num_of_nodes, request.snat_entry, request.timeout_mins), (Some(2), Some(true), None));
    assert_eq!(request.vswitch_ids, Some(vec!["vsw-1".to_owned()]));
    assert_eq!(request.rds_instances, Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(request.addons.unwrap()[0].disabled, Some(false));
    assert_eq!(decoded.unknown_fields, ["unknown"]);

    let refusal =
        decode_body::<CreateClusterRequest>(Some("application/x-www-form-urlencoded"), b"addons=flannel").unwrap_err();
    assert_eq!(refusal, Refusal::invalid("addons", "must be a JSON array"));
    let refusal =
        decode_body::<CreateClusterRequest>(Some("application/x-www-form-urlencoded"), b"name=\xff").unwrap_err();
    assert_eq!(refusal.code, Code::InvalidParameter);
}

#[test]
fn queries_are_read_as_clients_write_them() {
    let query = pairs(&[("retain_all_resources", "False"), ("keep_slb", "True"), ("RegionId", "cn-hangzhou")]);
    let decoded = decode_query::<DeleteClusterQuery>(&query).unwrap();
    assert_eq!((decoded.value.retain_all_resources, decoded.value.keep_slb), (Some(false), Some(true)));
    assert_eq!(decoded.unknown_fields, Vec::<String>::new());

    for spelling in [
        &[("retain_resources", r#"["sg-1","lb-2"]"#)][..],
        &[("retain_resources", "sg-1, lb-2")],
        &[("retain_resources", "sg-1"), ("retain_resources", "lb-2")],
    ] {
        let decoded = decode_query::<DeleteClusterQuery>(&pairs(spelling)).unwrap();
        assert_eq!(decoded.value.retain_resources, Some(vec!["sg-1".to_owned(), "lb-2".to_owned()]));
    }
    let options = pairs(&[("delete_options", r#"[{"resource_type":"SLB","delete_mode":"retain"}]"#)]);
    let decoded = decode_query::<DeleteClusterQuery>(&options).unwrap();
    assert_eq!(decoded.value.delete_options.unwrap()[0].delete_mode.as_deref(), Some("retain"));

    let query = pairs(&[("pageSize", "50"), ("pageNumber", ""), ("instanceIds", "i-1,i-2"), ("pagesize", "1")]);
    let decoded = decode_query::<DescribeClusterNodesQuery>(&query).unwrap();
    assert_eq!((decoded.value.page_size, decoded.value.page_number), (Some(50), None));
    assert_eq!(decoded.value.instance_ids.as_deref(), Some("i-1,i-2"));
    assert_eq!(decoded.unknown_fields, ["pagesize"]);

    let refusal = decode_query::<DescribeClusterNodesQuery>(&pairs(&[("pageSize", "ten")])).unwrap_err();
    assert_eq!(refusal, Refusal::invalid("pageSize", "must be an integer, not this text"));
    let refusal = decode_query::<DescribeClusterNodesQuery>(&pairs(&[("state", "a"), ("state", "b")])).unwrap_err();
    assert_eq!(refusal, Refusal::invalid("state", "is given twice with different values"));
    // An empty filter is there, and does not filter.
    let decoded = decode_query::<DescribeClustersV1Query>(&pairs(&[("profile", "")])).unwrap();
    assert_eq!(decoded.value.profile.as_deref(), Some(""));
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Odd {
    ratio: Option<f64>,
    anything: Option<Value>,
    numbers: Option<BTreeMap<String, i64>>,
    nested: Option<Box<Odd>>,
    secrets: Option<BTreeMap<String, Secret>>,
}

#[test]
fn maps_free_values_floats_and_recursion_have_shapes_too() {
    let value = json!({
        "ratio": "0.5", "anything": {"a": ["1", null]}, "numbers": {"x": "1", "y": null},
        "nested": {"nested": {"numbers": {"z": 2.0}}}, "secrets": {"k": "v"},
    });
    let odd: Odd = decode_value(value).unwrap().value;
    assert_eq!(odd.ratio, Some(0.5));
    assert_eq!(odd.anything, Some(json!({"a": ["1", null]})));
    assert_eq!(odd.numbers, Some(BTreeMap::from([("x".to_owned(), 1)])));
    assert_eq!(
        odd.nested.as_ref().unwrap().nested.as_ref().unwrap().numbers,
        Some(BTreeMap::from([("z".to_owned(), 2)]))
    );
    assert_eq!(redacted(&odd)["secrets"], json!({"k": "******"}));

    let refusal = decode_value::<Odd>(json!({"nested": {"numbers": {"z": "two"}}})).unwrap_err();
    assert_eq!(refusal, Refusal::invalid("nested.numbers.z", "must be an integer, not this text"));
}

#[test]
fn redaction_hides_every_secret_and_nothing_else() {
    let request = create(
        r#"{"name": "a", "login_password": "Hello1234", "password": "Hello1234", "user_ca": "Hello1234",
            "control_plane_config": {"login_password": "Hello1234"},
            "nodepools": [{"scaling_group": {"login_password": "Hello1234", "key_pair": "k"}}]}"#,
    )
    .unwrap();
    let value = redacted(&request);
    let text = value.to_string();
    assert!(!text.contains("Hello1234") && !format!("{request:?}").contains("Hello1234"));
    assert_eq!(text.matches("******").count(), 5);
    assert_eq!(value["nodepools"][0]["scaling_group"]["key_pair"], "k");
    assert!(serde_json::to_string(&request).unwrap().contains("Hello1234"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9]{0,6}|true|FALSE|-?[0-9]{1,20}".prop_map(Value::from),
    ];
    let names =
        "[a-z]{1,3}|name|addons|config|disabled|tags|key|value|runtime|nodepools|scaling_group|vswitch_ids|size";
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(names, inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..200), form in "\\PC{0,80}") {
        let _ = decode_body::<CreateClusterRequest>(None, &body);
        let form_type = Some("application/x-www-form-urlencoded");
        let _ = decode_body::<CreateClusterRequest>(form_type, &body);
        let _ = decode_body::<CreateClusterNodePoolRequest>(form_type, form.as_bytes());
    }

    #[test]
    fn what_fits_the_shape_always_becomes_the_type(value in any_json()) {
        if let Err(refusal) = decode_value::<CreateClusterRequest>(value) {
            // The message of serde itself would mean that the shape and the type disagree.
            prop_assert!(!refusal.message.starts_with("The request cannot be read"), "{}", refusal);
        }
    }

    #[test]
    fn what_was_decoded_decodes_to_itself(value in any_json()) {
        if let Ok(decoded) = decode_value::<CreateClusterRequest>(value) {
            let again = decode_value::<CreateClusterRequest>(serde_json::to_value(&decoded.value).unwrap()).unwrap();
            prop_assert_eq!(again.value, decoded.value);
            prop_assert!(again.unknown_fields.is_empty());
        }
    }
}
