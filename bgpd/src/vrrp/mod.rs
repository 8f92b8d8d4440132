//! VRRP: one task a virtual router, which has its socket and the addresses that hosts use. A number of the configuration
//! stands for two of them, one of each family, which know nothing of one another.
//!
//! What the protocol does next is [`vrrp`]'s to say; what the gateway depends on comes from [`Tracking`]. Whoever is not
//! told to be the gateway any more, because the daemon ends, says so and takes the addresses off before it goes.

mod arp;
mod group;
mod kernel;
mod link;
mod ndisc;
mod tracking;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use config::{Config, model::VrrpGroup};
use net_types::IfName;
use netwatch::View;
use tokio::{sync::watch, task::JoinSet};
use tracing::warn;
use vrrp::{Addresses, Family, Interval, Role, Vrid};

use crate::tap::Tap;
pub use tracking::{Signs, Tracking};

/// How long a daemon that ends waits for its groups.
const FAREWELL: Duration = Duration::from_secs(2);

/// Names a virtual router.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    interface: IfName,
    vrid: Vrid,
    family: Family,
}

/// How a virtual router is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    /// What it has in common with the one of the other family.
    config: VrrpGroup,
    /// Its own.
    addresses: Addresses,
}

/// All virtual routers; clones lead to the same.
#[derive(Clone)]
pub struct Vrrp {
    inner: Arc<Inner>,
}

struct Inner {
    groups: Mutex<Groups>,
    environment: group::Environment,
    /// Where the groups hear of links and addresses.
    links: watch::Sender<Arc<View>>,
}

#[derive(Default)]
struct Groups {
    running: BTreeMap<Key, Running>,
    tasks: JoinSet<()>,
    /// Addresses that an earlier run has left were looked for.
    swept: bool,
}

struct Running {
    /// With nothing in it the task ends.
    wanted: watch::Sender<Option<Wanted>>,
    status: Arc<Mutex<Status>>,
}

/// How a virtual router is.
#[derive(Clone, Debug)]
pub struct Status {
    /// What it is.
    pub role: Role,
    /// Since when.
    pub since: SystemTime,
    /// Why.
    pub why: String,
    /// The address that it speaks from, while it takes part.
    pub primary: Option<IpAddr>,
    /// What is left of its priority.
    pub priority: u8,
    /// What it tracks and does not find healthy, and why not.
    pub unhealthy: Vec<String>,
    /// It may relieve a router with a lower priority, as far as what it tracks goes.
    pub ready: bool,
    /// Who else is active, and with which priority.
    pub active: Option<(IpAddr, u8)>,
    /// How often that one says so.
    pub heard_every: Option<Interval>,
    /// What it counted.
    pub counts: Counts,
}

/// What a virtual router counts.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Changes of role.
    pub transitions: u64,
    /// Advertisements sent.
    pub sent: u64,
    /// Advertisements for it received and used.
    pub received: u64,
    /// Those of them with priority 0.
    pub ceased: u64,
    /// Gratuitous ARP packets, or unsolicited neighbor advertisements, sent.
    pub announced: u64,
    /// What was discarded or went wrong, by kind.
    pub errors: BTreeMap<Mishap, u64>,
}

/// What goes wrong with advertisements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mishap {
    /// It came through a router.
    Ttl,
    /// It is of another version, or no advertisement.
    Version,
    /// It was damaged.
    Checksum,
    /// It is not as long as it says, or says what cannot be.
    Malformed,
    /// It names other addresses than ours; it counts all the same.
    Addresses,
    /// It could not be sent.
    Send,
}

impl Mishap {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Ttl, Self::Version, Self::Checksum, Self::Malformed, Self::Addresses, Self::Send];

    /// As metrics and JSON have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Version => "version",
            Self::Checksum => "checksum",
            Self::Malformed => "malformed",
            Self::Addresses => "addresses",
            Self::Send => "send",
        }
    }
}

