//! The server functions: parse, one call of a service, return. The pages use what a caller with `curl` sees.

// The structs that the `server` macro makes of the arguments can carry no docs of their own.
#![allow(missing_docs)]

pub mod assistant;
pub mod codec;
pub mod sessions;
