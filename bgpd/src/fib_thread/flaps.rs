//! Which path a fault belongs to, and when that path is back: between what detectors say and what is
//! [counted](crate::damping).
//!
//! A tunnel is one path, whoever sees it fail: its owner, BFD, or the session of a neighbor behind it. Elsewhere the loss of
//! a link is one of the link, and what a neighbor suffers is its own: others on the same link do not pay for it. A path is
//! back as soon as packets could take it, that is, once its link or tunnel is up and so is whatever reported on one of
//! those behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Instant,
};

use fib::{Damped, PathState, Scope};
use net_types::IfName;

use super::{Fault, Restored};
use crate::damping::{Damping, Held, Sentence, Settings, Verdict};

/// Words for the forwarding table.
pub(super) type Words = Vec<(Scope, PathState)>;

/// The paths that have failed lately.
pub(super) struct Flaps {
    damping: Damping<Damped>,
    paths: BTreeMap<Damped, Seen>,
    /// Tunnels that were last called up.
    tunnels: BTreeSet<u32>,
}

/// What is known of a path beyond its failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The interface that it goes over.
    pub(super) interface: Option<IfName>,
    /// Neighbors that faults of it concerned.
    pub(super) peers: BTreeSet<IpAddr>,
    /// What has to be up for it to be back, more or less: see [`is_back`].
    open: BTreeSet<Scope>,
    /// What is in use again when it is released.
    restored: Vec<Restored>,
}

/// What a fault amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// A path has failed that worked, be it that it was held down.
    pub(super) new: bool,
    /// What the table is to be told besides the fault's own words.
    pub(super) words: Words,
}

impl Flaps {
    /// Nothing is counted until [configured](Self::configure).
    pub(super) fn new() -> Self {
        Self { damping: Damping::new(None), paths: BTreeMap::new(), tunnels: BTreeSet::new() }
    }

    /// Counts so from now on. Gives what is not held any more.
    pub(super) fn configure(&mut self, settings: Option<Settings>) -> Vec<(Damped, Seen)> {
        let released = self.damping.configure(settings);
        self.let_go(released)
    }

    /// A fault, before the table hears of it. A path that is to be held becomes a doubtful one now, so that it never gets
    /// in between when it is back.
    pub(super) fn fault(&mut self, now: Instant, fault: &Fault) -> Noted {
        let mut noted = Noted::default();
        for (scope, _) in &fault.words {
            let Some(path) = self.path_of(*scope, fault) else { continue };
            let counts = fault.cause.blames_the_path() && !self.never_worked(scope);
            if !self.damping.is_down(&path) {
                if !counts {
                    continue;
                }
                match self.damping.failed(now, path) {
                    Verdict::Known => continue,
                    Verdict::Counted => noted.new = true,
                    Verdict::ToBeHeld(_) => {
                        noted.new = true;
                        noted.words.push((Scope::Damped(path), PathState::Doubtful));
                    }
                }
                let seen = self.paths.entry(path).or_default();
                seen.open.clear();
                seen.restored.clear();
            }
            let seen = self.paths.entry(path).or_default();
            seen.interface = fault.interface.as_ref().map(|(_, name)| name.clone()).or(seen.interface.take());
            seen.peers.extend(fault.peer);
            seen.open.insert(*scope);
        }
        self.heard(&fault.words);
        noted
    }

    /// Words that the table is told, for the sake of knowing which tunnels there are.
    pub(super) fn heard(&mut self, words: &[(Scope, PathState)]) {
        for (scope, state) in words {
            match (scope, state) {
                (Scope::Tunnel(ifindex), PathState::Up) => drop(self.tunnels.insert(*ifindex)),
                (Scope::Tunnel(ifindex), PathState::Dead) => drop(self.tunnels.remove(ifindex)),
                _ => {}
            }
        }
    }

