//! Gradient-boosted trees: grown by `forust-ml`, then read out into arrays of our own.
//!
//! The only door to `forust_ml`, and used only when training: what scores is plain arrays, so that a model file is data like that of
//! any other model. Of the crates that were measured here on the same folds, `perpetual` overfits data as noisy as approvals and needs a
//! hundred times as long (it has no ridge, no bagging and no leaf size to hold it back), and `lightgbm3`, which is as good as this one, wants
//! a `CMake` that Debian stable has not, and a C++ compiler.

use super::artifact::Array;
use super::inputs::Inputs;
use forust_ml::gradientbooster::GrowPolicy;
use forust_ml::sampler::SampleMethod;
use forust_ml::{GradientBooster, Matrix};
use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Debug, Error)]
#[error("the trees cannot be grown: {0}")]
pub struct ForestError(String);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ForestOptions {
    pub(super) trees: usize,
    pub(super) leaves: usize,
    pub(super) rate: f64,
    pub(super) depth: usize,
    /// Least sum of p (1 - p) over the rows of a leaf.
    pub(super) leaf_weight_least: f64,
    pub(super) ridge: f64,
    /// Share of the inputs that a tree may use.
    pub(super) inputs_share: f64,
}

/// Trees of one or more seeds; the logit is the mean over the seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Forest {
    pub(super) inputs: Inputs,
    /// How many sums of trees the leaves are to be divided by.
    pub(super) bags: usize,
    #[serde(skip)]
    pub(super) nodes: Nodes,
}

/// All trees end to end. A child is a node when not negative, else the leaf `-child - 1`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Nodes {
    pub(super) roots: Vec<i32>,
    pub(super) input: Vec<i32>,
    pub(super) threshold: Vec<f32>,
    pub(super) children: Vec<i32>,
    pub(super) leaves: Vec<f32>,
}

impl Forest {
    pub(super) fn logit(&self, inputs: &[f32]) -> f64 {
        let sum: f64 = self.nodes.roots.iter().map(|root| f64::from(self.nodes.leaf(*root, inputs))).sum();
        sum / self.bags.max(1) as f64
    }

    pub(super) fn is_sound(&self, width: usize) -> bool {
        self.inputs.is_sound(width) && self.bags > 0 && self.nodes.is_sound(self.inputs.width())
    }

    pub(super) fn arrays(&mut self) -> Vec<(String, Array<'_>)> {
        let nodes = &mut self.nodes;
        let mut arrays = self.inputs.arrays();
        arrays.extend([
            ("roots".to_owned(), Array::I32(&mut nodes.roots)),
            ("input".to_owned(), Array::I32(&mut nodes.input)),
            ("threshold".to_owned(), Array::F32(&mut nodes.threshold)),
            ("children".to_owned(), Array::I32(&mut nodes.children)),
            ("leaves".to_owned(), Array::F32(&mut nodes.leaves)),
        ]);
        arrays
    }

    /// `values`: row-major, as the inputs give them. One bag for each seed.
    pub(super) fn fit(
        inputs: Inputs,
        values: &[f32],
        approved: &[bool],
        options: &ForestOptions,
        seeds: &[u64],
    ) -> Result<Self, ForestError> {
        let labels: Vec<f64> = approved.iter().map(|it| f64::from(u8::from(*it))).collect();
        let width = inputs.width();
        let column =
            |input: usize| -> Vec<f64> { values.iter().skip(input).step_by(width).map(|value| f64::from(*value)).collect() };
        // A column of one value is refused, and is of no use.
        let (used, columns): (Vec<i32>, Vec<Vec<f64>>) = (0..width)
            .map(|input| (input as i32, column(input)))
            .filter(|(_, it)| it.iter().any(|value| *value != it[0]))
            .unzip();
        let mut forest = Self { inputs, bags: seeds.len(), nodes: Nodes::default() };
        if used.is_empty() {
            return Err(ForestError("every input is constant".to_owned()));
        }
        let columns = columns.concat();
        let matrix = Matrix::new(&columns, approved.len(), used.len());
        for seed in seeds {
            let mut grown = options.booster(*seed);
            grown.fit_unweighted(&matrix, &labels, None).map_err(|error| ForestError(error.to_string()))?;
            forest.nodes.read(&grown, &used);
        }
        Ok(forest)
    }
}

impl ForestOptions {
    fn booster(&self, seed: u64) -> GradientBooster {
        let mut booster = GradientBooster::default()
            .set_iterations(self.trees)
            .set_max_leaves(self.leaves)
            .set_max_depth(self.depth)
            .set_learning_rate(self.rate as f32)
            .set_min_leaf_weight(self.leaf_weight_least as f32)
            .set_l2(self.ridge as f32)
            .set_colsample_bytree(self.inputs_share)
            .set_sample_method(SampleMethod::Random)
            .set_subsample(0.7)
            .set_initialize_base_score(true)
            .set_parallel(false)
            .set_seed(seed);
        booster.grow_policy = GrowPolicy::LossGuide;
        booster
    }
}

impl Nodes {
    fn leaf(&self, root: i32, inputs: &[f32]) -> f32 {
        let mut at = root;
        while at >= 0 {
            let node = at as usize;
            let right = inputs[self.input[node] as usize] >= self.threshold[node];
            at = self.children[2 * node + usize::from(right)];
        }
        self.leaves[(-at - 1) as usize]
    }

