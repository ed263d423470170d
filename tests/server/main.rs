//! The server through its real router, on a real data directory, and as a process of its own.

mod api;
mod compression;
mod connections;
mod crash;
mod depth;
mod endpoint;
mod hostile;
mod limits;
mod odd;
mod program;
mod replies;
mod security;
mod support;
