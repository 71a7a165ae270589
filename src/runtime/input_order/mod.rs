//! In which order a payment task takes its inputs, and how far its time has come.
//!
//! Owns the queues between the poll and the engine: attempts and outcomes are taken in event-time order (as Kafka Streams'
//! `PartitionGroup` does), requests go ahead of both. Owns the watermark: the slowest input's time, so that a task that catches up,
//! wakes from a pause or reads old events does not invent time-outs. Never decodes, never touches state. The wall's time is an
//! argument, and only its differences count.

use super::clock::Clock;
use super::inbox::{Input, Pending};
use crate::domain::EpochMs;
use std::collections::VecDeque;

/// How long a task waits for a joined input that has records but does not deliver them, before it goes on without it.
const HOLD_MS_MAX: i64 = 1_000;

pub(super) struct InputOrder {
    clock: Clock,
    lateness_ms: i64,
    requests: VecDeque<Pending>,
    attempts: Queue,
    outcomes: Queue,
    /// Event time to start from for an input that is at its end and never had a record here: no later than any event seen.
    base_at: Option<EpochMs>,
    /// Time that was announced from outside: the event-time clock of replay and simulation.
    announced_at: Option<EpochMs>,
    watermark: Option<EpochMs>,
    held_since_ms: Option<i64>,
    /// In event time: as far as one commit goes.
    horizon: Option<EpochMs>,
}

/// Where time goes on after a restart. How far each input had come is not in the state; `newest_at`, the newest event of any input,
/// is more than that of the outcomes while attempts wait for theirs. So time goes on where the attempt that is due first was
/// sent: it gets its whole deadline again, unless an outcome says that time has come further. Only a bound from above: requests
/// are answered before older attempts are even read, so the first of those moves it back.
pub(super) fn base_after_restart(newest_at: Option<EpochMs>, first_due_at: Option<EpochMs>, deadline_ms: i64) -> Option<EpochMs> {
    let sent_at = first_due_at.map(|due_at| due_at - deadline_ms);
    newest_at.map(|newest_at| sent_at.map_or(newest_at, |sent_at| newest_at.min(sent_at)))
}

struct Queue {
    records: VecDeque<Pending>,
    /// Highest event time that was taken from this queue.
    last_at: Option<EpochMs>,
    /// Wall time at which the input was seen to be read to its end, while it is.
    ended_ms: Option<i64>,
}

impl InputOrder {
    /// `base_at`: see `base_after_restart`. `now_ms`: the wall's time.
    pub(super) fn new(clock: Clock, lateness_ms: i64, base_at: Option<EpochMs>) -> Self {
        let queue = || Queue { records: VecDeque::new(), last_at: None, ended_ms: None };
        Self {
            clock,
            lateness_ms,
            requests: VecDeque::new(),
            attempts: queue(),
            outcomes: queue(),
            base_at,
            announced_at: None,
            watermark: None,
            held_since_ms: None,
            horizon: None,
        }
    }

    pub(super) fn push(&mut self, pending: Pending) {
        if self.queued(pending.input) == 0 {
            self.held_since_ms = None;
        }
        if pending.input != Input::Requests {
            self.base_at = [self.base_at, pending.at].into_iter().flatten().min();
        }
        match pending.input {
            Input::Requests => self.requests.push_back(pending),
            Input::Attempts => self.attempts.push(pending),
            Input::Outcomes => self.outcomes.push(pending),
        }
    }

    /// The input was read to its end at this wall time.
    pub(super) fn ended(&mut self, input: Input, now_ms: i64) {
        self.held_since_ms = None;
        match input {
            Input::Requests => {}
            Input::Attempts => self.attempts.ended_ms = self.attempts.ended_ms.or(Some(now_ms)),
            Input::Outcomes => self.outcomes.ended_ms = self.outcomes.ended_ms.or(Some(now_ms)),
        }
    }

    /// Event time has come to `at`, though no record says so.
    pub(super) fn announce(&mut self, at: EpochMs) {
        self.announced_at = self.announced_at.max(Some(at));
    }

    /// Events after `at` are left for later.
    pub(super) fn set_horizon(&mut self, at: EpochMs) {
        self.horizon = Some(at);
    }

