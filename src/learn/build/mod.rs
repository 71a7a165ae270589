//! From attempts and their outcomes, in order of time, to the table that models learn from.
//!
//! Owns what a row is: the features of an attempt as of just before it, its result as the label, the PSPs that could have taken it
//! as alternatives. Results count in history when they are told, not before, as in a running router: an attempt without outcome is
//! a time-out at its deadline. Never reads a file: whoever reads history hands its events over.

mod logged;

pub use logged::{FromLog, LOGGED_LABEL, LOGGED_PROPENSITY, LeftOut, LoggedFeedback, LoggedRows};

use super::table::{Alternative, Column, ColumnKind, Row, Table};
use crate::domain::payment::{PaymentAttempt, PaymentOutcome, Status};
use crate::domain::{EpochMs, PspId};
use crate::engine::codes::{CodeTable, Verdict};
use crate::engine::features::{AttemptResult, CandidateFacts, Encoder, History, RequestFacts, issuer_country};
use crate::engine::policy::can_take;
use crate::engine::settings::{Merchant, Psp, Settings};
use std::collections::{BTreeMap, HashMap};

/// What makes a row positive, in words.
pub const LABEL: &str = "1 when the attempt was approved; an attempt without outcome by its deadline was not";
/// How propensities come about, in words.
pub const PROPENSITY: &str = "where no decision is named: the PSP's share of the rows that are first attempts, or of those that are later \
                              ones, as if the PSP had been drawn given that alone; else absent";

/// Takes events in order of time, and keeps the rows of attempts in a range of it.
pub struct TableBuilder {
    encoder: Encoder,
    history: History,
    codes: CodeTable,
    attempt_deadline_ms: i64,
    /// How long after its deadline an attempt is waited for.
    lateness_ms: i64,
    merchants: HashMap<String, Merchant>,
    psps: BTreeMap<PspId, Psp>,
    range: [Option<EpochMs>; 2],
    /// Results that are not told yet, by the time when they are and the order of their attempts.
    waiting: BTreeMap<(EpochMs, u64), Waiting>,
    attempts: u64,
    last_at: EpochMs,
    table: Table,
    /// By row: how its PSP was chosen is on record.
    decided: Vec<bool>,
    /// By row: from the attempt to its label.
    delays_ms: Vec<i64>,
    /// Rows without outcome, and when it is due.
    due: Vec<(usize, EpochMs)>,
}

struct Waiting {
    at: EpochMs,
    payment_id: String,
    attempt_id: String,
    verdict: Verdict,
    latency_ms: Option<i64>,
    amount_minor: i64,
    code: Option<String>,
    category: Option<String>,
}

/// A finished table, and what is worth knowing of it.
#[derive(Clone, Debug, Default)]
pub struct Built {
    pub table: Table,
    /// Attempts that history has seen.
    pub attempts: u64,
    /// Attempts in the range whose result was not due yet when history ended: they are no rows.
    pub immature: u64,
    /// From an attempt to its label: median, 99th percentile, longest.
    pub label_delay_ms: [i64; 3],
    /// PSPs of rows that the configuration does not know: they have no fees, and are no alternatives.
    pub unknown_psps: Vec<PspId>,
    /// PSPs that the encoder cannot tell apart by their names.
    pub alike_psps: Vec<PspId>,
}

impl TableBuilder {
    /// Rows are the attempts from `range[0]`, inclusive, to `range[1]`, exclusive.
    pub fn new(encoder: Encoder, settings: &Settings, range: [Option<EpochMs>; 2]) -> Self {
        Self {
            table: empty_table(&encoder),
            history: History::new(encoder.catalogue().history.clone()),
            encoder,
            codes: CodeTable::new(&settings.error_codes),
            attempt_deadline_ms: settings.engine.attempt_deadline_ms,
            lateness_ms: settings.engine.lateness_ms,
            merchants: settings.merchants.iter().map(|merchant| (merchant.id.clone(), merchant.clone())).collect(),
            psps: settings.psps.iter().map(|psp| (psp.id.clone(), psp.clone())).collect(),
            range,
            waiting: BTreeMap::new(),
            attempts: 0,
            last_at: EpochMs::MIN,
            decided: Vec::new(),
            delays_ms: Vec::new(),
            due: Vec::new(),
        }
    }

    /// The next attempt, with what came of it if that is known.
    pub fn accept(&mut self, attempt: &PaymentAttempt, outcome: Option<&PaymentOutcome>) {
        let at = attempt.attempted_at;
        self.tell(at);
        self.history.advance(at);
        self.last_at = self.last_at.max(at);
        let [from, to] = self.range;
        if from.is_none_or(|from| from <= at) && to.is_none_or(|to| at < to) {
            self.add_row(attempt, outcome);
        }
        self.history.attempt(attempt);
        self.attempts += 1;
        self.wait_for(attempt, outcome);
    }

