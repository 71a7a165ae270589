//! From the cells of a row to the fields of its records.

use super::decimal::Decimal;
use super::mapping::{Case, Field, Sheet, Source};
use super::rejects::mask_card_numbers;
use super::source::Cell;
use super::targets::{Fill, Set};
use super::times::{read_time, wall_clock};
use crate::domain::EpochMs;
use chrono::{DateTime, SecondsFormat};
use chrono_tz::Tz;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// What a cell says after everything but its field's kind has been applied.
enum Told {
    Nothing,
    Text(String),
    Instant(EpochMs),
}

/// The records that a row's cells tell, or the reason why they tell none.
pub(super) fn fill<D: Fill>(sheet: &Sheet<D>, cells: &[Cell]) -> Result<D, String> {
    let mut draft = D::empty();
    for field in &sheet.fields {
        let told = match &field.source {
            Source::Constant(text) => Ok(Told::Text(text.clone())),
            Source::Column(index) => read_cell(sheet, field, cells.get(*index).unwrap_or(&Cell::Empty)),
        };
        let (text, result) = match (told, &field.target.set) {
            (Ok(Told::Instant(at)), Set::Time(set)) => {
                set(&mut draft, at);
                continue;
            }
            (Ok(Told::Instant(at)), _) => put_text(field, instant_text(at), sheet.zone, &mut draft),
            (Ok(Told::Text(text)), _) => put_text(field, text, sheet.zone, &mut draft),
            (Ok(Told::Nothing), _) if D::must_tell(field.target.path) => {
                (String::new(), Err("has no value, and the mapping no default".to_owned()))
            }
            (Ok(Told::Nothing), _) => continue,
            (Err((text, rule)), _) => (text, Err(rule)),
        };
        result.map_err(|rule| reason(sheet, field, &text, &rule))?;
    }
    Ok(draft)
}

fn put_text<D: Fill>(field: &Field<D>, text: String, zone: Tz, draft: &mut D) -> (String, Result<(), String>) {
    let result = put(field, &text, zone, draft);
    (text, result)
}

fn reason<D>(sheet: &Sheet<D>, field: &Field<D>, text: &str, rule: &str) -> String {
    let shown: String = mask_card_numbers(text).chars().take(64).collect();
    match &field.source {
        Source::Column(index) => format!("{} from column {:?} is {shown:?}: {rule}", field.target.path, sheet.columns[*index]),
        Source::Constant(_) => format!("{} is {shown:?}: {rule}", field.target.path),
    }
}

/// On failure the text and the rule that it breaks.
fn read_cell<D>(sheet: &Sheet<D>, field: &Field<D>, cell: &Cell) -> Result<Told, (String, String)> {
    let text = match cell {
        Cell::Empty => None,
        Cell::Instant(at) => return Ok(Told::Instant(*at)),
        Cell::WallClock(ms) => {
            let at = wall_clock(*ms, sheet.zone);
            return at.map(Told::Instant).ok_or_else(|| (instant_text(*ms), "is no time in the mapping's time_zone".to_owned()));
        }
        Cell::Text(text) => match &field.json_path {
            None => Some(text.clone()),
            Some(_) if is_empty(sheet, text) => None,
            Some(path) => inside_json(text, path).map_err(|rule| (text.clone(), rule))?,
        },
    };
    let text = text.filter(|text| !is_empty(sheet, text));
    let Some(text) = text.as_deref().map(str::trim).or(field.default.as_deref()) else {
        return Ok(Told::Nothing);
    };
    let mut text = match field.first_chars {
        Some(count) => text.chars().take(count).collect(),
        None => text.to_owned(),
    };
    match field.case {
        Some(Case::Upper) => text = text.to_uppercase(),
        Some(Case::Lower) => text = text.to_lowercase(),
        None => {}
    }
    Ok(Told::Text(field.values.get(&text).cloned().unwrap_or(text)))
}

fn is_empty<D>(sheet: &Sheet<D>, text: &str) -> bool {
    let text = text.trim();
    sheet.empty_values.iter().any(|empty| empty == text)
}

fn inside_json(text: &str, path: &str) -> Result<Option<String>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("is not the JSON that json_path expects: {error}"))?;
    Ok(value.pointer(path).and_then(json_text))
}

