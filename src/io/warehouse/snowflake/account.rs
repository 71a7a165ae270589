//! The vendor's services over HTTP: how we prove who we are, where rows go, and what is tried again.
//!
//! Owns client, credentials and patience. Calls are given whole, so that a repeat is the same call in every byte. Never shows a credential,
//! neither in an error nor in `Debug`. The client blocks: do not build or call it on an async thread.

use super::key::KeyPair;
use super::refusal::{Refusal, in_one_line};
use super::{Patience, SnowflakeError, SnowflakeSettings};
use openssl::rand::rand_bytes;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, DATE, RETRY_AFTER};
use reqwest::{Certificate, Method, StatusCode, Url, redirect};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::Read;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use uuid::Builder;

const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Nobody is waited for longer than this between two calls, whatever it asks.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// A scoped token holds an hour.
const TOKEN_AGE_MAX: Duration = Duration::from_secs(45 * 60);
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Tokens are taken within a minute of their time; the network takes a part of it.
const CLOCK_TOLERANCE_S: i64 = 30;
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const TOKEN_TYPE: &str = "X-Snowflake-Authorization-Token-Type";

/// Which of the vendor's services is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// The account itself: tokens, SQL.
    Account,
    /// The host that takes rows.
    Rows,
}

pub(super) enum Body<'a> {
    None,
    Form(&'a [(&'a str, &'a str)]),
    Json(&'a Value),
    /// NDJSON, compressed with zstd.
    Rows(&'a [u8]),
}

pub(super) struct Call<'a> {
    /// In errors, such as `appending to the channel X`.
    pub(super) what: &'a str,
    pub(super) service: Service,
    pub(super) method: Method,
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Body<'a>,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    body: String,
}

impl Answer {
    pub(super) fn read<T: DeserializeOwned>(&self, what: &str) -> Result<T, SnowflakeError> {
        serde_json::from_str(&self.body)
            .map_err(|error| SnowflakeError::Unclear { what: what.to_owned(), problem: error.to_string() })
    }
}

/// Where rows go, and what opens it.
struct Entry {
    host: String,
    base: Url,
    token: String,
    since: Instant,
}

pub(super) struct Account {
    client: Client,
    base: Url,
    key: KeyPair,
    retry: Duration,
    patience: Patience,
    entry: Option<Entry>,
}

/// What came of one try.
enum Outcome {
    Answer(Answer),
    /// The token is not taken (any more).
    Expired(Refusal),
    Again {
        after: Option<Duration>,
        problem: String,
    },
    Refused(Refusal),
}

impl Account {
    /// Reads key and certificates; does not connect yet.
    pub(super) fn new(settings: &SnowflakeSettings, patience: Patience) -> Result<Self, SnowflakeError> {
        let wrong = |key: &'static str, problem: String| SnowflakeError::Setting { key, problem };
        let base = Url::parse(&settings.address()).map_err(|error| wrong("url", error.to_string()))?;
        let mut builder = Client::builder().timeout(settings.timeout).redirect(redirect::Policy::none()).https_only(true);
        builder = builder.user_agent(concat!("smartrouter/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = &settings.ca_file {
            let pem = std::fs::read(file).map_err(|error| wrong("ca_file", format!("{}: {error}", file.display())))?;
            let certificate =
                Certificate::from_pem(&pem).map_err(|_| wrong("ca_file", format!("{} is not PEM", file.display())))?;
            builder = builder.add_root_certificate(certificate);
        }
        let client = builder.build().map_err(|error| wrong("url", with_causes(&error)))?;
        let passphrase = settings.private_key_passphrase.as_deref();
        let key = KeyPair::read(&settings.private_key_file, passphrase, &settings.account, &settings.user)?;
        Ok(Self { client, base, key, retry: settings.retry, patience, entry: None })
    }

    /// Waits, and says whether to go on.
    pub(super) fn wait(&self, duration: Duration) -> bool {
        (self.patience)(duration)
    }

    /// The answer that says yes, after as many tries as there is patience for.
    pub(super) fn ask(&mut self, call: &Call<'_>) -> Result<Answer, SnowflakeError> {
        let (begun, mut wait, mut has_renewed) = (Instant::now(), WAIT_MIN, false);
        loop {
            let (after, problem) = match self.ask_once(call)? {
                Outcome::Answer(answer) => return Ok(answer),
                Outcome::Expired(_) if !has_renewed => {
                    (self.entry, has_renewed) = (None, true);
                    continue;
                }
                Outcome::Expired(refusal) | Outcome::Refused(refusal) => return Err(SnowflakeError::refused(call.what, refusal)),
                Outcome::Again { after, problem } => (after.unwrap_or(wait), problem),
            };
            (wait, has_renewed) = ((wait * 2).min(WAIT_MAX), false);
            if begun.elapsed() + after > self.retry || !self.wait(after) {
                let waited_s = begun.elapsed().as_secs();
                return Err(SnowflakeError::Away { what: call.what.to_owned(), problem, waited_s });
            }
        }
    }

    fn ask_once(&mut self, call: &Call<'_>) -> Result<Outcome, SnowflakeError> {
        let request = match call.service {
            Service::Account => {
                let token = self.key.sign(now_s())?;
                let request = self.request(&self.base, call);
                request.bearer_auth(token).header(TOKEN_TYPE, "KEYPAIR_JWT")
            }
            Service::Rows => {
                let (base, token) = self.entry()?;
                self.request(&base, call).bearer_auth(token)
            }
        };
        Ok(match request.send() {
            Ok(answer) => outcome(call.service, answer),
            Err(error) => Outcome::Again { after: None, problem: with_causes(&error.without_url()) },
        })
    }

    fn request(&self, base: &Url, call: &Call<'_>) -> RequestBuilder {
        let mut url = base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(call.path);
        }
        let request = self.client.request(call.method.clone(), url).query(call.query).header(ACCEPT, "application/json");
        match call.body {
            Body::None => request,
            Body::Form(fields) => request.form(fields),
            Body::Json(value) => request.header(CONTENT_TYPE, "application/json").body(value.to_string()),
            Body::Rows(rows) => {
                let request = request.header(CONTENT_TYPE, "application/x-ndjson").header(CONTENT_ENCODING, "zstd");
                request.body(rows.to_vec())
            }
        }
    }

    /// The host that takes rows, and a token that it takes.
    fn entry(&mut self) -> Result<(Url, String), SnowflakeError> {
        let host = match &self.entry {
            Some(entry) if entry.since.elapsed() < TOKEN_AGE_MAX => return Ok((entry.base.clone(), entry.token.clone())),
            Some(entry) => entry.host.clone(),
            None => self.find_host()?,
        };
        let what = "exchanging the signed token for one of the host that takes rows";
        let unclear = |problem: String| SnowflakeError::Unclear { what: what.to_owned(), problem };
        let mut base = Url::parse(&format!("https://{host}")).map_err(|error| unclear(format!("{host}: {error}")))?;
        // Whoever leads to the account over another port leads to its hosts there, as for the vendor's own clients.
        if base.port().is_none() && base.set_port(self.base.port()).is_err() {
            return Err(unclear(format!("{host} has no port")));
        }
        let form = [("grant_type", GRANT), ("scope", host.as_str())];
        let call = Call {
            what,
            service: Service::Account,
            method: Method::POST,
            path: &["oauth", "token"],
            query: &[],
            body: Body::Form(&form),
        };
        let token = text_or_field(&self.ask(&call)?.body, &["token", "access_token"]);
        if token.is_empty() {
            return Err(unclear("there is none in the answer".to_owned()));
        }
        self.entry = Some(Entry { host, base: base.clone(), token: token.clone(), since: Instant::now() });
        Ok((base, token))
    }

    fn find_host(&mut self) -> Result<String, SnowflakeError> {
        let call = Call {
            what: "asking for the host that takes rows",
            service: Service::Account,
            method: Method::GET,
            path: &["v2", "streaming", "hostname"],
            query: &[],
            body: Body::None,
        };
        // A name with an underscore is in no certificate.
        Ok(text_or_field(&self.ask(&call)?.body, &["hostname"]).replace('_', "-"))
    }
}

fn outcome(service: Service, answer: Response) -> Outcome {
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut body = Vec::new();
    if let Err(error) = answer.take(ANSWER_BYTES_MAX).read_to_end(&mut body) {
        return Outcome::Again { after: None, problem: format!("HTTP {}, and then {error}", status.as_u16()) };
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    if status.is_success() {
        return Outcome::Answer(Answer { status, body });
    }
    let mut refusal = Refusal::of(status.as_u16(), &body);
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let busy = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status) || status.is_server_error();
    if busy || refusal.code == "ERR_OPEN_CHANNEL_IN_PROGRESS" {
        let seconds = header(RETRY_AFTER).and_then(|text| text.trim().parse().ok());
        let after = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
        return Outcome::Again { after, problem: format!("HTTP {}: {} {}", status.as_u16(), refusal.code, refusal.message) };
    }
    if status == StatusCode::UNAUTHORIZED && service == Service::Rows {
        return Outcome::Expired(refusal);
    }
    if status == StatusCode::UNAUTHORIZED {
        let theirs = header(DATE).and_then(|text| chrono::DateTime::parse_from_rfc2822(text).ok());
        let ahead = theirs.map(|theirs| now_s() as i64 - theirs.timestamp());
        refusal.clock_ahead_s = ahead.filter(|ahead| ahead.abs() > CLOCK_TOLERANCE_S);
    }
    Outcome::Refused(refusal)
}

/// Services answer with a bare text or with an object, depending on their version.
fn text_or_field(body: &str, names: &[&str]) -> String {
    let found = match serde_json::from_str::<Value>(body) {
        Ok(Value::String(text)) => Some(text),
        Ok(value) => names.iter().find_map(|name| value.get(name)?.as_str().map(ToOwned::to_owned)),
        Err(_) => Some(body.to_owned()),
    };
    found.unwrap_or_default().trim().to_owned()
}

/// The same for all tries of one call, another for each call.
pub(super) fn request_id() -> String {
    let mut bytes = [0; 16];
    // Ids tell requests apart for the vendor's support; which rows are kept once is told by tokens.
    let _ = rand_bytes(&mut bytes);
    Builder::from_random_bytes(bytes).into_uuid().to_string()
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |outer| outer.source());
    in_one_line(&causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}
