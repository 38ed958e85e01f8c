//! How large a template may be, in every dimension in which a few bytes can ask for much.

/// Bytes of a template's text.
pub const MAX_TEMPLATE_BYTES: usize = 1024 * 1024;
/// Scalars, lists and maps after anchors are expanded.
pub const MAX_NODES: usize = 50_000;
/// Bytes of all scalars after anchors are expanded and variables replaced.
pub const MAX_TEXT_BYTES: usize = 2 * 1024 * 1024;
/// How deep lists and maps may be nested.
pub const MAX_DEPTH: usize = 32;
/// Services of one template.
pub const MAX_SERVICES: usize = 256;
/// Networks, and volumes, of one template.
pub const MAX_DECLARATIONS: usize = 256;
/// Items of one list, and keys of one map, in a service.
pub const MAX_ITEMS: usize = 1024;
/// Bytes of all variables that a request brings.
pub const MAX_ENVIRONMENT_BYTES: usize = 1024 * 1024;
/// Ports of one service, ranges expanded.
pub const MAX_PORTS: usize = 1024;
/// Containers of one service.
pub const MAX_SCALE: u32 = 1000;
/// Bytes of one value after variables are replaced.
pub const MAX_VALUE_BYTES: usize = 256 * 1024;
/// How deep a default may contain variables with defaults.
pub const MAX_SUBSTITUTION_DEPTH: usize = 8;
/// Routes of one service.
pub const MAX_ROUTES: usize = 64;
/// Characters of a routing domain with its path.
pub const MAX_ROUTING_CHARACTERS: usize = 128;
