//! Routing rules from files: the static rules that a merchant has, read by a mapping of their own into the shape of `[[rules]]`.
//!
//! Owns what a rule's fields are, and how rows with the same id become one rule: one row may be a rule, or a PSP of it, or a condition. Knows
//! nothing of what a rule means: whether the engine takes it is for the configuration to say.
//!
//! ```toml
//! format = "csv"                    # delimiter, empty_values, ignored: as in mappings of attempts
//!
//! [fields]
//! id = { column = "RULE_ID" }
//! priority = { column = "PRIORITY" }                    # the matching rule with the highest one decides
//! shadow = { column = "SHADOW_MODE", default = false }  # watched, without effect
//! psps = { column = "PROCESSORS", separator = "|", case = "lower" }
//! position = { column = "POSITION" }                    # where a rule has a row for each PSP: their order
//! weights = { column = "WEIGHT" }                       # shares instead of an order: one for each of `psps`
//! active = { column = "ACTIVE" }                        # rules that are not are left out
//! when.currencies = { column = "CURRENCY" }             # and so on: as in the configuration
//! ```

use super::mapping::{self, RawSheet, Sheet, check_sheet, wrong};
use super::rejects::mask_card_numbers;
use super::source::{Format, RawRow, RowSource};
use super::targets::{Fill, Set, Target, target};
use super::{HistoryError, Reject, convert, reader};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A checked mapping of rules.
#[derive(Debug)]
pub struct RuleMapping(Sheet<RuleDraft>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRuleMapping {
    format: Option<Format>,
    delimiter: Option<char>,
    empty_values: Option<Vec<String>>,
    ignored: Option<Vec<String>>,
    fields: toml::Table,
}

impl RuleMapping {
    pub fn load(path: &Path) -> Result<Self, HistoryError> {
        let (text, file) = mapping::read(path)?;
        Self::parse(&text, &file)
    }

    /// `file` names the mapping in errors.
    pub fn parse(text: &str, file: &str) -> Result<Self, HistoryError> {
        mapping::checked(text, file, |raw: RawRuleMapping| {
            let RawRuleMapping { format, delimiter, empty_values, ignored, fields } = raw;
            let raw = RawSheet { format, delimiter, time_zone: None, empty_values, ignored, fields };
            let sheet: Sheet<RuleDraft> = check_sheet(raw)?;
            match ["id", "psps"].into_iter().find(|path| !sheet.fields.iter().any(|field| field.target.path == *path)) {
                Some(path) => wrong(&format!("fields.{path}"), "is missing: a rule cannot do without it; map a column"),
                None => Ok(Self(sheet)),
            }
        })
    }
}

/// What one row says of a rule.
#[derive(Clone, Debug, Default)]
struct RuleDraft {
    id: String,
    position: i32,
    psps: Vec<String>,
    weights: Vec<String>,
    /// `active = false`: the rule is not in force.
    is_out: bool,
    /// The first currency that it names.
    currency: String,
    /// Keys of the rule and of its conditions that have one value.
    values: BTreeMap<&'static str, Value>,
    /// Keys of its conditions that have several.
    lists: BTreeMap<&'static str, Vec<String>>,
}

const TARGETS: &[Target<RuleDraft>] = &[
    target("when.currencies", Set::List(currencies)),
    target("id", Set::Text(|d, v| d.id = v)),
    target("priority", Set::Whole(|d, v| one(d, "priority", json!(v)))),
    target("shadow", Set::Flag(|d, v| one(d, "shadow", json!(v)))),
    target("active", Set::Flag(|d, v| d.is_out = !v)),
    target("position", Set::Whole(|d, v| d.position = v)),
    target("psps", Set::List(|d, v| d.psps = v)),
    target("weights", Set::List(|d, v| d.weights = v)),
    target("when.merchants", Set::List(|d, v| many(d, "merchants", v))),
    target("when.brands", Set::List(|d, v| many(d, "brands", v))),
    target("when.card_types", Set::List(|d, v| many(d, "card_types", v))),
    target("when.bin_ranges", Set::List(|d, v| many(d, "bin_ranges", v))),
    target("when.issuer_countries", Set::List(|d, v| many(d, "issuer_countries", v))),
    target("when.methods", Set::List(|d, v| many(d, "methods", v))),
    target("when.sub_methods", Set::List(|d, v| many(d, "sub_methods", v))),
    target("when.initiators", Set::List(|d, v| many(d, "initiators", v))),
    target("when.installment_kinds", Set::List(|d, v| many(d, "installment_kinds", v))),
    target("when.amount_minor_min", Set::Money(|d, v| one(d, "amount_minor_min", json!(v)))),
    target("when.amount_minor_max", Set::Money(|d, v| one(d, "amount_minor_max", json!(v)))),
    target("when.three_ds", Set::Flag(|d, v| one(d, "three_ds", json!(v)))),
];

/// Keys of `values` that stand in the rule itself; all others are conditions.
const OF_THE_RULE: [&str; 2] = ["priority", "shadow"];

impl Fill for RuleDraft {
    const TARGETS: &'static [Target<Self>] = TARGETS;

    fn empty() -> Self {
        Self::default()
    }

    fn currency(&self) -> &str {
        &self.currency
    }

    fn must_tell(path: &str) -> bool {
        path == "id"
    }
}

fn one(draft: &mut RuleDraft, key: &'static str, value: Value) {
    draft.values.insert(key, value);
}

fn many(draft: &mut RuleDraft, key: &'static str, values: Vec<String>) {
    if !values.is_empty() {
        draft.lists.insert(key, values);
    }
}

fn currencies(draft: &mut RuleDraft, values: Vec<String>) {
    draft.currency = values.first().cloned().unwrap_or_default();
    many(draft, "currencies", values);
}

/// The rules of some files, each a table of `[[rules]]` as JSON, in the order in which they were first seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportedRules {
    pub rules: Vec<Map<String, Value>>,
    pub rejects: Vec<Reject>,
    /// Rules that are not in force.
    pub inactive: Vec<String>,
    /// Columns that no field reads and the mapping does not name, by file.
    pub unread_columns: BTreeMap<String, Vec<String>>,
}

