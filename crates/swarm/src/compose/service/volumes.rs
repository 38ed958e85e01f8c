//! What is mounted: paths of the node, volumes, memory, and what other containers mount.

use serde_json::{Value, json};

use super::{Draft, Format, limits::needed};
use crate::compose::{
    error::Result,
    field::Field,
    names::is_docker_name,
    template::{Volume, VolumesFrom},
};

pub(super) fn volume_driver(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    draft.set_host("VolumeDriver", field.filled()?);
    Ok(())
}

pub(super) fn volumes(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    for item in field.items()? {
        if item.value.is_object() {
            if draft.around.format == Format::One {
                return Err(item.wrong("the first format has no maps here; write SOURCE:TARGET[:MODE]"));
            }
            long(draft, &item)?;
        } else {
            short(draft, &item)?;
        }
    }
    Ok(())
}

/// `TARGET`, or `SOURCE:TARGET[:MODE]`.
fn short(draft: &mut Draft<'_>, item: &Field<'_>) -> Result<()> {
    let text = item.filled()?;
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [target] => anonymous(draft, item, target),
        [source, target] => mount(draft, item, source, target, "rw"),
        [source, target, mode] => {
            let mode = short_mode(item, mode)?;
            mount(draft, item, source, target, &mode)
        }
        _ => Err(item.wrong(format!("`{text}` has too many colons; write SOURCE:TARGET[:MODE]"))),
    }
}

/// The mode as engines take it, `rw` or `ro` first. What only machines with a desktop know is left out.
fn short_mode(item: &Field<'_>, mode: &str) -> Result<String> {
    const FURTHER: [&str; 10] =
        ["z", "Z", "nocopy", "copy", "shared", "rshared", "slave", "rslave", "private", "rprivate"];
    let mut access = "rw";
    let mut further = Vec::new();
    for word in mode.split(',') {
        match word {
            "ro" | "rw" => access = word,
            "cached" | "delegated" | "consistent" | "copy" => {}
            word if FURTHER.contains(&word) => further.push(word),
            _ => {
                return Err(
                    item.wrong(format!("`{word}` is not a mode of a mount; known: ro, rw, {}", FURTHER.join(", ")))
                );
            }
        }
    }
    further.insert(0, access);
    Ok(further.join(","))
}

fn mount(draft: &mut Draft<'_>, item: &Field<'_>, source: &str, target: &str, mode: &str) -> Result<()> {
    take_target(draft, item, target)?;
    if source.starts_with('/') {
        push(draft, "Binds", json!(format!("{source}:{target}:{mode}")));
        return Ok(());
    }
    if source.starts_with(['.', '~']) {
        return Err(item.wrong(format!(
            "`{source}` is relative to a directory that is not here; write an absolute path of the nodes, or the name of a \
             volume"
        )));
    }
    if !is_docker_name(source) {
        return Err(item.wrong(format!("`{source}` is neither an absolute path nor the name of a volume")));
    }
    if draft.around.format == Format::One {
        let driver = draft.service_value("volume_driver");
        let volume = Volume { name: Some(source.to_owned()), driver, keep: true, ..Volume::default() };
        draft.named.insert(source.to_owned(), volume);
    }
    draft.service.volumes.push((source.to_owned(), target.to_owned(), mode.to_owned()));
    Ok(())
}

fn anonymous(draft: &mut Draft<'_>, item: &Field<'_>, target: &str) -> Result<()> {
    take_target(draft, item, target)?;
    let volumes = draft.config.entry("Volumes").or_insert_with(|| json!({}));
    if let Some(volumes) = volumes.as_object_mut() {
        volumes.insert(target.to_owned(), json!({}));
    }
    Ok(())
}

