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
    /// Why it cannot answer yet though it will by itself, in a sentence. What it is asked meanwhile waits.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// What to do, when none can be reached.
    pub advice: Option<String>,
}

impl AssistantStatus {
    /// That none can be reached, and what to do.
    pub fn absent(advice: String) -> Self {
        Self { model: None, place: None, note: None, waits_for: None, advice: Some(advice) }
    }
}

/// Asks which assistant answers now. A model of our own begins to load, while the person still types.
#[server(prefix = "/api", endpoint = "assistant/status", input = JsonBody, output = Json)]
pub async fn status() -> Result<AssistantStatus, AppError> {
    use crate::assistant::Ready;
    use crate::server::state::AppState;
    let replies = expect_context::<AppState>().replies;
    Ok(match replies.assistant_status().await {
        Ok(ready) => {
            replies.prepare_assistant(&ready.model).await;
            let Ready { model, place, note, waits_for, .. } = ready;
            AssistantStatus { model: Some(model), place: Some(place), note, waits_for, advice: None }
        }
        Err(error) => AssistantStatus::absent(error.message),
    })
}
