//! The loop of one thread: poll → dispatch → engine → commit → store, over all tasks that the group gave it.
//!
//! Owns the member of the consumer group, which task is in which stage, and the commit:
//! 1. everything staged goes into one transaction of the log: outputs, changelog, input offsets;
//! 2. only when that is committed, the same changes and their changelog positions go into the store, in one batch.
//!
//! A crash between the two leaves the store behind, never ahead; `restore` rolls it forward. Any failure drops all that is
//! staged and begins again from what was committed: there is one way back, whatever went wrong.
//! Never decides anything about payments; never looks into a record. `ownership` makes tasks the group's own, `commit` commits.

mod commit;
mod ownership;

use super::inbox::{self, Input, Pending};
use super::payment_task::PaymentTask;
use super::restore::{Restore, log_id_of};
use super::shared::Shared;
use super::staged::Staged;
use super::stats_task::StatsTask;
use super::status::{Status, TaskState};
use super::{Clock, Limits, TaskError};
use crate::io::failpoint;
use crate::io::log::{EventLog, GroupMember, LogError, Polled, Position, Record, TopicPartition};
use crate::io::store::{Shard, StoreName};
use crate::io::topics;
use crate::telemetry;
use metrics::{counter, gauge};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A partition's work. The three payment topics share their partitions; `stats.deltas` has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TaskId {
    Payments(i32),
    Stats(i32),
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Payments(partition) => write!(f, "payments-{partition}"),
            Self::Stats(partition) => write!(f, "stats-{partition}"),
        }
    }
}

impl TaskId {
    fn shards(self) -> Vec<Shard> {
        match self {
            Self::Payments(p) => vec![Shard::new(StoreName::Payments, p), Shard::new(StoreName::Customers, p)],
            Self::Stats(p) => vec![Shard::new(StoreName::Psps, p), Shard::new(StoreName::Profiles, p)],
        }
    }
}

/// Where a record lies: its partition and offset.
type Place = (TopicPartition, i64);

/// Created by an assignment, runs once its state is restored, goes with a revocation or a failure.
enum Stage {
    Restoring,
    Payments(Box<PaymentTask>),
    Stats(Box<StatsTask>),
    /// It panicked and no record was at fault: the others go on without it until then.
    Resting(Instant),
}

impl Stage {
    /// Somebody waits for what it has staged.
    fn is_urgent(&self) -> bool {
        match self {
            Self::Payments(task) => task.is_urgent(),
            Self::Stats(task) => task.staged.urgent,
            Self::Restoring | Self::Resting(_) => false,
        }
    }

    fn has_work(&self) -> bool {
        match self {
            Self::Payments(task) => task.has_work(),
            Self::Stats(task) => task.has_work(),
            Self::Restoring | Self::Resting(_) => false,
        }
    }
}

/// What goes into a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    All,
    /// Answers to requests, and transitions of PSPs.
    Urgent,
    /// All of one task.
    Of(TaskId),
}

/// What one turn of the loop did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub records: usize,
    pub committed: bool,
    /// Nothing is being restored and nothing waits in a queue.
    pub settled: bool,
}

pub(super) struct TaskGroup {
    name: String,
    log: Arc<dyn EventLog>,
    member: Box<dyn GroupMember>,
    shared: Arc<Shared>,
    status: Arc<Status>,
    limits: Limits,
    log_id: String,
    partitions: BTreeMap<String, i32>,
    stages: BTreeMap<TaskId, Stage>,
    assigned: BTreeSet<TopicPartition>,
    paused: BTreeSet<TopicPartition>,
    restore: Option<Restore>,
    /// Transactions of a former self may still be open: before a process, or this group after a failure, goes on.
    is_fresh: bool,
    /// Committed input offsets of the tasks that are being restored.
    starts: Vec<(TopicPartition, Position)>,
    restore_begun: Instant,
    polled: Vec<Polled>,
    staged_since: Option<Instant>,
    /// When requests were answered last.
    answered: Option<Instant>,
    /// Tasks whose events are still to be committed in this round.
    round: VecDeque<TaskId>,
    records_since_commit: usize,
    /// Empty between two commits: keeps its memory.
    collected: Staged,
    /// The record that the engine is working on: the culprit, should it panic.
    current: Option<Place>,
    /// The task that is being worked for: the one to rest, should it panic without a record at fault.
    working: Option<TaskId>,
    /// How long a task rested last.
    rests: BTreeMap<TaskId, Duration>,
    /// Records on which the engine failed: they go to the dead letters unseen.
    poisonous: BTreeSet<Place>,
    /// Records whose dead letter cannot be written: it goes without their bytes.
    unspeakable: BTreeSet<Place>,
    /// One record a commit, until a record that cannot be written has been found.
    careful_commits: usize,
    swept: Instant,
    paced_ms: i64,
    paced_at: Instant,
    /// Committed positions of the running tasks: every transaction carries one, so that the group's generation is checked even
    /// when silence alone made the work.
    positions: BTreeMap<TopicPartition, i64>,
    /// Shards that were wiped as damaged since they were assigned. Once is chance; a second time, rebuilding would have no end.
    wiped: BTreeSet<Shard>,
}

