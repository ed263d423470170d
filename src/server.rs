//! The server: state, and later router, security layers, static files and shutdown.

pub mod state;