impl ImportedRules {
    pub fn read(files: &[PathBuf], mapping: &RuleMapping) -> Result<Self, HistoryError> {
        let sheet = &mapping.0;
        let mut read = Self::default();
        let mut found: Vec<Found> = Vec::new();
        for path in files {
            let file = path.display().to_string();
            let mut source = RowSource::open(path, sheet)?;
            while let Some(row) = source.next_row()? {
                let RawRow { number, text, cells } = row;
                let filled = cells.and_then(|cells| Ok((convert::fill(sheet, &cells)?, cells)));
                match filled {
                    Ok((draft, cells)) => {
                        let text = text.unwrap_or_else(|| reader::cells_text(&sheet.columns, &cells));
                        let reject = Reject { file: file.clone(), row: number, reason: String::new(), text };
                        match found.iter_mut().find(|known| known.draft.id == draft.id) {
                            Some(known) => known.merge(draft),
                            None => found.push(Found { draft: draft.clone(), rows: vec![draft], disagree: None, first: reject }),
                        }
                    }
                    Err(reason) => {
                        read.rejects.push(Reject { file: file.clone(), row: number, reason, text: text.unwrap_or_default() });
                    }
                }
            }
            let unread: Vec<String> = source.unread().iter().filter(|name| !sheet.ignored.contains(name)).cloned().collect();
            if !unread.is_empty() {
                read.unread_columns.insert(file, unread);
            }
        }
        for it in found {
            let (id, first) = (it.draft.id.clone(), it.first.clone());
            match it.rule() {
                Ok(Some(rule)) => read.rules.push(rule),
                Ok(None) => read.inactive.push(id),
                Err(reason) => read.rejects.push(Reject { reason: format!("rule {id}: {reason}"), ..first }),
            }
        }
        for reject in &mut read.rejects {
            reject.text = mask_card_numbers(&reject.text).into_owned();
        }
        Ok(read)
    }
}

/// A rule while its rows are read.
struct Found {
    /// What all rows say together.
    draft: RuleDraft,
    rows: Vec<RuleDraft>,
    /// The key of which rows say different things.
    disagree: Option<&'static str>,
    first: Reject,
}

