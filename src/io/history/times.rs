//! Times as history writes them, into milliseconds since 1970.

use super::decimal::Decimal;
use crate::domain::EpochMs;
use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;

/// One way to write a time. A mapping lists several; the first that fits reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TimeFormat {
    Rfc3339,
    /// A number since 1970: 10^`exponent` × value / `divisor` is milliseconds. What is finer than a millisecond is cut off.
    Epoch {
        exponent: u32,
        divisor: i128,
    },
    /// chrono's strftime; with a zone in the text (`%z`), else in the mapping's time zone; without a time of day, midnight.
    Strftime(String),
}

/// What is tried when the mapping names no format.
pub(super) const DEFAULT_FORMATS: [&str; 3] = ["rfc3339", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];

impl TimeFormat {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "rfc3339" => Ok(Self::Rfc3339),
            "epoch_s" => Ok(Self::Epoch { exponent: 3, divisor: 1 }),
            "epoch_ms" => Ok(Self::Epoch { exponent: 0, divisor: 1 }),
            "epoch_us" => Ok(Self::Epoch { exponent: 0, divisor: 1_000 }),
            "epoch_ns" => Ok(Self::Epoch { exponent: 0, divisor: 1_000_000 }),
            _ if !text.contains('%') || StrftimeItems::new(text).any(|item| item == Item::Error) => Err(format!(
                "{text:?} is no time format; give rfc3339, epoch_s, epoch_ms, epoch_us, epoch_ns, or strftime such as \"%Y-%m-%d %H:%M:%S\""
            )),
            _ => Ok(Self::Strftime(text.to_owned())),
        }
    }

    fn read(&self, text: &str, zone: Tz) -> Option<EpochMs> {
        match self {
            Self::Rfc3339 => DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis()),
            Self::Epoch { exponent, divisor } => Decimal::parse(text, '.')?.scaled_down(*exponent, *divisor),
            Self::Strftime(format) => {
                if let Ok(at) = DateTime::parse_from_str(text, format) {
                    return Some(at.timestamp_millis());
                }
                let local = NaiveDateTime::parse_from_str(text, format)
                    .or_else(|_| NaiveDate::parse_from_str(text, format).map(|day| day.and_time(NaiveTime::MIN)))
                    .ok()?;
                in_zone(local, zone)
            }
        }
    }
}

/// The first format that fits decides.
pub(super) fn read_time(text: &str, formats: &[TimeFormat], zone: Tz) -> Option<EpochMs> {
    formats.iter().find_map(|format| format.read(text, zone))
}

/// A wall clock counted as if it were UTC, read in its zone.
pub(super) fn wall_clock(ms: i64, zone: Tz) -> Option<EpochMs> {
    in_zone(DateTime::from_timestamp_millis(ms)?.naive_utc(), zone)
}

/// The hour that a zone has twice is taken as its first; an hour that it skips is no time.
fn in_zone(local: NaiveDateTime, zone: Tz) -> Option<EpochMs> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.timestamp_millis()),
        LocalResult::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: &str, zone: &str, text: &str, expect: Option<&str>) {
        let formats = [TimeFormat::parse(format).expect(format)];
        let got = read_time(text, &formats, zone.parse().expect(zone));
        let want = expect.map(|at| DateTime::parse_from_rfc3339(at).expect(at).timestamp_millis());
        assert_eq!(got, want, "{text:?} as {format} in {zone}");
    }

    #[test]
    fn each_format_reads_its_times() {
        check("rfc3339", "UTC", "2019-01-01T00:01:11+01:00", Some("2018-12-31T23:01:11Z"));
        check("rfc3339", "UTC", "2019-01-01 00:01:11", None);
        check("%Y-%m-%d %H:%M:%S", "UTC", "2019-01-01 00:01:11", Some("2019-01-01T00:01:11Z"));
        check("%Y-%m-%d %H:%M:%S%.f", "UTC", "2019-01-01 00:01:11.25", Some("2019-01-01T00:01:11.250Z"));
        check("%d/%m/%Y", "UTC", "31/12/2018", Some("2018-12-31T00:00:00Z"));
        check("%Y-%m-%d %H:%M:%S %z", "Asia/Tokyo", "2019-01-01 00:01:11 -0600", Some("2019-01-01T06:01:11Z"));
        check("%Y-%m-%d %H:%M:%S", "America/Mexico_City", "2019-01-01 00:01:11", Some("2019-01-01T06:01:11Z"));
        check("epoch_s", "UTC", "1546300871.2569", Some("2019-01-01T00:01:11.256Z"));
        check("epoch_ms", "UTC", "1546300871256", Some("2019-01-01T00:01:11.256Z"));
        check("epoch_us", "UTC", "1546300871256999", Some("2019-01-01T00:01:11.256Z"));
        check("epoch_ns", "UTC", "1546300871256999999", Some("2019-01-01T00:01:11.256Z"));
        check("epoch_s", "UTC", "yesterday", None);
    }

    #[test]
    fn a_repeated_hour_is_its_first_and_a_skipped_hour_is_no_time() {
        check("%Y-%m-%d %H:%M", "Europe/Berlin", "2019-10-27 02:30", Some("2019-10-27T00:30:00Z"));
        check("%Y-%m-%d %H:%M", "Europe/Berlin", "2019-03-31 02:30", None);
    }

    #[test]
    fn what_is_no_format_is_refused() {
        for format in ["", "iso", "epoch", "%Q", "YYYY-MM-DD"] {
            assert!(TimeFormat::parse(format).is_err(), "{format:?}");
        }
    }
}
