//! What a model is asked, by its name: which attempts it learns from, what of them is positive, and which features it may not see.
//!
//! Owns no model: every kind can answer every question, and is trained, measured, judged and staged alike.

use super::table::{Row, Table};
use crate::domain::EpochMs;
use crate::engine::features::Encoder;
use std::collections::HashMap;

/// A payment that was not approved is taken for over when nothing was tried for this long: until then a later attempt may approve it.
const OVER_AFTER_MS: i64 = 3_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Whether a PSP approves an attempt.
    ProcessorSelector,
    /// Whether a PSP approves a retry.
    RetryPredictor,
    /// Whether a payment comes to an approval, by this attempt or a later one, if it goes to this PSP next: what puts PSPs in order.
    RetrySequence,
}

/// What was left out of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unasked {
    /// Attempts that are no retries.
    pub firsts: usize,
    /// Attempts on payments that may not be over.
    pub open: usize,
}

impl Head {
    /// A model of any other name is asked what `processor_selector` is: a variant of it.
    pub fn of(model: &str) -> Self {
        match model {
            "retry_predictor" => Self::RetryPredictor,
            "retry_sequence" => Self::RetrySequence,
            _ => Self::ProcessorSelector,
        }
    }

    /// What its probabilities are of, in words.
    pub fn purpose(self) -> &'static str {
        match self {
            Self::ProcessorSelector => "approval probability of a payment attempt at a candidate PSP",
            Self::RetryPredictor => "approval probability of a retry at a candidate PSP, after the payment failed before",
            Self::RetrySequence => {
                "probability that a payment is approved by this attempt or a later one, when this one goes to a candidate PSP"
            }
        }
    }

    /// Leaves the attempts that the question is about, with the answers as labels.
    pub fn ask(self, table: &mut Table) -> Unasked {
        match self {
            Self::ProcessorSelector => Unasked::default(),
            Self::RetryPredictor => {
                let firsts = table.retain(|_, row| row.attempt_number > 1);
                Unasked { firsts, open: 0 }
            }
            Self::RetrySequence => Unasked { firsts: 0, open: label_by_payment(table) },
        }
    }
}

/// Counts what is left out.
fn label_by_payment(table: &mut Table) -> usize {
    /// The last attempt on a payment, and the last that was approved.
    #[derive(Clone, Copy)]
    struct End {
        at: EpochMs,
        approved: Option<i32>,
    }
    let ended_at = table.rows.last().map_or(0, |row| row.attempted_at).saturating_sub(OVER_AFTER_MS);
    let mut ends: HashMap<String, End> = HashMap::new();
    for row in &table.rows {
        let end = ends.entry(row.payment_id.clone()).or_insert(End { at: row.attempted_at, approved: None });
        end.at = end.at.max(row.attempted_at);
        end.approved = end.approved.max(row.approved.then_some(row.attempt_number));
    }
    let end = |row: &Row| ends.get(&row.payment_id).copied().unwrap_or(End { at: row.attempted_at, approved: None });
    let open = table.retain(|_, row| {
        let end = end(row);
        end.approved.is_some() || end.at <= ended_at
    });
    for row in &mut table.rows {
        row.approved = end(row).approved.is_some_and(|approved| approved >= row.attempt_number);
    }
    open
}

