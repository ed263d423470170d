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
//! - [`browser`]: the few facts and services of the browser that are used; on the server a double that has none.
//! - [`client`]: browser-side state without markup; [`components`], [`pages`], [`app`]: the pages.
//! - `server` (server): router, security, files, shutdown.

// The types of views are nested as deep as the pages are.
#![recursion_limit = "512"]

pub mod api;
pub mod app;
#[cfg(feature = "ssr")]
pub mod assistant;
#[cfg(feature = "hydrate")]
#[path = "client/browser.rs"]
pub mod browser;
#[cfg(not(feature = "hydrate"))]
#[path = "client/no_browser.rs"]
pub mod browser;
pub mod client;
pub mod components;
pub mod error;
pub mod export;
pub mod model;
pub mod pages;
#[cfg(feature = "ssr")]
pub mod server;
#[cfg(feature = "ssr")]
pub mod service;
#[cfg(feature = "ssr")]
pub mod store;

/// Takes over the page that the server sent.
#[cfg(feature = "hydrate")]
#[wasm_bindgen::prelude::wasm_bindgen]
pub fn hydrate() {
    console_error_panic_hook::set_once();
    leptos::mount::hydrate_body(app::App);
}
