//! Running one scenario from many seeds, and one seed again.

use std::env;

/// Runs `scenario` for the seeds 0 to `count` - 1 and names the seed of a run that panics.
///
/// With `SIMNET_SEED` in the environment that one seed runs alone, to look closer at a failure.
///
/// # Panics
/// When the scenario does, and when `SIMNET_SEED` is not a number.
pub fn for_each_seed(count: u64, mut scenario: impl FnMut(u64)) {
    let seeds = match env::var("SIMNET_SEED") {
        Ok(text) => {
            let seed = text.parse().unwrap_or_else(|_| panic!("SIMNET_SEED is \"{text}\", expected a number"));
            seed..seed + 1
        }
        Err(_) => 0..count,
    };
    for seed in seeds {
        let _named = NameOnPanic(seed);
        scenario(seed);
    }
}

/// Prints the seed while the stack unwinds through it.
struct NameOnPanic(u64);

impl Drop for NameOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {0}; run again with SIMNET_SEED={0}", self.0);
        }
    }
}
