//! Which tasks a group has, and what it takes to make them its own: assignment, restore, opening, revocation.

use super::super::TaskError;
use super::super::payment_task::PaymentTask;
use super::super::restore::{Changelogs, Restore};
use super::super::shared::Shared;
use super::super::stats_task::StatsTask;
use super::super::status::TaskState;
use super::{Stage, TaskGroup, TaskId};
use crate::io::failpoint;
use crate::io::log::{LogError, Position, TopicDescription, TopicPartition};
use crate::io::store::Shard;
use crate::io::topics::{self, PlanOptions};
use crate::telemetry;
use metrics::{counter, histogram};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a turn waits for the changelogs.
const RESTORE_POLL: Duration = Duration::from_millis(20);

impl TaskGroup {
    pub(super) fn on_assigned(&mut self, partitions: Vec<TopicPartition>) {
        counter!(telemetry::REBALANCES, "kind" => "assigned").increment(1);
        let ids: BTreeSet<TaskId> = partitions.iter().filter_map(|at| self.task_of(at)).collect();
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        tracing::info!(group = self.name, tasks = names.join(" "), "assigned");
        self.assigned.extend(partitions);
        for id in ids {
            self.stages.insert(id, Stage::Restoring);
        }
        self.status.assigned(&self.name, &names);
        self.restore = None;
    }

    pub(super) fn on_revoked(&mut self, partitions: &[TopicPartition]) {
        counter!(telemetry::REBALANCES, "kind" => "revoked").increment(1);
        for at in partitions {
            self.assigned.remove(at);
            self.paused.remove(at);
            self.positions.remove(at);
        }
        let gone: BTreeSet<TaskId> = partitions.iter().filter_map(|at| self.task_of(at)).collect();
        let names: Vec<String> = gone.iter().map(ToString::to_string).collect();
        for id in &gone {
            self.stages.remove(id);
            self.rests.remove(id);
        }
        self.wiped.retain(|shard| !gone.iter().any(|id| id.shards().contains(shard)));
        if let Some(restore) = &mut self.restore {
            restore.forget(|shard| gone.iter().any(|id| id.shards().contains(&shard)));
        }
        tracing::info!(group = self.name, tasks = names.join(" "), "revoked");
        self.status.revoked(&self.name, &names);
        self.note_staged(false);
    }

    /// Tasks that have rested are restored; whatever is being restored is begun again with them.
    pub(super) fn wake_rested(&mut self) {
        let now = Instant::now();
        for (id, stage) in &mut self.stages {
            if matches!(stage, Stage::Resting(until) if *until <= now) {
                *stage = Stage::Restoring;
                self.restore = None;
                self.status.set_task(&self.name, &id.to_string(), TaskState::Restoring);
            }
        }
    }

    pub(super) fn turn_restore(&mut self) -> Result<(), TaskError> {
        if self.restore.is_none() && self.stages.values().any(|stage| matches!(stage, Stage::Restoring)) {
            self.begin_restore()?;
        }
        let Some(restore) = &mut self.restore else { return Ok(()) };
        if !restore.turn(&self.shared.store, RESTORE_POLL)? {
            return Ok(());
        }
        let (seconds, applied) = (self.restore_begun.elapsed().as_secs_f64(), restore.applied());
        histogram!(telemetry::RESTORE_SECONDS).record(seconds);
        tracing::info!(group = self.name, records = applied, seconds, "state restored");
        (self.restore, self.is_fresh) = (None, false);
        failpoint::pass("after-restore");
        self.open_restored()
    }

