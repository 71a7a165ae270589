//! Sends dead letters to where they came from.

use super::letters::{self, AT, DeadLetter, LetterId, REASON, REDRIVEN, SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC};
use super::{COLUMNS, Redrive, source_topic};
use crate::cli::context::Context;
use crate::cli::screen::remark;
use crate::cli::{Verdict, WrongUse};
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::json;
use smartrouter::io::log::{Appender, EventLog, Output, Record};
use std::sync::Arc;

/// On the record in the source topic: which letter it was.
const REDRIVEN_FROM: &str = "dlq-redriven-from";
/// Letters between two flushes; at most so many may be sent twice when the process dies.
const BATCH_LETTERS: usize = 100;

pub(super) fn run(context: &Context, options: &Redrive) -> Result<Verdict> {
    let log = context.log()?;
    let screen = context.screen();
    let mended = match &options.value_file {
        Some(_) if options.letters.len() != 1 => bail!(WrongUse("--value-file mends one letter: name exactly one".to_owned())),
        Some(path) => Some(Bytes::from(std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?)),
        None => None,
    };
    let topic = source_topic(context, options.topic.as_deref())?;
    let (chosen, skipped) = choose(log.as_ref(), &context.dead_letter_topics(), (options, topic.as_deref()))?;
    if !screen.is_json() {
        screen.rows(COLUMNS, &chosen, "no letters to send again")?;
    }
    if skipped > 0 {
        remark(format!("left out, because sent again before: {skipped} (--force sends them once more)"));
    }
    if options.execute {
        send(log.as_ref(), &chosen, mended.as_ref())?;
        screen.say(format!("sent again: {}", chosen.len()))?;
    } else if !chosen.is_empty() {
        remark("nothing was sent: this is the plan; --execute carries it out");
    }
    let redriven = if options.execute { chosen.len() } else { 0 };
    let names: Vec<&str> = chosen.iter().map(|letter| letter.letter.as_str()).collect();
    screen.object(&json!({"planned": chosen.len(), "redriven": redriven, "skipped": skipped, "letters": names}))?;
    Ok(Verdict::Done)
}

/// The letters that the options name, and how many of those are left out because they were sent before.
fn choose(log: &dyn EventLog, topics: &[String], (options, topic): (&Redrive, Option<&str>)) -> Result<(Vec<DeadLetter>, usize)> {
    let mut found = letters::all(log, topics)?;
    if options.all {
        found.retain(|letter| letter.matches(topic, options.reason.as_deref()));
    } else {
        let wanted: Vec<String> = options.letters.iter().map(ToString::to_string).collect();
        if let Some(missing) = wanted.iter().find(|id| !found.iter().any(|letter| letter.letter == **id)) {
            bail!("there is no letter {missing}: `smartrouter dlq list` shows those there are");
        }
        found.retain(|letter| wanted.contains(&letter.letter));
    }
    let before = found.len();
    found.retain(|letter| options.force || !letter.redriven);
    let skipped = before - found.len();
    Ok((found, skipped))
}

/// Each batch: first the letters, then, when those are durable, their marks.
fn send(log: &dyn EventLog, chosen: &[DeadLetter], mended: Option<&Bytes>) -> Result<()> {
    let mut appender = log.appender()?;
    for batch in chosen.chunks(BATCH_LETTERS) {
        let mut again = Vec::new();
        let mut marks = Vec::new();
        for letter in batch {
            let id: LetterId = letter.letter.parse().map_err(anyhow::Error::msg)?;
            let record = letters::record(log, &id)?;
            again.push(resend(letter, &record, mended));
            marks.push(mark(letter, &record));
        }
        append(appender.as_mut(), again)?;
        append(appender.as_mut(), marks)?;
    }
    Ok(())
}

fn append(appender: &mut dyn Appender, outputs: Vec<Output>) -> Result<()> {
    appender.append(outputs)?;
    Ok(appender.flush()?)
}

/// The record as it was, with its own headers, and where it was meanwhile.
fn resend(letter: &DeadLetter, record: &Record, mended: Option<&Bytes>) -> Output {
    let ours = [REASON, SOURCE_TOPIC, SOURCE_PARTITION, SOURCE_OFFSET, AT, REDRIVEN_FROM];
    let mut headers = record.headers.clone();
    headers.retain(|(name, _)| !ours.contains(&name.as_str()));
    headers.push((REDRIVEN_FROM.to_owned(), Some(Bytes::from(letter.letter.clone()))));
    Output {
        topic: Arc::from(letter.source_topic.as_str()),
        // A key finds its partition by itself, even when the topic has more partitions by now.
        partition: record.key.is_none().then_some(letter.source_partition),
        timestamp_ms: None,
        key: record.key.clone(),
        value: mended.cloned().or_else(|| record.value.clone()),
        headers,
    }
}

/// Says in the dead-letter topic that the letter was sent again.
fn mark(letter: &DeadLetter, record: &Record) -> Output {
    Output {
        topic: Arc::clone(&record.at.topic),
        partition: Some(record.at.partition),
        timestamp_ms: None,
        key: record.key.clone(),
        value: None,
        headers: vec![(REDRIVEN.to_owned(), Some(Bytes::from(letter.letter.clone())))],
    }
}
