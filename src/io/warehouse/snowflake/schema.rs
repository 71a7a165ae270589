//! The tables as they are there, and what is missing: statements that only add, and can be run twice.
//!
//! Owns the plan. Never drops or changes a column: what differs otherwise is told. Never runs a statement by itself.

use super::super::{CatalogueError, Column, ColumnType, Dialect, Table, View, views};
use super::{Refusal, SnowflakeError, Sql};
use crate::io::warehouse::Catalogue;
use openssl::sha::sha256;
use std::collections::{BTreeMap, BTreeSet};

/// What is found in the schema. Names are in capitals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Columns and their types, by table or view.
    pub columns: BTreeMap<String, BTreeMap<String, String>>,
    /// Comments of views.
    pub views: BTreeMap<String, String>,
    /// Objects and rights on them that the role has.
    pub rights: BTreeSet<(String, String)>,
}

/// One statement, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub object: String,
    pub what: String,
    pub statement: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// What no statement of ours sets right.
    pub strange: Vec<String>,
}

const COLUMNS: &str = "SELECT table_name, column_name, data_type FROM INFORMATION_SCHEMA.COLUMNS WHERE table_schema = ?";
const VIEWS: &str = "SELECT table_name, comment FROM INFORMATION_SCHEMA.VIEWS WHERE table_schema = ?";
const RIGHTS: &str = "SELECT object_name, privilege_type FROM INFORMATION_SCHEMA.OBJECT_PRIVILEGES \
                      WHERE grantee = ? AND (object_schema = ? OR object_type IN ('DATABASE', 'SCHEMA'))";

/// Looks at the schema; `role`: whose rights.
pub fn find(sql: &mut Sql, schema: &str, role: Option<&str>) -> Result<Found, SnowflakeError> {
    let (schema, mut found) = (schema.to_uppercase(), Found::default());
    for record in sql.run(COLUMNS, &[Some(&schema)])? {
        let [table, column, kind] = texts(record)?;
        found.columns.entry(table).or_default().insert(column, kind);
    }
    for record in sql.run(VIEWS, &[Some(&schema)])? {
        let [view, comment] = texts(record)?;
        found.views.insert(view, comment);
    }
    if let Some(role) = role {
        let role = role.to_uppercase();
        for record in sql.run(RIGHTS, &[Some(&role), Some(&schema)])? {
            let [object, right] = texts(record)?;
            found.rights.insert((object, right));
        }
    }
    Ok(found)
}

fn texts<const N: usize>(record: super::Record) -> Result<[String; N], SnowflakeError> {
    let texts: Vec<String> = record.into_iter().map(Option::unwrap_or_default).collect();
    let refusal = || Refusal::new("a row of another width", "");
    texts.try_into().map_err(|_| SnowflakeError::refused("reading what is there", refusal()))
}

/// What makes the schema as it has to be; `role`: who writes, and gets no more than that takes.
pub fn plan(catalogue: &Catalogue, found: &Found, place: (&str, &str), role: Option<&str>) -> Result<Plan, CatalogueError> {
    let mut plan = Plan::default();
    for table in &catalogue.tables {
        match found.columns.get(&table.name) {
            None => plan.add(&table.name, "table", table.ddl(Dialect::Snowflake)),
            Some(columns) => plan.columns(table, columns),
        }
    }
    let views = views(Dialect::Snowflake)?;
    for view in &views {
        let comment = comment(view);
        if found.views.get(&view.name) != Some(&comment) {
            let quoted = comment.replace('\'', "''");
            plan.add(
                &view.name,
                "view",
                format!("CREATE OR REPLACE VIEW {} COMMENT = '{quoted}' AS\n{}", view.name, view.select),
            );
        }
    }
    if let Some(role) = role {
        let replaced: BTreeSet<String> = plan.steps.iter().map(|step| step.object.clone()).collect();
        let grants = grants(catalogue, &views, place);
        for (kind, object, right) in grants {
            let has = found.rights.contains(&(object.to_uppercase(), right.to_owned()));
            if !has || replaced.contains(&object) {
                plan.add(&object, &format!("{right} for {role}"), format!("GRANT {right} ON {kind} {object} TO ROLE {role}"));
            }
        }
    }
    Ok(plan)
}

