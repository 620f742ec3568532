//! Sums, means, activations and type conversions.

use candle_core::{DType, Tensor};

use super::{assert_close, gpu, kernels, random, there, tolerance, DTYPES};
use crate::nn::{mean_magnitude, scaled_sum};

#[test]
fn pointwise() {
    for dtype in DTYPES {
        for shape in [[1, 1], [3, 7], [16, 1024], [5, 4104]] {
            let what = format!("{dtype:?} {shape:?}");
            let (x, y) = (random(&shape, dtype), random(&shape, dtype));
            let (a, b) = (there(&x, dtype), there(&y, dtype));
            let sum = kernels::add(&a, &b).unwrap().unwrap();
            assert_close(&what, &sum, &(&x + &y).unwrap(), tolerance(dtype));
            let difference = kernels::subtract(&a, &b).unwrap().unwrap();
            assert_close(&what, &difference, &(&x - &y).unwrap(), tolerance(dtype));
            let ours = kernels::silu(&a).unwrap().unwrap();
            assert_close(&what, &ours, &x.silu().unwrap(), tolerance(dtype));
        }
    }
    for shape in [[1, 1], [3, 7], [5, 4104]] {
        let tensors: Vec<Tensor> = (0..6).map(|_| random(&shape, DType::F32)).collect();
        let on_gpu: Vec<Tensor> = tensors.iter().map(|t| there(t, DType::F32)).collect();
        for count in 1..=6 {
            let factors = [0.5, -2.0, 1.25, 3.0, -0.75, 7.0];
            let plain: Vec<_> = factors.into_iter().zip(&tensors).take(count).collect();
            let ours: Vec<_> = factors.into_iter().zip(&on_gpu).take(count).collect();
            let sum = kernels::scaled_sum(&ours).unwrap().unwrap();
            assert_close(
                &format!("{shape:?} {count}"),
                &sum,
                &scaled_sum(&plain).unwrap(),
                2e-6,
            );
        }
    }
    let x = random(&[5, 129], DType::BF16);
    let narrow = kernels::cast(&there(&x, DType::F32), DType::BF16)
        .unwrap()
        .unwrap();
    assert_eq!(narrow.dtype(), DType::BF16);
    assert_close("narrow", &narrow, &x, 0.0);
    let wide = kernels::cast(&narrow, DType::F32).unwrap().unwrap();
    assert_eq!(wide.dtype(), DType::F32);
    assert_close("widen", &wide, &x, 0.0);
}

#[test]
fn mean_magnitudes() {
    for dtype in DTYPES {
        // Less than one thread block, and several, with the last one full and not.
        for shape in [[1, 1], [3, 7], [16, 4096], [37, 4104], [41, 4099]] {
            let what = format!("{dtype:?} {shape:?}");
            let (x, y) = (random(&shape, dtype), random(&shape, dtype));
            let (a, b) = (there(&x, dtype), there(&y, dtype));
            for (minus, theirs) in [(None, None), (Some(&y), Some(&b))] {
                let plain = mean_magnitude(&x, minus).unwrap();
                let ours = kernels::mean_magnitude(&a, theirs).unwrap().unwrap();
                assert_eq!(ours.dtype(), DType::F32);
                assert_close(&what, &ours, &plain, 2e-6);
            }
        }
    }
    let nan = Tensor::new(&[1.0, f32::NAN], &gpu()).unwrap();
    let mean = kernels::mean_magnitude(&nan, None).unwrap().unwrap();
    assert!(mean.to_scalar::<f32>().unwrap().is_nan());
}
