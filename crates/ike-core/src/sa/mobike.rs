//! An IKE SA that changes its outer addresses (RFC 4555): from one WAN link to another, or behind another NAT.
//!
//! The side that called decides on the path, as the RFC has it; the other one says which addresses it has. A link that is
//! lost moves everything at once. A better link that comes back is asked first: packets follow when the peer has
//! answered. A path that gives no answer is left for the next one, within the time that a dead peer is given.
//!
//! Departure: none. The responder moves at once and checks return routability afterwards (§3.7 leaves the order to policy):
//! the peer is authenticated, and a tunnel that waits is a tunnel that is down. Left out: NO_NATS_ALLOWED, which we never
//! send; going back to a link that failed without a sign from the kernel before that sign comes.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use ike_wire::{NotifyType, Payload, TsRange, find_notify};
use net_types::WanName;

use super::{
    Cx, IkeSa, News, Stage,
    agreement::error_of,
    channel::{notify, send},
    established::Established,
    exchange::{Exchange, Task},
};
use crate::{
    config::{ConnectionConfig, EngineConfig, Remote},
    event::Event,
    io::{Output, Path},
    nat::Nat,
};

/// Most further addresses that a side tells, or that are remembered of it.
const ADDRESSES: usize = 8;
/// Most paths that are tried.
const PATHS: usize = 64;
/// Octets of a COOKIE2 of ours; 8 to 64 are allowed (RFC 4555 §4.2.5).
const COOKIE2: usize = 16;

/// What is true of an SA whose two sides can move.
#[derive(Clone, Debug)]
pub(super) struct Mobility {
    /// Further addresses of the peer.
    peer_addresses: Vec<IpAddr>,
    /// The path that the children's packets take.
    carried_by: Path,
    /// Since when the path in use has been tried without an answer, unless the request on the way is younger.
    tried_since: Instant,
}

impl Mobility {
    /// The children's packets have been sent another way by other means.
    pub(super) fn is_carried_by(&mut self, path: Path) {
        self.carried_by = path;
    }
}

/// The notifies that offer mobility in IKE_AUTH; none where it is not wanted or cannot be, or where ESP does not go in UDP.
pub(super) fn offer(cx: &Cx<'_>, config: &ConnectionConfig, path: &Path) -> Vec<Payload> {
    if !config.may_move() || !path.natt {
        return Vec::new();
    }
    let mut payloads = vec![notify(NotifyType::MobikeSupported, [])];
    payloads.extend(further_addresses(cx.wans, config, path));
    payloads
}

/// What the offers of both sides make.
pub(super) fn agreed(now: Instant, config: &ConnectionConfig, path: &Path, theirs: &[Payload]) -> Option<Mobility> {
    find_notify(theirs, NotifyType::MobikeSupported).filter(|_| config.may_move() && path.natt)?;
    Some(Mobility { peer_addresses: addresses_in(config, theirs), carried_by: path.clone(), tried_since: now })
}

/// Our addresses beside the one in use (RFC 4555 §3.4).
fn further_addresses(
    wans: &BTreeMap<WanName, Vec<IpAddr>>,
    config: &ConnectionConfig,
    path: &Path,
) -> impl Iterator<Item = Payload> {
    let ours = config.wans().filter_map(|wan| wans.get(wan)).flatten().copied();
    ours.filter(|address| *address != path.local.ip()).take(ADDRESSES).map(|address| match address {
        IpAddr::V4(v4) => notify(NotifyType::AdditionalIp4Address, v4.octets()),
        IpAddr::V6(v6) => notify(NotifyType::AdditionalIp6Address, v6.octets()),
    })
}

/// Where the peer may be reached beside the address in use. Some peers tell every address that they have, those inside the
/// tunnel as well.
fn addresses_in(config: &ConnectionConfig, payloads: &[Payload]) -> Vec<IpAddr> {
    let address = |payload: &Payload| match payload {
        Payload::Notify(notify) if notify.kind == NotifyType::AdditionalIp4Address => {
            <[u8; 4]>::try_from(&notify.data[..]).ok().map(IpAddr::from)
        }
        Payload::Notify(notify) if notify.kind == NotifyType::AdditionalIp6Address => {
            <[u8; 16]>::try_from(&notify.data[..]).ok().map(IpAddr::from)
        }
        _ => None,
    };
    let outside = |address: &IpAddr| crosses_networks(*address) && !is_carried(config, *address);
    payloads.iter().filter_map(address).filter(outside).take(ADDRESSES).collect()
}

