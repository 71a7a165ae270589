//! `warehouse` where the tables are in Snowflake: what is missing there, made on demand; gaps and doubles.

use super::super::context::Context;
use super::super::screen::{Column, print, remark};
use super::super::{Verdict, WrongUse};
use super::target;
use super::{Checked, tell_checked};
use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use smartrouter::io::warehouse::snowflake::{SnowflakeSettings, Sql, schema};
use smartrouter::io::warehouse::{Catalogue, check_query};
use smartrouter::runtime::Stop;

#[derive(Debug, Default, Args)]
pub(in crate::cli) struct Options {
    /// Make what is missing; without it, only show it
    #[arg(long)]
    execute: bool,
    /// Role to look and to make it with, such as the owner of the schema; that of the configuration gets the rights
    #[arg(long, value_name = "ROLE")]
    as_role: Option<String>,
}

#[derive(Serialize)]
struct Planned {
    object: String,
    what: String,
    state: &'static str,
}

const PLANNED: &[Column] = &[Column::new("OBJECT", "/object"), Column::new("WHAT", "/what"), Column::new("STATE", "/state")];

pub(super) fn apply(context: &Context, options: &Options) -> Result<Verdict> {
    if !target::is_shared(context.config()) {
        if options.as_role.is_some() {
            bail!(WrongUse("warehouse.kind is \"local\": its files have no roles".to_owned()));
        }
        context.screen().say(format!("local warehouse in {}; nothing has to be applied", target::place(context.config())))?;
        return Ok(Verdict::Done);
    }
    let settings = target::snowflake(context.config());
    if let Some(role) =
        options.as_role.as_ref().filter(|role| !role.bytes().all(|it| it.is_ascii_alphanumeric() || b"_$".contains(&it)))
    {
        bail!(WrongUse(format!("{role:?} is no name of a role that needs no quotes")));
    }
    let acting = SnowflakeSettings { role: options.as_role.clone().or_else(|| settings.role.clone()), ..settings.clone() };
    let (catalogue, mut sql) = (Catalogue::shipped()?, Sql::new(acting, target::patience(&Stop::default()))?);
    let found = schema::find(&mut sql, &settings.schema, settings.role.as_deref())?;
    let plan = schema::plan(&catalogue, &found, (&settings.database, &settings.schema), settings.role.as_deref())?;
    plan.strange.iter().for_each(remark);
    if !options.execute && !context.screen().is_json() {
        plan.steps.iter().try_for_each(|step| print(&format!("{};\n\n", step.statement)))?;
    }
    let mut rows = Vec::new();
    for step in plan.steps {
        if options.execute {
            sql.run(&step.statement, &[])?;
        }
        rows.push(Planned { object: step.object, what: step.what, state: if options.execute { "made" } else { "missing" } });
    }
    context.screen().rows(PLANNED, &rows, &format!("{}: nothing is missing", settings.place()))?;
    if !rows.is_empty() && !options.execute {
        remark("nothing is changed yet: add --execute");
    }
    Ok(Verdict::Done)
}

pub(super) fn check(context: &Context) -> Result<Verdict> {
    let (settings, catalogue) = (target::snowflake(context.config()), Catalogue::shipped()?);
    let mut sql = Sql::new(settings.clone(), target::patience(&Stop::default()))?;
    let found = schema::find(&mut sql, &settings.schema, settings.role.as_deref())?;
    let plan = schema::plan(&catalogue, &found, (&settings.database, &settings.schema), settings.role.as_deref())?;
    let mut strange = plan.strange;
    strange.extend(
        plan.steps
            .iter()
            .map(|step| format!("{}: {} is missing; `smartrouter warehouse apply` shows how to make it", step.object, step.what)),
    );
    strange.iter().for_each(remark);
    if catalogue.streamed().any(|(table, _)| !found.columns.contains_key(&table.name)) {
        return Ok(Verdict::Found);
    }
    let records = sql.run(&format!("{}\nORDER BY 1, 2, 3", check_query(&catalogue)), &[])?;
    let rows = records.into_iter().map(Checked::read).collect::<Result<Vec<_>>>()?;
    tell_checked(context, rows, &strange, &settings.place())
}
