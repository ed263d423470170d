//! Verbatim: every conversation with an assistant, kept word for word.

#[cfg(feature = "ssr")]
pub mod assistant;
pub mod error;
pub mod model;
#[cfg(feature = "ssr")]
pub mod server;
#[cfg(feature = "ssr")]
pub mod service;
#[cfg(feature = "ssr")]
pub mod store;
