//! Where a container's output goes.

use serde_json::{Value, json};

use super::Draft;
use crate::compose::{
    error::Result,
    field::{Field, object},
};

pub(super) fn logging(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    field.keys(&["driver", "options"])?;
    if let Some(driver) = field.get("driver") {
        log_driver(draft, &driver)?;
    }
    if let Some(options) = field.get("options") {
        log_opt(draft, &options)?;
    }
    Ok(())
}

pub(super) fn log_driver(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let driver = field.text()?;
    set(draft, "Type", json!(driver));
    Ok(())
}

pub(super) fn log_opt(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let options = object(field.options()?);
    set(draft, "Config", options);
    Ok(())
}

/// `logs`: paths of the service's logs, kept and shown.
pub(super) fn logs(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    draft.service.extensions.logs.extend(field.text_or_texts()?);
    Ok(())
}

/// No type is the engine's own driver.
fn set(draft: &mut Draft<'_>, key: &str, value: Value) {
    let config = draft.host.entry("LogConfig").or_insert_with(|| json!({"Type": "", "Config": {}}));
    if let Some(config) = config.as_object_mut() {
        config.insert(key.to_owned(), value);
    }
}
