//! One POST of JSON, and what an HTTP status means to all vendors alike.

use super::{Delivery, SinkError};
use reqwest::blocking::Client;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{StatusCode, Url, redirect};
use std::io::Read;
use std::time::Duration;

/// Enough of an answer to know what it says.
const ANSWER_BYTES_MAX: u64 = 16 << 10;
const DETAIL_CHARS_MAX: usize = 300;
/// No vendor is waited for longer than this, whatever it asks.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

pub(super) struct Endpoint {
    client: Client,
    url: Url,
    /// What no text from here may hold.
    secrets: Vec<String>,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
    retry_after: Option<Duration>,
}

impl Endpoint {
    /// `timeout` bounds one delivery, connecting included.
    pub(super) fn new(url: &str, secrets: &[&str], timeout: Duration) -> Result<Self, SinkError> {
        // A redirect would carry what is told, and who is told, elsewhere. Alerts are rare: a connection that was kept would be dead by the
        // next one, and nobody could tell whether that was read.
        let builder = Client::builder().timeout(timeout).redirect(redirect::Policy::none()).pool_max_idle_per_host(0);
        let client = builder.build();
        let client = client.map_err(|error| SinkError(with_causes(&error.without_url())))?;
        let parsed = Url::parse(url).map_err(|error| SinkError(error.to_string()))?;
        let path = parsed.path().trim_matches('/').to_owned();
        let secrets = secrets.iter().map(|secret| (*secret).to_owned()).chain([url.to_owned(), path]);
        Ok(Self { client, url: parsed, secrets: secrets.filter(|secret| secret.len() > 3).collect() })
    }

    /// The answer, or what is to be done without one.
    pub(super) fn post(&self, body: Vec<u8>, headers: &[(&str, String)]) -> Result<Answer, Delivery> {
        let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let lost = |error: reqwest::Error| {
            // Without a connection nothing was sent; behind it, nobody knows what was read.
            let in_doubt = !error.is_connect() && !error.is_builder();
            Delivery::TryAgain { after: None, reason: self.clean(&with_causes(&error.without_url())), in_doubt }
        };
        let answer = request.send().map_err(lost)?;
        let status = answer.status();
        let seconds = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
        let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
        let mut body = Vec::new();
        // The status has said it all when the rest does not come.
        let _ = answer.take(ANSWER_BYTES_MAX).read_to_end(&mut body);
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), retry_after })
    }

    /// What an answer means that is no success; `says`: what the vendor gives as the reason.
    pub(super) fn failure(&self, answer: &Answer, says: &str) -> Delivery {
        let status = answer.status;
        let colon = if says.is_empty() { "" } else { ": " };
        let reason = self.clean(&format!("HTTP {}{colon}{says}", status.as_u16()));
        let busy = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS);
        if busy || status.is_server_error() {
            // Who is busy, or not there, has not taken it; one who fails may have failed afterwards.
            let in_doubt = !busy && status != StatusCode::SERVICE_UNAVAILABLE;
            return Delivery::TryAgain { after: answer.retry_after, reason, in_doubt };
        }
        Delivery::Refused { reason }
    }

    /// In one line, short, and without secrets.
    fn clean(&self, text: &str) -> String {
        let shown = self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
        shown.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_CHARS_MAX).collect()
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |outer| outer.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
