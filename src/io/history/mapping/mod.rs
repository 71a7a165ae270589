//! The mapping language: a TOML file that says how a history file becomes records.
//!
//! Owns the checks; everything that can be found wrong before the first row is found here, with key and remedy.
//!
//! ```toml
//! format = "csv"                    # csv, json_lines or parquet; without it the file's ending tells
//! delimiter = ","                   # of CSV; one ASCII character
//! sorted = true                     # false: rows are not in order of time, so all are read and sorted first
//! time_zone = "UTC"                 # of times that name no zone (IANA name)
//! empty_values = ["", "NULL"]       # texts that mean "no value"; default [""]; null of JSON and Parquet is always empty
//! ignored = ["LOADED_AT"]           # columns that are known and not read; others that are not read are reported
//!
//! [chains]                          # how attempts become payments, when no column holds the payment's id
//! same = ["country", "amount"]      # columns in which the attempts of a payment agree
//! gap_s = 60                        # each at most so long after the one before
//! until = "approved"                # the first approval ends the payment
//!
//! [fields]                          # target field = where its value comes from; `[fields.payment.card]` works as well
//! psp_id = { column = "PSP", case = "lower" }
//! "payment.currency" = { constant = "EUR" }
//! "payment.amount_minor" = { column = "amount", unit = "major" }
//! status = { column = "success", values = { 0 = "DECLINED", 1 = "APPROVED" } }
//! ```
//!
//! A field takes either `constant`, or `column` (in JSON lines and Parquet a dotted path reaches into objects) and, in this
//! order: `json_path` (JSON pointer into a column that holds JSON) → trimmed → `default` if empty → `first_chars` (that many) →
//! `case` (`upper`, `lower`) → `values` (what is not listed stays) → read by the field's kind:
//! - money: `unit = "minor"` (default, whole) or `"major"` (decimal, by the currency's ISO 4217 exponent); `decimal_mark`
//! - durations: `unit = "ms"` (default) or `"s"`; `decimal_mark`
//! - times: `time`, a format or a list tried in order: `rfc3339`, `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`, strftime
//! - lists: a JSON array, or parts between `separator` (default `,`); `values` holds for each part
//! - flags: true/false, yes/no, t/f, y/n, 1/0
//!
//! A row may also count attempts instead of being one, such as those of a PSP in an hour. It then has no status and no chains:
//!
//! ```toml
//! [counts]
//! attempts = "attempts"             # column: how many
//! successes = "approved"            # column: how many of them were approved
//! otherwise = "DECLINED"            # status of the others: DECLINED (default), ERROR or TIMEOUT
//! over_s = 3600                     # over how long after attempted_at they are spread, evenly (default an hour)
//! ```
//!
//! Where `payment.payment_id` is mapped, `[chains]` may hold only `gap_s`: after so long a silence a payment is forgotten
//! (default 30 days).

mod field;

pub(super) use field::{Case, Field, Source};

use super::HistoryError;
use super::source::Format;
use super::targets::{Draft, Fill, REQUIRED};
use crate::domain::payment::Status;
use chrono_tz::Tz;
use field::RawField;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// What files look like, and how the cells of a row become a `D`.
#[derive(Debug)]
pub(super) struct Sheet<D: 'static> {
    pub(super) shape: Shape,
    pub(super) zone: Tz,
    pub(super) empty_values: Vec<String>,
    /// The columns that are read, each once; fields and chain keys point into it.
    pub(super) columns: Vec<String>,
    /// In the order of the targets: the currency before the money.
    pub(super) fields: Vec<Field<D>>,
    /// Columns that are known and not read.
    pub(super) ignored: Vec<String>,
}

/// How a file is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) format: Option<Format>,
    pub(super) delimiter: u8,
}

/// A checked mapping of attempts.
#[derive(Debug)]
pub struct Mapping {
    pub(super) sheet: Sheet<Draft>,
    pub(super) sorted: bool,
    pub(super) chains: ChainRule,
    pub(super) counts: Option<CountsRule>,
}

