//! The fields that a mapping can fill: each with its path, its kind, and how it is put into the records. What a mapping of attempts fills is a
//! [`Draft`]; that of rules has a table of its own (`rules`).

use crate::domain::payment::{
    Airline, Card, CardType, Customer, Geo, Initiator, InstallmentKind, Installments, MessageConfig, Payment, PaymentAttempt,
    PaymentOutcome, Status,
};
use crate::domain::{EpochMs, PspId};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde_json::{Map, Value};

/// The records of one row while they are filled.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) attempt: PaymentAttempt,
    pub(super) outcome: PaymentOutcome,
    /// Whether the row told a status.
    pub(super) has_outcome: bool,
    pub(super) latency_ms: Option<i64>,
    pub(super) occurred_at: Option<EpochMs>,
    /// `None` when the attempts of a payment are to be counted.
    pub(super) attempt_number: Option<i32>,
    /// What columns of JSON hold that no field reads, by column.
    pub(super) unread: Map<String, Value>,
}

/// What the cells of a row are put into.
pub(super) trait Fill: Sized + 'static {
    /// All its fields: the currency before the money that is read in it.
    const TARGETS: &'static [Target<Self>];
    /// What a row says that tells nothing.
    fn empty() -> Self;
    /// That of its money.
    fn currency(&self) -> &str;
    /// Whether a mapped field must have a value.
    fn must_tell(path: &str) -> bool;
}

/// A field by its kind, with the setter that takes such a value.
pub(super) enum Set<D> {
    Text(fn(&mut D, String)),
    /// One of a fixed set of words; the setter's error lists them.
    Word(fn(&mut D, &str) -> Result<(), String>),
    Whole(fn(&mut D, i32)),
    Number(fn(&mut D, f64)),
    Flag(fn(&mut D, bool)),
    Money(fn(&mut D, i64)),
    Duration(fn(&mut D, i64)),
    Time(fn(&mut D, EpochMs)),
    List(fn(&mut D, Vec<String>)),
}

pub(super) struct Target<D: 'static> {
    pub(super) path: &'static str,
    pub(super) set: Set<D>,
}

/// Fields without which a row is no attempt: to be mapped, and not empty.
pub(super) const REQUIRED: [&str; 5] =
    ["psp_id", "attempted_at", "payment.merchant_id", "payment.amount_minor", "payment.currency"];

pub(super) const fn target<D>(path: &'static str, set: Set<D>) -> Target<D> {
    Target { path, set }
}

