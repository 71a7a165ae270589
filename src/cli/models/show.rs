//! `models show`: a version as its card and its lineage tell it, and whether its files are whole.

use super::{Named, Told, stages_if_known};
use crate::cli::context::Context;
use crate::cli::gate;
use crate::cli::learning_report::figure;
use crate::cli::screen::{Screen, one_line, text, time};
use crate::cli::{Verdict, describe};
use anyhow::Result;
use serde_json::{Value, json};
use smartrouter::learn::{self, Estimate};

pub(super) fn show(context: &Context, model: &Named) -> Result<Verdict> {
    let files = model.files(context)?;
    let stages = stages_if_known(context);
    let told = Told::of(stages.as_ref(), (&model.name, &model.version), true);
    let told = Told { gate: Some(gate::word(&files)), ..told };
    let about = learn::about(&files);
    let loaded = model.load(context);
    let problem = loaded.as_ref().err().map(describe);
    let (card, lineage) = about.unwrap_or_default();
    let screen = context.screen();
    say(screen, model, &told, (&card, &lineage))?;
    screen.say(format!("gate: {}", told.gate.unwrap_or_default()))?;
    screen.say(match &problem {
        None => {
            "checks: its files are those that were written, it fits the catalogue, its golden rows score as they did".to_owned()
        }
        Some(problem) => format!("checks: {problem}"),
    })?;
    let mut result = serde_json::to_value(&told)?;
    for (key, value) in [("card", card), ("lineage", lineage), ("ok", json!(problem.is_none())), ("problem", json!(problem))] {
        result[key] = value;
    }
    screen.object(&result)?;
    Ok(if problem.is_none() { Verdict::Done } else { Verdict::Found })
}

fn say(screen: &Screen, model: &Named, told: &Told, (card, lineage): (&Value, &Value)) -> Result<()> {
    let since = told
        .at
        .map(|at| format!(" since {}, by {}", time(&at.into()), told.by.as_deref().map_or_else(|| "-".to_owned(), one_line)));
    let share = told.share.map(|share| format!(" with {share} of the traffic")).unwrap_or_default();
    screen.say(format!("{model}: {}{share}{}", told.stage, since.unwrap_or_default()))?;
    if let Some(reason) = &told.reason {
        screen.say(format!("  reason: {}{}", one_line(reason), if told.forced { " (forced)" } else { "" }))?;
    }
    let at = |value: &Value, pointer: &str| value.pointer(pointer).map_or_else(|| "-".to_owned(), text);
    if card.is_null() {
        return Ok(());
    }
    screen.say(format!("  purpose: {}", at(card, "/purpose")))?;
    screen.say(format!(
        "  kind {}, learned from {} rows of {} to {}",
        at(card, "/kind"),
        at(card, "/data/rows"),
        at(card, "/data/from"),
        at(card, "/data/to")
    ))?;
    screen.say(format!("  catalogue {}", at(card, "/data/catalogue")))?;
    let measured = card.pointer("/report/test").and_then(Value::as_array);
    for row in measured.into_iter().flatten() {
        let estimate = |name: &str| figure(serde_json::from_value::<Estimate>(row[name].clone()).ok());
        screen.say(format!(
            "  {:<14} AUC {}  log loss {}  ECE {}",
            at(row, "/name"),
            estimate("auc"),
            estimate("log_loss"),
            estimate("ece")
        ))?;
    }
    screen.say(format!("  calibration {}, latency µs {}", at(card, "/calibration"), at(card, "/latency_us")))?;
    for limit in card["limits"].as_array().into_iter().flatten() {
        screen.say(format!("  limit: {}", text(limit)))?;
    }
    screen.say(format!(
        "  made by {}, seed {}, parameters {}, parent {}",
        at(lineage, "/code"),
        at(lineage, "/seed"),
        at(lineage, "/parameters"),
        at(lineage, "/parent")
    ))?;
    for source in lineage.pointer("/dataset/sources").and_then(Value::as_array).into_iter().flatten() {
        screen.say(format!("  from {}, SHA-256 {}", at(source, "/file"), at(source, "/sha256")))?;
    }
    Ok(())
}
