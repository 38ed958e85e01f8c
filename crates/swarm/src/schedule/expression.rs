//! Scheduling expressions as Docker Swarm documented them: `key==value`, `key!=value`, with `~` before the value for a
//! wish that may go unfulfilled; the value is a word, a glob, alternatives in parentheses, or a regular expression
//! between slashes.

use regex::{Regex, RegexBuilder};

use crate::model::Refusal;

/// Longest expression that is read.
const EXPRESSION_MAX: usize = 512;
/// Most expressions of one kind for one container.
pub(crate) const EXPRESSIONS_MAX: usize = 64;
/// Bytes that a compiled regular expression may take.
const REGEX_SIZE_MAX: usize = 64 * 1024;

/// One expression.
#[derive(Clone, Debug)]
pub struct Expression {
    /// What is looked at, lower case where it is one of Swarm's own words.
    pub key: String,
    /// `!=`.
    pub negated: bool,
    /// `~`: dropped when no node satisfies it.
    pub soft: bool,
    /// As it was written, without its prefix.
    pub text: String,
    word: String,
    pattern: Regex,
}

impl Expression {
    /// Reads `key==value` and its kin.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let wrong = |why: &str| Refusal::bad(format!("the scheduling expression {text:?} cannot be used: {why}"));
        if text.len() > EXPRESSION_MAX {
            return Err(Refusal::bad(format!("a scheduling expression is longer than {EXPRESSION_MAX} bytes")));
        }
        let (key, negated, value) = split(text).ok_or_else(|| wrong("it needs one of the operators == and !="))?;
        let key = key.trim();
        if !is_key(key) {
            return Err(wrong("its key is not a name of letters, digits, '-', '_', '/' and '.'"));
        }
        let (soft, value) = value.strip_prefix('~').map_or((false, value), |rest| (true, rest));
        let value = value.trim();
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(wrong("its value is empty or has control characters"));
        }
        let pattern = compile(value).map_err(|error| wrong(&error))?;
        Ok(Self { key: key.to_owned(), negated, soft, text: text.to_owned(), word: value.to_owned(), pattern })
    }

    /// Whether what was found satisfies it: `==` wants one that matches, `!=` wants none.
    pub fn holds<'a>(&self, found: impl IntoIterator<Item = &'a str>) -> bool {
        let matched = found.into_iter().any(|value| value == self.word || self.pattern.is_match(value));
        matched != self.negated
    }

    /// The value as written, without `~`.
    pub fn word(&self) -> &str {
        &self.word
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Key, whether negated, value.
fn split(text: &str) -> Option<(&str, bool, &str)> {
    let equal = text.find("==");
    let unequal = text.find("!=");
    let (at, negated) = match (equal, unequal) {
        (Some(equal), Some(unequal)) if unequal < equal => (unequal, true),
        (Some(equal), _) => (equal, false),
        (None, Some(unequal)) => (unequal, true),
        (None, None) => return None,
    };
    Some((text.get(..at)?, negated, text.get(at + 2..)?))
}

fn is_key(key: &str) -> bool {
    let mut chars = key.chars();
    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && chars.all(|next| next.is_ascii_alphanumeric() || matches!(next, '-' | '_' | '.' | '/'))
}

fn compile(value: &str) -> Result<Regex, String> {
    let source = match value.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
        Some(regex) => regex.to_owned(),
        None => format!("^(?:{})$", glob(value)),
    };
    let built = RegexBuilder::new(&source).size_limit(REGEX_SIZE_MAX).build();
    built.or_else(|error| match value.starts_with('/') {
        true => Err(format!("its regular expression: {error}")),
        // A word with an unbalanced bracket is just that word.
        false => Regex::new(&format!("^{}$", regex::escape(value))).map_err(|error| error.to_string()),
    })
}

/// `*` and `?` are globs; `(a|b)` and `[ab]` mean what they do in regular expressions; all else means itself.
fn glob(value: &str) -> String {
    let mut source = String::with_capacity(value.len() * 2);
    for next in value.chars() {
        match next {
            '*' => source.push_str(".*"),
            '?' => source.push('.'),
            '(' | ')' | '|' | '[' | ']' => source.push(next),
            _ => source.push_str(&regex::escape(next.encode_utf8(&mut [0; 4]))),
        }
    }
    source
}

/// The scheduling expressions of a container, taken out of its environment and labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expressions {
    /// Which nodes it may go to.
    pub constraints: Vec<Expression>,
    /// Next to what it wants to be.
    pub affinities: Vec<Expression>,
    /// `on-node-failure` among its reschedule policies.
    pub reschedule: bool,
}

impl Expressions {
    /// Reads lists of expressions without their prefixes.
    pub fn parse(constraints: &[String], affinities: &[String], reschedule: &[String]) -> Result<Self, Refusal> {
        let read = |list: &[String]| -> Result<Vec<Expression>, Refusal> {
            if list.len() > EXPRESSIONS_MAX {
                return Err(Refusal::bad(format!("more than {EXPRESSIONS_MAX} scheduling expressions")));
            }
            list.iter().map(|text| Expression::parse(text)).collect()
        };
        let mut moves = false;
        for policy in reschedule {
            match policy.as_str() {
                "on-node-failure" => moves = true,
                "off" | "no" | "false" => {}
                other => {
                    return Err(Refusal::bad(format!(
                        "invalid reschedule policy: {other} (use on-node-failure or off)"
                    )));
                }
            }
        }
        Ok(Self { constraints: read(constraints)?, affinities: read(affinities)?, reschedule: moves })
    }
}
