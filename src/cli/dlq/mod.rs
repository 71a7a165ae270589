//! `dlq list|show|redrive`: records that could not be processed, and sending them again.
//!
//! A dead letter keeps the bytes, key and headers of the record, and says in `dlq-*` headers why it is here and where it came
//! from. Redriving writes it to its source topic again, with the header `dlq-redriven-from`, and then a mark into the
//! dead-letter topic: a record without value and with the header `dlq-redriven`, that names the letter. A letter with a mark is
//! not sent again without `--force`. Should the process die between both writes, the letter may be sent twice; the engine
//! recognises a repeated attempt, outcome or request by its id.

mod letters;
mod redrive;

use super::context::Context;
use super::screen::{Column, one_line, remark, time};
use super::{Verdict, WrongUse};
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use letters::{DeadLetter, LetterId};
use serde_json::{Map, Value, json};
use smartrouter::domain::hex;
use smartrouter::io::topics;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List dead letters: where they came from, and why they are here
    List(Filter),
    /// Show one dead letter: headers and bytes
    Show {
        /// As `list` shows it
        #[arg(value_name = "TOPIC:PARTITION:OFFSET")]
        letter: LetterId,
        /// Write the bytes of the record to a file, to mend them
        #[arg(long, value_name = "FILE")]
        value_to: Option<PathBuf>,
    },
    /// Send dead letters to their source topics again; without --execute only the plan is shown
    Redrive(Redrive),
}

#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only letters from this input topic
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Only letters whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Those that were sent again already, too
    #[arg(long)]
    redriven: bool,
}

#[derive(Debug, Args)]
pub(super) struct Redrive {
    /// Which letters, as `list` shows them
    #[arg(value_name = "TOPIC:PARTITION:OFFSET", required_unless_present = "all")]
    letters: Vec<LetterId>,
    /// All letters that were not sent again yet
    #[arg(long, conflicts_with_all = ["letters", "value_file"])]
    all: bool,
    /// With --all: only letters from this input topic
    #[arg(long, value_name = "TOPIC", requires = "all")]
    topic: Option<String>,
    /// With --all: only letters whose reason contains this text
    #[arg(long, value_name = "TEXT", requires = "all")]
    reason: Option<String>,
    /// Send the bytes of this file instead: the mended record, in wire format. For one letter
    #[arg(long, value_name = "FILE")]
    value_file: Option<PathBuf>,
    /// Send letters again that were sent again before
    #[arg(long)]
    force: bool,
    /// Do it
    #[arg(long)]
    execute: bool,
}

const COLUMNS: &[Column] = &[
    Column::new("LETTER", "/letter"),
    Column::new("SOURCE", "/source"),
    Column::shown("AT", "/at", time),
    Column::new("BYTES", "/bytes"),
    Column::new("REDRIVEN", "/redriven"),
    Column::new("REASON", "/reason"),
];

pub(super) fn run(context: &Context, command: Command) -> Result<Verdict> {
    match command {
        Command::List(filter) => list(context, &filter),
        Command::Show { letter, value_to } => show(context, &letter, value_to.as_deref()),
        Command::Redrive(options) => redrive::run(context, &options),
    }
}

fn list(context: &Context, filter: &Filter) -> Result<Verdict> {
    let topic = source_topic(context, filter.topic.as_deref())?;
    let log = context.log()?;
    let mut found = letters::all(log.as_ref(), &context.dead_letter_topics())?;
    found.retain(|letter| (filter.redriven || !letter.redriven) && letter.matches(topic.as_deref(), filter.reason.as_deref()));
    context.screen().rows(COLUMNS, &found, "no dead letters")?;
    Ok(Verdict::Done)
}

/// The full name of an input topic, which may be given without the prefix. A name that is none would match nothing, and say "no letters".
fn source_topic(context: &Context, given: Option<&str>) -> Result<Option<String>> {
    let Some(given) = given else { return Ok(None) };
    let inputs = topics::INPUTS.map(|input| context.topic(input));
    let Some(found) = inputs.iter().find(|input| **input == given || **input == context.topic(given)) else {
        bail!(WrongUse(format!("--topic {given} is no input topic; there are {}", inputs.join(", "))));
    };
    Ok(Some(found.clone()))
}

fn show(context: &Context, id: &LetterId, value_to: Option<&std::path::Path>) -> Result<Verdict> {
    let log = context.log()?;
    let record = letters::record(log.as_ref(), id)?;
    let letter = DeadLetter::of(&record)?;
    let screen = context.screen();
    let value = record.value.as_deref().unwrap_or_default();
    if let Some(path) = value_to {
        anyhow::Context::with_context(std::fs::write(path, value), || format!("{} cannot be written", path.display()))?;
        remark(format!("{} bytes written to {}", value.len(), path.display()));
    }
    screen.say(format!("letter   {id}\nsource   {}\nreason   {}", letter.source, one_line(&letter.reason)))?;
    screen.say(format!("key      {}", record.key.as_deref().map_or("-".to_owned(), readable)))?;
    for (name, content) in &record.headers {
        screen.say(format!("header   {} = {}", one_line(name), content.as_deref().map_or("-".to_owned(), readable)))?;
    }
    screen.say(format!("value    {} bytes", value.len()))?;
    screen.say(hex_dump(value))?;
    let headers: Map<String, Value> =
        record.headers.iter().map(|(name, content)| (name.clone(), json!(content.as_deref().map(readable)))).collect();
    let mut object = serde_json::to_value(&letter)?;
    if let Value::Object(fields) = &mut object {
        fields.insert("key".to_owned(), json!(record.key.as_deref().map(readable)));
        fields.insert("headers".to_owned(), Value::Object(headers));
        fields.insert("value_hex".to_owned(), json!(record.value.as_deref().map(hex)));
    }
    screen.object(&object)?;
    Ok(Verdict::Done)
}

fn readable(bytes: &[u8]) -> String {
    one_line(&String::from_utf8_lossy(bytes))
}

/// The first bytes, 16 a line, as `xxd` shows them.
fn hex_dump(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 256;
    let mut lines: Vec<String> = Vec::new();
    for (index, chunk) in bytes[..bytes.len().min(SHOWN_MAX)].chunks(16).enumerate() {
        let digits: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let letters: String =
            chunk.iter().map(|&byte| if (0x20..0x7f).contains(&byte) { char::from(byte) } else { '.' }).collect();
        lines.push(format!("{:08x}  {:<47}  {letters}", index * 16, digits.join(" ")));
    }
    if bytes.len() > SHOWN_MAX {
        lines.push(format!("... {} more; --value-to FILE writes all of them", bytes.len() - SHOWN_MAX));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_and_bounded() {
        assert_eq!(hex_dump(b"\0ab\x1b"), format!("00000000  {:<47}  .ab.", "00 61 62 1b"));
        assert_eq!(hex_dump(b""), "");
        assert!(hex_dump(&[0; 1_000]).ends_with("744 more; --value-to FILE writes all of them"));
    }
}