const TARGETS: &[Target<Draft>] = &[
    // Money reads the currency, so the currency comes first.
    target("payment.currency", Set::Text(|d, v| d.attempt.payment.currency = v)),
    target("payment.amount_minor", Set::Money(|d, v| d.attempt.payment.amount_minor = v)),
    target("payment.payment_id", Set::Text(|d, v| d.attempt.payment.payment_id = v)),
    target("payment.order_id", Set::Text(|d, v| d.attempt.payment.order_id = v)),
    target("payment.merchant_id", Set::Text(|d, v| d.attempt.payment.merchant_id = v)),
    target("payment.customer_id", Set::Text(|d, v| d.attempt.payment.customer_id = Some(v))),
    target("payment.method", Set::Text(|d, v| d.attempt.payment.method = v)),
    target("payment.sub_method", Set::Text(|d, v| d.attempt.payment.sub_method = Some(v))),
    target("payment.subscription", Set::Flag(|d, v| d.attempt.payment.subscription = Some(v))),
    target("payment.card.bin", Set::Text(|d, v| d.attempt.payment.card.bin = v)),
    target("payment.card.brand", Set::Text(|d, v| d.attempt.payment.card.brand = v)),
    target("payment.card.type", Set::Word(|d, v| word(v, &mut d.attempt.payment.card.card_type))),
    target("payment.card.bank", Set::Text(|d, v| d.attempt.payment.card.bank = Some(v))),
    target("payment.card.issuer_country", Set::Text(|d, v| d.attempt.payment.card.issuer_country = Some(v))),
    target("payment.card.token", Set::Text(|d, v| d.attempt.payment.card.token = Some(v))),
    target("payment.message.initiator", Set::Word(|d, v| word(v, &mut d.attempt.payment.message.initiator))),
    target("payment.message.merchant_reason", Set::Word(|d, v| some_word(v, &mut d.attempt.payment.message.merchant_reason))),
    target("payment.message.avs_sent", Set::Flag(|d, v| d.attempt.payment.message.avs_sent = v)),
    target("payment.message.mcc", Set::Text(|d, v| d.attempt.payment.message.mcc = v)),
    target("payment.message.three_ds", Set::Flag(|d, v| d.attempt.payment.message.three_ds = v)),
    target("payment.message.network_token", Set::Flag(|d, v| d.attempt.payment.message.network_token = v)),
    target("payment.message.cvv_sent", Set::Flag(|d, v| d.attempt.payment.message.cvv_sent = v)),
    target("payment.installments.count", Set::Whole(|d, v| installments(d).count = v)),
    target("payment.installments.kind", Set::Word(|d, v| word(v, &mut installments(d).kind))),
    target("payment.airline.order_type", Set::Text(|d, v| airline(d).order_type = Some(v))),
    target("payment.airline.passengers", Set::Whole(|d, v| airline(d).passengers = Some(v))),
    target("payment.airline.origin", Set::Text(|d, v| airline(d).origin = Some(v))),
    target("payment.airline.destination", Set::Text(|d, v| airline(d).destination = Some(v))),
    target("payment.airline.departs_at", Set::Time(|d, v| airline(d).departs_at = Some(v))),
    target("payment.airline.booked_at", Set::Time(|d, v| airline(d).booked_at = Some(v))),
    target("payment.customer.rfm_recency", Set::Number(|d, v| customer(d).rfm_recency = Some(v))),
    target("payment.customer.rfm_frequency", Set::Number(|d, v| customer(d).rfm_frequency = Some(v))),
    target("payment.customer.rfm_monetary", Set::Number(|d, v| customer(d).rfm_monetary = Some(v))),
    target("payment.customer.fraud_rate_cohort", Set::Text(|d, v| customer(d).fraud_rate_cohort = Some(v))),
    target("payment.customer.tenure_days", Set::Whole(|d, v| customer(d).tenure_days = Some(v))),
    target("payment.customer.minutes_browsing", Set::Number(|d, v| customer(d).minutes_browsing = Some(v))),
    target("payment.customer.browser", Set::Text(|d, v| customer(d).browser = Some(v))),
    target("payment.customer.device", Set::Text(|d, v| customer(d).device = Some(v))),
    target("payment.geo.country", Set::Text(|d, v| geo(d).country = Some(v))),
    target("payment.geo.ip_country", Set::Text(|d, v| geo(d).ip_country = Some(v))),
    target("attempt_id", Set::Text(|d, v| d.attempt.attempt_id = v)),
    target("attempt_number", Set::Whole(|d, v| d.attempt_number = Some(v))),
    target("psp_id", Set::Text(|d, v| d.attempt.psp_id = PspId::new(&v))),
    target("attempted_at", Set::Time(|d, v| d.attempt.attempted_at = v)),
    target("deadline_ms", Set::Duration(|d, v| d.attempt.deadline_ms = Some(v))),
    target("decision_id", Set::Text(|d, v| d.attempt.decision_id = Some(v))),
    target("algorithm", Set::Word(|d, v| some_word(v, &mut d.attempt.algorithm))),
    target("skip_reasons", Set::List(|d, v| d.attempt.skip_reasons = v)),
    target("status", Set::Word(status)),
    target("error_code", Set::Text(|d, v| d.outcome.error_code = Some(v))),
    target("error_category", Set::Text(|d, v| d.outcome.error_category = Some(v))),
    target("hard_soft", Set::Word(|d, v| some_word(v, &mut d.outcome.hard_soft))),
    target("network_response_code", Set::Text(|d, v| d.outcome.network_response_code = Some(v))),
    target("merchant_advice_code", Set::Text(|d, v| d.outcome.merchant_advice_code = Some(v))),
    target("latency_ms", Set::Duration(|d, v| d.latency_ms = Some(v))),
    target("occurred_at", Set::Time(|d, v| d.occurred_at = Some(v))),
    target("fee_minor", Set::Money(|d, v| d.outcome.fee_minor = Some(v))),
];

