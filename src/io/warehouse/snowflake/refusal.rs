//! What the vendor's codes mean, and what is to be done about them.

use serde_json::Value;
use std::fmt;

const MESSAGE_CHARS_MAX: usize = 300;

/// The channel belongs to somebody who opened it later, or a repeat came too late.
pub(super) const STALE: &str = "STALE_CONTINUATION_TOKEN_SEQUENCER";
pub(super) const UNCOMMITTED: &str = "ERR_CHANNEL_HAS_UNCOMMITTED_DATA";
/// The codes of a channel that takes rows.
pub(super) const TAKES_ROWS: [&str; 2] = ["ACTIVE", "SUCCESS"];
/// Ours, where a channel is not among those that were asked for.
pub(super) const NO_CHANNEL: &str = "ERR_CHANNEL_DOES_NOT_EXIST_OR_IS_NOT_AUTHORIZED";

/// An answer that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of HTTP.
    pub status: u16,
    /// The vendor's.
    pub code: String,
    pub message: String,
    /// Seconds that this machine's clock is ahead of the vendor's, where that may be the reason.
    pub(super) clock_ahead_s: Option<i64>,
}

/// (codes, what they mean, what to do)
const KNOWN: &[(&[&str], &str, &str)] = &[
    (
        &["390144", "394304", "394306"],
        "the key is not the one that the user has there, or account and user do not belong together",
        "compare warehouse.snowflake.account, user and private_key_file with DESC USER (LOGIN_NAME, RSA_PUBLIC_KEY_FP); set the key with \
         ALTER USER ... SET RSA_PUBLIC_KEY",
    ),
    (&["394300"], "there is no such user", "give the user's LOGIN_NAME (DESC USER) as warehouse.snowflake.user"),
    (&["394307"], "account and address do not belong together", "correct warehouse.snowflake.account or url"),
    (
        &["394302", "394303"],
        "the token seems to be from another time",
        "set this machine's clock (NTP): tokens are taken within a minute",
    ),
    (&["390201", "000606"], "no compute warehouse is in use", "name one that the role may use as warehouse.snowflake.warehouse"),
    (
        &["390189", "390186", "390317"],
        "the role does not exist, or is not granted to the user",
        "correct warehouse.snowflake.role, or GRANT ROLE ... TO USER",
    ),
    (&["390422", "390420"], "this machine's address may not connect", "let the network policy of the account or user allow it"),
    (
        &["003001"],
        "the role lacks a right",
        "`smartrouter warehouse apply` shows the grants; have them executed by who owns the schema",
    ),
    (
        &["002003", "002043"],
        "the table, schema or database does not exist, or the role may not see it",
        "`smartrouter warehouse apply` shows what is missing",
    ),
    (&["000904"], "a column is missing in the table", "`smartrouter warehouse apply --execute` adds it"),
    (&["001003"], "the statement is not understood", "report it: statements are made of the shipped files"),
    (
        &[
            "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED",
            "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED",
            "ERR_TABLE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED",
            "ERR_SCHEMA_DOES_NOT_EXIST_OR_NOT_AUTHORIZED",
            "ERR_DATABASE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED",
            "STALE_PIPE_CACHE",
        ],
        "the table, its pipe, schema or database was dropped, or the role may not write to it",
        "`smartrouter warehouse apply` shows what is missing; rows come in from where the new table begins",
    ),
    (
        &[
            STALE,
            NO_CHANNEL,
            "ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER",
            "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER",
            "ERR_CHANNEL_MUST_BE_REOPENED",
            "ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP",
        ],
        "the channel was opened by another writer since, or has lost its place",
        "nothing: it is opened again and goes on behind its last row; when this does not end, two deployments write the same tables",
    ),
    (&[UNCOMMITTED], "rows of a former writer are still on their way", "nothing: it waits for them"),
];

impl Refusal {
    /// From an answer's status and body, in any of the forms that the vendor's services use.
    pub(super) fn of(status: u16, body: &str) -> Self {
        let told: Value = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
        let field = |names: &[&str]| {
            names.iter().find_map(|name| match told.get(name)? {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            })
        };
        let bare = told.as_str().filter(|text| text.starts_with("ERR_")).map(ToOwned::to_owned);
        let code = field(&["code", "error_code", "error"]).or(bare).unwrap_or_else(|| format!("HTTP {status}"));
        let message =
            field(&["message", "error_description"]).or_else(|| told.as_str().map(ToOwned::to_owned)).unwrap_or_default();
        Self { status, code, message: in_one_line(&message), clock_ahead_s: None }
    }

