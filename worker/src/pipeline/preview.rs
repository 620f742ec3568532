//! Previews of an unfinished image: small, fast, and only of the first image of a batch.
//! Everything except the VAE runs on the CPU: the work is small, and on a GPU it would need
//! candle kernels, which the driver compiles at their first use.

use candle_core::{DType, Device, Tensor};

use super::error::Result;
use super::scaling::LatentScaling;
use super::types::Preview;
use crate::models::vae::Vae;

/// Channels of FLUX.1's latents, which the projection is made for.
pub const CHANNELS: usize = 16;

/// Red, green and blue of each latent channel.
///
/// Source: ComfyUI 0.18.1 `latent_formats.py` `Flux.latent_rgb_factors`.
const RGB_OF_CHANNEL: [[f32; 3]; CHANNELS] = [
    [-0.0346, 0.0244, 0.0681],
    [0.0034, 0.0210, 0.0687],
    [0.0275, -0.0668, -0.0433],
    [-0.0174, 0.0160, 0.0617],
    [0.0859, 0.0721, 0.0329],
    [0.0004, 0.0383, 0.0115],
    [0.0405, 0.0861, 0.0915],
    [-0.0236, -0.0185, -0.0259],
    [-0.0245, 0.0250, 0.1180],
    [0.1008, 0.0755, -0.0421],
    [-0.0515, 0.0201, 0.0011],
    [0.0428, -0.0012, -0.0036],
    [0.0817, 0.0765, 0.0749],
    [-0.1264, -0.0522, -0.1103],
    [-0.0280, -0.0881, -0.0499],
    [-0.1262, -0.0982, -0.0778],
];

/// Bias of the projection.
///
/// Source: ComfyUI 0.18.1 `latent_formats.py` `Flux.latent_rgb_factors_bias`.
const RGB_BIAS: [f32; 3] = [-0.0329, -0.0718, -0.0851];

/// Factor by which latents are reduced in height and width before the VAE decodes them.
const VAE_REDUCTION: usize = 4;

/// A linear projection of latents `[B, 16, H/8, W/8]` in the model's scaling to one pixel a
/// position, reduced by a whole factor to fit `max_side`.
///
/// # Errors
/// The latents cannot be copied from the device.
pub fn linear(latents: &Tensor, max_side: usize) -> Result<Preview> {
    let latents = fitted(&first_on_cpu(latents)?, max_side)?;
    let (_, channels, height, width) = latents.dims4()?;
    let factors = Tensor::new(&RGB_OF_CHANNEL, &Device::Cpu)?
        .t()?
        .contiguous()?;
    let bias = Tensor::new(&RGB_BIAS, &Device::Cpu)?.reshape((3, 1))?;
    let positions = latents.reshape((channels, height * width))?;
    let rgb = factors.matmul(&positions)?.broadcast_add(&bias)?;
    pixels(&rgb.reshape((3, height, width))?)
}

/// The VAE's decode of latents `[B, 16, H/8, W/8]` in the model's scaling at a quarter of the
/// height and width, which takes a sixteenth of the work of a full decode.
///
/// # Errors
/// The device fails or has too little memory.
pub fn by_vae(
    vae: &Vae,
    latents: &Tensor,
    scaling: LatentScaling,
    max_side: usize,
) -> Result<Preview> {
    let raw = scaling.to_raw(&first_on_cpu(latents)?)?;
    let reduced = reduced(&raw, VAE_REDUCTION)?.to_device(latents.device())?;
    let image = vae.decode(&reduced)?.to_device(&Device::Cpu)?;
    let image = image.to_dtype(DType::F32)?;
    pixels(&fitted(&image, max_side)?.squeeze(0)?)
}

/// The first entry of a batch, on the CPU.
fn first_on_cpu(latents: &Tensor) -> Result<Tensor> {
    Ok(latents.narrow(0, 0, 1)?.to_device(&Device::Cpu)?)
}

/// An image `[1, C, H, W]`, reduced by the smallest whole factor that makes it fit `max_side`.
fn fitted(image: &Tensor, max_side: usize) -> Result<Tensor> {
    let (_, _, height, width) = image.dims4()?;
    reduced(image, height.max(width).div_ceil(max_side))
}

/// An image `[1, C, H, W]` reduced by a factor, each pixel the mean of a square.
fn reduced(image: &Tensor, by: usize) -> Result<Tensor> {
    let (_, _, height, width) = image.dims4()?;
    let square = (by.min(height), by.min(width));
    if square == (1, 1) {
        return Ok(image.clone());
    }
    Ok(image.contiguous()?.avg_pool2d(square)?)
}

/// Values `[3, H, W]` in -1..1 on the CPU as bytes, rounded down as in ComfyUI's previews.
fn pixels(rgb: &Tensor) -> Result<Preview> {
    let (_, height, width) = rgb.dims3()?;
    let bytes = (((rgb * 0.5)? + 0.5)?.clamp(0.0, 1.0)? * 255.0)?
        .permute((1, 2, 0))?
        .contiguous()?
        .to_dtype(DType::U8)?;
    Ok(Preview {
        width: width as u32,
        height: height as u32,
        rgb: bytes.flatten_all()?.to_vec1()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn latents(height: usize, width: usize) -> Tensor {
        let values: Vec<f32> = (0..2 * CHANNELS * height * width)
            .map(|i| (i as f32 * 0.37).sin() * 2.0)
            .collect();
        Tensor::from_vec(values, (2, CHANNELS, height, width), &Device::Cpu).unwrap()
    }

    #[test]
    fn a_pixel_is_its_positions_channels_times_the_factors() {
        let latents = latents(6, 4);
        let preview = linear(&latents, 512).unwrap();
        assert_eq!((preview.width, preview.height), (4, 6));
        let values: Vec<f32> = latents.flatten_all().unwrap().to_vec1().unwrap();
        for position in 0..24 {
            for colour in 0..3 {
                let sum: f32 = (0..CHANNELS)
                    .map(|c| values[c * 24 + position] * RGB_OF_CHANNEL[c][colour])
                    .sum();
                let wanted = ((sum + RGB_BIAS[colour]) * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0;
                let got = f32::from(preview.rgb[3 * position + colour]);
                assert!((got - wanted.floor()).abs() <= 1.0, "{got} for {wanted}");
            }
        }
    }

    #[test]
    fn a_preview_fits_its_side() {
        for (max_side, size) in [(64, (64, 16)), (63, (32, 8)), (20, (16, 4)), (1, (1, 1))] {
            let preview = linear(&latents(16, 64), max_side).unwrap();
            assert_eq!((preview.width, preview.height), size);
            assert_eq!(preview.rgb.len() as u32, 3 * preview.width * preview.height);
        }
    }
}
