//! After how many seconds a refused request may succeed.

/// How many jobs the estimate looks back on.
const REMEMBERED: usize = 64;

/// The duration of a job while none has ended: a few steps of a large image on one GPU.
const UNKNOWN: f32 = 5.0;

/// The shortest and the longest time that a client is told to wait, in seconds. Shorter would
/// be polling, and after longer the queue has changed beyond any estimate.
const SHORTEST: f32 = 1.0;
const LONGEST: f32 = 60.0;

/// How long the latest jobs ran.
#[derive(Clone, Debug)]
pub struct RecentJobs {
    seconds: [f32; REMEMBERED],
    /// How many jobs have been noted, of which the latest are kept.
    noted: usize,
}

impl Default for RecentJobs {
    fn default() -> Self {
        Self {
            seconds: [0.0; REMEMBERED],
            noted: 0,
        }
    }
}

impl RecentJobs {
    /// Notes that a job has run for so many seconds. What is no duration is ignored.
    pub fn note(&mut self, seconds: f32) {
        if seconds.is_finite() && seconds >= 0.0 {
            self.seconds[self.noted % REMEMBERED] = seconds;
            self.noted += 1;
        }
    }

    /// The median duration of the noted jobs, in seconds. `None` before the first.
    fn median(&self) -> Option<f32> {
        let mut sorted = self.seconds;
        let sorted = &mut sorted[..self.noted.min(REMEMBERED)];
        sorted.sort_unstable_by(f32::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            even if even % 2 == 0 => Some(f32::midpoint(sorted[middle - 1], sorted[middle])),
            _ => Some(sorted[middle]),
        }
    }
}

/// The seconds after which a request that found no place may succeed, from 1 to 60: the median
/// duration of recent jobs, times the number of jobs that must end first. `waiting` is the
/// number of jobs ahead of the place that becomes free first. If none is ahead, the running
/// job must still end.
pub fn retry_after(recent: &RecentJobs, waiting: usize) -> f32 {
    let each = recent.median().unwrap_or(UNKNOWN);
    (each * waiting.max(1) as f32).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(seconds: impl IntoIterator<Item = f32>) -> RecentJobs {
        let mut recent = RecentJobs::default();
        seconds.into_iter().for_each(|seconds| recent.note(seconds));
        recent
    }

    #[test]
    fn a_place_is_free_after_as_many_median_jobs_as_are_ahead() {
        let recent = recent([2.0, 50.0, 3.0]);
        assert_eq!(retry_after(&recent, 4), 12.0);
        assert_eq!(retry_after(&recent, 1), 3.0);
        assert_eq!(retry_after(&recent, 0), 3.0);
    }

    #[test]
    fn of_an_even_number_the_middle_two_count() {
        assert_eq!(retry_after(&recent([4.0, 2.0, 9.0, 3.0]), 2), 7.0);
    }

    #[test]
    fn the_hint_stays_within_its_bounds() {
        assert_eq!(retry_after(&recent([0.01]), 1), SHORTEST);
        assert_eq!(retry_after(&recent([30.0]), 200), LONGEST);
        assert_eq!(retry_after(&recent([f32::MAX]), usize::MAX), LONGEST);
        assert_eq!(retry_after(&RecentJobs::default(), 1), UNKNOWN);
        let odd = recent([f32::NAN, f32::INFINITY, -1.0]);
        assert_eq!(retry_after(&odd, 1), UNKNOWN);
    }

    #[test]
    fn only_the_latest_jobs_count() {
        let old = std::iter::repeat_n(50.0, 1000);
        let new = std::iter::repeat_n(2.0, REMEMBERED);
        assert_eq!(retry_after(&recent(old.clone().chain(new)), 1), 2.0);
        let fewer = std::iter::repeat_n(2.0, REMEMBERED / 2 - 1);
        assert_eq!(retry_after(&recent(old.chain(fewer)), 1), 50.0);
    }
}
