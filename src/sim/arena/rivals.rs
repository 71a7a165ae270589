//! Rivals that follow the merchant's order and leave out PSPs by a rule: the rules as their vendors publish them, written anew.
//!
//! Where a publication leaves a number open, what is assumed here is said, and chosen in the rival's favour.

use super::policy::{Alarm, Ask, Known, Pick, Policy, first_of};
use super::world::PSPS;
use crate::domain::EpochMs;
use crate::sim::draw::{Draw, Purpose};
use std::collections::VecDeque;

const MINUTE_MS: i64 = 60_000;

/// The merchant's rules, whatever happens.
#[derive(Clone)]
pub(super) struct Static;

impl Policy for Static {
    fn choose(&mut self, ask: &Ask<'_>) -> Pick {
        Pick { seat: ask.offer.order[0], ..Pick::default() }
    }

    fn learn(&mut self, _: &Known<'_>) {}

    fn fork(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

/// Failures in a row, as Juspay's outage settings have it by default: fluctuating after 20, down after 45
/// (juspay.io/in/docs/outages/docs/outages/dashboard-setup). Every payment that is not approved is a failure.
///
/// Not published: how long a PSP stays out. Assumed: five minutes; then it has its traffic again, and is out again at the next failure
/// unless an approval comes first.
#[derive(Clone)]
pub(super) struct InARow {
    limit: u32,
    row: [u32; PSPS],
    out_until: [EpochMs; PSPS],
    alarms: Vec<Alarm>,
}

impl InARow {
    const OUT_MS: i64 = 5 * MINUTE_MS;

    pub(super) fn new(limit: u32) -> Self {
        Self { limit, row: [0; PSPS], out_until: [0; PSPS], alarms: Vec::new() }
    }
}

impl Policy for InARow {
    fn choose(&mut self, ask: &Ask<'_>) -> Pick {
        let at = ask.offer.at;
        first_of(&ask.offer.order, self.out_until.map(|until| at < until), ask.offer.order[0])
    }

    fn learn(&mut self, known: &Known<'_>) {
        let row = &mut self.row[known.seat];
        *row = if known.answer.approved() { 0 } else { *row + 1 };
        if *row >= self.limit && self.out_until[known.seat] <= known.at {
            self.out_until[known.seat] = known.at + Self::OUT_MS;
            self.alarms.push(Alarm::of_all(known.seat, known.at));
        }
    }

    fn alarms(&mut self) -> Vec<Alarm> {
        std::mem::take(&mut self.alarms)
    }

    fn fork(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

/// Yuno's monitors: the approval rate of the last 15 minutes, from 50 payments on, below a threshold (their example: 70 %) sends the traffic
/// to the fallback; a small portion stays, to see the provider recover; when all are below, the one with the highest rate is used
/// (docs.y.uno/docs/using-yuno/dashboard-overview/monitors).
///
/// Not published: the portion that stays. Assumed: 5 %, by a draw for each payment.
#[derive(Clone)]
pub(super) struct ApprovalWindow {
    seed: u64,
    results: [VecDeque<(EpochMs, bool)>; PSPS],
    approved: [usize; PSPS],
    out: [bool; PSPS],
    alarms: Vec<Alarm>,
}

impl ApprovalWindow {
    const WINDOW_MS: i64 = 15 * MINUTE_MS;
    const VOLUME: usize = 50;
    const THRESHOLD: f64 = 0.70;
    const KEPT: f64 = 0.05;

    pub(super) fn new(seed: u64) -> Self {
        let results = std::array::from_fn(|_| VecDeque::new());
        Self { seed, results, approved: [0; PSPS], out: [false; PSPS], alarms: Vec::new() }
    }

    fn rate(&self, seat: usize) -> f64 {
        let results = self.results[seat].len();
        if results == 0 { 1.0 } else { self.approved[seat] as f64 / results as f64 }
    }

    fn advance(&mut self, at: EpochMs) {
        for seat in 0..PSPS {
            while let Some(&(then, approved)) = self.results[seat].front()
                && then <= at - Self::WINDOW_MS
            {
                self.results[seat].pop_front();
                self.approved[seat] -= usize::from(approved);
            }
            let low = self.rate(seat) < Self::THRESHOLD;
            if low && !self.out[seat] && self.results[seat].len() >= Self::VOLUME {
                self.out[seat] = true;
                self.alarms.push(Alarm::of_all(seat, at));
            } else if !low {
                self.out[seat] = false;
            }
        }
    }
}

impl Policy for ApprovalWindow {
    fn choose(&mut self, ask: &Ask<'_>) -> Pick {
        self.advance(ask.offer.at);
        let order = &ask.offer.order;
        let highest =
            order.iter().copied().fold(order[0], |best, seat| if self.rate(seat) > self.rate(best) { seat } else { best });
        let pick = first_of(order, self.out, highest);
        let stays = self.out[order[0]] && Draw::keyed(self.seed, Purpose::Arena, ask.offer.number, 2).unit() < Self::KEPT;
        if stays { Pick { seat: order[0], probe: true, ..pick } } else { pick }
    }

    fn learn(&mut self, known: &Known<'_>) {
        let approved = known.answer.approved();
        self.results[known.seat].push_back((known.at, approved));
        self.approved[known.seat] += usize::from(approved);
        self.advance(known.at);
    }

    fn alarms(&mut self) -> Vec<Alarm> {
        std::mem::take(&mut self.alarms)
    }

    fn fork(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

/// Envoy's outlier detection with its defaults (`config.cluster.v3.OutlierDetection`): a host is ejected after 5 technical failures in a row, or
/// when its success rate over a sweep of 10 s, of at least 100 requests, is 1.9 standard deviations below the mean of at least 5 such
/// hosts. It stays out for 30 s times the number of its ejections, at most 300 s; that number falls by one with each sweep that it is in.
/// At most 10 % of the hosts are out, though always one.
///
/// The rules were made for services that see thousands of requests a second: at a merchant's pace no PSP sees 100 payments in 10 s, let alone
/// five of them, so here the second rule never speaks.
#[derive(Clone, Default)]
pub(super) struct Envoy {
    row: [u32; PSPS],
    out_until: [EpochMs; PSPS],
    ejections: [i64; PSPS],
    /// Successes and requests of this sweep.
    sweep: [(u32, u32); PSPS],
    swept_at: EpochMs,
    alarms: Vec<Alarm>,
}

impl Envoy {
    const IN_A_ROW: u32 = 5;
    const SWEEP_MS: i64 = 10_000;
    const BASE_MS: i64 = 30_000;
    const OUT_MS_MAX: i64 = 300_000;
    const OUT_SHARE_MAX: f64 = 0.10;
    const DEVIATIONS: f64 = 1.9;
    const HOSTS: usize = 5;
    const VOLUME: u32 = 100;

    fn eject(&mut self, seat: usize, at: EpochMs) {
        let out = self.out_until.iter().filter(|until| at < **until).count();
        let allowed = out == 0 || (out + 1) as f64 <= Self::OUT_SHARE_MAX * PSPS as f64;
        if self.out_until[seat] > at || !allowed {
            return;
        }
        self.ejections[seat] += 1;
        self.out_until[seat] = at + (Self::BASE_MS * self.ejections[seat]).min(Self::OUT_MS_MAX);
        self.row[seat] = 0;
        self.alarms.push(Alarm::of_all(seat, at));
    }

    fn advance(&mut self, at: EpochMs) {
        while at - self.swept_at >= Self::SWEEP_MS {
            // After a long pause there is nothing to sweep, and one ejection is forgotten for each sweep all the same.
            let sweeps = (at - self.swept_at) / Self::SWEEP_MS;
            let passed = if self.sweep == [(0, 0); PSPS] { sweeps } else { 1 };
            self.swept_at += passed * Self::SWEEP_MS;
            for seat in outliers(&std::mem::take(&mut self.sweep)) {
                self.eject(seat, self.swept_at);
            }
            for seat in 0..PSPS {
                if self.out_until[seat] <= self.swept_at {
                    self.ejections[seat] = (self.ejections[seat] - passed).max(0);
                }
            }
        }
    }
}

/// Hosts whose success rate stands out below.
fn outliers<const HOSTS: usize>(sweep: &[(u32, u32); HOSTS]) -> Vec<usize> {
    let judged: Vec<(usize, f64)> = sweep
        .iter()
        .enumerate()
        .filter(|(_, (_, requests))| *requests >= Envoy::VOLUME)
        .map(|(host, (successes, requests))| (host, f64::from(*successes) / f64::from(*requests)))
        .collect();
    if judged.len() < Envoy::HOSTS {
        return Vec::new();
    }
    let n = judged.len() as f64;
    let mean = judged.iter().map(|(_, rate)| rate).sum::<f64>() / n;
    let deviation = (judged.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / n).sqrt();
    judged.into_iter().filter(|(_, rate)| *rate < mean - Envoy::DEVIATIONS * deviation).map(|(host, _)| host).collect()
}

impl Policy for Envoy {
    fn choose(&mut self, ask: &Ask<'_>) -> Pick {
        let at = ask.offer.at;
        self.advance(at);
        first_of(&ask.offer.order, self.out_until.map(|until| at < until), ask.offer.order[0])
    }

    fn learn(&mut self, known: &Known<'_>) {
        self.advance(known.at);
        let failed = known.answer.failed();
        let (successes, requests) = &mut self.sweep[known.seat];
        (*successes, *requests) = (*successes + u32::from(!failed), *requests + 1);
        self.row[known.seat] = if failed { self.row[known.seat] + 1 } else { 0 };
        if self.row[known.seat] >= Self::IN_A_ROW {
            self.eject(known.seat, known.at);
        }
    }

    fn alarms(&mut self) -> Vec<Alarm> {
        std::mem::take(&mut self.alarms)
    }

    fn fork(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

/// A circuit breaker before each PSP with the defaults of Resilience4j (`CircuitBreakerConfig`): it opens when half of the last 100 calls failed,
/// for 60 s; then 10 calls are let through, and it opens again when half of these failed, else it closes and counts anew. A failure is an
/// exception: time-outs and errors, not what an issuer declines.
#[derive(Clone, Default)]
pub(super) struct CircuitBreakers {
    breakers: [Breaker; PSPS],
    alarms: Vec<Alarm>,
}

#[derive(Clone, Default)]
struct Breaker {
    state: Circuit,
    /// The last calls, or those of the trial.
    failed: VecDeque<bool>,
    failures: usize,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Circuit {
    #[default]
    Closed,
    Open {
        until: EpochMs,
    },
    HalfOpen {
        let_through: usize,
    },
}

impl CircuitBreakers {
    const WINDOW: usize = 100;
    const FAILURE_RATE: f64 = 0.5;
    const WAIT_MS: i64 = 60_000;
    const TRIAL: usize = 10;
}

impl Breaker {
    /// Takes a result; whether it opens.
    fn count(&mut self, failed: bool, at: EpochMs) -> bool {
        let window = match self.state {
            Circuit::Closed => CircuitBreakers::WINDOW,
            Circuit::HalfOpen { .. } => CircuitBreakers::TRIAL,
            Circuit::Open { .. } => return false,
        };
        self.failed.push_back(failed);
        self.failures += usize::from(failed);
        if self.failed.len() > window {
            self.failures -= usize::from(self.failed.pop_front() == Some(true));
        }
        if self.failed.len() < window {
            return false;
        }
        let opens = self.failures as f64 >= CircuitBreakers::FAILURE_RATE * window as f64;
        if opens {
            *self = Self { state: Circuit::Open { until: at + CircuitBreakers::WAIT_MS }, ..Self::default() };
        } else if self.state != Circuit::Closed {
            *self = Self::default();
        }
        opens
    }

    fn advance(&mut self, at: EpochMs) {
        if matches!(self.state, Circuit::Open { until } if until <= at) {
            *self = Self { state: Circuit::HalfOpen { let_through: 0 }, ..Self::default() };
        }
    }

    fn is_shut_off(&self) -> bool {
        match self.state {
            Circuit::Closed => false,
            Circuit::Open { .. } => true,
            Circuit::HalfOpen { let_through } => let_through >= CircuitBreakers::TRIAL,
        }
    }
}

impl Policy for CircuitBreakers {
    fn choose(&mut self, ask: &Ask<'_>) -> Pick {
        self.breakers.iter_mut().for_each(|breaker| breaker.advance(ask.offer.at));
        let out = std::array::from_fn(|seat| self.breakers[seat].is_shut_off());
        let mut pick = first_of(&ask.offer.order, out, ask.offer.order[0]);
        if let Circuit::HalfOpen { let_through } = &mut self.breakers[pick.seat].state {
            *let_through += 1;
            pick.probe = true;
        }
        pick
    }

    fn learn(&mut self, known: &Known<'_>) {
        if self.breakers[known.seat].count(known.answer.failed(), known.at) {
            self.alarms.push(Alarm::of_all(known.seat, known.at));
        }
    }

    fn alarms(&mut self) -> Vec<Alarm> {
        std::mem::take(&mut self.alarms)
    }

    fn fork(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_rates_stand_out_where_there_is_volume() {
        assert_eq!(outliers(&[(0, 100), (98, 100), (99, 100), (98, 100), (97, 100), (99, 100)]), [0]);
        assert_eq!(
            outliers(&[(0, 100), (98, 100), (98, 100), (98, 100), (98, 100)]),
            [0],
            "two deviations, of five the most possible"
        );
        assert_eq!(outliers(&[(0, 100), (0, 100), (98, 100), (98, 100), (98, 100)]), [0_usize; 0], "two of five");
        assert_eq!(outliers(&[(0, 99), (98, 100), (99, 100), (98, 100), (97, 99), (99, 100)]), [0_usize; 0], "too few requests");
    }

    #[test]
    fn a_breaker_opens_tries_and_closes() {
        let mut breaker = Breaker::default();
        let opened = (0..100).map(|call| breaker.count(call % 2 == 0, call)).filter(|opens| *opens).count();
        assert!(opened == 1 && breaker.is_shut_off(), "half of a hundred");
        breaker.advance(99 + CircuitBreakers::WAIT_MS);
        assert!(!breaker.is_shut_off(), "half open");
        assert_eq!((0..10).filter(|call| breaker.count(*call < 5, 0)).count(), 1, "half of the trial failed");
        breaker.advance(CircuitBreakers::WAIT_MS);
        assert_eq!((0..10).filter(|call| breaker.count(*call < 4, 0)).count(), 0);
        assert!(breaker.state == Circuit::Closed);
    }
}
