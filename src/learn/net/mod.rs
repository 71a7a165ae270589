//! Nets of dense layers, with or without a wide part over crosses: trained by candle, scored by loops over vectors.
//!
//! The only door to candle. Scoring allocates nothing once a thread has done it.

mod gradient;
mod lanes;
mod scale;
mod train;

use super::artifact::Array;
use super::crosses::Cross;
use super::inputs::Inputs;
use super::table::Table;
use lanes::Dense;
use scale::Scale;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
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
    scale: Scale,
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

const BAGS_MOST: usize = 64;
/// Rows that go through the layers together: what is between the layers stays in the cache.
const BLOCK: usize = 64;

/// Room for what a block of rows becomes on its way, kept by each thread that scores.
#[derive(Default)]
struct Room {
    inputs: Vec<f32>,
    layer: Vec<f32>,
    next: Vec<f32>,
    logits: Vec<f32>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

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
        let scale = Scale::fit(data.values, inputs.width());
        let mut net = Self { inputs, scale, layers: options.layers.clone(), wide, count: seeds.len(), bags: Vec::new() };
        let mut values = data.values.to_vec();
        net.scale.apply(&mut values);
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

    /// The row's cell of each wide cross, counted through all of them.
    fn cells<'a>(&'a self, values: &'a [f32]) -> impl Iterator<Item = u32> + 'a {
        self.wide.iter().scan(0, |from, cross| {
            let cell = *from + cross.cell(values);
            *from += cross.cells();
            Some(cell as u32)
        })
    }

    /// Appends the logit of each row. What one row is told does not depend on the others.
    pub(super) fn logits(&self, rows: &[f32], width: usize, out: &mut Vec<f64>) {
        ROOM.with_borrow_mut(|room| rows.chunks(BLOCK * width.max(1)).for_each(|block| self.block(block, width, room, out)));
    }

    fn block(&self, rows: &[f32], width: usize, room: &mut Room, out: &mut Vec<f64>) {
        let rows = rows.chunks_exact(width.max(1));
        room.inputs.clear();
        rows.clone().for_each(|values| self.inputs.append(values, &mut room.inputs));
        self.scale.apply(&mut room.inputs);
        room.logits.clear();
        room.logits.resize(rows.len(), 0.0);
        for bag in &self.bags {
            bag.forward(room);
            for (logit, values) in room.logits.iter_mut().zip(rows.clone()) {
                *logit += self.cells(values).map(|cell| bag.wide[cell as usize]).sum::<f32>();
            }
        }
        out.extend(room.logits.iter().map(|sum| f64::from(*sum) / self.bags.len().max(1) as f64));
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
            && self.scale.width() == sizes[0]
            && self.count > 0
            && self.bags.iter().all(sound)
    }
}

impl Bag {
    /// Adds what it makes of the inputs to the logits.
    fn forward(&self, room: &mut Room) {
        let rows = room.logits.len();
        let layers = self.weights.iter().zip(&self.biases);
        let hidden = layers.take(self.weights.len().saturating_sub(1)).map(|(weights, biases)| Dense { weights, biases });
        for (index, dense) in hidden.enumerate() {
            let inputs = if index == 0 { &room.inputs } else { &room.layer };
            room.next.resize(rows * dense.biases.len(), 0.0);
            lanes::rectified(dense, inputs, &mut room.next);
            std::mem::swap(&mut room.layer, &mut room.next);
        }
        let inputs = if self.weights.len() > 1 { &room.layer } else { &room.inputs };
        let (Some(weights), Some(biases)) = (self.weights.last(), self.biases.last()) else { return };
        for (logit, inputs) in room.logits.iter_mut().zip(inputs.chunks_exact(weights.len().max(1))) {
            *logit += lanes::dot(inputs, weights) + biases[0];
        }
    }
}
