//! What lies where: `TABLE/day=2026-01-31/TOPIC-PARTITION-FIRST-LAST.parquet`, offsets of the first and the last row in 20 digits.

use super::super::{Channel, WarehouseError};
use crate::domain::EpochMs;
use crate::io::log::TopicPartition;
use chrono::{DateTime, NaiveDate};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const DAY: &str = "day=";
const ENDING: &str = ".parquet";

/// A file of a channel, by what its name says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileName {
    pub(super) at: TopicPartition,
    pub(super) first: i64,
    pub(super) last: i64,
}

impl FileName {
    pub(super) fn of(channel: &Channel, (first, last): (i64, i64)) -> Self {
        Self { at: channel.at.clone(), first, last }
    }

    pub(super) fn text(&self) -> String {
        format!("{}-{}-{:020}-{:020}{ENDING}", self.at.topic, self.at.partition, self.first, self.last)
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(ENDING)?.rsplitn(4, '-');
        let mut number = || parts.next()?.parse::<i64>().ok();
        let (last, first, partition) = (number()?, number()?, number()?);
        let at = TopicPartition::new(parts.next()?, i32::try_from(partition).ok()?);
        (first <= last).then_some(Self { at, first, last })
    }
}

pub(super) fn day_of(at: EpochMs) -> NaiveDate {
    DateTime::from_timestamp_millis(at).unwrap_or_default().date_naive()
}

pub(super) fn directory_of(table: &Path, day: NaiveDate) -> PathBuf {
    table.join(format!("{DAY}{day}"))
}

/// The days of a table, oldest first; none where there is no such directory.
pub(super) fn days(table: &Path) -> Result<Vec<NaiveDate>, WarehouseError> {
    let mut days: Vec<NaiveDate> = entries(table)?.iter().filter_map(|name| name.strip_prefix(DAY)?.parse().ok()).collect();
    days.sort();
    Ok(days)
}

/// The files of one day, in order of channel and offset.
pub(super) fn files(day: &Path) -> Result<Vec<FileName>, WarehouseError> {
    let mut files: Vec<FileName> = entries(day)?.iter().filter_map(|name| FileName::parse(name)).collect();
    files.sort();
    Ok(files)
}

fn entries(directory: &Path) -> Result<Vec<String>, WarehouseError> {
    let found = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found.map_err(WarehouseError::io(directory))?,
    };
    let mut names = Vec::new();
    for entry in found {
        names.extend(entry.map_err(WarehouseError::io(directory))?.file_name().into_string());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_topic_partition_and_offsets() {
        let name = FileName { at: TopicPartition::new("a-b.athia.feedback", 11), first: 0, last: 7 };
        assert_eq!(name.text(), "a-b.athia.feedback-11-00000000000000000000-00000000000000000007.parquet");
        assert_eq!(FileName::parse(&name.text()), Some(name));
        for other in ["x.parquet", "t-0-2-1.parquet", "t-0-1-2.parquet.tmp", "t-x-1-2.parquet"] {
            assert_eq!(FileName::parse(other), None, "{other}");
        }
        assert_eq!(day_of(1_767_571_200_000 - 1).to_string(), "2026-01-04");
    }
}
