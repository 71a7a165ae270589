//! Where a demo keeps its state: whose directory it is, and where an earlier demo stopped.
//!
//! Owns the file `demo.json`, which says that a state directory is a demo's own. Never removes a state that is not.

use super::super::context::{self, Context, Talk};
use super::super::globals::Globals;
use super::super::scan::{first_from, partitions_of};
use super::super::{models, reset};
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use smartrouter::domain::EpochMs;
use smartrouter::domain::control::{Order, Wish};
use smartrouter::io::log::EventLog;
use smartrouter::io::topics;
use smartrouter::runtime::models::PROCESSOR_SELECTOR;
use std::path::{Path, PathBuf};

/// What a demo without `-c` runs with.
const EXAMPLE: &str = include_str!("../../../deploy/volaris.toml");
/// Below file, environment and flags.
const RUNTIME: &str =
    "\n[runtime]\nlog = \"embedded\"\nstate_dir = \"state/demo\"\n\n[policy]\nranking = \"model\"\n\n[warehouse]\nsync = true\n";
const CARD: &str = "demo.json";

/// What an earlier demo began with, so that `--resume` goes on with the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Card {
    pub(super) seed: u64,
    pub(super) payments_per_hour: f64,
}

pub(super) fn context(globals: &Globals) -> Result<Context> {
    let example = if globals.config.is_some() { "" } else { EXAMPLE };
    let loaded = context::load_over(globals, Some(format!("{example}{RUNTIME}")))?;
    Context::with(loaded, globals, Talk::Little)
}

/// Makes the directory empty, but for the card. Only one that is new, empty, or a demo's own.
pub(super) fn begin(state_dir: &Path, card: Card) -> Result<()> {
    let unusable =
        || format!("{} cannot be used for the demo's state: name another directory with --state-dir", state_dir.display());
    std::fs::create_dir_all(state_dir).with_context(unusable)?;
    let occupied = std::fs::read_dir(state_dir).with_context(unusable)?.next().is_some();
    if occupied && !state_dir.join(CARD).is_file() {
        bail!("{} holds something that is not a demo's: name another directory with --state-dir", state_dir.display());
    }
    let directories: Vec<PathBuf> =
        ["store", "log", "warehouse"].map(|name| state_dir.join(name)).into_iter().filter(|it| it.is_dir()).collect();
    reset::remove(state_dir, &directories)?;
    std::fs::write(state_dir.join(CARD), serde_json::to_string(&card)? + "\n").with_context(unusable)
}

/// What the demo whose state this is began with.
pub(super) fn resume(state_dir: &Path) -> Result<Card> {
    let path = state_dir.join(CARD);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("there is no demo to resume in {}: run it without --resume first", state_dir.display())
        }
        text => text.with_context(|| format!("{} cannot be read", path.display()))?,
    };
    serde_json::from_str(&text).with_context(|| format!("{} is damaged: run the demo without --resume", path.display()))
}

/// The model that decides: who is champion already, else the newest version that is on disk, which becomes it.
pub(super) fn crown(context: &Context, log: &dyn EventLog, at: EpochMs) -> Result<Option<String>> {
    let codec = context.codec()?;
    let stages = models::stages(context, log, &codec)?;
    if let Some(version) = stages.champion(PROCESSOR_SELECTOR) {
        return Ok(Some(format!("{PROCESSOR_SELECTOR}@{version}")));
    }
    let known = smartrouter::io::models::all(&context.config().runtime.models_dir)?;
    let Some((_, version)) = known.into_iter().rfind(|(name, _)| name == PROCESSOR_SELECTOR) else { return Ok(None) };
    let reason = Some("the newest version on disk".to_owned());
    let wish = Wish::Champion { version: version.clone() };
    let order = Order { name: PROCESSOR_SELECTOR.to_owned(), wish, at, by: Some("demo".to_owned()), reason, forced: false };
    models::append(context, log, &codec, &stages.plan(&order)?)?;
    Ok(Some(format!("{PROCESSOR_SELECTOR}@{version}")))
}

/// Event time of the newest input record; none in an empty log.
pub(super) fn last_event_at(context: &Context, log: &dyn EventLog) -> Result<Option<EpochMs>> {
    let mut last = None;
    let mut reader = log.reader()?;
    for partition in partitions_of(log, &topics::INPUTS.map(|input| context.topic(input)))? {
        let (begin, end) = reader.bounds(&partition)?;
        if begin < end {
            last = last.max(first_from(log, &partition, end - 1)?.map(|record| record.timestamp_ms));
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A_CARD: Card = Card { seed: 7, payments_per_hour: 12.5 };

    #[test]
    fn a_demo_replaces_its_own_state_only() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("new");
        assert!(resume(&state_dir).unwrap_err().to_string().contains("no demo to resume"));
        begin(&state_dir, A_CARD).unwrap();
        assert_eq!(resume(&state_dir).unwrap(), A_CARD);
        std::fs::create_dir(state_dir.join("log")).unwrap();
        begin(&state_dir, Card { seed: 8, ..A_CARD }).unwrap();
        assert_eq!(resume(&state_dir).unwrap().seed, 8);
        assert!(!state_dir.join("log").exists());

        std::fs::write(state_dir.join(CARD), "{}").unwrap();
        assert!(resume(&state_dir).unwrap_err().to_string().contains("damaged"));
        std::fs::remove_file(state_dir.join(CARD)).unwrap();
        std::fs::create_dir_all(state_dir.join("log")).unwrap();
        assert!(begin(&state_dir, A_CARD).unwrap_err().to_string().contains("not a demo's"));
        assert!(state_dir.join("log").exists(), "what is not a demo's stays");
    }
}
