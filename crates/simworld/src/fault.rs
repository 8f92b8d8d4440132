//! What is done to a network, and when.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};

use crate::topology::{LinkKind, Plan};

/// One fault, or the end of one. Links and routers go by their numbers; what is so already does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing passes, and nobody is told.
    Cut(usize),
    /// Nothing passes that is sent by this end (0 or 1), and nobody is told.
    CutOneWay(usize, usize),
    /// A tenth is lost and all comes late and out of order.
    Spoil(usize),
    /// The link is as at first.
    Mend(usize),
    /// The SA of a tunnel is deleted at this end (0 or 1), whose `ipsecd` says so at once; the far end hears of it. Later
    /// there is another.
    DeleteSa(usize, usize),
    /// A wire loses its carrier, at both ends.
    Unplug(usize),
    /// A router loses its power.
    PowerOff(usize),
    /// It is there again, with nothing in its memory.
    PowerOn(usize),
    /// `bgpd` dies, and is started again after so many milliseconds.
    KillBgpd(usize, u32),
    /// `bgpd` is stopped, and started again after so many milliseconds.
    StopBgpd(usize, u32),
    /// `ipsecd` dies, and is started again after so many milliseconds; its SAs go on.
    RestartIpsecd(usize, u32),
    /// The same, and its SAs are gone.
    CrashIpsecd(usize, u32),
    /// The connection between the daemons is lost and made again.
    LoseRpc(usize),
    /// An operator resets the session with the neighbor at this place.
    ResetSession(usize, usize),
    /// Somebody deletes a route of ours from the kernel: the n-th, round and round.
    DeleteRoute(usize, usize),
    /// The kernel makes the next change, and its answer is lost.
    LoseAnswer(usize),
    /// Everything that was cut, spoilt, unplugged or switched off is as at first.
    MendAll,
    /// Nothing happens until every timer has run out; then everything has to be as the reference says.
    Settle,
}

/// A fault and how long after the one before it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds after the event before.
    pub after: u32,
    /// What happens.
    pub fault: Fault,
}

/// Draws `rounds` bursts of `faults` faults each, with time to settle after each, and a last one in which all is mended.
pub fn draw(plan: &Plan, rounds: usize, faults: usize, random: &mut StdRng) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..rounds {
        for _ in 0..faults {
            // Close together, or about as far apart as what detects and what waits.
            let most = *[5, 200, 2000, 8000].choose(random).expect("not empty");
            events.push(Event { after: random.random_range(0..most), fault: any(plan, random) });
        }
        events.push(Event { after: 0, fault: Fault::Settle });
    }
    events.push(Event { after: 0, fault: Fault::MendAll });
    events
}

fn any(plan: &Plan, random: &mut StdRng) -> Fault {
    let link = random.random_range(0..plan.links.len());
    let router = random.random_range(0..plan.routers.len());
    let end = random.random_range(0..2);
    let pause = *[50, 500, 3000, 9000].choose(random).expect("not empty");
    let is_tunnel = plan.links[link].kind == LinkKind::Tunnel;
    match random.random_range(0..100) {
        0..16 => Fault::Cut(link),
        16..22 => Fault::CutOneWay(link, end),
        22..27 => Fault::Spoil(link),
        27..45 => Fault::Mend(link),
        45..53 if is_tunnel => Fault::DeleteSa(link, end),
        45..53 => Fault::Unplug(link),
        53..58 => Fault::PowerOff(router),
        58..65 => Fault::PowerOn(router),
        65..72 => Fault::KillBgpd(router, pause),
        72..77 => Fault::StopBgpd(router, pause),
        77..81 => Fault::RestartIpsecd(router, pause),
        81..84 => Fault::CrashIpsecd(router, pause),
        84..87 => Fault::LoseRpc(router),
        87..91 => Fault::ResetSession(router, random.random_range(0..plan.routers[router].neighbors.len().max(1))),
        91..95 => Fault::DeleteRoute(router, random.random_range(0..8)),
        95..97 => Fault::LoseAnswer(router),
        _ => Fault::MendAll,
    }
}
