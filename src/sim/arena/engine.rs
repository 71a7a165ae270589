//! The engine on trial: `observe`, `PspBook` and `decide` with the settings given, wired as `runtime` wires them.
//!
//! Owns the waiting between them: results leave with the commit that follows them and are merged when that is over, one commit later a
//! decision sees the states. Never judges and never ranks: all that is the engine's.
//!
//! What differs from a running system, all of it in time: commits fall on whole intervals; a state that only its windows changed is published
//! when next a decision reads it, at most once an interval; windows are ticked every ten seconds, or every second while any segment
//! is out, since a segment that is UP leaves it by results only.

use super::policy::{Alarm, Ask, Known, Pick, Policy};
use super::world::{Offer, PSP_NAMES, PSPS, psp_ids, settings};
use crate::domain::decision::{DecidedBy, SkipReason};
use crate::domain::learning::{SegmentTally, StatsDelta, Tally};
use crate::domain::payment::{PaymentAttempt, PaymentOutcome};
use crate::domain::psp::{HealthState, Segment};
use crate::domain::{EpochMs, PspId};
use crate::engine::codes::CodeTable;
use crate::engine::payment::{Counted, CountedResult, Event, PaymentState, Rules, observe};
use crate::engine::policy::{DecideInput, Router, StaticView, decide};
use crate::engine::psp::{PspBook, StatsEffects};
use crate::engine::segments::{SegmentRef, segments_of};
use crate::engine::settings::Settings;
use crate::engine::window::TILE_MS;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

/// As shipped: `runtime.commit_interval_ms`.
const COMMIT_MS: i64 = 100;
const TICK_MS: i64 = TILE_MS;
const TICK_OPEN_MS: i64 = 1_000;

/// What does not change.
pub(super) struct Kit {
    settings: Settings,
    router: Router,
    codes: CodeTable,
    ids: [PspId; PSPS],
    view_offsets: BTreeMap<String, i64>,
}

impl Kit {
    pub(super) fn new(given: &Settings) -> Self {
        let settings = settings(given);
        let (router, codes) = (Router::new(&settings), CodeTable::new(&settings.error_codes));
        Self { settings, router, codes, ids: psp_ids(), view_offsets: BTreeMap::new() }
    }

    fn seat(&self, psp: &PspId) -> Option<usize> {
        self.ids.iter().position(|id| id == psp)
    }
}

#[derive(Clone)]
pub(super) struct Engine {
    kit: Rc<Kit>,
    /// Attempts without a result.
    open: HashMap<u64, PaymentState>,
    /// When the watermark will have reached the next timer of an attempt; those of attempts with a result are stale.
    timers: BTreeSet<(EpochMs, u64)>,
    /// Results by the time from which decisions know of them.
    committed: VecDeque<(EpochMs, CountedResult)>,
    books: [PspBook; PSPS],
    view: StaticView,
    published: [HashMap<Segment, EpochMs>; PSPS],
    /// Segments that are not UP.
    ailing: usize,
    ticked_at: EpochMs,
    alarms: Vec<Alarm>,
}

type BySegment = BTreeMap<(Segment, EpochMs), Tally>;

impl Engine {
    pub(super) fn new(kit: Rc<Kit>) -> Self {
        let books = std::array::from_fn(|seat| PspBook::new(kit.ids[seat].clone()));
        Self {
            kit,
            open: HashMap::new(),
            timers: BTreeSet::new(),
            committed: VecDeque::new(),
            books,
            view: StaticView::default(),
            published: std::array::from_fn(|_| HashMap::new()),
            ailing: 0,
            ticked_at: 0,
            alarms: Vec::new(),
        }
    }

    fn observe(&mut self, number: u64, event: Event<'_>, now: EpochMs) {
        let rules = Rules { settings: &self.kit.settings.engine, codes: &self.kit.codes, usual_amount: None };
        let state = self.open.entry(number).or_default();
        let effects = observe(rules, state, event);
        // What comes after the deadline is not waited for: no result of the arena does.
        if state.attempts.iter().all(|attempt| attempt.counted == Counted::Yes) {
            self.open.remove(&number);
        } else if let Some(at) = state.timer_at(rules.settings) {
            self.timers.insert((at + rules.settings.lateness_ms, number));
        }
        // Sent with the commit that follows, and merged with the next.
        let visible_at = (now.div_euclid(COMMIT_MS) + 2) * COMMIT_MS;
        self.committed.extend(effects.results.into_iter().map(|result| (visible_at, result)));
    }

    /// Does all that is due by `now`.
    fn advance(&mut self, now: EpochMs) {
        while let Some((due, number)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.pop_first();
            if self.open.contains_key(&number) {
                let at = due - self.kit.settings.engine.lateness_ms;
                self.observe(number, Event::Tick { payment_id: "", at }, due);
            }
        }
        while let Some(due) = self.committed.front().map(|(due, _)| *due).filter(|due| *due <= now) {
            let mut deltas: [BySegment; PSPS] = Default::default();
            while self.committed.front().is_some_and(|(at, _)| *at == due) {
                let Some((_, result)) = self.committed.pop_front() else { break };
                let Some(seat) = self.kit.seat(&result.psp_id) else { continue };
                let tile_start = result.at.div_euclid(TILE_MS) * TILE_MS;
                for segment in result.segments.iter().map(SegmentRef::to_segment) {
                    let sum = deltas[seat].entry((segment, tile_start)).or_default();
                    sum.add(&result.tally);
                    sum.bound_codes();
                }
            }
            for (seat, by_segment) in deltas.into_iter().enumerate().filter(|(_, delta)| !delta.is_empty()) {
                self.merge(seat, by_segment, due);
            }
        }
        let step_ms = if self.ailing > 0 { TICK_OPEN_MS } else { TICK_MS };
        if now.div_euclid(step_ms) > self.ticked_at.div_euclid(step_ms) {
            self.ticked_at = now;
            for seat in 0..PSPS {
                let effects = self.books[seat].tick(now, &self.kit.settings.health);
                self.take(seat, effects, now);
            }
        }
    }

