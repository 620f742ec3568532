//! Sums, activations and type conversions.

use candle_core::{bail, DType, Device, Result, Tensor};

use super::address::{address, output, shared_gpu, typed_output};
use super::channels_last::{as_channels_first, is_channels_last, to_channels_last};
use super::copy::dense;
use super::launch::{Arg, Kernel};
use super::layout::pack;

/// Largest number of terms of the kernel `scaled_sum`.
const SUM_TERMS: usize = 4;

/// See [`add`](crate::nn::add).
pub fn add(x: &Tensor, y: &Tensor) -> Result<Option<Tensor>> {
    signed_sum(x, y, 1.0)
}

/// See [`subtract`](crate::nn::subtract).
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
    if is_channels_last(x) || is_channels_last(y) {
        let (x, y) = (to_channels_last(x)?, to_channels_last(y)?);
        let out = output(x.dims(), &x)?;
        run("add", x.dtype(), &[&x, &y], &out, &sign)?;
        return as_channels_first(&out).map(Some);
    }
    let out = output(x.dims(), x)?;
    run("add", x.dtype(), &[x, y], &out, &sign)?;
    Ok(Some(out))
}

/// See [`silu`](crate::nn::silu).
pub fn silu(x: &Tensor) -> Result<Option<Tensor>> {
    if shared_gpu(&[x]).is_none() {
        return Ok(None);
    }
    let out = output(x.dims(), x)?;
    run("silu", x.dtype(), &[x], &out, &[])?;
    Ok(Some(out))
}

/// See [`cast`](crate::nn::cast).
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
    run(kernel, narrow, &[x], &out, &[])?;
    Ok(Some(out))
}

/// See [`scaled_sum`](crate::nn::scaled_sum). Returns `None` also for other types than float32.
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
    let factors: Vec<Arg> = factors.into_iter().map(Arg::Real).collect();
    let kernel = Kernel {
        family: "pointwise",
        name: "scaled_sum",
        dtype: DType::F32,
        pack,
    };
    // SAFETY: every tensor that is present holds `count` elements.
    unsafe { kernel.launch_elementwise(&device, count, &addresses, &factors)? };
    Ok(Some(out))
}

/// Runs a kernel of `pointwise.cu`, compiled for `dtype`, from `inputs` of one shape to `out`. Its
/// arguments are the addresses, the number of elements, then `others`.
fn run(
    name: &'static str,
    dtype: DType,
    inputs: &[&Tensor],
    out: &Tensor,
    others: &[Arg],
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
    let kernel = Kernel {
        family: "pointwise",
        name,
        dtype,
        pack,
    };
    // SAFETY: every tensor holds `count` elements of the types that the kernel is compiled for.
    unsafe { kernel.launch_elementwise(device, count, &addresses, others) }
}
