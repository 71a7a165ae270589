//! What a bench on Kafka works on: topics under a prefix of its own, a directory for the engine's state, and what can be seen of
//! the engine from outside: committed offsets, PSP states, decisions.
//!
//! Owns the making of both, and the removal of the directory. Topics stay: the log has no way to remove them, and says their prefix.

use super::super::WrongUse;
use super::super::context::Context;
use super::super::globals::Globals;
use super::super::psp::states;
use super::super::scan::partitions_of;
use super::traffic::Traffic;
use anyhow::{Result, bail};
use smartrouter::config::EventLog as LogKind;
use smartrouter::domain::psp::SegmentKind;
use smartrouter::io::codec::Codec;
use smartrouter::io::log::kafka::KafkaLog;
use smartrouter::io::log::{EventLog, Position, Reader, TopicPartition};
use smartrouter::io::topics::{self, PlanOptions, TopicNames};
use std::path::PathBuf;
use std::time::Duration;

pub(super) struct Bed {
    pub(super) log: KafkaLog,
    pub(super) codec: Codec,
    pub(super) names: TopicNames,
    pub(super) state_dir: PathBuf,
    /// What the engine is started with.
    pub(super) flags: Vec<String>,
    group: String,
}

/// Records that are handed over at once when there is no hurry.
const PRELOAD_BATCH: usize = 2_000;

impl Bed {
    pub(super) fn make(context: &Context, globals: &Globals, partitions: i32) -> Result<Self> {
        if context.config().runtime.log == LogKind::Embedded {
            bail!(WrongUse("runtime.log is \"embedded\": this bench needs \"kafka\" and -b HOST:PORT".to_owned()));
        }
        let prefix = format!("{}bench-{}.", context.config().topics.prefix, super::now_ms());
        let names = TopicNames::new(&prefix);
        let log = context.kafka()?;
        let options = PlanOptions { names: names.clone(), partitions: Some(partitions), replication: None };
        log.create_topics(&topics::plan(&topics::declared()?, &[], &options).create)?;
        let state_dir = context.state_dir().join(prefix.trim_end_matches('.'));
        let flags = flags(globals, &prefix, &state_dir.display().to_string());
        let group = format!("{prefix}{}", context.config().runtime.group);
        Ok(Self { log, codec: context.codec()?, names, state_dir, flags, group })
    }

    /// Writes all of it, as fast as it goes. Returns records and their bytes, keys included.
    pub(super) fn preload(&self, traffic: &mut Traffic) -> Result<(u64, u64)> {
        let mut appender = self.log.appender()?;
        let (mut records, mut bytes) = (0, 0);
        loop {
            let mut batch = Vec::with_capacity(PRELOAD_BATCH);
            while batch.len() < PRELOAD_BATCH {
                let Some(event) = traffic.next()? else { break };
                let of = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len) as u64;
                bytes += of(&event.output.key) + of(&event.output.value);
                batch.push(event.output);
            }
            if batch.is_empty() {
                appender.flush()?;
                return Ok((records, bytes));
            }
            records += batch.len() as u64;
            appender.append(batch)?;
        }
    }

    pub(super) fn partitions(&self, bases: &[&str]) -> Result<Vec<TopicPartition>> {
        let names: Vec<String> = bases.iter().map(|base| self.names.full(base)).collect();
        Ok(partitions_of(&self.log, &names)?)
    }

    /// Records of these partitions that the engine has committed.
    pub(super) fn committed(&self, of: &[TopicPartition]) -> Result<u64> {
        let offsets = self.log.group_offsets(&self.group, of)?;
        Ok(offsets.values().flatten().map(|offset| offset.unsigned_abs()).sum())
    }

    /// Reads a topic from its present end on.
    pub(super) fn reader_at_end(&self, log: &KafkaLog, base: &str) -> Result<Box<dyn Reader>> {
        let mut reader = log.reader()?;
        let mut from = Vec::new();
        for at in self.partitions(&[base])? {
            let (_, end) = reader.bounds(&at)?;
            from.push((at, Position::At(end)));
        }
        reader.assign(&from)?;
        Ok(reader)
    }

    /// Offsets behind the last committed records of a topic's partitions, added up.
    pub(super) fn records(&self, base: &str) -> Result<u64> {
        let mut reader = self.log.reader()?;
        self.partitions(&[base])?.iter().map(|at| Ok(reader.bounds(at)?.1.unsigned_abs())).sum()
    }

    /// Attempts in the day's window over all PSPs, as `psp.states` says.
    pub(super) fn attempts_counted(&self) -> Result<u64> {
        let states = states(&self.log, &self.codec, self.names.full(topics::PSP_STATES))?;
        let all = states.iter().filter(|state| state.segment.kind == SegmentKind::All);
        Ok(all.map(|state| state.windows.last_24h.attempts.unsigned_abs()).sum())
    }

    /// Waits until every attempt is in the windows; more than were sent, or fewer for too long, is an error.
    pub(super) fn verify(&self, attempts: u64) -> Result<()> {
        let mut counted = 0;
        for _ in 0..VERIFY_TRIES {
            counted = self.attempts_counted()?;
            if counted == attempts {
                return Ok(());
            }
            std::thread::sleep(VERIFY_PAUSE);
        }
        bail!("not exactly once: psp.states counts {counted} attempts, {attempts} were sent")
    }

    pub(super) fn remove_state(&self) -> Result<()> {
        Ok(std::fs::remove_dir_all(&self.state_dir)?)
    }
}

const VERIFY_TRIES: usize = 60;
const VERIFY_PAUSE: Duration = Duration::from_millis(500);

/// How to reach the cluster as the bench does; topics, state and address of its own. The environment goes along by itself.
fn flags(globals: &Globals, prefix: &str, state_dir: &str) -> Vec<String> {
    let mut flags = Vec::new();
    if let Some(file) = &globals.config {
        flags.extend(["-c".to_owned(), file.display().to_string()]);
    }
    for (key, value) in globals.overrides() {
        if key == "kafka.bootstrap_servers" {
            flags.extend(["-b".to_owned(), value]);
        } else if let Some(property) = key.strip_prefix("kafka.properties.") {
            flags.extend(["-X".to_owned(), format!("{property}={value}")]);
        }
    }
    for (flag, value) in
        [("--topic-prefix", prefix), ("--state-dir", state_dir), ("--instance", "bench"), ("--admin-addr", "127.0.0.1:0")]
    {
        flags.extend([flag.to_owned(), value.to_owned()]);
    }
    flags
}
