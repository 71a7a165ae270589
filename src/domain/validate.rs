//! What makes an input record acceptable: checked on entry, so that nothing behind it has to ask again.

use super::EpochMs;
use super::learning::{StatsDelta, Tally};
use super::payment::{Payment, PaymentAttempt, PaymentOutcome, RoutingRequest, Status};
use thiserror::Error;

/// A record that no engine should see. The sender is to act: it goes to the dead-letter topic with this text.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field} is {value:?}: {rule}")]
pub struct InvalidRecord {
    pub field: &'static str,
    /// The offending value, shortened.
    pub value: String,
    pub rule: &'static str,
}

pub trait Validate {
    fn validate(&self) -> Result<(), InvalidRecord>;
}

const ID_BYTES_MAX: usize = 256;
const TEXT_BYTES_MAX: usize = 1024;
/// 2000-01-01 and 2100-01-01: a time outside is a unit mistake (seconds, microseconds), not a payment.
const TIME_MS_MIN: EpochMs = 946_684_800_000;
const TIME_MS_MAX: EpochMs = 4_102_444_800_000;
/// A year: longer durations are a unit mistake.
const DURATION_MS_MAX: i64 = 366 * 86_400_000;
const AMOUNT_MINOR_MAX: i64 = 1_000_000_000_000_000;
const LIST_LEN_MAX: usize = 100;
const COUNT_MAX: i64 = 1_000_000_000;

impl Validate for Payment {
    fn validate(&self) -> Result<(), InvalidRecord> {
        id("payment_id", &self.payment_id)?;
        text("order_id", &self.order_id, ID_BYTES_MAX)?;
        id("merchant_id", &self.merchant_id)?;
        optional_id("customer_id", self.customer_id.as_deref())?;
        number("amount_minor", self.amount_minor, 0, AMOUNT_MINOR_MAX, "must be 0 to 10^15 minor units")?;
        check("currency", &self.currency, is_currency(&self.currency), "must be an ISO 4217 code, three upper-case letters")?;
        check("card.bin", &self.card.bin, is_bin(&self.card.bin), "must be 6 or 8 digits, or empty; never a card number")?;
        text("card.brand", &self.card.brand, ID_BYTES_MAX)?;
        text("card.bank", self.card.bank.as_deref().unwrap_or(""), TEXT_BYTES_MAX)?;
        text("card.issuer_country", self.card.issuer_country.as_deref().unwrap_or(""), ID_BYTES_MAX)?;
        let token = self.card.token.as_deref().unwrap_or("");
        text("card.token", token, ID_BYTES_MAX)?;
        if looks_like_card_number(token) {
            return Err(InvalidRecord {
                field: "card.token",
                value: "(hidden)".into(),
                rule: "looks like a card number; send a token",
            });
        }
        text("method", &self.method, ID_BYTES_MAX)?;
        text("sub_method", self.sub_method.as_deref().unwrap_or(""), ID_BYTES_MAX)?;
        let mcc = &self.message.mcc;
        let mcc_ok = mcc.is_empty() || (mcc.len() == 4 && mcc.bytes().all(|b| b.is_ascii_digit()));
        check("message.mcc", mcc, mcc_ok, "must be four digits, or empty")
    }
}

impl Validate for PaymentAttempt {
    fn validate(&self) -> Result<(), InvalidRecord> {
        self.payment.validate()?;
        id("attempt_id", &self.attempt_id)?;
        number("attempt_number", self.attempt_number.into(), 1, 10_000, "must be 1 or more")?;
        id("psp_id", self.psp_id.as_str())?;
        time("attempted_at", self.attempted_at)?;
        duration("deadline_ms", self.deadline_ms.unwrap_or(0))?;
        optional_id("decision_id", self.decision_id.as_deref())?;
        list("skip_reasons", self.skip_reasons.len())
    }
}

impl Validate for PaymentOutcome {
    fn validate(&self) -> Result<(), InvalidRecord> {
        id("attempt_id", &self.attempt_id)?;
        id("payment_id", &self.payment_id)?;
        optional_id("customer_id", self.customer_id.as_deref())?;
        id("psp_id", self.psp_id.as_str())?;
        check("status", "UNKNOWN", self.status != Status::Unknown, "must be APPROVED, DECLINED, ERROR or TIMEOUT")?;
        text("error_code", self.error_code.as_deref().unwrap_or(""), ID_BYTES_MAX)?;
        text("error_category", self.error_category.as_deref().unwrap_or(""), ID_BYTES_MAX)?;
        duration("latency_ms", self.latency_ms)?;
        time("occurred_at", self.occurred_at)
    }
}

impl Validate for RoutingRequest {
    fn validate(&self) -> Result<(), InvalidRecord> {
        self.payment.validate()?;
        id("request_id", &self.request_id)?;
        time("requested_at", self.requested_at)?;
        duration("deadline_ms", self.deadline_ms.unwrap_or(0))?;
        list("allowed_psps", self.allowed_psps.as_ref().map_or(0, Vec::len))?;
        list("previous_attempts", self.previous_attempts.as_ref().map_or(0, Vec::len))?;
        for previous in self.previous_attempts.iter().flatten() {
            id("previous_attempts.attempt_id", &previous.attempt_id)?;
            time("previous_attempts.attempted_at", previous.attempted_at)?;
        }
        Ok(())
    }
}

