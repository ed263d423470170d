//! Who may ask, what a request may hold, and what every answer forbids a browser to do.

use crate::error::{AppError, ErrorCode};
use crate::model::json;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue, ORIGIN, REFERER,
};
use axum::http::{HeaderMap, Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::time::Duration;

/// How long a caller may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

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

/// Refuses other hosts (DNS rebinding) and other sites' posts, and adds the headers that forbid.
pub async fn guard(request: Request, next: Next) -> Response {
    let refusal = refuse(request.method(), request.headers());
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

/// Says why a request may not be answered, if so.
fn refuse(method: &Method, headers: &HeaderMap) -> Option<AppError> {
    let forbidden = |message: &str| Some(AppError::new(ErrorCode::Forbidden, message));
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(host) = text(&HOST).filter(|host| is_loopback_host(host)) else {
        return forbidden(
            "This server answers only to 127.0.0.1, localhost and [::1]. Open it under one of these names.",
        );
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

/// How large a body may be, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit(pub usize);

/// Reads the body of an API request whole, within its bounds, before anything looks into it.
pub async fn bounded_body(State(limit): State<BodyLimit>, request: Request, next: Next) -> Response {
    if !is_api(request.uri()) {
        return next.run(request).await;
    }
    match read_body(limit, request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn read_body(BodyLimit(limit): BodyLimit, request: Request) -> Result<Request, AppError> {
    let too_large = || {
        AppError::new(
            ErrorCode::BodyTooLarge,
            format!(
                "The request is larger than {} MiB. Send it in parts, or start the server with a larger --max-body-mib.",
                limit / (1024 * 1024)
            ),
        )
    };
    let (mut parts, body) = request.into_parts();
    // A server function answers a request that accepts HTML with a redirect; an API answers with its result.
    parts.headers.remove(REFERER);
    parts.headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let declared = parts.headers.get("content-length").and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let bytes = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, limit))
        .await
        .map_err(|_| AppError::invalid("The request's body did not arrive in time."))?
        .map_err(|error| {
            let reached_limit =
                std::error::Error::source(&error).is_some_and(|source| source.to_string().contains("length limit"));
            if reached_limit { too_large() } else { AppError::invalid("The request's body broke off.") }
        })?;
    let is_form = parts
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    if !is_form && json::is_too_deep(&bytes) {
        return Err(AppError::invalid(format!("The body is nested more than {} levels deep.", json::MAX_DEPTH)));
    }
    Ok(Request::from_parts(parts, Body::from(bytes)))
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
