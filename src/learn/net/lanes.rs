//! Sums of products over many numbers at once, with the widest instructions that the processor has.
//!
//! The only door to pulp, which finds them out when the program runs and gives them a safe form. What a number comes to does not
//! depend on how many rows are asked for together. Allocates nothing.

#![allow(
    clippy::inline_always,
    reason = "the processor's instructions are there only in what is put into the function that pulp enters"
)]

use pulp::{Arch, Simd, WithSimd};
use std::hint::black_box;

/// A layer: weights by input and then unit, and a bias for each unit.
#[derive(Clone, Copy)]
pub(super) struct Dense<'a> {
    pub(super) weights: &'a [f32],
    pub(super) biases: &'a [f32],
}

impl Dense<'_> {
    fn units(&self) -> usize {
        self.biases.len()
    }

    fn width(&self) -> usize {
        self.weights.len() / self.units().max(1)
    }
}

/// What the layer makes of each row of inputs; less than nought is nought.
pub(super) fn rectified(dense: Dense<'_>, inputs: &[f32], out: &mut [f32]) {
    Arch::new().dispatch(Rectified { dense, inputs, out });
}

/// The sums over the rows of each input times each unit's blame: by input and then unit, as weights are.
pub(super) fn summed_over_rows(inputs: &[f32], blame: &[f32], out: &mut [f32], rows: usize) {
    Arch::new().dispatch(SummedOverRows { inputs, blame, out, rows });
}

/// The sum of products.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    Arch::new().dispatch(Dot { a, b })
}

/// Moves and divides each row, and bounds what comes of it.
pub(super) fn standardise(means: &[f32], deviations: &[f32], far: f32, rows: &mut [f32]) {
    Arch::new().dispatch(Standardise { means, deviations, far, rows });
}

struct Rectified<'a> {
    dense: Dense<'a>,
    inputs: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Rectified<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { dense, inputs, out } = self;
        let units = dense.units().max(1);
        let rows = out.len() / units;
        let (weights, rest) = S::as_simd_f32s(dense.weights);
        let (biases, no_biases) = S::as_simd_f32s(dense.biases);
        if !rest.is_empty() || !no_biases.is_empty() || biases.len() % 2 > 0 {
            return one_by_one(dense, inputs, out);
        }
        let (out, _) = S::as_mut_simd_f32s(out);
        let (width, nought) = (dense.width(), simd.splat_f32s(0.0));
        for unit in (0..biases.len()).step_by(2) {
            for row in (0..rows).step_by(4) {
                let four = four_from(row, rows);
                let terms = Terms { values: inputs, from: four.map(|row| row * width), step: 1, count: width };
                let sums = tile(simd, &terms, (weights, biases.len(), unit), [biases[unit], biases[unit + 1]]);
                for (row, [left, right]) in four.into_iter().zip(sums) {
                    let at = row * biases.len() + unit;
                    out[at] = simd.max_f32s(left, nought);
                    out[at + 1] = simd.max_f32s(right, nought);
                }
            }
        }
    }
}

struct SummedOverRows<'a> {
    inputs: &'a [f32],
    blame: &'a [f32],
    out: &'a mut [f32],
    rows: usize,
}

impl WithSimd for SummedOverRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { inputs, blame, out, rows } = self;
        let (width, units) = (inputs.len() / rows.max(1), blame.len() / rows.max(1));
        if units % (2 * S::F32_LANES) > 0 {
            out.fill(0.0);
            for (inputs, blame) in inputs.chunks_exact(width.max(1)).zip(blame.chunks_exact(units)) {
                for (input, out) in inputs.iter().zip(out.chunks_exact_mut(units)) {
                    out.iter_mut().zip(blame).for_each(|(out, blame)| *out += input * blame);
                }
            }
            return;
        }
        let (blame, _) = S::as_simd_f32s(blame);
        let (out, _) = S::as_mut_simd_f32s(out);
        let vectors = units / S::F32_LANES;
        for unit in (0..vectors).step_by(2) {
            for input in (0..width).step_by(4) {
                let four = four_from(input, width);
                let terms = Terms { values: inputs, from: four, step: width, count: rows };
                let sums = tile(simd, &terms, (blame, vectors, unit), [simd.splat_f32s(0.0); 2]);
                for (input, [left, right]) in four.into_iter().zip(sums) {
                    out[input * vectors + unit] = left;
                    out[input * vectors + unit + 1] = right;
                }
            }
        }
    }
}

