//! The encoder: facts in, numbers in catalogue order out. The only one there is, for training and for decisions alike.
//!
//! Owns how a value becomes columns: a category's code, a rate's prior, a cycle's two columns, the default of what is missing and
//! its indicator. Allocates nothing while it encodes.

use super::catalogue::{Catalogue, Feature, Function, Kind, Per, Prior, Transform};
use super::facts::{CandidateFacts, RequestFacts};
use super::history::HistoryView;
use super::key::hash_of;
use super::value::Value;
use crate::domain::PspId;
use std::collections::HashMap;

pub struct Encoder {
    catalogue: Catalogue,
    columns: Vec<EncodedColumn>,
    request: Vec<Slot<super::request::RequestFeature>>,
    candidate: Vec<Slot<super::candidate::CandidateFeature>>,
    request_width: usize,
}

/// A column of the encoded rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedColumn {
    /// The feature's name; its sine, cosine and indicator have `_sin`, `_cos`, `_missing` behind it.
    pub name: String,
    /// Index into the catalogue's features.
    pub feature: usize,
    pub of_candidate: bool,
    /// A category with so many codes.
    pub category_size: Option<u32>,
    pub is_rate: bool,
}

struct Slot<F> {
    function: F,
    /// Where its first column is.
    column: usize,
    kind: SlotKind,
    /// Where its indicator is.
    indicator: Option<usize>,
    default: f32,
}

enum SlotKind {
    Number(Transform),
    Flag,
    Rate { prior: RatePrior, weight: f64 },
    Words(Vec<Box<str>>),
    Hashed(u64),
    Coded(u32),
    Cyclic(f64),
}

enum RatePrior {
    Fixed(f64),
    Column(usize),
}

impl Encoder {
    pub fn new(catalogue: Catalogue) -> Self {
        let mut columns = Vec::new();
        let (mut request, mut candidate) = (Vec::new(), Vec::new());
        let mut placed: HashMap<&str, usize> = HashMap::new();
        let mut request_width = 0;
        for (index, feature) in catalogue.features.iter().enumerate() {
            placed.insert(&feature.name, columns.len());
            let (kind, column) = (slot_kind(feature, &placed), columns.len());
            columns.extend(columns_of(index, feature));
            let indicator = feature.indicator.then(|| columns.len() - 1);
            let default = feature.default;
            match feature.function {
                Function::Request(function) => {
                    request.push(Slot { function, column, kind, indicator, default });
                    request_width = columns.len();
                }
                Function::Candidate(function) => candidate.push(Slot { function, column, kind, indicator, default }),
            }
        }
        Self { catalogue, columns, request, candidate, request_width }
    }

    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Those of the request first, then those of the candidate.
    pub fn columns(&self) -> &[EncodedColumn] {
        &self.columns
    }

    /// The places of a feature's columns: its value first, its indicator last.
    pub fn columns_of(&self, feature: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.columns.len()).filter(move |place| self.columns[*place].feature == feature)
    }

    pub fn width(&self) -> usize {
        self.columns.len()
    }

    pub fn request_width(&self) -> usize {
        self.request_width
    }

    /// Fills the first `request_width` of a row's `width` numbers.
    pub fn encode_request(&self, request: &RequestFacts<'_>, row: &mut [f32]) {
        for slot in &self.request {
            slot.put((slot.function)(request), row);
        }
    }

    /// Fills the rest of a row whose first part is there.
    pub fn encode_candidate(&self, request: &RequestFacts<'_>, candidate: &CandidateFacts<'_>, row: &mut [f32]) {
        for slot in &self.candidate {
            slot.put((slot.function)(request, candidate), row);
        }
    }

    /// What a model sees of a PSP's name: two PSPs with one code are one to it.
    pub fn psp_code(&self, psp: &PspId) -> Option<u32> {
        let named = self.columns.iter().find(|column| column.name == "psp")?;
        let slot = self.candidate.iter().find(|slot| self.columns[slot.column] == *named)?;
        let SlotKind::Hashed(buckets) = slot.kind else { return None };
        Some(bucket(hash_of(psp.as_str()), buckets) as u32)
    }

    /// A row for each PSP, one behind the other; `rows` is emptied first, and keeps its memory from one time to the next.
    pub fn encode<'a>(
        &self,
        request: &RequestFacts<'a>,
        psps: impl IntoIterator<Item = &'a PspId>,
        history: &'a dyn HistoryView,
        rows: &mut Vec<f32>,
    ) {
        rows.clear();
        let width = self.width();
        for psp in psps {
            let start = rows.len();
            rows.resize(start + width, 0.0);
            if start == 0 {
                self.encode_request(request, rows);
            } else {
                rows.copy_within(..self.request_width, start);
            }
            let candidate = CandidateFacts::gather(request, psp, history);
            self.encode_candidate(request, &candidate, &mut rows[start..]);
        }
    }
}

