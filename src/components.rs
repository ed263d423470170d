//! Pieces of page that are shared. They get data and callbacks handed down and call neither the server nor the store.

pub mod composer;
pub mod confirm;
pub mod icon;
pub mod local_time;
pub mod markdown;
pub mod navigation;
pub mod queue;
pub mod session_browser;
pub mod shortcuts;
pub mod toast;
pub mod transcript;
