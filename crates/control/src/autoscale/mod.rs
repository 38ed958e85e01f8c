//! Nodes come and go by themselves: pools with `auto_scaling` grow when pods find no place, and shrink when their nodes
//! are not needed.
//!
//! It follows the documented behaviour of Kubernetes' cluster autoscaler. [`observe`] follows the clusters that scale by
//! themselves; [`model`] is what is kept of them; [`simulate`] says what fits where and how many nodes of which pool
//! would help; [`expander`] chooses between pools; [`scale_down`] finds nodes that are not needed. All of these are
//! pure, but for `observe`. [`controller`] puts them together, and acts through the use cases like any client.

mod controller;
mod expander;
mod model;
mod observe;
mod scale_down;
mod simulate;
mod template;

#[cfg(test)]
mod tests;

pub use controller::{Autoscaler, AutoscalerParts};
