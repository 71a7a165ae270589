//! The result of a statement as a file of JSON lines, page by page: what was begun goes on where it stopped.
//!
//! Owns the two files that lie beside the wanted one until it is whole: the lines so far, and how far they go. The vendor keeps a result for a
//! day, under the handle of its statement; a page of it is asked for again as often as it takes. Values become texts as the vendor's own exports
//! have them: times without zone as they are, others in UTC. Never knows what a column means: `io::history` reads the file by a mapping.

use super::sql::{Record, ResultColumn, Sql};
use super::{SnowflakeError, WarehouseError};
use crate::io::failpoint;
use chrono::{DateTime, Days, NaiveDate, NaiveTime, TimeDelta};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// What is asked for: `binds` stand for the statement's question marks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    pub statement: String,
    pub binds: Vec<String>,
}

/// How far a file is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    question: Question,
    handle: String,
    columns: Vec<ResultColumn>,
    pub pages: usize,
    /// The first page that is not in the file.
    pub next: usize,
    bytes: u64,
    pub rows: u64,
}

/// Writes the answer into the file, or goes on with it; `tell` hears of each page.
pub fn export(
    sql: &mut Sql,
    question: &Question,
    to: &Path,
    tell: &mut dyn FnMut(&Progress),
) -> Result<Progress, WarehouseError> {
    let (part, beside) = (with_ending(to, "part"), with_ending(to, "progress"));
    let mut first = None;
    let mut progress = if let Some(begun) = begun(&beside, question)? {
        begun
    } else {
        let binds: Vec<Option<&str>> = question.binds.iter().map(|bind| Some(bind.as_str())).collect();
        let answer = sql.begin(&question.statement, &binds)?;
        first = Some(answer.first);
        let (handle, columns, pages) = (answer.handle, answer.columns, answer.pages.max(1));
        Progress { question: question.clone(), handle, columns, pages, next: 0, bytes: 0, rows: 0 }
    };
    // What lies behind the last page that was noted is half a page.
    let file = File::options().create(true).write(true).truncate(false).open(&part).map_err(WarehouseError::io(&part))?;
    file.set_len(progress.bytes).map_err(WarehouseError::io(&part))?;
    drop(file);
    while progress.next < progress.pages {
        let records = match first.take() {
            Some(records) => records,
            None => sql.page_of(&progress.handle, progress.next).map_err(|error| gone(error, &beside))?,
        };
        progress.bytes = append(&part, &progress.columns, &records)?;
        progress.rows += records.len() as u64;
        progress.next += 1;
        failpoint::pass("snowflake-page-written");
        save(&beside, &progress)?;
        tell(&progress);
    }
    fs::rename(&part, to).map_err(WarehouseError::io(to))?;
    fs::remove_file(&beside).map_err(WarehouseError::io(&beside))?;
    Ok(progress)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn begun(beside: &Path, question: &Question) -> Result<Option<Progress>, WarehouseError> {
    let text = match fs::read(beside) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(WarehouseError::io(beside)(error)),
    };
    let damaged = |problem: String| WarehouseError::Damaged { place: beside.display().to_string(), problem };
    let progress: Progress = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if progress.question != *question {
        return Err(damaged(format!("it is of another question, {:?}", progress.question.statement)));
    }
    Ok(Some(progress))
}

/// A result that is not there any more cannot be gone on with.
fn gone(error: SnowflakeError, beside: &Path) -> SnowflakeError {
    match error {
        SnowflakeError::Refused { what, refusal } => {
            let what = format!("{what}, the result of an earlier day is gone: remove {} to begin again", beside.display());
            SnowflakeError::Refused { what, refusal }
        }
        other => other,
    }
}

