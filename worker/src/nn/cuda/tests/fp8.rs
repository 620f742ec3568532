//! Compares 8-bit floats. The reference rounds with the crate `float8`, which candle uses on CPUs;
//! the kernels round with the GPU's instructions.

use candle_core::{DType, Device, Tensor, D};

use super::{assert_close, gpu, kernels, random, there, values, DTYPES};
use crate::nn::cuda::fp8_linear::{fp8_linear_by, Scaling};
use crate::nn::{modulated_layer_norm_fp8, quantize_rows, Linear, ScaledRows, WeightFormat};

/// Rows on another device.
fn moved(rows: &ScaledRows, device: &Device, dtype: DType) -> ScaledRows {
    ScaledRows {
        values: rows.values.to_device(device).unwrap(),
        scales: rows.scales.to_device(device).unwrap(),
        dtype,
    }
}

fn back(rows: Option<ScaledRows>) -> ScaledRows {
    moved(&rows.expect("the GPU takes it"), &Device::Cpu, DType::F32)
}

/// Rows of very different magnitudes, the second of them zero.
fn uneven(shape: [usize; 3], dtype: DType) -> Tensor {
    let [batch, tokens, _] = shape;
    let sizes: Vec<f32> = (0..batch * tokens)
        .map(|row| match row {
            1 => 0.0,
            _ => 10f32.powi(row as i32 * 7 % 40 - 20),
        })
        .collect();
    let sizes = Tensor::from_vec(sizes, (batch, tokens, 1), &Device::Cpu).unwrap();
    let x = random(&shape, DType::F32).broadcast_mul(&sizes).unwrap();
    x.to_dtype(dtype).unwrap().to_dtype(DType::F32).unwrap()
}

/// Tolerance between fused kernels and the plain expressions. Both round to fp8 at the same places,
/// but sum in different orders, so a few numbers may be rounded to the neighbouring one.
const FUSED: f32 = 5e-3;

/// Largest relative error of rounding to 4 bits: 2^-4.
const ROUNDING: f32 = 0.0625;

#[test]
fn quantized_rows() {
    for dtype in DTYPES {
        for shape in [
            [1, 1, 8],
            [2, 5, 129],
            [3, 17, 3072],
            [1, 3, 15360],
            // More than the threads keep in registers, packed and not.
            [1, 2, 16_392],
            [1, 2, 2049],
        ] {
            let what = format!("{dtype:?} {shape:?}");
            let x = uneven(shape, dtype);
            let plain = quantize_rows(&x).unwrap();
            let ours = back(kernels::quantize_rows(&there(&x, dtype)).unwrap());
            assert_eq!(values(&ours.scales), values(&plain.scales), "{what}");
            assert!(values(&ours.scales).iter().all(|s| s.is_normal()), "{what}");
            let (ours, plain) = (values(&ours.values), values(&plain.values));
            assert!(ours.iter().all(|v| v.abs() <= 448.0), "{what}");
            assert_eq!(ours, plain, "{what}");
        }
        // Columns of wider rows.
        for width in [16, 33] {
            let x = uneven([1, 6, 3 * width], dtype);
            let part = |x: &Tensor| x.narrow(D::Minus1, width, width).unwrap();
            let plain = quantize_rows(&part(&x).contiguous().unwrap()).unwrap();
            let ours = back(kernels::quantize_rows(&part(&there(&x, dtype))).unwrap());
            let (ours, plain) = (ours.dequantize().unwrap(), plain.dequantize().unwrap());
            assert_eq!(values(&ours), values(&plain), "{dtype:?} {width}");
        }
    }
}

#[test]
fn every_number_and_what_lies_between() {
    // From one number to the next in eighths of their distance; ties are rounded to even.
    let numbers: Vec<u8> = (0..127).collect();
    let numbers = Tensor::from_raw_buffer(&numbers, DType::F8E4M3, &[127], &Device::Cpu);
    let numbers = values(&numbers.unwrap());
    let mut row = vec![448.0, -448.0];
    for pair in numbers.windows(2) {
        for eighth in 0..8 {
            let between = pair[0] + (pair[1] - pair[0]) * eighth as f32 / 8.0;
            row.extend([between, -between]);
        }
    }
    let x = Tensor::from_slice(&row, (1, row.len()), &Device::Cpu).unwrap();
    let ours = back(kernels::quantize_rows(&there(&x, DType::F32)).unwrap());
    assert_eq!(values(&ours.scales), [1.0]);
    let plain = quantize_rows(&x).unwrap();
    assert_eq!(values(&ours.values), values(&plain.values));
    for (x, found) in row.iter().zip(values(&ours.values)) {
        let distance = |n: &f32| (x.abs() - n).abs();
        let least = numbers.iter().map(distance).fold(f32::MAX, f32::min);
        assert_eq!((x - found).abs(), least, "{x} became {found}");
    }
}

