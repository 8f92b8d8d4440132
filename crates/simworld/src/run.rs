//! One seed: its network, its schedule, and what to show when it fails.

use std::fmt;

use rand::{SeedableRng, rngs::StdRng};

use crate::{
    fault::{self, Event},
    kernel::Defect,
    shrink::shrink,
    topology::{Plan, Size},
    world::{Figures, Violation, World},
};

/// A network that a seed draws, and what is wrong with it.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Draws everything.
    pub seed: u64,
    /// How large; drawn as well where it is not given.
    pub size: Option<Size>,
    /// A mistake in one router.
    pub planted: Option<(usize, Defect)>,
}

/// A seed that fails.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub scenario: Scenario,
    /// What the whole schedule came to.
    pub violation: Violation,
    /// The least schedule that fails.
    pub schedule: Vec<Event>,
    /// What that one came to.
    pub shrunk: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, violation, schedule, shrunk } = self;
        let seed = scenario.seed;
        writeln!(f, "seed {seed}, {violation}")?;
        writeln!(f, "{}", scenario.plan().0)?;
        writeln!(f, "the least schedule that fails comes to: {shrunk}; as a test:\n")?;
        writeln!(f, "#[test]\nfn seed_{seed}() {{\n    let scenario = {scenario:?};\n    let schedule = [")?;
        for Event { after, fault } in schedule {
            writeln!(f, "        Event {{ after: {after}, fault: Fault::{fault:?} }},")?;
        }
        write!(f, "    ];\n    scenario.play(&schedule).unwrap();\n}}")
    }
}

impl Scenario {
    /// A sound network.
    pub fn new(seed: u64) -> Self {
        Self { seed, size: None, planted: None }
    }

    /// The network, and the generator that draws what happens to it.
    pub fn plan(&self) -> (Plan, StdRng) {
        let mut random = StdRng::seed_from_u64(self.seed);
        let size = self.size.unwrap_or_else(|| Size::small(&mut random));
        (Plan::draw(size, &mut random), random)
    }

    /// Plays a schedule in a new network.
    ///
    /// # Errors
    /// What was violated.
    pub fn play(&self, schedule: &[Event]) -> Result<Figures, Violation> {
        let mut world = World::new(self.plan().0, self.seed);
        if let Some((router, defect)) = self.planted {
            world.plant(router, defect);
        }
        world.play(schedule)
    }
}

/// Plays what the seed draws: `rounds` bursts of `faults` faults.
///
/// # Errors
/// The failure, shrunk.
pub fn try_seed(scenario: Scenario, rounds: usize, faults: usize) -> Result<Figures, Box<Failure>> {
    let (plan, mut random) = scenario.plan();
    let schedule = fault::draw(&plan, rounds, faults, &mut random);
    let violation = match scenario.play(&schedule) {
        Ok(figures) => return Ok(figures),
        Err(violation) => violation,
    };
    let schedule = shrink(&schedule, |schedule| scenario.play(schedule).is_err());
    let shrunk = scenario.play(&schedule).err().unwrap_or_else(|| violation.clone());
    Err(Box::new(Failure { scenario, violation, schedule, shrunk }))
}
