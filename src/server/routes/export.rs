//! `/api/sessions/export`: one session as a document, many as a stream that never holds more than one in memory.

use crate::api::codec;
use crate::error::AppError;
use crate::export::document::{self, SessionDocument, Skipped};
use crate::model::session::{Kind, SessionId};
use crate::model::time;
use crate::server::state::{AppState, ExportLimit};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use chrono::Utc;
use futures::{StreamExt, stream};
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashSet;

/// What a caller wants to have exported.
#[derive(Debug, Default, Deserialize)]
struct ExportInput {
    session_id: Option<SessionId>,
    session_ids: Option<Vec<SessionId>>,
    query: Option<String>,
    kind: Option<Kind>,
    utc_offset_minutes: Option<i32>,
    format: Option<String>,
    /// Missing: the server's limit. `null`: all.
    #[serde(default, deserialize_with = "said")]
    limit: Option<Option<u64>>,
}

fn said<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::<u64>::deserialize(deserializer).map(Some)
}

/// Answers with one session or with many; a form post is answered as a download.
pub async fn export(
    State(state): State<AppState>,
    State(ExportLimit(default_limit)): State<ExportLimit>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, AppError> {
    let is_form = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    let input = if is_form { from_form(&body)? } else { codec::decode(&body).map_err(AppError::invalid)? };
    if !matches!(input.format.as_deref(), None | Some("" | "json")) {
        return Err(AppError::invalid("The field `format` must be `json`: other formats come with a later version."));
    }
    let (name, body) = match &input.session_id {
        Some(id) => {
            let document = state.sessions.document(id).await?;
            (format!("verbatim-{id}.json"), Body::from(to_json(&document, is_form)?))
        }
        None => {
            let now = Utc::now();
            let body = many(&state, &input, default_limit, &time::format(now)).await?;
            (format!("verbatim-sessions-{}.json", now.format("%Y-%m-%d")), body)
        }
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if is_form {
        // The name is made of an id's or a date's characters only, so that it needs no quoting.
        if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
            headers.insert(CONTENT_DISPOSITION, value);
        }
    }
    Ok(response)
}

/// Writes one session; a download is written for eyes, too.
fn to_json(document: &SessionDocument, pretty: bool) -> Result<Vec<u8>, AppError> {
    if pretty { serde_json::to_vec_pretty(document) } else { serde_json::to_vec(document) }.map_err(|error| {
        tracing::error!(%error, "a session cannot be written as JSON");
        AppError::internal()
    })
}

/// Streams the sessions that the request names or finds.
async fn many(state: &AppState, input: &ExportInput, default_limit: u64, exported_at: &str) -> Result<Body, AppError> {
    let mut ids = match &input.session_ids {
        Some(ids) => {
            let mut seen = HashSet::new();
            ids.iter().filter(|id| seen.insert(*id)).cloned().collect()
        }
        None => state.sessions.find(input.query.as_deref(), input.kind, input.utc_offset_minutes).await?,
    };
    let matching = ids.len();
    if let Some(limit) = input.limit.unwrap_or(Some(default_limit)) {
        ids.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let total_matching = (ids.len() < matching).then_some(matching);

    struct Progress {
        state: AppState,
        ids: std::vec::IntoIter<SessionId>,
        written: usize,
        skipped: Vec<Skipped>,
        ended: bool,
    }
    let progress =
        Progress { state: state.clone(), ids: ids.into_iter(), written: 0, skipped: Vec::new(), ended: false };
    let head = Bytes::from(document::many_head(exported_at));
    let rest = stream::unfold(progress, move |mut progress| async move {
        if progress.ended {
            return None;
        }
        for id in progress.ids.by_ref() {
            let document = progress.state.sessions.document(&id).await;
            match document.and_then(|document| to_json(&document, false)) {
                Ok(mut text) => {
                    if progress.written > 0 {
                        text.insert(0, b',');
                    }
                    text.push(b'\n');
                    progress.written += 1;
                    return Some((Bytes::from(text), progress));
                }
                Err(error) => progress.skipped.push(Skipped { session_id: id, reason: error.message }),
            }
        }
        progress.ended = true;
        let tail = document::many_tail(progress.written, total_matching, &progress.skipped);
        Some((Bytes::from(tail), progress))
    });
    Ok(Body::from_stream(stream::once(async { head }).chain(rest).map(Ok::<_, std::convert::Infallible>)))
}

/// Reads the fields of a form: `session_ids` may stand several times or hold commas, `limit` may be `all`.
fn from_form(body: &[u8]) -> Result<ExportInput, AppError> {
    let mut input = ExportInput::default();
    let wrong = |field: &str| AppError::invalid(format!("The field `{field}` has a wrong value."));
    let id = |field: &str, text: &str| text.parse::<SessionId>().map_err(|_| wrong(field));
    for (field, value) in form_fields(body)? {
        let value = value.trim();
        match field.as_str() {
            "session_id" => input.session_id = Some(id("session_id", value)?),
            "session_ids" => {
                let ids = input.session_ids.get_or_insert_default();
                for part in value.split(',').filter(|part| !part.is_empty()) {
                    ids.push(id("session_ids", part)?);
                }
            }
            "query" => input.query = Some(value.to_owned()),
            "kind" if value.is_empty() => {}
            "kind" => {
                input.kind = Some(serde_json::from_value(Value::from(value)).map_err(|_| wrong("kind"))?);
            }
            "utc_offset_minutes" if value.is_empty() => {}
            "utc_offset_minutes" => {
                input.utc_offset_minutes = Some(value.parse().map_err(|_| wrong("utc_offset_minutes"))?);
            }
            "format" => input.format = Some(value.to_owned()),
            "limit" if value.is_empty() => {}
            "limit" if matches!(value, "all" | "null") => input.limit = Some(None),
            "limit" => input.limit = Some(Some(value.parse().map_err(|_| wrong("limit"))?)),
            _ => {}
        }
    }
    Ok(input)
}

fn form_fields(body: &[u8]) -> Result<Vec<(String, String)>, AppError> {
    serde_urlencoded::from_bytes(body).map_err(|_| AppError::invalid("The form cannot be understood."))
}
