//! What the OpenAI chat protocol says, as far as this engine takes it: requests with their checks, and errors.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The most stop texts of a request.
const MOST_STOPS: usize = 4;

/// The most tools of a request.
const MOST_TOOLS: usize = 128;

/// The most messages of a request.
const MOST_MESSAGES: usize = 20_000;

/// A request that cannot be answered, in the protocol's form.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// The protocol's `code`.
    pub code: &'static str,
    /// What is wrong, for people.
    pub message: String,
    /// The field that is wrong, where it is one.
    pub param: Option<String>,
}

impl ApiError {
    /// An error of this status and code.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None }
    }

    /// 400 for a field.
    pub fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        let param = Some(param.into());
        Self { status: 400, code: "invalid_value", message: message.into(), param }
    }

    /// The body: `{"error":{…}}`.
    pub fn to_json(&self) -> Value {
        let kind = match self.status {
            401 => "authentication_error",
            429 | 503 => "unavailable_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        json!({"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.to_json())).into_response()
    }
}

/// A checked request for a completion.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The conversation, in the form that chat templates read: `role`, `content` as text, `tool_calls` with their arguments as
    /// objects.
    pub messages: Vec<Value>,
    /// The tools that may be called; empty where none may.
    pub tools: Vec<Value>,
    /// What the answer has to be.
    pub form: Form,
    /// The most tokens of the answer; `None` is as many as there is room for.
    pub max_tokens: Option<usize>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts at which the answer ends; they are not part of it.
    pub stop: Vec<String>,
    /// Whether the answer comes in pieces.
    pub stream: bool,
    /// Whether a stream ends with the usage.
    pub include_usage: bool,
    /// Whether a stream tells how far the prompt is read; an extension that llama.cpp's server has, too.
    pub return_progress: bool,
}

/// What an answer has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Anything.
    Free,
    /// One JSON object.
    JsonObject,
    /// One call of one of these tools.
    Call(Vec<String>),
}

/// How tokens are chosen. The names are the field's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 always takes the most likely token.
    pub temperature: f32,
    /// The share of probability that is considered.
    pub top_p: f32,
    /// How many tokens are considered; 0 is all.
    pub top_k: i32,
    /// The least probability, relative to the most likely token's.
    pub min_p: f32,
    /// The same seed and request give the same answer.
    pub seed: Option<u32>,
    /// Against tokens that were there, -2 to 2.
    pub presence_penalty: f32,
    /// The same, by how often they were.
    pub frequency_penalty: f32,
    /// Against repetitions, as a factor; 1 is none.
    pub repeat_penalty: f32,
    /// What is added to tokens' logits.
    pub logit_bias: Vec<(i32, f32)>,
}

/// A request as it is written. What is not named here is ignored, as the protocol's servers do.
#[derive(Debug, Deserialize)]
struct Wire {
    #[serde(default)]
    model: Value,
    #[serde(default)]
    messages: Value,
    #[serde(default)]
    tools: Value,
    #[serde(default)]
    tool_choice: Value,
    #[serde(default)]
    response_format: Value,
    #[serde(default)]
    max_tokens: Value,
    #[serde(default)]
    max_completion_tokens: Value,
    #[serde(default)]
    temperature: Value,
    #[serde(default)]
    top_p: Value,
    #[serde(default)]
    top_k: Value,
    #[serde(default)]
    min_p: Value,
    #[serde(default)]
    seed: Value,
    #[serde(default)]
    presence_penalty: Value,
    #[serde(default)]
    frequency_penalty: Value,
    #[serde(default)]
    repeat_penalty: Value,
    #[serde(default)]
    logit_bias: Value,
    #[serde(default)]
    stop: Value,
    #[serde(default)]
    stream: Value,
    #[serde(default)]
    stream_options: Value,
    #[serde(default)]
    return_progress: Value,
    #[serde(default)]
    n: Value,
}

