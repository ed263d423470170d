//! Sessions as other programs and people read them. Pure: the time comes in as an argument.

pub mod document;
