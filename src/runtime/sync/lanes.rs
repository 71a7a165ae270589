//! Partitions on their way into tables: what was read of each, what of it is in the warehouse, and what is due to be made durable.
//!
//! Owns the bounds: rows wait in the warehouse's adapter, and how many there may be, and for how long, is counted here.

use super::{Sync, SyncError, Synced};
use crate::domain::EpochMs;
use crate::io::codec::RecordKind;
use crate::io::log::{GroupMember, LogError, Position, Reader, Record, TopicPartition};
use crate::io::warehouse::{Channel, Place, Row, Upkeep, Warehouse, WarehouseError, row};
use crate::runtime::clock::wall_ms;
use crate::telemetry;
use metrics::{counter, gauge, histogram};
use std::collections::BTreeMap;
use std::time::Instant;

pub(super) struct Lanes<'a> {
    sync: &'a Sync,
    warehouse: Box<dyn Warehouse>,
    /// Asked where topics begin and end.
    reader: Box<dyn Reader>,
    open: BTreeMap<TopicPartition, Lane>,
    synced: Synced,
    /// Rows that the warehouse passed over, as far as they were told of.
    refused: BTreeMap<Channel, u64>,
}

/// One partition.
struct Lane {
    channel: Channel,
    kind: RecordKind,
    /// Offset of the last row, durable or not.
    previous: Option<i64>,
    /// Behind what was read.
    read_to: i64,
    /// Behind what is durable: all before it are rows, or no records of ours.
    durable_to: i64,
    /// Rows that are not handed over yet, and the offset of the first of them.
    fresh: Vec<Row>,
    fresh_from: i64,
    /// Of what is not durable.
    rows: usize,
    bytes: usize,
    began: Option<(Instant, EpochMs)>,
}

impl<'a> Lanes<'a> {
    pub(super) fn new(sync: &'a Sync, warehouse: Box<dyn Warehouse>, reader: Box<dyn Reader>) -> Self {
        Self { sync, warehouse, reader, open: BTreeMap::new(), synced: Synced::default(), refused: BTreeMap::new() }
    }

    pub(super) fn synced(self) -> Synced {
        self.synced
    }

    /// Goes on behind the warehouse's own token, whatever the group says.
    pub(super) fn take_up(&mut self, partitions: &[TopicPartition], member: &mut dyn GroupMember) -> Result<(), SyncError> {
        let mut from = Vec::new();
        for at in partitions {
            let Some((table, kind)) =
                self.sync.catalogue.streamed().find(|(_, kind)| self.sync.names.full(kind.topic()) == *at.topic)
            else {
                continue;
            };
            let channel = Channel { table: table.name.clone(), at: at.clone() };
            let token = self.warehouse.open(&channel)?;
            let (first, end) = self.reader.bounds(at)?;
            let lane = Lane::behind(channel, kind, token, (first, end))?;
            from.push((at.clone(), Position::At(lane.read_to)));
            self.open.insert(at.clone(), lane);
        }
        Ok(member.start(&from)?)
    }

    pub(super) fn put_down(&mut self, partitions: &[TopicPartition]) {
        for lane in partitions.iter().filter_map(|at| self.open.remove(at)) {
            self.warehouse.close(&lane.channel);
        }
    }

