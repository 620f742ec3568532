//! Which libraries and kernels are in use on a device.

use candle_core::{DType, Result};

use super::backend::fused;
use super::footprint::BlockPath;
use super::fused::Fused;
use super::placement::{Placement, WeightFormat};

/// One sentence for the log: what a network is computed with, what is missing, and what that costs.
/// Call it on the thread that computes and after a warm-up, because libraries are opened, and the
/// shapes they refuse become known, at their first use. What no product has tried is said as such.
///
/// # Errors
/// The device's name or capability cannot be queried.
pub fn describe_paths(placement: &Placement) -> Result<String> {
    if let Some(text) = fused().describe_paths(placement)? {
        return Ok(text);
    }
    let threads = candle_core::utils::get_num_threads();
    let plural = if threads == 1 { "" } else { "s" };
    let mut text = format!("CPU, {threads} thread{plural}, float32");
    if placement.products == WeightFormat::Fp8 {
        text += ", large products of factors rounded to fp8";
    }
    if placement.weights == DType::BF16 {
        text += ", weights kept in bf16 and widened for each product, slower than f32's";
    }
    if !candle_core::utils::cuda_is_available() {
        text += "; built without GPU support";
    }
    Ok(text)
}

/// How the blocks of a placement's transformer, whose heads have width `head_dim`, are computed. Call it on the thread that computes:
/// libraries are opened for each thread.
pub fn block_path(placement: &Placement, head_dim: usize) -> BlockPath {
    match placement.device.is_cpu() {
        true => BlockPath::Cpu,
        // A device that cannot be asked counts as the path that takes the most memory.
        false => fused()
            .block_path(placement, head_dim)
            .ok()
            .flatten()
            .unwrap_or(BlockPath::Plain),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn on_cpu(weights: DType) -> String {
        let placement = Placement {
            device: Device::Cpu,
            weights,
            products: WeightFormat::Dense,
        };
        assert_eq!(block_path(&placement, 128), BlockPath::Cpu);
        describe_paths(&placement).unwrap()
    }

    #[test]
    fn a_cpu_says_its_threads_and_types() {
        let found = on_cpu(DType::F32);
        let threads = candle_core::utils::get_num_threads();
        assert!(
            found.starts_with(&format!("CPU, {threads} thread")),
            "{found}"
        );
        assert!(found.contains(", float32"), "{found}");
        assert!(!found.contains("bf16"), "{found}");
        assert!(on_cpu(DType::BF16).contains("weights kept in bf16"));
        let built_for_gpus = candle_core::utils::cuda_is_available();
        assert_eq!(found.contains("GPU"), !built_for_gpus);
    }
}
