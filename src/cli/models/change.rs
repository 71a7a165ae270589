//! `models promote|rollback|retire`: an order, shown as a plan, and with `--execute` written to `control.models`.
//!
//! A model that would score is loaded first, so that one that every instance would refuse is refused here, with the reason. One that is
//! to decide has to be blessed by the gate, or forced.

use super::{Named, stages, word};
use crate::cli::context::Context;
use crate::cli::gate;
use crate::cli::press::Press;
use crate::cli::screen::remark;
use crate::cli::{Verdict, WrongUse};
use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use smartrouter::domain::control::{ControlModel, Order, Stage, StageBody, Stages, Wish};
use smartrouter::io::codec::Codec;
use smartrouter::io::log::EventLog;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum To {
    /// It scores the same requests, without effect
    Shadow,
    /// It decides for a share of the traffic
    Canary,
    /// It decides
    Champion,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Promotion {
    #[arg(value_name = "NAME@VERSION")]
    model: Named,
    /// What it is to be
    #[arg(long, value_name = "STAGE")]
    to: To,
    /// Of a canary: its share of the traffic, above 0 and below 1
    #[arg(long, value_name = "SHARE")]
    share: Option<f64>,
    /// Also when the gate rejected it, or never judged it; the record says so
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    said: Said,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Rollback {
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    said: Said,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Retirement {
    #[arg(value_name = "NAME@VERSION")]
    model: Named,
    #[command(flatten)]
    said: Said,
}

#[derive(Debug, Args)]
struct Said {
    /// Why: shown with the stage
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Who says so, instead of the name in $USER
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Do it
    #[arg(long)]
    execute: bool,
}

impl Said {
    fn order(&self, name: &str, wish: Wish) -> Order {
        let by = self.by.clone().or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "operator".to_owned());
        let reason = self.reason.clone().filter(|reason| !reason.trim().is_empty());
        Order { name: name.to_owned(), wish, at: chrono::Utc::now().timestamp_millis(), by: Some(by), reason, forced: false }
    }
}

pub(super) fn promote(context: &Context, promotion: &Promotion) -> Result<Verdict> {
    let Promotion { model, to, share, force, said } = promotion;
    let version = model.version.clone();
    let wish = match (to, share) {
        (To::Canary, Some(share)) => Wish::Canary { version, share: *share },
        (To::Canary, None) | (_, Some(_)) => bail!(WrongUse("--share goes with --to canary, and only with it".to_owned())),
        (To::Champion, None) => Wish::Champion { version },
        (To::Shadow, None) => Wish::Shadow { version },
    };
    carry_out(context, said.order(&model.name, wish), (*force, said.execute))
}

pub(super) fn roll_back(context: &Context, rollback: &Rollback) -> Result<Verdict> {
    carry_out(context, rollback.said.order(&rollback.name, Wish::Rollback), (false, rollback.said.execute))
}

pub(super) fn retire(context: &Context, retirement: &Retirement) -> Result<Verdict> {
    let Retirement { model, said } = retirement;
    carry_out(context, said.order(&model.name, Wish::Retire { version: model.version.clone() }), (false, said.execute))
}

/// Why the gate would not have it, if it is asked.
fn objection(context: &Context, order: &Order, stages: &Stages) -> Result<Option<String>> {
    let (version, all) = match &order.wish {
        Wish::Champion { version } => (version, true),
        Wish::Canary { version, .. } => (version, false),
        // Who was champion before was let in then.
        Wish::Shadow { .. } | Wish::Rollback | Wish::Retire { .. } => return Ok(None),
    };
    let named = Named { name: order.name.clone(), version: version.clone() };
    Ok(gate::objection(&named, &named.files(context)?, stages.champion(&order.name), all))
}

fn carry_out(context: &Context, mut order: Order, (force, execute): (bool, bool)) -> Result<Verdict> {
    let (log, codec) = (context.log()?, context.codec()?);
    let before = stages(context, log.as_ref(), &codec)?;
    let mut records = before.plan(&order)?;
    for record in records.iter().filter(|record| record.stage != Stage::Retired) {
        Named { name: record.id.clone(), version: record.version.clone() }.load(context)?;
    }
    if let Some(objection) = objection(context, &order, &before)? {
        if !force {
            bail!("refused: {objection}; --force promotes it all the same");
        }
        remark(format!("forced, although {objection}"));
        order.forced = true;
        records = before.plan(&order)?;
    }
    let mut after = before.clone();
    for record in &records {
        after.apply(record);
    }
    let screen = context.screen();
    for line in plan(&records, (&before, &after), &order.name) {
        screen.say(line)?;
    }
    if execute {
        append(context, log.as_ref(), &codec, &records)?;
        screen.say("written: every instance follows within a second")?;
    } else {
        remark("nothing was written: this is the plan; --execute carries it out");
    }
    let told = |stages: &Stages| {
        let canary = stages.canary(&order.name);
        let canary = canary.map(|(version, share)| json!({ "version": version, "share": share }));
        json!({ "champion": stages.champion(&order.name), "canary": canary, "shadows": stages.shadows(&order.name) })
    };
    let last = records.last();
    screen.object(&json!({
        "model": order.name, "version": last.map(|it| &it.version), "stage": last.map(|it| word(it.stage)), "forced": order.forced,
        "before": told(&before), "after": told(&after), "executed": execute,
    }))?;
    Ok(Verdict::Done)
}

/// What would be so, one line for each record, and who would decide.
fn plan(records: &[ControlModel], (before, after): (&Stages, &Stages), name: &str) -> Vec<String> {
    let line = |record: &ControlModel| {
        let was = before.stage(name, &record.version).map_or("candidate", word);
        let body: StageBody = serde_json::from_str(&record.body_json).unwrap_or_default();
        let share = body.share.map(|share| format!(" with {share} of the traffic")).unwrap_or_default();
        let forced = if body.forced { ", forced" } else { "" };
        format!("{}, {was}, is to be {}{share}{forced}", record.key(), word(record.stage))
    };
    let mut lines: Vec<String> = records.iter().map(line).collect();
    let (old, new) = (before.champion(name), after.champion(name));
    if old != new {
        lines.push(match (old, new) {
            (_, None) => format!("no version of {name} decides then: PSPs are ranked as without a model"),
            (None, Some(new)) => format!("{name}@{new} decides then, where none did"),
            (Some(old), Some(new)) => format!("{name}@{new} decides then, instead of {name}@{old}"),
        });
    }
    lines
}

pub(in crate::cli) fn append(context: &Context, log: &dyn EventLog, codec: &Codec, records: &[ControlModel]) -> Result<()> {
    let press = Press::new(codec.clone(), context.names());
    let output = |record: &ControlModel| press.print(&record.key(), None, record).context("the order cannot be written");
    let mut appender = log.appender()?;
    appender.append(records.iter().map(output).collect::<Result<_>>()?)?;
    Ok(appender.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_who_would_decide() {
        let order = |wish| Order { name: "m".into(), wish, at: 0, by: None, reason: None, forced: true };
        let check = |stages: &mut Stages, wish: Wish, expected: &[&str]| {
            let before = stages.clone();
            let records = before.plan(&order(wish)).unwrap();
            for record in &records {
                stages.apply(record);
            }
            assert_eq!(plan(&records, (&before, stages), "m"), expected);
        };
        let mut stages = Stages::default();
        let it = |version: &str| version.to_owned();
        check(
            &mut stages,
            Wish::Canary { version: it("1"), share: 0.05 },
            &["m@1, candidate, is to be canary with 0.05 of the traffic, forced"],
        );
        check(
            &mut stages,
            Wish::Champion { version: it("1") },
            &["m@1, canary, is to be champion, forced", "m@1 decides then, where none did"],
        );
        check(
            &mut stages,
            Wish::Champion { version: it("2") },
            &["m@2, candidate, is to be champion, forced", "m@2 decides then, instead of m@1"],
        );
        check(
            &mut stages,
            Wish::Retire { version: it("2") },
            &[
                "m@1, retired, is to be retired",
                "m@2, champion, is to be retired, forced",
                "no version of m decides then: PSPs are ranked as without a model",
            ],
        );
    }
}
