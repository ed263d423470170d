//! Bodies that come in as JSON, for the plain routes.

use crate::api::codec;
use crate::error::AppError;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

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
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|_| AppError::invalid("The body could not be read to its end. Please send it again."))?;
        codec::decode(&bytes).map(Body).map_err(AppError::invalid)
    }
}
