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

#[cfg(test)]
mod tests {
    use crate::pipeline::testing::tiny_pipeline;
    use crate::pipeline::{Image, Latent};

    #[test]
    fn images_and_latents_have_an_eighth_of_each_others_size() {
        let pipeline = tiny_pipeline();
        let pixels = (0..32 * 48 * 3).map(|i| (i % 100) as f32 / 100.0).collect();
        let image = Image::from_values(pixels, &[1, 32, 48, 3]).unwrap();
        let latent = pipeline.vae_encode(&image).unwrap();
        assert_eq!(latent.dims(), [1, 16, 4, 6]);
        let decoded = pipeline.decode(&latent).unwrap();
        assert_eq!(decoded.dims(), image.dims());
        let values = decoded.to_values().unwrap();
        assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
    }

    #[test]
    fn other_channels_and_sizes_are_refused() {
        let pipeline = tiny_pipeline();
        let latent = Latent::from_values(vec![0.0; 4 * 4], &[1, 4, 2, 2]).unwrap();
        let refused = pipeline.decode(&latent).unwrap_err().to_string();
        assert!(refused.contains("has 4 channels, this VAE's have 16"));
        let image = Image::from_values(vec![0.0; 24 * 16 * 3], &[1, 24, 16, 3]).unwrap();
        let refused = pipeline.vae_encode(&image).unwrap_err().to_string();
        assert!(refused.contains("16 x 24 pixels is not a multiple of 16"));
    }
}
