//! Rows that are missing in front of others, from the topics once more: what a warehouse passed over, or lost with a file.

use super::{Sync, SyncError};
use crate::domain::EpochMs;
use crate::io::codec::RecordKind;
use crate::io::log::{LogError, Polled, Position, Reader, Record};
use crate::io::warehouse::{Channel, Place, Row, Table, Warehouse, row};
use crate::runtime::clock::wall_ms;
use std::ops::Range;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(500);
const RECORDS_PER_POLL: usize = 1_000;
/// A log that says nothing for so long does not answer.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Where rows are missing: behind the row at one offset, or from the first one on, and in front of the row at the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    pub channel: Channel,
    pub after: Option<i64>,
    pub before: i64,
}

/// What the topic has of a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub hole: Hole,
    /// Rows of the wanted time.
    pub rows: u64,
    /// Records that cannot be read.
    pub unreadable: u64,
    /// The topic begins behind the beginning of the hole: what was before that is nowhere any more.
    pub is_cut: bool,
}

/// A hole while it is read.
struct Reading<'a> {
    sync: &'a Sync,
    kind: RecordKind,
    found: Found,
    previous: Option<i64>,
    ingested_at: EpochMs,
    /// Rows that are not handed over yet, with their offsets.
    rows: Vec<Row>,
    offsets: Option<(i64, i64)>,
    bytes: usize,
}

impl Sync {
    /// What the topics have of these holes, of records that were written in `of`; with `fill`, puts it there. Doing it again does nothing
    /// twice, for the holes are others then.
    pub fn backfill(&self, holes: Vec<Hole>, of: &Range<EpochMs>, fill: bool) -> Result<Vec<Found>, SyncError> {
        let mut warehouse = if fill { Some((self.open)(&self.log.log_id()?)?) } else { None };
        let mut reader = self.log.reader()?;
        let mut found = Vec::new();
        for hole in holes {
            let is_of = |(table, _): &(&Table, RecordKind)| table.name == hole.channel.table;
            let Some((_, kind)) = self.catalogue.streamed().find(is_of) else { continue };
            found.push(self.read_hole(hole, kind, of, (reader.as_mut(), warehouse.as_deref_mut()))?);
        }
        Ok(found)
    }

    fn read_hole(
        &self,
        hole: Hole,
        kind: RecordKind,
        of: &Range<EpochMs>,
        (reader, mut warehouse): (&mut dyn Reader, Option<&mut (dyn Warehouse + 'static)>),
    ) -> Result<Found, SyncError> {
        let at = hole.channel.at.clone();
        let (first, _) = reader.bounds(&at)?;
        let begin = hole.after.map_or(0, |after| after + 1);
        let is_cut = first > begin;
        // The check for gaps goes on to show it: no row has the offset that the next one names.
        let previous = hole.after.map(|after| if is_cut { first - 1 } else { after });
        let found = Found { hole, rows: 0, unreadable: 0, is_cut };
        let mut reading =
            Reading { sync: self, kind, found, previous, ingested_at: wall_ms(), rows: Vec::new(), offsets: None, bytes: 0 };
        let mut from = begin.max(first);
        if from < reading.found.hole.before {
            reader.assign(&[(at, Position::At(from))])?;
        }
        let (mut polled, mut heard) = (Vec::new(), Instant::now());
        while from < reading.found.hole.before {
            reader.poll(&mut polled, RECORDS_PER_POLL, POLL)?;
            if !polled.is_empty() {
                heard = Instant::now();
            } else if heard.elapsed() > SILENCE_MAX {
                return Err(LogError::Unavailable(format!("{} says nothing", reading.found.hole.channel.at)).into());
            }
            for event in polled.drain(..) {
                match event {
                    Polled::Record(record) if record.offset < reading.found.hole.before => {
                        from = record.offset + 1;
                        reading.take(&record, of)?;
                    }
                    Polled::Record(record) => from = record.offset,
                    Polled::End { offset, .. } => from = offset.max(reading.found.hole.before),
                    Polled::Assigned(_) | Polled::Revoked(_) => {}
                }
            }
            let portions = self.portions;
            if reading.rows.len() >= portions.rows_max || reading.bytes >= portions.bytes_max {
                reading.hand_over(warehouse.as_deref_mut())?;
            }
        }
        reading.hand_over(warehouse)?;
        Ok(reading.found)
    }
}

impl Reading<'_> {
    fn take(&mut self, record: &Record, of: &Range<EpochMs>) -> Result<(), SyncError> {
        let Some(value) = &record.value else { return Ok(()) };
        let place =
            Place { at: &record.at, offset: record.offset, previous_offset: self.previous, ingested_at: self.ingested_at };
        match row(self.kind, &self.sync.codec, value, place) {
            Ok(Some(row)) => {
                self.previous = Some(record.offset);
                if of.contains(&record.timestamp_ms) {
                    self.found.rows += 1;
                    self.bytes += row.bytes();
                    self.offsets = Some((self.offsets.map_or(record.offset, |(first, _)| first), record.offset));
                    self.rows.push(row);
                }
            }
            Ok(None) => {}
            Err(error) if error.blames_record() => self.found.unreadable += 1,
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn hand_over(&mut self, warehouse: Option<&mut (dyn Warehouse + 'static)>) -> Result<(), SyncError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if let (Some(warehouse), Some(offsets)) = (warehouse, self.offsets.take()) {
            warehouse.fill(&self.found.hole.channel, rows, offsets)?;
        }
        Ok(())
    }
}
