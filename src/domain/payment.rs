//! The three inputs: an authorization attempt, what came of it, and a request for a route.
//!
//! `Payment` is what they share. No card number, CVV or track data has a place here: a BIN and a token only.

use super::{EpochMs, PspId};
use serde::{Deserialize, Serialize};

/// What is paid, by whom, with which card, for what: shared by attempts and routing requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    pub payment_id: String,
    pub order_id: String,
    pub merchant_id: String,
    #[serde(default)]
    pub customer_id: Option<String>,
    /// Minor units of `currency`, at least 0.
    pub amount_minor: i64,
    /// ISO 4217, three upper-case letters.
    pub currency: String,
    pub card: Card,
    /// Method of payment, such as `card`.
    pub method: String,
    #[serde(default)]
    pub sub_method: Option<String>,
    pub message: MessageConfig,
    #[serde(default)]
    pub installments: Option<Installments>,
    #[serde(default)]
    pub airline: Option<Airline>,
    #[serde(default)]
    pub customer: Option<Customer>,
    #[serde(default)]
    pub geo: Option<Geo>,
    /// Whether the payment belongs to a subscription.
    #[serde(default)]
    pub subscription: Option<bool>,
}

impl Payment {
    /// The key of every record about this payment: the customer, else the payment itself.
    pub fn key(&self) -> &str {
        self.customer_id.as_deref().unwrap_or(&self.payment_id)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Card {
    /// The first 6 or 8 digits; empty when the payment has no card or its history does not tell.
    pub bin: String,
    /// Upper-case scheme name: VISA, MASTERCARD, AMEX, ...
    pub brand: String,
    #[serde(rename = "type", default)]
    pub card_type: CardType,
    #[serde(default)]
    pub bank: Option<String>,
    /// ISO 3166-1 alpha-2 of the issuer.
    #[serde(default)]
    pub issuer_country: Option<String>,
    #[serde(default)]
    pub token: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CardType {
    #[default]
    Unknown,
    Credit,
    Debit,
    Prepaid,
}

/// How the authorization message is phrased: the variables that P-04 may toggle.
#[expect(clippy::struct_excessive_bools, reason = "the record of the contract, field for field")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageConfig {
    pub initiator: Initiator,
    #[serde(default)]
    pub merchant_reason: Option<MerchantReason>,
    pub avs_sent: bool,
    /// Merchant category code, four digits, or empty when unknown.
    pub mcc: String,
    #[serde(default)]
    pub three_ds: bool,
    #[serde(default)]
    pub network_token: bool,
    #[serde(default)]
    pub cvv_sent: bool,
}

/// Who starts the authorization: customer-initiated (CIT) or merchant-initiated (MIT).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Initiator {
    #[default]
    Unknown,
    Customer,
    Merchant,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MerchantReason {
    #[default]
    Unknown,
    Recurring,
    Unscheduled,
    Installment,
    Resubmission,
    DelayedCharge,
    NoShow,
    Reauthorization,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Installments {
    pub count: i32,
    #[serde(default)]
    pub kind: InstallmentKind,
}

/// MSI: months without interest; MCI: with interest (Mexico).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InstallmentKind {
    #[default]
    Unknown,
    Msi,
    Mci,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Airline {
    pub order_type: Option<String>,
    pub passengers: Option<i32>,
    pub origin: Option<String>,
    pub destination: Option<String>,
    pub departs_at: Option<EpochMs>,
    pub booked_at: Option<EpochMs>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Customer {
    pub rfm_recency: Option<f64>,
    pub rfm_frequency: Option<f64>,
    pub rfm_monetary: Option<f64>,
    pub fraud_rate_cohort: Option<String>,
    pub tenure_days: Option<i32>,
    pub minutes_browsing: Option<f64>,
    pub browser: Option<String>,
    pub device: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Geo {
    pub country: Option<String>,
    pub ip_country: Option<String>,
}

/// One authorization attempt sent to a PSP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentAttempt {
    pub payment: Payment,
    pub attempt_id: String,
    /// 1 for the first attempt of the payment.
    pub attempt_number: i32,
    pub psp_id: PspId,
    pub attempted_at: EpochMs,
    /// Milliseconds after `attempted_at` at which an attempt without outcome counts as a time-out.
    #[serde(default)]
    pub deadline_ms: Option<i64>,
    /// The decision that this attempt followed.
    #[serde(default)]
    pub decision_id: Option<String>,
    #[serde(default)]
    pub algorithm: Option<Algorithm>,
    #[serde(default)]
    pub skip_reasons: Vec<String>,
}

/// Who routed an attempt, as the routing log tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Algorithm {
    #[default]
    Unknown,
    Rule,
    Model,
    Manual,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentOutcome {
    pub attempt_id: String,
    pub payment_id: String,
    #[serde(default)]
    pub customer_id: Option<String>,
    pub psp_id: PspId,
    pub status: Status,
    #[serde(default)]
    pub error_code: Option<String>,
    #[serde(default)]
    pub error_category: Option<String>,
    #[serde(default)]
    pub hard_soft: Option<HardSoft>,
    #[serde(default)]
    pub network_response_code: Option<String>,
    #[serde(default)]
    pub merchant_advice_code: Option<String>,
    pub latency_ms: i64,
    pub occurred_at: EpochMs,
    #[serde(default)]
    pub fee_minor: Option<i64>,
}

impl PaymentOutcome {
    /// The key of the record: the customer, else the payment.
    pub fn key(&self) -> &str {
        self.customer_id.as_deref().unwrap_or(&self.payment_id)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    #[default]
    Unknown,
    Approved,
    Declined,
    Error,
    Timeout,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HardSoft {
    #[default]
    Unknown,
    Hard,
    Soft,
}

/// The payment service asks where to send a payment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutingRequest {
    pub payment: Payment,
    pub request_id: String,
    pub requested_at: EpochMs,
    /// Milliseconds after `requested_at` within which an answer is of use.
    #[serde(default)]
    pub deadline_ms: Option<i64>,
    /// Only these PSPs may be ranked; absent: all that are eligible.
    #[serde(default)]
    pub allowed_psps: Option<Vec<PspId>>,
    /// Earlier attempts of the payment, when the caller knows them better than the log.
    #[serde(default)]
    pub previous_attempts: Option<Vec<PreviousAttempt>>,
    /// Decide and publish, but do not count the decision as taken.
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreviousAttempt {
    pub attempt_id: String,
    pub psp_id: PspId,
    pub attempted_at: EpochMs,
    #[serde(default)]
    pub status: Status,
    #[serde(default)]
    pub error_code: Option<String>,
    #[serde(default)]
    pub hard_soft: Option<HardSoft>,
}