    /// Which paths are back, by the last words on what has failed, and held.
    pub(super) fn returned(&mut self, now: Instant, word: impl Fn(&Scope) -> PathState) -> Vec<(Seen, Held)> {
        let mut held = Vec::new();
        for (path, seen) in &mut self.paths {
            if self.damping.is_down(path) && is_back(&seen.open, &word) {
                seen.open.clear();
                held.extend(self.damping.recovered(now, path).map(|sentence| (seen.clone(), sentence)));
            }
        }
        held
    }

    /// Something is in use again, as far as whoever says so knows; true when it is held, and so is not until it is released.
    pub(super) fn postpone(&mut self, whom: &Restored) -> bool {
        let Self { damping, paths, .. } = self;
        let concerns = |seen: &Seen| match whom {
            Restored::Peer(peer) => seen.peers.contains(peer),
            Restored::Interface(interface) => seen.interface.as_ref() == Some(interface),
        };
        let is_held = |path: &Damped| damping.sentence(path).is_some_and(|sentence| sentence.until.is_some());
        match paths.iter_mut().find(|(path, seen)| concerns(seen) && is_held(path)) {
            Some((_, seen)) => {
                // Told once, however often it came back while it was held.
                if !seen.restored.contains(whom) {
                    seen.restored.push(whom.clone());
                }
                true
            }
            None => false,
        }
    }

    /// When to come back.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.damping.poll_timeout()
    }

    /// What is not held any more by now.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(Damped, Seen)> {
        let released = self.damping.expire(now);
        self.let_go(released)
    }

    /// An operator wants these paths used: over an interface, or all.
    pub(super) fn release(&mut self, interface: Option<&IfName>) -> Vec<(Damped, Seen)> {
        let Self { damping, paths, .. } = self;
        let over = |path: &Damped| paths.get(path).and_then(|seen| seen.interface.as_ref());
        let released = damping.release(|path| interface.is_none() || over(path) == interface);
        self.let_go(released)
    }

    /// Every path that is held, or will be.
    pub(super) fn sentences(&self) -> impl Iterator<Item = (&Seen, Sentence)> {
        self.damping.sentences().filter_map(|(path, sentence)| Some((self.paths.get(path)?, sentence)))
    }

    fn let_go(&mut self, released: Vec<Damped>) -> Vec<(Damped, Seen)> {
        let take = |path: &Damped| {
            let seen = self.paths.get_mut(path)?;
            let restored = std::mem::take(&mut seen.restored);
            Some((*path, Seen { restored, ..seen.clone() }))
        };
        let released = released.iter().filter_map(take).collect();
        self.paths.retain(|path, _| self.damping.knows(path));
        released
    }

    fn path_of(&self, scope: Scope, fault: &Fault) -> Option<Damped> {
        if !self.damping.is_on() {
            return None;
        }
        let over = fault.interface.as_ref().map(|(ifindex, _)| *ifindex);
        let (ifindex, alone) = match scope {
            Scope::Link(ifindex) | Scope::Tunnel(ifindex) => (Some(ifindex), Damped::Interface(ifindex)),
            Scope::Path(path) => (Some(path.ifindex), Damped::Path(path)),
            Scope::Source(source) | Scope::Monitored(source) => (over, Damped::Source(source)),
            Scope::Damped(_) => return None,
        };
        // What follows from the loss of a link is a part of it.
        let whole =
            |ifindex: &u32| self.tunnels.contains(ifindex) || self.damping.is_down(&Damped::Interface(*ifindex));
        Some(ifindex.filter(whole).map_or(alone, Damped::Interface))
    }

    /// A tunnel that has not been up yet does not fail when it is called down.
    fn never_worked(&self, scope: &Scope) -> bool {
        matches!(scope, Scope::Tunnel(ifindex) if !self.tunnels.contains(ifindex))
    }
}

impl Seen {
    /// What is in use again now that it is released.
    pub(super) fn restored(&self) -> &[Restored] {
        &self.restored
    }
}

