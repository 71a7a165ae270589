//! The warehouse in Snowflake: rows through Named Channels of Snowpipe Streaming over REST, small tables and DDL through the SQL API.
//!
//! Owns the protocol of a channel. Opening it gives the token of its last committed rows, and fences whoever had it before: a writer's
//! continuation token is stale then, and what it sent and was not committed is void. Rows are sent when they are to be committed, each request
//! with the continuation token that the one before it was answered with; a repeat is the same request, so that rows that were kept and whose answer
//! was lost are kept once. They are there when the channel's committed token says so. Never reads a log; never knows what a row means.
//!
//! A token is the offset of the last row and, behind `@`, the log that it is of: offsets of another log would say nothing of what is here.
//!
//! Reading order: here (channels), `batch` (rows as requests), `account` (HTTP), `key`, `refusal` (codes), `sql`, `schema` (tables).

mod account;
mod batch;
mod key;
mod refusal;
pub mod schema;
mod sql;
#[cfg(test)]
mod tests;

pub use refusal::Refusal;
pub use sql::{Record, Sql};

use super::{Catalogue, Channel, ChannelReport, Row, Table, Upkeep, Warehouse, WarehouseError};
use crate::io::failpoint;
use crate::io::log::TopicPartition;
use account::{Account, Body, Call, Service, request_id};
use batch::{Batch, Portion};
use refusal::{NO_CHANNEL, TAKES_ROWS, UNCOMMITTED};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Between two looks at what is committed; a commit takes seconds.
const LOOK_MIN: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(1);
/// Channels that are asked for in one request.
const CHANNELS_PER_LOOK: usize = 100;

/// Waits so long; false: nobody wants to wait any more.
pub type Patience = Arc<dyn Fn(Duration) -> bool + Send + Sync>;

/// Where the tables are, and who writes them.
#[derive(Clone)]
pub struct SnowflakeSettings {
    pub account: String,
    /// None: what follows from the account.
    pub url: Option<String>,
    pub user: String,
    pub private_key_file: PathBuf,
    pub private_key_passphrase: Option<String>,
    /// None: the user's own.
    pub role: Option<String>,
    pub database: String,
    pub schema: String,
    /// What computes statements; rows need none.
    pub warehouse: Option<String>,
    pub pipe_suffix: String,
    pub ca_file: Option<PathBuf>,
    /// Of one request.
    pub timeout: Duration,
    /// Of a request and its repeats.
    pub retry: Duration,
    /// Of rows until they are committed.
    pub commit_timeout: Duration,
}

impl SnowflakeSettings {
    /// Where the account is asked.
    pub fn address(&self) -> String {
        let of_account = || format!("https://{}.snowflakecomputing.com", self.account.to_lowercase().replace('_', "-"));
        self.url.clone().unwrap_or_else(of_account)
    }

    /// For people.
    pub fn place(&self) -> String {
        format!("{}.{} at {}", self.database, self.schema, self.address())
    }
}

/// Why Snowflake takes no rows, by who is to act.
#[derive(Debug, Error)]
pub enum SnowflakeError {
    #[error("warehouse.snowflake.{key}: {problem}")]
    Setting { key: &'static str, problem: String },
    #[error("{what}: {problem}; tried for {waited_s} s. Rows wait in the log meanwhile, and none is lost")]
    Away { what: String, problem: String, waited_s: u64 },
    #[error("{what}: {refusal}")]
    Refused { what: String, refusal: Box<Refusal> },
    #[error("{what}: the answer is not understood: {problem}")]
    Unclear { what: String, problem: String },
    #[error(
        "{channel}: rows up to {sent} were taken and are not committed after {waited_s} s; the channel is opened again. Look at \
         SNOWPIPE_STREAMING_CHANNEL_HISTORY, or give a longer warehouse.snowflake.commit_timeout_ms"
    )]
    Slow { channel: Channel, sent: i64, waited_s: u64 },
    #[error(
        "{channel}: the channel {name} holds the rows of another log ({found}, this one is {wanted}); name another schema with \
         warehouse.snowflake.schema, or drop the tables"
    )]
    OtherLog { channel: Channel, name: String, found: String, wanted: String },
    #[error(
        "{channel}: the channel {name} has the token {found:?}, which is none of ours: another program writes it; name another schema \
         with warehouse.snowflake.schema"
    )]
    Foreign { channel: Channel, name: String, found: String },
}

impl SnowflakeError {
    fn refused(what: &str, refusal: Refusal) -> Self {
        Self::Refused { what: what.to_owned(), refusal: Box::new(refusal) }
    }

    fn is_uncommitted(&self) -> bool {
        matches!(self, Self::Refused { refusal, .. } if refusal.code == UNCOMMITTED)
    }

