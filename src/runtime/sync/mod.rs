//! Sync: what the router predicted, decided and learned becomes rows of the warehouse, each once and in order.
//!
//! Owns the thread and the ways back from a failure: whatever happens, it begins again behind the last row that is durable. That place is the
//! warehouse's own token; the offsets of its consumer group say the same a little later, for people who look at the group. Never keeps the router
//! from working: it has a group of its own, and a warehouse that takes nothing is tried again while rows wait in the log.
//!
//! Reading order: here (threads, sessions), `lanes` (partitions on their way into tables).

mod lanes;
#[cfg(test)]
mod tests;

use super::status::{Status, TaskState};
use super::{Limits, Stop};
use crate::io::codec::{Codec, CodecError};
use crate::io::log::{EventLog, GroupMember, LogError, Polled, TopicPartition, Txn};
use crate::io::models::{self, VERDICT};
use crate::io::topics::TopicNames;
use crate::io::warehouse::{Catalogue, Row, Warehouse, WarehouseError, card_row};
use crate::telemetry;
use lanes::Lanes;
use metrics::counter;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use thiserror::Error;

const POLL: Duration = Duration::from_millis(100);
const RECORDS_PER_POLL: usize = 1_000;
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Between two looks at what is not urgent: lag, cards of models, small files.
const UPKEEP: Duration = Duration::from_secs(10);
const CARDS: &str = "ML_MODEL_CARDS";
/// Its name in status and metrics.
const TASK: &str = "warehouse";

/// When rows are made durable, and what they may take in memory until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portions {
    /// Of one table and partition.
    pub rows_max: usize,
    pub bytes_max: usize,
    /// Of all.
    pub memory_bytes_max: usize,
    pub age: Duration,
}

/// Why a session of the sync ended.
#[derive(Debug, Error)]
pub enum SyncError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Warehouse(#[from] WarehouseError),
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl SyncError {
    fn kind(&self) -> &'static str {
        match self {
            Self::Warehouse(error) => error.kind(),
            Self::Log(_) | Self::Codec(_) => "log",
        }
    }
}

/// Opens the warehouse for the log with this id.
pub type Open = Box<dyn Fn(&str) -> Result<Box<dyn Warehouse>, WarehouseError> + Send>;

/// Everything that a sync needs.
pub struct Sync {
    pub log: Arc<dyn EventLog>,
    pub codec: Codec,
    pub names: TopicNames,
    pub catalogue: Catalogue,
    pub portions: Portions,
    /// Whose versions are told in `ML_MODEL_CARDS`.
    pub models_dir: PathBuf,
    pub group: String,
    pub instance: String,
    pub open: Open,
    pub stop: Stop,
    /// Told how it stands, where the sync is all that a process does: a router is ready without it.
    pub status: Option<Arc<Status>>,
}

/// What a sync has written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// By table.
    pub rows: BTreeMap<String, u64>,
    pub unreadable: u64,
    /// Those that the warehouse passed over since its channels were made.
    pub refused: u64,
}

/// The sync's consumer group. A directory has its own, so it is of one instance; tables that all share are filled by all together.
pub fn group(limits: &Limits, is_shared: bool) -> String {
    if is_shared { format!("{}-warehouse", limits.group) } else { format!("{}-warehouse-{}", limits.group, limits.instance) }
}

impl Sync {
    /// In a thread of its own, until told to stop.
    pub fn start(self) -> std::io::Result<JoinHandle<()>> {
        thread::Builder::new().name(TASK.to_owned()).spawn(move || self.serve())
    }

    /// Until told to stop, whatever happens.
    pub fn serve(&self) {
        let mut pause = PAUSE_MIN;
        self.tell_status(|status| status.add_group(TASK));
        while !self.stop.is_set() {
            let begun = Instant::now();
            let kind = match catch_unwind(AssertUnwindSafe(|| self.session(None))) {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the warehouse is not written; it goes on behind its last row");
                    self.tell_status(|status| status.failed(TASK, error.to_string()));
                    error.kind()
                }
                Err(_) => {
                    counter!(telemetry::PANICS, "task" => TASK).increment(1);
                    tracing::error!("a panic in the sync: see the crash report; it goes on behind the last row");
                    self.tell_status(|status| status.failed(TASK, "a panic: see the crash report".to_owned()));
                    "panic"
                }
            };
            counter!(telemetry::WAREHOUSE_ERRORS, "kind" => kind).increment(1);
            // One that held for long is a new failure, not the same again.
            pause = if begun.elapsed() > 2 * PAUSE_MAX { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            self.stop.pause(pause);
        }
    }

    /// Up to where the topics end now.
    pub fn once(&self) -> Result<Synced, SyncError> {
        let mut reader = self.log.reader()?;
        let mut ends = BTreeMap::new();
        for at in self.partitions()? {
            let (_, end) = reader.bounds(&at)?;
            ends.insert(at, end);
        }
        self.session(Some(&ends))
    }