impl Found {
    fn merge(&mut self, row: RuleDraft) {
        for (key, value) in &row.values {
            let known = self.draft.values.entry(key).or_insert_with(|| value.clone());
            if known != value {
                self.disagree = Some(key);
            }
        }
        for (key, values) in &row.lists {
            let known = self.draft.lists.entry(key).or_default();
            known.extend(values.iter().filter(|value| !known.contains(value)).cloned().collect::<Vec<_>>());
        }
        self.draft.is_out |= row.is_out;
        self.rows.push(row);
    }

    /// None: it is not in force.
    fn rule(mut self) -> Result<Option<Map<String, Value>>, String> {
        if self.draft.is_out {
            return Ok(None);
        }
        if let Some(key) = self.disagree {
            return Err(format!("its rows say different things of {key}"));
        }
        // Stable: rows without a position stay in the order of the file.
        self.rows.sort_by_key(|row| row.position);
        let mut rule = Map::new();
        rule.insert("id".to_owned(), json!(self.draft.id));
        let mut when = Map::new();
        for (key, value) in self.draft.values {
            let into = if OF_THE_RULE.contains(&key) { &mut rule } else { &mut when };
            into.insert(key.to_owned(), value);
        }
        for (key, values) in self.draft.lists {
            let values = if key == "bin_ranges" { ranges(&values)? } else { json!(values) };
            when.insert(key.to_owned(), values);
        }
        let psps = psps(&self.rows)?;
        rule.insert(if psps.iter().all(Value::is_string) { "psps" } else { "split" }.to_owned(), Value::Array(psps));
        rule.insert("when".to_owned(), Value::Object(when));
        Ok(Some(rule))
    }
}

/// In their order, or with their weights.
fn psps(rows: &[RuleDraft]) -> Result<Vec<Value>, String> {
    let mut told: Vec<(String, Option<u32>)> = Vec::new();
    for row in rows {
        if !row.weights.is_empty() && row.weights.len() != row.psps.len() {
            return Err(format!("{} weights stand beside {} PSPs", row.weights.len(), row.psps.len()));
        }
        for (place, psp) in row.psps.iter().enumerate() {
            let weight = row.weights.get(place).map(|weight| weight.parse::<u32>());
            let weight = weight.transpose().map_err(|_| format!("the weight of {psp} is no whole number"))?;
            if !told.iter().any(|(known, _)| known == psp) {
                told.push((psp.clone(), weight));
            }
        }
    }
    if told.is_empty() {
        return Err("names no PSP".to_owned());
    }
    let weighted = told.iter().filter(|(_, weight)| weight.is_some()).count();
    if weighted != 0 && weighted != told.len() {
        return Err("some of its PSPs have a weight and some have none".to_owned());
    }
    let written =
        |(psp, weight): (String, Option<u32>)| weight.map_or_else(|| json!(psp), |it| json!({"psp": psp, "weight": it}));
    Ok(told.into_iter().map(written).collect())
}

