//! Tensors with a meaning and a checked shape. Bare tensors stay inside models.

use candle_core::{DType, Device, Tensor};

use super::error::{Error, Result};

macro_rules! typed_tensor {
    ($(#[$doc:meta])* $name:ident, $rank:literal, $shape:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(Tensor);

        impl $name {
            /// Checks the rank and wraps the tensor, as float32.
            ///
            /// # Errors
            /// The tensor has another rank, or a further rule of the type is
            /// broken.
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

            /// From row-major float32 values on the CPU.
            ///
            /// # Errors
            /// As [`new`](Self::new), or the values do not fill the shape.
            pub fn from_values(values: Vec<f32>, shape: &[usize]) -> Result<Self> {
                Self::new(Tensor::from_vec(values, shape, &Device::Cpu)?)
            }

            /// The float32 tensor, on whatever device it is.
            pub fn tensor(&self) -> &Tensor {
                &self.0
            }

            /// Its dimensions.
            pub fn dims(&self) -> &[usize] {
                self.0.dims()
            }

            /// Its values, row-major.
            ///
            /// # Errors
            /// The copy from the device failed.
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
    /// Raw VAE latents, `[B, C, H/8, W/8]`: what ComfyUI calls LATENT samples,
    /// before the model's scaling and shift.
    Latent, 4, "[B, C, H/8, W/8]"
);
typed_tensor!(
    /// Pixels, `[B, H, W, 3]`, 0 to 1: what ComfyUI calls IMAGE.
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
    /// Where to start, `[B, C, H/8, W/8]`; all zero means an empty latent.
    pub latent: Latent,
    /// Float32 `[1 or B, H/8, W/8]` on the CPU, 1 where the latent is to be
    /// denoised and 0 where it is to stay.
    pub noise_mask: Option<Tensor>,
}

/// Where a denoise job is after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done, from 1.
    pub step: u32,
    /// Steps in all; the job is done when `step` equals it.
    pub total: u32,
    /// Sigma the latent has now.
    pub sigma: f32,
}

/// How often the transformer was asked for a velocity, each branch of guidance by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwards {
    /// In all.
    pub asked: u64,
    /// How many of these a step cache answered, so that only the first block ran.
    pub answered: u64,
}

/// What an image looks like so far: 8-bit pixels, small enough for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Red, green and blue, row by row from the top.
    pub rgb: Vec<u8>,
}
