//! The commit of a group, in its two steps: the log's transaction, then the store's batch.

use super::super::TaskError;
use super::super::clock::{Clock, wall_ms};
use super::super::entity_cache::FORMAT;
use super::super::inbox::Input;
use super::super::staged::{Change, Staged};
use super::{Share, Stage, TaskGroup, TaskId};
use crate::io::failpoint;
use crate::io::log::{LogError, Output, TopicPartition, Txn, Written};
use crate::io::store::{Fingerprint, LastRecord, Shard, ShardPosition, StateBatch, fingerprint};
use crate::telemetry;
use metrics::{counter, histogram};
use std::collections::BTreeMap;
use std::time::Instant;

/// Records of one commit in event time: a backlog of results is then counted in few deltas, and few tiles are written often.
const RECORDS_AT_ONCE: usize = 8_000;

impl TaskGroup {
    /// Commits all that is staged. True when there was something.
    pub(in crate::runtime) fn commit(&mut self) -> Result<bool, TaskError> {
        self.commit_share(Share::All)
    }

    pub(super) fn commit_share(&mut self, share: Share) -> Result<bool, TaskError> {
        let begun = Instant::now();
        let (mut staged, emptied) = self.flush(share)?;
        if staged.is_empty() {
            self.after_commit(share, &emptied);
            return Ok(false);
        }
        if staged.offsets.is_empty() {
            staged.offsets.extend(self.positions.iter().next().map(|(at, offset)| (at.clone(), *offset)));
        }
        let (offsets, asked_ms) = (staged.offsets.clone(), std::mem::take(&mut staged.asked_ms));
        let mut outputs = Vec::with_capacity(staged.outputs.len() + staged.changes.len());
        outputs.append(&mut staged.outputs);
        // With the place of its last record among the outputs.
        let mut changelogs: BTreeMap<Shard, (TopicPartition, usize)> = BTreeMap::new();
        let mut batch = StateBatch::with_capacity(staged.changes.iter().map(Change::stored_bytes).sum());
        for change in staged.changes.drain(..) {
            batch.put(change.shard, &change.key, change.value.as_deref());
            let (at, last) = changelogs.entry(change.shard).or_insert_with(|| (self.changelog_of(change.shard), 0));
            if !failpoint::is_broken("changelog-record-left-out") {
                *last = outputs.len();
                outputs.push(changelog_record(at, change));
            }
        }
        let records = outputs.len();
        let changelogs: Vec<_> =
            changelogs.into_iter().map(|(shard, (at, last))| (shard, at, outputs.get(last).map(fingerprint_of))).collect();
        let written = self.transact(Txn { outputs, input_offsets: std::mem::take(&mut staged.offsets) })?;
        self.collected = staged;
        for (shard, at, last) in changelogs {
            let changelog_offset =
                *written.get(&at).ok_or_else(|| LogError::Unsettled(format!("no offset was acknowledged for {at}")))?;
            let partitions = self.partitions.get(&*at.topic).copied().unwrap_or_default();
            let format = FORMAT;
            let last = last.map(|fingerprint| LastRecord::new(changelog_offset - 1, fingerprint));
            let log_id = self.log_id.clone();
            batch.set_position(shard, &ShardPosition { log_id, partitions, format, changelog_offset, last })?;
        }
        failpoint::pass("before-store-write");
        self.shared.store.write(batch)?;
        failpoint::pass("after-store-write");
        self.note_answers(&asked_ms);
        counter!(telemetry::COMMITS).increment(1);
        counter!(telemetry::RECORDS_WRITTEN).increment(records as u64);
        histogram!(telemetry::BATCH_RECORDS).record(self.records_since_commit as f64);
        histogram!(telemetry::COMMIT_SECONDS).record(begun.elapsed().as_secs_f64());
        self.positions.extend(offsets);
        self.after_commit(share, &emptied);
        Ok(true)
    }

    fn transact(&mut self, mut txn: Txn) -> Result<Written, LogError> {
        // Two mistakes that a test makes on purpose.
        if failpoint::is_broken("offsets-before-outputs") {
            self.member.commit(Txn { outputs: Vec::new(), input_offsets: txn.input_offsets.clone() })?;
        }
        if failpoint::is_broken("outputs-not-in-transaction") {
            let (changelog, outputs) = txn.outputs.into_iter().partition(|output| output.partition.is_some());
            txn.outputs = changelog;
            let mut appender = self.log.appender()?;
            appender.append(outputs)?;
            appender.flush()?;
        }
        self.member.commit(txn)
    }