/// Makes sure that a path in the container is one, and nothing else is mounted there.
fn take_target(draft: &mut Draft<'_>, item: &Field<'_>, target: &str) -> Result<()> {
    if !target.starts_with('/') || target.contains('\0') {
        return Err(item.wrong(format!("`{target}` is not an absolute path in the container")));
    }
    let plain = target.trim_end_matches('/');
    if plain.is_empty() {
        return Err(item.wrong("nothing can be mounted at the root of the container"));
    }
    if !draft.targets.insert(plain.to_owned()) {
        return Err(item.wrong(format!("something is already mounted at {plain}")));
    }
    Ok(())
}

fn push(draft: &mut Draft<'_>, key: &str, value: Value) {
    if let Some(list) = draft.host.entry(key).or_insert_with(|| json!([])).as_array_mut() {
        list.push(value);
    }
}

fn long(draft: &mut Draft<'_>, item: &Field<'_>) -> Result<()> {
    item.keys(&["bind", "consistency", "read_only", "source", "target", "tmpfs", "type", "volume"])?;
    let target = needed(item, "target")?.filled()?.to_owned();
    let source = item.get("source").map(|source| source.filled().map(str::to_owned)).transpose()?;
    let read_only = item.get("read_only").map_or(Ok(false), |field| field.boolean())?;
    let access = if read_only { "ro" } else { "rw" };
    let kind = needed(item, "type")?;
    for (key, of) in [("bind", "bind"), ("volume", "volume"), ("tmpfs", "tmpfs")] {
        if let Some(options) = item.get(key)
            && kind.filled()? != of
        {
            return Err(options.wrong(format!("these options belong to a mount of type {of}")));
        }
    }
    match (kind.filled()?, source) {
        ("bind", Some(source)) => long_bind(draft, item, &source, &target, access),
        ("bind", None) => Err(item.wrong("`source`, an absolute path of the nodes, is missing")),
        ("volume", source) => long_volume(draft, item, source.as_deref(), &target, access),
        ("tmpfs", None) => long_tmpfs(draft, item, &target, read_only),
        ("tmpfs", Some(_)) => Err(item.wrong("a tmpfs has no `source`")),
        (other, _) => Err(kind.wrong(format!("`{other}` is none of bind, volume, tmpfs"))),
    }
}

fn long_bind(draft: &mut Draft<'_>, item: &Field<'_>, source: &str, target: &str, access: &str) -> Result<()> {
    let mut mode = access.to_owned();
    let mut create = true;
    if let Some(options) = item.get("bind") {
        options.keys(&["create_host_path", "propagation", "selinux"])?;
        for key in ["propagation", "selinux"] {
            if let Some(option) = options.get(key) {
                mode = format!("{mode},{}", option.filled()?);
            }
        }
        if let Some(wanted) = options.get("create_host_path") {
            create = wanted.boolean()?;
        }
    }
    let mode = short_mode(item, &mode)?;
    if !source.starts_with('/') || create {
        if is_docker_name(source) {
            return Err(
                item.wrong(format!("`{source}` is not an absolute path of the nodes; a volume has `type: volume`"))
            );
        }
        return mount(draft, item, source, target, &mode);
    }
    take_target(draft, item, target)?;
    let propagation =
        mode.split(',').find(|word| word.ends_with("shared") || word.ends_with("slave") || word.ends_with("private"));
    let mut mount = json!({"Type": "bind", "Source": source, "Target": target, "ReadOnly": access == "ro"});
    if let (Some(word), Some(map)) = (propagation, mount.as_object_mut()) {
        map.insert("BindOptions".to_owned(), json!({"Propagation": word}));
    }
    push(draft, "Mounts", mount);
    Ok(())
}

