//! What a server tells of its models.

use serde_json::Value;

/// The models of a server, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// At most [`MOST_MODELS`] of them.
    pub(crate) models: Vec<ListedModel>,
}

/// One model of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedModel {
    /// Its name.
    pub(crate) id: String,
    /// How many tokens it reads at most as it runs now.
    pub(crate) context_tokens: Option<usize>,
    /// How many tokens it was trained for; it may run with less.
    pub(crate) trained_tokens: Option<usize>,
    /// Who owns it, which tells the server program.
    owned_by: Option<String>,
    /// Whether it answers in words, as far as can be told.
    pub(crate) chats: bool,
}

/// The server programs that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Ollama.
    Ollama,
    /// The server of llama.cpp.
    LlamaCpp,
    /// LM Studio.
    LmStudio,
    /// vLLM.
    Vllm,
}

impl Program {
    /// Its name, for people.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Program::Ollama => "Ollama",
            Program::LlamaCpp => "llama.cpp",
            Program::LmStudio => "LM Studio",
            Program::Vllm => "vLLM",
        }
    }
}

/// More models than any server has; a longer list is cut.
const MOST_MODELS: usize = 2_000;

/// Fields in which servers tell the context as it runs.
const CONTEXT_FIELDS: [&str; 5] =
    ["loaded_context_length", "context_length", "max_model_len", "context_window", "max_context_length"];

/// Beginnings and parts of names of models that do not chat, in lower case.
const OTHER_TRADES: [&str; 12] = [
    "embed",
    "bge-",
    "gte-",
    "e5-",
    "minilm",
    "rerank",
    "whisper",
    "tts",
    "dall-e",
    "moderation",
    "-image",
    "transcribe",
];

impl Listing {
    /// Reads the answer to `GET /v1/models`: an object whose `data` is an array (or the array alone) of objects with an `id`.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let entries = value.get("data").unwrap_or(&value).as_array()?;
        Some(Self { models: entries.iter().take(MOST_MODELS).filter_map(listed_model).collect() })
    }

    /// The first model that chats.
    pub(crate) fn first(&self) -> Option<&ListedModel> {
        self.models.iter().find(|model| model.chats)
    }

    /// The model of this name; Ollama takes a name without its tag for `:latest`.
    pub(crate) fn find(&self, name: &str) -> Option<&ListedModel> {
        self.models
            .iter()
            .find(|model| model.id == name)
            .or_else(|| self.models.iter().find(|model| model.id.strip_suffix(":latest") == Some(name)))
    }

    /// Which program serves these models, where their owner tells it.
    pub(crate) fn program(&self) -> Option<Program> {
        match self.models.first()?.owned_by.as_deref()? {
            "library" => Some(Program::Ollama),
            "llamacpp" => Some(Program::LlamaCpp),
            "organization_owner" => Some(Program::LmStudio),
            "vllm" => Some(Program::Vllm),
            _ => None,
        }
    }
}

fn listed_model(entry: &Value) -> Option<ListedModel> {
    let id = entry.get("id")?.as_str().filter(|id| !id.trim().is_empty())?.to_owned();
    let tokens =
        |value: Option<&Value>| value.and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let meta = entry.get("meta");
    let in_meta = |field: &str| tokens(meta.and_then(|meta| meta.get(field)));
    let name = id.to_lowercase();
    let kind = entry.get("type").and_then(Value::as_str).unwrap_or_default();
    let refuses_chat = entry.pointer("/capabilities/completion_chat") == Some(&Value::Bool(false));
    Some(ListedModel {
        context_tokens: CONTEXT_FIELDS.iter().find_map(|field| tokens(entry.get(*field))).or_else(|| in_meta("n_ctx")),
        trained_tokens: in_meta("n_ctx_train"),
        owned_by: entry.get("owned_by").and_then(Value::as_str).map(str::to_owned),
        chats: !kind.starts_with("embedding") && !refuses_chat && !OTHER_TRADES.iter().any(|part| name.contains(part)),
        id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn listing(value: Value) -> Option<Listing> {
        Listing::parse(value.to_string().as_bytes())
    }

    #[test]
    fn reads_what_servers_answer() {
        let llama_cpp = listing(json!({"models":[{"name":"x"}],"object":"list","data":[{"id":"qwen","object":"model",
            "owned_by":"llamacpp","meta":{"vocab_type":2,"n_ctx_train":32768}}]}))
        .unwrap();
        assert_eq!(llama_cpp.program(), Some(Program::LlamaCpp));
        assert_eq!((llama_cpp.models[0].context_tokens, llama_cpp.models[0].trained_tokens), (None, Some(32768)));

        let vllm = listing(json!({"data":[{"id":"m","owned_by":"vllm","max_model_len":4096}]})).unwrap();
        assert_eq!(vllm.models[0].context_tokens, Some(4096));

        let studio =
            listing(json!({"data":[{"id":"text-embedding-nomic-embed-text-v1.5"},{"id":"qwen3-4b"}]})).unwrap();
        assert_eq!(studio.first().map(|model| model.id.as_str()), Some("qwen3-4b"));

        let ollama = listing(json!({"data":[{"id":"a:1b"},{"id":"qwen3:latest","owned_by":"library"}]})).unwrap();
        assert_eq!(ollama.find("qwen3").map(|model| model.id.as_str()), Some("qwen3:latest"));
        assert_eq!(ollama.find("qwen"), None);
    }

    #[test]
    fn what_is_no_listing_is_none() {
        for text in ["<html></html>", "{}", "[1", "\"ok\"", "{\"data\":{}}", "{\"status\":\"ok\"}"] {
            assert_eq!(Listing::parse(text.as_bytes()), None, "{text}");
        }
        for value in [json!({"data":[]}), json!({"data":[1,{"name":"x"},{"id":""}]})] {
            assert_eq!(listing(value), Some(Listing::default()));
        }
    }
}
