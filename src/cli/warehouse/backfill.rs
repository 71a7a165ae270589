//! `warehouse backfill`: rows that are missing in front of others, from the topics once more. `warehouse reset`: all rows, from the beginning.

use super::super::context::Context;
use super::super::dataset::{period, time};
use super::super::scan::partitions_of;
use super::super::screen::{Column, remark};
use super::super::sync::prepare;
use super::super::{Verdict, WrongUse};
use super::duckdb::{DuckDb, Form};
use super::{Checked, snowflake, target};
use anyhow::{Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use smartrouter::domain::EpochMs;
use smartrouter::io::log::TopicPartition;
use smartrouter::io::warehouse::local::held;
use smartrouter::io::warehouse::snowflake::Record;
use smartrouter::io::warehouse::{Catalogue, Channel, check_query, holes_query};
use smartrouter::runtime::Stop;
use smartrouter::runtime::sync::{Found, Hole};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Args)]
pub(in crate::cli) struct BackfillOptions {
    /// Only records that were written from this time on, such as 2026-01-20 or 2026-01-20T06:00:00Z; UTC without a zone
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<EpochMs>,
    /// ... and before this one
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<EpochMs>,
    /// Put them there; without it, only show what is missing
    #[arg(long)]
    execute: bool,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ResetOptions {
    /// Remove them; without it, only show what goes and what comes back
    #[arg(long)]
    execute: bool,
    /// Rows too that no topic has any more
    #[arg(long)]
    force: bool,
    /// Snowflake: role to do it with, such as the owner of the schema
    #[arg(long, value_name = "ROLE")]
    as_role: Option<String>,
}

#[derive(Deserialize)]
struct Missing {
    table_name: String,
    topic: String,
    partition: i32,
    #[serde(default)]
    after_offset: Option<i64>,
    before_offset: i64,
}

impl Missing {
    /// From texts, in the order of the query.
    fn read(record: Record) -> Result<Self> {
        let Ok([Some(table_name), Some(topic), Some(partition), after, Some(before)]) = <[Option<String>; 5]>::try_from(record)
        else {
            bail!("the search for holes gives rows of another width");
        };
        let after_offset = after.map(|after| after.parse()).transpose()?;
        Ok(Self { table_name, topic, partition: partition.parse()?, after_offset, before_offset: before.parse()? })
    }

