//! Access to the weights of a network's blocks.

/// A network's blocks, in the order in which they run. Their weights are reached through
/// [`with`](Self::with) alone, so that a network does not depend on where they are kept.
pub enum Blocks<B> {
    /// The weights of all blocks stay on the device.
    Resident(Vec<B>),
}

impl<B> Blocks<B> {
    /// Number of blocks.
    pub fn len(&self) -> usize {
        match self {
            Self::Resident(blocks) => blocks.len(),
        }
    }

    /// Whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs `body` with block `i`, whose weights are on the device meanwhile.
    ///
    /// # Errors
    /// There is no such block, or `body` fails.
    pub fn with<R>(
        &self,
        i: usize,
        body: impl FnOnce(&B) -> candle_core::Result<R>,
    ) -> candle_core::Result<R> {
        match self {
            Self::Resident(blocks) => match blocks.get(i) {
                Some(block) => body(block),
                None => candle_core::bail!("there is no block {i} of {}", blocks.len()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_reached_by_their_index() {
        let blocks = Blocks::Resident(vec![10, 20]);
        assert_eq!((blocks.len(), blocks.is_empty()), (2, false));
        assert_eq!(blocks.with(1, |block| Ok(block + 1)).unwrap(), 21);
        assert!(blocks.with(2, |_| Ok(())).is_err());
    }
}
