//! BGP next hops: which of them can be reached, and through which interface.
//!
//! A next hop is reachable when it is on a connected prefix of a link that is up, when a static route of ours leads to it, or
//! when the kernel has a route to it that is neither a default route nor one of ours; unless that leads over a tunnel whose owner
//! says that it is down, which its interface does not show. A route learned by BGP never proves
//! another one's next hop here; whether the table does is asked by [`daemon::recursion`](crate::daemon::recursion).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use bgp_core::rib::NextHopKey;
use net_types::Prefix;
use netwatch::{View, Watch};

use crate::local_routes::{Static, Statics};

/// How a next hop is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Through this interface.
    pub ifindex: u32,
    /// To this router on it: the next hop itself where it is on the link.
    pub gateway: IpAddr,
    /// 0 where the next hop is on the link, 1 where a router stands between.
    pub metric: u32,
    /// A route of BGP's own leads there.
    pub recursive: bool,
}

/// The next hops that the RIB asks about, with the last answer to each.
#[derive(Debug, Default)]
pub struct NextHops {
    wanted: BTreeMap<NextHopKey, Option<Way>>,
    /// Our static routes that lead somewhere.
    statics: Vec<(Prefix, u32, Option<IpAddr>)>,
    /// Interfaces of tunnels that are down.
    dead: BTreeSet<u32>,
    own_protocol: u8,
}

impl NextHops {
    /// Routes of this protocol number are ours and prove nothing.
    pub fn new(own_protocol: u8) -> Self {
        Self { wanted: BTreeMap::new(), statics: Vec::new(), dead: BTreeSet::new(), own_protocol }
    }

    /// The RIB has a route with this next hop: answers how it is reached now, and goes on watching it.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn want(&mut self, watch: &Watch, next_hop: NextHopKey) -> io::Result<Option<Way>> {
        let way = self.resolve(watch, next_hop).await?;
        self.wanted.insert(next_hop, way);
        Ok(way)
    }

    /// The RIB has no route with it any more.
    pub fn unwant(&mut self, next_hop: NextHopKey) {
        self.wanted.remove(&next_hop);
    }

    /// Our static routes are these from now on; [`refresh`](Self::refresh) tells what follows.
    pub fn set_statics(&mut self, statics: &Statics) {
        // Of several ways the first: where they lead is known apart from how packets are spread.
        let leading = statics.iter().filter(|(_, route)| route.leads()).filter_map(|(prefix, route)| {
            match route.ways.first()? {
                Static::Via { ifindex, gateway, .. } => Some((*prefix, *ifindex, *gateway)),
                Static::Blackhole | Static::Reject => None,
            }
        });
        self.statics = leading.filter(|(prefix, ..)| prefix.bits() > 0).collect();
    }

    /// Nothing is reached over these interfaces; [`refresh`](Self::refresh) tells what follows. Whether that is news.
    ///
    /// Routes that are kept from a lost session would else be told to others as if they led somewhere. Two routers that have
    /// lost their tunnels to the same neighbor would each take the other's word for it.
    pub fn set_dead(&mut self, dead: BTreeSet<u32>) -> bool {
        let news = self.dead != dead;
        self.dead = dead;
        news
    }

    /// Those that only the table can answer.
    pub fn open(&self) -> Vec<NextHopKey> {
        let open = self.wanted.iter().filter(|(key, way)| key.scope == 0 && way.is_none_or(|way| way.recursive));
        open.map(|(key, _)| *key).collect()
    }

    /// The table's answer for one of those; whether it is another one than before.
    pub fn answer(&mut self, next_hop: NextHopKey, way: Option<Way>) -> bool {
        self.wanted.get_mut(&next_hop).is_some_and(|known| std::mem::replace(known, way) != way)
    }

    /// How this next hop is reached, as far as is known, by a route of BGP's own or not.
    pub fn way_to(&self, address: IpAddr) -> Option<Way> {
        let first = NextHopKey { address, scope: 0 };
        let known = self.wanted.range(first..).take_while(|(key, _)| key.address == address);
        known.filter_map(|(_, way)| *way).min_by_key(|way| way.recursive)
    }

    /// The same, where it is reached without BGP.
    pub fn without_table(&self, address: IpAddr) -> Option<Way> {
        self.way_to(address).filter(|way| !way.recursive)
    }

    /// Asks again for each, after links or addresses changed; gives those whose answer is another one.
    ///
    /// # Errors
    /// When the kernel cannot be asked; answers found until then are kept and will be told next time.
    pub async fn refresh(&mut self, watch: &Watch) -> io::Result<Vec<(NextHopKey, Option<Way>)>> {
        let mut answers = Vec::with_capacity(self.wanted.len());
        for (next_hop, known) in &self.wanted {
            // What the table leads to stays until the table is asked again.
            let kept = known.filter(|way| way.recursive);
            answers.push((*next_hop, self.resolve(watch, *next_hop).await?.or(kept)));
        }
        answers.retain(|(next_hop, way)| self.wanted.insert(*next_hop, *way) != Some(*way));
        Ok(answers)
    }

    async fn resolve(&self, watch: &Watch, key: NextHopKey) -> io::Result<Option<Way>> {
        let way = self.find(watch, key).await?;
        Ok(way.filter(|way| !self.dead.contains(&way.ifindex)))
    }

    async fn find(&self, watch: &Watch, key: NextHopKey) -> io::Result<Option<Way>> {
        let next_hop = key.address;
        if key.scope != 0 {
            // A link-local address is on the link that it was learned on, and on no other (RFC 4007 §6).
            let link = watch.view().link(key.scope).filter(|link| link.is_up());
            return Ok(link.map(|link| direct(link.ifindex, next_hop, 0)));
        }
        if let Some(way) = on_link(watch.view(), next_hop) {
            return Ok(Some(way));
        }
        if watch.view().is_local(next_hop) {
            return Ok(None);
        }
        let covering = self.statics.iter().filter(|(prefix, ..)| prefix.contains(next_hop));
        let ours = covering.max_by_key(|(prefix, ..)| prefix.bits());
        let hop = watch.route_to(next_hop).await?;
        let hop = hop.filter(|hop| hop.protocol != self.own_protocol && hop.bits > 0);
        let longer = |bits: u8| ours.is_none_or(|(prefix, ..)| bits > prefix.bits());
        let (ifindex, gateway) = match (hop, ours) {
            (Some(hop), _) if longer(hop.bits) => (hop.ifindex, hop.gateway),
            (_, Some((_, ifindex, gateway))) => (*ifindex, *gateway),
            _ => return Ok(None),
        };
        let up = watch.view().link(ifindex).is_some_and(netwatch::Link::is_up);
        Ok(up.then(|| direct(ifindex, gateway.unwrap_or(next_hop), 1)))
    }
}