    /// In a metric.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Setting { .. } => "setting",
            Self::Away { .. } | Self::Unclear { .. } => "away",
            Self::Refused { refusal, .. } if refusal.is_stale() => "stale",
            Self::Refused { .. } => "refused",
            Self::Slow { .. } => "slow",
            Self::OtherLog { .. } | Self::Foreign { .. } => "other_log",
        }
    }
}

pub struct SnowflakeWarehouse {
    account: Account,
    settings: SnowflakeSettings,
    tables: BTreeMap<String, Arc<Table>>,
    log_id: String,
    writers: BTreeMap<Channel, Writer>,
    sql: Sql,
}

/// An open channel.
struct Writer {
    name: String,
    /// To be given with the next rows.
    continuation: String,
    /// The last row that is committed.
    token: Option<i64>,
    /// The last row that was sent, and the last one that was handed over.
    sent: Option<i64>,
    last: Option<i64>,
    batch: Batch,
    status: Status,
}

/// What the vendor tells of a channel.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    channel_status_code: Option<String>,
    last_committed_offset_token: Option<String>,
    /// By the two names that it has in the vendor's services.
    rows_error_count: Option<u64>,
    rows_errors: Option<u64>,
    last_error_offset_upper_bound: Option<String>,
    last_error_message: Option<String>,
    snowflake_avg_processing_latency_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Opened {
    next_continuation_token: String,
    channel_status: Status,
}

#[derive(Deserialize)]
struct Appended {
    next_continuation_token: String,
}

#[derive(Deserialize)]
struct Statuses {
    channel_statuses: BTreeMap<String, Status>,
}

impl SnowflakeWarehouse {
    /// Reads key and certificates; connects with the first channel. `log_id`: whose rows it is to hold.
    pub fn new(
        settings: SnowflakeSettings,
        catalogue: &Catalogue,
        log_id: &str,
        patience: Patience,
    ) -> Result<Self, SnowflakeError> {
        let tables = catalogue.tables.iter().map(|table| (table.name.clone(), Arc::new(table.clone()))).collect();
        let account = Account::new(&settings, patience.clone())?;
        let sql = Sql::new(settings.clone(), patience)?;
        Ok(Self { account, settings, tables, log_id: log_id.to_owned(), writers: BTreeMap::new(), sql })
    }

    fn pipe(&self, channel: &Channel) -> String {
        format!("{}{}", channel.table, self.settings.pipe_suffix)
    }

    /// Rows of a former writer that are on their way are waited for; those that do not arrive are given up, and come from the log again.
    fn open_channel(&mut self, channel: &Channel, name: &str) -> Result<Opened, SnowflakeError> {
        let begun = Instant::now();
        loop {
            let waits = begun.elapsed() < self.settings.commit_timeout;
            match self.try_to_open(channel, name, waits) {
                Err(error) if waits && error.is_uncommitted() => {
                    if !self.account.wait(LOOK_MAX / 4) {
                        return Err(error);
                    }
                }
                opened => return opened,
            }
        }
    }

    fn try_to_open(&mut self, channel: &Channel, name: &str, fail_on_uncommitted: bool) -> Result<Opened, SnowflakeError> {
        let (what, pipe) = (format!("opening the channel {name} of {}", channel.table), self.pipe(channel));
        let body = json!({ "fail_on_uncommitted_rows": fail_on_uncommitted });
        let call = Call {
            what: &what,
            service: Service::Rows,
            method: Method::PUT,
            path: &pipe_path(&self.settings, &["v2", "streaming"], &pipe, &["channels", name]),
            query: &[("requestId", &request_id())],
            body: Body::Json(&body),
        };
        let opened: Opened = self.account.ask(&call)?.read(&what)?;
        takes_rows(&what, &opened.channel_status)?;
        Ok(opened)
    }

    /// The offset in a token, when it is one of this log.
    fn offset_of(&self, channel: &Channel, name: &str, token: Option<&str>) -> Result<Option<i64>, SnowflakeError> {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
        let foreign = || SnowflakeError::Foreign { channel: channel.clone(), name: name.to_owned(), found: token.to_owned() };
        let (offset, log) = token.split_once('@').ok_or_else(foreign)?;
        let offset = offset.parse().map_err(|_| foreign())?;
        if log == self.log_id {
            Ok(Some(offset))
        } else {
            let (found, wanted) = (log.to_owned(), self.log_id.clone());
            Err(SnowflakeError::OtherLog { channel: channel.clone(), name: name.to_owned(), found, wanted })
        }
    }

    /// Everything that was handed over, in order.
    fn send(&mut self, channel: &Channel) -> Result<(), WarehouseError> {
        while let Some(writer) = self.writers.get_mut(channel) {
            let problem = |problem| WarehouseError::Row { table: channel.table.clone(), problem };
            let Some(portion) = writer.batch.next().map_err(problem)? else { break };
            let continuation = std::mem::take(&mut writer.continuation);
            failpoint::pass("snowflake-sending");
            let next = self.append_rows(channel, &continuation, &portion)?;
            failpoint::pass("snowflake-sent");
            if let Some(writer) = self.writers.get_mut(channel) {
                (writer.continuation, writer.sent) = (next, Some(portion.offsets.1));
            }
        }
        Ok(())
    }

