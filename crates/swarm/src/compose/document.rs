//! The template as a whole.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    declarations,
    error::{Notes, Result, TemplateError},
    extends,
    field::{Field, join},
    limits::{MAX_DECLARATIONS, MAX_ENVIRONMENT_BYTES, MAX_SERVICES},
    names,
    order::refuse_cycles,
    service::{self, Format, Surroundings},
    substitute::Substitution,
    template::Template,
    yaml::{self, Budget},
};

/// Name of the variable with the application's name; it has a value without being given one.
const PROJECT_VARIABLE: &str = "COMPOSE_PROJECT_NAME";
/// Name of the variable with the profiles that are wanted.
const PROFILES_VARIABLE: &str = "COMPOSE_PROFILES";

/// What a template is read for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Name of the application; empty if there is none yet.
    pub project: String,
}

/// Reads a template. `environment` are the variables of the request.
pub fn read(text: &str, environment: &BTreeMap<String, String>, context: &Context) -> Result<Template> {
    let bytes: usize = environment.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_ENVIRONMENT_BYTES {
        let message = format!("the variables have {bytes} bytes; at most {MAX_ENVIRONMENT_BYTES} are taken");
        return Err(TemplateError::new("environment", message));
    }
    let mut variables = environment.clone();
    if !context.project.is_empty() {
        variables.entry(PROJECT_VARIABLE.to_owned()).or_insert_with(|| context.project.clone());
    }
    let Value::Object(document) = yaml::parse(text)? else {
        return Err(TemplateError::new("", "the template is not a map with services"));
    };
    let mut notes = Notes::default();
    let mut parts = Parts::of(document, &mut notes)?;
    parts.substitute(&variables, &mut notes)?;
    let mut services = extends::resolve(&parts.services, parts.path)?;
    let inactive = leave_out_profiles(&mut services, &variables, parts.path, &mut notes)?;
    let names: BTreeSet<String> = services.keys().cloned().collect();
    let around = Surroundings {
        format: parts.format,
        services: &names,
        inactive: &inactive,
        environment: &variables,
        budget: &Budget::new(),
    };
    let mut template = Template {
        networks: declarations::networks(&parts.networks, &mut notes)?,
        volumes: declarations::volumes(&parts.volumes)?,
        ..Template::default()
    };
    for (name, value) in &services {
        let path = join(parts.path, name);
        let reading = service::read(&around, name, &path, value, &mut notes)?;
        template.volumes.extend(reading.named);
        template.services.insert(name.clone(), reading.service);
    }
    refuse_cycles(&template.services)?;
    declarations::settle(&mut template, parts.path, &mut notes)?;
    template.notes = notes.into_vec();
    Ok(template)
}

/// The sections of a template.
struct Parts {
    format: Format,
    /// Place of the services.
    path: &'static str,
    services: Map<String, Value>,
    networks: Value,
    volumes: Value,
}

impl Parts {
    fn of(mut document: Map<String, Value>, notes: &mut Notes) -> Result<Self> {
        let is_later =
            document.contains_key("services") || document.get("version").is_some_and(|version| !version.is_object());
        let mut parts = Self {
            format: if is_later { Format::Later } else { Format::One },
            path: if is_later { "services" } else { "" },
            services: Map::new(),
            networks: Value::Null,
            volumes: Value::Null,
        };
        if is_later {
            check_version(document.get("version"))?;
            parts.networks = document.remove("networks").unwrap_or_default();
            parts.volumes = document.remove("volumes").unwrap_or_default();
            parts.services = match document.remove("services") {
                Some(Value::Object(services)) => services,
                None | Some(Value::Null) => Map::new(),
                Some(other) => {
                    return Err(Field::new("services", &other).wrong("a map from names to services was expected"));
                }
            };
            check_rest(&document, notes)?;
        } else {
            document.retain(|name, _| !name.starts_with("x-"));
            parts.services = document;
        }
        parts.check_services()?;
        Ok(parts)
    }

