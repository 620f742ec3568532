//! A GPU that has failed for good. Such a failure stays with the process, so this test has one of
//! its own: `cargo test … lost_device -- --ignored`.

use candle_core::{DType, Tensor};

use super::{gpu, there};

#[test]
#[ignore = "it leaves this process without a GPU"]
fn a_gpu_that_has_read_outside_its_memory_answers_nothing_but_errors() {
    let gpu = gpu();
    gpu.synchronize().unwrap();
    let table = there(
        &Tensor::zeros((16, 1 << 20), DType::F32, &candle_core::Device::Cpu).unwrap(),
        DType::F32,
    );
    // candle does not look whether a row is there, and 2^31 rows on there is no memory.
    let rows = Tensor::new(&[1u32 << 31], &gpu).unwrap();
    let _ = table.index_select(&rows, 0);
    for _ in 0..3 {
        assert!(gpu.synchronize().is_err());
    }
}
