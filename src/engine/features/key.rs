//! What is counted apart: customers, cards, payments, and the properties of a payment, alone and at each PSP.
//!
//! A key is a kind and a 64-bit hash of the value: of a fixed size, made without allocation, the same in every build, and no name or
//! token is kept. Two values of ten million share a key with probability 3 in a million; their counts are then added.

use crate::domain::EpochMs;
use crate::domain::money::currency_exponent;
use crate::domain::payment::{Initiator, Payment};
use serde::{Deserialize, Serialize};

/// A property of a payment at an attempt, whose outcomes are counted at each PSP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Property {
    /// Everything: the PSP as such.
    Any,
    Merchant,
    Bin,
    /// The issuer's country, or the payment's where that is not known.
    Country,
    Brand,
    /// Brand and 3-D Secure.
    BrandThreeDs,
    /// These and the country.
    BrandThreeDsCountry,
    AmountBand,
    Hour,
    AttemptNumber,
    /// The PSP of the attempt before.
    PreviousPsp,
    Customer,
    Token,
    /// Who initiates, and what the message carries.
    Message,
    /// Brand, 3-D Secure, and whether it is the first attempt.
    BrandThreeDsFirst,
    /// These and the size of the amount.
    BrandThreeDsFirstSize,
    /// The size of the amount, and the eighth of the day.
    SizeDayPart,
}

impl Property {
    pub const EVERY: [Self; 17] = [
        Self::Any,
        Self::Merchant,
        Self::Bin,
        Self::Country,
        Self::Brand,
        Self::BrandThreeDs,
        Self::BrandThreeDsCountry,
        Self::AmountBand,
        Self::Hour,
        Self::AttemptNumber,
        Self::PreviousPsp,
        Self::Customer,
        Self::Token,
        Self::Message,
        Self::BrandThreeDsFirst,
        Self::BrandThreeDsFirstSize,
        Self::SizeDayPart,
    ];
    /// Those whose outcomes are counted over all PSPs too.
    pub const ALONE: [Self; 4] = [Self::Merchant, Self::Bin, Self::Country, Self::BrandThreeDs];
}

/// Of what a value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    Merchant,
    Customer,
    Token,
    /// Payments that look the same: for logs that name neither customer nor card.
    Lookalike,
    Order,
    Payment,
    Psp,
    Property(Property),
    PropertyAtPsp(Property),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub subject: Subject,
    pub hash: u64,
}

impl Key {
    pub fn new(subject: Subject, hash: u64) -> Self {
        Self { subject, hash }
    }

    pub fn at_psp(property: Property, hash: u64, psp: u64) -> Self {
        Self { subject: Subject::PropertyAtPsp(property), hash: joined(hash, psp) }
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a, its bits mixed once more (the finalizer of `SplitMix64`), so that any of them may be taken. Never 0: 0 is "absent".
pub(crate) fn hash_of(text: &str) -> u64 {
    let hash = text.bytes().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    mixed(hash)
}

/// 0 for a text that is absent or empty.
pub(super) fn hash_or_absent(text: Option<&str>) -> u64 {
    text.filter(|text| !text.is_empty()).map_or(0, hash_of)
}

/// Of two values together; the order matters.
pub(super) fn joined(first: u64, second: u64) -> u64 {
    mixed(first.rotate_left(32) ^ second.wrapping_mul(FNV_PRIME))
}

fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash ^ (hash >> 31)).max(1)
}

/// The hashes of a payment's properties at one attempt; 0 where it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traits([u64; Property::EVERY.len()]);

impl Traits {
    pub fn get(&self, property: Property) -> u64 {
        self.0[property as usize]
    }