fn status(draft: &mut Draft, value: &str) -> Result<(), String> {
    draft.has_outcome = true;
    word(value, &mut draft.outcome.status)
}

/// The words are those of the wire format; how they are written, upper or lower case, does not matter here.
fn word<T: DeserializeOwned>(value: &str, into: &mut T) -> Result<(), String> {
    let upper = value.to_ascii_uppercase();
    let deserializer: StrDeserializer<'_, serde::de::value::Error> = upper.as_str().into_deserializer();
    *into = T::deserialize(deserializer).map_err(|error| error.to_string())?;
    Ok(())
}

fn some_word<T: DeserializeOwned + Default>(value: &str, into: &mut Option<T>) -> Result<(), String> {
    word(value, into.insert(T::default()))
}

/// A count of 0 says that the row tells the kind only.
fn installments(draft: &mut Draft) -> &mut Installments {
    draft.attempt.payment.installments.get_or_insert(Installments { count: 0, kind: InstallmentKind::Unknown })
}

fn airline(draft: &mut Draft) -> &mut Airline {
    draft.attempt.payment.airline.get_or_insert_default()
}

fn customer(draft: &mut Draft) -> &mut Customer {
    draft.attempt.payment.customer.get_or_insert_default()
}

fn geo(draft: &mut Draft) -> &mut Geo {
    draft.attempt.payment.geo.get_or_insert_default()
}

impl Fill for Draft {
    const TARGETS: &'static [Target<Self>] = TARGETS;

    fn currency(&self) -> &str {
        &self.attempt.payment.currency
    }

    fn must_tell(path: &str) -> bool {
        REQUIRED.contains(&path) || path == "payment.payment_id"
    }

    /// A card payment whose other particulars are unknown.
    fn empty() -> Self {
        let psp_id = PspId::new("");
        let message = MessageConfig {
            initiator: Initiator::Unknown,
            merchant_reason: None,
            avs_sent: false,
            mcc: String::new(),
            three_ds: false,
            network_token: false,
            cvv_sent: false,
        };
        let bin = String::new();
        let card =
            Card { bin, brand: String::new(), card_type: CardType::Unknown, bank: None, issuer_country: None, token: None };
        let payment = Payment {
            payment_id: String::new(),
            order_id: String::new(),
            merchant_id: String::new(),
            customer_id: None,
            amount_minor: 0,
            currency: String::new(),
            card,
            method: "card".to_owned(),
            sub_method: None,
            message,
            installments: None,
            airline: None,
            customer: None,
            geo: None,
            subscription: None,
        };
        let outcome = PaymentOutcome {
            attempt_id: String::new(),
            payment_id: String::new(),
            customer_id: None,
            psp_id: psp_id.clone(),
            status: Status::Unknown,
            error_code: None,
            error_category: None,
            hard_soft: None,
            network_response_code: None,
            merchant_advice_code: None,
            latency_ms: 0,
            occurred_at: 0,
            fee_minor: None,
        };
        let attempt = PaymentAttempt {
            payment,
            attempt_id: String::new(),
            attempt_number: 1,
            psp_id,
            attempted_at: 0,
            deadline_ms: None,
            decision_id: None,
            algorithm: None,
            skip_reasons: Vec::new(),
        };
        Self {
            attempt,
            outcome,
            has_outcome: false,
            latency_ms: None,
            occurred_at: None,
            attempt_number: None,
            unread: Map::new(),
        }
    }
}

impl Draft {
    pub(super) fn approved(&self) -> bool {
        self.has_outcome && self.outcome.status == Status::Approved
    }
}
