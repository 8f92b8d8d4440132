//! How long a session rests after it failed (IdleHoldTime and DampPeerOscillations, RFC 4271 §8.1.1).

use std::time::Duration;

use rand::RngCore;

use super::pulse::jitter;

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(60);
/// A session that was up for this long starts again from the first step.
pub(super) const STABLE: Duration = Duration::from_secs(60);

/// Doubles with every failure in a row.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) fn next(&mut self, rng: &mut dyn RngCore) -> Duration {
        let rest = FIRST.saturating_mul(2u32.saturating_pow(self.failures)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        jitter(rest, rng)
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn rests_double_up_to_a_bound() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = Backoff::default();
        let rests: Vec<_> = (0..40).map(|_| backoff.next(&mut rng)).collect();
        for (rest, full) in rests.iter().zip([1, 2, 4, 8, 16, 32, 60, 60]) {
            let full = Duration::from_secs(full);
            assert!(*rest <= full && *rest >= full.mul_f64(0.75), "{rest:?} of {full:?}");
        }
        assert!(rests.iter().all(|rest| *rest <= MOST));
        backoff.reset();
        assert!(backoff.next(&mut rng) <= FIRST);
    }
}