/// A virtual router with its configuration, for `show vrrp`.
#[derive(Clone, Debug)]
pub struct GroupView {
    /// Its interface.
    pub interface: IfName,
    /// Its number.
    pub vrid: Vrid,
    /// What hosts use.
    pub addresses: Addresses,
    /// How it is set up otherwise.
    pub config: VrrpGroup,
    /// How it is.
    pub status: Status,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Vrrp {
    /// None yet. Without `kernel` none will take part.
    pub fn new(tracking: Tracking, tap: Tap, kernel: bool) -> Self {
        let (links, _) = watch::channel(Arc::default());
        let environment = group::Environment { tracking, tap, kernel };
        Self { inner: Arc::new(Inner { groups: Mutex::default(), environment, links }) }
    }

    /// What the groups depend on.
    pub fn tracking(&self) -> &Tracking {
        &self.inner.environment.tracking
    }

    /// Links and addresses are as this says.
    pub fn links(&self, view: &View) {
        self.inner.links.send_if_modified(|before| {
            let changed = **before != *view;
            if changed {
                *before = Arc::new(view.clone());
            }
            changed
        });
    }

    /// Goes over to this configuration. A group that stays as it was does not notice, and one whose addresses stay keeps
    /// them.
    pub fn configure(&self, config: &Config) {
        let mut groups = lock(&self.inner.groups);
        let Groups { running, tasks, swept } = &mut *groups;
        if self.inner.environment.kernel && !std::mem::replace(swept, true) {
            let left = left_behind(&self.inner.links.borrow(), config);
            tasks.spawn(kernel::take_off_all(left));
        }
        let all: BTreeMap<Key, Wanted> = all_wanted(config).collect();
        running.retain(|key, group| {
            let stays = all.contains_key(key);
            if !stays {
                group.wanted.send_replace(None);
            }
            stays
        });
        for (key, wanted) in all {
            if let Some(group) = running.get(&key) {
                group.wanted.send_if_modified(|before| {
                    let changed = before.as_ref() != Some(&wanted);
                    if changed {
                        *before = Some(wanted);
                    }
                    changed
                });
                continue;
            }
            let status = Arc::new(Mutex::new(Status::new(&wanted.config)));
            let (sender, receiver) = watch::channel(Some(wanted));
            let Inner { environment, links, .. } = &*self.inner;
            let links = links.subscribe();
            tasks.spawn(group::run(key.clone(), receiver, links, environment.clone(), Arc::clone(&status)));
            running.insert(key, Running { wanted: sender, status });
        }
        while tasks.try_join_next().is_some() {}
    }

    /// Every virtual router; those of one number are neighbors in the list.
    pub fn status(&self) -> Vec<GroupView> {
        let groups = lock(&self.inner.groups);
        let view = |(key, group): (&Key, &Running)| {
            let Key { interface, vrid, .. } = key.clone();
            let Wanted { config, addresses } = group.wanted.borrow().clone()?;
            Some(GroupView { interface, vrid, addresses, config, status: lock(&group.status).clone() })
        };
        groups.running.iter().filter_map(view).collect()
    }

    /// Ends all of them; others have been told and the addresses are off when this returns, or too much time has passed.
    pub async fn shut_down(&self) {
        let Groups { running, mut tasks, .. } = {
            let mut groups = lock(&self.inner.groups);
            let ended = Groups { swept: true, ..Groups::default() };
            std::mem::replace(&mut *groups, ended)
        };
        for group in running.values() {
            group.wanted.send_replace(None);
        }
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, ended).await.is_err() {
            warn!("virtual addresses may be left on their interfaces: the kernel does not answer");
        }
    }
}

impl Status {
    fn new(group: &VrrpGroup) -> Self {
        Self {
            role: Role::Initialize,
            since: SystemTime::now(),
            why: "it has just been configured".to_owned(),
            primary: None,
            priority: group.priority,
            unhealthy: Vec::new(),
            ready: false,
            active: None,
            heard_every: None,
            counts: Counts::default(),
        }
    }
}

/// Every virtual router of a configuration.
fn all_wanted(config: &Config) -> impl Iterator<Item = (Key, Wanted)> {
    config.vrrp.iter().flat_map(|((interface, vrid), group)| {
        Family::ALL.into_iter().filter_map(move |family| {
            let key = Key { interface: interface.clone(), vrid: *vrid, family };
            Some((key, Wanted { config: group.clone(), addresses: group.addresses(family)? }))
        })
    })
}

/// Virtual addresses of an earlier run that no group will look after.
fn left_behind(view: &View, config: &Config) -> Vec<kernel::Held> {
    let wanted: Vec<(Key, Wanted)> = all_wanted(config).collect();
    let looked_after = |held: &kernel::Held| {
        let link = view.link(held.ifindex);
        let here = |key: &Key| link.is_some_and(|link| key.interface.as_str() == link.name);
        wanted.iter().any(|(key, wanted)| here(key) && wanted.addresses.contains(held.address))
    };
    let held = view.addresses().filter(|address| address.is_virtual).map(kernel::Held::from);
    held.filter(|held| !looked_after(held)).collect()
}
