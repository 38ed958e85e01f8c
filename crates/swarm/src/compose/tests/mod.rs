#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod basic;

use std::collections::BTreeMap;

use super::{Context, Template, read};

/// Reads a template without variables.
fn template(text: &str) -> Template {
    match read(text, &BTreeMap::new(), &Context { project: "test".to_owned() }) {
        Ok(template) => template,
        Err(error) => panic!("{error}\nin\n{text}"),
    }
}

/// Why a template is refused.
fn refusal(text: &str) -> String {
    match read(text, &BTreeMap::new(), &Context::default()) {
        Ok(template) => panic!("was read: {template:#?}"),
        Err(error) => error.to_string(),
    }
}
