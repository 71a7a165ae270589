//! `lag`: how far the group is behind the ends of its topics.

use super::Verdict;
use super::context::Context;
use super::scan::{first_from, partitions_of};
use super::screen::Column;
use anyhow::Result;
use serde::Serialize;
use smartrouter::io::log::{EventLog, TopicPartition};
use smartrouter::io::topics;

#[derive(Debug, PartialEq, Serialize)]
struct Behind {
    topic: String,
    partition: i32,
    /// Absent: the group has not committed anything of this partition yet.
    current_offset: Option<i64>,
    log_end_offset: i64,
    lag: i64,
}

const COLUMNS: &[Column] = &[
    Column::new("TOPIC", "/topic"),
    Column::new("PARTITION", "/partition"),
    Column::new("CURRENT-OFFSET", "/current_offset"),
    Column::new("LOG-END-OFFSET", "/log_end_offset"),
    Column::new("LAG", "/lag"),
];

pub(super) fn show(context: &Context) -> Result<Verdict> {
    let log = context.log()?;
    let topics: Vec<String> = topics::INPUTS.iter().chain([&topics::STATS_DELTAS]).map(|base| context.topic(base)).collect();
    let rows = lags(log.as_ref(), &context.group(), &topics)?;
    context.screen().rows(COLUMNS, &rows, "no partitions")?;
    Ok(Verdict::Done)
}

fn lags(log: &dyn EventLog, group: &str, topics: &[String]) -> Result<Vec<Behind>> {
    let partitions = partitions_of(log, topics)?;
    let committed = log.group_offsets(group, &partitions)?;
    let mut reader = log.reader()?;
    let mut rows = Vec::new();
    for at in partitions {
        let (begin, end) = reader.bounds(&at)?;
        let current = committed.get(&at).copied().flatten();
        let lag = unread(log, &at, current.unwrap_or(begin).max(begin), end)?;
        rows.push(Behind {
            topic: at.topic.to_string(),
            partition: at.partition,
            current_offset: current,
            log_end_offset: end,
            lag,
        });
    }
    Ok(rows)
}

/// Offsets between the next unread record and the end. The markers of transactions take up offsets too: a group that has read
/// all records may stand before the last marker, so what lies behind its offset is looked at, not only counted.
fn unread(log: &dyn EventLog, at: &TopicPartition, next: i64, end: i64) -> Result<i64> {
    if next >= end {
        return Ok(0);
    }
    Ok(first_from(log, at, next)?.map_or(0, |record| (end - record.offset).max(0)))
}
