//! The running world: payments arrive, ask for a route, are attempted, end or are tried again; in event time, step by step.

use super::draw::{Draw, Purpose};
use super::failover::{Choice, Failover, FailoverWatch};
use super::orders::Shop;
use super::population::Population;
use super::psp::SimPsp;
use super::reality::{Answer, Reality, Retries};
use super::rhythm::Arrivals;
use super::route::{StaticRoute, WeightedRoute};
use super::scenario::{Scenario, ScenarioError};
use super::truth::{Counterfactual, Truth};
use crate::domain::payment::{Algorithm, Payment, PaymentAttempt, PaymentOutcome, RoutingRequest};
use crate::domain::{EpochMs, PspId};
use crate::engine::hashing::fingerprint;
use crate::engine::settings::{Merchant, Split};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

#[derive(Clone, Debug, PartialEq)]
pub struct WorldSettings {
    /// The same seed and start make the same payments, byte for byte; another start makes other payments of the same customers.
    pub seed: u64,
    pub start_at: EpochMs,
    /// No payment arrives from here on; those on their way come to their end. Absent: they never stop.
    pub arrivals_until: Option<EpochMs>,
    /// New payments per hour, in the mean over a week.
    pub payments_per_hour: f64,
    pub customers: u32,
    pub merchant: Merchant,
    pub psps: Vec<SimPsp>,
    /// The merchant's static split, for the built-in static route.
    pub static_split: Vec<Split>,
    pub scenario: Scenario,
    pub retries: Retries,
    pub routing: Routing,
    /// A request without answer takes the static route after this long.
    pub decision_deadline_ms: i64,
}

impl WorldSettings {
    /// A merchant with a thousand payments an hour and nothing going wrong: change what should differ.
    pub fn typical(seed: u64, start_at: EpochMs, merchant: Merchant, psps: Vec<SimPsp>) -> Self {
        Self {
            seed,
            start_at,
            arrivals_until: None,
            payments_per_hour: 1_000.0,
            customers: 20_000,
            merchant,
            psps,
            static_split: Vec::new(),
            scenario: Scenario::none(),
            retries: Retries::typical(),
            routing: Routing::Closed,
            decision_deadline_ms: 5_000,
        }
    }

    /// The PSPs that compete for payments, those with most of the static split first: whom a built-in scenario hits.
    pub fn psps_by_traffic(&self) -> Vec<PspId> {
        let weight = |psp: &PspId| self.static_split.iter().find(|share| share.psp == *psp).map_or(0, |share| share.weight);
        let mut open: Vec<PspId> = self.psps.iter().filter(|psp| !psp.is_own_scheme()).map(|psp| psp.id.clone()).collect();
        open.sort_by_key(|psp| Reverse(weight(psp)));
        open
    }
}

/// Who routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// The caller answers each request with [`World::route`].
    Closed,
    /// The world's static route, at once; requests are told all the same.
    Open,
}

/// What the world tells, in the order of event time.
#[derive(Clone, Debug, PartialEq)]
pub enum SimEvent {
    Request(Box<RoutingRequest>),
    Attempt(Box<PaymentAttempt>),
    Outcome(Box<PaymentOutcome>),
}

impl SimEvent {
    pub fn at(&self) -> EpochMs {
        match self {
            Self::Request(request) => request.requested_at,
            Self::Attempt(attempt) => attempt.attempted_at,
            Self::Outcome(outcome) => outcome.occurred_at,
        }
    }

    /// The record key.
    pub fn key(&self) -> &str {
        match self {
            Self::Request(request) => request.payment.key(),
            Self::Attempt(attempt) => attempt.payment.key(),
            Self::Outcome(outcome) => outcome.key(),
        }
    }
}

/// The caller's answer to a routing request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    pub request_id: String,
    /// Best first; the first one that the world has is taken.
    pub order: Vec<PspId>,
    /// PSPs that the decision skipped because of their state: what failover is measured by.
    pub avoided: Vec<PspId>,
    pub decision_id: Option<String>,
}

