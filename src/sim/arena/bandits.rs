//! Policies that learn by trying, and the one that knows.

use super::policy::{Ask, Known, Pick, Policy};
use super::world::PSPS;
use crate::sim::draw::{Draw, Purpose};
use std::collections::VecDeque;

/// Knows the true chances of the moment. None does better on any payment (`sim::reality`).
#[derive(Clone)]
pub(super) struct Oracle;

impl Policy for Oracle {
    fn choose(&mut self, ask: &Ask<'_>) -> Pick {
        let better = |best, seat: usize| if ask.chances[seat] > ask.chances[best] { seat } else { best };
        Pick { seat: ask.offer.order.iter().copied().fold(ask.offer.order[0], better), ..Pick::default() }
    }

    fn learn(&mut self, _: &Known<'_>) {}

    fn fork(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

/// Sliding-window UCB (Garivier and Moulines 2011; ξ = 0.6 as in their experiments) with the window of 200 results that was found best for
/// payments (Chaudhary, Rai and Gupta 2023, arXiv:2308.01028). An arm is a PSP, a reward is an approval.
#[derive(Clone, Default)]
pub(super) struct SlidingWindowUcb {
    results: VecDeque<(usize, bool)>,
    tried: [u32; PSPS],
    approved: [u32; PSPS],
}

impl SlidingWindowUcb {
    const WINDOW: usize = 200;
    const XI: f64 = 0.6;

    fn index(&self, seat: usize) -> f64 {
        let tried = f64::from(self.tried[seat]);
        if tried == 0.0 {
            return f64::INFINITY;
        }
        let padding = (Self::XI * (self.results.len() as f64).ln() / tried).sqrt();
        f64::from(self.approved[seat]) / tried + padding
    }
}

impl Policy for SlidingWindowUcb {
    fn choose(&mut self, ask: &Ask<'_>) -> Pick {
        let order = &ask.offer.order;
        let higher = |best, seat| if self.index(seat) > self.index(best) { seat } else { best };
        Pick { seat: order.iter().copied().fold(order[0], higher), ..Pick::default() }
    }

    fn learn(&mut self, known: &Known<'_>) {
        let approved = known.answer.approved();
        self.results.push_back((known.seat, approved));
        self.tried[known.seat] += 1;
        self.approved[known.seat] += u32::from(approved);
        if self.results.len() > Self::WINDOW
            && let Some((seat, approved)) = self.results.pop_front()
        {
            self.tried[seat] -= 1;
            self.approved[seat] -= u32::from(approved);
        }
    }

    fn fork(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

/// Discounted Thompson sampling (Raj and Kalyani 2017, arXiv:1707.09727): with each result all counts fade by γ, an arm's chance is drawn
/// from Beta(approvals + 1, failures + 1). The discount is the user's to choose: here 0.995, the memory of 200 results, as above.
#[derive(Clone)]
pub(super) struct DiscountedThompson {
    seed: u64,
    approvals: [f64; PSPS],
    failures: [f64; PSPS],
}

impl DiscountedThompson {
    const DISCOUNT: f64 = 0.995;

    pub(super) fn new(seed: u64) -> Self {
        Self { seed, approvals: [0.0; PSPS], failures: [0.0; PSPS] }
    }
}

impl Policy for DiscountedThompson {
    fn choose(&mut self, ask: &Ask<'_>) -> Pick {
        let mut draw = Draw::keyed(self.seed, Purpose::Arena, ask.offer.number, 3);
        let mut best = (ask.offer.order[0], f64::NEG_INFINITY);
        for &seat in &ask.offer.order {
            let chance = beta(self.approvals[seat] + 1.0, self.failures[seat] + 1.0, &mut draw);
            if chance > best.1 {
                best = (seat, chance);
            }
        }
        Pick { seat: best.0, ..Pick::default() }
    }

    fn learn(&mut self, known: &Known<'_>) {
        self.approvals.iter_mut().chain(&mut self.failures).for_each(|count| *count *= Self::DISCOUNT);
        let counts = if known.answer.approved() { &mut self.approvals } else { &mut self.failures };
        counts[known.seat] += 1.0;
    }

    fn fork(&self) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

fn beta(a: f64, b: f64, draw: &mut Draw) -> f64 {
    let (x, y) = (gamma(a, draw), gamma(b, draw));
    x / (x + y)
}

/// Gamma with scale 1 and a shape of at least 1 (Marsaglia and Tsang 2000).
fn gamma(shape: f64, draw: &mut Draw) -> f64 {
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = draw.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - draw.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_has_its_moments() {
        let mut draw = Draw::keyed(1, Purpose::Arena, 0, 0);
        let (a, b, n) = (9.0, 3.0, 20_000);
        let drawn: Vec<f64> = (0..n).map(|_| beta(a, b, &mut draw)).collect();
        let mean = drawn.iter().sum::<f64>() / f64::from(n);
        let variance = drawn.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!((mean - 0.75).abs() < 0.005 && (variance - 0.75 * 0.25 / 13.0).abs() < 0.001, "{mean} {variance}");
    }
}
