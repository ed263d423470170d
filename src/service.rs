//! The rules across store and assistant: only here are both in sight, and only here is there a clock.

pub mod context;
pub mod replies;
