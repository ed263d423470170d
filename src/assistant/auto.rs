//! Whoever is there: a model server on this machine, else the assistant inside Verbatim.

use super::discover::Discover;
use super::embedded::Embedded;
use super::{Assistant, AssistantError, AssistantErrorCode, Event, Ready, Request};
use async_trait::async_trait;
use futures::stream::BoxStream;

/// The first of both that can answer now. A model server that starts later is found by the next search.
pub struct Auto {
    servers: Discover,
    embedded: Embedded,
}

/// Which of them answers.
enum Choice {
    Server(Ready),
    Embedded(Ready),
}

impl Auto {
    /// Puts both together.
    pub fn new(servers: Discover, embedded: Embedded) -> Self {
        Self { servers, embedded }
    }

    async fn choose(&self) -> Result<Choice, AssistantError> {
        // Searching costs one short time-out at most, and nothing for some seconds after a search that found none.
        let no_server = match self.servers.status().await {
            Ok(ready) => return Ok(Choice::Server(ready)),
            Err(error) => error,
        };
        match self.embedded.status().await {
            Ok(ready) => Ok(Choice::Embedded(ready)),
            Err(_) if no_server.code != AssistantErrorCode::Unreachable => Err(no_server),
            Err(error) => Err(AssistantError {
                code: AssistantErrorCode::Unreachable,
                message: format!(
                    "{} Or start Ollama, llama.cpp or LM Studio on this machine, or start Verbatim with --openai-url URL.",
                    error.message
                ),
                cause: format!("{}; {}", no_server.cause, error.cause),
            }),
        }
    }
}

#[async_trait]
impl Assistant for Auto {
    async fn status(&self) -> Result<Ready, AssistantError> {
        self.choose().await.map(|(Choice::Server(ready) | Choice::Embedded(ready))| ready)
    }

    async fn reply(
        &self,
        request: Request,
    ) -> Result<BoxStream<'static, Result<Event, AssistantError>>, AssistantError> {
        match self.choose().await? {
            Choice::Server(_) => self.servers.reply(request).await,
            Choice::Embedded(_) => self.embedded.reply(request).await,
        }
    }

    async fn prepare(&self, instructions: &str) {
        if let Ok(Choice::Embedded(_)) = self.choose().await {
            self.embedded.prepare(instructions).await;
        }
    }

    async fn close(&self) {
        self.embedded.close().await;
    }
}
