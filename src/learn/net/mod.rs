//! Nets of dense layers, with or without a wide part over crosses: trained by candle, scored by plain loops.
//!
//! The only door to candle.

mod train;

use super::artifact::Array;
use super::crosses::Cross;
use super::inputs::Inputs;
use super::table::Table;
use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum NetError {
    #[error("the net cannot be trained: {0}")]
    Train(#[from] candle_core::Error),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct NetOptions {
    /// Units of the hidden layers.
    pub(super) layers: Vec<usize>,
    /// Whether the cells of the crosses have weights of their own beside the dense layers.
    pub(super) wide: bool,
    pub(super) rate: f64,
    /// Decay of the weights, by `AdamW`.
    pub(super) decay: f64,
    /// Share of the units that a training step leaves out.
    pub(super) dropout: f32,
    pub(super) epochs: usize,
    pub(super) batch: usize,
}

/// The data to train on: rows of the table, and their inputs.
pub(super) struct Data<'a> {
    pub(super) table: &'a Table,
    pub(super) rows: &'a [u32],
    pub(super) values: &'a [f32],
}

/// Nets of one or more seeds; the logit is the mean over the seeds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Net {
    pub(super) inputs: Inputs,
    /// What each input is moved and divided by.
    pub(super) scale: Vec<(f32, f32)>,
    pub(super) layers: Vec<usize>,
    /// Crosses whose cells have weights of their own; empty without a wide part.
    pub(super) wide: Vec<Cross>,
    /// How many nets `bags` holds.
    count: usize,
    #[serde(skip)]
    pub(super) bags: Vec<Bag>,
}

/// The weights of one net.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bag {
    /// Of each layer, the last one included: weights by input and then unit, so that a row is a sum of rows of them; then biases.
    pub(super) weights: Vec<Vec<f32>>,
    pub(super) biases: Vec<Vec<f32>>,
    /// Of the cells of all crosses, one cross after the other.
    pub(super) wide: Vec<f32>,
}

/// An input is not taken for further from its mean than this many deviations.
const FAR: f32 = 5.0;
const BAGS_MOST: usize = 64;

