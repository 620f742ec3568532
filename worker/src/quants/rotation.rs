//! Rotation of a weight's columns in groups, which spreads large values over a group before it is
//! rounded.
//!
//! The rotation of a group of 4^n values is the n-fold Kronecker power of
//!
//! ```text
//!      [ 1  1  1 -1 ]
//!      [ 1  1 -1  1 ]
//! H4 = [ 1 -1  1  1 ] / 2
//!      [-1  1  1  1 ]
//! ```
//!
//! which is symmetric and orthogonal, so that it is its own inverse.
//!
//! Source: stable-diffusion.cpp `docs/int8_convrot.md`, after ComfyUI's `int8_tensorwise` with
//! `convrot`.

/// Whether values can be rotated in groups of so many: a power of 4 above 1.
pub fn is_group(values: usize) -> bool {
    values > 1 && values.is_power_of_two() && values.trailing_zeros().is_multiple_of(2)
}

/// Rotates each `group` of values; twice gives the values again. Values after the last whole group
/// stay as they are.
pub fn unrotate(row: &mut [f32], group: usize) {
    for values in row.chunks_exact_mut(group) {
        let mut stride = 1;
        while stride < group {
            for first in (0..group).filter(|i| i / stride % 4 == 0) {
                let at = [
                    first,
                    first + stride,
                    first + 2 * stride,
                    first + 3 * stride,
                ];
                let [a, b, c, d] = at.map(|i| values[i]);
                // A row of H4 is half the sum of all four less the one with the minus.
                let half = (a + b + c + d) / 2.0;
                for (i, value) in at.into_iter().zip([d, c, b, a]) {
                    values[i] = half - value;
                }
            }
            stride *= 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// H4's Kronecker power of this size, by its definition.
    fn matrix(group: usize) -> Vec<Vec<f32>> {
        if group == 1 {
            return vec![vec![1.0]];
        }
        const H4: [[f32; 4]; 4] = [
            [1., 1., 1., -1.],
            [1., 1., -1., 1.],
            [1., -1., 1., 1.],
            [-1., 1., 1., 1.],
        ];
        let inner = matrix(group / 4);
        let side = inner.len();
        let element = |i: usize, j: usize| H4[i / side][j / side] / 2.0 * inner[i % side][j % side];
        (0..group)
            .map(|i| (0..group).map(|j| element(i, j)).collect())
            .collect()
    }

    #[test]
    fn rotation_is_the_product_with_the_matrix() {
        for group in [4, 16, 64] {
            let values: Vec<f32> = (0..2 * group).map(|i| (i as f32 * 0.7).sin()).collect();
            let mut rotated = values.clone();
            unrotate(&mut rotated, group);
            let matrix = matrix(group);
            for (i, found) in rotated.iter().enumerate() {
                let row = &values[i / group * group..][..group];
                let wanted: f32 = row.iter().zip(&matrix[i % group]).map(|(x, m)| x * m).sum();
                assert!(
                    (found - wanted).abs() < 1e-5,
                    "{group}, {i}: {found}, {wanted}"
                );
            }
            unrotate(&mut rotated, group);
            for (found, wanted) in rotated.iter().zip(&values) {
                assert!((found - wanted).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn groups_are_powers_of_four() {
        let groups: Vec<_> = (0..300).filter(|n| is_group(*n)).collect();
        assert_eq!(groups, [4, 16, 64, 256]);
    }
}
