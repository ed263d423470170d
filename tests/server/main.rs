//! The server through its real router, on a real data directory, and as a process of its own.

mod api;
mod crash;
mod depth;
mod odd;
mod program;
mod replies;
mod security;
mod support;
