//! Sums, activations and changes of type.

use candle_core::{bail, DType, Device, Result, Tensor};

use super::channels_last::{as_planes, lies_together, together};
use super::copy::dense;
use super::runtime::{address, output, pack, shared_gpu, typed_output, Arg, Kernel, THREADS};

/// Most terms of the kernel `scaled_sum`.
const SUM_TERMS: usize = 4;

/// See [`add`](crate::nn::add).
///
/// # Errors
/// The shapes differ, or the device fails.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
    signed_sum(x, y, 1.0)
}

/// See [`subtract`](crate::nn::subtract).
///
/// # Errors
/// The shapes differ, or the device fails.
pub fn subtract(x: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
    signed_sum(x, y, -1.0)
}

/// `x + sign * y`.
fn signed_sum(x: &Tensor, y: &Tensor, sign: f32) -> Result<Option<Tensor>> {
    if shared_gpu(&[x, y]).is_none() {
        return Ok(None);
    }
    let sign = [Arg::Real(sign)];
    if x.dims() != y.dims() {
        bail!("{:?} and {:?} are not of one shape", x.dims(), y.dims());
    }
    if lies_together(x) || lies_together(y) {
        let (x, y) = (together(x)?, together(y)?);
        let out = output(x.dims(), &x)?;
        launch("add", x.dtype(), &[&x, &y], &out, &sign)?;
        return as_planes(&out).map(Some);
    }
    let out = output(x.dims(), x)?;
    launch("add", x.dtype(), &[x, y], &out, &sign)?;
    Ok(Some(out))
}

/// See [`silu`](crate::nn::silu).
///
/// # Errors
/// The device fails.
pub fn silu(x: &Tensor) -> Result<Option<Tensor>> {
    if shared_gpu(&[x]).is_none() {
        return Ok(None);
    }
    let out = output(x.dims(), x)?;
    launch("silu", x.dtype(), &[x], &out, &[])?;
    Ok(Some(out))
}

/// See [`cast`](crate::nn::cast).
///
/// # Errors
/// The device fails.
pub fn cast(x: &Tensor, dtype: DType) -> Result<Option<Tensor>> {
    let Device::Cuda(_) = x.device() else {
        return Ok(None);
    };
    let (kernel, narrow) = match (x.dtype(), dtype) {
        (DType::BF16, DType::F32) => ("widen", x.dtype()),
        (DType::F32, DType::BF16) => ("narrow", dtype),
        _ => return Ok(None),
    };
    let out = typed_output(x.dims(), dtype, x.device())?;
    launch(kernel, narrow, &[x], &out, &[])?;
    Ok(Some(out))
}

/// See [`scaled_sum`](crate::nn::scaled_sum); answers `None` also for other types than
/// float32.
///
/// # Errors
/// The shapes differ, or the device fails.
pub fn scaled_sum(terms: &[(f64, &Tensor)]) -> Result<Option<Tensor>> {
    let tensors: Vec<&Tensor> = terms.iter().map(|(_, tensor)| *tensor).collect();
    let Some(device) = shared_gpu(&tensors) else {
        return Ok(None);
    };
    let first = tensors[0];
    if first.dtype() != DType::F32 {
        return Ok(None);
    }
    if let Some((few, rest)) = terms
        .split_at_checked(SUM_TERMS)
        .filter(|(_, r)| !r.is_empty())
    {
        return match scaled_sum(few)? {
            Some(sum) => scaled_sum(&[&[(1.0, &sum)], rest].concat()),
            None => Ok(None),
        };
    }
    if tensors.iter().any(|tensor| tensor.dims() != first.dims()) {
        bail!("a sum of tensors of other shapes than {:?}", first.dims());
    }
    let tensors = tensors
        .iter()
        .map(|tensor| dense(tensor))
        .collect::<Result<Vec<_>>>()?;
    let out = output(first.dims(), first)?;
    let count = out.elem_count();
    let mut addresses = tensors.iter().map(address).collect::<Result<Vec<_>>>()?;
    addresses.resize(SUM_TERMS, 0);
    addresses.push(address(&out)?);
    let pack = pack(DType::F32, &[count], &addresses);
    let mut factors: Vec<f32> = terms.iter().map(|(factor, _)| *factor as f32).collect();
    factors.resize(SUM_TERMS, 0.0);
    let mut args: Vec<Arg> = addresses.into_iter().map(Arg::At).collect();
    args.push(Arg::Count(count));
    args.extend(factors.into_iter().map(Arg::Real));
    let kernel = Kernel {
        family: "pointwise",
        name: "scaled_sum",
        dtype: DType::F32,
        pack,
    };
    // SAFETY: every tensor that is there holds `count` elements.
    unsafe {
        kernel.launch(&device, (count.div_ceil(pack * THREADS), 1), THREADS, &args)?;
    }
    Ok(Some(out))
}

/// Runs a kernel of `pointwise.cu`, named for `dtype`, from `inputs` of one
/// shape to `out`; it may take `numbers` besides.
fn launch(
    name: &'static str,
    dtype: DType,
    inputs: &[&Tensor],
    out: &Tensor,
    numbers: &[Arg],
) -> Result<()> {
    let Device::Cuda(device) = out.device() else {
        bail!("the output of {name} is not on a GPU");
    };
    let inputs = inputs
        .iter()
        .map(|tensor| dense(tensor))
        .collect::<Result<Vec<_>>>()?;
    let count = out.elem_count();
    let mut addresses = inputs.iter().map(address).collect::<Result<Vec<_>>>()?;
    addresses.push(address(out)?);
    let pack = pack(dtype, &[count], &addresses);
    let mut args: Vec<Arg> = addresses.into_iter().map(Arg::At).collect();
    args.push(Arg::Count(count));
    args.extend_from_slice(numbers);
    let kernel = Kernel {
        family: "pointwise",
        name,
        dtype,
        pack,
    };
    // SAFETY: every tensor holds `count` elements of the types that the kernel
    // has for `dtype`.
    unsafe { kernel.launch(device, (count.div_ceil(pack * THREADS), 1), THREADS, &args) }
}
