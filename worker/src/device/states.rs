//! When the state of a denoise job is to be written out.

use std::time::{Duration, Instant};

use ovis_protocol::StateInterval;

/// One recipient of a denoise job's states, and when it had the last one.
pub(super) struct StateSchedule {
    interval: Option<StateInterval>,
    step: u32,
    at: Instant,
}

impl StateSchedule {
    /// States at this interval, counted from `step`; none without an interval.
    pub fn new(interval: Option<StateInterval>, step: u32) -> Self {
        Self {
            interval,
            step,
            at: Instant::now(),
        }
    }

    /// Whether a state is wanted at all.
    pub fn is_wanted(&self) -> bool {
        self.interval.is_some()
    }

    /// Whether a state is due after `step` steps. If so, the next one counts from here.
    pub fn take_due(&mut self, step: u32, now: Instant) -> bool {
        let Some(StateInterval { steps, seconds }) = self.interval else {
            return false;
        };
        let waited = now.saturating_duration_since(self.at);
        let by_steps = steps > 0 && step.saturating_sub(self.step) >= steps;
        let by_time = seconds > 0.0
            && Duration::try_from_secs_f64(seconds).is_ok_and(|seconds| waited >= seconds);
        if by_steps || by_time {
            (self.step, self.at) = (step, now);
        }
        by_steps || by_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(steps: u32, seconds: f64, after: Duration) -> Vec<u32> {
        let mut schedule = StateSchedule::new(Some(StateInterval { steps, seconds }), 0);
        let begun = schedule.at;
        let is_due = |&step: &u32| schedule.take_due(step, begun + after * step);
        (1..=10).filter(is_due).collect()
    }

    #[test]
    fn a_state_is_due_by_steps_or_by_time() {
        let second = Duration::from_secs(1);
        assert_eq!(due(3, 0.0, second), [3, 6, 9]);
        assert_eq!(due(0, 4.0, second), [4, 8]);
        assert_eq!(due(5, 4.0, second), [4, 8]);
        assert_eq!(due(2, 4.0, second), [2, 4, 6, 8, 10]);
        assert!(due(0, 0.0, second).is_empty());
        assert!(due(0, f64::MAX, second).is_empty());
        assert!(!StateSchedule::new(None, 0).take_due(9, Instant::now()));
    }
}
