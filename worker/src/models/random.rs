//! Random weights in place of a checkpoint's, for measuring without one.

use candle_core::{Device, Result, Tensor};

use crate::nn::Placement;

/// Normal values on a device that weights are made of: of a size as a trained network's,
/// so that activations stay finite, and random bits, so that a GPU takes the power it takes.
pub struct RandomWeights {
    pool: Tensor,
    placement: Placement,
}

impl RandomWeights {
    /// Weights cut from a pool of normal values, since drawing billions would take longer
    /// than what is to be measured.
    ///
    /// # Errors
    /// The device fails.
    pub fn new(pool: Vec<f32>, placement: &Placement) -> Result<Self> {
        let length = pool.len();
        Ok(Self {
            pool: Tensor::from_vec(pool, length, &Device::Cpu)?.to_device(&placement.device)?,
            placement: placement.clone(),
        })
    }

    /// A tensor of this name and shape: norms are one and biases zero, others normal with
    /// the deviation that keeps the size of what goes through them.
    ///
    /// # Errors
    /// The device fails.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Placement {
            device, weights, ..
        } = &self.placement;
        if let [_] = shape {
            return match name.ends_with("bias") {
                true => Tensor::zeros(shape, *weights, device),
                false => Tensor::ones(shape, *weights, device),
            };
        }
        let count: usize = shape.iter().product();
        let inputs = count / shape[0];
        let pool = self.pool.elem_count();
        let scaled = (&self.pool * (inputs as f64).powf(-0.5))?.to_dtype(*weights)?;
        let mut pieces = vec![scaled.clone(); count / pool];
        if !count.is_multiple_of(pool) {
            pieces.push(scaled.narrow(0, 0, count % pool)?);
        }
        Tensor::cat(&pieces, 0)?.reshape(shape)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::nn::WeightFormat;

    #[test]
    fn matrices_keep_the_size_of_what_goes_through_them() {
        let placement = Placement {
            device: Device::Cpu,
            weights: DType::F32,
            products: WeightFormat::Dense,
        };
        let pool = (0..1000).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 });
        let weights = RandomWeights::new(pool.collect(), &placement).unwrap();
        let matrix = weights.tensor("qkv.weight", &[33, 100]).unwrap();
        let square = matrix.sqr().unwrap().mean_all().unwrap();
        assert!((square.to_scalar::<f32>().unwrap() - 0.01).abs() < 1e-6);
        let norm = weights.tensor("query_norm.weight", &[4]).unwrap();
        assert_eq!(norm.to_vec1::<f32>().unwrap(), [1.0; 4]);
        let bias = weights.tensor("proj.bias", &[4]).unwrap();
        assert_eq!(bias.to_vec1::<f32>().unwrap(), [0.0; 4]);
    }
}