    pub(super) fn new(code: &str, message: &str) -> Self {
        Self { status: 200, code: code.to_owned(), message: in_one_line(message), clock_ahead_s: None }
    }

    /// Whether opening the channel again is all that it takes.
    pub(super) fn is_stale(&self) -> bool {
        self.known().is_some_and(|(codes, ..)| codes.contains(&STALE))
    }

    fn known(&self) -> Option<&'static (&'static [&'static str], &'static str, &'static str)> {
        KNOWN.iter().find(|(codes, ..)| codes.contains(&self.code.as_str()))
    }

    /// What it means, and what to do.
    fn meaning(&self) -> (&'static str, &'static str) {
        let by_status = || match self.status {
            401 => ("who asks is not known there", "check warehouse.snowflake.account, user and private_key_file"),
            403 => ("the role or the address lacks a right", "`smartrouter warehouse apply` shows the grants"),
            404 => ("there is no such place", "check warehouse.snowflake.account, url, database and schema"),
            _ => ("it is not known what this means", "look the code up in the vendor's documentation"),
        };
        self.known().map_or_else(by_status, |(_, means, remedy)| (*means, *remedy))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (means, remedy) = self.meaning();
        write!(f, "Snowflake says {}", self.code)?;
        if !self.message.is_empty() {
            write!(f, " ({})", self.message)?;
        }
        match self.clock_ahead_s {
            Some(seconds) => {
                let side = if seconds < 0 { "behind" } else { "ahead of" };
                write!(
                    f,
                    ": this machine's clock is {} s {side} Snowflake's; set it (NTP): tokens are taken within a minute",
                    seconds.abs()
                )
            }
            None => write!(f, ": {means}; {remedy}"),
        }
    }
}

pub(super) fn in_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_CHARS_MAX).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_in_every_form() {
        for (body, code, message) in [
            (r#"{"code":"390144","message":"JWT token is invalid. [x]"}"#, "390144", "JWT token is invalid. [x]"),
            (r#"{"code":390144,"message":null}"#, "390144", ""),
            (r#"{"error_code":"STALE_PIPE_CACHE"}"#, "STALE_PIPE_CACHE", ""),
            (r#"{"error":"invalid_grant","error_description":"no\nway"}"#, "invalid_grant", "no way"),
            (r#""ERR_CHANNEL_MUST_BE_REOPENED""#, "ERR_CHANNEL_MUST_BE_REOPENED", "ERR_CHANNEL_MUST_BE_REOPENED"),
            ("<html>gone</html>", "HTTP 404", "<html>gone</html>"),
            ("", "HTTP 404", ""),
        ] {
            let refusal = Refusal::of(404, body);
            assert_eq!((refusal.code.as_str(), refusal.message.as_str()), (code, message), "{body}");
        }
    }

    #[test]
    fn each_says_what_it_means_and_what_to_do() {
        let says = |status, body: &str| Refusal::of(status, body).to_string();
        for (status, body, parts) in [
            (401, r#"{"code":"390144","message":"JWT token is invalid"}"#, ["390144", "RSA_PUBLIC_KEY_FP"]),
            (401, r#"{"code":"394302"}"#, ["394302", "clock"]),
            (422, r#"{"code":"003001","message":"Insufficient privileges"}"#, ["003001", "grants"]),
            (422, r#"{"code":"000904","message":"invalid identifier"}"#, ["000904", "adds it"]),
            (404, r#"{"code":"ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED"}"#, ["ERR_TABLE", "was dropped"]),
            (400, r#"{"code":"STALE_CONTINUATION_TOKEN_SEQUENCER"}"#, ["STALE", "opened again"]),
            (418, "teapot", ["HTTP 418", "vendor's documentation"]),
        ] {
            let said = says(status, body);
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        }
        let skewed = Refusal { clock_ahead_s: Some(-412), ..Refusal::of(401, r#"{"code":"390144"}"#) }.to_string();
        assert!(skewed.contains("412 s behind"), "{skewed}");
    }
}
