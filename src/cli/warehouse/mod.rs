//! `warehouse`: what of the tables is there, whether it is right, and how other programs see them.

pub(super) mod duckdb;
mod snowflake;
mod tables;
pub(super) mod target;

use super::Verdict;
use super::context::Context;
use super::scan::partitions_of;
use super::screen::{Column, print, remark};
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use duckdb::{DuckDb, Form};
use serde::{Deserialize, Serialize};
use smartrouter::io::log::TopicPartition;
use smartrouter::io::warehouse::local::{Held, held};
use smartrouter::io::warehouse::snowflake::Record;
use smartrouter::io::warehouse::{Catalogue, Dialect, check_query, documentation, views};
use std::collections::BTreeMap;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// What is there of each table, and what the next sync makes
    Plan,
    /// The tables, views and rights that are missing in Snowflake, as SQL; made with --execute
    Apply(snowflake::Options),
    /// Rows, gaps and doubles of each partition, columns, and how far the topics are ahead
    Check,
    /// Tables and views as SQL
    Ddl(DdlOptions),
    /// The tables in words, as schemas/warehouse/README.md has them
    Docs,
}

#[derive(Debug, Args)]
pub(super) struct DdlOptions {
    /// duckdb: views over the files of this warehouse (`duckdb -init FILE`)
    #[arg(long, value_enum, default_value_t = Sql::Duckdb)]
    dialect: Sql,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sql {
    Duckdb,
    Snowflake,
}

pub(super) fn run(context: &Context, command: &Command) -> Result<Verdict> {
    match command {
        Command::Plan => plan(context),
        Command::Apply(options) => snowflake::apply(context, options),
        Command::Check if target::is_shared(context.config()) => snowflake::check(context),
        Command::Check => check(context),
        Command::Ddl(options) => ddl(context, options.dialect),
        Command::Docs => print(&documentation(&Catalogue::shipped()?)?).map(|()| Verdict::Done),
    }
}

#[derive(Serialize)]
struct Planned {
    table: String,
    state: &'static str,
    days: usize,
    files: usize,
    bytes: u64,
    columns: usize,
}

const PLANNED: &[Column] = &[
    Column::new("TABLE", "/table"),
    Column::new("STATE", "/state"),
    Column::new("COLUMNS", "/columns"),
    Column::new("DAYS", "/days"),
    Column::new("FILES", "/files"),
    Column::new("BYTES", "/bytes"),
];

fn plan(context: &Context) -> Result<Verdict> {
    if target::is_shared(context.config()) {
        return snowflake::apply(context, &snowflake::Options::default());
    }
    let (directory, catalogue) = (context.config().warehouse_dir(), Catalogue::shipped()?);
    let of = |held: Held| Planned {
        columns: catalogue.table(&held.table).map_or(0, |table| table.columns.len()),
        state: if held.files == 0 { "is made with the first row" } else { "is there" },
        table: held.table,
        days: held.days,
        files: held.files,
        bytes: held.bytes,
    };
    let rows: Vec<Planned> = held(&directory, &catalogue)?.into_iter().map(of).collect();
    context.screen().say(format!("local warehouse in {}; nothing has to be applied", directory.display()))?;
    context.screen().rows(PLANNED, &rows, "no tables")?;
    Ok(Verdict::Done)
}

#[derive(Debug, Serialize, Deserialize)]
struct Checked {
    table_name: String,
    topic: String,
    partition: i32,
    rows_held: i64,
    first_offset: i64,
    last_offset: i64,
    doubles: i64,
    gaps: i64,
    /// Offsets between the last row and the end of the topic; absent when the log cannot be asked.
    #[serde(default)]
    lag: Option<i64>,
}

impl Checked {
    /// From texts, in the order of the query.
    fn read(record: Record) -> Result<Self> {
        let texts: Vec<String> = record.into_iter().map(Option::unwrap_or_default).collect();
        let [table_name, topic, partition, rows_held, first_offset, last_offset, doubles, gaps] = texts.as_slice() else {
            bail!("the check gives rows of another width: {texts:?}");
        };
        let number = |text: &String| text.parse::<i64>().with_context(|| format!("{text:?} is no number"));
        Ok(Self {
            table_name: table_name.clone(),
            topic: topic.clone(),
            partition: i32::try_from(number(partition)?)?,
            rows_held: number(rows_held)?,
            first_offset: number(first_offset)?,
            last_offset: number(last_offset)?,
            doubles: number(doubles)?,
            gaps: number(gaps)?,
            lag: None,
        })
    }
}

const CHECKED: &[Column] = &[
    Column::new("TABLE", "/table_name"),
    Column::new("TOPIC", "/topic"),
    Column::new("PARTITION", "/partition"),
    Column::new("ROWS", "/rows_held"),
    Column::new("FIRST-OFFSET", "/first_offset"),
    Column::new("LAST-OFFSET", "/last_offset"),
    Column::new("DOUBLES", "/doubles"),
    Column::new("GAPS", "/gaps"),
    Column::new("LAG", "/lag"),
];

fn check(context: &Context) -> Result<Verdict> {
    let duckdb = DuckDb::find(context)?;
    let query = format!("{}\nORDER BY 1, 2, 3", check_query(duckdb.catalogue()));
    let rows: Vec<Checked> = serde_json::from_slice(&duckdb.ask(&query, Form::Json)?)?;
    let strange = strange_columns(&duckdb)?;
    strange.iter().for_each(remark);
    tell_checked(
        context,
        rows,
        &strange,
        &format!("{}: move the table's directory away, and the next sync writes it anew", duckdb.root().display()),
    )
}

/// Shows it, with how far the topics are ahead; `place`: where the rows are, and what to do when they are not those of the log.
fn tell_checked(context: &Context, mut rows: Vec<Checked>, strange: &[String], place: &str) -> Result<Verdict> {
    match ends(context) {
        Ok(ends) => {
            for row in &mut rows {
                let end = ends.get(&TopicPartition::new(&row.topic, row.partition));
                row.lag = end.map(|end| (end - 1 - row.last_offset).max(0));
            }
        }
        Err(error) => remark(format!("the log cannot be asked how far it is ahead: {error}")),
    }
    context.screen().rows(CHECKED, &rows, "no rows yet")?;
    let is_right = strange.is_empty() && rows.iter().all(|row| row.doubles == 0 && row.gaps == 0);
    if !is_right {
        remark(format!("the rows or columns are not those of the log in {place}"));
    }
    Ok(if is_right { Verdict::Done } else { Verdict::Found })
}

fn ends(context: &Context) -> Result<BTreeMap<TopicPartition, i64>> {
    let (log, catalogue) = (context.log()?, Catalogue::shipped()?);
    let topics: Vec<String> = catalogue.streamed().map(|(_, kind)| context.topic(kind.topic())).collect();
    let mut reader = log.reader()?;
    partitions_of(log.as_ref(), &topics)?.into_iter().map(|at| Ok((at.clone(), reader.bounds(&at)?.1))).collect()
}

/// Columns of the files that are not those of the catalogue.
fn strange_columns(duckdb: &DuckDb<'_>) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Found {
        column_name: String,
    }
    let mut told = Vec::new();
    for of in held(duckdb.root(), duckdb.catalogue())?.iter().filter(|held| held.files > 0) {
        let Some(table) = duckdb.catalogue().table(&of.table) else { continue };
        let files = format!("read_parquet('{}/*/*.parquet', hive_partitioning = true, union_by_name = true)", of.table);
        let found = duckdb.ask(&format!("SELECT column_name FROM (DESCRIBE SELECT * FROM {files})"), Form::Json)?;
        let found: Vec<Found> = serde_json::from_slice(&found)?;
        let is_known = |name: &str| name == "day" || table.columns.iter().any(|column| column.name == name);
        told.extend(
            found
                .iter()
                .filter(|it| !is_known(&it.column_name))
                .map(|it| format!("{}: {} is no column of it", of.table, it.column_name)),
        );
        let is_there = |name: &str| found.iter().any(|it| it.column_name == name);
        let missing = table.columns.iter().filter(|column| !column.nullable && !is_there(&column.name));
        told.extend(missing.map(|column| format!("{}: no file has the column {}", of.table, column.name)));
    }
    Ok(told)
}

fn ddl(context: &Context, dialect: Sql) -> Result<Verdict> {
    let catalogue = Catalogue::shipped()?;
    let statements = match dialect {
        Sql::Duckdb => {
            let directory = context.config().warehouse_dir();
            let directory = directory.canonicalize().unwrap_or(directory);
            let search = format!("SET file_search_path = '{}'", directory.display().to_string().replace('\'', "''"));
            let tables = tables::statements(&catalogue, &held(&directory, &catalogue)?)?;
            std::iter::once(search).chain(tables).collect()
        }
        Sql::Snowflake => {
            let mut statements: Vec<String> = catalogue.tables.iter().map(|table| table.ddl(Dialect::Snowflake)).collect();
            let views = views(Dialect::Snowflake)?.into_iter();
            statements.extend(views.map(|view| format!("CREATE OR REPLACE VIEW {} AS\n{}", view.name, view.select)));
            statements
        }
    };
    statements.iter().try_for_each(|statement| print(&format!("{statement};\n\n")))?;
    Ok(Verdict::Done)
}
