//! Which ways of computing are in use on a device.

use candle_core::{DType, Result};

#[cfg(feature = "cuda")]
use super::cuda;
use super::Placement;

/// One sentence for the log about what a network computes with where it lives, what is
/// missing there, and what that costs. To be asked on the thread that computes and after a
/// warm-up: a library is only opened, and what it refuses only known, once it was needed.
///
/// # Errors
/// The device fails.
pub fn describe_paths(placement: &Placement) -> Result<String> {
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = &placement.device {
        return cuda::describe_paths(device, placement);
    }
    let threads = candle_core::utils::get_num_threads();
    let plural = if threads == 1 { "" } else { "s" };
    let mut text = format!("CPU, {threads} thread{plural}, float32");
    if placement.fp8 {
        text += ", large products of factors rounded to fp8";
    }
    if placement.weights == DType::BF16 {
        text += ", weights kept in bf16 and widened for each product, slower than f32's";
    }
    if !cfg!(feature = "cuda") {
        text += "; built without GPU support";
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn on_cpu(weights: DType) -> String {
        let placement = Placement {
            device: Device::Cpu,
            weights,
            fp8: false,
        };
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
        assert_eq!(found.contains("GPU"), !cfg!(feature = "cuda"));
    }
}
