//! Who may ask, what a request may hold, and what every answer forbids a browser to do.

use crate::error::{AppError, ErrorCode};
use crate::model::json;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, EXPECT, HOST, HeaderName, HeaderValue, ORIGIN,
    REFERER,
};
use axum::http::uri::{Parts as UriParts, Scheme};
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a caller may take to send the next piece of a body. A slow body that moves is waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How many bytes of bodies are held at once, at least.
const ALL_BODIES: usize = 256 << 20;

/// What of a refused body is still taken, so that its sender comes to read why: bytes and time.
const REFUSED_BYTES: usize = 1 << 30;
const REFUSED_TIME: Duration = Duration::from_secs(60);

/// The route that takes forms, too.
pub const EXPORT: &str = "/api/sessions/export";

/// What no answer of ours lets a browser do; a page's own policy, with its nonce, replaces the first.
const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    // Not `no-referrer`: with it a browser sends `Origin: null` along with our own forms, and we would refuse them.
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(self), payment=(), usb=()"),
];

/// The policy of a page whose scripts carry `nonce`. Scripts come from here only; WASM needs `wasm-unsafe-eval`.
pub fn page_policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self' 'nonce-{nonce}' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self'; media-src 'self' blob:; manifest-src 'self'; form-action 'self'; base-uri 'none'; \
         frame-ancestors 'none'"
    )
}

