//! Compose templates (v1, 2.x, 3.x as far as they run on engines) with the extensions of the service: text in, what is
//! wanted out. Pure.

pub mod template;
