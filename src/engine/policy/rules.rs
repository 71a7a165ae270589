//! Rules of the merchant: which payments they match, and the order of PSPs that they want.

use crate::domain::PspId;
use crate::domain::payment::Payment;
use crate::engine::hashing::unit_interval;
use crate::engine::settings::{BinRange, Conditions, HardRule, StaticRule};
use std::cmp::Ordering;

/// Hard rules by id, static rules by priority (highest first) then id: the order in which they are asked.
#[derive(Clone, Debug, Default)]
pub(super) struct RuleBook {
    hard: Vec<HardRule>,
    rules: Vec<StaticRule>,
}

impl RuleBook {
    pub(super) fn new(hard: &[HardRule], rules: &[StaticRule]) -> Self {
        let mut book = Self { hard: hard.to_vec(), rules: rules.to_vec() };
        book.hard.sort_by(|a, b| a.id.cmp(&b.id));
        book.rules.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.id.cmp(&b.id)));
        book
    }

    pub(super) fn hard_rule(&self, payment: &Payment) -> Option<&HardRule> {
        self.hard.iter().find(|rule| matches(&rule.when, payment))
    }

    /// Rules that match and count, best first.
    pub(super) fn live<'a>(&'a self, payment: &'a Payment) -> impl Iterator<Item = &'a StaticRule> {
        self.rules.iter().filter(move |rule| !rule.shadow && matches(&rule.when, payment))
    }

    /// Rules that match and are only watched, best first.
    pub(super) fn shadow<'a>(&'a self, payment: &'a Payment) -> impl Iterator<Item = &'a StaticRule> {
        self.rules.iter().filter(move |rule| rule.shadow && matches(&rule.when, payment))
    }

    pub(super) fn hard(&self) -> &[HardRule] {
        &self.hard
    }

    pub(super) fn all(&self) -> &[StaticRule] {
        &self.rules
    }
}

/// Whether all conditions that are given hold. Codes and names compare without regard to case.
pub(super) fn matches(when: &Conditions, payment: &Payment) -> bool {
    let card = &payment.card;
    let installment_kind = payment.installments.as_ref().map(|installments| installments.kind);
    named(when.merchants.as_deref(), Some(&payment.merchant_id))
        && named(when.brands.as_deref(), Some(&card.brand))
        && named(when.currencies.as_deref(), Some(&payment.currency))
        && named(when.issuer_countries.as_deref(), card.issuer_country.as_deref())
        && named(when.methods.as_deref(), Some(&payment.method))
        && named(when.sub_methods.as_deref(), payment.sub_method.as_deref())
        && when.card_types.as_ref().is_none_or(|types| types.contains(&card.card_type))
        && when.initiators.as_ref().is_none_or(|initiators| initiators.contains(&payment.message.initiator))
        && when.installment_kinds.as_ref().is_none_or(|kinds| installment_kind.is_some_and(|kind| kinds.contains(&kind)))
        && when.bin_ranges.as_ref().is_none_or(|ranges| ranges.iter().any(|range| in_range(&card.bin, range)))
        && when.amount_minor_min.is_none_or(|min| payment.amount_minor >= min)
        && when.amount_minor_max.is_none_or(|max| payment.amount_minor <= max)
        && when.three_ds.is_none_or(|wanted| payment.message.three_ds == wanted)
}

fn named(wanted: Option<&[String]>, value: Option<&str>) -> bool {
    wanted.is_none_or(|names| value.is_some_and(|value| names.iter().any(|name| name.eq_ignore_ascii_case(value))))
}

/// Digit by digit on the shorter of both lengths: a 6-digit BIN lies in the 8-digit range that it begins.
fn in_range(bin: &str, range: &BinRange) -> bool {
    !bin.is_empty()
        && order_on_shorter(bin, &range.from) != Ordering::Less
        && order_on_shorter(bin, &range.to) != Ordering::Greater
}

fn order_on_shorter(a: &str, b: &str) -> Ordering {
    let len = a.len().min(b.len());
    a.as_bytes()[..len].cmp(&b.as_bytes()[..len])
}

/// The order that a rule wants among the PSPs that `usable` lets through, as a lottery: one outcome for an ordered list,
/// one outcome for each PSP that a split may draw first.
pub(super) fn lottery_of(rule: &StaticRule, usable: impl Fn(&PspId) -> bool) -> Vec<(f64, Vec<PspId>)> {
    if rule.split.is_empty() {
        let mut order: Vec<PspId> = Vec::new();
        for psp in rule.psps.iter().filter(|psp| usable(psp)) {
            if !order.contains(psp) {
                order.push(psp.clone());
            }
        }
        return if order.is_empty() { Vec::new() } else { vec![(1.0, order)] };
    }
    let mut parts: Vec<(u32, PspId)> = rule
        .split
        .iter()
        .filter(|part| part.weight > 0 && usable(&part.psp))
        .map(|part| (part.weight, part.psp.clone()))
        .collect();
    parts.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let total: f64 = parts.iter().map(|(weight, _)| f64::from(*weight)).sum();
    let first = |drawn: &(u32, PspId)| {
        let others = parts.iter().filter(|part| part.1 != drawn.1).map(|part| part.1.clone());
        (f64::from(drawn.0) / total, std::iter::once(drawn.1.clone()).chain(others).collect())
    };
    parts.iter().map(first).collect()
}

/// Which outcome of a rule's lottery a payment draws: the same on every instance and in every replay.
pub(super) fn draw(lottery: &[(f64, Vec<PspId>)], rule: &StaticRule, salt: &str, payment_id: &str) -> usize {
    if lottery.len() < 2 {
        return 0;
    }
    let point = unit_interval(&format!("{salt}/split/{}", rule.id), payment_id);
    let mut reached = 0.0;
    for (index, (share, _)) in lottery.iter().enumerate() {
        reached += share;
        if point < reached {
            return index;
        }
    }
    lottery.len() - 1
}

/// The rule's order without any draw: for ties, where chance has no business.
pub(super) fn plain_order(rule: &StaticRule) -> Vec<PspId> {
    lottery_of(rule, |_| true).into_iter().next().map(|(_, order)| order).unwrap_or_default()
}
