//! `rules import`: a merchant's static rules from files, as `[[rules]]` of the configuration, checked by what checks that.
//!
//! Never changes a rule set: what it writes is a file to be read by people and put under `[[rules]]`.

use super::Verdict;
use super::context::Context;
use super::globals::Globals;
use super::screen::{Column, print, remark};
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value, json};
use smartrouter::config::{Config, LoadOptions};
use smartrouter::io::history::{ImportedRules, RuleMapping};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Static rules from an export of the merchant's, such as `VW_ROUTING_MERCHANT_RULE`, as `[[rules]]` of the configuration
    Import(Options),
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Rules: CSV, JSON lines or Parquet
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How a row becomes a rule (see `deploy/mappings/vw_routing_merchant_rule.toml`)
    #[arg(long, value_name = "MAP.toml")]
    mapping: PathBuf,
    /// Where the rules go, as TOML; an older file there is replaced
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
struct Row {
    id: String,
    priority: i64,
    shadow: bool,
    when: String,
    psps: String,
}

const RULES: &[Column] = &[
    Column::new("RULE", "/id"),
    Column::new("PRIORITY", "/priority"),
    Column::shown("SHADOW", "/shadow", |value| if value.as_bool() == Some(true) { "yes".to_owned() } else { String::new() }),
    Column::new("WHEN", "/when"),
    Column::new("PSPS", "/psps"),
];

pub(super) fn run(context: &Context, globals: &Globals, command: &Command) -> Result<Verdict> {
    let Command::Import(options) = command;
    let read = ImportedRules::read(&options.files, &RuleMapping::load(&options.mapping)?)?;
    for reject in &read.rejects {
        remark(format!("rejected: {} row {}: {}", reject.file, reject.row, reject.reason));
    }
    for (file, columns) in &read.unread_columns {
        remark(format!("not read of {file}: {}", columns.join(", ")));
    }
    if read.rules.is_empty() {
        bail!("no row could be used; the reasons are above");
    }
    let text = toml::to_string(&json!({ "rules": read.rules })).context("the rules cannot be written as TOML")?;
    let problems = problems(globals, &read.rules)?;
    let shadows = read.rules.iter().filter(|rule| rule["shadow"] == json!(true)).count();
    tell(context, &read, shadows)?;
    if let Some(problems) = &problems {
        remark(format!("the configuration would not take them; change the mapping, or configure what they name:\n{problems}"));
    }
    match &options.out {
        Some(out) => std::fs::write(out, &text).with_context(|| format!("{} cannot be written", out.display()))?,
        None if !context.screen().is_json() => print(&format!("\n{text}"))?,
        None => {}
    }
    let (rules, rejected) = (read.rules.len(), read.rejects.len());
    context.screen().object(&json!({
        "rules": rules, "shadow": shadows, "inactive": read.inactive, "rejected": rejected, "unread_columns": read.unread_columns,
        "problems": problems, "out": options.out,
    }))?;
    Ok(if problems.is_none() { Verdict::Done } else { Verdict::Found })
}

fn tell(context: &Context, read: &ImportedRules, shadows: usize) -> Result<()> {
    let screen = context.screen();
    if screen.is_json() {
        return Ok(());
    }
    let row = |rule: &Map<String, Value>| Row {
        id: rule["id"].as_str().unwrap_or_default().to_owned(),
        priority: rule.get("priority").and_then(Value::as_i64).unwrap_or(0),
        shadow: rule.get("shadow") == Some(&json!(true)),
        when: conditions(&rule["when"]),
        psps: rule.get("psps").map_or_else(|| weights(&rule["split"]), |psps| listed(psps, " > ")),
    };
    let rows: Vec<Row> = read.rules.iter().map(row).collect();
    screen.say(format!(
        "{} rules, {shadows} of them watched only (SHADOW_MODE); {} not active, {} rows rejected\n",
        rows.len(),
        read.inactive.len(),
        read.rejects.len()
    ))?;
    screen.rows(RULES, &rows, "no rules")
}

fn conditions(when: &Value) -> String {
    let each = when.as_object().into_iter().flatten().map(|(key, value)| format!("{key} {}", listed(value, "|")));
    each.collect::<Vec<_>>().join(", ")
}

fn weights(split: &Value) -> String {
    let each = split.as_array().into_iter().flatten().map(|part| format!("{} {}", listed(&part["psp"], ""), part["weight"]));
    each.collect::<Vec<_>>().join(", ")
}

/// What a value holds, without quotes.
fn listed(value: &Value, between: &str) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(|item| listed(item, between)).collect::<Vec<_>>().join(between),
        Value::Object(fields) => fields.values().map(|field| listed(field, "-")).collect::<Vec<_>>().join("-"),
        other => other.to_string(),
    }
}

/// What is wrong with the configuration in force when its rules are these.
fn problems(globals: &Globals, rules: &[Map<String, Value>]) -> Result<Option<String>> {
    let text = globals.config.as_ref().map(std::fs::read_to_string).transpose()?.unwrap_or_default();
    let mut file: toml::Table = toml::from_str(&text)?;
    file.insert("rules".to_owned(), toml::Value::try_from(rules)?);
    let env = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let options = LoadOptions { base: Some(file.to_string()), file: None, env: env.collect(), overrides: globals.overrides() };
    Ok(Config::load(&options).err().map(|problems| problems.to_string()))
}
