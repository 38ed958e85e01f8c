//! Images that nodes can be made of.

use sampan_store::model::{Fault, Outcome};

use crate::service::{RequestContext, Service, Settings, change::Notice, fields};

/// What image ids end in, where they are listed; requests leave it out at times.
const SUFFIX: &str = ".vhd";
/// Beginnings of the ids of other systems that containers would run on as well as on ours.
const LINUX: [&str; 6] = ["centos", "ubuntu", "debian", "aliyun", "coreos", "sampan"];

/// An image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemImage {
    /// In words.
    pub text: String,
    /// The value for `ecs_image_id`.
    pub value: String,
}

impl Service {
    /// The images of each region: one, everywhere.
    pub fn images(&self, ctx: &RequestContext) -> Vec<(String, Vec<SystemImage>)> {
        let image = &self.settings.node_image;
        let ours = SystemImage { text: image.name.clone(), value: format!("{}{SUFFIX}", image.id) };
        let mut regions = vec![self.settings.region_id.clone(), ctx.region_id.clone()];
        regions.sort();
        regions.dedup();
        regions.into_iter().map(|region| (region, vec![ours.clone()])).collect()
    }
}

/// Checks an `ecs_image_id`; says when nodes are made of another image.
pub(super) fn check(settings: &Settings, id: Option<&str>) -> Outcome<Option<Notice>> {
    const FIELD: &str = "ecs_image_id";
    let Some(id) = id else { return Ok(None) };
    let bare = id.strip_suffix(SUFFIX).unwrap_or(id);
    let ours = &settings.node_image;
    if bare == ours.id {
        return Ok(None);
    }
    let is_id = bare.len() <= 128 && bare.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    let is_linux = LINUX.iter().any(|name| bare.to_ascii_lowercase().starts_with(name));
    if is_id && is_linux {
        let text = format!("{FIELD} {id} is recorded without effect: nodes are made of {}", ours.name);
        return Ok(Some(Notice::new("ImageReplaced", text)));
    }
    Err(Fault::invalid(
        FIELD,
        format!("{FIELD} {id:?} is not an image of this installation; GET /images lists what there is"),
    ))
}

/// Passwords are not used, since machines run no SSH server; one that cannot be a password is refused all the same.
pub(super) fn login_password(password: Option<&str>) -> Outcome<Option<Notice>> {
    let Some(password) = password else { return Ok(None) };
    if !(8..=30).contains(&password.chars().count()) || !password.chars().all(|c| c.is_ascii_graphic()) {
        return Err(Fault::invalid("password", "password must have 8 to 30 visible characters"));
    }
    Ok(Some(no_ssh()))
}

/// The stricter rule of a cluster's first password.
pub(super) fn first_password(password: Option<&str>) -> Outcome<Notice> {
    fields::password("password", fields::required("password", password)?)?;
    Ok(no_ssh())
}

fn no_ssh() -> Notice {
    Notice::new("NotApplied", "recorded without effect: password (machines run no SSH server)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images() {
        let settings = Settings::default();
        let check = |id: &str| check(&settings, Some(id));
        assert_eq!(check("sampan_node_debian_12.vhd"), Ok(None));
        assert_eq!(check("sampan_node_debian_12"), Ok(None));
        for published in ["centos_7_04_64_20G_alibase_201701015", "ubuntu_16_0402_64_20G_alibase_20170818.vhd"] {
            assert!(check(published).expect("accepted").is_some(), "{published}");
        }
        for bad in ["m-253llee3l", "win2016_64", "centos 7", "", &format!("centos{}", "x".repeat(200))] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords() {
        assert!(first_password(Some("TestPwd124")).is_ok());
        assert!(first_password(Some("password")).is_err() && first_password(None).is_err());
        assert!(login_password(Some("password")).is_ok(), "the guide's own example");
        assert!(login_password(Some("short")).is_err() && login_password(None) == Ok(None));
    }
}
