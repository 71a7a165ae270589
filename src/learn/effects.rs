//! What a model made of one row: how its answer would change had a feature been as it is elsewhere.

use super::scorer::{Model, Scorer};

/// For each group of columns (a feature) by how much the chance of this row is higher than with the group's values of `references`, in the
/// mean over them. The differences of all groups need not add up: groups act together.
pub fn effects(model: &Model, row: &[f32], groups: &[Vec<usize>], references: &[Vec<f32>]) -> Vec<f64> {
    let score = |rows: &[f32]| {
        let mut said = Vec::new();
        model.score(rows, &mut said);
        said
    };
    let own = score(row).first().copied().unwrap_or_default();
    let effect = |group: &Vec<usize>| {
        let mut rows = Vec::with_capacity(references.len() * row.len());
        for reference in references {
            let start = rows.len();
            rows.extend_from_slice(row);
            for column in group {
                rows[start + column] = reference[*column];
            }
        }
        let said = score(&rows);
        own - said.iter().sum::<f64>() / said.len().max(1) as f64
    };
    groups.iter().map(|group| if references.is_empty() { 0.0 } else { effect(group) }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fit::{Options, train};
    use super::super::fixtures;
    use super::super::search::{Family, Kind};
    use super::super::split::Shares;
    use super::*;

    #[test]
    fn a_column_has_the_effect_of_what_it_differs_by() {
        let table = fixtures::table(1_500, 11);
        let options = Options { kind: Kind::One(Family::Logistic), seed: 3, shares: Shares::default(), trials: 1, bags: 1 };
        let model = train(&table, &options, &mut |_, _, _| ()).unwrap().model;
        let row = table.features(0).to_vec();
        let groups: Vec<Vec<usize>> = (0..row.len()).map(|column| vec![column]).collect();
        // Beside itself nothing has an effect.
        assert!(effects(&model, &row, &groups, std::slice::from_ref(&row)).iter().all(|effect| *effect == 0.0));
        assert!(effects(&model, &row, &groups, &[]).iter().all(|effect| *effect == 0.0));
        // All columns at once change the answer to that of the other row.
        let other = (1..table.rows.len()).map(|row| table.features(row).to_vec()).find(|other| other[0] != row[0]).unwrap();
        let mut said = Vec::new();
        model.score(&[row.as_slice(), &other].concat(), &mut said);
        let every = vec![(0..row.len()).collect()];
        let effect = effects(&model, &row, &every, std::slice::from_ref(&other))[0];
        assert!((effect - (said[0] - said[1])).abs() < 1e-12);
    }
}
