//! How the log loss of some rows changes with each weight of a net: forward as in scoring, and back by products of matrices.
//!
//! Written out by hand for layers with rectifiers, since a graph of operations costs more than the operations.

use super::lanes::{self, Dense};
use super::train::Set;
use crate::learn::draw::Draw;
use candle_core::{DType, Device, Result, Tensor};

/// Where the weights of a net lie in one long row: of each layer its weights (input by unit), then its biases; last the wide cells.
pub(super) struct Plan {
    /// Of the inputs, of each hidden layer, and the one unit of the last.
    pub(super) sizes: Vec<usize>,
    pub(super) cells: usize,
}

impl Plan {
    pub(super) fn depth(&self) -> usize {
        self.sizes.len() - 1
    }

    /// Of each layer where it begins, its inputs and its units.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        self.sizes.windows(2).scan(0, |from, size| {
            let place = (*from, size[0], size[1]);
            *from += (size[0] + 1) * size[1];
            Some(place)
        })
    }

    pub(super) fn layers<'a>(&'a self, weights: &'a [f32]) -> impl Iterator<Item = Dense<'a>> {
        self.places().map(|(from, width, units)| {
            let (own, rest) = weights[from..].split_at(width * units);
            Dense { weights: own, biases: &rest[..units] }
        })
    }

    /// The weights of the wide cells.
    pub(super) fn wide<'a>(&self, weights: &'a [f32]) -> &'a [f32] {
        &weights[weights.len() - self.cells..]
    }
}

/// A net as it is at one step, and how much of it is left out.
pub(super) struct Net<'a> {
    pub(super) plan: &'a Plan,
    /// As the plan says.
    weights: Vec<f32>,
    /// Those of each layer once more, without biases.
    matrices: Vec<Tensor>,
    dropout: f32,
}

impl<'a> Net<'a> {
    pub(super) fn at(plan: &'a Plan, weights: &Tensor, dropout: f32) -> Result<Self> {
        let matrix = |(from, width, units)| weights.narrow(0, from, width * units)?.reshape((width, units));
        let matrices = plan.places().map(matrix).collect::<Result<_>>()?;
        Ok(Self { plan, weights: weights.to_vec1()?, matrices, dropout })
    }

    /// Summed over the rows, in the order of the plan.
    pub(super) fn gradient(&self, set: &Set<'_>, rows: &[usize], draw: &mut Draw) -> Result<Tensor> {
        let mut seen = self.forward(set, rows, draw);
        let mut blame = self.blame(set, rows, seen.last().map_or(&[], Vec::as_slice));
        let ones = Tensor::ones((1, rows.len()), DType::F32, &Device::Cpu)?;
        // From the last part to the first.
        let mut parts = Vec::new();
        if self.plan.cells > 0 {
            let mut cells = vec![0.0; self.plan.cells];
            for (row, blame) in rows.iter().zip(&blame) {
                set.cells_of(*row).iter().for_each(|cell| cells[*cell as usize] += blame);
            }
            parts.push(Tensor::from_vec(cells, self.plan.cells, &Device::Cpu)?);
        }
        for layer in (0..self.plan.depth()).rev() {
            let [width, units] = [self.plan.sizes[layer], self.plan.sizes[layer + 1]];
            let inputs = seen.pop().unwrap_or_default();
            let mut own = vec![0.0; width * units];
            lanes::summed_over_rows(&inputs, &blame, &mut own, rows.len());
            let blamed = Tensor::from_vec(blame, (rows.len(), units), &Device::Cpu)?;
            blame = if layer > 0 { self.passed_back(&blamed.matmul(&self.matrices[layer].t()?)?, &inputs)? } else { Vec::new() };
            parts.push(ones.matmul(&blamed)?.flatten_all()?);
            parts.push(Tensor::from_vec(own, width * units, &Device::Cpu)?);
        }
        parts.reverse();
        Tensor::cat(&parts, 0)
    }

    /// The inputs of each layer, after dropout.
    fn forward(&self, set: &Set<'_>, rows: &[usize], draw: &mut Draw) -> Vec<Vec<f32>> {
        let mut inputs = Vec::with_capacity(rows.len() * set.width);
        for row in rows {
            inputs.extend_from_slice(set.values_of(*row));
        }
        let mut seen = vec![inputs];
        for (layer, dense) in self.plan.layers(&self.weights).take(self.plan.depth() - 1).enumerate() {
            let mut next = vec![0.0; rows.len() * dense.biases.len()];
            lanes::rectified(dense, &seen[layer], &mut next);
            if self.dropout > 0.0 {
                leave_out(&mut next, self.dropout, draw);
            }
            seen.push(next);
        }
        seen
    }

