//! Browser-side state without markup: the session in hand, the reply that streams in, what is not saved yet.

pub mod again;
pub mod batches;
pub mod drafts;
pub mod journal;
pub mod queue;
pub mod reply_stream;
pub mod save_state;
pub mod session_manager;
pub mod turns;
pub mod window;