/// What the tasks read.
const INPUTS: [&str; 4] = [topics::ROUTING_REQUESTS, topics::PAYMENT_ATTEMPTS, topics::PAYMENT_OUTCOMES, topics::STATS_DELTAS];
const IDLE_POLL: Duration = Duration::from_millis(50);
const SWEEP_EVERY: Duration = Duration::from_secs(1);
const PACE_MS_MAX: u128 = 1_000;
const TIMERS_PER_TURN: usize = 2_000;
/// Events that are taken along with requests: an answer does not wait for a backlog.
const EVENTS_BESIDE_REQUESTS: usize = 256;
/// For how long after an answer more requests are expected.
const REQUESTS_LATELY: Duration = Duration::from_secs(1);
const CAREFUL_COMMITS: usize = 1_000;
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(300);

impl TaskGroup {
    pub(in crate::runtime) fn join(
        log: Arc<dyn EventLog>,
        shared: Arc<Shared>,
        status: Arc<Status>,
        limits: Limits,
        slot: usize,
    ) -> Result<Self, TaskError> {
        let name = format!("group-{slot}");
        let inputs: Vec<String> = INPUTS.iter().map(|base| shared.topics.full(base)).collect();
        let partitions = ownership::check_topics(&shared, &log.topics(&[])?)?;
        let log_id = log_id_of(log.as_ref(), shared.topics.names())?;
        let member = log.member(&limits.group, &format!("{}-{slot}", limits.instance), &inputs)?;
        status.add_group(&name);
        Ok(Self {
            name,
            log,
            member,
            shared,
            status,
            limits,
            log_id,
            partitions,
            stages: BTreeMap::new(),
            assigned: BTreeSet::new(),
            paused: BTreeSet::new(),
            restore: None,
            is_fresh: true,
            starts: Vec::new(),
            restore_begun: Instant::now(),
            polled: Vec::new(),
            staged_since: None,
            answered: None,
            round: VecDeque::new(),
            records_since_commit: 0,
            collected: Staged::default(),
            current: None,
            working: None,
            rests: BTreeMap::new(),
            poisonous: BTreeSet::new(),
            unspeakable: BTreeSet::new(),
            careful_commits: 0,
            swept: Instant::now(),
            paced_ms: super::clock::wall_ms(),
            paced_at: Instant::now(),
            positions: BTreeMap::new(),
            wiped: BTreeSet::new(),
        })
    }

    /// One turn of the loop. Waits at most `wait` when there is nothing to do.
    pub(in crate::runtime) fn turn(&mut self, wait: Duration) -> Result<Progress, TaskError> {
        self.status.turned(&self.name);
        self.pace();
        self.wake_rested();
        let timeout = self.poll_timeout(wait);
        let mut polled = std::mem::take(&mut self.polled);
        polled.clear();
        let outcome = self.member.poll(&mut polled, self.limits.batch_records_max, timeout);
        if outcome.is_err() {
            // Records are read again from the last commit; what the group said is not said again.
            polled.retain(|event| matches!(event, Polled::Assigned(_) | Polled::Revoked(_)));
        }
        if !polled.is_empty() {
            failpoint::pass("after-poll");
        }
        count_read(&self.shared, &polled);
        let mut records = 0;
        for event in polled.drain(..) {
            records += usize::from(matches!(event, Polled::Record(_)));
            self.dispatch(event)?;
        }
        self.polled = polled;
        outcome?;
        // After the poll: a restore that fails again and again must not keep us from hearing what the group says.
        self.turn_restore()?;
        self.apply_back_pressure()?;
        let (budget, mut committed) = self.answer()?;
        self.process(budget)?;
        if let Some(share) = self.due(records) {
            committed |= self.commit_share(share)?;
        }
        Ok(Progress { records, committed, settled: self.is_settled() })
    }

    /// The time by which silence is measured: it passes with the turns of this loop and at most a second in each, so that a
    /// process that was stopped, or whose clock was set, does not find that everybody else was silent.
    fn now_ms(&self) -> i64 {
        match self.shared.clock {
            Clock::Wall => self.paced_ms,
            Clock::Event => 0,
        }
    }

