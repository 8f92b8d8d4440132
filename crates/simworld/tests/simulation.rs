//! Networks and faults drawn from seeds; `SIMNET_SEEDS` has more of them, `SIMNET_SEED` one alone.

use std::time::Instant;

use simnet::for_each_seed;
use simworld::{Figures, Scenario, Size, try_seed};

fn run(scenario: Scenario, rounds: usize, faults: usize, total: &mut Figures) {
    match try_seed(scenario, rounds, faults) {
        Ok(figures) => {
            total.faults += figures.faults;
            total.settled += figures.settled;
            total.walks += figures.walks;
            total.circles += figures.circles;
            total.circles_in_restart += figures.circles_in_restart;
            total.longest_circle = total.longest_circle.max(figures.longest_circle);
            total.longest_within_site = total.longest_within_site.max(figures.longest_within_site);
            total.elapsed += figures.elapsed;
        }
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn small_networks_survive_what_happens_to_them() {
    let (mut total, start) = (Figures::default(), Instant::now());
    for_each_seed(32, |seed| run(Scenario::new(seed), 4, 8, &mut total));
    println!("{total:?} in {:?}", start.elapsed());
}

#[test]
fn hundreds_of_routers_survive_what_happens_to_them() {
    let (mut total, start) = (Figures::default(), Instant::now());
    let size = Size { regions: 3, sites: 80, origins: 6 };
    for_each_seed(1, |seed| run(Scenario { size: Some(size), ..Scenario::new(seed) }, 1, 30, &mut total));
    println!("{total:?} in {:?}", start.elapsed());
}
