//! A way into the cluster's overlay from outside of it: sockets made in the network namespace of a container that is attached.