    /// Appends the trees of one booster; its base score is one more, a leaf alone. `used`: the inputs that it was given.
    fn read(&mut self, grown: &GradientBooster, used: &[i32]) {
        self.leaves.push(grown.base_score as f32);
        self.roots.push(-(self.leaves.len() as i32));
        for tree in &grown.trees {
            // Leaves and nodes lie among each other there: each gets its number here first.
            let (mut nodes, mut leaves) = (self.input.len() as i32, self.leaves.len() as i32);
            let mut number = |is_leaf: bool| {
                let count = if is_leaf { &mut leaves } else { &mut nodes };
                *count += 1;
                if is_leaf { -*count } else { *count - 1 }
            };
            let numbers: Vec<i32> = tree.nodes.iter().map(|node| number(node.is_leaf)).collect();
            self.roots.extend(numbers.first());
            for node in &tree.nodes {
                if node.is_leaf {
                    self.leaves.push(node.weight_value);
                } else {
                    self.input.push(used[node.split_feature]);
                    self.threshold.push(up(node.split_value));
                    self.children.extend([numbers[node.left_child], numbers[node.right_child]]);
                }
            }
        }
    }

    /// Whether every path ends at a leaf, for inputs of this width: what is loaded is not believed.
    fn is_sound(&self, width: usize) -> bool {
        let nodes = self.input.len();
        let leaf = |child: i32| ((-i64::from(child) - 1) as usize) < self.leaves.len();
        // A child lies after its parent, so that no path goes round.
        let child = |(at, child): (usize, &i32)| {
            if *child < 0 { leaf(*child) } else { *child as usize > at / 2 && (*child as usize) < nodes }
        };
        self.children.len() == 2 * nodes
            && self.threshold.len() == nodes
            && self.input.iter().all(|input| (*input as usize) < width)
            && self.children.iter().enumerate().all(child)
            && self.roots.iter().all(|root| if *root < 0 { leaf(*root) } else { (*root as usize) < nodes })
    }
}

/// The least `f32` that is not below: an `f32` is below the one when and only when it is below the other.
fn up(threshold: f64) -> f32 {
    let near = threshold as f32;
    if f64::from(near) < threshold { near.next_up() } else { near }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::draw::Draw;

    /// Two numbers, of which one decides, one input of one value, and trees of two seeds.
    fn grown() -> (Forest, Vec<f32>, Vec<bool>) {
        let mut draw = Draw::new(1, 1);
        let values: Vec<f32> = (0..2_000).flat_map(|_| [draw.uniform() as f32, 7.0, draw.uniform() as f32]).collect();
        let approved: Vec<bool> =
            values.chunks_exact(3).map(|row| draw.uniform() < if row[0] > 0.6 { 0.8 } else { 0.1 }).collect();
        let inputs = Inputs { numbers: vec![0, 1, 2], ..Inputs::default() };
        let options =
            ForestOptions { trees: 30, leaves: 6, depth: 4, rate: 0.1, leaf_weight_least: 5.0, ridge: 1.0, inputs_share: 1.0 };
        (Forest::fit(inputs, &values, &approved, &options, &[1, 2]).unwrap(), values, approved)
    }

    #[test]
    fn arrays_say_what_the_trees_say() {
        let (forest, values, approved) = grown();
        let labels: Vec<f64> = approved.iter().map(|it| f64::from(u8::from(*it))).collect();
        let columns: Vec<f64> =
            [0, 2].iter().flat_map(|at| values.iter().skip(*at).step_by(3).map(|value| f64::from(*value))).collect();
        let matrix = Matrix::new(&columns, approved.len(), 2);
        let options =
            ForestOptions { trees: 30, leaves: 6, depth: 4, rate: 0.1, leaf_weight_least: 5.0, ridge: 1.0, inputs_share: 1.0 };
        let said: Vec<Vec<f64>> = [1, 2]
            .iter()
            .map(|seed| {
                let mut booster = options.booster(*seed);
                booster.fit_unweighted(&matrix, &labels, None).unwrap();
                booster.predict(&matrix, false)
            })
            .collect();
        for (row, inputs) in values.chunks_exact(3).enumerate() {
            let expected = f64::midpoint(said[0][row], said[1][row]);
            assert!((forest.logit(inputs) - expected).abs() < 1e-4, "row {row}: {} {expected}", forest.logit(inputs));
        }
        assert!(forest.logit(&[0.9, 7.0, 0.5]) > 0.5 && forest.logit(&[0.1, 7.0, 0.5]) < -1.0);
    }

    #[test]
    fn arrays_that_lead_nowhere_are_not_sound() {
        let (forest, ..) = grown();
        assert!(forest.is_sound(3) && !forest.is_sound(2));
        let changed = |change: fn(&mut Nodes)| {
            let mut forest = forest.clone();
            change(&mut forest.nodes);
            forest.is_sound(3)
        };
        assert!(!changed(|it| it.children[0] = 0), "a path that goes round");
        assert!(!changed(|it| it.children[0] = 1_000_000));
        assert!(!changed(|it| it.children[0] = i32::MIN));
        assert!(!changed(|it| it.input[0] = 3));
        assert!(!changed(|it| it.leaves.truncate(it.leaves.len() - 1)));
        assert!(!changed(|it| it.roots.push(1_000_000)));
    }
}
