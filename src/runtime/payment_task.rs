//! One partition of the payment topics: attempts and outcomes are joined, requests are decided.
//!
//! Owns the partition's payments and customers, its order of inputs, and its timers. Calls the engine's two functions with what
//! they need and stages what they want. Never commits, never reads the log: `task_group` does both.

use super::TaskError;
use super::deltas::Deltas;
use super::entity_cache::{Cause, Entity, EntityCache, EntityError, Header, header_of};
use super::inbox::{Input, InputEvent, Pending};
use super::input_order::{InputOrder, base_after_restart};
use super::scoring;
use super::shared::Shared;
use super::staged::Staged;
use crate::domain::learning::{SegmentTally, StatsDelta, Tally};
use crate::domain::payment::{PaymentAttempt, PaymentOutcome, RoutingRequest};
use crate::domain::psp::Segment;
use crate::domain::{EpochMs, PspId};
use crate::engine::features::{Belongs, CustomerHistory, Standings, amount_log, usual_amount};
use crate::engine::payment::{Effects, Event, PaymentState, ResultForFeatures, Rules, observe};
use crate::engine::policy::DecideInput;
use crate::io::failpoint;
use crate::io::log::Record;
use crate::io::store::{Shard, StoreName};
use crate::telemetry;
use metrics::counter;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

/// Entities of each kind that a task keeps decoded between commits: enough that an outcome finds its attempt, at some hundred bytes each.
const CACHE_ENTRIES_MAX: usize = 16_000;
/// Unknown error codes that a task reports by name: whoever invents codes invents many.
const UNKNOWN_CODES_MAX: usize = 20;
/// Results that are told one by one in a record of `stats.deltas`, at some 180 bytes each: a topic takes a megabyte.
const RESULTS_PER_DELTA: usize = 1_000;
/// Entries that one sweep looks at: retention costs a bounded time per turn.
const SWEEP_ENTRIES: usize = 500;

pub(super) struct PaymentTask {
    payments_shard: Shard,
    customers_shard: Shard,
    pub order: InputOrder,
    payments: EntityCache<PaymentState>,
    customers: EntityCache<CustomerHistory>,
    /// (due at, payment id), one per payment that waits for something.
    timers: BTreeSet<(EpochMs, Arc<str>)>,
    /// Payments whose timer is no longer the one in `timers`: most outcomes come so soon that none is ever set.
    moved: Vec<Arc<str>>,
    /// Results since the last commit.
    deltas: Deltas,
    /// What came of requests: it is committed ahead of the rest while the two are apart.
    answers: Staged,
    /// What came of everything else.
    staged: Staged,
    /// Since the last commit a request and something else changed the same payment.
    mixed: bool,
    /// Since the last commit retention took something.
    has_expired: bool,
    sweep_from: [Vec<u8>; 2],
    /// Error codes that were reported as unknown.
    unknown_codes: BTreeSet<(PspId, String)>,
}

impl Entity for PaymentState {
    fn last_event_at(&self) -> EpochMs {
        self.last_event_at
    }
}

impl Entity for CustomerHistory {
    fn last_event_at(&self) -> EpochMs {
        self.last_at()
    }

    fn is_present(bytes: &[u8]) -> bool {
        bytes.first() == Some(&Self::LAYOUT)
    }
}

impl PaymentTask {
    /// Takes up a partition whose state is restored: timers are read back from the payments.
    pub(super) fn open(shared: &Shared, partition: i32) -> Result<Self, TaskError> {
        let payments_shard = Shard::new(StoreName::Payments, partition);
        let customers_shard = Shard::new(StoreName::Customers, partition);
        let mut timers = BTreeSet::new();
        let mut newest_at = None;
        shared.store.scan(payments_shard, b"", |key, value| {
            if let (Some(header), Ok(id)) = (header_of(value), std::str::from_utf8(key)) {
                newest_at = newest_at.max(Some(header.last_event_at));
                timers.extend(header.timer_at.map(|at| (at, Arc::from(id))));
            }
            ControlFlow::Continue(())
        })?;
        let settings = &shared.settings.engine;
        let base_at = base_after_restart(newest_at, timers.first().map(|(at, _)| *at), settings.attempt_deadline_ms);
        Ok(Self {
            payments_shard,
            customers_shard,
            order: InputOrder::new(shared.clock, settings.lateness_ms, base_at),
            payments: EntityCache::new(payments_shard, CACHE_ENTRIES_MAX),
            customers: EntityCache::new(customers_shard, CACHE_ENTRIES_MAX),
            timers,
            moved: Vec::new(),
            deltas: Deltas::default(),
            answers: Staged::default(),
            staged: Staged::default(),
            mixed: false,
            has_expired: false,
            sweep_from: [Vec::new(), Vec::new()],
            unknown_codes: BTreeSet::new(),
        })
    }

