//! Approval of each PSP by what payments are: card, currency, amount, message.

use crate::domain::money::currency_exponent;
use crate::domain::payment::{Algorithm, CardType, Initiator, InstallmentKind, PaymentAttempt};
use crate::learn::interval::Estimate;
use crate::learn::proportion::Proportion;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// Approval by one property of payments, and by PSP.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cut {
    pub by: &'static str,
    /// The most frequent value first, and of each all PSPs together first.
    pub rows: Vec<CutRow>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CutRow {
    pub value: String,
    /// None: all PSPs together.
    pub psp_id: Option<String>,
    /// Attempts with a result.
    pub attempts: u64,
    pub approvals: u64,
    pub approval_rate: Option<Estimate>,
}

impl CutRow {
    fn new(value: &str, psp_id: Option<&str>, counted: Proportion) -> Self {
        Self {
            value: value.to_owned(),
            psp_id: psp_id.map(str::to_owned),
            attempts: counted.trials,
            approvals: counted.successes,
            approval_rate: counted.interval(),
        }
    }
}

/// Values that are shown of one property; the rest is one row.
const VALUES_MAX: usize = 12;
/// Values that are told apart while counting.
const VALUES_HELD_MAX: usize = 10_000;
/// Amounts that are told apart while counting; others count as the nearest one below.
const AMOUNTS_HELD_MAX: usize = 100_000;
const OTHER: &str = "(others)";
/// Attempts are cut into so many bands of amounts, of about as many attempts each.
const BANDS: u64 = 5;
/// Currencies whose amounts are cut into bands.
const CURRENCIES_MAX: usize = 3;
const AMOUNT: &str = "amount";

/// A property with what an attempt has of it; empty: it does not tell.
type Property = (&'static str, fn(&PaymentAttempt) -> String);

const PROPERTIES: [Property; 13] = [
    ("card brand", |it| it.payment.card.brand.clone()),
    ("card type", |it| card_type(it).to_owned()),
    ("issuer country", |it| it.payment.card.issuer_country.clone().unwrap_or_default()),
    ("bank", |it| it.payment.card.bank.clone().unwrap_or_default()),
    ("currency", |it| it.payment.currency.clone()),
    ("country of the order", |it| it.payment.geo.as_ref().and_then(|geo| geo.country.clone()).unwrap_or_default()),
    ("method", |it| it.payment.method.clone()),
    ("CIT or MIT", |it| initiator(it).to_owned()),
    ("CIT or MIT, card type", matrix),
    ("3-D Secure", |it| if it.payment.message.three_ds { "yes" } else { "no" }.to_owned()),
    ("instalments", instalments),
    ("routed by", |it| routed_by(it).to_owned()),
    ("merchant", |it| it.payment.merchant_id.clone()),
];

fn card_type(it: &PaymentAttempt) -> &'static str {
    match it.payment.card.card_type {
        CardType::Unknown => "",
        CardType::Credit => "CREDIT",
        CardType::Debit => "DEBIT",
        CardType::Prepaid => "PREPAID",
    }
}

fn initiator(it: &PaymentAttempt) -> &'static str {
    match it.payment.message.initiator {
        Initiator::Unknown => "",
        Initiator::Customer => "CIT",
        Initiator::Merchant => "MIT",
    }
}

/// Of those that tell both: the experiment's matrix, processors aside.
fn matrix(it: &PaymentAttempt) -> String {
    match (initiator(it), card_type(it)) {
        ("", _) | (_, "") => String::new(),
        (initiator, card_type) => format!("{initiator}, {card_type}"),
    }
}

fn instalments(it: &PaymentAttempt) -> String {
    match it.payment.installments.as_ref().map(|installments| installments.kind) {
        None => "none".to_owned(),
        Some(InstallmentKind::Unknown) => "of a kind unknown".to_owned(),
        Some(InstallmentKind::Msi) => "MSI".to_owned(),
        Some(InstallmentKind::Mci) => "MCI".to_owned(),
    }
}

fn routed_by(it: &PaymentAttempt) -> &'static str {
    match it.algorithm {
        None | Some(Algorithm::Unknown) => "",
        Some(Algorithm::Rule) => "rules",
        Some(Algorithm::Model) => "a model",
        Some(Algorithm::Manual) => "hand",
    }
}

/// Per PSP, by its place.
type ByPsp = Vec<Proportion>;

#[derive(Default)]
pub(super) struct Cuts {
    by_value: [HashMap<String, (u64, ByPsp)>; PROPERTIES.len()],
    by_amount: BTreeMap<String, BTreeMap<i64, ByPsp>>,
    amounts: usize,
}

fn at(counted: &mut ByPsp, psp: usize) -> &mut Proportion {
    if counted.len() <= psp {
        counted.resize(psp + 1, Proportion::default());
    }
    &mut counted[psp]
}

fn add(to: &mut ByPsp, more: &ByPsp) {
    for (psp, counted) in more.iter().enumerate() {
        at(to, psp).add(*counted);
    }
}

fn sum(counted: &ByPsp) -> Proportion {
    let mut all = Proportion::default();
    for it in counted {
        all.add(*it);
    }
    all
}