#[test]
fn modulated_layer_norms() {
    for dtype in DTYPES {
        for (batch, tokens, width) in [(1, 1, 8), (2, 5, 129), (2, 9, 3072), (3, 4, 4104)] {
            let what = format!("{dtype:?} {batch} x {tokens} x {width}");
            let x = random(&[batch, tokens, width], dtype);
            for rows in [1, batch] {
                let modulation = random(&[rows, 3 * width], dtype);
                let part = |t: &Tensor, i: usize| t.narrow(1, i * width, width).unwrap();
                let (shift, scale) = (part(&modulation, 0), part(&modulation, 2));
                let plain = modulated_layer_norm_fp8(&x, &shift, &scale, 1e-6).unwrap();
                let whole = crate::nn::modulated_layer_norm(&x, &shift, &scale, 1e-6).unwrap();
                let modulation = there(&modulation, dtype);
                let (shift, scale) = (part(&modulation, 0), part(&modulation, 2));
                let x = there(&x, dtype);
                let ours = kernels::modulated_layer_norm_fp8(&x, &shift, &scale, 1e-6).unwrap();
                let ours = back(ours).dequantize().unwrap();
                assert_close(&what, &ours, &plain.dequantize().unwrap(), FUSED);
                assert_close(&what, &ours, &whole, ROUNDING);
            }
        }
    }
}

/// The result is rounded to bf16 once or, where a kernel applies the scales, twice. cuBLASLt's fast
/// accumulation truncates the sum to about 14 bits after every 32 products, in the worst case
/// always in the same direction.
fn product_tolerance(inputs: usize) -> f32 {
    4e-3 + (inputs / 32) as f32 * 2f32.powi(-13)
}

#[test]
fn products() {
    for (rows, inputs, outputs) in [
        (1, 16, 16),
        (7, 64, 48),
        (33, 3072, 64),
        (300, 256, 768),
        (77, 15_360, 3072),
    ] {
        for with_bias in [true, false] {
            let x = quantize_rows(&uneven([1, rows, inputs], DType::BF16)).unwrap();
            let weight = random(&[outputs, inputs], DType::BF16);
            let bias = with_bias.then(|| random(&[outputs], DType::BF16));
            let plain = Linear::in_format(weight.clone(), bias.clone(), WeightFormat::Fp8).unwrap();
            let plain = plain.forward_rows(&x).unwrap();
            let weight = moved(&quantize_rows(&weight).unwrap(), &gpu(), DType::BF16);
            let x = moved(&x, &gpu(), DType::BF16);
            let bias = bias.map(|bias| there(&bias, DType::BF16));
            let (tolerance, bias) = (product_tolerance(inputs), bias.as_ref());
            let ours = kernels::fp8_linear(&x, &weight, bias).unwrap();
            let ours = ours.expect("the GPU has fp8");
            for scaling in [Scaling::Product, Scaling::Kernel] {
                let what = format!("{scaling:?} {rows} x {inputs} x {outputs} {with_bias}");
                match fp8_linear_by(scaling, &x, &weight, bias).unwrap() {
                    // The rows' magnitudes differ, so each row is compared on its own.
                    Some(ours) => assert_rows_close(&what, &ours, &plain, tolerance),
                    None => eprintln!("{what}: not on this GPU"),
                }
            }
            assert_rows_close("either", &ours, &plain, tolerance);
        }
    }
}

/// [`assert_close`] for each row separately.
fn assert_rows_close(what: &str, ours: &Tensor, plain: &Tensor, tolerance: f32) {
    assert_eq!(ours.dims(), plain.dims(), "{what}");
    let ours = ours.to_device(&Device::Cpu).unwrap();
    for row in 0..plain.dim(1).unwrap() {
        let (ours, plain) = (
            ours.narrow(1, row, 1).unwrap(),
            plain.narrow(1, row, 1).unwrap(),
        );
        if values(&plain).iter().all(|v| *v == 0.0) {
            assert!(values(&ours).iter().all(|v| *v == 0.0), "{what}: row {row}");
        } else {
            assert_close(&format!("{what}: row {row}"), &ours, &plain, tolerance);
        }
    }
}

#[test]
fn layers_take_bf16_and_make_bf16() {
    let layer = |device: &Device, dtype| {
        let ramp = |shape: &[usize]| {
            let count = shape.iter().product::<usize>();
            let ramp = (0..count).map(|i| (i as f32 * 0.7).sin()).collect();
            let ramp = Tensor::from_vec(ramp, shape, &Device::Cpu).unwrap();
            ramp.to_device(device).unwrap().to_dtype(dtype).unwrap()
        };
        let layer = Linear::in_format(ramp(&[96, 160]), Some(ramp(&[96])), WeightFormat::Fp8);
        (layer.unwrap(), ramp(&[2, 3, 160]))
    };
    let (plain, x) = layer(&Device::Cpu, DType::BF16);
    let plain = plain.forward(&x.to_dtype(DType::F32).unwrap()).unwrap();
    let (ours, x) = layer(&gpu(), DType::BF16);
    let ours = ours.forward(&x).unwrap();
    assert_eq!((ours.dtype(), ours.dims()), (DType::BF16, &[2, 3, 96][..]));
    assert_close("a layer", &ours, &plain, product_tolerance(160));
}
