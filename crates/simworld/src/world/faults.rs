//! What is done to routers and links, and what `ipsecd` makes of it.

use std::{collections::BTreeMap, time::Duration};

use net_types::Prefix;
use rand::Rng;
use rpc::{ClientError, Followed, TunnelEvent, TunnelState, TunnelStatus, envelope::Hello};
use simnet::Profile;

use super::{DELAY, Later, Violation, World};
use crate::{
    daemon::{Daemon, Outbox, Start},
    fault::Fault,
    topology::{LinkKind, ifindex},
};

impl World {
    pub(super) fn tunnels_of(&self, router: usize) -> Vec<usize> {
        self.routers[router].tunnels.keys().copied().collect()
    }

    /// Both ends of a tunnel notice whether it works, and negotiate it anew where it can.
    pub(super) fn ike(&mut self, link: usize) {
        let ends = self.plan.links[link].ends;
        let both = ends.iter().all(|end| self.routers[*end].powered && self.routers[*end].ipsecd);
        let passes = !self.links[link].cut.contains(&true);
        if both && passes {
            self.links[link].sa = true;
            self.sync(link);
        }
        let works = passes && self.links[link].sa && ends.iter().all(|end| self.routers[*end].powered);
        (0..2).for_each(|end| self.tunnel_is(link, end, works));
        if passes && !works {
            self.in_a_while(1000..3000, Later::Ike(link));
        }
    }

    /// ipsecd of one end knows that a tunnel works, or not.
    pub(super) fn tunnel_is(&mut self, link: usize, end: usize, up: bool) {
        let router = self.plan.links[link].ends[end];
        let state = &mut self.routers[router];
        let Some((known, generation)) = state.tunnels.get_mut(&link).filter(|_| state.ipsecd) else { return };
        if std::mem::replace(known, up) != up {
            *generation += 1;
            if state.followed {
                let event = TunnelEvent::Status(self.status(router, link));
                self.with_daemon(router, |daemon, now, out| daemon.tunnel(now, Followed::Event(event), out));
            }
        }
    }

    pub(super) fn status(&self, router: usize, link: usize) -> TunnelStatus {
        let (up, generation) = self.routers[router].tunnels[&link];
        let state = if up {
            TunnelState::Up { mtu: 1438, addresses: Vec::new(), selectors: Vec::new() }
        } else {
            TunnelState::Down { cause: "the peer does not answer".into() }
        };
        TunnelStatus {
            tunnel: format!("t{link}").parse().expect("a name"),
            ifindex: ifindex(link),
            wan: "isp".parse().expect("a name"),
            state,
            since_unix_us: generation,
            generation,
        }
    }

    /// bgpd finds ipsecd, and hears everything.
    pub(super) fn follow(&mut self, router: usize) {
        let state = &mut self.routers[router];
        if state.followed || !state.ipsecd || state.daemon.is_none() {
            return;
        }
        state.followed = true;
        let mut said = vec![Followed::Connected(Hello::default())];
        let all = self.tunnels_of(router);
        said.extend(all.into_iter().map(|link| Followed::Event(TunnelEvent::Status(self.status(router, link)))));
        said.push(Followed::Event(TunnelEvent::Synced));
        for said in said {
            self.with_daemon(router, |daemon, now, out| daemon.tunnel(now, said, out));
        }
    }

    pub(super) fn lose_rpc(&mut self, router: usize) {
        if std::mem::take(&mut self.routers[router].followed) {
            let lost = Followed::Lost(ClientError::Lost("reset".into()));
            self.with_daemon(router, |daemon, now, out| daemon.tunnel(now, lost, out));
        }
    }

    pub(super) fn start(&mut self, router: usize) {
        let now = self.now();
        let seed = self.random.random();
        let state = &self.routers[router];
        if !state.powered || state.daemon.is_some() {
            return;
        }
        let carrier = (0..self.links.len()).filter(|link| self.plan.links[*link].kind == LinkKind::Lan);
        let carrier = carrier.map(|link| (link, !self.links[link].unplugged)).collect();
        let (config, kernel) = (&state.config, state.kernel.clone());
        let mut out = Outbox::default();
        let start = Start { plan: &self.plan, router, config, kernel, carrier, seed, now };
        let daemon = Daemon::start(start, &mut out);
        let due = daemon.due();
        self.routers[router].daemon = Some(daemon);
        self.routers[router].sessions_before = self.routers[router].sessions.clone();
        self.routers[router].spoken.fill(false);
        self.reschedule(router, due);
        self.deliver(router, out);
        self.in_a_while(10..200, Later::Follow(router));
    }

    pub(super) fn kill(&mut self, router: usize, in_order: bool) {
        let now = self.now();
        self.routers[router].followed = false;
        let Some(daemon) = self.routers[router].daemon.take() else { return };
        if self.routers[router].repairing {
            self.routers[router].forget_missing();
        }
        self.reschedule(router, None);
        let mut out = Outbox::default();
        daemon.end(now, in_order, &mut out);
        self.deliver(router, out);
    }

    pub(super) fn power_on(&mut self, router: usize) {
        if std::mem::replace(&mut self.routers[router].powered, true) {
            return;
        }
        let tunnels = (0..self.links.len()).filter(|link| {
            let link = &self.plan.links[*link];
            link.kind == LinkKind::Tunnel && link.ends.contains(&router)
        });
        self.routers[router].tunnels = tunnels.map(|link| (link, (false, 1))).collect();
        self.in_a_while(100..1000, Later::Ipsecd(router));
        self.in_a_while(100..1000, Later::StartBgpd(router));
        self.sync_all(router);
    }

