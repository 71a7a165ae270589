//! `config print|check`: what is configured, where each value came from, and whether it makes sense.

use super::Verdict;
use super::context;
use super::globals::Globals;
use super::screen::{self, Screen};
use anyhow::Result;
use clap::Subcommand;
use serde_json::json;
use smartrouter::config::{ConfigError, Format};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Every key with its value and where it came from; secrets are masked
    Print,
    /// Check the configuration, without connecting to anything
    Check,
}

pub(super) fn run(globals: &Globals, command: &Command) -> Result<Verdict> {
    let screen = Screen::new(globals.output);
    match command {
        Command::Print => {
            let format = if screen.is_json() { Format::Json } else { Format::Table };
            screen::print(&format!("{}\n", context::load(globals)?.print(format).trim_end()))?;
            Ok(Verdict::Done)
        }
        Command::Check => check(globals, &screen),
    }
}

fn check(globals: &Globals, screen: &Screen) -> Result<Verdict> {
    let Err(error) = context::load(globals) else {
        screen.say("the configuration is well")?;
        screen.object(&json!({"ok": true, "problems": []}))?;
        return Ok(Verdict::Done);
    };
    // What cannot be read at all is a failure; what was read and is wrong is a finding.
    let Some(ConfigError::Problems(problems)) = error.downcast_ref() else { return Err(error) };
    screen.say(&error)?;
    let problems: Vec<_> = problems
        .iter()
        .map(|problem| json!({"key": problem.key, "origin": problem.origin, "wrong": problem.wrong, "remedy": problem.remedy}))
        .collect();
    screen.object(&json!({"ok": false, "problems": problems}))?;
    Ok(Verdict::Found)
}
