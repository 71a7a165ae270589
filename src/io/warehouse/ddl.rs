//! What the catalogue comes to in SQL and in words: tables, views, the check for gaps and doubles, documentation.
//!
//! Values never enter these texts: they are made of the shipped files alone.

use super::{Catalogue, CatalogueError, Column, ColumnType, Table};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Whose SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    DuckDb,
    Snowflake,
}

/// A derived table: SQL over the streamed ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub name: String,
    /// What it says of itself in its first lines.
    pub comment: String,
    pub select: String,
}

macro_rules! files {
    ($($name:literal $file:literal),+ $(,)?) => {
        /// In an order in which each needs only those before it.
        const VIEWS: &[(&str, &str)] = &[$(($name, include_str!(concat!("../../../schemas/warehouse/views/", $file, ".sql")))),+];
    };
}

files![
    "ATHIA_STAGE_OUTCOMES" "athia_stage_outcomes",
    "ATHIA_SESSION_SUMMARY" "athia_session_summary",
    "ATHIA_MULTI_STAGE_ANALYSIS" "athia_multi_stage_analysis",
    "ATHIA_DECISION_OUTCOMES" "athia_decision_outcomes",
    "ATHIA_TRAINING_DATASET" "athia_training_dataset",
    "ATHIA_MODEL_METRICS" "athia_model_metrics",
    "ATHIA_EXPERIMENT_LIFT" "athia_experiment_lift",
    "ML_MODEL_REGISTRY" "ml_model_registry",
];
const DIALECTS: (&str, &str) = ("dialects.toml", include_str!("../../../schemas/warehouse/dialects.toml"));
const CHECK: &str = include_str!("../../../schemas/warehouse/check.sql");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dialects {
    duckdb: BTreeMap<String, String>,
    snowflake: BTreeMap<String, String>,
}

/// The derived tables in this dialect, each behind those that it needs.
pub fn views(dialect: Dialect) -> Result<Vec<View>, CatalogueError> {
    let dialects: Dialects =
        toml::from_str(DIALECTS.1).map_err(|error| CatalogueError { file: DIALECTS.0, problem: error.to_string() })?;
    let says = match dialect {
        Dialect::DuckDb => dialects.duckdb,
        Dialect::Snowflake => dialects.snowflake,
    };
    let view = |&(name, text): &(&str, &str)| {
        let comment = text.lines().map_while(|line| line.strip_prefix("-- ")).collect::<Vec<_>>().join(" ");
        let body = text.lines().skip_while(|line| line.starts_with("--")).collect::<Vec<_>>().join("\n");
        let select = says.iter().fold(body, |body, (name, text)| body.replace(&format!("@{name}@"), text));
        View { name: name.to_owned(), comment, select }
    };
    Ok(VIEWS.iter().map(view).collect())
}

/// The query that finds gaps and doubles in all streamed tables.
pub fn check_query(catalogue: &Catalogue) -> String {
    let query: Vec<&str> = CHECK.lines().filter(|line| !line.starts_with("--")).collect();
    let query = query.join("\n");
    catalogue.streamed().map(|(table, _)| query.replace("@table@", &table.name)).collect::<Vec<_>>().join("\nUNION ALL\n")
}

impl ColumnType {
    pub fn sql(self, dialect: Dialect) -> &'static str {
        let (duckdb, snowflake) = match self {
            Self::Text | Self::Json => ("VARCHAR", "VARCHAR"),
            Self::Bool => ("BOOLEAN", "BOOLEAN"),
            Self::Int => ("INTEGER", "NUMBER(10, 0)"),
            Self::Long => ("BIGINT", "NUMBER(19, 0)"),
            Self::Double => ("DOUBLE", "DOUBLE"),
            Self::Timestamp => ("TIMESTAMP", "TIMESTAMP_NTZ(3)"),
            Self::Texts => ("VARCHAR[]", "ARRAY"),
            Self::Floats => ("FLOAT[]", "ARRAY"),
            Self::Doubles => ("DOUBLE[]", "ARRAY"),
            Self::FloatLists => ("FLOAT[][]", "ARRAY"),
        };
        match dialect {
            Dialect::DuckDb => duckdb,
            Dialect::Snowflake => snowflake,
        }
    }

    /// In a documentation.
    fn in_words(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "text, JSON",
            Self::Bool => "boolean",
            Self::Int => "integer, 32 bits",
            Self::Long => "integer, 64 bits",
            Self::Double => "double",
            Self::Timestamp => "timestamp, milliseconds, UTC",
            Self::Texts => "list of texts",
            Self::Floats => "list of floats",
            Self::Doubles => "list of doubles, each may be null",
            Self::FloatLists => "list of lists of floats",
        }
    }
}

impl Table {
    /// `CREATE TABLE`, which leaves one that is there as it is.
    pub fn ddl(&self, dialect: Dialect) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let column = |column: &Column| {
            // A word of its own in some dialects.
            let name = if dialect == Dialect::DuckDb { format!("\"{}\"", column.name) } else { column.name.clone() };
            let null = if column.nullable { "" } else { " NOT NULL" };
            let comment =
                if dialect == Dialect::Snowflake { format!(" COMMENT {}", quoted(&column.comment)) } else { String::new() };
            format!("  {name} {}{null}{comment}", column.kind.sql(dialect))
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        // Rows that cannot be taken in are kept aside there, instead of vanishing.
        let logging = if self.record.is_some() { " ERROR_LOGGING = TRUE" } else { "" };
        let comment =
            if dialect == Dialect::Snowflake { format!("{logging} COMMENT = {}", quoted(&self.comment)) } else { String::new() };
        format!("CREATE TABLE IF NOT EXISTS {} (\n{}\n){comment}", self.name, columns.join(",\n"))
    }

