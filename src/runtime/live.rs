//! Task groups in threads, until told to stop.
//!
//! Owns the threads, the way back from failures (with a growing pause), and the order of leaving: commit, leave the group, end.

use super::global_table::TableReader;
use super::status::{Phase, Status};
use super::task_group::TaskGroup;
use super::{Limits, Shared, TaskError};
use crate::io::log::EventLog;
use crate::telemetry;
use metrics::counter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Set once, seen by all threads.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits, but not beyond the order to stop.
    pub fn pause(&self, duration: Duration) {
        let slice = Duration::from_millis(50);
        let mut left = duration;
        while !left.is_zero() && !self.is_set() {
            thread::sleep(left.min(slice));
            left = left.saturating_sub(slice);
        }
    }
}

/// A running router.
pub struct Live {
    pub log: Arc<dyn EventLog>,
    pub shared: Arc<Shared>,
    pub status: Arc<Status>,
    pub limits: Limits,
    /// Threads, each a member of the group of its own.
    pub threads: usize,
    pub stop: Stop,
}

const TABLE_POLL: Duration = Duration::from_millis(100);
/// Figures of features are worked out anew this often.
const FEATURES_TOLD: Duration = Duration::from_secs(5);
const TURN_WAIT: Duration = Duration::from_millis(50);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

impl Live {
    /// Runs until `stop` is set or a human has to act.
    pub fn run(&self) -> Result<(), TaskError> {
        let table = self.open_table()?;
        self.shared.models.refresh();
        thread::scope(|scope| {
            let table = scope.spawn(|| self.or_stop(|| self.follow_table(table)));
            // Apart from the table: loading a model must not hold up what is told of a PSP.
            let models = scope.spawn(|| self.follow_models());
            let groups: Vec<_> =
                (0..self.threads).map(|slot| scope.spawn(move || self.or_stop(|| self.run_group(slot)))).collect();
            self.status.set_phase(Phase::Running);
            let mut result = Ok(());
            for handle in groups.into_iter().chain([table]) {
                result = result.and(handle.join().unwrap_or(Err(TaskError::Panicked)));
            }
            self.stop.set();
            result = result.and(models.join().map_err(|_| TaskError::Panicked));
            self.status.set_phase(Phase::Stopped);
            result
        })
    }

    /// One thread's failure ends all: a process that does half its work looks healthy and is not.
    fn or_stop(&self, work: impl FnOnce() -> Result<(), TaskError>) -> Result<(), TaskError> {
        let result = work();
        if result.is_err() {
            self.stop.set();
        }
        result
    }

    /// The table is complete before any request is decided.
    fn open_table(&self) -> Result<TableReader, TaskError> {
        let mut pause = BACKOFF_MIN;
        loop {
            match self.try_open_table() {
                Ok(table) => {
                    self.status.set_log_unavailable(None);
                    return Ok(table);
                }
                Err(error) if error.is_final() || self.stop.is_set() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "waiting for the log");
                    self.status.set_log_unavailable(Some(error.to_string()));
                    self.stop.pause(pause);
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    fn try_open_table(&self) -> Result<TableReader, TaskError> {
        let mut table = TableReader::open(&*self.log, &self.shared)?;
        while !table.poll(TABLE_POLL)? {
            if self.stop.is_set() {
                break;
            }
        }
        Ok(table)
    }

    fn follow_table(&self, mut table: TableReader) -> Result<(), TaskError> {
        let mut pause = BACKOFF_MIN;
        while !self.stop.is_set() {
            match table.poll(TABLE_POLL) {
                Ok(_) => pause = BACKOFF_MIN,
                Err(error) if !error.is_transient() => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(%error, "the table of PSP states is not followed");
                    self.stop.pause(pause);
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
            }
        }
        Ok(())
    }

    fn follow_models(&self) {
        let mut told = Instant::now();
        while !self.stop.is_set() {
            self.shared.models.refresh();
            if told.elapsed() > FEATURES_TOLD {
                told = Instant::now();
                self.shared.features.tell(self.shared.models.encoder());
            }
            self.stop.pause(TABLE_POLL);
        }
    }

    fn run_group(&self, slot: usize) -> Result<(), TaskError> {
        let Some(mut group) = self.join(slot)? else { return Ok(()) };
        let mut pause = BACKOFF_MIN;
        while !self.stop.is_set() {
            let error = match turn(&mut group) {
                Ok(()) => {
                    pause = BACKOFF_MIN;
                    continue;
                }
                Err(error) if error.is_final() => return Err(error),
                Err(error) => error,
            };
            counter!(telemetry::COMMIT_FAILURES).increment(1);
            tracing::warn!(slot, %error, "work is dropped and begun again from the last commit");
            self.reopen(&mut group, &error, &mut pause)?;
        }
        self.status.set_phase(Phase::Draining);
        group.leave()
    }

    fn join(&self, slot: usize) -> Result<Option<TaskGroup>, TaskError> {
        let mut pause = BACKOFF_MIN;
        while !self.stop.is_set() {
            match TaskGroup::join(self.log.clone(), self.shared.clone(), self.status.clone(), self.limits.clone(), slot) {
                Ok(group) => return Ok(Some(group)),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    tracing::warn!(slot, %error, "cannot join the group yet");
                    self.stop.pause(pause);
                    pause = (pause * 2).min(BACKOFF_MAX);
                }
            }
        }
        Ok(None)
    }

    fn reopen(&self, group: &mut TaskGroup, why: &TaskError, pause: &mut Duration) -> Result<(), TaskError> {
        self.stop.pause(*pause);
        *pause = (*pause * 2).min(BACKOFF_MAX);
        while let Err(error) = group.reopen(why) {
            if error.is_final() || self.stop.is_set() {
                return Err(error);
            }
            tracing::warn!(%error, "cannot begin again yet");
            self.stop.pause(*pause);
            *pause = (*pause * 2).min(BACKOFF_MAX);
        }
        Ok(())
    }
}

/// One turn, with a panic caught at the task group's edge: the record at fault is known, the others go on.
fn turn(group: &mut TaskGroup) -> Result<(), TaskError> {
    let turned = catch_unwind(AssertUnwindSafe(|| group.turn(TURN_WAIT)));
    turned.unwrap_or(Err(TaskError::Panicked)).map(|_| ())
}
