//! The command line: what can be asked, how the answer is printed, and how the process ends.
//!
//! Owns argument parsing, exit codes (0 done, 1 failed, 2 wrong use, 3 a check found something) and all printing (`screen`).
//! Never decides anything about payments. Uses every layer of the library; nothing uses it.

mod globals;
mod screen;
mod svg;
mod page;
mod chart;
mod context;
mod crash_report;
mod signals;
mod scan;
mod config;
mod topics;
mod check;
mod lag;
mod psp;
mod dlq;
mod reset;
mod state;
mod run;
mod sync;
mod warehouse;
mod query;
mod report;
mod press;
mod replay;
mod replay_sink;
mod unread;
mod rules;
mod explore;
mod dataset;
mod dataset_log;
mod features;
mod train;
mod evaluate;
mod explain;
mod gate;
mod compare;
mod models;
mod learning_report;
mod world;
mod demo;
mod simulate;
mod bench;
mod arena;

use anyhow::Result;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use context::{Context, Talk};
use globals::{Globals, OutputFormat};
use replay_sink::Sink;
use std::process::ExitCode;

/// A payment router: reads attempts, outcomes and routing requests from Kafka, knows how every PSP is doing, and answers.
#[derive(Debug, Parser)]
#[command(name = "smartrouter", version, arg_required_else_help = true, args_override_self = true, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Route: read the inputs, decide, keep the PSPs' health, until told to stop
    Run,
    /// Some simulated hours with outages in them, decided by an engine in this process: no server needed
    Demo(demo::Options),
    /// Payments of a simulated merchant onto Kafka, routed as the router there says
    Simulate(simulate::Options),
    /// History from files through an engine in this process, or onto Kafka
    Replay(replay::Options),
    /// What a merchant's history tells before anything is learned from it: volume, approval, retries, declines, samples for a test
    Explore(explore::Options),
    /// The merchant's static rules: from an export, into the configuration
    #[command(subcommand)]
    Rules(rules::Command),
    /// Tables that models learn from
    #[command(subcommand)]
    Dataset(dataset::Command),
    /// Learn a model from a dataset, measured on the last part of its time
    Train(train::Options),
    /// How good a model is on a dataset, or what a policy that follows it would have earned there
    Evaluate(evaluate::Options),
    /// Models side by side on the same rows, with what they differ by
    Compare(compare::Options),
    /// Versions of models: list, show, compare, and who is to serve
    #[command(subcommand)]
    Models(models::Command),
    /// What models are told of a payment: the catalogue, and the values of a request
    #[command(subcommand)]
    Features(features::Command),
    /// Rows for analysts: predictions, decisions, results and models into the tables of the warehouse
    Sync(sync::Options),
    /// One SELECT over the local warehouse, tables and views by their names
    Query(query::Options),
    /// What analysts ask of the warehouse: approval by PSP, models, retries, shadows, with intervals and plots
    #[command(subcommand)]
    Report(report::Command),
    /// The tables of the warehouse: plan, check, SQL
    #[command(subcommand)]
    Warehouse(warehouse::Command),
    /// Compare the topics with their declarations, create what is missing
    #[command(subcommand)]
    Topics(topics::Command),
    /// Show or check the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Check brokers, topics, schema registry and state directory
    Check,
    /// How far the group is behind, by partition
    Lag,
    /// States of the PSPs
    #[command(subcommand)]
    Psp(psp::Command),
    /// Dead letters: list, show, send again
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Measure: throughput, latency, failover, restart, against goals
    Bench(bench::Options),
    /// Router policies on the same simulated payments through scripted outages: this one, rivals, an oracle
    Arena(arena::Options),
    /// One decision in words and numbers: rules, chances, what mattered, who was left out, what came of it
    Explain(explain::Options),
    /// Remove the local state of this instance; it is rebuilt from the changelog topics
    Reset(reset::Options),
    /// Compare the local state with its changelog topics; the router must not be running on it
    #[command(subcommand)]
    State(state::Command),
    /// Completions for a shell
    Completions { shell: Shell },
}

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    /// A check found something.
    Found,
}

/// What is asked for cannot be asked for: beyond what the parser of arguments sees.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct WrongUse(String);

const FAILED: u8 = 1;
const WRONG_USE: u8 = 2;
const FOUND: u8 = 3;

pub(crate) fn main() -> ExitCode {
    // What cannot be parsed ends here, with 2.
    let cli = Cli::parse();
    match run(cli) {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::Found) => ExitCode::from(FOUND),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            screen::remark(format!("error: {}", describe(&error)));
            ExitCode::from(if error.is::<WrongUse>() { WRONG_USE } else { FAILED })
        }
    }
}

