//! The SAs: letting one take a step, and acting on what it reports.

use std::time::Instant;

use ike_wire::IkeSpi;
use net_types::{Spi, TunnelName};

use super::{Ike, TimerKey};
use crate::{
    event::{DownCause, Event},
    io::{Output, Path},
    sa::{Cx, Ending, IkeSa, News, init},
    tunnel::{Setback, Standing},
};

impl Ike {
    pub(super) fn sas_of(&self, tunnel: &TunnelName) -> Vec<IkeSpi> {
        self.tunnels.get(tunnel).map(|tunnel| tunnel.sas.iter().copied().collect()).unwrap_or_default()
    }

    pub(super) fn close_all(&mut self, now: Instant, tunnel: &TunnelName, cause: DownCause, out: &mut Vec<Output>) {
        for spi in self.sas_of(tunnel) {
            let cause = cause.clone();
            self.with_sa(now, spi, out, |sa, cx| sa.close(cx, cause));
        }
    }

    /// Takes a tunnel out of the configuration, its pairs with it; IKE SAs that still say goodbye end on their own.
    pub(super) fn forget(&mut self, now: Instant, name: &TunnelName, out: &mut Vec<Output>) {
        if let Some(tunnel) = self.tunnels.remove(name) {
            tunnel.remove(now, &mut self.spis, out);
            self.touched.remove(name);
            self.timers.set(&TimerKey::Tunnel(name.clone()), None);
        }
    }

