//! Conversions between latents, tokens and pixels.

use candle_core::{bail, DType, Device, Result, Tensor};

use super::address::{address, output, shared_gpu, typed_output};
use super::channels_last::{self, is_channels_last};
use super::copy::dense;
use super::launch::{Arg, Kernel};

/// See [`patchify`](crate::nn::patchify).
pub fn patchify(latents: &Tensor, dtype: DType) -> Result<Option<Tensor>> {
    if shared_gpu(&[latents]).is_none() || latents.dtype() != DType::F32 || !has_kernels(dtype) {
        return Ok(None);
    }
    let latents = dense(latents)?;
    let (b, c, h, w) = latents.dims4()?;
    let tokens = typed_output(&[b, h * w / 4, 4 * c], dtype, latents.device())?;
    let at = [address(&latents)?, address(&tokens)?];
    run("patchify", dtype, &tokens, &at, &[c, h, w].map(Arg::Count))?;
    Ok(Some(tokens))
}

/// See [`blend`](crate::nn::blend).
pub fn blend(inside: &Tensor, outside: &Tensor, mask: &Tensor) -> Result<Option<Tensor>> {
    let all = [inside, outside, mask];
    if shared_gpu(&all).is_none() || inside.dtype() != DType::F32 {
        return Ok(None);
    }
    let (b, c, h, w) = inside.dims4()?;
    let fits = mask.dims() == [1, 1, h, w] || mask.dims() == [b, 1, h, w];
    if inside.dims() != outside.dims() || !fits {
        bail!("a mask {mask:?} does not fit {inside:?} and {outside:?}");
    }
    let mask_stride = if mask.dims()[0] == 1 { 0 } else { h * w };
    let all = [dense(inside)?, dense(outside)?, dense(mask)?];
    let out = output(inside.dims(), inside)?;
    let at = all.iter().chain([&out]).map(address);
    let at = at.collect::<Result<Vec<_>>>()?;
    let counts = [c * h * w, h * w, mask_stride].map(Arg::Count);
    run("blend", DType::F32, &out, &at, &counts)?;
    Ok(Some(out))
}

/// See [`guided_velocity`](crate::nn::guided_velocity).
pub fn guided_velocity(
    cond: &Tensor,
    uncond: Option<&Tensor>,
    guidance: f64,
    (height, width): (usize, usize),
) -> Result<Option<Tensor>> {
    let cond = dense(cond)?;
    let uncond = uncond.map(dense).transpose()?;
    let both: Vec<&Tensor> = std::iter::once(&cond).chain(uncond.as_ref()).collect();
    if shared_gpu(&both).is_none() {
        return Ok(None);
    }
    let (b, tokens, packed) = cond.dims3()?;
    if uncond.as_ref().is_some_and(|u| u.dims() != cond.dims()) || 4 * tokens != height * width {
        bail!("velocities {:?} do not fit {height} x {width}", cond.dims());
    }
    let channels = packed / 4;
    let latents = typed_output(&[b, channels, height, width], DType::F32, cond.device())?;
    let at = [
        address(&cond)?,
        uncond.as_ref().map_or(Ok(0), address)?,
        address(&latents)?,
    ];
    let others = [
        Arg::Count(channels),
        Arg::Count(height),
        Arg::Count(width),
        Arg::Real(guidance as f32),
    ];
    run("guided", cond.dtype(), &latents, &at, &others)?;
    Ok(Some(latents))
}

/// See [`upsample_nearest`](crate::nn::upsample_nearest).
pub fn upsample_nearest(x: &Tensor) -> Result<Option<Tensor>> {
    if shared_gpu(&[x]).is_none() {
        return Ok(None);
    }
    if is_channels_last(x) {
        return channels_last::upsample_nearest(x);
    }
    let x = dense(x)?;
    let (b, c, h, w) = x.dims4()?;
    let y = output(&[b, c, 2 * h, 2 * w], &x)?;
    let at = [address(&x)?, address(&y)?];
    run("upsample", x.dtype(), &y, &at, &[h, w].map(Arg::Count))?;
    Ok(Some(y))
}

/// See [`to_pixels`](crate::nn::to_pixels).
pub fn to_pixels(x: &Tensor) -> Result<Option<Tensor>> {
    if shared_gpu(&[x]).is_none() {
        return Ok(None);
    }
    let x = dense(x)?;
    let (b, colours, h, w) = x.dims4()?;
    if colours != 3 {
        bail!("pixels have 3 colours, not {colours}");
    }
    let pixels = typed_output(&[b, h, w, 3], DType::F32, x.device())?;
    let at = [address(&x)?, address(&pixels)?];
    run("to_pixels", x.dtype(), &pixels, &at, &[Arg::Count(h * w)])?;
    Ok(Some(pixels))
}

/// Whether the kernels are compiled for a type.
fn has_kernels(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::F32)
}

/// Runs a kernel of `latents.cu` with one thread per element of `out`. Its arguments are
/// `addresses`, the number of elements, then `others`.
fn run(
    name: &'static str,
    dtype: DType,
    out: &Tensor,
    addresses: &[u64],
    others: &[Arg],
) -> Result<()> {
    let Device::Cuda(device) = out.device() else {
        bail!("the output of {name} is not on a GPU");
    };
    let kernel = Kernel {
        family: "latents",
        name,
        dtype,
        pack: 1,
    };
    // SAFETY: the callers' shapes agree with the counts.
    unsafe { kernel.launch_elementwise(device, out.elem_count(), addresses, others) }
}