    fn pace(&mut self) {
        let passed_ms = self.paced_at.elapsed().as_millis().min(PACE_MS_MAX);
        // Less than a millisecond is kept for the next turn.
        if passed_ms > 0 {
            self.paced_ms += passed_ms as i64;
            self.paced_at = Instant::now();
        }
    }

    fn poll_timeout(&self, wait: Duration) -> Duration {
        if self.restore.is_some() || self.has_queued() || !self.round.is_empty() {
            return Duration::ZERO;
        }
        let until_commit = self.staged_since.map(|since| self.limits.commit_interval.saturating_sub(since.elapsed()));
        until_commit.unwrap_or(IDLE_POLL).min(IDLE_POLL).min(wait)
    }

    fn has_queued(&self) -> bool {
        let inputs = [Input::Requests, Input::Attempts, Input::Outcomes];
        self.stages.values().any(|stage| match stage {
            Stage::Payments(task) => inputs.iter().any(|&input| task.order.queued(input) > 0),
            Stage::Stats(_) | Stage::Restoring | Stage::Resting(_) => false,
        })
    }

    fn is_settled(&self) -> bool {
        let restored = !self.stages.values().any(|stage| matches!(stage, Stage::Restoring | Stage::Resting(_)));
        restored && !self.has_queued() && self.staged_since.is_none()
    }

    // What the poll brought.

