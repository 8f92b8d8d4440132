//! The task of one virtual router.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use config::model::VrrpTracked;
use netwatch::View;
use tokio::sync::watch;
use tracing::{debug, info, warn};
use vrrp::{Addresses, Advertisement, Output, Role, VirtualRouter};

use super::{
    Key, Mishap, Status, Tracking, Wanted, arp,
    kernel::Kernel,
    link::{Link, Place, present},
    lock, ndisc,
};
use crate::tap::{Kind, Tap};

/// When everybody is told where the addresses are, from their taking on: the first packet may be lost, and switches and
/// hosts may be as slow as others expect them to be.
const ANNOUNCED_AFTER: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5)];
/// How often sessions are looked at, which tell nobody that they have changed.
const LOOK: Duration = Duration::from_millis(100);
/// Between attempts at a socket.
const RETRY: Duration = Duration::from_secs(1);

/// What every group has around it.
#[derive(Clone)]
pub(super) struct Environment {
    pub(super) tracking: Tracking,
    pub(super) tap: Tap,
    /// Whether anything may be written into the kernel.
    pub(super) kernel: bool,
}

/// Serves a virtual router until it is not wanted any more.
pub(super) async fn run(
    key: Key,
    mut wanted: watch::Receiver<Option<Wanted>>,
    mut links: watch::Receiver<Arc<View>>,
    environment: Environment,
    status: Arc<Mutex<Status>>,
) {
    let Some(begun) = wanted.borrow_and_update().clone() else { return };
    let kernel = match Kernel::open() {
        Ok(kernel) => kernel,
        Err(error) => {
            let Key { interface, vrid, family } = &key;
            return warn!(%interface, %vrid, %family, %error, "no virtual router without rtnetlink");
        }
    };
    let mut news = environment.tracking.news();
    let view = links.borrow_and_update().clone();
    let core = VirtualRouter::new(core_config(&key, &begun));
    let mut group = Group {
        key,
        wanted: begun,
        core,
        kernel,
        environment,
        status,
        view,
        place: None,
        link: None,
        announcements: VecDeque::new(),
        retry_at: None,
        heard_at: None,
        ceased: None,
        oddness_told: false,
    };
    group.look(Instant::now()).await;
    group.follow_links().await;
    loop {
        let readable = async {
            match &group.link {
                Some(link) => link.readable().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = wanted.changed() => {
                let wanted = wanted.borrow_and_update().clone().filter(|_| changed.is_ok());
                match wanted {
                    Some(wanted) => group.reconfigure(wanted).await,
                    None => return group.end().await,
                }
            }
            Ok(()) = links.changed() => {
                group.view = links.borrow_and_update().clone();
                group.follow_links().await;
            }
            Ok(()) = news.changed() => {}
            ready = readable => if let Err(error) = ready {
                group.lose_link(&format!("its socket is broken: {error}")).await;
                group.retry_at = Some(Instant::now() + RETRY);
            },
            () = group.due() => {}
        }
        let now = Instant::now();
        group.look(now).await;
        // What has come before a deadline counts, however late we are.
        group.receive(now).await;
        group.serve_deadlines(now).await;
    }
}

/// How the protocol sees the configuration.
fn core_config(key: &Key, wanted: &Wanted) -> vrrp::Config {
    let Wanted { config, addresses } = wanted;
    vrrp::Config {
        vrid: key.vrid,
        addresses: addresses.clone(),
        priority: config.priority,
        interval: config.interval,
        preempt: config.preempt,
        preempt_delay: config.preempt_delay,
    }
}

struct Group {
    key: Key,
    wanted: Wanted,
    core: VirtualRouter,
    kernel: Kernel,
    environment: Environment,
    status: Arc<Mutex<Status>>,
    view: Arc<View>,
    place: Option<Place>,
    link: Option<Link>,
    /// When to announce the addresses again.
    announcements: VecDeque<Instant>,
    /// When to try for a socket again.
    retry_at: Option<Instant>,
    /// When it was heard last that somebody is active.
    heard_at: Option<Instant>,
    /// Who has said last that it ceases to be active.
    ceased: Option<IpAddr>,
    /// That somebody has other addresses was said, which anybody on the link could have said again and again.
    oddness_told: bool,
}

impl Group {
    fn tracks_neighbors(&self) -> bool {
        self.wanted.config.track.keys().any(|tracked| matches!(tracked, VrrpTracked::Neighbor(_)))
    }

    async fn due(&self) {
        let look = self.tracks_neighbors().then(|| Instant::now() + LOOK);
        let announcement = self.announcements.front().copied();
        let deadlines = [self.core.poll_timeout(), announcement, self.retry_at, look];
        match deadlines.into_iter().flatten().min() {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }

    /// Whether what is tracked is there.
    async fn look(&mut self, now: Instant) {
        let tracking = &self.environment.tracking;
        let (mut lost, mut unhealthy) = (0u8, Vec::new());
        for (tracked, decrement) in &self.wanted.config.track {
            if let Some(why) = tracking.trouble(tracked, self.key.family) {
                lost = lost.saturating_add(*decrement);
                unhealthy.push(why);
            }
        }
        let ready = unhealthy.is_empty() && tracking.is_settled();
        self.core.set_ready(now, ready);
        let (before, left) = (self.core.priority(), self.wanted.config.priority.saturating_sub(lost).max(1));
        let outputs = self.core.set_priority(now, left);
        let changed = {
            let mut status = lock(&self.status);
            (status.priority, status.ready) = (left, ready);
            std::mem::replace(&mut status.unhealthy, unhealthy.clone()) != unhealthy
        };
        if changed {
            let Key { interface, vrid, family } = &self.key;
            let why =
                if unhealthy.is_empty() { "all that is tracked is there".to_owned() } else { unhealthy.join("; ") };
            info!(%interface, %vrid, %family, priority = left, why, "what the virtual router tracks has changed");
            if before != left {
                self.tell(format!("priority {before} to {left}: {why}"));
            }
        }
        self.perform(outputs).await;
    }

    /// Takes part, or does not, as links and addresses allow.
    async fn follow_links(&mut self) {
        let before = self.place.as_ref().map(|place| place.primary);
        let holding = self.core.role() == Role::Active;
        let place = match () {
            () if !self.environment.kernel => Err("bgpd runs with --no-kernel".to_owned()),
            () if self.wanted.config.shutdown => Err("it is shut down".to_owned()),
            () => Place::find(&self.view, &self.key.interface, &self.wanted.addresses, before, holding),
        };
        match place {
            Err(why) => self.lose_link(&why).await,
            Ok(place) if self.place.as_ref() != Some(&place) || self.link.is_none() => {
                if self.place.is_some() {
                    self.lose_link("its address has changed").await;
                }
                self.begin(place).await;
            }
            Ok(_) => {}
        }
        self.mend_addresses().await;
    }

    async fn begin(&mut self, place: Place) {
        let Key { interface, vrid, family } = &self.key;
        self.retry_at = None;
        let primary = place.primary;
        match Link::open(interface, &place) {
            Ok(link) => self.link = Some(link),
            Err(error) => {
                if lock(&self.status).why != SOCKET {
                    warn!(%interface, %vrid, %family, %error, "{SOCKET}; bgpd needs CAP_NET_RAW");
                }
                self.retry_at = Some(Instant::now() + RETRY);
                self.now_is(Role::Initialize, SOCKET);
                return;
            }
        }
        self.place = Some(place);
        lock(&self.status).primary = Some(primary);
        let outputs = self.core.start(Instant::now(), primary);
        self.perform(outputs).await;
        self.changed(&format!("interface {} is up", self.key.interface));
    }

    async fn lose_link(&mut self, why: &str) {
        let outputs = self.core.stop();
        self.perform(outputs).await;
        (self.place, self.link, self.retry_at) = (None, None, None);
        lock(&self.status).primary = None;
        self.now_is(Role::Initialize, why);
    }

    /// Addresses are on the interface while we are active, and at no other time: not those of an earlier run, and not
    /// those that somebody took off.
    async fn mend_addresses(&mut self) {
        let Some(link) = self.view.link_named(self.key.interface.as_str()) else { return };
        let there = present(&self.view, link.ifindex, &self.wanted.addresses);
        if self.core.role() == Role::Active {
            let missing = |address: IpAddr| there.iter().all(|held| held.address != address);
            if self.wanted.addresses.iter().any(missing) {
                self.put_addresses().await;
            }
        } else if self.environment.kernel {
            for held in there {
                if let Err(error) = self.kernel.take_off(held).await {
                    warn!(address = %held.address, %error, "a virtual address stays on its interface");
                }
            }
        }
    }

    async fn reconfigure(&mut self, wanted: Wanted) {
        let now = Instant::now();
        let core = core_config(&self.key, &wanted);
        if wanted.addresses != self.wanted.addresses {
            self.lose_link("its addresses are others").await;
            self.wanted = wanted;
            self.core = VirtualRouter::new(core);
        } else {
            self.wanted = wanted;
            let outputs = self.core.reconfigure(now, core);
            self.perform(outputs).await;
        }
        self.look(now).await;
        self.follow_links().await;
    }

    async fn end(mut self) {
        self.lose_link("it is not configured any more, or bgpd ends").await;
    }

    async fn receive(&mut self, now: Instant) {
        let heard = self.link.as_mut().map(Link::receive).unwrap_or_default();
        for heard in heard {
            match heard {
                Ok((from, advertisement)) if advertisement.vrid == self.key.vrid => {
                    self.advertised(now, from, &advertisement).await;
                }
                Ok(_) => {} // another virtual router of the link
                Err(mishap) => self.mishap(mishap, "advertisement discarded"),
            }
        }
    }

    async fn advertised(&mut self, now: Instant, from: IpAddr, heard: &Advertisement) {
        let theirs = heard.priority;
        {
            let counts = &mut lock(&self.status).counts;
            counts.received += 1;
            counts.ceased += u64::from(theirs == 0);
        }
        if !same_addresses(&heard.addresses, &self.wanted.addresses) {
            self.mishap(Mishap::Addresses, "advertisement names other addresses");
            if !std::mem::replace(&mut self.oddness_told, true) {
                let Key { interface, vrid, .. } = &self.key;
                warn!(%interface, %vrid, %from, addresses = ?heard.addresses, "the other router has other addresses for this number; make them the same");
            }
        }
        (self.heard_at, self.ceased) = (Some(now), (theirs == 0).then_some(from));
        let outputs = self.core.handle_advertisement(now, from, heard);
        self.perform(outputs).await;
        let own = self.core.priority();
        self.changed(&format!("{from} has priority {theirs}, and this router {own}"));
        let mut status = lock(&self.status);
        status.active = self.core.active();
        status.heard_every = status.active.map(|_| heard.interval);
    }

    async fn serve_deadlines(&mut self, now: Instant) {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.follow_links().await;
        }
        if self.core.poll_timeout().is_some_and(|at| at <= now) {
            let (own, interval) = (self.core.priority(), self.wanted.config.interval.duration());
            let speaks = self.heard_at.is_some_and(|at| now.saturating_duration_since(at) < interval * 2);
            let why = match (self.core.active(), self.ceased.take()) {
                (Some((other, theirs)), _) if speaks && theirs < own => {
                    format!("{other} has priority {theirs} only, and this router {own}")
                }
                (Some((other, _)), _) => format!("{other} is silent"),
                (None, Some(other)) => format!("{other} has ceased"),
                (None, None) => "nobody else is heard".to_owned(),
            };
            let outputs = self.core.handle_timeout(now);
            self.perform(outputs).await;
            self.changed(&why);
            lock(&self.status).active = self.core.active();
        }
        if self.announcements.front().is_some_and(|at| *at <= now) {
            self.announcements.pop_front();
            self.announce();
        }
    }

    async fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send(advertisement) => {
                    let Some(link) = &self.link else { continue };
                    match link.send(&advertisement) {
                        Ok(()) => lock(&self.status).counts.sent += 1,
                        Err(error) => self.mishap(Mishap::Send, &error.to_string()),
                    }
                }
                Output::TakeAddresses => self.put_addresses().await,
                Output::GiveUpAddresses => self.take_addresses_off().await,
            }
        }
    }

    async fn put_addresses(&mut self) {
        let Some(place) = &self.place else { return };
        for address in self.wanted.addresses.iter() {
            if let Err(error) = self.kernel.put(place.held(&self.view, address)).await {
                let interface = &self.key.interface;
                warn!(%address, %interface, %error, "hosts do not reach the virtual address: it cannot be put on the interface");
            }
        }
        let now = Instant::now();
        self.announcements = ANNOUNCED_AFTER.iter().map(|after| now + *after).collect();
        self.announcements.pop_front();
        self.announce();
    }

    async fn take_addresses_off(&mut self) {
        self.announcements.clear();
        let Some(place) = &self.place else { return };
        let there = present(&self.view, place.ifindex, &self.wanted.addresses);
        for address in self.wanted.addresses.iter() {
            // The view may be a moment behind: what it does not know of may be there all the same.
            let known = there.iter().find(|held| held.address == address).copied();
            if let Err(error) = self.kernel.take_off(known.unwrap_or_else(|| place.held(&self.view, address))).await {
                warn!(%address, %error, "a virtual address stays on its interface");
            }
        }
    }

    fn announce(&self) {
        let Some(place) = &self.place else { return };
        let announced = match (&self.wanted.addresses, place.primary) {
            (Addresses::V4(addresses), _) => arp::announce(place.ifindex, addresses.iter().copied()),
            (Addresses::V6(addresses), IpAddr::V6(primary)) => {
                ndisc::announce(place.ifindex, primary, addresses.iter().copied())
            }
            (Addresses::V6(_), IpAddr::V4(_)) => return, // nobody speaks from an address of the other family
        };
        match announced {
            Ok(sent) => lock(&self.status).counts.announced += sent,
            Err(error) => {
                let Key { interface, family, .. } = &self.key;
                warn!(%interface, %family, %error, "hosts were not told of the new router, and may send to the other one for a while");
            }
        }
    }

    fn mishap(&self, mishap: Mishap, what: &str) {
        *lock(&self.status).counts.errors.entry(mishap).or_default() += 1;
        let Key { interface, vrid, family } = &self.key;
        debug!(%interface, %vrid, %family, kind = mishap.as_str(), "{what}");
    }

    /// Notes what the protocol has decided.
    fn changed(&self, why: &str) {
        if lock(&self.status).role != self.core.role() {
            self.now_is(self.core.role(), why);
        }
    }

    fn now_is(&self, role: Role, why: &str) {
        let before = {
            let mut status = lock(&self.status);
            status.why = why.to_owned();
            if status.role == role {
                return;
            }
            status.counts.transitions += 1;
            status.since = SystemTime::now();
            if role != Role::Backup {
                (status.active, status.heard_every) = (None, None);
            }
            std::mem::replace(&mut status.role, role)
        };
        let Key { interface, vrid, family } = &self.key;
        let (from, to) = (before.as_str(), role.as_str());
        info!(%interface, %vrid, %family, from, to, why, priority = self.core.priority(), "virtual router changed its role");
        self.tell(format!("{from} to {to}: {why}"));
    }

    fn tell(&self, what: String) {
        let Key { interface, vrid, family } = &self.key;
        self.environment.tap.event(Kind::Vrrp, format_args!("{interface} vrrp {vrid} {family}"), what);
    }
}

const SOCKET: &str = "it has no socket";

/// Whether another router has the same addresses, in whatever order.
fn same_addresses(theirs: &Addresses, ours: &Addresses) -> bool {
    theirs.len() == ours.len() && theirs.iter().all(|address| ours.contains(address))
}
