//! Which columns a model leans on: how much worse it is when a column is shuffled.

use super::draw::Draw;
use super::metrics::{self, Scored};
use super::scorer::{Model, Scorer};
use super::search::gather;
use super::table::Table;

const TOLD: usize = 20;

/// What the log loss rises by, most first; columns that the model does not look at are left out.
pub(super) fn by_permutation(model: &Model, table: &Table, rows: &[u32], seed: u64) -> Vec<(String, f64)> {
    let width = table.columns.len();
    let approved: Vec<bool> = rows.iter().map(|row| table.rows[*row as usize].approved).collect();
    let loss = |values: &[f32]| {
        let mut said = Vec::with_capacity(approved.len());
        model.score(values, &mut said);
        metrics::log_loss(Scored { probabilities: &said, approved: &approved }).unwrap_or(0.0)
    };
    let mut values = gather(table, rows);
    let before = loss(&values);
    let mut draw = Draw::new(seed, 30);
    let mut rises = Vec::new();
    for (column, declared) in table.columns.iter().enumerate() {
        let kept: Vec<f32> = values.iter().skip(column).step_by(width).copied().collect();
        if kept.iter().all(|value| Some(value) == kept.first()) {
            continue;
        }
        let mut shuffled = kept.clone();
        draw.shuffle(&mut shuffled);
        let put = |values: &mut [f32], column_values: &[f32]| {
            values.iter_mut().skip(column).step_by(width).zip(column_values).for_each(|(value, new)| *value = *new);
        };
        put(&mut values, &shuffled);
        let rise = loss(&values) - before;
        if rise != 0.0 {
            rises.push((declared.name.clone(), rise));
        }
        put(&mut values, &kept);
    }
    rises.sort_by(|a, b| b.1.total_cmp(&a.1));
    rises.truncate(TOLD);
    rises
}