    /// Takes one record in. `is_unspeakable`: even its dead letter could not be written.
    pub(super) fn process(&mut self, shared: &Shared, pending: &Pending, is_unspeakable: bool) -> Result<(), TaskError> {
        let record = &pending.record;
        if pending.clamped {
            counter!(telemetry::FUTURE_CLAMPED, "topic" => topic_label(pending.input)).increment(1);
        }
        match &pending.event {
            _ if is_unspeakable => {
                self.bury(shared, pending, "its dead letter is too large for its topic: without the bytes", false);
            }
            InputEvent::Bad(reason) => self.bury(shared, pending, reason, true),
            InputEvent::Request(request) => self.on_request(shared, record, request)?,
            InputEvent::Attempt(attempt) => {
                let effects = self.on_attempt(shared, attempt)?;
                self.take(shared, attempt.payment.key(), effects, Some(pending))?;
            }
            InputEvent::Outcome(outcome) => {
                let effects = self.observe(shared, &outcome.payment_id, Event::Outcome(outcome))?;
                if !effects.duplicate {
                    self.note_code(shared, outcome);
                }
                self.take(shared, outcome.key(), effects, Some(pending))?;
            }
        }
        self.stage_of(pending.input).took(record);
        Ok(())
    }

    /// Where what comes of this input is staged.
    fn stage_of(&mut self, input: Input) -> &mut Staged {
        match input {
            Input::Requests => &mut self.answers,
            Input::Attempts | Input::Outcomes => &mut self.staged,
        }
    }

    fn bury(&mut self, shared: &Shared, pending: &Pending, reason: &str, with_bytes: bool) {
        counter!(telemetry::DEAD_LETTERS, "topic" => topic_label(pending.input)).increment(1);
        tracing::warn!(topic = %pending.record.at.topic, partition = pending.record.at.partition, offset = pending.record.offset, reason, "dead letter");
        self.stage_of(pending.input).dead_letter(shared, &pending.record, reason, with_bytes);
    }

    fn on_attempt(&mut self, shared: &Shared, attempt: &PaymentAttempt) -> Result<Effects, TaskError> {
        let (payment, at) = (&attempt.payment, attempt.attempted_at);
        let counted_to = shared.models.encoder().catalogue().history.counted_to(at);
        let usual_amount = usual_amount(payment, &shared.global.psps(), |key| shared.global.standing(key, counted_to));
        let rules = Rules { usual_amount, ..shared.rules() };
        let effects = self.observe_by(rules, shared, &payment.payment_id, Event::Attempt(attempt))?;
        if let (false, Some(customer)) = (effects.duplicate, &payment.customer_id) {
            let entry = self.customers.get(&shared.store, customer)?;
            entry.value.attempted(at, Belongs::of(payment), amount_log(payment));
            entry.mark_dirty(Cause::Events);
        }
        Ok(effects)
    }

    /// A code that the table does not know is judged by a rule (`engine::codes`), and reported: the table may be adapted.
    fn note_code(&mut self, shared: &Shared, outcome: &PaymentOutcome) {
        let psp = &outcome.psp_id;
        let Some(code) = outcome.error_code.as_deref().filter(|code| shared.codes.find(psp, code).is_none()) else { return };
        counter!(telemetry::UNKNOWN_CODES, "psp_id" => psp_label(shared, psp)).increment(1);
        // Bounded in number and length, and without what might be a card's number: it is the PSP's text.
        let is_short = code.len() <= 40 && code.bytes().filter(u8::is_ascii_digit).count() <= 8;
        if is_short && self.unknown_codes.len() < UNKNOWN_CODES_MAX && self.unknown_codes.insert((psp.clone(), code.to_owned())) {
            tracing::warn!(%psp, code = ?code, "an error code that is not in the table: a decline with it is one, a time-out or an error counts as \
                                               persistent; list it under [[error_codes]]");
        }
    }

