//! Statements through the SQL API: one in a request, values only as binds.
//!
//! Owns how a statement is sent, waited for and read page by page. A repeat has the same request id, for which the vendor runs a statement once.

use super::account::{Account, Answer, Body, Call, Service, request_id};
use super::{Patience, SnowflakeError, SnowflakeSettings, bind};
use crate::io::warehouse::{Cell, Row, Table};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(500);

/// A row of a result: texts, as the vendor writes values.
pub type Record = Vec<Option<String>>;

/// Runs statements in the configured database and schema.
pub struct Sql {
    account: Account,
    settings: SnowflakeSettings,
}

#[derive(Deserialize)]
struct Page {
    #[serde(rename = "statementHandle", default)]
    handle: String,
    #[serde(default)]
    data: Vec<Record>,
    #[serde(rename = "resultSetMetaData", default)]
    about: About,
}

#[derive(Default, Deserialize)]
struct About {
    #[serde(rename = "partitionInfo", default)]
    pages: Vec<Value>,
}

impl Sql {
    pub fn new(settings: SnowflakeSettings, patience: Patience) -> Result<Self, SnowflakeError> {
        Ok(Self { account: Account::new(&settings, patience)?, settings })
    }

    /// What the statement gives; `binds` stand for its question marks.
    pub fn run(&mut self, statement: &str, binds: &[Option<&str>]) -> Result<Vec<Record>, SnowflakeError> {
        let what = format!("running {:?}", head(statement));
        let binds: serde_json::Map<String, Value> =
            binds.iter().enumerate().map(|(index, value)| ((index + 1).to_string(), bind(*value))).collect();
        let settings = &self.settings;
        let mut body = json!({
            "statement": statement, "bindings": binds, "database": settings.database, "schema": settings.schema,
            "timeout": settings.commit_timeout.as_secs().max(1), "parameters": { "MULTI_STATEMENT_COUNT": "1", "QUERY_TAG": "smartrouter" },
        });
        for (name, value) in [("warehouse", &settings.warehouse), ("role", &settings.role)] {
            if let (Some(value), Some(fields)) = (value, body.as_object_mut()) {
                fields.insert(name.to_owned(), json!(value));
            }
        }
        let call = Call {
            what: &what,
            service: Service::Account,
            method: Method::POST,
            path: &["api", "v2", "statements"],
            query: &[("requestId", &request_id()), ("retry", "true")],
            body: Body::Json(&body),
        };
        let answer = self.account.ask(&call)?;
        self.read(&what, answer)
    }

    /// Puts one row into a small table, in place of the one with the same key.
    pub(super) fn merge(&mut self, table: &Table, row: &Row) -> Result<(), SnowflakeError> {
        let text = |cell: &Cell| match cell {
            Cell::Text(text) => Some(text.clone()),
            _ => None,
        };
        let values: Vec<Option<String>> = row.0.iter().map(text).collect();
        let binds: Vec<Option<&str>> = values.iter().map(Option::as_deref).collect();
        self.run(&table.merge(), &binds).map(|_| ())
    }

    fn read(&mut self, what: &str, answer: Answer) -> Result<Vec<Record>, SnowflakeError> {
        let (begun, mut answer) = (Instant::now(), answer);
        while answer.status == StatusCode::ACCEPTED {
            let handle = answer.read::<Page>(what)?.handle;
            if begun.elapsed() > self.settings.commit_timeout || !self.account.wait(LOOK) {
                let problem = format!("the statement {handle} still runs");
                return Err(SnowflakeError::Away { what: what.to_owned(), problem, waited_s: begun.elapsed().as_secs() });
            }
            answer = self.page(what, &handle, None)?;
        }
        let first: Page = answer.read(what)?;
        let mut records = first.data;
        for page in 1..first.about.pages.len() {
            let answer = self.page(what, &first.handle, Some(&page.to_string()))?;
            records.extend(answer.read::<Page>(what)?.data);
        }
        Ok(records)
    }

    fn page(&mut self, what: &str, handle: &str, page: Option<&str>) -> Result<Answer, SnowflakeError> {
        let query = page.map(|page| ("partition", page));
        let call = Call {
            what,
            service: Service::Account,
            method: Method::GET,
            path: &["api", "v2", "statements", handle],
            query: query.as_slice(),
            body: Body::None,
        };
        self.account.ask(&call)
    }
}

/// Enough of a statement to know it.
fn head(statement: &str) -> String {
    let words: Vec<&str> = statement.split_whitespace().take(8).collect();
    words.join(" ")
}
