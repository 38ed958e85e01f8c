//! The Docker Remote API of the whole cluster.
