//! `evaluate --gate`: a model judged by `[models.gate]` against the champion, on rows that neither has learned from; the verdict is kept
//! beside the model, where `models promote` looks for it.
//!
//! Owns which rows and which champion, and the file `gate.json`. The rules are `learn`'s.

use super::Verdict;
use super::context::Context;
use super::evaluate::{figures, line};
use super::models::{Named, stages_if_known};
use super::screen::remark;
use super::train::latency_us;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use smartrouter::engine::hashing::sha256_hex;
use smartrouter::io::models;
use smartrouter::learn::{self, Bounds, Candidate, Files, Judgement, LoadError, Model, Row, Scorer, Table};

const CHECKSUMS: &str = "checksums.json";

/// `gate.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Judged {
    model: String,
    /// SHA-256 of the model's checksums: whose verdict this is.
    checksums: String,
    /// Milliseconds since 1970, UTC.
    at: i64,
    /// The version that it was held against; absent when there was none.
    champion: Option<String>,
    /// Whether the champion could score these rows: it cannot when it is of another catalogue.
    compared: bool,
    /// Times of the first and the last row, milliseconds since 1970.
    attempted_at: Option<[i64; 2]>,
    bounds: Bounds,
    judgement: Judgement,
}

/// A version that is the bar, with what it says.
struct Champion {
    named: Named,
    files: Files,
    /// Absent when it is of another catalogue.
    model: Option<Model>,
}

pub(super) fn run(context: &Context, named: &Named, against: Option<&Named>, (table, seed): (&Table, u64)) -> Result<Verdict> {
    let files = named.files(context)?;
    let model = learn::load(&files, &table.catalogue).with_context(|| format!("{named} is refused"))?;
    let champion = champion(context, named, against, table)?;
    let learned_from = [Some(&files), champion.as_ref().map(|it| &it.files)];
    let rows = unseen(table, &learned_from.map(|files| files.and_then(learned_until)));
    if rows.len() < table.rows.len() {
        remark(format!("{} of {} rows are later than what was learned from: they alone count", rows.len(), table.rows.len()));
    }
    let of: Vec<&Row> = rows.iter().map(|row| &table.rows[*row]).collect();
    let values: Vec<f32> = rows.iter().flat_map(|row| table.features(*row)).copied().collect();
    let said = |model: &Model| {
        let mut said = Vec::with_capacity(of.len());
        model.score(&values, &mut said);
        said
    };
    let others = champion.as_ref().and_then(|it| it.model.as_ref()).map(said);
    let name = named.to_string();
    let (own, row_us) = (said(&model), latency_us(&model, table, 32) / 32.0);
    let candidate = Candidate { name: &name, said: &own, champion: others.as_deref(), row_us };
    let bounds = context.config().models.gate;
    let judged = Judged {
        model: name.clone(),
        checksums: sum(&files),
        at: chrono::Utc::now().timestamp_millis(),
        champion: champion.as_ref().map(|it| it.named.version.clone()),
        compared: others.is_some(),
        attempted_at: of.first().zip(of.last()).map(|(first, last)| [first.attempted_at, last.attempted_at]),
        bounds,
        judgement: learn::judge(&bounds, candidate, &of, seed),
    };
    models::write_verdict(
        &context.config().runtime.models_dir,
        &named.name,
        &named.version,
        &serde_json::to_vec_pretty(&judged)?,
    )?;
    tell(context, &judged, champion.map(|it| it.named))
}

/// `against`, else the champion that the topic names, if that is another one.
fn champion(context: &Context, named: &Named, against: Option<&Named>, table: &Table) -> Result<Option<Champion>> {
    let by_topic = || {
        let version = stages_if_known(context)?.champion(&named.name)?.to_owned();
        Some(Named { name: named.name.clone(), version })
    };
    let Some(champion) = against.cloned().or_else(by_topic).filter(|champion| champion != named) else {
        remark("there is no champion to be held against: only the bounds on its own figures count");
        return Ok(None);
    };
    let files =
        champion.files(context).with_context(|| format!("the champion {champion} cannot be read; --against names another"))?;
    let model = match learn::load(&files, &table.catalogue) {
        Ok(model) => Some(model),
        Err(error @ LoadError::Catalogue { .. }) => {
            remark(format!("the champion {champion} cannot score these rows: {error}; only the bounds on its own figures count"));
            None
        }
        Err(error) => return Err(error).with_context(|| format!("the champion {champion} is refused; --against names another")),
    };
    Ok(Some(Champion { named: champion, files, model }))
}

/// The time of the last row that a model learned from, if it says so.
fn learned_until(files: &Files) -> Option<i64> {
    let (_, lineage) = learn::about(files).ok()?;
    lineage.pointer("/dataset/attempted_at/1").and_then(Value::as_i64)
}

/// Rows later than all of these times.
fn unseen(table: &Table, learned_until: &[Option<i64>]) -> Vec<usize> {
    let until = learned_until.iter().flatten().max();
    (0..table.rows.len()).filter(|row| until.is_none_or(|until| table.rows[*row].attempted_at > *until)).collect()
}