/// Scalars as they are written; arrays and objects as JSON; `null` is no value.
pub(super) fn json_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn instant_text(at: EpochMs) -> String {
    DateTime::from_timestamp_millis(at).map_or_else(|| at.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// Reads a text by the field's kind and puts it into the draft, or says which rule it breaks.
pub(super) fn put<D: Fill>(field: &Field<D>, text: &str, zone: Tz, draft: &mut D) -> Result<(), String> {
    match &field.target.set {
        Set::Text(set) => set(draft, text.to_owned()),
        Set::Word(set) => return set(draft, text),
        Set::Whole(set) => {
            let value = number(field, text)?.scaled(0).and_then(|whole| i32::try_from(whole).ok());
            set(draft, value.ok_or("must be a whole number of at most 9 digits")?);
        }
        Set::Number(set) => {
            let text = if field.decimal_mark == '.' { text.to_owned() } else { text.replace(field.decimal_mark, ".") };
            let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
            set(draft, value.ok_or("is not a number")?);
        }
        Set::Flag(set) => set(draft, flag(text).ok_or("must be true or false, yes or no, 1 or 0")?),
        Set::Money(set) => {
            let exponent = field.unit.map_or(0, |unit| unit.exponent(draft.currency()));
            let value = number(field, text)?.scaled(exponent);
            let wrong = || format!("has more decimals than {} has here ({exponent}), or is too large", draft.currency());
            let value = value.ok_or_else(wrong)?;
            set(draft, value);
        }
        Set::Duration(set) => {
            let exponent = field.unit.map_or(0, |unit| unit.exponent(""));
            set(draft, number(field, text)?.scaled_down(exponent, 1).ok_or("is too large")?);
        }
        Set::Time(set) => set(draft, read_time(text, &field.times, zone).ok_or("fits none of the mapping's time formats")?),
        Set::List(set) => set(draft, list(text, field)?),
    }
    Ok(())
}

fn number<D>(field: &Field<D>, text: &str) -> Result<Decimal, String> {
    Decimal::parse(text, field.decimal_mark)
        .ok_or_else(|| format!("is not a decimal number with {:?} before its decimals", field.decimal_mark))
}

fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

fn list<D>(text: &str, field: &Field<D>) -> Result<Vec<String>, String> {
    let parts: Vec<String> = if text.starts_with('[') {
        let values: Vec<Value> = serde_json::from_str(text).map_err(|error| format!("is not a JSON array: {error}"))?;
        values.iter().filter_map(json_text).collect()
    } else {
        text.split(&field.separator).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    Ok(parts.into_iter().map(|part| field.values.get(&part).cloned().unwrap_or(part)).collect())
}

/// What the columns of JSON hold beside what fields read of them, by column; nothing is left of a column that is read whole.
pub(super) fn unread_json<D>(sheet: &Sheet<D>, cells: &[Cell]) -> Map<String, Value> {
    let mut unread = Map::new();
    for (index, column) in sheet.columns.iter().enumerate() {
        let of_column = || sheet.fields.iter().filter(|field| field.source == Source::Column(index));
        let Some(Cell::Text(text)) = cells.get(index).filter(|_| of_column().any(|field| field.json_path.is_some())) else {
            continue;
        };
        let Ok(mut value) = serde_json::from_str::<Value>(text) else { continue };
        for path in of_column().map(|field| field.json_path.as_deref().unwrap_or_default()) {
            remove(&mut value, path);
        }
        let is_left = value.as_object().is_some_and(|object| !object.is_empty());
        if is_left {
            mask(&mut value);
            unread.insert(column.clone(), value);
        }
    }
    unread
}

/// What nobody reads nobody has looked at: card numbers in it lose their digits.
fn mask(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::Object(fields) => fields.values_mut().for_each(mask),
        Value::String(_) | Value::Number(_) => {
            let text = json_text(value).unwrap_or_default();
            if let Cow::Owned(masked) = mask_card_numbers(&text) {
                *value = Value::String(masked);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// Takes out what a JSON pointer leads to, and what holds nothing else.
fn remove(value: &mut Value, path: &str) {
    let Some((parent, key)) = path.rsplit_once('/') else {
        *value = Value::Null;
        return;
    };
    let key = key.replace("~1", "/").replace("~0", "~");
    let Some(object) = value.pointer_mut(parent).and_then(Value::as_object_mut) else { return };
    object.shift_remove(&key);
    if object.is_empty() && !parent.is_empty() {
        remove(value, parent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::history::mapping::Mapping;
    use crate::io::history::targets::Draft;

    /// A mapping in which `target` is read from the column `c` with `options`, beside what every row needs.
    fn mapping(target: &str, options: &str) -> Mapping {
        let mut fields = vec![
            ("psp_id", "{ constant = \"p\" }".to_owned()),
            ("attempted_at", "{ column = \"at\", time = \"epoch_ms\" }".to_owned()),
            ("payment.merchant_id", "{ constant = \"m\" }".to_owned()),
            ("payment.payment_id", "{ constant = \"pay\" }".to_owned()),
            ("payment.amount_minor", "{ constant = 1 }".to_owned()),
            ("payment.currency", "{ constant = \"JPY\" }".to_owned()),
        ];
        fields.retain(|(path, _)| *path != target);
        fields.push((target, format!("{{ column = \"c\"{options} }}")));
        let lines: Vec<String> = fields.iter().map(|(path, spec)| format!("\"{path}\" = {spec}")).collect();
        let head = "empty_values = [\"\", \"NULL\"]\ntime_zone = \"America/Mexico_City\"\n[fields]\n";
        Mapping::parse(&format!("{head}{}", lines.join("\n")), "m.toml").expect("a good mapping")
    }

    /// `expect`: what `read` finds in the draft, or a part of the reason for a reject.
    fn check(target: &str, options: &str, cell: &Cell, read: fn(&Draft) -> String, expect: Result<&str, &str>) {
        let mapping = mapping(target, options);
        let cells: Vec<Cell> = mapping
            .sheet
            .columns
            .iter()
            .map(|name| if name == "at" { Cell::Text("1546300800000".into()) } else { cell.clone() })
            .collect();
        let got = fill(&mapping.sheet, &cells).map(|d| read(&d));
        match (&got, expect) {
            (Ok(value), Ok(want)) => assert_eq!(value, want, "{target} {options} {cell:?}"),
            (Err(reason), Err(part)) => assert!(reason.contains(part) && reason.contains(target), "{reason}"),
            _ => panic!("{target} {options} {cell:?}: {got:?}, expected {expect:?}"),
        }
    }

    fn text(value: &str) -> Cell {
        Cell::Text(value.to_owned())
    }

    #[test]
    fn texts_are_trimmed_folded_and_mapped() {
        let brand = |d: &Draft| d.attempt.payment.card.brand.clone();
        let options = ", case = \"upper\", values = { MASTER = \"MASTERCARD\" }";
        check("payment.card.brand", options, &text(" Master "), brand, Ok("MASTERCARD"));
        check("payment.card.brand", options, &text("visa"), brand, Ok("VISA"));
        check("payment.card.brand", options, &text("NULL"), brand, Ok(""));
        check("payment.card.brand", ", default = \"amex\", case = \"upper\"", &Cell::Empty, brand, Ok("AMEX"));
        check("payment.card.bin", ", first_chars = 6", &text("412345.0"), |d| d.attempt.payment.card.bin.clone(), Ok("412345"));
        check("psp_id", "", &text("  "), |d| d.attempt.psp_id.to_string(), Err("has no value"));
    }

    #[test]
    fn money_is_exact_in_the_currency_of_the_row() {
        let amount = |d: &Draft| d.attempt.payment.amount_minor.to_string();
        check("payment.amount_minor", "", &text("8900"), amount, Ok("8900"));
        check("payment.amount_minor", ", unit = \"major\"", &text("8900"), amount, Ok("8900"));
        check("payment.amount_minor", ", unit = \"major\"", &text("89.5"), amount, Err("more decimals than JPY"));
        check("payment.amount_minor", ", decimal_mark = \",\"", &text("89,0"), amount, Ok("89"));
        check("payment.amount_minor", "", &text("1e3"), amount, Err("is \"1e3\""));
    }

    #[test]
    fn words_flags_durations_and_lists() {
        let status = |d: &Draft| format!("{:?}", d.outcome.status);
        check("status", ", values = { 1 = \"APPROVED\" }", &text("1"), status, Ok("Approved"));
        check("status", "", &text("declined"), status, Ok("Declined"));
        check("status", "", &text("2"), status, Err("unknown variant"));
        let three_ds = |d: &Draft| d.attempt.payment.message.three_ds.to_string();
        check("payment.message.three_ds", "", &text("Yes"), three_ds, Ok("true"));
        check("payment.message.three_ds", "", &text("2"), three_ds, Err("true or false"));
        let latency = |d: &Draft| format!("{:?}", d.latency_ms);
        check("latency_ms", ", unit = \"s\"", &text("1.2345"), latency, Ok("Some(1234)"));
        let skips = |d: &Draft| d.attempt.skip_reasons.join("|");
        check("skip_reasons", ", separator = \";\"", &text("a; b;;c"), skips, Ok("a|b|c"));
        check("skip_reasons", "", &text("[\"a\", 1, null]"), skips, Ok("a|1"));
        check("skip_reasons", "", &text("[oops"), skips, Err("JSON array"));
        check(
            "payment.installments.count",
            "",
            &text("3.0"),
            |d| format!("{:?}", d.attempt.payment.installments.as_ref().map(|i| i.count)),
            Ok("Some(3)"),
        );
    }

    #[test]
    fn json_columns_are_reached_into() {
        let algorithm = |d: &Draft| format!("{:?}", d.attempt.algorithm);
        let options = ", json_path = \"/routing/by\"";
        check("algorithm", options, &text(r#"{"routing": {"by": "rule"}}"#), algorithm, Ok("Some(Rule)"));
        check("algorithm", options, &text(r#"{"routing": {}}"#), algorithm, Ok("None"));
        check("algorithm", options, &text("NULL"), algorithm, Ok("None"));
        check("algorithm", options, &text("{broken"), algorithm, Err("is not the JSON"));
    }

    #[test]
    fn what_no_field_reads_of_a_json_column_is_kept() {
        let mapping = mapping("algorithm", ", json_path = \"/routing/by\"");
        let unread = |text: &str| {
            let cells: Vec<Cell> = mapping.sheet.columns.iter().map(|_| Cell::Text(text.to_owned())).collect();
            Value::Object(unread_json(&mapping.sheet, &cells)).to_string()
        };
        assert_eq!(unread(r#"{"routing": {"by": "rule", "ms": 3}, "a/b": [1]}"#), r#"{"c":{"routing":{"ms":3},"a/b":[1]}}"#);
        assert_eq!(unread(r#"{"routing": {"by": "rule"}}"#), "{}");
        assert_eq!((unread("[1]").as_str(), unread("{oops").as_str()), ("{}", "{}"));
        let card = unread(r#"{"pan": 4111111111111111, "of": ["4111 1111 1111 1111", 7]}"#);
        assert_eq!(card, r#"{"c":{"pan":"411111**********","of":["4111 11** **** ****",7]}}"#);
        let mut value = serde_json::json!({"a/b": {"~": 1}});
        remove(&mut value, "/a~1b/~0");
        assert_eq!(value, serde_json::json!({}));
    }

    #[test]
    fn instants_and_wall_clocks_are_times() {
        let at = |d: &Draft| d.attempt.attempted_at.to_string();
        check("attempted_at", "", &Cell::Instant(1_546_300_871_000), at, Ok("1546300871000"));
        check("attempted_at", "", &Cell::WallClock(1_546_300_871_000), at, Ok("1546322471000"));
        check("attempt_id", "", &Cell::Instant(1_546_300_871_000), |d| d.attempt.attempt_id.clone(), Ok("2019-01-01T00:01:11Z"));
    }

    #[test]
    fn a_reason_shows_no_card_number() {
        let read = |d: &Draft| d.attempt.payment.amount_minor.to_string();
        check("payment.amount_minor", ", decimal_mark = \",\"", &text("4111 1111 1111 1111"), read, Err("4111 11** ****"));
    }
}