    pub(super) fn read(&mut self, record: &Record) -> Result<(), SyncError> {
        let Some(lane) = self.open.get_mut(&record.at) else { return Ok(()) };
        lane.read_to = record.offset + 1;
        // A version of a model that is forgotten keeps its last stage here.
        let Some(value) = &record.value else { return Ok(()) };
        let (_, ingested_at) = *lane.began.get_or_insert_with(|| (Instant::now(), wall_ms()));
        let place = Place { at: &record.at, offset: record.offset, previous_offset: lane.previous, ingested_at };
        match row(lane.kind, &self.sync.codec, value, place) {
            Ok(Some(row)) => lane.push(record.offset, row),
            Ok(None) => {}
            Err(error) if error.blames_record() => {
                self.synced.unreadable += 1;
                let topic = record.at.topic.to_string();
                counter!(telemetry::WAREHOUSE_UNREADABLE, "topic" => topic.clone()).increment(1);
                let (partition, offset) = (record.at.partition, record.offset);
                tracing::error!(topic, partition, offset, %error, "a record cannot be read, so the warehouse has no row of it");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The partition holds nothing more before `offset`.
    pub(super) fn read_to(&mut self, at: &TopicPartition, offset: i64) {
        if let Some(lane) = self.open.get_mut(at) {
            lane.read_to = lane.read_to.max(offset);
        }
    }

    pub(super) fn have_read(&self, ends: &BTreeMap<TopicPartition, i64>) -> bool {
        ends.iter().all(|(at, end)| self.open.get(at).is_some_and(|lane| lane.read_to >= *end))
    }

    /// Gives the warehouse what was read.
    pub(super) fn hand_over(&mut self) -> Result<(), SyncError> {
        for lane in self.open.values_mut().filter(|lane| !lane.fresh.is_empty()) {
            let last = lane.previous.unwrap_or(lane.fresh_from);
            self.warehouse.append(&lane.channel, std::mem::take(&mut lane.fresh), (lane.fresh_from, last))?;
        }
        Ok(())
    }

    /// Makes durable what is due; gives where the group stands then.
    pub(super) fn flush_due(&mut self) -> Result<BTreeMap<TopicPartition, i64>, SyncError> {
        let portions = self.sync.portions;
        let is_due = |lane: &Lane| {
            let is_old = lane.began.is_some_and(|(began, _)| began.elapsed() >= portions.age);
            lane.rows >= portions.rows_max || lane.bytes >= portions.bytes_max || is_old
        };
        let bytes = |lanes: &BTreeMap<TopicPartition, Lane>| lanes.values().map(|lane| lane.bytes).sum::<usize>();
        let any = self.open.values().any(is_due) || bytes(&self.open) > portions.memory_bytes_max;
        let together = any && self.warehouse.commits_together();
        let mut flushed = self.flush(|lane| is_due(lane) || (together && lane.rows > 0))?;
        while bytes(&self.open) > portions.memory_bytes_max {
            let most = self.open.values().map(|lane| lane.bytes).max().unwrap_or_default();
            flushed.append(&mut self.flush(|lane| lane.bytes == most)?);
        }
        Ok(flushed)
    }

    pub(super) fn flush_all(&mut self) -> Result<BTreeMap<TopicPartition, i64>, SyncError> {
        self.hand_over()?;
        self.flush(|_| true)
    }

    fn flush(&mut self, is_due: impl Fn(&Lane) -> bool) -> Result<BTreeMap<TopicPartition, i64>, SyncError> {
        let with_rows = self.open.values().filter(|lane| is_due(lane) && lane.rows > 0);
        let channels: Vec<Channel> = with_rows.map(|lane| lane.channel.clone()).collect();
        if !channels.is_empty() {
            let begun = Instant::now();
            self.warehouse.commit_all(&channels)?;
            histogram!(telemetry::WAREHOUSE_FLUSH_SECONDS).record(begun.elapsed().as_secs_f64());
        }
        let mut told = BTreeMap::new();
        for (at, lane) in self.open.iter_mut().filter(|(_, lane)| is_due(lane)) {
            if lane.rows > 0 {
                counter!(telemetry::WAREHOUSE_ROWS, "table" => lane.channel.table.clone()).increment(lane.rows as u64);
                *self.synced.rows.entry(lane.channel.table.clone()).or_default() += lane.rows as u64;
            }
            (lane.rows, lane.bytes, lane.began) = (0, 0, None);
            if lane.durable_to != lane.read_to {
                lane.durable_to = lane.read_to;
                told.insert(at.clone(), lane.read_to);
            }
        }
        Ok(told)
    }

    /// How far the topics are ahead of what is durable.
    pub(super) fn tell_lag(&mut self) -> Result<(), LogError> {
        let of: Vec<TopicPartition> = self.open.keys().cloned().collect();
        let ends = self.reader.ends(&of)?;
        for (at, lane) in &self.open {
            let behind = if lane.rows == 0 { lane.read_to } else { lane.durable_to };
            let lag = ends.get(at).map_or(0, |ends| (ends.settled - behind).max(0));
            let (topic, partition) = (at.topic.to_string(), at.partition.to_string());
            gauge!(telemetry::WAREHOUSE_LAG, "topic" => topic, "partition" => partition).set(lag as f64);
        }
        Ok(())
    }

    /// What the warehouse says of its channels. Rows that it passed over are rows that are missing: somebody has to know.
    pub(super) fn tell_reports(&mut self) {
        for report in self.warehouse.reports() {
            let place = [("topic", report.channel.at.topic.to_string()), ("partition", report.channel.at.partition.to_string())];
            gauge!(telemetry::WAREHOUSE_REFUSED, &place).set(report.rows_refused as f64);
            if let Some(processing_ms) = report.processing_ms {
                gauge!(telemetry::WAREHOUSE_PROCESSING_SECONDS, &place).set(processing_ms as f64 / 1_000.0);
            }
            let told = self.refused.entry(report.channel.clone()).or_default();
            if report.rows_refused > *told {
                *told = report.rows_refused;
                let (channel, name, rows_refused) = (&report.channel, &report.name, report.rows_refused);
                let last = report.last_refusal.as_deref().unwrap_or("no reason given");
                tracing::error!(%channel, name, rows_refused, last, "the warehouse passed over rows: they are missing in its table; the error table has them");
            }
        }
        self.synced.refused = self.refused.values().sum();
    }

    pub(super) fn replace(&mut self, table: &str, rows: Vec<Row>) -> Result<(), WarehouseError> {
        self.warehouse.replace(table, rows)
    }

    pub(super) fn maintain(&mut self) -> Result<(), WarehouseError> {
        let done = self.warehouse.maintain()?;
        if done != Upkeep::default() {
            tracing::info!(files_merged = done.files_merged, days_removed = done.days_removed, "the warehouse was put in order");
        }
        Ok(())
    }
}

impl Lane {
    /// `bounds`: the first offset that the topic has, and that behind its last record.
    fn behind(channel: Channel, kind: RecordKind, token: Option<i64>, bounds: (i64, i64)) -> Result<Self, WarehouseError> {
        let (first, end) = bounds;
        let next = token.map_or(first, |token| token + 1);
        if next > end {
            return Err(WarehouseError::Ahead { channel, token: next - 1, end });
        }
        let mut previous = token;
        if token.is_some() && next < first {
            // The check for gaps shows it: no row has the offset that the next one will name.
            previous = Some(first - 1);
            tracing::error!(%channel, from = next, to = first - 1, "records were deleted before they became rows: retention of the topic is too short");
        }
        let from = next.max(first);
        let (fresh, began) = (Vec::new(), None);
        Ok(Self { channel, kind, previous, read_to: from, durable_to: from, fresh, fresh_from: from, rows: 0, bytes: 0, began })
    }

    fn push(&mut self, offset: i64, row: Row) {
        if self.fresh.is_empty() {
            self.fresh_from = offset;
        }
        self.previous = Some(offset);
        self.rows += 1;
        self.bytes += row.bytes();
        self.fresh.push(row);
    }
}
