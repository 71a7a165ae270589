//! Crosses of columns: which combinations of values have a rate of their own, found by what they would have told in time.
//!
//! A column becomes codes (a category is its own, a number is cut at quantiles), and a cross is the combination of some codes. Crosses
//! grow one column at a time: each is judged by predicting every row from the rows before it alone, so that a cross that only
//! remembers is worth nothing. Those kept are chosen one after the other by what each adds to those before it.

use super::rates::{Rate, logit, sigmoid};
use super::table::{ColumnKind, Table};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// A category of more values than this in the rows is no part of a cross: most cells would be empty.
const LEVELS_MOST: usize = 64;
/// And no cross has more cells than this.
const CELLS_MOST: usize = 8_192;
const CUTS: [usize; 3] = [2, 4, 8];
const DEPTH_MOST: usize = 4;
/// Bases that are extended: of one column, and of more.
const BEAM_FIRST: usize = 6;
const BEAM: usize = 16;
/// Columns that did best as the second are all that may be a third or a fourth.
const PARTS_MOST: usize = 48;
const KEPT_MOST: usize = 12;
const POOL: usize = 400;
/// A cell is believed as if it had been seen this often at the rate of what it is a part of.
pub(super) const PRIOR_ROWS: f64 = 20.0;
/// Curvature added to that of a cell, in the judging of what a cross adds.
const STIFFNESS: f64 = 3.0;
/// Log loss, summed over the rows, that a further cross must take away for each of its parts: of hundreds of crosses that say nothing the
/// luckiest seems to say this much.
const GAIN_LEAST: f64 = 3.0;

/// How a column's value becomes a code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Coded {
    pub(super) column: usize,
    pub(super) by: By,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum By {
    /// The number of cuts that are below the value.
    Cuts(Vec<f32>),
    /// One more than the place among the values that were seen; 0 for one that was not.
    Levels(Vec<f32>),
}

impl Coded {
    pub(super) fn code(&self, values: &[f32]) -> u32 {
        let value = values.get(self.column).copied().unwrap_or(0.0);
        match &self.by {
            By::Cuts(cuts) => cuts.partition_point(|cut| *cut < value) as u32,
            By::Levels(levels) => levels.binary_search_by(|level| level.total_cmp(&value)).map_or(0, |at| at as u32 + 1),
        }
    }

    pub(super) fn size(&self) -> usize {
        let (By::Cuts(edges) | By::Levels(edges)) = &self.by;
        edges.len() + 1
    }

    /// The values of a category that the rows hold.
    pub(super) fn levels(table: &Table, rows: &[u32], column: usize) -> Self {
        let mut levels: Vec<f32> = rows.iter().map(|row| table.features(*row as usize)[column]).collect();
        levels.sort_by(f32::total_cmp);
        levels.dedup();
        Self { column, by: By::Levels(levels) }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cross {
    pub(super) parts: Vec<Coded>,
}

impl Cross {
    pub(super) fn cells(&self) -> usize {
        self.parts.iter().map(Coded::size).product()
    }

    pub(super) fn cell(&self, values: &[f32]) -> usize {
        self.parts.iter().fold(0, |cell, part| cell * part.size() + part.code(values) as usize)
    }

    pub(super) fn is_sound(&self, width: usize) -> bool {
        self.parts.iter().all(|part| part.column < width) && self.cells() <= CELLS_MOST
    }

    /// The cross without its last part, and so on down to one part.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = Self> + '_ {
        (1..=self.parts.len()).map(|count| Self { parts: self.parts[..count].to_vec() })
    }

    fn key(&self) -> Vec<(usize, usize)> {
        let mut key: Vec<(usize, usize)> = self.parts.iter().map(|part| (part.column, part.size())).collect();
        key.sort_unstable();
        key
    }
}

/// The rows that crosses are found on.
struct Ground<'a> {
    table: &'a Table,
    rows: &'a [u32],
    coded: Vec<Coded>,
    /// Codes of each coded column, row by row.
    codes: Vec<Vec<u32>>,
}

/// A cross in the making: its cell of each row, and what it would have said of each row before its outcome.
struct Grown {
    parts: Vec<usize>,
    cells: Vec<u32>,
    size: usize,
    said: Vec<f32>,
    loss: f64,
}

/// The crosses of `usable` columns that tell most about the outcome, best first. `rows` are in order of time.
pub(super) fn find(table: &Table, rows: &[u32], usable: &[usize]) -> Vec<Cross> {
    // Columns that cut the rows alike are one: the amount and its logarithm, say.
    let mut known: HashSet<Vec<u32>> = HashSet::new();
    let (mut coded, mut codes) = (Vec::new(), Vec::new());
    for column in coded_columns(table, rows, usable) {
        let of_rows: Vec<u32> = rows.iter().map(|row| column.code(table.features(*row as usize))).collect();
        if known.insert(ranked(&of_rows)) {
            coded.push(column);
            codes.push(of_rows);
        }
    }
    let ground = Ground { table, rows, coded, codes };
    let pool = ground.grow();
    ground.choose(&pool)
}

