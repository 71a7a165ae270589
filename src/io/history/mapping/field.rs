//! One field of a mapping: where its value comes from and how it is read.

use super::super::convert;
use super::super::targets::{Fill, Set, Target};
use super::super::times::{DEFAULT_FORMATS, TimeFormat};
use super::{Wrong, wrong};
use crate::domain::money::currency_exponent;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

pub(in super::super) struct Field<D: 'static> {
    pub(in super::super) target: &'static Target<D>,
    pub(in super::super) source: Source,
    pub(in super::super) json_path: Option<String>,
    pub(in super::super) default: Option<String>,
    pub(in super::super) first_chars: Option<usize>,
    pub(in super::super) case: Option<Case>,
    pub(in super::super) values: HashMap<String, String>,
    pub(in super::super) unit: Option<Unit>,
    pub(in super::super) decimal_mark: char,
    pub(in super::super) times: Vec<TimeFormat>,
    pub(in super::super) separator: String,
}

impl<D> fmt::Debug for Field<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}", self.target.path, self.source)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Source {
    /// Index into the mapping's columns.
    Column(usize),
    Constant(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Case {
    Upper,
    Lower,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Unit {
    Minor,
    Major,
    Ms,
    S,
}

impl Unit {
    /// By which power of ten a value is multiplied.
    pub(in super::super) fn exponent(self, currency: &str) -> u32 {
        match self {
            Self::Minor | Self::Ms => 0,
            Self::Major => currency_exponent(currency),
            Self::S => 3,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawField {
    column: Option<String>,
    constant: Option<Scalar>,
    json_path: Option<String>,
    default: Option<Scalar>,
    first_chars: Option<usize>,
    case: Option<Case>,
    values: Option<BTreeMap<String, Scalar>>,
    unit: Option<Unit>,
    decimal_mark: Option<char>,
    time: Option<OneOrMany>,
    separator: Option<String>,
}

/// A value that may be written with or without quotes.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Int(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// The index of a column, which is added when it is new.
pub(super) fn column_index(name: String, columns: &mut Vec<String>) -> usize {
    columns.iter().position(|known| *known == name).unwrap_or_else(|| {
        columns.push(name);
        columns.len() - 1
    })
}

pub(super) fn check<D: Fill>(target: &'static Target<D>, raw: RawField, columns: &mut Vec<String>) -> Result<Field<D>, Wrong> {
    let key = format!("fields.{}", target.path);
    check_options(target, &raw, &key)?;
    let source = match (raw.column, raw.constant) {
        (Some(name), None) => Source::Column(column_index(name, columns)),
        (None, Some(value)) => Source::Constant(value.into_text()),
        _ => return wrong(&key, "needs either `column` or `constant`"),
    };
    let formats = match raw.time {
        None => DEFAULT_FORMATS.iter().map(|&format| format.to_owned()).collect(),
        Some(OneOrMany::One(format)) => vec![format],
        Some(OneOrMany::Many(formats)) => formats,
    };
    let times: Result<Vec<_>, String> = formats.iter().map(|format| TimeFormat::parse(format)).collect();
    let times = times.map_err(|problem| (format!("{key}.time"), problem))?;
    let field = Field {
        target,
        source,
        json_path: raw.json_path,
        default: raw.default.map(Scalar::into_text),
        first_chars: raw.first_chars,
        case: raw.case,
        values: raw.values.unwrap_or_default().into_iter().map(|(from, to)| (from, to.into_text())).collect(),
        unit: raw.unit,
        decimal_mark: raw.decimal_mark.unwrap_or('.'),
        times,
        separator: raw.separator.unwrap_or_else(|| ",".to_owned()),
    };
    check_fixed_texts(&field, &key)?;
    Ok(field)
}

/// An option that has no say for the field's kind is a mistake of the mapping.
fn check_options<D>(target: &Target<D>, raw: &RawField, key: &str) -> Result<(), Wrong> {
    let unit_fits = match raw.unit {
        None => true,
        Some(Unit::Minor | Unit::Major) => matches!(target.set, Set::Money(_)),
        Some(Unit::Ms | Unit::S) => matches!(target.set, Set::Duration(_)),
    };
    if !unit_fits {
        return wrong(
            &format!("{key}.unit"),
            "does not fit: money is in \"minor\" or \"major\" units, a duration in \"ms\" or \"s\"",
        );
    }
    if raw.json_path.as_ref().is_some_and(|path| !path.starts_with('/')) {
        return wrong(&format!("{key}.json_path"), "must be a JSON pointer such as /routing/algorithm");
    }
    let numeric = matches!(target.set, Set::Money(_) | Set::Duration(_) | Set::Whole(_) | Set::Number(_));
    let constant = raw.constant.is_some() && raw.column.is_none();
    let idle = [
        ("decimal_mark", raw.decimal_mark.is_some() && !numeric),
        ("time", raw.time.is_some() && !matches!(target.set, Set::Time(_))),
        ("separator", raw.separator.is_some() && !matches!(target.set, Set::List(_))),
        ("json_path", raw.json_path.is_some() && constant),
        ("default", raw.default.is_some() && constant),
        ("first_chars", raw.first_chars.is_some() && constant),
        ("case", raw.case.is_some() && constant),
        ("values", raw.values.is_some() && constant),
    ];
    match idle.iter().find(|(_, is_idle)| *is_idle) {
        Some((option, _)) => wrong(&format!("{key}.{option}"), "has no effect on this field; remove it"),
        None => Ok(()),
    }
}

/// A constant, default or mapped value that its field cannot take would fail every row: better said now.
fn check_fixed_texts<D: Fill>(field: &Field<D>, key: &str) -> Result<(), Wrong> {
    // What depends on the row's currency or zone can only be judged with the row.
    if matches!(field.target.set, Set::Money(_) | Set::Time(_)) {
        return Ok(());
    }
    let constant = match &field.source {
        Source::Constant(text) => Some(text),
        Source::Column(_) => None,
    };
    for text in constant.into_iter().chain(field.values.values()) {
        convert::put(field, text, chrono_tz::UTC, &mut D::empty())
            .map_err(|rule| (key.to_owned(), format!("{text:?}: {rule}")))?;
    }
    Ok(())
}