/// Writes the lines and syncs them; gives the file's length.
fn append(part: &Path, columns: &[ResultColumn], records: &[Record]) -> Result<u64, WarehouseError> {
    let file = File::options().append(true).open(part).map_err(WarehouseError::io(part))?;
    let mut writer = BufWriter::new(file);
    let written = (|| {
        for record in records {
            let values = columns.iter().zip(record).map(|(column, value)| {
                let value = value.as_deref().map_or(Value::Null, |value| Value::String(shown(column, value)));
                (column.name.clone(), value)
            });
            serde_json::to_writer(&mut writer, &values.collect::<Map<String, Value>>())?;
            writer.write_all(b"\n")?;
        }
        writer.flush()?;
        writer.get_ref().sync_data()?;
        writer.get_ref().metadata().map(|it| it.len())
    })();
    written.map_err(WarehouseError::io(part))
}

fn save(beside: &Path, progress: &Progress) -> Result<(), WarehouseError> {
    let aside = with_ending(beside, "new");
    let text = serde_json::to_vec(progress).map_err(|error| WarehouseError::io(&aside)(error.into()))?;
    let written = File::create(&aside).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_data()
    });
    written.map_err(WarehouseError::io(&aside))?;
    fs::rename(&aside, beside).map_err(WarehouseError::io(beside))
}

/// The vendor gives dates as days and times as seconds since 1970.
fn shown(column: &ResultColumn, value: &str) -> String {
    let as_time = match column.kind.to_ascii_lowercase().as_str() {
        "date" => value.parse().ok().and_then(date),
        "time" => seconds(value).and_then(time_of_day),
        "timestamp_ntz" => seconds(value).and_then(|at| moment(at, "%Y-%m-%d %H:%M:%S%.3f")),
        // Behind the seconds of the latter stands its zone.
        "timestamp_ltz" | "timestamp_tz" => {
            let at = value.split(' ').next().unwrap_or_default();
            seconds(at).and_then(|at| moment(at, "%Y-%m-%dT%H:%M:%S%.3fZ"))
        }
        _ => None,
    };
    as_time.unwrap_or_else(|| value.to_owned())
}

fn date(days: i64) -> Option<String> {
    let epoch = NaiveDate::default();
    let distance = Days::new(days.unsigned_abs());
    let date = if days < 0 { epoch.checked_sub_days(distance) } else { epoch.checked_add_days(distance) };
    date.map(|date| date.to_string())
}

fn time_of_day((seconds, nanos): (i64, u32)) -> Option<String> {
    let time = NaiveTime::default().overflowing_add_signed(TimeDelta::try_seconds(seconds)?).0;
    Some((time + TimeDelta::nanoseconds(nanos.into())).format("%H:%M:%S%.3f").to_string())
}

fn moment((seconds, nanos): (i64, u32), format: &str) -> Option<String> {
    DateTime::from_timestamp(seconds, nanos).map(|at| at.format(format).to_string())
}

/// Whole seconds towards the past, and nanoseconds, of a decimal number.
fn seconds(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (seconds, nanos) = (whole.parse::<i64>().ok()?, format!("{fraction:0<9}").get(..9)?.parse::<u32>().ok()?);
    let is_negative = whole.starts_with('-');
    Some(if is_negative && nanos > 0 { (seconds - 1, 1_000_000_000 - nanos) } else { (seconds, nanos) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_the_vendors_exports_have_them() {
        for (kind, value, expected) in [
            ("text", "it's", "it's"),
            ("fixed", "12.50", "12.50"),
            ("boolean", "true", "true"),
            ("date", "20458", "2026-01-05"),
            ("date", "-1", "1969-12-31"),
            ("time", "43200.250000000", "12:00:00.250"),
            ("timestamp_ntz", "1767614400.250000000", "2026-01-05 12:00:00.250"),
            ("TIMESTAMP_LTZ", "1767614400", "2026-01-05T12:00:00.000Z"),
            ("timestamp_tz", "1767614400.5 1440", "2026-01-05T12:00:00.500Z"),
            ("timestamp_ntz", "-0.250000000", "1969-12-31 23:59:59.750"),
            // What is no number is shown as it came.
            ("timestamp_ntz", "never", "never"),
            ("date", "99999999999999", "99999999999999"),
            ("timestamp_ntz", "99999999999999999999", "99999999999999999999"),
        ] {
            assert_eq!(shown(&ResultColumn { name: "C".to_owned(), kind: kind.to_owned() }, value), expected, "{kind} {value}");
        }
    }
}
