//! Networks: ranges, addresses, ports.

pub mod allocate;
pub mod cidr;
