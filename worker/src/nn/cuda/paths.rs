//! Which libraries and kernels do a GPU's work.

use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaDevice, DType, Result};

use super::block::HEAD_DIM;
use super::libraries::{cudnn, hopper, products};
use super::products::{Factors, Products};
use crate::nn::footprint::BlockPath;
use crate::nn::placement::{Placement, WeightFormat};

/// See [`describe_paths`](crate::nn::describe_paths).
pub fn describe_paths(device: &CudaDevice, placement: &Placement) -> Result<String> {
    let context = device.cuda_stream().context().clone();
    let name = context.name().w()?;
    let (major, minor) = context.compute_capability().w()?;
    let fp8 = placement.products == WeightFormat::Fp8;
    let own = hopper(device)?.is_some_and(|hopper| hopper.has(fp8));
    let mut parts = matrix_products(&*products(device)?, placement, own);
    match cudnn(device)? {
        Some(cudnn) => {
            let version = cudnn.version();
            parts.push(match placement.weights {
                DType::BF16 => format!("attention and convolutions by {version}"),
                _ => format!(
                    "convolutions by {version}, attention by plain products, since cuDNN has none \
                     in float32"
                ),
            });
            match cudnn.refused() {
                0 => {}
                shapes => parts.push(format!(
                    "{shapes} shapes that cuDNN has no plan for by plain products, slower"
                )),
            }
        }
        None => parts.push(
            "cuDNN was not found: attention and convolutions by plain products, slower and with \
             more memory"
                .into(),
        ),
    }
    parts.push("all else by kernels of our own".into());
    Ok(format!(
        "{name} (compute capability {major}.{minor}): {}",
        parts.join(", ")
    ))
}

/// See [`block_path`](crate::nn::block_path).
pub fn block_path(
    device: &CudaDevice,
    placement: &Placement,
    head_dim: usize,
) -> Result<BlockPath> {
    let fp8 = placement.products == WeightFormat::Fp8;
    if placement.weights != DType::BF16 || cudnn(device)?.is_none() {
        return Ok(BlockPath::Plain);
    }
    Ok(
        match hopper(device)?.is_some_and(|own| own.has(fp8) && head_dim == HEAD_DIM) {
            true => BlockPath::Own { fp8 },
            false => BlockPath::Library { fp8 },
        },
    )
}

/// What multiplies matrices, by type of factor. `own` tells whether the transformer's large
/// products use kernels of our own.
fn matrix_products(products: &Products, placement: &Placement, own: bool) -> Vec<String> {
    let fp8 = placement.products == WeightFormat::Fp8;
    let mut parts = Vec::new();
    if own {
        let kind = if fp8 { "fp8" } else { "bf16" };
        parts.push(format!(
            "{kind} products of the transformer's blocks by Hopper kernels of our own, with what \
             follows them"
        ));
    } else if fp8 {
        let has = |factors| products.support(factors) == Some(true);
        parts.push(match (has(Factors::Fp8Scaled), has(Factors::Fp8)) {
            (true, false) => "fp8 products by cuBLASLt with the scales in the product",
            (true, true) => {
                "fp8 products by cuBLASLt, the scales in most products and for some by a kernel \
                 after them, slower"
            }
            (false, true) => {
                "fp8 products by cuBLASLt and the scales by a kernel after them, slower than in \
                 the product"
            }
            (false, false) => "fp8 products not tried yet",
        }
        .to_owned());
    }
    let others = match (placement.weights, products.support(Factors::Bf16)) {
        (DType::BF16, Some(true)) => "bf16 products by cuBLASLt",
        (DType::BF16, Some(false)) => "bf16 products by cuBLAS and the bias after them, slower",
        (DType::BF16, None) => "bf16 products not tried yet",
        _ => "float32 products by cuBLAS",
    };
    parts.push(match own {
        true => format!("other {others}"),
        false => others.to_owned(),
    });
    parts
}