    fn merge(&mut self, seat: usize, by_segment: BySegment, at: EpochMs) {
        let tallies = by_segment.into_iter().map(|((segment, tile_start), tally)| SegmentTally { segment, tile_start, tally });
        let delta = StatsDelta::of_tallies(self.kit.ids[seat].clone(), at, tallies.collect());
        let settings = &self.kit.settings;
        let effects = self.books[seat].merge(&delta, &settings.engine, &settings.health);
        self.take(seat, effects, at);
    }

    fn take(&mut self, seat: usize, effects: StatsEffects, at: EpochMs) {
        for transition in effects.transitions {
            match (transition.from, transition.to) {
                (HealthState::Up, _) => {
                    self.ailing += 1;
                    self.alarms.push(Alarm { seat, segment: transition.segment.clone(), at });
                }
                (_, HealthState::Up) => self.ailing = self.ailing.saturating_sub(1),
                _ => {}
            }
            self.publish(seat, transition.segment, at);
        }
    }

    fn publish(&mut self, seat: usize, segment: Segment, at: EpochMs) {
        if let Some(state) = self.books[seat].publish(&segment, &self.kit.settings.health) {
            self.view.insert(state);
            self.published[seat].insert(segment, at);
        }
    }

    /// Publishes what a decision is about to read.
    fn publish_due(&mut self, offer: &Offer) {
        let read = segments_of(&offer.request.payment, &self.kit.settings.engine.segments);
        let interval_ms = self.kit.settings.health.publish_interval_ms;
        for seat in 0..PSPS {
            let is_due = |segment: &&Segment| {
                let last = self.published[seat].get(*segment);
                read.contains(segment) && last.is_none_or(|last| offer.at - last >= interval_ms)
            };
            let due: Vec<Segment> = self.books[seat].changed().filter(is_due).cloned().collect();
            for segment in due {
                self.publish(seat, segment, offer.at);
            }
        }
    }
}

impl Policy for Engine {
    fn choose(&mut self, ask: &Ask<'_>) -> Pick {
        self.advance(ask.offer.at);
        self.publish_due(ask.offer);
        let input = DecideInput {
            request: &ask.offer.request,
            previous: &[],
            view: &self.view,
            chances: None,
            view_offsets: &self.kit.view_offsets,
            decided_at: ask.offer.at,
        };
        let decision = decide(&self.kit.router, &input).decision;
        let first = decision.ranked.first().and_then(|first| self.kit.seat(&first.psp_id));
        let for_state = |reason| matches!(reason, SkipReason::Down | SkipReason::Recovering | SkipReason::Degraded);
        let skipped = decision.skipped.iter().filter(|skip| for_state(skip.reason));
        let avoided = skipped.filter_map(|skip| self.kit.seat(&skip.psp_id)).fold(0, |bits, seat| bits | 1 << seat);
        Pick {
            // Never empty-handed: all five take every payment.
            seat: first.unwrap_or(ask.offer.order[0]),
            avoided,
            probe: decision.decided_by == DecidedBy::RecoverySample,
        }
    }

    fn sent(&mut self, offer: &Offer, seat: usize) {
        let attempt = PaymentAttempt {
            payment: offer.request.payment.clone(),
            attempt_id: offer.request.request_id.clone(),
            attempt_number: 1,
            psp_id: self.kit.ids[seat].clone(),
            attempted_at: offer.at,
            deadline_ms: None,
            decision_id: None,
            algorithm: None,
            skip_reasons: Vec::new(),
        };
        self.observe(offer.number, Event::Attempt(&attempt), offer.at);
    }

    fn learn(&mut self, known: &Known<'_>) {
        self.advance(known.at);
        if !known.answer.heard {
            // Its own timers see to silence.
            return;
        }
        let outcome = PaymentOutcome {
            attempt_id: format!("arena-{}", known.number),
            payment_id: format!("arena-{}", known.number),
            customer_id: None,
            psp_id: PspId::new(PSP_NAMES[known.seat]),
            status: known.answer.status,
            error_code: known.answer.error_code.clone(),
            error_category: known.answer.error_category.map(str::to_owned),
            hard_soft: known.answer.hard_soft,
            network_response_code: None,
            merchant_advice_code: None,
            latency_ms: known.answer.latency_ms,
            occurred_at: known.at,
            fee_minor: None,
        };
        self.observe(known.number, Event::Outcome(&outcome), known.at);
    }

    fn alarms(&mut self) -> Vec<Alarm> {
        std::mem::take(&mut self.alarms)
    }

    fn fork(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}