    /// By how much each row's loss changes with its logit: its probability without its outcome.
    fn blame(&self, set: &Set<'_>, rows: &[usize], inputs: &[f32]) -> Vec<f32> {
        let Some(last) = self.plan.layers(&self.weights).last() else { return Vec::new() };
        let wide = self.plan.wide(&self.weights);
        let one = |(row, inputs): (&usize, &[f32])| {
            let told: f32 = set.cells_of(*row).iter().map(|cell| wide[*cell as usize]).sum();
            let logit = lanes::dot(inputs, last.weights) + last.biases[0] + told;
            1.0 / (1.0 + (-logit).exp()) - set.approved[*row]
        };
        rows.iter().zip(inputs.chunks_exact(last.weights.len())).map(one).collect()
    }

    /// A unit that was nought, by the rectifier or left out, passes nothing back.
    fn passed_back(&self, blame: &Tensor, units: &[f32]) -> Result<Vec<f32>> {
        let kept = 1.0 / (1.0 - self.dropout);
        let mut blame: Vec<f32> = blame.flatten_all()?.to_vec1()?;
        for (blame, unit) in blame.iter_mut().zip(units) {
            *blame *= f32::from(u8::from(*unit > 0.0)) * kept;
        }
        Ok(blame)
    }
}

/// Makes a share of the units nought, and the others larger, so that their sum stays. Bits are drawn in bulk: one draw is for four.
fn leave_out(units: &mut [f32], dropout: f32, draw: &mut Draw) {
    let kept = 1.0 / (1.0 - dropout);
    let least = (dropout * 65_536.0) as u64;
    for four in units.chunks_mut(4) {
        let mut word = draw.word();
        for unit in four {
            *unit *= f32::from(u8::from(word & 0xffff >= least)) * kept;
            word >>= 16;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    const ROWS: [usize; 7] = [4, 0, 2, 8, 3, 9, 1];

    /// The same loss as a graph of candle's operations, which finds its own way back.
    fn by_graph(net: &Net<'_>, set: &Set<'_>, draw: &mut Draw) -> Result<Vec<f32>> {
        let tensor = |values: Vec<f32>, width| Tensor::from_vec(values, (ROWS.len(), width), &Device::Cpu);
        let weights = Var::from_slice(&net.weights, net.weights.len(), &Device::Cpu)?;
        let mut layer = tensor(ROWS.iter().flat_map(|row| set.values_of(*row)).copied().collect(), set.width)?;
        for (index, (from, width, units)) in net.plan.places().enumerate() {
            let own = weights.narrow(0, from, width * units)?.reshape((width, units))?;
            layer = layer.matmul(&own)?.broadcast_add(&weights.narrow(0, from + width * units, units)?)?;
            if index + 1 < net.plan.depth() {
                let mut mask = vec![1.0; ROWS.len() * units];
                leave_out(&mut mask, net.dropout, draw);
                layer = layer.relu()?.mul(&tensor(mask, units)?)?;
            }
        }
        let cells: Vec<u32> = ROWS.iter().flat_map(|row| set.cells_of(*row)).copied().collect();
        let cells = Tensor::new(cells, &Device::Cpu)?;
        let wide = weights.narrow(0, net.weights.len() - net.plan.cells, net.plan.cells)?.index_select(&cells, 0)?;
        let logits = (layer + wide.reshape((ROWS.len(), ()))?.sum_keepdim(1)?)?;
        let approved = tensor(ROWS.iter().map(|row| set.approved[*row]).collect(), 1)?;
        let loss = ((logits.exp()? + 1.0)?.log()? - logits.mul(&approved)?)?.sum_all()?;
        loss.backward()?.get(&weights).unwrap().to_vec1()
    }

    #[test]
    fn the_gradient_is_that_of_the_graph() {
        let mut draw = Draw::new(5, 1);
        let mut drawn = |count: usize| (0..count).map(|_| draw.normal() as f32).collect::<Vec<f32>>();
        let (values, outcomes) = (drawn(10 * 9), drawn(10));
        let approved: Vec<f32> = outcomes.iter().map(|it| f32::from(u8::from(*it > 0.0))).collect();
        let cells: Vec<u32> = (0..20).map(|at| if at % 2 == 0 { at % 3 } else { 3 + at % 4 }).collect();
        let set = Set { values: &values, width: 9, cells: &cells, wide_cells: 7, approved: &approved };
        let plan = Plan { sizes: vec![9, 40, 5, 1], cells: 7 };
        let count = plan.places().map(|(_, width, units)| (width + 1) * units).sum::<usize>() + plan.cells;
        let weights = Tensor::new(drawn(count).iter().map(|it| it * 0.3).collect::<Vec<f32>>(), &Device::Cpu).unwrap();
        for dropout in [0.0, 0.3] {
            let net = Net::at(&plan, &weights, dropout).unwrap();
            let found: Vec<f32> = net.gradient(&set, &ROWS, &mut Draw::new(6, 1)).unwrap().to_vec1().unwrap();
            let expected = by_graph(&net, &set, &mut Draw::new(6, 1)).unwrap();
            assert_eq!(found.len(), expected.len());
            for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!((found - expected).abs() < 1e-4, "weight {at} of {count}, dropout {dropout}: {found} for {expected}");
            }
            assert!(expected.iter().filter(|it| **it != 0.0).count() > count / 2);
        }
    }
}
