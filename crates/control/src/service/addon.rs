//! Components that a request names: which are here, which are only recorded.

use sampan_store::model::{Addon, Fault, FaultKind, Outcome};

use super::{Settings, change::Notice};

/// Components whose job the installation does by other means, and how.
const REPLACED: [(&str, &str); 1] =
    [("flannel", "the pod network is made by the bridge plug-in and routes between the nodes")];

/// Components without which nodes do not work: they cannot be disabled.
const ESSENTIAL: [&str; 1] = ["kube-proxy"];

/// What becomes of the components of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// To be recorded.
    pub(super) addons: Vec<Addon>,
    /// What users must know, one sentence each.
    pub(super) notices: Vec<Notice>,
}

/// Decides about the components of a request; `provided` ones are recorded whether named or not.
pub(super) fn settle(settings: &Settings, asked: &[Addon]) -> Outcome<Settled> {
    let mut settled = Settled::default();
    for addon in asked {
        let name = addon.name.trim();
        check(name, addon, &settled.addons)?;
        let provided = settings.provided_addons.iter().any(|p| p == name);
        let installed = provided && (!addon.disabled || ESSENTIAL.contains(&name));
        if !installed && !addon.disabled {
            let why =
                REPLACED.iter().find(|(n, _)| *n == name).map_or("this installation does not have it", |(_, how)| how);
            settled.notices.push(Notice::new(
                "AddonNotInstalled",
                format!("the component {name} is recorded but not installed: {why}"),
            ));
        }
        if installed && addon.disabled {
            let text = format!(
                "the component {name} is installed although it is disabled in the request: nodes do not work without it"
            );
            settled.notices.push(Notice::new("AddonInstalled", text));
        }
        settled.addons.push(Addon { name: name.to_owned(), installed, ..addon.clone() });
    }
    for name in &settings.provided_addons {
        if !settled.addons.iter().any(|a| a.name == *name) {
            settled.addons.push(Addon {
                name: name.clone(),
                version: None,
                config: None,
                disabled: false,
                installed: true,
            });
        }
    }
    Ok(settled)
}

fn check(name: &str, addon: &Addon, before: &[Addon]) -> Outcome<()> {
    if name.is_empty() {
        return Err(Fault::missing("addons.name"));
    }
    if name.len() > 128 || !name.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Fault::invalid("addons", format!("addons: {name:?} is not the name of a component")));
    }
    if before.iter().any(|a| a.name == name) {
        return Err(Fault::invalid("addons", format!("addons: {name} is given twice")));
    }
    if name.starts_with("terway") && !addon.disabled {
        return Err(Fault::new(
            FaultKind::InvalidParameter("addons".into()),
            format!("addons: the network component {name} is not supported by this installation; use flannel"),
        ));
    }
    // A configuration is JSON text; one that is not would be found out long after the request.
    if let Some(config) = addon.config.as_deref().filter(|c| !c.trim().is_empty())
        && serde_json::from_str::<serde_json::Value>(config).is_err()
    {
        return Err(Fault::invalid("addons", format!("addons: the config of {name} is not JSON text")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addon(name: &str, config: &str, disabled: bool) -> Addon {
        Addon { name: name.into(), version: None, config: Some(config.into()), disabled, installed: false }
    }

    #[test]
    fn published_examples_are_recorded_and_nothing_false_is_claimed() {
        let asked = [
            addon("flannel", "", false),
            addon("logtail-ds", r#"{"IngressDashboardEnabled":"true"}"#, false),
            addon("nginx-ingress-controller", r#"{"IngressSlbNetworkType":"internet"}"#, true),
            addon("coredns", "", false),
        ];
        let settled = settle(&Settings::default(), &asked).expect("fine");
        let installed: Vec<&str> = settled.addons.iter().filter(|a| a.installed).map(|a| a.name.as_str()).collect();
        assert_eq!(installed, ["coredns", "metrics-server", "kube-proxy"]);
        assert_eq!(settled.notices.len(), 2, "{:?}", settled.notices);
        assert!(settled.notices[1].message.contains("logtail-ds"));
    }

    #[test]
    fn refusals() {
        let check = |asked: &[Addon]| settle(&Settings::default(), asked).expect_err("refused").message;
        assert!(check(&[addon("terway-eniip", "", false)]).contains("terway-eniip"));
        assert!(check(&[addon("", "", false)]).contains("addons.name"));
        assert!(check(&[addon("a", "", false), addon("a", "", false)]).contains("twice"));
        assert!(check(&[addon("a", "{", false)]).contains("JSON"));
        assert!(settle(&Settings::default(), &[addon("terway-eniip", "", true)]).is_ok());
    }
}
