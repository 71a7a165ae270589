//! A trained model as files, and back: `model.json` (what it is), `weights.safetensors` (its arrays), `golden.json` (rows with what
//! they must score), `card.json` and `lineage.json` (what people need to know), `checksums.json`.
//!
//! Bytes in, bytes out: where they lie is nobody's business here. What is loaded is not believed: sums, sizes, columns and golden rows are
//! checked, and each refusal says what is wrong.

use super::scorer::{Member, Model, Scorer};
use super::table::Table;
use crate::engine::hashing::sha256_hex;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use thiserror::Error;

const MODEL: &str = "model.json";
const WEIGHTS: &str = "weights.safetensors";
const GOLDEN: &str = "golden.json";
const CARD: &str = "card.json";
const LINEAGE: &str = "lineage.json";
const CHECKSUMS: &str = "checksums.json";
const GOLDEN_ROWS: usize = 16;
/// Golden rows must score within this of what is written: processors differ in the last bits only.
const GOLDEN_TOLERANCE: f64 = 1e-5;
/// Of `model.json`: another number is another form.
const FORM: u32 = 1;

/// Names and contents.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Why a model is refused. The user is to act: train again, or restore the files.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is not the file that checksums.json names")]
    Changed(String),
    #[error("{file} cannot be read: {problem}")]
    Unreadable { file: &'static str, problem: String },
    #[error("it is of form {found}, and this program reads form {FORM}")]
    Form { found: u32 },
    #[error("it was trained on catalogue {found}, and rows come by catalogue {expected}")]
    Catalogue { found: String, expected: String },
    #[error("{0}")]
    Unsound(&'static str),
    #[error("golden row {row} scores {found}, and must score {expected}")]
    Golden { row: usize, found: f64, expected: f64 },
}

#[derive(Debug, Error)]
#[error("the model cannot be written: {0}")]
pub struct SaveError(String);

#[derive(Serialize, Deserialize)]
struct Stored {
    form: u32,
    #[serde(flatten)]
    model: Model,
}

#[derive(Serialize, Deserialize)]
struct Golden {
    rows: Vec<Vec<f32>>,
    probabilities: Vec<f64>,
}

/// The files of a model. Golden rows are taken from `table`, spread over its range.
pub fn save(model: &Model, table: &Table, card: &Value, lineage: &Value) -> Result<Files, SaveError> {
    let problem = |error: &dyn std::fmt::Display| SaveError(error.to_string());
    let json = |value: &Value| serde_json::to_vec_pretty(value).map_err(|error| problem(&error));
    let mut stored = Stored { form: FORM, model: model.clone() };
    let mut files = Files::new();
    files.insert(WEIGHTS.to_owned(), weights(&mut stored.model).map_err(|error| problem(&error))?);
    files.insert(MODEL.to_owned(), json(&serde_json::to_value(&stored).map_err(|error| problem(&error))?)?);
    let step = (table.rows.len() / GOLDEN_ROWS).max(1);
    let rows: Vec<Vec<f32>> =
        (0..table.rows.len()).step_by(step).take(GOLDEN_ROWS).map(|row| table.features(row).to_vec()).collect();
    let mut probabilities = Vec::new();
    model.score(&rows.concat(), &mut probabilities);
    let golden = Golden { rows, probabilities };
    files.insert(GOLDEN.to_owned(), json(&serde_json::to_value(golden).map_err(|error| problem(&error))?)?);
    files.insert(CARD.to_owned(), json(card)?);
    files.insert(LINEAGE.to_owned(), json(lineage)?);
    let sums: BTreeMap<&str, String> = files.iter().map(|(name, bytes)| (name.as_str(), sha256_hex(bytes))).collect();
    let sums = serde_json::to_vec_pretty(&sums).map_err(|error| problem(&error))?;
    files.insert(CHECKSUMS.to_owned(), sums);
    Ok(files)
}

/// The model of these files, for rows of `catalogue`.
pub fn load(files: &Files, catalogue: &str) -> Result<Model, LoadError> {
    check_sums(files)?;
    let Stored { form, mut model } = parse(files, MODEL)?;
    if form != FORM {
        return Err(LoadError::Form { found: form });
    }
    if model.catalogue != catalogue {
        return Err(LoadError::Catalogue { found: model.catalogue, expected: catalogue.to_owned() });
    }
    let bytes = files.get(WEIGHTS).ok_or(LoadError::Missing(WEIGHTS))?;
    fill(&mut model, bytes)?;
    if !model.is_sound() {
        return Err(LoadError::Unsound("its arrays do not fit each other"));
    }
    let golden: Golden = parse(files, GOLDEN)?;
    if golden.rows.len() != golden.probabilities.len() || golden.rows.iter().any(|row| row.len() != model.width()) {
        return Err(LoadError::Unsound("its golden rows do not fit its columns"));
    }
    let mut found = Vec::new();
    model.score(&golden.rows.concat(), &mut found);
    for (row, (found, expected)) in found.into_iter().zip(golden.probabilities).enumerate() {
        let off = (found - expected).abs();
        if off.is_nan() || off > GOLDEN_TOLERANCE {
            return Err(LoadError::Golden { row, found, expected });
        }
    }
    Ok(model)
}

/// What is written about a model: its card and its lineage.
pub fn about(files: &Files) -> Result<(Value, Value), LoadError> {
    check_sums(files)?;
    Ok((parse(files, CARD)?, parse(files, LINEAGE)?))
}

/// Rows that the model was told when it was made, spread over the time it learned from: what payments are like.
pub fn golden_rows(files: &Files) -> Result<Vec<Vec<f32>>, LoadError> {
    check_sums(files)?;
    Ok(parse::<Golden>(files, GOLDEN)?.rows)
}

fn check_sums(files: &Files) -> Result<(), LoadError> {
    let sums: BTreeMap<String, String> = parse(files, CHECKSUMS)?;
    for file in [MODEL, WEIGHTS, GOLDEN, CARD, LINEAGE] {
        let bytes = files.get(file).ok_or(LoadError::Missing(file))?;
        if sums.get(file) != Some(&sha256_hex(bytes)) {
            return Err(LoadError::Changed(file.to_owned()));
        }
    }
    Ok(())
}

fn parse<T: for<'de> Deserialize<'de>>(files: &Files, file: &'static str) -> Result<T, LoadError> {
    let bytes = files.get(file).ok_or(LoadError::Missing(file))?;
    serde_json::from_slice(bytes).map_err(|error| LoadError::Unreadable { file, problem: error.to_string() })
}

/// An array of a model, to be read or to be filled.
pub(super) enum Array<'a> {
    F32(&'a mut Vec<f32>),
    I32(&'a mut Vec<i32>),
}

fn weights(model: &mut Model) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let arrays: Vec<(String, Dtype, usize, Vec<u8>)> = model
        .arrays()
        .into_iter()
        .map(|(name, array)| match array {
            Array::F32(values) => (name, Dtype::F32, values.len(), values.iter().flat_map(|it| it.to_le_bytes()).collect()),
            Array::I32(values) => (name, Dtype::I32, values.len(), values.iter().flat_map(|it| it.to_le_bytes()).collect()),
        })
        .collect();
    let mut views = Vec::new();
    for (name, dtype, length, bytes) in &arrays {
        views.push((name.as_str(), TensorView::new(*dtype, vec![*length], bytes)?));
    }
    serialize(views, None)
}

fn fill(model: &mut Model, bytes: &[u8]) -> Result<(), LoadError> {
    let unreadable = |error: safetensors::SafeTensorError| LoadError::Unreadable { file: WEIGHTS, problem: error.to_string() };
    let stored = SafeTensors::deserialize(bytes).map_err(unreadable)?;
    for (name, array) in model.arrays() {
        let tensor = stored.tensor(&name).map_err(unreadable)?;
        let words = tensor.data().chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
        match (array, tensor.dtype()) {
            (Array::F32(values), Dtype::F32) => *values = words.map(f32::from_le_bytes).collect(),
            (Array::I32(values), Dtype::I32) => *values = words.map(i32::from_le_bytes).collect(),
            _ => return Err(LoadError::Unsound("an array is of another type")),
        }
    }
    Ok(())
}

impl Model {
    /// All arrays by name. Makes room for those that are not there yet.
    fn arrays(&mut self) -> Vec<(String, Array<'_>)> {
        let mut arrays = Vec::new();
        for (at, member) in self.members.iter_mut().enumerate() {
            let own = match member {
                Member::Constant { .. } => Vec::new(),
                Member::Rates(rated) => vec![("rates".to_owned(), Array::F32(&mut rated.logits))],
                Member::Linear(linear) => vec![("weights".to_owned(), Array::F32(&mut linear.weights))],
                Member::Forest(forest) => forest.arrays(),
                Member::Net(net) => net.arrays(),
            };
            arrays.extend(own.into_iter().map(|(name, array)| (format!("{at}.{name}"), array)));
        }
        arrays
    }

    /// Whether no row of this width can lead outside of an array.
    fn is_sound(&self) -> bool {
        let width = self.columns.len();
        let member = |member: &Member| match member {
            Member::Constant { logit } => logit.is_finite(),
            Member::Rates(rated) => rated.is_sound(width),
            Member::Linear(linear) => linear.is_sound(width),
            Member::Forest(forest) => forest.is_sound(width),
            Member::Net(net) => net.is_sound(width),
        };
        self.blend.weights.len() == self.members.len() && self.members.iter().all(member)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fit::{Options, train};
    use super::super::fixtures;
    use super::super::search::Kind;
    use super::super::split::Shares;
    use super::*;

    fn trained() -> (Model, Table) {
        let table = fixtures::table(1_500, 11);
        let options = Options { kind: Kind::Auto, seed: 3, shares: Shares::default(), trials: 1, bags: 1 };
        (train(&table, &options, &mut |_, _, _| ()).unwrap().model, table)
    }

    #[test]
    fn what_is_saved_is_what_is_loaded_and_nothing_else_is() {
        let (model, table) = trained();
        let files = save(&model, &table, &Value::Null, &Value::Null).unwrap();
        let loaded = load(&files, "c1").unwrap();
        assert_eq!(loaded, model);
        let refused = |change: &dyn Fn(&mut Files)| {
            let mut changed = files.clone();
            change(&mut changed);
            load(&changed, "c1").unwrap_err().to_string()
        };
        for file in files.keys() {
            assert!(refused(&|it| drop(it.remove(file))).contains("missing"), "{file}");
        }
        for file in [MODEL, WEIGHTS, GOLDEN, CARD, LINEAGE] {
            let flip = |it: &mut Files| it.get_mut(file).into_iter().for_each(|bytes| bytes[0] ^= 1);
            assert!(refused(&flip).contains("not the file"), "{file}");
        }
        assert!(load(&files, "c2").unwrap_err().to_string().contains("catalogue c1"));
    }

    /// Files whose sums are right and whose contents are not: somebody made them so.
    #[test]
    fn golden_rows_and_sizes_are_checked_too() {
        let (model, table) = trained();
        let mut other = model.clone();
        other.blend.offset += 0.1;
        let golden = save(&other, &table, &Value::Null, &Value::Null).unwrap()[GOLDEN].clone();
        let resummed = |mut files: Files| {
            files.remove(CHECKSUMS);
            let sums: BTreeMap<&str, String> = files.iter().map(|(name, bytes)| (name.as_str(), sha256_hex(bytes))).collect();
            let sums = serde_json::to_vec(&sums).unwrap();
            files.insert(CHECKSUMS.to_owned(), sums);
            files
        };
        let mut files = save(&model, &table, &Value::Null, &Value::Null).unwrap();
        files.insert(GOLDEN.to_owned(), golden);
        assert!(matches!(load(&resummed(files), "c1"), Err(LoadError::Golden { .. })));
        let mut cut = model;
        for member in &mut cut.members {
            if let Member::Linear(linear) = member {
                linear.weights.pop();
            }
        }
        let files = save(&cut, &table, &Value::Null, &Value::Null).unwrap();
        assert!(matches!(load(&files, "c1"), Err(LoadError::Unsound(_))));
    }
}