/// Reads and checks a request to the model `model`.
///
/// # Errors
/// 400 that names the field, 404 for another model.
pub fn parse(body: &[u8], model: &str) -> Result<Completion, ApiError> {
    let wire: Wire = serde_json::from_slice(body)
        .map_err(|error| ApiError::new(400, "invalid_json", format!("The body is no JSON object: {error}.")))?;
    match &wire.model {
        Value::Null => {}
        Value::String(name) if name.is_empty() || name == model => {}
        Value::String(name) => {
            let message = format!("The model `{name}` does not exist here. This engine has `{model}`.");
            let param = Some("model".to_owned());
            return Err(ApiError { status: 404, code: "model_not_found", message, param });
        }
        _ => return Err(ApiError::field("model", "model: give the name of the model as text.")),
    }
    if whole_number(&wire.n, "n", 1.0, 128.0)?.is_some_and(|n| n != 1.0) {
        return Err(ApiError::field("n", "n: this engine makes one answer to a request."));
    }
    let messages = messages(&wire.messages)?;
    let tools = tools(&wire.tools)?;
    let (tools, form) = chosen(tools, &wire.tool_choice, &wire.response_format)?;
    let most = f64::from(u32::MAX);
    let max_tokens = match whole_number(&wire.max_completion_tokens, "max_completion_tokens", 1.0, most)? {
        None => whole_number(&wire.max_tokens, "max_tokens", 1.0, most)?,
        newer => newer,
    };
    Ok(Completion {
        messages,
        tools,
        form,
        max_tokens: max_tokens.map(|tokens| tokens as usize),
        sampling: sampling(&wire)?,
        stop: stops(&wire.stop)?,
        stream: flag(&wire.stream, "stream")?,
        include_usage: match &wire.stream_options {
            Value::Null => false,
            Value::Object(options) => {
                flag(options.get("include_usage").unwrap_or(&Value::Null), "stream_options.include_usage")?
            }
            _ => return Err(ApiError::field("stream_options", "stream_options: give an object.")),
        },
        return_progress: flag(&wire.return_progress, "return_progress")?,
    })
}

fn sampling(wire: &Wire) -> Result<Sampling, ApiError> {
    let real = |value: &Value, name: &str, least: f64, most: f64, usual: f32| {
        Ok::<f32, ApiError>(number(value, name, least, most)?.map_or(usual, |number| number as f32))
    };
    // Qwen's own recommendation, but cooler than its 0.7: there it refused one of 24 greetings, at 0.3 none.
    Ok(Sampling {
        temperature: real(&wire.temperature, "temperature", 0.0, 2.0, 0.3)?,
        top_p: real(&wire.top_p, "top_p", 0.0, 1.0, 0.8)?,
        top_k: whole_number(&wire.top_k, "top_k", 0.0, 1e6)?.map_or(20, |number| number as i32),
        min_p: real(&wire.min_p, "min_p", 0.0, 1.0, 0.0)?,
        seed: whole_number(&wire.seed, "seed", -9.3e18, 1.9e19)?.map(|_| folded_seed(&wire.seed)),
        presence_penalty: real(&wire.presence_penalty, "presence_penalty", -2.0, 2.0, 0.0)?,
        frequency_penalty: real(&wire.frequency_penalty, "frequency_penalty", -2.0, 2.0, 0.0)?,
        repeat_penalty: real(&wire.repeat_penalty, "repeat_penalty", 0.1, 2.0, 1.05)?,
        logit_bias: match &wire.logit_bias {
            Value::Null => Vec::new(),
            Value::Object(biases) => {
                biases.iter().map(|(token, bias)| logit_bias(token, bias)).collect::<Result<_, _>>()?
            }
            _ => return Err(ApiError::field("logit_bias", "logit_bias: give an object of token numbers and biases.")),
        },
    })
}

fn logit_bias(token: &str, bias: &Value) -> Result<(i32, f32), ApiError> {
    let name = format!("logit_bias.{token}");
    let token = token
        .parse()
        .map_err(|_| ApiError::field(&name, format!("{name}: a token is a number, as the model has it.")))?;
    let bias = number(bias, &name, -100.0, 100.0)?.unwrap_or_default();
    Ok((token, bias as f32))
}

