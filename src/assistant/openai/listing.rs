//! What a server tells of its models.

pub(crate) use super::body::without_mark;

use crate::model::foreign::one_line;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// The models of a server, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// At most [`MOST_MODELS`] of them.
    pub(crate) models: Vec<ListedModel>,
}

/// One model of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedModel {
    /// Its name as the server writes it.
    pub(crate) id: String,
    /// Its name as it is shown and kept.
    pub(crate) shown: String,
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

/// How many characters of a name are shown and kept.
const NAME_CHARACTERS: usize = 200;

/// A model's name as it is shown and kept: in one line, and not endless.
pub(crate) fn shown_name(name: &str) -> String {
    one_line(name.trim(), NAME_CHARACTERS)
}

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
    /// Reads the answer to `GET /v1/models`: an object whose `data` (with some servers: `models`) is an array, or the array alone,
    /// of objects with an `id`. Of an answer that breaks off, what there is of it counts.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut found = Found::default();
        let mut deserializer = serde_json::Deserializer::from_slice(without_mark(bytes));
        let is_whole = Answer(&mut found).deserialize(&mut deserializer).is_ok() && deserializer.end().is_ok();
        let models = if found.data.is_empty() { found.models } else { found.data };
        ((found.is_listing && is_whole) || !models.is_empty()).then_some(Self { models })
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

/// What was found in a listing so far. It is filled while reading, so that a torn listing leaves what came before the tear.
#[derive(Default)]
struct Found {
    is_listing: bool,
    data: Vec<ListedModel>,
    models: Vec<ListedModel>,
}

struct Answer<'a>(&'a mut Found);

impl<'de> DeserializeSeed<'de> for Answer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Answer<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a listing of models")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        self.0.is_listing = true;
        Models { found: &mut self.0.data, is_by_name: false }.visit_seq(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while let Some(field) = fields.next_key::<String>()? {
            let (found, is_by_name) = match field.as_str() {
                "data" => (&mut self.0.data, false),
                "models" => (&mut self.0.models, true),
                _ => {
                    fields.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            fields.next_value_seed(Models { found, is_by_name })?;
            self.0.is_listing = true;
        }
        match self.0.is_listing {
            true => Ok(()),
            false => Err(A::Error::custom("there are no models in it")),
        }
    }
}

/// Reads an array of models one by one: a long one never stands in the memory as a whole.
struct Models<'a> {
    found: &'a mut Vec<ListedModel>,
    /// Whether a model may have its name where the protocol has its `id`.
    is_by_name: bool,
}

impl<'de> DeserializeSeed<'de> for Models<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Models<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("models")
    }

    /// What Ollama says where it has none.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while self.found.len() < MOST_MODELS {
            let Some(entry) = list.next_element::<Value>()? else { return Ok(()) };
            self.found.extend(listed_model(&entry, self.is_by_name));
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

fn listed_model(entry: &Value, is_by_name: bool) -> Option<ListedModel> {
    let fields: &[&str] = if is_by_name { &["id", "model", "name"] } else { &["id"] };
    let named = entry.as_str().or_else(|| fields.iter().find_map(|field| entry.get(*field)?.as_str()));
    let id = named.filter(|id| !id.trim().is_empty())?.to_owned();
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
        shown: shown_name(&id),
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
    fn odd_listings_are_read_too() {
        let names = |text: &str| {
            Listing::parse(text.as_bytes()).map(|listing| listing.models.into_iter().map(|m| m.id).collect::<Vec<_>>())
        };
        let expected = Some(vec!["a".to_owned(), "b".to_owned()]);
        for text in [
            "\u{feff}{\"data\":[{\"id\":\"a\"},{\"id\":\"b\"}]}",
            r#"[{"id":"a"},{"id":"b"}]"#,
            r#"{"models":[{"name":"a"},{"model":"b","name":"B"}]}"#,
            r#"{"data":[],"models":["a","b"]}"#,
            r#"{"data":["a","b"]}"#,
            // Broken off, or cut at the limit.
            r#"{"data":[{"id":"a"},{"id":"b"},{"id":"c"#,
        ] {
            assert_eq!(names(text), expected, "{text}");
        }
    }

    #[test]
    fn long_listings_and_long_names_are_cut() {
        let many: Vec<Value> = (0..100_000).map(|n| json!({"id": format!("model-{n}"), "object": "model"})).collect();
        let listing = listing(json!({"data": many, "object": "list"})).unwrap();
        assert_eq!((listing.models.len(), listing.first().unwrap().id.as_str()), (MOST_MODELS, "model-0"));

        let name = "x\n".repeat(500_000);
        let long = Listing::parse(json!({"data": [{"id": name}]}).to_string().as_bytes()).unwrap();
        assert_eq!(long.models[0].id, name, "the server knows it by this name only");
        assert_eq!(long.models[0].shown.chars().filter(|&c| c == 'x').count(), NAME_CHARACTERS / 2);
        assert!(!long.models[0].shown.contains('\n') && long.models[0].shown.ends_with('…'));
    }

    #[test]
    fn what_is_no_listing_is_none() {
        for text in ["<html></html>", "{}", "[1", "\"ok\"", "{\"data\":{}}", "{\"status\":\"ok\"}"] {
            assert_eq!(Listing::parse(text.as_bytes()), None, "{text}");
        }
        for value in
            [json!({"data":[]}), json!({"object":"list","data":null}), json!({"data":[1,{"name":"x"},{"id":""}]})]
        {
            assert_eq!(listing(value), Some(Listing::default()));
        }
    }
}
