//! What may be called how.

use super::error::{Result, TemplateError};

/// Characters of an application's name.
pub const MAX_PROJECT_NAME: usize = 64;
/// Characters of a service's name: it is a label of the DNS.
pub const MAX_SERVICE_NAME: usize = 63;

/// Checks the name of an application: 1 to 64 digits, letters and hyphens, not beginning with a hyphen. An underscore is
/// accepted after the first character, because the documented example of a blue-green release has one.
pub fn project_name(name: &str) -> Result<&str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && name.len() <= MAX_PROJECT_NAME && name.chars().all(fits) {
        return Ok(name);
    }
    Err(TemplateError::new(
        "",
        format!(
            "`{}` is not a name for an application: 1 to {MAX_PROJECT_NAME} digits, letters and hyphens, \
             beginning with a letter or digit",
            shown(name)
        ),
    ))
}

/// Checks the name of a service: letters, digits, `.`, `_` and `-`, at most 63.
pub fn service_name(name: &str) -> Result<&str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if begins && name.len() <= MAX_SERVICE_NAME && name.chars().all(fits) {
        return Ok(name);
    }
    Err(TemplateError::new(
        "",
        format!(
            "`{}` is not a name for a service: 1 to {MAX_SERVICE_NAME} letters, digits, `.`, `_` and `-`, \
             beginning with a letter or digit",
            shown(name)
        ),
    ))
}

/// Whether Docker accepts it as a name of a container, volume or network.
pub(super) fn is_docker_name(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// Whether it is a host name: labels of letters, digits, `-` and `_`, divided by dots.
pub(super) fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    name.len() <= 253 && name.split('.').all(label)
}

fn shown(name: &str) -> String {
    name.chars().take(MAX_PROJECT_NAME + 1).collect()
}