/// Any whole number as a seed of 32 bits.
fn folded_seed(seed: &Value) -> u32 {
    let bits = seed.as_u64().or_else(|| seed.as_i64().map(i64::cast_unsigned)).unwrap_or_default();
    (bits ^ (bits >> 32)) as u32
}

fn whole_number(value: &Value, name: &str, least: f64, most: f64) -> Result<Option<f64>, ApiError> {
    match number(value, name, least, most)? {
        Some(number) if number.fract() != 0.0 => Err(ApiError::field(name, format!("{name}: give a whole number."))),
        number => Ok(number),
    }
}

fn number(value: &Value, name: &str, least: f64, most: f64) -> Result<Option<f64>, ApiError> {
    match value {
        Value::Null => Ok(None),
        value => match value.as_f64() {
            Some(number) if (least..=most).contains(&number) => Ok(Some(number)),
            Some(_) => Err(ApiError::field(name, format!("{name}: give a number from {least} to {most}."))),
            None => Err(ApiError::field(name, format!("{name}: give a number."))),
        },
    }
}

fn flag(value: &Value, name: &str) -> Result<bool, ApiError> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(*flag),
        _ => Err(ApiError::field(name, format!("{name}: give true or false."))),
    }
}

fn stops(value: &Value) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::field("stop", format!("stop: give a text or up to {MOST_STOPS} of them."));
    let stops = match value {
        Value::Null => Vec::new(),
        Value::String(stop) => vec![stop.clone()],
        Value::Array(stops) if stops.len() <= MOST_STOPS => {
            stops.iter().map(|stop| stop.as_str().map(str::to_owned).ok_or_else(wrong)).collect::<Result<_, _>>()?
        }
        _ => return Err(wrong()),
    };
    Ok(stops.into_iter().filter(|stop| !stop.is_empty()).collect())
}

fn messages(value: &Value) -> Result<Vec<Value>, ApiError> {
    let Value::Array(messages) = value else {
        return Err(ApiError::field("messages", "messages: give the conversation as a list of messages."));
    };
    if messages.is_empty() || messages.len() > MOST_MESSAGES {
        return Err(ApiError::field("messages", format!("messages: give 1 to {MOST_MESSAGES} messages.")));
    }
    messages.iter().enumerate().map(|(index, message)| self::message(message, &format!("messages[{index}]"))).collect()
}

fn message(message: &Value, name: &str) -> Result<Value, ApiError> {
    let role = message.get("role").and_then(Value::as_str).unwrap_or_default();
    // Newer clients call the system's voice the developer's; templates know the older word.
    let role = match role {
        "system" | "developer" => "system",
        "user" | "assistant" | "tool" => role,
        _ => {
            let name = format!("{name}.role");
            let text = format!("{name}: give system, developer, user, assistant or tool.");
            return Err(ApiError::field(name, text));
        }
    };
    let mut fields = Map::new();
    fields.insert("role".to_owned(), json!(role));
    let calls = match message.get("tool_calls") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(calls)) if role == "assistant" => calls
            .iter()
            .enumerate()
            .map(|(index, call)| tool_call(call, &format!("{name}.tool_calls[{index}]")))
            .collect::<Result<_, _>>()?,
        Some(_) => {
            let name = format!("{name}.tool_calls");
            return Err(ApiError::field(name.clone(), format!("{name}: give a list, and only for the assistant.")));
        }
    };
    let content = content(message.get("content").unwrap_or(&Value::Null), &format!("{name}.content"))?;
    if content.is_none() && calls.is_empty() {
        let name = format!("{name}.content");
        return Err(ApiError::field(name.clone(), format!("{name}: give the text of the message.")));
    }
    fields.insert("content".to_owned(), json!(content.unwrap_or_default()));
    if !calls.is_empty() {
        fields.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    for field in ["tool_call_id", "name"] {
        if let Some(Value::String(text)) = message.get(field) {
            fields.insert(field.to_owned(), json!(text));
        }
    }
    Ok(Value::Object(fields))
}

