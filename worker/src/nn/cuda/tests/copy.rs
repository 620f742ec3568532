//! Copies between memory layouts keep every bit.

use candle_core::{DType, Tensor};

use super::{assert_close, kernels, random, there, DTYPES};

fn parts(tensor: &Tensor) -> Vec<(&'static str, Tensor)> {
    let (b, c, h, w) = tensor.dims4().unwrap();
    vec![
        ("turned", tensor.permute((0, 2, 3, 1)).unwrap()),
        ("turned twice", tensor.permute((3, 1, 0, 2)).unwrap()),
        ("narrow", tensor.narrow(1, 1, c - 1).unwrap()),
        ("narrower", tensor.narrow(3, 1, w - 1).unwrap()),
        (
            "repeated",
            tensor
                .narrow(2, 0, 1)
                .unwrap()
                .expand((b, c, h, w))
                .unwrap(),
        ),
        ("whole", tensor.clone()),
    ]
}

#[test]
fn strided() {
    for dtype in DTYPES {
        // Widths that move 16, 8, 4 and fewer bytes at a time.
        for shape in [
            [1, 2, 1, 2],
            [2, 3, 5, 7],
            [2, 3, 5, 64],
            [1, 16, 3, 12],
            [2, 4, 3, 10],
        ] {
            let x = random(&shape, dtype);
            let y = there(&x, dtype);
            for ((what, here), (_, theirs)) in parts(&x).into_iter().zip(parts(&y)) {
                let ours = kernels::dense(&theirs).unwrap();
                assert!(ours.is_contiguous());
                assert_close(&format!("{dtype:?} {shape:?} {what}"), &ours, &here, 0.0);
            }
        }
    }
}

#[test]
fn concatenated() {
    for dtype in DTYPES {
        for dim in 0..3 {
            let sizes = [[2, 3, 8], [2, 3, 8], [2, 3, 8]];
            let parts: Vec<Tensor> = (1..)
                .zip(sizes)
                .map(|(factor, mut size)| {
                    size[dim] *= factor;
                    random(&size, dtype)
                })
                .collect();
            let whole = Tensor::cat(&parts, dim).unwrap();
            let parts: Vec<Tensor> = parts.iter().map(|part| there(part, dtype)).collect();
            let parts: Vec<&Tensor> = parts.iter().collect();
            let ours = kernels::concat(&parts, dim).unwrap().unwrap();
            assert_close(&format!("{dtype:?} {dim}"), &ours, &whole, 0.0);
        }
    }
    let odd = [
        there(&random(&[2, 3], DType::F32), DType::F32),
        there(&random(&[2, 4], DType::F32), DType::F32),
    ];
    assert!(kernels::concat(&[&odd[0], &odd[1]], 0).is_err());
}
