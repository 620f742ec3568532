//! The tensors of a denoise job, checked against the model and brought onto its device.

use candle_core::{DType, Device, Tensor};
use ovis_protocol::DenoiseRequest;

use super::error::{Error, Result};
use super::scaling::LatentScaling;
use super::types::{Conditioning, Latent};
use crate::models::mmdit::Mmdit;
use crate::sampling::{batch_noise, Start};

/// The latents and the noise that a run starts from, on the model's device.
///
/// # Errors
/// The job is cancelled while noise is drawn, or the device fails.
pub fn start(
    request: &DenoiseRequest,
    latent: &Latent,
    mask: Option<Tensor>,
    scaling: LatentScaling,
    model: &Mmdit,
) -> Result<Start> {
    let device = &model.placement().device;
    let raw = latent.tensor().to_device(&Device::Cpu)?;
    let dims = raw.dims4()?;
    let (batch, channels, height, width) = dims;
    // As in ComfyUI, an all-zero latent is an empty one and stays zero; any other is brought
    // into the model's scaling.
    let empty = latent.to_values()?.iter().all(|value| *value == 0.0);
    let latents = if empty { raw } else { scaling.to_model(&raw)? };
    let noise = match request.add_noise {
        true => {
            let elements = channels * height * width;
            let index = request.batch_index.as_deref();
            let noise = batch_noise(request.seed, batch, elements, index)?;
            Tensor::from_vec(noise, dims, &Device::Cpu)?
        }
        false => latents.zeros_like()?,
    };
    Ok(Start {
        latents: latents.to_device(device)?,
        noise: noise.to_device(device)?,
        mask,
        seed: request.seed,
    })
}

/// Checks the channels of a latent.
///
/// # Errors
/// The transformer has another number of them.
pub fn check_channels(model: &Mmdit, channels: usize) -> Result<()> {
    let wanted = model.config().in_channels / 4;
    if channels == wanted {
        return Ok(());
    }
    Err(Error::invalid(
        format!("the latent has {channels} channels, this model's have {wanted}"),
        "Use an empty latent of this model, or encode the image with its VAE.",
    ))
}

/// The conditioning of every batch entry, `[B, T, D]`: one entry is repeated for all.
///
/// # Errors
/// The conditioning is not `width` wide, or has another number of entries than 1 and `batch`.
pub fn matched_batch(
    conditioning: &Conditioning,
    batch: usize,
    width: usize,
    name: &str,
) -> Result<Tensor> {
    let tensor = conditioning.tensor();
    let (entries, length, found) = tensor.dims3()?;
    if found != width {
        return Err(Error::invalid(
            format!("the {name} conditioning is {found} wide, this model's text width is {width}"),
            "Encode the prompt with this model's own text encoder.",
        ));
    }
    if entries == batch {
        return Ok(tensor.clone());
    }
    if entries != 1 {
        return Err(Error::invalid(
            format!("the {name} conditioning has {entries} entries for a batch of {batch}"),
            "Give one conditioning for all, or one for each batch entry.",
        ));
    }
    Ok(tensor.expand((batch, length, width))?.contiguous()?)
}

/// A noise mask as `[1 or B, 1, H/8, W/8]` on the device, for latents of the shape `dims`.
///
/// # Errors
/// The mask has another height, width or batch than the latents.
pub fn latent_mask(
    mask: &Tensor,
    (batch, _, height, width): (usize, usize, usize, usize),
    device: &Device,
) -> Result<Tensor> {
    let dims = mask.dims();
    if dims.len() != 3 || (dims[0] != 1 && dims[0] != batch) || dims[1..] != [height, width] {
        return Err(Error::invalid(
            format!("the noise mask has the shape {dims:?}, the latent wants [1 or {batch}, {height}, {width}]"),
            "Resize the mask to the latent's height and width.",
        ));
    }
    Ok(mask.to_dtype(DType::F32)?.to_device(device)?.unsqueeze(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_conditioning_serves_a_batch() {
        let one = Conditioning::from_values(vec![1.0, 2.0, 3.0, 4.0], &[1, 2, 2]).unwrap();
        let matched = matched_batch(&one, 3, 2, "positive").unwrap();
        assert_eq!(matched.dims(), [3, 2, 2]);
        let rows = matched.to_vec3::<f32>().unwrap();
        assert_eq!(rows[2], [[1.0, 2.0], [3.0, 4.0]]);
        let refused = |conditioning: &Conditioning, batch, width| {
            let refused = matched_batch(conditioning, batch, width, "positive");
            refused.unwrap_err().to_string()
        };
        assert!(refused(&one, 1, 3).contains("is 2 wide"));
        let two = Conditioning::from_values(vec![0.0; 8], &[2, 2, 2]).unwrap();
        assert!(refused(&two, 3, 2).contains("2 entries for a batch of 3"));
    }

    #[test]
    fn a_mask_has_the_latents_height_and_width() {
        let mask = |shape: (usize, usize, usize)| {
            let mask = Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
            latent_mask(&mask, (2, 16, 4, 6), &Device::Cpu)
        };
        assert_eq!(mask((1, 4, 6)).unwrap().dims(), [1, 1, 4, 6]);
        assert_eq!(mask((2, 4, 6)).unwrap().dims(), [2, 1, 4, 6]);
        for shape in [(3, 4, 6), (1, 6, 4)] {
            assert!(mask(shape).is_err());
        }
    }
}