    /// From opening the warehouse until told to stop, or until all is read up to `ends`.
    fn session(&self, ends: Option<&BTreeMap<TopicPartition, i64>>) -> Result<Synced, SyncError> {
        self.partitions()?;
        let warehouse = (self.open)(&self.log.log_id()?)?;
        let topics: Vec<String> = self.topics().collect();
        let mut member = self.log.member(&self.group, &self.instance, &topics)?;
        let mut lanes = Lanes::new(self, warehouse, self.log.reader()?);
        let worked = self.work(&mut lanes, member.as_mut(), ends);
        let closed = member.close();
        worked?;
        closed?;
        Ok(lanes.synced())
    }

    fn work(
        &self,
        lanes: &mut Lanes<'_>,
        member: &mut dyn GroupMember,
        ends: Option<&BTreeMap<TopicPartition, i64>>,
    ) -> Result<(), SyncError> {
        let (mut polled, mut cards, mut looked) = (Vec::new(), None, None);
        while !self.stop.is_set() && !ends.is_some_and(|ends| lanes.have_read(ends)) {
            member.poll(&mut polled, RECORDS_PER_POLL, POLL)?;
            for polled in polled.drain(..) {
                match polled {
                    Polled::Assigned(partitions) => {
                        lanes.take_up(&partitions, member)?;
                        self.tell_status(|status| {
                            status.assigned(TASK, &[]);
                            status.set_task(TASK, TASK, TaskState::Running);
                        });
                    }
                    Polled::Revoked(partitions) => lanes.put_down(&partitions),
                    Polled::Record(record) => lanes.read(&record)?,
                    Polled::End { at, offset } => lanes.read_to(&at, offset),
                }
            }
            lanes.hand_over()?;
            tell_group(member, lanes.flush_due()?)?;
            if looked.is_none_or(|looked: Instant| looked.elapsed() > UPKEEP) {
                looked = Some(Instant::now());
                self.tell_cards(lanes, &mut cards);
                lanes.tell_lag()?;
                lanes.tell_reports();
                lanes.maintain()?;
            }
        }
        tell_group(member, lanes.flush_all()?)?;
        lanes.tell_reports();
        // Who looks in once leaves it in order.
        if ends.is_some() { Ok(lanes.maintain()?) } else { Ok(()) }
    }

    fn tell_status(&self, tell: impl FnOnce(&Status)) {
        if let Some(status) = &self.status {
            tell(status);
        }
    }

    /// Full names of the topics that fill tables.
    fn topics(&self) -> impl Iterator<Item = String> {
        self.catalogue.streamed().map(|(_, kind)| self.names.full(kind.topic()))
    }

    fn partitions(&self) -> Result<Vec<TopicPartition>, LogError> {
        let known: BTreeMap<String, i32> =
            self.log.topics(&[])?.into_iter().map(|topic| (topic.name, topic.partitions)).collect();
        let mut all = Vec::new();
        for topic in self.topics() {
            let count = *known.get(&topic).ok_or_else(|| LogError::NoTopic(topic.clone()))?;
            all.extend((0..count).map(|partition| TopicPartition::new(&topic, partition)));
        }
        Ok(all)
    }

    /// Versions on disk, when they are others than before. Whoever makes one writes it whole, but a registry that cannot be read keeps no row waiting.
    fn tell_cards(&self, lanes: &mut Lanes<'_>, told: &mut Option<Vec<Row>>) {
        match self.cards() {
            Ok(rows) if told.as_ref() == Some(&rows) => {}
            // Rows are worth more than cards: these are tried again with the next look.
            Ok(rows) => match lanes.replace(CARDS, rows.clone()) {
                Ok(()) => *told = Some(rows),
                Err(error) => {
                    counter!(telemetry::WAREHOUSE_ERRORS, "kind" => error.kind()).increment(1);
                    tracing::warn!(%error, "the cards of the models are not written");
                }
            },
            Err(error) => tracing::warn!(%error, "the cards of the models cannot be read"),
        }
    }

    fn cards(&self) -> Result<Vec<Row>, models::ModelsError> {
        let mut rows = Vec::new();
        for (name, version) in models::all(&self.models_dir)? {
            let file = |file: &str| models::read_file(&self.models_dir, &name, &version, file);
            rows.push(card_row(&name, &version, [file("card.json")?, file("lineage.json")?, file(VERDICT)?]));
        }
        Ok(rows)
    }
}

/// What the group is told is for people: the warehouse knows better, so a commit that does not go through is no reason to begin again.
fn tell_group(member: &mut dyn GroupMember, offsets: BTreeMap<TopicPartition, i64>) -> Result<(), SyncError> {
    if offsets.is_empty() {
        return Ok(());
    }
    match member.commit(Txn { outputs: Vec::new(), input_offsets: offsets }) {
        Ok(_) => Ok(()),
        Err(error) if error.is_transient() => {
            tracing::warn!(%error, "the group's offsets are told with the next rows");
            Ok(member.recover()?)
        }
        Err(error) => Err(error.into()),
    }
}
