//! Conversions between latents, the transformer's tokens, and pixels.

use candle_core::{DType, Result, Tensor};

use super::backend::fused;
use super::fused::Fused;

/// Packs latents `[B, C, H, W]` (float32) into one token per 2 x 2 patch, `[B, (H/2)(W/2), 4 C]`,
/// ordered by channel, row and column inside a token.
///
/// # Errors
/// H or W is odd.
pub fn patchify(latents: &Tensor, dtype: DType) -> Result<Tensor> {
    if let Some(tokens) = fused().patchify(latents, dtype)? {
        return Ok(tokens);
    }
    let (b, c, h, w) = latents.dims4()?;
    latents
        .reshape((b, c, h / 2, 2, w / 2, 2))?
        .permute((0, 2, 4, 1, 3, 5))?
        .reshape((b, (h / 2) * (w / 2), 4 * c))?
        .to_dtype(dtype)
}

/// `mask * inside + (1 - mask) * outside`: latents `[B, C, H, W]` and a mask `[1 or B, 1, H, W]`,
/// all float32.
///
/// # Errors
/// The shapes do not fit.
pub fn blend(inside: &Tensor, outside: &Tensor, mask: &Tensor) -> Result<Tensor> {
    if let Some(blended) = fused().blend(inside, outside, mask)? {
        return Ok(blended);
    }
    let rest = (1.0 - mask)?;
    inside.broadcast_mul(mask)? + outside.broadcast_mul(&rest)?
}

/// Classifier-free guidance (Ho & Salimans 2022), `uncond + guidance * (cond - uncond)`, of
/// velocities given as tokens (see [`patchify`]), unpacked to float32 latents of height and width
/// `size`. Without `uncond`, the result is `cond` unpacked.
///
/// # Errors
/// The shapes do not fit.
pub fn guided_velocity(
    cond: &Tensor,
    uncond: Option<&Tensor>,
    guidance: f64,
    size: (usize, usize),
) -> Result<Tensor> {
    if let Some(velocity) = fused().guided_velocity(cond, uncond, guidance, size)? {
        return Ok(velocity);
    }
    let cond = cond.to_dtype(DType::F32)?;
    let tokens = match uncond {
        None => cond,
        Some(uncond) => {
            let uncond = uncond.to_dtype(DType::F32)?;
            (&uncond + ((cond - &uncond)? * guidance)?)?
        }
    };
    let (height, width) = size;
    let (b, _, packed) = tokens.dims3()?;
    tokens
        .reshape((b, height / 2, width / 2, packed / 4, 2, 2))?
        .permute((0, 3, 1, 4, 2, 5))?
        .reshape((b, packed / 4, height, width))
}

/// Converts a VAE's output `[B, 3, H, W]` in -1..1 to float32 pixels `[B, H, W, 3]`, clamped to
/// 0..1.
///
/// # Errors
/// `x` does not have four dimensions.
pub fn to_pixels(x: &Tensor) -> Result<Tensor> {
    if let Some(pixels) = fused().to_pixels(x)? {
        return Ok(pixels);
    }
    let pixels = ((x.to_dtype(DType::F32)? * 0.5)? + 0.5)?.clamp(0.0, 1.0)?;
    pixels.permute((0, 2, 3, 1))?.contiguous()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn ramp(shape: &[usize]) -> Tensor {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|i| i as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn tokens_are_patches_and_unpack_to_the_same_latents() {
        let latents = ramp(&[1, 2, 4, 6]);
        let tokens = patchify(&latents, DType::F32).unwrap();
        assert_eq!(tokens.dims(), [1, 6, 8]);
        let first = tokens.get(0).unwrap().get(1).unwrap();
        assert_eq!(values(&first), [2., 3., 8., 9., 26., 27., 32., 33.]);
        let unpacked = guided_velocity(&tokens, None, 1.0, (4, 6)).unwrap();
        assert_eq!(values(&unpacked), values(&latents));
        let zeros = tokens.zeros_like().unwrap();
        let guided = guided_velocity(&tokens, Some(&zeros), 3.0, (4, 6)).unwrap();
        assert_eq!(values(&guided), values(&(latents * 3.0).unwrap()));
    }

    #[test]
    fn masks_blend_and_pixels_are_clamped() {
        let (inside, outside) = (
            ramp(&[1, 1, 1, 3]),
            Tensor::full(10f32, (1, 1, 1, 3), &Device::Cpu),
        );
        let mask = Tensor::new(&[0f32, 0.5, 1.0], &Device::Cpu).unwrap();
        let mask = mask.reshape((1, 1, 1, 3)).unwrap();
        let blended = blend(&inside, &outside.unwrap(), &mask).unwrap();
        assert_eq!(values(&blended), [10.0, 5.5, 2.0]);
        let x = Tensor::new(&[-2f32, 0.0, 1.0], &Device::Cpu).unwrap();
        let pixels = to_pixels(&x.reshape((1, 3, 1, 1)).unwrap()).unwrap();
        assert_eq!(pixels.dims(), [1, 1, 1, 3]);
        assert_eq!(values(&pixels), [0.0, 0.5, 1.0]);
    }
}