    fn append_rows(&mut self, channel: &Channel, continuation: &str, portion: &Portion) -> Result<String, SnowflakeError> {
        let (name, pipe) = (channel_name(&channel.at), self.pipe(channel));
        let what = format!("appending to the channel {name} of {}", channel.table);
        let token = |offset: i64| format!("{offset}@{}", self.log_id);
        let (first, last) = (token(portion.offsets.0), token(portion.offsets.1));
        let call = Call {
            what: &what,
            service: Service::Rows,
            method: Method::POST,
            path: &pipe_path(&self.settings, &["v2", "streaming", "data"], &pipe, &["channels", &name, "rows"]),
            query: &[
                ("continuationToken", continuation),
                ("startOffsetToken", &first),
                ("endOffsetToken", &last),
                ("requestId", &request_id()),
            ],
            body: Body::Rows(&portion.body),
        };
        let appended: Appended = self.account.ask(&call)?.read(&what)?;
        Ok(appended.next_continuation_token)
    }

    /// Until all that was sent is committed.
    fn await_commits(&mut self, channels: &[Channel]) -> Result<(), SnowflakeError> {
        let (begun, mut look) = (Instant::now(), LOOK_MIN);
        loop {
            let is_open = |channel: &&Channel| self.writers.get(*channel).is_some_and(|it| it.token < it.sent);
            let open: Vec<Channel> = channels.iter().filter(is_open).cloned().collect();
            let Some(first) = open.first() else { return Ok(()) };
            let has_time = begun.elapsed() < self.settings.commit_timeout;
            if !has_time || !self.account.wait(look) {
                let sent = self.writers.get(first).and_then(|it| it.sent).unwrap_or_default();
                return Err(SnowflakeError::Slow { channel: first.clone(), sent, waited_s: begun.elapsed().as_secs() });
            }
            look = (look * 3 / 2).min(LOOK_MAX);
            self.look(&open)?;
        }
    }

    /// Asks for the state of these channels.
    fn look(&mut self, channels: &[Channel]) -> Result<(), SnowflakeError> {
        let mut by_pipe: BTreeMap<String, Vec<&Channel>> = BTreeMap::new();
        for channel in channels {
            by_pipe.entry(self.pipe(channel)).or_default().push(channel);
        }
        for (pipe, channels) in by_pipe {
            for channels in channels.chunks(CHANNELS_PER_LOOK) {
                let mut told = self.statuses(&pipe, channels)?;
                for channel in channels {
                    let name = channel_name(&channel.at);
                    let what = format!("the channel {name} of {}", channel.table);
                    let status =
                        told.remove(&name).ok_or_else(|| SnowflakeError::refused(&what, Refusal::new(NO_CHANNEL, "")))?;
                    takes_rows(&what, &status)?;
                    let token = self.offset_of(channel, &name, status.last_committed_offset_token.as_deref())?;
                    let Some(writer) = self.writers.get_mut(*channel) else { continue };
                    if token > writer.sent {
                        let refusal = Refusal::new(refusal::STALE, "rows are committed there that this writer never sent");
                        return Err(SnowflakeError::refused(&what, refusal));
                    }
                    (writer.token, writer.status) = (token.max(writer.token), status);
                }
            }
        }
        Ok(())
    }

    fn statuses(&mut self, pipe: &str, channels: &[&Channel]) -> Result<BTreeMap<String, Status>, SnowflakeError> {
        let what = format!("asking what of the pipe {pipe} is committed");
        let names: Vec<String> = channels.iter().map(|channel| channel_name(&channel.at)).collect();
        let (body, resource) = (json!({ "channel_names": names }), format!("{pipe}:bulk-channel-status"));
        let call = Call {
            what: &what,
            service: Service::Rows,
            method: Method::POST,
            path: &pipe_path(&self.settings, &["v2", "streaming"], &resource, &[]),
            query: &[("requestId", &request_id())],
            body: Body::Json(&body),
        };
        let told: Statuses = self.account.ask(&call)?.read(&what)?;
        // Names are case-insensitive there.
        Ok(told.channel_statuses.into_iter().map(|(name, status)| (name.to_uppercase(), status)).collect())
    }
}

