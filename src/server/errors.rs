//! Error codes to statuses and error bodies: one place for all routes.

use super::security::is_api;
use crate::error::{AppError, ErrorCode};
use crate::model::session::first_characters;
use axum::Json;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::atomic::{AtomicU64, Ordering};

/// The header with which a server function marks its error.
const SERVER_FN_ERROR: &str = "serverfnerror";

/// No error body of ours is longer than this many bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// How much of an address stands in the log.
const MAX_PATH_CHARACTERS: usize = 200;

/// Gives every failed answer of the API its status and the documented body, and the log a line with the request's id.
pub async fn uniform_errors(request: Request, next: Next) -> Response {
    static NEXT_REQUEST: AtomicU64 = AtomicU64::new(1);
    let request_id = format!("{:x}", NEXT_REQUEST.fetch_add(1, Ordering::Relaxed));
    let is_api = is_api(request.uri());
    let (method, path) = (request.method().clone(), request.uri().path());
    let path = first_characters(path, MAX_PATH_CHARACTERS).to_owned();
    let span = tracing::info_span!("request", id = %request_id, %method, %path);
    let response = {
        use tracing::Instrument;
        next.run(request).instrument(span.clone()).await
    };
    let mut response = if is_api { uniform(response).await } else { response };
    let _entered = span.enter();
    let status = response.status();
    if status.is_server_error() {
        tracing::warn!(%status, "answered with an error");
    } else {
        tracing::debug!(%status, "answered");
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    response
}

async fn uniform(response: Response) -> Response {
    let from_server_function = response.headers().contains_key(SERVER_FN_ERROR);
    let failed = response.status().is_client_error() || response.status().is_server_error();
    let is_json =
        response.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    if from_server_function {
        let (mut parts, body) = response.into_parts();
        let error = match to_bytes(body, MAX_ERROR_BYTES).await {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|_| AppError::internal()),
            Err(_) => AppError::internal(),
        };
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.remove(SERVER_FN_ERROR);
        let answer = error.into_response();
        parts.status = answer.status();
        parts.headers.extend(answer.headers().clone());
        return Response::from_parts(parts, answer.into_body());
    }
    if failed && !is_json {
        return plain_failure(response.status()).into_response();
    }
    response
}

/// What a failure says that came from no handler of ours.
fn plain_failure(status: StatusCode) -> AppError {
    match status {
        StatusCode::NOT_FOUND => AppError::new(ErrorCode::NotFound, "There is nothing at this address."),
        StatusCode::METHOD_NOT_ALLOWED => {
            AppError::new(ErrorCode::MethodNotAllowed, "This address takes POST requests with a JSON body only.")
        }
        StatusCode::PAYLOAD_TOO_LARGE => AppError::new(ErrorCode::BodyTooLarge, "The request is too large."),
        status if status.is_client_error() => AppError::invalid("The request cannot be understood."),
        _ => AppError::internal(),
    }
}

/// Answers an address of the API that does not exist.
pub async fn unknown_api_address() -> AppError {
    plain_failure(StatusCode::NOT_FOUND)
}
