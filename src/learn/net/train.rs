//! The training of one net: `AdamW` on the log loss, mini-batches in an order drawn from the seed.
//!
//! The rate falls to nought over the epochs along a cosine, so that the number of epochs is a hyperparameter that the search sets by
//! validation: that is the early stop, and a refit on more rows stops there too.

use super::{Bag, NetError, NetOptions};
use crate::learn::draw::Draw;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};

/// Standardised inputs, cells of the wide part, and outcomes, row by row.
pub(super) struct Set<'a> {
    pub(super) values: &'a [f32],
    pub(super) width: usize,
    pub(super) cells: &'a [u32],
    pub(super) wide_cells: usize,
    pub(super) approved: &'a [f32],
}

struct Weights {
    /// Weights (input by unit) and biases of each layer.
    layers: Vec<(Var, Var)>,
    wide: Option<Var>,
}

pub(super) fn train(set: &Set<'_>, options: &NetOptions, seed: u64) -> Result<Bag, NetError> {
    let mut draw = Draw::new(seed, 3);
    let weights = Weights::draw(set, options, &mut draw)?;
    let parameters = ParamsAdamW { lr: options.rate, weight_decay: options.decay, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(weights.all(), parameters)?;
    let mut order: Vec<usize> = (0..set.approved.len()).collect();
    let steps = (options.epochs * order.len().div_ceil(options.batch)).max(1) as f64;
    let mut step = 0.0;
    for _ in 0..options.epochs {
        draw.shuffle(&mut order);
        for batch in order.chunks(options.batch) {
            optimizer.set_learning_rate(options.rate * (1.0 + (std::f64::consts::PI * step / steps).cos()) / 2.0);
            step += 1.0;
            let loss = weights.loss(set, batch, options.dropout, &mut draw)?;
            optimizer.backward_step(&loss)?;
        }
    }
    weights.bag()
}

impl Weights {
    fn draw(set: &Set<'_>, options: &NetOptions, draw: &mut Draw) -> Result<Self, NetError> {
        let sizes: Vec<usize> = std::iter::once(set.width).chain(options.layers.iter().copied()).chain([1]).collect();
        let mut layers = Vec::new();
        for size in sizes.windows(2) {
            // He: what a rectifier needs; the last layer begins near nought.
            let deviation = if size[1] == 1 { 0.01 } else { (2.0 / size[0] as f64).sqrt() };
            let drawn: Vec<f32> = (0..size[0] * size[1]).map(|_| (draw.normal() * deviation) as f32).collect();
            let weights = Var::from_tensor(&Tensor::from_vec(drawn, (size[0], size[1]), &Device::Cpu)?)?;
            layers.push((weights, Var::zeros(size[1], DType::F32, &Device::Cpu)?));
        }
        let share = set.approved.iter().sum::<f32>() / set.approved.len().max(1) as f32;
        if let Some((_, bias)) = layers.last() {
            let share = share.clamp(0.001, 0.999);
            bias.set(&Tensor::from_vec(vec![(share / (1.0 - share)).ln()], 1, &Device::Cpu)?)?;
        }
        let wide = if set.wide_cells > 0 { Some(Var::zeros((set.wide_cells, 1), DType::F32, &Device::Cpu)?) } else { None };
        Ok(Self { layers, wide })
    }

    fn all(&self) -> Vec<Var> {
        let layers = self.layers.iter().flat_map(|(weights, biases)| [weights.clone(), biases.clone()]);
        layers.chain(self.wide.clone()).collect()
    }

    fn loss(&self, set: &Set<'_>, batch: &[usize], dropout: f32, draw: &mut Draw) -> Result<Tensor, NetError> {
        let gathered: Vec<f32> =
            batch.iter().flat_map(|row| &set.values[row * set.width..(row + 1) * set.width]).copied().collect();
        let mut layer = Tensor::from_vec(gathered, (batch.len(), set.width), &Device::Cpu)?;
        for (index, (weights, biases)) in self.layers.iter().enumerate() {
            layer = layer.matmul(weights)?.broadcast_add(biases)?;
            if index + 1 < self.layers.len() {
                layer = layer.relu()?;
                if dropout > 0.0 {
                    layer = layer.mul(&mask(layer.dims2()?, dropout, draw)?)?;
                }
            }
        }
        let mut logits = layer.squeeze(1)?;
        if let Some(wide) = &self.wide {
            let crosses = set.cells.len() / set.approved.len();
            let cells: Vec<u32> = batch.iter().flat_map(|row| &set.cells[row * crosses..(row + 1) * crosses]).copied().collect();
            let told = wide.index_select(&Tensor::from_vec(cells, batch.len() * crosses, &Device::Cpu)?, 0)?;
            logits = (logits + told.reshape((batch.len(), crosses))?.sum(1)?)?;
        }
        let approved: Vec<f32> = batch.iter().map(|row| set.approved[*row]).collect();
        let approved = Tensor::from_vec(approved, batch.len(), &Device::Cpu)?;
        // ln(1 + e^x) - y x, in the form that overflows nowhere.
        let soft = (logits.abs()?.neg()?.exp()? + 1.0)?.log()?;
        Ok((logits.relu()? + soft)?.sub(&logits.mul(&approved)?)?.mean_all()?)
    }

    fn bag(&self) -> Result<Bag, NetError> {
        let mut bag = Bag::default();
        for (weights, biases) in &self.layers {
            bag.weights.push(weights.flatten_all()?.to_vec1()?);
            bag.biases.push(biases.to_vec1()?);
        }
        if let Some(wide) = &self.wide {
            bag.wide = wide.flatten_all()?.to_vec1()?;
        }
        Ok(bag)
    }
}

/// Nought for units that are left out, and what keeps the sum the same for the others. Bits are drawn in bulk: one draw gives four.
fn mask((rows, units): (usize, usize), dropout: f32, draw: &mut Draw) -> Result<Tensor, NetError> {
    let kept = 1.0 / (1.0 - dropout);
    let least = (dropout * 65_536.0) as u64;
    let mut mask = Vec::with_capacity(rows * units + 4);
    while mask.len() < rows * units {
        let word = draw.word();
        mask.extend((0..4).map(|part| if (word >> (16 * part)) & 0xffff >= least { kept } else { 0.0 }));
    }
    mask.truncate(rows * units);
    Ok(Tensor::from_vec(mask, (rows, units), &Device::Cpu)?)
}
