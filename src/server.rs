//! The HTTP server.

pub mod errors;
pub mod json;
pub mod routes;
