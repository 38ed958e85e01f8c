//! `sampan master`: the process that is a cluster's master.
