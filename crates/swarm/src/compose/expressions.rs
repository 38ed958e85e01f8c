//! Scheduling expressions among environment entries. The scheduler reads them; here only their form is checked.

const PREFIXES: [&str; 3] = ["constraint:", "affinity:", "reschedule:"];

/// Whether an entry is an expression and no variable.
pub(super) fn is_expression(entry: &str) -> bool {
    PREFIXES.iter().any(|prefix| entry.starts_with(prefix))
}

/// Checks `constraint:KEY==VALUE`, `affinity:KEY!=VALUE` (also soft, `==~`) or `reschedule:POLICY`.
pub(super) fn check(entry: &str) -> std::result::Result<(), String> {
    let (kind, rest) = entry.split_once(':').unwrap_or((entry, ""));
    if kind == "reschedule" {
        return match rest {
            "on-node-failure" | "off" => Ok(()),
            _ => Err(format!("`{entry}` is not a policy: reschedule:on-node-failure or reschedule:off")),
        };
    }
    let at = rest.find(['=', '!']).filter(|at| matches!(rest.get(*at..*at + 2), Some("==" | "!=")));
    let Some(at) = at else {
        return Err(format!("`{entry}` has neither `==` nor `!=`"));
    };
    let (key, value) = (&rest[..at], &rest[at + 2..]);
    let value = value.strip_prefix('~').unwrap_or(value);
    let begins = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins || !key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Err(format!(
            "`{key}` in `{entry}` is not a name of what is compared: letters, digits, `-`, `_` and `.`"
        ));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || ":-_ .*()?+[]\\^$|/@".contains(c);
    if value.is_empty() || value.len() > 256 || !value.chars().all(fits) {
        return Err(format!("`{value}` in `{entry}` is not a value, pattern or /expression/ to compare with"));
    }
    Ok(())
}