/// The codes, numbered as they first come: the same for all codings that tell the same rows apart.
fn ranked(codes: &[u32]) -> Vec<u32> {
    let mut numbers: HashMap<u32, u32> = HashMap::new();
    let mut number = |code: &u32| {
        let next = numbers.len() as u32;
        *numbers.entry(*code).or_insert(next)
    };
    codes.iter().map(&mut number).collect()
}

fn coded_columns(table: &Table, rows: &[u32], usable: &[usize]) -> Vec<Coded> {
    let mut coded = Vec::new();
    for column in usable.iter().copied() {
        let mut values: Vec<f32> = rows.iter().map(|row| table.features(*row as usize)[column]).collect();
        values.sort_by(f32::total_cmp);
        match table.columns[column].kind {
            ColumnKind::Category { .. } => {
                values.dedup();
                if values.len() <= LEVELS_MOST {
                    coded.push(Coded { column, by: By::Levels(values) });
                }
            }
            ColumnKind::Number => coded.extend(cut(column, &values)),
            // A cross is what rates are counted on: that of a rate would hide which cells the rate stands for.
            ColumnKind::Rate => {}
        }
    }
    coded
}

/// A number cut at its quantiles, coarse and fine.
fn cut(column: usize, sorted: &[f32]) -> Vec<Coded> {
    let mut coded: Vec<Coded> = Vec::new();
    for bins in CUTS {
        let mut cuts: Vec<f32> = (1..bins).map(|cut| sorted[(sorted.len() - 1) * cut / bins]).collect();
        cuts.dedup();
        // Nothing lies above the highest value.
        cuts.retain(|cut| sorted.last().is_some_and(|last| cut < last));
        if cuts.is_empty() {
            // Rare, but there: what is not the most usual value.
            cuts =
                sorted.iter().copied().filter(|value| Some(value) != sorted.last()).max_by(f32::total_cmp).into_iter().collect();
        }
        let by = By::Cuts(cuts);
        if coded.last().is_none_or(|before| before.by != by) {
            coded.push(Coded { column, by });
        }
    }
    coded
}

impl Ground<'_> {
    fn approved(&self) -> impl Iterator<Item = bool> + '_ {
        self.rows.iter().map(|row| self.table.rows[*row as usize].approved)
    }

    /// All crosses that were tried, best first.
    fn grow(&self) -> Vec<Grown> {
        let mut seen: HashSet<Vec<usize>> = HashSet::new();
        let mut pool: Vec<Grown> = Vec::new();
        let mut beam = vec![self.root()];
        let mut usable: Vec<usize> = (0..self.coded.len()).collect();
        for depth in 1..=DEPTH_MOST {
            let mut next: Vec<Grown> = Vec::new();
            for base in &beam {
                for part in usable.iter().copied() {
                    let mut parts = base.parts.clone();
                    parts.push(part);
                    let mut key = parts.clone();
                    key.sort_unstable();
                    let repeats = base.parts.iter().any(|it| self.coded[*it].column == self.coded[part].column);
                    if !repeats && base.size * self.coded[part].size() <= CELLS_MOST && seen.insert(key) {
                        next.push(self.extend(base, part, parts));
                    }
                }
            }
            next.sort_by(|a, b| a.loss.total_cmp(&b.loss));
            if depth == 2 {
                let mut seconds: HashSet<usize> = HashSet::new();
                usable =
                    next.iter().filter_map(|grown| grown.parts.last().copied()).filter(|part| seconds.insert(*part)).collect();
                usable.truncate(PARTS_MOST);
            }
            pool.append(&mut beam);
            beam = next;
            pool.extend(beam.split_off(beam.len().min(if depth == 1 { BEAM_FIRST } else { BEAM })));
            pool.sort_by(|a, b| a.loss.total_cmp(&b.loss));
            pool.truncate(POOL);
        }
        pool.extend(beam);
        pool.retain(|grown| !grown.parts.is_empty());
        pool.sort_by(|a, b| a.loss.total_cmp(&b.loss));
        pool
    }

    fn root(&self) -> Grown {
        let mut rate = Rate::default();
        let said = self.approved().map(|approved| rate.tell_then_learn(0.2, 1.0, approved) as f32).collect();
        Grown { parts: Vec::new(), cells: vec![0; self.rows.len()], size: 1, said, loss: f64::INFINITY }
    }

    fn extend(&self, base: &Grown, part: usize, parts: Vec<usize>) -> Grown {
        let size = base.size * self.coded[part].size();
        let mut rates = vec![Rate::default(); size];
        let mut grown = Grown { parts, cells: Vec::with_capacity(self.rows.len()), size, said: Vec::new(), loss: 0.0 };
        grown.said.reserve(self.rows.len());
        for (row, approved) in self.approved().enumerate() {
            let cell = base.cells[row] * self.coded[part].size() as u32 + self.codes[part][row];
            let said = rates[cell as usize].tell_then_learn(f64::from(base.said[row]), PRIOR_ROWS, approved);
            grown.loss -= if approved { said.ln() } else { (1.0 - said).ln() };
            grown.cells.push(cell);
            grown.said.push(said as f32);
        }
        grown
    }

    /// One after the other, by what a cross would have taken from the loss that those before it left.
    fn choose(&self, pool: &[Grown]) -> Vec<Cross> {
        let approved: Vec<bool> = self.approved().collect();
        let mut logits: Vec<f64> = self.root().said.iter().map(|said| logit(f64::from(*said))).collect();
        let mut chosen: Vec<Cross> = Vec::new();
        while chosen.len() < KEPT_MOST {
            let before: f64 = losses(&logits, &approved);
            let gain = |grown: &Grown| {
                let after = losses(&shifted(grown, &logits, &approved), &approved);
                before - after - GAIN_LEAST * grown.parts.len() as f64
            };
            let gains = pool.iter().enumerate().map(|(index, grown)| (gain(grown), index));
            let Some((gain, index)) = gains.max_by(|a, b| a.0.total_cmp(&b.0)) else { break };
            if gain < 0.0 {
                break;
            }
            logits = shifted(&pool[index], &logits, &approved);
            chosen.push(Cross { parts: pool[index].parts.iter().map(|part| self.coded[*part].clone()).collect() });
        }
        let mut keys: HashSet<Vec<(usize, usize)>> = HashSet::new();
        chosen.retain(|cross| keys.insert(cross.key()));
        chosen
    }
}

