//! What tests of rekeys ask of both ends.

use ike_core::{ConnectionConfig, Event, Input};
use simnet::{Profile, for_each_seed};

use super::{World, secs, tunnel};

/// In both directions the active outbound SA is installed at the other end.
pub(crate) fn always_usable(world: &World) {
    assert!(world.usable(), "no usable pair\n{}", world.story());
}

/// How many rekeys of child SAs and of IKE SAs both ends have seen.
pub(crate) fn rekeys(world: &World) -> (usize, usize) {
    let children = |n| world.count(n, |e| matches!(e, Event::ChildInstalled { replaces: Some(_), .. }));
    let ikes = |n| world.count(n, |e| matches!(e, Event::IkeRekeyed { .. }));
    (children(0).min(children(1)), ikes(0).min(ikes(1)))
}

/// Both ends begin the same rekey at the same moment, many times over.
pub(crate) fn simultaneous(profile: Profile, ike: bool, change: impl Fn(usize, &mut ConnectionConfig)) {
    for_each_seed(30, |seed| {
        let mut world = World::pair(seed, profile, &change);
        world.expect("both up", secs(60), World::converged);
        world.traffic = true;
        world.invariant = Some(always_usable);
        for _ in 0..6 {
            for n in 0..2 {
                world.input(n, Input::Rekey { tunnel: tunnel(), ike });
            }
            world.run(secs(15));
        }
        assert!(world.both_up(), "{}", world.story());
        world.expect("one pair", secs(90), World::converged);
        assert!(world.nodes.iter().all(|node| node.unknown == 0), "{}", world.story());
        let (children, ikes) = rekeys(&world);
        assert!(if ike { ikes >= 3 } else { children >= 3 }, "{children} {ikes}");
    });
}
