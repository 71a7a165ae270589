//! Which columns a member is given.
//!
//! Owns the short list of what approvals hang on in any log of payments, and the rule that keeps out what only tells the time.

use super::table::{ColumnKind, Table};
use super::validate::psi;
use serde::{Deserialize, Serialize};

/// Which columns a member sees: a hyperparameter, chosen by validation like the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Choice {
    /// Those that `FEW` names. Approvals are noisy: among a hundred columns many fit tens of thousands of rows by chance, and each costs a
    /// little on the rows that come later.
    Few,
    All,
}

const FEW: [&str; 23] = [
    "psp",
    "card_brand",
    "card_type",
    "card_bank",
    "three_ds",
    "currency",
    "method",
    "sub_method",
    "amount",
    "installments_count",
    "installments_kind",
    "is_subscription",
    "initiator",
    "order_type",
    "hour_of_day",
    "attempt_number",
    "previous_result",
    "brand_three_ds_psp_rate",
    "brand_three_ds_first_psp_rate",
    "brand_three_ds_first_size_psp_rate",
    "size_day_part_psp_rate",
    "amount_psp_rate",
    "hour_psp_rate",
];
/// Population stability index of a column between the halves of the rows.
const SHIFT_MOST: f64 = 0.25;

impl Choice {
    /// The columns that are chosen, have more than one value in `rows`, and are in their second half what they were in the first: one that
    /// has moved says when a row was, and later rows lie where nothing was learned. In a month's rows the day of the month is such a one.
    /// Not so a rate: it moves while it is counted, and stays between 0 and 1.
    pub(super) fn columns(self, table: &Table, rows: &[u32]) -> Vec<usize> {
        let chosen = |column: &usize| self == Self::All || FEW.contains(&table.columns[*column].name.as_str());
        let useful = |column: &usize| {
            let values: Vec<f64> = rows.iter().map(|row| f64::from(table.features(*row as usize)[*column])).collect();
            let (earlier, later) = values.split_at(values.len() / 2);
            let stays = || table.columns[*column].kind == ColumnKind::Rate || psi(earlier, later) < SHIFT_MOST;
            values.iter().any(|value| Some(value) != values.first()) && stays()
        };
        let columns: Vec<usize> = (0..table.columns.len()).filter(|column| chosen(column) && useful(column)).collect();
        // A table that has none of the names is taken as it is.
        if columns.is_empty() && self == Self::Few { Self::All.columns(table, rows) } else { columns }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn few_are_those_of_the_list_and_what_tells_the_time_is_none() {
        let mut table = fixtures::table(1_000, 3);
        let rows: Vec<u32> = (0..1_000).collect();
        assert_eq!(Choice::Few.columns(&table, &rows), [1, 2], "card_brand and amount");
        assert_eq!(Choice::All.columns(&table, &rows), [0, 1, 2, 3]);
        table.columns[3].name = "hour_psp_rate".to_owned();
        assert_eq!(Choice::Few.columns(&table, &rows), [1, 2, 3]);
        for row in 0..1_000 {
            table.values[row * 4 + 3] = row as f32;
            table.values[row * 4 + 2] = 7.0;
        }
        assert_eq!(Choice::Few.columns(&table, &rows), [1]);
        table.columns.iter_mut().for_each(|column| column.name.push('x'));
        assert_eq!(Choice::Few.columns(&table, &rows), [0, 1], "a table of other names");
    }
}