    fn begin_restore(&mut self) -> Result<(), TaskError> {
        self.restore_begun = Instant::now();
        // Again: partitions may have been added since this member joined, and a broker may have told the old number then.
        self.partitions = check_topics(&self.shared, &self.log.topics(&[])?)?;
        let restoring: BTreeSet<TaskId> =
            self.stages.iter().filter(|(_, stage)| matches!(stage, Stage::Restoring)).map(|(&id, _)| id).collect();
        let inputs: Vec<TopicPartition> =
            self.assigned.iter().filter(|at| self.task_of(at).is_some_and(|id| restoring.contains(&id))).cloned().collect();
        // First the committed offsets, which waits until no former owner's transaction is open; then the changelogs.
        let committed = self.member.committed(&inputs)?;
        self.starts = committed.into_iter().map(|(at, offset)| (at, offset.map_or(Position::Beginning, Position::At))).collect();
        let mut changelogs = Changelogs::new();
        for shard in restoring.iter().flat_map(|id| id.shards()) {
            let at = self.changelog_of(shard);
            let partitions = self.partitions.get(&*at.topic).copied().unwrap_or_default();
            changelogs.insert(at, (shard, partitions));
        }
        let reader = self.log.reader()?;
        let outputs = if self.is_fresh { self.outputs() } else { vec![] };
        self.restore = Some(Restore::begin(&self.shared.store, reader, &self.log_id, changelogs, &outputs)?);
        Ok(())
    }

    fn open_restored(&mut self) -> Result<(), TaskError> {
        let now_ms = self.now_ms();
        let ids: Vec<TaskId> = self.stages.keys().copied().collect();
        for id in ids {
            if !matches!(self.stages.get(&id), Some(Stage::Restoring)) {
                continue;
            }
            self.working = Some(id);
            let stage = match id {
                TaskId::Payments(partition) => Stage::Payments(Box::new(PaymentTask::open(&self.shared, partition)?)),
                TaskId::Stats(partition) => Stage::Stats(Box::new(StatsTask::open(&self.shared, partition, now_ms)?)),
            };
            self.stages.insert(id, stage);
            self.status.set_task(&self.name, &id.to_string(), TaskState::Running);
        }
        self.working = None;
        let starts = std::mem::take(&mut self.starts);
        let starts: Vec<_> = starts.into_iter().filter(|(at, _)| self.assigned.contains(at)).collect();
        self.paused.retain(|at| !starts.iter().any(|(started, _)| started == at));
        self.positions.extend(starts.iter().map(|(at, position)| match position {
            Position::Beginning => (at.clone(), 0),
            Position::At(offset) => (at.clone(), *offset),
        }));
        self.member.start(&starts)?;
        Ok(())
    }

    /// All partitions that transactions of ours may have written to.
    fn outputs(&self) -> Vec<TopicPartition> {
        let ours = |topic: &str| self.shared.topics.base_of(topic).is_some_and(topics::is_output);
        let ours = self.partitions.iter().filter(|(topic, _)| ours(topic));
        ours.flat_map(|(topic, &count)| (0..count).map(|partition| TopicPartition::new(topic, partition))).collect()
    }

    pub(super) fn changelog_of(&self, shard: Shard) -> TopicPartition {
        TopicPartition::new(&self.shared.topics.changelog(shard.store), shard.partition)
    }
}

/// Partitions by topic. Refuses to work on topics that are missing, or that would spread a payment over tasks.
pub(super) fn check_topics(shared: &Shared, actual: &[TopicDescription]) -> Result<BTreeMap<String, i32>, LogError> {
    let declared = topics::declared().map_err(|error| LogError::Refused(error.to_string()))?;
    let plan = topics::plan(&declared, actual, &PlanOptions { names: shared.topics.names().clone(), ..PlanOptions::default() });
    if let Some(missing) = plan.create.first() {
        return Err(LogError::NoTopic(missing.name.clone()));
    }
    if let Some(unequal) = plan.unequal.first() {
        let counts: Vec<String> =
            unequal.partitions.iter().map(|(topic, partitions)| format!("{topic} has {partitions}")).collect();
        return Err(LogError::Refused(format!(
            "{} must have equal numbers of partitions: {}; {}",
            unequal.set,
            counts.join(", "),
            unequal.remedy
        )));
    }
    Ok(actual.iter().map(|topic| (topic.name.clone(), topic.partitions)).collect())
}