/// Refuses other hosts (DNS rebinding), other sites' posts and targets that are no path, and adds the headers that forbid.
pub async fn guard(mut request: Request, next: Next) -> Response {
    let refusal = with_path_only(&mut request).err().or_else(|| refuse(request.method(), request.headers()));
    let mut response = match refusal {
        Some(error) => error.into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        let name = HeaderName::from_static(name);
        if name != CONTENT_SECURITY_POLICY || !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    response
}

/// Makes the target of a request a path with its query, also where it comes as to a proxy: whole, with this server's name.
fn with_path_only(request: &mut Request) -> Result<(), AppError> {
    let no_path = || AppError::invalid("The request's target must be a path that begins with a slash.");
    let uri = request.uri();
    if uri.authority().is_some() || uri.scheme().is_some() {
        let is_known = uri.scheme().is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
        if !is_known {
            return Err(no_path());
        }
        if !uri.authority().is_some_and(|authority| is_loopback_host(authority.as_str())) {
            return Err(other_host());
        }
        // Without a path it is the first page, also with a query.
        let target = uri.path_and_query().map_or("/", |path| path.as_str());
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let mut path = UriParts::default();
        path.path_and_query = Some(target.parse().map_err(|_| no_path())?);
        *request.uri_mut() = Uri::from_parts(path).map_err(|_| no_path())?;
    }
    if request.uri().path_and_query().is_some_and(|path| path.as_str().starts_with('/')) {
        Ok(())
    } else {
        Err(no_path())
    }
}

fn other_host() -> AppError {
    AppError::new(
        ErrorCode::Forbidden,
        "This server answers only to 127.0.0.1, localhost and [::1]. Open it under one of these names.",
    )
}

/// Says why a request may not be answered, if so.
fn refuse(method: &Method, headers: &HeaderMap) -> Option<AppError> {
    let forbidden = |message: &str| Some(AppError::new(ErrorCode::Forbidden, message));
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(&HOST).filter(|host| is_loopback_host(host)) else {
        return Some(other_host());
    };
    if headers.get_all(HOST).iter().count() > 1 {
        return forbidden("The request names more than one host.");
    }
    if matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let same_origin = match headers.get(ORIGIN) {
        None => true,
        Some(origin) => origin
            .to_str()
            .ok()
            .and_then(|origin| origin.strip_prefix("http://"))
            .is_some_and(|origin| origin.eq_ignore_ascii_case(host)),
    };
    let same_site = match headers.get("sec-fetch-site") {
        None => true,
        Some(site) => matches!(site.to_str(), Ok("same-origin" | "none")),
    };
    if same_origin && same_site { None } else { forbidden("Requests from other sites are not answered.") }
}

/// Whether a `Host` header names this machine, with or without a port.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name == "[::1]"
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether an address belongs to the JSON API; everything else is a page or a file.
pub fn is_api(uri: &Uri) -> bool {
    uri.path().starts_with("/api/")
}

/// How large bodies may be.
#[derive(Clone, Debug)]
pub struct BodyLimit {
    /// Bytes of one.
    one: usize,
    /// KiB of all that are held at once.
    all: Arc<Semaphore>,
}

impl BodyLimit {
    /// A limit in MiB.
    pub fn of_mib(mib: u32) -> Self {
        Self::of_bytes((mib as usize).saturating_mul(1 << 20))
    }

    /// A limit in bytes.
    pub fn of_bytes(one: usize) -> Self {
        // There is always room for two of the largest.
        let all = kib(one).saturating_mul(2).max(kib(ALL_BODIES));
        Self { one, all: Arc::new(Semaphore::new(all.min(Semaphore::MAX_PERMITS))) }
    }

    fn too_large(&self) -> AppError {
        let limit = match self.one >> 20 {
            0 => format!("{} KiB", kib(self.one)),
            mib => format!("{mib} MiB"),
        };
        AppError::new(
            ErrorCode::BodyTooLarge,
            format!(
                "The request is larger than {limit}. Send it in parts, or start the server with a larger --max-body-mib."
            ),
        )
    }
}

/// Bytes in KiB, rounded up.
fn kib(bytes: usize) -> usize {
    bytes.div_ceil(1024)
}

/// Reads the body of an API request whole, within its bounds, before anything looks into it.
pub async fn bounded_body(State(limit): State<BodyLimit>, request: Request, next: Next) -> Response {
    if !is_api(request.uri()) {
        return next.run(request).await;
    }
    match read_body(&limit, request).await {
        Ok((request, _held)) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn read_body(limit: &BodyLimit, request: Request) -> Result<(Request, Option<OwnedSemaphorePermit>), AppError> {
    let (mut parts, body) = request.into_parts();
    // A server function answers a request that accepts HTML with a redirect; an API answers with its result.
    parts.headers.remove(REFERER);
    parts.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let declared = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit.one as u64) {
        // Who asks first whether to send it has not begun.
        if !parts.headers.contains_key(EXPECT) {
            read_refused(body.into_data_stream());
        }
        return Err(limit.too_large());
    }
    let (bytes, held) = read_bytes(limit, body).await?;
    // Nothing else takes forms; what says that it is one is read as JSON all the same.
    let is_form = parts.uri.path() == EXPORT
        && parts
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    if !is_form && json::is_too_deep(&bytes) {
        return Err(AppError::invalid(format!("The body is nested more than {} levels deep.", json::MAX_DEPTH)));
    }
    Ok((Request::from_parts(parts, Body::from(bytes)), held))
}

/// Reads a body. What it takes of the memory for all bodies is held as long as what is returned with it.
async fn read_bytes(limit: &BodyLimit, body: Body) -> Result<(Bytes, Option<OwnedSemaphorePermit>), AppError> {
    let mut body = body.into_data_stream();
    // Most bodies come in one piece, which is not copied. No memory is taken for a length that is only claimed.
    let (mut first, mut whole) = (Bytes::new(), Vec::new());
    let mut held: Option<OwnedSemaphorePermit> = None;
    loop {
        let piece = tokio::time::timeout(BODY_TIMEOUT, body.next())
            .await
            .map_err(|_| AppError::invalid("The request's body did not arrive in time. Please send it again."))?;
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|_| AppError::invalid("The request's body broke off. Please send it again."))?;
        let length = first.len() + whole.len() + piece.len();
        if length > limit.one {
            drop((first, whole));
            read_refused(body);
            return Err(limit.too_large());
        }
        // Small ones count for nothing.
        let held_kib = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = u32::try_from((length / 1024).saturating_sub(held_kib)).unwrap_or(u32::MAX);
        if more > 0 {
            let Ok(more) = limit.all.clone().try_acquire_many_owned(more) else {
                read_refused(body);
                return Err(AppError::new(
                    ErrorCode::TooManyRequests,
                    "The server is receiving too much at once. Please try again in a moment.",
                ));
            };
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
        }
        match (first.is_empty(), whole.is_empty()) {
            (true, true) => first = piece,
            (_, true) => {
                whole.extend_from_slice(&first);
                whole.extend_from_slice(&piece);
                first = Bytes::new();
            }
            (_, false) => whole.extend_from_slice(&piece),
        }
    }
    Ok((if whole.is_empty() { first } else { Bytes::from(whole) }, held))
}

/// Takes the rest of a body that is refused and forgets it: most programs read an answer only after they have sent all.
fn read_refused(mut body: BodyDataStream) {
    tokio::spawn(async move {
        let mut left = REFUSED_BYTES;
        let rest = async {
            while let Some(Ok(piece)) = body.next().await
                && piece.len() <= left
            {
                left -= piece.len();
            }
        };
        // What does not come in time is not waited for.
        let _ = tokio::time::timeout(REFUSED_TIME, rest).await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_a_host() {
        for good in ["127.0.0.1:3000", "localhost", "LOCALHOST:1", "[::1]:3000", "[::1]", "127.1.2.3:9"] {
            assert!(is_loopback_host(good), "{good}");
        }
        for bad in [
            "",
            "example.org",
            "127.0.0.1.example.org",
            "localhost.example.org:3000",
            "0.0.0.0:3000",
            "[::]:1",
            "127.0.0.1:x",
            "10.0.0.1",
            "0x7f.1",
            "127.0.0.1@evil",
        ] {
            assert!(!is_loopback_host(bad), "{bad}");
        }
    }
}
