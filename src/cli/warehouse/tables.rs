//! The warehouse's tables and views as DuckDB statements, over the files of a directory.

use anyhow::Result;
use smartrouter::io::warehouse::local::Held;
use smartrouter::io::warehouse::{Catalogue, Dialect, views};

/// To be run in the directory of the warehouse.
pub(super) fn statements(catalogue: &Catalogue, held: &[Held]) -> Result<Vec<String>> {
    let is_empty = |name: &str| held.iter().all(|held| held.table != name || held.files == 0);
    let mut statements = vec!["SET TimeZone = 'UTC'".to_owned()];
    for table in &catalogue.tables {
        statements.push(format!("CREATE VIEW {} AS {}", table.name, table.over_files(is_empty(&table.name))));
    }
    for view in views(Dialect::DuckDb)? {
        statements.push(format!("CREATE VIEW {} AS {}", view.name, view.select));
    }
    Ok(statements)
}
