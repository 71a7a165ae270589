//! Orders of PSPs with their exact odds, so that every decision can state its propensities.

use crate::domain::PspId;
use crate::engine::hashing::unit_interval;

/// All orders that the policy could have given this payment, had its hash been another, and the one that it drew.
#[derive(Clone, Debug)]
pub(super) struct Lottery {
    /// (probability, order); the probabilities add up to 1.
    outcomes: Vec<(f64, Vec<PspId>)>,
    drawn: usize,
}

impl Lottery {
    pub(super) fn certain(order: Vec<PspId>) -> Self {
        Self { outcomes: vec![(1.0, order)], drawn: 0 }
    }

    /// `drawn` is an index of `outcomes`, which is not empty.
    pub(super) fn new(outcomes: Vec<(f64, Vec<PspId>)>, drawn: usize) -> Self {
        Self { outcomes, drawn }
    }

    pub(super) fn drawn(&self) -> &[PspId] {
        self.outcomes.get(self.drawn).map_or(&[], |(_, order)| order)
    }

    pub(super) fn reorder(&mut self, reorder: impl Fn(&mut Vec<PspId>)) {
        self.outcomes.iter_mut().for_each(|(_, order)| reorder(order));
    }

    /// The probability that `psp` stands at `rank` (0 is first).
    pub(super) fn propensity(&self, psp: &PspId, rank: usize) -> f64 {
        let at_rank = self.outcomes.iter().filter(|(_, order)| order.get(rank) == Some(psp));
        at_rank.map(|(probability, _)| probability).sum::<f64>().min(1.0)
    }

    /// Every PSP of any outcome: the drawn order first, then those that only other draws know.
    pub(super) fn everyone(&self) -> Vec<PspId> {
        let mut all = self.drawn().to_vec();
        for psp in self.outcomes.iter().flat_map(|(_, order)| order) {
            if !all.contains(psp) {
                all.push(psp.clone());
            }
        }
        all
    }

    /// Keeps each PSP first with the probability `limit` only; else the one behind it comes before it. Returns the PSP that this payment
    /// spared. `chance` is (salt, id of the payment).
    pub(super) fn spare(&mut self, limit: impl Fn(&PspId) -> f64, chance: (&str, &str)) -> Option<PspId> {
        let point = unit_interval(chance.0, chance.1);
        let mut outcomes = Vec::with_capacity(2 * self.outcomes.len());
        let (mut drawn, mut spared) = (0, None);
        for (index, (probability, order)) in self.outcomes.iter().enumerate() {
            let first = order.first().filter(|_| order.len() > 1);
            let limit = first.map_or(1.0, |first| limit(first).clamp(0.0, 1.0));
            let is_spared = point >= limit;
            if index == self.drawn {
                drawn = outcomes.len() + usize::from(is_spared);
                spared = first.filter(|_| is_spared).cloned();
            }
            outcomes.push((probability * limit, order.clone()));
            if limit < 1.0 {
                let mut behind = order.clone();
                behind.swap(0, 1);
                outcomes.push((probability * (1.0 - limit), behind));
            }
        }
        *self = Self { outcomes, drawn };
        spared
    }

    /// Puts one of `psps` first with its probability: each is asked in turn, the first that is hit is taken. Returns the one
    /// that this payment drew. `chance` is (salt, id of the payment).
    pub(super) fn sample(&mut self, psps: &[(PspId, f64)], chance: (&str, &str)) -> Option<PspId> {
        if psps.iter().all(|(_, rate)| *rate <= 0.0) {
            return None;
        }
        let hit = psps.iter().position(|(psp, rate)| unit_interval(chance.0, &format!("{}/{psp}", chance.1)) < *rate);
        let mut sampled = Vec::with_capacity(self.outcomes.len() * (psps.len() + 1));
        let mut drawn = 0;
        for (index, (probability, order)) in self.outcomes.iter().enumerate() {
            let mut missed = *probability;
            for (turn, (psp, rate)) in psps.iter().enumerate() {
                let with_sample = std::iter::once(psp).chain(order.iter().filter(|other| *other != psp)).cloned().collect();
                if index == self.drawn && hit == Some(turn) {
                    drawn = sampled.len();
                }
                sampled.push((missed * rate, with_sample));
                missed *= 1.0 - rate;
            }
            if index == self.drawn && hit.is_none() {
                drawn = sampled.len();
            }
            sampled.push((missed, order.clone()));
        }
        *self = Self { outcomes: sampled, drawn };
        hit.map(|turn| psps[turn].0.clone())
    }
}