impl Warehouse for SnowflakeWarehouse {
    fn open(&mut self, channel: &Channel) -> Result<Option<i64>, WarehouseError> {
        self.writers.remove(channel);
        let wrong = |problem: &str| WarehouseError::Row { table: channel.table.clone(), problem: problem.to_owned() };
        let table = self.tables.get(&channel.table).ok_or_else(|| wrong("is not in the catalogue"))?;
        let batch = Batch::new(table).ok_or_else(|| wrong("is filled from no topic"))?;
        let name = channel_name(&channel.at);
        let opened = self.open_channel(channel, &name)?;
        failpoint::pass("snowflake-opened");
        let status = opened.channel_status;
        let token = self.offset_of(channel, &name, status.last_committed_offset_token.as_deref())?;
        let continuation = opened.next_continuation_token;
        self.writers.insert(channel.clone(), Writer { name, continuation, token, sent: token, last: token, batch, status });
        Ok(token)
    }

    fn append(&mut self, channel: &Channel, rows: Vec<Row>, (first, last): (i64, i64)) -> Result<(), WarehouseError> {
        let wrong = |problem: String| WarehouseError::Row { table: channel.table.clone(), problem };
        let Some(writer) = self.writers.get_mut(channel) else { return Err(wrong(format!("{channel} is not open"))) };
        let behind = writer.last;
        if behind.is_some_and(|behind| first <= behind) || last < first {
            return Err(wrong(format!("{channel}: rows {first} to {last} do not follow {behind:?}")));
        }
        for row in &rows {
            writer.batch.push(row).map_err(wrong)?;
        }
        writer.last = Some(last);
        Ok(())
    }

    fn commit(&mut self, channel: &Channel) -> Result<Option<i64>, WarehouseError> {
        Ok(self.commit_all(std::slice::from_ref(channel))?.first().copied().flatten())
    }

    fn commit_all(&mut self, channels: &[Channel]) -> Result<Vec<Option<i64>>, WarehouseError> {
        let sent = channels.iter().try_for_each(|channel| self.send(channel));
        let done = sent.and_then(|()| Ok(self.await_commits(channels)?));
        if done.is_err() {
            // What of it is there is known only when they are opened again.
            for channel in channels {
                self.close(channel);
            }
        }
        done?;
        failpoint::pass("snowflake-committed");
        Ok(channels.iter().map(|channel| self.writers.get(channel).and_then(|writer| writer.token)).collect())
    }

    fn commits_together(&self) -> bool {
        true
    }

    fn close(&mut self, channel: &Channel) {
        self.writers.remove(channel);
    }

    fn replace(&mut self, table: &str, rows: Vec<Row>) -> Result<(), WarehouseError> {
        let unknown = || WarehouseError::Row { table: table.to_owned(), problem: "is not in the catalogue".to_owned() };
        let table = self.tables.get(table).cloned().ok_or_else(unknown)?;
        rows.iter().try_for_each(|row| Ok(self.sql.merge(&table, row)?))
    }

    fn maintain(&mut self) -> Result<Upkeep, WarehouseError> {
        // The vendor merges and clusters by itself.
        Ok(Upkeep::default())
    }

    fn reports(&self) -> Vec<ChannelReport> {
        let report = |(channel, writer): (&Channel, &Writer)| ChannelReport {
            channel: channel.clone(),
            name: writer.name.clone(),
            rows_refused: writer.status.rows_error_count.max(writer.status.rows_errors).unwrap_or_default(),
            last_refusal: writer.status.last_refusal(),
            processing_ms: writer.status.snowflake_avg_processing_latency_ms,
        };
        self.writers.iter().map(report).collect()
    }
}

impl Status {
    fn last_refusal(&self) -> Option<String> {
        let message = refusal::in_one_line(self.last_error_message.as_deref()?);
        let up_to = self.last_error_offset_upper_bound.as_deref().unwrap_or("unknown");
        Some(format!("{message} (at or before {up_to})"))
    }
}

fn takes_rows(what: &str, status: &Status) -> Result<(), SnowflakeError> {
    let code = status.channel_status_code.as_deref().unwrap_or_default();
    if code.is_empty() || TAKES_ROWS.contains(&code.to_uppercase().as_str()) {
        return Ok(());
    }
    Err(SnowflakeError::refused(what, Refusal::new(code, status.last_error_message.as_deref().unwrap_or_default())))
}

/// What belongs to a pipe, in one of the vendor's services.
fn pipe_path<'a>(settings: &'a SnowflakeSettings, service: &[&'a str], pipe: &'a str, behind: &[&'a str]) -> Vec<&'a str> {
    [service, &["databases", &settings.database, "schemas", &settings.schema, "pipes", pipe], behind].concat()
}

/// The vendor's names know neither case nor dots; topics that differ in these alone Kafka refuses, or warns of.
fn channel_name(at: &TopicPartition) -> String {
    format!("{}-{}", at.topic.replace('.', "_").to_uppercase(), at.partition)
}

/// What a value is bound as in a statement.
fn bind(value: Option<&str>) -> Value {
    json!({ "type": "TEXT", "value": value })
}
