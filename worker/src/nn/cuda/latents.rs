//! Between latents, tokens and pixels.

use candle_core::{bail, DType, Device, Result, Tensor};

use super::channels_last::{self, lies_together};
use super::copy::dense;
use super::runtime::{address, output, shared_gpu, typed_output, Arg, Kernel, THREADS};

/// See [`patchify`](crate::nn::patchify).
///
/// # Errors
/// The device fails.
pub fn patchify(latents: &Tensor, dtype: DType) -> Result<Option<Tensor>> {
    if shared_gpu(&[latents]).is_none() || latents.dtype() != DType::F32 || !has_kernels(dtype) {
        return Ok(None);
    }
    let latents = dense(latents)?;
    let (b, c, h, w) = latents.dims4()?;
    let tokens = typed_output(&[b, h * w / 4, 4 * c], dtype, latents.device())?;
    let at = [Arg::At(address(&latents)?), Arg::At(address(&tokens)?)];
    launch("patchify", dtype, &tokens, &at, &[c, h, w], &[])?;
    Ok(Some(tokens))
}

/// See [`blend`](crate::nn::blend).
///
/// # Errors
/// The shapes do not fit, or the device fails.
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
    let mut at = Vec::with_capacity(4);
    for tensor in all.iter().chain([&out]) {
        at.push(Arg::At(address(tensor)?));
    }
    let counts = [c * h * w, h * w, mask_stride];
    launch("blend", DType::F32, &out, &at, &counts, &[])?;
    Ok(Some(out))
}

/// See [`guided_velocity`](crate::nn::guided_velocity).
///
/// # Errors
/// The shapes differ, or the device fails.
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
        Arg::At(address(&cond)?),
        Arg::At(uncond.as_ref().map_or(Ok(0), address)?),
        Arg::At(address(&latents)?),
    ];
    let counts = [channels, height, width];
    let guidance = [Arg::Real(guidance as f32)];
    launch("guided", cond.dtype(), &latents, &at, &counts, &guidance)?;
    Ok(Some(latents))
}

/// See [`upsample_nearest`](crate::nn::upsample_nearest).
///
/// # Errors
/// The device fails.
pub fn upsample_nearest(x: &Tensor) -> Result<Option<Tensor>> {
    if shared_gpu(&[x]).is_none() {
        return Ok(None);
    }
    if lies_together(x) {
        return channels_last::upsample_nearest(x);
    }
    let x = dense(x)?;
    let (b, c, h, w) = x.dims4()?;
    let y = output(&[b, c, 2 * h, 2 * w], &x)?;
    let at = [Arg::At(address(&x)?), Arg::At(address(&y)?)];
    launch("upsample", x.dtype(), &y, &at, &[h, w], &[])?;
    Ok(Some(y))
}

/// See [`to_pixels`](crate::nn::to_pixels).
///
/// # Errors
/// The device fails.
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
    let at = [Arg::At(address(&x)?), Arg::At(address(&pixels)?)];
    launch("to_pixels", x.dtype(), &pixels, &at, &[h * w], &[])?;
    Ok(Some(pixels))
}

fn has_kernels(dtype: DType) -> bool {
    matches!(dtype, DType::BF16 | DType::F32)
}

/// Runs a kernel of `latents.cu`, a thread for each element of `out`: addresses,
/// the count, more counts, numbers.
fn launch(
    name: &'static str,
    dtype: DType,
    out: &Tensor,
    addresses: &[Arg],
    counts: &[usize],
    numbers: &[Arg],
) -> Result<()> {
    let Device::Cuda(device) = out.device() else {
        bail!("the output of {name} is not on a GPU");
    };
    let count = out.elem_count();
    let mut args = addresses.to_vec();
    args.push(Arg::Count(count));
    args.extend(counts.iter().copied().map(Arg::Count));
    args.extend_from_slice(numbers);
    let kernel = Kernel {
        family: "latents",
        name,
        dtype,
        pack: 1,
    };
    // SAFETY: the callers' shapes agree with the counts.
    unsafe { kernel.launch(device, (count.div_ceil(THREADS), 1), THREADS, &args) }
}
