//! Compares channels-last images with the same images in channels-first layout.

use candle_core::{DType, Tensor};

use super::{assert_close, kernels, random, there, tolerance, DTYPES};
use crate::nn::{group_norm, upsample_nearest, Conv2d, GroupNorm};

/// The same image in channels-last layout.
fn channels_last(x: &Tensor) -> Tensor {
    let last = x.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    last.permute((0, 3, 1, 2)).unwrap()
}

#[test]
fn group_norms() {
    for dtype in DTYPES {
        // One chunk and several; packs that divide a block's threads and that do not; groups
        // narrower and wider than a pack; channel counts that are not a multiple of a pack.
        for (batch, channels, height, width, groups) in [
            (1, 32, 2, 3, 32),
            (2, 96, 16, 24, 32),
            (1, 128, 67, 131, 32),
            (2, 512, 33, 20, 32),
            (1, 36, 50, 50, 12),
        ] {
            for silu in [false, true] {
                // An offset, which reveals cancellation in the statistics.
                let x = (random(&[batch, channels, height, width], dtype) + 4.0).unwrap();
                let x = x.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
                let (weight, bias) = (random(&[channels], dtype), random(&[channels], dtype));
                let plain = group_norm(&x, &weight, &bias, groups, 1e-6, silu).unwrap();
                let ours = kernels::group_norm(
                    &channels_last(&there(&x, dtype)),
                    &there(&weight, dtype),
                    &there(&bias, dtype),
                    groups,
                    1e-6,
                    silu,
                );
                let ours = ours.unwrap().unwrap();
                assert!(crate::nn::cuda::channels_last::is_channels_last(&ours));
                let what = format!("{dtype:?} {batch} x {channels} x {height} x {width} {silu}");
                // With an offset of 4, float32 has two bits less for the deviations.
                let tolerance = tolerance(dtype).max(8e-6);
                assert_close(&what, &ours, &plain, tolerance);
            }
        }
    }
}

#[test]
fn group_norms_of_parts() {
    for dtype in DTYPES {
        let norm = |put: &dyn Fn(&Tensor) -> Tensor, weight: &Tensor, bias: &Tensor| {
            GroupNorm::new(put(weight), put(bias), 32, 1e-6)
        };
        let x = (random(&[1, 128, 67, 31], dtype) + 4.0).unwrap();
        let x = x.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap();
        let (weight, bias) = (random(&[128], dtype), random(&[128], dtype));
        let plain = norm(&Tensor::clone, &weight, &bias);
        let plain = plain.forward(&x, true).unwrap();
        let ours = norm(&|t| there(t, dtype), &weight, &bias);
        let x = channels_last(&there(&x, dtype));
        let part = |start, rows| x.narrow(2, start, rows).unwrap();
        let upper = ours.moments(&part(0, 20)).unwrap();
        let whole = upper.with(&ours.moments(&part(20, 47)).unwrap());
        for (start, rows) in [(0, 67), (20, 47)] {
            let made = ours.forward_by(&part(start, rows), &whole, true).unwrap();
            let plain = plain.narrow(2, start, rows).unwrap();
            assert_close(
                &format!("{dtype:?} {start}"),
                &made,
                &plain,
                tolerance(dtype).max(8e-6),
            );
        }
    }
}

#[test]
fn enlargement_and_sums() {
    for dtype in DTYPES {
        for channels in [3, 32] {
            let what = format!("{dtype:?} {channels}");
            let x = random(&[2, channels, 7, 5], dtype);
            let plain = upsample_nearest(&x).unwrap();
            let last = channels_last(&there(&x, dtype));
            let ours = kernels::upsample_nearest(&last).unwrap().unwrap();
            assert_close(&what, &ours, &plain, 0.0);

            let y = random(&[2, channels, 7, 5], dtype);
            let plain = (&x + &y).unwrap();
            // The other operand may have either layout.
            for y in [there(&y, dtype), channels_last(&there(&y, dtype))] {
                for (a, b) in [(&last, &y), (&y, &last)] {
                    let ours = kernels::add(a, b).unwrap().unwrap();
                    assert_close(&what, &ours, &plain, tolerance(dtype));
                }
            }
        }
    }
}

#[test]
fn convolutions_follow_each_other() {
    let dtype = DType::BF16;
    let x = random(&[1, 64, 17, 12], dtype);
    let weight = random(&[64, 64, 3, 3], dtype);
    let bias = random(&[64], dtype);
    let convolution = Conv2d::new(weight.clone(), bias.clone(), 1).unwrap();
    let plain = convolution.forward(&x, 1, 1).unwrap();
    let convolution = Conv2d::new(there(&weight, dtype), there(&bias, dtype), 1).unwrap();
    for x in [there(&x, dtype), channels_last(&there(&x, dtype))] {
        let ours = convolution.forward(&x, 1, 1).unwrap();
        assert!(crate::nn::cuda::channels_last::is_channels_last(&ours));
        assert_close("either way", &ours, &plain, tolerance(dtype));
    }
}
