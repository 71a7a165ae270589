//! DuckDB as a program: its own, or Python with its module. It is handed statements and gives bytes.
//!
//! Owns how it is found, started and locked in: it reads the warehouse's directory and nothing else, and a query can only read. SQL goes over
//! standard input, never through a shell.

use super::tables;
use crate::cli::context::Context;
use anyhow::{Context as _, Result, bail};
use smartrouter::io::warehouse::Catalogue;
use smartrouter::io::warehouse::local;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const SCRIPT: &str = include_str!("duckdb.py");
/// A file that is gone became part of another: asked again, it is found there.
const TRIES: usize = 3;

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Form {
    /// An array of objects.
    Json,
    /// With a header.
    Csv,
}

pub(in crate::cli) struct DuckDb<'a> {
    root: PathBuf,
    program: &'a Path,
    catalogue: Catalogue,
}

impl<'a> DuckDb<'a> {
    /// The first of the configured programs that is there, over the warehouse of the configuration.
    pub(in crate::cli) fn find(context: &'a Context) -> Result<Self> {
        super::target::require_local(context, "ask")?;
        let directory = context.config().warehouse_dir();
        let no_warehouse = || {
            let shown = directory.display();
            format!("{shown} holds no warehouse: `smartrouter sync` makes it, or name another with --state-dir or warehouse.dir")
        };
        let root = directory.canonicalize().with_context(no_warehouse)?;
        if !root.join("LOG").is_file() {
            bail!(no_warehouse());
        }
        let programs = &context.config().warehouse.query_programs;
        let Some(program) = programs.iter().find(|program| works(program)) else {
            let tried = programs.iter().map(|program| program.display().to_string()).collect::<Vec<_>>().join(", ");
            bail!(
                "no DuckDB to ask (tried: {tried}); type `python3 -m pip install duckdb`, or install the program from \
                 https://duckdb.org/install, or name one that is elsewhere: SMARTROUTER__WAREHOUSE__QUERY_PROGRAMS='[\"/path/to/python\"]'"
            );
        };
        Ok(Self { root, program, catalogue: Catalogue::shipped()? })
    }

    pub(in crate::cli) fn root(&self) -> &Path {
        &self.root
    }

    pub(in crate::cli) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The result of one SELECT over the tables and views.
    pub(in crate::cli) fn ask(&self, sql: &str, form: Form) -> Result<Vec<u8>> {
        let sql = sql.trim_end_matches(|end: char| end == ';' || end.is_whitespace());
        for _ in 1..TRIES {
            match self.ask_once(sql, form)? {
                Ok(bytes) => return Ok(bytes),
                Err(said) if said.contains("No such file") || said.contains("Cannot open file") => {}
                Err(said) => bail!(said),
            }
        }
        self.ask_once(sql, form)?.map_err(anyhow::Error::msg)
    }

    fn ask_once(&self, sql: &str, form: Form) -> Result<Result<Vec<u8>, String>> {
        let form = match form {
            Form::Json => "FORMAT json, ARRAY true",
            Form::Csv => "FORMAT csv, HEADER true",
        };
        let root = literal(&format!("{}/", self.root.display()));
        let mut statements = vec![
            format!("SET allowed_directories = [{root}]"),
            "SET allowed_paths = ['/dev/stdout']".to_owned(),
            "SET enable_external_access = false".to_owned(),
            // It would be drawn into the result.
            "SET enable_progress_bar = false".to_owned(),
        ];
        statements.extend(tables::statements(&self.catalogue, &local::held(&self.root, &self.catalogue)?)?);
        statements.push("SET lock_configuration = true".to_owned());
        statements.push(only_select(sql));
        statements.push(format!("COPY ({sql}\n) TO '/dev/stdout' ({form})"));
        let done = self.start(&statements)?;
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        Ok(if done.status.success() { Ok(done.stdout) } else { Err(said) })
    }

    fn start(&self, statements: &[String]) -> Result<Output> {
        let mut command = Command::new(self.program);
        let input = if is_python(self.program) {
            command.args(["-c", SCRIPT]);
            serde_json::to_string(statements)?
        } else {
            command.args(["-batch", "-bail", "-no-init", ":memory:"]);
            statements.join(";\n") + ";\n"
        };
        let started = command.current_dir(&self.root).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let unusable = || format!("{} cannot be started", self.program.display());
        let mut child = started.with_context(unusable)?;
        let mut stdin = child.stdin.take();
        // It reads all before it answers, unless it fails, and then says why.
        let _ = stdin.as_mut().map(|stdin| stdin.write_all(input.as_bytes()));
        drop(stdin);
        child.wait_with_output().with_context(unusable)
    }
}

/// Fails, with the reason, unless the text is one SELECT.
fn only_select(sql: &str) -> String {
    format!(
        "CREATE TEMP TABLE checked AS SELECT CASE \
         WHEN json_extract_string(j, '$.error') = 'true' THEN error(json_extract_string(j, '$.error_message')) \
         WHEN json_array_length(j, '$.statements') <> 1 THEN error('give one SELECT') END AS c \
         FROM (SELECT json_serialize_sql({}) AS j)",
        literal(sql)
    )
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn is_python(program: &Path) -> bool {
    program.file_name().is_some_and(|name| name.to_string_lossy().contains("python"))
}

fn works(program: &Path) -> bool {
    let mut command = Command::new(program);
    if is_python(program) {
        command.args(["-c", "import duckdb"])
    } else {
        command.arg("--version")
    };
    let done = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}
