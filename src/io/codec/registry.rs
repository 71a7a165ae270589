//! A Confluent-compatible schema registry over HTTP.
//!
//! Owns the client, its credentials and its time limit. Never shows a credential, neither in an error nor in `Debug`. Never retries:
//! the caller knows what can wait. The client blocks: do not build or call it on an async thread.

use reqwest::blocking::{Client, RequestBuilder};
use reqwest::{Certificate, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// A schema is some kilobytes; an answer that is far larger is not from a registry.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// The section `[schema_registry]`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistrySettings {
    /// Such as `https://registry.example.com:8081`.
    pub url: String,
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub password: Option<String>,
    /// PEM file with the certificate authority of the registry, when the system does not know it.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Limit for one call, connecting included.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

fn default_timeout_ms() -> u64 {
    5_000
}

impl fmt::Debug for RegistrySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Url::parse(&self.url).map_or_else(|_| "(not a URL)".to_owned(), |url| address(&url));
        f.debug_struct("RegistrySettings")
            .field("url", &url)
            .field("username", &self.username.as_ref().map(|_| "***"))
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("ca_file", &self.ca_file)
            .field("timeout_ms", &self.timeout_ms)
            .finish()
    }
}

/// The URL without credentials, query and fragment.
fn address(url: &Url) -> String {
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or(""), url.path().trim_end_matches('/'))
}

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RegistryError {
    /// Down, too slow, or busy.
    #[error("{at}: {detail}")]
    Unavailable { at: String, detail: String },
    #[error("{at}: not found: {detail}")]
    NotFound { at: String, detail: String },
    /// Credentials, rights, an incompatible schema: the operator is to act.
    #[error("{at}: {detail}")]
    Refused { at: String, detail: String },
    #[error("schema_registry.{key}: {detail}")]
    Settings { key: &'static str, detail: String },
}

pub struct Registry {
    client: Client,
    base: Url,
    credentials: Option<(String, Option<String>)>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("base", &address(&self.base)).finish_non_exhaustive()
    }
}

impl Registry {
    /// Checks the settings; does not connect yet.
    pub fn new(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let base = Url::parse(&settings.url).map_err(|error| setting("url", &error))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(setting("url", &"must begin with http:// or https://"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(setting("url", &"must not hold credentials; use username and password"));
        }
        if settings.timeout_ms == 0 {
            return Err(setting("timeout_ms", &"must be at least 1"));
        }
        // A registry is a neighbour: a proxy from the environment would only learn the credentials.
        let mut builder = Client::builder().timeout(Duration::from_millis(settings.timeout_ms)).no_proxy();
        if let Some(file) = &settings.ca_file {
            let pem = std::fs::read(file).map_err(|error| setting("ca_file", &format!("{}: {error}", file.display())))?;
            let certificate =
                Certificate::from_pem(&pem).map_err(|_| setting("ca_file", &format!("{} is not PEM", file.display())))?;
            builder = builder.add_root_certificate(certificate);
        }
        let client = builder.build().map_err(|error| setting("url", &with_causes(&error)))?;
        let credentials = settings.username.clone().map(|username| (username, settings.password.clone()));
        Ok(Self { client, base, credentials })
    }

    /// The text of a schema.
    pub fn schema(&self, id: i32) -> Result<String, RegistryError> {
        let url = self.url(&["schemas", "ids", &id.to_string()]);
        let answer = self.call(self.client.get(url.clone()), &url)?;
        let refused = |detail: &str| RegistryError::Refused { at: address(&url), detail: detail.to_owned() };
        if answer.get("schemaType").and_then(Value::as_str).is_some_and(|kind| kind != "AVRO") {
            return Err(refused("the schema is not Avro"));
        }
        answer.get("schema").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| refused("the answer holds no schema"))
    }

