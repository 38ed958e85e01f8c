use std::collections::BTreeMap;

use super::{refusal, template, with};
use crate::compose::{error::Notes, substitute::Substitution};

fn substituted(text: &str) -> Result<String, String> {
    let variables = [("A", "one"), ("EMPTY", ""), ("_x1", "two"), ("DOLLAR", "$A")];
    let variables: BTreeMap<_, _> = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Substitution::new(&variables).text(text)
}

#[test]
fn every_form() {
    let cases = [
        ("plain", "plain"),
        ("$A", "one"),
        ("${A}", "one"),
        ("<$A>", "<one>"),
        ("$A$A/$_x1.", "oneone/two."),
        ("$AB", ""),
        ("${A}B", "oneB"),
        ("$$A", "$A"),
        ("$$$A", "$one"),
        ("$$$$", "$$"),
        ("$DOLLAR", "$A"),
        ("${UNSET}", ""),
        ("${A:-b}", "one"),
        ("${EMPTY:-b}", "b"),
        ("${EMPTY-b}", ""),
        ("${UNSET:-b}", "b"),
        ("${UNSET-b}", "b"),
        ("${UNSET:-}", ""),
        ("${UNSET:-/a:b-c?d+e}", "/a:b-c?d+e"),
        ("${UNSET:-${A}}", "one"),
        ("${UNSET:-${EMPTY:-<$A>}}!", "<one>!"),
        ("${UNSET:-$${A}", "${A"),
        ("${A:+yes}", "yes"),
        ("${A+yes}", "yes"),
        ("${EMPTY:+yes}", ""),
        ("${EMPTY+yes}", "yes"),
        ("${UNSET:+yes}", ""),
        ("${UNSET+yes}", ""),
        ("${A:?must}", "one"),
        ("${EMPTY?must}", ""),
    ];
    for (text, expected) in cases {
        assert_eq!(substituted(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_no_form() {
    for text in [
        "$", "a$", "$ ", "$1", "${", "${}", "${1}", "${A", "${A:}", "${A!b}", "${A:=b}", "$(date)", "${ A}", "${A }",
        "${A-${B}",
    ] {
        let refusal = substituted(text).unwrap_err();
        assert!(
            refusal.contains("is no way to write a variable; a `$` that stands for itself is written `$$`"),
            "{refusal}"
        );
    }
    assert_eq!(substituted("${EMPTY:?say $A}").unwrap_err(), "the variable EMPTY is required and not set: say one");
    assert_eq!(substituted("${UNSET?}").unwrap_err(), "the variable UNSET is required and not set");
}

#[test]
fn unset_variables_are_noted_once() {
    let variables = BTreeMap::new();
    let mut substitution = Substitution::new(&variables);
    substitution.text("$B $A $B ${C-x} ${D:+y}").unwrap();
    let mut notes = Notes::default();
    substitution.note(&mut notes);
    assert_eq!(
        notes.into_vec(),
        ["the variable A is not set; it counts as empty", "the variable B is not set; it counts as empty"]
    );
}

#[test]
fn values_are_replaced_and_keys_are_not() {
    let read = with(
        "version: '2'\nservices:\n  web:\n    image: nginx:$TAG\n    privileged: ${P}\n    scale: $N\n    \
         labels: {$TAG: $TAG}\n    environment: [TAG, NONE, \"P=$$P\"]\n    ports: [\"$N:80\"]\n    \
         volumes: [\"v:/v\"]\nvolumes: {v: {name: \"${COMPOSE_PROJECT_NAME}-v\"}}",
        &[("TAG", "1.27"), ("P", "true"), ("N", "3")],
    )
    .unwrap();
    let web = &read.services["web"];
    assert_eq!(web.container["Image"], "nginx:1.27");
    assert_eq!(web.container["HostConfig"]["Privileged"], true);
    assert_eq!(web.container["Labels"]["$TAG"], "1.27");
    assert_eq!(web.container["Env"], serde_json::json!(["NONE", "P=$P", "TAG=1.27"]));
    assert_eq!(web.container["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], "3");
    assert_eq!(web.extensions.scale, Some(3));
    assert_eq!(web.definition["image"], "nginx:1.27");
    assert_eq!(read.volumes["v"].name.as_deref(), Some("test-v"));
}

#[test]
fn a_refusal_names_the_place() {
    assert!(refusal("web: {image: a, command: [a, '$(date)']}").starts_with("web.command[1]: `$(date)` is no way"));
    assert!(
        refusal("web: {image: '${TAG:?give it}'}")
            .starts_with("web.image: the variable TAG is required and not set: give it")
    );
}

#[test]
fn what_is_beside_the_services_is_left_alone() {
    template("version: '2'\nx-note: costs $5\nservices: {web: {image: a}}");
}
