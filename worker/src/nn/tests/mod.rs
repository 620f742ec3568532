//! What the tests of several rooms share, and the gradients of the plain definitions.

mod gradients;

use candle_core::{Device, Error, Tensor};

use super::check_gpu;

/// `|found - wanted| / |wanted|` of float32 tensors.
pub fn relative_error(found: &Tensor, wanted: &Tensor) -> f32 {
    let squares = |t: &Tensor| t.sqr()?.sum_all()?.to_scalar::<f32>();
    let error = || Ok::<_, Error>(squares(&(found - wanted)?)? / squares(wanted)?);
    error().unwrap().sqrt()
}

/// The GPU for tests, or `None` in a build without GPU support.
pub fn test_gpu() -> Option<Device> {
    let built_for_gpus = candle_core::utils::cuda_is_available();
    built_for_gpus.then(|| {
        check_gpu(0).expect("this test needs a GPU");
        Device::new_cuda(0).expect("this test needs a GPU")
    })
}