    /// History as it stands: for features of a moment behind the last attempt.
    pub fn into_history(mut self, at: EpochMs) -> (Encoder, History) {
        self.tell(at);
        self.history.advance(at);
        (self.encoder, self.history)
    }

    /// What is told by now counts from now on.
    fn tell(&mut self, now: EpochMs) {
        while let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= now) {
            let ((known_at, _), told) = first.remove_entry();
            self.last_at = self.last_at.max(known_at);
            self.history.advance(known_at);
            self.history.result(&AttemptResult {
                payment_id: &told.payment_id,
                attempt_id: &told.attempt_id,
                at: told.at,
                verdict: told.verdict,
                latency_ms: told.latency_ms,
                amount_minor: told.amount_minor,
                code: told.code.as_deref(),
                category: told.category.as_deref(),
            });
        }
    }

    fn due_at(&self, attempt: &PaymentAttempt) -> EpochMs {
        attempt.attempted_at.saturating_add(attempt.deadline_ms.unwrap_or(self.attempt_deadline_ms))
    }

    fn wait_for(&mut self, attempt: &PaymentAttempt, outcome: Option<&PaymentOutcome>) {
        let due_at = self.due_at(attempt);
        // As in a running router: silence counts at the deadline, and is known when the watermark has come there.
        let silent_at = due_at.saturating_add(self.lateness_ms);
        let in_time = outcome.filter(|outcome| outcome.occurred_at < silent_at);
        let verdict = in_time.map_or(Verdict::Timeout { persistent: true }, |outcome| self.codes.verdict(outcome));
        let at = in_time.map_or(due_at, |outcome| outcome.occurred_at);
        let known_at = in_time.map_or(silent_at, |outcome| outcome.occurred_at);
        let waiting = Waiting {
            at,
            payment_id: attempt.payment.payment_id.clone(),
            attempt_id: attempt.attempt_id.clone(),
            verdict,
            latency_ms: in_time.map(|outcome| outcome.latency_ms),
            amount_minor: attempt.payment.amount_minor,
            code: in_time.and_then(|outcome| outcome.error_code.clone()),
            category: self.category(attempt, in_time),
        };
        self.waiting.insert((known_at, self.attempts), waiting);
    }

    /// As the table of codes names it: what a decision is told of earlier attempts.
    fn category(&self, attempt: &PaymentAttempt, outcome: Option<&PaymentOutcome>) -> Option<String> {
        let code = outcome.and_then(|outcome| outcome.error_code.as_deref())?;
        self.codes.find(&attempt.psp_id, code).map(|code| code.category.clone())
    }

    fn add_row(&mut self, attempt: &PaymentAttempt, outcome: Option<&PaymentOutcome>) {
        let (payment, row) = (&attempt.payment, self.table.rows.len());
        let mut values = vec![0.0; self.encoder.width()];
        let facts = RequestFacts::gather(payment, attempt.attempted_at, attempt.attempt_number, &self.history);
        self.encoder.encode_request(&facts, &mut values);
        let encode = |psp: &PspId, mut values: Vec<f32>| {
            let candidate = CandidateFacts::gather(&facts, psp, &self.history);
            self.encoder.encode_candidate(&facts, &candidate, &mut values);
            values
        };
        for psp in alternatives(&self.merchants, &self.psps, attempt) {
            self.table.alternatives.push(Alternative {
                row: row as u32,
                psp_id: psp.id.clone(),
                fee_minor: fee(Some(psp), &payment.currency),
                propensity: None,
                values: encode(&psp.id, values.clone()),
            });
        }
        self.table.values.extend(encode(&attempt.psp_id, values));
        self.table.rows.push(Row {
            attempt_id: attempt.attempt_id.clone(),
            payment_id: payment.payment_id.clone(),
            attempt_number: attempt.attempt_number,
            attempted_at: attempt.attempted_at,
            psp_id: attempt.psp_id.clone(),
            approved: outcome.is_some_and(|outcome| outcome.status == Status::Approved),
            amount_minor: payment.amount_minor,
            currency: payment.currency.clone(),
            brand: payment.card.brand.clone(),
            issuer_country: issuer_country(payment).unwrap_or_default().to_owned(),
            propensity: None,
            fee_minor: fee(self.psps.get(&attempt.psp_id), &payment.currency),
        });
        self.decided.push(attempt.decision_id.is_some());
        let due_at = self.due_at(attempt);
        if outcome.is_none() {
            self.due.push((row, due_at));
        }
        let known_at = outcome.map_or(due_at, |outcome| outcome.occurred_at);
        self.delays_ms.push(known_at.saturating_sub(attempt.attempted_at));
    }

    /// History has ended.
    pub fn finish(mut self) -> Built {
        let immature: Vec<usize> = self.due.iter().filter(|(_, due_at)| *due_at > self.last_at).map(|(row, _)| *row).collect();
        for row in immature.iter().rev() {
            self.decided.remove(*row);
            self.delays_ms.remove(*row);
        }
        self.table.retain(|row, _| immature.binary_search(&row).is_err());
        estimate_propensities(&mut self.table, &self.decided);
        Built {
            attempts: self.attempts,
            immature: immature.len() as u64,
            ..Built::of(self.table, self.delays_ms, &self.encoder, &self.psps)
        }
    }
}

