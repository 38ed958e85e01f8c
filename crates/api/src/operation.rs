//! What an operation is.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::API_VERSION;
use crate::refusal::{Code, Refusal};

/// The HTTP methods of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates, or does something.
    Post,
    /// Changes.
    Put,
    /// Deletes.
    Delete,
}

impl Method {
    /// The name as HTTP has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// The method with this name, in capitals.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Get, Self::Post, Self::Put, Self::Delete].into_iter().find(|method| method.as_str() == name)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Makes the schema of one type; types it refers to become definitions of the generator.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The [`SchemaOf`] of a type, for use in the table.
pub fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// What an answer's body looks like, beyond its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A JSON object; the request id goes into it.
    Object,
    /// A JSON array; the request id is only in the header.
    Array,
    /// A JSON object whose keys are data; the request id is only in the header.
    Map,
    /// Bare text, not a JSON string; the request id is only in the header.
    Text,
}

/// One operation of the API. A method and a path have one operation, although the editions name it differently
/// and describe several bodies for it.
#[derive(Debug)]
pub struct Operation {
    /// The name in the newest edition.
    pub name: &'static str,
    /// Names in other editions; `x-acs-action` may carry any of them.
    pub aliases: &'static [&'static str],
    /// The method.
    pub method: Method,
    /// The path, with `{Placeholder}`s. The same position has the same placeholder in all paths of the table.
    pub path: &'static str,
    /// Further paths with the same meaning and the same placeholders.
    pub other_paths: &'static [&'static str],
    /// RAM actions, any of which permits the operation.
    pub ram_actions: &'static [&'static str],
    /// The heading under which descriptions list the operation.
    pub group: &'static str,
    /// One line about it.
    pub summary: &'static str,
    /// The HTTP status of success: 202 where work goes on in the background.
    pub status: u16,
    /// Whether a permission can be limited to the cluster in the path.
    pub cluster_scoped: bool,
    /// The body of the request.
    pub request: Option<SchemaOf>,
    /// The query of the request.
    pub query: Option<SchemaOf>,
    /// The body of the answer.
    pub response: Option<SchemaOf>,
    /// What kind of body that is.
    pub answer: Answer,
    /// Sections of the reference documents that are offered as described (see [`crate::catalogue`]). Sections
    /// with the same path but other bodies or kinds of cluster are added when those are.
    pub sections: &'static [&'static str],
}

impl Operation {
    /// All paths.
    pub fn paths(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.path).chain(self.other_paths.iter().copied())
    }

    /// Whether `action` (the value of `x-acs-action`) names this operation in any edition. Case, spaces, hyphens
    /// and underscores do not matter.
    pub fn is_named(&self, action: &str) -> bool {
        std::iter::once(&self.name).chain(self.aliases).any(|name| same_name(name, action))
    }

    /// Whether the operation changes anything: such requests leave their nonce in a transaction.
    pub fn changes(&self) -> bool {
        self.method != Method::Get
    }

    /// Checks the headers `x-acs-action` and `x-acs-version`, which clients may leave out.
    ///
    /// Refuses with `InvalidAction.NotFound` if the action is another one, and with `InvalidVersion`.
    pub fn check_headers(&self, action: Option<&str>, version: Option<&str>) -> Result<(), Refusal> {
        if let Some(version) = version.map(str::trim).filter(|version| !version.is_empty() && *version != API_VERSION) {
            let message = format!("The version {version} is not supported; x-acs-version must be {API_VERSION}.");
            return Err(Refusal::new(Code::InvalidVersion, message));
        }
        if let Some(action) = action.map(str::trim).filter(|action| !action.is_empty() && !self.is_named(action)) {
            let message = format!("{} {} is {}, not {action}.", self.method, self.path, self.name);
            return Err(Refusal::new(Code::InvalidActionNotFound, message));
        }
        Ok(())
    }

    /// Placeholders of the path, in order.
    pub fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        placeholders(self.path)
    }
}

/// The placeholders of a path, in order.
pub(crate) fn placeholders(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// Compares names of operations without regard to case, spaces, hyphens and underscores.
pub(crate) fn same_name(left: &str, right: &str) -> bool {
    let letters = |name: &str| {
        name.chars().filter(|c| !matches!(c, ' ' | '-' | '_')).map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    letters(left) == letters(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::{DESCRIBE_CLUSTER_DETAIL, DESCRIBE_CLUSTERS, DESCRIBE_CLUSTERS_V1, find};

    #[test]
    fn actions_are_compared_by_their_letters_in_every_edition() {
        for name in ["DescribeClusterDetail", "describe cluster", "Get-Cluster_By-Id"] {
            assert!(DESCRIBE_CLUSTER_DETAIL.is_named(name), "{name}");
        }
        assert!(!DESCRIBE_CLUSTER_DETAIL.is_named("DescribeClusters"));
        assert_eq!(find("getclusters").map(|operation| operation.name), Some(DESCRIBE_CLUSTERS.name));
        assert_eq!(find("DescribeClustersV1").map(|operation| operation.name), Some(DESCRIBE_CLUSTERS_V1.name));
        assert!(find("DemoAction").is_none());
    }

    #[test]
    fn headers_may_be_absent_but_not_wrong() {
        let check =
            |action, version| DESCRIBE_CLUSTER_DETAIL.check_headers(action, version).map_err(|refusal| refusal.code);
        assert_eq!(check(None, None), Ok(()));
        assert_eq!(check(Some("GetClusterById"), Some("2015-12-15")), Ok(()));
        assert_eq!(check(Some("CreateCluster"), None), Err(Code::InvalidActionNotFound));
        assert_eq!(check(None, Some("2018-01-01")), Err(Code::InvalidVersion));
    }
}
