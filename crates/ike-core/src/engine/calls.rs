//! How many calls to one peer are under way at once.
//!
//! Thousands of tunnels may have one gateway at their other end. Called all at once it would be asked to do seconds of work in
//! the time of one retransmission, and most of it again for every copy that it had no time to answer. So each address has
//! a bounded number of calls, and the next one begins when one of them has come to an end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ike_wire::IkeSpi;
use net_types::TunnelName;

/// Most calls to one address: some tens of milliseconds of work at the other end.
const AT_ONCE: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Calls {
    peers: BTreeMap<IpAddr, Peer>,
    under_way: BTreeMap<IkeSpi, IpAddr>,
}

#[derive(Debug, Default)]
struct Peer {
    calls: usize,
    /// Those whose turn comes; by name, so that none waits twice.
    waiting: BTreeSet<TunnelName>,
}

impl Calls {
    /// Whether a tunnel may call this peer now. If not, it is given back when it may.
    pub(super) fn may_begin(&mut self, peer: IpAddr, tunnel: &TunnelName) -> bool {
        let Some(known) = self.peers.get_mut(&peer) else { return true };
        if known.calls < AT_ONCE {
            known.waiting.remove(tunnel);
            return true;
        }
        known.waiting.insert(tunnel.clone());
        false
    }

    /// A call is under way.
    pub(super) fn begun(&mut self, peer: IpAddr, sa: IkeSpi) {
        self.under_way.insert(sa, peer);
        self.peers.entry(peer).or_default().calls += 1;
    }

    /// A call came to its end, in whatever way. Gives the tunnels whose turn it is: as many as there is room for, and all
    /// with the last call, lest those wait for ever that stand behind some that want to call no more.
    pub(super) fn ended(&mut self, sa: IkeSpi) -> BTreeSet<TunnelName> {
        let Some(address) = self.under_way.remove(&sa) else { return BTreeSet::new() };
        let Some(peer) = self.peers.get_mut(&address) else { return BTreeSet::new() };
        peer.calls -= 1;
        if peer.calls == 0 {
            return self.peers.remove(&address).map(|peer| peer.waiting).unwrap_or_default();
        }
        let room = AT_ONCE.saturating_sub(peer.calls);
        std::iter::from_fn(|| peer.waiting.pop_first()).take(room).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spi(number: usize) -> IkeSpi {
        IkeSpi::new(number as u64 + 1).unwrap()
    }

    #[test]
    fn the_next_one_begins_when_one_has_ended_and_other_peers_do_not_wait() {
        let (one, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let name = |text: &str| text.parse::<TunnelName>().unwrap();
        let mut calls = Calls::default();
        for number in 0..AT_ONCE {
            assert!(calls.may_begin(one, &name("early")));
            calls.begun(one, spi(number));
        }
        assert!(!calls.may_begin(one, &name("late")) && !calls.may_begin(one, &name("late")));
        assert!(calls.may_begin(other, &name("late")));
        assert!(!calls.may_begin(one, &name("later")));
        assert_eq!(calls.ended(spi(3)), [name("late")].into());
        assert!(calls.may_begin(one, &name("late")));
        assert!(calls.ended(spi(3)).is_empty(), "it has ended once");
        // The first one did not make use of its turn.
        assert_eq!(calls.ended(spi(4)), [name("later")].into());
        for number in (0..AT_ONCE).filter(|number| ![3, 4].contains(number)) {
            assert!(calls.ended(spi(number)).is_empty());
        }
        assert!(calls.peers.is_empty() && calls.under_way.is_empty(), "nothing is left behind");
    }
}