fn on_link(view: &View, next_hop: IpAddr) -> Option<Way> {
    view.on_link(next_hop).map(|link| direct(link.ifindex, next_hop, 0))
}

fn direct(ifindex: u32, gateway: IpAddr, metric: u32) -> Way {
    Way { ifindex, gateway, metric, recursive: false }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::local_routes::{Origin, StaticWays};

    fn ip(arguments: &str) {
        let done = Command::new("ip").args(arguments.split_whitespace()).status().unwrap();
        assert!(done.success(), "ip {arguments}");
    }

    #[test]
    fn next_hops_follow_links_and_routes_but_not_our_own() {
        let worker = std::thread::spawn(|| {
            sys::netns::unshare_current_thread().expect("needs CAP_SYS_ADMIN to make a network namespace");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                ip("link add va type veth peer name vb");
                ip("link set va up");
                ip("link set vb up");
                ip("addr add 169.254.1.2/30 dev va");
                ip("route add default via 169.254.1.1");
                ip("route add 10.0.0.0/8 via 169.254.1.1 proto static");
                ip("route add 11.0.0.0/8 via 169.254.1.1 proto 187");
                let mut watch = Watch::start().await.unwrap();
                let mut next_hops = NextHops::new(187);
                let want = async |next_hops: &mut NextHops, text: &str| {
                    let key = NextHopKey { address: text.parse().unwrap(), scope: 0 };
                    next_hops.want(&watch, key).await.unwrap().map(|way| way.metric)
                };
                assert_eq!(want(&mut next_hops, "169.254.1.1").await, Some(0));
                assert_eq!(want(&mut next_hops, "10.0.0.1").await, Some(1));
                assert_eq!(want(&mut next_hops, "11.0.0.1").await, None, "our own route proves nothing");
                let ifindex = watch.view().link_named("va").unwrap().ifindex;
                let gateway = "169.254.1.1".parse().ok();
                let leads = StaticWays {
                    ways: vec![Static::Via { ifindex, gateway, bfd: false }],
                    alternates: vec![],
                    distance: 1,
                    tag: 0,
                    origin: Origin::Configured,
                };
                next_hops.set_statics(&Statics::from([("12.0.0.0/8".parse().unwrap(), leads)]));
                assert_eq!(want(&mut next_hops, "12.0.0.1").await, Some(1), "but a static one does");
                let key = NextHopKey { address: "12.0.0.1".parse().unwrap(), scope: 0 };
                assert!(next_hops.without_table(key.address).is_some() && !next_hops.open().contains(&key));
                next_hops.unwant(key);
                let open = NextHopKey { address: "11.0.0.1".parse().unwrap(), scope: 0 };
                assert!(next_hops.open().contains(&open));
                let way = Way { ifindex, gateway: "169.254.1.1".parse().unwrap(), metric: 2, recursive: true };
                assert!(next_hops.answer(open, Some(way)) && !next_hops.answer(open, Some(way)));
                assert_eq!(next_hops.without_table(open.address), None);
                assert_eq!(next_hops.way_to(open.address), Some(way));
                assert!(next_hops.answer(open, None));
                assert!(next_hops.set_dead([ifindex].into()) && !next_hops.set_dead([ifindex].into()));
                let gone = next_hops.refresh(&watch).await.unwrap();
                assert_eq!(gone.len(), 2, "a tunnel that is down has its link all the same: {gone:?}");
                assert!(gone.iter().all(|(_, way)| way.is_none()));
                assert!(next_hops.set_dead(BTreeSet::new()));
                assert_eq!(next_hops.refresh(&watch).await.unwrap().len(), 2);

                assert_eq!(want(&mut next_hops, "192.0.2.1").await, None, "a default route proves nothing");
                assert_eq!(want(&mut next_hops, "169.254.1.2").await, None, "our own address is no next hop");

                ip("link set vb down");
                while watch.view().link_named("va").unwrap().is_up() {
                    watch.changed().await.unwrap();
                }
                let mut lost: Vec<_> = next_hops.refresh(&watch).await.unwrap();
                lost.sort_by_key(|(next_hop, _)| *next_hop);
                let expected = ["10.0.0.1", "169.254.1.1"].map(|text| (text.parse::<IpAddr>().unwrap(), None));
                assert_eq!(lost.iter().map(|(hop, way)| (hop.address, way.map(|_| ()))).collect::<Vec<_>>(), expected);
                assert_eq!(next_hops.refresh(&watch).await.unwrap(), []);
            });
        });
        worker.join().unwrap();
    }
}
