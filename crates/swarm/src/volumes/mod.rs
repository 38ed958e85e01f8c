//! The volume plug-in of a node: `ossfs` and `nas`.