pub struct World {
    settings: WorldSettings,
    reality: Reality,
    route: Box<dyn StaticRoute + Send>,
    shop: Shop,
    population: Population,
    arrivals: Option<Arrivals>,
    run: u64,
    next_arrival: Option<(EpochMs, u64)>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    /// Payments that are not over, by number.
    live: HashMap<u64, Live>,
    /// Requests that wait for their answer.
    waiting: HashMap<String, Waiting>,
    now: EpochMs,
    steps: u64,
    truth: Truth,
    failover: FailoverWatch,
}

/// Ordered by time, then payment: the order of a step does not depend on the order in which routes were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Scheduled {
    at: EpochMs,
    payment: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Outcome,
    Request,
    Attempt,
    /// The answer to the request of this attempt number is overdue.
    Overdue(i32),
}

struct Live {
    payment: Payment,
    attempt_number: i32,
    psp: Option<PspId>,
    decision_id: Option<String>,
    answer: Option<Answer>,
    counterfactual: Counterfactual,
}

struct Waiting {
    payment: u64,
    attempt_number: i32,
    requested_at: EpochMs,
    /// The step that told the request: its caller has had no chance to answer before the next.
    told_in_step: u64,
}

impl World {
    pub fn new(settings: WorldSettings) -> Result<Self, ScenarioError> {
        let route = WeightedRoute::new(&settings.psps, &settings.static_split, "static");
        Self::with_static_route(settings, Box::new(route))
    }

    /// A world that compares with, and in open loop routes by, `route`.
    pub fn with_static_route(settings: WorldSettings, route: Box<dyn StaticRoute + Send>) -> Result<Self, ScenarioError> {
        let ids: Vec<PspId> = settings.psps.iter().map(|psp| psp.id.clone()).collect();
        settings.scenario.check(&ids)?;
        let run = fingerprint(&format!("{}:{}", settings.seed, settings.start_at));
        let run_key = u64::from_str_radix(&run, 16).unwrap_or(settings.seed);
        let mut world = Self {
            reality: Reality::new(run_key, settings.start_at, &settings.psps, &settings.scenario, &settings.retries),
            route,
            shop: Shop { merchant_id: settings.merchant.id.clone(), currencies: settings.merchant.currencies.clone(), run },
            population: Population::new(settings.seed, settings.start_at, settings.customers),
            arrivals: Arrivals::new(run_key, settings.start_at, settings.payments_per_hour),
            run: run_key,
            next_arrival: None,
            queue: BinaryHeap::new(),
            live: HashMap::new(),
            waiting: HashMap::new(),
            now: settings.start_at,
            steps: 0,
            truth: Truth::default(),
            failover: FailoverWatch::new(&settings.scenario.outages, settings.start_at),
            settings,
        };
        world.schedule_arrival(0);
        Ok(world)
    }

    /// When something happens next, as far as is known without further answers. `None`: the world has come to its end, unless
    /// requests still wait.
    pub fn next_event_at(&self) -> Option<EpochMs> {
        let arrival = self.next_arrival.map(|(at, _)| at);
        let queued = self.queue.peek().map(|Reverse(scheduled)| scheduled.at);
        arrival.into_iter().chain(queued).min()
    }

    /// When the next new payment arrives.
    pub fn next_arrival(&self) -> Option<EpochMs> {
        self.next_arrival.map(|(at, _)| at)
    }

    /// Whether all payments have come to their end and no more arrive.
    pub fn is_over(&self) -> bool {
        self.next_arrival.is_none() && self.live.is_empty()
    }

    /// All that happens up to and including `until`. What follows from a route given later does not happen before `until`, so
    /// short steps make quick payment services.
    pub fn step_until(&mut self, until: EpochMs) -> Vec<SimEvent> {
        self.steps += 1;
        let mut events = Vec::new();
        while let Some(at) = self.next_event_at().filter(|at| *at <= until) {
            match self.next_arrival {
                Some((arrives_at, number)) if arrives_at == at => self.arrive(arrives_at, number, &mut events),
                _ => self.advance(until, &mut events),
            }
        }
        self.now = self.now.max(until);
        events
    }

