//! L7 routing on a node: by host and path prefix, into the cluster's overlay.
pub mod table;
