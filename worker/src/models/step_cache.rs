//! Reuse of the transformer's inner blocks from one step to the next.
//!
//! First-block cache (ParaAttention `first_block_cache`; cache-dit's DBCache with one
//! block ahead and none behind): what the first block adds to the image tokens tells
//! how much the model is doing differently from the last step whose blocks all ran.
//! Where that is little, the other blocks are taken to add what they added then.

use candle_core::{Result, Tensor};

use crate::nn::mean_magnitude;

/// What one branch of guidance remembers of the last step whose blocks all ran.
pub struct StepCache {
    threshold: f64,
    kept: Option<Kept>,
    answered: u64,
}

struct Kept {
    first: Tensor,
    /// The mean magnitude of `first`, a scalar that stays on the device.
    magnitude: Tensor,
    rest: Tensor,
}

impl StepCache {
    /// An empty cache. It answers where the first block's part differs by less than
    /// `threshold`, a share of its mean magnitude.
    pub fn new(threshold: f64) -> Self {
        Self {
            threshold,
            kept: None,
            answered: 0,
        }
    }

    /// How many forwards were answered.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// What the other blocks add to the image tokens `[B, N, H]`, if that need not be
    /// computed: `first` is what the first block adds. Waits for the device.
    ///
    /// # Errors
    /// The device fails.
    pub fn recall(&mut self, first: &Tensor) -> Result<Option<&Tensor>> {
        let Some(kept) = self.kept.as_ref() else {
            return Ok(None);
        };
        let change = mean_magnitude(first, Some(&kept.first))?.to_scalar::<f32>()?;
        let change = change / kept.magnitude.to_scalar::<f32>()?;
        if f64::from(change) >= self.threshold || change.is_nan() {
            return Ok(None);
        }
        self.answered += 1;
        Ok(Some(&kept.rest))
    }

    /// Remembers a step: what the first block added, and what the others did.
    ///
    /// # Errors
    /// The device fails.
    pub fn keep(&mut self, first: Tensor, rest: Tensor) -> Result<()> {
        self.kept = Some(Kept {
            magnitude: mean_magnitude(&first, None)?,
            first,
            rest,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tokens(value: f32) -> Tensor {
        Tensor::full(value, (1, 4, 8), &Device::Cpu).unwrap()
    }

    #[test]
    fn it_answers_only_what_changed_little_since_the_last_kept_step() {
        let mut cache = StepCache::new(0.1);
        assert!(cache.recall(&tokens(1.0)).unwrap().is_none());
        cache.keep(tokens(1.0), tokens(7.0)).unwrap();
        let rest = cache.recall(&tokens(1.05)).unwrap().unwrap();
        assert_eq!(rest.to_vec3::<f32>().unwrap()[0][0][0], 7.0);
        // Against the step that was kept, not the one that was answered.
        assert!(cache.recall(&tokens(1.11)).unwrap().is_none());
        assert!(cache.recall(&tokens(f32::NAN)).unwrap().is_none());
        assert_eq!(cache.answered(), 1);
    }

    #[test]
    fn a_threshold_of_zero_never_answers() {
        let mut cache = StepCache::new(0.0);
        cache.keep(tokens(1.0), tokens(7.0)).unwrap();
        assert!(cache.recall(&tokens(1.0)).unwrap().is_none());
    }
}
