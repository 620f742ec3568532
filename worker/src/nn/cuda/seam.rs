//! The kernels of this folder behind [`Fused`].

use candle_core::{DType, Device, Result, Tensor};

use super::{
    attention, attention_fp8, block, blocks, channels_last, conv, copy, device, fp8, fp8_linear,
    latents, linear, mlp, norm, open, paths, pointwise, pool, rope, rows,
};
use crate::nn::factors::{Factors, HeadFactors, Operands};
use crate::nn::footprint::BlockPath;
use crate::nn::fused::{Fused, ReadyHeads};
use crate::nn::gradients::tracked;
use crate::nn::heads::{HeadNorms, Heads, Pairs, QkBounds, RopeTable};
use crate::nn::no_gpu::NoGpu;
use crate::nn::placement::{Fp8Refusal, Placement};
use crate::nn::scaled_rows::ScaledRows;
use crate::quants::BlockType;

/// NVIDIA GPUs.
pub struct Cuda;

/// Calls `kernel` unless gradients are tracked: kernels have no backward pass.
fn untracked<T: Default>(tensors: &[&Tensor], kernel: impl FnOnce() -> Result<T>) -> Result<T> {
    match tracked(tensors) {
        true => Ok(T::default()),
        false => kernel(),
    }
}

/// Tensors, and a bias where there is one.
fn with_bias<'a>(
    tensors: impl IntoIterator<Item = &'a Tensor>,
    bias: Option<&'a Tensor>,
) -> Vec<&'a Tensor> {
    tensors.into_iter().chain(bias).collect()
}

impl Factors<'_> {
    fn tensors(&self) -> Vec<&Tensor> {
        let mut tensors = match &self.operands {
            Operands::Dense(x, weight) => vec![*x, *weight],
            Operands::Fp8(x, weight) => vec![&x.values, &weight.values],
        };
        tensors.extend(self.update.iter().map(|update| update.inner));
        tensors
    }
}

impl HeadFactors<'_> {
    fn tensors(&self) -> Vec<&Tensor> {
        let mut tensors = self.factors.tensors();
        tensors.extend(self.bias);
        tensors.extend([&self.norms.query, &self.norms.key]);
        tensors
    }
}

impl Fused for Cuda {
    fn attention(&self, [q, k, v]: [&Tensor; 3], causal: bool) -> Result<Option<Tensor>> {
        untracked(&[q, k, v], || attention::attention(q, k, v, causal))
    }

    fn attention_into(&self, [q, k, v]: [&Tensor; 3], out: &Tensor) -> Result<bool> {
        untracked(&[q, k, v], || {
            attention::attention_into(q, k, v, false, out)
        })
    }

    fn attention_fp8(&self, [q, k, v]: [&Tensor; 3], bounds: QkBounds) -> Result<Option<Tensor>> {
        untracked(&[q, k, v], || attention_fp8::attention_fp8(q, k, v, bounds))
    }

    fn attention_fp8_into(
        &self,
        [q, k, v]: [&Tensor; 3],
        bounds: QkBounds,
        out: &Tensor,
    ) -> Result<bool> {
        untracked(&[q, k, v], || {
            attention_fp8::attention_fp8_into(q, k, v, bounds, out)
        })
    }

    fn attention_and_swiglu(
        &self,
        [q, k, v]: [&Tensor; 3],
        up_gate: &Tensor,
    ) -> Result<Option<Tensor>> {
        untracked(&[q, k, v, up_gate], || {
            attention::attention_and_swiglu(q, k, v, up_gate)
        })
    }

    fn single_head(&self, [q, k, v]: [&Tensor; 3], max_scores: usize) -> Result<Option<Tensor>> {
        untracked(&[q, k, v], || rows::single_head(q, k, v, max_scores))
    }

    fn takes_updates(&self, like: &Tensor) -> Result<bool> {
        block::takes_updates(like)
    }

    fn project_heads(
        &self,
        streams: &[HeadFactors],
        heads: Heads,
        rope: &RopeTable,
        bounds: Option<QkBounds>,
    ) -> Result<Option<ReadyHeads>> {
        let tensors: Vec<_> = streams.iter().flat_map(HeadFactors::tensors).collect();
        untracked(&tensors, || {
            block::project_heads(streams, heads, rope, bounds)
        })
    }

    fn project_jointly(
        &self,
        projection: &HeadFactors,
        heads: Heads,
        rope: &RopeTable,
        bounds: Option<QkBounds>,
    ) -> Result<Option<(ReadyHeads, Tensor)>> {
        untracked(&projection.tensors(), || {
            block::project_jointly(projection, heads, rope, bounds)
        })
    }

