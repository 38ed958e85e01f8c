//! A Swarm cluster from the inside: what runs in its machines and needs no server.
//!
//! The *master* ([`master`]) lives in a hidden machine of each cluster, so that the cluster's endpoint (`master_url`), its
//! applications and its repairs go on while the server is down. It keeps a connection to the Docker engine of every node
//! ([`fleet`]) and answers as one engine ([`docker`]); [`schedule`] decides where a container goes; [`compose`] reads
//! templates; [`apps`] keeps applications as they are wanted; [`monitor`] measures containers. On every node run the
//! [`router`] (L7, into the cluster's overlay through a [`door`]) and the [`volumes`] plug-in.
//!
//! What the server tells the master is [`sampan_agents::master`].

pub mod apps;
pub mod compose;
pub mod docker;
pub mod door;
pub mod fleet;
pub mod master;
pub mod model;
pub mod monitor;
pub mod router;
pub mod schedule;
pub mod volumes;
