//! Decode and VAE encode: between pixels and latents.

use candle_core::Device;

use super::error::{Error, Result};
use super::types::{Image, Latent, SIZE_MULTIPLE};
use crate::models::vae::Vae;
use crate::nn::to_pixels;

/// Decodes latents to pixels, on the CPU.
///
/// # Errors
/// The latent has another number of channels than the VAE, the job is cancelled, or the device
/// fails.
pub fn decode(vae: &Vae, latent: &Latent) -> Result<Image> {
    let channels = latent.dims()[1];
    let wanted = vae.config().latent_channels;
    if channels != wanted {
        return Err(Error::invalid(
            format!("the latent has {channels} channels, this VAE's have {wanted}"),
            "Decode it with the VAE that belongs to the model that made it.",
        ));
    }
    let pixels = to_pixels(&vae.decode(latent.tensor())?)?;
    Image::new(pixels.to_device(&Device::Cpu)?)
}

/// Encodes pixels to the mean of their latents' posterior, on the CPU.
///
/// # Errors
/// The size is not a multiple of [`SIZE_MULTIPLE`], the VAE has no encoder, the job is
/// cancelled, or the device fails.
pub fn vae_encode(vae: &Vae, image: &Image) -> Result<Latent> {
    let [_, height, width, _] = *image.dims() else {
        unreachable!("an image has four dimensions");
    };
    if height % SIZE_MULTIPLE != 0 || width % SIZE_MULTIPLE != 0 {
        return Err(Error::invalid(
            format!("an image of {width} x {height} pixels is not a multiple of {SIZE_MULTIPLE} both ways"),
            format!("Crop or resize it to multiples of {SIZE_MULTIPLE}."),
        ));
    }
    let pixels = ((image.tensor() * 2.0)? - 1.0)?
        .permute((0, 3, 1, 2))?
        .contiguous()?;
    let latent = vae.encode(&pixels)?.ok_or(Error::MissingPart {
        part: "VAE encoder",
        operation: "vae-encode",
    })?;
    Latent::new(latent.to_device(&Device::Cpu)?)
}
