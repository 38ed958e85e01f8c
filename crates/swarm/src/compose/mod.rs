//! Compose templates (v1, 2.x, 3.x as far as they run on engines) with the extensions of the service: text in, what is
//! wanted out. Pure.
//!
//! [`read`] goes through a template in this order: YAML within limits ([`limits`]), variables, `extends`, every service key by
//! key, labels, and at last what only the whole can tell: undeclared volumes and networks, circles.

mod declarations;
mod document;
mod error;
mod expressions;
mod extends;
mod field;
mod hash;
mod labels;
pub mod limits;
mod names;
mod order;
mod service;
mod shown;
mod substitute;
pub mod template;
#[cfg(test)]
mod tests;
mod values;
mod yaml;

pub use self::{
    document::{Context, read},
    error::TemplateError,
    hash::definition_hash,
    names::{MAX_PROJECT_NAME, MAX_SERVICE_NAME, project_name, service_name},
    template::Template,
};
