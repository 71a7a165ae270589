//! The training of one net: `AdamW` on the log loss, mini-batches in an order drawn from the seed.
//!
//! The rate falls to nought over the epochs along a cosine, so that the number of epochs is a hyperparameter that the search sets by
//! validation: that is the early stop, and a refit on more rows stops there too.

use super::gradient::{self, Plan};
use super::{Bag, NetError, NetOptions};
use crate::learn::draw::Draw;
use candle_core::{Device, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use rayon::prelude::*;

/// Parts of a batch whose gradients are found side by side and then summed in their order. How many there are does not depend on the
/// machine, so that neither does what is learned.
const PARTS: usize = 2;

/// Standardised inputs, cells of the wide part, and outcomes, row by row.
pub(super) struct Set<'a> {
    pub(super) values: &'a [f32],
    pub(super) width: usize,
    pub(super) cells: &'a [u32],
    pub(super) wide_cells: usize,
    pub(super) approved: &'a [f32],
}

impl Set<'_> {
    pub(super) fn values_of(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    pub(super) fn cells_of(&self, row: usize) -> &[u32] {
        let crosses = self.cells.len() / self.approved.len();
        &self.cells[row * crosses..(row + 1) * crosses]
    }
}

pub(super) fn train(set: &Set<'_>, options: &NetOptions, seed: u64) -> Result<Bag, NetError> {
    // Products of matrices stay on the thread that asks for them: the parts keep all threads busy.
    gemm::set_threading_threshold(usize::MAX);
    let mut draw = Draw::new(seed, 3);
    let sizes = std::iter::once(set.width).chain(options.layers.iter().copied()).chain([1]).collect();
    let plan = Plan { sizes, cells: set.wide_cells };
    let first = first_weights(&plan, set, &mut draw);
    let count = first.len();
    let weights = Var::from_tensor(&Tensor::from_vec(first, count, &Device::Cpu)?)?;
    let parameters = ParamsAdamW { lr: options.rate, weight_decay: options.decay, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(vec![weights.clone()], parameters)?;
    let mut gradients = weights.sum_all()?.backward()?;
    let mut draws: Vec<Draw> = (0..PARTS).map(|part| Draw::new(seed, 40 + part as u64)).collect();
    let mut order: Vec<usize> = (0..set.approved.len()).collect();
    let steps = (options.epochs * order.len().div_ceil(options.batch)).max(1) as f64;
    let mut step = 0.0;
    for _ in 0..options.epochs {
        draw.shuffle(&mut order);
        for batch in order.chunks(options.batch) {
            optimizer.set_learning_rate(options.rate * (1.0 + (std::f64::consts::PI * step / steps).cos()) / 2.0);
            step += 1.0;
            let net = gradient::Net::at(&plan, &weights.as_detached_tensor(), options.dropout)?;
            let parts = batch.par_chunks(batch.len().div_ceil(PARTS)).zip(draws.par_iter_mut());
            let parts: Vec<Tensor> =
                parts.map(|(rows, draw)| net.gradient(set, rows, draw)).collect::<candle_core::Result<_>>()?;
            let sum = parts.iter().skip(1).try_fold(parts[0].clone(), |sum, part| sum + part)?;
            gradients.insert(&weights, (sum / batch.len() as f64)?);
            optimizer.step(&gradients)?;
        }
    }
    Ok(bag(&plan, &weights.to_vec1()?))
}

fn first_weights(plan: &Plan, set: &Set<'_>, draw: &mut Draw) -> Vec<f32> {
    let share = set.approved.iter().sum::<f32>() / set.approved.len().max(1) as f32;
    let share = share.clamp(0.001, 0.999);
    let mut weights = Vec::new();
    for (_, width, units) in plan.places() {
        // He: what a rectifier needs; the last layer begins near nought, and says what is so on the whole.
        let deviation = if units == 1 { 0.01 } else { (2.0 / width as f64).sqrt() };
        weights.extend((0..width * units).map(|_| (draw.normal() * deviation) as f32));
        weights.resize(weights.len() + units, 0.0);
    }
    if let Some(bias) = weights.last_mut() {
        *bias = (share / (1.0 - share)).ln();
    }
    weights.resize(weights.len() + plan.cells, 0.0);
    weights
}

fn bag(plan: &Plan, weights: &[f32]) -> Bag {
    let (own, biases) = plan.layers(weights).map(|dense| (dense.weights.to_vec(), dense.biases.to_vec())).unzip();
    Bag { weights: own, biases, wide: plan.wide(weights).to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many threads there are, and whichever was first.
    #[test]
    fn the_same_seed_learns_the_same_on_any_number_of_threads() {
        let mut draw = Draw::new(1, 1);
        let values: Vec<f32> = (0..300 * 6).map(|_| draw.normal() as f32).collect();
        let approved: Vec<f32> = values.chunks(6).map(|row| f32::from(u8::from(row[0] * row[1] > 0.0))).collect();
        let cells: Vec<u32> = (0..300).map(|row| row % 3).collect();
        let set = Set { values: &values, width: 6, cells: &cells, wide_cells: 3, approved: &approved };
        let layers = vec![16, 8];
        let options = NetOptions { layers, wide: true, rate: 0.01, decay: 0.01, dropout: 0.2, epochs: 3, batch: 64 };
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| train(&set, &options, 7)).unwrap()
        };
        let (one, three) = (on(1), on(3));
        assert_eq!(one, three);
        assert_ne!(one, train(&set, &options, 8).unwrap());
    }
}
