//! Conversions between latents, tokens and pixels.

use candle_core::DType;

use super::{assert_close, kernels, random, there, tolerance, DTYPES};
use crate::nn::{blend, guided_velocity, patchify, to_pixels, upsample_nearest};

#[test]
fn latents_tokens_and_pixels() {
    for dtype in DTYPES {
        let what = format!("{dtype:?}");
        let latents = random(&[2, 3, 6, 10], DType::F32);
        let plain = patchify(&latents, DType::F32).unwrap();
        let ours = kernels::patchify(&there(&latents, DType::F32), dtype)
            .unwrap()
            .unwrap();
        assert_eq!(ours.dtype(), dtype);
        assert_close(&what, &ours, &plain, tolerance(dtype));

        let (cond, uncond) = (random(&[2, 15, 12], dtype), random(&[2, 15, 12], dtype));
        let (there_cond, there_uncond) = (there(&cond, dtype), there(&uncond, dtype));
        for guided in [true, false] {
            let plain = guided_velocity(&cond, guided.then_some(&uncond), 5.0, (6, 10)).unwrap();
            let uncond = guided.then_some(&there_uncond);
            let ours = kernels::guided_velocity(&there_cond, uncond, 5.0, (6, 10));
            assert_close(&what, &ours.unwrap().unwrap(), &plain, 2e-6);
        }

        let x = random(&[2, 3, 7, 5], dtype);
        let plain = upsample_nearest(&x).unwrap();
        let ours = kernels::upsample_nearest(&there(&x, dtype))
            .unwrap()
            .unwrap();
        assert_close(&what, &ours, &plain, 0.0);
        let plain = to_pixels(&x).unwrap();
        let ours = kernels::to_pixels(&there(&x, dtype)).unwrap().unwrap();
        assert_close(&what, &ours, &plain, 2e-6);
    }
}

#[test]
fn blends() {
    for (batch, masks) in [(1, 1), (3, 1), (3, 3)] {
        let what = format!("{masks} masks of {batch}");
        let (x, y) = (
            random(&[batch, 4, 6, 10], DType::F32),
            random(&[batch, 4, 6, 10], DType::F32),
        );
        let mask = random(&[masks, 1, 6, 10], DType::F32);
        let plain = blend(&x, &y, &mask).unwrap();
        let all = [&x, &y, &mask].map(|t| there(t, DType::F32));
        let ours = kernels::blend(&all[0], &all[1], &all[2]).unwrap().unwrap();
        assert_close(&what, &ours, &plain, 2e-6);
    }
}
