//! The plain Axum routes, those that stream.

pub mod replies;