    fn hole(self) -> Hole {
        let channel = Channel { table: self.table_name, at: TopicPartition::new(&self.topic, self.partition) };
        Hole { channel, after: self.after_offset, before: self.before_offset }
    }
}

#[derive(Serialize)]
struct Shown {
    table: String,
    topic: String,
    partition: i32,
    after_offset: Option<i64>,
    before_offset: i64,
    rows: u64,
    state: String,
}

const HOLES: &[Column] = &[
    Column::new("TABLE", "/table"),
    Column::new("TOPIC", "/topic"),
    Column::new("PARTITION", "/partition"),
    Column::new("AFTER-OFFSET", "/after_offset"),
    Column::new("BEFORE-OFFSET", "/before_offset"),
    Column::new("ROWS", "/rows"),
    Column::new("STATE", "/state"),
];

pub(super) fn backfill(context: &Context, options: &BackfillOptions) -> Result<Verdict> {
    let of = period(options.from, options.to)?;
    let query = format!("{}\nORDER BY 1, 2, 3, 5", holes_query(&Catalogue::shipped()?));
    let missing: Vec<Missing> = if target::is_shared(context.config()) {
        let mut sql = snowflake::acting(context, None)?;
        sql.run(&query, &[])?.into_iter().map(Missing::read).collect::<Result<_>>()?
    } else {
        serde_json::from_slice(&DuckDb::find(context)?.ask(&query, Form::Json)?)?
    };
    let sync = prepare(context, context.log()?, Stop::default())?;
    let found = sync.backfill(missing.into_iter().map(Missing::hole).collect(), &of, options.execute)?;
    let is_waiting = !options.execute && found.iter().any(|found| found.rows > 0);
    let rows: Vec<Shown> = found.into_iter().map(|found| shown(found, options.execute)).collect();
    let place = target::place(context.config());
    context.screen().rows(HOLES, &rows, &format!("{place}: no row is missing in front of others"))?;
    if is_waiting {
        remark("nothing is changed yet: add --execute");
    }
    Ok(Verdict::Done)
}

fn shown(found: Found, is_executed: bool) -> Shown {
    let mut words = Vec::new();
    if found.rows > 0 {
        words.push(if is_executed { "filled" } else { "missing" }.to_owned());
    }
    if found.unreadable > 0 {
        words.push(format!("{} records cannot be read", found.unreadable));
    }
    if found.is_cut {
        words.push("its beginning is in no topic any more".to_owned());
    }
    if words.is_empty() {
        words.push("no record of that time".to_owned());
    }
    let Hole { channel: Channel { table, at }, after: after_offset, before: before_offset } = found.hole;
    let (topic, partition) = (at.topic.to_string(), at.partition);
    Shown { table, topic, partition, after_offset, before_offset, rows: found.rows, state: words.join("; ") }
}

#[derive(Serialize)]
struct Goes {
    table: String,
    topic: String,
    partition: i32,
    first_offset: i64,
    last_offset: i64,
    state: String,
}

const GOES: &[Column] = &[
    Column::new("TABLE", "/table"),
    Column::new("TOPIC", "/topic"),
    Column::new("PARTITION", "/partition"),
    Column::new("FIRST-OFFSET", "/first_offset"),
    Column::new("LAST-OFFSET", "/last_offset"),
    Column::new("STATE", "/state"),
];

pub(super) fn reset(context: &Context, options: &ResetOptions) -> Result<Verdict> {
    let (is_shared, catalogue) = (target::is_shared(context.config()), Catalogue::shipped()?);
    let role = options.as_role.as_deref();
    if role.is_some() && !is_shared {
        bail!(WrongUse("warehouse.kind is \"local\": its files have no roles".to_owned()));
    }
    let spans = if is_shared { of_tables(context, &catalogue, role)? } else { of_files(context, &catalogue)? };
    let log = context.log()?;
    let mut reader = log.reader()?;
    let (mut rows, mut is_lost) = (Vec::new(), false);
    for (Channel { table, at }, (first_offset, last_offset)) in &spans {
        let (begins, _) = reader.bounds(at)?;
        is_lost |= *first_offset < begins;
        let state = match (options.execute, *first_offset < begins) {
            (true, _) => "removed".to_owned(),
            (false, true) => format!("rows before {begins} are in no topic any more"),
            (false, false) => "comes back from the topic".to_owned(),
        };
        let (table, topic, partition) = (table.clone(), at.topic.to_string(), at.partition);
        rows.push(Goes { table, topic, partition, first_offset: *first_offset, last_offset: *last_offset, state });
    }
    if options.execute && is_lost && !options.force {
        bail!(WrongUse(
            "rows would be lost that no topic has any more, see without --execute; keep a copy, and add --force".to_owned()
        ));
    }
    if options.execute {
        // Those without rows too: what they were told last is of what goes.
        let mut channels: BTreeSet<Channel> = spans.into_keys().collect();
        for (table, kind) in catalogue.streamed() {
            let partitions = partitions_of(log.as_ref(), &[context.topic(kind.topic())])?;
            channels.extend(partitions.into_iter().map(|at| Channel { table: table.name.clone(), at }));
        }
        let channels: Vec<Channel> = channels.into_iter().collect();
        target::opened(context, catalogue, role, &log.log_id()?)?.reset(&channels)?;
    }
    let place = target::place(context.config());
    context.screen().rows(GOES, &rows, &format!("{place}: no rows"))?;
    match (rows.is_empty(), options.execute) {
        (true, _) => {}
        (false, true) => remark("the next sync begins at the beginning of the topics"),
        (false, false) => remark("nothing is changed yet: end whatever syncs, and add --execute"),
    }
    Ok(Verdict::Done)
}

/// Offsets of the first and the last row.
type Spans = BTreeMap<Channel, (i64, i64)>;

fn of_files(context: &Context, catalogue: &Catalogue) -> Result<Spans> {
    let mut spans = Spans::new();
    for held in held(&context.config().warehouse_dir(), catalogue)? {
        spans.extend(held.spans.into_iter().map(|(at, span)| (Channel { table: held.table.clone(), at }, span)));
    }
    Ok(spans)
}

fn of_tables(context: &Context, catalogue: &Catalogue, role: Option<&str>) -> Result<Spans> {
    let records = snowflake::acting(context, role)?.run(&check_query(catalogue), &[])?;
    let span = |record| {
        let it = Checked::read(record)?;
        let channel = Channel { table: it.table_name, at: TopicPartition::new(&it.topic, it.partition) };
        Ok((channel, (it.first_offset, it.last_offset)))
    };
    records.into_iter().map(span).collect()
}