fn run(cli: Cli) -> Result<Verdict> {
    if cli.globals.output == OutputFormat::Csv && !matches!(cli.command, Command::Query(_)) {
        return Err(WrongUse("--output csv is of `query`: give table or json".to_owned()).into());
    }
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "smartrouter", &mut script);
        screen::print(&String::from_utf8_lossy(&script))?;
        return Ok(Verdict::Done);
    }
    if let Command::Config(command) = cli.command {
        return config::run(&cli.globals, &command);
    }
    if let Command::Demo(options) = &cli.command {
        return demo::run(&cli.globals, options);
    }
    let runs_on = matches!(cli.command, Command::Run | Command::Sync(_));
    let talk = if runs_on { Talk::AsConfigured } else { Talk::Little };
    let context = Context::load(&cli.globals, talk)?;
    match cli.command {
        Command::Run => run::run(&context),
        Command::Sync(options) => sync::run(&context, &options),
        Command::Query(options) => query::run(&context, &options, cli.globals.output),
        Command::Report(command) => report::run(&context, &command),
        Command::Warehouse(command) => warehouse::run(&context, &command),
        Command::Replay(options) => replay::run(context.screen(), &options, |destination| Sink::open(&context, destination)),
        Command::Explore(options) => explore::run(&context, &options),
        Command::Rules(command) => rules::run(&context, &cli.globals, &command),
        Command::Dataset(command) => dataset::run(&context, &command),
        Command::Train(options) => train::run(&context, &options),
        Command::Evaluate(options) => evaluate::run(&context, &options),
        Command::Compare(options) => compare::run(&context, &options),
        Command::Models(command) => models::run(&context, &command),
        Command::Explain(options) => explain::run(&context, &options),
        Command::Features(command) => features::run(&context, &command),
        Command::Simulate(options) => simulate::run(&context, &options),
        Command::Topics(command) => topics::run(&context, command),
        Command::Check => check::run(&context),
        Command::Lag => lag::show(&context),
        Command::Psp(command) => psp::run(&context, &command),
        Command::Dlq(command) => dlq::run(&context, command),
        Command::Bench(options) => bench::run(&context, &cli.globals, &options),
        Command::Arena(options) => arena::run(&context, &options),
        Command::Reset(options) => reset::run(&context, &options),
        Command::State(command) => state::run(&context, &command),
        Command::Config(_) | Command::Demo(_) | Command::Completions { .. } => Ok(Verdict::Done),
    }
}

/// The reader of our output has gone (`smartrouter ... | head`): nothing is wrong.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = |cause: &(dyn std::error::Error + 'static)| cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    error.chain().any(|cause| io(cause) == Some(std::io::ErrorKind::BrokenPipe))
}

/// What went wrong, and its causes, each said once.
fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn globals_may_stand_anywhere_and_become_overrides() {
        let words = ["smartrouter", "-b", "h:1", "lag", "--topic-prefix", "p.", "-X", "a.b=c=d", "-vv", "--output", "json"];
        let cli = Cli::try_parse_from(words).unwrap();
        let overrides = cli.globals.overrides();
        for (key, value) in [
            ("kafka.bootstrap_servers", "h:1"),
            ("topics.prefix", "p."),
            ("kafka.properties.a.b", "c=d"),
            ("telemetry.log_level", "trace"),
        ] {
            assert!(overrides.iter().any(|(k, v)| k == key && v == value), "{key}: {overrides:?}");
        }
        assert_eq!(cli.globals.output, OutputFormat::Json);
        assert!(Cli::try_parse_from(["smartrouter", "lag", "--brokers", "h:1"]).is_ok());
        let twice = Cli::try_parse_from(["smartrouter", "-b", "h:1", "lag", "-b", "h:2"]).unwrap().globals.overrides();
        assert_eq!(twice, [("kafka.bootstrap_servers".to_owned(), "h:2".to_owned())], "the last one counts");
        assert_eq!(Cli::try_parse_from(["smartrouter", "--no-such-flag", "lag"]).unwrap_err().exit_code(), 2);
        assert_eq!(Cli::try_parse_from(["smartrouter", "lag", "-X", "novalue"]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn a_cause_is_said_once() {
        let io = || std::io::Error::other("disk full");
        assert_eq!(describe(&anyhow::Error::new(io()).context("cannot write x")), "cannot write x: disk full");
        assert_eq!(describe(&anyhow::Error::new(io()).context("cannot write x: disk full")), "cannot write x: disk full");
        assert!(is_broken_pipe(&anyhow::Error::new(std::io::Error::from(std::io::ErrorKind::BrokenPipe)).context("printing")));
        assert!(!is_broken_pipe(&anyhow!("no")));
    }
}
