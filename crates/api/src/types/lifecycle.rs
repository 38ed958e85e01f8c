//! A cluster's whole life: health, certificates, backups. Operations of Sampan's own, in the API's manner.

wire! {
    /// Answer of `GET /sampan/clusters/{ClusterId}/health`.
    pub struct ClusterHealth {
        /// The cluster.
        pub cluster_id: String,
        /// Its state.
        pub state: String,
        /// Why it is in this state, if there is a reason.
        pub state_reason: String,
        /// `healthy`, `degraded`, `unhealthy` or `unknown`: the worst of its parts and nodes.
        pub health: String,
        /// Its parts.
        pub components: Vec<ComponentHealth>,
        /// Members of its etcd.
        pub etcd_members: Vec<EtcdMember>,
        /// Its nodes.
        pub nodes: Vec<NodeHealth>,
        /// The id of this request.
        pub request_id: String,
    }

    /// How a part of a cluster is.
    pub struct ComponentHealth {
        /// `network`, `certificates`, `api_server`, `etcd`, `controllers`, `scheduler`, `dns` or `endpoint`.
        pub component: String,
        /// `healthy`, `degraded`, `unhealthy` or `unknown`.
        pub health: String,
        /// In words.
        pub message: String,
        /// Since when it is so: RFC 3339.
        pub since: String,
    }

    /// A member of a cluster's etcd.
    pub struct EtcdMember {
        /// Its id, hexadecimal.
        pub member_id: String,
        /// Its name: the machine's id.
        pub name: String,
        /// Whether it leads.
        pub leader: bool,
        /// Size of its data in bytes.
        pub db_size: i64,
        /// Part of that in use, in bytes.
        pub db_size_in_use: i64,
        /// Its version.
        pub version: String,
        /// Alarms and errors, in words.
        pub problems: Vec<String>,
    }

    /// How a node is.
    pub struct NodeHealth {
        /// Its name.
        pub node_name: String,
        /// The instance.
        pub instance_id: String,
        /// `healthy`, `degraded`, `unhealthy` or `unknown`.
        pub health: String,
        /// Whether new pods keep away from it.
        pub unschedulable: bool,
        /// Its conditions, as its kubelet reports them.
        pub conditions: Vec<NodeConditionHealth>,
    }

    /// A condition of a node.
    pub struct NodeConditionHealth {
        /// `Ready`, `MemoryPressure`, `DiskPressure`, `PIDPressure`, …
        #[serde(rename = "type")]
        pub kind: String,
        /// `True`, `False` or `Unknown`.
        pub status: String,
        /// One word.
        pub reason: String,
        /// In words.
        pub message: String,
        /// Since when: RFC 3339.
        pub since: String,
    }

    /// Answer of `GET /sampan/clusters/{ClusterId}/certificates`.
    pub struct ClusterCertificates {
        /// The certificates; authorities first.
        pub certificates: Vec<ClusterCertificate>,
        /// The id of this request.
        pub request_id: String,
    }

    /// A certificate, without its key.
    pub struct ClusterCertificate {
        /// What it is called here.
        pub name: String,
        /// The machine that has it; empty for those of the whole cluster.
        pub instance_id: String,
        /// Whom it names.
        pub subject: String,
        /// Who signed it.
        pub issuer: String,
        /// Begin of validity: RFC 3339.
        pub not_before: String,
        /// End of validity: RFC 3339.
        pub not_after: String,
        /// Who uses it, and for what.
        pub consumer: String,
        /// Whether it is an authority's.
        pub is_ca: bool,
        /// When it is issued again by itself: RFC 3339; empty when it is not.
        pub renewed_at: String,
    }

    /// Answer of `POST /sampan/clusters/{ClusterId}/backups`.
    pub struct CreateClusterBackupResponse {
        /// The cluster.
        pub cluster_id: String,
        /// The backup that is being made.
        pub backup_id: String,
        /// The task that makes it.
        pub task_id: String,
        /// The id of this request.
        pub request_id: String,
    }

    /// A backup of a cluster.
    pub struct ClusterBackup {
        /// The backup.
        pub backup_id: String,
        /// The cluster.
        pub cluster_id: String,
        /// `manual`, `periodic` or `upgrade`.
        pub kind: String,
        /// When it was made: RFC 3339.
        pub created: String,
        /// Kubernetes version of the cluster then.
        pub kubernetes_version: String,
        /// Revision of the data.
        pub revision: i64,
        /// Size of the snapshot in bytes.
        pub size: i64,
        /// SHA-256 of the snapshot, hexadecimal.
        pub sha256: String,
        /// File on the server's host, encrypted with the installation's master key.
        pub file: String,
    }

    /// Answer of `DELETE /sampan/clusters/{ClusterId}/backups/{BackupId}`.
    pub struct DeleteClusterBackupResponse {
        /// The backup that is gone.
        pub backup_id: String,
        /// The id of this request.
        pub request_id: String,
    }
}
