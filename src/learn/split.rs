//! Rows cut by time into what is learned from, what is chosen by, and what is measured on; a payment is never cut in two.

use super::table::Row;
use std::collections::HashMap;
use std::ops::Range;

/// Shares of the rows, in order of time; the rest is for the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    pub train: f64,
    pub validation: f64,
}

impl Default for Shares {
    fn default() -> Self {
        Self { train: 0.6, validation: 0.2 }
    }
}

/// Indexes of rows, in order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    pub train: Vec<u32>,
    pub validation: Vec<u32>,
    pub test: Vec<u32>,
}

pub fn split(rows: &[Row], shares: Shares) -> Split {
    let last = (rows.len() as f64 * (shares.train + shares.validation)).round() as usize;
    let first = (rows.len() as f64 * shares.train).round() as usize;
    let mut parts = parts(rows, &[first, last]).into_iter();
    let mut next = || parts.next().unwrap_or_default();
    Split { train: next(), validation: next(), test: next() }
}

/// `count` parts of equally many rows by time.
pub(super) fn blocks(rows: &[Row], count: usize) -> Vec<Vec<u32>> {
    let edges: Vec<usize> = (1..count).map(|edge| rows.len() * edge / count).collect();
    parts(rows, &edges)
}

/// A row belongs where the first row of its payment lies.
fn parts(rows: &[Row], edges: &[usize]) -> Vec<Vec<u32>> {
    let mut firsts: HashMap<&str, usize> = HashMap::new();
    let mut parts = vec![Vec::new(); edges.len() + 1];
    for (index, row) in rows.iter().enumerate() {
        let first = *firsts.entry(&row.payment_id).or_insert(index);
        parts[edges.partition_point(|edge| *edge <= first)].push(index as u32);
    }
    parts
}

/// All but one part, in order.
pub(super) fn others(parts: &[Vec<u32>], left_out: usize) -> Vec<u32> {
    let kept: Range<usize> = 0..parts.len();
    kept.filter(|part| *part != left_out).flat_map(|part| parts[part].iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::row;
    use super::*;

    #[test]
    fn payments_stay_whole() {
        // Payment 5 has its last attempt among the rows of the validation.
        let mut rows: Vec<Row> = (0..10).map(|at| row(at, &at.to_string(), false)).collect();
        rows[7].payment_id = "5".to_owned();
        rows[9].payment_id = "7".to_owned();
        let split = split(&rows, Shares::default());
        assert_eq!(split, Split { train: vec![0, 1, 2, 3, 4, 5, 7], validation: vec![6], test: vec![8, 9] });
        let parts = blocks(&rows, 5);
        assert_eq!(parts, [vec![0, 1], vec![2, 3], vec![4, 5, 7], vec![6], vec![8, 9]]);
        assert_eq!(others(&parts, 2), [0, 1, 2, 3, 6, 8, 9]);
    }

    #[test]
    fn no_rows_make_empty_parts() {
        assert_eq!(split(&[], Shares::default()), Split::default());
        assert_eq!(blocks(&[], 3), vec![Vec::<u32>::new(); 3]);
    }
}