/// Ours and internal, and yet on a topic: an absurd count or time would stay in the windows, or pull them along.
impl Validate for StatsDelta {
    fn validate(&self) -> Result<(), InvalidRecord> {
        id("psp_id", self.psp_id.as_str())?;
        for entry in &self.tallies {
            text("tallies.segment.value", &entry.segment.value, TEXT_BYTES_MAX)?;
            let latest = TIME_MS_MAX + 2 * DURATION_MS_MAX;
            number("tallies.tile_start", entry.tile_start, TIME_MS_MIN, latest, "must lie between the years 2000 and 2102")?;
            counts(&entry.tally)?;
        }
        for entry in &self.diverted {
            text("diverted.segment.value", &entry.segment.value, TEXT_BYTES_MAX)?;
            id("diverted.to", entry.to.as_str())?;
            number("diverted.payments", entry.payments, 0, COUNT_MAX, "must be a count of 0 to 10^9")?;
        }
        for result in &self.results {
            let latest = TIME_MS_MAX + 2 * DURATION_MS_MAX;
            number("results.at", result.at, TIME_MS_MIN, latest, "must lie between the years 2000 and 2102")?;
            let is_amount = (0.0..=100.0).contains(&result.amount_log);
            check("results.amount_log", &result.amount_log.to_string(), is_amount, "must be the logarithm of an amount")?;
        }
        if !self.overrides.is_empty() {
            time("watermark", self.watermark)?;
        }
        for order in &self.overrides {
            text("overrides.segment.value", &order.segment.value, TEXT_BYTES_MAX)?;
            text("overrides.reason", &order.reason, TEXT_BYTES_MAX)?;
            text("overrides.by", &order.by, TEXT_BYTES_MAX)?;
            let for_ms = order.for_ms.unwrap_or(1);
            number("overrides.for_ms", for_ms, 1, DURATION_MS_MAX, "must be above 0 and at most 366 days")?;
        }
        Ok(())
    }
}

fn counts(tally: &Tally) -> Result<(), InvalidRecord> {
    let Tally { attempts, approvals, soft_declines, hard_declines, timeouts, errors, persistent, overdue, late, .. } = *tally;
    let plain = [attempts, approvals, soft_declines, hard_declines, timeouts, errors, persistent, overdue, late];
    let latencies = tally.latency.iter().map(|bucket| bucket.count);
    let codes = tally.codes.iter().map(|code| code.count);
    let mut all = plain.into_iter().chain(latencies).chain(codes);
    all.try_for_each(|count| number("tallies.tally", count, 0, COUNT_MAX, "must hold counts of 0 to 10^9"))
}

/// When a record was written, by its sender's clock or the broker's: what event times are held against.
pub fn written_at(at: EpochMs) -> Result<(), InvalidRecord> {
    time("the record's timestamp", at)
}

fn check(field: &'static str, value: &str, holds: bool, rule: &'static str) -> Result<(), InvalidRecord> {
    if holds {
        return Ok(());
    }
    let masked = if looks_like_card_number(value) { "(hidden)".to_owned() } else { value.chars().take(64).collect() };
    Err(InvalidRecord { field, value: masked, rule })
}

fn id(field: &'static str, value: &str) -> Result<(), InvalidRecord> {
    // Almost every id is plain ASCII with a letter in it, so that it is no number either.
    let is_plain = value.bytes().all(|byte| byte.is_ascii_graphic()) && value.bytes().any(|byte| byte.is_ascii_alphabetic());
    if is_plain && value.len() <= ID_BYTES_MAX {
        return Ok(());
    }
    check(field, value, !value.trim().is_empty(), "must not be empty")?;
    check(field, value, !value.chars().any(char::is_control), "must not hold control characters")?;
    check(field, value, !looks_like_card_number(value), "looks like a card number; send a token")?;
    text(field, value, ID_BYTES_MAX)
}

fn optional_id(field: &'static str, value: Option<&str>) -> Result<(), InvalidRecord> {
    value.map_or(Ok(()), |v| id(field, v))
}

fn text(field: &'static str, value: &str, bytes_max: usize) -> Result<(), InvalidRecord> {
    check(field, value, value.len() <= bytes_max, "is too long")
}

fn time(field: &'static str, at: EpochMs) -> Result<(), InvalidRecord> {
    number(field, at, TIME_MS_MIN, TIME_MS_MAX, "must be milliseconds since 1970 between the years 2000 and 2100")
}

fn duration(field: &'static str, ms: i64) -> Result<(), InvalidRecord> {
    number(field, ms, 0, DURATION_MS_MAX, "must be 0 to a year in milliseconds")
}

fn list(field: &'static str, len: usize) -> Result<(), InvalidRecord> {
    number(field, i64::try_from(len).unwrap_or(i64::MAX), 0, LIST_LEN_MAX as i64, "has too many entries")
}

fn number(field: &'static str, value: i64, min: i64, max: i64, rule: &'static str) -> Result<(), InvalidRecord> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(InvalidRecord { field, value: value.to_string(), rule })
}

fn is_currency(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())
}

fn is_bin(bin: &str) -> bool {
    matches!(bin.len(), 0 | 6 | 8) && bin.bytes().all(|b| b.is_ascii_digit())
}

/// 13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1), separators aside.
fn looks_like_card_number(text: &str) -> bool {
    if text.bytes().any(|b| !(b.is_ascii_digit() || b == b' ' || b == b'-')) {
        return false;
    }
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    if !(13..=19).contains(&digits.len()) {
        return false;
    }
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(i, &d)| if i % 2 == 0 { d } else { d * 2 - if d > 4 { 9 } else { 0 } }).sum();
    sum.is_multiple_of(10)
}
