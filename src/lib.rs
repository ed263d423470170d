//! Verbatim: every conversation with an assistant, kept word for word.
//!
//! The modules in reading order; each uses only what stands before it, and `server` sees all.
//!
//! - [`model`]: what is said and kept; pure.
//! - [`export`]: sessions as other programs read them; pure.
//! - [`error`]: the only error on the wire.
//! - `store` (server): where sessions are kept.
//! - `assistant` (server): whoever answers.
//! - `service` (server): the rules across store and assistant.
//! - [`api`]: the server functions, called by the pages and by `curl`.
//! - `client`: browser-side state without markup; `components`, `pages`, `app`: the pages.
//! - `server` (server): router, security, files, shutdown.

pub mod api;
pub mod app;
#[cfg(feature = "ssr")]
pub mod assistant;
pub mod error;
pub mod export;
pub mod model;
#[cfg(feature = "ssr")]
pub mod server;
#[cfg(feature = "ssr")]
pub mod service;
#[cfg(feature = "ssr")]
pub mod store;
