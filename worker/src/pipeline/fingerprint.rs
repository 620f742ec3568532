//! Fingerprints of a job's request and tensors, by which a snapshot recognises its own job.

use candle_core::{DType, Tensor};
use ovis_protocol::{encode, DenoiseRequest};

use super::error::{Error, Result};
use super::types::DenoiseInputs;

/// A 64-bit FNV-1a hash. It detects a snapshot of another job; it is no protection
/// against a forged one.
///
/// Source: <https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: impl IntoIterator<Item = u8>) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds a tensor's shape and its values as float32.
    fn add_tensor(&mut self, tensor: &Tensor) -> Result<()> {
        let dims = tensor.dims().iter().map(|&dim| dim as u64);
        self.add(dims.flat_map(u64::to_le_bytes));
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?;
        self.add(
            values
                .to_vec1::<f32>()?
                .into_iter()
                .flat_map(f32::to_le_bytes),
        );
        Ok(())
    }
}

/// The fingerprint of a request, of its bytes on the wire.
///
/// # Errors
/// The request cannot be encoded.
pub fn of_request(request: &DenoiseRequest) -> Result<u64> {
    let bytes = encode(request)
        .map_err(|error| Error::invalid(format!("the request cannot be encoded: {error}"), ""))?;
    let mut hash = Fnv::new();
    hash.add(bytes);
    Ok(hash.0)
}

/// The fingerprint of a job's tensors.
///
/// # Errors
/// A tensor cannot be copied from its device.
pub fn of_inputs(inputs: &DenoiseInputs) -> Result<u64> {
    let DenoiseInputs {
        positive,
        negative,
        latent,
        noise_mask,
    } = inputs;
    let mut hash = Fnv::new();
    hash.add_tensor(positive.tensor())?;
    hash.add_tensor(latent.tensor())?;
    let optional = [
        negative.as_ref().map(|negative| negative.tensor()),
        noise_mask.as_ref(),
    ];
    for tensor in optional {
        hash.add([u8::from(tensor.is_some())]);
        if let Some(tensor) = tensor {
            hash.add_tensor(tensor)?;
        }
    }
    Ok(hash.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Conditioning, Latent};

    #[test]
    fn known_hashes() {
        for (text, hash) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            let mut fnv = Fnv::new();
            fnv.add(text.bytes());
            assert_eq!(fnv.0, hash);
        }
    }

    #[test]
    fn every_change_gives_another_fingerprint() {
        let request = DenoiseRequest::new(1, 20, 5.0);
        let mut other = request.clone();
        other.seed = 2;
        assert_ne!(of_request(&request).unwrap(), of_request(&other).unwrap());

        let text = |value| Conditioning::from_values(vec![value; 4], &[1, 2, 2]).unwrap();
        let inputs = DenoiseInputs {
            positive: text(1.0),
            negative: None,
            latent: Latent::from_values(vec![0.0; 4], &[1, 1, 2, 2]).unwrap(),
            noise_mask: None,
        };
        let first = of_inputs(&inputs).unwrap();
        assert_eq!(of_inputs(&inputs.clone()).unwrap(), first);
        for changed in [
            DenoiseInputs {
                positive: text(2.0),
                ..inputs.clone()
            },
            DenoiseInputs {
                negative: Some(text(1.0)),
                ..inputs.clone()
            },
            DenoiseInputs {
                latent: Latent::from_values(vec![0.0; 4], &[1, 1, 4, 1]).unwrap(),
                ..inputs.clone()
            },
            DenoiseInputs {
                noise_mask: Some(text(1.0).tensor().clone()),
                ..inputs.clone()
            },
        ] {
            assert_ne!(of_inputs(&changed).unwrap(), first);
        }
    }
}
