//! How the merchant routes without us: what decisions are compared with, and what routes in open loop.

use super::psp::SimPsp;
use crate::domain::PspId;
use crate::domain::payment::Payment;
use crate::engine::hashing::unit_interval;
use crate::engine::settings::Split;

/// A fixed order of PSPs for a payment, which no event changes. Implement it over the engine's static rules, to compare with
/// exactly these.
pub trait StaticRoute {
    /// Best first; empty when none takes the payment.
    fn order(&self, payment: &Payment) -> Vec<PspId>;
}

/// A weighted split by a hash of the payment, among the PSPs that take it. A PSP of one brand gets all of that brand.
#[derive(Clone, Debug)]
pub struct WeightedRoute {
    psps: Vec<(SimPsp, u32)>,
    salt: String,
}

impl WeightedRoute {
    /// PSPs without a weight come last, in the order given.
    pub fn new(psps: &[SimPsp], split: &[Split], salt: &str) -> Self {
        let weight = |psp: &SimPsp| split.iter().find(|share| share.psp == psp.id).map_or(0, |share| share.weight);
        Self { psps: psps.iter().map(|psp| (psp.clone(), weight(psp))).collect(), salt: salt.into() }
    }
}

impl StaticRoute for WeightedRoute {
    fn order(&self, payment: &Payment) -> Vec<PspId> {
        let mut takers: Vec<&(SimPsp, u32)> = self.psps.iter().filter(|(psp, _)| psp.takes(payment)).collect();
        if let Some((own, _)) = takers.iter().find(|(psp, _)| psp.is_own_scheme()) {
            return vec![own.id.clone()];
        }
        takers.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
        let total: u32 = takers.iter().map(|(_, weight)| weight).sum();
        let mut left = unit_interval(&self.salt, &payment.payment_id) * f64::from(total);
        let first = takers.iter().position(|(_, weight)| {
            left -= f64::from(*weight);
            left < 0.0
        });
        if let Some(first) = first {
            takers[..=first].rotate_right(1);
        }
        takers.iter().map(|(psp, _)| psp.id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::fixtures::{payment, psps};
    use std::collections::BTreeMap;

    fn split(weights: &[(&str, u32)]) -> Vec<Split> {
        weights.iter().map(|(psp, weight)| Split { psp: PspId::new(psp), weight: *weight }).collect()
    }

    #[test]
    fn shares_are_the_weights_and_the_rest_follows_by_weight() {
        let route = WeightedRoute::new(&psps(), &split(&[("mit", 30), ("worldpay", 60), ("elavon", 10)]), "salt");
        let mut firsts: BTreeMap<PspId, u32> = BTreeMap::new();
        for number in 0..10_000 {
            let order = route.order(&payment(number, "VISA"));
            assert_eq!(order.len(), 3, "every taker once: {order:?}");
            if order[0].as_str() == "elavon" {
                assert_eq!(order[1..], [PspId::new("worldpay"), PspId::new("mit")]);
            }
            *firsts.entry(order[0].clone()).or_default() += 1;
        }
        for (psp, share) in [("worldpay", 0.6), ("mit", 0.3), ("elavon", 0.1)] {
            let seen = f64::from(firsts[&PspId::new(psp)]) / 10_000.0;
            assert!((seen - share).abs() < 0.02, "{psp}: {seen}");
        }
    }

    #[test]
    fn a_scheme_of_its_own_gets_its_cards_and_no_weight_means_order_of_preference() {
        let route = WeightedRoute::new(&psps(), &[], "salt");
        assert_eq!(route.order(&payment(1, "AMEX")), [PspId::new("amex")]);
        assert_eq!(route.order(&payment(1, "VISA")), ["worldpay", "mit", "elavon"].map(PspId::new));
        assert_eq!(WeightedRoute::new(&[], &[], "salt").order(&payment(1, "VISA")), []);
    }
}
