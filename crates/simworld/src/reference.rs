//! What every router should hold once nothing changes any more: worked out anew from who lives and who hears whom, and as
//! plainly as can be.
//!
//! Every router looks at what its neighbors would tell it, chooses, and this goes on until nobody changes its mind. None of
//! the daemon's code is used, and nothing is remembered of what happened before.

use std::collections::BTreeMap;

use net_types::Prefix;

use crate::topology::Plan;

/// A route to one prefix, as its holder has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The neighbor that it is from, by place; none for one of our own.
    pub from: Option<usize>,
    /// Its AS path.
    pub path: Vec<u32>,
    preference: u32,
    internal: bool,
}

/// What each router should hold for a prefix, by router.
pub type Held = Vec<Option<Route>>;

/// Who lives, and who has a session with whom.
pub struct Alive<'a> {
    /// The network.
    pub plan: &'a Plan,
    /// Whether a router's daemon runs.
    pub router: &'a dyn Fn(usize) -> bool,
    /// Whether packets pass over a link both ways.
    pub link: &'a dyn Fn(usize) -> bool,
}

impl Alive<'_> {
    /// What each router should hold for `prefix`.
    ///
    /// # Panics
    /// When the routers can never agree, which no plan allows.
    pub fn held(&self, prefix: &Prefix) -> Held {
        let routers = self.plan.routers.len();
        let mut held: Vec<Vec<Route>> = vec![Vec::new(); routers];
        for _ in 0..2 * routers + 10 {
            let next: Vec<Vec<Route>> = (0..routers).map(|router| self.hears(router, prefix, &held)).collect();
            if next == held {
                return (0..routers).map(|router| self.best(router, &held[router]).cloned()).collect();
            }
            held = next;
        }
        panic!("{prefix}: the routers never agree");
    }

    /// Every route that a router has, while its neighbors have these.
    fn hears(&self, router: usize, prefix: &Prefix, held: &[Vec<Route>]) -> Vec<Route> {
        if !(self.router)(router) {
            return Vec::new();
        }
        let mut routes = Vec::new();
        if self.plan.routers[router].prefixes.contains(prefix) {
            routes.push(Route { from: None, path: Vec::new(), preference: u32::MAX, internal: false });
        }
        let neighbors = &self.plan.routers[router].neighbors;
        for (at, neighbor) in neighbors.iter().enumerate() {
            if (self.router)(neighbor.router) && (self.link)(neighbor.link) {
                routes.extend(self.told(neighbor.router, (router, at), prefix, held));
            }
        }
        routes
    }

    /// What `teller` tells the router `to`, whose neighbor it is at this place, as that one takes it in.
    fn told(&self, teller: usize, to: (usize, usize), prefix: &Prefix, held: &[Vec<Route>]) -> Option<Route> {
        let (listener, at) = to;
        let (of_teller, of_listener) = (&self.plan.routers[teller], &self.plan.routers[listener]);
        let heard_as = &of_listener.neighbors[at];
        let (place, told_as) =
            of_teller.neighbors.iter().enumerate().find(|(_, neighbor)| neighbor.link == heard_as.link)?;
        let internal = of_teller.asn == of_listener.asn;
        let best = self.best(teller, &held[teller])?;
        let told = if internal && best.internal {
            // The best of what came from outside.
            let external: Vec<Route> = held[teller].iter().filter(|route| !route.internal).cloned().collect();
            self.best(teller, &external)?.clone()
        } else {
            best.clone()
        };
        if told.from == Some(place) || (told_as.own_only && !of_teller.prefixes.contains(prefix)) {
            return None;
        }
        if internal {
            let preference = if told.preference == u32::MAX { 100 } else { told.preference };
            return Some(Route { from: Some(at), path: told.path, preference, internal });
        }
        let mut path = vec![of_teller.asn; 1 + told_as.prepend];
        path.extend(told.path);
        let preference = heard_as.local_pref.unwrap_or(100);
        (!path.contains(&of_listener.asn)).then_some(Route { from: Some(at), path, preference, internal })
    }

    /// The best of a router's routes (RFC 4271 §9.1.2.2, as far as plans make a difference).
    fn best<'r>(&self, router: usize, routes: &'r [Route]) -> Option<&'r Route> {
        routes.iter().min_by_key(|route| {
            let neighbor = route.from.map(|at| &self.plan.routers[router].neighbors[at]);
            let name = neighbor.map(|neighbor| (self.plan.router_id(neighbor.router), self.plan.address(neighbor)));
            (route.from.is_some(), u32::MAX - route.preference, route.path.len(), route.internal, name)
        })
    }
}

/// Where packets of each router go: along what is held, to whoever has the prefix itself.
pub fn delivers(plan: &Plan, held: &Held, from: usize) -> bool {
    let mut at = from;
    let mut passed = BTreeMap::new();
    while passed.insert(at, ()).is_none() {
        match &held[at] {
            None => return false,
            Some(Route { from: None, .. }) => return true,
            Some(Route { from: Some(place), .. }) => at = plan.routers[at].neighbors[*place].router,
        }
    }
    false
}
