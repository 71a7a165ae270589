//! `reset`: removes the local state of this instance. What it knew is rebuilt from the changelog topics at the next start.

use super::Verdict;
use super::context::Context;
use super::screen::remark;
use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;
use smartrouter::io::store::{StateStore, StoreError};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The embedded log too: its events are nowhere else
    #[arg(long)]
    events: bool,
    /// Do it
    #[arg(long)]
    execute: bool,
}

pub(super) fn run(context: &Context, options: &Options) -> Result<Verdict> {
    let screen = context.screen();
    let mut directories = vec![context.state_dir().join("store")];
    if options.events {
        directories.push(context.embedded_dir());
    }
    directories.retain(|directory| directory.is_dir());
    if directories.is_empty() {
        screen.say(format!("no state in {}", context.state_dir().display()))?;
    }
    let sizes = directories.iter().map(|directory| size_of(directory)).collect::<Result<Vec<_>>>()?;
    if options.execute {
        remove(context.state_dir(), &directories)?;
    }
    let verb = if options.execute { "removed" } else { "would remove" };
    let mut rows = Vec::new();
    for (directory, bytes) in directories.iter().zip(sizes) {
        screen.say(format!("{verb} {} ({} KiB)", directory.display(), bytes / 1024))?;
        rows.push(json!({"directory": directory, "bytes": bytes}));
    }
    if !options.execute && !directories.is_empty() {
        remark("nothing was removed: this is the plan; --execute carries it out");
    }
    screen.object(&json!({"removed": options.execute, "directories": rows}))?;
    Ok(Verdict::Done)
}

/// Only when no process uses the store. One that is damaged may go: that is what this command is for.
pub(super) fn remove(state_dir: &Path, directories: &[PathBuf]) -> Result<()> {
    if directories.is_empty() {
        return Ok(());
    }
    if let Err(error @ StoreError::Locked { .. }) = StateStore::destroy(state_dir) {
        return Err(error).context("stop that process first");
    }
    for directory in directories {
        std::fs::remove_dir_all(directory).with_context(|| format!("{} cannot be removed", directory.display()))?;
    }
    Ok(())
}

fn size_of(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    let entries = std::fs::read_dir(directory).with_context(|| format!("{} cannot be read", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        // Links are counted as themselves, not followed.
        let kind = entry.file_type()?;
        bytes += if kind.is_dir() { size_of(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
