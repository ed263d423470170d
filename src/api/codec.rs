//! JSON as the input of server functions, with errors that name the wrong field and say nothing else.

use crate::model::json::{self, MAX_DEPTH};
use bytes::Bytes;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use server_fn::codec::Post;
use server_fn::{ContentType, Decodes, Encodes, Format, FormatType};
use std::borrow::Cow;

/// The input encoding of every server function: a JSON object in the body of a POST.
pub type JsonBody = Post<FieldJson>;

/// JSON whose decoding errors are sentences for the caller.
pub struct FieldJson;

impl ContentType for FieldJson {
    const CONTENT_TYPE: &'static str = "application/json";
}

impl FormatType for FieldJson {
    const FORMAT_TYPE: Format = Format::Text;
}

impl<T: Serialize> Encodes<T> for FieldJson {
    type Error = serde_json::Error;

    fn encode(output: &T) -> Result<Bytes, Self::Error> {
        serde_json::to_vec(output).map(Bytes::from)
    }
}

impl<T: DeserializeOwned> Decodes<T> for FieldJson {
    type Error = String;

    fn decode(bytes: Bytes) -> Result<T, String> {
        decode(&bytes)
    }
}

/// Reads a request body. An empty body counts as `{}`. What other programs write though it is no JSON is put right as in a session's
/// file: bytes that are no UTF-8 and halves of characters (lone surrogates, which JavaScript and Python write where a text was cut)
/// are read as U+FFFD, and what [`json::mend`] mends is mended.
///
/// # Errors
/// A sentence that names the wrong field, or the place where the text stops being JSON.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    decode_strictly(bytes).or_else(|sentence| {
        let Some(mended) = mended(bytes) else { return Err(sentence) };
        decode_strictly(mended.as_bytes()).map_err(|of_mended| {
            // Where mending was not enough, the place in the body as it was sent is what helps its sender.
            let is_json = serde_json::from_str::<IgnoredAny>(&mended).is_ok();
            if is_json { of_mended } else { sentence }
        })
    })
}

/// A body in which what can be put right was; `None` if there is nothing of that, or if it is deeper than any body may be.
fn mended(bytes: &[u8]) -> Option<String> {
    if json::is_too_deep(bytes) {
        return None;
    }
    let text = String::from_utf8_lossy(bytes);
    let whole = json::without_lone_surrogates(&text);
    json::mend(whole.as_deref().unwrap_or(&text), MAX_DEPTH).or(whole).or(match text {
        Cow::Owned(text) => Some(text),
        Cow::Borrowed(_) => None,
    })
}

fn decode_strictly<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| {
            let path = error.path().to_string();
            sentence(&path, error.inner())
        })
        .and_then(|value| {
            deserializer.end().map(|()| value).map_err(|_| "The body holds more than one JSON value.".to_owned())
        })
}

fn sentence(path: &str, error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    match error.classify() {
        Category::Data => {
            let text = error.to_string();
            for (prefix, what) in [("missing field `", "is missing"), ("duplicate field `", "stands there twice")] {
                if let Some(field) = text.strip_prefix(prefix).and_then(|rest| rest.split('`').next()) {
                    let whole = if path == "." { field.to_owned() } else { format!("{path}.{field}") };
                    return format!("The field `{whole}` {what}.");
                }
            }
            if path == "." {
                "The body must be a JSON object with the fields that this request takes.".to_owned()
            } else {
                format!("The field `{path}` has a wrong value.")
            }
        }
        Category::Syntax | Category::Eof | Category::Io => {
            format!("The body is not valid JSON at line {}, column {}.", error.line(), error.column())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Outer {
        #[allow(dead_code)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[allow(dead_code)]
        role: String,
    }

    #[test]
    fn halves_of_characters_are_read_as_replacement_characters() {
        use serde_json::{Value, json};
        for (body, expected) in [
            (r#"{"a":"x\ud83dy"}"#, json!({"a":"x\u{FFFD}y"})),
            (r#"{"a":"\uDE00\ud83d"}"#, json!({"a":"\u{FFFD}\u{FFFD}"})),
            (r#"{"\ud83d":["\ud83d\ude00","\\ud83d"]}"#, json!({"\u{FFFD}":["😀","\\ud83d"]})),
            ("\u{FEFF}{\"a\":1}", json!({"a":1})),
        ] {
            assert_eq!(decode::<Value>(body.as_bytes()), Ok(expected), "{body}");
        }
        assert!(decode::<Value>(br#"{"a":"\ud83d""#).is_err());
    }

    #[test]
    fn what_is_put_right_in_a_file_is_put_right_in_a_body() {
        use serde_json::{Value, json};
        for (body, expected) in [
            (&br#"{"a":[NaN,-Infinity],"b":{"c":Infinity}}"#[..], json!({"a":[null,null],"b":{"c":null}})),
            (b"{\"a\":\"x\xFFy\xC3\"}", json!({"a":"x\u{FFFD}y\u{FFFD}"})),
            (
                b"{\"a\":\"\xFF\\ud83d NaN\",\"b\":NaN,\"c\":True}",
                json!({"a":"\u{FFFD}\u{FFFD} NaN","b":null,"c":"True"}),
            ),
        ] {
            assert_eq!(decode::<Value>(body), Ok(expected), "{}", String::from_utf8_lossy(body));
        }
        // What is too deep is refused before a body is read, and stays so where it is not.
        let deep = format!("{{\"x\":NaN,\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(decode::<Value>(deep.as_bytes()).unwrap_err(), "The body is not valid JSON at line 1, column 6.");
    }

    #[test]
    fn numbers_of_any_size_are_read_wherever_no_other_is_asked_for() {
        use crate::model::message::MessageInput;
        let body = r#"{"role":"assistant","content":"x","metadata":{"n":1e999},"more":[1e999],"rev":null,"parts":[
            {"type":"text","text":"x","n":1e999},{"type":"tool","name":"t","arguments":{"n":-1e999}},{"type":"new","n":1e999}]}"#;
        let input = decode::<MessageInput>(body.as_bytes()).unwrap();
        assert_eq!((input.metadata["n"].to_string(), input.rev), ("1e+999".to_owned(), 0));
        assert_eq!(serde_json::to_string(&input).unwrap().matches("1e+999").count(), 5);
    }

    #[test]
    fn names_the_wrong_field() {
        for (body, expected) in [
            ("", "The field `inner` is missing."),
            (r#"{"inner":[{}]}"#, "The field `inner[0].role` is missing."),
            (r#"{"inner":[],"inner":[]}"#, "The field `inner` stands there twice."),
            (r#"{"inner":[{"role":7}]}"#, "The field `inner[0].role` has a wrong value."),
            (r#"{"inner":{}"#, "The field `inner` has a wrong value."),
            ("[", "The body is not valid JSON at line 1, column 1."),
            (r#"{"inner":NaN}"#, "The field `inner` has a wrong value."),
            ("{\"inner\":\"\u{1}\"}", "The body is not valid JSON at line 1, column 11."),
            ("{\"x\":NaN,\n\"inner\":[]", "The body is not valid JSON at line 1, column 6."),
            (r#"{"inner":NaN x}"#, "The body is not valid JSON at line 1, column 10."),
            ("7", "The body must be a JSON object with the fields that this request takes."),
            (r#"{"inner":[]} x"#, "The body holds more than one JSON value."),
        ] {
            assert_eq!(decode::<Outer>(body.as_bytes()).unwrap_err(), expected, "{body}");
        }
    }
}