/// Where fewer than four are left, the last is summed up again. The compiler is kept from finding them out anew for each product.
#[inline(always)]
fn four_from(first: usize, count: usize) -> [usize; 4] {
    let last = count - 1;
    black_box([first, last.min(first + 1), last.min(first + 2), last.min(first + 3)])
}

/// Four series of values: where each begins, how far apart its values lie, and how many they are.
struct Terms<'a> {
    values: &'a [f32],
    from: [usize; 4],
    step: usize,
    count: usize,
}

/// Two vectors of factors, for each of the terms, summed up for four series at once: as many sums as keep the adders busy, few enough for
/// the registers. Each sum has a name, since with few optimisations an array of them would lie in memory.
#[inline(always)]
fn tile<S: Simd>(
    simd: S,
    terms: &Terms<'_>,
    (factors, stride, first): (&[S::f32s], usize, usize),
    [left, right]: [S::f32s; 2],
) -> [[S::f32s; 2]; 4] {
    // All of one length, so that one comparison in each round holds for the four.
    let reach = (terms.count * terms.step).saturating_sub(terms.step - 1);
    let [a, b, c, d] = terms.from.map(|from| &terms.values[from..from + reach]);
    let (mut a_left, mut b_left, mut c_left, mut d_left) = (left, left, left, left);
    let (mut a_right, mut b_right, mut c_right, mut d_right) = (right, right, right, right);
    let mut from = first;
    for at in (0..reach).step_by(terms.step) {
        let (right, left) = (factors[from + 1], factors[from]);
        let value = simd.splat_f32s(a[at]);
        a_left = simd.mul_add_e_f32s(value, left, a_left);
        a_right = simd.mul_add_e_f32s(value, right, a_right);
        let value = simd.splat_f32s(b[at]);
        b_left = simd.mul_add_e_f32s(value, left, b_left);
        b_right = simd.mul_add_e_f32s(value, right, b_right);
        let value = simd.splat_f32s(c[at]);
        c_left = simd.mul_add_e_f32s(value, left, c_left);
        c_right = simd.mul_add_e_f32s(value, right, c_right);
        let value = simd.splat_f32s(d[at]);
        d_left = simd.mul_add_e_f32s(value, left, d_left);
        d_right = simd.mul_add_e_f32s(value, right, d_right);
        from += stride;
    }
    [[a_left, a_right], [b_left, b_right], [c_left, c_right], [d_left, d_right]]
}

/// For layers that do not fill vectors.
fn one_by_one(dense: Dense<'_>, inputs: &[f32], out: &mut [f32]) {
    let width = dense.width();
    for (row, out) in out.chunks_exact_mut(dense.units().max(1)).enumerate() {
        out.copy_from_slice(dense.biases);
        let inputs = &inputs[row * width..(row + 1) * width];
        for (input, weights) in inputs.iter().zip(dense.weights.chunks_exact(out.len())) {
            out.iter_mut().zip(weights).for_each(|(unit, weight)| *unit += input * weight);
        }
        for unit in out {
            *unit = unit.max(0.0);
        }
    }
}

struct Dot<'a> {
    a: &'a [f32],
    b: &'a [f32],
}

impl WithSimd for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (a, a_rest) = S::as_simd_f32s(self.a);
        let (b, b_rest) = S::as_simd_f32s(self.b);
        let sum = a.iter().zip(b).fold(simd.splat_f32s(0.0), |sum, (a, b)| simd.mul_add_e_f32s(*a, *b, sum));
        simd.reduce_sum_f32s(sum) + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
    }
}

struct Standardise<'a> {
    means: &'a [f32],
    deviations: &'a [f32],
    far: f32,
    rows: &'a mut [f32],
}