/// (kind of object, its name, right): what writing rows and cards takes, and reading what was written.
fn grants(catalogue: &Catalogue, views: &[View], (database, schema): (&str, &str)) -> Vec<(&'static str, String, &'static str)> {
    let mut grants = vec![("DATABASE", database.to_owned(), "USAGE"), ("SCHEMA", schema.to_owned(), "USAGE")];
    for table in &catalogue.tables {
        let rights: &[&'static str] =
            if table.record.is_some() { &["INSERT", "SELECT"] } else { &["INSERT", "SELECT", "UPDATE"] };
        grants.extend(rights.iter().map(|right| ("TABLE", table.name.clone(), *right)));
    }
    grants.extend(views.iter().map(|view| ("VIEW", view.name.clone(), "SELECT")));
    grants
}

/// Says which text the view was made from, so that another text is seen.
fn comment(view: &View) -> String {
    let head = sha256(view.select.as_bytes()).iter().take(6).fold(0_u64, |head, byte| head << 8 | u64::from(*byte));
    format!("{} [{head:012x}]", view.comment)
}

impl Plan {
    fn add(&mut self, object: &str, what: &str, statement: String) {
        self.steps.push(Step { object: object.to_owned(), what: what.to_owned(), statement });
    }

    fn columns(&mut self, table: &Table, found: &BTreeMap<String, String>) {
        for column in &table.columns {
            let name = column.name.to_uppercase();
            match found.get(&name) {
                None => self.add(&table.name, &format!("column {}", column.name), add_column(table, column)),
                Some(kind) if kind != type_name(column.kind) => {
                    let problem =
                        format!("{}: the column {name} is {kind}, and should be {}", table.name, type_name(column.kind));
                    self.strange.push(problem);
                }
                Some(_) => {}
            }
        }
        let is_ours = |name: &str| table.columns.iter().any(|column| column.name.to_uppercase() == name);
        let others = found.keys().filter(|name| !is_ours(name));
        self.strange.extend(others.map(|name| format!("{}: {name} is no column of ours; it stays empty", table.name)));
    }
}

/// Rows that are there have no value in it, so it takes null whatever the catalogue says.
fn add_column(table: &Table, column: &Column) -> String {
    let (kind, comment) = (column.kind.sql(Dialect::Snowflake), column.comment.replace('\'', "''"));
    format!("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {} {kind} COMMENT '{comment}'", table.name, column.name)
}

/// As the vendor's catalogue calls it.
fn type_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Text | ColumnType::Json => "TEXT",
        ColumnType::Bool => "BOOLEAN",
        ColumnType::Int | ColumnType::Long => "NUMBER",
        ColumnType::Double => "FLOAT",
        ColumnType::Timestamp => "TIMESTAMP_NTZ",
        ColumnType::Texts | ColumnType::Floats | ColumnType::Doubles | ColumnType::FloatLists => "ARRAY",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it is when all of the plan was executed.
    fn complete(catalogue: &Catalogue) -> Found {
        let columns =
            |table: &Table| table.columns.iter().map(|it| (it.name.to_uppercase(), type_name(it.kind).to_owned())).collect();
        let views = views(Dialect::Snowflake).unwrap();
        let rights =
            grants(catalogue, &views, ("DB", "S")).into_iter().map(|(_, object, right)| (object, right.to_owned())).collect();
        Found {
            columns: catalogue.tables.iter().map(|table| (table.name.clone(), columns(table))).collect(),
            views: views.iter().map(|view| (view.name.clone(), comment(view))).collect(),
            rights,
        }
    }

    fn planned(found: &Found) -> Plan {
        plan(&Catalogue::shipped().unwrap(), found, ("DB", "S"), Some("WRITER")).unwrap()
    }

    #[test]
    fn all_is_made_where_nothing_is_and_nothing_where_all_is() {
        let catalogue = Catalogue::shipped().unwrap();
        let all = planned(&Found::default());
        let count = |head: &str| all.steps.iter().filter(|step| step.statement.starts_with(head)).count();
        assert_eq!((count("CREATE TABLE IF NOT EXISTS"), count("CREATE OR REPLACE VIEW"), all.strange.len()), (5, 8, 0));
        assert_eq!(count("GRANT"), 2 + 4 * 2 + 3 + 8);
        assert!(all.steps.iter().all(|step| !step.statement.contains("DROP ")), "{all:?}");
        assert_eq!(planned(&complete(&catalogue)), Plan::default());
    }

    #[test]
    fn what_is_missing_is_added_and_what_differs_is_told() {
        let mut found = complete(&Catalogue::shipped().unwrap());
        let feedback = found.columns.get_mut("ATHIA_FEEDBACK").unwrap();
        feedback.remove("REWARD");
        feedback.insert("APPROVED".to_owned(), "TEXT".to_owned());
        feedback.insert("EXTRA".to_owned(), "TEXT".to_owned());
        found.views.insert("ML_MODEL_REGISTRY".to_owned(), "older".to_owned());
        found.rights.remove(&("ATHIA_DECISIONS".to_owned(), "INSERT".to_owned()));
        let plan = planned(&found);
        let statements: Vec<&str> = plan.steps.iter().map(|step| step.statement.as_str()).collect();
        assert!(
            statements[0].starts_with("ALTER TABLE ATHIA_FEEDBACK ADD COLUMN IF NOT EXISTS reward DOUBLE COMMENT"),
            "{statements:?}"
        );
        assert!(statements[1].starts_with("CREATE OR REPLACE VIEW ML_MODEL_REGISTRY"), "{statements:?}");
        let expected = [
            "GRANT INSERT ON TABLE ATHIA_DECISIONS TO ROLE WRITER",
            // A view that is replaced has lost its grants, and a table with a new column keeps them twice.
            "GRANT INSERT ON TABLE ATHIA_FEEDBACK TO ROLE WRITER",
        ];
        assert!(expected.iter().all(|grant| statements.contains(grant)), "{statements:?}");
        assert!(statements.contains(&"GRANT SELECT ON VIEW ML_MODEL_REGISTRY TO ROLE WRITER"));
        assert!(
            plan.strange.iter().any(|it| it.contains("APPROVED is TEXT"))
                && plan.strange.iter().any(|it| it.contains("EXTRA is no column"))
        );
        assert_eq!(plan.strange.len(), 2);
    }
}