    fn on_request(&mut self, shared: &Shared, record: &Record, request: &RoutingRequest) -> Result<(), TaskError> {
        let begun = Instant::now();
        let state = &self.payments.get(&shared.store, &request.payment.payment_id)?.value;
        if state.was_decided(&request.request_id) {
            counter!(telemetry::DUPLICATES, "topic" => topic_label(Input::Requests)).increment(1);
            return Ok(());
        }
        let previous = state.previous_attempts();
        let customer = match &request.payment.customer_id {
            Some(id) => Some(&self.customers.get(&shared.store, id)?.value),
            None => None,
        };
        let view_offsets = shared.global.offsets();
        let input = DecideInput {
            request,
            previous: &previous,
            view: &*shared.global,
            chances: None,
            view_offsets: &view_offsets,
            decided_at: shared.clock.happened_at(request.requested_at),
        };
        let (decided, shadows) = scoring::decided(shared, &input, customer, begun);
        counter!(telemetry::DECISIONS, "decided_by" => format!("{:?}", decided.decision.decided_by)).increment(1);
        if decided.decision.fallback_reason.is_some() {
            counter!(telemetry::FALLBACKS).increment(1);
        }
        let key = request.payment.key();
        let effects =
            self.observe(shared, &request.payment.payment_id, Event::Decided { request, decision: &decided.decision })?;
        // What its attempt, read before it, goes to count is committed with the events.
        self.mixed |= !effects.diverted.is_empty();
        self.take(shared, key, effects, None)?;
        self.answers.emit(shared, key, &decided.decision, Some(record))?;
        for prediction in std::iter::once(&decided.prediction).chain(&shadows) {
            self.answers.emit(shared, key, prediction, Some(record))?;
        }
        self.answers.urgent = true;
        self.answers.asked_ms.push(record.timestamp_ms);
        Ok(())
    }

    /// Whatever is due by the watermark: time-outs, and waits that have been long enough.
    pub(super) fn fire_timers(&mut self, shared: &Shared, now_ms: i64, most: usize) -> Result<usize, TaskError> {
        self.set_timers();
        let Some(watermark) = self.order.watermark(now_ms) else { return Ok(0) };
        let mut fired = 0;
        while fired < most {
            let Some((at, payment_id)) = self.timers.first().cloned() else { break };
            if at > watermark {
                break;
            }
            // `observe` sets the payment's next timer; the one that fired is gone either way.
            self.timers.pop_first();
            let entry = self.payments.get(&shared.store, &payment_id)?;
            (entry.timer_at, entry.set_at) = (None, None);
            let effects = self.observe(shared, &payment_id, Event::Tick { payment_id: &payment_id, at: watermark })?;
            self.set_timers();
            self.take(shared, &payment_id, effects, None)?;
            fired += 1;
        }
        Ok(fired)
    }

    /// Brings `timers` up to what the payments wait for. Before a commit forgets any of them.
    fn set_timers(&mut self) {
        for id in self.moved.drain(..) {
            let Some(entry) = self.payments.touched(&id) else { continue };
            if entry.timer_at != entry.set_at {
                if let Some(old) = entry.set_at {
                    self.timers.remove(&(old, id.clone()));
                }
                entry.set_at = entry.timer_at;
                self.timers.extend(entry.set_at.map(|at| (at, id)));
            }
        }
    }

    fn observe(&mut self, shared: &Shared, payment_id: &str, event: Event<'_>) -> Result<Effects, TaskError> {
        self.observe_by(shared.rules(), shared, payment_id, event)
    }