impl Cuts {
    pub(super) fn count(&mut self, attempt: &PaymentAttempt, psp: usize, approved: Option<bool>) {
        let result = Proportion::new(u64::from(approved == Some(true)), u64::from(approved.is_some()));
        for ((_, of), values) in PROPERTIES.iter().zip(&mut self.by_value) {
            let value = of(attempt);
            let is_held = values.len() < VALUES_HELD_MAX || values.contains_key(&value);
            let (attempts, counted) = values.entry(if is_held { value } else { OTHER.to_owned() }).or_default();
            *attempts += 1;
            at(counted, psp).add(result);
        }
        let payment = &attempt.payment;
        let amounts = self.by_amount.entry(payment.currency.clone()).or_default();
        let below = amounts.range(..=payment.amount_minor).next_back().map(|(amount, _)| *amount);
        let amount = match below {
            Some(below) if self.amounts >= AMOUNTS_HELD_MAX => below,
            _ => payment.amount_minor,
        };
        self.amounts += usize::from(!amounts.contains_key(&amount));
        at(amounts.entry(amount).or_default(), psp).add(result);
    }

    /// What varies; what is the same in all attempts; what none tells.
    pub(super) fn finish(self, psps: &[String]) -> (Vec<Cut>, BTreeMap<&'static str, String>, Vec<&'static str>) {
        let (mut cuts, mut constant, mut untold) = (Vec::new(), BTreeMap::new(), Vec::new());
        for ((by, _), values) in PROPERTIES.into_iter().zip(self.by_value) {
            if values.keys().all(String::is_empty) {
                untold.push(by);
            } else if values.len() == 1 {
                constant.extend(values.into_keys().map(|value| (by, value)));
            } else {
                cuts.push(Cut { by, rows: rows(values, psps) });
            }
        }
        let amounts = bands(self.by_amount, psps);
        // Bands follow the currencies that they are in.
        cuts.extend((!amounts.is_empty()).then_some(Cut { by: AMOUNT, rows: amounts }));
        (cuts, constant, untold)
    }
}

fn rows(values: HashMap<String, (u64, ByPsp)>, psps: &[String]) -> Vec<CutRow> {
    let mut values: Vec<(String, (u64, ByPsp))> = values.into_iter().collect();
    values.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
    if values.len() > VALUES_MAX {
        let mut others = ByPsp::default();
        for (_, (_, counted)) in values.split_off(VALUES_MAX - 1) {
            add(&mut others, &counted);
        }
        values.push((OTHER.to_owned(), (0, others)));
    }
    let named = |value: String| if value.is_empty() { "not told".to_owned() } else { value };
    values.into_iter().flat_map(|(value, (_, counted))| rows_of(&named(value), &counted, psps)).collect()
}

fn rows_of(value: &str, counted: &ByPsp, psps: &[String]) -> Vec<CutRow> {
    let each = psps.iter().zip(counted).filter(|(_, counted)| counted.trials > 0);
    let mut each: Vec<CutRow> = each.map(|(psp, counted)| CutRow::new(value, Some(psp), *counted)).collect();
    each.sort_by(|a, b| b.attempts.cmp(&a.attempts).then_with(|| a.psp_id.cmp(&b.psp_id)));
    std::iter::once(CutRow::new(value, None, sum(counted))).chain(each).collect()
}

/// Bands of about as many attempts each, of the currencies with most of them.
fn bands(by_amount: BTreeMap<String, BTreeMap<i64, ByPsp>>, psps: &[String]) -> Vec<CutRow> {
    let total = |amounts: &BTreeMap<i64, ByPsp>| amounts.values().map(|counted| sum(counted).trials).sum::<u64>();
    let mut currencies: Vec<(u64, String, BTreeMap<i64, ByPsp>)> =
        by_amount.into_iter().map(|(currency, amounts)| (total(&amounts), currency, amounts)).collect();
    currencies.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    let mut told = Vec::new();
    for (all, currency, amounts) in currencies.into_iter().take(CURRENCIES_MAX).filter(|(all, ..)| *all > 0) {
        let (mut so_far, mut closed, mut band, mut from) = (0, 0, ByPsp::default(), None);
        let last = amounts.keys().next_back().copied();
        for (amount, counted) in amounts {
            let from_here = *from.get_or_insert(amount);
            add(&mut band, &counted);
            so_far += sum(&counted).trials;
            if so_far * BANDS >= all * (closed + 1) || Some(amount) == last {
                told.extend(rows_of(&label(&currency, from_here, amount), &band, psps));
                closed = so_far * BANDS / all;
                (band, from) = (ByPsp::default(), None);
            }
        }
    }
    told
}

fn label(currency: &str, from: i64, to: i64) -> String {
    let exponent = currency_exponent(currency);
    let unit = 10_i64.pow(exponent);
    let shown = |minor: i64| match exponent {
        0 => minor.to_string(),
        digits => format!("{}.{:0width$}", minor / unit, minor % unit, width = digits as usize),
    };
    if from == to { format!("{currency} {}", shown(from)) } else { format!("{currency} {} to {}", shown(from), shown(to)) }
}