    fn note_answers(&self, asked_ms: &[i64]) {
        if self.shared.clock == Clock::Event {
            return;
        }
        let now_ms = wall_ms();
        for asked_ms in asked_ms {
            histogram!(telemetry::DECISION_AGE_SECONDS).record((now_ms - asked_ms).max(0) as f64 / 1e3);
        }
    }

    /// What this share is to write, and the tasks of which nothing is left.
    fn flush(&mut self, share: Share) -> Result<(Staged, Vec<TaskId>), TaskError> {
        let now_ms = self.now_ms();
        let mut all = std::mem::take(&mut self.collected);
        let mut emptied = Vec::new();
        for (&id, stage) in &mut self.stages {
            let is_in = match share {
                Share::All => true,
                Share::Urgent => stage.is_urgent(),
                Share::Of(one) => one == id,
            };
            if !is_in {
                continue;
            }
            self.working = Some(id);
            let is_everything = match stage {
                Stage::Payments(task) => task.flush(&self.shared, now_ms, share == Share::Urgent, &mut all)?,
                Stage::Stats(task) => {
                    task.flush(&mut all);
                    true
                }
                Stage::Restoring | Stage::Resting(_) => continue,
            };
            emptied.extend(is_everything.then_some(id));
        }
        self.working = None;
        Ok((all, emptied))
    }

    fn after_commit(&mut self, share: Share, emptied: &[TaskId]) {
        if share == Share::All {
            self.round.clear();
        }
        self.note_staged(share != Share::Urgent && self.round.is_empty());
        self.current = None;
        self.records_since_commit = 0;
        self.careful_commits = self.careful_commits.saturating_sub(1);
        for id in emptied {
            // What is left of the others is written nowhere else yet.
            if let Some(Stage::Payments(task)) = self.stages.get_mut(id) {
                task.committed();
            }
        }
    }

    /// What is to be committed now. Who waits for an answer does not wait for the work of other tasks, nor for what else came in: most
    /// of what a transaction costs is in the number of partitions that it writes to.
    /// `records`: how many the last poll brought.
    pub(super) fn due(&mut self, records: usize) -> Option<Share> {
        let since = self.staged_since?;
        if self.careful_commits > 0 {
            return Some(Share::All);
        }
        if self.shared.clock == Clock::Event {
            // Nobody waits by the wall: as many as make what a commit costs small beside what they cost themselves.
            let is_over = records == 0 && !self.has_queued() || self.records_since_commit >= RECORDS_AT_ONCE;
            return (is_over || self.stages.values().any(Stage::is_urgent)).then_some(Share::All);
        }
        if self.stages.values().any(Stage::is_urgent) {
            return Some(Share::Urgent);
        }
        if self.round.is_empty() {
            if since.elapsed() < self.limits.commit_interval {
                return None;
            }
            if !self.expects_requests() {
                return Some(Share::All);
            }
            self.round = self.stages.iter().filter(|(_, stage)| stage.has_work()).map(|(&id, _)| id).collect();
        }
        // With requests about, the tasks' events are committed one task after the other: none of them has to wait for all.
        self.round.pop_front().map(Share::Of)
    }

    /// In event time a request is to see what came before it, however much of that is still staged.
    pub(super) fn settle_before_requests(&mut self) -> Result<(), TaskError> {
        let waits = |stage: &Stage| matches!(stage, Stage::Payments(task) if task.order.queued(Input::Requests) > 0);
        if self.shared.clock == Clock::Event && self.staged_since.is_some() && self.stages.values().any(waits) {
            self.commit()?;
        }
        Ok(())
    }

    /// Publishes every state that changed, whatever the interval.
    pub(in crate::runtime) fn publish_all(&mut self) -> Result<(), TaskError> {
        for stage in self.stages.values_mut() {
            if let Stage::Stats(task) = stage {
                task.publish_due(&self.shared, 0, true)?;
            }
        }
        self.commit()?;
        Ok(())
    }

    /// Commits what is staged and leaves the group.
    pub(in crate::runtime) fn leave(&mut self) -> Result<(), TaskError> {
        self.commit()?;
        self.member.close()?;
        self.status.remove_group(&self.name);
        Ok(())
    }
}

fn fingerprint_of(output: &Output) -> Fingerprint {
    fingerprint(output.key.as_deref().unwrap_or_default(), output.value.as_deref())
}

fn changelog_record(at: &TopicPartition, change: Change) -> Output {
    Output {
        topic: at.topic.clone(),
        partition: Some(at.partition),
        timestamp_ms: None,
        key: Some(change.key),
        value: change.value,
        headers: Vec::new(),
    }
}