fn long_volume(
    draft: &mut Draft<'_>,
    item: &Field<'_>,
    source: Option<&str>,
    target: &str,
    access: &str,
) -> Result<()> {
    let mut mode = access.to_owned();
    if let Some(options) = item.get("volume") {
        options.keys(&["nocopy", "subpath"])?;
        if let Some(subpath) = options.get("subpath") {
            return Err(subpath.wrong("needs a newer engine; mount the whole volume"));
        }
        if options.get("nocopy").map_or(Ok(false), |field| field.boolean())? {
            mode.push_str(",nocopy");
        }
    }
    match source {
        Some(source) if is_docker_name(source) => mount(draft, item, source, target, &mode),
        Some(source) => Err(item.wrong(format!("`{source}` is not the name of a volume"))),
        None if access == "ro" => {
            Err(item.wrong("a volume without a name cannot be read-only: nothing could ever be in it"))
        }
        None => anonymous(draft, item, target),
    }
}

fn long_tmpfs(draft: &mut Draft<'_>, item: &Field<'_>, target: &str, read_only: bool) -> Result<()> {
    let mut words = Vec::new();
    if read_only {
        words.push("ro".to_owned());
    }
    if let Some(options) = item.get("tmpfs") {
        options.keys(&["mode", "size"])?;
        if let Some(size) = options.get("size") {
            words.push(format!("size={}", size.size()?));
        }
        if let Some(mode) = options.get("mode") {
            words.push(format!("mode={:o}", file_mode(&mode)?));
        }
    }
    add_tmpfs(draft, item, target, &words.join(","))
}

/// A number, or a string of octal digits: that is how `0755` and `"755"` are meant.
fn file_mode(field: &Field<'_>) -> Result<i64> {
    match field.value {
        Value::String(text) => {
            let digits = text.trim_start_matches("0o");
            let mode = i64::from_str_radix(digits, 8).ok().filter(|mode| (0..=0o7777).contains(mode));
            mode.ok_or_else(|| field.wrong(format!("`{text}` is not a file mode; write for example 0755")))
        }
        _ => field.integer(0..=0o7777),
    }
}

/// `PATH[:OPTIONS]`, one or several.
pub(super) fn tmpfs(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    for text in field.text_or_texts()? {
        let (path, options) = text.split_once(':').unwrap_or((&text, ""));
        add_tmpfs(draft, field, path, options)?;
    }
    Ok(())
}

fn add_tmpfs(draft: &mut Draft<'_>, field: &Field<'_>, path: &str, options: &str) -> Result<()> {
    take_target(draft, field, path)?;
    let mounts = draft.host.entry("Tmpfs").or_insert_with(|| json!({}));
    if let Some(mounts) = mounts.as_object_mut() {
        mounts.insert(path.to_owned(), json!(options));
    }
    Ok(())
}

/// The first format: a service or else a container. Later: a service, or `container:NAME`.
pub(super) fn volumes_from(draft: &mut Draft<'_>, field: &Field<'_>) -> Result<()> {
    for item in field.items()? {
        let text = item.filled()?;
        let is_mode = |mode: &str| matches!(mode, "ro" | "rw");
        let (source, mode, is_container) = match text.split(':').collect::<Vec<_>>()[..] {
            ["container", name] => (name, "rw", true),
            ["container", name, mode] if is_mode(mode) => (name, mode, true),
            [name] => (name, "rw", false),
            [name, mode] if is_mode(mode) => (name, mode, false),
            _ => return Err(item.wrong(format!("`{text}` is not SERVICE[:ro|rw] or container:NAME[:ro|rw]"))),
        };
        let is_container = is_container || (draft.around.format == Format::One && !draft.is_service(source));
        if is_container {
            if !is_docker_name(source) {
                return Err(item.wrong(format!("`{source}` is not a container's name")));
            }
        } else {
            draft.known_service(&item, source)?;
        }
        let from = VolumesFrom { source: source.to_owned(), is_container, mode: mode.to_owned() };
        if draft
            .service
            .volumes_from
            .iter()
            .any(|other| other.source == from.source && other.is_container == is_container)
        {
            return Err(item.wrong(format!("`{source}` stands here twice")));
        }
        draft.service.volumes_from.push(from);
    }
    Ok(())
}