/// How a row stands for many attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CountsRule {
    /// Columns.
    pub(super) attempts: usize,
    pub(super) successes: usize,
    pub(super) otherwise: Status,
    pub(super) over_ms: i64,
}

/// What makes attempts one payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ChainRule {
    /// Columns whose values agree; empty: the payment's id is a column.
    pub(super) same: Vec<usize>,
    pub(super) gap_ms: i64,
    pub(super) until_approved: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMapping {
    format: Option<Format>,
    delimiter: Option<char>,
    sorted: Option<bool>,
    time_zone: Option<String>,
    empty_values: Option<Vec<String>>,
    ignored: Option<Vec<String>>,
    chains: Option<RawChains>,
    counts: Option<RawCounts>,
    fields: toml::Table,
}

/// What mappings of every kind have in common.
pub(super) struct RawSheet {
    pub(super) format: Option<Format>,
    pub(super) delimiter: Option<char>,
    pub(super) time_zone: Option<String>,
    pub(super) empty_values: Option<Vec<String>>,
    pub(super) ignored: Option<Vec<String>>,
    pub(super) fields: toml::Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCounts {
    attempts: String,
    successes: String,
    otherwise: Option<Status>,
    over_s: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawChains {
    same: Option<Vec<String>>,
    gap_s: Option<u32>,
    until: Option<Until>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Until {
    Approved,
}

/// A payment that has been silent this long does not come back.
const PAYMENT_ID_GAP_S: u32 = 30 * 86_400;
const SECONDS_PER_HOUR: u32 = 3_600;

impl Mapping {
    pub fn load(path: &Path) -> Result<Self, HistoryError> {
        let (text, file) = read(path)?;
        Self::parse(&text, &file)
    }

    /// `file` names the mapping in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, HistoryError> {
        checked(text, file, check)
    }
}

/// The text of a mapping, and how errors name it.
pub(super) fn read(path: &Path) -> Result<(String, String), HistoryError> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((text, file)),
        Err(source) => Err(HistoryError::Io { file, source }),
    }
}

/// What the text of a mapping says, once `check` has nothing to say against it.
pub(super) fn checked<R: DeserializeOwned, T>(
    text: &str,
    file: &str,
    check: impl FnOnce(R) -> Result<T, Wrong>,
) -> Result<T, HistoryError> {
    let raw = toml::from_str(text)
        .map_err(|error| HistoryError::MappingSyntax { file: file.to_owned(), problem: error.to_string() })?;
    check(raw).map_err(|(key, problem)| HistoryError::Mapping { file: file.to_owned(), key, problem })
}

/// Key and problem.
pub(super) type Wrong = (String, String);

pub(super) fn wrong<T>(key: &str, problem: impl Into<String>) -> Result<T, Wrong> {
    Err((key.to_owned(), problem.into()))
}

/// Checks what every mapping has; its fields are read in the order of the targets.
pub(super) fn check_sheet<D: Fill>(raw: RawSheet) -> Result<Sheet<D>, Wrong> {
    let delimiter = match u8::try_from(raw.delimiter.unwrap_or(',')) {
        Ok(byte) if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => byte,
        _ => return wrong("delimiter", "must be one ASCII character, neither a quote nor a line end"),
    };
    let zone_name = raw.time_zone.unwrap_or_else(|| "UTC".to_owned());
    let Ok(zone) = zone_name.parse::<Tz>() else {
        return wrong(
            "time_zone",
            format!("{zone_name:?} is no IANA time zone; give a name such as America/Mexico_City, or UTC"),
        );
    };
    let mut found = Vec::new();
    flatten::<D>("", raw.fields, &mut found)?;
    found.sort_by_key(|(index, _)| *index);
    let mut columns = Vec::new();
    let mut fields = Vec::with_capacity(found.len());
    for (index, raw_field) in found {
        fields.push(field::check(&D::TARGETS[index], raw_field, &mut columns)?);
    }
    Ok(Sheet {
        shape: Shape { format: raw.format, delimiter },
        zone,
        empty_values: raw.empty_values.unwrap_or_else(|| vec![String::new()]),
        columns,
        fields,
        ignored: raw.ignored.unwrap_or_default(),
    })
}

