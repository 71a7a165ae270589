//! A simulated PSP: how likely it is to approve what, how fast it is, how often it fails by itself.

use crate::domain::PspId;
use crate::domain::payment::Payment;
use crate::engine::settings::{Fee, Psp};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimPsp {
    pub id: PspId,
    /// Upper-case brands; empty: all. It refuses what it does not take.
    #[serde(default)]
    pub brands: Vec<String>,
    /// Empty: all.
    #[serde(default)]
    pub currencies: Vec<String>,
    #[serde(default)]
    pub fees: Vec<Fee>,
    pub approval: Approval,
    pub latency: Latency,
    /// After this long the payment service gives up and reports a time-out.
    pub client_timeout_ms: i64,
    /// Share of attempts that end in a technical error when all is well.
    pub error_rate: f64,
    /// Share that ends in a time-out when all is well.
    pub timeout_rate: f64,
}

/// Log-odds that the issuer approves what comes through this PSP: a sum over what the payment is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    pub intercept: f64,
    /// Cards issued in the merchant's country.
    pub domestic: f64,
    pub foreign: f64,
    pub usd: f64,
    pub mastercard: f64,
    pub debit: f64,
    /// Per e-fold of the amount above that of a typical order.
    pub amount_slope: f64,
    pub installments: f64,
    pub merchant_initiated: f64,
    /// Spread of what the PSP's connection to each single bank adds.
    pub bank_spread: f64,
}

/// Log-normal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    pub median_ms: f64,
    pub sigma: f64,
}

impl SimPsp {
    /// A simulated counterpart of each configured PSP. What a PSP is good at follows from its place in the list, so that any
    /// configuration makes a world in which the best PSP differs from payment to payment: the strengths come in turn.
    pub fn counterparts(psps: &[Psp]) -> Vec<Self> {
        let mut open_schemes = 0;
        let mut simulated = Vec::with_capacity(psps.len());
        for psp in psps {
            let (approval, latency) = if psp.brands.len() == 1 {
                own_scheme()
            } else {
                open_schemes += 1;
                match open_schemes % 3 {
                    1 => all_round(),
                    2 => domestic(),
                    _ => cross_border(),
                }
            };
            simulated.push(Self {
                id: psp.id.clone(),
                brands: psp.brands.clone(),
                currencies: psp.currencies.clone(),
                fees: psp.fees.clone(),
                approval,
                latency,
                client_timeout_ms: 10_000,
                error_rate: 0.004,
                timeout_rate: 0.003,
            });
        }
        simulated
    }

    pub fn takes(&self, payment: &Payment) -> bool {
        let lists = |taken: &[String], value: &str| taken.is_empty() || taken.iter().any(|one| one == value);
        lists(&self.brands, &payment.card.brand) && lists(&self.currencies, &payment.currency)
    }

    /// Whether it takes the cards of one scheme only, which then nobody else should get.
    pub fn is_own_scheme(&self) -> bool {
        self.brands.len() == 1
    }
}

/// Good at most things, best at debit and merchant-initiated payments.
fn all_round() -> (Approval, Latency) {
    let approval = Approval {
        intercept: 2.00,
        domestic: 0.05,
        foreign: 0.05,
        usd: 0.0,
        mastercard: -0.15,
        debit: 0.20,
        amount_slope: -0.05,
        installments: -0.10,
        merchant_initiated: 0.30,
        bank_spread: 0.35,
    };
    (approval, Latency { median_ms: 520.0, sigma: 0.50 })
}

/// Strong on foreign cards and dollars, weak on instalments.
fn cross_border() -> (Approval, Latency) {
    let approval = Approval {
        intercept: 1.80,
        domestic: -0.10,
        foreign: 0.45,
        usd: 0.25,
        mastercard: 0.0,
        debit: -0.30,
        amount_slope: -0.10,
        installments: -0.55,
        merchant_initiated: 0.10,
        bank_spread: 0.35,
    };
    (approval, Latency { median_ms: 420.0, sigma: 0.45 })
}

/// Strong on domestic cards and instalments, weak abroad; slower.
fn domestic() -> (Approval, Latency) {
    let approval = Approval {
        intercept: 1.80,
        domestic: 0.30,
        foreign: -0.70,
        usd: -0.35,
        mastercard: 0.10,
        debit: -0.10,
        amount_slope: -0.25,
        installments: 0.25,
        merchant_initiated: -0.30,
        bank_spread: 0.35,
    };
    (approval, Latency { median_ms: 650.0, sigma: 0.55 })
}

/// The acquirer of a single scheme, which is its own issuer: few declines.
fn own_scheme() -> (Approval, Latency) {
    let approval = Approval {
        intercept: 2.35,
        domestic: 0.0,
        foreign: 0.10,
        usd: 0.10,
        mastercard: 0.0,
        debit: 0.0,
        amount_slope: -0.10,
        installments: -0.15,
        merchant_initiated: 0.10,
        bank_spread: 0.0,
    };
    (approval, Latency { median_ms: 380.0, sigma: 0.40 })
}