    fn observe_by(
        &mut self,
        rules: Rules<'_>,
        shared: &Shared,
        payment_id: &str,
        event: Event<'_>,
    ) -> Result<Effects, TaskError> {
        let entry = self.payments.get(&shared.store, payment_id)?;
        let cause = if matches!(event, Event::Decided { .. }) { Cause::Requests } else { Cause::Events };
        let effects = observe(rules, &mut entry.value, event);
        if effects.duplicate {
            return Ok(effects);
        }
        self.mixed |= entry.mark_dirty(cause);
        let timer_at = entry.value.timer_at(&shared.settings.engine);
        if timer_at != entry.timer_at {
            // As long as it is unequal, its id is among those that moved.
            if entry.timer_at == entry.set_at {
                self.moved.push(entry.id.clone());
            }
            entry.timer_at = timer_at;
        }
        Ok(effects)
    }

    fn take(&mut self, shared: &Shared, key: &str, effects: Effects, cause: Option<&Pending>) -> Result<(), TaskError> {
        if let (true, Some(pending)) = (effects.duplicate, cause) {
            counter!(telemetry::DUPLICATES, "topic" => topic_label(pending.input)).increment(1);
        }
        for (from, diverted) in effects.diverted {
            self.deltas.divert(from, diverted);
        }
        for result in effects.results {
            if result.tally.timeouts > 0 && failpoint::is_broken("timeout-counted-twice") {
                self.deltas.count(result.clone());
            }
            self.deltas.count(result);
        }
        for ResultForFeatures { psp_id, customer_id, belongs, told } in effects.for_features {
            if let Some(customer) = customer_id {
                let moments = shared.models.encoder().catalogue().history.half_lives().at(told.at);
                let entry = self.customers.get(&shared.store, &customer)?;
                entry.value.came((told.at, moments), told.psp, belongs, told.approved);
                entry.mark_dirty(Cause::Events);
            }
            self.deltas.tell(psp_id, told.to_record());
        }
        for feedback in effects.feedback.iter().filter(|_| shared.feedback) {
            self.staged.emit(shared, key, feedback, cause.map(|pending| &pending.record))?;
        }
        Ok(())
    }

    /// Adds what a commit is to write: everything, or with `answers_only` what came of requests, unless that cannot be told from the
    /// rest. Tells whether it is everything.
    pub(super) fn flush(
        &mut self,
        shared: &Shared,
        now_ms: i64,
        answers_only: bool,
        into: &mut Staged,
    ) -> Result<bool, TaskError> {
        let shard = self.payments_shard;
        let is_apart = !self.mixed || failpoint::is_broken("answers-not-apart");
        if answers_only && is_apart {
            let (answers, by) = (&mut self.answers, (!self.mixed).then_some(Cause::Requests));
            self.payments.drain_dirty(by, |id, value| answers.change(shard, id.as_bytes(), value))?;
            into.append(answers);
            return Ok(false);
        }
        self.flush_deltas(shared, now_ms)?;
        let staged = &mut self.staged;
        self.payments.drain_dirty(None, |id, value| staged.change(shard, id.as_bytes(), value))?;
        let shard = self.customers_shard;
        self.customers.drain_dirty(None, |id, value| staged.change(shard, id.as_bytes(), value))?;
        into.append(&mut self.answers);
        into.append(staged);
        (self.mixed, self.has_expired) = (false, false);
        Ok(true)
    }

    fn flush_deltas(&mut self, shared: &Shared, now_ms: i64) -> Result<(), TaskError> {
        let watermark = self.order.watermark(now_ms).unwrap_or_default();
        let mut diverted = self.deltas.take_diverted();
        let mut counted = self.deltas.take();
        let mut told = self.deltas.take_told();
        for psp_id in diverted.keys().chain(told.keys()) {
            counted.entry(psp_id.clone()).or_default();
        }
        for (psp_id, by_segment) in counted {
            let all = Segment::all();
            by_segment
                .iter()
                .filter(|((segment, _), _)| *segment == all)
                .for_each(|(_, tally)| count_results(shared, &psp_id, tally));
            let tally = |((segment, tile_start), tally)| SegmentTally { segment, tile_start, tally };
            let diverted = diverted.remove(&psp_id).unwrap_or_default();
            let tallies = by_segment.into_iter().map(tally).collect();
            let mut results = told.remove(&psp_id).unwrap_or_default();
            let more = results.split_off(results.len().min(RESULTS_PER_DELTA));
            let delta = StatsDelta { diverted, results, ..StatsDelta::of_tallies(psp_id, watermark, tallies) };
            if failpoint::is_broken("delta-lost") {
                continue;
            }
            self.staged.emit(shared, delta.psp_id.as_str(), &delta, None)?;
            for results in more.chunks(RESULTS_PER_DELTA) {
                let results = results.to_vec();
                let delta = StatsDelta { results, ..StatsDelta::of_tallies(delta.psp_id.clone(), watermark, Vec::new()) };
                self.staged.emit(shared, delta.psp_id.as_str(), &delta, None)?;
            }
        }
        Ok(())
    }

