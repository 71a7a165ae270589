//! What a customer buys: amount, flight, instalments, and how the authorization is phrased.

use super::draw::Draw;
use super::population::Profile;
use super::rhythm::DAY_MS;
use crate::domain::EpochMs;
use crate::domain::payment::{
    Airline, Card, CardType, Customer, Geo, Initiator, InstallmentKind, Installments, MerchantReason, MessageConfig, Payment,
};

/// Airlines, as a merchant category.
const MCC: &str = "4511";

const AIRPORTS: [(&str, f64); 12] = [
    ("MEX", 0.20),
    ("TIJ", 0.15),
    ("GDL", 0.15),
    ("CUN", 0.14),
    ("MTY", 0.11),
    ("BJX", 0.05),
    ("CUL", 0.05),
    ("MID", 0.05),
    ("LAX", 0.04),
    ("ORD", 0.03),
    ("OAK", 0.02),
    ("BOG", 0.01),
];

/// What is the same for all payments of a world.
#[derive(Clone, Debug)]
pub(super) struct Shop {
    pub(super) merchant_id: String,
    /// What the merchant sells in; not empty.
    pub(super) currencies: Vec<String>,
    /// Tells the payments of this run from those of others.
    pub(super) run: String,
}

impl Shop {
    /// A new payment of `profile`, whose history then knows of it.
    pub(super) fn payment(&self, number: u64, profile: &mut Profile, at: EpochMs, draw: &mut Draw) -> Payment {
        let recurring = profile.subscribed && draw.chance(0.5);
        let card_index = if recurring || draw.chance(0.85) { 0 } else { draw.between(0, profile.cards.len() as i64) as usize };
        let card = profile.cards[card_index].clone();
        let currency = self.currency(profile.country, draw);
        let mut airline = flight(at, draw);
        if recurring {
            airline = Airline { order_type: Some("SUBSCRIPTION".into()), booked_at: Some(at), ..Airline::default() };
        }
        let amount_minor = amount_minor(&airline, currency, profile.spending, draw);
        let installments = if recurring { None } else { installments(&card, currency, amount_minor, draw) };
        let customer = customer(profile, at, draw);
        profile.orders = profile.orders.saturating_add(1);
        profile.last_order_at = at;
        Payment {
            payment_id: format!("pay-{}-{number:08x}", self.run),
            order_id: format!("ord-{}-{number:08x}", self.run),
            merchant_id: self.merchant_id.clone(),
            customer_id: Some(profile.customer_id.clone()),
            amount_minor,
            currency: currency.to_owned(),
            message: message(recurring, &card, draw),
            card,
            method: "card".into(),
            sub_method: Some(sub_method(recurring, installments.as_ref()).into()),
            installments,
            airline: Some(airline),
            customer: Some(customer),
            geo: Some(geo(profile.country, draw)),
            subscription: Some(recurring),
        }
    }

    fn currency(&self, country: &str, draw: &mut Draw) -> &str {
        let wanted = if draw.chance(if country == "MX" { 0.95 } else { 0.12 }) { "MXN" } else { "USD" };
        self.currencies.iter().find(|offered| *offered == wanted).or(self.currencies.first()).map_or("USD", String::as_str)
    }
}

/// Minor units of a currency per US cent, for amounts that buy the same.
pub(super) fn per_us_cent(currency: &str) -> f64 {
    match currency {
        "MXN" => 18.0,
        _ => 1.0,
    }
}

fn flight(at: EpochMs, draw: &mut Draw) -> Airline {
    let origin = draw.pick(&AIRPORTS);
    let mut destination = draw.pick(&AIRPORTS);
    if destination == origin {
        destination = if origin == "MEX" { "CUN" } else { "MEX" };
    }
    // Most book two or three weeks ahead, some on the day, some half a year before.
    let window_ms = (draw.log_normal(17.0, 1.05).clamp(0.1, 330.0) * DAY_MS as f64) as i64;
    Airline {
        order_type: Some((draw.pick(&[("ROUND_TRIP", 0.47), ("ONE_WAY", 0.40), ("ANCILLARY", 0.13)])).into()),
        passengers: Some(draw.pick(&[(1, 0.54), (2, 0.26), (3, 0.09), (4, 0.07), (5, 0.03), (6, 0.01)])),
        origin: Some(origin.into()),
        destination: Some(destination.into()),
        departs_at: Some(at + window_ms),
        booked_at: Some(at),
    }
}

