//! The routes that stream: plain Axum over the services.

pub mod export;
pub mod replies;