    fn project_swiglu(&self, factors: &Factors, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
        untracked(&with_bias(factors.tensors(), bias), || {
            block::project_swiglu(factors, bias)
        })
    }

    fn gated_linear(
        &self,
        x: &Tensor,
        gate: &Tensor,
        factors: &Factors,
        bias: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let mut tensors = with_bias(factors.tensors(), bias);
        tensors.extend([x, gate]);
        untracked(&tensors, || block::gated_linear(x, gate, factors, bias))
    }

    fn linear(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Option<Tensor>> {
        untracked(&with_bias([x, weight], bias), || {
            linear::linear(x, weight, bias)
        })
    }

    fn fp8_linear(
        &self,
        x: &ScaledRows,
        weight: &ScaledRows,
        bias: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        untracked(&with_bias([&x.values, &weight.values], bias), || {
            fp8_linear::fp8_linear(x, weight, bias)
        })
    }

    fn quantize_rows(&self, x: &Tensor) -> Result<Option<ScaledRows>> {
        untracked(&[x], || fp8::quantize_rows(x))
    }

    fn rms_norm(&self, x: &Tensor, weight: &Tensor, eps: f64) -> Result<Option<Tensor>> {
        untracked(&[x, weight], || norm::rms_norm(x, weight, eps))
    }

    fn modulated_layer_norm(
        &self,
        x: &Tensor,
        shift: &Tensor,
        scale: &Tensor,
        eps: f64,
    ) -> Result<Option<Tensor>> {
        untracked(&[x, shift, scale], || {
            norm::modulated_layer_norm(x, shift, scale, eps)
        })
    }

    fn modulated_layer_norm_fp8(
        &self,
        x: &Tensor,
        shift: &Tensor,
        scale: &Tensor,
        eps: f64,
    ) -> Result<Option<ScaledRows>> {
        untracked(&[x, shift, scale], || {
            fp8::modulated_layer_norm_fp8(x, shift, scale, eps)
        })
    }

    fn group_norm(
        &self,
        x: &Tensor,
        [weight, bias]: [&Tensor; 2],
        groups: usize,
        eps: f64,
        silu: bool,
    ) -> Result<Option<Tensor>> {
        untracked(&[x, weight, bias], || {
            norm::group_norm(x, weight, bias, groups, eps, silu)
        })
    }

    fn group_moments(&self, x: &Tensor, groups: usize, eps: f64) -> Result<Option<Tensor>> {
        untracked(&[x], || channels_last::group_moments(x, groups, eps))
    }

    fn group_norm_by(
        &self,
        x: &Tensor,
        moments: &Tensor,
        [weight, bias]: [&Tensor; 2],
        silu: bool,
    ) -> Result<Option<Tensor>> {
        untracked(&[x, moments, weight, bias], || {
            channels_last::group_norm_by(x, moments, weight, bias, silu)
        })
    }

    fn qk_norm_rope(
        &self,
        projections: &[(&Tensor, &HeadNorms)],
        heads: Heads,
        pairs: Pairs,
        rope: &RopeTable,
        eps: f64,
    ) -> Result<Option<[Tensor; 3]>> {
        let tensors: Vec<_> = projections
            .iter()
            .flat_map(|(qkv, norms)| [*qkv, &norms.query, &norms.key])
            .collect();
        untracked(&tensors, || {
            let parts = rope::qk_norm_rope(projections, heads, pairs, (&rope.cos, &rope.sin), eps)?;
            Ok(parts.map(|(q, k, v)| [q, k, v]))
        })
    }

    fn swiglu(&self, up_gate: &Tensor) -> Result<Option<Tensor>> {
        untracked(&[up_gate], || mlp::swiglu(up_gate))
    }

    fn gated_residual(&self, x: &Tensor, gate: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
        untracked(&[x, gate, y], || mlp::gated_residual(x, gate, y))
    }

    fn add(&self, x: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
        untracked(&[x, y], || pointwise::add(x, y))
    }

    fn subtract(&self, x: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
        untracked(&[x, y], || pointwise::subtract(x, y))
    }

    fn scaled_sum(&self, terms: &[(f64, &Tensor)]) -> Result<Option<Tensor>> {
        let tensors: Vec<_> = terms.iter().map(|(_, tensor)| *tensor).collect();
        untracked(&tensors, || pointwise::scaled_sum(terms))
    }

    fn silu(&self, x: &Tensor) -> Result<Option<Tensor>> {
        untracked(&[x], || pointwise::silu(x))
    }

    fn mean_magnitude(&self, x: &Tensor, minus: Option<&Tensor>) -> Result<Option<Tensor>> {
        let tensors: Vec<_> = std::iter::once(x).chain(minus).collect();
        untracked(&tensors, || rows::mean_magnitude(x, minus))
    }

    fn cast(&self, x: &Tensor, dtype: DType) -> Result<Option<Tensor>> {
        untracked(&[x], || pointwise::cast(x, dtype))
    }

    fn dense(&self, x: &Tensor) -> Result<Option<Tensor>> {
        untracked(&[x], || copy::dense(x).map(Some))
    }

    fn concat(&self, parts: &[&Tensor], dim: usize) -> Result<Option<Tensor>> {
        untracked(parts, || copy::concat(parts, dim))
    }

    fn embed(&self, table: &Tensor, ids: &[u32]) -> Result<Option<Tensor>> {
        untracked(&[table], || rows::embed(table, ids))
    }

    fn decode_blocks(
        &self,
        bytes: &Tensor,
        at: usize,
        kind: BlockType,
        out: &Tensor,
    ) -> Result<bool> {
        blocks::decode(bytes, at, kind, out)
    }

    fn conv_weight(&self, weight: &Tensor) -> Result<Option<Tensor>> {
        untracked(&[weight], || channels_last::conv_weight(weight))
    }

    fn conv2d(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        stride: usize,
        [before, after]: [usize; 2],
    ) -> Result<Option<Tensor>> {
        untracked(&[x, weight, bias], || {
            conv::conv2d(x, weight, bias, stride, before, after)
        })
    }

    fn upsample_nearest(&self, x: &Tensor) -> Result<Option<Tensor>> {
        untracked(&[x], || latents::upsample_nearest(x))
    }

    fn patchify(&self, latents: &Tensor, dtype: DType) -> Result<Option<Tensor>> {
        untracked(&[latents], || latents::patchify(latents, dtype))
    }

    fn blend(&self, inside: &Tensor, outside: &Tensor, mask: &Tensor) -> Result<Option<Tensor>> {
        untracked(&[inside, outside, mask], || {
            latents::blend(inside, outside, mask)
        })
    }

    fn guided_velocity(
        &self,
        cond: &Tensor,
        uncond: Option<&Tensor>,
        guidance: f64,
        size: (usize, usize),
    ) -> Result<Option<Tensor>> {
        let tensors: Vec<_> = std::iter::once(cond).chain(uncond).collect();
        untracked(&tensors, || {
            latents::guided_velocity(cond, uncond, guidance, size)
        })
    }

    fn to_pixels(&self, x: &Tensor) -> Result<Option<Tensor>> {
        untracked(&[x], || latents::to_pixels(x))
    }

    fn check_gpu(&self, ordinal: usize) -> std::result::Result<(), NoGpu> {
        open::check_gpu(ordinal)
    }

    fn check_fp8(&self, device: &Device) -> std::result::Result<(), Fp8Refusal> {
        match device {
            Device::Cuda(device) => device::check_fp8(device),
            _ => Err(Fp8Refusal::Cpu),
        }
    }

    fn keep_freed_memory(&self, device: &Device) -> Result<()> {
        match device {
            Device::Cuda(device) => pool::keep_freed_memory(device),
            _ => Ok(()),
        }
    }

    fn give_back_memory(&self, device: &Device) -> Result<()> {
        match device {
            Device::Cuda(device) => pool::give_back_memory(device),
            _ => Ok(()),
        }
    }

    fn device_memory(&self, device: &Device) -> Option<(u64, u64)> {
        match device {
            Device::Cuda(device) => device::device_memory(device),
            _ => None,
        }
    }

    fn available_memory(&self, device: &Device) -> Option<u64> {
        match device {
            Device::Cuda(device) => pool::available_memory(device),
            _ => None,
        }
    }

    fn describe_paths(&self, placement: &Placement) -> Result<Option<String>> {
        match &placement.device {
            Device::Cuda(device) => paths::describe_paths(device, placement).map(Some),
            _ => Ok(None),
        }
    }

    fn block_path(&self, placement: &Placement, head_dim: usize) -> Result<Option<BlockPath>> {
        match &placement.device {
            Device::Cuda(device) => paths::block_path(device, placement, head_dim).map(Some),
            _ => Ok(None),
        }
    }
}