fn amount_minor(airline: &Airline, currency: &str, spending: f64, draw: &mut Draw) -> i64 {
    let median_us_cents = match airline.order_type.as_deref() {
        Some("ROUND_TRIP") => 13_500.0,
        Some("ANCILLARY") => 2_800.0,
        Some("SUBSCRIPTION") => 1_500.0,
        _ => 7_200.0,
    };
    let passengers = f64::from(airline.passengers.unwrap_or(1));
    let us_cents = draw.log_normal(median_us_cents, 0.5) * spending * passengers.powf(0.95);
    // Fares are whole pesos, and whole dollars less a cent.
    let units = (us_cents * per_us_cent(currency) / 100.0).round().clamp(1.0, 500_000.0) as i64;
    if currency == "MXN" { units * 100 } else { units * 100 - 1 }
}

/// Months without interest are common on Mexican credit cards, from some amount on; with interest they are rare.
fn installments(card: &Card, currency: &str, amount_minor: i64, draw: &mut Draw) -> Option<Installments> {
    let eligible = card.card_type == CardType::Credit && card.issuer_country.as_deref() == Some("MX") && currency == "MXN";
    if !eligible || amount_minor < 90_000 {
        return None;
    }
    let larger = (amount_minor as f64 / 400_000.0).min(1.0);
    if draw.chance(0.18 + 0.20 * larger) {
        let count = draw.pick(&[(3, 0.46), (6, 0.32), (9, 0.06), (12, 0.14), (18, 0.02)]);
        return Some(Installments { count, kind: InstallmentKind::Msi });
    }
    draw.chance(0.02).then(|| Installments { count: draw.pick(&[(6, 0.4), (12, 0.4), (24, 0.2)]), kind: InstallmentKind::Mci })
}

fn sub_method(recurring: bool, installments: Option<&Installments>) -> &'static str {
    match installments.map(|plan| plan.kind) {
        Some(InstallmentKind::Msi) => "msi",
        Some(InstallmentKind::Mci) => "mci",
        _ if recurring => "recurring",
        _ => "single",
    }
}

fn message(recurring: bool, card: &Card, draw: &mut Draw) -> MessageConfig {
    let abroad = card.issuer_country.as_deref() != Some("MX");
    MessageConfig {
        initiator: if recurring { Initiator::Merchant } else { Initiator::Customer },
        merchant_reason: recurring.then_some(MerchantReason::Recurring),
        avs_sent: abroad && draw.chance(0.7),
        mcc: MCC.into(),
        three_ds: !recurring && draw.chance(if abroad { 0.25 } else { 0.12 }),
        network_token: draw.chance(0.25),
        cvv_sent: !recurring,
    }
}

fn customer(profile: &Profile, at: EpochMs, draw: &mut Draw) -> Customer {
    let days = |since: EpochMs| ((at - since).max(0) as f64 / DAY_MS as f64 * 10.0).round() / 10.0;
    Customer {
        rfm_recency: Some(days(profile.last_order_at)),
        rfm_frequency: Some(f64::from(profile.orders)),
        rfm_monetary: Some((profile.spending * f64::from(profile.orders) * 110.0).round()),
        fraud_rate_cohort: Some(profile.fraud_cohort.into()),
        tenure_days: Some(days(profile.joined_at) as i32),
        minutes_browsing: Some((draw.log_normal(9.0, 0.8) * 10.0).round() / 10.0),
        browser: Some(profile.browser.into()),
        device: Some(profile.device.into()),
    }
}

fn geo(country: &str, draw: &mut Draw) -> Geo {
    let ip_country = if draw.chance(0.05) { "US" } else { country };
    Geo { country: Some(country.into()), ip_country: Some(ip_country.into()) }
}
