//! The SQL API: statements are remembered, those of our DDL and of small tables have their effect. A request id runs once.

use super::State;
use super::http::{Reply, Request};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Of a row, or bound to a statement.
type Values = Vec<Option<String>>;

#[derive(Default)]
pub(crate) struct Sql {
    /// Statements that ran, with their binds.
    pub(crate) ran: Vec<(String, Values)>,
    /// Columns of each table: name and type, both in capitals.
    pub(crate) tables: BTreeMap<String, Vec<(String, String)>>,
    /// Comments of views, and rights on objects, names in capitals.
    pub(crate) views: BTreeMap<String, String>,
    pub(crate) rights: BTreeSet<(String, String)>,
    /// Rows of small tables, by table and its first two values.
    pub(crate) merged: BTreeMap<(String, Values), Values>,
    /// (how it begins, status, code, message) of statements that are refused.
    pub(crate) refuses: Option<(&'static str, u16, &'static str, &'static str)>,
    /// Statements that are answered only when asked for.
    pub(crate) is_slow: bool,
    results: BTreeMap<String, Value>,
    handles: BTreeMap<String, u64>,
}

impl State {
    pub(super) fn statement(&mut self, request: &Request) -> Reply {
        let Some(handle) = request.path.get(3) else { return self.run(request) };
        match self.sql.handles.get_mut(handle) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Reply { status: 202, ..Reply::json(&json!({ "code": "333334", "statementHandle": handle })) }
            }
            Some(_) => {
                let mut result = self.sql.results[handle].clone();
                if let Some(page) = request.query.get("partition").and_then(|page| page.parse::<usize>().ok()) {
                    result["data"] = json!([result["data"][page]]);
                }
                Reply::json(&result)
            }
            None => Reply::error(404, "390404", "no such statement"),
        }
    }

    fn run(&mut self, request: &Request) -> Reply {
        let (body, id) = (request.json(), request.parameter("requestId").to_owned());
        let statement = body["statement"].as_str().unwrap_or_default().to_owned();
        if let Some((head, status, code, message)) = self.sql.refuses
            && statement.starts_with(head)
        {
            return Reply::error(status, code, message);
        }
        let lost = self.deals("lost", self.faults.lost);
        if !self.sql.results.contains_key(&id) {
            let binds: Vec<Option<String>> = (1..)
                .map_while(|number: usize| body["bindings"].get(number.to_string()))
                .map(|bind| bind["value"].as_str().map(ToOwned::to_owned))
                .collect();
            let data = self.sql.effect(&statement, &binds);
            let pages: Vec<Value> = data.iter().map(|_| json!({ "rowCount": 1 })).collect();
            let result =
                json!({ "code": "090001", "statementHandle": id, "data": data, "resultSetMetaData": { "partitionInfo": pages } });
            self.sql.ran.push((statement, binds));
            self.sql.results.insert(id.clone(), result);
            self.sql.handles.insert(id.clone(), u64::from(self.sql.is_slow));
        }
        let mut result = self.sql.results[&id].clone();
        // A page each, so that pages are asked for.
        if result["data"].as_array().is_some_and(|rows| rows.len() > 1) {
            result["data"] = json!([result["data"][0]]);
        }
        match (lost, self.sql.is_slow) {
            (true, _) => Reply::lost(),
            (false, true) => Reply { status: 202, ..Reply::json(&json!({ "code": "333334", "statementHandle": id })) },
            (false, false) => Reply::json(&result),
        }
    }
}

impl Sql {
    fn effect(&mut self, statement: &str, binds: &[Option<String>]) -> Vec<Vec<Option<String>>> {
        let words: Vec<&str> = statement.split_whitespace().collect();
        match words.as_slice() {
            ["MERGE", "INTO", table, ..] => {
                self.merged.insert(((*table).to_owned(), binds[..2].to_vec()), binds.to_vec());
                Vec::new()
            }
            ["CREATE", "TABLE", "IF", "NOT", "EXISTS", table, ..] => {
                let inside = statement.split_once("(\n").map_or("", |(_, rest)| rest);
                let columns = inside.lines().map_while(|line| line.strip_prefix("  ")).map(column).collect();
                self.tables.entry(table.to_uppercase()).or_insert(columns);
                Vec::new()
            }
            ["ALTER", "TABLE", table, "ADD", "COLUMN", "IF", "NOT", "EXISTS", ..] => {
                let (_, rest) = statement.split_once("EXISTS ").unwrap();
                self.tables.entry(table.to_uppercase()).or_default().push(column(rest));
                Vec::new()
            }
            ["CREATE", "OR", "REPLACE", "VIEW", view, "COMMENT", "=", ..] => {
                let (comment, _) = statement.split_once("COMMENT = '").unwrap().1.split_once("' AS\n").unwrap();
                self.views.insert((*view).to_owned(), comment.replace("''", "'"));
                self.rights.retain(|(object, _)| object != view);
                Vec::new()
            }
            ["GRANT", right, "ON", _, object, "TO", "ROLE", _] => {
                self.rights.insert((object.to_uppercase(), (*right).to_owned()));
                Vec::new()
            }
            _ if statement.contains("INFORMATION_SCHEMA.VIEWS") => {
                self.views.iter().map(|(view, comment)| vec![Some(view.clone()), Some(comment.clone())]).collect()
            }
            _ if statement.contains("INFORMATION_SCHEMA.OBJECT_PRIVILEGES") => {
                self.rights.iter().map(|(object, right)| vec![Some(object.clone()), Some(right.clone())]).collect()
            }
            _ if statement.contains("INFORMATION_SCHEMA.COLUMNS") => {
                let told = |(table, columns): (&String, &Vec<(String, String)>)| {
                    columns
                        .iter()
                        .map(|(name, kind)| vec![Some(table.clone()), Some(name.clone()), Some(kind.clone())])
                        .collect::<Vec<_>>()
                };
                self.tables.iter().flat_map(told).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn column(text: &str) -> (String, String) {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap_or_default().to_uppercase();
    let kind = words.next().unwrap_or_default().split('(').next().unwrap_or_default().trim_end_matches(',');
    (
        name,
        if kind == "VARCHAR" {
            "TEXT".to_owned()
        } else if kind == "DOUBLE" {
            "FLOAT".to_owned()
        } else {
            kind.to_owned()
        },
    )
}