/// A message's text; `None` where there is none.
fn content(value: &Value, name: &str) -> Result<Option<String>, ApiError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(parts) => {
            let mut text = String::new();
            for (index, part) in parts.iter().enumerate() {
                match (part.get("type").and_then(Value::as_str), part.get("text").and_then(Value::as_str)) {
                    (Some("text" | "input_text" | "output_text") | None, Some(piece)) => text.push_str(piece),
                    (kind, _) => {
                        let name = format!("{name}[{index}]");
                        let kind = kind.unwrap_or("something else");
                        return Err(ApiError::field(
                            name.clone(),
                            format!("{name}: this model reads text only, not {kind}."),
                        ));
                    }
                }
            }
            Ok(Some(text))
        }
        _ => Err(ApiError::field(name, format!("{name}: give a text or a list of text parts."))),
    }
}

/// A call as templates read it: its arguments are an object, not a text that holds one.
fn tool_call(call: &Value, name: &str) -> Result<Value, ApiError> {
    let function = call.get("function").unwrap_or(&Value::Null);
    let Some(called) = function.get("name").and_then(Value::as_str).filter(|called| !called.is_empty()) else {
        let name = format!("{name}.function.name");
        return Err(ApiError::field(name.clone(), format!("{name}: give the name of the tool that was called.")));
    };
    let arguments = match function.get("arguments") {
        None | Some(Value::Null) => json!({}),
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        Some(other) => other.clone(),
    };
    let id = call.get("id").and_then(Value::as_str).unwrap_or_default();
    Ok(json!({"id": id, "type": "function", "function": {"name": called, "arguments": arguments}}))
}

fn tools(value: &Value) -> Result<Vec<Value>, ApiError> {
    let tools = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Array(tools) if tools.len() <= MOST_TOOLS => tools,
        _ => return Err(ApiError::field("tools", format!("tools: give a list of at most {MOST_TOOLS} tools."))),
    };
    for (index, tool) in tools.iter().enumerate() {
        let name = format!("tools[{index}]");
        if tool.get("type").and_then(Value::as_str).is_some_and(|kind| kind != "function") {
            return Err(ApiError::field(
                format!("{name}.type"),
                format!("{name}.type: this engine knows functions only."),
            ));
        }
        if tool_name(tool).is_none_or(|name| name.is_empty() || name.contains(['"', '\\', '\n'])) {
            let name = format!("{name}.function.name");
            return Err(ApiError::field(name.clone(), format!("{name}: give the name of the tool.")));
        }
    }
    Ok(tools.clone())
}

/// The name of a tool of a request.
pub fn tool_name(tool: &Value) -> Option<&str> {
    tool.pointer("/function/name").and_then(Value::as_str)
}

/// What of the tools may be called, and what the answer has to be.
fn chosen(tools: Vec<Value>, choice: &Value, format: &Value) -> Result<(Vec<Value>, Form), ApiError> {
    let wrong = |message: &str| Err(ApiError::field("tool_choice", format!("tool_choice: {message}")));
    let names = || tools.iter().filter_map(tool_name).map(str::to_owned).collect::<Vec<String>>();
    match choice {
        Value::Null => {}
        Value::String(choice) => match choice.as_str() {
            "auto" => {}
            "none" => return Ok((Vec::new(), response_format(format)?)),
            "required" if tools.is_empty() => return wrong("there are no tools."),
            "required" => {
                let form = Form::Call(names());
                return Ok((tools, form));
            }
            _ => return wrong("give none, auto, required or a function."),
        },
        choice => match tool_name(choice) {
            Some(name) if names().iter().any(|known| known == name) => {
                let form = Form::Call(vec![name.to_owned()]);
                return Ok((tools, form));
            }
            Some(name) => return wrong(&format!("there is no tool named {name}.")),
            None => return wrong("give none, auto, required or a function."),
        },
    }
    Ok((tools, response_format(format)?))
}

