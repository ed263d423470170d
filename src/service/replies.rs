//! Placeholder until the branch with the running replies lands.
use crate::assistant::{AssistantError, Ready};
use crate::error::AppError;
use crate::model::session::SessionId;
use std::collections::HashSet;
/// Running replies.
pub struct Replies;
impl Replies {
    /// Which assistant answers.
    pub async fn assistant_status(&self) -> Result<Ready, AssistantError> {
        Ok(Ready { model: String::new(), place: String::new(), context_tokens: None })
    }
    /// The reply that runs in a session: reply id and message id.
    pub fn running(&self, _id: &SessionId) -> Option<(String, String)> {
        None
    }
    /// The message ids of the replies that run in a session.
    pub fn running_messages(&self, _id: &SessionId) -> HashSet<String> {
        HashSet::new()
    }
    /// Stops what runs in a session.
    pub async fn stop_session(&self, _id: &SessionId) -> Result<(), AppError> {
        Ok(())
    }
}
impl Replies {
    /// N
    pub fn new(
        _s: std::sync::Arc<dyn crate::store::SessionStore>,
        _a: std::sync::Arc<dyn crate::assistant::Assistant>,
        _c: Option<usize>,
    ) -> Self {
        Self
    }
    /// R
    pub async fn recover(&self) {}
    /// S
    pub async fn shutdown(&self) {}
}
