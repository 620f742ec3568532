//! Arithmetic that solvers and their noise share: sums of tensors, and formulas of a step.

use candle_core::{Result, Tensor};

use crate::nn::{scaled_sum, subtract};

/// The first and last sigma of a step, in float64.
pub fn ends(sigmas: &[f32], step: usize) -> (f64, f64) {
    (f64::from(sigmas[step]), f64::from(sigmas[step + 1]))
}

/// A weighted sum of tensors of one shape.
///
/// # Errors
/// The shapes differ, or the device fails.
pub fn combine(first: (f64, &Tensor), rest: &[(f64, &Tensor)]) -> Result<Tensor> {
    scaled_sum(&[&[first], rest].concat())
}

/// A tensor times a number.
pub fn scaled(factor: f64, x: &Tensor) -> Result<Tensor> {
    scaled_sum(&[(factor, x)])
}

/// The derivative `dx/dsigma = (x - denoised) / sigma`. The difference is taken before the
/// division, because the two are close where sigma is small.
///
/// # Errors
/// The shapes differ, or the device fails.
pub fn slope(x: &Tensor, denoised: &Tensor, sigma: f64) -> Result<Tensor> {
    scaled(1.0 / sigma, &subtract(x, denoised)?)
}

/// One Euler step of `dx/dsigma = (x - denoised) / sigma`, from `sigma` to `next`.
///
/// # Errors
/// The shapes differ, or the device fails.
pub fn euler(x: &Tensor, denoised: &Tensor, sigma: f64, next: f64) -> Result<Tensor> {
    if next == 0.0 {
        return Ok(denoised.clone());
    }
    let kept = next / sigma;
    combine((kept, x), &[(1.0 - kept, denoised)])
}

/// Half the logarithm of the signal-to-noise ratio of a rectified flow:
/// `ln((1 - sigma) / sigma)`.
///
/// Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `sigma_to_half_log_snr`.
pub fn half_log_snr(sigma: f64) -> f64 {
    ((1.0 - sigma) / sigma).ln()
}

/// The sigma an ancestral step goes down to, and the standard deviation of the noise that it
/// then adds to reach `to`.
///
/// Source: ComfyUI 0.18.1 `k_diffusion/sampling.py` `get_ancestral_step`. ComfyUI computes in
/// float32, where the difference of squares cancels on long steps, differently on each
/// processor; we compute in float64.
pub fn ancestral(from: f64, to: f64, eta: f64) -> (f64, f64) {
    let up = (eta * to * (1.0 - (to / from).powi(2)).sqrt()).min(to);
    ((to * to - up * up).sqrt(), up)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor(values: [f32; 2]) -> Tensor {
        Tensor::new(&values, &Device::Cpu).unwrap()
    }

    #[test]
    fn an_euler_step_follows_the_slope() {
        let (x, denoised) = (tensor([1.0, -2.0]), tensor([0.5, 1.0]));
        let slope = slope(&x, &denoised, 0.8).unwrap();
        let along = combine((1.0, &x), &[(0.3 - 0.8, &slope)]).unwrap();
        let stepped = euler(&x, &denoised, 0.8, 0.3).unwrap();
        let (along, stepped) = (along.to_vec1::<f32>(), stepped.to_vec1::<f32>());
        for (a, b) in along.unwrap().iter().zip(stepped.unwrap()) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
        let ended = euler(&x, &denoised, 0.8, 0.0).unwrap();
        assert_eq!(ended.to_vec1::<f32>().unwrap(), [0.5, 1.0]);
    }

    #[test]
    fn an_ancestral_step_keeps_the_variance() {
        for eta in [0.0, 0.5, 1.0] {
            let (down, up) = ancestral(3.0, 1.2, eta);
            assert!((down * down + up * up - 1.2 * 1.2).abs() < 1e-12);
        }
        assert_eq!(ancestral(3.0, 1.2, 0.0), (1.2, 0.0));
        // More new noise than the target sigma has is not possible.
        assert_eq!(ancestral(3.0, 1.2, 100.0), (0.0, 1.2));
    }

    #[test]
    fn equal_signal_and_noise_have_the_logarithm_zero() {
        assert_eq!(half_log_snr(0.5), 0.0);
        assert!(half_log_snr(0.1) > 0.0 && half_log_snr(0.9) < 0.0);
    }
}