fn response_format(value: &Value) -> Result<Form, ApiError> {
    let wrong = |message: &str| Err(ApiError::field("response_format", format!("response_format: {message}")));
    match value.get("type").and_then(Value::as_str) {
        None if value.is_null() => Ok(Form::Free),
        Some("text") => Ok(Form::Free),
        Some("json_object") => Ok(Form::JsonObject),
        Some("json_schema") => wrong("this engine has json_object, but no schemas."),
        _ => wrong("give {\"type\":\"text\"} or {\"type\":\"json_object\"}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(value: Value) -> Result<Completion, ApiError> {
        parse(value.to_string().as_bytes(), "m")
    }

    fn with(field: &str, value: Value) -> Result<Completion, ApiError> {
        let mut body = json!({"messages": [{"role": "user", "content": "hi"}],
            "tools": [{"type": "function", "function": {"name": "look"}}]});
        body[field] = value;
        parsed(body)
    }

    #[test]
    fn what_is_missing_has_its_usual_value() {
        let completion = parsed(json!({"messages": [{"role": "developer", "content": "be"}]})).unwrap();
        assert_eq!(completion.messages, [json!({"role": "system", "content": "be"})]);
        assert_eq!((completion.form, completion.max_tokens, completion.stream), (Form::Free, None, false));
        assert!(completion.sampling.temperature > 0.0 && completion.sampling.seed.is_none());
    }

    #[test]
    fn messages_take_the_form_of_templates() {
        let completion = parsed(json!({"messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{\"x\":1}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "seen"},
        ]}))
        .unwrap();
        assert_eq!(completion.messages[0]["content"], "ab");
        assert_eq!(completion.messages[1]["content"], "");
        assert_eq!(completion.messages[1]["tool_calls"][0]["function"]["arguments"], json!({"x": 1}));
        assert_eq!(completion.messages[2]["tool_call_id"], "1");
    }

    #[test]
    fn a_wrong_field_is_named() {
        for (field, value) in [
            ("temperature", json!(3)),
            ("temperature", json!("hot")),
            ("top_p", json!(-0.1)),
            ("max_tokens", json!(0)),
            ("max_tokens", json!(1.5)),
            ("seed", json!(0.5)),
            ("n", json!(2)),
            ("stop", json!(["a", "b", "c", "d", "e"])),
            ("stop", json!([1])),
            ("stream", json!("yes")),
            ("messages", json!([])),
            ("messages", json!("hi")),
            ("tools", json!({})),
            ("tool_choice", json!("perhaps")),
            ("tool_choice", json!({"type": "function", "function": {"name": "other"}})),
            ("response_format", json!({"type": "json_schema"})),
            ("response_format", json!("json")),
        ] {
            let error = with(field, value.clone()).unwrap_err();
            assert_eq!((error.status, error.param.as_deref()), (400, Some(field)), "{value}");
            assert!(error.message.starts_with(field), "{}", error.message);
        }
        for (value, param) in [
            (json!([{"role": "critic", "content": "x"}]), "messages[0].role"),
            (json!([{"role": "user"}]), "messages[0].content"),
            (json!([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]), "messages[0].content[0]"),
            (json!([{"role": "user", "content": "x", "tool_calls": []}]), "messages[0].tool_calls"),
        ] {
            assert_eq!(with("messages", value).unwrap_err().param.as_deref(), Some(param));
        }
        assert_eq!(with("model", json!("other")).unwrap_err().status, 404);
        assert_eq!(parse(b"[", "m").unwrap_err().code, "invalid_json");
    }

    #[test]
    fn the_choice_of_tools_is_followed() {
        assert_eq!(with("tool_choice", json!("none")).unwrap().tools.len(), 0);
        assert_eq!(with("tool_choice", json!("auto")).unwrap().form, Form::Free);
        let named = json!({"type": "function", "function": {"name": "look"}});
        for choice in [json!("required"), named] {
            assert_eq!(with("tool_choice", choice).unwrap().form, Form::Call(vec!["look".to_owned()]));
        }
        assert_eq!(with("response_format", json!({"type": "json_object"})).unwrap().form, Form::JsonObject);
    }
}