impl Net {
    pub(super) fn name(&self) -> &'static str {
        if self.wide.is_empty() { "dnn" } else { "wide-deep" }
    }

    pub(super) fn fit(
        inputs: Inputs,
        wide: Vec<Cross>,
        data: &Data<'_>,
        options: &NetOptions,
        seeds: &[u64],
    ) -> Result<Self, NetError> {
        let scale = scale(data.values, inputs.width());
        let mut net = Self { inputs, scale, layers: options.layers.clone(), wide, count: seeds.len(), bags: Vec::new() };
        let mut values = data.values.to_vec();
        values.chunks_exact_mut(net.inputs.width()).for_each(|row| net.standardise(row));
        let cells: Vec<u32> = data.rows.iter().flat_map(|row| net.cells(data.table.features(*row as usize))).collect();
        let approved: Vec<f32> =
            data.rows.iter().map(|row| f32::from(u8::from(data.table.rows[*row as usize].approved))).collect();
        for seed in seeds {
            let wide_cells = net.wide.iter().map(Cross::cells).sum();
            let set = train::Set { values: &values, width: net.inputs.width(), cells: &cells, wide_cells, approved: &approved };
            net.bags.push(train::train(&set, options, *seed)?);
        }
        Ok(net)
    }

    fn standardise(&self, row: &mut [f32]) {
        for (value, (mean, deviation)) in row.iter_mut().zip(&self.scale) {
            *value = ((*value - mean) / deviation).clamp(-FAR, FAR);
        }
    }

    /// The row's cell of each wide cross, counted through all of them.
    fn cells<'a>(&'a self, values: &'a [f32]) -> impl Iterator<Item = u32> + 'a {
        self.wide.iter().scan(0, |from, cross| {
            let cell = *from + cross.cell(values);
            *from += cross.cells();
            Some(cell as u32)
        })
    }

    pub(super) fn logits(&self, rows: &[f32], width: usize, out: &mut Vec<f64>) {
        let mut inputs = Vec::with_capacity(self.inputs.width());
        let mut layer = Vec::new();
        let mut next = Vec::new();
        for values in rows.chunks_exact(width.max(1)) {
            inputs.clear();
            self.inputs.append(values, &mut inputs);
            self.standardise(&mut inputs);
            let sum: f32 = self
                .bags
                .iter()
                .map(|bag| {
                    let wide: f32 = self.cells(values).map(|cell| bag.wide[cell as usize]).sum();
                    bag.forward(&inputs, &mut layer, &mut next) + wide
                })
                .sum();
            out.push(f64::from(sum) / self.bags.len().max(1) as f64);
        }
    }

    /// All arrays by name; there are `count` nets afterwards.
    pub(super) fn arrays(&mut self) -> Vec<(String, Array<'_>)> {
        let depth = self.layers.len() + 1;
        // A count that nobody would train is not believed.
        self.bags.resize_with(self.count.min(BAGS_MOST), Bag::default);
        let mut arrays = self.inputs.arrays();
        for (at, bag) in self.bags.iter_mut().enumerate() {
            bag.weights.resize_with(depth, Vec::new);
            bag.biases.resize_with(depth, Vec::new);
            for (layer, (weights, biases)) in bag.weights.iter_mut().zip(&mut bag.biases).enumerate() {
                arrays.push((format!("net.{at}.weights.{layer}"), Array::F32(weights)));
                arrays.push((format!("net.{at}.biases.{layer}"), Array::F32(biases)));
            }
            arrays.push((format!("net.{at}.wide"), Array::F32(&mut bag.wide)));
        }
        arrays
    }

    /// Whether all arrays have the sizes that the layers demand.
    pub(super) fn is_sound(&self, width: usize) -> bool {
        let sizes: Vec<usize> = std::iter::once(self.inputs.width()).chain(self.layers.iter().copied()).chain([1]).collect();
        let wide: usize = self.wide.iter().map(Cross::cells).sum();
        let sound = |bag: &Bag| {
            bag.wide.len() == wide
                && bag.weights.len() == sizes.len() - 1
                && bag.biases.len() == sizes.len() - 1
                && sizes
                    .windows(2)
                    .zip(bag.weights.iter().zip(&bag.biases))
                    .all(|(size, (weights, biases))| weights.len() == size[0] * size[1] && biases.len() == size[1])
        };
        self.inputs.is_sound(width)
            && self.wide.iter().all(|cross| cross.is_sound(width))
            && self.scale.len() == sizes[0]
            && self.count > 0
            && self.bags.iter().all(sound)
    }
}

impl Bag {
    fn forward(&self, inputs: &[f32], layer: &mut Vec<f32>, next: &mut Vec<f32>) -> f32 {
        layer.clear();
        layer.extend_from_slice(inputs);
        let last = self.weights.len().saturating_sub(1);
        for (index, (weights, biases)) in self.weights.iter().zip(&self.biases).enumerate() {
            next.clear();
            next.extend_from_slice(biases);
            for (input, row) in layer.iter().zip(weights.chunks_exact(biases.len())) {
                // After a rectifier half of them are nought.
                if *input != 0.0 {
                    for (unit, weight) in next.iter_mut().zip(row) {
                        *unit += input * weight;
                    }
                }
            }
            if index < last {
                for unit in next.iter_mut() {
                    *unit = unit.max(0.0);
                }
            }
            std::mem::swap(layer, next);
        }
        layer.first().copied().unwrap_or(0.0)
    }
}

/// Mean and deviation of each input; a deviation of nought is one.
fn scale(values: &[f32], width: usize) -> Vec<(f32, f32)> {
    let rows = (values.len() / width.max(1)).max(1) as f64;
    let one = |input: usize| {
        let column = || values.iter().skip(input).step_by(width).map(|value| f64::from(*value));
        let mean = column().sum::<f64>() / rows;
        let variance = column().map(|value| (value - mean).powi(2)).sum::<f64>() / rows;
        (mean as f32, if variance > 1e-12 { variance.sqrt() as f32 } else { 1.0 })
    };
    (0..width).map(one).collect()
}