    pub(super) fn has_work(&self) -> bool {
        !self.staged.is_empty() || !self.answers.is_empty() || !self.deltas.is_empty() || self.has_expired
    }

    /// Somebody waits for an answer that is staged.
    pub(super) fn is_urgent(&self) -> bool {
        self.answers.urgent
    }

    /// Everything was committed.
    pub(super) fn committed(&mut self) {
        self.set_timers();
        self.payments.shrink();
        self.customers.shrink();
    }

    /// Looks at some entries and forgets those without news for their retention. Called now and then, between commits.
    pub(super) fn sweep(&mut self, shared: &Shared, now_ms: i64) -> Result<(), TaskError> {
        failpoint::panic_in("sweep-of-payments", self.payments_shard.partition);
        let Some(watermark) = self.order.watermark(now_ms) else { return Ok(()) };
        let settings = &shared.settings.engine;
        let payments_before = watermark - settings.payment_retention_ms;
        for id in expired(shared, self.payments_shard, payments_before, &mut self.sweep_from[0])? {
            if !self.payments.is_dirty(&id) {
                self.payments.expire(&id);
                self.has_expired = true;
            }
        }
        let customers_before = watermark - settings.customer_retention_ms;
        for id in expired(shared, self.customers_shard, customers_before, &mut self.sweep_from[1])? {
            if !self.customers.is_dirty(&id) {
                self.customers.expire(&id);
                self.has_expired = true;
            }
        }
        Ok(())
    }
}

/// Ids among the next entries of a shard that had no news since `before` and wait for nothing. Moves `from` on, round and round.
fn expired(shared: &Shared, shard: Shard, before: EpochMs, from: &mut Vec<u8>) -> Result<Vec<String>, EntityError> {
    let mut looked_at = 0;
    let mut next = Vec::new();
    let mut ids = Vec::new();
    shared.store.scan(shard, from, |key, value| {
        if looked_at == SWEEP_ENTRIES {
            next = key.to_vec();
            return ControlFlow::Break(());
        }
        looked_at += 1;
        let is_expired = |header: &Header| header.last_event_at < before && header.timer_at.is_none();
        if let (Some(_), Ok(id)) = (header_of(value).filter(is_expired), std::str::from_utf8(key)) {
            ids.push(id.to_owned());
        }
        ControlFlow::Continue(())
    })?;
    *from = next;
    Ok(ids)
}

/// An id that somebody invents gets no label of its own: labels are kept for ever.
fn psp_label(shared: &Shared, psp_id: &PspId) -> String {
    let is_listed = shared.settings.psps.iter().any(|psp| psp.id == *psp_id);
    (if is_listed { psp_id.as_str() } else { "unlisted" }).to_owned()
}

fn count_results(shared: &Shared, psp_id: &PspId, tally: &Tally) {
    let psp_id = psp_label(shared, psp_id);
    let verdicts = [
        ("approved", tally.approvals),
        ("soft_decline", tally.soft_declines),
        ("hard_decline", tally.hard_declines),
        ("timeout", tally.timeouts),
        ("error", tally.errors),
    ];
    for (verdict, count) in verdicts.into_iter().filter(|(_, count)| *count > 0) {
        counter!(telemetry::RESULTS, "psp_id" => psp_id.clone(), "verdict" => verdict).increment(count.unsigned_abs());
    }
}

fn topic_label(input: Input) -> &'static str {
    match input {
        Input::Requests => crate::io::topics::ROUTING_REQUESTS,
        Input::Attempts => crate::io::topics::PAYMENT_ATTEMPTS,
        Input::Outcomes => crate::io::topics::PAYMENT_OUTCOMES,
    }
}
