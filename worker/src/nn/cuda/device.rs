//! What a GPU has: fp8 units and memory.

use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::CudaDevice;

use crate::nn::placement::Fp8Refusal;

/// The lowest compute capability whose tensor cores multiply 8-bit floats: Ada's.
const FP8_CAPABILITY: (i32, i32) = (8, 9);

/// Checks that the GPU multiplies 8-bit floats.
pub fn check_fp8(device: &CudaDevice) -> std::result::Result<(), Fp8Refusal> {
    let context = device.cuda_stream().context().clone();
    let (major, minor) = context
        .compute_capability()
        .map_err(|error| Fp8Refusal::Unknown(error.into()))?;
    match (major, minor) >= FP8_CAPABILITY {
        true => Ok(()),
        false => Err(Fp8Refusal::OldGpu { major, minor }),
    }
}

/// bf16 operations of the tensor cores per clock and multiprocessor, with sums in float32, from the
/// first capability on that has as many. Source: NVIDIA's architecture papers, as the peak rate of a
/// card divided by its multiprocessors and boost clock (A100 312, RTX 3090 71, H100 989, B200 2250
/// and RTX 5090 209.5 TFLOP/s).
const OPERATIONS_PER_CLOCK: [((i32, i32), f64); 5] = [
    ((8, 0), 2048.0),
    ((8, 6), 512.0),
    ((9, 0), 4096.0),
    ((10, 0), 8192.0),
    ((12, 0), 512.0),
];

/// The part of the peak rate that large products reach: 650 of 1,070 TFLOP/s on an H100.
const REACHED: f64 = 0.6;

/// See [`arithmetic_speed`](crate::nn::arithmetic_speed).
pub fn arithmetic(device: &CudaDevice) -> Option<f64> {
    use sys::CUdevice_attribute as Attribute;
    let context = device.cuda_stream().context().clone();
    let capability = context.compute_capability().ok()?;
    let (_, operations) = OPERATIONS_PER_CLOCK
        .into_iter()
        .rev()
        .find(|(first, _)| *first <= capability)?;
    let count = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    let kilohertz = context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
    let clocks = f64::from(count.ok()?) * f64::from(kilohertz.ok()?) * 1e3;
    Some(clocks * operations * REACHED)
}

/// Bytes of the GPU's memory in use and in total.
pub fn device_memory(device: &CudaDevice) -> Option<(u64, u64)> {
    // A thread that has not used the GPU yet has no current context.
    device.cuda_stream().context().bind_to_thread().ok()?;
    let (free, total) = result::mem_get_info().ok()?;
    Some(((total - free) as u64, total as u64))
}
