//! `models list|show|diff`: what lies in the registry and who serves; `models promote|rollback|retire`: who is to serve.
//!
//! Owns the words. What a model is and whether it is whole is `learn`'s, where it lies is `io::models`'s, who serves is the fold of
//! `control.models`, see `domain::control`.

mod change;
mod diff;
mod show;

pub(super) use change::append;

use super::Verdict;
use super::context::Context;
use super::gate;
use super::scan::scan;
use super::screen::{Column, remark, time};
use anyhow::{Context as _, Result};
use clap::Subcommand;
use serde::Serialize;
use smartrouter::domain::control::{ControlModel, Held, Stage, Stages};
use smartrouter::engine::features::Catalogue;
use smartrouter::io::codec::Codec;
use smartrouter::io::log::EventLog;
use smartrouter::io::{models, topics};
use smartrouter::learn::{self, Files, Model};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// All versions, those on disk and those on the topic, with their stages
    List {
        /// Of this model only
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// A version: card, lineage, and whether its files are whole; ends with 3 when not
    Show {
        #[arg(value_name = "NAME@VERSION")]
        model: Named,
    },
    /// What differs between two versions: figures, parameters, data, columns
    Diff {
        #[arg(value_name = "NAME@VERSION")]
        one: Named,
        #[arg(value_name = "NAME@VERSION")]
        other: Named,
    },
    /// Let a version score, or decide; without --execute only the plan is shown
    Promote(change::Promotion),
    /// Let the champion decide that was it before; without --execute only the plan is shown
    Rollback(change::Rollback),
    /// Let a version do nothing any more; without --execute only the plan is shown
    Retire(change::Retirement),
}

/// A version of a model, `NAME@VERSION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) version: String,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('@') {
            Some((name, version)) if !name.is_empty() && !version.is_empty() => {
                Ok(Self { name: name.to_owned(), version: version.to_owned() })
            }
            _ => Err(format!("names no version: give it as NAME@VERSION, such as {}@1", text.trim_end_matches('@'))),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl Named {
    pub(super) fn files(&self, context: &Context) -> Result<Files> {
        Ok(models::read(&context.config().runtime.models_dir, &self.name, &self.version)?)
    }

    /// The model, checked, for rows of the catalogue that this program encodes by.
    fn load(&self, context: &Context) -> Result<Model> {
        let catalogue = Catalogue::shipped()?.version;
        learn::load(&self.files(context)?, &catalogue).with_context(|| format!("{self} is refused"))
    }
}

pub(super) fn run(context: &Context, command: &Command) -> Result<Verdict> {
    match command {
        Command::List { name } => list(context, name.as_deref()),
        Command::Show { model } => show::show(context, model),
        Command::Diff { one, other } => diff::diff(context, one, other),
        Command::Promote(promotion) => change::promote(context, promotion),
        Command::Rollback(rollback) => change::roll_back(context, rollback),
        Command::Retire(retirement) => change::retire(context, retirement),
    }
}

/// A stage as people call it.
fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Unknown => "unknown",
        Stage::Draft => "candidate",
        Stage::Shadow => "shadow",
        Stage::Canary => "canary",
        Stage::Active => "champion",
        Stage::Retired => "retired",
    }
}

/// Who serves, as `control.models` says now.
pub(super) fn stages(context: &Context, log: &dyn EventLog, codec: &Codec) -> Result<Stages> {
    let mut records = Vec::new();
    scan(log, &[context.topic(topics::CONTROL_MODELS)], |record| records.push((record.key, record.value)))?;
    let mut stages = Stages::default();
    for (key, value) in records {
        let key = key.unwrap_or_default();
        match (value, std::str::from_utf8(&key).ok().and_then(ControlModel::parse_key)) {
            (Some(value), _) => {
                stages.apply(&codec.decode::<ControlModel>(&value).context("a record of control.models cannot be read")?);
            }
            (None, Some((name, version))) => stages.retract(name, version),
            (None, None) => {}
        }
    }
    Ok(stages)
}

/// None where they cannot be read; a remark says why.
pub(super) fn stages_if_known(context: &Context) -> Option<Stages> {
    let read = || stages(context, context.log()?.as_ref(), &context.codec()?);
    read().map_err(|error| remark(format!("stages are unknown: {}", super::describe(&error)))).ok()
}

