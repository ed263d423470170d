//! Finds a model server on this machine by itself.

use super::openai::listing::{Listing, without_mark};
use super::openai::{Endpoint, OpenAi, OpenAiOptions, read_up_to};
use super::{Assistant, AssistantError, AssistantErrorCode, Event, Ready, Request};
use async_trait::async_trait;
use futures::future;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What discovery needs to know.
#[derive(Clone, Debug)]
pub struct DiscoverOptions {
    /// Where to look, the preferred one first.
    pub ports: Vec<u16>,
    /// The model to ask; without it the first one that is listed and chats.
    pub model: Option<String>,
    /// How many tokens the model reads, where somebody knows better than the server tells.
    pub context_tokens: Option<usize>,
    /// The longest time in which a server must answer.
    pub probe_timeout: Duration,
    /// How long it is believed that there is none.
    pub retry_after: Duration,
}

impl Default for DiscoverOptions {
    /// The usual ports, and the short times that a server on the same machine needs.
    fn default() -> Self {
        // Ollama, LM Studio, llama.cpp, vLLM.
        let ports = vec![11434, 1234, 8080, 8000];
        Self {
            ports,
            model: None,
            context_tokens: None,
            probe_timeout: Duration::from_millis(500),
            retry_after: Duration::from_secs(3),
        }
    }
}

/// An assistant that is whatever model server runs on this machine.
pub struct Discover {
    options: DiscoverOptions,
    http: reqwest::Client,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    found: Option<Arc<OpenAi>>,
    /// When the last search ended without finding one.
    none_at: Option<Instant>,
}

/// How much of a listing of models is read while searching, in bytes.
const MAX_LISTING_BYTES: usize = 4 << 20;

impl Discover {
    /// Sets the search up; it begins when somebody asks. Fails only where the HTTP client cannot be set up.
    pub fn new(options: DiscoverOptions) -> Result<Self, AssistantError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(options.probe_timeout)
            .build()
            .map_err(|error| AssistantError {
                code: AssistantErrorCode::Failed,
                message: "The search for model servers cannot be set up. Verbatim's log says why.".to_owned(),
                cause: error.to_string(),
            })?;
        Ok(Self { options, http, state: tokio::sync::Mutex::default() })
    }

    /// The server found before, or else the one that is found now.
    async fn find(&self) -> Result<Arc<OpenAi>, AssistantError> {
        // Held while searching, so that many who ask at once search once.
        let mut state = self.state.lock().await;
        if let Some(found) = &state.found {
            return Ok(found.clone());
        }
        if state.none_at.is_some_and(|at| at.elapsed() < self.options.retry_after) {
            return Err(none_found());
        }
        // All are asked at the same time; the first in order wins, however fast the others are.
        let answers = future::join_all(self.options.ports.iter().map(|port| self.probe(*port))).await;
        match answers.into_iter().flatten().next() {
            Some(options) => {
                tracing::info!(endpoint = ?options.endpoint, "found a model server");
                let found = Arc::new(OpenAi::new(options)?);
                *state = State { found: Some(found.clone()), none_at: None };
                Ok(found)
            }
            None => {
                state.none_at = Some(Instant::now());
                Err(none_found())
            }
        }
    }

    /// The options for a port of this machine, if a model server with a model that chats answers there.
    async fn probe(&self, port: u16) -> Option<OpenAiOptions> {
        let base = format!("http://127.0.0.1:{}/v1", port);
        let response = self.http.get(format!("{base}/models")).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let body = read_up_to(response, MAX_LISTING_BYTES).await.ok()?;
        // Any web server may answer here; only an object with its models is a model server.
        if without_mark(&body).trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        Listing::parse(&body)?.first()?;
        let endpoint: Endpoint = base.parse().ok()?;
        Some(OpenAiOptions {
            model: self.options.model.clone(),
            context_tokens: self.options.context_tokens,
            ..OpenAiOptions::new(endpoint)
        })
    }

    /// Forgets a server that does not answer any more, so that the next who asks searches again.
    async fn forget(&self, gone: &Arc<OpenAi>) {
        let mut state = self.state.lock().await;
        if state.found.as_ref().is_some_and(|found| Arc::ptr_eq(found, gone)) {
            *state = State::default();
        }
    }
}

