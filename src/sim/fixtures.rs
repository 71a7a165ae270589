//! The one construction of each thing that the tests of this module share.

use super::draw::{Draw, Purpose};
use super::orders::Shop;
use super::population::Population;
use super::psp::SimPsp;
use super::world::WorldSettings;
use crate::domain::payment::Payment;
use crate::domain::{EpochMs, PspId};
use crate::engine::settings::{Fee, Merchant, Psp, Settings, Split};

/// A Monday, noon in Mexico City.
pub(super) const START: EpochMs = 1_767_636_000_000;

pub(super) fn psps() -> Vec<SimPsp> {
    let configured = [
        ("worldpay", &["VISA", "MASTERCARD"][..]),
        ("mit", &["VISA", "MASTERCARD"]),
        ("elavon", &["VISA", "MASTERCARD"]),
        ("amex", &["AMEX"]),
    ]
    .map(|(id, brands)| Psp {
        id: id.into(),
        external_id: None,
        name: id.into(),
        brands: brands.iter().map(ToString::to_string).collect(),
        currencies: Vec::new(),
        methods: Vec::new(),
        fees: vec![Fee { currency: "MXN".into(), success_minor: 250, failure_minor: 50 }],
    });
    SimPsp::counterparts(&configured)
}

pub(super) fn settings(seed: u64) -> WorldSettings {
    let merchant = Merchant {
        id: "volaris".into(),
        name: "Volaris".into(),
        currencies: vec!["MXN".into(), "USD".into()],
        psps: psps().into_iter().map(|psp| psp.id).collect(),
        margin: None,
    };
    let split = [("worldpay", 50), ("mit", 30), ("elavon", 20)].map(|(psp, weight)| Split { psp: PspId::new(psp), weight });
    WorldSettings { static_split: split.to_vec(), ..WorldSettings::typical(seed, START, merchant, psps()) }
}

/// Some payment with a card of this brand.
pub(super) fn payment(number: u64, brand: &str) -> Payment {
    let mut draw = Draw::keyed(1, Purpose::Order, number, 0);
    let shop = Shop { merchant_id: "volaris".into(), currencies: vec!["MXN".into(), "USD".into()], run: "test".into() };
    let mut population = Population::new(number, START, 1);
    let mut payment = shop.payment(number, population.choose(0.0), START, &mut draw);
    payment.card.brand = brand.into();
    payment
}

/// The shipped defaults, without an example's PSPs.
pub(super) fn shipped() -> Settings {
    let text = include_str!("../config/default.toml");
    let mut table: toml::Table = toml::from_str(text).unwrap();
    let known = ["engine", "health", "policy", "retry", "merchants", "psps", "hard_rules", "rules", "error_codes"];
    table.retain(|key, _| known.contains(&key));
    table.try_into().unwrap()
}