/// Whether packets could go this way, by the last words on what was reported lost: links and tunnels have to be up, and of
/// the neighbors and routers behind them one.
fn is_back(open: &BTreeSet<Scope>, word: impl Fn(&Scope) -> PathState) -> bool {
    let up = |scope: &Scope| word(scope) == PathState::Up;
    let (mut behind, mut any_behind) = (false, false);
    for scope in open {
        match scope {
            Scope::Link(_) | Scope::Tunnel(_) if !up(scope) => return false,
            Scope::Link(_) | Scope::Tunnel(_) | Scope::Damped(_) => {}
            Scope::Source(source) | Scope::Monitored(source) => {
                behind = true;
                any_behind |= up(&Scope::Source(*source)) && up(&Scope::Monitored(*source));
            }
            Scope::Path(_) => {
                behind = true;
                any_behind |= up(scope);
            }
        }
    }
    any_behind || !behind
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::failover::Cause;

    const ON: Settings = Settings {
        failures: 2,
        within: Duration::from_secs(60),
        hold: Duration::from_secs(5),
        max: Duration::from_secs(300),
    };
    const TUNNEL: u32 = 7;
    const LAN: u32 = 8;

    /// The table's part: the last words.
    struct Rig {
        flaps: Flaps,
        words: BTreeMap<Scope, PathState>,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            let mut flaps = Flaps::new();
            flaps.configure(Some(ON));
            let mut rig = Self { flaps, words: BTreeMap::new(), now: Instant::now() };
            rig.word(Scope::Tunnel(TUNNEL), PathState::Up);
            rig
        }

        fn fault(&mut self, cause: Cause, scope: Scope, ifindex: u32) -> Noted {
            let name = if ifindex == TUNNEL { "tun1" } else { "eth0" };
            let mut fault = Fault::now(cause, "test", vec![(scope, PathState::Dead)]);
            fault.interface = Some((ifindex, name.parse().unwrap()));
            let fault = fault.peer("169.254.1.1".parse().unwrap());
            let noted = self.flaps.fault(self.now, &fault);
            self.words.extend(fault.words.iter().chain(&noted.words).copied());
            noted
        }

        /// How many paths are held from now on.
        fn word(&mut self, scope: Scope, state: PathState) -> usize {
            self.words.insert(scope, state);
            self.flaps.heard(&[(scope, state)]);
            let words = &self.words;
            self.flaps.returned(self.now, |scope| words.get(scope).copied().unwrap_or_default()).len()
        }
    }

    #[test]
    fn a_tunnel_is_one_path_whoever_sees_it_fail_and_back_when_packets_could_take_it() {
        let mut rig = Rig::new();
        let held = (Scope::Damped(Damped::Interface(TUNNEL)), PathState::Doubtful);
        assert_eq!(rig.fault(Cause::BfdDown, Scope::Monitored(1), TUNNEL), Noted { new: true, words: vec![] });
        assert!(!rig.fault(Cause::HoldTimer, Scope::Source(1), TUNNEL).new, "the session ends with it");
        assert_eq!(rig.word(Scope::Monitored(1), PathState::Up), 0);
        assert_eq!(rig.word(Scope::Source(1), PathState::Up), 0, "the first failure is not held");

        assert_eq!(rig.fault(Cause::TunnelDown, Scope::Tunnel(TUNNEL), TUNNEL), Noted { new: true, words: vec![held] });
        assert!(!rig.fault(Cause::TunnelDown, Scope::Source(1), TUNNEL).new);
        assert!(!rig.fault(Cause::TunnelDown, Scope::Source(2), TUNNEL).new, "nor does another one's count");
        assert_eq!(rig.word(Scope::Source(1), PathState::Up), 0, "the tunnel is down");
        assert_eq!(rig.word(Scope::Source(1), PathState::Dead), 0);
        assert_eq!(rig.word(Scope::Tunnel(TUNNEL), PathState::Up), 0, "nobody is behind it yet");
        assert_eq!(rig.word(Scope::Source(1), PathState::Doubtful), 0, "routes are still coming in");
        assert_eq!(rig.word(Scope::Source(1), PathState::Up), 1, "whatever becomes of the second neighbor");
        let peers: Vec<_> =
            rig.flaps.sentences().map(|(seen, sentence)| (seen.peers.len(), sentence.failures)).collect();
        assert_eq!(peers, [(1, 2)]);
    }

    #[test]
    fn on_a_shared_link_each_neighbor_pays_for_itself_alone() {
        let mut rig = Rig::new();
        for _ in 0..2 {
            rig.word(Scope::Monitored(1), PathState::Up);
            rig.fault(Cause::BfdDown, Scope::Monitored(1), LAN);
        }
        let third = rig.fault(Cause::BfdDown, Scope::Monitored(2), LAN);
        assert_eq!(third, Noted { new: true, words: vec![] }, "the first one of this neighbor");
        assert_eq!(rig.words.get(&Scope::Damped(Damped::Source(1))), Some(&PathState::Doubtful));
        // The link's own loss is one of all that go over it, and counts for nobody else.
        assert!(rig.fault(Cause::LinkDown, Scope::Link(LAN), LAN).new);
        assert!(!rig.fault(Cause::LinkDown, Scope::Source(3), LAN).new);
    }

    #[test]
    fn what_is_no_fault_of_the_path_does_not_count() {
        let mut rig = Rig::new();
        for cause in [Cause::SessionClosed, Cause::Configuration, Cause::IpsecdLost] {
            for _ in 0..5 {
                assert_eq!(rig.fault(cause, Scope::Source(1), TUNNEL), Noted::default(), "{cause:?}");
                assert_eq!(rig.word(Scope::Source(1), PathState::Up), 0);
            }
        }
        for _ in 0..5 {
            let news = rig.fault(Cause::TunnelDown, Scope::Tunnel(9), 9);
            assert_eq!(news, Noted::default(), "it has not been up yet");
        }
        rig.flaps.configure(None);
        assert_eq!(rig.fault(Cause::BfdDown, Scope::Monitored(1), TUNNEL), Noted::default(), "off");
    }

    #[test]
    fn what_is_held_is_restored_when_it_is_released_and_not_before() {
        let mut rig = Rig::new();
        let peer = Restored::Peer("169.254.1.1".parse().unwrap());
        for held in [0, 1] {
            rig.fault(Cause::BfdDown, Scope::Monitored(1), TUNNEL);
            assert!(!rig.flaps.postpone(&peer), "it is down, not held");
            assert_eq!(rig.word(Scope::Monitored(1), PathState::Up), held);
        }
        assert!(rig.flaps.postpone(&peer) && !rig.flaps.postpone(&Restored::Peer("192.0.2.1".parse().unwrap())));
        assert!(rig.flaps.release(Some(&"tun2".parse().unwrap())).is_empty());
        assert!(rig.flaps.postpone(&peer), "it is told once all the same");
        assert_eq!(rig.flaps.poll_timeout(), Some(rig.now + ON.hold));
        let released = rig.flaps.expire(rig.now + ON.hold);
        assert_eq!(released.len(), 1);
        assert_eq!((released[0].0, released[0].1.restored()), (Damped::Interface(TUNNEL), &[peer.clone()][..]));
        assert!(!rig.flaps.postpone(&peer));

        rig.fault(Cause::BfdDown, Scope::Monitored(1), TUNNEL);
        rig.word(Scope::Monitored(1), PathState::Up);
        let released = rig.flaps.release(Some(&"tun1".parse().unwrap()));
        assert!(matches!(&released[..], [(_, seen)] if seen.restored().is_empty()), "{released:?}");
        assert!(rig.flaps.paths.is_empty(), "and forgotten");
    }
}
