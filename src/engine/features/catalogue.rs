//! The catalogue: what `schemas/features.toml` says of each feature, read and checked once.
//!
//! The file is the authority on names, order, kinds, priors, sizes, transforms and defaults; the functions of `request` and
//! `candidate` say the values. Each feature of the file has one function and each function its feature, or nothing is read. The
//! SHA-256 of the file is the version that ties a model to its encoder.

use super::candidate::{self, CandidateFeature};
use super::key::HOUR_MS;
use super::request::{self, RequestFeature};
use super::state::HalfLives;
use crate::domain::EpochMs;
use crate::engine::hashing::sha256_hex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use thiserror::Error;

const SHIPPED: &str = include_str!("../../../schemas/features.toml");

/// What is wrong with the file. Whoever changed it is to act.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CatalogueError {
    #[error("the feature catalogue is not readable: {0}")]
    Syntax(String),
    #[error("feature {name:?} of the catalogue: {problem}")]
    Feature { name: String, problem: String },
    #[error("the code has a feature {0:?} that the catalogue does not list")]
    NotListed(String),
    #[error("the catalogue's [history]: {0}")]
    History(String),
}

/// How long history counts. Part of the file: with other half-lives a feature is another one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HistorySettings {
    /// A result counts half as much after this long, in features that are called recent.
    pub fast_half_life_hours: f64,
    /// ... in the others.
    pub slow_half_life_hours: f64,
    /// What had no news for this long is forgotten.
    pub retention_days: i64,
    /// Likewise the attempts on one payment.
    pub chain_retention_days: i64,
    /// Values of each kind that are kept at most.
    pub entities_max: usize,
    /// Counts over many payments move on at whole multiples of so many seconds ...
    pub count_every_seconds: i64,
    /// ... and are asked for so long after that at the earliest: by then every instance knows them.
    pub count_delay_seconds: i64,
}

impl HistorySettings {
    pub fn half_lives(&self) -> HalfLives {
        let ms = |hours: f64| hours * HOUR_MS as f64;
        HalfLives { fast_ms: ms(self.fast_half_life_hours), slow_ms: ms(self.slow_half_life_hours) }
    }

    /// Up to when results are in the counts over many payments that a feature at this time reads.
    pub fn counted_to(&self, at: EpochMs) -> EpochMs {
        let every_ms = self.count_every_seconds * 1_000;
        at.saturating_sub(self.count_delay_seconds * 1_000).div_euclid(every_ms).saturating_mul(every_ms)
    }

    pub fn retention_ms(&self) -> i64 {
        self.retention_days * 24 * HOUR_MS
    }

    pub(super) fn chain_retention_ms(&self) -> i64 {
        self.chain_retention_days * 24 * HOUR_MS
    }