/// `411111-411199`, or one BIN.
fn ranges(texts: &[String]) -> Result<Value, String> {
    let range = |text: &String| {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let (from, to) = (from.trim(), to.trim());
        let is_bin = |bin: &str| !bin.is_empty() && bin.len() <= 8 && bin.bytes().all(|byte| byte.is_ascii_digit());
        if is_bin(from) && is_bin(to) {
            Ok(json!({"from": from, "to": to}))
        } else {
            Err(format!("{text:?} is no range of BINs such as 411111-411199"))
        }
    };
    texts.iter().map(range).collect::<Result<Vec<_>, _>>().map(Value::Array)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPING: &str = r#"
        empty_values = ["", "NULL"]
        ignored = ["AT"]
        [fields]
        id = { column = "ID" }
        priority = { column = "PRIORITY" }
        shadow = { column = "SHADOW_MODE", default = false }
        active = { column = "ACTIVE", default = true }
        position = { column = "POSITION" }
        psps = { column = "PSP", case = "lower", separator = "|" }
        weights = { column = "WEIGHT", separator = "|" }
        [fields.when]
        currencies = { column = "CURRENCY" }
        card_types = { column = "TYPE", case = "upper", values = { TDC = "CREDIT" }, separator = "|" }
        bin_ranges = { column = "BINS", separator = ";" }
        amount_minor_min = { column = "FROM", unit = "major" }
    "#;

    fn read(rows: &str) -> ImportedRules {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rules.csv");
        std::fs::write(
            &file,
            format!("ID,PRIORITY,SHADOW_MODE,ACTIVE,POSITION,PSP,WEIGHT,CURRENCY,TYPE,BINS,FROM,AT,NOTE\n{rows}"),
        )
        .unwrap();
        ImportedRules::read(&[file], &RuleMapping::parse(MAPPING, "m.toml").unwrap()).unwrap()
    }

    #[test]
    fn a_row_is_a_rule_or_a_psp_of_one() {
        let read = read(
            "a,10,TRUE,,,MIT|ELAVON,,MXN,tdc|DEBIT,411111-411199;55,1000.50,x,y\n\
             b,5,NO,,2,Mit,,USD,,,,,\n\
             c,,,,,MIT|AMEX,70|30,,,,,,\n\
             b,5,NO,,1,Worldpay,,MXN,,,,,\n\
             d,1,,no,,mit,,,,,,,\n",
        );
        let told: Vec<Value> = read.rules.into_iter().map(Value::Object).collect();
        let first = json!({"id": "a", "priority": 10, "shadow": true, "psps": ["mit", "elavon"], "when": {"amount_minor_min": 100_050,
            "bin_ranges": [{"from": "411111", "to": "411199"}, {"from": "55", "to": "55"}], "card_types": ["CREDIT", "DEBIT"], "currencies": ["MXN"]}});
        let second = json!({"id": "b", "priority": 5, "shadow": false, "psps": ["worldpay", "mit"], "when": {"currencies": ["USD", "MXN"]}});
        let third = json!({"id": "c", "shadow": false, "split": [{"psp": "mit", "weight": 70}, {"psp": "amex", "weight": 30}], "when": {}});
        assert_eq!(told, [first, second, third]);
        assert_eq!(read.inactive, ["d"]);
        assert_eq!(read.unread_columns.values().next().unwrap(), &["NOTE"], "AT is known and not read");
        assert_eq!(read.rejects, []);
    }

    #[test]
    fn what_makes_no_rule_is_told_with_its_row() {
        let read = read(
            "a,1,,,,,,,,,,,\nb,1,,,,mit,,,,,,,\nb,2,,,,amex,,,,,,,\nc,1,,,,mit|amex,70,,,,,,\nd,1,,,,mit,much,,,,,,\n\
             e,1,,,,mit,,,,4111x,,,\nf,soon,,,,mit,,,,,,,\n,1,,,,mit,,,,,,,\ng,1,,,,mit,5,,,,,,\ng,1,,,,amex,,,,,,,\n",
        );
        assert_eq!(read.rules, []);
        let mut told: Vec<(u64, String)> = read.rejects.into_iter().map(|it| (it.row, it.reason)).collect();
        told.sort();
        let expected = [
            (2, "rule a: names no PSP"),
            (3, "rule b: its rows say different things of priority"),
            (5, "rule c: 1 weights stand beside 2 PSPs"),
            (6, "rule d: the weight of mit is no whole number"),
            (7, "no range of BINs"),
            (8, "priority from column \"PRIORITY\" is \"soon\""),
            (9, "id from column \"ID\" is \"\": has no value"),
            (10, "rule g: some of its PSPs"),
        ];
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for ((row, reason), (expected_row, part)) in told.iter().zip(expected) {
            assert!(*row == expected_row && reason.contains(part), "{row} {reason}, expected {expected_row} {part}");
        }
    }

    #[test]
    fn a_mapping_of_rules_is_checked() {
        let check = |from: &str, to: &str, part: &str| {
            assert!(MAPPING.contains(from));
            let error = RuleMapping::parse(&MAPPING.replacen(from, to, 1), "m.toml").unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("m.toml"), "{error}");
        };
        check("id = { column = \"ID\" }", "", "fields.id: is missing");
        check("psps = ", "psp = ", "fields.psp: is no field");
        check("currencies = ", "colors = ", "fields.when.colors: is no field");
        check("unit = \"major\"", "unit = \"s\"", "fields.when.amount_minor_min.unit");
    }
}
