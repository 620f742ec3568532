//! Copies between memory layouts.

use candle_core::{bail, CudaDevice, DType, Device, Result, Tensor};

use super::address::{address, output};
use super::launch::{launch, Arg, Grid};
use super::layout::THREADS;

/// Number of dimensions that the kernels loop over.
const DIMENSIONS: usize = 4;

/// See [`dense`](crate::nn::dense).
pub fn dense(x: &Tensor) -> Result<Tensor> {
    match (x.is_contiguous(), supported_gpu(x)) {
        (true, _) => Ok(x.clone()),
        (false, None) => x.contiguous(),
        (false, Some(device)) => {
            let y = output(x.dims(), x)?;
            match copy(&device, x, &y)? {
                true => Ok(y),
                false => x.contiguous(),
            }
        }
    }
}

/// See [`concat`](crate::nn::concat).
pub fn concat(parts: &[&Tensor], dim: usize) -> Result<Option<Tensor>> {
    let Some(first) = parts.first() else {
        bail!("nothing to concatenate");
    };
    let Some(device) = supported_gpu(first) else {
        return Ok(None);
    };
    let mut dims = first.dims().to_vec();
    dims[dim] = 0;
    for part in parts {
        let all = part.dims();
        let fits = part.rank() == first.rank()
            && part.dtype() == first.dtype()
            && all[..dim] == dims[..dim]
            && all[dim + 1..] == dims[dim + 1..];
        if !fits {
            bail!("{part:?} cannot be concatenated to {first:?}");
        }
        dims[dim] += all[dim];
    }
    let whole = output(&dims, first)?;
    let mut start = 0;
    for part in parts {
        let length = part.dim(dim)?;
        if !copy(&device, part, &whole.narrow(dim, start, length)?)? {
            return Ok(None);
        }
        start += length;
    }
    Ok(Some(whole))
}

/// The GPU of a tensor, or `None` if it is elsewhere or of an unsupported type.
fn supported_gpu(x: &Tensor) -> Option<CudaDevice> {
    let known = [
        DType::BF16,
        DType::F32,
        DType::F8E4M3,
        DType::U8,
        DType::U32,
    ];
    match x.device() {
        Device::Cuda(device) if known.contains(&x.dtype()) => Some(device.clone()),
        _ => None,
    }
}

/// A dimension of a copy: its length, and the strides of the source and the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Dimension {
    length: usize,
    from: usize,
    to: usize,
}

/// The dimensions of a copy between tensors of one shape, outermost first. Dimensions of length 1
/// are dropped, and neighbours that continue each other in both tensors are merged.
fn dimensions(dims: &[usize], from: &[usize], to: &[usize]) -> Vec<Dimension> {
    let mut merged: Vec<Dimension> = Vec::with_capacity(dims.len());
    for ((&length, &from), &to) in dims.iter().zip(from).zip(to) {
        if length == 1 {
            continue;
        }
        match merged.last_mut() {
            Some(outer) if outer.from == from * length && outer.to == to * length => {
                *outer = Dimension {
                    length: outer.length * length,
                    from,
                    to,
                };
            }
            _ => merged.push(Dimension { length, from, to }),
        }
    }
    merged
}

/// Copies `from` into `to`, a new tensor of the same shape and type. Returns `false` if there are
/// too many dimensions or elements.
fn copy(device: &CudaDevice, from: &Tensor, to: &Tensor) -> Result<bool> {
    let mut dims = dimensions(from.dims(), from.stride(), to.stride());
    if dims.len() > DIMENSIONS {
        return Ok(false);
    }
    let at = [address(from)?, address(to)?];
    let element = from.dtype().size_in_bytes();
    let mut unit = element;
    if let Some((inner, outer)) = dims.split_last_mut() {
        if (inner.from, inner.to) == (1, 1) {
            let fits = |bytes: usize| {
                let mut strides = outer.iter().flat_map(|dim| [dim.from, dim.to]);
                (inner.length * element).is_multiple_of(bytes)
                    && strides.all(|stride| (stride * element).is_multiple_of(bytes))
                    && at.iter().all(|at| at % bytes as u64 == 0)
            };
            let widest = [16, 8, 4, 2].into_iter().find(|&bytes| fits(bytes));
            unit = widest.unwrap_or(element).max(element);
            let elements = unit / element;
            inner.length /= elements;
            for dim in outer {
                dim.from /= elements;
                dim.to /= elements;
            }
        }
    }
    let count: usize = dims.iter().map(|dim| dim.length).product();
    if u32::try_from(count + THREADS).is_err() {
        return Ok(false);
    }
    let one = Dimension {
        length: 1,
        from: 0,
        to: 0,
    };
    let mut all = vec![one; DIMENSIONS - dims.len()];
    all.extend(dims);
    let mut args = vec![Arg::At(at[0]), Arg::At(at[1]), Arg::Count(count)];
    args.extend(all[1..].iter().map(|dim| Arg::Count(dim.length)));
    args.extend(all.iter().map(|dim| Arg::Count(dim.from)));
    args.extend(all.iter().map(|dim| Arg::Count(dim.to)));
    let name = format!("copy_{unit}");
    let grid = Grid::new((count.div_ceil(THREADS), 1), THREADS);
    // SAFETY: both tensors are alive and hold these dimensions at these strides.
    unsafe { launch(device, "copy", name, grid, &args)? };
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dimensions_that_continue_each_other_are_merged() {
        let of = |dims: &[usize], from: &[usize], to: &[usize]| {
            let dims = dimensions(dims, from, to);
            dims.iter()
                .map(|d| (d.length, d.from, d.to))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&[2, 3, 4], &[12, 4, 1], &[12, 4, 1]), [(24, 1, 1)]);
        let narrowed = of(&[2, 3, 4], &[20, 4, 1], &[12, 4, 1]);
        assert_eq!(narrowed, [(2, 20, 12), (12, 1, 1)]);
        let turned = of(&[1, 5, 6, 7], &[210, 6, 1, 30], &[210, 42, 7, 1]);
        assert_eq!(turned, [(30, 1, 7), (7, 30, 1)]);
        let repeated = of(&[3, 4], &[0, 1], &[4, 1]);
        assert_eq!(repeated, [(3, 0, 4), (4, 1, 1)]);
        assert_eq!(of(&[1, 1], &[1, 1], &[1, 1]), []);
    }
}