    /// Routes a payment. False when nobody waits for the answer any more (or never did): it changes nothing then.
    pub fn route(&mut self, route: &Route) -> bool {
        let Some(waiting) = self.waiting.remove(&route.request_id) else { return false };
        let Some(live) = self.live.get(&waiting.payment) else { return false };
        let psp = route.order.iter().find(|psp| self.reality.find(psp).is_some()).cloned();
        let choice = Choice { decided_at: waiting.requested_at, chosen: psp.as_ref(), avoided: &route.avoided };
        self.failover.decided(&live.payment, choice);
        self.dispatch(&waiting, psp, route.decision_id.clone(), self.now);
        true
    }

    /// No further payment arrives; those on their way come to their end.
    pub fn end_arrivals(&mut self) {
        (self.next_arrival, self.arrivals) = (None, None);
    }

    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// The laws of this world: odds, oracle, and what would come of any attempt.
    pub fn reality(&self) -> &Reality {
        &self.reality
    }

    pub fn failovers(&self) -> Vec<Failover> {
        self.failover.report()
    }

    pub fn now(&self) -> EpochMs {
        self.now
    }

    fn schedule_arrival(&mut self, number: u64) {
        let until = self.settings.arrivals_until.unwrap_or(EpochMs::MAX);
        self.next_arrival = self.arrivals.as_mut().map(|arrivals| (arrivals.next(), number)).filter(|(at, _)| *at < until);
    }

    fn arrive(&mut self, at: EpochMs, number: u64, events: &mut Vec<SimEvent>) {
        let mut draw = Draw::keyed(self.run, Purpose::Order, number, 0);
        let profile = self.population.choose(draw.unit());
        let payment = self.shop.payment(number, profile, at, &mut draw);
        let counterfactual = Counterfactual::of(&self.reality, self.route.as_ref(), &payment, at);
        self.live.insert(number, Live { payment, attempt_number: 1, psp: None, decision_id: None, answer: None, counterfactual });
        self.request(number, at, events);
        self.schedule_arrival(number + 1);
    }

    fn advance(&mut self, until: EpochMs, events: &mut Vec<SimEvent>) {
        let Some(Reverse(Scheduled { at, payment, stage })) = self.queue.pop() else { return };
        match stage {
            Stage::Request => self.request(payment, at, events),
            Stage::Attempt => self.attempt(payment, at, events),
            Stage::Outcome => self.outcome(payment, at, events),
            Stage::Overdue(attempt_number) => self.overdue(payment, attempt_number, (at, until)),
        }
    }

    fn request(&mut self, number: u64, at: EpochMs, events: &mut Vec<SimEvent>) {
        let Some(live) = self.live.get(&number) else { return };
        let attempt_number = live.attempt_number;
        let request = RoutingRequest {
            payment: live.payment.clone(),
            request_id: request_id(&live.payment, attempt_number),
            requested_at: at,
            deadline_ms: Some(self.settings.decision_deadline_ms),
            allowed_psps: None,
            previous_attempts: None,
            dry_run: false,
        };
        let waiting = Waiting { payment: number, attempt_number, requested_at: at, told_in_step: self.steps };
        match self.settings.routing {
            Routing::Open => self.route_statically(&waiting, at),
            Routing::Closed => {
                self.waiting.insert(request.request_id.clone(), waiting);
                self.schedule(at + self.settings.decision_deadline_ms, number, Stage::Overdue(attempt_number));
            }
        }
        events.push(SimEvent::Request(Box::new(request)));
    }

    fn overdue(&mut self, number: u64, attempt_number: i32, (at, until): (EpochMs, EpochMs)) {
        let Some(live) = self.live.get(&number).filter(|live| live.attempt_number == attempt_number) else { return };
        let request_id = request_id(&live.payment, attempt_number);
        match self.waiting.get(&request_id) {
            Some(waiting) if waiting.told_in_step == self.steps => {
                self.schedule(until + 1, number, Stage::Overdue(attempt_number));
            }
            Some(_) => {
                if let Some(waiting) = self.waiting.remove(&request_id) {
                    self.truth.unanswered += 1;
                    self.route_statically(&waiting, at);
                }
            }
            None => {}
        }
    }

    fn route_statically(&mut self, waiting: &Waiting, at: EpochMs) {
        let Some(live) = self.live.get(&waiting.payment) else { return };
        let order = self.route.order(&live.payment);
        let turn = (waiting.attempt_number.unsigned_abs() as usize - 1) % order.len().max(1);
        self.dispatch(waiting, order.into_iter().nth(turn), None, at);
    }

