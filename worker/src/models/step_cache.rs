//! Reuse of the transformer's inner blocks from one step to the next.
//!
//! This is the first-block cache of ParaAttention (`first_block_cache`; cache-dit calls it
//! DBCache with one block in front and none behind). The first block always runs. If its
//! residual has changed little since the last step whose blocks all ran, the other blocks are
//! skipped and their residual of that step is added instead.

use candle_core::{Result, Tensor};

use crate::nn::mean_magnitude;

/// The cache of one branch of guidance.
pub struct StepCache {
    threshold: f64,
    kept: Option<Kept>,
    answered: u64,
}

/// The residuals of the last step whose blocks all ran, image tokens `[B, N, H]`.
pub struct Kept {
    /// What the first block added.
    pub first: Tensor,
    /// The mean magnitude of `first`, a float32 scalar that stays on the device.
    pub magnitude: Tensor,
    /// What the other blocks added together.
    pub rest: Tensor,
}

impl StepCache {
    /// An empty cache. It answers when the mean change of the first block's residual is below
    /// `threshold` times the mean magnitude of the kept one.
    pub fn new(threshold: f64) -> Self {
        Self {
            threshold,
            kept: None,
            answered: 0,
        }
    }

    /// How many forwards the cache has answered.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// The residuals it keeps, if a step has run all its blocks.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// Brings the cache into the state of another one with the same threshold, which had
    /// answered `answered` forwards and kept `kept`.
    pub fn restore(&mut self, answered: u64, kept: Option<Kept>) {
        (self.answered, self.kept) = (answered, kept);
    }

    /// Takes back what an evaluation has counted that failed.
    pub fn recount(&mut self, answered: u64) {
        self.answered = answered;
    }

    /// The residual of the other blocks, if the residual `first` of the first block is close
    /// enough to the kept one. Waits for the device, because the comparison is made on the CPU.
    ///
    /// # Errors
    /// `first` has another shape than the kept one, or the device fails.
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

    /// Keeps the residuals of a step whose blocks all ran.
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
        // The comparison is with the kept step, not with the one that was answered.
        assert!(cache.recall(&tokens(1.11)).unwrap().is_none());
        assert!(cache.recall(&tokens(f32::NAN)).unwrap().is_none());
        assert_eq!(cache.answered(), 1);
    }

    #[test]
    fn a_restored_cache_answers_as_the_original() {
        let mut cache = StepCache::new(0.1);
        cache.keep(tokens(1.0), tokens(7.0)).unwrap();
        cache.recall(&tokens(1.05)).unwrap();
        let Kept {
            first,
            magnitude,
            rest,
        } = cache.kept().unwrap();
        let kept = Kept {
            first: first.clone(),
            magnitude: magnitude.clone(),
            rest: rest.clone(),
        };
        let mut restored = StepCache::new(0.1);
        restored.restore(cache.answered(), Some(kept));
        assert!(restored.recall(&tokens(1.05)).unwrap().is_some());
        assert!(restored.recall(&tokens(1.2)).unwrap().is_none());
        assert_eq!(restored.answered(), 2);
    }

    #[test]
    fn a_threshold_of_zero_never_answers() {
        let mut cache = StepCache::new(0.0);
        cache.keep(tokens(1.0), tokens(7.0)).unwrap();
        assert!(cache.recall(&tokens(1.0)).unwrap().is_none());
    }
}
