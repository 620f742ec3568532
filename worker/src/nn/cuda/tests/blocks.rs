//! Compares weights in blocks with the decoders on a CPU, whose values they must have bit for bit.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};
use half::bf16;

use super::{gpu, random, there, values, DTYPES};
use crate::nn::cuda::blocks::decode;
use crate::nn::{Linear, PackedRows, Placement, WeightFormat};
use crate::quants::{self, BlockType};

/// Blocks of random values that are not centred at 0, so that minima differ from 0 too.
fn blocks(kind: BlockType, count: usize) -> Vec<u8> {
    let encoded = random(&[count * kind.values()], DType::F32);
    let wide = (encoded.exp().unwrap() * 3.0).unwrap();
    quants::encode(kind, &(wide - 4.0).unwrap().to_vec1::<f32>().unwrap())
}

#[test]
fn decoded_values_are_those_of_a_cpu() {
    let device = gpu();
    for kind in BlockType::ALL {
        let (rows, columns) = (37, 768);
        let bytes = blocks(kind, rows * columns / kind.values());
        // Blocks that do not start at the tensor's first byte.
        let shifted: Vec<u8> = [0; 256].into_iter().chain(bytes.iter().copied()).collect();
        let there = Tensor::from_slice(&shifted, shifted.len(), &device).unwrap();
        for dtype in DTYPES {
            let out = Tensor::zeros((rows, columns), dtype, &device).unwrap();
            assert!(decode(&there, 256, kind, &out).unwrap());
            let wanted = quants::decode::<f32>(kind, &bytes);
            let wanted: Vec<f32> = match dtype {
                DType::BF16 => wanted.iter().map(|x| bf16::from_f32(*x).to_f32()).collect(),
                _ => wanted,
            };
            let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&values(&out)), bits(&wanted), "{kind} {dtype:?}");
        }
    }
}

#[test]
fn products_are_those_of_the_decoded_weight() {
    let device = gpu();
    for kind in BlockType::ALL {
        let (rows, columns) = (512, 1024);
        let bytes = blocks(kind, rows * columns / kind.values());
        let decoded = quants::decode::<f32>(kind, &bytes);
        let decoded = Tensor::from_vec(decoded, (rows, columns), &Device::Cpu).unwrap();
        let placement = Placement {
            device: device.clone(),
            weights: DType::BF16,
            products: WeightFormat::Blocks(kind),
        };
        let packed = PackedRows {
            kind,
            rows,
            bytes: Cow::Owned(bytes),
        };
        let packed = Linear::in_blocks(&[packed], columns, None, &placement);
        let packed = packed.unwrap().expect("rows of whole blocks");
        let dense = Linear::new(there(&decoded, DType::BF16), None);
        let x = there(&random(&[2, 33, columns], DType::BF16), DType::BF16);
        let (found, wanted) = (packed.forward(&x).unwrap(), dense.forward(&x).unwrap());
        assert_eq!(values(&found), values(&wanted), "{kind}");
    }
}
