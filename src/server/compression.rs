//! Which answers are sent compressed.
//!
//! Compression tells by its length what an answer holds twice. No answer holds a secret beside words of others: a page's nonce is made
//! for that page alone. What will hold one, a token for example, must not be compressed.

use axum::body::HttpBody;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::Predicate;

/// What fits in one packet comes no earlier when it is smaller.
const FEWEST_BYTES: u64 = 1_400;

/// On the way to a program on this machine more than this takes longer compressed.
const MOST_BYTES: u64 = 2 << 20;

/// Compresses what gains by it, for those who ask.
pub fn layer() -> CompressionLayer<Gains> {
    CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest).compress_when(Gains)
}

/// Text that is neither tiny nor huge; of answers whose length is not known pages only: replies stream word by word, exports are
/// long and go to programs.
#[derive(Clone, Copy, Debug)]
pub struct Gains;

impl Predicate for Gains {
    fn should_compress<B: HttpBody>(&self, response: &Response<B>) -> bool {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let kind = header(CONTENT_TYPE).unwrap_or_default();
        let said = header(CONTENT_LENGTH).and_then(|length| length.parse().ok());
        match said.or(response.body().size_hint().exact()) {
            Some(length) => {
                let is_text = ["text/", "application/json", "application/javascript", "image/svg+xml"];
                (FEWEST_BYTES..=MOST_BYTES).contains(&length) && is_text.iter().any(|text| kind.starts_with(text))
            }
            None => kind.starts_with("text/html"),
        }
    }
}