fn slot_kind(feature: &Feature, placed: &HashMap<&str, usize>) -> SlotKind {
    match &feature.kind {
        Kind::Number | Kind::Count => SlotKind::Number(feature.transform),
        Kind::Flag => SlotKind::Flag,
        Kind::Rate { prior, prior_weight } => {
            let prior = match prior {
                Prior::Fixed(prior) => RatePrior::Fixed(*prior),
                // The catalogue has checked that it stands before.
                Prior::Feature(name) => RatePrior::Column(placed.get(name.as_str()).copied().unwrap_or_default()),
            };
            SlotKind::Rate { prior, weight: *prior_weight }
        }
        Kind::Vocabulary { words } => SlotKind::Words(words.iter().map(|word| word.as_str().into()).collect()),
        Kind::Hashed { buckets } => SlotKind::Hashed(u64::from(*buckets)),
        Kind::Coded { codes } => SlotKind::Coded(*codes),
        Kind::Cyclic { period } => SlotKind::Cyclic(*period),
    }
}

fn columns_of(index: usize, feature: &Feature) -> Vec<EncodedColumn> {
    let column = |ending: &str, category_size| EncodedColumn {
        name: format!("{}{ending}", feature.name),
        feature: index,
        of_candidate: feature.per == Per::Candidate,
        category_size,
        is_rate: matches!(feature.kind, Kind::Rate { .. }) && ending.is_empty(),
    };
    let mut columns = match &feature.kind {
        Kind::Number | Kind::Count | Kind::Flag | Kind::Rate { .. } => vec![column("", None)],
        Kind::Vocabulary { words } => vec![column("", Some(words.len() as u32 + 1))],
        Kind::Hashed { buckets: size } | Kind::Coded { codes: size } => vec![column("", Some(*size))],
        Kind::Cyclic { .. } => vec![column("_sin", None), column("_cos", None)],
    };
    if feature.indicator {
        columns.push(column("_missing", None));
    }
    columns
}

impl<F> Slot<F> {
    fn put(&self, value: Value<'_>, row: &mut [f32]) {
        let number = match (&self.kind, value) {
            (SlotKind::Number(transform), Value::Number(number)) => Some(transform.apply(number) as f32),
            (SlotKind::Flag, Value::Flag(flag)) => Some(f32::from(u8::from(flag))),
            (SlotKind::Rate { prior, weight }, value) => {
                let (hits, of) = if let Value::Rate { hits, of } = value { (hits, of) } else { (0.0, 0.0) };
                let prior = match prior {
                    RatePrior::Fixed(prior) => *prior,
                    RatePrior::Column(column) => f64::from(row[*column]),
                };
                Some(((hits + prior * weight) / (of + weight)) as f32)
            }
            (SlotKind::Words(words), Value::Text(text)) => {
                words.iter().position(|word| **word == *text).map(|place| (place + 1) as f32)
            }
            (SlotKind::Hashed(buckets), Value::Text(text)) => Some(bucket(hash_of(text), *buckets)),
            (SlotKind::Hashed(buckets), Value::Hash(hash)) => Some(bucket(hash, *buckets)),
            (SlotKind::Coded(codes), Value::Code(code)) if code < *codes => Some(code as f32),
            (SlotKind::Cyclic(period), Value::Phase(position)) => {
                let (sine, cosine) = (std::f64::consts::TAU * position / period).sin_cos();
                row[self.column + 1] = cosine as f32;
                Some(sine as f32)
            }
            _ => None,
        };
        let number = number.filter(|number| number.is_finite());
        row[self.column] = number.unwrap_or(self.default);
        if let Some(indicator) = self.indicator {
            row[indicator] = f32::from(u8::from(number.is_none()));
        }
        if number.is_none() && matches!(self.kind, SlotKind::Cyclic(_)) {
            row[self.column + 1] = 0.0;
        }
    }
}

/// 0 is "unknown".
fn bucket(hash: u64, buckets: u64) -> f32 {
    (1 + hash % (buckets - 1)) as f32
}
