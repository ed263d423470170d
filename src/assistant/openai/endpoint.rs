//! The address of an endpoint, and the key that is never shown.

use reqwest::Url;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The address of an endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url, Version);

/// Where the version in an address comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Whoever gave the address wrote it, or one without.
    Given,
    /// It was put there.
    Guessed,
}

/// How addresses end that name a service instead of its base.
const SERVICES: [&[&str]; 3] = [&["chat", "completions"], &["completions"], &["models"]];

/// The same, where a version stands before it: else the word may be the name under which a proxy has the server.
const SERVICES_OF_A_VERSION: [&str; 4] = ["embeddings", "responses", "messages", "chat"];

/// The same of Ollama's own services, beside which the ones of the protocol are.
const OTHER_SERVICES: [&[&str]; 9] = [
    &["api", "chat"],
    &["api", "generate"],
    &["api", "tags"],
    &["api", "ps"],
    &["api", "version"],
    &["api", "show"],
    &["api", "embed"],
    &["api", "embeddings"],
    &["api", "pull"],
];

/// Pages and services of llama.cpp and vLLM, which stand beside the protocol too.
const OTHER_PAGES: [&str; 6] = ["completion", "props", "slots", "health", "docs", "openapi.json"];

impl Endpoint {
    /// The address of a service, `segments` being its path below the versioned base.
    pub(super) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        // An HTTP address can always be a base, so that there always are segments.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The address of a service beside the protocol, `segments` being its path below what stands before the version.
    pub(super) fn beside(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        let has_version = has_version(&url);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty();
            if has_version {
                path.pop();
            }
            path.extend(segments);
        }
        url
    }

    /// How many places it may mean: where no version was given, the base may be without one, and what ends in `/api` may be Ollama's
    /// own, beside which the protocol's is.
    pub(super) fn places(&self) -> usize {
        match self.path_of_guess().as_deref() {
            Some([.., "api"]) => 3,
            Some(_) => 2,
            None => 1,
        }
    }

    /// One of them, the likeliest first.
    pub(super) fn at(&self, place: usize) -> Self {
        let mut endpoint = self.clone();
        if let (Some(given), 1..) = (self.path_of_guess(), place) {
            let path = match place {
                1 => given.join("/"),
                _ => [&given[..given.len().saturating_sub(1)], &["v1"]].concat().join("/"),
            };
            endpoint.0.set_path(&path);
        }
        endpoint
    }

    /// The path without the version, where that is a guess.
    fn path_of_guess(&self) -> Option<Vec<&str>> {
        let segments: Vec<&str> = self.0.path_segments()?.filter(|segment| !segment.is_empty()).collect();
        match segments.as_slice() {
            [given @ .., "v1"] if self.1 == Version::Guessed => Some(given.to_vec()),
            _ => None,
        }
    }

    /// Whether it is on this machine.
    pub(super) fn is_local(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host == "localhost" || host.ends_with(".localhost") || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// `HOST:PORT`.
    pub(super) fn address(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port_or_known_default() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// For people: the port on this machine, else the host, with its port where that is not the usual one.
    pub(super) fn place(&self) -> String {
        match (self.is_local(), self.0.port()) {
            (true, _) => format!("port {} of this machine", self.0.port_or_known_default().unwrap_or(80)),
            (false, Some(_)) => self.address(),
            (false, None) => self.0.host_str().unwrap_or_default().to_owned(),
        }
    }
}

/// Text that is no address of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidEndpoint;

impl fmt::Display for InvalidEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the address of a model server looks like http://127.0.0.1:11434 or https://api.example.org/v1")
    }
}

impl std::error::Error for InvalidEndpoint {}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    /// Reads an address with or without its version (`/v1`), with or without slashes at the end, and also the address of one of the
    /// services below it, as manuals name it.
    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let mut url = Url::parse(text.trim()).map_err(|_| InvalidEndpoint)?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(InvalidEndpoint);
        }
        url.set_fragment(None);
        let segments: Vec<String> = url.path_segments().into_iter().flatten().map(str::to_owned).collect();
        let mut base: Vec<&str> = segments.iter().map(String::as_str).filter(|segment| !segment.is_empty()).collect();
        let mut names_service = false;
        while base.last().is_some_and(|last| OTHER_PAGES.contains(last)) {
            base.pop();
        }
        if let [.., version, "models", _] = base.as_slice()
            && is_version(version)
        {
            // What is told of one model.
            base.truncate(base.len() - 2);
        }
        if let Some(ending) = OTHER_SERVICES.iter().find(|ending| base.ends_with(ending)) {
            base.truncate(base.len() - ending.len());
        } else if let Some(ending) = SERVICES.iter().find(|ending| base.ends_with(ending)) {
            base.truncate(base.len() - ending.len());
            // What stands before a service is its base, be it with a version or not.
            names_service = true;
        } else if let [before @ .., service] = base.as_slice()
            && before.iter().any(|segment| is_version(segment))
            && SERVICES_OF_A_VERSION.contains(service)
        {
            base.truncate(before.len());
        }
        let has_version = base.iter().any(|segment| is_version(segment))
            // Azure's addresses name a model, and the version in the query.
            || base.iter().rev().skip(1).any(|segment| *segment == "deployments");
        let version = if names_service || has_version { Version::Given } else { Version::Guessed };
        if version == Version::Guessed {
            base.push("v1");
        }
        let path = base.join("/");
        url.set_path(&path);
        Ok(Self(url, version))
    }
}

