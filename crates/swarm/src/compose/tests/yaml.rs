use serde_json::{Value, json};

use crate::compose::{values, yaml::parse};

#[test]
fn scalars() {
    let cases = [
        ("a", json!("a")),
        ("'1'", json!("1")),
        ("\"true\"", json!("true")),
        ("1", json!(1)),
        ("-7", json!(-7)),
        ("1.5", json!(1.5)),
        ("1.10", json!("1.10")),
        ("007", json!("007")),
        ("0x1F", json!("0x1F")),
        ("+5", json!("+5")),
        ("1e3", json!("1e3")),
        ("1_000", json!("1_000")),
        ("-0", json!("-0")),
        (".inf", json!(".inf")),
        (".nan", json!(".nan")),
        ("NaN", json!("NaN")),
        ("inf", json!("inf")),
        ("9223372036854775807", json!(9_223_372_036_854_775_807_i64)),
        ("99999999999999999999", json!("99999999999999999999")),
        ("true", json!(true)),
        ("False", json!(false)),
        ("yes", json!("yes")),
        ("no", json!("no")),
        ("on", json!("on")),
        ("off", json!("off")),
        ("~", Value::Null),
        ("null", Value::Null),
        ("", Value::Null),
        ("22:22", json!("22:22")),
        ("2016-02-02", json!("2016-02-02")),
        ("|\n a\n b\n", json!("a\nb\n")),
        (">-\n a\n b\n", json!("a b")),
        ("!!str 1", json!("1")),
        ("! 1", json!("1")),
        ("!!int 1", json!(1)),
        ("!!float 1.5", json!(1.5)),
        ("!!null ''", Value::Null),
        ("!!bool true", json!(true)),
        ("[a, {b: c}]", json!(["a", {"b": "c"}])),
        ("\u{feff}a", json!("a")),
        ("--- a\n...\n", json!("a")),
        ("[&x {a: 1}, *x]", json!([{"a": 1}, {"a": 1}])),
        ("[&x {a: 1, b: 2}, {<<: *x, b: 3}]", json!([{"a": 1, "b": 2}, {"a": 1, "b": 3}])),
        ("[&x {a: 1}, &y {a: 2, b: 2}, {<<: [*x, *y]}]", json!([{"a": 1}, {"a": 2, "b": 2}, {"a": 1, "b": 2}])),
        ("[&x {a: 1}, {b: 2, <<: *x}]", json!([{"a": 1}, {"a": 1, "b": 2}])),
        ("{'<<': 1}", json!({"<<": 1})),
        ("{&k a: 1, b: *k}", json!({"a": 1, "b": "a"})),
    ];
    for (text, expected) in cases {
        assert_eq!(parse(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn what_cannot_be_read_names_its_line() {
    let cases = [
        ("a: 1\na: 2", "line 2: the key `a` stands twice"),
        ("a: 1\n80: 2", "line 2: the key `80` is not a string; quote it"),
        ("a: 1\n? [a]\n: 2", "line 2: the key that is a list is not a string"),
        ("a: 1\nb: !custom x", "line 2: the tag !custom is not known here"),
        ("a: !!binary x", "line 1: the tag !!binary is not known here"),
        ("a: !!int x", "line 1: `x` is not what the tag !!int says"),
        ("a: !x [1]", "line 1: the tag !x is not known here"),
        ("a: {<<: 1}", "line 1: `<<` takes a map or a list of maps"),
        ("a: {<<: [1]}", "line 1: `<<` takes a map or a list of maps"),
        ("a: {<<: {}, <<: {}}", "line 1: `<<` stands twice"),
        ("a\n---\nb", "line 2: there is a second document"),
        ("a: [1", "line 1: "),
        ("a: *b", "line 1: "),
    ];
    for (text, expected) in cases {
        let refusal = parse(text).unwrap_err().to_string();
        let expected = format!("the template cannot be read as YAML: {expected}");
        assert!(refusal.starts_with(&expected), "{text:?}\nrefused with {refusal}\ninstead of   {expected}");
    }
}

#[test]
fn sizes() {
    let cases = [
        ("1", Some(1)),
        ("1b", Some(1)),
        ("1k", Some(1024)),
        ("1kb", Some(1024)),
        ("1KiB", Some(1024)),
        ("512m", Some(536_870_912)),
        ("1.5gb", Some(1_610_612_736)),
        ("2 g", Some(2_147_483_648)),
        ("1t", Some(1_099_511_627_776)),
        ("0", Some(0)),
        ("0.5t", Some(549_755_813_888)),
        ("", None),
        ("m", None),
        ("-1", None),
        ("1x", None),
        ("1.2.3m", None),
        ("9999999999t", None),
        (".m", None),
        ("1e3", None),
        ("99999999999999999999", None),
    ];
    for (text, expected) in cases {
        assert_eq!(values::size(text), expected, "{text}");
    }
}

#[test]
fn durations() {
    let cases = [
        ("10s", Some(10_000_000_000)),
        ("1m30s", Some(90_000_000_000)),
        ("1.5s", Some(1_500_000_000)),
        ("500ms", Some(500_000_000)),
        ("10us", Some(10_000)),
        ("5ns", Some(5)),
        ("2h", Some(7_200_000_000_000)),
        ("0", Some(0)),
        ("0s", Some(0)),
        ("", None),
        ("10", None),
        ("s", None),
        ("10x", None),
        ("-1s", None),
        ("1.2.3s", None),
        ("1s 2s", None),
        ("99999999999h", None),
    ];
    for (text, expected) in cases {
        assert_eq!(values::duration(text), expected, "{text}");
    }
}

#[test]
fn words() {
    let cases: [(&str, &[&str]); 9] = [
        ("", &[]),
        ("  a  b ", &["a", "b"]),
        ("a 'b c' \"d e\"", &["a", "b c", "d e"]),
        ("a''b ''", &["ab", ""]),
        ("\"a\\\"b\\n\" '\\n'", &["a\"b\\n", "\\n"]),
        ("a\\ b \\'", &["a b", "'"]),
        ("a\tb\nc", &["a", "b", "c"]),
        ("a#b #c", &["a#b", "#c"]),
        ("\"a\\\nb\" c\\\nd", &["ab", "cd"]),
    ];
    for (line, expected) in cases {
        assert_eq!(values::split_words(line).unwrap(), expected, "{line:?}");
    }
}