    fn check_services(&self) -> Result<()> {
        if self.services.is_empty() {
            return Err(TemplateError::new(self.path, "there is no service"));
        }
        if self.services.len() > MAX_SERVICES {
            let message = format!("{} services are too many; at most {MAX_SERVICES}", self.services.len());
            return Err(TemplateError::new(self.path, message));
        }
        for (name, value) in &self.services {
            let path = join(self.path, name);
            names::service_name(name).map_err(|error| TemplateError::new(self.path, error.message))?;
            if !value.is_object() {
                let hint = match self.format {
                    Format::One => "; without `services:` every key of the template is a service",
                    Format::Later => "",
                };
                return Err(TemplateError::new(path, format!("a map with the service's keys was expected{hint}")));
            }
        }
        Ok(())
    }

    fn substitute(&mut self, variables: &BTreeMap<String, String>, notes: &mut Notes) -> Result<()> {
        let mut substitution = Substitution::new(variables);
        for (name, value) in &mut self.services {
            substitution.value(&join(self.path, name), value)?;
        }
        substitution.value("networks", &mut self.networks)?;
        substitution.value("volumes", &mut self.volumes)?;
        substitution.note(notes);
        for (name, value) in [("networks", &self.networks), ("volumes", &self.volumes)] {
            if value.as_object().is_some_and(|map| map.len() > MAX_DECLARATIONS) {
                return Err(TemplateError::new(name, format!("at most {MAX_DECLARATIONS} are possible")));
            }
        }
        Ok(())
    }
}

fn check_version(version: Option<&Value>) -> Result<()> {
    let Some(version) = version else { return Ok(()) };
    let field = Field::new("version", version);
    let Value::String(text) = version else {
        return Err(field.wrong("the version is a string; write for example version: '2'"));
    };
    let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
    let known = match (major, minor.parse::<u32>()) {
        ("2", Ok(minor)) => minor <= 4,
        ("3", Ok(minor)) => minor <= 9,
        _ => false,
    };
    if known {
        return Ok(());
    }
    let hint =
        if major == "1" { "; in the first format the services stand at the top level, without `version`" } else { "" };
    Err(field.wrong(format!("`{text}` is not known; 2 to 2.4 and 3 to 3.9 are{hint}")))
}

/// What stands beside services, networks and volumes.
fn check_rest(document: &Map<String, Value>, notes: &mut Notes) -> Result<()> {
    for (key, value) in document {
        match key.as_str() {
            "version" => {}
            "name" => notes.add("name", "has no effect: the application has the name that its request gives it"),
            "configs" | "secrets" => {
                if value.as_object().is_some_and(|map| !map.is_empty()) {
                    notes.add(key, "has no effect: there are no files beside the template");
                }
            }
            "include" => {
                return Err(TemplateError::new("include", "there are no files beside the template; put all into it"));
            }
            key if key.starts_with("x-") => {}
            key => {
                return Err(TemplateError::new(
                    key,
                    "is not known at the top level; known are version, services, networks, volumes and x-…",
                ));
            }
        }
    }
    Ok(())
}

/// Takes out the services whose profiles are not wanted, and answers their names.
fn leave_out_profiles(
    services: &mut BTreeMap<String, Value>,
    variables: &BTreeMap<String, String>,
    path: &str,
    notes: &mut Notes,
) -> Result<BTreeSet<String>> {
    let wanted = variables.get(PROFILES_VARIABLE).map_or("", String::as_str);
    let wanted: BTreeSet<&str> = wanted.split(',').map(str::trim).collect();
    let mut inactive = BTreeSet::new();
    for (name, value) in services.iter() {
        let field = Field::new(join(path, name), value);
        let profiles = field.get("profiles").map_or(Ok(Vec::new()), |profiles| profiles.texts())?;
        let active =
            profiles.is_empty() || wanted.contains("*") || profiles.iter().any(|p| wanted.contains(p.as_str()));
        if !active {
            notes.add(&field.path, &format!("is left out; {PROFILES_VARIABLE} names none of its profiles"));
            inactive.insert(name.clone());
        }
    }
    services.retain(|name, _| !inactive.contains(name));
    if services.is_empty() {
        return Err(TemplateError::new(
            path,
            format!("every service has a profile that {PROFILES_VARIABLE} does not name"),
        ));
    }
    Ok(inactive)
}
