//! What is counted apart: the properties of a payment, at each PSP.
//!
//! A key is a property, a PSP and a 64-bit hash of the value: of a fixed size, made without allocation, the same in every build, and no name or
//! token is kept. Two values of ten million share a key with probability 3 in a million; their counts are then added.

use crate::domain::EpochMs;
use crate::domain::money::currency_exponent;
use crate::domain::payment::{Initiator, Payment};
use serde::{Deserialize, Serialize};
use std::hash::{BuildHasherDefault, Hasher};

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
    /// Who initiates, and what the message carries.
    Message,
    /// Brand, 3-D Secure, and whether it is the first attempt.
    BrandThreeDsFirst,
    /// These and the size of the amount.
    BrandThreeDsFirstSize,
    /// The size of the amount, and the eighth of the day.
    SizeDayPart,
    /// Payments that look the same: of those that name neither customer nor card.
    Lookalike,
}

impl Property {
    pub const EVERY: [Self; 16] = [
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
        Self::Message,
        Self::BrandThreeDsFirst,
        Self::BrandThreeDsFirstSize,
        Self::SizeDayPart,
        Self::Lookalike,
    ];
    /// Those that are asked for over all PSPs too.
    pub const ALONE: [Self; 5] = [Self::Merchant, Self::Bin, Self::Country, Self::BrandThreeDs, Self::Lookalike];

    /// In keys of `stats.profiles`: it is not to change.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Merchant => "merchant",
            Self::Bin => "bin",
            Self::Country => "country",
            Self::Brand => "brand",
            Self::BrandThreeDs => "brand_three_ds",
            Self::BrandThreeDsCountry => "brand_three_ds_country",
            Self::AmountBand => "amount_band",
            Self::Hour => "hour",
            Self::AttemptNumber => "attempt_number",
            Self::PreviousPsp => "previous_psp",
            Self::Message => "message",
            Self::BrandThreeDsFirst => "brand_three_ds_first",
            Self::BrandThreeDsFirstSize => "brand_three_ds_first_size",
            Self::SizeDayPart => "size_day_part",
            Self::Lookalike => "lookalike",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub property: Property,
    /// Hash of the PSP's id.
    pub psp: u64,
    /// Hash of the property's value.
    pub hash: u64,
}

/// Keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }
}

/// Makes hash tables that are the same in every run.
pub type KeyHashing = BuildHasherDefault<KeyHasher>;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// FNV-1a, its bits mixed once more (the finalizer of `SplitMix64`), so that any of them may be taken. Never 0: 0 is "absent".
pub(crate) fn hash_of(text: &str) -> u64 {
    let hash = text.bytes().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
    mixed(hash)
}

/// 0 for a text that is absent or empty.
pub(crate) fn hash_or_absent(text: Option<&str>) -> u64 {
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Traits([u64; Property::EVERY.len()]);

impl Traits {
    pub fn get(&self, property: Property) -> u64 {
        self.0[property as usize]
    }

    /// As numbers of a record, in order of `Property::EVERY`.
    pub fn to_numbers(self) -> Vec<i64> {
        self.0.into_iter().map(u64::cast_signed).collect()
    }

    /// Absent where there are too few; more than are known here are passed over.
    pub fn of_numbers(numbers: &[i64]) -> Option<Self> {
        numbers.first_chunk().map(|numbers| Self(numbers.map(i64::cast_unsigned)))
    }

    /// The keys by which a result at this PSP counts.
    pub(super) fn keys(&self, psp: u64) -> impl Iterator<Item = Key> + use<> {
        let keys = Property::EVERY.into_iter().zip(self.0).filter(|(_, hash)| *hash != 0);
        keys.map(move |(property, hash)| Key { property, psp, hash })
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
        set(Property::Message, message_of(payment));
        let first = joined(brand_three_ds, number((attempt_number <= 1).into()));
        let size = number(size_of(payment, usual_amount));
        set(Property::BrandThreeDsFirst, first);
        set(Property::BrandThreeDsFirstSize, joined(first, size));
        set(Property::SizeDayPart, joined(size, number(at.div_euclid(DAY_PART_MS).rem_euclid(8))));
        if payment.customer_id.is_none() && card.token.is_none() {
            set(Property::Lookalike, lookalike_of(payment));
        }
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
fn lookalike_of(payment: &Payment) -> u64 {
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
