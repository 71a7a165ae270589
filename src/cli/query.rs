//! `query`: one SELECT over the local warehouse, tables and views by their names.

use super::context::Context;
use super::globals::OutputFormat;
use super::screen::{print, remark};
use super::warehouse::duckdb::{DuckDb, Form};
use super::{Verdict, WrongUse};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Map, Value};
use std::io::Read;

// What is documented here is printed by `--help`, where backticks would stay.
#[allow(clippy::doc_markdown)]
#[derive(Debug, Args)]
pub(super) struct Options {
    /// One SELECT, such as "SELECT * FROM ATHIA_SESSION_SUMMARY LIMIT 5"; nothing: from standard input
    #[arg(value_name = "SQL")]
    sql: Vec<String>,
}

pub(super) fn run(context: &Context, options: &Options, format: OutputFormat) -> Result<Verdict> {
    let mut sql = options.sql.join(" ");
    if options.sql.is_empty() {
        std::io::stdin().read_to_string(&mut sql).context("no SQL on standard input")?;
    }
    if sql.trim().is_empty() {
        bail!(WrongUse("there is no SQL: give it as an argument, or on standard input".to_owned()));
    }
    let duckdb = DuckDb::find(context)?;
    if format == OutputFormat::Csv {
        print(&String::from_utf8(duckdb.ask(&sql, Form::Csv)?)?)?;
        return Ok(Verdict::Done);
    }
    let rows: Vec<Map<String, Value>> = serde_json::from_slice(&duckdb.ask(&sql, Form::Json)?)?;
    context.screen().records(&rows)?;
    if !context.screen().is_json() {
        let root = duckdb.root().display();
        remark(format!(
            "\nthe same files in DuckDB:  SELECT * FROM read_parquet('{root}/ATHIA_FEEDBACK/*/*.parquet', hive_partitioning = true)\n\
             in pandas:                 pandas.read_parquet('{root}/ATHIA_FEEDBACK')"
        ));
    }
    Ok(Verdict::Done)
}
