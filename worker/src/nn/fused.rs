//! The seam between the plain tensor expressions and what a device computes faster.

use candle_core::{DType, Device, Result, Tensor};

use super::factors::{Factors, HeadFactors};
use super::footprint::BlockPath;
use super::heads::{HeadNorms, Heads, Pairs, QkBounds, RopeTable};
use super::no_gpu::NoGpu;
use super::placement::{Fp8Refusal, Placement};
use super::scaled_rows::ScaledRows;
use crate::quants::BlockType;

/// Queries, keys and values, normalised and rotated.
pub enum ReadyHeads {
    /// q `[B, S, H, D]`, k and v `[B, S, G, D]`.
    Dense(Tensor, Tensor, Tensor),
    /// In a form that only the device's own attention reads.
    Device(Box<dyn DeviceHeads>),
}

/// Heads in a device's own form.
pub trait DeviceHeads {
    /// Unmasked attention, `[B, S, H D]`.
    ///
    /// # Errors
    /// A kernel cannot be launched, or the result cannot be allocated.
    fn attend(&self) -> Result<Tensor>;

    /// Writes [`attend`](Self::attend) into `out`, whose rows may lie in a wider tensor.
    ///
    /// # Errors
    /// A kernel cannot be launched, or `out` has another shape.
    fn attend_into(&self, out: &Tensor) -> Result<()>;
}

/// What a device computes faster than the plain expression.
///
/// The function of [`nn`](crate::nn) that calls a method also defines it, by the plain expression
/// beside the call. A method that returns `Ok(None)` or `Ok(false)` declines: the tensors are on another device, or
/// have a type or shape that it does not support, or gradients are tracked. The caller then
/// evaluates the plain expression. Errors mean that the shapes do not fit or that the device
/// failed. The defaults decline everything.
#[expect(
    unused_variables,
    clippy::missing_errors_doc,
    reason = "the defaults decline any arguments, and all methods share the errors above"
)]
pub trait Fused {
    /// Attention of `q` `[B, S, H, D]` over `k` and `v` `[B, T, G, D]`: `[B, S, H D]`.
    fn attention(&self, qkv: [&Tensor; 3], causal: bool) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Writes unmasked attention into `out` `[B, S, H D]`, whose rows may lie in a wider tensor.
    fn attention_into(&self, qkv: [&Tensor; 3], out: &Tensor) -> Result<bool> {
        Ok(false)
    }

    /// Unmasked attention in fp8 within `bounds`.
    fn attention_fp8(&self, qkv: [&Tensor; 3], bounds: QkBounds) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Writes [`attention_fp8`](Self::attention_fp8) into `out`, whose rows may lie in a wider
    /// tensor.
    fn attention_fp8_into(
        &self,
        qkv: [&Tensor; 3],
        bounds: QkBounds,
        out: &Tensor,
    ) -> Result<bool> {
        Ok(false)
    }