/// What is said of a version.
#[derive(Debug, Default, Serialize)]
struct Told {
    model: String,
    version: String,
    /// `unknown` when the topic cannot be read.
    stage: &'static str,
    share: Option<f64>,
    at: Option<i64>,
    by: Option<String>,
    reason: Option<String>,
    forced: bool,
    /// The champion before it.
    after: Option<String>,
    on_disk: bool,
    /// What the gate said; absent where there are no files.
    gate: Option<&'static str>,
}

impl Told {
    fn of(stages: Option<&Stages>, (name, version): (&str, &str), on_disk: bool) -> Self {
        let told = Self { model: name.to_owned(), version: version.to_owned(), on_disk, ..Self::default() };
        let Some(stages) = stages else { return Self { stage: word(Stage::Unknown), ..told } };
        let held: Option<&Held> = stages.entries(Some(name)).find(|it| it.version == version);
        let stage = word(stages.stage(name, version).unwrap_or(Stage::Draft));
        let Some(Held { at, by, body, .. }) = held.cloned() else { return Self { stage, ..told } };
        Self { stage, share: body.share, at: Some(at), by, reason: body.reason, forced: body.forced, after: body.after, ..told }
    }
}

const COLUMNS: &[Column] = &[
    Column::new("MODEL", "/model"),
    Column::new("VERSION", "/version"),
    Column::new("STAGE", "/stage"),
    Column::new("SHARE", "/share"),
    Column::shown("SINCE", "/at", time),
    Column::new("BY", "/by"),
    Column::shown("FORCED", "/forced", |it| if it.as_bool() == Some(true) { "yes" } else { "-" }.to_owned()),
    Column::shown("FILES", "/on_disk", |it| if it.as_bool() == Some(true) { "here" } else { "not here" }.to_owned()),
    Column::new("GATE", "/gate"),
    Column::new("REASON", "/reason"),
];

fn list(context: &Context, wanted: Option<&str>) -> Result<Verdict> {
    let here = models::all(&context.config().runtime.models_dir)?;
    let stages = stages_if_known(context);
    let mut versions: BTreeSet<(String, u64, String)> = BTreeSet::new();
    let told = stages.iter().flat_map(|stages| stages.entries(None)).map(|held| (held.name.clone(), held.version.clone()));
    for (name, version) in here.iter().cloned().chain(told).filter(|(name, _)| wanted.is_none_or(|wanted| wanted == name)) {
        versions.insert((name, version.parse().unwrap_or(0), version));
    }
    let row = |(name, _, version): &(String, u64, String)| {
        let on_disk = here.iter().any(|it| (&it.0, &it.1) == (name, version));
        let told = Told::of(stages.as_ref(), (name, version), on_disk);
        Told { gate: on_disk.then(|| gate_of(context, name, version)), ..told }
    };
    let rows: Vec<Told> = versions.iter().map(row).collect();
    let none = format!("no model in {}: `smartrouter train` makes one", context.config().runtime.models_dir.display());
    context.screen().rows(COLUMNS, &rows, &none)?;
    Ok(Verdict::Done)
}

fn gate_of(context: &Context, name: &str, version: &str) -> &'static str {
    models::read(&context.config().runtime.models_dir, name, version).map_or("not judged", |files| gate::word(&files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_named_with_its_model() {
        let named: Named = "processor_selector@12".parse().unwrap();
        assert_eq!(
            (named.name.as_str(), named.version.as_str(), named.to_string().as_str()),
            ("processor_selector", "12", "processor_selector@12")
        );
        for wrong in ["", "m", "m@", "@1", "@"] {
            assert!(wrong.parse::<Named>().unwrap_err().contains("@1"), "{wrong}");
        }
    }

    #[test]
    fn what_nobody_spoke_of_is_a_candidate_if_that_is_known() {
        let mut stages = Stages::default();
        stages.apply(&ControlModel {
            id: "m".into(),
            version: "2".into(),
            stage: Stage::Canary,
            at: 5,
            by: Some("ana".into()),
            body_json: r#"{"share": 0.05, "forced": true}"#.into(),
        });
        let of = |stages: Option<&Stages>, version: &str| Told::of(stages, ("m", version), true);
        assert_eq!((of(None, "2").stage, of(Some(&stages), "1").stage), ("unknown", "candidate"));
        let told = of(Some(&stages), "2");
        assert_eq!((told.stage, told.share, told.at, told.forced), ("canary", Some(0.05), Some(5), true));
        assert_eq!(told.by.as_deref(), Some("ana"));
    }
}
