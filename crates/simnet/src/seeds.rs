//! Running one scenario from many seeds, and one seed again.

use std::env;

/// Runs `scenario` for the seeds 0 to `count` - 1 and names the seed of a run that panics.
///
/// With `SIMNET_SEED` in the environment that one seed runs alone, to look closer at a failure; with `SIMNET_SEEDS`
/// that many run, for a long soak.
///
/// # Panics
/// When the scenario does, and when either variable is not a number.
pub fn for_each_seed(count: u64, mut scenario: impl FnMut(u64)) {
    let seeds = match number("SIMNET_SEED") {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..number("SIMNET_SEEDS").unwrap_or(count),
    };
    for seed in seeds {
        let _named = NameOnPanic(seed);
        scenario(seed);
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is \"{text}\", expected a number")))
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