    pub(super) fn with_child(
        &mut self,
        now: Instant,
        child: Spi,
        out: &mut Vec<Output>,
        step: impl FnOnce(&mut IkeSa, &mut Cx<'_>),
    ) {
        let owner = self.spis.tunnel_of(child).and_then(|name| self.tunnels.get(name)?.sa_of(child));
        if let Some(spi) = owner {
            self.with_sa(now, spi, out, step);
        }
    }

    /// Lets one SA take a step, then acts on its news and arms its timer.
    pub(super) fn with_sa(
        &mut self,
        now: Instant,
        spi: IkeSpi,
        out: &mut Vec<Output>,
        step: impl FnOnce(&mut IkeSa, &mut Cx<'_>),
    ) {
        let Some(mut sa) = self.sas.remove(&spi) else { return };
        let mut cx = context!(self, now, out);
        step(&mut sa, &mut cx);
        sa.proceed(&mut cx);
        let news = cx.news;
        self.insert(sa, out);
        for item in news {
            self.act_on(now, spi, item, out);
        }
        if self.sas.get(&spi).is_some_and(IkeSa::is_over) {
            self.remove(spi, out);
        }
    }

    pub(super) fn insert(&mut self, sa: IkeSa, out: &mut Vec<Output>) {
        let spi = sa.spi();
        self.timers.set(&TimerKey::Sa(spi), sa.deadline());
        if !sa.is_half_open() {
            self.door.passed(spi, &self.settings, out);
        }
        if !matches!(sa.view().standing, Standing::Larval) {
            self.call_ended(spi);
        }
        if let Some(name) = sa.tunnel() {
            if let Some(tunnel) = self.tunnels.get_mut(name) {
                tunnel.sas.insert(spi);
            }
            self.touched.insert(name.clone());
        }
        self.sas.insert(spi, sa);
    }

    /// Whoever waits to call the same peer may do so.
    fn call_ended(&mut self, spi: IkeSpi) {
        self.touched.extend(self.calls.ended(spi));
    }

    pub(super) fn remove(&mut self, spi: IkeSpi, out: &mut Vec<Output>) {
        let Some(sa) = self.sas.remove(&spi) else { return };
        self.timers.set(&TimerKey::Sa(spi), None);
        self.door.left(spi, &self.settings, out);
        self.call_ended(spi);
        if let Some(tunnel) = sa.tunnel().and_then(|name| self.tunnels.get_mut(name)) {
            tunnel.sas.remove(&spi);
        }
    }

    /// What an SA reports about itself becomes the tunnel's state, and sometimes another SA's.
    pub(super) fn act_on(&mut self, now: Instant, spi: IkeSpi, news: News, out: &mut Vec<Output>) {
        let Some(name) = self.sas.get(&spi).and_then(IkeSa::tunnel).cloned() else { return };
        let Some(tunnel) = self.tunnels.get_mut(&name) else { return };
        match news {
            News::Established { initial_contact } => {
                self.established(now, spi, &name, initial_contact, out);
            }
            News::ChildInstalled { spi_in, spi_out, ready } => {
                tunnel.child_installed(spi, spi_in, spi_out, ready);
                self.renewed(now, spi, &name, out);
            }
            News::ChildReady(child) => tunnel.child_ready(child),
            News::ChildPhase(child, phase) => tunnel.child_phase(child, phase),
            News::ChildGone { spi_in, cause } => {
                tunnel.child_gone(now, spi_in);
                if let Some(cause) = cause {
                    tunnel.set_cause(cause);
                    tunnel.setback(now, Setback::Lost, &mut *self.rng);
                }
            }
            News::ChildRefused { .. } if tunnel.has_children() && self.sas.get(&spi).is_some_and(IkeSa::renews) => {
                // What was to be replaced goes on, and has another try later.
                self.with_sa(now, spi, out, |sa, cx| sa.close_superseded(cx));
            }
            News::ChildRefused { cause, setback } => {
                tunnel.set_cause(cause);
                tunnel.setback(now, setback, &mut *self.rng);
            }
            News::ChildExpected => tunnel.expect_child(now),
            News::Heir(heir) => self.insert(*heir, out),
            News::Inherit { heir, children, path } => {
                if let (Some(old), Some(new)) = (self.sas.get(&spi), self.sas.get(&heir)) {
                    let (old, new) = (old.spis(), new.spis());
                    out.push(Output::Event(Event::IkeRekeyed { tunnel: name.clone(), old, new }));
                }
                for child in children.keys() {
                    tunnel.child_moved(*child, heir);
                }
                self.with_sa(now, heir, out, |sa, cx| sa.inherit(cx, children, &path));
            }
            News::Reauthenticate => self.renew(now, spi, &name, out),
            News::Elected => {
                for other in self.sas_of(&name) {
                    self.with_sa(now, other, out, |sa, cx| sa.elect(cx, spi));
                }
            }
            News::CloseRival(rival) => {
                self.with_sa(now, rival, out, |sa, cx| sa.close_superseded(cx));
            }
            News::AwaitClose(rival) => {
                self.with_sa(now, rival, out, |sa, cx| sa.await_close(cx));
            }
            News::CallerRefused(why) => tunnel.set_cause(DownCause::Refused(why)),
            News::Changed => {}
            News::Ended(ending) => self.ended(now, &name, ending),
        }
    }

    /// An IKE SA was authenticated: attempts of ours that are no longer needed end, and so do SAs that the peer says it
    /// has forgotten.
    pub(super) fn established(
        &mut self,
        now: Instant,
        spi: IkeSpi,
        name: &TunnelName,
        initial_contact: Option<Instant>,
        out: &mut Vec<Output>,
    ) {
        for other in self.sas_of(name) {
            let Some(sa) = self.sas.get(&other).filter(|_| other != spi) else { continue };
            // What was heard on an SA after this call began is from the same life of the peer as the call: the two
            // crossed. They are resolved as duplicates.
            let heard_since = |began: Instant| sa.established().is_some_and(|established| established.heard() >= began);
            if sa.is_calling() {
                // Nothing was promised to the peer yet.
                self.with_sa(now, other, out, |sa, _| sa.withdraw());
            } else if sa.is_established() && initial_contact.is_some_and(|began| !heard_since(began)) {
                // RFC 7296 §2.4. The peer is still told, in case it knows better.
                self.with_sa(now, other, out, |sa, cx| sa.close_superseded(cx));
            }
        }
    }

    /// Calls the peer of an SA once more, by the same way, to prove anew who the two are. The SA carries on meanwhile.
    pub(super) fn renew(&mut self, now: Instant, spi: IkeSpi, name: &TunnelName, out: &mut Vec<Output>) {
        let (Some(sa), Some(tunnel)) = (self.sas.get(&spi), self.tunnels.get(name)) else { return };
        let (config, port) = (tunnel.config.clone(), self.settings.ike_port);
        let mut path = Path { natt: false, ..sa.path().clone() };
        path.local.set_port(port);
        path.remote.set_port(port);
        let mut cx = context!(self, now, out);
        if let Some(sa) = init::call(&mut cx, config, path) {
            self.insert(sa.renewing(), out);
        }
    }

    /// A pair was installed on an IKE SA that was made to authenticate anew: the ones before it have done their duty.
    pub(super) fn renewed(&mut self, now: Instant, spi: IkeSpi, name: &TunnelName, out: &mut Vec<Output>) {
        let Some(new) = self.sas.get_mut(&spi).filter(|sa| sa.renews()).map(IkeSa::take_renewal) else { return };
        for other in self.sas_of(name) {
            let Some(sa) = self.sas.get(&other).filter(|sa| other != spi && sa.is_called_by_us()) else { continue };
            let old = sa.spis();
            out.push(Output::Event(Event::Reauthenticated { tunnel: name.clone(), old, new }));
            self.with_sa(now, other, out, |sa, cx| sa.close_superseded(cx));
        }
    }

    pub(super) fn ended(&mut self, now: Instant, name: &TunnelName, ending: Ending) {
        let Some(tunnel) = self.tunnels.get_mut(name) else { return };
        let (cause, setback) = match ending {
            Ending::Superseded => return,
            Ending::Lost(cause) => (cause, Setback::Lost),
            Ending::Refused(why) => (DownCause::Refused(why), Setback::Refused),
        };
        let restarted = cause == DownCause::PeerRestarted;
        if cause == DownCause::PeerUnreachable {
            tunnel.was_not_answered();
        }
        tunnel.set_cause(cause);
        tunnel.setback(now, setback, &mut *self.rng);
        if restarted {
            tunnel.call_now(now); // it is there, and it said so
        }
    }
}
