//! A tunnel as the kernel has it: associations and policies with the number of its interface.
//!
//! The policies follow from the associations; [`Tunnel::wanted`] says which there should be, and [`Tunnel::changes`] what is to
//! be sent to get there: each policy is replaced where it stands, and what is not wanted any more goes last. The policy
//! of what leaves names one association by its SPI, so that a switch between two is one message, and whatever is not held by
//! a policy with an association is blocked.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use esp::Cipher;
use net_types::{Prefix, Spi};
use xfrm::{Action, Current, Message, Mode, Policy, PolicyDirection, SaId, SaInfo, Selector, Template};

use super::{
    gre::{self, GreDevice},
    inherited::Inherited,
    selectors::reversed,
};
use crate::{Limits, PacketPolicy, Path};

/// Asked first.
pub(super) const PRIORITY: u32 = 1000;
/// Asked when no association's policy holds a packet.
pub(super) const PRIORITY_OF_BLOCK: u32 = 100_000;

/// What a policy is known by, within a tunnel.
pub(super) type Key = (PolicyDirection, Selector);
/// Its priority, and what it does.
pub(super) type Value = (u32, Action);

/// A policy to be put in, replaced or taken out.
pub(super) struct Change {
    pub(super) key: Key,
    pub(super) value: Option<Value>,
    pub(super) message: Message,
}

/// An association that opens.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) id: SaId,
    pub(super) cipher: Cipher,
    pub(super) esn: bool,
    /// Of policies, seen from here: the destination is ours.
    pub(super) selectors: Vec<Selector>,
    pub(super) path: Path,
    pub(super) limits: Limits,
    pub(super) told: Told,
    pub(super) seen: Seen,
}

/// An association that seals.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) id: SaId,
    pub(super) cipher: Cipher,
    pub(super) esn: bool,
    pub(super) selectors: Vec<Selector>,
    pub(super) path: Path,
    pub(super) encapsulated: bool,
    pub(super) limits: Limits,
    pub(super) told: Told,
    pub(super) seen: Seen,
}

/// Which limits have been told of: each is told once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    pub(super) soft: bool,
    pub(super) hard: bool,
}

/// When an association last carried something, as far as its counters tell: between two looks at them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    looked: Instant,
    pub(super) current: Current,
    pub(super) at: Option<Instant>,
}

impl Seen {
    pub(super) fn new(now: Instant) -> Self {
        Self { looked: now, current: Current::default(), at: None }
    }

    /// Of a copy, which counts anew.
    pub(super) fn again(self, now: Instant) -> Self {
        Self { at: self.at, ..Self::new(now) }
    }

    /// Takes up counters. `unix_now` is the wall clock in seconds, which the kernel stamps packets with.
    pub(super) fn look(&mut self, now: Instant, unix_now: u64, current: Current) {
        if current.packets > self.current.packets {
            // The kernel's stamp is cut to seconds: the packet came within the second that it begins.
            let age = current.last_used.map_or(0, |at| unix_now.saturating_sub(at.saturating_add(1)));
            let at = now.checked_sub(std::time::Duration::from_secs(age)).unwrap_or(now);
            self.at = Some(at.max(self.looked));
        }
        self.current = current;
        self.looked = now;
    }
}

/// What a tunnel's interface is.
#[derive(Debug)]
pub(super) enum Device {
    Xfrm {
        /// Its number.
        if_id: u32,
        /// The device that its outer packets leave by, or 0.
        link: u32,
    },
    Gre(GreDevice),
}

/// A tunnel.
#[derive(Debug)]
pub(super) struct Tunnel {
    /// What ties its associations to its policies.
    pub(super) number: u32,
    pub(super) ifindex: u32,
    pub(super) device: Device,
    pub(super) offload: Option<u32>,
    pub(super) policy: PacketPolicy,
    pub(super) inbound: BTreeMap<Spi, Inbound>,
    /// The last one is in use.
    pub(super) outbound: Vec<Outbound>,
    pub(super) inherited: Inherited,
    /// The policies that the kernel has.
    pub(super) installed: BTreeMap<Key, Value>,
}

