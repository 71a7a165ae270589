//! `topics plan|apply|check`: what the cluster lacks of the declared topics, and of their schemas.
//!
//! Never deletes, never alters: what differs is told and stays as it is.

use super::Verdict;
use super::context::Context;
use super::screen::remark;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use smartrouter::io::codec::{Codec, Registration};
use smartrouter::io::log::EventLog;
use smartrouter::io::topics::{self, PlanOptions, TopicPlan};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// What would be created, and what differs
    Plan(Options),
    /// Create topics that are missing and register schemas; without --execute only the plan is shown
    Apply {
        #[command(flatten)]
        options: Options,
        /// Do it
        #[arg(long)]
        execute: bool,
    },
    /// Whether everything is as declared; ends with 3 when not
    Check(Options),
}

#[derive(Debug, Default, Args)]
pub(super) struct Options {
    /// Partitions of the topics that share partitions, instead of those declared
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: Option<i32>,
    /// Replicas of each partition, instead of the cluster's default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100))]
    replication: Option<i32>,
}

pub(super) fn run(context: &Context, command: Command) -> Result<Verdict> {
    let log = context.log()?;
    let codec = context.codec()?;
    match command {
        Command::Plan(options) => {
            let found = Found::look(context, log.as_ref(), &codec, &options)?;
            found.show(context)?;
            context.screen().object(&found.json())?;
            Ok(Verdict::Done)
        }
        Command::Check(options) => {
            let found = Found::look(context, log.as_ref(), &codec, &options)?;
            found.show(context)?;
            if !found.is_settled() {
                remark("`smartrouter topics apply --execute` creates what is missing; what differs is yours to mend");
            }
            context.screen().object(&found.json())?;
            Ok(if found.is_settled() { Verdict::Done } else { Verdict::Found })
        }
        Command::Apply { options, execute } => apply(context, log.as_ref(), &codec, (&options, execute)),
    }
}

fn apply(context: &Context, log: &dyn EventLog, codec: &Codec, (options, execute): (&Options, bool)) -> Result<Verdict> {
    let found = Found::look(context, log, codec, options)?;
    found.show(context)?;
    let mut result = found.json();
    result["executed"] = json!(execute);
    if execute {
        refuse_what_cannot_work(&found)?;
        log.create_topics(&found.plan.create)?;
        for registration in found.to_register() {
            codec.register(registration.kind)?;
        }
        let (topics, schemas) = (found.plan.create.len(), found.to_register().count());
        context.screen().say(format!("created: {topics} topics; registered: {schemas} schemas"))?;
    } else if !found.plan.create.is_empty() || found.to_register().next().is_some() {
        remark("nothing was created: this is the plan; --execute carries it out");
    }
    context.screen().object(&result)?;
    Ok(Verdict::Done)
}

fn refuse_what_cannot_work(found: &Found) -> Result<()> {
    if let Some(set) = found.plan.unequal.first() {
        bail!("the topics of the set {} have unequal numbers of partitions; nothing was created. {}", set.set, set.remedy);
    }
    if let Some(subject) = found.registrations.iter().find(|it| !it.compatible) {
        bail!(
            "the schema registry holds a schema under {} that ours is not compatible with; nothing was created",
            subject.subject
        );
    }
    Ok(())
}

/// What the cluster and the registry have, against what is declared.
pub(super) struct Found {
    pub(super) plan: TopicPlan,
    /// Empty without a registry.
    pub(super) registrations: Vec<Registration>,
}

impl Found {
    fn look(context: &Context, log: &dyn EventLog, codec: &Codec, options: &Options) -> Result<Self> {
        Ok(Self { plan: plan(context, log, options)?, registrations: codec.registrations()? })
    }

    fn is_settled(&self) -> bool {
        self.plan.is_settled() && self.registrations.iter().all(|it| it.id.is_some())
    }

    fn to_register(&self) -> impl Iterator<Item = &Registration> {
        self.registrations.iter().filter(|it| it.id.is_none())
    }

    fn show(&self, context: &Context) -> Result<()> {
        self.registration_lines().into_iter().chain(self.plan.lines()).try_for_each(|line| context.screen().say(line))
    }

    fn registration_lines(&self) -> Vec<String> {
        let found =
            |it: &Registration| if it.compatible { "not registered" } else { "not compatible with the one that is registered" };
        let line = |it: &Registration| format!("{} schema {}: {}", if it.compatible { '+' } else { '!' }, it.subject, found(it));
        self.to_register().map(line).collect()
    }

    fn json(&self) -> Value {
        let schema = |it: &Registration| json!({"subject": it.subject, "id": it.id, "compatible": it.compatible});
        let mut result = serde_json::to_value(&self.plan).unwrap_or_default();
        result["schemas"] = self.registrations.iter().map(schema).collect();
        result["settled"] = json!(self.is_settled());
        result
    }
}

/// Compares the declared topics with those of the log, settings included.
pub(super) fn plan(context: &Context, log: &dyn EventLog, options: &Options) -> Result<TopicPlan> {
    let names = context.names();
    let wanted: Vec<String> = topics::names().map(|base| names.full(base)).collect();
    let there: Vec<String> = log.topics(&[])?.into_iter().map(|topic| topic.name).filter(|name| wanted.contains(name)).collect();
    let options = PlanOptions { names: names.clone(), partitions: options.partitions, replication: options.replication };
    Ok(topics::plan(&topics::declared()?, &log.topics(&there)?, &options))
}
