//! Rates of the cells of crosses, each leaning on the rate of what it is a part of; as numbers that other models can use.

use super::crosses::{Cross, PRIOR_ROWS};
use super::table::Table;
use serde::{Deserialize, Serialize};

pub(super) fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

pub(super) fn logit(p: f64) -> f64 {
    let p = p.clamp(1e-9, 1.0 - 1e-9);
    (p / (1.0 - p)).ln()
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    approved: f64,
    rows: f64,
}

impl Rate {
    pub(super) fn learn(&mut self, approved: bool) {
        self.approved += f64::from(u8::from(approved));
        self.rows += 1.0;
    }

    pub(super) fn tell(&self, prior: f64, prior_rows: f64) -> f64 {
        (self.approved + prior * prior_rows) / (self.rows + prior_rows)
    }

    pub(super) fn without(&self, part: &Self) -> Self {
        Self { approved: self.approved - part.approved, rows: self.rows - part.rows }
    }

    /// What the rate was before this outcome.
    pub(super) fn tell_then_learn(&mut self, prior: f64, prior_rows: f64, approved: bool) -> f64 {
        let told = self.tell(prior, prior_rows).clamp(1e-6, 1.0 - 1e-6);
        self.learn(approved);
        told
    }
}

/// A cross and the logit of the rate of each of its cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RatedCross {
    pub(super) cross: Cross,
    #[serde(skip)]
    pub(super) logits: Vec<f32>,
}

impl RatedCross {
    pub(super) fn value(&self, values: &[f32]) -> f32 {
        self.logits.get(self.cross.cell(values)).copied().unwrap_or(0.0)
    }

    pub(super) fn is_sound(&self, width: usize) -> bool {
        self.cross.is_sound(width) && self.logits.len() == self.cross.cells()
    }

    /// Rates from all `rows`.
    pub(super) fn fit(cross: &Cross, table: &Table, rows: &[u32]) -> Self {
        let levels = Levels::of(cross);
        let counts = levels.counts(table, rows);
        let logits = (0..cross.cells()).map(|cell| levels.logit(&counts, None, cell)).collect();
        Self { cross: cross.clone(), logits }
    }
}

/// For each row of each part its rate from the rows of all other parts: as new to the row as a rate is to a row that comes later.
pub(super) fn from_other_parts(cross: &Cross, table: &Table, parts: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let levels = Levels::of(cross);
    let every: Vec<u32> = parts.iter().flatten().copied().collect();
    let all = levels.counts(table, &every);
    let one = |part: &Vec<u32>| {
        let own = levels.counts(table, part);
        part.iter().map(|row| levels.logit(&all, Some(&own), cross.cell(table.features(*row as usize)))).collect()
    };
    parts.iter().map(one).collect()
}

/// The cells of a cross are parts of those of its prefixes: the whole number by which a cell is divided to get there.
struct Levels {
    sizes: Vec<usize>,
    divisors: Vec<usize>,
    cross: Cross,
}

impl Levels {
    fn of(cross: &Cross) -> Self {
        let cells = cross.cells().max(1);
        let sizes: Vec<usize> = std::iter::once(1).chain(cross.prefixes().map(|prefix| prefix.cells())).collect();
        let divisors = sizes.iter().map(|size| cells / size.max(&1)).collect();
        Self { sizes, divisors, cross: cross.clone() }
    }

    fn counts(&self, table: &Table, rows: &[u32]) -> Vec<Vec<Rate>> {
        let mut counts: Vec<Vec<Rate>> = self.sizes.iter().map(|size| vec![Rate::default(); *size]).collect();
        for row in rows {
            let cell = self.cross.cell(table.features(*row as usize));
            for (level, divisor) in counts.iter_mut().zip(&self.divisors) {
                level[cell / divisor].learn(table.rows[*row as usize].approved);
            }
        }
        counts
    }

    fn logit(&self, all: &[Vec<Rate>], but: Option<&[Vec<Rate>]>, cell: usize) -> f32 {
        let mut rate = 0.2;
        for (level, divisor) in self.divisors.iter().enumerate() {
            let counted = all[level][cell / divisor];
            let counted = but.map_or(counted, |own| counted.without(&own[level][cell / divisor]));
            rate = counted.tell(rate, if level == 0 { 1.0 } else { PRIOR_ROWS });
        }
        logit(rate) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::super::crosses::{By, Coded};
    use super::super::fixtures;
    use super::*;

    #[test]
    fn a_cell_leans_on_what_it_is_part_of() {
        let mut table = fixtures::table(40, 1);
        for (index, row) in table.rows.iter_mut().enumerate() {
            row.approved = index < 10;
            table.values[index * 4] = 1.0;
            table.values[index * 4 + 1] = if index < 20 { 1.0 } else { 2.0 };
        }
        let part = |column| Coded { column, by: By::Levels(vec![1.0, 2.0]) };
        let cross = Cross { parts: vec![part(0), part(1)] };
        let rows: Vec<u32> = (0..40).collect();
        let fitted = RatedCross::fit(&cross, &table, &rows);
        let all = (10.0 + 0.2) / 41.0;
        let first = (10.0 + 20.0 * all) / 60.0;
        let expected = logit((10.0 + 20.0 * first) / 40.0) as f32;
        assert!((fitted.value(&[1.0, 1.0, 0.0, 0.0]) - expected).abs() < 1e-6);
        // A cell that was never seen has the rate of its prefix.
        assert!((fitted.value(&[1.0, 0.0, 0.0, 0.0]) - logit(first) as f32).abs() < 1e-6);
        // Without its own part nothing of a row's outcome is in its rate.
        let parts = [rows[..20].to_vec(), rows[20..].to_vec()];
        let told = from_other_parts(&cross, &table, &parts);
        assert!(told[0].iter().all(|it| sigmoid(f64::from(*it)) < 0.02), "{told:?}");
    }
}
