//! `models diff`: what differs between two versions, as their cards, lineages and columns say.

use super::Named;
use crate::cli::Verdict;
use crate::cli::context::Context;
use crate::cli::screen::{Column, text};
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Value, json};
use smartrouter::learn::{self, Model};

/// What is compared: a word, and where it lies in `{card, lineage, members}`.
const COMPARED: &[(&str, &str)] = &[
    ("kind", "/card/kind"),
    ("catalogue", "/card/data/catalogue"),
    ("rows", "/card/data/rows"),
    ("from", "/card/data/from"),
    ("to", "/card/data/to"),
    ("AUC on its test rows", "/card/report/test/0/auc/value"),
    ("log loss on its test rows", "/card/report/test/0/log_loss/value"),
    ("Brier on its test rows", "/card/report/test/0/brier/value"),
    ("ECE on its test rows", "/card/report/test/0/ece/value"),
    ("calibration", "/card/calibration"),
    ("crosses", "/card/report/crosses"),
    ("members", "/members"),
    ("latency of 4 rows, µs", "/card/latency_us/batch_4"),
    ("latency of 32 rows, µs", "/card/latency_us/batch_32"),
    ("parameters", "/lineage/parameters"),
    ("seed", "/lineage/seed"),
    ("code", "/lineage/code"),
    ("parent", "/lineage/parent"),
    ("sources", "/lineage/dataset/sources"),
    ("label", "/lineage/dataset/label"),
];

#[derive(Debug, PartialEq, Serialize)]
struct Difference {
    what: &'static str,
    one: Value,
    other: Value,
}

pub(super) fn diff(context: &Context, one: &Named, other: &Named) -> Result<Verdict> {
    let sides = [(one, side(context, one)?), (other, side(context, other)?)];
    let [(_, (first, first_model)), (_, (second, second_model))] = &sides;
    let rows = differences(first, second);
    let lacks = |of: &Model, than: &Model| -> Vec<String> {
        than.columns.iter().filter(|it| !of.columns.contains(it)).map(|it| it.0.clone()).collect()
    };
    let (only_other, only_one) = (lacks(first_model, second_model), lacks(second_model, first_model));
    let screen = context.screen();
    if screen.is_json() {
        screen.object(&json!({
            "one": one.to_string(), "other": other.to_string(), "differences": rows,
            "columns_only_in_one": only_one, "columns_only_in_other": only_other,
        }))?;
        return Ok(Verdict::Done);
    }
    let columns = [Column::new("WHAT", "/what"), Column::new("ONE", "/one"), Column::new("OTHER", "/other")];
    screen.say(format!("one is {one}, other is {other}"))?;
    screen.rows(&columns, &rows, "nothing that is compared differs")?;
    for (named, only) in [(one, only_one), (other, only_other)] {
        if !only.is_empty() {
            screen.say(format!("columns of {named} only: {}", only.join(", ")))?;
        }
    }
    screen.say("figures on test rows are each on its own: `smartrouter compare` measures on the same")?;
    Ok(Verdict::Done)
}

/// What the files say; they are checked, and a model of another catalogue than ours may be looked at.
fn side(context: &Context, named: &Named) -> Result<(Value, Model)> {
    let files = named.files(context)?;
    let refused = || format!("{named} is refused");
    let (card, lineage) = learn::about(&files).with_context(refused)?;
    let model =
        learn::load(&files, card.pointer("/data/catalogue").and_then(Value::as_str).unwrap_or_default()).with_context(refused)?;
    let members: Vec<(&str, f64)> = model.members().collect();
    Ok((json!({ "card": card, "lineage": lineage, "members": members }), model))
}

fn differences(one: &Value, other: &Value) -> Vec<Difference> {
    let at = |side: &Value, pointer: &str| side.pointer(pointer).cloned().unwrap_or_default();
    let rows = COMPARED.iter().map(|(what, pointer)| Difference { what, one: at(one, pointer), other: at(other, pointer) });
    rows.filter(|row| text(&row.one) != text(&row.other)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_is_not_told() {
        let one = json!({"card": {"kind": "forest", "data": {"rows": 10}}, "lineage": {"seed": 1}});
        let other = json!({"card": {"kind": "forest", "data": {"rows": 12}}, "lineage": {"seed": 1, "parent": "1"}});
        let found = differences(&one, &other);
        let row = |what, one, other| Difference { what, one, other };
        assert_eq!(found, [row("rows", json!(10), json!(12)), row("parent", Value::Null, json!("1"))]);
        assert_eq!(differences(&one, &one), []);
    }
}