    pub(super) fn power_off(&mut self, router: usize) {
        if !std::mem::take(&mut self.routers[router].powered) {
            return;
        }
        let state = &mut self.routers[router];
        (state.daemon, state.ipsecd, state.followed) = (None, false, false);
        state.kernel.clear();
        state.changes = 0;
        state.owed.clear();
        state.told.iter_mut().for_each(BTreeMap::clear);
        self.reschedule(router, None);
        for link in self.tunnels_of(router) {
            self.links[link].sa = false;
            // Found out when nobody answers.
            self.in_a_while(4000..8000, Later::Ike(link));
        }
        self.sync_all(router);
    }

    pub(super) fn sync_all(&mut self, router: usize) {
        for link in 0..self.links.len() {
            if self.plan.links[link].ends.contains(&router) {
                self.sync(link);
            }
        }
    }

    pub(super) fn plug(&mut self, link: usize, plugged: bool) {
        let is_lan = self.plan.links[link].kind == LinkKind::Lan;
        if !is_lan || std::mem::replace(&mut self.links[link].unplugged, !plugged) != plugged {
            return;
        }
        self.sync(link);
        for router in self.plan.links[link].ends {
            let state = &mut self.routers[router];
            if !state.powered {
                continue;
            }
            state.kernel.twin_mut().set_link(ifindex(link), plugged);
            if state.daemon.is_none() {
                state.forget_missing();
            }
            let events = state.kernel.twin_mut().take_events();
            // What the kernel drops with a link is missing until it is written again.
            state.repairing |= !plugged;
            self.with_daemon(router, |daemon, now, out| daemon.carrier(now, link, plugged, events, out));
        }
    }

    pub(super) fn mend(&mut self, link: usize) {
        self.net.set_profile(self.links[link].id, Profile::default().delay(DELAY));
        self.links[link].cut = [false; 2];
        self.sync(link);
        self.plug(link, true);
        if self.plan.links[link].kind == LinkKind::Tunnel {
            self.in_a_while(500..2000, Later::Ike(link));
        }
    }

    pub(super) fn cut(&mut self, link: usize, ends: &[usize]) {
        ends.iter().for_each(|end| self.links[link].cut[*end] = true);
        self.sync(link);
        if self.plan.links[link].kind == LinkKind::Tunnel {
            self.in_a_while(4000..8000, Later::Ike(link));
        }
    }

    pub(super) fn apply(&mut self, fault: Fault) -> Result<(), Violation> {
        self.figures.faults += usize::from(!matches!(fault, Fault::Settle));
        match fault {
            Fault::Cut(link) => self.cut(link, &[0, 1]),
            Fault::CutOneWay(link, end) => self.cut(link, &[end]),
            Fault::Spoil(link) => {
                let spoilt = Profile::default().delay(DELAY).loss(0.1).jitter(Duration::from_millis(60));
                self.net.set_profile(self.links[link].id, spoilt);
            }
            Fault::Mend(link) => self.mend(link),
            Fault::DeleteSa(link, end) => {
                self.links[link].sa &= self.plan.links[link].kind == LinkKind::Lan;
                let heard = !self.links[link].cut[end];
                self.sync(link);
                self.tunnel_is(link, end, false);
                if heard {
                    self.in_a_while(10..50, Later::Deleted(link, 1 - end));
                }
                self.in_a_while(1000..3000, Later::Ike(link));
            }
            Fault::Unplug(link) => self.plug(link, false),
            Fault::PowerOff(router) => self.power_off(router),
            Fault::PowerOn(router) => self.power_on(router),
            Fault::KillBgpd(router, pause) | Fault::StopBgpd(router, pause) => {
                self.kill(router, matches!(fault, Fault::StopBgpd(..)));
                self.in_a_while(pause.into()..u64::from(pause) + 1, Later::StartBgpd(router));
            }
            Fault::RestartIpsecd(router, pause) | Fault::CrashIpsecd(router, pause) => {
                self.routers[router].ipsecd = false;
                self.lose_rpc(router);
                if matches!(fault, Fault::CrashIpsecd(..)) {
                    for link in self.tunnels_of(router) {
                        self.links[link].sa = false;
                        self.sync(link);
                        let known = self.routers[router].tunnels.get_mut(&link);
                        known.into_iter().for_each(|known| *known = (false, known.1 + 1));
                    }
                }
                self.in_a_while(pause.into()..u64::from(pause) + 1, Later::Ipsecd(router));
            }
            Fault::LoseRpc(router) => {
                self.lose_rpc(router);
                self.in_a_while(10..500, Later::Follow(router));
            }
            Fault::ResetSession(router, at) => {
                self.with_daemon(router, |daemon, now, out| daemon.reset(now, at, out));
            }
            // Without the daemon nobody could mend it.
            Fault::DeleteRoute(router, _) if self.routers[router].daemon.is_none() => {}
            Fault::DeleteRoute(router, nth) => {
                let state = &mut self.routers[router];
                let found: Vec<Prefix> = state.kernel.twin().table().into_keys().collect();
                let Some(prefix) = found.get(nth.checked_rem(found.len()).unwrap_or(0)) else { return Ok(()) };
                state.kernel.twin_mut().lose_route(prefix, true);
                let events = state.kernel.twin_mut().take_events();
                state.repairing = true;
                self.with_daemon(router, |daemon, now, _| daemon.kernel(now, events));
            }
            Fault::LoseAnswer(router) => self.routers[router].kernel.twin_mut().lose_answers(1),
            Fault::MendAll => {
                (0..self.routers.len()).for_each(|router| self.power_on(router));
                (0..self.links.len()).for_each(|link| self.mend(link));
            }
            Fault::Settle => self.settle()?,
        }
        Ok(())
    }
}