    /// `usual_amount`: the merchant's, in major units, as of just before the attempt.
    pub fn of(payment: &Payment, at: EpochMs, attempt_number: i32, previous_psp: u64, usual_amount: Option<f64>) -> Self {
        let number = |value: i64| mixed(value as u64 ^ NUMBERS);
        let mut all = [0; Property::EVERY.len()];
        let mut set = |property: Property, hash: u64| all[property as usize] = hash;
        let card = &payment.card;
        let brand = hash_or_absent(Some(&card.brand));
        let brand_three_ds = joined(brand, u64::from(payment.message.three_ds));
        let country = hash_or_absent(country_of(payment));
        set(Property::Any, 1);
        set(Property::Merchant, hash_or_absent(Some(&payment.merchant_id)));
        set(Property::Bin, hash_or_absent(Some(&card.bin)));
        set(Property::Country, country);
        set(Property::Brand, brand);
        set(Property::BrandThreeDs, brand_three_ds);
        set(Property::BrandThreeDsCountry, joined(brand_three_ds, country));
        set(Property::AmountBand, number(amount_band(payment).into()));
        set(Property::Hour, number(at.div_euclid(HOUR_MS).rem_euclid(24)));
        set(Property::AttemptNumber, number(attempt_number.clamp(1, ATTEMPTS_APART).into()));
        set(Property::PreviousPsp, joined(previous_psp, 1));
        set(Property::Customer, hash_or_absent(payment.customer_id.as_deref()));
        set(Property::Token, hash_or_absent(card.token.as_deref()));
        set(Property::Message, message_of(payment));
        let first = joined(brand_three_ds, number((attempt_number <= 1).into()));
        let size = number(size_of(payment, usual_amount));
        set(Property::BrandThreeDsFirst, first);
        set(Property::BrandThreeDsFirstSize, joined(first, size));
        set(Property::SizeDayPart, joined(size, number(at.div_euclid(DAY_PART_MS).rem_euclid(8))));
        Self(all)
    }
}

/// Sets numbers apart from each other: small ones differ in few bits.
const NUMBERS: u64 = 0x9e37_79b9_7f4a_7c15;
pub(super) const HOUR_MS: i64 = 3_600_000;
const DAY_PART_MS: i64 = 3 * HOUR_MS;
/// Later attempts are counted with this one.
pub(super) const ATTEMPTS_APART: i32 = 5;

/// The issuer's country, else the one that the payment names.
pub fn country_of(payment: &Payment) -> Option<&str> {
    let of_payment = || payment.geo.as_ref().and_then(|geo| geo.country.as_deref());
    payment.card.issuer_country.as_deref().or_else(of_payment).filter(|country| !country.is_empty())
}

fn message_of(payment: &Payment) -> u64 {
    let message = &payment.message;
    let initiator: u64 = match message.initiator {
        Initiator::Unknown => 0,
        Initiator::Customer => 1,
        Initiator::Merchant => 2,
    };
    let flags = [message.three_ds, message.avs_sent, message.cvv_sent, message.network_token];
    flags.into_iter().fold(mixed(initiator + 1), |hash, flag| joined(hash, u64::from(flag)))
}

/// What identifies a payment that names neither customer nor card.
pub(super) fn lookalike_of(payment: &Payment) -> u64 {
    let card = &payment.card;
    let parts = [
        hash_or_absent(Some(&payment.merchant_id)),
        hash_or_absent(country_of(payment)),
        hash_or_absent(Some(&payment.currency)),
        hash_or_absent(Some(&card.brand)),
        hash_or_absent(Some(&card.bin)),
        u64::from(payment.message.three_ds),
        payment.amount_minor as u64,
    ];
    parts.into_iter().fold(card.card_type as u64, joined)
}

/// In major units.
pub(super) fn major_amount(payment: &Payment) -> f64 {
    let unit = 10_u64.pow(currency_exponent(&payment.currency));
    payment.amount_minor as f64 / unit as f64
}

/// Upper ends of bands, in major units: where most amounts are, by fifties.
pub(super) const AMOUNT_BANDS: [f64; 22] = [
    1.0, 5.0, 10.0, 20.0, 35.0, 50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0, 450.0, 500.0, 600.0, 750.0, 1_000.0,
    2_000.0, 5_000.0, 10_000.0, 50_000.0,
];

pub(super) fn amount_band(payment: &Payment) -> u32 {
    let amount = major_amount(payment);
    AMOUNT_BANDS.partition_point(|end| *end <= amount) as u32
}

/// Ends of sizes, in parts of the merchant's usual amount: a threshold in money would be another one in each currency.
const SIZES: [f64; 3] = [0.5, 1.0, 1.5];

/// From 1; 0 as long as nothing is usual.
fn size_of(payment: &Payment, usual_amount: Option<f64>) -> i64 {
    let size = |usual: f64| SIZES.partition_point(|end| end * usual < major_amount(payment)) as i64 + 1;
    usual_amount.filter(|usual| *usual > 0.0).map_or(0, size)
}
