//! BGP next hops: which of them can be reached, and through which interface.
//!
//! A next hop is reachable when it is on a connected prefix of a link that is up, or when the kernel has a route to it
//! that is neither a default route nor one of ours: a route learned by BGP never proves another one's next hop here, so
//! there is no recursion to bound.

use std::{collections::BTreeMap, io, net::IpAddr};

use bgp_core::rib::NextHopKey;
use netwatch::{View, Watch};

/// How a next hop is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Through this interface.
    pub ifindex: u32,
    /// To this router on it: the next hop itself where it is on the link.
    pub gateway: IpAddr,
    /// 0 where the next hop is on the link, 1 where a router stands between.
    pub metric: u32,
}

/// The next hops that the RIB asks about, with the last answer to each.
#[derive(Debug, Default)]
pub struct NextHops {
    wanted: BTreeMap<NextHopKey, Option<Way>>,
    own_protocol: u8,
}

impl NextHops {
    /// Routes of this protocol number are ours and prove nothing.
    pub fn new(own_protocol: u8) -> Self {
        Self { wanted: BTreeMap::new(), own_protocol }
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

    /// Asks again for each, after links or addresses changed; gives those whose answer is another one.
    ///
    /// # Errors
    /// When the kernel cannot be asked; answers found until then are kept and will be told next time.
    pub async fn refresh(&mut self, watch: &Watch) -> io::Result<Vec<(NextHopKey, Option<Way>)>> {
        let mut answers = Vec::with_capacity(self.wanted.len());
        for next_hop in self.wanted.keys() {
            answers.push((*next_hop, self.resolve(watch, *next_hop).await?));
        }
        answers.retain(|(next_hop, way)| self.wanted.insert(*next_hop, *way) != Some(*way));
        Ok(answers)
    }

    async fn resolve(&self, watch: &Watch, key: NextHopKey) -> io::Result<Option<Way>> {
        let next_hop = key.address;
        if key.scope != 0 {
            // A link-local address is on the link that it was learned on, and on no other (RFC 4007 §6).
            let link = watch.view().link(key.scope).filter(|link| link.is_up());
            return Ok(link.map(|link| Way { ifindex: link.ifindex, gateway: next_hop, metric: 0 }));
        }
        if let Some(way) = on_link(watch.view(), next_hop) {
            return Ok(Some(way));
        }
        if watch.view().is_local(next_hop) {
            return Ok(None);
        }
        let hop = watch.route_to(next_hop).await?;
        Ok(hop.filter(|hop| hop.protocol != self.own_protocol && hop.bits > 0).and_then(|hop| {
            let up = watch.view().link(hop.ifindex).is_some_and(netwatch::Link::is_up);
            up.then(|| Way { ifindex: hop.ifindex, gateway: hop.gateway.unwrap_or(next_hop), metric: 1 })
        }))
    }
}

fn on_link(view: &View, next_hop: IpAddr) -> Option<Way> {
    view.on_link(next_hop).map(|link| Way { ifindex: link.ifindex, gateway: next_hop, metric: 0 })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

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