impl WithSimd for Standardise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (means, means_rest) = S::as_simd_f32s(self.means);
        let (deviations, deviations_rest) = S::as_simd_f32s(self.deviations);
        let (low, high) = (simd.splat_f32s(-self.far), simd.splat_f32s(self.far));
        for row in self.rows.chunks_exact_mut(self.means.len().max(1)) {
            let (values, rest) = S::as_mut_simd_f32s(row);
            for (value, (mean, deviation)) in values.iter_mut().zip(means.iter().zip(deviations)) {
                let moved = simd.div_f32s(simd.sub_f32s(*value, *mean), *deviation);
                *value = simd.min_f32s(simd.max_f32s(moved, low), high);
            }
            for (value, (mean, deviation)) in rest.iter_mut().zip(means_rest.iter().zip(deviations_rest)) {
                *value = ((*value - mean) / deviation).clamp(-self.far, self.far);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::draw::Draw;
    use super::*;

    fn drawn(count: usize, draw: &mut Draw) -> Vec<f32> {
        (0..count).map(|_| draw.normal() as f32).collect()
    }

    /// Sizes that fill vectors and tiles, and sizes that do not.
    #[test]
    fn a_layer_is_the_sums_of_its_products() {
        let mut draw = Draw::new(1, 1);
        for (width, units) in [(140, 256), (256, 128), (64, 32), (3, 1), (1, 5), (17, 45), (7, 33)] {
            let (weights, biases) = (drawn(width * units, &mut draw), drawn(units, &mut draw));
            let dense = Dense { weights: &weights, biases: &biases };
            let inputs = drawn(9 * width, &mut draw);
            let mut out = vec![-1.0; 9 * units];
            rectified(dense, &inputs, &mut out);
            for (row, inputs) in inputs.chunks_exact(width).enumerate() {
                for unit in 0..units {
                    let products =
                        inputs.iter().enumerate().map(|(at, input)| f64::from(*input) * f64::from(weights[at * units + unit]));
                    let sum = (products.sum::<f64>() + f64::from(biases[unit])).max(0.0);
                    let off = (f64::from(out[row * units + unit]) - sum).abs();
                    assert!(off < 1e-4, "{width} to {units}: row {row}, unit {unit} is off by {off}");
                }
            }
            let mut summed = vec![-1.0; width * units];
            summed_over_rows(&inputs, &out, &mut summed, 9);
            for (at, summed) in summed.iter().enumerate() {
                let (input, unit) = (at / units, at % units);
                let products = (0..9).map(|row| f64::from(inputs[row * width + input]) * f64::from(out[row * units + unit]));
                assert!((f64::from(*summed) - products.sum::<f64>()).abs() < 1e-3, "{width} to {units}: {input}, {unit}");
            }
            // Alone or among others, in a tile or after it: the same to the last bit.
            for (row, inputs) in inputs.chunks_exact(width).enumerate() {
                let mut alone = vec![0.0; units];
                rectified(dense, inputs, &mut alone);
                assert_eq!(alone, out[row * units..(row + 1) * units], "{width} to {units}, row {row}");
            }
        }
    }

    #[test]
    fn products_and_standards_take_every_length() {
        let mut draw = Draw::new(2, 1);
        for length in [1, 15, 16, 37, 64, 140] {
            let (a, b) = (drawn(length, &mut draw), drawn(length, &mut draw));
            let sum: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(dot(&a, &b)) - sum).abs() < 1e-4, "{length}");
            let deviations: Vec<f32> = b.iter().map(|it| it.abs() + 0.1).collect();
            let mut rows = drawn(3 * length, &mut draw);
            let moved = |(at, value): (usize, &f32)| ((value - a[at % length]) / deviations[at % length]).clamp(-2.0, 2.0);
            let expected: Vec<f32> = rows.iter().enumerate().map(moved).collect();
            standardise(&a, &deviations, 2.0, &mut rows);
            assert_eq!(rows, expected, "{length}");
        }
    }
}