fn tell(context: &Context, judged: &Judged, champion: Option<Named>) -> Result<Verdict> {
    let (screen, judgement) = (context.screen(), &judged.judgement);
    screen.say(line(&judged.model, &judgement.model))?;
    if let (Some(difference), Some(champion)) = (&judgement.difference, champion) {
        screen.say(line(&format!("less {champion}"), difference))?;
    }
    for check in &judgement.checks {
        screen.say(format!("  {:<8} {}", if check.holds { "ok" } else { "REJECTED" }, check.text()))?;
    }
    screen.say(if judgement.blessed {
        "blessed"
    } else {
        "rejected: `smartrouter models promote` refuses it without --force"
    })?;
    let mut result = Value::Object(figures(&judgement.model));
    result["gate"] = json!({
        "blessed": judgement.blessed, "champion": judged.champion, "compared": judged.compared, "checks": judgement.checks,
        "reasons": judgement.reasons().collect::<Vec<_>>(), "difference": judgement.difference.as_ref().map(figures),
    });
    screen.object(&result)?;
    Ok(if judgement.blessed { Verdict::Done } else { Verdict::Found })
}

fn sum(files: &Files) -> String {
    sha256_hex(files.get(CHECKSUMS).map_or(&[][..], Vec::as_slice))
}

/// In a word what the gate said of these files: for lists.
pub(super) fn word(files: &Files) -> &'static str {
    match read(files) {
        None => "not judged",
        Some(judged) if judged.judgement.blessed => "blessed",
        Some(_) => "rejected",
    }
}

fn read(files: &Files) -> Option<Judged> {
    let judged: Judged = serde_json::from_slice(files.get(models::VERDICT)?).ok()?;
    (judged.checksums == sum(files)).then_some(judged)
}

/// Why this model should not decide, if anything speaks against it. `all`: it would decide for all of the traffic, and so has to be
/// blessed, against who is champion now; for a part of it, it may not be rejected.
pub(super) fn objection(named: &Named, files: &Files, champion: Option<&str>, all: bool) -> Option<String> {
    let judge = format!("`smartrouter evaluate --dataset DIR --model {named} --gate` judges it");
    match read(files) {
        None => all.then(|| format!("it was never judged: {judge}")),
        Some(judged) if !judged.judgement.blessed => {
            Some(format!("it was rejected: {}", judged.judgement.reasons().collect::<Vec<_>>().join("; ")))
        }
        Some(judged) => {
            let now = champion.filter(|now| all && *now != named.version && judged.champion.as_deref() != Some(*now))?;
            let then = judged.champion.as_deref().unwrap_or("none");
            Some(format!("it was judged against version {then}, and {now} is the champion now: {judge}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smartrouter::learn::{Check, Measured};

    fn files(blessed: bool, champion: Option<&str>) -> Files {
        let mut files = Files::from([(CHECKSUMS.to_owned(), b"{}".to_vec())]);
        let check = Check { rule: "ece_max".into(), slice: None, found: Some(0.2), bound: 0.1, holds: blessed };
        let model = Measured { name: String::new(), rows: 0, positives: 0, auc: None, log_loss: None, brier: None, ece: None };
        let bounds = smartrouter::config::Config::load(&smartrouter::config::LoadOptions::default()).unwrap().config.models.gate;
        let judged = Judged {
            model: "m@2".into(),
            checksums: sum(&files),
            at: 0,
            champion: champion.map(str::to_owned),
            compared: true,
            attempted_at: None,
            bounds,
            judgement: Judgement { blessed, model, difference: None, checks: vec![check] },
        };
        files.insert(models::VERDICT.to_owned(), serde_json::to_vec(&judged).unwrap());
        files
    }

    /// Files, the champion now, whether for all of the traffic, and a part of the objection.
    type Case<'a> = (Files, Option<&'a str>, bool, Option<&'a str>);

    #[test]
    fn who_is_not_blessed_against_the_champion_of_now_is_objected_to() {
        let named: Named = "m@2".parse().unwrap();
        let never = Files::from([(CHECKSUMS.to_owned(), b"{}".to_vec())]);
        let mut of_another = files(true, None);
        of_another.insert(CHECKSUMS.to_owned(), b"{ }".to_vec());
        let cases: [Case<'_>; 10] = [
            (never.clone(), None, true, Some("never judged")),
            (never, None, false, None),
            (of_another, None, true, Some("never judged")),
            (files(false, None), None, true, Some("rejected: ece_max: 0.2000, at most 0.1")),
            (files(false, None), None, false, Some("rejected")),
            (files(true, None), None, true, None),
            (files(true, Some("1")), Some("1"), true, None),
            (files(true, Some("1")), None, true, None),
            (files(true, None), Some("1"), true, Some("against version none, and 1 is the champion now")),
            (files(true, Some("1")), Some("3"), false, None),
        ];
        for (at, (files, champion, all, expected)) in cases.into_iter().enumerate() {
            let found = objection(&named, &files, champion, all);
            match expected {
                None => assert_eq!(found, None, "{at}"),
                Some(part) => assert!(found.as_deref().is_some_and(|it| it.contains(part)), "{at}: {found:?}"),
            }
        }
    }
}
