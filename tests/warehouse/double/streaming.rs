//! Named Channels: opened, fenced, appended to, committed a while later.

use super::State;
use super::http::{Reply, Request};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

const PIPE_SUFFIX: &str = "-STREAMING";

/// Database, pipe, channel; in capitals.
type Name = (String, String, String);

#[derive(Default)]
pub(crate) struct Channels {
    all: BTreeMap<Name, Channel>,
    /// Offsets of rows that are passed over.
    pub(crate) refused: BTreeSet<i64>,
    /// Tables that were dropped.
    pub(crate) dropped: BTreeSet<String>,
    /// The longest body of an append.
    pub(crate) body_most: usize,
    pub(crate) appends: u64,
    pub(crate) repeats: u64,
}

#[derive(Default)]
struct Channel {
    /// Counts those who opened it.
    sequencer: u64,
    requests: u64,
    /// Nothing is taken until it is opened again.
    is_void: bool,
    last: Option<Taken>,
    waiting: VecDeque<Waiting>,
    committed: Option<String>,
    rows: Vec<Value>,
    parsed: u64,
    errors: u64,
    last_error: Option<(String, String)>,
}

/// The last rows that were taken, to know a repeat by.
struct Taken {
    continuation: String,
    request: String,
}

struct Waiting {
    rows: Vec<Value>,
    up_to: String,
    due: Instant,
}

impl Channel {
    fn continuation(&self) -> String {
        format!("{}_{}", self.sequencer, self.requests)
    }
}

impl Channels {
    pub(super) fn rows(&mut self, database: &str, table: &str) -> Vec<Value> {
        self.settle();
        let pipe = format!("{table}{PIPE_SUFFIX}");
        let of_table = self.all.iter().filter(|((of, in_pipe, _), _)| of == database && *in_pipe == pipe);
        of_table.flat_map(|(_, channel)| channel.rows.clone()).collect()
    }

    /// Names of the channels of a database.
    pub(crate) fn names(&self, database: &str) -> Vec<String> {
        self.all.keys().filter(|(of, ..)| of == database).map(|(_, _, name)| name.clone()).collect()
    }

    /// Whether rows wait to be committed.
    pub(crate) fn is_settled(&mut self) -> bool {
        self.settle();
        self.all.values().all(|channel| channel.waiting.is_empty())
    }

    /// A token that another program left there.
    pub(crate) fn set_committed(&mut self, database: &str, token: &str) {
        let of = self.all.iter_mut().filter(|((name, ..), _)| name == database);
        of.for_each(|(_, channel)| channel.committed = Some(token.to_owned()));
    }

    /// Commits what is due.
    fn settle(&mut self) {
        let (now, refused) = (Instant::now(), &self.refused);
        for channel in self.all.values_mut() {
            while channel.waiting.front().is_some_and(|waiting| waiting.due <= now) {
                let Some(waiting) = channel.waiting.pop_front() else { break };
                for row in waiting.rows {
                    channel.parsed += 1;
                    if row["OFFSET"].as_i64().is_some_and(|offset| refused.contains(&offset)) {
                        channel.errors += 1;
                        channel.last_error = Some(("Numeric value 'x' is not recognized".to_owned(), waiting.up_to.clone()));
                    } else {
                        channel.rows.push(row);
                    }
                }
                channel.committed = Some(waiting.up_to);
            }
        }
    }

    fn restart(&mut self) {
        self.settle();
        for channel in self.all.values_mut() {
            channel.is_void |= !channel.waiting.is_empty();
            channel.waiting.clear();
        }
    }

    fn status(name: &Name, channel: &Channel) -> Value {
        let error = channel.last_error.clone().unzip();
        json!({
            "database_name": name.0, "schema_name": "PUBLIC", "pipe_name": name.1, "channel_name": name.2,
            "channel_status_code": if channel.is_void { "ERR_CHANNEL_MUST_BE_REOPENED" } else { "ACTIVE" },
            "last_committed_offset_token": channel.committed, "created_on_ms": 1, "rows_inserted": channel.rows.len(),
            "rows_parsed": channel.parsed, "rows_error_count": channel.errors, "rows_errors": null,
            "last_error_message": error.0, "last_error_offset_upper_bound": error.1, "last_error_timestamp": null,
            "last_error_timestamp_ms": null, "snowflake_avg_processing_latency_ms": 42,
        })
    }
}

impl State {
    pub(super) fn streaming(&mut self, request: &Request) -> Reply {
        self.channels.settle();
        if self.deals("restart", self.faults.restart) {
            self.channels.restart();
            return Reply::lost();
        }
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        let name =
            |database: &str, pipe: &str, channel: &str| (database.to_uppercase(), pipe.to_uppercase(), channel.to_uppercase());
        match (request.method.as_str(), &path[2..]) {
            ("PUT", ["databases", database, "schemas", _, "pipes", pipe, "channels", channel]) => {
                self.open(&name(database, pipe, channel), &request.json())
            }
            ("DELETE", ["databases", database, "schemas", _, "pipes", pipe, "channels", channel]) => {
                self.channels.all.remove(&name(database, pipe, channel));
                Reply::json(&json!({}))
            }
            ("POST", ["data", "databases", database, "schemas", _, "pipes", pipe, "channels", channel, "rows"]) => {
                self.append(&name(database, pipe, channel), request)
            }
            ("POST", ["databases", database, "schemas", _, "pipes", resource]) => match resource.split_once(':') {
                Some((pipe, "bulk-channel-status")) => self.statuses(database, pipe, &request.json()),
                Some((_, "pipe-info")) => self.pipe_info(),
                _ => Reply::error(404, "", "no such resource"),
            },
            _ => Reply::error(404, "", "no such place"),
        }
    }

