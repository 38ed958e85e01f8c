//! Applications: projects and services as they are wanted, kept that way.
