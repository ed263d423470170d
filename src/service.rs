//! The rules across store and assistant; only here both are seen.

pub mod context;
pub mod replies;
pub mod sessions;
