//! What makes it so: the only room where store, machines, agents and Kubernetes meet.
//!
//! [`service`] holds the use cases: each validates, records what is wanted together with a task in one transaction, and
//! returns ids. [`reconcile`] holds the level-triggered controllers that make it so and can be killed at any instruction.
//! [`kubernetes`] knows what a Kubernetes cluster is made of: certificates, command lines, manifests, kubeconfigs; [`swarm`]
//! knows it of a Swarm cluster, and [`generations`] chooses between the two.
//! [`autoscale`] adds and removes nodes by themselves, through the use cases.
//! [`ports`] are the traits by which the controllers reach the world, so that tests can replace it.

pub mod autoscale;
pub mod backup;
mod certificate;
pub mod generations;
pub mod hosts;
pub mod kubernetes;
mod parts;
mod pem;
pub mod ports;
pub mod reconcile;
pub mod service;
pub mod swarm;
