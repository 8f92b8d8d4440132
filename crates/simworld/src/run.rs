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
    /// What is drawn and left out.
    pub without: Without,
}

/// Parts of a network that are left out, one bit each by number; those beyond the 128th never are. The others keep their
/// numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// Routers: they have no neighbors and announce nothing.
    pub routers: u128,
    /// Links: nobody is configured to use them.
    pub links: u128,
}

/// A seed that fails.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub scenario: Scenario,
    /// What the whole schedule came to.
    pub violation: Violation,
    /// The least schedule that fails, in the least network that it fails in.
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
        Self { seed, size: None, planted: None, without: Without::default() }
    }

    /// The network, and the generator that draws what happens to it.
    pub fn plan(&self) -> (Plan, StdRng) {
        let mut random = StdRng::seed_from_u64(self.seed);
        let size = self.size.unwrap_or_else(|| Size::small(&mut random));
        let mut plan = Plan::draw(size, &mut random);
        plan.leave_out(|router| has(self.without.routers, router), |link| has(self.without.links, link));
        (plan, random)
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

fn has(set: u128, number: usize) -> bool {
    set.checked_shr(number as u32).is_some_and(|rest| rest & 1 == 1)
}

/// The scenario without whatever router or link is not needed for it to fail.
fn shrink_network(scenario: Scenario, plan: &Plan, fails: impl Fn(Scenario) -> bool) -> Scenario {
    let planted = scenario.planted.map(|(router, _)| router);
    let routers = (0..plan.routers.len()).filter(|router| Some(*router) != planted);
    let routers = routers.filter_map(|router| Some(Without { routers: 1_u128.checked_shl(router as u32)?, links: 0 }));
    let links =
        (0..plan.links.len()).filter_map(|link| Some(Without { routers: 0, links: 1_u128.checked_shl(link as u32)? }));
    routers.chain(links).fold(scenario, |scenario, more| {
        let Without { routers, links } = scenario.without;
        let without = Without { routers: routers | more.routers, links: links | more.links };
        let fewer = Scenario { without, ..scenario };
        if fails(fewer) { fewer } else { scenario }
    })
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
    let scenario = shrink_network(scenario, &plan, |scenario| scenario.play(&schedule).is_err());
    // In a smaller network less may have to happen.
    let schedule = shrink(&schedule, |schedule| scenario.play(schedule).is_err());
    let shrunk = scenario.play(&schedule).err().unwrap_or_else(|| violation.clone());
    Err(Box::new(Failure { scenario, violation, schedule, shrunk }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_network_is_what_it_takes() {
        let scenario = Scenario::new(1);
        let (plan, _) = scenario.plan();
        let needed = plan.links.iter().position(|link| link.ends.contains(&0)).expect("a router has links");
        let is_there = |plan: &Plan, link: usize| plan.routers[0].neighbors.iter().any(|it| it.link == link);
        let least = shrink_network(scenario, &plan, |scenario| is_there(&scenario.plan().0, needed));
        let (plan, _) = least.plan();
        let joined = plan.routers.iter().filter(|router| !router.neighbors.is_empty()).count();
        let neighbors: usize = plan.routers.iter().map(|router| router.neighbors.len()).sum();
        assert_eq!((joined, neighbors, is_there(&plan, needed)), (2, 2, true), "{plan}");
        // What is left is configured and runs.
        assert!(least.play(&[]).is_ok());
    }
}
