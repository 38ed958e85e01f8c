//! Documents: the nouns of [`crate::model`] that the store keeps whole, each under its kind and id.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::StoreError;
use crate::backend::RawObject;
use crate::model::{AccessKey, Cluster, KubeCredential, Machine, NodePool, Setting, Task, Trigger, VSwitch, Vpc};

/// What kind of document it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Cluster`].
    Cluster,
    /// [`NodePool`]; its parent is the cluster.
    NodePool,
    /// [`Machine`]; its parent is the cluster it is a member of, if any.
    Machine,
    /// [`Vpc`].
    Vpc,
    /// [`VSwitch`]; its parent is the VPC.
    VSwitch,
    /// [`Task`]; its parent is the cluster.
    Task,
    /// [`AccessKey`].
    AccessKey,
    /// [`KubeCredential`]; its parent is the cluster.
    KubeCredential,
    /// [`Setting`].
    Setting,
    /// [`Trigger`]; its parent is the cluster.
    Trigger,
}

impl Kind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 10] = [
        Self::Cluster,
        Self::NodePool,
        Self::Machine,
        Self::Vpc,
        Self::VSwitch,
        Self::Task,
        Self::AccessKey,
        Self::KubeCredential,
        Self::Setting,
        Self::Trigger,
    ];

    /// The name under which documents of this kind are stored; never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::NodePool => "node_pool",
            Self::Machine => "machine",
            Self::Vpc => "vpc",
            Self::VSwitch => "vswitch",
            Self::Task => "task",
            Self::AccessKey => "access_key",
            Self::KubeCredential => "kube_credential",
            Self::Setting => "setting",
            Self::Trigger => "trigger",
        }
    }

    /// The kind stored under `name`.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.as_str().replace('_', " "))
    }
}

/// A noun that the store keeps. Fields added later need `#[serde(default)]`, or a migration that fills them.
pub trait Document: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// Its kind; exactly one type per kind.
    const KIND: Kind;
    /// Its id, unique within its kind; never changes.
    fn id(&self) -> &str;
    /// The id of what it belongs to, for [`crate::Store::list_of`]; may change.
    fn parent(&self) -> Option<&str>;
}

macro_rules! documents {
    ($($type:ident: |$this:ident| $parent:expr;)*) => {
        $(impl Document for $type {
            const KIND: Kind = Kind::$type;
            fn id(&self) -> &str {
                &self.id
            }
            fn parent(&self) -> Option<&str> {
                let $this = self;
                $parent
            }
        })*

        /// Turns a stored row into the document that memory keeps.
        pub(crate) fn decode(raw: &RawObject) -> Result<AnyDocument, StoreError> {
            match raw.kind {
                $(Kind::$type => decode_as::<$type>(raw),)*
            }
        }
    };
}

documents! {
    Cluster: |_this| None;
    NodePool: |this| Some(&this.cluster_id);
    Machine: |this| this.cluster_id();
    Vpc: |_this| None;
    VSwitch: |this| Some(&this.vpc_id);
    Task: |this| Some(&this.cluster_id);
    AccessKey: |_this| None;
    KubeCredential: |this| Some(&this.cluster_id);
    Setting: |_this| None;
    Trigger: |this| Some(&this.cluster_id);
}

/// A [`Versioned`] document whose type is known by its kind.
pub(crate) type AnyDocument = Arc<dyn Any + Send + Sync>;

fn decode_as<T: Document>(raw: &RawObject) -> Result<AnyDocument, StoreError> {
    let value: T = serde_json::from_str(&raw.body).map_err(|error| {
        StoreError::Corrupt(format!(
            "the stored {} {} cannot be read ({error}); it was damaged or written by a newer version: start that \
             version, or restore a backup of the data directory",
            raw.kind, raw.id
        ))
    })?;
    if value.id() != raw.id {
        return Err(StoreError::Corrupt(format!(
            "the stored {} {} says that its id is {}; restore a backup of the data directory",
            raw.kind,
            raw.id,
            value.id()
        )));
    }
    Ok(Arc::new(Versioned { revision: raw.revision, value }))
}

/// A document and the revision it was read in. Revisions grow with every write, over all kinds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// Give it to [`crate::Batch::update`] to be refused when somebody else was faster.
    pub revision: u64,
    /// The document.
    pub value: T,
}

impl<T> Deref for Versioned<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