#[async_trait]
impl Assistant for Discover {
    async fn status(&self) -> Result<Ready, AssistantError> {
        let found = self.find().await?;
        match found.status().await {
            Err(error) if error.code == AssistantErrorCode::Unreachable => {
                self.forget(&found).await;
                self.find().await?.status().await
            }
            status => status,
        }
    }

    async fn reply(
        &self,
        request: Request,
    ) -> Result<BoxStream<'static, Result<Event, AssistantError>>, AssistantError> {
        let found = self.find().await?;
        let reply = found.reply(request).await;
        if reply.as_ref().is_err_and(|error| error.code == AssistantErrorCode::Unreachable) {
            self.forget(&found).await;
        }
        reply
    }
}

fn none_found() -> AssistantError {
    AssistantError {
        code: AssistantErrorCode::Unreachable,
        message:
            "No assistant was found. Start Ollama, llama.cpp or LM Studio on this machine, or start Verbatim with \
                  --openai-url URL."
                .to_owned(),
        cause: "no model server answers on the usual ports".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::openai::tests::{serve, silent_port};
    use super::*;
    use axum::Router;
    use axum::routing::get;

    fn listing(model: &'static str) -> Router {
        Router::new().route("/v1/models", get(move || async move { format!(r#"{{"data":[{{"id":"{model}"}}]}}"#) }))
    }

    fn discover(ports: &[u16]) -> Discover {
        let ports = ports.to_vec();
        Discover::new(DiscoverOptions { ports, retry_after: Duration::ZERO, ..DiscoverOptions::default() }).unwrap()
    }

    #[tokio::test]
    async fn the_first_model_server_in_order_wins() {
        let page = serve(Router::new().fallback(|| async { "<html>an ordinary page</html>" })).await;
        let array = serve(Router::new().route("/v1/models", get(|| async { r#"[{"id":"x"}]"# }))).await;
        let empty = serve(Router::new().route("/v1/models", get(|| async { r#"{"data":[]}"# }))).await;
        let embeds = serve(listing("nomic-embed-text")).await;
        let (first, second) = (serve(listing("first")).await, serve(listing("second")).await);
        let ports =
            [silent_port().await, page.port(), array.port(), empty.port(), embeds.port(), first.port(), second.port()];
        let ready = discover(&ports).status().await.unwrap();
        assert_eq!(ready.model, "first");
        assert_eq!(ready.place, format!("port {} of this machine", first.port()));
    }

    #[tokio::test]
    async fn says_what_to_do_and_finds_one_that_starts_later() {
        let port = silent_port().await;
        let discover = discover(&[port]);
        let error = discover.status().await.unwrap_err();
        assert_eq!(error.code, AssistantErrorCode::Unreachable);
        assert!(error.message.contains("Start Ollama") && error.message.contains("--openai-url"), "{}", error.message);

        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        tokio::spawn(async move { axum::serve(listener, listing("late")).await });
        assert_eq!(discover.status().await.unwrap().model, "late");
    }

    #[tokio::test]
    async fn goes_on_to_another_one_when_the_first_is_gone() {
        let (first, second) = (serve(listing("first")).await, serve(listing("second")).await);
        let discover = discover(&[first.port(), second.port()]);
        assert_eq!(discover.status().await.unwrap().model, "first");
        let port = first.stop().await;
        // The listing is believed for some seconds, so that the loss is noticed by a reply first.
        let request = Request { model: None, messages: Vec::new(), modes: Default::default() };
        let error = discover.reply(request).await.err().unwrap();
        assert_eq!(error.code, AssistantErrorCode::Unreachable, "port {port}");
        assert_eq!(discover.status().await.unwrap().model, "second");
    }
}
