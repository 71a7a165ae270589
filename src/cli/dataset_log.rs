//! `dataset build --from-log`: what the router predicted and what came of it, from its topics.
//!
//! Owns the reading, up to the ends that the topics have when it begins, and the lines on what was left out. Which attempts are rows,
//! `learn` decides.

use super::context::Context;
use super::dataset::Gathered;
use super::scan::scan;
use super::screen::remark;
use anyhow::{Context as _, Result, bail};
use smartrouter::domain::EpochMs;
use smartrouter::engine::features::{Catalogue, Encoder};
use smartrouter::io::codec::{Codec, CodecError, Wire};
use smartrouter::io::dataset::{LogRange, Manifest};
use smartrouter::io::log::{EventLog, Record};
use smartrouter::learn::{FromLog, LOGGED_LABEL, LOGGED_PROPENSITY, LoggedFeedback};

const REJECTS_TOLD_MAX: u64 = 5;

pub(super) fn gather(context: &Context, range: [Option<EpochMs>; 2]) -> Result<Gathered> {
    let settings = &context.config().settings;
    let encoder = Encoder::new(Catalogue::shipped()?);
    let (log, codec) = (context.log()?, context.codec()?);
    let mut reading = Reading { context, log: log.as_ref(), codec, ranges: Vec::new(), rejected: 0 };
    let mut feedback = LoggedFeedback::new(range);
    reading.topic(|record| feedback.accept(record))?;
    let mut rows = feedback.into_rows(encoder, settings);
    reading.topic(|record| rows.prediction(&record))?;
    reading.topic(|record| rows.attempt(&record))?;
    let logged = rows.finish();
    if logged.built.attempts == 0 {
        bail!("the log has no feedback on attempts between --from and --to: nothing was written");
    }
    remark_on(&logged);
    let origin = Manifest {
        label: LOGGED_LABEL.to_owned(),
        propensity: LOGGED_PROPENSITY.to_owned(),
        history_rejected: reading.rejected,
        log: reading.ranges,
        left_out: logged.left_out.iter().map(|(why, count)| (why.name().to_owned(), *count)).collect(),
        ..Manifest::default()
    };
    Ok(Gathered { built: logged.built, origin })
}

struct Reading<'a> {
    context: &'a Context,
    log: &'a dyn EventLog,
    codec: Codec,
    ranges: Vec<LogRange>,
    rejected: u64,
}

impl Reading<'_> {
    /// Hands over all records of the kind. One that cannot be read is told and left out; a registry that does not answer ends it.
    fn topic<T: Wire>(&mut self, mut visit: impl FnMut(T)) -> Result<()> {
        let topic = self.context.topic(T::KIND.topic());
        let mut read = Ok(());
        let bounds = scan(self.log, std::slice::from_ref(&topic), |record| {
            if read.is_ok() {
                read = self.read(&record).map(|value| value.into_iter().for_each(&mut visit));
            }
        })?;
        read.with_context(|| format!("{topic} cannot be read"))?;
        self.ranges.extend(bounds.into_iter().map(|(at, (from_offset, to_offset))| LogRange {
            topic: at.topic.to_string(),
            partition: at.partition,
            from_offset,
            to_offset,
        }));
        Ok(())
    }

    fn read<T: Wire>(&mut self, record: &Record) -> Result<Option<T>, CodecError> {
        let Some(value) = &record.value else { return Ok(None) };
        match self.codec.decode(value) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.blames_record() => {
                self.rejected += 1;
                if self.rejected <= REJECTS_TOLD_MAX {
                    remark(format!("{} at {}: {error}", record.at, record.offset));
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn remark_on(logged: &FromLog) {
    for (why, count) in &logged.left_out {
        remark(format!("left out: {count} {}", why.reason()));
    }
    if logged.without_attempt > 0 {
        remark(format!(
            "the attempts of {} rows are not in the log, or not any more: they have no card brand and issuer country, for slices",
            logged.without_attempt
        ));
    }
    if logged.off_choice > 0 {
        remark(format!(
            "{} rows went elsewhere than their decision ranked first: they have no propensity, so policies cannot be judged on them",
            logged.off_choice
        ));
    }
}
