//! What the pages ask about the assistant.

use super::codec::JsonBody;
use crate::error::AppError;
use leptos::prelude::*;
use serde::{Deserialize, Serialize};
use server_fn::codec::Json;

/// Which assistant the pages talk to, or what to do to have one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssistantStatus {
    /// The model's name; `None` when no assistant can be reached.
    pub model: Option<String>,
    /// Where it runs, for people.
    pub place: Option<String>,
    /// What a person should know of the model beforehand, in a sentence.
    #[serde(default)]
    pub note: Option<String>,
    /// What to do, when none can be reached.
    pub advice: Option<String>,
}

/// Asks which assistant answers now. A model of our own begins to load, while the person still types.
#[server(prefix = "/api", endpoint = "assistant/status", input = JsonBody, output = Json)]
pub async fn status() -> Result<AssistantStatus, AppError> {
    use crate::server::state::AppState;
    let replies = expect_context::<AppState>().replies;
    Ok(match replies.assistant_status().await {
        Ok(ready) => {
            replies.prepare_assistant(&ready.model).await;
            AssistantStatus { model: Some(ready.model), place: Some(ready.place), note: ready.note, advice: None }
        }
        Err(error) => AssistantStatus { model: None, place: None, note: None, advice: Some(error.message) },
    })
}