    fn is_dropped(&self, name: &Name) -> Option<Reply> {
        let table = name.1.trim_end_matches(PIPE_SUFFIX);
        let gone = || {
            Reply::error(404, "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED", "The supplied table does not exist or is not authorized")
        };
        self.channels.dropped.contains(table).then(gone)
    }

    fn open(&mut self, name: &Name, body: &Value) -> Reply {
        if let Some(reply) = self.is_dropped(name) {
            return reply;
        }
        let channel = self.channels.all.entry(name.clone()).or_default();
        if body["fail_on_uncommitted_rows"] == true && !channel.waiting.is_empty() {
            return Reply::error(409, "ERR_CHANNEL_HAS_UNCOMMITTED_DATA", "rows are on their way");
        }
        channel.waiting.clear();
        if let Some(token) = body["offset_token"].as_str() {
            channel.committed = Some(token.to_owned());
        }
        (channel.sequencer, channel.requests, channel.is_void, channel.last) = (channel.sequencer + 1, 0, false, None);
        let status = Channels::status(name, channel);
        Reply::json(&json!({ "next_continuation_token": channel.continuation(), "channel_status": status }))
    }

    fn append(&mut self, name: &Name, request: &Request) -> Reply {
        if let Some(reply) = self.is_dropped(name) {
            return reply;
        }
        let stale = || {
            let message = "Channel sequencer in the continuation token is stale. Please reopen the channel";
            Reply::error(400, "STALE_CONTINUATION_TOKEN_SEQUENCER", message)
        };
        let (late, bumped) = (self.deals("late", self.faults.late), self.deals("stale", self.faults.stale));
        let (wait_ms, lost) = (self.draw(self.faults.commit_ms + 1), self.deals("lost", self.faults.lost));
        let Some(channel) = self.channels.all.get_mut(name) else { return stale() };
        let (given, id) = (request.parameter("continuationToken"), request.parameter("requestId"));
        if bumped {
            channel.sequencer += 1;
        }
        let is_repeat =
            channel.last.as_ref().is_some_and(|last| last.continuation == given && last.request == id && !id.is_empty());
        self.channels.repeats += u64::from(is_repeat);
        if is_repeat && !late && !bumped {
            return Reply::json(&json!({ "next_continuation_token": channel.continuation() }));
        }
        if given != channel.continuation() || channel.is_void {
            return stale();
        }
        self.channels.appends += 1;
        self.channels.body_most = self.channels.body_most.max(request.body.len());
        let Some(rows) = rows(request) else { return Reply::error(400, "ERR_MALFORMED", "no rows") };
        let up_to = request.parameter("endOffsetToken").to_owned();
        let due = Instant::now() + Duration::from_millis(wait_ms);
        // In order, whatever each takes.
        let due = channel.waiting.back().map_or(due, |before| before.due.max(due));
        channel.waiting.push_back(Waiting { rows, up_to, due });
        channel.last = Some(Taken { continuation: given.to_owned(), request: id.to_owned() });
        channel.requests += 1;
        if lost { Reply::lost() } else { Reply::json(&json!({ "next_continuation_token": channel.continuation() })) }
    }

    fn statuses(&mut self, database: &str, pipe: &str, body: &Value) -> Reply {
        let mut statuses = serde_json::Map::new();
        for asked in body["channel_names"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let name = (database.to_uppercase(), pipe.to_uppercase(), asked.to_uppercase());
            if let Some(channel) = self.channels.all.get(&name) {
                statuses.insert(asked.to_owned(), Channels::status(&name, channel));
            }
        }
        Reply::json(&json!({ "channel_statuses": statuses }))
    }

    /// What the vendor's own client wants to know; it sends its rows to this host all the same.
    fn pipe_info(&self) -> Reply {
        let parameters = json!({
            "max_client_lag_seconds": 1, "rowset_flush_threshold_kb": 1_024, "max_buffered_kb_for_rowset_mode": 60_000,
            "rowset_threshold_lookback_seconds": 60, "rowset_threshold_ewma_weight": 50, "target_file_size_compressed_mb": 16,
            "cpu_throttle_high_watermark_percent": 100, "cpu_throttle_low_watermark_percent": 99,
            "mem_throttle_high_watermark_percent": 100, "mem_throttle_low_watermark_percent": 99,
        });
        let location = json!({
            "expiry_time_ms": (self.now_s() + 3_600) * 1_000, "location_type": "S3", "location": "double/rows", "use_s3_regional_url": false,
            "region": "eu-central-1", "storage_endpoint": null, "storage_account": null, "bucket_name": "double", "path_prefix": "rows",
            "creds": { "AWS_KEY_ID": "none", "AWS_SECRET_KEY": "none", "AWS_TOKEN": "none" }, "parameters": parameters,
        });
        let encryption =
            json!({ "pipe_key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "pipe_key_id": 1, "diversifier": "double" });
        Reply::json(&json!({
            "rowset_stage_location": location, "durable_stage_location": location, "encryption_info": encryption, "parameter_overrides": {},
        }))
    }
}

/// One behind the other, compressed or not; the vendor's own client leaves empty lines between them. None: not that.
fn rows(request: &Request) -> Option<Vec<Value>> {
    let body = match request.header("content-encoding") {
        "zstd" => zstd::stream::decode_all(&request.body[..]).ok()?,
        "" => request.body.clone(),
        _ => return None,
    };
    let rows: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(&body).into_iter().collect();
    rows.ok().filter(|rows| rows.iter().all(Value::is_object))
}