/// Takes the columns of features away that the catalogue forbids to models of this name, and tells which.
pub fn forget_forbidden(model: &str, encoder: &Encoder, table: &mut Table) -> Vec<String> {
    let features = &encoder.catalogue().features;
    let forbidden = encoder.columns().iter().filter(|column| features[column.feature].not_in.iter().any(|it| it == model));
    let names = forbidden.map(|column| column.name.clone());
    let mut taken = Vec::new();
    for name in names {
        if let Some(place) = table.columns.iter().position(|it| it.name == name) {
            table.blank(place);
            taken.push(name);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;
    use crate::engine::features::Catalogue;
    use crate::learn::{Alternative, Kind, Options, Scorer, Shares, train};

    /// Attempts as (payment, number, minute, approved), each with an alternative.
    fn table(attempts: &[(&str, i32, i64, bool)]) -> Table {
        let mut table = fixtures::table(attempts.len(), 1);
        for (row, (payment, number, minute, approved)) in attempts.iter().enumerate() {
            let it = &mut table.rows[row];
            (it.payment_id, it.attempt_number) = ((*payment).to_owned(), *number);
            (it.attempted_at, it.approved) = (minute * 60_000, *approved);
            table.alternatives.push(Alternative {
                row: row as u32,
                psp_id: format!("other-of-{row}").as_str().into(),
                fee_minor: [0, 0],
                propensity: None,
                values: vec![0.0; 4],
            });
        }
        table
    }

    /// Payment, number of the attempt, its label.
    type Kept<'a> = &'a [(&'a str, i32, bool)];

    #[test]
    fn each_name_asks_its_question() {
        let attempts = [
            ("a", 1, 0, false),
            ("b", 1, 1, false),
            ("a", 2, 2, false),
            ("a", 3, 3, true),
            ("c", 1, 4, true),
            ("d", 1, 80, false),
            ("e", 1, 85, false),
            ("e", 2, 90, true),
        ];
        let cases: [(&str, Kept<'_>, Unasked); 4] = [
            (
                "processor_selector",
                &attempts.map(|(payment, number, _, approved)| (payment, number, approved)),
                Unasked::default(),
            ),
            ("retry_predictor", &[("a", 2, false), ("a", 3, true), ("e", 2, true)], Unasked { firsts: 5, open: 0 }),
            (
                "retry_sequence",
                &[
                    ("a", 1, true),
                    ("b", 1, false),
                    ("a", 2, true),
                    ("a", 3, true),
                    ("c", 1, true),
                    ("e", 1, true),
                    ("e", 2, true),
                ],
                Unasked { firsts: 0, open: 1 },
            ),
            ("my_selector", &attempts.map(|(payment, number, _, approved)| (payment, number, approved)), Unasked::default()),
        ];
        for (name, kept, unasked) in cases {
            let mut asked = table(&attempts);
            let whole = asked.clone();
            assert_eq!(Head::of(name).ask(&mut asked), unasked, "{name}");
            let rows: Vec<_> = asked.rows.iter().map(|row| (row.payment_id.as_str(), row.attempt_number, row.approved)).collect();
            assert_eq!(rows, kept, "{name}");
            assert_eq!(asked.alternatives.len(), rows.len(), "{name}");
            for (row, it) in asked.rows.iter().enumerate() {
                let before = whole.rows.iter().position(|other| other.attempt_id == it.attempt_id).unwrap();
                assert_eq!(asked.features(row), whole.features(before), "{name}");
                let alternative = &asked.alternatives[row];
                assert_eq!(
                    (alternative.row, alternative.psp_id.as_str()),
                    (row as u32, format!("other-of-{before}").as_str()),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn an_approval_before_this_attempt_is_not_to_its_credit() {
        let mut asked = table(&[("a", 1, 0, true), ("a", 2, 1, false), ("z", 1, 100, true)]);
        assert_eq!(Head::RetrySequence.ask(&mut asked), Unasked::default());
        assert_eq!(asked.rows.iter().map(|row| row.approved).collect::<Vec<_>>(), [true, false, true]);
    }

    /// The column that matters most is taken away: a model of whatever kind then scores alike, whatever is in it.
    #[test]
    fn no_kind_sees_what_is_forbidden() {
        let mut catalogue = Catalogue::shipped().unwrap();
        let brand = catalogue.features.iter_mut().find(|feature| feature.name == "card_brand").unwrap();
        brand.not_in = vec!["retry_predictor".to_owned()];
        let encoder = Encoder::new(catalogue);
        let whole = fixtures::table(900, 3);
        let mut free = whole.clone();
        assert_eq!(forget_forbidden("processor_selector", &encoder, &mut free), Vec::<String>::new());
        assert_eq!(free, whole);
        let mut kept_from = whole.clone();
        assert_eq!(forget_forbidden("retry_predictor", &encoder, &mut kept_from), ["card_brand"]);
        assert_ne!(kept_from, whole);
        for kind in ["logistic", "forest", "dnn", "wide-deep"] {
            let kind: Kind = kind.parse().unwrap();
            let options = Options { kind, seed: 1, shares: Shares::default(), trials: 1, bags: 1 };
            let score = |table: &Table| {
                let model = train(table, &options, &mut |_, _, _| ()).unwrap().model;
                let scores = |table: &Table| {
                    let mut said = Vec::new();
                    model.score(&table.values, &mut said);
                    said
                };
                scores(&whole) == scores(&kept_from)
            };
            assert!(score(&kept_from), "{} saw it", kind.name());
            assert!(!score(&whole), "{} would have seen it", kind.name());
        }
    }
}
