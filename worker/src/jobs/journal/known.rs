//! What is known of a job while its process lives.

use std::sync::Arc;

use super::contract::JobRecord;

/// A job that has not been forgotten.
#[derive(Clone)]
pub struct Known {
    /// What was accepted.
    pub record: Arc<JobRecord>,
    /// How often a device has begun it.
    pub begun: Begun,
}

/// How often a job was begun since its latest state. State and count are two files, and a
/// process may end when it has written one of them, so the count names its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// The count.
    pub count: u32,
    /// The steps of the state; 0 is none.
    pub step: u32,
}

impl Begun {
    /// The content of its file.
    pub fn text(self) -> String {
        format!("{} {}", self.count, self.step)
    }

    /// Reads what [`text`](Self::text) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, step) = text.trim().split_once(' ')?;
        Some(Self {
            count: count.parse().ok()?,
            step: step.parse().ok()?,
        })
    }

    /// The count since the state after `step` steps.
    pub fn since(self, step: u32) -> Self {
        let count = if self.step == step { self.count } else { 0 };
        Self { count, step }
    }
}