    fn dispatch(&mut self, waiting: &Waiting, psp: Option<PspId>, decision_id: Option<String>, not_before: EpochMs) {
        let number = waiting.payment;
        let Some(live) = self.live.get_mut(&number) else { return };
        let Some(psp) = psp else {
            self.truth.unrouted += 1;
            self.close(number, false);
            return;
        };
        live.psp = Some(psp);
        live.decision_id = decision_id;
        let dispatched_at = waiting.requested_at + self.reality.dispatch_ms(&live.payment, waiting.attempt_number);
        self.schedule(dispatched_at.max(not_before), number, Stage::Attempt);
    }

    fn attempt(&mut self, number: u64, at: EpochMs, events: &mut Vec<SimEvent>) {
        let Some(live) = self.live.get_mut(&number) else { return };
        let Some(psp) = live.psp.clone() else { return };
        let Some(answer) = self.reality.answer(&live.payment, live.attempt_number, &psp, at) else { return };
        self.failover.attempted(&live.payment, &psp, at, answer.by_outage);
        let attempt = PaymentAttempt {
            payment: live.payment.clone(),
            attempt_id: attempt_id(&live.payment, live.attempt_number),
            attempt_number: live.attempt_number,
            deadline_ms: self.reality.find(&psp).map(|psp| psp.client_timeout_ms + OUTCOME_GRACE_MS),
            psp_id: psp,
            attempted_at: at,
            algorithm: live.decision_id.is_none().then_some(Algorithm::Rule),
            decision_id: live.decision_id.take(),
            skip_reasons: Vec::new(),
        };
        let known_at = at + answer.latency_ms;
        live.answer = Some(answer);
        self.schedule(known_at, number, Stage::Outcome);
        events.push(SimEvent::Attempt(Box::new(attempt)));
    }

    fn outcome(&mut self, number: u64, at: EpochMs, events: &mut Vec<SimEvent>) {
        let Some(live) = self.live.get_mut(&number) else { return };
        let (Some(psp), Some(answer)) = (live.psp.take(), live.answer.take()) else { return };
        if answer.heard {
            events.push(SimEvent::Outcome(Box::new(outcome_record(live, psp, &answer, at))));
        }
        if live.attempt_number == 1 {
            self.truth.first_attempt(answer.approved(), &live.counterfactual);
        }
        match self.reality.retry_after_ms(&live.payment, live.attempt_number, &answer) {
            Some(wait_ms) => {
                live.attempt_number += 1;
                self.schedule(at + wait_ms, number, Stage::Request);
            }
            None => self.close(number, answer.approved()),
        }
    }

    fn close(&mut self, number: u64, approved: bool) {
        if let Some(live) = self.live.remove(&number) {
            self.truth.payment(approved, &live.counterfactual);
        }
    }

    fn schedule(&mut self, at: EpochMs, payment: u64, stage: Stage) {
        self.queue.push(Reverse(Scheduled { at, payment, stage }));
    }
}

/// An attempt's deadline for its outcome: the client's own time-out, and what the record of it takes to arrive.
const OUTCOME_GRACE_MS: i64 = 1_000;

fn request_id(payment: &Payment, attempt_number: i32) -> String {
    format!("{}-r{attempt_number}", payment.payment_id)
}

fn attempt_id(payment: &Payment, attempt_number: i32) -> String {
    format!("{}-a{attempt_number}", payment.payment_id)
}

fn outcome_record(live: &Live, psp: PspId, answer: &Answer, at: EpochMs) -> PaymentOutcome {
    let network_code = answer.error_code.clone().filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()));
    PaymentOutcome {
        attempt_id: attempt_id(&live.payment, live.attempt_number),
        payment_id: live.payment.payment_id.clone(),
        customer_id: live.payment.customer_id.clone(),
        psp_id: psp,
        status: answer.status,
        error_code: answer.error_code.clone(),
        error_category: answer.error_category.map(str::to_owned),
        hard_soft: answer.hard_soft,
        network_response_code: if answer.approved() { Some("00".into()) } else { network_code },
        merchant_advice_code: None,
        latency_ms: answer.latency_ms,
        occurred_at: at,
        fee_minor: answer.fee_minor,
    }
}
