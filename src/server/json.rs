//! Bodies that come in as JSON.

use crate::error::{AppError, ErrorCode};
use crate::model::session::first_characters;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;

/// How much of what a caller wrote wrongly is repeated to it.
const REPEATED_CHARACTERS: usize = 300;

/// A body of JSON, read into a `T`. What cannot be read becomes an [`AppError`] that names the field.
#[derive(Clone, Copy, Debug)]
pub struct Body<T>(pub T);

impl<S, T> FromRequest<S> for Body<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = AppError;

    async fn from_request(request: Request, state: &S) -> Result<Self, AppError> {
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        parse(&bytes).map(Body)
    }
}

/// Reads JSON; the error names the field that is wrong.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, AppError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let cause = error.into_inner().to_string();
        let text = if matches!(path.as_str(), "." | "?") {
            format!("The body cannot be read: {cause}")
        } else {
            format!("{path}: {cause}")
        };
        AppError::invalid(first_characters(&text, REPEATED_CHARACTERS))
    })?;
    json.end().map_err(|_| AppError::invalid("Something follows the JSON value of the body."))?;
    Ok(value)
}

fn unreadable(rejection: BytesRejection) -> AppError {
    match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => AppError::new(
            ErrorCode::BodyTooLarge,
            "The body is larger than this server takes. Send less at once, or raise the server's limit.",
        ),
        _ => AppError::invalid("The body could not be read to its end. Please send it again."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::session::SessionId;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Outer {
        inner: Inner,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        session_id: SessionId,
    }

    fn message(text: &str) -> String {
        let error = parse::<Outer>(text.as_bytes()).unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidRequest);
        error.message
    }

    #[test]
    fn the_wrong_field_is_named() {
        assert_eq!(parse::<Outer>(br#"{"inner":{"session_id":"a"}}"#).unwrap().inner.session_id.as_str(), "a");
        assert!(message(r#"{"inner":{"session_id":"../a"}}"#).starts_with("inner.session_id: an id is"));
        assert!(message(r#"{"inner":{"session_id":7}}"#).starts_with("inner.session_id: "));
        assert!(message(r#"{"inner":{}}"#).contains("session_id"));
        assert!(message("").starts_with("The body cannot be read"));
        assert!(message(r#"{"inner":{"session_id":"a"}} x"#).starts_with("Something follows"));
        assert!(message(&"[".repeat(100_000)).len() <= REPEATED_CHARACTERS);
        assert!(message(&format!(r#"{{"inner":"{}"}}"#, "é".repeat(10_000))).chars().count() <= REPEATED_CHARACTERS);
    }
}