    /// A row by its binds, in the order of the columns: in place of the one with the same key, or a new one.
    pub fn merge(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let join = |each: &dyn Fn(&str) -> String, with: &str| names.iter().map(|name| each(name)).collect::<Vec<_>>().join(with);
        let same: Vec<String> = self.key.iter().map(|name| format!("t.{name} = s.{name}")).collect();
        format!(
            "MERGE INTO {} AS t USING (SELECT {}) AS s ON {} WHEN MATCHED THEN UPDATE SET {} WHEN NOT MATCHED THEN INSERT ({}) VALUES ({})",
            self.name,
            join(&|name| format!("? AS {name}"), ", "),
            same.join(" AND "),
            join(&|name| format!("{name} = s.{name}"), ", "),
            names.join(", "),
            join(&|name| format!("s.{name}"), ", "),
        )
    }

    /// The table over the local files, in DuckDB: with its types also where there is no file, or none has a newer column. `is_empty`: there is
    /// no file, and a pattern that nothing matches would be an error.
    pub fn over_files(&self, is_empty: bool) -> String {
        // In the files a timestamp knows that it is UTC; a session may show such ones in another zone.
        let in_files = |kind: ColumnType| if kind == ColumnType::Timestamp { "TIMESTAMPTZ" } else { kind.sql(Dialect::DuckDb) };
        let typed = self.columns.iter().map(|it| format!("NULL::{} AS \"{}\"", in_files(it.kind), it.name));
        let mut typed: Vec<String> = typed.collect();
        let shown = self.columns.iter().map(|it| format!("CAST(\"{}\" AS {}) AS \"{0}\"", it.name, it.kind.sql(Dialect::DuckDb)));
        let mut shown: Vec<String> = shown.collect();
        if self.record.is_some() {
            typed.push("NULL::DATE AS day".to_owned());
            shown.push("day".to_owned());
        }
        let files =
            format!("SELECT * FROM read_parquet('{}/*/*.parquet', hive_partitioning = true, union_by_name = true)", self.name);
        let files = if is_empty { String::new() } else { format!(" UNION ALL BY NAME {files}") };
        format!("SELECT {} FROM (SELECT {} WHERE false{files})", shown.join(", "), typed.join(", "))
    }
}

/// `schemas/warehouse/README.md`.
pub fn documentation(catalogue: &Catalogue) -> Result<String, CatalogueError> {
    let mut text = String::from(
        "# The tables of the warehouse\n\nMade from the files of this directory by `smartrouter warehouse docs`. Rows of streamed tables \
         begin with their place in the log; files of the local warehouse have `day` besides, the day (UTC) of `ingested_at`.\n",
    );
    for table in &catalogue.tables {
        let from = table.record.map_or_else(String::new, |kind| format!(" From `{}`.", kind.topic()));
        let head =
            format!("\n## {}\n\n{}{from}\n\n| column | type | null | what |\n|---|---|---|---|\n", table.name, table.comment);
        text.push_str(&head);
        for column in &table.columns {
            let null = if column.nullable { "yes" } else { "" };
            let line = format!("| `{}` | {} | {null} | {} |\n", column.name, column.kind.in_words(), column.comment);
            text.push_str(&line);
        }
    }
    text.push_str("\n## Derived\n\n| view | what |\n|---|---|\n");
    for view in views(Dialect::DuckDb)? {
        let line = format!("| `{}` | {} |\n", view.name, view.comment);
        text.push_str(&line);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_say_all_in_each_dialect() {
        for dialect in [Dialect::DuckDb, Dialect::Snowflake] {
            let views = views(dialect).unwrap();
            assert_eq!(views.len(), 8);
            for view in views {
                assert!(!view.select.contains('@') && !view.comment.is_empty(), "{view:?}");
            }
        }
    }

    #[test]
    fn the_documentation_is_that_of_the_catalogue() {
        let made = documentation(&Catalogue::shipped().unwrap()).unwrap();
        assert_eq!(made, include_str!("../../../schemas/warehouse/README.md"), "`smartrouter warehouse docs` makes it");
    }

    #[test]
    fn columns_have_types_and_comments_in_the_ddl() {
        let catalogue = Catalogue::shipped().unwrap();
        let ddl = catalogue.table("ATHIA_FEEDBACK").unwrap().ddl(Dialect::Snowflake);
        for part in [
            "CREATE TABLE IF NOT EXISTS ATHIA_FEEDBACK (",
            "  offset NUMBER(19, 0) NOT NULL COMMENT 'Offset of the record.",
            "  fee_minor NUMBER(19, 0) COMMENT 'Fee of the PSP in minor units of currency.'",
            "  latency_ms NUMBER(19, 0) NOT NULL COMMENT 'From sending",
            ") ERROR_LOGGING = TRUE COMMENT = 'One row per result",
        ] {
            assert!(ddl.contains(part), "{part}: {ddl}");
        }
        let merge = catalogue.table("ML_MODEL_CARDS").unwrap().merge();
        for part in [
            "SELECT ? AS model, ? AS version",
            "ON t.model = s.model AND t.version = s.version",
            "card_json = s.card_json",
            "VALUES (s.model",
        ] {
            assert!(merge.contains(part), "{part}: {merge}");
        }
        assert!(check_query(&catalogue).matches("UNION ALL").count() == 3);
    }
}