fn has_version(url: &Url) -> bool {
    url.path_segments().is_some_and(|mut segments| segments.any(is_version))
}

/// Whether a part of a path names a version: `v1`, `v1beta`.
fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the whole address: it may hold a password.
        f.write_str(&self.address())
    }
}

/// A text that is never shown and never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub(super) String);

impl Secret {
    /// Takes a key; `None` where it is empty.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_version() {
        for (given, models, props) in [
            ("http://127.0.0.1:11434", "http://127.0.0.1:11434/v1/models", "http://127.0.0.1:11434/props"),
            ("http://localhost:8080/v1/", "http://localhost:8080/v1/models", "http://localhost:8080/props"),
            ("https://a.example/openai/v1", "https://a.example/openai/v1/models", "https://a.example/openai/props"),
            (
                "https://a.example/v1beta/openai/",
                "https://a.example/v1beta/openai/models",
                "https://a.example/v1beta/props",
            ),
            ("https://a.example/v1?k=1", "https://a.example/v1/models?k=1", "https://a.example/props?k=1"),
        ] {
            let endpoint: Endpoint = given.parse().unwrap();
            assert_eq!(endpoint.url(&["models"]).as_str(), models, "{given}");
            assert_eq!(endpoint.beside(&["props"]).as_str(), props, "{given}");
        }
        for bad in ["", "localhost:8080", "ftp://a.example", "http://", "file:///v1"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
        for (address, local) in [
            ("http://[::1]:1", true),
            ("http://127.9.9.9", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example", false),
        ] {
            assert_eq!(address.parse::<Endpoint>().unwrap().is_local(), local, "{address}");
        }
    }

    #[test]
    fn addresses_of_services_are_read_as_their_base() {
        for (given, chat, props) in [
            ("http://a:1/v1/chat/completions", "http://a:1/v1/chat/completions", "http://a:1/props"),
            ("http://a:1/v1/chat/completions/", "http://a:1/v1/chat/completions", "http://a:1/props"),
            (" http://a:1//v1//models// ", "http://a:1/v1/chat/completions", "http://a:1/props"),
            ("http://a:1/v1/completions", "http://a:1/v1/chat/completions", "http://a:1/props"),
            ("http://a:1/v1/chat", "http://a:1/v1/chat/completions", "http://a:1/props"),
            ("http://a:1/v1/models?k=1#x", "http://a:1/v1/chat/completions?k=1", "http://a:1/props?k=1"),
            // Who names a service without a version has one without.
            ("https://a/chat/completions", "https://a/chat/completions", "https://a/props"),
            ("https://a/api/chat/completions", "https://a/api/chat/completions", "https://a/api/props"),
            ("http://a:1/models", "http://a:1/chat/completions", "http://a:1/props"),
            ("http://a:11434/api/chat", "http://a:11434/v1/chat/completions", "http://a:11434/props"),
            ("http://a:11434/api/tags/", "http://a:11434/v1/chat/completions", "http://a:11434/props"),
            ("https://a/api", "https://a/api/v1/chat/completions", "https://a/api/props"),
            (
                "https://generativelanguage.googleapis.com/v1beta/openai/embeddings",
                "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
                "https://generativelanguage.googleapis.com/v1beta/props",
            ),
            ("http://a:1/v1/models/m", "http://a:1/v1/chat/completions", "http://a:1/props"),
            ("http://a:1/v1/health", "http://a:1/v1/chat/completions", "http://a:1/props"),
            ("http://a:1/completion", "http://a:1/v1/chat/completions", "http://a:1/props"),
            ("http://a:11434/api/show", "http://a:11434/v1/chat/completions", "http://a:11434/props"),
            (
                "https://a/openai/deployments/gpt-4o?api-version=2024-06-01",
                "https://a/openai/deployments/gpt-4o/chat/completions?api-version=2024-06-01",
                "https://a/openai/deployments/gpt-4o/props?api-version=2024-06-01",
            ),
            // A proxy may have a server under any name.
            ("https://a/chat", "https://a/chat/v1/chat/completions", "https://a/chat/props"),
            ("https://a/messages/v1", "https://a/messages/v1/chat/completions", "https://a/messages/props"),
            ("https://a/x/v1/embeddings", "https://a/x/v1/chat/completions", "https://a/x/props"),
        ] {
            let endpoint: Endpoint = given.parse().unwrap();
            assert_eq!(endpoint.url(&["chat", "completions"]).as_str(), chat, "{given}");
            assert_eq!(endpoint.beside(&["props"]).as_str(), props, "{given}");
        }
    }
}
