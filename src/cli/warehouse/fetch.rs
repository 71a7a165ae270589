//! `warehouse fetch`: a view or table of the merchant's Snowflake as a file of JSON lines, for `replay`, `explore` and `rules import`.

use super::super::context::Context;
use super::super::dataset::{period, time};
use super::super::screen::remark;
use super::super::{Verdict, WrongUse};
use super::{snowflake, target};
use anyhow::{Result, bail};
use chrono::{DateTime, SecondsFormat};
use clap::Args;
use serde_json::json;
use smartrouter::domain::EpochMs;
use smartrouter::io::warehouse::snowflake::{Question, export};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
    /// Its name; before it, with dots between, its database and schema where these are not the configured ones
    #[arg(value_name = "VIEW")]
    view: String,
    /// Where it goes; what an interrupted fetch left beside it is gone on with
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
    /// The column that --from and --to are about
    #[arg(long, value_name = "COLUMN")]
    by: Option<String>,
    /// Only rows from this time on, such as 2026-01-20 or 2026-01-20T06:00:00Z; UTC without a zone
    #[arg(long, value_name = "TIME", value_parser = time, requires = "by")]
    from: Option<EpochMs>,
    /// ... and before this one
    #[arg(long, value_name = "TIME", value_parser = time, requires = "by")]
    to: Option<EpochMs>,
    /// Role to read with; otherwise the configured one
    #[arg(long, value_name = "ROLE")]
    as_role: Option<String>,
}

pub(super) fn fetch(context: &Context, options: &Options) -> Result<Verdict> {
    if !target::is_shared(context.config()) {
        bail!(WrongUse(
            "warehouse.kind is \"local\": views are read where it is \"snowflake\", with [warehouse.snowflake]".to_owned()
        ));
    }
    period(options.from, options.to)?;
    let question = question(options)?;
    if options.out.exists() {
        bail!(WrongUse(format!("{} is there: name another file, or move it away", options.out.display())));
    }
    let mut sql = snowflake::acting(context, options.as_role.as_deref())?;
    let done = export(&mut sql, &question, &options.out, &mut |progress| {
        remark(format!("page {} of {}: {} rows", progress.next, progress.pages, progress.rows));
    })?;
    context.screen().say(format!("{}: {} rows in {}", options.view, done.rows, options.out.display()))?;
    context.screen().object(&json!({ "view": options.view, "rows": done.rows, "file": options.out }))?;
    Ok(Verdict::Done)
}

/// Names cannot be bound, so they are words without quotes; times are.
fn question(options: &Options) -> Result<Question> {
    let is_word = |word: &str| {
        word.bytes().all(|it| it.is_ascii_alphanumeric() || b"_$".contains(&it))
            && !word.starts_with(|it: char| it.is_ascii_digit())
    };
    let parts: Vec<&str> = options.view.split('.').collect();
    for name in parts.iter().chain(&options.by.as_deref()) {
        if name.is_empty() || !is_word(name) || parts.len() > 3 {
            bail!(WrongUse(format!("{name:?} is no name that needs no quotes: VIEW, SCHEMA.VIEW or DATABASE.SCHEMA.VIEW")));
        }
    }
    let mut question = Question { statement: format!("SELECT * FROM {}", options.view), binds: Vec::new() };
    let by = options.by.as_deref().unwrap_or_default();
    for (bound, sign) in [(options.from, ">="), (options.to, "<")] {
        let Some(at) = bound.and_then(DateTime::from_timestamp_millis) else { continue };
        let word = if question.binds.is_empty() { "WHERE" } else { "AND" };
        question.statement = format!("{} {word} {by} {sign} TO_TIMESTAMP_NTZ(?)", question.statement);
        question.binds.push(at.to_rfc3339_opts(SecondsFormat::Millis, true).trim_end_matches('Z').to_owned());
    }
    Ok(question)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(view: &str, by: Option<&str>, times: (Option<EpochMs>, Option<EpochMs>)) -> Result<Question> {
        let (from, to) = times;
        question(&Options { view: view.to_owned(), out: PathBuf::new(), by: by.map(ToOwned::to_owned), from, to, as_role: None })
    }

    #[test]
    fn times_are_bound_and_names_are_words() {
        let all = asked("ABTESTING.PUBLIC.ALL_VIEWS_FLAT", None, (None, None)).unwrap();
        assert_eq!((all.statement.as_str(), all.binds.len()), ("SELECT * FROM ABTESTING.PUBLIC.ALL_VIEWS_FLAT", 0));
        let some = asked("V", Some("CREATED_AT"), (Some(1_767_614_400_000), Some(1_767_614_400_250))).unwrap();
        assert_eq!(
            some.statement,
            "SELECT * FROM V WHERE CREATED_AT >= TO_TIMESTAMP_NTZ(?) AND CREATED_AT < TO_TIMESTAMP_NTZ(?)"
        );
        assert_eq!(some.binds, ["2026-01-05T12:00:00.000", "2026-01-05T12:00:00.250"]);
        for wrong in ["", "a b", "a;b", "A.B.C.D", "\"A\"", "1A", "A.", "A--"] {
            assert!(asked(wrong, None, (None, None)).is_err(), "{wrong}");
        }
        assert!(asked("V", Some("x = 1 OR y"), (Some(0), None)).is_err());
    }
}