fn check(raw: RawMapping) -> Result<Mapping, Wrong> {
    let RawMapping { format, delimiter, sorted, time_zone, empty_values, ignored, chains, counts, fields } = raw;
    let mut sheet: Sheet<Draft> = check_sheet(RawSheet { format, delimiter, time_zone, empty_values, ignored, fields })?;
    let fields = &sheet.fields;
    for path in REQUIRED {
        if !fields.iter().any(|f| f.target.path == path) {
            return wrong(&format!("fields.{path}"), "is missing: an attempt cannot do without it; map a column or a constant");
        }
    }
    if fields.iter().any(|f| f.target.path == "attempted_at" && matches!(f.source, Source::Constant(_))) {
        return wrong("fields.attempted_at", "is a constant; every attempt has its own time: map a column");
    }
    let (chains, counts) = match counts {
        None => (check_chains(chains, &sheet.fields, &mut sheet.columns)?, None),
        Some(_) if chains.is_some() => {
            return wrong("chains", "has no say where rows count attempts: who tried again is not known; remove it, or [counts]");
        }
        Some(counts) => {
            let counts = check_counts(counts, &sheet.fields, &mut sheet.columns)?;
            (ChainRule { same: Vec::new(), gap_ms: 0, until_approved: false }, Some(counts))
        }
    };
    if let Some(name) = sheet.ignored.iter().find(|name| sheet.columns.contains(name)) {
        return wrong("ignored", format!("names {name:?}, which a field reads; remove one of the two"));
    }
    Ok(Mapping { sheet, sorted: sorted.unwrap_or(true), chains, counts })
}

fn check_counts(raw: RawCounts, fields: &[Field<Draft>], columns: &mut Vec<String>) -> Result<CountsRule, Wrong> {
    let own = ["payment.payment_id", "attempt_id", "status", "occurred_at", "attempt_number"];
    if let Some(field) = fields.iter().find(|field| own.contains(&field.target.path)) {
        let path = field.target.path;
        return wrong(&format!("fields.{path}"), "is that of one attempt, and a row counts many; remove it, or [counts]");
    }
    let otherwise = raw.otherwise.unwrap_or(Status::Declined);
    if !matches!(otherwise, Status::Declined | Status::Error | Status::Timeout) {
        return wrong("counts.otherwise", "is the status of those that were not approved: give DECLINED, ERROR or TIMEOUT");
    }
    let over_ms = i64::from(raw.over_s.unwrap_or(SECONDS_PER_HOUR)) * 1_000;
    if over_ms == 0 {
        return wrong("counts.over_s", "is no time; give the seconds that a row stands for, such as 3600");
    }
    let (attempts, successes) = (field::column_index(raw.attempts, columns), field::column_index(raw.successes, columns));
    Ok(CountsRule { attempts, successes, otherwise, over_ms })
}

fn check_chains(raw: Option<RawChains>, fields: &[Field<Draft>], columns: &mut Vec<String>) -> Result<ChainRule, Wrong> {
    let mapped = |path: &str| fields.iter().any(|f| f.target.path == path);
    let raw = raw.unwrap_or(RawChains { same: None, gap_s: None, until: None });
    if mapped("payment.payment_id") {
        if raw.same.is_some() || raw.until.is_some() {
            return wrong(
                "chains",
                "payment.payment_id is mapped, so `same` and `until` have no say; remove them, or that field",
            );
        }
        let gap_ms = i64::from(raw.gap_s.unwrap_or(PAYMENT_ID_GAP_S)) * 1_000;
        return Ok(ChainRule { same: Vec::new(), gap_ms, until_approved: false });
    }
    let same = raw.same.unwrap_or_default();
    if same.is_empty() {
        return wrong(
            "chains.same",
            "is missing: map payment.payment_id, or name the columns in which a payment's attempts agree",
        );
    }
    let Some(gap_s) = raw.gap_s else {
        return wrong("chains.gap_s", "is missing: the longest time between two attempts of a payment, in seconds, such as 60");
    };
    if raw.until.is_some() && !mapped("status") {
        return wrong("chains.until", "needs to know which attempt was approved; map the field status");
    }
    let same = same.into_iter().map(|name| field::column_index(name, columns)).collect();
    Ok(ChainRule { same, gap_ms: i64::from(gap_s) * 1_000, until_approved: raw.until.is_some() })
}

