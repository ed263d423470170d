//! The reply stream: start, resume and stop.

use crate::error::AppError;
use crate::model::session::is_id;
use crate::server::json::Body;
use crate::service::replies::{Replies, ReplyStream, StartReply};
use axum::Json;
use axum::body::{Body as ResponseBody, Bytes};
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;

/// Which part of which reply.
#[derive(Clone, Debug, Deserialize)]
pub struct Resume {
    reply_id: String,
    /// The last event that the caller has.
    #[serde(default)]
    after_seq: Option<u64>,
}

/// Which reply.
#[derive(Clone, Debug, Deserialize)]
pub struct Stop {
    reply_id: String,
}

/// `POST /api/replies/start`: the events of a new reply, or of the one that the same request started before.
pub async fn start(State(replies): State<Arc<Replies>>, Body(request): Body<StartReply>) -> Result<Response, AppError> {
    Ok(lines(replies.start(request).await?))
}

/// `POST /api/replies/resume`: the rest of a running or just finished reply.
pub async fn resume(State(replies): State<Arc<Replies>>, Body(request): Body<Resume>) -> Result<Response, AppError> {
    Ok(lines(replies.resume(checked(&request.reply_id)?, request.after_seq.unwrap_or_default())?))
}

/// `POST /api/replies/stop`: ends a reply and keeps its text so far.
pub async fn stop(State(replies): State<Arc<Replies>>, Body(request): Body<Stop>) -> Result<Json<Value>, AppError> {
    replies.stop(checked(&request.reply_id)?).await?;
    Ok(Json(json!({"success": true})))
}

fn checked(reply_id: &str) -> Result<&str, AppError> {
    if is_id(reply_id) { Ok(reply_id) } else { Err(AppError::invalid("The field `reply_id` has a wrong value.")) }
}

/// One event a line. Whoever reads slowly or goes away holds up nothing: the reply does not wait for its listeners.
fn lines(events: ReplyStream) -> Response {
    let lines = events.map(|event| Ok::<_, Infallible>(Bytes::from(event.to_line())));
    let headers = [
        (CONTENT_TYPE.as_str(), "application/x-ndjson"),
        (CACHE_CONTROL.as_str(), "no-store"),
        ("x-accel-buffering", "no"),
    ];
    (headers, ResponseBody::from_stream(lines)).into_response()
}