/// The logits, each moved by what its cell's earlier rows say of them.
fn shifted(grown: &Grown, logits: &[f64], approved: &[bool]) -> Vec<f64> {
    let mut sums = vec![(0.0_f64, STIFFNESS); grown.size];
    let one = |((cell, before), approved): ((&u32, &f64), &bool)| {
        let (slope, curvature) = &mut sums[*cell as usize];
        let after = before + *slope / *curvature;
        let p = sigmoid(*before);
        *slope += f64::from(u8::from(*approved)) - p;
        *curvature += p * (1.0 - p);
        after
    };
    grown.cells.iter().zip(logits).zip(approved).map(one).collect()
}

fn losses(logits: &[f64], approved: &[bool]) -> f64 {
    let loss = |(logit, approved): (&f64, &bool)| {
        let margin = if *approved { *logit } else { -*logit };
        (1.0 + (-margin).exp()).ln()
    };
    logits.iter().zip(approved).map(loss).sum()
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn what_matters_together_is_found_and_noise_is_not() {
        let table = fixtures::table(6_000, 3);
        let rows: Vec<u32> = (0..6_000).collect();
        let found = find(&table, &rows, &[0, 1, 2, 3]);
        let columns: HashSet<Vec<usize>> =
            found.iter().map(|cross| cross.key().iter().map(|(column, _)| *column).collect()).collect();
        assert!(columns.iter().any(|it| it.contains(&0) && it.contains(&1)), "{columns:?}");
        assert!(columns.iter().any(|it| it.contains(&0) && it.contains(&2)), "{columns:?}");
        assert!(columns.iter().all(|it| !it.contains(&3)), "{columns:?}");
    }

    #[test]
    fn values_outside_of_what_was_seen_have_a_cell() {
        let category = Coded { column: 0, by: By::Levels(vec![5.0, 200.0]) };
        let number = Coded { column: 1, by: By::Cuts(vec![1.0, 2.0]) };
        let cross = Cross { parts: vec![category, number] };
        // value of the category, of the number, cell
        for (a, b, cell) in [(0.0, 0.5, 0), (200.0, 1.5, 7), (200.0, 99.0, 8), (5.0, 1.0, 3), (7.0, 1.0, 0), (-1.0, 2.0, 1)] {
            assert_eq!(cross.cell(&[a, b]), cell, "{a} {b}");
        }
        assert_eq!(cross.cells(), 9);
    }

    #[test]
    fn a_number_of_few_values_is_cut_between_them() {
        let attempts: Vec<f32> = [vec![1.0; 54], vec![2.0; 30], vec![3.0; 16]].concat();
        let coded = cut(0, &attempts);
        assert_eq!(coded.iter().map(|it| it.by.clone()).collect::<Vec<_>>(), [By::Cuts(vec![1.0]), By::Cuts(vec![1.0, 2.0])]);
        let rare: Vec<f32> = [vec![0.0; 3], vec![1.0; 97]].concat();
        assert_eq!(cut(0, &rare).first().map(|it| it.by.clone()), Some(By::Cuts(vec![0.0])));
    }
}
