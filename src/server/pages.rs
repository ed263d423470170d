//! Pages are rendered to their end, whoever goes away meanwhile.

use crate::error::AppError;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::{SinkExt, StreamExt};
use tracing::Instrument;

/// How many pieces of a page are made before the first of them is taken.
const PIECES: usize = 16;

/// Renders a page to its end. What renders it would be taken apart in the middle otherwise, when its reader goes away, and what is
/// still at work in it would look for what is gone.
pub async fn to_the_end(request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/pkg/") {
        return next.run(request).await;
    }
    let rendering = async move {
        let (parts, body) = next.run(request).await.into_parts();
        if body.size_hint().exact().is_some() {
            return Response::from_parts(parts, body);
        }
        let (mut pieces, taken) = futures::channel::mpsc::channel::<Result<Bytes, axum::Error>>(PIECES);
        let rest = async move {
            let mut body = body.into_data_stream();
            while let Some(piece) = body.next().await {
                // An error means that nobody reads any more; it is rendered all the same.
                let _ = pieces.send(piece).await;
            }
        };
        let ended = tokio::spawn(rest.in_current_span());
        // A page that cannot be rendered to its end is broken off, so that it is not taken for whole.
        let end = futures::stream::once(ended).filter_map(|ended| async { Some(Err(axum::Error::new(ended.err()?))) });
        Response::from_parts(parts, Body::from_stream(taken.chain(end)))
    };
    tokio::spawn(rendering.in_current_span()).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a page cannot be rendered");
        AppError::internal().into_response()
    })
}
