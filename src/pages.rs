//! The pages, and what only they use. They own resources and requests and hand signals and callbacks down.

pub mod chat;
pub mod deletion;
pub mod hidden;
pub mod not_found;
pub mod sessions;