    fn check(&self) -> Result<(), CatalogueError> {
        let half_lives = [self.fast_half_life_hours, self.slow_half_life_hours];
        if !half_lives.iter().all(|hours| hours.is_finite() && *hours > 0.0) {
            return Err(CatalogueError::History("half-lives are longer than nothing".to_owned()));
        }
        let days = [self.retention_days, self.chain_retention_days];
        if !days.iter().all(|days| (1..=10_000).contains(days)) || self.entities_max == 0 {
            return Err(CatalogueError::History("retention is 1 to 10,000 days, and entities_max at least 1".to_owned()));
        }
        if !(1..=3_600).contains(&self.count_every_seconds) || !(1..=3_600).contains(&self.count_delay_seconds) {
            return Err(CatalogueError::History(
                "counts move on every 1 to 3,600 seconds, known 1 to 3,600 seconds later".to_owned(),
            ));
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    Card,
    Transaction,
    Message,
    Airline,
    Customer,
    Retry,
    Time,
    GeoDevice,
    Candidate,
    PspState,
    History,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// The same for every candidate.
    Request,
    Candidate,
}

/// What is made of a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transform {
    #[default]
    None,
    /// ln(1 + x); of negative numbers the same mirrored.
    Log1p,
}

impl Transform {
    pub(super) fn apply(self, x: f64) -> f64 {
        match self {
            Self::None => x,
            Self::Log1p => x.abs().ln_1p().copysign(x),
        }
    }
}

/// What is assumed of a rate before anything is counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Prior {
    Fixed(f64),
    /// An earlier feature, which is a rate itself.
    Feature(String),
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Kind {
    Number,
    Count,
    Flag,
    /// (hits + prior × weight) / (all + weight)
    Rate {
        prior: Prior,
        prior_weight: f64,
    },
    /// Code i + 1 is the i-th word; 0 is any other.
    Vocabulary {
        words: Vec<String>,
    },
    /// Codes 1 to `buckets - 1` by hash.
    Hashed {
        buckets: u32,
    },
    /// The value is the code, below `codes`.
    Coded {
        codes: u32,
    },
    /// Two columns, sine and cosine of the position in the period.
    Cyclic {
        period: f64,
    },
}

#[derive(Clone, Copy)]
pub(super) enum Function {
    Request(RequestFeature),
    Candidate(CandidateFeature),
}

#[derive(Clone, Serialize)]
pub struct Feature {
    pub name: String,
    pub group: Group,
    pub per: Per,
    #[serde(flatten)]
    pub kind: Kind,
    /// The field or aggregate that it is taken from.
    pub source: String,
    pub transform: Transform,
    /// The value when it is missing, transformed already.
    pub default: f32,
    /// Whether a column of its own, 1 when the value is missing, follows.
    pub indicator: bool,
    pub description: String,
    /// What it may not be used for.
    pub not_in: Vec<String>,
    #[serde(skip)]
    pub(super) function: Function,
}

/// What `not_in` may name: models, and rules that are proposed to people.
const USES: [&str; 4] = ["processor_selector", "retry_predictor", "retry_sequence", "proposed_rules"];

#[derive(Clone)]
pub struct Catalogue {
    /// SHA-256 of the file.
    pub version: String,
    pub history: HistorySettings,
    /// Those of the request first.
    pub features: Vec<Feature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCatalogue {
    history: HistorySettings,
    features: Vec<RawFeature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFeature {
    name: String,
    group: Group,
    #[serde(rename = "type")]
    kind: RawKind,
    source: String,
    description: String,
    #[serde(default)]
    transform: Transform,
    #[serde(default)]
    default: f32,
    #[serde(default)]
    indicator: bool,
    #[serde(default)]
    not_in: Vec<String>,
    prior: Option<RawPrior>,
    prior_weight: Option<f64>,
    vocabulary: Option<Vec<String>>,
    buckets: Option<u32>,
    codes: Option<u32>,
    period: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawKind {
    Number,
    Count,
    Flag,
    Rate,
    Category,
    Cyclic,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawPrior {
    Fixed(f64),
    Feature(String),
}

impl Catalogue {
    /// The one that the program is built with.
    pub fn shipped() -> Result<Self, CatalogueError> {
        Self::parse(SHIPPED)
    }

    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let raw: RawCatalogue = toml::from_str(text).map_err(|error| CatalogueError::Syntax(error.to_string()))?;
        raw.history.check()?;
        let mut functions = functions();
        let mut features: Vec<Feature> = Vec::with_capacity(raw.features.len());
        for raw in raw.features {
            let name = raw.name.clone();
            let wrong = |problem: &str| CatalogueError::Feature { name: name.clone(), problem: problem.to_owned() };
            let function = functions.remove(name.as_str());
            let function = function.ok_or_else(|| wrong("is listed twice, or the code has no function for it"))?;
            let feature = feature(raw, function, &features).map_err(|problem| wrong(&problem))?;
            if feature.per == Per::Request && features.last().is_some_and(|before| before.per == Per::Candidate) {
                return Err(wrong("is of the request and stands behind one of a candidate"));
            }
            features.push(feature);
        }
        match functions.keys().min() {
            Some(name) => Err(CatalogueError::NotListed((*name).to_owned())),
            None => Ok(Self { version: sha256_hex(text), history: raw.history, features }),
        }
    }
}

fn functions() -> HashMap<&'static str, Function> {
    let of_request = request::EVERY.iter().copied().flatten().map(|(name, function)| (*name, Function::Request(*function)));
    let of_candidate = candidate::EVERY.iter().copied().flatten().map(|(name, function)| (*name, Function::Candidate(*function)));
    of_request.chain(of_candidate).collect()
}

fn feature(raw: RawFeature, function: Function, before: &[Feature]) -> Result<Feature, String> {
    let per = match function {
        Function::Request(_) => Per::Request,
        Function::Candidate(_) => Per::Candidate,
    };
    if raw.source.is_empty() || raw.description.is_empty() {
        return Err("needs a source and a description".to_owned());
    }
    if let Some(other) = raw.not_in.iter().find(|name| !USES.contains(&name.as_str())) {
        return Err(format!("not_in names {other:?}; known are {}", USES.join(", ")));
    }
    let kind = kind(&raw, before)?;
    let numeric = matches!(kind, Kind::Number | Kind::Count);
    if (raw.transform != Transform::None || raw.default != 0.0) && !numeric {
        return Err("has a transform or a default, which only numbers and counts have".to_owned());
    }
    if raw.indicator && !numeric && kind != Kind::Flag {
        return Err("has an indicator, which only numbers, counts and flags have".to_owned());
    }
    Ok(Feature {
        name: raw.name,
        group: raw.group,
        per,
        kind,
        source: raw.source,
        transform: raw.transform,
        default: raw.default,
        indicator: raw.indicator,
        description: raw.description,
        not_in: raw.not_in,
        function,
    })
}

fn kind(raw: &RawFeature, before: &[Feature]) -> Result<Kind, String> {
    let given = [
        ("prior", raw.prior.is_some(), raw.kind == RawKind::Rate),
        ("prior_weight", raw.prior_weight.is_some(), raw.kind == RawKind::Rate),
        ("period", raw.period.is_some(), raw.kind == RawKind::Cyclic),
    ];
    if let Some((key, is_given, _)) = given.iter().find(|(_, is_given, is_wanted)| is_given != is_wanted) {
        return Err(format!("{} {key}", if *is_given { "has no use for" } else { "needs" }));
    }
    let of_category = [raw.vocabulary.is_some(), raw.buckets.is_some(), raw.codes.is_some()].into_iter().filter(|it| *it).count();
    if of_category != usize::from(raw.kind == RawKind::Category) {
        return Err("a category, and nothing else, has one of vocabulary, buckets and codes".to_owned());
    }
    match raw.kind {
        RawKind::Number => Ok(Kind::Number),
        RawKind::Count => Ok(Kind::Count),
        RawKind::Flag => Ok(Kind::Flag),
        RawKind::Cyclic => {
            let period = raw.period.unwrap_or_default();
            if period > 0.0 { Ok(Kind::Cyclic { period }) } else { Err("needs a period above 0".to_owned()) }
        }
        RawKind::Rate => rate(raw, before),
        RawKind::Category => category(raw),
    }
}

fn rate(raw: &RawFeature, before: &[Feature]) -> Result<Kind, String> {
    let prior = match &raw.prior {
        Some(RawPrior::Feature(name)) => {
            let is_rate = |feature: &Feature| feature.name == *name && matches!(feature.kind, Kind::Rate { .. });
            if !before.iter().any(is_rate) {
                return Err(format!("its prior {name:?} is no rate above it"));
            }
            Prior::Feature(name.clone())
        }
        Some(RawPrior::Fixed(prior)) if (0.0..=1.0).contains(prior) => Prior::Fixed(*prior),
        Some(RawPrior::Fixed(_)) | None => return Err("its prior is 0 to 1, or a rate above it".to_owned()),
    };
    match raw.prior_weight.filter(|weight| weight.is_finite() && *weight > 0.0) {
        Some(prior_weight) => Ok(Kind::Rate { prior, prior_weight }),
        None => Err("its prior_weight is more than 0".to_owned()),
    }
}

/// A code is exact in a column of 32-bit floats.
const CODES_MAX: u32 = 1 << 20;

fn category(raw: &RawFeature) -> Result<Kind, String> {
    let sized = |size: u32| if (2..=CODES_MAX).contains(&size) { Ok(size) } else { Err(format!("has 2 to {CODES_MAX} codes")) };
    match (&raw.vocabulary, raw.buckets, raw.codes) {
        (Some(words), _, _) if words.is_empty() => Err("has an empty vocabulary".to_owned()),
        (Some(words), _, _) => Ok(Kind::Vocabulary { words: words.clone() }),
        (_, Some(buckets), _) => Ok(Kind::Hashed { buckets: sized(buckets)? }),
        (_, _, Some(codes)) => Ok(Kind::Coded { codes: sized(codes)? }),
        _ => Err("has no codes".to_owned()),
    }
}
