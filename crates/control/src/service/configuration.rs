//! ModifyClusterConfiguration: parameters of the control plane's components (catalogue 14.4).

use sampan_store::{
    Versioned,
    model::{Cluster, ClusterState, Fault, Level, Outcome, ParameterChange, Parameters, TaskType, new_task_id},
};

use super::{
    RequestContext, Service,
    change::{About, Change, NewTask, Notice},
    cluster::ClusterTask,
    fields, task,
    upgrade::refuse_unless_free,
};
use crate::kubernetes::parameters;

/// Most components and most parameters of one request.
const ENTRIES_MAX: usize = 100;

/// Parameters of one component, as asked for.
#[derive(Clone, Debug, Default)]
pub struct ComponentWish {
    /// Name.
    pub name: Option<String>,
    /// Keys and values; an empty value puts the default back.
    pub configs: Vec<(Option<String>, Option<String>)>,
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct ConfigurationWish {
    /// `customize_config`.
    pub components: Vec<ComponentWish>,
    /// Fields that are not known.
    pub unknown_fields: Vec<String>,
}

/// Component, parameter, and its value; none: the default.
type Setting = (String, String, Option<String>);

impl Service {
    /// Changes parameters of the control plane. Those that are not named stay as they are.
    ///
    /// # Errors
    /// ClusterNotFound, ClusterState, and MissingParameter and InvalidParameter of what is wrong.
    pub async fn cluster_configure(
        &self,
        ctx: &RequestContext,
        cluster_id: &str,
        wish: &ConfigurationWish,
    ) -> Outcome<ClusterTask> {
        self.kubernetes_cluster(ctx, cluster_id)?;
        let settings = check(wish)?;
        self.change(ctx, |change| {
            let cluster = self.cluster(change.ctx, cluster_id)?;
            refuse_unless_free(change, &cluster)?;
            let mut wanted = cluster.control_plane.parameters.clone();
            for (component, name, value) in &settings {
                apply(&mut wanted, component, name, value.as_ref());
            }
            Ok(self.record_configuration(change, &cluster, wanted, wish))
        })
        .await
    }

    fn record_configuration(
        &self,
        change: &mut Change<'_>,
        cluster: &Versioned<Cluster>,
        wanted: Parameters,
        wish: &ConfigurationWish,
    ) -> ClusterTask {
        let (task_id, kind) = (new_task_id(), TaskType::ClusterConfigurationModify);
        let about = About::Cluster(&cluster.id);
        let is_same = wanted == cluster.control_plane.parameters;
        let text = if is_same {
            format!("The control plane of cluster {} has these parameters already", cluster.name)
        } else {
            format!("Start to change the control plane's parameters of cluster {}: {}", cluster.name, words(&wanted))
        };
        change.event(about, kind, Level::Info, if is_same { "Succeeded" } else { "Started" }, text);
        let notices: Vec<Notice> = Notice::unknown_fields(&wish.unknown_fields).into_iter().collect();
        change.notices(about, kind, &notices);
        change.task(NewTask {
            id: &task_id,
            cluster_id: &cluster.id,
            task_type: kind,
            stages: &task::MODIFY_STAGES,
            resources: vec![cluster.id.clone()],
            node_pool_id: None,
            deadline_minutes: self.settings.task_timeout_minutes,
            done: is_same,
        });
        if is_same {
            change.rely_on(cluster);
        } else {
            let mut changed = Cluster { state: ClusterState::Updating, updated: change.now, ..cluster.value.clone() };
            let options = &mut changed.control_plane;
            let previous = std::mem::replace(&mut options.parameters, wanted);
            options.parameter_change = Some(ParameterChange {
                task_id: task_id.clone(),
                previous,
                applied: Vec::new(),
                since: change.now,
                rolled_back: None,
                done: false,
            });
            change.update(cluster, &changed);
        }
        ClusterTask { cluster_id: cluster.id.clone(), task_id }
    }
}

fn apply(wanted: &mut Parameters, component: &str, name: &str, value: Option<&String>) {
    let own = wanted.entry(component.to_owned()).or_default();
    match value {
        Some(value) => own.insert(name.to_owned(), value.clone()),
        None => own.remove(name),
    };
    wanted.retain(|_, own| !own.is_empty());
}

/// What users have set now, in words.
fn words(parameters: &Parameters) -> String {
    let each = parameters.iter().map(|(component, own)| {
        let own: Vec<String> = own.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{component} {}", own.join(" "))
    });
    let all: Vec<String> = each.collect();
    if all.is_empty() { "all have their defaults".to_owned() } else { all.join("; ") }
}

/// Checks every entry; names in refusals are paths into the body.
fn check(wish: &ConfigurationWish) -> Outcome<Vec<Setting>> {
    if wish.components.is_empty() {
        return Err(Fault::missing("customize_config"));
    }
    let count: usize = wish.components.iter().map(|component| component.configs.len().max(1)).sum();
    if count > ENTRIES_MAX {
        let text = format!("customize_config: {count} entries are given; at most {ENTRIES_MAX} are allowed");
        return Err(Fault::invalid("customize_config", text));
    }
    let mut settings: Vec<Setting> = Vec::new();
    for (place, component) in wish.components.iter().enumerate() {
        let path = format!("customize_config[{place}]");
        let field = format!("{path}.name");
        let name = fields::given(&component.name).ok_or_else(|| Fault::missing(&field))?;
        fields::one_of(&field, name, &parameters::COMPONENTS)?;
        if component.configs.is_empty() {
            return Err(Fault::missing(&format!("{path}.configs")));
        }
        for (place, (key, value)) in component.configs.iter().enumerate() {
            let path = format!("{path}.configs[{place}]");
            let setting = check_one(name, &path, key.as_ref(), value.as_ref())?;
            if settings.iter().any(|other| (&other.0, &other.1) == (&setting.0, &setting.1)) {
                return Err(Fault::invalid(&path, format!("{path}: {} of {name} is given twice", setting.1)));
            }
            settings.push(setting);
        }
    }
    Ok(settings)
}

fn check_one(component: &str, path: &str, key: Option<&String>, value: Option<&String>) -> Outcome<Setting> {
    let field = format!("{path}.key");
    let key = key.map(|key| key.trim()).filter(|key| !key.is_empty()).ok_or_else(|| Fault::missing(&field))?;
    let parameter = parameters::find(component, key).ok_or_else(|| {
        let known: Vec<&str> = parameters::of(component).unwrap_or_default().iter().map(|known| known.name).collect();
        let text = format!("{field}: {key:?} of {component} cannot be set; these can: {}", known.join(", "));
        Fault::invalid(&field, text)
    })?;
    let field = format!("{path}.value");
    let value = value.ok_or_else(|| Fault::missing(&field))?;
    let settled = if value.trim().is_empty() { None } else { Some(parameter.settle(&field, value)?) };
    Ok((component.to_owned(), parameter.name.to_owned(), settled))
}