    /// The id that the schema has under the subject, if it is registered there.
    pub fn id_of(&self, subject: &str, schema: &str) -> Result<Option<i32>, RegistryError> {
        let url = self.url(&["subjects", subject]);
        match self.call(self.client.post(url.clone()).json(&json!({ "schema": schema })), &url) {
            Ok(answer) => Self::id_in(&answer, &url).map(Some),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Registers the schema under the subject; one that is there already keeps its id.
    pub fn register(&self, subject: &str, schema: &str) -> Result<i32, RegistryError> {
        let url = self.url(&["subjects", subject, "versions"]);
        let answer = self.call(self.client.post(url.clone()).json(&json!({ "schema": schema })), &url)?;
        Self::id_in(&answer, &url)
    }

    /// Whether the registry's rules for the subject let the schema follow the latest version; a new subject takes any.
    pub fn is_compatible(&self, subject: &str, schema: &str) -> Result<bool, RegistryError> {
        let url = self.url(&["compatibility", "subjects", subject, "versions", "latest"]);
        match self.call(self.client.post(url.clone()).json(&json!({ "schema": schema })), &url) {
            Ok(answer) => answer.get("is_compatible").and_then(Value::as_bool).ok_or_else(|| RegistryError::Refused {
                at: address(&url),
                detail: "the answer does not say is_compatible".to_owned(),
            }),
            Err(RegistryError::NotFound { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The registry's default compatibility, such as `FULL_TRANSITIVE`: also the cheapest way to see whether it is there.
    pub fn compatibility_level(&self) -> Result<String, RegistryError> {
        let url = self.url(&["config"]);
        let answer = self.call(self.client.get(url.clone()), &url)?;
        let level = answer.get("compatibilityLevel").or_else(|| answer.get("compatibility")).and_then(Value::as_str);
        level.map(str::to_owned).ok_or_else(|| RegistryError::Refused {
            at: address(&url),
            detail: "the answer holds no compatibilityLevel; is this a schema registry?".to_owned(),
        })
    }

    fn id_in(answer: &Value, url: &Url) -> Result<i32, RegistryError> {
        let id = answer.get("id").and_then(Value::as_i64).and_then(|id| i32::try_from(id).ok());
        id.ok_or_else(|| RegistryError::Refused { at: address(url), detail: "the answer holds no id".to_owned() })
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    fn call(&self, request: RequestBuilder, url: &Url) -> Result<Value, RegistryError> {
        let mut request = request.header("Accept", CONTENT_TYPE);
        if let Some((username, password)) = &self.credentials {
            request = request.basic_auth(username, password.as_deref());
        }
        let unavailable = |error: &reqwest::Error| RegistryError::Unavailable { at: address(url), detail: with_causes(error) };
        let answer = request.send().map_err(|error| unavailable(&error.without_url()))?;
        let status = answer.status();
        if answer.content_length().is_some_and(|len| len > ANSWER_BYTES_MAX as u64) {
            return Err(RegistryError::Refused {
                at: address(url),
                detail: "the answer is too large for a schema registry".to_owned(),
            });
        }
        let body = answer.bytes().map_err(|error| unavailable(&error.without_url()))?;
        if status.is_success() {
            let not_json = |_| RegistryError::Refused { at: address(url), detail: "the answer is not JSON".to_owned() };
            return serde_json::from_slice(&body).map_err(not_json);
        }
        Err(failure(status, &body, address(url)))
    }
}

/// What an HTTP status other than success means to us.
fn failure(status: StatusCode, body: &[u8], at: String) -> RegistryError {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let message: String = answer.get("message").and_then(Value::as_str).unwrap_or("").chars().take(500).collect();
    let detail = format!("HTTP {}{}{message}", status.as_u16(), if message.is_empty() { "" } else { ": " });
    match status {
        StatusCode::NOT_FOUND => RegistryError::NotFound { at, detail },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => RegistryError::Unavailable { at, detail },
        _ if status.is_server_error() => RegistryError::Unavailable { at, detail },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            RegistryError::Refused { at, detail: format!("{detail}: check schema_registry.username and password") }
        }
        _ => RegistryError::Refused { at, detail },
    }
}

fn setting(key: &'static str, detail: &dyn fmt::Display) -> RegistryError {
    RegistryError::Settings { key, detail: detail.to_string() }
}

/// An error with what lies beneath it: the outermost text alone ("error sending request") tells nothing.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |outer| outer.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
