//! Few bytes that ask for much.

use std::fmt::Write as _;

use super::{refusal, template, with};
use crate::compose::limits::{
    MAX_DEPTH, MAX_ENVIRONMENT_BYTES, MAX_NODES, MAX_SERVICES, MAX_SUBSTITUTION_DEPTH, MAX_TEMPLATE_BYTES,
    MAX_TEXT_BYTES, MAX_VALUE_BYTES,
};

#[test]
fn a_huge_text() {
    let text = format!("web: {{image: a}} # {}", "x".repeat(MAX_TEMPLATE_BYTES));
    assert!(refusal(&text).contains("at most 1048576 are read"));
}

/// With a parser that takes in the whole document first, some of these need minutes.
#[test]
fn a_megabyte_of_anything_is_refused_soon() {
    for unit in [
        "[", "{", "[{", "{a: ", "- ", "? ", "- - ", "[a,", "a:\n- ", "- a\n", "-\n", "&a ", "*a", "!a ", "? - ", "'",
        "a: |\n ",
    ] {
        let text = unit.repeat(MAX_TEMPLATE_BYTES / unit.len());
        refusal(&text);
    }
}

#[test]
fn nesting() {
    let nested = |depth: usize| format!("web: {{image: a, x-deep: {}{}}}", "[".repeat(depth), "]".repeat(depth));
    template(&nested(MAX_DEPTH - 2));
    assert!(refusal(&nested(MAX_DEPTH - 1)).contains("nested deeper than 32"));
    assert!(refusal(&nested(10_000)).contains("nested deeper than 32"));
}

#[test]
fn nesting_through_anchors() {
    let mut text = String::from("x-0: &a0 [[[[[[[[[[0]]]]]]]]]]\n");
    for at in 1..1000 {
        let _ = writeln!(text, "x-{at}: &a{at} [[[[[[[[[[*a{}]]]]]]]]]]", at - 1);
    }
    assert!(refusal(&text).contains("nested deeper than 32"));
}

#[test]
fn a_billion_laughs() {
    let mut text = String::from("x-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for at in 1..12 {
        let _ = writeln!(text, "x-{at}: &a{at} [{}]", vec![format!("*a{}", at - 1); 10].join(", "));
    }
    assert!(refusal(&text).contains(&format!("more than {MAX_NODES} values, anchors expanded")));
}

#[test]
fn a_large_text_many_times() {
    let text = format!("x-a: &a {}\nx-b: [{}]\n", "x".repeat(100_000), vec!["*a"; 1000].join(","));
    assert!(refusal(&text).contains(&format!("more than {MAX_TEXT_BYTES} bytes, anchors expanded")));
}

#[test]
fn an_anchor_in_itself() {
    assert!(refusal("x-a: &a [*a]").contains("an anchor contains itself"));
    assert!(refusal("x-a: *a").contains("unknown anchor"));
}

#[test]
fn merge_keys_that_multiply() {
    let mut text = String::from("x-0: &a0 {k0: v, k1: v, k2: v, k3: v}\n");
    for at in 1..40 {
        let _ = writeln!(text, "x-{at}: &a{at} {{<<: *a{0}, x: *a{0}, y: *a{0}}}", at - 1);
    }
    let refusal = refusal(&text);
    assert!(refusal.contains("anchors expanded") || refusal.contains("nested deeper"), "{refusal}");
}

#[test]
fn too_many_services() {
    let text: String = (0..=MAX_SERVICES).map(|at| format!("s{at}: {{image: a}}\n")).collect();
    assert!(refusal(&text).contains("services are too many; at most 256"));
}

#[test]
fn a_large_service_extended_by_many() {
    let mut text = format!("version: '2'\nservices:\n  base: {{image: a, labels: [\"x={}\"]}}\n", "x".repeat(200_000));
    for at in 0..200 {
        let _ = writeln!(text, "  s{at}: {{extends: base}}");
    }
    assert!(refusal(&text).contains("`extends` resolved"));
}

#[test]
fn long_lists() {
    let names: Vec<String> = (0..1025).map(|at| format!("C{at}")).collect();
    assert!(
        refusal(&format!("web: {{image: a, cap_add: [{}]}}", names.join(","))).contains("1025 entries are too many")
    );
    let routes: Vec<String> = (0..100).map(|at| format!("r{at}")).collect();
    let text = format!("web: {{image: a, labels: {{aliyun.routing.port_80: '{}'}}}}", routes.join(";"));
    assert!(refusal(&text).contains("at most 64 routes"));
}

#[test]
fn variables_that_grow() {
    let large = "x".repeat(MAX_VALUE_BYTES);
    let refusal = with("web: {image: a, labels: {l: \"$A$A\"}}", &[("A", &large)]).unwrap_err();
    assert!(refusal.message.contains("more than 262144 bytes, variables replaced"), "{refusal}");
    let many: String = (0..20).map(|at| format!("  l{at}: $A\n")).collect();
    let refusal = with(&format!("web:\n image: a\n labels:\n{many}"), &[("A", &large)]).unwrap_err();
    assert!(refusal.message.contains("variables replaced"), "{refusal}");
    let many: String = (0..200).map(|at| format!("s{at}: {{image: a, environment: [A]}}\n")).collect();
    let refusal = with(&many, &[("A", &large)]).unwrap_err();
    assert!(refusal.message.contains("more than 2097152 bytes"), "{refusal}");
    let huge = "x".repeat(MAX_ENVIRONMENT_BYTES);
    let refusal = with("web: {image: a}", &[("A", &huge)]).unwrap_err();
    assert_eq!(refusal.path, "environment");
}

#[test]
fn defaults_in_defaults() {
    let nested =
        |depth: usize| format!("web: {{image: a, labels: {{l: '{}x{}'}}}}", "${A:-".repeat(depth), "}".repeat(depth));
    assert_eq!(template(&nested(MAX_SUBSTITUTION_DEPTH)).services["web"].container["Labels"]["l"], "x");
    assert!(refusal(&nested(MAX_SUBSTITUTION_DEPTH + 1)).contains("variables are nested deeper than 8"));
    assert!(refusal(&nested(20_000)).contains("variables are nested deeper than 8"));
}