    /// The time of the earliest event that waits.
    pub(super) fn head_at(&self) -> Option<EpochMs> {
        [&self.attempts, &self.outcomes].into_iter().filter_map(Queue::head_at).min()
    }

    /// Whether all that waits is left for later.
    pub(super) fn is_beyond_horizon(&self) -> bool {
        self.head_at().zip(self.horizon).is_some_and(|(head, horizon)| head > horizon)
    }

    pub(super) fn next_request(&mut self) -> Option<Pending> {
        self.requests.pop_front()
    }

    /// The next attempt or outcome in event-time order; none when nothing is there, or when the other input may yet bring
    /// something earlier.
    pub(super) fn next_event(&mut self, now_ms: i64) -> Option<Pending> {
        if self.is_beyond_horizon() {
            return None;
        }
        let (attempt_at, outcome_at) = (self.attempts.head_at(), self.outcomes.head_at());
        let from_attempts = match (attempt_at, outcome_at) {
            (None, None) => return None,
            (Some(attempt), Some(outcome)) => attempt <= outcome,
            (Some(attempt), None) => self.may_pass(&self.outcomes, attempt, now_ms).then_some(true)?,
            (None, Some(outcome)) => self.may_pass(&self.attempts, outcome, now_ms).then_some(false)?,
        };
        if from_attempts { self.attempts.pop() } else { self.outcomes.pop() }
    }

    /// Notes that `next_event` had something that it held back, so that it does not do so for ever.
    pub(super) fn note_hold(&mut self, now_ms: i64) {
        if self.attempts.records.is_empty() == self.outcomes.records.is_empty() {
            self.held_since_ms = None;
        } else {
            self.held_since_ms = self.held_since_ms.or(Some(now_ms));
        }
    }

    fn may_pass(&self, other: &Queue, at: EpochMs, now_ms: i64) -> bool {
        let held_out = self.held_since_ms.is_some_and(|since| now_ms - since >= HOLD_MS_MAX);
        other.ended_ms.is_some() || other.last_at.is_some_and(|last| at <= last) || held_out
    }

    /// Everything up to here has arrived, by the slowest input; never goes back. None before the first event.
    pub(super) fn watermark(&mut self, now_ms: i64) -> Option<EpochMs> {
        let reached = match self.clock {
            Clock::Wall => self.attempts.reached(self.base_at, now_ms).min(self.outcomes.reached(self.base_at, now_ms)),
            Clock::Event => self.event_time(),
        };
        self.watermark = self.watermark.max(reached.map(|at| at - self.lateness_ms));
        self.watermark
    }

    /// In event time an input that was read to its end holds nothing back.
    fn event_time(&self) -> Option<EpochMs> {
        let behind = self.head_at();
        let seen = self.attempts.last_at.max(self.outcomes.last_at).max(self.announced_at).max(self.base_at);
        behind.map_or(seen, |behind| seen.map(|seen| seen.min(behind)))
    }

    pub(super) fn queued(&self, input: Input) -> usize {
        match input {
            Input::Requests => self.requests.len(),
            Input::Attempts => self.attempts.records.len(),
            Input::Outcomes => self.outcomes.records.len(),
        }
    }
}

impl Queue {
    fn push(&mut self, pending: Pending) {
        self.ended_ms = None;
        self.records.push_back(pending);
    }

    fn pop(&mut self) -> Option<Pending> {
        let pending = self.records.pop_front()?;
        self.last_at = self.last_at.max(pending.at);
        Some(pending)
    }

    /// The time of the next record; one that is no event goes with what was taken before it.
    fn head_at(&self) -> Option<EpochMs> {
        self.records.front().map(|pending| pending.at.or(self.last_at).unwrap_or(0))
    }

    /// The event time that this input has come to; none while it may bring anything. Silence after its end counts by the wall,
    /// from its own last event on.
    fn reached(&self, base_at: Option<EpochMs>, now_ms: i64) -> Option<EpochMs> {
        if let Some(head) = self.head_at() {
            return Some(head);
        }
        let silent_ms = self.ended_ms.map(|ended| (now_ms - ended).max(0));
        match self.last_at {
            Some(last) => Some(last + silent_ms.unwrap_or(0)),
            None => Some(base_at? + silent_ms?),
        }
    }
}

#[cfg(test)]
mod tests;
