//! Evicted plans are built again, with the same result.

use candle_core::DType;

use super::{assert_close, kernels, random, there, tolerance};
use crate::nn::cuda::plans::MAX_PLANS;
use crate::nn::{attention, Linear, Mask};

/// Runs more shapes than the caches keep, then the first again, without waiting for the device in
/// between.
#[test]
fn more_shapes_than_plans() {
    let dtype = DType::BF16;
    let weight = random(&[32, 64], dtype);
    let on_gpu = Linear::new(there(&weight, dtype), None);
    let plain = Linear::new(weight, None);
    let heads = random(&[1, MAX_PLANS.get() + 8, 2, 64], dtype);
    let heads_there = there(&heads, dtype);
    let rows = random(&[1, MAX_PLANS.get() + 8, 64], dtype);
    let rows_there = there(&rows, dtype);
    for length in (1..=MAX_PLANS.get() + 8).chain([1, 2]) {
        let product = on_gpu.forward(&rows_there.narrow(1, 0, length).unwrap());
        let q = heads_there.narrow(1, 0, length).unwrap();
        let attended = kernels::attention(&q, &q, &q, true).unwrap();
        if length % 100 > 2 {
            continue;
        }
        let what = format!("{length} rows");
        let wanted = plain.forward(&rows.narrow(1, 0, length).unwrap());
        assert_close(&what, &product.unwrap(), &wanted.unwrap(), tolerance(dtype));
        if let Some(attended) = attended {
            let q = heads.narrow(1, 0, length).unwrap();
            let wanted = attention(&q, &q, &q, Mask::Causal).unwrap();
            assert_close(&what, &attended, &wanted, 4.0 * tolerance(dtype));
        }
    }
}