/// Whether packets to it can be for somebody beyond this host and its links.
fn crosses_networks(address: IpAddr) -> bool {
    let kept_here = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !kept_here && !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

/// Whether it lies behind the peer. A selector of all addresses says nothing about any one of them.
fn is_carried(config: &ConnectionConfig, address: IpAddr) -> bool {
    config.remote_ts.iter().any(|selector| match (&selector.range, address) {
        (TsRange::V4(first, last), IpAddr::V4(address)) => {
            (*first, *last) != (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST) && (first..=last).contains(&&address)
        }
        (TsRange::V6(first, last), IpAddr::V6(address)) => {
            let all = first.to_bits() == 0 && last.to_bits() == u128::MAX;
            !all && (first..=last).contains(&&address)
        }
        _ => false,
    })
}

fn tells_addresses(payloads: &[Payload]) -> bool {
    let kinds = [NotifyType::AdditionalIp4Address, NotifyType::AdditionalIp6Address, NotifyType::NoAdditionalAddresses];
    kinds.into_iter().any(|kind| find_notify(payloads, kind).is_some())
}

/// The ways from us to the peer, best first: by the order of the links, then the address in use, the configured one, and
/// those that the peer told.
fn paths(
    wans: &BTreeMap<WanName, Vec<IpAddr>>,
    settings: &EngineConfig,
    config: &ConnectionConfig,
    current: &Path,
    peer_addresses: &[IpAddr],
) -> Vec<Path> {
    let configured = match config.remote {
        Remote::Address(address) => Some(SocketAddr::new(address, settings.natt_port)),
        Remote::Any => None,
    };
    let told = peer_addresses.iter().map(|address| SocketAddr::new(*address, settings.natt_port));
    let mut remotes = vec![current.remote];
    for remote in configured.into_iter().chain(told) {
        if remotes.iter().all(|known| known.ip() != remote.ip()) {
            remotes.push(remote);
        }
    }
    let mut found = Vec::new();
    for (wan, addresses) in config.wans().filter_map(|wan| wans.get_key_value(wan)) {
        for remote in &remotes {
            let usable = |address: &&IpAddr| {
                address.is_ipv4() == remote.is_ipv4() && config.local_address.is_none_or(|only| only == **address)
            };
            found.extend(addresses.iter().filter(usable).map(|local| Path {
                wan: wan.clone(),
                local: SocketAddr::new(*local, settings.natt_port),
                remote: *remote,
                natt: true,
            }));
        }
    }
    found.truncate(PATHS);
    found
}

impl Established {
    /// What the peer's answer says of our address. Another NAT mapping than before is told like a move of ours (RFC 4555
    /// §3.8): a peer that follows nothing else would go on sending to the mapping that is gone.
    pub(super) fn heed_mapping(&mut self, path: &Path, payloads: &[Payload]) {
        let spis = (self.channel.spis.0, Some(self.channel.spis.1));
        let Some(seen) = Nat::detect(spis, path, payloads).seen_as else { return };
        let before = self.nat.seen_as.replace(seen);
        if self.mobility.is_some() && !self.peer_called && before.is_some_and(|before| before != seen) {
            self.enqueue_first(Task::Move);
        }
    }

    /// The path that the children's packets take; `path` where IKE and they cannot part.
    pub(super) fn carried_by(&self, path: &Path) -> Path {
        self.mobility.as_ref().map_or(path, |mobility| &mobility.carried_by).clone()
    }

    /// How long a path may give no answer before another is tried.
    fn path_patience(&self) -> Duration {
        (self.config.dpd.timeout / 4).clamp(Duration::from_millis(100), Duration::from_secs(5))
    }

    /// When to try another path, while something is asked and not answered.
    pub(super) fn reroute_at(&self) -> Option<Instant> {
        let mobility = self.mobility.as_ref().filter(|_| !self.peer_called)?;
        let asked = self.channel.window.outstanding()?.first_sent;
        Some(asked.max(mobility.tried_since).max(self.alive_at()) + self.path_patience())
    }
}

impl IkeSa {
    /// Whether it can go to other addresses.
    pub(crate) fn is_mobile(&self) -> bool {
        self.established().is_some_and(|established| established.mobility.is_some())
    }

    fn paths(&self, cx: &Cx<'_>) -> Vec<Path> {
        let Some((established, mobility)) = self.established().and_then(|e| Some((e, e.mobility.as_ref()?))) else {
            return Vec::new();
        };
        paths(cx.wans, cx.settings, &established.config, &self.path, &mobility.peer_addresses)
    }

    /// Its link or its address is gone: false if there is no other way.
    pub(crate) fn leave_path(&mut self, cx: &mut Cx<'_>) -> bool {
        let Some(next) = self.paths(cx).into_iter().next() else { return false };
        self.move_to(cx, next);
        self.repeat(cx);
        true
    }

    /// Another link can be used: a better one is taken, and any while its own is lost.
    pub(crate) fn consider_link(&mut self, cx: &mut Cx<'_>, wan: &WanName) {
        let Some(established) = self.established() else { return };
        let rank = |wan: &WanName| established.config.wans().position(|used| used == wan);
        let better = !established.peer_called && rank(wan) < rank(&self.path.wan);
        if !better && !established.is_stranded() {
            return;
        }
        if let Some(path) = self.paths(cx).into_iter().find(|path| path.wan == *wan) {
            self.move_to(cx, path);
            self.repeat(cx);
        }
    }

    /// Takes another path for IKE, and tells the peer. The children's packets follow at once when the path before is of no
    /// use any more, and else with the peer's answer.
    fn move_to(&mut self, cx: &mut Cx<'_>, path: Path) {
        let Stage::Established(established) = &mut self.stage else { return };
        let Some(mobility) = established.mobility.as_mut().filter(|_| path != self.path) else { return };
        mobility.tried_since = cx.now;
        let usable = |path: &Path| cx.wans.get(&path.wan).is_some_and(|wan| wan.contains(&path.local.ip()));
        let broken = !usable(&mobility.carried_by);
        let tunnel = established.config.tunnel.clone();
        let (from, to) = (std::mem::replace(&mut self.path, path.clone()), path);
        cx.out.push(Output::Event(Event::PathChanged { tunnel, from, to }));
        established.is_found();
        established.enqueue_first(Task::Move);
        if broken {
            self.carry(cx);
        }
        cx.news.push(News::Changed);
    }

    /// The children's packets take the path that IKE takes.
    fn carry(&mut self, cx: &mut Cx<'_>) {
        let Stage::Established(established) = &mut self.stage else { return };
        let Some(mobility) = established.mobility.as_mut().filter(|mobility| mobility.carried_by != self.path) else {
            return;
        };
        mobility.carried_by = self.path.clone();
        for spi_in in established.children.keys() {
            let (tunnel, spi_in, path) = (established.config.tunnel.clone(), *spi_in, self.path.clone());
            cx.out.push(Output::MoveChild { tunnel, spi_in, path });
        }
        cx.news.push(News::Changed);
    }

    /// The path in use gives no answer: the request goes another way.
    pub(super) fn reroute(&mut self, cx: &mut Cx<'_>) {
        let paths = self.paths(cx);
        let at = paths.iter().position(|path| *path == self.path);
        let next =
            paths.iter().cycle().skip(at.map_or(0, |at| at + 1)).take(paths.len()).find(|path| **path != self.path);
        if let Some(next) = next.cloned() {
            self.move_to(cx, next);
            // The time that the peer has for an answer goes on.
            let outstanding = self.established().and_then(|established| established.channel.window.outstanding());
            if let Some(packets) = outstanding.map(|outstanding| outstanding.packets.clone()) {
                send(&self.path, &packets, cx.out);
            }
            return;
        }
        if let Stage::Established(established) = &mut self.stage
            && let Some(mobility) = &mut established.mobility
        {
            mobility.tried_since = cx.now; // there is no other
        }
    }

    /// Tells the peer of the path in use; who was called tells its addresses (RFC 4555 §3.5, §3.6).
    pub(super) fn request_move(&mut self, cx: &mut Cx<'_>) {
        let Stage::Established(established) = &mut self.stage else { return };
        if established.peer_called {
            let mut payloads: Vec<_> = further_addresses(cx.wans, &established.config, &self.path).collect();
            if payloads.is_empty() {
                payloads.push(notify(NotifyType::NoAdditionalAddresses, []));
            }
            return self.request(cx, Exchange::Liveness, &payloads);
        }
        let spis = (established.channel.spis.0, Some(established.channel.spis.1));
        let mut payloads = vec![notify(NotifyType::UpdateSaAddresses, [])];
        payloads.extend(Nat::announce(spis, &self.path, established.config.encapsulation, cx.rng));
        self.request(cx, Exchange::Update(Box::new(self.path.clone())), &payloads);
    }

    /// The peer has taken the path, or not.
    pub(super) fn move_answered(&mut self, cx: &mut Cx<'_>, told: &Path, payloads: &[Payload]) {
        if *told != self.path {
            // It moved again meanwhile, and which copy of the request arrived is not known (RFC 4555 §3.5).
            if let Stage::Established(established) = &mut self.stage {
                established.enqueue_first(Task::Move);
            }
            return;
        }
        if error_of(payloads).is_some() {
            return self.reroute(cx);
        }
        if let Stage::Established(established) = &mut self.stage {
            let spis = (established.channel.spis.0, Some(established.channel.spis.1));
            established.found_nat(cx.now, Nat::detect(spis, &self.path, payloads));
        }
        self.carry(cx);
    }

    /// Asks for a sign of life; from behind a NAT also what we look like from there (RFC 4555 §3.8).
    pub(super) fn request_liveness(&mut self, cx: &mut Cx<'_>) {
        let Stage::Established(established) = &mut self.stage else { return };
        let asks = established.mobility.is_some() && !established.peer_called && established.nat.we_are_behind;
        let spis = (established.channel.spis.0, Some(established.channel.spis.1));
        let encapsulation = established.config.encapsulation;
        let payloads = asks.then(|| Nat::announce(spis, &self.path, encapsulation, cx.rng));
        self.request(cx, Exchange::Liveness, payloads.as_ref().map_or(&[], |payloads| &payloads[..]));
    }

    /// Asks for an answer from where the peer says that it is (RFC 4555 §3.7).
    pub(super) fn request_verification(&mut self, cx: &mut Cx<'_>) {
        let mut cookie = [0; COOKIE2];
        cx.rng.fill_bytes(&mut cookie);
        self.request(cx, Exchange::Verify(cookie.to_vec()), &[notify(NotifyType::Cookie2, cookie)]);
    }

    /// The answer from there has to show that the question arrived there.
    pub(super) fn verification_answered(&mut self, cx: &mut Cx<'_>, cookie: &[u8], payloads: &[Payload]) {
        if find_notify(payloads, NotifyType::Cookie2).is_none_or(|notify| notify.data != cookie) {
            self.break_off(cx, "the peer's new address does not return COOKIE2".to_owned());
        }
    }

    /// What an INFORMATIONAL request says about addresses; gives what the answer has to hold.
    pub(super) fn mobility_requested(&mut self, cx: &mut Cx<'_>, payloads: &[Payload]) -> Vec<Payload> {
        let mut answer = Vec::new();
        if let Some(cookie) = find_notify(payloads, NotifyType::Cookie2).filter(|c| (8..=64).contains(&c.data.len())) {
            answer.push(notify(NotifyType::Cookie2, cookie.data.clone()));
        }
        let arrival = self.arrival.clone().unwrap_or_else(|| self.path.clone());
        let Stage::Established(established) = &mut self.stage else { return answer };
        let config = established.config.clone();
        let Some(mobility) = &mut established.mobility else { return answer };
        let spis = (established.channel.spis.0, Some(established.channel.spis.1));
        if tells_addresses(payloads) {
            mobility.peer_addresses = addresses_in(&config, payloads);
            if !established.peer_called && arrival.remote != self.path.remote {
                // It has lost the address that we send to.
                self.move_to(cx, Path { remote: arrival.remote, ..self.path.clone() });
                self.repeat(cx);
                return answer;
            }
        }
        if find_notify(payloads, NotifyType::NatDetectionSourceIp).is_some() {
            answer.extend(Nat::announce(spis, &arrival, config.encapsulation, cx.rng));
        }
        if find_notify(payloads, NotifyType::UpdateSaAddresses).is_some() {
            if !established.peer_called || !arrival.natt || !config.uses(&arrival.wan) {
                return vec![notify(NotifyType::UnacceptableAddresses, [])];
            }
            established.found_nat(cx.now, Nat::detect(spis, &arrival, payloads));
            if arrival != self.path {
                if arrival.remote.ip() != self.path.remote.ip() {
                    established.enqueue(Task::Verify);
                }
                let (tunnel, from, to) = (config.tunnel.clone(), self.path.remote, arrival.remote);
                cx.out.push(Output::Event(Event::PeerMoved { tunnel, from, to }));
                self.path = arrival;
                self.carry(cx);
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use ike_wire::TrafficSelector;

    use super::*;

    #[test]
    fn paths_go_by_link_then_by_the_peers_addresses_and_stay_in_their_family() {
        let config = crate::config::tests::connection(["isp1", "lte"]);
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let wans: BTreeMap<WanName, Vec<IpAddr>> = [
            ("lte", vec![address("203.0.113.9")]),
            ("isp1", vec![address("198.51.100.2"), address("2001:db8::2")]),
            ("other", vec![address("192.0.2.99")]),
        ]
        .map(|(wan, addresses)| (wan.parse().unwrap(), addresses))
        .into();
        let current = Path {
            wan: "isp1".parse().unwrap(),
            local: "198.51.100.2:4500".parse().unwrap(),
            remote: "192.0.2.1:61000".parse().unwrap(),
            natt: true,
        };
        let told = [address("192.0.2.1"), address("2001:db8::1")];
        let found = paths(&wans, &EngineConfig::default(), &config, &current, &told);
        let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "198.51.100.2:4500 to 192.0.2.1:61000 over isp1",
                "[2001:db8::2]:4500 to [2001:db8::1]:4500 over isp1",
                "203.0.113.9:4500 to 192.0.2.1:61000 over lte",
            ]
        );
    }

    #[test]
    fn addresses_of_odd_lengths_are_passed_over_and_many_are_cut() {
        let odd = notify(NotifyType::AdditionalIp4Address, [1, 2, 3]);
        let many = (0..50).map(|n| notify(NotifyType::AdditionalIp4Address, [192, 0, 2, n]));
        let payloads: Vec<_> = std::iter::once(odd).chain(many).collect();
        assert_eq!(addresses_in(&crate::config::tests::connection(["isp1", "lte"]), &payloads).len(), ADDRESSES);
    }

    #[test]
    fn addresses_that_lead_into_the_tunnel_or_nowhere_are_passed_over() {
        let mut config = crate::config::tests::connection(["isp1", "lte"]);
        let v4 = ["169.254.1.2", "127.0.0.1", "10.2.0.1", "198.51.100.6", "0.0.0.0"]
            .map(|text| notify(NotifyType::AdditionalIp4Address, text.parse::<Ipv4Addr>().unwrap().octets()));
        let v6 = ["fe80::1", "2001:db8:2::1", "2001:db8::6"]
            .map(|text| notify(NotifyType::AdditionalIp6Address, text.parse::<std::net::Ipv6Addr>().unwrap().octets()));
        let payloads: Vec<_> = v4.into_iter().chain(v6).collect();
        let shown = |config: &ConnectionConfig| -> Vec<String> {
            addresses_in(config, &payloads).iter().map(ToString::to_string).collect()
        };
        let selectors = |prefixes: &[&str]| -> Vec<TrafficSelector> {
            prefixes.iter().map(|text| TrafficSelector::from_prefix(&text.parse().unwrap())).collect()
        };
        config.remote_ts = selectors(&["0.0.0.0/0", "::/0"]);
        assert_eq!(shown(&config), ["10.2.0.1", "198.51.100.6", "2001:db8:2::1", "2001:db8::6"]);
        config.remote_ts = selectors(&["10.2.0.0/16", "2001:db8:2::/48"]);
        assert_eq!(shown(&config), ["198.51.100.6", "2001:db8::6"]);
    }
}
