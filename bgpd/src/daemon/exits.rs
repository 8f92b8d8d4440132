//! The interfaces that static routes lead over: what else than a neighbor is hurt when one of them fails.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use net_types::IfName;
use netwatch::View;

use crate::local_routes::{Static, Statics};

/// Their names by number; written by who applies the configuration, read by detectors.
#[derive(Clone, Debug, Default)]
pub struct Exits(Arc<RwLock<BTreeMap<u32, IfName>>>);

impl Exits {
    /// Static routes that lead somewhere are these from now on. Gives the interfaces that none of them led over before.
    pub fn set(&self, statics: &Statics, view: &View) -> Vec<IfName> {
        let ways = statics.values().flat_map(|route| route.ways.iter().chain(&route.alternates));
        let named = ways.filter_map(|way| match way {
            Static::Via { ifindex, .. } => Some((*ifindex, view.link(*ifindex)?.name.parse().ok()?)),
            Static::Blackhole | Static::Reject => None,
        });
        let now: BTreeMap<u32, IfName> = named.collect();
        let before = std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), now.clone());
        now.into_iter().filter(|(ifindex, _)| !before.contains_key(ifindex)).map(|(_, name)| name).collect()
    }

    /// The name of an interface that a static route leads over.
    pub fn over(&self, ifindex: u32) -> Option<IfName> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&ifindex).cloned()
    }
}
