//! What the operator, the configuration and the links want.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Instant};

use net_types::{TunnelName, WanName};

use super::{Ike, tunnels::call_paths};
use crate::{
    config::ConnectionConfig,
    event::{DownCause, Event},
    io::Output,
    tunnel::Tunnel,
};

impl Ike {
    pub(super) fn reconfigure(&mut self, now: Instant, tunnels: Vec<ConnectionConfig>, out: &mut Vec<Output>) {
        let wanted: BTreeMap<_, _> =
            tunnels.into_iter().map(|config| (config.tunnel.clone(), Arc::new(config))).collect();
        let gone: Vec<_> = self.tunnels.keys().filter(|name| !wanted.contains_key(*name)).cloned().collect();
        for name in gone {
            self.close_all(now, &name, DownCause::Reconfigured, out);
            self.forget(now, &name, out);
        }
        for (name, config) in wanted {
            let Some(tunnel) = self.tunnels.get_mut(&name) else {
                self.tunnels.insert(name.clone(), Tunnel::new(now, config));
                self.touched.insert(name);
                continue;
            };
            if tunnel.config == config {
                continue;
            }
            let keeps_sas = tunnel.config.negotiates_like(&config);
            let other_trust = tunnel.config.remote_credential != config.remote_credential;
            let was_held = tunnel.config.begins_held_down();
            tunnel.config = config.clone();
            if was_held != config.begins_held_down() {
                tunnel.admin_down = config.begins_held_down();
            }
            let admin_down = tunnel.admin_down;
            tunnel.call_now(now);
            if admin_down {
                self.close_all(now, &name, config.held_down(), out);
            } else if !keeps_sas {
                self.close_all(now, &name, DownCause::Reconfigured, out);
            } else {
                for spi in self.sas_of(&name) {
                    let config = config.clone();
                    self.with_sa(now, spi, out, |sa, _| sa.reconfigured(config));
                    if other_trust {
                        self.with_sa(now, spi, out, |sa, cx| sa.check_peer_again(cx));
                    }
                }
            }
            self.touched.insert(name);
        }
    }

    pub(super) fn wan_changed(&mut self, now: Instant, wan: WanName, addresses: Vec<IpAddr>, out: &mut Vec<Output>) {
        let before = self.wans.insert(wan.clone(), addresses.clone()).unwrap_or_default();
        if before == addresses {
            return;
        }
        if before.is_empty() != addresses.is_empty() {
            out.push(Output::Event(Event::Wan { wan: wan.clone(), up: !addresses.is_empty() }));
        }
        let bound: Vec<_> =
            self.tunnels.iter().filter(|(_, tunnel)| tunnel.config.uses(&wan)).map(|(name, _)| name.clone()).collect();
        for name in bound {
            let mut moved = false;
            for spi in self.sas_of(&name) {
                let Some(sa) = self.sas.get(&spi) else { continue };
                let mobile = sa.is_mobile();
                if sa.path().wan != wan {
                    if mobile && !addresses.is_empty() {
                        self.with_sa(now, spi, out, |sa, cx| sa.consider_link(cx, &wan));
                        moved = true;
                    }
                } else if addresses.contains(&sa.path().local.ip()) {
                    self.with_sa(now, spi, out, |sa, cx| sa.link_back(cx));
                } else {
                    let mut left = false;
                    self.with_sa(now, spi, out, |sa, cx| left = mobile && sa.leave_path(cx));
                    moved |= left;
                    if left {
                        continue;
                    }
                    let elsewhere = self
                        .tunnels
                        .get(&name)
                        .is_some_and(|tunnel| !call_paths(&self.settings, &self.wans, &tunnel.config).is_empty());
                    if addresses.is_empty() && !elsewhere {
                        self.with_sa(now, spi, out, |sa, cx| sa.link_lost(cx));
                    } else {
                        // Its address is gone, and it cannot follow.
                        self.with_sa(now, spi, out, |sa, cx| {
                            let cause = DownCause::AddressAway(sa.path().local.ip());
                            sa.vanish(cx, cause);
                        });
                        self.call_now(now, &name);
                    }
                }
            }
            if let Some(tunnel) = self.tunnels.get_mut(&name).filter(|_| !addresses.is_empty() && !moved) {
                tunnel.link_back(now);
            }
            self.touched.insert(name);
        }
    }

    pub(super) fn call_now(&mut self, now: Instant, name: &TunnelName) {
        if let Some(tunnel) = self.tunnels.get_mut(name) {
            tunnel.call_now(now);
        }
    }

    pub(super) fn initiate(&mut self, now: Instant, name: TunnelName) {
        if let Some(tunnel) = self.tunnels.get_mut(&name).filter(|tunnel| !tunnel.config.shutdown) {
            if std::mem::take(&mut tunnel.admin_down) {
                tunnel.set_cause(tunnel.config.first_cause());
            }
            tunnel.call_once(now);
            self.touched.insert(name);
        }
    }

    pub(super) fn terminate(&mut self, now: Instant, name: &TunnelName, out: &mut Vec<Output>) {
        if let Some(tunnel) = self.tunnels.get_mut(name) {
            tunnel.admin_down = true;
            let cause = tunnel.config.held_down();
            self.touched.insert(name.clone());
            self.close_all(now, name, cause, out);
        }
    }

    pub(super) fn rekey(&mut self, now: Instant, name: &TunnelName, ike: bool, out: &mut Vec<Output>) {
        let Some(active) = self.tunnels.get(name).and_then(Tunnel::active) else { return };
        self.with_child(now, active, out, |sa, cx| sa.rekey_now(cx, (!ike).then_some(active)));
    }

    pub(super) fn shutdown(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.ending = true;
        let names: Vec<_> = self.tunnels.keys().cloned().collect();
        for name in names {
            self.terminate(now, &name, out);
        }
        let half_open: Vec<_> = self.sas.iter().filter(|(_, sa)| sa.tunnel().is_none()).map(|(spi, _)| *spi).collect();
        for spi in half_open {
            self.with_sa(now, spi, out, |sa, cx| sa.vanish(cx, DownCause::AdminDown));
        }
    }
}
