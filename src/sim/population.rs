//! The customers: who they are, their cards, and what their past orders say about them.

use super::draw::{Draw, Purpose};
use super::issuers::{AMEX_BANK, COUNTRIES, ISSUERS, bin, pick_issuer};
use super::rhythm::DAY_MS;
use crate::domain::EpochMs;
use crate::domain::payment::{Card, CardType};

/// What stays the same about a customer, plus their orders so far.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    pub(super) customer_id: String,
    pub(super) country: &'static str,
    /// One to three; the first is the one they mostly use.
    pub(super) cards: Vec<Card>,
    pub(super) fraud_cohort: &'static str,
    pub(super) joined_at: EpochMs,
    pub(super) browser: &'static str,
    pub(super) device: &'static str,
    /// Orders of the last year, including those of this run.
    pub(super) orders: u32,
    pub(super) last_order_at: EpochMs,
    /// Mean amount of an order relative to what others pay for the same.
    pub(super) spending: f64,
    pub(super) subscribed: bool,
}

/// All customers, with how often each of them pays.
#[derive(Clone, Debug)]
pub(super) struct Population {
    profiles: Vec<Profile>,
    /// Running total of the customers' activity, for choosing one by binary search.
    activity: Vec<f64>,
}

impl Population {
    /// Depends on the seed alone, except that histories end at `start_at`: the same people pay in every run of a seed.
    pub(super) fn new(seed: u64, start_at: EpochMs, customers: u32) -> Self {
        let mut total = 0.0;
        let mut population =
            Self { profiles: Vec::with_capacity(customers as usize), activity: Vec::with_capacity(customers as usize) };
        for number in 0..customers.max(1) {
            let mut draw = Draw::keyed(seed, Purpose::Customer, u64::from(number), 0);
            let activity = draw.log_normal(1.0, 1.0);
            total += activity;
            population.activity.push(total);
            population.profiles.push(profile(number, activity, start_at, &mut draw));
        }
        population
    }

    /// The customer whose turn it is, for a uniform number: active ones more often.
    pub(super) fn choose(&mut self, unit: f64) -> &mut Profile {
        let total = self.activity.last().copied().unwrap_or(0.0);
        let index = self.activity.partition_point(|&running| running <= unit * total);
        let last = self.profiles.len() - 1;
        &mut self.profiles[index.min(last)]
    }

    #[cfg(test)]
    pub(super) fn profiles(&self) -> &[Profile] {
        &self.profiles
    }
}

fn profile(number: u32, activity: f64, start_at: EpochMs, draw: &mut Draw) -> Profile {
    let country = draw.pick(&COUNTRIES);
    let card_count = draw.pick(&[(1, 0.68), (2, 0.25), (3, 0.07)]);
    let device = draw.pick(&[("mobile", 0.62), ("desktop", 0.34), ("tablet", 0.04)]);
    let browser = match device {
        "desktop" => draw.pick(&[("chrome", 0.68), ("edge", 0.14), ("safari", 0.11), ("firefox", 0.07)]),
        _ => draw.pick(&[("chrome", 0.55), ("safari", 0.33), ("samsung", 0.12)]),
    };
    let tenure_days = draw.between(0, 2_500);
    Profile {
        customer_id: format!("cus-{number:07}"),
        country,
        cards: (0..card_count).map(|_| card(country, draw)).collect(),
        fraud_cohort: draw.pick(&[("LOW", 0.84), ("MEDIUM", 0.13), ("HIGH", 0.03)]),
        joined_at: start_at - tenure_days * DAY_MS,
        browser,
        device,
        orders: (activity * draw.log_normal(1.5, 0.4)).round().min(60.0) as u32,
        last_order_at: start_at - (draw.exponential() * 120.0 * DAY_MS as f64 / activity.max(0.2)) as i64,
        spending: draw.log_normal(1.0, 0.3),
        subscribed: draw.chance(0.05),
    }
}

fn card(country: &'static str, draw: &mut Draw) -> Card {
    let brand = match country {
        "MX" => draw.pick(&[("VISA", 0.525), ("MASTERCARD", 0.385), ("AMEX", 0.09)]),
        "US" => draw.pick(&[("VISA", 0.54), ("MASTERCARD", 0.33), ("AMEX", 0.13)]),
        _ => draw.pick(&[("VISA", 0.58), ("MASTERCARD", 0.38), ("AMEX", 0.04)]),
    };
    // Some pay with a card from abroad.
    let issued_in = if draw.chance(0.03) { draw.pick(&COUNTRIES) } else { country };
    let issuer = pick_issuer(issued_in, draw);
    let amex = brand == "AMEX";
    let debit = if amex { 0.0 } else { ISSUERS[issuer].debit };
    let card_type = if draw.chance(debit) {
        CardType::Debit
    } else if !amex && draw.chance(0.02) {
        CardType::Prepaid
    } else {
        CardType::Credit
    };
    Card {
        bin: bin(brand, issuer, card_type, draw),
        brand: brand.to_owned(),
        card_type,
        bank: Some(if amex { AMEX_BANK } else { ISSUERS[issuer].bank }.to_owned()),
        issuer_country: Some(issued_in.to_owned()),
        // Too short to be taken for a card number when its digits happen to be decimal.
        token: Some(format!("tok_{:012x}", (draw.unit() * (1_u64 << 48) as f64) as u64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const START: EpochMs = 1_767_592_800_000;

    #[test]
    fn people_are_plausible() {
        let population = Population::new(3, START, 20_000);
        let n = population.profiles().len() as f64;
        let share = |holds: fn(&Profile) -> bool| population.profiles().iter().filter(|p| holds(p)).count() as f64 / n;
        assert!((share(|p| p.country == "MX") - 0.79).abs() < 0.015);
        let amex = share(|p| p.cards[0].brand == "AMEX");
        assert!((0.08..0.10).contains(&amex), "Amex share {amex}");
        assert!(share(|p| p.cards.len() > 1) > 0.25);
        assert!(population.profiles().iter().all(|p| p.joined_at <= START && p.last_order_at <= START));
        assert!(population.profiles().iter().flat_map(|p| &p.cards).all(|card| card.bin.len() == 6));
    }

    #[test]
    fn a_bin_belongs_to_one_bank_and_product() {
        let population = Population::new(3, START, 20_000);
        let mut owner = HashMap::new();
        for card in population.profiles().iter().flat_map(|p| &p.cards) {
            let product = (&card.bank, &card.brand, card.card_type);
            assert_eq!(owner.entry(&card.bin).or_insert(product), &product, "{}", card.bin);
        }
        assert!(owner.len() > 100, "{} BINs", owner.len());
    }

    #[test]
    fn active_customers_come_more_often() {
        let mut population = Population::new(3, START, 1_000);
        let mut draw = Draw::keyed(9, Purpose::Order, 0, 0);
        let mut visits: HashMap<String, u32> = HashMap::new();
        for _ in 0..50_000 {
            *visits.entry(population.choose(draw.unit()).customer_id.clone()).or_default() += 1;
        }
        let most = visits.values().max().copied().unwrap_or(0);
        assert!(most > 250, "a mean of 50, but some far more: {most}");
        assert!(visits.len() > 900, "but all come: {}", visits.len());
        assert_eq!(population.choose(0.999_999_999).customer_id, "cus-0000999");
    }
}
