//! What runs beside the server: the node agent, the tunnel by which agents dial in, and the balancer.
//!
//! [`spec`] is what a machine is told to be; [`tunnel`] carries an ordinary HTTP/1.1 API from the server to the agent over
//! a connection that the agent opened; [`node`] is the agent itself (PID 1 of a node container); [`balancer`] is the data
//! plane. Nothing here knows clusters, tasks or the store.

pub mod balancer;
mod children;
pub mod disk;
pub mod host;
pub mod http;
pub mod master;
pub mod node;
pub mod relay;
pub mod spec;
pub mod tunnel;
