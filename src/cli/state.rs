//! `state check`: whether the local state of this instance is what its changelog topics say.

use super::Verdict;
use super::context::Context;
use super::screen::Column;
use anyhow::{Context as _, Result};
use clap::Subcommand;
use smartrouter::io::store::{StateStore, StoreError};
use smartrouter::runtime::check_state;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Entries, hash and changelog position of each shard, and what differs from its changelog. Changes nothing
    Check,
}

const COLUMNS: &[Column] = &[
    Column::new("STORE", "/store"),
    Column::new("PARTITION", "/partition"),
    Column::new("ENTRIES", "/entries"),
    Column::new("SHA256", "/sha256"),
    Column::new("CHANGELOG-OFFSET", "/changelog_offset"),
    Column::new("CHANGELOG-END", "/changelog_end"),
    Column::new("EQUAL", "/equal"),
    Column::new("DIFFERENCE", "/difference"),
];

pub(super) fn run(context: &Context, command: &Command) -> Result<Verdict> {
    let Command::Check = command;
    let none = format!("no state in {}", context.state_dir().display());
    if !context.state_dir().join("store").is_dir() {
        context.screen().rows::<()>(COLUMNS, &[], &none)?;
        return Ok(Verdict::Done);
    }
    let log = context.log()?;
    let store = match StateStore::open(context.state_dir()) {
        Err(error @ StoreError::Locked { .. }) => return Err(error).context("stop that process first"),
        other => other?,
    };
    let reports = check_state(&store, log.as_ref(), context.names())?;
    context.screen().rows(COLUMNS, &reports, &none)?;
    Ok(if reports.iter().all(|report| report.equal) { Verdict::Done } else { Verdict::Found })
}