/// Target indices with their tables. Dotted keys may be quoted or nested: both end here.
fn flatten<D: Fill>(prefix: &str, table: toml::Table, into: &mut Vec<(usize, RawField)>) -> Result<(), Wrong> {
    for (key, value) in table {
        let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
        let at = format!("fields.{path}");
        let index = D::TARGETS.iter().position(|target| target.path == path);
        match (index, value) {
            (Some(index), value @ toml::Value::Table(_)) => {
                let raw = value.try_into().map_err(|error: toml::de::Error| (at.clone(), error.message().to_owned()))?;
                if into.iter().any(|(known, _)| *known == index) {
                    return wrong(&at, "is given twice");
                }
                into.push((index, raw));
            }
            (Some(_), _) => return wrong(&at, "must be a table such as { column = \"NAME\" } or { constant = \"VALUE\" }"),
            (None, toml::Value::Table(inner)) if is_group::<D>(&path) => flatten::<D>(&path, inner, into)?,
            (None, _) => return wrong(&at, format!("is no field of the records; there are: {}", all_paths::<D>())),
        }
    }
    Ok(())
}

fn is_group<D: Fill>(path: &str) -> bool {
    D::TARGETS.iter().any(|target| target.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

fn all_paths<D: Fill>() -> String {
    D::TARGETS.iter().map(|target| target.path).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [chains]
        same = ["country", "amount"]
        gap_s = 60
        until = "approved"
        [fields]
        psp_id = { column = "PSP", case = "lower" }
        attempted_at = { column = "at", time = ["epoch_s", "%Y-%m-%d"] }
        status = { column = "ok", values = { 0 = "DECLINED", 1 = "APPROVED" } }
        "payment.merchant_id" = { constant = "m" }
        [fields.payment]
        currency = { constant = "EUR" }
        amount_minor = { column = "amount", unit = "major" }
        card.brand = { column = "brand" }
    "#;

    /// `expect` is part of the error, or empty when the mapping is good.
    fn check(from: &str, to: &str, expect: &str) {
        assert!(GOOD.contains(from), "{from:?} is to be replaced");
        let text = GOOD.replacen(from, to, 1);
        match Mapping::parse(&text, "m.toml") {
            Ok(_) => assert_eq!(expect, "", "{to}"),
            Err(error) => {
                let text = error.to_string();
                assert!(!expect.is_empty() && text.contains(expect) && text.contains("m.toml"), "{to}: {text}");
            }
        }
    }

    #[test]
    fn a_good_mapping_reads_each_column_once_and_the_currency_first() {
        let mapping = Mapping::parse(GOOD, "m.toml").expect("good");
        let mut columns = mapping.sheet.columns.clone();
        columns.sort();
        assert_eq!(columns, ["PSP", "amount", "at", "brand", "country", "ok"]);
        assert_eq!(mapping.sheet.fields[0].target.path, "payment.currency");
        assert_eq!(
            mapping.chains.same.iter().map(|&i| mapping.sheet.columns[i].as_str()).collect::<Vec<_>>(),
            ["country", "amount"]
        );
    }

    #[test]
    fn rows_that_count_attempts() {
        let check = |extra: &str, fields: &str, expect: &str| {
            let text = format!(
                "[counts]\nattempts = \"n\"\nsuccesses = \"ok\"\n{extra}\n[fields]\npsp_id = {{ column = \"psp\" }}\n\
                 attempted_at = {{ column = \"hour\", time = \"epoch_s\" }}\n{fields}\n[fields.payment]\n\
                 merchant_id = {{ constant = \"m\" }}\ncurrency = {{ constant = \"EUR\" }}\namount_minor = {{ constant = 100 }}"
            );
            match Mapping::parse(&text, "m.toml") {
                Ok(mapping) => assert_eq!((expect, mapping.counts.is_some()), ("", true), "{text}"),
                Err(error) => assert!(!expect.is_empty() && error.to_string().contains(expect), "{extra} {fields}: {error}"),
            }
        };
        check("", "", "");
        check("otherwise = \"TIMEOUT\"\nover_s = 60", "", "");
        check("otherwise = \"APPROVED\"", "", "counts.otherwise");
        check("otherwise = \"LOST\"", "", "LOST");
        check("over_s = 0", "", "counts.over_s");
        check("", "status = { column = \"s\" }", "fields.status: is that of one attempt");
        check("", "attempt_id = { column = \"s\" }", "fields.attempt_id: is that of one attempt");
    }

    #[test]
    fn what_is_wrong_is_named() {
        check("[chains]", "sorted = false\ntime_zone = \"America/Mexico_City\"\ndelimiter = \"\\t\"\n[chains]", "");
        check("[chains]", "ignored = [\"other\"]\n[chains]", "");
        check("[chains]", "ignored = [\"PSP\"]\n[chains]", "ignored: names \"PSP\"");
        check("[chains]", "sorted_by = 1\n[chains]", "unknown field `sorted_by`");
        check("[chains]", "time_zone = \"Mars\"\n[chains]", "time_zone: \"Mars\"");
        check("[chains]", "delimiter = \"\\\"\"\n[chains]", "delimiter");
        check("[chains]", "format = \"xlsx\"\n[chains]", "xlsx");
        check("[\"country\", \"amount\"]", "[]", "chains.same");
        check("gap_s = 60", "", "chains.gap_s");
        check("until = \"approved\"", "until = \"declined\"", "declined");
        check("status = { column = \"ok\", values = { 0 = \"DECLINED\", 1 = \"APPROVED\" } }", "", "chains.until");
        check("psp_id = { column = \"PSP\", case = \"lower\" }", "", "fields.psp_id: is missing");
        check("case = \"lower\"", "case = \"title\"", "fields.psp_id");
        check("case = \"lower\"", "kase = \"lower\"", "unknown field `kase`");
        check("case = \"lower\"", "constant = 1", "either `column` or `constant`");
        check("{ column = \"PSP\", case = \"lower\" }", "{}", "either `column` or `constant`");
        check("{ column = \"PSP\", case = \"lower\" }", "\"PSP\"", "must be a table");
        check("card.brand", "card.color", "fields.payment.card.color: is no field");
        check("{ constant = \"m\" }", "{ constant = \"m\", case = \"upper\" }", "fields.payment.merchant_id.case");
        check("unit = \"major\"", "unit = \"s\"", "fields.payment.amount_minor.unit");
        check("case = \"lower\"", "unit = \"ms\"", "fields.psp_id.unit");
        check("case = \"lower\"", "time = \"epoch_s\"", "fields.psp_id.time");
        check("case = \"lower\"", "separator = \";\"", "fields.psp_id.separator");
        check("case = \"lower\"", "json_path = \"a.b\"", "fields.psp_id.json_path");
        check("\"epoch_s\", ", "\"iso\", ", "fields.attempted_at.time");
        check(
            "{ column = \"at\", time = [\"epoch_s\", \"%Y-%m-%d\"] }",
            "{ constant = \"2019-01-01\" }",
            "every attempt has its own time",
        );
        let counted = "[counts]\nattempts = \"n\"\nsuccesses = \"ok\"\n[fields]\n";
        check("[fields]\n        psp_id", &format!("{counted}psp_id"), "chains: has no say where rows count attempts");
        check("card.brand", "payment_id = { column = \"pid\" }\ncard.brand", "chains: payment.payment_id is mapped");
        check("[fields.payment]", "[fields.payment]\nmerchant_id = { constant = \"x\" }", "given twice");
    }
}