    fn dispatch(&mut self, event: Polled) -> Result<(), TaskError> {
        let now_ms = self.now_ms();
        match event {
            Polled::Assigned(partitions) => self.on_assigned(partitions),
            Polled::Revoked(partitions) => self.on_revoked(&partitions),
            Polled::Record(record) => return self.on_record(record, now_ms),
            Polled::End { at, .. } => {
                let Some((id, input)) = self.place_of(&at) else { return Ok(()) };
                match (self.stages.get_mut(&id), input) {
                    (Some(Stage::Payments(task)), Some(input)) => task.order.ended(input, now_ms),
                    (Some(Stage::Stats(task)), _) => task.ended(),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn on_record(&mut self, record: Record, now_ms: i64) -> Result<(), TaskError> {
        let Some((id, input)) = self.place_of(&record.at) else { return Ok(()) };
        match (self.stages.get_mut(&id), input) {
            (Some(Stage::Payments(task)), Some(input)) => {
                let place = (record.at.clone(), record.offset);
                if self.poisonous.contains(&place) {
                    task.order.push(inbox::unread(input, record));
                    return Ok(());
                }
                self.current = Some(place);
                let tolerance_ms = self.shared.settings.engine.future_tolerance_ms;
                task.order.push(inbox::receive(&self.shared.codec, input, record, tolerance_ms)?);
                self.current = None;
            }
            (Some(Stage::Stats(task)), _) => {
                self.current = Some((record.at.clone(), record.offset));
                if self.poisonous.contains(&(record.at.clone(), record.offset)) {
                    tracing::error!(
                        partition = record.at.partition,
                        offset = record.offset,
                        "a delta that the engine failed on is left out"
                    );
                    task.staged.took(&record);
                } else {
                    task.process(&self.shared, &record, now_ms)?;
                }
                self.current = None;
                self.records_since_commit += 1;
                self.staged_since = self.staged_since.or_else(|| Some(Instant::now()));
            }
            // What was fetched before `start` is delivered again from there.
            _ => {}
        }
        Ok(())
    }

    fn task_of(&self, at: &TopicPartition) -> Option<TaskId> {
        self.place_of(at).map(|(id, _)| id)
    }

    /// Whose partition it is, and which of a payment task's inputs.
    fn place_of(&self, at: &TopicPartition) -> Option<(TaskId, Option<Input>)> {
        let payments = |input| (TaskId::Payments(at.partition), Some(input));
        Some(match self.shared.topics.base_of(&at.topic)? {
            topics::PAYMENT_ATTEMPTS => payments(Input::Attempts),
            topics::PAYMENT_OUTCOMES => payments(Input::Outcomes),
            topics::ROUTING_REQUESTS => payments(Input::Requests),
            topics::STATS_DELTAS => (TaskId::Stats(at.partition), None),
            _ => return None,
        })
    }

    /// A task's queues are bounded: an input that is ahead waits in the log.
    fn apply_back_pressure(&mut self) -> Result<(), LogError> {
        let (mut pause, mut resume) = (Vec::new(), Vec::new());
        for at in &self.assigned {
            let Some((id, Some(input))) = self.place_of(at) else { continue };
            let Some(Stage::Payments(task)) = self.stages.get(&id) else { continue };
            let queued = task.order.queued(input);
            if queued > self.limits.queue_records_max && !self.paused.contains(at) {
                pause.push(at.clone());
            } else if queued <= self.limits.queue_records_max / 2 && self.paused.contains(at) {
                resume.push(at.clone());
            }
        }
        if !pause.is_empty() {
            self.member.pause(&pause)?;
            self.paused.extend(pause);
        }
        if !resume.is_empty() {
            self.member.resume(&resume)?;
            for at in resume {
                self.paused.remove(&at);
            }
        }
        Ok(())
    }

    // Work.

    /// Requests go ahead of everything, into a commit of their own. Tells how many events may be taken after them, and whether it
    /// committed.
    fn answer(&mut self) -> Result<(usize, bool), TaskError> {
        self.settle_before_requests()?;
        let careful = self.careful_commits > 0;
        let mut budget = if careful { 1 } else { self.limits.batch_records_max };
        let mut answered = false;
        for (&id, stage) in &mut self.stages {
            let Stage::Payments(task) = stage else { continue };
            self.working = Some(id);
            while budget > 0 {
                let Some(pending) = task.order.next_request() else { break };
                take(&self.shared, task, &pending, (&mut self.current, &self.unspeakable))?;
                (budget, answered) = (budget - 1, true);
                self.records_since_commit += 1;
            }
        }
        self.working = None;
        if !answered || careful {
            return Ok((budget, false));
        }
        self.current = None;
        self.answered = Some(Instant::now());
        let committed = self.shared.clock == Clock::Wall && self.commit_share(Share::Urgent)?;
        Ok((budget.min(EVENTS_BESIDE_REQUESTS), committed))
    }

    fn expects_requests(&self) -> bool {
        self.shared.clock == Clock::Wall && self.answered.is_some_and(|at| at.elapsed() < REQUESTS_LATELY)
    }

    fn process(&mut self, mut budget: usize) -> Result<(), TaskError> {
        let now_ms = self.now_ms();
        self.set_horizon();
        let mut suspect = self.current.take();
        let is_sweep_due = self.swept.elapsed() >= SWEEP_EVERY;
        for (&id, stage) in &mut self.stages {
            self.working = Some(id);
            match stage {
                Stage::Payments(task) => {
                    while budget > 0 {
                        let Some(pending) = task.order.next_event(now_ms) else { break };
                        take(&self.shared, task, &pending, (&mut self.current, &self.unspeakable))?;
                        budget -= 1;
                        self.records_since_commit += 1;
                    }
                    // No record is at fault for what timers and sweeps do.
                    suspect = self.current.take().or(suspect);
                    task.order.note_hold(now_ms);
                    task.fire_timers(&self.shared, now_ms, TIMERS_PER_TURN)?;
                    if is_sweep_due {
                        task.sweep(&self.shared, now_ms)?;
                    }
                }
                Stage::Stats(task) => {
                    task.pass_time(&self.shared, now_ms)?;
                    task.publish_due(&self.shared, now_ms, false)?;
                }
                Stage::Restoring | Stage::Resting(_) => {}
            }
        }
        self.working = None;
        if is_sweep_due {
            self.show();
            self.swept = Instant::now();
        }
        if self.careful_commits > 0 {
            // Alone in its commit: should that be refused, this is why.
            self.current = suspect;
        }
        self.note_staged(false);
        Ok(())
    }

    /// For dashboards, once a second.
    fn show(&mut self) {
        let (now_ms, wall_ms) = (self.now_ms(), super::clock::wall_ms());
        let mut by_state = [("restoring", 0), ("running", 0), ("resting", 0)];
        for (id, stage) in &mut self.stages {
            let place = match stage {
                Stage::Restoring => 0,
                Stage::Payments(_) | Stage::Stats(_) => 1,
                Stage::Resting(_) => 2,
            };
            by_state[place].1 += 1;
            if let (Stage::Payments(task), Clock::Wall) = (stage, self.shared.clock)
                && let Some(watermark) = task.order.watermark(now_ms)
            {
                gauge!(telemetry::WATERMARK_LAG, "task" => id.to_string()).set((wall_ms - watermark) as f64 / 1e3);
            }
        }
        for (state, count) in by_state {
            gauge!(telemetry::PARTITIONS, "group" => self.name.clone(), "state" => state).set(f64::from(count));
        }
    }

    fn has_staged(&self) -> bool {
        self.stages.values().any(Stage::has_work)
    }

    /// From when on what is staged waits. `afresh`: what there was has been committed.
    fn note_staged(&mut self, afresh: bool) {
        let since = self.staged_since.filter(|_| !afresh);
        self.staged_since = self.has_staged().then(|| since.unwrap_or_else(Instant::now));
    }

    // When something went wrong, and at the end.

    /// Drops everything that is not committed and begins again from what is. `Err` when the log does not let us.
    pub(in crate::runtime) fn reopen(&mut self, why: &TaskError) -> Result<(), TaskError> {
        match why {
            TaskError::Log(LogError::Unwritable { .. }) if self.careful_commits > 0 => {
                if let Some(place) = self.current.take()
                    && !self.poisonous.insert(place.clone())
                {
                    // Not even its dead letter can be written.
                    self.unspeakable.insert(place);
                }
            }
            TaskError::Log(LogError::Unwritable { .. }) => self.careful_commits = CAREFUL_COMMITS,
            TaskError::Damaged { shard, .. } if self.wiped.contains(shard) => {
                let why = format!(
                    "{why}; it was rebuilt before and is damaged again: its changelog holds the same, from another version or another \
                     hand, or the disk spoils it; start the version that wrote it, or check the disk"
                );
                return Err(LogError::Refused(why).into());
            }
            TaskError::Damaged { shard, .. } => {
                self.shared.store.wipe(*shard)?;
                self.wiped.insert(*shard);
            }
            TaskError::Panicked => self.blame_panic(),
            _ => {}
        }
        self.status.failed(&self.name, why.to_string());
        (self.current, self.working, self.staged_since) = (None, None, None);
        self.round.clear();
        self.records_since_commit = 0;
        (self.restore, self.is_fresh) = (None, true);
        for (id, stage) in self.stages.iter_mut().filter(|(_, stage)| !matches!(stage, Stage::Resting(_))) {
            *stage = Stage::Restoring;
            self.status.set_task(&self.name, &id.to_string(), TaskState::Restoring);
        }
        self.member.recover()?;
        Ok(())
    }

    /// A record at fault goes to the dead letters; where none is, its task rests, longer each time, and the others go on.
    fn blame_panic(&mut self) {
        let task = self.working.take();
        counter!(telemetry::PANICS, "task" => task.map_or_else(|| "none".to_owned(), |id| id.to_string())).increment(1);
        if let Some(place) = self.current.take() {
            self.poisonous.insert(place);
        } else if let Some(id) = task {
            let rest = self.rests.get(&id).map_or(REST_MIN, |last| (*last * 2).min(REST_MAX));
            self.rests.insert(id, rest);
            self.stages.insert(id, Stage::Resting(Instant::now() + rest));
            let reason =
                format!("it panicked, see the crash report in the state directory; begun again {} s later", rest.as_secs());
            tracing::error!(task = %id, reason, "a task stops");
            self.status.set_task(&self.name, &id.to_string(), TaskState::Failed { reason });
        }
    }

    /// Event time has come to `at`, though no record says so: for replay and simulation.
    pub(in crate::runtime) fn announce(&mut self, at: i64) -> Result<(), TaskError> {
        for stage in self.stages.values_mut() {
            match stage {
                Stage::Payments(task) => task.order.announce(at),
                Stage::Stats(task) => task.announce(&self.shared, at)?,
                Stage::Restoring | Stage::Resting(_) => {}
            }
        }
        Ok(())
    }
}

fn count_read(shared: &Shared, polled: &[Polled]) {
    let mut read = [0_u64; INPUTS.len()];
    let mut last: Option<(&Arc<str>, usize)> = None;
    for event in polled {
        let Polled::Record(record) = event else { continue };
        let place = match last {
            Some((topic, place)) if Arc::ptr_eq(topic, &record.at.topic) => Some(place),
            _ => shared.topics.base_of(&record.at.topic).and_then(|base| INPUTS.iter().position(|input| *input == base)),
        };
        let Some(place) = place else { continue };
        last = Some((&record.at.topic, place));
        read[place] += 1;
    }
    for (input, count) in INPUTS.into_iter().zip(read).filter(|(_, count)| *count > 0) {
        counter!(telemetry::RECORDS_READ, "topic" => input).increment(count);
    }
}

fn take(
    shared: &Shared,
    task: &mut PaymentTask,
    pending: &Pending,
    (current, unspeakable): (&mut Option<Place>, &BTreeSet<Place>),
) -> Result<(), TaskError> {
    let place = (pending.record.at.clone(), pending.record.offset);
    let is_unspeakable = unspeakable.contains(&place);
    *current = Some(place);
    task.process(shared, pending, is_unspeakable)
}
