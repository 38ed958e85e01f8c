//! The engines of the nodes: connections, what is on them, and the swarm that they form.
