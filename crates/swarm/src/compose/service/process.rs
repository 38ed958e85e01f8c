//! What runs: image, command, environment, health, how it stops and starts again.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Draft;
use crate::compose::{
    error::Result,
    expressions,
    field::Field,
    names::{is_docker_name, is_host_name},
    values::split_words,
};

pub(super) fn image(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let image = field.filled()?;
    if image.len() > 512 || !image.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./:@_-[]".contains(&byte)) {
        return Err(field.wrong(format!("`{image}` is not the name of an image; write for example nginx:1.27")));
    }
    draft.set("Image", image);
    Ok(())
}

pub(super) fn command(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let words = line(field)?;
    draft.set("Cmd", words);
    Ok(())
}

/// An empty entry point is said to Docker as one empty word: the image's is not used.
pub(super) fn entrypoint(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let words = line(field)?;
    draft.set("Entrypoint", if words.is_empty() { vec![String::new()] } else { words });
    Ok(())
}

fn line(field: &Field<'_>) -> Result<Vec<String>> {
    match field.value {
        Value::String(_) => {
            let text = field.text()?;
            split_words(text).map_err(|why| field.wrong(format!("`{text}` cannot be split into words: {why}")))
        }
        _ => field.words(),
    }
}

/// Entries `KEY=value`. A key without value takes that of the request's environment; if there is none it stays alone, which
/// takes the variable away from what the image sets.
pub(super) fn environment(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    for (key, mut entry) in environment_entries(field)? {
        let is_bare = !entry.contains('=') && !expressions::is_expression(&entry);
        if let Some(value) = draft.around.environment.get(&entry).filter(|_| is_bare) {
            draft.around.budget.take(value.len()).map_err(|why| field.wrong(why))?;
            entry = format!("{entry}={value}");
        }
        draft.env_written.push(entry.clone());
        draft.env.insert(key, entry);
    }
    Ok(())
}

/// Entries of an environment by what makes them one: the variable's name, or the whole of a scheduling expression.
fn environment_entries(field: &Field<'_>) -> Result<BTreeMap<String, String>> {
    let mut entries = BTreeMap::new();
    let mut add = |place: &Field<'_>, entry: String| {
        if expressions::is_expression(&entry) {
            expressions::check(&entry).map_err(|why| place.wrong(why))?;
            entries.insert(entry.clone(), entry);
            return Ok(());
        }
        let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key);
        if key.trim().is_empty() {
            return Err(place.wrong(format!("`{entry}` has no name before `=`")));
        }
        entries.insert(key.to_owned(), entry);
        Ok(())
    };
    if field.value.is_array() {
        for item in field.items()? {
            add(&item, item.filled()?.to_owned())?;
        }
        return Ok(entries);
    }
    for (key, entry) in field.entries()? {
        let text = match entry.scalar()? {
            Some(value) => format!("{key}={value}"),
            None => key.to_owned(),
        };
        add(&entry, text)?;
    }
    Ok(entries)
}

pub(super) fn labels(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    draft.labels.extend(field.filled_pairs()?);
    Ok(())
}

pub(super) fn container_name(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let name = field.filled()?;
    if !is_docker_name(name) {
        return Err(field.wrong(format!("`{name}` is not a name for a container: letters, digits, `.`, `_` and `-`")));
    }
    draft.service.container_name = Some(name.to_owned());
    Ok(())
}

pub(super) fn hostname(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let name = field.filled()?;
    if !is_host_name(name) {
        return Err(field.wrong(format!("`{name}` is not a host name")));
    }
    draft.set("Hostname", name);
    Ok(())
}

pub(super) fn restart(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    let text = field.filled()?;
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    let wrong = || field.wrong(format!("`{text}` is none of no, always, unless-stopped, on-failure, on-failure:N"));
    let count = match (name, count) {
        ("no" | "always" | "unless-stopped" | "on-failure", None) => 0,
        ("on-failure", Some(count)) => count.parse::<u32>().map_err(|_| wrong())?,
        _ => return Err(wrong()),
    };
    draft.set_host("RestartPolicy", json!({"Name": name, "MaximumRetryCount": count}));
    Ok(())
}

pub(super) fn stop_grace_period(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    const SECOND: i64 = 1_000_000_000;
    let seconds = (field.duration()? + SECOND - 1) / SECOND;
    let seconds = u32::try_from(seconds).ok().filter(|seconds| *seconds <= 24 * 3600);
    let seconds = seconds.ok_or_else(|| field.wrong("a container gets at most 24h for stopping"))?;
    draft.service.stop_seconds = Some(seconds);
    draft.set("StopTimeout", seconds);
    Ok(())
}

pub(super) fn healthcheck(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    field.keys(&["disable", "interval", "retries", "start_interval", "start_period", "test", "timeout"])?;
    let mut check = Map::new();
    if let Some(test) = field.get("test") {
        check.insert("Test".to_owned(), json!(health_test(&test)?));
    }
    if let Some(disable) = field.get("disable")
        && disable.boolean()?
    {
        if check.get("Test").is_some_and(|test| *test != json!(["NONE"])) {
            return Err(disable.wrong("`disable: true` and `test` contradict each other"));
        }
        check.insert("Test".to_owned(), json!(["NONE"]));
    }
    for (key, name) in [("interval", "Interval"), ("timeout", "Timeout"), ("start_period", "StartPeriod")] {
        if let Some(entry) = field.get(key) {
            let nanoseconds = entry.duration()?;
            if (1..1_000_000).contains(&nanoseconds) {
                return Err(entry.wrong("less than 1ms is not possible"));
            }
            check.insert(name.to_owned(), json!(nanoseconds));
        }
    }
    if let Some(retries) = field.get("retries") {
        check.insert("Retries".to_owned(), json!(retries.count(1_000_000)?));
    }
    draft.note_keys(field, &["start_interval"]);
    draft.set("Healthcheck", Value::Object(check));
    Ok(())
}

fn health_test(test: &Field<'_>) -> Result<Vec<String>> {
    if test.value.is_string() {
        return Ok(vec!["CMD-SHELL".to_owned(), test.filled()?.to_owned()]);
    }
    let words = test.words()?;
    match (words.first().map(String::as_str), words.len()) {
        (Some("NONE"), 1) | (Some("CMD-SHELL"), 2) | (Some("CMD"), 2..) => Ok(words),
        _ => Err(test.wrong("a list begins with NONE, CMD or CMD-SHELL, and has its command after it")),
    }
}

/// What would be read from files beside the template.
pub(super) fn files(_: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    if field.value.as_array().is_some_and(Vec::is_empty) {
        return Ok(());
    }
    let key = field.path.rsplit('.').next().unwrap_or_default();
    let instead = match key {
        "env_file" => "write the variables under `environment`",
        "label_file" => "write the labels under `labels`",
        _ => "give what is in them in `environment`, in a volume, or in the image",
    };
    Err(field.wrong(format!("there are no files beside the template; {instead}")))
}