impl Tunnel {
    pub(super) fn new(ifindex: u32, device: Device, offload: Option<u32>, policy: PacketPolicy) -> Self {
        let number = match &device {
            Device::Xfrm { if_id, .. } => *if_id,
            Device::Gre(_) => gre::number(ifindex),
        };
        Self {
            number,
            ifindex,
            device,
            offload,
            policy,
            inbound: BTreeMap::new(),
            outbound: Vec::new(),
            inherited: Inherited::default(),
            installed: BTreeMap::new(),
        }
    }

    /// The xfrm interface that its policies and associations are of, or 0.
    pub(super) fn if_id(&self) -> u32 {
        match self.device {
            Device::Xfrm { if_id, .. } => if_id,
            Device::Gre(_) => 0,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        match self.device {
            Device::Xfrm { .. } => Mode::Tunnel,
            Device::Gre(_) => Mode::Transport,
        }
    }

    /// Whether an association of the kernel's is this tunnel's.
    pub(super) fn owns(&self, sa: &SaInfo) -> bool {
        match self.device {
            Device::Xfrm { if_id, .. } => sa.if_id == if_id,
            Device::Gre(_) => gre::is_of_gre(sa) && sa.reqid == self.number,
        }
    }

    fn owns_policy(&self, policy: &Policy) -> bool {
        match &self.device {
            Device::Xfrm { if_id, .. } => policy.if_id == *if_id,
            Device::Gre(gre) => self.owns_as_gre(gre, policy),
        }
    }

    /// Takes up what an earlier process has left: associations and policies of this tunnel.
    pub(super) fn inherit(&mut self, sas: &[SaInfo], policies: &[Policy], until: Instant) {
        for policy in policies {
            if self.owns_policy(policy) {
                self.installed.insert((policy.direction, policy.selector), (policy.priority, policy.action));
            }
        }
        self.inherited = Inherited::of(|sa| self.owns(sa), sas, until);
    }

    /// The policies that there should be. `aim`: the ends that a GRE interface is to have.
    fn wanted(&self, aim: Option<&xfrm::Gre>) -> BTreeMap<Key, Value> {
        if let Device::Gre(gre) = &self.device {
            return self.wanted_of_gre(gre, aim.unwrap_or(&gre.ends));
        }
        let mut wanted = BTreeMap::new();
        for all in [Prefix::DEFAULT_V4, Prefix::DEFAULT_V6] {
            let all = Selector::between(all, all);
            wanted.insert((PolicyDirection::Out, all), (PRIORITY_OF_BLOCK, Action::Block));
        }
        let keep = |direction: PolicyDirection| {
            let of_that = self.installed.iter().filter(move |((at, _), _)| *at == direction);
            of_that.map(|(key, value)| (*key, *value))
        };
        match self.outbound.last() {
            Some(current) => {
                let template = Template {
                    path: Some((current.path.local.ip(), current.path.remote.ip())),
                    spi: Some(current.id.spi),
                    reqid: self.number,
                    mode: Mode::Tunnel,
                };
                for selector in &current.selectors {
                    let key = (PolicyDirection::Out, *selector);
                    wanted.insert(key, (PRIORITY, Action::Protect(template)));
                }
            }
            None if !self.inherited.outbound.is_empty() => wanted.extend(keep(PolicyDirection::Out)),
            None => {}
        }
        // The peer may use any association that it has, whatever its addresses are by now.
        let template = Template { path: None, spi: None, reqid: self.number, mode: Mode::Tunnel };
        for direction in [PolicyDirection::In, PolicyDirection::Forward] {
            let selectors: BTreeSet<_> = self.inbound.values().flat_map(|sa| &sa.selectors).collect();
            for selector in selectors {
                wanted.insert((direction, *selector), (PRIORITY, Action::Protect(template)));
            }
            if !self.inherited.inbound.is_empty() {
                wanted.extend(keep(direction));
            }
        }
        wanted
    }

    /// What brings the kernel to the policies that there should be: what is put in first, what is taken out last.
    pub(super) fn changes(&self, aim: Option<&xfrm::Gre>) -> Vec<Change> {
        let (wanted, if_id) = (self.wanted(aim), self.if_id());
        let put = wanted.iter().filter(|(key, value)| self.installed.get(key) != Some(value)).map(|(key, value)| {
            let ((direction, selector), (priority, action)) = (*key, *value);
            let policy = Policy { selector, direction, if_id, priority, action };
            Change { key: *key, value: Some(*value), message: policy.replace() }
        });
        let taken = self.installed.keys().filter(|key| !wanted.contains_key(key)).map(|key| {
            let (direction, selector) = *key;
            Change { key: *key, value: None, message: Policy::delete(&selector, direction, if_id) }
        });
        put.chain(taken).collect()
    }

    /// Takes up what the kernel has done.
    pub(super) fn changed(&mut self, key: Key, value: Option<Value>) {
        match value {
            Some(value) => self.installed.insert(key, value),
            None => self.installed.remove(&key),
        };
    }

    /// Everything that is this tunnel's in the kernel, to be taken out.
    pub(super) fn ids(&self) -> Vec<SaId> {
        let ours = self.inbound.values().map(|sa| sa.id).chain(self.outbound.iter().map(|sa| sa.id));
        ours.chain(self.inherited.ids()).collect()
    }
}

/// The inbound selectors for outbound ones.
pub(super) fn inbound_of(outbound: &[Selector]) -> Vec<Selector> {
    outbound.iter().map(reversed).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn path() -> Path {
        let address = |text: &str| text.parse().unwrap();
        Path { wan: "isp".parse().unwrap(), local: address("198.51.100.2:4500"), remote: address("198.51.100.6:4500") }
    }

    fn outbound(spi: u32, selectors: &[(&str, &str)]) -> Outbound {
        let selector = |(a, b): &(&str, &str)| Selector::between(a.parse().unwrap(), b.parse().unwrap());
        Outbound {
            id: SaId { destination: path().remote.ip(), spi: Spi::try_from(spi).unwrap() },
            cipher: Cipher::Aes128Gcm16,
            esn: true,
            selectors: selectors.iter().map(selector).collect(),
            path: path(),
            encapsulated: true,
            limits: Limits::default(),
            told: Told::default(),
            seen: Seen::new(Instant::now()),
        }
    }

    fn tunnel() -> Tunnel {
        Tunnel::new(2, Device::Xfrm { if_id: 1, link: 0 }, None, PacketPolicy::default())
    }

    const EVERYTHING: &[(&str, &str)] = &[("0.0.0.0/0", "0.0.0.0/0"), ("::/0", "::/0")];

    fn settle(tunnel: &mut Tunnel) -> usize {
        let changes = tunnel.changes(None);
        let count = changes.len();
        changes.into_iter().for_each(|change| tunnel.changed(change.key, change.value));
        count
    }

    fn out_actions(tunnel: &Tunnel) -> Vec<Option<u32>> {
        let out = tunnel.installed.iter().filter(|((direction, _), _)| *direction == PolicyDirection::Out);
        out.map(|(_, (_, action))| match action {
            Action::Block => None,
            Action::Protect(template) => template.spi.map(Spi::get),
        })
        .collect()
    }

    #[test]
    fn without_an_association_everything_is_blocked_and_a_switch_is_one_message_a_family() {
        let mut tunnel = self::tunnel();
        assert_eq!(settle(&mut tunnel), 2);
        assert_eq!(out_actions(&tunnel), [None, None]);
        for spi in [0x1001, 0x1002] {
            tunnel.outbound.push(outbound(spi, EVERYTHING));
            assert_eq!(settle(&mut tunnel), 2, "replaced where it stands");
            assert_eq!(out_actions(&tunnel), [Some(spi), Some(spi)]);
        }
        assert_eq!(settle(&mut tunnel), 0);
        tunnel.outbound.clear();
        assert_eq!(settle(&mut tunnel), 2);
        assert_eq!(out_actions(&tunnel), [None, None]);
    }

    #[test]
    fn narrowed_selectors_leave_the_rest_blocked() {
        let mut tunnel = self::tunnel();
        tunnel.outbound.push(outbound(0x1001, &[("10.1.0.0/16", "10.2.0.0/16")]));
        assert_eq!(settle(&mut tunnel), 3);
        assert_eq!(out_actions(&tunnel).iter().flatten().count(), 1);
        tunnel.outbound.push(outbound(0x1002, &[("10.1.0.0/24", "10.2.0.0/16")]));
        assert_eq!(settle(&mut tunnel), 2, "one that comes, one that goes");
        assert_eq!(out_actions(&tunnel).iter().flatten().collect::<Vec<_>>(), [&0x1002]);
    }

    #[test]
    fn what_is_inherited_goes_on_until_something_better_comes() {
        let mut before = self::tunnel();
        before.outbound.push(outbound(0x1001, EVERYTHING));
        settle(&mut before);
        let policies: Vec<_> = before
            .installed
            .iter()
            .map(|(&(direction, selector), &(priority, action))| Policy {
                selector,
                direction,
                if_id: 1,
                priority,
                action,
            })
            .collect();
        let sa = SaInfo {
            id: before.outbound[0].id,
            source: path().local.ip(),
            mode: Mode::Tunnel,
            reqid: 1,
            if_id: 1,
            esn: true,
            replay: xfrm::Replay::default(),
            encapsulation: None,
            output_mark: Some(7),
            current: Current::default(),
        };
        let now = Instant::now();
        let mut tunnel = self::tunnel();
        tunnel.inherit(&[sa, SaInfo { if_id: 9, ..sa }], &policies, now + Duration::from_secs(60));
        assert_eq!(settle(&mut tunnel), 0, "nothing changes");
        assert_eq!(out_actions(&tunnel), [Some(0x1001), Some(0x1001)]);
        assert_eq!(tunnel.inherited.end(Some(now)), []);
        tunnel.outbound.push(outbound(0x1002, EVERYTHING));
        assert_eq!(settle(&mut tunnel), 2);
        assert_eq!(tunnel.inherited.end(Some(now + Duration::from_secs(60))), [sa.id]);
        assert_eq!(out_actions(&tunnel), [Some(0x1002), Some(0x1002)]);

        let mut orphan = self::tunnel();
        orphan.inherit(&[sa], &policies, now);
        assert_eq!(orphan.inherited.end(Some(now)), [sa.id]);
        assert_eq!(settle(&mut orphan), 2);
        assert_eq!(out_actions(&orphan), [None, None], "nothing came: blocked");
    }

    #[test]
    fn a_packet_was_seen_no_earlier_than_the_last_look_and_no_later_than_now() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let packets = |packets, last_used| Current { packets, last_used, ..Current::default() };
        let mut seen = Seen::new(start);
        seen.look(at(1), 1001, packets(0, None));
        assert_eq!(seen.at, None);
        seen.look(at(10), 1010, packets(5, Some(1004)));
        assert_eq!(seen.at, Some(at(5)), "in the second from 1004 on");
        seen.look(at(20), 1020, packets(5, Some(1004)));
        assert_eq!(seen.at, Some(at(5)), "nothing came");
        seen.look(at(30), 1030, packets(6, None));
        assert_eq!(seen.at, Some(at(30)), "the kernel does not say when");
        seen.look(at(31), 1031, packets(7, Some(900)));
        assert_eq!(seen.at, Some(at(30)), "the wall clock was set");
    }
}
