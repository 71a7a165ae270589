//! The task group stepped by hand, in event time: for the demo, replay and tests.
//!
//! One thread, no wall clock: the same inputs in the same order give the same outputs.

use super::global_table::TableReader;
use super::status::{Phase, Status};
use super::task_group::{Progress, TaskGroup};
use super::{Limits, Shared, TaskError};
use crate::io::log::{EventLog, LogError};
use std::sync::Arc;
use std::time::Duration;

pub struct Engine {
    group: TaskGroup,
    table: TableReader,
    shared: Arc<Shared>,
}

/// Turns of `drain` without an end in sight: the log delivers nothing although it is not at its end.
const IDLE_TURNS_MAX: usize = 10_000;

impl Engine {
    /// Joins the log and restores the state. The log's topics must exist.
    pub fn open(log: Arc<dyn EventLog>, shared: Arc<Shared>, limits: Limits) -> Result<Self, TaskError> {
        let table = TableReader::open(&*log, &shared)?;
        let status = Arc::new(Status::new(Duration::MAX));
        status.set_phase(Phase::Running);
        let group = TaskGroup::join(log, shared.clone(), status, limits, 0)?;
        let mut engine = Self { group, table, shared };
        engine.drain()?;
        Ok(engine)
    }

    /// One turn: takes what is there, processes, commits, and brings the table of PSP states up to date.
    pub fn step(&mut self) -> Result<Progress, TaskError> {
        let progress = self.group.turn(Duration::ZERO)?;
        while !self.table.poll(Duration::ZERO)? {}
        self.shared.models.refresh();
        Ok(progress)
    }

    /// Steps until everything that is in the inputs has been processed, with all that follows from it.
    pub fn drain(&mut self) -> Result<(), TaskError> {
        let mut idle = 0;
        while idle < IDLE_TURNS_MAX {
            let progress = self.step()?;
            if progress.settled && progress.records == 0 && !progress.committed {
                return Ok(());
            }
            idle = if progress.records > 0 || progress.committed { 0 } else { idle + 1 };
        }
        Err(LogError::Unavailable("inputs are not at their end, and nothing more arrives".to_owned()).into())
    }

    /// Event time has come to `at`, though no record says so: deadlines before it are over.
    pub fn announce(&mut self, at: i64) -> Result<(), TaskError> {
        self.group.announce(at)?;
        self.drain()
    }

    /// Publishes the state of every PSP segment that changed since it was published last, then leaves the group.
    pub fn close(mut self) -> Result<(), TaskError> {
        self.drain()?;
        self.group.publish_all()?;
        while !self.table.poll(Duration::ZERO)? {}
        self.group.leave()
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }
}
