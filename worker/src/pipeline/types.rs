//! Tensors with a meaning and a checked shape, and the reports of a denoise job. Bare tensors
//! stay inside models.

use candle_core::{DType, Device, Tensor};

use super::error::{Error, Result};

/// Width and height of an image in pixels are multiples of this: the VAE halves both three
/// times, and the transformer takes patches of 2 x 2 latents.
pub const SIZE_MULTIPLE: usize = 16;

macro_rules! typed_tensor {
    ($(#[$doc:meta])* $name:ident, $rank:literal, $shape:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(Tensor);

        impl $name {
            /// Checks the shape and converts the tensor to float32.
            ///
            /// # Errors
            /// The tensor has another rank, or an image another number of
            /// channels than 3.
            pub fn new(tensor: Tensor) -> Result<Self> {
                if tensor.rank() != $rank {
                    return Err(Error::invalid(
                        format!(
                            concat!("a ", stringify!($name), " has the shape ", $shape, ", not {:?}"),
                            tensor.dims()
                        ),
                        "",
                    ));
                }
                Self::check(&tensor)?;
                Ok(Self(tensor.to_dtype(DType::F32)?))
            }

            /// A tensor on the CPU from row-major values.
            ///
            /// # Errors
            /// The values do not fill the shape, or [`new`](Self::new) refuses
            /// it.
            pub fn from_values(values: Vec<f32>, shape: &[usize]) -> Result<Self> {
                Self::new(Tensor::from_vec(values, shape, &Device::Cpu)?)
            }

            /// The float32 tensor, on its device.
            pub fn tensor(&self) -> &Tensor {
                &self.0
            }

            /// The sizes of the dimensions.
            pub fn dims(&self) -> &[usize] {
                self.0.dims()
            }

            /// The number of values.
            pub fn elements(&self) -> u64 {
                self.0.elem_count() as u64
            }

            /// The values, row-major.
            ///
            /// # Errors
            /// The copy from the device fails.
            pub fn to_values(&self) -> Result<Vec<f32>> {
                Ok(self.0.flatten_all()?.to_vec1()?)
            }
        }
    };
}

typed_tensor!(
    /// Text conditioning, `[B, T, D]`.
    Conditioning, 3, "[B, T, D]"
);
typed_tensor!(
    /// Raw VAE latents, `[B, C, H/8, W/8]`, before the model's scaling and
    /// shift: the `samples` of ComfyUI's LATENT.
    Latent, 4, "[B, C, H/8, W/8]"
);
typed_tensor!(
    /// Pixels, `[B, H, W, 3]`, 0 to 1: ComfyUI's IMAGE.
    Image, 4, "[B, H, W, 3]"
);

impl Conditioning {
    fn check(_: &Tensor) -> Result<()> {
        Ok(())
    }
}

impl Latent {
    fn check(_: &Tensor) -> Result<()> {
        Ok(())
    }
}

impl Image {
    fn check(tensor: &Tensor) -> Result<()> {
        match tensor.dims()[3] {
            3 => Ok(()),
            n => Err(Error::invalid(
                format!("an image has 3 channels (red, green, blue), this one has {n}"),
                "Remove or composite the alpha channel first.",
            )),
        }
    }
}

/// The tensors of a denoise job.
#[derive(Clone, Debug)]
pub struct DenoiseInputs {
    /// Conditioning of the prompt, `[1 or B, T, D]`.
    pub positive: Conditioning,
    /// Conditioning of the negative prompt; absent when cfg is 1.
    pub negative: Option<Conditioning>,
    /// The latent to start from, `[B, C, H/8, W/8]`; an all-zero one is an empty latent.
    pub latent: Latent,
    /// Float32 `[1 or B, H/8, W/8]` on the CPU: 1 where the latent is denoised, 0 where it is
    /// kept.
    pub noise_mask: Option<Tensor>,
}

/// The progress of a denoise job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// How many steps are done.
    pub step: u32,
    /// How many steps there are; the job is done when `step` equals it.
    pub total: u32,
    /// The latent's sigma.
    pub sigma: f32,
}

/// How many forwards of the transformer a job ran, each branch of guidance counted by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwards {
    /// All forwards.
    pub asked: u64,
    /// Forwards that a step cache answered, so that only the first block ran.
    pub answered: u64,
}

/// A preview of an unfinished image: 8-bit pixels, few enough for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Red, green and blue, row by row from the top.
    pub rgb: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_checked() {
        let values = |shape: &[usize]| vec![0.5; shape.iter().product()];
        let latent = Latent::from_values(values(&[1, 2, 3, 4]), &[1, 2, 3, 4]).unwrap();
        assert_eq!((latent.dims(), latent.elements()), (&[1, 2, 3, 4][..], 24));
        assert_eq!(latent.to_values().unwrap(), values(&[24]));
        let rank = Conditioning::from_values(values(&[2, 3]), &[2, 3]).unwrap_err();
        assert_eq!(
            rank.to_string(),
            "a Conditioning has the shape [B, T, D], not [2, 3]"
        );
        let alpha = Image::from_values(values(&[1, 2, 2, 4]), &[1, 2, 2, 4]).unwrap_err();
        assert!(alpha.to_string().contains("this one has 4"));
        assert!(Image::from_values(values(&[11]), &[1, 2, 2, 3]).is_err());
    }
}