impl Built {
    /// `delays_ms`: for each row, from the attempt to its label. What was read is for the caller to tell.
    fn of(table: Table, mut delays_ms: Vec<i64>, encoder: &Encoder, psps: &BTreeMap<PspId, Psp>) -> Self {
        delays_ms.sort_unstable();
        let quantile = |share: f64| {
            let place = (delays_ms.len().saturating_sub(1) as f64 * share).round() as usize;
            delays_ms.get(place).copied().unwrap_or_default()
        };
        let mut used: Vec<PspId> = table.rows.iter().map(|row| row.psp_id.clone()).collect();
        used.sort();
        used.dedup();
        Self {
            label_delay_ms: [quantile(0.5), quantile(0.99), quantile(1.0)],
            alike_psps: alike(encoder, psps, &used),
            unknown_psps: used.into_iter().filter(|psp| !psps.contains_key(psp)).collect(),
            table,
            ..Self::default()
        }
    }
}

fn alike(encoder: &Encoder, psps: &BTreeMap<PspId, Psp>, used: &[PspId]) -> Vec<PspId> {
    let every: Vec<&PspId> = used.iter().chain(psps.keys().filter(|psp| !used.contains(psp))).collect();
    let code = |psp: &PspId| encoder.psp_code(psp);
    let has_twin = |psp: &&&PspId| every.iter().any(|other| *other != **psp && code(other) == code(psp));
    every.iter().filter(has_twin).map(|psp| (*psp).clone()).collect()
}

/// The columns of the encoder, without rows.
fn empty_table(encoder: &Encoder) -> Table {
    let columns = encoder.columns().iter().map(|column| Column {
        name: column.name.clone(),
        kind: match column.category_size {
            Some(size) => ColumnKind::Category { size },
            None if column.is_rate => ColumnKind::Rate,
            None => ColumnKind::Number,
        },
        of_candidate: column.of_candidate,
    });
    Table { catalogue: encoder.catalogue().version.clone(), columns: columns.collect(), ..Table::default() }
}

/// The other PSPs that could have taken the attempt.
fn alternatives<'a>(
    merchants: &HashMap<String, Merchant>,
    psps: &'a BTreeMap<PspId, Psp>,
    attempt: &PaymentAttempt,
) -> Vec<&'a Psp> {
    let merchant = merchants.get(&attempt.payment.merchant_id);
    let fits = |psp: &&Psp| psp.id != attempt.psp_id && can_take(psp, merchant, &attempt.payment);
    psps.values().filter(fits).collect()
}

fn fee(psp: Option<&Psp>, currency: &str) -> [i64; 2] {
    let fee = psp.and_then(|psp| psp.fees.iter().find(|fee| fee.currency == currency));
    fee.map_or([0, 0], |fee| [fee.success_minor, fee.failure_minor])
}

/// See [`PROPENSITY`].
fn estimate_propensities(table: &mut Table, decided: &[bool]) {
    let is_first = |row: &Row| row.attempt_number <= 1;
    let mut counts: HashMap<(bool, PspId), f64> = HashMap::new();
    let mut totals = [0.0; 2];
    for row in table.rows.iter().zip(decided).filter(|(_, decided)| !**decided).map(|(row, _)| row) {
        *counts.entry((is_first(row), row.psp_id.clone())).or_default() += 1.0;
        totals[usize::from(is_first(row))] += 1.0;
    }
    let share = |first: bool, psp: &PspId| {
        let count = counts.get(&(first, psp.clone())).copied().unwrap_or_default();
        count / f64::max(totals[usize::from(first)], 1.0)
    };
    for alternative in &mut table.alternatives {
        let row = alternative.row as usize;
        let first = table.rows.get(row).is_some_and(is_first);
        alternative.propensity = (!decided[row]).then(|| share(first, &alternative.psp_id));
    }
    for (row, decided) in table.rows.iter_mut().zip(decided) {
        row.propensity = (!decided).then(|| share(is_first(row), &row.psp_id));
    }
}

#[cfg(test)]
mod tests;
