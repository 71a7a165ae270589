//! What can be wrong with a configuration, in words that name the key and the remedy.

use std::fmt;
use std::path::PathBuf;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}: {reason}; give the path of a readable TOML file with -c", path.display())]
    Read { path: PathBuf, reason: std::io::Error },
    #[error("{origin} is not TOML: {reason}")]
    Syntax { origin: String, reason: String },
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
}

/// One thing that is wrong. Everything that is wrong is reported, not only the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path of the key, such as `health.window_ms` or `psps[2].currencies`.
    pub key: String,
    /// As configured; absent when it is secret or says nothing.
    pub value: Option<String>,
    /// Where the value comes from: default, file, environment variable or flag.
    pub origin: String,
    pub wrong: String,
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, " ({}): {}; {}", self.origin, self.wrong, self.remedy)
    }
}

fn lines(problems: &[Problem]) -> String {
    let count = if problems.len() == 1 { "1 problem".to_owned() } else { format!("{} problems", problems.len()) };
    let each: Vec<String> = problems.iter().map(ToString::to_string).collect();
    format!("the configuration has {count}:\n  {}", each.join("\n  "))
}