    /// Unmasked attention and SwiGLU, concatenated: `[B, S, H D + I]`.
    fn attention_and_swiglu(&self, qkv: [&Tensor; 3], up_gate: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Attention of one head `[B, S, C]`, at most `max_scores` scores at a time.
    fn single_head(&self, qkv: [&Tensor; 3], max_scores: usize) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Whether the products fused with other operations add low-rank updates, given in the type and
    /// on the device of `like`.
    fn takes_updates(&self, like: &Tensor) -> Result<bool> {
        Ok(false)
    }

    /// Projects several streams to heads over all their tokens.
    fn project_heads(
        &self,
        streams: &[HeadFactors],
        heads: Heads,
        rope: &RopeTable,
        bounds: Option<QkBounds>,
    ) -> Result<Option<ReadyHeads>> {
        Ok(None)
    }

    /// Projects to heads and an MLP: the heads, and `[B, S, H D + I]` whose last `I` columns hold
    /// the SwiGLU and whose others are not yet written.
    fn project_jointly(
        &self,
        projection: &HeadFactors,
        heads: Heads,
        rope: &RopeTable,
        bounds: Option<QkBounds>,
    ) -> Result<Option<(ReadyHeads, Tensor)>> {
        Ok(None)
    }

    /// SwiGLU of a product with bias.
    fn project_swiglu(&self, factors: &Factors, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// `x + gate * (product + bias)`.
    fn gated_linear(
        &self,
        x: &Tensor,
        gate: &Tensor,
        factors: &Factors,
        bias: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// `x W^T + b` of tensors of one type.
    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// `x W^T + b` of fp8 rows.
    fn fp8_linear(
        &self,
        x: &ScaledRows,
        weight: &ScaledRows,
        bias: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Rows of E4M3 with a scale each.
    fn quantize_rows(&self, x: &Tensor) -> Result<Option<ScaledRows>> {
        Ok(None)
    }

    /// RMSNorm over the last dimension.
    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f64) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// LayerNorm of `x` `[B, S, H]`, times `1 + scale`, plus `shift`.
    fn modulated_layer_norm(
        &self,
        x: &Tensor,
        shift: &Tensor,
        scale: &Tensor,
        eps: f64,
    ) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// The modulated LayerNorm as fp8 rows.
    fn modulated_layer_norm_fp8(
        &self,
        x: &Tensor,
        shift: &Tensor,
        scale: &Tensor,
        eps: f64,
    ) -> Result<Option<ScaledRows>> {
        Ok(None)
    }

    /// Group normalisation of `x` `[B, C, H, W]` with `affine`, its weight and bias `[C]`.
    fn group_norm(
        &self,
        x: &Tensor,
        affine: [&Tensor; 2],
        groups: usize,
        eps: f64,
        silu: bool,
    ) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Mean and reciprocal standard deviation of each group, `[B, groups, 2]`.
    fn group_moments(&self, x: &Tensor, groups: usize, eps: f64) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Group normalisation with given [`group_moments`](Self::group_moments).
    fn group_norm_by(
        &self,
        x: &Tensor,
        moments: &Tensor,
        affine: [&Tensor; 2],
        silu: bool,
    ) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Splits packed projections into normalised, rotated q and k, and v.
    fn qk_norm_rope(
        &self,
        projections: &[(&Tensor, &HeadNorms)],
        heads: Heads,
        pairs: Pairs,
        rope: &RopeTable,
        eps: f64,
    ) -> Result<Option<[Tensor; 3]>> {
        Ok(None)
    }

    /// `up * silu(gate)` of `[.., 2 I]`.
    fn swiglu(&self, up_gate: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// `x + gate * y`.
    fn gated_residual(&self, x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// `x + y`.
    fn add(&self, x: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// `x - y`.
    fn subtract(&self, x: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// A linear combination of tensors of one shape.
    fn scaled_sum(&self, terms: &[(f64, &Tensor)]) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// `x * sigmoid(x)`.
    fn silu(&self, x: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Mean of `|x - minus|`.
    fn mean_magnitude(&self, x: &Tensor, minus: Option<&Tensor>) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// `x` converted to `dtype`.
    fn cast(&self, x: &Tensor, dtype: DType) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// A contiguous copy of `x`, or `x` itself if it is contiguous.
    fn dense(&self, x: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Tensors concatenated along a dimension.
    fn concat(&self, parts: &[&Tensor], dim: usize) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Rows of an embedding table.
    fn embed(&self, table: &Tensor, ids: &[u32]) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Decodes the blocks that start at byte `at` of `bytes` into `out` `[rows, columns]`, whose
    /// rows consist of whole blocks.
    fn decode_blocks(
        &self,
        bytes: &Tensor,
        at: usize,
        kind: BlockType,
        out: &Tensor,
    ) -> Result<bool> {
        Ok(false)
    }

    /// A convolution's weight in the memory layout that [`conv2d`](Self::conv2d) reads fastest.
    fn conv_weight(&self, weight: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Convolution of `x` `[B, C, H, W]`; `padding` zero rows and columns before and after.
    fn conv2d(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        stride: usize,
        padding: [usize; 2],
    ) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Nearest-neighbour upsampling by two.
    fn upsample_nearest(&self, x: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Latents to tokens of 2 x 2 patches.
    fn patchify(&self, latents: &Tensor, dtype: DType) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// `inside` and `outside` blended by a mask.
    fn blend(&self, inside: &Tensor, outside: &Tensor, mask: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Classifier-free guidance and the inverse of [`patchify`](Self::patchify).
    fn guided_velocity(
        &self,
        cond: &Tensor,
        uncond: Option<&Tensor>,
        guidance: f64,
        size: (usize, usize),
    ) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// A VAE's output as pixels in 0..1.
    fn to_pixels(&self, x: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Checks that the GPU of a number can be used.
    fn check_gpu(&self, ordinal: usize) -> std::result::Result<(), NoGpu> {
        Err(NoGpu::NotBuilt)
    }

    /// Checks that the device multiplies 8-bit floats.
    fn check_fp8(&self, device: &Device) -> std::result::Result<(), Fp8Refusal> {
        Err(Fp8Refusal::Cpu)
    }

    /// Sets up the device's memory pool to keep the memory of dropped tensors.
    fn keep_freed_memory(&self, device: &Device) -> Result<()> {
        Ok(())
    }

    /// Gives what the device's memory pool keeps of dropped tensors back to the driver.
    fn give_back_memory(&self, device: &Device) -> Result<()> {
        Ok(())
    }

    /// Bytes of device memory in use and in total.
    fn device_memory(&self, device: &Device) -> Option<(u64, u64)> {
        None
    }

    /// Bytes of device memory that new tensors can take.
    fn available_memory(&self, device: &Device) -> Option<u64> {
        None
    }

    /// One sentence about the libraries and kernels in use.
    fn describe_paths(&self, placement: &Placement) -> Result<Option<String>> {
        Ok(None)
    }

    /// How the blocks of a placement's transformer, whose heads have width `head_dim`, are
    /// computed.
    fn block_path(&self, placement: &Placement, head_dim: usize) -> Result<Option<BlockPath>> {
        Ok(None)
    }
}
